package main

// This file owns the fuzzing of whole connections: bytes in, from their detection to the parting, and what comes out of it is
// checked against what was asked. The parsers below have fuzz targets of their own.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Prey is the service that fuzzed connections call. Nothing it does takes long or touches anything outside.
type Prey struct{}

func (Prey) Same(ctx context.Context, v any) (any, error)                          { return v, nil }
func (Prey) Raw(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) { return raw, nil }
func (Prey) Text(ctx context.Context, text string) (string, error)                 { return text, nil }
func (Prey) Bytes(ctx context.Context, b []byte) ([]byte, error)                   { return b, nil }
func (Prey) Parcel(ctx context.Context, p TrialParcel) (TrialParcel, error)        { return p, nil }
func (Prey) Holder(ctx context.Context, h GobHolder) (GobHolder, error)            { return h, nil }
func (Prey) Count(ctx context.Context, by map[int]int) (int, error)                { return len(by), nil }
func (Prey) Fail(ctx context.Context, text string) (string, error)                 { return "", errors.New(text) }
func (Prey) Panic(ctx context.Context, text string) (string, error)                { panic(text) }
func (Prey) Old(a TrialPlace, sum *int) error                                      { *sum = a.N + a.Place; return nil }
func (Prey) Parts(ctx context.Context, n int, part func(int) error) (done int, e error) {
	for done < min(n, 20) && e == nil {
		e = part(done)
		done++
	}
	return done, e
}

// A script is a connection whose other end has sent all that it will, in pieces, shuts its sending side behind that, and takes
// whatever it gets.
type script struct {
	mu     sync.Mutex
	in     []byte
	pieces []byte // the size of each but one; from the beginning again behind the last
	at     int
	late   bool // the deadline of reading has passed
	closed bool
	out    bytes.Buffer
}

func (c *script) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.late:
		return 0, os.ErrDeadlineExceeded
	case len(c.in) == 0:
		return 0, io.EOF
	}
	n := min(len(b), len(c.in))
	if len(c.pieces) > 0 {
		n = min(n, 1+int(c.pieces[c.at%len(c.pieces)]))
		c.at++
	}
	copy(b, c.in[:n])
	c.in = c.in[n:]
	return n, nil
}

func (c *script) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.out.Write(b)
}

func (c *script) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = !at.IsZero() && !at.After(time.Now())
	return nil
}

func (c *script) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *script) CloseWrite() error                { return nil }
func (c *script) SetWriteDeadline(time.Time) error { return nil }
func (c *script) SetDeadline(at time.Time) error   { return c.SetReadDeadline(at) }
func (c *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

// A fuzzedServer serves scripts, one after the other.
type fuzzedServer struct {
	*server
	once       sync.Once
	goroutines int // while nothing is connected
}

// fuzzedHalfClose is how long a fuzzed connection waits for calls in flight behind the end of its input.
const fuzzedHalfClose = 5 * time.Millisecond

func newFuzzedServer(t testing.TB) *fuzzedServer {
	l := defaultLimits()
	l.MaxMessage, l.MaxBatch, l.MaxCalls, l.HalfClose = 4<<10, 5, 8, fuzzedHalfClose
	router, err := newBuiltins()
	must(t, err)
	must(t, addReceiver(router, Prey{}, nil))
	log := newLogger(io.Discard, formatText, levelDebug)
	s := &fuzzedServer{server: newServer(router, l, log)}
	must(t, s.addOwnService())
	router.policy.Store(policyFrom(t, "[[rule]]\nallow = [\"*\"]\ncall = [\"*\"]\nregister = [\"*\"]\npublish = [\">\"]\nsubscribe = [\">\"]\n"))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.stop(ctx)
		s.wg.Wait()
		log.close()
	})
	return s
}

