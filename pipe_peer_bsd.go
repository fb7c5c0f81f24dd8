//go:build darwin || freebsd

package main

// This file owns what FreeBSD and macOS do their own way with Unix sockets: who is at the other end, and how to
// make a socket that is private from its first instant. Its twin is pipe_peer_linux.go.

import (
	"net"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// localPeerPID is LOCAL_PEERPID of macOS, see unix(4) there. On FreeBSD the number is that of LOCAL_CREDS, which is
// off unless somebody sets it, and so reads 0: the pid is unknown.
const localPeerPID = 2

const tellsPID = false // FreeBSD does not

const bytesToRead = 0x4004667f // FIONREAD of sys/filio.h

const pollShut = 0 // nothing tells

// ask asks the kernel who connected or, on the side that did, who called listen: LOCAL_PEERCRED in unix(4). The
// first group is the effective one; there are no more than 16.
func (p *peer) ask(fd int) error {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return err
	}
	p.UID, p.Groups = int(c.Uid), p.Groups[:0]
	for _, gid := range c.Groups[:min(max(int(c.Ngroups), 0), len(c.Groups))] {
		if id := strconv.FormatUint(uint64(gid), 10); !slices.Contains(p.Groups, id) { // FreeBSD has the first one twice
			p.Groups = append(p.Groups, id)
		}
	}
	if len(p.Groups) > 0 {
		p.GID = int(c.Groups[0])
	}
	p.PID, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, localPeerPID)
	if err != nil {
		p.PID = 0 // macOS says ENOTCONN once the peer has gone
	}
	return nil
}

// bindSpace is how many bytes bindPrivate appends to the path of the socket for names of its own.
const bindSpace = len(movedSuffix)

// bindPrivate listens at path with a socket of mode 0600. fchmod does not work on sockets here, so the socket is
// bound where nobody else can reach it.
func bindPrivate(path string) (*net.UnixListener, error) { return bindMoved(path) }
