package main

// This file owns what any two patterns of topics have to do with one another, by a second way to say what a pattern matches.

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// patternOf is a pattern of topics as a regular expression.
func patternOf(pattern string) *regexp.Regexp {
	text := "^" + strings.NewReplacer(`.`, `\.`, anyToken, `[^.]+`, anyRest, `[^.]+(\.[^.]+)*`).Replace(pattern) + "$"
	return regexp.MustCompile(text)
}

// A namedSink tells one subscriber of a test from another.
type namedSink string

func (namedSink) take(*event) {}

// FuzzTopic: covers, overlap and the tree of subscribers are of one mind about what a pattern matches.
func FuzzTopic(f *testing.F) {
	for _, row := range [][3]string{
		{"build.done", "build.*", "build.done"}, {"build.>", "build.*.x", "build.a.x"}, {">", "*", "a"}, {"*.b", "a.*", "a.b"}, {"a.>", "a", "a"},
		{"*.*.>", "a.>", "a.b.c.d"}, {"a..b", "", "."}, {"a.>.b", "A.b", "a.b"}, {"a*", "-_9.Z", "-_9.Z"}, {strings.Repeat("*.", 31) + ">", strings.Repeat("a.", 32) + "a", strings.Repeat("a.", 31) + "a"},
	} {
		f.Add(row[0], row[1], row[2])
	}
	f.Fuzz(around(func(t *testing.T, a, b, topic string) {
		if checkPattern(a) != nil || checkPattern(b) != nil || checkTopic(topic) != nil {
			return
		}
		inA, inB := patternOf(a).MatchString(topic), patternOf(b).MatchString(topic)
		if covers(a, topic) != inA {
			t.Errorf("covers(%q, %q) is %t", a, topic, !inA)
		}
		if covers(a, b) && inB && !inA {
			t.Errorf("%q covers %q, which has %q, and has it not", a, b, topic)
		}
		if overlap(a, b) != overlap(b, a) || inA && inB && !overlap(a, b) {
			t.Errorf("%q and %q have %q in common, and overlap is %t and %t", a, b, topic, overlap(a, b), overlap(b, a))
		}
		if !overlap(a, b) && (covers(a, b) || covers(b, a)) {
			t.Errorf("of %q and %q one covers the other, and they do not overlap", a, b)
		}
		var tree topicTree
		for _, pattern := range []string{a, b} {
			tree.add(pattern, namedSink(pattern))
		}
		want := []sink{}
		for pattern, in := range map[string]bool{a: inA, b: inB} {
			if in {
				want = append(want, namedSink(pattern))
			}
		}
		got := tree.match(topic, []sink{})
		byName := func(x, y sink) int { return strings.Compare(string(x.(namedSink)), string(y.(namedSink))) }
		slices.SortFunc(want, byName)
		slices.SortFunc(got, byName)
		if !slices.Equal(got, want) {
			t.Errorf("with %q and %q, %q goes to %q; want %q", a, b, topic, got, want)
		}
		tree.remove(a, namedSink(a))
		tree.remove(b, namedSink(b))
		if n := len(tree.next) + len(tree.here) + len(tree.rest); n > 0 {
			t.Errorf("%q and %q leave %d things in the tree", a, b, n)
		}
	}))
}
