package main

// This file owns what is spoken over HTTP: JSON-RPC by POST, a bare call by POST, server-sent events as their answers,
// the health check, and the CONNECT with which Go's rpc.DialHTTP begins. A new path is a row of routes. See RFC 9110.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHTTPHeader = 16 << 10              // curl sends 100 bytes, a browser 2 KiB
	headerWait    = time.Duration(oneDay) // longer than any limit may be; see httpConn.SetReadDeadline
	gobPath       = "/_goRPC_"
	timeoutHeader = "Ipcd-Timeout" // how long the caller will wait: "1.5s" or a number of seconds
	jsonType      = "application/json"
)

// An httpServer is a server of net/http for connections whose first bytes have already been read.
type httpServer struct {
	server *http.Server
	conns  chan net.Conn
	done   chan struct{}
	stop   sync.Once
}

// An httpConn is the stage of a connection that speaks HTTP.
type httpConn struct {
	net.Conn
	c      *connection
	early  []byte // read while detecting the protocol
	out    patientWriter
	log    *logger
	local  bool // a Unix socket or named pipe, which no browser can reach
	closed chan struct{}
	once   sync.Once

	asked   atomic.Bool             // a request has been answered
	left    atomic.Bool             // the daemon stops
	waiting atomic.Bool             // it is the peer's turn to send: a request, or the rest of one
	session atomic.Pointer[session] // of the request in progress
}

func (c *httpConn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// Write applies the write limit.
func (c *httpConn) Write(b []byte) (int, error) { return c.out.Write(b) }

// leave sets a short deadline if it is the peer's turn to send. http.Server itself closes only connections that are idle
// between requests.
func (c *httpConn) leave() {
	c.left.Store(true)
	if s := c.session.Load(); s != nil {
		s.leave()
	}
	if c.waiting.Load() {
		c.Conn.SetReadDeadline(c.lastMoment())
		if !c.waiting.Load() { // the rest has just arrived
			c.Conn.SetReadDeadline(time.Time{})
		}
	}
}

// cut answers the request in progress with f, and returns once the connection is closed.
func (c *httpConn) cut(f *fault) {
	s := c.session.Load()
	if s == nil {
		c.Conn.Close()
		return
	}
	s.cut(f)
	<-c.closed
}

// setWaiting notes whether it is the peer's turn to send.
func (c *httpConn) setWaiting(yes bool) {
	c.waiting.Store(yes)
	if yes && c.left.Load() {
		c.Conn.SetReadDeadline(c.lastMoment())
	}
}

// lastMoment returns the read deadline of a connection while the daemon stops.
func (c *httpConn) lastMoment() time.Time { return time.Now().Add(patience(c.asked.Load())) }

// SetReadDeadline is called by http.Server only, for the header of a request. The header must be complete in the time
// for a message, or in less while the daemon stops.
func (c *httpConn) SetReadDeadline(t time.Time) error {
	soon := time.Now().Add(c.c.limits.Message)
	if t.IsZero() || t.Before(soon) {
		return c.Conn.SetReadDeadline(t)
	}
	err := c.Conn.SetReadDeadline(soon)
	if c.left.Load() { // checked last, so that a leave in between is not undone
		err = c.Conn.SetReadDeadline(c.lastMoment())
	}
	return err
}

// Close closes the connection, which also ends serveHTTP.
func (c *httpConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

const httpConnKey contextKey = 1 + iota

// newHTTPServer starts an HTTP server that gets its connections from serveHTTP, not from a socket.
func newHTTPServer(log *logger) *httpServer {
	w := &httpServer{conns: make(chan net.Conn), done: make(chan struct{})}
	w.server = &http.Server{
		Handler:           http.HandlerFunc(handleHTTP),
		ReadHeaderTimeout: headerWait,
		MaxHeaderBytes:    maxHTTPHeader,
		ErrorLog:          log.standard(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, httpConnKey, c)
		},
	}
	go w.server.Serve(w)
	return w
}

// serveHTTP speaks HTTP until the connection is closed. in has the bytes that have already been read.
func (c *connection) serveHTTP(in *input) {
	h := &httpConn{c: c, Conn: c.Conn, early: in.take(), log: c.log, local: c.endpoint.isLocal(), closed: make(chan struct{})}
	h.out = newPatientWriter(c.Conn, c.limits.Write)
	h.waiting.Store(true)
	c.enter(h)
	select {
	case c.server.http.conns <- h:
		<-h.closed
	case <-c.server.http.done:
		h.Close()
	}
}

// Accept implements net.Listener: w is the listener of its own http.Server.
func (w *httpServer) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *httpServer) Close() error {
	w.stop.Do(func() { close(w.done) })
	return nil
}

