package main

// This file owns a session: one connection that carries messages both ways. Here is its state, and what
// it does with calls of the peer; calls of ours are in session_ask.go, and session_foreman.go sees to it
// that a slow method holds up nobody but its caller. What a message of its own means that is no call,
// such as $/cancelRequest, is a row of aside.

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A shared is what all sessions of one program have in common.
type shared struct {
	finder  finder
	log     *logger
	meter   *meter
	foreman *foreman
}

// A meter is what Ipcd.Status reports of the daemon's work.
type meter struct {
	connections atomic.Int64 // open now
	accepted    atomic.Int64
	refused     atomic.Int64
	calls       atomic.Int64 // begun
	errors      atomic.Int64 // answered with an error
}

// A session is one end of a connection; there is no client and no server among them.
//
// Reading is a token, and whoever has it also does what is quick: that saves two switches of goroutines
// a call. On the daemon's side the reader runs the methods. While it does nobody reads, which is right
// for as long as the method is quick; if it is not, the foreman takes the reading away and gives it to
// a new goroutine. On a caller's side whoever waits for an answer reads for itself, and delivers what
// it finds for others on the way. While calls of ours are out the reading never stops: what could hold
// it up is then left to other goroutines.
type session struct {
	*shared
	finder  finder // the shared one, unless the peer may call nothing
	peer    *peer
	codec   codec
	in      *input
	out     *output
	log     *logger
	limits  *limits         // those of the connection's beginning
	whole   bool            // all that comes belongs to one request, as over HTTP
	ended   func(err error) // called when the peer sends no more; may be nil
	explain func(err error) error

	inline  atomic.Pointer[call] // what the reader runs, until the foreman takes the reading away
	served  atomic.Uint32        // calls run by the reader, for the foreman to see that some come
	watched atomic.Bool
	asking  atomic.Bool   // calls of ours are out
	closing atomic.Bool   // its phase is not open any more
	room    chan struct{} // holds one: a call of theirs has ended; see makeRoom

	wg sync.WaitGroup // what reads or writes in the background

	mu       sync.Mutex
	state    sessionState  // changed by update alone
	answered chan struct{} // closed when nothing more is read and no answer is owed
	done     chan struct{} // closed when in addition no method runs
}

// A phase is how far a session has come. It never goes back.
type phase int

const (
	phaseOpen    phase = iota
	phaseLeaving       // what was begun is answered, and nothing is begun
	phaseCut           // calls end as they begin
)

// A hearing is until when a session that leaves reads on.
type hearing int

const (
	hearEndless hearing = iota
	hearFirst           // firstWords: the peer has asked nothing yet
	hearSweep           // drainSweep: nothing is owed to it
)

// sessionState is all that decides when a session ends.
type sessionState struct {
	phase   phase
	reading bool // some goroutine reads, or will
	steady  bool // one reads to the end, or will as soon as it can
	waiting bool // that one waits for the reading
	readErr error
	heard   hearing // what is in force

	asked  bool               // a request has come
	first  any                // the batch that it came in
	full   bool               // as many run as may, and none has ended for a while
	theirs map[*call]struct{} // begun, and not returned from their methods
	owed   int                // answers to calls that were begun

	seq    uint64
	ours   map[uint64]*pendingCall // not answered
	parked int                     // those of ours that wait, and could read
}

// newSession makes a session with p that reads by in and codec and writes to w. One that has methods is to be
// served; one that has none reads when it asks.
func newSession(sh *shared, p *peer, c codec, in *input, w io.Writer, l *limits, log *logger) *session {
	return &session{
		shared: sh, finder: sh.finder, peer: p, codec: c, in: in, out: newOutput(w, l.Write, in.account), log: log, limits: l,
		room: make(chan struct{}, 1), answered: make(chan struct{}), done: make(chan struct{}),
		state: sessionState{
			reading: sh.finder != nil, steady: sh.finder != nil,
			theirs: map[*call]struct{}{}, ours: map[uint64]*pendingCall{},
		},
	}
}

