package main

import (
	"os"
	"strings"
	"testing"
)

func TestWhatIsOutsideOfMarksStays(t *testing.T) {
	const page = "before\n<!-- bench/ writes from here, calls -->\nold\n<!-- to here -->\nbetween\n<!-- bench/ writes from here, memory -->\n<!-- to here -->\nafter\n"
	const want = "before\n<!-- bench/ writes from here, calls -->\nold\n<!-- to here -->\nbetween\n<!-- bench/ writes from here, memory -->\nnew\n<!-- to here -->\nafter\n"
	if got, err := replaceMarked(page, "memory", "new\n"); err != nil || got != want {
		t.Errorf("the page is %q, %v; want %q", got, err, want)
	}
	for _, group := range []string{"events", "growth"} {
		if got, err := replaceMarked(page, group, "new\n"); err == nil {
			t.Errorf("without marks of %s the page is %q; want an error", group, got)
		}
	}
	if _, err := replaceMarked("<!-- bench/ writes from here, calls -->\nold\n", "calls", "new\n"); err == nil {
		t.Error("a mark that nothing ends is taken; want an error")
	}
}

func TestDocumentHasMarksOfAllGroups(t *testing.T) {
	page, err := os.ReadFile(documents)
	if err != nil {
		t.Fatal(err)
	}
	groups := []string{"memory"}
	for _, l := range loads {
		groups = append(groups, l.kind.group())
	}
	for _, group := range groups {
		if _, err := replaceMarked(string(page), group, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestTablesOfCalls(t *testing.T) {
	r := &report{
		origin: origin{Time: "2026-11-29T18:00:00Z", Commit: "abc", Command: "go run .", CPUs: 2, Kernel: "Linux 6", System: "linux/amd64", Go: "go1.26", Note: "Nothing ran beside."},
		Loads: []loadReport{{Name: "16 B, 1 caller", Group: "calls", Rounds: 5, Sides: []sideReport{
			{Name: "stock-gob", Calls: 20_000, CPU: 20e-6},
			{Name: "own-gob", Calls: 40_000, Base: "stock-gob", Ratio: &summary{2, 1.5, 2.5, 1, 3}, CPU: 10e-6},
			{Name: "grpc", Calls: 4000, Base: "own-gob", Ratio: &summary{0.1, 0.08, 0.125, 0.05, 0.2}},
		}}},
	}
	got := r.section("calls")
	for _, want := range []string{
		"29 November 2026, at abc, `go run .`: 2 cores, Linux 6, linux/amd64, Go 1.26. **Nothing ran beside.**\n",
		"| grpc | 10.00 (8.00 to 12.50); 5.00 to 20.00 |\n",             // the other way round
		"| own-gob | stock-gob | 2.00 (1.50 to 2.50); 1.00 to 3.00 |\n", // as it is
		"| stock-gob | 20,000 |\n",
		"| own-gob | stock-gob | 10 (0.50) |\n", // µs of processor time
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the section is\n%s\nand has no %q", got, want)
		}
	}
	if got := r.section("events"); got != "" {
		t.Errorf("the section of what was not measured is %q; want none", got)
	}
}
