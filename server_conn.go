package main

// This file owns what becomes of one connection: who it is, what it speaks, and what is said to one that
// is not served. A protocol that takes a whole connection plugs in at takers; one that has a codec is a row of
// protocols in wire.go alone.

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const goneInterval = 100 * time.Millisecond // how often a half-closed local caller is looked for

// tlsAlert tells a TLS client that nobody here speaks TLS: a fatal handshake_failure
// (RFC 8446 §6). It then says so, instead of waiting.
var tlsAlert = []byte{0x15, 3, 1, 0, 2, 2, 40}

// A connection is one that was accepted.
type connection struct {
	net.Conn
	server   *server
	shared   *shared // the server's, but for a connection that is not counted
	endpoint endpoint
	peer     peer
	log      *logger
	limits   *limits // those of its beginning
	account  *account
	stage    stage // guarded by server.mu; nil where it has yet to be known who it is
}

// A stage is what has a connection now: the look at its first bytes, an echo, HTTP, a session.
type stage interface {
	leave()       // the daemon stops: what is owed is still said
	cut(f *fault) // it ends now; f is what callers are told, as far as they read it
}

// enter gives the connection to a stage. It alone knows that the daemon stops: a stage that is entered late
// leaves at once.
func (c *connection) enter(next stage) {
	c.server.mu.Lock()
	c.stage = next
	stopping := c.server.stopping
	c.server.mu.Unlock()
	if stopping {
		next.leave()
	}
}

// handle serves one connection to its end.
func (s *server) handle(l *listener, raw net.Conn) {
	defer raw.Close()
	number := s.meter.accepted.Add(1)
	now := s.limits()
	p, err := l.transport.identify(raw, now.FirstBytes)
	c := &connection{Conn: raw, server: s, shared: s.shared, endpoint: l.endpoint, peer: p, limits: now}
	c.log = l.log.with("conn", number, "peer", p.who())
	switch {
	case isTimeout(err):
		c.wasSilent()
		return
	case err == nil:
		err = p.mayConnect(l.endpoint, s.allowed())
	}
	var refusal *fault
	if err != nil {
		c.log.warn("a connection was refused", "error", err)
		refusal = errDenied
	}
	if refusal == nil {
		refusal = s.admit(c)
		defer s.dismiss(c)
	}
	if refusal != nil {
		s.refuse(c, refusal)
		return
	}
	c.log.debug("connect")
	c.converse()
	c.log.debug("disconnect")
}

// adopt serves JSON-RPC on a channel that is there already. What it returns is closed at the end.
func (s *server) adopt(ch *channel, p peer) <-chan struct{} {
	c := &connection{Conn: ch, server: s, shared: s.shared, peer: p, limits: s.limits(), log: s.log.with("endpoint", "fork", "peer", p.who())}
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		defer s.dismiss(c)
		if s.admit(c) != nil {
			return
		}
		in := c.newInput(ch)
		c.converseIn(ch, in, protocolOf(protoJSON).codec(in, *c.limits, sideChannel))
	})
	return done
}

// attend serves a connection from within this process. It is nobody's, and neither it nor its calls count
// anywhere.
func (s *server) attend(raw net.Conn) {
	own, err := ownPeer()
	if err != nil {
		s.log.error("ask who we are", "error", err)
		return
	}
	sh := *s.shared
	sh.meter = &meter{}
	c := &connection{Conn: raw, server: s, shared: &sh, peer: own, limits: s.limits(), endpoint: endpoint{Proto: protoAuto}, log: s.log.with("conn", "our own")}
	c.converse()
}

// admit counts the connection, or says which limit it goes beyond.
func (s *server) admit(c *connection) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	u := s.users[c.peer.key()]
	if u == nil {
		u = &userLoad{}
		s.users[c.peer.key()] = u
	}
	u.connections++
	c.account = &u.account
	s.meter.connections.Add(1)
	s.quiet = time.Time{}
	if u.connections > c.limits.MaxConnections {
		c.log.warn("too many connections of one user", "limit", "max_connections", "max", c.limits.MaxConnections)
		return busy("max_connections", int64(c.limits.MaxConnections), "too many connections of this user")
	}
	return nil
}

func (s *server) dismiss(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	key := c.peer.key()
	u := s.users[key]
	if u.connections--; u.connections <= 0 {
		delete(s.users, key)
	}
	if s.meter.connections.Add(-1) == 0 {
		s.quiet = time.Now()
	}
}

// refuse answers the first call with f and closes. Where too many are refused at once, the
// others are just closed.
func (s *server) refuse(c *connection, f *fault) {
	s.meter.refused.Add(1)
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
	in := c.newInput(c.Conn)
	defer in.close()
	name, err := c.detect(in)
	switch {
	case err != nil:
		return
	case name == protoHTTP:
		c.SetWriteDeadline(time.Now().Add(c.limits.Write))
		refuseHTTP(c.Conn, f)
		return
	}
	speak := protocolOf(name).codec
	if speak == nil {
		return
	}
	in.stopAt(time.Now().Add(drainSweep))
	refused := newSession(c.shared, &c.peer, speak(in, *c.limits, sideServing), in, c.Conn, c.limits, c.log)
	refused.finder = refuser{f}
	refused.serve()
}

// A refuser is a finder for a peer that may call nothing.
type refuser struct{ f *fault }

func (r refuser) find(string, *peer) (*method, *fault) { return nil, r.f }

// newInput reads from src, which is the connection or what it has become.
func (c *connection) newInput(src io.Reader) *input {
	in := newInput(src, *c.limits)
	in.account = c.account
	return in
}

// takers serve the protocols that take a whole connection.
var takers map[proto]func(c *connection, in *input)

