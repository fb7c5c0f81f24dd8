package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

// entryOfTest is a service that no other run of the tests has.
func entryOfTest(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{
		instance: instance{name: fmt.Sprintf("ipcd-test-%d", os.Getpid())}, Program: `C:\Program Files\ipcd\ipcd.exe`,
		Config: `C:\ProgramData\a "b".toml`, Settings: defaultSettings(),
	}
	t.Cleanup(func() {
		if err := (&scmPart{scmEntry{name: d.name}}).remove(); err != nil {
			t.Error(err)
		}
		if gone, kept := (scm{}).remains(d); len(kept) == 1 && filepath.Base(kept[0]) == d.name {
			sweep(append(gone, kept...))
			if _, err := os.Lstat(kept[0]); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", kept[0], err)
			}
		}
	})
	return d
}

func TestEntryText(t *testing.T) {
	d := &deployment{instance: instance{name: "ipcd-2"}, Program: `C:\Program Files\ipcd\ipcd.exe`, Settings: defaultSettings()}
	e, err := entryFor(d)
	if err != nil {
		t.Fatal(err)
	}
	want := `name: ipcd-2
display name: ipcd-2
description: Lets the programs of this machine call one another. Written by "ipcd install" for: ipcd run --service ipcd-2
command line: "C:\Program Files\ipcd\ipcd.exe" run --service ipcd-2
start: automatic
account: NT AUTHORITY\LocalService
service SID: unrestricted
privileges: SeChangeNotifyPrivilege
on failure: start again after 1s, start again after 5s, start again after 30s, start again after 1m0s, start again after 5m0s, nothing; from the beginning after 24h0m0s without one
an exit with an error is a failure: yes
time to stop before a shutdown: ` + d.stopLimit().String() + `
event source: messages of %SystemRoot%\System32\EventCreate.exe
`
	if got := e.text(); got != want {
		t.Errorf("the entry is\n%s\nwant\n%s", got, want)
	}
	if !isOurCommand(e.command, "ipcd-2") || isOurCommand(e.command, "ipcd") || isOurCommand(`C:\other.exe run`, "ipcd") {
		t.Error("the command line of a service of ours is not told from others")
	}
	if actions := restartActions(); actions[len(actions)-1].Type != mgr.NoAction {
		t.Error("the last action is repeated for ever, and is not to do nothing")
	}
}

func TestServiceAccounts(t *testing.T) {
	for name, want := range map[string]string{
		"": `NT AUTHORITY\LocalService`, "LocalService": `NT AUTHORITY\LocalService`, `NT AUTHORITY\LOCAL SERVICE`: `NT AUTHORITY\LocalService`,
		"networkservice": `NT AUTHORITY\NetworkService`, "LocalSystem": "LocalSystem", `NT AUTHORITY\SYSTEM`: "LocalSystem",
		`nt service\ipcd`: `NT SERVICE\ipcd`, `CORP\ipcd$`: `CORP\ipcd$`,
	} {
		if got, err := serviceAccount(name); got != want || err != nil {
			t.Errorf("serviceAccount(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	own, err := ownPeer()
	must(t, err)
	if _, err := serviceAccount(own.User); err == nil || !strings.Contains(err.Error(), "has a password") {
		t.Errorf("our own account, %s: %v", own.User, err)
	}
	for _, name := range []string{"ada", `CORP\ada`, ".\\ada", "ipcd$"} {
		if got, err := serviceAccount(name); exitCode(err) != exitUsage || !strings.Contains(hintFor(err), "LocalService") {
			t.Errorf("serviceAccount(%q) = %q, %v; want bad usage and a hint", name, got, err)
		}
	}
}

func TestServiceStates(t *testing.T) {
	specific := uint32(windows.ERROR_SERVICE_SPECIFIC_ERROR)
	for _, test := range []struct {
		status windows.SERVICE_STATUS_PROCESS
		want   active
		why    string
	}{
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_STOPPED}, activeStopped, ""},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_STOPPED, Win32ExitCode: uint32(windows.ERROR_SERVICE_NEVER_STARTED)}, activeStopped, ""},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_START_PENDING, ProcessId: 7}, activeStarting, ""},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_RUNNING, ProcessId: 7}, activeRunning, ""},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_STOP_PENDING, ProcessId: 7}, activeStopping, ""},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_STOPPED, Win32ExitCode: specific, ServiceSpecificExitCode: exitUsage}, activeFailed, "configuration is wrong (exit code 2)"},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_STOPPED, Win32ExitCode: specific, ServiceSpecificExitCode: 1}, activeFailed, "exit code 1"},
		{windows.SERVICE_STATUS_PROCESS{CurrentState: windows.SERVICE_STOPPED, Win32ExitCode: 5}, activeFailed, "ccess"},
	} {
		u := stateOf(test.status)
		if u.Active != test.want || !strings.Contains(u.Why, test.why) || test.why == "" && u.Why != "" || u.PID != int(test.status.ProcessId) || !u.Installed {
			t.Errorf("stateOf(%+v) = %+v; want %s, %q", test.status, u, test.want, test.why)
		}
	}
}