// Addr implements net.Listener.
func (w *httpServer) Addr() net.Addr { return &net.UnixAddr{Name: "http", Net: "unix"} }

// leave closes the connections that are idle between requests, and each of the others after its next answer.
func (w *httpServer) leave() { w.server.SetKeepAlivesEnabled(false) }

// end waits until all connections are closed or ctx ends. New connections are closed at once.
func (w *httpServer) end(ctx context.Context) error { return w.server.Shutdown(ctx) }

// cut closes all connections.
func (w *httpServer) cut() { w.server.Close() }

// routes are the paths that are served. The patterns have no HTTP methods: the handlers check those, so that all errors
// have the same form.
var routes = func() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(c *httpConn, rw http.ResponseWriter, r *http.Request){
		"/healthz":          (*httpConn).health,
		"/rpc":              (*httpConn).rpc,
		"/call/{method...}": (*httpConn).call,
		"/":                 (*httpConn).notFound,
	} {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) { serve(httpConnOf(r), rw, r) })
	}
	return mux
}()

func httpConnOf(r *http.Request) *httpConn { return r.Context().Value(httpConnKey).(*httpConn) }

func handleHTTP(rw http.ResponseWriter, r *http.Request) {
	c := httpConnOf(r)
	c.Conn.SetReadDeadline(time.Now().Add(c.c.limits.Message)) // for the body, even if nobody reads it
	c.setWaiting(true)
	defer func() { // for the next request
		c.asked.Store(true)
		c.setWaiting(true)
	}()
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ProtoMajor != 1 { // the preface of HTTP/2, which net/http passes on as a request
		rw.Header().Set("Connection", "close")
		c.problem(rw, http.StatusHTTPVersionNotSupported, &fault{Code: codeInvalid, Text: "HTTP/1.1 is spoken here"})
		return
	}
	if status, why := c.foreign(r); status != 0 {
		c.log.warn("an HTTP request was refused", "reason", why, "host", r.Host, "origin", r.Header.Get("Origin"))
		c.problem(rw, status, &fault{Code: codeDenied, Text: why})
		return
	}
	switch {
	case c.c.endpoint.Proto == protoEcho:
		c.log.info("receive", "method", r.Method, "url", r.URL.String())
		io.WriteString(rw, r.URL.String())
		c.log.info("send", "url", r.URL.String())
	case r.Method == http.MethodConnect:
		c.connect(rw, r)
	case r.URL.Path != "*" && r.URL.Path != path.Clean("/"+r.URL.Path): // ServeMux would redirect
		c.notFound(rw, r)
	default:
		routes.ServeHTTP(rw, r)
	}
}

func (c *httpConn) notFound(rw http.ResponseWriter, _ *http.Request) {
	c.problem(rw, http.StatusNotFound, &fault{Code: codeNoMethod, Text: "there is /rpc, /call/Service.Method and /healthz"})
}

// foreign refuses what a web page from elsewhere could make a browser send: a request to a name that was made to point
// here (DNS rebinding), a request to another origin, a form. No browser sends a Content-Type of JSON to another origin
// without a preflight request (Fetch standard, CORS), and we never grant one. It returns 0 for any other request.
func (c *httpConn) foreign(r *http.Request) (status int, why string) {
	if r.Method == http.MethodConnect && r.Host == "" {
		r.Host = r.URL.Host
	}
	if !c.local && !isLoopbackHost(r.Host) && r.Method != http.MethodConnect {
		return http.StatusForbidden, "the Host is not this machine's; use localhost, 127.0.0.1 or [::1]"
	}
	for _, name := range []string{"Origin", "Referer"} {
		value := r.Header.Get(name)
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" || u.Host != r.Host {
			return http.StatusForbidden, "the " + name + " is not this daemon's own"
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return http.StatusForbidden, "a page of another site may not call"
	}
	return 0, ""
}

// isLoopbackHost reports whether a Host can only mean this machine.
func isLoopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// health answers load balancers and people: 200 while the daemon accepts calls, 503 once it stops.
func (c *httpConn) health(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		c.wrongMethod(rw, "GET, HEAD")
	case c.left.Load():
		c.problem(rw, http.StatusServiceUnavailable, errShuttingDown)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(rw, "ok\n")
	}
}

// connect turns the connection into one for net/rpc. The status line is the one that rpc.DialHTTP expects.
func (c *httpConn) connect(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != gobPath {
		c.problem(rw, http.StatusNotFound, &fault{Code: codeNoMethod, Text: "CONNECT is for net/rpc and its path is " + gobPath})
		return
	}
	conn, rest, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		c.log.warn("a CONNECT failed", "error", err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.0 200 Connected to Go RPC\n\n"); err != nil {
		return
	}
	early, _ := rest.Reader.Peek(rest.Reader.Buffered())
	in := c.c.newInput(conn)
	in.preload(early)
	c.c.converseIn(c, in, protocolOf(protoGob).codec(in, *c.c.limits, sideServing))
}

