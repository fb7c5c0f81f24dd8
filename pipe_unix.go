//go:build unix

package main

// This file is the local transport on Unix, the side that listens: sockets in the file system, where they may
// be, and who may use them. The side that dials is in pipe_dial_unix.go; what Linux and the BSDs do
// differently in pipe_peer_linux.go and pipe_peer_bsd.go. Its twin is pipe_windows.go.

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	addTransport("unix", transport{
		listen:   listenUnix,
		check:    checkLength,
		inherits: takeOverUnix,
		dial:     dialUnix,
		identify: func(conn net.Conn, _ time.Duration) (peer, error) { return identifyUnix(conn) },
		server:   identifyUnix,
		inspect:  inspectUnix,
		serves: func(conn net.Conn, pid int) bool {
			p, err := identifyUnix(conn)
			return err == nil && (p.PID == pid || p.PID == 0 && !tellsPID)
		},
	})
	addTransport("npipe", transport{lacking: noPipes})
}

func noPipes(e endpoint) *fault {
	return usagef("the endpoint %s is a named pipe, and only Windows has those", e).withHint("use a socket here: %s", serviceEndpoint(defaultName))
}

// A unixListener is a socket in the file system, with the lock that makes it ours.
type unixListener struct {
	*net.UnixListener
	endpoint endpoint
	addr     net.UnixAddr
	info     fs.FileInfo // of the socket, to recognise it
	lock     *pathLock
	once     sync.Once
	err      error
}

func (l *unixListener) Addr() net.Addr { return &l.addr }

// Close removes the socket, unless somebody has put another in its place, then the lock, and the directory if it was made
// for us and nothing else is in it. The socket goes first, so that a client finds none rather than one that no longer answers.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.addr.Name); err == nil && os.SameFile(now, l.info) {
			l.err = os.Remove(l.addr.Name)
		}
		l.err = errors.Join(l.UnixListener.Close(), l.err, l.lock.release())
		removeServiceDir(l.endpoint)
	})
	return l.err
}

// openTo opens the socket to another audience than before, or to none.
func (l *unixListener) openTo(to audience) error {
	if err := os.Chmod(l.addr.Name, 0o600); err != nil {
		return err
	}
	if err := makeDefaultDir(l.endpoint, to); err != nil {
		return err
	}
	if err := openTo(l.addr.Name, to, socketModes); err != nil {
		return openFault(l.endpoint, to, err)
	}
	return nil
}

// lost reports whether callers no longer find the socket because somebody has removed it, or put something else in
// its place. systemd-tmpfiles(8) removes it from /tmp after ten days.
func (l *unixListener) lost() bool {
	now, err := os.Lstat(l.addr.Name)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, l.info)
}

// privateEndpoint returns a local endpoint in a directory that is ours alone.
func privateEndpoint(dir, name string) endpoint {
	return endpoint{Scheme: "unix", Path: filepath.Join(dir, name), Proto: protoAuto}
}

// listenUnix listens on the socket at e.Path. It replaces a dead socket and refuses to replace a live one. A probe
// cannot tell the two apart, since another daemon may bind right after it; holding the lock file next to the
// path can.
func listenUnix(e endpoint, to audience) (_ net.Listener, err error) {
	if err := checkLength(e); err != nil {
		return nil, err
	}
	lock, err := lockDir(e, to)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.release()
			removeServiceDir(e)
		}
	}()
	if err := clearPath(e); err != nil {
		return nil, err
	}
	l, err := bindPrivate(e.Path)
	if err != nil {
		return nil, listenFault(e, "%w", err).withHint("look at the directory: ls -la %s", filepath.Dir(e.Path))
	}
	if err := openTo(e.Path, to, socketModes); err != nil {
		l.Close()
		os.Remove(e.Path)
		return nil, openFault(e, to, err)
	}
	info, err := os.Lstat(e.Path)
	if err != nil {
		l.Close()
		return nil, listenFault(e, "look at the new socket: %w", err).withHint("somebody has removed it; choose a directory of your own")
	}
	return &unixListener{UnixListener: l, endpoint: e, addr: net.UnixAddr{Name: e.Path, Net: "unix"}, info: info, lock: lock}, nil
}

