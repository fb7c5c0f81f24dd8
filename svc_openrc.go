package main

// This file owns the service under OpenRC, the service manager of Alpine, Gentoo and others: the script for
// openrc-run(8), and the use of rc-service(8) and rc-update(8). supervise-daemon(8) runs the daemon and restarts it.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// openRC is the supervisor of a system with OpenRC.
type openRC struct{}

const openRCLevel = "default" // the runlevel of normal operation

func (openRC) title() string { return "OpenRC" }
func (openRC) listens() bool { return false }

// missing finds out whether OpenRC booted this system. That it is installed says little, since it may be so next to
// another init. For the softlevel see rc-status(8).
func (openRC) missing(user bool) *fault {
	if !fileThere("/run/openrc/softlevel") {
		return faultf(codeApplication, "OpenRC does not run here")
	}
	for _, tool := range []string{"rc-service", "rc-update", "supervise-daemon"} {
		if !hasTool(tool) {
			return faultf(codeApplication, "OpenRC runs here, and its %s is missing", tool).withHint("install OpenRC's own package again")
		}
	}
	if user {
		return faultf(codeApplication, "OpenRC has services of the system alone").
			withHint(`as root: ipcd install; or start "ipcd run" with your session`)
	}
	return nil
}

func (openRC) scriptPath(d *deployment) string { return "/etc/init.d/" + d.name }
func (openRC) runPath(d *deployment) string    { return "/run/" + d.name }
func (openRC) statePath(d *deployment) string  { return "/var/lib/" + d.name }
func (openRC) logPath(d *deployment) string    { return "/var/log/" + d.name + ".log" }

// account is the user that the service runs as.
func (openRC) account(d *deployment) string {
	if d.RunAs != "" {
		return d.RunAs
	}
	return d.name
}

// script is the whole of /etc/init.d/NAME. openrc-run passes command and command_args to eval, so they are quoted
// twice. It has no setting for an exit code after which a restart makes no sense (2, bad configuration): what
// ends ten times in a minute is given up.
func (o openRC) script(d *deployment) string {
	owner := o.account(d)
	if d.AllowGroup != "" {
		owner += ":" + d.AllowGroup // so that its sockets belong to that group
	}
	command := d.command()
	return fmt.Sprintf(`#!/sbin/openrc-run
#
# %[1]s
# Change it with "ipcd install --force".

description="Calls between the programs of this machine"
extra_started_commands="reload"
description_reload="Read the configuration again"

supervisor=supervise-daemon
command=%[3]s
command_args=%[4]s
command_user=%[5]s
pidfile=/run/supervise-%[2]s.pid
output_log=%[8]s
error_log=%[8]s
umask=077
retry=TERM/%[9]d/KILL/5
respawn_delay=2
respawn_max=10
respawn_period=60
export STATE_DIRECTORY=%[7]s

depend()
{
	use net
	after localmount bootmisc
}

start_pre()
{
	# OpenRC has it since 0.45.
	case "$(supervise-daemon --help 2>&1)" in
	*--no-new-privs*) supervise_daemon_args="$supervise_daemon_args --no-new-privs" ;;
	esac
	checkpath --directory --owner %[5]s --mode 0755 %[6]s || return 1
	checkpath --directory --owner %[5]s --mode 0700 %[7]s || return 1
	checkpath --file --owner %[5]s --mode 0640 %[8]s
}

reload()
{
	ebegin "Reloading $RC_SVCNAME"
	supervise-daemon "$RC_SVCNAME" --signal HUP --pidfile "$pidfile"
	eend $?
}
`, d.mark(), d.name, shellWord(shellWord(command[0])), shellWord(shellLine(command[1:]...)), owner,
		o.runPath(d), o.statePath(d), o.logPath(d), seconds(d.stopLimit()))
}

// seconds rounds up to whole seconds, the unit of the managers.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// parts writes the script without kardianos/service. That one recognises OpenRC by openrc-init or /etc/inittab, and
// uses SysV's directories on a machine that starts OpenRC in another way, as Debian does. Its rc-update also
// names no runlevel, and so takes the current one.
func (o openRC) parts(d *deployment) ([]part, error) {
	if err := checkScript(d); err != nil {
		return nil, err
	}
	script := &filePart{path: o.scriptPath(d), text: o.script(d), mode: 0o755}
	if d.RunAs != "" {
		return []part{script}, nil
	}
	return []part{linuxAccount(d.name, o.statePath(d)), script}, nil
}

func (o openRC) possible(d *deployment) []part {
	return []part{linuxAccount(d.name, o.statePath(d)), &filePart{path: o.scriptPath(d), mode: 0o755}}
}

