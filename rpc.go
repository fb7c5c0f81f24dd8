package main

// This file is the door of the room rpc: services, their methods, and the router that finds a method by its name.
//
// rpc_services.go lists our services, rpc_receiver.go makes a service of a Go type, by reflection, rpc_call.go is a call,
// rpc_error.go the error of a method, rpc_schema.go describes Go types as JSON Schema, rpc_offer.go has what providers offer,
// rpc_pool.go forwards calls to them, rpc_stream.go has the parts of an answer on their way, rpc_check.go holds calls to their
// schemas, rpc_check_effort.go bounds the work of that, rpc_event.go has the events that subscribers get, rpc_tally.go counts calls by method, and rpc_command.go makes methods of programs. A new Go service is
// a line in rpc_services.go; a new kind of service implements service and is added to the router; a new kind of provider
// implements provider in rpc_pool.go.

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A finder finds the methods that a peer may call. The daemon's is the router; a client has none.
type finder interface {
	find(name string, who *peer) (*method, *fault)
}

// A service is a set of methods under one name. A receiver, which wraps a Go value, is one kind. Another kind may have
// methods that forward to a pool of providers.
type service interface {
	// names lists the methods in alphabetical order, without the name of the service.
	names() []string
	// method returns the method with that name, or nil if there is none.
	method(name string) *method
}

// A method is what a caller can call. It has either invoke or forward.
type method struct {
	name     string       // Service.Method
	argument reflect.Type // what the codec decodes into; nil if the method takes no argument
	result   reflect.Type // nil if it returns none
	part     reflect.Type // of a part of its answer; nil if there are none, and then a token in an argument means nothing
	doc      string       // one line; may be empty

	// described is what its provider says of it; nil for a method that is described by its types.
	described *Description

	// invoke runs the method in this process, and in the goroutine that reads the connection as long as the method is
	// quick. arg is a pointer to the argument, or nil if the method takes none.
	invoke func(ctx context.Context, arg any) (any, error)

	// forward passes the call to a provider and returns at once, so that pipelined calls are all in flight together.
	// c.reply answers it, at any time and from any goroutine. c.arg is a *document.
	forward func(c *call, u *unflushed)

	// slow is how many more quick calls it takes until the method may run in the reading goroutine again, see
	// session.handle. A call that held up the reader sets it; each quick call decrements it.
	slow atomic.Int32

	// endless says that a call goes on until its caller, or the daemon, ends it: it has no deadline, and a stop ends it at once.
	endless bool

	// computes says that the method waits for nothing, however long it takes: all of that is its user's to pay for.
	computes bool

	tally atomic.Pointer[tally] // what is counted of its calls; nil before the first, see tallyBook
}

// describe describes the method under its name.
func (m *method) describe(name string) (d Description) {
	switch {
	case m.described != nil:
		d = *m.described
	case m.argument != nil:
		d.Argument = argumentSchema(m.argument)
	}
	if m.described == nil {
		d.Result = resultSchema(m.result)
		if m.part != nil {
			d.Part = resultSchema(m.part)
		}
	}
	d.Method, d.Doc = name, m.doc
	return d
}

// newArgument returns a pointer for the codec to decode the argument into.
func (m *method) newArgument() any {
	switch m.argument {
	case nil:
		return nil
	case stringType:
		return new(string)
	case bytesType:
		return new([]byte)
	case documentType:
		return new(document)
	}
	return reflect.New(m.argument).Interface()
}

// run invokes the method. A panic is reported to crashed and becomes an internal error.
func (m *method) run(ctx context.Context, arg any, crashed func(name string, value any, stack []byte)) (result any, f *fault) {
	defer func() {
		if v := recover(); v != nil {
			crashed(m.name, v, debug.Stack())
			result, f = nil, errInternal
		}
	}()
	result, err := m.invoke(ctx, arg)
	if err != nil {
		return nil, m.fault(ctx, err)
	}
	return result, nil
}

// A router finds methods by name: those that run here, and those that providers offer. Lookups take no lock.
type router struct {
	mu       sync.Mutex         // guards what follows, and the replacement of index
	services map[string]service // that run here
	offers   []*offer           // in the order in which they came
	pools    map[string]*pool   // by what is offered: Service.Method or Service.*
	lastID   int                // of a provider
	events   *hub
	up       map[string]int // how many of offers have a service, have been announced, and can be called

	index   atomic.Pointer[map[string]*method] // by Service.Method or Service.*; replaced, never changed
	policy  atomic.Pointer[policy]             // who may call what; replaced, never changed
	waiting atomic.Int64                       // calls in all pools that wait for a provider to have room
	most    atomic.Int64                       // max_waiting, for each pool
	message atomic.Int64                       // max_message
}

