package main

// This file owns Ipcd.Register and Ipcd.Unregister, by which the program at the other end of a connection becomes a
// provider: from then on it is called over that connection, until it goes, takes that back, or may not offer it any more.

import (
	"encoding/json"
	"fmt"
	"maps"
)

// addRegistration adds the two methods to the service Ipcd. They are not methods of a Go type, since a provider has its
// answer before anybody can call it.
func (s *server) addRegistration(to *receiver) {
	to.add("Register", &method{
		name: ownService + ".Register", doc: "offers methods, which are called over this connection", argument: documentType, result: documentType, forward: s.register,
		described: describes[Registration, Registered](),
	})
	to.add("Unregister", &method{
		name: ownService + ".Unregister", doc: "takes back what this connection offers", result: documentType, forward: s.unregister,
		described: &Description{Result: schema{"type": "boolean"}},
	})
}

// register makes a provider of the session that c came from. The provider has its answer before its first call.
func (s *server) register(c *call, _ *unflushed) {
	if !c.own() {
		return
	}
	pol := s.policy()
	from, o, f := s.accept(c, pol)
	if f != nil {
		s.refused(c, f)
		c.send(nil, f)
		return
	}
	answer, _ := json.Marshal(Registered{Provider: o.id, Methods: o.names()})
	c.send(document(answer), nil)
	s.registrarOf(from).open(o)
	from.log.info("a provider has registered", "provider", o.id, "methods", len(o.methods))
	s.events.tell("provider.registered", func() any { return ProviderEvent{o.id, o.who.name(), o.version, o.names()} })
	if now := s.policy(); now != pol { // which may not have met this offer
		s.recall(from, o, now)
	}
}

// A ProviderEvent is the data of the events that are published of providers.
type ProviderEvent struct {
	Provider string   `json:"provider"` // "p7", or "greeter/1" for the first process of the worker greeter
	Name     string   `json:"name,omitempty"`
	Version  string   `json:"version,omitempty"`
	Methods  []string `json:"methods"`
}

// refused notes that the registration c was refused with f.
func (s *server) refused(c *call, f *fault) {
	log := s.log.with("peer", c.peer.who())
	if from, ok := c.from.(*session); ok {
		log = from.log
		if p, ok := from.registrar.(*workerProcess); ok {
			p.unfit("its registration was refused: " + f.Text)
		}
	}
	log.warn("a registration was refused", "error", f)
}

// registrarOf returns who takes the offers of what is at the other end of a session.
func (s *server) registrarOf(from *session) registrar {
	if from.registrar != nil {
		return from.registrar
	}
	return s.router
}

// accept adds the offer in the registration c to the router, or to the worker that c came from.
func (s *server) accept(c *call, pol *policy) (*session, *offer, *fault) {
	from, f := s.registrant(c)
	if f != nil {
		return nil, nil, f
	}
	s.mu.Lock()
	old, before := s.providers[from]
	stopping := s.stopping
	s.mu.Unlock()
	o, f := s.newRemoteOffer(from, c, pol, old)
	if f != nil {
		return nil, nil, f
	}
	accepted := false
	defer func() {
		if !accepted {
			o.keeps.release()
		}
	}()
	if stopping && from.registrar == nil { // a worker may still be started, by a call that has to be answered
		return nil, nil, errShuttingDown
	}
	if f := s.registrarOf(from).offer(o, old); f != nil {
		return nil, nil, f
	}
	accepted = true
	s.mu.Lock()
	old = s.providers[from] // unless it was taken back meanwhile, and what it keeps released
	s.providers[from] = o
	s.mu.Unlock()
	if old != nil {
		old.keeps.release()
	}
	if !before {
		from.whenGone(func() {
			s.withdraw(from)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.providers, from)
		})
	}
	return from, o, nil
}

// registrant returns the session that c came from, if what is at its other end may be a provider.
func (s *server) registrant(c *call) (*session, *fault) {
	from, ok := c.from.(*session)
	if !ok || !from.canAsk() {
		return nil, faultf(codeInvalid, "nobody can be called over this connection; register over JSON-RPC, on a socket or a pipe")
	}
	return from, nil
}

