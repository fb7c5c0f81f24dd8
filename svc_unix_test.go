//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestServiceRefusesUnsafeProgram is about who could change what a service runs. The directories of the
// tests are below a sticky /tmp, which is as safe as any other for what is root's.
func TestServiceRefusesUnsafeProgram(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	program := filepath.Join(dir, "ipcd")
	must(t, os.WriteFile(program, nil, 0o755))
	own := func(err error) error { return err }
	uid := os.Getuid()
	if err := checkOwners(program, uid, own); err != nil {
		t.Fatalf("ours alone: %v", err)
	}
	must(t, os.Chmod(program, 0o757))
	if err := checkOwners(program, uid, own); err == nil || !strings.Contains(err.Error(), "others can write to "+program) {
		t.Errorf("writable by everybody: %v", err)
	}
	must(t, os.Chmod(program, 0o755))
	must(t, os.Chmod(dir, 0o777))
	if err := checkOwners(program, uid, own); err == nil || !strings.Contains(err.Error(), "others can write to "+dir) {
		t.Errorf("in a directory that is open: %v", err)
	}
	must(t, os.Chmod(dir, 0o755))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(program, link))
	if err := checkOwners(link, uid, own); err != nil {
		t.Errorf("a link of ours to it: %v", err)
	}
	must(t, os.Chmod(program, 0o757))
	if err := checkOwners(link, uid, own); err == nil || !strings.Contains(err.Error(), "others can write to "+program) {
		t.Errorf("a link to a program that is open: %v", err)
	}
	must(t, os.Chmod(program, 0o755))
	circle := filepath.Join(dir, "circle")
	must(t, os.Symlink("../"+filepath.Base(dir)+"/circle", circle))
	if err := checkOwners(circle, uid, own); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("a link to itself: %v", err)
	}
	if uid == 0 {
		must(t, os.Lchown(link, 65534, -1))
		if err := checkOwners(link, 0, own); err == nil || !strings.Contains(err.Error(), link+" belongs to") {
			t.Errorf("a link of somebody else: %v", err)
		}
	}
	if uid == 0 {
		must(t, os.Chown(program, 65534, -1))
		if err := checkOwners(program, 0, own); err == nil || !strings.Contains(err.Error(), "belongs to") {
			t.Errorf("somebody else's: %v", err)
		}
	}
}

// TestDirectoriesHaveTheirModeWhateverTheUmask makes what install makes, and what a daemon makes for its socket.
func TestDirectoriesHaveTheirModeWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0o077, 0o027, 0o777, 0} {
		func() {
			dir := tempDir(t)
			program := filepath.Join(dir, "program")
			must(t, os.WriteFile(program, []byte("new"), 0o600))
			defer syscall.Umask(syscall.Umask(mask))
			for _, p := range []part{
				&filePart{path: dir + "/a/units/ipcd.socket", text: "one\n", mode: 0o644},
				&copyPart{from: program, path: dir + "/b/deep/bin/ipcd"},
			} {
				must(t, p.put())
				for at := filepath.Dir(p.name()); at != dir; at = filepath.Dir(at) {
					if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o755 {
						t.Errorf("umask %03o: %s has the mode %v, %v; want 0755", mask, at, info.Mode(), err)
					}
				}
			}
		}()
	}
}

// TestServiceRefusesUnsafeFuture is about a directory that somebody else could make first.
func TestServiceRefusesUnsafeFuture(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	sticky := filepath.Join(dir, "sticky")
	must(t, os.Mkdir(sticky, 0o755))
	must(t, os.Chmod(sticky, 0o777|os.ModeSticky))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	for _, test := range []struct {
		path   string
		shared bool
		want   string // in the error; empty for none
	}{
		{path: dir + "/new/deep"},
		{path: dir},
		{path: sticky + "/new", want: "others can write to " + sticky},
		{path: sticky, want: "others can write to " + sticky},
		{path: sticky, shared: true},
		{path: sticky + "/new", shared: true, want: "others can write to " + sticky},
		{path: dir + "/link/new", want: dir + "/link is a symbolic link to nothing"},
	} {
		err := checkFuture(test.path, os.Getuid(), test.shared, func(err error) error { return err })
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("checkFuture(%q, shared %t) = %v; want %q", test.path, test.shared, err, test.want)
		}
	}
}

// TestServiceOfAnotherUser has the directory of somebody else in the environment, as after su.
func TestServiceOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("SUDO_UID", "")
	if err := checkRights(true); err != nil {
		t.Errorf("our own: %v", err)
	}
	if os.Getuid() != 0 {
		t.Setenv("XDG_RUNTIME_DIR", "/")
	} else {
		must(t, os.Chown(dir, 65534, -1))
	}
	if err := checkRights(true); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("somebody else's: %v", err)
	}
}

// TestServiceLock wants a second installation to wait for the first, and no file to be left.
func TestServiceLock(t *testing.T) {
	dir := filepath.Dir(tempSocket(t))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	unlock, err := lockServices(t.Context(), true)
	must(t, err)
	waiting, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() {
		unlock, err := lockServices(waiting, true)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	cancel()
	if err := <-got; err == nil {
		t.Error("two installations at once")
	}
	go func() {
		unlock, err := lockServices(t.Context(), true)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "ipcd-install.lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock is left: %v", err)
	}
}

// TestSocketsOfAService wants what a service leaves in a directory of its name, however deep, and nothing of others.
func TestSocketsOfAService(t *testing.T) {
	d := testDeployment(t, "left", "unix:///nowhere/left/in/a.sock", "unix:///nowhere/other/left.sock", "unix:///left/b.sock", "tcp://127.0.0.1:1?auth=none")
	own, err := d.endpoint()
	must(t, err)
	got := slices.DeleteFunc(socketsOf(d), func(at string) bool { return strings.HasPrefix(at, filepath.Dir(own.Path)) })
	want := []string{"/nowhere/left/in/a.sock", "/nowhere/left/in/a.sock.lock", "/nowhere/left/in", "/nowhere/left", "/left/b.sock", "/left/b.sock.lock", "/left"}
	if !slices.Equal(got, want) {
		t.Errorf("socketsOf = %q; want %q", got, want)
	}
}
