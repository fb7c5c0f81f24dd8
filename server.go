package main

// This file is the door of the room server, which serves the methods of a router on any number of endpoints. It owns
// the listeners, the list of connections, and how both end: newServer, listen and start for each endpoint, then stop.
//
// server_conn.go is one connection from accept to close, and a protocol that takes over a whole connection is a row of takers there; a new
// stage implements stage of server_stage.go. server_http.go is what is spoken over HTTP; a new path is a row of
// routes. server_builtin.go is the service Ipcd, server_register.go has what makes a provider of a peer, and
// server_reload.go applies new settings.

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
	lastWords   = time.Second // for a caller to read what it was told last
	maxRefusals = 64          // connections that are refused with an answer at the same time; more are just closed
)

// A server owns the listeners and the connections of a daemon.
type server struct {
	*shared
	router *router
	http   *httpServer
	life   life
	force  *workforce
	gate   gate
	keys   *keyring // nil if there are none
	began  time.Time

	shaking turnUser // who is at a handshake

	inherited []inheritance // not yet claimed by an endpoint

	inForce atomic.Pointer[limits]
	quotas  atomic.Pointer[[]quota] // nil for none

	mu          sync.Mutex
	stopping    bool
	keeping     bool     // while it stops, the listeners stay open, for the next program in this process
	spare       *os.File // closed to make room for one accept when descriptors run out
	listeners   map[*listener]struct{}
	conns       map[*connection]struct{}
	subscribers map[*call][]string   // the calls of Ipcd.Subscribe, and their topics
	providers   map[*session]*offer  // what the other ends offer of the sessions that have ever registered; nil for nothing
	users       map[string]*userLoad // by peer.key
	budget      *budget
	refusals    int
	unproven    []*connection // that have to show a token and have not, the oldest first
	callersGone chan struct{} // closed once the server stops and has no connections but those of providers
	quiet       time.Time     // when the last connection ended; zero while there are connections
	wg          sync.WaitGroup
}

// A userLoad is what the connections of one user add up to.
type userLoad struct {
	connections int
	account     account
	turns       turnUser
}

// A listener is an endpoint that is served.
type listener struct {
	net.Listener
	endpoint  endpoint // with the actual port
	asked     endpoint // as configured
	on        string   // the key of the endpoint, as rules name it
	transport transport
	log       *logger
	audience  audience // to whom it is open
	managers  bool     // a service manager has opened it
}

func newServer(r *router, l limits, log *logger) *server {
	s := &server{
		began: time.Now(), budget: newBudget(l), shared: &shared{finder: r, log: log, meter: newMeter(newTallyBook(l.MaxMetered)), audit: &auditor{log: log}, foreman: &foreman{}, events: r.events}, router: r,
		listeners: map[*listener]struct{}{}, conns: map[*connection]struct{}{},
		callersGone: make(chan struct{}), providers: map[*session]*offer{}, subscribers: map[*call][]string{}, users: map[string]*userLoad{}, quiet: time.Now(),
	}
	s.inForce.Store(&l)
	s.foreman.set(ceilingOf(l))
	r.obey(l)
	s.spare, _ = os.Open(os.DevNull)
	s.http = newHTTPServer(log)
	s.force = newWorkforce(s)
	return s
}

// limits returns the limits in force, which nobody modifies: a reload replaces them. A connection keeps those that it
// began with.
func (s *server) limits() *limits { return s.inForce.Load() }

// limitsOf returns those of a peer.
func (s *server) limitsOf(p *peer) *limits {
	if quotas := s.quotas.Load(); quotas != nil {
		return limitsOf(*quotas, p, s.limits())
	}
	return s.limits()
}

// policy returns the policy in force, which nobody modifies: a reload replaces it.
func (s *server) policy() *policy { return s.router.policy.Load() }

// listen opens an endpoint. Nothing is accepted before start.
func (s *server) listen(e endpoint) (*listener, error) {
	t, ok := transports[e.Scheme]
	if !ok {
		return nil, usagef("there is no way to listen on %s", e)
	}
	inner, from, err := s.claim(t, e)
	claimed, to := inner != nil, s.policy().audienceOf(e.key())
	if !claimed && err == nil {
		inner, err = t.listen(e, to)
	}
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: inner, endpoint: listenerEndpoint(e, inner), asked: e, on: e.key(), transport: t, audience: to}
	l.managers = claimed && from.managers
	if t.secure != nil {
		if err := s.keys.has(e); err != nil {
			inner.Close()
			return nil, err
		}
		l.Listener = t.secure(inner, s.keys)
	}
	l.log = s.log.with("endpoint", l.endpoint.String())
	if claimed && (l.managers || from.to != to) { // otherwise it is open to them, and there is to be no instant at which it is not
		l.openTo(to)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = struct{}{}
	return l, nil
}

