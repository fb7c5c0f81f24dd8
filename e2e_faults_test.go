package main

// This file owns what providers and their callers can do wrong: whatever it is, the call concerned ends, and everybody else is served.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A faulty is what a provider of Bad.Say does when it has been asked, once, and what its caller gets.
type faulty struct {
	name string
	does func(t *testing.T, conn net.Conn)
	want string // the result, where code is 0; otherwise what the error says
	code int
	ends bool // the connection of the provider
}

// writes returns a provider that writes a text.
func writes(text string) func(t *testing.T, conn net.Conn) {
	return func(t *testing.T, conn net.Conn) { t.Helper(); send(t, conn, text) }
}

const goodAnswer = `{"jsonrpc":"2.0","id":1,"result":"good"}` + "\n"

var faults = []faulty{
	{name: "prints a word", does: writes("Listening on port 80\n"), want: "has gone", code: codeGone, ends: true},
	{name: "prints zeros", does: writes("\x00\x00\x00\x00"), want: "has gone", code: codeGone, ends: true},
	{name: "prints HTTP", does: writes("HTTP/1.1 200 OK\r\n\r\n"), want: "has gone", code: codeGone, ends: true},
	{name: "prints half an answer and leaves", does: func(t *testing.T, conn net.Conn) {
		send(t, conn, `{"jsonrpc":"2.0","id":1,"result":"go`)
		conn.Close()
	}, want: "has gone", code: codeGone, ends: true},
	{name: "says a member twice", does: writes(`{"jsonrpc":"2.0","id":1,"result":"a","result":"b"}`), want: "has gone", code: codeGone, ends: true},
	{name: "prints a value", does: writes(`"ready" 7 null [] {} ` + goodAnswer), want: "good"},
	{name: "answers twice", does: writes(goodAnswer + `{"jsonrpc":"2.0","id":1,"result":"again"}` + `{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"again"}}`), want: "good"},
	{name: "answers what was not asked", does: writes(`{"jsonrpc":"2.0","id":77,"result":"a"}{"jsonrpc":"2.0","id":"1","result":"a"}{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"a"}}` + goodAnswer), want: "good"},
	{name: "answers for another's id", does: writes(`{"jsonrpc":"2.0","id":2,"result":"forged"}` + goodAnswer), want: "good"}, // see below
	{name: "answers with nothing", does: writes(`{"jsonrpc":"2.0","id":1}`), want: "neither a result nor an error", code: codeInternal},
	{name: "answers with an empty error", does: writes(`{"jsonrpc":"2.0","id":1,"error":{}}`), want: "", code: codeApplication},
	{name: "answers with a text for an error", does: writes(`{"jsonrpc":"2.0","id":1,"error":"no paper"}`), want: "no paper", code: codeApplication},
	{name: "forges an error of the daemon's", does: writes(`{"jsonrpc":"2.0","id":1,"error":{"code":-32003,"message":"no paper","data":{"retry":true}}}`), want: "no paper", code: codeApplication},
	{name: "floods notifications", does: writes(strings.Repeat(`{"jsonrpc":"2.0","method":"Echo.Say","params":["a"]}{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":"a"}}`+
		`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}{"jsonrpc":"2.0","method":"No.Such"}`, 3_000) + goodAnswer), want: "good"},
	{name: "registers again", does: func(t *testing.T, conn net.Conn) {
		register(t, conn, `["Bad.Say"]`)
		send(t, conn, goodAnswer)
	}, want: "good"},
	{name: "shuts its sending side and stays", does: func(t *testing.T, conn net.Conn) {
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			must(t, half.CloseWrite())
			return
		}
		conn.Close() // a pipe has no sides
	}, want: "has gone", code: codeGone, ends: true},
	{name: "leaves", does: func(t *testing.T, conn net.Conn) { conn.Close() }, want: "has gone", code: codeGone, ends: true},
	{name: "never answers", does: func(*testing.T, net.Conn) {}, want: "deadline", code: codeDeadline},
}

