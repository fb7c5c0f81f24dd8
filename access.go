package main

// This file is the door of the room access, which decides who may do what. It owns rights, rules and the decision.
// access_person.go has the people that rules name, access_topic.go the names of topics and the patterns that match them, access_token.go
// the tokens that people may hold. A new right is a row of rights, and a question where it is used; a new kind of people is a personKind in access_person.go.

import (
	"fmt"
	"slices"
	"strings"
)

// A right is what a rule allows or denies.
type right int

const (
	rightCall right = iota
	rightRegister
	rightPublish
	rightSubscribe
	rightAdmin // to control the daemon: its workers, its status, its end
)

// rights says of each right how it is written, and what its patterns match.
var rights = [...]struct {
	key    string                          // in a [[rule]]
	does   string                          // what whoever has it may do, before the name of what
	method string                          // that stands for it in the scope of a token; empty for that which is called
	covers func(pattern, what string) bool // whether the pattern has all that what has, which may be a pattern, too
	check  func(pattern string) *fault     // what is wrong with a pattern
	want   string                          // what check takes, for people
	doc    string                          // one line
}{
	rightCall: {"call", "call", "", coversMethod, checkMethodPattern, `methods, such as ["Greeter.*", "Clock.Now"] or ["*"]`,
		"The methods that they may call: Service.Method, Service.* or *. Those of Ipcd that all callers have need no rule."},
	rightRegister: {"register", "offer", "Ipcd.Register", coversService, checkServicePattern, `services, such as ["Greeter"] or ["*"]`,
		"The services that they may offer by Ipcd.Register: their names, or *."},
	rightPublish: {"publish", "publish to", "Ipcd.Publish", covers, checkTopicName, `topics, such as ["build.>"]`,
		"The topics to which they may publish: build.done, or patterns such as build.*, build.> and >."},
	rightSubscribe: {"subscribe", "subscribe to", "Ipcd.Subscribe", covers, checkTopicName, `topics, such as ["build.>"]`,
		"The topics to which they may subscribe: build.done, or patterns such as build.*, build.> and >."},
	rightAdmin: {"admin", "control the daemon", "Ipcd.*", func(_, _ string) bool { return true }, nil, "",
		"Whether they may control the daemon: its workers, the whole of its status, its end."},
}

// anything is the pattern of all methods, or of all services.
const anything = "*"

// coversMethod is covers for methods: *, Service.* and Service.Method.
func coversMethod(pattern, method string) bool {
	if pattern == anything || pattern == method {
		return true
	}
	service, all := strings.CutSuffix(pattern, ".*")
	return all && strings.HasPrefix(method, service) && strings.HasPrefix(method[len(service):], ".")
}

// coversService is covers for services: * and Service.
func coversService(pattern, service string) bool { return pattern == anything || pattern == service }

// checkMethodPattern returns what is wrong with the pattern of a method, or nil.
func checkMethodPattern(text string) *fault {
	service, short, dotted := strings.Cut(text, ".")
	switch {
	case text == anything:
		return nil
	case service == ownService:
		return usagef("%q is of the daemon's own service: what all callers need of it they have, and admin, register, publish and subscribe give the rest", shorten(text, 100))
	case !dotted || !isServiceName(service) || short != anything && !isServiceName(short):
		return usagef("%q names no method", shorten(text, 100))
	}
	return nil
}

// checkServicePattern returns what is wrong with the pattern of a service, or nil.
func checkServicePattern(text string) *fault {
	switch {
	case text == anything:
		return nil
	case text == ownService:
		return usagef("%s is the daemon's own", ownService)
	case !isServiceName(text):
		return usagef("%q is no name of a service", shorten(text, 100))
	}
	return nil
}

// A rule allows some people something, or denies it to them.
type rule struct {
	place    string // "rule[2] at FILE:LINE"
	deny     bool
	people   []person
	on       []string             // the keys of the endpoints where it holds; nil for all
	patterns [rightAdmin][]string // of each right but the last
	admin    bool
}

// deniesAll reports whether the rule is a denial that names no right, and so has them all.
func (r *rule) deniesAll() bool {
	return r.deny && !r.admin && !slices.ContainsFunc(r.patterns[:], func(list []string) bool { return list != nil })
}

// isAbout reports whether the rule is about p, where p has connected.
func (r *rule) isAbout(p *peer) bool {
	if r.on != nil && !slices.Contains(r.on, p.on) {
		return false
	}
	for i := range r.people {
		if r.people[i].is(p) {
			return true
		}
	}
	return false
}

