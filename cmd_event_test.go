package main

// This file owns "ipcd pub" and "ipcd sub" as they are typed.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A subProcess is an "ipcd sub", and the lines that it prints.
type subProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   io.Closer
	lines chan string
	said  bytes.Buffer
}

// subscribe starts "ipcd sub --json" and waits until it has subscribed.
func subscribe(t *testing.T, args ...string) *subProcess {
	t.Helper()
	return subscribeBy(t, exec.Command("ipcd", append([]string{"sub", "--json"}, args...)...))
}

// subscribeBy is subscribe by a command of the test's own.
func subscribeBy(t *testing.T, cmd *exec.Cmd) *subProcess {
	t.Helper()
	s := &subProcess{t: t, cmd: cmd, lines: make(chan string, 100)}
	s.cmd.Stderr = &s.said
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	s.out = out
	must(t, s.cmd.Start())
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	go func() {
		defer close(s.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.lines <- lines.Text()
		}
	}()
	s.want(`^\{"subscribed":\[.*\],"id":"[^"]+"\}$`)
	return s
}

// want wants the next line to match.
func (s *subProcess) want(pattern string) (line string) {
	s.t.Helper()
	line = receive(s.t, s.lines)
	if !regexp.MustCompile(pattern).MatchString(line) {
		s.t.Errorf("%q prints %q; want %s", s.cmd.Args, line, pattern)
	}
	return line
}

// ends wants it to print no more, and to end with this exit code, having complained in these words.
func (s *subProcess) ends(code int, words string) {
	s.t.Helper()
	for line := range s.lines {
		s.t.Errorf("%q prints %s, too", s.cmd.Args, line)
	}
	s.cmd.Wait()
	if got := s.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(s.said.String(), words) || words == "" && s.said.Len() > 0 {
		s.t.Errorf("%q ends with %d and says %q; want %d and %q", s.cmd.Args, got, &s.said, code, words)
	}
}

func TestPubPublishesWhatWasTyped(t *testing.T) {
	e := startServer(t, localEndpoint(t).String()).endpoints[0].String()
	file := filepath.Join(t.TempDir(), "data.json")
	must(t, os.WriteFile(file, []byte("{\"a\": [1.10]}\n"), 0o600))
	tests := []struct {
		args, stdin string
		want        []string // of the data
	}{
		{args: "build.done", want: []string{`null`}},
		{args: `build.done {"a":"b=c"}`, want: []string{`{"a":"b=c"}`}},
		{args: "build.done 1.10", want: []string{`1.10`}},
		{args: "build.done ok:=true n=1 text=a=b", want: []string{`{"ok":true,"n":"1","text":"a=b"}`}},
		{args: "build.done ok:=true", want: []string{`{"ok":true}`}},
		{args: "build.done --text true", want: []string{`"true"`}},
		{args: "build.done --arg [1]", want: []string{`[1]`}},
		{args: "build.done -- a=b", want: []string{`"a=b"`}},
		{args: "build.done @" + file, want: []string{`{"a":[1.10]}`}},
		{args: "build.done -", stdin: " {\"a\":\n1}\n", want: []string{`{"a":1}`}},
		{args: "build.done --lines -", stdin: "1\n\n{\"a\":2}\r\n\"ä\"", want: []string{`1`, `{"a":2}`, `"ä"`}},
		{args: "build.done --lines", stdin: "", want: nil},
		{args: "-e " + e + "?proto=gob build.done ok:=true", want: []string{`{"ok":true}`}},
		{args: "-e " + e + "?proto=http build.done ok:=true", want: []string{`{"ok":true}`}},
	}
	var want []string
	for _, test := range tests {
		want = append(want, test.want...)
	}
	s := subscribe(t, "-e", e, "--count", fmt.Sprint(len(want)), "other", "build.*")
	for _, test := range tests {
		cmd := exec.Command("ipcd", append([]string{"pub"}, strings.Fields(test.args)...)...)
		cmd.Env = append(os.Environ(), "IPCD_ENDPOINT="+e)
		cmd.Stdin = strings.NewReader(test.stdin)
		ids := strings.Fields(printed(t, cmd))
		if len(ids) != len(test.want) {
			t.Errorf("pub %s prints the ids %q; want %d", test.args, ids, len(test.want))
			continue
		}
		for i, want := range test.want {
			s.want(`^\{"topic":"build.done","id":"` + ids[i] + `","time":"[^"]+Z","data":` + regexp.QuoteMeta(want) + `\}$`)
		}
	}
	s.ends(exitDone, "")
	cmd := exec.Command("ipcd", "pub", "--json", "-e", e, "build.done")
	var id map[string]string
	if out := printed(t, cmd); json.Unmarshal([]byte(out), &id) != nil || len(id) != 1 || id["id"] == "" {
		t.Errorf("with --json it prints %q; want an object with the id", out)
	}
}

