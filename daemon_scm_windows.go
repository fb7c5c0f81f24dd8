package main

// This file owns the side of a Windows service that runs: what the service control manager asks, in which
// state the daemon says that it is, and with what it ends. kardianos/service has a side that runs, too, but
// one that says "running" before anything listens, knows of no shutdown that waits and of no change of
// settings, and does not end with a code.

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

func init() { underManager = runUnderSCM }

// scmAccepts is what the manager may ask of a daemon that runs. The preparation of a shutdown comes long
// before the shutdown itself and lasts as long as install has said; the shutdown is for a system
// that does not know of it. "Parameters have changed" is what SIGHUP is elsewhere.
const scmAccepts = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange

const (
	scmStep = time.Second     // between two signs of life while it starts or stops
	scmHint = 5 * time.Second // within which the manager may expect the next ("SetServiceStatus function")
	scmLate = 5 * time.Second // after the drain limit, for all else
)

// A scmHandler is the daemon as the manager sees it.
type scmHandler struct {
	ctx   context.Context
	name  string
	dir   string // %ProgramData%\NAME
	serve func(context.Context, notices) error
	alone bool          // nobody else is in this process, whose crash is ours
	log   *serviceLog   // nil until serve has asked for it
	limit time.Duration // from the request to stop to the end
	err   error         // of serve
}

// runUnderSCM is underManager on Windows. That a process is a service only the manager knows: one that it
// has not started cannot connect, and is told so at once.
func runUnderSCM(ctx context.Context, name string, serve func(context.Context, notices) error) error {
	dir, err := serviceDir(name)
	if err != nil {
		return err
	}
	h := &scmHandler{ctx: ctx, name: name, dir: dir, serve: serve, alone: true, limit: scmLate}
	err = svc.Run(name, h)
	switch {
	case isAny(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT):
		return serve(ctx, notices{})
	case err != nil && h.err == nil:
		return fmt.Errorf("run as the service %s: %w", name, err)
	}
	return h.err
}

// Execute is what the manager has called: it answers it until the daemon has ended, and returns with
// which code. A service that was asked to stop has not failed, whatever became of its last calls:
// else the manager would start it again.
func (h *scmHandler) Execute(_ []string, requests <-chan svc.ChangeRequest, report chan<- svc.Status) (specific bool, code uint32) {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	ready, stopping, done := make(chan struct{}, 1), make(chan struct{}, 1), make(chan error, 1)
	reload, limit := make(chan struct{}, 1), make(chan time.Duration, 1)
	go func() { done <- h.run(ctx, ready, stopping, reload, limit) }()

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
		case h.limit = <-limit:
		case <-ready:
			if state.State == svc.StartPending {
				state = svc.Status{State: svc.Running, Accepts: scmAccepts}
				report <- state
			}
		case <-stopping:
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
					asked, late = true, time.After(h.limit)
					cancel()
				}
			case svc.ParamChange:
				note(reload)
			}
		case h.err = <-done:
			if asked {
				return false, 0
			}
			return true, uint32(exitCode(h.err))
		case <-late:
			h.err = fmt.Errorf("it has not stopped within %v: %w", h.limit, errForced)
			return false, 0
		}
	}
}

// note leaves word in a channel that has room for one: of two the second says nothing new.
func note(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the daemon. What it ends with is logged here: there is no terminal where main could say it.
func (h *scmHandler) run(ctx context.Context, ready, stopping, reload chan struct{}, limit chan<- time.Duration) error {
	if h.alone {
		keepCrash(h.dir)
	}
	inForce := func(set settings) {
		select {
		case limit <- set.Limits.Drain + scmLate:
		case <-ctx.Done(): // it stops, with the limit from before
		}
	}
	err := h.serve(ctx, notices{
		ready:     func() { note(ready) },
		stopping:  func() { note(stopping) },
		reload:    reload,
		inForce:   inForce,
		noSignals: true, // whenever anyone logs off, a service gets what Go calls SIGTERM ("HandlerRoutine callback function")
		log: func(set settings) *logger {
			inForce(set)
			h.log = openServiceLog(h.dir, h.name, set.LogFormat, set.LogLevel)
			return h.log.logger
		},
	})
	if h.log == nil && err != nil { // it ended before it knew where to log, and how much
		h.log = openServiceLog(h.dir, h.name, formatAuto, levelInfo)
	}
	if h.log != nil {
		if err != nil {
			h.log.error("the service ends", "error", err, "hint", hintFor(err), "exit", exitCode(err))
		}
		h.log.close()
	}
	return err
}
