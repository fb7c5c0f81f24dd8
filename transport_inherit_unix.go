//go:build unix

package main

// This file owns the sockets that a service manager has opened for us, in the way of sd_listen_fds(3): systemd,
// and others that do as it does. It is the only one that imports go-systemd's activation.

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

func init() { inheritListeners = inheritSockets }

// inheritSockets takes the sockets that $LISTEN_FDS announces, and removes it from the environment, which our
// children inherit. The sockets remain the manager's: closing ours neither removes them nor refuses a
// caller, who waits for the next daemon instead.
func inheritSockets() ([]net.Listener, error) {
	var list []net.Listener
	var first error
	for _, f := range activation.Files(true) {
		l, err := listenerOf(f)
		f.Close() // l has a duplicate
		if err == nil {
			list = append(list, l)
		} else if first == nil {
			first = err
		}
	}
	if first != nil {
		for _, l := range list {
			l.Close()
		}
		return nil, first
	}
	return list, nil
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

// inheritsUnix returns l if it is the socket of e. The manager may know its directory by another name.
func inheritsUnix(e endpoint, l net.Listener) (net.Listener, error) {
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
	return inheritedUnix{l.(*net.UnixListener)}, nil
}
