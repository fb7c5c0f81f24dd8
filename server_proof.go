package main

// This file owns how a peer proves who it is where the kernel does not say it: Ipcd.Authenticate, what becomes of a connection that has
// shown a token, the limits on those that have not, and the brake on those who guess. Over HTTP the token is in the header of each
// request: server_http_proof.go. What a token is, and whether it counts, is access_token.go.

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// addAuthentication adds the method to the service Ipcd. It is not a method of a Go type, since the reader of the connection runs it: what
// comes behind it, in the same write, is the call of whoever holds the token.
func (s *server) addAuthentication(to *receiver) {
	d := describes[string, bool]()
	d.forms = newGobForms(d.Argument.read(), d.Result.read())
	to.add("Authenticate", &method{
		doc: "shows a token, by which the caller is known from then on", argument: documentType, result: documentType, forward: s.authenticate, described: d,
	})
}

// authenticate takes the token in c for the connection that c came from.
func (s *server) authenticate(c *call, _ *unflushed) {
	from, _ := c.from.(*session)
	var text string
	f := s.mayProve(c.peer, from)
	if f == nil {
		if err := decodeBody(*c.arg.(*document), &text); err != nil {
			f = &fault{Code: codeBadArgument, Text: "the argument is the token, a string"}
		}
	}
	if f != nil {
		c.reply(nil, f)
		return
	}
	held := &c.peer.proof.held
	if held.Load() { // one guess at a time, and one goroutine
		c.reply(nil, &fault{Code: codeBusy, Text: "the answer to another token is still to come", Data: faultData{Retry: true}.json()})
		return
	}
	b, f, slow := s.gate.check(text, c.peer, from.log)
	if f == nil {
		f = from.prove(b)
	}
	if f == nil {
		c.reply(document("true"), nil)
		return
	}
	held.Store(slow > 0)
	if slow == 0 || !from.background(func() {
		s.hold(slow, c.Done())
		held.Store(false)
		c.reply(nil, f)
	}) {
		c.reply(nil, f)
	}
}

// mayProve returns why no token is taken from p over a session, or nil.
func (s *server) mayProve(p *peer, from *session) *fault {
	switch {
	case p.Known:
		return &fault{Code: codeInvalid, Text: "no token is taken here: the system says who calls, and needs none"}
	case p.proof == nil:
		return &fault{Code: codeInvalid, Text: "no token is taken here: tokens go over TLS or within this machine alone"}
	case from == nil || from.prove == nil:
		return &fault{Code: codeInvalid, Text: "over HTTP the token is in the header of each request: Authorization: Bearer"}
	}
	return nil
}

// hold waits for d, or until done is closed, or the server stops.
func (s *server) hold(d time.Duration, done <-chan struct{}) {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-late.C:
	case <-done:
	case <-s.http.done:
	}
}

// proofOn returns the proof of a peer that has just connected to l, or nil where no token is taken.
func (l *listener) proofOn(conn net.Conn, p *peer) *proof {
	if p.Known || !l.transport.takesTokens(conn) || l.endpoint.Proto == protoEcho && !l.endpoint.isHTTP() { // an echo takes none
		return nil
	}
	switch over, _ := conn.(*tlsConn); {
	case l.endpoint.NoAuth:
		return &proof{}
	case p.cert != "": // unless a rule lets it in; see enter
		return &proof{needed: faultf(codeDenied, "access denied: no rule of the daemon lets %s in, and it has shown no token", p.name())}
	case over != nil && over.asked:
		return &proof{needed: errNoCert}
	}
	return &proof{needed: errUnproven}
}

// prove notes that the connection is by now that of whoever holds a token, whose limits hold for it from then on.
func (c *connection) prove(b *bearer) *fault {
	pol, holder := c.server.policy(), c.peer.proving(proofOf(b))
	if d := pol.entering(c.peer.proving(nil)); c.peer.cert != "" && !d.allowed && d.by == byRule { // locked out since it has connected; see enter
		return faultf(codeDenied, "access denied: a [[rule]] of the daemon denies all to cert:%s", c.peer.cert)
	}
	if !pol.mayEnter(holder) {
		return faultf(codeDenied, "access denied: a [[rule]] of the daemon denies all to the holder of the token %s", b.name)
	}
	if f := c.server.countFor(c, holder); f != nil {
		return f
	}
	c.peer.proof.shown.Store(b)
	return nil
}

// proveSession is prove for one that a session has to itself. The reader calls it.
func (c *connection) proveSession(s *session, b *bearer) *fault {
	if was := c.peer.bearer(); was != nil && was.name != b.name {
		return &fault{Code: codeInvalid, Text: "this connection is that of the token " + was.name + "; open another one"}
	}
	if f := c.prove(b); f != nil {
		return f
	}
	s.chargeTo(c.account, c.user, c.quota)
	c.log.debug("the peer has shown a token")
	return nil
}

// awaitProofLocked counts a connection among those that have shown no token yet, and closes it when that takes too long. Where there are
// too many, whoever has the most gives one up, so that nobody keeps all others out.
func (s *server) awaitProofLocked(c *connection) {
	if !c.peer.proof.isNeeded() {
		return
	}
	if most := c.limits.MaxUnauthenticated; len(s.unproven) >= most {
		from := make([]string, len(s.unproven))
		for i, other := range s.unproven {
			from[i] = other.peer.origin()
		}
		other := s.unproven[givesUp(from, c.peer.origin())]
		c.shared.meter.reach("max_unauthenticated")
		c.log.warn("too many connections have shown no token yet; one was closed", "limit", "max_unauthenticated", "max", most, "closed", other.peer.who())
		s.provenLocked(other)
		other.Conn.Close()
	}
	s.unproven = append(s.unproven, c)
	log := c.log
	c.late = time.AfterFunc(c.limits.FirstBytes, func() {
		s.mu.Lock()
		late := slices.Contains(s.unproven, c)
		s.mu.Unlock()
		if late {
			log.info("the peer did not show a token in time", "limit", "first_bytes", "max", c.limits.FirstBytes)
			c.Conn.Close()
		}
	})
}

