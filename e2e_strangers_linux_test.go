package main

// This file owns each way to reach no daemon, and that strangers take nothing from those who may
// call. It is Linux's, where a test can be somebody else.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEachWayToReachNoDaemonHasItsWords goes each of the eight ways, by which a client can fail to
// reach a daemon that understands it. What it says differs each time, and names what to do.
func TestEachWayToReachNoDaemonHasItsWords(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	socket := func(name string) endpoint { return at(filepath.Join(dir, name)) }
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket(name).Path, Net: "unix"})
		must(t, err)
		l.SetUnlinkOnClose(false)
		return l
	}
	answers := func(text string) endpoint {
		return startStranger(t, func(conn net.Conn) {
			buf := make([]byte, 1<<10)
			conn.Read(buf)
			io.WriteString(conn, text)
			io.Copy(io.Discard, conn)
		})
	}
	tests := []struct {
		name        string
		e           func() endpoint
		foreign     bool // nobody calls
		code        int
		exit        int
		words, hint string
	}{
		{"nobody there", func() endpoint { return socket("none") },
			false, codeNotReachable, exitNobody, "no daemon at", `"ipcd run`},
		{"a stale socket", func() endpoint { listen("stale").Close(); return socket("stale") },
			false, codeNotReachable, exitNobody, "one has been here and is gone", "start it again"},
		{"no permission", func() endpoint {
			l := listen("closed")
			must(t, os.Chmod(socket("closed").Path, 0o600))
			t.Cleanup(func() { l.Close() })
			return socket("closed")
		}, true, codeNotReachable, exitNobody, "no permission for", "call as that user"},
		{"not a socket", func() endpoint {
			must(t, os.WriteFile(socket("file").Path, nil, 0o600))
			return socket("file")
		}, false, codeNotReachable, exitNobody, "that is a file and no socket", "-e"},
		{"busy", func() endpoint { fillBacklog(t, socket("busy").Path); return socket("busy") },
			false, codeNotReachable, exitNobody, "is busy", "--wait 5s"},
		{"another protocol", func() endpoint { return answers("SSH-2.0-OpenSSH_9.2\r\n") },
			false, codeWrongProtocol, exitFailed, "does not speak this protocol", "?proto="},
		{"another version", func() endpoint {
			return answers(`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"there is no method Ipcd.Whoami"}}` + "\n")
		}, false, codeNoMethod, exitFailed, fmt.Sprintf("the daemon is older than this program, which speaks protocol %d", protocolVersion), "restart the daemon"},
		{"no answer", func() endpoint { return answers("") },
			false, codeDeadline, exitFailed, "deadline", "--timeout"},
	}
	said := map[string]string{}
	for _, test := range tests {
		e := test.e()
		call := func() error {
			set := defaultSettings()
			set.Endpoint, set.Timeout = e.String(), 100*time.Millisecond
			if test.code != codeDeadline && test.name != "busy" {
				set.Timeout = testPatience
			}
			return new(clientFlags).do(context.Background(), set, "Ipcd.Whoami", nil, nil)
		}
		var err error
		if test.foreign {
			err = asNobody(t, call)
		} else {
			err = call()
		}
		if !errors.Is(err, &fault{Code: test.code}) || exitCode(err) != test.exit || !strings.Contains(err.Error(), test.words) || !strings.Contains(hintFor(err), test.hint) || hintFor(err) == "" {
			t.Errorf("%s: %v, hint %q, exit code %d; want %q, %q and %d", test.name, err, hintFor(err), exitCode(err), test.words, test.hint, test.exit)
			continue
		}
		text := strings.ReplaceAll(err.Error(), e.String(), "URL")
		if before, ok := said[text]; ok {
			t.Errorf("%s and %s are both told as %q", before, test.name, text)
		}
		said[text] = test.name
	}
}

// TestNoProtocolSendsToAForeignDaemon is for those that are not JSON-RPC on a stream.
func TestNoProtocolSendsToAForeignDaemon(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t, 0o777|fs.ModeSticky), "s")
	sent := listenAsNobody(t, path)
	must(t, os.Lchown(path, 0, 0)) // so that it is the kernel that says who listens
	for _, p := range []proto{protoGob, protoJSON, protoHTTP} {
		e := at(path).withProto(p)
		c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
		if err == nil { // HTTP dials when it calls
			err = c.call(t.Context(), "Echo.Say", "a secret", nil)
			c.close()
		}
		f := checkCode(t, string(p), err, codeDenied, "belongs to user nobody (uid 65534); nothing was sent to it")
		if n := receive(t, sent); n != 0 {
			t.Errorf("%s: %d bytes were sent, and then %v", p, n, f)
		}
	}
}

