//go:build unix

package main

// This file owns how "ipcd fork" and "ipcd child" reply.

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

// TestReplyToOneThatHasGone has an end of the channel that sends more than there is room for replies, and goes without
// reading one: all that it has sent is printed.
func TestReplyToOneThatHasGone(t *testing.T) {
	l, err := net.Listen("unix", tempSocket(t))
	must(t, err)
	defer l.Close()
	far, err := net.Dial("unix", l.Addr().String())
	must(t, err)
	near, err := l.Accept()
	must(t, err)
	defer near.Close()
	send(t, far, strings.Repeat("1\n", 100))
	must(t, far.Close())
	limits := defaultLimits()
	limits.MaxCalls = 1
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- (&seedFlags{reply: `"thanks"`}).talk(t.Context(), near, limits, &out) }()
	must(t, receive(t, done))
	if n := strings.Count(out.String(), "message 1\n"); n != 100 {
		t.Errorf("%d of 100 messages were printed", n)
	}
}
