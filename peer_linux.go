package main

// This file owns what Linux does its own way with Unix sockets: who is at the other end, how
// a socket is private from its first instant, and where the sockets of services are.

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	runDir = "/run"     // where the sockets of services are, see hier(7)
	varDir = "/var/lib" // where services keep their state
	etcDir = "/etc"     // where services are configured
)

// peerCredentials asks the kernel who connected, or, on the side that did, who called listen:
// SO_PEERCRED in unix(7).
func peerCredentials(fd int) (uid, gid, pid int, err error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return -1, -1, 0, err
	}
	return int(c.Uid), int(c.Gid), int(c.Pid), nil
}

// bindSpace is what bindPrivate needs for names of its own behind the path of the socket.
const bindSpace = 0

// bindPrivate listens at path with a socket of mode 0600. Linux takes the mode of the file from
// the socket's own inode, less the umask, so fchmod before bind leaves no instant in which the
// file is wider; chmod after it does, and the umask belongs to all threads of the process.
func bindPrivate(path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	return u, nil
}