func init() { // a literal would refer to itself
	takers = map[proto]func(c *connection, in *input){protoHTTP: (*connection).serveHTTP, protoTLS: (*connection).refuseTLS}
}

// converse finds out what is spoken and speaks it.
func (c *connection) converse() {
	if c.endpoint.Proto == protoEcho && !c.endpoint.isHTTP() {
		c.serveEcho()
		return
	}
	in := c.newInput(c.Conn)
	defer in.close()
	name, err := c.detect(in)
	switch {
	case err == io.EOF:
		return
	case isTimeout(err):
		c.wasSilent()
		return
	case err != nil:
		c.log.debug("read the first bytes", "error", err)
		return
	}
	c.log = c.log.with("proto", string(name))
	if take := takers[name]; take != nil {
		take(c, in)
		return
	}
	c.converseIn(c.Conn, in, protocolOf(name).codec(in, *c.limits, sideServing))
}

// wasSilent is for a peer that has not said enough in time.
func (c *connection) wasSilent() {
	c.log.info("the peer said nothing that tells its protocol", "limit", "first_bytes", "max", c.limits.FirstBytes)
}

// refuseTLS is for one who takes this endpoint for one with TLS.
func (c *connection) refuseTLS(*input) {
	c.log.warn("the peer speaks TLS, which this endpoint does not")
	c.SetWriteDeadline(time.Now().Add(c.limits.Write))
	c.Conn.Write(tlsAlert)
}

// A look is the stage of a connection whose protocol is not known yet.
type look struct {
	c    *connection
	in   *input
	left atomic.Bool
}

func (l *look) leave() {
	l.left.Store(true)
	l.in.first(min(firstWords, l.c.limits.FirstBytes))
}

func (l *look) cut(*fault) { l.c.Conn.Close() }

// detect waits for the first bytes and names their protocol. On an endpoint with one
// protocol, anything that is another one's for certain is still named as that. A peer that was not given
// its time because the daemon stops has left: io.EOF.
func (c *connection) detect(in *input) (proto, error) {
	in.first(c.limits.FirstBytes)
	stage := &look{c: c, in: in}
	c.enter(stage)
	defer in.opened()
	for {
		name := detect(in.bytes())
		switch {
		case name == protoUnknown:
			if err := in.more(true); err != nil {
				if isTimeout(err) && stage.left.Load() {
					err = io.EOF
				}
				return name, err
			}
		case c.endpoint.isHTTP() && name != protoTLS:
			return protoHTTP, nil
		case c.endpoint.Proto == protoAuto || name == protoTLS && c.endpoint.Proto != protoGob:
			return name, nil
		default:
			return c.endpoint.Proto, nil
		}
	}
}

// converseIn runs the calls of the connection, which is raw by now or what it has become.
func (c *connection) converseIn(raw net.Conn, in *input, speak codec) {
	s := newSession(c.shared, &c.peer, speak, in, raw, c.limits, c.log)
	s.ended = func(err error) { c.wait(s, err) }
	c.enter(s)
	if err := s.serve(); err != nil {
		c.log.info("a connection was cut", "error", err)
	}
	s.close()
}

// wait decides what becomes of the calls in flight when their caller sends no more. One
// that has gone takes its calls along. One that has only shut its sending side, as nc -N
// does, is still answered: a socket tells the two apart, TCP does not, and there the calls
// get the half_close limit.
func (c *connection) wait(s *session, err error) {
	if err != nil && !errors.Is(err, io.EOF) {
		c.log.info("the peer was lost", "error", err)
		s.cut(nil)
		return
	}
	if s.idle() {
		return
	}
	c.server.wg.Go(func() {
		limit := time.NewTimer(c.limits.HalfClose)
		again := time.NewTicker(goneInterval)
		defer limit.Stop()
		defer again.Stop()
		for !peerGone(c.Conn) {
			select {
			case <-s.done:
				return
			case <-again.C:
			case <-limit.C:
				if !c.endpoint.isLocal() {
					s.cut(nil)
					return
				}
			}
		}
		s.cut(nil)
	})
}

// An echo is the stage of a connection that gets back what it sends.
type echo struct {
	c     *connection
	left  atomic.Bool
	heard atomic.Bool // something has come
}

func (e *echo) leave() {
	e.left.Store(true)
	e.hurry()
}

// hurry gives a peer little time: what it has sent already is given back.
func (e *echo) hurry() {
	for heard := e.heard.Load(); ; heard = true { // the first bytes may come just now
		e.c.SetReadDeadline(time.Now().Add(map[bool]time.Duration{false: firstWords, true: drainSweep}[heard]))
		if heard == e.heard.Load() {
			return
		}
	}
}

func (e *echo) cut(*fault) { e.c.Conn.Close() }

// serveEcho gives back what comes in, byte by byte, and logs what it does: the server of the
// article that ipcd began with. A peer may be silent for as long as it likes.
func (c *connection) serveEcho() {
	c.log.info("connect")
	defer c.log.info("disconnect")
	e := &echo{c: c}
	c.enter(e)
	buf := make([]byte, inputSmall)
	for {
		n, err := c.Conn.Read(buf)
		if n > 0 {
			if !e.heard.Swap(true) && e.left.Load() {
				e.hurry()
			}
			c.log.info("receive", "bytes", n)
			c.SetWriteDeadline(time.Now().Add(c.limits.Write))
			if _, err := c.Conn.Write(buf[:n]); err != nil {
				c.log.warn("send", "error", err)
				return
			}
			c.log.info("send", "bytes", n)
		}
		if err != nil {
			if err != io.EOF && !errors.Is(err, net.ErrClosed) && !(isTimeout(err) && e.left.Load()) {
				c.log.warn("receive", "error", err)
			}
			return
		}
	}
}
