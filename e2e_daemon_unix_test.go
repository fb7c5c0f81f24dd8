//go:build unix

package main

// This file owns the life of a daemon that is a process of its own: how it begins, ends and
// survives, with signals as Unix has them.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { testPrograms["trial-daemon"] = trialDaemon }

// trialDaemon is "ipcd run" with the service of the tests: trial-daemon URL DRAIN DESCRIPTORS,
// the last being how many it may have.
func trialDaemon() {
	set := defaultSettings()
	set.Listen, set.LogFormat = os.Args[1:2], formatText
	drain, err := time.ParseDuration(os.Args[2])
	var most unix.Rlimit
	_, err2 := fmt.Sscan(os.Args[3], &most.Cur) // whose type differs between systems
	if err = errors.Join(err, err2); err == nil {
		set.Limits.Drain, most.Max = drain, most.Cur
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &most)
	}
	if err == nil {
		err = serveTrial(set)
	}
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

// A testDaemon is a daemon in a process of its own.
type testDaemon struct {
	endpoint endpoint
	cmd      *exec.Cmd
	log      *logBuffer
	ended    chan struct{} // closed when it has
}

// startTestDaemon starts trial-daemon and waits until it answers.
func startTestDaemon(t testing.TB, drain time.Duration, descriptors int) *testDaemon {
	t.Helper()
	return startTestDaemonAt(t, at(tempSocket(t)), drain, descriptors)
}

// startTestDaemonAt is startTestDaemon at a place where there may have been another one.
func startTestDaemonAt(t testing.TB, e endpoint, drain time.Duration, descriptors int) *testDaemon {
	t.Helper()
	d := &testDaemon{endpoint: e, log: &logBuffer{}, ended: make(chan struct{})}
	d.cmd = exec.Command("trial-daemon", d.endpoint.String(), drain.String(), strconv.Itoa(descriptors))
	d.cmd.Stderr = d.log
	must(t, d.cmd.Start())
	go func() {
		d.cmd.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		d.cmd.Process.Kill()
		<-d.ended
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})
	checkSay(t, d.client(t), "hello")
	return d
}

// client calls the daemon until the test ends.
func (d *testDaemon) client(t testing.TB) caller {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	c, err := connect(ctx, d.endpoint, defaultLimits(), testPatience)
	must(t, err)
	t.Cleanup(func() { c.close() })
	return c
}

// block has a call run in the daemon, and returns once it does.
func (d *testDaemon) block(t testing.TB) <-chan error {
	t.Helper()
	c := d.client(t)
	done := inBackground(context.Background(), c, "Trial.Block", "a")
	waitFor(t, func() error {
		var n int
		if err := ask(c, "Trial.Entered", nil, &n); err != nil || n == 0 {
			return fmt.Errorf("%d calls have begun: %v", n, err)
		}
		return nil
	})
	return done
}

// end waits for the daemon to end and returns its exit code.
func (d *testDaemon) end(t testing.TB) int {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(testPatience):
		t.Fatalf("the daemon has not ended; its log:\n%s", d.log)
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *testDaemon) checkNothingLeft(t testing.TB) {
	t.Helper()
	for _, name := range []string{d.endpoint.Path, d.endpoint.Path + ".lock"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("the daemon has left %s", name)
		}
	}
}

func TestDaemonCutsWhatOutlastsTheDrain(t *testing.T) {
	d := startTestDaemon(t, 50*time.Millisecond, 1024)
	done := d.block(t)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	checkCode(t, "the call that was cut", receive(t, done), codeShuttingDown, "whether it was done is not known")
	if code := d.end(t); code != exitForced {
		t.Errorf("exit code %d; want %d", code, exitForced)
	}
	if log := d.log.String(); !strings.Contains(log, "calls in flight are cut") || !strings.Contains(log, "ipcd: error: calls were cut: stopped by force") {
		t.Errorf("the log does not say that calls were cut:\n%s", log)
	}
	d.checkNothingLeft(t)
}