// update changes the state and draws the consequences. Nothing else changes it, closes a channel of the
// session, stops the reading or passes it on.
func (s *session) update(change func(st *sessionState)) {
	s.mu.Lock()
	st := &s.state
	change(st)
	var orphans map[uint64]*pendingCall
	if st.readErr != nil && len(st.ours) > 0 {
		orphans, st.ours = st.ours, map[uint64]*pendingCall{}
	}
	if asking := len(st.ours) > 0; asking != s.asking.Load() {
		s.asking.Store(asking)
	}
	if !st.reading && st.readErr == nil && (st.waiting || st.parked > 0) {
		s.passOnLocked()
	}
	if st.phase != phaseOpen {
		s.closing.Store(true)
	}
	if st.phase == phaseLeaving {
		s.hearLocked()
	}
	if st.readErr != nil && !st.reading && st.owed == 0 {
		shut(s.answered)
		if len(st.theirs) == 0 {
			shut(s.done)
		}
	}
	readErr := st.readErr
	s.mu.Unlock()
	for _, a := range orphans {
		s.orphan(a, readErr)
	}
}

// shut closes c once. Its caller holds a lock.
func shut(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// firstWords is how long a peer is heard when the daemon stops that has connected and not asked
// anything yet: it may have connected just now, and expects an answer.
const firstWords = time.Second

// drainSweep is how long a peer is still heard to which no answer is owed when the daemon stops: what
// it had sent before is answered.
const drainSweep = 20 * time.Millisecond

// hearLocked sets until when a session that leaves reads on. While answers are owed it does, in either
// direction: what is asked then is told that it was not begun.
func (s *session) hearLocked() {
	st := &s.state
	next := hearSweep
	switch {
	case st.owed > 0 || len(st.ours) > 0:
		next = hearEndless
	case !st.asked:
		next = hearFirst
	}
	if next == st.heard {
		return
	}
	st.heard = next
	switch next {
	case hearEndless:
		s.in.goOn()
	case hearFirst:
		s.in.stopAt(time.Now().Add(firstWords))
	case hearSweep:
		s.in.stopAt(time.Now().Add(drainSweep))
	}
}

// serve reads until the peer sends no more, waits for the calls that run, and has sent
// everything when it returns. The connection is the caller's to close.
func (s *session) serve() error {
	s.in.flush = s.flush
	s.read(nil)
	<-s.done
	err := s.out.drain()
	s.wg.Wait()
	return err
}

// close gives back what the session holds. Nobody reads, runs or writes any more.
func (s *session) close() {
	s.in.close()
	s.out.close()
}

// leave lets the session end: it reads on as hearLocked says, and answers what it has begun.
func (s *session) leave() {
	s.update(func(st *sessionState) { st.phase = max(st.phase, phaseLeaving) })
}

// cut ends every call of the peer, those to come included. f is their answer; nil where nobody is there to
// read one.
func (s *session) cut(f *fault) {
	var calls []*call
	s.update(func(st *sessionState) {
		st.phase = phaseCut
		for c := range st.theirs {
			calls = append(calls, c)
		}
	})
	for _, c := range calls {
		s.giveUp(c, context.Canceled, f)
	}
}

// idle reports whether no call of the peer runs.
func (s *session) idle() (idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.state.theirs) == 0
}

// read is the loop of the reader. It returns when the stream has ended, when the foreman has given the
// reading to somebody else, or when mine is answered.
func (s *session) read(mine *pendingCall) {
	var c *call // made for a request; what is none leaves it for the next message
	for {
		if c == nil {
			c = &call{peer: s.peer, from: s}
		}
		err := s.codec.read(&c.message)
		if err == nil && c.kind == response {
			err = s.deliver(&c.message)
		} else if err == nil {
			var reader bool
			reader, err = s.handle(c)
			if c = nil; s.finder == nil {
				s.flushAside() // whoever reads for itself does not flush
			}
			if !reader {
				return
			}
		}
		var bad *badMessage
		switch {
		case err == nil:
		case errors.As(err, &bad) && bad.m.kind == response:
			if err := s.undelivered(&bad.m, bad.fault); err != nil {
				s.stopReading(nil, err)
				return
			}
		case errors.As(err, &bad) && s.finder == nil: // what answers is not what it should be
			s.stopReading(nil, bad.fault)
			return
		case errors.As(err, &bad):
			s.note(bad.fault)
			s.respond(&bad.m, nil, bad.fault)
		default:
			if c == nil {
				c = &call{}
			}
			s.stopReading(&c.message, err)
			return
		}
		if mine != nil && s.isOver(mine) {
			return
		}
	}
}

