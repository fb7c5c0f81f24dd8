package main

// This file owns what an operator of the service sees: the findings of the doctor, the audit log in the journal and in a file, and the
// figures.

import (
	"fmt"
	"strings"
	"testing"
)

// testOperator installs the service, breaks it in ways that happen, and asks.
func testOperator(t *testing.T, c *container) {
	finds := func(code int, want ...string) {
		t.Helper()
		r := c.try("", "ipcd", "doctor")
		if r.code != code {
			t.Errorf("the doctor exits with %d; want %d: %s", r.code, code, r)
		}
		text := strings.Join(strings.Fields(r.stdout), " ")
		for _, want := range want {
			if !strings.Contains(text, want) {
				t.Errorf("the doctor does not say %q but\n%s", want, r.stdout)
			}
		}
		if code == 0 && len(want) == 0 && (strings.Contains(r.stdout, "warning") || strings.Contains(r.stdout, "error")) {
			t.Errorf("all is well, and the doctor says\n%s", r.stdout)
		}
	}
	finds(1, "ok service the service ipcd (systemd) is not installed", "error endpoint no daemon at unix://")
	c.run("ipcd", "install")
	c.hello()
	finds(0)
	finds(0, "ok service the service ipcd (systemd) is answering", "ok socket /run/ipcd/ipcd.sock belongs to user root (uid 0) and has the mode 0600",
		"ok limits the daemon may have ")
	c.run("chmod", "666", "/run/ipcd/ipcd.sock")
	finds(1, "error socket /run/ipcd/ipcd.sock belongs to user root (uid 0) and has the mode 0666", "close it: chmod 600 /run/ipcd/ipcd.sock")
	c.run("chmod", "600", "/run/ipcd/ipcd.sock")
	c.run("systemctl", "disable", "ipcd.service", "ipcd.socket")
	finds(0, "warning service the service ipcd (systemd) does not start by itself ipcd install")
	c.run("ipcd", "install")
	finds(0)

	c.write("/etc/ipcd/config.toml", "audit = \"all\"\n")
	c.run("systemctl", "reload", "ipcd")
	c.hello()
	waitFor(t, func() error {
		if r := c.try("", "journalctl", "-u", "ipcd", "-o", "cat", "IPCD_AUDIT=1", "IPCD_WHAT=Echo.Say"); !r.says("allowed") {
			return fmt.Errorf("the journal has no line of the audit log: %s", r)
		}
		return nil
	})
	c.write("/etc/ipcd/config.toml", "audit = \"all\"\naudit_file = \"/var/lib/ipcd/audit.log\"\n")
	c.run("systemctl", "reload", "ipcd")
	c.hello()
	waitFor(t, func() error {
		if r := c.try("", "cat", "/var/lib/ipcd/audit.log"); !r.says(`"action":"call","what":"Echo.Say","decision":"allowed","by":"owner"`) {
			return fmt.Errorf("the audit log has no call: %s", r)
		}
		return nil
	})
	if got := c.run("stat", "-L", "-c", "%a", "/var/lib/ipcd/audit.log"); got != "600" {
		t.Errorf("the audit log has the mode %s; want 600", got)
	}
	finds(0, "ok config /etc/ipcd/config.toml is right", "ok audit the audit log is /var/lib/ipcd/audit.log")
	if got := c.run("ipcd", "stats"); !strings.Contains(got, `ipcd_calls_total{code="ok",method="Echo.Say"} 3`) || !strings.Contains(got, "ipcd_audit_lost_total 0") {
		t.Errorf("the figures are\n%s", got)
	}
	c.write("/etc/ipcd/config.toml", "audit_file = \"/etc/audit.log\"\n") // which the sandbox forbids
	c.try("", "systemctl", "reload", "ipcd")
	waitFor(t, func() error {
		if got := c.run("ipcd", "logs"); !strings.Contains(got, "audit_file: /etc/audit.log cannot be written: read-only file system") {
			return fmt.Errorf("the log does not say why the settings were refused:\n%s", got)
		}
		return nil
	})
	c.hello()
}
