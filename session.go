package main

// This file is the door of the room session: one connection that carries calls both ways. It owns the state of a
// session and the calls of the peer. A server calls newSession and serve; leave and cut end the session; close
// comes last.
//
// session_ask.go is our own calls: ask and post for a client, and remote, which makes a provider of a session.
// session_foreman.go keeps a slow method from blocking anyone but its caller. A new message that is not a call of a
// service, such as $/cancelRequest, is a row of notices.

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A shared is what all sessions of a server have in common. In a client finder and foreman are nil.
type shared struct {
	finder  finder
	log     *logger
	meter   *meter
	foreman *foreman
}

// A meter counts what Ipcd.Status reports.
type meter struct {
	connections atomic.Int64 // open now
	accepted    atomic.Int64
	refused     atomic.Int64
	calls       atomic.Int64 // begun
	errors      atomic.Int64 // answered with an error
}

// A session is one end of a connection. Both ends are alike: either may call the other.
//
// At most one goroutine reads, the reader, and it also does whatever is quick: that saves two goroutine switches per
// call. In the daemon the reader runs the methods. Nobody reads meanwhile, which is fine while the method is quick; if
// it is not, the foreman hands the reading to a new goroutine. In a client a goroutine that waits for an answer reads
// for itself, and delivers the answers to others that it meets. While calls of ours are in flight the reader blocks on
// nothing but reading, save for what respondHere says: whatever might block it is left to other goroutines.
type session struct {
	*shared
	finder  finder // shared.finder, unless the peer is refused
	peer    *peer
	codec   codec
	in      *input
	out     *output
	log     *logger
	limits  *limits               // those in force when the connection began
	whole   bool                  // the input is one unit, an HTTP body: a shutdown refuses none of its calls
	ended   func(err error)       // called when the peer will send no more; may be nil
	explain func(err error) error // words an error of the connection for our callers; may be nil

	spare   *call                // of the reader: for the next message
	inline  atomic.Pointer[call] // what the reader runs; nil once another goroutine has become the reader
	served  atomic.Uint32        // calls run by the reader; shows the foreman that the session is busy
	watched atomic.Bool          // the foreman has the session on its list
	asking  atomic.Bool          // calls of ours are in flight
	closing atomic.Bool          // phase is no longer phaseOpen
	room    chan struct{}        // holds one: a call of theirs has ended; see waitForRoom

	wg sync.WaitGroup // goroutines that read or write in the background

	mu       sync.Mutex
	state    sessionState  // only update changes it
	answered chan struct{} // closed once nothing more is read and no answer is owed
	done     chan struct{} // closed once, in addition, no method runs
}

// A phase is how far a session is on its way to the end. It never goes back.
type phase int

const (
	phaseOpen    phase = iota
	phaseLeaving       // calls in flight are answered, new ones are refused
	phaseCut           // every call is cancelled, even as it begins
)

// A lingering is how long a session that leaves goes on reading.
type lingering int

const (
	lingerEndless lingering = iota
	lingerFirst             // for firstWords: the peer has not called yet
	lingerSweep             // for drainSweep: no answer is owed to it
)

// sessionState is everything that decides when a session ends.
type sessionState struct {
	phase   phase
	reading bool // there is a reader, or will be
	steady  bool // a goroutine reads to the end of the stream, or will as soon as it can
	waiting bool // that goroutine is to start once nobody else reads
	readErr error
	linger  lingering // in force

	asked  bool               // a request has come
	first  any                // the batch of the first request
	full   bool               // max_calls are in flight, and none has ended for roomWait
	theirs map[*call]struct{} // the peer's calls that have begun and not finished
	owed   int                // how many of them have yet to be answered

	seq    uint64
	ours   map[uint64]*pendingCall // our calls in flight, by seq
	unsent int                     // calls handed on that wait to be sent
	parked int                     // how many of ours wait and could read
}

// newSession returns a session with p that reads from in and writes to w. With a finder it has to be served; without
// one, whoever waits for an answer reads.
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

// update changes the state and does what follows from that. Nothing else changes the state, closes a channel of the
// session, stops the reading or appoints the next reader.
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
		s.lingerLocked()
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

