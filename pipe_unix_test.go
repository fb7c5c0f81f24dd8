//go:build unix

package main

// This file owns who has an endpoint on Unix, and what is refused there.

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// at is the endpoint of a path.
func at(path string) endpoint { return endpoint{Scheme: "unix", Proto: protoAuto, Path: path} }

// tempDir is a 0700 directory with a short path.
func tempDir(t testing.TB) string { t.Helper(); return filepath.Dir(tempSocket(t)) }

func TestListenIsPrivateWhateverTheUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := tempSocket(t)
	l, err := listenUnix(at(path), audience{})
	must(t, err)
	defer l.Close()
	for _, name := range []string{path, path + ".lock"} {
		info, err := os.Lstat(name)
		must(t, err)
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has the mode %04o; want 0600", name, mode)
		}
	}
	must(t, l.Close())
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Errorf("Close left %q", left)
	}
}

// The BSDs bind elsewhere and move the socket; it works here as well.
func TestBindMoved(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := tempSocket(t)
	must(t, os.Mkdir(path+".d", 0o700)) // of one who was killed here
	l, err := bindMoved(path)
	must(t, err)
	defer l.Close()
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	conn, err := net.Dial("unix", path)
	must(t, err)
	conn.Close()
	must(t, os.Remove(path))
}

func TestListenRefuses(t *testing.T) {
	tests := []struct {
		name        string
		make        func(t *testing.T, dir string) endpoint
		words, hint string
	}{
		{"a directory that is not there", func(t *testing.T, dir string) endpoint { return at(dir + "/no/s") }, "there is no directory", "mkdir -p -m 700"},
		{"a file for a directory", func(t *testing.T, dir string) endpoint {
			must(t, os.WriteFile(dir+"/f", nil, 0o600))
			return at(dir + "/f/s")
		}, "is no directory", "directory of your own"},
		{"a directory that others can write to", func(t *testing.T, dir string) endpoint {
			must(t, os.Chmod(dir, 0o777))
			return at(dir + "/s")
		}, "is open to the writing of others (mode 0777)", "chmod go-w"},
		{"a sticky one, not asked for", func(t *testing.T, dir string) endpoint {
			must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
			return at(dir + "/s")
		}, "everybody can put files into the directory", "/s?dir=shared"},
		{"a parent that others can write to", func(t *testing.T, dir string) endpoint {
			must(t, os.Mkdir(dir+"/in", 0o700))
			must(t, os.Chmod(dir, 0o777))
			return at(dir + "/in/s")
		}, "is open to the writing of others", "chmod go-w"},
		{"a link on the way", func(t *testing.T, dir string) endpoint {
			must(t, os.Mkdir(dir+"/real", 0o700))
			must(t, os.Symlink(dir+"/real", dir+"/link"))
			return at(dir + "/link/s")
		}, "is a symbolic link to", "/real/s"},
		{"a file in its place", func(t *testing.T, dir string) endpoint {
			must(t, os.WriteFile(dir+"/s", []byte("mine"), 0o600))
			return at(dir + "/s")
		}, "a file that is no socket is in its place", "nothing was changed"},
		{"a directory in its place", func(t *testing.T, dir string) endpoint {
			must(t, os.Mkdir(dir+"/s", 0o700))
			return at(dir + "/s")
		}, "a directory is in its place", "/s/ipcd.sock"},
		{"a link in its place", func(t *testing.T, dir string) endpoint {
			must(t, os.Symlink("/nowhere", dir+"/s"))
			return at(dir + "/s")
		}, "a symbolic link is in its place", "rm "},
		{"a live socket without a lock", func(t *testing.T, dir string) endpoint {
			l, err := net.Listen("unix", dir+"/s")
			must(t, err)
			t.Cleanup(func() { l.Close() })
			return at(dir + "/s")
		}, "another program listens there, without a lock", "lsof"},
		{"a lock that is a link", func(t *testing.T, dir string) endpoint {
			must(t, os.Symlink(dir+"/elsewhere", dir+"/s.lock"))
			return at(dir + "/s")
		}, "is a symbolic link", "rm "},
		{"a lock that is a directory", func(t *testing.T, dir string) endpoint {
			must(t, os.Mkdir(dir+"/s.lock", 0o700))
			return at(dir + "/s")
		}, "is a directory", "rmdir "},
		{"a lock that is a FIFO", func(t *testing.T, dir string) endpoint {
			must(t, unix.Mkfifo(dir+"/s.lock", 0o600))
			return at(dir + "/s")
		}, "is not ours alone", "directory of your own"},
		{"a lock with a second name", func(t *testing.T, dir string) endpoint {
			must(t, os.WriteFile(dir+"/precious", []byte("precious"), 0o600))
			must(t, os.Link(dir+"/precious", dir+"/s.lock"))
			return at(dir + "/s")
		}, "is not ours alone", "directory of your own"},
		{"a path that is too long", func(t *testing.T, dir string) endpoint {
			return at(dir + "/" + strings.Repeat("x", 108))
		}, "bytes; a socket's may have", "choose a shorter one"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := tempDir(t)
			e := test.make(t, dir)
			l, err := listenUnix(e, audience{})
			if err == nil {
				l.Close()
			}
			checkRefused(t, "listen", err, test.words, test.hint)
			if b, err := os.ReadFile(dir + "/precious"); err == nil && string(b) != "precious" {
				t.Errorf("a file of ours was written over with %q", b)
			}
		})
	}
}

