package main

// This file owns the benchmark of what a call takes besides time: processor time and allocations, each of its own end.

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkCost reports, for each call, the processor time that the server takes, as a ratio to that of the stock one, and how often
// ipcd's server and its client allocate.
func BenchmarkCost(b *testing.B) {
	stock, stockPID := benchProcess(b, "gob")
	daemon, daemonPID := benchProcess(b, "ipcd")
	counting := benchServer(b, "ipcd-pprof") // which takes more time for that
	web := newHTTPClient(b, mustParse(b, "unix://"+counting))
	for _, size := range benchLoads[:2] {
		text := strings.Repeat("x", size.bytes)
		for _, l := range size.loads[:2] {
			b.Run(size.size+"/"+l.name, func(b *testing.B) {
				l := l
				l.calls *= 10 // for what is counted beside them not to count
				theirs := newParty(b, side{name: "stock", dial: stockGob(stock)}, l, text)
				measured := newParty(b, side{name: "ipcd", dial: ours(daemon, "?proto=gob")}, l, text)
				counted := newParty(b, side{name: "ipcd", dial: ours(counting, "?proto=gob")}, l, text)
				var ratios, served, called []float64
				for b.Loop() {
					base, took := processorTimeOf(b, stockPID), processorTimeOf(b, daemonPID)
					theirs.turn(b, text)
					measured.turn(b, text)
					ratios = append(ratios, float64(processorTimeOf(b, daemonPID)-took)/float64(processorTimeOf(b, stockPID)-base))

					there := mallocsOf(b, web)
					var here, now runtime.MemStats
					runtime.ReadMemStats(&here)
					counted.turn(b, text)
					runtime.ReadMemStats(&now)
					called = append(called, float64(now.Mallocs-here.Mallocs)/float64(l.calls))
					served = append(served, float64(mallocsOf(b, web)-there)/float64(l.calls))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(ratios), "x:server-cpu")
				b.ReportMetric(median(served), "allocs:server")
				b.ReportMetric(median(called), "allocs:client")
			})
		}
	}
}

// processorTimeOf returns the processor time that a process has taken.
func processorTimeOf(b *testing.B, pid int) (total time.Duration) {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(b, err)
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		must(b, err)
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		must(b, err)
		total += time.Duration(n)
	}
	return total
}

// mallocsOf returns how often a daemon that shows its profiles has allocated.
func mallocsOf(b *testing.B, web *http.Client) uint64 {
	b.Helper()
	answer, err := web.Get("http://localhost/debug/pprof/heap?debug=1")
	must(b, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(b, err)
	_, behind, _ := strings.Cut(string(text), "\n# Mallocs = ")
	count, _, _ := strings.Cut(behind, "\n")
	n, err := strconv.ParseUint(count, 10, 64)
	must(b, err)
	return n
}
