package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRCDScript(t *testing.T) {
	for name, d := range map[string]*deployment{"rcd": plainDeployment(), "rcd-odd": oddDeployment()} {
		text := rcD{}.script(d)
		checkGolden(t, golden(name), text)
		checkMark(t, d, text)
		checkGolden(t, golden(name+"-newsyslog"), rcD{}.rotate(d))
		t.Run(name, func(t *testing.T) { checkShell(t, text) })
	}
}

// TestRCDScriptIsReadByRC puts a rc.subr of ours in the place of FreeBSD's: it runs what
// run_rc_command would, with eval as that does, and daemon(8) and its friends only say what they are given.
func TestRCDScriptIsReadByRC(t *testing.T) {
	const subr = `
load_rc_config() { :; }
checkyesno() { :; }
install() { printf 'install\0%s\0' "$*"; }
daemon() { printf '%s\0' "$@"; }
run_rc_command()
{
	eval "$start_precmd" || return 1
	eval "daemon $command_args"
}
`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rc.subr"), []byte(subr), 0o600); err != nil {
		t.Fatal(err)
	}
	d := oddDeployment()
	got := shellWords(t, replaceOnce(t, rcD{}.script(d), "/etc/rc.subr", shellWord(filepath.ToSlash(filepath.Join(dir, "rc.subr")))))
	want := append([]string{
		"install", "-d -o ada -g staff -m 0755 /var/run/ipcd-2", "install", "-d -o ada -m 0700 /var/db/ipcd-2",
		"-f", "-c", "-H", "-R", "5", "-P", "/var/run/ipcd-2.pid", "-p", "/var/run/ipcd-2.child.pid",
		"-u", "ada", "-o", "/var/log/ipcd-2.log", "-t", "ipcd-2", "--",
	}, d.command()...)
	if !slices.Equal(got, want) {
		t.Errorf("rc runs %q\nwant %q", got, want)
	}
}

func TestRCDSteps(t *testing.T) {
	calls := fakeTools(t, map[string]string{
		"service": `cd "$FAKE" || exit 1
case "$2" in
onestatus) [ -e running ] ;;
onestart) touch running ;;
onestop) rm running ;;
esac
`,
		"sysrc": `cd "$FAKE" || exit 1
case "$1" in
-n) [ -e enabled ] && echo YES ;;
-x) rm enabled ;;
*) touch enabled ;;
esac
`,
	})
	r, d := rcD{}, oddDeployment()
	checkTaken(t, "disable of nothing", take(t, calls, r.disable(d)))
	checkTaken(t, "enable", take(t, calls, r.enable(d)), "sysrc ipcd_2_enable=YES")
	checkTaken(t, "disable", take(t, calls, r.disable(d)), "sysrc -x ipcd_2_enable")
	checkTaken(t, "start", take(t, calls, r.start(d)), "service ipcd-2 onestart")
	checkTaken(t, "start of what runs", take(t, calls, r.start(d)))
	checkTaken(t, "stop without a script", take(t, calls, r.stop(d)))
	if st, err := r.state(t.Context(), d); err != nil || st != (unitState{Active: activeStopped}) {
		t.Errorf("without its script the state is %+v, %v", st, err)
	}
}

func TestRCDTellsNamesApart(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ipcd-2", "cron"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"ipcd-2": "", "ipcd_2": dir + "/ipcd-2", "ipcd": "", "cron": ""} {
		if got := sameVariable(name, filepath.Join(dir, "none"), dir); got != want {
			t.Errorf("sameVariable(%q) = %q; want %q", name, got, want)
		}
	}
}

func TestRCDReadsYes(t *testing.T) {
	for value, want := range map[string]bool{"YES\n": true, "yes": true, "On": true, "1": true, "NO\n": false, "": false, "2": false} {
		if got := rcYes(value); got != want {
			t.Errorf("rcYes(%q) = %v; want %v", value, got, want)
		}
	}
}
