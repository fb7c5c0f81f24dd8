package main

// This file owns the processes of workers: when one is started, how long it may take to be ready, what becomes of it when it
// ends, and how it is replaced and stopped. The processes themselves are in child_worker.go.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"
)

const (
	firstPause = 100 * time.Millisecond // between the end of a process and the next start; it doubles each time
	mostPause  = 30 * time.Second
	steadyFor  = 10 * time.Second // a process that has run for as long as that was no failure
	startsMost = 10               // that end in a failure within startsSpan, or none of which gets ready: then the worker is parked
	startsSpan = time.Minute
	memoryLook = 5 * time.Second // between two looks at the memory of a process
	startWatch = time.Second     // for a process that says nothing of being ready to have ended, if it cannot run: an interpreter finds out within that
)

// A keeper keeps one process of a worker running.
type keeper struct {
	w      *worker
	number int // from 1

	pause time.Duration // that was taken before the last start
	next  time.Time     // not to be started before

	// The worker's mu guards the fields below.
	failures []time.Time // within startsSpan
	unready  int         // starts since a process was ready
	resting  bool        // its process has ended as it should, and is not started again
}

// run keeps the process running until the worker is over, or has fewer instances.
func (k *keeper) run() {
	for k.await() {
		p, err := k.start(0)
		early := (*earlyEnd)(nil)
		switch {
		case err == errNotNeeded:
			continue
		case errors.As(err, &early):
			k.settle(early.p, early.Error())
			continue
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // no more so in a moment
			k.w.log.error("a worker is parked", "why", err, "hint", cmp.Or(hintFor(err), "ipcd worker start "+k.w.name))
			k.w.change(func() { k.w.parked = err.Error() })
			continue
		case err != nil:
			k.failed(err.Error(), false)
			continue
		}
		for p != nil {
			p = k.attend(p)
		}
	}
}

// A duty is what a keeper has to do.
type duty int

const (
	dutyNone    duty = iota // there is to be no process at the moment
	dutyRun                 // there is to be one
	dutyReplace             // of other settings than the one that runs
	dutyOver                // there will be none any more
)

// duty returns what is to be done about p, or about having no process, and what is closed when that may have changed.
func (k *keeper) duty(p *workerProcess) (duty, <-chan struct{}) {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over, k.number > len(w.keepers), w.keepers[k.number-1] != k:
		return dutyOver, w.changed
	case w.halted, w.parked != "", k.resting, w.spec.Lazy && !w.wanted:
		return dutyNone, w.changed
	case p != nil && p.version != w.version:
		return dutyReplace, w.changed
	}
	return dutyRun, w.changed
}

// await waits until there is to be a process. It returns false if there will be none any more.
func (k *keeper) await() bool {
	for {
		d, changed := k.duty(nil)
		wait := time.Until(k.next)
		switch {
		case d == dutyOver:
			return false
		case d == dutyRun && wait <= 0:
			return true
		case d == dutyNone:
			<-changed
			continue
		}
		late := time.NewTimer(wait)
		select {
		case <-changed:
		case <-late.C:
		}
		late.Stop()
	}
}

// start starts a process and waits until it is ready. One that is ready as soon as it runs has to have run for as long as watch.
func (k *keeper) start(watch time.Duration) (*workerProcess, error) {
	w := k.w
	w.mu.Lock()
	spec, version := w.spec, w.version
	w.mu.Unlock()
	watch = min(watch, spec.StartTimeout/2)
	p, err := w.launch(k.number, spec, version, watch)
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(spec.StartTimeout)
	defer late.Stop()
	for {
		d, changed := k.duty(p)
		if d != dutyRun {
			w.retire(p)
			return nil, errNotNeeded
		}
		select {
		case <-p.ready:
			w.mu.Lock()
			k.unready = 0
			w.mu.Unlock()
			w.log.info("a worker is ready", "pid", p.cmd.Process.Pid, "instance", k.number)
			return p, nil
		case <-changed:
			continue
		case <-p.over:
			w.gone(p)
			how := "before it was ready"
			if watch > 0 && spec.readyAtOnce() {
				how = "within " + formatDuration(watch) + " of its start"
			}
			return nil, &earlyEnd{p, p.whyLate(fmt.Sprintf("it %s %s", p.how(), how))}
		case <-late.C:
			p.kill()
			w.gone(p)
			return nil, &earlyEnd{p, p.whyLate(fmt.Sprintf("it was not ready within %s (start_timeout); it is ready once it has called Ipcd.Register", formatDuration(spec.StartTimeout)))}
		}
	}
}

// An earlyEnd is why a process has ended that had not been ready.
type earlyEnd struct {
	p    *workerProcess
	text string
}

func (e *earlyEnd) Error() string { return e.text }

// errNotNeeded is why a process was ended that had not been ready.
var errNotNeeded = errors.New("it is not needed any more")

