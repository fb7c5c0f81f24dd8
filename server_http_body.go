package main

// This file owns the body of an HTTP call: how it is read, what its answers are written to, the media types of both, and
// the codec of a bare call. Its answers are sent together when all are there, or as server-sent events.

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// exchange runs a session for the duration of one HTTP request, and returns the answers. If the caller goes away, the
// calls are cancelled. A method that goes on after its call was given up does not delay the answer.
func (c *httpConn) exchange(r *http.Request, speak codec, in *input, body *requestBody, stream *eventStream) ([]byte, *fault) {
	dst := io.Writer(&body.answers)
	if stream != nil {
		dst = stream
	}
	s := newSession(c.c.shared, &c.c.peer, speak, in, dst, c.c.limits, c.log)
	asked := c.asked.Load()
	s.update(func(st *sessionState) { st.asked = asked })
	s.whole = !asked
	c.session.Store(s)
	defer c.session.Store(nil)
	if c.left.Load() {
		s.leave()
	}
	defer context.AfterFunc(r.Context(), func() { // also at a deadline of our own, which says nothing of the caller
		if c.over.Load() || c.c.deaf.Load() {
			c.c.watch(s)
		}
	})()
	var heeding sync.WaitGroup
	s.ended = func(error) { // net/http reads on only behind a whole body
		if !body.whole.Load() && !c.over.Load() && !s.idle() {
			heeding.Go(func() { c.c.heed(s) })
		}
	}
	go s.serve()
	stream.await(s)
	s.out.drain()
	heeding.Wait()
	if most := body.answers.most; body.answers.over.Load() {
		return nil, tooLarge("max_message", int64(most), "the answers to the body are too long together")
	}
	return body.answers.Bytes(), nil
}

// An eventStream is the answer to a request whose caller accepts server-sent events: HTML standard, section 9.2. It is
// nil for an answer that is sent as a whole.
type eventStream struct {
	rw     http.ResponseWriter
	conn   *httpConn
	status func() int  // the status to begin with; nil for 200
	begun  atomic.Bool // something is to be sent, so that any later failure has to be an event
	headed bool        // the header has been sent
}

const eventType = "text/event-stream"

// aliveEvery is how long a stream may be silent: proxies close what they take for dead after 30 s or more.
const aliveEvery = 15 * time.Second

// newEventStream returns a stream for the answer to r if its Accept names the type of one, and nil otherwise.
func (c *httpConn) newEventStream(rw http.ResponseWriter, r *http.Request) *eventStream {
	if slices.Contains(accepted(r), eventType) {
		return &eventStream{rw: rw, conn: c}
	}
	return nil
}

const jsonType = "application/json"

// isJSONType reports whether a media type is JSON (MIME Sniffing standard, section 4.6), or one of those that "JSON-RPC
// over HTTP" (jsonrpc.org/historical) has for JSON-RPC.
func isJSONType(t string) bool {
	switch t {
	case jsonType, "text/json", "application/json-rpc", "application/jsonrequest":
		return true
	}
	return strings.HasSuffix(t, "+json")
}

// mediaType returns the media type in the value of a Content-Type, in lower case and without its parameters.
func mediaType(value string) string {
	t, _, _ := strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// accepted returns the media types that the caller takes for an answer, in the caller's order.
func accepted(r *http.Request) (types []string) {
	for item := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		_, params, _ := strings.Cut(item, ";")
		refused := false // RFC 9110, section 12.4.2: a weight of 0
		for param := range strings.SplitSeq(params, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			refused = refused || strings.EqualFold(name, "q") && strings.Trim(value, "0.") == ""
		}
		if !refused {
			types = append(types, mediaType(item))
		}
	}
	return types
}

// answerType returns the media type of an answer in JSON: the usual one, unless the caller takes JSON by another name
// only.
func answerType(r *http.Request) string {
	other := ""
	for _, t := range accepted(r) {
		switch {
		case t == jsonType || t == "*/*" || t == "application/*":
			return jsonType
		case other == "" && isJSONType(t):
			other = t
		}
	}
	return cmp.Or(other, jsonType)
}

