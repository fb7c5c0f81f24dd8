package main

// This file owns the programs in examples/: each of them is run here. Those that want Unix are in e2e_examples_unix_test.go, what
// differs on Windows in e2e_examples_windows_test.go, those of the article in testdata/script/examples.txtar.

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// startExample starts a program, and returns what ends it, and what it writes.
func startExample(t *testing.T, cmd *exec.Cmd) (end func(), log *logBuffer) {
	t.Helper()
	log = &logBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	end = func() {
		cmd.Process.Kill() // which is too late where it has ended by itself
		cmd.Wait()
	}
	t.Cleanup(func() {
		end()
		if t.Failed() {
			t.Logf("%q says\n%s", cmd.Args, log)
		}
	})
	return end, log
}

// checkProvider has an example register at a daemon and at the next one at its endpoint, which is the path that the example
// is given.
func checkProvider(t *testing.T, command ...string) {
	t.Helper()
	e := localEndpoint(t)
	first := startServer(t, e.String())
	end, _ := startExample(t, exec.Command(command[0], append(command[1:], e.Path)...))
	count := func() {
		t.Helper()
		got := printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", e.String(), "Words.Count", "--text", "one  two ä\nthree"))
		if got != "4\n" {
			t.Errorf("it counts %q; want 4", got)
		}
	}
	count()
	must(t, first.stop(t.Context()))
	second := startServer(t, e.String())
	count()
	end()
	waitFor(t, func() error { return checkGone(second, "Words.Count") })
}

// checkGone wants a method not to be there.
func checkGone(s *testServer, name string) error {
	_, f := s.router.find(name, nil)
	if f == nil {
		return faultf(codeInternal, "%s is still there", name)
	}
	return nil
}

func TestProviderOfNode(t *testing.T) { checkProvider(t, needTool(t, "node"), "examples/provider.js") }

// checkAllExamples runs a daemon with examples/all.toml, and calls the services of the workers that are named. The others
// must not keep it from that.
func checkAllExamples(t *testing.T, names ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts four interpreters, and builds a program")
	}
	const file = "examples/all.toml"
	set, _, err := loadSettings(file, true, noEnv, nil)
	must(t, err)
	e := localEndpoint(t).String()
	daemon := exec.Command("ipcd", "run", "--config", file, "--listen", e)
	startExample(t, daemon)
	first, err := settle(mustParse(t, e))
	must(t, err)
	for _, w := range set.Workers {
		if !slices.Contains(names, w.Name) {
			continue
		}
		for _, service := range w.Services {
			call := exec.Command("ipcd", "call", "--wait", "20s", "--timeout", "5m", "-e", e, service+".Hello", "name=Ada")
			if got := printed(t, call); got != "hello, Ada\n" {
				t.Errorf("%s says %q", service, got)
			}
		}
	}
	var status Status
	must(t, json.Unmarshal([]byte(printed(t, exec.Command("ipcd", "worker", "ls", "--json", "-e", e))), &status))
	if len(status.Workers) != len(set.Workers) {
		t.Errorf("the daemon has %d workers; want %d", len(status.Workers), len(set.Workers))
	}
	for _, w := range status.Workers {
		if slices.Contains(names, w.Name) && (w.State != "running" || w.Calls != 1 || w.Errors != 0) {
			t.Errorf("of %s the daemon says %+v", w.Name, w)
		}
	}
	first.Close()
	printed(t, exec.Command("ipcd", "stop", "-e", e))
	must(t, daemon.Wait())
}

// A parent of Node's calls what ipcd serves over its channel, and the daemon that ipcd passes everything else on to.
func TestNodeForksIpcd(t *testing.T) {
	t.Setenv("IPCD_ENDPOINT", startServer(t, localEndpoint(t).String()).endpoints[0].String())
	node := needTool(t, "node")
	ipcd, err := exec.LookPath("ipcd")
	must(t, err)
	got := printed(t, exec.Command(node, filepath.FromSlash("examples/fork-ipcd.js"), ipcd))
	want := "hello from the parent\n[ 'a', 'b', 'c' ]\nthere is no method Echo.Sy\n"
	if strings.ReplaceAll(got, "\r\n", "\n") != want {
		t.Errorf("it prints %q; want %q", got, want)
	}
}
