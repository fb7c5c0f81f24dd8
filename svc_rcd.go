package main

// This file owns the service on FreeBSD: the script for rc.subr(8), and the use of service(8) and sysrc(8). daemon(8)
// runs ipcd and restarts it.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// rcD is the supervisor of FreeBSD.
type rcD struct{}

// The directories of scripts: the system's own, and that of what was added, see rc(8).
const (
	rcdSystem = "/etc/rc.d"
	rcdLocal  = "/usr/local/etc/rc.d"
)

func (rcD) title() string { return "rc.d" }
func (rcD) listens() bool { return false }

func (rcD) missing(user bool) *fault {
	for _, tool := range []string{"service", "sysrc", "daemon"} {
		if !hasTool(tool) || !fileThere("/etc/rc.subr") {
			return faultf(codeApplication, "rc.d does not run here")
		}
	}
	if user {
		return faultf(codeApplication, "FreeBSD has services of the system alone").
			withHint(`as root: ipcd install; or start "ipcd run" from your crontab: @reboot`)
	}
	return nil
}

func (rcD) scriptPath(d *deployment) string { return rcdLocal + "/" + d.name }
func (rcD) rotatePath(d *deployment) string {
	return "/usr/local/etc/newsyslog.conf.d/" + d.name + ".conf"
}
func (rcD) runPath(d *deployment) string       { return "/var/run/" + d.name }
func (rcD) statePath(d *deployment) string     { return "/var/db/" + d.name }
func (rcD) logPath(d *deployment) string       { return "/var/log/" + d.name + ".log" }
func (rcD) managerPID(d *deployment) string    { return "/var/run/" + d.name + ".pid" }
func (rcD) daemonPID(d *deployment) string     { return "/var/run/" + d.name + ".child.pid" }
func (rcD) enableSetting(d *deployment) string { return rcVariable(d.name) + "_enable" }

// rcVariable is the name as a prefix of its settings in rc.subr: a shell variable has no "-".
func rcVariable(name string) string { return strings.ReplaceAll(name, "-", "_") }

func (rcD) account(d *deployment) string {
	if d.RunAs != "" {
		return d.RunAs
	}
	return d.name
}

// script is the whole of /usr/local/etc/rc.d/NAME. daemon(8) stays root and gives up its rights in the child only, so
// its pid files stay root's. No exit code stops it: with bad configuration (2) it tries again after each delay.
// It has no option for a group, and needs none: on a BSD what is created in a directory gets the group of that
// directory, see open(2).
func (r rcD) script(d *deployment) string {
	groupFlag := ""
	if d.AllowGroup != "" {
		groupFlag = "-g " + d.AllowGroup + " "
	}
	command := append([]string{"-f", "-c", "-H", "-R", "5", "-P", r.managerPID(d), "-p", r.daemonPID(d),
		"-u", r.account(d), "-o", r.logPath(d), "-t", d.name, "--"}, d.command()...)
	return fmt.Sprintf(`#!/bin/sh
#
# %[1]s
# Change it with "ipcd install --force".
#
# PROVIDE: %[2]s
# REQUIRE: DAEMON cleanvar
# KEYWORD: shutdown

. /etc/rc.subr

name=%[3]s
desc="Calls between the programs of this machine"
rcvar=%[3]s_enable
load_rc_config "$name"
: "${%[3]s_enable:=NO}"

command=/usr/sbin/daemon
procname=/usr/sbin/daemon
command_args=%[4]s
pidfile=%[5]s
%[3]s_env="STATE_DIRECTORY=%[9]s"

extra_commands=reload
start_precmd=%[3]s_prestart
stop_precmd=%[3]s_prestop
stop_postcmd=%[3]s_poststop
reload_cmd=%[3]s_reload

%[3]s_prestart()
{
	install -d -o %[7]s %[8]s-m 0755 %[10]s || return 1
	install -d -o %[7]s -m 0700 %[9]s
}

# daemon(8) passes the signal on and, in some releases, does not wait for its child: what was
# accepted is still answered, and a restart must not begin before.
%[3]s_prestop()
{
	child=$(cat %[6]s 2>/dev/null)
	return 0
}

%[3]s_poststop()
{
	[ -n "$child" ] || return 0
	pwait -t %[11]d "$child" 2>/dev/null
	[ $? -ne 124 ] || kill -KILL "$child"
}

%[3]s_reload()
{
	kill -HUP "$(cat %[6]s)"
}

run_rc_command "$1"
`, d.mark(), d.name, rcVariable(d.name), shellWord(shellLine(command...)), r.managerPID(d), r.daemonPID(d),
		r.account(d), groupFlag, r.statePath(d), r.runPath(d), seconds(d.stopLimit()))
}

// rotate is the file for newsyslog.conf(5): seven logs of at most 1 MB each. Signal 1, SIGHUP, makes daemon(8) reopen
// the log (its -H); it does not reach ipcd.
func (r rcD) rotate(d *deployment) string {
	return fmt.Sprintf("# %s\n# logfile mode count size when flags pid_file sig_num\n%s 600 7 1000 * JC %s 1\n",
		d.mark(), r.logPath(d), r.managerPID(d))
}

