package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lacks skips a test for want of something that a machine need not have. In CI, where everything is there, that is a failure.
func lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("IPCD_CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// needTool returns the path of a program that a test needs. Go alone runs the suite, so
// without it the test is skipped; in CI, where every tool is there, that is a failure.
func needTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	lacks(t, "%s is needed: %v", name, err)
	return ""
}

// needEnv returns what .ci/run has put into an environment variable: a program or a folder
// that is not found by its name. It is to such things what needTool is to programs.
func needEnv(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		lacks(t, "$%s is not set; .ci/run sets it", name)
	}
	return value
}

// waitFor polls, with growing delay and for at most 10 s, until ready returns nil. It is for
// what no channel and no reply can prove.
func waitFor(t testing.TB, ready func() error) {
	t.Helper()
	if err := poll(ready); err != nil {
		t.Fatal(err)
	}
}

// poll is waitFor for those who have no test: it returns the last error.
func poll(ready func() error) error {
	err := ready()
	for began, delay := time.Now(), time.Millisecond; err != nil && time.Since(began) < 10*time.Second; delay = min(2*delay, 100*time.Millisecond) {
		<-time.After(delay)
		err = ready()
	}
	return err
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkRefused wants a fault with these words in its text and its hint.
func checkRefused(t testing.TB, what string, err error, words, hint string) {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || !strings.Contains(f.Text, words) || !strings.Contains(f.hint, hint) {
		t.Errorf("%s: %v, hint %q; want %q and %q", what, err, hintFor(err), words, hint)
	}
}

// printed runs a command, which must succeed, and returns what it printed.
func printed(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", cmd.Args, err, out, stderr.String())
	}
	return string(out)
}

// needRoot skips a test with several users, or groups, where we cannot be another one. In CI that is a failure.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		lacks(t, "to be another user takes root")
	}
}

// startProgram starts a program, and kills it with the test. Its standard error is in log, and ended is closed when it has ended.
func startProgram(t testing.TB, cmd *exec.Cmd) (log *logBuffer, ended chan struct{}) {
	t.Helper()
	log = &logBuffer{}
	cmd.Stderr = log
	must(t, cmd.Start())
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	return log, ended
}
