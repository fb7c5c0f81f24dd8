package main

// This file owns what a daemon and the service manager that has started it tell each other while it
// runs. Who is at the other end is the business of one file for each manager.

import "context"

// notices are what they tell each other. The zero value is for a daemon that no manager has started:
// nobody wants to hear, and nothing is heard.
type notices struct {
	ready     func()                     // every endpoint listens
	stopping  func()                     // calls in flight may finish, new ones are refused
	reload    <-chan struct{}            // read the settings again
	inForce   func(set settings)         // settings with which the daemon goes on
	log       func(set settings) *logger // where to log; whoever gave it closes it. With nil it is stderr
	noSignals bool                       // the manager stops us by ctx alone, and signals mean something else
}

// tell calls a function that may be nil.
func tell(f func()) {
	if f != nil {
		f()
	}
}

// underManager runs serve as the service of that name for the manager that has started this process, and
// without one as in a terminal. It is nil where nothing has to be done to be a service.
var underManager func(ctx context.Context, name string, serve func(context.Context, notices) error) error
