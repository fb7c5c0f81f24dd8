package main

// This file owns the body of an HTTP call: how it is read, what its answers are written to, the media types of both, and
// the codec of a bare call. Its answers are sent together when all are there, or bit by bit: server_http_stream.go.

import (
	"bytes"
	"cmp"
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
func (c *httpConn) exchange(r *http.Request, speak codec, in *input, body *requestBody, stream *answerStream) ([]byte, *fault) {
	dst := io.Writer(&body.answers)
	if stream != nil {
		dst = stream
	}
	s := newSession(c.c.shared, c.caller, speak, in, dst, c.c.inForce(), c.log)
	s.turn.user.Store(c.c.user)
	s.beat = &c.beat
	asked := c.asked.Load()
	s.update(func(st *sessionState) { st.asked = asked })
	s.whole = !asked
	c.session.Store(s)
	defer c.session.Store(nil)
	if c.left.Load() {
		s.leave()
	}
	if c.over.Load() || c.c.deaf.Load() { // it had nobody to lose
		c.lose()
	}
	var heeding sync.WaitGroup
	s.ended = func(error) { // net/http reads on only behind a whole body
		if !body.whole.Load() && !c.over.Load() && !s.idle() {
			heeding.Go(func() { c.c.heed(s) })
		}
	}
	c.pass()
	if s.hosted = stream == nil; s.hosted {
		s.readFirst()
	} else {
		go s.serve()
	}
	stream.await(s)
	s.out.drain()
	s.out.close() // of a batch that was not complete, something may be left
	heeding.Wait()
	c.takeBack()
	if most := body.answers.most; body.answers.over.Load() {
		return nil, tooLarge("max_message", int64(most), "the answers to the body are too long together")
	}
	return body.answers.Bytes(), nil
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

const maxAccepted = 32 // media types of a caller that are looked at

// accepted returns the media types that the caller takes for an answer, the one that it prefers first: RFC 9110, section
// 12.4.2. Of those with the same weight that is the first. Types behind maxAccepted others are left out: a browser sends seven.
func accepted(r *http.Request) (types []string) {
	if r.Header["Accept"] == nil { // most calls
		return nil
	}
	weights, looked := map[string]float64{}, 0
	for item := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if looked++; looked > maxAccepted {
			break
		}
		_, params, _ := strings.Cut(item, ";")
		weight := 1.0
		for param := range strings.SplitSeq(params, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			if q, err := strconv.ParseFloat(value, 64); err == nil && strings.EqualFold(name, "q") {
				weight = q
			}
		}
		if t := mediaType(item); weight > 0 && weights[t] == 0 {
			weights[t] = weight
			types = append(types, t)
		}
	}
	slices.SortStableFunc(types, func(a, b string) int { return cmp.Compare(weights[b], weights[a]) })
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

// answers collects the answers to one body. The status and the length precede them, so none can be sent before all are
// there.
type answers struct {
	bytes.Buffer
	most    int
	account *account
	over    atomic.Bool
}

func (a *answers) Write(b []byte) (int, error) {
	if a.Len()+len(b) > a.most {
		a.over.Store(true)
		return 0, errors.New("the answers to the body are too long together")
	}
	a.account.holdUnread(len(b))
	return a.Buffer.Write(b)
}

// release notes that they have been sent.
func (a *answers) release() { a.account.holdUnread(-a.Len()) }

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
	return &requestBody{src: r.Body, conn: c, left: most, answers: answers{most: maxAnswers * most, account: c.c.account}}
}

// Read implements io.Reader. Its errors are faults, except io.EOF and io.ErrUnexpectedEOF. A body that is too large is an
// error once; whoever looks for the id of the message that made it so may read on.
func (b *requestBody) Read(p []byte) (int, error) {
	l := b.conn.c.limits
	if b.answers.over.Load() || b.whole.Load() { // behind its end net/http may have closed it: an answer has begun
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
	if err == nil {
		return nil
	}
	var f *fault                                     // which is allocated
	if errors.As(err, &f) && f.Code != codeInvalid { // JSON that is no request is answered like a call that fails
		c.whole.CompareAndSwap(nil, f)
	}
	return err
}

// tokens are those of the argument, where the answer can carry parts.
func (c *firstFault) tokens() (partial, workDone string) {
	if from, has := c.codec.(interface{ tokens() (string, string) }); has && c.stream {
		return from.tokens()
	}
	return "", ""
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
	stream  *answerStream
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
	defer c.in.taken(len(c.in.bytes())) // the call holds what is made of it, not the buffer
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

// write appends the bare result. In a stream it is wrapped, like the parts before it.
func (c *bareCodec) write(dst []byte, m *message, body any) (b []byte, err error) {
	if m.kind == alive {
		if c.fault == nil {
			c.stream.begun.Store(true)
			dst = append(dst, c.stream.form.messages.blank()...)
		}
		return dst, nil
	}
	around := wrapping{"", "\n"}
	if c.stream != nil {
		around = c.stream.wrap.of(m)
	}
	b = dst
	if m.kind == progress {
		b = c.stream.wrap.appendID(b, body)
	}
	b = append(b, around.open...)
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
	case c.stream != nil:
		c.stream.begun.Store(true)
	}
	return append(b, around.close...), nil
}
