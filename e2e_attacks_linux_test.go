package main

// This file owns attacks by another user of this machine, from a process whose user the kernel knows: floods, connections that are kept
// busy with nothing, races where a socket is made. docs/reliability.md lists all attacks; .ci/run attacks has the whole forms.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startAttacked starts "ipcd run" at a socket that nobody may call, too.
func startAttacked(t *testing.T, set ...string) *ranDaemon {
	t.Helper()
	needRoot(t)
	dir := openDir(t, 0o755)
	config := filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(config, []byte("[[rule]]\nallow = [\"user:nobody\"]\ncall = [\"*\"]\n"), 0o600))
	d := &ranDaemon{T: t, endpoint: at(dir + "/s")}
	args := []string{"run", "--log-format", "text", "--config", config, "--listen", d.endpoint.String()}
	for _, setting := range set {
		args = append(args, "--set", setting)
	}
	d.cmd = exec.Command("ipcd", args...)
	d.log, d.ended = startProgram(t, d.cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})
	d.says("listening")
	return d
}

// nobodies are so many connections of the user nobody's.
func (d *ranDaemon) nobodies(n int) []net.Conn {
	d.Helper()
	var conns []net.Conn
	must(d, asNobody(d, func() error {
		for range n {
			conn, err := net.Dial("unix", d.endpoint.Path)
			if err != nil {
				return err
			}
			conns = append(conns, conn)
		}
		return nil
	}))
	d.Cleanup(func() {
		for _, conn := range conns {
			conn.Close()
		}
	})
	return conns
}

// busyWithNothing are beginnings that are never ended, and what comes of the rest, bit by bit.
var busyWithNothing = []struct{ name, begins, drips string }{
	{"silence", "", ""},
	{"one byte", "{", ""},
	{"JSON", `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["`, "a"},
	{"blanks", "", " "},
	{"headers of LSP", "Content-Length: 1000000\r\nX: ", "a"},
	{"a body of LSP", "Content-Length: 1000000\r\n\r\n", " "},
	{"a header of HTTP", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", "a"},
	{"a body of HTTP", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", " "},
	{"chunks of HTTP", "POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"},
	{"gob", "\xfd\x0f\xff\xff", "\x01"}, // a message of 1 MiB
}

// Connections that say nothing, or a byte at a time, are closed at the limits for that, and nobody else waits meanwhile.
func TestSlowLoris(t *testing.T) {
	var set []string
	if os.Getenv("IPCD_FAULTS") == "" { // the whole form has the limits that daemons have
		set = []string{"limits.message=500ms", "limits.first_bytes=500ms"}
	}
	n := faultRounds(t, 50, 1000)
	d := startAttacked(t, set...)
	began := time.Now()
	conns := d.nobodies(n)
	var readers sync.WaitGroup
	var worst atomic.Int64
	for i, conn := range conns {
		kind := busyWithNothing[i%len(busyWithNothing)]
		conn.SetDeadline(time.Now().Add(5 * testPatience))
		send(t, conn, kind.begins)
		readers.Go(func() {
			if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Errorf("%s: the connection is open still", kind.name)
			}
			for took := int64(time.Since(began)); ; {
				if was := worst.Load(); took <= was || worst.CompareAndSwap(was, took) {
					return
				}
			}
		})
	}
	over := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			for i, conn := range conns {
				if _, err := io.WriteString(conn, busyWithNothing[i%len(busyWithNothing)].drips); isTimeout(err) {
					return
				}
			}
			select {
			case <-tick.C:
			case <-over:
				return
			}
		}
	})
	c := d.dial()
	calls, slowest := 0, time.Duration(0)
	others.Go(func() {
		for {
			asked := time.Now()
			var answer string
			if err := ask(c, "Echo.Say", "hello", &answer); err != nil || answer != "hello" {
				t.Errorf("a call beside them: %q, %v", answer, err)
				return
			}
			slowest = max(slowest, time.Since(asked))
			calls++
			select {
			case <-over:
				return
			default:
			}
		}
	})
	readers.Wait()
	close(over)
	others.Wait()
	figure(t, "%d connections that say nothing, or a byte at a time: all closed within %.1f s; beside them %d calls of one caller, the slowest %v",
		n, time.Duration(worst.Load()).Seconds(), calls, slowest.Round(100*time.Microsecond))
}

