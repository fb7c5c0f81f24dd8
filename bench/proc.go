package main

// This file owns what the kernel says of processes: their memory, and their processor time. Only Linux has the files; elsewhere both are
// left out.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// resident returns the bytes of a process that are in memory.
func (p *process) resident() (int, error) { return residentOf(p.Process.Pid) }

// residentOf is resident by the pid. See proc_pid_status(5).
func residentOf(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
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

// cpu returns the processor time that those who answer have taken: what the stage has started, but for the caller, and what they have
// started. known is false where nobody says, or the caller is all there is.
func (st *stage) cpu() (d time.Duration, known bool) {
	for _, p := range st.started {
		if p != st.caller {
			d += cpuOf(strconv.Itoa(p.Process.Pid))
		}
	}
	return d, d > 0
}

// cpuOf adds up the threads of a process and of its descendants, to the nanosecond: the sums that the kernel has itself are told in
// hundredths of a second. A thread that has ended is missing; programs of ours keep theirs. See the kernel's sched-stats.rst.
func cpuOf(pid string) (d time.Duration) {
	tasks, _ := filepath.Glob("/proc/" + pid + "/task/*")
	for _, task := range tasks {
		text, _ := os.ReadFile(task + "/schedstat")
		if own, _, ok := strings.Cut(string(text), " "); ok {
			n, _ := strconv.ParseInt(own, 10, 64)
			d += time.Duration(n)
		}
		children, _ := os.ReadFile(task + "/children")
		for _, child := range strings.Fields(string(children)) {
			d += cpuOf(child)
		}
	}
	return d
}
