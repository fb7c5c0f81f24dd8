package main

// This file owns what has to be known of the machine and of the run to make sense of figures.

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// An origin is where figures come from.
type origin struct {
	Time    string `json:"time"`    // when it began, RFC 3339
	Commit  string `json:"commit"`  // of ipcd; ends with + if files were changed since
	Command string `json:"command"` // that measured, in bench/
	Note    string `json:"note,omitempty"`
	CPUs    int    `json:"cpus"`
	CPU     string `json:"cpu,omitempty"`
	Kernel  string `json:"kernel"`
	System  string `json:"system"` // as Go names it
	Go      string `json:"go"`
	Node    string `json:"node,omitempty"`
	Before  string `json:"loadBefore,omitempty"` // how many wanted to run, a minute's average: none of it is ours
	After   string `json:"loadAfter,omitempty"`  // the same in the end, with ours
}

func newOrigin(note string) origin {
	o := origin{
		Time: time.Now().Format(time.RFC3339), Note: note, Command: thisCommand(), CPUs: runtime.NumCPU(), CPU: cpuModel(),
		Kernel: kernel(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Node: said("node", "--version"), Before: loadAverage(),
	}
	o.Commit = said("git", "rev-parse", "--short", "HEAD")
	if said("git", "status", "--porcelain", "--untracked-files=no") != "" {
		o.Commit += "+"
	}
	return o
}

// kernel is the system and its version, without what whoever built it calls the build.
func kernel() string {
	name, _, _ := strings.Cut(said("uname", "-sr"), "-")
	return name
}

// said returns what a program prints, or nothing.
func said(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(out))
}

// thisCommand is what measured, and not what became of it.
func thisCommand() string {
	words := []string{"go run ."}
	flag.Visit(func(f *flag.Flag) {
		switch value := f.Value.String(); {
		case f.Name == "write" || f.Name == "note" || f.Name == "json":
		case regexp.MustCompile(`^[\w.]+$`).MatchString(value):
			words = append(words, "--"+f.Name+" "+value)
		default:
			words = append(words, fmt.Sprintf("--%s '%s'", f.Name, value))
		}
	})
	return strings.Join(words, " ")
}

// cpuModel is what the processor calls itself, where Linux or macOS says.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`).FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return said("sysctl", "-n", "machdep.cpu.brand_string")
}

// loadAverage is that of the last minute; see proc_loadavg(5).
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

func (o origin) String() string {
	cpu := fmt.Sprintf("%d cores", o.CPUs)
	if o.CPU != "" {
		cpu += " (" + o.CPU + ")"
	}
	parts := []string{cpu, o.Kernel, o.System, strings.Replace(o.Go, "go", "Go ", 1)}
	if o.Node != "" {
		parts = append(parts, "Node.js "+strings.TrimPrefix(o.Node, "v"))
	}
	text := strings.Join(parts, ", ")
	if o.Before != "" {
		text += fmt.Sprintf("; load %s before, %s in the end, with bench", o.Before, o.After)
	}
	return text
}