// fits reports whether the rule decides about the right to what.
func (r *rule) fits(need right, what string) bool {
	switch {
	case r.deniesAll():
		return true
	case need == rightAdmin:
		return r.admin
	}
	for _, pattern := range r.patterns[need] {
		if rights[need].covers(pattern, what) {
			return true
		}
		if r.deny && need == rightSubscribe && overlap(pattern, what) { // part of what is asked for is denied
			return true
		}
	}
	return false
}

// A policy decides who may do what. Without rules, it is for the user that the daemon runs as, for those who could become that
// user, for workers, for the members of the group, and for holders of tokens.
type policy struct {
	group group  // whose members may call and subscribe
	rules []rule // the first that is about somebody, and fits, decides
}

// A basis is why a decision is as it is.
type basis int

const (
	byNothing basis = iota // no rule fits, and nothing else speaks for it
	byOwner                // the user that the daemon runs as, or one who could become that user
	byRule
	byWorker // what workers may without any rule
	byGroup
	byToken  // what holders of a token may without any rule
	byScope  // the token is not for that
	byNoAuth // of an endpoint that is for everybody who reaches it
)

// A decision says whether somebody may do something, and why.
type decision struct {
	allowed bool
	by      basis
	rule    *rule // of byRule
}

// decide says whether p may do what it takes a right for: what is the name of a method, a service or a topic, or a pattern of
// topics.
func (pol *policy) decide(p *peer, need right, what string) decision {
	if p.owns {
		return decision{allowed: true, by: byOwner}
	}
	if b := p.bearer(); b != nil && !b.isFor(need, what) {
		return decision{by: byScope}
	}
	for i := range pol.rules {
		if r := &pol.rules[i]; r.isAbout(p) && r.fits(need, what) {
			return decision{!r.deny, byRule, r}
		}
	}
	by := pol.without(p)
	return decision{allowed: by.gives(need), by: by}
}

// gives reports whether p may have the right to anything, for one that is a right to something: it can be asked before it is known to
// what.
func (pol *policy) gives(p *peer, need right) bool {
	if p.owns {
		return true
	}
	for i := range pol.rules {
		switch r := &pol.rules[i]; {
		case !r.isAbout(p):
		case !r.deny && len(r.patterns[need]) > 0:
			return true
		case r.deniesAll():
			return false
		}
	}
	return pol.without(p).gives(need)
}

// gives reports whether what speaks for somebody where no rule does gives a right.
func (by basis) gives(need right) bool {
	return by == byWorker && need != rightAdmin || by != byNothing && (need == rightCall || need == rightSubscribe)
}

// without is what speaks for p where no rule does.
func (pol *policy) without(p *peer) basis {
	switch {
	case p.worker != "":
		return byWorker
	case p.bearer() != nil:
		return byToken
	case p.isMember(pol.group):
		return byGroup
	case p.noAuth:
		return byNoAuth
	}
	return byNothing
}

// mayEnter reports whether p may have any right at all: if so it may connect, and call what is everybody's.
func (pol *policy) mayEnter(p *peer) bool { return p.owns || pol.entering(p).allowed }

// entering decides whether p may have any right at all; see mayEnter.
func (pol *policy) entering(p *peer) decision {
	if p.owns {
		return decision{allowed: true, by: byOwner}
	}
	for i := range pol.rules {
		switch r := &pol.rules[i]; {
		case !r.isAbout(p):
		case !r.deny:
			return decision{true, byRule, r}
		case r.deniesAll():
			return decision{false, byRule, r}
		}
	}
	by := pol.without(p)
	return decision{allowed: by != byNothing, by: by}
}

// check returns nil if p may do what it takes a right for; see decide.
func (pol *policy) check(p *peer, need right, what string) *fault {
	d := pol.decide(p, need, what)
	if d.allowed {
		return nil
	}
	return d.refusal(p, need, what)
}

// refusal is what p is told who may not do something.
func (d decision) refusal(p *peer, need right, what string) *fault {
	f := faultf(codeDenied, "access denied: %s may not %s", p.who(), rights[need].does)
	if what != "" {
		f.Text += " " + shorten(what, 100)
	}
	switch {
	case d.by == byRule:
		f.Text += "; a [[rule]] of the daemon denies it"
	case d.by == byScope:
		f.Text += "; it is not in the scope of the token"
	case p.bearer() != nil, p.cert != "":
		f.Text += "; that takes a [[rule]] of the daemon's configuration"
	case !p.Known:
		f.Text += "; that is for callers at a local endpoint, where the system says who they are"
	default:
		f.Text += "; the user that the daemon runs as and " + masters + " may, and whom a [[rule]] of its configuration lets"
	}
	return f
}

