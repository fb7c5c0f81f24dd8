package main

// This file owns answers over HTTP that come bit by bit, and what becomes of them when their caller does not read, or goes.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// flooders ask for the parts of Far.Flood, with a member or header of their own.
var flooders = []struct {
	name string
	ask  func(timeout time.Duration) string
}{
	{"json-rpc", func(d time.Duration) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Far.Flood","parts":1,"timeout":%d}`, d.Milliseconds())
	}},
	{"http call, events", func(d time.Duration) string {
		return postText("/call/Far.Flood", "Accept: text/event-stream\r\nIpcd-Timeout: "+d.String()+"\r\n", "")
	}},
	{"http call, lines", func(d time.Duration) string {
		return postText("/call/Far.Flood", "Accept: application/jsonl\r\nIpcd-Timeout: "+d.String()+"\r\n", "")
	}},
	{"http rpc, events", func(d time.Duration) string {
		return postText("/rpc", "Accept: text/event-stream\r\n", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Far.Flood","parts":1,"timeout":%d}`, d.Milliseconds()))
	}},
}

// flooded starts a server of Far, and a caller of Far.Flood that does not read. What becomes of it is told to told.
func flooded(t *testing.T, l func(l *limits), ask string) (s *testServer, far *Far, conn net.Conn, told *subscription) {
	t.Helper()
	s = startServerWith(t, l, localEndpoint(t))
	told = subscribeTo(t, s.router.events, "", "ipcd.limit.>")
	far = &Far{entered: make(chan string, 1), left: make(chan error, 1), release: make(chan struct{})}
	must(t, addReceiver(s.router, far, nil))
	conn = noDeadline(s.connect())
	t.Cleanup(func() { conn.Close() })
	narrow(conn)
	send(t, conn, ask)
	return s, far, conn, told
}

// A caller that does not read the parts of an answer stops who produces them. It has stream_idle for that, and write
// as soon as anything else waits for it.
func TestWhoReadsNoPartsIsPatientlyWaitedFor(t *testing.T) {
	t.Parallel() // it waits, most of the time
	wantLimit := func(t *testing.T, s *testServer, told *subscription, limit string) {
		t.Helper()
		checkLogged(t, s, "limit "+limit)
		if got, _ := told.next(t.Context()); !strings.Contains(string(got), `"data":{"limit":"`+limit+`","max":50,"peer":`) {
			t.Errorf("of the limit %s is told %s", limit, got)
		}
	}
	for _, f := range flooders {
		t.Run(f.name+", waited for", func(t *testing.T) {
			s, far, conn, told := flooded(t, func(l *limits) { l.Write, l.StreamIdle = 50*time.Millisecond, time.Hour }, f.ask(time.Hour))
			slow := noDeadline(s.connect())
			defer slow.Close()
			narrow(slow)
			waitFor(t, func() error {
				if far.flooded.Load() == 0 {
					return errors.New("no part has been sent")
				}
				return nil
			})
			for range 8 {
				send(t, slow, `{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[4000000]}`)
			}
			wantLimit(t, s, told, "write") // it has had no more time than the other
			sent := far.flooded.Load()
			if sent > 2<<20 { // an output holds 256 KiB twice, and the socket some more
				t.Errorf("%d bytes of parts have been sent to a caller that does not read; want the method to wait", sent)
			}
			if _, err := io.CopyN(io.Discard, conn, sent+8<<20); err != nil {
				t.Errorf("the stream has broken: %v", err)
			}
		})
		t.Run(f.name+", cut", func(t *testing.T) {
			s, far, _, told := flooded(t, func(l *limits) { l.Write, l.StreamIdle = time.Hour, 50*time.Millisecond }, f.ask(time.Hour))
			receive(t, far.left)
			wantLimit(t, s, told, "stream_idle")
			s.idle()
		})
		t.Run(f.name+", an answer waits", func(t *testing.T) {
			s, far, _, told := flooded(t, func(l *limits) { l.Write, l.StreamIdle = 50*time.Millisecond, time.Hour }, f.ask(time.Second)) // by then it is full
			receive(t, far.left)
			wantLimit(t, s, told, "write")
			s.idle()
		})
	}
}

// standIn has another method in place of Ipcd.Subscribe: its parts and its end are those that a test gives.
func standIn(t *testing.T, s *testServer, heard chan<- string, end error, parts ...string) {
	t.Helper()
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	s.router.services[ownService].(*receiver).methods["Subscribe"] = &method{
		name: subscribeMethod, argument: documentType, part: documentType,
		invoke: func(ctx context.Context, arg any) (any, error) {
			heard <- string(*arg.(*document))
			for _, p := range parts {
				must(t, ctx.Value(callKey).(*call).deliver(document(p), false))
			}
			return nil, end
		},
	}
	s.router.reindexLocked()
}

