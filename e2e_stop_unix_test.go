//go:build unix

package main

// This file owns how a daemon ends in order, and what is no reason for it to end: a terminal or a
// reader of its log that goes.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDaemonFinishesWhatItHasBegun sends SIGTERM while one call runs and a stream of others comes
// in. The one gets its result; each of the others that was read gets either its result or the word
// that it was not begun; and the daemon ends well.
func TestDaemonFinishesWhatItHasBegun(t *testing.T) {
	d := startTestDaemon(t, time.Minute, 1024)
	end, err := net.Listen("unix", tempSocket(t))
	must(t, err)
	defer end.Close()
	long := rawDial(t, d.endpoint)
	send(t, long, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Trial.Until","params":[%q]}{"jsonrpc":"2.0","id":2,"method":"Ipcd.Ping"}`, end.Addr()))
	held, err := end.Accept()
	must(t, err)
	defer held.Close()
	answers := bufio.NewReader(long)
	if line, err := answers.ReadString('\n'); !strings.Contains(line, "pong") {
		t.Fatalf("the answer to a ping behind a slow call is %q, %v", line, err)
	}

	// A call of its own keeps the stream open, however long we take to send the next one.
	const longID = 1 << 30
	stream := rawDial(t, d.endpoint)
	send(t, stream, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Trial.Until","params":[%q]}`, longID, end.Addr()))
	kept, err := end.Accept()
	must(t, err)
	defer kept.Close()
	written, over := make(chan struct{}), make(chan struct{})
	ahead := make(chan struct{}, defaultLimits().MaxCalls/2) // nobody is refused for having asked too much, however slow we are
	go func() {
		defer close(written)
		for id := 1; ; id++ {
			select {
			case ahead <- struct{}{}:
			case <-over:
				return
			}
			if _, err := fmt.Fprintf(stream, `{"jsonrpc":"2.0","id":%d,"method":"Ipcd.Ping"}`, id); err != nil {
				return
			}
		}
	}()
	done, refused, last := 0, 0, 0
	seen := map[int]bool{}
	in := json.NewDecoder(stream)
	for {
		var a struct {
			ID     int     `json:"id"`
			Result *string `json:"result"`
			Error  *fault  `json:"error"`
		}
		err := in.Decode(&a)
		if isTimeout(err) {
			t.Errorf("after %d results and %d refusals nothing comes, and the connection stays", done, refused)
		}
		if err != nil {
			break
		}
		switch {
		case a.ID == longID:
			continue
		case seen[a.ID]:
			t.Fatalf("the call %d is answered twice", a.ID)
		case a.Error == nil && a.Result != nil && *a.Result == "pong":
			done++
		case a.Error != nil && a.Error.Code == codeShuttingDown && a.Error.data().Retry && strings.Contains(a.Error.Text, "may be retried"):
			if refused++; refused == 1 {
				held.Close()
				kept.Close()
			}
		default:
			t.Fatalf("after %d results and %d refusals: %v, %v", done, refused, a.Result, a.Error)
		}
		seen[a.ID], last = true, max(last, a.ID)
		<-ahead
		if len(seen) == 1000 {
			must(t, d.cmd.Process.Signal(syscall.SIGTERM))
		}
	}
	stream.Close()
	close(over)
	<-written
	if done == 0 || refused == 0 || len(seen) != last {
		t.Errorf("%d results, %d refusals, %d calls; want some of both, and no call without either", done, refused, last)
	}

	rest, err := io.ReadAll(answers)
	if want := `{"jsonrpc":"2.0","id":1,"result":"let go"}` + "\n"; string(rest) != want || err != nil {
		t.Errorf("the call in flight: %q, %v; want %q", rest, err, want)
	}
	if code := d.end(t); code != exitDone {
		t.Errorf("exit code %d; want %d", code, exitDone)
	}
	d.checkNothingLeft(t)
}

// What becomes of subscriptions and of a stream when the daemon is stopped, or killed, and another one comes.
func TestRestartInTheMiddleOfStreams(t *testing.T) {
	const leaving = `{"code":-32003,"message":"the daemon is shutting down, and this ends with it; call again","data":{"retry":true}}`
	for _, row := range []struct {
		name   string
		sig    syscall.Signal
		drain  time.Duration
		answer bool     // the provider answers behind the signal
		hears  []string // what the caller of a stream reads then
		ends   string   // the error of a subscription; none if the connection just ends
		says   string   // what "ipcd sub" complains of
		exit   int
	}{
		{"the stream ends within drain", syscall.SIGTERM, time.Minute, true, []string{`"value":1`, `"id":"a","result":true`}, leaving, `{"error":{"code":-32003,`, exitDone},
		{"the stream is cut", syscall.SIGTERM, 50 * time.Millisecond, false, []string{`"id":"a","error":{"code":-32003,"message":"the daemon stopped while the call ran`}, leaving, `{"error":{"code":-32003,`, exitForced},
		{"the daemon is killed", syscall.SIGKILL, time.Minute, false, nil, "", `{"error":{"code":-32011,`, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := startTestDaemon(t, row.drain, 1024)
			e := d.endpoint.String()
			raw, web := subscribeOver(t, d.endpoint, `{"topics":["a"]}`), rawDial(t, d.endpoint)
			send(t, web, "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
			readLineWith(t, web, `"subscribed"`)
			stays, comes := subscribe(t, "-e", e, "a"), subscribe(t, "-e", e, "--wait", "1m", "-n", "2", "a")
			f := &streaming{t: t, caller: newLineEnd(rawDial(t, d.endpoint)), provider: newLineEnd(rawDial(t, d.endpoint))}
			f.begin("")
			f.parts("0")
			f.hears(f.caller, `"value":0`)
			publishOver(t, d.client(t), "a", "1")
			for _, s := range []*subProcess{stays, comes} {
				s.want(`"data":1\}$`)
			}
			for _, conn := range []net.Conn{raw, web} {
				readLineWith(t, conn, `"data":1}`)
			}
			must(t, d.cmd.Process.Signal(row.sig))
			for conn, want := range map[net.Conn]string{raw: `{"jsonrpc":"2.0","id":"s","error":%s}` + "\n", web: "event: failure\ndata: %s\n\n"} {
				if want = fmt.Sprintf(want, row.ends); row.ends == "" {
					want = ""
				}
				rest, err := io.ReadAll(conn)
				if isTimeout(err) || !strings.Contains(string(rest), want) || want == "" && strings.Contains(string(rest), "message") {
					t.Errorf("a subscription ends with %q, %v; want %q", rest, err, want)
				}
			}
			stays.ends(exitFailed, row.says)
			if row.answer {
				f.parts("1")
				send(t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			}
			f.hears(f.caller, row.hears...)
			if rest, _ := io.ReadAll(f.caller.lines); len(rest) > 0 {
				t.Errorf("behind that there comes %s", rest)
			}
			f.provider.Close()
			if code := d.end(t); code != row.exit {
				t.Errorf("exit code %d; want %d", code, row.exit)
			}

			d = startTestDaemonAt(t, d.endpoint, time.Second, 1024)
			comes.want(`^\{"subscribed":`)
			comes.want(`^\{"missed":null,`)
			publishOver(t, d.client(t), "a", "2")
			comes.want(`"data":2\}$`)
			comes.ends(exitDone, "")
		})
	}
}

// TestDaemonThatDrainsIsNotThere wants a client that comes during the drain to find nobody, so
// that it can start or find another one at the same place.
func TestDaemonThatDrainsIsNotThere(t *testing.T) {
	d := startTestDaemon(t, time.Hour, 1024)
	done := d.block(t)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	waitFor(t, func() error {
		_, err := os.Lstat(d.endpoint.Path + ".lock")
		if err == nil {
			return errors.New("the lock is still there")
		}
		return nil
	})
	_, err := dial(t.Context(), d.endpoint, dialOptions{limits: defaultLimits()})
	checkRefused(t, "dial", err, "no daemon at", `"ipcd run`)
	next := startServerWith(t, nil, d.endpoint)
	checkServes(t, next)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	if receive(t, done) == nil {
		t.Error("a call that was cut has a result")
	}
	if code := d.end(t); code != exitForced {
		t.Errorf("exit code %d; want %d", code, exitForced)
	}
	checkServes(t, next) // the old one has not taken its successor's socket along
}

// TestStopWaitsForTheEndOfTheDaemon has "ipcd stop" say what it waits for, and return when the process has ended and not before.
func TestStopWaitsForTheEndOfTheDaemon(t *testing.T) {
	for name, with := range map[string]func(e endpoint) endpoint{
		"as it is": func(e endpoint) endpoint { return e },
		"gob":      func(e endpoint) endpoint { return e.withProto(protoGob) },
		"HTTP":     func(e endpoint) endpoint { return e.withProto(protoHTTP) },
	} {
		t.Run(name, func(t *testing.T) {
			d := startTestDaemon(t, time.Hour, 1024)
			end, err := net.Listen("unix", tempSocket(t))
			must(t, err)
			defer end.Close()
			call := inBackground(context.Background(), d.client(t), "Trial.Until", end.Addr().String())
			held, err := end.Accept()
			must(t, err)
			defer held.Close()
			said := &logBuffer{}
			stop := exec.Command("ipcd", "stop", "-e", with(d.endpoint).String(), "--set", "limits.drain=1ms") // its own limit is not the daemon's
			stop.Stderr = said
			must(t, stop.Start())
			stopped := make(chan error, 1)
			go func() { stopped <- stop.Wait() }()
			waitFor(t, func() error {
				if !strings.Contains(said.String(), "waiting for calls in flight; Ctrl-C leaves it to end by itself") {
					return fmt.Errorf("it says %q", said)
				}
				return nil
			})
			select {
			case err := <-stopped:
				t.Fatalf("stop has ended while a call runs: %v", err)
			default:
			}
			if !strings.Contains(said.String(), `"limit":"1h"`) {
				t.Errorf("it says %q; want the limit of the daemon", said)
			}
			must(t, held.Close())
			if err := receive(t, stopped); err != nil {
				t.Errorf("stop: %v, %s", err, said)
			}
			if lifeOf != nil && lifeOf(d.cmd.Process.Pid) != "" {
				t.Error("stop has ended before the daemon")
			}
			if err := receive(t, call); err != nil {
				t.Errorf("the call in flight: %v", err)
			}
			if code := d.end(t); code != exitDone {
				t.Errorf("exit code %d; want %d", code, exitDone)
			}
		})
	}
}

// TestConnectionTellsWhoServes wants the process at the other end to be known from any other.
func TestConnectionTellsWhoServes(t *testing.T) {
	d := startTestDaemon(t, time.Minute, 1024)
	row := transports[d.endpoint.Scheme]
	conn, err := row.dial(t.Context(), d.endpoint, dialOptions{limits: defaultLimits()})
	must(t, err)
	defer conn.Close()
	if !row.serves(conn, d.cmd.Process.Pid) || tellsPID && row.serves(conn, os.Getpid()) {
		t.Errorf("the process %d is not the one that serves, or ours, %d, is", d.cmd.Process.Pid, os.Getpid())
	}
}

func TestDaemonEndsInOrderAtEachSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		d := startTestDaemon(t, time.Minute, 1024)
		must(t, d.cmd.Process.Signal(sig))
		if code := d.end(t); code != exitDone || !strings.Contains(d.log.String(), sig.String()) {
			t.Errorf("%v: exit code %d, log\n%s\nwant %d and the signal in the log", sig, code, d.log, exitDone)
		}
		d.checkNothingLeft(t)
	}
}

// TestDaemonOutlivesItsTerminal starts it as nohup(1) does. The shell ignores the signal for it:
// once this process had, it could not take that back, since os/signal keeps what it found.
func TestDaemonOutlivesItsTerminal(t *testing.T) {
	e := at(tempSocket(t))
	log := &logBuffer{}
	cmd := exec.Command(needTool(t, "sh"), "-c", `trap '' HUP; exec ipcd run --listen "$0"`, e.String())
	cmd.Stderr = log
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	defer func() {
		cmd.Process.Kill()
		<-ended
	}()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, e, defaultLimits(), testPatience)
	must(t, err)
	must(t, cmd.Process.Signal(syscall.SIGHUP))
	checkSay(t, c, "still here")
	c.close()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	receive(t, ended)
	if code := cmd.ProcessState.ExitCode(); code != exitDone || strings.Contains(log.String(), "hangup") {
		t.Errorf("exit code %d, log\n%s\nwant %d, and no word of the hang-up", code, log, exitDone)
	}
}

