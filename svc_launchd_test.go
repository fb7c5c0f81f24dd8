package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// readPlist has another program's parser read a property list.
func readPlist(t *testing.T, text string) map[string]any {
	t.Helper()
	cmd := exec.Command(needShellTool(t, "python3"), "-c", "import json, plistlib, sys; json.dump(plistlib.loads(sys.stdin.buffer.read()), sys.stdout)")
	cmd.Stdin = strings.NewReader(text)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("plistlib: %v\n%s\n%s", err, &complaint, text)
	}
	var m map[string]any
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLaunchdPlist(t *testing.T) {
	own := &deployment{instance: instance{name: "ipcd", user: true}, Program: "/usr/local/bin/ipcd", Settings: defaultSettings()}
	for name, d := range map[string]*deployment{"launchd": plainDeployment(), "launchd-odd": oddDeployment(), "launchd-user": own} {
		text := launchd{}.mainPlist(d)
		checkGolden(t, golden(name), strings.ReplaceAll(text, ownHome(), "/Users/ada"))
		checkMark(t, d, text)
		t.Run(name, func(t *testing.T) { checkMainPlist(t, d, readPlist(t, text)) })
		if d.user {
			continue
		}
		text = launchd{}.dirsPlist(d)
		checkGolden(t, golden(name+"-dirs"), text)
		checkMark(t, d, text)
		t.Run(name+"-dirs", func(t *testing.T) {
			words := readPlist(t, text)["ProgramArguments"].([]any)
			checkShell(t, "#!/bin/sh\n"+words[2].(string)+"\n")
		})
	}
}

func checkMainPlist(t *testing.T, d *deployment, got map[string]any) {
	t.Helper()
	want := map[string]any{
		"Label": d.name, "RunAtLoad": true, "KeepAlive": map[string]any{"SuccessfulExit": false}, "Umask": 0o77,
		"ExitTimeOut": seconds(d.stopLimit()), "SoftResourceLimits": map[string]any{"NumberOfFiles": launchdFiles},
		"StandardErrorPath": launchd{}.logPath(d), "ProgramArguments": d.command(),
	}
	if !d.user {
		want["UserName"] = launchd{}.account(d)
	}
	if d.AllowGroup != "" {
		want["GroupName"] = d.AllowGroup
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any // numbers as the other parser's JSON has them
	if err := json.Unmarshal(b, &plain); err != nil {
		t.Fatal(err)
	}
	for key, value := range plain {
		if !reflect.DeepEqual(got[key], value) {
			t.Errorf("%s = %v; want %v", key, got[key], value)
		}
	}
}

// TestLaunchdJob reads what launchctl print says in various states.
func TestLaunchdJob(t *testing.T) {
	for _, test := range []struct {
		name, lines string
		job         launchdJob
		want        unitState
	}{
		{"runs", "state = running|runs = 1|pid = 913|last exit code = (never exited)",
			launchdJob{state: "running", runs: 1, pid: 913}, unitState{Active: activeRunning, PID: 913}},
		{"runs again", "state = running|runs = 3|pid = 914|last exit code = 1",
			launchdJob{state: "running", runs: 3, pid: 914, ended: "with the exit code 1"}, unitState{Active: activeRunning, PID: 914, Restarts: 2}},
		{"waits after a failure", "state = spawn scheduled|runs = 54|last exit code = 78: EX_CONFIG|job state = spawn failed",
			launchdJob{state: "spawn scheduled", runs: 54, ended: "with the exit code 78: EX_CONFIG"},
			unitState{Active: activeStarting, Restarts: 53, Why: "it ended with the exit code 78: EX_CONFIG"}},
		{"has ended", "state = not running|runs = 1|last exit code = 0",
			launchdJob{state: "not running", runs: 1, ended: "with the exit code 0"}, unitState{Active: activeStopped}},
		{"was killed", "state = not running|runs = 2|last terminating signal = Killed: 9",
			launchdJob{state: "not running", runs: 2, ended: "by the signal Killed: 9"},
			unitState{Active: activeFailed, Restarts: 1, Why: "it ended by the signal Killed: 9"}},
		{"was never run", "state = not running|runs = 0|last exit code = (never exited)",
			launchdJob{state: "not running"}, unitState{Active: activeStopped}},
	} {
		out := "system/ipcd = {\n\tactive count = 1\n\tpath = /Library/LaunchDaemons/ipcd.plist\n\ttype = LaunchDaemon\n\t" +
			strings.ReplaceAll(test.lines, "|", "\n\t") +
			"\n\n\targuments = {\n\t\tstate = /x\n\t\tpid = 1\n\t}\n\tendpoints = {\n\t\t\"x\" = {\n\t\t\tstate = active\n\t\t}\n\t}\n\tproperties = keepalive | runatload\n}\n"
		test.job.path = "/Library/LaunchDaemons/ipcd.plist"
		test.want.Installed = true
		if got := parseJob(out); got != test.job {
			t.Errorf("%s: parseJob = %+v; want %+v", test.name, got, test.job)
		}
		if got := test.job.unit(); got != test.want {
			t.Errorf("%s: unit = %+v; want %+v", test.name, got, test.want)
		}
	}
	if got := parseJob("no such thing\n"); got != (launchdJob{}) {
		t.Errorf("parseJob of another text = %+v", got)
	}
}

func TestLaunchdDisabled(t *testing.T) {
	out := "disabled services = {\n\t\"a\" => disabled\n\t\"b\" => enabled\n\t\"c\" => true\n\t\"d\" => false\n\t\"ab\" => disabled\n}\n"
	var got []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if parseDisabled(out, name) {
			got = append(got, name)
		}
	}
	if want := []string{"a", "c"}; !slices.Equal(got, want) {
		t.Errorf("disabled are %q; want %q", got, want)
	}
}

