package main

// This file owns the clients with which the tests call: those of the standard library, our own,
// and some that are written by hand from docs/protocol.md.

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
	"net/rpc"
	"net/rpc/jsonrpc"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A clientKind is one way to call.
type clientKind struct {
	name     string
	dial     func(t testing.TB, e endpoint) caller
	http     bool // it begins as HTTP: an http:// endpoint takes it too
	oneByOne bool // each call in flight has a connection of its own
	data     bool // the data of an error arrives
	deadline bool // the call ends with the deadline of the context, there as well
	patient  bool // it gives up by the answer of the daemon alone
	gob      bool
}

var clientKinds = []clientKind{
	{name: "gob-stock", gob: true, dial: func(t testing.TB, e endpoint) caller {
		return stockCaller{rpc.NewClient(noDeadline(rawDial(t, e)))}
	}},
	{name: "gob-stock-http", gob: true, http: true, dial: dialRPCByHTTP},
	{name: "gob-ours", gob: true, dial: dialOurs(protoGob)},
	{name: "json1-stock", dial: func(t testing.TB, e endpoint) caller {
		return stockCaller{jsonrpc.NewClient(noDeadline(rawDial(t, e)))}
	}},
	{name: "json2-ours", data: true, deadline: true, dial: dialOurs(protoJSON)},
	{name: "json2-lines", data: true, deadline: true, patient: true, dial: func(t testing.TB, e endpoint) caller { return newLineCaller(t, e, false) }},
	{name: "json2-headers", data: true, deadline: true, patient: true, dial: func(t testing.TB, e endpoint) caller { return newLineCaller(t, e, true) }},
	{name: "http-ours", http: true, oneByOne: true, data: true, deadline: true, dial: dialOurs(protoHTTP)},
	{name: "http-rpc", http: true, oneByOne: true, data: true, dial: func(t testing.TB, e endpoint) caller { return postCaller{t, e, newHTTPClient(t, e), false} }},
	{name: "http-call", http: true, oneByOne: true, data: true, deadline: true, patient: true, dial: func(t testing.TB, e endpoint) caller { return postCaller{t, e, newHTTPClient(t, e), true} }},
}

func noDeadline(conn net.Conn) net.Conn { conn.SetDeadline(time.Time{}); return conn }

// dialRPCByHTTP does what rpc.DialHTTP does, which knows of TCP alone.
func dialRPCByHTTP(t testing.TB, e endpoint) caller {
	t.Helper()
	conn := rawDial(t, e)
	io.WriteString(conn, "CONNECT "+rpc.DefaultRPCPath+" HTTP/1.0\n\n")
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
	if err != nil || answer.Status != "200 Connected to Go RPC" {
		t.Fatalf("CONNECT = %v, %v; want 200 Connected to Go RPC", answer, err)
	}
	return stockCaller{rpc.NewClient(noDeadline(conn))}
}

// dialOurs dials with the client of the program.
func dialOurs(p proto) func(t testing.TB, e endpoint) caller {
	return func(t testing.TB, e endpoint) caller {
		t.Helper()
		e = e.withProto(p)
		ctx, cancel := context.WithTimeout(context.Background(), testPatience)
		defer cancel()
		c, err := dial(ctx, e, optionsFor(t, e))
		if err != nil {
			t.Fatalf("dial(%s): %v", e, err)
		}
		return c
	}
}

// A stockCaller is a client of the standard library.
type stockCaller struct{ *rpc.Client }

