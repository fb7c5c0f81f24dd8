//go:build unix

package main

// This file owns the examples that only Unix can run: they want a socket, an inherited descriptor or a shell.

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestProviderOfPython(t *testing.T) {
	checkProvider(t, needTool(t, "python3"), "examples/provider.py")
}

func TestProviderOfGo(t *testing.T) { checkProvider(t, buildExample(t, "provider-go")) }

func TestProviderOfAPackage(t *testing.T) { checkProvider(t, buildExample(t, "provider-jrpc2")) }

// buildExample builds a program of Go, which has a module to itself. Where what that needs cannot be had, the test is skipped.
func buildExample(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds a program")
	}
	goTool, dir := needTool(t, "go"), filepath.Join("examples", name)
	download := exec.Command(goTool, "mod", "download")
	download.Dir = dir
	if out, err := download.CombinedOutput(); err != nil {
		lacks(t, "the modules of %s cannot be had: %v\n%s", dir, err, out)
	}
	program := filepath.Join(t.TempDir(), name)
	printed(t, exec.Command(goTool, "build", "-C", dir, "-o", program, "."))
	return program
}

// A greeter answers over whatever channel it is given; here that is a connection to a daemon, at which it thereby registers.
func TestGreeters(t *testing.T) {
	for _, row := range []struct {
		method  string
		command func(t *testing.T) *exec.Cmd
	}{
		{"GreeterPy.Hello", func(t *testing.T) *exec.Cmd { return exec.Command(needTool(t, "python3"), "examples/greeter.py") }},
		{"GreeterPl.Hello", func(t *testing.T) *exec.Cmd { return exec.Command(needTool(t, "perl"), "examples/greeter.pl") }},
		{"GreeterGo.Hello", func(t *testing.T) *exec.Cmd { return exec.Command(buildExample(t, "greeter-go")) }},
	} {
		t.Run(row.method, func(t *testing.T) {
			s := startServer(t, localEndpoint(t).String())
			cmd := row.command(t)
			conn := noDeadline(s.connect())
			channel, err := conn.(*net.UnixConn).File()
			must(t, err)
			cmd.ExtraFiles, cmd.Env = []*os.File{channel}, append(os.Environ(), "IPCD_CHANNEL_FD=3")
			startExample(t, cmd)
			channel.Close()
			conn.Close()
			call := func(arg string) *exec.Cmd {
				return exec.Command("ipcd", "call", "--wait", "20s", "-e", s.endpoints[0].String(), row.method, "--arg", arg)
			}
			if got := printed(t, call(`{"name":"Zoë"}`)); got != "hello, Zoë\n" {
				t.Errorf("it says %q", got)
			}
			if out, err := call(`[]`).CombinedOutput(); err == nil || strings.Contains(string(out), `\u000a`) { // the end of a line of Perl's
				t.Errorf("of an argument that is none of its own it says %s", out)
			}
			if got := printed(t, call(`{"name":"Ada"}`)); got != "hello, Ada\n" {
				t.Errorf("after an error it says %q", got)
			}
			s.halt()
			must(t, cmd.Wait()) // the end of the channel is its own
		})
	}
}

// The configuration of all greeters starts all of them.
func TestAllExamples(t *testing.T) {
	for _, tool := range []string{"node", "python3", "perl", "go"} {
		needTool(t, tool)
	}
	checkAllExamples(t, "greeter", "greeter-py", "greeter-pl", "greeter-go")
}

// TestTour runs each line of the tour, and wants what the tour shows.
func TestTour(t *testing.T) {
	needTool(t, "curl")
	s := startServer(t, localEndpoint(t).String())
	tour, err := os.ReadFile("examples/tour.sh")
	must(t, err)
	shell := func(variable string, args ...string) *exec.Cmd {
		cmd := exec.Command("sh", args...)
		cmd.Env = append(os.Environ(), variable)
		return cmd
	}
	lines := 0
	for line := range strings.Lines(string(tour)) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		lines++
		command, want, exact := strings.Cut(strings.TrimSpace(line), " # ")
		got := strings.TrimSpace(printed(t, shell("SOCK="+s.endpoints[0].Path, "-c", command)))
		if exact && got != want || got == "" {
			t.Errorf("%s\nprints %s; want %s", command, got, want)
		}
	}
	if lines < 10 {
		t.Errorf("the tour has %d lines; want 10 and more", lines)
	}
	printed(t, shell("IPCD_ENDPOINT="+s.endpoints[0].String(), "-e", "examples/tour.sh"))
}

