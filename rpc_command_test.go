package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func init() {
	testPrograms["probe"] = probe
	testPrograms["Words"] = func() { // is a method by its own name
		os.Args = []string{"probe", "words"}
		probe()
	}
}

// probe is a program that is served as a method; its first argument says what it does.
func probe() {
	switch os.Args[1] {
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
	case "args":
		fmt.Println(strings.Join(os.Args[2:], "|"))
	case "fail":
		fmt.Fprint(os.Stderr, strings.Repeat("long ago\n", 1000), "no paper\n")
		os.Exit(7)
	case "flood":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("a", 32<<10)); err != nil {
				return
			}
		}
	case "meet": // until the other end of a connection closes it
		if conn, err := net.Dial("unix", os.Args[2]); err == nil {
			io.Copy(io.Discard, conn)
		}
	case "wait": // the same, at the address on its standard input
		address, err := io.ReadAll(os.Stdin)
		if err == nil {
			err = waitAt(context.Background(), string(address))
		}
		complain(os.Stderr, err)
	case "words": // each on a line
		text, err := io.ReadAll(os.Stdin)
		complain(os.Stderr, err)
		for _, word := range strings.Fields(string(text)) {
			fmt.Println(word)
		}
	case "pour": // lines, connected to the address on its standard input
		address, err := io.ReadAll(os.Stdin)
		if err == nil {
			_, err = trio{}.Pour(context.Background(), string(address), func(n int) error {
				_, err := fmt.Println(n)
				return err
			})
		}
		complain(os.Stderr, err)
	case "meter": // long lines, each of which it has told the address on its standard input of
		address, err := io.ReadAll(os.Stdin)
		var conn net.Conn
		if err == nil {
			conn, err = net.Dial("tcp", string(address))
		}
		for line := strings.Repeat("a", 4<<10); err == nil; {
			if _, err = conn.Write([]byte{'.'}); err == nil {
				_, err = fmt.Println(line)
			}
		}
		complain(os.Stderr, err)
	case "deaf": // to its standard input
		fmt.Println("done")
	case "leave": // behind what holds its output open
		heir := exec.Command("probe", "block")
		heir.Stdout, heir.Stderr = os.Stdout, os.Stderr
		complain(os.Stderr, heir.Start())
		fmt.Println("done")
	case "latin":
		os.Stdout.Write([]byte{0xe4})
	case "block":
		<-time.After(testPatience)
	}
}

