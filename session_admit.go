package main

// This file owns how a call of the peer is let in: what it has of the call that it is made for, the limits on what runs and what
// that holds, its tokens, and the wait for room.

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"
)

// begin adds the call to those in flight and starts its timer, or refuses it. isCut says that it was given up at once: it must not
// be run.
func (s *session) begin(c *call) (isCut bool, _ *fault) {
	if f := s.inherit(c); f != nil {
		return false, f
	}
	switch {
	case s.foreman.isTight() && !isSpared(c.method):
		most := s.foreman.most.Load()
		s.log.warn("the daemon takes nearly as much memory as it may", "limit", "process_memory", "max", most)
		return false, busy("process_memory", most, "the daemon takes nearly as much memory as it may")
	case s.in.account.hasAll(smallCalls) && !isSpared(c.method):
		most := s.in.account.limit()
		s.log.warn("the running calls of the user take too much memory", "limit", userMemoryLimit, "max", most)
		return false, busy(userMemoryLimit, most, "the running calls of this user take too much memory")
	case c.m.endless:
		c.timeout = 0
	case c.timeout == 0:
		c.timeout = s.limits.MaxCall
	}
	c.began = s.meter.now()
	if s.audit.wants(false) {
		s.judge(c)
	}
	if c.parts != "" && s.canAsk() { // over HTTP no acknowledgement can come
		c.flow = newFlow(c.credit, s.limits.StreamWindow)
	}
	var cutBy *fault
	for begun := false; !begun; {
		var f *fault
		s.update(func(st *sessionState) {
			switch begun, f = false, nil; {
			case c.m.endless && st.phase == phaseLeaving:
				f = errShuttingDown
			case s.admitLocked(c):
				begun, isCut, cutBy = true, st.phase == phaseCut, st.cutBy
			default:
				f = s.refusalLocked(c)
			}
		})
		if f != nil {
			return false, f
		}
		if begun {
			break
		}
		if n := s.in.last; n >= accountStep && n > s.in.carried {
			s.in.carry(n)
		}
		if s.waitForRoom() && s.isForsaken(c.kind) {
			return false, errForsaken
		}
	}
	s.meter.calls.Add(1)
	if c.parent != nil {
		c.parent.adopt(c, func() { s.giveUp(c, context.Canceled, errCancelled) })
	}
	if isCut {
		s.unflushed.flush() // see cancel
		s.giveUp(c, context.Canceled, cutBy)
	}
	return isCut, nil
}

// isSpared reports whether a method is called also where there is too little memory: to see that, and to do something about it. Those
// that keep what they are given, or make much of it, are not.
func isSpared(method string) bool {
	short, own := strings.CutPrefix(method, ownService+".")
	return own && short != "Register" && short != "Publish" && short != "Subscribe" && short != "Describe"
}

// contextPrefix precedes the number of our call in the name by which a provider can refer to it.
const contextPrefix = "c"

// inherit gives a call that a provider makes for one that it has been given what it has of that one: its deadline, its
// cancellation and its count of hops. What anybody else says of a context means nothing.
func (s *session) inherit(c *call) *fault {
	if c.passage == nil {
		return nil
	}
	digits, _ := strings.CutPrefix(c.passage.context, contextPrefix)
	seq, _ := strconv.ParseUint(digits, 10, 64)
	s.mu.Lock()
	a, passes := s.state.ours[seq], s.state.passes
	s.mu.Unlock()
	switch {
	case !passes:
		return nil
	case a == nil || a.passed == nil:
		return &fault{Code: codeCancelled, Text: "the call " + shorten(c.passage.context, 40) + ", for which this one was made, is over"}
	}
	c.parent, c.hops = a.passed, a.passed.hops+1
	if most := s.limits.MaxHops; int(c.hops) > most {
		return tooFar(c.method, most)
	}
	if at := c.parent.deadline; !at.IsZero() {
		if left := max(time.Until(at), 1); c.timeout == 0 || left < c.timeout {
			c.timeout = left
		}
	}
	return nil
}

