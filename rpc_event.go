package main

// This file owns events: the hub to which they are published, and the subscriptions that they wait in. A publisher never
// waits for a subscriber: what one of them has no room for is dropped, and told to it where it is missing. rpc_topic.go
// finds the subscriptions to a topic, and rpc_replay.go keeps events for those who ask for them later.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An event is what was published to a topic. All who wait for it share it.
type event struct {
	number uint64
	topic  string
	value  document // as it goes to subscribers
}

// eventCost is what an event costs a queue besides its bytes.
const eventCost = 64

func (e *event) cost() int { return len(e.value) + eventCost }

// The methods that publish and subscribe.
const (
	publishMethod   = ownService + ".Publish"
	subscribeMethod = ownService + ".Subscribe"
)

// A sink is where the events of some topics go. The hub calls take under its lock, so it must not block.
type sink interface{ take(e *event) }

// A hub takes events and gives them to whoever has asked for their topics. They are numbered in the order in which all
// subscribers get them.
type hub struct {
	life string // names this hub in the ids of its events

	waits   atomic.Int64 // events that wait for a subscriber, in all queues
	dropped atomic.Int64 // events that had no room in one

	mu     sync.Mutex // lock order: hub.mu, then subscription.mu
	last   uint64     // the number of the last event
	sinks  topicTree
	found  []sink         // of match, for the next time
	users  map[string]int // how many patterns each has subscribed to, by peer.key
	kept   []*archive
	limits limits
}

func newHub(l limits) *hub {
	return &hub{life: "k" + strings.ToLower(rand.Text()[:8]), users: map[string]int{}, limits: l}
}

// id is what the event with that number is called, and so the place behind it.
func (h *hub) id(number uint64) string { return h.life + "-" + strconv.FormatUint(number, 10) }

// numberOf returns the number in an id, if that is one of an event of this hub.
func (h *hub) numberOf(id string) (number uint64, ok bool) {
	life, digits, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && life == h.life && number <= h.last
}

// publish gives an event to all subscribers of a topic and returns its id. data has to be JSON.
func (h *hub) publish(topic string, data document) (id string, f *fault) {
	if f := checkTopic(topic); f != nil {
		return "", f
	}
	made := h.enclose(topic, data) // here, since it copies the data
	h.mu.Lock()
	defer h.mu.Unlock()
	if most := h.limits.MaxMessage; len(data) > most-eventFrame {
		return "", tooLarge("max_message", int64(most), "the data of an event is too long, with "+strconv.Itoa(eventFrame)+" bytes for the rest of its message")
	}
	h.spreadLocked(topic, func() []byte { return made })
	return h.id(h.last), nil
}

// tell publishes an event of the daemon's own. It costs next to nothing if nobody has asked for its topic: data is called if
// somebody has, under the lock of the hub. A nil hub tells nobody.
func (h *hub) tell(topic string, data func() any) {
	if h == nil {
		return
	}
	topic = ownTopic + "." + topic
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spreadLocked(topic, func() []byte {
		b, err := json.Marshal(data())
		if err != nil {
			panic(err) // texts, numbers and booleans have a form
		}
		return h.enclose(topic, b)
	})
}

// published is how many events there were.
func (h *hub) published() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// subscribed is how many patterns are subscribed to.
func (h *hub) subscribed() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, of := range h.users {
		n += of
	}
	return n
}

// nothing is the data of an event whose topic says it all.
func nothing() any { return nil }

const (
	eventFrame = 1 << 10                         // bytes of a message that are not the data of an event: the most that it may have
	eventTime  = "2006-01-02T15:04:05.000Z07:00" // RFC 3339
	headFixed  = len(`{"topic":"","id":"-","time":"","data":`) + len(eventTime) + 20
)

// enclose returns the data of an event with room for what precedes it.
func (h *hub) enclose(topic string, data []byte) []byte {
	head := headFixed + len(topic) + len(h.life)
	return append(append(make([]byte, head, head+len(data)+1), data...), '}')
}

// spreadLocked gives the next number to an event. If anybody wants it, made makes it, by enclose.
func (h *hub) spreadLocked(topic string, made func() []byte) {
	h.last++
	h.found = h.sinks.match(topic, h.found[:0])
	if len(h.found) == 0 {
		return
	}
	value := made()
	head := make([]byte, 0, headFixed+len(topic)+len(h.life))
	head = append(append(append(head, `{"topic":"`...), topic...), `","id":"`...)
	head = append(strconv.AppendUint(append(append(head, h.life...), '-'), h.last, 10), `","time":"`...)
	head = append(time.Now().UTC().AppendFormat(head, eventTime), `","data":`...)
	value = value[cap(head)-len(head):]
	copy(value, head)
	e := &event{number: h.last, topic: topic, value: value}
	for i, s := range h.found {
		s.take(e)
		h.found[i] = nil
	}
}