// Answers that nobody reads take no more memory than a few that are read: whoever does not read is not read any more. On many
// connections it is what a user may have.
func TestUnreadReplies(t *testing.T) {
	replies := faultRounds(t, 5_000, 100_000)
	for _, row := range []struct{ size, conns, most int }{
		{10, 1, 8 << 20}, {4 << 10, 1, 8 << 20}, {4 << 10, 50, defaultLimits().UserMemory},
	} {
		t.Run(fmt.Sprintf("%d bytes, connections %d", row.size, row.conns), func(t *testing.T) {
			t.Setenv("GOGC", "25") // what counts is what is held, not what has not been collected yet
			d := startAttacked(t, "limits.write=1s")
			request := `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["` + strings.Repeat("a", row.size) + `"]}` + "\n"
			flood := func(total int, reads bool) {
				t.Helper()
				var both sync.WaitGroup
				for _, conn := range d.nobodies(row.conns) {
					conn.SetDeadline(time.Now().Add(5 * testPatience))
					both.Go(func() {
						b := []byte(strings.Repeat(request, 100))
						for range max(1, total/100/row.conns) {
							if _, err := conn.Write(b); err != nil {
								if reads || isTimeout(err) {
									t.Errorf("the daemon neither reads nor ends the connection: %v", err)
								}
								return
							}
						}
						if reads {
							conn.(*net.UnixConn).CloseWrite()
						}
					})
					if reads {
						both.Go(func() { io.Copy(io.Discard, conn) })
					}
				}
				both.Wait()
			}
			flood(5_000, true) // until it is as large as a daemon is that works as hard
			before := peakOf(t, d.cmd.Process.Pid)
			flood(replies, false)
			checkSay(t, d.dial(), "here")
			grown := peakOf(t, d.cmd.Process.Pid) - before
			if underRaceDetector() { // whose shadow of the memory is several times as large
				row.most *= 8
			}
			if grown > row.most {
				t.Errorf("the daemon has grown by %d KiB; want at most %d", grown>>10, row.most>>10)
			}
			figure(t, "%d answers of %d bytes that nobody reads, connections %d: the daemon grew by %d KiB", replies, row.size, row.conns, grown>>10)
		})
	}
}

// underRaceDetector reports whether this program, which plays the daemon as well, was built with -race.
func underRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// interfere does one thing to one of the names, as whoever may write to their directory can.
func interfere(dir string, names []string, victim string) {
	at := filepath.Join(dir, names[rand.IntN(len(names))])
	switch rand.IntN(9) {
	case 0:
		os.Symlink(victim, at)
	case 1:
		os.Symlink(victim+".new", at)
	case 2:
		os.Mkdir(at, 0o777)
	case 3:
		unix.Mkfifo(at, 0o666)
	case 4:
		if l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"}); err == nil {
			l.SetUnlinkOnClose(false)
			l.Close()
		}
	case 5:
		os.Link(victim, at)
	case 6:
		os.WriteFile(at, []byte("{}\n"), 0o666)
	case 7:
		os.Symlink(victim, at+".mine")
		os.Rename(at+".mine", at)
	}
	for _, name := range names {
		os.Remove(filepath.Join(dir, name))
	}
}

// In a directory that both may write to, another user puts links, directories, pipes and sockets where a daemon makes its socket and
// its lock, at the same time. Either the daemon refuses, or it has its own socket, which nobody else can use; nothing else is touched.
func TestRaceWhereASocketIsMade(t *testing.T) {
	needRoot(t)
	tries := faultRounds(t, 500, 10_000)
	dir, victim := openDir(t, 0o777|fs.ModeSticky), filepath.Join(openDir(t, 0o755), "victim")
	const text = "of root's\n"
	must(t, os.WriteFile(victim, []byte(text), 0o644))
	e := at(dir + "/s").withShared()
	over := make(chan struct{})
	var attacker sync.WaitGroup
	var attacks atomic.Int64
	attacker.Go(func() {
		for {
			asNobody(t, func() error {
				for range 500 {
					interfere(dir, []string{"s", "s.lock", "s.d"}, victim)
				}
				return nil
			})
			attacks.Add(500)
			select {
			case <-over:
				return
			default:
			}
		}
	})
	defer func() { close(over); attacker.Wait() }()
	made, refused := 0, 0
	for made+refused < tries || attacks.Load() == 0 {
		l, err := listenUnix(e, audience{})
		if err != nil {
			if f := (*fault)(nil); !errors.As(err, &f) || f.hint == "" {
				t.Errorf("try %d: %v, without a hint", made+refused, err)
			}
			refused++
			if conn, err := dialUnix(t.Context(), e, dialOptions{}); err == nil {
				conn.Close()
				t.Fatalf("try %d: the client has connected to somebody, and no daemon is there", made+refused)
			}
			continue
		}
		info, err := os.Lstat(e.Path)
		must(t, err)
		if mode := info.Mode(); mode != fs.ModeSocket|0o600 || ownerOf(info) != 0 || !os.SameFile(info, l.(*unixListener).info) {
			t.Fatalf("try %d: what is there has the mode %v and is user %d's; want our socket", made, mode, ownerOf(info))
		}
		conn, err := dialUnix(t.Context(), e, dialOptions{})
		must(t, err)
		theirs, err := l.Accept()
		must(t, err)
		theirs.Close()
		conn.Close()
		must(t, l.Close())
		made++
	}
	if b, err := os.ReadFile(victim); string(b) != text || err != nil {
		t.Errorf("the victim of the links has %q, %v; want %q", b, err, text)
	}
	if _, err := os.Lstat(victim + ".new"); err == nil {
		t.Error("a file was made where a link led")
	}
	figure(t, "%d tries beside %d attacks: %d times the socket was made, and %d times refused; nothing else was touched", tries, attacks.Load(), made, refused)
}

