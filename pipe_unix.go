//go:build unix

package main

// This file is the local transport on Unix: sockets in the file system, who may use them, and
// the lock that says whose they are. Its twin is pipe_windows.go.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	transports["unix"] = transport{listen: listenUnix, inherits: inheritsUnix, dial: dialUnix, identify: func(conn net.Conn, _ time.Duration) (peer, error) { return identifyUnix(conn) }}
	transports["npipe"] = transport{
		listen: func(e endpoint, _ group) (net.Listener, error) { return nil, noPipes(e) },
		dial:   func(_ context.Context, e endpoint) (net.Conn, error) { return nil, noPipes(e) },
		identify: func(net.Conn, time.Duration) (peer, error) {
			return peer{}, errors.New("identify the peer: this system has no named pipes")
		},
	}
	ownPeer = func() (peer, error) {
		return peer{Transport: "unix", Known: true, UID: os.Getuid(), GID: os.Getgid(), User: userName(os.Getuid())}, nil
	}
	isMaster = func(p peer) bool { return p.Known && p.UID == 0 }
	findGroup = findUnixGroup
}

// findUnixGroup takes a name, or a number that need not have one.
func findUnixGroup(name string) (group, error) {
	if g, err := user.LookupGroup(name); err == nil {
		return group{name: name, id: g.Gid}, nil
	}
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return group{name: name, id: strconv.FormatUint(gid, 10)}, nil
	}
	return group{}, usagef("there is no group %q", shorten(name, 100)).withHint("make it: sudo groupadd %s", defaultName)
}

func noPipes(e endpoint) *fault {
	return usagef("the endpoint %s is a named pipe, and only Windows has those", e).withHint("use a socket here: %s", serviceEndpoint(defaultName))
}

// stopSignals are those that ask a daemon to stop. A hang-up is among them, so that a closed
// terminal leaves no socket behind, unless nohup(1) has it ignored: Notify would undo that.
var stopSignals = func() []os.Signal {
	s := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		s = append(s, syscall.SIGHUP)
	}
	return s
}()

// reloadSignals are those that ask a daemon under a service manager to read its settings again.
var reloadSignals = []os.Signal{syscall.SIGHUP}

// signalPatience is how long the system lets a process go on after a signal; with 0 as long as it likes.
func signalPatience(os.Signal) time.Duration { return 0 }

// detach gives cmd a session of its own, which neither Ctrl-C nor a closed terminal reaches.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// serviceEndpoint is where a daemon listens that is a service of the system.
func serviceEndpoint(name string) endpoint {
	return endpoint{Scheme: "unix", Path: filepath.Join(runDir, name, name+".sock"), Proto: protoAuto}
}

// defaultEndpoint is the user's own.
func defaultEndpoint() (endpoint, error) { return userEndpoint(defaultName) }

// userEndpoint is where a service of the user's own listens: $XDG_RUNTIME_DIR is theirs alone (XDG
// Base Directory Specification) and goes when they log out. Without it the place is fixed all the
// same, since daemon and client have to meet there; $TMPDIR may be another in each of them.
func userEndpoint(name string) (endpoint, error) {
	dir := filepath.Join("/tmp", name+"-"+strconv.Itoa(os.Getuid()))
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		if !filepath.IsAbs(run) {
			return endpoint{}, usagef("XDG_RUNTIME_DIR is %q, which is no absolute path", run).withHint("unset it, or name an endpoint with -e")
		}
		dir = filepath.Join(run, name)
	}
	return endpoint{Scheme: "unix", Path: filepath.Join(dir, name+".sock"), Proto: protoAuto}, nil
}

// instanceOf is the name of the service whose default endpoint e could be.
func instanceOf(e endpoint) (name string, ok bool) {
	name, ok = strings.CutSuffix(filepath.Base(e.Path), ".sock")
	return name, ok && isInstanceName(name)
}

// userConfigFile and serviceConfigFile are where the configuration is looked for; empty where
// the user has no such place.
func userConfigFile(name string) string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, name, "config.toml")
}

func serviceConfigFile(name string) string { return filepath.Join(etcDir, name, "config.toml") }

// stateDir is where the daemon keeps what must outlive it: systemd's choice (systemd.exec(5)),
// $XDG_STATE_HOME, the system's for root. It is not made here.
func stateDir() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		dir, _, _ = strings.Cut(dir, ":")
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ipcd"), nil
	}
	if os.Getuid() == 0 {
		return filepath.Join(varDir, "ipcd"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the state directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "ipcd"), nil
}

