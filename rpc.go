package main

// This file is the door of the room rpc: services, their methods, and the router that finds a method by its name. It
// also makes a service of a Go type, by reflection.
//
// rpc_services.go lists our services, rpc_call.go is a call, rpc_error.go the error of a method, rpc_schema.go describes Go
// types as JSON Schema, rpc_offer.go has what providers offer, rpc_pool.go forwards calls to them, rpc_check.go holds calls to
// their schemas, rpc_event.go has the events that subscribers get, and rpc_command.go makes methods of programs. A new Go service is a line in rpc_services.go; a new kind of service implements service and is added to the router; a new kind of provider
// implements provider in rpc_pool.go.

import (
	"context"
	"encoding"
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
	forward func(c *call)

	// slow is how many more quick calls it takes until the method may run in the reading goroutine again, see
	// session.handle. A call that held up the reader sets it; each quick call decrements it.
	slow atomic.Int32

	// endless says that a call goes on until its caller, or the daemon, ends it: it has no deadline, and a stop ends it at once.
	endless bool
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
	up       map[string]string // services that have been announced, and the first provider of each

	index   atomic.Pointer[map[string]*method] // by Service.Method or Service.*; replaced, never changed
	waiting atomic.Int64                       // calls in all pools that wait for a provider to have room
	most    atomic.Int64                       // max_waiting, for each pool
}

func newRouter() *router {
	r := &router{services: map[string]service{}, pools: map[string]*pool{}, events: newHub(defaultLimits())}
	r.index.Store(&map[string]*method{})
	r.obey(defaultLimits())
	return r
}

// obey puts the limits on what waits into force.
func (r *router) obey(l limits) {
	r.most.Store(int64(l.MaxWaiting))
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
	r.announce()
}

// A ServiceEvent is the data of the events that are published of a service.
type ServiceEvent struct {
	Service string `json:"service"`
	Name    string `json:"name,omitempty"` // of the first provider
}

// announce publishes which services have got their first provider that can be called, or lost their last.
func (r *router) announce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := map[string]string{}
	for _, o := range r.offers {
		if !o.isUp() {
			continue
		}
		for _, d := range o.methods {
			service, _, _ := strings.Cut(d.Method, ".")
			if _, is := now[service]; !is {
				now[service] = o.who.name()
			}
		}
	}
	for service := range r.up {
		if _, is := now[service]; !is {
			r.events.tell("service."+service+".down", func() any { return ServiceEvent{Service: service} })
		}
	}
	for service, name := range now {
		if _, was := r.up[service]; !was {
			r.events.tell("service."+service+".up", func() any { return ServiceEvent{service, name} })
		}
	}
	r.up = now
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
		r.offers[at] = o
		old.pools = nil
		return nil
	}
	r.lastID++
	o.id = "p" + strconv.Itoa(r.lastID)
	r.offers = append(r.offers, o)
	return nil
}