// fakeLaunchctl has one service, in $FAKE/loaded. It goes a while after bootout, which says that it
// is in progress; kickstart makes it run; $FAKE/disabled has it disabled.
const fakeLaunchctl = `cd "$FAKE" || exit 1
case "$1" in
print)
	[ -e loaded ] || exit 113
	printf 'x = {\n\tpath = /x.plist\n\tstate = %s\n\truns = 1\n}\n' "$(cat loaded)"
	if [ -e going ]; then rm going loaded; fi
	;;
print-disabled) [ ! -e disabled ] || printf '\t"ipcd" => disabled\n' ;;
enable) rm disabled ;;
bootstrap)
	[ ! -e loaded ] || { echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }
	echo running >loaded
	;;
kickstart) echo running >loaded ;;
bootout)
	[ ! -e refused ] || { echo 'Boot-out failed: 1: Operation not permitted' >&2; exit 1; }
	touch going
	echo 'Boot-out failed: 36: Operation now in progress' >&2
	exit 36
	;;
esac
`

func TestLaunchdSteps(t *testing.T) {
	calls := fakeTools(t, map[string]string{"launchctl": fakeLaunchctl})
	l, d := launchd{}, plainDeployment()
	d.user = true // who needs no directory of root's
	domain, list := l.domain(d), l.plistPath(d)
	bootstrap, bootout := "launchctl bootstrap "+domain+" "+list, "launchctl bootout "+domain+"/ipcd"
	kickstart := "launchctl kickstart " + domain + "/ipcd"
	checkTaken(t, "stop of nothing", take(t, calls, l.stop(d)))
	checkTaken(t, "start", take(t, calls, l.start(d)), bootstrap, kickstart)
	checkTaken(t, "start of what runs", take(t, calls, l.start(d)), kickstart)
	checkTaken(t, "restart", take(t, calls, l.restart(d)), bootout, bootstrap, kickstart)
	checkTaken(t, "enable", take(t, calls, l.enable(d)))
	fake := os.Getenv("FAKE")
	must(t, os.WriteFile(filepath.Join(fake, "disabled"), nil, 0o600))
	checkTaken(t, "enable of what is disabled", take(t, calls, l.enable(d)), "launchctl enable "+domain+"/ipcd")
	if st, err := l.state(t.Context(), d); err != nil || st.Installed {
		t.Errorf("without its file the state is %+v, %v; want that it is not installed", st, err)
	}
	if got := l.foreign(t.Context(), d); got != "/x.plist" {
		t.Errorf("a service from another file is that of %q", got)
	}
	must(t, os.WriteFile(filepath.Join(fake, "refused"), nil, 0o600))
	if err := perform(t.Context(), l.stop(d)); err == nil || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("stop that is refused: %v", err)
	}
	must(t, os.Remove(filepath.Join(fake, "refused")))
	checkTaken(t, "disable", take(t, calls, l.disable(d)), bootout)
	d.user = false
	checkTaken(t, "disable of nothing", take(t, calls, l.disable(d)))
}

// FuzzLaunchdJob wants no panic, and no pid or count below nothing shown as a restart.
func FuzzLaunchdJob(f *testing.F) {
	f.Add("system/ipcd = {\n\tstate = running\n\tpid = 913\n\truns = 1\n}\n")
	f.Add("\tlast exit code = \n\tpid = -1")
	f.Fuzz(around(func(t *testing.T, out string) {
		if st := parseJob(out).unit(); st.Restarts < 0 || st.Active == "" {
			t.Errorf("unit = %+v", st)
		}
		parseDisabled(out, "ipcd")
	}))
}
