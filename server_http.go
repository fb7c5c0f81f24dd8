package main

// This file owns what is spoken over HTTP: JSON-RPC by POST, a bare call by POST, events by GET, the health check, and the
// CONNECT with which Go's rpc.DialHTTP begins. Who calls is server_http_proof.go, and what is refused before it is looked at further server_http_refuse.go.
// A new path is a row of routes. The bodies of calls and their answers are in server_http_body.go, the forms of answers that come bit by bit in
// server_http_stream.go. See RFC 9110.

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
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
	rpcPath       = "/rpc"
	callPath      = "/call/" // and the name of the method
	metricsPath   = "/metrics"
	healthPath    = "/healthz"
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
	c     *connection
	early []byte // read while detecting the protocol, or ahead
	out   patientWriter
	log   *logger
	local bool // a Unix socket or named pipe, which no browser can reach

	caller *peer // who makes the request in progress

	mu     sync.Mutex    // held while a read deadline is set for net/http
	closed chan struct{} // closed, under mu, when net/http is done with the connection

	framing framingWatch

	turn turn // of whatever serves the connection, but for a session, which has one of its own

	asked   atomic.Bool // a request has been answered
	left    atomic.Bool // the daemon stops
	over    atomic.Bool // the peer sends no more
	adrift  atomic.Bool // net/http reads no more: nobody knows where the next request begins
	waiting atomic.Bool // it is the peer's turn to send: a request, or the rest of one
	passed  atomic.Bool // a session reads, or is about to

	beat // of the request in progress
}

// Read ends the turn, and takes it again for whoever gets what has arrived. net/http reads a single byte while a request is served,
// to learn that the caller has gone.
func (c *httpConn) Read(b []byte) (n int, err error) {
	defer func() { c.framing.look(b[:n]) }()
	switch {
	case len(b) == 1:
		return c.readAhead(b)
	case c.passed.Load():
		return c.read(b)
	}
	c.turn.end()
	if n, err = c.read(b); n > 0 {
		c.turn.take(nil)
	}
	return n, err
}

// readAhead reads the first byte of the next request, and what comes behind it, as far as that is little: the end of a caller who has
// gone is behind that. net/http interrupts it once the answer has been sent.
func (c *httpConn) readAhead(b []byte) (n int, err error) {
	n, err = c.read(b)
	for n > 0 && err == nil && len(c.early) < inputSmall {
		more := 0
		c.early = slices.Grow(c.early, inputSmall)
		more, err = c.receive(c.early[len(c.early):inputSmall])
		c.early = c.early[:len(c.early)+more]
	}
	if s := c.session.Load(); s != nil && err == nil && n > 0 { // nobody reads as long as that is served
		go c.c.lookAfter(s)
	}
	if n > 0 && isTimeout(err) {
		err = nil
	}
	return n, err
}

func (c *httpConn) read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.receive(b)
}

// receive reads from the connection itself.
func (c *httpConn) receive(b []byte) (int, error) {
	if c.adrift.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.c.hear()
	}
	if err != nil && !isTimeout(err) {
		c.over.Store(true)
		c.lose()
	}
	if c.isClosed() {
		return 0, net.ErrClosed // nobody answers what has come since; see parting
	}
	return n, err
}

// Write applies the write limit.
func (c *httpConn) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	if err != nil {
		c.c.deaf.Store(true)
		c.lose()
	}
	return n, err
}

// lose has somebody see whether the caller is still there, who sends or takes no more, if a request of theirs is in progress.
func (c *httpConn) lose() {
	if s := c.session.Load(); s != nil {
		go c.c.watch(s)
	}
}

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

