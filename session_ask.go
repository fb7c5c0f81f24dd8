package main

// This file owns the calls that a session makes: those with a goroutine that waits for the answer, and those that are
// forwarded for the peer of another session, for which none waits.

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// A pendingCall is a call of ours in flight. The session's mu guards it.
type pendingCall struct {
	seq      uint64 // its number at the peer
	method   string
	request  message // of ask: as it is sent
	result   any
	err      error
	finished bool
	parked   bool          // its goroutine waits on wake
	idle     bool          // its goroutine must not become the reader: it may give up at any moment
	wake     chan struct{} // holds one: finished, a part has come, or it is to read

	part    func(value document) error // handles a part; nil if none were asked for
	parts   []document                 // parts that have come and not been handled
	waiting int                        // the bytes of parts
	room    chan struct{}              // holds one: parts have been handled

	passed *call             // the call that is forwarded, for which no goroutine waits; or nil
	stream *stream           // its parts; nil if its caller wants none
	done   func(failed bool) // of that call, see provider
}

var pendingCalls = sync.Pool{New: func() any { return &pendingCall{wake: make(chan struct{}, 1)} }}

// ask calls a method of the peer and decodes its result into result, a pointer, or drops it if result is nil. A fault of
// the peer is returned unchanged. If ctx ends first, the call is withdrawn: the peer is not told of a deadline, since strict
// servers refuse a request with members of our own. part, if it is not nil, gets the parts of the answer in order before
// ask returns. While it handles them, nothing else is read from the peer.
func (s *session) ask(ctx context.Context, name string, arg, result any, part func(value document) error) error {
	if err := ctx.Err(); err != nil {
		return asFault(err)
	}
	a := pendingCalls.Get().(*pendingCall)
	wake := a.wake
	a.method, a.result, a.part = name, result, part
	if part != nil {
		a.room = make(chan struct{}, 1)
	}
	seq, crowded, err := s.enlist(a)
	if err != nil {
		return err
	}
	a.request = message{kind: request, id: callID{seq: seq}, method: name}
	if part != nil {
		a.request.parts = strconv.FormatUint(seq, 10)
	}
	if err := s.send(ctx, &a.request, arg); err != nil {
		s.update(func(st *sessionState) { st.take(seq) })
		return err
	}
	if crowded {
		runtime.Gosched() // so that other calls about to be sent share the write
	}
	switch {
	case part != nil || ctx.Done() != nil && !s.in.canNudge():
		s.flushUntil(ctx)
		return s.waitForParts(ctx, seq, a)
	case ctx.Done() != nil:
		s.flushNow()
		err = s.out.failed()
	default:
		err = s.out.flush()
	}
	if err != nil {
		s.fail(err)
	}
	err = s.wait(ctx, seq, a)
	if ctx.Err() == nil { // otherwise it may still be woken
		*a = pendingCall{wake: wake} // whoever waits for its reuse must not keep our result
		pendingCalls.Put(a)
	}
	return err
}

// post sends a notification. It never blocks: if the peer has too much left to read, post sends nothing and returns an
// error.
func (s *session) post(name string, arg any) error {
	sent, err := s.out.offer(s.codec, &message{kind: notification, method: name}, arg, outputFull)
	switch {
	case err != nil:
		return s.explained(err)
	case !sent:
		return busy("output", outputFull, "the peer does not read")
	}
	s.flushNow()
	return nil
}

// enlist adds a to our calls in flight and returns its number. crowded says that there are others.
func (s *session) enlist(a *pendingCall) (seq uint64, crowded bool, err error) {
	s.update(func(st *sessionState) {
		if st.readErr != nil {
			err = st.readErr
			return
		}
		st.seq++
		a.seq, seq = st.seq, st.seq
		if st.ours == nil {
			st.ours = map[uint64]*pendingCall{}
		}
		st.ours[seq] = a
		st.passes = st.passes || a.passed != nil
		crowded = len(st.ours) > 1
	})
	if err != nil {
		return 0, false, s.explained(err)
	}
	s.readElsewhere(s.inline.Load(), true) // somebody has to read the answer
	return seq, crowded, nil
}

// take removes the call with that number from our calls in flight and returns it, or nil if it is not among them.
func (st *sessionState) take(seq uint64) *pendingCall {
	a := st.ours[seq]
	delete(st.ours, seq)
	return a
}

