package main

// This file owns the tests of the service under systemd: a Debian is booted, and what an
// administrator types is typed. Here the service is installed and removed; how it lives in between
// is in e2e_systemd_life_linux_test.go and e2e_systemd_load_linux_test.go. .ci/systemd makes the Debian.

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A systemdTest is a test in a container of its own.
type systemdTest struct {
	name string
	run  func(t *testing.T, c *container)
}

// systemdTests are those of TestSystemd, in their order. Other files add theirs in init.
var systemdTests = []systemdTest{
	{"Container", testContainer},
	{"Newcomer", testNewcomer},
	{"InstallTwice", testInstallTwice},
	{"InstallTwoAtOnce", testInstallTwoAtOnce},
	{"InstallWithoutRights", testInstallWithoutRights},
	{"InstallRollsBack", testInstallRollsBack},
	{"InstallRefusesForeign", testInstallRefusesForeign},
	{"InstallRefusesUnsafe", testInstallRefusesUnsafe},
	{"InstallNamed", testInstallNamed},
	{"PortBelow1024", testPortBelow1024},
	{"Tokens", testTokens},
	{"EditedByHand", testEditedByHand},
	{"Uninstall", testUninstall},
	{"NoManager", testNoManager},
	{"Operator", testOperator},
}

func TestSystemd(t *testing.T) {
	root := os.Getenv("IPCD_SYSTEMD_ROOT")
	if root == "" { // in CI it is a step of its own that sets it
		t.Skip("$IPCD_SYSTEMD_ROOT is not set: IPCD_SYSTEMD_ROOT=$(.ci/systemd prepare)")
	}
	needRoot(t)
	needTool(t, "systemd-nspawn")
	needTool(t, "nsenter")
	ipcd := buildIpcd(t, t.TempDir(), "")
	for _, test := range systemdTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // they wait for systemd, most of the time
			test.run(t, startContainer(t, root, ipcd))
		})
	}
}

// testContainer is about the container itself: the other tests rely on what it shows.
func testContainer(t *testing.T, c *container) {
	before := c.snapshot()
	c.addUser("ada")
	if got := c.exits(0, "ada", "id", "-un"); got != "ada" {
		t.Errorf("a command as ada is run by %q", got)
	}
	c.exits(3, "", "sh", "-c", "exit 3")
	c.run("systemd-run", "--wait", "-p", "DynamicUser=yes", "-p", "PrivateUsers=yes", "-p", "SystemCallFilter=@system-service", "true")
	c.write("/run/of-memory", "")
	c.write("/opt/of-disk", "")
	c.reboot()
	if _, err := os.Stat(c.path("/run/of-memory")); err == nil {
		t.Error("/run has outlived a reboot")
	}
	if _, err := os.Stat(c.path("/opt/of-disk")); err != nil {
		t.Errorf("/opt has not outlived a reboot: %v", err)
	}
	issue, err := os.ReadFile(c.path("/etc/issue"))
	must(t, err)
	c.run("rm", "/etc/issue")
	changes := before.changes(c.snapshot())
	for _, want := range []string{"new file /opt/of-disk:", "new user ada:", "file /etc/issue"} {
		if !strings.Contains(changes, want) {
			t.Errorf("a snapshot does not see %q:\n%s", want, changes)
		}
	}
	c.write("/etc/issue", string(issue))
	c.run("userdel", "-r", "ada")
	c.run("rm", "/opt/of-disk")
	before.check(c)
}