// linuxAccount is a system user, made with the tools of shadow(5), or else with those of busybox. It has no password,
// no home and no shell.
func linuxAccount(name, state string) *accountPart {
	p := &accountPart{user: name, state: state}
	shell := firstThere("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
	if hasTool("useradd") {
		p.add = [][]string{{"useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", shell, "--comment", accountMark, name}}
		p.del = [][]string{{"userdel", name}}
		return p
	}
	p.add = [][]string{
		{"addgroup", "-S", name},
		{"adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", shell, "-G", name, "-g", accountMark, name},
	}
	p.del = [][]string{{"deluser", name}} // and the group of its name
	return p
}

func (o openRC) foreign(_ context.Context, d *deployment) string {
	if fileThere(o.scriptPath(d)) || d.RunAs != "" {
		return foreignFile(o.scriptPath(d))
	}
	return foreignUser(d.name)
}

func (o openRC) enable(d *deployment) []step {
	return []step{commandStep("rc-update", "add", d.name, openRCLevel)}
}

// disable removes it from every runlevel that has it, whoever put it there. "rc-update --all" would fail if one has not.
func (o openRC) disable(d *deployment) []step {
	return []step{{text: "rc-update delete " + d.name + " " + openRCLevel, do: func(ctx context.Context) error {
		levels := o.levels(d)
		if len(levels) == 0 {
			return nil
		}
		_, err := runCommand(ctx, append([]string{"rc-update", "delete", d.name}, levels...)...)
		return err
	}}}
}

// forget makes OpenRC read the dependencies anew.
func (openRC) forget(*deployment) []step { return []step{commandStep("rc-update", "--update")} }

func (openRC) advice(*deployment) []string { return nil }

// levels returns the runlevels that have the service, by the links that rc-update makes.
func (openRC) levels(d *deployment) []string {
	links, _ := filepath.Glob("/etc/runlevels/*/" + d.name)
	for i, link := range links {
		links[i] = filepath.Base(filepath.Dir(link))
	}
	return links
}

// The exit codes of rc-service NAME status, see supervise-daemon.sh of OpenRC.
const (
	openRCStarted      = 0
	openRCStopped      = 3
	openRCStopping     = 4
	openRCStarting     = 8
	openRCInactive     = 16
	openRCCrashed      = 32 // and supervise-daemon has not noticed yet
	openRCUnsupervised = 64 // supervise-daemon itself is gone
)

func (openRC) status(ctx context.Context, d *deployment) int {
	_, err := runCommand(ctx, "rc-service", d.name, "status")
	return commandCode(err)
}

// start first resets a service that has crashed, which OpenRC takes for started.
func (o openRC) start(d *deployment) []step {
	crashed := func(ctx context.Context) bool {
		code := o.status(ctx, d)
		return code == openRCCrashed || code == openRCUnsupervised
	}
	return []step{commandStep("rc-service", d.name, "zap").when(crashed), commandStep("rc-service", d.name, "start")}
}

// stop also makes OpenRC forget that the service has failed: the mark would outlive the script.
func (o openRC) stop(d *deployment) []step {
	return []step{
		commandStep("rc-service", d.name, "stop").when(func(ctx context.Context) bool {
			return fileThere(o.scriptPath(d)) && o.status(ctx, d) != openRCStopped
		}),
		commandStep("rc-service", d.name, "zap").when(func(context.Context) bool {
			return fileThere(o.scriptPath(d)) && o.failed(d)
		}),
	}
}

// failed reports whether OpenRC has given the service up: it is stopped then, with a mark.
func (openRC) failed(d *deployment) bool { return fileThere("/run/openrc/failed/" + d.name) }

func (o openRC) restart(d *deployment) []step { return append(o.stop(d), o.start(d)...) }

func (o openRC) state(ctx context.Context, d *deployment) (unitState, error) {
	if !fileThere(o.scriptPath(d)) {
		return unitState{Active: activeStopped}, nil
	}
	_, err := runCommand(ctx, "rc-service", d.name, "status")
	st, known := openRCState(commandCode(err), o.failed(d), func(option string) string {
		b, _ := os.ReadFile(filepath.Join("/run/openrc/options", d.name, option))
		return strings.TrimSpace(string(b))
	})
	if !known {
		return unitState{}, fmt.Errorf("ask for the state of %s: %w", d.name, err)
	}
	st.Installed, st.Enabled = true, len(o.levels(d)) > 0
	return st, nil
}

// openRCState interprets the exit code of status, and what supervise-daemon records about its child.
func openRCState(code int, failed bool, option func(name string) string) (st unitState, known bool) {
	switch code {
	case openRCStarted:
		st.Active = activeRunning
	case openRCStopped:
		st.Active = activeStopped
		if failed {
			st.Active, st.Why = activeFailed, "it did not start, or ended too often and was given up"
		}
		return st, true
	case openRCStarting, openRCInactive:
		st.Active = activeStarting
	case openRCStopping:
		st.Active = activeStopping
	case openRCCrashed:
		st.Active, st.Why = activeFailed, "it has crashed"
	case openRCUnsupervised:
		st.Active, st.Why = activeFailed, "its supervise-daemon has gone"
	default:
		return unitState{}, false
	}
	st.PID, _ = strconv.Atoi(option("child_pid"))
	st.Restarts, _ = strconv.Atoi(option("start_count"))
	st.Since, _ = time.ParseInLocation(time.DateTime, option("start_time"), time.Local)
	return st, true
}

func (o openRC) logAt(d *deployment) (file string, command []string) { return o.logPath(d), nil }

func (o openRC) tail(_ context.Context, d *deployment, lines int) []string {
	return lastLines(o.logPath(d), lines)
}

func (o openRC) remains(d *deployment) (gone, kept []string) {
	return append(socketsOf(d), o.runPath(d)), []string{o.statePath(d), o.logPath(d)}
}
