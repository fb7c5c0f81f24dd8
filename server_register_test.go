package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// register registers methods over a connection, given as JSON, and wants them taken. Nothing else may be on its way.
func register(t *testing.T, conn net.Conn, methods string) {
	t.Helper()
	answer := registration(t, conn, `{"methods":`+methods+`}`)
	if !strings.Contains(answer, `"result":{"provider":"p`) {
		t.Fatalf("the registration of %s is answered with %s", methods, answer)
	}
}

// registration sends a registration and returns the answer.
func registration(t *testing.T, conn net.Conn, argument string) string {
	t.Helper()
	send(t, conn, `{"jsonrpc":"2.0","id":"r","method":"Ipcd.Register","params":[`+argument+`]}`)
	return readLine(t, conn)
}

// readLine reads a line, and not a byte more.
func readLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b[0]) {
		if _, err := conn.Read(b); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
	}
	return string(line)
}

func TestRegistrationIsChecked(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := rawDial(t, s.endpoints[0])
	defer conn.Close()
	other := rawDial(t, s.endpoints[0])
	defer other.Close()
	register(t, other, `["Taken.Here","Shared.Not",{"method":"Whole.*"}]`)
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf(`"A%d.M"`, i)
	}
	for argument, want := range map[string]string{
		`{}`:                          `"code":-32602,"message":"methods is empty`,
		`{"methods":[]}`:              `"code":-32602,"message":"methods is empty`,
		`{"methods":"A.B"}`:           `"code":-32602`,
		`{"methods":["A"]}`:           `"code":-32602,"message":"\"A\" is not the name of a method`,
		`{"methods":["A.B.C"]}`:       `"code":-32602`,
		`{"methods":["A.B","*.B"]}`:   `"code":-32602`,
		`{"methods":["A.\u001b[2J"]}`: `"code":-32602`,
		`{"methods":["A.` + strings.Repeat("x", 65) + `"]}`: `"code":-32602`,
		`{"methods":["A.B","A.B"]}`:                         `"code":-32602,"message":"A.B is offered twice"`,
		`{"methods":["Ipcd.Ping"]}`:                         `"code":-32602,"message":"Ipcd.Ping: the service Ipcd is the daemon's own"`,
		`{"methods":["Echo.Say"]}`:                          `"code":-32005,"message":"Echo.Say: the service Echo is built in"`,
		`{"methods":["Echo.*"]}`:                            `"code":-32005`,
		`{"methods":["Good.One","Taken.Here"]}`:             `"code":-32005,"message":"Taken.Here is offered by the provider p1, which does not share it with you"`,
		`{"methods":["Taken.*"]}`:                           `"code":-32005`,
		`{"methods":["Whole.One"]}`:                         `"code":-32005`,
		`{"methods":["Shared.Not"],"share":true}`:           `"code":-32005`,
		`{"methods":["A.B"],"max_calls":-1}`:                `"code":-32602,"message":"max_calls is -1`,
		`{"methods":["A.B"],"params":"tuple"}`:              `"code":-32602,"message":"params is \"tuple\"`,
		`{"methods":[7]}`:                                   `"code":-32602`,
		`{"methods":[{"doc":"nameless"}]}`:                  `"code":-32602`,
		`{"methods":[{"method":"A.B","argument":7}]}`:       `"code":-32602,"message":"`,
		`{"methods":[` + strings.Join(many, ",") + `]}`:     `"code":-32001,"message":"a provider of 10000 methods (limit max_methods = 1000)"`,
	} {
		if got := registration(t, conn, argument); !strings.Contains(got, want) {
			t.Errorf("%.100s is answered with %s; want %s", argument, got, want)
		}
	}
	if list := strings.Join(s.router.methods(), " "); strings.Contains(list, "Good") || strings.Contains(list, "A.") || strings.Contains(list, "A1.") {
		t.Errorf("what was refused is there: %s", list)
	}
}

