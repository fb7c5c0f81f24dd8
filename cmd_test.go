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
		{"hello, world", 0, "hello, world"},
		{"hello, world", 12, "hello, world"},
		{"hello, world", 11, "hello, wor…"},
		{"schöne Wörter", 10, "schöne Wö…"},
		{"hello, world", 9, "hello, world"},
		{"hello, world", -3, "hello, world"},
		{"", 14, ""},
	}
	for _, test := range tests {
		if got := fit(test.line, test.width); got != test.want {
			t.Errorf("fit(%q, %d) = %q; want %q", test.line, test.width, got, test.want)
		}
	}
}
