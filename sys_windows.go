package main

// This file is what Windows has in the place of sys_unix.go: signals, the directories of services and
// users, users and groups, and the kinds of error.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// ownPeer is this process as the kernel describes it, without its pid.
func ownPeer() (peer, error) { return ownToken() }

// ownToken reads the token of this process once: who we are does not change, and naming the user may
// take a question to a domain controller.
var ownToken = sync.OnceValues(func() (peer, error) {
	p := peer{Transport: "npipe", Known: true, UID: -1, GID: -1}
	return p, p.describe(windows.GetCurrentProcessToken())
})

// isMaster reports whether p is SYSTEM or an elevated administrator, who may do anything here whatever we
// say: to refuse them would protect nothing. "Whether a token has elevated privileges" ("TOKEN_ELEVATION
// structure") does not say which privileges; the group does.
func isMaster(p peer) bool {
	return p.Known && (p.SID == sidSystem || p.Elevated && slices.Contains(p.Groups, sidAdministrators))
}

// findGroup looks a group up by its name, such as Users or DOMAIN\Staff, or by its SID.
func findGroup(name string) (group, error) {
	sid, err := windows.StringToSid(name)
	if err == nil {
		return group{name: name, id: sid.String()}, nil
	}
	sid, _, kind, err := windows.LookupSID("", name)
	switch {
	case err != nil:
		return group{}, usagef("there is no group %q", shorten(name, 100)).withHint("make it: net localgroup %s /add", defaultName)
	case kind != windows.SidTypeGroup && kind != windows.SidTypeAlias && kind != windows.SidTypeWellKnownGroup:
		return group{}, usagef("%q is no group", shorten(name, 100)).withHint("name a group; net localgroup lists those of this machine")
	}
	return group{name: name, id: sid.String()}, nil
}

// stopSignals are those that ask a daemon to stop. Go makes SIGTERM of a closed console, of the
// end of the session and of shutdown.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// reloadSignals: Windows has none that could ask a service to read its settings again.
var reloadSignals []os.Signal

// signalPatience is how long a process has after a signal: it is ended 5 s after its console has been
// closed ("HandlerRoutine callback function", time-outs), and whoever waits then hears nothing. The
// second that is left is for answers to the calls that are cut.
func signalPatience(sig os.Signal) time.Duration {
	if sig == syscall.SIGTERM {
		return 4 * time.Second
	}
	return 0
}

// crashAsSignal: the service control manager tells a crash from an end by itself.
func crashAsSignal() {}

// detach gives cmd a console of its own that nobody sees, which neither Ctrl-C nor a closed
// terminal reaches. With no console at all every program that it starts would open a window.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW,
		HideWindow:    true,
	}
}

// serviceEndpoint is where a daemon listens that is a service of the system.
func serviceEndpoint(name string) endpoint {
	return endpoint{Scheme: "npipe", Path: pipePrefix + name, Proto: protoAuto}
}

// defaultEndpoint is the user's own.
func defaultEndpoint() (endpoint, error) { return userEndpoint(defaultName) }

// userEndpoint is where a service of the user's own listens: all users share one space of names,
// hence the SID in it.
func userEndpoint(name string) (endpoint, error) {
	own, err := ownPeer()
	if err != nil {
		return endpoint{}, fmt.Errorf("find the default endpoint: %w", err)
	}
	if isServiceAccount(own.SID) {
		return serviceEndpoint(name), nil
	}
	return endpoint{Scheme: "npipe", Path: pipePrefix + name + "-" + own.SID, Proto: protoAuto}, nil
}

// userConfigFile and serviceConfigFile are where the configuration is looked for; empty where
// there is no such place.
func userConfigFile(name string) string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, name, "config.toml")
}

// serviceConfigFile passes over a file, or a directory, that another user has made: everybody
// may make directories in %ProgramData%, and what stands in the file is done with more rights
// than theirs.
func serviceConfigFile(name string) string {
	dir, err := serviceDir(name)
	if err != nil {
		return ""
	}
	file := filepath.Join(dir, "config.toml")
	for _, path := range []string{dir, file} {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return file // which is not there
		}
		if owner, err := ownerOfFile(path); err != nil || !isTrustedOwner(owner) {
			return ""
		}
	}
	return file
}

// serviceDir is what a service of the system has of %ProgramData%. It is not made here.
func serviceDir(name string) (string, error) {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		return "", fmt.Errorf("find the directory of the service %s: %w", name, err)
	}
	return filepath.Join(data, name), nil
}

// stateDir is where the daemon keeps what must outlive it. It is not made here.
func stateDir() (string, error) {
	if own, err := ownPeer(); err == nil && isServiceAccount(own.SID) {
		return serviceDir(defaultName)
	}
	dir, err := os.UserCacheDir() // %LocalAppData%
	if err != nil {
		return "", fmt.Errorf("find the state directory: %w", err)
	}
	return filepath.Join(dir, "ipcd"), nil
}

// isTemporaryAccept tells the errors of accept that pass.
func isTemporaryAccept(err error) bool {
	return isAny(err, windows.WSAEMFILE, windows.WSAENOBUFS, windows.WSAECONNABORTED, windows.WSAECONNRESET,
		windows.ERROR_NO_SYSTEM_RESOURCES, windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_NO_DATA)
}

// isBrokenPipe tells that the other end reads no more.
func isBrokenPipe(err error) bool {
	return isAny(err, windows.ERROR_BROKEN_PIPE, windows.ERROR_NO_DATA, windows.ERROR_PIPE_NOT_CONNECTED, windows.WSAECONNRESET)
}

// isRefused and isPortTaken tell why a socket did not connect or bind.
func isRefused(err error) bool { return isAny(err, windows.WSAECONNREFUSED) }

func isPortTaken(err error) bool { return isAny(err, windows.WSAEADDRINUSE) }

// isAny tells whether err is one of the errors of Windows.
func isAny(err error, any ...syscall.Errno) bool {
	var e syscall.Errno
	return errors.As(err, &e) && slices.Contains(any, e)
}
