package main

// This file is the door of the room client: dial connects to an endpoint and returns a caller, and startDaemon starts a
// daemon first if need be. Errors are faults with hints, worded so that people can tell the causes apart.
//
// dialHost connects a client that is called as well. client_http.go is the caller over HTTP, client_gob.go gives Go types to what was typed as JSON, client_uplink.go passes on calls of others, and client_start.go is
// startDaemon. A new codec needs nothing here: dial takes it from its row of protocols. A protocol without a codec implements caller, and dial returns it, as for HTTP.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"
)

// A caller calls methods of a daemon: over a stream, or over HTTP.
type caller interface {
	// call calls a method and decodes its result into result, a pointer, or drops it if result is nil. A fault of the
	// daemon is returned unchanged. If ctx ends first, the call is withdrawn.
	call(ctx context.Context, name string, arg, result any) error
	// askParts is call for an answer in parts: part gets them in order before askParts returns, and its error ends the
	// call. A protocol without parts is an error.
	askParts(ctx context.Context, name string, arg, result any, part func(document) error) error
	close() error
}

// dial connects to an endpoint and speaks the protocol that it names, or JSON-RPC if it leaves the choice. HTTP is not
// dialled before the first call.
func dial(ctx context.Context, e endpoint, o dialOptions) (caller, error) {
	if e.isHTTP() || e.Proto == protoHTTP {
		return newWebClient(e, o), nil
	}
	c, err := dialStream(ctx, e, nil, o)
	if err != nil {
		return nil, err
	}
	if err := c.proveOrClose(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// optionsOf are the options of a client with these settings.
func optionsOf(st *settings, log *logger) dialOptions {
	return dialOptions{limits: st.Limits, tls: st.TLS, log: log, token: st.clientToken}
}

// dialStream is dial for what is not HTTP. With a finder, calls of its methods are answered over the connection.
func dialStream(ctx context.Context, e endpoint, f finder, o dialOptions) (*client, error) {
	l := o.limits
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
	token, err := o.tokenOver(conn, e)
	if err != nil {
		conn.Close()
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
	cl := newClient(e, conn, f, protocolOf(name).codec(in, l, end), in, o)
	cl.token = token
	if e.Proto == protoEcho { // a long text comes back while it is still being sent
		cl.session.readSteadily()
	}
	return cl, nil
}

// A client is a caller with any number of calls in flight on one connection. It has no methods of its own, unless it is a
// host.
type client struct {
	endpoint endpoint
	conn     net.Conn
	session  *session
	token    string // to be shown first; empty for none
}

// proveOrClose shows the token, if there is one. A daemon that knows of none needs none. On an error it closes the connection.
func (c *client) proveOrClose(ctx context.Context) error {
	if c.token == "" {
		return nil
	}
	var ok bool
	err := c.session.ask(ctx, authenticateMethod, c.token, &ok, nil)
	if err == nil || errors.Is(err, &fault{Code: codeNoMethod}) {
		return nil
	}
	c.close()
	return err
}

func newClient(e endpoint, conn net.Conn, f finder, speak codec, in *input, o dialOptions) *client {
	c := &client{endpoint: e, conn: conn}
	c.session = newSession(&shared{finder: f, log: o.log, meter: newMeter(nil), foreman: &foreman{}}, &peer{owns: true}, speak, in, conn, &o.limits, o.log)
	c.session.explain = c.explain
	c.session.ended = func(error) { conn.Close() }
	return c
}

// call implements caller.
func (c *client) call(ctx context.Context, name string, arg, result any) error {
	if c.endpoint.Proto == protoGob {
		return c.callGob(ctx, name, arg, result)
	}
	return c.session.ask(ctx, name, arg, result, nil)
}

// askParts implements caller.
func (c *client) askParts(ctx context.Context, name string, arg, result any, part func(document) error) error {
	if !hasParts(c.endpoint) {
		return noParts(c.endpoint)
	}
	return c.session.ask(ctx, name, arg, result, part)
}

// hasParts reports whether what is spoken at e has answers in parts.
func hasParts(e endpoint) bool { return e.Proto != protoGob && e.Proto != protoEcho }

func noParts(e endpoint) *fault {
	return usagef("there are no answers in parts at %s: its protocol has none", e).withHint("take ?proto=%s off the endpoint, or ask for the whole answer", e.Proto)
}

// A host is a client that is called over its connection as well.
type host struct {
	*client
	over chan struct{} // closed once nothing more is read or answered
}

// dialHost connects to e as dial does, and answers calls of the methods of f until either end leaves.
func dialHost(ctx context.Context, e endpoint, f finder, o dialOptions) (*host, error) {
	if e.isHTTP() || e.Proto != protoAuto && e.Proto != protoJSON {
		return nil, usagef("nobody can be called over %s", e).withHint("name a unix, npipe, tcp or tls endpoint, without ?proto=")
	}
	c, err := dialStream(ctx, e, f, o)
	if err != nil {
		return nil, err
	}
	h := &host{client: c, over: make(chan struct{})}
	c.session.ended = func(error) { c.session.cut(nil) }
	go func() {
		defer close(h.over)
		c.session.serve()
	}()
	if err := c.proveOrClose(ctx); err != nil {
		<-h.over
		return nil, err
	}
	return h, nil
}

// leave has the calls finish that have come, refuses others, and returns when nothing more goes over the connection.
func (h *host) leave() {
	h.session.leave()
	<-h.over
}

func closedEarly(e endpoint) *fault {
	return faultf(codeConnection, "the daemon at %s closed the connection before it answered", e).withHint("its log says why; see whether the call was done before you try again")
}

// ownLimit words a limit of ours that an answer exceeds, or a text to be echoed, so that nobody looks for it at the daemon.
func ownLimit(f *fault) *fault {
	own := *f
	own.Text = "over a limit of this client: " + f.Text
	return &own
}

// explain words an error of the connection for a caller.
func (c *client) explain(err error) error {
	var f *fault
	switch {
	case errors.Is(err, errEcho):
		return faultf(codeWrongProtocol, "what answers at %s is not ipcd: %w", c.endpoint, err).withHint("see what serves there; -e names another endpoint")
	case errors.As(err, &f) && errors.Is(f, errOwnLimit):
		return ownLimit(f)
	case errors.As(err, &f) && f.Code != codeParse && f.Code != codeInvalid:
		return err
	case errors.As(err, &f):
		return faultf(codeWrongProtocol, "what answers at %s does not speak this protocol: %w", c.endpoint, err).withHint("see what serves there; -e names another endpoint, ?proto= another protocol")
	case errors.Is(err, io.EOF):
		return closedEarly(c.endpoint)
	case errors.Is(err, net.ErrClosed):
		return faultf(codeConnection, "the connection to %s is closed", c.endpoint)
	}
	return broke(c.endpoint, err)
}

// broke is the error of a call whose connection has ended otherwise than in order, when nobody knows how far the call has come.
func broke(e endpoint, err error) *fault {
	return faultf(codeConnection, "the connection to %s broke: %w", e, err).
		withHint("the daemon may have died, or the network is bad: see ipcd status, and whether the call was done before you try again")
}

// closeWait is how long close waits for a daemon that does not read to take what was sent last: the cancellation of a call.
const closeWait = time.Second

// close closes the connection and ends the calls in flight.
func (c *client) close() error {
	late := time.AfterFunc(closeWait, func() { c.conn.Close() })
	c.session.out.drain()
	late.Stop()
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

// persist calls try until it succeeds, for no longer than wait and only while nothing listens there. A refusal is final.
func persist(ctx context.Context, wait time.Duration, try func() (caller, error)) (caller, error) {
	until := time.Now().Add(wait)
	patience, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var c caller
	done, err := again(patience, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		var err error
		if c, err = try(); err == nil && wait > 0 {
			err = ping(ctx, c)
		}
		return !errors.Is(err, &fault{Code: codeNotReachable}) || errors.Is(err, fs.ErrPermission), err
	})
	switch {
	case err == nil:
		return c, nil
	case !done && time.Now().Before(until): // ctx has ended first
		return nil, fmt.Errorf("%w: %w", asFault(ctx.Err()), err)
	}
	return nil, err
}

// ping makes sure that somebody answers, if dial has not connected yet. An echo server answers anything, and nothing else.
func ping(ctx context.Context, c caller) error {
	if w, lazy := c.(*webClient); !lazy || w.endpoint.Proto == protoEcho {
		return nil
	}
	return c.call(ctx, "Ipcd.Ping", nil, nil)
}
