package main

// This file owns the calls that a session makes: whoever waits for an answer, and calls that are
// handed on to the peer, for which nobody waits.

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// A pendingCall is a call of ours that has been sent and not been answered. The session's mu guards it.
type pendingCall struct {
	method   string
	result   any
	err      error
	finished bool
	parked   bool          // it waits on wake
	idle     bool          // it must not be chosen to read: it may give up at any moment
	wake     chan struct{} // holds one: finished, a part has come, or chosen to read

	part    func(value document) error // what is done with parts; nil where none are asked for
	parts   []document                 // that have come and were not taken
	waiting int                        // their bytes
	over    bool                       // more came than may wait

	passed *call // a call that was handed on; nobody waits
}

// errEcho ends a session whose peer sends back what it gets.
var errEcho = errors.New("it sent a request instead of an answer")

var pendingCalls = sync.Pool{New: func() any { return &pendingCall{wake: make(chan struct{}, 1)} }}

// ask calls a method of the peer and decodes its result into result, a pointer, or drops it where that
// is nil. A fault of the peer is returned as it came. When ctx ends first, the call is withdrawn.
// part, if it is not nil, gets the parts of the answer in their order before ask returns.
func (s *session) ask(ctx context.Context, method string, arg, result any, part func(value document) error) error {
	if err := ctx.Err(); err != nil {
		return asFault(err)
	}
	a := pendingCalls.Get().(*pendingCall)
	wake := a.wake
	*a = pendingCall{method: method, result: result, part: part, wake: wake}
	seq, crowded, err := s.enlist(a)
	if err != nil {
		return err
	}
	m := message{kind: request, id: callID{seq: seq}, method: method}
	if deadline, ok := ctx.Deadline(); ok {
		m.timeout = time.Until(deadline)
	}
	if part != nil {
		m.parts = strconv.FormatUint(seq, 10)
	}
	if err := s.out.append(s.codec, &m, arg); err != nil {
		s.update(func(st *sessionState) { delete(st.ours, seq) })
		return s.explained(err)
	}
	if crowded {
		runtime.Gosched() // others who are about to send go out with the same write
	}
	if ctx.Done() != nil || part != nil {
		s.flushUntil(ctx)
		return s.waitOrCancel(ctx, seq, a)
	}
	if err := s.out.flush(); err != nil {
		s.fail(err)
	}
	err = s.wait(a)
	pendingCalls.Put(a)
	return err
}

// post sends a notification. It never waits: where much waits to be read by the peer, it is not sent, and
// the error says so.
func (s *session) post(method string, arg any) error {
	sent, err := s.out.offer(s.codec, &message{kind: notification, method: method}, arg, outputFull)
	switch {
	case err != nil:
		return s.explained(err)
	case !sent:
		return busy("output", outputFull, "the peer does not read")
	}
	s.flushAside()
	return nil
}

// enlist gives a its number. crowded says that others are out, too.
func (s *session) enlist(a *pendingCall) (seq uint64, crowded bool, err error) {
	s.update(func(st *sessionState) {
		if st.readErr != nil {
			err = st.readErr
			return
		}
		st.seq++
		seq = st.seq
		st.ours[seq] = a
		crowded = len(st.ours) > 1
	})
	if err != nil {
		return 0, false, s.explained(err)
	}
	s.readElsewhere(s.inline.Load()) // the answer has to be read
	return seq, crowded, nil
}

// explained is what the end of the connection, or an error of sending, means to one who calls.
func (s *session) explained(err error) error {
	if s.explain == nil {
		return err
	}
	return s.explain(err)
}

// flushUntil sends what was appended, or leaves that to go on without the caller when ctx ends.
func (s *session) flushUntil(ctx context.Context) {
	sent := make(chan struct{})
	if !s.background(func() {
		defer close(sent)
		if err := s.out.flush(); err != nil {
			s.fail(err)
		}
	}) {
		return
	}
	select {
	case <-sent:
	case <-ctx.Done():
	}
}

// background runs f in a goroutine of its own, unless the session is over. Whoever closes the session waits
// for it.
func (s *session) background(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDone() {
		return false
	}
	s.wg.Go(f)
	return true
}

// wait returns when a is finished, having read for itself and for others if need be.
func (s *session) wait(a *pendingCall) error {
	for {
		finished, mine := false, false
		s.update(func(st *sessionState) {
			switch {
			case a.finished:
				finished = true
			case !st.reading && st.readErr == nil:
				st.reading, mine = true, true
			default:
				st.park(a, false)
			}
		})
		switch {
		case finished:
			return a.err
		case mine:
			s.read(a)
			s.update(func(st *sessionState) { st.reading = false })
		default:
			<-a.wake
		}
	}
}

