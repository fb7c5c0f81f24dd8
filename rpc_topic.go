package main

// This file owns the search for those who want the events of a topic. It follows those patterns alone that begin as the topic
// does, token by token, however many others there are.

import (
	"maps"
	"slices"
	"strings"
)

// A topicTree finds the sinks whose patterns match a topic, by its tokens. It branches where patterns differ and nowhere else: a
// pattern may have many tokens, and one user a thousand patterns that all match.
type topicTree struct {
	path []string              // the tokens that all patterns here begin with, * included
	next map[string]*topicTree // by the token behind them
	here map[sink]struct{}     // whose pattern ends here
	rest map[sink]struct{}     // whose pattern goes on with >
}

// match appends the sinks of a topic to found. One that has several patterns may be there several times.
func (t *topicTree) match(topic string, found []sink) []sink {
	var room [maxLevels]string
	t.visit(appendTokens(room[:0], topic), func(sinks map[sink]struct{}) bool {
		for s := range sinks {
			found = append(found, s)
		}
		return true
	})
	return found
}

// has reports whether there is a sink for a topic.
func (t *topicTree) has(topic string) bool {
	var room [maxLevels]string
	return !t.visit(appendTokens(room[:0], topic), func(map[sink]struct{}) bool { return false })
}

// appendTokens appends those of a topic.
func appendTokens(tokens []string, topic string) []string {
	for {
		token, rest, more := strings.Cut(topic, ".")
		if tokens = append(tokens, token); !more {
			return tokens
		}
		topic = rest
	}
}

// visit calls f with sinks of a topic of which these tokens are left, as long as f returns true, and reports whether it has.
func (t *topicTree) visit(tokens []string, f func(map[sink]struct{}) bool) bool {
	if t == nil || len(tokens) < len(t.path) {
		return true
	}
	for i, want := range t.path {
		if want != tokens[i] && want != anyToken {
			return true
		}
	}
	if tokens = tokens[len(t.path):]; len(tokens) == 0 {
		return len(t.here) == 0 || f(t.here)
	}
	if len(t.rest) > 0 && !f(t.rest) {
		return false
	}
	return t.next[tokens[0]].visit(tokens[1:], f) && t.next[anyToken].visit(tokens[1:], f)
}

// under appends the sinks of all topics that go on behind a token, as match does.
func (t *topicTree) under(token string, found []sink) []sink {
	found = slices.AppendSeq(found, maps.Keys(t.rest))
	for _, key := range [...]string{token, anyToken} {
		switch below := t.next[key]; {
		case below == nil:
		case len(below.path) > 0:
			found = below.all(found)
		default:
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

// splitPattern returns the tokens of a pattern without the > at its end, and whether there is one.
func splitPattern(pattern string) (tokens []string, rest bool) {
	tokens = strings.Split(pattern, ".")
	if last := len(tokens) - 1; tokens[last] == anyRest {
		return tokens[:last], true
	}
	return tokens, false
}

// add has s found by a pattern.
func (t *topicTree) add(pattern string, s sink) {
	tokens, rest := splitPattern(pattern)
	for {
		n := 0
		for n < min(len(t.path), len(tokens)) && t.path[n] == tokens[n] {
			n++
		}
		if n < len(t.path) { // they part in the middle
			below := *t
			below.path = t.path[n+1:]
			*t = topicTree{path: t.path[:n], next: map[string]*topicTree{t.path[n]: &below}}
		}
		if tokens = tokens[n:]; len(tokens) == 0 {
			break
		}
		below := t.next[tokens[0]]
		if below == nil {
			below = &topicTree{path: tokens[1:]}
			if t.next == nil {
				t.next = map[string]*topicTree{}
			}
			t.next[tokens[0]] = below
		}
		t, tokens = below, tokens[1:]
	}
	to := &t.here
	if rest {
		to = &t.rest
	}
	if *to == nil {
		*to = map[sink]struct{}{}
	}
	(*to)[s] = struct{}{}
}

// remove undoes add. A pattern that was there twice is removed at once.
func (t *topicTree) remove(pattern string, s sink) {
	tokens, rest := splitPattern(pattern)
	t.drop(tokens, rest, s)
}

func (t *topicTree) drop(tokens []string, rest bool, s sink) {
	n := len(t.path)
	if len(tokens) < n || !slices.Equal(tokens[:n], t.path) {
		return
	}
	switch tokens = tokens[n:]; {
	case len(tokens) == 0 && rest:
		delete(t.rest, s)
		return
	case len(tokens) == 0:
		delete(t.here, s)
		return
	}
	below := t.next[tokens[0]]
	if below == nil {
		return
	}
	below.drop(tokens[1:], rest, s)
	if len(below.here)+len(below.rest) > 0 {
		return
	}
	switch len(below.next) {
	case 0:
		delete(t.next, tokens[0])
	case 1: // nothing parts here any more
		for token, only := range below.next {
			only.path = slices.Concat(below.path, []string{token}, only.path)
			t.next[tokens[0]] = only
		}
	}
}
