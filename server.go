package main

// This file owns the listeners and what becomes of a connection: who it is, what it speaks, and
// how many there may be. How all of it ends is in drain.go.

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	goneInterval = 100 * time.Millisecond // how often a half-closed local caller is looked for
	lastWords    = time.Second            // for telling a caller that its call is cut
	maxRefusals  = 64                     // connections over the limit that are told so; more are just closed
)

// tlsAlert tells a TLS client that nobody here speaks TLS: a fatal handshake_failure
// (RFC 8446 §6). It then says so, instead of waiting.
var tlsAlert = []byte{0x15, 3, 1, 0, 2, 2, 40}

// A server owns the listeners of a daemon and all connections.
type server struct {
	*hub
	web   *web
	spare *os.File // closed to make room for one accept when descriptors run out

	inherited []net.Listener // of a service manager; those that no endpoint has claimed yet

	mu        sync.Mutex
	listeners map[*listener]struct{}
	conns     map[*connection]struct{}
	users     map[string]int // open connections by peer.key
	refusals  int
	quiet     time.Time // since when there is no connection; zero while there are some
	wg        sync.WaitGroup
}

// A listener is one endpoint that is served.
type listener struct {
	net.Listener
	endpoint  endpoint // with the real port
	transport transport
	log       *logger
}

// A connection is one that was accepted.
type connection struct {
	net.Conn
	endpoint endpoint
	peer     peer
	log      *logger
	session  *session    // nil while it is not known what is spoken, and where it is no session
	web      *webConn    // where http.Server has it
	heard    atomic.Bool // echo: something has come
}

func newServer(h *hub) *server {
	s := &server{
		hub: h, listeners: map[*listener]struct{}{}, conns: map[*connection]struct{}{},
		users: map[string]int{}, quiet: time.Now(),
	}
	s.spare, _ = os.Open(os.DevNull)
	s.web = newWeb(h, s.serveHijacked)
	return s
}

// listen opens an endpoint. Nothing is accepted before serve.
func (s *server) listen(e endpoint) (*listener, error) {
	t, ok := transports[e.Scheme]
	if !ok {
		return nil, usagef("nobody can listen at %s", e)
	}
	inner, err := s.claim(t, e)
	claimed := inner != nil
	if !claimed && err == nil {
		inner, err = t.listen(e, s.allowed())
	}
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: inner, endpoint: listenerEndpoint(e, inner), transport: t}
	l.log = s.log.with("endpoint", l.endpoint.String())
	if claimed {
		l.letIn(s.allowed())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = struct{}{}
	return l, nil
}

// claim takes the listener of e out of those that were inherited, if it is among them.
func (s *server) claim(t transport, e endpoint) (net.Listener, error) {
	if t.inherits == nil {
		return nil, nil
	}
	for i, l := range s.inherited {
		ours, err := t.inherits(e, l)
		if err != nil {
			return nil, err
		}
		if ours != nil {
			s.inherited = slices.Delete(s.inherited, i, i+1)
			return ours, nil
		}
	}
	return nil, nil
}

// letIn opens the sockets to the members of the group, and to no other group's. Where that fails,
// the service goes on without them.
func (s *server) letIn(allow group) {
	s.allow.Store(&allow)
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		l.letIn(allow)
	}
}

func (l *listener) letIn(allow group) {
	door, ok := l.Listener.(interface{ letIn(group) error })
	if !ok {
		return
	}
	if err := door.letIn(allow); err != nil {
		l.log.warn("the group cannot call", "group", allow.name, "error", err, "hint", hintFor(err))
	}
}

// unclaimed complains of inherited listeners that no endpoint has claimed: who connects there would
// wait for ever.
func (s *server) unclaimed() error {
	if len(s.inherited) == 0 {
		return nil
	}
	var names []string
	for _, l := range s.inherited {
		names = append(names, l.Addr().Network()+" "+l.Addr().String())
	}
	return usagef("the service manager passes sockets that are no endpoint of this daemon: %s", strings.Join(names, ", ")).
		withHint("name them with --listen or in the configuration, or take them out of the socket unit")
}

// endpoints lists what is served, with the real ports.
func (s *server) endpoints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for l := range s.listeners {
		list = append(list, l.endpoint.String())
	}
	return list
}

// start serves l in the background. stop waits for the end of that: a connection may be in hand.
func (s *server) start(l *listener) { s.wg.Go(func() { s.serve(l) }) }

// serve accepts until the listener is closed. Running out of descriptors or memory is
// weather: it waits, says so, and goes on.
func (s *server) serve(l *listener) {
	l.log.info("listening")
	pause := time.Duration(0)
	var warned time.Time
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.wg.Go(func() { s.handle(l, conn) })
			continue
		case errors.Is(err, net.ErrClosed) || s.draining.Load():
			return
		case !isTemporaryAccept(err):
			l.log.error("accept", "error", err)
		case time.Since(warned) > time.Second:
			warned = time.Now()
			l.log.warn("no connection can be accepted right now", "error", err)
		}
		s.turnAway(l)
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		time.Sleep(pause)
	}
}

