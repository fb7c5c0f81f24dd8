package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// TestCallKnowsWhatTheMethodTakes calls methods of the tests by each protocol, with words that can mean several things.
func TestCallKnowsWhatTheMethodTakes(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	tests := []struct {
		words       []string
		out         string // in what is printed
		wrong, hint string // in the error
		code        int    // the exit code
	}{
		{words: []string{"Trial.Parcel", "name=36", "age=36"}, out: `"name":"36","age":36,`},
		{words: []string{"Trial.Parcel", "name=a=b", "age:=36"}, out: `"name":"a=b","age":36,`},
		{words: []string{"Trial.Parcel", "tags:=[\"a\"]"}, out: `"tags":["a"]`},
		{words: []string{"Trial.Parcel", "nmae=Ada", "age=36"}, wrong: "Trial.Parcel has no member nmae", hint: "did you mean name? the form is: ipcd call -e ", code: exitUsage},
		{words: []string{"Trial.Parcel", "age=old"}, wrong: "age=old: expected integer", hint: "age:=INTEGER", code: exitUsage},
		{words: []string{"Trial.Slow", "ms=1"}, wrong: "Trial.Slow takes integer", hint: "Trial.Slow --arg INTEGER", code: exitUsage},
		{words: []string{"Trial.Slow", "1"}, wrong: "expected ", hint: "one word is a text; anything else is JSON: ipcd call -e ", code: exitUsage},
		{words: []string{"Trial.Slow", "one"}, wrong: "expected ", hint: "Trial.Slow --arg INTEGER", code: exitUsage},
		{words: []string{"Trial.Slow", "a:=1"}, wrong: "expected ", hint: "Trial.Slow --arg INTEGER", code: exitUsage},
		{words: []string{"Trial.Slow", "--arg", "1"}, out: "1"},
		{words: []string{"Trial.Parcel"}, hint: "name=TEXT", code: exitUsage},
		{words: []string{"Trial.Fail", "a=b"}, wrong: "a=b", code: exitFailed},
		{words: []string{"Trial.Parcel", "tags:=[1"}, wrong: "the value of tags: line 1, column 3: the JSON ends too early", code: exitUsage},
		{words: []string{"Trial.Parcel", "name:=Ada"}, wrong: "the value of name: line 1, column 1: unexpected 'A'", hint: `a string needs its quotes: '"hello"'`, code: exitUsage},
		{words: []string{"Trial.Parcel", "name:="}, wrong: "the value of name: is empty", hint: `an empty string is '""'`, code: exitUsage},
		{words: []string{"Trial.Nothing", "a=b"}, wrong: "there is no method Trial.Nothing", hint: `run "ipcd ls -e `, code: exitFailed},
	}
	for _, proto := range []string{"", "?proto=jsonrpc", "?proto=http"} {
		for _, test := range tests {
			e := s.endpoints[0].String() + proto
			out, err := command(t, append([]string{"call", "-e", e}, test.words...)...)
			if exitCode(err) != test.code || !strings.Contains(out, test.out) || err != nil && !strings.Contains(err.Error(), test.wrong) || !strings.Contains(hintFor(err), test.hint) {
				t.Errorf("call -e %s %q: exit code %d, %v, hint %q, %s; want %+v", e, test.words, exitCode(err), err, hintFor(err), out, test)
			}
		}
	}
}

// A hint about the form of JSON is for a text that was to be a string, and for no slip in anything else.
func TestTypedJSONIsExplained(t *testing.T) {
	for text, want := range map[string]string{"hello": `'"hello"'`, "é": `'"hello"'`, "": `'""'`, `{"a":}`: "", "[1": "", `"a`: "", "-": "", "01": ""} {
		_, err := command(t, "call", "Echo.Say", "--arg", text)
		if got := hintFor(err); exitCode(err) != exitUsage || !strings.HasSuffix(got, want) || want == "" && got != "" {
			t.Errorf("--arg %q: %v, hint %q; want %q", text, err, got, want)
		}
	}
}

// TestCallTakesOneRoundTrip counts what a call costs the daemon: only words that can mean several things cost a question.
func TestCallTakesOneRoundTrip(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	for _, test := range []struct {
		words string
		calls int64
	}{
		{"hello", 1}, {"Echo.Say hello", 1}, {"Echo.Say --text a=b", 1}, {"Trial.Parcel age:=36", 1}, {"Trial.Parcel --arg {}", 1},
		{"Trial.Parcel age=36", 2}, {"Echo.Say a=b", 2},
	} {
		before := s.server.meter.calls.Load()
		_, err := command(t, append([]string{"call", "-e", s.endpoints[0].String()}, strings.Fields(test.words)...)...)
		if got := s.server.meter.calls.Load() - before; got != test.calls || err != nil {
			t.Errorf("call %s: the daemon was called %d times, %v; want %d", test.words, got, err, test.calls)
		}
	}
}

