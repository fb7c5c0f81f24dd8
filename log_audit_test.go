package main

// This file owns the tests of the file of the audit log.

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// startAuditFile returns an audit file in a directory of its own, and what it tells.
func startAuditFile(t *testing.T, most, keep int) (a *auditFile, told chan string) {
	t.Helper()
	told = make(chan string, 10)
	a = &auditFile{name: filepath.Join(t.TempDir(), "audit.log"), wrote: &atomic.Int64{}, lost: &atomic.Int64{}}
	a.tell = func(_ string, err error) {
		if err == nil {
			told <- "written again"
			return
		}
		told <- err.Error()
	}
	a.bound(most, keep)
	must(t, a.begin(isFull))
	t.Cleanup(func() { a.close() })
	return a, told
}

// written waits until n lines have been written or lost.
func (a *auditFile) written(t *testing.T, n int64) {
	t.Helper()
	waitFor(t, func() error {
		if got := a.wrote.Load() + a.lost.Load(); got != n {
			return fmt.Errorf("%d lines have been written or lost; want %d", got, n)
		}
		return nil
	})
}

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAuditFileIsBounded(t *testing.T) {
	const most = 1000
	for keep, want := range [][]string{{"audit.log"}, {"audit.log", "audit.log.1"}, {"audit.log", "audit.log.1", "audit.log.2"}} {
		a, _ := startAuditFile(t, most, keep)
		for i := range 300 {
			a.put(fmt.Appendf(nil, "line %03d %s\n", i, strings.Repeat("x", i%40)))
		}
		must(t, a.close())
		if a.wrote.Load() != 300 || a.lost.Load() != 0 {
			t.Errorf("keep %d: %d lines were written, %d lost; want 300 and 0", keep, a.wrote.Load(), a.lost.Load())
		}
		if got := filesIn(t, filepath.Dir(a.name)); !slices.Equal(got, want) {
			t.Errorf("keep %d: the files are %q; want %q", keep, got, want)
		}
		next := 299
		for _, name := range want { // the newest first
			b, err := os.ReadFile(filepath.Join(filepath.Dir(a.name), name))
			must(t, err)
			if len(b) > most || !bytes.HasSuffix(b, []byte("\n")) {
				t.Errorf("%s has %d bytes and ends in %q; want at most %d, and whole lines", name, len(b), b[max(len(b)-10, 0):], most)
			}
			lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
			slices.Reverse(lines)
			for _, line := range lines {
				if !strings.HasPrefix(line, fmt.Sprintf("line %03d ", next)) {
					t.Fatalf("%s has %q; want line %d", name, line, next)
				}
				next--
			}
		}
	}
}

// A daemon that is started again goes on with the file.
func TestAuditFileGoesOn(t *testing.T) {
	a, _ := startAuditFile(t, 1000, 1)
	a.put([]byte("a\n"))
	must(t, a.close())
	b := &auditFile{name: a.name, wrote: a.wrote, lost: a.lost, tell: a.tell}
	b.bound(1000, 1)
	must(t, b.begin(isFull))
	b.put([]byte("b\n"))
	must(t, b.close())
	b.put([]byte("too late\n"))
	if text, err := os.ReadFile(a.name); err != nil || string(text) != "a\nb\n" || a.wrote.Load() != 2 || a.lost.Load() != 1 {
		t.Errorf("the file is %q, %v, and %d lines were lost; want a, b and 1", text, err, a.lost.Load())
	}
}

// A daemon that is killed in a rotation leaves a file that has been moved and has no number yet, at the time when it starts again or,
// where that could not be taken up then, later. Nothing of it is lost, wherever in the rotation it was.
func TestAuditFileTakesUpARotation(t *testing.T) {
	for _, late := range []bool{false, true} {
		for hole := 1; hole <= 3; hole++ { // .1, .2 and .3 were there, with room for one more: those behind the hole have moved on
			a, _ := startAuditFile(t, 50, 4)
			must(t, a.close())
			leave := func() {
				must(t, os.WriteFile(a.moved(), []byte("the newest\n"), 0o600))
				for i, n := 1, 1; n <= 3; i, n = i+1, n+1 {
					if i == hole {
						i++
					}
					must(t, os.WriteFile(a.numbered(i), fmt.Appendf(nil, "number %d\n", n), 0o600))
				}
			}
			b := &auditFile{name: a.name, wrote: a.wrote, lost: a.lost, tell: a.tell}
			b.bound(50, 4)
			if !late {
				leave()
			}
			must(t, b.begin(isFull))
			if late {
				leave()
				b.bound(50, 5)
				for n := range int64(2) {
					b.put([]byte(strings.Repeat("x", 40) + "\n"))
					b.written(t, n+1)
				}
			}
			must(t, b.close())
			want := []string{"the newest\n", "number 1\n", "number 2\n", "number 3\n"}
			if late {
				want = slices.Insert(want, 0, strings.Repeat("x", 40)+"\n")
			}
			for i, want := range want {
				if text, err := os.ReadFile(b.numbered(i + 1)); err != nil || string(text) != want {
					t.Errorf("late %v, hole %d: predecessor %d is %q, %v; want %q", late, hole, i+1, text, err, want)
				}
			}
			if isThere(b.moved()) {
				t.Errorf("late %v, hole %d: the file that was moved is still there", late, hole)
			}
		}
	}
}

