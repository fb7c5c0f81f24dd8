package main

// This file owns the settings: default < file < environment < flag.

import "time"

// limits bounds every message, queue, count and wait. A zero is never "no limit".
type limits struct {
	MaxMessage     int           // bytes of one message, framing excluded
	MaxDepth       int           // nesting of a JSON value or a gob type
	MaxBatch       int           // requests in one JSON-RPC batch
	MaxCalls       int           // calls in flight on one connection
	MaxConnections int           // connections of one user
	FirstBytes     time.Duration // from accept to the first bytes
	Message        time.Duration // from the first byte of a message to its last
	Write          time.Duration // one blocked write
	HalfClose      time.Duration // calls of a caller that has shut its sending side
	Drain          time.Duration // calls in flight when the daemon is told to stop
	MaxCall        time.Duration // one call, where the caller sets no deadline itself; 0 leaves it to the caller
}

// defaultLimits are those of docs/protocol.md.
func defaultLimits() limits {
	return limits{
		MaxMessage: 16 << 20, MaxDepth: 64, MaxBatch: 100, MaxCalls: 256, MaxConnections: 1024,
		FirstBytes: 5 * time.Second, Message: 30 * time.Second, Write: 10 * time.Second,
		HalfClose: 2 * time.Second, Drain: 10 * time.Second,
	}
}
