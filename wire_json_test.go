package main

// This file owns what JSON-RPC looks like on the wire, by the examples of its specification
// (jsonrpc.org/specification, section 7) and by docs/protocol.md, section 4.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// exchange sends text to the daemon, no more than n bytes a write, and returns what comes back
// until it closes.
func exchange(t testing.TB, s *testServer, text string, n int) string {
	t.Helper()
	conn := rawDial(t, s.endpoints[0])
	go func() {
		for part := range slices.Chunk([]byte(text), n) {
			if _, err := conn.Write(part); err != nil {
				return // it closed after an error; the test looks at that
			}
		}
		conn.(*net.TCPConn).CloseWrite()
	}()
	return readAll(t, conn)
}

// messages takes a stream apart behind each object. White space in front of a message is the end of whichever came before.
func messages(stream string) []string {
	parts := strings.SplitAfter(stream, "}")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// inOrder sorts answers, and those in a batch: they may come in any order.
func inOrder(t testing.TB, answers []string) string {
	t.Helper()
	sorted := slices.Clone(answers)
	for i, answer := range sorted {
		var batch []json.RawMessage
		if !strings.HasPrefix(answer, "[") {
			continue
		}
		if err := json.Unmarshal([]byte(answer), &batch); err != nil {
			t.Errorf("%q is no JSON: %v", answer, err)
		}
		slices.SortFunc(batch, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
		sorted[i] = "[" + string(bytes.Join(rawBytes(batch), []byte(","))) + "]"
	}
	slices.Sort(sorted)
	return strings.Join(sorted, "\n")
}

func rawBytes(list []json.RawMessage) (b [][]byte) {
	for _, raw := range list {
		b = append(b, raw)
	}
	return b
}

func TestJSONRPCExchanges(t *testing.T) {
	const say = `{"jsonrpc":"2.0","id":%s,"method":"Echo.Say","params":["x"]}`
	noRequest := func(kind string) string {
		return `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a request is an object, not ` + kind + `"}}`
	}
	tests := []struct {
		name, send string
		want       []string // a line each
	}{
		// The specification's own.
		{"a notification", `{"jsonrpc": "2.0", "method": "Echo.Say", "params": ["x"]}`, nil},
		{"a notification of what is not there", `{"jsonrpc": "2.0", "method": "foobar"}`, nil},
		{"no such method", `{"jsonrpc": "2.0", "method": "foobar", "id": "1"}`,
			[]string{`{"jsonrpc":"2.0","id":"1","error":{"code":-32601,"message":"there is no method foobar"}}`}},
		{"invalid JSON", `{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]`,
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 39: unexpected 'p', expected a comma or the end"}}`}},
		{"an invalid request", `{"jsonrpc": "2.0", "method": 1, "params": "bar"}`,
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the method is a number; expected a string"}}`}},
		{"a batch of invalid JSON", `[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]`,
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 94: unexpected ']', expected a colon"}}`}},
		{"an empty batch", `[]`, []string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a batch without requests"}}`}},
		{"a batch of one that is invalid", `[1]`,
			[]string{`[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a request is an object, not a number"}}]`}},
		{"a batch of some that are invalid", `[1,"2"]`,
			[]string{`[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a request is an object, not a number"}},{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a request is an object, not a string"}}]`}},
		{"a batch", `[` + fmt.Sprintf(say, "1") + `,{"jsonrpc":"2.0","method":"Echo.Say","params":["x"]},{"foo":"boo"},{"jsonrpc":"2.0","method":"foo.get","params":{"name":"myself"},"id":"5"}]`,
			[]string{`[{"jsonrpc":"2.0","id":1,"result":"x"},{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request has no method"}},{"jsonrpc":"2.0","id":"5","error":{"code":-32601,"message":"there is no method foo.get"}}]`}},
		{"a batch of notifications", `[{"jsonrpc":"2.0","method":"Echo.Say","params":["x"]},{"jsonrpc":"2.0","method":"no.such"}]`, nil},

		{"values that are no requests", `"ready" 5 null true -1.5e3"a"` + fmt.Sprintf(say, "1") + `[]0`,
			[]string{noRequest("a string"), noRequest("a number"), noRequest("null"), noRequest("a boolean"), noRequest("a number"), noRequest("a string"), `{"jsonrpc":"2.0","id":1,"result":"x"}`,
				`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a batch without requests"}}`, noRequest("a number")}},
		{"byte order marks", "\ufeff" + fmt.Sprintf(say, "1") + " \ufeff\n" + fmt.Sprintf(say, "2") + "\ufeff", []string{`{"jsonrpc":"2.0","id":1,"result":"x"}`, `{"jsonrpc":"2.0","id":2,"result":"x"}`}},
		{"a byte order mark inside", `{` + "\ufeff" + `}`, []string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 1: unexpected '\\ufeff', expected a name in quotes or }"}}`}},
		{"a word that is cut off", fmt.Sprintf(say, "1") + `nul`, []string{`{"jsonrpc":"2.0","id":1,"result":"x"}`}},

		// Ids come back as they came.
		{"ids", fmt.Sprintf(say, `1`) + fmt.Sprintf(say, `-1`) + fmt.Sprintf(say, `1.50`) + fmt.Sprintf(say, `1e3`) + fmt.Sprintf(say, `""`) + fmt.Sprintf(say, `"ä\u00e4"`) +
			fmt.Sprintf(say, `123456789012345678901234567890`) + fmt.Sprintf(say, `null`),
			[]string{`{"jsonrpc":"2.0","id":1,"result":"x"}`, `{"jsonrpc":"2.0","id":-1,"result":"x"}`, `{"jsonrpc":"2.0","id":1.50,"result":"x"}`, `{"jsonrpc":"2.0","id":1e3,"result":"x"}`,
				`{"jsonrpc":"2.0","id":"","result":"x"}`, `{"jsonrpc":"2.0","id":"ä\u00e4","result":"x"}`, `{"jsonrpc":"2.0","id":123456789012345678901234567890,"result":"x"}`, `{"jsonrpc":"2.0","id":null,"result":"x"}`}},
		{"an id that is none", fmt.Sprintf(say, `{}`) + fmt.Sprintf(say, `[1]`) + fmt.Sprintf(say, `true`),
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the id is an object; expected a string, a number or null"}}`,
				`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the id is an array; expected a string, a number or null"}}`,
				`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the id is a boolean; expected a string, a number or null"}}`}},

		// Version 1.0.
		{"version 1.0", `{"method":"Echo.Say","params":["x"],"id":0}{"method":"Echo.Sai","params":["x"],"id":1}{"method":"Echo.Say","params":["x"],"id":null}`,
			[]string{`{"id":0,"result":"x","error":null}`, `{"id":1,"result":null,"error":"there is no method Echo.Sai (code -32601)"}`}},
		{"version 1.0 by name", `{"jsonrpc":"1.0","method":"Echo.Say","params":["x"],"id":"curltest"}{"jsonrpc":"1.0","method":"Echo.Sai","params":["x"],"id":1}{"jsonrpc":"1.0","method":"Echo.Say","params":["x"],"id":null}`,
			[]string{`{"id":"curltest","result":"x","error":null}`, `{"id":1,"result":null,"error":{"code":-32601,"message":"there is no method Echo.Sai","data":{"near":"Echo.Say"}}}`}},
		{"version 1.0 in a batch", `[{"method":"Echo.Say","params":["x"],"id":0},{"jsonrpc":"1.0","method":"Echo.Sai","id":1},{"method":"Echo.Sai","id":2}]`,
			[]string{`[{"id":0,"result":"x","error":null},{"id":1,"result":null,"error":{"code":-32601,"message":"there is no method Echo.Sai","data":{"near":"Echo.Say"}}},{"id":2,"result":null,"error":"there is no method Echo.Sai (code -32601)"}]`}},
		{"a version in escapes", `{"jsonrpc":"\u0032.0","method":"Echo.Say","params":["x"],"id":0}`, []string{`{"jsonrpc":"2.0","id":0,"result":"x"}`}},
		{"another version", `{"jsonrpc":"3.0","method":"Echo.Say","params":["x"],"id":0}{"jsonrpc":2.0,"method":"Echo.Say","params":["x"],"id":0}{"jsonrpc":"","method":"Echo.Say"}`,
			[]string{`{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"jsonrpc is \"3.0\"; expected \"2.0\""}}`,
				`{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"jsonrpc is 2.0; expected \"2.0\""}}`,
				`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"jsonrpc is \"\"; expected \"2.0\""}}`}},
		{"no version and no method", `{"foo":"boo"}{"params":[1],"id":3}{"method":5,"id":4}`,
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the request has no method"}}`, `{"jsonrpc":"2.0","id":3,"error":{"code":-32600,"message":"the request has no method"}}`,
				`{"id":4,"result":null,"error":"the method is a number; expected a string (code -32600)"}`}},
		// Go's client is dead after a null, and after an object for anything else.
		{"nothing in version 1.0", `{"method":"Trial.NilParcel","id":1}{"method":"Trial.Quiet","params":["x"],"id":2}{"method":"Trial.NilList","id":3}{"method":"Trial.NilMap","id":4}{"method":"Trial.NilText","id":5}{"method":"Trial.Same","params":[null],"id":6}`,
			[]string{`{"id":1,"result":{},"error":null}`, `{"id":2,"result":{},"error":null}`, `{"id":3,"result":[],"error":null}`, `{"id":4,"result":{},"error":null}`,
				`{"id":5,"result":null,"error":"the result of Trial.NilText cannot be encoded: it is null, which clients of JSON-RPC 1.0 do not survive; ask with \"jsonrpc\":\"2.0\" (code -32603)"}`,
				`{"id":6,"result":null,"error":"the result of Trial.Same cannot be encoded: it is null, which clients of JSON-RPC 1.0 do not survive; ask with \"jsonrpc\":\"2.0\" (code -32603)"}`}},
		{"nothing", `{"jsonrpc":"2.0","method":"Trial.NilParcel","id":1}{"jsonrpc":"2.0","method":"Trial.Quiet","params":["x"],"id":2}{"jsonrpc":"2.0","method":"Trial.NilList","id":3}{"jsonrpc":"2.0","method":"Trial.NilMap","id":4}{"jsonrpc":"2.0","method":"Trial.NilText","id":5}`,
			[]string{`{"jsonrpc":"2.0","id":1,"result":null}`, `{"jsonrpc":"2.0","id":2,"result":null}`, `{"jsonrpc":"2.0","id":3,"result":[]}`, `{"jsonrpc":"2.0","id":4,"result":{}}`, `{"jsonrpc":"2.0","id":5,"result":null}`}},
		{"nothing in version 1.0 by name", `{"jsonrpc":"1.0","method":"Trial.NilParcel","id":1}{"jsonrpc":"1.0","method":"Trial.Quiet","params":["x"],"id":2}{"jsonrpc":"1.0","method":"Trial.NilList","id":3}{"jsonrpc":"1.0","method":"Trial.NilText","id":4}`,
			[]string{`{"id":1,"result":null,"error":null}`, `{"id":2,"result":null,"error":null}`, `{"id":3,"result":[],"error":null}`, `{"id":4,"result":null,"error":null}`}},

		// Params.
		{"params", `{"jsonrpc":"2.0","id":1,"method":"Trial.Old","params":{"n":2,"place":40}}{"jsonrpc":"2.0","id":2,"method":"Trial.Old","params":[{"n":2,"place":40}]}{"jsonrpc":"2.0","id":3,"method":"Ipcd.Ping"}{"jsonrpc":"2.0","id":4,"method":"Ipcd.Ping","params":[]}`,
			[]string{`{"jsonrpc":"2.0","id":1,"result":42}`, `{"jsonrpc":"2.0","id":2,"result":42}`, `{"jsonrpc":"2.0","id":3,"result":"pong"}`, `{"jsonrpc":"2.0","id":4,"result":"pong"}`}},
		{"wrong params", `{"jsonrpc":"2.0","id":1,"method":"Echo.Say"}{"jsonrpc":"2.0","id":2,"method":"Echo.Say","params":["a","b"]}{"jsonrpc":"2.0","id":3,"method":"Echo.Say","params":"a"}{"jsonrpc":"2.0","id":4,"method":"Trial.Parcel","params":{"age":"old"}}{"jsonrpc":"2.0","id":5,"method":"Trial.Parcel","params":{"door":{"age":1.5}}}`,
			[]string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"the method takes one argument, and none was given"}}`,
				`{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"params has 2 elements; the method takes one argument"}}`,
				`{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"params is a string; expected an array with the argument, or an object"}}`,
				`{"jsonrpc":"2.0","id":4,"error":{"code":-32602,"message":"the field age of the argument is a string; expected an integer of 64 bits","data":{"field":"age"}}}`,
				`{"jsonrpc":"2.0","id":5,"error":{"code":-32602,"message":"the field door.age of the argument is a number 1.5; expected an integer of 64 bits","data":{"field":"door.age"}}}`}},

		{"integers", `{"jsonrpc":"2.0","id":1,"method":"Trial.Old","params":[{"n":1.0,"place":1e2}]}{"jsonrpc":"2.0","id":2,"method":"Trial.Old","params":[{"n":1.5}]}`,
			[]string{`{"jsonrpc":"2.0","id":1,"result":101}`, `{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"the field n of the argument is a number 1.5; expected an integer of 64 bits","data":{"field":"n"}}}`}},
		{"any number", `{"jsonrpc":"2.0","id":1,"method":"Trial.Same","params":[[9007199254740993,18446744073709551615,-9223372036854775807,18446744073709551617,0.5,1e2,7]]}{"jsonrpc":"2.0","id":2,"method":"Trial.Same","params":{"n":{"m":9007199254740993}}}{"jsonrpc":"2.0","id":3,"method":"Trial.Same"}`,
			[]string{`{"jsonrpc":"2.0","id":1,"result":[9007199254740993,18446744073709551615,-9223372036854775807,18446744073709551617,0.5,100,7]}`, `{"jsonrpc":"2.0","id":2,"result":{"n":{"m":9007199254740993}}}`, `{"jsonrpc":"2.0","id":3,"result":null}`}},
		{"members in another case", `{"jsonrpc":"2.0","id":1,"method":"Trial.Old","params":{"n":1,"N":5,"Place":7}}`, []string{`{"jsonrpc":"2.0","id":1,"result":1}`}},
		{"null where there is none", `{"jsonrpc":"2.0","id":1,"method":"Trial.Parcel","params":[null]}{"jsonrpc":"2.0","id":2,"method":"Trial.Parcel","params":{"door":{"name":null}}}{"jsonrpc":"2.0","id":3,"method":"Trial.Parcel","params":{"tags":["a",null]}}{"jsonrpc":"2.0","id":4,"method":"Trial.Turn","params":[null]}{"jsonrpc":"2.0","id":5,"method":"Trial.Turn","params":null}`,
			[]string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"the argument is null; expected an object"}}`,
				`{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"the field door.name of the argument is null; expected a string","data":{"field":"door.name"}}}`,
				`{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"the field tags[1] of the argument is null; expected a string","data":{"field":"tags[1]"}}}`,
				`{"jsonrpc":"2.0","id":4,"error":{"code":-32602,"message":"the argument is null; expected an object"}}`,
				`{"jsonrpc":"2.0","id":5,"error":{"code":-32602,"message":"the method takes one argument, and none was given"}}`}},
		{"null where there is one", `{"jsonrpc":"2.0","id":1,"method":"Trial.Parcel","params":[{"raw":null,"tags":null,"map":null,"door":null}]}`,
			[]string{`{"jsonrpc":"2.0","id":1,"result":{"name":"","age":0,"raw":null,"tags":null,"map":null}}`}},
		{"bytes that are none", `{"jsonrpc":"2.0","id":1,"method":"Trial.Parcel","params":{"door":{"raw":"?"}}}{"jsonrpc":"2.0","id":2,"method":"Trial.Parcel","params":{"raw":[1]}}`,
			[]string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"the field door.raw of the argument is not as expected: illegal base64 data at input byte 0","data":{"field":"door.raw"}}}`,
				`{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"the field raw of the argument is an array; expected a string in base64","data":{"field":"raw"}}}`}},
		{"params of a method that takes none", `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping","params":["extra"]}{"jsonrpc":"2.0","id":2,"method":"Ipcd.Ping","params":{"a":1}}{"jsonrpc":"2.0","id":3,"method":"Ipcd.Ping","params":{ }}` +
			`{"jsonrpc":"2.0","id":4,"method":"Ipcd.Ping","params":[null]}{"jsonrpc":"2.0","id":5,"method":"Ipcd.Ping","params":[{}]}{"jsonrpc":"2.0","id":6,"method":"Ipcd.Ping","params":null}{"id":7,"method":"Ipcd.Ping","params":["extra"]}`,
			[]string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"the method takes no argument, and was given a string"}}`,
				`{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"the method takes no argument, and was given an object"}}`,
				`{"jsonrpc":"2.0","id":3,"result":"pong"}`, `{"jsonrpc":"2.0","id":4,"result":"pong"}`, `{"jsonrpc":"2.0","id":5,"result":"pong"}`,
				`{"jsonrpc":"2.0","id":6,"result":"pong"}`, `{"id":7,"result":"pong","error":null}`}},
		{"params with a form of their own", `{"jsonrpc":"2.0","id":1,"method":"Trial.Parcel","params":{"name":"a","raw":"?"}}{"jsonrpc":"2.0","id":2,"method":"Trial.Parcel","params":{"door":{"age":1,"door":{"raw":"a"}}}}` +
			`{"jsonrpc":"2.0","id":3,"method":"Trial.Bytes","params":["?"]}`,
			[]string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"the field raw of the argument is not as expected: illegal base64 data at input byte 0","data":{"field":"raw"}}}`,
				`{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"the field door.door.raw of the argument is not as expected: illegal base64 data at input byte 0","data":{"field":"door.door.raw"}}}`,
				`{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"the argument is not as expected: illegal base64 data at input byte 0"}}`}},

		{"a name that is no number", `{"jsonrpc":"2.0","id":1,"method":"Trial.Tally","params":[{"1":2,"a":3}]}`,
			[]string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"the argument has a member \"a\"; expected its name to be an integer of 64 bits"}}`}},

		// Strictness.
		{"a member twice", `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["x"],"id":2}`,
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 59: the member \"id\" is there twice"}}`}},
		{"no UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Echo.Say\",\"params\":[\"\xff\"]}",
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 55: a string that is not UTF-8"}}`}},
		{"too deep", `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":` + strings.Repeat("[", 100),
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"the JSON is nested too deeply (limit max_depth = 64)","data":{"limit":"max_depth","max":64}}}`}},
		{"a batch as large as is allowed", "[" + strings.Repeat(fmt.Sprintf(say, "1")+",", 99) + fmt.Sprintf(say, "2") + "]",
			[]string{"[" + strings.Repeat(`{"jsonrpc":"2.0","id":1,"result":"x"},`, 99) + `{"jsonrpc":"2.0","id":2,"result":"x"}]`}},
		{"a batch that is too large", `[` + strings.Repeat(`{},`, 100) + `{}]` + fmt.Sprintf(say, "1"),
			[]string{`{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"a batch of 101 requests (limit max_batch = 100)","data":{"limit":"max_batch","max":100}}}`, `{"jsonrpc":"2.0","id":1,"result":"x"}`}},
		{"a response that nobody asked for", `{"jsonrpc":"2.0","id":1,"result":"x"}` + fmt.Sprintf(say, "1"), []string{`{"jsonrpc":"2.0","id":1,"result":"x"}`}},
		{"a cancellation of nothing", `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":9}}{"jsonrpc":"2.0","method":"$/cancelRequest"}` + fmt.Sprintf(say, "1"), []string{`{"jsonrpc":"2.0","id":1,"result":"x"}`}},
		{"requests about messages", `{"jsonrpc":"2.0","id":5,"method":"$/cancelRequest","params":{"id":9}}{"id":6,"method":"$/progress"}{"jsonrpc":"2.0","id":7,"method":"$/cancelRequest","params":[1,2]}` +
			`{"jsonrpc":"2.0","id":8,"method":"$/foo"}{"jsonrpc":"2.0","method":"$/cancelRequest","params":5}[{"jsonrpc":"2.0","id":9,"method":"$/cancelRequest"},{"jsonrpc":"2.0","method":"$/foo"}]`,
			[]string{`{"jsonrpc":"2.0","id":5,"result":null}`, `{"id":6,"result":{},"error":null}`, `{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"params has 2 elements; the method takes one argument"}}`,
				`{"jsonrpc":"2.0","id":8,"error":{"code":-32601,"message":"there is no method $/foo"}}`, `[{"jsonrpc":"2.0","id":9,"result":null}]`}},
		{"members that are unknown", `{"id":1,"trace":{"a":[1]},"params":["x"],"method":"Echo.Say","jsonrpc":"2.0"}`, []string{`{"jsonrpc":"2.0","id":1,"result":"x"}`}},
		{"an escaped name", `{"\u0069d":1,"params":["x"],"method":"Echo\u002eSay","jsonrpc":"2.0"}`, []string{`{"jsonrpc":"2.0","id":1,"result":"x"}`}},
	}
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	for _, test := range tests {
		for _, n := range []int{len(test.send), 7, 1} {
			got := inOrder(t, strings.Split(strings.TrimSuffix(exchange(t, s, test.send, n), "\n"), "\n"))
			if want := inOrder(t, test.want); got != want {
				t.Errorf("%s, in pieces of %d: got\n%s\nwant\n%s", test.name, n, got, want)
			}
		}
	}
}

