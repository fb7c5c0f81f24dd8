package main

// This file owns the life of a daemon: what it does in which order, what ends it, and how it takes over
// settings that have changed. Who has started it, and wants to know how it is, is its overseer;
// oversee, which each system has in a file of its own, finds out who that is.

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	placeLooks  = time.Second      // how often a daemon checks that its sockets are where callers look
	statusLooks = 10 * time.Second // how often it reports its status to the overseer
	never       = 365 * 24 * time.Hour
)

// An overseer is whoever has started the daemon and wants to know how it is: systemd (daemon_notify_unix.go),
// the SCM (daemon_scm_windows.go), or nobody (daemon_foreground.go). What one of them has no word for, it ignores.
type overseer interface {
	reloader // for what it keeps of the settings

	logger(set settings) *logger // where the daemon logs; the overseer closes it
	stops() <-chan os.Signal     // the first stops the daemon, the second cuts its calls; nil where ctx stops it
	reloads() <-chan os.Signal   // each has the settings read again
	watchdog() time.Duration     // alive is expected this often; 0 is never

	ready(status string) // every endpoint listens, or the settings have been read again
	status(text string)
	reloading()
	stopping()
	alive()
}

// A daemon is one that runs, or is about to.
type daemon struct {
	overseer overseer
	load     func() (settings, error) // reads the settings, now and at each reload
	router   *router

	set       settings
	log       *logger
	server    *server
	endpoints []endpoint // as they were asked for
	refused   error      // why the last reload was refused
}

// run serves what the router has, and Ipcd, until ctx ends, a signal comes or the idle time is
// over. The error is errForced if calls had to be cut.
func (d *daemon) run(ctx context.Context) (err error) {
	stops, reloads := d.overseer.stops(), d.overseer.reloads()

	if d.set, err = d.load(); err != nil {
		return err
	}
	d.log = d.overseer.logger(d.set)

	if d.server, err = newDaemonServer(d.router, d.set, d.log); err != nil {
		return err
	}
	if err := d.listen(ctx); err != nil {
		return err
	}
	var asked os.Signal // to stop
	defer func() { err = cmp.Or(d.stop(asked, stops), err) }()
	d.overseer.ready(d.status())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.watchItself(ctx)
	places := time.NewTicker(placeLooks)
	defer places.Stop()
	status := time.NewTicker(statusLooks)
	defer status.Stop()
	idle := time.NewTimer(d.untilIdle())
	defer idle.Stop()

	for {
		select {
		case <-ctx.Done():
			d.log.info("stopping")
			return nil
		case asked = <-stops:
			d.log.info("stopping", "signal", asked.String())
			return nil
		case <-places.C:
			if e := d.server.lost(); e != "" {
				d.log.error("stopping: the socket was removed or replaced", "endpoint", e)
				return fmt.Errorf("the socket of %s was removed or replaced, and no caller can find this daemon", e)
			}
		case <-idle.C:
			left := d.untilIdle()
			if left <= 0 {
				d.log.info("stopping: nobody was here for the idle time", "idle", d.set.Idle)
				return nil
			}
			idle.Reset(left)
		case <-status.C:
			d.overseer.status(d.status())
		case <-reloads:
			d.reload()
			idle.Reset(d.untilIdle())
		}
	}
}

// newDaemonServer makes a server for what the router has, and adds Ipcd.
func newDaemonServer(r *router, set settings, log *logger) (*server, error) {
	s := newServer(newHub(r, set.Limits, log))
	s.letIn(set.allow)
	return s, addReceiver(r, &Ipcd{server: s, began: time.Now()}, ipcdDocs)
}

