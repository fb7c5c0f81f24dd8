package main

// This file owns what other users can do to us, and we to them: on Linux one thread can be
// somebody else, and the kernel believes it.

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const nobody = 65534 // a user of every Linux, who owns nothing

// asNobody runs f in a thread that is nobody's; f must not start goroutines that shall be so, too.
func asNobody(t testing.TB, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		keep := ^uintptr(0)    // the saved id, as which nothing is done
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, err := unix.RawSyscall(call, nobody, nobody, keep); err != 0 {
				done <- err
				return
			}
		}
		done <- f()
	}()
	return receive(t, done)
}

// needRoot skips a test with several users where we cannot be another one.
func needRoot(t testing.TB) {
	t.Helper()
	switch {
	case os.Getuid() == 0:
	case os.Getenv("IPCD_CI") != "":
		t.Fatal("to be another user takes root")
	default:
		t.Skip("to be another user takes root")
	}
}

// openDir is a directory that everybody can enter, on a path that everybody can.
func openDir(t testing.TB, mode fs.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ipcd-test-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, mode))
	return dir
}

// listenAsNobody has nobody listen at path, and tells how many bytes each caller sends.
func listenAsNobody(t *testing.T, path string) (sent <-chan int64) {
	t.Helper()
	var l net.Listener
	must(t, asNobody(t, func() (err error) {
		l, err = net.Listen("unix", path)
		return err
	}))
	count := make(chan int64, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, conn)
			conn.Close()
			count <- n
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return count
}

func TestSocketIsNeverWiderThanItWillBe(t *testing.T) {
	dir := tempDir(t)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_ATTRIB|unix.IN_MOVED_TO)
	must(t, err)
	l, err := listenUnix(at(dir + "/s"))
	must(t, err)
	defer l.Close()
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fd, buf)
	must(t, err)
	var events []string
	for b := buf[:n]; len(b) > 0; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+e.Len]), "\x00")
		b = b[unix.SizeofInotifyEvent+e.Len:]
		if name == "s" {
			events = append(events, map[uint32]string{unix.IN_CREATE: "create", unix.IN_ATTRIB: "attrib"}[e.Mask])
		}
	}
	if len(events) != 1 || events[0] != "create" {
		t.Errorf("the socket had the events %q; want it to be created and not to be changed", events)
	}
}

func TestClientSendsNothingToAForeignDaemon(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o777|fs.ModeSticky)
	path := dir + "/s"
	sent := listenAsNobody(t, path)
	call := func() error {
		c, err := dial(t.Context(), at(path), defaultLimits())
		if err != nil {
			return err
		}
		defer c.close()
		return c.call(t.Context(), "Echo.Say", "a secret", nil)
	}
	err := call()
	checkRefused(t, "a socket of nobody's", err, "the socket at unix://"+path+" belongs to user nobody (uid 65534); nothing was sent to it", "ipcd run")
	// A file of ours that somebody else listens behind: the kernel knows who does.
	must(t, os.Lchown(path, 0, 0))
	err = call()
	checkRefused(t, "a daemon of nobody's", err, "the daemon at unix://"+path+" belongs to user nobody (uid 65534); nothing was sent to it", "ipcd run")
	if n := receive(t, sent); n != 0 {
		t.Errorf("%d bytes were sent to it", n)
	}
}

func TestListenRefusesWhatIsAnotherUsers(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o777|fs.ModeSticky)
	shared := func(name string) endpoint {
		e := at(filepath.Join(dir, name))
		e.Shared = true
		return e
	}
	listenAsNobody(t, dir+"/live")
	_, err := listenUnix(shared("live"))
	checkRefused(t, "a socket", err, "a socket of user nobody (uid 65534) is in its place", "directory of your own")
	must(t, asNobody(t, func() error { return os.WriteFile(dir+"/locked.lock", nil, 0o666) }))
	_, err = listenUnix(shared("locked"))
	checkRefused(t, "a lock", err, "belongs to user nobody", "directory of your own")
	must(t, asNobody(t, func() error { return os.Mkdir(dir+"/theirs", 0o755) }))
	_, err = listenUnix(at(dir + "/theirs/s"))
	checkRefused(t, "a directory", err, "theirs belongs to user nobody (uid 65534), who could replace the socket", "directory of your own")
}

func TestDaemonRefusesAnotherUser(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	s := startServerWith(t, nil, at(dir+"/s"))
	must(t, os.Chmod(dir+"/s", 0o666)) // what keeps them out at first is the mode
	for name, test := range map[string]struct{ send, want string }{
		"JSON-RPC": {sayRequest, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"access denied"}}` + "\n"},
		"HTTP":     {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n"},
	} {
		var got string
		err := asNobody(t, func() error {
			conn, err := net.Dial("unix", dir+"/s")
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, test.send); err != nil {
				return err
			}
			b, err := io.ReadAll(conn)
			got = string(b)
			return err
		})
		if err != nil || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s of nobody: %q, %v; want %q", name, got, err, test.want)
		}
	}
	if log := s.log.String(); !strings.Contains(log, "user nobody (uid 65534) may not call the daemon of user root (uid 0)") {
		t.Error("the log does not say who was refused")
	}
	checkServes(t, s)
}

func TestDialTellsWhoKeepsUsOut(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	s := startServerWith(t, nil, at(dir+"/s"))
	must(t, os.Mkdir(dir+"/closed", 0o700))
	l, err := net.Listen("unix", dir+"/closed/s")
	must(t, err)
	defer l.Close()
	for path, words := range map[string]string{
		s.endpoints[0].Path: "s belongs to user root (uid 0)",
		dir + "/closed/s":   "closed belongs to user root (uid 0)",
	} {
		err := asNobody(t, func() error {
			conn, err := dialUnix(t.Context(), at(path))
			if err == nil {
				conn.Close()
				return errors.New("connected")
			}
			return err
		})
		checkRefused(t, path, err, "no permission for unix://", "ipcd run")
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v; want %q", path, err, words)
		}
	}
}

func TestWhoamiIsWhatTheKernelSays(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	conn := s.connect()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Whoami"}`)
	var answer struct{ Result peer }
	must(t, json.NewDecoder(conn).Decode(&answer))
	want := peer{Transport: "unix", Known: true, UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), User: userName(os.Getuid())}
	if answer.Result != want {
		t.Errorf("Whoami = %+v; want %+v", answer.Result, want)
	}
}
