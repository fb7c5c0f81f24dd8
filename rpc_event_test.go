package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// newTestHub returns a hub whose life is k.
func newTestHub(change func(l *limits)) *hub {
	l := defaultLimits()
	if change != nil {
		change(&l)
	}
	h := newHub(l)
	h.life = "k"
	return h
}

// subscribeTo subscribes to topics for the time of the test.
func subscribeTo(t testing.TB, h *hub, after string, topics ...string) *subscription {
	t.Helper()
	s, f := h.subscribe(peer{}, nil, h.limits.MaxSubscriptions, topics, after)
	if f != nil {
		t.Fatal(f)
	}
	t.Cleanup(s.close)
	return s
}

func publishTo(t testing.TB, h *hub, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		if _, f := h.publish(topic, document("1")); f != nil {
			t.Fatal(f)
		}
	}
}

var eventTimes = regexp.MustCompile(`","time":"[^"]*Z`)

// waits takes what waits for a subscriber: each event as its id and topic, everything else as it is.
func waits(s *subscription) (list []string) {
	short := strings.NewReplacer(`{"topic":"`, "", `","id":"k-`, " ", `","data":1}`, "")
	for {
		value, _ := s.poll(context.Background())
		if value == nil {
			return list
		}
		list = append(list, short.Replace(eventTimes.ReplaceAllString(string(value), "")))
	}
}

func TestPatterns(t *testing.T) {
	topics := []string{"a", "b", "a.b", "a.c", "a.b.c", "a.c.c", "b.b.c", "a.b.c.d"}
	for pattern, want := range map[string][]string{
		"a":       {"a"},
		"*":       {"a", "b"},
		">":       topics,
		"a.>":     {"a.b", "a.c", "a.b.c", "a.c.c", "a.b.c.d"},
		"a.*":     {"a.b", "a.c"},
		"a.*.c":   {"a.b.c", "a.c.c"},
		"*.b.c":   {"a.b.c", "b.b.c"},
		"*.*.>":   {"a.b.c", "a.c.c", "b.b.c", "a.b.c.d"},
		"*.*.*":   {"a.b.c", "a.c.c", "b.b.c"},
		"a.b.c.d": {"a.b.c.d"},
		"A":       nil,
		"a.b.c.*": {"a.b.c.d"},
	} {
		h := newTestHub(nil)
		s := subscribeTo(t, h, "", pattern, pattern, "unheard.of")
		publishTo(t, h, topics...)
		var got, covered []string
		for _, text := range waits(s) {
			topic, _, _ := strings.Cut(text, " ")
			got = append(got, topic)
		}
		for _, topic := range topics {
			if covers(pattern, topic) {
				covered = append(covered, topic)
			}
		}
		if !slices.Equal(got, want) || !slices.Equal(covered, want) {
			t.Errorf("%s gets %q and covers %q; want %q", pattern, got, covered, want)
		}
		s.close()
		s.hub = newTestHub(nil) // it is closed once more
		if n := len(h.sinks.next) + len(h.sinks.rest) + len(h.sinks.here); n > 0 {
			t.Errorf("%d branches are left of %s", n, pattern)
		}
	}
}

func TestTopicsAreChecked(t *testing.T) {
	long := strings.Repeat("a.", 10_000) + "a"
	for topic, want := range map[string]string{
		"": "is empty", ".": "empty token", "a.": "empty token", ".a": "empty token", "a..b": "empty token",
		"a b": "token a b", "ä": "token ä", "a.b*": "token b*", ">.a": "in the middle", "a.>.b": "in the middle", "a/b": "token a/b", "a\x00": "token",
		long: "has 10001 levels; expected at most 32", strings.Repeat("a", 256): "has 256 bytes; expected at most 255",
		"a.*": "has a wildcard", ">": "has a wildcard", "*": "has a wildcard", strings.Repeat("*.", 10_000) + "a": "levels",
	} {
		f := checkTopic(topic)
		if f == nil || f.Code != codeBadArgument || !strings.Contains(f.Text, want) || !strings.Contains(f.Text, "expected") || len(f.Text) > 400 {
			t.Errorf("checkTopic(%q) = %v; want %q and what is expected", shorten(topic, 40), f, want)
		}
		if f := checkPattern(topic); (f == nil) != strings.Contains(want, "has a wildcard") {
			t.Errorf("checkPattern(%q) = %v", shorten(topic, 40), f)
		}
	}
	for _, topic := range []string{"a", "A-Z_0.9", strings.Repeat("a.", 31) + "a", strings.Repeat("a", 255)} {
		if f := checkTopic(topic); f != nil {
			t.Errorf("checkTopic(%q) = %v", topic, f)
		}
	}
}

