package main

// This file owns the uplink, by which a program that answers calls itself passes those that it cannot answer on to a daemon.

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// uplinkLimit is how long a daemon may take to accept a connection, while calls wait for that.
const uplinkLimit = 10 * time.Second

// An uplink is a finder that has methods of its own, and passes calls of all others on to a daemon. It connects at the
// first of those, and at the next one after the daemon has gone.
type uplink struct {
	own     finder
	reach   func(ctx context.Context) (caller, error) // connects
	context context.Context                           // ends with the uplink
	end     context.CancelFunc
	wg      sync.WaitGroup // of connections

	mu         sync.Mutex
	daemon     *client // nil while there is no connection
	connecting bool
	waiting    []upcall // for the connection, longest first
}

func newUplink(own finder, reach func(ctx context.Context) (caller, error)) *uplink {
	u := &uplink{own: own, reach: reach}
	u.context, u.end = context.WithCancel(context.Background())
	return u
}

// close ends the connection, and with it the calls that are still in flight.
func (u *uplink) close() {
	u.mu.Lock()
	u.end() // from now on nobody connects
	u.mu.Unlock()
	u.wg.Wait()
}

// An upcall is a call that is passed on, and the error that it would have ended with otherwise.
type upcall struct {
	*call
	lacking *fault
}

// find implements finder. What the daemon lacks is for the daemon to say, and any method of it may send parts.
func (u *uplink) find(name string, who *peer) (*method, *fault) {
	m, f := u.own.find(name, who)
	service, short, _ := strings.Cut(name, ".")
	switch {
	case name == publishMethod || name == subscribeMethod: // here would be nobody but the caller
		f = &fault{Code: codeNoMethod, Text: "there is no method " + name}
	case f == nil || service == ownService || !isServiceName(service) || !isServiceName(short):
		return m, f
	}
	return &method{name: name, argument: documentType, result: documentType, part: documentType, endless: name == subscribeMethod,
		forward: func(c *call, late *unflushed) { u.forward(upcall{c, f}, late) }}, nil
}

// forward passes c on, now or once there is a connection. It never blocks, since the reader of the caller's connection
// runs it.
func (u *uplink) forward(c upcall, late *unflushed) {
	u.mu.Lock()
	to, over := u.daemon, u.context.Err() != nil
	if to == nil && !over && c.hook(func() { u.forget(c.call) }) {
		u.waiting = append(u.waiting, c)
		if !u.connecting {
			u.connecting = true
			u.wg.Go(u.stay)
		}
	}
	u.mu.Unlock()
	switch {
	case to != nil:
		u.pass(c.call, to, late)
	case over:
		c.reply(nil, errShuttingDown)
	}
}

// forget removes c, which nobody waits for any more, from those that wait.
func (u *uplink) forget(c *call) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting = slices.DeleteFunc(u.waiting, func(other upcall) bool { return other.call == c })
}

// pass hands c to the daemon, whose deadlines and parts are ours.
func (u *uplink) pass(c *call, to *client, late *unflushed) {
	remote{session: to.session, takes: extensions{timeout: true, parts: true}}.ask(c, late, func(bool) {})
}

// stay connects, passes on the calls that have waited for that, and stays until either end leaves.
func (u *uplink) stay() {
	to, err := u.connect()
	u.mu.Lock()
	calls := u.waiting
	u.waiting, u.connecting, u.daemon = nil, false, to
	u.mu.Unlock()
	if err != nil {
		for _, c := range calls {
			c.reply(nil, c.unreached(err))
		}
		return
	}
	gone := make(chan struct{})
	to.session.whenGone(func() { // before any call can hear that it has
		u.mu.Lock()
		u.daemon = nil // whoever calls next connects
		u.mu.Unlock()
		close(gone)
	})
	for _, c := range calls {
		if c.Err() == nil {
			u.pass(c.call, to, nil)
		}
	}
	select {
	case <-gone:
	case <-u.context.Done():
	}
	to.close()
}

func (u *uplink) connect() (*client, error) {
	ctx, cancel := context.WithTimeout(u.context, uplinkLimit)
	defer cancel()
	c, err := u.reach(ctx)
	if err != nil {
		return nil, err
	}
	to, ok := c.(*client)
	if !ok || !to.session.canAsk() {
		c.close()
		return nil, faultf(codeApplication, "a daemon is called here over JSON-RPC alone").withHint("name a unix, npipe, tcp or tls endpoint, without ?proto=")
	}
	to.session.isDaemon = true
	to.session.in.reader = to.session
	to.session.readSteadily()
	return to, nil
}

// unreached is the answer to a call that could not be passed on. Without a daemon there is just no such method.
func (c upcall) unreached(err error) *fault {
	f := *c.lacking
	f.Text += " here, and the call could not be passed on: " + err.Error()
	if hint := hintFor(err); hint != "" {
		f.Text += "; " + hint
	}
	if !errors.Is(err, &fault{Code: codeNotReachable}) {
		f.Code = codeApplication
	}
	return &f
}
