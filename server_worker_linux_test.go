package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startWithClumsy starts a daemon at an endpoint whose worker is clumsy in this way, with the variable in its environment.
func startWithClumsy(t *testing.T, at, way, variable string) *exec.Cmd {
	t.Helper()
	file, log := filepath.Join(t.TempDir(), "config.toml"), &logBuffer{}
	must(t, os.WriteFile(file, fmt.Appendf(nil, "[limits]\ndrain = \"1h\"\n[[worker]]\nname = \"clumsy\"\nservices = [\"Clumsy\"]\nenvironment = [%q]\ncommand = [\"clumsy\", %q]\n", variable, way), 0o600))
	cmd := exec.Command("ipcd", "run", "--config", file, "--listen", at)
	cmd.Stderr = log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the log of a daemon:\n%s", log)
		}
	})
	if got := printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", at, "Clumsy.Well")); got != "well\n" {
		t.Fatalf("the worker says %q", got)
	}
	return cmd
}

// A worker ends with a daemon that is killed, and what it has started with the next daemon.
func TestKilledDaemonLeavesNothingBehind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	t.Setenv("HEIR_AT", l.Addr().String())
	at := localEndpoint(t).String()
	first := startWithClumsy(t, at, "heir", "HEIR_AT")
	heir, err := l.Accept()
	must(t, err)
	defer heir.Close()
	heir.SetDeadline(time.Now().Add(testPatience))
	must(t, first.Process.Kill())
	must(t, unix.Waitid(unix.P_PID, first.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)) // it stays in the list of processes
	second := startWithClumsy(t, at, "well", "HEIR_AT")
	if _, err := heir.Read(make([]byte, 1)); isTimeout(err) {
		t.Errorf("what the first worker had started: %v; want it to be gone", err)
	}
	must(t, second.Process.Signal(os.Interrupt))
	must(t, second.Wait())
}

// A daemon that still finishes calls keeps its workers while the next one starts in its place.
func TestNextDaemonLeavesTheWorkersOfOneThatDrains(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	t.Setenv("HELD_AT", l.Addr().String())
	e := localEndpoint(t)
	first := startWithClumsy(t, e.String(), "held", "HELD_AT")
	c := dialOurs(protoJSON)(t, e)
	defer c.close()
	done := make(chan error, 1)
	var answer string
	go func() { done <- ask(c, "Clumsy.Do", nil, &answer) }()
	held, err := l.Accept()
	must(t, err)
	defer held.Close()
	must(t, first.Process.Signal(os.Interrupt))
	waitFor(t, func() error {
		if _, err := os.Lstat(e.Path + ".lock"); err == nil {
			return errors.New("the lock is still there")
		}
		return nil
	})
	second := startWithClumsy(t, e.String(), "well", "HELD_AT")
	must(t, held.Close())
	if err := receive(t, done); err != nil || answer != "well" {
		t.Errorf("the call in flight = %q, %v; want its answer", answer, err)
	}
	c.close()
	must(t, first.Wait())
	must(t, second.Process.Signal(os.Interrupt))
	must(t, second.Wait())
}
