package main

// This file owns the parts of answers on the wire: those that go to the peer for its calls, those that come from it for
// ours, and the acknowledgements of both. What waits for a caller to take it is in rpc_stream.go.

import (
	"bytes"
	"net"
	"strconv"
	"time"
)

// part implements responder. What a method of this process sends goes at once; a provider may have sent more, and of events there
// may be more, which then shares the write.
func (s *session) part(c *call, value document, workDone bool, u *unflushed) (sent bool, err error) {
	token := c.parts
	if workDone && c.workDone != "" {
		token = c.workDone
	}
	sent, err = c.inTurn(func() (bool, error) {
		if !c.flow.take(len(value)) {
			return false, nil
		}
		promised, full := s.out.promise(len(value), nil)
		if full != nil {
			c.flow.putBack(len(value))
			return false, nil
		}
		m := message{kind: progress, method: c.method, parts: token, credit: promised}
		sent, err := s.out.offer(s.codec, &m, value, outputFull)
		if !sent {
			s.out.renounce(promised)
		}
		if !sent || err != nil {
			c.flow.putBack(len(value))
		}
		return sent && err == nil, err
	})
	if sent {
		s.flushSoon(u, c.m.forward != nil || c.m.endless)
	}
	return sent, err
}

// awaitRoom implements responder.
func (s *session) awaitRoom(c *call, n int) error {
	if c.flow.isBlocked() {
		idle := time.NewTimer(s.limits.StreamIdle)
		defer idle.Stop()
		select {
		case <-c.flow.room:
			return nil
		case <-c.Done():
			return c.overBy()
		case <-idle.C:
			return busy("stream_idle", s.limits.StreamIdle.Milliseconds(), "no part of the answer was acknowledged for too long")
		}
	}
	if !s.until(c, func() { s.out.makeRoom(false) }) {
		return net.ErrClosed
	}
	if c.Err() != nil {
		return c.overBy()
	}
	return s.awaitMemory(c, n)
}

// unreadLook is how often a part looks whether there is room for it, where others of its user have it.
const unreadLook = 200 * time.Millisecond

// awaitMemory waits until the user has room for n bytes more that are not read.
func (s *session) awaitMemory(c *call, n int) error {
	if s.out.mayPromise(n) {
		return nil
	}
	look := time.NewTicker(unreadLook)
	defer look.Stop()
	for !s.out.mayPromise(n) {
		select {
		case <-look.C:
		case <-c.Done():
			return c.overBy()
		}
	}
	return nil
}

// takeCredit notes that the peer has taken parts of an answer to it, as the argument of a $/credit says.
func (s *session) takeCredit(argument document) {
	token, parts, ok := creditOf(argument)
	if !ok {
		return
	}
	s.mu.Lock()
	c := s.state.byToken(token)
	s.mu.Unlock()
	if c != nil {
		c.flow.heardOf(parts)
	}
}

// accountOf is the account of the caller of c, or nil.
func accountOf(c *call) *account {
	from, ok := c.from.(*session)
	if !ok {
		return nil
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	return from.in.account
}

// newStream returns the stream of the parts of the answer to a, which is about to be forwarded. heeded says that the peer
// heeds acknowledgements.
func (s *session) newStream(a *pendingCall, heeded bool) *stream {
	st := &stream{c: a.passed, account: accountOf(a.passed), window: s.limits.StreamWindow, heeded: heeded}
	if heeded {
		st.credit = func(parts int, u *unflushed) bool {
			m := message{kind: credit, parts: strconv.FormatUint(a.seq, 10), credit: parts}
			sent, err := s.out.offer(s.codec, &m, nil, s.limits.MaxMessage+outputMost)
			if sent && err == nil {
				s.flushSoon(u, true)
			} else {
				s.credits.Store(true) // again, once it has read something and answered
			}
			return sent
		}
	}
	return st
}

// acknowledge tells the peer which parts of its answers to us have been taken, before we wait for more of them.
func (s *session) acknowledge() {
	if !s.credits.Load() || !s.credits.Swap(false) {
		return
	}
	s.mu.Lock()
	var streams []*stream
	for _, a := range s.state.ours {
		if a.stream != nil {
			streams = append(streams, a.stream)
		}
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.tell(&s.unflushed)
	}
}

// takePart gives a part of an answer, in the params of a $/progress, to the call that it belongs to.
func (s *session) takePart(params document) {
	token, workDone, value, ok := progressOf(params)
	if !ok {
		return
	}
	var to *stream
	var full chan struct{}
	s.update(func(st *sessionState) {
		switch a := st.ours[token]; {
		case a == nil:
		case a.stream != nil && a.stream.heeded && workDone: // it was given one token
		case a.stream != nil:
			to = a.stream
		case a.part != nil:
			a.parts, a.waiting = append(a.parts, bytes.Clone(value)), a.waiting+len(value)
			if a.waiting > s.limits.StreamWindow {
				full = a.room
			}
			st.wake(a)
		}
	})
	switch {
	case full != nil: // the peer is not read until they have been handled
		s.unflushed.flush()
		<-full
	case to != nil:
		if err := to.add(value, workDone, &s.unflushed); err != nil {
			to.c.fail(err)
		} else if to.heeded {
			s.credits.Store(true)
		}
	}
}
