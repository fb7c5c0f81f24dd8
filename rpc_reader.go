package main

// This file owns what events cost the user who subscribes and does not read them: an event in many queues of one user counts once,
// and each of its places in a queue counts.

import (
	"sync"
	"sync/atomic"
)

// A reader is a user who has subscribed, and what waits in the queues of all their subscriptions.
type reader struct {
	hub     *hub
	account *account // that knows of what waits; nil for a user who has none

	patterns int        // that they have subscribed to; guarded by hub.mu
	latest   *share     // of the event that their queues are given; guarded by hub.turn, as the next
	own      *share     // likewise, of the daemon's own event
	looking  sync.Mutex // one of their subscriptions at a time looks at what is kept

	held atomic.Int64 // bytes

	mu   sync.Mutex
	told atomic.Int64 // of held, what the hub and the account know of; changes under mu
}

// A share is an event in the queues of one user.
type share struct {
	*event
	reader *reader
	places atomic.Int32 // queues that have it, and subscribers who have not done with it
}

// A place in a queue takes 24 bytes, and queues grow by more than what they need. Places are counted by placeStep at once: of a queue
// that is read, none is.
const (
	placeCost = 48
	placeStep = 16
)

// share returns e for one more queue of the user, or nil if it has no room. The caller has its turn.
func (r *reader) share(e *event) *share {
	at := &r.latest
	if e.told > 0 {
		at = &r.own
	}
	s := *at
	if s == nil {
		if s = &e.first; s.reader != nil {
			s = &share{}
		}
		s.event, s.reader = e, r
		if *at = s; e.told == 0 {
			r.hub.reached = append(r.hub.reached, r)
		}
	}
	if s.places.Add(1) == 1 && !r.hold(e.cost()) { // nobody else adds, so that it is the only one still
		s.places.Add(-1)
		return nil
	}
	return s
}

// release gives back a place.
func (s *share) release() {
	if s.places.Add(-1) == 0 {
		s.reader.release(s.cost())
	}
}

// hold counts n bytes more, if there is room for them. There always is for a user for whom nothing waits. Otherwise, all that waits for
// them has to be within user_memory, and no more than what is left of memory by what waits for everybody: however many users do
// not read, one more finds some room.
func (r *reader) hold(n int) bool {
	held := r.held.Add(int64(n))
	if held > int64(n) {
		h, each := r.hub, r.hub.each.Load()
		if r.account != nil {
			each = r.account.limit()
		}
		if all := h.held.Load() - r.told.Load() + held; held > each || held > h.most.Load()-all {
			r.release(n)
			return false
		}
	}
	r.settle()
	return true
}

func (r *reader) release(n int) {
	r.held.Add(-int64(n))
	r.settle()
}

// settle has the hub and the account know of what is held, in steps and of the end, as account.tell does.
func (r *reader) settle() {
	for { // again, if what is held has changed meanwhile, since whoever changed it may have seen what was told before
		held, told := r.held.Load(), r.told.Load()
		if d := held - told; d == 0 || held > 0 && d > -accountStep && d < accountStep {
			return
		}
		r.mu.Lock()
		d := r.held.Load() - r.told.Load()
		r.told.Add(d)
		r.hub.held.Add(d)
		r.account.hold(int(d))
		r.mu.Unlock()
	}
}