// A provider has its answer before its first call, is replaced by what it registers next, and takes its names along.
func TestRegistrationBeginsAndEnds(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := noDeadline(rawDial(t, s.endpoints[0]))
	defer conn.Close()
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	register(t, conn, `["Far.Say","Old.*"]`)
	begin := func(method string) <-chan error {
		t.Helper()
		done := inBackground(t.Context(), c, method, "a")
		if got := readLine(t, conn); !strings.Contains(got, fmt.Sprintf(`"method":%q,"params":["a"]`, method)) {
			t.Fatalf("the provider is asked %s; want %s", got, method)
		}
		return done
	}
	said, old := begin("Far.Say"), begin("Old.Anything")
	checkCode(t, "a second name behind the dot", receive(t, inBackground(t.Context(), c, "Old.Any.Thing", "a")), codeNoMethod, "no method")
	register(t, conn, `["Far.Say"]`)
	checkCode(t, "what is not offered any more", receive(t, inBackground(t.Context(), c, "Old.Anything", "a")), codeNoMethod, "no method")
	send(t, conn, `{"id":1,"result":"a"}{"id":2,"error":{"code":7,"message":"no"}}`)
	must(t, receive(t, said))
	checkCode(t, "what was asked before", receive(t, old), 7, "no")
	last := begin("Far.Say")
	send(t, conn, `{"jsonrpc":"2.0","id":"u","method":"Ipcd.Unregister"}`)
	if got := readLine(t, conn); got != `{"jsonrpc":"2.0","id":"u","result":true}`+"\n" {
		t.Errorf("Unregister is answered with %s", got)
	}
	checkCode(t, "after Unregister", receive(t, inBackground(t.Context(), c, "Far.Say", "a")), codeNoMethod, "no method")
	send(t, conn, `{"jsonrpc":"2.0","id":"u","method":"Ipcd.Unregister"}`)
	if got := readLine(t, conn); !strings.Contains(got, "offers nothing") {
		t.Errorf("a second Unregister is answered with %s", got)
	}
	registration(t, conn, `{"methods":["Far.Say"],"max_calls":1}`)
	lost := begin("Far.Say")
	waits := inBackground(t.Context(), c, "Far.Say", "a")
	waitFor(t, func() error {
		if s.router.waiting.Load() == 0 {
			return errors.New("no call waits")
		}
		return nil
	})
	conn.Close()
	for done, retry := range map[<-chan error]bool{last: false, lost: false, waits: true} { // what the provider had not may be sent again
		words := map[bool]string{false: "has gone", true: "has no provider any more"}[retry]
		if f := checkCode(t, "a call to a provider that left", receive(t, done), codeGone, words); f.data().Retry != retry {
			t.Errorf("%v has retry %t; want %t", f, f.data().Retry, retry)
		}
	}
	waitFor(t, func() error {
		if list := s.router.methods(); strings.Contains(strings.Join(list, " "), "Far") {
			return fmt.Errorf("there are %v", list)
		}
		return nil
	})
}

