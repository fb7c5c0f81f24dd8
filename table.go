package main

// This file owns what a table looks like on a terminal and elsewhere.

import (
	"bytes"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// table aligns columns that are separated by tabs. On a terminal a row that is wider is cut, so
// that the columns stay in line; --json has all of it.
func table(w io.Writer, rows func(t io.Writer)) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows(t)
	t.Flush() // to memory, which takes everything
	width := terminalWidth(w)
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(w, fit(line, width)); err != nil {
			return err
		}
	}
	return nil
}

// fit cuts a line to so many characters, the last of which then says that it was cut. With 0 it
// may have as many as it likes.
func fit(line string, width int) string {
	text := []rune(strings.TrimSuffix(line, "\n"))
	if width < 2 || len(text) <= width {
		return line
	}
	return string(text[:width-1]) + "…\n"
}

// terminalWidth is the number of columns of the terminal that w is; 0 where it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
