//go:build unix

package main

// This file owns whom the file system lets change what is at a path, and so whether we may rely on it.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkDir makes sure that nobody but root and us can put anything else at the path of the
// socket, now or later: every directory on the way is root's or ours and closed to the writing
// of others, or sticky, where others can only add. This is what sshd(8) asks of ~/.ssh.
func checkDir(e endpoint) error {
	dir, err := resolveSystemLinks(e)
	if err != nil {
		return err
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return dirFault(e, at, err)
		}
		if err := checkOneDir(e, at, info, at == dir); err != nil {
			return err
		}
		if at == "/" {
			break
		}
	}
	// access(2) asks for the real user, but ours is never set-uid.
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return listenFault(e, "the directory %s is not writable for us: %w", dir, err).withHint("choose a directory of your own")
	}
	return nil
}

// dirFault is for a directory that cannot be looked at.
func dirFault(e endpoint, at string, err error) *fault {
	if errors.Is(err, fs.ErrNotExist) {
		return listenFault(e, "there is no directory %s", at).withHint("make it: mkdir -p -m 700 %s", filepath.Dir(e.Path))
	}
	return listenFault(e, "%w", err).withHint("choose a directory of your own")
}

func checkOneDir(e endpoint, at string, info fs.FileInfo, last bool) error {
	uid, mode := ownerOf(info), info.Mode()
	open := isOpen(at, info)
	switch {
	case !info.IsDir():
		return listenFault(e, "%s is no directory", at).withHint("choose a directory of your own")
	case uid != 0 && uid != os.Getuid():
		return listenFault(e, "the directory %s belongs to %s, who could replace the socket", at, nameUser(uid)).
			withHint("choose a directory of your own")
	case open && mode&fs.ModeSticky == 0:
		return listenFault(e, "the directory %s is open to the writing of others (mode %04o), who could replace the socket", at, mode.Perm()).
			withHint("close it: chmod go-w %s", at)
	case open && last && !e.Shared:
		e.Shared = true
		return listenFault(e, "everybody can put files into the directory %s", at).
			withHint("choose a directory of your own, or say that you know: %s", e)
	case last && !open && isFallbackDir(e, at) && mode.Perm()&0o067 != 0: // a group that may call can enter it
		return listenFault(e, "the directory %s is open to others (mode %04o)", at, mode.Perm()).withHint("close it: chmod 700 %s", at)
	}
	return nil
}

// isOpen tells whether others can put files into the directory at. groupRunDir counts as closed
// while it is as its system has made it: root's, and open to the group daemon (1), in which are no people.
func isOpen(at string, info fs.FileInfo) bool {
	open := info.Mode().Perm() & 0o022
	if at == groupRunDir && ownerOf(info) == 0 && info.Sys().(*syscall.Stat_t).Gid == 1 {
		open &= 0o002
	}
	return open != 0
}

// isFallbackDir tells whether at, the directory of e, is that of a default endpoint of the user's,
// which is nobody else's to look into.
func isFallbackDir(e endpoint, at string) bool {
	name, ok := instanceOf(e)
	if !ok {
		name = defaultName
	}
	own, err := userEndpoint(name)
	return err == nil && filepath.Dir(own.Path) == at
}

// resolveSystemLinks returns the directory of e with the links resolved that the system itself
// has: root's in / and /var, such as macOS's /tmp and /var, or Linux's /var/run. Any other link
// is refused: whoever can change it decides where the socket is.
func resolveSystemLinks(e endpoint) (string, error) {
	at := "/"
	rest := strings.Split(strings.Trim(filepath.Dir(e.Path), "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return "", dirFault(e, next, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", dirFault(e, next, err)
		}
		if links++; ownerOf(info) != 0 || at != "/" && at != "/var" && at != "/private/var" || links > 8 {
			c := e
			if real, err := filepath.EvalSymlinks(filepath.Dir(e.Path)); err == nil {
				c.Path = filepath.Join(real, filepath.Base(e.Path))
			}
			return "", listenFault(e, "%s on its way is a symbolic link to %s, which can be changed", next, target).
				withHint("name the place itself: %s", c)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return at, nil
}
