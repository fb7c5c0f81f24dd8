package main

// This file owns the stages that a connection may be in besides HTTP and a session: the detection of its protocol, an echo, and the parting.

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// A stage is what owns a connection at the moment: the detection of its protocol, an echo, HTTP, a session, or the
// parting. A new kind of stage implements this and calls enter.
type stage interface {
	leave()                       // the daemon stops: finish what is owed to the peer, then end
	seize(f *fault) (tell func()) // end now: nobody else answers its calls any more; tell does, with f, as far as callers still read
}

// enter makes next the stage of the connection. If the daemon is stopping, next leaves at once; so no stage needs to
// check for that when it begins.
func (c *connection) enter(next stage) {
	c.server.mu.Lock()
	c.stage = next
	stopping := c.server.stopping
	c.server.mu.Unlock()
	if stopping {
		next.leave()
	}
}

// A detection is the stage of a connection whose protocol is not known yet.
type detection struct {
	c    *connection
	in   *input
	left atomic.Bool
}

func (d *detection) leave() {
	d.left.Store(true)
	d.in.hurry(min(firstWords, d.c.limits.FirstBytes))
}

func (d *detection) seize(*fault) func() { return func() { d.c.Conn.Close() } }

// detect waits for the first bytes and returns the protocol to speak. If the endpoint names one, that is it, whatever
// the bytes are; only TLS is still recognised, except on an endpoint for gob. If the wait is cut short because the
// daemon stops, the error is io.EOF.
func (c *connection) detect(in *input) (proto, error) {
	in.first(c.limits.FirstBytes)
	d := &detection{c: c, in: in}
	c.enter(d)
	defer in.opened()
	for {
		name := detect(in.bytes())
		switch {
		case name == protoUnknown:
			if err := in.more(true); err != nil {
				if isTimeout(err) && d.left.Load() {
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

// An echo is the stage of a connection that gets back what it sends.
type echo struct {
	c    *connection
	left atomic.Bool
	read atomic.Bool // something has been received
}

func (e *echo) leave() {
	e.left.Store(true)
	e.hurry()
}

// hurry sets a short deadline, in which what the peer has already sent is still echoed.
func (e *echo) hurry() {
	for read := e.read.Load(); ; read = true { // again if the first bytes arrived meanwhile
		e.c.SetReadDeadline(time.Now().Add(patience(read)))
		if read == e.read.Load() {
			return
		}
	}
}

func (e *echo) seize(*fault) func() { return func() { e.c.Conn.Close() } }

// serveEcho sends every byte back and logs what it does, like the server of the article that ipcd started from. A peer
// may be silent for as long as it likes, if it is known who it is.
func (c *connection) serveEcho() {
	c.log.info("connect")
	defer c.log.info("disconnect")
	e := &echo{c: c}
	c.enter(e)
	buf, turn := make([]byte, inputSmall), c.newTurn()
	for {
		n, err := c.Conn.Read(buf)
		if n > 0 {
			c.hear()
			turn.payFor(n)
			if !e.read.Swap(true) && e.left.Load() {
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

// A parting is the stage of a connection on which everything has been said. A connection that is closed in front of unread
// bytes is reset, and a peer that is still writing finds it broken: either may drop what it has not read yet, the last
// answers. So the sending side is shut first, and the peer is read to its end, or until it is silent: RFC 9112, section
// 9.6. A pipe has no sides to shut, and there the peer does not learn that it can close.
type parting struct {
	c    *connection
	late *time.Timer // closes the connection, however much the peer goes on sending
	left atomic.Bool
}

func (p *parting) leave() {
	p.left.Store(true)
	p.late.Reset(firstWords)
	p.await()
}

func (p *parting) seize(*fault) func() { return func() { p.c.Conn.Close() } }

// await sets how long the peer may be silent.
func (p *parting) await() {
	for left := p.left.Load(); ; left = true { // again if the daemon began to stop meanwhile
		silence := lastWords
		if left {
			silence = drainSweep
		}
		p.c.SetReadDeadline(time.Now().Add(silence))
		if left == p.left.Load() {
			return
		}
	}
}

// part runs the parting. The caller closes the connection.
func (c *connection) part() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); c.deaf.Load() || ok && half.CloseWrite() != nil {
		return // nobody is there to read
	}
	most := c.limits.Write
	if c.refusal != nil {
		most = lastWords // there are only so many places for those who are refused
	}
	p := &parting{c: c, late: time.AfterFunc(most, func() { c.Conn.Close() })}
	defer p.late.Stop()
	c.enter(p)
	buf, turn := make([]byte, inputSmall), c.newTurn()
	for err := error(nil); err == nil; {
		p.await()
		var n int
		n, err = c.Conn.Read(buf)
		turn.payFor(n)
	}
}

// newShakeTurn returns a turn for a handshake. They are all for one user: nobody knows who is at it, and whoever repeats them, from
// however many addresses, leaves others their share.
func (s *server) newShakeTurn() *turn {
	t := &turn{foreman: s.foreman, inline: new(atomic.Pointer[call])} // it waits for nothing but what is to be read
	t.user.Store(&s.shaking)
	return t
}

// newTurn returns a turn for what is done for the peer outside of sessions.
func (c *connection) newTurn() *turn {
	t := &turn{foreman: c.shared.foreman}
	t.user.Store(c.user)
	return t
}