// converse serves one connection to its end, as handle does, and returns what was sent to it, and how long that took. Nothing of it
// may be left.
func (s *fuzzedServer) converse(t *testing.T, in, pieces []byte) (out []byte, took time.Duration) {
	t.Helper()
	s.once.Do(func() { s.goroutines = runtime.NumGoroutine() + 1 }) // the foreman stays for a while
	conn := &script{in: in, pieces: pieces}
	p := peer{Transport: "tcp", UID: -1, GID: -1, noAuth: true}
	c := &connection{Conn: conn, server: s.server, shared: s.shared, endpoint: endpoint{Scheme: "tcp", Host: "127.0.0.1:1", Proto: protoAuto, NoAuth: true},
		peer: p, limits: s.limits(), log: s.log}
	began := time.Now()
	if f := s.admit(c); f != nil {
		t.Fatalf("the connection was not admitted: %v", f)
	}
	c.converse()
	took = time.Since(began)
	conn.Close()
	s.dismiss(c)
	left := func() error {
		ended := int64(0)
		for _, tally := range s.meter.book.all() {
			ended += tally.calls()
		}
		s.mu.Lock()
		users, conns, providers := len(s.users), len(s.conns), len(s.providers)
		s.mu.Unlock()
		goroutines, held := runtime.NumGoroutine(), s.budget.held.Load()
		if begun := s.meter.calls.Load(); begun != ended || users+conns+providers > 0 || held != 0 || s.foreman.aside.Load() != 0 || s.meter.connections.Load() != 0 || goroutines > s.goroutines {
			return fmt.Errorf("of %d calls %d ended; there are %d users, %d connections, %d providers, %d bytes held, %d calls aside, %d goroutines of %d",
				begun, ended, users, conns, providers, held, s.foreman.aside.Load(), goroutines, s.goroutines)
		}
		return nil
	}
	for range 100 { // most of the time whatever there is has only to be scheduled
		if left() == nil {
			break
		}
		runtime.Gosched()
	}
	if err := poll(left); err != nil {
		stacks := make([]byte, 1<<20)
		t.Fatalf("behind %q something is left: %v\n%s", in, err, stacks[:runtime.Stack(stacks, true)])
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	return conn.out.Bytes(), took
}

// An expectation is what is to come of a connection.
type expectation struct {
	answers map[string]int // by id
	loose   string         // the id of one more that there may be, of the message that ended the stream
	steady  bool           // the answers say the same each time
}

// expect reads a stream by itself, and notes what has to be answered.
func expect(c codec, v any) expectation {
	e := expectation{answers: map[string]int{}, loose: nullID, steady: true}
	for {
		var m message
		err := c.read(&m)
		if err == nil && m.kind == request {
			e.answers[idText(m.id)]++
		}
		if err == nil {
			e.steady = e.steady && m.timeout == 0 && m.kind != response && m.parts == "" && (strings.HasPrefix(m.method, "Prey.") && m.method != "Prey.Parts" || m.method == "Ipcd.Ping")
			err = c.body(v)
			if f := (*fault)(nil); errors.As(err, &f) {
				continue
			}
		}
		var bad *badMessage
		switch {
		case errors.As(err, &bad) && bad.m.kind == request:
			e.answers[idText(bad.m.id)]++
		case errors.As(err, &bad), err == nil:
		default:
			if m.kind == request {
				e.loose = idText(m.id)
			}
			return e
		}
	}
}

func idText(id callID) string {
	if id.json != "" {
		return id.json
	}
	return strconv.FormatUint(id.seq, 10)
}

// check compares what was answered with what has to be.
func (e *expectation) check(t *testing.T, in, out []byte, got map[string]int) {
	t.Helper()
	for _, id := range slices.Concat(slices.Collect(maps.Keys(e.answers)), slices.Collect(maps.Keys(got))) {
		n, want := got[id], e.answers[id]
		if n != want && !(n == want+1 && id == e.loose) {
			t.Fatalf("%q has %d requests with the id %s, and was answered %d times: %q", in, want, id, n, out)
		}
	}
}

// An answer is one that came, as far as it is the same however the request came.
type answer struct{ id, says string }

// jsonAnswers parses what JSON-RPC was answered with. It has to be whole.
func jsonAnswers(t *testing.T, out []byte) (all []answer) {
	t.Helper()
	var messages []json.RawMessage
	if rest := out; len(rest) > 0 && rest[0] == 'C' {
		for len(rest) > 0 {
			head, body, found := bytes.Cut(rest, []byte("\r\n\r\n"))
			digits, named := strings.CutPrefix(string(head), "Content-Length: ")
			n, err := strconv.Atoi(digits)
			if !found || !named || err != nil || n > len(body) {
				t.Fatalf("the frames are broken at %q: %q", rest, out)
			}
			messages = append(messages, body[:n])
			rest = body[n:]
		}
	} else {
		for line := range bytes.Lines(out) {
			if line[len(line)-1] != '\n' {
				t.Fatalf("the last line is not whole: %q", out)
			}
			messages = append(messages, line)
		}
	}
	for i := 0; i < len(messages); i++ { // it grows by what batches hold
		text := bytes.TrimSpace(messages[i])
		if len(text) > 0 && text[0] == '[' {
			var batch []json.RawMessage
			if err := json.Unmarshal(text, &batch); err != nil || len(batch) == 0 {
				t.Fatalf("a batch was answered with %q", text)
			}
			messages = append(messages, batch...)
			continue
		}
		var m struct {
			Version       *string         `json:"jsonrpc"`
			ID            json.RawMessage `json:"id"`
			Method        *string         `json:"method"`
			Params        json.RawMessage `json:"params"`
			Context       json.RawMessage `json:"context"`
			Caller, Hops  json.RawMessage
			Parts, Window json.RawMessage
			Timeout       json.RawMessage
			Result, Error json.RawMessage
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&m); err != nil || d.InputOffset() != int64(len(text)) {
			t.Fatalf("%q is no message: %v", text, err)
		}
		if m.Method != nil { // of the daemon to a provider, or parts
			continue
		}
		failed := len(m.Error) > 0 && string(m.Error) != "null"
		if v1 := m.Version == nil || *m.Version == "1.0"; len(m.ID) == 0 || !v1 && (len(m.Error) > 0) == (len(m.Result) > 0) || !v1 && *m.Version != "2.0" {
			t.Fatalf("%q is no answer", text)
		}
		says := "result " + string(m.Result)
		if failed {
			var f struct{ Code int }
			if json.Unmarshal(m.Error, &f); m.Version != nil && f.Code == 0 {
				t.Fatalf("%q has no code", text)
			}
			says = "error " + strconv.Itoa(f.Code)
		}
		all = append(all, answer{string(m.ID), says})
	}
	return all
}

// gobAnswers parses what net/rpc was answered with, as the standard library does; see gobSkips.
func gobAnswers(t *testing.T, out []byte) (all []answer) {
	t.Helper()
	r := bytes.NewReader(out)
	d := gob.NewDecoder(r)
	ours := newGobCodec(newInput(bytes.NewReader(out), defaultLimits()), defaultLimits(), response)
	for stock := true; ; {
		var h rpc.Response
		var m message
		switch err := ours.read(&m); {
		case err == io.EOF:
			if stock && (d.Decode(&h) != io.EOF || r.Len() > 0) {
				t.Fatalf("something follows the last answer: %q", out)
			}
			return all
		case err != nil:
			t.Fatalf("the answers are no gob: %v in %q", err, out)
		}
		must(t, ours.body(nil))
		says, seq := "result", m.id.seq
		if m.fault != nil {
			says = "error " + strconv.Itoa(m.fault.Code)
		}
		if stock {
			if err := d.Decode(&h); err != nil || h.Seq != seq || (h.Error != "") != (m.fault != nil) {
				t.Fatalf("the answer to %d is %+v to the standard library, %v: %q", seq, h, err, out)
			}
			err := d.DecodeValue(reflect.Value{})
			if stock = err == nil; err != nil && !strings.Contains(err.Error(), gobSkips) {
				t.Fatalf("the body of the answer to %d is no gob: %v in %q", h.Seq, err, out)
			}
		}
		all = append(all, answer{strconv.FormatUint(seq, 10), says})
	}
}

// gobSkips is the error of encoding/gob for a value to be dropped that has definitions in it, of types in its interface values. It can
// decode such a value, and does not find its end otherwise.
const gobSkips = "bad interface encoding"

// checkHTTP parses the answers to requests of HTTP: there is at most one to each and one more to what is none, and each is whole.
func checkHTTP(t *testing.T, in, out []byte) {
	t.Helper()
	var asked []*http.Request
	for r := bufio.NewReader(bytes.NewReader(bytes.TrimLeft(in, jsonSpace))); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			break
		}
		asked = append(asked, req)
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			break
		}
	}
	r := bufio.NewReader(bytes.NewReader(out))
	for n := 0; ; {
		if _, err := r.Peek(1); err == io.EOF {
			return
		}
		of := &http.Request{Method: http.MethodGet}
		if n < len(asked) {
			of = asked[n]
		}
		resp, err := http.ReadResponse(r, of)
		if err != nil {
			t.Fatalf("%q was answered with %q, which is no HTTP: %v", in, out, err)
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		if of.Method == http.MethodConnect && resp.StatusCode == http.StatusOK {
			rest, _ := io.ReadAll(r)
			gobAnswers(t, rest)
			return
		}
		if of.Method == http.MethodHead && resp.StatusCode >= http.StatusBadRequest && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			return // by net/http itself, which sends a body to a HEAD that it refuses, and closes
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%q was answered with %q, whose body is not whole: %v", in, out, err)
		}
		if of.Method != http.MethodHead && resp.Header.Get("Content-Type") == jsonType {
			for _, line := range bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) {
				if !json.Valid(line) {
					t.Fatalf("%q was answered with %q, which is no JSON", in, body)
				}
			}
		}
		if n++; n > len(asked)+1 {
			t.Fatalf("%q has %d requests, and %d answers: %q", in, len(asked), n, out)
		}
	}
}