func newRouter() *router {
	r := &router{services: map[string]service{}, pools: map[string]*pool{}, up: map[string]int{}, events: newHub(defaultLimits())}
	r.index.Store(&map[string]*method{})
	r.policy.Store(&policy{})
	r.obey(defaultLimits())
	return r
}

// obey puts the limits on what waits into force.
func (r *router) obey(l limits) {
	r.most.Store(int64(l.MaxWaiting))
	r.message.Store(int64(l.MaxMessage))
	r.events.obey(l)
}

// add registers a service under a name. It fails if the name is taken.
func (r *router) add(name string, s service) error {
	if !isServiceName(name) {
		return faultf(codeInvalid, "%q is not a valid name for a service; use letters, digits and _, beginning with a letter", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.services[name]; taken {
		return faultf(codeInvalid, "the service %s is there already", name)
	}
	r.services[name] = s
	r.reindexLocked()
	return nil
}

// offer adds what a provider offers, in place of old unless that is nil: all of it, or nothing. The provider gets its first
// call once the offer is opened.
func (r *router) offer(o, old *offer) *fault {
	f := o.compile()
	if f == nil {
		r.change(func() { f = r.offerLocked(o, old) })
	}
	return f
}

// open lets the provider of an offer be called.
func (r *router) open(o *offer) {
	o.opened.Store(true)
	r.fill(o)
	r.announce(o)
}

// A ServiceEvent is the data of the events that are published of a service.
type ServiceEvent struct {
	Service string `json:"service"`
	Name    string `json:"name,omitempty"` // of the first provider
}

// announce publishes which services have got their first provider that can be called, or lost their last, by what has become
// of o.
func (r *router) announce(o *offer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := map[string]bool{}
	if o.listed && o.isUp() {
		for _, d := range o.methods {
			service, _, _ := strings.Cut(d.Method, ".")
			now[service] = true
		}
	}
	for service := range o.announced {
		if now[service] {
			continue
		}
		if r.up[service]--; r.up[service] == 0 {
			delete(r.up, service)
			r.events.tell("service."+service+".down", func() any { return ServiceEvent{Service: service} })
		}
	}
	for service := range now {
		if o.announced[service] {
			continue
		}
		if r.up[service]++; r.up[service] == 1 {
			r.events.tell("service."+service+".up", func() any { return ServiceEvent{service, o.who.name()} })
		}
	}
	o.announced = now
}

func (r *router) offerLocked(o, old *offer) *fault {
	for _, d := range o.methods {
		if service, _, _ := strings.Cut(d.Method, "."); r.services[service] != nil {
			return faultf(codeDenied, "%s: the service %s is built in", d.Method, service)
		}
	}
	for _, other := range r.offers {
		if other == old {
			continue
		}
		name := o.overlaps(other)
		switch {
		case name == "":
		case !other.who.isUser(o.who):
			return faultf(codeDenied, "%s is offered by %s", name, other.who.who())
		case !other.share || !o.share:
			return faultf(codeDenied, "%s is offered by the provider %s, which does not share it with you", name, other.id)
		}
	}
	if at := slices.Index(r.offers, old); at >= 0 {
		o.id, o.busy, o.replaces = old.id, old.busy, old.opened.Load()
		o.announced, old.announced = old.announced, nil
		r.offers[at] = o
		o.listed, old.listed = true, false
		old.pools = nil
		return nil
	}
	r.lastID++
	o.id = "p" + strconv.Itoa(r.lastID)
	r.offers = append(r.offers, o)
	o.listed = true
	return nil
}

// withdraw removes an offer. Calls that its provider has go on.
func (r *router) withdraw(o *offer) {
	r.change(func() {
		r.offers = slices.DeleteFunc(r.offers, func(other *offer) bool { return other == o })
		o.listed, o.pools = false, nil
	})
	r.announce(o)
}

// change changes the offers, and does what follows for the calls that wait.
func (r *router) change(change func()) {
	r.mu.Lock()
	pools := slices.Collect(maps.Values(r.pools)) // some of them are about to lose their last provider
	change()
	r.reindexLocked()
	r.mu.Unlock()
	if r.waiting.Load() > 0 {
		goOn(pools)
	}
}

// enter opens an offer whose calls all come by one pool.
func (r *router) enter(o *offer, p *pool) {
	r.mu.Lock()
	o.pools = []*pool{p}
	r.mu.Unlock()
	o.opened.Store(true)
}

// release notes that the provider of o is through with a call.
func (r *router) release(o *offer) {
	o.busy.Add(-1)
	r.fill(o)
}

// fill gives the provider of o, which has room, calls that wait.
func (r *router) fill(o *offer) {
	if r.waiting.Load() == 0 {
		return
	}
	r.mu.Lock()
	pools := slices.Clone(o.pools)
	r.mu.Unlock()
	goOn(pools)
}

func (r *router) reindexLocked() {
	index := map[string]*method{}
	for name, s := range r.services {
		for _, n := range s.names() {
			index[name+"."+n] = s.method(n)
		}
	}
	for name, m := range r.offeredLocked() {
		index[name] = m
	}
	r.index.Store(&index)
}

// offeredLocked gives each name that is offered the pool of its providers, and returns the methods that hand calls to those.
// Who offers a whole service is a provider of each of its names.
func (r *router) offeredLocked() map[string]*method {
	providers := map[string][]*offer{}
	described := map[string]*Description{}
	for _, o := range r.offers {
		o.pools = nil
		for i := range o.methods {
			d := &o.methods[i]
			if described[d.Method] == nil {
				described[d.Method] = d
			}
			providers[d.Method] = append(providers[d.Method], o)
		}
	}
	for name := range described {
		service, short, _ := strings.Cut(name, ".")
		if short == anyMethod {
			continue
		}
		for _, o := range providers[service+"."+anyMethod] {
			if o.describes(name) == nil {
				providers[name] = append(providers[name], o)
			}
		}
	}
	methods := map[string]*method{}
	for name, all := range providers {
		p := r.pools[name]
		if p == nil {
			p = &pool{router: r}
			r.pools[name] = p
		}
		for _, o := range all {
			o.pools = append(o.pools, p)
		}
		methods[name] = p.newForwarder(described[name])
	}
	for name, p := range r.pools {
		if providers[name] == nil {
			delete(r.pools, name)
		}
		p.setProviders(providers[name])
	}
	return methods
}

// size is how many providers there are, and how many methods can be called.
func (r *router) size() (providers, methods int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.offers), len(*r.index.Load())
}

// poolOf returns the pool of those who provide a method, or nil.
func (r *router) poolOf(name string) *pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pools[name]; p != nil {
		return p
	}
	service, _, _ := strings.Cut(name, ".")
	return r.pools[service+"."+anyMethod]
}

