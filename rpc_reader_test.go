package main

import (
	"fmt"
	"strings"
	"testing"
)

// subscribeAs subscribes for a worker of that name, whose account may be nil.
func subscribeAs(t testing.TB, h *hub, user string, a *account, topics ...string) *subscription {
	t.Helper()
	s, f := h.subscribe(peer{worker: user}, a, 1000, topics, "")
	if f != nil {
		t.Fatal(f)
	}
	t.Cleanup(s.close)
	return s
}

// publishBytes publishes an event that costs so many bytes, or about as many.
func publishBytes(t testing.TB, h *hub, topic string, size int) {
	t.Helper()
	if _, f := h.publish(topic, document(`"`+strings.Repeat("x", size-200)+`"`)); f != nil {
		t.Fatal(f)
	}
}

// countAll reads what waits for a subscriber, and returns how many events there are and how many are missing.
func countAll(t *testing.T, s *subscription) (events, missing int) {
	t.Helper()
	for {
		value, _ := s.poll(t.Context())
		var n int
		switch _, err := fmt.Sscanf(string(value), `{"missed":%d,`, &n); {
		case value == nil:
			return events, missing
		case err == nil:
			missing += n
		default:
			events++
		}
	}
}

func wantHeld(t *testing.T, h *hub, b *budget, want int64) {
	t.Helper()
	if hub, all := h.held.Load(), b.held.Load(); hub != want || all != want {
		t.Fatalf("events hold %d bytes, and for the budget %d; want %d", hub, all, want)
	}
}

// What waits for all subscriptions of a user is bounded, however many there are: an event that many of them wait for counts once, and
// their places in it. What has no room is missing, at its place. All is given back when it is read.
func TestUnreadEventsOfAUserAreBounded(t *testing.T) {
	const most = 100 << 10
	h := newTestHub(func(l *limits) { l.UserMemory, l.StreamWindow = most, 1<<20 })
	b := newBudget(h.limits)
	a := &account{budget: b}
	var all []*subscription
	for i := range 100 {
		all = append(all, subscribeAs(t, h, "slow", a, "all", fmt.Sprintf("t%d", i)))
	}
	quick := subscribeAs(t, h, "quick", nil, ">")
	publishBytes(t, h, "all", 50<<10)
	if held := h.held.Load(); held < 98<<10 || held > 104<<10 {
		t.Errorf("an event of 50 KiB in a hundred queues of one user, and one of another, holds %d bytes; want twice 50 KiB", held)
	}
	want, _ := countAll(t, quick)
	for i := range 100 {
		publishBytes(t, h, fmt.Sprintf("t%d", i), 10<<10)
		n, missing := countAll(t, quick)
		if want += n; missing > 0 {
			t.Fatal("a user who reads misses what another has no room for")
		}
	}
	if want != 101 {
		t.Errorf("a user who reads has %d events; want 101", want)
	}
	if held := a.own.Load(); held < most/2 || held > most {
		t.Errorf("a user who does not read holds %d bytes; want no more than %d", held, most)
	}
	if events, missing := countAll(t, all[0]); events+missing != 2 {
		t.Errorf("there come %d events, and %d are missing; want two", events, missing)
	}
	for _, s := range all[50:] {
		s.close()
	}
	events, missing := 0, 0
	for _, s := range all[1:50] {
		n, m := countAll(t, s)
		events, missing = events+n, missing+m
	}
	if events+missing != 2*49 || missing < 40 {
		t.Errorf("there come %d events, and %d are missing; want %d together", events, missing, 2*49)
	}
	wantHeld(t, h, b, 0)
	for range 2000 { // places alone
		publishTo(t, h, "all")
	}
	if held := a.own.Load(); held < most/2 || held > most {
		t.Errorf("with small events a user holds %d bytes; want no more than %d", held, most)
	}
	for _, s := range all[:25] {
		if events, missing := countAll(t, s); events+missing != 2000 || events == 0 {
			t.Errorf("of 2000 events come %d, and %d are missing", events, missing)
		}
	}
	for _, s := range all[25:50] {
		s.close()
	}
	countAll(t, quick)
	wantHeld(t, h, b, 0)
	publishTo(t, h, "all") // one that comes to a queue that is closed takes nothing
	all[25].add(&event{number: h.last + 1, value: document("1")})
	countAll(t, quick)
	countAll(t, all[0])
	for _, s := range all {
		s.close()
	}
	wantHeld(t, h, b, 0)
}