// enter notes what decides about p, which has connected at e, apart from rules: whether it is the user that the daemon runs as, or
// could become that user. It returns an error if p may not connect at all.
func (pol *policy) enter(p *peer, e endpoint) error {
	p.noAuth = e.NoAuth
	if !p.Known {
		d := pol.entering(p)
		switch {
		case (p.noAuth || p.cert != "") && d.allowed:
			if p.proof != nil {
				p.proof.needed = nil
			}
			return nil
		case p.cert != "" && d.by == byRule:
			return turned{faultf(codeDenied, "access denied: a [[rule]] of the daemon denies all to %s", p.name())}
		case p.proof.isNeeded(): // nothing is done for it before
			return nil
		case p.cert != "":
			return turned{faultf(codeDenied, "access denied: no rule of the daemon lets %s in", p.name())}
		case e.isTLS() && !p.noAuth:
			return turned{faultf(codeDenied, "access denied: this endpoint asks for a certificate of the caller, and there was none")}
		}
		return faultf(codeDenied, "access denied: the system does not say who calls on %s", e).
			withHint("call on a local endpoint, or add auth=none to the endpoint of the daemon")
	}
	own, is, err := p.isOwner()
	if err != nil {
		return err
	}
	if p.owns = is; pol.mayEnter(p) {
		return nil
	}
	f := faultf(codeDenied, "access denied: %s may not call the daemon of %s", p.who(), own.who())
	if pol.group.id != "" {
		f.Text += " and is not a member of the group " + pol.group.name
	}
	if len(pol.rules) > 0 {
		f.Text += ", and no rule lets them"
	}
	return f.withHint("let a group of theirs call with --allow-group, let a [[rule]] of the configuration allow it, or have them run a daemon of their own")
}

// A turned is why somebody may not connect, in words that they may read.
type turned struct{ *fault }

// Unwrap is for errors.As.
func (t turned) Unwrap() error { return t.fault }

// isOwner reports whether p is the user that the daemon runs as, own, or could become that user. A worker is neither,
// whoever it runs as.
func (p peer) isOwner() (own peer, is bool, err error) {
	if own, err = ownPeer(); err != nil {
		return own, false, faultf(codeDenied, "access denied: the daemon cannot tell who it is: %w", err)
	}
	return own, p.worker == "" && (p.isUser(own) || isMaster(p)), nil
}

// audienceOf returns the audience of the endpoint with that key: everybody, if a rule names people that a group does not say.
func (pol *policy) audienceOf(on string) audience {
	a := audience{group: pol.group}
	for i := range pol.rules {
		r := &pol.rules[i]
		if r.deny || r.on != nil && !slices.Contains(r.on, on) {
			continue
		}
		a.all = a.all || slices.ContainsFunc(r.people, func(who person) bool { return who.isLocal() && !who.isGroup(pol.group) })
	}
	return a
}

// A judgement is a decision, and what it was about.
type judgement struct {
	right    right
	what     string // the names of all that was asked for in one call
	decision decision
}

// basisNames are what the audit log calls the bases of decisions; a rule has its place instead.
var basisNames = [...]string{byNothing: "nothing", byOwner: "owner", byRule: "rule", byWorker: "worker", byGroup: "allow_group", byToken: "token", byScope: "scope", byNoAuth: "auth=none"}

// basis says for programs why a decision is as it is.
func (d decision) basis() string {
	if d.by == byRule {
		return d.rule.place
	}
	return basisNames[d.by]
}

// explain says for people why a decision is as it is.
func (d decision) explain(pol *policy) string {
	switch d.by {
	case byOwner:
		return "the user that the daemon runs as, and " + masters + ", may all"
	case byRule:
		return d.rule.place + " says so"
	case byWorker:
		return "no rule is about it; workers may call, publish, subscribe, and register their services"
	case byGroup:
		return fmt.Sprintf("no rule is about it; members of allow_group, %s, may call and subscribe", pol.group.name)
	case byToken:
		return "no rule is about it; holders of a token may call and subscribe"
	case byScope:
		return "it is not in the scope of the token, beyond which no rule goes"
	case byNoAuth:
		return "no rule is about it; whoever reaches an endpoint with auth=none may call and subscribe"
	}
	return "no rule allows it"
}
