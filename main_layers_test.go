package main

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// rooms reads the rooms of the house from the package comment of main.go, bottom first: the lines of its
// first block of "name  what it is for".
func rooms(t *testing.T) []string {
	t.Helper()
	list, err := readRooms()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var readRooms = sync.OnceValues(func() ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		return nil, err
	}
	var list []string
	_, plan, found := strings.Cut(f.Doc.Text(), "The program is one package of rooms.")
	for line := range strings.Lines(plan) {
		entry, ok := strings.CutPrefix(line, "\t")
		if ok {
			list = append(list, strings.Fields(entry)[0])
		} else if list != nil {
			break // the list is over
		}
	}
	if !found || len(list) == 0 {
		return nil, errors.New("the package comment of main.go has no list of rooms")
	}
	return list, nil
})

// roomOf is the room that a file's name begins with.
func roomOf(file string) string {
	room, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".go"), "_")
	return room
}

// isOfTheHouse reports whether a file is the house's own: of a room, or of those that are tests alone. Any other is a fork's.
func isOfTheHouse(t *testing.T, file string) bool {
	room := roomOf(file)
	return room == "e2e" || room == "kit" || slices.Contains(rooms(t), room)
}

// ourDocuments are the house's own.
var ourDocuments = []string{"README.md", "docs/decisions.md", "docs/operations.md", "docs/performance.md", "docs/protocol.md", "docs/reliability.md", "docs/security.md", "docs/services.md"}

// soleImporters are packages that can be replaced by editing the files named here.
var soleImporters = map[string][]string{
	"github.com/sirupsen/logrus":                  {"log", "log_line"},
	"github.com/kardianos/service":                {"svc_part", "svc_scm_windows"},
	"gopkg.in/natefinch/lumberjack.v2":            {"log_file_windows"},
	"github.com/coreos/go-systemd/v22/activation": {"transport_inherit_unix"},
	"github.com/coreos/go-systemd/v22/daemon":     {"daemon_notify_unix"},
	"github.com/coreos/go-systemd/v22/journal":    {"log_journal_linux"},
	"github.com/Microsoft/go-winio":               {"pipe_windows", "pipe_inspect_windows", "child_channel_windows"},
	"github.com/pelletier/go-toml/v2":             {"config_file"},
	"gopkg.in/natefinch/npipe.v2":                 {}, // the tests' own
	"github.com/google/jsonschema-go/jsonschema":  {"rpc_check"},
	"github.com/rogpeppe/go-internal/testscript":  {},
	"github.com/rogpeppe/go-internal/diff":        {"svc_install"},
	"github.com/prometheus/common/expfmt":         {},
	"net/rpc":                                     {"wire_gob"},
	"encoding/gob":                                {"wire_gob"},
	"reflect":                                     {"rpc", "rpc_receiver", "rpc_schema", "wire_gob", "wire_json_type", "wire_json_value", "client_gob"},
	"html/template":                               {"server_http"},
	"text/tabwriter":                              {"cmd"},
	"os/user":                                     {"sys_users_unix", "svc_launchd"}, // what it knows depends on cgo
	"golang.org/x/term":                           {"log", "cmd"},
}

// goosList are the systems that ipcd is built for.
var goosList = []string{"linux", "darwin", "freebsd", "windows"}

// noImports refuses every import: what other packages declare has no layer.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, os.ErrNotExist }

// ourFiles lists the house's own files of the program for one system, without tests.
func ourFiles(t *testing.T, goos string) []string {
	return slices.DeleteFunc(filesFor(t, goos), func(name string) bool { return !isOfTheHouse(t, name) })
}

// filesFor lists the files of the program for one system, those of a fork included, without tests.
func filesFor(t *testing.T, goos string) []string {
	t.Helper()
	ctxt := build.Default
	ctxt.GOOS, ctxt.GOARCH, ctxt.CgoEnabled = goos, "amd64", false
	pkg, err := ctxt.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	return pkg.GoFiles
}

