package main

// This file owns workers as providers: the processes of a worker share the calls of what it offers, and calls that come
// while none is ready wait for one. server_keeper.go starts, watches and ends the processes; server_workforce.go has all
// workers of a daemon.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A worker is a [[worker]] of the configuration. It is the provider of its services for as long as it is configured,
// whether a process runs or not.
type worker struct {
	server *server
	force  *workforce
	name   string
	who    peer
	log    *logger
	said   *lineRing // what its processes print
	calls  *pool     // of the processes that are ready

	// offering is held while what the worker offers changes. It is taken before mu, and before any lock of a pool or of the
	// router; mu is taken after them.
	offering sync.Mutex
	offer    *offer // what the router has of the worker; guarded by offering

	mu         sync.Mutex
	changed    chan struct{} // closed, and replaced, whenever something has changed that keepers wait for
	spec       *workerSettings
	version    int              // of spec: processes of an older one are replaced
	stopsFirst int              // a version for which the old processes end before new ones are started
	unreplaced string           // why processes of an older version go on; empty if none does
	over       bool             // it is no longer configured, or the daemon stops
	halted     bool             // by "ipcd worker stop"
	wanted     bool             // a call has found no process since a lazy worker was idle
	parked     string           // why it is not started any more; empty if it is
	keepers    []*keeper        // each has one process running
	running    []*workerProcess // in the order in which they were started
	lastCall   time.Time        // when the last call ended
	restarts   int              // after processes that ended by themselves
	asked      int64            // calls
	failed     int64            // of these, answered with an error or not at all
	told       string           // the state that was published last
	last       string           // how the last process ended that did so by itself, or why one is not ready
}

// newWorker returns a worker of which nothing runs yet.
func newWorker(f *workforce, spec *workerSettings) (*worker, error) {
	own, err := ownPeer()
	if err != nil {
		return nil, err
	}
	w := &worker{server: f.server, force: f, name: spec.Name, spec: spec, said: newLineRing(), changed: make(chan struct{}),
		who: peer{Transport: "fork", Known: true, UID: own.UID, GID: own.GID, User: own.User, SID: own.SID, worker: spec.Name},
		log: f.server.log.with("worker", spec.Name)}
	if spec.RunAs != "" {
		if u, err := findUser(spec.RunAs); err == nil {
			w.who.UID, w.who.GID, w.who.User = u.uid, u.gid, u.name
		}
	}
	w.calls = &pool{router: f.server.router, lacks: w.lacks, late: w.late}
	return w, nil
}

// change changes what keepers wait for, and wakes them, and the calls that wait.
func (w *worker) change(f func()) {
	w.mu.Lock()
	f()
	w.wakeLocked()
	w.mu.Unlock()
	goOn([]*pool{w.calls})
}

// A WorkerEvent is the data of the events that are published of a worker.
type WorkerEvent struct {
	Worker   string `json:"worker"`
	State    string `json:"state"`
	Why      string `json:"why,omitempty"` // as in Ipcd.Status
	Restarts int    `json:"restarts"`
}

// wakeLocked wakes the keepers, and publishes the state if it is another one.
func (w *worker) wakeLocked() {
	if state := w.stateLocked(); state != w.told {
		w.told = state
		w.server.events.tell("worker."+w.name+"."+state, func() any { return WorkerEvent{w.name, state, w.whyStateLocked(state), w.restarts} })
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// ask implements provider.
func (w *worker) ask(c *call, u *unflushed, done func(failed bool)) {
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	w.calls.forward(c, u, func(failed bool) {
		w.mu.Lock()
		w.lastCall = time.Now()
		if failed {
			w.failed++
		}
		if slices.ContainsFunc(w.running, func(p *workerProcess) bool { return p.leaving && p.busy.Load() == 0 }) { // which it waits for
			w.wakeLocked()
		}
		w.mu.Unlock()
		done(failed)
	})
}

// lacks says why a call is not to wait for a process: none will come. Otherwise one is wanted from now on, lazy or not.
func (w *worker) lacks(c *call) *fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if why := w.whyLocked(); why != "" {
		f := goneFault(fmt.Sprintf("the worker %s of %s %s", w.name, c.method, why), true)
		if !w.over { // otherwise nobody finds it any more
			f.Data = faultData{Retry: true, Worker: w.name, State: w.stateLocked()}.json()
		}
		return f
	}
	if !w.wanted {
		w.wanted = true
		w.wakeLocked()
	}
	return nil
}

// late is the answer to a call that has waited for a process in vain.
func (w *worker) late() *fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.stateLocked()
	text := fmt.Sprintf("%s; the worker %s is %s", errDeadline.Text, w.name, state)
	if w.last != "" && state == "starting" {
		text += ": " + w.last
	}
	return &fault{Code: codeDeadline, Text: text, Data: faultData{Worker: w.name, State: state}.json()}
}

