package main

// This file owns the service under launchd, the service manager of macOS: the property lists for launchd.plist(5),
// and the use of launchctl(1): bootstrap, bootout, kickstart and print, which came with macOS 10.10.

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// launchd is the supervisor of macOS.
type launchd struct{}

const (
	// launchdAccount is the user of a service of the system without --run-as: of the accounts that every Mac
	// has, one without rights. Not nobody, which processes of all sorts run as.
	launchdAccount = "daemon"
	// launchdFiles is how many files the service may have open; the default of macOS is 256.
	launchdFiles      = 65536
	launchdInProgress = 36                     // EINPROGRESS of macOS, as the exit code of launchctl
	launchdPause      = 100 * time.Millisecond // between two looks at something that launchd does in its own time
)

func (launchd) title() string { return "launchd" }
func (launchd) listens() bool { return false }

// missing looks for the domain of the user, which exists while the user is logged in at the screen.
func (l launchd) missing(user bool) *fault {
	if !hasTool("launchctl") {
		return faultf(codeApplication, "launchd does not run here")
	}
	if !user {
		return nil
	}
	if os.Getuid() == 0 {
		return faultf(codeApplication, "a service of root's own would run only while root is at the screen").
			withHint("leave out --user, or sudo")
	}
	domain := l.domain(&deployment{instance: instance{user: true}})
	if _, err := runCommand(context.Background(), "launchctl", "print", domain); err != nil {
		return faultf(codeApplication, "launchd has no services for a user who is not at the screen: there is no domain %s", domain).
			withHint("log in there, or install a service of the system: sudo ipcd install")
	}
	return nil
}

// domain is the domain of launchd that the service is in.
func (launchd) domain(d *deployment) string {
	if d.user {
		return "gui/" + strconv.Itoa(os.Getuid())
	}
	return "system"
}

func (l launchd) target(d *deployment) string     { return l.domain(d) + "/" + d.name }
func (l launchd) dirsTarget(d *deployment) string { return l.domain(d) + "/" + l.dirsName(d) }
func (launchd) dirsName(d *deployment) string     { return d.name + ".dirs" }

// ownHome is the user's home as kardianos/service finds it: after sudo, $HOME may be another.
func ownHome() string {
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return os.Getenv("HOME")
}

// place is the path of the property list of a name.
func (launchd) place(d *deployment, name string) string {
	if d.user {
		return ownHome() + "/Library/LaunchAgents/" + name + ".plist"
	}
	return "/Library/LaunchDaemons/" + name + ".plist"
}

func (l launchd) plistPath(d *deployment) string { return l.place(d, d.name) }
func (l launchd) dirsPath(d *deployment) string  { return l.place(d, l.dirsName(d)) }
func (launchd) runPath(d *deployment) string     { return "/var/run/" + d.name }
func (launchd) statePath(d *deployment) string   { return "/var/db/" + d.name }

func (launchd) logPath(d *deployment) string {
	if d.user {
		return ownHome() + "/Library/Logs/" + d.name + ".log"
	}
	return "/var/log/" + d.name + ".log"
}

func (launchd) account(d *deployment) string {
	if d.RunAs != "" {
		return d.RunAs
	}
	return launchdAccount
}

var plistEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

// plistString is a string in a property list.
func plistString(s string) string { return "<string>" + plistEscaper.Replace(s) + "</string>" }

// plistStrings is an array of strings, as the value of a key on the first level.
func plistStrings(words []string) string {
	var b strings.Builder
	b.WriteString("<array>\n")
	for _, w := range words {
		b.WriteString("\t\t" + plistString(w) + "\n")
	}
	b.WriteString("\t</array>")
	return b.String()
}

