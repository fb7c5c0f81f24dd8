package main

// This file owns the processes of one side in one round.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const patience = time.Minute // with what takes milliseconds; then it is stuck

// A stage is the processes of one side in one round. Its close ends them.
type stage struct {
	*house
	dir     string
	socket  string // where a server can listen
	server  string // what its caller connects to, if it has one: that socket, or a port, a URL, the address of a bus
	started []*process
	conns   []net.Conn // of this program's own
	caller  *process
}

// A process runs until its stage closes.
type process struct {
	*exec.Cmd
	in  io.WriteCloser // see leaveWithBench
	out *bufio.Reader
}

func (h *house) empty() (*stage, error) {
	dir, err := os.MkdirTemp(h.dir, "")
	socket := filepath.Join(dir, "s")
	return &stage{house: h, dir: dir, socket: socket, server: socket}, err
}

// open starts the programs of a side.
func (h *house) open(s side) (*stage, error) {
	st, err := h.empty()
	if err == nil {
		err = s.serve(st)
	}
	if err == nil {
		var cmd *exec.Cmd
		if cmd, err = s.call(st); err == nil {
			st.caller, err = st.start(cmd)
		}
	}
	if err != nil {
		st.close()
		return nil, err
	}
	return st, nil
}

func (st *stage) close() {
	st.end()
	os.RemoveAll(st.dir)
}

// end ends callers before what they call, and lets a daemon end what it has started.
func (st *stage) end() {
	for _, c := range st.conns {
		c.Close()
	}
	st.conns = nil
	for _, p := range slices.Backward(st.started) {
		if p.Process.Signal(os.Interrupt) != nil {
			p.Process.Kill()
		}
		stuck := time.AfterFunc(patience, func() { p.Process.Kill() })
		p.Wait()
		stuck.Stop()
	}
	st.started = nil
}

// command is a program that sees nothing of the user's settings.
func (st *stage) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(st.ctx, name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + st.dir, "NODE_PATH=" + nodeModules()}
	cmd.Dir = st.dir
	cmd.Stderr = os.Stderr
	return cmd
}

func (st *stage) start(cmd *exec.Cmd) (*process, error) {
	p := &process{Cmd: cmd}
	out, err := cmd.StdoutPipe()
	if err == nil {
		p.out = bufio.NewReader(out)
		p.in, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	st.started = append(st.started, p)
	return p, nil
}

// startServer starts a program that prints what callers connect to, once they can.
func (st *stage) startServer(cmd *exec.Cmd) error {
	p, err := st.start(cmd)
	if err != nil {
		return err
	}
	stuck := time.AfterFunc(patience, func() { p.Process.Kill() })
	defer stuck.Stop()
	server, err := p.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%q has ended, or did not listen within %v: %w", cmd.Args, patience, err)
	}
	st.server = strings.TrimSpace(server)
	return nil
}

// turn has the caller make calls for so long, and returns their number, and the seconds that they took.
func (st *stage) turn(w workload, d time.Duration) (calls int, seconds float64, err error) {
	// A call that is never answered would hold us for ever.
	stuck := time.AfterFunc(patience+d, func() { st.caller.Process.Kill() })
	defer stuck.Stop()
	if _, err := fmt.Fprintln(st.caller.in, w.callers, w.conns, w.bytes, d.Nanoseconds()); err != nil {
		return 0, 0, fmt.Errorf("the caller has ended: %w", err)
	}
	var took int
	if _, err := fmt.Fscanln(st.caller.out, &calls, &took); err != nil {
		return 0, 0, fmt.Errorf("the caller has ended, or was not answered within %v: %w", patience+d, err)
	}
	return calls, float64(took) / 1e9, nil
}