// takeOverUnix returns a listener for e if l is its socket: that of a service manager, or that of the program before us in
// this process, with its lock.
func takeOverUnix(e endpoint, l inheritance) (net.Listener, error) {
	if l.managers {
		return inheritsUnix(e, l)
	}
	inner, ok := l.Listener.(*net.UnixListener)
	if l.at.key() != e.key() || !ok {
		return nil, nil
	}
	lock, err := adoptLock(e, l.lock)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(e.Path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 || ownerOf(info) != os.Getuid() {
		inner.Close()
		lock.release()
		return nil, listenFault(e, "the socket that this process has served there was replaced").withHint("look at the directory: ls -la %s", filepath.Dir(e.Path))
	}
	inner.SetUnlinkOnClose(false)
	return &unixListener{UnixListener: inner, endpoint: e, addr: net.UnixAddr{Name: e.Path, Net: "unix"}, info: info, lock: lock}, nil
}

// left implements leaver.
func (l *unixListener) left() (net.Listener, *os.File) { return l.UnixListener, l.lock.file }

// lockDir takes the lock of e, in a directory that is safe and, for a default endpoint, made if need be. A daemon that ends
// may remove that directory in between.
func lockDir(e endpoint, to audience) (lock *pathLock, err error) {
	for range 10 { // a link that leads nowhere stays one
		if err = makeDefaultDir(e, to); err == nil {
			err = checkDir(e)
		}
		if err == nil {
			lock, err = lockPath(e)
		}
		if !errors.Is(err, fs.ErrNotExist) || serviceDir(e) == "" {
			break
		}
	}
	return lock, err
}

// serviceDir is the directory of e that we make and remove: that of the default endpoint of a service of the system, if we
// are root. A user's is theirs, and the one in /tmp keeps its name from others.
func serviceDir(e endpoint) string {
	name, ok := instanceOf(e)
	if !ok || e.Path != serviceEndpoint(name).Path || os.Getuid() != 0 {
		return ""
	}
	return filepath.Dir(e.Path)
}

// removeServiceDir removes it if nothing is in it.
func removeServiceDir(e endpoint) {
	if dir := serviceDir(e); dir != "" {
		os.Remove(dir)
	}
}

// sunPath is how long a path sockaddr_un.sun_path can hold; its last byte has to be zero. The array has 108 bytes
// on Linux, 104 on the BSDs and macOS.
const sunPath = len(syscall.RawSockaddrUnix{}.Path) - 1

func checkLength(e endpoint) error {
	if n := len(e.Path); n+bindSpace > sunPath {
		return usagef("the path of %s has %d bytes; a socket's may have %d on this system", e, n, sunPath-bindSpace).
			withHint("choose a shorter one, such as %s", serviceEndpoint(defaultName))
	}
	return nil
}

// audienceModes are the modes of a file for its audience.
type audienceModes struct{ group, all fs.FileMode }

var (
	socketModes = audienceModes{0o660, 0o666}
	dirModes    = audienceModes{0o710, 0o711} // of the directory of a default endpoint
)

// openTo gives path, which only we can use so far, to the group of the audience, and then the mode that lets the audience use it:
// there is no instant at which anybody else can. Without an audience it does nothing.
func openTo(path string, to audience, modes audienceModes) error {
	switch {
	case to.all:
		return os.Chmod(path, modes.all)
	case to.isNobody():
		return nil
	}
	gid, err := strconv.Atoi(to.group.id)
	if err == nil {
		err = os.Lchown(path, -1, gid)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, modes.group)
}

func openFault(e endpoint, to audience, err error) *fault {
	if to.all {
		return listenFault(e, "open it to all users: %w", err).withHint("look at the directory: ls -la %s", filepath.Dir(e.Path))
	}
	return listenFault(e, "open it to the group %s: %w", to.group.name, err).
		withHint("the daemon has to be a member of the group itself, or run as root")
}

// makeDefaultDir makes the directory of a default endpoint, and no other: a directory that the user named is theirs
// to make, or a slip of the pen. Whether it is safe is for checkDir to say.
func makeDefaultDir(e endpoint, to audience) error {
	mode := fs.FileMode(0o700)
	name, ok := instanceOf(e)
	if own, err := userEndpoint(name); !ok || err != nil || own.Path != e.Path {
		if serviceDir(e) == "" {
			return nil
		}
		mode = 0o755 // the mode of the socket decides who may connect
	}
	dir := filepath.Dir(e.Path)
	err := os.Mkdir(dir, mode)
	if err == nil {
		err = os.Chmod(dir, mode) // whatever the umask
	}
	if run := filepath.Dir(dir); err != nil && !errors.Is(err, fs.ErrExist) && run == os.Getenv("XDG_RUNTIME_DIR") {
		return listenFault(e, "make its directory: %w", err).withHint("XDG_RUNTIME_DIR names %s, where that cannot be; unset it, for you and for those who call, or name an endpoint with --listen", run)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return listenFault(e, "make its directory: %w", err).withHint("name an endpoint in a directory of your own with --listen")
	}
	// A directory that was there may be another user's. Then it is left alone, and checkDir complains.
	if info, err := os.Lstat(dir); mode == 0o700 && err == nil && info.IsDir() && ownerOf(info) == os.Getuid() {
		if err := openTo(dir, to, dirModes); err != nil {
			return openFault(e, to, err)
		}
	}
	return nil
}

// checkDir makes sure that we can listen at e, and that nobody but root and us can put anything else there, now or later.
func checkDir(e endpoint) error {
	var dir place
	for p, err := range wayTo(filepath.Dir(e.Path)) {
		if err != nil {
			return dirFault(e, p.path, err)
		}
		if f := distrust(e, p); f != nil {
			return listenFault(e, "%w", f).withHint("%s", f.hint)
		}
		dir = p
	}
	// access(2) asks for the real user, but ours is never set-uid.
	if err := unix.Access(dir.path, unix.W_OK|unix.X_OK); err != nil {
		return listenFault(e, "the directory %s is not writable for us: %w", dir.path, err).withHint("choose a directory of your own")
	}
	return nil
}

// dirFault says that the directory at cannot be examined.
func dirFault(e endpoint, at string, err error) *fault {
	if errors.Is(err, fs.ErrNotExist) {
		f := listenFault(e, "there is no directory %s", at).withHint("make it: mkdir -p -m 700 %s", filepath.Dir(e.Path))
		f.err = err
		return f
	}
	return listenFault(e, "%w", err).withHint("choose a directory of your own")
}

// distrust says why a place on the way to the directory of e cannot be relied on, or returns nil: every directory has to
// be root's or ours, and others cannot write to it, or it is sticky, so that they can only add to it. A link that is
// not the system's is refused whoever owns it: whoever can change the link decides where the socket is.
func distrust(e endpoint, p place) *fault {
	danger, mode := p.risk(os.Getuid()), p.info.Mode()
	switch {
	case p.isSystemLink():
		return nil
	case p.to != "":
		direct := e
		if real, err := filepath.EvalSymlinks(filepath.Dir(e.Path)); err == nil {
			direct = e.withPath(filepath.Join(real, filepath.Base(e.Path)))
		}
		return faultf(codeApplication, "%s on its way is a symbolic link to %s, which can be changed", p.path, p.to).
			withHint("name the place itself: %s", direct)
	case !p.info.IsDir():
		return faultf(codeApplication, "%s is no directory", p.path).withHint("choose a directory of your own")
	case danger == riskForeign:
		return faultf(codeApplication, "the directory %s belongs to %s, who could replace the socket", p.path, nameUser(ownerOf(p.info))).
			withHint("choose a directory of your own")
	case danger == riskOpen:
		return faultf(codeApplication, "the directory %s is open to the writing of others (mode %04o), who could replace the socket", p.path, mode.Perm()).
			withHint("close it: chmod go-w %s", p.path)
	case danger == riskAdded && p.end && !e.Shared:
		return faultf(codeApplication, "everybody can put files into the directory %s", p.path).
			withHint("choose a directory of your own, or say that you know: %s", e.withShared())
	case danger == riskNone && p.end && isFallbackDir(e, p.path) && mode.Perm()&0o066 != 0: // those who may call can enter it
		return faultf(codeApplication, "the directory %s is open to others (mode %04o)", p.path, mode.Perm()).withHint("close it: chmod 700 %s", p.path)
	}
	return nil
}

// isFallbackDir reports whether at, the directory of e, is that of a user's default endpoint, which nobody else may
// look into.
func isFallbackDir(e endpoint, at string) bool {
	name, ok := instanceOf(e)
	if !ok {
		name = defaultName
	}
	own, err := userEndpoint(name)
	return err == nil && filepath.Dir(own.Path) == at
}

// clearPath makes room for the socket. It removes a dead socket of our own, and nothing else. We hold the lock, so
// a live one belongs to a program that does not know of it.
func clearPath(e endpoint) error {
	info, err := os.Lstat(e.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return listenFault(e, "%w", err).withHint("choose a directory of your own")
	case info.Mode()&fs.ModeSymlink != 0:
		return listenFault(e, "a symbolic link is in its place").withHint("remove it, or name another path: rm %s", e.Path)
	case info.IsDir():
		return listenFault(e, "a directory is in its place").withHint("name a socket in it: unix://%s", escape(filepath.Join(e.Path, "ipcd.sock")))
	case info.Mode()&fs.ModeSocket == 0:
		return listenFault(e, "a file that is no socket is in its place").withHint("name another path; nothing was changed")
	case ownerOf(info) != os.Getuid():
		return listenFault(e, "a socket of %s is in its place", nameUser(ownerOf(info))).withHint("choose a directory of your own")
	}
	conn, err := net.DialTimeout("unix", e.Path, time.Second)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return listenFault(e, "another program listens there, without a lock").withHint("see which with: lsof %s", e.Path)
	}
	if err := os.Remove(e.Path); err != nil {
		return listenFault(e, "remove the socket of a daemon that is gone: %w", err).withHint("remove it yourself: rm %s", e.Path)
	}
	return nil
}