func (r rcD) parts(d *deployment) ([]part, error) {
	if err := checkScript(d); err != nil {
		return nil, err
	}
	script, err := newCarriedPart(d, filePart{path: r.scriptPath(d), text: r.script(d), mode: 0o755}, "SysvScript")
	if err != nil {
		return nil, err
	}
	parts := []part{script, &filePart{path: r.rotatePath(d), text: r.rotate(d), mode: 0o644}}
	if d.RunAs != "" {
		return parts, nil
	}
	return append([]part{r.userPart(d)}, parts...), nil
}

// userPart is a user with no password, no home and no shell.
func (r rcD) userPart(d *deployment) *accountPart {
	return &accountPart{user: d.name, state: r.statePath(d),
		add: [][]string{{"pw", "useradd", "-n", d.name, "-c", accountMark, "-d", "/nonexistent", "-s", "/usr/sbin/nologin", "-w", "no"}},
		del: [][]string{{"pw", "userdel", "-n", d.name}}, // and the group of its name
	}
}

func (r rcD) possible(d *deployment) []part {
	return []part{r.userPart(d), &filePart{path: r.scriptPath(d), mode: 0o755}, &filePart{path: r.rotatePath(d), mode: 0o644}}
}

// foreign also looks among the system's own services, which service(8) prefers, and for one whose settings would have
// the same names.
func (r rcD) foreign(_ context.Context, d *deployment) string {
	if path := foreignFile(rcdSystem+"/"+d.name, r.scriptPath(d)); path != "" {
		return path
	}
	if path := sameVariable(d.name, rcdSystem, rcdLocal); path != "" || d.RunAs != "" || fileThere(r.scriptPath(d)) {
		return path
	}
	return foreignUser(d.name)
}

// sameVariable returns the script of another service in one of the directories that has the same rcVariable.
func sameVariable(name string, dirs ...string) string {
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != name && rcVariable(e.Name()) == rcVariable(name) {
				return dir + "/" + e.Name()
			}
		}
	}
	return ""
}

func (r rcD) enable(d *deployment) []step {
	return []step{commandStep("sysrc", r.enableSetting(d)+"=YES")}
}

// disable removes the setting: with NO it would stay behind.
func (r rcD) disable(d *deployment) []step {
	return []step{commandStep("sysrc", "-x", r.enableSetting(d)).when(func(ctx context.Context) bool {
		_, err := runCommand(ctx, "sysrc", "-n", r.enableSetting(d))
		return err == nil
	})}
}

func (rcD) forget(*deployment) []step   { return nil }
func (rcD) advice(*deployment) []string { return nil }

func (rcD) running(ctx context.Context, d *deployment) bool {
	_, err := runCommand(ctx, "service", d.name, "onestatus")
	return err == nil
}

// start and stop use the commands of rc.subr that do not depend on whether the service is enabled.
func (r rcD) start(d *deployment) []step {
	return []step{commandStep("service", d.name, "onestart").when(func(ctx context.Context) bool { return !r.running(ctx, d) })}
}

func (r rcD) stop(d *deployment) []step {
	return []step{commandStep("service", d.name, "onestop").when(func(ctx context.Context) bool {
		return fileThere(r.scriptPath(d)) && r.running(ctx, d)
	})}
}

func (r rcD) restart(d *deployment) []step { return append(r.stop(d), r.start(d)...) }

// state is that of daemon(8); between two runs of its child there is no pid.
func (r rcD) state(ctx context.Context, d *deployment) (unitState, error) {
	st := unitState{Active: activeStopped}
	if !fileThere(r.scriptPath(d)) {
		return st, nil
	}
	st.Installed = true
	value, _ := runCommand(ctx, "sysrc", "-n", r.enableSetting(d))
	st.Enabled = rcYes(value)
	if !r.running(ctx, d) {
		return st, nil
	}
	st.Active = activeRunning
	if info, err := os.Stat(r.daemonPID(d)); err == nil {
		st.Since = info.ModTime()
		b, _ := os.ReadFile(r.daemonPID(d))
		st.PID, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	return st, nil
}

// rcYes interprets a setting as checkyesno of rc.subr(8) does.
func rcYes(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "yes", "true", "on", "1":
		return true
	}
	return false
}

func (r rcD) logAt(d *deployment) (file string, command []string) { return r.logPath(d), nil }

func (r rcD) tail(_ context.Context, d *deployment, lines int) []string {
	return lastLines(r.logPath(d), lines)
}

// remains includes the logs that were rotated.
func (r rcD) remains(d *deployment) (gone, kept []string) {
	rotated, _ := filepath.Glob(r.logPath(d) + ".*")
	return append(socketsOf(d), r.runPath(d)), append([]string{r.statePath(d), r.logPath(d)}, rotated...)
}
