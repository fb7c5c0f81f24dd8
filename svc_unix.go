//go:build unix

package main

// This file owns what Unix demands of a service before it is installed: who may install it, who could change its
// program, configuration and sockets, and that there is one installation at a time. Its twin is svc_windows.go.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkRights makes sure that we may change services, and for the right user: su(1) leaves $XDG_RUNTIME_DIR as it
// was.
func checkRights(user bool) error {
	run := os.Getenv("XDG_RUNTIME_DIR")
	info, err := os.Stat(run)
	switch {
	case user && err == nil && ownerOf(info) != os.Getuid():
		return faultf(codeApplication, "$XDG_RUNTIME_DIR is %s, which belongs to %s; nothing was changed", run, nameUser(ownerOf(info))).
			withHint("log in as the user whose service it is to be")
	case user && os.Getuid() == 0 && os.Getenv("SUDO_UID") != "":
		return faultf(codeApplication, "a service of one's own is installed without sudo").
			withHint("as yourself: %s", joinWords(commandLine()))
	case !user && os.Getuid() != 0:
		return faultf(codeApplication, "this takes root: a service of the system is root's to change; nothing was changed").
			withHint("sudo %s, or --user for a service of your own", joinWords(commandLine()))
	}
	return nil
}

// checkAccount makes sure that the user exists as which the service is to run.
func checkAccount(name string) error {
	switch _, err := findUser(name); {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("--run-as: there is no user %q", shorten(name, 60)).withHint("leave it out: the service then has no more rights than it needs")
	case err != nil:
		return usagef("--run-as: %w", err).withHint("see what the system says: getent passwd %s", shorten(name, 60))
	}
	return nil
}

// checkProgram refuses a program that others could replace: what the system runs as a service has to be as safe as
// what root runs.
func checkProgram(d *deployment) error {
	if err := checkPlace(d.Program); err != nil {
		return d.copyInstead(err)
	}
	if err := checkHidden(d, d.Program); err != nil {
		return d.copyInstead(err)
	}
	if err := checkEntry(d, d.Program); err != nil {
		return err
	}
	return checkOwners(d.Program, d.owner(), d.copyInstead)
}

// checkWorkerPath is checkProgram for the program and the directory of a worker.
func checkWorkerPath(d *deployment, path string) error {
	if err := checkHidden(d, path); err != nil && !d.needs(needHome) {
		return asFault(err).withHint("put it where the service sees it, or, if it is in a home, add home to needs of the worker")
	}
	if err := checkEntry(d, path); err != nil {
		return err
	}
	return checkOwners(path, d.owner(), func(err error) error { return err })
}

// checkEntry refuses a directory on the way to path that the user whom the system has for the service cannot enter, as far
// as there are any yet.
func checkEntry(d *deployment, path string) error {
	for p, err := range wayTo(path) {
		switch {
		case err != nil || d.user || d.RunAs != "":
			return nil
		case p.info.IsDir() && p.info.Mode().Perm()&0o001 == 0:
			return usagef("%s cannot be entered by the user that the service runs as (mode %04o)", p.path, p.info.Mode().Perm()).
				withHint("let others pass: chmod o+x %s", p.path)
		}
	}
	return nil
}

// owner is the user who may own what the service uses, besides root.
func (d *deployment) owner() int {
	if d.user {
		return os.Getuid()
	}
	return 0
}

// checkHidden refuses a path that the service cannot see, or that will not last: in a home, or in a directory for
// temporary files.
func checkHidden(d *deployment, path string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for _, hidden := range temporary {
		if within(path, hidden) {
			return faultf(codeApplication, "%s is in a directory for temporary files", path)
		}
	}
	for _, hidden := range homes {
		if !d.user && within(path, hidden) {
			return faultf(codeApplication, "%s is in a home, which a service of the system does not see", path)
		}
	}
	return nil
}

// checkCopy refuses a place for the program that others could change, or where another program is.
func checkCopy(d *deployment) error {
	advise := d.copyInstead
	switch info, err := os.Lstat(d.Program); {
	case err != nil:
	case !info.Mode().IsRegular():
		return advise(faultf(codeApplication, "%s is no file", d.Program))
	case !isOurProgram(d.Program):
		return advise(faultf(codeApplication, "%s is there already, and is not ipcd", d.Program))
	}
	if err := checkHidden(d, d.Program); err != nil {
		return advise(err)
	}
	if err := checkEntry(d, filepath.Dir(d.Program)); err != nil {
		return err
	}
	return checkFuture(filepath.Dir(d.Program), d.owner(), false, advise)
}

// checkFuture is checkOwners for a directory that need not exist yet. If it does not, nobody else may be able to make
// it first; in a sticky directory everybody is. With shared, dir itself may be sticky.
func checkFuture(dir string, uid int, shared bool, advise func(error) error) error {
	at := dir
	for _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) && at != "/"; _, err = os.Stat(at) {
		if _, err := os.Lstat(at); err == nil {
			return advise(faultf(codeApplication, "%s is a symbolic link to nothing", at))
		}
		at = filepath.Dir(at)
	}
	return checkWay(at, uid, !(shared && at == dir), advise)
}

