package main

// This file owns the measuring: a match of all sides under one load goes over rounds, and a round over turns.
//
// In a round each side has fresh programs, since one start differs from the next by more than one call from the next. The sides
// take short turns, in an order that is drawn, so that whatever else the machine does meets all of them. A round's ratio is the
// median of its turns' own, and the ratio of a side that of its rounds: these do not depend on each other, and so have an interval.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

const (
	turnTime  = 20 * time.Millisecond  // long against a wake-up, short against what else runs on a machine
	warmTime  = 100 * time.Millisecond // until V8 has compiled, and Go's heap has its size
	turns     = 10                     // of each side in a round
	minRounds = 10                     // fewer have no interval of 95 % that says anything
)

// A match is what is measured under one load.
type match struct {
	house  *house
	sides  []side
	load   load
	rounds []round
	took   time.Duration
}

// A round has a figure of each side, by its name.
type round struct {
	seconds map[string]float64 // for one call, the median of the turns
	ratio   map[string]float64 // how many times as fast as its base the side was, the median of the turns
}

// play plays rounds until the ratio of every side is known well enough, or the time is up.
func (m *match) play(o options, until time.Time) error {
	began := time.Now()
	for !m.decided(o.within/100) && (len(m.rounds) == 0 || time.Now().Before(until)) {
		r, err := m.round(o.quick)
		if err != nil {
			return err
		}
		m.rounds = append(m.rounds, r)
		m.took = time.Since(began)
		if o.quick {
			return nil
		}
		fmt.Fprintf(os.Stderr, "\r%s: round %d, ±%.1f %% ", m.load.name, len(m.rounds), 100*m.widest())
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

func (m *match) decided(within float64) bool {
	return len(m.rounds) >= minRounds && m.widest() <= within
}

// widest returns how far, as a part of the ratio, the interval of any side reaches.
func (m *match) widest() (w float64) {
	for _, s := range m.sides {
		if s.base != "" {
			x := summarize(m.ratios(s.name))
			w = max(w, x.High/x.Median-1, 1-x.Low/x.Median)
		}
	}
	return w
}

// ratios are those of a side's rounds.
func (m *match) ratios(name string) (list []float64) {
	for _, r := range m.rounds {
		list = append(list, r.ratio[name])
	}
	return list
}

func (m *match) round(quick bool) (round, error) {
	warm, turn, turns := warmTime, turnTime, turns
	if quick {
		warm, turn, turns = time.Millisecond, time.Millisecond, 1
	}
	stages := make([]*stage, len(m.sides))
	for i, s := range m.sides {
		st, err := m.house.open(s)
		if err != nil {
			return round{}, fmt.Errorf("%s: %w", s.name, err)
		}
		defer st.close()
		stages[i] = st
		if _, err := st.turn(m.load, warm); err != nil {
			return round{}, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	took := map[string][]float64{} // seconds for a call in each turn
	for range turns {
		for _, i := range rand.Perm(len(stages)) {
			t, err := stages[i].turn(m.load, turn)
			if err != nil {
				return round{}, fmt.Errorf("%s: %w", m.sides[i].name, err)
			}
			took[m.sides[i].name] = append(took[m.sides[i].name], t)
		}
	}
	r := round{map[string]float64{}, map[string]float64{}}
	for _, s := range m.sides {
		r.seconds[s.name] = median(took[s.name])
		if s.base != "" {
			ratios := make([]float64, turns)
			for i := range ratios {
				ratios[i] = took[s.base][i] / took[s.name][i]
			}
			r.ratio[s.name] = median(ratios)
		}
	}
	return r, nil
}

// A summary is what many rounds say together.
type summary struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"` // the interval that has the true median in it, 95 times in 100
	High   float64 `json:"high"`
	P10    float64 `json:"p10"` // the spread: eight rounds of ten are in between
	P90    float64 `json:"p90"`
}

// summarize finds the interval by ranks, which presumes nothing of how the values scatter: as many of n values are below the
// true median as coins of n show heads.
func summarize(values []float64) summary {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	rank := max(0, int(math.Floor(float64(n)/2-0.98*math.Sqrt(float64(n)))))
	return summary{median(v), v[rank], v[n-1-rank], v[n/10], v[n-1-n/10]}
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
