package main

// This file owns the writing side of a connection. Many goroutines append, one of them writes for all, and a peer that
// does not read holds up only its own connection.

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	outputKeep = 8 << 10   // a larger buffer is given back once it has been written
	outputFull = 256 << 10 // while more bytes than this are unwritten, append blocks
	outputMost = 1 << 20   // of what must be said by who cannot wait: the answers of providers, a cancellation
)

// An output collects whole messages and writes them with as few system calls as possible.
type output struct {
	dst     patientWriter
	account *account
	stalled atomic.Int32 // appends of more than parts that wait for the peer to read
	owner   outputOwner  // may be nil

	mu      sync.Mutex
	written sync.Cond
	buf     []byte // what was appended and is not being written
	told    int    // bytes of buf that the account knows of
	aside   int    // bytes that the codec has put aside for a message that is not complete, all of which the account knows
	urgent  bool   // more than the parts of answers is in buf, or waits for room there
	offered bool   // something in buf is from somebody who cannot wait for the peer
	spare   []byte // the buffer that is not in use
	large   int    // bytes of the last write, if it was longer than outputKeep
	writing bool   // some goroutine writes, or has claimed it
	batch   []byte // what is being written; guarded by writing, as are the next two
	sent    int    // bytes of batch that the peer has taken
	owed    int    // bytes of batch that the account knows of
	err     error  // the first error; nothing is written after it
	cause   error  // of err; set before broken is called, so that whom that stops finds out why

	calls    int // bytes of large arguments of calls that somebody adds, that are in buf, or in batch; as the account has them
	callsIn  int // of these, in buf
	callsOut int // in batch; guarded by writing

	promised atomic.Int64 // bytes that the account knows of and that are still to be added; changes under mu
}

// An outputOwner is whoever has an output.
type outputOwner interface {
	outputWaits() // by whoever appends and has to wait for the peer
	outputBroke() // once, by whoever writes, when a write fails
}

func newOutput(dst io.Writer, l *limits, a *account) *output {
	o := &output{account: a}
	o.dst.begins(dst, l)
	o.written.L = &o.mu
	return o
}

// append adds one message, which the next flush sends. It blocks while the peer has too much left to read. An error is
// either that of the encoding, see codec.write, and nothing was added, or that of an earlier write.
func (o *output) append(c codec, m *message, body any) error { return o.appendCall(c, m, body, 0) }

// appendCall is append for a call of which so many bytes were noted.
func (o *output) appendCall(c codec, m *message, body any, noted int) error {
	body, err := c.prepare(m, body)
	if err != nil {
		o.renounce(m.promised())
		o.forgetCall(noted)
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.makeRoomLocked(m.isUrgent())
	return o.addCallLocked(c, m, body, noted)
}

// makeRoom returns once the peer has read so much that append does not block, or nothing can be written any more. urgent
// says that more than a part of an answer is to be appended.
func (o *output) makeRoom(urgent bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.makeRoomLocked(urgent)
}

func (o *output) makeRoomLocked(urgent bool) {
	if len(o.buf) <= outputFull || o.err != nil {
		return
	}
	if urgent {
		o.stalled.Add(1)
		defer o.stalled.Add(-1)
	}
	if o.owner != nil {
		o.mu.Unlock()
		o.owner.outputWaits()
		o.mu.Lock()
	}
	for len(o.buf) > outputFull && o.err == nil {
		if urgent {
			o.hurryLocked()
		}
		if o.writing {
			o.written.Wait()
		} else {
			o.flushLocked()
		}
	}
}

// offer adds one message and never blocks: it returns false if more than most bytes are waiting already.
func (o *output) offer(c codec, m *message, body any, most int) (bool, error) {
	return o.offerCall(c, m, body, most, 0)
}

// offerCall is offer for a call of which so many bytes were noted.
func (o *output) offerCall(c codec, m *message, body any, most, noted int) (bool, error) {
	body, err := c.prepare(m, body)
	if err != nil {
		o.renounce(m.promised())
		o.forgetCall(noted)
		return true, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) > most && o.err == nil {
		return false, nil
	}
	o.offered = true
	return true, o.addCallLocked(c, m, body, noted)
}

// addCallLocked is addLocked, and has buf bear what was noted.
func (o *output) addCallLocked(c codec, m *message, body any, noted int) error {
	err := o.addLocked(c, m, body)
	if err == nil {
		o.callsIn += noted
	} else {
		o.noteCallsLocked(-noted)
	}
	return err
}

// addLocked adds a message, and keeps what was promised of it.
func (o *output) addLocked(c codec, m *message, body any) error {
	promised := o.keepLocked(m.promised())
	if o.err != nil {
		o.account.holdUnread(-promised)
		return o.err
	}
	if o.buf == nil && o.large > 0 {
		o.buf = borrow(min(o.large, outputFull))
	}
	if m.isUrgent() {
		o.hurryLocked()
	}
	aside := m.aside()
	b, err := c.write(o.buf, m, body)
	aside = m.aside() - aside
	o.buf = b
	if d := len(b) - o.told; d >= accountStep || promised > 0 || aside != 0 {
		o.account.holdUnread(d + aside - promised)
		o.told = len(b)
		o.aside += aside
	}
	if len(b) == 0 && cap(b) > outputKeep { // nothing was added, and perhaps nothing will be for long
		giveBack(b)
		o.buf = nil
	}
	return err
}

// hurryLocked says that something urgent waits, in buf or for room there, behind what is being written.
func (o *output) hurryLocked() {
	o.urgent = true
	if o.writing {
		o.dst.hurry()
	}
}

// flush writes what was appended, or leaves that to the goroutine that is already writing.
func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing {
		o.flushLocked()
	}
	return o.err
}

