package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// codesInSource reads the constants whose names begin with code.
func codesInSource(t *testing.T) map[int]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	must(t, err)
	codes := map[int]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "code") {
			return true
		}
		value := spec.Values[0].(*ast.UnaryExpr) // all are negative
		code, err := strconv.Atoi(value.X.(*ast.BasicLit).Value)
		must(t, err)
		codes[-code] = spec.Names[0].Name
		return true
	})
	return codes
}

// The table of docs/protocol.md has every code that there is and no other, and says of each whether the call may be sent
// again.
func TestEveryCodeIsInTheDocument(t *testing.T) {
	page, err := os.ReadFile("docs/protocol.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "\n## 9. Errors\n")
	section, _, _ = strings.Cut(section, "\n## ")
	left := codesInSource(t)
	if len(left) < 10 {
		t.Fatalf("errors.go has %d codes", len(left))
	}
	known := maps.Clone(left)
	for _, row := range regexp.MustCompile(`(?m)^\| (-\d+) \| (.*) \| (.*) \|$`).FindAllStringSubmatch(section, -1) {
		code, err := strconv.Atoi(row[1])
		must(t, err)
		switch _, is := left[code]; {
		case known[code] == "":
			t.Errorf("the table has %d, which errors.go has not", code)
		case !is:
			t.Errorf("the table has %d twice", code)
		case row[2] == "" || row[3] == "":
			t.Errorf("the table does not say everything of %d: %s", code, row[0])
		}
		delete(left, code)
	}
	for code, name := range left {
		t.Errorf("the table lacks %d (%s)", code, name)
	}
}

// Only the codes of services are shown: what those of ours mean, the text says.
func TestComplainShowsCodesOfServices(t *testing.T) {
	for _, code := range []int{0, 7, -1, -31999, codeApplication, codeNoMethod, -32768, -32769, codeCancelled, codeUsage} {
		var b strings.Builder
		complain(&b, fmt.Errorf("call: %w", &fault{Code: code, Text: "no luck"}))
		first, _, _ := strings.Cut(b.String(), "\n")
		want := "ipcd: error: call: no luck"
		if code == 7 || code == -1 || code == -31999 || code == -32769 {
			want += fmt.Sprintf(" (code %d)", code)
		}
		if first != want {
			t.Errorf("an error of the code %d is shown as %q; want %q", code, first, want)
		}
	}
}

// Of several names that are as near, the one is meant whose slip is the likelier.
func TestNearestIsTheLikelierSlip(t *testing.T) {
	for typed, want := range map[string]string{"lss": "ls", "sl": "ls", "stat": "stats", "statr": "start", "cal": "call", "lgos": "logs", "nothing": ""} {
		names := []string{"call", "logs", "ls", "start", "stats", "status"}
		for range 2 {
			if got := nearest(typed, names); got != want {
				t.Errorf("nearest(%q) of %q = %q; want %q", typed, names, got, want)
			}
			slices.Reverse(names)
		}
	}
}