// With headers the messages are framed, and one that is wrong does not end the connection.
func TestJSONRPCHeaders(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	head := func(text string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text) }
	answer := func(id int) string { return head(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":"x"}`, id)) }
	say := func(id int) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Echo.Say","params":["x"]}`, id)
	}
	deep := func(id string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32001,"message":"the JSON is nested too deeply (limit max_depth = 64)","data":{"limit":"max_depth","max":64}}}`
	}
	tests := []struct{ name, send, want string }{
		{"two", head(say(1)) + head(say(2)), answer(1) + answer(2)},
		{"any case, and a type", "CONTENT-type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-LENGTH:  " + fmt.Sprint(len(say(1))) + "\r\n\r\n" + say(1), answer(1)},
		{"white space around", head("  " + say(1) + "\n"), answer(1)},
		{"LF alone", strings.ReplaceAll("Content-Type: x\r\n"+head(say(1))+head(say(2)), "\r\n", "\n"), answer(1) + answer(2)},
		{"byte order marks", "\ufeff" + head("\ufeff"+say(1)) + "\ufeff" + head(say(2)), answer(1) + answer(2)},
		{"one that is wrong", head(`{"jsonrpc":"2.0",}`) + head(say(2)),
			head(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 17: unexpected '}', expected a name in quotes"}}`) + answer(2)},
		{"one that ends too early", head(`{`) + head(say(2)),
			head(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 1: the JSON ends too early"}}`) + answer(2)},
		{"two in one", head(say(1)+say(2)) + head(say(3)),
			head(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON: at byte 59: more than one value"}}`) + answer(3)},
		{"a number", head(`1`) + head(say(2)),
			head(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a request is an object, not a number"}}`) + answer(2)},
		{"too deep", head(strings.Repeat("[", 70)) + head(`{"jsonrpc":"2.0","method":"Echo.Say","params":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`,"id":"deep"}`) + head(say(2)),
			head(deep("null")) + head(deep(`"deep"`)) + answer(2)},
		{"a value behind a message", head(say(1)) + say(2), answer(1) +
			head(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"\"{\" does not begin a header"}}`)},
		{"no length", "Content-Type: x\r\n\r\n",
			head(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the headers have no Content-Length"}}`)},
	}
	for _, test := range tests {
		for _, n := range []int{len(test.send), 1} {
			got := inOrder(t, messages(exchange(t, s, test.send, n)))
			if want := inOrder(t, messages(test.want)); got != want {
				t.Errorf("%s, in pieces of %d: got\n%q\nwant\n%q", test.name, n, got, want)
			}
		}
	}
}

// A message of as many bytes as are allowed is taken. One more, and it is refused with its id, wherever that stands; what
// follows is served.
func TestJSONRPCLimitOfAMessage(t *testing.T) {
	const most = 8 << 10
	s := startServerWith(t, func(l *limits) { l.MaxMessage = most }, mustParse(t, "tcp://127.0.0.1:0?auth=none"))
	fill := func(before, after string, size int) string {
		return before + strings.Repeat("x", size-len(before)-len(after)) + after
	}
	const idFirst, idLast = `{"jsonrpc":"2.0","id":"é","method":"Echo.Say","params":["`, `{"jsonrpc":"2.0","method":"Echo.Say","params":["`
	const refusal = `{"jsonrpc":"2.0","id":%s,"error":{"code":-32001,"message":"%s (limit max_message = 8192)","data":{"limit":"max_message","max":8192}}}`
	head := func(text string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text) }
	next := strings.TrimSuffix(sayAnswer, "\n")
	taken := func(id, before, after string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":"%s"}`, id, strings.Repeat("x", most-len(before)-len(after)))
	}
	var many strings.Builder
	for i := range most {
		fmt.Fprintf(&many, `"x%d":[0],`, i)
	}
	first, last := fill(idFirst, `"]}`, most), fill(idLast, `"],"id":7}`, most)
	tests := []struct{ name, send, want string }{
		{"whole", first + sayRequest, taken(`"é"`, idFirst, `"]}`) + "\n" + next + "\n"},
		{"whole, its id last", last + sayRequest, taken(`7`, idLast, `"],"id":7}`) + "\n" + next + "\n"},
		{"one more", fill(idFirst, `"]}`, most+1) + sayRequest, fmt.Sprintf(refusal, `"é"`, "the message is too long") + "\n" + next + "\n"},
		{"many more", fill(idFirst, `"]}`, 40*most) + sayRequest, fmt.Sprintf(refusal, `"é"`, "the message is too long") + "\n" + next + "\n"},
		{"many more, the id last", fill(idLast, `"],"id":7}`, 40*most) + sayRequest, fmt.Sprintf(refusal, `7`, "the message is too long") + "\n" + next + "\n"},
		{"the id between", fill(`{"a":[{"id":1}],"params":["`, `"], "\u0069d" : "b" ,"jsonrpc":"2.0","method":"Echo.Say"}`, 40*most) + sayRequest, fmt.Sprintf(refusal, `"b"`, "the message is too long") + "\n" + next + "\n"},
		{"behind many members", `{"method":"Echo.Say",` + many.String() + `"jsonrpc":"2.0","id":8}` + sayRequest, fmt.Sprintf(refusal, `8`, "the message is too long") + "\n" + next + "\n"},
		{"an id that is too long itself", fill(`{"jsonrpc":"2.0","method":"Echo.Say","id":"`, `"}`, 40*most) + sayRequest, fmt.Sprintf(refusal, `null`, "the message is too long") + "\n" + next + "\n"},
		{"version 1.0, the id last", fill(`{"method":"Echo.Say","params":["`, `"],"id":7}`, 40*most) + sayRequest,
			`{"id":7,"result":null,"error":"the message is too long (limit max_message = 8192) (code -32001)"}` + "\n" + next + "\n"},
		{"version 1.0 by name, the id last", fill(`{"jsonrpc":"1.0","method":"Echo.Say","params":["`, `"],"id":7}`, 40*most) + sayRequest,
			`{"id":7,"result":null,"error":{"code":-32001,"message":"the message is too long (limit max_message = 8192)","data":{"limit":"max_message","max":8192}}}` + "\n" + next + "\n"},
		{"too deep as well", fill(`{"jsonrpc":"2.0","method":"Echo.Say","x":"`, `","params":`, 2*most) + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"id":7}` + sayRequest,
			fmt.Sprintf(refusal, `7`, "the message is too long") + "\n" + next + "\n"},
		{"much too deep as well", fill(`{"jsonrpc":"2.0","method":"Echo.Say","x":"`, `","params":`, 2*most) + strings.Repeat("[", skimDepth) + sayRequest,
			fmt.Sprintf(refusal, `null`, "the message is too long") + "\n"},
		{"a notification", fill(idLast, `"]}`, 40*most) + sayRequest, next + "\n"},
		{"a response", fill(`{"jsonrpc":"2.0","result":"`, `","id":7}`, 40*most) + sayRequest, next + "\n"},
		{"a batch", "[" + fill(idFirst, `"]}`, most) + "]" + sayRequest, fmt.Sprintf(refusal, `null`, "the message is too long") + "\n" + next + "\n"},
		{"headers", head(first) + head(sayRequest), head(taken(`"é"`, idFirst, `"]}`)) + head(next)},
		{"headers, one more", head(fill(idFirst, `"]}`, most+1)) + head(sayRequest), head(fmt.Sprintf(refusal, `"é"`, "the message has 8193 bytes")) + head(next)},
		{"headers, the id last", head(fill(idLast, `"],"id":7}`, 40*most)) + head(sayRequest), head(fmt.Sprintf(refusal, `7`, "the message has 327680 bytes")) + head(next)},
		{"headers, a notification", head(fill(idLast, `"]}`, 40*most)) + head(sayRequest), head(next)},
		{"headers, no JSON", head(fill(`{"id":7,`, `nonsense`, 40*most)) + head(sayRequest), head(fmt.Sprintf(refusal, `7`, "the message has 327680 bytes")) + head(next)},
	}
	for _, test := range tests {
		for _, n := range []int{len(test.send), 1000} {
			got := inOrder(t, messages(exchange(t, s, test.send, n)))
			if want := inOrder(t, messages(test.want)); got != want {
				t.Errorf("%s, in pieces of %d: got\n%s\nwant\n%s", test.name, n, got, want)
			}
		}
	}
}

// The answers to a batch have a limit together. Each request is answered, some with that limit.
func TestJSONRPCLimitOfTheAnswersToABatch(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 2 << 10 }, mustParse(t, "tcp://127.0.0.1:0?auth=none"))
	var batch []string
	for i := range 20 {
		batch = append(batch, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Trial.Big","params":[1000]}`, i))
	}
	got := exchange(t, s, "["+strings.Join(batch, ",")+"]"+sayRequest, 1<<20)
	answered, refused := map[int]bool{}, 0
	for line := range strings.Lines(got) {
		var answers []struct {
			ID    int
			Error *fault
		}
		if !strings.HasPrefix(line, "[") {
			if line != sayAnswer {
				t.Errorf("what follows was answered with %q", line)
			}
			continue
		}
		if err := json.Unmarshal([]byte(line), &answers); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, a := range answers {
			answered[a.ID] = true
			if a.Error != nil {
				checkCode(t, "an answer too many", a.Error, codeTooLarge, "max_message")
				refused++
			}
		}
	}
	if len(answered) != 20 || refused != 13 { // 4 times the limit of a message holds 7 of them
		t.Errorf("%d were answered, %d of them refused; want 20 and 13", len(answered), refused)
	}
}

// A call is withdrawn by the value of its id, however that is spelled, and answered with its own spelling. 1 and "1" are two.
func TestJSONRPCCancel(t *testing.T) {
	for _, ids := range [][2]string{
		{`1`, `1`}, {`"1"`, `"1"`}, {`-1.50`, `-1.50`}, {`"ä"`, `"ä"`}, {`""`, `""`}, {`null`, `null`},
		{`1`, `1.0`}, {`1e3`, `1000`}, {`-1.50`, `-15E-1`}, {`"ä\/"`, `"\u00e4/"`},
	} {
		id := ids[0]
		s := startServer(t, "tcp://127.0.0.1:0?auth=none")
		conn := s.connect()
		answers := bufio.NewReader(conn)
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"Trial.Block","params":["a"]}`, id))
		s.begun(1)
		for _, another := range []string{`"another"`, `2`, `"1.0"`, `true`} {
			send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%s}}`, another))
		}
		send(t, conn, sayRequest)
		if line, err := answers.ReadString('\n'); line != sayAnswer {
			t.Errorf("behind the cancellation of another: %q, %v; want %q", line, err, sayAnswer)
		}
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%s}}`, ids[1]))
		want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32800,`, id)
		if line, err := answers.ReadString('\n'); !strings.HasPrefix(line, want) {
			t.Errorf("a call with the id %s that was cancelled: %q, %v; want %s", id, line, err, want)
		}
		if err := receive(t, s.trial.left); err != context.Canceled {
			t.Errorf("its method was ended with %v; want %v", err, context.Canceled)
		}
	}
}

