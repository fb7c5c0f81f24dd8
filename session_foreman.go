package main

// This file owns the foreman, who sees to it that a slow method holds up nobody but its caller.

import (
	"sync"
	"time"
)

const (
	foremanTick = time.Millisecond // a method that runs for longer may hold up others
	foremanRest = 50               // ticks without a call after which a session is not watched
	slowCalls   = 64               // quick calls after which a slow method is trusted again
)

// A foreman walks by all sessions that have calls, once a tick, and takes the reading away
// from a reader that has been in the same method since the last round.
type foreman struct {
	mu       sync.Mutex
	sessions map[*session]*round
}

// A round is what the foreman saw of a session the last time.
type round struct {
	call   *call
	served uint32
	quiet  int
}

// watch puts the session on the foreman's way. The foreman goes home when nothing is left.
func (f *foreman) watch(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.watched.CompareAndSwap(false, true) {
		return
	}
	if f.sessions == nil {
		f.sessions = map[*session]*round{}
	}
	f.sessions[s] = &round{}
	if len(f.sessions) == 1 {
		go f.walk()
	}
}

func (f *foreman) walk() {
	tick := time.NewTicker(foremanTick)
	defer tick.Stop()
	for range tick.C {
		f.mu.Lock()
		for s, r := range f.sessions {
			if !s.inspect(r) {
				delete(f.sessions, s)
				s.watched.Store(false)
				if s.inline.Load() != nil { // it began one just now, and saw itself watched
					s.watched.Store(true)
					f.sessions[s] = &round{}
				}
			}
		}
		empty := len(f.sessions) == 0
		f.mu.Unlock()
		if empty {
			return
		}
	}
}

// inspect is one look at a session. It returns false when there is nothing more to watch.
func (s *session) inspect(r *round) bool {
	c, served := s.inline.Load(), s.served.Load()
	if c != nil && c == r.call && s.readElsewhere(c) {
		c.m.slow.Store(slowCalls)
	}
	if served == r.served {
		r.quiet++
	} else {
		r.quiet = 0
	}
	r.call, r.served = c, served
	return r.quiet < foremanRest
}