func TestProvidersAtFault(t *testing.T) {
	for _, row := range faults {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, localEndpoint(t).String())
			bad, good := noDeadline(s.connect()), noDeadline(s.connect())
			register(t, bad, `["Bad.Say"]`)
			register(t, good, `["Good.Say"]`)
			c := newLineCaller(t, s.endpoints[0], false)
			defer c.close()
			answersOf := func(conn net.Conn, method, answer string) <-chan error {
				t.Helper()
				done := inBackground(t.Context(), c, method, "a")
				readLineWith(t, conn, method)
				send(t, conn, answer)
				return done
			}
			must(t, receive(t, answersOf(good, "Good.Say", goodAnswer)))
			pending := answersOf(good, "Good.Say", "") // its id is 2
			ctx := t.Context()
			if row.code == codeDeadline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 500*time.Millisecond)
				defer cancel()
			}
			var result string
			done := make(chan error, 1)
			go func() { done <- c.call(ctx, "Bad.Say", "a", &result) }()
			if row.code != codeDeadline { // which may pass before
				readLine(t, bad)
			}
			row.does(t, bad)
			if err := receive(t, done); row.code != 0 {
				checkCode(t, "the call", err, row.code, row.want)
			} else if err != nil || result != row.want {
				t.Errorf("the call has the result %q, %v; want %q", result, err, row.want)
			}
			send(t, good, `{"jsonrpc":"2.0","id":2,"result":"good"}`)
			must(t, receive(t, pending))
			checkSay(t, c, "here")
			switch {
			case row.ends:
				waitFor(t, func() error { return checkGone(s, "Bad.Say") })
			case row.code == codeDeadline:
				if got := readLineWith(t, bad, "$/cancelRequest"); !strings.Contains(got, `"params":{"id":1}`) {
					t.Errorf("the provider is told %s", got)
				}
			default:
				must(t, receive(t, answersOf(bad, "Bad.Say", `{"jsonrpc":"2.0","id":2,"result":"a"}`)))
			}
		})
	}
}

// readLineWith reads lines up to one with a word in it, and returns that.
func readLineWith(t *testing.T, conn net.Conn, word string) string {
	t.Helper()
	for {
		if line := readLine(t, conn); strings.Contains(line, word) {
			return line
		}
	}
}

// A stop waits for a provider that never answers as long as it does for a method: for the limit drain.
func TestStopWithProviderThatNeverAnswers(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Drain = 50 * time.Millisecond }, localEndpoint(t))
	mute := noDeadline(s.connect())
	register(t, mute, `["Mute.Say"]`)
	c := newLineCaller(t, s.endpoints[0], false)
	defer c.close()
	done := inBackground(t.Context(), c, "Mute.Say", "a")
	readLine(t, mute)
	if err := s.stop(t.Context()); err == nil {
		t.Error("a stop that had to cut a call says nothing of it")
	}
	checkCode(t, "the call", receive(t, done), codeShuttingDown, "")
	readAll(t, mute) // its connection has ended
}

// Who is cut by a stop hears it from the daemon, even if the provider is gone before all callers have been told: it may have the
// call, or have no room for it.
func TestForcedStopIsSaidByTheDaemon(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	mute, c := s.connect(), s.connect()
	registration(t, mute, `{"methods":["Mute.Say"],"max_calls":1}`)
	send(t, c, `{"jsonrpc":"2.0","id":1,"method":"Mute.Say"}`)
	readLine(t, mute)
	send(t, c, `{"jsonrpc":"2.0","id":2,"method":"Mute.Say"}{"jsonrpc":"2.0","id":3,"method":"Trial.Block","params":["a"]}`)
	s.begun(1)
	s.server.mu.Lock()
	callers, _ := s.server.stagesLocked()
	s.server.mu.Unlock()
	if len(callers) != 1 {
		t.Fatalf("%d connections are no providers; want 1", len(callers))
	}
	tell := callers[0].seize(errCutShort)
	mute.Close()
	waitFor(t, func() error {
		if n := s.server.meter.connections.Load(); n > 1 {
			return fmt.Errorf("there are %d connections", n)
		}
		return nil
	})
	tell()
	for range 3 {
		if got := readLine(t, c); !strings.Contains(got, `"error":{"code":-32003,"message":"the daemon stopped while the call ran`) {
			t.Errorf("a call that was cut is answered with %s", got)
		}
	}
}

// A provider that reads nothing, or not what it is answered, holds up its own callers and no others, and not for longer than
// the limit write.
func TestProviderThatReadsNothing(t *testing.T) {
	for _, row := range []struct {
		name string
		does func(conn net.Conn)
	}{
		{"calls", func(net.Conn) {}},
		{"answers", func(conn net.Conn) {
			request := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":[%q]}`, strings.Repeat("a", 64<<10))
			for err := error(nil); err == nil; {
				_, err = fmt.Fprint(conn, request)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) { l.Write = 300 * time.Millisecond }, localEndpoint(t))
			deaf := noDeadline(s.connect())
			narrow(deaf)
			register(t, deaf, `["Deaf.Say"]`)
			over := make(chan struct{})
			go func() {
				defer close(over)
				row.does(deaf)
			}()
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			defer c.close()
			long := strings.Repeat("a", 1<<20)
			var all []<-chan error
			for range 16 {
				all = append(all, inBackground(t.Context(), c, "Deaf.Say", long))
			}
			checkSay(t, c, "here")
			for _, done := range all {
				var f *fault
				if err := receive(t, done); !errors.As(err, &f) || f.Code != codeGone && f.Code != codeNoMethod { // it may have gone before
					t.Errorf("a call of one who reads nothing ends with %v", err)
				}
			}
			waitFor(t, func() error { return checkGone(s, "Deaf.Say") })
			checkSay(t, c, "still here")
			deaf.Close()
			receive(t, over)
		})
	}
}

