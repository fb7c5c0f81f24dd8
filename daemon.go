package main

// This file owns the life of a daemon: "ipcd run", what it does in which order, and the
// daemon in the background that a client starts for itself.

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	osservice "github.com/kardianos/service"
)

const (
	idleLooks   = 20               // how often in the idle time a daemon looks whether anybody is there
	placeLooks  = time.Second      // how often it looks whether its sockets are where callers look
	statusLooks = 10 * time.Second // how often it tells the service manager how it is
)

// runUnderManager runs the daemon, and where it is a service, answers the manager's stop as it
// does a signal. That it is one is said by a flag: kardianos/service guesses by the parent, which in a
// container tells nothing.
func runUnderManager(ctx context.Context, d *daemon) error {
	if d.set.instance.name == "" || underManager != nil {
		return d.run(ctx)
	}
	p := &program{daemon: d, done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(ctx)
	s, err := osservice.New(p, &osservice.Config{Name: d.set.instance.name, Option: osservice.KeyValue{"RunWait": func() { <-p.done }}})
	if err != nil {
		return fmt.Errorf("talk to the service manager: %w", err)
	}
	if err := s.Run(); err != nil && p.err == nil {
		return fmt.Errorf("run as a service: %w", err)
	}
	return p.err
}

// A program is the daemon as kardianos/service sees it.
type program struct {
	ctx    context.Context
	cancel context.CancelFunc
	daemon *daemon
	done   chan struct{}
	err    error // valid once done is closed
}

// Start must return at once.
func (p *program) Start(osservice.Service) error {
	go func() {
		defer close(p.done)
		p.err = p.daemon.run(p.ctx)
	}()
	return nil
}

// Stop waits for the drain, which has a limit.
func (p *program) Stop(osservice.Service) error {
	p.cancel()
	<-p.done
	return nil
}

// A daemon is one that runs, or is about to.
type daemon struct {
	set    settings
	load   func() (settings, error) // reads the settings again; nil where nobody asks for that
	log    *logger
	router *router
	notices

	server    *server
	endpoints []endpoint // as they were asked for
	herald    herald
	refused   error // what was wrong with the settings when they were read again
}

// run serves what the router has, and Ipcd, until ctx ends, a signal comes or the idle time is
// over. What had to be cut in the end is errForced.
func (d *daemon) run(ctx context.Context) (err error) {
	signals, reloads := make(chan os.Signal, 2), make(chan os.Signal, 1)
	if !d.noSignals {
		signal.Notify(signals, d.set.stopSignals()...)
		defer signal.Stop(signals)
		if d.set.instance.name != "" && len(reloadSignals) > 0 {
			signal.Notify(reloads, reloadSignals...)
			defer signal.Stop(reloads)
		}
	}
	if d.set.instance.name != "" {
		crashAsSignal()
	}
	if d.endpoints, err = endpointsOf(d.set); err != nil {
		return err
	}
	d.server = newServer(newHub(d.router, d.set.Limits, d.log))
	d.server.letIn(d.set.allow)
	if err := addReceiver(d.router, &Ipcd{server: d.server, began: time.Now()}, ipcdDocs); err != nil {
		return err
	}
	listeners, err := openAll(d.server, d.endpoints)
	if err != nil {
		d.server.stop(ctx)
		return err
	}
	for _, l := range listeners {
		d.server.start(l)
	}
	d.herald.log = d.log
	d.herald.ready(d.status())
	tell(d.ready)
	told, lost := d.wait(ctx, signals, reloads)
	d.herald.stopping()
	tell(d.stopping)
	force, cancel := untilForced(told, signals)
	defer cancel()
	if err := d.server.stop(force); err != nil {
		return fmt.Errorf("calls were cut: %w", err)
	}
	d.log.info("stopped")
	return lost
}

// wait returns when the daemon is to stop, with the signal that has said so, if it was one. The error is
// why it should not have had to.
func (d *daemon) wait(ctx context.Context, signals, reloads <-chan os.Signal) (told os.Signal, lost error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places := d.server.watchPlaces(ctx)
	d.server.watchItself(ctx, &d.herald)
	idle, forget := d.watchIdle(ctx)
	status := time.NewTicker(statusLooks)
	defer status.Stop()
	for {
		select {
		case e := <-places:
			d.log.error("stopping: the socket was removed or replaced", "endpoint", e)
			return nil, fmt.Errorf("the socket of %s was removed or replaced, and no caller can find this daemon", e)
		case <-ctx.Done():
			d.log.info("stopping")
			return nil, nil
		case <-idle:
			d.log.info("stopping: nobody was here for the idle time", "idle", d.set.Idle)
			return nil, nil
		case sig := <-signals:
			d.log.info("stopping", "signal", sig.String())
			return sig, nil
		case <-status.C:
			d.herald.status(d.status())
			continue
		case <-reloads:
		case <-d.reload:
		}
		d.reread()
		forget()
		idle, forget = d.watchIdle(ctx)
	}
}

func (d *daemon) watchIdle(ctx context.Context) (<-chan struct{}, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	return d.server.watchIdle(ctx, d.set.Idle), cancel
}

// status is how the daemon is, for whoever asks the service manager.
func (d *daemon) status() string {
	text := fmt.Sprintf("serving %s; %d connections, %d calls",
		strings.Join(d.server.endpoints(), ", "), d.server.counts.connections.Load(), d.server.counts.calls.Load())
	if d.refused != nil {
		text += "; the settings were refused when they were read again: " + d.refused.Error()
	}
	return text
}

// reread reads the settings again and goes on with them, or, where something is wrong with them, with
// those that it has.
func (d *daemon) reread() {
	d.herald.reloading()
	set, err := d.load()
	if err == nil {
		err = d.apply(set)
	}
	if d.refused = err; err != nil {
		d.log.error("the settings were refused; those from before stay in force", "error", err, "hint", hintFor(err))
	} else {
		d.log.info("the settings were read again")
	}
	d.herald.ready(d.status())
}

// apply puts settings into force. Connections that are there keep the limits that they have.
func (d *daemon) apply(set settings) error {
	endpoints, err := endpointsOf(set)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(endpoints, d.endpoints, same) {
		return usagef("listen: the endpoints cannot change while the daemon runs").
			withHint(`restart the service; where it was installed with its sockets, "ipcd install --force" opens others`)
	}
	d.log.change(set.LogFormat, set.LogLevel)
	d.server.inForce.Store(&set.Limits)
	if set.allow != d.set.allow {
		d.server.letIn(set.allow)
	}
	d.set = set
	if d.notices.inForce != nil {
		d.notices.inForce(set)
	}
	return nil
}

// openAll opens the endpoints: those that the service manager has opened are taken over.
func openAll(srv *server, endpoints []endpoint) (list []*listener, err error) {
	if inheritListeners != nil {
		if srv.inherited, err = inheritListeners(); err != nil {
			return nil, err
		}
	}
	for _, e := range endpoints {
		l, err := srv.listen(e)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, srv.unclaimed()
}

// untilForced ends at the next signal, or when the system has no more patience with one that
// it has told to stop.
func untilForced(told os.Signal, signals <-chan os.Signal) (context.Context, context.CancelFunc) {
	force, cancel := context.WithCancel(context.Background())
	if patience := signalPatience(told); patience > 0 {
		force, cancel = context.WithTimeout(context.Background(), patience)
	}
	go func() {
		select {
		case <-signals:
			cancel()
		case <-force.Done():
		}
	}()
	return force, cancel
}

// serveChannel answers calls of the parent until it disconnects, or ctx ends.
func serveChannel(ctx context.Context, set settings, log *logger, ch *channel) error {
	router, err := newBuiltins()
	if err != nil {
		return err
	}
	srv := newServer(newHub(router, set.Limits, log))
	if err := addReceiver(router, &Ipcd{server: srv, began: time.Now()}, ipcdDocs); err != nil {
		return err
	}
	p, err := identifyChannel(ch)
	if err != nil {
		return err
	}
	done := srv.adopt(ch, p)
	select {
	case <-done:
	case <-ctx.Done():
	}
	if err := srv.stop(context.Background()); err != nil {
		return fmt.Errorf("calls were cut: %w", err)
	}
	return nil
}

// stopSignals are those that end this daemon. A service reads its settings again at the others.
func (set settings) stopSignals() []os.Signal {
	if set.instance.name == "" {
		return stopSignals
	}
	return slices.DeleteFunc(slices.Clone(stopSignals), func(s os.Signal) bool { return slices.Contains(reloadSignals, s) })
}

// endpointsOf reads the endpoints to serve; without any it is that of the service, or the user's own.
func endpointsOf(set settings) ([]endpoint, error) {
	if len(set.Listen) == 0 {
		e, err := set.instance.endpoint()
		return []endpoint{e}, err
	}
	var list []endpoint
	for _, text := range set.Listen {
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// watchPlaces names an endpoint that callers no longer find, once there is one.
func (s *server) watchPlaces(ctx context.Context) <-chan string {
	lost := make(chan string, 1)
	look := time.NewTicker(placeLooks)
	s.wg.Go(func() {
		defer look.Stop()
		for {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
			if e := s.lost(); e != "" {
				lost <- e
				return
			}
		}
	})
	return lost
}

// watchIdle closes the channel when there was no connection for d. With 0 it never does.
func (s *server) watchIdle(ctx context.Context, d time.Duration) <-chan struct{} {
	if d <= 0 {
		return nil
	}
	idle := make(chan struct{})
	look := time.NewTicker(max(d/idleLooks, time.Millisecond))
	s.wg.Go(func() {
		defer look.Stop()
		for s.idleFor() < d {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
		}
		close(idle)
	})
	return idle
}
