package main

// This file owns the cases of "ipcd bench" that a daemon does not bring about: what is due when, and what a claim makes of rounds.
// testdata/script/bench.txtar has the command.

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A stalled is a caller each of whose calls takes a millisecond, and the tenth one half a second.
type stalled struct {
	calls int
	fail  error
}

func (s *stalled) call(ctx context.Context, name string, arg, result any) error {
	took := time.Millisecond
	if s.calls++; s.calls == 10 {
		took = 500 * time.Millisecond
	}
	select {
	case <-time.After(took):
		return s.fail
	case <-ctx.Done():
		return ctx.Err()
	}
}
func (s *stalled) askParts(context.Context, string, any, any, func(document) error) error { return nil }
func (s *stalled) close() error                                                           { return nil }

// stall runs a load of a second on a caller that stalls.
func stall(t *testing.T, change func(l *benchLoad, s *stalled)) (r *BenchRow) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stalled{calls: -1} // one goes before
		l := benchLoad{clients: 1, inflight: 1, time: time.Second, dial: func(context.Context) (caller, error) { return s, nil }}
		l.call = func(ctx context.Context, c caller) error {
			if s.calls < 0 {
				s.calls = 0
				return nil
			}
			return c.call(ctx, "", nil, nil)
		}
		change(&l, s)
		came, err := l.run(t.Context())
		must(t, err)
		r = &BenchRow{}
		r.fill(came)
	})
	return r
}

// wantNear wants a time to be as long as that, but for what the histogram leaves out.
func wantNear(t *testing.T, what string, got float64, want time.Duration) {
	t.Helper()
	if off := got/want.Seconds() - 1; off < -0.01 || off > 0.01 {
		t.Errorf("%s is %v s; want %v", what, got, want)
	}
}

// While a daemon stands still one that waits for its answers makes few calls, and most of what it tells is good.
func TestStallAmongCallsThatWaitForOneAnother(t *testing.T) {
	r := stall(t, func(*benchLoad, *stalled) {})
	if r.Calls != 501 || r.Late != 0 {
		t.Errorf("%d calls were made, and %d were late; want 501 and none", r.Calls, r.Late)
	}
	wantNear(t, "p99", r.Latency.P99, time.Millisecond)
	wantNear(t, "the longest", r.Latency.Max, 500*time.Millisecond)
	wantNear(t, "the whole", r.Seconds, time.Second)
}

// At a rate each call that was due while it stood still has waited for that, also those that were never made.
func TestStallAmongCallsThatAreDue(t *testing.T) {
	r := stall(t, func(l *benchLoad, _ *stalled) { l.rate = 250 })
	if r.Calls != 250 || r.Late != 0 {
		t.Errorf("%d calls were made, and %d were late; want all 250 made", r.Calls, r.Late)
	}
	wantNear(t, "p90", r.Latency.P90, 425*time.Millisecond) // 83 do not wait, one has stood still, and each of the 166 others waits 3 ms less than the one before it
	wantNear(t, "the longest", r.Latency.Max, 500*time.Millisecond)
	r = stall(t, func(l *benchLoad, _ *stalled) { l.rate = 1000 })
	if r.Calls+r.Late != 1000 || r.Late < 400 {
		t.Errorf("%d calls were made, and %d were late; want 1000 together, of which nearly half were late", r.Calls, r.Late)
	}
}

// Calls that fail are counted apart, and a connection that is lost ends the calls on it.
func TestCallsOfABenchmarkThatFail(t *testing.T) {
	r := stall(t, func(_ *benchLoad, s *stalled) { s.fail = errors.New("no paper") })
	if r.Calls != 0 || r.Errors != 501 || r.Error != "no paper" {
		t.Errorf("%d calls were answered, and %d failed, with %q; want 501 that failed", r.Calls, r.Errors, r.Error)
	}
	if err := benchFailure([]*BenchRow{{}, r}); err == nil || !strings.Contains(err.Error(), "501 of 501 calls") {
		t.Errorf("the error is %v", err)
	}
	r = stall(t, func(_ *benchLoad, s *stalled) { s.fail = &fault{Code: codeConnection} })
	if r.Errors != 1 {
		t.Errorf("%d calls failed on a connection that was lost; want 1", r.Errors)
	}
}

func TestStepsOfAHistogram(t *testing.T) {
	for ns, want := range map[int64]int64{1: 1e3, 1e3: 1e3, 1001: 2e3, 2001: 5e3, 5001: 1e4, 1e9: 1e9, 1e9 + 1: 2e9} {
		if got := benchBound(benchStep(ns)); got != want {
			t.Errorf("%d ns are in the step up to %d; want %d", ns, got, want)
		}
	}
}

// A claim is what the rounds say, in each of which a side is compared with TCP.
func TestClaimOfRounds(t *testing.T) {
	side := func(calls ...int64) *claimSide {
		s := &claimSide{}
		for _, n := range calls {
			h := hdrhistogram.New(1, int64(benchLongest), benchDigits)
			h.RecordValue(1000)
			s.rounds = append(s.rounds, &benchRun{benchTally: &benchTally{durations: h}, calls: n, took: time.Second})
		}
		return s
	}
	c := claimOf([]string{"pipe", "TCP"}, []*claimSide{side(30, 10, 20), side(9, 8, 7), side(10, 10, 10), side(6, 4, 4)})
	if got := c.Ways[0]; got.Raw != (ClaimSide{20, 1e-6, 2}) || got.Calls != (ClaimSide{8, 1e-6, 1.75}) {
		t.Errorf("the pipe is %+v", got)
	}
	if want := "a pipe is 2.00 times as fast as TCP for bare texts of 16 bytes, and 1.75 times for calls; a call costs 150 % more time"; !strings.Contains(c.Says, want) {
		t.Errorf("it says %q; want %q", c.Says, want)
	}
}
