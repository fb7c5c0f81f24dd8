package main

// This file owns what "ipcd doctor" says of sockets that belong to somebody else, or lie where others could replace them.

import (
	"os"
	"strings"
	"testing"
)

func TestInspectOfForeignSockets(t *testing.T) {
	needRoot(t)
	dir := openDir(t, 0o755)
	s := startServerWith(t, nil, at(dir+"/s"))
	find := func(check string, state findingState, words string) {
		t.Helper()
		for _, d := range inspectUnix(s.endpoints[0], audience{}, true) {
			if d.Check == check {
				if d.State != state || !strings.Contains(d.Text, words) || (d.Hint == "") != (state == findingOK) {
					t.Errorf("%s: %+v; want %s and %q", check, d, state, words)
				}
				return
			}
		}
		t.Errorf("nothing is said of the %s", check)
	}
	find("socket", findingOK, "belongs to user root")
	find("directory", findingOK, "nobody but user root")
	find("lock", findingOK, "it is held by pid ")
	must(t, os.Chmod(dir, 0o777))
	find("directory", findingError, "is open to the writing of others (mode 0777)")
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Lchown(dir+"/s", nobody, -1))
	find("socket", findingOK, "belongs to user nobody")
	must(t, os.Lchown(dir, 12345, -1)) // nobody's socket in the directory of somebody else
	find("directory", findingError, "belongs to the user with uid 12345")
	must(t, os.Lchown(dir, 0, -1))
}