func parseFiles(t *testing.T, fset *token.FileSet, names []string) []*ast.File {
	t.Helper()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

func TestLayers(t *testing.T) {
	order := map[string]int{}
	for i, room := range rooms(t) {
		order[room] = i
	}
	for _, goos := range goosList {
		t.Run(goos, func(t *testing.T) {
			fset := token.NewFileSet()
			names := filesFor(t, goos)
			info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
			// Error lets the check go on: what an import declares is unknown, ours is not.
			conf := types.Config{Importer: noImports{}, Error: func(error) {}}
			self, _ := conf.Check("main", fset, parseFiles(t, fset, names), info)
			ours := 0
			for id, obj := range info.Uses {
				if obj.Pkg() != self || !obj.Pos().IsValid() {
					continue
				}
				use, decl := fset.Position(id.Pos()), fset.Position(obj.Pos())
				if !isOfTheHouse(t, use.Filename) {
					continue
				}
				ours++
				if !isOfTheHouse(t, decl.Filename) {
					if use.Filename != "rpc_services.go" && use.Filename != "main.go" {
						t.Errorf("%s uses %s of %s, which is in no room of the list in main.go", use, id.Name, decl)
					}
				} else if order[roomOf(decl.Filename)] > order[roomOf(use.Filename)] {
					t.Errorf("%s uses %s of %s, whose room is listed after its own", use, id.Name, decl)
				}
			}
			if ours == 0 {
				t.Error("no use of anything of ours was seen; want many")
			}
		})
	}
}

// TestRoomsHaveDoors wants a file with the bare name of each room, or twins that are its door.
func TestRoomsHaveDoors(t *testing.T) {
	all := everyFile(t)
	for _, room := range rooms(t) {
		twins := slices.Contains(all, room+"_unix.go") && slices.Contains(all, room+"_windows.go")
		if !slices.Contains(all, room+".go") && !twins {
			t.Errorf("the room %s of main.go has neither %s.go nor the twins %s_unix.go and %s_windows.go", room, room, room, room)
		}
	}
}

// TestCommentsNameFilesThatExist keeps references from one file to another true.
func TestCommentsNameFilesThatExist(t *testing.T) {
	name := regexp.MustCompile(`(?:^|[^\w/.-])(\w+\.go)(?:\.?(?:\s|$)|[^\w.])`)
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	check := func(where, text string) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "_") { // a pattern: _test.go
				continue
			}
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s names %s, which is not there", where, m[1])
			}
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !isOfTheHouse(t, name) })
	for _, f := range parseFiles(t, fset, names) {
		for _, c := range f.Comments {
			check(fset.Position(c.Pos()).String(), c.Text())
		}
	}
	for _, path := range ourDocuments {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check(path, string(text))
	}
}

// TestDocumentsNameTestsThatExist keeps documents from promising what no test shows.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)
	for _, file := range files { // those of all systems
		text, err := os.ReadFile(file)
		must(t, err)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
	}
	named := regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)(?:/(\\w+))?`")
	for _, path := range ourDocuments {
		text, err := os.ReadFile(path)
		must(t, err)
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is no test", path, m[1])
			}
			if m[1] == "TestScripts" && m[2] != "" {
				if _, err := os.Stat("testdata/script/" + m[2] + ".txtar"); err != nil {
					t.Errorf("%s names %s/%s, which is no script", path, m[1], m[2])
				}
			}
		}
	}
}

// TestImportsHaveOneOwner holds us to soleImporters, and keeps system calls in the files of
// one system.
func TestImportsHaveOneOwner(t *testing.T) {
	shared := sharedFiles(t)
	for _, name := range everyFile(t) {
		base := strings.TrimSuffix(name, ".go")
		for _, f := range parseFiles(t, token.NewFileSet(), []string{name}) {
			for _, spec := range f.Imports {
				path := strings.Trim(spec.Path.Value, `"`)
				if owners, ok := soleImporters[path]; ok && !slices.Contains(owners, base) {
					t.Errorf("%s imports %s, which is for %q alone", name, path, owners)
				}
				if strings.HasPrefix(path, "golang.org/x/sys/") && slices.Contains(shared, name) {
					t.Errorf("%s imports %s and is built for every system", name, path)
				}
			}
		}
	}
}

