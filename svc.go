package main

// This file owns what it means to be a service of the operating system: a deployment, which is what install was
// asked for, and the interface of a service manager, which is where the next one plugs in. There are
// svc_systemd.go, svc_openrc.go, svc_launchd.go, svc_rcd.go and svc_scm_windows.go. What is installed
// consists of the parts in svc_part.go; svc_install.go puts them into the system and takes them out, and
// svc_remains.go clears up behind a service. svc_unix.go and its twin svc_windows.go say what may be a service at
// all. The commands are in cmd_service.go.

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	stepLimit   = 100 * time.Second // for one command of the service manager; systemd gives a start 90 s
	answerLimit = 20 * time.Second  // for a service to answer after it was started
	askLimit    = 5 * time.Second   // for one answer
	lockLimit   = 3 * time.Minute   // for another install or uninstall to end
	lockLook    = 50 * time.Millisecond
	tailLines   = 10 // shown of the log of a service that does not answer
)

// A deployment is a service as install was asked to install it.
type deployment struct {
	instance
	Program    string     // absolute path of ipcd
	CopyOf     string     // what install copies to Program; empty if it copies nothing
	Copied     bool       // install put Program there, now or earlier
	Config     string     // --config as an absolute path; empty for the default
	ConfigFile string     // the configuration that exists; empty for none
	Given      []given    // the settings on the command line
	RunAs      string     // the user it runs as; empty for the one with the fewest rights that the system offers
	AllowGroup string     // whose members may call; empty for none
	Delayed    bool       // Windows: start it after the others
	Endpoints  []endpoint // what it will serve, from flags and configuration
	Settings   settings   // what it will run with
	Wrong      error      // why the settings of an installed service cannot be read
}

// command is the command line that the service manager runs, the program included.
func (d *deployment) command() []string {
	args := []string{d.Program, "run", "--service", d.name}
	return append(args, d.options()...)
}

// options are the arguments of install that the daemon gets.
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

// asked is where the service is asked: where the system says who asks, if there is such an endpoint.
func (d *deployment) asked() endpoint {
	if i := slices.IndexFunc(d.Endpoints, endpoint.isLocal); i >= 0 {
		return d.Endpoints[i]
	}
	return d.Endpoints[0]
}

// stopLimit is how long a manager waits for the daemon to stop: its drain limit, and some for what follows.
func (d *deployment) stopLimit() time.Duration {
	return d.Settings.Limits.ending(d.Settings.Workers) + 5*time.Second
}

// A supervisor is the service manager of a system.
type supervisor interface {
	// title is its name for people.
	title() string
	// missing returns why it cannot be used here and now, or nil.
	missing(user bool) *fault
	// listens reports whether it opens the sockets itself, with its own rights.
	listens() bool
	// parts returns all that an installation puts into the system, in that order; they are removed in reverse.
	parts(d *deployment) ([]part, error)
	// possible returns all parts that a deployment of this name may have, whatever its settings.
	possible(d *deployment) []part
	// foreign says whose the service of that name is, if it is not ours; otherwise it returns nothing.
	foreign(ctx context.Context, d *deployment) string
	// enable makes the manager read the parts, and start the service at the next boot or login. disable undoes
	// that, before the parts are removed. Both may be run twice.
	enable(d *deployment) []step
	disable(d *deployment) []step
	// forget makes it notice that the parts are gone.
	forget(d *deployment) []step
	// start, stop and restart return once that is done, or has failed. None is an error if there is nothing to
	// do.
	start(d *deployment) []step
	stop(d *deployment) []step
	restart(d *deployment) []step
	// state returns the service as the manager sees it.
	state(ctx context.Context, d *deployment) (unitState, error)
	// tail returns the last lines of its log, or nothing.
	tail(ctx context.Context, d *deployment, lines int) []string
	// logAt returns the file that its log is in, or else the command that shows it, which takes the options of journalctl.
	logAt(d *deployment) (file string, command []string)
	// advice returns what one wants to know after installing, a line each.
	advice(d *deployment) []string
	// remains returns the files and directories that a run leaves behind: gone is removed with the service, kept
	// is what a user may want (--purge removes it).
	remains(d *deployment) (gone, kept []string)
}

