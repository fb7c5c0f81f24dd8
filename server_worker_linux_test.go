package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A worker ends with a daemon that is killed, and what it has started with the next daemon.
func TestKilledDaemonLeavesNothingBehind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	t.Setenv("HEIR_AT", l.Addr().String())
	dir := t.TempDir()
	file, at := filepath.Join(dir, "config.toml"), localEndpoint(t).String()
	log := &logBuffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemons' log:\n%s", log)
		}
	})
	run := func(config string) *exec.Cmd {
		must(t, os.WriteFile(file, []byte(config), 0o600))
		cmd := exec.Command("ipcd", "run", "--config", file, "--listen", at)
		cmd.Stderr = log
		must(t, cmd.Start())
		return cmd
	}
	const worker = "[[worker]]\nname = \"clumsy\"\nservices = [\"Clumsy\"]\nenvironment = [\"HEIR_AT\"]\n"
	first := run(worker + "command = [\"clumsy\", \"heir\"]\n")
	if got := printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", at, "Clumsy.Well")); got != "well\n" {
		t.Errorf("the worker says %q", got)
	}
	heir, err := l.Accept()
	must(t, err)
	defer heir.Close()
	heir.SetDeadline(time.Now().Add(testPatience))
	must(t, first.Process.Kill())
	first.Wait()
	second := run(worker + "command = [\"clumsy\", \"well\"]\n")
	defer second.Wait()
	defer second.Process.Signal(os.Interrupt)
	if got := printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", at, "Clumsy.Well")); got != "well\n" {
		t.Errorf("the worker of the next daemon says %q", got)
	}
	if _, err := heir.Read(make([]byte, 1)); isTimeout(err) {
		t.Errorf("what the first worker had started: %v; want it to be gone", err)
	}
}
