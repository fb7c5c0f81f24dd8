package main

// This file owns what the service Ipcd has for workers: their status, and the orders of those who may control them.

import (
	"context"
	"time"
)

// A WorkerStatus is a worker in the answer of Status.
type WorkerStatus struct {
	Name      string          `json:"name"`
	State     string          `json:"state"` // running, starting, waiting (lazy, for a call), stopping, stopped, parked, ended
	Why       string          `json:"why,omitempty"`
	Services  []string        `json:"services,omitempty"`
	Instances int             `json:"instances"` // as configured
	Restarts  int             `json:"restarts"`  // after processes that ended by themselves, or did not start
	Calls     int64           `json:"calls"`
	Errors    int64           `json:"errors"` // of these, answered with an error, or not at all
	Waiting   int             `json:"waiting"`
	Processes []ProcessStatus `json:"processes,omitempty"`
}

// A ProcessStatus is a process of a worker.
type ProcessStatus struct {
	Instance int     `json:"instance"` // from 1; two have the same one while one replaces the other
	PID      int     `json:"pid"`
	Started  string  `json:"started"` // RFC 3339
	State    string  `json:"state"`   // starting, ready, leaving
	Calls    int     `json:"calls"`   // in flight
	Memory   uint64  `json:"memory,omitempty"`
	CPU      float64 `json:"cpu,omitempty"` // seconds
}

// status is what Status reports of the workers.
func (f *workforce) status() (list []WorkerStatus) {
	for _, w := range f.list() {
		list = append(list, w.status())
	}
	return list
}

func (w *worker) status() WorkerStatus {
	s := w.statusWithoutUsage()
	if usageOf == nil {
		return s
	}
	for i := range s.Processes { // it reads files, for which no call is to wait
		p := &s.Processes[i]
		memory, cpu := usageOf(p.PID)
		p.Memory, p.CPU = memory, cpu.Seconds()
	}
	return s
}

func (w *worker) statusWithoutUsage() WorkerStatus {
	waiting := w.calls.length()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := WorkerStatus{Name: w.name, State: w.stateLocked(), Services: w.spec.Services, Instances: w.spec.Instances, Restarts: w.restarts,
		Calls: w.asked, Errors: w.failed, Waiting: waiting}
	s.Why = w.whyStateLocked(s.State)
	for _, p := range w.running {
		ps := ProcessStatus{Instance: p.number, PID: p.cmd.Process.Pid, Started: p.began.Format(time.RFC3339), State: "starting", Calls: int(p.busy.Load())}
		switch {
		case p.leaving:
			ps.State = "leaving"
		case p.isReady():
			ps.State = "ready"
		}
		s.Processes = append(s.Processes, ps)
	}
	return s
}

// whyStateLocked says why the worker is in that state, where that is not what it is for.
func (w *worker) whyStateLocked(state string) string {
	switch state {
	case "starting", "ended":
		return w.last
	case "parked":
		return w.parked
	}
	return ""
}

// workerStates are the states in which a worker can be.
var workerStates = []string{"running", "starting", "waiting", "stopping", "stopped", "parked", "ended"}

func (w *worker) stateLocked() string {
	ready := 0
	for _, p := range w.running {
		if p.isReady() && !p.leaving {
			ready++
		}
	}
	switch {
	case w.halted && len(w.running) > 0:
		return "stopping"
	case w.halted:
		return "stopped"
	case ready > 0:
		return "running"
	case w.parked != "":
		return "parked"
	case w.whyLocked() != "":
		return "ended"
	case w.spec.Lazy && !w.wanted && len(w.running) == 0:
		return "waiting"
	}
	return "starting"
}

// controlled returns a worker, if the caller may control it.
func (i *Ipcd) controlled(ctx context.Context, name string) (*worker, error) {
	if f := i.server.controlBy(ctx); f != nil {
		return nil, f
	}
	w, f := i.server.force.find(name)
	if f != nil {
		return nil, f
	}
	return w, nil
}

// WorkerStart starts a worker, and returns when it is ready, with its status.
func (i *Ipcd) WorkerStart(ctx context.Context, name string) (WorkerStatus, error) {
	w, err := i.controlled(ctx, name)
	if err != nil {
		return WorkerStatus{}, err
	}
	return w.order(ctx, func() {})
}