// What is listed says who answers it, in the order in which they came, whose turn it may be: each with its id, its name for
// rules and its version.
func TestListNamesProviders(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	own, err := ownPeer()
	must(t, err)
	var conns []net.Conn
	for _, argument := range []string{
		`{"methods":["Far.Say",{"method":"Old.*","doc":"whatever it was"}],"share":true,"version":"1.2"}`,
		`{"methods":["Far.Say"],"share":true}`,
		`{"methods":["Far.Say"],"share":true}`,
	} {
		conn := noDeadline(rawDial(t, s.endpoints[0]))
		defer conn.Close()
		registration(t, conn, argument)
		send(t, conn, `{"jsonrpc":"2.0","id":"p","method":"Ipcd.Ping"}`)
		readLine(t, conn) // calls may come a moment after the answer to the registration, and whose may first is called first
		conns = append(conns, conn)
	}
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	done := inBackground(t.Context(), c, "Far.Say", "a") // the turn goes on
	readLine(t, conns[0])
	send(t, conns[0], `{"id":1,"result":"a"}`)
	must(t, receive(t, done))
	for _, p := range []proto{protoJSON, protoGob, protoHTTP} {
		c := dialOurs(p)(t, s.endpoints[0])
		defer c.close()
		var list []Listing
		must(t, ask(c, "Ipcd.List", nil, &list))
		got := map[string][]ProviderNote{}
		for _, l := range list {
			got[l.Method] = l.Providers
		}
		for method, want := range map[string][]ProviderNote{
			"Echo.Say": {{Name: "ipcd"}},
			"Far.Say":  {{Provider: "p1", Name: own.name(), Version: "1.2"}, {Provider: "p2", Name: own.name()}, {Provider: "p3", Name: own.name()}},
			"Old.*":    {{Provider: "p1", Name: own.name(), Version: "1.2"}},
		} {
			if !slices.Equal(got[method], want) {
				t.Errorf("over %s, %s is answered by %v; want %v", p, method, got[method], want)
			}
		}
	}
}