// flushHere is flush for the reader of the connection. It waits for the peer as flush does, since a peer that does not read its
// answers is not read either, but not if something was offered, by a reader of another connection: the peer may have to be read
// first, for it may read nothing before it has written all. Then it returns like flushNow.
func (o *output) flushHere() (left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.writing:
	case o.offered:
		return o.flushNowLocked()
	default:
		o.flushLocked()
	}
	return false
}

// claim reports whether there is something to write that nobody is writing. If so, the caller must call flushClaimed:
// until then everyone else leaves the writing to it.
func (o *output) claim() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || len(o.buf) == 0 || o.err != nil {
		return false
	}
	o.writing = true
	return true
}

// flushNow is flush without blocking. It returns true if the peer has no room for all of it, or more has been appended
// meanwhile, so that whoever appends cannot keep the caller: then another goroutine must call flushClaimed, as after claim.
func (o *output) flushNow() (left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flushNowLocked()
}

// flushNowLocked is flushNow. It releases the lock during the write.
func (o *output) flushNowLocked() (left bool) {
	if o.writing || len(o.buf) == 0 || o.err != nil {
		return false
	}
	o.nextLocked()
	o.mu.Unlock()
	n, err := o.dst.try(o.batch)
	o.mu.Lock()
	if o.sent = n; n < len(o.batch) && err == nil {
		return true
	}
	o.writtenLocked(err)
	return o.nextLocked()
}

// flushClaimed does the writing that claim has reserved, or the rest that flushNow has left.
func (o *output) flushClaimed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushLocked()
}

// drain returns once everything that was appended has been written, by whichever goroutine, or has failed to be.
func (o *output) drain() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for (o.writing || len(o.buf) > 0) && o.err == nil {
		if o.writing {
			o.written.Wait()
		} else {
			o.flushLocked()
		}
	}
	return o.err
}

// close discards what is left. Nothing is written afterwards.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = io.ErrClosedPipe
	}
	o.account.holdUnread(-o.aside)
	o.aside = 0
	if !o.writing {
		o.dropLocked()
	}
}

// isFull reports whether an append waits for the peer to read.
func (o *output) isFull() bool { return o.stalled.Load() > 0 }

// failed returns the error that ended the output, or is about to, or nil.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return cmp.Or(o.err, o.cause)
}

// flushLocked writes until nothing is left. It releases the lock during each write.
func (o *output) flushLocked() {
	for o.nextLocked() {
		o.mu.Unlock()
		_, err := o.dst.Write(o.batch[o.sent:])
		o.mu.Lock()
		o.writtenLocked(err)
	}
}

// nextLocked takes what is to be written next, which is what is left of the last batch, or else all that was appended. If
// there is nothing it ends the writing.
func (o *output) nextLocked() bool {
	switch {
	case o.batch != nil:
	case len(o.buf) > 0 && o.err == nil:
		o.batch, o.owed, o.sent = o.buf, o.told, 0
		o.buf, o.spare, o.told = o.spare[:0], nil, 0
		o.callsOut, o.callsIn = o.callsIn, 0
		o.dst.begin(o.urgent)
		o.urgent, o.offered = false, false
	default:
		o.writing = false
		if o.err != nil {
			o.dropLocked()
		}
		o.written.Broadcast()
		return false
	}
	o.writing = true
	return true
}

// writtenLocked notes that the batch has been written, or could not be.
func (o *output) writtenLocked(err error) {
	o.cause = cmp.Or(o.cause, err)
	if err != nil && o.owner != nil {
		o.mu.Unlock()
		o.owner.outputBroke()
		o.mu.Lock()
	}
	o.account.holdUnread(-o.owed)
	o.noteCallsLocked(-o.callsOut)
	o.callsOut = 0
	if o.large = 0; len(o.batch) > outputKeep {
		o.large = len(o.batch)
	}
	if cap(o.batch) <= outputKeep {
		o.spare = o.batch
	} else {
		giveBack(o.batch)
	}
	if o.batch = nil; err != nil && o.err == nil {
		o.err = err
	}
	o.written.Broadcast()
}

// A patientWriter allows the limit for each part of a write: a peer that reads slowly is served, one that does not read
// is given up. While nothing but the parts of answers waits for a peer, that may take longer. One goroutine at a time
// writes.
type patientWriter struct {
	dst    io.Writer
	atOnce tryWriter // dst, where it can be written to without blocking; nil before the first try
	conn   deadliner // nil where dst has no deadlines
	below  patient   // dst, where it has to know what is urgent; nil where it has not
	limits *limits
	armed  time.Time   // when the write deadline was set
	calm   atomic.Bool // nothing urgent is being written
	soon   atomic.Bool // what is urgent has no more than lastWrite
	mu     sync.Mutex  // held while the deadline is set, so that the last one is that of calm

	late func(limit string, most time.Duration) // hears that the peer is given up; may be nil
}

