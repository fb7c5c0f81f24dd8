package main

// This file owns what Linux does its own way with Unix sockets: who is at the other end, and how to make a socket
// that is private from its first instant. Its twin is pipe_peer_bsd.go.

import (
	"context"
	"net"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const tellsPID = true // of whoever listens: 0 is one in a pid_namespaces(7) that we do not see

const bytesToRead = unix.SIOCINQ // unix(7)

const pollShut = unix.POLLRDHUP // poll(2): the peer has shut its sending side, whatever is still to be read

// ask asks the kernel who connected or, on the side that did, who called listen: SO_PEERCRED in unix(7), and
// SO_PEERGROUPS for the groups.
func (p *peer) ask(fd int) error {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	p.UID, p.GID, p.PID = int(c.Uid), int(c.Gid), int(c.Pid)
	p.Groups = append(p.Groups[:0], strconv.Itoa(p.GID))
	for _, gid := range peerGroups(fd) {
		if id := strconv.FormatUint(uint64(gid), 10); !slices.Contains(p.Groups, id) {
			p.Groups = append(p.Groups, id)
		}
	}
	return nil
}

const usualGroups = 32 // of a user; more than that cost a second system call

// peerGroups returns the supplementary groups of the peer. Kernels before 4.13 do not have the option; there, the
// effective group is the only one that we know of.
func peerGroups(fd int) []uint32 {
	gids := make([]uint32, usualGroups)
	for range 2 {
		size := uint32(len(gids) * 4)
		_, _, err := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch err {
		case 0:
			return gids[:size/4]
		case unix.ERANGE: // size says how many bytes it takes
			gids = make([]uint32, size/4)
		default:
			return nil
		}
	}
	return nil
}

// bindSpace is how many bytes bindPrivate appends to the path of the socket for names of its own.
const bindSpace = 0

// bindPrivate listens at path with a socket of mode 0600. Linux takes the mode of the file from the socket's own
// inode, less the umask, so with fchmod before bind there is no instant at which the file is open to others;
// with chmod after it there is, and the umask is shared by all threads of the process.
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
