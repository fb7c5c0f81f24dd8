package main

// This file owns one connection from accept to close: who the peer is, which protocol it speaks, and how it is refused.
// A protocol that takes over a whole connection plugs in at takers; one with a codec is a row of protocols in wire.go
// and needs nothing here. A protocol that begins as an HTTP request is a route of server_http.go.

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const goneInterval = 100 * time.Millisecond // between checks whether a half-closed local caller is still there

// tlsAlert is a fatal handshake_failure (RFC 8446 §6), so that a TLS client reports an error instead of waiting.
var tlsAlert = []byte{0x15, 3, 1, 0, 2, 2, 40}

// A connection is a connection that was accepted or adopted, with what is known about it.
type connection struct {
	net.Conn
	server   *server
	shared   *shared // the server's, or one with its own meter; see attend
	endpoint endpoint
	peer     peer
	log      *logger
	limits   *limits     // those in force when it began
	quota    *limits     // those of whoever has shown a token since, for whom it counts; nil if nobody has; of whoever reads
	seat     seat        // guarded by server.mu, as is the next one
	late     *time.Timer // closes it while it is one of server.unproven
	account  *account    // of the seat, as the next
	user     *turnUser
	idle     *time.Timer  // see watchIdleLocked; guarded by server.mu, as is the next
	leaving  bool         // it was closed to make room
	heard    atomic.Int64 // of an unknown peer: when it last said something, since the server began
	refusal  *fault       // the answer to whatever the peer asks; nil if it is served
	deaf     atomic.Bool  // nothing more can be written
	stage    stage        // guarded by server.mu; nil until the first enter
}

// handle serves one connection to its end.
func (s *server) handle(l *listener, raw net.Conn) {
	defer raw.Close()
	number := s.meter.accepted.Add(1)
	now := s.limits()
	if shaking, ok := raw.(interface{ paceBy(p pacer) }); ok {
		shaking.paceBy(s.newShakeTurn())
	}
	p, err := l.transport.identify(raw, now.FirstBytes)
	silent := isTimeout(err)
	if err == nil {
		p.on, p.proof = l.on, l.proofOn(raw, &p)
		err = s.policy().enter(&p, l.endpoint)
	}
	c := &connection{Conn: raw, server: s, shared: s.shared, endpoint: l.endpoint, peer: p, limits: s.limitsOf(&p)}
	c.log = l.log.with("conn", number, "peer", liveName{&c.peer})
	c.peer.on, c.peer.at = l.on, l.endpoint.String()
	if silent {
		c.wasSilent()
		return
	}
	if failed := (*failedHandshake)(nil); errors.As(err, &failed) {
		s.part(c, number, failed)
		return
	}
	if err != nil {
		c.refusal = errDenied
		if told := (turned{}); errors.As(err, &told) {
			c.refusal = told.fault
		}
		c.logRefusal("a connection was refused", err)
	} else {
		c.refusal = s.admit(c)
		if c.refusal != nil {
			c.auditConnect(c.refusal, c.refusal.data().Limit)
		}
		if c.refusal == nil {
			c.auditConnect(nil, "")
			c.log.debug("connect")
			if c.peer.cert != "" && c.peer.proof.isNeeded() {
				c.log.info("no rule lets the peer in by its certificate; it may show a token")
			}
			c.tell("opened", number, nil)
			c.converse()
			c.log.debug("disconnect")
			s.dismiss(c)
			c.tell("closed", number, nil) // nothing of it is there any more
			return
		}
		defer s.dismiss(c)
	}
	c.tell("refused", number, c.refusal)
	s.refuse(c)
}

// logRefusal logs why a connection is refused, and records it.
func (c *connection) logRefusal(msg string, why error) {
	words := []any{"error", why}
	if !c.shared.audit.marks() {
		c.auditConnect(c.refusal, "")
	} else { // one line says it all
		words = append(words, "audit", 1, "action", actionConnect, "decision", "denied", "by", c.server.policy().entering(&c.peer).basis())
	}
	c.log.warn(msg, words...)
}

// auditConnect records that the peer has connected, or why it was refused; by is the limit that it has reached, if one.
func (c *connection) auditConnect(why *fault, by string) {
	a := c.shared.audit
	if !a.wants(why != nil) {
		return
	}
	e := auditEntry{peer: &c.peer, action: actionConnect, denied: why != nil, by: by}
	if why != nil {
		e.code = why.Code
	}
	if by == "" {
		e.by = c.server.policy().entering(&c.peer).basis()
	}
	a.write(&e)
}