// provenLocked takes the connection out of those.
func (s *server) provenLocked(c *connection) {
	if at := slices.Index(s.unproven, c); at >= 0 {
		s.unproven = slices.Delete(s.unproven, at, at+1)
		c.late.Stop()
	}
}

// givesUp returns which of some connections, the oldest of which comes first, gives way to another one: the oldest of whoever has the most
// with that one. It may be of the same: behind a proxy or a gateway all have one address, and whoever holds a token shows it at once.
func givesUp(from []string, other string) (at int) {
	count := map[string]int{other: 1}
	for _, who := range from {
		count[who]++
	}
	for i, who := range from {
		if count[who] > count[from[at]] {
			at = i
		}
	}
	return at
}

// origin says of a peer that has shown nothing where it is from: whose its socket is, or its address.
func (p *peer) origin() string {
	if p.owner != "" {
		return p.owner
	}
	return suspectAt(p.Address).String()
}

// voidTokens ends what still runs for those whose tokens do not count any more, and takes back what they offer. It blocks on none of
// them.
func (s *server) voidTokens() {
	var held []*session
	s.mu.Lock()
	for c := range s.conns {
		running, _ := c.stage.(*session)
		if h, ok := c.stage.(*httpConn); ok {
			running = h.session.Load()
		}
		if running != nil && running.peer.bearer() != nil {
			held = append(held, running)
		}
	}
	s.mu.Unlock()
	for _, running := range held {
		b := running.peer.bearer() // of this session: over HTTP the next request may be another one's
		if b == nil {
			continue
		}
		if f := b.void(); f != nil {
			running.background(func() {
				if s.withdraw(running) {
					running.dischargeAll()
				}
				running.endCalls(f)
			})
		}
	}
}

const (
	freeFailures  = 5           // of an address within failureMemory; the answers to those behind them are held back
	failureMemory = time.Minute // behind the last one
	firstHold     = 100 * time.Millisecond
	mostHold      = 5 * time.Second
	maxSuspects   = 1024 // addresses whose failures are remembered; the one that has been quiet for longest is forgotten
)

// A gate checks the tokens that are shown, and holds back the answers to those who guess. Whoever is right is answered at once: others may
// call from the same address.
type gate struct {
	tokens *tokenStore // nil if there is no place for the file

	mu       sync.Mutex
	suspects map[netip.Addr]*suspect
}

// A suspect is an address from which wrong tokens were shown.
type suspect struct {
	failures int
	last     time.Time
}

// warnIfEmpty warns that nobody can show a token.
func (g *gate) warnIfEmpty(log *logger) {
	if g.tokens == nil {
		return // which has been said
	}
	switch tokens, err := g.tokens.list(false); {
	case err != nil:
		log.error("nobody can call here: the tokens are not known", "error", err, "hint", hintFor(err))
	case len(tokens) == 0:
		log.warn("nobody can call here yet: there are no tokens", "hint", "make one: "+g.tokens.line("new", "NAME"))
	}
}

// check returns whose token the text is. If it is nobody's, the answer has to wait for slow.
func (g *gate) check(text string, p *peer, log *logger) (b *bearer, f *fault, slow time.Duration) {
	b, f, cause := g.find(text)
	if f == nil {
		return b, nil, 0
	}
	n := g.failed(p.Address, time.Now())
	slow = holdFor(n)
	if errors.Is(cause, f) && cause.Error() == f.Text {
		cause = nil
	}
	log.warn("a token was refused", "error", cmp.Or[error](cause, f), "failures", n, "held", slow)
	return nil, f, slow
}

func (g *gate) find(text string) (*bearer, *fault, error) {
	if g.tokens == nil {
		return nil, errUnreadTokens, errors.New("there is no state directory")
	}
	return g.tokens.find(text)
}

// failed notes a failure of an address, and returns how many that makes.
func (g *gate) failed(address string, now time.Time) int {
	at := suspectAt(address)
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.suspects[at]
	if s == nil || now.Sub(s.last) >= failureMemory {
		g.forgetLocked(now)
		s = &suspect{}
		if g.suspects == nil {
			g.suspects = map[netip.Addr]*suspect{}
		}
		g.suspects[at] = s
	}
	s.failures++
	s.last = now
	return s.failures
}

// forgetLocked makes room for one more.
func (g *gate) forgetLocked(now time.Time) {
	if len(g.suspects) < maxSuspects {
		return
	}
	var oldest netip.Addr
	for at, s := range g.suspects {
		if now.Sub(s.last) >= failureMemory {
			delete(g.suspects, at)
		} else if o := g.suspects[oldest]; o == nil || s.last.Before(o.last) {
			oldest = at
		}
	}
	if len(g.suspects) >= maxSuspects {
		delete(g.suspects, oldest)
	}
}

// suspectAt returns the address that counts for that of a peer: with IPv6 all that one subscriber has.
func suspectAt(address string) netip.Addr {
	at, _ := netip.ParseAddrPort(address)
	a := at.Addr().Unmap().WithZone("")
	if a.Is6() {
		if net, err := a.Prefix(64); err == nil {
			return net.Masked().Addr()
		}
	}
	return a
}

// holdFor returns for how long the answer to the nth failure in a row is held back.
func holdFor(n int) time.Duration {
	if n <= freeFailures {
		return 0
	}
	return min(firstHold<<min(n-freeFailures-1, 10), mostHold)
}
