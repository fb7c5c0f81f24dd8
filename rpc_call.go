package main

// This file owns a call: what is asked, by whom and until when, and how it is answered. How the answer is
// sent is the business of the session by which the call has come.

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A call is one request while it runs, and the context that its method receives. It ends in exactly one
// answer. It makes the channel of Done only when somebody asks for it, which few methods do.
type call struct {
	message
	m        *method
	arg      any
	peer     *peer // who calls
	from     asker // by which it came
	deadline time.Time
	timer    *time.Timer
	answered atomic.Bool // whoever sets it answers; late results are dropped
	owing    bool        // the answer has not been sent; guarded by the session

	sending sync.Mutex // held while a part is sent, so that none comes after the answer

	mu    sync.Mutex
	done  chan struct{} // made by Done or end
	err   error
	onEnd func() // see whenOver
}

// An asker sends the answers to its calls. A session is one.
type asker interface {
	// answer sends the one answer to c.
	answer(c *call, result any, f *fault)
	// part sends a part of the answer to c, which has asked for them.
	part(c *call, value any) error
}

// reply answers the call. The first answer counts, and reply reports whether this is it.
func (c *call) reply(result any, f *fault) bool {
	if !c.answered.CompareAndSwap(false, true) {
		return false
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.parts != "" { // one may be on its way
		c.sending.Lock()
		defer c.sending.Unlock()
	}
	c.from.answer(c, result, f)
	return true
}

// sendPart sends a part of the answer before its end: progress, or an element of a stream. Where the caller
// has not asked for parts it does nothing. An error says that no more are wanted.
func (c *call) sendPart(value any) error {
	if c.parts == "" {
		return nil
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.answered.Load() {
		if err := c.Err(); err != nil {
			return err
		}
		return context.Canceled
	}
	return c.from.part(c, value)
}

// whenOver has f called when the call ends, whether it was answered or given up; at once if it has.
func (c *call) whenOver(f func()) {
	c.mu.Lock()
	over := c.err != nil
	if !over {
		c.onEnd = f
	}
	c.mu.Unlock()
	if over {
		f()
	}
}

type contextKey int

const callKey contextKey = iota // of the *call that a context is

// callerOf names the peer whose call ctx belongs to.
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

// end ends the context with the reason that a context has for it: Canceled or
// DeadlineExceeded. The first end counts.
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
	onEnd := c.onEnd
	c.mu.Unlock()
	if onEnd != nil {
		onEnd()
	}
}