// withdraw removes an offer. Calls that its provider has go on.
func (r *router) withdraw(o *offer) {
	r.change(func() {
		r.offers = slices.DeleteFunc(r.offers, func(other *offer) bool { return other == o })
		o.pools = nil
	})
	r.announce()
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

// find returns the method for a name such as "Echo.Say".
func (r *router) find(name string, _ *peer) (*method, *fault) {
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
	if near := nearest(shorten(name, 100), r.methods()); near != "" {
		f.Data = faultData{Near: near}.json()
	}
	return nil, f
}

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

// list lists all methods in alphabetical order, and who answers them.
func (r *router) list() []Listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Listing{}
	for _, name := range r.methods() {
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
	return list
}

// methods lists the names of all methods in alphabetical order.
func (r *router) methods() []string {
	return slices.Sorted(maps.Keys(*r.index.Load()))
}

// names lists the services in alphabetical order.
func (r *router) names() (names []string) {
	for _, full := range r.methods() {
		if service, _, _ := strings.Cut(full, "."); !slices.Contains(names, service) {
			names = append(names, service)
		}
	}
	return names
}

// A receiver is a Go value whose methods are called by reflection.
type receiver struct {
	methods map[string]*method
	sorted  []string
}

func (r *receiver) names() []string            { return r.sorted }
func (r *receiver) method(name string) *method { return r.methods[name] }

// add adds a method that is not one of the Go value.
func (r *receiver) add(name string, m *method) {
	r.methods[name] = m
	r.sorted = append(r.sorted, name)
	slices.Sort(r.sorted)
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
	stringType  = reflect.TypeFor[string]()
	bytesType   = reflect.TypeFor[[]byte]()

	documentType = reflect.TypeFor[document]()
)

// methodForms are the forms of methods that can be called. Those with a context may take part behind the argument, which
// sends a part of the answer in advance: progress, or an element of a stream. It waits while the caller has no room for it, and
// does nothing for a caller who has asked for no parts (see wantsParts). After an error there is no point in sending more, and
// after the method has returned nothing more is sent. The last form is net/rpc's.
const methodForms = `
	func (t *T) Method(ctx context.Context, arg A) (R, error)
	func (t *T) Method(ctx context.Context, arg A) error
	func (t *T) Method(ctx context.Context) (R, error)
	func (t *T) Method(ctx context.Context) error
	func (t *T) Method(ctx context.Context, arg A, part func(P) error) (R, error)
	func (t *T) Method(arg A, reply *R) error`

// newReceiver returns a service with the exported methods of v, and its name, which is that of v's type. Each of them has
// to have one of the forms above. docs has a line of documentation by the name of the method, for any of them.
//
// A method that is found by reflection is called by it, too. Where that is too slow, v has a method bound, which returns the
// method values by their names.
func newReceiver(v any, docs map[string]string) (name string, s *receiver, err error) {
	value := reflect.ValueOf(v)
	name = reflect.Indirect(value).Type().Name()
	s = &receiver{methods: map[string]*method{}}
	var bound map[string]any
	if b, ok := v.(interface{ bound() map[string]any }); ok {
		bound = b.bound()
	}
	var others []string
	for i := range value.NumMethod() {
		short, fn := value.Type().Method(i).Name, value.Method(i)
		if f := bound[short]; f != nil {
			fn = reflect.ValueOf(f)
		}
		m := newGoMethod(fn)
		if m == nil {
			others = append(others, fmt.Sprintf("%s.%s is a %s", name, short, fn.Type()))
			continue
		}
		m.name, m.doc = name+"."+short, docs[short]
		s.methods[short] = m
		s.sorted = append(s.sorted, short)
	}
	switch {
	case others != nil:
		return "", nil, fmt.Errorf("%s; give it another name, one that is not exported, or one of these forms:%s", strings.Join(others, ", "), methodForms)
	case s.sorted == nil:
		return "", nil, fmt.Errorf("%T has no exported method; one has to have one of these forms:%s", v, methodForms)
	}
	slices.Sort(s.sorted)
	return name, s, nil
}

// newGoMethod returns a method that calls fn, or nil if fn has none of the forms.
func newGoMethod(fn reflect.Value) *method {
	t := fn.Type()
	if t.IsVariadic() || t.NumOut() == 0 || t.Out(t.NumOut()-1) != errorType {
		return nil
	}
	in, out := t.NumIn(), t.NumOut()
	part := partOf(t)
	if part != nil {
		in--
	}
	switch {
	case (in == 1 || in == 2) && t.In(0) == contextType && (out == 1 || out == 2 && t.Out(0) != errorType):
		m := &method{part: part, invoke: invokeContext(fn)}
		if in == 2 {
			m.argument = t.In(1)
		}
		if out == 2 {
			m.result = t.Out(0)
		}
		return m
	case part == nil && in == 2 && out == 1 && t.In(1).Kind() == reflect.Pointer:
		m := &method{argument: t.In(0), result: t.In(1).Elem(), invoke: invokeReply(fn)}
		if m.argument.Kind() == reflect.Pointer { // as in net/rpc, it never is nil
			m.argument = m.argument.Elem()
		}
		return m
	}
	return nil
}

// partOf returns the type of the parts that a method sends by its last parameter, a func(P) error, or nil.
func partOf(t reflect.Type) reflect.Type {
	if t.NumIn() == 0 {
		return nil
	}
	f := t.In(t.NumIn() - 1)
	if f.Kind() != reflect.Func || f.NumIn() != 1 || f.IsVariadic() || f.NumOut() != 1 || f.Out(0) != errorType {
		return nil
	}
	return f.In(0)
}

// invokeContext calls a method of a form with a context. The commonest types avoid reflection, which would cost as
// much as the rest of a small call.
func invokeContext(fn reflect.Value) func(context.Context, any) (any, error) {
	switch f := fn.Interface().(type) {
	case func(context.Context, string) (string, error):
		return func(ctx context.Context, arg any) (any, error) { return f(ctx, *arg.(*string)) }
	case func(context.Context, []byte) ([]byte, error):
		return func(ctx context.Context, arg any) (any, error) { return f(ctx, *arg.(*[]byte)) }
	}
	t := fn.Type()
	sendsParts, returnsResult := partOf(t) != nil, t.NumOut() == 2
	return func(ctx context.Context, arg any) (any, error) {
		in := []reflect.Value{reflect.ValueOf(ctx)}
		if arg != nil {
			in = append(in, reflect.ValueOf(arg).Elem())
		}
		if sendsParts {
			in = append(in, partSender(ctx, t.In(t.NumIn()-1)))
		}
		out := fn.Call(in)
		if err, _ := out[len(out)-1].Interface().(error); err != nil || !returnsResult {
			return nil, err
		}
		result := reflect.New(out[0].Type())
		result.Elem().Set(out[0])
		return resultAt(result), nil
	}
}

// partSender returns the function of that type by which a method sends the parts of the answer to the call of ctx.
func partSender(ctx context.Context, t reflect.Type) reflect.Value {
	c, _ := ctx.Value(callKey).(*call)
	return reflect.MakeFunc(t, func(in []reflect.Value) []reflect.Value {
		err := reflect.New(errorType).Elem()
		if c != nil {
			if failed := c.sendPart(in[0].Interface()); failed != nil {
				err.Set(reflect.ValueOf(failed))
			}
		}
		return []reflect.Value{err}
	})
}

// wantsParts reports whether the caller of the call that ctx belongs to has asked for the answer in parts.
func wantsParts(ctx context.Context) bool {
	c, ok := ctx.Value(callKey).(*call)
	return ok && c.parts != ""
}

// invokeReply calls a method of net/rpc's form.
func invokeReply(fn reflect.Value) func(context.Context, any) (any, error) {
	replyType, takesPointer := fn.Type().In(1).Elem(), fn.Type().In(0).Kind() == reflect.Pointer
	return func(_ context.Context, arg any) (any, error) {
		reply := reflect.New(replyType)
		// As in net/rpc, a method may use its reply without making the map or slice first.
		switch replyType.Kind() {
		case reflect.Map:
			reply.Elem().Set(reflect.MakeMap(replyType))
		case reflect.Slice:
			reply.Elem().Set(reflect.MakeSlice(replyType, 0, 0))
		}
		argument := reflect.ValueOf(arg)
		if !takesPointer {
			argument = argument.Elem()
		}
		out := fn.Call([]reflect.Value{argument, reply})
		if err, _ := out[0].Interface().(error); err != nil {
			return nil, err
		}
		return resultAt(reply), nil
	}
}

// leaving returns a value as resultAt returns a result: the data of an error, a part of an answer.
func leaving(v any) any {
	if _, passed := v.(document); passed || v == nil {
		return v
	}
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	return resultAt(p)
}

// resultAt returns the result that p points to as it goes to the codec: by the pointer, so that an encoder that is a method
// of the pointer is found, and any is seen to be any. Not every caller survives null at the top (Go's own jsonrpc client
// does not), so a slice or a map that is nil is empty instead, and a pointer to a struct that is nil is no result.
func resultAt(p reflect.Value) any {
	for p.Elem().Kind() == reflect.Pointer && !p.Elem().IsNil() {
		p = p.Elem()
	}
	t := p.Type().Elem()
	if k := t.Kind(); (k == reflect.Pointer || k == reflect.Map || k == reflect.Slice) && p.Elem().IsNil() {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch k, own := t.Kind(), writesItself(t); {
		case k == reflect.Struct && !own:
			return nil
		case k == reflect.Map && !own:
			p = reflect.New(t)
			p.Elem().Set(reflect.MakeMap(t))
		case k == reflect.Slice && !own:
			p = reflect.New(t)
			p.Elem().Set(reflect.MakeSlice(t, 0, 0))
		case p.Elem().Kind() == reflect.Pointer:
			return p.Elem().Interface() // of a pointer to it, gob would send nothing at all
		}
	}
	switch v := p.Interface().(type) { // what codecs encode without reflection
	case *string:
		return *v
	case *[]byte:
		return *v
	case *document:
		return *v
	case *bool:
		return *v
	case *int:
		return *v
	}
	return p.Interface()
}

// ownEncoders are the interfaces by which some codec has a type encode itself.
var ownEncoders = []reflect.Type{jsonMarshalerType, textMarshalerType, reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[interface{ GobEncode() ([]byte, error) }]()}

// writesItself reports whether t or a pointer to it has a method that encodes it.
func writesItself(t reflect.Type) bool {
	return slices.ContainsFunc(ownEncoders, reflect.PointerTo(t).Implements)
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
