package main

// This file owns calls that are handed on: what a caller of any protocol gets from a provider at the other
// end of a connection, and what the provider hears.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Far is the service of a provider.
type Far struct {
	entered chan string
	left    chan error
	release chan struct{}
	flooded atomic.Int64 // bytes of parts that Flood has sent
}

// Echo gives back any JSON.
func (*Far) Echo(ctx context.Context, arg json.RawMessage) (document, error) {
	return document(arg), nil
}

// Block returns when it is released, or its call ends.
func (f *Far) Block(ctx context.Context, key string) (string, error) {
	f.entered <- key
	select {
	case <-f.release:
		return key, nil
	case <-ctx.Done():
		f.left <- ctx.Err()
		return "", ctx.Err()
	}
}

// Fail fails with a code and data of its own, or with one that is the daemon's.
func (*Far) Fail(ctx context.Context, code int) (string, error) {
	return "", &fault{Code: code, Text: "no paper", Data: json.RawMessage(`{"tray":2,"size":"A4"}`)}
}

// Count sends n parts, and then the sum.
func (*Far) Count(ctx context.Context, n int, part func(int) error) (int, error) {
	sum := 0
	for i := range n {
		if err := part(i); err != nil {
			return 0, err
		}
		sum += i
	}
	return sum, nil
}

// Break counts, and then fails.
func (f *Far) Break(ctx context.Context, n int, part func(int) error) (int, error) {
	if _, err := f.Count(ctx, n, part); err != nil {
		return 0, err
	}
	_, err := f.Fail(ctx, -7)
	return 0, err
}

// Flood sends parts of 64 KiB until nobody wants them.
func (f *Far) Flood(ctx context.Context) (int, error) {
	c := ctx.Value(callKey).(*call)
	text := strings.Repeat("a", 64<<10)
	for {
		if err := c.sendPart(text); err != nil {
			f.left <- err
			return 0, err
		}
		f.flooded.Add(int64(len(text)))
	}
}

// A provided is a server with a provider behind the service Far.
type provided struct {
	*testServer
	far  *Far
	conn net.Conn // the provider's end
	over chan error
}

// provide starts a server at the endpoints and one more, over which Far is registered.
func provide(t *testing.T, endpoints ...endpoint) *provided {
	t.Helper()
	at := localEndpoint(t)
	p := &provided{
		testServer: startServerWith(t, nil, append(endpoints, at)...), over: make(chan error, 1),
		far: &Far{entered: make(chan string, 1000), left: make(chan error, 1000), release: make(chan struct{})},
	}
	p.conn = noDeadline(rawDial(t, at))
	far := newRouter()
	must(t, addReceiver(far, p.far, nil))
	session := newJSONSession(p.conn, far, "theirs")
	session.ended = func(error) { session.cut(nil) }
	go func() { p.over <- session.serve() }()
	t.Cleanup(func() { p.conn.Close() })
	var got Registered
	must(t, session.ask(t.Context(), "Ipcd.Register", map[string]any{"methods": far.methods(), "extensions": []string{"timeout", "parts"}}, &got, nil))
	if !slices.Equal(got.Methods, far.methods()) {
		t.Fatalf("%v are registered; want %v", got.Methods, far.methods())
	}
	return p
}

func newJSONSession(conn net.Conn, f finder, name string) *session {
	l := defaultLimits()
	in := newInput(conn, l)
	log := newLogger(&logBuffer{}, formatText, levelError)
	sh := &shared{finder: f, log: log, meter: &meter{}, foreman: &foreman{}}
	return newSession(sh, &peer{User: name, owns: true}, newJSONCodec(in, l, framingValue), in, conn, &l, log)
}

func TestProviderHasAllPipelinedCallsAtOnce(t *testing.T) {
	p := provide(t, localEndpoint(t))
	for _, k := range []struct {
		name string
		dial func(t testing.TB, e endpoint) caller
	}{
		{"gob", dialOurs(protoGob)},
		{"jsonrpc", dialOurs(protoJSON)},
	} {
		c := k.dial(t, p.endpoints[0])
		p.far.release = make(chan struct{})
		var answers []<-chan error
		for i := range crowd {
			answers = append(answers, inBackground(context.Background(), c, "Far.Block", fmt.Sprint(i)))
		}
		for range crowd {
			receive(t, p.far.entered)
		}
		checkSay(t, c, "what is answered here goes on")
		close(p.far.release)
		for _, a := range answers {
			if err := receive(t, a); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
		}
		c.close()
	}
}

