package main

// This file owns how much memory the system lets the daemon have: the limit of its control group, which MemoryMax= of a unit sets,
// and containers have. See "Memory Interface Files" of Documentation/admin-guide/cgroup-v2.rst of the kernel.

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func init() {
	systemMemory = func() int64 {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return 0
		}
		return groupMemory("/sys/fs/cgroup", string(own))
	}
}

// groupMemory returns the least memory.max of a control group and those above it, 0 if there is none. own is the text of
// /proc/PID/cgroup: of version 2 the line that begins with 0::.
func groupMemory(root, own string) (least int64) {
	for line := range strings.Lines(own) {
		group, unified := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !unified {
			continue
		}
		for at := filepath.Clean("/" + group); ; at = filepath.Dir(at) {
			text, err := os.ReadFile(filepath.Join(root, at, "memory.max"))
			most, wrong := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // or "max"
			if err == nil && wrong == nil && most > 0 && (least == 0 || most < least) {
				least = most
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}