// claim removes the listener for e from the inherited ones and returns it, and where it is from; nil if there is none.
func (s *server) claim(t transport, e endpoint) (ours net.Listener, from inheritance, err error) {
	if t.inherits == nil {
		return nil, from, nil
	}
	for i, l := range s.inherited {
		ours, err := t.inherits(e, l)
		if err != nil {
			return nil, l, err
		}
		if ours != nil {
			s.inherited = slices.Delete(s.inherited, i, i+1)
			return ours, l, nil
		}
	}
	return nil, from, nil
}

// obey puts a policy into force, for what goes on as well, and opens the endpoints to those whom it may let in, and to no others. If that
// fails, the daemon goes on without them.
func (s *server) obey(pol *policy) {
	s.router.policy.Store(pol)
	s.openTo(pol)
	s.recallOffers(pol)
	s.endSubscriptions(pol)
}

func (s *server) openTo(pol *policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		if now := pol.audienceOf(l.on); now != l.audience {
			l.audience = now
			l.openTo(now)
		}
	}
}

func (l *listener) openTo(a audience) {
	inner, ok := l.Listener.(interface{ openTo(audience) error })
	if !ok {
		return
	}
	if err := inner.openTo(a); err != nil {
		l.log.warn("those whom the configuration lets in cannot call", "audience", a.String(), "error", err, "hint", hintFor(err))
	}
}

// unclaimed returns an error if no endpoint has claimed some of the inherited listeners: whoever connected there would
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

// endpoints lists the endpoints that are served, with the actual ports.
func (s *server) endpoints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for l := range s.listeners {
		list = append(list, l.endpoint.String())
	}
	return list
}

// start serves l in the background; stop waits for that to end. It logs before it returns, so that in the log
// "listening" precedes whatever follows from it.
func (s *server) start(l *listener) {
	l.log.info("listening")
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && !l.transport.sealed {
		l.log.warn("other machines can call here, and whoever is on the way can read and change what they say")
	}
	switch {
	case l.transport.byToken && !l.endpoint.NoAuth:
		if l.transport.secure == nil || !s.keys.takesCertificates() {
			s.gate.warnIfEmpty(l.log)
		}
	case l.transport.secure != nil:
		l.log.warn("everybody who reaches this endpoint may call: it asks for no proof (auth=none)")
	}
	s.wg.Go(func() { s.serve(l) })
}

// serve accepts connections until the listener is closed. Running out of descriptors or memory passes: serve logs it,
// waits, and goes on.
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
		case errors.Is(err, net.ErrClosed), isTimeout(err):
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

// halt ends serve, and leaves the listener open: whoever connects waits for the next program.
func (l *listener) halt() bool {
	at, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok || at.SetDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	if busy, ok := l.Listener.(interface{ hurry() }); ok {
		busy.hurry()
	}
	return true
}

// turnAway uses the spare descriptor to accept the connections that are waiting, one at a time, and closes them: their
// callers learn of it now, rather than when they time out.
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

// lost returns an endpoint that callers no longer find, or "".
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

// idleFor returns for how long there has been no connection.
func (s *server) idleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet.IsZero() {
		return 0
	}
	return time.Since(s.quiet)
}

// stop shuts the server down: connections first, as stopConnections says, then the workers, which calls may need to the end.
// If ctx ends, the workers are killed.
func (s *server) stop(ctx context.Context) error {
	err := s.stopConnections(ctx)
	s.force.stop(ctx.Done())
	s.events.herald.rest()
	if late := s.audit.file.Load().close(); late != nil {
		s.log.warn("lines of the audit log were lost", "error", late)
	}
	return err
}

// A leaver is a listener with a lock, which goes to the next program along with it.
type leaver interface {
	left() (net.Listener, *os.File)
}