// A file that cannot be rotated grows up to the size of all together. Then lines are lost, which is told once, until it can be again.
func TestAuditFileThatCannotBeRotated(t *testing.T) {
	a, told := startAuditFile(t, 100, 1)
	must(t, os.MkdirAll(filepath.Join(a.name+".1", "in the way"), 0o700))
	line := []byte(strings.Repeat("x", 49) + "\n")
	n := int64(0)
	put := func(times int) {
		t.Helper()
		for range times {
			a.put(line)
			n++
			a.written(t, n)
		}
	}
	put(4)
	if lost := a.lost.Load(); lost != 0 {
		t.Errorf("%d lines were lost at twice the size", lost)
	}
	put(3)
	if lost := a.lost.Load(); lost != 3 {
		t.Errorf("%d lines were lost; want 3", lost)
	}
	if text := receive(t, told); text == "" || text == "written again" || len(told) > 0 {
		t.Errorf("it was told %q, and %d times more; want once why", text, len(told))
	}
	must(t, os.RemoveAll(a.name+".1"))
	put(1)
	if text := receive(t, told); text != "written again" {
		t.Errorf("it was told %q; want that it is written again", text)
	}
	must(t, a.close())
	if got := filesIn(t, filepath.Dir(a.name)); !slices.Equal(got, []string{"audit.log", "audit.log.1"}) {
		t.Errorf("the files are %q", got)
	}
}

// What is there under that name and no file of ours could be a pipe that blocks, or lead elsewhere.
func TestAuditFileIsAFile(t *testing.T) {
	dir := t.TempDir()
	a := &auditFile{name: dir}
	if err := a.begin(isFull); err == nil || err.Error() != "it is there and no regular file" {
		t.Errorf("a directory is opened: %v", err)
	}
	a.name = filepath.Join(dir, "no", "audit.log")
	if err := a.begin(isFull); err == nil {
		t.Error("a file in no directory is opened")
	}
}

// A disk that is full when the daemon starts keeps nobody from calling.
func TestAuditFileBeginsOnAFullDisk(t *testing.T) {
	told := make(chan string, 10)
	dir := filepath.Join(t.TempDir(), "later")
	a := &auditFile{name: filepath.Join(dir, "audit.log"), wrote: &atomic.Int64{}, lost: &atomic.Int64{}}
	a.tell = func(_ string, err error) { told <- fmt.Sprint(err) }
	a.bound(1000, 1)
	must(t, a.begin(func(error) bool { return true }))
	defer a.close()
	if text := receive(t, told); !strings.Contains(text, dir) {
		t.Errorf("it was told %q; want why", text)
	}
	a.put([]byte("a\n"))
	a.written(t, 1)
	must(t, os.Mkdir(dir, 0o700))
	a.put([]byte("b\n"))
	a.written(t, 2)
	if text := receive(t, told); text != "<nil>" || a.lost.Load() != 1 || a.wrote.Load() != 1 {
		t.Errorf("it was told %q, and %d lines were lost; want one", text, a.lost.Load())
	}
}

// More lines than the disk takes are counted, and hold up nobody.
func TestAuditFileOfASlowDisk(t *testing.T) {
	a := &auditFile{wrote: &atomic.Int64{}, lost: &atomic.Int64{}, wake: make(chan struct{}, 1)} // nobody writes
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	for range auditBuffer/len(line) + 3 {
		a.put(line)
	}
	if lost := a.lost.Load(); lost != 3 || len(a.waiting) > auditBuffer {
		t.Errorf("%d lines were lost, and %d bytes wait; want 3, and at most %d", lost, len(a.waiting), auditBuffer)
	}
}
