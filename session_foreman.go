package main

// This file owns the foreman, which keeps a slow method from blocking anyone but its caller.

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	foremanTick = time.Millisecond // a method that runs for longer counts as slow
	restTicks   = 4                // between two rounds while no call is seen running and nobody contends
	foremanRest = 50               // after so many ticks without a call a beat is no longer watched
	slowCalls   = 64               // after so many quick calls a slow method may run in the reader again
)

// A foreman inspects the beats of all busy sessions in rounds. If a reader has been in the same method since the last round, it
// makes another goroutine the reader. It also moves the turns on. A round wakes up a thread, which costs a busy daemon as much as
// some calls: there is one for each tick only where the one before has seen a call running, or turns are contended for.
type foreman struct {
	turns
	ceiling
	mu    sync.Mutex
	beats map[*beat]*round
	walks bool
	clock *time.Ticker
	pace  int // ticks between two rounds
}

// A beat is where the foreman finds a session at work: one of its own, or, over HTTP, that of the request in progress.
type beat struct {
	session atomic.Pointer[session]
	watched atomic.Bool // the foreman has it on its list
}

// A round is what the foreman saw at a beat in the last round.
type round struct {
	call   *call
	served uint32
	quiet  int // ticks without a call
}

// watch adds p to the rounds. walk ends when no beat is left.
func (f *foreman) watch(p *beat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !p.watched.CompareAndSwap(false, true) {
		return
	}
	if f.beats == nil {
		f.beats = map[*beat]*round{}
	}
	f.beats[p] = &round{}
	f.walkLocked()
}

func (f *foreman) walkLocked() {
	if !f.walks {
		f.walks, f.pace, f.clock = true, 1, time.NewTicker(foremanTick)
		go f.walk(f.clock)
	}
}

// paceLocked sets how many ticks there are between two rounds.
func (f *foreman) paceLocked(ticks int) {
	if f.pace != ticks {
		f.pace = ticks
		f.clock.Reset(time.Duration(ticks) * foremanTick)
	}
}

func (f *foreman) walk(clock *time.Ticker) {
	defer clock.Stop()
	for range clock.C {
		f.mu.Lock()
		ticks, next := f.pace, restTicks
		for p, r := range f.beats {
			if !p.inspect(r, ticks) {
				delete(f.beats, p)
				p.watched.Store(false)
				if s := p.session.Load(); s != nil && s.inline.Load() != nil { // it has just begun a call, while it still seemed to be watched
					p.watched.Store(true)
					f.beats[p] = &round{}
				}
			}
			if r.call != nil {
				next = 1
			}
		}
		f.walks = f.turnLocked(ticks) || len(f.beats) > 0
		if f.contended.Load() {
			next = 1
		}
		f.paceLocked(next)
		goOn := f.walks
		f.mu.Unlock()
		if !goOn {
			return
		}
	}
}

// goAside counts a call of u whose method runs outside of the reader, until comeBack. It refuses it if there are too many, unless it
// must be. Those that do not end by themselves have a limit of their own.
func (s *session) goAside(c *call, u *turnUser, must bool) *fault {
	if u == nil || c.m.endless {
		return nil
	}
	own, all := int(u.aside.Add(1)), int(s.foreman.aside.Add(1))
	var f *fault
	switch l := s.inForce(); {
	case must:
	case own > l.UserCalls:
		f = busy("user_calls", int64(l.UserCalls), "too many calls of this user run at the same time")
	case all > l.Calls:
		f = busy("calls", int64(l.Calls), "too many calls run at the same time")
	}
	if f != nil {
		s.comeBack(c, u)
	}
	return f
}

func (s *session) comeBack(c *call, u *turnUser) {
	if u != nil && !c.m.endless {
		u.aside.Add(-1)
		s.foreman.aside.Add(-1)
	}
}

// inspect looks at a beat, so many ticks after the last time. While the peer of its session has too much left to read, nothing more is read from it: the method may
// be quick, and wait to answer. inspect returns false if the beat need not be watched any more.
func (p *beat) inspect(r *round, ticks int) bool {
	var c *call
	var served uint32
	if s := p.session.Load(); s != nil {
		c, served = s.inline.Load(), s.served.Load()
		if c != nil && c == r.call && !s.out.isFull() && s.readElsewhere(c, false) {
			c.m.slow.Store(slowCalls)
		}
	}
	if served == r.served {
		r.quiet += ticks
	} else {
		r.quiet = 0
	}
	r.call, r.served = c, served
	return r.quiet < foremanRest
}
