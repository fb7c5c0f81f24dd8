package main

// This file owns "ipcd bench": how many calls a second a daemon answers, how long each takes, and what that costs both sides.
// cmd_bench_load.go makes the calls, and cmd_bench_claim.go compares the four ways that ipcd began with.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
)

// The most that may be asked of a benchmark.
const (
	maxBenchClients  = 10_000
	maxBenchInflight = 1_000
	maxBenchCalls    = 100_000 // at the same time
	maxBenchTime     = 24 * time.Hour
	maxBenchRate     = 10_000_000
)

const benchTime = 5 * time.Second // of a row, unless --time says another

// A BenchRow is what was measured at one endpoint with one argument, as an element of the output of "bench --json".
type BenchRow struct {
	Endpoint string       `json:"endpoint"`
	Method   string       `json:"method"`
	Size     *int         `json:"size,omitempty"` // bytes of the text that is the argument; missing if it is another one
	Clients  int          `json:"clients"`        // connections
	Inflight int          `json:"inflight"`       // calls at a time on each of them
	Rate     float64      `json:"rate,omitempty"` // calls a second that were due; missing if each waited for the one before
	Seconds  float64      `json:"seconds"`
	Calls    int64        `json:"calls"`         // that were answered
	Errors   int64        `json:"errors"`        // that failed
	Late     int64        `json:"late"`          // that were due, and could not be made before the end; among the durations with what they had waited by then
	PerSec   float64      `json:"calls_per_sec"` // that were answered
	Latency  BenchLatency `json:"latency"`
	Client   float64      `json:"client_cpu"`       // seconds of processor time for a call, on our side
	Daemon   *float64     `json:"daemon_cpu"`       // the same of the daemon; null if it does not tell
	Memory   *uint64      `json:"daemon_memory"`    // bytes in use by the daemon in the end; null if it does not tell
	Error    string       `json:"error,omitempty"`  // of the first call that failed
	Untold   string       `json:"untold,omitempty"` // why the daemon does not tell

	durations *hdrhistogram.Histogram
}

// A BenchLatency is how long calls took, in seconds. With a rate it is the time from when a call was due.
type BenchLatency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// A benchPlan is what the flags ask for.
type benchPlan struct {
	clientFlags
	argument givenArgument
	at       endpointList
	sizes    []string
	claim    bool
	load     benchLoad
}

// An endpointList is a flag that can be given several times. Its value is the one in use.
type endpointList struct {
	all []string
	now string
}

func (l *endpointList) Set(text string) error {
	l.all, l.now = append(l.all, text), text
	return nil
}
func (l *endpointList) String() string { return l.now }
func (l *endpointList) Type() string   { return "URL" }

func newBenchCmd() *cobra.Command {
	var p benchPlan
	cmd := &cobra.Command{
		Use:   "bench [METHOD [ARGUMENT | key=text | key:=JSON ...]]",
		Short: "measure how fast calls are",
		Long: `Call a method over and over, and show how many calls a second were answered, how long they took, what processor time a
call costs on this side and in the daemon, and the memory of the daemon.

Without METHOD that is Echo.Say with a text of 16 bytes. --size takes others, each of which is a row, and -e can be given several
times: the rows of an endpoint follow one another. A METHOD is called with the argument that it is given, typed as for "ipcd call",
or with a text where --size says how long.

Each client is a connection, with as many calls in flight as --inflight says, each of which is made as soon as the one before it is
answered. So a daemon that stands still for a moment is asked less meanwhile, and few calls tell of it. With --rate calls are due at
that rate, whatever the answers do, and a call takes from when it was due until it is answered.

The processor time and the memory of the daemon come from Ipcd.Status, which takes the right admin. They are of the daemon as a
whole: whoever else calls it is in them.

With --claim it starts a daemon of its own, in a private directory and at free ports of this machine, and compares the ways for two
programs to talk: a local socket or named pipe, TCP, HTTP and the channel to a child, each raw and with calls.

The JSON is a list of rows, with seconds as numbers. Ctrl-C ends the measuring, and what was measured is shown.

Exit codes: 0 done, 1 some calls failed, 2 bad usage, 3 no daemon reached.`,
		Example: `  ipcd bench
  ipcd bench --clients 8 --inflight 16 --size 16,4KiB
  ipcd bench -e unix:///tmp/mine/ipcd.sock -e http://127.0.0.1:8080 --time 2s
  ipcd bench --rate 1000 Greeter.Hello name=Ada
  ipcd bench --claim`,
		ValidArgsFunction: completeMethod(&p.clientFlags, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.claim {
				return p.runClaim(cmd, args)
			}
			return p.run(cmd, args)
		},
	}
	p.cmd = cmd
	flags := cmd.Flags()
	flags.VarP(&p.at, "endpoint", "e", "where a daemon is; may be repeated (default: your own daemon, else the service)")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("endpoint", completeEndpoint))
	addSettingFlags(cmd, "timeout")
	cmd.Flag("timeout").Usage = "how long a call may take (`duration`, default 1m; 0s for ever)"
	p.argument.add(cmd, "the argument")
	flags.IntVar(&p.load.clients, "clients", 1, "how many `connections`")
	flags.IntVar(&p.load.inflight, "inflight", 1, "how many `calls` at a time on each connection")
	flags.StringSliceVar(&p.sizes, "size", nil, "send texts of these `sizes`, such as 16 or 4KiB, one after the other")
	p.load.time = benchTime
	addDurationFlag(cmd, &p.load.time, "time", oneTick, int64(maxBenchTime), "how long to measure for each row")
	flags.Float64Var(&p.load.rate, "rate", 0, "make this many `calls` a second, of all clients together, whatever the answers do")
	flags.BoolVar(&p.claim, "claim", false, "compare socket, TCP, HTTP and the channel to a child, with a daemon of its own")
	return cmd
}

