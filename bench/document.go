package main

// This file owns what is written into documents: the tables, between marks, of the loads that were measured, and the plots.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// documents is where the tables are, and the plots beside them.
const documents = "../docs/performance.md"

// The marks of what is ours in a document. Whatever is outside of them stays as it is.
const (
	markBegin = "<!-- bench/ writes from here, %s -->\n"
	markEnd   = "<!-- to here -->\n"
)

const wide = 5 // loads in one table: more have no room on a page

func readReport(file string) (*report, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// write writes the tables of what was measured, and has the program with the tag modules draw the plots.
func (h *house) write(r *report) error {
	text, err := os.ReadFile(documents)
	if err != nil {
		return err
	}
	page := string(text)
	for _, group := range []string{"calls", "parts", "events", "growth", "memory"} {
		section := r.section(group)
		if section == "" {
			continue
		}
		if page, err = replaceMarked(page, group, section); err != nil {
			return fmt.Errorf("%s: %w", documents, err)
		}
	}
	if err := os.WriteFile(documents, []byte(page), 0o644); err != nil {
		return err
	}
	program, err := h.modules()
	if err != nil {
		return err
	}
	figures, err := json.Marshal(r)
	if err != nil {
		return err
	}
	st, err := h.empty()
	if err != nil {
		return err
	}
	defer st.close()
	folder, err := filepath.Abs(filepath.Dir(documents))
	if err != nil {
		return err
	}
	plot := st.command(program, "plot", folder)
	plot.Stdin = bytes.NewReader(figures)
	return plot.Run()
}

// replaceMarked puts a section between its marks.
func replaceMarked(page, group, section string) (string, error) {
	begin := fmt.Sprintf(markBegin, group)
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, markEnd)
	if !found || !ended {
		return "", fmt.Errorf("the lines %q and, below it, %q are not there: the figures of %s go between them", strings.TrimSpace(begin), strings.TrimSpace(markEnd), group)
	}
	return before + begin + section + markEnd + after, nil
}

// section is what is written of a group of loads, or nothing if none of them was measured.
func (r *report) section(group string) string {
	loads := slices.DeleteFunc(slices.Clone(r.Loads), func(l loadReport) bool { return l.Group != group })
	var b strings.Builder
	switch {
	case group == "memory" && len(r.Memory) > 0:
		b.WriteString(r.heading())
		r.writeMemory(&b)
	case len(loads) == 0:
		return ""
	case group == "calls":
		b.WriteString(r.heading())
		writePeers(&b, loads)
		writeRatios(&b, loads)
		writeSpeeds(&b, loads)
		writeCPU(&b, loads)
	default:
		b.WriteString(r.heading())
		for _, l := range loads {
			writeLoad(&b, l)
		}
		if group == "growth" {
			b.WriteString("![how fast one caller is beside more and more of something](performance-growth.svg)\n\n")
		}
	}
	return "\n" + b.String()
}

// heading says where the figures come from.
func (r *report) heading() string {
	date := r.Time
	if t, err := time.Parse(time.RFC3339, r.Time); err == nil {
		date = t.Format("2 January 2006")
	}
	text := fmt.Sprintf("%s, at %s, `%s`: %s.", date, r.Commit, r.Command, r.origin)
	if r.Note != "" {
		text += " **" + r.Note + "**"
	}
	return text + "\n\n"
}

const ourselves = "own-gob" // what peers are compared with

// isPeer reports whether a side is one of those that could be picked in ipcd's place.
func isPeer(s sideReport) bool { return s.Base == ourselves && !strings.HasPrefix(s.Name, "tcp-") }

// isLike reports whether a side is compared with its like.
func isLike(s sideReport) bool { return s.Ratio != nil && !isPeer(s) }

// writePeers writes how many times as fast ipcd is.
func writePeers(b *strings.Builder, loads []loadReport) {
	if len(rowsOf(loads, isPeer)) == 0 {
		return
	}
	b.WriteString("**How many times as many calls a second ipcd answers**, by its own client and gob, as what is named at the left; its interval; where eight rounds of ten lie:\n\n")
	writeTable(b, loads, isPeer, "ipcd to", "", func(_ loadReport, s sideReport) string {
		return s.Ratio.inverse().String()
	})
	b.WriteString("![how many times as many calls a second ipcd answers](performance-peers.svg)\n\n")
}

