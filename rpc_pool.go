package main

// This file owns providers, which answer calls outside of this process, and pools of them. A new kind of provider
// implements provider and is added to the pool of a service, whose methods newForwarder makes.

import (
	"slices"
	"sync"
)

// A provider answers calls outside of this process: a worker, a peer that has registered, another machine.
type provider interface {
	// ask forwards c and returns at once. It answers c, even if the provider is gone, unless c ends before: then
	// the call is withdrawn from the provider.
	ask(c *call)
	// load returns the number of calls that it has not answered, or -1 if it is gone for good: it leaves its pool.
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
	p.providers = slices.DeleteFunc(p.providers, func(one provider) bool { return one.load() < 0 })
	var best provider
	least, at := 0, 0
	for i, one := range p.providers {
		if n := one.load(); best == nil || n < least {
			best, least, at = one, n, i
		}
	}
	if best != nil {
		p.providers = append(slices.Delete(p.providers, at, at+1), best)
	}
	p.mu.Unlock()
	if best == nil {
		c.reply(nil, goneFault("the service of "+c.method+" has no provider any more", true))
		return
	}
	best.ask(c)
}