// The whole life of an entry, with the manager that this system has.
func TestEntryComesAndGoes(t *testing.T) {
	d := entryOfTest(t)
	parts, err := scm{}.parts(d)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, p := range parts {
			if have, err := p.have(); have != p.want() || err != nil {
				t.Errorf("%s, %s is\n%s(%v); want\n%s", when, p.name(), have, err, p.want())
			}
		}
	}
	for _, p := range parts {
		if have, err := p.have(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before, %s is %q, %v", p.name(), have, err)
		}
	}
	if u, err := (scm{}).state(t.Context(), d); err != nil || u.Installed {
		t.Errorf("before, the state is %+v, %v", u, err)
	}
	for range 2 { // the second time it is there
		for _, p := range parts {
			if err := p.put(); err != nil {
				t.Fatal(err)
			}
		}
		check("installed")
	}
	if u, err := (scm{}).state(t.Context(), d); err != nil || !u.Installed || !u.Enabled || u.Active != activeStopped {
		t.Errorf("installed, the state is %+v, %v", u, err)
	}
	if command, _, err := readMark(parts[2].want()); err != nil || fmt.Sprintf("%q", command) != fmt.Sprintf("%q", d.command()[1:]) {
		t.Errorf("the mark says %q, %v; want %q", command, err, d.command()[1:])
	}
	if text := (scm{}).foreign(t.Context(), d); text != "" {
		t.Errorf("ours is taken for %s", text)
	}

	changeAndRestore(t, d, parts[2].(*scmPart))
	check("restored")

	for range 2 { // the second time nothing is there
		for _, p := range parts[1:] {
			if err := p.remove(); err != nil {
				t.Errorf("remove %s: %v", p.name(), err)
			}
		}
	}
	if err := perform(t.Context(), scm{}.stop(d)); err != nil {
		t.Errorf("stop what is not there: %v", err)
	}
	if err := perform(t.Context(), scm{}.start(d)); err == nil || !strings.Contains(hintFor(err), "ipcd install --name "+d.name) {
		t.Errorf("start what is not there: %v, hint %q", err, hintFor(err))
	}
	if eventsOf(d.name) != "none" {
		t.Error("the event source is left")
	}
}

// changeAndRestore installs the service with other settings, and takes that back.
func changeAndRestore(t *testing.T, d *deployment, entry *scmPart) {
	t.Helper()
	other := *d
	other.Config, other.RunAs = "", "LocalSystem"
	restore := entry.save()
	changed, err := scm{}.parts(&other)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := changed[2].have(); have == changed[2].want() || err != nil {
		t.Errorf("with other settings it is wanted as it is: %s, %v", have, err)
	}
	if err := changed[2].put(); err != nil {
		t.Fatal(err)
	}
	if have, err := changed[2].have(); have != changed[2].want() || err != nil {
		t.Errorf("changed, it is\n%s(%v); want\n%s", have, err, changed[2].want())
	}
	must(t, restore())
}

func TestForeignServiceIsTold(t *testing.T) {
	d := entryOfTest(t)
	manager, err := mgr.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Disconnect()
	s, err := manager.CreateService(d.name, `C:\other\other.exe`, mgr.Config{DisplayName: "The other " + d.name, Description: "Not ours"}, "serve")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got, want := (scm{}).foreign(t.Context(), d), `"The other `+d.name+`", which runs C:\other\other.exe serve`; got != want {
		t.Errorf("foreign = %s; want %s", got, want)
	}
}