// turnAway accepts those who wait with the spare descriptor, one after another, and closes them, so
// that they hear of it now and not when they lose patience.
func (s *server) turnAway(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spare == nil {
		s.spare, _ = os.Open(os.DevNull)
		return
	}
	deadline, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return
	}
	s.spare.Close()
	deadline.SetDeadline(time.Now().Add(time.Millisecond))
	for range maxRefusals {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		conn.Close()
		s.counts.refused.Add(1)
	}
	deadline.SetDeadline(time.Time{})
	s.spare, _ = os.Open(os.DevNull)
}

// handle serves one connection to its end.
func (s *server) handle(l *listener, raw net.Conn) {
	defer raw.Close()
	number := s.counts.accepted.Add(1)
	p, err := l.transport.identify(raw, s.limits().FirstBytes)
	c := &connection{Conn: raw, endpoint: l.endpoint, peer: p}
	c.log = l.log.with("conn", number, "peer", p.who())
	switch {
	case isTimeout(err):
		s.silent(c)
		return
	case err == nil:
		err = p.mayConnect(l.endpoint, s.allowed())
	}
	var refuse *fault
	if err != nil {
		c.log.warn("a connection was refused", "error", err)
		refuse = errDenied
	}
	if refuse == nil {
		refuse = s.admit(c)
		defer s.dismiss(c)
	}
	if refuse != nil {
		s.refuse(c, refuse)
		return
	}
	c.log.debug("connect")
	s.converse(c)
	c.log.debug("disconnect")
}

// adopt serves JSON-RPC on a channel that is there already. What it returns is closed at the end.
func (s *server) adopt(ch *channel, p peer) <-chan struct{} {
	c := &connection{Conn: ch, peer: p, log: s.log.with("endpoint", "fork", "peer", p.who())}
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		defer s.dismiss(c)
		if s.admit(c) != nil {
			return
		}
		in := newInput(ch, *s.limits())
		s.session(c, ch, in, newJSONCodec(in, *s.limits(), framingLine))
	})
	return done
}

// attend serves a connection from within this process. It is nobody's, and counts nowhere.
func (s *server) attend(conn net.Conn) {
	own, err := ownPeer()
	if err != nil {
		s.log.error("ask who we are", "error", err)
		return
	}
	s.converse(&connection{Conn: conn, peer: own, endpoint: endpoint{Proto: protoAuto}, log: s.log.with("conn", "our own")})
}

// admit counts the connection, or says which limit it goes beyond.
func (s *server) admit(c *connection) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	s.users[c.peer.key()]++
	s.counts.connections.Add(1)
	s.quiet = time.Time{}
	if s.users[c.peer.key()] > s.limits().MaxConnections {
		c.log.warn("too many connections of one user", "limit", "max_connections", "max", s.limits().MaxConnections)
		return busy("max_connections", int64(s.limits().MaxConnections), "too many connections of this user")
	}
	if s.draining.Load() { // it was accepted before, and is served
		s.drainLocked(c)
	}
	return nil
}

func (s *server) dismiss(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	key := c.peer.key()
	if s.users[key]--; s.users[key] <= 0 {
		delete(s.users, key)
	}
	if s.counts.connections.Add(-1) == 0 {
		s.quiet = time.Now()
	}
}

// refuse answers the first call with f and closes. Where too many are refused at once, the
// others are just closed.
func (s *server) refuse(c *connection, f *fault) {
	s.counts.refused.Add(1)
	s.mu.Lock()
	s.refusals++
	many := s.refusals > maxRefusals
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.refusals--
		s.mu.Unlock()
	}()
	if many {
		return
	}
	in := newInput(c.Conn, *s.limits())
	p, err := s.detect(c, in)
	switch {
	case err != nil:
		return
	case p == protoHTTP:
		c.SetWriteDeadline(time.Now().Add(s.limits().Write))
		refuseHTTP(c.Conn, f)
		return
	case p != protoGob && p != protoJSON:
		return
	}
	in.stopAt(time.Now().Add(drainSweep))
	session := newSession(s.hub, &c.peer, s.codecFor(p, in), in, c.Conn, c.log)
	session.refuse = f
	session.serve()
}

// converse finds out what is spoken and speaks it.
func (s *server) converse(c *connection) {
	in := newInput(c.Conn, *s.limits())
	if c.endpoint.Proto == protoEcho && !c.endpoint.isHTTP() {
		s.echo(c)
		return
	}
	p, err := s.detect(c, in)
	switch {
	case err == io.EOF:
		return
	case isTimeout(err):
		s.silent(c)
		return
	case err != nil:
		c.log.debug("read the first bytes", "error", err)
		return
	}
	c.log = c.log.with("proto", string(p))
	switch p {
	case protoTLS:
		c.log.warn("the peer speaks TLS, which this endpoint does not")
		c.SetWriteDeadline(time.Now().Add(s.limits().Write))
		c.Conn.Write(tlsAlert)
	case protoHTTP:
		w := &webConn{hub: s.hub, Conn: c.Conn, in: in, peer: &c.peer, log: c.log, local: c.endpoint.isLocal(), echo: c.endpoint.Proto == protoEcho}
		w.waiting.Store(true)
		s.mu.Lock()
		c.web = w
		s.mu.Unlock()
		s.web.serve(w)
	default:
		s.session(c, c.Conn, in, s.codecFor(p, in))
	}
}

