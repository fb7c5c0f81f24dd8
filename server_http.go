package main

// This file owns what is spoken over HTTP: JSON-RPC by POST, a bare call by POST, the health
// check, and the CONNECT with which Go's rpc.DialHTTP begins. See RFC 9110.

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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHTTPHeader = 16 << 10              // curl sends 100 bytes, a browser 2 KiB
	headerWait    = time.Duration(oneDay) // more than any limit may be: see webConn.SetReadDeadline
	gobPath       = "/_goRPC_"
	timeoutHeader = "Ipcd-Timeout" // how long the caller will wait: "1.5s" or a number of seconds
	jsonType      = "application/json"
)

// A web speaks HTTP on the connections that are given to it.
type web struct {
	hub    *hub
	server *http.Server
	conns  chan net.Conn
	done   chan struct{}
	stop   sync.Once
	gob    func(conn net.Conn, in *input) // serves net/rpc on a connection after its CONNECT
}

// A webConn is a connection whose first bytes have been read already, with what is known
// of its peer.
type webConn struct {
	net.Conn
	in     *input
	out    patientWriter
	peer   *peer
	log    *logger
	local  bool // a socket or pipe: no browser can reach it
	echo   bool
	closed chan struct{}
	hub    *hub
	heard  atomic.Bool // a request has been answered
	// waiting is true while the peer is to send something: a request, or the rest of one.
	waiting atomic.Bool
	once    sync.Once
}

func (c *webConn) Read(b []byte) (int, error) {
	if have := c.in.bytes(); len(have) > 0 {
		n := copy(b, have)
		c.in.start += n
		return n, nil
	}
	return c.Conn.Read(b)
}

// Write holds to the write limit.
func (c *webConn) Write(b []byte) (int, error) { return c.out.Write(b) }

// waits says that the peer is to send something, or no more. Where the daemon stops, it has little
// time for that.
func (c *webConn) waits(yes bool) {
	c.waiting.Store(yes)
	if yes && c.hub.draining.Load() {
		c.Conn.SetReadDeadline(c.lastMoment())
	}
}

// lastMoment is until when a peer is heard that is to send something while the daemon stops.
func (c *webConn) lastMoment() time.Time {
	if c.heard.Load() {
		return time.Now().Add(drainSweep)
	}
	return time.Now().Add(firstWords)
}

// SetReadDeadline is for http.Server alone, which sets one for the header of a request: that has to
// be whole in the time that a message has, and in less where the daemon stops.
func (c *webConn) SetReadDeadline(t time.Time) error {
	soon := time.Now().Add(c.hub.limits().Message)
	if t.IsZero() || t.Before(soon) {
		return c.Conn.SetReadDeadline(t)
	}
	err := c.Conn.SetReadDeadline(soon)
	if c.hub.draining.Load() { // after the other, so that a stop in between is not missed
		err = c.Conn.SetReadDeadline(c.lastMoment())
	}
	return err
}

// Close tells whoever gave us the connection that it is done.
func (c *webConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

const webConnKey contextKey = 1 + iota

// newWeb starts an HTTP server without a listener: serve gives it connections.
func newWeb(h *hub, gob func(conn net.Conn, in *input)) *web {
	w := &web{hub: h, conns: make(chan net.Conn), done: make(chan struct{}), gob: gob}
	w.server = &http.Server{
		Handler:           http.HandlerFunc(w.handle),
		ReadHeaderTimeout: headerWait,
		MaxHeaderBytes:    maxHTTPHeader,
		ErrorLog:          h.log.standard(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey, c)
		},
	}
	go w.server.Serve(w)
	return w
}

// serve speaks HTTP on c until it is closed.
func (w *web) serve(c *webConn) {
	c.closed = make(chan struct{})
	c.out = newPatientWriter(c.Conn, w.hub.limits().Write)
	select {
	case w.conns <- c:
		<-c.closed
	case <-w.done:
		c.Close()
	}
}

// Accept, Close and Addr make w the listener of its own http.Server.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *web) Close() error {
	w.stop.Do(func() { close(w.done) })
	return nil
}

// Addr implements net.Listener.
func (w *web) Addr() net.Addr { return &net.UnixAddr{Name: "web", Net: "unix"} }

// leave closes the connections that wait for another request, and each of the others after the one
// that it has.
func (w *web) leave() { w.server.SetKeepAlivesEnabled(false) }

// end waits until all connections are closed, or ctx ends. New ones are closed at once.
func (w *web) end(ctx context.Context) error { return w.server.Shutdown(ctx) }

// cut closes all connections.
func (w *web) cut() { w.server.Close() }