// A link of another user's is followed at no place of a path, whatever the path is for.
func TestLinksOfOthersAtEachPlace(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	file := func(place string) string { return filepath.Join(dir, place) }
	must(t, os.MkdirAll(file("a/b/c"), 0o755))
	must(t, os.WriteFile(file("a/b/c/config.toml"), []byte("log_level = \"info\"\n"), 0o600))
	l, err := listenUnix(at(file("a/b/c/s")), audience{})
	must(t, err)
	defer l.Close()
	for _, place := range []string{"a", "a/b", "a/b/c", "a/b/c/s", "a/b/c/s.lock", "a/b/c/config.toml"} {
		must(t, os.Rename(file(place), file("moved")))
		must(t, os.Symlink(file("moved"), file(place)))
		must(t, os.Lchown(file(place), nobody, nobody))
		_, err := listenUnix(at(file("a/b/c/s")), audience{})
		if strings.HasSuffix(place, "toml") {
			err = nil
		} else if err == nil || !strings.Contains(err.Error(), "symbolic link") && !strings.Contains(err.Error(), "held by pid") {
			t.Errorf("with a link at %s the socket is listened on: %v", place, err)
		}
		if strings.HasPrefix("a/b/c/s", place) {
			conn, err := dialUnix(t.Context(), at(file("a/b/c/s")), dialOptions{})
			if err == nil {
				conn.Close()
			}
			checkRefused(t, "dial with a link at "+place, err, "is a symbolic link of user nobody (uid 65534); nothing was sent", "with -e")
		}
		if strings.HasPrefix("a/b/c/config.toml", place) {
			for what, f := range map[string]*fault{"a configuration": distrustFile(file("a/b/c/config.toml")), "a list of tokens": distrustState(file("a/b/c/config.toml"), instance{})} {
				if f == nil || !strings.Contains(f.Error(), "belongs to user nobody") {
					t.Errorf("with a link at %s %s is read: %v", place, what, f)
				}
			}
		}
		must(t, os.Remove(file(place)))
		must(t, os.Rename(file("moved"), file(place)))
	}
	if f := distrustFile(file("a/b/c/config.toml")); f != nil {
		t.Errorf("without links the configuration is refused: %v", f)
	}
}

// A worker has what it is given, and nothing that the daemon has open or knows: the kernel is asked.
func TestWorkersSeeNothingOfTheDaemon(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(config, []byte(`
audit_file = "`+dir+`/audit"
[[worker]]
name = "hand"
command = ["hand", '{"methods":["Hand.Echo"]}']
services = ["Hand"]
`), 0o600))
	for _, entry := range []string{"IPCD_TOKEN=ipcd_secret", "DATABASE_PASSWORD=secret", "CREDENTIALS_DIRECTORY=/secret", "AWS_SECRET_ACCESS_KEY=secret", "SSH_AUTH_SOCK=/secret"} {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	d := startRun(t, "ipcd", "--config", config, "--listen", "tcp://127.0.0.1:0?auth=none", "--pprof")
	var all []caller
	for range 10 {
		all = append(all, d.dial())
	}
	checkSay(t, all[0], "hello")
	pid := 0
	waitFor(t, func() error {
		if w := d.status().Workers; len(w) != 1 || w[0].State != "running" || len(w[0].Processes) != 1 {
			return fmt.Errorf("the workers are %+v", w)
		} else {
			pid = w[0].Processes[0].PID
		}
		return nil
	})
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	must(t, err)
	if text := string(env); strings.Contains(text, "secret") || strings.Contains(text, "SSH_AUTH_SOCK") || !strings.Contains(text, "IPCD_WORKER=hand") {
		t.Errorf("the environment of the worker is %q", text)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	sockets := 0
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		switch {
		case strings.HasPrefix(to, "socket:"):
			sockets++
		case to == os.DevNull, strings.HasPrefix(to, "pipe:"), strings.HasPrefix(to, "anon_inode:"), strings.HasPrefix(to, "/sys/fs/cgroup/"), to == "": // what the Go runtime of the worker has, or closed by now
		default:
			t.Errorf("descriptor %s of the worker is %s", fd.Name(), to)
		}
	}
	if sockets != 1 {
		t.Errorf("the worker has %d sockets; want its channel alone", sockets)
	}
}
