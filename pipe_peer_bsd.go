//go:build darwin || freebsd

package main

// This file owns what the BSDs and macOS do their own way with Unix sockets: who is at the
// other end, how a socket is private from its first instant, and where the sockets of services are.

import (
	"net"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// localPeerPID is LOCAL_PEERPID of macOS, see unix(4) there. FreeBSD has LOCAL_CREDS at its
// number, which is off unless somebody sets it and then reads 0: the pid is unknown.
const localPeerPID = 2

// ask asks the kernel who connected, or, on the side that did, who called listen: LOCAL_PEERCRED in
// unix(4). The first of its groups is the effective one; of more than 16 it tells no more.
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

// bindSpace is what bindPrivate needs for names of its own behind the path of the socket.
const bindSpace = len(movedSuffix)

// bindPrivate listens at path with a socket of mode 0600. fchmod does not work on sockets here,
// so that the socket is bound where nobody else can reach it.
func bindPrivate(path string) (*net.UnixListener, error) { return bindMoved(path) }
