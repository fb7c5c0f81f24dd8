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
		fmt.Fprintf(t, "a\tsomething that goes on\nlonger\tand on\nnothing\t\t\n\n")
	})
	if want := "a        something that goes on\nlonger   and on\nnothing\n\n"; err != nil || b.String() != want {
		t.Errorf("table = %q, %v; want %q", b.String(), err, want)
	}
}

func TestListingSaysWhoAnswers(t *testing.T) {
	note := func(provider, name string) ProviderNote { return ProviderNote{Provider: provider, Name: name} }
	for want, list := range map[string][]ProviderNote{
		"":                     nil, // of an older daemon
		"ipcd":                 {note("", "ipcd")},
		"user:ada (p7)":        {note("p7", "user:ada")},
		"worker:a (p1 p2 p10)": {note("p1", "worker:a"), note("p2", "worker:a"), note("p10", "worker:a")},
		"worker:a (5 instances), user:\\u001bada (p6)": {note("p1", "worker:a"), note("p2", "worker:a"), note("p3", "worker:a"),
			note("p4", "worker:a"), note("p6", "user:\x1bada"), note("p5", "worker:a")},
	} {
		if got := (&Listing{Providers: list}).answeredBy(); got != want {
			t.Errorf("answered by %s; want %s", got, want)
		}
	}
}

func TestNarrowLine(t *testing.T) {
	for width, want := range []string{"", "…", " …", " 4…", " 40…", " 40%…", " 40% …", " 40% ä漢", " 40% ä漢"} {
		if got := cut(" 40% ä漢", width); width < 7 && got != want {
			t.Errorf("cut to %d columns it is %q; want %q", width, got, want)
		}
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
		{"漢字漢字漢字", 12, "漢字漢字漢字"}, // two columns each
		{"漢字漢字漢字", 11, "漢字漢字漢…"},
		{"漢字漢字漢字", 10, "漢字漢字…"},
	}
	for _, test := range tests {
		if got := fit(test.line, test.width); got != test.want {
			t.Errorf("fit(%q, %d) = %q; want %q", test.line, test.width, got, test.want)
		}
	}
}