// sendJSON sends an answer as a whole.
func sendJSON(rw http.ResponseWriter, r *http.Request, status int, body []byte) {
	rw.Header().Set("Content-Type", answerType(r))
	rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
	rw.WriteHeader(status)
	rw.Write(body)
}

// Write sends events, and before the first one the header. Where net/http means to keep a connection it first takes the
// rest of the body for itself, up to 256 KiB, and closes it: requests would be lost. (EnableFullDuplex prevents that as
// well, but net/http then reads the next request from wherever a broken body left off.)
func (e *eventStream) Write(b []byte) (int, error) {
	if !e.headed {
		e.headed = true
		e.begun.Store(true)
		e.rw.Header().Set("Content-Type", eventType)
		e.rw.Header().Set("Cache-Control", "no-store")
		if e.conn.waiting.Load() { // there is more of the body
			e.rw.Header().Set("Connection", "close")
		}
		if e.status != nil {
			e.rw.WriteHeader(e.status())
		}
	}
	n, err := e.rw.Write(b)
	if err == nil {
		err = http.NewResponseController(e.rw).Flush()
	}
	return n, err
}

// begin and hurry are for the patientWriter below net/http: see there.
func (e *eventStream) begin(urgent bool) { e.conn.out.begin(urgent) }
func (e *eventStream) hurry()            { e.conn.out.hurry() }

// await waits until s has answered everything. Meanwhile it sends a comment from time to time to keep the stream
// open.
func (e *eventStream) await(s *session) {
	if e == nil {
		<-s.answered
		return
	}
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.answered:
			return
		case <-tick.C:
			if s.out.append(s.codec, &message{kind: alive}, nil) == nil {
				s.out.flush()
			}
		}
	}
}

// answers collects the answers to one body. The status and the length precede them, so none can be sent before all are
// there.
type answers struct {
	bytes.Buffer
	most int
	over atomic.Bool
}

func (a *answers) Write(b []byte) (int, error) {
	if a.Len()+len(b) > a.most {
		a.over.Store(true)
		return 0, errors.New("the answers to the body are too long together")
	}
	return a.Buffer.Write(b)
}

// A requestBody is the body of a request as a stream of bytes. It may be no larger than a message and take no longer to
// arrive, and it ends early if its answers get too long.
type requestBody struct {
	src     io.Reader
	conn    *httpConn
	left    int         // how many more bytes may come
	told    bool        // that there were more
	whole   atomic.Bool // its end has been read
	answers answers
}

// bodyOf returns the body of r. handleHTTP has set the deadline for its arrival.
func (c *httpConn) bodyOf(r *http.Request) *requestBody {
	most := c.c.limits.MaxMessage
	return &requestBody{src: r.Body, conn: c, left: most, answers: answers{most: maxAnswers * most}}
}

// Read implements io.Reader. Its errors are faults, except io.EOF and io.ErrUnexpectedEOF. A body that is too large is an
// error once; whoever looks for the id of the message that made it so may read on.
func (b *requestBody) Read(p []byte) (int, error) {
	l := b.conn.c.limits
	if b.answers.over.Load() {
		return 0, io.EOF
	}
	if b.left < 0 && !b.told {
		b.told = true
		return 0, tooLarge("max_message", int64(l.MaxMessage), "the body is too large")
	}
	if !b.told {
		p = p[:min(len(p), b.left+1)]
	}
	n, err := b.src.Read(p)
	b.left -= n
	switch {
	case err == nil:
	case err == io.EOF:
		b.whole.Store(true)
		b.conn.setWaiting(false)
		b.conn.Conn.SetReadDeadline(time.Time{}) // the call may take longer
	case isTimeout(err) && b.conn.left.Load():
		err = errShuttingDown
	case isTimeout(err):
		err = tooLarge("message", l.Message.Milliseconds(), "the body was not complete in time")
	case err != io.ErrUnexpectedEOF:
		err = faultf(codeParse, "the body cannot be read: %w", err)
	}
	return n, err
}

