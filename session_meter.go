package main

// This file owns what a daemon counts: what Ipcd.Status and Ipcd.Stats report of connections, calls and limits. Calls by their
// method are in rpc_tally.go.

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// A meter counts. What it counts only grows, save for what is open now.
type meter struct {
	connections atomic.Int64 // open now
	accepted    atomic.Int64
	refused     atomic.Int64
	calls       atomic.Int64 // begun
	errors      atomic.Int64 // of these, answered with an error
	rejected    atomic.Int64 // messages that were answered with an error and began no call
	panics      atomic.Int64 // of methods
	rejections  codeCounts   // rejected, by code

	epoch time.Time  // when it began: the zero of its clock
	book  *tallyBook // nil for a meter of whose calls nobody asks

	mu    sync.Mutex
	limit map[string]int64 // how often each was reached
}

// newMeter returns a meter that counts calls by method in book, unless that is nil.
func newMeter(book *tallyBook) *meter { return &meter{epoch: time.Now(), book: book} }

// now is the time since the epoch. To read it costs half of what time.Now does.
func (m *meter) now() time.Duration { return time.Since(m.epoch) }

// ended counts a call that is over, with f or well, and returns how long it took. It is over for whoever made it: a method that goes
// on behind its answer takes no longer.
func (m *meter) ended(c *call, f *fault) time.Duration {
	took := m.now() - c.began
	if m.book != nil {
		m.book.of(c.m).count(took, f)
	}
	if f != nil {
		m.errors.Add(1)
	}
	return took
}

// failed counts that a call that was counted as one that ended well was answered with f after all.
func (m *meter) failed(c *call, f *fault) {
	if m.book != nil {
		m.book.of(c.m).errors.add(f.Code)
	}
	m.errors.Add(1)
}

// reject counts a message that was answered with f and began no call.
func (m *meter) reject(f *fault) {
	m.rejections.add(f.Code)
	m.rejected.Add(1)
}

// mostLimits is how many limits are counted by name; we have about 25.
const mostLimits = 100

// reach counts that a limit was reached.
func (m *meter) reach(limit string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit == nil {
		m.limit = map[string]int64{}
	}
	if _, known := m.limit[limit]; known || len(m.limit) < mostLimits {
		m.limit[limit]++
	}
}

// reached returns how often each limit was reached, of those that ever were.
func (m *meter) reached() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.limit)
}

// tellLimit counts and publishes that a limit of ours was reached, if f says so. A sharing without events does neither: somebody
// else has.
func (sh *shared) tellLimit(method string, p *peer, f *fault) {
	switch f.Code {
	case codeTooLarge, codeBusy, codeHops:
		if d := f.data(); d.Limit != "" && sh.events != nil {
			sh.meter.reach(d.Limit)
			sh.events.tell("limit."+d.Limit, func() any { return LimitEvent{d.Limit, d.Max, shorten(method, 100), p.name()} })
		}
	}
}

// tellLate returns what counts and publishes that a peer is given up that has not read for as long as a limit says.
func (sh *shared) tellLate(p *peer) func(limit string, most time.Duration) {
	return func(limit string, most time.Duration) {
		if sh.events != nil {
			sh.meter.reach(limit)
			sh.events.tell("limit."+limit, func() any { return LimitEvent{Limit: limit, Max: most.Milliseconds(), Peer: p.name()} })
		}
	}
}

// A LimitEvent is the data of the events that are published when a limit is reached.
type LimitEvent struct {
	Limit  string `json:"limit"`
	Max    int64  `json:"max"`
	Method string `json:"method,omitempty"`
	Peer   string `json:"peer,omitempty"`
}