// A ConnectionEvent is the data of the events that are published of connections.
type ConnectionEvent struct {
	Connection int64  `json:"connection"` // their number since the daemon began
	Endpoint   string `json:"endpoint"`
	Peer       string `json:"peer,omitempty"`
	Error      *fault `json:"error,omitempty"` // why it was refused
}

// tell publishes what has become of the connection.
func (c *connection) tell(what string, number int64, why *fault) {
	c.server.events.tell("connection."+what, func() any { return ConnectionEvent{number, c.endpoint.String(), c.peer.name(), why} })
	if why != nil {
		c.server.tellLimit("", &c.peer, why)
	}
}

// adopt serves JSON-RPC on a channel to p, who has started us, and could do all that we do. The result is closed when that ends.
func (s *server) adopt(ch *channel, p peer) <-chan struct{} {
	p.owns = true
	c := &connection{Conn: ch, server: s, shared: s.shared, peer: p, limits: s.limits(), log: s.log.with("endpoint", "fork", "peer", p.who())}
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		defer s.dismiss(c)
		if s.admit(c) != nil {
			return
		}
		c.auditConnect(nil, "")
		in := c.newInput(ch)
		c.converseIn(ch, in, protocolOf(protoJSON).codec(in, *c.limits, sideChannel))
	})
	return done
}

// attend serves a connection from within this process. Neither the connection nor its calls are counted.
func (s *server) attend(raw net.Conn) {
	own, err := ownPeer()
	if err != nil {
		s.log.error("look up our own user", "error", err)
		return
	}
	sh := *s.shared
	sh.meter, sh.audit = newMeter(nil), nil
	own.owns = true
	c := &connection{Conn: raw, server: s, shared: &sh, peer: own, limits: s.limits(), endpoint: endpoint{Proto: protoAuto}, log: s.log.with("conn", "our own")}
	c.converse()
}

// admit counts the connection. It returns a fault if the connection exceeds a limit; dismiss has to follow even then.
func (s *server) admit(c *connection) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	c.seat = s.seatLocked(c.peer.key(), c.limits)
	c.account, c.user = &c.seat.load.account, &c.seat.load.turns
	s.meter.connections.Add(1)
	s.quiet = time.Time{}
	if f := c.crowdedLocked(c.seat, c.limits); f != nil && !(c.peer.isUnknown() && s.makeRoomLocked(c)) {
		return f
	}
	c.watchIdleLocked()
	s.awaitProofLocked(c)
	return nil
}

// inForce returns the limits of whoever the peer is by now.
func (c *connection) inForce() *limits { return cmp.Or(c.quota, c.limits) }

// A seat is for whom a connection counts.
type seat struct {
	load *userLoad
	user string // as peer.key has it
}

// seatLocked counts one more connection of a user.
func (s *server) seatLocked(user string, l *limits) seat {
	u := s.users[user]
	if u == nil {
		u = &userLoad{account: account{budget: s.budget}}
		s.users[user] = u
	}
	u.connections++
	own := int64(0)
	if l != s.limits() { // of a [[quota]]
		own = int64(l.UserMemory)
	}
	u.account.most.Store(own)
	return seat{u, user}
}

// accountOf returns the account of a user: that of their connections, if they have any. A worker has none, and neither has whoever
// shows a token with a request of its own.
func (s *server) accountOf(p *peer) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[p.key()]; u != nil {
		return &u.account
	}
	a := &account{budget: s.budget}
	a.most.Store(int64(s.limitsOf(p).UserMemory))
	return a
}

// riseLocked counts one less.
func (s *server) riseLocked(from seat) {
	if from.load.connections--; from.load.connections <= 0 {
		delete(s.users, from.user)
	}
}

// crowdedLocked returns the refusal of a connection whose user has too many with it.
func (c *connection) crowdedLocked(at seat, l *limits) *fault {
	most := l.MaxConnections
	if at.load.connections <= most {
		return nil
	}
	c.log.warn("too many connections of one user", "limit", "max_connections", "max", most)
	return busy("max_connections", int64(most), "too many connections of this user")
}

// countFor counts a connection for whoever is its peer from then on, if they may have one more: the holder of a token that it has shown,
// or, over HTTP, whoever comes behind a request with one and shows none.
func (s *server) countFor(c *connection, who *peer) *fault {
	l := s.limitsOf(who)
	s.mu.Lock()
	defer s.mu.Unlock()
	moves := who.key() != c.seat.user
	if moves {
		next := s.seatLocked(who.key(), l)
		if f := c.crowdedLocked(next, l); f != nil {
			s.riseLocked(next)
			return f
		}
		s.riseLocked(c.seat)
		c.seat, c.account, c.user = next, &next.load.account, &next.load.turns
	}
	if who.bearer() != nil {
		c.quota = l
		s.provenLocked(c)
	} else if c.quota = nil; moves {
		s.awaitProofLocked(c)
	}
	return nil
}

