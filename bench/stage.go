package main

// This file owns the programs of a side: what is built once for all, and the processes of one round.

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed fork.js
var forkJS string

//go:embed worker.js
var workerJS string

const patience = time.Minute // with what takes milliseconds; then it is stuck

// A house has what all stages share.
type house struct {
	ctx  context.Context
	dir  string
	self string // this program
	ipcd string
	nats func() (string, error) // builds this program with NATS in it, once
}

// newHouse builds ipcd from the folder above.
func newHouse(ctx context.Context) (*house, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	h := &house{ctx: ctx, dir: dir, self: self, ipcd: filepath.Join(dir, "ipcd")}
	h.nats = sync.OnceValues(func() (string, error) {
		path := filepath.Join(dir, "nats")
		return path, h.build(path, ".", "-tags", "nats")
	})
	if err := h.build(h.ipcd, ".."); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// build builds the program in a folder.
func (h *house) build(to, folder string, flags ...string) error {
	build := exec.CommandContext(h.ctx, "go", append(append([]string{"build", "-trimpath", "-o", to}, flags...), ".")...)
	build.Dir = folder
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program in %s, which works in the folder bench alone: %w\n%s", folder, err, out)
	}
	return nil
}

func (h *house) close() { os.RemoveAll(h.dir) }

// A stage is the processes of one side in one round. Its close ends them.
type stage struct {
	*house
	dir     string
	program string // of ours
	socket  string // where the side's server listens, if it has one; of NATS its URL
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
	return &stage{house: h, dir: dir, program: h.self, socket: filepath.Join(dir, "s")}, err
}

// open starts the programs of a side.
func (h *house) open(s side) (*stage, error) {
	st, err := h.empty()
	if err == nil {
		err = s.serve(st)
	}
	if err == nil {
		st.caller, err = st.start(s.call(st))
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
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + st.dir}
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

// turn has the caller make calls for so long, and returns the seconds for each.
func (st *stage) turn(l load, d time.Duration) (float64, error) {
	// A call that is never answered would hold us for ever.
	stuck := time.AfterFunc(patience, func() { st.caller.Process.Kill() })
	defer stuck.Stop()
	if _, err := fmt.Fprintln(st.caller.in, l.callers, l.bytes, d.Nanoseconds()); err != nil {
		return 0, fmt.Errorf("the caller has ended: %w", err)
	}
	var calls, took int
	if _, err := fmt.Fscanln(st.caller.out, &calls, &took); err != nil {
		return 0, fmt.Errorf("the caller has ended, or was not answered within %v: %w", patience, err)
	}
	return float64(took) / 1e9 / float64(calls), nil
}

// nobody serves: the caller has its own server.
func nobody(*stage) error { return nil }

// stock serves with the standard library alone.
func stock(protocol string) func(*stage) error {
	return func(st *stage) error {
		_, err := st.start(st.command(st.self, "serve", protocol, st.socket))
		return err
	}
}

// daemon serves with ipcd, started with these arguments more.
func daemon(args ...string) func(*stage) error {
	return func(st *stage) error {
		// Should we be killed, the daemon ends by itself.
		args := append([]string{"run", "--listen", "unix://" + st.socket, "--log-level", "error", "--idle", "1m"}, args...)
		_, err := st.start(st.command(st.ipcd, args...))
		if err != nil {
			return err
		}
		return st.await("Echo.Say")
	}
}

// await calls a method of the daemon, as soon as the daemon and who provides the method are there.
func (st *stage) await(method string) error {
	return st.command(st.ipcd, "call", "--wait", patience.String(), "-e", "unix://"+st.socket, method, "hello").Run()
}

// provider is a daemon at which a program of Go's standard library has registered Far.Say.
func provider(st *stage) error {
	if err := daemon()(st); err != nil {
		return err
	}
	if _, err := st.start(st.command(st.self, "provide", st.socket)); err != nil {
		return err
	}
	return st.await("Far.Say")
}

// worker is a daemon with Far.Say as a worker of so many processes: a program of ours, or one in Node.js if there is a source.
func worker(instances int, program, source string) func(*stage) error {
	return func(st *stage) error {
		command, ready := []string{st.self, program}, "register"
		if source != "" {
			path := filepath.Join(st.dir, "worker.js")
			if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
				return err
			}
			command, ready = []string{"node", path}, "start"
		}
		file := filepath.Join(st.dir, "config.toml")
		text := fmt.Sprintf("[[worker]]\nname = \"far\"\ncommand = [%q, %q]\nservices = [\"Far\"]\nready = %q\ninstances = %d\n", command[0], command[1], ready, instances)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		if err := daemon("--config", file)(st); err != nil {
			return err
		}
		return st.await("Far.Say")
	}
}

// relay copies between the caller and a program that sends parts as they are: two sockets, without a protocol.
func relay(st *stage) error {
	behind := st.socket + "2"
	if _, err := st.start(st.command(st.self, "serve", "raw-parts", behind)); err != nil {
		return err
	}
	_, err := st.start(st.command(st.self, "relay", st.socket, behind))
	return err
}

// natsServer serves with NATS, which the stage's program has in it from then on.
func natsServer(st *stage) error {
	program, err := st.nats()
	if err != nil {
		return err
	}
	st.program = program
	p, err := st.start(st.command(program, "nats"))
	if err != nil {
		return err
	}
	url, err := p.out.ReadString('\n')
	st.socket = strings.TrimSpace(url)
	return err
}

// caller calls a method of what listens at the stage's socket, with the standard library's client.
func caller(protocol, method string) func(*stage) *exec.Cmd {
	return func(st *stage) *exec.Cmd { return st.command(st.program, "call", protocol, st.socket, method) }
}

// nodeCaller is a program in Node.js that takes turns as caller's does.
func nodeCaller(source string) func(*stage) *exec.Cmd {
	return func(st *stage) *exec.Cmd {
		path := filepath.Join(st.dir, "caller.js")
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			return &exec.Cmd{Err: err}
		}
		return st.command("node", path)
	}
}

// isThere reports whether what a side needs is installed. In CI it must be.
func (s side) isThere() (bool, error) {
	if s.needs == "" {
		return true, nil
	}
	_, err := exec.LookPath(s.needs)
	if err != nil && os.Getenv("IPCD_CI") != "" {
		return false, fmt.Errorf("%s: %w", s.name, err)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s is left out: %v\n", s.name, err)
	}
	return err == nil, nil
}
