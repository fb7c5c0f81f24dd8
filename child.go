package main

// This file owns children with an IPC channel: the programs that we fork.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const childGrace = 2 * time.Second // from the disconnect to SIGTERM, and from that to SIGKILL

func init() {
	addTransport("fork", transport{
		lacking:  noServer,
		dial:     dialFork,
		identify: func(conn net.Conn, _ time.Duration) (peer, error) { return identifyChannel(conn) },
	})
}

func noServer(e endpoint) *fault {
	return usagef("cannot listen on %s: it is for a client, which starts the program", e).withHint("ipcd call -e %q METHOD", e)
}

// A forked is a child with the channel to it.
type forked struct {
	*channel
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// A childSpec says which program to start with a channel, and how. It has no input.
type childSpec struct {
	command []string // the program and its arguments
	env     []string // KEY=VALUE, besides our environment or instead of what that says
	dir     string   // where it works; empty is where we do
	stdout  *os.File // nil is nowhere
	stderr  *os.File
	limits  limits // of the channel
	log     *logger
	exact   bool // see channel
}

// cmd is the program with its environment, which names the descriptor that startForked gives it.
func (s *childSpec) cmd() *exec.Cmd {
	cmd := exec.Command(s.command[0], s.command[1:]...)
	if s.dir != "" && cmd.Err == nil {
		cmd.Path, cmd.Err = filepath.Abs(cmd.Path) // found from where we are, not from there
	}
	cmd.Dir = s.dir
	cmd.Env = append(environWithout(channelFD, channelMode), s.env...)
	cmd.Env = append(cmd.Env, channelFD+"="+strconv.Itoa(forkedFD), channelMode+"=json")
	if s.stdout != nil { // in an interface a nil file would be something
		cmd.Stdout = s.stdout
	}
	if s.stderr != nil {
		cmd.Stderr = s.stderr
	}
	return cmd
}

// startChild starts a program with a channel.
func startChild(s childSpec) (*forked, error) {
	cmd := s.cmd()
	raw, err := startForked(cmd)
	var known *fault
	switch {
	case errors.As(err, &known):
		return nil, known
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return nil, dialFault(err, "cannot start %s: there is no such program", s.command[0]).withHint("look at the spelling, or give the whole path")
	case err != nil:
		return nil, dialFault(err, "cannot start %s: %v", s.command[0], err).withHint("see whether it is a program; a script needs the one that runs it: node %s", s.command[0])
	}
	f := &forked{
		channel: startChannel(&channel{raw: raw, limits: s.limits, log: s.log, exact: s.exact}),
		cmd:     cmd, gone: make(chan struct{}),
	}
	go func() {
		cmd.Wait() // how it ended is in ProcessState
		close(f.gone)
	}()
	return f, nil
}

// dialFork starts the program of a fork: endpoint, for a client.
func dialFork(_ context.Context, e endpoint, o dialOptions) (net.Conn, error) {
	f, err := startChild(childSpec{
		command: e.Command, stdout: os.Stdout, stderr: os.Stderr, limits: o.limits, log: o.log,
		exact: true, // the caller would wait in vain for an answer that was dropped
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Read tells at the end how the child ended: whoever still waits for an answer wants to know.
func (f *forked) Read(b []byte) (int, error) {
	n, err := f.channel.Read(b)
	if err != io.EOF {
		return n, err
	}
	select {
	case <-f.gone:
	case <-time.After(childGrace):
		return n, faultf(codeConnection, "%s has disconnected before it answered", f.name()).withHint("it may lack process.on('message')")
	}
	return n, faultf(codeConnection, "%s %s before it answered", f.name(), f.how()).withHint("what it wrote is above")
}

// Close disconnects, which ends a Node.js program that waits for messages alone. Others are
// asked to end, and then made to.
func (f *forked) Close() error {
	err := f.channel.Close()
	for _, end := range []func() error{nil, func() error { return askToEnd(f.cmd.Process) }, f.cmd.Process.Kill} {
		if end != nil {
			end() // its error is that the child has ended just now
		}
		late := time.NewTimer(childGrace)
		select {
		case <-f.gone:
			late.Stop()
			return err
		case <-late.C:
		}
	}
	<-f.gone
	return err
}

// name is the child for people.
func (f *forked) name() string { return joinWords(f.cmd.Args) }

// how says how the child ended, which it has.
func (f *forked) how() string {
	if code := f.cmd.ProcessState.ExitCode(); code >= 0 {
		return fmt.Sprintf("ended with exit code %d", code)
	}
	return "was ended by a " + f.cmd.ProcessState.String() // "signal: killed"
}