// note logs a message that is answered with f in its place. That a limit was reached is for who
// sets it to know; the rest is for who sent it.
func (s *session) note(f *fault) {
	if d := f.data(); d.Limit != "" {
		s.log.warn("a message was refused", "limit", d.Limit, "max", d.Max)
		return
	}
	s.log.debug("bad message", "error", f)
}

// stopReading ends the reading side. An error that is a fault is told to the peer, m being the message that
// it is about.
func (s *session) stopReading(m *message, err error) {
	var f *fault
	cause := err
	if errors.As(err, &f) && m != nil && s.finder != nil {
		s.log.warn("the peer broke the protocol", "error", f)
		s.respond(m, nil, f)
		err = nil
	}
	s.out.flush()
	if s.ended != nil && !s.closing.Load() { // otherwise it was we who have ended it
		s.ended(err)
	}
	s.update(func(st *sessionState) {
		st.reading = false
		if st.readErr == nil {
			st.readErr = cause
		}
	})
}

// flush sends what was answered. A peer that takes no more answers asks no more either.
func (s *session) flush() {
	if s.asking.Load() {
		s.flushAside()
		return
	}
	if s.out.flush() != nil {
		s.in.stopAt(time.Now())
	}
}

// flushAside has a goroutine of its own send what was answered, since a peer that does not read must not
// hold up whoever calls this.
func (s *session) flushAside() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDone() || !s.out.claim() {
		return
	}
	s.wg.Go(func() {
		if s.out.flushClaimed() != nil {
			s.in.stopAt(time.Now())
		}
	})
}

// isDone reports whether the session is over. Where it is not, and mu is held, whoever waits for wg has not
// begun to.
func (s *session) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// isLate reports whether c came too late to be begun.
func (s *session) isLate(c *call) bool {
	if !s.closing.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.asked && !s.whole && (c.batch == nil || c.batch != s.state.first)
}

// aside are the messages that are no calls of a service. A peer that asks one of them for an answer gets
// null.
var aside map[string]func(s *session, argument document)

func init() { // a literal would refer to itself
	aside = map[string]func(s *session, argument document){cancelMethod: (*session).cancel, progressMethod: (*session).takePart}
}

const noticePrefix = "$/" // of messages that a peer may ignore: LSP 3.17, "$ Notifications and Requests"

