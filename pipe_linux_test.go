package main

// This file owns what other users can do to us, and we to them: on Linux one thread can be
// somebody else, and the kernel believes it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const nobody = 65534 // a user of every Linux, who owns nothing

// asNobody runs f in a thread that is nobody's; f must not start goroutines that shall be so, too.
func asNobody(t testing.TB, f func() error) error { t.Helper(); return asMember(t, nobody, f) }

// asMember is asNobody with another group besides.
func asMember(t testing.TB, gid uint32, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		keep := ^uintptr(0)    // the saved id, as which nothing is done
		if _, _, err := unix.RawSyscall(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&gid)), 0); err != 0 {
			done <- err
			return
		}
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
	l, err := listenUnix(at(dir+"/s"), audience{})
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
		c, err := dial(t.Context(), at(path), dialOptions{limits: defaultLimits()})
		if err != nil {
			return err
		}
		defer c.close()
		return c.call(t.Context(), "Echo.Say", "a secret", nil)
	}
	err := call()
	checkRefused(t, "a socket of nobody's", err, "the socket at unix://"+path+" belongs to user nobody (uid 65534); nothing was sent to it", "sudo -u nobody ")
	checkRefused(t, "a socket of nobody's", err, "", "-e 'unix://"+path+"?owner=nobody'")
	// A file of ours that somebody else listens behind: the kernel knows who does.
	must(t, os.Lchown(path, 0, 0))
	err = call()
	checkRefused(t, "a daemon of nobody's", err, "the daemon at unix://"+path+" belongs to user nobody (uid 65534); nothing was sent to it", "sudo -u nobody ")
	if n := receive(t, sent); n != 0 {
		t.Errorf("%d bytes were sent to it", n)
	}
}

// TestClientCallsTheOwnerThatItExpects has a client call another user's daemon, if it has named that user, and then no other one.
func TestClientCallsTheOwnerThatItExpects(t *testing.T) {
	needRoot(t)
	path := openDir(t, 0o777|fs.ModeSticky) + "/s"
	var l net.Listener
	must(t, asNobody(t, func() (err error) {
		l, err = net.Listen("unix", path)
		return err
	}))
	var answers sync.WaitGroup
	answers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var m struct{ ID json.RawMessage }
			if json.NewDecoder(conn).Decode(&m) == nil {
				fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%s,"result":"yes"}`+"\n", m.ID)
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); answers.Wait() })
	call := func(owner string) error {
		c, err := dial(t.Context(), at(path).withOwner(owner), dialOptions{limits: defaultLimits()})
		if err != nil {
			return err
		}
		defer c.close()
		return c.call(t.Context(), "Echo.Say", "a secret", nil)
	}
	for _, owner := range []string{"nobody", strconv.Itoa(nobody)} {
		if err := call(owner); err != nil {
			t.Errorf("with owner=%s: %v", owner, err)
		}
	}
	for _, owner := range []string{"daemon", "12345"} {
		checkRefused(t, "owner="+owner, call(owner), "belongs to user nobody (uid 65534), whom the endpoint does not expect; nothing was sent to it", "if that is the right one: -e 'unix://"+path+"?owner=nobody'")
	}
	checkRefused(t, "an owner that there is not", call("nosuch-user"), `there is no user "nosuch-user"`, "or the uid")
	own := startServerWith(t, nil, at(filepath.Dir(path)+"/own").withShared()).endpoints[0]
	c, err := dial(t.Context(), own.withOwner("nobody"), dialOptions{limits: defaultLimits()})
	must(t, err) // root could be whoever is expected
	c.close()
	asNobody(t, func() error { // who expects another one is not served by a daemon of their own
		_, err := dial(t.Context(), at(path).withOwner("daemon"), dialOptions{limits: defaultLimits()})
		checkRefused(t, "one's own daemon", err, "whom the endpoint does not expect", "owner=nobody")
		return nil
	})
}

// TestDialFollowsNoLinkOfAnotherUsers has nobody choose which socket of ours, or of root's, is called: by a link at the
// default place, which nobody has typed, and at one that was.
func TestDialFollowsNoLinkOfAnotherUsers(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o777|fs.ModeSticky)
	must(t, os.Mkdir(dir+"/real", 0o755))
	s := startServerWith(t, nil, at(dir+"/real/ipcd.sock"))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	own, err := defaultEndpoint()
	must(t, err)
	for _, test := range []struct {
		name        string
		e           endpoint
		make        func() error
		owner       int
		words, hint string
	}{
		{"the default directory", own, func() error { return os.Symlink("real", dir+"/ipcd") }, nobody,
			dir + "/ipcd on the way to " + own.String() + " is a symbolic link of user nobody (uid 65534); nothing was sent", "with -e"},
		{"a directory that was named", at(dir + "/named/ipcd.sock"), func() error { return os.Symlink("real", dir+"/named") }, nobody,
			"is a symbolic link of user nobody", "with -e"},
		{"the socket", at(dir + "/s").withShared(), func() error { return os.Symlink("real/ipcd.sock", dir+"/s") }, nobody,
			"is a symbolic link of user nobody", "with -e"},
		{"our own default directory", own, func() error { return os.Symlink("real", dir+"/ipcd") }, 0,
			"somebody else may serve " + own.String() + ": " + dir + "/ipcd on its way is a symbolic link to real", "name the place itself: unix://" + dir + "/real/ipcd.sock"},
		{"a default directory that others can write to", own, func() error {
			return errors.Join(os.Mkdir(dir+"/ipcd", 0o755), os.Link(dir+"/real/ipcd.sock", dir+"/ipcd/ipcd.sock"), os.Chmod(dir+"/ipcd", 0o777))
		}, 0, dir + "/ipcd is open to the writing of others", "chmod go-w " + dir + "/ipcd"},
		{"a link of ours that was named", at(dir + "/named/ipcd.sock"), func() error { return os.Symlink("real", dir+"/named") }, 0, "", ""},
		{"a link to nothing", own, func() error { return os.Symlink("nothing", dir+"/ipcd") }, nobody, "no daemon at", `"ipcd run`},
	} {
		must(t, test.make())
		made := test.e.Path
		if test.name != "the socket" {
			made = filepath.Dir(made)
		}
		must(t, os.Lchown(made, test.owner, -1))
		conn, err := dialUnix(t.Context(), test.e, dialOptions{})
		if err == nil {
			conn.Close()
		}
		if test.words != "" || err != nil {
			checkRefused(t, test.name, err, test.words, test.hint)
		}
		if test.words == "" && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		must(t, os.RemoveAll(made))
	}
	checkServes(t, s)
}