// TestDaemonOutlivesTheReaderOfItsLog takes away what reads its log, as Ctrl-C does to the tee of
// "ipcd run 2>&1 | tee log", and wants it to go on and to end in order.
func TestDaemonOutlivesTheReaderOfItsLog(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	e := at(tempSocket(t))
	cmd := exec.Command("ipcd", "run", "--listen", e.String())
	cmd.Stdout, cmd.Stderr = w, w
	must(t, cmd.Start())
	w.Close()
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	defer func() {
		cmd.Process.Kill()
		<-ended
	}()
	_, err = bufio.NewReader(r).ReadString('\n')
	must(t, err)
	r.Close()

	conn := rawDial(t, e)
	send(t, conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") // which is logged
	if got := readAll(t, conn); got != string(tlsAlert) {
		t.Errorf("the answer to TLS is %q; want %q", got, tlsAlert)
	}
	conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, e, defaultLimits(), 0)
	must(t, err)
	checkSay(t, c, "still here")
	c.close()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	receive(t, ended)
	if code := cmd.ProcessState.ExitCode(); code != exitDone {
		t.Errorf("it ended with %v; want exit code %d", cmd.ProcessState, exitDone)
	}
	if left, _ := os.ReadDir(tempDirOf(e)); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func tempDirOf(e endpoint) string { return strings.TrimSuffix(e.Path, "/s") }

// TestDaemonWithoutStandardFiles has descriptors 0 to 2 closed, as some service managers start
// programs: the first sockets must not become its standard output.
func TestDaemonWithoutStandardFiles(t *testing.T) {
	e := at(tempSocket(t))
	ipcd, err := exec.LookPath("ipcd")
	must(t, err)
	p, err := os.StartProcess(ipcd, []string{"ipcd", "run", "--listen", e.String()}, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
	must(t, err)
	ended := make(chan *os.ProcessState, 1)
	go func() {
		state, _ := p.Wait()
		ended <- state
	}()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, e, defaultLimits(), testPatience)
	if err == nil {
		checkSay(t, c, "hello")
		c.close()
	} else {
		t.Error(err)
	}
	p.Signal(syscall.SIGTERM)
	if state := receive(t, ended); state.ExitCode() != exitDone {
		t.Errorf("it ended with %v; want exit code %d", state, exitDone)
	}
}

// TestDaemonSaysOnceASecondThatItIsFull takes all its descriptors. Those who come are turned away
// one after another, and the log has a line a second about that at most.
func TestDaemonSaysOnceASecondThatItIsFull(t *testing.T) {
	d := startTestDaemon(t, time.Minute, 40)
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	for range 60 {
		conn, err := net.Dial("unix", d.endpoint.Path)
		must(t, err)
		open = append(open, conn)
	}
	away := map[net.Conn]bool{}
	waitFor(t, func() error {
		for _, conn := range open {
			conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); err == io.EOF {
				away[conn] = true
			}
		}
		if len(away) < 6 {
			return fmt.Errorf("%d of %d have been turned away", len(away), len(open))
		}
		return nil
	})
	stamp := regexp.MustCompile(`(?m)^(\S+) +warn +no connection can be accepted right now`)
	lines := stamp.FindAllStringSubmatch(d.log.String(), -1)
	if len(lines) == 0 {
		t.Fatal("the log does not say that no connection can be accepted")
	}
	var last time.Time
	for _, line := range lines {
		at, err := time.Parse(time.RFC3339, line[1])
		must(t, err)
		if gap := at.Sub(last); gap < time.Second-time.Millisecond {
			t.Errorf("the log says so again after %v:\n%s", gap, d.log)
		}
		last = at
	}
}
