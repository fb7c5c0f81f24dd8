package main

// This file owns what a server does with peers that are not as they should be: silent, slow, gone,
// talking nonsense, or too many.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// readAll is what comes until the other end closes.
func readAll(t testing.TB, conn net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("read until the end: %v", err)
	}
	return string(b)
}

// send writes text to conn.
func send(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Errorf("send %q: %v", shorten(text, 40), err)
	}
}

// checkServes wants a new connection to be served.
func checkServes(t testing.TB, s *testServer) {
	t.Helper()
	conn := s.connect()
	defer conn.Close()
	send(t, conn, sayRequest)
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != sayAnswer {
		t.Errorf("a new connection got %q, %v; want %q", line, err, sayAnswer)
	}
}

const (
	sayRequest = `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["hello"]}`
	sayAnswer  = `{"jsonrpc":"2.0","id":1,"result":"hello"}` + "\n"
)

// TestStrangeBytes sends what no client should, and wants what docs/protocol.md says of it.
func TestStrangeBytes(t *testing.T) {
	gobGarbage := "\x07\xff\xff\xff\xff\xff\xff\xff"
	tests := []struct{ name, send, want string }{
		{"nothing", "", ""},
		{"white space", " \r\n\t\n", ""},
		{"one request", sayRequest, sayAnswer},
		{"glued", sayRequest + sayRequest, sayAnswer + sayAnswer},
		{"a truncated request", sayRequest[:40], ""},
		{"a syntax error", `{"jsonrpc":"2.0",}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{"a syntax error after a request", sayRequest + "}", sayAnswer + `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{"a text in quotes", `"ready"`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,`},
		{"a text without", "hello", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{"HTTP in lower case", "get / HTTP/1.1\r\n\r\n", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{"garbage as gob", gobGarbage, ""},
		{"a truncated gob", "\x2f\xff\x81\x03\x01\x01\x07Request", ""},
		{"zero bytes", strings.Repeat("\x00", 64), ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", string(tlsAlert)},
		{"HTTP nonsense", "GET nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"an empty line before HTTP", "\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK"},
		{"other white space before HTTP", "\n\n \t" + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK"},
		{"much white space", strings.Repeat(" \r\n", 1000) + sayRequest, sayAnswer},
		{"white space before nonsense", "\r\n" + gobGarbage, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{"two Hosts", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"two lengths in HTTP", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "HTTP/1.1 400 Bad Request"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported"},
		{"a header that never ends", "Content-Length: 1\r\n" + strings.Repeat("X-A: b\r\n", 1000), "Content-Length: "},
		{"a wrong Content-Length", "Content-Length: many\r\n\r\n{}", "Content-Length: "},
		{"two Content-Lengths", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "Content-Length: "},
	}
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn := s.connect()
			send(t, conn, test.send)
			conn.(*net.TCPConn).CloseWrite()
			got := readAll(t, conn)
			if test.name == "a syntax error after a request" && strings.HasPrefix(got, `{"jsonrpc":"2.0","id":null`) { // answers come in any order
				lines := strings.SplitAfter(got, "\n")
				got = strings.Join(append(lines[1:], lines[0]), "")
			}
			if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("%q was answered with %q; want %q", shorten(test.send, 60), got, test.want)
			}
			checkServes(t, s)
		})
	}
}

// TestByteAtATime sends each protocol's request in single bytes.
func TestByteAtATime(t *testing.T) {
	body := `"hello"`
	for name, test := range map[string]struct{ send, want string }{
		"value":  {sayRequest, sayAnswer},
		"header": {fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sayRequest), sayRequest), fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sayAnswer)-1, sayAnswer[:len(sayAnswer)-1])},
		"http":   {fmt.Sprintf("POST /call/Echo.Say HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body), "HTTP/1.0 200 OK\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, nil, localEndpoint(t))
			conn := s.connect()
			for _, c := range []byte(test.send) {
				if _, err := conn.Write([]byte{c}); err != nil {
					t.Fatal(err)
				}
			}
			b := make([]byte, len(test.want))
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != test.want {
				t.Errorf("the answer begins with %q, %v; want %q", b, err, test.want)
			}
		})
	}
}

// TestLimits reaches each limit on waiting, and wants the connection to be closed and the log to
// name the limit.
func TestLimits(t *testing.T) {
	t.Parallel() // it waits, most of the time
	short := 30 * time.Millisecond
	tests := []struct {
		name  string
		limit func(l *limits)
		send  string
		want  string
		log   string
	}{
		{"first_bytes", func(l *limits) { l.FirstBytes = short }, "", "", "limit=first_bytes"},
		{"first_bytes of an unfinished word", func(l *limits) { l.FirstBytes = short }, "GE", "", "limit=first_bytes"},
		{"message", func(l *limits) { l.Message = short }, sayRequest[:30], `{"jsonrpc":"2.0","id":1,"error":{"code":-32001,`, "limit message"},
		{"message without an id", func(l *limits) { l.Message = short }, sayRequest[:20], `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,`, "limit message"},
		{"message with headers", func(l *limits) { l.Message = short }, "Content-Length: 100\r\n\r\n" + sayRequest, `{"jsonrpc":"2.0","id":1,"error":{"code":-32001,`, "limit message"},
		{"message of gob", func(l *limits) { l.Message = short }, "\x2f\xff\x81\x03", "", "limit message"},
		{"message of HTTP", func(l *limits) { l.Message = short }, "POST /rpc HTTP/1.1\r\nHost: localhost\r\n", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, test.limit, localEndpoint(t))
			conn := s.connect()
			io.WriteString(conn, test.send) // it may come too late for first_bytes
			if got := readAll(t, conn); !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("the answer is %q; want %q", got, test.want)
			}
			s.idle()
			if !strings.Contains(s.log.String(), test.log) {
				t.Errorf("the log does not have %q", test.log)
			}
		})
	}
}

// TestSlowReader has one caller that never reads, which holds up only itself.
func TestSlowReader(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Write = 50 * time.Millisecond }, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	events := subscribeOver(t, s.endpoints[0], `{"topics":["ipcd.limit.>"]}`)
	conn := s.connect()
	for i := range 8 {
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Trial.Big","params":[4000000]}`, i))
	}
	checkServes(t, s)
	wantLimit := func() {
		t.Helper()
		if got := readEvent(t, events); !strings.HasPrefix(got, `ipcd.limit.write {"limit":"write","max":50`) {
			t.Errorf("of a peer that is given up there is published %s", got)
		}
	}
	wantLimit()
	browser := rawDial(t, s.endpoints[1])
	defer browser.Close()
	body := `{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[16000000]}`
	send(t, browser, fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", s.endpoints[1].Host, len(body), body))
	wantLimit()
	events.Close()
	waitFor(t, func() error {
		if !strings.Contains(s.log.String(), "limit write") {
			return errors.New("the log does not say that a write was given up")
		}
		return nil
	})
	s.idle() // the one was closed
}

// TestOverLimit sends messages over the limit in each protocol. They are refused, the connection
// goes on where a frame allows it, and the memory does not grow by what was sent.
func TestOverLimit(t *testing.T) {
	const size, allowed = 64 << 20, 4 << 20
	big := bytes.Repeat([]byte("x"), 1<<20)
	prefix := `{"jsonrpc":"2.0","id":"a","method":"Echo.Say","params":["`
	tests := []struct{ name, before, after, want string }{
		{"value", prefix, `"]}`, `{"jsonrpc":"2.0","id":"a","error":{"code":-32001,`},
		{"header", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(prefix)+size+3, prefix), `"]}`, `Content-Length: `},
		{"http", fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(prefix)+size+3, prefix), `"]}`, "HTTP/1.1 413 "},
		{"http in chunks", fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n", len(prefix), prefix, size), "\r\n3\r\n\"]}\r\n0\r\n\r\n", "HTTP/1.1 413 "},
		{"bare http in chunks", fmt.Sprintf("POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\"\r\n%x\r\n", size), "\r\n1\r\n\"\r\n0\r\n\r\n", "HTTP/1.1 413 "},
		{"gob", "\xfc\x04\x00\x00\x00", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) { l.MaxMessage = 1 << 20 }, localEndpoint(t))
			checkServes(t, s)
			conn := s.connect()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			most := before.HeapInuse
			io.WriteString(conn, test.before)
			for sent := 0; sent < size; sent += len(big) {
				if _, err := conn.Write(big); err != nil {
					break // refused already
				}
				if sent%(16<<20) == 0 {
					runtime.GC() // what counts is what is kept
					runtime.ReadMemStats(&after)
					most = max(most, after.HeapInuse)
				}
			}
			io.WriteString(conn, test.after)
			if most > before.HeapInuse+allowed {
				t.Errorf("the heap grew by %d KiB; want at most %d", (most-before.HeapInuse)>>10, allowed>>10)
			}
			got := make([]byte, len(test.want))
			if _, err := io.ReadFull(conn, got); test.want != "" && string(got) != test.want {
				// A peer that is refused while it still sends may lose the answer: TCP and pipes alike.
				t.Errorf("the answer begins with %q, %v; want %q", got, err, test.want)
			}
			checkServes(t, s)
		})
	}
}

// TestMaxConnections fills the connections of one user. The next is told so in its own protocol.
func TestMaxConnections(t *testing.T) {
	t.Parallel() // it waits, most of the time
	s := startServerWith(t, func(l *limits) { l.MaxConnections = 3 }, localEndpoint(t))
	var open []net.Conn
	for range 3 {
		conn := s.connect()
		send(t, conn, sayRequest)
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	for name, test := range map[string]struct{ send, want string }{
		"json": {sayRequest, `"error":{"code":-32002,`},
		"rpc":  {postText("/rpc", "", sayRequest), `{"jsonrpc":"2.0","id":null,"error":{"code":-32002,`},
		"http": {"POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n\"a\"", "HTTP/1.1 429 Too Many Requests"},
	} {
		conn := s.connect()
		send(t, conn, test.send)
		got := readAll(t, conn)
		if !strings.Contains(got, test.want) || !strings.Contains(got, "max_connections") {
			t.Errorf("%s: the fourth connection got %q; want %q and max_connections", name, got, test.want)
		}
	}
	open[0].Close()
	waitFor(t, func() error {
		if n := s.meter.connections.Load(); n > 2 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	checkServes(t, s)
}

// postText is a request with a body, as it goes over the wire.
func postText(path, header, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", path, header, len(body), body)
}

// TestHalfClose has callers that shut their sending side and wait, as nc -N does. They are answered; on TCP no later than
// half_close.
func TestHalfClose(t *testing.T) {
	block := `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`
	tests := []struct{ name, send, want, late string }{
		{"JSON", block, `{"jsonrpc":"2.0","id":1,"result":"a"}` + "\n", `"error":{"code":-32800,`},
		{"JSON, in the middle of a message", block + `{"jsonrpc":"2.0"`, `{"jsonrpc":"2.0","id":1,"result":"a"}` + "\n", `"error":{"code":-32800,`},
		{"bare", postText("/call/Trial.Block", "", `"a"`), "\r\n\r\n\"a\"\n", "HTTP/1.1 503 "},
		{"bare, HTTP/1.0", strings.Replace(postText("/call/Trial.Block", "", `"a"`), "/1.1", "/1.0", 1), "\r\n\r\n\"a\"\n", "HTTP/1.0 503 "},
		{"JSON-RPC by POST", postText("/rpc", "", block), `"result":"a"}` + "\n", `"error":{"code":-32800,`},
		{"events", postText("/call/Trial.Block", "Accept: text/event-stream\r\n", `"a"`), "event: result\ndata: \"a\"\n\n\r\n0\r\n\r\n", `"code":-32800`},
	}
	for _, place := range placesOfTest[:3] {
		for _, test := range tests {
			for _, limit := range []time.Duration{time.Hour, time.Millisecond} {
				local := place.name == "local"
				if local && (limit == time.Millisecond || localScheme == "npipe") {
					continue // it is known whether the caller is there; and a pipe has no sides to shut
				}
				t.Run(fmt.Sprintf("%s/%s/%v", place.name, test.name, limit), func(t *testing.T) {
					s := startServerWith(t, func(l *limits) { l.HalfClose = limit }, place.at(t))
					conn := s.connect()
					send(t, conn, test.send)
					s.begun(1)
					must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
					want := test.late
					if limit == time.Hour {
						want = test.want
						for range 20 { // who would be told at once, is told by now
							checkServes(t, s)
						}
						s.freeAll()
					}
					if got := readAll(t, conn); !strings.Contains(got, want) {
						t.Errorf("the answer is %q; want %q", got, want)
					}
				})
			}
		}
	}
}

// TestLastAnswersArrive has a peer that goes on sending behind what ends its connection. It reads afterwards, and must find
// what it was told, and then the end.
func TestLastAnswersArrive(t *testing.T) {
	behind := strings.Repeat(sayRequest+"\n", 16<<10) // 1 MiB, more than a socket holds
	tests := []struct{ name, send, want string }{
		{"a syntax error", sayRequest + `{"id":1,}`, sayAnswer + `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{"headers without a length", "Content-Length: many\r\n\r\n", `"error":{"code":-32700,`},
		{"nested too deeply", strings.Repeat("[", 100), `"error":{"code":-32001,`},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", string(tlsAlert)},
		{"no HTTP", "GET nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 "},
		{"too large a body", "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n", `"code":-32001,`},
		{"the end of keep-alive", postText("/call/Echo.Say", "Connection: close\r\n", `"a"`), "\"a\"\n"},
		{"too many connections", sayRequest, `"error":{"code":-32002,`},
		{"too many connections over HTTP", postText("/rpc", "", sayRequest), `{"jsonrpc":"2.0","id":null,"error":{"code":-32002,`},
		{"too many connections over TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", string(tlsAlert)},
	}
	for _, place := range placesOfTest[:3] {
		for _, test := range tests {
			t.Run(place.name+"/"+test.name, func(t *testing.T) {
				s := startServerWith(t, func(l *limits) { l.MaxConnections = 1 }, place.at(t))
				if strings.HasPrefix(test.name, "too many") {
					send(t, s.connect(), blockRequest) // one that rests would make room, where the system does not say whose it is
					s.begun(1)
					defer s.freeAll()
				}
				conn := s.connect()
				send(t, conn, test.send+behind)
				got, err := io.ReadAll(conn)
				if !strings.Contains(string(got), test.want) || err != nil {
					t.Errorf("the peer read %q, %v; want %q and the end", shorten(string(got), 200), err, test.want)
				}
			})
		}
	}
}

// A caller over HTTP who has sent the next request, or a part of it, behind one that is being answered, and goes, is noticed. One who stays has
// both answers.
func TestCallerWhoGoesBehindTheNextRequest(t *testing.T) {
	t.Parallel() // it waits, most of the time
	block := `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`
	call := fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(block), block)
	const next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"
	for _, place := range placesOfTest[:3] {
		for _, goes := range []bool{false, true} {
			for _, behind := range []int{1, 2, len(next) / 2, len(next), 50 * len(next), 1000 * len(next)} {
				if behind > inputSmall && goes && place.name != "local" && (runtime.GOOS != "linux" || behind > 50*len(next)) {
					continue // no other system tells of it, and what its end is behind has to fit into the socket
				}
				t.Run(fmt.Sprintf("%s/%d bytes/goes %t", place.name, behind, goes), func(t *testing.T) {
					t.Parallel()
					s := startServerWith(t, func(l *limits) { l.HalfClose = time.Millisecond }, place.at(t))
					conn := s.connect()
					send(t, conn, call)
					s.begun(1)
					sent := make(chan error, 1)
					go func() {
						_, err := io.WriteString(conn, strings.Repeat(next, 1+behind/len(next))[:behind])
						sent <- err
						close(sent)
					}()
					if behind <= len(next) || behind <= 50*len(next) && runtime.GOOS != "windows" { // otherwise there is no room for all of it
						must(t, receive(t, sent))
					}
					if goes {
						conn.Close()
						if err := receive(t, s.trial.left); err == nil {
							t.Error("the context of the method has not ended")
						}
						s.freeAll()
						return
					}
					s.freeAll()
					go func() {
						for range sent { // it has been, by then
						}
						io.WriteString(conn, next[behind%len(next):]+strings.Replace(next, "Host", "Connection: close\r\nHost", 1))
					}()
					if got, want := readAll(t, conn), 3+behind/len(next); !strings.Contains(got, `"id":1,"result":"a"}`) || strings.Count(got, "200 OK") != want {
						t.Errorf("there are %d answers, %.300q; want %d", strings.Count(got, "200 OK"), got, want)
					}
				})
			}
		}
	}
}

// TestOnlyTheCallerEndsACall has calls in flight behind which something comes that is never read to its end: it is no message,
// does not arrive in time, or the daemon stops. They are answered if their caller stays, however long that takes, and end if
// it goes.
func TestOnlyTheCallerEndsACall(t *testing.T) {
	t.Parallel() // it waits, most of the time
	block := `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`
	head := "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	chunks := "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
	garbage := block + "garbage" + strings.Repeat("x", 100_000)
	tests := []struct{ name, send string }{
		{"JSON, then garbage", garbage},
		{"JSON, then half a message, too late", block + `{"jsonrpc"`},
		{"HTTP, garbage", head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(garbage), garbage)},
		{"HTTP, garbage and no end", head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(garbage)+1, garbage)},
		{"HTTP, half a body, too late", head + chunks},
		{"HTTP, half a body, stop", head + chunks},
		{"events, half a body, too late", head + "Accept: text/event-stream\r\n" + chunks},
		{"events, half a body, stop", head + "Accept: text/event-stream\r\n" + chunks},
	}
	for _, place := range placesOfTest[:3] {
		for _, test := range tests {
			for _, goes := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/goes %t", place.name, test.name, goes), func(t *testing.T) {
					t.Parallel()
					s := startServerWith(t, func(l *limits) {
						l.HalfClose, l.Drain = time.Millisecond, time.Hour
						if strings.HasSuffix(test.name, "too late") {
							l.Message = 50 * time.Millisecond
						}
					}, place.at(t))
					other := dialOurs(protoJSON)(t, s.endpoints[0])
					defer other.close()
					done := inBackground(t.Context(), other, "Trial.Block", "b") // so that it is heard while the daemon stops
					s.begun(1)
					conn := s.connect()
					send(t, conn, test.send)
					s.begun(1)
					stops := strings.HasSuffix(test.name, "stop")
					var stopped <-chan error
					if stops {
						stopped = s.stopInBackground()
					}
					waitFor(t, func() error {
						if !strings.Contains(s.log.String(), "the peer broke the protocol") {
							return errors.New("the daemon has not given up the rest")
						}
						return nil
					})
					if goes {
						conn.Close()
						if err := receive(t, s.trial.left); err == nil {
							t.Error("the context of the method has not ended")
						}
						s.freeAll()
					} else {
						for range 20 { // a call that is cut at once, is cut by now
							if err := ask(other, "Ipcd.Ping", nil, nil); err != nil && !errors.Is(err, errShuttingDown) {
								t.Error(err)
							}
						}
						s.freeAll()
						if got := readAll(t, conn); !strings.Contains(got, `"id":1,"result":"a"}`) {
							t.Errorf("the answer is %q; want the result", got)
						}
					}
					must(t, receive(t, done))
					if stops {
						must(t, receive(t, stopped))
					}
				})
			}
		}
	}
}

// TestLeavesInMidCall has a caller that goes while its call runs: the call ends, the daemon goes on.
func TestLeavesInMidCall(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	conn := s.connect()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`)
	s.begun(1)
	conn.Close()
	if err := receive(t, s.trial.left); err == nil {
		t.Error("the context of the method has not ended")
	}
	s.idle()
	checkServes(t, s)
}

// TestLeavesWhileItStops has callers that go, shut their sending side or read no more while the daemon waits for their
// calls: it does not wait for those until drain has passed.
func TestLeavesWhileItStops(t *testing.T) {
	t.Parallel() // it waits, most of the time
	for name, test := range map[string]struct {
		e     string
		leave func(conn net.Conn)
	}{
		"goes": {localEndpoint(t).String(), func(conn net.Conn) { conn.Close() }},
		"half": {"tcp://127.0.0.1:0?auth=none", func(conn net.Conn) { conn.(*net.TCPConn).CloseWrite() }},
		"reads not": {localEndpoint(t).String(), func(conn net.Conn) {
			send(t, conn, `{"jsonrpc":"2.0","id":"`+strings.Repeat("a", 8<<20)+`","method":"Ipcd.Ping"}`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) { l.Drain, l.HalfClose, l.Write = time.Hour, time.Millisecond, time.Second }, mustParse(t, test.e))
			conn := s.connect()
			send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`)
			s.begun(1)
			stopped := s.stopInBackground()
			test.leave(conn)
			receive(t, s.trial.left)
			if err := receive(t, stopped); err != nil {
				t.Errorf("stop = %v; want nil", err)
			}
		})
	}
}

// TestEcho has the echo server of the article on each transport.
func TestEcho(t *testing.T) {
	local := localEndpoint(t).withProto(protoEcho)
	for _, e := range []endpoint{local, mustParse(t, "tcp://127.0.0.1:0?auth=none&proto=echo")} {
		s := startServerWith(t, func(l *limits) {
			if e.Scheme != "npipe" { // whose caller is known only after its first bytes
				l.FirstBytes = 1 // it is over before it begins: nobody may wait by it
			}
		}, e)
		conn := s.connect()
		text := "\x16\x03 {\x00" + strings.Repeat("any bytes ", 10_000)
		go io.WriteString(conn, text)
		b := make([]byte, len(text))
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != text {
			t.Errorf("%s gave back %q, %v", e, shorten(string(b), 40), err)
		}
		conn.Close()
		s.idle()
		for _, word := range []string{"connect", "receive", "send", "disconnect"} {
			if !strings.Contains(s.log.String(), "msg="+word) && !strings.Contains(s.log.String(), " "+word) {
				t.Errorf("%s: the log does not have %q", e, word)
			}
		}
	}
}

// TestSlowReaderOverHTTP has the same over HTTP, and a stop that waits for nobody who never reads.
func TestSlowReaderOverHTTP(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Write = 50 * time.Millisecond }, localEndpoint(t))
	conn := s.connect()
	send(t, conn, "POST /call/Trial.Big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n12000000")
	s.idle() // it was closed
	checkServes(t, s)
}

// TestReadsSlowly has a caller that reads bit by bit for longer than the limit on a blocked write.
func TestReadsSlowly(t *testing.T) {
	t.Parallel() // it waits, most of the time
	if testing.Short() {
		t.Skip("it takes two seconds")
	}
	s := startServerWith(t, func(l *limits) { l.Write = time.Second }, localEndpoint(t))
	conn := s.connect()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[8000000]}`)
	got, buf := 0, make([]byte, 64<<10)
	for tick := time.NewTicker(15 * time.Millisecond); ; <-tick.C {
		n, err := conn.Read(buf)
		if got += n; err != nil {
			t.Fatalf("%v after %d bytes", err, got)
		}
		if buf[n-1] == '\n' {
			break
		}
	}
	if got < 8_000_000 {
		t.Errorf("the answer has %d bytes", got)
	}
}

// TestBodies sends bodies over HTTP that are not as they should be.
func TestBodies(t *testing.T) {
	head := "POST /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
	bare := strings.Replace(head, "/rpc", "/call/Echo.Say", 1)
	describe := `{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[50000]}`
	many := strings.Repeat(describe, 100)
	endless := head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat(" ", 0x1000)+"\r\n", 300)
	chunked := func(text string) string {
		return head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text)
	}
	long := `"method":"Echo.Say","params":["` + strings.Repeat("x", 3<<19) + `"]`
	tests := []struct{ name, send, status, words string }{
		{"chunks over the limit", chunked(`{"jsonrpc":"2.0","id":7,` + long + "}"), "413 Request Entity Too Large", `{"jsonrpc":"2.0","id":7,"error":{"code":-32001,`},
		{"chunks over the limit, the id last", chunked(`{"jsonrpc":"2.0",` + long + `,"id":7}`), "413 Request Entity Too Large", `{"jsonrpc":"2.0","id":7,"error":{"code":-32001,`},
		{"chunks over the limit together", chunked(sayRequest + `{"jsonrpc":"2.0",` + long[:1<<20-50] + `"],"id":7}`), "413 Request Entity Too Large", sayAnswer + `{"jsonrpc":"2.0","id":7,"error":{"code":-32001,`},
		{"a notification over the limit", chunked(`{"jsonrpc":"2.0",` + long + "}"), "413 Request Entity Too Large", `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,`},
		{"a batch over the limit", chunked(`[{"jsonrpc":"2.0","id":7,` + long + "}]"), "413 Request Entity Too Large", `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,`},
		{"white space over the limit", chunked(sayRequest + strings.Repeat(" ", 1<<20)), "413 Request Entity Too Large", sayAnswer + `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,`},
		{"too late, with an id", head + "Content-Length: 100\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":7,", "413 Request Entity Too Large", `{"jsonrpc":"2.0","id":7,"error":{"code":-32001,`},
		{"no JSON, and no end", strings.Replace(head, "Connection: close\r\n", "", 1) + "Content-Length: 100\r\n\r\n{]", "400 Bad Request", `"code":-32700`},
		{"a broken chunk", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"jso\r\nZZ\r\n", "400 Bad Request", `"code":-32700`},
		{"a broken chunk, bare", bare + "Transfer-Encoding: chunked\r\n\r\n5\r\n\"jso\"\r\nZZ\r\n", "400 Bad Request", `"code":-32700`},
		{"a byte order mark", head + fmt.Sprintf("Content-Length: %d\r\n\r\n\ufeff%s", 3+len(sayRequest), sayRequest), "200 OK", strings.TrimSpace(sayAnswer)},
		{"a byte order mark, bare", bare + "Content-Length: 10\r\n\r\n\ufeff\"hello\"", "200 OK", `"hello"`},
		{"no request", head + "Content-Length: 1\r\n\r\n5", "200 OK", `"code":-32600`},
		{"too late", head + "Content-Length: 100\r\n\r\n{", "413 Request Entity Too Large", `"limit":"message"`},
		{"too late, bare", bare + "Content-Length: 100\r\n\r\n\"", "413 Request Entity Too Large", `"limit":"message"`},
		{"too many answers", head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(many), many), "413 Request Entity Too Large", "the answers to the body are too long together"},
		{"too late or too large", endless, "413 Request Entity Too Large", `"limit":"m`},
		{"chunks without an end", endless, "413 Request Entity Too Large", "the body is too large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) {
				l.MaxMessage = 1 << 20
				if strings.HasPrefix(test.name, "too late") {
					l.Message = 100 * time.Millisecond
				}
			}, localEndpoint(t))
			conn := s.connect()
			go io.WriteString(conn, test.send) // some of it is refused
			got := readAll(t, conn)
			if !strings.HasPrefix(got, "HTTP/1.1 "+test.status) || !strings.Contains(got, test.words) {
				t.Errorf("the answer is %q; want %s and %s", shorten(got, 400), test.status, test.words)
			}
			checkServes(t, s)
		})
	}
}

// TestStopDoesNotWaitForHalfARequest stops while somebody has begun to say something.
func TestStopDoesNotWaitForHalfARequest(t *testing.T) {
	for name, text := range map[string]string{
		"JSON": `{"jsonrpc"`, "gob": "\x2f\xff\x81\x03", "a header": "POST /rpc HTTP/1.1\r\nHo", "a body": "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for as long as the stop does
			s := startServerWith(t, func(l *limits) { l.Drain = testPatience }, localEndpoint(t))
			send(t, s.connect(), text)
			waitFor(t, func() error {
				if s.meter.connections.Load() == 0 {
					return errors.New("the connection is not there yet")
				}
				return nil
			})
			stopped := make(chan error, 1)
			go func() { stopped <- s.stop(t.Context()) }()
			if err := receive(t, stopped); err != nil {
				t.Errorf("stop = %v; want nil", err)
			}
		})
	}
}

// TestStopDoesNotWaitForOneWhoGoesOn stops while a peer sends without end what nobody has to answer: it has its second for a
// first request, and no more.
func TestStopDoesNotWaitForOneWhoGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("it keeps all processors busy for a second")
	}
	notice := `{"jsonrpc":"2.0","method":"Ipcd.Ping"}`
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(notice), notice)
	for name, test := range map[string]struct{ before, answer, again string }{
		"notifications":   {notice, "", notice},
		"after a request": {sayRequest, sayAnswer, notice},
		"HTTP":            {"POST /rpc HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, "", chunk},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for that second
			s := startServerWith(t, func(l *limits) { l.Drain, l.Write = time.Hour, time.Hour }, localEndpoint(t))
			conn := s.connect()
			send(t, conn, test.before)
			_, err := io.ReadFull(conn, make([]byte, len(test.answer)))
			must(t, err)
			waitFor(t, func() error {
				if s.meter.calls.Load() == 0 {
					return errors.New("nothing has been called yet")
				}
				return nil
			})
			stopped := s.stopInBackground()
			over := make(chan error)
			go func() {
				var err error
				for err == nil {
					_, err = io.WriteString(conn, test.again)
				}
				over <- err
			}()
			if err := receive(t, stopped); err != nil {
				t.Errorf("stop = %v; want nil", err)
			}
			receive(t, over)
		})
	}
}