// TestCallSaysWhoseLimitItIs has a result that is too long for the client, and an argument that is too long for the daemon.
func TestCallSaysWhoseLimitItIs(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 8 << 10 }, localEndpoint(t))
	for _, proto := range []string{"jsonrpc", "gob"} {
		e := s.endpoints[0].String() + "?proto=" + proto
		_, err := command(t, "call", "-e", e, "--set", "limits.max_message=2KiB", "Trial.Big", "--arg", "4000")
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "limit max_message = 2048") || !strings.Contains(hintFor(err), "the client's own limit: --set limits.max_message=") {
			t.Errorf("over %s, a result that is too long: %v, hint %q", proto, err, hintFor(err))
		}
		_, err = command(t, "call", "-e", e, "Echo.Say", strings.Repeat("x", 9<<10))
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "limit max_message = 8192") || !strings.Contains(hintFor(err), "in the daemon's configuration") {
			t.Errorf("over %s, an argument that is too long: %v, hint %q", proto, err, hintFor(err))
		}
	}
}

// TestTypedJSONHasAnEncoding has JSON as editors and shells of Windows write it, by each way to give it.
func TestTypedJSONHasAnEncoding(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	file := filepath.Join(t.TempDir(), "arg.json")
	text := `{"name":"Zo\u00eb","age":36}`
	wide := func(order binary.AppendByteOrder, text string) (b []byte) {
		for _, c := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, c)
		}
		return b
	}
	for name, test := range map[string]struct {
		text  []byte
		wrong string
	}{
		"UTF-8 with a byte order mark":     {[]byte("\ufeff " + text + "\r\n"), ""},
		"UTF-16LE with a byte order mark":  {wide(binary.LittleEndian, "\ufeff"+text), "is UTF-16; expected UTF-8"},
		"UTF-16BE with a byte order mark":  {wide(binary.BigEndian, "\ufeff"+text), "is UTF-16; expected UTF-8"},
		"UTF-16LE":                         {wide(binary.LittleEndian, text), "is UTF-16; expected UTF-8"},
		"a byte order mark and nothing":    {[]byte("\ufeff"), "is empty"},
		"a byte order mark between tokens": {[]byte("{\ufeff}"), "unexpected"},
	} {
		must(t, os.WriteFile(file, test.text, 0o600))
		ways := map[string][]string{"@FILE": {"@" + file}, "-": {"-"}, "--arg": {"--arg", string(test.text)}}
		if !utf8.Valid(test.text) || bytes.IndexByte(test.text, 0) >= 0 {
			delete(ways, "--arg") // which no shell can give
		}
		for way, words := range ways {
			cmd := exec.Command("ipcd", append([]string{"call", "-e", s.endpoints[0].String(), "Trial.Parcel"}, words...)...)
			cmd.Stdin = bytes.NewReader(test.text)
			out, _ := cmd.CombinedOutput()
			switch code := cmd.ProcessState.ExitCode(); {
			case test.wrong == "" && (code != exitDone || !strings.Contains(string(out), `"age":36`)):
				t.Errorf("%s by %s: exit code %d, %s", name, way, code, out)
			case test.wrong != "" && (code != exitUsage || !strings.Contains(string(out), test.wrong)):
				t.Errorf("%s by %s: exit code %d, %s; want %d and that it %s", name, way, code, out, exitUsage, test.wrong)
			}
		}
	}
	f := seedFlags{reply: "\ufeff\"thanks\""}
	if err := f.check(defaultLimits()); err != nil || f.reply != `"thanks"` {
		t.Errorf("--reply with a byte order mark: %q, %v", f.reply, err)
	}
}

// With --wait, a call that a daemon refuses because it stops goes to the next one.
func TestCallWaitsForTheNextDaemon(t *testing.T) {
	var asked atomic.Int32
	e := startStranger(t, func(conn net.Conn) {
		for requests := json.NewDecoder(conn); ; {
			var r struct {
				ID     json.RawMessage `json:"id"`
				Method string          `json:"method"`
			}
			if requests.Decode(&r) != nil {
				return
			}
			answer := map[string]any{"jsonrpc": "2.0", "id": r.ID}
			switch {
			case r.Method != "Echo.Say":
				answer["error"] = &fault{Code: codeNoMethod, Text: "there is no method " + r.Method}
			case asked.Add(1) == 1:
				answer["error"] = errShuttingDown
			default:
				answer["result"] = "hello"
			}
			if json.NewEncoder(conn).Encode(answer) != nil {
				return
			}
		}
	})
	out, err := exec.Command("ipcd", "call", "-e", e.String(), "--wait", "20s", "hello").CombinedOutput()
	if err != nil || string(out) != "hello\n" || asked.Load() != 2 {
		t.Errorf("it ends with %v after %d calls, and says %q", err, asked.Load(), out)
	}
}

// With --wait, too, a call that somebody works on has --timeout, and no more.
func TestTimeoutIsNotWait(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	cmd := exec.Command("ipcd", "call", "-e", s.endpoints[0].String(), "--wait", "1h", "--timeout", "50ms", "Trial.Block", "--text", "a")
	if said := failing(t, cmd); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(said, "the deadline of the call has passed") {
		t.Errorf("it ends with %v, and says %q; want %d and that the deadline has passed", cmd.ProcessState, said, exitFailed)
	}
}
