package main

// This file owns the cases of a client's token: where it is shown, where it is not, and where it comes from.

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func withToken(text string) dialOptions {
	return dialOptions{limits: defaultLimits(), token: func() (string, error) { return text, nil }}
}

// Our own client shows its token by every protocol, and hosts do before they register.
func TestOurClientShowsItsToken(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0", "http://127.0.0.1:0")
	s.obey(policyFrom(t, "[[rule]]\nallow = [\"token:ci\"]\nregister = [\"Far\"]\n"))
	text := makeToken(t, s.gate.tokens, "ci", nil)
	for _, e := range []endpoint{s.endpoints[0], s.endpoints[0].withProto(protoGob), s.endpoints[0].withProto(protoHTTP), s.endpoints[1]} {
		for token, code := range map[string]int{text: 0, "": codeUnproven, "ipcd_x": codeUnproven} {
			c, err := dial(t.Context(), e, withToken(token))
			var who peer
			if err == nil {
				err = c.call(t.Context(), "Ipcd.Whoami", nil, &who)
				c.close()
			}
			switch {
			case code != 0:
				checkFault(t, e.String()+" with the token "+token, err, code, "token")
				if hint := hintFor(err); !strings.Contains(hint, "ipcd token new NAME") || !strings.Contains(hint, "IPCD_TOKEN") {
					t.Errorf("the hint is %q", hint)
				}
			case err != nil || who.Name != "token:ci":
				t.Errorf("%s: %q, %v; want token:ci", e, who.Name, err)
			}
		}
	}
	h, err := dialHost(t.Context(), s.endpoints[0], newRouter(), withToken(text))
	must(t, err)
	must(t, h.call(t.Context(), "Ipcd.Register", map[string]any{"methods": []string{"Far.Away"}}, nil))
	h.close()
	<-h.over
	_, err = dialHost(t.Context(), s.endpoints[0], newRouter(), withToken("ipcd_x"))
	checkFault(t, "a host with a wrong token", err, codeUnproven, "not one of this daemon's")
}

// eavesdropper listens at an address and returns what it is sent until the client leaves.
func eavesdropper(t *testing.T, address string) (at string, heard func() string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	said := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		if conn, err := l.Accept(); err == nil {
			all.ReadFrom(conn)
			conn.Close()
		}
		said <- all.String()
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), func() string { return receive(t, said) }
}

// outerAddress is an address of this machine that is no loopback, which a client cannot tell from another machine's.
func outerAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	lacks(t, "this machine has no address but loopback")
	return ""
}

func TestTokensAreNotSentInTheClear(t *testing.T) {
	for _, scheme := range []string{"tcp", "http"} {
		at, heard := eavesdropper(t, outerAddress(t)+":0")
		e := mustParse(t, scheme+"://"+at)
		c, err := dial(t.Context(), e, withToken("ipcd_secret"))
		if err == nil {
			err = c.call(t.Context(), "Ipcd.Ping", nil, nil)
			c.close()
		}
		checkRefused(t, e.String(), err, "the token was not sent to "+e.String(), e.withNoAuth().String())
		if got := heard(); got != "" {
			t.Errorf("%s: %q was sent", e, got)
		}
	}
}

// An endpoint that is said to ask for no proof gets none, and neither does an echo.
func TestTokensAreNotSentUnasked(t *testing.T) {
	for _, url := range []string{"tcp://%?auth=none", "http://%?auth=none", "tcp://%?auth=none&proto=echo"} {
		at, heard := eavesdropper(t, "127.0.0.1:0")
		e := mustParse(t, strings.Replace(url, "%", at, 1))
		ctx, cancel := context.WithCancel(t.Context())
		c, err := dial(ctx, e, withToken("ipcd_secret"))
		must(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.call(ctx, "Echo.Say", "x", nil)
		}()
		cancel()
		receive(t, done)
		c.close()
		if e.isHTTP() { // which may not have dialled
			if conn, err := net.Dial("tcp", at); err == nil {
				conn.Close()
			}
		}
		if got := heard(); strings.Contains(got, "secret") {
			t.Errorf("%s: %q was sent", e, got)
		}
	}
}