// whyLocked says why no process of the worker will come; it is empty if one will.
func (w *worker) whyLocked() string {
	switch {
	case w.over:
		return "is gone"
	case w.halted:
		return "was stopped"
	case w.parked != "":
		return "is parked: " + w.parked
	case len(w.keepers) > 0 && !slices.ContainsFunc(w.keepers, func(k *keeper) bool { return !k.resting }):
		return "has ended: " + w.last
	}
	return ""
}

// instances are the processes that take calls, by what Ipcd.Register has told them of themselves.
func (w *worker) instances() (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.running {
		if p.offered != nil {
			ids = append(ids, p.offered.id)
		}
	}
	return ids
}

// wholeServices are the methods of a worker that has not said which it has.
func wholeServices(spec *workerSettings) (methods []offeredMethod) {
	for _, name := range spec.Services {
		methods = append(methods, offeredMethod{Description{Method: name + "." + anyMethod, Argument: schema{}, Result: schema{}}})
	}
	return methods
}

// offerMethods replaces what the router has of the worker. The other names of its services are nobody else's either.
func (w *worker) offerMethods(spec *workerSettings, methods []offeredMethod, version string) *fault {
	w.offering.Lock()
	defer w.offering.Unlock()
	if len(methods) == 0 {
		if w.offer != nil {
			w.server.router.withdraw(w.offer)
			w.offer = nil
		}
		return nil
	}
	o, f := newOffer(&Registration{Methods: methods, Version: version}, w.who, w.server.limits())
	if f != nil {
		return f
	}
	if old := w.offer; old != nil && old.version == o.version && slices.Equal(old.holds, spec.Services) && sameJSON(old.methods, o.methods) {
		return nil
	}
	o.provider, o.holds = w, spec.Services
	if f := w.server.router.offer(o, w.offer); f != nil {
		return f
	}
	w.server.router.open(o)
	w.offer = o
	return nil
}

// A workerProcess is one process of a worker. It is the registrar of its own session, and a provider.
type workerProcess struct {
	*workerChild
	worker  *worker
	number  int // of its keeper
	spec    *workerSettings
	version int
	watch   time.Duration // that it has to run before it is ready, where that is all that is asked of it
	began   time.Time
	ready   chan struct{} // closed once calls may come
	over    chan struct{} // closed once its session is over
	busy    atomic.Int64  // calls that it has, from the moment at which the pool gives it one

	// The worker's mu guards the fields below.
	session *session
	offered *offer // nil before it is ready, and once it gets no more calls
	leaving bool   // it is to end once it has no calls
	refusal string // why it is not ready though it has registered, or runs; empty if that is not known
}

// serve serves the channel to its end. It is no connection of the server: nobody has to stay for it, its keeper has it leave,
// and says what has become of it.
func (p *workerProcess) serve(l *limits) {
	defer close(p.over)
	w := p.worker
	log := w.log.with("endpoint", "fork", "instance", p.number)
	in := newInput(p.channel, *l)
	s := newSession(w.server.shared, &w.who, protocolOf(protoJSON).codec(in, *l, sideChannel), in, p.channel, l, log)
	s.registrar = p
	s.ended = func(error) { s.cut(nil) }
	if w.server.audit.wants(false) {
		w.server.audit.write(&auditEntry{peer: s.peer, action: actionConnect, by: basisNames[byWorker]})
	}
	p.meet(s)
	if err := s.serve(); err != nil {
		log.info("a connection was cut", "error", err)
	}
	s.close()
}

