package main

// This file owns what providers offer to a router: the names of methods and their descriptions, and who may offer a name
// that is taken.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// A Description is one method in the answer of Describe, and in a registration.
type Description struct {
	Method      string      `json:"method"` // Service.Method; in a registration Service.* is whatever the service is asked for
	Doc         string      `json:"doc,omitempty"`
	Since       string      `json:"since,omitempty"`
	Argument    schema      `json:"argument"`       // JSON Schema; null if the method takes none
	Result      schema      `json:"result"`         // JSON Schema
	Part        schema      `json:"part,omitempty"` // JSON Schema of a part of its answer; missing if there are none
	Idempotent  bool        `json:"idempotent,omitempty"`
	ReadOnly    bool        `json:"readOnly,omitempty"`
	Destructive bool        `json:"destructive,omitempty"`
	Errors      []ErrorNote `json:"errors,omitempty"` // those of its own
	Cut         bool        `json:"cut,omitempty"`    // the answer has no room for its schemas; asked for by itself, it has them

	size  int       // of its JSON in a registration
	forms *gobForms // of a method of a provider
}

// An ErrorNote describes an error that a method may answer.
type ErrorNote struct {
	Code int    `json:"code"`
	Doc  string `json:"doc,omitempty"`
}

// A Listing is one method in the answer of List.
type Listing struct {
	Method    string         `json:"method"` // Service.Method, or Service.* for whatever a service is asked for
	Doc       string         `json:"doc,omitempty"`
	Providers []ProviderNote `json:"providers"` // in the order in which they came; never empty
}

// A ProviderNote is one of those who answer a method.
type ProviderNote struct {
	Provider string `json:"provider,omitempty"` // "p7"; the daemon itself has none
	Name     string `json:"name"`               // the one of Whoami, or "ipcd" for the daemon itself
	Version  string `json:"version,omitempty"`  // as it has registered
}

// A Registration is the argument of Ipcd.Register: what the provider at the other end of a connection offers.
type Registration struct {
	Methods    []offeredMethod `json:"methods"`
	Version    string          `json:"version,omitempty"`    // of the provider
	Share      bool            `json:"share,omitempty"`      // others of the same user may offer these names, too
	MaxCalls   int             `json:"max_calls,omitempty"`  // in flight at this provider; 0 for no limit of its own
	Extensions []string        `json:"extensions,omitempty"` // the members beside params that it understands
	Params     string          `json:"params,omitempty"`     // "array", or "object": an argument that is an object is params itself
}

// A Registered is the answer of Ipcd.Register.
type Registered struct {
	Provider string   `json:"provider"` // "p7"; ipcd ls shows it
	Methods  []string `json:"methods"`  // in alphabetical order
}

// An offeredMethod is a method in a registration: its name alone, or its description.
type offeredMethod struct{ Description }

// UnmarshalJSON implements json.Unmarshaler. A schema that is missing allows anything.
func (m *offeredMethod) UnmarshalJSON(b []byte) error {
	defer func() { m.size = len(b) }()
	if b[0] == '"' {
		m.Argument, m.Result = schema{}, schema{}
		return json.Unmarshal(b, &m.Method)
	}
	var d struct {
		Method      string          `json:"method"`
		Doc         string          `json:"doc"`
		Since       string          `json:"since"`
		Argument    json.RawMessage `json:"argument"`
		Result      json.RawMessage `json:"result"`
		Part        json.RawMessage `json:"part"`
		Idempotent  bool            `json:"idempotent"`
		ReadOnly    bool            `json:"readOnly"`
		Destructive bool            `json:"destructive"`
		Errors      []ErrorNote     `json:"errors"`
	}
	if err := decodeValue("a method", b, &d); err != nil {
		return err
	}
	m.Description = Description{Method: d.Method, Doc: d.Doc, Since: d.Since, Idempotent: d.Idempotent, ReadOnly: d.ReadOnly,
		Destructive: d.Destructive, Errors: d.Errors}
	for _, s := range []struct {
		name string
		from json.RawMessage
		to   *schema
	}{{"argument", d.Argument, &m.Argument}, {"result", d.Result, &m.Result}, {"part", d.Part, &m.Part}} {
		var err error
		if *s.to, err = parseSchema(s.from); err != nil {
			return faultf(codeBadArgument, "the schema of the %s of %s: %w", s.name, shorten(d.Method, 100), err)
		}
	}
	if d.Part == nil {
		m.Part = nil
	}
	if m.Result == nil { // as what is built in describes it
		m.Result = schema{"type": "null"}
	}
	return nil
}

