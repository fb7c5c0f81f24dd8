package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// pipeEndpoint is an endpoint of the local transport that nobody else has.
func pipeEndpoint(t testing.TB) endpoint {
	t.Helper()
	name := fmt.Sprintf("ipcd-test-%d-%s", os.Getpid(), filepath.Base(t.TempDir()))
	return endpoint{Scheme: "npipe", Path: pipePrefix + name + strings.ReplaceAll(t.Name(), "/", "-"), Proto: protoAuto}
}

// dialSoon is dialPipe for tests that listen in the same moment: until the listener accepts,
// there is nobody to be found.
func dialSoon(t testing.TB, e endpoint) net.Conn {
	t.Helper()
	var conn net.Conn
	waitFor(t, func() (err error) {
		conn, err = dialPipe(t.Context(), e, dialOptions{})
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// listenTest listens until the test ends.
func listenTest(t testing.TB, e endpoint) net.Listener {
	t.Helper()
	l, err := listenPipe(e, audience{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	first, err := settle(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	return l
}

// A deadlinePipe is a deadlineConn with the handle that go-winio's connections have.
type deadlinePipe struct {
	*deadlineConn
	handled
}

type handled interface{ Fd() uintptr }

func TestPipeKnowsItsCaller(t *testing.T) {
	e := pipeEndpoint(t)
	l := listenTest(t, e)
	go func() {
		conn := dialSoon(t, e)
		conn.Write([]byte("hello"))
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := conn.(*pipeConn)
	noted := &deadlineConn{Conn: c.Conn}
	c.Conn = deadlinePipe{noted, c.Conn.(handled)}
	p, err := identifyPipe(conn, testPatience)
	if err != nil {
		t.Fatal(err)
	}
	if want := []bool{true, false}; !slices.Equal(noted.set, want) {
		t.Errorf("deadlines for the first bytes: %v; want %v, since what follows has limits of its own, or none", noted.set, want)
	}
	own, err := ownPeer()
	if err != nil {
		t.Fatal(err)
	}
	if !p.Known || p.SID != own.SID || p.PID != os.Getpid() {
		t.Errorf("the caller is %+v; want %+v", p, own)
	}
	if err := (&policy{}).enter(&p, e); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 10)
	if n, err := conn.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Errorf("read %q, %v; what was looked at is still to be read", buf[:n], err)
	}
}

// Wine lets a second listener have the name, so that only the words for it can be looked at there.
func TestPipeThatIsTakenTellsByWhom(t *testing.T) {
	e := pipeEndpoint(t)
	l := listenTest(t, e)
	go func() { // who looks has to be let in
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		}
	}()
	own, err := ownPeer()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("it is held by pid %d since 20", os.Getpid())
	if err := pipeTaken(e, own); !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %q", err, want)
	}
}

// The daemon has ended, and a caller of it sees that later than the next daemon starts. Wine does not keep the name.
func TestPipeIsServedAgain(t *testing.T) {
	e := pipeEndpoint(t)
	name, err := windows.UTF16PtrFromString(e.Path)
	must(t, err)
	daemon, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_DUPLEX, windows.PIPE_TYPE_BYTE, windows.PIPE_UNLIMITED_INSTANCES, pipeBuffer, pipeBuffer, 0, nil)
	must(t, err)
	caller, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, 0, 0)
	must(t, err)
	must(t, windows.CloseHandle(daemon))
	if !isLeft(e) {
		t.Error("somebody is said to serve the pipe of a daemon that has ended")
	}
	own, err := ownPeer()
	must(t, err)
	if err := pipeTaken(e, own); !strings.Contains(err.Error(), "a caller of a daemon that has ended") {
		t.Errorf("pipeTaken = %v", err)
	}
	listening := make(chan error)
	go func() {
		l, err := listenPipe(e, audience{})
		if err == nil {
			err = l.Close()
		}
		listening <- err
	}()
	must(t, windows.CloseHandle(caller))
	if err := <-listening; err != nil {
		t.Error(err)
	}
}

func TestPipeSilentCallerEndsWithTheListener(t *testing.T) {
	e := pipeEndpoint(t)
	l := listenTest(t, e)
	go func() { dialSoon(t, e) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go l.Close()
	if _, err := identifyPipe(conn, testPatience); !errors.Is(err, net.ErrClosed) {
		t.Errorf("identify = %v; want closed", err)
	}
}

// The settings were read again, and name another group.
func TestPipeLetsAnotherGroupIn(t *testing.T) {
	e := pipeEndpoint(t)
	l := listenTest(t, e)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	conn := dialSoon(t, e)
	own, err := ownPeer()
	must(t, err)
	for _, to := range []audience{{group: group{name: "Users", id: "S-1-5-32-545"}}, {all: true}, {}} {
		must(t, l.(*pipeListener).openTo(to))
		sd, err := windows.GetSecurityInfo(handleOf(conn), windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
		must(t, err)
		const users, all = ";;;BU)", ";;;AU)" // as the last part of an entry in SDDL
		if text := sd.String(); strings.Contains(text, users) != (to.group.id != "") || strings.Contains(text, all) != to.all || !strings.Contains(text, own.SID+")") {
			t.Errorf("for %v the pipe has %s", to, text)
		}
	}
}

func TestPipeDialTellsThatNobodyIsThere(t *testing.T) {
	_, err := dialPipe(t.Context(), pipeEndpoint(t), dialOptions{})
	if f := asFault(err); f.Code != codeNotReachable || !strings.Contains(f.Text, "no daemon at npipe:") {
		t.Errorf("dial = %v", err)
	}
}

// A daemon in this process is called by our client.
func TestPipeServesCalls(t *testing.T) {
	e := pipeEndpoint(t)
	router, err := newBuiltins()
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(router, defaultLimits(), newLogger(testWriter{t}, formatText, levelWarn))
	l, err := srv.listen(e)
	if err != nil {
		t.Fatal(err)
	}
	srv.start(l)
	dialSoon(t, e).Close()
	for _, p := range []proto{protoAuto, protoGob, protoHTTP} {
		at := e.withProto(p)
		c, err := dial(t.Context(), at, dialOptions{limits: defaultLimits()})
		if err != nil {
			t.Fatal(err)
		}
		var answer string
		if err := c.call(t.Context(), "Echo.Say", "hello", &answer); err != nil || answer != "hello" {
			t.Errorf("%s: Echo.Say = %q, %v", p, answer, err)
		}
		c.close()
	}
	if err := srv.stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// testWriter gives the log to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// Whoever finds no pipe waits for a service that restarts, and for nothing else.
func TestDialWaitsForServiceThatRestarts(t *testing.T) {
	const (
		running  = windows.SERVICE_RUNNING
		stopping = windows.SERVICE_STOP_PENDING
		stopped  = windows.SERVICE_STOPPED
		starting = windows.SERVICE_START_PENDING
		absent   = 0
	)
	for _, row := range []struct {
		name   string
		states []uint32 // as they are seen, the last one for ever
		there  int      // the try that finds a pipe; 0 for none
		tries  int
	}{
		{"not installed", []uint32{absent}, 1, 0},
		{"stopped", []uint32{stopped}, 1, 0},
		{"runs, and listens elsewhere", []uint32{running}, 0, 1},
		{"runs, just now", []uint32{running}, 1, 1},
		{"restarts", []uint32{stopping, stopping, stopped, starting, running}, 5, 5},
		{"restarts, and is quick", []uint32{stopping, running}, 2, 2},
		{"starts", []uint32{starting}, 3, 3},
		{"is stopped for good", []uint32{stopping, stopped}, 0, 1 + restartLooks},
		{"is removed", []uint32{stopping, absent}, 0, 1},
	} {
		looks, tries := 0, 0
		awaitService(t.Context(), func() (status windows.SERVICE_STATUS_PROCESS, err error) {
			status.CurrentState = row.states[min(looks, len(row.states)-1)]
			if looks++; status.CurrentState == absent {
				err = windows.ERROR_SERVICE_DOES_NOT_EXIST
			}
			return status, err
		}, func() bool {
			tries++
			return tries != row.there
		})
		if tries != row.tries {
			t.Errorf("a service that %s: %d tries; want %d", row.name, tries, row.tries)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tries := 0
	awaitService(ctx, func() (status windows.SERVICE_STATUS_PROCESS, err error) {
		status.CurrentState = stopping
		return status, nil
	}, func() bool { tries++; return true })
	if tries > 1 {
		t.Errorf("a client that has given up tries %d times", tries)
	}
}
