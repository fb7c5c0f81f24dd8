//go:build unix

package main

// This file owns the lock that says which process a socket belongs to.

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A pathLock is the lock file next to a socket. Whoever holds the lock owns the socket; the kernel releases
// it when the process ends, however it ends.
type pathLock struct {
	file *os.File
	path string
}

// A holder is what the lock file says about the process that holds it.
type holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// lockPath takes the lock of e. If the holder removes the file between our open and our lock, we have locked a
// file that is no longer at the path, and start over.
func lockPath(e endpoint) (*pathLock, error) {
	path := e.Path + ".lock"
	for {
		// O_NONBLOCK: a FIFO in its place must not block us. O_NOFOLLOW: nor may a link lead us away.
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, lockFault(e, path, err)
		}
		l := &pathLock{file: os.NewFile(uintptr(fd), path), path: path}
		if err := l.check(e); err != nil {
			l.file.Close()
			return nil, err
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			err = heldBy(e, l.file, err)
			l.file.Close()
			return nil, err
		}
		if !l.current() {
			l.file.Close()
			continue
		}
		if err := l.sign(); err != nil {
			l.release()
			return nil, listenFault(e, "write the lock file: %w", err).withHint("see whether there is space left: df %s", filepath.Dir(path))
		}
		return l, nil
	}
}

// adoptLock takes over a lock that the program before us in this process has left to us.
func adoptLock(e endpoint, file *os.File) (*pathLock, error) {
	l := &pathLock{file: file, path: e.Path + ".lock"}
	if file == nil || !l.current() {
		return nil, listenFault(e, "%s, the lock file that this process has held, was replaced", l.path).withHint("look at the directory: ls -la %s", filepath.Dir(e.Path))
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // nothing, for who has it
		return nil, heldBy(e, file, err)
	}
	if err := l.sign(); err != nil { // it says since when
		return nil, listenFault(e, "write the lock file: %w", err).withHint("see whether there is space left: df %s", filepath.Dir(l.path))
	}
	return l, nil
}

// check refuses a lock file that another user could hold, and a second name of some other file of ours, which
// sign would overwrite.
func (l *pathLock) check(e endpoint) error {
	info, err := l.file.Stat()
	if err != nil {
		return listenFault(e, "look at the lock file: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || int(st.Uid) != os.Getuid() || st.Nlink > 1 {
		return listenFault(e, "%s, its lock file, is not ours alone: it belongs to %s", l.path, nameUser(int(st.Uid))).
			withHint("choose a directory of your own")
	}
	return nil
}

// current reports whether the locked file is still the one at the path.
func (l *pathLock) current() bool {
	ours, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(l.path)
	return err == nil && os.SameFile(ours, there)
}

// sign writes who holds the lock, for those who come later: in one write, so that they read all of it or what
// was there before.
func (l *pathLock) sign() error {
	b, err := json.Marshal(holder{PID: os.Getpid(), Since: time.Now()})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := l.file.WriteAt(b, 0); err != nil {
		return err
	}
	return l.file.Truncate(int64(len(b)))
}

// release removes the file while it is still locked, so that it is certainly ours.
func (l *pathLock) release() error {
	var err error
	if l.current() {
		err = os.Remove(l.path)
	}
	return errors.Join(err, l.file.Close())
}

func lockFault(e endpoint, path string, err error) *fault {
	info, statErr := os.Lstat(path)
	switch {
	case statErr == nil && info.Mode()&fs.ModeSymlink != 0:
		return listenFault(e, "%s, its lock file, is a symbolic link", path).withHint("remove it: rm %s", path)
	case statErr == nil && info.IsDir():
		return listenFault(e, "%s, its lock file, is a directory", path).withHint("remove it: rmdir %s", path)
	case statErr == nil && ownerOf(info) != os.Getuid():
		return listenFault(e, "%s, its lock file, belongs to %s", path, nameUser(ownerOf(info))).withHint("choose a directory of your own")
	}
	return listenFault(e, "open the lock file: %w", err).withHint("choose a directory of your own")
}

// heldBy says who holds the lock. A holder signs right after it has locked; in between, the file may be empty
// or still name a process that is dead.
func heldBy(e endpoint, file io.ReaderAt, err error) *fault {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return listenFault(e, "lock its lock file: %w", err).withHint("choose a directory on a local disk")
	}
	ctx, cancel := context.WithTimeout(context.Background(), signPatience)
	defer cancel()
	var h holder
	f := listenFault(e, "another process holds it").withHint("see which with: lsof %s.lock", e.Path)
	if known, _ := again(ctx, 10*time.Millisecond, 10*time.Millisecond, func() (bool, error) { h = readHolder(file); return h.alive(), nil }); known {
		f = listenFault(e, "it is held by pid %d since %s", h.PID, h.Since.Local().Format(time.DateTime)).
			withHint("call it, stop it (%s), or name another endpoint with --listen", endLine(h.PID))
	}
	f.err = err
	return f
}

const signPatience = 200 * time.Millisecond // for the holder to sign what it has just locked

func readHolder(file io.ReaderAt) holder {
	var h holder
	b, _ := io.ReadAll(io.NewSectionReader(file, 0, 1<<10))
	if json.Unmarshal(b, &h) != nil {
		return holder{}
	}
	return h
}

// alive reports whether there is such a process that can still do something: one that has ended stays in the list until its
// parent takes note, which in a container may be never.
func (h holder) alive() bool {
	if h.PID <= 0 {
		return false
	}
	err := unix.Kill(h.PID, 0)
	return (err == nil || err == unix.EPERM) && !isZombie(h.PID)
}
