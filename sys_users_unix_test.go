//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
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
func withUsers(t *testing.T, passwd, group string) (calls func() []string) {
	t.Helper()
	calls = fakeTools(t, map[string]string{"getent": fakeUsers})
	must(t, os.WriteFile(os.Getenv("FAKE")+"/passwd", []byte(passwd), 0o600))
	must(t, os.WriteFile(os.Getenv("FAKE")+"/group", []byte(group), 0o600))
	return calls
}

const (
	theUsers = "root:x:0:0:root:/root:/bin/sh\nada:x:4711:4711:Ada,,,:/home/ada:/bin/sh\nbob:x:4712:4712::/home/bob:/bin/sh\n" +
		"eve:x:4713:100::/home/eve:/bin/sh\nmade:x:4714:4714:" + accountMark + ":/nonexistent:/bin/false\n"
	theGroups = "root:x:0:\nada:x:4711:\nbob:x:4712:ada\nusers:x:100:\nempty:x:4715:\nshared:x:4716:ada,bob\nadas:x:4717:ada\nodd:x:4718:ada,gone\nroots:x:4719:root,ada\n" +
		"split:x:4720:ada\nsplit:x:4720:bob\nalias:x:4721:ada\nother:x:4721:ada,root\n"
)

func TestUsersAreThoseOfTheSystem(t *testing.T) {
	withUsers(t, theUsers, theGroups)
	want := userEntry{name: "ada", uid: 4711, gid: 4711, comment: "Ada", home: "/home/ada"}
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
	if u, err := parseUser(lines[0]); err != nil || u.uid != 0 || u.name != "root" {
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
		of, err := lookUpName(os.Getuid())
		if name := nameInFile(os.Getuid()); err != nil || name != "" && name != of {
			t.Errorf("we are %q, %v, and %q in the file", of, err, name)
		}
	}
}

// TestGroupsWithOthers is about what a group can write to: files of ada's, where ada asks.
func TestGroupsWithOthers(t *testing.T) {
	withUsers(t, theUsers, theGroups)
	for _, test := range []struct {
		name   string
		gid    int
		others bool
	}{
		{"her own", 4711, false},
		{"one that she alone was added to", 4717, false},
		{"root's", 0, false},
		{"hers and root's", 4719, false},
		{"bob's own, to which she was added", 4712, true},
		{"one of both", 4716, true},
		{"the first group of somebody else", 100, true},
		{"one without members, who are not listed then", 4715, true},
		{"one with a member whom nobody knows", 4718, true},
		{"one that nobody knows", 4799, true},
		{"one with a second entry that has bob", 4720, true},
		{"one of two names, both hers", 4721, false},
	} {
		if got := hasOthers(test.gid, 4711); got != test.others {
			t.Errorf("%s: hasOthers = %v; want %v", test.name, got, test.others)
		}
	}
	for _, database := range []string{"group", "passwd"} {
		must(t, os.WriteFile(os.Getenv("FAKE")+"/"+database, nil, 0o600))
		if !hasOthers(4711, 4711) {
			t.Errorf("her group counts as hers alone, although the system's %s cannot be listed", database)
		}
		withUsers(t, theUsers, theGroups)
	}
}