// rpc answers JSON-RPC: a request, a batch, or several of them back to back. If a call fails the status is still 200,
// and the error is in the answer. The status is 400 for a body that is not JSON-RPC, 413 for one that is too large, and
// 204 if there is nothing to answer.
func (c *httpConn) rpc(rw http.ResponseWriter, r *http.Request) {
	if !c.acceptable(rw, r) {
		return
	}
	body := c.bodyOf(r)
	in := c.c.newInput(body)
	defer in.close()
	stream := newEventStream(rw, r)
	framed := framingValue
	if stream != nil {
		framed = framingEvent
	}
	watch := &firstFault{codec: newJSONCodec(in, *c.c.limits, framed)}
	if stream != nil {
		stream.status = watch.status
		watch.stream = true
	}
	answer, f := c.exchange(r, watch, in, body, stream)
	switch {
	case f != nil:
		c.problem(rw, statusOf(f), f)
	case stream != nil && stream.begun.Load():
	case len(answer) == 0:
		rw.WriteHeader(http.StatusNoContent)
	default:
		rw.Header().Set("Content-Type", jsonType)
		rw.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		rw.WriteHeader(watch.status())
		rw.Write(answer)
	}
}

// call answers a single call, whose method is in the path and whose argument is the body.
func (c *httpConn) call(rw http.ResponseWriter, r *http.Request) {
	if !c.acceptable(rw, r) {
		return
	}
	timeout, f := parseTimeout(r.Header.Get(timeoutHeader))
	if f != nil {
		c.problem(rw, http.StatusBadRequest, f)
		return
	}
	body := c.bodyOf(r)
	in := c.c.newInput(body)
	defer in.close()
	bare := &bareCodec{in: in, limits: *c.c.limits, method: r.PathValue("method"), timeout: timeout, stream: newEventStream(rw, r)}
	answer, f := c.exchange(r, bare, in, body, bare.stream)
	if f == nil {
		f = bare.fault
	}
	switch {
	case f != nil:
		c.problem(rw, statusOf(f), f)
	case bare.stream != nil:
	default:
		rw.Header().Set("Content-Type", jsonType)
		rw.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		rw.Write(answer)
	}
}

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
	defer context.AfterFunc(r.Context(), func() { s.cut(errCancelled) })()
	go s.serve()
	stream.await(s)
	s.out.drain()
	if most := body.answers.most; body.answers.over.Load() {
		return nil, tooLarge("max_message", int64(most), "the answers to the body are too long together")
	}
	return body.answers.Bytes(), nil
}

// An eventStream is the answer to a request whose caller accepts server-sent events: HTML standard, section 9.2. It is
// nil for an answer that is sent as a whole.
type eventStream struct {
	rw     http.ResponseWriter
	status func() int  // the status to begin with; nil for 200
	begun  atomic.Bool // something is to be sent, so that any later failure has to be an event
	headed bool        // the header has been sent
}

const eventType = "text/event-stream"

// aliveEvery is how long a stream may be silent: proxies close what they take for dead after 30 s or more.
const aliveEvery = 15 * time.Second

// newEventStream returns a stream for the answer to r if its Accept names the type of one, and nil otherwise.
func newEventStream(rw http.ResponseWriter, r *http.Request) *eventStream {
	for _, accepted := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		mediaType, params, err := mime.ParseMediaType(accepted)
		if weight, said := params["q"]; err != nil || mediaType != eventType || said && strings.Trim(weight, "0.") == "" {
			continue // RFC 9110, section 12.4.2: a weight of 0 is a refusal
		}
		return &eventStream{rw: rw}
	}
	return nil
}

