package main

// This file owns what the connections of users hold in memory: it is counted for each user and for all together, and large
// messages are read within the budgets of both.

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A budget is what all users together hold and may hold.
type budget struct {
	held   atomic.Int64
	read   atomic.Int64 // of these, as in account
	unread atomic.Int64 // likewise
	kept   atomic.Int64 // of these, those that registrations keep
	user   atomic.Int64 // bytes that one user may hold
	every  atomic.Int64 // bytes that all may hold

	mu      sync.Mutex
	growing []*input      // those in the middle of a large message; the one that began first comes first
	waiting atomic.Int32  // how many of them wait for room
	freed   chan struct{} // closed, and replaced, when there may be room for one that waits
	wait    time.Duration // budgetWait
}

func newBudget(l limits) *budget {
	b := &budget{freed: make(chan struct{}), wait: budgetWait}
	b.obey(l)
	return b
}

// obey puts limits into force.
func (b *budget) obey(l limits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.user.Store(int64(l.UserMemory))
	b.every.Store(int64(l.Memory))
	b.wakeLocked()
}

func (b *budget) wakeLocked() {
	if b.waiting.Load() > 0 {
		close(b.freed)
		b.freed = make(chan struct{})
	}
}

// An account counts the bytes that the connections of one user hold: input that waits to be parsed, what a codec keeps of it for
// later messages, and output that waits to be read by the peer. A nil account counts nothing.
type account struct {
	*budget // of all users; nil for one that is counted alone
	own     atomic.Int64
	read    atomic.Int64             // of these, those of large messages: their buffers, and what has been made of them
	unread  atomic.Int64             // of these, those that wait for the peer to read them, or for room behind what does
	small   [smallKinds]atomic.Int64 // of these, those of each kind
	methods atomic.Int64             // that the user offers, whose registrations keep small[registrations]
	most    atomic.Int64             // that own may be; 0 for what budget.user says
	first   []*input                 // as in budget, of this user; guarded by the lock of the budget
}

// accountStep is how much output may wait before the account is told. Small messages, which are soon gone, would otherwise
// have all connections of a user contend for one counter.
const accountStep = 4 << 10

func (a *account) hold(n int) {
	if a == nil || n == 0 {
		return
	}
	a.own.Add(int64(n))
	if a.budget == nil {
		return
	}
	a.budget.held.Add(int64(n))
	if n < 0 && a.waiting.Load() > 0 {
		a.mu.Lock()
		a.wakeLocked()
		a.mu.Unlock()
	}
}

func (a *account) release(n int) { a.hold(-n) }

// holdRead is hold for what has been made of a large message.
func (a *account) holdRead(n int) {
	a.noteRead(n)
	a.hold(n)
}

// noteRead notes that n bytes of what is held are those of large messages, before it is.
func (a *account) noteRead(n int) {
	if a == nil || n == 0 {
		return
	}
	a.read.Add(int64(n))
	if a.budget != nil {
		a.budget.read.Add(int64(n))
	}
}

// limit is what the user may hold.
func (a *account) limit() int64 { return cmp.Or(a.most.Load(), a.user.Load()) }

// What is small is never waited for. There is room for each kind of it as long as that alone does not take what the user may hold.
type smallKind int

const (
	smallCalls    smallKind = iota // the arguments of small calls that run
	smallParts                     // parts of answers that wait for their callers
	keptTypes                      // types that the gob of connections has defined, as long as these last
	unsentCalls                    // the arguments of calls, also of large ones, that wait for a provider to read them
	registrations                  // what providers have said of their methods, for as long as they offer them; see keep
	smallKinds
)

// tell has the account know that so many bytes of a kind are held by now, and returns what it knows. It is told in steps, and of the end.
func (a *account) tell(of smallKind, held, told int) int {
	d := held - told
	if d == 0 || a == nil || held > 0 && d > -accountStep && d < accountStep {
		return told
	}
	return a.tellAll(of, held, told)
}

// tellAll is tell not in steps.
func (a *account) tellAll(of smallKind, held, told int) int {
	if a != nil {
		a.small[of].Add(int64(held - told))
		a.hold(held - told)
	}
	return held
}

