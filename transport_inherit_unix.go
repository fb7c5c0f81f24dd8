//go:build unix

package main

// This file owns the sockets that are open when a program begins: those of a service manager, in the way of
// sd_listen_fds(3), and those that a program leaves to the next one in its process. It is the only file that imports
// go-systemd's activation.

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

func init() { inheritListeners, becomeProgram = inheritSockets, execProgram }

// bequestVariable is to a program what $LISTEN_FDS is to a service. It names each descriptor: those of sd_listen_fds(3) are
// numbered from 3, where the Go runtime has its own by the time at which one program leaves them to the next.
const bequestVariable = ownPrefix + "LEFT"

// A bequest is what a program leaves to the next one in its process, as JSON.
type bequest struct {
	PID     int          `json:"pid"`     // of the process
	Before  int          `json:"before"`  // how many programs this process was
	Program []byte       `json:"program"` // a path, which need not be UTF-8
	Sockets []leftSocket `json:"sockets"`
}

// A leftSocket is a socket that listens.
type leftSocket struct {
	FD       int    `json:"fd"`
	Managers bool   `json:"managers,omitempty"` // see inheritance
	At       string `json:"at"`
	Lock     int    `json:"lock,omitempty"` // the descriptor; 0 if there is none
	All      bool   `json:"all,omitempty"`  // to whom it is open
	Group    string `json:"group,omitempty"`
	GID      string `json:"gid,omitempty"`
}

// inheritSockets takes the sockets that $LISTEN_FDS or bequestVariable announces, and removes both from the environment,
// which our children inherit. Those of a service manager remain the manager's: closing ours neither removes them nor refuses a
// caller, who waits for the next daemon instead.
func inheritSockets() (list []inheritance, p past, err error) {
	for _, f := range activation.Files(true) {
		l, wrong := listenerOf(f)
		f.Close() // l has a duplicate
		if wrong == nil {
			list = append(list, inheritance{Listener: l, managers: true})
		} else if err == nil {
			err = wrong
		}
	}
	text, left := os.LookupEnv(bequestVariable)
	os.Unsetenv(bequestVariable)
	var b bequest
	if left && json.Unmarshal([]byte(text), &b) == nil && b.PID == os.Getpid() { // otherwise it is meant for another
		p = past{programs: b.Before, program: string(b.Program)}
		for _, s := range b.Sockets {
			l, wrong := s.take()
			list = append(list, l)
			if err == nil {
				err = wrong
			}
		}
	}
	if err != nil {
		for _, l := range list {
			l.abandon()
		}
		return nil, p, err
	}
	return list, p, nil
}

// take returns the listener that s is. Even if there is an error, the result has what is to be closed.
func (s leftSocket) take() (l inheritance, err error) {
	unix.CloseOnExec(s.FD)
	f := os.NewFile(uintptr(s.FD), s.At)
	defer f.Close()
	l.managers, l.to = s.Managers, audience{all: s.All, group: group{name: s.Group, id: s.GID}}
	if s.Lock > 0 {
		unix.CloseOnExec(s.Lock)
		l.lock = os.NewFile(uintptr(s.Lock), s.At+".lock")
	}
	if l.at, err = parseEndpoint(s.At); err != nil {
		return l, err
	}
	l.Listener, err = listenerOf(f)
	return l, err
}

// abandon closes all that l has.
func (l inheritance) abandon() {
	if l.Listener != nil {
		l.Listener.Close()
	}
	if l.lock != nil {
		l.lock.Close()
	}
}