// shut closes c unless it is closed. The caller holds the lock that guards c.
func shut(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// firstWords is how long a daemon that stops waits for the first call of a peer: the peer may have connected just now,
// and expects an answer.
const firstWords = time.Second

// drainSweep is how long a daemon that stops goes on reading from a peer to which it owes no answer, so that what the
// peer has already sent is answered.
const drainSweep = 20 * time.Millisecond

// patience is how long a daemon that stops still listens to a peer to which it owes nothing.
func patience(asked bool) time.Duration {
	if asked {
		return drainSweep
	}
	return firstWords
}

// lingerLocked sets the read deadline of a session that leaves. There is none while an answer is owed in either
// direction: calls that come meanwhile are refused, and their callers know that they were not started.
func (s *session) lingerLocked() {
	st := &s.state
	next := lingerSweep
	switch {
	case st.owed > 0 || len(st.ours) > 0:
		next = lingerEndless
	case !st.asked:
		next = lingerFirst
	}
	if next == st.linger {
		return
	}
	st.linger = next
	switch next {
	case lingerEndless:
		s.in.goOn()
	default:
		s.in.stopAt(time.Now().Add(patience(st.asked)))
	}
}

// serve reads until the peer sends no more, waits for the calls in flight, and drains the output. The caller has to
// close the connection.
func (s *session) serve() error {
	s.in.flush = s.flush
	s.read(nil)
	<-s.done
	err := s.out.drain()
	s.wg.Wait()
	return err
}

// close frees the buffers of a session on which nobody reads, runs or writes any more.
func (s *session) close() {
	s.in.close()
	s.out.close()
}

// leave begins the shutdown of the session: it finishes the calls in flight, reads on as lingerLocked says, and ends.
func (s *session) leave() {
	s.update(func(st *sessionState) { st.phase = max(st.phase, phaseLeaving) })
}

// cut cancels every call of the peer, including those still to come. f is their answer, or nil if the peer is gone.
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
	if f != nil { // whoever cuts closes the connection then
		s.out.drain()
	}
}

// idle reports whether no call of the peer is in flight.
func (s *session) idle() (idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.state.theirs) == 0
}

// read is the loop of the reader. It returns when the stream has ended, when another goroutine has become the reader, or
// when mine is answered.
func (s *session) read(mine *pendingCall) {
	c := s.spare // reused until a message turns out to be a request
	for {
		if c == nil {
			c = &call{peer: s.peer, from: s}
			s.spare = c
		}
		err := s.codec.read(&c.message)
		var over *pendingCall
		if err == nil && c.kind == response {
			over, err = s.deliver(&c.message)
		} else if err == nil {
			s.spare = nil
			var reader bool
			reader, err = s.handle(c)
			if c = nil; s.finder == nil {
				s.flushAside() // the input of a client does not flush before it reads
			}
			if !reader {
				return
			}
		}
		var bad *badMessage
		switch {
		case err == nil:
		case errors.As(err, &bad) && bad.m.kind == response:
			if over, err = s.undelivered(&bad.m, bad.fault); err != nil {
				s.stopReading(nil, err)
				return
			}
		case errors.As(err, &bad) && s.finder == nil: // the peer is not a daemon
			s.stopReading(nil, bad.fault)
			return
		case errors.As(err, &bad):
			s.note(bad.fault)
			s.respondHere(&bad.m, bad.fault)
		default:
			if c == nil {
				c = &call{}
			}
			s.stopReading(&c.message, err)
			return
		}
		if mine != nil && over == mine {
			return
		}
	}
}

// note logs that a message was refused with f. A limit that was reached concerns the administrator; everything else
// concerns the sender, who gets f.
func (s *session) note(f *fault) {
	if d := f.data(); d.Limit != "" {
		s.log.warn("a message was refused", "limit", d.Limit, "max", d.Max)
		return
	}
	s.log.debug("bad message", "error", f)
}

// stopReading ends the reading side. If err is a fault and m is not nil, a serving end answers m with it.
func (s *session) stopReading(m *message, err error) {
	var f *fault
	cause := err
	if errors.As(err, &f) && m != nil && s.finder != nil {
		s.log.warn("the peer broke the protocol", "error", f)
		s.respond(m, nil, f)
		err = nil
	}
	s.out.flush()
	if s.ended != nil && !s.closing.Load() { // otherwise we ended it ourselves
		s.ended(err)
	}
	s.update(func(st *sessionState) {
		st.reading = false
		if st.readErr == nil {
			st.readErr = cause
		}
	})
}

