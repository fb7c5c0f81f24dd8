package main

// This file owns the service under systemd: the text of its units, and the use of systemctl(1). What the lines of a
// unit mean is in systemd.service(5), systemd.socket(5), systemd.exec(5) and systemd.unit(5); contrib/ has the
// units as they come out.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// systemd is the service manager of most Linux systems.
type systemd struct{}

func (systemd) title() string { return "systemd" }
func (systemd) listens() bool { return true }

// missing finds out whether systemd runs, as sd_booted(3) does. Each user who has logged in has a manager of their own,
// with a socket in $XDG_RUNTIME_DIR; after sudo or su there may be none.
func (systemd) missing(user bool) *fault {
	if info, err := os.Lstat("/run/systemd/system"); err != nil || !info.IsDir() {
		return faultf(codeApplication, "systemd does not run here")
	}
	if !user {
		return nil
	}
	if _, err := os.UserHomeDir(); err != nil {
		return faultf(codeApplication, "the units of this user cannot be found: %w", err).withHint("log in as the user")
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		return faultf(codeApplication, "the systemd of this user cannot be reached: XDG_RUNTIME_DIR is not set").
			withHint("log in as the user, or set it: export XDG_RUNTIME_DIR=/run/user/%d", os.Getuid())
	}
	if _, err := os.Stat(filepath.Join(run, "systemd", "private")); err != nil {
		return faultf(codeApplication, "no systemd of this user runs at %s", run).
			withHint("log in as the user, or start it: sudo loginctl enable-linger %s", nameOfUser())
	}
	return nil
}

// nameOfUser is our name for a command line, or our number.
func nameOfUser() string {
	if own, err := ownPeer(); err == nil && own.User != "" {
		return own.User
	}
	return strconv.Itoa(os.Getuid())
}

// unitDir is where administrators, or users, put units of their own, see systemd.unit(5).
func (systemd) unitDir(d *deployment) (string, error) {
	if !d.user {
		return "/etc/systemd/system", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the directory for units: %w", err)
	}
	return filepath.Join(home, ".config", "systemd", "user"), nil
}

func (s systemd) parts(d *deployment) ([]part, error) {
	dir, err := s.unitDir(d)
	if err != nil {
		return nil, err
	}
	if err := checkDynamicUser(d); err != nil {
		return nil, err
	}
	socket, err := systemdSocket(d)
	if err != nil {
		return nil, err
	}
	unit, err := systemdUnit(d, socket != "")
	if err != nil {
		return nil, err
	}
	carried, err := newCarriedPart(d, filePart{path: filepath.Join(dir, d.name+".service"), text: unit, mode: 0o644}, "SystemdScript",
		s.typed(d, "enable", d.name+".service"), s.typed(d, "daemon-reload"))
	if err != nil {
		return nil, err
	}
	carried.again = func() error { return perform(context.Background(), s.enable(d)) }
	if socket == "" {
		return []part{carried}, nil
	}
	return []part{carried, &filePart{path: filepath.Join(dir, d.name+".socket"), text: socket, mode: 0o644}}, nil
}

func (s systemd) possible(d *deployment) []part {
	dir, err := s.unitDir(d)
	if err != nil {
		return nil
	}
	carried, err := newCarriedPart(d, filePart{path: filepath.Join(dir, d.name+".service"), mode: 0o644}, "SystemdScript")
	if err != nil {
		return nil
	}
	return []part{carried, &filePart{path: filepath.Join(dir, d.name+".socket"), mode: 0o644}}
}

// typed is a command of systemctl as one would type it.
func (s systemd) typed(d *deployment, args ...string) string {
	return joinWords(s.systemctl(d, args...))
}

func (systemd) systemctl(d *deployment, args ...string) []string {
	if d.user {
		args = append([]string{"--user"}, args...)
	}
	return append([]string{"systemctl"}, args...)
}

// units returns the units that the installation has, had, or will have.
func (s systemd) units(d *deployment) []string {
	units := []string{d.name + ".service"}
	text, err := systemdSocket(d)
	if dir, dirErr := s.unitDir(d); dirErr == nil && text == "" {
		_, err = os.Lstat(filepath.Join(dir, d.name+".socket"))
	}
	if err == nil {
		units = append(units, d.name+".socket")
	}
	return units
}