// movedSuffix names the directory in which bindMoved binds, and the socket in it.
const movedSuffix = ".d/s"

// bindMoved binds in a directory that only we can enter, sets the mode of the socket and moves it to path: connect(2)
// finds a socket by its inode, wherever that is linked. Setting the umask around bind would work as well, but also
// apply to every file that another thread creates meanwhile.
func bindMoved(path string) (*net.UnixListener, error) {
	tmp := path + movedSuffix
	dir := filepath.Dir(tmp)
	os.Remove(tmp) // left by one that was killed; we hold the lock
	os.Remove(dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer os.Remove(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		l.Close()
		return nil, err
	}
	return l, nil
}

// identifyUnix asks the kernel who is at the other end.
func identifyUnix(conn net.Conn) (peer, error) {
	p := peer{Transport: "unix", UID: -1, GID: -1}
	err := withFD(conn, func(fd int) error { return p.ask(fd) })
	if err != nil {
		return p, fmt.Errorf("ask who is at the other end: %w", err)
	}
	p.Known, p.User = true, userName(p.UID)
	return p, nil
}

// unread returns how many bytes conn has to read without waiting.
func unread(conn syscall.Conn) (n int, err error) {
	err = withFD(conn, func(fd int) error { n, err = unix.IoctlGetInt(fd, bytesToRead); return err })
	return n, err
}

// peerLeft is peerGone at any time.
func peerLeft(conn net.Conn) bool { return peerGone(conn) }

// peerGone reports, after the end of the input, whether the peer has closed the connection, or only shut down its
// sending side and waits for answers. POLLHUP means that both directions are shut down; so it does on Linux
// (poll(2)) and FreeBSD. macOS reports it for the direction asked for, hence POLLOUT.
func peerGone(conn net.Conn) bool {
	return polls(conn, unix.POLLOUT, unix.POLLHUP|unix.POLLERR|unix.POLLNVAL)
}

// inputShut reports whether the peer has shut its sending side, whatever is still to be read.
func inputShut(conn net.Conn) bool { return polls(conn, pollShut, pollShut) }

// polls reports whether one of the events has come.
func polls(conn net.Conn, asked, events int16) bool {
	come := false
	err := withFD(conn, func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: asked}}
		_, err := unix.Poll(p, 0)
		come = err == nil && p[0].Revents&events != 0
		return err
	})
	return err == nil && come
}
