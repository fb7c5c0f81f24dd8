package main

// This file owns the directories in which services live on Linux, see hier(7).

const (
	runDir      = "/run"     // of the sockets of services
	varDir      = "/var/lib" // of the state of services
	groupRunDir = ""         // a runDir that a group can write to: there is none
	etcDir      = "/etc"     // of the configuration of services
)
