//go:build unix

package main

// This file owns what "ipcd doctor" looks at where a socket is: who could replace it, to whom it is open, and whose its lock is.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// inspectUnix implements transport.inspect.
func inspectUnix(e endpoint, to audience, known bool) (found []Diagnosis) {
	info, err := os.Lstat(e.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // whoever calls hears of it
		return nil
	case err != nil:
		return []Diagnosis{{"socket", findingWarning, fmt.Sprintf("%s cannot be looked at: %v", e.Path, withoutPath(err)), ""}}
	case info.Mode()&fs.ModeSocket == 0:
		return []Diagnosis{{"socket", findingError, e.Path + " is no socket", "look what it is: ls -la " + e.Path}}
	}
	owner := ownerOf(info)
	found = append(found, inspectMode(e, to, known && owner == os.Getuid(), info), inspectDir(e, owner))
	if lock, is := inspectLock(e); is {
		found = append(found, lock)
	}
	return found
}

// inspectMode compares the mode of a socket with what its audience needs.
func inspectMode(e endpoint, to audience, known bool, info fs.FileInfo) Diagnosis {
	want, whom := fs.FileMode(0o600), "its user alone"
	switch {
	case to.all:
		want, whom = socketModes.all, to.String()
	case !to.isNobody():
		want, whom = socketModes.group, "the group "+to.String()
	}
	mode := info.Mode().Perm()
	text := fmt.Sprintf("%s belongs to %s and has the mode %04o", e.Path, nameUser(ownerOf(info)), mode)
	close := fmt.Sprintf("chmod %o %s", want, e.Path)
	switch {
	case !known || mode == want:
		return Diagnosis{"socket", findingOK, text, ""}
	case mode&^want != 0:
		return Diagnosis{"socket", findingError, fmt.Sprintf("%s; for %s it is %04o: others can connect, and only the daemon keeps them out", text, whom, want), "close it: " + close}
	}
	return Diagnosis{"socket", findingError, fmt.Sprintf("%s; for %s it is %04o: they cannot connect", text, whom, want), "open it: " + close}
}

// inspectDir says who could replace the socket of owner.
func inspectDir(e endpoint, owner int) Diagnosis {
	dir := filepath.Dir(e.Path)
	var wrong *fault
	if owner == os.Getuid() {
		errors.As(checkDir(e), &wrong)
	} else {
		wrong = unsafeWay(dir, owner, false)
	}
	if wrong != nil {
		return Diagnosis{"directory", findingError, wrong.Text, wrong.hint}
	}
	return Diagnosis{"directory", findingOK, fmt.Sprintf("nobody but %s and root can replace what is in %s", nameUser(owner), dir), ""}
}

// inspectLock says who holds the socket. Where a service manager has opened it there is no lock.
func inspectLock(e endpoint) (Diagnosis, bool) {
	path := e.Path + ".lock"
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return Diagnosis{}, false
	}
	f, err := os.Open(path)
	if err != nil { // another user's, which only they can read
		return Diagnosis{}, false
	}
	defer f.Close()
	h := readHolder(f)
	switch {
	case h.alive():
		return Diagnosis{"lock", findingOK, fmt.Sprintf("it is held by pid %d since %s", h.PID, h.Since.Local().Format(time.DateTime)), ""}, true
	case h.PID > 0:
		return Diagnosis{"lock", findingWarning, fmt.Sprintf("%s is left over from pid %d, which has ended", path, h.PID), "nothing need be done: the next daemon takes it over"}, true
	}
	return Diagnosis{"lock", findingWarning, path + " does not say who holds it", "see who does: lsof " + path}, true
}
