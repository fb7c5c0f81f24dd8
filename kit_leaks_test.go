package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// testPrograms are what the test binary plays when it is started under their name: they are
// in $PATH of the scripts and of each test. Other test files add theirs in init.
var testPrograms = map[string]func(){"ipcd": main}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, testPrograms)
}

// leakChecked runs the tests and turns red what they leave behind: goroutines, processes,
// open descriptors and files.
type leakChecked struct{ m *testing.M }

// leakMark is in the environment of every process that a test starts, so that those are
// found that left their parent, as a daemon does. It is no variable that ipcd keeps to itself.
const leakMark = "TEST_RUN_OF_IPCD"

func (l leakChecked) Run() int {
	flag.Parse()
	if fuzzing() {
		return l.m.Run() // the engine has processes and goroutines of its own
	}
	temp, err := privateTemp()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	mark := fmt.Sprintf("%s=%d-%s", leakMark, os.Getpid(), filepath.Base(temp))
	name, value, _ := strings.Cut(mark, "=")
	os.Setenv(name, value)
	os.Setenv("GORACE", "atexit_sleep_ms=0") // with -race each program that a test starts would end a second late
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		// A shell that starts us in the background ignores the one, nohup(1) the other. Both outlive
		// exec(2), but not in the programs of the tests once we have a handler.
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("8") // tests that run beside others wait, most of the time
	}
	before := openFiles()
	code := l.m.Run()
	removeTestKeys()
	for _, check := range []func() error{
		leakedGoroutines,
		func() error { return leakedProcesses(mark) },
		func() error { return leakedFiles(before) },
		func() error { return leftIn(temp) },
	} {
		if err := poll(check); err != nil {
			fmt.Fprintf(os.Stderr, "FAIL: the tests left behind %v\n", err)
			code = max(code, 1)
		}
	}
	if err := os.RemoveAll(temp); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// fuzzing tells a run for the fuzzing engine, or one of its workers, from one of the tests.
func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" && f.Value.String() != "false" {
			return true
		}
	}
	return false
}

// privateTemp makes the one directory for temporary files of this run. Its path is short, for
// the socket paths below it (unix(7): about 100 bytes), and without symbolic links.
func privateTemp() (string, error) {
	temp, err := os.MkdirTemp("", "i")
	if err != nil {
		return "", err
	}
	if temp, err = filepath.EvalSymlinks(temp); err != nil {
		return "", err
	}
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		os.Setenv(name, temp)
	}
	return temp, nil
}

// forGood are goroutines that stay once they have been started: of os/signal, the one of
// go-winio that waits for the completion of I/O, and that of lumberjack which removes old logs.
var forGood = regexp.MustCompile(`(?m)^(os/signal\.(loop|signal_recv)|github\.com/Microsoft/go-winio\.ioCompletionProcessor|gopkg\.in/natefinch/lumberjack%2ev2\.\(\*Logger\)\.millRun)\(`)

// leakedGoroutines names those that are neither ours nor there for good. A goroutine may need
// a moment to end after whoever waited for it has gone on.
func leakedGoroutines() error {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var left []string
	for _, g := range strings.Split(strings.TrimSpace(string(buf)), "\n\n")[1:] { // the first is this one
		if !forGood.MatchString(g) {
			left = append(left, g)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%d goroutines:\n%s", len(left), strings.Join(left, "\n\n"))
	}
	return nil
}

// leakedProcesses names our children, and all processes with the mark of this run. It sees
// them on Linux alone.
func leakedProcesses(mark string) error {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	var left []string
	for _, path := range stats {
		dir := filepath.Dir(path)
		if filepath.Base(dir) == fmt.Sprint(os.Getpid()) {
			continue
		}
		stat, _ := os.ReadFile(path) // it may have ended in between
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		// proc_pid_stat(5): pid (name) state ppid; the name may hold anything.
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		child := len(fields) > 1 && fields[1] == fmt.Sprint(os.Getpid())
		if child || slices.Contains(strings.Split(string(environ), "\x00"), mark) {
			line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			left = append(left, fmt.Sprintf("%s, state %s: %s", filepath.Base(dir), fields[0], strings.ReplaceAll(string(line), "\x00", " ")))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%d processes:\n%s", len(left), strings.Join(left, "\n"))
	}
	return nil
}

// openFiles lists the open descriptors with what they lead to, on Linux alone. The runtime's
// own poller, which it makes when it first needs one, does not count.
func openFiles() map[string]string {
	open := map[string]string{}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err == nil && to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]" {
			open[filepath.Base(fd)] = to
		}
	}
	return open
}

func leakedFiles(before map[string]string) error {
	// A file that nothing refers to is closed by its finalizer; that hides a leak at best.
	var left []string
	for fd, to := range openFiles() {
		if before[fd] != to {
			left = append(left, fd+" -> "+to)
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		return fmt.Errorf("%d open descriptors:\n%s", len(left), strings.Join(left, "\n"))
	}
	return nil
}

// leftIn names what is in the directory for temporary files.
func leftIn(temp string) error {
	var left []string
	err := filepath.WalkDir(temp, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != temp {
			left = append(left, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%d files:\n%s", len(left), strings.Join(left, "\n"))
	}
	return nil
}

// TestLeakChecksSee makes one leak of each kind, and wants it told and then gone.
func TestLeakChecksSee(t *testing.T) {
	end := make(chan struct{})
	go func() { <-end }()
	if err := leakedGoroutines(); err == nil || !strings.Contains(err.Error(), "TestLeakChecksSee") {
		t.Errorf("leakedGoroutines() = %v; want this test named", err)
	}
	close(end)

	dir := t.TempDir()
	before := openFiles()
	f, err := os.Create(filepath.Join(dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	if err := leftIn(dir); err == nil || !strings.Contains(err.Error(), f.Name()) {
		t.Errorf("leftIn(%q) = %v; want %s named", dir, err, f.Name())
	}
	err = leakedFiles(before)
	f.Close()
	if runtime.GOOS != "linux" {
		return
	}
	if err == nil || !strings.Contains(err.Error(), f.Name()) {
		t.Errorf("leakedFiles() = %v; want %s named", err, f.Name())
	}

	here := filepath.Join(dir, "here")
	cmd := exec.Command("stay", here)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() error { _, err := os.Stat(here); return err })
	err = leakedProcesses(leakMark + "=" + os.Getenv(leakMark))
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if err == nil || !strings.Contains(err.Error(), here) {
		t.Errorf("leakedProcesses() = %v; want %s named", err, here)
	}
}