func TestListenInASharedDirectoryThatWasAskedFor(t *testing.T) {
	dir := tempDir(t)
	must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	e := at(dir + "/s").withShared()
	l, err := listenUnix(e, audience{})
	must(t, err)
	must(t, l.Close())
	must(t, os.Mkdir(dir+"/own", 0o700)) // one's own inside of it needs no word
	l, err = listenUnix(at(dir+"/own/s"), audience{})
	must(t, err)
	must(t, l.Close())
}

func TestListenMakesItsDefaultDirectoryPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := tempDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	e, err := defaultEndpoint()
	must(t, err)
	l, err := listenUnix(e, audience{})
	must(t, err)
	info, err := os.Lstat(dir + "/ipcd")
	if err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the directory: %v, %v; want 0700", info.Mode(), err)
	}
	must(t, l.Close())
	must(t, os.Chmod(dir+"/ipcd", 0o755))
	_, err = listenUnix(e, audience{})
	checkRefused(t, "one that others can look into", err, "is open to others (mode 0755)", "chmod 700")
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	_, err = defaultEndpoint()
	checkRefused(t, "XDG_RUNTIME_DIR", err, "no absolute path", "-e")
}

func TestListenReplacesTheSocketOfOneWhoIsGone(t *testing.T) {
	if testing.Short() {
		t.Skip("a client has patience for a second")
	}
	path := tempSocket(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	dead.SetUnlinkOnClose(false)
	dead.Close()
	must(t, os.WriteFile(path+".lock", []byte(`{"pid":1,"since":"2020-01-01T00:00:00Z"}`), 0o600)) // which nobody holds
	_, err = dialUnix(t.Context(), at(path), dialOptions{})
	checkRefused(t, "dial", err, "", "")
	l, err := listenUnix(at(path), audience{})
	must(t, err)
	defer l.Close()
	conn, err := dialUnix(t.Context(), at(path), dialOptions{})
	must(t, err)
	conn.Close()
}

func TestListenerLeavesWhatSomebodyElsePutThere(t *testing.T) {
	path := tempSocket(t)
	l, err := listenUnix(at(path), audience{})
	must(t, err)
	must(t, os.Remove(path))
	other, err := net.Listen("unix", path)
	must(t, err)
	defer other.Close()
	must(t, l.Close())
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of somebody else is gone: %v", err)
	}
}