// checkSockets refuses sockets in places that others could change, or where something else is: systemd, which
// listens as root, would remove it.
func checkSockets(d *deployment) error {
	for _, e := range d.Endpoints {
		if e.Scheme != "unix" {
			continue
		}
		advise := func(err error) error {
			return usagef("cannot listen on %s: %w", e, err).withHint("leave out --listen, and it is unix://%s", serviceEndpoint(d.name).Path)
		}
		if info, err := os.Lstat(e.Path); err == nil && info.Mode()&fs.ModeSocket == 0 {
			return advise(faultf(codeApplication, "something that is no socket is there already"))
		}
		dir := filepath.Dir(e.Path)
		if err := checkHidden(d, dir); err != nil && !d.user {
			return advise(err)
		}
		if err := checkFuture(dir, d.owner(), e.Shared, advise); err != nil {
			return err
		}
	}
	return nil
}

// removeProgram removes a program, even one that is running.
func removeProgram(path string) (later bool, err error) { return false, os.Remove(path) }

// copyPlaceFor is where --copy-to puts the program by default.
func copyPlaceFor(user bool) string {
	if home, err := os.UserHomeDir(); user && err == nil {
		return filepath.Join(home, ".local", "bin", "ipcd") // file-hierarchy(7)
	}
	return copyPlace
}

// homes are the directories that ProtectHome= of systemd.exec(5) hides, and the homes of other systems.
var homes = []string{"/home", "/root", "/run/user", "/Users", "/usr/home"}

// temporary are directories that are emptied now and then; a service of systemd sees its own in their place.
var temporary = []string{"/tmp", "/var/tmp", "/dev/shm"}

// copyInstead adds the hint where the program could be instead.
func (d *deployment) copyInstead(err error) error {
	switch usual := copyPlaceFor(d.user); {
	case d.Copied && d.Program == usual && hintFor(err) != "":
		return err // it says how to make that place safe
	case d.Copied && d.Program == usual:
		return asFault(err).withHint("choose another place: --copy-to=PATH")
	case d.Copied:
		return asFault(err).withHint("leave out the path, and it is %s", usual)
	}
	return asFault(err).withHint("let install copy the program to a place that lasts: %s --copy-to", joinWords(commandLine()))
}

func within(path, dir string) bool { return strings.HasPrefix(path, dir+"/") }

// checkOwners makes sure that nobody but root and uid can change what is at path, or make path lead somewhere else.
// advise adds the hint.
func checkOwners(path string, uid int, advise func(error) error) error {
	return checkWay(path, uid, false, advise)
}

// checkWay is checkOwners. With closed, nobody else may even add to the directory that path leads to.
func checkWay(path string, uid int, closed bool, advise func(error) error) error {
	f := unsafeWay(path, uid, closed)
	if f == nil {
		return nil
	}
	return advise(faultf(codeApplication, "%w; whoever can change it can change what the service does", f).withHint("%s", f.hint))
}

// checkServiceConfig makes sure that the service can read its configuration, and that nobody else can change it.
func checkServiceConfig(d *deployment) error {
	path := d.ConfigFile
	if path == "" {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return usagef("%s: %w; expected a configuration in TOML", path, errors.Unwrap(err))
	}
	advise := func(err error) error { return usagef("%w", err).withHint("%s", hintFor(err)) }
	if d.user {
		return checkOwners(path, os.Getuid(), advise)
	}
	if err := checkHidden(d, path); err != nil {
		return usagef("%w", err).withHint("put it where services are configured: %s", serviceConfigFile(d.name))
	}
	if err := checkOwners(path, 0, advise); err != nil { // path, not what it leads to now: the service is given path
		return err
	}
	if err := checkEntry(d, path); err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err == nil && d.RunAs != "root" && info.Mode().Perm()&0o004 == 0 {
		return usagef("%s cannot be read by the user that the service runs as (mode %04o)", real, info.Mode().Perm()).
			withHint("chmod 644 %s; it is no place for a secret", real)
	}
	return nil
}

// lockServices makes installations take turns. The lock is a file in a directory where only those can create one who
// may install.
func lockServices(ctx context.Context, user bool) (unlock func(), err error) {
	dir := runDir
	if user {
		if dir = os.Getenv("XDG_RUNTIME_DIR"); dir == "" {
			if dir, err = os.UserHomeDir(); err != nil {
				return nil, fmt.Errorf("lock the services: %w", err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	var l *pathLock
	done, err := again(ctx, lockLook, lockLook, func() (bool, error) {
		var err error
		l, err = lockPath(endpoint{Scheme: "unix", Path: filepath.Join(dir, "ipcd-install")})
		return !errors.Is(err, unix.EWOULDBLOCK), err
	})
	switch {
	case !done:
		return nil, faultf(codeApplication, "another installation is going on, and has not ended within %s", lockLimit).
			withHint("see what it is doing: ps -ef | grep ipcd")
	case err != nil:
		return nil, fmt.Errorf("lock the services: %w", err)
	}
	return func() { l.release() }, nil
}
