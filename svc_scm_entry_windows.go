package main

// This file owns the entry of a service in the database of the service control manager: what we want in it, what is in
// it, and how to get from the one to the other. kardianos/service creates the entry; what it has no options for
// is added here.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

// restarts are the delays before the manager restarts a service that has failed. After the last there is no further
// restart until failureReset has passed without a failure. The manager cannot be told to look at the exit code,
// so a service with a wrong configuration (exit code 2) is restarted as often. That is why the list ends.
var restarts = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute}

const failureReset = 24 * time.Hour

// requiredPrivileges are the privileges that the process keeps, of the many that its account has. This one is never
// taken away ("SERVICE_REQUIRED_PRIVILEGES_INFO structure"), and the list must not be empty. Identifying
// callers takes none ("ImpersonateNamedPipeClient function").
const requiredPrivileges = "SeChangeNotifyPrivilege"

// eventMessages has the text "%1" for each of the event numbers 1 to 1000; every Windows has the file.
const eventMessages = `%SystemRoot%\System32\EventCreate.exe`

// How text describes an event source.
const (
	ourEvents = "messages of " + eventMessages
	noEvents  = "none"
)

const eventSources = `SYSTEM\CurrentControlSet\Services\EventLog\Application\` // in HKEY_LOCAL_MACHINE; the name follows

// An scmEntry is what an entry says, in words that can be compared and shown.
type scmEntry struct {
	name        string
	display     string
	description string
	command     string // the whole line
	start       string
	account     string
	sid         string
	privileges  string
	onFailure   string
	onError     string // whether an exit with an error counts as a failure
	preshutdown string
	events      string
}

// The words for the values of some fields.
const (
	startAuto    = "automatic"
	startDelayed = "automatic, delayed"
	startByHand  = "by hand"
	startNever   = "disabled"
	sidOwn       = "unrestricted"
	wordYes      = "yes"
	wordNo       = "no"
)

// text has a line for each field; --dry-run shows it, and differences are shown in it.
func (e scmEntry) text() string {
	var b strings.Builder
	for _, row := range [][2]string{
		{"name", e.name}, {"display name", e.display}, {"description", e.description}, {"command line", e.command},
		{"start", e.start}, {"account", e.account}, {"service SID", e.sid}, {"privileges", e.privileges},
		{"on failure", e.onFailure}, {"an exit with an error is a failure", e.onError},
		{"time to stop before a shutdown", e.preshutdown}, {"event source", e.events},
	} {
		fmt.Fprintf(&b, "%s: %s\n", row[0], row[1])
	}
	return b.String()
}

// entryFor is the entry that the deployment wants.
func entryFor(d *deployment) (scmEntry, error) {
	account, err := serviceAccount(d.RunAs)
	if err != nil {
		return scmEntry{}, err
	}
	if owner, ok := strings.CutPrefix(account, virtualAccounts); ok && !strings.EqualFold(owner, d.name) {
		return scmEntry{}, usagef("--run-as: %s is the account of another service", account).withHint("the one of this is %s%s", virtualAccounts, d.name)
	}
	var line []string
	for _, arg := range d.command() {
		line = append(line, syscall.EscapeArg(arg)) // quotes a path with a space, of which the system would otherwise try C:\Program first
	}
	e := scmEntry{
		name: d.name, display: d.name, command: strings.Join(line, " "), account: account,
		description: "Lets the programs of this machine call one another. " + d.mark(),
		start:       startAuto, sid: sidOwn, privileges: requiredPrivileges,
		onFailure: failureText(restartActions(), uint32(failureReset/time.Second)), onError: wordYes,
		preshutdown: d.stopLimit().String(), events: ourEvents,
	}
	if d.Delayed {
		e.start = startDelayed
	}
	return e, nil
}

const virtualAccounts = `NT SERVICE\` // the system makes one for each service, of its name

// serviceAccount is what the manager calls the account of --run-as. The accounts of the system, and group managed ones,
// need no password. For others we would have to ask for one, store it and renew it.
func serviceAccount(runAs string) (string, error) {
	bare := strings.ToLower(strings.ReplaceAll(runAs, " ", ""))
	bare = strings.TrimPrefix(bare, `ntauthority\`)
	switch bare {
	case "", "localservice":
		return `NT AUTHORITY\LocalService`, nil
	case "networkservice":
		return `NT AUTHORITY\NetworkService`, nil
	case "localsystem", "system", `.\localsystem`:
		return "LocalSystem", nil
	}
	if strings.HasPrefix(bare, `ntservice\`) {
		return virtualAccounts + runAs[strings.Index(runAs, `\`)+1:], nil
	}
	if strings.HasSuffix(runAs, "$") && strings.Contains(runAs, `\`) {
		return runAs, nil
	}
	f := usagef("--run-as: the account %q has a password, and ipcd takes none", shorten(runAs, 100))
	if _, _, _, err := windows.LookupSID("", runAs); err != nil {
		f = usagef("--run-as: there is no user %q", shorten(runAs, 100))
	}
	return "", f.withHint(`use LocalService, NetworkService, LocalSystem, NT SERVICE\NAME or DOMAIN\ACCOUNT$ (group managed)`)
}

// restartActions are restarts in the form of the manager. It repeats the last action for ever, so the last one is to do
// nothing ("SERVICE_FAILURE_ACTIONS structure").
func restartActions() []mgr.RecoveryAction {
	var list []mgr.RecoveryAction
	for _, wait := range restarts {
		list = append(list, mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: wait})
	}
	return append(list, mgr.RecoveryAction{Type: mgr.NoAction})
}

// failureText says what the manager does when the service fails; reset is in seconds.
func failureText(actions []mgr.RecoveryAction, reset uint32) string {
	if len(actions) == 0 {
		return "nothing"
	}
	var list []string
	for _, a := range actions {
		switch a.Type {
		case mgr.NoAction:
			list = append(list, "nothing")
		case mgr.ServiceRestart:
			list = append(list, "start again after "+a.Delay.String())
		case mgr.ComputerReboot:
			list = append(list, "restart the computer after "+a.Delay.String())
		default:
			list = append(list, "run a command after "+a.Delay.String())
		}
	}
	if reset == windows.INFINITE {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s; from the beginning after %v without one", strings.Join(list, ", "), time.Duration(reset)*time.Second)
}

// An scmPart is the entry as a part of an installation.
type scmPart struct{ entry scmEntry }

func (p *scmPart) name() string   { return "the service " + p.entry.name }
func (p *scmPart) want() string   { return p.entry.text() }
func (p *scmPart) does() []string { return nil }

func (p *scmPart) have() (string, error) {
	e, err := readEntry(p.entry.name, p.entry)
	if isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return "", fs.ErrNotExist
	}
	if err != nil {
		return "", scmFault("look at", p.entry.name, err)
	}
	return e.text(), nil
}

// put creates the entry, or changes the one that is there. A deleted entry stays for as long as somebody has it open or
// its process runs, and until it is gone nothing can be done with it.
func (p *scmPart) put() error {
	name := p.entry.name
	err := waitGone(func() error {
		s, err := openService(name, windows.SERVICE_ALL_ACCESS)
		if isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
			return p.create()
		}
		if err != nil {
			return err
		}
		defer s.Close()
		return p.entry.write(s.Handle)
	})
	if err != nil {
		return scmFault("write", name, err)
	}
	return nil
}

// save returns a function that restores what the entry says now. What it says about failures, privileges and the SID is
// the same in every entry that install writes.
func (p *scmPart) save() (restore func() error) {
	old, err := readEntry(p.entry.name, p.entry)
	if err != nil {
		return p.remove
	}
	return (&scmPart{old}).put
}

// create creates the entry, and leaves nothing behind when it fails.
func (p *scmPart) create() error {
	carrier, err := p.entry.carrier()
	if err != nil {
		return err
	}
	if err := carrier.Install(); err != nil {
		return err
	}
	s, err := openService(p.entry.name, windows.SERVICE_ALL_ACCESS)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := p.entry.write(s.Handle); err != nil {
		return errors.Join(err, s.Delete(), removeEvents(p.entry.name))
	}
	return nil
}

// remove deletes the entry. It is no error if there is none, or if it is being deleted already.
func (p *scmPart) remove() error {
	name := p.entry.name
	s, err := openService(name, windows.DELETE)
	if err == nil {
		err = s.Delete()
		s.Close()
	}
	if err != nil && !isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST, windows.ERROR_SERVICE_MARKED_FOR_DELETE) {
		return scmFault("delete", name, err)
	}
	if err := removeEvents(name); err != nil {
		return err
	}
	err = waitGone(func() error {
		s, err := openService(name, windows.SERVICE_QUERY_STATUS)
		if err == nil {
			s.Close()
			return windows.ERROR_SERVICE_MARKED_FOR_DELETE
		}
		if isAny(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
			return nil
		}
		return err
	})
	if err != nil {
		return scmFault("delete", name, err)
	}
	return nil
}

// waitGone repeats do while a deleted entry is in the way, for at most goneLimit.
func waitGone(do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), goneLimit)
	defer cancel()
	_, err := again(ctx, scmLook, scmLook, func() (bool, error) {
		err := do()
		return !isAny(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE), err
	})
	return err
}

// readEntry reads an entry. An older Windows does not know every field; such a field cannot differ from what is wanted,
// and is taken from there.
func readEntry(name string, wanted scmEntry) (scmEntry, error) {
	s, err := openService(name, windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return scmEntry{}, err
	}
	defer s.Close()
	c, err := queryConfig(s.Handle)
	if err != nil {
		return scmEntry{}, err
	}
	e := wanted
	e.name = name
	e.command = windows.UTF16PtrToString(c.BinaryPathName)
	e.display = windows.UTF16PtrToString(c.DisplayName)
	e.account = windows.UTF16PtrToString(c.ServiceStartName)
	e.events = eventsOf(name)
	switch c.StartType {
	case windows.SERVICE_AUTO_START:
		if wanted.start != startDelayed {
			e.start = startAuto
		}
	case windows.SERVICE_DEMAND_START:
		e.start = startByHand
	case windows.SERVICE_DISABLED:
		e.start = startNever
	default: // a driver's
		e.start = fmt.Sprintf("type %d", c.StartType)
	}
	for level, take := range e.takers(c.StartType == windows.SERVICE_AUTO_START) {
		b, err := queryConfig2(s.Handle, level)
		switch {
		case err == nil:
			take(unsafe.Pointer(&b[0]))
		case !isAny(err, windows.ERROR_INVALID_LEVEL):
			return scmEntry{}, err
		}
	}
	return e, nil
}

// takers are the functions that read the answers of QueryServiceConfig2 into e, by level. The pointers in an answer
// lead into the same memory.
func (e *scmEntry) takers(auto bool) map[uint32]func(unsafe.Pointer) {
	yes := map[bool]string{true: wordYes, false: wordNo}
	return map[uint32]func(unsafe.Pointer){
		windows.SERVICE_CONFIG_DESCRIPTION: func(p unsafe.Pointer) {
			e.description = windows.UTF16PtrToString((*windows.SERVICE_DESCRIPTION)(p).Description)
		},
		windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO: func(p unsafe.Pointer) {
			if delayed := (*windows.SERVICE_DELAYED_AUTO_START_INFO)(p).IsDelayedAutoStartUp != 0; auto && delayed {
				e.start = startDelayed
			} else if auto {
				e.start = startAuto
			}
		},
		windows.SERVICE_CONFIG_SERVICE_SID_INFO: func(p unsafe.Pointer) {
			switch kind := (*serviceSIDInfo)(p).ServiceSidType; kind {
			case windows.SERVICE_SID_TYPE_NONE:
				e.sid = "none"
			case windows.SERVICE_SID_TYPE_UNRESTRICTED:
				e.sid = sidOwn
			default:
				e.sid = fmt.Sprintf("type %d", kind)
			}
		},
		windows.SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO: func(p unsafe.Pointer) {
			e.privileges = strings.Join(multiText((*requiredPrivilegesInfo)(p).RequiredPrivileges), ", ")
			if e.privileges == "" {
				e.privileges = "all of the account"
			}
		},
		windows.SERVICE_CONFIG_FAILURE_ACTIONS: func(p unsafe.Pointer) {
			f := (*windows.SERVICE_FAILURE_ACTIONS)(p)
			var list []mgr.RecoveryAction
			if f.Actions != nil {
				for _, a := range unsafe.Slice(f.Actions, f.ActionsCount) {
					list = append(list, mgr.RecoveryAction{Type: int(a.Type), Delay: time.Duration(a.Delay) * time.Millisecond})
				}
			}
			e.onFailure = failureText(list, f.ResetPeriod)
		},
		windows.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG: func(p unsafe.Pointer) {
			e.onError = yes[(*windows.SERVICE_FAILURE_ACTIONS_FLAG)(p).FailureActionsOnNonCrashFailures != 0]
		},
		windows.SERVICE_CONFIG_PRESHUTDOWN_INFO: func(p unsafe.Pointer) {
			e.preshutdown = (time.Duration((*preshutdownInfo)(p).PreshutdownTimeout) * time.Millisecond).String()
		},
	}
}

// typedef struct { DWORD dwServiceSidType; } SERVICE_SID_INFO
type serviceSIDInfo struct{ ServiceSidType uint32 }

// typedef struct { LPWSTR pmszRequiredPrivileges; } SERVICE_REQUIRED_PRIVILEGES_INFOW
type requiredPrivilegesInfo struct{ RequiredPrivileges *uint16 }

// typedef struct { DWORD dwPreshutdownTimeout; } SERVICE_PRESHUTDOWN_INFO
type preshutdownInfo struct{ PreshutdownTimeout uint32 }

// write makes an entry say what e says.
func (e scmEntry) write(h windows.Handle) error {
	text := func(s string) *uint16 { p, _ := windows.UTF16PtrFromString(s); return p }
	// No password: these accounts have none, or none that we could know.
	err := windows.ChangeServiceConfig(h, windows.SERVICE_WIN32_OWN_PROCESS, e.startType(), windows.SERVICE_ERROR_NORMAL,
		text(e.command), nil, nil, nil, text(e.account), nil, text(e.display))
	if err != nil {
		return os.NewSyscallError("ChangeServiceConfig", err)
	}
	limit, err := time.ParseDuration(e.preshutdown)
	if err != nil {
		return err
	}
	var actions []windows.SC_ACTION
	for _, a := range restartActions() {
		actions = append(actions, windows.SC_ACTION{Type: uint32(a.Type), Delay: uint32(a.Delay / time.Millisecond)})
	}
	var delayed uint32
	if e.start == startDelayed {
		delayed = 1
	}
	privileges := utf16.Encode([]rune(requiredPrivileges + "\x00\x00")) // a list of strings, each with a zero at its end, and a last zero
	for _, c := range []struct {
		level uint32
		info  unsafe.Pointer
	}{
		{windows.SERVICE_CONFIG_DESCRIPTION, unsafe.Pointer(&windows.SERVICE_DESCRIPTION{Description: text(e.description)})},
		{windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, unsafe.Pointer(&windows.SERVICE_DELAYED_AUTO_START_INFO{IsDelayedAutoStartUp: delayed})},
		{windows.SERVICE_CONFIG_SERVICE_SID_INFO, unsafe.Pointer(&serviceSIDInfo{windows.SERVICE_SID_TYPE_UNRESTRICTED})},
		{windows.SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, unsafe.Pointer(&requiredPrivilegesInfo{&privileges[0]})},
		{windows.SERVICE_CONFIG_FAILURE_ACTIONS, unsafe.Pointer(&windows.SERVICE_FAILURE_ACTIONS{
			ResetPeriod: uint32(failureReset / time.Second), ActionsCount: uint32(len(actions)), Actions: &actions[0],
		})},
		{windows.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, unsafe.Pointer(&windows.SERVICE_FAILURE_ACTIONS_FLAG{FailureActionsOnNonCrashFailures: 1})},
		{windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, unsafe.Pointer(&preshutdownInfo{uint32(limit / time.Millisecond)})},
	} {
		err := windows.ChangeServiceConfig2(h, c.level, (*byte)(c.info))
		if err != nil && !isAny(err, windows.ERROR_INVALID_LEVEL) { // see readEntry
			return fmt.Errorf("ChangeServiceConfig2, level %d: %w", c.level, err)
		}
	}
	return writeEvents(e.name)
}

func (e scmEntry) startType() uint32 {
	switch e.start {
	case startByHand:
		return windows.SERVICE_DEMAND_START
	case startNever:
		return windows.SERVICE_DISABLED
	}
	return windows.SERVICE_AUTO_START
}

// queryConfig is QueryServiceConfig. The pointers in its result lead into the same memory.
func queryConfig(h windows.Handle) (*windows.QUERY_SERVICE_CONFIG, error) {
	size := uint32(8 << 10) // "The maximum size of this array is 8K bytes."
	b := make([]byte, size)
	c := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&b[0]))
	err := windows.QueryServiceConfig(h, c, size, &size)
	return c, os.NewSyscallError("QueryServiceConfig", err)
}

func queryConfig2(h windows.Handle, level uint32) ([]byte, error) {
	size := uint32(8 << 10) // likewise
	b := make([]byte, size)
	err := windows.QueryServiceConfig2(h, level, &b[0], size, &size)
	return b, os.NewSyscallError("QueryServiceConfig2", err)
}

// multiText reads a list of strings that ends with an empty one.
func multiText(p *uint16) []string {
	var list []string
	for p != nil && *p != 0 {
		s := windows.UTF16PtrToString(p)
		list = append(list, s)
		p = (*uint16)(unsafe.Add(unsafe.Pointer(p), 2*(len(utf16.Encode([]rune(s)))+1)))
	}
	return list
}

// eventsOf says where the event source has its messages, or that there is no such source.
func eventsOf(name string) string {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, eventSources+name, registry.QUERY_VALUE)
	if err != nil {
		return noEvents
	}
	defer k.Close()
	file, _, err := k.GetStringValue("EventMessageFile")
	if err != nil {
		return noEvents
	}
	return "messages of " + file
}

// writeEvents makes our event source what it should be: kardianos/service does not touch one that exists.
func writeEvents(name string) error {
	if eventsOf(name) == ourEvents {
		return nil
	}
	if err := eventlog.Remove(name); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return fmt.Errorf("remove the event source %s: %w", name, err)
	}
	if err := eventlog.InstallAsEventCreate(name, eventlog.Error|eventlog.Warning|eventlog.Info); err != nil {
		return fmt.Errorf("make the event source %s: %w", name, err)
	}
	return nil
}

// removeEvents removes our event source; it is no error if there is none, or it is another program's.
func removeEvents(name string) error {
	if eventsOf(name) != ourEvents {
		return nil
	}
	if err := eventlog.Remove(name); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return fmt.Errorf("remove the event source %s: %w", name, err)
	}
	return nil
}