func TestProviderErrorsPass(t *testing.T) {
	p := provide(t, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	const data = `{"tray":2,"size":"A4"}`
	for _, k := range []struct {
		name string
		at   int
		dial func(t testing.TB, e endpoint) caller
		data string
	}{
		{"gob", 0, dialOurs(protoGob), ""},
		{"jsonrpc", 0, dialOurs(protoJSON), data},
		{"http", 1, dialOurs(protoAuto), data},
	} {
		c := k.dial(t, p.endpoints[k.at])
		f := checkCode(t, k.name, ask(c, "Far.Fail", -7, nil), -7, "no paper")
		if string(f.Data) != k.data {
			t.Errorf("%s: the data is %s; want %s", k.name, f.Data, k.data)
		}
		f = checkCode(t, k.name+": a code of the daemon's", ask(c, "Far.Fail", codeBusy, nil), codeApplication, "no paper")
		if string(f.Data) != k.data {
			t.Errorf("%s: the data is %s; want %s", k.name, f.Data, k.data)
		}
		c.close()
	}
}

// A provider's answer that cannot be taken ends the call that it answers, and no other.
func TestProviderWhoseAnswerCannotBeTaken(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	theirs := rawDial(t, s.endpoints[0])
	defer theirs.Close()
	register(t, theirs, `["Far.Say"]`)
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	requests := bufio.NewReader(theirs)
	begin := func() <-chan error {
		t.Helper()
		done := inBackground(context.Background(), c, "Far.Say", "a")
		if _, err := requests.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return done
	}
	tooLong, empty, good, endless := begin(), begin(), begin(), begin()
	send(t, theirs, `{"jsonrpc":"2.0","result":"`+strings.Repeat("x", 17<<20)+`","id":1}`)
	checkCode(t, "an answer that is too long", receive(t, tooLong), codeApplication, "max_message")
	send(t, theirs, `{"jsonrpc":"2.0","id":2}`)
	checkCode(t, "an answer without a result", receive(t, empty), codeInternal, "neither a result nor an error")
	send(t, theirs, `"ready"{"jsonrpc":"2.0","id":3,"result":"a"}`)
	must(t, receive(t, good))
	send(t, theirs, `{"jsonrpc":"2.0","id":4,"result":"`+strings.Repeat("x", 17<<20))
	checkCode(t, "an answer without an end", receive(t, endless), codeApplication, "max_message")
}

// JSON as JSON parsers like to change it.
const oddJSON = `{"z":1e400,"a":0.10,"n":18446744073709551615, "u":"\u00e4\/ä", "z2":[ -0, 1E+2 ],"":{}}`

func TestDocumentPassesByteForByte(t *testing.T) {
	p := provide(t, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	conn := rawDial(t, p.endpoints[0])
	defer conn.Close()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Echo","params":[`+oddJSON+`]}`)
	got, err := bufio.NewReader(conn).ReadString('\n')
	if want := `{"jsonrpc":"2.0","id":1,"result":` + oddJSON + "}\n"; err != nil || got != want {
		t.Errorf("over a socket it comes back as\n%s, %v; want\n%s", got, err, want)
	}
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Echo","params":[{"a":`+"\r\n"+`1}]}`)
	got, err = bufio.NewReader(conn).ReadString('\n')
	if want := `{"jsonrpc":"2.0","id":1,"result":{"a":  1}}` + "\n"; err != nil || got != want {
		t.Errorf("a document of two lines comes back as\n%s, %v; want one line", got, err)
	}
	answer := post(t, p.endpoints[1], "/call/Far.Echo", "", oddJSON)
	if want := oddJSON + "\n"; answer != want {
		t.Errorf("over HTTP it comes back as\n%s; want\n%s", answer, want)
	}
	c := dialOurs(protoGob)(t, p.endpoints[0])
	defer c.close()
	var raw []byte
	if err := ask(c, "Far.Echo", map[string]int{"b": 1}, &raw); err != nil || string(raw) != `{"b":1}` {
		t.Errorf("over gob an object comes back as %s, %v; want its JSON as bytes", raw, err)
	}
	var text string
	if err := ask(c, "Far.Echo", "ä\n", &text); err != nil || text != "ä\n" {
		t.Errorf("over gob a text comes back as %q, %v", text, err)
	}
}

// post sends a body over HTTP and returns the answer.
func post(t *testing.T, e endpoint, path, accept, body string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+e.Host+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Content-Type", jsonType)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	client := http.Client{Timeout: testPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	must(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	must(t, err)
	return string(b)
}

func TestPartsComeInOrderBeforeTheAnswer(t *testing.T) {
	p := provide(t, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	conn := rawDial(t, p.endpoints[0])
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Count","params":[3],"parts":"tök"}`)
	for _, want := range []string{
		`{"jsonrpc":"2.0","method":"$/progress","params":{"token":"tök","value":0}}`,
		`{"jsonrpc":"2.0","method":"$/progress","params":{"token":"tök","value":1}}`,
		`{"jsonrpc":"2.0","method":"$/progress","params":{"token":"tök","value":2}}`,
		`{"jsonrpc":"2.0","id":1,"result":3}`,
	} {
		if lines.Scan(); lines.Text() != want {
			t.Errorf("there comes %s; want %s", lines.Text(), want)
		}
	}
	for _, without := range []string{
		`{"jsonrpc":"2.0","id":2,"method":"Far.Count","params":[3]}`,
		`{"id":2,"method":"Far.Count","params":[3],"parts":1}`, // 1.0
		`[{"jsonrpc":"2.0","id":2,"method":"Far.Count","params":[3],"parts":1}]`,
	} {
		send(t, conn, without)
		if lines.Scan(); strings.Contains(lines.Text(), "progress") || !strings.Contains(lines.Text(), `"result":3`) {
			t.Errorf("%s is answered with %s; want the result alone", without, lines.Text())
		}
	}
	send(t, conn, `{"jsonrpc":"2.0","id":4,"method":"Far.Count","params":[1],"parts":[]}`)
	if lines.Scan(); !strings.Contains(lines.Text(), `"code":-32600`) {
		t.Errorf("a token that is an array is answered with %s", lines.Text())
	}
	for _, row := range []struct{ path, body, want string }{
		{"/call/Far.Count", "2", "event: part\ndata: 0\n\nevent: part\ndata: 1\n\nevent: result\ndata: 1\n\n"},
		{"/call/Echo.Say", `"a"`, "event: result\ndata: \"a\"\n\n"},
		{"/call/Far.Fail", "-7", `{"code":-7,"message":"no paper","data":{"tray":2,"size":"A4"}}` + "\n"},
		{"/call/Far.Break", "1", "event: part\ndata: 0\n\nevent: failure\n" + `data: {"code":-7,"message":"no paper","data":{"tray":2,"size":"A4"}}` + "\n\n"},
		{"/rpc", `{"jsonrpc":"2.0","id":1,"method":"Far.Count","params":[2],"parts":7,"window":1}`,
			`event: message` + "\n" + `data: {"jsonrpc":"2.0","method":"$/progress","params":{"token":7,"value":0}}` + "\n\n" +
				`event: message` + "\n" + `data: {"jsonrpc":"2.0","method":"$/progress","params":{"token":7,"value":1}}` + "\n\n" +
				`event: message` + "\n" + `data: {"jsonrpc":"2.0","id":1,"result":1}` + "\n\n"},
	} {
		if got := post(t, p.endpoints[1], row.path, eventType, row.body); got != row.want {
			t.Errorf("%s with %s is answered with\n%s; want\n%s", row.path, row.body, got, row.want)
		}
	}
	for _, row := range []struct{ path, body, want string }{
		{"/call/Far.Count", "2", `{"part":0}` + "\n" + `{"part":1}` + "\n" + `{"result":1}` + "\n"},
		{"/call/Echo.Say", `"a"`, `{"result":"a"}` + "\n"},
		{"/call/Far.Fail", "-7", `{"code":-7,"message":"no paper","data":{"tray":2,"size":"A4"}}` + "\n"},
		{"/call/Far.Break", "1", `{"part":0}` + "\n" + `{"error":{"code":-7,"message":"no paper","data":{"tray":2,"size":"A4"}}}` + "\n"},
		{"/rpc", `{"jsonrpc":"2.0","id":1,"method":"Far.Count","params":[1],"parts":7}`,
			`{"jsonrpc":"2.0","method":"$/progress","params":{"token":7,"value":0}}` + "\n" + `{"jsonrpc":"2.0","id":1,"result":0}` + "\n"},
	} {
		for _, accept := range answerForms[1].types {
			if got := post(t, p.endpoints[1], row.path, accept, row.body); got != row.want {
				t.Errorf("%s with %s and Accept: %s is answered with\n%s; want\n%s", row.path, row.body, accept, got, row.want)
			}
		}
	}
}

// A caller that gives a window is sent no more than that before it acknowledges, and is answered otherwise meanwhile; the
// provider hears what has been taken.
func TestCreditBoundsWhatIsOnTheWay(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider, c := rawDial(t, s.endpoints[0]), rawDial(t, s.endpoints[0])
	defer provider.Close()
	defer c.Close()
	registration(t, provider, `{"methods":["Far.Say","Far.Other"],"extensions":["parts"]}`)
	wantLine := func(conn net.Conn, want string) {
		t.Helper()
		if got := strings.TrimSpace(readLine(t, conn)); got != `{"jsonrpc":"2.0",`+want+`}` {
			t.Fatalf("there comes %s; want %s", got, want)
		}
	}
	part := func(token, value string) string {
		return `"method":"$/progress","params":{"token":` + token + `,"value":` + value + `}`
	}
	send(t, c, `{"jsonrpc":"2.0","id":1,"method":"Far.Say","parts":"t","window":10}`)
	wantLine(provider, `"id":1,"method":"Far.Say","parts":1,"window":1048576`)
	for _, value := range []string{`"longer than the window"`, `"12345"`, `6`, `7`} {
		send(t, provider, `{"jsonrpc":"2.0",`+part("1", value)+`}`)
	}
	wantLine(c, part(`"t"`, `"longer than the window"`))
	wantLine(provider, `"method":"$/credit","params":{"token":1,"parts":1}`)
	send(t, provider, `{"jsonrpc":"2.0","id":1,"result":"done"}`)
	send(t, c, `{"jsonrpc":"2.0","id":2,"method":"Far.Other"}`)
	wantLine(provider, `"id":2,"method":"Far.Other"`)
	send(t, provider, `{"jsonrpc":"2.0","id":2,"result":true}`)
	wantLine(c, `"id":2,"result":true`) // no part has come in between
	for _, credit := range []string{`"token":"other","parts":9`, `"token":"t","parts":-1`, `"token":"t","parts":"2"`, `"parts":2`} {
		send(t, c, `{"jsonrpc":"2.0","method":"$/credit","params":{`+credit+`}}`)
	}
	send(t, c, `{"jsonrpc":"2.0","id":3,"method":"Echo.Say","params":["nothing moves"]}`)
	wantLine(c, `"id":3,"result":"nothing moves"`)
	send(t, c, `{"jsonrpc":"2.0","method":"$/credit","params":{"token":"t","parts":1}}`)
	wantLine(c, part(`"t"`, `"12345"`))
	wantLine(c, part(`"t"`, `6`))
	wantLine(c, part(`"t"`, `7`))
	wantLine(c, `"id":1,"result":"done"`)
	// More is acknowledged than was sent, and then less: both are as good as what is.
	send(t, c, `{"jsonrpc":"2.0","id":4,"method":"Far.Say","parts":0.5,"window":1}`)
	wantLine(provider, `"id":3,"method":"Far.Say","parts":3,"window":1048576`)
	for value := range 3 {
		send(t, provider, `{"jsonrpc":"2.0",`+part("3", fmt.Sprint(value))+`}`)
		wantLine(c, part("0.5", fmt.Sprint(value)))
		for _, parts := range []int{1000 * (value + 1), 1} {
			send(t, c, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/credit","params":{"token":5e-1,"parts":%d}}`, parts))
		}
	}
	send(t, c, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":4}}`)
	wantLine(c, `"id":4,"error":{"code":-32800,"message":"the call was cancelled"}`)
}

// A provider that does not wait for credit has its stream ended, and goes on otherwise.
func TestProviderThatIgnoresTheWindow(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.StreamWindow = 10 << 10 }, localEndpoint(t))
	provider, c := rawDial(t, s.endpoints[0]), rawDial(t, s.endpoints[0])
	defer provider.Close()
	defer c.Close()
	registration(t, provider, `{"methods":["Far.Say"],"extensions":["parts"]}`)
	send(t, c, `{"jsonrpc":"2.0","id":"a","method":"Far.Say","parts":1,"window":1}`)
	readLine(t, provider)
	part := `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":"` + strings.Repeat("a", 1000) + `"}}`
	for range 30 {
		send(t, provider, part)
	}
	readLine(t, c) // the first part
	if got := readLine(t, c); !strings.Contains(got, `"id":"a","error":{"code":-32002,`) || !strings.Contains(got, "$/credit") || !strings.Contains(got, `"limit":"stream_window"`) {
		t.Errorf("there comes %s; want an error that names the limit", got)
	}
	readLineWith(t, provider, `"$/cancelRequest","params":{"id":1}`)
	send(t, provider, part)
	send(t, provider, `{"jsonrpc":"2.0","id":1,"result":null}`)
	send(t, c, `{"jsonrpc":"2.0","id":"b","method":"Far.Say"}`)
	readLineWith(t, provider, `"id":2,"method":"Far.Say"`)
	send(t, provider, `{"jsonrpc":"2.0","id":2,"result":"well"}`)
	if got := readLine(t, c); !strings.Contains(got, `"id":"b","result":"well"`) {
		t.Errorf("there comes %s; want the next answer", got)
	}
}

func TestPlainBodyHasNoParts(t *testing.T) {
	p := provide(t, mustParse(t, "http://127.0.0.1:0?auth=none"))
	got := post(t, p.endpoints[0], "/rpc", "", `{"jsonrpc":"2.0","id":1,"method":"Far.Count","params":[3],"parts":7}`)
	if want := `{"jsonrpc":"2.0","id":1,"result":3}` + "\n"; got != want {
		t.Errorf("a body is answered with %s; want %s", got, want)
	}
}

// As many calls wait for a provider that does not read as may be in flight; the others are refused, whether or not the
// callers of the first still wait.
func TestProviderThatDoesNotReadHoldsNoMore(t *testing.T) {
	ours, theirs := net.Pipe()
	l := defaultLimits()
	l.MaxCalls = 3
	in := newInput(ours, l)
	sh := &shared{finder: newRouter(), meter: &meter{}, foreman: &foreman{}}
	s := newSession(sh, theOwner, newJSONCodec(in, l, framingValue), in, ours, &l, nil)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	r, answers := remote{session: s}, make(chan *fault, 100)
	big := document(`"` + strings.Repeat("a", outputFull) + `"`)
	var refused *fault
	for sent := 0; refused == nil; sent++ {
		if sent > 10 {
			t.Fatal("more calls wait for the provider than may")
		}
		c := &call{message: message{method: "Far.Echo"}, m: &method{}, arg: &big, from: faultsOf(answers)}
		r.ask(c, nil, func(bool) {})
		select {
		case refused = <-answers:
		default:
			c.end(context.Canceled) // which makes no room
		}
	}
	checkCode(t, "a call too many", refused, codeBusy, "max_calls")
	theirs.Close()
	receive(t, served)
	ours.Close()
}

// faultsOf takes the answers to calls.
type faultsOf chan *fault

func (f faultsOf) encode(_ *call, result any) (any, *fault)             { return result, nil }
func (f faultsOf) answer(_ *call, _ any, e *fault, _ *unflushed)        { f <- e }
func (f faultsOf) part(*call, document, bool, *unflushed) (bool, error) { return true, nil }
func (f faultsOf) awaitRoom(*call, int) error                           { return nil }

// Every client that there is gets parts by the protocols that carry them, more of them than a message may be long, and
// whoever has had enough stops the provider. The others say that there are none.
func TestPartsForEveryClient(t *testing.T) {
	p := provide(t, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	for _, k := range clientKinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.dial(t, p.endpoints[0])
			defer c.close()
			if !k.data { // by the same protocols come parts and the data of errors
				if err := c.askParts(t.Context(), "Far.Count", 3, nil, func(document) error { return nil }); exitCode(err) != exitUsage {
					t.Errorf("Far.Count = %v; want an error that says that there are no parts", err)
				}
				return
			}
			var got []string
			var sum int
			err := c.askParts(t.Context(), "Far.Count", 100, &sum, func(value document) error {
				got = append(got, string(value))
				return nil
			})
			if err != nil || sum != 4950 || len(got) != 100 || got[99] != "99" {
				t.Errorf("Far.Count(100) = %d, %v, with %d parts", sum, err, len(got))
			}
			err = c.askParts(t.Context(), "Far.Fail", -7, nil, func(document) error { return nil })
			if f := (*fault)(nil); !errors.As(err, &f) || f.Code != -7 || len(f.Data) == 0 {
				t.Errorf("Far.Fail = %v; want its own error", err)
			}
			enough, n := errors.New("enough"), 0
			err = c.askParts(t.Context(), "Far.Flood", nil, nil, func(value document) error {
				if n += len(value); n > defaultLimits().MaxMessage+1<<20 {
					return enough
				}
				return nil
			})
			if err != enough {
				t.Errorf("a caller that has had enough parts gets %v; want its own error", err)
			}
			receive(t, p.far.left)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if err = c.askParts(ctx, "Far.Flood", nil, nil, func(document) error { cancel(); return nil }); err == nil {
				t.Error("a call that was withdrawn has no error")
			}
			receive(t, p.far.left)
		})
	}
}

func TestAcceptDecidesOnAStream(t *testing.T) {
	s := startServer(t, "http://127.0.0.1:0?auth=none")
	const plain, stream, lines = "\"a\"\n", "event: result\ndata: \"a\"\n\n", "{\"result\":\"a\"}\n"
	for accept, want := range map[string]string{
		"": plain, "*/*": plain, "text/html, application/json": plain, "text/event-stream;q=0, */*": plain, "text/event-stream; q=0.000": plain,
		"Text/Event-Stream": stream, "application/json, text/event-stream;q=0.5": stream, "text/event-stream; charset=utf-8": stream,
		"application/jsonl": lines, "Application/X-NDJSON; charset=utf-8": lines, "*/*, application/jsonl;q=0.1": lines,
		"application/jsonl, text/event-stream": lines, "application/jsonl;q=0.5, text/event-stream": stream, "text/event-stream;Q=0.999, application/x-ndjson": lines,
		"text/event-stream, application/jsonl": stream, strings.Repeat("a/b, ", maxAccepted) + "text/event-stream": plain, "application/jsonl;q=0, text/event-stream;q=0": plain,
	} {
		if got := post(t, s.endpoints[0], "/call/Echo.Say", accept, `"a"`); got != want {
			t.Errorf("Accept: %s is answered with %q; want %q", accept, got, want)
		}
	}
}

// A caller that does not read stops nobody else: neither other callers of the provider, or of the one process of a worker, nor the daemon.
func TestCallerThatReadsNoPartsHoldsUpNobody(t *testing.T) {
	calls := 1000
	if testing.Short() {
		calls = 100
	}
	p, w := provide(t, localEndpoint(t)), newWaiting(t)
	p.force.employ(workersOf(t, workplace(t, p.testServer), "[[worker]]\nname = \"worker\"\ncommand = [\"work\", \"Worker\"]\nservices = [\"Worker\"]\n"))
	for _, row := range []struct {
		flood, quick string
		left         func()
	}{
		{`"method":"Far.Flood"`, "Far.Echo", func() { receive(t, p.far.left) }},
		{`"method":"Worker.Pour","params":["` + w.Addr().String() + `"]`, "Worker.Echo", func() { w.ended(receive(t, w.conns)) }},
	} {
		conn := p.connect()
		narrow(conn)
		send(t, conn, `{"jsonrpc":"2.0","id":1,`+row.flood+`,"parts":1}`)
		readLine(t, conn) // it has begun
		c := dialOurs(protoJSON)(t, p.endpoints[0])
		for range calls {
			var text string
			must(t, ask(c, row.quick, "still here", &text))
		}
		if got := p.far.flooded.Load(); got > 4<<20 { // the window, twice what an output holds, and what the sockets do
			t.Errorf("the provider has sent %d bytes to a caller that does not read; want it to wait", got)
		}
		c.close()
		conn.Close()
		row.left()
	}
}

// The reader of a provider's connection does not wait for one caller to read that its time is over.
func TestPartForACallThatIsOverHoldsUpNobody(t *testing.T) {
	ours, theirs := net.Pipe()
	l := defaultLimits()
	l.Write = time.Hour
	in := newInput(ours, l)
	s := newSession(&shared{finder: newRouter(), meter: &meter{}, foreman: &foreman{}}, theOwner, newJSONCodec(in, l, framingValue), in, ours, &l, nil)
	must(t, s.out.append(s.codec, &message{kind: notification}, strings.Repeat("a", 2*outputFull)))
	c := &call{message: message{kind: request, parts: "1"}, m: &method{forward: func(*call, *unflushed) {}}, from: s}
	over, sent := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(over)
		s.giveUp(c, context.DeadlineExceeded, errDeadline)
	}()
	if _, err := theirs.Read(make([]byte, 1)); err != nil { // the answer waits for us to read on
		t.Fatal(err)
	}
	go func() { sent <- c.sendPart(document("1")) }()
	if err := receive(t, sent); err != context.DeadlineExceeded {
		t.Errorf("a part for a call whose deadline has passed = %v; want %v", err, context.DeadlineExceeded)
	}
	theirs.Close()
	<-over
	ours.Close()
}