// Go's own server is a provider once it has written a registration that wants no answer.
func TestRegistrationWithoutAnAnswer(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := rawDial(t, s.endpoints[0])
	defer conn.Close()
	send(t, conn, `{"method":"Ipcd.Register","params":[{"methods":["Far.Say"]}],"id":null}`)
	waitFor(t, func() error {
		if _, f := s.router.find("Far.Say", theOwner); f != nil {
			return f
		}
		return nil
	})
	send(t, conn, `{"jsonrpc":"2.0","method":"Ipcd.Register","params":[{"methods":["Ipcd.Say"]}]}`)
	waitFor(t, func() error {
		if !strings.Contains(s.log.String(), "the daemon's own") {
			return fmt.Errorf("nothing is logged of a registration that fails")
		}
		return nil
	})
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}`)
	if got, err := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(got, "pong") {
		t.Errorf("the first answer is %s, %v; want that to Ping", got, err)
	}
}

// Whoever cannot be called cannot register, and neither can whoever is not the daemon's user.
func TestWhoCannotRegister(t *testing.T) {
	s := startServer(t, localEndpoint(t).String(), "http://127.0.0.1:0?auth=none", "tcp://127.0.0.1:0?auth=none")
	argument := map[string]any{"methods": []string{"Far.Say"}}
	for _, row := range []struct {
		name, text string
		at, code   int
		protocol   proto
	}{
		{"gob", "nobody can be called", 0, codeInvalid, protoGob},
		{"HTTP", "nobody can be called", 1, codeInvalid, protoAuto},
		{"TCP", "may not offer", 2, codeDenied, protoJSON},
	} {
		c := dialOurs(row.protocol)(t, s.endpoints[row.at])
		checkCode(t, row.name, ask(c, "Ipcd.Register", argument, nil), row.code, row.text)
		c.close()
	}
}

// What a provider calls for a call that it has been given counts as part of that one: its deadline, its end, its hops.
func TestContextOfACall(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxHops = 2 }, localEndpoint(t))
	conn := noDeadline(rawDial(t, s.endpoints[0]))
	defer conn.Close()
	if got := registration(t, conn, `{"methods":["Far.*"],"extensions":["timeout","parts","context","caller","hops","of the future"],"params":"object"}`); !strings.Contains(got, "result") {
		t.Fatal(got)
	}
	c := noDeadline(rawDial(t, s.endpoints[0]))
	defer c.Close()
	own, err := ownPeer()
	must(t, err)
	name := string(appendJSONString(nil, own.name()))
	who := `"name":` + name
	ask := func(conn net.Conn, id, method, more string) {
		t.Helper()
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":[{"a":1}]%s}`, id, method, more))
	}
	next := func(conn net.Conn, parts ...string) string {
		t.Helper()
		got := readLine(t, conn)
		for _, want := range parts {
			if !strings.Contains(got, want) {
				t.Errorf("there comes %s; want %s in it", got, want)
			}
		}
		return got
	}
	ask(c, "first", "Far.One", `,"timeout":3600000,"caller":{"name":"user:nobody"},"hops":7`)
	if got := next(conn, `"method":"Far.One","params":{"a":1},"timeout":3`, `"context":"c1"`, who); strings.Contains(got, "nobody") || strings.Contains(got, `"hops"`) {
		t.Errorf("what a caller says of itself arrives: %s", got)
	}
	ask(conn, "own", "Far.Two", "")
	if got := next(conn, `"context":"c2"`, who); strings.Contains(got, `"timeout"`) || strings.Contains(got, `"for"`) {
		t.Errorf("a call of the provider's own arrives as %s", got)
	}
	ask(conn, "a", "Far.Two", `,"context":"c1"`)
	next(conn, `"params":{"a":1},"timeout":3`, `"context":"c3"`, `"hops":1`, `"for":`+name)
	ask(conn, "b", "Far.Three", `,"context":"c3"`)
	next(conn, `"context":"c4"`, `"hops":2`)
	ask(conn, "d", "Far.Four", `,"context":"c4"`)
	next(conn, `"id":"d","error":{"code":-32007`, `"limit":"max_hops","max":2`)
	ask(conn, "e", "Far.Two", `,"context":"c77"`)
	next(conn, `"id":"e","error":{"code":-32800,"message":"the call c77, for which this one was made, is over"`)
	send(t, conn, `{"jsonrpc":"2.0","id":"f","method":"Ipcd.Ping","context":"c1"}`)
	next(conn, `"id":"f","result":"pong"`)
	send(t, c, `{"jsonrpc":"2.0","id":"not a provider","method":"Ipcd.Ping","context":"c1"}`)
	next(c, `"result":"pong"`)

	send(t, c, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"first"}}`)
	next(c, `"id":"first","error":{"code":-32800`)
	left := map[string]bool{`$/cancelRequest","params":{"id":1}`: true, `$/cancelRequest","params":{"id":3}`: true, `$/cancelRequest","params":{"id":4}`: true,
		`"id":"a","error":{"code":-32800`: true, `"id":"b","error":{"code":-32800`: true}
	for range len(left) {
		got := next(conn)
		for want := range left {
			if strings.Contains(got, want) {
				delete(left, want)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("after the first call was cancelled there is no word of %v", left)
	}
	send(t, conn, `{"jsonrpc":"2.0","id":2,"result":"the provider's own went on"}`)
	next(conn, `"id":"own","result":"the provider's own went on"`)
}

// A daemon that stops asks its providers until the last caller has its answer.
func TestProvidersLeaveLast(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	first, second := noDeadline(rawDial(t, s.endpoints[0])), noDeadline(rawDial(t, s.endpoints[0]))
	defer first.Close()
	defer second.Close()
	register(t, first, `["First.*"]`)
	register(t, second, `["Second.*"]`)
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	done := inBackground(t.Context(), c, "First.Say", "a")
	readLine(t, first)
	stopped := s.stopInBackground()
	send(t, second, `{"jsonrpc":"2.0","id":"late","method":"Ipcd.Register","params":[{"methods":["Late.One"]}]}`)
	if got := readLine(t, second); !strings.Contains(got, `"code":-32003`) {
		t.Errorf("a registration while the daemon stops is answered with %s", got)
	}
	send(t, first, `{"jsonrpc":"2.0","id":"for it","method":"Second.Say","params":["b"]}`)
	if got := readLine(t, second); !strings.Contains(got, `"method":"Second.Say","params":["b"]`) {
		t.Fatalf("the second provider is asked %s", got)
	}
	send(t, second, `{"jsonrpc":"2.0","id":1,"result":"b"}`)
	if got := readLine(t, first); !strings.Contains(got, `"id":"for it","result":"b"`) {
		t.Fatalf("the first provider is told %s", got)
	}
	send(t, second, `{"jsonrpc":"2.0","id":"u","method":"Ipcd.Unregister"}`)
	if got := readAll(t, second); !strings.Contains(got, `"id":"u","result":true`) {
		t.Errorf("who offers nothing more is told %s", got)
	}
	send(t, first, `{"jsonrpc":"2.0","id":1,"result":"a"}`)
	must(t, receive(t, done))
	c.close()
	must(t, receive(t, stopped))
	if got := readAll(t, first); got != "" {
		t.Errorf("the last provider is told %s", got)
	}
}

// shown returns a connection over which a token has been shown.
func (s *testServer) shown(t *testing.T, text string) net.Conn {
	t.Helper()
	conn := noDeadline(rawDial(t, s.endpoints[0]))
	send(t, conn, `{"jsonrpc":"2.0","id":"a","method":"Ipcd.Authenticate","params":["`+text+`"]}`)
	if got := readLine(t, conn); !strings.Contains(got, `"result":true`) {
		t.Fatalf("the token is answered with %s", got)
	}
	return conn
}

// goodTo is goodAnswer to the request in a line.
func goodTo(t *testing.T, line string) string {
	t.Helper()
	var m struct{ ID json.RawMessage }
	must(t, json.Unmarshal([]byte(line), &m))
	return strings.Replace(goodAnswer, `"id":1`, `"id":`+string(m.ID), 1)
}

// Whoever may not register any more offers nothing any more: what it works on ends, what it answers is nobody's answer, and others are as
// they were.
func TestRulesTakeOffersBack(t *testing.T) {
	const good = "[[rule]]\nallow = [\"token:ci\"]\nregister = [\"Vault\", \"Safe\"]\n[[rule]]\nallow = [\"token:other\"]\nregister = [\"Other\"]\n"
	for _, test := range []struct{ name, rule, told string }{
		{"the right is taken", "[[rule]]\ndeny = [\"token:ci\"]\nregister = [\"*\"]\n", `"result":"pong"`},
		{"of one of its services", "[[rule]]\ndeny = [\"token:ci\"]\nregister = [\"Safe\"]\n", `"result":"pong"`},
		{"all is denied", "[[rule]]\ndeny = [\"token:ci\"]\n", `"code":-32005`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startProven(t, nil, "tcp://127.0.0.1:0", localEndpoint(t).String())
			s.obey(policyFrom(t, good))
			ci, other := s.shown(t, makeToken(t, s.gate.tokens, "ci", nil)), s.shown(t, makeToken(t, s.gate.tokens, "other", nil))
			defer ci.Close()
			defer other.Close()
			register(t, ci, `["Vault.Put","Safe.Put"]`)
			register(t, other, `["Other.Put"]`)
			c := dialOurs(protoJSON)(t, s.endpoints[1])
			defer c.close()
			held, kept := inBackground(t.Context(), c, "Vault.Put", "a secret"), inBackground(t.Context(), c, "Other.Put", "b")
			asked, others := readLineWith(t, ci, "Vault.Put"), readLineWith(t, other, "Other.Put")

			s.obey(policyFrom(t, "[[rule]]\ndeny = [\"cert:somebody\"]\nregister = [\"*\"]\n"+good)) // of no concern to either
			if _, f := s.router.find("Vault.Put", theOwner); f != nil {
				t.Fatalf("an offer was taken back by a rule that is about others: %v", f)
			}
			s.obey(policyFrom(t, test.rule+good))
			checkFault(t, "a call that came behind the rule", c.call(t.Context(), "Vault.Put", "a secret", nil), codeNoMethod, "Vault.Put")
			checkFault(t, "the call that it had", receive(t, held), codeGone, "the provider of Vault.Put may not offer it any more")
			send(t, ci, goodTo(t, asked)) // nobody waits for that any more
			readLineWith(t, ci, "$/cancelRequest")
			send(t, ci, `{"jsonrpc":"2.0","id":"p","method":"Ipcd.Ping"}`)
			if got := readLineWith(t, ci, `"id":"p"`); !strings.Contains(got, test.told) {
				t.Errorf("its own call is answered with %s; want %s", got, test.told)
			}
			if got := registration(t, ci, `{"methods":["Vault.Put","Safe.Put"]}`); !strings.Contains(got, `"code":-32005`) {
				t.Errorf("another registration is answered with %s", got)
			}
			send(t, other, goodTo(t, others))
			must(t, receive(t, kept))
			if log := s.log.String(); !strings.Contains(log, "what a provider offers was taken back") {
				t.Errorf("the log does not say so:\n%s", log)
			}
			s.obey(policyFrom(t, good))
			register(t, ci, `["Vault.Put"]`)
			again := inBackground(t.Context(), c, "Vault.Put", "c")
			send(t, ci, goodTo(t, readLineWith(t, ci, "Vault.Put")))
			must(t, receive(t, again))
		})
	}
}