// foreign looks for a unit of that name wherever systemd does.
func (s systemd) foreign(ctx context.Context, d *deployment) string {
	dir, err := s.unitDir(d)
	if err != nil {
		return ""
	}
	for _, name := range []string{d.name + ".service", d.name + ".socket"} {
		ours := filepath.Join(dir, name)
		if text, err := readUnit(ours); !errors.Is(err, fs.ErrNotExist) && (err != nil || !isOurText(text)) {
			return ours
		}
		show, err := s.show(ctx, d, name, "FragmentPath", "LoadState")
		if err == nil && show["LoadState"] == "masked" {
			return "systemctl mask " + name
		}
		if at := show["FragmentPath"]; err == nil && at != "" && at != ours {
			return at
		}
	}
	return ""
}

func (s systemd) enable(d *deployment) []step {
	units := s.units(d)
	return []step{
		commandStep(s.systemctl(d, "daemon-reload")...),
		commandStep(append(s.systemctl(d, "enable"), units...)...),
	}
}

// disable removes the links of each unit in a command of its own: systemctl fails if a unit does not exist.
func (s systemd) disable(d *deployment) []step {
	var steps []step
	for _, unit := range s.units(d) {
		words := s.systemctl(d, "disable", "--quiet", unit)
		steps = append(steps, step{text: joinWords(words), do: func(ctx context.Context) error {
			_, err := runCommand(ctx, words...)
			if dir, dirErr := s.unitDir(d); dirErr == nil && !fileThere(filepath.Join(dir, unit)) {
				return nil
			}
			return err
		}})
	}
	return steps
}

// forget also resets units that have failed, which systemd would keep in memory.
func (s systemd) forget(d *deployment) []step {
	steps := []step{commandStep(s.systemctl(d, "daemon-reload")...)}
	for _, unit := range []string{d.name + ".service", d.name + ".socket"} { // one by one: it fails for a unit that is not loaded
		steps = append(steps, step{text: s.typed(d, "reset-failed", unit), do: func(ctx context.Context) error {
			runCommand(ctx, s.systemctl(d, "reset-failed", unit)...)
			return nil
		}})
	}
	return steps
}

// ready is the step before a start: a unit that was given up has to be reset, and a socket that no caller finds to be
// closed, which it can be only once the service has ended.
func (s systemd) ready(d *deployment) step {
	words := append(s.systemctl(d, "reset-failed"), s.units(d)...)
	return step{text: joinWords(words), do: func(ctx context.Context) error {
		runCommand(ctx, words...) // fails for a unit that is not loaded
		if slices.ContainsFunc(s.sockets(ctx, d), func(path string) bool { return !isServed(path) }) {
			return perform(ctx, s.stop(d))
		}
		return nil
	}}
}

// sockets returns the paths of the sockets at which systemd listens for the service. Somebody may have removed one of
// them, or put something else in its place: systemd does not notice.
func (s systemd) sockets(ctx context.Context, d *deployment) (paths []string) {
	out, err := runCommand(ctx, s.systemctl(d, "show", "--property=ActiveState,Listen", d.name+".socket")...)
	if err != nil || !strings.Contains(out, "ActiveState=active\n") {
		return nil
	}
	for line := range strings.Lines(out) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, " (Stream)\n"), "Listen="); ok && strings.HasPrefix(path, "/") {
			paths = append(paths, path)
		}
	}
	return paths
}

// start starts the socket first, which the service needs.
func (s systemd) start(d *deployment) []step {
	return []step{s.ready(d), commandStep(append(s.systemctl(d, "start"), reversed(s.units(d))...)...)}
}

// stop stops the socket too: otherwise the next call would start the service again. After an installation that was
// interrupted, there may be only one of the two.
func (s systemd) stop(d *deployment) []step {
	words := append(s.systemctl(d, "stop"), reversed(s.units(d))...)
	return []step{{text: joinWords(words), do: func(ctx context.Context) error {
		_, err := runCommandWithin(ctx, stepLimit+d.stopLimit(), words...)
		if commandCode(err) == notLoaded {
			return nil
		}
		return err
	}}}
}

const notLoaded = 5 // systemctl's exit code if there is no such unit; it has stopped the others

