//go:build unix

package main

// This file owns what a service manager that opens the sockets may rely on: the tests play one.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { testPrograms["activated"] = activated }

// activated becomes the program in its arguments and tells it, as systemd does, that the sockets are
// for the process with its pid. What is not for that is in $LISTEN_FDS already.
func activated() {
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	path, err := exec.LookPath(os.Args[1])
	if err == nil {
		err = unix.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(exitFailed)
}

// fileOf is a copy of the socket of l, which stays open in this process as it does in systemd.
func fileOf(t testing.TB, l interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := l.File()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// activate starts args with the sockets and without a terminal.
func activate(t testing.TB, stderr io.Writer, files []*os.File, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("activated", args...)
	cmd.Stderr, cmd.ExtraFiles = stderr, files
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// listenAt opens the sockets that a socket unit would.
func listenAt(t testing.TB, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestDaemonServesInheritedSockets(t *testing.T) {
	path := tempSocket(t)
	l := listenAt(t, path)
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer tcp.Close()
	files := []*os.File{fileOf(t, l), fileOf(t, tcp)}
	before, err := os.Lstat(path)
	must(t, err)
	url := "tcp://" + tcp.Addr().String() + "?auth=none"
	own := tempSocket(t)
	for round := range 2 {
		// The first call is there before the daemon, and waits for it.
		conn, err := net.Dial("unix", path)
		must(t, err)
		conn.SetDeadline(time.Now().Add(testPatience))
		send(t, conn, sayRequest)
		log := &logBuffer{}
		cmd := activate(t, log, files, "ipcd", "run", "--listen", at(path).String(), "--listen", url, "--listen", at(own).String())
		b := make([]byte, len(sayAnswer))
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != sayAnswer {
			t.Errorf("round %d: %q, %v; want %q\n%s", round, b, err, sayAnswer, log)
		}
		conn.Close()
		for _, text := range []string{at(path).String(), url, at(own).String()} {
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			c, err := connect(ctx, mustParse(t, text), defaultLimits(), testPatience)
			cancel()
			must(t, err)
			checkSay(t, c, text)
			c.close()
		}
		if left, err := os.Stat(path + ".lock"); err == nil {
			t.Errorf("round %d: there is a lock, %s, for a socket that is not ours", round, left.Name())
		}
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitDone {
			t.Errorf("round %d: exit code %d; want %d\n%s", round, code, exitDone, log)
		}
		now, err := os.Lstat(path)
		if err != nil || !os.SameFile(now, before) || now.Mode() != before.Mode() {
			t.Errorf("round %d: the daemon has changed the socket: %v", round, err)
		}
		if _, err := os.Lstat(own); err == nil {
			t.Errorf("round %d: the daemon has left its own socket", round)
		}
	}
}

// TestDaemonKeepsOutOfWhatIsTheManagers removes an inherited socket: whose the socket is decides what becomes of it.
func TestDaemonKeepsOutOfWhatIsTheManagers(t *testing.T) {
	t.Parallel() // it waits, most of the time
	if testing.Short() {
		t.Skip("it looks once a second")
	}
	path := tempSocket(t)
	l := listenAt(t, path)
	l.SetUnlinkOnClose(false)
	log := &logBuffer{}
	cmd := activate(t, log, []*os.File{fileOf(t, l)}, "ipcd", "run", "--idle", "2s", "--listen", at(path).String())
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, at(path), defaultLimits(), testPatience)
	must(t, err)
	checkSay(t, c, "hello")
	c.close()
	must(t, os.Remove(path))
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitDone || !strings.Contains(log.String(), "idle for too long") {
		t.Errorf("exit code %d; want %d, and the end of the idle time\n%s", code, exitDone, log)
	}
}

// TestDaemonSaysThatAGroupIsKeptOut has a group that may call and a socket that does not let it in.
func TestDaemonSaysThatAGroupIsKeptOut(t *testing.T) {
	for mode, warns := range map[os.FileMode]bool{0o600: true, 0o660: true, 0o666: false} {
		path := tempSocket(t)
		l := listenAt(t, path)
		must(t, os.Chmod(path, mode))
		log := &logBuffer{}
		cmd := activate(t, log, []*os.File{fileOf(t, l)}, "ipcd", "run", "--idle", "1ms", "--listen", at(path).String(), "--allow-group", "64317")
		cmd.Wait()
		text := log.String()
		if said := strings.Contains(text, "keeps the members of the group 64317 out") && strings.Contains(text, "ipcd install --allow-group 64317 --force"); said != warns {
			t.Errorf("mode %v: the log says that the group is kept out: %v; want %v\n%s", mode, said, warns, text)
		}
	}
}

func TestDaemonRefusesToInherit(t *testing.T) {
	path, other := tempSocket(t), tempSocket(t)
	l := fileOf(t, listenAt(t, path))
	open, err := net.ListenTCP("tcp", nil)
	must(t, err)
	defer open.Close()
	port := open.Addr().(*net.TCPAddr).Port
	a, b, err := pair()
	must(t, err)
	defer a.Close()
	defer b.Close()
	packets, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: tempSocket(t), Net: "unixgram"})
	must(t, err)
	defer packets.Close()
	plain, err := os.Open(os.DevNull)
	must(t, err)
	defer plain.Close()
	for name, test := range map[string]struct {
		file   *os.File
		listen string
		want   string
		hint   string
	}{
		"no endpoint of ours":  {l, at(other).String(), "the service manager passes sockets that are no endpoint of this daemon: unix " + path, "--listen"},
		"a port for everybody": {fileOf(t, open), fmt.Sprintf("tcp://127.0.0.1:%d?auth=none", port), fmt.Sprintf("is open to other machines: it listens at [::]:%d", port), "ListenStream=127.0.0.1:"},
		"an echo with proof":   {fileOf(t, open), fmt.Sprintf("tcp://127.0.0.1:%d?proto=echo", port), "whoever speaks to an echo cannot show a token", "auth=none"},
		"one connection":       {a, at(other).String(), "does not listen: it is one connection", "Accept=no"},
		"datagrams":            {fileOf(t, packets), at(other).String(), "is not a stream socket", "ListenStream="},
		"no socket":            {plain, at(other).String(), "is not a stream socket", "ListenStream="},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			cmd := activate(t, &stderr, []*os.File{test.file}, "ipcd", "run", "--listen", test.listen)
			cmd.Wait()
			text := stderr.String()
			_, hint, _ := strings.Cut(text, "ipcd: hint: ")
			if code := cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(text, test.want) || !strings.Contains(hint, test.hint) {
				t.Errorf("exit code %d, want %d; %q, want %q and the hint %q", code, exitUsage, text, test.want, test.hint)
			}
		})
	}
}