// A registration is refused before it is decoded if it is too long, or has too many methods.
func TestRegistrationIsBoundedBeforeItIsDecoded(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := noDeadline(s.connect())
	for argument, want := range map[string]string{
		`{"methods":[` + strings.Repeat(`"",`, 1_500_000) + `""]}`:                                                                                  `"code":-32001,"message":"a registration of 4500016 bytes (limit max_registration = 1048576)","data":{"limit":"max_registration","max":1048576}`,
		`{"methods":[` + strings.Repeat(`"",`, 300_000) + `""]}`:                                                                                    `"code":-32001,"message":"a provider of 300001 methods (limit max_methods = 1000)"`,
		`{"\u006dETHOD\u017f":[` + strings.Repeat(`{},`, 300_000) + `{}]}`:                                                                          `"code":-32001,"message":"a provider of 300001 methods (limit max_methods = 1000)"`,
		`{"methods":[{"method":"A.B","errors":[` + strings.Repeat(`{},`, 150_000) + `{}]}],"extensions":[` + strings.Repeat(`[],`, 30_000) + `[]]}`: `"code":-32602`,
		`{"methods":[{"method":"A.B","argument":{"a":[` + strings.Repeat(`{"":0},`, 140_000) + `0]}}]}`:                                             `"code":-32001,"message":"a registration that takes `,
		`{"methods":["A.B"],"version":"` + strings.Repeat("1", 101) + `"}`:                                                                          `"code":-32602,"message":"version has 101 bytes; expected at most 100"`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := registration(t, conn, argument)
		runtime.ReadMemStats(&after)
		if !strings.Contains(got, want) {
			t.Errorf("%.60s is answered with %s; want %s", argument, got, want)
		}
		if took := int(after.TotalAlloc - before.TotalAlloc); took > 4*len(argument)+64<<20 {
			t.Errorf("%.60s, of %d bytes, takes %d", argument, len(argument), took)
		}
	}
	if own := s.server.accountOf(theOwner).small[registrations].Load(); own != 0 {
		t.Errorf("what was refused keeps %d bytes", own)
	}
}

