package main

// This file owns the reading side of a connection: a buffer that grows with what has arrived, and the read deadlines.

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// An input is the buffered reading side of a connection. Messages are parsed in its buffer, which grows while one
// arrives and is given back afterwards.
type input struct {
	src     io.Reader
	buf     []byte
	own     []byte            // the buffer to use while nothing large arrives
	lent    *[inputSmall]byte // what own began as, if that goes back to smallBuffers
	start   int               // buf[start:] has been read from src and not been taken
	large   int               // bytes of the last message, if that was a large one; the next is likely to be
	last    int               // bytes of the message that was taken last, until the next one begins
	carried int               // of these, those that the account knows of, though they have left the buffer; see carry
	made    int               // bytes more that the account knows of, for what is being made of that message; see reserve
	reader  inputReader       // nil if it need not know when the input waits

	account *account     // the sender's
	kept    int          // what it was told by keep
	size    atomic.Int64 // of buf, with what has been reserved for it
	growing bool         // a message that needs a borrowed buffer is on its way; see account.reserve
	hasty   *atomic.Bool // reading must not wait for memory; nil if it always may
	firm    bool         // what is being read cannot be begun again: no nudge counts

	heard   func()        // called when something was read; nil if nobody asks
	message time.Duration // the time for a message to arrive, from its first byte
	conn    interface{ SetReadDeadline(time.Time) error }
	whole   bool // the message that the deadline was set for has arrived; the next one gets a new deadline
	mu      sync.Mutex
	armed   bool      // a message has begun, so that reading has a deadline
	until   time.Time // that deadline; zero between messages
	opening bool      // the deadline is the one set by first
	nudged  bool      // the deadline is the one set by nudge; only calm may change it
	stopped bool      // the deadline is the one set by stopAt; only goOn may change it
}

// An inputReader is whoever reads from an input.
type inputReader interface {
	beforeRead(begun bool) // a read may block: no answer should wait for the next request
	afterRead()            // it is over
}

const (
	inputIdle  = 1 << 10   // a fresh buffer, which an idle connection keeps: most messages are smaller
	inputSmall = 4 << 10   // one that is lent, or soon dropped
	inputKeep  = 16 << 10  // a larger buffer is borrowed from largeBuffers until everything in it has been taken
	inputLarge = 64 << 10  // the smallest buffer to borrow, and the largest that a gob encoder or decoder keeps
	inputGuess = 256 << 10 // the largest buffer to borrow for a message of which little has arrived
	inputLend  = 4 << 20   // the largest buffer that is kept for lending
)

// largeBuffers lends buffers to connections that are busy with large messages or with many at once. An idle connection
// holds none; the garbage collector frees those that nobody needs.
var largeBuffers sync.Pool // of *[]byte

// smallBuffers lends buffers to inputs that last no longer than a request.
var smallBuffers = sync.Pool{New: func() any { return new([inputSmall]byte) }}

// borrow returns an empty buffer of at least n bytes. Small ones have few sizes, so that one that was given back is soon of
// use again.
func borrow(n int) []byte { return borrowUpTo(n, inputLend) }

// borrowUpTo is borrow of no buffer that was given back and has more than most bytes.
func borrowUpTo(n, most int) []byte {
	if b, ok := largeBuffers.Get().(*[]byte); ok && cap(*b) >= n {
		if cap(*b) <= most {
			return (*b)[:0]
		}
		largeBuffers.Put(b)
	}
	if n = max(n, inputLarge); n < inputGuess {
		n = 1 << bits.Len(uint(n-1))
	}
	return make([]byte, 0, n)
}

// giveBack returns a buffer that may have been borrowed. Nobody may use it any more.
func giveBack(b []byte) {
	if cap(b) >= inputLarge && cap(b) <= inputLend {
		lent := b // b itself would be allocated for every caller
		largeBuffers.Put(&lent)
	}
}