// What a provider has answered does not wait for it to read, though it cancels a call of its own in the same write, and leaves
// unread what it is told.
func TestAnswerDoesNotWaitForTheProviderToRead(t *testing.T) {
	far, near := overEndpoint(localEndpoint)(t)
	caller := newJSONSession(near, newRouter(), "caller")
	ours, theirs := net.Pipe()
	l := defaultLimits()
	l.Write = time.Hour
	in := newInput(ours, l)
	s := newSession(&shared{finder: newRouter(), meter: &meter{}, foreman: &foreman{}}, &peer{}, newJSONCodec(in, l, framingValue), in, ours, &l, nil)
	passed := &method{forward: func(*call, *unflushed) {}}
	asked := &call{message: message{kind: request, id: callID{json: "5"}}, m: passed, arg: new(document), from: caller}
	remote{session: s}.ask(asked, nil, func(bool) {})
	own := &call{message: message{kind: request, id: callID{json: "7"}}, m: passed, from: s}
	s.update(func(st *sessionState) { st.theirs[own] = struct{}{} })
	must(t, s.out.append(s.codec, &message{kind: notification}, strings.Repeat("a", 2*outputFull)))
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	send(t, theirs, `{"jsonrpc":"2.0","id":1,"result":"b"}{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}}`)
	if got, want := readLine(t, far), `"id":5,"result":"b"`; !strings.Contains(got, want) {
		t.Errorf("the caller gets %s; want %s", got, want)
	}
	theirs.Close()
	receive(t, served)
	ours.Close()
	near.Close()
	far.Close()
}

