package main

// This file owns what the service managers have in common that take a script or a property list: quoting for a shell,
// names that may stand in such a file, the end of a log, and the sockets that a service leaves behind.

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
	"sync"
	"time"
)

// plainWord matches what means itself to every shell, wherever in a script it stands.
var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`) })

// shellWord quotes s for a script, if needed. What joinWords leaves as it is may mean more where a command begins, or in a
// place that is read twice.
func shellWord(s string) string {
	if plainWord().MatchString(s) {
		return s
	}
	return quoteWord(s)
}

// shellLine is a command as it would be typed to a shell.
func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// managerAccount matches names of users and groups that useradd(8), pw(8) and macOS accept. They do not begin with a
// dash, and have no character that is special to a shell or in a colon-separated table.
var managerAccount = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`) })

// checkScript refuses what must not be in a script or a property list: names that no user can have, and characters
// that end a line or are invisible.
func checkScript(d *deployment) error {
	if d.RunAs != "" && !managerAccount().MatchString(d.RunAs) {
		return usagef("--run-as: %q cannot be the name of a user", shorten(d.RunAs, 60)).withHint("name a user that the system has: id NAME")
	}
	if d.AllowGroup != "" && !managerAccount().MatchString(d.AllowGroup) {
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

// hasTool reports whether the system has a tool.
func hasTool(name string) bool {
	_, err := exec.LookPath(toolPath(name))
	return err == nil
}

// foreignFile returns the first of the files that exists and that we did not write, or nothing.
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

const maxTail = 64 << 10 // bytes at the end of a log that are searched for its last lines

// lastLines returns at most n lines from the end of a file; none if it cannot be read.
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
		lines = lines[1:] // the first one is incomplete
	}
	return lines[max(len(lines)-n, 0):]
}

// firstThere returns the first of the files that exists, or else the last name.
func firstThere(names ...string) string {
	if i := slices.IndexFunc(names, fileThere); i >= 0 {
		return names[i]
	}
	return names[len(names)-1]
}

// socketsOf returns the sockets of a service that are somewhere in a directory of its name, with their locks and the
// directories down from that one, the innermost first. It leaves out one that somebody serves: that belongs to a daemon
// that is no service.
func socketsOf(d *deployment) []string {
	var paths []string
	own, err := d.endpoint()
	if err != nil {
		own = endpoint{}
	}
	for _, e := range append([]endpoint{own}, d.Endpoints...) {
		at := strings.LastIndex(e.Path, "/"+d.name+"/")
		if e.Scheme != "unix" || at < 0 || isServed(e.Path) {
			continue
		}
		paths = append(paths, e.Path, e.Path+".lock")
		for dir := path.Dir(e.Path); len(dir) > at+1; dir = path.Dir(dir) {
			paths = append(paths, dir)
		}
	}
	return paths
}

// isServed reports whether somebody accepts connections at a socket; one that is left over refuses them.
func isServed(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return true
	}
	return !isRefused(err) && !errors.Is(err, fs.ErrNotExist)
}
