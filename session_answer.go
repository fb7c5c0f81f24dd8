package main

// This file owns the calls of the peer: how a message becomes a call, is run or forwarded, and is answered exactly once,
// in parts if its caller asked for them. Whether it may begin is for session_admit.go. Its counterpart is session_ask.go.

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// isLate reports whether c came too late to be started: after the first request, or after the wait for that.
func (s *session) isLate(c *call) bool {
	if !s.closing.Load() || s.whole {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := &s.state; st.asked {
		return c.batch == nil || c.batch != st.first
	}
	return !s.state.words.IsZero() && time.Now().After(s.state.words)
}

// tooLate is the answer to a call that came too late to be started.
func (s *session) tooLate() *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.cutBy == errCancelled { // the peer has shut its sending side
		return errCancelled
	}
	return errShuttingDown
}

// notices has the messages that are not calls of a service, by method, with what takes the argument, and keeps nothing of it.
// If one of them is a request, its answer is null.
var notices map[string]func(s *session) any

func init() { // a literal would be an initialization cycle
	notices = map[string]func(s *session) any{
		cancelMethod:   func(s *session) any { return lent(s.cancel) },
		creditMethod:   func(s *session) any { return lent(s.takeCredit) },
		progressMethod: func(s *session) any { return lentParams(s.takePart) },
	}
}

const noticePrefix = "$/" // of notifications that a peer may ignore: LSP 3.17, "$ Notifications and Requests"

