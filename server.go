package main

// This file owns the listeners, all connections, and how both end. What becomes of one connection is in
// server_conn.go.

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	lastWords   = time.Second // for telling a caller that its call is cut
	maxRefusals = 64          // connections over the limit that are told so; more are just closed
)

// A server owns the listeners of a daemon and all connections.
type server struct {
	*shared
	router *router
	http   *httpServer

	inherited []net.Listener // of a service manager; those that no endpoint has claimed yet

	inForce atomic.Pointer[limits]
	group   atomic.Pointer[group]

	mu        sync.Mutex
	stopping  bool
	spare     *os.File // closed to make room for one accept when descriptors run out
	listeners map[*listener]struct{}
	conns     map[*connection]struct{}
	users     map[string]*userLoad // by peer.key
	refusals  int
	quiet     time.Time // since when there is no connection; zero while there are some
	wg        sync.WaitGroup
}

// A userLoad is what the connections of one user have together.
type userLoad struct {
	connections int
	account     account
}

// A listener is one endpoint that is served.
type listener struct {
	net.Listener
	endpoint  endpoint // with the real port
	transport transport
	log       *logger
}

func newServer(r *router, l limits, log *logger) *server {
	s := &server{
		shared: &shared{finder: r, log: log, meter: &meter{}, foreman: &foreman{}}, router: r,
		listeners: map[*listener]struct{}{}, conns: map[*connection]struct{}{},
		users: map[string]*userLoad{}, quiet: time.Now(),
	}
	s.inForce.Store(&l)
	s.spare, _ = os.Open(os.DevNull)
	s.http = newHTTPServer(log)
	return s
}

// limits are those in force now. Nobody changes them; a connection keeps to those that it began with.
func (s *server) limits() *limits { return s.inForce.Load() }

// allowed is the group whose members may call, besides the daemon's own user and root.
func (s *server) allowed() group {
	if g := s.group.Load(); g != nil {
		return *g
	}
	return group{}
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
	s.group.Store(&allow)
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
// It says so before whoever called goes on, so that in the log nothing comes before that.
func (s *server) start(l *listener) {
	l.log.info("listening")
	s.wg.Go(func() { s.serve(l) })
}

// serve accepts until the listener is closed. Running out of descriptors or memory is
// weather: it waits, says so, and goes on.
func (s *server) serve(l *listener) {
	pause := time.Duration(0)
	var warned time.Time
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.wg.Go(func() { s.handle(l, conn) })
			continue
		case errors.Is(err, net.ErrClosed):
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
	switch {
	case s.stopping:
		return
	case s.spare == nil:
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
		s.meter.refused.Add(1)
	}
	deadline.SetDeadline(time.Time{})
	s.spare, _ = os.Open(os.DevNull)
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

// stop ends it all: nothing is accepted any more, calls in flight may finish within the drain
// limit, new ones are told to try elsewhere. Whoever was accepted and has not asked anything yet is
// heard for firstWords, and answered: it could not know. When ctx ends, or the limit passes, the rest is
// cut and the error is errForced.
func (s *server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.limits().Drain)
	defer cancel()
	s.mu.Lock()
	s.stopping = true
	for _, l := range s.inherited {
		l.Close()
	}
	for l := range s.listeners {
		l.Close()
		delete(s.listeners, l)
	}
	if s.spare != nil {
		s.spare.Close()
		s.spare = nil
	}
	stages := s.stagesLocked()
	s.mu.Unlock()
	for _, stage := range stages {
		stage.leave()
	}
	s.http.leave()
	finished := make(chan struct{})
	go func() {
		s.wg.Wait()
		s.http.end(ctx)
		close(finished)
	}()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	s.log.warn("calls in flight are cut", "limit", "drain", "max", s.limits().Drain, "connections", s.meter.connections.Load())
	s.cut()
	return errForced
}

// cut ends all connections. The callers are told why, as far as they read it at once.
func (s *server) cut() {
	s.mu.Lock()
	stages, conns := s.stagesLocked(), slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	late := time.AfterFunc(lastWords, func() { closeAll(conns) })
	var told sync.WaitGroup
	for _, stage := range stages {
		told.Go(func() { stage.cut(errCutShort) })
	}
	told.Wait()
	late.Stop()
	closeAll(conns)
	s.http.cut()
}

func (s *server) stagesLocked() (list []stage) {
	for c := range s.conns {
		if c.stage != nil {
			list = append(list, c.stage)
		}
	}
	return list
}

func closeAll(conns []*connection) {
	for _, c := range conns {
		c.Conn.Close()
	}
}