// TestStopHearsThoseWhoHaveJustCome stops while somebody is connected who has not said anything, or
// not all of it, and wants the first request, and no other, to be answered.
func TestStopHearsThoseWhoHaveJustCome(t *testing.T) {
	t.Parallel() // it waits, most of the time
	ping := `{"jsonrpc":"2.0","id":2,"method":"Ipcd.Ping"}`
	post := fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(sayRequest+ping), sayRequest+ping)
	echo := localEndpoint(t).withProto(protoEcho)
	for name, test := range map[string]struct {
		e            endpoint
		before, text string // sent before the stop and after
		want, never  string
	}{
		"JSON":               {localEndpoint(t), "", sayRequest, sayAnswer, ""},
		"half of it is said": {localEndpoint(t), sayRequest[:30], sayRequest[30:], sayAnswer, ""},
		"a second request":   {localEndpoint(t), "", sayRequest + ping, `"result":"hello"}` + "\n" + `{"jsonrpc":"2.0","id":2,"error":{"code":-32003,`, "pong"},
		"a batch":            {localEndpoint(t), "", "[" + sayRequest + "," + ping + "]", "pong", "error"},
		"a notification":     {localEndpoint(t), "", `{"jsonrpc":"2.0","method":"Ipcd.Ping"}` + sayRequest, sayAnswer, "error"},
		"HTTP":               {localEndpoint(t), "", post, "pong", "error"},
		"half of a header":   {localEndpoint(t), post[:20], post[20:], "pong", "error"},
		"half of a body":     {localEndpoint(t), post[:len(post)-20], post[len(post)-20:], "pong", "error"},
		"HTTP, and again":    {localEndpoint(t), "", post + post, "Connection: close", "error"},
		"an echo":            {echo, "", "hello", "hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) { l.Drain = testPatience }, test.e)
			conn := s.connect()
			send(t, conn, test.before)
			waitFor(t, func() error {
				if s.meter.accepted.Load() == 0 {
					return errors.New("the connection is not there yet")
				}
				return nil
			})
			stopped := s.stopInBackground()
			send(t, conn, test.text)
			if got := readAll(t, conn); !strings.Contains(got, test.want) || test.never != "" && strings.Contains(got, test.never) {
				t.Errorf("the answer is %q; want %q, and not %q", got, test.want, test.never)
			}
			if err := receive(t, stopped); err != nil {
				t.Errorf("stop = %v; want nil", err)
			}
		})
	}
}

