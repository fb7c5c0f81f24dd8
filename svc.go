package main

// This file owns what it means to be a service of the operating system: what is installed, which
// parts that has on a system, and in which order they come and go. How each service manager
// has it is in svc_systemd.go, svc_openrc.go, svc_launchd.go, svc_rcd.go and svc_scm_windows.go; the commands are in
// cmd_service.go. It is the only one that sees kardianos/service, which carries the installation.

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	stepLimit   = 100 * time.Second // for one command of the service manager; systemd's own limit for a start is 90 s
	answerLimit = 20 * time.Second  // for a service that was started to answer
	askLimit    = 5 * time.Second   // for the answer to one question
	lockLimit   = 3 * time.Minute   // for another install or uninstall to end
	lockLook    = 50 * time.Millisecond
	tailLines   = 10 // of the log of a service that does not answer
)

// A deployment is a service as install was asked for it.
type deployment struct {
	instance
	Program    string     // absolute path of ipcd
	CopyOf     string     // what install copies to Program; empty where it does not
	Copied     bool       // install has put Program there, now or earlier
	Config     string     // absolute path of the configuration, as it was typed; empty for the default
	ConfigFile string     // the one that is there; empty for none
	Given      []given    // the settings on the command line
	RunAs      string     // the user it runs as; empty for the least that the system offers
	AllowGroup string     // whose members may call; empty for none
	Delayed    bool       // Windows: start it after the others
	Endpoints  []endpoint // what it will serve, the configuration included; the first is the one that is asked
	Settings   settings   // what it will run with
	Wrong      error      // why the settings of a service that is installed cannot be had
}

// command is the command line that the service manager runs, the program included.
func (d *deployment) command() []string {
	args := []string{d.Program, "run", "--service", d.name}
	return append(args, d.options()...)
}

// options are the arguments that install was given for the daemon.
func (d *deployment) options() []string {
	var args []string
	if d.user {
		args = append(args, "--user")
	}
	if d.Config != "" {
		args = append(args, "--config", d.Config)
	}
	for _, g := range d.Given {
		if s := findSetting(g.key); s.kind == ofEndpoints {
			for _, v := range g.values {
				args = append(args, "--"+s.flag(), v)
			}
			continue
		}
		args = append(args, "--set", g.key+"="+g.values[0])
	}
	return args
}

// stopLimit is how long a manager waits for the daemon to stop: its drain limit, and some for
// what comes after it.
func (d *deployment) stopLimit() time.Duration { return d.Settings.Limits.Drain + 5*time.Second }

// A supervisor is the service manager of a system.
type supervisor interface {
	// title is its name for people.
	title() string
	// missing says why it cannot be used here and now, or is nil.
	missing(user bool) *fault
	// listens tells that it opens the sockets itself, with its own rights.
	listens() bool
	// parts is all that an installation puts into the system, in the order in which it comes; it goes
	// in the opposite one.
	parts(d *deployment) ([]part, error)
	// possible are all parts that a deployment of this name may have, whatever its settings.
	possible(d *deployment) []part
	// foreign says whose the service of that name is, if it is not one of ours; else it is empty.
	foreign(ctx context.Context, d *deployment) string
	// enable makes the manager read the parts, and start the service at the next boot, or login;
	// disable takes that back, and is run before the parts go. Both may be run twice.
	enable(d *deployment) []step
	disable(d *deployment) []step
	// forget makes it notice that the parts have gone.
	forget(d *deployment) []step
	// start, stop and restart return once it has been done, or failed. None minds that there is
	// nothing to do.
	start(d *deployment) []step
	stop(d *deployment) []step
	restart(d *deployment) []step
	// state is how the manager sees the service.
	state(ctx context.Context, d *deployment) (unitState, error)
	// tail is the end of its log, or nothing.
	tail(ctx context.Context, d *deployment, lines int) []string
	// advice is what whoever has installed wants to know next, a line each.
	advice(d *deployment) []string
	// remains are the files and directories that a run leaves behind: kept is what a user may want
	// (--purge removes it), the rest goes with the service.
	remains(d *deployment) (gone, kept []string)
}

// supervisors are the service managers that this system may have; the first that is there is
// used. Each system has its own.
var supervisors []supervisor