func TestListenRefusesWhatIsAnotherUsers(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o777|fs.ModeSticky)
	shared := func(name string) endpoint {
		return at(filepath.Join(dir, name)).withShared()
	}
	listenAsNobody(t, dir+"/live")
	_, err := listenUnix(shared("live"), audience{})
	checkRefused(t, "a socket", err, "a socket of user nobody (uid 65534) is in its place", "directory of your own")
	must(t, asNobody(t, func() error { return os.WriteFile(dir+"/locked.lock", nil, 0o666) }))
	_, err = listenUnix(shared("locked"), audience{})
	checkRefused(t, "a lock", err, "belongs to user nobody", "directory of your own")
	must(t, asNobody(t, func() error { return os.Mkdir(dir+"/theirs", 0o755) }))
	_, err = listenUnix(at(dir+"/theirs/s"), audience{})
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

const theirGroup = 64317 // a group that no system has

// startForGroup serves e for the members of theirGroup.
func startForGroup(t testing.TB, e endpoint) *testServer {
	t.Helper()
	g, err := findGroup(strconv.Itoa(theirGroup))
	must(t, err)
	s := startServerWith(t, nil)
	s.obey(&policy{group: g})
	l, err := s.listen(e)
	must(t, err)
	s.endpoints = append(s.endpoints, l.endpoint)
	s.start(l)
	return s
}

// exchangeAt sends text to the socket at path and returns what comes until it closes its end.
func exchangeAt(path, text string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}

