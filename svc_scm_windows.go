package main

// This file owns the service under the service control manager (SCM) of Windows: its parts, how it is started and
// stopped, and its state as the manager sees it. Its entry in the manager's database is in
// svc_scm_entry_windows.go, the daemon that runs under the manager in daemon_scm_windows.go.

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	osservice "github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

const (
	goneLimit = 10 * time.Second // for a deleted entry to disappear, and for the process of a stopped service to end
	scmLook   = 50 * time.Millisecond
)

// scm is the service control manager.
type scm struct{}

func (scm) title() string { return "the service control manager" }
func (scm) listens() bool { return false }

func (scm) missing(user bool) *fault {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return faultf(codeApplication, "the service control manager does not answer: %w", err)
	}
	windows.CloseServiceHandle(m)
	if user {
		return faultf(codeApplication, "Windows has services of the system alone, none of one's own").
			withHint(`"ipcd call --start" starts a daemon of your own when it is needed; without --user, Administrators install the system's`)
	}
	return nil
}

// parts returns the two directories of the service, which have to be closed before anything is written into them, and
// its entry.
func (scm) parts(d *deployment) ([]part, error) {
	dir, err := serviceDir(d.name)
	if err != nil {
		return nil, err
	}
	entry, err := entryFor(d)
	if err != nil {
		return nil, err
	}
	return []part{
		&dirPart{path: dir, service: d.name, rights: rightsRead},
		&dirPart{path: serviceLogDir(dir), service: d.name, rights: rightsModify},
		&scmPart{entry},
	}, nil
}

// possible returns the entry only: directories that are not empty stay, see remains.
func (scm) possible(d *deployment) []part { return []part{&scmPart{scmEntry{name: d.name}}} }

// foreign says whose an entry is that has neither our mark nor our command line, or that we cannot read. Drivers share
// the namespace of services. If there is no entry, an event source of that name is another program's.
func (scm) foreign(_ context.Context, d *deployment) string {
	have, err := readEntry(d.name, scmEntry{})
	switch {
	case isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST, windows.ERROR_SERVICE_MARKED_FOR_DELETE):
		if at := eventsOf(d.name); at != noEvents && at != ourEvents {
			return "an event source with " + at
		}
		return ""
	case err != nil:
		return err.Error()
	case isOurText(have.description), isOurCommand(have.command, d.name):
		return ""
	}
	return fmt.Sprintf("%q, which runs %s", have.display, have.command)
}

// isOurCommand reports whether install has written the command line, even if it was changed since.
func isOurCommand(command, name string) bool {
	args, err := windows.DecomposeCommandLine(command)
	return err == nil && len(args) > 3 && args[1] == "run" && args[2] == "--service" && args[3] == name
}

// enable, disable and forget have nothing to do: the start type is in the entry, and the manager notices at once when
// that is written or deleted.
func (scm) enable(*deployment) []step  { return nil }
func (scm) disable(*deployment) []step { return nil }
func (scm) forget(*deployment) []step  { return nil }

func (scm) advice(d *deployment) []string {
	dir, err := serviceDir(d.name)
	if err != nil {
		return nil
	}
	return []string{"its log is " + serviceLogFile(dir, d.name) + "; what is wrong is in the event log, too, source " + d.name}
}

func (s scm) start(d *deployment) []step {
	return []step{{"sc start " + d.name, func(ctx context.Context) error { return startService(ctx, d) }}}
}

func (s scm) stop(d *deployment) []step {
	return []step{{"sc stop " + d.name, func(ctx context.Context) error { return stopService(ctx, d) }}}
}

func (s scm) restart(d *deployment) []step { return append(s.stop(d), s.start(d)...) }