// testNewcomer types what the README says.
func testNewcomer(t *testing.T, c *container) {
	c.exits(4, "", "ipcd", "status")
	c.run("ipcd", "call", "--start", "hello") // which has a log where the service has its state
	var own struct{ PID int }
	must(t, json.Unmarshal([]byte(c.run("ipcd", "status", "--json")), &own))
	if got := c.run("ipcd", "stop"); !strings.HasPrefix(got, "your own daemon at ") {
		t.Errorf("stop says %q; want that it was our own daemon", got)
	}
	c.run("timeout", "20", "sh", "-c", fmt.Sprintf("while kill -0 %d; do sleep 0.1; done 2>/dev/null", own.PID))
	c.run("ipcd", "install")
	c.hello()
	if got := c.exits(0, "", "ipcd", "status"); !strings.Contains(got, "journalctl --unit=ipcd.service") {
		t.Errorf("status says %q; want where the log is", got)
	}
	if got := c.run("ipcd", "logs"); !strings.Contains(got, "listening") {
		t.Errorf("logs shows %q; want what the daemon has logged", got)
	}
	c.reboot()
	c.hello()
	c.exits(0, "", "ipcd", "status")
	for _, unit := range []string{"ipcd.socket", "ipcd.service"} {
		if got := c.try("", "systemctl", "is-enabled", unit).stdout; got != "enabled\n" {
			t.Errorf("%s is %q; want it enabled", unit, got)
		}
	}
	var s struct{ PID int }
	must(t, json.Unmarshal([]byte(c.run("ipcd", "status", "--json")), &s))
	if main := c.show("ipcd.service", "MainPID"); main == "0" {
		t.Errorf("after a call the service has the main process %s", main)
	}
}

// testInstallTwice wants the second to change nothing, and one with other settings to show what
// it would change.
func testInstallTwice(t *testing.T, c *container) {
	nothing := c.snapshot()
	dry := c.run("ipcd", "install", "--dry-run")
	for _, words := range []string{"/etc/systemd/system/ipcd.service", "/etc/systemd/system/ipcd.socket", "Type=notify", "DynamicUser=yes", "daemon-reload"} {
		if !strings.Contains(dry, words) {
			t.Errorf("--dry-run does not show %q:\n%s", words, dry)
		}
	}
	nothing.check(c)
	c.run("ipcd", "install")
	pid := c.show("ipcd.service", "MainPID")
	installed := c.snapshot()
	if r := c.try("", "ipcd", "install"); r.code != 0 || !r.says("unchanged") {
		t.Errorf("%s; want it to say that nothing is changed", r)
	}
	c.run("groupadd", "callers")
	groups := c.snapshot()
	c.refused(1, "", "--force", "ipcd", "install", "--allow-group", "callers")
	if r := c.try("", "ipcd", "install", "--allow-group", "callers"); !r.says("SocketGroup=callers") {
		t.Errorf("%s; want the difference", r)
	}
	groups.check(c)
	if r := c.try("", "ipcd", "install", "--allow-group", "callers", "--dry-run"); r.code != 0 || !r.says("--force") {
		t.Errorf("%s; want it to say that this takes --force", r)
	}
	if r := c.try("", "ipcd", "install", "--dry-run"); r.code != 0 || !r.says("nothing would be changed") {
		t.Errorf("%s; want it to say that nothing would be changed", r)
	}
	if got := c.show("ipcd.service", "MainPID"); got != pid {
		t.Errorf("the daemon was %s and is %s", pid, got)
	}
	c.run("ipcd", "install", "--allow-group", "callers", "--force")
	c.hello()
	c.run("ipcd", "install", "--force")
	c.run("groupdel", "callers")
	installed.check(c)
	c.hello()
}

// testInstallTwoAtOnce wants both to succeed, and one service.
func testInstallTwoAtOnce(t *testing.T, c *container) {
	before := c.snapshot()
	var waits []func() result
	for range 2 {
		waits = append(waits, c.start("", "ipcd", "install"))
	}
	for _, wait := range waits {
		if r := wait(); r.code != 0 {
			t.Error(r)
		}
	}
	c.hello()
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
}