// writeRatios writes what is compared with its like.
func writeRatios(b *strings.Builder, loads []loadReport) {
	is := func(s sideReport) bool {
		return s.Ratio != nil && (s.Base != ourselves || strings.HasPrefix(s.Name, "tcp-"))
	}
	if len(rowsOf(loads, is)) == 0 {
		return
	}
	b.WriteString("**Each side to its like**: 2 is twice as many calls a second.\n\n")
	writeTable(b, loads, isLike, "", "to", func(_ loadReport, s sideReport) string { return s.Ratio.String() })
	b.WriteString("![each side to its like](performance-sides.svg)\n\n")
}

func writeSpeeds(b *strings.Builder, loads []loadReport) {
	b.WriteString("Calls a second, medians of the same rounds:\n\n")
	all := func(sideReport) bool { return true }
	writeTable(b, loads, all, "", "", func(_ loadReport, s sideReport) string { return thousands(int(s.Calls + 0.5)) })
}

func writeCPU(b *strings.Builder, loads []loadReport) {
	is := func(s sideReport) bool { return s.CPU > 0 }
	if len(rowsOf(loads, is)) == 0 {
		return
	}
	b.WriteString("Processor time of all who answer, µs a call: servers, what they have started, and what stands between, but not the caller. In brackets what part that is of the like.\n\n")
	writeTable(b, loads, is, "", "to", func(l loadReport, s sideReport) string {
		text := fmt.Sprintf("%.3g", 1e6*s.CPU)
		if i := l.index(s.Base); i >= 0 && l.Sides[i].CPU > 0 {
			text += fmt.Sprintf(" (%.2f)", s.CPU/l.Sides[i].CPU)
		}
		return text
	})
}

func (s summary) String() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f); %.2f to %.2f", s.Median, s.Low, s.High, s.P10, s.P90)
}

// inverse is the summary of the ratio the other way round.
func (s summary) inverse() summary {
	return summary{1 / s.Median, 1 / s.High, 1 / s.Low, 1 / s.P90, 1 / s.P10}
}

// rowsOf returns the names of the sides that are so under any load, in their order, and what they are compared with.
func rowsOf(loads []loadReport, is func(sideReport) bool) (rows []sideReport) {
	for _, s := range sides {
		for _, l := range loads {
			if i := l.index(s.name); i >= 0 && is(l.Sides[i]) {
				rows = append(rows, l.Sides[i])
				break
			}
		}
	}
	return rows
}

func (l loadReport) index(name string) int {
	return slices.IndexFunc(l.Sides, func(s sideReport) bool { return s.Name == name })
}

// writeTable writes a row for each side and a column for each load, in as many tables as have room. base is the head of a column with
// what a side is compared with, if there is to be one.
func writeTable(b *strings.Builder, loads []loadReport, is func(sideReport) bool, corner, base string, cell func(loadReport, sideReport) string) {
	for some := range slices.Chunk(loads, wide) {
		head, line := "| "+corner+" |", "| --- |"
		if base != "" {
			head, line = head+" "+base+" |", line+" --- |"
		}
		for _, l := range some {
			head += fmt.Sprintf(" %s, %d rounds |", l.Name, l.Rounds)
			line += " --- |"
		}
		fmt.Fprintf(b, "%s\n%s\n", head, line)
		for _, row := range rowsOf(some, is) {
			fmt.Fprintf(b, "| %s |", row.Name)
			if base != "" {
				fmt.Fprintf(b, " %s |", row.Base)
			}
			for _, l := range some {
				text := "–"
				if i := l.index(row.Name); i >= 0 && is(l.Sides[i]) {
					text = cell(l, l.Sides[i])
				}
				fmt.Fprintf(b, " %s |", text)
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
}

// writeLoad writes a table of one load.
func writeLoad(b *strings.Builder, l loadReport) {
	fmt.Fprintf(b, "| %s, %d rounds | a second | ratio, its interval, and eight rounds of ten | to |\n| --- | --- | --- | --- |\n", strings.TrimPrefix(l.Name, l.Group+": "), l.Rounds)
	for _, s := range l.Sides {
		ratio := "–"
		if s.Ratio != nil {
			ratio = s.Ratio.String()
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", s.Name, thousands(int(s.Calls+0.5)), ratio, s.Base)
	}
	b.WriteByte('\n')
}

func (r *report) writeMemory(b *strings.Builder) {
	b.WriteString("| resident memory, KiB | median | least to most |\n| --- | --- | --- |\n")
	for _, m := range r.Memory {
		fmt.Fprintf(b, "| %s | %s | %s to %s |\n", m.Name, thousands(m.Median>>10), thousands(m.Least>>10), thousands(m.Most>>10))
	}
	b.WriteByte('\n')
}