// newInput returns an input that reads from src. If src has deadlines, a message that has begun must be complete within
// the limit.
func newInput(src io.Reader, l limits) *input {
	in := &input{src: src, message: l.Message}
	in.conn, _ = src.(interface{ SetReadDeadline(time.Time) error })
	return in
}

// newShortInput is newInput for one that is soon closed.
func newShortInput(src io.Reader, l limits) *input {
	in := newInput(src, l)
	in.lent = smallBuffers.Get().(*[inputSmall]byte)
	in.own = in.lent[:0]
	return in
}

// bytes returns what has arrived and has not been taken. It is valid until the next call of more or taken.
func (in *input) bytes() []byte { return in.buf[in.start:] }

// advance takes n bytes that complete a message, or a part of one that has a length of its own.
func (in *input) advance(n int) {
	in.start += n
	in.whole, in.last = true, 0
	if in.growing {
		in.account.grown(in)
	}
	if in.carried > 0 {
		in.carry(0)
	}
}

// carry has the account know of n bytes of the message that was taken last: what was made of it is there until its call has begun,
// which then holds it, see handOver, or until the next message is read.
func (in *input) carry(n int) {
	in.account.holdRead(n - in.carried)
	in.carried = n
}

// handOver returns what is carried. It is for the caller to tell the account of the end.
func (in *input) handOver() (carried int) {
	carried, in.carried = in.carried, 0
	return carried
}

// taken takes n bytes like advance, and gives the buffer of a large message back at once: it may be long until somebody
// reads again.
func (in *input) taken(n int) {
	in.advance(n)
	in.last = n
	if in.large = 0; n > inputKeep {
		in.large = n
	}
	if in.large == 0 {
		return
	}
	in.carry(n) // before the buffer goes: others wait for what that leaves
	if in.own == nil {
		in.own = make([]byte, 0, inputIdle)
	}
	rest := in.bytes()
	switch n := max(inputLarge, 2*len(rest)); {
	case len(rest) <= cap(in.own):
		in.replace(in.own[:0], rest)
		in.start = 0
	case n < cap(in.buf)/2 && in.account.isScarce(): // the next message has to reserve what it takes
		in.replace(borrowUpTo(n, inputGuess), rest)
		in.start = 0
	}
}

// takenPart notes that the last message was but n bytes of what has been taken, or will be with others.
func (in *input) takenPart(n int) {
	in.last = n
	if n <= inputKeep {
		n = 0
	}
	in.carry(n)
}

// reserve has the account know of n bytes more for what is being made of the message that has arrived. Where there is no room for them it
// waits, if it may, like a message on its way; it returns a fault then. They count like what has arrived as a whole.
func (in *input) reserve(n int) *fault {
	f := in.account.reserve(in, n, false)
	if f != nil && (in.hasty == nil || !in.hasty.Load()) {
		if in.reader != nil {
			in.reader.beforeRead(true)
			defer in.reader.afterRead()
		}
		f = in.account.reserve(in, n, true)
	}
	if f == nil {
		in.size.Add(-int64(n)) // they are in no buffer
		in.made += n
	}
	return f
}

// became notes that n bytes have been made of the message that was taken last, which is now that large if it was smaller.
func (in *input) became(n int) {
	if n > in.last {
		if in.last = n; n > inputKeep {
			in.carry(n)
		}
	}
	if in.made > 0 {
		in.account.holdRead(-in.made)
		in.made = 0
	}
}

// take returns a copy of what has arrived, for a reader that goes on without this input.
func (in *input) take() []byte {
	b := bytes.Clone(in.bytes())
	in.start = len(in.buf)
	return b
}

// preload puts back bytes that somebody else has read from the stream.
func (in *input) preload(b []byte) { in.replace(nil, b) }

