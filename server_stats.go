package main

// This file owns the figures of a daemon for those who watch over many: what GET /metrics and "ipcd stats" show, in the text format of
// Prometheus. A new figure is a row of figures and one of docs/operations.md; a test compares the two. What a call costs for them is in
// rpc_tally.go.
//
// The names follow Prometheus's conventions, and those of its clients for what every process has (process_…, go_…), so that
// dashboards that exist work. client_golang would do all this; it costs each start of the program 115 page faults, "ipcd call"
// included.

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The kinds of figures, as the format names them.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// A Figure is one figure in the answer of Ipcd.Stats, for each set of labels that it has.
type Figure struct {
	Name    string    `json:"name"`
	Type    string    `json:"type"` // counter, gauge or histogram
	Help    string    `json:"help"`
	Bounds  []float64 `json:"bounds,omitempty"` // of a histogram: the upper bounds of its buckets; one more has none
	Samples []Sample  `json:"samples"`
}

// A Sample is the value of a figure. A histogram has Count, Sum and Buckets instead.
type Sample struct {
	Labels  map[string]string `json:"labels,omitempty"`
	Value   float64           `json:"value"`
	Count   int64             `json:"count,omitempty"`
	Sum     float64           `json:"sum,omitempty"`
	Buckets []int64           `json:"buckets,omitempty"` // each with those before it
}

// A moment is what figures are read from: all that has to be read once for several of them.
type moment struct {
	*server
	memory  runtime.MemStats
	tallies []*tally
	ended   int64 // calls that have ended
	workers []*worker
	process processFigures
}

func (s *server) now() *moment {
	m := &moment{server: s, tallies: s.meter.book.all(), workers: s.force.list()}
	for _, t := range m.tallies {
		m.ended += t.calls()
	}
	if figuresOfProcess != nil {
		m.process = figuresOfProcess()
	}
	runtime.ReadMemStats(&m.memory)
	return m
}

// one is the sample of a figure that has no labels.
func one[T int | int64 | uint64 | float64](n T) []Sample { return []Sample{{Value: float64(n)}} }

// some is one for what the system may not tell.
func some[T int | int64 | float64](n T) []Sample {
	if n <= 0 {
		return nil
	}
	return one(n)
}

// labelled is a sample with labels; names and values alternate.
func labelled[T int | int64 | uint64 | float64](n T, labels ...string) Sample {
	s := Sample{Value: float64(n), Labels: map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1]
	}
	return s
}