// passOnLocked gives the reading, which nobody has, to one who waits for it.
func (s *session) passOnLocked() {
	st := &s.state
	if st.waiting {
		st.waiting, st.reading = false, true
		s.wg.Go(func() { s.read(nil) })
		return
	}
	for _, a := range st.ours {
		if a.parked && !a.idle {
			st.wake(a)
			return
		}
	}
}

// park notes that a waits on its wake. idle says that it must not be given the reading.
func (st *sessionState) park(a *pendingCall, idle bool) {
	a.parked, a.idle = true, idle
	if !idle {
		st.parked++
	}
}

// wake ends the waiting of a, if it does.
func (st *sessionState) wake(a *pendingCall) {
	if !a.parked {
		return
	}
	if !a.idle {
		st.parked--
	}
	a.parked = false
	a.wake <- struct{}{}
}

// readSteadily has a goroutine read to the end, for those who cannot read because a read cannot be given up
// half way.
func (s *session) readSteadily() {
	s.update(func(st *sessionState) {
		if !st.steady && st.readErr == nil {
			st.steady, st.waiting = true, true
		}
	})
}

// waitOrCancel waits for a or the end of ctx, and takes the parts that come.
func (s *session) waitOrCancel(ctx context.Context, seq uint64, a *pendingCall) error {
	s.readSteadily()
	for {
		var parts []document
		var finished, there, over bool
		s.update(func(st *sessionState) {
			parts, a.parts, a.waiting = a.parts, nil, 0
			finished, over = a.finished, a.over
			_, there = st.ours[seq]
			if len(parts) == 0 && !finished && !over {
				st.park(a, true)
			}
		})
		for _, p := range parts {
			if err := a.part(p); err != nil {
				return s.withdraw(seq, a, err)
			}
		}
		switch {
		case len(parts) > 0:
			continue
		case finished:
			return a.err
		case over:
			return s.withdraw(seq, a, busy("parts", partWindow, "more parts came than were taken"))
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			if there {
				return s.withdraw(seq, a, asFault(context.Cause(ctx)))
			}
			<-a.wake // the answer is being decoded into our result right now
		}
	}
}

// withdraw gives a up with an error, unless its answer is there.
func (s *session) withdraw(seq uint64, a *pendingCall, err error) error {
	var there, finished bool
	s.update(func(st *sessionState) {
		_, there = st.ours[seq]
		delete(st.ours, seq)
		finished = a.finished
		if !there && !finished {
			st.park(a, true)
		}
	})
	if !there {
		if !finished { // it is being decoded into our result right now
			<-a.wake
		}
		return a.err
	}
	s.sendCancel(seq)
	return err
}

// sendCancel tells the peer that nobody waits for an answer any more. A peer that does not read must not hold
// up one who gives up.
func (s *session) sendCancel(seq uint64) {
	s.background(func() {
		if s.out.append(s.codec, &message{kind: cancel, id: callID{seq: seq}}, nil) == nil {
			s.out.flush()
		}
	})
}

// deliver gives a response to the call that waits for it.
func (s *session) deliver(m *message) error {
	var a *pendingCall
	s.update(func(st *sessionState) {
		a = st.ours[m.id.seq]
		delete(st.ours, m.id.seq)
	})
	if a == nil {
		return s.undelivered(m, m.fault)
	}
	if a.passed != nil {
		return s.deliverPassed(a.passed, m)
	}
	var result any
	if m.fault == nil {
		result = a.result
	}
	err := s.codec.body(result)
	f, isFault := err.(*fault)
	switch {
	case err != nil && !isFault:
		s.finishPending(a, s.explained(err))
		return err
	case m.fault != nil:
		s.finishPending(a, m.fault)
	case isFault:
		s.finishPending(a, f)
	default:
		s.finishPending(a, nil)
	}
	return nil
}

// undelivered is for a response that nobody waits for, or one that could not be read.
func (s *session) undelivered(m *message, f *fault) error {
	var a *pendingCall
	s.update(func(st *sessionState) {
		a = st.ours[m.id.seq]
		delete(st.ours, m.id.seq)
	})
	switch {
	case a != nil && a.passed != nil:
		a.passed.reply(nil, f.passedOn())
	case a != nil:
		s.finishPending(a, f)
	case f != nil && m.id.seq == 0 && s.finder == nil:
		return f // the daemon could not tell whose request it refused
	default:
		s.log.debug("a response that nobody waits for was dropped")
	}
	return nil
}

func (s *session) finishPending(a *pendingCall, err error) {
	s.update(func(st *sessionState) {
		a.err, a.finished = err, true
		st.wake(a)
	})
}