func TestIDsAreComparedByValue(t *testing.T) {
	long := strings.Repeat("7", 100)
	values := [][]string{
		{`1`, `1.0`, `1e0`, `10E-1`, `0.1e+1`, `1.000`, `100e-2`}, {`0`, `-0`, `0.0`, `-0e7`, `0e-99`}, {`-15`, `-1.5e1`, `-150E-1`}, {`1000000000000000000000000`, `1e24`}, {`1.5`, `15e-1`, `1.50`},
		{long + `.0`, long}, {`9007199254740993`, `9007199254740993.0`}, {`9007199254740992`}, {`1e400`, `10e399`}, {`1e2000`, `10e1999`}, {`1e99999999999999999999`}, {`1e99999999999999999998`},
		{`"1"`, `"\u0031"`}, {`"1.0"`}, {`"a\/\n"`, `"\u0061/\u000a"`}, {`""`}, {`"\""`, `"\u0022"`}, {`"\\"`}, {`null`}, {`true`},
	}
	for i, same := range values {
		for _, id := range same {
			for _, other := range same {
				if !sameID(id, other) {
					t.Errorf("%s and %s are two: %s and %s", id, other, canonicalID(id), canonicalID(other))
				}
			}
			for n, others := range values {
				if n != i && sameID(id, others[0]) {
					t.Errorf("%s and %s are one: %s", id, others[0], canonicalID(id))
				}
			}
		}
	}
	for text, want := range map[string]uint64{`1`: 1, `1.0`: 1, `12e1`: 120, `18446744073709551615`: 1<<64 - 1, `18446744073709551616`: 0, `1.5`: 0, `-1`: 0, `"1"`: 0, `null`: 0, `[1]`: 0, ``: 0} {
		if got := seqOf([]byte(text)); got != want {
			t.Errorf("the call with the id %s is %d; want %d", text, got, want)
		}
	}
}