func TestWhereATokenComesFrom(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	plain, other := file("plain", "ipcd_file\n", 0o600), file("other", "ipcd_other", 0o600)
	if exposedFile(plain) != nil {
		t.Skip("files of this directory are open to others")
	}
	for _, test := range []struct {
		name     string
		env      map[string]string
		flags    []given
		want     string
		refusals []string // words; none if it is fine
	}{
		{"nothing", nil, nil, "", nil},
		{"the environment", map[string]string{"IPCD_TOKEN": "ipcd_env"}, nil, "ipcd_env", nil},
		{"a file", map[string]string{"IPCD_TOKEN_FILE": plain}, nil, "ipcd_file", nil},
		{"both", map[string]string{"IPCD_TOKEN": "ipcd_env", "IPCD_TOKEN_FILE": plain}, nil, "ipcd_env", nil},
		{"the command line", map[string]string{"IPCD_TOKEN": "ipcd_env"}, []given{{"--set", "token_file", []string{other}}}, "ipcd_other", nil},
		{"no file", map[string]string{"IPCD_TOKEN_FILE": filepath.Join(dir, "none")}, nil, "", []string{"token_file", "none"}},
		{"a directory", map[string]string{"IPCD_TOKEN_FILE": dir}, nil, "", []string{"token_file"}},
		{"an empty file", map[string]string{"IPCD_TOKEN_FILE": file("empty", "\n", 0o600)}, nil, "", []string{"has no token", "empty"}},
		{"two lines", map[string]string{"IPCD_TOKEN_FILE": file("two", "ipcd_a\nipcd_b\n", 0o600)}, nil, "", []string{"has no token"}},
		{"a header", map[string]string{"IPCD_TOKEN": "ipcd_a\r\nHost: x"}, nil, "", []string{"IPCD_TOKEN: has no token"}},
		{"too much", map[string]string{"IPCD_TOKEN_FILE": file("large", strings.Repeat("x", 4096), 0o600)}, nil, "", []string{"has no token"}},
	} {
		set, _, err := loadSettings("", false, func(name string) (string, bool) { text, ok := test.env[name]; return text, ok }, test.flags)
		must(t, err)
		got, err := set.clientToken()
		if got != test.want || (err != nil) != (test.refusals != nil) {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
		var f *fault
		if err != nil && (!errors.As(err, &f) || f.Code != codeUsage) {
			t.Errorf("%s: %v is no bad usage", test.name, err)
		}
		for _, words := range test.refusals {
			if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "ipcd_") {
				t.Errorf("%s: %v; want %q, and not what is there", test.name, err, words)
			}
		}
	}
}

// With the flag of ipcd run, and auth=none, other machines are served, by their name for this one.
func TestInsecureNetwork(t *testing.T) {
	address := outerAddress(t)
	s := startServerWith(t, nil, mustParse(t, "http://"+address+":0?auth=none").withInsecure())
	s.gate.tokens = tempTokens(t)
	if log := s.log.String(); !strings.Contains(log, "warn  other machines can call here") {
		t.Errorf("the log does not warn:\n%s", log)
	}
	c, err := dial(t.Context(), s.endpoints[0], withToken("ipcd_x"))
	must(t, err)
	defer c.close()
	must(t, c.call(t.Context(), "Ipcd.Ping", nil, nil))
	for host, want := range map[string]string{
		s.endpoints[0].Host: "200", "localhost": "200", "rebound.example": "403", "192.0.2.1": "403", address + ":1": "403",
	} {
		answer, body := overHTTP(t, s, "POST /call/Ipcd.Ping HTTP/1.1\r\nHost: "+host+"\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")
		if !strings.HasPrefix(answer.Status, want) {
			t.Errorf("for the host %s: %s %s; want %s", host, answer.Status, body, want)
		}
	}
	text := makeToken(t, s.gate.tokens, "ci", nil)
	answer, body := overHTTP(t, s, "POST /call/Ipcd.Ping HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+text+"\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")
	if answer.StatusCode != 400 || !strings.Contains(body, "tokens go over TLS or within this machine alone") {
		t.Errorf("a token in the clear: %s %s; want 400", answer.Status, body)
	}
}
