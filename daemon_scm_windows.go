package main

// This file owns the overseer of a Windows service, the service control manager: what it asks, in which
// state the daemon says that it is, and with what it ends. kardianos/service has a side that runs, too, but
// one that says "running" before anything listens, knows of no shutdown that waits and of no change of
// settings, and does not end with a code. Its twin is daemon_notify_unix.go.

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

// scmAccepts is what the manager may ask of a daemon that runs. The preparation of a shutdown comes long
// before the shutdown itself and lasts as long as install has said; the shutdown is for a system
// that does not know of it. "Parameters have changed" is what SIGHUP is elsewhere.
const scmAccepts = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange

const (
	scmStep = time.Second     // between two signs of life while it starts or stops
	scmHint = 5 * time.Second // within which the manager may expect the next ("SetServiceStatus function")
	scmLate = 5 * time.Second // after the drain limit, for all else
)

// oversee runs serve with the overseer of this process. That a process is a service only the manager knows: one
// that it has not started cannot connect, and is told so at once.
func oversee(ctx context.Context, who instance, stderr io.Writer, serve func(context.Context, overseer) error) error {
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
	f := newForeground(who, stderr)
	defer f.close()
	return serve(ctx, f)
}

// An scmOverseer stands between the manager and the daemon: to the one it is the service (svc.Handler), to
// the other the overseer.
type scmOverseer struct {
	ctx   context.Context
	name  string
	dir   string // %ProgramData%\NAME
	serve func(context.Context, overseer) error
	alone bool         // nobody else is in this process, whose crash is ours
	log   *serviceLog  // nil until the daemon has settings
	limit atomic.Int64 // a time.Duration: from the request to stop to the end
	err   error        // of serve

	// Each has room for one: of two the second says nothing new.
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

// Execute is what the manager has called: it answers it until the daemon has ended, and returns with
// which code. A service that was asked to stop has not failed, whatever became of its last calls:
// else the manager would start it again.
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

// run is the daemon. What it ends with is logged here: there is no terminal where main could say it.
func (m *scmOverseer) run(ctx context.Context) error {
	if m.alone {
		keepCrash(m.dir)
	}
	err := m.serve(ctx, m)
	if m.log == nil && err != nil { // it ended before it knew where to log, and how much
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

func (m *scmOverseer) stopLimit() time.Duration { return time.Duration(m.limit.Load()) }

func (m *scmOverseer) logger(set settings) *logger {
	m.limit.Store(int64(set.Limits.Drain + scmLate))
	m.log = openServiceLog(m.dir, m.name, set.LogFormat, set.LogLevel)
	return m.log.logger
}

// prepare keeps the drain limit, which decides for how long a stop is waited for.
func (m *scmOverseer) prepare(_, now settings) (commit func(), err error) {
	return func() { m.limit.Store(int64(now.Limits.Drain + scmLate)) }, nil
}

// stops is nothing: the manager stops the daemon by its context. Whenever anyone logs off, a service gets what
// Go calls SIGTERM ("HandlerRoutine callback function").
func (m *scmOverseer) stops() <-chan os.Signal { return nil }

func (m *scmOverseer) reloads() <-chan os.Signal { return m.reload }
func (m *scmOverseer) watchdog() time.Duration   { return 0 }

func (m *scmOverseer) ready(string)  { note(m.isReady, struct{}{}) }
func (m *scmOverseer) status(string) {}
func (m *scmOverseer) reloading()    {}
func (m *scmOverseer) stopping()     { note(m.isStopping, struct{}{}) }
func (m *scmOverseer) alive()        {}

// note leaves word in a channel that has room for one.
func note[T any](c chan<- T, word T) {
	select {
	case c <- word:
	default:
	}
}