// TestStopAnswersNewCallsWhileOneRuns has a caller that goes on calling while the daemon waits for a
// call of its own: each is told that it was not begun, however long that takes.
func TestStopAnswersNewCallsWhileOneRuns(t *testing.T) {
	for _, p := range []proto{protoJSON, protoGob} {
		s := startServerWith(t, nil, localEndpoint(t))
		c := dialOurs(p)(t, s.endpoints[0])
		done := inBackground(t.Context(), c, "Trial.Block", "a")
		s.begun(1)
		stopped := make(chan error, 1)
		go func() { stopped <- s.stop(t.Context()) }()
		waitFor(t, func() error {
			if err := ask(c, "Ipcd.Ping", nil, nil); !errors.Is(err, errShuttingDown) {
				return fmt.Errorf("a call = %v; want that the daemon stops", err)
			}
			return nil
		})
		for began := time.Now(); time.Since(began) < 3*drainSweep; {
			checkCode(t, "a call in the drain", ask(c, "Ipcd.Ping", nil, nil), codeShuttingDown, "may be retried")
		}
		s.freeAll()
		if err := receive(t, done); err != nil {
			t.Errorf("the call in flight = %v; want its result", err)
		}
		if err := receive(t, stopped); err != nil {
			t.Errorf("stop = %v; want nil", err)
		}
		c.close()
	}
}

