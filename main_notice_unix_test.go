//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A linkedModule is a module with packages that the program is built from, as go list has it.
type linkedModule struct {
	Path, Version, Dir string
	Main               bool
}

// linkedModules lists the modules that any of our systems links into the program, as "go version -m" would show them.
func linkedModules(t *testing.T) []linkedModule {
	t.Helper()
	needTool(t, "go")
	all := map[string]linkedModule{}
	for _, goos := range goosList {
		cmd := exec.Command("go", "list", "-deps", "-json=Module", ".")
		cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
		packages := json.NewDecoder(strings.NewReader(printed(t, cmd)))
		for {
			var p struct{ Module *linkedModule }
			err := packages.Decode(&p)
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if p.Module != nil && !p.Module.Main {
				all[p.Module.Path] = *p.Module
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b linkedModule) int { return strings.Compare(a.Path, b.Path) })
}

// licenseOf is what a module wants to be passed on with it.
func licenseOf(t *testing.T, dir string) string {
	t.Helper()
	var texts []string
	for _, pattern := range []string{"LICENSE*", "COPYING*", "NOTICE*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))+"\n")
		}
	}
	if len(texts) == 0 {
		t.Errorf("there is no license in %s", dir)
	}
	return strings.Join(texts, "\n")
}

// notice is what NOTICE must be: each license once, below what it is for.
func notice(t *testing.T) string {
	t.Helper()
	var licenses []string
	covers := map[string][]string{}
	for _, m := range linkedModules(t) {
		text := licenseOf(t, m.Dir)
		if covers[text] == nil {
			licenses = append(licenses, text)
		}
		covers[text] = append(covers[text], m.Path+" "+m.Version)
		if m.Path == "golang.org/x/sys" { // which has the license of Go itself
			covers[text] = append(covers[text], "Go, its standard library and runtime")
		}
	}
	var b strings.Builder
	b.WriteString("ipcd is under the license in the file LICENSE. The program also contains what is named here, on at\nleast one of its systems, each under the license that follows its name.\n")
	for _, text := range licenses {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s", strings.Repeat("=", 80), strings.Join(covers[text], "\n"), text)
	}
	return b.String()
}

func TestNoticeNamesWhatIsLinkedIn(t *testing.T) {
	want := notice(t)
	if *renewGolden {
		must(t, os.WriteFile("NOTICE", []byte(want), 0o644))
	}
	got, err := os.ReadFile("NOTICE")
	must(t, err)
	if strings.ReplaceAll(string(got), "\r\n", "\n") != want {
		t.Errorf("NOTICE is not what the program is built from; go test -run Notice -renew . writes it anew. Now it is:\n%s", want)
	}
}
