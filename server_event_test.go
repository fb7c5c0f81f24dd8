package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// subscribeOver subscribes over a connection of its own, and returns that once the subscription is there.
func subscribeOver(t *testing.T, e endpoint, argument string) net.Conn {
	t.Helper()
	conn := rawDial(t, e)
	subscribeOn(t, conn, argument)
	return conn
}

func subscribeOn(t *testing.T, conn net.Conn, argument string) {
	t.Helper()
	send(t, conn, `{"jsonrpc":"2.0","id":"s","method":"Ipcd.Subscribe","params":[`+argument+`],"parts":"t","timeout":1}`)
	if got := readLine(t, conn); !strings.HasPrefix(got, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":"t","value":{"subscribed":[`) {
		t.Fatalf("Ipcd.Subscribe(%s) begins with %s", argument, got)
	}
}

// readEvent reads what comes next on a subscription: an event as its topic and its data, everything else as it is.
func readEvent(t *testing.T, conn net.Conn) string {
	t.Helper()
	var m struct {
		Params struct {
			Value json.RawMessage
		}
	}
	line := readLine(t, conn)
	must(t, json.Unmarshal([]byte(line), &m))
	var e struct {
		Topic, ID, Time string
		Data            json.RawMessage
	}
	if m.Params.Value == nil {
		return line
	}
	if must(t, json.Unmarshal(m.Params.Value, &e)); e.Topic == "" {
		return string(m.Params.Value)
	}
	return e.Topic + " " + string(e.Data)
}

func publishOver(t *testing.T, c caller, topic, data string) {
	t.Helper()
	var answer Published
	must(t, ask(c, "Ipcd.Publish", json.RawMessage(`{"topic":"`+topic+`","data":`+data+`}`), &answer))
	if answer.ID == "" {
		t.Error("an event has no id")
	}
}

