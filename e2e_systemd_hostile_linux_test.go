package main

// This file owns the tests of the service under systemd that have an enemy, or a slip of the
// administrator's: what root is made to write, run or remove where it should not.

import (
	"strings"
	"testing"
)

func init() {
	systemdTests = append(systemdTests,
		systemdTest{"HostilePlaces", testHostilePlaces},
		systemdTest{"NamesOfOthers", testNamesOfOthers},
		systemdTest{"NamesOfADirectory", testNamesOfADirectory},
		systemdTest{"UninstallKeepsOthers", testUninstallKeepsOthers},
		systemdTest{"CutInTheMiddle", testCutInTheMiddle},
	)
}

// testHostilePlaces has paths that ada can change, or that are other files than they should be. Nothing
// may be written to them, and no service may depend on them.
func testHostilePlaces(t *testing.T, c *container) {
	c.addUser("ada")
	c.run("sh", "-c", `
mkdir /etc/good && echo 'log_level = "debug"' >/etc/good/c.toml && ln -s good /etc/alias
: >"/etc/good/a
[Service]
User=root"
echo precious >/etc/precious
mkdir /opt/hers && ln -s /etc/good/c.toml /opt/hers/c.toml && ln -s /usr/local/bin /opt/hers/bin && chown -hR ada /opt/hers`)
	before := c.snapshot()
	for _, test := range []struct {
		code  int
		words string
		flags []string
	}{
		{2, "/opt/hers belongs to user ada", []string{"--config", "/opt/hers/c.toml"}},
		{1, "/opt/hers belongs to user ada", []string{"--copy-to=/opt/hers/bin/prog"}},
		{1, "/opt/hers belongs to user ada", []string{"--copy-to=/opt/hers/new/prog"}},
		{1, "for temporary files", []string{"--copy-to=/tmp/new/prog"}},
		{1, "in a home", []string{"--copy-to=/home/prog"}},
		{1, "is not ipcd", []string{"--copy-to=/etc/precious"}},
		{1, "is not ipcd", []string{"--copy-to=/usr/bin/env"}},
		{1, "is no file", []string{"--copy-to=/etc"}},
		{2, "/opt/hers belongs to user ada", []string{"--listen", "unix:///opt/hers/x.sock"}},
		{2, "/opt/hers belongs to user ada", []string{"--listen", "unix:///opt/hers/new/x.sock"}},
		{2, "others can write to /tmp", []string{"--listen", "unix:///tmp/x.sock"}},
		{2, "for temporary files", []string{"--listen", "unix:///tmp/new/x.sock"}},
		{2, "in a home", []string{"--listen", "unix:///home/ada/x.sock"}},
		{2, "no socket is there", []string{"--listen", "unix:///etc/precious"}},
		{2, "no line in a unit", []string{"--listen", "unix:///run/ipcd/x%5C"}},
		{2, "no line in a unit", []string{"--listen", "unix:///run/ipcd/x%20"}},
		{2, "quotation marks", []string{"--copy-to=/opt/it's/prog"}},
		{2, "control character", []string{"--config", "/etc/good/a\n[Service]\nUser=root"}},
	} {
		t.Run(strings.ReplaceAll(strings.Join(test.flags, " "), "/", "_"), func(t *testing.T) {
			c := c.in(t)
			c.refused(test.code, "", test.words, append([]string{"ipcd", "install"}, test.flags...)...)
			before.check(c)
		})
	}
	c.run("ipcd", "install", "--config", "/etc/alias/c.toml") // whose links are root's
	c.hello()
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
	const odd = `/opt/a$b;c %h`
	c.run("ipcd", "install", "--copy-to="+odd+"/ipcd")
	c.hello()
	c.run("systemctl", "reload", "ipcd")
	c.run("ipcd", "uninstall", "--purge")
	c.run("rmdir", odd)
	before.check(c)
	c.run("sh", "-c", "mkdir -p /run/systemd/system/ipcd.service.d && printf '[Service]\nExecStartPre=/bin/false\n' >/run/systemd/system/ipcd.service.d/x.conf")
	c.refused(1, "", "taken back", "ipcd", "install", "--copy-to=/opt/deep/down/ipcd")
	c.run("rm", "-r", "/run/systemd/system/ipcd.service.d")
	c.run("systemctl", "daemon-reload")
	before.check(c)
}

// testNamesOfOthers has directories of others where a service of that name would have its own.
func testNamesOfOthers(t *testing.T, c *container) {
	c.run("sh", "-c", "mkdir /var/lib/empty /var/lib/private/other && touch /var/lib/private/other/file")
	before := c.snapshot()
	for _, name := range []string{"dpkg", "systemd", "private", "empty"} {
		c.run("ipcd", "uninstall", "--name", name)
		before.check(c)
		c.run("ipcd", "uninstall", "--purge", "--name", name)
		before.check(c)
	}
	for _, name := range []string{"root", "games", "users"} { // users is a group
		c.refused(2, "", "there is a", "ipcd", "install", "--name", name)
		before.check(c)
	}
	for _, name := range []string{"dpkg", "systemd", "private"} {
		c.refused(1, "", "/var/lib/"+name, "ipcd", "install", "--name", name)
		before.check(c)
	}
}

