package main

// This file owns children with an IPC channel: the programs that we fork.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
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

// forked is a running child and the channel to it.
type forked struct {
	*channel
	cmd   *exec.Cmd
	group *processGroup // see childSpec
	grace time.Duration
	gone  chan struct{} // closed when it has exited
}

// A childSpec says which program to start with a channel, and how. Its standard input is empty.
type childSpec struct {
	command []string // the program and its arguments
	only    []string // KEY=VALUE, the environment in place of childEnviron, unless it is nil
	env     []string // KEY=VALUE, in addition to that and overriding it
	dir     string   // its working directory; empty is ours
	stdout  *os.File // nil discards it
	stderr  *os.File
	limits  limits                   // of the channel
	grace   time.Duration            // from the disconnect to SIGTERM, and from that to SIGKILL; 0 for childGrace
	group   *processGroup            // which ends with it; nil if what it starts is not our concern
	either  bool                     // programs other than Node.js are given a channel, too, where that takes another one
	attr    *syscall.SysProcAttr     // nil for the usual
	start   func(func() error) error // calls its argument, which starts the program, in a thread that may do so; nil for any
	log     *logger
}

// cmd returns the command, whose environment names the descriptor that startForked will pass.
func (s *childSpec) cmd() *exec.Cmd {
	cmd := exec.Command(s.command[0], s.command[1:]...)
	if s.dir != "" && cmd.Err == nil {
		cmd.Path, cmd.Err = filepath.Abs(cmd.Path) // relative to our directory, not to that one
	}
	cmd.Dir = s.dir
	cmd.SysProcAttr = s.attr
	if cmd.Env = slices.Clone(s.only); cmd.Env == nil {
		cmd.Env = childEnviron(channelVariables...)
	}
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Env = append(cmd.Env, channelFD+"="+strconv.Itoa(forkedFD), channelMode+"=json")
	if s.stdout != nil { // a nil *os.File in an interface is not nil
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
	var raw net.Conn
	start := func() (err error) { raw, err = startForked(cmd, &s); return err }
	err := error(nil)
	if s.start != nil {
		err = s.start(start)
	} else {
		err = start()
	}
	var known *fault
	switch {
	case errors.As(err, &known):
		return nil, known
	case err != nil:
		return nil, notStarted(s.command[0], err)
	}
	f := &forked{channel: newChannel(raw, s.limits, s.log), cmd: cmd, group: s.group, grace: cmp.Or(s.grace, childGrace), gone: make(chan struct{})}
	go func() {
		cmd.Wait() // ProcessState has the result
		if s.group != nil {
			s.group.kill() // what it has left behind
		}
		raw.SetReadDeadline(programOver)
		close(f.gone)
	}()
	return f, nil
}

// notStarted says why a program is not started. err is that of exec.LookPath, or of starting it.
func notStarted(program string, err error) *fault {
	var search *exec.Error
	if _, again := exec.LookPath(program); errors.As(err, &search) || errors.As(again, &search) { // which says more than execve(2)
		err = search.Err
	}
	f := dialFault(err, "cannot start %s: %v", program, withoutPath(err)).withHint("look at the spelling, or give the whole path")
	var way *fs.PathError
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		f.Text, f.err = fmt.Sprintf("cannot start %s: there is no such program", program), fs.ErrNotExist // on Windows it is another
	case search != nil && errors.Is(err, fs.ErrPermission) && !errors.As(err, &way): // the file is there, and lacks the mode
		f.Text = fmt.Sprintf("cannot start %s: it is not executable", program)
		return f.withHint("chmod +x %s", joinWords([]string{program}))
	case search == nil:
		return f.withHint("see whether it is a program; a script needs the one that runs it: node %s", joinWords([]string{program}))
	}
	return f
}

// A programConn is our end of the channel of a program. Another process may hold the other end for longer than the program
// lives: once that has gone, which the deadline programOver says, what is in the channel is still read, and then the stream
// ends.
type programConn struct {
	net.Conn
	left int // bytes, once it is gone

	mu         sync.Mutex
	over, gone bool // the program has ended, and Read knows it
}

// programOver is the read deadline by which a programConn hears that its program has ended, through whatever it is wrapped in.
var programOver = time.Unix(1, 0)

func (c *programConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = c.over || t.Equal(programOver)
	if c.over && !c.gone { // no other deadline gets in between
		t = programOver
	}
	return c.Conn.SetReadDeadline(t)
}

// isGone reports whether the program has ended, and sees to it that what is left can be read.
func (c *programConn) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over && !c.gone {
		var err error
		if c.left, err = unread(c); err != nil {
			c.left = math.MaxInt // nobody holds the other end; the stream ends by itself
		}
		c.gone = true
		c.Conn.SetReadDeadline(time.Time{})
	}
	return c.gone
}

// SyscallConn is for writing without blocking.
func (c *programConn) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}

func (c *programConn) Read(b []byte) (int, error) {
	if !c.isGone() {
		n, err := c.Conn.Read(b)
		if !isTimeout(err) || !c.isGone() {
			return n, err
		}
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// dialFork starts the program of a fork: endpoint, for a client, whose own stdout is for results alone.
func dialFork(_ context.Context, e endpoint, o dialOptions) (net.Conn, error) {
	f, err := startChild(childSpec{command: e.Command, stdout: os.Stderr, stderr: os.Stderr, limits: o.limits, log: o.log})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Read reports at the end of the stream how the child ended, for those who still wait for an answer.
func (f *forked) Read(b []byte) (int, error) {
	n, err := f.channel.Read(b)
	if err == io.EOF {
		err = f.parted(nil)
	}
	return n, err
}

// Write reports how the child ended if it is not there to read.
func (f *forked) Write(b []byte) (int, error) {
	n, err := f.channel.Write(b)
	if err != nil && !isTimeout(err) && !errors.Is(err, net.ErrClosed) {
		err = f.parted(err)
	}
	return n, err
}

// parted says how the child has left the channel, which cause has shown.
func (f *forked) parted(cause error) *fault {
	said := faultf(codeConnection, "%s has disconnected before it answered", f.name()).withHint("it may lack process.on('message')")
	select {
	case <-f.gone:
		said = faultf(codeConnection, "%s %s before it answered", f.name(), f.how()).withHint("what it wrote is above")
	case <-time.After(f.grace):
	}
	said.err = cause
	return said
}

// Close disconnects, which ends a Node.js program that only waits for messages. Any other is
// asked to exit, and then killed.
func (f *forked) Close() error {
	err := f.channel.Close()
	for _, end := range []func(){nil, func() { askToEnd(f.cmd.Process) }, f.kill} {
		if end != nil {
			end()
		}
		late := time.NewTimer(f.grace)
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

// kill ends the child at once, and its group.
func (f *forked) kill() {
	f.cmd.Process.Kill() // an error means that it has just exited
	if f.group != nil {
		f.group.kill()
	}
}

// name returns the command of the child, for messages.
func (f *forked) name() string { return joinWords(f.cmd.Args) }

// exitCode is the exit code of the child, or what a shell makes of the signal that ended it. Call it after gone is closed.
func (f *forked) exitCode() int { return programExitCode(f.cmd.ProcessState) }

// how says how the child ended. Call it after gone is closed.
func (f *forked) how() string {
	if code := f.cmd.ProcessState.ExitCode(); code >= 0 {
		return fmt.Sprintf("ended with exit code %d", code)
	}
	return "was ended by a " + f.cmd.ProcessState.String() // "signal: killed"
}
