package main

// This file owns the programs in examples/: each of them is run here. Those that want Unix are in e2e_examples_unix_test.go, what
// differs on Windows in e2e_examples_windows_test.go, those of the article in testdata/script/examples.txtar.

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
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
	_, f := s.router.find(name, theOwner)
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

// startEventsPage runs examples/events for a topic of the daemon, and returns the address of its page.
func startEventsPage(t *testing.T, s *testServer, topic string) *url.URL {
	t.Helper()
	_, log := startExample(t, exec.Command(needTool(t, "node"), filepath.FromSlash("examples/events/server.js"), s.endpoints[0].Path, topic))
	waitFor(t, func() error {
		if !strings.HasSuffix(log.String(), "\n") {
			return errors.New("it has not said where it listens")
		}
		return nil
	})
	page, err := url.Parse(strings.TrimSpace(log.String()))
	must(t, err)
	return page
}

// The example passes the events of the daemon on to its own page, and to no other.
func TestServerOfEvents(t *testing.T) {
	e := localEndpoint(t)
	s := startServer(t, e.String())
	page := startEventsPage(t, s, "build.>")
	client := http.Client{Timeout: testPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(method, path string, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+page.Host+path, nil)
		must(t, err)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		r.Host = cmp.Or(r.Header.Get("Host"), r.Host)
		answer, err := client.Do(r)
		must(t, err)
		return answer
	}
	events := page.Path + "events?" + page.RawQuery
	for _, row := range []struct {
		method, path string
		status       int
		headers      []string
	}{
		{"GET", page.Path, 200, nil},
		{"GET", "/", 404, nil},
		{"GET", "//", 404, nil},
		{"GET", "/events?" + page.RawQuery, 404, nil},
		{"GET", page.Path + "rpc", 404, nil},
		{"GET", page.Path + "../healthz", 404, nil},
		{"POST", events, 405, nil},
		{"GET", page.Path + "events?topic=*.a.", 400, nil},
		{"GET", events, 403, []string{"Host", "example.com"}},
		{"GET", events, 403, []string{"Origin", "http://example.com"}},
		{"GET", events, 403, []string{"Origin", "null"}},
		{"GET", events, 403, []string{"Sec-Fetch-Site", "cross-site"}},
		{"GET", page.Path, 403, []string{"Host", "example.com:" + page.Port()}},
	} {
		answer := get(row.method, row.path, row.headers...)
		if answer.Body.Close(); answer.StatusCode != row.status {
			t.Errorf("%s %s with %q is answered with %s; want %d", row.method, row.path, row.headers, answer.Status, row.status)
		}
	}
	answer := get("GET", events, "Origin", "http://"+page.Host, "Referer", page.String(), "Sec-Fetch-Site", "same-origin")
	lines := bufio.NewScanner(answer.Body)
	wantData := func(text string) {
		t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if !strings.Contains(data, text) {
					t.Errorf("there comes %s; want %s", data, text)
				}
				return
			}
		}
		t.Fatalf("the events end (%v) before %s", lines.Err(), text)
	}
	wantData(`{"subscribed":[`)
	printed(t, exec.Command("ipcd", "call", "-e", e.String(), "Ipcd.Publish", `topic=build.done`, `data:={"n":1}`))
	wantData(`"data":{"n":1}}`)
	answer.Body.Close()
	s.idle() // the subscription has ended, too
	must(t, s.stop(t.Context()))
	answer = get("GET", events)
	if answer.Body.Close(); answer.StatusCode != http.StatusBadGateway {
		t.Errorf("without a daemon it answers %s; want 502", answer.Status)
	}
}

// The checksums of a tree come from four processes, with their progress; whoever has seen enough ends the work of all.
func TestChecksumsOfATree(t *testing.T) {
	needTool(t, "node")
	const few, many = 40, 10_000 // many more than fit into what is on its way to a caller that does not read
	small, large := t.TempDir(), t.TempDir()
	sums := map[string]string{}
	for i := range many {
		if i < few {
			text := bytes.Repeat([]byte{byte(i)}, 64<<10)
			name := filepath.Join("a", fmt.Sprintf("ä %d", i))
			must(t, os.MkdirAll(filepath.Join(small, "a"), 0o700))
			must(t, os.WriteFile(filepath.Join(small, name), text, 0o600))
			sums[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		}
		must(t, os.WriteFile(filepath.Join(large, fmt.Sprint(i)), []byte{byte(i)}, 0o600))
	}
	set, _, err := loadSettings("examples/files.toml", true, noEnv, nil)
	must(t, err)
	s := startServer(t, localEndpoint(t).String())
	s.force.employ(set.Workers)
	e := s.endpoints[0].String()
	printed(t, exec.Command("ipcd", "worker", "start", "-e", e, "files")) // which waits for all of them

	by, done := map[int]bool{}, 0.0
	lines := strings.Split(strings.TrimSuffix(printed(t, exec.Command("ipcd", "call", "--stream", "-e", e, "Files.Sum", "dir="+small)), "\n"), "\n")
	for _, line := range lines[:len(lines)-1] {
		var part struct {
			File, SHA256 string
			By           int
			Progress     float64
		}
		must(t, json.Unmarshal([]byte(line), &part))
		switch {
		case part.File == "":
			if part.Progress <= done {
				t.Errorf("the progress is %v after %v", part.Progress, done)
			}
			done = part.Progress
		case part.SHA256 != sums[part.File]:
			t.Errorf("of %s it says %s; want %s", part.File, line, sums[part.File])
		}
		if part.File != "" {
			delete(sums, part.File)
			by[part.By] = true
		}
	}
	if end := lines[len(lines)-1]; len(sums) > 0 || done != 1 || end != `{"files":40,"unreadable":0}` || len(by) != 4 {
		t.Errorf("%d files are missing, the progress is %v, the result %s, from %d processes; want 4", len(sums), done, end, len(by))
	}

	before := s.force.status()[0].Calls
	cmd := exec.Command("ipcd", "call", "--stream", "-e", e, "Files.Sum", "dir="+large)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if cmd.Process.Signal(os.Interrupt) != nil { // as on Windows, which sends none
		out.Close()
	}
	cmd.Wait() // though nobody reads
	waitFor(t, func() error {
		for _, p := range s.force.status()[0].Processes {
			if p.Calls > 0 {
				return fmt.Errorf("process %d has %d calls", p.Instance, p.Calls)
			}
		}
		return nil
	})
	if w := s.force.status()[0]; w.Calls-before >= many || w.Restarts > 0 || len(w.Processes) != 4 {
		t.Errorf("of a call that ended early the worker has had %d calls, and is %+v", w.Calls-before, w)
	}
}
