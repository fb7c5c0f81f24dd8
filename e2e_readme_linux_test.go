package main

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func init() { systemdTests = append(systemdTests, systemdTest{"Readme", testReadme}) }

// TestReadmeBuildsOneStaticProgram builds the program each time that the README does, and wants it to need nothing of the
// system that it runs on.
func TestReadmeBuildsOneStaticProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program")
	}
	needTool(t, "go")
	text, err := os.ReadFile("README.md")
	must(t, err)
	builds := regexp.MustCompile(`(?m)^(?:\$ )?((?:\w+=\S+ )*go (?:build|install)[^&\n]*)`).FindAllStringSubmatch(string(text), -1)
	if len(builds) == 0 {
		t.Fatal("README.md does not build the program")
	}
	for _, build := range builds {
		bin := t.TempDir()
		cmd := exec.Command("sh", "-c", strings.Replace(build[1], "-o ipcd", "-o "+filepath.Join(bin, "ipcd"), 1))
		cmd.Env = slices.DeleteFunc(append(os.Environ(), "GOBIN="+bin), func(entry string) bool { return strings.HasPrefix(entry, "CGO_ENABLED=") })
		printed(t, cmd)
		program, err := elf.Open(filepath.Join(bin, "ipcd"))
		must(t, err)
		libraries, err := program.ImportedLibraries()
		interpreter := slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) || len(libraries) > 0 || interpreter {
			t.Errorf("%q links %q, and is loaded by another program: %v; %v", build[1], libraries, interpreter, err)
		}
		must(t, program.Close())
	}
}

// testReadme types what the README shows of the service, and wants to see what it shows.
func testReadme(t *testing.T, c *container) {
	before := c.snapshot()
	block := codeBlocks(t, readmeSection(t, "A service of the operating system"), "console")[0]
	var shown, got []string
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		command, ok := strings.CutPrefix(line, "# ")
		if !ok {
			shown = append(shown, line)
			continue
		}
		got = append(got, strings.Split(c.run("sh", "-c", command), "\n")...)
	}
	if len(shown) < 4 {
		t.Fatalf("the README shows %q", shown)
	}
	for _, line := range shown {
		at := slices.Index(got, line)
		if at < 0 {
			t.Errorf("nothing prints %q; printed was:\n%s", line, strings.Join(got, "\n"))
			continue
		}
		got = got[at+1:]
	}
	before.check(c) // uninstall is the last line
}