// more waits for at least one more byte. begun says that a message has begun, which must then be complete within the
// limit. The error is io.EOF at the end of the stream.
func (in *input) more(begun bool) error {
	in.arm(begun)
	if in.reader != nil {
		in.reader.beforeRead(begun)
		defer in.reader.afterRead()
	}
	if f := in.room(); f != nil {
		return f
	}
	// A reader may return 0, nil. We give up after 100 of those, as bufio does.
	for range 100 {
		n, err := in.src.Read(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+n]
		if n > 0 {
			if in.heard != nil {
				in.heard()
			}
			return nil
		}
		if err != nil {
			if err = in.late(err); err == errNudged && in.firm {
				in.calm()
				continue
			}
			return err
		}
	}
	return io.ErrNoProgress
}

// errNudged ends a read in the middle of whatever it waits for. All that has arrived is still there, and a codec begins its message
// again, unless the input is firm meanwhile.
var errNudged = errors.New("whoever reads has something else to do")

// canNudge reports whether nudge has an effect.
func (in *input) canNudge() bool { return in.conn != nil }

// nudge ends the read that waits, or else the next one, with errNudged. The reader calls calm then.
func (in *input) nudge() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn != nil && !in.stopped {
		in.nudged = true
		in.conn.SetReadDeadline(longAgo)
	}
}

// longAgo is a time that has passed, whatever the clock says.
var longAgo = time.Unix(1, 0)

// calm undoes nudge.
func (in *input) calm() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.nudged {
		in.nudged = false
		if !in.stopped {
			in.conn.SetReadDeadline(in.until)
		}
	}
}

// late replaces err by a fault that names the limit, if the read ran into the one on messages.
func (in *input) late(err error) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case !isTimeout(err) || in.stopped:
		return err
	case in.nudged:
		return errNudged
	case !in.armed || in.opening:
		return err
	}
	return tooLarge("message", in.message.Milliseconds(), "the message was not complete in time")
}

// room makes space after the buffered bytes, by moving them or by growing the buffer. It also grows a buffer that the
// last read filled, since more is likely to be waiting. The fault says that there is no memory for that.
func (in *input) room() *fault {
	rest := in.buf[in.start:]
	full := len(in.buf) == cap(in.buf)
	switch {
	case len(rest) == 0:
		if in.own == nil {
			in.own = make([]byte, 0, inputIdle)
		}
		in.replace(in.own[:0], nil)
	case full && (cap(in.buf) < inputLarge && in.start > 0 || len(rest) > cap(in.buf)/2):
		if f := in.grow(rest); f != nil {
			return f
		}
	case full || in.start >= cap(in.buf)/2:
		in.buf = in.buf[:copy(in.buf, rest)]
	default:
		return nil
	}
	in.start = 0
	return nil
}

// grow moves the bytes to a larger buffer: of twice the size, or at once of that of a message like the last one.
func (in *input) grow(rest []byte) *fault {
	n := max(inputSmall, 2*len(rest), min(2*in.large, inputGuess))
	if in.start == 0 && n <= inputKeep {
		in.own = make([]byte, 0, n)
		in.replace(in.own, rest)
		return nil
	}
	n = max(n, inputLarge)
	more := n - cap(in.buf)
	if f := in.account.reserve(in, more, in.hasty == nil || !in.hasty.Load()); f != nil {
		return f
	}
	most := inputLend
	if in.account.isScarce() { // no more than was reserved, or nearly so
		most = max(inputGuess, 2*n)
	}
	in.replaceBy(borrowUpTo(n, most), rest, more)
	return nil
}

// replace switches to the buffer b and appends rest to it.
func (in *input) replace(b, rest []byte) { in.replaceBy(b, rest, 0) }

// replaceBy is replace after so many bytes more have been reserved.
func (in *input) replaceBy(b, rest []byte, reserved int) {
	old := in.buf
	in.buf = append(b, rest...)
	if n := cap(in.buf) - cap(old); n != 0 {
		size := largeSize(in.buf)
		in.account.noteRead(size - largeSize(old) - reserved)
		in.account.hold(n - reserved)
		in.size.Store(int64(size))
	}
	giveBack(old) // does nothing if old is our own, which is small
}

// largeSize is what b takes if it is a buffer for a large message.
func largeSize(b []byte) int {
	if cap(b) < inputLarge {
		return 0
	}
	return cap(b)
}

