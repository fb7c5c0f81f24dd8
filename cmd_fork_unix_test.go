//go:build unix

package main

// This file owns how "ipcd fork" and "ipcd child" reply, and how the channel of a program that has gone ends.

import (
	"bytes"
	"io"
	"net"
	"os/exec"
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
	go func() { done <- (&seedFlags{reply: `"thanks"`}).talk(t.Context(), near, nil, limits, &out) }()
	must(t, receive(t, done))
	if n := strings.Count(out.String(), "message 1\n"); n != 100 {
		t.Errorf("%d of 100 messages were printed", n)
	}
}

// TestProgramThatHasGoneIsReadToItsEnd has all that a program has written wait in the channel when it goes, and the other end
// stay open.
func TestProgramThatHasGoneIsReadToItsEnd(t *testing.T) {
	fds, err := socketPair()
	must(t, err)
	theirs, err := connOf(fds[1], "theirs")
	must(t, err)
	defer theirs.Close()
	ours, err := connOf(fds[0], "ours")
	must(t, err)
	defer ours.Close()
	c := &programConn{Conn: ours}
	b := make([]byte, 10)
	send(t, theirs, "12345")
	if _, err := io.ReadFull(c, b[:2]); err != nil || string(b[:2]) != "12" {
		t.Errorf("read %q, %v", b[:2], err)
	}
	send(t, theirs, "67890")
	must(t, c.SetReadDeadline(programOver))
	if n, err := c.Read(b[:1]); err != nil || n != 1 {
		t.Errorf("read %d bytes, %v; want one", n, err)
	}
	send(t, theirs, "somebody else's")
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "4567890" {
		t.Errorf("read %q, %v; want 4567890 and the end", rest, err)
	}
}

// passChannel gives a program that a child starts the channel of the child: it is inherited as it is.
func passChannel(*exec.Cmd) {}