func TestGroupMayCall(t *testing.T) {
	needRoot(t)
	path := openDir(t, 0o755) + "/s"
	s := startForGroup(t, at(path))
	info, err := os.Lstat(path)
	must(t, err)
	if st := info.Sys().(*syscall.Stat_t); info.Mode() != fs.ModeSocket|0o660 || st.Uid != 0 || st.Gid != theirGroup {
		t.Errorf("the socket is %v, %d:%d; want 0660, 0:%d", info.Mode(), st.Uid, st.Gid, theirGroup)
	}
	say := func() (got string, err error) { return exchangeAt(path, sayRequest) }
	var got string
	must(t, asMember(t, theirGroup, func() (err error) { got, err = say(); return err }))
	if got != sayAnswer {
		t.Errorf("a member is answered with %q; want %q", got, sayAnswer)
	}
	for method, arg := range map[string]string{"Stop": "", "Restart": "", "WorkerStart": `"a"`, "WorkerStop": `"a"`, "WorkerRestart": `"a"`, "WorkerReload": `"a"`, "WorkerLog": `{"name":"a"}`} {
		must(t, asMember(t, theirGroup, func() (err error) {
			got, err = exchangeAt(path, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.`+method+`","params":[`+arg+`]}`)
			return err
		}))
		if !strings.Contains(got, `"code":-32005,"message":"access denied: user nobody (uid 65534) may not control the daemon; the user that the daemon runs as and root may`) {
			t.Errorf("a member who calls %s is answered with %q", method, got)
		}
	}
	err = asNobody(t, func() error { _, err := say(); return err })
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a stranger connects: %v", err)
	}
	err = asNobody(t, func() error { _, err := dialUnix(t.Context(), at(path), dialOptions{}); return err })
	checkRefused(t, "a stranger", err, "no permission for unix://"+path+": "+path+" belongs to user root (uid 0)", "--allow-group")
	// What the kernel says counts, whatever the mode of the socket lets through.
	must(t, os.Chmod(path, 0o666))
	must(t, asNobody(t, func() (err error) { got, err = say(); return err }))
	if want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"access denied"}}` + "\n"; got != want {
		t.Errorf("a stranger is answered with %q; want %q", got, want)
	}
	if log := s.log.String(); !strings.Contains(log, "user nobody (uid 65534) may not call the daemon of user root (uid 0) and is not a member of the group 64317") {
		t.Error("the log does not say who was refused, and which group may call")
	}
}

// TestGroupIsLetInAtNoOtherInstant wants the socket to be private until it belongs to the group.
func TestGroupIsLetInAtNoOtherInstant(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	stop, watched := make(chan struct{}), make(chan string, 1)
	var st unix.Stat_t
	isOpen := func() bool {
		return unix.Lstat(dir+"/s", &st) == nil && st.Mode&0o077 != 0 && (st.Mode&0o777 != 0o660 || st.Gid != theirGroup)
	}
	go func() {
		for {
			open := isOpen()
			if open = open && isOpen(); open { // the kernel reads the group, and then the mode: once may be of two instants
				watched <- fmt.Sprintf("mode %o of group %d", st.Mode&0o777, st.Gid)
				return
			}
			select {
			case <-stop:
				watched <- ""
				return
			default:
			}
		}
	}()
	for range 200 {
		l, err := listenUnix(at(dir+"/s"), audience{group: group{name: "theirs", id: strconv.Itoa(theirGroup)}})
		must(t, err)
		must(t, l.Close())
	}
	close(stop)
	if seen := receive(t, watched); seen != "" {
		t.Errorf("at some instant the socket had %s", seen)
	}
}

func TestGroupCanEnterADirectoryThatWeMake(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	e, err := userEndpoint("other")
	must(t, err)
	theirs := group{name: "theirs", id: strconv.Itoa(theirGroup)}
	for _, test := range []struct {
		to   audience
		want string // of the socket; empty if nobody else finds it
	}{{}, {audience{group: theirs}, "Srw-rw----"}, {}, {audience{group: theirs, all: true}, "Srw-rw-rw-"}, {}} { // the directory stays
		l, err := listenUnix(e, test.to)
		must(t, err)
		var got string
		err = asMember(t, theirGroup, func() error {
			info, err := os.Lstat(e.Path)
			if err == nil {
				got = info.Mode().String()
			}
			return err
		})
		if test.want != "" && (err != nil || got != test.want) {
			t.Errorf("for %v a member finds %q, %v; want %q", test.to, got, err, test.want)
		}
		must(t, l.Close())
	}
}

func TestGroupThatThereIsNot(t *testing.T) {
	for _, name := range []string{"no-such-group", "-1", "99999999999", "4294967295"} {
		_, err := findGroup(name)
		checkRefused(t, name, err, fmt.Sprintf("there is no group %q", name), "groupadd")
	}
	if g, err := findGroup("root"); err != nil || g.id != "0" {
		t.Errorf("the group root is %v, %v; want 0", g, err)
	}
}

// inOwnRun runs f in a thread that has a runDir of its own.
func inOwnRun(t testing.TB, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", runDir, "tmpfs", 0, "mode=0755")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return receive(t, done)
}

// TestClientTrustsWhomRootGaveThePlace has a service that runs as another user, at its place in runDir
// and at others.
func TestClientTrustsWhomRootGaveThePlace(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name, path string
		run, dir   fs.FileMode
		owner      int
		trusted    bool
	}{
		{"its place", "/run/ipcd/ipcd.sock", 0o755, 0o755, nobody, true},
		{"its place, by another name", "/var/run/other/other.sock", 0o755, 0o750, nobody, true},
		{"another file there", "/run/ipcd/mine.sock", 0o755, 0o755, nobody, false},
		{"a directory of root's", "/run/ipcd/ipcd.sock", 0o755, 0o755, 0, false},
		{"a directory of a third one's", "/run/ipcd/ipcd.sock", 0o755, 0o755, 1, false},
		{"one that others can write to", "/run/ipcd/ipcd.sock", 0o755, 0o757, nobody, false},
		{"where others can write", "/run/ipcd/ipcd.sock", 0o777, 0o755, nobody, false},
		{"deeper down", "/run/in/ipcd/ipcd.sock", 0o755, 0o755, nobody, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := inOwnRun(t, func() error {
				dir := filepath.Dir(test.path)
				err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, test.dir), os.Lchown(dir, test.owner, 0), os.Chmod(runDir, test.run))
				if got := isTrusted(at(test.path), noOwner, nobody); err == nil && got != test.trusted {
					return fmt.Errorf("isTrusted = %v; want %v", got, test.trusted)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServiceDirectory has root run a service by hand. Its directory is open whatever the umask, since the mode of the
// socket decides who may connect, and goes with the socket unless somebody has put something else there.
func TestServiceDirectory(t *testing.T) {
	needRoot(t)
	defer syscall.Umask(syscall.Umask(0o077))
	must(t, inOwnRun(t, func() error {
		e := serviceEndpoint(defaultName)
		l, err := listenUnix(e, audience{})
		if err != nil {
			return err
		}
		dir := filepath.Dir(e.Path)
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm() != 0o755 {
			err = fmt.Errorf("its directory has the mode %v; want 0755", info.Mode())
		}
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("its directory is left: %v", err)
		}
		if _, err := lockPath(e); !errors.Is(err, fs.ErrNotExist) { // for the next daemon, which makes the directory again
			return fmt.Errorf("the lock where no directory is: %v; want %v", err, fs.ErrNotExist)
		}
		if l, err = listenUnix(e, audience{}); err != nil {
			return err
		}
		err = errors.Join(os.WriteFile(dir+"/other", nil, 0o600), l.Close())
		if _, statErr := os.Stat(dir + "/other"); err == nil {
			err = statErr
		}
		return err
	}))
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
			conn, err := dialUnix(t.Context(), at(path), dialOptions{})
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
	want := peer{Transport: "unix", Known: true, UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), User: userName(os.Getuid())}.named()
	gids, err := os.Getgroups()
	must(t, err)
	groups := map[string]bool{}
	for _, gid := range append(gids, os.Getgid()) {
		groups[strconv.Itoa(gid)] = true
	}
	got := answer.Result
	for _, id := range got.Groups {
		if !groups[id] {
			t.Errorf("Whoami says group %s, and we are no member of it", id)
		}
		delete(groups, id)
	}
	if len(groups) > 0 || len(got.Groups) == 0 || got.Groups[0] != strconv.Itoa(os.Getgid()) {
		t.Errorf("Whoami says groups %v; want the effective one first, and %v too", got.Groups, groups)
	}
	if got.Groups = nil; !reflect.DeepEqual(got, want) {
		t.Errorf("Whoami = %+v; want %+v", got, want)
	}
}

// A daemon that was killed has gone, also where nobody takes note of it.
func TestDaemonThatIsAZombieHasGone(t *testing.T) {
	e := at(tempSocket(t))
	cmd := exec.Command("ipcd", "run", "--listen", e.String())
	must(t, cmd.Start())
	defer cmd.Wait()
	c, err := connect(t.Context(), e, defaultLimits(), testPatience)
	must(t, err)
	c.close()
	must(t, cmd.Process.Kill())
	waitFor(t, func() error {
		if !isZombie(cmd.Process.Pid) {
			return errors.New("it has not ended")
		}
		if c, err = connect(t.Context(), e, defaultLimits(), 0); err == nil { // its first thread has ended, and not yet all
			c.close()
			return errors.New("it still takes connections")
		}
		return nil
	})
	checkCode(t, "a call of a daemon that was killed", err, codeNotReachable, "one has been here and is gone")
}
