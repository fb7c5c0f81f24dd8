package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// serve runs "ipcd serve" for a server of the test, and returns what ends it and says how.
func serve(t *testing.T, s *testServer, args ...string) (end func(os.Signal) int, log *logBuffer) {
	t.Helper()
	cmd := exec.Command("ipcd", append([]string{"serve", "-e", s.endpoints[0].String()}, args...)...)
	log, ended := startProgram(t, cmd)
	return func(sig os.Signal) int {
		t.Helper()
		if sig != nil {
			must(t, cmd.Process.Signal(sig))
		}
		receive(t, ended)
		return cmd.ProcessState.ExitCode()
	}, log
}

// Whoever forgets the dashes is told where they belong, and nobody calls by a form that the program does not take.
func TestServeSaysHow(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	_, err := command(t, "serve", "-e", s.endpoints[0].String(), "Clock.Now", "date", "%s %d")
	checkUsage(t, "without --", err, "-- is missing between the method and the program", "ipcd serve Clock.Now -- date '%s %d'")
	_, log := serve(t, s, "--args", "Probe.Args", "--", "probe", "args")
	out, err := exec.Command("ipcd", "call", "--wait", "20s", "-e", s.endpoints[0].String(), "Probe.Args", "plain").CombinedOutput()
	if err == nil || !regexp.MustCompile("the argument is a string; expected an object.*\nipcd: hint: the form is: ipcd call -e .* Probe.Args key=TEXT ...\n$").Match(out) {
		t.Errorf("a text is answered with %v, %s; ipcd serve says %s", err, out, log)
	}
	if got := printed(t, exec.Command("ipcd", "call", "-e", s.endpoints[0].String(), "Probe.Args", "a=1", "b:=[2]")); !strings.Contains(got, "--a=1") || !strings.Contains(got, "--b=[2]") {
		t.Errorf("the program was given %s", got)
	}
}

func TestServeOneCall(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	end, log := serve(t, s, "--once", "Probe.Cat", "--", "probe", "cat")
	got := printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", s.endpoints[0].String(), "Probe.Cat", "--text", "hello there"))
	if got != "hello there\n" {
		t.Errorf("the call prints %q", got)
	}
	if code := end(nil); code != exitDone || !strings.Contains(log.String(), "Probe.Cat at "+s.endpoints[0].String()) {
		t.Errorf("it ends with exit code %d, having said %q", code, log)
	}
}

// Whoever offers a name that is taken learns whose it is, and what to do about that; nothing is said of who may call.
func TestServeOfTakenNames(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	l := defaultLimits()
	own, err := ownPeer()
	must(t, err)
	for name, who := range map[string]peer{"Own": own, "Others": {Transport: "fork", Known: true, worker: "stats"}} {
		o, f := newOffer(&Registration{Methods: []offeredMethod{{Description{Method: name + ".Say"}}}}, who, &l)
		if f != nil {
			t.Fatal(f)
		}
		if f := s.router.offer(o, nil); f != nil {
			t.Fatal(f)
		}
	}
	for method, want := range map[string]string{
		"Echo.Say":   "Echo.Say: the service Echo is built in",
		"Own.Say":    "Own.Say is offered by the provider p[0-9]+, which does not share it with you",
		"Others.Say": "Others.Say is offered by the worker stats",
	} {
		out, err := exec.Command("ipcd", "serve", "-e", s.endpoints[0].String(), method, "--", "probe", "cat").CombinedOutput()
		text := regexp.MustCompile("^ipcd: error: " + want + "\nipcd: hint: choose another name; \"ipcd ls -e .*\" lists those that are taken\n$")
		if err == nil || !text.Match(out) {
			t.Errorf("%s: %v, %s; want %s", method, err, out, text)
		}
	}
}