// A token for parts is known by its value, too.
func TestJSONRPCTokensAreComparedByValue(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	conn := s.connect()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"],"parts":"a"}{"jsonrpc":"2.0","id":2,"method":"Trial.Block","params":["a"],"parts":7}`)
	s.begun(2)
	answers := bufio.NewReader(conn)
	for _, token := range []string{`"a"`, `"\u0061"`, `7`, `7.0`, `70e-1`} {
		send(t, conn, `{"jsonrpc":"2.0","id":3,"method":"Echo.Say","params":["a"],"parts":`+token+`}`)
		want := `{"jsonrpc":"2.0","id":3,"error":{"code":-32600,"message":"the token `
		if line, err := answers.ReadString('\n'); !strings.HasPrefix(line, want) {
			t.Errorf("a call with the token %s, which is taken: %q, %v; want %s", token, line, err, want)
		}
	}
	for params, ofWorkDone := range map[string]bool{`{"token":70e-1,"value":2}`: false, `[{"value":2,"token":7}]`: false, `[7,2]`: false, `[-7.0,2]`: true, `{"token":-70e-1,"value":2}`: true} {
		if token, workDone, value, ok := progressOf(document(params)); token != 7 || workDone != ofWorkDone || string(value) != "2" || !ok {
			t.Errorf("the part %s is for %d, %t, %s, %v; want 7, %t", params, token, workDone, value, ok, ofWorkDone)
		}
	}
	for _, params := range []string{``, `[]`, `[7]`, `{}`, `[[7],2]`, `5`, `["7",2]`, `{"token":"-7","value":1}`, `[{"token":7}]`} {
		if token, _, value, ok := progressOf(document(params)); ok {
			t.Errorf("%s is the part %s for %d; want none", params, value, token)
		}
	}
}

