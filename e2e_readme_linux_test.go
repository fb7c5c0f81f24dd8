package main

import (
	"slices"
	"strings"
	"testing"
)

func init() { systemdTests = append(systemdTests, systemdTest{"Readme", testReadme}) }

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
