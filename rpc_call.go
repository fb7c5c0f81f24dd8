package main

// This file owns a call: its request, its caller, its deadline, and the one answer that it gets. The session that the
// call came from sends the answer.

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A call is one request in flight, and the context that its method receives. It gets exactly one answer. It makes the
// channel of Done only on demand, since few methods ask for it.
type call struct {
	message
	m        *method
	arg      any
	peer     *peer     // the caller
	from     responder // where the call came from
	deadline time.Time
	began    time.Duration // by the clock of the meter
	timer    *time.Timer
	judged   atomic.Pointer[judgement]    // what its caller needed, and why it was had; nil unless that is recorded
	checks   atomic.Pointer[methodChecks] // of the provider that has it; nil if that is not checked
	answered atomic.Bool                  // whoever sets it sends the answer; later results are dropped
	owing    bool                         // the answer has not been sent; guarded by the session
	repeated bool                         // it has been given to a second provider; see lost

	parent *call  // for which a provider makes this one; nil for a call of its own
	hops   int32  // providers that it and those before it have passed
	held   uint32 // bytes of its argument; guarded by the session
	few    uint32 // of these, those that are counted with others of small calls

	workDone string     // the token, as JSON, for parts that tell how far the call is; empty if they have none of their own
	sending  sync.Mutex // held while a part is sent; see lastPart
	flow     *flow      // of its parts; nil if its caller acknowledges none

	mu    sync.Mutex
	done  chan struct{} // made by Done or end
	err   error
	onEnd func() // see whenOver
	late  *fault // what to say when its deadline passes, if more is known than that; see awaited

	children map[*call]func() // calls made for this one, and what ends them; nil as long as there are none
}

// A responder is where calls come from, and sends the answers to them. A session is one.
type responder interface {
	// encode encodes the result of c, or returns what is sent in its place. It runs foreign code, which may never return.
	encode(c *call, result any) (any, *fault)
	// answer sends the answer to c, with the result as encode has returned it. u is that of the reader that runs it, or nil.
	answer(c *call, result any, f *fault, u *unflushed)
	// part sends a part of the answer to c, whose caller has asked for parts, without blocking: it returns false if the
	// caller has no room for it. workDone says that it goes to that token, if there is one of its own. It keeps nothing of
	// value. u is as in answer.
	part(c *call, value document, workDone bool, u *unflushed) (sent bool, err error)
	// awaitRoom waits until the caller has room for a part of n bytes. An error says why no more are wanted.
	awaitRoom(c *call, n int) error
}

// An unflushed is the outputs to which the reader of a connection has added something and which it has to flush, at the latest
// before it waits for more: so what it reads at once shares the writes, and no goroutine is needed for them. Whoever is no
// reader has a nil one, and flushes what it adds to.
type unflushed struct{ outputs []flusher }

// A flusher sends what was added to it, without blocking.
type flusher interface{ flushNow() }

// mostUnflushed is how many outputs may wait for the reader to flush them.
const mostUnflushed = 64

// add notes that o has to be flushed.
func (u *unflushed) add(o flusher) {
	if slices.Contains(u.outputs, o) {
		return
	}
	if len(u.outputs) == mostUnflushed {
		u.flush()
	}
	u.outputs = append(u.outputs, o)
}

// flush flushes the outputs.
func (u *unflushed) flush() {
	if len(u.outputs) > 0 { // as seldom
		u.flushAll()
	}
}

func (u *unflushed) flushAll() {
	for i, o := range u.outputs {
		u.outputs[i] = nil
		o.flushNow()
	}
	u.outputs = u.outputs[:0]
}

// target returns what the codec decodes the argument into: c.arg, and its form if a provider has declared one.
func (c *call) target() any {
	d, isDocument := c.arg.(*document)
	if !isDocument || c.forms == nil {
		return c.arg
	}
	return &formed{d, c.forms.argument}
}

// reply answers the call, unless it has been answered. It reports whether this was the answer. Until the result is encoded
// the call can still be given up: its caller need not wait for that, nor the daemon when it stops.
func (c *call) reply(result any, f *fault) bool { return c.replyBy(nil, result, f) }

// replyBy is reply by the reader of another connection, whose u is.
func (c *call) replyBy(u *unflushed, result any, f *fault) bool {
	if f == nil && !c.answered.Load() {
		if f = c.checkResult(result); f == nil {
			result, f = c.from.encode(c, result)
		}
	}
	if !c.own() {
		return false
	}
	c.lastPart()
	c.from.answer(c, result, f, u)
	return true
}

// lost answers a forwarded call whose provider has gone. One that may be carried out twice is given to another provider
// instead, once.
func (c *call) lost(f *fault) {
	if d := c.m.described; !c.repeated && d != nil && d.Idempotent && c.parts == "" {
		c.repeated = true
		c.m.forward(c, nil)
		return
	}
	c.reply(nil, f)
}

// checkResult returns what is wrong with a result by its schema, if that is to be checked.
func (c *call) checkResult(result any) *fault {
	d, isDocument := result.(document)
	checks := c.checks.Load()
	if !isDocument || checks == nil {
		return nil
	}
	f := checks.result.check(d, codeInternal, "the result of "+c.method)
	if f != nil && checks.misfit != nil {
		checks.misfit(c.method, f)
	}
	return f
}

