//go:build unix

package main

// This file is what Unix systems have in common: signals, the directories of services and users, users and
// groups, and the kinds of error. Its twin is sys_windows.go.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ownPeer is this process as the kernel describes it, without its pid.
func ownPeer() (peer, error) {
	return peer{Transport: "unix", Known: true, UID: os.Getuid(), GID: os.Getgid(), User: userName(os.Getuid())}, nil
}

// isMaster reports whether p is root, who may do anything here whatever we say: to refuse root would
// protect nothing.
func isMaster(p peer) bool { return p.Known && p.UID == 0 }

// findGroup looks a group up by its name, or by its number, which need not have a name.
func findGroup(name string) (group, error) {
	if g, err := user.LookupGroup(name); err == nil {
		return group{name: name, id: g.Gid}, nil
	}
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return group{name: name, id: strconv.FormatUint(gid, 10)}, nil
	}
	return group{}, usagef("there is no group %q", shorten(name, 100)).withHint("make one: sudo groupadd %s-users", defaultName) // a group of the service's name would be in the way of DynamicUser=
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

// crashAsSignal has a crash of this program end it by SIGABRT. Go's own end is exit code 2, which means bad
// usage with us, and from which a service manager is told not to start a service again.
func crashAsSignal() { debug.SetTraceback("crash") }

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
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

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
