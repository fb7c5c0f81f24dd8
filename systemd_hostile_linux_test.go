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
		{1, "/opt/hers belongs to user ada", []string{"--config", "/opt/hers/c.toml"}},
		{1, "/opt/hers belongs to user ada", []string{"--copy-to=/opt/hers/bin/prog"}},
		{1, "/opt/hers belongs to user ada", []string{"--copy-to=/opt/hers/new/prog"}},
		{1, "for temporary files", []string{"--copy-to=/tmp/new/prog"}},
		{1, "in a home", []string{"--copy-to=/root/prog"}},
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
}
