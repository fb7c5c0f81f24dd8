package main

// This file owns the cases of proof over connections: what those get who show a token, the wrong one, or none. Over HTTP they are in
// server_http_proof_test.go.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"strings"
	"testing"
	"time"
)

// startProven is startServerWith for a server that takes the tokens of a store of the test's own.
func startProven(t testing.TB, change func(l *limits), endpoints ...string) *testServer {
	t.Helper()
	var list []endpoint
	for _, text := range endpoints {
		list = append(list, mustParse(t, text))
	}
	s := startServerWith(t, func(l *limits) {
		l.FirstBytes = time.Minute // however slow this machine is just now
		if change != nil {
			change(l)
		}
	}, list...)
	s.gate.tokens = tempTokens(t)
	return s
}

// checkFault wants the error of a call to have that code and those words.
func checkFault(t testing.TB, what string, err error, code int, words string) {
	t.Helper()
	var f *fault
	if text := rpc.ServerError(""); errors.As(err, &text) {
		err = faultInText(string(text))
	}
	if !errors.As(err, &f) || f.Code != code || !strings.Contains(f.Text, words) {
		t.Errorf("%s: %v; want code %d and %q", what, err, code, words)
	}
}

// The clients of the standard library call Ipcd.Authenticate first.
func TestStockClientsShowAToken(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	for name, dial := range map[string]func(net.Conn) *rpc.Client{
		"gob": func(c net.Conn) *rpc.Client { return rpc.NewClient(c) }, "jsonrpc": func(c net.Conn) *rpc.Client { return jsonrpc.NewClient(c) },
		"gob behind CONNECT": func(c net.Conn) *rpc.Client {
			io.WriteString(c, "CONNECT "+rpc.DefaultRPCPath+" HTTP/1.0\n\n")
			io.ReadFull(c, make([]byte, len("HTTP/1.0 200 Connected to Go RPC\n\n")))
			return rpc.NewClient(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(noDeadline(rawDial(t, s.endpoints[0])))
			defer c.Close()
			var said string
			var ok bool
			for _, method := range []string{"Echo.Say", "Ipcd.Ping", "Ipcd.Register", "No.Such"} {
				checkFault(t, method+" before", c.Call(method, "x", &said), codeUnproven, "a token is needed here")
			}
			checkFault(t, "a wrong token", c.Call(authenticateMethod, text+"x", &ok), codeUnproven, "not one of this daemon's")
			checkFault(t, "behind that", c.Call("Echo.Say", "x", &said), codeUnproven, "a token is needed here")
			if err := c.Call(authenticateMethod, text, &ok); err != nil || !ok {
				t.Fatalf("Authenticate = %v, %v; want true", ok, err)
			}
			if err := c.Call("Echo.Say", "hello", &said); err != nil || said != "hello" {
				t.Errorf("Echo.Say = %q, %v", said, err)
			}
			if err := c.Call(authenticateMethod, text, &ok); err != nil || !ok {
				t.Errorf("Authenticate again = %v, %v; want true", ok, err)
			}
			var who struct{ Name, Transport string }
			if err := c.Call("Ipcd.Whoami", struct{}{}, &who); err != nil || who.Name != "token:ci" || who.Transport != "tcp" {
				t.Errorf("Whoami = %+v, %v; want token:ci", who, err)
			}
			checkFault(t, "Publish without a rule", c.Call("Ipcd.Publish", map[string]any{"topic": "a.b"}, nil), codeDenied, "takes a [[rule]]")
			checkFault(t, "Stop", c.Call("Ipcd.Stop", struct{}{}, &ok), codeDenied, "the holder of the token ci at 127.0.0.1")
		})
	}
	if log := s.log.String(); strings.Contains(log, strings.TrimPrefix(text, tokenPrefix)) {
		t.Errorf("the log has the token:\n%s", log)
	}
}

// What comes in the same write behind the token is the call of whoever holds it.
func TestCallsFollowATokenAtOnce(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	conn := s.connect()
	send(t, conn, `{"id":1,"method":"Ipcd.Authenticate","params":["`+text+`"]}{"id":2,"method":"Echo.Say","params":["x"]}`)
	conn.(*net.TCPConn).CloseWrite()
	if got := readAll(t, conn); !strings.Contains(got, `"id":1,"result":true`) || !strings.Contains(got, `"id":2,"result":"x"`) {
		t.Errorf("the answers are %s", got)
	}
}