// everyFile lists the house's own files of the program for all systems.
func everyFile(t *testing.T) []string {
	var all []string
	for _, goos := range goosList {
		all = append(all, ourFiles(t, goos)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// sharedFiles lists those that every system has.
func sharedFiles(t *testing.T) []string {
	shared := ourFiles(t, goosList[0])
	for _, goos := range goosList[1:] {
		has := ourFiles(t, goos)
		shared = slices.DeleteFunc(shared, func(name string) bool { return !slices.Contains(has, name) })
	}
	return shared
}

// TestSharedFilesKnowNoSystem wants what differs between systems in twin files.
func TestSharedFilesKnowNoSystem(t *testing.T) {
	fset := token.NewFileSet()
	for _, f := range parseFiles(t, fset, sharedFiles(t)) {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "runtime" && (sel.Sel.Name == "GOOS" || sel.Sel.Name == "GOARCH") {
				t.Errorf("%s: runtime.%s in a file that every system has", fset.Position(n.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

// TestFilesSayWhatTheyOwn wants the manual of a file below its package clause.
func TestFilesSayWhatTheyOwn(t *testing.T) {
	manual := regexp.MustCompile(`^This file (owns|is) `)
	fset := token.NewFileSet()
	for _, f := range parseFiles(t, fset, everyFile(t)) {
		if fset.Position(f.Pos()).Filename == "main.go" {
			continue // its package comment is the manual of the program
		}
		i := slices.IndexFunc(f.Comments, func(c *ast.CommentGroup) bool { return c.Pos() > f.Name.End() })
		firstDecl := f.End()
		if len(f.Decls) > 0 {
			firstDecl = f.Decls[0].Pos()
		}
		if i < 0 || f.Comments[i].Pos() > firstDecl || !manual.MatchString(f.Comments[i].Text()) {
			t.Errorf("%s: want a comment below the package clause that matches %q", fset.Position(f.Pos()).Filename, manual)
		}
	}
}

// TestTestsDoNotSleep wants waits that end with what they wait for.
func TestTestsDoNotSleep(t *testing.T) {
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !isOfTheHouse(t, name) })
	fset := token.NewFileSet()
	for _, f := range parseFiles(t, fset, names) {
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: a sleep in a test; wait for an event, or use synctest or waitFor", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// TestFilesNameNoPlace keeps out where this was written and from where its parts came: names
// of registries and mirrors, the home directory and the checkout.
func TestFilesNameNoPlace(t *testing.T) {
	// In pieces, so that this file passes itself.
	banned := []string{"registry." + "npmjs", "proxy." + "golang", "sum." + "golang", "deb." + "debian", "py" + "pi.org", "pythonhosted" + ".org"}
	if wd, err := os.Getwd(); err == nil && len(wd) > 1 {
		banned = append(banned, wd+"/")
	}
	if home, err := os.UserHomeDir(); err == nil && strings.Count(home, "/") > 0 && len(home) > 1 {
		banned = append(banned, home+"/")
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" { // a directory, or a file in a second work tree
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".cache") {
			return fs.SkipDir
		}
		// Programs of a fork lie beside ours; those in the folders are ours.
		if !d.Type().IsRegular() || filepath.Ext(path) == ".go" && filepath.Dir(path) == "." && !isOfTheHouse(t, path) {
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > 1<<20 {
			return err // a program that someone has built here
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, word := range banned {
			if i := strings.Index(string(text), word); i >= 0 {
				t.Errorf("%s:%d names %s", path, 1+strings.Count(string(text[:i]), "\n"), word)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
