package main

// This file owns the figures of GET /metrics and Ipcd.Stats, read by the parser of Prometheus, and /readyz.

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
)

// scraped is what Prometheus's parser makes of figures: the value of each sample, by its name and labels in alphabetical order. Of a
// histogram it is that of each of its lines.
func scraped(t testing.TB, text []byte) map[string]float64 {
	t.Helper()
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("the figures cannot be parsed: %v\n%s", err, text)
	}
	values := map[string]float64{}
	for name, family := range families {
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			at := func(suffix string, more ...string) string {
				return name + suffix + "{" + strings.Join(append(slices.Clone(labels), more...), ",") + "}"
			}
			switch h := m.GetHistogram(); {
			case h != nil:
				values[at("_count")], values[at("_sum")] = float64(h.GetSampleCount()), h.GetSampleSum()
				for _, b := range h.GetBucket() {
					values[at("_bucket", fmt.Sprint("le=", b.GetUpperBound()))] = float64(b.GetCumulativeCount())
				}
			case m.GetCounter() != nil:
				values[at("")] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				values[at("")] = m.GetGauge().GetValue()
			default:
				t.Errorf("%s is neither a counter, a gauge nor a histogram", name)
			}
		}
	}
	return values
}

// get gets a path of the first endpoint.
func (s *testServer) get(path string) (*http.Response, string) {
	s.t.Helper()
	answer, err := newHTTPClient(s.t, s.endpoints[0]).Get(urlOf(s.endpoints[0], path))
	must(s.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(s.t, err)
	return answer, string(body)
}

// metrics gets the figures.
func (s *testServer) metrics() map[string]float64 {
	s.t.Helper()
	answer, body := s.get("/metrics")
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != figuresType {
		s.t.Fatalf("/metrics is answered with %s, %s: %s", answer.Status, answer.Header.Get("Content-Type"), body)
	}
	return scraped(s.t, []byte(body))
}

// checkFigures compares some of the figures; one that is missing is 0.
func checkFigures(t testing.TB, got, want map[string]float64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is %v; want %v", name, got[name], want[name])
		}
	}
}

func TestFiguresAddUp(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 4 << 10 }, localEndpoint(t))
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	for range 3 {
		must(t, ask(c, "Echo.Say", "a", nil))
	}
	ask(c, "Trial.Fail", "a", nil)
	ask(c, "Trial.Panic", "a", nil)
	ask(c, "Echo.Sai", "a", nil)
	ask(c, "Echo.Say", 1, nil)
	ask(c, "Echo.Say", strings.Repeat("a", 4<<10), nil) // the client's own limit is larger
	blocked := make(chan error, 1)
	go func() { blocked <- ask(c, "Trial.Block", "b", nil) }()
	s.begun(1)
	code := func(n int) string { return strconv.Itoa(n) }
	got := s.metrics()
	checkFigures(t, got, map[string]float64{
		"ipcd_calls_total{code=ok,method=Echo.Say}":                                                 3,
		"ipcd_calls_total{code=" + code(codeApplication) + ",method=Trial.Fail}":                    1,
		"ipcd_calls_total{code=" + code(codeInternal) + ",method=Trial.Panic}":                      1,
		"ipcd_call_duration_seconds_count{method=Echo.Say}":                                         3,
		"ipcd_call_duration_seconds_bucket{method=Echo.Say,le=+Inf}":                                3,
		"ipcd_call_duration_seconds_count{method=Trial.Block}":                                      0,
		"ipcd_calls_in_flight{}":                                                                    1,
		"ipcd_panics_total{}":                                                                       1,
		"ipcd_rejected_total{code=" + code(codeNoMethod) + "}":                                      1,
		"ipcd_rejected_total{code=" + code(codeBadArgument) + "}":                                   1,
		"ipcd_rejected_total{code=" + code(codeTooLarge) + "}":                                      1,
		"ipcd_limits_reached_total{limit=max_message}":                                              1,
		"ipcd_connections{}":                                                                        2, // this one, and the other
		"ipcd_users{}":                                                                              1,
		"ipcd_ready{}":                                                                              1,
		"ipcd_memory_limit_bytes{}":                                                                 float64(defaultLimits().Memory),
		"ipcd_build_info{goversion=" + runtime.Version() + ",protocol=1,version=" + version() + "}": 1,
		"process_start_time_seconds{}":                                                              float64(s.began.UnixMilli()) / 1e3,
	})
	if sum, is := got["ipcd_call_duration_seconds_sum{method=Echo.Say}"]; !is || sum < 0 { // 0 where the clock is coarse
		t.Errorf("three calls took %v, %v", sum, is)
	}
	for _, name := range []string{"go_goroutines{}", "go_memstats_heap_inuse_bytes{}"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if figuresOfProcess != nil && figuresOfProcess().open > 0 && got["process_open_fds{}"] <= 0 {
		t.Error("no descriptor is open")
	}
	s.freeAll()
	must(t, receive(t, blocked))
	checkFigures(t, s.metrics(), map[string]float64{"ipcd_calls_in_flight{}": 0, "ipcd_calls_total{code=ok,method=Trial.Block}": 1})
}

