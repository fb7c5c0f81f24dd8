package main

// This file owns the client: it dials an endpoint, calls, and says what went wrong in words
// that tell the causes apart.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"runtime"
	"sync"
	"time"
)

// A caller is one end that can call: a client on a stream, or over HTTP.
type caller interface {
	call(ctx context.Context, method string, arg, result any) error
	close() error
}

// dial connects to an endpoint and speaks the protocol that it names; where it leaves the
// choice, JSON-RPC. The error is a fault with a hint.
func dial(ctx context.Context, e endpoint, o dialOptions) (caller, error) {
	l := o.limits
	if e.isHTTP() || e.Proto == protoHTTP {
		return newWebClient(e, o), nil
	}
	if err := ctx.Err(); err != nil {
		return nil, asFault(err)
	}
	t, ok := transports[e.Scheme]
	if !ok {
		return nil, usagef("there is no way to dial %s", e)
	}
	conn, err := t.dial(ctx, e, o)
	if err != nil {
		return nil, err
	}
	in := newInput(conn, l)
	var c codec
	switch {
	case e.Proto == protoGob:
		c = newGobCodec(in, l, response)
	case e.Proto == protoEcho:
		c = newEchoCodec(in, l)
	case e.Scheme == "fork":
		c = newJSONCodec(in, l, framingLine)
	default:
		c = newJSONCodec(in, l, framingValue)
	}
	cl := newClient(e, conn, c, in, l)
	if e.Proto == protoEcho { // what comes back comes while the text is still being sent
		cl.steady = true
		cl.done.Go(cl.readSteadily)
	}
	return cl, nil
}

// A client has any number of calls in flight on one connection.
//
// There is no goroutine that reads all the time. A caller who waits for its answer reads by
// itself, and delivers what it finds for others on the way; when it has its own it passes the
// reading on to one who waits. With one caller that saves two switches of goroutines a call.
// Only callers that wait are given the reading, never one that is still writing: it might be
// held up by a peer that does not take more before somebody reads.
type client struct {
	endpoint endpoint
	conn     net.Conn
	codec    codec
	in       *input
	out      *output

	mu      sync.Mutex
	seq     uint64
	pending map[uint64]*waiter
	reading bool
	steady  bool // a goroutine reads all the time, since some call can be given up
	err     error
	done    sync.WaitGroup
}

// A waiter is a call that has been sent.
type waiter struct {
	result   any
	err      error
	finished bool
	parked   bool          // it waits on wake
	idle     bool          // it must not be chosen to read: it may give up at any moment
	wake     chan struct{} // holds one: finished, or chosen to read
}

var waiters = sync.Pool{New: func() any { return &waiter{wake: make(chan struct{}, 1)} }}

func newClient(e endpoint, conn net.Conn, c codec, in *input, l limits) *client {
	return &client{endpoint: e, conn: conn, codec: c, in: in, out: newOutput(conn, l.Write), pending: map[uint64]*waiter{}}
}

// call calls a method and decodes its result into result, a pointer, or drops it where that
// is nil. A fault of the daemon is returned as it came. When ctx ends first, the call is
// withdrawn.
func (c *client) call(ctx context.Context, method string, arg, result any) error {
	if err := ctx.Err(); err != nil {
		return asFault(err)
	}
	w := waiters.Get().(*waiter)
	w.result, w.err, w.finished, w.parked, w.idle = result, nil, false, false, false
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.seq++
	seq := c.seq
	c.pending[seq] = w
	crowded := len(c.pending) > 1
	c.mu.Unlock()

	m := message{kind: request, id: callID{seq: seq}, method: method}
	if deadline, ok := ctx.Deadline(); ok {
		m.timeout = time.Until(deadline)
	}
	if err := c.out.append(c.codec, &m, arg); err != nil {
		c.forget(seq)
		return c.explain(err)
	}
	if crowded {
		runtime.Gosched() // others who are about to send go out with the same write
	}
	if ctx.Done() != nil {
		c.flushUntil(ctx)
		return c.waitOrCancel(ctx, seq, w)
	}
	if err := c.out.flush(); err != nil {
		c.fail(err)
	}
	err := c.wait(w)
	waiters.Put(w)
	return err
}