// check refuses what cannot be measured.
func (p *benchPlan) check() error {
	switch l := p.load; {
	case l.clients < 1 || l.clients > maxBenchClients:
		return usagef("--clients: %d is out of range", l.clients).withHint("take 1 to %d", maxBenchClients)
	case l.inflight < 1 || l.inflight > maxBenchInflight:
		return usagef("--inflight: %d is out of range", l.inflight).withHint("take 1 to %d", maxBenchInflight)
	case l.clients*l.inflight > maxBenchCalls:
		return usagef("--clients, --inflight: that is %d calls at the same time", l.clients*l.inflight).withHint("%d is the most", maxBenchCalls)
	case l.rate < 0 || l.rate > maxBenchRate || math.IsNaN(l.rate):
		return usagef("--rate: %v is out of range", l.rate).withHint("take a number of calls a second up to %d", maxBenchRate)
	}
	return nil
}

// A benchCall is what is called in a row.
type benchCall struct {
	method string
	arg    any
	size   *int // of the text that is the argument, and that has to come back
}

// calls returns what is called, a row each.
func (p *benchPlan) calls(cmd *cobra.Command, set settings, args []string) (list []benchCall, err error) {
	sizes := p.sizes
	if len(args) == 0 && len(sizes) == 0 && p.argument == (givenArgument{}) {
		sizes = []string{"16"}
	}
	if len(args) == 1 && !isMethodName(args[0]) {
		return nil, usagef("%q is not a method", args[0]).withHint("methods look like Service.Method; a text to echo is given by its length: ipcd bench --size 16")
	}
	method, arg, err := p.argument.parser(cmd, set).parse(args)
	switch {
	case err != nil:
		return nil, err
	case len(sizes) == 0:
		return []benchCall{{method: method, arg: arg}}, nil
	case arg != nil:
		return nil, usagef("--size: the argument is given already").withHint("give one of them")
	}
	for _, text := range sizes {
		n, wrong := (&setting{kind: ofSize, min: 0, max: int64(set.Limits.MaxMessage)}).number(strings.TrimSpace(text))
		if wrong != nil {
			return nil, usagef("--size: %s", wrong.Text).withHint("take sizes from 0 to %s, such as 16 or 4KiB: --size 16,4KiB", formatSize(int64(set.Limits.MaxMessage)))
		}
		size := int(n)
		list = append(list, benchCall{method, strings.Repeat("x", size), &size})
	}
	return list, nil
}

// run measures and shows the rows.
func (p *benchPlan) run(cmd *cobra.Command, args []string) error {
	if err := p.check(); err != nil {
		return err
	}
	at := p.at.all
	if len(at) == 0 {
		at = []string{""}
	}
	ctx, end := attend(cmd.Context(), nil)
	defer end()
	var rows []*BenchRow
	for _, text := range at {
		p.at.now = text
		next, err := p.measureAt(ctx, cmd, args)
		if rows = append(rows, next...); err != nil {
			return errors.Join(p.show(cmd, rows), reasonFor(ctx, err))
		}
	}
	if err := p.show(cmd, rows); err != nil {
		return err
	}
	return benchFailure(rows)
}