// own reserves the answer for the caller of own, who has to send it. It returns false if the call has been answered, or
// somebody else will do that.
func (c *call) own() bool { return c.answered.CompareAndSwap(false, true) }

// send sends the answer to a call that the caller of send owns.
func (c *call) send(result any, f *fault) {
	c.lastPart()
	c.from.answer(c, result, f, nil)
}

// lastPart waits for the part that is on its way, so that none follows the answer: later ones find the call answered. The
// lock must not be held while the answer is sent: that may block on a caller that does not read, and the part may come from
// the reader of a provider, who serves others, too.
func (c *call) lastPart() {
	if c.parts != "" {
		c.sending.Lock()
		defer c.sending.Unlock()
	}
}

// claim takes the answer from the method, so that it cannot send its own, and ends the context, at once, however long the
// peer takes to read what it is told instead. It reports whether the answer was still to be had: then the caller of claim
// sends it.
func (c *call) claim(reason error) bool {
	mine := c.own()
	c.end(reason)
	return mine
}

// sendPart sends a part of the answer in advance: progress, or an element of a stream. It waits while the caller has no
// room for it, and does nothing if the caller has not asked for parts. After an error there is no point in sending more.
func (c *call) sendPart(value any) error {
	if c.parts == "" {
		return c.Err()
	}
	d, err := documentOf(leaving(value))
	if err != nil {
		return err
	}
	return c.deliver(d, c.tellsProgress(d))
}

// tellsProgress reports whether a part goes to the caller's workDoneToken, of a method that knows of one token alone.
func (c *call) tellsProgress(value document) bool { return c.workDone != "" && isProgress(value) }

// deliver gives the caller a part, once there is room for it. workDone is as in responder.
func (c *call) deliver(value document, workDone bool) error {
	for {
		sent, err := c.from.part(c, value, workDone, nil)
		if sent || err != nil {
			return err
		}
		if err := c.from.awaitRoom(c, len(value)); err != nil {
			return err
		}
	}
}

// fail answers the call with an error in the middle of its parts, and withdraws it from its provider.
func (c *call) fail(err error) {
	if c.reply(nil, asFault(err)) {
		c.end(context.Canceled) // now, even if the answer has to wait: the provider is told to stop
	}
}

// inTurn runs send, which sends a part, unless the call has been answered. The answer waits for it, so it must neither
// block nor run foreign code.
func (c *call) inTurn(send func() (bool, error)) (bool, error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.answered.Load() {
		return false, c.overBy()
	}
	return send()
}

// overBy returns why a call that has been answered is over.
func (c *call) overBy() error {
	if err := c.Err(); err != nil {
		return err
	}
	return context.Canceled
}

// whenOver calls f when the call ends, whether answered or given up; at once if it has ended. There is one such f: a
// later one replaces it.
func (c *call) whenOver(f func()) {
	if !c.hook(f) {
		f()
	}
}

// hook is whenOver for a call that has not ended. It returns false if c has.
func (c *call) hook(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.onEnd = f
	return true
}

// awaited is the answer to a call whose deadline has passed: it names what the call waited for, if it did.
func (c *call) awaited() *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late != nil {
		return c.late
	}
	return errDeadline
}

// adopt makes c the parent of child, which end ends: with c, or at once if that is over.
func (c *call) adopt(child *call, end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		go end()
	case c.children == nil:
		c.children = map[*call]func(){child: end}
	default:
		c.children[child] = end
	}
}

// callerJSON is the identity of the caller as a provider gets it: the form of Ipcd.Whoami, and for whom, if the caller is a
// provider that makes the call for another one.
func (c *call) callerJSON() []byte {
	said := struct {
		peer
		For string `json:"for,omitempty"`
	}{peer: c.peer.named()}
	for first := c.parent; first != nil; first = first.parent {
		said.For = first.peer.name()
	}
	b, err := json.Marshal(said)
	if err != nil {
		panic(err) // texts, numbers and booleans have a form
	}
	return b
}

// leaveParent has the parent forget c, which is over.
func (c *call) leaveParent() {
	if c.parent == nil {
		return
	}
	c.parent.mu.Lock()
	defer c.parent.mu.Unlock()
	delete(c.parent.children, c)
}

type contextKey int

const callKey contextKey = iota // of the *call that a context is

// callerOf returns the peer that made the call which ctx belongs to.
func callerOf(ctx context.Context) (peer, bool) {
	c, ok := ctx.Value(callKey).(*call)
	if !ok {
		return peer{}, false
	}
	return *c.peer, true
}

// Deadline implements context.Context.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Value implements context.Context.
func (c *call) Value(key any) any {
	if key == callKey {
		return c
	}
	return nil
}

// end ends the context for a reason, context.Canceled or context.DeadlineExceeded. Only the first call counts.
func (c *call) end(reason error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = reason
	if c.done != nil {
		close(c.done)
	}
	onEnd, children := c.onEnd, c.children
	c.children = nil
	c.mu.Unlock()
	if onEnd != nil {
		onEnd()
	}
	for _, end := range children {
		go end() // it may wait for a caller to read; there are no more than calls in flight
	}
}