// A unixListener is a socket in the file system with the lock that says whose it is.
type unixListener struct {
	*net.UnixListener
	endpoint endpoint
	addr     net.UnixAddr
	info     fs.FileInfo // of the socket, to know it again
	lock     *pathLock
	once     sync.Once
	err      error
}

func (l *unixListener) Addr() net.Addr { return &l.addr }

// Close removes the socket, unless somebody has put another in its place, and then the lock. The
// file goes first: a client then finds nobody rather than a socket that answers no more.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.addr.Name); err == nil && os.SameFile(now, l.info) {
			l.err = os.Remove(l.addr.Name)
		}
		l.err = errors.Join(l.UnixListener.Close(), l.err, l.lock.release())
	})
	return l.err
}

// letIn opens the socket to the members of another group than before, or of none.
func (l *unixListener) letIn(allow group) error {
	if err := os.Chmod(l.addr.Name, 0o600); err != nil {
		return err
	}
	if err := makeDefaultDir(l.endpoint, allow); err != nil {
		return err
	}
	if err := openTo(l.addr.Name, allow, 0o660); err != nil {
		return openFault(l.endpoint, allow, err)
	}
	return nil
}

// lost tells that callers no longer find the socket: somebody has removed it, or put another thing
// in its place. systemd-tmpfiles(8) does so in /tmp after ten days.
func (l *unixListener) lost() bool {
	now, err := os.Lstat(l.addr.Name)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, l.info)
}

// listenUnix listens on the socket at e.Path. It replaces a dead socket and refuses a live one.
// Probing alone cannot tell the two apart in time, because another daemon may bind right after
// the probe; holding the lock file next to the path can.
func listenUnix(e endpoint, allow group) (_ net.Listener, err error) {
	if err := checkLength(e); err != nil {
		return nil, err
	}
	if err := makeDefaultDir(e, allow); err != nil {
		return nil, err
	}
	if err := checkDir(e); err != nil {
		return nil, err
	}
	lock, err := lockPath(e)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.release()
		}
	}()
	if err := clearPath(e); err != nil {
		return nil, err
	}
	l, err := bindPrivate(e.Path)
	if err != nil {
		return nil, listenFault(e, "%w", err).withHint("look at the directory: ls -la %s", filepath.Dir(e.Path))
	}
	if err := openTo(e.Path, allow, 0o660); err != nil {
		l.Close()
		os.Remove(e.Path)
		return nil, openFault(e, allow, err)
	}
	info, err := os.Lstat(e.Path)
	if err != nil {
		l.Close()
		return nil, listenFault(e, "look at the new socket: %w", err).withHint("somebody has removed it; choose a directory of your own")
	}
	return &unixListener{UnixListener: l, endpoint: e, addr: net.UnixAddr{Name: e.Path, Net: "unix"}, info: info, lock: lock}, nil
}

// sunPath is the length of sockaddr_un.sun_path, whose last byte is the zero that ends it:
// 108 on Linux, 104 on the BSDs and macOS.
const sunPath = len(syscall.RawSockaddrUnix{}.Path) - 1

func checkLength(e endpoint) error {
	if n := len(e.Path); n+bindSpace > sunPath {
		return usagef("the path of %s has %d bytes; a socket's may have %d on this system", e, n, sunPath-bindSpace).
			withHint("choose a shorter one, such as %s", serviceEndpoint(defaultName))
	}
	return nil
}

