package main

// This file owns what is decided about an HTTP request before its body is read: by its path, its method and its headers.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// overHTTP sends a request as it goes over the wire and returns the answer with its body.
func overHTTP(t testing.TB, s *testServer, text string) (*http.Response, string) {
	t.Helper()
	conn := s.connect()
	defer conn.Close()
	send(t, conn, text)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer, string(body)
}

// TestRequestsByTheirHeader has requests whose outcome does not depend on their body. What is not taken is told in the form
// that the caller understands: a response of JSON-RPC, or the bare error.
func TestRequestsByTheirHeader(t *testing.T) {
	ping := `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}`
	rpc := func(path, header string) string { return postText(path, header, ping) }
	as := func(mediaType string) string { // in place of the usual type
		return strings.Replace(rpc("/rpc", ""), "application/json", mediaType, 1)
	}
	bare := func(mediaType string) string {
		return strings.Replace(postText("/call/Echo.Say", "", `"a"`), "application/json", mediaType, 1)
	}
	const (
		pong    = `{"jsonrpc":"2.0","id":1,"result":"pong"}`
		refused = `{"jsonrpc":"2.0","id":null,"error":{"code":`
	)
	tests := []struct{ name, send, status, body string }{
		// the media types of JSON and of JSON-RPC, in any case, with parameters and without
		{"application/json-rpc", as("application/json-rpc"), "200", pong},
		{"application/jsonrequest", as("application/jsonrequest"), "200", pong},
		{"capitals", as("Application/JSON-RPC"), "200", pong},
		{"a parameter", as("application/json; charset=utf-8"), "200", pong},
		{"a parameter twice", as("application/json;charset=utf-8;charset=utf-8"), "200", pong},
		{"an odd parameter", as("application/json-rpc ; charset"), "200", pong},
		{"text/json", as("text/json"), "200", pong},
		{"a suffix", as("application/vnd.example+json"), "200", pong},
		{"a bare call of one of them", bare("application/json-rpc;charset=UTF-8"), "200", `"a"`},
		{"no JSON", as("text/plain"), "415", refused + "-32600,"},
		{"a form", as("application/x-www-form-urlencoded"), "415", refused + "-32600,"},
		{"JSON as a parameter", as("text/plain; application/json"), "415", refused + "-32600,"},
		{"JSON in a list", as("text/plain, application/json"), "415", refused + "-32600,"},
		{"a bare call of none of them", bare("text/plain"), "415", `{"code":-32600,`},
		// where clients post that cannot be told a path, or join it from parts
		{"the root", rpc("/", ""), "200", pong},
		{"no path", rpc("http://localhost", ""), "200", pong},
		{"a whole URL", rpc("http://localhost/rpc", ""), "200", pong},
		{"a slash behind", rpc("/rpc/", ""), "200", pong},
		{"two slashes", rpc("//rpc", ""), "200", pong},
		{"a query", rpc("/?x=y", ""), "200", pong},
		{"a bare call with slashes", postText("//call//Echo.Say/", "", `"a"`), "200", `"a"`},
		{"dots", rpc("/call/../rpc", ""), "404", `{"code":-32601,`},
		{"another path", rpc("/jsonrpc", ""), "404", `{"code":-32601,`},
		{"the root for a browser", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", `{"code":-32601,`},
		{"the root as a form", strings.Replace(rpc("/", ""), "application/json", "text/plain", 1), "415", refused + "-32600,"},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", `{"code":-32601,`},
		// the form of a refusal
		{"a GET", "GET /rpc HTTP/1.1\r\nHost: localhost\r\n\r\n", "405", refused + "-32600,"},
		{"a bare GET", "GET /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\n\r\n", "405", `{"code":-32600,`},
		{"too long", "POST /rpc/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n", "413", refused + "-32001,"},
		{"too long, bare", "POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n", "413", `{"code":-32001,`},
		{"another origin", rpc("/rpc", "Origin: http://example.com\r\n"), "403", refused + "-32005,"},
		{"another origin, bare", postText("/call/Echo.Say", "Origin: http://example.com\r\n", `"a"`), "403", `{"code":-32005,`},
		{"another host", strings.Replace(rpc("/", ""), "Host: localhost", "Host: example.com", 1), "403", refused + "-32005,"},
		// what decides may be there once
		{"one Origin", rpc("/rpc", "Origin: http://localhost\r\n"), "200", pong},
		{"two Origins", rpc("/rpc", "Origin: http://localhost\r\nOrigin: http://example.com\r\n"), "400", refused + "-32600,"},
		{"an empty Origin first", rpc("/rpc", "Origin:\r\nOrigin: http://example.com\r\n"), "400", refused + "-32600,"},
		{"Origins in a list", rpc("/rpc", "Origin: http://localhost, http://example.com\r\n"), "403", refused + "-32005,"},
		{"two Referers", rpc("/rpc", "Referer: http://localhost/\r\nReferer: http://example.com/\r\n"), "400", refused + "-32600,"},
		{"two Sec-Fetch-Sites", rpc("/rpc", "Sec-Fetch-Site: same-origin\r\nsec-fetch-site: cross-site\r\n"), "400", refused + "-32600,"},
		{"two Content-Types", rpc("/rpc", "Content-Type: text/plain\r\n"), "400", refused + "-32600,"},
		{"two timeouts", postText("/call/Echo.Say", "Ipcd-Timeout: 5s\r\nIpcd-Timeout: 1ns\r\n", `"a"`), "400", `{"code":-32600,`},
		{"two Origins of a health check", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n\r\n", "400", `{"code":-32600,`},
		{"two Hosts", rpc("/rpc", "Host: localhost\r\n"), "400", "400 Bad Request"},
		{"two lengths", rpc("/rpc", "Content-Length: 3\r\n"), "400", "400 Bad Request"},
		{"two encodings", rpc("/rpc", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "", ""},
	}
	s := startServer(t, "http://127.0.0.1:0?auth=none")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer, body := overHTTP(t, s, test.send)
			if test.status == "" && answer.StatusCode < 400 || !strings.HasPrefix(answer.Status, test.status) || !strings.HasPrefix(body, test.body) {
				t.Errorf("%q was answered with %s and %q; want %s and %q", test.send, answer.Status, body, test.status, test.body)
			}
		})
	}
}

