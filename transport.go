package main

// This file is the place where a transport plugs in: one row for each scheme of an endpoint.

import (
	"context"
	"net"
	"time"
)

// A transport carries bytes between two programs. A system that lacks one has a row all the
// same, whose functions say so and name the way out.
type transport struct {
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

// inheritListeners takes the listeners that a service manager has opened for us. It is nil on systems
// without such a thing.
var inheritListeners func() ([]net.Listener, error)

// defaultName is the name of a service that nobody has given another, and of what belongs to it.
const defaultName = "ipcd"

const maxName = 32 // characters of a service's name: it is part of paths, and a socket's has about 100 bytes

// isInstanceName tells a name that a service may have: [a-z][a-z0-9_-]{0,31}, which every service
// manager takes and which is a plain file name everywhere.
func isInstanceName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return true
}

// transports by the scheme of the endpoint. The files of the transports fill it in.
var transports = map[string]transport{}
