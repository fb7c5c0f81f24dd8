//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// fakeUsers is a getent that knows users and groups which no file has, as a directory does. It says so by its exit
// code where it does not know one: see getent(1).
const fakeUsers = `
table="$FAKE/$1"
[ -n "$2" ] || exec cat "$table"
while IFS=: read -r name secret number rest; do
	if [ "$name" = "$2" ] || [ "$number" = "$2" ]; then
		echo "$name:$secret:$number:$rest"
		exit 0
	fi
done <"$table"
exit 2
`

// withUsers has the system know these lines of passwd(5) and group(5), and no others.
func withUsers(t *testing.T, passwd, group string) {
	t.Helper()
	fakeTools(t, map[string]string{"getent": fakeUsers})
	must(t, os.WriteFile(os.Getenv("FAKE")+"/passwd", []byte(passwd), 0o600))
	must(t, os.WriteFile(os.Getenv("FAKE")+"/group", []byte(group), 0o600))
}

const (
	theUsers = "root:x:0:0:root:/root:/bin/sh\nada:x:4711:4711:Ada,,,:/home/ada:/bin/sh\nbob:x:4712:4712::/home/bob:/bin/sh\n" +
		"eve:x:4713:100::/home/eve:/bin/sh\nmade:x:4714:4714:" + accountMark + ":/nonexistent:/bin/false\n"
	theGroups = "root:x:0:\nada:x:4711:\nbob:x:4712:ada\nusers:x:100:\nempty:x:4715:\nshared:x:4716:ada,bob\nadas:x:4717:ada\nodd:x:4718:ada,gone\nroots:x:4719:root,ada\n"
)

func TestUsersAreThoseOfTheSystem(t *testing.T) {
	withUsers(t, theUsers, theGroups)
	want := userEntry{name: "ada", uid: 4711, gid: 4711, comment: "Ada"}
	if got, err := findUser("ada"); err != nil || got != want {
		t.Errorf("findUser = %+v, %v; want %+v", got, err, want)
	}
	for _, name := range []string{"nobody-here", "", "-s", "--help", "4711", "0", " 0", "+0", "-0", "4294967296"} { // getent takes the last for root
		if got, err := findUser(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("findUser(%q) = %+v, %v; want none", name, got, err)
		}
		if g, err := groupNamed(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("groupNamed(%q) = %+v, %v; want none", name, g, err)
		}
	}
	if g, err := findGroup("4711"); err != nil || g.id != "4711" {
		t.Errorf("a number is the group %+v, %v", g, err)
	}
	if g, err := findGroup("shared"); err != nil || g != (group{name: "shared", id: "4716"}) {
		t.Errorf("findGroup = %v, %v", g, err)
	}
	if name := userName(4713); name != "eve" {
		t.Errorf("uid 4713 is named %q; want eve", name)
	}
	if at := foreignUser("ada"); at != "the user ada" {
		t.Errorf("foreignUser = %q; want the user ada", at)
	}
	if at := foreignUser("made"); at != "" {
		t.Errorf("foreignUser takes a user of ours for %q", at)
	}
	must(t, checkAccount("ada"))
	for name, want := range map[string]string{"ada": "there is a user ada", "shared": "there is a group shared", "nothing": ""} {
		err := checkDynamicUser(&deployment{instance: instance{name: name}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a service named %s: %v; want %q", name, err, want)
		}
	}
}

// TestUsersCannotBeAsked has a directory that does not answer. That nobody has the name must not follow from it.
func TestUsersCannotBeAsked(t *testing.T) {
	fakeTools(t, map[string]string{"getent": "exit 1"})
	if _, err := findUser("ada"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("findUser = %v; want an error that says that nobody knows", err)
	}
	err := checkDynamicUser(&deployment{instance: instance{name: "ada"}})
	checkRefused(t, "a service of that name", err, "cannot be told", "another name")
	_, err = findGroup("callers")
	checkRefused(t, "a group", err, "look up callers in the system's group", "getent group callers")
	if at := foreignUser("ada"); at == "" {
		t.Error("foreignUser says that the name is free")
	}
}

// TestUsersWithoutGetent is about macOS, and small systems that have the files alone.
func TestUsersWithoutGetent(t *testing.T) {
	lines, err := withoutGetent("passwd", "0")
	must(t, err)
	if u, err := parseUser(strings.Split(lines[0], ":")); err != nil || u.uid != 0 || u.name != "root" {
		t.Errorf("uid 0 is %+v, %v; want root", u, err)
	}
	lines, err = withoutGetent("group", "0")
	if err != nil || !strings.HasSuffix(lines[0], ":x:0:") {
		t.Errorf("gid 0 is %q, %v", lines, err)
	}
	for _, database := range []string{"passwd", "group"} {
		for _, key := range []string{"nobody-is-named-so", "1999999999"} {
			if _, err := withoutGetent(database, key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %s: %v; want none", database, key, err)
			}
		}
	}
	// What getent says is the same, of those whom the files have.
	if _, err := exec.LookPath("getent"); err == nil {
		f, err := lookUp("passwd", strconv.Itoa(os.Getuid()), 7)
		if name := nameInFile(os.Getuid()); err != nil || name != "" && name != f[0] {
			t.Errorf("we are %q, %v, and %q in the file", f, err, name)
		}
	}
}
