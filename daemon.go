package main

// This file owns the life of a daemon: startup, the main loop, reload and shutdown. It also declares the
// overseer, through which a daemon talks to whatever started it. oversee picks the overseer; each system has
// its own, in daemon_notify_unix.go or daemon_scm_windows.go.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	placeCheck   = time.Second      // between checks that the sockets are still where callers look
	statusReport = 10 * time.Second // between status reports to the overseer
	never        = 365 * 24 * time.Hour
)

// An overseer stands for whatever started the daemon and wants to know its state: systemd
// (daemon_notify_unix.go), the service control manager (daemon_scm_windows.go), or nobody
// (daemon_foreground.go). An overseer ignores what its manager has no notion of.
type overseer interface {
	reloader // for the settings that it keeps itself

	logger(set settings) *logger // where the daemon logs; the overseer closes it
	stops() <-chan os.Signal     // the first signal starts the shutdown, the second cuts the calls; nil if ctx starts it and the drain limit cuts
	reloads() <-chan os.Signal   // each signal asks for a reload
	watchdog() time.Duration     // the interval at which alive is expected; 0 for none

	ready(status string) // every endpoint is listening, or a reload has ended
	status(text string)
	reloading()
	restarting()
	stopping()
	alive()

	// unguarded calls do, which makes another program of this process, while a signal to stop does what it does to a program that
	// does not handle it: none is lost. If there has been one already, do is not called, and the error is errAsked.
	unguarded(do func() error) error
}

// errAsked is the error of an overseer that was asked to stop.
var errAsked = errors.New("it was asked to stop")

// A daemon serves the methods of a router until it is stopped.
type daemon struct {
	overseer overseer
	load     func() (settings, error) // reads the settings, at startup and for each reload
	router   *router
	life     life        // stop and restart are the daemon's to add
	before   *succession // of an earlier daemon in this process; nil if there was none
	failed   error       // why the program that was to follow that one did not

	set       settings
	log       *logger
	server    *server
	endpoints []endpoint    // as configured: a port may be 0
	refused   error         // why the last reload was refused
	next      chan struct{} // has an item once somebody has asked for a restart
	trying    chan struct{} // has an item while somebody looks whether the program could serve
}

// run serves until ctx ends, a signal arrives, the daemon has been idle for long enough, or one of its sockets
// is gone. The error wraps errForced if calls had to be cut.
func (d *daemon) run(ctx context.Context) (err error) {
	stops, reloads := d.overseer.stops(), d.overseer.reloads()

	if d.set, err = d.load(); err != nil && d.before == nil {
		return err
	}
	if d.before != nil {
		d.takeOver(err)
	}
	d.log = d.overseer.logger(d.set)
	if d.before != nil {
		d.log.error("the program was not executed anew; this one serves on", "error", d.failed)
	}
	if d.refused != nil {
		d.sayRefused()
	}

	if d.server, err = newDaemonServer(d.router, d.set, d.log, d.before); err != nil {
		return err
	}
	asks := make(chan struct{}, 1)
	d.server.life = d.life
	d.server.life.service = d.set.instance
	d.server.life.config = d.set.file
	d.server.life.stop = func() {
		select {
		case asks <- struct{}{}:
		default: // it was asked already
		}
	}
	d.next, d.trying = make(chan struct{}, 1), make(chan struct{}, 1)
	if becomeProgram != nil && d.life.program != "" {
		d.server.life.restart = d.prepareRestart
	}
	if err := d.listen(ctx); err != nil {
		return err
	}
	var asked os.Signal // the signal to stop, if there was one
	anew, whole := false, ctx
	defer func() {
		if anew {
			err = d.handOver(whole, stops)
			return
		}
		err = cmp.Or(d.stop(asked, stops), err)
	}()
	d.overseer.ready(d.status())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.watchItself(ctx)
	places := time.NewTicker(placeCheck)
	defer places.Stop()
	status := time.NewTicker(statusReport)
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
		case <-asks:
			d.log.info("stopping: a caller asked for it")
			return nil
		case <-d.next:
			d.log.info("restarting: a caller asked for it", "program", d.life.program)
			anew = true
			return nil
		case <-places.C:
			d.server.voidTokens()
			if e := d.server.lost(); e != "" {
				d.log.error("stopping: the socket was removed or replaced", "endpoint", e)
				return fmt.Errorf("the socket of %s was removed or replaced, and no caller can find this daemon", e)
			}
		case <-idle.C:
			left := d.untilIdle()
			if left <= 0 {
				d.log.info("stopping: idle for too long", "idle", d.set.Idle)
				return nil
			}
			idle.Reset(left)
		case <-status.C:
			d.overseer.status(d.status())
			d.server.keys.remind()
		case <-reloads:
			d.reload()
			idle.Reset(d.untilIdle())
		}
	}
}

// takeOver has the daemon follow the one before it in this process, with the settings of that one if those that were read are wrong, or
// could not be served without a restart. wrong is what is wrong with them, if that is known already.
func (d *daemon) takeOver(wrong error) {
	served, err := endpointsOf(d.before.set)
	if err == nil && wrong == nil {
		_, wrong = servedEndpoints(served).prepare(d.before.set, d.set)
	}
	if d.refused = wrong; wrong != nil {
		d.set = d.before.set
	}
}

