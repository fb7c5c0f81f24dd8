package main

// This file owns "ipcd stats": the figures of a daemon.

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newStatsCmd() *cobra.Command {
	return newAskCmd(&clientFlags{}, "stats", "show what the daemon has counted: calls, errors, durations, limits, memory",
		`Show all figures that the daemon counts: calls by method and code, how long they took, connections, queues, limits that were
reached, workers, memory. docs/operations.md says what each means, and what to do about it. It takes the right admin.

On a terminal it is a table; elsewhere it is the text format of Prometheus, as GET /metrics has it, so that a scraper without
access to the endpoint can be given a file:

  ipcd stats >/var/lib/node_exporter/ipcd.prom

The JSON is a list of {"name", "type", "help", "samples"}; a sample is {"labels", "value"}. A histogram also has "bounds", and its
samples "count", "sum" and "buckets", of which each has those before it.`,
		"  ipcd stats\n  ipcd stats | grep limits_reached\n  curl --unix-socket $XDG_RUNTIME_DIR/ipcd/ipcd.sock http://ipcd/metrics", "Ipcd.Stats", noArgs,
		func(w io.Writer, list []Figure) error {
			if !isTerminal(w) {
				for _, f := range list {
					if err := f.check(); err != nil {
						return faultf(codeWrongProtocol, "the answer of Ipcd.Stats is not as expected: %w", err).withHint("ipcd stats --json shows it")
					}
				}
				_, err := w.Write(appendFigures(nil, list))
				return err
			}
			return table(w, func(t io.Writer) { tabulate(t, list) })
		})
}

// tabulate writes figures for people, who hear of no figure that is 0.
func tabulate(t io.Writer, list []Figure) {
	for _, f := range list {
		name := f.Name
		for _, s := range f.Samples {
			value := strconv.FormatFloat(s.Value, 'f', -1, 64)
			switch {
			case f.Type == histogram && s.Count > 0:
				value = fmt.Sprintf("%d\tmean %s\thalf of them within %s\t99 %% within %s", s.Count,
					inSeconds(s.Sum/float64(s.Count)), f.within(&s, 0.5), f.within(&s, 0.99))
			case s.Value == 0:
				continue
			case strings.HasSuffix(f.Name, "_bytes"):
				value = fmt.Sprintf("%.1f MiB", s.Value/oneMiB)
			}
			var labels []string
			for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
				labels = append(labels, s.Labels[key])
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", oneLine(name), oneLine(strings.Join(labels, " ")), value)
			name = ""
		}
	}
}

// within is the bound of the bucket below which a part of the sample is.
func (f *Figure) within(s *Sample, part float64) string {
	for i, n := range s.Buckets {
		if float64(n) >= part*float64(s.Count) && i < len(f.Bounds) {
			return inSeconds(f.Bounds[i])
		}
	}
	return "more"
}

func inSeconds(n float64) string {
	return time.Duration(n * float64(time.Second)).Round(100 * time.Nanosecond).String()
}