// A batch waits for its last answer, which may be that a call was withdrawn.
func TestJSONRPCCancelInABatch(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	conn := s.connect()
	send(t, conn, `[{"jsonrpc":"2.0","id":"b","method":"Trial.Block","params":["a"]},`+sayRequest+`]`)
	s.begun(1)
	send(t, conn, `[{"jsonrpc":"2.0","method":"$/cancelRequest","params":[{"id":"b"}]}]`)
	line, err := bufio.NewReader(conn).ReadString('\n')
	got := inOrder(t, []string{strings.TrimSpace(line)})
	want := `[{"jsonrpc":"2.0","id":"b","error":{"code":-32800,"message":"the call was cancelled"}},` + strings.TrimSpace(sayAnswer) + `]`
	if want = inOrder(t, []string{want}); err != nil || got != want {
		t.Errorf("the batch was answered with\n%s, %v\nwant\n%s", got, err, want)
	}
}

func TestJSONRPCTimeoutEndsACall(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	conn := s.connect()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"],"timeout":0.5}`)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32004,`; !strings.HasPrefix(line, want) {
		t.Errorf("a call of half a millisecond: %q, %v; want %s", line, err, want)
	}
}

// readJSON is a codec that reads text and nothing else.
func readJSON(text string, f framing) codec {
	return newJSONCodec(newInput(strings.NewReader(text), defaultLimits()), defaultLimits(), f)
}

