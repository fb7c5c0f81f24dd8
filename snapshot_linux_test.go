package main

// This file owns what can be seen of a system from outside, so that what an installation leaves
// behind is seen, whatever it is.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// A snapshot is one line for each file, user, group, unit, socket and process.
type snapshot map[string]string

// notOurs is what systemd keeps for itself, and what other programs write at any time. That
// something of ours is among it is found by its name.
var notOurs = regexp.MustCompile(`^(file /(proc|sys|dev|tmp|var/tmp)/|` +
	`file /(run|var/lib)/systemd/|file /run/(user|udev|log|mount|credentials)(/|$)|file /var/log/|` +
	`file /(var/lib|var/cache|var/log)/private$|` + // made for the first service with DynamicUser=
	`file /(var/lib/dbus|run/dbus|run/utmp)|file /etc/\.pwd\.lock$|file /etc/(passwd|shadow|group|gshadow|subuid|subgid)-$|` +
	`process (systemd|\(sd-pam\)|agetty|dbus-daemon)|unit (user|session|run)-)`)

// snapshot looks at the whole system.
func (c *container) snapshot() snapshot {
	c.t.Helper()
	s := snapshot{}
	c.addFiles(s)
	for kind, command := range map[string][]string{
		"user":     {"getent", "passwd"},
		"group":    {"getent", "group"},
		"unit":     {"systemctl", "list-unit-files", "--plain", "--no-legend", "--no-pager", "--full"},
		"loaded":   {"systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "--full", "--type=service,socket"},
		"process":  {"sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null"},
		"listener": {"sh", "-c", `awk '$6 == "01" && $8 { print $8 }' /proc/net/unix; awk '$4 == "0A" { print $2 }' /proc/net/tcp /proc/net/tcp6`},
	} {
		if c.openRC && command[0] == "systemctl" {
			continue
		}
		r := c.try("", command...)
		if kind != "process" && r.code != 0 { // where one may end while it is read
			c.t.Fatal(r)
		}
		for line := range strings.Lines(r.stdout) {
			name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if kind == "loaded" {
				if strings.HasPrefix(strings.TrimSpace(rest), "not-found") && !strings.Contains(name, "ipcd") {
					continue // another unit names it
				}
				rest = "" // whether it runs is not the question
			}
			s.add(kind, name, rest)
		}
	}
	return s
}

// ofOneRun is in the names of the directories for PrivateTmp=, see systemd.exec(5).
var ofOneRun = regexp.MustCompile(`/systemd-private-[0-9a-f]+-(.*)-[0-9A-Za-z]{6}`)

func (s snapshot) add(kind, name, text string) {
	key := kind + " " + ofOneRun.ReplaceAllString(name, "/systemd-private-$1")
	if strings.HasPrefix(name, "/run/systemd/units/invocation:") {
		text = "" // of the run
	}
	if !notOurs.MatchString(key) || strings.Contains(name, "ipcd") {
		s[key] = text
	}
}

// addFiles adds each file with its type, mode, owner, size, and what is in it or where it leads.
func (c *container) addFiles(s snapshot) {
	root := c.path("")
	err := filepath.WalkDir(root+"/", func(path string, d fs.DirEntry, err error) error {
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		switch name {
		case "/proc", "/sys", "/dev", "/run/host":
			return fs.SkipDir
		}
		if err != nil { // it has gone in between
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return nil
		}
		owner := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%v %d:%d", info.Mode(), owner.Uid, owner.Gid)
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			text += " -> " + to
		case info.Mode().IsRegular():
			text += fmt.Sprintf(" %d bytes", info.Size())
			if strings.HasPrefix(name, "/etc/") {
				b, err := os.ReadFile(path)
				if err != nil {
					return nil
				}
				text += fmt.Sprintf(" %x", sha256.Sum256(b))
			}
		}
		s.add("file", name, text)
		return nil
	})
	must(c.t, err)
}

// changes says, a line each, how the system has become what it is now.
func (s snapshot) changes(now snapshot) string {
	var changes []string
	for key, text := range now {
		if was, ok := s[key]; !ok {
			changes = append(changes, fmt.Sprintf("new %s: %s\n", key, text))
		} else if was != text {
			changes = append(changes, fmt.Sprintf("changed %s: %s; was %s\n", key, text, was))
		}
	}
	for key := range s {
		if _, ok := now[key]; !ok {
			changes = append(changes, fmt.Sprintf("gone %s\n", key))
		}
	}
	slices.Sort(changes)
	return strings.Join(changes, "")
}

// check wants the system to be as it was.
func (s snapshot) check(c *container) {
	c.t.Helper()
	err := poll(func() error { // a process may need a moment to end
		if changes := s.changes(c.snapshot()); changes != "" {
			return errors.New(changes)
		}
		return nil
	})
	if err != nil {
		c.t.Errorf("the system is not as it was:\n%v", err)
	}
}
