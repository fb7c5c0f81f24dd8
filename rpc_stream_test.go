package main

// This file owns streams at fault: whatever a provider, a caller or the daemon itself does in the middle of one, each call has
// its one answer behind its parts, and nobody waits for nothing.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A streaming is a caller of Far.Say and the provider that it is about to hear from.
type streaming struct {
	*testServer
	t                *testing.T
	caller, provider *lineEnd
}

// A lineEnd is one end of a connection whose messages are lines.
type lineEnd struct {
	net.Conn
	lines *bufio.Reader
}

func newLineEnd(conn net.Conn) *lineEnd { return &lineEnd{conn, bufio.NewReaderSize(conn, 64<<10)} }

// streamingAt registers the provider, which heeds credit, and has the caller ask with these members more. The call has the
// id "a" at the caller, the token "t", and the number 1 at the provider.
func streamingAt(t *testing.T, s *testServer, members string) *streaming {
	t.Helper()
	f := &streaming{testServer: s, t: t, caller: newLineEnd(s.connect()), provider: newLineEnd(s.connect())}
	f.begin(members)
	return f
}

// begin registers the provider and makes the call.
func (f *streaming) begin(members string) {
	f.t.Helper()
	registration(f.t, f.provider, `{"methods":["Far.Say"],"extensions":["parts"]}`)
	f.ask("a", members)
	f.hears(f.provider, `"id":1,"method":"Far.Say"`)
}

func (f *streaming) ask(id, members string) {
	f.t.Helper()
	send(f.t, f.caller, `{"jsonrpc":"2.0","id":"`+id+`","method":"Far.Say","params":["x"],"parts":"t"`+members+`}`)
}

