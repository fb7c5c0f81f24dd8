package main

// This file owns what it means to be a service of the operating system: what is installed, which
// parts that has on a system, and in which order they come and go. How each service manager
// has it is in systemd.go, openrc.go, launchd.go, rcd.go and scm_windows.go; the commands are in
// service_cmd.go. It is the only one that sees kardianos/service, which carries the installation.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	osservice "github.com/kardianos/service"
)

const (
	stepLimit   = 100 * time.Second // for one command of the service manager; systemd's own limit for a start is 90 s
	answerLimit = 20 * time.Second  // for a service that was started to answer
	askLimit    = 5 * time.Second   // for the answer to one question
	lockLimit   = 3 * time.Minute   // for another install or uninstall to end
	tailLines   = 10                // of the log of a service that does not answer
)

// A deployment is a service as install was asked for it.
type deployment struct {
	Name       string
	User       bool       // one's own, from login to logout, not the system's
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

// who is the service for those who know it by its name alone.
func (d *deployment) who() instance { return instance{name: d.Name, user: d.User} }

// again is the flags that name the service, for a hint.
func (d *deployment) again() string {
	text := ""
	if d.Name != defaultName {
		text += " --name " + d.Name
	}
	if d.User {
		text += " --user"
	}
	return text
}

// command is the command line that the service manager runs, the program included.
func (d *deployment) command() []string {
	args := []string{d.Program, "run", "--service", d.Name}
	return append(args, d.options()...)
}

// options are the arguments that install was given for the daemon.
func (d *deployment) options() []string {
	var args []string
	if d.User {
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

// A part is one thing that an installation puts into the system: a file, or an entry in a
// database of services.
type part interface {
	name() string          // where it is, for people
	want() string          // its whole text, mark included
	have() (string, error) // what is there; fs.ErrNotExist where nothing is
	put() error            // in place of what is there, if anything is
	remove() error         // nothing may be there
	does() []string        // the commands that put runs besides, for --dry-run
}

// A step is something that the service manager is asked to do.
type step struct {
	text string // the command, as it would be typed
	do   func(context.Context) error
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

// A filePart is a text file that an installation writes.
type filePart struct {
	path string
	text string
	mode fs.FileMode
}

func (p *filePart) name() string   { return p.path }
func (p *filePart) want() string   { return p.text }
func (p *filePart) does() []string { return nil }

const maxUnit = 1 << 20 // bytes of a file that stands in the place of one of ours

func (p *filePart) have() (string, error) { return readUnit(p.path) }

// readUnit reads what is in the place of one of our files; what is no small file is not ours.
func readUnit(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxUnit {
		return "", faultf(codeApplication, "%s is not a file that ipcd has written", path).withHint("see what it is: ls -l %s", path)
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

// put writes beside the file and renames, so that there is never a half of it.
func (p *filePart) put() (err error) {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(p.path), "."+filepath.Base(p.path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(p.text)
	if err == nil {
		err = f.Chmod(p.mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	if err = os.Rename(f.Name(), p.path); err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// Windows does not replace a program that runs, but lets it have another name.
	os.Remove(p.path + ".old")
	if err := os.Rename(p.path, p.path+".old"); err != nil {
		return err
	}
	return os.Rename(f.Name(), p.path)
}

// save remembers what is there.
func (p *filePart) save() (restore func() error) {
	old, err := p.have()
	if err != nil {
		return p.remove
	}
	before := filePart{path: p.path, text: old, mode: p.mode}
	return before.put
}

func (p *filePart) remove() error {
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// A copyPart is the program, where install puts it somewhere else.
type copyPart struct{ from, path string }

func (p *copyPart) name() string          { return p.path }
func (p *copyPart) want() string          { text, _ := digest(p.from); return text }
func (p *copyPart) have() (string, error) { return digest(p.path) }
func (p *copyPart) does() []string        { return nil }
func (p *copyPart) remove() error         { return (&filePart{path: p.path}).remove() }

// digest is what a program is told by: its SHA-256.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("program, sha256 %x\n", h.Sum(nil)), nil
}

// isOurProgram tells ipcd, of any version, from other files: Go's linker has noted what it was built from.
func isOurProgram(path string) bool {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	there, err := buildinfo.ReadFile(path)
	own, ok := debug.ReadBuildInfo()
	return err == nil && ok && there.Main.Path == own.Main.Path
}

func (p *copyPart) put() error {
	program, err := os.ReadFile(p.from)
	if err != nil {
		return err
	}
	return (&filePart{path: p.path, text: string(program), mode: 0o755}).put()
}

// save keeps the program that is there in memory: it has some ten megabytes.
func (p *copyPart) save() (restore func() error) {
	old, err := os.ReadFile(p.path)
	if err == nil {
		return (&filePart{path: p.path, text: string(old), mode: 0o755}).put
	}
	var made []string // directories, by put
	for dir := filepath.Dir(p.path); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, dir)
	}
	return func() error {
		err := p.remove()
		for _, dir := range made {
			os.Remove(dir)
		}
		return err
	}
}

// A carriedPart is the file that kardianos/service writes, from our text: it knows where the
// manager of this system wants it, and tells the manager.
type carriedPart struct {
	filePart
	service  osservice.Service
	commands []string     // that its Install runs, for --dry-run
	again    func() error // does what they do, and tells why it fails; may be nil
}

// newCarriedPart makes the part for a deployment. scriptOption is the option of kardianos/service
// by which it takes a whole text; one without "{{" is written as it is.
func newCarriedPart(d *deployment, file filePart, scriptOption string, commands ...string) (*carriedPart, error) {
	if strings.Contains(file.text, "{{") {
		return nil, usagef("%q cannot stand in a service's file", "{{").withHint("choose other names for the files that the service uses")
	}
	s, err := osservice.New(&program{}, &osservice.Config{
		Name: d.Name, Executable: d.Program,
		Option: osservice.KeyValue{scriptOption: file.text, "UserService": d.User},
	})
	if err != nil {
		return nil, fmt.Errorf("talk to the service manager: %w", err)
	}
	return &carriedPart{filePart: file, service: s, commands: commands}, nil
}

func (p *carriedPart) does() []string { return p.commands }

// put has to remove what is there first: Install refuses otherwise. What Install leaves behind
// when it fails half way goes.
func (p *carriedPart) put() error {
	if err := p.filePart.remove(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	err := p.service.Install()
	have, readErr := p.have()
	switch {
	case err == nil && readErr == nil && have == p.text:
		return os.Chmod(p.path, p.mode) // whatever the umask
	case err != nil && have == p.text && p.again != nil:
		err = cmp.Or(p.again(), err) // it drops what the command complained of
	case err == nil:
		err = cmp.Or(readErr, errors.New("it is not what was written"))
	}
	p.filePart.remove()
	return fmt.Errorf("write %s: %w", p.path, err)
}

// remove goes on where Uninstall does not: it fails when there is nothing to disable.
func (p *carriedPart) remove() error {
	if _, err := os.Lstat(p.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := p.service.Uninstall(); err == nil {
		return nil
	}
	return p.filePart.remove()
}

// perform takes steps until one fails.
func perform(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// commandStep runs a command of the service manager.
func commandStep(words ...string) step {
	return step{text: joinWords(words), do: func(ctx context.Context) error {
		_, err := runCommand(ctx, words...)
		return err
	}}
}

// runCommand runs a command and returns what it printed. What it complained of is in the error.
func runCommand(ctx context.Context, words ...string) (string, error) {
	return runCommandWithin(ctx, stepLimit, words...)
}

// runCommandWithin is for one that may take longer: the end of a service, which waits for calls in flight.
func runCommandWithin(ctx context.Context, limit time.Duration, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, toolPath(words[0]), words[1:]...)
	cmd.WaitDelay = time.Second // for one that has left a child with its output
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return out.String(), nil
	case ctx.Err() == context.DeadlineExceeded:
		return "", faultf(codeApplication, "%s did not end within %s", joinWords(words), limit).withHint("see whether the service manager is well, and try again")
	}
	text := strings.TrimSpace(complaint.String())
	if text == "" {
		text = err.Error()
	}
	return out.String(), &commandError{fmt.Sprintf("%s: %s", joinWords(words), shorten(strings.ReplaceAll(text, "\n", "; "), 500)), err}
}

// A commandError is the failure of a command: what it said, and how it ended.
type commandError struct {
	text string
	err  error
}

func (e *commandError) Error() string { return e.text }
func (e *commandError) Unwrap() error { return e.err }

// commandCode is the exit code of the command that err comes from: 0 without an error, -1 where there
// is none.
func commandCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}

// toolPath finds a tool of the system where it is, although $PATH may name no sbin, as a user's does
// not on some systems; a name that is nowhere is left as it is.
func toolPath(name string) string {
	if _, err := exec.LookPath(name); err == nil {
		return name
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := exec.LookPath(dir + name); err == nil {
			return dir + name
		}
	}
	return name
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
