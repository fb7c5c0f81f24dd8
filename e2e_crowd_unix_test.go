//go:build unix

package main

// This file owns what holds where many meet: callers at one socket, calls on one connection; and
// the places for a socket that are just allowed.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDialWaitsForRoom has a socket with as many callers as may wait, and makes room while one
// more dials: that is no reason to give up.
func TestDialWaitsForRoom(t *testing.T) {
	path := tempSocket(t)
	fd := fillBacklog(t, path)
	begun := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		close(begun)
		conn, err := dialUnix(context.Background(), at(path), dialOptions{})
		if err == nil {
			err = conn.Close()
		}
		done <- err
	}()
	<-begun
	for range 100 { // time enough to be refused once; the outcome is the same without
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			t.Fatal("there is room before one was let in")
		}
	}
	for range 2 { // of whom the one is this test's own, should it have been faster
		conn, _, err := unix.Accept(fd)
		must(t, err)
		defer unix.Close(conn)
	}
	if err := receive(t, done); err != nil {
		t.Errorf("dial = %v; want a connection once there is room", err)
	}
}

// TestManyCallsAndManyGivenUp has as many calls in flight on one connection as are allowed. Half
// of them are withdrawn, the others get their own answers, and nobody waits for nothing.
func TestManyCallsAndManyGivenUp(t *testing.T) {
	const half = 500
	s := startServerWith(t, func(l *limits) { l.MaxCalls = 2 * half }, localEndpoint(t))
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var withdrawn []<-chan error
	for range half {
		withdrawn = append(withdrawn, inBackground(ctx, c, "Trial.Block", "a"))
	}
	s.begun(half)
	meet(t, c, half) // all of them at once, and the others are still inside
	var others sync.WaitGroup
	others.Go(func() { meet(t, c, half/2) }) // while the others leave
	cancel()
	for _, done := range withdrawn {
		if err := receive(t, done); !errors.Is(err, errCancelled) {
			t.Fatalf("a call that was withdrawn ended with %v; want %v", err, errCancelled)
		}
		if err := receive(t, s.trial.left); err != context.Canceled {
			t.Fatalf("the context of the method ended with %v; want %v", err, context.Canceled)
		}
	}
	others.Wait()
	checkSay(t, c, "still here")
}

// TestLongestPath serves a path of as many bytes as there is room for, and refuses one more to
// both who would listen and who would call.
func TestLongestPath(t *testing.T) {
	dir := tempDir(t)
	longest := at(dir + "/" + strings.Repeat("x", sunPath-bindSpace-len(dir)-1))
	s := startServerWith(t, nil, longest)
	checkServes(t, s)
	long := longest
	long.Path += "x"
	words := fmt.Sprintf("has %d bytes; a socket's may have %d", len(long.Path), len(longest.Path))
	_, err := listenUnix(long, audience{})
	checkRefused(t, "listen", err, words, "choose a shorter one")
	_, err = dialUnix(t.Context(), long, dialOptions{})
	checkRefused(t, "dial", err, words, "choose a shorter one")
	if exitCode(err) != exitUsage {
		t.Errorf("exit code %d; want %d", exitCode(err), exitUsage)
	}
}

// TestSocketInTmp is the article's own place for a socket, which everybody can write to.
func TestSocketInTmp(t *testing.T) {
	e := at(filepath.Join("/tmp", fmt.Sprintf("ipcd-test-%d.sock", os.Getpid())))
	_, err := listenUnix(e, audience{})
	checkRefused(t, "without ?dir=shared", err, "everybody can put files into the directory", e.Path+"?dir=shared")
	s := startServerWith(t, nil, e.withShared())
	info, err := os.Lstat(e.Path)
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the socket has the mode %04o; want 0600", mode)
	}
	checkServes(t, s)
	s.halt()
	if left, _ := filepath.Glob(e.Path + "*"); len(left) > 0 {
		t.Errorf("Close left %q", left)
	}
}
