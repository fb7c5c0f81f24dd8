package main

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// This file owns a file system of a test's own.

// mountTemp mounts an empty file system in memory with these options, which only root can, and returns its place.
func mountTemp(t *testing.T, options string) (dir string) {
	t.Helper()
	needRoot(t)
	dir = tempDir(t) + "/m"
	must(t, os.Mkdir(dir, 0o700))
	flags := uintptr(syscall.MS_NOSUID | syscall.MS_NODEV)
	if options == "ro" {
		flags, options = flags|syscall.MS_RDONLY, "size=4k"
	}
	if err := syscall.Mount("ipcd-test", dir, "tmpfs", flags, options+",mode=0700"); errors.Is(err, syscall.EPERM) {
		os.Remove(dir)
		lacks(t, "this root may not mount")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		waitFor(t, func() error { return syscall.Unmount(dir, 0) }) // a process that ends may have a file there still
		must(t, os.Remove(dir))
	})
	return dir
}