// A deadline that has passed as the call begins ends it while its timer is still being noted: for the race detector.
func TestDeadlineThatHasPassedAtOnce(t *testing.T) {
	p := provide(t, localEndpoint(t))
	conn := p.connect()
	lines := bufio.NewReader(conn)
	for i := range 500 {
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Far.Block","params":["a"],"timeout":0.000001}`, i))
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"code":-32004`) {
			t.Fatalf("a call without time is answered with %q, %v", line, err)
		}
	}
}

func TestProviderHearsOfCallersThatGiveUp(t *testing.T) {
	t.Parallel() // it waits, most of the time
	p := provide(t, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	c := dialOurs(protoJSON)(t, p.endpoints[0])
	defer c.close()
	ctx, cancel := context.WithCancel(context.Background())
	done := inBackground(ctx, c, "Far.Block", "a")
	receive(t, p.far.entered)
	cancel()
	checkCode(t, "a cancelled call", receive(t, done), codeCancelled, "cancelled")
	if err := receive(t, p.far.left); err != context.Canceled {
		t.Errorf("the provider's context ended with %v; want %v", err, context.Canceled)
	}
	conn := rawDial(t, p.endpoints[0])
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Block","params":["a"],"timeout":30}`)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(answer, `"code":-32004`) {
		t.Errorf("a call whose deadline passes is answered with %s, %v", answer, err)
	}
	receive(t, p.far.entered)
	receive(t, p.far.left)
	send(t, conn, `{"jsonrpc":"2.0","id":2,"method":"Far.Block","params":["a"]}`)
	receive(t, p.far.entered)
	conn.Close()
	receive(t, p.far.left)
	request, stop := context.WithCancel(context.Background())
	go func() {
		r, err := http.NewRequestWithContext(request, http.MethodPost, "http://"+p.endpoints[1].Host+"/call/Far.Block", bytes.NewReader([]byte(`"a"`)))
		if err == nil {
			r.Header.Set("Content-Type", jsonType)
			(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		}
	}()
	receive(t, p.far.entered)
	stop()
	receive(t, p.far.left)
}

func TestProviderThatGoes(t *testing.T) {
	p := provide(t, localEndpoint(t))
	c := dialOurs(protoJSON)(t, p.endpoints[0])
	defer c.close()
	done := inBackground(context.Background(), c, "Far.Block", "a")
	receive(t, p.far.entered)
	p.conn.Close()
	f := checkCode(t, "a call that its provider had", receive(t, done), codeGone, "not known")
	if f.data().Retry {
		t.Error("it may be sent again, although the provider had it")
	}
	checkCode(t, "a call after", ask(c, "Far.Block", "a", nil), codeNoMethod, "there is no method")
	checkSay(t, c, "still here")
	receive(t, p.over)
}

// A GobTwice encodes itself as JSON that has a member twice.
type GobTwice struct{}

// GobEncode implements gob.GobEncoder.
func (GobTwice) GobEncode() ([]byte, error) { return []byte(`{"a":1,"a":2}`), nil }

// What a provider would refuse as a message, with which its connection ends, does not get there.
func TestCallerCannotBreakTheConnectionOfAProvider(t *testing.T) {
	p := provide(t, localEndpoint(t), mustParse(t, "http://127.0.0.1:0?auth=none"))
	c := dialOurs(protoGob)(t, p.endpoints[0])
	defer c.close()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience/4)
	defer cancel()
	checkCode(t, "a member twice", c.call(ctx, "Far.Echo", GobTwice{}, nil), codeBadArgument, "as JSON")
	depth := defaultLimits().MaxDepth
	deep := strings.Repeat("[", depth) + strings.Repeat("]", depth)
	web := dialOurs(protoAuto)(t, p.endpoints[1])
	defer web.close()
	checkCode(t, "JSON of max_depth", web.call(ctx, "Far.Echo", json.RawMessage(deep), nil), codeTooLarge, "max_depth")
	deep = deep[passedDepth : len(deep)-passedDepth]
	if answer := post(t, p.endpoints[1], "/call/Far.Echo", "", deep); answer != deep+"\n" {
		t.Errorf("JSON that is less deep comes back as %s", answer)
	}
}

