package main

// This file owns events: the hub to which they are published, and the subscriptions that they wait in. A publisher never
// waits for a subscriber: what one of them has no room for is dropped, and told to it where it is missing. rpc_topic.go
// finds the subscriptions to a topic, rpc_reader.go counts what waits for a user, rpc_herald.go has the daemon's own events,
// and rpc_replay.go keeps events for those who ask for them later.

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An event is what was published to a topic. All who wait for it share it.
type event struct {
	number  uint64
	topic   string
	value   document // as it goes to subscribers; nil if what it stands for is missing
	missing int      // then how many are, it and those before it; below zero for a number that is not known
	told    uint64   // of the daemon's own events: which of them it is, as herald.told counts
	first   share    // of the first user who gets it
}

// eventCost is what an event costs a queue besides its bytes.
const eventCost = 64

func (e *event) cost() int { return len(e.value) + eventCost }

// The methods that publish and subscribe.
const (
	publishMethod   = ownService + ".Publish"
	subscribeMethod = ownService + ".Subscribe"
)

// A sink is where the events of some topics go. Others wait for their turn meanwhile, so take must not block.
type sink interface{ take(e *event) }

// A hub takes events and gives them to whoever has asked for their topics. They are numbered in the order in which all
// subscribers get them.
type hub struct {
	life string // names this hub in the ids of its events

	waits   atomic.Int64 // events that wait for a subscriber, in all queues
	dropped atomic.Int64 // events that had no room in one
	held    atomic.Int64 // bytes that wait for all readers, about; see reader.settle
	most    atomic.Int64 // that they may be
	each    atomic.Int64 // that they may be of one reader without an account

	herald herald

	// Whoever publishes has a turn, from before the event gets its number until the sinks have it: that is what orders them. mu
	// is held meanwhile only for as long as it takes to find them. Lock order: turn, mu, then subscription.mu.
	turn    sync.Mutex
	found   []sink    // of match, for the next time; guarded by turn, as the next
	reached []*reader // who have a share of the event

	mu      sync.Mutex
	last    uint64 // the number of the last event
	sinks   topicTree
	users   map[string]*reader // those who have subscribed, by peer.key
	kept    []*archive
	keepers topicTree // of kept: they have an event before mu is let go of
	stored  []sink    // of match, for the next time
	limits  limits
}