// handle does what one message asks for. It returns false where this goroutine no longer is
// the reader. An error that is no badMessage ends the stream.
func (s *session) handle(c *call) (reader bool, err error) {
	if notice := aside[c.method]; notice != nil {
		var argument document
		if err := s.codec.body(&argument); err == nil {
			notice(s, argument)
		}
		s.respond(&c.message, nil, nil)
		return true, nil
	}
	if c.kind == notification && len(c.method) >= len(noticePrefix) && c.method[:len(noticePrefix)] == noticePrefix {
		return true, nil
	}
	if s.finder == nil && s.isEcho(c) {
		return true, errEcho
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
	switch {
	case f != nil:
		s.respond(&c.message, nil, f)
	case c.m.forward != nil:
		c.m.forward(c)
	case c.m.slow.Load() > 0 || s.asking.Load():
		go s.runAside(c)
	default:
		return s.runInline(c), nil
	}
	return true, nil
}

// prepare finds the method and makes its argument.
func (s *session) prepare(c *call) *fault {
	if s.finder == nil {
		return &fault{Code: codeNoMethod, Text: "this end of the connection has no methods"}
	}
	if s.isLate(c) {
		return errShuttingDown
	}
	m, f := s.finder.find(c.method, s.peer)
	if f != nil {
		return f
	}
	c.m, c.arg = m, m.newArgument()
	return nil
}

// begin counts the call among those in flight, or refuses it.
func (s *session) begin(c *call) *fault {
	if c.timeout == 0 {
		c.timeout = s.limits.MaxCall
	}
	isCut := false
	for begun := false; !begun; {
		var f *fault
		s.update(func(st *sessionState) {
			if begun, f = s.admitLocked(c), nil; begun {
				isCut = st.phase == phaseCut
			} else {
				f = s.refusalLocked(c)
			}
		})
		if f != nil {
			return f
		}
		if !begun {
			s.waitForRoom()
		}
	}
	s.meter.calls.Add(1)
	if isCut {
		c.end(context.Canceled)
	}
	if c.timeout > 0 {
		c.deadline = time.Now().Add(c.timeout)
		c.timer = time.AfterFunc(c.timeout, func() { s.giveUp(c, context.DeadlineExceeded, errDeadline) })
	}
	return nil
}

// admitLocked puts c among the calls in flight, if it may be one of them.
func (s *session) admitLocked(c *call) bool {
	st := &s.state
	if len(st.theirs) >= s.limits.MaxCalls || c.parts != "" && st.hasToken(c.parts) {
		return false
	}
	st.theirs[c] = struct{}{}
	c.owing = true
	st.owed++
	if !st.asked && c.kind == request {
		st.asked, st.first = true, c.batch
	}
	return true
}

// refusalLocked is why c cannot be begun, or nil where it may be worth waiting. Where no call has ended for a
// while, or calls of ours are out, there is no waiting, so that what else the peer has to say, which
// may be that it withdraws a call, is read.
func (s *session) refusalLocked(c *call) *fault {
	st := &s.state
	switch {
	case c.parts != "" && st.hasToken(c.parts):
		return &fault{Code: codeInvalid, Text: "the token " + shorten(c.parts, 40) + " belongs to another call of this connection"}
	case st.full || len(st.ours) > 0:
		s.log.warn("too many calls in flight", "limit", "max_calls")
		return busy("max_calls", int64(s.limits.MaxCalls), "too many calls in flight on this connection")
	}
	return nil
}

// hasToken reports whether a call in flight has its parts sent under the token.
func (st *sessionState) hasToken(token string) bool {
	for c := range st.theirs {
		if c.parts == token {
			return true
		}
	}
	return false
}

// roomWait is how long a call waits for another of its connection to end, where as many run as may.
const roomWait = 50 * time.Millisecond

// waitForRoom waits for a call to end. Who sends faster than quick methods run is slowed down that way and
// not refused.
func (s *session) waitForRoom() {
	s.flush()
	late := time.NewTimer(roomWait)
	defer late.Stop()
	select {
	case <-s.room:
	case <-late.C:
		s.update(func(st *sessionState) { st.full = true })
	}
}

// runInline runs the call in the reader and reports whether it still is the reader after.
func (s *session) runInline(c *call) bool {
	s.served.Add(1)
	s.inline.Store(c)
	if !s.watched.Load() {
		s.foreman.watch(s)
	}
	if s.asking.Load() { // a call of ours has begun just now, whose answer has to be read
		s.readElsewhere(c)
	}
	mine := s.run(c)
	reader := s.inline.CompareAndSwap(c, nil)
	if !reader {
		s.flush()
	}
	s.finish(c, mine)
	return reader
}

// readElsewhere takes the reading away from the reader while it runs c. It reports whether it was c.
func (s *session) readElsewhere(c *call) bool {
	if c == nil || !s.inline.CompareAndSwap(c, nil) {
		return false
	}
	go s.read(nil)
	return true
}

// runAside runs the call in a goroutine of its own and lets its method earn its way back.
func (s *session) runAside(c *call) {
	began := time.Now()
	mine := s.run(c)
	switch {
	case time.Since(began) >= foremanTick:
		c.m.slow.Store(slowCalls)
	case c.m.slow.Load() > 0:
		c.m.slow.Add(-1)
	}
	s.flush()
	s.finish(c, mine)
}

// run runs the method and answers, unless the call was given up and so answered before.
func (s *session) run(c *call) (mine bool) {
	result, err := c.m.run(c, c.arg, s.crashed)
	var f *fault
	if err != nil {
		f = asFault(err)
	}
	return c.reply(result, f)
}

func (s *session) crashed(method string, value any, stack []byte) {
	s.log.error("a method panicked", "method", method, "error", value, "stack", string(stack))
}

// finish takes the call out of those in flight. settled says that its answer has been sent.
func (s *session) finish(c *call, settled bool) {
	c.end(context.Canceled)
	s.update(func(st *sessionState) {
		delete(st.theirs, c)
		st.full = false
		if settled {
			st.settle(c)
		}
	})
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// settle notes that the answer to c has been sent.
func (st *sessionState) settle(c *call) {
	if c.owing {
		c.owing = false
		st.owed--
	}
}

// answer implements asker. A method that runs here answers from its own goroutine, which may wait for a peer
// that does not read. An answer from elsewhere must not hold up where it comes from: that is another
// connection, on which others wait for theirs.
func (s *session) answer(c *call, result any, f *fault) {
	if c.m.forward == nil {
		s.respond(&c.message, result, f)
		return
	}
	sent, err := s.offer(&c.message, result, f)
	if !sent {
		s.wg.Go(func() { // as many as there are calls in flight
			s.respond(&c.message, result, f)
			s.flush()
			s.finish(c, true)
		})
		return
	}
	if err != nil {
		s.respond(&c.message, result, f) // says so
	}
	s.flushAside()
	s.finish(c, true)
}

// partWindow is how many bytes may wait for a caller that does not read the parts of its answers.
const partWindow = 1 << 20

// part implements asker.
func (s *session) part(c *call, value any) error {
	m := message{kind: progress, parts: c.parts}
	if c.m.forward == nil {
		if err := s.out.append(s.codec, &m, value); err != nil {
			return err
		}
		return s.out.flush()
	}
	sent, err := s.out.offer(s.codec, &m, value, partWindow)
	if !sent {
		return busy("parts", partWindow, "the caller does not read the parts of the answer")
	}
	if err == nil {
		s.flushAside()
	}
	return err
}

// respond appends the response to m, having waited for the peer to read where much waits for that already. A
// result that has no encoding becomes an error.
func (s *session) respond(m *message, result any, f *fault) {
	if f != nil {
		s.meter.errors.Add(1)
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

// offer is respond without the waiting: it reports false where too much waits to be read.
func (s *session) offer(m *message, result any, f *fault) (bool, error) {
	if m.kind == notification {
		return true, nil
	}
	asked := *m
	asked.kind, asked.fault = response, f
	sent, err := s.out.offer(s.codec, &asked, result, partWindow)
	if sent && err == nil && f != nil {
		s.meter.errors.Add(1)
	}
	return sent, err
}

// cancel ends the calls that the argument of $/cancelRequest names.
func (s *session) cancel(argument document) {
	id, ok := cancelledID(argument)
	if !ok {
		return
	}
	s.mu.Lock()
	var found []*call
	for c := range s.state.theirs {
		if c.id == id && c.kind == request {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		s.giveUp(c, context.Canceled, errCancelled)
	}
}

// giveUp ends the call's context and answers in its place: a method that does not listen
// to its context keeps its caller waiting no longer, though it counts until it returns.
func (s *session) giveUp(c *call, reason error, f *fault) {
	if f == nil { // nobody is there
		c.end(reason)
		if c.m.forward != nil {
			c.reply(nil, errCancelled)
		}
		return
	}
	// The method hears of it at once, however long the peer takes to read the answer. It cannot
	// answer in its own words, and the session does not end before this answer is sent.
	mine := c.answered.CompareAndSwap(false, true)
	c.end(reason)
	if !mine {
		return
	}
	send := func() {
		s.respond(&c.message, nil, f)
		s.flush()
		if c.m.forward != nil { // nothing runs here
			s.finish(c, true)
			return
		}
		s.update(func(st *sessionState) { st.settle(c) })
	}
	if s.asking.Load() {
		s.wg.Go(send)
		return
	}
	send()
}
