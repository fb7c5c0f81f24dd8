package main

// This file owns the reading side of a connection: a buffer that grows with what has arrived, and the
// deadlines of what is read.

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// An input is the buffered reading side of a connection. Messages are parsed in its buffer,
// which grows while one arrives and is given back after.
type input struct {
	src   io.Reader
	buf   []byte
	own   []byte // the buffer while nothing large arrives
	start int    // buf[start:] has been read from src and not been taken
	flush func() // called before a read that may block, so that no answer waits for a request

	account *account // of whoever sends

	message time.Duration // the limit on a message that has begun
	conn    interface{ SetReadDeadline(time.Time) error }
	whole   bool // something was taken since the deadline was set, which was for that
	mu      sync.Mutex
	armed   bool // a read deadline is set
	opening bool // it is that of first
	stopped bool // the deadline is stopAt's, and nothing changes it any more
}

const (
	inputSmall = 4 << 10  // a fresh buffer: most messages are smaller
	inputKeep  = 16 << 10 // a larger buffer is lent by largeBuffers, until all in it has been taken
	inputLarge = 64 << 10 // the least that it lends, and the most that an encoder or decoder keeps
	inputLend  = 4 << 20  // the most that it lends
)

// largeBuffers lends buffers to connections that are busy with large messages or with many at
// once. An idle connection has none, and those that nobody needs are the garbage collector's.
var largeBuffers sync.Pool // of *[]byte

// borrow returns an empty buffer of at least n bytes.
func borrow(n int) []byte {
	if b, ok := largeBuffers.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, max(n, inputLarge))
}

// giveBack takes a buffer that may have been borrowed and that nobody looks at any more.
func giveBack(b []byte) {
	if cap(b) >= inputLarge && cap(b) <= inputLend {
		largeBuffers.Put(&b)
	}
}

// newInput reads from src. Where src has deadlines, a message that has begun must be whole
// within the limit.
func newInput(src io.Reader, l limits) *input {
	in := &input{src: src, message: l.Message}
	in.conn, _ = src.(interface{ SetReadDeadline(time.Time) error })
	return in
}

// bytes is what has arrived and has not been taken. It is valid until the next call of more.
func (in *input) bytes() []byte { return in.buf[in.start:] }

// advance takes n bytes, with which a message, or a part that has its own length, is whole.
func (in *input) advance(n int) {
	in.start += n
	in.whole = true
}

// take returns what has arrived, for whoever reads on without this input.
func (in *input) take() []byte {
	b := bytes.Clone(in.bytes())
	in.start = len(in.buf)
	return b
}

// preload puts bytes before the stream that somebody else has read off it.
func (in *input) preload(b []byte) { in.replace(nil, b) }

// more waits for at least one byte more. begun says that what is there is part of a message,
// which must then be whole within the limit. The error is io.EOF at the end of the stream.
func (in *input) more(begun bool) error {
	in.arm(begun)
	if in.flush != nil {
		in.flush()
	}
	in.room()
	// A reader may return 0, nil; bufio gives up after 100 of those, and so do we.
	for range 100 {
		n, err := in.src.Read(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			return in.late(err)
		}
	}
	return io.ErrNoProgress
}

// late names the limit that a read ran into, if it was one.
func (in *input) late(err error) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !isTimeout(err) || in.stopped || !in.armed || in.opening {
		return err
	}
	return tooLarge("message", in.message.Milliseconds(), "the message had begun and was not whole in time")
}

// room makes space behind the buffered bytes: by moving them, or by growing. A buffer that the
// last read has filled grows too, since more is waiting there.
func (in *input) room() {
	rest := in.buf[in.start:]
	full := len(in.buf) == cap(in.buf)
	switch {
	case len(rest) == 0:
		if in.own == nil {
			in.own = make([]byte, 0, inputSmall)
		}
		in.replace(in.own[:0], nil)
	case full && (cap(in.buf) < inputLarge && in.start > 0 || len(rest) > cap(in.buf)/2):
		in.grow(rest)
	case full || in.start >= cap(in.buf)/2:
		in.buf = in.buf[:copy(in.buf, rest)]
	default:
		return
	}
	in.start = 0
}

// grow moves the bytes to a larger buffer.
func (in *input) grow(rest []byte) {
	if n := 2 * len(rest); in.start == 0 && n <= inputKeep {
		in.own = make([]byte, 0, n)
		in.replace(in.own, rest)
		return
	}
	in.replace(borrow(max(2*len(rest), inputLarge)), rest)
}

// replace goes on with another buffer, to which the bytes are copied.
func (in *input) replace(b, rest []byte) {
	old := in.buf
	in.buf = append(b, rest...)
	if n := cap(in.buf) - cap(old); n != 0 {
		in.account.hold(n)
	}
	giveBack(old) // our own is too small for that to mean anything
}

// close gives the buffer back: nothing is read any more.
func (in *input) close() {
	in.account.release(cap(in.buf))
	giveBack(in.buf)
	in.buf, in.own, in.start = nil, nil, 0
}

// arm sets the read deadline when a message begins and takes it away when it is whole. The
// usual message arrives in one read and costs nothing here.
func (in *input) arm(begun bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn == nil || in.stopped || in.armed == begun && !(begun && in.whole) {
		return
	}
	in.armed, in.whole = begun, false
	var t time.Time
	if begun {
		t = time.Now().Add(in.message)
	}
	in.conn.SetReadDeadline(t)
}

// first gives a new connection until d for the bytes that tell its protocol; wait for them with
// more(true). A read that comes too late gives the error of the connection. opened ends it.
func (in *input) first(d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn != nil && !in.stopped {
		in.armed, in.opening = true, true
		in.conn.SetReadDeadline(time.Now().Add(d))
	}
}

// opened lets the first message have the time of any other. The deadline of first stands until
// the next read, which sets its own.
func (in *input) opened() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.opening, in.whole = false, true
}

// stopAt ends all reading at t, whatever is being read.
func (in *input) stopAt(t time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopped = true
	if in.conn != nil {
		in.conn.SetReadDeadline(t)
	}
}

// goOn takes back what stopAt has said, if that moment has not come yet.
func (in *input) goOn() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.stopped {
		return
	}
	in.stopped, in.armed = false, false
	if in.conn != nil {
		in.conn.SetReadDeadline(time.Time{})
	}
}

// discard drops n bytes without keeping them: a message over the limit costs no memory.
func (in *input) discard(n int) error {
	for {
		have := min(n, len(in.bytes()))
		in.start += have // not advance: however long it drips, the deadline stays
		if n -= have; n == 0 {
			return nil
		}
		if err := in.more(true); err != nil {
			return noEOF(err)
		}
	}
}

// need waits until n bytes of one message are there and returns them without taking them.
// begun says that they continue a message, even where none of them is there yet. Memory
// follows what has arrived, never what was announced.
func (in *input) need(n int, begun bool) ([]byte, error) {
	for len(in.bytes()) < n {
		begun = begun || len(in.bytes()) > 0
		if err := in.more(begun); err != nil {
			if begun {
				err = noEOF(err)
			}
			return nil, err
		}
	}
	return in.bytes()[:n], nil
}

// noEOF is err inside a message, where the end of the stream is not a clean one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