// mayBeForged tells whether others could have written what uninstall has left to say that a directory is ours. It
// is nil where they can make no directory beside those of services.
var mayBeForged func(path string) bool

// findSupervisor returns the one that is there, or says that there is none.
func findSupervisor(user bool) (supervisor, error) {
	var names []string
	for _, s := range supervisors {
		f := s.missing(user)
		if f == nil {
			return s, nil
		}
		if f.hint != "" { // it is there, and something else is in the way
			return nil, f
		}
		names = append(names, s.title())
	}
	return nil, faultf(codeApplication, "there is no service manager here that ipcd knows; on this system it knows %s", strings.Join(names, " and ")).
		withHint(`"ipcd run" serves in the foreground; in a container make it the container's command`)
}

// A unitState is how a service manager sees a service.
type unitState struct {
	Installed bool      `json:"installed"`
	Enabled   bool      `json:"enabled"`            // starts with the system, or at login
	Active    active    `json:"active"`             // see below
	PID       int       `json:"pid,omitempty"`      // of the daemon
	Since     time.Time `json:"since,omitzero"`     // when it came into this state
	Restarts  int       `json:"restarts,omitempty"` // by the manager, since it was started
	Why       string    `json:"why,omitempty"`      // it failed: what the manager says
	Waiting   bool      `json:"waiting,omitempty"`  // the manager listens, and starts it with the first call
}

// active is what the manager says of the process.
type active string

const (
	activeStopped  active = "stopped"
	activeStarting active = "starting"
	activeRunning  active = "running"
	activeStopping active = "stopping"
	activeFailed   active = "failed" // and is not started again by itself
)

// ourMark begins a line of every part, so that what is ours is told from what is another's. Behind
// it stands the command line of the daemon, from which the other commands know its endpoints.
const (
	ourMark   = `Written by "ipcd install`
	markCopy  = " --copy-to="
	markForIt = `" for: ipcd `
	// hiddenDashes stand for -- in a comment of XML, where that must not be. joinWords makes no such
	// thing, and to a shell it is the same.
	hiddenDashes = `-'-'`
)

// mark is that line, without what makes it a comment. The program is not in it, but where install
// has put it.
func (d *deployment) mark() string {
	m := ourMark
	if d.Copied {
		m += markCopy + joinWords([]string{d.Program})
	}
	return m + markForIt + joinWords(d.command()[1:])
}

// isOurText tells whether a text was written by us.
func isOurText(text string) bool { return strings.Contains(text, ourMark) }

// readMark returns the command line of the daemon that a text of ours has, without the program,
// and where install has put that, if it has.
func readMark(text string) (command []string, copied string, err error) {
	_, rest, ok := strings.Cut(text, ourMark)
	line, _, _ := strings.Cut(rest, "\n")
	line = strings.ReplaceAll(line, hiddenDashes, "--")
	copied, line, found := strings.Cut(line, markForIt)
	if !ok || !found {
		return nil, "", errors.New("it is not ours")
	}
	if words, _, err := cutWords(strings.TrimPrefix(copied, markCopy), ""); err == nil && len(words) == 1 {
		copied = words[0]
	}
	command, _, err = cutWords(line, "")
	return command, copied, err
}

// commandLine is how we were called, for hints: with the path that was typed, since there may be another
// ipcd in $PATH, or none.
func commandLine() []string {
	words := slices.Clone(os.Args)
	if !strings.Contains(words[0], "/") {
		words[0] = filepath.Base(words[0])
	}
	return words
}

// versioned matches a directory that package managers make for one version of a program, and remove
// with the next: Homebrew's Cellar, the store of Nix and Guix, asdf's installs.
var versioned = regexp.MustCompile(`/Cellar/|/(nix|gnu)/store/|/installs/|/v?[0-9]+(\.[0-9]+)+[^/]*/`)

// checkPlace refuses a program whose path will not last.
func checkPlace(path string) error {
	slashed := filepath.ToSlash(path)
	switch {
	case strings.Contains(slashed, "/go-build"):
		return faultf(codeApplication, "%s is a temporary build of \"go run\"", path)
	case versioned.MatchString(slashed):
		return faultf(codeApplication, "%s is the place of one version, which goes with the next upgrade", path)
	}
	return nil
}
