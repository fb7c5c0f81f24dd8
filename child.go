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

// startChild starts a program with a channel. Its output is ours; it has no input.
func startChild(command []string, l limits, log *logger) (*forked, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	raw, err := startForked(cmd)
	var known *fault
	switch {
	case errors.As(err, &known):
		return nil, known
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return nil, dialFault(err, "cannot start %s: there is no such program", command[0]).withHint("look at the spelling, or give the whole path")
	case err != nil:
		return nil, dialFault(err, "cannot start %s: %v", command[0], err).withHint("see whether it is a program; a script needs the one that runs it: node %s", command[0])
	}
	f := &forked{channel: newChannel(raw, l, log), cmd: cmd, gone: make(chan struct{})}
	go func() {
		cmd.Wait() // how it ended is in ProcessState
		close(f.gone)
	}()
	return f, nil
}

// dialFork starts the program of a fork: endpoint, for a client.
func dialFork(_ context.Context, e endpoint, o dialOptions) (net.Conn, error) {
	f, err := startChild(e.Command, o.limits, o.log)
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
