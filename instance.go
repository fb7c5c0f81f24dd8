package main

// This file owns which service a daemon is, and what follows from that: where it listens and where its
// configuration is.

// An instance is the service that a daemon is. The zero value is none: a daemon that somebody
// has started in a terminal.
type instance struct {
	name string
	user bool // it is a service of the user's own
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
