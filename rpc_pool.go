package main

// This file owns providers, which answer calls outside of this process, and pools of them. A new kind of provider
// implements provider; the router puts it into the pools of what it offers.

import (
	"slices"
	"sync"
)

// A provider answers calls outside of this process: a worker, a peer that has registered, another machine.
type provider interface {
	// ask forwards c and returns at once. It answers c, even if the provider is gone, unless c ends before: then
	// the call is withdrawn from the provider. It calls done once the provider is through with c; failed says that
	// it has answered with an error, or not at all. u is the reader's that runs it, or nil.
	ask(c *call, u *unflushed, done func(failed bool))
}

// A pool is the providers of one method, or of one service, which share its calls. Calls that come while none of them has
// room wait for one that has: in rounds, each of which has one call of each user, so that nobody waits behind all that another
// user has asked for.
type pool struct {
	router *router
	lacks  func(c *call) *fault // why c need not wait while there is no provider, if anything; nil for a pool of the router
	late   func() *fault        // the answer to a call whose deadline passes while there is no provider; nil for a pool of the router

	mu      sync.Mutex
	offers  []*offer          // whose turn is next comes first
	waiting []waitingCall     // by round; of each, longest first
	round   int64             // that of the call that was taken last
	queues  map[string]*queue // of the users of whom calls wait, by peer.key
}

// A waitingCall is a call that waits, and what is to be called once nobody works on it any more.
type waitingCall struct {
	*call
	done  func(failed bool)
	round int64
	queue *queue
}

// A queue is the calls of one user that wait in a pool.
type queue struct {
	key    string
	length int
	round  int64 // of the last one
}

// newForwarder returns a method that hands its calls to the pool. Arguments and results are passed on verbatim.
func (p *pool) newForwarder(d *Description) *method {
	m := &method{name: d.Method, doc: d.Doc, described: d, argument: documentType, result: documentType,
		forward: func(c *call, u *unflushed) { p.forward(c, u, func(bool) {}) }}
	if d.Part != nil {
		m.part = documentType
	}
	return m
}

// setProviders replaces the providers by a list that is the pool's from now on. The caller has to call goOn without any lock.
func (p *pool) setProviders(offers []*offer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offers = offers
}

// length is how many calls wait.
func (p *pool) length() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// whyNot says why c need not wait while there is no provider, or returns nil.
func (p *pool) whyNot(c *call) *fault {
	if p.lacks != nil {
		return p.lacks(c)
	}
	return goneFault("the service of "+c.method+" has no provider any more", true)
}

// forward passes c to the provider with the fewest calls; providers with equally many take turns. u and done are as in provider.
func (p *pool) forward(c *call, u *unflushed, done func(failed bool)) {
	p.mu.Lock()
	var o *offer
	var f *fault
	w := waitingCall{call: c, done: done}
	if len(p.waiting) == 0 {
		o = p.reserveLocked()
	}
	if o == nil {
		o, f = p.joinLocked(w)
	}
	p.mu.Unlock()
	switch {
	case o != nil:
		p.hand(w, u, o)
	case f != nil:
		p.refuse(w, f)
	}
}

// refuse answers a call that no provider has got. If what the providers offer has been replaced since somebody looked up the
// method, the call goes to those of now.
func (p *pool) refuse(w waitingCall, f *fault) {
	if p.lacks == nil {
		if now := p.router.poolOf(w.method); now != nil && now != p {
			now.forward(w.call, nil, w.done)
			return
		}
	}
	w.done(true)
	w.reply(nil, f)
}

// joinLocked has c wait for its turn, unless a provider has room after all, or there is a reason to refuse c.
func (p *pool) joinLocked(c waitingCall) (*offer, *fault) {
	if len(p.offers) == 0 {
		if f := p.whyNot(c.call); f != nil {
			return nil, f
		}
	}
	most := p.router.most.Load()
	if int64(len(p.waiting)) >= most && !p.displaceLocked(c.peer.key()) {
		return nil, p.full(c, most)
	}
	p.router.waiting.Add(1) // before the last look: whoever makes room from now on sees that a call waits
	if len(p.waiting) == 0 {
		if o := p.reserveLocked(); o != nil {
			p.router.waiting.Add(-1)
			return o, nil
		}
	}
	if !c.hook(func() { p.forget(c.call) }) {
		p.router.waiting.Add(-1) // it is over
		go c.done(true)          // which may take our lock
		return nil, nil
	}
	p.enterLocked(c)
	return nil, nil
}

func (p *pool) full(c waitingCall, most int64) *fault {
	return busy("max_waiting", most, "too many calls wait for a provider of "+c.method)
}