// hasAll reports whether there is room for no more of a kind.
func (a *account) hasAll(of smallKind) bool {
	return a != nil && a.budget != nil && a.small[of].Load() > a.limit()
}

// A keeping is what a registration keeps in the account of its user until it ends. Nil is nothing.
type keeping struct {
	of             *account
	bytes, methods int64
}

// keep is hold for what a registration keeps, in place of old, which is released once that has been replaced. Registrations stay: so
// that there is room for messages beside them, those of a user may take half of what they may hold, and those of all half of memory,
// save for those who have but little of it. Of methods there may be most.
func (a *account) keep(bytes, methods, most int64, old *keeping) (*keeping, *fault) {
	k := &keeping{of: a, bytes: bytes, methods: methods}
	b := a.budget
	own, all, offered := a.small[registrations].Add(bytes), b.kept.Add(bytes), a.methods.Add(methods)
	a.hold(int(bytes))
	if old != nil {
		all -= old.bytes
		if old.of == a {
			own, offered = own-old.bytes, offered-old.methods
		}
	}
	each, every := a.limit(), b.every.Load()
	var f *fault
	switch {
	case methods > most:
		f = tooLarge(userMethodsLimit, most, "a provider of "+strconv.FormatInt(methods, 10)+" methods")
	case bytes > each/2:
		f = tooLarge(userMemoryLimit, each, "a registration that takes "+strconv.FormatInt(bytes, 10)+" bytes of memory, more than half of what a user may hold")
	case offered > most:
		f = busy(userMethodsLimit, most, "this user offers too many methods")
	case own > each/2:
		f = busy(userMemoryLimit, each, "what this user has registered takes more than half of the memory that a user may hold")
	case all > every/2 && own > each/8:
		f = busy(memoryLimit, every, "what all users have registered takes more than half of the memory that all may hold")
	}
	if f != nil {
		k.release()
		return nil, f
	}
	return k, nil
}

func (k *keeping) release() {
	if k == nil {
		return
	}
	k.of.small[registrations].Add(-k.bytes)
	k.of.kept.Add(-k.bytes)
	k.of.methods.Add(-k.methods)
	k.of.release(int(k.bytes))
}

// holdUnread is hold for what waits to be read.
func (a *account) holdUnread(n int) {
	if a == nil || n == 0 {
		return
	}
	a.unread.Add(int64(n))
	if a.budget != nil {
		a.budget.unread.Add(int64(n))
	}
	a.hold(n)
}

// owe is holdUnread if there is room for n bytes more. There always is for a user for whom nothing waits. Otherwise all that waits for
// them may be what they may hold, apart from all else, and what waits for everybody no more than memory, save for those who have but
// little of it.
func (a *account) owe(n int) *fault {
	if a == nil || a.budget == nil {
		a.holdUnread(n)
		return nil
	}
	b := a.budget
	own, all := a.unread.Add(int64(n)), b.unread.Add(int64(n))
	if f := a.unreadLimit(own, all, int64(n)); f != nil {
		a.unread.Add(-int64(n))
		b.unread.Add(-int64(n))
		return f
	}
	a.hold(n)
	return nil
}

// isOwedAll reports whether what waits for the user to read takes more than they may hold.
func (a *account) isOwedAll() bool {
	return a != nil && a.budget != nil && a.unread.Load() > a.limit()
}

// mayOwe reports whether there is room for n bytes more, as far as one can tell.
func (a *account) mayOwe(n int) bool {
	return a == nil || a.budget == nil || a.unreadLimit(a.unread.Load()+int64(n), a.budget.unread.Load()+int64(n), int64(n)) == nil
}

// unreadLimit returns the limit that is exceeded if own bytes wait for the user and all for everybody, n of them anew. Nothing is to be
// sent again for that: the call has been carried out.
func (a *account) unreadLimit(own, all, n int64) *fault {
	if own == n {
		return nil
	}
	most, every := a.limit(), a.every.Load()
	switch {
	case own > most:
		return unreadFault(userMemoryLimit, most, "the answers that this user has not read take too much memory")
	case all > every && own > most/4:
		return unreadFault(memoryLimit, every, "the answers that have not been read take too much memory")
	}
	return nil
}

