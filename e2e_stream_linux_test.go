package main

// This file owns what streams take of a daemon that is a process of its own. Only Linux says what a process has had at most.

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mostGrown is how much memory streams may add to what a daemon has when it begins, which is a matter of what is linked into it: with
// its heap doubled before it is collected, and twice as much under the race detector, a few windows.
const mostGrown = 32 << 20

// As many bytes as one likes pass through a daemon that stays small, as its provider waits for credit. With IPCD_LARGE it is a gigabyte.
func TestStreamThroughASmallDaemon(t *testing.T) {
	size := 64 << 20
	if os.Getenv("IPCD_LARGE") != "" {
		size = 1 << 30
	}
	d := startTestDaemon(t, time.Second, 100)
	before := peakOf(t, d.cmd.Process.Pid)
	f := &streaming{t: t, caller: newLineEnd(noDeadline(rawDial(t, d.endpoint))), provider: newLineEnd(noDeadline(rawDial(t, d.endpoint)))}
	f.begin("")
	const each = 64 << 10
	text := `"` + strings.Repeat("a", each) + `"`
	window := defaultLimits().StreamWindow
	go func() {
		for sent, taken := 0, 0; sent < size/each; sent++ {
			for (sent+1-taken)*len(text) > window {
				line, err := f.provider.lines.ReadString('\n')
				var m struct{ Params struct{ Parts int } }
				if err != nil || json.Unmarshal([]byte(line), &m) != nil {
					t.Errorf("there comes %q, %v; want credit", line, err)
					return
				}
				taken = m.Params.Parts
			}
			f.parts(text)
		}
		send(t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
	}()
	got := 0
	for line := ""; !strings.Contains(line, `"result":true`); line = f.next(f.caller) {
		if got += len(line); t.Failed() {
			return
		}
	}
	if got < size {
		t.Errorf("%d bytes have come; want %d", got, size)
	}
	if most := peakOf(t, d.cmd.Process.Pid); most > before+mostGrown {
		t.Errorf("the daemon has had %d bytes, and %d before; want no more than %d besides", most, before, mostGrown)
	}
}

// peakOf returns the most bytes that a process has had in memory: proc_pid_status(5).
func peakOf(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("%s has no VmHWM", status)
	}
	kib, err := strconv.Atoi(string(m[1]))
	must(t, err)
	return kib << 10
}
