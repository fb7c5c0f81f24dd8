package main

// This file is where the Node.js IPC channel comes in on Windows; not yet, because a child
// inherits its end in a way that os/exec cannot fill in (golang/go#53686). Its twin is
// channel_unix.go.

import (
	"net"
	"os"
	"os/exec"
)

func noChannel() *fault {
	return usagef("the Node.js IPC channel comes to Windows in a later release").
		withHint(`use a named pipe: "ipcd run", and net.connect in Node.js`)
}

func openChannel(limits, *logger) (*channel, error) { return nil, noChannel() }
func startForked(*exec.Cmd) (net.Conn, error)       { return nil, noChannel() }
func identifyChannel(net.Conn) (peer, error)        { return peer{UID: -1, GID: -1}, noChannel() }
func askToEnd(p *os.Process) error                  { return p.Kill() }