// restart leaves the socket open, so that no call is lost, unless callers do not find it.
func (s systemd) restart(d *deployment) []step {
	units := s.units(d)
	steps := []step{s.ready(d)}
	if len(units) > 1 {
		steps = append(steps, commandStep(s.systemctl(d, "start", units[1])...))
	}
	words := s.systemctl(d, "restart", units[0])
	return append(steps, step{text: joinWords(words), do: func(ctx context.Context) error {
		_, err := runCommandWithin(ctx, stepLimit+d.stopLimit(), words...)
		return err
	}})
}

func reversed(list []string) []string {
	r := slices.Clone(list)
	slices.Reverse(r)
	return r
}

// show returns properties of a unit, see systemctl(1) and org.freedesktop.systemd1(5).
func (s systemd) show(ctx context.Context, d *deployment, unit string, properties ...string) (map[string]string, error) {
	out, err := runCommand(ctx, s.systemctl(d, "show", "--property="+strings.Join(properties, ","), unit)...)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		values[key] = value
	}
	return values, nil
}

func (s systemd) state(ctx context.Context, d *deployment) (unitState, error) {
	show, err := s.show(ctx, d, d.name+".service", "LoadState", "ActiveState", "SubState", "MainPID", "Result",
		"NRestarts", "StateChangeTimestamp", "UnitFileState", "ExecMainStatus")
	if err != nil {
		return unitState{}, err
	}
	socket, err := s.show(ctx, d, d.name+".socket", "ActiveState", "Result")
	if err != nil {
		return unitState{}, err
	}
	u := systemdState(show, socket)
	// It is not called, which would start the service.
	u.Waiting = u.Waiting && !slices.ContainsFunc(s.sockets(ctx, d), func(path string) bool { return !fileThere(path) })
	return u, nil
}

// systemdState interprets what systemctl show says about the service and its socket.
func systemdState(show, socket map[string]string) unitState {
	u := unitState{Installed: show["LoadState"] == "loaded" || show["ActiveState"] == "active"}
	u.Enabled = show["UnitFileState"] == "enabled"
	u.PID, _ = strconv.Atoi(show["MainPID"])
	u.Restarts, _ = strconv.Atoi(show["NRestarts"])
	u.Since, _ = time.ParseInLocation("Mon 2006-01-02 15:04:05 MST", show["StateChangeTimestamp"], time.Local)
	u.Waiting = socket["ActiveState"] == "active"
	switch show["ActiveState"] {
	case "active", "reloading", "refreshing":
		u.Active = activeRunning
	case "activating":
		u.Active = activeStarting
		if show["SubState"] == "auto-restart" {
			u.Why = systemdResult(show)
		}
	case "deactivating":
		u.Active = activeStopping
	case "failed":
		u.Active, u.Why, u.Waiting = activeFailed, systemdResult(show), false
	default:
		u.Active = activeStopped
		if socket["ActiveState"] == "failed" { // without which the service does not start
			u.Active, u.Why = activeFailed, "systemd cannot listen for it: "+systemdResult(socket)
		}
	}
	return u
}

// systemdResult says in words why a service has failed: "Result" in org.freedesktop.systemd1(5).
func systemdResult(show map[string]string) string {
	switch result := show["Result"]; result {
	case "exit-code":
		return "it ended with exit code " + show["ExecMainStatus"]
	case "signal", "core-dump":
		return "it was ended by signal " + show["ExecMainStatus"]
	case "watchdog":
		return "it did not answer, and was ended by the watchdog"
	case "timeout":
		return "it did not start or stop in time"
	case "resources":
		return "the system does not let it have what it needs"
	case "start-limit-hit", "service-start-limit-hit":
		return "it ended again and again, and was given up"
	case "success":
		return ""
	default:
		return result
	}
}

func (systemd) logAt(d *deployment) (file string, command []string) {
	flag := "--unit="
	if d.user {
		flag = "--user-unit="
	}
	return "", []string{"journalctl", flag + d.name + ".service", flag + d.name + ".socket"}
}

// tail reads the journal, which shows users only what is theirs, and root everything.
func (s systemd) tail(ctx context.Context, d *deployment, lines int) []string {
	_, words := s.logAt(d)
	out, err := runCommand(ctx, append(words, "--quiet", "--no-pager", "--output=cat", "--lines="+strconv.Itoa(lines))...)
	if err != nil || out == "" {
		return nil
	}
	return strings.Split(strings.TrimRight(out, "\n"), "\n")
}

