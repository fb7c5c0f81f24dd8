package main

// This file owns what the program asks of its operating system, apart from connections: which service
// a daemon is, where that listens and is configured, who we are and whom we trust. What differs between
// systems is in twin files, sys_unix.go and sys_windows.go.

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"
)

// An instance is the service that a daemon is. The zero value is none: a daemon that somebody
// has started in a terminal.
type instance struct {
	name string
	user bool // it is a service of the user's own, from login to logout
}

// endpoint is where it listens if nobody says otherwise.
func (i instance) endpoint() (endpoint, error) {
	switch {
	case i.name == "":
		return defaultEndpoint()
	case i.user:
		return userEndpoint(i.name)
	}
	return serviceEndpoint(i.name), nil
}

// configFile is where its configuration is looked for; empty where there is no such place.
func (i instance) configFile() string {
	own, err := ownPeer()
	switch {
	case i.name != "" && i.user:
		return userConfigFile(i.name)
	case i.name != "":
		return serviceConfigFile(i.name)
	case err == nil && isMaster(own):
		return serviceConfigFile(defaultName)
	}
	return userConfigFile(defaultName)
}

// flags are those that name the service to a command, for a hint; each with a blank before it.
func (i instance) flags() string {
	text := ""
	if i.name != defaultName {
		text += " --name " + i.name
	}
	if i.user {
		text += " --user"
	}
	return text
}

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

// managersOwn are the variables that a service manager sets for one process alone.
var managersOwn = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM"}

// environWithout is our environment less some variables.
func environWithout(names ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	})
}

// again calls try until it is done, or ctx ends; at least once, whatever ctx says. It pauses in between,
// for first at first and twice as long each time, up to most. It returns what the last try returned, so
// that without done ctx has ended, and err is why try had not got there; ctx.Err() says how it ended.
func again(ctx context.Context, first, most time.Duration, try func() (done bool, err error)) (done bool, err error) {
	for pause := first; ; pause = min(2*pause, most) {
		if done, err = try(); done {
			return true, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, err
		}
	}
}