// oddSchemas are no schemas, or such as lead in circles.
var oddSchemas = []string{
	`{"type":7,"properties":[],"required":{},"minimum":"x","pattern":"(","items":3,"enum":{},"anyOf":"a","additionalProperties":"b"}`,
	`{"$ref":"#"}`,
	`{"$ref":"#/$defs/nowhere"}`,
	`{"$ref":"file:///etc/passwd"}`,
	`{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}`,
	`{"type":"array","items":{"$ref":"#"}}`,
	`{"type":"object","additionalProperties":{"$ref":"#"}}`,
	`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a","a","b"]}`,
	`{"anyOf":[{"$ref":"#"},{"type":"null"}]}`,
	`{"type":"object","properties":{"a\u001b[2J":{"type":"\u0007"}}}`,
	strings.Repeat(`{"items":`, 40) + `{}` + strings.Repeat(`}`, 40),
}

// What a provider says of its methods is for people and clients to read: it breaks neither them nor the daemon.
func TestSchemasThatMakeNoSense(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	var methods []string
	for i, schema := range oddSchemas {
		methods = append(methods, fmt.Sprintf(`{"method":"Odd.M%d","argument":%s,"result":%[2]s}`, i, schema))
	}
	odd := noDeadline(s.connect())
	register(t, odd, "["+strings.Join(methods, ",")+"]")
	go func() { // it answers each call with its argument
		for requests := json.NewDecoder(odd); ; {
			var m struct {
				ID     json.RawMessage
				Method string
				Params [1]json.RawMessage
			}
			if requests.Decode(&m) != nil {
				return
			}
			if m.Method != "" && m.ID != nil {
				fmt.Fprintf(odd, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, m.Params[0])
			}
		}
	}()
	e := s.endpoints[0].String()
	for i, schema := range oddSchemas {
		method := fmt.Sprintf("Odd.M%d", i)
		if got := printed(t, exec.Command("ipcd", "describe", "-e", e, method)); !strings.Contains(got, method) || strings.ContainsAny(got, "\x1b\x07") {
			t.Errorf("%.80s is described as %q", schema, got)
		}
		if got := printed(t, exec.Command("ipcd", "call", "-e", e, method, "--arg", `{"a": [1]}`)); got != `{"a":[1]}`+"\n" {
			t.Errorf("%.80s: a call prints %q", schema, got)
		}
		for _, more := range [][]string{{"a=1"}, {"-e", e + "?proto=gob", "--arg", `{"a":1}`}} { // which may be refused
			out, err := exec.Command("ipcd", append([]string{"call", "-e", e, method}, more...)...).CombinedOutput()
			if strings.Contains(string(out), "goroutine ") {
				t.Errorf("%.80s: a call with %q ends with %v\n%.2000s", schema, more, err, out)
			}
		}
	}
	list := printed(t, exec.Command("ipcd", "ls", "-e", e))
	if strings.Count(list, "Odd.M") != len(oddSchemas) {
		t.Errorf("ls prints %s", list)
	}
}

// A registration may be as long as a message, where max_registration says so.
func TestSchemaOfTenMegabytes(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxRegistration = 16 << 20 }, localEndpoint(t))
	conn := noDeadline(s.connect())
	register(t, conn, `["Small.Say"]`)
	long := strings.Repeat("a", 10<<20)
	register(t, conn, `[{"method":"Big.Say","argument":{"description":"`+long+`"}}]`)
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	var described []Description
	if err := ask(c, "Ipcd.Describe", "Big.Say", &described); err != nil || len(described) != 1 || described[0].Argument["description"] != long {
		t.Errorf("it is described by %d methods, %v", len(described), err)
	}
	send(t, conn, `{"jsonrpc":"2.0","id":"r","method":"Ipcd.Register","params":[{"methods":[{"method":"Big.Say","argument":{"description":"`+long+long+`"}}]}]}`)
	if got := readLine(t, conn); !strings.Contains(got, `"id":"r","error":{"code":-32001`) {
		t.Errorf("a registration that is too long is answered with %.200s", got)
	}
	must(t, s.offers("Big.Say")) // it is as it was
	checkSay(t, c, "here")
}

