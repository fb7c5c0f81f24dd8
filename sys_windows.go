package main

// This file owns what is particular to Windows: users and groups, signals, the directories of services and
// users, and the kinds of error. Its twin is sys_unix.go.

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
	"unsafe"

	"golang.org/x/sys/windows"
)

// ownPeer describes this process as the kernel would, without the pid.
func ownPeer() (peer, error) { return ownToken() }

// ownToken reads the token of this process once: it does not change, and to name its user may take asking a
// domain controller.
var ownToken = sync.OnceValues(func() (peer, error) {
	p := peer{Transport: "npipe", Known: true, UID: -1, GID: -1}
	return p, p.describe(windows.GetCurrentProcessToken())
})

// processorTime returns how long this process has computed.
func processorTime() time.Duration {
	var began, ended, kernel, user windows.Filetime
	if windows.GetProcessTimes(windows.CurrentProcess(), &began, &ended, &kernel, &user) != nil {
		return 0
	}
	in := func(t windows.Filetime) time.Duration { // of 100 ns
		return time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * 100
	}
	return in(kernel) + in(user)
}

// isMaster reports whether p is SYSTEM or an elevated administrator. They can do anything here whatever we say,
// so a refusal would protect nothing. "Whether a token has elevated privileges" ("TOKEN_ELEVATION structure")
// does not say which ones; the group does.
func isMaster(p peer) bool {
	return p.Known && (p.SID == sidSystem || p.Elevated && slices.Contains(p.Groups, sidAdministrators))
}

// areMaster reports whether we are one of them.
func areMaster() bool {
	own, err := ownPeer()
	return err == nil && isMaster(own)
}

// findUser looks up a user by name. The error is fs.ErrNotExist if there is none.
func findUser(name string) (userEntry, error) {
	if _, err := userID(name); err != nil {
		return userEntry{}, err
	}
	return userEntry{name: name, uid: -1, gid: -1}, nil
}

// userID returns the SID of a user. The error is as in findUser.
func userID(name string) (string, error) {
	sid, _, kind, err := windows.LookupSID("", name)
	switch {
	case isAny(err, windows.ERROR_NONE_MAPPED), err == nil && kind != windows.SidTypeUser:
		return "", fs.ErrNotExist
	case err != nil:
		return "", fmt.Errorf("look up the user %s: %w", name, err)
	}
	return sid.String(), nil
}

// suppose describes the user with that name and SID. The system does not list the groups of another user.
func (p *peer) suppose(name, sid string) error {
	p.User, p.SID = name, sid
	return nil
}

// findGroup looks up a group by its name, such as Users or DOMAIN\Staff, or by its SID.
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

// stopSignals ask a daemon to stop. Go turns a closed console, the end of the session and shutdown into
// SIGTERM.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// reloadSignals would ask a service to read its settings again; Windows has no such signal.
var reloadSignals []os.Signal

// hasTerminal matters where a signal can mean that it was closed.
func hasTerminal() bool { return false }

// signalPatience is how long a process may go on after a signal. Windows ends it 5 s after its console was closed
// ("HandlerRoutine callback function", time-outs), and then nobody who waits gets an answer. The second that
// is left is for the answers to calls that are cut short.
func signalPatience(sig os.Signal) time.Duration {
	if sig == syscall.SIGTERM {
		return 4 * time.Second
	}
	return 0
}

// detach gives cmd a hidden console of its own, out of reach of Ctrl-C and of a terminal that closes. Without
// any console, every console program that it starts would open a window.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW,
		HideWindow:    true,
	}
}

// A processGroup is a program with all that it starts: a job object, which also ends when this process does.
type processGroup struct {
	job  windows.Handle
	id   uint32 // of the group that the console knows
	once sync.Once
}

// newGroup returns an empty job. kill has to be called in the end.
func newGroup() (*processGroup, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("make a job object: %w", err)
	}
	g := &processGroup{job: job}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE},
	}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		g.kill()
		return nil, fmt.Errorf("set up a job object: %w", err)
	}
	return g, nil
}

// ntResumeProcess runs a process that was created suspended. ResumeThread, which is documented, needs the handle of its thread,
// and os/exec closes that.
var ntResumeProcess = windows.NewLazySystemDLL("ntdll.dll").NewProc("NtResumeProcess")