// What is registered counts for its user for as long as it is offered, and no longer.
func TestRegistrationsCountForTheirUser(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.UserMemory, l.UserMethods = 1<<20, 6 }, localEndpoint(t))
	first, second, third := noDeadline(s.connect()), noDeadline(s.connect()), noDeadline(s.connect())
	schema := `{"a":[` + strings.Repeat(`{"":0},`, 700) + `0]}`
	large := func(name string) string {
		return `{"methods":[{"method":"` + name + `","argument":` + schema + `}],"share":true}`
	}
	taken, busyMemory, busyMethods := `"result":{"provider":"p`, `"code":-32002,"message":"what this user has registered takes`, `"code":-32002,"message":"this user offers too many methods (limit user_methods = 6)","data":{"limit":"user_methods","max":6,"retry":true}`
	step := func(what string, conn net.Conn, argument, want string) {
		t.Helper()
		if got := registration(t, conn, argument); !strings.Contains(got, want) {
			t.Fatalf("%s is answered with %.300s; want %s", what, got, want)
		}
	}
	step("one", first, large("Large.One"), taken)
	of := s.accountOfUsers(t) // a pipe tells whose it is once something has come
	held := of.small[registrations].Load()
	if least := int64(len(schema)) + 700*costOfObject; held < least || held > 2*least || of.own.Load() < held || of.methods.Load() != 1 {
		t.Errorf("a registration of %d bytes keeps %d, of %d, and %d methods", len(schema), held, of.own.Load(), of.methods.Load())
	}
	for range 3 { // each takes the place of the one before
		step("the same again", first, large("Large.One"), taken)
	}
	step("another one", second, large("Large.Two"), busyMemory)
	step("a name that is not one", second, `{"methods":["A"]}`, `"code":-32602`)
	step("six methods", second, `{"methods":["A.A","A.B","A.C","A.D","A.E","A.F"]}`, busyMethods)
	step("seven", second, `{"methods":["A.A","A.B","A.C","A.D","A.E","A.F","A.G"]}`, `"code":-32001,"message":"a provider of 7 methods (limit user_methods = 6)"`)
	step("five", second, `{"methods":["A.A","A.B","A.C","A.D","A.E"],"share":true}`, taken)
	step("one more", third, `{"methods":["A.A"],"share":true}`, busyMethods)
	step("fewer", second, `{"methods":["A.A"]}`, taken)
	step("a name that is taken", third, `{"methods":["A.A"]}`, `"code":-32005`)
	if n := of.methods.Load(); n != 2 {
		t.Errorf("two methods count as %d", n)
	}
	send(t, first, `{"jsonrpc":"2.0","id":"u","method":"Ipcd.Unregister"}`)
	readLine(t, first)
	step("in its place", third, large("Large.Two"), taken)
	third.Close()
	waitFor(t, func() error {
		if n := of.methods.Load(); n != 1 {
			return fmt.Errorf("%d methods are offered", n)
		}
		return nil
	})
	step("and again", first, large("Large.One"), taken)
	first.Close()
	second.Close()
	waitFor(t, func() error {
		if n, b, all := of.methods.Load(), of.small[registrations].Load(), of.kept.Load(); n != 0 || b != 0 || all != 0 {
			return fmt.Errorf("behind all connections there are %d methods, of %d bytes, %d of all users", n, b, all)
		}
		return nil
	})
}

