package main

// This file owns turns: while several users call at once, what is done for each of them is done in turns, so that one user with a
// thousand busy connections leaves another one a fair share of the processors. As long as there is but one user, nobody waits.
//
// The reader of a connection has a turn from when something arrives until it waits for more, and a method that runs aside has one
// of its own. A user has as many turns at a time as there are processors, and an allowance of time for each tick of the foreman:
// what counts is the time, whatever it is spent on, and who has spent the allowance waits for the next one. So the processors have
// nothing to do for a moment of each tick. Go needs that to look for what has arrived from others, see findRunnable in
// runtime/proc.go: it does so when there is nothing else to run, or after 10 ms.

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const (
	turnTime  = 100 * time.Microsecond // how long a reader goes on while others of its user wait: twenty small calls or more
	userRest  = 20                     // after so many ticks without a turn a user no longer counts as one who calls
	mostDebt  = 100 * foremanTick      // what a user has spent beyond the allowance is forgotten beyond that
	mostTicks = 100                    // no turn lasts longer than so many ticks, whatever its owner waits for
)

// A turnUser is what the foreman knows of one user: who works for them, and how much they have spent. Its zero value is ready for use.
// All but the atomics is guarded by the foreman.
type turnUser struct {
	seen      atomic.Uint32 // the tick of its last turn
	aside     atomic.Int32  // its calls whose methods run outside of the readers
	waiting   []*turn       // longest first
	running   int           // turns
	spent     time.Duration // in this tick, and beyond the allowance in those before
	allowance time.Duration // in this tick
}

// A turn is what a goroutine has, or waits for, to work for a user. It can begin any number of times.
type turn struct {
	user    atomic.Pointer[turnUser] // nil for one that is always there; it changes between turns alone
	foreman *foreman                 // of the user
	inline  *atomic.Pointer[call]    // the method that runs, if any, which may wait for something; nil if one always runs
	has     atomic.Bool              // it has begun, or is waited for
	mine    time.Time                // when it began; of its owner

	// The foreman guards what follows.
	given chan struct{} // holds one: it has begun; made when it is first waited for
	began time.Time
	tick  uint32
}

// turns has what is done for users done in turns. All but the atomics is guarded by the lock of the foreman.
type turns struct {
	tick      atomic.Uint32
	contended atomic.Bool  // several users call
	aside     atomic.Int32 // as in turnUser, of all
	calling   []*turnUser  // the users who have had a turn lately
	begun     []*turn
}

// take waits for the turn, if it is contended for and has not begun. before is called if that takes time; it may be nil.
func (t *turn) take(before func()) {
	u := t.user.Load()
	if u == nil {
		return
	}
	f := t.foreman
	if u.seen.Load() != f.tick.Load() {
		f.note(u)
	}
	if !f.contended.Load() || t.has.Load() || !f.ask(t) {
		return
	}
	select {
	case <-t.given:
	default:
		if before != nil {
			before()
		}
		<-t.given
	}
	t.mine = time.Now()
}

// keep is take for whoever may have the turn already, and leaves it to others if it has lasted.
func (t *turn) keep(before func()) {
	if t.user.Load() == nil || !t.foreman.contended.Load() {
		return
	}
	if t.has.Load() {
		if time.Since(t.mine) < turnTime {
			return
		}
		t.end()
	}
	t.take(before)
}

// end ends the turn, if it has begun.
func (t *turn) end() {
	if t.has.Load() {
		t.foreman.end(t)
	}
}

// dropCost is about what it costs to read inputSmall bytes from a socket.
const dropCost = 2 * time.Microsecond

// payFor waits for a turn for what n bytes cost that have been read and are not looked at. The read itself has no turn, since it may
// wait.
func (t *turn) payFor(n int) {
	if n == 0 {
		return
	}
	if t.take(nil); t.has.Load() {
		t.foreman.charge(t.user.Load(), time.Duration(1+n/inputSmall)*dropCost)
		t.end()
	}
}

// charge adds to what u has spent.
func (f *foreman) charge(u *turnUser, cost time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u.spent += cost
}