// A call that begins when its caller has gone ends, and with it the session.
func TestCallThatBeginsAfterTheCutEnds(t *testing.T) {
	p := provide(t, localEndpoint(t))
	ours, theirs := overEndpoint(localEndpoint)(t)
	s := newJSONSession(theirs, p.router, "cut")
	s.cut(nil)
	over := make(chan error, 1)
	go func() { over <- s.serve() }()
	send(t, ours, `{"jsonrpc":"2.0","id":1,"method":"Far.Block","params":["a"]}`)
	ours.Close()
	receive(t, over)
	theirs.Close()
	if n := len(p.far.entered); n != 0 {
		t.Error("the provider was asked")
	}
}

// A slowProvider takes calls and answers none.
type slowProvider struct {
	calls []*call
	done  []func()
}

func (s *slowProvider) ask(c *call, _ *unflushed, done func(bool)) {
	s.calls, s.done = append(s.calls, c), append(s.done, func() { done(false) })
}

// offering registers a provider without a connection.
func offering(t *testing.T, r *router, p provider, most int64, names ...string) *offer {
	t.Helper()
	o := &offer{provider: p, share: true, most: most, who: peer{Known: true}, busy: new(atomic.Int64)}
	for _, n := range names {
		o.methods = append(o.methods, Description{Method: n})
	}
	if f := r.offer(o, nil); f != nil {
		t.Fatal(f)
	}
	r.open(o)
	return o
}