func (w *web) handle(rw http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(webConnKey).(*webConn)
	c.Conn.SetReadDeadline(time.Now().Add(w.hub.limits().Message)) // for the body, wanted or not
	c.waits(true)
	defer func() { // for the next request
		c.heard.Store(true)
		c.waits(true)
	}()
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ProtoMajor != 1 { // the preface of HTTP/2, which net/http hands on as a request
		rw.Header().Set("Connection", "close")
		w.problem(rw, http.StatusHTTPVersionNotSupported, &fault{Code: codeInvalid, Text: "HTTP/1.1 is spoken here"})
		return
	}
	if status, why := w.foreign(c, r); status != 0 {
		c.log.warn("an HTTP request was refused", "reason", why, "host", r.Host, "origin", r.Header.Get("Origin"))
		w.problem(rw, status, &fault{Code: codeDenied, Text: why})
		return
	}
	if c.echo {
		c.log.info("receive", "method", r.Method, "url", r.URL.String())
		io.WriteString(rw, r.URL.String())
		c.log.info("send", "url", r.URL.String())
		return
	}
	path, isCall := strings.CutPrefix(r.URL.Path, "/call/")
	switch {
	case r.Method == http.MethodConnect:
		w.connect(rw, r, c)
	case r.URL.Path == "/healthz":
		w.health(rw, r)
	case r.URL.Path == "/rpc":
		w.rpc(rw, r, c)
	case isCall:
		w.call(rw, r, c, path)
	default:
		w.problem(rw, http.StatusNotFound, &fault{Code: codeNoMethod, Text: "there is /rpc, /call/Service.Method and /healthz"})
	}
}

// foreign refuses what a web page of somebody else's could make a browser send: a name that
// was made to point here (DNS rebinding), another origin, a form. No browser sends a
// Content-Type of JSON to another origin without asking first (Fetch standard, CORS), and we
// never say yes.
func (w *web) foreign(c *webConn, r *http.Request) (status int, why string) {
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

// isLoopbackHost tells a Host that can only mean this machine.
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

// health answers load balancers and people: 200 while calls are taken, 503 after.
func (w *web) health(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.wrongMethod(rw, "GET, HEAD")
	case w.hub.draining.Load():
		w.problem(rw, http.StatusServiceUnavailable, errShuttingDown)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(rw, "ok\n")
	}
}

// connect turns the connection into one of net/rpc. The status line is the one that
// rpc.DialHTTP waits for.
func (w *web) connect(rw http.ResponseWriter, r *http.Request, c *webConn) {
	if r.URL.Path != gobPath {
		w.problem(rw, http.StatusNotFound, &fault{Code: codeNoMethod, Text: "CONNECT is for net/rpc and its path is " + gobPath})
		return
	}
	conn, rest, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		c.log.warn("a CONNECT came to nothing", "error", err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.0 200 Connected to Go RPC\n\n"); err != nil {
		return
	}
	early, _ := rest.Reader.Peek(rest.Reader.Buffered())
	in := newInput(conn, *w.hub.limits())
	in.buf = append(in.buf, early...)
	w.gob(c, in)
}

// rpc answers JSON-RPC: one request or a batch, or several after one another. What went
// wrong with a call is in its answer and the status is 200; a body that is no JSON-RPC is
// 400, one that is too large 413, and where there is nothing to answer the status is 204.
func (w *web) rpc(rw http.ResponseWriter, r *http.Request, c *webConn) {
	if !w.acceptable(rw, r, c) {
		return
	}
	body := w.bodyOf(r, c)
	in := newInput(body, *w.hub.limits())
	watch := &firstFault{codec: newJSONCodec(in, *w.hub.limits(), framingValue)}
	answer, f := w.exchange(r, c, watch, in, body)
	if f != nil {
		w.problem(rw, statusOf(f), f)
		return
	}
	if len(answer) == 0 {
		rw.WriteHeader(http.StatusNoContent)
		return
	}
	rw.Header().Set("Content-Type", jsonType)
	rw.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	rw.WriteHeader(watch.status())
	rw.Write(answer)
}

// call answers one call whose method is in the path and whose argument is the whole body.
func (w *web) call(rw http.ResponseWriter, r *http.Request, c *webConn, method string) {
	if !w.acceptable(rw, r, c) {
		return
	}
	timeout, f := parseTimeout(r.Header.Get(timeoutHeader))
	if f != nil {
		w.problem(rw, http.StatusBadRequest, f)
		return
	}
	body := w.bodyOf(r, c)
	in := newInput(body, *w.hub.limits())
	codec := &bareCodec{in: in, limits: *w.hub.limits(), method: method, timeout: timeout}
	answer, f := w.exchange(r, c, codec, in, body)
	if f == nil {
		f = codec.fault
	}
	if f != nil {
		w.problem(rw, statusOf(f), f)
		return
	}
	rw.Header().Set("Content-Type", jsonType)
	rw.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	rw.Write(answer)
}

// exchange is a session as long as one HTTP request. It ends early with the caller. A method
// that goes on after its call was given up does not hold up the answer.
func (w *web) exchange(r *http.Request, c *webConn, codec codec, in *input, body *requestBody) ([]byte, *fault) {
	s := newSession(w.hub, c.peer, codec, in, &body.answers, c.log)
	s.heard = c.heard.Load()
	s.whole = !s.heard
	defer context.AfterFunc(r.Context(), func() {
		f := errCancelled
		if w.hub.draining.Load() {
			f = errCutShort
		}
		s.cancelAll(f)
	})()
	go s.serve()
	<-s.settled
	s.out.drain()
	if most := body.answers.most; body.answers.over.Load() {
		return nil, tooLarge("max_message", int64(most), "the answers to one body are too long together")
	}
	return body.answers.Bytes(), nil
}