// supervisors are the service managers that this system may have, set by its own file; the first one found is
// used.
var supervisors []supervisor

// mayBeForged reports whether somebody else could have forged the receipt at path. It is nil where nobody else can
// create a directory next to those of services.
var mayBeForged func(path string) bool

// findSupervisor returns the service manager of this system, or a fault if there is none.
func findSupervisor(user bool) (supervisor, error) {
	var names []string
	for _, s := range supervisors {
		f := s.missing(user)
		if f == nil {
			return s, nil
		}
		if f.hint != "" { // it is here, and something else is in the way
			return nil, f
		}
		names = append(names, s.title())
	}
	return nil, faultf(codeApplication, "there is no service manager here that ipcd knows; on this system it knows %s", strings.Join(names, " and ")).
		withHint(`"ipcd run" serves in the foreground; in a container make it the container's command`)
}

// A unitState is a service as its manager sees it.
type unitState struct {
	Installed bool      `json:"installed"`
	Enabled   bool      `json:"enabled"`            // starts at boot, or at login
	Active    active    `json:"active"`             // see below
	PID       int       `json:"pid,omitempty"`      // of the daemon
	Since     time.Time `json:"since,omitzero"`     // when it entered this state
	Restarts  int       `json:"restarts,omitempty"` // by the manager, since the start
	Why       string    `json:"why,omitempty"`      // if it failed: what the manager says
	Waiting   bool      `json:"waiting,omitempty"`  // the manager listens, and starts it at the first call
}

// active is what the manager says about the process.
type active string

const (
	activeStopped  active = "stopped"
	activeStarting active = "starting"
	activeRunning  active = "running"
	activeStopping active = "stopping"
	activeFailed   active = "failed" // and will not be restarted
)

// ourMark begins a line in every part, which tells what is ours from what is another's. After it comes the command
// line of the daemon, from which the other commands learn its endpoints.
const (
	ourMark   = `Written by "ipcd install`
	markCopy  = " --copy-to="
	markForIt = `" for: ipcd `
	// hiddenDashes stand for --, which a comment in XML must not contain. To a shell it is the same, and
	// joinWords never writes it.
	hiddenDashes = `-'-'`
)

// mark is that line, without what makes it a comment. It does not have the program, only where install put a copy
// of it, if it did.
func (d *deployment) mark() string {
	m := ourMark
	if d.Copied {
		m += markCopy + joinWords([]string{d.Program})
	}
	return m + markForIt + joinWords(d.command()[1:])
}

// isOurText reports whether we wrote a text.
func isOurText(text string) bool { return strings.Contains(text, ourMark) }

// readMark returns the command line of the daemon from a text of ours, without the program, and where install put
// a copy of that, if it did.
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

// commandLine is how we were called, for hints. A path that was typed stays: the ipcd in $PATH may be another one,
// or none.
func commandLine() []string {
	words := slices.Clone(os.Args)
	if !strings.Contains(words[0], "/") {
		words[0] = filepath.Base(words[0])
	}
	return words
}

// versioned matches a directory that a package manager makes for one version of a program and removes with the
// next: Homebrew's Cellar, the store of Nix or Guix, asdf's installs.
var versioned = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`/Cellar/|/(nix|gnu)/store/|/installs/|/v?[0-9]+(\.[0-9]+)+[^/]*/`)
})

// checkPlace refuses a program whose path will not last.
func checkPlace(path string) error {
	slashed := filepath.ToSlash(path)
	switch {
	case strings.Contains(slashed, "/go-build"):
		return faultf(codeApplication, "%s is a temporary build of \"go run\"", path)
	case versioned().MatchString(slashed):
		return faultf(codeApplication, "%s is the place of one version, which goes with the next upgrade", path)
	}
	return nil
}
