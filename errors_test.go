package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
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
