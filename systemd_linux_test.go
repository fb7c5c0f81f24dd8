package main

// This file owns the tests of the service under systemd: a Debian is booted, and what an
// administrator types is typed. .ci/systemd makes the Debian.

import (
	"os"
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
		t.Run(test.name, func(t *testing.T) { test.run(t, startContainer(t, root, ipcd)) })
	}
}

// testContainer is about the container itself: the other tests rely on what it shows.
func testContainer(t *testing.T, c *container) {
	c.run("useradd", "-m", "ada")
	if got := c.exits(0, "ada", "id", "-un"); got != "ada" {
		t.Errorf("a command as ada is run by %q", got)
	}
	c.exits(3, "", "sh", "-c", "exit 3")
	c.run("ipcd", "version")
	c.run("systemd-run", "--wait", "-p", "DynamicUser=yes", "-p", "PrivateUsers=yes", "-p", "SystemCallFilter=@system-service", "true")
	c.write("/run/of-memory", "")
	c.write("/etc/of-disk", "")
	c.reboot()
	if _, err := os.Stat(c.path("/run/of-memory")); err == nil {
		t.Error("/run has outlived a reboot")
	}
	if _, err := os.Stat(c.path("/etc/of-disk")); err != nil {
		t.Errorf("/etc has not outlived a reboot: %v", err)
	}
}