// meet is called with the session over the channel before that begins.
func (p *workerProcess) meet(s *session) {
	p.worker.mu.Lock()
	p.session = s
	p.worker.mu.Unlock()
	switch {
	case len(p.spec.Services) == 0: // it only calls others
		p.afterWatch(func() {
			close(p.ready)
			p.worker.change(func() {})
		})
		return
	case p.spec.Ready != readyStart:
		return
	}
	o, f := newOffer(&Registration{Methods: wholeServices(p.spec)}, *s.peer, s.limits)
	if f == nil {
		o.provider, o.lost = remote{session: s}, &s.deaf
		f = p.offer(o, nil)
	}
	if f != nil { // the settings allow no such services
		p.worker.log.error("a worker cannot be called", "error", f)
		p.unfit("it cannot be called: " + f.Text)
		return
	}
	p.afterWatch(func() { p.open(o) })
}

// afterWatch calls f once p has run for long enough, if it does.
func (p *workerProcess) afterWatch(f func()) {
	if p.watch <= 0 {
		f()
		return
	}
	p.worker.force.wg.Go(func() {
		late := time.NewTimer(p.watch)
		defer late.Stop()
		select {
		case <-late.C:
			f()
		case <-p.over:
		}
	})
}

// unfit notes why the process does not get ready. What it offers already it goes on to offer.
func (p *workerProcess) unfit(why string) {
	p.worker.change(func() {
		if !p.isReady() {
			p.refusal, p.worker.last = why, why
		}
	})
}

// whyLate says why the process was not ready: what it has been told, or else what is known of it.
func (p *workerProcess) whyLate(known string) string {
	p.worker.mu.Lock()
	defer p.worker.mu.Unlock()
	return cmp.Or(p.refusal, known)
}

// offer implements registrar.
func (p *workerProcess) offer(o, _ *offer) *fault {
	for _, d := range o.methods {
		if service, _, _ := strings.Cut(d.Method, "."); !slices.Contains(p.spec.Services, service) {
			return faultf(codeDenied, "access denied: the worker %s may not offer %s: services of its [[worker]] lacks %s", p.worker.name, d.Method, service)
		}
	}
	o.id, o.busy = fmt.Sprintf("%s/%d", p.worker.name, p.number), &p.busy
	if most := int64(p.spec.MaxCalls); o.most == 0 || o.most > most {
		o.most = most
	}
	o.provider, o.check = handing{p.worker.name, o, o.provider}, p.spec.Check
	o.misfit = func(method string, f *fault) {
		p.worker.log.warn("a worker gave a wrong result", "instance", p.number, "method", method, "error", f)
	}
	return o.compile()
}

// open implements registrar.
func (p *workerProcess) open(o *offer) {
	w := p.worker
	w.server.router.enter(o, w.calls)
	w.mu.Lock()
	first := p.offered == nil && !p.isReady()
	gone := p.leaving
	if !gone {
		p.offered = o
	}
	w.mu.Unlock()
	if gone {
		return
	}
	if f := w.offerMethods(p.spec, offeredMethods(o.methods), o.version); f != nil {
		w.log.error("what a worker offers cannot be called", "error", f)
	}
	if first {
		close(p.ready)
	}
	w.serving()
}

func (p *workerProcess) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

func offeredMethods(list []Description) (methods []offeredMethod) {
	for _, d := range list {
		methods = append(methods, offeredMethod{d})
	}
	return methods
}

// withdraw implements registrar.
func (p *workerProcess) withdraw(o *offer) {
	p.worker.mu.Lock()
	if p.offered == o {
		p.offered = nil
	}
	p.worker.mu.Unlock()
	p.worker.serving()
}

// serving tells the pool which processes take calls, after a change of that, and wakes whoever waits for one.
func (w *worker) serving() {
	w.offering.Lock()
	w.mu.Lock()
	var offers []*offer
	for _, p := range w.running {
		if p.offered != nil {
			offers = append(offers, p.offered)
		}
	}
	w.mu.Unlock()
	w.calls.setProviders(offers)
	if w.offer != nil {
		w.server.router.announce(w.offer)
	}
	w.offering.Unlock()
	w.change(func() {})
}

// A handing gives calls to a process. It answers those that have waited for the first process of a worker, and turn out to
// be for a method that the worker does not offer.
type handing struct {
	worker string
	offer  *offer
	to     provider
}

// ask implements provider.
func (h handing) ask(c *call, u *unflushed, done func(failed bool)) {
	if h.offer.describes(c.method) == nil && !h.offer.isWhole(c.method) {
		done(true)
		c.reply(nil, &fault{Code: codeNoMethod, Text: fmt.Sprintf("there is no method %s: the worker %s does not offer it", shorten(c.method, 100), h.worker)})
		return
	}
	h.to.ask(c, u, done)
}