// A sluggish is a result whose encoding ends when the test lets it.
type sluggish struct {
	begun chan<- struct{}
	end   <-chan struct{}
}

func (s sluggish) MarshalJSON() ([]byte, error) {
	s.begun <- struct{}{}
	<-s.end
	return []byte(`"at last"`), nil
}

// TrialOfSlowness has a method whose result takes long to encode.
type TrialOfSlowness struct{ result sluggish }

// Take returns the result.
func (s TrialOfSlowness) Take(ctx context.Context) (sluggish, error) { return s.result, nil }

func TestSlowEncodingHoldsUpNoOtherAnswer(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	begun, end := make(chan struct{}, 1), make(chan struct{})
	must(t, addReceiver(s.router, TrialOfSlowness{sluggish{begun, end}}, nil))
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	slow := inBackground(context.Background(), c, "TrialOfSlowness.Take", nil)
	receive(t, begun)
	checkSay(t, c, "is not held up")
	close(end)
	must(t, receive(t, slow))
}

// Part sends the result as a part.
func (s TrialOfSlowness) Part(ctx context.Context) error {
	return ctx.Value(callKey).(*call).sendPart(s.result)
}

// An encoding that never ends holds up neither a caller whose time is over nor the end of the daemon.
func TestEndlessEncodingHoldsUpNoEnd(t *testing.T) {
	t.Parallel() // it waits, most of the time
	request := func(method string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","parts":1}`
	}
	late := strings.Replace(request("TrialOfSlowness.Take"), "}", `,"timeout":MS}`, 1)
	for name, test := range map[string]struct{ send, want string }{
		"result":             {request("TrialOfSlowness.Take"), `"id":1,"error":{"code":-32003,`},
		"part":               {request("TrialOfSlowness.Part"), `"id":1,"error":{"code":-32003,`},
		"result over HTTP":   {postText("/rpc", "", request("TrialOfSlowness.Take")), ""},
		"result, bare":       {postText("/call/TrialOfSlowness.Take", "", ""), ""},
		"part of events":     {postText("/call/TrialOfSlowness.Part", "Accept: text/event-stream\r\n", ""), ""},
		"result, late":       {late, `"id":1,"error":{"code":-32004,`},
		"result, late, HTTP": {postText("/call/TrialOfSlowness.Take", "Ipcd-Timeout: MSms\r\n", ""), `"code":-32004`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, func(l *limits) { l.Drain = time.Hour }, localEndpoint(t))
			begun, end := make(chan struct{}, 20), make(chan struct{})
			defer close(end)
			must(t, addReceiver(s.router, TrialOfSlowness{sluggish{begun, end}}, nil))
			conn := s.connect()
			// On a loaded machine the deadline may pass before the method is called, or its result is encoded.
			for ms := 1; len(begun) == 0 && ms < 1<<cap(begun); ms *= 2 {
				send(t, conn, strings.Replace(test.send, "MS", strconv.Itoa(ms), 1))
				if !strings.Contains(name, "late") {
					break
				}
				b := make([]byte, 1<<10)
				if n, err := conn.Read(b); !strings.Contains(string(b[:n]), test.want) {
					t.Errorf("the answer is %q, %v; want %q", b[:n], err, test.want)
				}
			}
			receive(t, begun)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // at once
			stopped := make(chan error, 1)
			go func() { stopped <- s.stop(ctx) }()
			if got := readAll(t, conn); !strings.Contains(name, "late") && !strings.Contains(got, test.want) {
				t.Errorf("the answer is %q; want %q", got, test.want)
			}
			if err := receive(t, stopped); err != errForced {
				t.Errorf("stop = %v; want %v", err, errForced)
			}
		})
	}
}