// benchFailure returns the error of a benchmark in which calls failed.
func benchFailure(rows []*BenchRow) error {
	for _, r := range rows {
		if r.Errors > 0 {
			return fmt.Errorf("%d of %d calls of %s at %s failed; the first with: %s", r.Errors, r.Errors+r.Calls, r.Method, r.Endpoint, r.Error)
		}
	}
	return nil
}

// measureAt measures the rows of one endpoint.
func (p *benchPlan) measureAt(ctx context.Context, cmd *cobra.Command, args []string) (rows []*BenchRow, err error) {
	set, _, err := settingsFrom(cmd)
	if err != nil {
		return nil, err
	}
	calls, err := p.calls(cmd, set, args)
	if err != nil {
		return nil, err
	}
	log := newLogger(os.Stderr, set.LogFormat, set.LogLevel)
	defer log.close()
	watcher, err := p.reach(ctx, set, log)
	if err != nil {
		return nil, err
	}
	defer watcher.close()
	for _, what := range calls {
		if words, ok := what.arg.(typedWords); ok {
			t := typedCall{clientFlags: &p.clientFlags, limits: set.Limits, method: what.method}
			takes, err := t.describe(ctx, watcher)
			if err != nil {
				return rows, err
			}
			if what.arg, err = words.value(what.method, takes, set.Limits); err != nil {
				return rows, t.explain(err, takes)
			}
		}
		row, err := p.measure(ctx, cmd, watcher, what, set, log)
		if row != nil {
			rows = append(rows, row)
		}
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// measure measures one row. Ctrl-C ends it early.
func (p *benchPlan) measure(ctx context.Context, cmd *cobra.Command, watcher caller, what benchCall, set settings, log *logger) (*BenchRow, error) {
	r := &BenchRow{Endpoint: p.clientFlags.at.String(), Method: what.method, Size: what.size, Clients: p.load.clients, Inflight: p.load.inflight, Rate: p.load.rate}
	load := p.load
	load.timeout, load.call = set.Timeout, what.by
	load.dial = func(ctx context.Context) (caller, error) { return dial(ctx, p.clientFlags.at, optionsOf(&set, log)) }
	live := newLiveLine(cmd.ErrOrStderr())
	defer live.clear()
	if live != nil {
		load.progress = func(after time.Duration, calls int64) {
			live.show(fmt.Sprintf("%s at %s: %v of %v, %.0f calls/s", r.what(), r.Endpoint, after.Round(100*time.Millisecond), load.time, float64(calls)/after.Seconds()))
		}
	}
	before, untold := benchStatus(ctx, watcher)
	if errors.Is(untold, errDeadline) && ctx.Err() == nil {
		if late := p.awaited(ctx, watcher, "Ipcd.Status", asFault(untold)); late.hint != "" { // nobody is there to measure
			return nil, late
		}
	}
	came, err := load.run(ctx)
	if err != nil {
		return nil, p.withHint(ctx, watcher, what.method, err)
	}
	r.fill(came)
	after, wrong := benchStatus(context.WithoutCancel(ctx), watcher)
	switch err := cmp.Or(untold, wrong); {
	case err != nil:
		r.Untold = err.Error()
	case after.CPU == 0:
		r.Untold, r.Memory = "it is of a version that does not", &after.Memory
	default:
		spent := (after.CPU - before.CPU) / float64(max(1, r.Calls+r.Errors))
		r.Daemon, r.Memory = &spent, &after.Memory
	}
	return r, ctx.Err()
}

// fill fills in what came of a load.
func (r *BenchRow) fill(came *benchRun) {
	r.Seconds, r.Calls, r.Errors, r.Late, r.durations = came.took.Seconds(), came.calls, came.failed, came.late, came.durations
	r.PerSec = float64(r.Calls) / r.Seconds
	at := func(percent float64) float64 { return float64(came.durations.ValueAtQuantile(percent)) / 1e9 }
	r.Latency = BenchLatency{came.durations.Mean() / 1e9, at(50), at(90), at(99), at(99.9), float64(came.durations.Max()) / 1e9}
	if came.err != nil {
		r.Error = came.err.Error()
	}
	r.Client = came.cpu.Seconds() / float64(max(1, r.Calls+r.Errors))
}

// by makes the call once.
func (what *benchCall) by(ctx context.Context, c caller) error {
	if what.method != "Echo.Say" || what.size == nil {
		return c.call(ctx, what.method, what.arg, nil)
	}
	var got string
	if err := c.call(ctx, what.method, what.arg, &got); err != nil {
		return err
	}
	if got != what.arg {
		return faultf(codeWrongProtocol, "the answer of Echo.Say is not the text that it was sent")
	}
	return nil
}

// what names what is called.
func (r *BenchRow) what() string {
	if r.Size != nil {
		return r.Method + " " + sizeText(*r.Size)
	}
	return r.Method
}

// show prints the rows.
func (p *benchPlan) show(cmd *cobra.Command, rows []*BenchRow) error {
	out := cmd.OutOrStdout()
	if wantsJSON(cmd) {
		if rows == nil {
			rows = []*BenchRow{}
		}
		return printJSON(out, rows)
	}
	if len(rows) == 0 {
		return nil
	}
	l := p.load
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s in flight on each, %v each", counted(l.clients, "client"), counted(l.inflight, "call"), l.time)
	if l.rate > 0 {
		fmt.Fprintf(&b, ", %v calls/s due", l.rate)
	}
	fmt.Fprintln(&b)
	untold := ""
	table(&b, func(t io.Writer) {
		fmt.Fprintln(t, "endpoint\tmethod\tcalls/s\tp50\tp90\tp99\tp99.9\tmax\tCPU here\tCPU daemon\tmemory")
		for _, r := range rows {
			memory := "-"
			if r.Memory != nil {
				memory = fmt.Sprintf("%.1f MiB", float64(*r.Memory)/oneMiB)
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(r.Endpoint), oneLine(r.what()), r.PerSec,
				inMicros(&r.Latency.P50), inMicros(&r.Latency.P90), inMicros(&r.Latency.P99), inMicros(&r.Latency.P999), inMicros(&r.Latency.Max),
				inMicros(&r.Client), inMicros(r.Daemon), memory)
			if r.Untold != "" {
				untold = r.Untold
			}
		}
	})
	for _, r := range rows {
		fmt.Fprintf(&b, "\n%s at %s: %s", oneLine(r.what()), oneLine(r.Endpoint), counted(int(r.Calls), "call"))
		if r.Late > 0 {
			fmt.Fprintf(&b, "; %d more were due, and could not be made before the end", r.Late)
		}
		fmt.Fprintln(&b)
		r.draw(&b)
	}
	if untold != "" {
		fmt.Fprintf(&b, "\nthe daemon does not tell its processor time and memory: %s\n", oneLine(untold))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// sizeText is a size for people.
func sizeText(n int) string {
	if text := formatSize(int64(n)); strings.HasSuffix(text, "B") {
		return text
	}
	return strconv.Itoa(n) + "B"
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// inMicros is a time for people, of three digits.
func inMicros(seconds *float64) string {
	switch {
	case seconds == nil:
		return "-"
	case *seconds < 1e-3:
		return strconv.FormatFloat(*seconds*1e6, 'g', 3, 64) + " µs"
	case *seconds < 1:
		return strconv.FormatFloat(*seconds*1e3, 'g', 3, 64) + " ms"
	}
	return strconv.FormatFloat(*seconds, 'g', 3, 64) + " s"
}

const benchBar = 40 // columns of the longest bar

// draw draws how the durations are spread, in steps of 1, 2 and 5.
func (r *BenchRow) draw(w io.Writer) {
	if r.durations == nil || r.durations.TotalCount() == 0 {
		return
	}
	var counts []int64
	first, last := -1, 0
	for _, bar := range r.durations.Distribution() {
		if bar.Count == 0 {
			continue
		}
		at := benchStep(bar.To)
		for len(counts) <= at {
			counts = append(counts, 0)
		}
		counts[at] += bar.Count
		if first < 0 {
			first = at
		}
		last = at
	}
	most := int64(1)
	for _, n := range counts {
		most = max(most, n)
	}
	table(w, func(t io.Writer) {
		for at := first; at <= last; at++ {
			bound := float64(benchBound(at)) / 1e9
			part := float64(counts[at]) / float64(r.durations.TotalCount())
			length := int(math.Ceil(benchBar * float64(counts[at]) / float64(most)))
			fmt.Fprintf(t, "  up to %s\t%5.1f %%\t%s\n", inMicros(&bound), 100*part, strings.Repeat("#", length))
		}
	})
}

// benchBound is the upper bound of a step, in nanoseconds: 1000, 2000, 5000, 10000 and so on.
func benchBound(step int) int64 {
	n := int64(1000)
	for range step / 3 {
		n *= 10
	}
	return n * []int64{1, 2, 5}[step%3]
}

// benchStep is the step of a duration in nanoseconds.
func benchStep(ns int64) (step int) {
	for benchBound(step) < ns {
		step++
	}
	return step
}