// An answer that cannot be sent is counted as what is sent in its place.
func TestFiguresHaveWhatWasSent(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	ask(c, "Trial.Unencodable", nil, nil)
	checkFigures(t, s.metrics(), map[string]float64{
		"ipcd_calls_total{code=" + strconv.Itoa(codeInternal) + ",method=Trial.Unencodable}": 1,
		"ipcd_calls_total{code=ok,method=Trial.Unencodable}":                                 0,
	})
}

// Ipcd.Stats has the same over each protocol, and with it "ipcd stats".
func TestStatsOverEachProtocol(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	must(t, ask(dialled(t, s, protoJSON), "Echo.Say", "a", nil))
	for _, p := range []proto{protoJSON, protoGob, protoHTTP} {
		var list []Figure
		must(t, ask(dialled(t, s, p), "Ipcd.Stats", nil, &list))
		got := scraped(t, appendFigures(nil, list))
		checkFigures(t, got, map[string]float64{"ipcd_calls_total{code=ok,method=Echo.Say}": 1, "ipcd_call_duration_seconds_bucket{method=Echo.Say,le=+Inf}": 1})
		if len(list) != len(figures) {
			t.Errorf("%s: there are %d figures; want %d", p, len(list), len(figures))
		}
	}
}

// The figures of another server make no lines of their own in the text format, and nothing there controls a terminal.
func TestFiguresOfAStranger(t *testing.T) {
	const evil = "a\nipcd_ready 1\n\\\"\x1b[2J\u202e"
	f := Figure{Name: "a_b", Type: gauge, Help: evil, Samples: []Sample{{Labels: map[string]string{"c": evil}, Value: 1}}}
	must(t, f.check())
	text := appendFigures(nil, []Figure{f})
	if lines := strings.Count(string(text), "\n"); lines != 3 || strings.ContainsAny(string(text), "\x1b\u202e") {
		t.Errorf("there are %d lines, %q; want 3, in which all is seen", lines, text)
	}
	checkFigures(t, scraped(t, text), map[string]float64{"a_b{c=a\nipcd_ready 1\n\\\"\\u001b[2J\\u202e}": 1})
	for _, c := range []struct {
		why    string
		change func(f *Figure)
	}{
		{`"a b" is no name of a figure`, func(f *Figure) { f.Name = "a b" }},
		{`"" is no name of a figure`, func(f *Figure) { f.Name = "" }},
		{`"a_b\n" is no name of a figure`, func(f *Figure) { f.Name += "\n" }},
		{`a_b: "gauge\nx 1" is no type of a figure`, func(f *Figure) { f.Type += "\nx 1" }},
		{`a_b: "c=\"\"} 1\n" is no name of a label`, func(f *Figure) { f.Samples[0].Labels = map[string]string{"c=\"\"} 1\n": ""} }},
		{`a_b: "__name__" is no name of a label`, func(f *Figure) { f.Samples[0].Labels = map[string]string{"__name__": "up"} }},
		{`a_b: "le" is no name of a label`, func(f *Figure) {
			f.Type, f.Samples[0].Labels = histogram, map[string]string{"le": "1"}
		}},
	} {
		f := Figure{Name: "a_b", Type: gauge, Samples: []Sample{{}}}
		c.change(&f)
		if err := f.check(); err == nil || err.Error() != c.why {
			t.Errorf("%+v: %v; want %s", f, err, c.why)
		}
	}
}

// dialled is a caller of the first endpoint, until the test ends.
func dialled(t *testing.T, s *testServer, p proto) caller {
	c := dialOurs(p)(t, s.endpoints[0])
	t.Cleanup(func() { c.close() })
	return c
}