// Of two that listen at one instant one has the endpoint, each time, and the other is told who.
func TestListenHasOneOwner(t *testing.T) {
	pairs := 50
	if testing.Short() {
		pairs = 10
	}
	path := tempSocket(t)
	for range pairs {
		var all sync.WaitGroup
		var listeners [2]net.Listener
		var errs [2]error
		start := make(chan struct{})
		for i := range 2 {
			all.Go(func() {
				<-start
				listeners[i], errs[i] = listenUnix(at(path), audience{})
			})
		}
		close(start)
		all.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		if errs[winner] != nil || errs[1-winner] == nil {
			t.Fatalf("two at one instant: %v and %v; want one that listens", errs[0], errs[1])
		}
		checkRefused(t, "the other", errs[1-winner], "it is held by pid "+strconv.Itoa(os.Getpid())+" since 20", "kill "+strconv.Itoa(os.Getpid()))
		must(t, listeners[winner].Close())
	}
}

func TestDialTellsTheCausesApart(t *testing.T) {
	dir := tempDir(t)
	tests := []struct {
		name        string
		make        func(t *testing.T, path string)
		words, hint string
	}{
		{"nobody", func(*testing.T, string) {}, "no daemon at", `"ipcd run`},
		{"stale", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			must(t, err)
			l.SetUnlinkOnClose(false)
			l.Close()
		}, "one has been here and is gone", "start it again"},
		{"file", func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, "that is a file and no socket", "-e"},
		{"directory", func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "that is a directory and no socket", "-e"},
		{"datagrams", func(t *testing.T, path string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			must(t, err)
			t.Cleanup(func() { c.Close() })
		}, "no socket for streams", "-e"},
		{"busy", func(t *testing.T, path string) { fillBacklog(t, path) }, "is busy: it accepts no connection now", "--wait 5s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := at(filepath.Join(dir, test.name))
			test.make(t, e.Path)
			conn, err := dialUnix(t.Context(), e, dialOptions{}) // who is busy is asked for dialPatience
			if err == nil {
				conn.Close()
			}
			checkRefused(t, "dial", err, test.words, test.hint)
			if !errors.Is(err, &fault{Code: codeNotReachable}) || exitCode(err) != exitNobody {
				t.Errorf("its exit code is %d; want %d", exitCode(err), exitNobody)
			}
		})
	}
}

// fillBacklog listens at path until the test ends, accepts nothing, and has as many callers as may
// wait. It returns the socket that listens.
func fillBacklog(t *testing.T, path string) (fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	unix.CloseOnExec(fd)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	must(t, unix.Listen(fd, 1))
	must(t, os.WriteFile(path+".lock", []byte(`{"pid":`+strconv.Itoa(os.Getpid())+`}`), 0o600))
	for range 100 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return fd
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a hundred callers wait, and there is room for more")
	return fd
}

// A fakeDir is a directory with that mode, user and group.
type fakeDir struct {
	fs.FileInfo
	mode     fs.FileMode
	uid, gid uint32
}

func (d fakeDir) Mode() fs.FileMode { return fs.ModeDir | d.mode }
func (d fakeDir) Sys() any          { return &syscall.Stat_t{Uid: d.uid, Gid: d.gid} }

// TestDirectoryOpenToTheGroupOfTheSystem is about macOS's /var/run, and what is almost like it.
func TestDirectoryOpenToTheGroupOfTheSystem(t *testing.T) {
	for _, test := range []struct {
		name string
		at   string
		dir  fakeDir
		want bool
	}{
		{"as the system makes it", groupRunDir, fakeDir{mode: 0o775, gid: 1}, false},
		{"closed", groupRunDir, fakeDir{mode: 0o755}, false},
		{"open to all", groupRunDir, fakeDir{mode: 0o777, gid: 1}, true},
		{"of another group", groupRunDir, fakeDir{mode: 0o775, gid: 20}, true},
		{"of another user", groupRunDir, fakeDir{mode: 0o775, uid: 501, gid: 1}, true},
		{"another directory", "/var/db", fakeDir{mode: 0o775, gid: 1}, true},
	} {
		if got := (place{path: test.at, info: test.dir, view: groupView{}}).isOpen(0); got != test.want {
			t.Errorf("%s: isOpen = %v; want %v", test.name, got, test.want)
		}
	}
}
