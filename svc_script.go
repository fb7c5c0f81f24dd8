package main

// This file owns what service managers have in common that take a script or a list of properties: words
// that a shell takes as they are, the tools of the system, the account that a service runs as, the
// end of its log.

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// plainWord is what no shell treats in a special way, wherever in a script it stands.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// shellWord quotes s for a shell, where it needs that. joinWords quotes what cutWords would take apart, and to
// a shell more than that is special.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return quoteWord(s)
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

// checkScript refuses what cannot stand in a script or a property list: names of users that are none,
// and characters that end a line or are not to be seen.
func checkScript(d *deployment) error {
	if d.RunAs != "" && !managerAccount.MatchString(d.RunAs) {
		return usagef("--run-as: %q cannot be the name of a user", shorten(d.RunAs, 60)).withHint("name a user that the system has: id NAME")
	}
	if d.AllowGroup != "" && !managerAccount.MatchString(d.AllowGroup) {
		return usagef("--allow-group: %q cannot be the name of a group", shorten(d.AllowGroup, 60)).withHint("name a group that the system has")
	}
	if !path.IsAbs(d.Program) {
		return usagef("the program %q has no absolute path", shorten(d.Program, 60)).withHint("say where it is: --copy-to=PATH")
	}
	for _, word := range d.command() {
		if strings.ContainsFunc(word, isControl) || strings.ToValidUTF8(word, "") != word {
			return usagef("%q cannot stand in a service's file: it has characters that do not show", shorten(word, 60)).
				withHint("choose other names for the files that the service uses")
		}
	}
	return nil
}

// hasTool tells whether the system has a tool.
func hasTool(name string) bool {
	_, err := exec.LookPath(toolPath(name))
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

const maxTail = 64 << 10 // bytes at the end of a log that are looked at for its last lines

// lastLines are at most n lines of the end of a file; none where it cannot be read.
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
	from := max(info.Size()-maxTail, 0)
	b, err := io.ReadAll(io.NewSectionReader(f, from, maxTail))
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	if from > 0 {
		lines = lines[1:] // the first is the end of one
	}
	return lines[max(len(lines)-n, 0):]
}

// firstThere is the first of the files that is there, or the last.
func firstThere(names ...string) string {
	if i := slices.IndexFunc(names, fileThere); i >= 0 {
		return names[i]
	}
	return names[len(names)-1]
}

// socketsOf are the sockets of a service that are in a directory of its name, and what goes with them.
// One that somebody serves is not among them: it is that of a daemon that is no service.
func socketsOf(d *deployment) []string {
	var paths []string
	own, err := d.endpoint()
	if err != nil {
		own = endpoint{}
	}
	for _, e := range append([]endpoint{own}, d.Endpoints...) {
		if e.Scheme == "unix" && path.Base(path.Dir(e.Path)) == d.name && !isServed(e.Path) {
			paths = append(paths, e.Path, e.Path+".lock", path.Dir(e.Path))
		}
	}
	return paths
}

// isServed tells whether somebody accepts connections at a socket; one that is left over refuses them.
func isServed(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return true
	}
	return !isRefused(err) && !errors.Is(err, fs.ErrNotExist)
}