func TestEventsOverHTTP(t *testing.T) {
	const get, host = "GET /events?topic=build.%3E&topic=a HTTP/1.1\r\n", "Host: localhost\r\n"
	const all = `{"after":"","topics":["build.\u003e","a"]}`
	long := `"` + strings.Repeat("x", 1<<20-100) + `"`
	parts := []string{`{"subscribed":["build.>","a"],"id":"k-1"}`, `{"topic":"a","data":{"id":"no"},"id":"k-2"}`, `{"missed":null,"id":"k-9"}`, `{"topic":"a"}`, `{"id":"k-10","data":` + long + `}`}
	events := "id: k-1\ndata: " + parts[0] + "\n\nid: k-2\ndata: " + parts[1] + "\n\nid: k-9\ndata: " + parts[2] + "\n\ndata: " + parts[3] + "\n\nid: k-10\ndata: " + parts[4] + "\n\n"
	failure := string(appendFault(nil, errShuttingDown))
	for name, test := range map[string]struct {
		send, argument, status, kind, body string
		parts                              []string
		end                                error
	}{
		"events":              {get + host, all, "200", eventType, events + "event: failure\ndata: " + failure + "\n\n", parts, errShuttingDown},
		"of no such form":     {get + "Accept: application/json\r\n" + host, all, "200", eventType, "data: 1\n\nevent: failure\ndata: " + failure + "\n\n", []string{"1"}, errShuttingDown},
		"lines":               {get + "Accept: application/x-ndjson\r\n" + host, all, "200", "application/x-ndjson", strings.Join(parts, "\n") + "\n" + `{"error":` + failure + "}\n", parts, errShuttingDown},
		"fails at once":       {get + "Accept: text/event-stream\r\n" + host, all, "400", jsonType, `{"code":-32602,"message":"no such topic"}` + "\n", nil, faultf(codeBadArgument, "no such topic")},
		"no topic":            {"GET /events HTTP/1.1\r\n" + host, `{"after":"","topics":[]}`, "400", jsonType, "", nil, faultf(codeBadArgument, "no topic")},
		"after":               {"GET /events?topic=a&after=k-7 HTTP/1.1\r\n" + host, `{"after":"k-7","topics":["a"]}`, "503", jsonType, "", nil, errShuttingDown},
		"connected again":     {"GET /events?topic=a&after=k-7 HTTP/1.1\r\nLast-Event-ID: k-8\r\n" + host, `{"after":"k-8","topics":["a"]}`, "503", jsonType, "", nil, errShuttingDown},
		"two ids":             {get + "Last-Event-ID: 1\r\nLast-Event-ID: 2\r\n" + host, "", "400", jsonType, "", nil, nil},
		"a broken query":      {"GET /events?topic=%zz HTTP/1.1\r\n" + host, "", "400", jsonType, "", nil, nil},
		"a body":              {get + host + "Content-Length: 1\r\n\r\nx", "", "400", jsonType, "", nil, nil},
		"HEAD":                {strings.Replace(get, "GET", "HEAD", 1) + host, "", "405", jsonType, "", nil, nil},
		"POST":                {strings.Replace(get, "GET", "POST", 1) + host + "Content-Length: 0\r\n", "", "405", jsonType, "", nil, nil},
		"another host":        {get + "Host: example.com\r\n", "", "403", jsonType, "", nil, nil},
		"another origin":      {get + host + "Origin: http://localhost:1\r\n", "", "403", jsonType, "", nil, nil},
		"from another page":   {get + host + "Referer: http://example.com/\r\n", "", "403", jsonType, "", nil, nil},
		"of another site":     {get + host + "Sec-Fetch-Site: cross-site\r\n", "", "403", jsonType, "", nil, nil},
		"of the same machine": {get + host + "Sec-Fetch-Site: same-site\r\n", "", "403", jsonType, "", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, "http://127.0.0.1:0?auth=none")
			heard := make(chan string, 1)
			standIn(t, s, heard, test.end, test.parts...)
			conn := s.connect()
			defer conn.Close()
			send(t, conn, test.send+"\r\n")
			answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: test.send[:strings.IndexByte(test.send, ' ')]})
			must(t, err)
			body, err := io.ReadAll(answer.Body)
			must(t, err)
			if !strings.HasPrefix(answer.Status, test.status) || answer.Header.Get("Content-Type") != test.kind || test.body != "" && string(body) != test.body {
				t.Errorf("it is answered with %s, %s\n%.300q\nwant %s, %s\n%.300q", answer.Status, answer.Header.Get("Content-Type"), body, test.status, test.kind, test.body)
			}
			if answer.StatusCode == http.StatusMethodNotAllowed && answer.Header.Get("Allow") != "GET" {
				t.Errorf("it is said that %s is allowed; want GET", answer.Header.Get("Allow"))
			}
			if test.argument == "" {
				if len(heard) > 0 {
					t.Errorf("it was called with %s", <-heard)
				}
			} else if got := receive(t, heard); got != test.argument {
				t.Errorf("it was called with %s; want %s", got, test.argument)
			}
		})
	}
}

// A sign of life is none of the values, in either codec of each form; behind a failure that has a status of its own there is none.
func TestSignsOfLife(t *testing.T) {
	for i, want := range []string{":\n\n", "\n"} {
		stream := &answerStream{form: answerForms[i], wrap: &answerForms[i].call}
		bare := &bareCodec{stream: stream, limits: defaultLimits()}
		for _, c := range []codec{bare, newJSONCodec(nil, defaultLimits(), stream.form.messages)} {
			if got, err := c.write(nil, &message{kind: alive}, nil); err != nil || string(got) != want {
				t.Errorf("%T writes %q, %v in the form %s; want %q", c, got, err, stream.form.types[0], want)
			}
		}
		if !stream.begun.Load() {
			t.Errorf("%s has begun without its knowledge", stream.form.types[0])
		}
		early := &bareCodec{stream: &answerStream{form: answerForms[i], wrap: &answerForms[i].call}, limits: defaultLimits()}
		early.write(nil, (&message{kind: request}).response(errShuttingDown), nil)
		if got, _ := early.write(nil, &message{kind: alive}, nil); len(got) > 0 || early.fault == nil {
			t.Errorf("behind a failure %s has %q; want nothing", stream.form.types[0], got)
		}
	}
}
