//go:build unix

package main

// This file owns whether a path can be relied on: what lies on the way to it, and who could change that. What
// to say about it is up to the callers: pipe_unix.go and pipe_dial_unix.go for sockets, config_file.go for the
// configuration, svc_unix.go for what a service uses. Its counterpart is sys_trust_windows.go.

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A place is one step on the way to a path: a directory, a symbolic link, or what is at the end.
type place struct {
	path string // free of links, unless the place itself is one
	info fs.FileInfo
	to   string // where a symbolic link leads; empty for everything else
	end  bool   // this is what the path leads to
	view groupView
}

const maxLinks = 40 // on the way to a path; Linux has the same limit, see path_resolution(7)

// wayTo walks from / to path as the kernel does, through links. Whoever relies on path has to look at every
// place on the way: who can change one of them decides where path leads. If there is an error, it comes last,
// with the path at which it occurred.
func wayTo(path string) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		at, rest, view := "/", components(path), groupView{}
		for links := 0; ; {
			p := place{path: at, view: view}
			var err error
			if p.info, err = os.Lstat(at); err != nil {
				yield(p, err)
				return
			}
			link := p.info.Mode()&fs.ModeSymlink != 0
			if link {
				if p.to, err = os.Readlink(at); err == nil && links == maxLinks {
					err = &fs.PathError{Op: "follow", Path: at, Err: syscall.ELOOP}
				}
				if err != nil {
					yield(p, err)
					return
				}
				links++
			}
			p.end = !link && len(rest) == 0
			if !yield(p, nil) || p.end {
				return
			}
			if link {
				rest = slices.Concat(components(p.to), rest)
				if at = filepath.Dir(at); filepath.IsAbs(p.to) {
					at = "/"
				}
			}
			if len(rest) > 0 {
				at, rest = filepath.Join(at, rest[0]), rest[1:] // at is free of links, so ".." means what it says
			}
		}
	}
}

func components(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

// systemPlace returns what path leads to, if there are no links on the way but the system's own.
func systemPlace(path string) (place, bool) {
	for p, err := range wayTo(path) {
		switch {
		case err != nil, p.to != "" && !p.isSystemLink():
			return place{}, false
		case p.end:
			return p, true
		}
	}
	return place{}, false
}

// isSystemLink reports whether p is a link that the system comes with: root's in / or /var, such as /tmp and /var
// on macOS, or /var/run on Linux.
func (p place) isSystemLink() bool {
	return p.to != "" && ownerOf(p.info) == 0 && slices.Contains([]string{"/", "/var", "/private/var"}, filepath.Dir(p.path))
}

// A risk is what somebody else, neither root nor the user in question, can do to a place.
type risk int

const (
	riskNone    risk = iota
	riskAdded        // add to it, but not touch what others have there: a sticky directory, such as /tmp
	riskOpen         // change what is in it
	riskForeign      // anything: it is theirs
)

// risk judges a place by its owner and mode, as sshd(8) judges ~/.ssh. The mode of a link means nothing: it is
// up to the directory whether the link can be replaced, and nobody can change it otherwise.
func (p place) risk(uid int) risk {
	owner := ownerOf(p.info)
	switch {
	case owner != 0 && owner != uid:
		return riskForeign
	case p.to != "" || !p.isOpen(uid):
		return riskNone
	case p.info.IsDir() && p.info.Mode()&fs.ModeSticky != 0:
		return riskAdded
	}
	return riskOpen
}

// isOpen reports whether others than root and uid can write to p. groupRunDir counts as closed as long as it is as macOS
// made it: root's, and writable by the group daemon (1), which has no human members. So does what a group can write to
// that nobody else is in.
func (p place) isOpen(uid int) bool {
	gid := int(p.info.Sys().(*syscall.Stat_t).Gid)
	switch open := p.info.Mode().Perm() & 0o022; {
	case open&0o002 != 0:
		return true
	case open == 0, p.path == groupRunDir && ownerOf(p.info) == 0 && gid == 1:
		return false
	}
	return p.view.hasOthers(gid, uid)
}

// unsafeWay says why the user uid, or root, cannot rely on what path leads to: somebody else can change it, or make
// path lead somewhere else. It is nil if they can. With closed, nobody else may even add to the directory that
// path leads to. The hint is about the place that is at fault.
func unsafeWay(path string, uid int, closed bool) *fault {
	for p, err := range wayTo(path) {
		switch {
		case errors.Is(err, syscall.ELOOP):
			return faultf(codeApplication, "%s is a symbolic link that leads nowhere", p.path)
		case err != nil:
			return faultf(codeApplication, "look at %s: %w", p.path, err)
		}
		switch danger := p.risk(uid); {
		case danger == riskForeign:
			f := faultf(codeApplication, "%s belongs to %s", p.path, nameUser(ownerOf(p.info)))
			switch {
			case uid != 0:
				return f.withHint("use a copy of your own")
			case p.end:
				return f.withHint("make it root's: chown root %s", p.path)
			}
			return f.withHint("use a copy that is root's, in a directory of root's")
		case danger == riskOpen, danger == riskAdded && p.end && closed:
			return faultf(codeApplication, "others can write to %s (mode %04o)", p.path, p.info.Mode().Perm()).withHint("close it: chmod go-w %s", p.path)
		}
	}
	return nil
}

// exposedFile says who besides us and root can read a file that is to be a secret, or is nil. Where it is root's, its group may: only
// root can have given it to one.
func exposedFile(path string) *fault {
	info, err := os.Stat(path)
	if err != nil {
		return faultf(codeApplication, "%w", err)
	}
	others := info.Mode().Perm() & 0o077
	if ownerOf(info) == 0 {
		others &^= 0o040
	}
	if others != 0 {
		return faultf(codeApplication, "others can get at %s (mode %04o)", path, info.Mode().Perm()).withHint("close it: chmod 600 %s", path)
	}
	return nil
}

// createSecret creates a file that nobody but us and root can read. It must not exist.
func createSecret(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// distrustFile says who could have written a configuration besides us and root, or is nil.
func distrustFile(path string) *fault {
	path, err := filepath.Abs(path)
	if err != nil {
		return faultf(codeApplication, "%w", err)
	}
	return unsafeWay(path, os.Getuid(), false)
}

// distrustState says who besides a daemon, in whose state directory the file at path is, and root could have written or can read it,
// or is nil. Whom a service runs as only the owner of the directory tells.
func distrustState(path string, _ instance) *fault {
	uid := os.Getuid()
	if info, err := os.Stat(filepath.Dir(path)); err == nil && uid == 0 {
		uid = ownerOf(info)
	}
	if f := unsafeWay(path, uid, false); f != nil {
		return f
	}
	return exposedFile(path)
}

// giveTo gives a new file of root's to whoever owns the directory that it is in: that is whom the service runs as.
func giveTo(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Getuid() != 0 || ownerOf(info) == 0 {
		return err
	}
	return f.Chown(ownerOf(info), int(info.Sys().(*syscall.Stat_t).Gid))
}