// seize takes the request in progress. tell answers it with f, and returns once the connection is closed.
func (c *httpConn) seize(f *fault) (tell func()) {
	s := c.session.Load()
	if s == nil {
		return func() { c.Conn.Close() }
	}
	answer := s.seize(f)
	return func() {
		answer()
		<-c.closed
	}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed() {
		return net.ErrClosed // the deadlines are the parting's now
	}
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

// SetWriteDeadline is called by http.Server only, to lift the deadline behind each answer. It would be lifted for the next one, too:
// out, which sets the deadlines, does not renew one that is young.
func (c *httpConn) SetWriteDeadline(time.Time) error { return nil }

// Close ends serveHTTP. The parting follows, and with it the end of the connection.
func (c *httpConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	shut(c.closed)
	return nil
}

// CloseWrite is called by http.Server before it waits for a moment, reading nothing, and then calls Close.
func (c *httpConn) CloseWrite() error { return c.Close() }

func (c *httpConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

const httpConnKey contextKey = 1 + iota

// newHTTPServer starts an HTTP server that gets its connections from serveHTTP, not from a socket.
func newHTTPServer(log *logger) *httpServer {
	w := &httpServer{conns: make(chan net.Conn), done: make(chan struct{})}
	w.server = &http.Server{
		Handler:                      http.HandlerFunc(handleHTTP),
		DisableGeneralOptionsHandler: true, // so that every request passes the same checks
		ReadHeaderTimeout:            headerWait,
		MaxHeaderBytes:               maxHTTPHeader,
		ErrorLog:                     log.standard(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, httpConnKey, c)
		},
	}
	go w.server.Serve(w)
	return w
}

// serveHTTP speaks HTTP until net/http is done with the connection. in has the bytes that have already been read, which may
// begin with empty lines: RFC 9112, section 2.2.
func (c *connection) serveHTTP(in *input) {
	early := bytes.TrimLeft(in.take(), jsonSpace)
	in.close()
	h := &httpConn{c: c, caller: &c.peer, Conn: c.Conn, early: early, log: c.log, local: c.endpoint.isLocal(), closed: make(chan struct{})}
	h.out.begins(c.Conn, c.limits)
	h.out.late = c.shared.tellLate(&c.peer)
	h.turn.foreman = c.shared.foreman
	h.turn.user.Store(c.user)
	h.waiting.Store(true)
	c.enter(h)
	defer h.turn.end()
	if c.refusal != nil {
		h.leave()
	}
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

// routes are the paths that are served; one that ends in a slash stands for all below it. The handlers check the HTTP method, so that
// all errors have the same form.
var routes map[string]func(c *httpConn, rw http.ResponseWriter, r *http.Request)

func init() { // a literal would be an initialization cycle
	routes = map[string]func(c *httpConn, rw http.ResponseWriter, r *http.Request){
		healthPath:      (*httpConn).health,
		"/readyz":       (*httpConn).ready,
		metricsPath:     (*httpConn).metrics,
		pprofPath:       (*httpConn).pprof,
		pprofPath + "/": (*httpConn).pprof,
		rpcPath:         (*httpConn).rpc,
		"/":             (*httpConn).root,
		callPath:        (*httpConn).call,
		eventsPath:      (*httpConn).events,
	}
}

// route returns what serves a path.
func route(place string) func(c *httpConn, rw http.ResponseWriter, r *http.Request) {
	if serve := routes[place]; serve != nil {
		return serve
	}
	for i := strings.LastIndexByte(place, '/'); i > 0; i = strings.LastIndexByte(place[:i], '/') {
		if serve := routes[place[:i+1]]; serve != nil {
			return serve
		}
	}
	return (*httpConn).notFound
}

// root is JSON-RPC to those who post, and to others it is nothing.
func (c *httpConn) root(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		c.notFound(rw, r)
		return
	}
	c.rpc(rw, r)
}

// isRPC reports whether a request is for JSON-RPC.
func isRPC(r *http.Request) bool {
	place := plainPath(r.URL)
	return place == rpcPath || place == "/" && r.Method == http.MethodPost
}

// plainPath returns the path of a URL without the slashes that joining it from parts has left over.
func plainPath(u *url.URL) string {
	if strings.HasPrefix(u.Path, "/") && !strings.HasSuffix(u.Path, "/") && !strings.Contains(u.Path, "//") {
		return u.Path
	}
	return "/" + strings.Join(strings.FieldsFunc(u.Path, func(c rune) bool { return c == '/' }), "/")
}

func httpConnOf(r *http.Request) *httpConn { return r.Context().Value(httpConnKey).(*httpConn) }

var noSniff = []string{"nosniff"}

func handleHTTP(rw http.ResponseWriter, r *http.Request) {
	c := httpConnOf(r)
	c.Conn.SetReadDeadline(time.Now().Add(c.c.limits.Message)) // for the body, even if nobody reads it
	c.setWaiting(true)
	defer func() { // for the next request
		c.asked.Store(true)
		c.setWaiting(true)
	}()
	rw.Header()["X-Content-Type-Options"] = noSniff
	c.forget()
	if c.framing.isDoubtful(r) {
		rw.Header().Set("Connection", "close")
	}
	if status, f := c.refusal(r); f != nil {
		c.refuse(rw, r, status, f)
		return
	}
	place := plainPath(r.URL)
	if !c.admits(rw, r, place) {
		return
	}
	switch {
	case c.c.endpoint.Proto == protoEcho:
		c.log.info("receive", "method", r.Method, "url", r.URL.String())
		io.WriteString(rw, r.URL.String())
		c.log.info("send", "url", r.URL.String())
	case r.Method == http.MethodConnect:
		c.connect(rw, r)
	default:
		r.URL.Path = place
		route(place)(c, rw, r)
	}
}

// pass leaves what is to be done to a session, with a turn of its own.
func (c *httpConn) pass() {
	c.passed.Store(true)
	c.turn.end()
}

// takeBack ends pass.
func (c *httpConn) takeBack() {
	c.passed.Store(false)
	c.turn.user.Store(c.c.user) // a token may have said who it is
	c.turn.take(nil)
}

func (c *httpConn) notFound(rw http.ResponseWriter, r *http.Request) {
	c.refuse(rw, r, http.StatusNotFound, &fault{Code: codeNoMethod, Text: "there is /rpc, /call/Service.Method, /events, /healthz, /readyz and /metrics"})
}

// health answers load balancers and people: 200 while the daemon accepts calls, 503 once it stops.
func (c *httpConn) health(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		c.wrongMethod(rw, r, "GET, HEAD")
	case c.left.Load():
		c.problem(rw, r, http.StatusServiceUnavailable, errShuttingDown)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(rw, "ok\n")
	}
}