// figures are all figures, in the order in which they are shown.
var figures = []struct {
	name, kind, help string
	read             func(m *moment) []Sample
}{
	{"ipcd_build_info", gauge, "Always 1; the labels say what runs.", func(*moment) []Sample {
		return []Sample{labelled(1, "version", version(), "goversion", runtime.Version(), "protocol", strconv.Itoa(protocolVersion))}
	}},
	{"ipcd_ready", gauge, "1 if /readyz answers 200, else 0.", func(m *moment) []Sample {
		if m.unready() != nil {
			return one(0)
		}
		return one(1)
	}},
	{"ipcd_calls_total", counter, "Calls that have ended, by method and code; the code of those that ended well is ok.", (*moment).calls},
	{"ipcd_call_duration_seconds", histogram, "How long calls took, from their request to their answer, by method.", (*moment).durations},
	{"ipcd_calls_in_flight", gauge, "Calls that have begun and not ended.", func(m *moment) []Sample {
		return one(max(m.meter.calls.Load()-m.ended, 0)) // read behind those that have ended
	}},
	{"ipcd_calls_waiting", gauge, "Calls in flight that wait for a provider to have room, or for a worker to be ready.", func(m *moment) []Sample { return one(m.router.waiting.Load()) }},
	{"ipcd_rejected_total", counter, "Messages that began no call and were answered with an error, by code.", func(m *moment) []Sample { return m.meter.rejections.samples() }},
	{"ipcd_panics_total", counter, "Methods of this process that panicked; each is a bug, and its stack is in the log.", func(m *moment) []Sample { return one(m.meter.panics.Load()) }},
	{"ipcd_limits_reached_total", counter, "How often a limit was reached, by its key in [limits].", func(m *moment) (list []Sample) {
		reached := m.meter.reached()
		for _, limit := range slices.Sorted(maps.Keys(reached)) {
			list = append(list, labelled(reached[limit], "limit", limit))
		}
		return list
	}},

	{"ipcd_connections", gauge, "Connections that are open.", func(m *moment) []Sample { return one(m.meter.connections.Load()) }},
	{"ipcd_connections_accepted_total", counter, "Connections that came, those that were refused included.", func(m *moment) []Sample { return one(m.meter.accepted.Load()) }},
	{"ipcd_connections_refused_total", counter, "Connections that were refused: by a rule or its lack, by a limit, for want of descriptors.", func(m *moment) []Sample { return one(m.meter.refused.Load()) }},
	{"ipcd_users", gauge, "Users who are connected.", func(m *moment) []Sample {
		m.mu.Lock()
		defer m.mu.Unlock()
		return one(len(m.users))
	}},

	{"ipcd_events_total", counter, "Events that were published, the daemon's own included.", func(m *moment) []Sample { return one(m.events.published()) }},
	{"ipcd_events_queued", gauge, "Events that wait for a subscriber to take them, in all queues.", func(m *moment) []Sample { return one(m.events.waits.Load()) }},
	{"ipcd_events_missed_total", counter, "Events that a subscriber did not get because its queue was full.", func(m *moment) []Sample { return one(m.events.dropped.Load()) }},
	{"ipcd_subscriptions", gauge, "Topics that are subscribed to, as max_subscriptions counts them.", func(m *moment) []Sample { return one(m.events.subscribed()) }},

	{"ipcd_providers", gauge, "Providers that have registered; a worker counts once.", func(m *moment) []Sample {
		providers, _ := m.router.size()
		return one(providers)
	}},
	{"ipcd_methods", gauge, "Methods that can be called.", func(m *moment) []Sample {
		_, methods := m.router.size()
		return one(methods)
	}},
	{"ipcd_worker_state", gauge, "1 for the state that a worker is in, 0 for all others.", (*moment).workerStates},
	{"ipcd_worker_processes", gauge, "Processes of a worker that run.", func(m *moment) []Sample {
		return m.ofWorkers(func(w *WorkerStatus) float64 { return float64(len(w.Processes)) })
	}},
	{"ipcd_worker_restarts_total", counter, "Processes of a worker that ended by themselves, or did not start.", func(m *moment) []Sample {
		return m.ofWorkers(func(w *WorkerStatus) float64 { return float64(w.Restarts) })
	}},
	{"ipcd_worker_calls_total", counter, "Calls that a worker was given.", func(m *moment) []Sample {
		return m.ofWorkers(func(w *WorkerStatus) float64 { return float64(w.Calls) })
	}},
	{"ipcd_worker_errors_total", counter, "Calls of a worker that it answered with an error, or not at all.", func(m *moment) []Sample {
		return m.ofWorkers(func(w *WorkerStatus) float64 { return float64(w.Errors) })
	}},
	{"ipcd_worker_waiting", gauge, "Calls that wait for a process of a worker.", func(m *moment) []Sample {
		return m.ofWorkers(func(w *WorkerStatus) float64 { return float64(w.Waiting) })
	}},

	{"ipcd_memory_held_bytes", gauge, "What the connections of all users hold, as limits.memory counts it.", func(m *moment) []Sample { return one(m.budget.held.Load()) }},
	{"ipcd_memory_limit_bytes", gauge, "limits.memory.", func(m *moment) []Sample { return one(m.limits().Memory) }},

	{"ipcd_audit_lines_total", counter, "Lines of the audit log that were written.", func(m *moment) []Sample { return one(m.audit.wrote.Load()) }},
	{"ipcd_audit_lost_total", counter, "Lines of the audit log that were lost; the daemon's log says why.", func(m *moment) []Sample { return one(m.audit.lost.Load()) }},

	{"process_start_time_seconds", gauge, "When the daemon began, in seconds since 1970.", func(m *moment) []Sample { return one(float64(m.began.UnixMilli()) / 1e3) }},
	{"process_cpu_seconds_total", counter, "Processor time.", func(m *moment) []Sample { return one(processorTime().Seconds()) }},
	{"process_resident_memory_bytes", gauge, "Memory that is resident; missing where the system does not say.", func(m *moment) []Sample { return some(m.process.resident) }},
	{"process_open_fds", gauge, "Descriptors that are open; missing where the system does not say.", func(m *moment) []Sample { return some(m.process.open) }},
	{"process_max_fds", gauge, "Descriptors that may be open; missing where the system does not say.", func(m *moment) []Sample { return some(m.process.mostOpen) }},
	{"go_goroutines", gauge, "Goroutines.", func(*moment) []Sample { return one(runtime.NumGoroutine()) }},
	{"go_memstats_heap_inuse_bytes", gauge, "Bytes of the heap that are in use.", func(m *moment) []Sample { return one(m.memory.HeapInuse - uint64(len(heapFloor))) }},
	{"go_memstats_stack_inuse_bytes", gauge, "Bytes of stacks that are in use.", func(m *moment) []Sample { return one(m.memory.StackInuse) }},
	{"go_memstats_sys_bytes", gauge, "Bytes that were had from the system.", func(m *moment) []Sample { return one(m.memory.Sys) }},
	{"go_memstats_alloc_bytes_total", counter, "Bytes that were allocated.", func(m *moment) []Sample { return one(m.memory.TotalAlloc) }},
}

