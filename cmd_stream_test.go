package main

// This file owns calls with --stream: what they print, what ends them, and who hears of it.

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestStreamPrintsPartsAndThenTheResult(t *testing.T) {
	p := provide(t, localEndpoint(t))
	e := p.endpoints[0].String()
	for _, test := range []struct {
		args        string
		want, wrong string
		code        int
	}{
		{args: "Far.Count --arg 3", want: "3\n"},
		{args: "--stream Far.Count --arg 3", want: "0\n1\n2\n3\n"},
		{args: "--stream --json Far.Count --arg 2", want: "{\"part\":0}\n{\"part\":1}\n{\"result\":1}\n"},
		{args: "--stream -e " + e + "?proto=http Far.Count --arg 3", want: "0\n1\n2\n3\n"},
		{args: "--stream -e " + e + "?proto=http --timeout 50ms Far.Block a", wrong: "the deadline of the call has passed", code: exitFailed},
		{args: "--stream Echo.Say hello", want: "\"hello\"\n"}, // which has no parts
		{args: "--stream Far.Fail --arg 7", wrong: "ipcd: error: no paper (code 7)\n", code: exitFailed},
		{args: "--stream --json Far.Fail --arg 7", wrong: `{"error":{"code":7,`, code: exitFailed},
		{args: "--stream --timeout 50ms Far.Block a", wrong: "the deadline of the call has passed", code: exitFailed},
		{args: "--stream Far.Nothing", wrong: "there is no method Far.Nothing", code: exitFailed},
		{args: "--stream -e " + e + "?proto=gob Far.Count --arg 3", wrong: "its protocol has none", code: exitUsage},
		{args: "--stream -e " + e + "?proto=echo hello", wrong: "its protocol has none", code: exitUsage},
	} {
		cmd := exec.Command("ipcd", append([]string{"call"}, strings.Fields(test.args)...)...)
		cmd.Env = append(os.Environ(), "IPCD_ENDPOINT="+e)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); stdout.String() != test.want || !strings.Contains(stderr.String(), test.wrong) || code != test.code {
			t.Errorf("call %s prints %q and %q, exit code %d; want %q, %q and %d", test.args, &stdout, &stderr, code, test.want, test.wrong, test.code)
		}
	}
}

// Whoever reads the parts may have had enough, whether more come or not, and the command may be killed.
func TestStreamEndsWithItsReader(t *testing.T) {
	p := provide(t, localEndpoint(t))
	for _, test := range []struct {
		args   string
		lines  int
		killed bool
	}{
		{"?proto=jsonrpc Far.Flood", 1, false},
		{"?proto=jsonrpc Far.Block a", 0, false},
		{"?proto=http Far.Flood", 1, false},
		{"?proto=http Far.Block a", 0, false},
		{"?proto=jsonrpc Far.Flood", 1, true},
		{"?proto=jsonrpc Far.Block a", 0, true},
		{"?proto=http Far.Flood", 1, true},
		{"?proto=http Far.Block a", 0, true},
	} {
		cmd := exec.Command("ipcd", append([]string{"call", "--stream", "-e"}, strings.Fields(p.endpoints[0].String()+test.args)...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if test.lines == 0 {
			receive(t, p.far.entered)
		}
		lines := bufio.NewReader(out)
		for range test.lines {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if test.killed {
			must(t, cmd.Process.Kill())
		} else {
			out.Close()
		}
		if err := receive(t, p.far.left); err == nil {
			t.Errorf("%s was not told to stop", test.args)
		}
		if err := cmd.Wait(); (err != nil) != test.killed || stderr.Len() > 0 {
			t.Errorf("%s ends with %v, %q; want a silent end", test.args, err, &stderr)
		}
	}
}

func TestProgressIsAShareAndAText(t *testing.T) {
	for value, want := range map[string]string{
		`{"progress":0.4,"message":"half\u001b[2J\n way"}`: ` 40% half\u001b[2J\u000a way`,
		`{"progress":1}`:                            "100% ",
		`{"progress":0.999}`:                        " 99% ",
		`{"progress":0}`:                            "  0% ",
		`{"progress":1.1}`:                          "",
		`{"progress":-1}`:                           "",
		`{"progress":null}`:                         "",
		`{"progress":"0.4"}`:                        "",
		`{"progress":0.4,"message":1}`:              "",
		`{"progress":0.4,"file":"a"}`:               "",
		`{"progress":0.4,"message":"a","file":"a"}`: "",
		`{"Progress":0.4}`:                          "",
		`{"message":"a"}`:                           "",
		`[]`:                                        "",
		`null`:                                      "",
	} {
		got, ok := progressText(document(value))
		if got != want || ok != (want != "") {
			t.Errorf("of %s the progress is %q, %v; want %q", value, got, ok, want)
		}
	}
}