// Names that callers or providers choose do not fill the memory of whoever collects the figures.
func TestFiguresOfManyMethods(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMetered = 2 }, localEndpoint(t))
	c := dialled(t, s, protoJSON)
	for _, method := range []string{"Echo.Say", "Ipcd.Ping", "Ipcd.Whoami", "Ipcd.List", "Ipcd.List", "Echo.Say", "Echo.Never"} {
		ask(c, method, map[bool]any{true: "a"}[method == "Echo.Say"], nil)
	}
	want := map[string]float64{"ipcd_calls_total{code=ok,method=Echo.Say}": 2, "ipcd_calls_total{code=ok,method=Ipcd.Ping}": 1, "ipcd_calls_total{code=ok,method=other}": 3}
	got := s.metrics()
	checkFigures(t, got, want)
	for name := range got {
		if strings.HasPrefix(name, "ipcd_calls_total") && want[name] == 0 {
			t.Errorf("there is %s", name)
		}
	}
	// a greater limit holds for those that have no name yet
	s.meter.book.obey(3)
	must(t, ask(c, "Ipcd.List", nil, nil))
	checkFigures(t, s.metrics(), map[string]float64{"ipcd_calls_total{code=ok,method=Ipcd.List}": 1, "ipcd_calls_total{code=ok,method=other}": 3})
}

// What providers have registered is counted, and Ipcd.Register like any other method.
func TestFiguresOfProviders(t *testing.T) {
	p := provide(t)
	for range 2 {
		must(t, ask(dialled(t, p.testServer, protoJSON), "Far.Echo", map[string]any{"a": 1}, nil))
	}
	checkFigures(t, p.metrics(), map[string]float64{
		"ipcd_providers{}": 1, "ipcd_calls_total{code=ok,method=Far.Echo}": 2, "ipcd_calls_total{code=ok,method=Ipcd.Register}": 1})
	p.conn.Close()
	waitFor(t, func() error {
		if n := p.metrics()["ipcd_providers{}"]; n != 0 {
			return fmt.Errorf("there are %v providers still", n)
		}
		return nil
	})
	checkFigures(t, p.metrics(), map[string]float64{"ipcd_calls_total{code=ok,method=Far.Echo}": 2})
}

func TestFiguresOfEvents(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	events, f := s.router.events.subscribe(peer{}, nil, 100, []string{"a.*", "b"}, "")
	if f != nil {
		t.Fatal(f)
	}
	before := s.metrics()
	events.most = 100
	for range 3 {
		if _, f := s.router.events.publish("a.b", document(`"`+strings.Repeat("x", 60)+`"`)); f != nil {
			t.Fatal(f)
		}
	}
	got := s.metrics()
	checkFigures(t, got, map[string]float64{"ipcd_events_queued{}": 1, "ipcd_events_missed_total{}": 2, "ipcd_subscriptions{}": 2})
	if n := got["ipcd_events_total{}"] - before["ipcd_events_total{}"]; n < 3 {
		t.Errorf("%v events were counted; want 3, and those of connections", n)
	}
	events.close()
	checkFigures(t, s.metrics(), map[string]float64{"ipcd_events_queued{}": 0, "ipcd_events_missed_total{}": 2, "ipcd_subscriptions{}": 0})
}

func TestFiguresOfWorkers(t *testing.T) {
	s, _ := hire(t, `
[[worker]]
name = "hand"
command = ["hand", '{"methods":["Hand.Echo"]}']
services = ["Hand"]
[[worker]]
name = "lazy"
command = ["hand", '{"methods":["Lazy.Echo"]}']
services = ["Lazy"]
lazy = true
`)
	answered[document](t, s, "Hand.Echo", document(`1`)) // which may have been found as Hand.*
	answered[document](t, s, "Hand.Echo", document(`1`))
	got := s.metrics()
	if n := got["ipcd_calls_total{code=ok,method=Hand.Echo}"] + got["ipcd_calls_total{code=ok,method=Hand.*}"]; n != 2 {
		t.Errorf("%v calls of the worker were counted; want 2", n)
	}
	checkFigures(t, got, map[string]float64{
		"ipcd_worker_state{state=running,worker=hand}": 1, "ipcd_worker_state{state=parked,worker=hand}": 0,
		"ipcd_worker_state{state=waiting,worker=lazy}": 1, "ipcd_worker_processes{worker=hand}": 1, "ipcd_worker_processes{worker=lazy}": 0,
		"ipcd_worker_calls_total{worker=hand}": 2, "ipcd_worker_errors_total{worker=hand}": 0, "ipcd_ready{}": 1,
	})
}