func TestJSONRPCTimeouts(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`1`: time.Millisecond, `1.5`: 1500 * time.Microsecond, `1e3`: time.Second, `1e-300`: 1, `9000000000000`: 9_000_000_000_000 * time.Millisecond,
		// What is no time says nothing, like other members that are not known.
		`0`: 0, `-1`: 0, `1e300`: 0, `1e999`: 0, `9300000000000`: 0, `null`: 0, `"5"`: 0, `true`: 0, `[5]`: 0, `{}`: 0,
	} {
		var m message
		if err := readJSON(`{"jsonrpc":"2.0","id":1,"method":"A.B","timeout":`+text+`}`, framingValue).read(&m); err != nil || m.timeout != want {
			t.Errorf("timeout %s is %v, %v; want %v", text, m.timeout, err, want)
		}
	}
}

// With a line each, one that is wrong ends with its line.
func TestJSONRPCLines(t *testing.T) {
	good := `{"jsonrpc":"2.0","id":%d,"method":"A.B"}` + "\n"
	bad := []string{`nonsense`, `{"a":1,}`, `{"a":1`, `"text"`, `5`, `null`, `{"a":1} {`, "{\"a\":\"\xff\"}", `{"a":1}}`, `]`, strings.Repeat("[", 65)}
	for _, line := range bad {
		c := readJSON(fmt.Sprintf(good, 1)+line+"\n"+fmt.Sprintf(good, 2), framingLine)
		var m message
		var read []string
		faults := 0
		for {
			err := c.read(&m)
			if err == io.EOF {
				break
			}
			var wrong *badMessage
			switch {
			case errors.As(err, &wrong):
				faults++
			case err != nil:
				t.Fatalf("behind %q: %v; want the next line", line, err)
			default:
				read = append(read, m.id.json)
			}
		}
		if !slices.Equal(read, []string{"1", "2"}) || faults == 0 {
			t.Errorf("around the line %q: read %q and %d faults; want both lines and a fault", line, read, faults)
		}
	}
}

