package main

// This file owns the directories in which services live on Linux, see hier(7), and what only its kernel says of a process.

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func init() {
	usageOf, lifeOf, endLeft = usageInProc, lifeInProc, endLeftInProc
	figuresOfProcess = figuresInProc
	programOf = func(pid int) (string, bool, error) {
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		path, replaced := strings.CutSuffix(path, " (deleted)")
		return path, replaced, err
	}
	stderrOf = func(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/fd/2", pid)) }
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

const afterName = 3 // the number, in proc_pid_stat(5), of the first field that statOf returns

// lifeInProc implements lifeOf: the number, and starttime, field 22.
func lifeInProc(pid int) string {
	fields := statOf(pid)
	if len(fields) <= 22-afterName || bytes.ContainsAny(fields[0], "ZXx") {
		return ""
	}
	return fmt.Sprintf("%d-%s", pid, fields[22-afterName])
}

const clockTick = time.Second / 100 // of times in /proc: USER_HZ, which is 100 wherever Go runs

// usageInProc reads what proc_pid_stat(5) says: utime and stime, fields 14 and 15, and rss, field 24, in pages.
func usageInProc(pid int) (memory uint64, cpu time.Duration) {
	fields := statOf(pid)
	if len(fields) <= 24-afterName {
		return 0, 0
	}
	number := func(field int) uint64 {
		n, _ := strconv.ParseUint(string(fields[field-afterName]), 10, 64)
		return n
	}
	return number(24) * uint64(os.Getpagesize()), time.Duration(number(14)+number(15)) * clockTick
}

// figuresInProc implements figuresOfProcess.
func figuresInProc() processFigures {
	memory, _ := usageInProc(os.Getpid())
	p := processFigures{resident: int64(memory), mostOpen: mostDescriptors()}
	if dir, err := os.Open("/proc/self/fd"); err == nil {
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		p.open = len(names) - 1 // without that of dir
	}
	return p
}

// endLeftInProc implements endLeft for the processes that we may look at. They are held while they are looked at, so that none
// is mistaken for another one of the same number. What is in another pid_namespaces(7), such as that of a container, is left
// alone: its daemon has another number here, and may serve the same path elsewhere.
func endLeftInProc(endpoint string) (ended int) {
	entries, _ := os.ReadDir("/proc")
	space, _ := os.Readlink("/proc/self/ns/pid")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // a pidfd, where the kernel has them
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		at, life := environEntry(environ, markEndpoint), environEntry(environ, markProcess)
		daemon, _, _ := strings.Cut(life, "-")
		if n, wrong := strconv.Atoi(daemon); err == nil && at == endpoint && wrong == nil && lifeInProc(n) != life {
			if in, _ := os.Readlink(filepath.Join(dir, "ns/pid")); in == space && p.Kill() == nil {
				ended++
			}
		}
		p.Release()
	}
	return ended
}

// environEntry returns the value of a variable in an environment as proc_pid_environ(5) has it; empty if it is not there.
func environEntry(environ []byte, name string) string {
	for entry := range strings.SplitSeq(string(environ), "\x00") {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// watchProcess returns what tells whether a process has ended. It fails if that cannot be seen; otherwise release has to be
// called in the end.
func watchProcess(pid int) (ended func() bool, release func(), err error) {
	life := lifeInProc(pid)
	if life == "" {
		return nil, nil, os.ErrProcessDone
	}
	return func() bool { return lifeInProc(pid) != life }, func() {}, nil
}

func init() { credential = systemdCredential }

// systemdCredential returns the file of a credential: LoadCredential= in systemd.exec(5).
func systemdCredential(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}
