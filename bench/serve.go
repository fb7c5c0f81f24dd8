package main

// This file owns how a stage's server and its caller are started: what the table of sides names.

import (
	_ "embed"
	"errors"
	"fmt"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed turns.js
var turnsJS string

//go:embed fork.js
var forkJS string

//go:embed net.js
var netJS string

//go:embed http.js
var httpJS string

//go:embed node-ipc.js
var nodeIPCJS string

//go:embed worker.js
var workerJS string

const loopback = "127.0.0.1:0" // a port that is free

// nobody serves: the caller has its own server.
func nobody(*stage) error { return nil }

// stock serves with the standard library alone.
func stock(protocol string) func(*stage) error {
	return func(st *stage) error { return st.startServer(st.command(st.self, "serve", protocol, st.socket)) }
}

func stockTCP(protocol string) func(*stage) error {
	return func(st *stage) error { return st.startServer(st.command(st.self, "serve", protocol, loopback)) }
}

// module serves with what only the program with the tag modules has.
func module(protocol string) func(*stage) error {
	return func(st *stage) error { return st.serveModule("serve", protocol, st.socket) }
}

func moduleTCP(protocol string) func(*stage) error {
	return func(st *stage) error { return st.serveModule("serve", protocol, loopback) }
}

func (st *stage) serveModule(args ...string) error {
	program, err := st.modules()
	if err != nil {
		return err
	}
	return st.startServer(st.command(program, args...))
}

// natsServer serves events.
func natsServer(st *stage) error { return st.serveModule("nats") }

// natsAnswerer answers the requests of a server of NATS.
func natsAnswerer(st *stage) error {
	if err := natsServer(st); err != nil {
		return err
	}
	return st.serveModule("nats-answer", st.server)
}

// godbusServer is a bus of D-Bus of one's own, with a service of ours in Go. Its limits are those that dbus-daemon has for the bus of a session.
func godbusServer(st *stage) error {
	if err := st.startBus(); err != nil {
		return err
	}
	return st.serveModule("godbus", st.server)
}

// sdBusServer is the same with a service in C.
func sdBusServer(st *stage) error {
	program, err := st.sdbus()
	if err == nil {
		err = st.startBus()
	}
	if err != nil {
		return err
	}
	return st.startServer(st.command(program, "serve", st.server))
}

func (st *stage) startBus() error {
	bus := st.command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+st.socket)
	bus.Stderr = nil // root is told each time that it may not raise a limit
	return st.startServer(bus)
}

// ping serves with a program in C.
func ping(st *stage) error {
	program, err := st.ping()
	if err != nil {
		return err
	}
	return st.startServer(st.command(program, "serve", st.socket))
}

// node serves with a program in Node.js.
func node(source string) func(*stage) error {
	return func(st *stage) error {
		cmd, err := st.nodeCommand("server.js", source, "serve", st.socket)
		if err != nil {
			return err
		}
		return st.startServer(cmd)
	}
}

// daemon serves with ipcd, started with these arguments more.
func daemon(args ...string) func(*stage) error {
	return func(st *stage) error {
		// Should we be killed, the daemon ends by itself. Its limits on memory would refuse some of 64 callers with 1 MiB each.
		args := append([]string{"run", "--listen", "unix://" + st.socket, "--log-level", "error", "--idle", "1m",
			"--set", "limits.user_memory=512MiB", "--set", "limits.memory=1GiB"}, args...)
		if _, err := st.start(st.command(st.ipcd, args...)); err != nil {
			return err
		}
		return st.await("Echo.Say")
	}
}

// daemonTCP is daemon over TCP.
func daemonTCP(st *stage) error {
	const scheme = "tcp://"
	if err := daemon("--listen", scheme+loopback+"?auth=none")(st); err != nil {
		return err
	}
	client, err := jsonrpc.Dial("unix", st.socket)
	if err != nil {
		return err
	}
	defer client.Close()
	var status struct{ Endpoints []string }
	if err := client.Call("Ipcd.Status", struct{}{}, &status); err != nil {
		return err
	}
	for _, e := range status.Endpoints {
		if address, is := strings.CutPrefix(e, scheme); is {
			st.server, _, _ = strings.Cut(address, "?")
			return nil
		}
	}
	return errors.New("the daemon does not listen at TCP")
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

// caller calls a method of the stage's server with the standard library.
func caller(protocol, method string) func(*stage) (*exec.Cmd, error) {
	return func(st *stage) (*exec.Cmd, error) {
		return st.command(st.self, "call", protocol, st.server, method), nil
	}
}

// moduleCaller calls with what only the program with the tag modules has.
func moduleCaller(protocol, method string) func(*stage) (*exec.Cmd, error) {
	return func(st *stage) (*exec.Cmd, error) {
		program, err := st.modules()
		return st.command(program, "call", protocol, st.server, method), err
	}
}

// ownCaller calls Echo.Say with ipcd's own client.
func ownCaller(protocol string) func(*stage) (*exec.Cmd, error) {
	return func(st *stage) (*exec.Cmd, error) {
		scheme := "tcp://"
		if networkOf(st.server) == "unix" {
			scheme = "unix://"
		}
		return st.command(st.ipcd, "take-turns", scheme+st.server+"?proto="+protocol), nil
	}
}

// programCaller is a program in C that takes turns.
func programCaller(build func(*stage) (string, error)) func(*stage) (*exec.Cmd, error) {
	return func(st *stage) (*exec.Cmd, error) {
		program, err := build(st)
		return st.command(program, "call", st.server), err
	}
}

func pingProgram(st *stage) (string, error)  { return st.ping() }
func sdBusProgram(st *stage) (string, error) { return st.sdbus() }

// nodeCaller is a program in Node.js that takes turns.
func nodeCaller(source string) func(*stage) (*exec.Cmd, error) {
	return func(st *stage) (*exec.Cmd, error) { return st.nodeCommand("caller.js", source, "call", st.server) }
}

// nodeCommand is a program in Node.js, with turns.js beside it.
func (st *stage) nodeCommand(name, source string, args ...string) (*exec.Cmd, error) {
	for file, text := range map[string]string{name: source, "turns.js": turnsJS} {
		if err := os.WriteFile(filepath.Join(st.dir, file), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return st.command("node", append([]string{filepath.Join(st.dir, name)}, args...)...), nil
}
