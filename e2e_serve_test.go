package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
	if len(described) != 1 || described[0].Method != "Dir.Probe" || described[0].Doc != "a probe" || described[0].Argument["type"] != "string" {
		t.Errorf("there are %+v; it says %s", described, log)
	}
}
