package main

// This file owns the memory that processes hold.

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"strings"
	"time"
)

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

// manyWorkers is how many processes of a worker share the calls of one daemon.
const manyWorkers = 50

// startWorkers starts a daemon with them, and returns their pids once each has answered calls.
func startWorkers(st *stage, program, source string) (pids []int, err error) {
	if err := worker(manyWorkers, program, source)(st); err != nil {
		return nil, err
	}
	client, err := jsonrpc.Dial("unix", st.socket)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for end := time.Now().Add(patience); len(pids) < manyWorkers; {
		if time.Now().After(end) {
			return nil, fmt.Errorf("%d of %d processes of a worker are ready after %v", len(pids), manyWorkers, patience)
		}
		var status struct {
			Workers []struct {
				Processes []struct {
					PID   int
					State string
				}
			}
		}
		if err := client.Call("Ipcd.Status", struct{}{}, &status); err != nil {
			return nil, err
		}
		pids = nil
		for _, p := range status.Workers[0].Processes {
			if p.State == "ready" {
				pids = append(pids, p.PID)
			}
		}
	}
	for range 2 * manyWorkers { // they take turns
		var answer string
		if err := client.Call("Far.Say", "hello", &answer); err != nil {
			return nil, err
		}
		if answer != "hello" {
			return nil, errWrong
		}
	}
	return pids, nil
}

// workersMemory is what the daemon has more of for each process of a worker.
func workersMemory(st *stage) (int, error) {
	before, err := daemonMemory(st)
	if err != nil {
		return 0, err
	}
	st.end()
	if _, err := startWorkers(st, "loop", ""); err != nil {
		return 0, err
	}
	after, err := st.started[0].resident()
	return (after - before) / manyWorkers, err
}

// workerMemory is what a process of a worker has itself, ours of that name, or one in Node.js.
func workerMemory(program, source string) func(*stage) (int, error) {
	return func(st *stage) (int, error) {
		pids, err := startWorkers(st, program, source)
		if err != nil {
			return 0, err
		}
		sum := 0
		for _, pid := range pids {
			n, err := residentOf(pid)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum / len(pids), nil
	}
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

// A talk is a connection, and what comes over it.
type talk struct {
	net.Conn
	in *bufio.Reader
}

// connect connects to the stage's daemon, until the stage ends.
func (st *stage) connect() (*talk, error) {
	conn, err := net.Dial("unix", st.socket)
	if err != nil {
		return nil, err
	}
	st.conns = append(st.conns, conn)
	return &talk{conn, bufio.NewReaderSize(conn, socketRoom)}, nil
}

// subscriberMemory is what the daemon has more of for each connection that has subscribed to a topic, and got an event of it.
func subscriberMemory(st *stage) (int, error) {
	const many = 500
	before, err := daemonMemory(st)
	if err != nil {
		return 0, err
	}
	for range many {
		t, err := st.connect()
		if err != nil {
			return 0, err
		}
		if err := t.getEvent(1); err != nil {
			return 0, err
		}
	}
	after, err := st.started[0].resident()
	return (after - before) / many, err
}

// subscriptionMemory is what the daemon has more of for each further topic that a connection has subscribed to, by a call of its own.
func subscriptionMemory(st *stage) (int, error) {
	if err := daemon()(st); err != nil {
		return 0, err
	}
	return furtherMemory(st, (*talk).getEvent)
}

// streamMemory is what the daemon has more of for each further stream of a connection that is open: one part of it has come.
func streamMemory(st *stage) (int, error) {
	if err := worker(1, "stream", "")(st); err != nil {
		return 0, err
	}
	return furtherMemory(st, (*talk).getPart)
}

// furtherMemory has connections make calls that do not end, and divides what the daemon has more of after the first call of each.
func furtherMemory(st *stage, call func(t *talk, id int) error) (int, error) {
	const conns, each = 10, 100
	var talks []*talk
	for range conns {
		t, err := st.connect()
		if err != nil {
			return 0, err
		}
		if err := call(t, 0); err != nil {
			return 0, err
		}
		talks = append(talks, t)
	}
	before, err := st.started[0].resident()
	if err != nil {
		return 0, err
	}
	for _, t := range talks {
		for id := 1; id <= each; id++ {
			if err := call(t, id); err != nil {
				return 0, err
			}
		}
	}
	after, err := st.started[0].resident()
	return (after - before) / (conns * each), err
}

// getEvent subscribes to a topic that nobody else has, by the call with that id, publishes to it and gets that.
func (t *talk) getEvent(id int) error {
	topic := "bench." + rand.Text()
	if err := subscribe(t, t.in, topic, id); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(t, `{"jsonrpc":"2.0","method":"Ipcd.Publish","params":[{"topic":%q,"data":"hello"}]}`, topic); err != nil {
		return err
	}
	event, err := nextEvent(t.in)
	if err == nil && string(event) != `"hello"` {
		err = errWrong
	}
	return err
}

// getPart asks for two parts by the call with that id, and gets one. The window has room for no more, and the other one waits in the
// daemon.
func (t *talk) getPart(id int) error {
	if _, err := fmt.Fprintf(t, `{"jsonrpc":"2.0","id":%d,"method":"Far.Say","params":[[2,100]],"parts":%d,"window":1}`, id, id); err != nil {
		return err
	}
	line, err := t.in.ReadString('\n')
	if err == nil && !strings.Contains(line, "$/progress") {
		err = fmt.Errorf("instead of a part there comes %.200s", line)
	}
	return err
}