// note notes that u calls.
func (f *foreman) note(u *turnUser) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteLocked(u)
}

func (f *foreman) noteLocked(u *turnUser) {
	u.seen.Store(f.tick.Load())
	if slices.Contains(f.calling, u) {
		return
	}
	f.calling = append(f.calling, u)
	u.allowance = capacity() / 2
	f.walkLocked()
	if len(f.calling) > 1 {
		f.contended.Store(true)
		f.paceLocked(1)
	}
}

// capacity is what there is to be spent in one tick.
func capacity() time.Duration { return time.Duration(runtime.GOMAXPROCS(0)) * foremanTick }

// ask reports whether t needs a turn. If so, given says when it has begun.
func (f *foreman) ask(t *turn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := t.user.Load()
	f.noteLocked(u) // it may have been forgotten in a long turn
	if !f.contended.Load() {
		return false
	}
	t.has.Store(true)
	if t.given == nil {
		t.given = make(chan struct{}, 1)
	}
	u.waiting = append(u.waiting, t)
	f.goOnLocked(u)
	return true
}

// goOnLocked begins turns of u.
func (f *foreman) goOnLocked(u *turnUser) {
	for len(u.waiting) > 0 && (!f.contended.Load() || u.running < runtime.GOMAXPROCS(0) && u.spent < u.allowance) {
		t := u.waiting[0]
		u.waiting = slices.Delete(u.waiting, 0, 1)
		u.running++
		t.began, t.tick = time.Now(), f.tick.Load()
		f.begun = append(f.begun, t)
		t.given <- struct{}{}
	}
}

// end ends t, and begins others of its user.
func (f *foreman) end(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.begun, t); i >= 0 {
		f.endLocked(i, time.Since(t.began))
		f.goOnLocked(t.user.Load())
	}
}

func (f *foreman) endLocked(i int, spent time.Duration) {
	t := f.begun[i]
	f.begun = slices.Delete(f.begun, i, i+1)
	t.has.Store(false)
	u := t.user.Load()
	u.running--
	u.spent += spent
}

// mayWait reports whether what runs in the turn may wait for something.
func (t *turn) mayWait() bool {
	if t.inline == nil {
		return true
	}
	c := t.inline.Load()
	return c != nil && !c.m.computes
}

// turnLocked ends the turns of methods that have run for longer than a tick, for they may wait for something; forgets the users who
// do not call any more; and gives the others a new allowance. It reports whether there are any.
func (f *foreman) turnLocked(ticks int) bool {
	tick := f.tick.Add(uint32(ticks))
	if tick%measureTicks < uint32(ticks) {
		f.ceiling.measure()
	}
	for i := len(f.begun) - 1; i >= 0; i-- {
		switch t := f.begun[i]; {
		case tick-t.tick > 1 && t.mayWait():
			f.endLocked(i, foremanTick)
		case tick-t.tick > mostTicks:
			f.endLocked(i, mostDebt)
		}
	}
	f.calling = slices.DeleteFunc(f.calling, func(u *turnUser) bool {
		return len(u.waiting)+u.running == 0 && tick-u.seen.Load() > userRest
	})
	f.contended.Store(len(f.calling) > 1)
	f.allowLocked()
	for _, u := range f.calling {
		f.goOnLocked(u)
	}
	return len(f.calling) > 0
}

// allowLocked gives each user an allowance. Those for whom nobody waits need no more than they have spent in the last tick, or a
// bit more; of one half of what there is, the others have what that leaves. But nobody has less than an equal part.
func (f *foreman) allowLocked() {
	left, hungry := capacity()/2, time.Duration(0)
	for _, u := range f.calling {
		used := min(u.spent, u.allowance)
		if u.spent = min(u.spent-used, mostDebt); len(u.waiting) > 0 {
			hungry++
		} else {
			left -= 2 * used
		}
	}
	for _, u := range f.calling {
		u.allowance = max(capacity()/time.Duration(len(f.calling)), left/max(1, hungry))
	}
}