// explained words an error of the connection for a caller.
func (s *session) explained(err error) error {
	if s.explain == nil || err == nil {
		return err
	}
	return s.explain(err)
}

// send appends a call of ours. It waits while the peer has too much left to read, but no longer than ctx: then nothing was
// appended.
func (s *session) send(ctx context.Context, m *message, arg any) error {
	if ctx.Done() == nil {
		return s.explained(s.out.append(s.codec, m, arg))
	}
	for {
		if sent, err := s.out.offer(s.codec, m, arg, outputFull); sent {
			return s.explained(err)
		}
		if !s.until(ctx, func() { s.out.makeRoom(true) }) {
			return s.explained(net.ErrClosed)
		}
		if ctx.Err() != nil {
			return asFault(context.Cause(ctx))
		}
	}
}

// flushUntil sends what was appended. If ctx ends first, it returns and the sending goes on in the background.
func (s *session) flushUntil(ctx context.Context) {
	s.until(ctx, func() {
		if err := s.out.flush(); err != nil {
			s.fail(err)
		}
	})
}

// until runs f in the background, unless the session is over, and waits for its end or that of ctx. It reports whether it
// runs f.
func (s *session) until(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	if !s.background(func() {
		defer close(done)
		f()
	}) {
		return false
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	return true
}

// background runs f in a goroutine, unless the session is over, and reports whether it does. Whoever closes the session
// waits for f.
func (s *session) background(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDone() {
		return false
	}
	s.wg.Go(f)
	return true
}

// wait returns once a is finished, or withdrawn because ctx has ended. If nobody else reads, it reads, for itself and for others.
func (s *session) wait(ctx context.Context, seq uint64, a *pendingCall) error {
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
			s.readFor(ctx, a)
			s.update(func(st *sessionState) { st.reading, finished = false, a.finished })
			if finished {
				return a.err
			}
		default:
			select {
			case <-a.wake:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return s.withdraw(seq, a, asFault(context.Cause(ctx)))
		}
	}
}

// readFor is read for a, until ctx ends.
func (s *session) readFor(ctx context.Context, a *pendingCall) {
	defer s.in.calm() // a nudge may have been for the reader before, and come too late
	if ctx.Done() == nil {
		s.read(a)
		return
	}
	stop := context.AfterFunc(ctx, s.in.nudge)
	s.read(a)
	stop()
}

// passOnLocked appoints the next reader, if some goroutine is available. There must be no reader.
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

// park notes that the goroutine of a waits on wake. idle says that it must not become the reader.
func (st *sessionState) park(a *pendingCall, idle bool) {
	st.unpark(a)
	a.parked, a.idle = true, idle
	if !idle {
		st.parked++
	}
}

// unpark undoes park.
func (st *sessionState) unpark(a *pendingCall) {
	if a.parked && !a.idle {
		st.parked--
	}
	a.parked = false
}

// wake wakes the goroutine of a if it is parked.
func (st *sessionState) wake(a *pendingCall) {
	if !a.parked {
		return
	}
	st.unpark(a)
	select {
	case a.wake <- struct{}{}:
	default: // it has been woken before, and will look at the state of now
	}
}

// readSteadily has a goroutine read to the end of the stream, in place of callers: where one of them handles parts, for which the reader
// may have to wait, or has given up, so that an answer may come for which nobody waits. Whoever reads is got out of that.
func (s *session) readSteadily() {
	waits := false
	s.update(func(st *sessionState) {
		if !st.steady && st.readErr == nil {
			st.steady, st.waiting = true, true
		}
		waits = st.waiting && st.reading
	})
	if waits {
		s.in.nudge()
	}
}

// waitForParts waits for a or the end of ctx, and handles the parts that come.
func (s *session) waitForParts(ctx context.Context, seq uint64, a *pendingCall) error {
	s.readSteadily()
	for {
		var parts []document
		var finished, there bool
		s.update(func(st *sessionState) {
			parts, a.parts, a.waiting = a.parts, nil, 0
			finished = a.finished
			_, there = st.ours[seq]
			if len(parts) == 0 && !finished {
				st.park(a, true)
			}
		})
		err := a.handle(parts)
		switch {
		case err != nil:
			s.withdraw(seq, a, nil)
			return err // even if the answer has arrived: whoever asked has missed a part
		case len(parts) > 0:
			continue
		case finished:
			return a.err
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			if there {
				return s.withdraw(seq, a, asFault(context.Cause(ctx)))
			}
			<-a.wake // the reader is decoding the answer into our result
		}
	}
}