// What a subscriber has no room for is missing at its place; the others have it.
func TestMissedEventsAreTold(t *testing.T) {
	h := newTestHub(func(l *limits) { l.StreamWindow = 500 })
	slow, quick := subscribeTo(t, h, "", "a"), subscribeTo(t, h, "", ">")
	var all []string
	for i := range 9 {
		publishTo(t, h, "a")
		all = append(all, fmt.Sprintf("a %d", i+1))
		if i == 5 {
			first, _ := slow.next(t.Context())
			if !strings.Contains(string(first), `"id":"k-1"`) {
				t.Errorf("first comes %s", first)
			}
		}
		if got := waits(quick); !slices.Equal(got, all[i:]) {
			t.Fatalf("a subscriber that reads has %q; want %q", got, all[i:])
		}
	}
	if got, want := waits(slow), []string{"a 2", "a 3", `{"missed":3,"id":"k-6"}`, "a 7", `{"missed":2,"id":"k-9"}`}; !slices.Equal(got, want) {
		t.Errorf("a subscriber that is slow has %q; want %q", got, want)
	}
	if _, f := h.publish("a", document(`"`+strings.Repeat("x", 10_000)+`"`)); f != nil { // one always may wait
		t.Fatal(f)
	}
	if got := waits(slow); len(got) != 1 || len(got[0]) < 10_000 {
		t.Errorf("a large event comes as %.100q", got)
	}
}

// Who names where it was gets what is kept since, and then what comes, without a gap and nothing twice; where something may
// be missing it is told.
func TestReplay(t *testing.T) {
	const gap = `{"missed":null,"id":"k-%d"}`
	for _, test := range []struct {
		name, after string
		topics      []string
		want        []string
	}{
		{"from the beginning", "k-0", []string{"a"}, []string{fmt.Sprintf(gap, 2), "a 3", "a 5", "a 7"}},
		{"nothing is missing", "k-1", []string{"a"}, []string{"a 3", "a 5", "a 7"}},
		{"from the middle", "k-5", []string{"a"}, []string{"a 7"}},
		{"from the end", "k-6", []string{"a", "b.x"}, []string{"a 7"}},
		{"two topics", "k-2", []string{"b.*", "a"}, []string{"a 3", "b.x 4", "a 5", "b.y 6", "a 7"}},
		{"one of several that are kept together", "k-3", []string{"b.y"}, []string{"b.y 6"}},
		{"a topic that is not kept", "k-5", []string{"c"}, []string{fmt.Sprintf(gap, 6), "c 8"}},
		{"more than what is kept", "k-4", []string{">"}, []string{fmt.Sprintf(gap, 4), "a 5", "b.y 6", "a 7", "c 8"}},
		{"another life", "kk-5", []string{"a"}, []string{fmt.Sprintf(gap, 2), "a 3", "a 5", "a 7"}},
		{"an event that has not been", "k-7", []string{"b.*"}, []string{fmt.Sprintf(gap, 3), "b.x 4", "b.y 6"}},
		{"no id at all", "last", []string{"d"}, []string{fmt.Sprintf(gap, 6)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newTestHub(nil)
			h.keep([]topicSettings{{"a", 2}, {"b.>", 100}})
			publishTo(t, h, "a", "c", "a", "b.x", "a", "b.y") // 1 to 6
			s := subscribeTo(t, h, test.after, test.topics...)
			got := waits(s)
			publishTo(t, h, "a", "c")
			if got = append(got, waits(s)...); !slices.Equal(got, test.want) {
				t.Errorf("after %s comes %q; want %q", test.after, got, test.want)
			}
			if got := waits(s); got != nil {
				t.Errorf("behind that comes %q", got)
			}
		})
	}
}