// docs/protocol.md, section 13: the limits of a connection are those of its beginning.
func TestConnectionKeepsItsLimits(t *testing.T) {
	s := startServer(t, mustParse(t, "http://127.0.0.1:0?auth=none").String())
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: testPatience}
	body := `"` + strings.Repeat("a", 2000) + `"`
	status := func(client *http.Client) int {
		t.Helper()
		r, err := client.Post("http://"+s.endpoints[0].Host+"/call/Echo.Say", jsonType, strings.NewReader(body))
		must(t, err)
		defer r.Body.Close()
		io.Copy(io.Discard, r.Body)
		return r.StatusCode
	}
	if got := status(&client); got != http.StatusOK {
		t.Fatalf("the first request is answered with %d", got)
	}
	less := *s.limits()
	less.MaxMessage = 1000
	s.inForce.Store(&less)
	if got := status(&client); got != http.StatusOK {
		t.Errorf("after a change of the limits the connection has those of now: status %d", got)
	}
	client.CloseIdleConnections()
	if got := status(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testPatience}); got != http.StatusRequestEntityTooLarge {
		t.Errorf("a new connection does not have the limits of now: status %d", got)
	}
}

// Whoever turns callers away while the server stops must not bring the spare descriptor back.
func TestStopKeepsNoSpareDescriptor(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	var l *listener
	s.mu.Lock()
	for one := range s.listeners {
		l = one
	}
	s.mu.Unlock()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				s.turnAway(l)
			}
		})
	}
	must(t, s.stop(context.Background()))
	all.Wait()
	if s.spare != nil {
		t.Error("a stopped server has opened its spare descriptor again")
	}
}

