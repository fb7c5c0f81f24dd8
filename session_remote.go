package main

// This file owns remote, which makes a provider of the peer of a session: calls of others are passed on to it, and its
// answers to them.

import (
	"strconv"
	"time"
)

// A remote is a provider that answers over its connection.
type remote struct {
	*session
	takes  extensions
	object bool // an argument that is an object is params itself
}

// extensions are the members beside params that a provider understands.
type extensions struct{ timeout, parts, context, caller, hops bool }

// extensionsOf returns those that a registration names. One that we do not know is one that we never send.
func extensionsOf(names []string) (e extensions) {
	known := map[string]*bool{"timeout": &e.timeout, "parts": &e.parts, "context": &e.context, "caller": &e.caller, "hops": &e.hops}
	for _, name := range names {
		if takes := known[name]; takes != nil {
			*takes = true
		}
	}
	return e
}

// ask implements provider. It never blocks, since the reader of the caller's connection runs it.
func (r remote) ask(c *call, u *unflushed, done func(failed bool)) {
	noted, full := r.out.noteCall(len(*c.arg.(*document)), c.method)
	if full != nil {
		r.log.warn("calls that a provider has not read take too much memory", "method", c.method, "limit", full.data().Limit, "max", full.data().Max)
		done(true)
		c.reply(nil, full)
		return
	}
	a := &pendingCall{method: c.method, passed: c, done: done}
	if c.parts != "" {
		a.stream = r.newStream(a, r.takes.parts)
	}
	seq, others, err := r.enlist(a)
	if err != nil {
		r.out.forgetCall(noted)
		done(true)
		r.unsent(c)
		return
	}
	m := message{kind: request, id: callID{seq: seq}, method: c.method}
	r.extend(&m, seq, c)
	var arg any
	if d := r.argument(c, seq); len(d) > 0 {
		arg = d
	}
	sent, err := r.out.offerCall(r.codec, &m, arg, outputFull, noted)
	switch {
	case err != nil:
		r.takeBack(seq, c)
	case sent:
		r.flushSoon(u, others)
		r.watch(seq, c)
	default:
		r.sendLater(&m, arg, seq, c, noted)
	}
}

// argument returns the argument of c as the provider gets it: as it is, unless the provider takes the token for parts from it.
// That is then ours, since two callers may have chosen the same, or null if the caller can be sent none: whoever finds a
// token there may put into parts what the result would have.
func (r remote) argument(c *call, seq uint64) document {
	d := *c.arg.(*document)
	if r.takes.parts || c.m.part == nil {
		return d
	}
	if c.parts == "" {
		return withTokens(d, nullID, nullID)
	}
	token := strconv.FormatUint(seq, 10)
	return withTokens(d, token, "-"+token)
}

// extend adds what the provider understands beside params.
func (r remote) extend(m *message, seq uint64, c *call) {
	if !c.deadline.IsZero() && r.takes.timeout {
		m.timeout = time.Until(c.deadline)
	}
	if c.parts != "" && r.takes.parts {
		m.parts, m.credit = strconv.FormatUint(seq, 10), r.limits.StreamWindow
	}
	d := *c.arg.(*document)
	p := passage{object: r.object && len(d) > 0 && d[0] == '{'}
	if r.takes.context {
		p.context = contextPrefix + strconv.FormatUint(seq, 10)
	}
	if r.takes.caller {
		p.caller = c.callerJSON()
	}
	if r.takes.hops {
		p.hops = int(c.hops)
	}
	if p.context != "" || p.caller != nil || p.hops > 0 || p.object {
		said := p // p itself would be allocated for every call
		m.passage = &said
	}
}