// forwarded has the providers of a name take a call.
func forwarded(t *testing.T, r *router, name string) (c *call, answers chan *fault) {
	t.Helper()
	return forwardedBy(t, r, name, theOwner)
}

// forwardedBy is forwarded for a caller.
func forwardedBy(t *testing.T, r *router, name string, p *peer) (c *call, answers chan *fault) {
	t.Helper()
	m, f := r.find(name, theOwner)
	if f != nil {
		t.Fatal(f)
	}
	answers = make(chan *fault, 1)
	c = &call{message: message{method: name}, m: m, peer: p, arg: new(document), from: faultsOf(answers)}
	m.forward(c, nil)
	return c, answers
}

func TestPoolSharesCalls(t *testing.T) {
	r := newRouter()
	var a, b slowProvider
	offering(t, r, &a, 0, "Far.Say")
	offering(t, r, &b, 0, "Far.*")
	for range 10 {
		forwarded(t, r, "Far.Say")
	}
	if len(a.calls) != 5 || len(b.calls) != 5 {
		t.Errorf("of ten calls the providers have %d and %d; want 5 each", len(a.calls), len(b.calls))
	}
	forwarded(t, r, "Far.Other")
	if len(b.calls) != 6 {
		t.Error("who offers a whole service is not asked for one of its methods")
	}
}

// Many providers come at once when a daemon has restarted. If each of them cost as many steps as there are names of all times
// providers, this would take long enough to be noticed.
func TestPoolsOfManyProviders(t *testing.T) {
	r := newRouter()
	const many = 250
	all := make([]slowProvider, many)
	for i := range all {
		var names []string
		for j := range 5 {
			names = append(names, fmt.Sprintf("S%d.M%d", i, j))
		}
		offering(t, r, &all[i], 0, append(names, "Shared.Say")...)
	}
	for i := range all {
		forwarded(t, r, fmt.Sprintf("S%d.M3", i))
		forwarded(t, r, "Shared.Say")
	}
	for i := range all {
		if n := len(all[i].calls); n != 2 {
			t.Errorf("the provider %d has %d calls; want its own, and one that all share", i, n)
		}
	}
}

