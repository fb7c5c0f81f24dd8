package main

// This file owns the file of the audit log: lines that a goroutine writes in bulk, so that nobody waits for the disk, and that is
// rotated, so that it never grows beyond its bounds. What is in a line is in session_audit.go.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// An auditMode is a value of audit.
type auditMode string

const (
	auditOff    auditMode = "off"
	auditDenied auditMode = "denied" // what was denied
	auditAll    auditMode = "all"
)

// auditBuffer is how many bytes may wait for the disk: about 4,000 lines.
const auditBuffer = 1 << 20

// An auditFile is a file of lines, name, with its predecessors name.1, name.2 and so on.
type auditFile struct {
	name string
	most atomic.Int64                 // bytes before it is rotated
	keep atomic.Int64                 // predecessors that are kept
	tell func(name string, err error) // once when lines begin to be lost, with the error, and once when that is over, without

	wrote, lost *atomic.Int64 // lines

	mu      sync.Mutex
	waiting []byte // whole lines
	full    bool   // lines are being lost because the disk is too slow
	closed  bool
	wake    chan struct{} // holds one: something waits, or closed is true
	done    chan struct{} // closed when the goroutine has ended

	// These belong to the goroutine.
	f       *os.File
	size    int64
	half    halfLine
	failing bool // tell has been told
}

// bound sets how large the file gets, and how many predecessors it has.
func (a *auditFile) bound(most, keep int) {
	a.most.Store(int64(most))
	a.keep.Store(int64(keep))
}

// begin opens the file, which is made unless it is there, and starts to write. It has to be closed. An error that passes, as passes
// says, does not keep it from that: lines are lost until then.
func (a *auditFile) begin(passes func(error) bool) error {
	a.wake, a.done = make(chan struct{}, 1), make(chan struct{})
	a.takeUp(int(a.keep.Load())) // or else before the next rotation
	switch err := a.open(); {
	case err == nil:
	case !passes(err):
		return err
	default:
		a.complain(err)
	}
	go a.run()
	return nil
}

// try returns why the file cannot be opened, or nil. No file can always be.
func (a *auditFile) try() error {
	if a == nil {
		return nil
	}
	err := a.open()
	if err == nil {
		a.f.Close()
	}
	return err
}

