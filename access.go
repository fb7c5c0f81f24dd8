package main

// This file owns identity: what the kernel says of a peer, and who may call.

import "strconv"

// A peer is the program at the other end of a connection, as the kernel describes it at the
// moment of connect. Nothing in it comes from the peer itself. It is what Ipcd.Whoami returns.
type peer struct {
	Transport string `json:"transport"`          // unix, npipe, tcp, http, fork
	Known     bool   `json:"known"`              // the kernel named a user; always false on TCP
	UID       int    `json:"uid"`                // -1 where the system has none
	GID       int    `json:"gid"`                // -1 likewise
	PID       int    `json:"pid"`                // 0 where it cannot be known; pids are reused, so never a proof
	User      string `json:"user,omitempty"`     // the name of UID or SID
	SID       string `json:"sid,omitempty"`      // Windows: the security identifier
	Elevated  bool   `json:"elevated,omitempty"` // Windows: runs with administrator rights
	Address   string `json:"address,omitempty"`  // TCP: the remote address
}

// key names whom a per-user limit counts.
func (p peer) key() string {
	switch {
	case p.SID != "":
		return p.SID
	case p.Known:
		return "uid " + strconv.Itoa(p.UID)
	}
	return p.Transport
}