// parts has the provider send parts.
func (f *streaming) parts(values ...string) {
	f.t.Helper()
	for _, v := range values {
		send(f.t, f.provider, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":`+v+`}}`)
	}
}

// hears wants the next messages to one end, but for credit, to have these words.
func (f *streaming) hears(end *lineEnd, words ...string) {
	f.t.Helper()
	for _, word := range words {
		if line := f.next(end); !strings.Contains(line, word) {
			f.t.Errorf("there comes %s; want %s", shorten(line, 200), shorten(word, 200))
		}
	}
}

// next returns the next message to one end that is not credit.
func (f *streaming) next(end *lineEnd) string {
	f.t.Helper()
	for {
		line, err := end.lines.ReadString('\n')
		if err != nil {
			f.t.Errorf("after %s: %v", shorten(line, 200), err)
			return ""
		}
		if !strings.Contains(line, "$/credit") {
			return line
		}
	}
}

// isServed makes a call on the caller's connection, whose answer has to be the next message there.
func (f *streaming) isServed() {
	f.t.Helper()
	send(f.t, f.caller, `{"jsonrpc":"2.0","id":"served","method":"Echo.Say","params":["here"]}`)
	f.hears(f.caller, `"id":"served","result":"here"`)
}

const credit1 = `{"jsonrpc":"2.0","method":"$/credit","params":{"token":"t","parts":%d}}`

// goneFar is what the caller hears once the provider has left: not that it may try again.
const goneFar = `"id":"a","error":{"code":-32006,"message":"the provider of Far.Say has gone; it is not known whether it carried out the call"}}`

func TestStreamsAtFault(t *testing.T) {
	for _, row := range []struct {
		name    string
		members string
		does    func(f *streaming)
	}{
		{"the caller leaves", "", func(f *streaming) {
			f.parts("0")
			f.hears(f.caller, `"value":0`)
			f.caller.Close()
			f.hears(f.provider, `$/cancelRequest","params":{"id":1}`)
			f.parts("1", "2") // nobody's
			f.caller = newLineEnd(f.connect())
		}},
		{"the caller leaves with parts that it has no room for", `,"window":1`, func(f *streaming) {
			f.parts("0", "1", "2")
			f.hears(f.caller, `"value":0`)
			f.caller.Close()
			f.hears(f.provider, `$/cancelRequest","params":{"id":1}`)
			f.caller = newLineEnd(f.connect())
		}},
		{"the provider leaves", "", func(f *streaming) {
			f.parts("0", "1")
			f.provider.Close()
			f.hears(f.caller, `"value":0`, `"value":1`, goneFar)
		}},
		{"the provider leaves with parts that the caller has no room for", `,"window":1`, func(f *streaming) {
			f.parts("0", "1", "2")
			f.provider.Close()
			f.hears(f.caller, `"value":0`)
			f.isServed()
			send(f.t, f.caller, fmt.Sprintf(credit1, 1))
			f.hears(f.caller, `"value":1`)
			send(f.t, f.caller, fmt.Sprintf(credit1, 2))
			f.hears(f.caller, `"value":2`, goneFar)
		}},
		{"the provider leaves in the middle of a part", "", func(f *streaming) {
			f.parts("0")
			send(f.t, f.provider, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"val`)
			f.provider.Close()
			f.hears(f.caller, `"value":0`, goneFar)
		}},
		{"a token is used twice", "", func(f *streaming) {
			f.parts("0")
			f.hears(f.caller, `"value":0`)
			f.ask("b", "")
			f.hears(f.caller, `"id":"b","error":{"code":-32600`)
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			f.hears(f.caller, `"id":"a","result":true`)
			f.ask("c", "") // now it is free
			f.hears(f.provider, `"id":2,"method":"Far.Say"`)
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":2,"result":true}`)
			f.hears(f.caller, `"id":"c","result":true`)
		}},
		{"parts come behind the answer", "", func(f *streaming) {
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			f.parts("0", "1")
			f.hears(f.caller, `"id":"a","result":true`)
		}},
		{"parts come behind an answer that waits for credit", `,"window":1`, func(f *streaming) {
			f.parts("0", "1")
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			f.parts("2")
			f.hears(f.caller, `"value":0`)
			send(f.t, f.caller, fmt.Sprintf(credit1, 1))
			f.hears(f.caller, `"value":1`, `"id":"a","result":true`)
		}},
		{"parts for no call, and none", "", func(f *streaming) {
			for _, params := range []string{`{"token":2,"value":0}`, `{"token":"t","value":0}`, `{"token":-1,"value":0}`, `{"value":0}`, `{"token":1}`, `[]`, `[1]`, `[{}]`} {
				send(f.t, f.provider, `{"jsonrpc":"2.0","method":"$/progress","params":`+params+`}`)
			}
			send(f.t, f.provider, `{"jsonrpc":"2.0","method":"$/progress"}`)
			f.parts("null")
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":null}`)
			f.hears(f.caller, `"value":null`, `"id":"a","result":null`)
		}},
		{"a part as a request", "", func(f *streaming) {
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":"q","method":"$/progress","params":{"token":1,"value":5}}`)
			f.hears(f.provider, `"id":"q","result":null`)
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			f.hears(f.caller, `"value":5`, `"id":"a","result":true`)
		}},
		{"credit that runs backwards wakes nobody", `,"window":1`, func(f *streaming) {
			f.parts("0", "1")
			f.hears(f.caller, `"value":0`)
			for _, n := range []int{-1, 0} {
				send(f.t, f.caller, fmt.Sprintf(credit1, n))
			}
			f.isServed()
			for range 2 {
				send(f.t, f.caller, fmt.Sprintf(credit1, 1))
			}
			f.hears(f.caller, `"value":1`)
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			f.hears(f.caller, `"id":"a","result":true`)
		}},
		{"the deadline passes while the provider sleeps", `,"timeout":300`, func(f *streaming) {
			f.hears(f.caller, `"id":"a","error":{"code":-32004`)
			f.hears(f.provider, `$/cancelRequest","params":{"id":1}`)
			f.parts("0", "1")
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
		}},
		{"the deadline passes while the caller acknowledges nothing", `,"window":1,"timeout":200`, func(f *streaming) {
			f.parts("0", "1", "2")
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			line := f.next(f.caller)
			if strings.Contains(line, `"value":0`) { // unless all this has taken so long
				line = f.next(f.caller)
			}
			if !strings.Contains(line, `"id":"a","error":{"code":-32004`) {
				f.t.Errorf("there comes %s; want the deadline", line)
			}
			send(f.t, f.caller, fmt.Sprintf(credit1, 1))
		}},
		{"a cancellation while the provider sleeps", "", func(f *streaming) {
			send(f.t, f.caller, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"a"}}`)
			f.hears(f.caller, `"id":"a","error":{"code":-32800`)
			f.hears(f.provider, `$/cancelRequest","params":{"id":1}`)
			f.parts("0", "1")
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
		}},
		{"a cancellation while the caller acknowledges nothing", `,"window":1`, func(f *streaming) {
			f.parts("0", "1", "2")
			f.hears(f.caller, `"value":0`)
			send(f.t, f.caller, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"a"}}`)
			f.hears(f.caller, `"id":"a","error":{"code":-32800`)
			send(f.t, f.caller, fmt.Sprintf(credit1, 1))
		}},
		{"one part is far larger than the window", `,"window":10`, func(f *streaming) {
			large := `"` + strings.Repeat("a", defaultLimits().MaxMessage-200) + `"`
			go f.parts(large, "1") // which has to wait, as the caller is not read meanwhile
			f.hears(f.caller, large)
			f.isServed()
			send(f.t, f.caller, fmt.Sprintf(credit1, 1))
			f.hears(f.caller, `"value":1`)
			send(f.t, f.provider, `{"jsonrpc":"2.0","id":1,"result":true}`)
			f.hears(f.caller, `"id":"a","result":true`)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := streamingAt(t, startServer(t, localEndpoint(t).String()), row.members)
			row.does(f)
			f.isServed()
		})
	}
}

// A caller that acknowledges nothing is told so behind what it had room for, whoever sends the parts, and its connection goes on.
func TestWhoAcknowledgesNothingIsGivenUp(t *testing.T) {
	const given = `"error":{"code":-32002,"message":"no part of the answer was acknowledged for too long (limit stream_idle = 20)"`
	const subscription = `{"jsonrpc":"2.0","id":"s","method":"Ipcd.Subscribe","params":{"topics":["a"]},"parts":"t","window":1}`
	s := startServerWith(t, func(l *limits) { l.StreamIdle = 20 * time.Millisecond }, localEndpoint(t))
	f := streamingAt(t, s, `,"window":1`)
	f.parts("0", "1")
	f.hears(f.caller, `"value":0`, `"id":"a",`+given)
	f.hears(f.provider, `$/cancelRequest","params":{"id":1}`)
	f.isServed()
	send(t, f.caller, subscription)
	f.hears(f.caller, `"value":{"subscribed"`)
	send(t, f.caller, fmt.Sprintf(credit1, 1))
	f.isServed()
	publishTo(t, s.router.events, "a", "a")
	f.hears(f.caller, `"topic":"a"`, `"id":"s",`+given)
	f.isServed()
	s = startServer(t, localEndpoint(t).String()) // has the usual limit
	f.caller = newLineEnd(s.connect())
	send(t, f.caller, subscription)
	f.hears(f.caller, `"value":{"subscribed"`)
	publishTo(t, s.router.events, "a", "a")
	for i := range 2 {
		f.isServed()
		send(t, f.caller, fmt.Sprintf(credit1, i+1))
		f.hears(f.caller, `"topic":"a"`)
	}
}

// A daemon that stops in the middle of a stream ends it, whatever either end does, and the next one begins afresh.
func TestStopInTheMiddleOfAStream(t *testing.T) {
	at := localEndpoint(t)
	for _, members := range []string{"", `,"window":1`} {
		s := startServerWith(t, func(l *limits) { l.Drain = 50 * time.Millisecond }, at)
		f := streamingAt(t, s, members)
		f.parts("0", "1")
		f.hears(f.caller, `"value":0`)
		if members == "" {
			f.hears(f.caller, `"value":1`)
		}
		if err := s.stop(t.Context()); err == nil {
			t.Error("a stop that had to cut a stream says nothing of it")
		}
		if line := f.next(f.caller); !strings.Contains(line, `"id":"a","error":{"code":-32003,`) || strings.Contains(line, "data") {
			t.Errorf("the stream ends with %s; want -32003, and no word of trying again", line)
		}
		for _, end := range []*lineEnd{f.caller, f.provider} {
			if rest, _ := io.ReadAll(end.lines); strings.Contains(string(rest), `"value"`) {
				t.Errorf("behind the answer there comes %s", rest)
			}
			end.Close()
		}
		s.halt()
	}
}

// When drain has passed, all callers hear that the daemon stopped, and none that its provider has gone, although that leaves as soon as
// it can.
func TestStopTellsCallersBeforeProviders(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.Drain = 50 * time.Millisecond }, localEndpoint(t))
	f := streamingAt(t, s, "")
	callers := []*lineEnd{f.caller}
	for range 300 {
		f.caller = newLineEnd(s.connect())
		f.ask("a", "")
		f.hears(f.provider, `"method":"Far.Say"`)
		callers = append(callers, f.caller)
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		io.Copy(io.Discard, f.provider)
		f.provider.Close()
	}()
	if err := s.stop(t.Context()); err == nil {
		t.Error("a stop that had to cut streams says nothing of it")
	}
	receive(t, left)
	for _, c := range callers {
		f.hears(c, `"id":"a","error":{"code":-32003,`)
	}
}

// A token is free as soon as the answer has come.
func TestTokenIsFreeOnceTheAnswerHasCome(t *testing.T) {
	p := provide(t, localEndpoint(t))
	conn := p.connect()
	lines := bufio.NewReader(conn)
	for range 2000 {
		send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Count","params":[1],"parts":1}`)
		for _, want := range []string{`"value":0`, `"result":0`} {
			if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, want) {
				t.Fatalf("there comes %s, %v; want %s", line, err, want)
			}
		}
	}
}

// Many parts of a byte are what costs most beside their bytes. The caller does not read, and then has them all, in order.
func TestManySmallParts(t *testing.T) {
	parts := 20_000
	if os.Getenv("IPCD_LARGE") != "" {
		parts = 1_000_000
	}
	f := streamingAt(t, startServer(t, localEndpoint(t).String()), "")
	narrow(noDeadline(f.caller.Conn))
	noDeadline(f.provider.Conn)
	before := heapInUse()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w := bufio.NewWriterSize(f.provider, 64<<10)
		for i := range parts {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":%d}}`, i%10)
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":true}`, `{"jsonrpc":"2.0","id":"q","method":"Echo.Say","params":["all have come"]}`)
		w.Flush()
	}()
	f.hears(f.provider, `"id":"q"`)
	<-sent
	if more := int64(heapInUse()) - int64(before); more > 16<<20 {
		t.Errorf("%d parts of a byte that nobody reads take %d bytes", parts, more)
	}
	for i := range parts {
		line, err := f.caller.lines.ReadSlice('\n')
		if err != nil || !bytes.HasSuffix(line, fmt.Appendf(nil, `"value":%d}}`+"\n", i%10)) {
			t.Fatalf("part %d is %s, %v", i, line, err)
		}
	}
	f.hears(f.caller, `"result":true`)
}

// Both directions are full: the caller sends calls and reads nothing, the provider sends parts of the answers and reads nothing.
// Once they read, everything is there.
func TestStreamsWithBothDirectionsFull(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxCalls = 1000 }, localEndpoint(t))
	f := streamingAt(t, s, "")
	narrow(f.caller.Conn)
	narrow(f.provider.Conn)
	const calls, parts = 20, 4
	text := strings.Repeat("a", 60<<10)
	asked, answered := make(chan struct{}), make(chan struct{})
	go func() { // far more than both sockets and the daemon's output to the provider hold
		defer close(asked)
		for i := range calls {
			send(t, f.caller, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Far.Say","params":[%q],"parts":%d}`, i, text, i))
		}
	}()
	go func() { // more than both sockets and the daemon's output to the caller hold, in the end
		defer close(answered)
		f.parts(slices.Repeat([]string{`"` + text + `"`}, 10)...) // as far as the window
		send(t, f.provider, `{"jsonrpc":"2.0","id":1,"result":"first"}`)
	}()
	<-asked // although the provider reads nothing
	<-answered
	go func() {
		for range calls {
			id := regexp.MustCompile(`"id":(\d+)`).FindStringSubmatch(f.next(f.provider))
			if id == nil {
				return
			}
			for range parts {
				send(t, f.provider, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/progress","params":{"token":%s,"value":%q}}`, id[1], text))
			}
			send(t, f.provider, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":"done"}`, id[1]))
		}
	}()
	seen := 0
	for done := 0; done < calls+1; {
		switch line := f.next(f.caller); {
		case strings.Contains(line, `"$/progress"`):
			seen++
		case strings.Contains(line, `"result"`):
			done++
		default:
			t.Fatalf("after %d parts and %d answers there comes %s", seen, done, shorten(line, 200))
		}
	}
	if want := 10 + calls*parts; seen != want {
		t.Errorf("%d parts have come; want %d", seen, want)
	}
}

// A peer that reads nothing may take its time while only parts wait for it. What else waits is urgent from the moment on when
// it does, even if there is no room for it yet.
func TestWhatIsUrgentHurriesPartsThatAreNotRead(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	l := defaultLimits()
	l.Write, l.StreamIdle = 20*time.Millisecond, time.Hour
	o := newOutput(ours, &l, nil)
	c := newJSONCodec(newInput(ours, l), l, framingValue)
	part := func() {
		must(t, o.append(c, &message{kind: progress, parts: "1"}, document(`"`+strings.Repeat("a", 2*outputFull)+`"`)))
	}
	part()
	flushed := make(chan error, 1)
	go func() { flushed <- o.flush() }()
	if _, err := theirs.Read(make([]byte, 1)); err != nil { // the writing has begun
		t.Fatal(err)
	}
	part() // behind which there is no more room
	appended := make(chan error, 1)
	go func() { appended <- o.append(c, &message{kind: response}, "answer") }()
	for _, ended := range []chan error{flushed, appended} {
		if err := receive(t, ended); err == nil || !strings.Contains(err.Error(), "limit write") {
			t.Errorf("it ends with %v; want the limit write", err)
		}
	}
	ours.Close()
}

// Whoever gives up a call frees the reader, which waits for its parts to be handled.
func TestReaderOfPartsThatNobodyHandles(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() {
		for b := make([]byte, 1000); ; {
			if _, err := theirs.Read(b); err != nil {
				return
			}
		}
	}()
	s := newJSONSession(ours, nil, "theirs")
	a := &pendingCall{method: "Far.Say", part: func(document) error { return nil }, room: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	seq, _, err := s.enlist(a)
	must(t, err)
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		s.takePart(document(fmt.Sprintf(`{"token":%d,"value":"%s"}`, seq, strings.Repeat("a", s.limits.StreamWindow))))
	}()
	waitFor(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if a.waiting == 0 {
			return errors.New("the part has not come")
		}
		return nil
	})
	enough := errors.New("enough")
	if err := s.withdraw(seq, a, enough); err != enough {
		t.Errorf("withdraw = %v; want %v", err, enough)
	}
	receive(t, handled)
}

// An acknowledgement that there was no room for is sent later: without it a provider could wait for ever.
func TestCreditThatHasNoRoomIsSentLater(t *testing.T) {
	room := false
	var told []int
	st := &stream{
		c: &call{from: faultsOf(nil)}, window: 4,
		credit: func(parts int, _ *unflushed) bool {
			told = append(told, parts)
			return room
		},
	}
	must(t, st.add(document("1"), false, nil))
	room = true
	st.tell(nil)
	st.tell(nil)
	if want := []int{1, 1}; !slices.Equal(told, want) {
		t.Errorf("the provider is told of %v; want %v", told, want)
	}
}

// Calls that were cancelled count as long as their caller has not read the answers: there are no more of these than calls in
// flight.
func TestCancelledCallsThatAreNotReadHaveABound(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxCalls, l.Write = 8, time.Hour }, localEndpoint(t))
	conn := noDeadline(s.connect())
	narrow(conn)
	send(t, conn, strings.Repeat(`{"jsonrpc":"2.0","id":0,"method":"Trial.Big","params":[100000]}`, 8)) // what follows finds no room
	go func() {
		for {
			if _, err := io.WriteString(conn, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Subscribe","params":{"topics":["a"]},"parts":1}{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`); err != nil {
				return
			}
		}
	}()
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	most := 0
	for range 2000 {
		checkSay(t, c, "here")
		most = max(most, runtime.NumGoroutine())
	}
	if most > 500 {
		t.Errorf("there are up to %d goroutines; want the caller to wait", most)
	}
	conn.Close()
}