// isOver reports whether a has its answer.
func (s *session) isOver(a *pendingCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.finished
}

// orphan ends a call of ours whose connection has ended.
func (s *session) orphan(a *pendingCall, err error) {
	if a.passed != nil {
		a.passed.reply(nil, goneFault("the provider of "+a.method+" has gone; whether the call was done is not known", false))
		return
	}
	s.finishPending(a, s.explained(err))
}

// fail ends all calls of ours: the connection is of no more use.
func (s *session) fail(err error) {
	first := false
	s.update(func(st *sessionState) {
		if first = st.readErr == nil; first {
			st.readErr = err
		}
	})
	if first && s.ended != nil {
		s.ended(err)
	}
}

// takePart gives the part of an answer, which comes as the argument of $/progress, to the call that it
// belongs to.
func (s *session) takePart(argument document) {
	token, value, ok := progressOf(argument)
	if !ok {
		return
	}
	var passed *call
	s.update(func(st *sessionState) {
		a := st.ours[token]
		switch {
		case a == nil:
		case a.passed != nil:
			passed = a.passed
		case a.part == nil:
		case a.waiting > 0 && a.waiting+len(value) > partWindow:
			a.over = true
			st.wake(a)
		default:
			a.parts, a.waiting = append(a.parts, value), a.waiting+len(value)
			st.wake(a)
		}
	})
	if passed == nil {
		return
	}
	if err := passed.sendPart(value); err != nil && passed.Err() == nil {
		s.giveUpPassed(passed, asFault(err))
	}
}

// isEcho reports whether c is a request of ours that comes back: what answers gives back what it gets.
func (s *session) isEcho(c *call) bool {
	n, err := strconv.ParseUint(c.id.json, 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.state.ours[n]
	return err == nil && a != nil && a.method == c.method
}

// A remote is a provider that answers over its connection.
type remote struct {
	*session
	timeout, parts bool // which members beside params it understands
}

// load implements provider.
func (r remote) load() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.state.ours)
}

// ask implements provider. It never waits: the reader of the caller's connection calls it.
func (r remote) ask(c *call) {
	a := &pendingCall{method: c.method, passed: c}
	seq, _, err := r.enlist(a)
	if err != nil {
		c.reply(nil, goneFault("the provider of "+c.method+" has gone", true))
		return
	}
	m := message{kind: request, id: callID{seq: seq}, method: c.method}
	if !c.deadline.IsZero() && r.timeout {
		m.timeout = time.Until(c.deadline)
	}
	if c.parts != "" && r.parts {
		m.parts = strconv.FormatUint(seq, 10)
	}
	var arg any
	if d := c.arg.(*document); len(*d) > 0 {
		arg = *d
	}
	sent, err := r.out.offer(r.codec, &m, arg, outputFull)
	switch {
	case err != nil:
		r.unsent(seq, c)
	case sent:
		r.flushAside()
		r.watch(seq, c)
	default:
		r.background(func() { // as many as the callers may have calls in flight
			if r.out.append(r.codec, &m, arg) != nil {
				r.unsent(seq, c)
				return
			}
			r.flushAside()
			r.watch(seq, c)
		})
	}
}

// watch withdraws the call from the provider when its caller has given it up.
func (r remote) watch(seq uint64, c *call) {
	c.whenOver(func() {
		there := false
		r.update(func(st *sessionState) {
			_, there = st.ours[seq]
			delete(st.ours, seq)
		})
		if there {
			r.sendCancel(seq)
		}
	})
}

// unsent answers a call that has not reached the provider.
func (r remote) unsent(seq uint64, c *call) {
	r.update(func(st *sessionState) { delete(st.ours, seq) })
	c.reply(nil, goneFault("the provider of "+c.method+" has gone", true))
}

// deliverPassed answers a call that was handed on with what the provider says.
func (s *session) deliverPassed(c *call, m *message) error {
	if m.fault != nil {
		f := m.fault.passedOn()
		if m.fault.Code == codeDeadline && !c.deadline.IsZero() { // of which it was told
			f = errDeadline
		}
		err := s.codec.body(nil)
		c.reply(nil, f)
		return err
	}
	var result document
	err := s.codec.body(&result)
	if f, isFault := err.(*fault); isFault {
		c.reply(nil, f.passedOn())
		return nil
	}
	if err != nil {
		c.reply(nil, goneFault("the provider of "+c.method+" broke the protocol; whether the call was done is not known", false))
		return err
	}
	c.reply(result, nil)
	return nil
}

// giveUpPassed ends a call that was handed on, at its caller and at the provider.
func (s *session) giveUpPassed(c *call, f *fault) {
	if c.reply(nil, f) {
		c.end(context.Canceled)
	}
}
