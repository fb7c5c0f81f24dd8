package main

// This file owns the cases of tokens over HTTP.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestRequestsByTheirToken(t *testing.T) {
	s := startProven(t, nil, "http://127.0.0.1:0", "http://127.0.0.1:0?auth=none")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	narrow := makeToken(t, s.gate.tokens, "narrow", func(e *tokenEntry) { e.Scope = []string{"Echo.*"} })
	old := makeToken(t, s.gate.tokens, "old", func(e *tokenEntry) { e.Expires = time.Now().Add(-time.Second) })
	const whoami, sum = "/call/Ipcd.Whoami", "/call/Trial.Sum"
	for _, test := range []struct {
		at                   int
		path, header, body   string
		status               int
		challenge, want, not string
	}{
		{0, whoami, "Authorization: Bearer " + text, "", 200, "", `"name":"token:ci"`, ""},
		{0, whoami, "authorization: bEARER   " + text, "", 200, "", `"name":"token:ci"`, ""},
		{0, "/rpc", "Authorization: Bearer " + text, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Whoami"}`, 200, "", `"name":"token:ci"`, ""},
		{0, whoami, "X: y", "", 401, "Bearer", `"code":-32008`, "error="},
		{0, "/rpc", "X: y", `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}`, 401, "Bearer", `"code":-32008`, "pong"},
		{0, "/", "X: y", `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}`, 401, "Bearer", `"code":-32008`, "pong"},
		{0, "/nowhere", "X: y", "", 401, "Bearer", `"code":-32008`, ""},
		{0, whoami, "Authorization: Bearer " + text[:20], "", 401, `error="invalid_token"`, "not one of this daemon's", text[:20]},
		{0, whoami, "Authorization: Bearer", "", 401, `error="invalid_token"`, "not one of this daemon's", ""},
		{0, whoami, "Authorization: Bearer " + old, "", 401, `error="invalid_token"`, "the token old has expired", ""},
		{0, sum, "Authorization: Bearer " + narrow, "[]", 403, "", "not in the scope", ""},
		{0, "/call/Ipcd.Authenticate", "Authorization: Bearer " + text, `"` + text + `"`, 400, "", "header of each request", ""},
		// Only the header counts.
		{0, whoami, "Authorization: Basic " + text, "", 401, "Bearer", `"code":-32008`, ""},
		{0, whoami, "Authorization: " + text, "", 401, "Bearer", `"code":-32008`, ""},
		{0, whoami, "Cookie: Authorization=Bearer " + text + "; token=" + text + "; access_token=" + text, "", 401, "Bearer", `"code":-32008`, ""},
		{0, whoami + "?access_token=" + text + "&token=" + text, "X: y", "", 401, "Bearer", `"code":-32008`, ""},
		{0, whoami, "X-Auth-Token: " + text, "", 401, "Bearer", `"code":-32008`, ""},
		{0, "/rpc", "Content-Type: application/x-www-form-urlencoded", "access_token=" + text, 401, "Bearer", `"code":-32008`, ""},
		{0, whoami, "Authorization: Bearer " + text + "\r\nAuthorization: Bearer " + text, "", 400, "", "more than once", ""},
		// A page is refused with a token as well.
		{0, whoami, "Authorization: Bearer " + text + "\r\nOrigin: http://evil.example", "", 403, "", "Origin", ""},
		{0, whoami, "Authorization: Bearer " + text + "\r\nOrigin: null", "", 403, "", "Origin", ""},
		{0, whoami, "Authorization: Bearer " + text + "\r\nReferer: http://evil.example/x", "", 403, "", "Referer", ""},
		{0, whoami, "Authorization: Bearer " + text + "\r\nSec-Fetch-Site: cross-site", "", 403, "", "another site", ""},
		{0, whoami, "Authorization: Bearer " + text + "\r\nHost: evil.example", "", 403, "", "not this machine's", "token:ci"},
		{0, sum, "Authorization: Bearer " + text + "\r\nContent-Type: text/plain", "[]", 415, "", "Content-Type", ""},
		// Where none is needed, one that is shown counts.
		{1, whoami, "X: y", "", 200, "", `"known":false`, "token:"},
		{1, whoami, "Authorization: Bearer " + text, "", 200, "", `"name":"token:ci"`, ""},
		{1, whoami, "Authorization: Basic x", "", 200, "", `"known":false`, "token:"},
		{1, whoami, "Authorization: Bearer x", "", 401, `error="invalid_token"`, "not one of this daemon's", ""},
	} {
		header := test.header
		if !strings.Contains(header, "Content-Type") {
			header += "\r\nContent-Type: application/json"
		}
		if !strings.Contains(header, "Host") {
			header += "\r\nHost: localhost"
		}
		conn := rawDial(t, s.endpoints[test.at])
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nConnection: close\r\n%s\r\nContent-Length: %d\r\n\r\n%s", test.path, header, len(test.body), test.body)
		answer := readAll(t, conn)
		conn.Close()
		status, rest, _ := strings.Cut(answer, "\r\n")
		switch {
		case !strings.HasPrefix(status, fmt.Sprintf("HTTP/1.1 %d ", test.status)):
			t.Errorf("%s with %q: %s; want %d\n%s", test.path, test.header, status, test.status, rest)
		case !strings.Contains(rest, test.want) || test.not != "" && strings.Contains(rest, test.not):
			t.Errorf("%s with %q: %s; want %q and not %q", test.path, test.header, rest, test.want, test.not)
		case test.challenge != "" && !strings.Contains(rest, "\r\nWww-Authenticate: Bearer") || !strings.Contains(rest, test.challenge):
			t.Errorf("%s with %q: %s; want the challenge %q", test.path, test.header, rest, test.challenge)
		case test.challenge == "" && strings.Contains(rest, "Www-Authenticate"):
			t.Errorf("%s with %q: there is a challenge in %s", test.path, test.header, rest)
		}
	}
	if log := s.log.String(); strings.Contains(log, text) {
		t.Errorf("the log has the token:\n%s", log)
	}
}

