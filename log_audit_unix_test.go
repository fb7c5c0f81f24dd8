//go:build unix

package main

// This file owns what the file of the audit log is on Unix: nobody else's.

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

func TestAuditFileIsOurs(t *testing.T) {
	a, _ := startAuditFile(t, 1000, 1)
	must(t, os.Chmod(a.name, 0o644))
	must(t, a.close())
	b := &auditFile{name: a.name, wrote: &atomic.Int64{}, lost: &atomic.Int64{}}
	must(t, b.begin(isFull))
	must(t, b.close())
	if info, err := os.Stat(a.name); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has the mode %v, %v; want 0600", info.Mode(), err)
	}
	b.name = filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(a.name, b.name))
	if err := b.begin(isFull); err == nil || err.Error() != "it is there and no regular file" {
		t.Errorf("a link is followed: %v", err)
	}
}
