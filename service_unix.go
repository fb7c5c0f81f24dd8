//go:build unix

package main

// This file owns what service managers on Unix have in common: who may ask them for something, who
// may change the program of a service and its configuration, and one installation at a time.
// Its twin is service_windows.go.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// checkRights makes sure that we may change services.
func checkRights(user bool) error {
	switch {
	case user && os.Getuid() == 0 && os.Getenv("SUDO_UID") != "":
		return faultf(codeApplication, "a service of one's own is installed without sudo").
			withHint("as yourself: %s", joinWords(commandLine()))
	case !user && os.Getuid() != 0:
		return faultf(codeApplication, "this takes root: a service of the system is root's to change; nothing was changed").
			withHint("sudo %s, or --user for a service of your own", joinWords(commandLine()))
	}
	return nil
}

// checkAccount makes sure that there is a user as whom the service can run.
func checkAccount(name string) error {
	if _, err := user.Lookup(name); err != nil {
		return usagef("--run-as: there is no user %q", shorten(name, 60)).withHint("leave it out: the service then has no more rights than it needs")
	}
	return nil
}

// checkProgram refuses a program that others could put something else in the place of: what the
// system runs as a service must be as safe as what root runs.
func checkProgram(d *deployment) error {
	if err := checkPlace(d.Program); err != nil {
		return copyInstead(err)
	}
	for _, hidden := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		if within(d.Program, hidden) {
			return copyInstead(faultf(codeApplication, "%s is in a directory for temporary files", d.Program))
		}
	}
	if d.User {
		return checkOwners(d.Program, os.Getuid(), copyInstead)
	}
	for _, hidden := range homes {
		if within(d.Program, hidden) {
			return copyInstead(faultf(codeApplication, "%s is in a home, which a service of the system does not see", d.Program))
		}
	}
	return checkOwners(d.Program, 0, copyInstead)
}

// checkCopy refuses a place for the program that others could change.
func checkCopy(d *deployment) error {
	uid := 0
	if d.User {
		uid = os.Getuid()
	}
	advise := func(err error) error {
		return asFault(err).withHint("leave out the path, and it is %s", copyPlaceFor(d.User))
	}
	if info, err := os.Lstat(d.Program); err == nil && !info.Mode().IsRegular() {
		return advise(faultf(codeApplication, "%s is no file", d.Program))
	}
	at := filepath.Dir(d.Program)
	for _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist); _, err = os.Lstat(at) { // install makes it
		at = filepath.Dir(at)
	}
	if real, err := filepath.EvalSymlinks(at); err == nil {
		at = real
	}
	return checkOwners(at, uid, advise)
}

// masters are those who can call every service of the system: see isMaster.
const masters = "root"

// copyPlaceFor is where the program goes unless somebody says otherwise.
func copyPlaceFor(user bool) string {
	if home, err := os.UserHomeDir(); user && err == nil {
		return filepath.Join(home, ".local", "bin", "ipcd") // file-hierarchy(7)
	}
	return copyPlace
}

// homes are what ProtectHome= of systemd.exec(5) hides, and the homes of other systems.
var homes = []string{"/home", "/root", "/run/user", "/Users", "/usr/home"}

func copyInstead(err error) error {
	return asFault(err).withHint("let install copy the program to a place that lasts: %s --copy-to", joinWords(commandLine()))
}

func within(path, dir string) bool { return strings.HasPrefix(path, dir+"/") }

// checkOwners makes sure that nobody but root and uid can change path, or what is on the way
// to it. advise adds what can be done.
func checkOwners(path string, uid int, advise func(error) error) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return advise(fmt.Errorf("look at %s: %w", at, err))
		}
		owner, mode := ownerOf(info), info.Mode()
		switch {
		case mode&fs.ModeSymlink != 0:
			return advise(faultf(codeApplication, "%s is a symbolic link", at))
		case owner != 0 && owner != uid:
			return advise(faultf(codeApplication, "%s belongs to %s, who could change what the service does", at, nameUser(owner)))
		case mode.Perm()&0o022 != 0 && (!info.IsDir() || mode&fs.ModeSticky == 0):
			return advise(faultf(codeApplication, "others can write to %s (mode %04o), and so change what the service does", at, mode.Perm()))
		}
		if at == "/" {
			return nil
		}
	}
}

// checkServiceConfig makes sure that the configuration is there for the service, and not for
// others to change.
func checkServiceConfig(d *deployment) error {
	path := d.ConfigFile
	if path == "" {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return usagef("%s: %w; expected a configuration in TOML", path, errors.Unwrap(err))
	}
	if d.User {
		return checkOwners(real, os.Getuid(), func(err error) error { return asFault(err).withHint("close it: chmod go-w %s", real) })
	}
	for _, hidden := range append([]string{"/tmp", "/var/tmp"}, homes...) {
		if within(real, hidden) {
			return usagef("%s is in %s, which a service of the system does not see", real, hidden).
				withHint("put it where services are configured: %s", serviceConfigFile(d.Name))
		}
	}
	if err := checkOwners(real, 0, func(err error) error {
		return asFault(err).withHint("make it root's: chown root %s && chmod 644 %s", real, real)
	}); err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err == nil && d.RunAs != "root" && info.Mode().Perm()&0o004 == 0 {
		return usagef("%s cannot be read by the user that the service runs as (mode %04o)", real, info.Mode().Perm()).
			withHint("chmod 644 %s; it is no place for a secret", real)
	}
	return nil
}

// lockServices lets one installation at a time go on. The lock is a file in a directory where
// only those can make one who may install.
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
	for {
		l, err := lockPath(endpoint{Scheme: "unix", Path: filepath.Join(dir, "ipcd-install")})
		switch {
		case err == nil:
			return func() { l.release() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock the services: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, faultf(codeApplication, "another installation is going on, and has not ended within %s", lockLimit).
				withHint("see what it is doing: ps -ef | grep ipcd")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
