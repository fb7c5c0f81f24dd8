//go:build unix

package main

// This file owns what holds where many meet: callers at one socket, calls on one connection; and
// the places for a socket that are just allowed. Ten thousand callers are the whole form of some tests, see faultRounds.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// startCrowded starts a daemon that has room for a crowd, and returns how many may come at a time: in the whole form ten thousand, if
// the system lets both sides have as many descriptors.
func startCrowded(t *testing.T) (d *ranDaemon, endpoints []endpoint, callers int) {
	t.Helper()
	const spare = 256 // descriptors for all that is no connection of the crowd
	callers = faultRounds(t, 300, 10_000)
	if most := mostDescriptors(); most > 0 && most < callers+spare {
		before, more := unix.Rlimit{}, unix.Rlimit{}
		must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
		fmt.Sscan(fmt.Sprint(callers+spare), &more.Cur) // whose type differs between systems
		more.Max = max(before.Max, more.Cur)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &more); err == nil { // the daemon inherits it
			t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
		} else {
			t.Logf("the system lets a process have %d descriptors: %d callers come, not %d: %v", most, most-spare, callers, err)
			callers = most - spare
		}
	}
	d = startRun(t, "ipcd", "--log-level", "warn", "--listen", "tcp://127.0.0.1:0?auth=none",
		"--set", fmt.Sprint("limits.max_connections=", callers+spare), "--set", "limits.first_bytes=5m")
	for _, text := range d.status().Endpoints {
		endpoints = append(endpoints, mustParse(t, text))
	}
	return d, endpoints, callers
}

// together runs a function for each of so many, all at the same time.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			do(i)
		})
	}
	close(begin)
	all.Wait()
}

// TestManyConnectionsHeld has ten thousand callers connect and wait until all are there. Then each calls, and all leave.
func TestManyConnectionsHeld(t *testing.T) {
	d, endpoints, callers := startCrowded(t)
	stays := d.dial()
	measure := func() (s Status) {
		t.Helper()
		must(t, ask(stays, "Ipcd.Status", nil, &s))
		return s
	}
	before, open, held := measure(), openDescriptors(d.cmd.Process.Pid), residentBytes(d.cmd.Process.Pid)
	crowd := make([]caller, callers)
	began := time.Now()
	for i := range crowd {
		c, err := dial(t.Context(), endpoints[i%len(endpoints)], dialOptions{limits: defaultLimits()})
		if err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, callers, err)
		}
		defer c.close()
		crowd[i] = c
	}
	waitFor(t, func() error {
		if now := measure(); now.Connections <= int64(callers) {
			return fmt.Errorf("there are %d connections; want %d, and one more", now.Connections, callers)
		}
		return nil
	})
	came, began := time.Since(began), time.Now()
	var wrong atomic.Int64
	together(callers, func(i int) {
		text, got := fmt.Sprint("caller ", i), ""
		if err := crowd[i].call(t.Context(), "Echo.Say", text, &got); err != nil || got != text {
			if wrong.Add(1) <= 10 {
				t.Errorf("caller %d is answered with %q, %v", i, got, err)
			}
		}
	})
	called := time.Since(began)
	held = residentBytes(d.cmd.Process.Pid) - held
	checkSay(t, stays, "here")
	together(callers, func(i int) { crowd[i].close() })
	waitFor(t, func() error {
		now, fds := measure(), openDescriptors(d.cmd.Process.Pid)
		if now.Connections > before.Connections || now.Goroutines > before.Goroutines+3 || fds > open {
			return fmt.Errorf("%d connections, %d goroutines and %d descriptors are left; there were %d, %d and %d", now.Connections, now.Goroutines, fds, before.Connections, before.Goroutines, open)
		}
		return nil
	})
	figure(t, "%d connections, over a Unix socket and TCP in turn, held at a time (they came in %v, and take %d bytes each of the daemon): then each calls, all at once, %d calls failed, all answered in %v; all is given back",
		callers, came.Round(time.Millisecond), held/int64(callers), wrong.Load(), called.Round(time.Millisecond))
}

// TestManyDialsAtOnce has ten thousand callers connect and call at the same instant, of whom the backlog of a listener takes a part.
func TestManyDialsAtOnce(t *testing.T) {
	d, endpoints, callers := startCrowded(t)
	for _, e := range endpoints {
		var wrong atomic.Int64
		began := time.Now()
		together(callers, func(i int) {
			text, got := fmt.Sprint("dial ", i), ""
			c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
			if err == nil {
				err = errors.Join(c.call(t.Context(), "Echo.Say", text, &got), c.close())
			}
			if (err != nil || got != text) && wrong.Add(1) <= 10 {
				t.Errorf("dial %d is answered with %q, %v", i, got, err)
			}
		})
		figure(t, "%d dials of %s at one instant, each with a call: %d failed, all answered in %v", callers, e.Scheme, wrong.Load(), time.Since(began).Round(time.Millisecond))
	}
	if s := d.status(); s.Refused > 0 {
		t.Errorf("%d connections were refused", s.Refused)
	}
	d.serves(0)
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