// parseSchema reads a JSON Schema. Null is none; one that is missing, or true, allows anything.
func parseSchema(b []byte) (schema, error) {
	switch string(b) {
	case "", "true":
		return schema{}, nil
	case "null":
		return nil, nil
	}
	if b[0] != '{' {
		return nil, fmt.Errorf("it is %s; expected an object", jsonKindOf(b))
	}
	var s schema
	err := s.GobDecode(b) // which is JSON
	return s, err
}

// An offer is what one provider offers at the moment.
type offer struct {
	id       string // of the provider
	who      peer
	provider provider
	version  string
	share    bool
	methods  []Description
	holds    []string                      // services whose other names nobody else may offer
	most     int64                         // max_calls of the registration
	keeps    *keeping                      // of the account of its user
	check    bool                          // arguments and results have to fit the schemas
	misfit   func(method string, f *fault) // is told of results that do not fit; may be nil
	checks   map[string]*methodChecks      // by the name that is offered; nil without check

	opened   atomic.Bool   // calls may come
	replaces bool          // they came to the offer in place of which this one is
	lost     *atomic.Bool  // the provider cannot be reached any more, and will be withdrawn; nil if that is not known of it
	busy     *atomic.Int64 // calls that the provider has, by this offer or one that this has replaced

	// The router's mu guards the fields below.
	pools     []*pool         // those that it is in
	listed    bool            // the router has it: it was neither withdrawn nor replaced
	announced map[string]bool // services for which it counts; see router.announce
}

// A registrar takes offers: the router, or for a process of a worker that worker.
type registrar interface {
	offer(o, old *offer) *fault // in place of old unless that is nil: all of it, or nothing
	open(o *offer)              // calls may come
	withdraw(o *offer)          // no more may; those that the provider has go on
}

// maxVersion is how many bytes the version of a provider may have.
const maxVersion = 100

// countOffered returns how many methods a registration has. It decodes nothing: that may take a hundred times as much memory.
func countOffered(arg document) (n int) {
	if len(arg) == 0 || arg[0] != '{' {
		return 0
	}
	for w := enter(arg); ; {
		name, value, more := w.member()
		switch {
		case !more:
			return n
		case value[0] != '[' || !bytes.ContainsRune(name, '\\') && !bytes.EqualFold(name, []byte("methods")):
			continue
		}
		for list := enter(value); ; n++ {
			if _, more := list.element(); !more {
				break
			}
		}
	}
}

// What a registration takes in memory, in bytes: for each method, beside what it says of it; and decoded as any, for each list, each
// object with members and without, each member and each comma. A test compares that with what the runtime says.
const (
	costOfMethod = 1 << 10
	costOfList   = 48
	costOfEmpty  = 64
	costOfObject = 340
	costOfMember = 100
	costOfComma  = 40
)

// costOf estimates what a document takes in memory once it is decoded, by its tokens alone.
func costOf(d document) int {
	n := len(d)
	for i := 0; i < len(d); i++ {
		switch d[i] {
		case '"':
			for i++; i < len(d) && d[i] != '"'; i++ {
				if d[i] == '\\' {
					i++
				}
			}
		case '{':
			for i+1 < len(d) && strings.IndexByte(jsonSpace, d[i+1]) >= 0 {
				i++
			}
			if i+1 < len(d) && d[i+1] == '}' {
				n += costOfEmpty
			} else {
				n += costOfObject
			}
		case '[':
			n += costOfList
		case ':':
			n += costOfMember
		case ',':
			n += costOfComma
		}
	}
	return n
}

// newOffer returns the offer of a provider that has registered, or says what is wrong with it.
func newOffer(r *Registration, who peer, l *limits) (*offer, *fault) {
	o := &offer{who: who, version: r.Version, share: r.Share, most: int64(r.MaxCalls), busy: new(atomic.Int64)}
	switch {
	case len(r.Methods) == 0:
		return nil, faultf(codeBadArgument, "methods is empty; expected the names of what is offered, such as Greeter.Hello")
	case len(r.Methods) > l.MaxMethods:
		return nil, tooManyMethods(len(r.Methods), l)
	case len(r.Version) > maxVersion: // List says it of each method
		return nil, faultf(codeBadArgument, "version has %d bytes; expected at most %d", len(r.Version), maxVersion)
	case r.MaxCalls < 0:
		return nil, faultf(codeBadArgument, "max_calls is %d; expected 0, for no limit, or more", r.MaxCalls)
	case r.Params != "" && r.Params != "array" && r.Params != "object":
		return nil, faultf(codeBadArgument, "params is %q; expected array or object", shorten(r.Params, 40))
	}
	seen := map[string]bool{}
	for i := range r.Methods {
		d := r.Methods[i].Description
		if f := checkOffered(d.Method); f != nil {
			return nil, f
		}
		if seen[d.Method] {
			return nil, faultf(codeBadArgument, "%s is offered twice", d.Method)
		}
		seen[d.Method] = true
		d.forms = newGobForms(d.Argument, d.Result)
		o.methods = append(o.methods, d)
	}
	slices.SortFunc(o.methods, func(a, b Description) int { return strings.Compare(a.Method, b.Method) })
	return o, nil
}

