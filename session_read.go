package main

// This file owns the reader of a session: its loop, what becomes of messages that cannot be read, what is flushed before it waits, and
// how another goroutine becomes the reader.

import (
	"errors"
	"io"
)

// read is the loop of the reader. It returns when the stream has ended, when another goroutine has become the reader,
// when mine is answered, or when the input was nudged for it.
func (s *session) read(mine *pendingCall) {
	c := s.spare // reused until a message turns out to be a request
	for {
		if c == nil {
			c = &call{peer: s.peer, from: s}
			s.spare = c
		}
		s.turn.keep(s.unflushed.flush)
		err := s.codec.read(&c.message)
		if err == errNudged {
			if mine != nil {
				return
			}
			s.in.calm() // it was for the reader before
			continue
		}
		if err == nil && c.kind == request && s.isAbandoned() {
			s.stopReading(nil, io.EOF)
			return
		}
		var over *pendingCall
		if err == nil && c.kind == response {
			over, err = s.deliver(&c.message)
		} else if err == nil {
			s.spare = nil
			var reader bool
			reader, err = s.handle(c)
			if c = nil; s.finder == nil {
				s.flushNow() // the input of a client does not flush before it reads
			}
			if !reader {
				return
			}
		}
		if err != nil {
			var bad *badMessage
			if !errors.As(err, &bad) {
				if c == nil {
					c = &call{}
				}
				s.stopReading(&c.message, err)
				return
			}
			if bad.fault.Code == codeBusy && s.isForsaken(bad.m.kind) { // it has waited for memory
				s.stopReading(nil, io.EOF)
				return
			}
			over = s.refuse(&bad.m, bad.fault)
		}
		if mine != nil && over == mine {
			c.message = message{} // it may be long until somebody reads again
			s.unflushed.flush()
			return
		}
	}
}

// refuse does what is due for a message that cannot be read. It returns the call of ours that ends with it, if one does.
func (s *session) refuse(m *message, f *fault) (over *pendingCall) {
	switch {
	case m.kind == response:
		if m.id.json == nullID {
			m.id.seq = s.onlyCall()
		}
		over = s.undelivered(m, f)
	case m.method == "": // JSON.stringify leaves out a result that is undefined
		over = s.undelivered(m, faultf(codeInternal, "the answer has neither a result nor an error"))
	}
	if over != nil {
		return over
	}
	s.note(m, f)
	if m.kind != response && (s.finder != nil || m.method != "") { // a client answers nothing but requests
		s.respondHere(m, f)
		if s.finder == nil { // the input of a client does not flush before it reads
			s.flushNow()
		}
	}
	return nil
}

// note logs that m was refused with f. A limit that m exceeds concerns the administrator, and what is no JSON may have been
// meant as an answer to a client. What a worker prints to its channel concerns whoever looks after the daemon, since the
// worker may not read what it gets back. Everything else concerns the sender, who gets f from a daemon. Whoever finds a limit
// that is reached only for a time has logged that.
func (s *session) note(m *message, f *fault) {
	log := s.log
	s.tellLimit(m.method, s.peer, f)
	if m.method != "" {
		log = log.with("method", m.method)
	}
	switch d := f.data(); {
	case d.Limit != "" && !d.Retry, d.Limit == memoryLimit, d.Limit == userMemoryLimit:
		log.warn("a message was refused", "limit", d.Limit, "max", d.Max)
	case s.finder == nil && f.Code == codeParse:
		log.warn("what came is no message; it was ignored", "error", f)
	case m.method != "":
		log.debug("a call was refused", "error", f)
	case s.registrar != nil:
		log.warn("what came is no message", "error", f)
	default:
		log.debug("bad message", "error", f)
	}
}

// stopReading ends the reading side. If err is a fault and m is not nil, a serving end answers m with it.
func (s *session) stopReading(m *message, err error) {
	s.unflushed.flush()
	defer s.turn.end()
	var f *fault
	cause := err
	if errors.As(err, &f) && m != nil && s.finder != nil {
		s.log.warn("the peer broke the protocol", "error", f)
		s.tellLimit(m.method, s.peer, f)
		s.meter.reject(f)
		s.respond(m, nil, f, 0)
		err = nil
	}
	s.out.flush()
	if ours := s.closing.Load() && isTimeout(cause) && s.out.failed() == nil; s.ended != nil && !ours { // see lingerLocked
		s.ended(err)
	}
	s.update(func(st *sessionState) {
		st.reading = false
		if st.readErr == nil {
			st.readErr = cause
		}
	})
}

// beforeRead sends what the peer may wait for while we wait for more of it. A message that has begun goes on in any case, so
// that parts are acknowledged behind it.
func (s *session) beforeRead(begun bool) {
	if !begun {
		s.acknowledge()
	}
	s.unflushed.flush()
	if s.turn.has.Load() && s.out.flushNow() {
		s.turn.end()
		s.out.flushClaimed()
	}
	s.flushHere()
	s.turn.end()
}

// afterRead implements inputReader.
func (s *session) afterRead() {
	s.turn.take(s.unflushed.flush)
	s.readAt = s.foreman.tick.Load()
}

// leftTicks is how long the reader works on what it has read before it looks whether the peer is still there.
const leftTicks = 20

// isAbandoned reports whether the peer has gone while the reader was busy with what it had sent, a batch that takes long. Nobody is
// there for the answers then. Notifications have none: whoever sends them need not stay.
func (s *session) isAbandoned() bool {
	now := s.foreman.tick.Load()
	if s.left == nil || now-s.readAt < leftTicks {
		return false
	}
	s.readAt = now
	return s.left()
}

// flushHere is flush for the reader; see output.flushHere.
func (s *session) flushHere() {
	if s.asking.Load() {
		s.flushNow()
	} else if s.out.flushHere() {
		s.wg.Go(s.out.flushClaimed) // the session is not over while it is read
	}
}

// flush sends the answers that were appended.
func (s *session) flush() {
	if s.asking.Load() {
		s.flushNow()
		return
	}
	s.out.flush()
}

// flushNow flushes without blocking: what the peer has no room for, another goroutine sends.
func (s *session) flushNow() {
	s.mu.Lock()
	if s.isDone() {
		s.mu.Unlock()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	if !s.out.flushNow() {
		s.wg.Done()
		return
	}
	go func() {
		defer s.wg.Done()
		s.out.flushClaimed()
	}()
}

// flushAside flushes in another goroutine, so that what is appended meanwhile shares the write.
func (s *session) flushAside() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDone() || !s.out.claim() {
		return
	}
	s.wg.Go(s.out.flushClaimed)
}

// flushSoon is flushAside if other calls are in flight, for which more is to be appended soon, and flushNow otherwise.
// A reader leaves it for later.
func (s *session) flushSoon(u *unflushed, others bool) {
	switch {
	case u != nil:
		u.add(s)
	case others:
		s.flushAside()
	default:
		s.flushNow()
	}
}

// readElsewhere makes a new goroutine the reader if the reader is running c. It reports whether it was. If it need not be, too
// many calls that run aside are in the way, too: then nothing more is read.
func (s *session) readElsewhere(c *call, must bool) bool {
	if c == nil {
		return false
	}
	u := s.turn.user.Load()
	if s.goAside(c, u, must) != nil {
		return false
	}
	if !s.inline.CompareAndSwap(c, nil) {
		s.comeBack(c, u)
		return false
	}
	go s.read(nil)
	return true
}
