package main

// This file owns the directories in which services live on Linux, see hier(7), and what only its kernel says of a process.

import (
	"bytes"
	"fmt"
	"os"
)

const (
	runDir      = "/run"     // of the sockets of services
	varDir      = "/var/lib" // of the state of services
	groupRunDir = ""         // a runDir that a group can write to: there is none
	etcDir      = "/etc"     // of the configuration of services
)

// isZombie reports whether a process has ended and its parent has not taken note: its state in proc_pid_stat(5), which follows
// the name in brackets.
func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.HasPrefix(b[bytes.LastIndexByte(b, ')')+1:], []byte(" Z"))
}