// TestTestOfAService runs what docs/services.md shows of testing a provider, and a worker.
func TestTestOfAService(t *testing.T) {
	needTool(t, "python3")
	needTool(t, "node")
	page, err := os.ReadFile("docs/services.md")
	must(t, err)
	for i, want := range []string{"3\n", "hello, Ada\nhello, Ada\n"} {
		if got := printed(t, exec.Command("sh", "-ec", codeBlocks(t, string(page), "sh")[i])); got != want {
			t.Errorf("it prints %q; want %q", got, want)
		}
	}
}

// The page shows events in a real browser, and goes on when the daemon has restarted. By itself the daemon lets no page in.
func TestPageOfEvents(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a browser")
	}
	b := startBrowser(t)
	e := localEndpoint(t)
	s := startServer(t, e.String(), "http://127.0.0.1:0?auth=none")
	page := startEventsPage(t, s, "build.>")
	publish := func(data string) {
		t.Helper()
		printed(t, exec.Command("ipcd", "call", "-e", e.String(), "Ipcd.Publish", "topic=build.done", "data:="+data))
	}
	b.open(page.String())
	b.wait("listening to build.>")
	publish(`{"text":"<b>ä</b>"}`)
	if got := b.wait(`{"text":"<b>ä</b>"}`); strings.Count(got, "build.done") != 1 {
		t.Errorf("the page shows\n%s\nwant one event", got)
	}
	direct := fmt.Sprintf(`new Promise((done) => { new EventSource('http://%s/events?topic=>').onerror = ({ target }) => done('state ' + target.readyState) })`, s.endpoints[1].Host)
	if got := b.value(direct); got != "state 2" || !strings.Contains(s.log.String(), "an HTTP request was refused") {
		t.Errorf("a page that asks the daemon itself is in %s; want it refused, state 2", got)
	}
	must(t, s.stop(t.Context()))
	b.wait("waiting")
	startServer(t, e.String())
	b.wait("listening to build.>")
	publish(`"again"`)
	if got := b.wait(`"again"`); strings.Count(got, "build.done") != 2 || !strings.Contains(got, "perhaps some") {
		t.Errorf("the page shows\n%s\nwant two events, and that some are missed", got)
	}
}

// One script builds, and tells the other what has become of that. Both end with the daemon.
func TestBuildWatcher(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	dir := t.TempDir()
	script := func(args ...string) *exec.Cmd {
		cmd := exec.Command("sh", args...)
		cmd.Env = append(os.Environ(), "IPCD_ENDPOINT="+s.endpoints[0].String())
		return cmd
	}
	react := script("examples/build-react.sh")
	out, err := react.StdoutPipe()
	must(t, err)
	said, err := react.StderrPipe()
	must(t, err)
	must(t, react.Start())
	if line, err := bufio.NewReader(said).ReadString('\n'); !strings.HasPrefix(line, "ipcd: subscribed to build.>") {
		t.Fatalf("the one that reacts says %q, %v", line, err)
	}
	watch := script("examples/build-watch.sh", dir, "sh", "-c", "echo no main; test -e main")
	must(t, watch.Start())
	lines := bufio.NewScanner(out)
	want := func(beginning, words string) {
		t.Helper()
		if lines.Scan(); !strings.HasPrefix(lines.Text(), beginning) || !strings.Contains(lines.Text(), words) {
			t.Errorf("the one that reacts says %q; want %q and %q", lines.Text(), beginning, words)
		}
	}
	want("it is broken", `"code":1,"output":"no main"`)
	must(t, os.WriteFile(filepath.Join(dir, "main"), nil, 0o600))
	want("it builds", "")
	must(t, s.stop(t.Context()))
	must(t, os.WriteFile(filepath.Join(dir, "main"), []byte("changed"), 0o600))
	if lines.Scan() || watch.Wait() == nil || react.Wait() != nil { // the end of a pipeline is that of its last command
		t.Errorf("they end with %v and %v, %q", watch.ProcessState, react.ProcessState, lines.Text())
	}
}