// open opens the file for the writer. What is no regular file could block, or be read by others.
func (a *auditFile) open() error {
	info, err := os.Lstat(a.name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return errors.New("it is there and no regular file")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(a.name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if info, err = f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err != nil {
		f.Close()
		return err
	}
	a.f, a.size = f, info.Size()
	return nil
}

// put has a line, with its line feed, written soon. It never waits: a line for which there is no room is counted.
func (a *auditFile) put(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.waiting)+len(line) > auditBuffer {
		a.full = true
		a.lost.Add(1)
		return
	}
	a.waiting = append(a.waiting, line...)
	a.wakeLocked()
}

func (a *auditFile) wakeLocked() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run writes until close.
func (a *auditFile) run() {
	defer close(a.done)
	var spare []byte
	for range a.wake {
		a.mu.Lock()
		b, full, closed := a.waiting, a.full, a.closed
		a.waiting, a.full = spare[:0], false
		a.mu.Unlock()
		a.writeAll(b)
		if spare = b; full {
			a.complain(errors.New("the disk is too slow"))
		}
		if closed {
			break
		}
	}
	if a.f != nil {
		a.f.Close()
	}
}

// writeAll writes lines, and counts those that it cannot.
func (a *auditFile) writeAll(b []byte) {
	for len(b) > 0 {
		n, err := a.write(b)
		a.wrote.Add(int64(bytes.Count(b[:n], []byte("\n"))))
		if b = b[n:]; err != nil {
			a.lost.Add(int64(bytes.Count(b, []byte("\n"))))
			a.complain(err)
			return
		}
		a.recover()
	}
}

// write writes as many lines as go into the file, or else into the next one, and returns how many bytes of whole lines those are.
func (a *auditFile) write(b []byte) (n int, err error) {
	if a.f == nil {
		if err := a.open(); err != nil {
			return 0, err
		}
	}
	n = a.fitting(b)
	if n == 0 && a.size > 0 {
		if n, err = a.nextFile(b); err != nil {
			return 0, err
		}
	}
	if n == 0 { // a line that is longer than a file
		n = bytes.IndexByte(b, '\n') + 1
	}
	m, err := a.half.write(a.f, b[:n])
	a.size += int64(m)
	if err != nil {
		return bytes.LastIndexByte(b[:m], '\n') + 1, a.broken(err)
	}
	return n, nil
}

// broken closes the file after an error, so that the next line opens it anew: somebody may have put another disk there.
func (a *auditFile) broken(err error) error {
	a.f.Close()
	a.f = nil
	return err
}

// fitting is how many bytes of b are whole lines that go into the file.
func (a *auditFile) fitting(b []byte) int {
	room := a.most.Load() - a.size
	if room <= 0 {
		return 0
	}
	return bytes.LastIndexByte(b[:min(int64(len(b)), room)], '\n') + 1
}

// nextFile begins a new file, and returns how many bytes of b go into that. While the old one cannot be renamed, as on Windows while
// somebody reads it, it grows up to the size of all files together.
func (a *auditFile) nextFile(b []byte) (n int, err error) {
	a.f.Close()
	a.f = nil
	keep := int(a.keep.Load())
	stuck := a.rename(keep)
	if err := a.open(); err != nil {
		return 0, err
	}
	if stuck != nil && a.size >= a.most.Load()*int64(keep+1) {
		return 0, stuck
	}
	if stuck != nil {
		return len(b), nil
	}
	return a.fitting(b), nil
}

// rename makes the file the first of its predecessors. If that fails, no predecessor has been lost.
func (a *auditFile) rename(keep int) error {
	err := a.takeUp(keep)
	if err != nil {
		return err
	}
	if err = os.Rename(a.name, a.moved()); err != nil {
		return err
	}
	if err = a.number(keep); err != nil {
		os.Rename(a.moved(), a.name)
	}
	return err
}

// takeUp ends a rotation in which a daemon was killed: what it had moved would be replaced by the next one.
func (a *auditFile) takeUp(keep int) error {
	if !isThere(a.moved()) {
		return nil
	}
	return a.number(keep)
}

// number makes the file that was moved the first of its predecessors. Those in front of a number that nobody has make room: it may
// be the one where a daemon was killed, and then those behind it have made room already.
func (a *auditFile) number(keep int) error {
	if keep == 0 {
		return os.Remove(a.moved())
	}
	last := 1
	for last < keep && isThere(a.numbered(last)) {
		last++
	}
	for i := last; i > 1; i-- { // os.Rename replaces the oldest
		if err := os.Rename(a.numbered(i-1), a.numbered(i)); err != nil {
			return err
		}
	}
	return os.Rename(a.moved(), a.numbered(1))
}

// isThere reports whether there is a file, or may be one.
func isThere(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// moved is the name of the file between the two steps of a rotation.
func (a *auditFile) moved() string { return a.name + ".moved" }

// numbered is the name of a predecessor; the newest is 1.
func (a *auditFile) numbered(i int) string { return a.name + "." + strconv.Itoa(i) }

// complain tells why lines are lost, unless that was told.
func (a *auditFile) complain(err error) {
	if !a.failing {
		a.failing = true
		a.tell(a.name, err)
	}
}

// recover tells that lines are written again, if it was told that they are not.
func (a *auditFile) recover() {
	if a.failing {
		a.failing = false
		a.tell(a.name, nil)
	}
}

// close waits for what waits to be written, up to logEnd.
func (a *auditFile) close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	first := !a.closed
	a.closed = true
	a.wakeLocked()
	a.mu.Unlock()
	if !first {
		return nil
	}
	late := time.NewTimer(logEnd)
	defer late.Stop()
	select {
	case <-a.done:
		return nil
	case <-late.C:
		return fmt.Errorf("the end of the audit log was not written to %s in time", a.name)
	}
}
