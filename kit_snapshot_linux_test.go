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

	"golang.org/x/sys/unix"
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

// looks are the commands that list what is no file, a line each. They run at once: each costs.
var looks = []struct{ kind, command string }{
	{"user", "getent passwd"},
	{"group", "getent group"},
	{"unit", "systemctl list-unit-files --plain --no-legend --no-pager --full"},
	{"loaded", "systemctl list-units --all --plain --no-legend --no-pager --full --type=service,socket"},
	{"process", "cat /proc/[0-9]*/comm 2>/dev/null"}, // where one may end while it is read
	{"listener", `awk '$6 == "01" && $8 { print $8 }' /proc/net/unix`},
	{"listener", `awk '$4 == "0A" { print $2 }' /proc/net/tcp /proc/net/tcp6`},
}

// snapshot looks at the whole system.
func (c *container) snapshot() snapshot {
	c.t.Helper()
	s := snapshot{}
	c.addFiles(s)
	script := ""
	for _, look := range looks {
		if c.openRC && strings.HasPrefix(look.command, "systemctl ") {
			look.command = "true"
		}
		script += look.command + " || test " + look.kind + " = process || exit; echo '#'\n"
	}
	for i, text := range strings.SplitAfter(c.run("sh", "-c", script)+"\n", "#\n") {
		for line := range strings.Lines(strings.TrimSuffix(text, "#\n")) {
			kind := looks[i].kind
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

// addFiles adds each file that is not as it is in the root that the container began with. Those on
// the disk are in the upper layer of the overlay, with a mark for each that is gone; the rest is in memory.
func (c *container) addFiles(s snapshot) {
	upper := filepath.Join(c.dir, "upper")
	c.walk(upper, "", func(name, text string) {
		if was := describeFile(filepath.Join(c.root, name), name); was != text {
			s.add("file", name, text)
		}
	})
	for _, memory := range []string{"/run", "/tmp", "/dev/shm"} {
		c.walk(c.path(""), memory, func(name, text string) { s.add("file", name, text) })
	}
}

// walk describes each file below the directory of that name.
func (c *container) walk(root, dir string, found func(name, text string)) {
	err := filepath.WalkDir(root+dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Join("/", strings.TrimPrefix(path, root))
		if name == "/run/host" {
			return fs.SkipDir
		}
		if text := describeFile(path, name); err == nil && text != "" { // else it has gone in between
			found(name, text)
		}
		return nil
	})
	must(c.t, err)
}

// describeFile tells a file's type, mode, owner, size, and what is in it or where it leads; it is empty
// for one that is not there.
func describeFile(path, name string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return ""
	}
	owner := info.Sys().(*syscall.Stat_t)
	text := fmt.Sprintf("%v %d:%d", info.Mode(), owner.Uid, owner.Gid)
	switch {
	case info.IsDir():
		var b [1]byte
		if n, _ := unix.Lgetxattr(path, "trusted.overlay.opaque", b[:]); n > 0 { // it was removed, and made again
			text += " anew"
		}
	case info.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(path)
		text += " -> " + to
	case info.Mode().IsRegular():
		text += fmt.Sprintf(" %d bytes", info.Size())
		if strings.HasPrefix(name, "/etc/") {
			b, err := os.ReadFile(path)
			if err != nil {
				return ""
			}
			text += fmt.Sprintf(" %x", sha256.Sum256(b))
		}
	}
	return text
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