// Each request is that of the token that it shows, whatever others on the same connection have shown.
func TestRequestsOnOneConnection(t *testing.T) {
	s := startProven(t, nil, "http://127.0.0.1:0")
	one, two := makeToken(t, s.gate.tokens, "one", nil), makeToken(t, s.gate.tokens, "two", nil)
	conn := s.connect()
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, test := range []struct{ token, want string }{{one, "token:one"}, {"", "-32008"}, {two, "token:two"}, {one, "token:one"}, {"x", "-32008"}, {two, "token:two"}} {
		header := ""
		if test.token != "" {
			header = "Authorization: Bearer " + test.token + "\r\n"
		}
		send(t, conn, "POST /call/Ipcd.Whoami HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0\r\n"+header+"\r\n")
		answer, err := http.ReadResponse(r, nil)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		if !strings.Contains(string(body), test.want) {
			t.Errorf("with the token %q: %s; want %s", test.token, body, test.want)
		}
	}
	s.mu.Lock()
	for _, user := range []string{"token:one", "token:two"} {
		if u := s.users[user]; (u == nil) != (user == "token:one") {
			t.Errorf("%s has %+v; want that the connection counts for the last one", user, u)
		}
	}
	s.mu.Unlock()
	// A session behind CONNECT has to show its own.
	send(t, conn, "CONNECT /_goRPC_ HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	c := stockCaller{rpc.NewClient(conn)}
	checkFault(t, "behind CONNECT", c.call(t.Context(), "Ipcd.Ping", nil, nil), codeUnproven, "a token is needed here")
	c.close()
}

// Where no token is needed, a request without one has no rights of another on the same connection: a proxy has it from several callers.
func TestRequestsWithoutTheTokenOfAnother(t *testing.T) {
	s := startProven(t, nil, "http://127.0.0.1:0?auth=none")
	s.obey(policyFrom(t, "[[rule]]\nallow = [\"token:root\"]\nadmin = true\n"))
	root := makeToken(t, s.gate.tokens, "root", nil)
	conn := s.connect()
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, test := range []struct {
		token  string
		status int
	}{{"", 403}, {root, 200}, {"", 403}, {"x", 401}, {"", 403}} {
		header := ""
		if test.token != "" {
			header = "Authorization: Bearer " + test.token + "\r\n"
		}
		send(t, conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n")
		answer, err := http.ReadResponse(r, nil)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		if answer.StatusCode != test.status {
			t.Errorf("with the token %q: %s: %.200s; want %d", test.token, answer.Status, body, test.status)
		}
	}
}

// Nor does it count for the other one: what it holds is its own, and so is the time in which it has to show who it is.
func TestRequestsBehindThoseOfAToken(t *testing.T) {
	s := startProven(t, nil, "http://127.0.0.1:0?auth=none", "tcp://127.0.0.1:0")
	s.quotas.Store(&settingsOf(t, "[[quota]]\nof = [\"token:ci\"]\nmax_connections = 1\n").quotas)
	text := makeToken(t, s.gate.tokens, "ci", nil)
	request := func(conn net.Conn, text string) {
		t.Helper()
		header := ""
		if text != "" {
			header = "Authorization: Bearer " + text + "\r\n"
		}
		send(t, conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		if answer.StatusCode != 200 {
			t.Fatalf("%s: %s", answer.Status, body)
		}
	}
	first := rawDial(t, s.endpoints[0])
	request(first, text)
	request(first, "")
	second := rawDial(t, s.endpoints[1])
	request(second, text) // the first one is not the token's any more
	send(t, second, "CONNECT /_goRPC_ HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(second), &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unproven) != 1 {
		t.Errorf("%d connections have to show a token; want that of the CONNECT", len(s.unproven))
	}
}

// A CONNECT with a token needs no other.
func TestConnectWithAToken(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	conn := s.connect()
	send(t, conn, "CONNECT /_goRPC_ HTTP/1.0\r\nAuthorization: Bearer "+text+"\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	c := stockCaller{rpc.NewClient(conn)}
	defer c.close()
	var who struct{ Name string }
	if err := c.call(t.Context(), "Ipcd.Whoami", nil, &who); err != nil || who.Name != "token:ci" {
		t.Errorf("Whoami = %+v, %v", who, err)
	}
}

func TestHealthNeedsNoToken(t *testing.T) {
	s := startProven(t, nil, "http://127.0.0.1:0")
	answer, err := newHTTPClient(t, s.endpoints[0]).Get(urlOf(s.endpoints[0], "/healthz"))
	must(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("the health check: %s", answer.Status)
	}
}

// A stock client of Node shows its token by fetch.
func TestNodeShowsAToken(t *testing.T) {
	if underWine {
		t.Skip("under Wine fetch connects to no server at all, Node's own included")
	}
	node := needTool(t, "node")
	s := startProven(t, nil, "http://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	cmd := exec.Command(node, "-e", `const headers = { 'content-type': 'application/json', authorization: 'Bearer ' + process.env.TOKEN }
const call = async (headers) => { const r = await fetch(process.env.URL, { method: 'POST', headers, body: '"hello"' }); console.log(r.status, r.headers.get('www-authenticate'), await r.text()) }
call(headers).then(() => { delete headers.authorization; return call(headers) })`)
	cmd.Env = append(os.Environ(), "TOKEN="+text, "URL="+urlOf(s.endpoints[0], "/call/Echo.Say"))
	if got := printed(t, cmd); !strings.HasPrefix(got, "200 null \"hello\"\n\n401 Bearer {") {
		t.Errorf("node printed %q", got)
	}
}