func testInstallWithoutRights(t *testing.T, c *container) {
	c.addUser("ada")
	before := c.snapshot()
	for _, command := range []string{"install", "uninstall", "start"} {
		c.refused(1, "ada", "sudo ", "ipcd", command)
	}
	for _, command := range []string{"stop", "restart"} { // which mean a daemon of one's own then
		c.refused(3, "ada", "no service of that name is installed", "ipcd", command)
	}
	c.exits(4, "ada", "ipcd", "status")
	before.check(c)
	c.run("ipcd", "install")
	installed := c.snapshot()
	for _, command := range []string{"uninstall", "stop", "restart"} {
		c.refused(1, "ada", "sudo ", "ipcd", command)
	}
	c.exits(0, "ada", "ipcd", "status") // that she may not call it is no failure of the service
	installed.check(c)
	c.hello()
}

// testInstallRollsBack has the disk full, or closed, in the middle of it.
func testInstallRollsBack(t *testing.T, c *container) {
	const units = "/etc/systemd/system"
	before := c.snapshot()
	for _, disk := range []struct{ name, mount, words string }{
		{"full at once", "mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs " + units, "no space left"},
		{"full after the first file", "mount -t tmpfs -o size=1m,nr_inodes=2 tmpfs " + units, "taken back"},
		{"full before the second file", "mount -t tmpfs -o size=1m,nr_inodes=4 tmpfs " + units, "no space left"},
		{"read only", "mount --bind " + units + " " + units + " && mount -o remount,bind,ro " + units, "read-only"},
	} {
		t.Run(disk.name, func(t *testing.T) {
			c := c.in(t)
			c.run("sh", "-c", disk.mount)
			c.refused(1, "", disk.words, "ipcd", "install")
			left := c.run("find", units, "-name", "*ipcd*")
			c.run("umount", units)
			c.run("systemctl", "daemon-reload")
			if left != "" {
				t.Errorf("an install that failed has left %s", left)
			}
			before.check(c)
			c.run("ipcd", "install")
			c.hello()
			c.run("ipcd", "uninstall", "--purge")
			before.check(c)
		})
	}
	for _, unit := range []struct{ name, lines, words string }{
		{"a daemon that does not start", "ExecStartPre=/bin/false", "ipcd.service"},
		{"a daemon that is never ready", "ExecStartPre=/bin/sleep infinity\nTimeoutStartSec=1s", "timeout"},
	} {
		t.Run(unit.name, func(t *testing.T) {
			c := c.in(t)
			c.dropIn("ipcd.service", "[Service]\n"+unit.lines+"\n")
			c.refused(1, "", unit.words, "ipcd", "install")
			c.run("rm", "-r", "/run/systemd/system/ipcd.service.d")
			c.run("systemctl", "daemon-reload")
			before.check(c)
			c.run("ipcd", "install")
			c.hello()
			c.run("ipcd", "uninstall", "--purge")
			before.check(c)
		})
	}
}

// testInstallRefusesForeign has somebody else's unit of that name, in each place that systemd reads.
func testInstallRefusesForeign(t *testing.T, c *container) {
	const unit = "[Service]\nExecStart=/bin/sleep infinity\n"
	for _, file := range []string{"/etc/systemd/system/ipcd.service", "/lib/systemd/system/ipcd.service", "/etc/systemd/system/ipcd.socket"} {
		c.write(file, unit)
		c.run("systemctl", "daemon-reload")
		before := c.snapshot()
		for _, command := range [][]string{{"install"}, {"install", "--force"}, {"uninstall"}} {
			c.refused(1, "", "ipcd."+file[strings.LastIndex(file, ".")+1:], append([]string{"ipcd"}, command...)...)
		}
		before.check(c)
		c.run("rm", file)
		c.run("systemctl", "daemon-reload")
	}
	c.run("ipcd", "install")
	c.hello()
}