// launch starts a process.
func (w *worker) launch(number int, spec *workerSettings, version int, watch time.Duration) (*workerProcess, error) {
	p := &workerProcess{worker: w, number: number, spec: spec, version: version, watch: watch, began: time.Now(), ready: make(chan struct{}), over: make(chan struct{})}
	l := *w.server.limits()
	if spec.MaxMessage > 0 {
		l.MaxMessage = spec.MaxMessage
	}
	start := workerStart{spec: spec, limits: l, log: w.log, forker: w.force.forker,
		env: append([]string{ownPrefix + "WORKER=" + w.name, ownPrefix + "INSTANCE=" + strconv.Itoa(number)}, w.force.marks()...),
		line: func(stream, text string) {
			logged, left := w.said.add(number, stream, text)
			if left > 0 {
				w.log.warn("lines of a worker were left out of the log: it prints too many", "instance", number, "lines", left)
			}
			if logged {
				w.log.info(text, "instance", number, "stream", stream)
			}
		}}
	child, err := start.run()
	if err != nil {
		return nil, err
	}
	p.workerChild = child
	w.log.debug("a worker was started", "pid", child.cmd.Process.Pid, "instance", number)
	w.mu.Lock()
	w.running = append(w.running, p)
	w.mu.Unlock()
	w.force.wg.Go(func() { p.serve(&l) })
	return p, nil
}

// attend returns once p has ended, with nil, or with the process that has taken its place.
func (k *keeper) attend(p *workerProcess) *workerProcess {
	w := k.w
	health := newAlarm(p.spec.Health)
	memory := k.memoryAlarm(p)
	defer func() { health.stop(); memory.stop() }()
	healthy := make(chan bool, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		d, changed := k.duty(p)
		switch d {
		case dutyNone, dutyOver:
			w.retire(p)
			return nil
		case dutyReplace:
			return k.replace(p)
		}
		idle := newAlarm(w.untilIdle())
		select {
		case <-changed:
		case <-idle.C():
			w.rest()
		case <-health.C():
			go func() { healthy <- p.answers(ctx) }()
		case well := <-healthy:
			if !well {
				w.log.error("a worker does not answer, and is ended", "instance", k.number, "limit", "health", "max", p.spec.Health)
				p.kill()
			}
			health = newAlarm(p.spec.Health)
		case <-memory.C():
			if k.isTooLarge(p) {
				idle.stop()
				return k.replace(p)
			}
			memory = k.memoryAlarm(p)
		case <-p.over:
			idle.stop()
			k.ended(p)
			return nil
		}
		idle.stop()
	}
}

// memoryAlarm goes off when the memory of p is to be looked at, if that has a limit.
func (k *keeper) memoryAlarm(p *workerProcess) alarm {
	if p.spec.MaxMemory == 0 || usageOf == nil {
		return alarm{}
	}
	return newAlarm(k.w.force.look)
}

// isTooLarge reports whether p takes more memory than it may, and another process is to take its place. One that takes twice as
// much, and may take all that there is before it has finished what it does, is ended at once.
func (k *keeper) isTooLarge(p *workerProcess) bool {
	most := uint64(p.spec.MaxMemory)
	taken, _ := usageOf(p.cmd.Process.Pid)
	if taken <= most {
		return false
	}
	log := k.w.log.with("instance", k.number, "pid", p.cmd.Process.Pid, "limit", "max_memory", "max", most, "memory", taken)
	if taken > 2*most {
		log.warn("a worker takes far too much memory, and is ended")
		p.kill()
		return false // it has ended, soon
	}
	log.warn("a worker takes too much memory, and is replaced")
	return true
}

// replace has a process with the settings of now take the place of p. If that one does not start, p goes on; nor does one that ends
// at once, since p is still there to serve.
func (k *keeper) replace(p *workerProcess) *workerProcess {
	w := k.w
	w.mu.Lock()
	overlap, version := w.spec.Overlap && w.version != w.stopsFirst, w.version
	w.mu.Unlock()
	if !overlap {
		w.retire(p)
		return nil
	}
	next, err := k.start(w.force.watch)
	if err == errNotNeeded {
		return p
	}
	if err != nil {
		w.log.error("a worker could not be replaced; the old process goes on", "instance", k.number, "error", err)
		w.change(func() { p.version, w.unreplaced = version, err.Error() })
		return p
	}
	w.force.wg.Go(func() { w.retire(p) })
	return next
}

// untilIdle is how much longer a lazy worker stays without a call; 0 for ever.
func (w *worker) untilIdle() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.spec.Lazy {
		return 0
	}
	last := w.lastCall
	for _, p := range w.running {
		if p.busy.Load() > 0 {
			return w.spec.Idle
		}
		if p.began.After(last) {
			last = p.began
		}
	}
	return max(w.spec.Idle-time.Since(last), time.Millisecond)
}