// plist is a whole property list, from keys and values in turn. Its comment must not contain two dashes.
func plist(d *deployment, keysAndValues ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- %s
     Change it with: ipcd install, and the option force. -->
<plist version="1.0">
<dict>
`, strings.ReplaceAll(d.mark(), "--", hiddenDashes))
	for pair := range slices.Chunk(keysAndValues, 2) {
		fmt.Fprintf(&b, "\t<key>%s</key>\n\t%s\n", pair[0], pair[1])
	}
	b.WriteString("</dict>\n</plist>\n")
	return b.String()
}

func plistLimit(n int) string {
	return fmt.Sprintf("<dict>\n\t\t<key>NumberOfFiles</key>\n\t\t<integer>%d</integer>\n\t</dict>", n)
}

// mainPlist is the property list of the service itself. launchd restarts what ends with an error, and makes no
// difference between exit codes: with bad configuration (2) it tries again every 10 s, its default, and the
// shortest interval it takes. A service of type Background would be held back at the disk and the processor while
// somebody waits for its answer. Umask 63 is 077; a property list has no octal numbers.
func (l launchd) mainPlist(d *deployment) string {
	keys := []string{
		"Label", plistString(d.name),
		"ProgramArguments", plistStrings(d.command()),
		"RunAtLoad", "<true/>",
		"KeepAlive", "<dict>\n\t\t<key>SuccessfulExit</key>\n\t\t<false/>\n\t</dict>",
		"ThrottleInterval", "<integer>10</integer>",
		"ExitTimeOut", fmt.Sprintf("<integer>%d</integer>", seconds(d.stopLimit())),
		"ProcessType", plistString("Standard"),
		"WorkingDirectory", plistString("/"),
		"Umask", "<integer>63</integer>",
		"SoftResourceLimits", plistLimit(launchdFiles),
		"StandardOutPath", plistString("/dev/null"),
		"StandardErrorPath", plistString(l.logPath(d)),
	}
	if d.user {
		return plist(d, keys...)
	}
	keys = append(keys, "UserName", plistString(l.account(d)))
	if d.AllowGroup != "" {
		keys = append(keys, "GroupName", plistString(d.AllowGroup)) // so that its sockets belong to that group
	}
	return plist(d, append(keys, "InitGroups", "<true/>", "EnvironmentVariables",
		"<dict>\n\t\t<key>STATE_DIRECTORY</key>\n\t\t"+plistString(l.statePath(d))+"\n\t</dict>")...)
}

// dirsPlist is the property list of a job that makes the directories of the service: /var/run is emptied at each boot,
// the service is not root, and launchd can run nothing else as root before it.
func (l launchd) dirsPlist(d *deployment) string {
	owner := "-o " + l.account(d)
	groupFlag := ""
	if d.AllowGroup != "" {
		groupFlag = " -g " + d.AllowGroup
	}
	script := fmt.Sprintf("/usr/bin/install -d %s%s -m 0755 %s && /usr/bin/install -d %s -m 0700 %s",
		owner, groupFlag, l.runPath(d), owner, l.statePath(d))
	return plist(d,
		"Label", plistString(l.dirsName(d)),
		"ProgramArguments", plistStrings([]string{"/bin/sh", "-c", script}),
		"RunAtLoad", "<true/>",
	)
}

// parts has kardianos/service write the property list of the service itself.
func (l launchd) parts(d *deployment) ([]part, error) {
	if err := checkScript(d); err != nil {
		return nil, err
	}
	job, err := newCarriedPart(d, filePart{path: l.plistPath(d), text: l.mainPlist(d), mode: 0o644}, "LaunchdConfig")
	if err != nil {
		return nil, err
	}
	if d.user {
		return []part{job}, nil
	}
	return []part{&filePart{path: l.dirsPath(d), text: l.dirsPlist(d), mode: 0o644}, job}, nil
}

func (l launchd) possible(d *deployment) []part {
	parts := []part{&filePart{path: l.plistPath(d), mode: 0o644}}
	if !d.user {
		parts = append([]part{&filePart{path: l.dirsPath(d), mode: 0o644}}, parts...)
	}
	return parts
}

// foreign looks for files of the name, and for a job of that name from another file.
func (l launchd) foreign(ctx context.Context, d *deployment) string {
	if path := foreignFile("/System/Library/LaunchDaemons/"+d.name+".plist", l.plistPath(d), l.dirsPath(d)); path != "" {
		return path
	}
	job, err := l.print(ctx, l.target(d))
	if err != nil || job.path == "" || job.path == l.plistPath(d) {
		return ""
	}
	return job.path
}

// A launchdJob is what print says about a service.
type launchdJob struct {
	path  string // of its property list
	state string // "running", "not running", "spawn scheduled" and others
	pid   int
	runs  int    // since it was loaded
	ended string // how the last run ended: "0", "78: EX_CONFIG", "Killed: 9"; empty for the first
}

func (launchd) print(ctx context.Context, target string) (launchdJob, error) {
	out, err := runCommand(ctx, "launchctl", "print", target)
	if err != nil {
		return launchdJob{}, err
	}
	return parseJob(out), nil
}

// parseJob reads the output of launchctl print, which is no API, as launchctl(1) says. A line is "key = value", indented
// once for the service itself and more for what belongs to it. What is unknown is skipped.
func parseJob(out string) (job launchdJob) {
	for line := range strings.Lines(out) {
		line, ok := strings.CutPrefix(strings.TrimRight(line, " \r\n"), "\t")
		if !ok || strings.HasPrefix(line, "\t") {
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok {
			continue
		}
		switch key {
		case "path":
			job.path = value
		case "state":
			job.state = value
		case "pid":
			job.pid, _ = strconv.Atoi(value)
		case "runs":
			job.runs, _ = strconv.Atoi(value)
		case "last exit code":
			if value != "(never exited)" {
				job.ended = "with the exit code " + value
			}
		case "last terminating signal":
			job.ended = "by the signal " + value
		}
	}
	return job
}

// unit describes the job in the terms that all managers share.
func (job launchdJob) unit() unitState {
	st := unitState{Installed: true, PID: job.pid, Restarts: max(0, job.runs-1)}
	failed := job.ended != "" && job.ended != "with the exit code 0"
	switch {
	case job.state == "running":
		st.Active = activeRunning
	case job.state == "not running" && !failed, job.state == "waiting":
		st.Active = activeStopped
	case job.state == "not running":
		st.Active = activeFailed
	default: // "spawn scheduled": it waits for its start, after a failure for 10 s
		st.Active = activeStarting
	}
	if failed && st.Active != activeRunning {
		st.Why = "it ended " + job.ended
	}
	return st
}

func (l launchd) loaded(ctx context.Context, target string) bool {
	_, err := l.print(ctx, target)
	return err == nil
}

// disabled reports whether somebody has disabled the service by name. In the output of launchctl print-disabled, a line
// is "NAME" => disabled, on older systems "NAME" => true. What is not listed is enabled.
func (l launchd) disabled(ctx context.Context, d *deployment, name string) bool {
	out, err := runCommand(ctx, "launchctl", "print-disabled", l.domain(d))
	return err == nil && parseDisabled(out, name)
}

func parseDisabled(out, name string) bool {
	for line := range strings.Lines(out) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if ok && key == `"`+name+`"` {
			return value == "disabled" || value == "true"
		}
	}
	return false
}

// enable has little to do: what is in those directories is started at boot, or at login, unless it was disabled by name.
// To enable what was not disabled would leave an entry for ever.
func (l launchd) enable(d *deployment) []step {
	var steps []step
	for _, name := range l.names(d) {
		steps = append(steps, commandStep("launchctl", "enable", l.domain(d)+"/"+name).when(func(ctx context.Context) bool {
			return l.disabled(ctx, d, name)
		}))
	}
	return steps
}

func (l launchd) names(d *deployment) []string {
	if d.user {
		return []string{d.name}
	}
	return []string{l.dirsName(d), d.name}
}

// disable unloads both jobs; without their files they do not come back.
func (l launchd) disable(d *deployment) []step {
	steps := l.stop(d)
	if d.user {
		return steps
	}
	return append(steps, l.bootout(d, l.dirsTarget(d)))
}

func (launchd) forget(*deployment) []step { return nil }

func (launchd) advice(d *deployment) []string {
	if !d.user {
		return nil
	}
	return []string{"it runs while you are logged in at the screen"}
}

// start has the directories made first, and waits for them: a service that starts too early is restarted only after
// 10 s.
func (l launchd) start(d *deployment) []step {
	var steps []step
	if !d.user {
		steps = append(steps, l.bootstrap(d, l.dirsTarget(d), l.dirsPath(d)), l.kickstart(l.dirsTarget(d)), step{
			text: "test -d " + l.runPath(d), do: func(ctx context.Context) error {
				return l.until(ctx, answerLimit, "launchd has not made "+l.runPath(d), func() bool { return fileThere(l.runPath(d)) })
			},
		})
	}
	return append(steps, l.bootstrap(d, l.target(d), l.plistPath(d)), l.kickstart(l.target(d)))
}

// kickstart does nothing to a job that runs.
func (launchd) kickstart(target string) step { return commandStep("launchctl", "kickstart", target) }

func (l launchd) stop(d *deployment) []step { return []step{l.bootout(d, l.target(d))} }

// restart reads the property list anew; kickstart -k would not, and would kill the daemon.
func (l launchd) restart(d *deployment) []step { return append(l.stop(d), l.start(d)...) }

func (l launchd) bootstrap(d *deployment, target, path string) step {
	return commandStep("launchctl", "bootstrap", l.domain(d), path).when(func(ctx context.Context) bool { return !l.loaded(ctx, target) })
}

// bootout waits until the service is gone, and can be loaded again. launchctl may return before that, with or without
// saying so (36, "Operation now in progress").
func (l launchd) bootout(d *deployment, target string) step {
	asked := commandStep("launchctl", "bootout", target)
	return step{text: asked.text, do: func(ctx context.Context) error {
		if !l.loaded(ctx, target) {
			return nil
		}
		if err := asked.do(ctx); err != nil && commandCode(err) != launchdInProgress && l.loaded(ctx, target) {
			return err
		}
		return l.until(ctx, d.stopLimit()+answerLimit, target+" is still there", func() bool { return !l.loaded(ctx, target) })
	}}
}

// until waits for something that launchd does in its own time.
func (launchd) until(ctx context.Context, limit time.Duration, otherwise string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if ok, _ := again(ctx, launchdPause, launchdPause, func() (bool, error) { return done(), nil }); !ok {
		return faultf(codeApplication, "%s after %v", otherwise, limit)
	}
	return nil
}

func (l launchd) state(ctx context.Context, d *deployment) (unitState, error) {
	if !fileThere(l.plistPath(d)) {
		return unitState{Active: activeStopped}, nil
	}
	st := unitState{Installed: true, Active: activeStopped}
	if job, err := l.print(ctx, l.target(d)); err == nil {
		st = job.unit()
	}
	st.Enabled = !l.disabled(ctx, d, d.name)
	return st, nil
}

func (l launchd) logAt(d *deployment) (file string, command []string) { return l.logPath(d), nil }

func (l launchd) tail(_ context.Context, d *deployment, lines int) []string {
	return lastLines(l.logPath(d), lines)
}

func (l launchd) remains(d *deployment) (gone, kept []string) {
	if d.user {
		return socketsOf(d), []string{l.logPath(d)}
	}
	return append(socketsOf(d), l.runPath(d)), []string{l.statePath(d), l.logPath(d)}
}