// openTo gives path, which is in a place of ours alone, to the group, and then the mode that lets its
// members use it: at no instant anybody else can. Without a group it does nothing.
func openTo(path string, allow group, mode fs.FileMode) error {
	if allow.id == "" {
		return nil
	}
	gid, err := strconv.Atoi(allow.id)
	if err == nil {
		err = os.Lchown(path, -1, gid)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func openFault(e endpoint, allow group, err error) *fault {
	return listenFault(e, "open it to the group %s: %w", allow.name, err).
		withHint("the daemon has to be a member of the group itself, or run as root")
}

// makeDefaultDir makes the directory of a default endpoint, and no other: one that the user
// named is theirs to make, or it is a slip of the pen. Whether it is safe is checkDir's business.
func makeDefaultDir(e endpoint, allow group) error {
	mode := fs.FileMode(0o700)
	name, ok := instanceOf(e)
	if own, err := userEndpoint(name); !ok || err != nil || own.Path != e.Path {
		if !ok || e.Path != serviceEndpoint(name).Path || os.Getuid() != 0 {
			return nil
		}
		mode = 0o755 // others may look in; the socket decides who may connect
	}
	dir := filepath.Dir(e.Path)
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return listenFault(e, "make its directory: %w", err).withHint("name an endpoint in a directory of your own with --listen")
	}
	// One that was there may be another user's: then nothing is changed, and checkDir complains.
	if info, err := os.Lstat(dir); mode == 0o700 && err == nil && info.IsDir() && ownerOf(info) == os.Getuid() {
		if err := openTo(dir, allow, 0o710); err != nil {
			return openFault(e, allow, err)
		}
	}
	return nil
}

// checkDir makes sure that nobody but root and us can put anything else at the path of the
// socket, now or later: every directory on the way is root's or ours and closed to the writing
// of others, or sticky, where others can only add. This is what sshd(8) asks of ~/.ssh.
func checkDir(e endpoint) error {
	dir, err := resolveSystemLinks(e)
	if err != nil {
		return err
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return dirFault(e, at, err)
		}
		if err := checkOneDir(e, at, info, at == dir); err != nil {
			return err
		}
		if at == "/" {
			break
		}
	}
	// access(2) asks for the real user, but ours is never set-uid.
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return listenFault(e, "the directory %s is not writable for us: %w", dir, err).withHint("choose a directory of your own")
	}
	return nil
}

// dirFault is for a directory that cannot be looked at.
func dirFault(e endpoint, at string, err error) *fault {
	if errors.Is(err, fs.ErrNotExist) {
		return listenFault(e, "there is no directory %s", at).withHint("make it: mkdir -p -m 700 %s", filepath.Dir(e.Path))
	}
	return listenFault(e, "%w", err).withHint("choose a directory of your own")
}

func checkOneDir(e endpoint, at string, info fs.FileInfo, last bool) error {
	uid, mode := ownerOf(info), info.Mode()
	open := isOpen(at, info)
	switch {
	case !info.IsDir():
		return listenFault(e, "%s is no directory", at).withHint("choose a directory of your own")
	case uid != 0 && uid != os.Getuid():
		return listenFault(e, "the directory %s belongs to %s, who could replace the socket", at, nameUser(uid)).
			withHint("choose a directory of your own")
	case open && mode&fs.ModeSticky == 0:
		return listenFault(e, "the directory %s is open to the writing of others (mode %04o), who could replace the socket", at, mode.Perm()).
			withHint("close it: chmod go-w %s", at)
	case open && last && !e.Shared:
		e.Shared = true
		return listenFault(e, "everybody can put files into the directory %s", at).
			withHint("choose a directory of your own, or say that you know: %s", e)
	case last && !open && isFallbackDir(e, at) && mode.Perm()&0o067 != 0: // a group that may call can enter it
		return listenFault(e, "the directory %s is open to others (mode %04o)", at, mode.Perm()).withHint("close it: chmod 700 %s", at)
	}
	return nil
}

// isOpen tells whether others can put files into the directory at. groupRunDir counts as closed
// while it is as its system has made it: root's, and open to the group daemon (1), in which are no people.
func isOpen(at string, info fs.FileInfo) bool {
	open := info.Mode().Perm() & 0o022
	if at == groupRunDir && ownerOf(info) == 0 && info.Sys().(*syscall.Stat_t).Gid == 1 {
		open &= 0o002
	}
	return open != 0
}

// isFallbackDir tells whether at, the directory of e, is that of a default endpoint of the user's,
// which is nobody else's to look into.
func isFallbackDir(e endpoint, at string) bool {
	name, ok := instanceOf(e)
	if !ok {
		name = defaultName
	}
	own, err := userEndpoint(name)
	return err == nil && filepath.Dir(own.Path) == at
}

