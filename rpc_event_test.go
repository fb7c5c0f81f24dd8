package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
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
	s, f := h.subscribe(peer{}, topics, after)
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
		value, _ := s.poll()
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
		s.hub.users[s.user] = 1
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
