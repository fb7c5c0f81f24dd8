package main

// This file is the place where a transport plugs in: one row for each scheme of an endpoint.

import (
	"context"
	"net"
	"time"
)

// A transport carries bytes between two programs.
type transport struct {
	// lacking says why this system does not listen or dial here, and names the way out. It is what a row
	// without listen, or without dial, answers; nil in a row that has both.
	lacking func(e endpoint) *fault
	// listen opens the endpoint for calls, so that the members of allow can reach it too. Closing
	// the listener gives back all it took: the socket file and the lock that says whose the endpoint is.
	listen func(e endpoint, allow group) (net.Listener, error)
	// check says what keeps e from being served at any time, before anything is opened. It is nil where
	// only listening shows that.
	check func(e endpoint) error
	// inherits returns the listener to serve the endpoint with where l, which a service manager has
	// opened, is that endpoint; nil where it is not. It is nil itself where there can be no such listener.
	inherits func(e endpoint, l net.Listener) (net.Listener, error)
	// dial connects, having made sure that the other end is who it should be before a byte
	// is sent. Its errors are faults with hints: see dialFault.
	dial func(ctx context.Context, e endpoint) (net.Conn, error)
	// identify says what the kernel knows of the other end. Where it has to wait for the peer's first
	// bytes to know, it waits no longer than wait, and leaves them to be read.
	identify func(conn net.Conn, wait time.Duration) (peer, error)
}

// transports by the scheme of the endpoint. The files of the transports fill it in.
var transports = map[string]transport{}

// addTransport adds the row of a scheme. Every row can be listened on, checked and dialled afterwards:
// callers need not know which systems have it.
func addTransport(scheme string, t transport) {
	if t.listen == nil {
		t.listen = func(e endpoint, _ group) (net.Listener, error) { return nil, t.lacking(e) }
		t.check = func(e endpoint) error { return t.lacking(e) }
	}
	if t.dial == nil {
		t.dial = func(_ context.Context, e endpoint) (net.Conn, error) { return nil, t.lacking(e) }
	}
	transports[scheme] = t
}

// inheritListeners takes the listeners that a service manager has opened for us. It is nil on systems
// without such a thing.
var inheritListeners func() ([]net.Listener, error)