// admitLocked adds c to the calls in flight, if no limit or token is in the way.
func (s *session) admitLocked(c *call) bool {
	st := &s.state
	if max(len(st.theirs), st.owed) >= s.inForce().MaxCalls || s.isHeavyLocked() || st.takenToken(c) != "" {
		return false
	}
	st.theirs[c] = struct{}{}
	s.holdLocked(c, s.in.last, s.in.handOver())
	st.noteTokens(c)
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

// inForce returns the limits of whoever the peer is by now on its calls.
func (s *session) inForce() *limits { return cmp.Or(s.quota.Load(), s.limits) }

// isHeavyLocked reports whether the call that has just been read has to wait until calls that run let go of some memory: their
// arguments, and answers that the peer does not read, would take more than twice max_message with it.
func (s *session) isHeavyLocked() bool {
	held := s.state.held + int(s.out.promised.Load())
	return held > 0 && s.in.last >= accountStep && held+s.in.last > 2*s.limits.MaxMessage
}

// holdLocked notes that c holds n bytes more. The account knows of so many that were carried.
func (s *session) holdLocked(c *call, n, carried int) {
	c.held += uint32(n) // max_message is at most 1 GiB
	s.state.held += n
	if n > inputKeep {
		s.in.account.holdRead(n - carried)
		return
	}
	s.in.account.holdRead(-carried)
	c.few += uint32(n)
	s.state.few += n
	s.state.told = s.in.account.tell(smallCalls, s.state.few, s.state.told)
}

// letGoLocked notes that c holds nothing any more.
func (s *session) letGoLocked(c *call) {
	if c.held > 0 {
		s.state.held -= int(c.held)
		s.in.account.holdRead(-int(c.held - c.few))
		s.state.few -= int(c.few)
		c.held, c.few = 0, 0
		s.state.told = s.in.account.tell(smallCalls, s.state.few, s.state.told)
	}
}

// refusalLocked returns why c is refused, or nil if it may wait for room. It may not if calls of ours are in flight: then the session
// has to read on, since the next message may be a cancellation or an answer; nor if no call has ended for a while, unless it waits
// for memory.
func (s *session) refusalLocked(c *call) *fault {
	st := &s.state
	reads := len(st.ours) > 0
	switch token := st.takenToken(c); {
	case token != "":
		return &fault{Code: codeInvalid, Text: "the token " + shorten(token, 40) + " belongs to another call of this connection"}
	case !reads && (st.stuck < c.mostWait() || s.isHeavyLocked()):
		return nil
	case s.isHeavyLocked():
		s.log.warn("calls in flight take too much memory", "limit", "max_message")
		return busy("max_message", 2*int64(s.limits.MaxMessage), "the arguments of running calls and the answers that wait take too much memory on this connection")
	}
	s.log.warn("too many calls in flight", "limit", "max_calls")
	return busy("max_calls", int64(s.inForce().MaxCalls), "too many calls in flight on this connection")
}

// takenToken returns a token of c that a call in flight uses for its parts, or nothing.
func (st *sessionState) takenToken(c *call) string {
	for token := range c.tokens {
		if st.byToken(token) != nil {
			return token
		}
	}
	return ""
}

// byToken returns the call in flight whose parts bear the token, or nil: none do once it has been answered, though its method
// may not have returned.
func (st *sessionState) byToken(token string) *call {
	if c := st.tokens[canonicalID(token)]; c != nil && !c.answered.Load() {
		return c
	}
	return nil
}

// noteTokens notes the tokens of a call that begins.
func (st *sessionState) noteTokens(c *call) {
	for token := range c.tokens {
		if st.tokens == nil {
			st.tokens = map[string]*call{}
		}
		st.tokens[canonicalID(token)] = c
	}
}

// dropTokens drops those of a call that ends, save what another one has taken since its answer.
func (st *sessionState) dropTokens(c *call) {
	for token := range c.tokens {
		if token = canonicalID(token); st.tokens[token] == c {
			delete(st.tokens, token)
		}
	}
}

// tokens yields those that the parts of the answer to c bear.
func (c *call) tokens(yield func(token string) bool) {
	if c.parts != "" && yield(c.parts) && c.workDone != "" {
		yield(c.workDone)
	}
}

// A call waits for roomWait for another one of its connection to end while max_calls are in flight, and a notification for
// unheardWait, since nobody hears that it was refused.
const (
	roomWait    = 50 * time.Millisecond
	unheardWait = time.Second
)

// mostWait returns how long c may wait for room.
func (c *call) mostWait() time.Duration {
	if c.kind == notification {
		return unheardWait
	}
	return roomWait
}

// waitForRoom waits for a call to end, and reports whether none has for roomWait. A peer that sends faster than quick methods run, or
// than it reads, is thereby slowed down, not refused.
func (s *session) waitForRoom() (late bool) {
	s.unflushed.flush()
	s.flushHere()
	s.turn.end()
	timer := time.NewTimer(roomWait)
	defer timer.Stop()
	select {
	case <-s.room:
		return false
	case <-timer.C:
		deaf := s.out.isFull() // then the calls wait for their caller, which the limit write bounds
		s.update(func(st *sessionState) {
			if st.stuck += roomWait; deaf {
				st.stuck = 0
			}
		})
		return true
	}
}

// errForsaken is no answer: there is nobody for it.
var errForsaken = &fault{Code: codeCancelled, Text: "the caller has gone"}

// isForsaken reports whether the peer has gone while the reader waited to begin a message of that kind, so that nothing more need
// be read. Whoever notifies need not stay: then reading goes on, and only the calls that somebody would wait for end.
func (s *session) isForsaken(k kind) bool {
	if s.waited != nil {
		s.waited()
	}
	if s.left == nil || !s.left() {
		return false
	}
	if k == request {
		return true
	}
	s.mu.Lock()
	var calls []*call
	for c := range s.state.theirs {
		if c.kind == request {
			calls = append(calls, c)
		}
	}
	s.mu.Unlock()
	for _, c := range calls {
		s.giveUp(c, context.Canceled, nil)
	}
	return false
}
