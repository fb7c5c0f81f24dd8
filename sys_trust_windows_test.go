package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// The SIDs are those that Windows itself has: of TrustedInstaller in the list of well-known SIDs, of
// the others what "sc showsid" prints for services of every Windows.
func TestServiceSIDIsThatOfWindows(t *testing.T) {
	for name, want := range map[string]string{
		"TrustedInstaller": sidInstaller,
		"trustedinstaller": sidInstaller, // names of services have no case
		"MSSQLSERVER":      "S-1-5-80-3880718306-3832830129-1677859214-2598158968-1052248003",
	} {
		if got := serviceSID(name); got != want || !isServiceSID(got) {
			t.Errorf("serviceSID(%q) = %s; want %s", name, got, want)
		}
	}
	for _, sid := range []string{"S-1-5-80-0", sidLocalService, "S-1-5-80", "", "S-1-5-21-1-2-3-4-5"} {
		if isServiceSID(sid) {
			t.Errorf("%q is taken for the SID of one service", sid)
		}
	}
}

func TestPipeSecurity(t *testing.T) {
	own := peer{SID: "S-1-5-21-1-2-3-1000", Groups: []string{sidEveryone}}
	ipcd := serviceSID("ipcd")
	service := peer{SID: sidLocalService, Groups: []string{sidEveryone, "S-1-5-80-0", ipcd}}
	system := peer{SID: sidSystem, Groups: []string{ipcd}}
	user := endpoint{Scheme: "npipe", Path: pipePrefix + "ipcd-" + own.SID}
	users := audience{group: group{name: "Users", id: "S-1-5-32-545"}}
	for _, test := range []struct {
		e    endpoint
		own  peer
		to   audience
		want string
	}{
		{user, own, audience{}, "O:" + own.SID + "D:P(A;;GA;;;SY)(A;;GA;;;" + own.SID + ")"},
		{user, own, users, "O:" + own.SID + "D:P(A;;GA;;;SY)(A;;GA;;;" + own.SID + ")(A;;0x12019b;;;S-1-5-32-545)"},
		{user, own, audience{group: users.group, all: true}, "O:" + own.SID + "D:P(A;;GA;;;SY)(A;;GA;;;" + own.SID + ")(A;;0x12019b;;;AU)"},
		{serviceEndpoint(defaultName), system, audience{}, "O:S-1-5-18D:P(A;;GA;;;SY)(A;;GA;;;BA)"},
		{serviceEndpoint(defaultName), service, audience{}, "O:" + ipcd + "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + ipcd + ")"},
		{user, service, users, "O:" + ipcd + "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + ipcd + ")(A;;0x12019b;;;S-1-5-32-545)"},
		{serviceEndpoint(defaultName), peer{SID: sidLocalService}, audience{}, "O:S-1-5-19D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;S-1-5-19)"},
	} {
		got := pipeSecurity(test.e, test.own, test.to)
		if got != test.want {
			t.Errorf("pipeSecurity(%v, %s) = %s; want %s", test.e, test.own.SID, got, test.want)
		}
		if _, err := windows.SecurityDescriptorFromString(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

// A member of the group may read and write, and not serve beside the daemon.
func TestPipeGroupMayNotServe(t *testing.T) {
	const createInstance = windows.FILE_APPEND_DATA // FILE_CREATE_PIPE_INSTANCE in the SDK
	if rightsCall&createInstance != 0 || rightsCall&windows.FILE_READ_DATA == 0 || rightsCall&windows.FILE_WRITE_DATA == 0 {
		t.Errorf("the rights of a caller are %#x", rightsCall)
	}
}

func TestPipeTrustsItsOwnOwnersAlone(t *testing.T) {
	own, err := ownPeer()
	if err != nil {
		t.Fatal(err)
	}
	service := serviceEndpoint("ipcd")
	of := func(name string) endpoint { return endpoint{Scheme: "npipe", Path: pipePrefix + name} }
	const other = "S-1-5-21-1-2-3-1099"
	for _, test := range []struct {
		e    endpoint
		sid  string
		want bool
	}{
		{service.withOwner(other), other, true},
		{service.withOwner(other), sidSystem, true},
		{service.withOwner(other), own.SID, false},
		{service.withOwner(other), serviceSID("ipcd"), false},
		{service.withOwner(own.SID), own.SID, true},
		{service.withOwner(own.SID), other, false},
		{service, own.SID, true},
		{service, sidSystem, true},
		{service, sidAdministrators, true},
		{service, serviceSID("ipcd"), true},
		{of("ipcd.more"), serviceSID("ipcd"), true},
		{of(`ipcd\more`), serviceSID("ipcd"), true},
		{of("ipcd-2"), serviceSID("ipcd"), false},
		{of("IPCD"), serviceSID("ipcd"), false},
		{service, serviceSID("other"), false},
		{service, sidLocalService, false}, // any service with that account could have taken the name
		{service, "S-1-5-80-0", false},
		{service, "S-1-5-21-1-2-3-1099", false},
		{service, sidEveryone, false},
	} {
		expected, err := expectedOwner(test.e)
		must(t, err)
		if got := mayServe(test.e, expected, test.sid); got != test.want {
			t.Errorf("mayServe(%v, %s) = %v; want %v", test.e, test.sid, got, test.want)
		}
	}
}

func TestPipeSaysWhoseItIs(t *testing.T) {
	for path, want := range map[string]string{
		pipePrefix + "ipcd-S-1-5-18":   "it is that of ",
		pipePrefix + "ipcd-no-such":    "",
		pipePrefix + "Not a service's": "",
	} {
		if got := whosePipe(endpoint{Scheme: "npipe", Path: path}); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("whosePipe(%s) = %q; want %q", path, got, want)
		}
	}
	f := dialPipeFault(t.Context(), endpoint{Scheme: "npipe", Path: pipePrefix + "ipcd-S-1-5-18", Proto: protoAuto}, windows.ERROR_ACCESS_DENIED)
	if f.Code != codeNotReachable || !strings.Contains(f.Text, "S-1-5-18") || !strings.Contains(f.hint, "--allow-group") {
		t.Errorf("%v, hint %q", f, f.hint)
	}
}

// A token is elevated with less than the administrators have.
func TestMastersAreAdministrators(t *testing.T) {
	for _, test := range []struct {
		p    peer
		want bool
	}{
		{peer{Known: true, SID: sidSystem}, true},
		{peer{Known: true, SID: "S-1-5-21-1-2-3-500", Elevated: true, Groups: []string{sidEveryone, sidAdministrators}}, true},
		{peer{Known: true, SID: "S-1-5-21-1-2-3-500", Groups: []string{sidEveryone}}, false},
		{peer{Known: true, SID: sidNetworkService, Elevated: true, Groups: []string{sidEveryone}}, false},
		{peer{SID: sidSystem}, false},
	} {
		if got := isMaster(test.p); got != test.want {
			t.Errorf("isMaster(%+v) = %v; want %v", test.p, got, test.want)
		}
	}
}

func TestOthersInADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "closed")
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)")
	if err != nil {
		t.Fatal(err)
	}
	text, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.CreateDirectory(text, securityOf(sd)); err != nil {
		t.Fatal(err)
	}
	if others, err := othersIn(dir, anyRight); err != nil || len(others) > 0 {
		t.Errorf("othersIn(a closed directory) = %v, %v", others, err)
	}
	open := filepath.Join(filepath.Dir(dir), "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	sd, err = windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	err = windows.SetNamedSecurityInfo(open, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
	if err != nil {
		t.Fatal(err)
	}
	if others, err := othersIn(open, anyRight); err != nil || fmt.Sprint(others) != "["+sidEveryone+"]" {
		t.Errorf("othersIn(an open directory) = %v, %v; want everyone", others, err)
	}
	for _, test := range []struct {
		dir   string
		trust bool
	}{{filepath.Dir(dir), true}, {open, false}} {
		file := filepath.Join(test.dir, "c.toml")
		if err := os.WriteFile(file, []byte("idle = \"1h\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := loadSettings(file, true, noEnv, nil)
		if (err == nil) != test.trust || err != nil && !strings.Contains(hintFor(err), "where only you can write") {
			t.Errorf("a configuration in %s: %v, hint %q; want it taken: %v", test.dir, err, hintFor(err), test.trust)
		}
	}
}
