package main

// This file owns the service under systemd: the use of systemctl(1), and what it says. The text of its units is in
// svc_systemd_unit.go.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