// find returns the method for a name such as "Echo.Say", if who may call it.
func (r *router) find(name string, who *peer) (*method, *fault) {
	if f := r.mayCall(who, name); f != nil {
		return nil, f
	}
	index := *r.index.Load()
	if m := index[name]; m != nil {
		return m, nil
	}
	if service, short, ok := strings.Cut(name, "."); ok && isServiceName(short) {
		if m := index[service+"."+anyMethod]; m != nil {
			return m, nil
		}
	}
	f := &fault{Code: codeNoMethod, Text: fmt.Sprintf("there is no method %s", shorten(name, 100))}
	if near := nearest(shorten(name, 100), r.callable(who)); near != "" {
		f.Data = faultData{Near: near}.json()
	}
	return nil, f
}

// authenticateMethod is the only method of those who have to show a token and have not.
const authenticateMethod = ownService + ".Authenticate"

// mayCall returns nil if who may call the method.
func (r *router) mayCall(who *peer, name string) *fault {
	if who.owns {
		return nil
	}
	if who.proof != nil {
		if name == authenticateMethod {
			return nil
		}
		if f := who.unproven(); f != nil {
			return f
		}
	}
	d := r.decideCall(who, name)
	if d.allowed {
		return nil
	}
	if isOwnMethod(name) {
		d = decision{} // what it takes is any right at all
	}
	return d.refusal(who, rightCall, name)
}

// decideCall decides whether who may call the method. Those of Ipcd are for all who may connect: what takes a right of its own asks
// for that itself.
func (r *router) decideCall(who *peer, name string) decision {
	pol := r.policy.Load()
	if isOwnMethod(name) {
		return pol.entering(who)
	}
	return pol.decide(who, rightCall, name)
}

