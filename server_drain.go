package main

// This file owns the end of a server: who is still heard, who is still answered, and who is cut.

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// stop ends it all: nothing is accepted any more, calls in flight may finish within the drain
// limit, new ones are told to try elsewhere. Whoever was accepted and has not asked anything yet is
// heard for firstWords, and answered: it could not know. When ctx ends, or the limit passes, the rest is
// cut and the error is errForced.
func (s *server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.limits().Drain)
	defer cancel()
	s.draining.Store(true)
	s.mu.Lock()
	for _, l := range s.inherited {
		l.Close()
	}
	for l := range s.listeners {
		l.Close()
		delete(s.listeners, l)
	}
	for c := range s.conns {
		s.drainLocked(c)
	}
	s.mu.Unlock()
	s.web.leave()
	finished := make(chan struct{})
	go func() {
		s.wg.Wait()
		s.web.end(ctx)
		close(finished)
	}()
	defer s.spare.Close()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	s.log.warn("calls in flight are cut", "limit", "drain", "max", s.limits().Drain, "connections", s.counts.connections.Load())
	s.cut()
	return errForced
}

// cut ends all connections. The callers are told why, as far as they read it at once.
func (s *server) cut() {
	var told sync.WaitGroup
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	for _, c := range conns {
		if session := c.session; session != nil {
			told.Go(func() {
				session.cancelAll(errCutShort)
				session.out.drain()
			})
		}
	}
	s.mu.Unlock()
	late := time.AfterFunc(lastWords, func() { closeAll(conns) })
	told.Wait()
	late.Stop()
	closeAll(conns)
	s.web.cut()
}

func closeAll(conns []*connection) {
	for _, c := range conns {
		c.Conn.Close()
	}
}

// drainLocked tells one connection that the end is near.
func (s *server) drainLocked(c *connection) {
	switch {
	case c.session != nil:
		c.session.leave()
	case c.web != nil: // http.Server closes those that wait, but for one who has begun to say something
		if c.web.waiting.Load() {
			c.web.Conn.SetReadDeadline(c.web.lastMoment())
			if !c.web.waiting.Load() { // the rest came just now
				c.web.Conn.SetReadDeadline(time.Time{})
			}
		}
	case c.heard.Load(): // an echo
		c.SetReadDeadline(time.Now().Add(drainSweep))
	default: // nobody knows yet what it speaks
		c.SetReadDeadline(time.Now().Add(firstWords))
	}
}
