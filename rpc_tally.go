package main

// This file owns what is counted of calls by their method: how they ended, and how long they took. A method that has been
// found has its tally at hand, so that a call costs two atomic additions, and one that fails a third. Only what has been
// registered is a name here, never what a caller has written.

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tallyBounds are the upper bounds of the buckets in which durations are counted; the last bucket has none. The first ones are for
// methods of this process, those in the middle for providers, and the last ones for what is waited for.
var tallyBounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, time.Minute,
}

// ownCodes are the codes that are counted each for itself. All others are those of the services.
var ownCodes = [...]int{codeApplication, codeTooLarge, codeBusy, codeShuttingDown, codeDeadline, codeDenied, codeGone, codeHops,
	codeBadArgument, codeNoMethod, codeInternal, codeInvalid, codeParse, codeCancelled}

// codeCounts counts errors by their code; the last place is for all that are not among ownCodes.
type codeCounts [len(ownCodes) + 1]atomic.Int64

func (n *codeCounts) add(code int) {
	at := slices.Index(ownCodes[:], code)
	if at < 0 {
		at = len(ownCodes)
	}
	n[at].Add(1)
}

// A tally is what has become of the calls of one method. What is in it only grows.
type tally struct {
	name    string
	took    [len(tallyBounds) + 1]atomic.Int64
	seconds atomic.Int64 // in all, as a time.Duration
	errors  codeCounts   // added to after took, and read before it, so that there are never more errors than calls
}

// count counts a call that has ended, with f or well.
func (t *tally) count(took time.Duration, f *fault) {
	at := 0
	for at < len(tallyBounds) && took > tallyBounds[at] {
		at++
	}
	t.took[at].Add(1)
	t.seconds.Add(int64(took))
	if f != nil {
		t.errors.add(f.Code)
	}
}

// calls is how many calls have ended.
func (t *tally) calls() (n int64) {
	for i := range t.took {
		n += t.took[i].Load()
	}
	return n
}

// A tallyBook has the tallies of a daemon: one for each method that has been called, up to a number, and one for all others. A
// method that is offered anew goes on with the tally of its name.
type tallyBook struct {
	mu     sync.Mutex // a leaf: nothing is called while it is held
	most   int        // max_metered
	named  map[string]*tally
	others *tally
}

// otherMethods is the name, in figures, of the methods that have no tally of their own. No method can have it.
const otherMethods = "other"

func newTallyBook(most int) *tallyBook {
	return &tallyBook{most: most, named: map[string]*tally{}, others: &tally{name: otherMethods}}
}

// obey puts a new limit into force. Who has a tally keeps it.
func (b *tallyBook) obey(most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.most = most
}

// of returns the tally of a method of a daemon, which has one book.
func (b *tallyBook) of(m *method) *tally {
	if t := m.tally.Load(); t != nil {
		return t
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.named[m.name]
	switch {
	case t != nil:
	case len(b.named) >= b.most:
		return b.others // and ask again next time: the limit may have grown
	default:
		t = &tally{name: m.name}
		b.named[m.name] = t
	}
	m.tally.Store(t)
	return t
}

// all lists the tallies, by name.
func (b *tallyBook) all() []*tally {
	b.mu.Lock()
	list := []*tally{b.others}
	for _, t := range b.named {
		list = append(list, t)
	}
	b.mu.Unlock()
	slices.SortFunc(list, func(x, y *tally) int { return cmp.Compare(x.name, y.name) })
	return list
}