// Whoever may call subscribes, however it is connected, and has all events in their order and as they were published.
func TestSubscribersGetEvents(t *testing.T) {
	s := startServer(t, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none")
	front := startFront(t, s.endpoints[0])
	c, child := dialOurs(protoJSON)(t, s.endpoints[0]), dialOurs(protoJSON)(t, front)
	defer c.close()
	defer child.close()
	one, all := subscribeOver(t, s.endpoints[0], `{"topics":["a.b"]}`), subscribeOver(t, s.endpoints[1], `{"topics":["a.>","a.b"]}`)
	forked := subscribeOver(t, front, `{"topics":["*.b"]}`)
	defer one.Close()
	defer all.Close()
	defer forked.Close()
	for i := range 100 {
		publishOver(t, c, "a.b", fmt.Sprintf(`{"z":%d.0,"a":"\u00e4"}`, i))
		publishOver(t, child, "a.c", `null`)
	}
	for i := range 100 {
		want := fmt.Sprintf(`a.b {"z":%d.0,"a":"\u00e4"}`, i)
		for what, conn := range map[string]net.Conn{"one": one, "all": all, "forked": forked} {
			if got := readEvent(t, conn); got != want {
				t.Fatalf("%s gets %s; want %s", what, got, want)
			}
		}
		if got := readEvent(t, all); got != "a.c null" {
			t.Fatalf("all gets %s; want a.c", got)
		}
	}
	send(t, one, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"s"}}`)
	if got := readLine(t, one); !strings.Contains(got, `"id":"s","error":{"code":-32800`) {
		t.Errorf("a cancelled subscription ends with %s", got)
	}
	all.Close()
	forked.Close()
	wantSubscriptions(t, s, 0)
}

// wantSubscriptions waits until there are as many subscriptions as that.
func wantSubscriptions(t *testing.T, s *testServer, want int) {
	t.Helper()
	waitFor(t, func() error {
		h := s.router.events
		h.mu.Lock()
		defer h.mu.Unlock()
		n := 0
		for _, r := range h.users {
			n += r.patterns
		}
		if n != want || want == 0 && len(h.sinks.next)+len(h.sinks.rest) > 0 {
			return fmt.Errorf("there are %d subscriptions, and %d branches; want %d", n, len(h.sinks.next), want)
		}
		return nil
	})
}

// Who cannot get parts is told how to ask for them.
func TestSubscribingTakesParts(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	for _, k := range clientKinds {
		c := k.dial(t, s.endpoints[0])
		defer c.close()
		var arg any = map[string]any{"topics": []string{"a"}}
		if k.gob {
			arg = struct{ Topics []string }{[]string{"a"}}
		}
		checkCode(t, k.name, ask(c, "Ipcd.Subscribe", arg, nil), codeInvalid, `call it by JSON-RPC 2.0 with a token in "parts"`)
	}
	for _, text := range []string{
		`{"id":1,"method":"Ipcd.Subscribe","params":[{"topics":["a"]}],"parts":1}`,
		`[{"jsonrpc":"2.0","id":1,"method":"Ipcd.Subscribe","params":[{"topics":["a"]}],"parts":1}]`,
	} {
		conn := s.connect()
		defer conn.Close()
		send(t, conn, text)
		if got := readLine(t, conn); !strings.Contains(got, "call it by JSON-RPC 2.0 with a token") {
			t.Errorf("%s is answered with %s", text, got)
		}
	}
	wantSubscriptions(t, s, 0)
}

// Every kind of client publishes, and what comes is JSON.
func TestPublishing(t *testing.T) {
	s := startServer(t, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none")
	conn := subscribeOver(t, s.endpoints[0], `{"topics":["a.>","a"]}`)
	defer conn.Close()
	for _, k := range clientKinds {
		c := k.dial(t, s.endpoints[0])
		defer c.close()
		var arg any = map[string]any{"topic": "a", "data": map[string]any{"n": 1}}
		if k.gob {
			arg = struct {
				Topic string
				Data  map[string]int
			}{"a", map[string]int{"n": 1}}
		}
		must(t, ask(c, "Ipcd.Publish", arg, nil))
		if got := readEvent(t, conn); got != `a {"n":1}` {
			t.Errorf("over %s comes %s", k.name, got)
		}
	}
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	for arg, want := range map[string]string{
		`{"topic":"a"}`:                                       `a null`,
		`{"topic":"a","data":null}`:                           `a null`,
		`{ "data" : [1, "2"] , "topic" : "a" }`:               `a [1,"2"]`,
		`{"t\u006fpic":"\u0061","data":"\u0061"}`:             `a "\u0061"`,
		`{"topic":"a","more":{"topic":"a.b"},"data":{"a":1}}`: `a {"a":1}`,
	} {
		must(t, ask(c, "Ipcd.Publish", json.RawMessage(arg), nil))
		if got := readEvent(t, conn); got != want {
			t.Errorf("published by %s comes %s; want %s", arg, got, want)
		}
	}
	for arg, want := range map[string]string{
		`{"topic":"a.*","data":1}`: "has a wildcard",
		`{"topic":"","data":1}`:    "is empty",
		`{"data":1}`:               "is empty",
		`{"topic":7}`:              "expected a string",
		`["a"]`:                    "",
		`{"topic":"` + strings.Repeat("a.", 9_999) + `a"}`: "has 10000 levels; expected at most 32",
	} {
		checkCode(t, shorten(arg, 40), ask(c, "Ipcd.Publish", json.RawMessage(arg), nil), codeBadArgument, want)
	}
	for _, topic := range []string{"ipcd", "ipcd.service.Echo.up"} {
		checkCode(t, topic, ask(c, "Ipcd.Publish", map[string]any{"topic": topic}, nil), codeDenied, "is a topic of the daemon's own")
	}
	for arg, want := range map[string]string{
		`{"topics":[]}`:           "topics is empty",
		`{}`:                      "topics is empty",
		`{"topics":"a"}`:          "expected an array",
		`{"topics":["a","b..c"]}`: "has an empty token",
		`{"topics":["` + strings.Repeat("*.", 9_999) + `a"]}`: "has 10000 levels; expected at most 32",
		`{"topics":["a"` + strings.Repeat(`,"a"`, 100) + `]}`: "there are 101 topics; expected at most 100",
		`{"topics":["a"],"after":7}`:                          "expected a string",
	} {
		err := c.(*client).session.ask(t.Context(), "Ipcd.Subscribe", json.RawMessage(arg), nil, func(document) error { return nil })
		checkCode(t, shorten(arg, 40), err, codeBadArgument, want)
	}
	stranger := dialOurs(protoJSON)(t, s.endpoints[1])
	defer stranger.close()
	checkCode(t, "a stranger", ask(stranger, "Ipcd.Publish", map[string]any{"topic": "a"}, nil), codeDenied, "may not publish")
}

// A publication of almost max_message goes through; one of which the event would be too long does not.
func TestLargeEvents(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := subscribeOver(t, s.endpoints[0], `{"topics":["a"]}`)
	defer conn.Close()
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	most := defaultLimits().MaxMessage - eventFrame
	publish := func(size int) error {
		return ask(c, "Ipcd.Publish", json.RawMessage(`{"topic":"a","data":"`+strings.Repeat("x", size-2)+`"}`), nil)
	}
	checkCode(t, "too long an event", publish(most+1), codeTooLarge, "the data of an event is too long, with 1024 bytes for the rest of its message (limit max_message = 16777216)")
	read := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		read <- line
	}()
	must(t, publish(most))
	if got := receive(t, read); len(got) < most || !strings.HasSuffix(got, "xx\"}}}\n") {
		t.Errorf("there comes an event of %d bytes", len(got))
	}
}

// A subscription does not end by itself: neither its own deadline nor max_call holds for it, however it is connected.
func TestMaxCallEndsNoSubscription(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxCall = 30 * time.Millisecond }, localEndpoint(t))
	conn, http, c := subscribeOver(t, s.endpoints[0], `{"topics":["a"]}`), s.connect(), s.connect()
	send(t, http, "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
	readLineWith(t, http, `"subscribed":["a"]`)
	send(t, c, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`)
	readLineWith(t, c, `"id":1,"error":{"code":-32004`) // which began after the two
	publishTo(t, s.router.events, "a")
	if got := readEvent(t, conn); got != "a 1" {
		t.Errorf("there comes %s; want the event", got)
	}
	readLineWith(t, http, `"topic":"a"`)
}