// start starts cmd in the job. It does not run before it is there: what it starts would not be in the job, and one that has
// ended cannot be put into it.
func (g *processGroup) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_SUSPENDED}
	if err := cmd.Start(); err != nil {
		return err
	}
	g.id = uint32(cmd.Process.Pid)
	err := g.run(g.id)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return err
}

// run puts a process that is suspended into the job, and resumes it.
func (g *processGroup) run(pid uint32) error {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE|windows.PROCESS_SUSPEND_RESUME, false, pid)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(process)
	if err := g.take(process); err != nil {
		return err
	}
	if status, _, _ := ntResumeProcess.Call(uintptr(process)); status != 0 {
		return fmt.Errorf("let it run: %w", windows.NTStatus(status))
	}
	return nil
}

// take puts a process into the job.
func (g *processGroup) take(process windows.Handle) error {
	if err := windows.AssignProcessToJobObject(g.job, process); err != nil {
		return fmt.Errorf("put it into a job object: %w", err)
	}
	return nil
}

// askToEnd sends Ctrl-Break. Without a console over which to send it, there is nothing to wait for.
func (g *processGroup) askToEnd() {
	if windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, g.id) != nil {
		g.kill()
	}
}

// kill ends the processes of the job. It may be called once more, and has to be called in the end.
func (g *processGroup) kill() {
	g.once.Do(func() {
		windows.TerminateJobObject(g.job, 1)
		windows.CloseHandle(g.job)
	})
}

// plainEnviron are the variables of ours that every program gets: without some of them it does not even start.
var plainEnviron = []string{"ALLUSERSPROFILE", "APPDATA", "COMMONPROGRAMFILES", "COMPUTERNAME", "COMSPEC", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA",
	"NUMBER_OF_PROCESSORS", "OS", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE", "PROGRAMDATA", "PROGRAMFILES", "PUBLIC", "SYSTEMDRIVE", "SYSTEMROOT",
	"TEMP", "TMP", "USERDOMAIN", "USERNAME", "USERPROFILE", "WINDIR"}

// runningAs would start a program as another user, which takes that user's password here.
func runningAs(name string) (attr *syscall.SysProcAttr, env []string, err error) {
	if name != "" {
		return nil, nil, faultf(codeApplication, "a worker cannot run as %s: Windows does not let a program start another one as somebody else without their password", name).
			withHint("leave out run_as, or run a daemon as that user")
	}
	return nil, nil, nil
}

// serviceEndpoint is the default endpoint of a service of the system.
func serviceEndpoint(name string) endpoint {
	return endpoint{Scheme: "npipe", Path: pipePrefix + name, Proto: protoAuto}
}

// defaultEndpoint is that of the user's own daemon.
func defaultEndpoint() (endpoint, error) { return userEndpoint(defaultName) }

// userEndpoint is the default endpoint of a daemon of the user's own. All users share one namespace of pipes, hence
// the SID in the name.
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

// userConfigFile is where the configuration of a user's daemon is looked for; empty if there is no such place.
func userConfigFile(name string) string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, name, "config.toml")
}

// serviceConfigFile is where the configuration of a service of the system is looked for. It is empty if another
// user made the file or its directory: everybody may make directories in %ProgramData%, and what the file
// says is done with more rights than theirs.
func serviceConfigFile(name string) string {
	dir, err := serviceDir(name)
	if err != nil {
		return ""
	}
	file := filepath.Join(dir, "config.toml")
	for _, path := range []string{dir, file} {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return file // which does not exist
		}
		if owner, err := ownerOfFile(path); err != nil || !isTrustedOwner(owner) {
			return ""
		}
	}
	return file
}

// serviceDir is the directory of a service of the system in %ProgramData%. It need not exist.
func serviceDir(name string) (string, error) {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		return "", fmt.Errorf("find the directory of the service %s: %w", name, err)
	}
	return filepath.Join(data, name), nil
}

// stateDir is where the daemon keeps what must outlive it. It need not exist.
func stateDir() (string, error) {
	if own, err := ownPeer(); err == nil && isServiceAccount(own.SID) {
		return serviceDir(defaultName)
	}
	return userStateDir("ipcd")
}

// stateHint says how to have another state directory.
const stateHint = "name a directory that you can write to in the variable LocalAppData"