// unreadFault returns the fault of an answer that has no room.
func unreadFault(limit string, most int64, what string) *fault {
	f := busy(limit, most, "the call was carried out, but "+what)
	f.Data = faultData{Limit: limit, Max: most}.json()
	return f
}

// The limits of budgets, as their errors name them.
const (
	memoryLimit     = "memory"
	userMemoryLimit = "user_memory"

	userMethodsLimit = "user_methods"
)

// budgetWait is how long a message that exceeds a budget waits for room, before it is refused.
const budgetWait = 2 * time.Second

// reserve holds n bytes more for a large message that arrives in in. If that exceeds a budget, it waits for room, where it may,
// and then returns a fault. Of the messages of a user the one that began first goes on beyond the budget of the user, and of all
// messages the one that began first beyond any: so there is always one that comes to its end, whatever those behind it
// hold. But where messages that have come to their end hold a budget alone, above all the arguments of calls that run, none goes on:
// one after the other would go beyond it.
func (a *account) reserve(in *input, n int, mayWait bool) *fault {
	if a == nil || a.budget == nil {
		a.holdRead(n)
		return nil
	}
	if f, _ := a.tryReserve(in, n); f == nil || !mayWait {
		return f
	}
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	late := time.NewTimer(a.wait)
	defer late.Stop()
	for {
		f, freed := a.tryReserve(in, n) // once more: something may have been released before we were among those who wait
		if f == nil {
			return nil
		}
		select {
		case <-freed:
		case <-late.C:
			return f
		}
	}
}

// tryReserve is reserve without waiting. freed is closed when there may be room.
func (a *account) tryReserve(in *input, n int) (f *fault, freed <-chan struct{}) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if !in.growing {
		in.growing = true
		b.growing, a.first = append(b.growing, in), append(a.first, in)
	}
	own, all := a.own.Load()+int64(n), b.held.Load()+int64(n)
	most, every := a.limit(), b.every.Load()
	switch {
	case all <= every && own <= most:
	case b.growing[0] == in && a.mayExceedLocked():
	case all > every:
		return busy(memoryLimit, every, "the messages of all users together take too much memory"), b.freed
	case a.first[0] != in || a.settledLocked() > most:
		return busy(userMemoryLimit, most, "the messages of this user take too much memory"), b.freed
	}
	a.own.Add(int64(n))
	b.held.Add(int64(n))
	a.read.Add(int64(n))
	b.read.Add(int64(n))
	in.size.Add(int64(n))
	return nil, nil
}

// settledLocked is what the user holds of messages that are not on their way any more: the arguments of large calls, until these are
// over, and buffers in which something else has come as well.
func (a *account) settledLocked() int64 { return a.read.Load() - sizeOf(a.first) }

// mayExceedLocked reports whether a message of the user may go beyond the budget of all. Whoever holds little may, even if others
// hold that budget with messages that are not on their way any more.
func (a *account) mayExceedLocked() bool {
	b, most, settled := a.budget, a.limit(), a.settledLocked()
	return settled <= most/4 || settled <= most && b.read.Load()-sizeOf(b.growing) <= b.every.Load()
}

// sizeOf is what messages on their way hold.
func sizeOf(growing []*input) (n int64) {
	for _, in := range growing {
		n += in.size.Load()
	}
	return n
}

// isScarce reports whether the user holds more than the budget, or anybody waits for room.
func (a *account) isScarce() bool {
	return a != nil && a.budget != nil && (a.waiting.Load() > 0 || a.own.Load() > a.limit())
}

// grown notes that the large message in in is over, whatever has become of it.
func (a *account) grown(in *input) {
	in.growing = false
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	same := func(other *input) bool { return other == in }
	b.growing, a.first = slices.DeleteFunc(b.growing, same), slices.DeleteFunc(a.first, same)
	b.wakeLocked()
}