// Write sends events, and before the first one the header.
func (e *eventStream) Write(b []byte) (int, error) {
	if !e.headed {
		e.headed = true
		e.begun.Store(true)
		e.rw.Header().Set("Content-Type", eventType)
		e.rw.Header().Set("Cache-Control", "no-store")
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
	left    int // how many more bytes may come
	answers answers
}

// bodyOf returns the body of r. handleHTTP has set the deadline for its arrival.
func (c *httpConn) bodyOf(r *http.Request) *requestBody {
	most := c.c.limits.MaxMessage
	return &requestBody{src: r.Body, conn: c, left: most, answers: answers{most: maxAnswers * most}}
}

// Read implements io.Reader. Its errors are faults, except io.EOF and io.ErrUnexpectedEOF.
func (b *requestBody) Read(p []byte) (int, error) {
	l := b.conn.c.limits
	if b.answers.over.Load() {
		return 0, io.EOF
	}
	n, err := b.src.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, tooLarge("max_message", int64(l.MaxMessage), "the body is too large")
	}
	switch {
	case err == nil:
	case err == io.EOF:
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

// acceptable checks a request before its body is read. If it returns false, it has answered the request.
func (c *httpConn) acceptable(rw http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost {
		c.wrongMethod(rw, "POST")
		return false
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != jsonType && !c.local {
		c.problem(rw, http.StatusUnsupportedMediaType, &fault{Code: codeInvalid, Text: "the Content-Type must be " + jsonType})
		return false
	}
	if r.ContentLength > int64(c.c.limits.MaxMessage) {
		c.log.warn("a message was refused", "limit", "max_message", "max", c.c.limits.MaxMessage)
		c.problem(rw, http.StatusRequestEntityTooLarge, tooLarge("max_message", int64(c.c.limits.MaxMessage), "the body is too large"))
		return false
	}
	return true
}

func (c *httpConn) wrongMethod(rw http.ResponseWriter, allowed string) {
	rw.Header().Set("Allow", allowed)
	c.problem(rw, http.StatusMethodNotAllowed, &fault{Code: codeInvalid, Text: "the method must be " + allowed})
}

// problem answers with a fault as JSON: {"code":...,"message":...,"data":...}.
func (c *httpConn) problem(rw http.ResponseWriter, status int, f *fault) {
	if f.data().Retry {
		rw.Header().Set("Retry-After", "1")
	}
	if status == http.StatusRequestEntityTooLarge {
		rw.Header().Set("Connection", "close") // the rest of the body is not wanted
	}
	rw.Header().Set("Content-Type", jsonType)
	rw.WriteHeader(status)
	b, _ := json.Marshal(f)
	rw.Write(append(b, '\n'))
}

// refuseHTTP answers the first request of a connection that is refused.
func refuseHTTP(w io.Writer, f *fault) {
	b, _ := json.Marshal(f)
	r := http.Response{
		StatusCode: statusOf(f), ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {jsonType}, "X-Content-Type-Options": {"nosniff"}},
		ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b)),
	}
	if f.data().Retry {
		r.Header.Set("Retry-After", "1")
	}
	r.Write(w)
}

// statusOf returns the HTTP status for a fault outside of JSON-RPC.
func statusOf(f *fault) int {
	switch f.Code {
	case codeParse, codeInvalid, codeBadArgument:
		return http.StatusBadRequest
	case codeDenied:
		return http.StatusForbidden
	case codeNoMethod:
		return http.StatusNotFound
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeBusy:
		return http.StatusTooManyRequests
	case codeGone:
		return http.StatusBadGateway
	case codeShuttingDown, codeCancelled:
		return http.StatusServiceUnavailable
	case codeDeadline:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// parseTimeout parses the value of timeoutHeader.
func parseTimeout(text string) (time.Duration, *fault) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d <= 0 {
		return 0, faultf(codeInvalid, "%s: %q is not a duration such as 1.5s", timeoutHeader, shorten(text, 40))
	}
	return d, nil
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
	var f *fault
	if errors.As(err, &f) && (f.Code == codeParse || f.Code == codeTooLarge) {
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
	b := bytes.TrimSpace(c.in.bytes())
	if len(b) == 0 {
		return nil
	}
	if err := checkJSON(b, c.limits); err != nil {
		var f *fault
		if !errors.As(err, &f) {
			f = faultf(codeParse, "the body is not JSON: %w", err)
		}
		return f
	}
	switch v.(type) {
	case nil:
		return nil
	case *document:
		if err := checkPassed(b, c.limits); err != nil {
			return err
		}
	}
	return decodeBody(b, v)
}

func (c *bareCodec) prepare(body any) (any, error) { return prepareJSON(body) }

// write appends the bare result. In a stream that is the last event, after those with the parts. A fault is an event
// named "failure", since EventSource uses "error" itself.
func (c *bareCodec) write(dst []byte, m *message, body any) ([]byte, error) {
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
	case m.fault != nil && (c.stream == nil || !c.stream.begun.Load()):
		c.fault = m.fault
		return dst, nil
	case m.fault != nil:
		name = "failure"
	}
	if c.stream == nil {
		b, err := appendBody(dst, body)
		if err != nil {
			return dst, err
		}
		return append(b, '\n'), nil
	}
	b := append(append(append(dst, "event: "...), name...), "\ndata: "...)
	if m.fault != nil {
		b = appendFault(b, m.fault)
	} else {
		var err error
		if b, err = appendBody(b, body); err != nil {
			return dst, err
		}
	}
	c.stream.begun.Store(true)
	return append(b, "\n\n"...), nil
}
