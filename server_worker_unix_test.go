//go:build unix

package main

import (
	"strings"
	"syscall"
	"testing"
)

// A worker that was stopped by a signal answers nobody, and can be replaced.
func TestWorkerThatIsSuspended(t *testing.T) {
	s, _ := hire(t, oneHand+"stop_timeout = \"10ms\"\n")
	pid := answered[int](t, s, "Hand.Pid", nil)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() { // the signal may be on its way
		t.Fatalf("the worker has not stopped: %v, %v", status, err)
	}
	conn := rawDial(t, s.endpoints[0])
	defer conn.Close()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Hand.Pid","timeout":20}`)
	if answer := readLine(t, conn); !strings.Contains(answer, `"code":-32004`) {
		t.Errorf("its caller is answered with %s", answer)
	}
	answered[WorkerStatus](t, s, "Ipcd.WorkerRestart", "hand")
	if got := answered[int](t, s, "Hand.Pid", nil); got == pid {
		t.Error("the process that was stopped answers")
	}
}