// At a stop a subscription ends at once, and so does one that begins then.
func TestStopEndsSubscriptions(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn, busy := subscribeOver(t, s.endpoints[0], `{"topics":["a"]}`), s.connect()
	defer conn.Close()
	defer busy.Close()
	send(t, busy, `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`)
	s.begun(1)
	over := make(chan error, 1)
	go func() { over <- s.stop(context.Background()) }()
	if got := readLine(t, conn); !strings.Contains(got, `"id":"s","error":{"code":-32003,`) || !strings.Contains(got, `"data":{"retry":true}`) {
		t.Errorf("a subscription ends with %s", got)
	}
	send(t, busy, `{"jsonrpc":"2.0","id":"s","method":"Ipcd.Subscribe","params":[{"topics":["a"]}],"parts":"t"}`)
	got := readLine(t, busy)
	if strings.Contains(got, `"subscribed"`) { // that connection had not been told to leave yet
		got = readLine(t, busy)
	}
	if !strings.Contains(got, `"id":"s","error":{"code":-32003,`) {
		t.Errorf("a subscription at a stop is answered with %s", got)
	}
	s.freeAll()
	must(t, receive(t, over))
	wantSubscriptions(t, s, 0)
}

// The daemon publishes what becomes of it, for those who wait for that.
func TestDaemonPublishesItsLife(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxConnections, l.MaxMessage = 4, 4<<10 }, localEndpoint(t))
	events := subscribeOver(t, s.endpoints[0], `{"topics":["ipcd.>"]}`)
	defer events.Close()
	own, err := ownPeer()
	must(t, err)
	next := func(want string) {
		t.Helper()
		want = strings.NewReplacer("OWN", strings.ReplaceAll(own.name(), `\`, `\\`), "URL", s.endpoints[0].String()).Replace(want)
		if got := readEvent(t, events); got != want {
			t.Fatalf("there comes %s; want %s", got, want)
		}
	}
	speaking := func() net.Conn { // on Windows a peer is known once it has said something
		conn := s.connect()
		send(t, conn, `{"jsonrpc":"2.0","method":"$/hello"}`)
		return conn
	}
	one := speaking()
	next(`ipcd.connection.opened {"connection":2,"endpoint":"URL","peer":"OWN"}`)
	registration(t, one, `{"methods":["Far.Say","Far.Echo"],"share":true,"version":"1.2"}`)
	next(`ipcd.service.Far.up {"service":"Far","name":"OWN"}`)
	next(`ipcd.provider.registered {"provider":"p1","name":"OWN","version":"1.2","methods":["Far.Echo","Far.Say"]}`)
	two := speaking()
	next(`ipcd.connection.opened {"connection":3,"endpoint":"URL","peer":"OWN"}`)
	registration(t, two, `{"methods":["Far.Say","Near.Say"],"share":true}`)
	next(`ipcd.service.Near.up {"service":"Near","name":"OWN"}`)
	next(`ipcd.provider.registered {"provider":"p2","name":"OWN","methods":["Far.Say","Near.Say"]}`)
	registration(t, two, `{"methods":["Far.Say"],"share":true}`)
	next(`ipcd.service.Near.down {"service":"Near"}`)
	next(`ipcd.provider.registered {"provider":"p2","name":"OWN","methods":["Far.Say"]}`)
	one.Close()
	next(`ipcd.provider.left {"provider":"p1","name":"OWN","version":"1.2","methods":["Far.Echo","Far.Say"]}`)
	next(`ipcd.connection.closed {"connection":2,"endpoint":"URL","peer":"OWN"}`)
	send(t, two, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Unregister"}`)
	next(`ipcd.service.Far.down {"service":"Far"}`)
	next(`ipcd.provider.left {"provider":"p2","name":"OWN","methods":["Far.Say"]}`)
	send(t, two, `{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[5000]}`)
	next(`ipcd.limit.max_message {"limit":"max_message","max":4096,"method":"Trial.Big","peer":"OWN"}`)
	three := speaking()
	defer three.Close()
	next(`ipcd.connection.opened {"connection":4,"endpoint":"URL","peer":"OWN"}`)
	four := speaking()
	defer four.Close()
	next(`ipcd.connection.opened {"connection":5,"endpoint":"URL","peer":"OWN"}`)
	five := speaking()
	defer five.Close()
	if got := readEvent(t, events); !strings.HasPrefix(got, `ipcd.connection.refused {"connection":6,"endpoint":`) || !strings.Contains(got, `"code":-32002`) {
		t.Errorf("there comes %s; want a connection that is refused", got)
	}
	next(`ipcd.limit.max_connections {"limit":"max_connections","max":4,"peer":"OWN"}`)
	send(t, five, `{"jsonrpc":"2.0","id":1,"method":"Echo.Say"}`)
	if line := readLine(t, five); !strings.Contains(line, `"max_connections"`) {
		t.Errorf("a call on that connection is answered with %s", line)
	}
	three.Close() // what has been refused is not told again
	next(`ipcd.connection.closed {"connection":4,"endpoint":"URL","peer":"OWN"}`)
}

// Each limit for which something is refused is told when it is, whatever the protocol.
func TestLimitsAreTold(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":1,"method":"%s","params":[%s]%s}`
	echo := func(arg string) string { return fmt.Sprintf(call, "Echo.Say", arg, "") }
	long := `"` + strings.Repeat("x", 5000) + `"`
	post := func(header, body string) string {
		return "POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + header + "\r\n\r\n" + body
	}
	provided := func(answers func(provider net.Conn), requests ...string) func(t *testing.T, s *testServer) {
		return func(t *testing.T, s *testServer) {
			provider, c := s.connect(), s.connect()
			registration(t, provider, `{"methods":["Far.Say"],"max_calls":1,"extensions":["parts","context"]}`)
			for i, r := range requests {
				if send(t, c, r); i == 0 {
					readLine(t, provider)
				}
			}
			if answers != nil {
				answers(provider)
			}
		}
	}
	says := func(text string) func(t *testing.T, s *testServer) {
		return func(t *testing.T, s *testServer) { send(t, s.connect(), text) }
	}
	part := `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":` + long + `}}`
	far := fmt.Sprintf(call, "Far.Say", "1", `,"parts":1,"window":1`)
	for _, row := range []struct {
		name, want string // of the event
		limit      func(l *limits)
		does       func(t *testing.T, s *testServer)
	}{
		{"a request", "max_message 4096", nil, says(echo(long))},
		{"a request of an unknown method", "max_message 4096", nil, says(fmt.Sprintf(call, "No.Such", long, ""))},
		{"a body of a length", "max_message 4096", nil, says(post("Content-Length: 5002", ""))},
		{"a body in chunks", "max_message 4096", nil, says(post("Transfer-Encoding: chunked", "138a\r\n"+long+"\r\n0\r\n\r\n"))},
		{"JSON-RPC in a body of a length", "max_message 4096", nil, says("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")},
		{"an event", "max_message 4096", nil, says(fmt.Sprintf(call, "Ipcd.Publish", `{"topic":"a","data":"`+long[1900:]+`}`, ""))},
		{"gob", "max_message 4096", nil, func(t *testing.T, s *testServer) {
			c := dialOurs(protoGob)(t, s.endpoints[0])
			checkCode(t, "a long text", ask(c, "Echo.Say", long, nil), codeTooLarge, "max_message")
			c.close()
		}},
		{"nesting", "max_depth 8", func(l *limits) { l.MaxDepth = 8 }, says(echo(strings.Repeat("[", 9) + strings.Repeat("]", 9)))},
		{"nesting in a body", "max_depth 8", func(l *limits) { l.MaxDepth = 8 }, says(post("Content-Length: 18", strings.Repeat("[", 9)+strings.Repeat("]", 9)))},
		{"a batch", "max_batch 1", func(l *limits) { l.MaxBatch = 1 }, says("[" + echo(`"a"`) + "," + echo(`"a"`) + "]")},
		{"calls", "max_calls 1", func(l *limits) { l.MaxCalls = 1 }, says(fmt.Sprintf(call, "Trial.Block", `"a"`, "") + echo(`"a"`))},
		{"methods", "max_methods 1", func(l *limits) { l.MaxMethods = 1 }, says(fmt.Sprintf(call, "Ipcd.Register", `{"methods":["A.B","A.C"]}`, ""))},
		{"a registration", "max_registration 1024", func(l *limits) { l.MaxRegistration = 1 << 10 }, says(fmt.Sprintf(call, "Ipcd.Register", `{"methods":["A.B"],"version":"`+long[3000:]+`}`, ""))},
		{"methods of a user", "user_methods 1", func(l *limits) { l.UserMethods = 1 }, says(fmt.Sprintf(call, "Ipcd.Register", `{"methods":["A.B","A.C"]}`, ""))},
		{"subscriptions", "max_subscriptions 2", func(l *limits) { l.MaxSubscriptions = 2 }, says(fmt.Sprintf(call, "Ipcd.Subscribe", `{"topics":["a","b"]}`, `,"parts":1`))},
		{"waiting calls", "max_waiting 1", func(l *limits) { l.MaxWaiting = 1 }, provided(nil, far, fmt.Sprintf(call, "Far.Say", "2", ""), fmt.Sprintf(call, "Far.Say", "3", ""))},
		{"a provider that does not wait", "stream_window 10", func(l *limits) { l.StreamWindow, l.MaxMessage = 10, 1<<20 }, provided(func(provider net.Conn) { fmt.Fprint(provider, part, part, part) }, far)},
		{"a caller that acknowledges nothing", "stream_idle 20", func(l *limits) { l.StreamIdle, l.MaxMessage = 20*time.Millisecond, 1<<20 }, provided(func(provider net.Conn) { fmt.Fprint(provider, part, part) }, far)},
		{"hops", "max_hops 1", func(l *limits) { l.MaxHops = 1 }, func(t *testing.T, s *testServer) {
			provider, c := s.connect(), s.connect()
			registration(t, provider, `{"methods":["Far.Say"],"extensions":["context"]}`)
			send(t, c, far)
			for range 2 { // its own call may have passed one provider
				var m struct{ Context string }
				must(t, json.Unmarshal([]byte(readLine(t, provider)), &m))
				send(t, provider, fmt.Sprintf(call, "Far.Say", "1", `,"context":"`+m.Context+`"`))
			}
		}},
		{"half a message", "message 20", func(l *limits) { l.Message = 20 * time.Millisecond }, says(`{"jsonrpc":`)},
		{"half a body", "message 20", func(l *limits) { l.Message = 20 * time.Millisecond }, says(post("Content-Length: 5", `"a`))},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) {
				l.MaxMessage = 4 << 10
				if row.limit != nil {
					row.limit(l)
				}
			}, localEndpoint(t))
			events := subscribeOver(t, s.endpoints[0], `{"topics":["ipcd.limit.>"]}`)
			row.does(t, s)
			limit, most, _ := strings.Cut(row.want, " ")
			if got, want := readEvent(t, events), `ipcd.limit.`+limit+` {"limit":"`+limit+`","max":`+most; !strings.HasPrefix(got, want) {
				t.Errorf("there comes %s; want %s", got, want)
			}
		})
	}
}

