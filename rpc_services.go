package main

// This file owns the list of the services that the program has beside Ipcd. A fork adds its own here, and upstream changes
// nothing here that it need not; docs/services.md says how.

import "context"

// A builtin is a Go value whose exported methods are a service, by the name of its type.
type builtin struct {
	value any
	docs  map[string]string // a line by the name of a method, for any of them
}

// services makes the services, which are new with each call: a program has one of each, its tests many.
func services() []builtin {
	return []builtin{
		{Echo{}, map[string]string{"Say": "returns the text that it was given"}},
	}
}

// Echo is the service that every ipcd has, and the one to copy: an exported type, exported methods with a context, one
// argument and one result, and a line in services. "ipcd call Echo.Say hello" calls it.
type Echo struct{}

// Say returns the text that it was given.
func (Echo) Say(ctx context.Context, text string) (string, error) {
	return text, nil
}

// bound has the methods that are called without reflection, which may cost more than what a method does; see newReceiver. A
// service can do without.
func (e Echo) bound() map[string]any { return map[string]any{"Say": e.Say} }

// computes has the methods that wait for nothing; see method.computes. A service can do without.
func (Echo) computes() []string { return []string{"Say"} }