// okCode is the label of calls that ended well, where the others have their code.
const okCode = "ok"

// codeLabel is the label of the code with that place in codeCounts.
func codeLabel(at int) string {
	if at == len(ownCodes) {
		return otherMethods
	}
	return strconv.Itoa(ownCodes[at])
}

// samples are the counts that are not 0.
func (n *codeCounts) samples() (list []Sample) {
	for at := range n {
		if count := n[at].Load(); count > 0 {
			list = append(list, labelled(count, "code", codeLabel(at)))
		}
	}
	return list
}

// calls are the samples of ipcd_calls_total.
func (m *moment) calls() (list []Sample) {
	for _, t := range m.tallies {
		failed := t.errors.samples() // first, see tally
		well := t.calls()
		for i := range failed {
			failed[i].Labels["method"] = t.name
			well -= int64(failed[i].Value)
		}
		if well > 0 {
			list = append(list, labelled(well, "method", t.name, "code", okCode))
		}
		list = append(list, failed...)
	}
	return list
}

// durations are the samples of ipcd_call_duration_seconds.
func (m *moment) durations() (list []Sample) {
	for _, t := range m.tallies {
		s := Sample{Labels: map[string]string{"method": t.name}, Sum: time.Duration(t.seconds.Load()).Seconds()}
		for i := range t.took {
			s.Count += t.took[i].Load()
			s.Buckets = append(s.Buckets, s.Count)
		}
		if s.Count > 0 {
			list = append(list, s)
		}
	}
	return list
}

// bounds are tallyBounds in seconds.
func bounds() (list []float64) {
	for _, d := range tallyBounds {
		list = append(list, d.Seconds())
	}
	return list
}

// ofWorkers has a sample for each worker.
func (m *moment) ofWorkers(value func(w *WorkerStatus) float64) (list []Sample) {
	for _, w := range m.workers {
		s := w.statusWithoutUsage()
		list = append(list, labelled(value(&s), "worker", w.name))
	}
	return list
}

func (m *moment) workerStates() (list []Sample) {
	for _, w := range m.workers {
		is := w.statusWithoutUsage().State
		for _, state := range workerStates {
			n := 0
			if state == is {
				n = 1
			}
			list = append(list, labelled(n, "worker", w.name, "state", state))
		}
	}
	return list
}

// stats reads all figures.
func (s *server) stats() []Figure {
	m := s.now()
	list := make([]Figure, 0, len(figures))
	for _, f := range figures {
		all := Figure{Name: f.name, Type: f.kind, Help: f.help, Samples: append([]Sample{}, f.read(m)...)} // never null
		if f.kind == histogram {
			all.Bounds = bounds()
		}
		list = append(list, all)
	}
	return list
}

// Stats reports all figures that are counted.
func (i *Ipcd) Stats(ctx context.Context) ([]Figure, error) {
	if f := i.server.controlBy(ctx); f != nil {
		return nil, f
	}
	return i.server.stats(), nil
}

// figuresType is the media type of the text format: prometheus.io/docs/instrumenting/exposition_formats.
const figuresType = "text/plain; version=0.0.4; charset=utf-8"

// appendFigures appends figures in the text format.
func appendFigures(b []byte, list []Figure) []byte {
	for _, f := range list {
		if len(f.Samples) == 0 {
			continue
		}
		b = appendEscaped(fmt.Appendf(b, "# HELP %s ", f.Name), f.Help, "")
		b = fmt.Appendf(b, "\n# TYPE %s %s\n", f.Name, f.Type)
		for _, s := range f.Samples {
			if f.Type != histogram {
				b = appendSample(b, f.Name, s.Labels, "", s.Value)
				continue
			}
			for i, n := range s.Buckets {
				le := "+Inf"
				if i < len(f.Bounds) {
					le = strconv.FormatFloat(f.Bounds[i], 'g', -1, 64)
				}
				b = appendSample(b, f.Name+"_bucket", s.Labels, le, float64(n))
			}
			b = appendSample(b, f.Name+"_sum", s.Labels, "", s.Sum)
			b = appendSample(b, f.Name+"_count", s.Labels, "", float64(s.Count))
		}
	}
	return b
}