// The answer has the type that the caller asks for, if that is JSON by another name; of those that it takes, it gets the
// usual one.
func TestAnswersHaveTheTypeThatIsAsked(t *testing.T) {
	s := startServer(t, "http://127.0.0.1:0?auth=none")
	for accept, want := range map[string]string{
		"":                                       "application/json",
		"*/*":                                    "application/json",
		"application/json-rpc":                   "application/json-rpc",
		"Application/JSON-RPC;Q=0.5":             "application/json-rpc",
		"application/json-rpc, application/json": "application/json",
		"application/json-rpc, */*;q=0.1":        "application/json",
		"application/json;q=0, text/json":        "text/json",
		"text/html, application/jsonrequest;a=b": "application/jsonrequest",
		"text/html":                              "application/json",
		"text/event-stream;q=0.0":                "application/json",
		"Text/Event-Stream; charset=utf-8":       "text/event-stream",
		"application/jsonl, application/json":    "application/jsonl",
		"application/x-ndjson":                   "application/x-ndjson",
	} {
		for path, body := range map[string]string{"/rpc": sayRequest, "/": sayRequest, "/call/Echo.Say": `"a"`} {
			answer, _ := overHTTP(t, s, postText(path, "Accept: "+accept+"\r\n", body))
			if got := answer.Header.Get("Content-Type"); got != want || answer.StatusCode != http.StatusOK {
				t.Errorf("%s with Accept: %s was answered with %s and %s; want %s", path, accept, answer.Status, got, want)
			}
		}
		if slices.ContainsFunc(answerForms, func(f *answerForm) bool { return slices.Contains(f.types, want) }) {
			continue
		}
		answer, _ := overHTTP(t, s, postText("/rpc", "Accept: "+accept+"\r\nOrigin: http://example.com\r\n", sayRequest))
		if got := answer.Header.Get("Content-Type"); got != want {
			t.Errorf("a refusal with Accept: %s has the type %s; want %s", accept, got, want)
		}
	}
}

// A stream of events answers the requests of a body as they arrive, and all of them. If it began before the body was there,
// it is the last on its connection, which otherwise stays.
func TestStreamAnswersWhileTheBodyArrives(t *testing.T) {
	const accept = "Host: localhost\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	long := strings.Repeat(sayRequest+"\n", 1000) // more than arrives at once
	begin := func(t *testing.T, text string) (net.Conn, *http.Response) {
		conn := startServer(t, "http://127.0.0.1:0?auth=none").connect()
		t.Cleanup(func() { conn.Close() })
		send(t, conn, text)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		return conn, answer
	}
	event := "event: message\ndata: " + sayAnswer + "\n"
	t.Run("a request at a time", func(t *testing.T) {
		conn, answer := begin(t, "POST /rpc HTTP/1.1\r\n"+accept+"Transfer-Encoding: chunked\r\n\r\n"+chunk(sayRequest))
		got := make([]byte, len(event))
		for i := range 3 {
			if i > 0 {
				send(t, conn, chunk(sayRequest))
			}
			if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != event {
				t.Fatalf("request %d was answered with %q, %v; want %q", i, got, err, event)
			}
		}
		send(t, conn, "0\r\n\r\n")
		if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) > 0 || !answer.Close {
			t.Errorf("behind the answers are %q, %v, and the connection closes: %v; want nothing, and true", rest, err, answer.Close)
		}
	})
	for name, body := range map[string]string{
		"a length":        fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(long), long),
		"chunks":          "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk(sayRequest), 1000) + "0\r\n\r\n",
		"a broken length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s{]%s", 2*len(long)+2, long, long),
	} {
		t.Run(name, func(t *testing.T) {
			_, answer := begin(t, "POST /rpc HTTP/1.1\r\n"+accept+body)
			got, err := io.ReadAll(answer.Body)
			if n := strings.Count(string(got), event); err != nil || n != 1000 {
				t.Errorf("%d of 1000 requests were answered, %v; the end is %q", n, err, got[max(0, len(got)-200):])
			}
		})
	}
	t.Run("the whole body at once", func(t *testing.T) {
		if _, answer := begin(t, postText("/rpc", "Accept: text/event-stream\r\n", sayRequest)); answer.Close {
			t.Error("the connection closes though the body had been read")
		}
	})
}

// TestAnswerThatIsNotReadBehindAnother has a caller over HTTP read nothing of a long answer right after a short one. http.Server
// lifts the write deadline between the two.
func TestAnswerThatIsNotReadBehindAnother(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Write = 2 * time.Second }, mustParse(t, "http://127.0.0.1:0?auth=none"))
	conn := rawDial(t, s.endpoints[0])
	must(t, conn.(*net.TCPConn).SetReadBuffer(64<<10))
	for _, text := range []string{"short", strings.Repeat("~", 12<<20)} {
		body := `"` + text + `"`
		send(t, conn, fmt.Sprintf("POST /call/Echo.Say HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	waitFor(t, s.isAlone)
}