func TestDaemonEndsAtOnceAtTheSecondSignal(t *testing.T) {
	d := startTestDaemon(t, time.Hour, 1024)
	done := d.block(t)
	must(t, d.cmd.Process.Signal(syscall.SIGINT))
	waitFor(t, func() error { // it stops: nobody listens any more
		conn, err := net.Dial("unix", d.endpoint.Path)
		if err == nil {
			conn.Close()
			return errors.New("it still listens")
		}
		return nil
	})
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	checkCode(t, "the call that was cut", receive(t, done), codeShuttingDown, "whether it was done is not known")
	if code := d.end(t); code != exitForced {
		t.Errorf("exit code %d; want %d", code, exitForced)
	}
	d.checkNothingLeft(t)
}

func TestDaemonThatDiesWhileACallWaits(t *testing.T) {
	d := startTestDaemon(t, time.Hour, 1024)
	done := d.block(t)
	must(t, d.cmd.Process.Kill())
	f := checkCode(t, "the call", receive(t, done), codeConnection, "")
	if exitCode(f) != exitFailed || hintFor(f) == "" {
		t.Errorf("%v has exit code %d and the hint %q; want %d and what to type", f, exitCode(f), hintFor(f), exitFailed)
	}
	d.end(t)
	next, err := listenUnix(d.endpoint, audience{}) // at once, whatever the dead one has left
	must(t, err)
	must(t, next.Close())
}

// A daemon that runs out of descriptors turns callers away, and serves again when it has some.
func TestDaemonRunsOutOfDescriptors(t *testing.T) {
	d := startTestDaemon(t, time.Hour, 40)
	served := d.client(t)
	var open []net.Conn
	for range 60 {
		conn, err := net.Dial("unix", d.endpoint.Path)
		if err != nil { // the backlog is full
			break
		}
		open = append(open, conn)
	}
	waitFor(t, func() error {
		if !strings.Contains(d.log.String(), "no connection can be accepted right now") {
			return errors.New("the log does not say that no connection can be accepted")
		}
		return nil
	})
	checkSay(t, served, "those who are in are served")
	for _, conn := range open {
		conn.Close()
	}
	waitFor(t, func() error {
		conn, err := net.Dial("unix", d.endpoint.Path)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testPatience))
		io.WriteString(conn, sayRequest)
		b := make([]byte, len(sayAnswer))
		_, err = io.ReadFull(conn, b)
		return err
	})
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.end(t); code != exitDone {
		t.Errorf("exit code %d; want %d", code, exitDone)
	}
}

// Of two that are started at one instant, one serves; when it is killed, the next begins at once.
func TestDaemonsStartedAtOneInstant(t *testing.T) {
	rounds := faultRounds(t, 20, 200)
	if testing.Short() {
		rounds = 1
	}
	e := at(tempSocket(t))
	defer func() { figure(t, "%d double starts: exactly one winner each", rounds) }()
	for range rounds {
		type process struct {
			cmd    *exec.Cmd
			stderr bytes.Buffer
			ended  chan error
		}
		var two [2]*process
		for i := range two {
			p := &process{cmd: exec.Command("ipcd", "run", "--listen", e.String()), ended: make(chan error, 1)}
			p.cmd.Stderr = &p.stderr
			must(t, p.cmd.Start())
			go func() { p.ended <- p.cmd.Wait() }()
			two[i] = p
		}
		loser, winner := two[0], two[1]
		select {
		case <-loser.ended:
		case <-winner.ended:
			loser, winner = winner, loser
		case <-time.After(testPatience):
			t.Error("both serve")
		}
		if code := loser.cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(loser.stderr.String(), fmt.Sprintf("it is held by pid %d since", winner.cmd.Process.Pid)) {
			t.Errorf("the other ended with %d: %s", code, &loser.stderr)
		}
		c, err := connect(t.Context(), e, defaultLimits(), testPatience)
		must(t, err)
		checkSay(t, c, "hello")
		c.close()
		winner.cmd.Process.Kill()
		<-winner.ended
	}
}

// A daemon that a client starts keeps nothing open that the client has inherited: the lock of a script, say, or its pipe.
func TestStartedDaemonInheritsNothing(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	e := at(tempSocket(t))
	cmd := exec.Command("ipcd", "call", "--start", "--idle", "1m", "-e", e.String(), "hello")
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+tempDir(t))
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.CombinedOutput()
	must(t, w.Close())
	if err != nil || string(out) != "hello\n" {
		t.Fatalf("%q, %v", out, err)
	}
	must(t, r.SetReadDeadline(time.Now().Add(testPatience)))
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a pipe that the client had is read with %v; want its end", err)
	}
	printed(t, exec.Command("ipcd", "stop", "-e", e.String()))
}

