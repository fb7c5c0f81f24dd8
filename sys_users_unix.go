//go:build unix

package main

// This file owns users and groups as the system knows them: those of /etc/passwd and /etc/group, and those of LDAP,
// systemd-userdb or whatever else nsswitch.conf(5) names. It asks getent(1), which comes with the C library that has
// the plug-ins. The standard library would ask the C library itself in a build with cgo, and read the two files
// in one without; who may call must not depend on that.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	lookupLimit    = 5 * time.Second // for one question: a directory may be on another machine
	getentNotFound = 2               // getent's exit code where there is no such entry
)

// A groupEntry is an entry of group(5).
type groupEntry struct {
	name    string
	gid     int
	members []string // besides those whose first group it is
}

// findUser looks up a user by name. The error is fs.ErrNotExist if there is none; any other means that nobody knows.
func findUser(name string) (userEntry, error) {
	if isNumber(name) {
		return userEntry{}, fs.ErrNotExist
	}
	f, err := lookUp("passwd", name, 7)
	if err != nil {
		return userEntry{}, err
	}
	return parseUser(f)
}

// isNumber reports whether getent takes a key for a number, which may be of more bits than a uid has: it uses strtoul(3).
func isNumber(key string) bool {
	digits := strings.TrimLeft(key, " \t\n\v\f\r+-")
	return digits == "" || strings.Trim(digits, "0123456789") == ""
}

// parseUser reads a line of passwd(5). The first part of the comment is the user's full name.
func parseUser(f []string) (u userEntry, err error) {
	u.name = f[0]
	u.comment, _, _ = strings.Cut(f[4], ",")
	u.uid, err = strconv.Atoi(f[2])
	if err == nil {
		u.gid, err = strconv.Atoi(f[3])
	}
	return u, err
}

// groupNamed is findUser for groups.
func groupNamed(name string) (groupEntry, error) {
	if isNumber(name) {
		return groupEntry{}, fs.ErrNotExist
	}
	return findGroupEntry(name)
}

// groupNumbered looks up a group by its gid.
func groupNumbered(gid int) (groupEntry, error) { return findGroupEntry(strconv.Itoa(gid)) }

func findGroupEntry(key string) (groupEntry, error) {
	f, err := lookUp("group", key, 4)
	if err != nil {
		return groupEntry{}, err
	}
	g := groupEntry{name: f[0], members: strings.FieldsFunc(f[3], func(c rune) bool { return c == ',' })}
	g.gid, err = strconv.Atoi(f[2])
	return g, err
}

// lookUp returns the fields of one entry of a database, of which there have to be enough.
func lookUp(database, key string, enough int) ([]string, error) {
	if strings.HasPrefix(key, "-") { // an option
		return nil, fs.ErrNotExist
	}
	lines, err := getent(database, key)
	if errors.Is(err, exec.ErrNotFound) {
		lines, err = withoutGetent(database, key)
	}
	if err != nil {
		return nil, err
	}
	f := strings.Split(lines[0], ":")
	if len(f) < enough {
		return nil, fmt.Errorf("look up %s in the system's %s: %q is no entry", key, database, lines[0])
	}
	return f, nil
}

// getent returns entries of a database: the one with the key, or all that the system lists. The error is
// exec.ErrNotFound if there is no getent.
func getent(database string, key ...string) (lines []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, toolPath("getent"), append([]string{database}, key...)...)
	cmd.Env = childEnviron("JOURNAL_STREAM")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	lines = strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	failed, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil && lines[0] != "":
		return lines, nil
	case err == nil, ended && failed.ExitCode() == getentNotFound:
		return nil, fs.ErrNotExist
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return nil, fmt.Errorf("look up %s in the system's %s: %w", strings.Join(key, ""), database, err)
}

// withoutGetent is for systems that have none: macOS, where the standard library asks the system in every build, and
// small Linux systems, which have no more than the files.
func withoutGetent(database, key string) (lines []string, err error) {
	_, notNumber := strconv.Atoi(key)
	if database == "group" {
		find := user.LookupGroupId
		if notNumber != nil {
			find = user.LookupGroup
		}
		g, err := find(key)
		if err != nil {
			return nil, asNotExist(err)
		}
		return []string{g.Name + ":x:" + g.Gid + ":"}, nil
	}
	find := user.LookupId
	if notNumber != nil {
		find = user.Lookup
	}
	u, err := find(key)
	if err != nil {
		return nil, asNotExist(err)
	}
	return []string{strings.Join([]string{u.Username, "x", u.Uid, u.Gid, u.Name, u.HomeDir, ""}, ":")}, nil
}

// asNotExist is fs.ErrNotExist for the errors of the standard library that mean it.
func asNotExist(err error) error {
	var noUser user.UnknownUserError
	var noID user.UnknownUserIdError
	var noGroup user.UnknownGroupError
	var noGID user.UnknownGroupIdError
	if errors.As(err, &noUser) || errors.As(err, &noID) || errors.As(err, &noGroup) || errors.As(err, &noGID) {
		return fs.ErrNotExist
	}
	return err
}

// lookUpName finds the name of uid, or nothing. The error is nil, or nobody knows.
func lookUpName(uid int) (string, error) {
	f, err := lookUp("passwd", strconv.Itoa(uid), 7)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	}
	return f[0], nil
}

// nameInFile is lookUpName in /etc/passwd alone, which is quicker than a program, and enough where it is for people.
func nameInFile(uid int) string {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == strconv.Itoa(uid) {
			return f[0]
		}
	}
	return ""
}

// hasOthers reports whether the group gid has members besides root and the user uid. Many systems give each new user a
// group of their own (USERGROUPS_ENAB in login.defs(5)), and a umask that lets it write. A member whom the list of
// users does not have counts as another: the list of a directory may be kept back.
func hasOthers(gid, uid int) bool {
	g, err := groupNumbered(gid)
	if err != nil {
		return true
	}
	lines, err := getent("passwd")
	if err != nil {
		return true
	}
	unlisted, ours := map[string]bool{}, 0
	for _, name := range g.members {
		unlisted[name] = true
	}
	for _, line := range lines {
		f := strings.Split(line, ":")
		if len(f) < 7 {
			continue
		}
		u, err := parseUser(f)
		switch {
		case err != nil || u.gid != gid && !slices.Contains(g.members, u.name):
			continue
		case u.uid != 0 && u.uid != uid:
			return true
		}
		ours++
		delete(unlisted, u.name)
	}
	return len(unlisted) > 0 || ours == 0 // those of a group without any are not listed
}