// testInstallRefusesUnsafe is about programs and configurations that others can write to, and
// what cannot be right.
func testInstallRefusesUnsafe(t *testing.T, c *container) {
	c.addUser("ada")
	c.run("install", "-o", "ada", "-m", "755", "/usr/local/bin/ipcd", "/home/ada/ipcd")
	c.run("install", "-m", "777", "/usr/local/bin/ipcd", "/opt/ipcd")
	c.write("/etc/good.toml", "log_level = \"debug\"\n")
	c.write("/etc/bad.toml", "log_level = \"info\"\nlog_levle = \"debug\"\n")
	c.run("install", "-m", "666", "/etc/good.toml", "/etc/open.toml")
	c.run("install", "-o", "ada", "-m", "644", "/etc/good.toml", "/etc/hers.toml")
	c.run("install", "-m", "600", "/etc/good.toml", "/etc/closed.toml")
	before := c.snapshot()
	for _, test := range []struct {
		code  int
		words string
		args  []string
	}{
		{1, "--copy-to", []string{"/home/ada/ipcd", "install"}},
		{1, "--copy-to", []string{"/opt/ipcd", "install"}},
		{2, "/etc/none.toml", []string{"ipcd", "install", "--config", "/etc/none.toml"}},
		{2, "/etc", []string{"ipcd", "install", "--config", "/etc"}},
		{2, "/etc/bad.toml:2", []string{"ipcd", "install", "--config", "/etc/bad.toml"}},
		{2, "/etc/open.toml", []string{"ipcd", "install", "--config", "/etc/open.toml"}},
		{2, "/etc/closed.toml cannot be read by the user that the service runs as", []string{"ipcd", "install", "--config", "/etc/closed.toml"}},
		{2, "/etc/hers.toml", []string{"ipcd", "install", "--config", "/etc/hers.toml"}},
		{2, "nosuch", []string{"ipcd", "install", "--allow-group", "nosuch"}},
		{2, "nosuch", []string{"ipcd", "install", "--run-as", "nosuch"}},
		{2, "--name", []string{"ipcd", "install", "--name", "a/b"}},
		{2, "--name", []string{"ipcd", "install", "--name", `a\b`}},
		{2, "--name", []string{"ipcd", "install", "--name", "a b"}},
		{2, "--name", []string{"ipcd", "install", "--name", ".."}},
		{2, "--name", []string{"ipcd", "install", "--name", strings.Repeat("a", 300)}},
		{2, "--name", []string{"ipcd", "install", "--name", ""}},
	} {
		t.Run(strings.Join(test.args, " ")[:min(len(strings.Join(test.args, " ")), 60)], func(t *testing.T) {
			c := c.in(t)
			c.refused(test.code, "", test.words, test.args...)
			before.check(c)
		})
	}
	c.run("rm", "/usr/local/bin/ipcd") // which is where it is copied to
	without := c.snapshot()
	if r := c.try("", "/home/ada/ipcd", "install", "--copy-to"); r.code != 0 || !r.says("/usr/local/bin/ipcd") {
		t.Errorf("%s; want it to say where the program is now", r)
	}
	if got := c.run("stat", "-c", "%U:%G %a", "/usr/local/bin/ipcd"); got != "root:root 755" {
		t.Errorf("the copy is %s; want root:root 755", got)
	}
	c.hello()
	if r := c.try("", "ipcd", "install"); r.code != 0 || !r.says("unchanged") { // which is the copy
		t.Errorf("%s; want it to say that nothing is changed", r)
	}
	c.run("/home/ada/ipcd", "uninstall", "--purge")
	without.check(c)
}

// testPortBelow1024 has a port that only root may take: systemd takes it. Without its socket the
// daemon says what is wrong.
func testPortBelow1024(t *testing.T, c *container) {
	const e = "http://127.0.0.1:80?auth=none"
	if r := c.try("", "ipcd", "install", "--listen", e); r.code != 0 || !r.says("everybody on this machine can call it at "+e) {
		t.Errorf("%s; want it to say who may call", r)
	}
	if got := c.run("ipcd", "call", "-e", e, "hello"); got != "hello" {
		t.Errorf("at port 80 the answer is %q", got)
	}
	c.run("ipcd", "uninstall", "--purge")
	c.addUser("ada")
	r := c.try("ada", "ipcd", "run", "--listen", e)
	if r.code == 0 || !r.says("port 80") || !r.says("1024") {
		t.Errorf("%s; want the port, and from where on it may be", r)
	}
}

