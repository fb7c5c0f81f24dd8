package main

// This file owns a session: one connection with its calls, from the bytes that come in to
// the bytes that go out.

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A hub is what all sessions of a daemon share.
type hub struct {
	router   *router
	log      *logger
	foreman  *foreman
	counts   counts
	draining atomic.Bool // new calls are answered with errShuttingDown
	inForce  atomic.Pointer[limits]
	allow    atomic.Pointer[group]
}

func newHub(r *router, l limits, log *logger) *hub {
	h := &hub{router: r, log: log, foreman: &foreman{}}
	h.inForce.Store(&l)
	return h
}

// limits are those in force now. Nobody changes them; a session keeps to those that it began with.
func (h *hub) limits() *limits { return h.inForce.Load() }

// allowed is the group whose members may call, besides the daemon's own user and root.
func (h *hub) allowed() group {
	if g := h.allow.Load(); g != nil {
		return *g
	}
	return group{}
}

// counts is what Ipcd.Status tells of the daemon's work.
type counts struct {
	connections atomic.Int64 // open now
	accepted    atomic.Int64
	refused     atomic.Int64
	calls       atomic.Int64 // begun
	errors      atomic.Int64 // answered with an error
}

// A session reads the requests of one connection, runs them and writes their answers.
//
// The goroutine that reads also runs the methods: that saves two switches a call. While a
// method runs nobody reads, which is right as long as it is quick. If it is not, the
// foreman takes the reading away from it and gives it to a new goroutine. A method that was
// slow once is not run by the reader for a while.
type session struct {
	hub    *hub
	peer   *peer
	codec  codec
	in     *input
	out    *output
	log    *logger
	limits *limits         // those of its beginning
	refuse *fault          // answers every call, if set
	closed func(err error) // called when the peer sends no more; may be nil

	inline  atomic.Pointer[call] // the call that the reader runs, until the foreman takes it
	served  atomic.Uint32        // calls run by the reader, for the foreman to see that some come
	watched atomic.Bool

	mu      sync.Mutex
	calls   map[*call]struct{} // begun and not returned from their methods
	reading bool               // some goroutine reads, or will
	cut     bool               // calls are ended as they begin
	full    bool               // as many run as may, and none has ended for a while
	room    chan struct{}      // holds one: a call has ended; see makeRoomLocked
	ended   chan struct{}      // closed when nobody reads, no call runs and no answer is owed
	leaving bool               // nothing is read once no answer is owed
	heard   bool               // a request has come; only the reader writes it
	first   any                // the batch that the first request came in
	whole   bool               // all that comes counts as one request
	owed    int                // answers to calls that were begun
	settled chan struct{}      // closed when nobody reads and no answer is owed
}

// newSession makes a session that answers p on w with what codec reads from in.
func newSession(h *hub, p *peer, c codec, in *input, w io.Writer, log *logger) *session {
	l := h.limits()
	s := &session{
		hub: h, peer: p, codec: c, in: in, out: newOutput(w, l.Write), log: log, limits: l,
		calls: map[*call]struct{}{}, reading: true, ended: make(chan struct{}), settled: make(chan struct{}), room: make(chan struct{}, 1),
	}
	in.flush = s.flush
	return s
}

// serve reads until the peer sends no more, waits for the calls that run, and has sent
// everything when it returns. The connection is the caller's to close.
func (s *session) serve() error {
	s.read()
	<-s.ended
	return s.out.flush()
}

// read is the loop of the reader. It returns when the stream has ended or when the foreman
// has given the reading to somebody else.
func (s *session) read() {
	for {
		c := &call{session: s}
		err := s.codec.read(&c.message)
		if err == nil {
			var mine bool
			if mine, err = s.handle(c); !mine {
				return
			}
		}
		var bad *badMessage
		switch {
		case err == nil:
		case errors.As(err, &bad):
			s.note(bad.fault)
			s.answer(&bad.m, nil, bad.fault)
		default:
			s.stopReading(&c.message, err)
			return
		}
	}
}

// note logs a message that is answered with f in its place. That a limit was reached is for who
// sets it to know; the rest is for who sent it.
func (s *session) note(f *fault) {
	if f.data().Limit != "" {
		s.log.warn("a message was refused", "limit", f.data().Limit, "max", f.data().Max)
		return
	}
	s.log.debug("bad message", "error", f)
}