// A cancellation concerns one call in flight of its own connection, and nothing else.
func TestCancelForNoCall(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	far, c, other := noDeadline(s.connect()), noDeadline(s.connect()), noDeadline(s.connect())
	register(t, far, `["Far.Say"]`)
	cancel := func(conn net.Conn, params string) {
		t.Helper()
		send(t, conn, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":`+params+`}{"jsonrpc":"2.0","id":"ping","method":"Ipcd.Ping"}`)
		if got := readLine(t, conn); !strings.Contains(got, `"id":"ping","result":"pong"`) {
			t.Errorf("behind a cancellation with %s there comes %s", params, got)
		}
	}
	answer := func(id int) {
		t.Helper()
		send(t, far, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":"a"}`, id))
		if got := readLine(t, c); got != `{"jsonrpc":"2.0","id":7,"result":"a"}`+"\n" {
			t.Errorf("the caller is told %s", got)
		}
	}
	for id := 1; id <= 2; id++ { // the id of the caller's call is the same each time
		send(t, c, `{"jsonrpc":"2.0","id":7,"method":"Far.Say","params":["a"]}`)
		if got := readLine(t, far); got != fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Far.Say","params":["a"]}`+"\n", id) {
			t.Errorf("the provider is told %s", got)
		}
		for _, params := range []string{`{"id":8}`, `{"id":"7"}`, `{"id":null}`, `{"id":[7]}`, `{}`, `[7]`, `7`, `null`, `{"id":1}`, `{"id":2}`} {
			cancel(c, params)
		}
		cancel(other, `{"id":7}`)
		cancel(far, `{"id":7}`)
		cancel(far, fmt.Sprintf(`{"id":%d}`, id))
		answer(id)
		cancel(c, `{"id":7}`) // it has been answered
	}
}

// A Pair is one of two services that call each other.
type Pair struct {
	other string
	back  *session
}

// Do has the other one do one less.
func (p *Pair) Do(ctx context.Context, n int) (done int, err error) {
	if n > 0 {
		err = p.back.ask(ctx, p.other+".Do", n-1, &done, nil)
	}
	return done + 1, err
}

// Two providers that call each other, with as many calls in flight as they take, wait for each other no longer than their
// callers do, and go on.
func TestProvidersThatWaitForEachOther(t *testing.T) {
	for name, row := range map[string]struct {
		calls int // in flight at one connection, by limits.max_calls
		most  int // at one provider, by max_calls of its registration
	}{
		"max_calls of a connection":   {4, 0},
		"max_calls of a registration": {256, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) { l.MaxCalls = row.calls }, localEndpoint(t))
			for _, p := range []struct{ own, other string }{{"A", "B"}, {"B", "A"}} {
				conn, r, pair := noDeadline(s.connect()), newRouter(), &Pair{other: p.other}
				_, methods, err := newReceiver(pair, nil)
				must(t, err)
				must(t, r.add(p.own, methods))
				session := newJSONSession(conn, r, p.own)
				pair.back = session
				session.ended = func(error) { session.cut(nil) }
				over := make(chan error, 1)
				go func() { over <- session.serve() }()
				t.Cleanup(func() {
					conn.Close()
					receive(t, over)
				})
				must(t, session.ask(t.Context(), "Ipcd.Register", map[string]any{"methods": r.methods(), "max_calls": row.most}, nil, nil))
			}
			var all []<-chan error
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			for i := range 64 {
				c := dialOurs(protoJSON)(t, s.endpoints[0])
				defer c.close()
				all = append(all, inBackground(ctx, c, []string{"A.Do", "B.Do"}[i%2], 3))
			}
			for _, done := range all {
				var f *fault
				if err := receive(t, done); err != nil && (!errors.As(err, &f) || f.Code != codeDeadline && f.Code != codeApplication) {
					t.Errorf("a call ends with %v", err)
				}
			}
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			defer c.close()
			for _, method := range []string{"A.Do", "B.Do"} {
				waitFor(t, func() error { // what was given up takes its time to end, and counts until then
					var n int
					if err := ask(c, method, 1, &n); err != nil || n != 2 {
						return fmt.Errorf("afterwards %s(1) = %d, %v; want 2", method, n, err)
					}
					return nil
				})
			}
		})
	}
}

// A program that writes without end, and one that does nothing without end, are ended, and their callers told.
func TestCommandsWithoutAnEnd(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	serve(t, s, "Endless.Flood", "--", "probe", "flood")
	serve(t, s, "--timeout", "300ms", "Endless.Block", "--", "probe", "block")
	serve(t, s, "Short.Cat", "--", "probe", "cat")
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	for _, method := range []string{"Endless.Flood", "Endless.Block", "Short.Cat"} {
		waitFor(t, func() error { return s.offers(method) })
	}
	for range 2 {
		flood, block := inBackground(t.Context(), c, "Endless.Flood", "a"), inBackground(t.Context(), c, "Endless.Block", "a")
		must(t, ask(c, "Short.Cat", "a", nil))
		checkCode(t, "who writes without end", receive(t, flood), codeApplication, "max_message")
		checkCode(t, "who does nothing", receive(t, block), codeApplication, "--timeout")
	}
}
