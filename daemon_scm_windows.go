package main

// This file owns the overseer of a Windows service: it handles the requests of the service control manager
// (SCM) and reports the daemon's state and exit code. kardianos/service could do so too, but it reports
// "running" before anything listens, supports neither preshutdown nor reload, and returns no exit code.
// Its twin is daemon_notify_unix.go.

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// scmAccepts lists the requests that a running daemon accepts. Preshutdown comes long before shutdown and may
// last as long as install has configured; shutdown is for systems that lack it. "Parameters have changed"
// is a reload, as SIGHUP is elsewhere.
const scmAccepts = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange

const (
	scmStep = time.Second     // between progress reports while the service starts or stops
	scmHint = 5 * time.Second // promised to the SCM as the time to the next one ("SetServiceStatus function")
	scmLate = 5 * time.Second // for the rest of a shutdown, after the drain limit
)

// oversee calls serve with the overseer of this process. Only the SCM knows whether it has started the process:
// if it has not, connecting fails at once and the daemon runs in the foreground.
func oversee(ctx context.Context, who instance, rereads bool, stderr io.Writer, serve func(context.Context, overseer) error) error {
	if who.name != "" && !who.user {
		dir, err := serviceDir(who.name)
		if err != nil {
			return err
		}
		m := newSCMOverseer(ctx, who.name, dir, serve)
		m.alone = true
		err = svc.Run(who.name, m)
		switch {
		case err == nil || m.err != nil:
			return m.err
		case !isAny(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT):
			return fmt.Errorf("run as the service %s: %w", who.name, err)
		}
	}
	f := newForeground(rereads, stderr)
	defer f.close()
	return serve(ctx, f)
}

// An scmOverseer stands between the SCM, for which it is a svc.Handler, and the daemon, for which it is the
// overseer.
type scmOverseer struct {
	ctx   context.Context
	name  string
	dir   string // %ProgramData%\NAME
	serve func(context.Context, overseer) error
	alone bool         // the process is ours alone, so its crash output is too
	log   *serviceLog  // nil until the settings have been read
	limit atomic.Int64 // a time.Duration: see stopLimit
	err   error        // what serve returned

	// These channels hold one item; a second one would say nothing new.
	isReady, isStopping chan struct{}
	reload              chan os.Signal
}

func newSCMOverseer(ctx context.Context, name, dir string, serve func(context.Context, overseer) error) *scmOverseer {
	m := &scmOverseer{
		ctx: ctx, name: name, dir: dir, serve: serve,
		isReady: make(chan struct{}, 1), isStopping: make(chan struct{}, 1), reload: make(chan os.Signal, 1),
	}
	m.limit.Store(int64(scmLate))
	return m
}

// Execute implements svc.Handler. It runs the daemon, answers the SCM meanwhile, and returns the exit code. A
// service that was asked to stop exits with 0 even if calls were cut, because the SCM would
// otherwise restart it.
func (m *scmOverseer) Execute(_ []string, requests <-chan svc.ChangeRequest, report chan<- svc.Status) (specific bool, code uint32) {
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.run(ctx) }()

	state := svc.Status{State: svc.StartPending, CheckPoint: 1, WaitHint: uint32(scmHint / time.Millisecond)}
	report <- state
	step := time.NewTicker(scmStep)
	defer step.Stop()
	var late <-chan time.Time
	asked := false
	stop := func() {
		if state.State != svc.StopPending {
			state = svc.Status{State: svc.StopPending, CheckPoint: 1, WaitHint: uint32(scmHint / time.Millisecond)}
			report <- state
		}
	}
	for {
		select {
		case <-m.isReady:
			if state.State == svc.StartPending {
				state = svc.Status{State: svc.Running, Accepts: scmAccepts}
				report <- state
			}
		case <-m.isStopping:
			stop()
		case <-step.C:
			if state.State != svc.Running {
				state.CheckPoint++
				report <- state
			}
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				report <- state
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				stop()
				if !asked {
					asked, late = true, time.After(m.stopLimit())
					cancel()
				}
			case svc.ParamChange:
				note(m.reload, os.Signal(syscall.SIGHUP))
			}
		case m.err = <-done:
			if asked {
				return false, 0
			}
			return true, uint32(exitCode(m.err))
		case <-late:
			m.err = fmt.Errorf("it has not stopped within %v: %w", m.stopLimit(), errForced)
			return false, 0
		}
	}
}

// run runs the daemon and logs its error: there is no terminal on which main could print it.
func (m *scmOverseer) run(ctx context.Context) error {
	if m.alone {
		keepCrash(m.dir)
	}
	err := m.serve(ctx, m)
	if m.log == nil && err != nil { // it failed before the log was configured
		m.log = openServiceLog(m.dir, m.name, formatAuto, levelInfo)
	}
	if m.log != nil {
		if err != nil {
			m.log.error("the service ends", "error", err, "hint", hintFor(err), "exit", exitCode(err))
		}
		m.log.close()
	}
	return err
}

// stopLimit is the time from the request to stop to the end of the service, with or without the daemon.
func (m *scmOverseer) stopLimit() time.Duration { return time.Duration(m.limit.Load()) }

func (m *scmOverseer) logger(set settings) *logger {
	m.limit.Store(int64(set.Limits.Drain + scmLate))
	m.log = openServiceLog(m.dir, m.name, set.LogFormat, set.LogLevel)
	return m.log.logger
}

// prepare implements reloader: the drain limit decides how long a stop may take.
func (m *scmOverseer) prepare(_, now settings) (commit func(), err error) {
	return func() { m.limit.Store(int64(now.Limits.Drain + scmLate)) }, nil
}

// stops returns nil: the SCM stops the daemon through its context. Signals must be ignored, because a service
// receives what Go calls SIGTERM whenever any user logs off ("HandlerRoutine callback function").
func (m *scmOverseer) stops() <-chan os.Signal { return nil }

func (m *scmOverseer) reloads() <-chan os.Signal { return m.reload }
func (m *scmOverseer) watchdog() time.Duration   { return 0 }

func (m *scmOverseer) ready(string)  { note(m.isReady, struct{}{}) }
func (m *scmOverseer) status(string) {}
func (m *scmOverseer) reloading()    {}
func (m *scmOverseer) restarting()   {}
func (m *scmOverseer) stopping()     { note(m.isStopping, struct{}{}) }
func (m *scmOverseer) alive()        {}

// unguarded implements overseer: no program takes the place of another on Windows.
func (m *scmOverseer) unguarded(do func() error) error { return do() }

// note puts v into a channel that holds one item, unless it is full.
func note[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}
