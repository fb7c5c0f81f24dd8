package main

// This file owns the search for those who want the events of a topic. It follows those patterns alone that begin as the topic
// does, token by token, however many others there are.

import (
	"maps"
	"slices"
	"strings"
)

// A topicTree finds the sinks whose patterns match a topic, by its tokens.
type topicTree struct {
	next map[string]*topicTree // by token, * included
	here map[sink]struct{}     // whose pattern ends here
	rest map[sink]struct{}     // whose pattern goes on with >
}

// match appends the sinks of a topic to found. One that has several patterns may be there several times.
func (t *topicTree) match(topic string, found []sink) []sink {
	for s := range t.rest {
		found = append(found, s)
	}
	token, rest, more := strings.Cut(topic, ".")
	for _, key := range [...]string{token, anyToken} {
		switch below := t.next[key]; {
		case below == nil:
		case more:
			found = below.match(rest, found)
		default:
			for s := range below.here {
				found = append(found, s)
			}
		}
	}
	return found
}

// has reports whether there is a sink for a topic.
func (t *topicTree) has(topic string) bool {
	if len(t.rest) > 0 {
		return true
	}
	token, rest, more := strings.Cut(topic, ".")
	for _, key := range [...]string{token, anyToken} {
		if below := t.next[key]; below != nil && (more && below.has(rest) || !more && len(below.here) > 0) {
			return true
		}
	}
	return false
}

// under appends the sinks of all topics that go on behind a token, as match does.
func (t *topicTree) under(token string, found []sink) []sink {
	found = slices.AppendSeq(found, maps.Keys(t.rest))
	for _, key := range [...]string{token, anyToken} {
		if below := t.next[key]; below != nil {
			found = slices.AppendSeq(found, maps.Keys(below.rest))
			for _, t := range below.next {
				found = t.all(found)
			}
		}
	}
	return found
}

func (t *topicTree) all(found []sink) []sink {
	found = slices.AppendSeq(slices.AppendSeq(found, maps.Keys(t.here)), maps.Keys(t.rest))
	for _, t := range t.next {
		found = t.all(found)
	}
	return found
}

// add has s found by a pattern.
func (t *topicTree) add(pattern string, s sink) {
	for rest, more := pattern, true; more; {
		var token string
		if token, rest, more = strings.Cut(rest, "."); token == anyRest {
			if t.rest == nil {
				t.rest = map[sink]struct{}{}
			}
			t.rest[s] = struct{}{}
			return
		}
		below := t.next[token]
		if below == nil {
			below = &topicTree{}
			if t.next == nil {
				t.next = map[string]*topicTree{}
			}
			t.next[token] = below
		}
		t = below
	}
	if t.here == nil {
		t.here = map[sink]struct{}{}
	}
	t.here[s] = struct{}{}
}

// remove undoes add.
func (t *topicTree) remove(pattern string, s sink) {
	token, rest, more := strings.Cut(pattern, ".")
	if token == anyRest {
		delete(t.rest, s)
		return
	}
	below := t.next[token]
	switch {
	case below == nil: // a pattern that was there twice
		return
	case more:
		below.remove(rest, s)
	default:
		delete(below.here, s)
	}
	if len(below.next)+len(below.here)+len(below.rest) == 0 {
		delete(t.next, token)
	}
}