// TestRestartLosesNoCall restarts the daemon again and again, as "systemctl restart" does, under clients
// that connect, call, read the answer and go. Each of them gets it.
func TestRestartLosesNoCall(t *testing.T) {
	restarts := 20
	if testing.Short() {
		restarts = 3
	}
	path := tempSocket(t)
	l := listenAt(t, path)
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer tcp.Close()
	files := []*os.File{fileOf(t, l), fileOf(t, tcp)}
	url := "tcp://" + tcp.Addr().String() + "?auth=none"

	var calls atomic.Int64
	var callers sync.WaitGroup
	over := make(chan struct{})
	for _, e := range []endpoint{at(path), mustParse(t, url)} {
		for _, k := range clientKinds {
			callers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-over:
						return
					default:
					}
					c := k.dial(t, e)
					text := fmt.Sprint(k.name, i)
					var got string
					if err := ask(c, "Echo.Say", text, &got); err != nil || got != text {
						t.Errorf("%s at %s: call %d: %q, %v; want %q", k.name, e, i, got, err, text)
					}
					c.close()
					calls.Add(1)
				}
			})
		}
	}
	for i := range restarts {
		log := &logBuffer{}
		cmd := activate(t, log, files, "ipcd", "run", "--listen", at(path).String(), "--listen", url)
		before := calls.Load()
		waitFor(t, func() error {
			if n := calls.Load() - before; n < 50 && !t.Failed() {
				return fmt.Errorf("%d calls since the start", n)
			}
			return nil
		})
		if i == restarts-1 { // those who are in the middle of a call get their answer
			close(over)
			callers.Wait()
		}
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitDone {
			t.Errorf("exit code %d; want %d\n%s", code, exitDone, log)
		}
		if t.Failed() {
			break
		}
	}
	select {
	case <-over:
	default:
		close(over)
		l.Close()
		tcp.Close()
		for _, f := range files {
			f.Close()
		}
	}
	callers.Wait()
	t.Logf("%d calls over %d restarts", calls.Load(), restarts)
}

// pair is a connection between two files.
func pair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b"), nil
}

// TestInheritanceIsForOneProcess has the variables of somebody else's sockets around.
func TestInheritanceIsForOneProcess(t *testing.T) {
	path := tempSocket(t)
	cmd := exec.Command("ipcd", "run", "--listen", at(path).String(), "--idle", "1ms")
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_PID=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, &stderr)
	}
}
