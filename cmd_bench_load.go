package main

// This file owns the calls of "ipcd bench": who makes them, when each is due, and how long it took.

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A benchLoad is what a daemon is put under.
type benchLoad struct {
	clients, inflight int
	time              time.Duration
	rate              float64       // calls a second that are due, of all together; 0 if each is due when the one before is answered
	timeout           time.Duration // of a call; 0 for none
	dial              func(ctx context.Context) (caller, error)
	call              func(ctx context.Context, c caller) error
	progress          func(after time.Duration, calls int64) // may be nil
}

const (
	benchDigits   = 3 // of a duration that are right
	benchLongest  = time.Hour
	benchProgress = 200 * time.Millisecond
)

// A benchTally is what came of calls. Several goroutines share one.
type benchTally struct {
	mu        sync.Mutex
	durations *hdrhistogram.Histogram // in nanoseconds
	late      int64
	failed    int64
	err       error // the first one
}

func newBenchTally() *benchTally {
	return &benchTally{durations: hdrhistogram.New(1, int64(benchLongest), benchDigits)}
}

func (t *benchTally) took(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.durations.RecordValue(int64(min(max(d, 1), benchLongest)))
}

func (t *benchTally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed++; t.err == nil {
		t.err = err
	}
}

// add adds what another one has, with which nobody works any more.
func (t *benchTally) add(other *benchTally) {
	t.durations.Merge(other.durations)
	t.late += other.late
	if t.failed += other.failed; t.err == nil {
		t.err = other.err
	}
}

// wait notes that a call was due for so long, and has not been made.
func (t *benchTally) wait(d time.Duration) {
	t.took(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late++
}

// A benchRun is what came of a load.
type benchRun struct {
	*benchTally
	calls int64         // that were answered
	took  time.Duration // until the last of them
	cpu   time.Duration // that we have computed meanwhile
}

// run makes the calls.
func (l *benchLoad) run(ctx context.Context) (*benchRun, error) {
	clients := make([]caller, 0, l.clients)
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	for range l.clients {
		c, err := l.dial(ctx)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
		if err := l.once(ctx, c); err != nil { // a mistake in the call is told at once, and what is slow the first time is not measured
			return nil, err
		}
	}
	tallies := make([]*benchTally, min(l.clients*l.inflight, 64)) // of some KiB each
	for i := range tallies {
		tallies[i] = newBenchTally()
	}
	var calls atomic.Int64
	var wg sync.WaitGroup
	r := &benchRun{benchTally: newBenchTally(), cpu: processorTime()}
	began := time.Now()
	for i := range l.clients * l.inflight {
		wg.Go(func() { l.work(ctx, clients[i%l.clients], i, began, tallies[i%len(tallies)], &calls) })
	}
	l.watch(&wg, began, &calls)
	r.took, r.cpu, r.calls = time.Since(began), processorTime()-r.cpu, calls.Load()
	for _, t := range tallies {
		r.add(t)
	}
	return r, nil
}

// benchStatus asks a daemon for its status.
func benchStatus(ctx context.Context, c caller) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	err = c.call(ctx, "Ipcd.Status", nil, &s)
	return s, err
}

// once makes a call.
func (l *benchLoad) once(ctx context.Context, c caller) error {
	if l.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.timeout)
		defer cancel()
	}
	return l.call(ctx, c)
}

// work makes calls one after the other until the time is over, as the i-th of all who do. It ends when the connection is lost.
func (l *benchLoad) work(ctx context.Context, c caller, i int, began time.Time, t *benchTally, calls *atomic.Int64) {
	end := began.Add(l.time)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for n := 0; ctx.Err() == nil; n++ {
		due := time.Now() // or, where our own timer is late, when the call is made
		if l.rate > 0 {
			due = began.Add(time.Duration(float64(i+n*l.clients*l.inflight) / l.rate * float64(time.Second)))
		}
		if !due.Before(end) {
			return
		}
		now := time.Now()
		if !now.Before(end) {
			t.wait(now.Sub(due))
			continue // the next one may have been due as well
		}
		if wait := due.Sub(now); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
				due = time.Now()
			case <-ctx.Done():
				return
			}
		}
		switch err := l.once(ctx, c); {
		case err == nil:
			t.took(time.Since(due))
			calls.Add(1)
		case ctx.Err() != nil:
		default:
			t.fail(err)
			if errors.Is(err, &fault{Code: codeConnection}) {
				return
			}
		}
	}
}

// watch tells of the progress until all have ended.
func (l *benchLoad) watch(wg *sync.WaitGroup, began time.Time, calls *atomic.Int64) {
	over := make(chan struct{})
	go func() {
		wg.Wait()
		close(over)
	}()
	tick := time.NewTicker(benchProgress)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			if l.progress != nil {
				l.progress(time.Since(began), calls.Load())
			}
		}
	}
}
