package main

// This file owns endpoint URLs: parse, print, compare. It does no I/O.

// An endpoint says where and how to talk, in every flag, setting, log line and reply.
type endpoint struct {
	Scheme  string   // unix, npipe, tcp, tls, http, https, fork
	Path    string   // unix: absolute; npipe: \\.\pipe\NAME or \\SERVER\pipe\NAME
	Host    string   // tcp, tls, http, https: HOST:PORT, an IPv6 address in brackets
	Command []string // fork: the program and its arguments
	Proto   proto    // ?proto=, protoAuto where it is not given
	NoAuth  bool     // ?auth=none
	Shared  bool     // ?dir=shared
}
