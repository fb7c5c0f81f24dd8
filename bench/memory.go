package main

// This file owns the memory that processes hold.

import (
	"fmt"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"regexp"
	"strconv"
)

// resident returns the bytes of a process that are in memory. Only Linux has the file that says so; see proc_pid_status(5).
func (p *process) resident() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q has no VmRSS", text)
	}
	kib, err := strconv.Atoi(string(m[1]))
	return kib << 10, err
}

func daemonMemory(st *stage) (int, error) {
	if err := daemon()(st); err != nil {
		return 0, err
	}
	return st.started[0].resident()
}

func providerMemory(st *stage) (int, error) {
	if err := provider(st); err != nil {
		return 0, err
	}
	return st.started[1].resident()
}

// registrationMemory registers many providers, each of which has answered a call, and divides what that took.
func registrationMemory(st *stage) (int, error) {
	const many = 500
	before, err := daemonMemory(st)
	if err != nil {
		return 0, err
	}
	client, err := jsonrpc.Dial("unix", st.socket)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	server := rpc.NewServer()
	for i := range many {
		service := fmt.Sprintf("Far%d", i)
		server.RegisterName(service, Echo{})
		conn, err := net.Dial("unix", st.socket)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		if err := register(conn, service+".Say"); err != nil {
			return 0, err
		}
		go server.ServeCodec(jsonrpc.NewServerCodec(conn))
		var answer string
		if err := client.Call(service+".Say", service, &answer); err != nil {
			return 0, err
		}
		if answer != service {
			return 0, errWrong
		}
	}
	after, err := st.started[0].resident()
	return (after - before) / many, err
}