func (c stockCaller) call(ctx context.Context, method string, arg, result any) error {
	if arg == nil {
		arg = struct{}{}
	}
	select {
	case done := <-c.Go(method, arg, result, make(chan *rpc.Call, 1)).Done:
		var text rpc.ServerError
		if errors.As(done.Error, &text) {
			return faultInText(string(text))
		}
		return done.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c stockCaller) askParts(context.Context, string, any, any, func(document) error) error {
	return usagef("the standard library has no parts")
}

func (c stockCaller) close() error { return c.Close() }

var codeInText = regexp.MustCompile(`^(?s)(.*) \(code (-?[0-9]+)\)$`)

// faultInText is the error that a protocol without codes carries.
func faultInText(text string) error {
	m := codeInText.FindStringSubmatch(text)
	if m == nil {
		return &fault{Code: codeApplication, Text: text}
	}
	code, _ := strconv.Atoi(m[2])
	return &fault{Code: code, Text: m[1]}
}

// A lineCaller speaks JSON-RPC 2.0 with nothing but encoding/json, and waits for every answer.
type lineCaller struct {
	conn    net.Conn
	headers bool
	ended   chan struct{} // closed when nobody reads any more

	mu      sync.Mutex
	seq     int
	waiting map[int]chan lineAnswer
	surplus int // answers to no call, or to one that had been answered
}

type lineAnswer struct {
	ID     *int            `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *fault          `json:"error"`
	Params linePart        `json:"params"`
}

type linePart struct {
	Token int             `json:"token"`
	Value json.RawMessage `json:"value"`
}

func newLineCaller(t testing.TB, e endpoint, headers bool) *lineCaller {
	t.Helper()
	c := &lineCaller{conn: noDeadline(rawDial(t, e)), headers: headers, ended: make(chan struct{}), waiting: map[int]chan lineAnswer{}}
	go c.read()
	return c
}

func (c *lineCaller) read() {
	defer close(c.ended)
	r := bufio.NewReader(c.conn)
	for {
		var a lineAnswer
		b, err := readAnswer(r, c.headers)
		if err == nil {
			err = json.Unmarshal(b, &a)
		}
		if err != nil {
			return
		}
		c.mu.Lock()
		w := c.waiting[a.Params.Token]
		if a.ID != nil {
			w = c.waiting[*a.ID]
			delete(c.waiting, *a.ID)
			if w == nil {
				c.surplus++
			}
		}
		c.mu.Unlock()
		if w != nil {
			w <- a
		}
	}
}

// readAnswer reads one line, or one message with its headers.
func readAnswer(r *bufio.Reader, headers bool) ([]byte, error) {
	if !headers {
		return r.ReadBytes('\n')
	}
	head, err := textproto.NewReader(r).ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(head.Get("Content-Length"))
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

// requestJSON is a request of version 2.0.
func requestJSON(ctx context.Context, id any, method string, arg any) ([]byte, error) {
	m := map[string]any{"jsonrpc": "2.0", "id": id, "method": method}
	if arg != nil {
		m["params"] = []any{arg}
	}
	if deadline, ok := ctx.Deadline(); ok {
		m["timeout"] = max(1, time.Until(deadline).Milliseconds())
	}
	return json.Marshal(m)
}

func (c *lineCaller) send(b []byte) error {
	if c.headers {
		b = append(fmt.Appendf(nil, "Content-Length: %d\r\n\r\n", len(b)), b...)
	} else {
		b = append(b, '\n')
	}
	_, err := c.conn.Write(b)
	return err
}

func (c *lineCaller) call(ctx context.Context, method string, arg, result any) error {
	return c.askParts(ctx, method, arg, result, nil)
}

func (c *lineCaller) askParts(ctx context.Context, method string, arg, result any, part func(document) error) error {
	c.mu.Lock()
	c.seq++
	id, w := c.seq, make(chan lineAnswer, 1)
	c.waiting[id] = w
	b, err := requestJSON(ctx, id, method, arg)
	if part != nil {
		b = fmt.Appendf(b[:len(b)-1], `,"parts":%d}`, id)
	}
	if err == nil {
		err = c.send(b)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	withdrawn := ctx.Done()
	var enough error
	for {
		select {
		case a := <-w:
			switch {
			case a.ID == nil && enough == nil:
				if enough = part(document(a.Params.Value)); enough != nil {
					c.withdraw(id)
				}
			case a.ID != nil && enough != nil:
				return enough
			case a.ID != nil:
				return a.decode(result)
			}
		case <-c.ended:
			select {
			case a := <-w: // it came right before the end
				return a.decode(result)
			default:
				return io.ErrUnexpectedEOF
			}
		case <-withdrawn:
			withdrawn = nil
			if ctx.Err() == context.Canceled {
				c.withdraw(id)
			}
		}
	}
}

func (c *lineCaller) withdraw(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}`, id))
}