// A look takes the place of a subscriber that looks at the daemon the moment it hears of an event.
type look struct{ at func() }

func (l *look) take(*event) { l.at() }

// Whoever hears that a connection was closed finds nothing of it.
func TestClosedConnectionsAreGone(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	seen := make(chan string, 1)
	s.router.events.mu.Lock()
	s.router.events.sinks.add("ipcd.connection.closed", &look{func() {
		_, f := s.router.find("Far.Say", theOwner)
		seen <- fmt.Sprint(s.server.meter.connections.Load(), f != nil)
	}})
	s.router.events.mu.Unlock()
	for range 20 {
		conn := s.connect()
		registration(t, conn, `{"methods":["Far.Say"]}`)
		conn.Close()
		if got := receive(t, seen); got != "0 true" {
			t.Fatalf("of a connection that was closed there is left: connections, and whether its service is gone: %s", got)
		}
	}
}

// A subscriber that does not read misses events, hears of it in their place, and holds up neither the publisher nor others. The
// limit write is not for it.
func TestSubscriberThatDoesNotRead(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Write, l.StreamIdle = 50*time.Millisecond, time.Hour }, localEndpoint(t))
	slow, quick := subscribeOver(t, s.endpoints[0], `{"topics":["a"]}`), subscribeOver(t, s.endpoints[0], `{"topics":["a","end"]}`)
	defer slow.Close()
	defer quick.Close()
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	const n = 100
	text := strings.Repeat("x", 64<<10)
	from := bufio.NewReader(quick)
	for i := range n {
		publishOver(t, c, "a", fmt.Sprintf(`[%d,"%s"]`, i, text))
		line, err := from.ReadString('\n')
		if must(t, err); !strings.Contains(line, fmt.Sprintf(`"data":[%d,`, i)) {
			t.Fatalf("a subscriber that reads gets %.200s; want the event %d", line, i)
		}
	}
	other := s.connect()
	narrow(other)
	send(t, other, strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[4000000]}`, 8))
	checkLogged(t, s, "limit write") // it has had no more time than the subscriber
	got, missed := 0, 0
	for r := bufio.NewReader(slow); got+missed < n; {
		line, err := r.ReadString('\n')
		must(t, err)
		var m struct {
			Params struct {
				Value struct {
					Missed int
					Data   []any
				}
			}
		}
		must(t, json.Unmarshal([]byte(line), &m))
		if v := m.Params.Value; v.Missed > 0 {
			missed += v.Missed
		} else if got++; v.Data[0] != float64(got+missed-1) {
			t.Fatalf("behind %d events, and %d that are missing, comes %v", got-1, missed, v.Data[0])
		}
	}
	if missed == 0 || got < 10 {
		t.Errorf("a subscriber that does not read has got %d events and missed %d", got, missed)
	}
}

// However many have asked to hear of it, and however long that takes: whoever connects, calls and goes does not wait for it.
func TestConnectingWaitsForNoSubscriber(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	held := newGateSink(s.router.events, "ipcd.connection.opened")
	events := subscribeOver(t, s.endpoints[0], `{"topics":["ipcd.connection.>"]}`)
	for range 10 {
		c := dialOurs(protoJSON)(t, s.endpoints[0])
		must(t, ask(c, "Ipcd.Ping", nil, nil))
		must(t, c.close())
	}
	receive(t, held.come)
	close(held.open)
	opened, closed := 0, 0
	for opened+closed < 20 { // that of events was opened before it has subscribed
		switch got := readEvent(t, events); {
		case strings.HasPrefix(got, "ipcd.connection.opened "):
			opened++
		case strings.HasPrefix(got, "ipcd.connection.closed "):
			closed++
		default:
			t.Fatalf("there comes %s", got)
		}
	}
	if opened != 10 {
		t.Errorf("there come %d connections that were opened, and %d that were closed; want ten of each", opened, closed)
	}
}

// What waits for one user is bounded, over however many connections and subscriptions they do not read; the publisher and others do not
// notice. When they have gone, nothing is held.
func TestUserWhoReadsNoEventsIsBounded(t *testing.T) {
	const conns, each, most = 4, 25, 1 << 20
	s := startServerWith(t, func(l *limits) { l.UserMemory = most }, localEndpoint(t))
	h := s.router.events
	var all []net.Conn
	for i := range conns {
		conn := s.connect()
		narrow(conn)
		for k := range each {
			send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Ipcd.Subscribe","params":[{"topics":["t%d"]}],"parts":%d}`, k, i*each+k, k))
		}
		all = append(all, conn)
	}
	wantSubscriptions(t, s, conns*each)
	before := heapInUse()
	text := document(`"` + strings.Repeat("x", 64<<10) + `"`)
	for range 10 { // 64 MB
		for i := range conns * each {
			if _, f := h.publish(fmt.Sprint("t", i), text); f != nil {
				t.Fatal(f)
			}
		}
	}
	if held := h.held.Load(); held < most/2 || held > most+accountStep {
		t.Errorf("events that wait for one user hold %d bytes; want no more than %d", held, most)
	}
	if more := int64(heapInUse()) - int64(before); more > 16<<20 {
		t.Errorf("64 MB of events of which nobody reads any take %d bytes", more)
	}
	if h.dropped.Load() == 0 {
		t.Error("no event is missing")
	}
	for _, conn := range all {
		conn.Close()
	}
	wantSubscriptions(t, s, 0)
	waitFor(t, func() error {
		if hub, all := h.held.Load(), s.budget.held.Load(); hub != 0 || all != 0 {
			return fmt.Errorf("events hold %d bytes, and all connections %d, though there are none", hub, all)
		}
		return nil
	})
}