// newDaemonServer returns a server for the methods of r, to which it adds Ipcd. One that follows another in this process, which may be
// nil, has the keys of that one if there are no others.
func newDaemonServer(r *router, set settings, log *logger, before *succession) (*server, error) {
	s := newServer(r, set.Limits, log)
	tokens, err := newTokenStore(set.instance)
	if err != nil {
		log.warn("no tokens are taken", "error", err)
	}
	s.gate.tokens = tokens
	s.router.events.keep(set.Topics)
	s.obey(&set.policy)
	s.quotas.Store(&set.quotas)
	if s.keys, err = newKeyring(set.TLS, log); err != nil {
		if before == nil || before.server.keys == nil {
			return nil, err
		}
		s.keys = before.server.keys
		s.keys.log = log
	}
	s.audit.obey(set.Audit)
	open := s.openAudit
	if before != nil {
		open = s.openAuditAgain
	}
	if err := open(set); err != nil {
		return nil, err
	}
	return s, s.addOwnService()
}

// listen opens every endpoint and then starts to serve them, so that a failure leaves no caller half served.
// Sockets that the service manager has opened are taken over.
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
		var p past
		if d.server.inherited, p, err = inheritListeners(); err != nil {
			return err
		}
		d.life.program = cmp.Or(p.program, d.life.program)
		d.server.life.program, d.server.life.before = d.life.program, p.programs
		d.server.disown(d.endpoints)
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
	d.employ()
	for _, l := range opened {
		d.server.start(l)
	}
	d.warnOfRules()
	return nil
}

// warnOfRules says which rules are for endpoints that are not served: one that denies would be missed by nobody.
func (d *daemon) warnOfRules() {
	for _, e := range d.set.elsewhere(d.endpoints) {
		d.log.warn("a rule is for an endpoint where nobody listens", "rule", d.set.Rules[e.rule].place, "endpoint", e.on, "hint", e.hint())
	}
}

// employ starts the workers.
func (d *daemon) employ() {
	for _, e := range d.endpoints {
		if e.isLocal() {
			d.server.force.place = e.String()
			break
		}
	}
	if len(d.set.Workers) > 0 {
		d.server.force.endLeft()
	}
	d.server.force.employ(d.set.Workers)
}

// untilIdle returns how much longer the daemon runs if nobody connects.
func (d *daemon) untilIdle() time.Duration {
	if d.set.Idle <= 0 {
		return never
	}
	return d.set.Idle - d.server.idleFor()
}

// status describes the daemon in one line, for "systemctl status".
func (d *daemon) status() string {
	text := fmt.Sprintf("serving %s; %d connections, %d calls",
		strings.Join(d.server.endpoints(), ", "), d.server.meter.connections.Load(), d.server.meter.calls.Load())
	if d.refused != nil {
		text += "; the settings were refused when they were read again: " + d.refused.Error()
	}
	return text
}

// reload reads the settings again. If they are invalid, the daemon keeps those that it has.
func (d *daemon) reload() {
	d.overseer.reloading()
	set, err := d.load()
	if err == nil {
		err = d.apply(set)
	}
	if d.refused = err; err != nil {
		d.sayRefused()
		d.router.events.tell("config.refused", nothing) // why is for the log: it has paths
	} else {
		d.router.events.tell("config.loaded", nothing)
		d.log.info("the settings were read again")
		d.warnOfRules()
	}
	d.overseer.ready(d.status())
}

func (d *daemon) sayRefused() {
	d.log.error("the settings were refused; those from before stay in force", "error", d.refused, "hint", hintFor(d.refused))
}

// apply puts now into force. If any reloader refuses, nothing changes.
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

// reloaders lists everything that holds a copy of some settings. Other settings, such as the idle time, are read
// from d.set when they are needed.
func (d *daemon) reloaders() []reloader {
	return []reloader{servedEndpoints(d.endpoints), daemonLog{d.log}, d.server, d.server.force, d.overseer}
}

// servedEndpoints refuses a reload that changes the endpoints.
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

// daemonLog makes the logger a reloader. The logger cannot be one itself, because its room is listed before config.
type daemonLog struct{ *logger }

func (l daemonLog) prepare(_, now settings) (commit func(), err error) {
	return func() { l.change(now.LogFormat, now.LogLevel) }, nil
}

// stop shuts the server down. Calls in flight may finish within the drain limit, unless untilForced ends first.
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

// untilForced returns a context that ends at the next signal. On some systems it also ends some time after the
// signal asked, shortly before the system would kill the process.
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

// servable returns the endpoints to serve. It refuses those that can never be served, as far as that is known without a
// look at the system; from says where they were set.
func servable(set settings, from origins) ([]endpoint, error) {
	list, err := endpointsOf(set)
	for i, e := range list {
		if check := transports[e.Scheme].check; check != nil && err == nil {
			err = check(e)
		}
		if e.isTLS() && set.TLS.Cert == "" && err == nil {
			err = noCertificate(e)
		}
		if at := slices.IndexFunc(list[:i], func(before endpoint) bool { return same(before, e) }); at >= 0 && err == nil {
			err = usagef("cannot listen on %s: it is where %s is", e, list[at]).withHint("leave out one of the two")
		}
	}
	if err != nil && len(set.Listen) > 0 {
		s := findSetting("listen")
		err = usagef("%s: %w", s.place(from[s.key]), err).withHint("%s", hintFor(err))
	}
	return list, err
}

// endpointsOf parses the endpoints to serve. The default is the endpoint of the service, or the user's own.
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
		if e.Owner != "" {
			return nil, usagef("cannot listen on %s: owner= is for those who call, and a daemon belongs to who runs it", e).withHint("write %s", e.withOwner(""))
		}
		if set.insecure {
			e = e.withInsecure()
		}
		list = append(list, e)
	}
	return list, nil
}