// userStateDir is the state directory of a service of the user's own.
func userStateDir(name string) (string, error) {
	dir, err := os.UserCacheDir() // %LocalAppData%
	if err != nil {
		return "", faultf(codeApplication, "there is no place for what ipcd keeps, its log and tokens: %w", err).withHint("%s", stateHint)
	}
	return filepath.Join(dir, name), nil
}

// serviceStateDir is the state directory of a service of the system.
func serviceStateDir(name string) (string, error) { return serviceDir(name) }

// isInUse reports whether an error says that somebody else has a file open, who does not share it, or is about to replace it.
func isInUse(err error) bool { return isAny(err, windows.ERROR_SHARING_VIOLATION) }

// isFull reports whether an error says that a disk is full.
func isFull(err error) bool {
	return isAny(err, windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL)
}

// isTemporaryAccept reports whether an error of Accept will pass.
func isTemporaryAccept(err error) bool {
	return isAny(err, windows.WSAEMFILE, windows.WSAENOBUFS, windows.WSAECONNABORTED, windows.WSAECONNRESET,
		windows.ERROR_NO_SYSTEM_RESOURCES, windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_NO_DATA)
}

// endBySignal ends the program as Windows does where nobody handles a console event.
func endBySignal(os.Signal) { os.Exit(int(windows.STATUS_CONTROL_C_EXIT)) }

// A pipeInfo is FILE_PIPE_LOCAL_INFORMATION of ntifs.h.
type pipeInfo struct {
	_           [5]uint32
	bytesToRead uint32
	_           [2]uint32
	state       uint32
	_           uint32
}

const pipeConnected = 3 // FILE_PIPE_CONNECTED_STATE

// pipeInfoOf asks the system about a pipe.
func pipeInfoOf(h windows.Handle) (info pipeInfo, err error) {
	const pipeLocalInformation = 24 // its class there
	var status windows.IO_STATUS_BLOCK
	err = windows.NtQueryInformationFile(h, &status, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), pipeLocalInformation)
	return info, err
}

// outputClosed reports whether nobody reads what is written to f any more, without writing to it.
func outputClosed(f *os.File) bool {
	info, err := pipeInfoOf(windows.Handle(f.Fd()))
	return err == nil && info.state != pipeConnected
}

var errOutputClosed error = windows.ERROR_BROKEN_PIPE

// isBrokenPipe reports whether the other end has stopped reading.
func isBrokenPipe(err error) bool {
	return isAny(err, windows.ERROR_BROKEN_PIPE, windows.ERROR_NO_DATA, windows.ERROR_PIPE_NOT_CONNECTED, windows.WSAECONNRESET)
}

// isRefused reports whether nobody listens where we connected to.
func isRefused(err error) bool { return isAny(err, windows.WSAECONNREFUSED) }

// isPortTaken reports whether somebody else listens on the port that we wanted.
func isPortTaken(err error) bool { return isAny(err, windows.WSAEADDRINUSE) }

// isAny reports whether err is one of these errors of Windows.
func isAny(err error, any ...syscall.Errno) bool {
	var e syscall.Errno
	return errors.As(err, &e) && slices.Contains(any, e)
}

// watchProcess returns what tells whether a process has ended. It fails if that cannot be seen; otherwise release has to be
// called in the end. The handle keeps the number from being another's.
func watchProcess(pid int) (ended func() bool, release func(), err error) {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return nil, nil, err
	}
	return func() bool {
		event, err := windows.WaitForSingleObject(h, 0)
		return err == nil && event == windows.WAIT_OBJECT_0
	}, func() { windows.CloseHandle(h) }, nil
}

// wakeHint says what to do about a process that does not answer.
func wakeHint(pid int) string {
	return endLine(pid) + " ends it, with the calls that it has"
}

// endLine is what one types to end a process. Without /f it asks the windows of the process, of which ours has none.
func endLine(pid int) string { return fmt.Sprintf("taskkill /f /pid %d", pid) }

// removeLine is what one types to remove a file, in cmd.exe and in PowerShell.
func removeLine(path string) string { return `del "` + path + `"` }

// makeDirLine is what one types to make a directory.
func makeDirLine(path string) string { return `mkdir "` + path + `"` }

// executableHint says what makes an executable of a script.
const executableHint = "a script is one by its extension, such as .cmd: see PATHEXT"