// listen opens the endpoints, and serves them once all are open. Those that the service manager has
// opened are taken over.
func (d *daemon) listen(ctx context.Context) (err error) {
	if d.endpoints, err = endpointsOf(d.set); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.server.stop(ctx)
		}
	}()
	if inheritListeners != nil {
		if d.server.inherited, err = inheritListeners(); err != nil {
			return err
		}
	}
	var opened []*listener
	for _, e := range d.endpoints {
		l, err := d.server.listen(e)
		if err != nil {
			return err
		}
		opened = append(opened, l)
	}
	if err := d.server.unclaimed(); err != nil {
		return err
	}
	for _, l := range opened {
		d.server.start(l)
	}
	return nil
}

// untilIdle is how long the daemon still stays if nobody comes.
func (d *daemon) untilIdle() time.Duration {
	if d.set.Idle <= 0 {
		return never
	}
	return d.set.Idle - d.server.idleFor()
}

// status is how the daemon is, for whoever asks the overseer.
func (d *daemon) status() string {
	text := fmt.Sprintf("serving %s; %d connections, %d calls",
		strings.Join(d.server.endpoints(), ", "), d.server.counts.connections.Load(), d.server.counts.calls.Load())
	if d.refused != nil {
		text += "; the settings were refused when they were read again: " + d.refused.Error()
	}
	return text
}

// reload reads the settings again and goes on with them, or, where something is wrong with them, with
// those that it has.
func (d *daemon) reload() {
	d.overseer.reloading()
	set, err := d.load()
	if err == nil {
		err = d.apply(set)
	}
	if d.refused = err; err != nil {
		d.log.error("the settings were refused; those from before stay in force", "error", err, "hint", hintFor(err))
	} else {
		d.log.info("the settings were read again")
	}
	d.overseer.ready(d.status())
}

// apply puts settings into force, all of them or, where a room refuses its own, none.
func (d *daemon) apply(now settings) error {
	var commits []func()
	for _, r := range d.reloaders() {
		commit, err := r.prepare(d.set, now)
		if err != nil {
			return err
		}
		commits = append(commits, commit)
	}
	for _, commit := range commits {
		commit()
	}
	d.set = now
	return nil
}

// reloaders are those who keep something of the settings. What is not among them, such as the idle time, is
// read from d.set where it is needed.
func (d *daemon) reloaders() []reloader {
	return []reloader{servedEndpoints(d.endpoints), daemonLog{d.log}, d.server, d.overseer}
}

// servedEndpoints are those that the daemon serves to its end.
type servedEndpoints []endpoint

func (served servedEndpoints) prepare(_, now settings) (commit func(), err error) {
	endpoints, err := endpointsOf(now)
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(endpoints, served, same) {
		return nil, usagef("listen: the endpoints cannot change while the daemon runs").
			withHint(`restart the service; where it was installed with its sockets, "ipcd install --force" opens others`)
	}
	return func() {}, nil
}

// daemonLog is the log as a reloader, which it cannot be itself: it is below the settings.
type daemonLog struct{ *logger }

func (l daemonLog) prepare(_, now settings) (commit func(), err error) {
	return func() { l.change(now.LogFormat, now.LogLevel) }, nil
}

// stop lets calls in flight finish, until the next signal or as long as the one that asked to stop leaves.
func (d *daemon) stop(asked os.Signal, stops <-chan os.Signal) error {
	d.overseer.stopping()
	force, cancel := untilForced(asked, stops)
	defer cancel()
	if err := d.server.stop(force); err != nil {
		return fmt.Errorf("calls were cut: %w", err)
	}
	d.log.info("stopped")
	return nil
}

// untilForced ends at the next signal, or when the system has no more patience with one that
// it has told to stop.
func untilForced(asked os.Signal, stops <-chan os.Signal) (context.Context, context.CancelFunc) {
	force, cancel := context.WithCancel(context.Background())
	if patience := signalPatience(asked); patience > 0 {
		force, cancel = context.WithTimeout(context.Background(), patience)
	}
	go func() {
		select {
		case <-stops:
			cancel()
		case <-force.Done():
		}
	}()
	return force, cancel
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