// A peer that is refused, and has not said yet what it speaks, does not hold up the end.
func TestStopDoesNotWaitForTheRefused(t *testing.T) {
	t.Parallel() // it waits, most of the time
	s := startServerWith(t, func(l *limits) { l.FirstBytes, l.Drain = time.Hour, time.Hour })
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := &connection{Conn: theirs, server: s.server, shared: s.shared, limits: s.limits(), endpoint: localEndpoint(t), log: s.server.log, refusal: errDenied}
	s.wg.Go(func() {
		defer theirs.Close()
		s.refuse(c)
	})
	waitFor(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.stage == nil {
			return errors.New("it has not begun to look at the first bytes")
		}
		return nil
	})
	must(t, s.stop(t.Context()))
}

// Those whose calls are cut are told so, also behind an answer that is still being written.
func TestCutTellsBehindALongAnswer(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Drain = 100 * time.Millisecond }, localEndpoint(t))
	conn := noDeadline(s.connect())
	narrow(conn)
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`)
	s.begun(1)
	send(t, conn, `{"jsonrpc":"2.0","id":2,"method":"Trial.Big","params":[4000000]}`)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(context.Background()) }()
	waitFor(t, func() error {
		if !strings.Contains(s.log.String(), "calls in flight are cut") {
			return errors.New("nothing has been cut yet")
		}
		return nil
	})
	if got := readAll(t, conn); !strings.Contains(got, `"id":1,"error":{"code":-32003`) {
		t.Errorf("after %d bytes the connection ends without a word on the call that was cut", len(got))
	}
	if err := receive(t, stopped); err != errForced {
		t.Errorf("stop = %v; want %v", err, errForced)
	}
}

// TestStopIsForTheOwner has callers that the kernel does not name, whatever they speak, and a daemon that nothing can stop but
// whoever started it.
func TestStopIsForTheOwner(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none", localEndpoint(t).String())
	for _, k := range clientKinds {
		c := k.dial(t, s.endpoints[0])
		checkCode(t, k.name+": Stop over TCP", ask(c, "Ipcd.Stop", nil, new(bool)), codeDenied, "may not control the daemon; that is for callers at a local endpoint")
		for method, arg := range map[string]any{"Restart": nil, "WorkerStart": "a", "WorkerStop": "a", "WorkerRestart": "a", "WorkerReload": "a", "WorkerLog": WorkerLogQuery{Name: "a"}} {
			checkCode(t, k.name+": "+method+" over TCP", ask(c, "Ipcd."+method, arg, nil), codeDenied, "may not control the daemon")
		}
		c.close()
	}
	c := dialOurs(protoJSON)(t, s.endpoints[1])
	defer c.close()
	s.server.life = life{build: "b", log: "/somewhere/of/ours", config: "/settings/of/ours"}
	stranger := dialOurs(protoJSON)(t, s.endpoints[0])
	defer stranger.close()
	for c, want := range map[caller]life{c: s.server.life, stranger: {}} {
		var got Status
		if err := ask(c, "Ipcd.Status", nil, &got); err != nil || got.Log != want.log || got.Config != want.config || got.Build != want.build {
			t.Errorf("Status = %+v, %v; want the build %q, the log %q, the file %q", got, err, want.build, want.log, want.config)
		}
	}
	checkCode(t, "Stop of a daemon without an end", ask(c, "Ipcd.Stop", nil, new(bool)), codeApplication, "ends with the program that started it")
	checkCode(t, "Restart of it", ask(c, "Ipcd.Restart", nil, new(bool)), codeApplication, "ends with the program that started it")
	stops := 0
	s.server.life = life{service: instance{name: "ipcd-2", user: true}, stop: func() { stops++ }}
	checkCode(t, "Stop of a service", ask(c, "Ipcd.Stop", nil, new(bool)), codeApplication, "ipcd stop --name ipcd-2 --user")
	checkCode(t, "Restart where that cannot be", ask(c, "Ipcd.Restart", nil, new(bool)), codeApplication, "cannot execute another program in a process that runs")
	s.server.life.service = instance{}
	if err := ask(c, "Ipcd.Stop", nil, new(bool)); err != nil || stops != 1 {
		t.Errorf("Stop = %v, and the daemon was stopped %d times; want once", err, stops)
	}
}

// A caller that goes without waiting for its answers has lost nothing, whether it withdraws its call first or not.
func TestCallerThatGoesIsNoTrouble(t *testing.T) {
	const request, withdrawal = `{"jsonrpc":"2.0","id":1,"method":"Trial.Slow","params":[3600000]}`, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`
	for _, row := range []struct {
		name     string
		endpoint string
		last     string
	}{
		{"at once", localEndpoint(t).String(), ""}, {"after a withdrawal", localEndpoint(t).String(), withdrawal},
		{"after a withdrawal, TCP", "tcp://127.0.0.1:0?auth=none", withdrawal},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, row.endpoint)
			conn := rawDial(t, s.endpoints[0])
			send(t, conn, request)
			waitFor(t, func() error {
				if s.meter.calls.Load() == 0 {
					return errors.New("the call has not begun")
				}
				return nil
			})
			if row.last != "" {
				send(t, conn, row.last)
			}
			conn.Close()
			waitFor(t, func() error {
				if !strings.Contains(s.log.String(), " disconnect ") {
					return errors.New("it has not gone")
				}
				return nil
			})
			for _, text := range []string{"info  a connection was cut", "info  the connection was lost"} {
				if strings.Contains(s.log.String(), text) {
					t.Errorf("the log has %q", text)
				}
			}
		})
	}
}