// accountOfUsers returns the account of the only user who has a connection.
func (s *testServer) accountOfUsers(t *testing.T) *account {
	t.Helper()
	var of *account
	waitFor(t, func() error {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		for _, u := range s.server.users {
			of = &u.account
		}
		if of == nil {
			return errors.New("nobody has a connection")
		}
		return nil
	})
	return of
}

// Registrations of all users leave half of their memory, and shut nobody out who has but few.
func TestRegistrationsOfAllUsers(t *testing.T) {
	l := defaultLimits()
	l.UserMemory, l.Memory = 1000, 1600
	b := newBudget(l)
	users := []*account{{budget: b}, {budget: b}, {budget: b}}
	keep := func(u, n int, old *keeping) (*keeping, *fault) { return users[u].keep(int64(n), 1, 10, old) }
	first, f := keep(0, 500, nil)
	if f != nil {
		t.Fatal(f)
	}
	if _, f = keep(1, 300, nil); f != nil {
		t.Fatal(f)
	}
	if _, f = keep(2, 200, nil); f == nil || f.Code != codeBusy || !strings.Contains(f.Text, "memory = 1600") {
		t.Errorf("a registration that exceeds half of memory: %v", f)
	}
	if _, f = keep(2, 100, nil); f != nil {
		t.Errorf("a small one: %v", f)
	}
	if _, f = keep(0, 501, first); f == nil || f.Code != codeTooLarge {
		t.Errorf("one that never has room: %v", f)
	}
	first.release()
	if _, f = keep(2, 200, nil); f != nil {
		t.Errorf("once there is room: %v", f)
	}
	if all := b.kept.Load(); all != 600 || b.held.Load() != 600 {
		t.Errorf("of 600 bytes %d are kept, %d held", all, b.held.Load())
	}
}

