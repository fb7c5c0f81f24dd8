package main

// This file owns what grows: how fast one busy caller is beside more and more of something, how soon a server answers that is started
// afresh, and what the daemon holds after many calls.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// grown makes a side of each amount of something that the daemon has beside the busy caller. Their ratio is to the first.
func grown(kind kind, what string, amounts []int, add func(st *stage, n int) error) (list []side) {
	for _, n := range amounts {
		name, base, does := thousands(n)+" "+what, "", ability(0)
		if n == 1 {
			name = strings.TrimSuffix(name, "s")
		}
		if len(list) > 0 {
			base = list[0].name
		}
		if n > 1000 {
			does = huge
		}
		serve := func(st *stage) error {
			limits := []string{"limits.max_connections=20000", "limits.max_methods=20000", "limits.max_subscriptions=20000"}
			var args []string
			for _, l := range limits {
				args = append(args, "--set", l)
			}
			if err := daemon(args...)(st); err != nil {
				return err
			}
			return add(st, n)
		}
		list = append(list, side{name, kind, base, nil, does, serve, ownCaller("gob")})
	}
	return list
}

// thousands writes a number as people do.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// idleConnections have made a call, and say no more.
func idleConnections(st *stage, n int) error {
	for range n {
		conn, err := net.Dial("unix", st.socket)
		if err != nil {
			return err
		}
		st.conns = append(st.conns, conn)
		if _, err := io.WriteString(conn, `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["hello"]}`+"\n"); err != nil {
			return err
		}
		if answer, err := readLine(conn); err != nil || !strings.Contains(answer, `"result":"hello"`) {
			return fmt.Errorf("the call of an idle connection is answered with %q, %w", answer, err)
		}
	}
	return nil
}

// methods are registered by one provider, whom nobody calls.
func methods(st *stage, n int) error {
	conn, err := net.Dial("unix", st.socket)
	if err != nil {
		return err
	}
	st.conns = append(st.conns, conn)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("Far%d.Say%d", i/100, i)
	}
	return register(conn, names...)
}

// otherSubscribers have a topic each, of which nothing is published.
func otherSubscribers(st *stage, n int) error {
	for i := range n {
		conn, err := net.Dial("unix", st.socket)
		if err != nil {
			return err
		}
		st.conns = append(st.conns, conn)
		if err := subscribe(conn, bufio.NewReader(conn), fmt.Sprintf("%s.other%d", eventsTopic, i), 1); err != nil {
			return err
		}
	}
	return nil
}

// starter takes turns of starts: a server is started, asked once and killed.
func starter(protocol string, command func(st *stage) []string) func(*stage) (*exec.Cmd, error) {
	return func(st *stage) (*exec.Cmd, error) {
		return st.command(st.self, append([]string{"start", protocol, st.socket}, command(st)...)...), nil
	}
}

func rawCommand(st *stage) []string   { return []string{st.self, "serve", "raw"} }
func stockCommand(st *stage) []string { return []string{st.self, "serve", "gob"} }
func ipcdCommand(st *stage) []string {
	return []string{st.ipcd, "run", "--log-level", "error", "--listen"}
}

// A startTurner starts servers. Each has a socket of its own, since the socket of one that was killed is still there.
type startTurner struct {
	protocol, socket string
	command          []string
	last             int
}

func startProgram(args []string) error {
	return takeTurns(&startTurner{protocol: args[0], socket: args[1], command: args[2:]})
}

func (t *startTurner) turn(w workload, end time.Time) (n int, err error) {
	for texts := newTexts(w); n == 0 || time.Now().Before(end); n++ {
		if err := t.start(texts.of(0, n)); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t *startTurner) start(text string) error {
	t.last++
	socket := fmt.Sprintf("%s%d", t.socket, t.last)
	at := socket
	if filepath.Base(t.command[0]) == "ipcd" {
		at = "unix://" + socket
	}
	cmd := exec.Command(t.command[0], append(t.command[1:len(t.command):len(t.command)], at)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // see leaveWithBench
	if err != nil {
		return err
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, len(text))
	if t.protocol == "raw" {
		io.WriteString(conn, text)
		_, err = io.ReadFull(conn, answer)
	} else {
		var said string
		err = rpc.NewClient(conn).Call("Echo.Say", text, &said)
		copy(answer, said)
	}
	if err == nil && string(answer) != text {
		err = errWrong
	}
	return err
}

// afterCalls is what the daemon holds after so many calls of 64 callers.
func afterCalls(many int) func(*stage) (int, error) {
	return func(st *stage) (int, error) {
		err := daemon()(st)
		if err != nil {
			return 0, err
		}
		cmd, err := ownCaller("gob")(st)
		if err != nil {
			return 0, err
		}
		if st.caller, err = st.start(cmd); err != nil {
			return 0, err
		}
		for n := 0; n < many; {
			calls, _, err := st.turn(workload{64, 1, 16}, turnTime)
			if err != nil {
				return 0, err
			}
			n += calls
		}
		return st.started[0].resident()
	}
}