// appendEscaped appends the value of a label, or the help of a figure, in which quotes are no end. What cannot be seen is shown.
func appendEscaped(b []byte, text, ends string) []byte {
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b = append(b, `\n`...)
		}
		for _, c := range []byte(oneLine(line)) {
			if c == '\\' || strings.IndexByte(ends, c) >= 0 {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
	}
	return b
}

// These are the names and types of the text format. Names with a colon, and labels with two underscores in front, are Prometheus's own.
var (
	figureName  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`) })
	figureTypes = []string{counter, gauge, histogram, "summary", "untyped"}
)

// check returns why a figure of another server cannot be in the text format. It would make lines of its own there.
func (f *Figure) check() error {
	switch {
	case !figureName().MatchString(f.Name):
		return fmt.Errorf("%q is no name of a figure", shorten(f.Name, 40))
	case !slices.Contains(figureTypes, f.Type):
		return fmt.Errorf("%s: %q is no type of a figure", f.Name, shorten(f.Type, 40))
	}
	for _, s := range f.Samples {
		for key := range s.Labels {
			if !figureName().MatchString(key) || strings.HasPrefix(key, "__") || key == "le" && f.Type == histogram {
				return fmt.Errorf("%s: %q is no name of a label", f.Name, shorten(key, 40))
			}
		}
	}
	return nil
}

// appendSample appends a line; le is the bound of a bucket, or empty.
func appendSample(b []byte, name string, labels map[string]string, le string, value float64) []byte {
	b = append(b, name...)
	open := byte('{')
	label := func(key, text string) {
		b = append(append(append(b, open), key...), `="`...)
		b = append(appendEscaped(b, text, `"`), '"')
		open = ','
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		label(key, labels[key])
	}
	if le != "" {
		label("le", le)
	}
	if open == ',' {
		b = append(b, '}')
	}
	b = append(b, ' ')
	if whole := int64(value); float64(whole) == value {
		b = strconv.AppendInt(b, whole, 10)
	} else {
		b = strconv.AppendFloat(b, value, 'g', -1, 64)
	}
	return append(b, '\n')
}

// metrics answers whoever watches over the daemon, if it may control it.
func (c *httpConn) metrics(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		c.wrongMethod(rw, r, "GET, HEAD")
		return
	}
	s := c.c.server
	if f := s.mayControl(&c.c.peer); f != nil {
		c.refuse(rw, r, statusOf(f), f)
		return
	}
	c.audit(r, nil)
	body := appendFigures(nil, s.stats())
	rw.Header().Set("Content-Type", figuresType)
	rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
	rw.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodGet {
		rw.Write(body)
	}
}

// unready returns why the daemon is not ready for calls, or nil: it stops, or a worker that has to be up is not. One that is lazy
// and has not been called, or that somebody has stopped by an order, need not be up; nor one of whose instances another is ready.
func (s *server) unready() *fault {
	s.mu.Lock()
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return errShuttingDown
	}
	for _, w := range s.force.list() {
		status := w.statusWithoutUsage()
		if len(status.Services) == 0 { // nobody calls it
			continue
		}
		switch status.State {
		case "starting", "parked", "ended":
			text := fmt.Sprintf("the worker %s is %s", w.name, status.State)
			return &fault{Code: codeGone, Text: text, Data: faultData{Retry: true, Worker: w.name, State: status.State}.json()}
		}
	}
	return nil
}

// ready answers balancers, and scripts that wait for all of the daemon: 200 once it and its workers can be called, and 503 with why
// not until then, and from the moment at which it begins to stop.
func (c *httpConn) ready(rw http.ResponseWriter, r *http.Request) {
	why := c.c.server.unready()
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		c.wrongMethod(rw, r, "GET, HEAD")
	case c.left.Load():
		c.problem(rw, r, http.StatusServiceUnavailable, errShuttingDown)
	case why != nil:
		c.problem(rw, r, http.StatusServiceUnavailable, why)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		rw.Write([]byte("ok\n"))
	}
}