// A replay of more than a batch is whole, whatever is published meanwhile.
func TestLongReplay(t *testing.T) {
	h := newTestHub(func(l *limits) { l.StreamWindow = 1 << 20 })
	h.keep([]topicSettings{{"a", 100_000}, {"*", 100_000}, {"b", 1}})
	const n = 5 * replayStep
	for range n {
		publishTo(t, h, "a", "b")
	}
	s := subscribeTo(t, h, "k-0", "a", ">")
	publishTo(t, h, "b")
	got := waits(s)
	if len(got) != 2*n+2 || got[0] != `{"missed":null,"id":"k-0"}` {
		t.Fatalf("there come %d, first %q; want %d", len(got), got[0], 2*n+2)
	}
	for i, text := range got[1:] {
		if _, id, _ := strings.Cut(text, " "); id != fmt.Sprint(i+1) {
			t.Fatalf("in place of %d there comes %q", i+1, text)
		}
	}
	h.keep([]topicSettings{{"a", 3}})
	if got := waits(subscribeTo(t, h, "k-1", "a")); len(got) != 4 {
		t.Errorf("with less kept there comes %q", got)
	}
	h.keep(nil)
	if got := waits(subscribeTo(t, h, "k-1", "a")); len(got) != 1 {
		t.Errorf("with nothing kept there comes %q", got)
	}
}

// What is kept is looked at in steps, with nobody held up: the lock of the hub is needed for no more than to copy a step.
func TestReplayHoldsUpNobody(t *testing.T) {
	h := newTestHub(nil)
	h.keep([]topicSettings{{"a.>", 10 * replayStep}})
	for i := range 3 * replayStep {
		publishTo(t, h, fmt.Sprintf("a.b%d", i%3))
	}
	s := subscribeTo(t, h, "k-0", "a.b0", "a.*.c", "a.b1")
	got, behind := 0, uint64(0)
	for range 4 {
		list, last := h.stocks(behind)
		if len(list) != 1 || len(list[0].events) > replayStep+1 {
			t.Fatalf("there are %d stocks, the first of %d events", len(list), len(list[0].events))
		}
		h.turn.Lock() // which nobody needs from here on
		h.mu.Lock()
		gap, _ := s.past.fill(s, list, last)
		h.mu.Unlock()
		h.turn.Unlock()
		if gap {
			t.Errorf("behind %d something is missing", behind)
		}
		behind = s.past.behind
		got += len(s.past.batch)
		s.past.drop(s.reader)
	}
	if got != 2*replayStep || behind != 3*replayStep {
		t.Errorf("there come %d events, up to %d; want %d, up to %d", got, behind, 2*replayStep, 3*replayStep)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if value, _ := subscribeTo(t, h, "k-0", "a.c").poll(ctx); value != nil {
		t.Errorf("once nobody waits there comes %s", value)
	}
}

func TestKeptEventsAreBoundedInBytes(t *testing.T) {
	h := newTestHub(func(l *limits) { l.MaxKept = 1 << 10 })
	h.keep([]topicSettings{{"a", 100}})
	for range 10 {
		if _, f := h.publish("a", document(`"`+strings.Repeat("x", 400)+`"`)); f != nil {
			t.Fatal(f)
		}
	}
	if a := h.kept[0]; len(a.events) != 1 || a.held > 1<<10 || a.floor != 9 {
		t.Errorf("%d events of %d bytes are kept, behind %d", len(a.events), a.held, a.floor)
	}
}

// A thousand topics and a hundred subscribers: each has its own, in order, and nobody anything else.
func TestManyTopics(t *testing.T) {
	h := newTestHub(nil)
	var all []*subscription
	for i := range 100 {
		all = append(all, subscribeTo(t, h, "", fmt.Sprintf("t%d.>", i), fmt.Sprintf("*.n%d", i)))
	}
	for i := range 1000 {
		publishTo(t, h, fmt.Sprintf("t%d.n%d", i%100, i/10))
	}
	for i, s := range all {
		got := waits(s)
		for _, text := range got {
			if topic, _, _ := strings.Cut(text, " "); !covers(fmt.Sprintf("t%d.>", i), topic) && !covers(fmt.Sprintf("*.n%d", i), topic) {
				t.Errorf("the subscriber %d gets %s", i, topic)
			}
		}
		if len(got) < 19 || len(got) > 20 {
			t.Errorf("the subscriber %d gets %d events", i, len(got))
		}
	}
}

func TestSubscriptionsOfAUserAreBounded(t *testing.T) {
	h := newTestHub(func(l *limits) { l.MaxSubscriptions = 1 })
	s := subscribeTo(t, h, "", "a")
	if _, f := h.subscribe(peer{}, nil, 1, []string{"a"}, ""); f == nil || f.Code != codeBusy || f.data().Limit != "max_subscriptions" {
		t.Errorf("one more subscription than there may be = %v", f)
	}
	subscribed, f := h.subscribe(peer{worker: "greeter"}, nil, 1, []string{"a"}, "")
	if f != nil {
		t.Fatal(f)
	}
	subscribed.close()
	if len(h.users) != 1 || s.user == subscribed.user {
		t.Errorf("there are subscriptions of %v", h.users)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newTestHub(func(l *limits) { l.MaxSubscriptions = 2*n + 1 })
			for i := range n {
				subscribeTo(b, h, "", fmt.Sprintf("a.%d.>", i), "a.b.c")
			}
			b.ReportAllocs()
			for b.Loop() {
				h.publish("a.7.x", document("1"))
			}
		})
	}
}