// Many clients that would all start a daemon get one, and their answers.
func TestStartAtOneInstant(t *testing.T) {
	clients := 20
	if testing.Short() {
		clients = 5
	}
	dir := tempDir(t)
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			cmd := exec.Command("ipcd", "call", "--start", "--idle", "1m", fmt.Sprint("hello ", i))
			cmd.Env = env
			out, err := cmd.CombinedOutput()
			if want := fmt.Sprintf("hello %d\n", i); err != nil || string(out) != want {
				t.Errorf("client %d: %q, %v; want %q", i, out, err, want)
			}
		})
	}
	all.Wait()
	// A client does not wait for a daemon of its own when it has reached another's. Such a daemon finds
	// the endpoint taken; but where it has not come to that yet, it would take the place of the one that ends below.
	waitFor(t, func() error {
		if err := leakedProcesses("XDG_RUNTIME_DIR=" + dir); err != nil && !strings.HasPrefix(err.Error(), "1 processes:") {
			return fmt.Errorf("more than one daemon is there: %w", err)
		}
		return nil
	})
	cmd := exec.Command("ipcd", "status", "--json")
	cmd.Env = env
	var status Status
	must(t, json.Unmarshal([]byte(printed(t, cmd)), &status))
	// Who finds a daemon that is there asks which build it is.
	if status.Calls < int64(clients)+1 || status.Calls > 2*int64(clients)+1 {
		t.Errorf("the daemon has had %d calls; want those of %d clients, at most two each, and ours", status.Calls, clients)
	}
	// It is in a session of its own, which a terminal that closes does not reach.
	if sid, err := unix.Getsid(status.PID); err != nil || sid != status.PID {
		t.Errorf("its session is %d, %v; want its own, %d", sid, err, status.PID)
	}
	must(t, syscall.Kill(status.PID, syscall.SIGTERM))
	waitFor(t, func() error {
		if _, err := os.Lstat(dir + "/ipcd/ipcd.sock"); err == nil {
			return errors.New("the daemon is still there")
		}
		return nil
	})
}

// What a shell runs in the background does not hear of Ctrl-C, and goes on.
func TestCtrlCThatIsIgnoredEndsNothing(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	e := s.endpoints[0].String()
	sub := subscribeBy(t, exec.Command("sh", "-c", `trap "" INT; exec ipcd sub --json -n 1 -e "$0" build.done`, e))
	must(t, sub.cmd.Process.Signal(os.Interrupt))
	must(t, exec.Command("ipcd", "pub", "-e", e, "build.done").Run())
	sub.want(`"topic":"build.done"`)
	sub.ends(0, "")
}

// Ctrl-C takes the call back before it ends the client, which then ends as a shell expects.
func TestCtrlCInACallCancelsIt(t *testing.T) {
	interrupt := func(cmd *exec.Cmd) {
		t.Helper()
		must(t, cmd.Process.Signal(os.Interrupt))
		cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGINT {
			t.Errorf("the client ended with %v; want the end that a shell expects of Ctrl-C", cmd.ProcessState)
		}
	}
	p := provide(t, localEndpoint(t))
	for _, flags := range [][]string{{""}, {"", "--stream"}, {"?proto=gob"}, {"?proto=http"}, {"?proto=http", "--stream"}} {
		cmd := exec.Command("ipcd", append([]string{"call", "-e", p.endpoints[0].String() + flags[0], "Far.Block", "a"}, flags[1:]...)...)
		must(t, cmd.Start())
		receive(t, p.far.entered)
		interrupt(cmd)
		if err := receive(t, p.far.left); err != context.Canceled {
			t.Errorf("the context of the method ended with %v; want %v", err, context.Canceled)
		}
	}

	// nobody reads what it prints
	cmd := exec.Command("ipcd", "call", "-e", p.endpoints[0].String(), "--stream", "Far.Flood")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil { // of a part that no pipe has room for
		t.Fatal(err)
	}
	interrupt(cmd)
	receive(t, p.far.left)

	sub := subscribe(t, "-e", p.endpoints[0].String(), "build.>")
	interrupt(sub.cmd)

	// a server that takes the end of a connection for no more than that
	lines := make(chan string, 1)
	e := startStranger(t, func(conn net.Conn) {
		for r := bufio.NewReader(conn); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	})
	cmd = exec.Command("ipcd", "call", "-e", e.String(), "Some.Method", "a")
	must(t, cmd.Start())
	if line, want := receive(t, lines), `{"jsonrpc":"2.0","id":1,"method":"Some.Method","params":["a"]}`+"\n"; line != want { // and no parts without --stream
		t.Errorf("the server is sent %s; want %s", line, want)
	}
	interrupt(cmd)
	if line := receive(t, lines); !strings.Contains(line, `"method":"$/cancelRequest","params":{"id":1}`) {
		t.Errorf("the server is sent %s; want a cancellation", line)
	}
}

