package main

import (
	"strings"
	"testing"
)

// TestCallKnowsWhatTheMethodTakes calls methods of the tests by each protocol, with words that can mean several things.
func TestCallKnowsWhatTheMethodTakes(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	tests := []struct {
		words       []string
		out         string // in what is printed
		wrong, hint string // in the error
		code        int    // the exit code
	}{
		{words: []string{"Trial.Parcel", "name=36", "age=36"}, out: `"name":"36","age":36,`},
		{words: []string{"Trial.Parcel", "name=a=b", "age:=36"}, out: `"name":"a=b","age":36,`},
		{words: []string{"Trial.Parcel", "tags:=[\"a\"]"}, out: `"tags":["a"]`},
		{words: []string{"Trial.Parcel", "nmae=Ada", "age=36"}, wrong: "Trial.Parcel has no member nmae", hint: "did you mean name? the form is: ipcd call -e ", code: exitUsage},
		{words: []string{"Trial.Parcel", "age=old"}, wrong: "age=old: expected integer", hint: "age=INTEGER", code: exitUsage},
		{words: []string{"Trial.Slow", "ms=1"}, wrong: "Trial.Slow takes integer", hint: "Trial.Slow --arg INTEGER", code: exitUsage},
		{words: []string{"Trial.Slow", "1"}, wrong: "expected ", hint: "Trial.Slow --arg INTEGER", code: exitFailed},
		{words: []string{"Trial.Slow", "--arg", "1"}, out: "1"},
		{words: []string{"Trial.Parcel"}, hint: "name=TEXT", code: exitFailed},
		{words: []string{"Trial.Fail", "a=b"}, wrong: "a=b", code: exitFailed},
		{words: []string{"Trial.Nothing", "a=b"}, wrong: "there is no method Trial.Nothing", hint: `run "ipcd ls -e `, code: exitFailed},
	}
	for _, proto := range []string{"", "?proto=jsonrpc", "?proto=http"} {
		for _, test := range tests {
			e := s.endpoints[0].String() + proto
			out, err := command(t, append([]string{"call", "-e", e}, test.words...)...)
			if exitCode(err) != test.code || !strings.Contains(out, test.out) || err != nil && !strings.Contains(err.Error(), test.wrong) || !strings.Contains(hintFor(err), test.hint) {
				t.Errorf("call -e %s %q: exit code %d, %v, hint %q, %s; want %+v", e, test.words, exitCode(err), err, hintFor(err), out, test)
			}
		}
	}
}

// TestCallTakesOneRoundTrip counts what a call costs the daemon: only words that can mean several things cost a question.
func TestCallTakesOneRoundTrip(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	for _, test := range []struct {
		words string
		calls int64
	}{
		{"hello", 1}, {"Echo.Say hello", 1}, {"Echo.Say --text a=b", 1}, {"Trial.Parcel age:=36", 1}, {"Trial.Parcel --arg {}", 1},
		{"Trial.Parcel age=36", 2}, {"Echo.Say a=b", 2},
	} {
		before := s.server.meter.calls.Load()
		_, err := command(t, append([]string{"call", "-e", s.endpoints[0].String()}, strings.Fields(test.words)...)...)
		if got := s.server.meter.calls.Load() - before; got != test.calls || err != nil {
			t.Errorf("call %s: the daemon was called %d times, %v; want %d", test.words, got, err, test.calls)
		}
	}
}

// TestCallSaysWhoseLimitItIs has a result that is too long for the client, and an argument that is too long for the daemon.
func TestCallSaysWhoseLimitItIs(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 8 << 10 }, localEndpoint(t))
	for _, proto := range []string{"jsonrpc", "gob"} {
		e := s.endpoints[0].String() + "?proto=" + proto
		_, err := command(t, "call", "-e", e, "--set", "limits.max_message=2KiB", "Trial.Big", "--arg", "4000")
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "limit max_message = 2048") || !strings.Contains(hintFor(err), "the client's own limit: --set limits.max_message=") {
			t.Errorf("over %s, a result that is too long: %v, hint %q", proto, err, hintFor(err))
		}
		_, err = command(t, "call", "-e", e, "Echo.Say", strings.Repeat("x", 9<<10))
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "limit max_message = 8192") || !strings.Contains(hintFor(err), "in the daemon's configuration") {
			t.Errorf("over %s, an argument that is too long: %v, hint %q", proto, err, hintFor(err))
		}
	}
}