// order has the worker run after a change of its state, and waits until it does.
func (w *worker) order(ctx context.Context, f func()) (WorkerStatus, error) {
	failures := 0
	w.change(func() {
		f()
		w.halted, w.wanted, w.unreplaced, failures = false, true, "", w.restarts
		w.forgiveLocked()
	})
	return w.until(ctx, "running", failures)
}

// WorkerStop stops a worker, and returns when it has ended.
func (i *Ipcd) WorkerStop(ctx context.Context, name string) (WorkerStatus, error) {
	w, err := i.controlled(ctx, name)
	if err != nil {
		return WorkerStatus{}, err
	}
	w.change(func() { w.halted = true })
	return w.until(ctx, "stopped", 0)
}

// WorkerRestart stops a worker and starts it again. Calls that come meanwhile wait.
func (i *Ipcd) WorkerRestart(ctx context.Context, name string) (WorkerStatus, error) {
	w, err := i.controlled(ctx, name)
	if err != nil {
		return WorkerStatus{}, err
	}
	return w.order(ctx, func() {
		w.replaceLocked()
		w.stopsFirst = w.version
	})
}

// WorkerReload has new processes take the place of those that run, and returns when they have.
func (i *Ipcd) WorkerReload(ctx context.Context, name string) (WorkerStatus, error) {
	w, err := i.controlled(ctx, name)
	if err != nil {
		return WorkerStatus{}, err
	}
	return w.order(ctx, w.replaceLocked)
}

// until waits until the worker is in a state, with no process of an older version, or will not get there by itself: failures is
// how many starts had failed before. A process that is ready as soon as it runs may end at once, which is waited for.
func (w *worker) until(ctx context.Context, state string, failures int) (WorkerStatus, error) {
	for {
		w.mu.Lock()
		now, why, changed, ready, old, watch := w.stateLocked(), w.whyLocked(), w.changed, 0, 0, alarm{}
		for _, p := range w.running {
			switch {
			case p.version != w.version:
				old++
			case p.isReady():
				ready++
				mayEnd := len(p.spec.Services) == 0 && p.spec.Restart != restartAlways
				if left := w.force.watch - time.Since(p.began); left > 0 && p.spec.readyAtOnce() && !mayEnd && watch.t == nil {
					watch = newAlarm(left)
				}
			}
		}
		there := now == state && (state != "running" || old == 0 && ready >= w.spec.Instances)
		failed, unreplaced, last := w.restarts > failures, w.unreplaced, w.last
		w.mu.Unlock()
		switch {
		case state == "running" && unreplaced != "":
			return w.status(), faultf(codeApplication, "the worker %s was not replaced, and goes on as it was: %s", w.name, unreplaced)
		case there && watch.t == nil:
			return w.status(), nil
		case state == "running" && why != "":
			return w.status(), faultf(codeApplication, "the worker %s %s", w.name, why)
		case state == "running" && failed:
			return w.status(), faultf(codeApplication, "the worker %s does not start: %s; it is tried again", w.name, last)
		}
		select {
		case <-changed:
		case <-watch.C():
		case <-ctx.Done():
			return w.status(), context.Cause(ctx)
		}
		watch.stop()
	}
}

// A WorkerLogQuery is the argument of WorkerLog.
type WorkerLogQuery struct {
	Name  string `json:"name"`
	After int64  `json:"after,omitempty"` // the next of an earlier answer: then it waits until there is a line after that, or its deadline is near
}

// A WorkerLogAnswer is the answer of WorkerLog.
type WorkerLogAnswer struct {
	Lines []WorkerLine `json:"lines"`
	Next  int64        `json:"next"` // where the next lines begin
}

const logPatience = 20 * time.Second // for a line; then the answer is empty, and the caller asks again

// WorkerLog returns the last lines that a worker has printed, 64 KiB at most.
func (i *Ipcd) WorkerLog(ctx context.Context, q WorkerLogQuery) (WorkerLogAnswer, error) {
	w, err := i.controlled(ctx, q.Name)
	if err != nil {
		return WorkerLogAnswer{}, err
	}
	late := time.NewTimer(logPatience)
	defer late.Stop()
	for {
		lines, next, more := w.said.since(q.After)
		if len(lines) > 0 || q.After == 0 {
			return WorkerLogAnswer{lines, next}, nil
		}
		select {
		case <-more:
		case <-late.C:
			return WorkerLogAnswer{lines, next}, nil
		case <-ctx.Done():
			return WorkerLogAnswer{}, context.Cause(ctx)
		}
	}
}
