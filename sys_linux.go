package main

// This file owns the directories in which services live on Linux, see hier(7), and what only its kernel says of a process.

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func init() {
	usageOf, endMarked = usageInProc, endMarkedInProc
	diesWithUs = func(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL } // PR_SET_PDEATHSIG(2const)
}

const (
	runDir      = "/run"     // of the sockets of services
	varDir      = "/var/lib" // of the state of services
	groupRunDir = ""         // a runDir that a group can write to: there is none
	etcDir      = "/etc"     // of the configuration of services
)

// statOf returns the fields of proc_pid_stat(5) from the third on, the state; they follow the name in brackets. There are none
// if the process is gone.
func statOf(pid int) [][]byte {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
}

// isZombie reports whether a process has ended and its parent has not taken note.
func isZombie(pid int) bool {
	stat := statOf(pid)
	return len(stat) > 0 && string(stat[0]) == "Z"
}

const clockTick = time.Second / 100 // of times in /proc: USER_HZ, which is 100 wherever Go runs

// usageInProc reads what proc_pid_stat(5) says: utime and stime, fields 14 and 15, and rss, field 24, in pages.
func usageInProc(pid int) (memory uint64, cpu time.Duration) {
	fields := statOf(pid)
	const afterName = 3 // the number of the first field behind the name
	if len(fields) <= 24-afterName {
		return 0, 0
	}
	number := func(field int) uint64 {
		n, _ := strconv.ParseUint(string(fields[field-afterName]), 10, 64)
		return n
	}
	return number(24) * uint64(os.Getpagesize()), time.Duration(number(14)+number(15)) * clockTick
}

// endMarkedInProc kills the processes that we may look at whose environment at their start had the entry. The processes are
// held while they are looked at, so that none is mistaken for another one of the same number.
func endMarkedInProc(entry string) (ended int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // a pidfd, where the kernel has them
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+entry+"\x00")) && p.Kill() == nil {
			ended++
		}
		p.Release()
	}
	return ended
}