func (s *server) dismiss(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.idle != nil {
		c.idle.Stop()
		c.idle = nil
	}
	s.riseLocked(c.seat)
	s.provenLocked(c)
	if s.meter.connections.Add(-1) == 0 {
		s.quiet = time.Now()
	}
	s.lastProvidersLocked()
}

// part ends a connection on which nothing can be said, since its handshake has failed.
func (s *server) part(c *connection, number int64, failed *failedHandshake) {
	if failed.silent { // it has only looked whether somebody listens
		c.log.debug("a connection was closed before its handshake")
		return
	}
	c.refusal = errDenied
	c.logRefusal("the handshake failed", failed.err)
	c.tell("refused", number, c.refusal)
	s.meter.refused.Add(1)
	if s.beginRefusal(c) {
		c.part()
	}
	s.endRefusal(c)
}

// beginRefusal counts a connection that is refused. It returns false if there are too many of them at once for an answer. endRefusal
// has to follow.
func (s *server) beginRefusal(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals++
	s.conns[c] = struct{}{} // so that its stage is told when the server stops
	return s.refusals <= maxRefusals
}

func (s *server) endRefusal(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals--
	delete(s.conns, c)
	s.lastProvidersLocked()
}

// refuse answers the first message with the refusal; the caller closes the connection. If too many are being refused at
// once, refuse does nothing.
func (s *server) refuse(c *connection) {
	s.meter.refused.Add(1)
	defer s.endRefusal(c)
	if !s.beginRefusal(c) {
		return
	}
	told := *c.shared
	told.events, told.audit = nil, nil // the refusal has been published, and recorded
	c.shared = &told
	in := c.newInput(c.Conn)
	defer in.close()
	name, err := c.detect(in)
	if err != nil {
		return
	}
	if take := takers[name]; take != nil {
		take(c, in)
	} else {
		in.stopAt(time.Now().Add(firstWords))
		refused := newSession(c.shared, &c.peer, protocolOf(name).codec(in, *c.limits, sideServing), in, c.Conn, c.limits, c.log)
		refused.finder = refuser{c.refusal, in}
		c.deaf.Store(refused.serve() != nil)
	}
	c.part()
}

// A refuser is a finder for a peer that may not call anything. Once it has been asked, nothing more is read: what came along
// with the first message is still answered.
type refuser struct {
	fault *fault
	in    *input
}

func (r refuser) find(string, *peer) (*method, *fault) {
	r.in.stopAt(time.Now())
	return nil, r.fault
}

// newInput returns an input that reads from src, which is the connection or wraps it.
func (c *connection) newInput(src io.Reader) *input { return c.charged(newInput(src, *c.limits)) }

// charged has the connection bear what in holds, and hear of what it reads.
func (c *connection) charged(in *input) *input {
	in.account = c.account
	if c.idle != nil {
		in.heard = c.hear
	}
	return in
}

// takers serve the protocols that take over a whole connection. Those without a row have a codec.
var takers map[proto]func(c *connection, in *input)

func init() { // a literal would be an initialization cycle
	takers = map[proto]func(c *connection, in *input){protoHTTP: (*connection).serveHTTP, protoTLS: (*connection).refuseTLS}
}

// converse detects the protocol and serves the connection.
func (c *connection) converse() {
	if c.endpoint.Proto == protoEcho && !c.endpoint.isHTTP() {
		c.serveEcho()
		c.part()
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
	} else {
		c.converseIn(c.Conn, in, protocolOf(name).codec(in, *c.limits, sideServing))
	}
	c.part()
}

// wasSilent logs that a peer has not sent enough in time to show its protocol.
func (c *connection) wasSilent() {
	c.shared.meter.reach("first_bytes")
	c.log.info("the peer did not begin to speak in time", "limit", "first_bytes", "max", c.limits.FirstBytes)
}

// refuseTLS refuses a peer that expects TLS.
func (c *connection) refuseTLS(*input) {
	c.log.warn("the peer speaks TLS, which this endpoint does not")
	c.SetWriteDeadline(time.Now().Add(c.limits.Write))
	c.Conn.Write(tlsAlert)
}

