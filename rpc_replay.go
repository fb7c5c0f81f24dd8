package main

// This file owns the events that are kept, and how a subscriber gets those that were published before it came.

import (
	"cmp"
	"context"
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
	if e.value == nil {
		a.floor = e.number
		return
	}
	a.events = append(a.events, e)
	a.held += e.cost()
	a.trim()
}

// trim drops the oldest events where there are too many. One is always kept.
func (a *archive) trim() {
	for n := len(a.events); n > 1 && (n > a.most || a.held > a.bytes); n-- {
		a.held -= a.events[0].cost()
		a.floor = max(a.floor, a.events[0].number)
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
		h.keepers.remove(a.pattern, a)
	}
	h.kept = nil
	for _, t := range topics {
		a := cmp.Or(before[t.Name], &archive{pattern: t.Name, floor: h.last})
		a.most, a.bytes = t.Keep, h.limits.MaxKept
		a.trim()
		h.kept = append(h.kept, a)
		h.keepers.add(t.Name, a)
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
	held    int        // what the batch costs, what has been taken of it included
	wanted  *topicTree // finds whether an event is wanted; nil before it is needed
}

// next returns what comes next, or nil at the end and once ctx has ended.
func (r *replay) next(ctx context.Context, s *subscription) (value document, last uint64) {
	for len(r.batch) == 0 {
		r.drop(s.reader) // the last of it has been delivered
		if r.behind == r.until && !r.strange {
			r.wanted = nil
			return nil, 0
		}
		if ctx.Err() != nil { // much may be kept that is not wanted
			return nil, 0
		}
		list, last := s.hub.stocks(r.behind)
		if gap, before := r.fill(s, list, last); gap {
			return s.hub.missed(nullID, before), before
		}
	}
	e := r.batch[0]
	r.batch = r.batch[1:]
	return e.value, e.number
}

// drop gives back what the batch has held of the user.
func (r *replay) drop(of *reader) {
	if r.held > 0 {
		of.release(r.held)
		r.batch, r.held = nil, 0
	}
}

// replayStep is how many events of an archive are looked at in one step.
const replayStep = 1000

// A stock is what an archive has.
type stock struct {
	pattern string
	events  []*event // some of them, oldest first
	floor   uint64
}

// stocks returns what the archives have behind an event: replayStep events and one more. It is a copy, since they drop what is old.
func (h *hub) stocks(behind uint64) (list []stock, last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.kept {
		at, _ := slices.BinarySearchFunc(a.events, behind+1, func(e *event, n uint64) int { return cmp.Compare(e.number, n) })
		list = append(list, stock{a.pattern, slices.Clone(a.events[at:min(at+replayStep+1, len(a.events))]), a.floor})
	}
	return list, h.last
}

// fill fills the next batch with what list has, which begins behind r.behind; last is the number of the last event. gap says that
// something may be missing in front of the batch, up to the event before.
func (r *replay) fill(s *subscription, list []stock, last uint64) (gap bool, before uint64) {
	s.reader.looking.Lock() // however many subscriptions of a user begin at once: others find a processor
	defer s.reader.looking.Unlock()
	if r.wanted == nil {
		r.wanted = &topicTree{}
		for _, p := range s.where {
			r.wanted.add(p, nil)
		}
	}
	complete := r.until // the batch has everything up to that one
	found := map[uint64]*event{}
	for _, kept := range list {
		held := 0
		for i, e := range kept.events {
			if e.number > complete {
				break
			}
			if i == replayStep || held > s.most {
				complete = e.number - 1
				break
			}
			if r.wanted.has(e.topic) {
				found[e.number] = e
				held += e.cost()
			}
		}
	}
	maps.DeleteFunc(found, func(n uint64, _ *event) bool { return n > complete })
	lost := false
	for _, n := range slices.Sorted(maps.Keys(found)) {
		if cost := found[n].cost(); s.reader.hold(cost) {
			r.batch = append(r.batch, found[n])
			r.held += cost
			continue
		}
		if lost = len(r.batch) == 0; !lost { // otherwise what there is no room for is missing
			complete = n - 1
		}
		break
	}
	before = complete
	if len(r.batch) > 0 {
		before = r.batch[0].number - 1
	}
	lacks := min(floorOf(list, s.where, last), r.until)
	gap = lacks > r.told || r.strange || lost
	r.told, r.strange, r.behind = max(r.told, lacks), false, complete
	return gap, before
}

// floorOf returns the number behind which every event that matches one of the patterns is kept, with last for that of the last event.
func floorOf(list []stock, patterns []string, last uint64) (floor uint64) {
	for _, p := range patterns {
		least := last
		for _, kept := range list {
			if covers(kept.pattern, p) {
				least = min(least, kept.floor)
			}
		}
		floor = max(floor, least)
	}
	return floor
}
