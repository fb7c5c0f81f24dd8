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
	name, end := e.Proto, sideCalling
	if name == protoAuto || name == protoUnknown {
		name = protoJSON
	}
	if e.Scheme == "fork" {
		end = sideChannel
	}
	cl := newClient(e, conn, protocolOf(name).codec(in, l, end), in, l)
	cl.session.log = o.log
	if e.Proto == protoEcho { // what comes back comes while the text is still being sent
		cl.session.readSteadily()
	}
	return cl, nil
}

// A client has any number of calls in flight on one connection. It has no methods of its own.
type client struct {
	endpoint endpoint
	conn     net.Conn
	session  *session
}

func newClient(e endpoint, conn net.Conn, speak codec, in *input, l limits) *client {
	c := &client{endpoint: e, conn: conn}
	c.session = newSession(&shared{meter: &meter{}}, &peer{}, speak, in, conn, &l, nil)
	c.session.explain = c.explain
	c.session.ended = func(error) { conn.Close() }
	return c
}

// call calls a method and decodes its result into result, a pointer, or drops it where that
// is nil. A fault of the daemon is returned as it came. When ctx ends first, the call is
// withdrawn.
func (c *client) call(ctx context.Context, method string, arg, result any) error {
	return c.session.ask(ctx, method, arg, result, nil)
}

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
	c.session.fail(net.ErrClosed)
	err := c.conn.Close()
	<-c.session.done
	c.session.wg.Wait()
	c.session.close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
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