// silent is for a peer that has not said enough in time.
func (s *server) silent(c *connection) {
	if s.draining.Load() {
		return // it was not given the time
	}
	c.log.info("the peer said nothing that tells its protocol", "limit", "first_bytes", "max", s.limits().FirstBytes)
}

// detect waits for the first bytes and names their protocol. On an endpoint with one
// protocol, anything that is another one's for certain is still named as that.
func (s *server) detect(c *connection, in *input) (proto, error) {
	in.first(s.limits().FirstBytes)
	if s.draining.Load() { // after the other, so that a stop in between is not missed
		in.first(min(firstWords, s.limits().FirstBytes))
	}
	defer in.opened()
	for {
		p := detect(in.bytes())
		switch {
		case p == protoUnknown:
			if err := in.more(true); err != nil {
				return p, err
			}
		case c.endpoint.isHTTP() && p != protoTLS:
			return protoHTTP, nil
		case c.endpoint.Proto == protoAuto || p == protoTLS && c.endpoint.Proto != protoGob:
			return p, nil
		default:
			return c.endpoint.Proto, nil
		}
	}
}

func (s *server) codecFor(p proto, in *input) codec {
	if p == protoJSON {
		return newJSONCodec(in, *s.limits(), framingAuto)
	}
	return newGobCodec(in, *s.limits(), request)
}

// session runs the calls of one connection.
func (s *server) session(c *connection, conn net.Conn, in *input, codec codec) {
	session := newSession(s.hub, &c.peer, codec, in, conn, c.log)
	session.closed = func(err error) { s.halfway(c, session, err) }
	s.mu.Lock()
	c.session = session
	draining := s.draining.Load()
	s.mu.Unlock()
	if draining {
		session.leave()
	}
	if err := session.serve(); err != nil {
		c.log.info("a connection was cut", "error", err)
	}
}

// serveHijacked runs net/rpc on a connection that began as HTTP.
func (s *server) serveHijacked(conn net.Conn, in *input) {
	w := conn.(*webConn)
	s.mu.Lock()
	var c *connection
	for known := range s.conns {
		if known.Conn == w.Conn {
			c = known
		}
	}
	s.mu.Unlock()
	if c != nil {
		s.session(c, w, in, newGobCodec(in, *s.limits(), request))
	}
}

// halfway decides what becomes of the calls in flight when their caller sends no more. One
// that has gone takes its calls along. One that has only shut its sending side, as nc -N
// does, is still answered: a socket tells the two apart, TCP does not, and there the calls
// get the half_close limit.
func (s *server) halfway(c *connection, session *session, err error) {
	if s.draining.Load() {
		return
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.log.info("the peer was lost", "error", err)
		session.cancelAll(nil)
		return
	}
	if session.idle() {
		return
	}
	s.wg.Go(func() {
		limit := time.NewTimer(s.limits().HalfClose)
		look := time.NewTicker(goneInterval)
		defer limit.Stop()
		defer look.Stop()
		for !peerGone(c.Conn) {
			select {
			case <-session.ended:
				return
			case <-look.C:
			case <-limit.C:
				if !c.endpoint.isLocal() {
					session.cancelAll(nil)
					return
				}
			}
		}
		session.cancelAll(nil)
	})
}

// echo gives back what comes in, byte by byte, and logs what it does: the server of the
// article that ipcd began with. A peer may be silent for as long as it likes.
func (s *server) echo(c *connection) {
	c.log.info("connect")
	defer c.log.info("disconnect")
	buf := make([]byte, inputSmall)
	for {
		n, err := c.Conn.Read(buf)
		if n > 0 {
			if !c.heard.Swap(true) && s.draining.Load() {
				c.SetReadDeadline(time.Now().Add(drainSweep))
			}
			c.log.info("receive", "bytes", n)
			c.SetWriteDeadline(time.Now().Add(s.limits().Write))
			if _, err := c.Conn.Write(buf[:n]); err != nil {
				c.log.warn("send", "error", err)
				return
			}
			c.log.info("send", "bytes", n)
		}
		if err != nil {
			if err != io.EOF && !errors.Is(err, net.ErrClosed) && !(isTimeout(err) && s.draining.Load()) {
				c.log.warn("receive", "error", err)
			}
			return
		}
	}
}

// lost names an endpoint that callers no longer find, or nothing.
func (s *server) lost() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		if at, ok := l.Listener.(interface{ lost() bool }); ok && at.lost() {
			return l.endpoint.String()
		}
	}
	return ""
}

// idleFor tells for how long there has been no connection.
func (s *server) idleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet.IsZero() {
		return 0
	}
	return time.Since(s.quiet)
}