// execProgram is becomeProgram. The descriptors are duplicates: the listeners of this program have theirs in the poller, and
// close them. No program that another goroutine starts gets one.
func execProgram(p past, args []string, leave []inheritance) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	b := bequest{PID: os.Getpid(), Before: p.programs + 1, Program: []byte(p.program)}
	var err error
	for _, l := range leave {
		var s leftSocket
		if s, err = leftOf(l); err != nil {
			break
		}
		b.Sockets = append(b.Sockets, s)
	}
	if err == nil && args != nil {
		err = os.NewSyscallError("execve", syscall.Exec(p.program, args, append(os.Environ(), b.variable())))
	}
	for _, s := range b.Sockets {
		unix.CloseOnExec(s.FD)
		if s.Lock > 0 {
			unix.CloseOnExec(s.Lock)
		}
	}
	for _, l := range leave { // the duplicates stay
		l.abandon()
	}
	b.Before = p.programs // it is still this one
	name, value, _ := strings.Cut(b.variable(), "=")
	os.Setenv(name, value)
	return err
}

func (b bequest) variable() string {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return bequestVariable + "=" + string(text)
}

// leftOf makes what the next program gets of l.
func leftOf(l inheritance) (s leftSocket, err error) {
	s = leftSocket{Managers: l.managers, At: l.at.String(), All: l.to.all, Group: l.to.group.name, GID: l.to.group.id}
	if s.FD, err = duplicate(l.Listener); err != nil || l.lock == nil {
		return s, err
	}
	if s.Lock, err = duplicate(l.lock); err != nil {
		unix.Close(s.FD)
	}
	return s, err
}

// duplicate returns another descriptor of conn, which is not closed by execve(2).
func duplicate(conn any) (fd int, err error) {
	wrong := withFD(conn, func(old int) error {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD, 3)
		return os.NewSyscallError("dup", err)
	})
	return fd, wrong
}

// withFD calls f with the descriptor of conn.
func withFD(conn any, f func(fd int) error) error {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = over.NetConn()
	}
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

// listenerOf returns the listener that f is, having made sure that it is one for streams.
func listenerOf(f *os.File) (net.Listener, error) {
	socketType, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || socketType != unix.SOCK_STREAM {
		return nil, usagef("the descriptor %s that the service manager passes is not a stream socket", f.Name()).
			withHint("write ListenStream= in the socket unit")
	}
	listens, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listens == 0 {
		return nil, usagef("the socket %s that the service manager passes does not listen: it is one connection", f.Name()).
			withHint("write Accept=no in the socket unit")
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, usagef("the socket %s that the service manager passes cannot be used: %w", f.Name(), err).
			withHint("write ListenStream= with a path or a loopback address in the socket unit")
	}
	return l, nil
}

// An inheritedUnix is a socket in the file system that belongs to the service manager.
type inheritedUnix struct{ *net.UnixListener }

// openTo returns an error if some of the audience cannot connect: the socket is not ours to open to them.
func (l inheritedUnix) openTo(to audience) error {
	if to.isNobody() {
		return nil
	}
	info, err := os.Stat(l.Addr().String())
	if err != nil {
		return err
	}
	gid := strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Gid), 10)
	mode := info.Mode().Perm()
	switch {
	case mode&0o006 == 0o006, !to.all && gid == to.group.id && mode&0o060 == 0o060:
		return nil
	case to.all:
		return faultf(codeDenied, "the socket belongs to the service manager, which keeps those out whom a [[rule]] lets in").
			withHint("ipcd install --force")
	}
	return faultf(codeDenied, "the socket belongs to the service manager, which keeps the members of the group %s out", to.group.name).
		withHint("ipcd install --allow-group %s --force", to.group.name)
}

// inheritsUnix returns l, which is a service manager's, if it is the socket of e. The manager may know its directory by another name.
func inheritsUnix(e endpoint, l inheritance) (net.Listener, error) {
	addr, ok := l.Addr().(*net.UnixAddr)
	if !ok || !filepath.IsAbs(addr.Name) || filepath.Base(addr.Name) != filepath.Base(e.Path) {
		return nil, nil
	}
	theirs, err := os.Stat(filepath.Dir(addr.Name))
	if err != nil {
		return nil, nil
	}
	ours, err := os.Stat(filepath.Dir(e.Path))
	if err != nil || !os.SameFile(theirs, ours) {
		return nil, nil
	}
	return inheritedUnix{l.Listener.(*net.UnixListener)}, nil
}
