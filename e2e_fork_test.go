//go:build unix

package main

// This file owns the promise of docs/services.md: a service added as it says leaves the tests green.

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// forkOnly is what a fork's file may do and a file of the house may not.
const forkOnly = `package main

import (
	"net/http"
	"os/exec"
	"os/user"
	"reflect"
	"runtime"
	"text/tabwriter"
)

// See nowhere_at_all.go.
var _ = []any{http.DefaultClient, exec.Command, user.Current, reflect.TypeFor[int], tabwriter.NewWriter, runtime.GOOS, exitDone}
`

// TestServiceOfAFork adds the service of docs/services.md to a copy, as the page says, and runs the tests there that know
// files, imports or lists of methods.
func TestServiceOfAFork(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and tests a copy of the program")
	}
	goTool := needTool(t, "go")
	page, err := os.ReadFile("docs/services.md")
	must(t, err)
	blocks := codeBlocks(t, string(page), "go")
	if len(blocks) != 3 {
		t.Fatalf("docs/services.md has %d blocks of Go; want the service, its line, and its test", len(blocks))
	}
	dir := t.TempDir()
	must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == ".cache"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, path), 0o700)
		case !d.Type().IsRegular() || d.Name() == ".git":
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > 1<<20 { // a program that someone has built here
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), text, 0o600)
	}))
	write := func(name, text string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
	source, err := os.ReadFile("rpc_services.go")
	must(t, err)
	if !strings.Contains(string(source), strings.TrimSpace(blocks[1])) { // otherwise this is a fork that has done as the page says
		const end = "\n\t}\n}\n" // of the list
		write("rpc_services.go", strings.Replace(string(source), end, "\n"+blocks[1]+end[1:], 1))
	}
	write("tickets.go", blocks[0])
	write("tickets_test.go", blocks[2])
	write("tickets_http.go", forkOnly)

	const tests = "^(TestTickets|TestLayers|TestRoomsHaveDoors|TestCommentsNameFilesThatExist|TestImportsHaveOneOwner|TestSharedFilesKnowNoSystem|TestFilesSayWhatTheyOwn|" +
		"TestTestsDoNotSleep|TestFilesNameNoPlace|TestReadmeTranscript|TestReadmeExample|TestScripts)$/^(linux|commands|terminal)$"
	cmd := exec.Command(goTool, "test", "-count=1", "-run", tests, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a fork with a service: %v\n%s", err, out)
	}
}
