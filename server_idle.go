package main

// This file owns connections whose users nobody knows: callers over TCP, where an endpoint asks for no proof and the system does not say
// who they are. They all count as one user, so that one of them could take all the connections that there are for them: those that do
// nothing end, and the one that has done nothing for longest makes room for the next.

import "time"

// isUnknown reports whether nobody says who the peer is.
func (p *peer) isUnknown() bool { return p.key() == p.Transport }

// A rest is a stage that may have nothing to do until the peer says something. Those that do not implement it are never at rest.
type rest interface{ resting() bool }

// resting implements rest: no call is in flight, and the peer is no provider.
func (s *session) resting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.state.theirs)+len(s.state.ours) == 0 && !s.state.passes
}

// resting implements rest.
func (c *httpConn) resting() bool { return c.session.Load() == nil }

// resting implements rest.
func (e *echo) resting() bool { return true }

// watchIdleLocked closes the connection once an unknown peer has said nothing for unknown_idle, and nothing is done for it.
func (c *connection) watchIdleLocked() {
	if !c.peer.isUnknown() {
		return
	}
	c.hear()
	c.idle = time.AfterFunc(c.limits.UnknownIdle, func() {
		s := c.server
		s.mu.Lock()
		defer s.mu.Unlock()
		left := c.limits.UnknownIdle - c.silence()
		switch {
		case c.idle == nil, !c.peer.isUnknown(): // it has ended, or shown a token
		case left > 0 || !c.isResting():
			c.idle.Reset(max(left, c.limits.UnknownIdle/10))
		default:
			c.log.info("the peer has said nothing for long", "limit", "unknown_idle", "max", c.limits.UnknownIdle)
			c.Conn.Close()
		}
	})
}

// hear notes that the peer says something.
func (c *connection) hear() { c.heard.Store(int64(time.Since(c.server.began))) }

// silence is for how long the peer has said nothing.
func (c *connection) silence() time.Duration {
	return time.Since(c.server.began) - time.Duration(c.heard.Load())
}

// isResting reports whether nothing is done for the peer. The caller holds server.mu.
func (c *connection) isResting() bool {
	at, ok := c.stage.(rest)
	return ok && at.resting()
}

// makeRoomLocked closes the connection of an unknown peer that has been at rest for longest, to make room for c, another one. It
// reports whether there was one.
func (s *server) makeRoomLocked(c *connection) bool {
	var longest *connection
	for other := range s.conns {
		if other != c && other.seat.load == c.seat.load && !other.leaving && (longest == nil || other.heard.Load() < longest.heard.Load()) && other.isResting() {
			longest = other
		}
	}
	if longest == nil {
		return false
	}
	longest.leaving = true // it counts until it has ended
	longest.log.info("the peer makes room for another one", "limit", "max_connections", "max", c.limits.MaxConnections)
	longest.Conn.Close()
	return true
}
