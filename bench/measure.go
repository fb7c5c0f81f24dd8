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
	warmTime  = 100 * time.Millisecond // until Go's heap has its size
	warmCalls = 10_000                 // until V8 has compiled what they run, or
	warmMost  = 10                     // times warmTime: Node's http is five times as slow before
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
	cpu     map[string]float64 // seconds of processor time for one call, of all that answer; missing where nobody says
}

// play plays rounds until the ratio of every side is known well enough, or the time is up.
func (m *match) play(o options, until time.Time) error {
	began := time.Now()
	for !m.decided(o.within/100) && (len(m.rounds) == 0 || time.Now().Before(until)) {
		r, err := m.round()
		if err != nil {
			return err
		}
		m.rounds = append(m.rounds, r)
		m.took = time.Since(began)
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
		if m.hasBase(s) {
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

// hasBase reports whether the side that another's ratio is to is measured, too: not everything can be put under every load.
func (m *match) hasBase(s side) bool {
	return slices.ContainsFunc(m.sides, func(b side) bool { return b.name == s.base })
}

// A score is what the turns of a side in a round have come to.
type score struct {
	took  []float64 // seconds for a call, of each turn
	cpu   float64   // seconds that all turns took of those who answer
	calls int       // in all turns
}

func (m *match) round() (round, error) {
	stages, scores := make([]*stage, len(m.sides)), map[string]*score{}
	for i, s := range m.sides {
		st, err := m.house.open(s)
		if err != nil {
			return round{}, fmt.Errorf("%s: %w", s.name, err)
		}
		defer st.close()
		stages[i], scores[s.name] = st, &score{}
		if err := st.warm(s, s.under(m.load)); err != nil {
			return round{}, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range turns {
		for _, i := range rand.Perm(len(stages)) {
			s := m.sides[i]
			if err := scores[s.name].turn(stages[i], s.under(m.load)); err != nil {
				return round{}, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	r := round{map[string]float64{}, map[string]float64{}, map[string]float64{}}
	for _, s := range m.sides {
		own := scores[s.name]
		r.seconds[s.name] = median(own.took)
		if own.cpu > 0 {
			r.cpu[s.name] = own.cpu / float64(own.calls)
		}
		if m.hasBase(s) {
			ratios := make([]float64, turns)
			for i := range ratios {
				ratios[i] = scores[s.base].took[i] / own.took[i]
			}
			r.ratio[s.name] = median(ratios)
		}
	}
	return r, nil
}

// warm has the caller make calls that are not measured.
func (st *stage) warm(s side, w workload) error {
	for all, times := 0, 0; times == 0 || slices.Contains(s.needs, "node") && all < warmCalls && times < warmMost; times++ {
		n, _, err := st.turn(w, warmTime)
		if err != nil {
			return err
		}
		all += n
	}
	return nil
}

func (s *score) turn(st *stage, w workload) error {
	before, known := st.cpu()
	n, seconds, err := st.turn(w, turnTime)
	if err != nil {
		return err
	}
	if after, still := st.cpu(); known && still {
		s.cpu += (after - before).Seconds()
	}
	s.calls += n
	s.took = append(s.took, seconds/float64(n))
	return nil
}

// quick has every side make a few calls under each load that it can be put under, and measures memory once: is every answer right?
func (h *house) quick(sides []side, loads []load) error {
	began, turns := time.Now(), 0
	sides = slices.DeleteFunc(slices.Clone(sides), func(s side) bool { return s.does&huge != 0 })
	for _, s := range sides {
		n, err := h.quickSide(s, loads)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		turns += n
	}
	if err := new(report).holdAll(h, true); err != nil {
		return err
	}
	fmt.Printf("%d sides, %d loads, %d turns in %.0f s: every answer is right\n", len(sides), len(loads), turns, time.Since(began).Seconds())
	return nil
}

func (h *house) quickSide(s side, loads []load) (turns int, err error) {
	var st *stage
	defer func() {
		if st != nil {
			st.close()
		}
	}()
	for _, l := range loads {
		if !s.takes(l) {
			continue
		}
		if st != nil && s.kind != calls { // its caller is set to one load
			st.close()
			st = nil
		}
		if st == nil {
			if st, err = h.open(s); err != nil {
				return turns, err
			}
		}
		if _, _, err := st.turn(s.under(l), time.Millisecond); err != nil {
			return turns, fmt.Errorf("%s: %w", l.name, err)
		}
		turns++
	}
	return turns, nil
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