// testNamesOfADirectory has a user and a group that no file in /etc lists. systemd-userdb stands for whatever a system asks.
func testNamesOfADirectory(t *testing.T, c *container) {
	c.addUser("ada")
	for name, record := range map[string]string{
		"carol.user":    `{"userName":"carol","uid":4711,"gid":4711,"disposition":"regular","homeDirectory":"/home/carol","shell":"/bin/sh"}`,
		"carol.group":   `{"groupName":"carol","gid":4711}`,
		"callers.group": `{"groupName":"callers","gid":4712}`,
	} {
		c.write("/etc/userdb/"+name, record)
	}
	c.run("sh", "-c", "cd /etc/userdb && ln -s carol.user 4711.user && ln -s carol.group 4711.group && ln -s callers.group 4712.group")
	before := c.snapshot()
	for _, name := range []string{"carol", "callers"} {
		c.refused(2, "", "there is a", "ipcd", "install", "--name", name)
		before.check(c)
	}
	c.refused(2, "", `there is no group "carols"`, "ipcd", "install", "--allow-group", "carols")
	c.run("ipcd", "install", "--allow-group", "callers")
	if got := c.run("stat", "-c", "%g %a", "/run/ipcd/ipcd.sock"); got != "4712 660" {
		t.Errorf("the socket is %s; want that of the group 4712", got)
	}
	if got := c.run("setpriv", "--reuid", "ada", "--regid", "callers", "--clear-groups", "env", "HOME=/home/ada", "ipcd", "call", "hello"); got != "hello" {
		t.Errorf("a member of the group got %q", got)
	}
	c.refused(3, "ada", "member of the group callers", "ipcd", "call", "hello")
	c.run("ipcd", "uninstall", "--purge")
	c.run("ipcd", "install", "--run-as", "carol")
	c.hello()
	if got := c.show("ipcd.service", "User"); got != "carol" {
		t.Errorf("the service runs as %q; want carol", got)
	}
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
}

// testUninstallKeepsOthers has a daemon that is no service at the service's endpoint, and another program
// where install has put ipcd. What uninstall itself has left, a later one finds.
func testUninstallKeepsOthers(t *testing.T, c *container) {
	c.addUser("ada")
	before := c.snapshot()
	wait := c.start("", "sh", "-c", "echo $$ >/run/pid && exec ipcd run --service ipcd")
	c.run("ipcd", "call", "--wait", "10s", "-e", "unix:///run/ipcd/ipcd.sock", "hello")
	c.run("ipcd", "uninstall", "--purge")
	c.refused(1, "", "another daemon serves", "ipcd", "install")
	c.refused(1, "", "another daemon serves", "ipcd", "install", "--name", "second", "--listen", "unix:///run/second/second.sock", "--listen", "unix:///run/ipcd/ipcd.sock")
	c.refused(1, "", "another program is at", "ipcd", "install", "--listen", "unix:///run/dbus/system_bus_socket")
	c.hello()
	c.signal("TERM", "$(cat /run/pid)")
	if r := wait(); r.code != 0 {
		t.Errorf("a daemon that is no service has not outlived uninstall: %s", r)
	}
	c.run("rm", "/run/pid") // and the directory of its socket is gone

	c.run("ipcd", "install", "--copy-to=/opt/prog/ipcd")
	c.run("cp", "--remove-destination", "/bin/true", "/opt/prog/ipcd")
	if r := c.try("", "ipcd", "uninstall", "--purge"); r.code != 0 || !r.says("left /opt/prog/ipcd") {
		t.Errorf("%s; want it to leave what is not ipcd", r)
	}
	c.run("rm", "-r", "/opt/prog")
	before.check(c)

	c.run("install", "-o", "ada", "/dev/null", "/dev/shm/hers")
	c.run("ipcd", "install", "--copy-to=/opt/prog/ipcd", "--run-as", "ada")
	c.run("ipcd", "uninstall")
	c.run("test", "-e", "/opt/prog/ipcd")
	c.run("rm", "/dev/shm/hers")
	c.run("ipcd", "install") // in the directory that was left
	c.run("ipcd", "uninstall")
	c.run("ipcd", "uninstall", "--purge")
	c.run("rmdir", "/opt/prog")
	before.check(c)
}

// testCutInTheMiddle has what an install or uninstall leaves that was killed: one unit of the two, with the
// links of both or of none.
func testCutInTheMiddle(t *testing.T, c *container) {
	before := c.snapshot()
	for _, cut := range []string{
		"rm /etc/systemd/system/ipcd.socket && systemctl daemon-reload",
		"rm /etc/systemd/system/ipcd.service && systemctl daemon-reload",
		"systemctl stop ipcd.socket ipcd.service && systemctl disable ipcd.socket ipcd.service && rm /etc/systemd/system/ipcd.socket && systemctl daemon-reload",
		"systemctl stop ipcd.socket ipcd.service && rm /etc/systemd/system/ipcd.service && systemctl daemon-reload",
		"systemctl stop ipcd.socket ipcd.service && rm /etc/systemd/system/ipcd.socket", // which systemd has not noticed
	} {
		t.Run(strings.ReplaceAll(cut, "/", "_"), func(t *testing.T) {
			c := c.in(t)
			c.run("ipcd", "install")
			installed := c.snapshot()
			c.run("sh", "-c", cut)
			c.run("ipcd", "install")
			c.hello()
			installed.check(c)
			c.run("sh", "-c", cut)
			c.run("ipcd", "uninstall", "--purge")
			before.check(c)
		})
	}
}
