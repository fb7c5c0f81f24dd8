//go:build unix

package main

// This file owns what Unix systems have in common: users and groups, signals, the directories of services and
// users, and the kinds of error. Its twin is sys_windows.go.

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownPeer describes this process as the kernel would, without the pid.
func ownPeer() (peer, error) {
	return peer{Transport: "unix", Known: true, UID: os.Getuid(), GID: os.Getgid(), User: userName(os.Getuid())}, nil
}

// processorTime returns how long this process has computed.
func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// isMaster reports whether p is root. Root can do anything here whatever we say, so a refusal would protect
// nothing.
func isMaster(p peer) bool { return p.Known && p.UID == 0 }

// areMaster reports whether we are root.
func areMaster() bool { return os.Getuid() == 0 }

// findGroup looks up a group by its name, or by its number, for which there need be no name.
func findGroup(name string) (group, error) {
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return group{name: name, id: strconv.FormatUint(gid, 10)}, nil
	}
	g, err := groupNamed(name)
	switch {
	case err == nil:
		return group{name: name, id: strconv.Itoa(g.gid)}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return group{}, usagef("%w", err).withHint("see what the system says: getent group %s", shorten(name, 100))
	}
	f := usagef("there is no group %q", shorten(name, 100)).withHint("make one: sudo groupadd %s-users", defaultName) // not the service's own name: DynamicUser= refuses a name that is taken
	f.err = fs.ErrNotExist
	return group{}, f
}

// stopSignals ask a daemon to stop. SIGHUP is one of them, so that a closed terminal leaves no socket behind;
// not under nohup(1), which ignores it: signal.Notify would undo that. What the program before us has ignored for us is not meant.
var stopSignals = func() []os.Signal {
	s := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if held, _ := heldHangups(); held || !signal.Ignored(syscall.SIGHUP) {
		s = append(s, syscall.SIGHUP)
	}
	return s
}()

// reloadSignals ask a daemon to read its settings again, if it has a file of them or a service manager.
var reloadSignals = []os.Signal{syscall.SIGHUP}

// hasTerminal reports whether the process has a terminal, and that is still open.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// signalPatience is how long the system lets a process go on after a signal; 0 means for as long as it likes.
func signalPatience(os.Signal) time.Duration { return 0 }

// mostDescriptors is how many descriptors this process may have open, or 0 if the system does not say.
func mostDescriptors() int {
	var most unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &most) != nil || uint64(most.Cur) > math.MaxInt32 {
		return 0
	}
	return int(most.Cur)
}

// crashAsSignal makes a crash end the program by SIGABRT. Go's own way is exit code 2, which means bad usage
// here, and after which a service manager is told not to restart.
func crashAsSignal() { debug.SetTraceback("crash") }

// detach gives cmd a session of its own, out of reach of Ctrl-C and of a terminal that closes. Of what this process has
// inherited cmd gets nothing: it would keep the lock or the pipe of a script for as long as it lives.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	open, _ := os.ReadDir("/dev/fd")
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// A processGroup is a program with all that it starts and that does not leave it.
type processGroup struct{ id int }

// newGroup returns a group that start gives its program.
func newGroup() (*processGroup, error) { return &processGroup{}, nil }

// start starts cmd in the group, which Ctrl-C on our terminal does not reach.
func (g *processGroup) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return err
	}
	g.id = cmd.Process.Pid
	return nil
}

func (g *processGroup) askToEnd() { g.signal(syscall.SIGTERM) }
func (g *processGroup) kill()     { g.signal(syscall.SIGKILL) }

func (g *processGroup) signal(sig syscall.Signal) {
	if g.id > 0 { // 0 is our own group, and there is no program that has started
		syscall.Kill(-g.id, sig)
	}
}

// plainEnviron are the variables of ours that every program gets.
var plainEnviron = []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}

// diesWithUs has a program be killed when the thread ends that starts it; nil where the kernel has no such thing.
var diesWithUs func(*syscall.SysProcAttr)

// runningAs returns how to start a program that ends with us, as another user unless the name is empty, and what that
// changes in its environment.
func runningAs(name string) (attr *syscall.SysProcAttr, env []string, err error) {
	attr = &syscall.SysProcAttr{}
	if diesWithUs != nil {
		diesWithUs(attr)
	}
	if name == "" {
		return attr, nil, nil
	}
	u, err := findUser(name)
	if errors.Is(err, fs.ErrNotExist) {
		f := faultf(codeApplication, "there is no user named %s", name).withHint("see what the system says: getent passwd %s", name)
		f.err = err
		return nil, nil, f
	}
	if err != nil {
		return nil, nil, faultf(codeApplication, "the user %s cannot be found: %w", name, err).withHint("see what the system says: getent passwd %s", name)
	}
	groups, err := groupsOf(u.name)
	if err != nil {
		return nil, nil, faultf(codeApplication, "the groups of %s cannot be found: %w", name, err).withHint("see what the system says: id -G %s", name)
	}
	if u.uid != os.Getuid() {
		attr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid), Groups: groups}
	}
	return attr, []string{"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name}, nil
}

// serviceEndpoint is the default endpoint of a service of the system.
func serviceEndpoint(name string) endpoint {
	return endpoint{Scheme: "unix", Path: filepath.Join(runDir, name, name+".sock"), Proto: protoAuto}
}

// defaultEndpoint is that of the user's own daemon.
func defaultEndpoint() (endpoint, error) { return userEndpoint(defaultName) }

