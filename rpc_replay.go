package main

// This file owns the events that are kept, and how a subscriber gets those that were published before it came.

import (
	"cmp"
	"maps"
	"slices"
)

// An archive keeps the last events of the topics that match a pattern.
type archive struct {
	pattern string
	most    int // events
	bytes   int // that they may cost together

	events []*event // oldest first
	held   int      // what they cost
	floor  uint64   // it has every event of its topics with a higher number
}

// take implements sink.
func (a *archive) take(e *event) {
	a.events = append(a.events, e)
	a.held += e.cost()
	a.trim()
}

// trim drops the oldest events where there are too many. One is always kept.
func (a *archive) trim() {
	for n := len(a.events); n > 1 && (n > a.most || a.held > a.bytes); n-- {
		a.held -= a.events[0].cost()
		a.floor = a.events[0].number
		a.events[0] = nil
		a.events = a.events[1:]
	}
}

// keep replaces what events are kept of. What goes on being kept of a pattern stays.
func (h *hub) keep(topics []topicSettings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := map[string]*archive{}
	for _, a := range h.kept {
		before[a.pattern] = a
		h.sinks.remove(a.pattern, a)
	}
	h.kept = nil
	for _, t := range topics {
		a := cmp.Or(before[t.Name], &archive{pattern: t.Name, floor: h.last})
		a.most, a.bytes = t.Keep, h.limits.MaxKept
		a.trim()
		h.kept = append(h.kept, a)
		h.sinks.add(t.Name, a)
	}
}

// A replay is what a subscriber gets of events that were published before it came, in batches: what is kept meanwhile may be
// dropped before the subscriber has read so far.
type replay struct {
	behind  uint64 // the number of the last event that it has passed
	until   uint64 // that of the last event that is its concern; later ones come as they are published
	told    uint64 // up to where the subscriber knows that something may be missing
	strange bool   // the subscriber has said a place that this hub does not know, and has not been told
	batch   []*event
}

// next returns what comes next, or nil at the end.
func (r *replay) next(s *subscription) (value document, last uint64) {
	for len(r.batch) == 0 {
		if r.behind == r.until && !r.strange {
			return nil, 0
		}
		if gap, before := s.hub.replay(s, r); gap {
			return s.hub.missed(nullID, before), before
		}
	}
	e := r.batch[0]
	r.batch = r.batch[1:]
	return e.value, e.number
}

// replayStep is how many events of an archive are looked at under one lock.
const replayStep = 1000

// replay fills the next batch of r. gap says that something may be missing in front of it, up to the event before.
func (h *hub) replay(s *subscription, r *replay) (gap bool, before uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	complete := r.until // the batch has everything up to that one
	found := map[uint64]*event{}
	for _, a := range h.kept {
		at, _ := slices.BinarySearchFunc(a.events, r.behind+1, func(e *event, n uint64) int { return cmp.Compare(e.number, n) })
		held := 0
		for i, e := range a.events[at:] {
			if e.number > complete {
				break
			}
			if i == replayStep || held > s.most {
				complete = e.number - 1
				break
			}
			if slices.ContainsFunc(s.where, func(p string) bool { return covers(p, e.topic) }) {
				found[e.number] = e
				held += e.cost()
			}
		}
	}
	maps.DeleteFunc(found, func(n uint64, _ *event) bool { return n > complete })
	for _, n := range slices.Sorted(maps.Keys(found)) {
		r.batch = append(r.batch, found[n])
	}
	before = complete
	if len(r.batch) > 0 {
		before = r.batch[0].number - 1
	}
	lacks := min(h.floorOf(s.where), r.until)
	gap = lacks > r.told || r.strange
	r.told, r.strange, r.behind = max(r.told, lacks), false, complete
	return gap, before
}

// floorOf returns the number behind which every event that matches one of the patterns is kept.
func (h *hub) floorOf(patterns []string) (floor uint64) {
	for _, p := range patterns {
		least := h.last
		for _, a := range h.kept {
			if covers(a.pattern, p) {
				least = min(least, a.floor)
			}
		}
		floor = max(floor, least)
	}
	return floor
}