// What it takes until all who have subscribed have an event.
func BenchmarkPublishToReaders(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newTestHub(nil)
			var all []*subscription
			for range n {
				all = append(all, subscribeTo(b, h, "", "a.*"))
			}
			b.ReportAllocs()
			for b.Loop() {
				h.publish("a.b", document("1"))
				for _, s := range all {
					s.poll(context.Background())
				}
			}
		})
	}
}

// A subscription is visited once for an event, however many of its patterns match, and so it is for the daemon's own events and for what
// is missing of them.
func TestSubscriptionIsVisitedOnce(t *testing.T) {
	h := newTestHub(nil)
	s, f := h.subscribe(peer{User: "ada"}, nil, 100, []string{"ipcd.connection.opened", "ipcd.*.opened", "*.connection.opened", "*.*.*", "ipcd.>", ">"}, "")
	if f != nil {
		t.Fatal(f)
	}
	defer s.close()
	h.turn.Lock()
	defer h.turn.Unlock()
	for _, tale := range []tale{
		{topic: "ipcd.connection.opened", made: h.enclose("ipcd.connection.opened", []byte("1"))},
		{topic: "ipcd.connection.opened", missing: 3},
		{missing: -1},
	} {
		h.number(&tale)
		if len(h.found) != 1 || h.found[0] != sink(s) {
			t.Errorf("for %+v there are %v; want the one subscription", tale, h.found)
		}
	}
	if h.numberLocked("build.of.all", h.enclose("build.of.all", []byte("1")), time.Time{}); len(h.found) != 1 {
		t.Errorf("for an event there are %v; want the one subscription", h.found)
	}
}

// The tree finds what the patterns say, whatever was added and removed before, and has no more branches than patterns.
func TestTopicTreeOfManyPatterns(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	token := func(of string) string { return of[random.IntN(len(of)):][:1] }
	some := func(of string) string {
		var tokens []string
		for range 1 + random.IntN(5) {
			tokens = append(tokens, token(of))
		}
		return strings.Join(tokens, ".")
	}
	var nodes func(t *topicTree) int
	nodes = func(t *topicTree) int {
		n := 1
		for _, below := range t.next {
			n += nodes(below)
		}
		return n
	}
	var tree topicTree
	there := map[string]bool{}
	for range 20_000 {
		pattern := some("ab**")
		if random.IntN(4) == 0 {
			pattern += "." + anyRest
		}
		if there[pattern] {
			tree.remove(pattern, namedSink(pattern))
			delete(there, pattern)
		} else {
			tree.add(pattern, namedSink(pattern))
			there[pattern] = true
		}
		if random.IntN(50) != 0 {
			continue
		}
		if n := nodes(&tree); n > 2*len(there)+1 {
			t.Fatalf("%d patterns take %d nodes", len(there), n)
		}
		topic := some("abc")
		var want, got []string
		for pattern := range there {
			if covers(pattern, topic) {
				want = append(want, pattern)
			}
		}
		for _, s := range tree.match(topic, nil) {
			got = append(got, string(s.(namedSink)))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || tree.has(topic) != (len(want) > 0) {
			t.Fatalf("%s goes to %q, and has some: %v; want %q", topic, got, tree.has(topic), want)
		}
	}
	for pattern := range there {
		tree.remove(pattern, namedSink(pattern))
	}
	if n := nodes(&tree) + len(tree.here) + len(tree.rest); n > 1 {
		t.Errorf("%d things are left in the tree", n)
	}
}