// FuzzSession: whatever comes on a connection, and in whatever pieces, each request in it is answered exactly once, in the form of its
// protocol, and nothing is left of the connection: no goroutine, no call, no byte that counts.
func FuzzSession(f *testing.F) {
	add := func(text string) { f.Add([]byte(text), []byte{0, 3, 20}) }
	for _, text := range []string{
		sayRequest + sayRequest, `{"jsonrpc":"2.0","id":1,"method":"Prey.Same","params":[{"a":[1,null]}]}` + "\n" + `{"id":"x","method":"Prey.Text","params":["y"]}`,
		`[{"jsonrpc":"2.0","id":1,"method":"Prey.Old","params":{"n":1,"place":2}},{"jsonrpc":"2.0","method":"Prey.Fail","params":["a"]},{"jsonrpc":"2.0","id":2,"method":"No.Such"}]`,
		"Content-Length: 52\r\n\r\n" + `{"jsonrpc":"2.0","id":1,"method":"Prey.Panic","x":1}` + "Content-Length: 2\r\n\r\n{}",
		`{"jsonrpc":"2.0","id":7,"method":"Prey.Parts","params":[9],"parts":"t","window":1}{"jsonrpc":"2.0","method":"$/credit","params":{"token":"t","parts":5}}{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}}`,
		`{"jsonrpc":"2.0","id":1,"method":"Ipcd.Register","params":{"methods":[{"name":"Far.Away"}]}}{"jsonrpc":"2.0","id":2,"method":"Far.Away","params":[1]}{"jsonrpc":"2.0","id":1,"result":5}`,
		`{"jsonrpc":"2.0","id":1,"method":"Ipcd.Subscribe","params":{"topics":["a.>"]},"parts":1}{"jsonrpc":"2.0","id":2,"method":"Ipcd.Publish","params":{"topic":"a.b","data":1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"Ipcd.Describe","params":["Ipcd"]}{"jsonrpc":"2.0","id":2,"method":"Ipcd.List"}{"jsonrpc":"2.0","id":3,"method":"Ipcd.Stop"}`,
		"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 63\r\n\r\n" + sayRequest + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /call/Prey.Same HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nAccept: text/event-stream\r\nIpcd-Timeout: 5\r\n\r\n3\r\n\"a\"\r\n0\r\n\r\n",
		"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: x-1\r\nAuthorization: Bearer ipcd_x\r\n\r\n", "HEAD /metrics HTTP/1.0\r\n\r\n", "GET /../rpc HTTP/1.1\r\nHost: evil\r\nOrigin: null\r\n\r\n",
		"CONNECT /_goRPC_ HTTP/1.0\r\n\r\n" + string(gobStream(f, "x")), "\x16\x03\x01", "hello", "[1,2", "{}", " \n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		add(text)
	}
	for _, method := range []string{"Prey.Text", "Prey.Holder", "Prey.Same", "Prey.Bytes"} {
		var b bytes.Buffer
		enc := gob.NewEncoder(&b)
		for i, arg := range []any{"x", holders[2], []byte("y"), holders[3]} {
			must(f, errors.Join(enc.Encode(rpc.Request{ServiceMethod: method, Seq: uint64(i)}), enc.Encode(arg)))
		}
		add(b.String())
	}
	s := newFuzzedServer(f)
	l := *s.limits()
	f.Fuzz(around(func(t *testing.T, in, pieces []byte) {
		if len(in) > 32<<10 {
			return
		}
		var first []answer
		for i, pieces := range [][]byte{nil, pieces} {
			out, took := s.converse(t, in, pieces)
			var e expectation
			var all []answer
			switch name := detect(in); name {
			case protoJSON:
				e = expect(newJSONCodecFor(newInput(bytes.NewReader(in), l), l, sideServing), nil)
				all = jsonAnswers(t, out)
			case protoGob:
				e = expect(newGobCodecFor(newInput(bytes.NewReader(in), l), l, sideServing), nil)
				all = gobAnswers(t, out)
			case protoHTTP:
				checkHTTP(t, in, out)
				continue
			case protoTLS:
				if !bytes.Equal(out, tlsAlert) {
					t.Fatalf("%q was answered with %q; want an alert", in, out)
				}
				continue
			default: // it ends before anybody knows what it is
				if len(out) > 0 {
					t.Fatalf("%q was answered with %q", in, out)
				}
				continue
			}
			got := map[string]int{}
			for _, a := range all {
				got[a.id]++
			}
			e.check(t, in, out, got)
			if !e.steady || took > fuzzedHalfClose/2 { // some calls may have been given up
				break
			}
			slices.SortFunc(all, func(a, b answer) int { return strings.Compare(a.id+a.says, b.id+b.says) })
			if i == 0 {
				first = all
			} else if !slices.Equal(first, all) {
				t.Fatalf("%q is answered with %q in one piece, and %q in pieces of %d", in, first, all, pieces)
			}
		}
	}))
}
