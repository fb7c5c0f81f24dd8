//go:build unix

package main

// This file is the Node.js IPC channel on Unix: a pair of sockets, of which the child inherits
// one as a descriptor that NODE_CHANNEL_FD names. Its twin is child_channel_windows.go.

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const forkedFD = 3 // the first of exec.Cmd's ExtraFiles, and what Node's own fork gives

// openChannel opens the channel that this process has inherited from its parent.
func openChannel(l limits, log *logger) (*channel, error) {
	fd, err := givenChannel()
	if err != nil {
		return nil, err
	}
	if err := checkChannel(fd); err != nil {
		return nil, noChannel(fd, err)
	}
	conn, err := connOf(fd, "channel")
	if err != nil {
		return nil, faultf(codeConnection, "take over the IPC channel: %w", err)
	}
	return newChannel(conn, l, log), nil
}

// checkChannel makes sure that fd is a connected socket of the kind that Node creates; anything else
// is an unrelated file that has the same number.
func checkChannel(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	name, err := unix.Getsockname(fd)
	if _, local := name.(*unix.SockaddrUnix); err != nil || !local || kind != unix.SOCK_STREAM {
		return errors.New("it is another kind of socket")
	}
	_, err = unix.Getpeername(fd)
	return err
}

// connOf makes a connection from fd, which it closes.
func connOf(fd int, name string) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return net.FileConn(f) // a duplicate that is closed on exec and does not block
}

// startForked starts cmd, which the spec has made, with a channel and returns our end.
func startForked(cmd *exec.Cmd, s *childSpec) (net.Conn, error) {
	fds, err := socketPair()
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "channel")
	defer theirs.Close()
	ours, err := connOf(fds[0], "channel")
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(cmd.Env, ownFD+"="+strconv.Itoa(forkedFD))
	start := cmd.Start
	if s.group != nil {
		start = func() error { return s.group.start(cmd) }
	}
	if err := start(); err != nil {
		ours.Close()
		return nil, err
	}
	return &programConn{Conn: ours}, nil
}

// socketPair returns a pair of sockets that other children do not inherit.
func socketPair() ([2]int, error) {
	syscall.ForkLock.RLock() // there is no SOCK_CLOEXEC on macOS
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fds, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	return fds, nil
}

// identifyChannel asks the kernel who created the channel.
func identifyChannel(conn net.Conn) (peer, error) {
	p, err := identifyUnix(conn)
	p.Transport = "fork"
	return p, err
}

// askToEnd sends a child the signal to exit.
func askToEnd(p *os.Process) error { return p.Signal(unix.SIGTERM) }
