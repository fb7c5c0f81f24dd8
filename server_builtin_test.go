package main

// This file owns the figures of Ipcd.Status, and what docs/protocol.md says of what the service Ipcd answers.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestStatusAddsUp sends calls that end well, calls that do not, and messages that begin none. Each counts once.
func TestStatusAddsUp(t *testing.T) {
	line := func(method, rest string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":[%s}`+"\n", method, rest)
	}
	const good = `"a"]`
	tests := []struct {
		name, send              string
		calls, errors, rejected int64
	}{
		{"a call", line("Echo.Say", good), 1, 0, 0},
		{"a notification", `{"jsonrpc":"2.0","method":"Echo.Say","params":["a"]}`, 1, 0, 0},
		{"an error of the method", line("Trial.Fail", good), 1, 1, 0},
		{"a notification that fails", `{"jsonrpc":"2.0","method":"Trial.Fail","params":["a"]}`, 1, 1, 0},
		{"a panic", line("Trial.Panic", good), 1, 1, 0},
		{"a result without an encoding", line("Trial.Unencodable", "]"), 1, 1, 0},
		{"a deadline", line("Trial.Block", `"a"],"timeout":1`), 1, 1, 0},
		{"a deadline, and a method that goes on", line("Trial.Deaf", `"a"],"timeout":1`), 1, 1, 0},
		{"a cancelled call", line("Trial.Block", good) + `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`, 1, 1, 0},
		{"no such method", line("Echo.Sai", good), 0, 0, 1},
		{"a wrong argument", line("Echo.Say", "1]"), 0, 0, 1},
		{"no request", `{"jsonrpc":"2.0","id":1}`, 0, 0, 1},
		{"a batch", "[" + line("Echo.Say", good) + "," + line("Trial.Fail", good) + "," + line("Echo.Sai", good) + "]", 2, 1, 1},
		{"an empty batch", "[]", 0, 0, 1},
		{"a syntax error", line("Echo.Say", good) + "}", 1, 0, 1},
		{"JSON-RPC by POST", postText("/rpc", "", line("Echo.Say", good)+line("Trial.Fail", good)+line("Echo.Sai", good)), 2, 1, 1},
		{"a bare call", postText("/call/Echo.Say", "", `"a"`), 1, 0, 0},
		{"a bare call that fails", postText("/call/Trial.Fail", "", `"a"`), 1, 1, 0},
		{"a bare call of no method", postText("/call/Echo.Sai", "", `"a"`), 0, 0, 1},
		{"a bare call without JSON", postText("/call/Echo.Say", "", `{]`), 0, 0, 1},
		{"a POST of nothing", postText("/rpc", "", ""), 0, 0, 1},
		{"a page of another site", postText("/rpc", "Origin: http://example.com\r\n", line("Echo.Say", good)), 0, 0, 1},
		{"no such path", "GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\n\r\n", 0, 0, 1},
		{"a health check", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 0, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, "tcp://127.0.0.1:0?auth=none")
			conn := s.connect()
			send(t, conn, test.send)
			must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
			answers := bufio.NewReader(conn)
			answers.ReadString('\n')
			s.freeAll() // for the method that goes on behind its answer
			io.Copy(io.Discard, answers)
			s.idle()
			if c, e, r := s.meter.calls.Load(), s.meter.errors.Load(), s.meter.rejected.Load(); c != test.calls || e != test.errors || r != test.rejected {
				t.Errorf("%d calls, %d of them errors, %d rejected; want %d, %d and %d", c, e, r, test.calls, test.errors, test.rejected)
			}
		})
	}
}

// TestProtocolHasEveryMember wants docs/protocol.md to name each member of Ipcd.Status, and of what the methods for workers
// take and answer, and each method.
func TestProtocolHasEveryMember(t *testing.T) {
	page, err := os.ReadFile("docs/protocol.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "\n## 11. ")
	section, _, _ = strings.Cut(section, "\n## ")
	want := func(name, of string) {
		t.Helper()
		if !strings.Contains(section, "`"+name+"`") && !strings.Contains(section, `"`+name+`"`) && !strings.Contains(section, "`Ipcd."+name) {
			t.Errorf("docs/protocol.md, section 11, does not have %s of %s", name, of)
		}
	}
	for _, of := range []reflect.Type{reflect.TypeFor[Status](), reflect.TypeFor[WorkerStatus](), reflect.TypeFor[ProcessStatus](), reflect.TypeFor[WorkerLogQuery](),
		reflect.TypeFor[WorkerLogAnswer](), reflect.TypeFor[WorkerLine]()} {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			want(name, of.Name())
		}
	}
	for of, i := reflect.TypeFor[*Ipcd](), 0; i < of.NumMethod(); i++ {
		want(of.Method(i).Name, "Ipcd")
	}
}