// With a line each, what is over a limit is refused with its id, and the next line is read.
func TestJSONRPCLinesOverALimit(t *testing.T) {
	l := defaultLimits()
	l.MaxMessage, l.MaxDepth = 1000, 5
	long, deep := `"`+strings.Repeat("x", 100<<10)+`"`, strings.Repeat("[", 10)+strings.Repeat("]", 10)
	for _, test := range []struct {
		line string
		kind kind
		id   string
	}{
		{`{"jsonrpc":"2.0","method":"A.B","params":[` + long + `],"id":7}`, request, `7`},
		{`{"jsonrpc":"2.0","id":"b","method":"A.B","params":[` + long + `]}`, request, `"b"`},
		{`{"jsonrpc":"2.0","method":"A.B","params":[` + long + `]}`, notification, `null`},
		{`{"jsonrpc":"2.0","result":` + long + `,"id":7}`, response, `7`},
		{`{"jsonrpc":"2.0","id":8,"method":"A.B","params":[` + long + `}`, request, `8`},
		{`{"jsonrpc":"2.0","method":"A.B","params":["` + strings.Repeat("x", 1000) + `"],"id":7}`, request, `7`},
		{`[{"jsonrpc":"2.0","method":"A.B","params":[` + long + `],"id":7}]`, request, `null`},
		{long, request, `null`},
		{`{"jsonrpc":"2.0","method":"A.B","params":` + deep + `,"id":7}`, request, `7`},
		{`{"jsonrpc":"2.0","method":"A.B","params":` + deep + `,"id":tru}`, request, `null`},
		{`{"jsonrpc":"2.0","id":"a","method":"A.B","params":` + deep + `,"x":"` + "\xff" + `"}`, request, `"a"`},
		{`{"jsonrpc":"2.0","method":"A.B","params":` + strings.Repeat("[", skimDepth) + strings.Repeat("]", skimDepth) + `,"id":7}`, request, `null`},
		{`{"jsonrpc":"2.0","method":"A.B","params":` + deep + `}`, notification, `null`},
		{`{"jsonrpc":"2.0","result":` + deep + `,"id":7}`, response, `7`},
		{deep, request, `null`},
		{`{"jsonrpc":"2.0","method":"A.B","params":[` + deep + `,` + long + `],"id":7}`, request, `7`},
	} {
		for _, n := range []int{1 << 20, 1000, 7} {
			text := test.line + "\n" + `{"jsonrpc":"2.0","id":1,"method":"A.B"}` + "\n"
			c := newJSONCodec(newInput(&dripReader{text, n}, l), l, framingLine)
			var m message
			var bad *badMessage
			err := c.read(&m)
			if errors.As(err, &bad) && bad.m.kind == response && bad.m.id.json == nullID { // refused before its id came
				err = c.read(&m)
			}
			if !errors.As(err, &bad) || bad.fault.Code != codeTooLarge {
				t.Errorf("%.60q is read with %v; want it to be over a limit", test.line, err)
				continue
			}
			id := bad.m.id.json
			if bad.m.kind == response {
				id = fmt.Sprint(bad.m.id.seq)
			}
			if bad.m.kind != test.kind || id != test.id {
				t.Errorf("%.60q is refused as of kind %d with the id %s; want %d and %s", test.line, bad.m.kind, id, test.kind, test.id)
			}
			if err := c.read(&m); err != nil || m.id.json != "1" {
				t.Errorf("behind %.60q: %v, the id %s; want the next line", test.line, err, m.id.json)
			}
		}
	}
}