// converseIn runs a session on raw, which is the connection or wraps it.
func (c *connection) converseIn(raw net.Conn, in *input, speak codec) {
	s := newSession(c.shared, &c.peer, speak, in, raw, c.inForce(), c.log)
	s.left = func() bool { return peerLeft(c.Conn) }
	s.waited = c.watchUnread(s)
	s.turn.user.Store(c.user)
	s.ended = func(err error) { c.wait(s, err) }
	s.prove = func(b *bearer) *fault { return c.proveSession(s, b) }
	c.enter(s)
	if err := s.serve(); err != nil {
		c.tellEnd("a connection was cut", err)
		c.deaf.Store(true)
	}
	s.close()
}

// tellEnd logs that a connection has ended early. A caller that goes without waiting for its answers, at Ctrl-C or at a
// deadline of its own, does so as it likes, and nothing is lost.
func (c *connection) tellEnd(msg string, err error) {
	if isBrokenPipe(err) || errors.Is(err, net.ErrClosed) { // we have closed it, and said why
		c.log.debug(msg, "error", err)
		return
	}
	c.log.info(msg, "error", err)
}

// wait decides what becomes of the calls in flight when the peer sends no more.
func (c *connection) wait(s *session, err error) {
	ended := errors.Is(err, io.EOF)
	if err != nil && !ended {
		if s.out.failed() == nil { // that ends the reading, too, and is told at the end
			c.tellEnd("the connection was lost", err)
		}
		ended = errors.Is(err, io.ErrUnexpectedEOF) // whoever shuts its sending side in the middle of a message may wait for answers, too
	}
	switch {
	case err != nil && !ended:
		s.cut(nil)
	case s.idle():
	case err == nil:
		s.background(func() { c.heed(s) })
	default:
		c.server.wg.Go(func() { c.watch(s) })
	}
}

// heed reads on where the session does not, after a message that it could not read, and drops what comes, so that the calls
// of s end when their caller goes. Only that ends them: a caller who stays is answered. It returns when they are answered.
func (c *connection) heed(s *session) {
	ended := make(chan error, 1)
	go func() { ended <- c.drop(s) }()
	select {
	case err := <-ended:
		c.wait(s, err)
	case <-s.answered:
		c.SetReadDeadline(time.Now())
		<-ended
	}
}

// drop reads and drops what the peer sends until s is answered, and returns why the peer sends no more.
func (c *connection) drop(s *session) error {
	buf, turn := make([]byte, inputSmall), c.newTurn()
	for {
		c.SetReadDeadline(time.Time{}) // there may be that of the message, or of a stop
		select {
		case <-s.answered:
			return nil
		default:
		}
		err := error(nil)
		for err == nil {
			var n int
			n, err = c.Conn.Read(buf)
			turn.payFor(n)
		}
		if !isTimeout(err) || s.out.failed() != nil {
			return err
		}
	}
}

// watch cancels the calls of s if their caller, who sends no more, goes away before they are answered. One that has only
// shut down its sending side, as nc -N does, is still answered. A local socket can tell the two apart; TCP cannot, and
// there the calls get the half_close limit.
func (c *connection) watch(s *session) {
	limit := time.NewTimer(c.limits.HalfClose)
	tick := time.NewTicker(goneInterval)
	defer limit.Stop()
	defer tick.Stop()
	for over := false; !over && !c.deaf.Load() && !peerGone(c.Conn); {
		select {
		case <-s.answered:
			return
		case <-tick.C:
		case <-limit.C:
			if over = !c.endpoint.isLocal(); over {
				c.shared.meter.reach("half_close")
			}
		}
	}
	s.cut(errCancelled)
}

// watchUnread returns what has the calls of s watched once their caller has shut its sending side, behind what the reader waits to
// begin. At a local endpoint nobody need be asked: whoever has gone is seen to have.
func (c *connection) watchUnread(s *session) func() {
	if c.endpoint.isLocal() {
		return nil
	}
	watched := false // of the reader
	return func() {
		if !watched && inputShut(c.Conn) {
			watched = true
			c.server.wg.Go(func() { c.watch(s) })
		}
	}
}

// lookAfter is watch for a caller that has sent so much behind what s answers that its end is not in sight.
func (c *connection) lookAfter(s *session) {
	tick := time.NewTicker(goneInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.answered:
			return
		case <-tick.C:
		}
		switch {
		case peerLeft(c.Conn):
			s.cut(errCancelled)
			return
		case inputShut(c.Conn):
			c.watch(s)
			return
		}
	}
}