func isOwnMethod(name string) bool { return strings.HasPrefix(name, ownService+".") }

// callable lists the names of the methods that who may call, in alphabetical order.
func (r *router) callable(who *peer) []string {
	controls := r.policy.Load().decide(who, rightAdmin, "").allowed
	return slices.DeleteFunc(r.methods(), func(name string) bool {
		return r.mayCall(who, name) != nil || !controls && takesAdmin(name)
	})
}

// takesAdmin reports whether the method is one of Ipcd that nobody may call at all who may not control the daemon.
func takesAdmin(name string) bool {
	short, own := strings.CutPrefix(name, ownService+".")
	return own && !slices.Contains(withoutAdmin, short)
}

// withoutAdmin are the methods of Ipcd that are everybody's who may connect, and those that have a right of their own.
var withoutAdmin = []string{"Authenticate", "Describe", "List", "Ping", "Publish", "Register", "Status", "Subscribe", "Unregister", "Whoami"}

// answering names those who answer a method because they answer whatever its service is asked for.
func (r *router) answering(name string) (who []string) {
	if _, short, _ := strings.Cut(name, "."); !isServiceName(short) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.offers {
		if o.isWhole(name) && !slices.Contains(who, o.who.who()) {
			who = append(who, o.who.who())
		}
	}
	return who
}

// itself is the name of whoever answers what runs here.
const itself = "ipcd"

// list lists the methods that who may call, in alphabetical order, and who answers them.
func (r *router) list(who *peer) []Listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Listing{}
	for _, name := range r.callable(who) {
		l := Listing{Method: name, Doc: (*r.index.Load())[name].doc}
		if p := r.pools[name]; p == nil {
			l.Providers = []ProviderNote{{Name: itself}}
		} else {
			for _, o := range r.offers { // the pool has them in the order of their turns
				if slices.Contains(o.pools, p) {
					l.Providers = append(l.Providers, o.notes()...)
				}
			}
		}
		list = append(list, l)
	}
	longest := fitting(int(r.message.Load()/8), len(list), func(i int) int { return len(list[i].Doc) })
	for i := range list {
		list[i].Doc = shorten(list[i].Doc, longest)
	}
	return list
}

// fitting returns how long each of n texts may be so that they have room together: those that are short lose nothing to the long ones.
func fitting(room, n int, size func(i int) int) (longest int) {
	for longest = room; longest > 0; longest /= 2 {
		all := 0
		for i := range n {
			all += min(size(i), longest)
		}
		if all <= room {
			break
		}
	}
	return longest
}

// fitDescriptions leaves out what is long of descriptions that would not have room in a message together.
func (r *router) fitDescriptions(list []Description) {
	if len(list) < 2 { // one came in a message
		return
	}
	longest := fitting(int(r.message.Load()/4), len(list), func(i int) int { return list[i].size })
	for i := range list {
		if d := &list[i]; d.size > longest {
			*d = Description{Method: d.Method, Doc: shorten(d.Doc, min(longest, cutDoc)), Argument: schema{}, Result: schema{}, Idempotent: d.Idempotent,
				ReadOnly: d.ReadOnly, Destructive: d.Destructive, Cut: true, Part: cutPart(d.Part)}
		}
	}
}

// cutPart returns a schema that allows anything in place of that of parts, if there are some. An empty one would not be shown.
func cutPart(s schema) schema {
	if s == nil {
		return nil
	}
	return schema{"$comment": "cut"}
}

// cutDoc is how much of its doc is left to a method that is cut.
const cutDoc = 100

// methods lists the names of all methods in alphabetical order.
func (r *router) methods() []string {
	return slices.Sorted(maps.Keys(*r.index.Load()))
}

// servicesOf lists the services of methods that are in alphabetical order.
func servicesOf(methods []string) (names []string) {
	for _, full := range methods {
		if service, _, _ := strings.Cut(full, "."); !slices.Contains(names, service) {
			names = append(names, service)
		}
	}
	return names
}

// newBuiltins returns a router with the services of this program.
func newBuiltins() (*router, error) {
	r := newRouter()
	for _, b := range services() {
		if err := addReceiver(r, b.value, b.docs); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// addReceiver registers the methods of a Go value under the name of its type.
func addReceiver(r *router, v any, docs map[string]string) error {
	name, s, err := newReceiver(v, docs)
	if err != nil {
		return err
	}
	return r.add(name, s)
}