// A deadliner is what has a write deadline.
type deadliner interface{ SetWriteDeadline(time.Time) error }

// A patient is a writer that is patient with a peer as long as nothing urgent waits for it.
type patient interface {
	begin(urgent bool) // what is written from now on is urgent, or not; the writer says so
	hurry()            // something urgent waits behind what is being written; anybody says so
	end()              // what is urgent from now on is the end, for which nobody waits long
}

// lastWrite takes the place of the limit write where only the end of subscriptions is left to say, while the daemon stops.
const lastWrite = time.Second

// patientPart is how many bytes are written under one deadline: with a limit of 10 s a peer has to read 26 KB/s.
const patientPart = 256 << 10

// begins has w, which is new, write to dst.
func (w *patientWriter) begins(dst io.Writer, l *limits) {
	w.dst, w.limits = dst, l
	w.conn, _ = dst.(deadliner)
	w.below, _ = dst.(patient)
}

// begin implements patient.
func (w *patientWriter) begin(urgent bool) {
	if w.below != nil {
		w.below.begin(urgent)
	}
	if w.calm.Load() == urgent {
		w.calm.Store(!urgent)
		w.armed = time.Time{}
	}
}

// hurry implements patient.
func (w *patientWriter) hurry() {
	if w.below != nil {
		w.below.hurry()
	}
	if w.calm.Load() && w.calm.Swap(false) && w.conn != nil {
		w.arm(time.Now()) // it holds for the write that blocks, too
	}
}

// end implements patient.
func (w *patientWriter) end() {
	if w.below != nil {
		w.below.end()
	}
	w.soon.Store(true)
}

// limit returns the limit in force, and its name.
func (w *patientWriter) limit() (time.Duration, string) {
	switch {
	case w.calm.Load():
		return w.limits.StreamIdle, "stream_idle"
	case w.soon.Load():
		return min(w.limits.Write, lastWrite), "write"
	}
	return w.limits.Write, "write"
}

// arm sets the write deadline.
func (w *patientWriter) arm(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit, _ := w.limit()
	return w.conn.SetWriteDeadline(now.Add(limit))
}

// try writes as much of b as the peer has room for, without blocking.
func (w *patientWriter) try(b []byte) (n int, err error) {
	if w.atOnce == nil {
		w.atOnce = newTryWriter(w.dst)
	}
	if err := w.renew(); err != nil {
		return 0, err
	}
	return w.atOnce.try(b)
}

// A tryWriter writes without blocking: as much as there is room for, which may be nothing.
type tryWriter interface {
	try(b []byte) (n int, err error)
}

// newTryWriter returns one that writes to dst.
func newTryWriter(dst io.Writer) tryWriter {
	if w, ok := dst.(tryWriter); ok {
		return w
	}
	if conn, ok := dst.(interface {
		net.Conn
		syscall.Conn
	}); ok && tryWrite != nil {
		if raw, err := conn.SyscallConn(); err == nil {
			return &descriptorWriter{conn: raw}
		}
	}
	return fullWriter{}
}

// A fullWriter never has room.
type fullWriter struct{}

func (fullWriter) try([]byte) (int, error) { return 0, nil }

// A descriptorWriter writes to a descriptor that does not block. One goroutine at a time may use it.
type descriptorWriter struct {
	conn  syscall.RawConn
	write func(fd uintptr) (done bool) // writes b; made once, since a function is allocated
	b     []byte
	n     int
	err   error
}

func (w *descriptorWriter) try(b []byte) (int, error) {
	if w.write == nil {
		w.write = func(fd uintptr) bool {
			w.n, w.err = tryWrite(fd, w.b)
			return true
		}
	}
	w.b, w.n, w.err = b, 0, nil
	err := w.conn.Write(w.write)
	w.b = nil
	return w.n, cmp.Or(err, w.err)
}

// renew renews the deadline after a tenth of the limit, not for each write: setting one costs as much as a small call.
func (w *patientWriter) renew() error {
	now := time.Now()
	if limit, _ := w.limit(); w.conn == nil || now.Sub(w.armed) <= limit/10 {
		return nil
	}
	w.armed = now
	return w.arm(now)
}

// Write writes all of b.
func (w *patientWriter) Write(b []byte) (n int, err error) {
	if w.conn == nil {
		return w.dst.Write(b)
	}
	for first := true; first || n < len(b); first = false {
		if err := w.renew(); err != nil {
			return n, err
		}
		part, err := w.dst.Write(b[n:min(len(b), n+patientPart)])
		n += part
		if isTimeout(err) {
			limit, name := w.limit()
			if w.late != nil {
				w.late(name, limit)
			}
			return n, fmt.Errorf("the peer did not read for %v (limit %s): %w", limit, name, err)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