// TestConfigOfOthersIsRefused is about who could have written the configuration.
func TestConfigOfOthersIsRefused(t *testing.T) {
	dir := tempDir(t)
	must(t, os.Mkdir(dir+"/in", 0o755))
	file := dir + "/in/c.toml"
	must(t, os.WriteFile(file, []byte("idle = \"1h\"\n"), 0o600))
	must(t, os.Symlink("in/c.toml", dir+"/link"))
	own := os.Getgid()
	calls := withUsers(t, "", "alone:x:"+strconv.Itoa(own)+":\n")
	alone := "root:x:0:0::/root:/bin/sh\n"
	if uid := os.Getuid(); uid != 0 {
		alone += "me:x:" + strconv.Itoa(uid) + ":" + strconv.Itoa(own) + "::/:/bin/sh\n"
	} else if own != 0 {
		t.Skip("root has another first group than root")
	}
	for _, test := range []struct {
		name, path  string
		mode, dir   fs.FileMode
		users       string
		owner       int
		words, hint string
	}{
		{"ours", file, 0o600, 0o755, "", 0, "", ""},
		{"by a link of ours", dir + "/link", 0o644, 0o755, "", 0, "", ""},
		{"that everybody can write to", file, 0o646, 0o755, "", 0, file + ": is not obeyed: others can write to " + file + " (mode 0646)", "close it: chmod go-w " + file},
		{"behind a link", dir + "/link", 0o646, 0o755, "", 0, "others can write to " + file, "chmod go-w " + file},
		{"in a directory that everybody can write to", file, 0o644, 0o757, "", 0, "others can write to " + dir + "/in (mode 0757)", "chmod go-w " + dir + "/in"},
		{"of a group that nobody else is in", file, 0o664, 0o775, alone, 0, "", ""},
		{"of a group with somebody else", file, 0o664, 0o755, alone + "eve:x:4713:" + strconv.Itoa(own) + "::/:/bin/sh\n", 0, "others can write to " + file, "chmod go-w " + file},
		{"somebody else's", file, 0o600, 0o755, "", 65534, file + " belongs to", "make it root's: chown root " + file},
		{"by a link of somebody else's", dir + "/link", 0o600, 0o755, "", 65534, dir + "/link belongs to", "a copy that is root's"},
	} {
		if test.owner != 0 && os.Getuid() != 0 {
			continue // it takes root to give something away
		}
		must(t, os.WriteFile(os.Getenv("FAKE")+"/passwd", []byte(test.users), 0o600))
		must(t, errors.Join(os.Chmod(file, test.mode), os.Chmod(dir+"/in", test.dir)))
		calls()
		if test.owner != 0 {
			must(t, os.Lchown(test.path, test.owner, -1))
		}
		_, _, err := loadSettings(test.path, true, noEnv, nil)
		if asked := slices.Sorted(slices.Values(calls())); len(slices.Compact(slices.Clone(asked))) != len(asked) {
			t.Errorf("one %s: the system is asked %q; want each question once", test.name, asked)
		}
		switch {
		case test.words == "" && err != nil:
			t.Errorf("one %s: %v", test.name, err)
		case test.words != "":
			checkRefused(t, "one "+test.name, err, test.words, test.hint)
			if exitCode(err) != exitUsage {
				t.Errorf("one %s: exit code %d; want %d", test.name, exitCode(err), exitUsage)
			}
		}
		if test.owner != 0 {
			must(t, os.Lchown(test.path, 0, -1))
		}
	}
}

// FuzzEntry: a line of passwd or group is read as its fields say, or not at all.
func FuzzEntry(f *testing.F) {
	for _, line := range []string{"ada:x:1000:1000:Ada Lovelace,,,:/home/ada:/bin/sh", "dev:x:7:ada,,bob", "a:b:c:d:e:f:g", "", "::::::", "a::-1:+2::::", "a:x:99999999999999999999:1::::"} {
		f.Add(line)
	}
	f.Fuzz(around(func(t *testing.T, line string) {
		fields := strings.Split(line, ":")
		number := func(i int) int { n, _ := strconv.Atoi(fields[i]); return n }
		if u, err := parseUser(line); err == nil && (u.name != fields[0] || u.uid != number(2) || u.gid != number(3) || !strings.HasPrefix(fields[4], u.comment) || u.home != fields[5]) {
			t.Errorf("%q is the user %+v", line, u)
		}
		if g, err := parseGroup(line); err == nil && (g.name != fields[0] || g.gid != number(2) || strings.Join(g.members, "") != strings.ReplaceAll(fields[3], ",", "")) {
			t.Errorf("%q is the group %+v", line, g)
		}
	}))
}