// advice: a user's systemd runs from the first login to the last logout, unless the user lingers.
func (systemd) advice(d *deployment) []string {
	advice := sandboxAdvice(d, func(need string) []string { return sandboxLines(d.user, need) })
	if d.user {
		advice = append(advice, "it runs while you are logged in; to have it from boot on: loginctl enable-linger")
	}
	return advice
}

// sandboxLines are the lines of a unit that keep a need from workers.
func sandboxLines(user bool, need string) []string {
	switch need {
	case needJIT:
		return []string{"MemoryDenyWriteExecute=yes"}
	case needNetwork:
		if user {
			return []string{"RestrictAddressFamilies=AF_UNIX"}
		}
		return []string{"RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"}
	case needHome:
		if !user {
			return []string{"ProtectHome=yes"}
		}
	case needRunAs:
		if !user {
			return []string{"CapabilityBoundingSet=", "AmbientCapabilities="}
		}
	}
	return nil
}

// withheld implements sandbox: it looks at the unit as it is installed.
func (s systemd) withheld(d *deployment, need string) (lines []string) {
	dir, err := s.unitDir(d)
	if err != nil {
		return nil
	}
	text, err := readUnit(filepath.Join(dir, d.name+".service"))
	if err != nil || !isOurText(text) {
		return nil
	}
	for _, line := range sandboxLines(d.user, need) {
		if slices.Contains(strings.Split(text, "\n"), line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// remains: the state of a dynamic user is in /var/lib/private, and /var/lib has a link to it (systemd.exec(5)).
func (s systemd) remains(d *deployment) (gone, kept []string) {
	gone = socketsOf(d)
	if dir, err := s.unitDir(d); err == nil {
		if d.user { // install may have created the directories for units
			gone = append(gone, dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir)))
		}
		for _, unit := range []string{d.name + ".service.d", d.name + ".socket.d"} {
			kept = append(kept, filepath.Join(dir, unit))
		}
	}
	if !d.user {
		kept = append(kept, filepath.Join("/var/lib/private", d.name), filepath.Join("/var/lib", d.name))
	}
	return gone, kept
}

// systemdSocket is the text of the socket unit. It is empty if there is no endpoint that systemd can listen on.
func systemdSocket(d *deployment) (string, error) {
	var streams []string
	for _, e := range d.Endpoints {
		at, err := systemdStream(e)
		if err != nil {
			return "", err
		}
		if at != "" {
			streams = append(streams, "ListenStream="+strings.ReplaceAll(at, "%", "%%"))
		}
	}
	if streams == nil {
		return "", nil
	}
	b := newUnitText(d)
	b.line("")
	b.line("[Socket]")
	b.line("# systemd listens, so that no call is refused while the service starts, or starts anew.")
	b.lines(streams...)
	if d.AllowGroup != "" {
		b.line("SocketMode=0660")
		b.line("SocketGroup=%s", systemdWord(d.AllowGroup))
	} else {
		b.line("SocketMode=0600")
	}
	b.line("DirectoryMode=%s", map[bool]string{false: "0755", true: "0700"}[d.user])
	b.line("RemoveOnStop=yes")
	b.line("")
	b.line("[Install]")
	b.line("WantedBy=sockets.target")
	return b.String(), nil
}

// systemdStream is the value of ListenStream= for an endpoint; empty if systemd cannot listen there.
func systemdStream(e endpoint) (string, error) {
	switch e.Scheme {
	case "unix":
		if strings.ContainsFunc(e.Path, isControl) {
			return "", usagef("the path of %s has a control character, which no unit of systemd can have", e).withHint("choose another path")
		}
		if strings.HasSuffix(e.Path, `\`) || strings.TrimSpace(e.Path) != e.Path { // would continue on the next line, or be trimmed
			return "", usagef("the path of %s ends as no line in a unit of systemd can", e).withHint("choose another path")
		}
		return e.Path, nil
	case "tcp", "http":
		host, port, err := net.SplitHostPort(e.Host)
		if err != nil || port == "0" {
			return "", err
		}
		addr, err := loopbackAddress(e, strings.Trim(host, "[]"))
		return net.JoinHostPort(addr.String(), port), err
	}
	return "", nil
}

// systemdUnit is the text of the service unit.
func systemdUnit(d *deployment, socket bool) (string, error) {
	start, err := systemdCommand(d.command())
	if err != nil {
		return "", err
	}
	check, err := systemdCommand(append([]string{d.Program, "config", "check", "--service", d.name}, d.options()...))
	if err != nil {
		return "", err
	}
	b := newUnitText(d)
	if socket {
		b.line("Requires=%s.socket", d.name)
		b.line("After=%s.socket", d.name)
	}
	b.line("# One that ends again and again is given up after a minute: \"ipcd start\" forgives it. A person who")
	b.line("# restarts it counts, too, hence so many.")
	b.line("StartLimitIntervalSec=60")
	b.line("StartLimitBurst=50")
	b.line("")
	b.line("[Service]")
	b.line("# It says itself when every endpoint listens, and that it still answers.")
	b.line("Type=notify")
	b.line("NotifyAccess=main")
	b.line("WatchdogSec=30")
	b.line("ExecStart=%s", start)
	b.line("# A configuration that is wrong is refused before the daemon hears of it.")
	b.line("ExecReload=%s", check)
	b.line("ExecReload=/bin/sh -c 'kill -HUP $MAINPID'")
	if d.Settings.Idle > 0 { // it may end by itself, and the next call starts it again
		b.line("Restart=on-failure")
	} else {
		b.line("Restart=always")
	}
	b.line("RestartSec=1")
	b.line("# Bad usage or configuration would only fail again.")
	b.line("RestartPreventExitStatus=%d", exitUsage)
	b.line("TimeoutStartSec=30")
	b.line("# The drain limit and some.")
	b.line("TimeoutStopSec=%d", int(d.stopLimit().Round(time.Second).Seconds()))
	b.line("# One that hangs says where, for the journal, and is killed.")
	b.line("TimeoutAbortSec=5")
	b.line("KillMode=mixed")
	if len(d.Settings.Workers) > 0 {
		b.line("# A worker that takes too much memory is the daemon's to start again.")
		b.line("OOMPolicy=continue")
	}
	b.line("UMask=0077")
	b.line("")
	if !d.user {
		systemdAccount(b, d)
	}
	systemdSandbox(b, d)
	b.line("")
	b.line("[Install]")
	b.line("WantedBy=%s", map[bool]string{false: "multi-user.target", true: "default.target"}[d.user])
	return b.String(), nil
}

// checkDynamicUser refuses the name of a permanent user or group. With DynamicUser= the user has the name of the unit,
// and if there is a user of that name already, even root, systemd runs the service as that one.
func checkDynamicUser(d *deployment) error {
	if d.user || d.RunAs != "" {
		return nil
	}
	what, id := "user", ""
	u, err := findUser(d.name)
	if id = strconv.Itoa(u.uid); errors.Is(err, fs.ErrNotExist) {
		var g group
		g, err = findGroup(d.name)
		what, id = "group", g.id
	}
	n, _ := strconv.Atoi(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usagef("--name: whether somebody has the name %s already cannot be told: %w", d.name, err).withHint("try again, or choose another name: --name ipcd-2")
	case n >= dynamicFirst && n <= dynamicLast: // the dynamic user of a service that runs
		return nil
	}
	return usagef("--name: there is a %s %s, and the service would run with what that may", what, d.name).
		withHint("choose another name: --name ipcd-2")
}

const dynamicFirst, dynamicLast = 61184, 65519 // the range of dynamic users, see systemd.exec(5)

// systemdAccount writes which user a service of the system runs as, and its directories.
func systemdAccount(b *unitText, d *deployment) {
	if d.RunAs != "" {
		b.line("User=%s", systemdWord(d.RunAs))
	} else {
		b.line("# A user that is there while the service runs.")
		b.line("DynamicUser=yes")
	}
	// No RuntimeDirectory: systemd would remove it when the service stops, while the socket in it stays.
	b.line("StateDirectory=%s", d.name)
	b.line("StateDirectoryMode=0700")
	b.line("")
}

// systemdSandbox takes away what the daemon and its workers do not need, see "systemd-analyze security". PrivateUsers= is
// missing because with it the kernel would no longer say who calls: every caller would be "nobody".
func systemdSandbox(b *unitText, d *deployment) {
	served := slices.ContainsFunc(d.Endpoints, func(e endpoint) bool { return e.Scheme != "unix" })
	network, jit, home, runAs := d.needs(needNetwork), d.needs(needJIT), d.needs(needHome), d.needs(needRunAs) && !d.user
	b.line("# As few rights as a program needs that talks on sockets.")
	for _, n := range workerNeeds(d.Settings) {
		if lines := sandboxLines(d.user, n.need); len(lines) > 0 {
			b.line("# Left out, since %s: %s", n.who(), strings.Join(lines, " "))
		}
	}
	b.lines("NoNewPrivileges=yes", "LockPersonality=yes")
	if !jit {
		b.line("MemoryDenyWriteExecute=yes")
	}
	b.lines("RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native",
		"SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources")
	if runAs {
		b.line("SystemCallFilter=@setuid")
	}
	b.line("SystemCallErrorNumber=EPERM")
	if served || network {
		b.line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK") // the last is asked who calls, see tcpOwner
	} else {
		b.line("RestrictAddressFamilies=AF_UNIX")
	}
	if d.user { // a user's systemd has no privileges to take away
		return
	}
	if runAs {
		b.lines("CapabilityBoundingSet=CAP_SETUID CAP_SETGID", "AmbientCapabilities=CAP_SETUID CAP_SETGID")
	} else {
		b.lines("CapabilityBoundingSet=", "AmbientCapabilities=")
	}
	b.line("ProtectSystem=strict")
	if home {
		b.line("ReadWritePaths=-/home -/root") // whoever the worker is still has to be allowed to
	} else {
		b.line("ProtectHome=yes")
	}
	b.lines("ProtectProc=invisible",
		"ProcSubset=pid", "ProtectClock=yes", "ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
		"ProtectKernelModules=yes", "ProtectKernelTunables=yes", "PrivateDevices=yes", "DevicePolicy=closed", "PrivateTmp=yes",
		"KeyringMode=private")
	if !network {
		b.line("IPAddressDeny=any")
	}
	if d.RunAs == "" {
		b.line("RemoveIPC=yes") // it removes all IPC objects of the user, not only those of the service
	}
	switch {
	case network:
	case served:
		b.line("IPAddressAllow=localhost")
	default:
		b.line("PrivateNetwork=yes")
	}
}

// A unitText builds the text of a unit.
type unitText struct{ strings.Builder }

// newUnitText begins a unit of the service.
func newUnitText(d *deployment) *unitText {
	b := &unitText{}
	b.line("# %s", d.mark())
	b.line("# Change it with \"ipcd install --force\", or add to it with \"systemctl edit\".")
	b.line("[Unit]")
	b.line("Description=Calls between the programs of this machine (%s)", d.name)
	return b
}

func (b *unitText) line(format string, args ...any) {
	fmt.Fprintf(b, format, args...)
	b.WriteByte('\n')
}

func (b *unitText) lines(lines ...string) {
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
}

// systemdWord escapes a word so that systemd takes no part of it for a specifier (systemd.unit(5)).
func systemdWord(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// systemdCommand writes a command line as systemd reads it: "COMMAND LINES" and "QUOTING" in systemd.service(5) and
// systemd.syntax(7). It does not expand variables in the path of the program.
func systemdCommand(words []string) (string, error) {
	var quoted []string
	for i, w := range words {
		if strings.ContainsFunc(w, isControl) {
			return "", usagef("%q has a control character, which no unit of systemd can have", w)
		}
		dollar := "$$"
		if i == 0 {
			if strings.ContainsAny(w, `"'\`) {
				return "", usagef("systemd runs no program whose path has quotation marks or a backslash: %s", w).withHint("put it somewhere else: ipcd install --copy-to")
			}
			dollar = "$"
		}
		w = strings.NewReplacer("%", "%%", "$", dollar, `\`, `\\`, `"`, `\"`).Replace(w)
		if w == "" || strings.ContainsAny(w, " '\";") {
			w = `"` + w + `"`
		}
		quoted = append(quoted, w)
	}
	return strings.Join(quoted, " "), nil
}