// startService starts the service, and returns once it has reported that it runs.
func startService(ctx context.Context, d *deployment) error {
	s, err := openService(d.name, windows.SERVICE_START|windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return scmFault("start", d.name, err)
	}
	defer s.Close()
	if err := s.Start(); err != nil && !isAny(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return scmFault("start", d.name, err)
	}
	done, err := again(ctx, scmLook, scmLook, func() (bool, error) {
		status, err := queryStatus(s.Handle)
		switch {
		case err != nil:
			return true, scmFault("start", d.name, err)
		case svc.State(status.CurrentState) == svc.Stopped:
			return true, faultf(codeApplication, "the service %s did not start: %s", d.name, cmp.Or(exitWhy(status), "it ended at once")).
				withHint("its log says why: ipcd status --name %s", d.name)
		}
		return svc.State(status.CurrentState) == svc.Running, nil
	})
	if !done {
		return faultf(codeApplication, "the service %s has not started in time: %w", d.name, ctx.Err())
	}
	return err
}

// stopService stops the service, and returns once its process has ended, as it should within the drain limit. One that
// does not end is left to the user: if we killed it, it would count as failed, and the manager would restart it.
func stopService(ctx context.Context, d *deployment) error {
	s, err := openService(d.name, windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS)
	if isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return nil
	}
	if err != nil {
		return scmFault("stop", d.name, err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, d.stopLimit()+goneLimit)
	defer cancel()
	status, err := queryStatus(s.Handle)
	if err != nil {
		return scmFault("stop", d.name, err)
	}
	defer openProcess(status.ProcessId).wait() // until then its program cannot be replaced
	asked := false
	done, err := again(ctx, scmLook, scmLook, func() (bool, error) {
		status, err = queryStatus(s.Handle)
		switch {
		case err != nil:
			return true, scmFault("stop", d.name, err)
		case svc.State(status.CurrentState) == svc.Stopped:
			return true, nil
		case asked:
			return false, nil
		}
		_, err := s.Control(svc.Stop)
		switch {
		case err == nil:
			asked = true
		case isAny(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL, windows.ERROR_INVALID_SERVICE_CONTROL, windows.ERROR_SERVICE_NOT_ACTIVE):
			// It is starting, or stopping already: ask again.
		default:
			return true, scmFault("stop", d.name, err)
		}
		return false, nil
	})
	if !done {
		return faultf(codeApplication, "the service %s has not stopped in time: %w", d.name, ctx.Err()).
			withHint("end its process: %s", endLine(int(status.ProcessId)))
	}
	return err
}

// A process is one that is about to end.
type process struct {
	pid    uint32
	handle windows.Handle // 0 if there is none, or we may not wait for it
}

// openProcess opens a process to wait for it.
func openProcess(pid uint32) process {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, pid)
	if err != nil {
		h = 0
	}
	return process{pid, h}
}

// wait returns when the process has ended, or goneLimit has passed. Who may wait for a service is up to the token that it
// was started with. If we may not, "access denied" says at least that the process still exists.
func (p process) wait() {
	if p.handle != 0 {
		windows.WaitForSingleObject(p.handle, uint32(goneLimit/time.Millisecond))
		windows.CloseHandle(p.handle)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goneLimit)
	defer cancel()
	again(ctx, scmLook, scmLook, func() (bool, error) {
		h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, p.pid)
		if err == nil { // another process with the same pid
			windows.CloseHandle(h)
		}
		return !isAny(err, windows.ERROR_ACCESS_DENIED), nil
	})
}

// openService opens an entry with no more rights than needed: OpenService of x/sys's mgr asks for all.
func openService(name string, access uint32) (*mgr.Service, error) {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return nil, os.NewSyscallError("OpenSCManager", err)
	}
	defer windows.CloseServiceHandle(manager)
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.OpenService(manager, text, access)
	if err != nil {
		return nil, os.NewSyscallError("OpenService", err)
	}
	return &mgr.Service{Name: name, Handle: h}, nil
}

// scmFault says what the manager refused, and why.
func scmFault(verb, name string, err error) error {
	f := faultf(codeApplication, "%s the service %s: %w", verb, name, err)
	switch {
	case isAny(err, windows.ERROR_ACCESS_DENIED):
		return f.withHint("open a terminal with \"Run as administrator\" and type it there")
	case isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST):
		return f.withHint("install it: ipcd install --name %s", name)
	case isAny(err, windows.ERROR_SERVICE_DISABLED):
		return f.withHint("somebody has disabled it: sc config %s start= auto", name)
	case isAny(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE):
		return f.withHint("it has been deleted, and something holds it: close the windows of Services and Task Manager, and try again")
	case isAny(err, windows.ERROR_SERVICE_LOGON_FAILED):
		return f.withHint("its account cannot log on as a service: ipcd install --force --run-as LocalService")
	}
	return f
}