// Ten thousand subscribers have each event once and in order, and cost little.
func TestManySubscribers(t *testing.T) {
	conns, each := 40, 250 // within max_calls
	if testing.Short() {
		conns = 4
	}
	s := startServerWith(t, func(l *limits) { l.MaxSubscriptions = conns * each }, localEndpoint(t))
	before := heapInUse()
	subscribed, over := make(chan bool, conns), make(chan error, conns)
	want := []string{`{"subscribed":["all.*"]`, `{"topic":"all.0"`, `{"topic":"all.1"`, `{"topic":"all.2"`}
	for range conns {
		conn := s.connect()
		go func() {
			for i := range each {
				fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,"method":"Ipcd.Subscribe","params":[{"topics":["all.*"]}],"parts":%d}`, i, i)
			}
		}()
		go func() {
			next := make([]int, each)
			lines := bufio.NewScanner(conn)
			for n := 0; n < each*len(want) && lines.Scan(); n++ {
				_, rest, _ := strings.Cut(lines.Text(), `"params":{"token":`)
				digits, value, _ := strings.Cut(rest, `,"value":`)
				token, err := strconv.Atoi(digits)
				if err != nil || next[token] == len(want) || !strings.HasPrefix(value, want[next[token]]) {
					over <- fmt.Errorf("there comes %s", lines.Text())
					return
				}
				if next[token]++; n == each-1 {
					subscribed <- true
				}
			}
			over <- lines.Err()
		}()
	}
	for range conns {
		receive(t, subscribed)
	}
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	for i := range len(want) - 1 {
		publishOver(t, c, fmt.Sprint("all.", i), `"x"`)
	}
	for range conns {
		must(t, receive(t, over))
	}
	if more := int64(heapInUse()) - int64(before); more > int64(conns*each)<<13 {
		t.Errorf("%d subscribers take %d bytes; want no more than 8 KiB each", conns*each, more)
	}
}

// A thousand topics and a hundred subscribers: each has on the wire what TestManyTopics says.
func TestManyTopicsOnTheWire(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	topicsOf := func(i int) [2]string { return [2]string{fmt.Sprintf("t%d.>", i), fmt.Sprintf("*.n%d", i)} }
	var conns []net.Conn
	for i := range 100 {
		of := topicsOf(i)
		conns = append(conns, subscribeOver(t, s.endpoints[0], fmt.Sprintf(`{"topics":[%q,%q,"end"]}`, of[0], of[1])))
	}
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("t%d.n%d", i%100, i/10))
	}
	topics = append(topics, "end")
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	for _, topic := range topics {
		publishOver(t, c, topic, "1")
	}
	for i, conn := range conns {
		of, lines := topicsOf(i), bufio.NewReader(conn)
		for _, topic := range topics {
			if !covers(of[0], topic) && !covers(of[1], topic) && topic != "end" {
				continue
			}
			if got, err := lines.ReadString('\n'); err != nil || !strings.Contains(got, `"value":{"topic":"`+topic+`",`) {
				t.Fatalf("the subscriber %d gets %s, %v; want %s", i, got, err, topic)
			}
		}
	}
}

// A subscriber that does not read holds up no stop, however it is connected.
func TestStopWithSubscriberThatDoesNotRead(t *testing.T) {
	for name, request := range map[string]string{
		"JSON-RPC": `{"jsonrpc":"2.0","id":"s","method":"Ipcd.Subscribe","params":{"topics":["a"]},"parts":"t"}`,
		"HTTP":     "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, localEndpoint(t).String())
			slow := noDeadline(s.connect())
			narrow(slow)
			send(t, slow, request)
			waitFor(t, func() error {
				s.router.events.mu.Lock()
				defer s.router.events.mu.Unlock()
				if len(s.router.events.users) == 0 {
					return errors.New("nobody has subscribed")
				}
				return nil
			})
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			for range 50 {
				publishOver(t, c, "a", `"`+strings.Repeat("x", 64<<10)+`"`)
			}
			must(t, c.close())
			if err := s.stop(t.Context()); err != nil {
				t.Errorf("the stop is a forced one: %v", err)
			}
		})
	}
}

// What it takes from a publication to its answer, and to all who have subscribed, over sockets.
func BenchmarkEvents(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := startServer(b, localEndpoint(b).String())
			conn := noDeadline(rawDial(b, s.endpoints[0]))
			defer conn.Close()
			from := bufio.NewReaderSize(conn, 64<<10)
			lines := func() {
				for range n {
					if _, err := from.ReadSlice('\n'); err != nil {
						b.Fatal(err)
					}
				}
			}
			for i := range n {
				fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,"method":"Ipcd.Subscribe","params":[{"topics":["a"]}],"parts":%d}`, i, i)
			}
			lines()
			c := dialOurs(protoJSON)(b, s.endpoints[0])
			defer c.close()
			arg := json.RawMessage(`{"topic":"a","data":1}`)
			for b.Loop() {
				if err := ask(c, "Ipcd.Publish", arg, nil); err != nil {
					b.Fatal(err)
				}
				lines()
			}
		})
	}
}

