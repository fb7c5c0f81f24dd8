package main

// This file owns the names of topics, to which events are published, and the patterns that match them.

import "strings"

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

// overlap reports whether there is a topic that both patterns match.
func overlap(a, b string) bool {
	for moreA, moreB := true, true; moreA && moreB; {
		var tokenA, tokenB string
		tokenA, a, moreA = strings.Cut(a, ".")
		tokenB, b, moreB = strings.Cut(b, ".")
		switch {
		case tokenA == anyRest || tokenB == anyRest:
			return true
		case tokenA != anyToken && tokenB != anyToken && tokenA != tokenB || moreA != moreB:
			return false
		}
	}
	return true
}

// checkTopicName returns what is wrong with the name of a topic, or nil.
func checkTopicName(text string) *fault {
	if wrong := checkPattern(text); wrong != nil {
		what, _, _ := strings.Cut(wrong.Text, "; expected ")
		return usagef("%s", what)
	}
	return nil
}