// sendLater sends a call when the provider has read what waits for it. As many calls may wait for that as max_calls says,
// whatever becomes of their callers.
func (r remote) sendLater(m *message, arg any, seq uint64, c *call, noted int) {
	var a *pendingCall
	full := false
	r.update(func(st *sessionState) {
		if full = st.unsent >= r.limits.MaxCalls; !full {
			st.unsent++
			return
		}
		a = st.take(seq)
	})
	if full {
		r.out.forgetCall(noted)
		if a != nil {
			a.done(true)
		}
		c.reply(nil, busy("max_calls", int64(r.limits.MaxCalls), "too many calls wait for the provider of "+c.method+" to read them"))
		return
	}
	if !r.background(func() {
		err := r.out.appendCall(r.codec, m, arg, noted)
		r.update(func(st *sessionState) { st.unsent-- })
		if err != nil {
			r.takeBack(seq, c)
			return
		}
		r.flushNow()
		r.watch(seq, c)
	}) {
		r.out.forgetCall(noted)
		r.takeBack(seq, c)
	}
}

// watch withdraws the call from the provider if it ends before the provider has answered.
func (r remote) watch(seq uint64, c *call) {
	c.whenOver(func() {
		if r.endPassed(seq) {
			r.sendCancel(seq)
		}
	})
}

// takeBack answers a call that could not be sent.
func (r remote) takeBack(seq uint64, c *call) {
	r.endPassed(seq)
	r.unsent(c)
}

// endPassed ends the forwarded call with that number, whose answer is not needed any more. It reports whether it was in
// flight.
func (r remote) endPassed(seq uint64) bool {
	var a *pendingCall
	r.update(func(st *sessionState) {
		a = st.take(seq)
		st.missed = st.missed || a != nil
	})
	if a == nil {
		return false
	}
	a.done(true)
	return true
}

// dischargeAll ends the forwarded calls that the peer has, which is no provider any more. What it still answers belongs to no call.
func (s *session) dischargeAll() {
	var ended []*pendingCall
	s.update(func(st *sessionState) {
		for seq, a := range st.ours {
			if a.passed != nil {
				ended = append(ended, st.take(seq))
				st.missed = true
			}
		}
	})
	for _, a := range ended {
		a.done(true)
		a.behindParts(func() {
			a.passed.lost(goneFault(s.answerer(a.method)+" may not offer it any more; it is not known whether it carried out the call", false))
		})
		s.sendCancel(a.seq)
	}
}

// unsent answers a call that has not reached the provider.
func (r remote) unsent(c *call) {
	c.lost(goneFault(r.answerer(c.method)+" has gone", true))
}

// behindParts answers a forwarded call by end, once its caller has all parts of the answer that have come.
func (a *pendingCall) behindParts(end func()) {
	if a.stream != nil {
		a.stream.finish(end)
		return
	}
	end()
}

// deliverPassed answers a forwarded call with the answer of the provider.
func (s *session) deliverPassed(a *pendingCall, m *message) error {
	c := a.passed
	if m.fault != nil {
		f := s.passedOn(m.fault)
		if m.fault.Code == codeDeadline && !c.deadline.IsZero() { // the deadline is the caller's own
			f = errDeadline
		}
		err := s.codec.body(nil)
		a.behindParts(func() { c.reply(nil, f) })
		return err
	}
	var result document
	err := s.codec.body(&result)
	if f, isFault := err.(*fault); isFault {
		s.passInstead(a, f)
		return nil
	}
	if err != nil {
		f := goneFault(s.answerer(c.method)+" broke the protocol; it is not known whether it carried out the call", false)
		a.behindParts(func() { c.reply(nil, f) })
		return err
	}
	if a.stream == nil {
		c.replyBy(&s.unflushed, result, nil)
		return nil
	}
	a.stream.finish(func() { c.reply(result, nil) })
	return nil
}

// passInstead answers a forwarded call with what is wrong with the answer of the provider. Its caller cannot mend that.
func (s *session) passInstead(a *pendingCall, f *fault) {
	s.log.warn("an answer could not be passed on", "method", a.method, "error", f)
	a.behindParts(func() { a.passed.reply(nil, s.passedOn(f)) })
}

// passedOn is a fault of the peer, which has been asked for somebody else, as that one sees it.
func (s *session) passedOn(f *fault) *fault {
	if s.isDaemon {
		return f
	}
	return f.passedOn()
}

// answerer says who answers a method over the connection, for a message.
func (s *session) answerer(method string) string {
	if s.isDaemon {
		return "the daemon that answers " + method
	}
	return "the provider of " + method
}