// A subscription is the events of some topics on their way to one subscriber.
type subscription struct {
	hub   *hub
	user  string // by whom it is counted
	where []string
	start uint64        // the number behind which it begins
	place string        // the id behind which it begins
	ready chan struct{} // holds one: something waits
	most  int           // bytes that may wait

	seen uint64 // the last event that it was offered; guarded by hub.mu

	past replay // of its reader alone

	mu    sync.Mutex
	queue []waitingEvent // oldest first
	held  int            // what they cost
}

// A waitingEvent is an event, or a number of them that are missing in its place.
type waitingEvent struct {
	*event
	missing int
	last    uint64 // of those that are missing
}

// subscribe adds a subscription to the topics that match one of the patterns. With after it begins with what has been kept
// since the event of that id, and otherwise with the next event.
func (h *hub) subscribe(who peer, patterns []string, after string) (*subscription, *fault) {
	if f := checkPatterns(patterns); f != nil {
		return nil, f
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	user := who.key()
	if most := h.limits.MaxSubscriptions; h.users[user]+len(patterns) > most {
		return nil, busy("max_subscriptions", int64(most), "too many topics that this user has subscribed to")
	}
	h.users[user] += len(patterns)
	s := &subscription{hub: h, user: user, where: patterns, start: h.last, ready: make(chan struct{}, 1), most: h.limits.StreamWindow}
	if after != "" {
		number, known := h.numberOf(after)
		s.past = replay{behind: number, until: h.last, told: number, strange: !known}
		if !known {
			s.past.behind, s.past.told = 0, 0
		}
		s.start = s.past.behind
	}
	s.place = h.id(s.start)
	if s.past.strange {
		s.place = after // whoever resumes there, before it has heard that something is missing, has to hear it then
	}
	for _, p := range patterns {
		h.sinks.add(p, s)
	}
	return s, nil
}

// close ends the subscription. What waits in it is dropped.
func (s *subscription) close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { // once nothing more comes
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range s.queue {
			if w.event != nil {
				h.waits.Add(-1)
			}
		}
		s.queue = nil
	}()
	for _, p := range s.where {
		h.sinks.remove(p, s)
	}
	if h.users[s.user] -= len(s.where); h.users[s.user] == 0 {
		delete(h.users, s.user)
	}
}

// take implements sink. What does not fit is counted in its place.
func (s *subscription) take(e *event) {
	if s.seen == e.number { // by another pattern
		return
	}
	s.seen = e.number
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 && s.held+e.cost() > s.most {
		s.missLocked(e.number)
		return
	}
	s.queue = append(s.queue, waitingEvent{event: e})
	s.hub.waits.Add(1)
	s.held += e.cost()
	s.wakeLocked()
}

// missLocked notes that an event is missing at the end of the queue.
func (s *subscription) missLocked(number uint64) {
	if n := len(s.queue); n == 0 || s.queue[n-1].event != nil {
		s.queue = append(s.queue, waitingEvent{})
	}
	end := &s.queue[len(s.queue)-1]
	end.missing++
	s.hub.dropped.Add(1)
	end.last = number
	s.wakeLocked()
}

func (s *subscription) wakeLocked() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// next returns what the subscriber gets next, and the number of the last event that this is about. It waits until there is
// something, and returns nil once ctx has ended. One goroutine at a time may call it.
func (s *subscription) next(ctx context.Context) (value document, last uint64) {
	for ctx.Err() == nil {
		if value, last = s.poll(); value != nil {
			return value, last
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
		}
	}
	return nil, 0
}

// poll is next without waiting: it returns nil if there is nothing yet.
func (s *subscription) poll() (value document, last uint64) {
	if value, last = s.past.next(s); value != nil {
		return value, last
	}
	switch w, ok := s.first(); {
	case !ok:
		return nil, 0
	case w.event == nil:
		return s.hub.missed(strconv.Itoa(w.missing), w.last), w.last
	default:
		return w.value, w.number
	}
}

// first takes what has waited longest.
func (s *subscription) first() (w waitingEvent, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return w, false
	}
	w = s.queue[0]
	s.queue[0] = waitingEvent{}
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	if w.event != nil {
		s.held -= w.cost()
		s.hub.waits.Add(-1)
	}
	return w, true
}

// missed is what a subscriber gets in place of events that it has missed: how many, and the last of them.
func (h *hub) missed(many string, last uint64) document {
	return document(`{"missed":` + many + `,"id":"` + h.id(last) + `"}`)
}

// obey puts limits into force, for what is published and for subscriptions that begin from now on.
func (h *hub) obey(l limits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = l
}