// FuzzJSONRPC reads what is sent in any pieces with any framing. Nothing may crash, what is read
// does not depend on the pieces, and a message that is written is read as it was.
func FuzzJSONRPC(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["x"],"timeout":5}`, `[{"id":"a","method":"M.N"},1,{}]{}`, "{\n}\n[]\n",
		"Content-Length: 2\r\n\r\n{}", "\ufeffContent-Length: 5\n\n\ufeff{}", "nulll", `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`, `{"id":1,"error":{"code":-1,"message":"x","data":{"near":"y"}}}`, `{"id":1,"error":"x (code -32601)","result":null}`,
	} {
		f.Add([]byte(seed), uint8(3), uint8(0))
	}
	l := defaultLimits()
	l.MaxMessage, l.MaxBatch = 1<<10, 5
	f.Fuzz(around(func(t *testing.T, b []byte, n, frame uint8) {
		framing := framing(frame % 4)
		read := func(n int) string {
			c := newJSONCodec(newInput(&dripReader{string(b), n}, l), l, framing)
			var log strings.Builder
			for {
				var m message
				err := c.read(&m)
				var raw json.RawMessage
				if err == nil {
					err = c.body(&raw)
				}
				fmt.Fprintf(&log, "%v %+v %q %v %v %s %v\n", m.kind, m.id, m.method, m.timeout, m.v1, raw, err)
				if _, bad := err.(*badMessage); err != nil && !bad {
					if _, mine := err.(*fault); !mine || m.kind == request && m.id.json == nullID {
						return log.String()
					}
				}
				if err == nil && (m.kind == request || m.kind == response) {
					checkRewritten(t, l, &m, raw)
				}
			}
		}
		if a, b := read(len(b)+1), read(1+int(n)); a != b {
			t.Fatalf("in one piece:\n%s\nin pieces of %d:\n%s", a, 1+int(n), b)
		}
	}))
}

// checkRewritten writes a message and wants it to be read as it was.
func checkRewritten(t *testing.T, l limits, m *message, body json.RawMessage) {
	t.Helper()
	again := *m
	again.batch = nil
	var arg any = body
	if len(body) == 0 {
		arg = nil
	}
	out, err := newJSONCodec(newInput(bytes.NewReader(nil), l), l, framingValue).write(nil, &again, arg)
	if err != nil {
		t.Fatalf("write of %+v with %s: %v", again, body, err)
	}
	var got message
	c := newJSONCodec(newInput(bytes.NewReader(out), l), l, framingValue)
	if err := c.read(&got); err != nil {
		if len(out) > l.MaxMessage { // an answer has more members than came
			return
		}
		t.Fatalf("%s was written and cannot be read: %v", out, err)
	}
	var raw json.RawMessage
	if err := c.body(&raw); err != nil || got.kind != m.kind || got.method != m.method || m.kind == request && got.id != m.id {
		t.Fatalf("%+v with %s was written as %s and is read as %+v with %s, %v", m, body, out, got, raw, err)
	}
	if err := c.read(&got); err != io.EOF {
		t.Fatalf("behind %s: %v; want the end", out, err)
	}
}

// The members of an error, and of its data, have exactly their names, whatever else is there.
func TestJSONErrorOfAnAnswer(t *testing.T) {
	for text, want := range map[string]fault{
		`{"Code":1,"code":7,"CODE":8,"message":"a","Message":"b","data":{"Near":"w","near":"x","NEAR":"y","max":1,"Max":"z"},"Data":{"near":"z"}}`: {
			Code: 7, Text: "a", Data: json.RawMessage(`{"Near":"w","near":"x","NEAR":"y","max":1,"Max":"z"}`)},
		`{"code":7.0,"message":null,"data":null}`: {Code: 7},
		`{"Code":7,"message":"a"}`:                {Code: codeApplication, Text: `{"Code":7,"message":"a"}`},
		`{"code":"7","message":"a"}`:              {Code: codeApplication, Text: `{"code":"7","message":"a"}`},
	} {
		c := newJSONCodec(newInput(strings.NewReader(`{"jsonrpc":"2.0","id":1,"error":`+text+"}"), defaultLimits()), defaultLimits(), framingValue)
		var m message
		if err := c.read(&m); err != nil || !reflect.DeepEqual(m.fault, &want) {
			t.Errorf("%s is read as %+v, %v; want %+v", text, m.fault, err, &want)
			continue
		}
		if want.Data != nil && m.fault.data() != (faultData{Near: "x", Max: 1}) {
			t.Errorf("the data of %s is read as %+v", text, m.fault.data())
		}
	}
}

func TestDecodeSaysWhatIsWrongAndWhere(t *testing.T) {
	type event struct {
		When  time.Time         `json:"when"`
		Of    map[int]*event    `json:"of"`
		Names map[string]string `json:"names"`
		List  []struct {
			N int8 `json:"n"`
		} `json:"list"`
		Quoted *int `json:"quoted,string"`
	}
	for _, test := range []struct{ text, want, field string }{
		{`{"when":"soon"}`, "the field when of the argument is not as expected: parsing time", "when"},
		{`{"of":{"1":{"when":"soon"}}}`, "the field of.1.when of the argument is not as expected: parsing time", "of.1.when"},
		{`{"of":{"a":{}}}`, `the field of of the argument has a member "a"; expected its name to be an integer of 64 bits`, "of"},
		{`{"names":{"a\"b":5}}`, "is a number; expected a string", `names.a"b`},
		{`{"list":[{},{"n":"a"}]}`, "the field list[1].n of the argument is a string; expected an integer of 8 bits", "list[1].n"},
		{`{"list":[{"n":1.0},{"n":300}]}`, "the field list[1].n of the argument is a number 300; expected an integer of 8 bits", "list[1].n"},
		{`{"list":[{},7]}`, "the field list[1] of the argument is a number; expected an object", "list[1]"},
		{`{"list":{}}`, "the field list of the argument is an object; expected an array", "list"},
		{`{"quoted":"7","list":[{"n":1.5}]}`, "the field list[0].n of the argument is a number 1.5; expected an integer of 8 bits", "list[0].n"},
		{`{"names":{"a\"b":"c"},"when":"soon"}`, "the field when of the argument", "when"},
	} {
		f := checkCode(t, test.text, decodeBody([]byte(test.text), new(event)), codeBadArgument, test.want)
		if got := f.data().Field; got != test.field {
			t.Errorf("%s: the field is %q; want %q", test.text, got, test.field)
		}
	}
}
