//go:build unix

package main

// This file owns faults of the machine and of its processes: a daemon that is killed, clients that go or stand still, a full disk.
// The figures of the whole forms are in docs/reliability.md; e2e_faults_test.go has what providers do wrong.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// cutOff reports whether a call was lost with its connection, so that its caller knows that it is not known whether it was done.
func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// A daemon that is killed is followed by the next at once, whatever it has left. Where a manager holds the socket no connection is
// refused; elsewhere whoever comes in between finds nobody. No answer goes to another call than its own.
func TestKilledUnderLoad(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(map[bool]string{false: "its own socket", true: "a socket of the manager"}[held], func(t *testing.T) {
			kills := faultRounds(t, 5, 100)
			e := at(tempSocket(t))
			var files []*os.File
			if held {
				files = append(files, fileOf(t, listenAt(t, e.Path)))
			}
			d := &ranDaemon{T: t, endpoint: e, log: &logBuffer{}}
			start := func() {
				t.Helper()
				args := []string{"ipcd", "run", "--log-format", "text", "--listen", e.String()}
				d.cmd = exec.Command(args[0], args[1:]...)
				if held {
					d.cmd = exec.Command("activated", args...)
					d.cmd.ExtraFiles, d.cmd.Env = files, append(os.Environ(), "LISTEN_FDS=1")
				}
				d.cmd.Stderr = d.log
				must(t, d.cmd.Start())
				d.ended = make(chan struct{})
				go func(cmd *exec.Cmd, ended chan struct{}) {
					defer close(ended)
					cmd.Wait()
				}(d.cmd, d.ended)
			}
			answers := func() {
				t.Helper()
				waitFor(t, func() error {
					c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
					if err != nil {
						return err
					}
					defer c.close()
					var s Status
					if err := ask(c, "Ipcd.Status", nil, &s); err != nil || s.PID != d.cmd.Process.Pid {
						return fmt.Errorf("process %d answers, not %d: %w", s.PID, d.cmd.Process.Pid, err)
					}
					return nil
				})
			}
			start()
			defer func() {
				d.cmd.Process.Kill()
				<-d.ended
				if t.Failed() {
					t.Logf("the daemons' log:\n%s", d.log)
				}
			}()
			answers()
			l := startFullLoad(func(err error) bool {
				nobody := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
				return cutOff(err) || nobody && !held
			}, []string{"Echo.Say"}, e)
			defer l.stop()
			worst := time.Duration(0)
			for range kills {
				l.waitCalls(t, 200)
				must(t, d.cmd.Process.Kill())
				receive(t, d.ended)
				began := time.Now()
				start()
				answers()
				worst = max(worst, time.Since(began))
			}
			l.waitCalls(t, 200)
			if err := l.end(); err != nil {
				t.Errorf("of %d calls %d ended as none should: %v", l.calls, len(l.failed), err)
			}
			figure(t, "killed %d times under load: %d calls, %d cut off, %d connections refused, no wrong answer; at most %v until the next one answered",
				kills, l.calls, l.cut-l.refused, l.refused, worst.Round(time.Millisecond))
			must(t, d.cmd.Process.Signal(syscall.SIGTERM))
			receive(t, d.ended)
			left, err := os.ReadDir(filepath.Dir(e.Path))
			must(t, err)
			left = slices.DeleteFunc(left, func(entry fs.DirEntry) bool { return held && entry.Name() == filepath.Base(e.Path) })
			if code := d.cmd.ProcessState.ExitCode(); code != exitDone || len(left) > 0 {
				t.Errorf("the last one has ended with %d, and %v are left", code, left)
			}
		})
	}
}

// Clients that go in the middle of a call leave nothing behind: no call, no goroutine, no descriptor.
func TestClientsGoneInMidCall(t *testing.T) {
	const together, spare = 100, 3 // goroutines that the daemon may have begun to keep for those who stay
	clients := faultRounds(t, together, 1000)
	d := startRun(t, "ipcd")
	far := noDeadline(rawDial(t, d.endpoint))
	defer far.Close()
	register(t, far, `["Far.Say"]`)
	lines := newLineEnd(far)
	stays := d.dial()
	measure := func() (s Status, open int) {
		t.Helper()
		must(t, ask(stays, "Ipcd.Status", nil, &s))
		return s, openDescriptors(d.cmd.Process.Pid)
	}
	before, open := measure()
	worst := time.Duration(0)
	for gone := 0; gone < clients; gone += together {
		var conns []net.Conn
		for range together {
			conn := rawDial(t, d.endpoint)
			send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":["a"]}`)
			conns = append(conns, conn)
		}
		heard := func(word string) {
			t.Helper()
			for n := 0; n < together; {
				line, err := lines.lines.ReadString('\n')
				if must(t, err); strings.Contains(line, word) {
					n++
				}
			}
		}
		heard(`"Far.Say"`)
		for _, conn := range conns {
			conn.Close()
		}
		began := time.Now()
		heard(`"$/cancelRequest"`)
		waitFor(t, func() error {
			now, fds := measure()
			if now.Connections > before.Connections || now.Goroutines > before.Goroutines+spare || fds > open {
				return fmt.Errorf("%d connections, %d goroutines, %d descriptors; before there were %d, %d, %d",
					now.Connections, now.Goroutines, fds, before.Connections, before.Goroutines, open)
			}
			return nil
		})
		worst = max(worst, time.Since(began))
	}
	checkSay(t, stays, "here")
	after, fds := measure()
	figure(t, "%d clients gone in mid-call, %d at a time: each time all back within %v; before and after %d and %d connections, %d and %d goroutines, %d and %d descriptors",
		clients, together, worst.Round(time.Millisecond), before.Connections, after.Connections, before.Goroutines, after.Goroutines, open, fds)
}