// answers gathers the answers to one body, which all have to be there before the first is sent: the
// status and the length stand before them.
type answers struct {
	bytes.Buffer
	most int
	over atomic.Bool
}

func (a *answers) Write(b []byte) (int, error) {
	if a.Len()+len(b) > a.most {
		a.over.Store(true)
		return 0, errors.New("the answers to one body are too long together")
	}
	return a.Buffer.Write(b)
}

// A requestBody is the body of a call as a stream of bytes: no longer than a message may be, whole
// in the time that a message has, and at its end as soon as its answers are too long.
type requestBody struct {
	src     io.Reader
	conn    *webConn
	hub     *hub
	left    int // bytes that may still come
	answers answers
}

// bodyOf is the body of r, for whose arrival handle has set the deadline.
func (w *web) bodyOf(r *http.Request, c *webConn) *requestBody {
	l := w.hub.limits()
	return &requestBody{src: r.Body, conn: c, hub: w.hub, left: l.MaxMessage, answers: answers{most: maxAnswers * l.MaxMessage}}
}

// Read implements io.Reader. Its errors, other than the end, are faults.
func (b *requestBody) Read(p []byte) (int, error) {
	l := b.hub.limits()
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
		b.conn.waits(false)
		b.conn.Conn.SetReadDeadline(time.Time{}) // a call may take longer
	case isTimeout(err) && b.hub.draining.Load():
		err = errShuttingDown
	case isTimeout(err):
		err = tooLarge("message", l.Message.Milliseconds(), "the body had begun and was not whole in time")
	case err != io.ErrUnexpectedEOF:
		err = faultf(codeParse, "the body cannot be read: %w", err)
	}
	return n, err
}

// acceptable checks what a call must look like before its body is read.
func (w *web) acceptable(rw http.ResponseWriter, r *http.Request, c *webConn) bool {
	if r.Method != http.MethodPost {
		w.wrongMethod(rw, "POST")
		return false
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != jsonType && !c.local {
		w.problem(rw, http.StatusUnsupportedMediaType, &fault{Code: codeInvalid, Text: "the Content-Type must be " + jsonType})
		return false
	}
	if r.ContentLength > int64(w.hub.limits().MaxMessage) {
		c.log.warn("a message was refused", "limit", "max_message", "max", w.hub.limits().MaxMessage)
		w.problem(rw, http.StatusRequestEntityTooLarge, tooLarge("max_message", int64(w.hub.limits().MaxMessage), "the body is too large"))
		return false
	}
	return true
}

func (w *web) wrongMethod(rw http.ResponseWriter, allowed string) {
	rw.Header().Set("Allow", allowed)
	w.problem(rw, http.StatusMethodNotAllowed, &fault{Code: codeInvalid, Text: "the method must be " + allowed})
}

// problem answers with a fault as JSON: {"code":...,"message":...,"data":...}.
func (w *web) problem(rw http.ResponseWriter, status int, f *fault) {
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

// refuseHTTP answers a connection that is not served at all.
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

// statusOf is the HTTP status that a bare call gives for a fault.
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
	case codeShuttingDown, codeCancelled:
		return http.StatusServiceUnavailable
	case codeDeadline:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// parseTimeout reads the header with the caller's deadline.
func parseTimeout(text string) (time.Duration, *fault) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d <= 0 {
		return 0, faultf(codeInvalid, "%s: %q is no time such as 1.5s", timeoutHeader, shorten(text, 40))
	}
	return d, nil
}

// A firstFault remembers whether the body as a whole was no JSON-RPC. Where a connection would just
// end, in the middle of a message or without one, a body is answered.
type firstFault struct {
	codec
	whole *fault
	begun bool
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
	var f *fault
	if errors.As(err, &f) && c.whole == nil && (f.Code == codeParse || f.Code == codeTooLarge) {
		c.whole = f
	}
	return err
}

func (c *firstFault) status() int {
	if c.whole == nil {
		return http.StatusOK
	}
	return statusOf(c.whole)
}

// A bareCodec reads one call: its method comes from the URL, its argument is all of the
// input, and its answer is the bare result.
type bareCodec struct {
	in      *input
	limits  limits
	method  string
	timeout time.Duration
	begun   bool
	fault   *fault // the answer, where it is an error
}

func (c *bareCodec) read(m *message) error {
	if c.begun {
		return io.EOF
	}
	c.begun = true
	*m = message{kind: request, method: c.method, timeout: c.timeout}
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
	if v == nil {
		return nil
	}
	return decodeBody(b, v)
}

func (c *bareCodec) write(dst []byte, m *message, body any) ([]byte, error) {
	if m.fault != nil {
		c.fault = m.fault
		return dst, nil
	}
	b, err := appendBody(dst, body)
	if err != nil {
		return dst, err
	}
	return append(b, '\n'), nil
}
