//go:build darwin || freebsd

package main

// This file owns what the BSDs and macOS do their own way with Unix sockets: who is at the
// other end, how a socket is private from its first instant, and where the sockets of services are.

import (
	"net"

	"golang.org/x/sys/unix"
)

const (
	runDir = "/var/run"       // where the sockets of services are, see hier(7)
	varDir = "/var/db"        // where services keep their state
	etcDir = "/usr/local/etc" // where services that did not come with the system are configured
)

// localPeerPID is LOCAL_PEERPID of macOS, see unix(4) there. FreeBSD has LOCAL_CREDS at its
// number, which is off unless somebody sets it and then reads 0: the pid is unknown.
const localPeerPID = 2

// peerCredentials asks the kernel who connected, or, on the side that did, who called listen:
// LOCAL_PEERCRED in unix(4). The first of its groups is the effective one.
func peerCredentials(fd int) (uid, gid, pid int, err error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return -1, -1, 0, err
	}
	uid, gid = int(c.Uid), -1
	if c.Ngroups > 0 {
		gid = int(c.Groups[0])
	}
	pid, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, localPeerPID)
	if err != nil {
		pid = 0 // macOS says ENOTCONN once the peer has gone
	}
	return uid, gid, pid, nil
}

// bindSpace is what bindPrivate needs for names of its own behind the path of the socket.
const bindSpace = len(movedSuffix)

// bindPrivate listens at path with a socket of mode 0600. fchmod does not work on sockets here,
// so that the socket is bound where nobody else can reach it.
func bindPrivate(path string) (*net.UnixListener, error) { return bindMoved(path) }