// newRemoteOffer returns what the other end of a session offers with the registration c.
// The registration is counted for its user before it is decoded, in place of old, unless that is nil.
func (s *server) newRemoteOffer(from *session, c *call, pol *policy, old *offer) (_ *offer, f *fault) {
	if !pol.gives(c.peer, rightRegister) { // before it is decoded: that may take a hundred times as much memory
		return nil, from.check(pol, c, c.peer, rightRegister, "")
	}
	arg := *c.arg.(*document)
	if most := from.limits.MaxRegistration; len(arg) > most {
		return nil, tooLarge("max_registration", int64(most), fmt.Sprintf("a registration of %d bytes", len(arg)))
	}
	n := countOffered(arg)
	if n > from.limits.MaxMethods {
		return nil, tooManyMethods(n, from.limits)
	}
	var replaces *keeping
	if old != nil {
		replaces = old.keeps
	}
	keeps, f := s.accountOf(c.peer).keep(int64(costOf(arg)+n*costOfMethod), int64(n), int64(s.limitsOf(c.peer).UserMethods), replaces)
	if f != nil {
		return nil, f
	}
	defer func() {
		if f != nil {
			keeps.release()
		}
	}()
	var r Registration
	if err := decodeBody(arg, &r); err != nil {
		return nil, asFault(err)
	}
	o, f := newOffer(&r, *c.peer, from.limits)
	if f != nil {
		return nil, f
	}
	o.keeps = keeps
	for _, service := range servicesOf(o.names()) {
		if f := from.check(pol, c, c.peer, rightRegister, service); f != nil {
			return nil, f
		}
	}
	o.lost = &from.deaf
	o.provider = remote{session: from, takes: extensionsOf(r.Extensions), object: r.Params == "object"}
	return o, nil
}

// unregister takes back what the session that c came from offers.
func (s *server) unregister(c *call, _ *unflushed) {
	from, ok := c.from.(*session)
	if !ok || !s.withdraw(from) {
		c.reply(nil, faultf(codeApplication, "this connection offers nothing"))
		return
	}
	c.reply(document("true"), nil)
}

// recallOffers takes back what peers offer who may not register it by the policy, as if their connections had ended.
func (s *server) recallOffers(pol *policy) {
	s.mu.Lock()
	offers := maps.Clone(s.providers)
	s.mu.Unlock()
	for from, o := range offers {
		if o != nil {
			s.recall(from, o, pol)
		}
	}
}

// recall takes back o, which a session offers, if it may not be registered by the policy.
func (s *server) recall(from *session, o *offer, pol *policy) {
	for _, service := range servicesOf(o.names()) {
		d := pol.decide(from.peer, rightRegister, service)
		if d.allowed {
			continue
		}
		f := d.refusal(from.peer, rightRegister, service)
		from.log.warn("what a provider offers was taken back", "provider", o.id, "error", f)
		if s.audit.wants(true) {
			s.audit.write(&auditEntry{peer: from.peer, action: rights[rightRegister].key, what: service, denied: true, code: codeDenied, by: d.basis()})
		}
		s.takeBack(from, o)
		from.background(from.dischargeAll)
		return
	}
}

// withdraw removes the offer of a session. It reports whether there was one.
func (s *server) withdraw(from *session) bool {
	s.mu.Lock()
	o := s.providers[from]
	s.mu.Unlock()
	return o != nil && s.takeBack(from, o)
}

// takeBack removes that offer of a session. It reports whether it was in force.
func (s *server) takeBack(from *session, o *offer) bool {
	s.mu.Lock()
	held, stopping := s.providers[from] == o, s.stopping
	if held {
		s.providers[from] = nil
	}
	s.mu.Unlock()
	if !held {
		s.registrarOf(from).withdraw(o) // it may have been opened since it was taken back
		return false
	}
	if stopping && from.registrar == nil { // nothing keeps it any more; a worker has its keeper
		from.leave()
	}
	s.registrarOf(from).withdraw(o)
	o.keeps.release()
	from.log.info("a provider has left", "provider", o.id)
	s.events.tell("provider.left", func() any { return ProviderEvent{o.id, o.who.name(), o.version, o.names()} })
	return true
}
