package main

// This file owns the report: as a text for people, and as JSON for programs.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"text/tabwriter"
)

// A report is all that was measured.
type report struct {
	origin
	Loads  []loadReport   `json:"loads"`
	Memory []memoryReport `json:"memory"`
}

type loadReport struct {
	Name    string       `json:"name"`
	Group   string       `json:"group"` // of loads, that belong together in a document
	Rounds  int          `json:"rounds"`
	Seconds float64      `json:"seconds"` // that they took
	Sides   []sideReport `json:"sides"`
}

// group names the loads that belong together.
func (k kind) group() string {
	switch k {
	case calls:
		return "calls"
	case parts:
		return "parts"
	case events:
		return "events"
	}
	return "growth"
}

type sideReport struct {
	Name  string   `json:"name"`
	Calls float64  `json:"callsPerSecond"`       // or parts, or events
	Base  string   `json:"base,omitempty"`       // the side that the ratio is to
	Ratio *summary `json:"ratio,omitempty"`      // 2: twice as many calls a second as the base
	CPU   float64  `json:"cpuPerCall,omitempty"` // seconds of processor time of all who answer; 0 if nobody says
}

type memoryReport struct {
	Name   string `json:"name"`
	Median int    `json:"median"` // bytes
	Least  int    `json:"least"`
	Most   int    `json:"most"`
}

// add adds what a match has found.
func (r *report) add(m *match) {
	l := loadReport{Name: m.load.name, Group: m.load.kind.group(), Rounds: len(m.rounds), Seconds: m.took.Seconds()}
	for _, s := range m.sides {
		var seconds, cpu []float64
		for _, round := range m.rounds {
			seconds = append(seconds, round.seconds[s.name])
			cpu = append(cpu, round.cpu[s.name])
		}
		one := sideReport{Name: s.name, Calls: 1 / median(seconds), CPU: median(cpu)}
		if m.hasBase(s) {
			ratio := summarize(m.ratios(s.name))
			one.Base, one.Ratio = s.base, &ratio
		}
		l.Sides = append(l.Sides, one)
	}
	r.Loads = append(r.Loads, l)
}

// holdAll measures all holdings, where memory can be measured.
func (r *report) holdAll(h *house, quick bool) error {
	times := 5
	if quick {
		times = 1
	}
	for _, m := range holdings {
		if quick && m.does&huge != 0 {
			continue
		}
		if there, err := isThere(m.name, m.needs); err != nil {
			return err
		} else if !there {
			continue
		}
		if err := r.hold(h, m, times); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "memory is left out: %v\n", err)
			return nil
		} else if err != nil {
			return fmt.Errorf("memory of %s: %w", m.name, err)
		}
	}
	return nil
}

// hold measures one holding so many times, each in processes of its own.
func (r *report) hold(h *house, m holding, times int) error {
	var bytes []int
	for range times {
		st, err := h.empty()
		if err != nil {
			return err
		}
		n, err := m.measure(st)
		st.close()
		if err != nil {
			return err
		}
		bytes = append(bytes, n)
	}
	slices.Sort(bytes)
	r.Memory = append(r.Memory, memoryReport{m.name, bytes[times/2], bytes[0], bytes[times-1]})
	return nil
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s, at %s: %s\n%s\n", r.Time, r.Commit, r.Command, r.origin)
	for _, l := range r.Loads {
		fmt.Fprintf(t, "\n%s: %d rounds in %.0f s\n", l.Name, l.Rounds, l.Seconds)
		fmt.Fprintln(t, "side\ta second\tserver, µs a call\tratio\tinterval of 95 %\teight rounds of ten\tto")
		for _, s := range l.Sides {
			fmt.Fprintf(t, "%s\t%.0f\t%.3g", s.Name, s.Calls, 1e6*s.CPU)
			if x := s.Ratio; x != nil {
				fmt.Fprintf(t, "\t%.2f\t%.2f to %.2f\t%.2f to %.2f\t%s", x.Median, x.Low, x.High, x.P10, x.P90, s.Base)
			}
			fmt.Fprintln(t)
		}
	}
	fmt.Fprintln(t, "\nmemory (resident), KiB\tmedian\tleast\tmost")
	for _, m := range r.Memory {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", m.Name, m.Median>>10, m.Least>>10, m.Most>>10)
	}
	return t.Flush()
}