// The figures tell what others do, so that they are for those who may control the daemon. Whether it is ready is for all who may connect.
func TestFiguresAreForWhoMayControl(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	answer, body := s.get("/metrics")
	if answer.StatusCode != http.StatusForbidden || !strings.Contains(body, "-32005") || strings.Contains(body, "ipcd_") {
		t.Errorf("/metrics is answered with %s: %s", answer.Status, body)
	}
	err := ask(dialled(t, s, protoJSON), "Ipcd.Stats", nil, nil)
	checkCode(t, "Ipcd.Stats", err, codeDenied, "may not control the daemon")
	if answer, body := s.get("/readyz"); answer.StatusCode != http.StatusOK || body != "ok\n" {
		t.Errorf("/readyz is answered with %s: %s", answer.Status, body)
	}
	answer, err = http.Post(urlOf(s.endpoints[0], "/metrics"), jsonType, nil)
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST of /metrics is answered with %s", answer.Status)
	}
}

// A daemon is ready once its workers are, save those that need not be, and not once it stops. Healthy it is all the time.
func TestReady(t *testing.T) {
	s, _ := hire(t, `
[[worker]]
name = "hand"
command = ["hand", '{"methods":["Hand.Echo"]}']
services = ["Hand"]
[[worker]]
name = "lazy"
command = ["hand"]
services = ["Lazy"]
lazy = true
[[worker]]
name = "early"
command = ["clumsy", "early"]
services = ["Clumsy"]
restart = "never"
`)
	ready := func(status int, words string) {
		t.Helper()
		waitFor(t, func() error {
			if answer, body := s.get("/readyz"); answer.StatusCode != status || !strings.Contains(body, words) {
				return fmt.Errorf("/readyz is answered with %s: %s", answer.Status, body)
			}
			return nil
		})
	}
	answered[document](t, s, "Hand.Echo", document(`1`))
	ready(http.StatusServiceUnavailable, `"message":"the worker early is ended"`)
	answered[WorkerStatus](t, s, "Ipcd.WorkerStop", "early") // which is how it was meant
	ready(http.StatusOK, "ok\n")
	if answer, _ := s.get("/healthz"); answer.StatusCode != http.StatusOK {
		t.Errorf("/healthz is answered with %s", answer.Status)
	}
	if f := s.unready(); f != nil {
		t.Errorf("it is not ready: %v", f)
	}
	s.beginToStop()
	if f := s.unready(); f == nil || f.Code != codeShuttingDown {
		t.Errorf("a daemon that stops is not ready because of %v", f)
	}
}

// TestOperationsHasEveryFigure wants docs/operations.md to have each figure, and to have no others; and that each line of the log that it
// explains is one that the program writes.
func TestOperationsHasEveryFigure(t *testing.T) {
	page, err := os.ReadFile("docs/operations.md")
	must(t, err)
	known := map[string]bool{}
	for _, f := range figures {
		if known[f.name] = true; !strings.Contains(string(page), "`"+f.name+"`") {
			t.Errorf("docs/operations.md does not have %s", f.name)
		}
	}
	for _, name := range regexp.MustCompile(`\b(?:ipcd|process|go)_\w+`).FindAllString(string(page), -1) {
		if !known[name] {
			t.Errorf("docs/operations.md has %s, which is no figure", name)
		}
	}
	_, section, _ := strings.Cut(string(page), "\n## What the log says")
	section, _, _ = strings.Cut(section, "\n## ")
	source := sourceText(t)
	lines := 0
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(section, -1) {
		for _, line := range strings.Split(strings.Trim(row[1], "`"), "`, `") {
			if lines++; !strings.Contains(source, `("`+line+`"`) && !strings.Contains(source, `, "`+line+`"`) {
				t.Errorf("docs/operations.md explains the line %q, which nothing writes", line)
			}
		}
	}
	if lines < 30 {
		t.Errorf("%d lines of the log were found; want many", lines)
	}
}

// sourceText is the text of all files of the program, without tests.
func sourceText(t *testing.T) string {
	var b strings.Builder
	for _, name := range everyFile(t) {
		text, err := os.ReadFile(name)
		must(t, err)
		b.Write(text)
	}
	return b.String()
}