// handle does what one message asks for. It returns false if this goroutine is no longer the reader. An error that is
// not a *badMessage ends the stream.
func (s *session) handle(c *call) (reader bool, err error) {
	if strings.HasPrefix(c.method, noticePrefix) {
		if notice := notices[c.method]; notice != nil {
			err := s.codec.body(notice(s))
			f, isFault := err.(*fault)
			if err != nil && !isFault {
				return true, err
			}
			s.respondHere(&c.message, f)
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
		if err := s.codec.body(c.target()); err != nil {
			var bad *fault // here, since it is allocated
			if !errors.As(err, &bad) {
				return true, err
			}
			if f = bad; f.Code == codeBusy && s.isForsaken(c.kind) { // it has waited for memory
				f = errForsaken
			}
		}
	}
	var isCut bool
	if f == nil {
		isCut, f = s.begin(c)
	}
	switch {
	case f == errForsaken:
		return true, io.EOF
	case f != nil:
		if f.Code == codeDenied && s.audit.wants(true) {
			s.auditRefused(c.method)
		}
		s.note(&c.message, f)
		s.respondHere(&c.message, f)
	case isCut && c.m.forward == nil:
		s.finish(c, true)
	case c.m.forward != nil && c.answered.Load(): // it was cut as it began
	case c.m.forward != nil:
		c.m.forward(c, &s.unflushed)
	default:
		return s.run(c), nil
	}
	return true, nil
}

// run runs c here or aside, and reports whether this goroutine is still the reader. Beyond the limits on calls that run aside it
// runs here, so that nothing more is read meanwhile, unless the next message may be the answer to a call of ours or acknowledge
// parts: then c is refused.
func (s *session) run(c *call) (reader bool) {
	reads := s.asking.Load() || c.parts != ""
	if c.m.slow.Load() == 0 && !reads && (!s.hosted || c.m.computes) {
		return s.runInline(c)
	}
	u := s.turn.user.Load()
	f := s.goAside(c, u, false)
	switch {
	case f == nil:
		go s.runAside(c, u)
	case reads:
		s.log.warn("too many calls run at the same time", "limit", f.data().Limit, "max", f.data().Max, "method", c.method)
		s.wg.Go(func() { // what the peer is told may have to wait until it reads
			mine := c.reply(nil, f)
			s.flush()
			s.finish(c, mine)
		})
	default:
		return s.runInline(c)
	}
	return true
}

// prepare finds the method of c and allocates its argument.
func (s *session) prepare(c *call) *fault {
	if s.finder == nil {
		return &fault{Code: codeNoMethod, Text: "this end of the connection has no methods"}
	}
	if s.isLate(c) {
		return s.tooLate()
	}
	m, f := s.finder.find(c.method, s.peer)
	if f != nil {
		return f
	}
	c.m, c.arg = m, m.newArgument()
	if m.described != nil {
		c.forms = m.described.forms
	}
	if m.part != nil {
		s.findTokens(c)
	}
	return nil
}

// findTokens looks for tokens in the argument of c, which has named none beside it: a caller that was written for the
// Language Server Protocol asks for parts that way. The codec still has the argument as it came.
func (s *session) findTokens(c *call) {
	from, has := s.codec.(interface {
		tokens() (partial, workDone string)
	})
	if !has || c.parts != "" || c.kind != request || c.batch != nil || c.v1 {
		return
	}
	c.parts, c.workDone = from.tokens()
	switch {
	case c.parts == "":
		c.parts, c.workDone = c.workDone, ""
	case c.workDone != "" && sameID(c.parts, c.workDone):
		c.workDone = ""
	}
}

// runInline runs the call in the reader and reports whether this goroutine is still the reader afterwards.
func (s *session) runInline(c *call) bool {
	s.unflushed.flush()
	s.served.Add(1)
	u := s.turn.user.Load()
	s.inline.Store(c)
	if !s.beat.watched.Load() {
		s.foreman.watch(s.beat)
	}
	if s.asking.Load() { // a call of ours has just begun, and somebody has to read its answer
		s.readElsewhere(c, true)
	}
	result, f := c.m.run(c, c.arg, s.crashed)
	mine := c.reply(result, f)
	reader := s.inline.CompareAndSwap(c, nil)
	if !reader {
		s.comeBack(c, u)
		s.flush()
	}
	s.finish(c, mine)
	return reader
}

// runAside runs the call outside of the reader. After enough quick calls the method may run in the reader again.
func (s *session) runAside(c *call, u *turnUser) {
	if s.foreman.contended.Load() && !c.m.endless {
		t := &turn{foreman: s.foreman}
		if c.m.computes {
			t.inline = new(atomic.Pointer[call]) // of no method that may wait
		}
		t.user.Store(u)
		t.take(nil)
		defer t.end()
	}
	defer s.comeBack(c, u)
	began := time.Now()
	result, f := c.m.run(c, c.arg, s.crashed)
	switch {
	case time.Since(began) >= foremanTick:
		c.m.slow.Store(slowCalls)
	case c.m.slow.Load() > 0:
		c.m.slow.Add(-1)
	}
	mine := c.reply(result, f)
	s.flush()
	s.finish(c, mine)
}

func (s *session) crashed(name string, value any, stack []byte) {
	s.meter.panics.Add(1)
	s.log.error("a method panicked", "method", name, "error", value, "stack", string(stack))
}

// finish removes the call from those in flight, and reports whether there are others. settled says that its answer has been
// sent.
func (s *session) finish(c *call, settled bool) (others bool) {
	c.end(context.Canceled)
	c.leaveParent()
	s.update(func(st *sessionState) {
		if c.timer != nil { // it may have fired before admitLocked noted it
			c.timer.Stop()
		}
		delete(st.theirs, c)
		s.letGoLocked(c)
		st.dropTokens(c)
		others = len(st.theirs) > 0
		st.stuck = 0
		if settled {
			st.settle(c)
		}
	})
	s.madeRoom()
	return others
}

// madeRoom lets a call begin that waits for room.
func (s *session) madeRoom() {
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

// encode implements responder.
func (s *session) encode(c *call, result any) (any, *fault) {
	if c.kind == notification {
		return nil, nil
	}
	result, err := s.codec.prepare(&c.message, result)
	if err != nil {
		return nil, s.instead(&c.message, err)
	}
	return result, nil
}

// answer implements responder. A method that ran here answers from its own goroutine, which may block on a peer that does
// not read. A forwarded call is answered by the reader of another connection, which must not block: others wait for
// their answers there.
func (s *session) answer(c *call, result any, f *fault, u *unflushed) {
	promised := 0
	if f == nil {
		if promised, f = s.out.promise(sizeOfBody(result), &c.message); f != nil {
			s.log.warn("an answer was dropped, since those that wait to be read take too much memory", "method", c.method, "limit", f.data().Limit, "max", f.data().Max)
			result = nil
		}
	}
	s.record(c, f)
	if c.m.forward == nil {
		s.respondTo(c, result, f, promised)
		return
	}
	if sent, err := s.offer(&c.message, result, f, outputMost, promised); !sent || err != nil {
		if sent {
			promised = 0
		}
		s.wg.Go(func() { // no more of these than calls in flight
			s.respondTo(c, result, f, promised) // after an error, it answers with that
			s.flush()
			s.finish(c, true)
		})
		return
	}
	s.flushSoon(u, s.finish(c, true))
}

// record counts and logs the outcome of a call that is over.
func (s *session) record(c *call, f *fault) {
	took := s.meter.ended(c, f)
	if s.audit.wants(f != nil && f.Code == codeDenied) {
		s.auditCall(c, f, took)
	}
	if f != nil {
		s.tellLimit(c.method, s.peer, f)
	}
	switch {
	case !s.log.debugging():
	case f == nil:
		s.log.debug("call", "method", c.method, "took", took)
	default:
		s.log.debug("call", "method", c.method, "took", took, "code", f.Code, "error", f)
	}
}

// respondTo is respond for a call whose outcome has been counted.
func (s *session) respondTo(c *call, result any, f *fault, promised int) {
	if long := s.respond(&c.message, result, f, promised); long != nil && f == nil {
		s.meter.failed(c, long)
	}
}

// respond appends the response to m. It blocks while the peer has too much left to read. An answer that has no encoding or
// is too long becomes an error that says so, which respond returns. So many bytes of it were promised to the output.
func (s *session) respond(m *message, result any, f *fault, promised int) (long *fault) {
	if m.kind == notification {
		return nil
	}
	r := m.response(f)
	defer r.recycle()
	r.credit = promised
	err := s.out.append(s.codec, r, result)
	if err != nil && s.out.failed() == nil {
		long = s.instead(m, err)
		s.tellLimit(m.method, s.peer, long)
		r.fault, r.credit = long, 0
		err = s.out.append(s.codec, r, nil)
	}
	if err != nil {
		s.log.debug("an answer was not sent", "error", err)
	}
	return long
}

// instead returns the error that is sent in place of an answer to m that cannot be.
func (s *session) instead(m *message, err error) *fault {
	if long, ok := err.(*fault); ok {
		s.log.warn("an answer was refused", "method", m.method, "limit", long.data().Limit, "max", long.data().Max)
		return long
	}
	s.log.error("a result could not be encoded", "method", m.method, "error", err)
	return faultf(codeInternal, "the result of %s cannot be encoded: %w", m.method, err)
}

// respondHere is respond for the reader, which has begun no call, with null for a result. While calls of ours are in flight it does not block:
// the peer may have as many in flight, and would in turn wait for us to read. Only a peer that goes on sending far more
// without reading is waited for.
func (s *session) respondHere(m *message, f *fault) {
	if f != nil {
		s.meter.reject(f)
	}
	if s.asking.Load() {
		if sent, err := s.offer(m, nil, f, s.limits.MaxMessage+outputMost, 0); sent && err == nil {
			return
		}
	}
	s.unflushed.flush()
	s.respond(m, nil, f, 0)
}

// offer is respond without blocking: it returns false if the peer has more than most bytes left to read.
func (s *session) offer(m *message, result any, f *fault, most, promised int) (bool, error) {
	if m.kind == notification {
		return true, nil
	}
	r := m.response(f)
	defer r.recycle()
	r.credit = promised
	return s.out.offer(s.codec, r, result, most)
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
		if c.kind == request && sameID(c.id.json, id) {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		switch mine := c.claim(context.Canceled); {
		case !mine:
		case s.asking.Load() || c.parts != "": // the reader must not block
			s.wg.Go(func() { s.excuse(c, errCancelled) })
		default:
			s.unflushed.flush() // first: the peer may leave unread what it is told, and others wait for what it has answered
			s.excuse(c, errCancelled)
		}
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
	if c.claim(reason) {
		if reason == context.DeadlineExceeded {
			f = c.awaited()
		}
		s.excuse(c, f)
	}
}

// excuse answers a call that was claimed, in place of its method.
func (s *session) excuse(c *call, f *fault) {
	c.lastPart()
	s.record(c, f)
	s.respond(&c.message, nil, f, 0)
	s.flush()
	if c.m.forward != nil { // no method runs here that would finish the call
		s.finish(c, true)
		return
	}
	s.update(func(st *sessionState) { st.settle(c) })
	s.madeRoom()
}