// connect turns the connection into one for net/rpc. The status line is the one that rpc.DialHTTP expects.
func (c *httpConn) connect(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != gobPath {
		c.refuse(rw, r, http.StatusNotFound, &fault{Code: codeNoMethod, Text: "CONNECT is for net/rpc and its path is " + gobPath})
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
	c.pass()
	c.c.converseIn(c, in, protocolOf(protoGob).codec(in, *c.c.limits, sideServing))
}

// rpc answers JSON-RPC: a request, a batch, or several of them back to back. If a call fails the status is still 200,
// and the error is in the answer. The status is 400 for a body that is not JSON-RPC, 413 for one that is too large, and
// 204 if there is nothing to answer. Whatever the status, a body is JSON-RPC.
func (c *httpConn) rpc(rw http.ResponseWriter, r *http.Request) {
	if !c.acceptable(rw, r) {
		return
	}
	body := c.bodyOf(r)
	defer body.answers.release()
	in := c.c.charged(newShortInput(body, *c.c.limits))
	defer in.close()
	stream := c.newStream(rw, r)
	framed := framingValue
	if stream != nil {
		framed = stream.form.messages
	}
	watch := &firstFault{codec: newJSONCodec(in, *c.c.limits, framed)}
	if stream != nil {
		stream.status = watch.status
		watch.stream = true
	}
	answer, f := c.exchange(r, watch, in, body, stream)
	if !body.whole.Load() { // net/http would wait for the rest
		c.adrift.Store(true)
		rw.Header().Set("Connection", "close")
	}
	switch {
	case f != nil:
		c.problem(rw, r, statusOf(f), f)
	case stream != nil && stream.begun.Load():
	case len(answer) == 0:
		rw.WriteHeader(http.StatusNoContent)
	default:
		sendJSON(rw, r, watch.status(), answer)
	}
}

// call answers a single call, whose method is in the path and whose argument is the body.
func (c *httpConn) call(rw http.ResponseWriter, r *http.Request) {
	if !c.acceptable(rw, r) {
		return
	}
	timeout, f := parseTimeout(r.Header.Get(timeoutHeader))
	if f != nil {
		c.refuse(rw, r, http.StatusBadRequest, f)
		return
	}
	c.bare(rw, r, &bareCodec{method: strings.TrimPrefix(r.URL.Path, callPath), timeout: timeout, stream: c.newStream(rw, r)}, c.bodyOf(r))
}

// bare answers a single call, whose argument is the body.
func (c *httpConn) bare(rw http.ResponseWriter, r *http.Request, bare *bareCodec, body *requestBody) {
	in := c.c.charged(newShortInput(body, *c.c.limits))
	defer in.close()
	defer body.answers.release()
	bare.in, bare.limits = in, *c.c.limits
	answer, f := c.exchange(r, bare, in, body, bare.stream)
	if f == nil {
		f = bare.fault
	}
	switch {
	case f != nil:
		c.problem(rw, r, statusOf(f), f)
	case bare.stream != nil:
	default:
		sendJSON(rw, r, http.StatusOK, answer)
	}
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