// resolveSystemLinks returns the directory of e with the links resolved that the system itself
// has: root's in / and /var, such as macOS's /tmp and /var, or Linux's /var/run. Any other link
// is refused: whoever can change it decides where the socket is.
func resolveSystemLinks(e endpoint) (string, error) {
	at := "/"
	rest := strings.Split(strings.Trim(filepath.Dir(e.Path), "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return "", dirFault(e, next, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", dirFault(e, next, err)
		}
		if links++; ownerOf(info) != 0 || at != "/" && at != "/var" && at != "/private/var" || links > 8 {
			c := e
			if real, err := filepath.EvalSymlinks(filepath.Dir(e.Path)); err == nil {
				c.Path = filepath.Join(real, filepath.Base(e.Path))
			}
			return "", listenFault(e, "%s on its way is a symbolic link to %s, which can be changed", next, target).
				withHint("name the place itself: %s", c)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return at, nil
}

// clearPath makes room for the socket. Only a dead socket of our own is removed. We hold the
// lock, so that a live one here belongs to somebody who does not know of it.
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

// bindMoved binds in a directory that only we can enter, gives the socket its mode and moves it
// to path: a socket is its inode, and connect(2) finds it wherever that is linked. Setting the
// umask around bind would do too, but for every file that another thread creates meanwhile.
func bindMoved(path string) (*net.UnixListener, error) {
	tmp := path + movedSuffix
	dir := filepath.Dir(tmp)
	os.Remove(tmp) // of one who was killed here; we hold the lock
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

// A pathLock is the lock file next to a socket. Whoever has locked it owns the socket; the
// kernel takes the lock away from a process that dies, however it dies.
type pathLock struct {
	file *os.File
	path string
}

// A holder is what the lock file says of the process that locked it.
type holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// lockPath takes the lock of e. The file may be removed by its holder between our open and our
// lock; then what we locked is no longer at the path, and we begin again.
func lockPath(e endpoint) (*pathLock, error) {
	path := e.Path + ".lock"
	for {
		// O_NONBLOCK keeps a FIFO in its place from holding us up; a link is not followed.
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, lockFault(e, path, err)
		}
		l := &pathLock{file: os.NewFile(uintptr(fd), path), path: path}
		if err := l.check(e); err != nil {
			l.file.Close()
			return nil, err
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			err = heldBy(e, l.file, err)
			l.file.Close()
			return nil, err
		}
		if !l.current() {
			l.file.Close()
			continue
		}
		if err := l.sign(); err != nil {
			l.release()
			return nil, listenFault(e, "write the lock file: %w", err).withHint("see whether there is space left: df %s", filepath.Dir(path))
		}
		return l, nil
	}
}

// check refuses a lock file that another user could hold, or that is a second name of a file
// of ours, which sign would write over.
func (l *pathLock) check(e endpoint) error {
	info, err := l.file.Stat()
	if err != nil {
		return listenFault(e, "look at the lock file: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || int(st.Uid) != os.Getuid() || st.Nlink > 1 {
		return listenFault(e, "%s, its lock file, is not ours alone: it belongs to %s", l.path, nameUser(int(st.Uid))).
			withHint("choose a directory of your own")
	}
	return nil
}

// current tells whether the file that is locked is the one at the path.
func (l *pathLock) current() bool {
	ours, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(l.path)
	return err == nil && os.SameFile(ours, there)
}

// sign writes who holds the lock, for those who come later. One write, so that they read all of
// it or what was there before.
func (l *pathLock) sign() error {
	b, err := json.Marshal(holder{PID: os.Getpid(), Since: time.Now()})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := l.file.WriteAt(b, 0); err != nil {
		return err
	}
	return l.file.Truncate(int64(len(b)))
}

// release removes the file while it is locked, so that nobody's but ours is removed.
func (l *pathLock) release() error {
	var err error
	if l.current() {
		err = os.Remove(l.path)
	}
	return errors.Join(err, l.file.Close())
}

func lockFault(e endpoint, path string, err error) *fault {
	info, statErr := os.Lstat(path)
	switch {
	case statErr == nil && info.Mode()&fs.ModeSymlink != 0:
		return listenFault(e, "%s, its lock file, is a symbolic link", path).withHint("remove it: rm %s", path)
	case statErr == nil && info.IsDir():
		return listenFault(e, "%s, its lock file, is a directory", path).withHint("remove it: rmdir %s", path)
	case statErr == nil && ownerOf(info) != os.Getuid():
		return listenFault(e, "%s, its lock file, belongs to %s", path, nameUser(ownerOf(info))).withHint("choose a directory of your own")
	}
	return listenFault(e, "open the lock file: %w", err).withHint("choose a directory of your own")
}

// heldBy says who holds the lock. The holder writes that right after it has locked, so that what
// is read at that moment may be empty or of one who is dead.
func heldBy(e endpoint, file io.ReaderAt, err error) *fault {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return listenFault(e, "lock its lock file: %w", err).withHint("choose a directory on a local disk")
	}
	var h holder
	for range 20 {
		if h = readHolder(file); h.alive() {
			f := listenFault(e, "it is held by pid %d since %s", h.PID, h.Since.Local().Format(time.DateTime)).
				withHint("call it, stop it (kill %d), or name another endpoint with --listen", h.PID)
			f.err = err
			return f
		}
		time.Sleep(10 * time.Millisecond)
	}
	f := listenFault(e, "another process holds it").withHint("see which with: lsof %s.lock", e.Path)
	f.err = err
	return f
}

func readHolder(file io.ReaderAt) holder {
	var h holder
	b, _ := io.ReadAll(io.NewSectionReader(file, 0, 1<<10))
	if json.Unmarshal(b, &h) != nil {
		return holder{}
	}
	return h
}

func (h holder) alive() bool {
	if h.PID <= 0 {
		return false
	}
	err := unix.Kill(h.PID, 0)
	return err == nil || err == unix.EPERM
}

// dialUnix connects to the socket at e.Path and makes sure whose it is.
func dialUnix(ctx context.Context, e endpoint) (net.Conn, error) {
	if err := checkLength(e); err != nil {
		return nil, err
	}
	if err := checkSocket(e); err != nil {
		return nil, err
	}
	var d net.Dialer
	until := time.Now().Add(dialPatience)
	for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		conn, err := d.DialContext(ctx, "unix", e.Path)
		if err == nil {
			if err := checkServer(e, conn); err != nil {
				conn.Close()
				return nil, err
			}
			return conn, nil
		}
		if !passes(e, err) || time.Until(until) < delay {
			return nil, dialUnixFault(e, err)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, ctx.Err()
			}
			return nil, dialUnixFault(e, err)
		}
	}
}