// A worker without a process that is ready cannot be called, though what it offers stays.
type processes struct {
	slowProvider
	ready []string
}

func (p *processes) instances() []string { return p.ready }

// A service is up while anybody who can be called offers one of its methods.
func TestServicesAreAnnounced(t *testing.T) {
	r := newRouter()
	heard := subscribeTo(t, r.events, "", ownTopic+".>")
	add := func(old *offer, p provider, methods ...string) *offer {
		t.Helper()
		o := &offer{provider: p, share: true, who: peer{Known: true}, busy: new(atomic.Int64)}
		for _, name := range methods {
			o.methods = append(o.methods, Description{Method: name})
		}
		if f := r.offer(o, old); f != nil {
			t.Fatal(f)
		}
		return o
	}
	want := func(after string, events ...string) {
		t.Helper()
		r.events.herald.rest()
		var got []string
		for _, e := range waits(heard) {
			topic, _, _ := strings.Cut(e, `"`)
			got = append(got, topic)
		}
		if slices.Sort(got); !slices.Equal(got, events) {
			t.Errorf("after %s there is published %q; want %q", after, got, events)
		}
	}
	one := add(nil, &slowProvider{}, "Far.Echo", "Far.Say")
	want("an offer that is not open")
	r.open(one)
	want("that is opened", "ipcd.service.Far.up")
	two := add(nil, &slowProvider{}, "Far.Say", "Near.*")
	r.open(two)
	want("a second one", "ipcd.service.Near.up")
	r.open(two)
	want("that is opened again")
	three := add(two, &slowProvider{}, "Far.Say", "New.Say")
	want("a replacement that is not open")
	r.open(three)
	want("a replacement", "ipcd.service.Near.down", "ipcd.service.New.up")
	r.withdraw(one)
	want("the end of the first")
	r.open(one)
	want("what comes too late for one that has ended")
	r.withdraw(two)
	want("the end of one that was replaced")
	r.withdraw(three)
	want("the end of the last", "ipcd.service.Far.down", "ipcd.service.New.down")
	worker := &processes{}
	four := add(nil, worker, "Far.Say")
	r.open(four)
	want("a worker without a process")
	for range 2 {
		worker.ready = []string{"w/1"}
		r.announce(four)
		want("its process", "ipcd.service.Far.up")
		worker.ready = nil
		r.announce(four)
		want("the end of the process", "ipcd.service.Far.down")
	}
	if r.withdraw(four); len(r.up) > 0 {
		t.Errorf("without providers %v is left", r.up)
	}
}

// A halfGone takes nothing any more once it is dead. What the other end has said can still be read.
type halfGone struct {
	net.Conn
	dead atomic.Bool
}

func (h *halfGone) Write(b []byte) (int, error) {
	if h.dead.Load() {
		return 0, syscall.EPIPE
	}
	return h.Conn.Write(b)
}

// What a provider has answered before it went is delivered, also if the daemon hears first that it has gone; meanwhile it gets
// no more calls.
func TestProviderThatHasAnsweredAndGone(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	theirs.SetDeadline(time.Now().Add(testPatience))
	conn, r := &halfGone{Conn: ours}, newRouter()
	s := newJSONSession(conn, r, "provider")
	over := make(chan error, 1)
	go func() { over <- s.serve() }()
	o := offering(t, r, remote{session: s}, 0, "Far.Say")
	o.lost = &s.deaf
	_, first := forwarded(t, r, "Far.Say")
	readLine(t, theirs)
	conn.dead.Store(true)
	_, second := forwarded(t, r, "Far.Say")
	waitFor(t, func() error {
		if !s.deaf.Load() {
			return errors.New("the daemon has not noticed")
		}
		return nil
	})
	if _, more := o.room(); more {
		t.Error("who takes nothing any more is given calls")
	}
	send(t, theirs, `{"jsonrpc":"2.0","id":1,"result":"a"}`+"\n")
	if f := receive(t, first); f != nil {
		t.Errorf("the call that was answered ends with %v", f)
	}
	theirs.Close()
	checkCode(t, "the other", receive(t, second), codeGone, "not known")
	receive(t, over)
}

// Whoever has looked up a method before its provider offers something else instead calls it all the same.
func TestPoolThatIsReplaced(t *testing.T) {
	r := newRouter()
	var a slowProvider
	whole := offering(t, r, &a, 0, "Far.*")
	m, f := r.find("Far.Say", theOwner)
	if f != nil {
		t.Fatal(f)
	}
	instead := &offer{provider: &a, busy: new(atomic.Int64), methods: []Description{{Method: "Far.Say"}}, who: whole.who}
	if f := r.offer(instead, whole); f != nil {
		t.Fatal(f)
	}
	r.open(instead)
	answers := make(chan *fault, 1)
	ask := func() {
		m.forward(&call{message: message{method: "Far.Say"}, m: m, peer: theOwner, from: faultsOf(answers)}, nil)
	}
	if ask(); len(a.calls) != 1 {
		t.Errorf("the provider has %d calls; want the one that was looked up before", len(a.calls))
	}
	r.withdraw(instead)
	ask()
	checkCode(t, "a call for one who has gone", receive(t, answers), codeGone, "no provider")
}