// What a program gets of an argument, and what its caller gets of it.
func TestCommandIsAMethod(t *testing.T) {
	t.Parallel() // it waits, most of the time
	l := defaultLimits()
	l.MaxMessage = 64 << 10
	for _, row := range []struct {
		do, arg string
		spec    commandSpec
		want    any
		code    int
		says    string
	}{
		{"cat", `"a \u00e4\n"`, commandSpec{}, "a ä", 0, ""},
		{"cat", `"a\r\n\n"`, commandSpec{}, "a\r\n", 0, ""},
		{"cat", `{"z":1e400, "a":[]}`, commandSpec{}, `{"z":1e400, "a":[]}`, 0, ""},
		{"cat", ``, commandSpec{}, "", 0, ""},
		{"cat", `{"z":1e400}`, commandSpec{asJSON: true}, document(`{"z":1e400}`), 0, ""},
		{"cat", `"no json"`, commandSpec{asJSON: true}, nil, codeApplication, "is not JSON"},
		{"cat", ``, commandSpec{asJSON: true}, nil, codeApplication, "is not JSON"},
		{"args", `{"name":"two words","n":1.50,"on":true,"off":false,"none":null,"list":[1, "a"],"x":"--y"}`, commandSpec{asArgs: true}, `--name=two words|--n=1.50|--on|--list=[1, "a"]|--x=--y`, 0, ""},
		{"args", ``, commandSpec{asArgs: true}, "", 0, ""},
		{"args", `null`, commandSpec{asArgs: true}, "", 0, ""},
		{"args", `"text"`, commandSpec{asArgs: true}, nil, codeBadArgument, "expected an object"},
		{"args", `{"-rf":1}`, commandSpec{asArgs: true}, nil, codeBadArgument, `"-rf" cannot be an argument`},
		{"args", `{"a b":1}`, commandSpec{asArgs: true}, nil, codeBadArgument, "cannot be an argument"},
		{"args", `{"a":"\u0000"}`, commandSpec{asArgs: true}, nil, codeBadArgument, "zero byte"},
		{"fail", ``, commandSpec{}, nil, 7, "exit status 7: no paper"},
		{"flood", ``, commandSpec{}, nil, codeApplication, "too long (limit max_message = 65536)"},
		{"block", ``, commandSpec{timeout: time.Millisecond}, nil, codeApplication, "longer than 1ms (--timeout)"},
		{"deaf", `"` + strings.Repeat("a", 1<<20) + `"`, commandSpec{}, "done", 0, ""},
		{"leave", ``, commandSpec{}, "done", 0, ""},
		{"latin", ``, commandSpec{}, nil, codeApplication, "not UTF-8"},
		{"cat", `"a\nb\r\n\nc"`, commandSpec{lines: true}, 4, 0, ""},
		{"cat", ``, commandSpec{lines: true}, 0, 0, ""},
		{"cat", `"1\n\n{\"a\":1e400}\r\n"`, commandSpec{lines: true, asJSON: true}, 2, 0, ""},
		{"cat", `"1\nno"`, commandSpec{lines: true, asJSON: true}, nil, codeApplication, "line 2 of the output of probe is not JSON"},
		{"latin", ``, commandSpec{lines: true}, nil, codeApplication, "line 1 of the output of probe is not UTF-8"},
		{"fail", ``, commandSpec{lines: true}, nil, 7, "exit status 7: no paper"},
		{"flood", ``, commandSpec{lines: true}, nil, codeApplication, "a line of the output of probe is too long (limit max_message = 65536)"},
		{"block", ``, commandSpec{lines: true, timeout: time.Millisecond}, nil, codeApplication, "longer than 1ms (--timeout)"},
		{"leave", ``, commandSpec{lines: true}, 1, 0, ""},
	} {
		row.spec.command, row.spec.limits = []string{"probe", row.do}, l
		m := row.spec.method(Description{Method: "Test.Probe"})
		arg := document(row.arg)
		got, f := m.run(t.Context(), &arg, func(_ string, value any, _ []byte) { t.Errorf("it panicked: %v", value) })
		if row.code != 0 {
			checkCode(t, row.do+" of "+row.arg, asError(f), row.code, row.says)
		} else if f != nil || fmt.Sprintf("%T %[1]s", got) != fmt.Sprintf("%T %[1]s", row.want) {
			t.Errorf("%s of %s = %#v, %v; want %#v", row.do, row.arg, got, f, row.want)
		}
		if row.do == "fail" {
			var data struct{ Stderr string }
			must(t, decodeBody(bytes.Replace(f.Data, []byte("stderr"), []byte("Stderr"), 1), &data))
			if len(data.Stderr) != stderrKept || !strings.HasSuffix(data.Stderr, "no paper\n") {
				t.Errorf("the data has %d bytes of standard error, ending in %q; want %d", len(data.Stderr), data.Stderr[max(0, len(data.Stderr)-20):], stderrKept)
			}
		}
	}
}

func asError(f *fault) error {
	if f == nil {
		return nil
	}
	return f
}

// A program ends with its call.
func TestCommandEndsWithItsCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	spec := commandSpec{command: []string{"probe", "block"}, limits: defaultLimits()}
	ended := make(chan error, 1)
	go func() {
		_, err := spec.run(ctx, nil)
		ended <- err
	}()
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was cancelled ends with %v", err)
	}
}