// dialPatience is how long a busy daemon is asked again; --wait makes it longer.
const dialPatience = 900 * time.Millisecond

// passes tells whether the error may be gone in a moment. A full backlog is EAGAIN on Linux and
// ECONNREFUSED elsewhere, which also says that nobody listens; whoever holds the lock file is
// about to, or does. The pid decides about no more than a wait.
func passes(e endpoint, err error) bool {
	if errors.Is(err, syscall.EAGAIN) {
		return true
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	f, err := os.OpenFile(e.Path+".lock", os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return readHolder(f).alive()
}

// checkSocket looks at the file before anybody is connected to: connect(2) says ECONNREFUSED for
// a plain file on Linux, as it does for a socket that nobody serves.
func checkSocket(e endpoint) error {
	info, err := os.Stat(e.Path)
	switch {
	case err != nil:
		return dialUnixFault(e, err)
	case info.Mode()&fs.ModeSocket == 0:
		what := "a file"
		if info.IsDir() {
			what = "a directory"
		}
		return dialFault(nil, "no daemon at %s: that is %s and no socket", e, what).
			withHint("name the socket of a daemon with -e")
	case !isTrusted(e, ownerOf(info)):
		return foreign(e, "the socket", ownerOf(info))
	}
	return nil
}

// isTrusted tells the users who may serve e: root, ourselves, and the one to whom root has given the
// place. The socket of a service that runs as a user of its own is runDir/NAME/NAME.sock; runDir is
// root's, and whoever owns a directory right in it was put there by root.
func isTrusted(e endpoint, uid int) bool {
	if uid == 0 || uid == os.Getuid() {
		return true
	}
	dir, err := resolveSystemLinks(e)
	if err != nil {
		return false
	}
	run, err := resolveSystemLinks(endpoint{Path: runDir + "/"})
	if err != nil || filepath.Dir(dir) != run {
		return false
	}
	name, ok := instanceOf(e)
	above, err := os.Lstat(run)
	if !ok || filepath.Base(dir) != name || err != nil || ownerOf(above) != 0 || isOpen(run, above) {
		return false
	}
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && ownerOf(info) == uid && info.Mode().Perm()&0o022 == 0
}

// checkServer asks the kernel who listens, before a byte is sent: a file with the right owner
// may have been replaced since, and its place may be one where others can.
func checkServer(e endpoint, conn net.Conn) error {
	p, err := identifyUnix(conn)
	if err != nil {
		return faultf(codeDenied, "the system does not say who serves %s: %w", e, err).withHint("try again, or name another endpoint with -e")
	}
	if !isTrusted(e, p.UID) {
		return foreign(e, "the daemon", p.UID)
	}
	return nil
}

func foreign(e endpoint, what string, uid int) *fault {
	return faultf(codeDenied, "%s at %s belongs to %s; nothing was sent to it", what, e, nameUser(uid)).
		withHint(`start one of your own with "ipcd run", or call as that user`)
}

// dialUnixFault says what happened to the connection and what can be done about it.
func dialUnixFault(e endpoint, err error) *fault {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return dialFault(err, "no daemon at %s", e).withHint(`start one with "ipcd run", or name another endpoint with -e`)
	case errors.Is(err, fs.ErrPermission):
		at, uid := deniedAt(e.Path)
		f := dialFault(err, "no permission for %s: %s belongs to %s", e, at, nameUser(uid))
		if name := groupWithAccess(at); name != "" {
			return f.withHint("call as a member of the group %s: sudo usermod -aG %[1]s USER, and log in again", name)
		}
		return f.withHint(`call as that user, have --allow-group let a group of yours call, or start a daemon of your own with "ipcd run"`)
	case errors.Is(err, syscall.ECONNREFUSED) && !passes(e, err):
		return dialFault(err, "no daemon at %s: one has been here and is gone", e).
			withHint(`start it again with "ipcd run"; it replaces the socket that is left over`)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EAGAIN), isTimeout(err):
		return dialFault(err, "the daemon at %s is busy: it accepts no connection now", e).withHint("try again; --wait 5s does it for you")
	case errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, syscall.ENOTSOCK):
		return dialFault(err, "no daemon at %s: that is no socket for streams", e).withHint("name the socket of a daemon with -e")
	}
	return dialFault(err, "cannot reach %s: %v", e, err).withHint("name another endpoint with -e")
}