// A firstFault is a codec that remembers whether the body as a whole was not JSON-RPC. A connection that ends in the
// middle of a message, or without one, just ends; a body that does is answered with a fault.
type firstFault struct {
	codec
	whole  atomic.Pointer[fault] // the beginning of a stream looks at it while the rest is read
	begun  bool
	stream bool // the answer is a stream, which can carry parts
}

func (c *firstFault) read(m *message) error {
	err := c.codec.read(m)
	switch {
	case err == io.ErrUnexpectedEOF:
		err = faultf(codeParse, "the body ends in the middle of a message")
	case err == io.EOF && !c.begun:
		err = faultf(codeParse, "the body is empty; expected a request")
	}
	c.begun = true
	if !c.stream { // the body would not be what a client of JSON-RPC expects
		m.parts = ""
	}
	m.credit = 0 // nobody acknowledges anything here
	var f *fault
	if errors.As(err, &f) && f.Code != codeInvalid { // JSON that is no request is answered like a call that fails
		c.whole.CompareAndSwap(nil, f)
	}
	return err
}

func (c *firstFault) status() int {
	if f := c.whole.Load(); f != nil {
		return statusOf(f)
	}
	return http.StatusOK
}

// A bareCodec reads a single call: its method comes from the URL, its argument is the whole input, and its answer is the
// bare result.
type bareCodec struct {
	in      *input
	limits  limits
	method  string
	timeout time.Duration
	begun   bool
	fault   *fault // the answer, if it is an error and no stream has begun
	stream  *eventStream
}

func (c *bareCodec) read(m *message) error {
	if c.begun {
		return io.EOF
	}
	c.begun = true
	*m = message{kind: request, method: c.method, timeout: c.timeout}
	if c.stream != nil {
		m.parts = nullID // any token will do
	}
	return nil
}

func (c *bareCodec) body(v any) error {
	for {
		err := c.in.more(true)
		if err == io.EOF {
			break
		}
		if err == io.ErrUnexpectedEOF {
			err = faultf(codeParse, "the body ends before its length is reached")
		}
		if err != nil {
			return err
		}
	}
	b := bytes.TrimRight(trimFront(c.in.bytes()), jsonSpace)
	if len(b) == 0 {
		return noArgument(v)
	}
	if err := checkJSON(b, c.limits); err != nil {
		var f *fault
		if !errors.As(err, &f) {
			f = faultf(codeParse, "the body is not JSON: %w", err)
		}
		return f
	}
	if _, passed := v.(*formed); passed {
		if err := checkPassed(b, c.limits); err != nil {
			return err
		}
	}
	return decodeBody(b, v)
}

func (c *bareCodec) prepare(_ *message, body any) (any, error) { return prepareJSON(body) }

// write appends the bare result. In a stream that is the last event, after those with the parts. A fault is an event
// named "failure", since EventSource uses "error" itself.
func (c *bareCodec) write(dst []byte, m *message, body any) (b []byte, err error) {
	name := "result"
	switch {
	case m.kind == alive:
		if c.fault == nil {
			c.stream.begun.Store(true)
			dst = append(dst, eventComment...)
		}
		return dst, nil
	case m.kind == progress:
		name = "part"
	case m.fault != nil:
		name = "failure"
	}
	b = dst
	if c.stream != nil {
		b = append(append(append(b, "event: "...), name...), "\ndata: "...)
	}
	start := len(b)
	if m.fault != nil {
		b = appendFault(b, m.fault)
	} else if b, err = appendBody(b, body); err != nil {
		return dst, err
	}
	if f := m.tooLong(len(b)-start, c.limits); f != nil {
		return dst, f
	}
	switch {
	case m.fault != nil && (c.stream == nil || !c.stream.begun.Load()):
		c.fault = m.fault
		return dst, nil
	case c.stream == nil:
		return append(b, '\n'), nil
	}
	c.stream.begun.Store(true)
	return append(b, "\n\n"...), nil
}