// state returns the service as the manager sees it.
func (scm) state(_ context.Context, d *deployment) (unitState, error) {
	s, err := openService(d.name, windows.SERVICE_QUERY_STATUS|windows.SERVICE_QUERY_CONFIG)
	if isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return unitState{Active: activeStopped}, nil
	}
	if err != nil {
		return unitState{}, scmFault("look at", d.name, err)
	}
	defer s.Close()
	status, err := queryStatus(s.Handle)
	if err != nil {
		return unitState{}, scmFault("look at", d.name, err)
	}
	u := stateOf(status)
	config, err := queryConfig(s.Handle)
	if err != nil {
		return unitState{}, scmFault("look at", d.name, err)
	}
	u.Enabled = config.StartType == windows.SERVICE_AUTO_START
	if u.PID != 0 {
		u.Since, _ = processStart(status.ProcessId)
	}
	return u, nil
}

// stateOf translates a status. The manager does not reveal how often it has restarted the service.
func stateOf(status windows.SERVICE_STATUS_PROCESS) unitState {
	u := unitState{Installed: true, PID: int(status.ProcessId)}
	switch svc.State(status.CurrentState) {
	case svc.StartPending:
		u.Active = activeStarting
	case svc.StopPending:
		u.Active = activeStopping
	case svc.Stopped:
		u.Active, u.PID = activeStopped, 0
		if u.Why = exitWhy(status); u.Why != "" {
			u.Active = activeFailed
		}
	default: // running; we do not accept a pause
		u.Active = activeRunning
	}
	return u
}

// exitWhy says why a stopped service has failed, or nothing.
func exitWhy(status windows.SERVICE_STATUS_PROCESS) string {
	switch code := syscall.Errno(status.Win32ExitCode); code {
	case windows.NO_ERROR, windows.ERROR_SERVICE_NEVER_STARTED:
		return ""
	case windows.ERROR_SERVICE_SPECIFIC_ERROR:
		if status.ServiceSpecificExitCode == exitUsage {
			return fmt.Sprintf("its command line or configuration is wrong (exit code %d)", exitUsage)
		}
		return fmt.Sprintf("it ended with exit code %d", status.ServiceSpecificExitCode)
	default:
		return strings.TrimRight(code.Error(), ".\r\n ")
	}
}

func (scm) logAt(d *deployment) (file string, command []string) {
	dir, err := serviceDir(d.name)
	if err != nil {
		return "", nil
	}
	return serviceLogFile(dir, d.name), nil
}

// tail returns the end of the log, to those who may read it.
func (s scm) tail(_ context.Context, d *deployment, lines int) []string {
	file, _ := s.logAt(d)
	return lastLines(file, lines)
}

// remains: the service has written its log, which is in the directory that its configuration may be in as well. The
// directory of the program is removed if it is empty, and if it is the one that install creates.
func (scm) remains(d *deployment) (gone, kept []string) {
	if d.Copied {
		gone = append(gone, d.Program+".old") // left by an upgrade of a running service, see filePart.put
	}
	if own, err := programDir(); err == nil && d.Copied && strings.EqualFold(filepath.Dir(d.Program), own) {
		gone = append(gone, own)
	}
	dir, err := serviceDir(d.name)
	if err != nil {
		return gone, nil
	}
	return append(gone, serviceLogDir(dir)), []string{dir}
}

// carrier is kardianos/service set up to create the entry.
func (e scmEntry) carrier() (osservice.Service, error) {
	args, err := windows.DecomposeCommandLine(e.command)
	if err != nil {
		return nil, err
	}
	return osservice.New(nil, &osservice.Config{
		Name: e.name, DisplayName: e.display, Description: e.description,
		Executable: args[0], Arguments: args[1:], UserName: e.account,
		Option: osservice.KeyValue{"StartType": "automatic"},
	})
}