// A method that panics ends its own call, and no other.
func TestManyPanics(t *testing.T) {
	panics := faultRounds(t, 50, 1000)
	d := startTestDaemon(t, time.Minute, 1024)
	c, other := d.client(t), d.client(t)
	held := d.block(t)
	for i := range panics {
		checkCode(t, "a call of a method that panics", ask(c, "Trial.Panic", fmt.Sprint(i), nil), codeInternal, "")
		if i%50 == 0 {
			checkSay(t, other, fmt.Sprint("behind ", i))
		}
	}
	notYet(t, "a call beside them", held)
	checkSay(t, c, "here")
	figure(t, "%d panics: each call answered with %d, the daemon and a call beside them unharmed", panics, codeInternal)
}

// Calls over one connection run side by side.
func TestCallsOfOneConnectionRunSideBySide(t *testing.T) {
	const calls = 64
	d := startTestDaemon(t, time.Minute, 1024)
	conn := rawDial(t, d.endpoint)
	defer conn.Close()
	var all strings.Builder
	for id := 1; id <= calls; id++ {
		fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"Trial.Slow","params":[30]}`+"\n", id)
	}
	send(t, conn, all.String())
	seen := map[string]bool{}
	var first, last time.Time
	for range calls {
		line := readLine(t, conn)
		if last = time.Now(); first.IsZero() {
			first = last
		}
		if !strings.HasSuffix(line, `"result":30}`+"\n") || seen[line] {
			t.Errorf("a call is answered with %s", line)
		}
		seen[line] = true
	}
	figure(t, "%d calls of 30 ms on one connection ended within %v of one another", calls, last.Sub(first).Round(100*time.Microsecond))
}

// Large calls go over one connection in both directions at a time, and nobody waits for somebody who waits for them.
func TestLargeCallsInBothDirections(t *testing.T) {
	calls := faultRounds(t, 400, 10_000)
	d := startRun(t, "ipcd")
	methods := newRouter()
	must(t, addReceiver(methods, &Hand{}, nil))
	h, err := dialHost(t.Context(), d.endpoint, methods, dialOptions{limits: defaultLimits()})
	must(t, err)
	defer h.close()
	var got Registered
	must(t, ask(h, "Ipcd.Register", map[string]any{"methods": []string{"Hand.Echo"}}, &got))
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	text := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB
	for _, by := range []struct {
		c      caller
		method string
	}{{h, "Echo.Say"}, {d.dial(), "Hand.Echo"}} {
		for range 8 {
			all.Go(func() {
				for n := next.Add(1); n <= int64(calls) && !t.Failed(); n = next.Add(1) {
					want := fmt.Sprint(n, " ", text[:1+int(n*7919)%len(text)])
					var answer string
					if err := ask(by.c, by.method, want, &answer); err != nil || answer != want {
						t.Errorf("call %d of %s, with %d bytes: %d bytes, %v", n, by.method, len(want), len(answer), err)
					}
				}
			})
		}
	}
	all.Wait()
	figure(t, "%d calls of up to 256 KiB in both directions of one connection, 16 at a time: all answered right, in %v", calls, time.Since(began).Round(time.Millisecond))
}

// A daemon that stands still keeps nobody for longer than they want to wait, and goes on where it was.
func TestDaemonThatStandsStill(t *testing.T) {
	d := startRun(t, "ipcd", "--set", "limits.first_bytes=1h") // c says nothing for as long as it stands
	c := d.dial()
	must(t, d.cmd.Process.Signal(syscall.SIGSTOP))
	defer d.cmd.Process.Signal(syscall.SIGCONT)
	standsStill(t, d.cmd.Process.Pid)
	late := d.waits()
	out, err := exec.Command("ipcd", "call", "-e", d.endpoint.String(), "--timeout", "50ms", "hello").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "deadline") {
		t.Errorf("a call with a deadline: %v, %s", err, out)
	}
	var brief sync.WaitGroup
	for _, words := range []string{"ls", "whoami", "describe Echo", "stats", "worker ls", "bench", "status"} { // nobody waits for these as for a call
		brief.Go(func() {
			cmd := exec.Command("ipcd", append(strings.Fields(words), "-e", d.endpoint.String())...)
			said := failing(t, cmd)
			want := exitFailed
			if words == "status" {
				want = exitNobody
			}
			if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(said, fmt.Sprintf("(process %d) is there, but does not answer", d.cmd.Process.Pid)) {
				t.Errorf("ipcd %s of a daemon that stands still: exit code %d, %q; want %d and its process", words, code, said, want)
			}
		})
	}
	brief.Wait()
	notYet(t, "a call without", late)
	must(t, d.cmd.Process.Signal(syscall.SIGCONT))
	must(t, receive(t, late))
	checkSay(t, c, "here")
	d.serves(0)
}

// standsStill waits until a process has stopped, which is some time after the signal.
func standsStill(t *testing.T, pid int) {
	t.Helper()
	name := fmt.Sprintf("/proc/%d/stat", pid)
	if _, err := os.Stat(name); err != nil {
		t.Skip("the system does not tell whether a process has stopped")
	}
	waitFor(t, func() error {
		if stat, err := os.ReadFile(name); err != nil || !strings.Contains(string(stat), ") T ") {
			return fmt.Errorf("it is %.60s, %v", stat, err)
		}
		return nil
	})
}

// A client that stands still, with answers that it does not read, holds up nobody else.
func TestClientThatStandsStill(t *testing.T) {
	d := startRun(t, "ipcd", "--set", "limits.write=500ms")
	cmd := exec.Command("ipcd", "sub", "-e", d.endpoint.String(), "a")
	out, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := out.Read(make([]byte, 1)); err != nil { // it says that it has subscribed
		t.Fatal(err)
	}
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	standsStill(t, cmd.Process.Pid)
	c := d.dial()
	text := strings.Repeat("a", 64<<10)
	for range 100 {
		publishOver(t, c, "a", `"`+text+`"`)
	}
	checkSay(t, c, "here")
	d.terminate()
	d.ends(exitDone)
}

// Nothing can be written: the daemon says why it does not begin, and leaves nothing. One whose log has no room goes on.
func TestFullDisk(t *testing.T) {
	for _, row := range []struct{ name, options, want string }{
		{"full", "size=4k", "no space left"},
		{"read only", "ro", "read-only"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := mountTemp(t, row.options)
			if row.name == "full" {
				fill(t, filepath.Join(dir, "fill"))
			}
			out, err := exec.Command("ipcd", "run", "--listen", at(dir+"/s").String()).CombinedOutput()
			if err == nil || !strings.Contains(string(out), row.want) || !strings.Contains(string(out), "ipcd: hint: ") {
				t.Errorf("a socket there: %v, %s", err, out)
			}
			for _, name := range []string{dir + "/s", dir + "/s.lock"} {
				if _, err := os.Lstat(name); err == nil {
					t.Errorf("%s is left", name)
				}
			}
			start := exec.Command("ipcd", "call", "--start", "-e", at(tempSocket(t)).String(), "hello")
			start.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
			out, err = start.CombinedOutput()
			if row.name == "full" { // there is room for a name, and the log is not worth a daemon
				if err != nil || string(out) != "hello\n" {
					t.Errorf("a daemon whose log has no room: %v, %s", err, out)
				}
				printed(t, exec.Command("ipcd", "stop", "-e", start.Args[4]))
				return
			}
			if err == nil || !strings.Contains(string(out), row.want) {
				t.Errorf("a state directory there: %v, %s", err, out)
			}
		})
	}
	t.Run("the log", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("/dev/full is Linux's")
		}
		defer full.Close()
		d := &ranDaemon{T: t, endpoint: at(tempSocket(t)), log: &logBuffer{}}
		d.cmd = exec.Command("ipcd", "run", "--listen", d.endpoint.String(), "--log-level", "debug")
		d.cmd.Stderr = full
		must(t, d.cmd.Start())
		defer d.cmd.Wait()
		defer d.cmd.Process.Kill()
		c, err := connect(t.Context(), d.endpoint, defaultLimits(), testPatience)
		must(t, err)
		defer c.close()
		for i := range 100 {
			checkSay(t, c, fmt.Sprint(i))
		}
	})
}

// fill takes all the room that there is.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
