package main

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

func TestTableIsWholeWhereThereIsNoTerminal(t *testing.T) {
	var b bytes.Buffer
	err := table(&b, func(t io.Writer) {
		fmt.Fprintf(t, "a\tsomething that goes on\nlonger\tand on\n")
	})
	if want := "a       something that goes on\nlonger  and on\n"; err != nil || b.String() != want {
		t.Errorf("table = %q, %v; want %q", b.String(), err, want)
	}
}

func TestTableRowFitsTheTerminal(t *testing.T) {
	tests := []struct {
		line  string
		width int
		want  string
	}{
		{"hello\n", 0, "hello\n"},
		{"hello\n", 5, "hello\n"},
		{"hello\n", 4, "hel…\n"},
		{"schön!\n", 5, "schö…\n"},
		{"hello\n", 1, "hello\n"},
		{"\n", 4, "\n"},
	}
	for _, test := range tests {
		if got := fit(test.line, test.width); got != test.want {
			t.Errorf("fit(%q, %d) = %q; want %q", test.line, test.width, got, test.want)
		}
	}
}