// TestListenRefusesADirectoryThatItCannotWriteTo is about one who is not root: nothing is closed
// to root.
func TestListenRefusesADirectoryThatItCannotWriteTo(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	err := asNobody(t, func() error {
		l, err := listenUnix(at(dir+"/s"), audience{})
		if err == nil {
			l.Close()
		}
		return err
	})
	checkRefused(t, "listen", err, "the directory "+dir+" is not writable for us", "choose a directory of your own")
}

// TestStrangersTakeNoConnections has another user connect as often as he likes, and say nothing.
// He is refused, and those who may call find all of their connections.
func TestStrangersTakeNoConnections(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	s := startServerWith(t, func(l *limits) { l.MaxConnections = 3 }, at(dir+"/s"))
	must(t, os.Chmod(dir+"/s", 0o666))
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	err := asNobody(t, func() error {
		for range 2 * maxRefusals {
			conn, err := net.Dial("unix", dir+"/s")
			if err != nil {
				return err
			}
			open = append(open, conn)
		}
		return nil
	})
	must(t, err)
	waitFor(t, func() error {
		if n := s.meter.refused.Load(); n < int64(len(open)) {
			return fmt.Errorf("%d of %d have been refused", n, len(open))
		}
		return nil
	})
	if n := s.meter.connections.Load(); n != 0 {
		t.Errorf("%d strangers count among the connections", n)
	}
	for range 3 {
		conn := s.connect()
		send(t, conn, sayRequest)
		b := make([]byte, len(sayAnswer))
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != sayAnswer {
			t.Errorf("one who may call got %q, %v; want %q", b, err, sayAnswer)
		}
	}
}

// TestConnectionsAreCountedForEachUser has a daemon of nobody's, whom root may call too. When the
// one has as many connections as are allowed, the other still has all of its own.
func TestConnectionsAreCountedForEachUser(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	own := filepath.Join(dir, "own")
	must(t, os.Mkdir(own, 0o700))
	must(t, os.Chown(own, nobody, nobody))
	self, err := os.Executable()
	must(t, err)
	ipcd := filepath.Join(dir, "ipcd") // where nobody can reach it
	must(t, copyFile(self, ipcd))
	e := at(own + "/s")
	cmd := exec.Command(ipcd, "run", "--listen", e.String(), "--set", "limits.max_connections=2")
	cmd.Env = append(os.Environ(), "HOME="+own, "XDG_CONFIG_HOME="+own)
	cmd.Dir = own
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	log := &logBuffer{}
	cmd.Stderr = log
	must(t, cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	waitFor(t, func() error {
		if !strings.Contains(log.String(), `"listening"`) {
			return fmt.Errorf("the daemon does not listen: %s", log)
		}
		return nil
	})
	say := func() (answer string, err error) { return sayAndStay(t, "unix", e.Path) }
	for i := range 3 {
		answer, err := say()
		if want := map[bool]string{true: sayAnswer, false: "max_connections"}[i < 2]; err != nil || !strings.Contains(answer, want) {
			t.Errorf("connection %d of root's: %q, %v; want %q", i+1, answer, err, want)
		}
	}
	for i := range 2 {
		var answer string
		err := asNobody(t, func() (err error) {
			answer, err = say()
			return err
		})
		if err != nil || answer != sayAnswer {
			t.Errorf("connection %d of nobody's: %q, %v; want %q", i+1, answer, err, sayAnswer)
		}
	}
	// Our own client does not call it: whoever trusts a daemon trusts its user.
	_, err = dialUnix(t.Context(), e, dialOptions{})
	checkRefused(t, "dial by root", err, "belongs to user nobody (uid 65534); nothing was sent to it", "call as that user")
}

// copyFile gives a program another place, by a link where that is possible.
func copyFile(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// Where a user has no home there is no place for the keys of an authority either, and least of all beside wherever the user happens to be.
func TestCertificatesOfOneWithoutAHome(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	own := filepath.Join(dir, "own", "deep")
	must(t, os.MkdirAll(own, 0o700))
	must(t, os.Chown(own, nobody, nobody))
	must(t, os.Chown(filepath.Dir(own), nobody, nobody))
	self, err := os.Executable()
	must(t, err)
	ipcd := filepath.Join(dir, "ipcd")
	must(t, copyFile(self, ipcd))
	cmd := exec.Command(ipcd, "tls", "init")
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, own
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(string(out), "$HOME is not set") || !strings.Contains(string(out), "hint: set HOME") {
		t.Errorf("it ends with %d, %v, and says %q", code, err, out)
	}
	for _, at := range []string{own, filepath.Dir(own)} {
		if left, err := os.ReadDir(at); err != nil || len(left) > 1 || at == own && len(left) > 0 {
			t.Errorf("in %s there is %v, %v", at, left, err)
		}
	}
}