func (a lineAnswer) decode(result any) error {
	switch {
	case a.Error != nil:
		return a.Error
	case a.Result == nil:
		return errors.New("an answer with neither result nor error")
	case result == nil:
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

func (c *lineCaller) close() error {
	err := c.conn.Close()
	<-c.ended
	if c.surplus > 0 {
		return fmt.Errorf("%d answers answer no call", c.surplus)
	}
	return err
}

// newHTTPClient is an HTTP client whose connections all lead to e.
func newHTTPClient(t testing.TB, e endpoint) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return transports[e.Scheme].dial(ctx, e, optionsFor(t, e))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// A postCaller calls by POST: to /rpc, or with bare arguments to /call.
type postCaller struct {
	t    testing.TB
	e    endpoint
	http *http.Client
	bare bool
}

// urlOf is the address of a path for an HTTP client that dials e by itself.
func urlOf(e endpoint, path string) string {
	if e.Host == "" {
		return "http://localhost" + path
	}
	return "http://" + e.Host + path
}

func (c postCaller) call(ctx context.Context, method string, arg, result any) error {
	return c.askParts(ctx, method, arg, result, nil)
}

// askParts takes parts as events.
func (c postCaller) askParts(ctx context.Context, method string, arg, result any, part func(document) error) error {
	path := "/rpc"
	body, err := requestJSON(context.Background(), 1, method, arg)
	if part != nil {
		body = append(body[:len(body)-1], `,"parts":1}`...)
	}
	if c.bare {
		path = "/call/" + method
		if body, err = nil, nil; arg != nil {
			body, err = json.Marshal(arg)
		}
	}
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, "POST", urlOf(c.e, path), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && c.bare {
		r.Header.Set("Ipcd-Timeout", max(time.Until(deadline), time.Microsecond).String())
		r = r.WithContext(context.WithoutCancel(ctx)) // the answer is the daemon's
	}
	r.Header.Set("Content-Type", "application/json")
	if part != nil {
		r.Header.Set("Accept", eventType)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.Header.Get("Content-Type") == eventType {
		return c.events(answer.Body, result, part)
	}
	b, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case !c.bare && answer.StatusCode == http.StatusOK:
		var a lineAnswer
		if err := json.Unmarshal(b, &a); err != nil {
			return fmt.Errorf("HTTP %s: %q: %w", answer.Status, b, err)
		}
		return a.decode(result)
	case answer.StatusCode != http.StatusOK:
		f := &fault{}
		if err := json.Unmarshal(b, f); err != nil || f.Code == 0 {
			return fmt.Errorf("HTTP %s: %q: %w", answer.Status, b, err)
		}
		return f
	case result == nil:
		return nil
	}
	return json.Unmarshal(b, result)
}

// events reads an answer that is a stream of events.
func (c postCaller) events(body io.Reader, result any, part func(document) error) error {
	lines, kind := bufio.NewReader(body), ""
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ": ")
		if name == "event" {
			kind = value
		}
		if name != "data" {
			continue
		}
		var a lineAnswer
		switch one := 1; kind {
		case "message":
			err = json.Unmarshal([]byte(value), &a)
		case "part":
			a.Params.Value = json.RawMessage(value)
		case "result":
			a.ID, a.Result = &one, json.RawMessage(value)
		case "failure":
			a.ID = &one
			err = json.Unmarshal([]byte(value), &a.Error)
		}
		if err == nil && a.ID != nil {
			return a.decode(result)
		}
		if err == nil {
			err = part(document(a.Params.Value))
		}
		if err != nil {
			return err
		}
	}
}

func (c postCaller) close() error {
	c.http.CloseIdleConnections()
	return nil
}

// connect dials e; where nobody is there and wait is not zero, it tries again until then: a
// daemon may be coming up.
func connect(ctx context.Context, e endpoint, l limits, wait time.Duration) (caller, error) {
	return persist(ctx, wait, func() (caller, error) { return dial(ctx, e, dialOptions{limits: l}) })
}

// sayAndStay connects, calls, and leaves the connection open until the test ends.
func sayAndStay(t *testing.T, network, address string) (answer string, err error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testPatience))
	io.WriteString(conn, sayRequest)
	b := make([]byte, 1<<10)
	n, err := conn.Read(b)
	return string(b[:n]), err
}