func tooManyMethods(n int, l *limits) *fault {
	return tooLarge("max_methods", int64(l.MaxMethods), fmt.Sprintf("a provider of %d methods", n))
}

// compile makes the checks of an offer, or says which of its schemas is none.
func (o *offer) compile() *fault {
	if !o.check {
		return nil
	}
	o.checks = make(map[string]*methodChecks, len(o.methods))
	patternRoom := maxPatternSize
	for i := range o.methods {
		checks, f := newMethodChecks(&o.methods[i], &patternRoom)
		if f != nil {
			return f
		}
		checks.misfit = o.misfit
		o.checks[o.methods[i].Method] = checks
	}
	return nil
}

// checksOf returns the checks of calls of a name, or nil if they are not checked.
func (o *offer) checksOf(name string) *methodChecks {
	if !o.check {
		return nil
	}
	if own := o.checks[name]; own != nil {
		return own
	}
	service, _, _ := strings.Cut(name, ".")
	return o.checks[service+"."+anyMethod]
}

// anyMethod is in the place of a method's name where a provider offers whatever its service is asked for.
const anyMethod = "*"

// checkOffered returns what is wrong with the name of a method that a provider offers, or nil.
func checkOffered(name string) *fault {
	service, method, _ := strings.Cut(name, ".")
	switch {
	case !isServiceName(service) || method != anyMethod && !isServiceName(method):
		return faultf(codeBadArgument, "%q is not the name of a method; expected Service.Method or Service.*, letters, digits and _ that begin with a letter, at most 64 on either side", shorten(name, 100))
	case service == ownService:
		return faultf(codeBadArgument, "%s: the service %s is the daemon's own", name, ownService)
	}
	return nil
}

// isUp reports whether the provider can be called. A worker can be called without a process that is ready, but has to start
// one for that.
func (o *offer) isUp() bool {
	several, ok := o.provider.(interface{ instances() []string })
	return (o.opened.Load() || o.replaces) && (!ok || len(several.instances()) > 0)
}

// notes is what is listed of the provider: a note for each of its instances, if it has some.
func (o *offer) notes() []ProviderNote {
	note := ProviderNote{Provider: o.id, Name: o.who.name(), Version: o.version}
	several, ok := o.provider.(interface{ instances() []string })
	if !ok {
		return []ProviderNote{note}
	}
	note.Provider = ""
	notes := []ProviderNote{}
	for _, id := range several.instances() {
		n := note
		n.Provider = id
		notes = append(notes, n)
	}
	if len(notes) == 0 { // none runs at the moment
		notes = append(notes, note)
	}
	return notes
}

// names lists the methods that are offered.
func (o *offer) names() []string {
	names := make([]string, len(o.methods))
	for i, d := range o.methods {
		names[i] = d.Method
	}
	return names
}

// describes returns what the offer says of a name, or nil if it does not offer that.
func (o *offer) describes(name string) *Description {
	i, found := slices.BinarySearchFunc(o.methods, name, func(d Description, name string) int { return strings.Compare(d.Method, name) })
	if !found {
		return nil
	}
	return &o.methods[i]
}

// isWhole reports whether the offer has whatever the service of a name is asked for.
func (o *offer) isWhole(name string) bool {
	service, _, _ := strings.Cut(name, ".")
	return o.describes(service+"."+anyMethod) != nil
}

// overlaps returns a name of other's that a call could reach by o as well, or that one of the two holds, or "".
func (o *offer) overlaps(other *offer) string {
	for _, d := range o.methods {
		if service, _, _ := strings.Cut(d.Method, "."); slices.Contains(other.holds, service) {
			return d.Method
		}
	}
	for _, d := range other.methods {
		service, method, _ := strings.Cut(d.Method, ".")
		if o.describes(d.Method) != nil || o.isWhole(d.Method) || slices.Contains(o.holds, service) {
			return d.Method
		}
		if method == anyMethod && slices.ContainsFunc(o.methods, func(d Description) bool { return strings.HasPrefix(d.Method, service+".") }) {
			return d.Method
		}
	}
	return ""
}

// room returns how many calls the provider has, and whether it takes one more.
func (o *offer) room() (busy int64, more bool) {
	busy = o.busy.Load()
	return busy, o.opened.Load() && (o.lost == nil || !o.lost.Load()) && (o.most == 0 || busy < o.most)
}

// reserve takes a place for a call at the provider, if there is one.
func (o *offer) reserve() bool {
	if n := o.busy.Add(1); o.most == 0 || n <= o.most {
		return true
	}
	o.busy.Add(-1)
	return false
}
