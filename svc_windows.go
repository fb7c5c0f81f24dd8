package main

// This file owns what a service needs of Windows before it is installed: who may, who may change the
// program of the service and its configuration, and one installation at a time.
// Its twin is svc_unix.go.

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
	mayBeForged = func(path string) bool { // everybody may make directories in %ProgramData%
		others, err := othersIn(path, fileReplace)
		return err != nil || len(others) > 0
	}
}

// copyPlace is where --copy-to puts the program unless it is told, on most machines: see copyPlaceFor.
const copyPlace = `C:\Program Files\ipcd\ipcd.exe`

// removeProgram removes a program. The one that runs, ourselves, stays until the next start of the system
// ("MoveFileExW function", MOVEFILE_DELAY_UNTIL_REBOOT), and so does its directory, which goes if nothing
// else is in it then. It has another name by then: what is installed at path in the meantime is to stay.
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
			break // a directory that install has not made
		}
	}
	return true, nil
}

// copyPlaceFor is below Program Files, wherever that is. Only Administrators can write there.
func copyPlaceFor(bool) string {
	dir, err := programDir()
	if err != nil {
		return copyPlace
	}
	return filepath.Join(dir, filepath.Base(copyPlace))
}

// checkRights makes sure that we may change services: what administrators may, once they have said so.
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

// checkAccount makes sure that the service can run as this user.
func checkAccount(name string) error {
	_, err := serviceAccount(name)
	return err
}

// checkProgram refuses a program that others could put something else in the place of: what the
// system runs as a service must be as safe as what administrators run.
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
	return checkWriters(d.Program, dirAdd, advise) // a library beside the program may be loaded into it
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
	for _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at); _, err = os.Lstat(at) { // install makes it
		at = filepath.Dir(at)
	}
	if at != filepath.Dir(d.Program) { // what is made there gets what it hands down
		others, err := othersIn(at, handedDown|fileReplace|dirReplace|dirAdd)
		if err != nil || len(others) > 0 {
			return advise(writersFault(at, others, err))
		}
	}
	return checkWriters(filepath.Join(at, filepath.Base(d.Program)), dirAdd, advise)
}

// checkSockets has nothing to do: a pipe has no place among the files.
func checkSockets(*deployment) error { return nil }

// checkServiceConfig makes sure that the configuration is there for the service, and not for others
// to change.
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

// checkLocal refuses what is there for one who has logged in, and not for a service: the letters of
// network drives ("Services and Redirected Drives"), and shares, whose files another machine decides.
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

// checkWriters makes sure that nobody but the system and administrators can change path, which need not
// be there yet, or what is on the way to it; nobody else may have one of the rights beside to its
// directory. That users may make directories in the root of a drive, as they may by default, does no harm.
// advise adds what can be done.
func checkWriters(path string, beside uint32, advise func(error) error) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) && at == path {
			continue
		}
		if err != nil {
			return advise(fmt.Errorf("look at %s: %w", at, err))
		}
		if info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 { // a junction is irregular
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

// lockServices lets one installation at a time go on. The lock is a file that nobody else may have open,
// in a directory where only administrators can make one; the system removes it with the process. (A mutex
// by name could be made by any user first.)
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
		// Denied is what one hears in the moment in which the file goes.
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