// What a subscriber has been given counts until it asks for the next: it may take long to be delivered.
func TestEventsCountUntilTheyAreDelivered(t *testing.T) {
	h := newTestHub(nil)
	b := newBudget(h.limits)
	s := subscribeAs(t, h, "one", &account{budget: b}, ">")
	publishBytes(t, h, "a", 10<<10)
	if value, _ := s.poll(t.Context()); value == nil || h.held.Load() < 9<<10 {
		t.Errorf("an event on its way holds %d bytes", h.held.Load())
	}
	if value, _ := s.poll(t.Context()); value != nil {
		t.Errorf("there comes %.100s", value)
	}
	wantHeld(t, h, b, 0)
	publishBytes(t, h, "a", 10<<10)
	s.poll(t.Context())
	s.close()
	wantHeld(t, h, b, 0)
}

// What waits for all users together is bounded as well, and one more user always finds some room.
func TestUnreadEventsOfAllAreBounded(t *testing.T) {
	const most = 256 << 10
	h := newTestHub(func(l *limits) { l.UserMemory, l.Memory, l.StreamWindow = 64<<10, most, 1<<20 })
	for i := range 20 {
		user := fmt.Sprint("user", i)
		s := subscribeAs(t, h, user, nil, user)
		for range 100 {
			publishBytes(t, h, user, 2<<10)
		}
		if held := s.reader.held.Load(); held < 2<<10 || i < 2 && held < 60<<10 {
			t.Errorf("the user %d finds room for %d bytes", i, held)
		}
	}
	if held := h.held.Load(); held < most*9/10 || held > most+20*accountStep {
		t.Errorf("all users hold %d bytes; want no more than %d", held, most)
	}
}

// A user for whom nothing waits gets an event of any size.
func TestOneEventAlwaysWaits(t *testing.T) {
	h := newTestHub(func(l *limits) { l.UserMemory, l.Memory, l.StreamWindow = 1<<10, 1<<10, 1<<10 })
	one, other := subscribeAs(t, h, "one", nil, ">"), subscribeAs(t, h, "one", nil, ">")
	publishBytes(t, h, "a", 100<<10)
	publishBytes(t, h, "a", 100<<10)
	for _, s := range []*subscription{one, other} {
		if events, missing := countAll(t, s); events != 1 || missing != 1 {
			t.Errorf("there come %d events, and %d are missing; want one and one", events, missing)
		}
	}
	if held := h.held.Load(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

// What comes of what is kept counts as well: for which there is no room is missing.
func TestReplaysCount(t *testing.T) {
	const most = 64 << 10
	h := newTestHub(func(l *limits) { l.UserMemory, l.StreamWindow = most, 1<<20 })
	h.keep([]topicSettings{{"a", 1000}})
	b := newBudget(h.limits)
	for range 30 {
		publishBytes(t, h, "a", 10<<10)
	}
	subscribe := func() *subscription {
		s, f := h.subscribe(peer{worker: "one"}, &account{budget: b}, 1000, []string{"a"}, "k-0")
		if f != nil {
			t.Fatal(f)
		}
		t.Cleanup(s.close)
		return s
	}
	first := subscribe()
	for range 3 {
		first.poll(t.Context())
	}
	if held := b.held.Load(); held < most/2 || held > most {
		t.Fatalf("what comes of what is kept holds %d bytes; want no more than %d", held, most)
	}
	for range 5 {
		value, _ := subscribe().poll(t.Context())
		if got, want := string(value), `{"missed":null,"id":"k-30"}`; got != want {
			t.Fatalf("without room there comes %.100s; want %s", got, want)
		}
	}
	late := subscribe()
	if events, missing := countAll(t, first); events != 27 || missing != 0 {
		t.Errorf("behind three come %d events, and %d are missing; want 27", events, missing)
	}
	wantHeld(t, h, b, 0)
	if events, missing := countAll(t, late); events != 30 || missing != 0 {
		t.Errorf("with room again there come %d events, and %d are missing; want 30", events, missing)
	}
	wantHeld(t, h, b, 0)
	first = subscribe()
	first.poll(t.Context())
	first.close()
	wantHeld(t, h, b, 0)
}