// flushUntil sends what was appended, or leaves that to go on without the caller when ctx ends.
func (c *client) flushUntil(ctx context.Context) {
	sent := make(chan struct{})
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.done.Add(1) // under the lock: close waits for those that it has seen
	c.mu.Unlock()
	go func() {
		defer c.done.Done()
		defer close(sent)
		if err := c.out.flush(); err != nil {
			c.fail(err)
		}
	}()
	select {
	case <-sent:
	case <-ctx.Done():
	}
}

// forget gives up a call that was not sent.
func (c *client) forget(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, seq)
}

// wait returns when w is finished, having read for itself and for others if need be.
func (c *client) wait(w *waiter) error {
	c.mu.Lock()
	for !w.finished {
		if !c.reading {
			c.reading = true
			c.mu.Unlock()
			c.read(w)
			c.mu.Lock()
			c.reading = false
			c.passOnLocked()
			continue
		}
		w.parked = true
		c.mu.Unlock()
		<-w.wake
		c.mu.Lock()
		w.parked = false
	}
	err := w.err
	c.mu.Unlock()
	return err
}

// passOnLocked wakes one who waits, so that it reads.
func (c *client) passOnLocked() {
	for _, w := range c.pending {
		if w.parked && !w.idle {
			w.parked = false
			w.wake <- struct{}{}
			return
		}
	}
}