// A subscription goes on when the rules change, save that of whoever may do nothing any more.
func TestRulesEndSubscriptions(t *testing.T) {
	const good = "[[rule]]\nallow = [\"token:ci\"]\nsubscribe = [\"a.>\"]\n"
	s := startProven(t, nil, "tcp://127.0.0.1:0")
	s.obey(policyFrom(t, good))
	ci, other := s.shown(t, makeToken(t, s.gate.tokens, "ci", nil)), s.shown(t, makeToken(t, s.gate.tokens, "other", nil))
	defer ci.Close()
	defer other.Close()
	hears := func(conn net.Conn, text string) {
		t.Helper()
		_, f := s.router.events.publish("a.b", document(`"`+text+`"`))
		if f != nil {
			t.Fatal(f)
		}
		readLineWith(t, conn, text)
	}
	for _, conn := range []net.Conn{ci, other} {
		subscribeOn(t, conn, `{"topics":["a.b"]}`)
	}
	s.obey(policyFrom(t, "[[rule]]\ndeny = [\"token:ci\"]\nsubscribe = [\"a.>\"]\n"))
	hears(ci, "with another right")
	hears(other, "still here")
	s.obey(policyFrom(t, "[[rule]]\ndeny = [\"token:ci\"]\n"))
	if got := readLineWith(t, ci, `"id":"s"`); !strings.Contains(got, `"code":-32005`) || !strings.Contains(got, "may not subscribe to a.b; a [[rule]] of the daemon denies it") {
		t.Errorf("the subscription of whoever is denied all ends with %s", got)
	}
	hears(other, "and goes on")
	s.obey(policyFrom(t, good))
	subscribeOn(t, ci, `{"topics":["a.b"]}`)
	hears(ci, "again")
}