// enterLocked adds c to those that wait, in the first round that has none of its user.
func (p *pool) enterLocked(c waitingCall) {
	key := c.peer.key()
	if c.queue = p.queues[key]; c.queue == nil {
		c.queue = &queue{key: key, round: p.round}
		if p.queues == nil {
			p.queues = map[string]*queue{}
		}
		p.queues[key] = c.queue
	}
	c.queue.length++
	c.queue.round = max(c.queue.round, p.round) + 1
	c.round = c.queue.round
	i := len(p.waiting)
	for i > 0 && p.waiting[i-1].round > c.round {
		i--
	}
	p.waiting = slices.Insert(p.waiting, i, c)
}

// removeLocked removes the call at i from those that wait, and returns it.
func (p *pool) removeLocked(i int) waitingCall {
	c := p.waiting[i]
	p.waiting = slices.Delete(p.waiting, i, i+1)
	if c.queue.length--; c.queue.length == 0 {
		delete(p.queues, c.queue.key)
	}
	p.router.waiting.Add(-1)
	return c
}

// displaceLocked makes room for a call of the user with that key by refusing the last one of the user of whom most wait. It reports
// whether there was such a user.
func (p *pool) displaceLocked(key string) bool {
	own, longest := 0, (*queue)(nil)
	for k, q := range p.queues {
		if k == key {
			own = q.length
		}
		if longest == nil || q.length > longest.length {
			longest = q
		}
	}
	if longest == nil || longest.length <= own+1 {
		return false
	}
	for i := len(p.waiting) - 1; ; i-- {
		if p.waiting[i].queue == longest {
			c := p.removeLocked(i)
			go func() { // as it takes our lock
				c.done(true)
				c.reply(nil, p.full(c, p.router.most.Load()))
			}()
			return true
		}
	}
}

// hand gives c to a provider, at which a place is reserved for it, unless its argument is not what the provider takes.
func (p *pool) hand(c waitingCall, u *unflushed, o *offer) {
	done := func(failed bool) {
		p.router.release(o)
		c.done(failed)
	}
	checks := o.checksOf(c.method)
	c.checks.Store(checks)
	if checks != nil {
		if f := checks.argument.check(*c.arg.(*document), codeBadArgument, "the argument of "+c.method); f != nil {
			done(true)
			c.reply(nil, f)
			return
		}
	}
	o.provider.ask(c.call, u, done)
}

// reserveLocked takes a place at the provider with the fewest calls, or returns nil if none has room.
func (p *pool) reserveLocked() *offer {
	for {
		best, least := -1, int64(0)
		for i, o := range p.offers {
			if busy, more := o.room(); more && (best < 0 || busy < least) {
				best, least = i, busy
			}
		}
		if best < 0 {
			return nil
		}
		if o := p.offers[best]; o.reserve() { // otherwise another pool was faster
			p.offers = append(slices.Delete(p.offers, best, best+1), o)
			return o
		}
	}
}

// goOn hands calls that wait to providers that have room. If there are no providers any more, whyNot says what becomes of them.
func goOn(pools []*pool) {
	for _, p := range pools {
		for p.next() {
		}
	}
}

// next takes the call that has waited longest, if there is something to be done for it.
func (p *pool) next() bool {
	c, o, f := p.take()
	switch {
	case o != nil:
		p.hand(c, nil, o)
	case f != nil:
		p.refuse(c, f)
	}
	return o != nil || f != nil
}

// take returns the call that has waited longest with the provider that it goes to, or the reason why it goes to none. It
// returns neither if no call waits, or it has to wait on.
func (p *pool) take() (c waitingCall, o *offer, f *fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return c, nil, nil
	}
	if len(p.offers) > 0 {
		o = p.reserveLocked()
	} else {
		f = p.whyNot(p.waiting[0].call)
	}
	if o == nil && f == nil {
		return c, nil, nil
	}
	c = p.removeLocked(0)
	p.round = c.round
	return c, o, f
}

// forget removes c, which nobody waits for any more, from those that wait.
func (p *pool) forget(c *call) {
	p.mu.Lock()
	i := slices.IndexFunc(p.waiting, func(w waitingCall) bool { return w.call == c })
	var w waitingCall
	if i >= 0 {
		w = p.removeLocked(i)
	}
	none := len(p.offers) == 0
	p.mu.Unlock()
	if i >= 0 {
		late := faultf(codeDeadline, "%w; every provider of %s had as many calls as it takes", errDeadline, c.method)
		if none && p.late != nil {
			late = p.late()
		}
		c.mu.Lock()
		c.late = late
		c.mu.Unlock()
		w.done(true)
	}
}
