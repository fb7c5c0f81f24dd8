package main

// This file owns what becomes of one connection: who it is, what it speaks, and what is said to one that
// is not served.

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// tlsAlert tells a TLS client that nobody here speaks TLS: a fatal handshake_failure
// (RFC 8446 §6). It then says so, instead of waiting.
var tlsAlert = []byte{0x15, 3, 1, 0, 2, 2, 40}

// A connection is one that was accepted.
type connection struct {
	net.Conn
	endpoint endpoint
	peer     peer
	log      *logger
	hub      *hub        // where its calls count; nil for the server's
	session  *session    // nil while it is not known what is spoken, and where it is no session
	web      *webConn    // where http.Server has it
	heard    atomic.Bool // echo: something has come
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

// attend serves a connection from within this process. It is nobody's, and counts nowhere: its hub is the
// server's but for the counts, which are thrown away.
func (s *server) attend(conn net.Conn) {
	own, err := ownPeer()
	if err != nil {
		s.log.error("ask who we are", "error", err)
		return
	}
	apart := &hub{router: s.router, log: s.log, foreman: s.foreman}
	apart.inForce.Store(s.limits())
	s.converse(&connection{hub: apart, Conn: conn, peer: own, endpoint: endpoint{Proto: protoAuto}, log: s.log.with("conn", "our own")})
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
	session := newSession(cmp.Or(c.hub, s.hub), &c.peer, codec, in, conn, c.log)
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
