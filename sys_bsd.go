//go:build darwin || freebsd

package main

// This file owns the directories in which services live on macOS and FreeBSD, see hier(7).

const (
	runDir      = "/var/run"         // of the sockets of services
	varDir      = "/var/db"          // of the state of services
	groupRunDir = "/private/var/run" // macOS's runDir, writable by a group; FreeBSD has no such directory
	etcDir      = "/usr/local/etc"   // of the configuration of services that did not come with the system
)

// isZombie does not ask these systems, whose lists of processes are read in other ways: a daemon that was killed and whose
// parent takes no note is then called busy for a moment longer.
func isZombie(int) bool { return false }