func TestPubAndSubRefuse(t *testing.T) {
	e := startServer(t, localEndpoint(t).String()).endpoints[0].String()
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"pub", "hint: ipcd pub build.done ok:=true", exitUsage},
		{"pub build.> 1", "has a wildcard", exitUsage},
		{"pub build..done 1", "has an empty token", exitUsage},
		{"pub build.done hello", `hint: a string needs its quotes: '"hello"'`, exitUsage},
		{"pub build.done {", "the data: line 1", exitUsage},
		{"pub build.done a=1 b", `"b" is neither key=text nor key:=JSON`, exitUsage},
		{"pub build.done --text a b=1", "given twice", exitUsage},
		{"pub build.done --lines 1", "hint: ipcd pub --lines build.done -", exitUsage},
		{"pub ipcd.done 1", "is a topic of the daemon's own", exitFailed},
		{"call Ipcd.Subscribe topics:=[\"a\"]", "hint: ipcd sub 'build.>'", exitFailed},
		{"sub", "hint: ipcd sub 'build.>'", exitUsage},
		{"sub build.", "hint: > redirects the output unless it is quoted: ipcd sub 'build.>'", exitUsage},
		{"sub a.>.b", "has > in the middle", exitUsage},
		{"sub -n 0 a", "--count: 0 is less than one event", exitUsage},
		{"sub -e " + e + "?proto=gob a", "its protocol has none", exitUsage},
		{"sub --timeout 50ms a", "the deadline of the call has passed", exitFailed},
		{"sub -e " + e + ".nobody a", "no daemon at", exitNobody},
	} {
		cmd := exec.Command("ipcd", strings.Fields(test.args)...)
		cmd.Env = append(os.Environ(), "IPCD_ENDPOINT="+e)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
			t.Errorf("%s says %s, %v; want %q and exit code %d", test.args, out, err, test.want, test.code)
		}
	}
	cmd := exec.Command("ipcd", "pub", "--lines", "-e", e, "build.done")
	cmd.Stdin = strings.NewReader("1\n{\n2\n")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(string(out), "error: line 2: ") {
		t.Errorf("of a line that is no JSON it says %s, exit code %d", out, code)
	}
	cmd = exec.Command("ipcd", "sub", "-e", e, "--timeout", "50ms", "go.mod", "go.sum")
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "hint: go.mod and the others are files here") {
		t.Errorf("of what a wildcard has become it says %s", out)
	}
}

func TestSubEnds(t *testing.T) {
	for _, proto := range []string{"jsonrpc", "http"} {
		t.Run(proto, func(t *testing.T) {
			at := localEndpoint(t)
			s := startServer(t, at.String())
			s.router.events.keep([]topicSettings{{"build.done", 9}})
			e := at.String() + "?proto=" + proto
			pub := func(data string) (id string) {
				return strings.TrimSpace(printed(t, exec.Command("ipcd", "pub", "-e", at.String(), "build.done", data)))
			}

			leaves := subscribe(t, "-e", e, "build.done") // as head -1 does
			first := pub("1")
			leaves.want(`"data":1\}$`)
			leaves.out.Close()
			leaves.cmd.Wait()
			if code := leaves.cmd.ProcessState.ExitCode(); code != exitDone || leaves.said.Len() > 0 {
				t.Errorf("when nobody reads it ends with %d and says %q", code, &leaves.said)
			}

			stays, comes := subscribe(t, "-e", e, "build.done"), subscribe(t, "-e", e, "--wait", "1m", "-n", "2", "build.done")
			pub("2")
			stays.want(`"data":2\}$`)
			comes.want(`"data":2\}$`)
			behind := subscribe(t, "-e", e, "--after", first, "-n", "1", "build.done")
			behind.want(`"data":2\}$`)
			behind.ends(exitDone, "")
			must(t, s.stop(t.Context()))
			stays.ends(exitFailed, `{"error":{"code":-32003,`)
			startServer(t, at.String())
			comes.want(`^\{"subscribed":`)
			comes.want(`^\{"missed":null,`)
			pub("3")
			comes.want(`"data":3\}$`)
			comes.ends(exitDone, "")
		})
	}
}

// Whoever subscribes first and looks then misses no service that comes.
func TestSubWaitsForAService(t *testing.T) {
	e := localEndpoint(t)
	startServer(t, e.String())
	s := subscribe(t, "-e", e.String(), "-n", "1", "ipcd.service.Far.up")
	register(t, rawDial(t, e), `["Far.Say"]`)
	s.want(`^\{"topic":"ipcd.service.Far.up",.*"data":\{"service":"Far",`)
	s.ends(exitDone, "")
}
