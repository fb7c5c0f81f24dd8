package main

// This file owns what Windows demands of a service before it is installed: who may install it, who could change its
// program and configuration, and that there is one installation at a time. Its twin is svc_unix.go.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

func init() {
	supervisors = []supervisor{scm{}}
	mayBeForged = func(path string) bool { // everybody may create directories in %ProgramData%
		others, err := othersIn(path, fileReplace)
		return err != nil || len(others) > 0
	}
}

// copyPlace is where --copy-to puts the program by default on most machines, see copyPlaceFor.
const copyPlace = `C:\Program Files\ipcd\ipcd.exe`

// removeProgram removes a program. If that is ourselves, it is removed at the next boot ("MoveFileExW function",
// MOVEFILE_DELAY_UNTIL_REBOOT), and its directory too, if it is empty then. Until then it has another name, so that
// what is installed at path in the meantime stays.
func removeProgram(path string) (later bool, err error) {
	err = os.Remove(path)
	own, ownErr := os.Executable()
	if !isAny(err, windows.ERROR_ACCESS_DENIED, windows.ERROR_SHARING_VIOLATION) || ownErr != nil || !strings.EqualFold(own, path) {
		return false, err
	}
	aside := path + ".gone-" + rand.Text()
	if err := os.Rename(path, aside); err != nil {
		return false, err
	}
	for _, at := range []string{aside, filepath.Dir(path)} {
		name, err := windows.UTF16PtrFromString(at)
		if err != nil {
			return false, err
		}
		if err := windows.MoveFileEx(name, nil, windows.MOVEFILE_DELAY_UNTIL_REBOOT); err != nil {
			return false, fmt.Errorf("it is %s now, and stays: %w", aside, os.NewSyscallError("MoveFileEx", err))
		}
		if dir, err := programDir(); err != nil || !strings.EqualFold(filepath.Dir(path), dir) {
			break // install did not create this directory
		}
	}
	return true, nil
}

// copyPlaceFor is where --copy-to puts the program by default: below Program Files, wherever that is, where only
// administrators can write.
func copyPlaceFor(bool) string {
	dir, err := programDir()
	if err != nil {
		return copyPlace
	}
	return filepath.Join(dir, filepath.Base(copyPlace))
}

// checkRights makes sure that we may change services, as elevated administrators may.
func checkRights(bool) error {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_CREATE_SERVICE)
	switch {
	case err == nil:
		windows.CloseServiceHandle(manager)
		return nil
	case isAny(err, windows.ERROR_ACCESS_DENIED):
		return faultf(codeApplication, "this takes an administrator: a service of the system is theirs to change; nothing was changed").
			withHint("open a terminal with \"Run as administrator\" and type there: %s", joinWords(commandLine()))
	}
	return faultf(codeApplication, "ask the service control manager: %w", err)
}

// checkAccount makes sure that the service can run under this account.
func checkAccount(name string) error {
	_, err := serviceAccount(name)
	return err
}

// checkProgram refuses a program that others could replace: what the system runs as a service has to be as safe as
// what administrators run.
func checkProgram(d *deployment) error {
	advise := func(err error) error {
		return asFault(err).withHint("let install copy the program to a place that lasts: %s --copy-to", joinWords(commandLine()))
	}
	if err := checkPlace(d.Program); err != nil {
		return advise(err)
	}
	if err := checkLocal(d.Program); err != nil {
		return advise(err)
	}
	return checkWriters(d.Program, dirAdd, advise) // the program may load a library next to it
}

// checkWorkerPath is checkProgram for the program and the directory of a worker.
func checkWorkerPath(d *deployment, path string) error {
	if err := checkLocal(path); err != nil {
		return err
	}
	return checkWriters(path, dirAdd, func(err error) error { return err })
}

// checkCopy refuses a place for the program that others could change.
func checkCopy(d *deployment) error {
	advise := func(err error) error {
		return asFault(err).withHint("leave out the path, and it is %s", copyPlaceFor(d.user))
	}
	switch info, err := os.Lstat(d.Program); {
	case err != nil:
	case !info.Mode().IsRegular():
		return advise(faultf(codeApplication, "%s is no file", d.Program))
	case !isOurProgram(d.Program):
		return advise(faultf(codeApplication, "%s is there already, and is not ipcd", d.Program))
	}
	if err := checkLocal(d.Program); err != nil {
		return advise(err)
	}
	at := filepath.Dir(d.Program)
	for _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at); _, err = os.Lstat(at) { // install creates it
		at = filepath.Dir(at)
	}
	if at != filepath.Dir(d.Program) { // what is created there inherits from it
		others, err := othersIn(at, handedDown|fileReplace|dirReplace|dirAdd)
		if err != nil || len(others) > 0 {
			return advise(writersFault(at, others, err))
		}
	}
	return checkWriters(filepath.Join(at, filepath.Base(d.Program)), dirAdd, advise)
}

