package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryOfControlGroups(t *testing.T) {
	root := t.TempDir()
	for group, most := range map[string]string{"": "", "system.slice": "max\n", "system.slice/ipcd.service": "1000000\n",
		"system.slice/ipcd.service/daemon": "2000000\n", "broken": "much\n"} {
		dir := filepath.Join(root, group)
		must(t, os.MkdirAll(dir, 0o700))
		if most != "" {
			must(t, os.WriteFile(filepath.Join(dir, "memory.max"), []byte(most), 0o600))
		}
	}
	for own, want := range map[string]int64{
		"0::/system.slice/ipcd.service\n":                       1_000_000,
		"0::/system.slice/ipcd.service/daemon\n":                1_000_000,
		"12:memory:/elsewhere\n0::/system.slice/ipcd.service\n": 1_000_000,
		"0::/system.slice\n":                                    0,
		"0::/\n":                                                0,
		"0::/broken\n":                                          0,
		"0::/gone/../../../etc\n":                               0,
		"12:memory:/system.slice/ipcd.service\n":                0,
		"":                                                      0,
	} {
		if got := groupMemory(root, own); got != want {
			t.Errorf("groupMemory of %q = %d; want %d", own, got, want)
		}
	}
}