// What a registration is estimated to take is no less than what it takes, and not many times as much.
func TestCostOfRegistrations(t *testing.T) {
	var names strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&names, `"x%d":{"a":[]},`, i)
	}
	list := func(element string) string { return `{"a":[` + strings.Repeat(element+",", 50_000) + `0]}` }
	for _, text := range []string{
		list(`{"type":"object","properties":{"name":{"type":"string","description":"its \"name\" {[,:"}, "n": { }},"required":["name","n"]}`),
		list(`{"":0}`), list(`{"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0}`), list("{}"), list("[]"), list("[1]"), list("1"), list(`"abc"`), "{" + names.String() + `"z":1}`,
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s, err := parseSchema([]byte(text))
		must(t, err)
		runtime.GC()
		runtime.ReadMemStats(&after)
		took := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		if cost := int64(costOf(document(text))); took > cost+1<<20 || 4*took+1<<20 < cost {
			t.Errorf("%.60s takes %d bytes, and is estimated at %d", text, took, cost)
		}
		runtime.KeepAlive(s)
	}
}

// However long what providers say of their methods is, List and Describe have room, and leave what is short as it is.
func TestListAndDescribeHaveRoom(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage, l.MaxRegistration = 64<<10, 64<<10 }, localEndpoint(t))
	long := strings.Repeat(`\u0001`, 8<<10)
	for i := range 8 {
		conn := noDeadline(s.connect())
		register(t, conn, fmt.Sprintf(`[{"method":"Long.Doc%d","doc":"%s"}]`, i, long))
		register(t, noDeadline(s.connect()), fmt.Sprintf(`[{"method":"Long.Schema%d","doc":"d","readOnly":true,"part":{"type":"string"},"argument":{"description":"%s"}}]`, i, long))
	}
	register(t, noDeadline(s.connect()), `[{"method":"Long.Short","doc":"is short","argument":{"type":"string"}}]`)
	for _, proto := range []proto{protoJSON, protoGob} {
		c := dialOurs(proto)(t, s.endpoints[0])
		defer c.close()
		var list []Listing
		must(t, ask(c, "Ipcd.List", nil, &list))
		docs := map[string]string{}
		for _, l := range list {
			docs[l.Method] = l.Doc
		}
		if doc := docs["Long.Doc7"]; docs["Long.Short"] != "is short" || !strings.HasSuffix(doc, "…") || len(doc) < 500 || docs["Echo.Say"] == "" {
			t.Errorf("List has %d of a long doc; %q and %q of short ones", len(doc), docs["Long.Short"], docs["Echo.Say"])
		}
		var service, one []Description
		must(t, ask(c, "Ipcd.Describe", "Long", &service))
		if len(service) != 17 {
			t.Fatalf("the service has %d methods", len(service))
		}
		for _, d := range service {
			if short := d.Method == "Long.Short"; d.Cut == short || short && (d.Argument["type"] != "string" || d.Doc != "is short") || strings.HasPrefix(d.Method, "Long.Schema") && (d.Doc != "d" || !d.ReadOnly || d.Part == nil) {
				t.Errorf("of the service there is %.300v", d)
			}
		}
		must(t, ask(c, "Ipcd.Describe", "Long.Schema3", &one))
		if len(one) != 1 || one[0].Cut || one[0].Argument["description"] != strings.Repeat("\x01", 8<<10) {
			t.Errorf("a method is described by %.300v", one)
		}
	}
}