// A refused argument of a method that has not described it has no form to show: any would be the one just refused.
func TestRefusedArgumentThatNobodyHasDescribed(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	register(t, provider, `["Far.Known","Near.*"]`)
	for _, method := range []string{"Far.Known", "Near.Any"} {
		got := make(chan string, 1)
		go func() {
			out, _ := exec.Command("ipcd", "call", "-e", s.endpoints[0].String(), method, "Ada").CombinedOutput()
			got <- string(out)
		}()
		var call struct{ ID json.RawMessage }
		must(t, json.Unmarshal([]byte(readLine(t, provider)), &call))
		send(t, provider, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no"}}`, call.ID))
		want := "ipcd: error: no\nipcd: hint: " + method + " has not described what it takes: look into its program\n"
		if out := receive(t, got); out != want {
			t.Errorf("call %s: %q; want %q", method, out, want)
		}
	}
}

// What nobody has described may be there all the same, and no result is none.
func TestDescribeOfProviders(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	register(t, provider, `["Far.*",{"method":"Far.Known","argument":{"properties":{"n":{"type":"integer","default":3}}},"result":null}]`)
	for _, test := range []struct{ name, want string }{
		{"Far.Known", `Far\.Known\(any\)\n  argument\n    n  optional  integer \(default 3\)\n  example\n`},
		{"Far.Other", "ipcd: error: Far.Other is answered by .*, and has not been described\n$"},
		{"Far", `Far\.\*\(any\) any\n`},
		{"Fra.Other", "ipcd: error: there is no service or method Fra.Other\n"},
	} {
		out, err := exec.Command("ipcd", "describe", "-e", s.endpoints[0].String(), test.name).CombinedOutput()
		if !regexp.MustCompile("^" + test.want).Match(out) {
			t.Errorf("%s: %v, %s; want %s", test.name, err, out, test.want)
		}
	}
}

// Each executable of a directory is a method, and what a file beside it says is its description.
func TestServeDirectory(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	dir := t.TempDir()
	path, err := exec.LookPath("probe")
	must(t, err)
	must(t, os.Link(path, filepath.Join(dir, "Probe"+filepath.Ext(path))))
	must(t, os.WriteFile(filepath.Join(dir, "Probe.json"), []byte(`{"doc":"a probe","argument":{"type":"string"}}`), 0o600))
	path, err = exec.LookPath("Words")
	must(t, err)
	must(t, os.Link(path, filepath.Join(dir, filepath.Base(path))))
	must(t, os.WriteFile(filepath.Join(dir, "Words.json"), []byte(`{"doc":"words","part":{"type":"string","minLength":1}}`), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "notes"), []byte("no program"), 0o600))
	_, log := serve(t, s, "--as", "Dir", "--dir", dir)
	var described []Description
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	waitFor(t, func() error {
		if err := ask(c, "Ipcd.Describe", "Dir", &described); err != nil {
			return fmt.Errorf("%w; ipcd serve says %s", err, log)
		}
		return nil
	})
	var names strings.Builder
	complete := exec.Command("ipcd", "__complete", "call", "--timeout", "20s", "-e", s.endpoints[0].String(), "Dir.")
	complete.Stdout = &names
	must(t, complete.Run())
	if !strings.HasPrefix(names.String(), "Dir.Probe\ta probe\n") {
		t.Errorf("a shell is offered %s", &names)
	}
	if len(described) != 2 || described[0].Method != "Dir.Probe" || described[0].Doc != "a probe" || described[0].Argument["type"] != "string" {
		t.Errorf("there are %+v; it says %s", described, log)
	}
	if words := described[1]; words.Doc != "words" || words.Part["minLength"] != 1.0 || words.Result["type"] != "integer" {
		t.Errorf("what has parts is described as %+v", words)
	}
	var got []string
	count := 0
	err = c.askParts(t.Context(), "Dir.Words", "one two", &count, func(value document) error {
		got = append(got, string(value))
		return nil
	})
	if want := []string{`"one"`, `"two"`}; err != nil || count != 2 || !slices.Equal(got, want) {
		t.Errorf("what has parts sends %q, and then %d, %v; want %q and their number", got, count, err, want)
	}
}

// A program whose lines the caller does not take waits, at a bounded number of them, and goes on when it does.
func TestLinesWaitForTheirCaller(t *testing.T) {
	const most = 100 // lines of 4 KiB: in a window, a pipe and the buffers of two readers
	s := startServerWith(t, func(l *limits) { l.StreamWindow = 64 << 10 }, localEndpoint(t))
	serve(t, s, "--lines", "--parallel", "2", "Lines.Meter", "--", "probe", "meter")
	waitFor(t, func() error { return s.offers("Lines.Meter") })
	w, slow := newWaiting(t), s.connect()
	send(t, slow, `{"jsonrpc":"2.0","id":1,"method":"Lines.Meter","params":["`+w.Addr().String()+`"],"parts":"t","window":1}`)
	readLineWith(t, slow, `"$/progress"`)
	told := receive(t, w.conns)
	// Meanwhile another one, whose caller takes them, has far more to say.
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	go func() {
		conn := <-w.conns
		io.Copy(io.Discard, conn)
		conn.Close()
	}()
	enough, taken := errors.New("enough"), 0
	err := c.askParts(t.Context(), "Lines.Meter", w.Addr().String(), nil, func(document) error {
		if taken++; taken == 20*most {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Errorf("after %d lines: %v", taken, err)
	}
	for n := range 3 {
		send(t, slow, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/credit","params":{"token":"t","parts":%d}}`, n+1))
		readLineWith(t, slow, `"$/progress"`)
	}
	send(t, slow, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`)
	if got := readLine(t, slow); !strings.Contains(got, `"id":1,"error":{"code":-32800`) {
		t.Errorf("it is cancelled with %s", got)
	}
	told.SetReadDeadline(time.Now().Add(testPatience))
	lines, err := io.ReadAll(told)
	if told.Close(); err != nil || len(lines) < 4 || len(lines) > most {
		t.Errorf("it has printed %d lines, %v; want some more than the 4 that were taken, but at most %d", len(lines), err, most)
	}
}

// A daemon that comes back is offered the methods again.
func TestServeSurvivesTheDaemon(t *testing.T) {
	e := localEndpoint(t)
	first := startServer(t, e.String())
	_, log := serve(t, first, "Probe.Cat", "--", "probe", "cat")
	call := func() string {
		t.Helper()
		return printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", e.String(), "Probe.Cat", "--text", "a"))
	}
	if got := call(); got != "a\n" {
		t.Errorf("the first daemon says %q", got)
	}
	must(t, first.stop(t.Context()))
	startServer(t, e.String())
	if got := call(); got != "a\n" {
		t.Errorf("the second daemon says %q", got)
	}
	waitFor(t, func() error {
		if strings.Count(log.String(), "as the provider p1") != 2 {
			return fmt.Errorf("it has said\n%s", log)
		}
		return nil
	})
}