// flush sends the answers that were appended. If that fails the session stops reading: a peer that cannot be answered
// need not be read.
func (s *session) flush() {
	if s.asking.Load() {
		s.flushAside()
		return
	}
	if s.out.flush() != nil {
		s.in.stopAt(time.Now())
	}
}

// flushAside flushes in another goroutine: a peer that does not read must not block the caller.
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

// isDone reports whether the session is over. If it is not, and mu is held, nobody waits for wg yet, and wg.Go is safe.
func (s *session) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// isLate reports whether c came too late to be started.
func (s *session) isLate(c *call) bool {
	if !s.closing.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.asked && !s.whole && (c.batch == nil || c.batch != s.state.first)
}

// notices has the messages that are not calls of a service, by method. If one of them is a request, its answer is null.
var notices map[string]func(s *session, argument document)

func init() { // a literal would be an initialization cycle
	notices = map[string]func(s *session, argument document){cancelMethod: (*session).cancel, progressMethod: (*session).takePart}
}

const noticePrefix = "$/" // of notifications that a peer may ignore: LSP 3.17, "$ Notifications and Requests"

// handle does what one message asks for. It returns false if this goroutine is no longer the reader. An error that is
// not a *badMessage ends the stream.
func (s *session) handle(c *call) (reader bool, err error) {
	if strings.HasPrefix(c.method, noticePrefix) {
		if notice := notices[c.method]; notice != nil {
			var argument document
			if err := s.codec.body(&argument); err == nil {
				notice(s, argument)
			}
			s.respondHere(&c.message, nil)
			return true, nil
		}
		if c.kind == notification {
			return true, nil
		}
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
		s.respondHere(&c.message, f)
	case c.m.forward != nil && c.answered.Load(): // it was cut as it began
	case c.m.forward != nil:
		c.m.forward(c)
	case c.m.slow.Load() > 0 || s.asking.Load():
		go s.runAside(c)
	default:
		return s.runInline(c), nil
	}
	return true, nil
}

// prepare finds the method of c and allocates its argument.
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

// begin adds the call to those in flight and starts its timer, or refuses it.
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
		s.giveUp(c, context.Canceled, nil)
	}
	return nil
}

// admitLocked adds c to the calls in flight, if no limit or token is in the way.
func (s *session) admitLocked(c *call) bool {
	st := &s.state
	if len(st.theirs) >= s.limits.MaxCalls || c.parts != "" && st.hasToken(c.parts) {
		return false
	}
	st.theirs[c] = struct{}{}
	if c.timeout > 0 { // before anybody else can see the call
		c.deadline = time.Now().Add(c.timeout)
		c.timer = time.AfterFunc(c.timeout, func() { s.giveUp(c, context.DeadlineExceeded, errDeadline) })
	}
	c.owing = true
	st.owed++
	if !st.asked && c.kind == request {
		st.asked, st.first = true, c.batch
	}
	return true
}

// refusalLocked returns why c is refused, or nil if it may wait for room. It may not if no call has ended for a while,
// or if calls of ours are in flight: then the session has to read on, since the next message may be a cancellation or an
// answer.
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

// hasToken reports whether a call in flight uses the token for its parts.
func (st *sessionState) hasToken(token string) bool {
	for c := range st.theirs {
		if c.parts == token {
			return true
		}
	}
	return false
}

// roomWait is how long a call waits for another one of its connection to end while max_calls are in flight.
const roomWait = 50 * time.Millisecond

// waitForRoom waits for a call to end. A peer that sends faster than quick methods run is thereby slowed down, not
// refused.
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