func TestTokensWhereNoneAreTaken(t *testing.T) {
	s := startProven(t, nil, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none", "http://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	local, waived := dialOurs(protoJSON)(t, s.endpoints[0]), dialOurs(protoJSON)(t, s.endpoints[1])
	defer local.close()
	defer waived.close()
	checkFault(t, "at a local endpoint", local.call(t.Context(), authenticateMethod, text, nil), codeInvalid, "the system says who calls")
	var who peer
	must(t, waived.call(t.Context(), "Ipcd.Ping", nil, nil)) // auth=none asks for none, and takes one
	must(t, waived.call(t.Context(), authenticateMethod, text, nil))
	if must(t, waived.call(t.Context(), "Ipcd.Whoami", nil, &who)); who.Name != "token:ci" {
		t.Errorf("with auth=none whoever has shown a token is %q; want token:ci", who.Name)
	}
	checkFault(t, "a wrong argument", waived.call(t.Context(), authenticateMethod, 7, nil), codeBadArgument, "a string")
}

// A token that does not count any more ends what it has begun, on connections that are open.
func TestRemovedTokensEndConnections(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0", localEndpoint(t).String())
	pol := policyFrom(t, "[[rule]]\nallow = [\"token:ci\"]\nregister = [\"Far\"]\n")
	s.obey(pol)
	text := makeToken(t, s.gate.tokens, "ci", nil)
	c, running := dialOurs(protoJSON)(t, s.endpoints[0]), make(chan error, 1)
	defer c.close()
	must(t, c.call(t.Context(), authenticateMethod, text, nil))
	begun := make(chan struct{})
	go func() {
		running <- c.askParts(t.Context(), subscribeMethod, map[string]any{"topics": []string{">"}}, nil, func(document) error {
			shut(begun)
			return nil
		})
	}()
	receive(t, begun)
	provider := s.shown(t, text)
	defer provider.Close()
	register(t, provider, `["Far.Away"]`)
	owner := dialOurs(protoJSON)(t, s.endpoints[1])
	defer owner.close()
	held := inBackground(t.Context(), owner, "Far.Away", "x")
	readLineWith(t, provider, "Far.Away")
	s.voidTokens()
	if _, f := s.router.find("Far.Away", theOwner); f != nil {
		t.Fatalf("a token that counts was taken for void: %v", f)
	}
	dropTokens(t, s.gate.tokens)
	waitFor(t, func() error { // the file is not looked at for each call
		var f *fault
		if err := c.call(t.Context(), "Echo.Say", "x", nil); !errors.As(err, &f) || f.Code != codeUnproven || !strings.Contains(f.Text, "was removed") {
			return fmt.Errorf("a call: %v; want -32008", err)
		}
		return nil
	})
	s.voidTokens()
	checkFault(t, "the subscription", receive(t, running), codeUnproven, "the token ci was removed")
	checkFault(t, "the call that its holder had", receive(t, held), codeGone, "may not offer it any more")
	waitFor(t, func() error {
		if _, f := s.router.find("Far.Away", theOwner); f == nil || f.Code != codeNoMethod {
			return fmt.Errorf("what the holder of a removed token offers: %v; want that there is no such method", f)
		}
		return nil
	})
}

// Connections that have shown nothing are few, and do not stay.
func TestConnectionsWithoutProofAreBounded(t *testing.T) {
	s := startProven(t, func(l *limits) { l.MaxUnauthenticated = 2 }, "tcp://127.0.0.1:0", "http://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	first := dialOurs(protoJSON)(t, s.endpoints[0])
	defer first.close()
	must(t, first.call(t.Context(), authenticateMethod, text, nil)) // and does not count any more
	var idle []net.Conn
	for _, e := range []endpoint{s.endpoints[0], s.endpoints[1]} {
		idle = append(idle, rawDial(t, e))
		waitFor(t, func() error { // each, so that the first is the oldest
			s.mu.Lock()
			defer s.mu.Unlock()
			if n := len(s.unproven); n != len(idle) {
				return fmt.Errorf("%d connections have shown nothing; want %d", n, len(idle))
			}
			return nil
		})
	}
	c := dialOurs(protoJSON)(t, s.endpoints[0]) // from the same address
	defer c.close()
	must(t, c.call(t.Context(), authenticateMethod, text, nil))
	readAll(t, idle[0]) // the oldest has given way
	if n := s.meter.reached()["max_unauthenticated"]; n != 1 {
		t.Errorf("the limit was reached %d times; want 1", n)
	}
	must(t, first.call(t.Context(), "Ipcd.Ping", nil, nil))
	idle[0].Close()
	idle[1].Close()
}

// Whoever opens many keeps nobody else out.
func TestWhoHasTheMostGivesUpOne(t *testing.T) {
	for _, test := range []struct {
		from  string
		other string
		want  int
	}{
		{"aaaa", "b", 0}, {"aaaa", "a", 0}, {"baaa", "b", 1}, {"baaa", "a", 1}, {"bbaa", "b", 0}, {"bbaa", "a", 2}, {"abab", "c", 0}, {"babaa", "c", 1}, {"abcd", "e", 0}, {"a", "b", 0}, {"ab", "b", 1},
	} {
		if got := givesUp(strings.Split(test.from, ""), test.other); got != test.want {
			t.Errorf("of %s, for one more of %s: %d gives way; want %d", test.from, test.other, got, test.want)
		}
	}
	mine, other := peer{owner: "uid 1", Address: "127.0.0.1:1"}, peer{Address: "[2001:db8::1]:1"}
	if mine.origin() != "uid 1" || other.origin() != "2001:db8::" {
		t.Errorf("the origins are %s and %s", mine.origin(), other.origin())
	}
}

func TestConnectionsWithoutProofAreClosed(t *testing.T) {
	s := startProven(t, func(l *limits) { l.FirstBytes = 100 * time.Millisecond }, "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	busy, silent := noDeadline(rawDial(t, s.endpoints[0])), noDeadline(rawDial(t, s.endpoints[0]))
	send(t, busy, `{"id":1,"method":"Ipcd.Ping"}`)
	for _, conn := range []net.Conn{busy, silent} {
		if _, err := io.Copy(io.Discard, conn); err != nil && !isBrokenPipe(err) {
			t.Errorf("a connection that shows no token: %v; want its end", err)
		}
	}
	waitFor(t, func() error {
		if log := s.log.String(); !strings.Contains(log, "the peer did not show a token in time") || !strings.Contains(log, "limit=first_bytes") {
			return errors.New("the log does not say why")
		}
		return nil
	})
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	if err := c.call(t.Context(), authenticateMethod, text, nil); err == nil { // or this machine was too slow
		waitFor(t, func() error { // the daemon may not have noticed yet that a connection has ended
			s.mu.Lock()
			defer s.mu.Unlock()
			if left := len(s.unproven); left != 0 {
				return fmt.Errorf("%d connections count as without a token; want none", left)
			}
			return nil
		})
	}
}

// The limits of a user are those of the token, and what its connection holds is counted for it.
func TestLimitsAreThoseOfTheToken(t *testing.T) {
	s := startProven(t, func(l *limits) { l.MaxConnections = 2 }, "tcp://127.0.0.1:0")
	ci, other := makeToken(t, s.gate.tokens, "ci", nil), makeToken(t, s.gate.tokens, "other", nil)
	open := func(text string) (caller, error) {
		c := dialOurs(protoJSON)(t, s.endpoints[0])
		t.Cleanup(func() { c.close() })
		return c, c.call(t.Context(), authenticateMethod, text, nil)
	}
	for range 2 {
		_, err := open(ci)
		must(t, err)
	}
	c, err := open(ci)
	checkFault(t, "one more of the same token", err, codeBusy, "max_connections = 2")
	must(t, c.call(t.Context(), authenticateMethod, other, nil))
	checkFault(t, "another token", c.call(t.Context(), authenticateMethod, ci, nil), codeInvalid, "is that of the token other")
	must(t, c.call(t.Context(), "Echo.Say", strings.Repeat("x", 1<<20), nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, connections := range map[string]int{"token:ci": 2, "token:other": 1} {
		if u := s.users[user]; u == nil || u.connections != connections {
			t.Errorf("%s has %+v; want %d connections", user, u, connections)
		}
	}
	for user, u := range s.users {
		if held := u.account.own.Load(); held < 0 || u.connections <= 0 {
			t.Errorf("%s holds %d bytes by %d connections", user, held, u.connections)
		}
	}
}

// A rule that denies all denies the token, too; one that has a scope is for nothing else.
func TestRulesAboutTokens(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	s.obey(policyFrom(t, "[[rule]]\ndeny = [\"token:out\"]\n[[rule]]\nallow = [\"token:worker\"]\npublish = [\"build.>\"]\n"))
	narrow := makeToken(t, s.gate.tokens, "narrow", func(e *tokenEntry) { e.Scope = []string{"Echo.*"} })
	out, worker := makeToken(t, s.gate.tokens, "out", nil), makeToken(t, s.gate.tokens, "worker", nil)
	open := func() caller {
		c := dialOurs(protoJSON)(t, s.endpoints[0])
		t.Cleanup(func() { c.close() })
		return c
	}
	checkFault(t, "a token that a rule denies all", open().call(t.Context(), authenticateMethod, out, nil), codeDenied, "denies all to the holder of the token out")
	c := open()
	must(t, c.call(t.Context(), authenticateMethod, narrow, nil))
	must(t, c.call(t.Context(), "Echo.Say", "x", nil))
	checkFault(t, "beyond the scope", c.call(t.Context(), "Trial.Sum", nil, nil), codeDenied, "not in the scope of the token")
	checkFault(t, "a topic beyond it", c.askParts(t.Context(), subscribeMethod, map[string]any{"topics": []string{"a"}}, nil, func(document) error { return nil }), codeDenied, "not in the scope")
	var list []Listing
	if must(t, c.call(t.Context(), "Ipcd.List", nil, &list)); len(list) == 0 {
		t.Error("the list is empty")
	}
	for _, l := range list {
		if !strings.HasPrefix(l.Method, "Echo.") && !strings.HasPrefix(l.Method, "Ipcd.") {
			t.Errorf("the list shows %s, which the token is not for", l.Method)
		}
	}
	c = open()
	must(t, c.call(t.Context(), authenticateMethod, worker, nil))
	must(t, c.call(t.Context(), "Ipcd.Publish", map[string]any{"topic": "build.done"}, nil))
}

// A provider gets the name of the token with the call.
func TestProvidersLearnOfTokens(t *testing.T) {
	s := startProven(t, nil, localEndpoint(t).String(), "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	provider := newLineCaller(t, s.endpoints[0], false)
	defer provider.close()
	must(t, provider.call(t.Context(), "Ipcd.Register", map[string]any{"methods": []string{"Far.Who"}, "extensions": []string{"caller"}}, nil))
	m, f := s.router.find("Far.Who", theOwner)
	if f != nil {
		t.Fatal(f)
	}
	c := &call{m: m, peer: &peer{Transport: "tcp", proof: proofOf(&bearer{name: "ci"})}}
	if got := string(c.callerJSON()); !strings.Contains(got, `"name":"token:ci"`) || strings.Contains(got, text) {
		t.Errorf("the caller is %s; want its name", got)
	}
}

// Whoever guesses waits longer and longer, whoever is right does not.
func TestGuessesAreHeldBack(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 0, 5: 0, 6: firstHold, 7: 2 * firstHold, 11: 32 * firstHold, 12: mostHold, 1000000: mostHold} {
		if got := holdFor(n); got != want {
			t.Errorf("the answer to failure %d is held back for %v; want %v", n, got, want)
		}
	}
	var g gate
	now := time.Now()
	for n := range 7 {
		if got := g.failed("192.0.2.1:1234", now); got != n+1 {
			t.Errorf("failure %d counts as %d", n+1, got)
		}
	}
	for _, test := range []struct {
		address string
		at      time.Time
		want    int
	}{
		{"192.0.2.2:1234", now, 1},
		{"[::ffff:192.0.2.1]:9", now, 8},
		{"192.0.2.1:1", now.Add(failureMemory), 1},
		{"[2001:db8::1]:1", now, 1},
		{"[2001:db8::2]:1", now, 2},
		{"[2001:db8:0:1::2]:1", now, 1},
		{"[fe80::1%eth0]:1", now, 1},
		{"[fe80::1%eth1]:1", now, 2},
	} {
		if got := g.failed(test.address, test.at); got != test.want {
			t.Errorf("a failure of %s counts as %d; want %d", test.address, got, test.want)
		}
	}
	for i := range 3 * maxSuspects {
		g.failed(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String(), now.Add(time.Duration(i)))
	}
	if len(g.suspects) > maxSuspects {
		t.Errorf("%d addresses are remembered; want at most %d", len(g.suspects), maxSuspects)
	}
}

// While the answer to a guess is held back, the connection is told nothing of another one, and holds no more.
func TestOneAnswerIsHeldBackAtATime(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	for range 20 {
		s.gate.failed("127.0.0.1:1", time.Now())
	}
	conn := s.connect()
	defer conn.Close()
	const guesses = 100
	send(t, conn, strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"Ipcd.Authenticate","params":["wrong"]}`+"\n", 1+guesses))
	lines := bufio.NewScanner(conn)
	for range guesses {
		if !lines.Scan() || !strings.Contains(lines.Text(), `"code":-32002`) {
			t.Fatalf("a guess beside another one is answered with %s, %v", lines.Text(), lines.Err())
		}
	}
}

// The answer to a guess that is held back does not hold up the end of the daemon, nor that of the caller.
func TestHeldAnswersHoldUpNothing(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	for range 20 {
		s.gate.failed("127.0.0.1:1", time.Now())
	}
	right := dialOurs(protoJSON)(t, s.endpoints[0])
	must(t, right.call(t.Context(), authenticateMethod, text, nil))
	right.close()
	guess := dialOurs(protoJSON)(t, s.endpoints[0])
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan error, 2)
	go func() { said <- guess.call(ctx, authenticateMethod, "ipcd_x", nil) }()
	waitFor(t, func() error {
		if log := s.log.String(); !strings.Contains(log, "a token was refused") || !strings.Contains(log, "failures=21") {
			return fmt.Errorf("the log is %s", log)
		}
		return nil
	})
	cancel()
	if err := receive(t, said); err == nil {
		t.Error("a wrong token was taken")
	}
	guess.close()
	again := dialOurs(protoJSON)(t, s.endpoints[0])
	defer again.close()
	go func() { said <- again.call(t.Context(), authenticateMethod, "ipcd_x", nil) }()
	waitFor(t, func() error {
		if !strings.Contains(s.log.String(), "failures=22") {
			return errors.New("the second guess has not come")
		}
		return nil
	})
	s.halt()
	if err := receive(t, said); err == nil {
		t.Error("a wrong token was taken")
	}
}

// The limits of a quota of a token hold for whoever has shown it, over each protocol.
func TestQuotaOfAToken(t *testing.T) {
	s := startProven(t, nil, "tcp://127.0.0.1:0", "http://127.0.0.1:0")
	s.quotas.Store(&settingsOf(t, "[[quota]]\nof = [\"token:ci\"]\nmax_calls = 3\n").quotas)
	token := makeToken(t, s.gate.tokens, "ci", nil)
	var calls []string
	for id := range 5 {
		calls = append(calls, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Trial.Block","params":["a"]}`, id))
	}
	tcp, web := s.connect(), rawDial(t, s.endpoints[1])
	body := "[" + strings.Join(calls, ",") + "]"
	for _, test := range []struct {
		name, send string
		conn       net.Conn
	}{
		{"tcp", `{"jsonrpc":"2.0","id":"t","method":"Ipcd.Authenticate","params":["` + token + `"]}` + strings.Join(calls, ""), tcp},
		{"http", fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", token, len(body), body), web},
	} {
		before := s.meter.reached()["max_calls"]
		send(t, test.conn, test.send)
		waitFor(t, func() error {
			if n := s.meter.reached()["max_calls"] - before; n < 2 {
				return fmt.Errorf("%s: %d calls were refused", test.name, n)
			}
			return nil
		})
		for range 3 {
			receive(t, s.trial.entered)
			s.trial.release <- struct{}{}
		}
		if test.name == "tcp" {
			test.conn.(interface{ CloseWrite() error }).CloseWrite()
		}
		got := readAll(t, test.conn)
		if refused, done := strings.Count(got, `"limit":"max_calls","max":3`), strings.Count(got, `"result":"a"`); refused != 2 || done != 3 {
			t.Errorf("%s: %d calls were refused, and %d done: %s", test.name, refused, done, got)
		}
	}
}