// userEndpoint is the default endpoint of a service of the user's own. $XDG_RUNTIME_DIR is theirs alone (XDG Base
// Directory Specification) and goes when they log out. Without it the place is fixed as well: daemon and
// client have to agree on it, and $TMPDIR may differ between the two.
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

// instanceOf returns the name of the service whose default endpoint e could be.
func instanceOf(e endpoint) (name string, ok bool) {
	name, ok = strings.CutSuffix(filepath.Base(e.Path), ".sock")
	return name, ok && isInstanceName(name)
}

// userConfigFile is where the configuration of a user's daemon is looked for; empty if the user has no such
// place.
func userConfigFile(name string) string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, name, "config.toml")
}

// serviceConfigFile is where the configuration of a service of the system is looked for.
func serviceConfigFile(name string) string { return filepath.Join(etcDir, name, "config.toml") }

// stateDir is where the daemon keeps what must outlive it: where systemd says (systemd.exec(5)),
// $XDG_STATE_HOME, or the system's place for root. The directory need not exist.
func stateDir() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		dir, _, _ = strings.Cut(dir, ":")
		return dir, nil
	}
	if os.Getuid() == 0 && !filepath.IsAbs(os.Getenv("XDG_STATE_HOME")) {
		return filepath.Join(varDir, "ipcd"), nil
	}
	return userStateDir("ipcd")
}

// stateHint says how to have another state directory.
const stateHint = "name a directory that you can write to: export XDG_STATE_HOME=DIR"

// userStateDir is the state directory of a service of the user's own. What systemd says to that is not asked: a command is not told,
// and its place for it has changed.
func userStateDir(name string) (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", faultf(codeApplication, "there is no place for what ipcd keeps, its log and tokens: $HOME is not set").withHint("set HOME, or %s", stateHint)
	}
	if !filepath.IsAbs(home) { // it would be another place in each directory
		return "", faultf(codeApplication, "there is no place for what ipcd keeps, its log and tokens: $HOME is %q, which is no absolute path", shorten(home, 100)).
			withHint("set HOME to one, or %s", stateHint)
	}
	return filepath.Join(home, ".local", "state", name), nil
}

// serviceStateDir is the state directory of a service of the system: where its manager says, which is the same place, unless
// somebody has changed what install has written.
func serviceStateDir(name string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, nil
	}
	return filepath.Join(varDir, name), nil
}

func init() {
	tryWrite = func(fd uintptr, b []byte) (n int, err error) {
		for n < len(b) && err == nil {
			var part int
			part, err = syscall.Write(int(fd), b[n:])
			n += max(part, 0)
			if err == syscall.EINTR {
				err = nil
			}
		}
		if err == syscall.EAGAIN {
			err = nil
		}
		return n, err
	}
}

// isInUse reports whether an error says that somebody else has a file open, who does not share it. Here all share.
func isInUse(error) bool { return false }

// isFull reports whether an error says that a disk, or the share of it that we may have, is full.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// isTemporaryAccept reports whether an error of accept(2) will pass: no descriptors or memory just now, or a
// caller that left before it was served.
func isTemporaryAccept(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// endBySignal ends the program as sig would have done: a shell looks at that, and stops a script at Ctrl-C.
func endBySignal(sig os.Signal) {
	signal.Reset(sig)
	syscall.Kill(os.Getpid(), sig.(syscall.Signal))
	select {} // until it has come
}

// outputClosed reports whether nobody reads what is written to f any more, without writing to it. A pipe says that by
// POLLERR on Linux and by POLLHUP elsewhere, a terminal by POLLHUP.
func outputClosed(f *os.File) bool {
	p := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

var errOutputClosed error = syscall.EPIPE

// isBrokenPipe reports whether the other end has stopped reading.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// isRefused reports whether nobody listens where we connected to.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// isPortTaken reports whether somebody else listens on the port that we wanted.
func isPortTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// nameUser names a user for people.
func nameUser(uid int) string { return peer{Known: true, UID: uid, User: userName(uid)}.who() }

// userNames caches names: to look one up takes reading a file, or asking a program, which may ask a server on the network.
var userNames = struct {
	sync.Mutex
	of     map[int]string
	asking sync.Mutex // the program: one at a time, since strangers can cause it
}{of: map[int]string{}}

const maxUserNames = 1024 // no machine is shared by more users

// userName returns the name of uid, or nothing, also while the system is asked for another name.
func userName(uid int) string {
	userNames.Lock()
	name, ok := userNames.of[uid]
	full := len(userNames.of) >= maxUserNames
	userNames.Unlock()
	if ok {
		return name
	}
	if name = nameInFile(uid); name == "" {
		if full || !userNames.asking.TryLock() {
			return ""
		}
		defer userNames.asking.Unlock()
		var err error
		if name, err = lookUpName(uid); err != nil {
			return ""
		}
	}
	userNames.Lock()
	defer userNames.Unlock()
	if len(userNames.of) < maxUserNames {
		userNames.of[uid] = name
	}
	return name
}

// wakeHint says what to do about a process that does not answer.
func wakeHint(pid int) string {
	return fmt.Sprintf("if it was stopped by a signal, kill -CONT %[1]d lets it go on; kill -KILL %[1]d ends it, with the calls that it has", pid)
}

// endLine is what one types to end a process.
func endLine(pid int) string { return fmt.Sprintf("kill %d", pid) }

// removeLine is what one types to remove a file.
func removeLine(path string) string { return "rm " + joinWords([]string{path}) }

// makeDirLine is what one types to make a directory that is one's own.
func makeDirLine(path string) string { return "mkdir -m 700 " + joinWords([]string{path}) }

// executableHint says what makes an executable of a script.
const executableHint = "chmod +x makes one of a script"