// keep tells the account of the sender that the codec keeps n bytes between messages, in place of what it said before. The fault says that
// all connections of the user keep too much by now; none is that keeps little.
func (in *input) keep(n int) *fault {
	more := n - in.kept
	if more == 0 {
		return nil
	}
	in.kept = in.account.tellAll(keptTypes, n, in.kept)
	if more > 0 && n > inputKeep && in.account.hasAll(keptTypes) {
		return busy(userMemoryLimit, in.account.limit(), "the gob types that the connections of this user have defined take too much memory")
	}
	return nil
}

// chargeTo has another account bear what the input holds. Nobody else may read meanwhile.
func (in *input) chargeTo(a *account) {
	if in.growing {
		in.account.grown(in)
	}
	held, kept, carried := cap(in.buf), in.kept, in.carried
	in.keep(0)
	in.carry(0)
	in.account.noteRead(-largeSize(in.buf))
	in.account.release(held)
	in.account = a
	in.account.noteRead(largeSize(in.buf))
	in.account.hold(held)
	in.kept = in.account.tellAll(keptTypes, kept, 0) // what has been let in stays
	in.carry(carried)
}

// close gives the buffer back. Nothing may be read afterwards.
func (in *input) close() {
	if in.growing {
		in.account.grown(in)
	}
	in.keep(0)
	in.carry(0)
	in.account.noteRead(-largeSize(in.buf))
	in.account.release(cap(in.buf))
	giveBack(in.buf)
	if in.lent != nil {
		smallBuffers.Put(in.lent)
	}
	in.buf, in.own, in.lent, in.start = nil, nil, nil, 0
}

// arm sets the read deadline once a message has begun and clears it between messages. The usual message arrives in one
// read and costs no system call here.
func (in *input) arm(begun bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn == nil || in.armed == begun && !(begun && in.whole) {
		return
	}
	in.armed, in.whole, in.until = begun, false, time.Time{}
	if begun {
		in.until = time.Now().Add(in.message)
	}
	if !in.stopped && !in.nudged { // otherwise it is for goOn or calm
		in.conn.SetReadDeadline(in.until)
	}
}

// first limits the wait for the bytes that show the protocol of a new connection to d; use more(true) to read them. A
// timeout is then reported as the error of the connection. Call opened once the protocol is known.
func (in *input) first(d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn != nil && !in.stopped {
		in.armed, in.opening = true, true
		in.conn.SetReadDeadline(time.Now().Add(d))
	}
}

// hurry shortens the time of first to d from now, unless it is over.
func (in *input) hurry(d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn != nil && in.opening && !in.stopped {
		in.conn.SetReadDeadline(time.Now().Add(d))
	}
}

// opened gives the first message as much time as any other. The deadline set by first holds until the next read, which
// sets its own.
func (in *input) opened() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.opening, in.whole = false, true
}

// stopAt ends all reading at t, even in the middle of a message.
func (in *input) stopAt(t time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopped, in.nudged = true, false
	if in.conn != nil {
		in.conn.SetReadDeadline(t)
	}
}

// goOn revokes stopAt, unless that time has already come. A message that has begun still has to be complete in time, though
// the read that waits for the rest of it is the same.
func (in *input) goOn() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.stopped {
		return
	}
	in.stopped = false
	if in.conn != nil {
		in.conn.SetReadDeadline(in.until)
	}
}

// discard drops n bytes as they arrive, so that a message over the limit costs no memory. It returns how many are left on an error.
func (in *input) discard(n int) (left int, err error) {
	for {
		have := min(n, len(in.bytes()))
		in.start += have // not advance, which would renew the deadline for a message that trickles in
		if n -= have; n == 0 {
			return 0, nil
		}
		if err := in.more(true); err != nil {
			return n, noEOF(err)
		}
	}
}

// need waits for n bytes of a message and returns them without taking them. begun says that they continue a message,
// even if none of them has arrived. Memory follows what has arrived, never what was announced.
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

// noEOF returns err for a read inside a message, where the stream may not end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
