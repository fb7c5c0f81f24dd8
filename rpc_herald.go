package main

// This file owns the daemon's own events. Whoever causes one leaves it to the herald, which publishes them one behind the other: to
// connect, or to call, takes no longer however many have asked to hear of it.

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// A herald has the daemon's own events that are not published yet. They take no more than stream_window bytes; what has no room
// is counted by its topic, in as many bytes again, and is missing behind those that wait.
type herald struct {
	mu     sync.Mutex
	told   uint64 // events, ever
	queue  []tale // oldest first
	held   int    // what they cost
	lost   map[string]int
	cost   int           // of lost
	active chan struct{} // closed once the goroutine that publishes ends; nil if there is none
}

// A tale is an event of the daemon's own, or a number of them that are missing.
type tale struct {
	topic   string // empty for any of the daemon's
	made    []byte // by enclose; nil if they are missing
	missing int    // as in event
	number  uint64 // as herald.told counts: that of the last
	at      time.Time
}

func (t *tale) cost() int { return len(t.topic) + len(t.made) + eventCost }

// tell publishes an event of the daemon's own, soon. It costs next to nothing if nobody has asked for its topic: data is called, at
// once, if somebody has. A nil hub tells nobody.
func (h *hub) tell(topic string, data func() any) {
	if h == nil {
		return
	}
	topic = ownTopic + "." + topic
	wanted, most := h.wants(topic)
	if !wanted || h.herald.isFull(topic, most) {
		return
	}
	b, err := json.Marshal(data())
	if err != nil {
		panic(err) // texts, numbers and booleans have a form
	}
	t := tale{topic: topic, made: h.enclose(topic, b), at: time.Now()}
	h.herald.mu.Lock()
	defer h.herald.mu.Unlock()
	h.herald.addLocked(t, most)
	if h.herald.active == nil {
		h.herald.active = make(chan struct{})
		go h.proclaim()
	}
}

// wants reports whether anybody has asked for a topic, and how many bytes may wait. If nobody has, the event has its number, and is over.
func (h *hub) wants(topic string) (wanted bool, most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if wanted = h.sinks.has(topic) || h.keepers.has(topic); !wanted {
		h.last++
	}
	return wanted, h.limits.StreamWindow
}

// isFull reports whether there is no room for any event, and then counts this one.
func (r *herald) isFull(topic string, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil && r.held < most {
		return false
	}
	r.told++
	r.loseLocked(topic, most)
	return true
}

func (r *herald) addLocked(t tale, most int) {
	r.told++
	if r.lost != nil || r.held > 0 && r.held+t.cost() > most {
		r.loseLocked(t.topic, most)
		return
	}
	t.number = r.told
	r.queue = append(r.queue, t)
	r.held += t.cost()
}

// loseLocked counts an event that has no room. Those of topics for which there is none either are not told apart.
func (r *herald) loseLocked(topic string, most int) {
	if r.lost == nil {
		r.lost, r.cost = map[string]int{}, 0
	}
	if _, known := r.lost[topic]; !known {
		if cost := len(topic) + eventCost; r.cost+cost > most {
			topic = ""
		} else {
			r.cost += cost
		}
	}
	r.lost[topic]++
}

// next takes what has waited longest. Once nothing waits, there is no herald any more.
func (r *herald) next() (t tale, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		for _, topic := range slices.Sorted(maps.Keys(r.lost)) {
			t := tale{topic: topic, missing: r.lost[topic], number: r.told}
			if topic == "" {
				t.missing = -1
			}
			r.queue = append(r.queue, t)
			r.held += t.cost()
		}
		r.lost = nil
	}
	if len(r.queue) == 0 {
		close(r.active)
		r.active, r.queue = nil, nil
		return t, false
	}
	t, r.queue[0] = r.queue[0], tale{}
	r.queue = r.queue[1:]
	r.held -= t.cost()
	return t, true
}

// count is how many events were told.
func (r *herald) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told
}

// rest waits until all that was told has been published.
func (r *herald) rest() {
	for {
		r.mu.Lock()
		active := r.active
		r.mu.Unlock()
		if active == nil {
			return
		}
		<-active
	}
}

// heraldStep is how many sinks the herald gives an event in one turn.
const heraldStep = 100

// proclaim publishes what was told. Others have their turns in between, and whoever they have an event for gets first what is due.
func (h *hub) proclaim() {
	var to []sink
	for t, ok := h.herald.next(); ok; t, ok = h.herald.next() {
		h.turn.Lock()
		e := h.number(&t)
		to, h.found = h.found, to
		for _, s := range to {
			if s, ok := s.(*subscription); ok {
				s.due = e
			}
		}
		for i, s := range to {
			if i > 0 && i%heraldStep == 0 {
				h.turn.Unlock()
				h.turn.Lock()
			}
			if s, ok := s.(*subscription); !ok {
				to[i].take(e)
			} else if s.due == e {
				s.due = nil
				s.add(e)
			}
		}
		for i, s := range to {
			if s, ok := s.(*subscription); ok {
				s.reader.own = nil
			}
			to[i] = nil
		}
		h.turn.Unlock()
	}
}

// number is numberLocked for a tale, and finds whoever may miss what is missing.
func (h *hub) number(t *tale) (e *event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.made != nil {
		if e, _ = h.numberLocked(t.topic, t.made, t.at); e != nil {
			e.told = t.number
		}
		return e
	}
	h.last += uint64(max(t.missing, 1))
	e = &event{number: h.last, topic: t.topic, missing: t.missing, told: t.number}
	if t.topic == "" {
		h.found, h.stored = h.once(h.sinks.under(ownTopic, h.found[:0])), h.keepers.under(ownTopic, h.stored[:0])
	} else {
		h.found, h.stored = h.once(h.sinks.match(t.topic, h.found[:0])), h.keepers.match(t.topic, h.stored[:0])
	}
	for _, s := range h.stored {
		s.take(e)
	}
	return e
}
