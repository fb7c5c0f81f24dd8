package main

// This file owns the names of topics, to which events are published, and the patterns that match them; and the records
// [[topic]] of the configuration file, which say how much is kept of their events.

import (
	"cmp"
	"strings"
)

const (
	maxTopic    = 255    // bytes of a topic or a pattern
	maxLevels   = 32     // tokens of one
	maxPatterns = 100    // of one subscription
	anyToken    = "*"    // in a pattern: one token
	anyRest     = ">"    // at the end of a pattern: one token or more
	ownTopic    = "ipcd" // the first token of those to which the daemon alone publishes
)

// checkTopic returns what is wrong with a topic to which something is published, or nil.
func checkTopic(topic string) *fault {
	if f := checkPattern(topic); f != nil {
		return f
	}
	if strings.ContainsAny(topic, anyToken+anyRest) {
		return faultf(codeBadArgument, "the topic %s has a wildcard; expected the one topic that is meant, such as build.done", topic)
	}
	return nil
}

// isOwnTopic reports whether only the daemon publishes to the topic.
func isOwnTopic(topic string) bool {
	first, _, _ := strings.Cut(topic, ".")
	return first == ownTopic
}

// checkPatterns returns what is wrong with the topics of a subscription, or nil.
func checkPatterns(patterns []string) *fault {
	switch n := len(patterns); {
	case n == 0:
		return faultf(codeBadArgument, "topics is empty; expected what to subscribe to, such as build.done, build.* or build.>")
	case n > maxPatterns:
		return faultf(codeBadArgument, "there are %d topics; expected at most %d, or wildcards: build.* or build.>", n, maxPatterns)
	}
	for _, p := range patterns {
		if f := checkPattern(p); f != nil {
			return f
		}
	}
	return nil
}

// checkPattern returns what is wrong with a topic that may have wildcards, or nil.
func checkPattern(text string) *fault {
	wrong := func(what string) *fault {
		return faultf(codeBadArgument, "the topic %q %s; expected tokens of letters, digits, - and _ with dots between them, such as build.done", shorten(text, 100), what)
	}
	switch levels := strings.Count(text, ".") + 1; {
	case text == "":
		return wrong("is empty")
	case levels > maxLevels:
		return faultf(codeBadArgument, "the topic %q has %d levels; expected at most %d", shorten(text, 100), levels, maxLevels)
	case len(text) > maxTopic:
		return faultf(codeBadArgument, "the topic %q has %d bytes; expected at most %d", shorten(text, 100), len(text), maxTopic)
	}
	for rest, more := text, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch {
		case token == "":
			return wrong("has an empty token")
		case token == anyRest && more:
			return wrong("has > in the middle, which stands for all that follows")
		case token != anyRest && token != anyToken && !isTopicToken(token):
			return wrong("has the token " + shorten(token, 40))
		}
	}
	return nil
}

func isTopicToken(token string) bool {
	for _, c := range []byte(token) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// covers reports whether the pattern matches every topic that other matches. A topic is a pattern that matches itself.
func covers(pattern, other string) bool {
	for more, moreOther := true, true; more && moreOther; {
		var token, against string
		token, pattern, more = strings.Cut(pattern, ".")
		against, other, moreOther = strings.Cut(other, ".")
		switch {
		case token == anyRest:
			return true
		case against == anyRest || token != anyToken && token != against || more != moreOther:
			return false
		}
	}
	return true
}

// A topicSettings is a [[topic]]: how much is kept of the events of some topics.
type topicSettings struct {
	Name string // a pattern
	Keep int
}

func lastTopic(s *settings) *topicSettings { return &s.Topics[len(s.Topics)-1] }

var topicTable = []setting{
	{key: "name", kind: ofText, at: func(s *settings) any { return &lastTopic(s).Name }, check: checkTopicName,
		want: "a topic such as build.done, or a pattern such as build.>",
		doc:  "The topic, in which * stands for one token and > at the end for all that follow; it has to be given."},
	{key: "keep", kind: ofCount, at: func(s *settings) any { return &lastTopic(s).Keep }, min: 1, max: 100_000,
		doc: "How many events are kept of all topics that match together; limits.max_kept bounds their bytes."},
}

// finishTopics reports topics that have no name, or that of another one.
func finishTopics(r *record, st *settings, f recordFile) (wrongs []error) {
	places := map[string]string{}
	for i, t := range st.Topics {
		at := cmp.Or(f.from[r.place(i, "name")], f.from[r.place(i, "")])
		switch before := places[t.Name]; {
		case t.Name == "" && f.from[r.place(i, "name")] == "":
			wrongs = append(wrongs, usagef("%s: topic.name: is missing; expected %s", at, r.field("name").want))
		case t.Name == "": // it has been refused
		case before != "":
			wrongs = append(wrongs, usagef("%s: topic.name: there is a topic %s already, at %s; expected another one", at, t.Name, before))
		default:
			places[t.Name] = at
		}
	}
	return wrongs
}

// checkTopicName returns what is wrong with the name of a topic, or nil.
func checkTopicName(text string) *fault {
	if wrong := checkPattern(text); wrong != nil {
		what, _, _ := strings.Cut(wrong.Text, "; expected ")
		return usagef("%s", what)
	}
	return nil
}