// waitOrCancel waits for w or the end of ctx. Such a caller cannot read, because a read
// cannot be given up half way; a goroutine does it from now on.
func (c *client) waitOrCancel(ctx context.Context, seq uint64, w *waiter) error {
	c.mu.Lock()
	if !c.steady && c.err == nil {
		c.steady = true
		c.done.Go(c.readSteadily)
	}
	if !w.finished {
		w.parked, w.idle = true, true
		c.mu.Unlock()
		select {
		case <-w.wake:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if _, waiting := c.pending[seq]; !waiting && !w.finished {
		// The answer is being decoded into our result right now.
		c.mu.Unlock()
		<-w.wake
		c.mu.Lock()
	}
	if w.finished {
		return w.err
	}
	delete(c.pending, seq)
	m := message{kind: cancel, id: callID{seq: seq}}
	if c.err == nil {
		c.done.Go(func() { // a peer that does not read must not hold up one who gives up
			if c.out.append(c.codec, &m, nil) == nil {
				c.out.flush()
			}
		})
	}
	return asFault(context.Cause(ctx))
}

// readSteadily reads until the connection ends.
func (c *client) readSteadily() {
	c.mu.Lock()
	for c.err == nil {
		if c.reading { // a caller reads; it passes the reading on, and then it is ours
			w := &waiter{parked: true, wake: make(chan struct{}, 1)}
			c.seq++
			c.pending[c.seq] = w
			seq := c.seq
			c.mu.Unlock()
			<-w.wake
			c.mu.Lock()
			delete(c.pending, seq)
			continue
		}
		c.reading = true
		c.mu.Unlock()
		c.read(nil)
		c.mu.Lock()
		c.reading = false
	}
	c.mu.Unlock()
}

// read reads until mine is finished. With nil for mine it reads until the connection ends.
func (c *client) read(mine *waiter) {
	for {
		var m message
		err := c.codec.read(&m)
		var bad *badMessage
		switch {
		case errors.As(err, &bad) && bad.m.kind == response && bad.m.id.seq != 0:
			err = c.deliver(&message{kind: response, id: bad.m.id, fault: bad.fault})
		case errors.As(err, &bad):
			err = bad.fault
		case err == nil && m.kind != response:
			err = errEcho
		case err == nil:
			err = c.deliver(&m)
		}
		if err != nil {
			c.fail(err)
			return
		}
		if mine != nil {
			c.mu.Lock()
			finished := mine.finished
			c.mu.Unlock()
			if finished {
				return
			}
		}
	}
}

// deliver gives a response to the call that waits for it.
func (c *client) deliver(m *message) error {
	c.mu.Lock()
	w := c.pending[m.id.seq]
	delete(c.pending, m.id.seq)
	c.mu.Unlock()
	if w == nil && m.fault != nil && m.id.seq == 0 {
		return m.fault // the daemon could not tell whose request it refused
	}
	var result any
	if w != nil && m.fault == nil {
		result = w.result
	}
	err := c.codec.body(result)
	var mine *fault
	if err != nil && !errors.As(err, &mine) {
		if w != nil {
			c.finish(w, c.explain(err))
		}
		return err
	}
	switch {
	case w == nil: // given up before
	case m.fault != nil:
		c.finish(w, m.fault)
	case mine != nil:
		c.finish(w, mine)
	default:
		c.finish(w, nil)
	}
	return nil
}

func (c *client) finish(w *waiter, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishLocked(w, err)
}

func (c *client) finishLocked(w *waiter, err error) {
	w.err, w.finished = err, true
	if w.parked {
		w.parked = false
		w.wake <- struct{}{}
	}
}

// fail ends all calls: the connection is of no more use.
func (c *client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.explain(err)
	}
	for seq, w := range c.pending {
		delete(c.pending, seq)
		c.finishLocked(w, c.err)
	}
	c.conn.Close()
}

var errEcho = errors.New("it sent a request instead of an answer")

func closedEarly(e endpoint) *fault {
	return faultf(codeConnection, "the daemon at %s closed the connection before it answered", e).withHint("its log says why; try again when it is up: --wait 5s")
}

// explain says of an error of the connection what it means to one who calls.
func (c *client) explain(err error) error {
	var f *fault
	switch {
	case errors.Is(err, errEcho):
		return faultf(codeWrongProtocol, "what answers at %s is no ipcd: %w", c.endpoint, err).withHint("look what serves there; -e names another endpoint")
	case errors.As(err, &f) && f.Code != codeParse && f.Code != codeInvalid:
		return err
	case errors.As(err, &f):
		return faultf(codeWrongProtocol, "what answers at %s does not speak this protocol: %w", c.endpoint, err).withHint("look what serves there; -e names another endpoint, ?proto= another protocol")
	case errors.Is(err, io.EOF):
		return closedEarly(c.endpoint)
	case errors.Is(err, net.ErrClosed):
		return faultf(codeConnection, "the connection to %s is closed", c.endpoint)
	}
	return faultf(codeConnection, "the connection to %s broke: %w", c.endpoint, err).withHint("the daemon may have died; ipcd status tells")
}

// close ends the connection and the calls that wait.
func (c *client) close() error {
	c.fail(net.ErrClosed)
	err := c.conn.Close()
	c.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// connect dials e; where nobody is there and wait is not zero, it tries again until then: a
// daemon may be coming up.
func connect(ctx context.Context, e endpoint, l limits, wait time.Duration) (caller, error) {
	return persist(ctx, wait, func() (caller, error) { return dial(ctx, e, dialOptions{limits: l}) })
}

// persist tries for as long as nobody is there. One who is there and does not let us in stays so.
func persist(ctx context.Context, wait time.Duration, try func() (caller, error)) (caller, error) {
	until := time.Now().Add(wait)
	patience, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var c caller
	done, err := again(patience, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		var err error
		c, err = try()
		return !errors.Is(err, &fault{Code: codeNotReachable}) || errors.Is(err, fs.ErrPermission), err
	})
	switch {
	case err == nil:
		return c, ping(ctx, c, wait > 0)
	case !done && time.Now().Before(until): // ctx has ended first
		return nil, fmt.Errorf("%w: %w", asFault(ctx.Err()), err)
	}
	return nil, err
}

// ping makes sure that a lazy dialer has reached somebody, where that matters.
func ping(ctx context.Context, c caller, matters bool) error {
	if _, lazy := c.(*webClient); !lazy || !matters {
		return nil
	}
	return c.call(ctx, "Ipcd.Ping", nil, nil)
}
