package main

// This file is where Linux has the directories of its services, see hier(7).

const (
	runDir      = "/run"     // where the sockets of services are, see hier(7)
	varDir      = "/var/lib" // where services keep their state
	groupRunDir = ""         // a runDir that a group may write to: there is none
	etcDir      = "/etc"     // where services are configured
)