// checkSockets has nothing to do: pipes are not in the file system.
func checkSockets(*deployment) error { return nil }

// checkServiceConfig makes sure that the service can reach its configuration, and that nobody else can change it.
func checkServiceConfig(d *deployment) error {
	path := d.ConfigFile
	if path == "" {
		return nil
	}
	if err := checkLocal(path); err != nil {
		return asFault(err).withHint("put it where services are configured: %s", serviceConfigFile(d.name))
	}
	return checkWriters(path, 0, func(err error) error {
		return asFault(err).withHint("put it into a directory of the administrators: %s", filepath.Dir(copyPlaceFor(false)))
	})
}

// checkLocal refuses network drives, which only those who have logged in see, and not a service ("Services and
// Redirected Drives"), and shares, whose files are in the hands of another machine.
func checkLocal(path string) error {
	volume := filepath.VolumeName(path)
	root, err := windows.UTF16PtrFromString(volume + `\`)
	if err != nil {
		return usagef("%q is no path", path)
	}
	if strings.HasPrefix(volume, `\\`) || windows.GetDriveType(root) == windows.DRIVE_REMOTE {
		return faultf(codeApplication, "%s is on another machine, or on a drive that a service does not see", path)
	}
	return nil
}

// checkWriters makes sure that nobody but the system and administrators can change path, which need not exist yet, or
// anything on the way to it, or has any of the rights beside to its directory. Users may by default create
// directories in the root of a drive, which does no harm. advise adds the hint.
func checkWriters(path string, beside uint32, advise func(error) error) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) && at == path {
			continue
		}
		if err != nil {
			return advise(fmt.Errorf("look at %s: %w", at, err))
		}
		if info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 { // as a junction is
			return advise(faultf(codeApplication, "%s is a link", at))
		}
		rights := uint32(dirReplace)
		switch {
		case !info.IsDir():
			rights = fileReplace
		case at == filepath.Dir(path):
			rights |= beside
		}
		if others, err := othersIn(at, rights); err != nil || len(others) > 0 {
			return advise(writersFault(at, others, err))
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func writersFault(path string, others []string, err error) error {
	if err != nil {
		return fmt.Errorf("ask who may write to %s: %w", path, err)
	}
	return faultf(codeApplication, "%s can change %s, and so what the service does", nameSIDs(others), path)
}

// lockServices makes installations take turns. The lock is a file that nobody else may have open, in a directory
// where only administrators can create one; the system removes it when the process ends. (A named mutex could
// be created first by any user.)
func lockServices(ctx context.Context, _ bool) (unlock func(), err error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0)
	if err != nil {
		return nil, fmt.Errorf("lock the services: %w", err)
	}
	name, err := windows.UTF16PtrFromString(filepath.Join(dir, "ipcd-install.lock"))
	if err != nil {
		return nil, fmt.Errorf("lock the services: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	var h windows.Handle
	done, err := again(ctx, lockLook, lockLook, func() (bool, error) {
		var err error
		h, err = windows.CreateFile(name, windows.GENERIC_WRITE|windows.DELETE, 0, nil, windows.OPEN_ALWAYS, windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
		// Access is denied at the moment at which the file is being removed.
		return !isAny(err, windows.ERROR_SHARING_VIOLATION, windows.ERROR_ACCESS_DENIED, windows.ERROR_DELETE_PENDING), err
	})
	switch {
	case !done:
		return nil, faultf(codeApplication, "another installation is going on, and has not ended within %s", lockLimit).
			withHint("see what it is doing: tasklist /fi \"imagename eq ipcd.exe\"")
	case err != nil:
		return nil, fmt.Errorf("lock the services: %w", os.NewSyscallError("CreateFile", err))
	}
	return func() { windows.CloseHandle(h) }, nil
}