// Whoever reads our output may have had enough: ipcd ls | head -1.
func TestOutputThatNobodyReads(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	for _, args := range [][]string{{"ls"}, {"call", "Trial.Big", "--arg", "4000000"}, {"--help"}} {
		r, w, err := os.Pipe()
		must(t, err)
		r.Close()
		cmd := exec.Command("ipcd", args...)
		cmd.Env = append(os.Environ(), "IPCD_ENDPOINT="+s.endpoints[0].String())
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		cmd.Run()
		w.Close()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if stderr.Len() > 0 || status.Signal() != syscall.SIGPIPE {
			t.Errorf("%q: %v, %q; want the silent end of a pipe", args, cmd.ProcessState, &stderr)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("/dev/full is Linux's")
	}
	defer full.Close()
	cmd := exec.Command("ipcd", "ls", "-e", s.endpoints[0].String())
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("a full disk: exit code %d, %q; want %d", code, &stderr, exitFailed)
	}
}

// A daemon whose socket somebody removes leaves, and makes room for one that can be found.
func TestDaemonLeavesWhenItsSocketIsGone(t *testing.T) {
	t.Parallel() // it waits, most of the time
	if testing.Short() {
		t.Skip("it looks once a second")
	}
	d := startTestDaemon(t, time.Second, 1024)
	must(t, os.Remove(d.endpoint.Path))
	if code := d.end(t); code != exitFailed || !strings.Contains(d.log.String(), "ipcd: error: the socket of "+d.endpoint.String()+" was removed or replaced") {
		t.Errorf("exit code %d; want %d and the reason", code, exitFailed)
	}
	d.checkNothingLeft(t)
}

// A call that fails because the connection breaks is no success, whatever a broken pipe means for
// standard output.
func TestCallThatBreaksFails(t *testing.T) {
	e := startStranger(t, func(conn net.Conn) {
		conn.(*net.TCPConn).SetLinger(0) // closing resets the connection
		conn.Read(make([]byte, 1))
	})
	for _, p := range []proto{protoJSON, protoGob, protoHTTP} {
		cmd := exec.Command("ipcd", "call", "-e", e.withProto(p).String(), "hello")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(stderr.String(), "ipcd: error: the ") {
			t.Errorf("%s: exit code %d, %q; want %d", p, code, &stderr, exitFailed)
		}
	}
}

// Ctrl-C ends "ipcd fork" though its child never reads what is sent to it.
func TestForkEndsThoughItsChildDoesNotRead(t *testing.T) {
	t.Parallel() // it waits, most of the time
	if testing.Short() {
		t.Skip("its child is given two seconds")
	}
	cmd := exec.Command("ipcd", "fork", "--send", `"`+strings.Repeat("a", 100_000)+`"`, "--every", "1ms", "--", "stay", tempSocket(t))
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd.Stdout = w
	must(t, cmd.Start())
	w.Close()
	waitFor(t, func() error {
		if _, err := os.Stat(cmd.Args[len(cmd.Args)-1]); err != nil {
			return err
		}
		return nil
	})
	must(t, cmd.Process.Signal(os.Interrupt))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := receive(t, ended); err != nil {
		t.Errorf("ipcd fork ended with %v", err)
	}
}

// A client gives up by its deadline in the middle of what it sends, too.
func TestClientGivesUpOnOneWhoNeverReads(t *testing.T) {
	t.Parallel() // it waits, most of the time
	gone := make(chan struct{})
	e := startStranger(t, func(conn net.Conn) { <-gone })
	defer close(gone)
	c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
	must(t, err)
	defer c.close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	checkCode(t, "the call", c.call(ctx, "Echo.Say", strings.Repeat("a", 12<<20), nil), codeDeadline, "deadline")
}
