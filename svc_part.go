package main

// This file owns the parts that a service is made of, and the steps in which they come and go: files, a copy of the
// program, an account, commands of a service manager, and the file that kardianos/service installs. Besides
// svc_scm_windows.go it is the only one of svc that imports that package.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	osservice "github.com/kardianos/service"
)

// A part is one thing that an installation puts into the system: a file, or an entry in a
// database of services.
type part interface {
	name() string          // where it is, for people
	want() string          // its whole text, mark included
	have() (string, error) // what is there; fs.ErrNotExist if nothing is
	put() error            // replaces what is there, if anything is
	remove() error         // is no error if nothing is there
	does() []string        // the commands that put runs besides, for --dry-run
}

// A step is something that the service manager is asked to do.
type step struct {
	text string // the command, as it would be typed
	do   func(context.Context) error
}

// A filePart is a text file that an installation writes.
type filePart struct {
	path string
	text string
	mode fs.FileMode
}

func (p *filePart) name() string { return p.path }

func (p *filePart) want() string { return p.text }

func (p *filePart) does() []string { return nil }

const maxUnit = 1 << 20 // bytes of a file that we wrote; a larger one is not ours

func (p *filePart) have() (string, error) { return readUnit(p.path) }

// readUnit reads what is at the path of one of our files. Anything but a small regular file is not ours.
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