// runInline runs the call in the reader and reports whether this goroutine is still the reader afterwards.
func (s *session) runInline(c *call) bool {
	s.served.Add(1)
	s.inline.Store(c)
	if !s.watched.Load() {
		s.foreman.watch(s)
	}
	if s.asking.Load() { // a call of ours has just begun, and somebody has to read its answer
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

// readElsewhere makes a new goroutine the reader if the reader is running c. It reports whether it was.
func (s *session) readElsewhere(c *call) bool {
	if c == nil || !s.inline.CompareAndSwap(c, nil) {
		return false
	}
	go s.read(nil)
	return true
}

// runAside runs the call outside of the reader. After enough quick calls the method may run in the reader again.
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

// run runs the method and answers, unless the call was given up and answered before. It reports whether it answered.
func (s *session) run(c *call) (mine bool) {
	result, err := c.m.run(c, c.arg, s.crashed)
	var f *fault
	if err != nil {
		f = asFault(err)
	}
	return c.reply(result, f)
}

func (s *session) crashed(name string, value any, stack []byte) {
	s.log.error("a method panicked", "method", name, "error", value, "stack", string(stack))
}

// finish removes the call from those in flight. settled says that its answer has been sent.
func (s *session) finish(c *call, settled bool) {
	c.end(context.Canceled)
	if c.timer != nil {
		c.timer.Stop()
	}
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

// answer implements responder. A method that ran here answers from its own goroutine, which may block on a peer that does
// not read. A forwarded call is answered by the reader of another connection, which must not block: others wait for
// their answers there.
func (s *session) answer(c *call, result any, f *fault) {
	if c.m.forward == nil {
		s.respond(&c.message, result, f)
		return
	}
	if sent, err := s.offer(&c.message, result, f, partWindow); !sent || err != nil {
		s.wg.Go(func() { // no more of these than calls in flight
			s.respond(&c.message, result, f) // after an error, it answers with that
			s.flush()
			s.finish(c, true)
		})
		return
	}
	s.flushAside()
	s.finish(c, true)
}

// partWindow is how many bytes may be queued for a caller that does not read the parts of its answers.
const partWindow = 1 << 20

// part implements responder.
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

// respond appends the response to m. It blocks while the peer has too much left to read. A result that has no encoding
// becomes an error.
func (s *session) respond(m *message, result any, f *fault) {
	if f != nil {
		s.meter.errors.Add(1)
	}
	if m.kind == notification {
		return
	}
	err := s.out.append(s.codec, m.response(f), result)
	if err != nil && f == nil && s.out.failed() == nil {
		s.log.error("a result could not be encoded", "method", m.method, "error", err)
		f = faultf(codeInternal, "the result of %s cannot be encoded: %w", m.method, err)
		err = s.out.append(s.codec, m.response(f), nil)
	}
	if err != nil {
		s.log.debug("an answer was not sent", "error", err)
	}
}

// respondHere is respond for the reader, with null for a result. While calls of ours are in flight it does not block:
// the peer may have as many in flight, and would in turn wait for us to read. Only a peer that goes on sending far more
// without reading is waited for.
func (s *session) respondHere(m *message, f *fault) {
	if s.asking.Load() {
		if sent, err := s.offer(m, nil, f, s.limits.MaxMessage+partWindow); sent && err == nil {
			return
		}
	}
	s.respond(m, nil, f)
}

// offer is respond without blocking: it returns false if the peer has more than most bytes left to read.
func (s *session) offer(m *message, result any, f *fault, most int) (bool, error) {
	if m.kind == notification {
		return true, nil
	}
	sent, err := s.out.offer(s.codec, m.response(f), result, most)
	if sent && err == nil && f != nil {
		s.meter.errors.Add(1)
	}
	return sent, err
}

// cancel gives up the calls with the id in the argument of $/cancelRequest.
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
		if s.asking.Load() || c.parts != "" { // the reader must not block
			s.wg.Go(func() { s.giveUp(c, context.Canceled, errCancelled) })
			continue
		}
		s.giveUp(c, context.Canceled, errCancelled)
	}
}

// giveUp ends the context of the call and answers for the method. If the method ignores its context, its caller waits no
// longer, but the call counts as in flight until the method returns.
func (s *session) giveUp(c *call, reason error, f *fault) {
	if f == nil { // the peer is gone
		c.end(reason)
		if c.m.forward != nil {
			c.reply(nil, errCancelled)
		}
		return
	}
	// The answer is claimed first, so that the method cannot send its own. Then the context ends, at once, however long
	// the peer takes to read this answer. The session does not end before it is sent.
	mine := c.answered.CompareAndSwap(false, true)
	c.end(reason)
	if !mine {
		return
	}
	if c.parts != "" { // a part may be on its way
		c.sending.Lock()
		defer c.sending.Unlock()
	}
	s.respond(&c.message, nil, f)
	s.flush()
	if c.m.forward != nil { // no method runs here that would finish the call
		s.finish(c, true)
		return
	}
	s.update(func(st *sessionState) { st.settle(c) })
}