func newHub(l limits) *hub {
	h := &hub{life: "k" + strings.ToLower(rand.Text()[:8]), users: map[string]*reader{}}
	h.obey(l)
	return h
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
	h.turn.Lock()
	defer h.turn.Unlock()
	h.mu.Lock()
	if most := h.limits.MaxMessage; len(data) > most-eventFrame {
		h.mu.Unlock()
		return "", tooLarge("max_message", int64(most), "the data of an event is too long, with "+strconv.Itoa(eventFrame)+" bytes for the rest of its message")
	}
	e, number := h.numberLocked(topic, made, time.Time{})
	h.mu.Unlock()
	if e != nil {
		for _, s := range h.found {
			s.take(e)
		}
		h.forget()
	}
	return h.id(number), nil
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
	for _, r := range h.users {
		n += r.patterns
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

// numberLocked gives the next number to an event whose value made was made by enclose, and the event to those who keep it. The
// others who want it are found; if nobody does, there is no event. A zero time is now. The caller has its turn.
func (h *hub) numberLocked(topic string, made []byte, at time.Time) (e *event, number uint64) {
	h.last++
	h.found, h.stored = h.once(h.sinks.match(topic, h.found[:0])), h.keepers.match(topic, h.stored[:0])
	if len(h.found)+len(h.stored) == 0 {
		return nil, h.last
	}
	if at.IsZero() {
		at = time.Now()
	}
	head := make([]byte, 0, headFixed+len(topic)+len(h.life))
	head = append(append(append(head, `{"topic":"`...), topic...), `","id":"`...)
	head = append(strconv.AppendUint(append(append(head, h.life...), '-'), h.last, 10), `","time":"`...)
	head = append(at.UTC().AppendFormat(head, eventTime), `","data":`...)
	value := made[cap(head)-len(head):]
	copy(value, head)
	e = &event{number: h.last, topic: topic, value: value}
	for _, s := range h.stored {
		s.take(e)
	}
	return e, h.last
}

// once drops the sinks that were found before for the last event, by another pattern.
func (h *hub) once(found []sink) []sink {
	return slices.DeleteFunc(found, func(each sink) bool {
		s, is := each.(*subscription)
		if !is || s.seen == h.last {
			return is
		}
		s.seen = h.last
		return false
	})
}

// forget drops what was found, and what its readers know of the event that they got last, which would live on with that.
func (h *hub) forget() {
	for _, r := range h.reached {
		r.latest = nil
	}
	clear(h.reached)
	clear(h.found)
	h.reached = h.reached[:0]
}

// A subscription is the events of some topics on their way to one subscriber.
type subscription struct {
	hub    *hub
	user   string // by whom it is counted
	reader *reader
	where  []string
	start  uint64        // the number behind which it begins
	place  string        // the id behind which it begins
	born   uint64        // the daemon's own events up to that one are none of its concern, whenever they come
	ready  chan struct{} // holds one: something waits
	most   int           // bytes that may wait

	seen uint64 // the last event that it was found for; guarded by hub.turn, as the next
	due  *event // of the daemon's own, that it has to get before any other

	past replay // of its reader alone

	mu    sync.Mutex
	queue []waitingEvent // oldest first
	held  int            // what they cost
	paid  int            // places in queue that the reader has counted
	taken *share         // what the subscriber was given last, and has not done with
	over  bool
}

// A waitingEvent is an event, or a number of them that are missing in its place.
type waitingEvent struct {
	*share
	missing int    // below zero for a number that is not known
	last    uint64 // of those that are missing
}

// subscribe adds a subscription to the topics that match one of the patterns. With after it begins with what has been kept
// since the event of that id, and otherwise with the next event. What waits counts for the account, if that is not nil, and
// the user may subscribe to so many topics.
func (h *hub) subscribe(who peer, a *account, most int, patterns []string, after string) (*subscription, *fault) {
	if f := checkPatterns(patterns); f != nil {
		return nil, f
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	user := who.key()
	r := h.users[user]
	if r == nil {
		r = &reader{hub: h, account: a}
	}
	if r.patterns+len(patterns) > most {
		return nil, busy("max_subscriptions", int64(most), "too many topics that this user has subscribed to")
	}
	h.users[user] = r
	r.patterns += len(patterns)
	s := &subscription{hub: h, user: user, reader: r, where: patterns, start: h.last, ready: make(chan struct{}, 1), most: h.limits.StreamWindow}
	if after == "" {
		s.born = h.herald.count()
	} else {
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
	for _, p := range s.where {
		h.sinks.remove(p, s)
	}
	if s.reader.patterns -= len(s.where); s.reader.patterns == 0 {
		delete(h.users, s.user)
	}
	h.mu.Unlock()
	s.past.drop(s.reader)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true // an event may still be on its way
	s.doneLocked()
	for _, w := range s.queue {
		if w.share != nil {
			w.release()
			h.waits.Add(-1)
		}
	}
	s.reader.release(s.paid * placeCost)
	s.queue, s.held, s.paid = nil, 0, 0
}

// take implements sink. What does not fit is counted in its place.
func (s *subscription) take(e *event) {
	if s.due != nil {
		due := s.due
		s.due = nil
		s.add(due)
	}
	s.add(e)
}

func (s *subscription) add(e *event) {
	if e.told > 0 && e.told <= s.born { // it was told before
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
	case e.value == nil:
		s.missLocked(e.number, e.missing)
	case s.held > 0 && s.held+e.cost() > s.most:
		s.missLocked(e.number, 1)
	default:
		of := s.reader.share(e)
		if of != nil && !s.payLocked() {
			of.release()
			of = nil
		}
		if of == nil {
			s.missLocked(e.number, 1)
			return
		}
		s.queue = append(s.queue, waitingEvent{share: of})
		s.hub.waits.Add(1)
		s.held += e.cost()
		s.wakeLocked()
	}
}

// payLocked has the reader count the places in the queue, if it has got longer, with room for an event and one for what is missing.
// It reports whether there is room for them.
func (s *subscription) payLocked() bool {
	if len(s.queue)+2 <= s.paid+placeStep {
		return true
	}
	if !s.reader.hold(placeStep * placeCost) {
		return false
	}
	s.paid += placeStep
	return true
}

// missLocked notes that so many events are missing at the end of the queue.
func (s *subscription) missLocked(number uint64, many int) {
	if n := len(s.queue); n == 0 || s.queue[n-1].share != nil {
		s.queue = append(s.queue, waitingEvent{})
	}
	end := &s.queue[len(s.queue)-1]
	if many < 0 || end.missing < 0 {
		end.missing = -1
	} else {
		end.missing += many
	}
	s.hub.dropped.Add(int64(max(many, 1)))
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
		if value, last = s.poll(ctx); value != nil {
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
func (s *subscription) poll(ctx context.Context) (value document, last uint64) {
	if value, last = s.past.next(ctx, s); value != nil || ctx.Err() != nil {
		return value, last
	}
	switch w, ok := s.first(); {
	case !ok:
		return nil, 0
	case w.share == nil && w.missing < 0:
		return s.hub.missed(nullID, w.last), w.last
	case w.share == nil:
		return s.hub.missed(strconv.Itoa(w.missing), w.last), w.last
	default:
		return w.value, w.number
	}
}

// first takes what has waited longest. What it returned before the subscriber has done with.
func (s *subscription) first() (w waitingEvent, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneLocked()
	if len(s.queue) == 0 {
		return w, false
	}
	w = s.queue[0]
	s.queue[0] = waitingEvent{}
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	if s.queue == nil && s.paid > 0 {
		s.reader.release(s.paid * placeCost)
		s.paid = 0
	} else if len(s.queue)+2*placeStep <= s.paid {
		s.reader.release(placeStep * placeCost)
		s.paid -= placeStep
	}
	if w.share != nil {
		s.taken = w.share
		s.held -= w.cost()
		s.hub.waits.Add(-1)
	}
	return w, true
}

// doneLocked notes that the subscriber has done with what it was given last: it has been waiting for as long as that took to be
// delivered.
func (s *subscription) doneLocked() {
	if s.taken != nil {
		s.taken.release()
		s.taken = nil
	}
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
	h.most.Store(int64(l.Memory))
	h.each.Store(int64(l.UserMemory))
}
