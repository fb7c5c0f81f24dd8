package main

// This file owns what a client says of whoever answers, and of whoever does not.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// startStranger serves one connection at a time with f until the test ends.
func startStranger(t *testing.T, f func(conn net.Conn)) endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return mustParse(t, "tcp://"+l.Addr().String())
}

func TestClientTellsWhoAnswers(t *testing.T) {
	reads := func(answer string) func(net.Conn) {
		return func(conn net.Conn) {
			bufio.NewReader(conn).ReadString('\n') // all of the request: else closing resets the connection
			io.WriteString(conn, answer)
		}
	}
	tests := []struct {
		name        string
		proto       proto
		server      func(net.Conn)
		code        int
		words, hint string
	}{
		{"a banner", protoJSON, reads("SSH-2.0-OpenSSH_9.2\r\n"), codeWrongProtocol, "does not speak this protocol", "?proto= another"},
		{"HTTP", protoJSON, reads("HTTP/1.1 400 Bad Request\r\n\r\n"), codeWrongProtocol, "does not speak this protocol", "?proto= another"},
		{"an echo", protoJSON, func(conn net.Conn) { io.Copy(conn, conn) }, codeWrongProtocol, "is not ipcd: it sent a request", "-e names another"},
		{"a greeting that begins like JSON", protoJSON, reads("220 mail.example.com ESMTP\r\n"), codeWrongProtocol, "does not speak this protocol", "?proto= another"},
		{"JSON that answers nothing", protoJSON, reads(`{"foo":1}"bye"`), codeConnection, "closed the connection before it answered", "was done before you try again"},
		{"JSON that answers nothing, over HTTP", protoHTTP, reads("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"foo\":1}"), codeWrongProtocol, "is not ipcd: HTTP status 200 OK", "-e names another"},
		{"an answer over HTTP that is too deep", protoHTTP, reads("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + strings.Repeat("[", 100)), codeTooLarge, "max_depth", ""},
		{"an echo, gob", protoGob, func(conn net.Conn) { io.Copy(conn, conn) }, codeWrongProtocol, "is not ipcd: it sent a request", "-e names another"},
		{"the end", protoJSON, reads(""), codeConnection, "closed the connection before it answered", "was done before you try again"},
		{"half an answer", protoJSON, reads(`{"jsonrpc":"2.0","id":1,"res`), codeConnection, "broke", "ipcd status"},
		{"an error without an id", protoJSON, reads(`{"jsonrpc":"2.0","id":null,"error":{"code":-32002,"message":"too many connections"}}` + "\n"), codeBusy, "too many connections", ""},
		{"a code that is the client's own", protoJSON, reads(`{"jsonrpc":"2.0","id":1,"error":{"code":-32010,"message":"e"}}` + "\n"), codeApplication, "e", ""},
		{"another HTTP server", protoHTTP, reads("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), codeWrongProtocol, "is not ipcd: HTTP status 404 Not Found", "-e names another"},
		{"an HTTP error that is JSON", protoHTTP, reads("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"), codeWrongProtocol, "is not ipcd: HTTP status 404 Not Found", "-e names another"},
		{"an error with an HTTP status", protoHTTP, reads("HTTP/1.1 500 Internal Server Error\r\nContent-Type: Application/JSON-RPC; charset=UTF-8\r\nConnection: close\r\n\r\n" + `{"jsonrpc":"2.0","id":1,"error":{"code":-5,"message":"no such wallet"}}`), -5, "no such wallet", ""},
		{"no HTTP server", protoHTTP, reads("SSH-2.0-OpenSSH_9.2\r\n\r\n"), codeConnection, "broke", ""},
		{"gob of a stranger", protoGob, reads("hello there, this is no gob\n"), codeWrongProtocol, "does not speak this protocol", "?proto= another"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := startStranger(t, test.server).withProto(test.proto)
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			defer cancel()
			c, err := dial(ctx, e, dialOptions{limits: defaultLimits()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			err = c.call(ctx, "Echo.Say", "hello\n", nil)
			f := checkCode(t, "the call", err, test.code, test.words)
			if hint := hintFor(err); f.Code != 0 && test.hint != "" && !strings.Contains(hint, test.hint) {
				t.Errorf("the hint is %q; want %q", hint, test.hint)
			}
		})
	}
}

// Over HTTP, too, what answers no call is left alone.
func TestClientOverHTTPFindsItsAnswer(t *testing.T) {
	e := startStranger(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\ufeff"+
			`"ready" {"jsonrpc":"2.0","method":"Some.Event"} {"jsonrpc":"2.0","id":7,"result":"another's"} {"jsonrpc":"2.0","id":1,"result":"hello"}`)
	}).withProto(protoHTTP)
	c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
	must(t, err)
	defer c.close()
	checkSay(t, c, "hello")
}

func TestClientGivesUpOnOneWhoNeverAnswers(t *testing.T) {
	gone := make(chan struct{})
	e := startStranger(t, func(conn net.Conn) {
		io.Copy(io.Discard, conn) // until the client goes
		close(gone)
	})
	c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	checkCode(t, "the call", c.call(ctx, "Echo.Say", "hello", nil), codeDeadline, "deadline")
	c.close()
	receive(t, gone)
}

// A client tells nobody its deadline: strict servers refuse members that are not JSON-RPC's. It withdraws the call, and the
// withdrawal arrives though the client is closed right away.
func TestClientKeepsItsDeadlineToItself(t *testing.T) {
	const call, withdrawal = `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["hello"]}`, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`
	for name, test := range map[string]struct {
		proto proto
		want  string
	}{
		"JSON-RPC": {protoJSON, call + "\n" + withdrawal + "\n"},
		"HTTP":     {protoHTTP, "\r\n\r\n" + call + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			asked, all := make(chan struct{}), make(chan string, 1)
			e := startStranger(t, func(conn net.Conn) {
				b := make([]byte, 4096)
				n := 0
				for !strings.Contains(string(b[:n]), call) {
					m, err := conn.Read(b[n:])
					if n += m; err != nil {
						break
					}
				}
				close(asked)
				rest, _ := io.ReadAll(conn)
				all <- string(b[:n]) + string(rest)
			}).withProto(test.proto)
			c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testPatience) // for there to be a deadline
			defer cancel()
			ctx, withdraw := context.WithCancel(ctx)
			done := inBackground(ctx, c, "Echo.Say", "hello")
			receive(t, asked)
			withdraw()
			checkCode(t, "the call", receive(t, done), codeCancelled, "cancelled")
			c.close()
			if got := receive(t, all); !strings.HasSuffix(got, test.want) {
				t.Errorf("the server was sent %q; want %q", got, test.want)
			}
		})
	}
}

func TestClientThatIsClosed(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	for _, p := range []proto{protoJSON, protoGob} {
		c := dialOurs(p)(t, s.endpoints[0])
		done := inBackground(context.Background(), c, "Trial.Block", "a")
		s.begun(1)
		c.close()
		checkCode(t, "the call in flight", receive(t, done), codeConnection, "is closed")
		checkCode(t, "a call after that", c.call(context.Background(), "Echo.Say", "a", nil), codeConnection, "is closed")
		if err := c.close(); err != nil {
			t.Errorf("a second close = %v", err)
		}
	}
}

func TestConnectWaitsForADaemonThatComesUp(t *testing.T) {
	e := localEndpoint(t)
	if underWine { // where the client might get the instance of the pipe that is for settle
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		e = mustParse(t, "tcp://"+l.Addr().String()+"?auth=none")
		must(t, l.Close())
	}
	type outcome struct {
		c   caller
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		c, err := connect(context.Background(), e, defaultLimits(), testPatience)
		done <- outcome{c, err}
	}()
	startServerWith(t, nil, e)
	got := receive(t, done)
	if got.err != nil {
		t.Fatal(got.err)
	}
	checkSay(t, got.c, "at last")
	got.c.close()

	_, err := connect(context.Background(), localEndpoint(t), defaultLimits(), time.Millisecond)
	if !errors.Is(err, &fault{Code: codeNotReachable}) {
		t.Errorf("connect to nobody = %v; want that nobody is there", err)
	}
}

// A client whose callers read for one another must not wait for the daemon while the daemon waits
// for it: here both have far more to say than the sockets between them hold.
func TestClientReadsWhileItWrites(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	for _, p := range []proto{protoJSON, protoGob} {
		c := dialOurs(p)(t, s.endpoints[0])
		var calls []<-chan error
		text := make([]byte, 256<<10)
		for range 16 {
			calls = append(calls, inBackground(context.Background(), c, "Trial.Bytes", text))
		}
		for _, done := range calls {
			if err := receive(t, done); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
		c.close()
	}
}

// An echo gives back what comes in while it comes in: the client must read before it has sent all.
func TestClientOfAnEchoReadsWhileItWrites(t *testing.T) {
	e := localEndpoint(t).withProto(protoEcho)
	s := startServerWith(t, nil, e)
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := dial(ctx, s.endpoints[0], dialOptions{limits: defaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	text := strings.Repeat("0123456789abcdef", 1<<15) // 512 KiB, more than the sockets hold
	var got string
	if err := c.call(ctx, "Echo.Say", text, &got); err != nil || got != text {
		t.Errorf("the echo of %d bytes has %d, %v", len(text), len(got), err)
	}
}

// A deadline and the end of a method may come at the same instant. There is one answer then, and it
// is one of the two.
func TestDeadlineAtTheInstantOfTheAnswer(t *testing.T) {
	t.Parallel() // it waits, most of the time
	s := startServerWith(t, nil, localEndpoint(t))
	rounds := 1000
	if testing.Short() {
		rounds = 10
	}
	for _, k := range clientKinds {
		if !k.patient {
			continue
		}
		c := k.dial(t, s.endpoints[0])
		for range rounds {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
			var got int
			if err := c.call(ctx, "Trial.Slow", 2, &got); err == nil && got != 2 || err != nil && !errors.Is(err, errDeadline) {
				t.Errorf("%s: %d, %v; want 2 or the deadline", k.name, got, err)
			}
			cancel()
		}
		c.close()
	}
}

// An answer over a limit of the client is not blamed on the daemon.
func TestClientNamesItsOwnLimit(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	for _, p := range []proto{protoGob, protoJSON, protoHTTP} {
		l := defaultLimits()
		l.MaxMessage = 1 << 10
		for _, result := range []any{nil, new(string), new(json.RawMessage)} {
			c, err := dial(t.Context(), s.endpoints[0].withProto(p), dialOptions{limits: l})
			if err != nil {
				t.Fatal(err)
			}
			f := checkCode(t, string(p), ask(c, "Trial.Big", 5000, result), codeTooLarge, "a limit of this client")
			if f.data().Max != 1<<10 || !strings.Contains(hintFor(f), "--set limits.max_message") {
				t.Errorf("%s: %v, data %s, hint %q; want 1024 and what to type", p, f, f.Data, hintFor(f))
			}
			c.close()
		}
	}
}

// An answer that exceeds a limit of the client is refused when that shows. Nobody waits for its end, which may never come.
func TestClientRefusesAnAnswerThatDoesNotEnd(t *testing.T) {
	const most = 4 << 10
	fill := strings.Repeat("x", most)
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	chunk := func(text string) string {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(text), text)
	}
	first, last, wrong := `{"jsonrpc":"2.0","id":1,"result":"`+fill, `{"result":["`+fill, `{"id":1,"jsonrpc":"2.0","error":{"code":5,"message":"`+fill
	for name, test := range map[string]struct {
		proto  proto
		answer string
	}{
		"value":                            {protoJSON, first},
		"value, the id last":               {protoJSON, last},
		"value, an error":                  {protoJSON, wrong},
		"HTTP, a length":                   {protoHTTP, head + "Content-Length: 1000000000\r\n\r\n" + first},
		"HTTP, a length, the id last":      {protoHTTP, head + "Content-Length: 1000000000\r\n\r\n" + last},
		"HTTP, chunks":                     {protoHTTP, head + chunk(first)},
		"HTTP, chunks, an error":           {protoHTTP, strings.Replace(head, "200 OK", "500 Oh", 1) + chunk(wrong)},
		"HTTP, neither":                    {protoHTTP, head + "\r\n" + first},
		"HTTP, messages without an end":    {protoHTTP, head + chunk(strings.Repeat(`{"foo":1} `, most))},
		"HTTP, a text without an end":      {protoHTTP, head + chunk(`"`+fill)},
		"HTTP, white space without an end": {protoHTTP, head + chunk(strings.Repeat(" ", 2*most))},
		"gob":                              {protoGob, gobAnswer(t, newGobCodec(nil, defaultLimits(), request), 1, strings.Repeat("x", 1<<20))[:100]},
	} {
		t.Run(name, func(t *testing.T) {
			e := startStranger(t, func(conn net.Conn) {
				conn.Read(make([]byte, 1<<10))
				io.WriteString(conn, test.answer)
				io.Copy(io.Discard, conn) // until the client goes
			}).withProto(test.proto)
			c := dialTaking(t, e, most)
			defer c.close()
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			defer cancel()
			var got string
			f := checkCode(t, "the call", c.call(ctx, "Echo.Say", "a", &got), codeTooLarge, "a limit of this client")
			if f.data().Max != most {
				t.Errorf("the data are %s; want %d", f.Data, most)
			}
		})
	}
}

// dialTaking connects a client that takes messages of so many bytes.
func dialTaking(t *testing.T, e endpoint, most int) caller {
	t.Helper()
	l := defaultLimits()
	l.MaxMessage = most
	c, err := dial(t.Context(), e, dialOptions{limits: l})
	must(t, err)
	return c
}

// gobAnswer is an answer of net/rpc with a text.
func gobAnswer(t testing.TB, c codec, seq uint64, text string) string {
	b, err := c.write(nil, &message{kind: response, id: callID{seq: seq}}, text)
	must(t, err)
	return string(b)
}

// What is refused before its end is dropped to its end, and the connection goes on.
func TestClientGoesOnBehindARefusedAnswer(t *testing.T) {
	const most = 4 << 10
	long := strings.Repeat("x", 2*most)
	gob := newGobCodec(nil, defaultLimits(), request)
	answer := `{"jsonrpc":"2.0","id":2,"result":"still here"}`
	for name, test := range map[string]struct {
		proto         proto
		first, second string
	}{
		"the id first": {protoJSON, `{"jsonrpc":"2.0","id":1,"result":"` + long + `"}`, answer},
		"the id last":  {protoJSON, `{"jsonrpc":"2.0","result":"` + long + `","id":1}`, answer},
		"gob":          {protoGob, gobAnswer(t, gob, 1, long), gobAnswer(t, gob, 2, "still here")},
	} {
		t.Run(name, func(t *testing.T) {
			refused := make(chan struct{})
			e := startStranger(t, func(conn net.Conn) {
				conn.Read(make([]byte, 1<<10))
				io.WriteString(conn, test.first[:most+200])
				<-refused
				io.WriteString(conn, test.first[most+200:])
				conn.Read(make([]byte, 1<<10))
				io.WriteString(conn, test.second)
				io.Copy(io.Discard, conn)
			}).withProto(test.proto)
			c := dialTaking(t, e, most)
			defer c.close()
			err := ask(c, "Echo.Say", "a", nil)
			close(refused)
			checkCode(t, "the call", err, codeTooLarge, "a limit of this client")
			checkSay(t, c, "still here")
		})
	}
}

// A JSON argument goes over gob as what the method takes, if the daemon says that.
func TestClientSendsJSONAsGob(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	c := dialOurs(protoGob)(t, s.endpoints[0])
	defer c.close()
	for _, test := range []struct{ method, arg, want string }{
		{"Trial.Sum", "[1,2]", "3"}, {"Trial.Sum", "[1,2.5]", "3.5"}, {"Trial.Sum", "[]", "0"}, {"Trial.Sum", "7", "expected an array"},
		{"Trial.Count", "[]", "0"}, {"Trial.Count", `["a"]`, "1"}, {"Trial.Count", `[1]`, "expected a string"}, {"Trial.Count", `[null]`, "null"},
		{"Trial.Bytes", `"aGk="`, `"aGk="`}, {"Echo.Say", `"a"`, `"a"`}, {"Echo.Say", "1", "expected a string"}, {"Trial.Slow", "0", "0"},
		{"Trial.Raw", `{"a":1}`, "JSON object"}, {"Trial.Old", `{"N":1}`, "JSON object"}, {"Trial.Old", "null", "the argument is null"}, {"Trial.Same", "null", `{}`}, {"Trial.No", "1", "there is no service or method Trial.No"},
		{"Ipcd.Ping", "1", `"pong"`}, {"Trial.Unencodable", "null", "cannot be encoded"},
	} {
		var got json.RawMessage
		err := ask(c, test.method, json.RawMessage(test.arg), &got)
		if err == nil && string(got) != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s(%s) = %s, %v; want %s", test.method, test.arg, got, err, test.want)
		}
	}
	checkSay(t, c, "still here")
}

func TestGobTypeBySchema(t *testing.T) {
	for _, test := range []struct {
		typ  any
		text string
		want any // or the words of an error
	}{
		{uint16(0), "7", uint64(7)}, {int8(0), "-7", int64(-7)}, {float32(0), "7", 7.0}, {false, "true", true},
		{[][]int{}, "[[1],[]]", [][]int64{{1}, {}}}, {map[string]uint{}, `{"a":1}`, map[string]uint64{"a": 1}}, {map[string]bool{}, `{}`, map[string]bool{}},
		{time.Time{}, `"2026-11-24T01:02:03Z"`, time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)},
		{GobRoom{}, `{"Floor":1}`, "names of the Go fields"}, {[]GobRoom{}, `[{}]`, "names of the Go fields"},
		{nil, "5", int64(5)}, {nil, "5.0", 5.0}, {nil, "18446744073709551615", uint64(1<<64 - 1)}, {nil, "[1,2.5]", []float64{1, 2.5}},
		{nil, "[[1],[2]]", [][]int64{{1}, {2}}}, {nil, `["a",1]`, "several types"}, {nil, "[]", "empty JSON array"}, {nil, "{}", "JSON object"}, {nil, "null", nil},
		{GobRoom{}, "null", "the argument is null"}, {&GobRoom{}, "null", nil}, {[]int{}, "null", nil}, {new(any), "null", nil}, {0, "null", "the argument is null"},
	} {
		var s schema
		if test.typ != nil { // as it comes over the wire
			b, err := argumentSchema(reflect.TypeOf(test.typ)).GobEncode()
			if err := errors.Join(err, s.GobDecode(b)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := gobOfJSON(json.RawMessage(test.text), s)
		words, _ := test.want.(string)
		if err != nil && (words == "" || !strings.Contains(err.Error(), words)) || err == nil && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s for a %T = %T %v, %v; want %T %v", test.text, test.typ, got, got, err, test.want, test.want)
		}
	}
}

// TestCallThatCannotBeSentIsGivenUp has a caller whose request finds no room, since the peer does not read: it goes when its
// context ends, and nothing of it is left, here or on the wire.
func TestCallThatCannotBeSentIsGivenUp(t *testing.T) {
	for _, p := range []proto{protoJSON, protoGob} {
		ours, theirs := overEndpoint(localEndpoint)(t)
		l := defaultLimits()
		l.Write = time.Hour
		in := newInput(ours, l)
		c := newClient(endpoint{Scheme: "unix"}, ours, nil, protocolOf(p).codec(in, l, sideCalling), in, dialOptions{limits: l})
		inFlight := func(n int, full bool) {
			waitFor(t, func() error {
				c.session.mu.Lock()
				defer c.session.mu.Unlock()
				c.session.out.mu.Lock()
				defer c.session.out.mu.Unlock()
				o := c.session.out
				if got := len(c.session.state.ours); got != n || !o.writing || full != (len(o.buf) > outputFull) {
					return fmt.Errorf("%d calls are in flight, and %d bytes wait behind those that are being written: %t; want %d calls, and more than %d bytes: %t",
						got, len(o.buf), o.writing, n, outputFull, full)
				}
				return nil
			})
		}
		big := strings.Repeat("x", 4<<20)
		first := inBackground(t.Context(), c, "Long.First", big)
		inFlight(1, false)
		second := inBackground(t.Context(), c, "Long.Second", big)
		inFlight(2, true)
		ctx, cancel := context.WithCancel(t.Context())
		third := inBackground(ctx, c, "Late.Third", "small")
		inFlight(3, true)
		cancel()
		checkCode(t, "a call that found no room", receive(t, third), codeCancelled, "")
		inFlight(2, true)
		read := make(chan string, 1)
		go func() {
			all, _ := io.ReadAll(theirs)
			read <- string(all)
		}()
		c.close()
		if all := receive(t, read); !strings.Contains(all, "Long.Second") || strings.Contains(all, "Late.Third") {
			t.Errorf("%s: of %d bytes that were sent, the second call is not or the third is part", p, len(all))
		}
		for _, done := range []<-chan error{first, second} {
			if err := receive(t, done); err == nil {
				t.Errorf("%s: a call that nobody answered has succeeded", p)
			}
		}
	}
}

// TestPartThatFailsFailsTheCall has an answer arrive together with a part that cannot be handled.
func TestPartThatFailsFailsTheCall(t *testing.T) {
	full := errors.New("no space left")
	for range 50 {
		ours, theirs := net.Pipe()
		l := defaultLimits()
		in := newInput(ours, l)
		c := newClient(endpoint{Scheme: "unix"}, ours, nil, newJSONCodec(in, l, framingValue), in, dialOptions{limits: l})
		go func() {
			theirs.Read(make([]byte, inputSmall))
			io.WriteString(theirs, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":1}}{"jsonrpc":"2.0","id":1,"result":null}`)
			io.Copy(io.Discard, theirs)
		}()
		if err := c.session.ask(t.Context(), "A.B", nil, nil, func(document) error { return full }); err != full {
			t.Errorf("ask = %v; want %v", err, full)
		}
		c.close()
		theirs.Close()
	}
}

// What comes back from an echo server is what was sent, or it is none.
func TestEchoThatIsNone(t *testing.T) {
	e := startServer(t, localEndpoint(t).String()).endpoints[0]
	e.Proto = protoEcho
	for _, text := range []string{"hello", `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}`, "GET / HTTP/1.1\r\n\r\n"} {
		c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
		must(t, err)
		var got string
		checkCode(t, fmt.Sprintf("%q", text), ask(c, "Echo.Say", text, &got), codeWrongProtocol, "does not send back what it is sent")
		c.close()
	}
}

// An error of --start says why the daemon has ended: what that has logged since it was started, and nothing from before.
func TestLogSaysWhyADaemonDoesNotStart(t *testing.T) {
	const before = "ipcd: error: what was wrong yesterday\n"
	for _, test := range [][2]string{
		{"", ""},
		{`{"level":"info","msg":"listening"}` + "\nipcd: error: no room\nipcd: hint: make some\n", "no room"},
		{`{"level":"info","msg":"listening"}` + "\n" + `{"level":"error","msg":"a worker is parked","why":"it is gone","hint":"ipcd worker start a"}` + "\n", "a worker is parked: it is gone"},
		{"panic: runtime error: index out of range [1] with length 1\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:7 +0x1d\nexit status 2\n", "panic: runtime error: index out of range [1] with length 1"},
		{"fatal error: all goroutines are asleep\n", "fatal error: all goroutines are asleep"},
		{"sh: a: not found\n\n", "sh: a: not found"},
		{"ipcd: error: a\x1b[2Jb\n", `a\u001b[2Jb`},
		{"ipcd: error: " + strings.Repeat("a", 300) + "\n", strings.Repeat("a", maxReason) + "…"},
	} {
		log := startLogFrom{filepath.Join(t.TempDir(), startLog), int64(len(before))}
		must(t, os.WriteFile(log.file, []byte(before+test[0]), 0o600))
		if got := log.why(); got != test[1] {
			t.Errorf("the log %q says %q; want %q", test[0], got, test[1])
		}
	}
}

// A background daemon stays for as long as the command line says, for ever included, and otherwise not for ever.
func TestIdleOfABackgroundDaemon(t *testing.T) {
	for _, test := range []struct {
		env   string
		flags []given
		want  string
	}{
		{"", nil, "15m0s"},
		{"0s", nil, "15m0s"}, // which is the default of "ipcd run"
		{"2m", nil, "2m0s"},
		{"2m", []given{{flag: "--idle", key: "idle", values: []string{"0s"}}}, "0s"},
		{"", []given{{flag: "--set", key: "idle", values: []string{"0"}}}, "0s"},
		{"0s", []given{{flag: "--idle", key: "idle", values: []string{"1h"}}}, "1h0m0s"},
	} {
		set, _, err := loadSettings("", false, func(name string) (string, bool) { return test.env, name == "IPCD_IDLE" }, test.flags)
		must(t, err)
		args, err := set.runArgs(nil, "build", "log")
		must(t, err)
		if i := slices.Index(args, "--idle"); i < 0 || args[i+1] != test.want {
			t.Errorf("with IPCD_IDLE=%q and %v it is started with %q; want --idle %s", test.env, test.flags, args, test.want)
		}
	}
}