// leaves returns the listeners that stop has left open, for the next program.
func (s *server) leaves() (list []inheritance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		from := inheritance{Listener: l.Listener, managers: l.managers, at: l.asked, to: l.audience}
		if at, ok := l.Listener.(leaver); ok {
			from.Listener, from.lock = at.left()
		}
		list = append(list, from)
	}
	return list
}

// keep has stop leave the listeners open, or not.
func (s *server) keep(keeping bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeping = keeping
	if keeping || !s.stopping {
		return
	}
	for l := range s.listeners {
		l.Close()
		delete(s.listeners, l)
	}
}

// disown closes what the program before us has served and the settings no longer name.
func (s *server) disown(endpoints []endpoint) {
	s.inherited = slices.DeleteFunc(s.inherited, func(l inheritance) bool {
		if l.managers || slices.ContainsFunc(endpoints, func(e endpoint) bool { return e.key() == l.at.key() }) {
			return false
		}
		l.release()
		return true
	})
}

// release closes a listener that nobody has claimed; what the program before us has served, with its socket and its lock.
func (l inheritance) release() {
	if !l.managers {
		if whole, err := transports[l.at.Scheme].inherits(l.at, l); err == nil && whole != nil {
			whole.Close()
			return
		}
	}
	l.Close()
}

// stopConnections ends all connections but those of workers. Nothing more is accepted, calls in flight may finish within the
// drain limit, and new ones are refused. A peer that was accepted and has not called yet could not know, so its first call is answered if it comes
// within firstWords. Providers are asked to the end, and leave when all others have left. When the limit passes or ctx ends, the
// remaining calls are cut, and the error is errForced.
func (s *server) stopConnections(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.limits().Drain)
	defer cancel()
	s.mu.Lock()
	s.stopping = true
	for _, l := range s.inherited {
		l.release()
	}
	s.inherited = nil
	for l := range s.listeners {
		if s.keeping && l.halt() {
			continue
		}
		l.Close()
		delete(s.listeners, l)
	}
	if s.spare != nil {
		s.spare.Close()
		s.spare = nil
	}
	callers, providers := s.stagesLocked()
	s.lastProvidersLocked()
	s.mu.Unlock()
	for _, st := range callers {
		st.leave()
	}
	go func() {
		select {
		case <-s.callersGone:
		case <-ctx.Done(): // they are cut like all others
			return
		}
		for _, st := range providers {
			st.leave()
		}
	}()
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
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.log.warn("calls in flight are cut", "limit", "drain", "max", s.limits().Drain, "connections", s.meter.connections.Load())
	} else {
		s.log.warn("calls in flight are cut at once, as was asked for", "connections", s.meter.connections.Load())
	}
	s.cut()
	return errForced
}

// cut ends all connections. It tells the callers why, but waits no longer than lastWords for them to read it. The calls of all
// are taken before any connection ends: that of a provider would answer those of others.
func (s *server) cut() {
	s.mu.Lock()
	stages := map[*connection]stage{}
	for c := range s.conns {
		if c.stage != nil {
			stages[c] = c.stage
		}
	}
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	late := time.AfterFunc(lastWords, func() { closeAll(conns) })
	tells := map[*connection]func(){}
	for c, st := range stages {
		tells[c] = st.seize(errCutShort)
	}
	var cuts sync.WaitGroup
	for c, tell := range tells {
		cuts.Go(func() {
			tell()
			c.part()
		})
	}
	cuts.Wait()
	late.Stop()
	closeAll(conns)
	s.http.cut()
}

// stagesLocked lists the stages of all connections: those of providers, and all others.
func (s *server) stagesLocked() (callers, providers []stage) {
	for c := range s.conns {
		switch {
		case c.stage == nil:
		case s.isProviderLocked(c):
			providers = append(providers, c.stage)
		default:
			callers = append(callers, c.stage)
		}
	}
	return callers, providers
}

func (s *server) isProviderLocked(c *connection) bool {
	at, ok := c.stage.(*session)
	return ok && s.providers[at] != nil
}

// lastProvidersLocked closes callersGone if the server stops and has no connections but those of providers.
func (s *server) lastProvidersLocked() {
	if !s.stopping {
		return
	}
	for c := range s.conns {
		if !s.isProviderLocked(c) {
			return
		}
	}
	shut(s.callersGone)
}

func closeAll(conns []*connection) {
	for _, c := range conns {
		c.Conn.Close()
	}
}