// stopReading ends the reading side. An error that is a fault is told to the peer.
func (s *session) stopReading(m *message, err error) {
	var f *fault
	if errors.As(err, &f) {
		s.log.warn("the peer broke the protocol", "error", f)
		s.answer(m, nil, f)
		err = nil
	}
	s.out.flush()
	if s.closed != nil {
		s.closed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	s.endIfIdleLocked()
	s.settleLocked(nil)
}

// flush sends what was answered. A peer that takes no more answers asks no more either.
func (s *session) flush() {
	if s.out.flush() != nil {
		s.in.stopAt(time.Now())
	}
}

func (s *session) endIfIdleLocked() {
	if !s.reading && len(s.calls) == 0 && s.owed == 0 {
		close(s.ended)
	}
}

// settleLocked says that the answer to c has been sent, or that reading has ended.
func (s *session) settleLocked(c *call) {
	if c != nil && !c.owing {
		return
	}
	if c != nil {
		c.owing = false
		s.owed--
	}
	if !s.reading && s.owed == 0 {
		close(s.settled)
	}
	if s.leaving && s.owed == 0 {
		s.in.stopAt(time.Now().Add(drainSweep))
	}
}

// leave ends the reading once no answer is owed. Until then what comes is told that it was not begun,
// but for the first request: whoever has just connected has it answered.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	switch {
	case s.owed > 0:
	case s.heard:
		s.in.stopAt(time.Now().Add(drainSweep))
	default:
		s.in.stopAt(time.Now().Add(firstWords))
	}
}

// isLate tells a request that is not begun any more.
func (s *session) isLate(c *call) bool {
	if !s.hub.draining.Load() {
		return false
	}
	return s.heard && !s.whole && (c.batch == nil || c.batch != s.first)
}

// handle does what one message asks for. It returns false where this goroutine no longer is
// the reader. An error that is no badMessage ends the stream.
func (s *session) handle(c *call) (reader bool, err error) {
	switch c.kind {
	case cancel:
		s.cancel(c.id)
		return true, nil
	case response:
		s.log.debug("a response that nobody asked for was dropped")
		return true, nil
	}
	f := s.prepare(c)
	if f == nil {
		var mine *fault
		if err := s.codec.body(c.arg); errors.As(err, &mine) {
			f = mine
			s.note(f)
		} else if err != nil {
			return true, err
		}
	}
	if f == nil {
		f = s.begin(c)
	}
	if f != nil {
		s.answer(&c.message, nil, f)
		return true, nil
	}
	if c.m.slow.Load() > 0 {
		go s.runAside(c)
		return true, nil
	}
	return s.runInline(c), nil
}

// prepare finds the method and makes its argument.
func (s *session) prepare(c *call) *fault {
	if s.refuse != nil {
		return s.refuse
	}
	if s.isLate(c) {
		return errShuttingDown
	}
	m, f := s.hub.router.find(c.method)
	if f != nil {
		return f
	}
	c.m, c.arg = m, m.newArgument()
	return nil
}

// begin counts the call among those in flight.
func (s *session) begin(c *call) *fault {
	if c.timeout == 0 {
		c.timeout = s.limits.MaxCall
	}
	s.mu.Lock()
	if !s.makeRoomLocked() {
		s.mu.Unlock()
		s.log.warn("too many calls in flight", "limit", "max_calls")
		return busy("max_calls", int64(s.limits.MaxCalls), "too many calls in flight on this connection")
	}
	s.calls[c] = struct{}{}
	c.owing = true
	s.owed++
	if !s.heard && c.kind == request {
		s.heard, s.first = true, c.batch
		if s.leaving {
			s.in.goOn()
		}
	}
	cut := s.cut
	s.mu.Unlock()
	s.hub.counts.calls.Add(1)
	if cut {
		c.end(context.Canceled)
	}
	if c.timeout > 0 {
		c.deadline = time.Now().Add(c.timeout)
		c.timer = time.AfterFunc(c.timeout, func() { c.giveUp(context.DeadlineExceeded, errDeadline) })
	}
	return nil
}

// firstWords is how long a peer is heard when the daemon stops that has connected and not asked
// anything yet: it may have connected just now, and expects an answer.
const firstWords = time.Second

// drainSweep is how long a peer is still heard that has no call in flight when the daemon stops: what
// it had sent before is answered.
const drainSweep = 20 * time.Millisecond

// roomWait is how long a call waits for another of its connection to end, where as many run as may.
const roomWait = 50 * time.Millisecond

// makeRoomLocked waits for a call to end where as many run as may, and tells whether one more may
// begin. Who sends faster than quick methods run is slowed down that way and not refused. Where no
// call has ended for a while there is no more waiting, so that what else the peer has to say, which
// may be that it withdraws a call, is read.
func (s *session) makeRoomLocked() bool {
	for len(s.calls) >= s.limits.MaxCalls && !s.full {
		s.mu.Unlock()
		s.flush()
		late := time.NewTimer(roomWait)
		select {
		case <-s.room:
			late.Stop()
			s.mu.Lock()
		case <-late.C:
			s.mu.Lock()
			s.full = true
		}
	}
	return len(s.calls) < s.limits.MaxCalls
}