// testInstallNamed has two services side by side, each with its own endpoint and state.
func testInstallNamed(t *testing.T, c *container) {
	before := c.snapshot()
	c.run("ipcd", "install")
	alone := c.snapshot()
	c.run("ipcd", "install", "--name", "second")
	if got := c.run("ipcd", "call", "-e", "unix:///run/second/second.sock", "hello"); got != "hello" {
		t.Errorf("the second service says %q", got)
	}
	c.hello()
	c.run("ipcd", "stop", "--name", "second")
	c.exits(3, "", "ipcd", "status", "--name", "second")
	c.exits(0, "", "ipcd", "status")
	c.exits(4, "", "ipcd", "status", "--name", "third")
	c.run("ipcd", "start", "--name", "second")
	c.run("ipcd", "uninstall", "--name", "second", "--purge")
	alone.check(c)
	c.hello()
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
}

// testEditedByHand wants an administrator's change to be seen, and kept until he says --force.
func testEditedByHand(t *testing.T, c *container) {
	const unit = "/etc/systemd/system/ipcd.service"
	before := c.snapshot()
	c.run("ipcd", "install")
	c.run("sed", "-i", "s/^\\[Service\\]$/&\\nEnvironment=BY_HAND=1/", unit)
	c.run("systemctl", "daemon-reload")
	edited := c.snapshot()
	c.refused(1, "", "BY_HAND=1", "ipcd", "install")
	edited.check(c)
	c.run("ipcd", "restart")
	c.hello()
	c.run("ipcd", "install", "--force")
	if r := c.try("", "grep", "BY_HAND", unit); r.code != 1 {
		t.Errorf("after --force: %s", r)
	}
	c.hello()
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
}

// testUninstall looks for what is left.
func testUninstall(t *testing.T, c *container) {
	before := c.snapshot()
	c.run("ipcd", "uninstall") // there is nothing to remove
	before.check(c)
	c.run("ipcd", "install")
	c.hello()
	c.run("touch", "/var/lib/ipcd/precious")
	r := c.try("", "ipcd", "uninstall")
	if r.code != 0 || !r.says("--purge") || !r.says("/var/lib/private/ipcd") {
		t.Errorf("%s; want it to name what it has kept, and --purge", r)
	}
	for line := range strings.Lines(before.changes(c.snapshot())) {
		if !strings.Contains(line, "new file /var/lib/ipcd") && !strings.Contains(line, "new file /var/lib/private/ipcd") {
			t.Errorf("uninstall has left: %s", line)
		}
	}
	c.exits(4, "", "ipcd", "status")
	c.refused(3, "", "no daemon", "ipcd", "call", "hello")
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
	c.run("ipcd", "install")
	c.run("ipcd", "stop")
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
	c.run("ipcd", "install", "--no-start")
	c.exits(3, "", "ipcd", "status")
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
}

// testNoManager hides systemd, as a container without it does.
func testNoManager(t *testing.T, c *container) {
	before := c.snapshot()
	for _, command := range []string{"install", "start"} {
		c.refused(1, "", "ipcd run", "unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run/systemd && exec ipcd "+command)
	}
	before.check(c)
}

// addUser adds a user with a home.
func (c *container) addUser(name string) { c.t.Helper(); c.run("useradd", "-m", name) }

// hello is the newcomer's call.
func (c *container) hello() {
	c.t.Helper()
	if got := c.run("ipcd", "call", "hello"); got != "hello" {
		c.t.Errorf("ipcd call hello printed %q", got)
	}
}