// Calls wait while the providers have as many as they take, each for its turn.
func TestPoolHasCallsWait(t *testing.T) {
	r := newRouter()
	var a, b slowProvider
	offering(t, r, &a, 2, "Far.Say", "Far.Sing")
	offering(t, r, &b, 1, "Far.Say")
	for range 3 {
		forwarded(t, r, "Far.Say")
	}
	first, _ := forwarded(t, r, "Far.Say")
	forgotten, _ := forwarded(t, r, "Far.Say")
	sung, _ := forwarded(t, r, "Far.Sing")
	last, _ := forwarded(t, r, "Far.Say")
	if len(a.calls) != 2 || len(b.calls) != 1 {
		t.Fatalf("the providers have %d and %d calls; want 2 and 1", len(a.calls), len(b.calls))
	}
	forgotten.end(context.Canceled)
	b.done[0]()
	a.done[0]()
	if b.calls[1] != first || a.calls[2] != sung && a.calls[2] != last {
		t.Error("those that have waited longest are not asked first")
	}
	a.done[1]()
	a.done[2]()
	if n := r.waiting.Load(); n != 0 || len(a.calls) != 4 || len(b.calls) != 2 {
		t.Errorf("%d calls wait, and the providers were given %d and %d; want 0, 4 and 2", n, len(a.calls), len(b.calls))
	}
	for range 2 {
		forwarded(t, r, "Far.Say")
	}
	_, answer := forwarded(t, r, "Far.Say")
	for _, o := range slices.Clone(r.offers) {
		r.withdraw(o)
	}
	checkCode(t, "a call that waits for providers who have gone", receive(t, answer), codeGone, "no provider")
	if _, f := r.find("Far.Say", theOwner); f == nil || r.waiting.Load() != 0 || len(r.pools) != 0 {
		t.Errorf("of providers who have gone there are left %d waiting calls and %d pools", r.waiting.Load(), len(r.pools))
	}
}

// A queue has an end.
func TestPoolRefusesWhatCannotWait(t *testing.T) {
	r := newRouter()
	var a slowProvider
	offering(t, r, &a, 1, "Far.Say")
	for range defaultLimits().MaxWaiting + 1 {
		forwarded(t, r, "Far.Say")
	}
	_, answer := forwarded(t, r, "Far.Say")
	checkCode(t, "a call too many", receive(t, answer), codeBusy, "max_waiting")
}

// Who has asked for little does not wait behind who has asked for much, and finds room.
func TestPoolServesUsersInRounds(t *testing.T) {
	r := newRouter()
	r.obey(limits{MaxWaiting: 5})
	var a slowProvider
	offering(t, r, &a, 1, "Far.Say")
	ada, bob := &peer{Known: true, UID: 1}, &peer{Known: true, UID: 2}
	forwardedBy(t, r, "Far.Say", ada)
	var much []*call
	var refused chan *fault
	for range 5 {
		c, answer := forwardedBy(t, r, "Far.Say", ada)
		much, refused = append(much, c), answer
	}
	first, _ := forwardedBy(t, r, "Far.Say", bob)
	checkCode(t, "the last of many", receive(t, refused), codeBusy, "max_waiting")
	second, _ := forwardedBy(t, r, "Far.Say", bob)
	_, answer := forwardedBy(t, r, "Far.Say", ada)
	checkCode(t, "one more of them", receive(t, answer), codeBusy, "max_waiting")
	for i, want := range []*call{much[0], first, much[1], second, much[2]} {
		a.done[i]()
		if len(a.calls) != i+2 || a.calls[i+1] != want {
			t.Errorf("call %d of the queue is not the one whose round it is", i)
		}
	}
	a.done[5]()
	if n := r.waiting.Load(); n != 0 {
		t.Errorf("%d calls wait", n)
	}
}

// What connections hold in memory is told to their user's account, and taken back.
func TestAccountIsBalanced(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	checkSay(t, c, strings.Repeat("a", 1<<20))
	s.mu.Lock()
	var of *userLoad
	for _, u := range s.users {
		of = u
	}
	s.mu.Unlock()
	if of == nil || of.account.own.Load() == 0 {
		t.Fatal("a connection that has read a message holds nothing")
	}
	c.close()
	waitFor(t, func() error {
		if n := of.account.own.Load(); n != 0 {
			return fmt.Errorf("%d bytes are held", n)
		}
		return nil
	})
}

// Providers come and go at any moment, and each call has one answer: a result, or an error that says what became of it.
func TestProvidersThatComeAndGo(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	const callers, each, providers = 8, 250, 4
	over, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for range providers {
		all.Go(func() {
			for life := 1; over.Err() == nil; life++ {
				conn := noDeadline(rawDial(t, s.endpoints[0]))
				hangUp := context.AfterFunc(over, func() { conn.Close() })
				fmt.Fprint(conn, `{"jsonrpc":"2.0","id":"r","method":"Ipcd.Register","params":[{"methods":["Far.Say"],"share":true,"max_calls":2}]}`)
				answerSome(conn, 5*life%60)
				hangUp()
				conn.Close()
			}
		})
	}
	outcomes := make(chan error, callers*each)
	var asking sync.WaitGroup
	for range callers {
		asking.Go(func() {
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			defer c.close()
			for i := range each {
				want := fmt.Sprint(i)
				var got string
				err := ask(c, "Far.Say", want, &got)
				if err == nil && got != want {
					err = fmt.Errorf("%s came back as %s", want, got)
				}
				outcomes <- err
			}
		})
	}
	asking.Wait()
	stop()
	all.Wait()
	results := 0
	for range callers * each {
		err := receive(t, outcomes)
		var f *fault
		switch {
		case err == nil:
			results++
		case !errors.As(err, &f) || f.Code != codeGone && f.Code != codeNoMethod:
			t.Errorf("a call ends with %v", err)
		}
	}
	if results == 0 {
		t.Error("no call had a result")
	}
	waitFor(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.router.mu.Lock()
		defer s.router.mu.Unlock()
		if len(s.providers) > 0 || len(s.router.offers) > 0 || len(s.router.pools) > 0 || s.router.waiting.Load() != 0 {
			return fmt.Errorf("there are left %d providers, %d offers, %d pools, %d waiting calls", len(s.providers), len(s.router.offers), len(s.router.pools), s.router.waiting.Load())
		}
		return nil
	})
}

// answerSome is a provider of Far.Say that leaves after so many calls.
func answerSome(conn net.Conn, calls int) {
	requests := json.NewDecoder(conn)
	for n := 0; n <= calls; { // the first message is the answer to the registration
		var m struct {
			ID     json.RawMessage
			Method string
			Params []json.RawMessage
		}
		if requests.Decode(&m) != nil {
			return
		}
		if m.Method == "Far.Say" {
			n++
			if n <= calls {
				fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, m.Params[0])
			}
		}
	}
}
