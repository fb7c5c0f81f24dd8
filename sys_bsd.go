//go:build darwin || freebsd

package main

// This file is where macOS and FreeBSD have the directories of their services.

const (
	runDir      = "/var/run"         // where the sockets of services are, see hier(7)
	varDir      = "/var/db"          // where services keep their state
	groupRunDir = "/private/var/run" // macOS has runDir here, writable for a group; FreeBSD has no such directory
	etcDir      = "/usr/local/etc"   // where services that did not come with the system are configured
)