// deniedAt finds what on the way to path keeps us out: the first directory that cannot be
// searched, or the socket itself.
func deniedAt(path string) (at string, uid int) {
	at = "/"
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		info, err := os.Stat(at)
		if err != nil || unix.Access(at, unix.X_OK) != nil {
			break
		}
		uid, at = ownerOf(info), filepath.Join(at, name)
	}
	if info, err := os.Stat(at); err == nil {
		uid = ownerOf(info)
	}
	return at, uid
}

// groupWithAccess is the group whose members are let through at path; nothing where none is.
func groupWithAccess(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o010 == 0 && info.Mode().Perm()&0o060 != 0o060 {
		return ""
	}
	gid := info.Sys().(*syscall.Stat_t).Gid
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
	if err != nil || gid == 0 {
		return ""
	}
	return g.Name
}

// identifyUnix asks the kernel for the other end.
func identifyUnix(conn net.Conn) (peer, error) {
	p := peer{Transport: "unix", UID: -1, GID: -1}
	err := withFD(conn, func(fd int) error { return p.ask(fd) })
	if err != nil {
		return p, fmt.Errorf("ask who is at the other end: %w", err)
	}
	p.Known, p.User = true, userName(p.UID)
	return p, nil
}

// withFD lends f the descriptor of conn.
func withFD(conn net.Conn, f func(fd int) error) error {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no descriptor", conn)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// peerGone tells, after the end of the input, a peer that has closed from one that has only shut
// its sending side and waits for answers. POLLHUP comes when both directions are shut: always on
// Linux (poll(2)) and FreeBSD; macOS reports it for the direction asked for, hence POLLOUT.
func peerGone(conn net.Conn) bool {
	gone := false
	err := withFD(conn, func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		_, err := unix.Poll(p, 0)
		gone = err == nil && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
		return err
	})
	return err == nil && gone
}

// isTemporaryAccept tells the errors of accept(2) that pass: no descriptors or no memory just
// now, or a caller that left before it was served.
func isTemporaryAccept(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isBrokenPipe tells that the other end reads no more.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// isRefused and isPortTaken tell why a socket did not connect or bind.
func isRefused(err error) bool   { return errors.Is(err, syscall.ECONNREFUSED) }
func isPortTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// nameUser is the user for people.
func nameUser(uid int) string { return peer{Known: true, UID: uid, User: userName(uid)}.who() }

// userNames remembers names: looking one up reads a file, or asks a server on the network.
var userNames = struct {
	sync.Mutex
	of map[int]string
}{of: map[int]string{}}

const maxUserNames = 1024 // more users than that share no machine

// userName is the name of uid, or nothing.
func userName(uid int) string {
	userNames.Lock()
	name, ok := userNames.of[uid]
	userNames.Unlock()
	if ok {
		return name
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	userNames.Lock()
	defer userNames.Unlock()
	if len(userNames.of) < maxUserNames {
		userNames.of[uid] = name
	}
	return name
}
