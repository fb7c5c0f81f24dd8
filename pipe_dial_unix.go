//go:build unix

package main

// This file owns dialling a Unix socket: who may be behind it, and what it means if nobody answers.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialUnix connects to the socket at e.Path and makes sure who serves it.
func dialUnix(ctx context.Context, e endpoint, _ dialOptions) (net.Conn, error) {
	if err := checkLength(e); err != nil {
		return nil, err
	}
	expected, err := expectedOwner(e)
	if err != nil {
		return nil, err
	}
	if err := checkSocket(e, expected); err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var conn net.Conn
	done, err := again(patience, time.Millisecond, 50*time.Millisecond, func() (bool, error) {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, "unix", e.Path)
		return err == nil || !passes(e, err), err
	})
	switch {
	case err == nil:
	case !done && errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	default:
		return nil, dialUnixFault(e, err)
	}
	if err := checkServer(e, expected, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialPatience is how long to keep trying while a daemon is busy; --wait makes it longer.
const dialPatience = 900 * time.Millisecond

// passes reports whether the error may be gone in a moment. A full backlog is EAGAIN on Linux and ECONNREFUSED
// elsewhere. The latter may also mean that nobody listens; but whoever holds the lock file does, or is about
// to. The pid in that file decides about nothing but the wait.
func passes(e endpoint, err error) bool {
	if errors.Is(err, syscall.EAGAIN) {
		return true
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	f, err := os.OpenFile(e.Path+".lock", os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return readHolder(f).alive()
}

// checkSocket examines the file before we connect: on Linux, connect(2) says ECONNREFUSED for a plain file, as it does
// for a socket that nobody serves. What lies on the way matters only if something is there.
func checkSocket(e endpoint, expected int) error {
	info, err := os.Stat(e.Path)
	if err != nil {
		return dialUnixFault(e, err)
	}
	if err := checkLinks(e); err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSocket == 0:
		what := "a file"
		if info.IsDir() {
			what = "a directory"
		}
		return dialFault(nil, "no daemon at %s: that is %s and no socket", e, what).
			withHint("name the socket of a daemon with -e")
	case !isTrusted(e, expected, ownerOf(info)):
		return foreign(e, "the socket", ownerOf(info))
	}
	return nil
}

// checkLinks makes sure that nobody but root and us has chosen the socket at e. A link leads wherever its owner likes, if
// only to the socket of another service of root's, so one that a third user has put there is not followed. The way
// to our default endpoint, which nobody has typed, has to be as the daemon wants it.
func checkLinks(e endpoint) error {
	for p, err := range wayTo(e.Path) {
		switch {
		case err != nil:
			return dialUnixFault(e, err)
		case p.to != "" && p.risk(os.Getuid()) == riskForeign:
			return faultf(codeDenied, "%s on the way to %s is a symbolic link of %s; nothing was sent to where it leads", p.path, e, nameUser(ownerOf(p.info))).
				withHint("name the place itself with -e, if it is the right one")
		}
	}
	dir := filepath.Dir(e.Path)
	if !isFallbackDir(e, dir) {
		return nil
	}
	for p, err := range wayTo(dir) {
		if err != nil {
			return dialUnixFault(e, err)
		}
		if f := distrust(e, p); f != nil {
			return faultf(codeDenied, "somebody else may serve %s: %w; nothing was sent to it", e, f).withHint("%s", f.hint)
		}
	}
	return nil
}

// noOwner is the user whom an endpoint expects that names none.
const noOwner = -1

// expectedOwner returns the uid of the user whom ?owner= names.
func expectedOwner(e endpoint) (int, error) {
	if e.Owner == "" {
		return noOwner, nil
	}
	text, err := userID(e.Owner)
	if errors.Is(err, fs.ErrNotExist) {
		return noOwner, usagef("the owner of the endpoint %s is unknown: there is no user %q", e, shorten(e.Owner, 100)).withHint("name the user who runs the daemon, or the uid")
	}
	if err != nil {
		return noOwner, faultf(codeApplication, "the owner of the endpoint %s cannot be looked up: %w", e, err).withHint("name the uid")
	}
	return strconv.Atoi(text)
}

// isTrusted reports whether the user uid may serve e: root, or the one that the endpoint expects. If it names none, that is
// ourselves, or the one whom root has given the place. The socket of a service that runs as a user of its own is runDir/NAME/NAME.sock; runDir is root's, so whoever
// owns a directory right in it was given it by root.
func isTrusted(e endpoint, expected, uid int) bool {
	switch {
	case uid == 0:
		return true
	case expected != noOwner:
		return uid == expected
	case uid == os.Getuid():
		return true
	}
	dir, found := systemPlace(filepath.Dir(e.Path))
	run, there := systemPlace(runDir)
	name, named := instanceOf(e)
	if !found || !there || !named || dir.path != filepath.Join(run.path, name) {
		return false
	}
	return run.risk(0) == riskNone && dir.info.IsDir() && ownerOf(dir.info) == uid && dir.risk(uid) == riskNone
}

// checkServer asks the kernel who listens, before a byte is sent: the socket may have been replaced since its owner
// was checked, where others can write to the directory.
func checkServer(e endpoint, expected int, conn net.Conn) error {
	p, err := identifyUnix(conn)
	if err != nil {
		return faultf(codeDenied, "the system does not say who serves %s: %w", e, err).withHint("try again, or name another endpoint with -e")
	}
	if !isTrusted(e, expected, p.UID) {
		return foreign(e, "the daemon", p.UID)
	}
	return nil
}

func foreign(e endpoint, what string, uid int) *fault {
	f := faultf(codeDenied, "%s at %s belongs to %s; nothing was sent to it", what, e, nameUser(uid))
	name := userName(uid)
	as := name
	if name == "" {
		name, as = strconv.Itoa(uid), "#"+strconv.Itoa(uid)
	}
	expect := "-e " + joinWords([]string{e.withOwner(name).String()})
	switch {
	case e.Owner != "":
		f.Text = fmt.Sprintf("%s at %s belongs to %s, whom the endpoint does not expect; nothing was sent to it", what, e.withOwner(""), nameUser(uid))
		return f.withHint("if that is the right one: %s", expect)
	case os.Getuid() != 0:
		return f.withHint(`if you expect that user there, say so: %s; or start one of your own with "ipcd run"`, expect)
	}
	return f.withHint("call as that user: sudo -u %s %s; or if you expect that user there, say so: %s", joinWords([]string{as}), joinWords(os.Args), expect)
}

// dialUnixFault says why the connection failed and what can be done about it.
func dialUnixFault(e endpoint, err error) *fault {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return dialFault(err, "no daemon at %s", e).withHint("%s, or name another endpoint with -e", startHint("start one with", e))
	case errors.Is(err, fs.ErrPermission):
		at, uid := deniedAt(e.Path)
		f := dialFault(err, "no permission for %s: %s belongs to %s", e, at, nameUser(uid))
		if name := groupWithAccess(at); name != "" {
			return f.withHint("call as a member of the group %s: sudo usermod -aG %[1]s USER, and log in again", name)
		}
		return f.withHint(`call as that user, have --allow-group let a group of yours call, or start a daemon of your own with "ipcd run"`)
	case errors.Is(err, syscall.ECONNREFUSED) && !passes(e, err):
		return dialFault(err, "no daemon at %s: one has been here and is gone", e).
			withHint("%s; it replaces the socket that is left over", startHint("start it again with", e))
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EAGAIN), isTimeout(err):
		return dialFault(err, "the daemon at %s is busy: it accepts no connection now", e).withHint("try again; --wait 5s does it for you")
	case errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, syscall.ENOTSOCK):
		return dialFault(err, "no daemon at %s: that is no socket for streams", e).withHint("name the socket of a daemon with -e")
	}
	return dialFault(err, "cannot reach %s: %v", e, err).withHint("name another endpoint with -e")
}

// deniedAt finds what keeps us out on the way to path: the first directory that we cannot search, or the socket
// itself. uid is its owner.
func deniedAt(path string) (at string, uid int) {
	at = "/"
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		info, err := os.Stat(at)
		if err != nil || unix.Access(at, unix.X_OK) != nil {
			break
		}
		uid, at = ownerOf(info), filepath.Join(at, name)
	}
	if info, err := os.Stat(at); err == nil {
		uid = ownerOf(info)
	}
	return at, uid
}

// groupWithAccess returns the group whose members are let through at path, or nothing.
func groupWithAccess(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o010 == 0 && info.Mode().Perm()&0o060 != 0o060 {
		return ""
	}
	gid := info.Sys().(*syscall.Stat_t).Gid
	g, err := groupNumbered(int(gid))
	if err != nil || gid == 0 {
		return ""
	}
	return g.name
}