// A program may have a source of events without a service: its events would lose their texts.
func TestForeignEventsAreLeft(t *testing.T) {
	d := entryOfTest(t)
	const file = `C:\other\other.dll`
	must(t, eventlog.Install(d.name, file, false, eventlog.Error))
	t.Cleanup(func() { must(t, eventlog.Remove(d.name)) })
	if got, want := (scm{}).foreign(t.Context(), d), "an event source with messages of "+file; got != want {
		t.Errorf("foreign = %q; want %q", got, want)
	}
	must(t, (&scmPart{scmEntry{name: d.name}}).remove())
	if got := eventsOf(d.name); got != "messages of "+file {
		t.Errorf("removing the service has left the event source with %s", got)
	}
}

func TestOneInstallationAtATime(t *testing.T) {
	unlock, err := lockServices(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	locked := make(chan error)
	go func() {
		unlock, err := lockServices(t.Context(), false)
		if err == nil {
			unlock()
		}
		locked <- err
	}()
	select {
	case err := <-locked:
		t.Errorf("a second installation began beside the first: %v", err)
	case <-time.After(4 * scmLook):
		unlock()
		if err := <-locked; err != nil {
			t.Error(err)
		}
	}
}

// Everybody may leave what looks like a receipt in %ProgramData%, which names a program to remove.
func TestReceiptOfOthersDoesNotCount(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, receipt)
	must(t, os.WriteFile(path, []byte((&deployment{instance: instance{name: "ipcd-test"}, Program: `C:\other\ipcd.exe`, Copied: true}).mark()), 0o600))
	i := &installer{d: &deployment{}}
	if !i.claimed([]string{dir}) || i.d.Program != `C:\other\ipcd.exe` {
		t.Errorf("our receipt does not count: %+v", i.d)
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;SY)(A;;FA;;;WD)")
	must(t, err)
	dacl, _, err := sd.DACL()
	must(t, err)
	must(t, windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil))
	i = &installer{d: &deployment{}}
	if i.claimed([]string{dir}) || i.d.Copied {
		t.Errorf("the receipt of others counts: %+v", i.d)
	}
}

// A process that lets nobody wait for it is waited for all the same. Wine lets everybody.
func TestProcessIsWaitedFor(t *testing.T) {
	sd, err := windows.SecurityDescriptorFromString("D:P")
	must(t, err)
	cmd := exec.Command("stay", filepath.Join(t.TempDir(), "there"))
	cmd.SysProcAttr = &syscall.SysProcAttr{ProcessAttributes: &syscall.SecurityAttributes{SecurityDescriptor: uintptr(unsafe.Pointer(sd))}}
	must(t, cmd.Start())
	runtime.KeepAlive(sd)
	p, ended := openProcess(uint32(cmd.Process.Pid)), make(chan struct{})
	go func() {
		p.wait()
		close(ended)
	}()
	select {
	case <-ended:
		t.Error("the wait was over before the process had ended")
	case <-time.After(4 * scmLook):
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	<-ended
}

func TestWritersAreFound(t *testing.T) {
	plain := func(err error) error { return err }
	dir := t.TempDir()
	file := filepath.Join(dir, "ipcd.exe")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(file, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
	if err := checkWriters(file, 0, plain); err == nil || !strings.Contains(err.Error(), "can change "+file) {
		t.Errorf("a file that everybody can write to: %v", err)
	}
	if err := checkWriters(filepath.Join(os.Getenv("SystemRoot"), "none.exe"), dirAdd, plain); err != nil {
		t.Errorf("the directory of Windows: %v", err)
	}
	must(t, windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil))
	if err := checkWriters(filepath.Join(dir, "none.exe"), dirAdd, plain); err == nil || !strings.Contains(err.Error(), "can change "+dir) {
		t.Errorf("a directory that everybody can write to: %v", err)
	}
	for _, path := range []string{`\\server\share\ipcd.exe`, `\\?\UNC\server\share\ipcd.exe`} {
		if err := checkLocal(path); err == nil {
			t.Errorf("%s is taken for a file of this machine", path)
		}
	}
	if err := checkLocal(file); err != nil {
		t.Error(err)
	}
}
