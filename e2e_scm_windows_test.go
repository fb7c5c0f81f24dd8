package main

// This file is the life of a service of Windows as an administrator sees it: each command, with the
// service control manager that the system has.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// A lifeTest is one service that a test installs, and what it says.
type lifeTest struct {
	*testing.T
	name    string
	program string // where install copies it
	dir     string // %ProgramData%\NAME
	e       endpoint
}

func newLife(t *testing.T) *lifeTest {
	t.Helper()
	if err := checkRights(false); err != nil {
		lacks(t, "%v", err)
	}
	name := fmt.Sprintf("ipcd-life-%d", os.Getpid())
	dir, err := serviceDir(name)
	if err != nil {
		t.Fatal(err)
	}
	l := &lifeTest{T: t, name: name, dir: dir, e: serviceEndpoint(name)}
	l.program = filepath.Join(filepath.Dir(filepath.Dir(copyPlaceFor(false))), name, "ipcd.exe")
	t.Cleanup(func() {
		l.run("uninstall", "--purge")
		aside, _ := filepath.Glob(l.program + ".*") // of a test that was cut
		for _, path := range aside {
			os.Remove(path)
		}
		os.Remove(filepath.Dir(l.program))
		for _, path := range []string{l.dir, filepath.Dir(l.program)} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", path, err)
			}
		}
		if _, err := askService(name); !isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
			t.Errorf("the service is left: %v", err)
		}
		if eventsOf(name) != "none" {
			t.Error("the event source is left")
		}
	})
	return l
}

// run runs a command about the service and returns all that it says.
func (l *lifeTest) run(words ...string) (string, int) {
	l.Helper()
	cmd := exec.Command("ipcd", append(words, "--name", l.name)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// want runs a command that ends with this code and says these words.
func (l *lifeTest) want(code int, words string, command ...string) string {
	l.Helper()
	out, got := l.run(command...)
	if got != code || !strings.Contains(out, words) {
		l.Fatalf("ipcd %s: exit code %d\n%s\nwant %d, %q", strings.Join(command, " "), got, out, code, words)
	}
	return out
}

// pid is the process of the service that answers.
func (l *lifeTest) pid() int {
	l.Helper()
	var status struct {
		PID     int
		Service struct{ Active active }
	}
	first, err := settle(l.e)
	if err != nil {
		l.Fatal(err)
	}
	defer first.Close()
	out, code := l.run("status", "--json")
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != exitDone || status.Service.Active != activeRunning || status.PID == 0 {
		l.Fatalf("status: exit code %d, %v\n%s", code, err, out)
	}
	return status.PID
}

func TestServiceLife(t *testing.T) {
	l := newLife(t)
	install := []string{"install", "--copy-to=" + l.program, "--allow-group", "Users"}
	l.want(4, "not installed", "status")
	l.want(exitDone, "nothing to remove", "uninstall")
	l.want(exitFailed, "not installed", "start")
	l.want(exitDone, "sc start "+l.name, append(install, "--dry-run")...)
	l.want(4, "not installed", "status")

	l.want(exitDone, "it answers at "+l.e.String(), install...)
	first := l.pid()
	l.want(exitDone, ": unchanged", install...)
	l.want(exitFailed, "+account: LocalSystem", append(install, "--run-as", "LocalSystem")...)
	if now := l.pid(); now != first {
		t.Errorf("the service is process %d now, was %d; want it left alone", now, first)
	}
	l.want(exitUsage, "there is no user", append(install, "--run-as", "no-such-user")...)

	l.want(exitDone, "has been stopped", "stop")
	l.want(exitDone, "has been stopped", "stop") // there is nothing to do
	l.want(exitNobody, "stopped", "status")
	if status, err := askService(l.name); err != nil || status.CurrentState != windows.SERVICE_STOPPED || status.Win32ExitCode != 0 {
		t.Errorf("the manager says %+v, %v; want that it has stopped without an error", status, err)
	}
	l.want(exitDone, "has been started", "start")
	second := l.pid()
	l.want(exitDone, "has been started anew", "restart")
	if third := l.pid(); second == first || third == second {
		t.Errorf("the processes are %d, %d and %d; want three", first, second, third)
	}

	// Settings that are wrong: whoever starts it hears the reason, and the manager, which starts it by itself, the code.
	l.want(exitDone, "has been stopped", "stop")
	config := serviceConfigFile(l.name)
	must(t, os.WriteFile(config, []byte("idle = 1\n"), 0o600))
	l.want(exitUsage, "idle: is an integer", "start")
	if err := startService(t.Context(), &deployment{instance: instance{name: l.name}}); err == nil || !strings.Contains(err.Error(), "configuration is wrong (exit code 2)") {
		t.Errorf("started by the manager, it says %v", err)
	}
	l.want(exitNobody, "exit code 2", "status")
	must(t, os.Remove(config))

	// Other settings, by force.
	l.want(exitDone, "installed", append(install, "--force", "--run-as", "LocalSystem")...)
	l.pid()

	l.want(exitDone, "removed the service", "uninstall")
	l.want(4, "not installed", "status")
	if _, err := os.Stat(serviceLogFile(l.dir, l.name)); err != nil {
		t.Errorf("the log has gone without --purge: %v", err)
	}
	l.want(exitDone, "installed", append(install, "--no-start")...)
	l.want(exitNobody, "stopped", "status")
	l.removesItself()
	l.want(exitDone, "installed", append(install, "--no-start")...)
	if _, err := os.Stat(l.program); err != nil {
		t.Errorf("installed again, there is no program: %v", err)
	}
	l.want(exitDone, "removed "+l.dir, "uninstall", "--purge")
}

// removesItself has the installed program uninstall itself. What stays of it until the system starts again
// must not be at the place where the next installation puts a program: that would go, too.
func (l *lifeTest) removesItself() {
	l.Helper()
	out, err := exec.Command(l.program, "uninstall", "--purge", "--name", l.name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "goes when the computer is started again") {
		l.Fatalf("%s uninstall: %v\n%s", l.program, err, out)
	}
	if _, err := os.Lstat(l.program); !errors.Is(err, fs.ErrNotExist) {
		l.Errorf("%s is still there: %v", l.program, err)
	}
	aside, err := filepath.Glob(l.program + ".gone-*")
	if err != nil || len(aside) != 1 {
		l.Fatalf("put aside are %q, %v; want one program", aside, err)
	}
	must(l.T, os.Remove(aside[0])) // it has ended
}

// Somebody types what the manager would run. Windows tells such a process at once that no manager has
// started it, Wine after half a minute.
func TestServiceInATerminal(t *testing.T) {
	if underWine {
		t.Skip("Wine lets it wait for its manager for half a minute")
	}
	e := pipeEndpoint(t)
	cmd := exec.Command("ipcd", "run", "--service", "ipcd-test-terminal", "--listen", e.String(), "--log-format", "text")
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if !strings.Contains(stderr.String(), "listening") {
			t.Errorf("its log is %q", stderr)
		}
	})
	first, err := settle(e)
	must(t, err)
	defer first.Close()
	if got := printed(t, exec.Command("ipcd", "call", "-e", e.String(), "--wait", "10s", "hello")); strings.TrimSpace(got) != "hello" {
		t.Errorf("ipcd call says %q", got)
	}
}