// put writes a temporary file next to it and renames that, so that the file is never half written.
func (p *filePart) put() (err error) {
	if err := makeDirs(filepath.Dir(p.path)); err != nil {
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
	// Windows does not replace a running program, but lets it be renamed.
	os.Remove(p.path + ".old")
	if err := os.Rename(p.path, p.path+".old"); err != nil {
		return err
	}
	return os.Rename(f.Name(), p.path)
}

// makeDirs makes the directory at path, and those above it that are missing. They have their mode whatever the umask of
// the person who installs: the service, which is another user, has to pass them.
func makeDirs(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if above := filepath.Dir(path); above != path {
		if err := makeDirs(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// save returns a function that restores what is there now.
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

// A copyPart is the copy of the program that install makes.
type copyPart struct{ from, path string }

func (p *copyPart) name() string { return p.path }

func (p *copyPart) want() string { text, _ := digest(p.from); return text }

func (p *copyPart) have() (string, error) { return digest(p.path) }

func (p *copyPart) does() []string { return nil }

func (p *copyPart) remove() error { return (&filePart{path: p.path}).remove() }

// digest identifies a program by its SHA-256.
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

// maxProgram is the size above which a file is not taken for ipcd, which has some fifteen megabytes.
const maxProgram = 256 << 20

// isOurProgram reports whether the file is ipcd, of any version: Go's linker writes into a program what module it was built from.
// debug/buildinfo would say it as well, but every start would pay for the three formats of programs that it reads: see docs/decisions.md.
func isOurProgram(path string) bool {
	own, ok := debug.ReadBuildInfo()
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Size() > maxProgram || !ok || own.Main.Path == "" {
		return false
	}
	program, err := os.ReadFile(path)
	return err == nil && bytes.Contains(program, []byte("\nmod\t"+own.Main.Path+"\t"))
}

func (p *copyPart) put() error {
	program, err := os.ReadFile(p.from)
	if err != nil {
		return err
	}
	return (&filePart{path: p.path, text: string(program), mode: 0o755}).put()
}

// save keeps the program that is there in memory, some ten megabytes.
func (p *copyPart) save() (restore func() error) {
	old, err := os.ReadFile(p.path)
	if err == nil {
		return (&filePart{path: p.path, text: string(old), mode: 0o755}).put
	}
	var made []string // directories that put will create
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

// A carriedPart is a file with our text that kardianos/service writes: it knows where the manager of this system
// wants it, and tells the manager.
type carriedPart struct {
	filePart
	service  osservice.Service
	commands []string     // run by its Install, for --dry-run
	again    func() error // does the same as they do, and returns why it fails; may be nil
}

// newCarriedPart makes the part of a deployment. scriptOption is the option of kardianos/service for a template; a
// text without "{{" is written as it is.
func newCarriedPart(d *deployment, file filePart, scriptOption string, commands ...string) (*carriedPart, error) {
	if strings.Contains(file.text, "{{") {
		return nil, usagef("%q cannot stand in a service's file", "{{").withHint("choose other names for the files that the service uses")
	}
	s, err := osservice.New(nil, &osservice.Config{
		Name: d.name, Executable: d.Program,
		Option: osservice.KeyValue{scriptOption: file.text, "UserService": d.user},
	})
	if err != nil {
		return nil, fmt.Errorf("talk to the service manager: %w", err)
	}
	return &carriedPart{filePart: file, service: s, commands: commands}, nil
}

func (p *carriedPart) does() []string { return p.commands }

// put removes what is there first, or Install would refuse. It also removes what Install leaves behind when it fails
// half way.
func (p *carriedPart) put() error {
	if err := p.filePart.remove(); err != nil {
		return err
	}
	if err := makeDirs(filepath.Dir(p.path)); err != nil {
		return err
	}
	err := p.service.Install()
	have, readErr := p.have()
	switch {
	case err == nil && readErr == nil && have == p.text:
		return os.Chmod(p.path, p.mode) // whatever the umask
	case err != nil && have == p.text && p.again != nil:
		err = cmp.Or(p.again(), err) // Install drops what the command complained of
	case err == nil:
		err = cmp.Or(readErr, errors.New("it is not what was written"))
	}
	p.filePart.remove()
	return fmt.Errorf("write %s: %w", p.path, err)
}

// remove goes on where Uninstall gives up, which it does if there is nothing to disable.
func (p *carriedPart) remove() error {
	if _, err := os.Lstat(p.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := p.service.Uninstall(); err == nil {
		return nil
	}
	return p.filePart.remove()
}

// perform runs the steps until one fails.
func perform(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// commandStep is the step that runs a command of the service manager.
func commandStep(words ...string) step {
	return step{text: joinWords(words), do: func(ctx context.Context) error {
		_, err := runCommand(ctx, words...)
		return err
	}}
}

// runCommand runs a command and returns what it printed. What it printed on stderr is in the error.
func runCommand(ctx context.Context, words ...string) (string, error) {
	return runCommandWithin(ctx, stepLimit, words...)
}

// runCommandWithin is runCommand for one that may take longer: to stop a service, which waits for calls in flight.
func runCommandWithin(ctx context.Context, limit time.Duration, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, toolPath(words[0]), words[1:]...)
	cmd.WaitDelay = time.Second // for a child that has inherited its output and lives on
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

// commandCode is the exit code of the command that err comes from: 0 without an error, -1 if it did not exit.
func commandCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}

// when returns a step that is taken only if needed says so.
func (s step) when(needed func(context.Context) bool) step {
	return step{text: s.text, do: func(ctx context.Context) error {
		if !needed(ctx) {
			return nil
		}
		return s.do(ctx)
	}}
}

// fileThere reports whether anything of that name exists.
func fileThere(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// An accountPart is the user that a service runs as, where the system cannot provide one for just as long as the
// service runs. Each service has its own, so that no other service can reach its files. The comment says that
// the user is ours.
type accountPart struct {
	user  string
	add   [][]string // the commands that make it
	del   [][]string // and remove it
	state string     // the directory of its files, which may outlive it
}

// accountMark is that comment, see passwd(5).
const accountMark = "made by ipcd install"

func (p *accountPart) name() string { return "the user " + p.user }

func (p *accountPart) want() string { return p.user + ": " + accountMark + "\n" }

// have looks for a user of ours; for others see foreignUser.
func (p *accountPart) have() (string, error) {
	u, err := findUser(p.user)
	if err == nil && u.comment != accountMark {
		err = fs.ErrNotExist
	}
	return p.want(), err
}

// foreignUser names the user that has the name of the account and is not ours, if there is one, or if nobody knows.
func foreignUser(name string) string {
	switch u, err := findUser(name); {
	case errors.Is(err, fs.ErrNotExist), err == nil && u.comment == accountMark:
		return ""
	case err != nil:
		return err.Error()
	}
	return "the user " + name
}

func (p *accountPart) put() error {
	if _, err := p.have(); err == nil {
		return nil
	}
	return p.run(p.add)
}

// remove gives what is kept to root: the next user may get the same number.
func (p *accountPart) remove() error {
	if _, err := p.have(); err != nil {
		return ignoreAbsent(err)
	}
	if err := os.Lchown(p.state, 0, 0); ignoreAbsent(err) != nil {
		return err
	}
	return p.run(p.del)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (p *accountPart) run(commands [][]string) error {
	for _, words := range commands {
		if _, err := runCommand(context.Background(), words...); err != nil {
			return err
		}
	}
	return nil
}

func (p *accountPart) does() []string {
	var lines []string
	for _, words := range p.add {
		lines = append(lines, joinWords(words))
	}
	return lines
}
