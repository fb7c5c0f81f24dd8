package main

import (
	"slices"
	"testing"
)

func TestSummaryOfManyRounds(t *testing.T) {
	var values []float64
	for i := range 101 {
		values = append(values, float64(100-i)) // 0 to 100
	}
	for n, want := range map[int]summary{
		1:   {100, 100, 100, 100, 100},
		2:   {99.5, 99, 100, 99, 100},
		101: {50, 40, 60, 10, 90}, // of 101 coins 41 to 60 show heads, 95 times in 100
	} {
		if got := summarize(values[:n]); got != want {
			t.Errorf("of %d values: %+v; want %+v", n, got, want)
		}
	}
}

func TestChosenSidesHaveTheirBases(t *testing.T) {
	chosen, err := chosenSides("^provider-json$")
	var names []string
	for _, s := range chosen {
		names = append(names, s.name)
	}
	if want := []string{"stock-json", "ipcd-json", "provider-json"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("chosen are %q, %v; want %q", names, err, want)
	}
	for i, s := range sides {
		if s.base != "" && !slices.ContainsFunc(sides[:i], func(b side) bool {
			return b.name == s.base && !slices.ContainsFunc(b.needs, func(need string) bool { return !slices.Contains(s.needs, need) })
		}) {
			t.Errorf("%s, which the ratio of %s is to, does not stand before it, or needs more than it", s.base, s.name)
		}
	}
}

func TestLoadsHaveSides(t *testing.T) {
	for _, l := range loads {
		taken := 0
		for _, s := range sides {
			if s.takes(l) {
				taken++
			}
			if w := s.under(l); w.callers%w.conns != 0 {
				t.Errorf("%s under %s: %d callers do not share %d connections alike", s.name, l.name, w.callers, w.conns)
			}
		}
		if taken < 2 {
			t.Errorf("%s is a load of %d sides; want two to compare", l.name, taken)
		}
	}
}

func TestTextsDiffer(t *testing.T) {
	for _, w := range []workload{{1000, 1000, 16}, {64, 1, 1 << 10}} {
		seen, texts := map[string]bool{}, newTexts(w)
		for caller := range w.callers {
			for call := range 2 {
				text := texts.of(caller, call)
				if len(text) != w.bytes || seen[text] {
					t.Fatalf("%+v: caller %d sends %q, which has %d bytes; want a text of its own of %d", w, caller, text, len(text), w.bytes)
				}
				seen[text] = true
			}
		}
	}
}
