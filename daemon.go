package main

// This file owns the life of a daemon: "ipcd run", what it does in which order, and the
// daemon in the background that a client starts for itself.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	osservice "github.com/kardianos/service"
	"github.com/spf13/cobra"
)

const (
	startLimit  = 10 * time.Second // for a daemon in the background to answer
	startGrace  = 2 * time.Second  // for another one's daemon to answer, after ours has found the endpoint taken
	defaultIdle = 15 * time.Minute // a daemon in the background leaves after so long without connections
	idleLooks   = 20               // how often in that time it looks
	placeLooks  = time.Second      // how often a daemon looks whether its sockets are where callers look
	maxStartLog = 1 << 20          // bytes after which the log of such a daemon is begun anew
)

func newRunCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "serve in the foreground",
		Long: `Serve calls in the foreground until SIGTERM, Ctrl-C or the end of the idle time.

Without --listen it serves the user's own endpoint, which only this user and root can call, and with
--allow-group the members of that group too.
With --service NAME, which is how a service manager runs it, that is the endpoint of the service
of this name, its configuration is that service's, and SIGHUP has it read again.
TCP and HTTP are served on loopback addresses alone, and only where the endpoint says
?auth=none, because everybody on the machine can reach them.

On the first signal it takes no more connections, lets the calls in flight finish within the
drain limit, removes its socket and exits 0; it exits 4 if calls had to be cut. A second
signal cuts them at once.`,
		Example: `  ipcd run
  ipcd run --listen unix:///tmp/mine/ipcd.sock
  ipcd run --listen 'tcp://127.0.0.1:8888?auth=none' --listen 'http://127.0.0.1:8080?auth=none'
  ipcd run --listen 'unix:///tmp/unix.sock?proto=echo&dir=shared'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			who, err := instanceFrom(cmd)
			if err != nil {
				return err
			}
			serve := func(ctx context.Context, n notices) error { return serveCommand(ctx, cmd, n) }
			if who.name != "" && !who.user && underManager != nil {
				return underManager(cmd.Context(), who.name, serve)
			}
			return serve(cmd.Context(), notices{})
		},
	}
	addSettingFlags(cmd, "listen", "allow_group", "idle")
	addInstanceFlags(cmd)
	return cmd
}

// serveCommand is "ipcd run", from the settings on.
func serveCommand(ctx context.Context, cmd *cobra.Command, n notices) error {
	set, from, err := settingsFrom(cmd)
	if err == nil {
		err = set.resolve(from)
	}
	if err == nil {
		err = checkServicePaths(cmd, set.instance)
	}
	if err != nil {
		return err
	}
	var log *logger
	if n.log != nil {
		log = n.log(set)
	} else {
		log = newLogger(cmd.ErrOrStderr(), set.LogFormat, set.LogLevel)
		defer log.close()
	}
	router, err := newBuiltins()
	if err != nil {
		return err
	}
	return runUnderManager(ctx, set, log, router, n)
}

// checkServicePaths: a service begins in a directory that its manager chooses.
func checkServicePaths(cmd *cobra.Command, who instance) error {
	f := cmd.Flag("config")
	if who.name == "" || f == nil || !f.Changed || filepath.IsAbs(f.Value.String()) {
		return nil
	}
	return usagef("--config: %q is no absolute path, and a service has no directory from which it could be looked for", f.Value.String()).
		withHint("name the file from the root on")
}

// runUnderManager runs the daemon, and where it is a service, answers the manager's stop as it
// does a signal. That it is one is said by a flag: kardianos/service guesses by the parent, which in a
// container tells nothing.
func runUnderManager(ctx context.Context, set settings, log *logger, router *router, n notices) error {
	if set.instance.name == "" || underManager != nil {
		return runDaemon(ctx, set, log, router, n)
	}
	p := &program{ctx: ctx, set: set, log: log, router: router, n: n, done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(ctx)
	s, err := osservice.New(p, &osservice.Config{Name: set.instance.name, Option: osservice.KeyValue{"RunWait": func() { <-p.done }}})
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
	set    settings
	log    *logger
	router *router
	n      notices
	done   chan struct{}
	err    error // valid once done is closed
}

// Start must return at once.
func (p *program) Start(osservice.Service) error {
	go func() {
		defer close(p.done)
		p.err = runDaemon(p.ctx, p.set, p.log, p.router, p.n)
	}()
	return nil
}

// Stop waits for the drain, which has a limit.
func (p *program) Stop(osservice.Service) error {
	p.cancel()
	<-p.done
	return nil
}

// runDaemon serves what router has, and Ipcd, until ctx ends, a signal comes or the idle time is
// over. What had to be cut in the end is errForced.
func runDaemon(ctx context.Context, set settings, log *logger, router *router, n notices) error {
	signals := make(chan os.Signal, 2)
	if !n.noSignals {
		signal.Notify(signals, set.stopSignals()...)
		defer signal.Stop(signals)
	}

	endpoints, err := endpointsOf(set)
	if err != nil {
		return err
	}
	srv := newServer(newHub(router, set.Limits, log))
	srv.allow.Store(&set.allow)
	if err := addReceiver(router, &Ipcd{server: srv, began: time.Now()}, ipcdDocs); err != nil {
		return err
	}
	listeners, err := openAll(srv, endpoints)
	if err != nil {
		srv.stop(ctx)
		return err
	}
	for _, l := range listeners {
		srv.start(l)
	}
	tell(n.ready)

	watching, watched := context.WithCancel(ctx)
	var lost error
	var told os.Signal
	select {
	case e := <-srv.watchPlaces(watching):
		lost = fmt.Errorf("the socket of %s was removed or replaced, and no caller can find this daemon", e)
		log.error("stopping: the socket was removed or replaced", "endpoint", e)
	case <-ctx.Done():
		log.info("stopping")
	case <-srv.watchIdle(watching, set.Idle):
		log.info("stopping: nobody was here for the idle time", "idle", set.Idle)
	case told = <-signals:
		log.info("stopping", "signal", told.String())
	}
	watched()
	tell(n.stopping)
	force, cancel := untilForced(told, signals)
	defer cancel()
	if err := srv.stop(force); err != nil {
		return fmt.Errorf("calls were cut: %w", err)
	}
	log.info("stopped")
	return lost
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

// startDaemon starts "ipcd run" in the background on e and connects to it. Of many who do so
// at once, one daemon gets the endpoint; the others find it taken, and all connect to that one.
func startDaemon(ctx context.Context, e endpoint, set settings) (caller, error) {
	if !e.isLocal() {
		return nil, usagef("--start starts a daemon on a local endpoint, and %s is none", e).withHint("leave out -e, or name a unix:// or npipe:// endpoint")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	gone, logFile, err := launch(e, set)
	if err != nil {
		return nil, err
	}
	pause := 2 * time.Millisecond
	for {
		c, err := dial(ctx, e, set.Limits)
		if err == nil || ctx.Err() == nil && !errors.Is(err, &fault{Code: codeNotReachable}) {
			return c, err
		}
		select {
		case <-gone: // it may have found the endpoint taken by a daemon that is still starting
			gone = nil
			cancel()
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), startGrace)
			defer cancel()
		case <-ctx.Done():
			return nil, faultf(codeNotReachable, "the daemon that was started at %s does not answer: %w", e, err).
				withHint("its log is %s; \"ipcd run\" in a terminal shows what is wrong", logFile)
		case <-time.After(pause):
			pause = min(2*pause, 50*time.Millisecond)
		}
	}
}

// launch starts the daemon. The channel is closed when it has ended.
func launch(e endpoint, set settings) (gone <-chan struct{}, logFile string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("find our own program: %w", err)
	}
	dir, err := stateDir()
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make the directory for the daemon's log: %w", err)
	}
	logFile = filepath.Join(dir, "daemon.log")
	log, err := openStartLog(logFile)
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	idle := set.Idle
	if idle <= 0 {
		idle = defaultIdle
	}
	// It has our settings, wherever each of them came from, and looks for none of its own.
	args := []string{"run", "--config", os.DevNull, "--listen", e.String(), "--idle", idle.String()}
	var ours []string
	for i := range settingTable {
		s := &settingTable[i]
		ours = append(ours, s.env())
		if strings.HasPrefix(s.key, "limits.") || s.key == "allow_group" || strings.HasPrefix(s.key, "log_") {
			args = append(args, "--set", s.key+"="+s.text(&set))
		}
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = filepath.VolumeName(dir) + string(filepath.Separator) // holds no mount busy
	cmd.Stderr = log
	cmd.Env = environWithout(ours...)
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("start a daemon: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	return ended, logFile, nil
}

// openStartLog opens the log of daemons in the background, and begins it anew when it is long.
func openStartLog(name string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	info, err := os.Lstat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, faultf(codeApplication, "the log of the daemon, %s, is no plain file", name).withHint("remove it: rm %s", name)
	case err == nil && info.Size() > maxStartLog:
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of the daemon: %w", err)
	}
	return f, nil
}
