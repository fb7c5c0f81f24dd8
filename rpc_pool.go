package main

// This file owns what answers calls besides Go methods: providers, to which a call is handed on, and pools
// of them. A new kind of provider implements provider, and is put behind a name by newPool.

import "sync"

// A provider answers calls elsewhere: a worker, a peer that has registered, another machine.
type provider interface {
	// ask hands c on and returns at once. c.reply is called exactly once, also when the provider is
	// gone; when c is over before, the provider is told.
	ask(c *call)
	// load is how many calls it has not answered.
	load() int
}

// A pool is a service's providers, which share its calls.
type pool struct {
	mu        sync.Mutex
	providers []provider
}

// newForwarder makes a method of that name which the pool answers. Its argument and its result pass as they
// come.
func (p *pool) newForwarder(name, doc string) *method {
	return &method{name: name, doc: doc, argument: documentType, result: documentType, forward: p.forward}
}

func (p *pool) add(one provider) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.providers = append(p.providers, one)
}

// forward gives the call to the provider with the fewest. Of equals it is each one's turn.
func (p *pool) forward(c *call) {
	p.mu.Lock()
	var best provider
	at := 0
	for i, one := range p.providers {
		if best == nil || one.load() < best.load() {
			best, at = one, i
		}
	}
	if best != nil {
		copy(p.providers[at:], p.providers[at+1:])
		p.providers[len(p.providers)-1] = best
	}
	p.mu.Unlock()
	if best == nil {
		c.reply(nil, goneFault("nobody answers "+c.method+" any more", true))
		return
	}
	best.ask(c)
}