// handle hands parts to whoever asked. The reader, which may wait for that, goes on in any case.
func (a *pendingCall) handle(parts []document) (err error) {
	for _, p := range parts {
		if err = a.part(p); err != nil {
			break
		}
	}
	if len(parts) > 0 {
		a.letReaderGo()
	}
	return err
}

// letReaderGo lets the reader go on that waits for parts to be handled.
func (a *pendingCall) letReaderGo() {
	select {
	case a.room <- struct{}{}:
	default: // nil for a call without parts
	}
}

// withdraw gives up a with an error, unless its answer has arrived.
func (s *session) withdraw(seq uint64, a *pendingCall, err error) error {
	for {
		var there, finished bool
		s.update(func(st *sessionState) {
			there = st.take(seq) != nil
			st.missed = st.missed || there
			finished = a.finished
			if st.unpark(a); !there && !finished {
				st.park(a, true)
			}
		})
		switch {
		case there:
			a.letReaderGo() // nobody will handle what has come
			s.sendCancel(seq)
			s.readSteadily() // the answer may still come, and hold up those who would read it later if nobody does now
			return err
		case finished:
			return a.err
		}
		<-a.wake // the reader is decoding the answer into our result; a part may wake us before that is done
	}
}

// sendCancel tells the peer that nobody waits for the answer any more. A peer that does not read must not block a caller
// that gives up, and is not told while more than outputMost waits for it.
func (s *session) sendCancel(seq uint64) {
	if sent, err := s.out.offer(s.codec, &message{kind: cancel, id: callID{seq: seq}}, nil, outputMost); sent && err == nil {
		s.flushNow()
	}
}

// deliver gives a response to the call that it answers, and returns that call.
func (s *session) deliver(m *message) (a *pendingCall, _ error) {
	s.update(func(st *sessionState) { a = st.take(m.id.seq) })
	if a == nil {
		return nil, s.stray(m)
	}
	if a.passed != nil {
		a.done(m.fault != nil)
		return a, s.deliverPassed(a, m)
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
		return a, err
	case m.fault != nil:
		s.finishPending(a, m.fault)
	case isFault:
		s.finishPending(a, s.explained(f))
	default:
		s.finishPending(a, nil)
	}
	return a, nil
}

// undelivered gives f to the call whose response could not be read, and returns that call; nil if there is none.
func (s *session) undelivered(m *message, f *fault) (a *pendingCall) {
	s.update(func(st *sessionState) { a = st.take(m.id.seq) })
	switch {
	case a == nil:
	case a.passed != nil:
		a.done(true)
		s.passInstead(a, f)
	default:
		s.finishPending(a, s.explained(f))
	}
	return a
}

// onlyCall returns the number of the one call that an answer can belong to whose id nobody knows; 0 if there are several.
func (s *session) onlyCall() (only uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.state.ours) == 1 && !s.state.missed {
		for only = range s.state.ours {
		}
	}
	return only
}

// stray drops a response that belongs to no call in flight. An error with the id null ends a client: the daemon could
// not read its request.
func (s *session) stray(m *message) error {
	if m.fault != nil && m.id.json == nullID && s.finder == nil {
		return m.fault
	}
	s.log.debug("a response that belongs to no call was dropped")
	return nil
}

func (s *session) finishPending(a *pendingCall, err error) {
	s.update(func(st *sessionState) {
		a.err, a.finished = err, true
		st.wake(a)
	})
}

// orphan ends a call of ours whose connection has ended.
func (s *session) orphan(a *pendingCall, err error) {
	if a.passed != nil {
		a.done(true)
		a.behindParts(func() {
			a.passed.lost(goneFault(s.answerer(a.method)+" has gone; it is not known whether it carried out the call", false))
		})
		return
	}
	s.finishPending(a, s.explained(err))
}

// fail ends all our calls with an error: the connection is unusable.
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
	s.in.stopAt(time.Now())
}

// isEcho reports whether c is a request of ours that has come back, so that the peer must be an echo server.
func (s *session) isEcho(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.state.ours[seqOf([]byte(c.id.json))]
	return a != nil && a.method == c.method
}
