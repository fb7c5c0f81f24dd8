package main

// This file owns what service managers have in common that take a script or a list of properties: words
// that a shell takes as they are, the tools of the system, the account that a service runs as, the
// end of its log.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// plainWord is what no shell treats in a special way.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// shellWord quotes s for sh(1), where it needs that. Between single quotes nothing but a single
// quote is special there.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellLine is a command as it would be typed.
func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// managerAccount is what useradd(8), pw(8) and macOS take for a user or a group. It begins with no dash
// and has nothing that a shell, a colon-separated table or an option could take for its own.
var managerAccount = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

// checkScript refuses what cannot stand in a script or a property list: a name that is none, and
// characters that end a line or are not to be seen.
func checkScript(d *deployment) error {
	if err := checkServiceName(d.Name); err != nil {
		return err
	}
	if d.RunAs != "" && !managerAccount.MatchString(d.RunAs) {
		return usagef("--run-as: %q cannot be the name of a user", shorten(d.RunAs, 60)).withHint("name a user that the system has: id NAME")
	}
	if d.AllowGroup != "" && !managerAccount.MatchString(d.AllowGroup) {
		return usagef("--allow-group: %q cannot be the name of a group", shorten(d.AllowGroup, 60)).withHint("name a group that the system has")
	}
	if !path.IsAbs(d.Program) {
		return usagef("the program %q has no absolute path", shorten(d.Program, 60)).withHint("say where it is: --copy-to PATH")
	}
	for _, word := range d.command() {
		if strings.ContainsFunc(word, isControl) || strings.ToValidUTF8(word, "") != word {
			return usagef("%q cannot stand in a service's file: it has characters that do not show", shorten(word, 60)).
				withHint("choose other names for the files that the service uses")
		}
	}
	return nil
}

// toolPath finds a tool of the system where it is, although $PATH may name no sbin.
func toolPath(name string) (string, error) {
	found, err := exec.LookPath(name)
	if err == nil {
		return found, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found, nil
		}
	}
	return "", err
}

// A toolError is what a tool of the system said when it failed.
type toolError struct {
	line string // the command
	code int    // its exit code; -1 where it has none
	said string // its last words, or why it did not run
}

func (e *toolError) Error() string { return fmt.Sprintf("%s: %s", e.line, e.said) }

// toolOutput runs a tool of the system, for as long as one step may take, and returns what it
// printed. An error of its own is a *toolError.
func toolOutput(ctx context.Context, words ...string) (string, error) {
	program, err := toolPath(words[0])
	if err != nil {
		return "", &toolError{line: shellLine(words...), code: -1, said: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, words[1:]...)
	cmd.WaitDelay = time.Second // for a child of the tool that holds its output open
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return out.String(), nil
	}
	said := err.Error()
	for _, text := range []string{out.String(), complaint.String()} {
		if text = strings.TrimSpace(text); text != "" {
			said = shorten(text[strings.LastIndexByte(text, '\n')+1:], 200)
		}
	}
	if ctx.Err() != nil {
		said = fmt.Sprintf("it did not end within %v", stepLimit)
	}
	return out.String(), &toolError{line: shellLine(words...), code: cmd.ProcessState.ExitCode(), said: said}
}

// toolCode is that of the tool that err comes from: 0 without an error, -1 where it has none.
func toolCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*toolError](err); ok {
		return e.code
	}
	return -1
}

// toolStep is the step that runs a tool of the system.
func toolStep(words ...string) step {
	return step{text: shellLine(words...), do: func(ctx context.Context) error {
		_, err := toolOutput(ctx, words...)
		return err
	}}
}

// when is a step that is taken only where it has something to do.
func (s step) when(needed func(context.Context) bool) step {
	return step{text: s.text, do: func(ctx context.Context) error {
		if !needed(ctx) {
			return nil
		}
		return s.do(ctx)
	}}
}

// fileThere tells whether there is anything of that name.
func fileThere(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// foreignFile is the first of the files that is there and was not written by us, for people.
func foreignFile(names ...string) string {
	for _, name := range names {
		text, err := readUnit(name)
		if err == nil && isOurText(text) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return name
	}
	return ""
}

const maxTail = 64 << 10 // bytes at the end of a log in which its last lines are looked for

// lastLines are the last lines of a file, or none.
func lastLines(name string, n int) []string {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-maxTail), maxTail))
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	return lines[max(0, len(lines)-n):]
}

// An accountPart is the user that a service runs as, where the system has no way to make one for
// as long as the service runs: one's own, so that no other service can reach what it owns. Its
// comment says that it is ours; one that was there before stays.
type accountPart struct {
	user   string
	add    [][]string // the commands that make it
	del    [][]string // and remove it
	keeper string     // the directory of its files: while it is there, no other user may get its number
}

func (p *accountPart) name() string { return "the user " + p.user }
func (p *accountPart) want() string { return p.user + ": " + ourMark + "\n" }

// have looks for the user where getpwnam(3) does; its comment is the fifth field of passwd(5).
func (p *accountPart) have() (string, error) {
	u, err := user.Lookup(p.user)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return "", fs.ErrNotExist
	}
	if err != nil {
		return "", err
	}
	return p.user + ": " + u.Name + "\n", nil
}

func (p *accountPart) put() error {
	if have, err := p.have(); err == nil && have == p.want() {
		return nil
	}
	return p.run(p.add)
}

// remove leaves a user that still owns something, or is not ours.
func (p *accountPart) remove() error {
	have, err := p.have()
	if errors.Is(err, fs.ErrNotExist) || err == nil && have != p.want() || fileThere(p.keeper) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.run(p.del)
}

func (p *accountPart) run(commands [][]string) error {
	for _, words := range commands {
		if _, err := toolOutput(context.Background(), words...); err != nil {
			return err
		}
	}
	return nil
}

func (p *accountPart) does() []string {
	var lines []string
	for _, words := range p.add {
		lines = append(lines, shellLine(words...))
	}
	return lines
}

// firstThere is the first of the files that is there, or the last.
func firstThere(names ...string) string {
	if i := slices.IndexFunc(names, fileThere); i >= 0 {
		return names[i]
	}
	return names[len(names)-1]
}
