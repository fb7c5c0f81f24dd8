package main

// This file owns providers, which answer calls outside of this process, and pools of them. A new kind of provider
// implements provider and is added to the pool of a service, whose methods newForwarder makes.

import "sync"

// A provider answers calls outside of this process: a worker, a peer that has registered, another machine.
type provider interface {
	// ask forwards c and returns at once. c.reply is called exactly once, even if the provider is gone. If c ends
	// before the provider has answered, the call is withdrawn from it.
	ask(c *call)
	// load returns the number of calls that it has not answered.
	load() int
}

// A pool is the providers of one service, which share its calls.
type pool struct {
	mu        sync.Mutex
	providers []provider
}

// newForwarder returns a method that forwards its calls to the pool. Arguments and results are passed on verbatim.
func (p *pool) newForwarder(name, doc string) *method {
	return &method{name: name, doc: doc, argument: documentType, result: documentType, forward: p.forward}
}

func (p *pool) add(one provider) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.providers = append(p.providers, one)
}

// forward passes c to the provider with the fewest calls; providers with equally many take turns.
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
		c.reply(nil, goneFault("the service of "+c.method+" has no provider any more", true))
		return
	}
	best.ask(c)
}