// runInline runs the call in the reader and tells whether it still is the reader after.
func (s *session) runInline(c *call) bool {
	s.served.Add(1)
	s.inline.Store(c)
	if !s.watched.Load() {
		s.hub.foreman.watch(s)
	}
	mine := s.run(c)
	reader := s.inline.CompareAndSwap(c, nil)
	if !reader {
		s.flush()
	}
	s.finish(c, mine)
	return reader
}

// runAside runs the call in a goroutine of its own and lets its method earn its way back.
func (s *session) runAside(c *call) {
	began := time.Now()
	mine := s.run(c)
	if time.Since(began) < foremanTick {
		c.m.slow.Add(-1)
	} else {
		c.m.slow.Store(slowCalls)
	}
	s.flush()
	s.finish(c, mine)
}

// run runs the method and answers, unless the call was given up and so answered before.
func (s *session) run(c *call) (mine bool) {
	result, err := c.m.call(c, c.arg, s.crashed)
	if c.timer != nil {
		c.timer.Stop()
	}
	if !c.answered.CompareAndSwap(false, true) {
		return false
	}
	var f *fault
	if err != nil {
		f = asFault(err)
	}
	s.answer(&c.message, result, f)
	return true
}

func (s *session) crashed(method string, value any, stack []byte) {
	s.log.error("a method panicked", "method", method, "error", value, "stack", string(stack))
}

// finish takes the call out of those in flight.
func (s *session) finish(c *call, mine bool) {
	c.end(context.Canceled)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, c)
	s.full = false
	select {
	case s.room <- struct{}{}:
	default:
	}
	if mine { // otherwise giveUp has yet to, or has
		s.settleLocked(c)
	}
	s.endIfIdleLocked()
}

// answer appends the response to m. A result that has no encoding becomes an error.
func (s *session) answer(m *message, result any, f *fault) {
	if f != nil {
		s.hub.counts.errors.Add(1)
	}
	if m.kind == notification {
		return
	}
	asked := *m // the reader may be using m for its batch still
	asked.kind, asked.fault = response, f
	err := s.out.append(s.codec, &asked, result)
	if err != nil && f == nil && s.out.failed() == nil {
		s.log.error("a result could not be encoded", "method", m.method, "error", err)
		asked.fault = faultf(codeInternal, "the result of %s has no encoding here: %w", m.method, err)
		err = s.out.append(s.codec, &asked, nil)
	}
	if err != nil {
		s.log.debug("an answer was not sent", "error", err)
	}
}

// cancel ends the calls with that id.
func (s *session) cancel(id callID) {
	s.mu.Lock()
	var found []*call
	for c := range s.calls {
		if c.id == id && c.kind == request {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		c.giveUp(context.Canceled, errCancelled)
	}
}

// giveUp ends the call's context and answers in its place: a method that does not listen
// to its context keeps its caller waiting no longer, though it counts until it returns.
func (c *call) giveUp(reason error, f *fault) {
	// The method hears of it at once, however long the peer takes to read the answer. It cannot
	// answer in its own words, and the session does not end before this answer is sent.
	mine := c.answered.CompareAndSwap(false, true)
	c.end(reason)
	if mine {
		c.session.answer(&c.message, nil, f)
		c.session.flush()
		c.session.mu.Lock()
		defer c.session.mu.Unlock()
		c.session.settleLocked(c)
		c.session.endIfIdleLocked()
	}
}

// cancelAll ends every call, those to come included: the caller has gone, or the daemon goes.
// f is their answer; nil where nobody is there to read one.
func (s *session) cancelAll(f *fault) {
	s.mu.Lock()
	s.cut = true
	calls := make([]*call, 0, len(s.calls))
	for c := range s.calls {
		calls = append(calls, c)
	}
	s.mu.Unlock()
	for _, c := range calls {
		if f != nil {
			c.giveUp(context.Canceled, f)
		} else {
			c.end(context.Canceled)
		}
	}
}

// idle tells that no call is in flight.
func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) == 0
}

// A call is one request while it runs, and the context that its method receives. It makes
// the channel of Done only when somebody asks for it, which few methods do.
type call struct {
	message
	m        *method
	arg      any
	session  *session
	deadline time.Time
	timer    *time.Timer
	answered atomic.Bool // whoever sets it answers; late results are dropped
	owing    bool        // the answer has not been sent; guarded by the session's mu

	mu   sync.Mutex
	done chan struct{} // made by Done or end
	err  error
}

type contextKey int

const peerKey contextKey = iota // of the *peer that calls

// callerOf names the peer whose call ctx belongs to.
func callerOf(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey).(*peer)
	if !ok {
		return peer{}, false
	}
	return *p, true
}

// Deadline implements context.Context.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Value implements context.Context.
func (c *call) Value(key any) any {
	if key == peerKey {
		return c.session.peer
	}
	return nil
}

// end ends the context with the reason that a context has for it: Canceled or
// DeadlineExceeded. The first end counts.
func (c *call) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = reason
	if c.done != nil {
		close(c.done)
	}
}