// rest ends the processes of a lazy worker that has had no call for long enough.
func (w *worker) rest() {
	if w.untilIdle() > time.Millisecond {
		return
	}
	w.log.info("a worker has nothing to do", "idle", w.spec.Idle)
	w.change(func() { w.wanted = false })
}

// answers reports whether p says anything at all when it is asked whether it is there.
func (p *workerProcess) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, p.spec.Health)
	defer cancel()
	err := p.session.ask(ctx, "Ipcd.Ping", nil, nil, nil)
	return ctx.Err() == nil || err == nil
}

// retire ends p: it gets no more calls, finishes those that it has, and is then asked to end, and killed if it does not.
func (w *worker) retire(p *workerProcess) {
	w.dismiss(p)
	w.drain(p)
	w.mu.Lock()
	s := p.session
	w.mu.Unlock()
	if s != nil && !s.idle() { // calls of its own are answered, too
		s.leave()
		late := time.NewTimer(p.spec.StopTimeout)
		defer late.Stop()
		select {
		case <-p.over:
		case <-w.force.forced:
		case <-late.C:
		}
	}
	w.gone(p)
}

// dismiss has p get no more calls.
func (w *worker) dismiss(p *workerProcess) {
	w.mu.Lock()
	p.leaving, p.offered = true, nil
	w.mu.Unlock()
	w.serving()
}

// drain waits until p has no calls, or nobody waits for that any more.
func (w *worker) drain(p *workerProcess) {
	limit := w.server.limits().Drain
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		w.mu.Lock()
		busy, changed := p.busy.Load(), w.changed
		w.mu.Unlock()
		if busy == 0 {
			return
		}
		select {
		case <-changed:
		case <-p.over:
			return
		case <-w.force.forced:
			return
		case <-late.C:
			w.log.warn("calls of a worker are cut", "instance", p.number, "limit", "drain", "max", limit)
			return
		}
	}
}

// gone waits for the end of p, of which nothing is wanted any more.
func (w *worker) gone(p *workerProcess) {
	stop := make(chan struct{})
	go func() {
		select {
		case <-w.force.forced:
			p.kill()
		case <-stop:
		}
	}()
	p.finish()
	close(stop)
	<-p.over
	w.mu.Lock()
	w.running = slices.DeleteFunc(w.running, func(other *workerProcess) bool { return other == p })
	w.mu.Unlock()
	w.serving()
}

// ended is for a process that has ended, or closed its channel, by itself.
func (k *keeper) ended(p *workerProcess) {
	w := k.w
	w.dismiss(p)
	w.gone(p)
	how := "it " + p.how()
	w.log.warn("a worker has ended", "instance", k.number, "how", how)
	if time.Since(p.began) >= steadyFor {
		k.pause = 0
	}
	k.settle(p, how)
}

// settle does what the settings say of a process that has ended by itself.
func (k *keeper) settle(p *workerProcess, how string) {
	w := k.w
	if r := p.spec.Restart; r == restartNever || r == restartOnFailure && p.exitCode() == 0 {
		w.change(func() { k.resting, w.last = true, how })
		return
	}
	k.failed(how, p.isReady())
}

// failed has the next start wait, or parks the worker if there were too many. ready says whether the process that has ended was.
func (k *keeper) failed(why string, ready bool) {
	w := k.w
	now := time.Now()
	k.pause = min(max(2*k.pause, firstPause), mostPause)
	k.next = now.Add(k.pause)
	parked := ""
	w.change(func() {
		k.failures = append(slices.DeleteFunc(k.failures, func(t time.Time) bool { return now.Sub(t) > startsSpan }), now)
		if !ready {
			k.unready++
		}
		switch {
		case len(k.failures) >= startsMost:
			parked = fmt.Sprintf("started %d times within %s; the last time %s", len(k.failures), formatDuration(startsSpan), why)
		case k.unready >= startsMost: // a start takes too long for so many of them within startsSpan
			parked = fmt.Sprintf("started %d times in a row, and it was never ready; the last time %s", k.unready, why)
		}
		w.last = why
		w.restarts++
		if parked != "" {
			w.parked = parked
			k.pause, k.next = 0, time.Time{}
		}
	})
	if parked != "" {
		w.log.error("a worker is parked", "why", parked, "hint", "ipcd worker start "+w.name)
	} else {
		w.log.warn("a worker is started again", "instance", k.number, "why", why, "after", k.pause)
	}
}

// An alarm goes off once; one of 0 never does.
type alarm struct{ t *time.Timer }

func newAlarm(d time.Duration) alarm {
	if d <= 0 {
		return alarm{}
	}
	return alarm{time.NewTimer(d)}
}

func (a alarm) C() <-chan time.Time {
	if a.t == nil {
		return nil
	}
	return a.t.C
}

func (a alarm) stop() {
	if a.t != nil {
		a.t.Stop()
	}
}
