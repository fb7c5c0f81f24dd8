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
	"maps"
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
func findUser(name string) (userEntry, error) { return lookUpNamed("passwd", name, parseUser) }

// userID returns the uid of a user, by name or by the uid itself, for which there need be no name.
func userID(name string) (string, error) {
	if uid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return strconv.FormatUint(uid, 10), nil
	}
	u, err := findUser(name)
	return strconv.Itoa(u.uid), err
}

// suppose describes the user with that name and uid as the kernel would, with the groups that the system lists.
func (p *peer) suppose(name, uid string) (err error) {
	p.UID, _ = strconv.Atoi(uid)
	if p.User = nameInFile(p.UID); p.User == "" {
		p.User = name
	}
	groups, err := groupsOf(p.User)
	for _, gid := range groups {
		p.Groups = append(p.Groups, strconv.FormatUint(uint64(gid), 10))
	}
	if isNumber(p.User) {
		return nil // a uid that nobody has is in no group
	}
	return err
}

// groupNamed is findUser for groups.
func groupNamed(name string) (groupEntry, error) { return lookUpNamed("group", name, parseGroup) }

// groupNumbered looks up a group by its gid.
func groupNumbered(gid int) (groupEntry, error) {
	return lookUp("group", strconv.Itoa(gid), parseGroup)
}

// lookUpNamed is lookUp by a name alone.
func lookUpNamed[T any](database, name string, parse func(line string) (T, error)) (entry T, err error) {
	if isNumber(name) {
		return entry, fs.ErrNotExist
	}
	return lookUp(database, name, parse)
}

// isNumber reports whether getent takes a key for a number, which may be of more bits than a uid has: it uses strtoul(3).
func isNumber(key string) bool {
	digits := strings.TrimLeft(key, " \t\n\v\f\r+-")
	return digits == "" || strings.Trim(digits, "0123456789") == ""
}

// lookUp returns the entry of a database with that name or number.
func lookUp[T any](database, key string, parse func(line string) (T, error)) (entry T, err error) {
	if strings.HasPrefix(key, "-") { // an option
		return entry, fs.ErrNotExist
	}
	lines, err := getent(database, key)
	if errors.Is(err, exec.ErrNotFound) {
		lines, err = withoutGetent(database, key)
	}
	if err != nil {
		return entry, err
	}
	if entry, err = parse(lines[0]); err != nil {
		return entry, fmt.Errorf("look up %s in the system's %s: %w", key, database, err)
	}
	return entry, nil
}

// parseUser reads a line of passwd(5). The first part of the comment is the user's full name.
func parseUser(line string) (u userEntry, err error) {
	f := strings.Split(line, ":")
	if len(f) < 7 {
		return u, fmt.Errorf("%q is no user", line)
	}
	u.name = f[0]
	u.comment, _, _ = strings.Cut(f[4], ",")
	u.home = f[5]
	u.uid, err = strconv.Atoi(f[2])
	if err == nil {
		u.gid, err = strconv.Atoi(f[3])
	}
	return u, err
}

// parseGroup reads a line of group(5).
func parseGroup(line string) (g groupEntry, err error) {
	f := strings.Split(line, ":")
	if len(f) < 4 {
		return g, fmt.Errorf("%q is no group", line)
	}
	g.name, g.members = f[0], strings.FieldsFunc(f[3], func(c rune) bool { return c == ',' })
	g.gid, err = strconv.Atoi(f[2])
	return g, err
}

// groupsOf lists the groups of a user, as id(1) does on every system.
func groupsOf(name string) (groups []uint32, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, toolPath("id"), "-G", "--", name).Output()
	if err != nil {
		return nil, err
	}
	for _, text := range strings.Fields(string(out)) {
		gid, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("id -G %s: %w", name, err)
		}
		groups = append(groups, uint32(gid))
	}
	return groups, nil
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
	if database == "group" {
		return fromLibrary(key, user.LookupGroup, user.LookupGroupId, func(g *user.Group) []string { return []string{g.Name, "x", g.Gid, ""} })
	}
	return fromLibrary(key, user.Lookup, user.LookupId, func(u *user.User) []string {
		return []string{u.Username, "x", u.Uid, u.Gid, u.Name, u.HomeDir, ""}
	})
}

// fromLibrary returns what the standard library knows by a key as getent prints it.
func fromLibrary[T any](key string, byName, byNumber func(key string) (T, error), fields func(T) []string) ([]string, error) {
	find := byName
	if _, err := strconv.Atoi(key); err == nil {
		find = byNumber
	}
	found, err := find(key)
	if err != nil {
		return nil, asNotExist(err)
	}
	return []string{strings.Join(fields(found), ":")}, nil
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
	u, err := lookUp("passwd", strconv.Itoa(uid), parseUser)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return u.name, err
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
// group of their own (USERGROUPS_ENAB in login.defs(5)), and a umask that lets it write. A group may have several entries,
// one in /etc/group and one in a directory, say, of which a look-up finds the first: the members of all are members. One
// whom the list of users does not have counts as another: the list of a directory may be kept back.
func hasOthers(gid, uid int) bool {
	first, err := groupNumbered(gid)
	groups, errGroups := getent("group")
	users, errUsers := getent("passwd")
	if errors.Join(err, errGroups, errUsers) != nil {
		return true
	}
	members := first.members
	for _, line := range groups {
		if g, err := parseGroup(line); err == nil && g.gid == gid {
			members = append(members, g.members...)
		}
	}
	listed, ours := map[string]bool{}, 0
	for _, name := range members {
		listed[name] = false
	}
	for _, line := range users {
		u, err := parseUser(line)
		_, added := listed[u.name]
		switch {
		case err != nil || u.gid != gid && !added:
			continue
		case u.uid != 0 && u.uid != uid:
			return true
		}
		ours++
		listed[u.name] = true
	}
	return ours == 0 || slices.Contains(slices.Collect(maps.Values(listed)), false) // those of a group without any are not listed
}

// A groupView keeps what hasOthers has said during one look at something, since it runs programs. It is kept no longer:
// members come and go.
type groupView map[[2]int]bool

func (v groupView) hasOthers(gid, uid int) bool {
	has, known := v[[2]int{gid, uid}]
	if !known {
		has = hasOthers(gid, uid)
		v[[2]int{gid, uid}] = has
	}
	return has
}
