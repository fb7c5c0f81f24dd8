package main

// This file owns the tests of how a service lives under systemd: who may call it, and how it
// starts, dies, comes back, reloads and logs.

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func init() {
	systemdTests = append(systemdTests,
		systemdTest{"Callers", testCallers},
		systemdTest{"Activation", testActivation},
		systemdTest{"SocketRemoved", testSocketRemoved},
		systemdTest{"Ready", testReady},
		systemdTest{"StatusOfEachState", testStatusOfEachState},
		systemdTest{"Killed", testKilled},
		systemdTest{"BadConfigStaysDown", testBadConfigStaysDown},
		systemdTest{"Reload", testReload},
		systemdTest{"Rules", testRules},
		systemdTest{"TLS", testServiceTLS},
		systemdTest{"Watchdog", testWatchdog},
		systemdTest{"Rights", testRights},
		systemdTest{"Journal", testJournal},
		systemdTest{"UserService", testUserService},
		systemdTest{"Umask", testUmask},
		systemdTest{"Workers", testWorkers},
	)
}

const mostExposed = 1.5 // of systemd-analyze security; the README promises it

// dropIn changes the unit as "systemctl edit --runtime" does.
func (c *container) dropIn(unit, text string) {
	c.t.Helper()
	c.write("/run/systemd/system/"+unit+".d/test.conf", text)
	c.run("systemctl", "daemon-reload")
}

func testCallers(t *testing.T, c *container) {
	c.addUser("ada") // is in the group
	c.addUser("bob") // is not
	c.run("groupadd", "--users", "ada", "callers")
	c.run("ipcd", "install")
	c.hello()
	for _, user := range []string{"ada", "bob"} {
		c.refused(3, user, "no permission", "ipcd", "call", "hello")
	}
	c.run("ipcd", "install", "--allow-group", "callers", "--force")
	for _, way := range []string{"started by systemd", "started by a call"} {
		t.Run(way, func(t *testing.T) {
			c := c.in(t)
			if got := c.exits(0, "ada", "ipcd", "call", "hello"); got != "hello" {
				t.Errorf("a member of the group got %q", got)
			}
			if got := c.exits(0, "ada", "ipcd", "whoami", "--json"); !strings.Contains(got, `"ada"`) {
				t.Errorf("the daemon says of ada: %s", got)
			}
			c.hello()
			c.refused(3, "bob", "no permission", "ipcd", "call", "hello")
			if got := c.run("stat", "-L", "-c", "%U:%G %a", "/run/ipcd/ipcd.sock"); got != "root:callers 660" {
				t.Errorf("the socket is %s; want root:callers 660", got)
			}
		})
		c.run("systemctl", "stop", "ipcd.service")
	}
}

// testActivation has the first call start the service.
func testActivation(t *testing.T, c *container) {
	c.run("ipcd", "install")
	for range 3 {
		c.run("systemctl", "stop", "ipcd.service")
		if state := c.show("ipcd.service", "ActiveState"); state != "inactive" {
			t.Errorf("after systemctl stop the service is %s", state)
		}
		c.exits(3, "", "ipcd", "status") // which is no call that starts it
		if state := c.show("ipcd.service", "ActiveState"); state != "inactive" {
			t.Errorf("after ipcd status the service is %s", state)
		}
		c.hello()
		c.exits(0, "", "ipcd", "status")
	}
	c.run("ipcd", "stop")
	c.refused(3, "", "ipcd", "ipcd", "call", "hello")
	c.exits(3, "", "ipcd", "status")
	c.run("ipcd", "stop") // it may be done twice
	c.run("ipcd", "start")
	c.hello()
	c.run("ipcd", "start")
	pid := c.show("ipcd.service", "MainPID")
	c.run("ipcd", "restart")
	if now := c.show("ipcd.service", "MainPID"); now == pid || now == "0" {
		t.Errorf("after ipcd restart the main process is %s, and was %s", now, pid)
	}
	c.hello()
	c.run("ipcd", "stop")
	c.refused(3, "", "installed, but nobody listens for it there: ipcd start", "ipcd", "call", "hello")
	waiting := c.start("", "ipcd", "call", "--wait", "30s", "hello")
	c.run("ipcd", "start")
	if r := waiting(); r.code != 0 || r.stdout != "hello\n" {
		t.Errorf("%s; want the answer of the service that was waited for", r)
	}
	if got := c.run("systemctl", "list-sockets", "--plain", "--no-legend", "--no-pager"); !strings.Contains(got, "/run/ipcd/ipcd.sock") {
		t.Errorf("systemd does not listen for it:\n%s", got)
	}
}

// testSocketRemoved has somebody remove the socket that systemd holds, or put another in its place. What the hints say
// brings it back, and so does each of the commands that make the service run.
func testSocketRemoved(t *testing.T, c *container) {
	const socket = "/run/ipcd/ipcd.sock"
	c.run("ipcd", "install")
	left := func() { // by a daemon that has taken the place, and was killed
		c.run("rm", socket)
		daemon := c.start("", "sh", "-c", "echo $$ >/run/pid && exec ipcd run --listen unix://"+socket)
		c.run("ipcd", "call", "-e", "unix://"+socket, "--wait", "20s", "hello")
		c.signal("KILL", "$(cat /run/pid)")
		daemon()
		c.run("rm", "/run/pid")
	}
	gone := func() { c.run("rm", socket) }
	for _, test := range []struct {
		name    string
		remove  func()
		stopped bool // the service, so that a call should start it
		repair  []string
	}{
		{"restart", gone, false, []string{"ipcd", "restart"}},
		{"start", gone, false, []string{"ipcd", "start"}},
		{"install", gone, false, []string{"ipcd", "install"}},
		{"start of one that is stopped", gone, true, []string{"ipcd", "start"}},
		{"restart where a dead socket is", left, false, []string{"ipcd", "restart"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.in(t)
			if test.stopped {
				c.run("systemctl", "stop", "ipcd.service")
			}
			test.remove()
			if test.name != "restart where a dead socket is" {
				c.refused(3, "", "installed, but nobody listens for it there: ipcd start", "ipcd", "call", "hello")
			}
			want := "hint: ipcd restart" // as it runs
			if test.stopped {
				want = "hint: ipcd start"
			}
			r := c.try("", "ipcd", "status")
			if r.code != 3 || !r.says(want) || r.says("the first call starts it") {
				t.Errorf("%s; want exit code 3 and %q", r, want)
			}
			c.run(test.repair...)
			c.hello()
			c.exits(0, "", "ipcd", "status")
		})
	}
	pid := c.show("ipcd.service", "MainPID")
	c.run("ipcd", "start") // which has nothing to repair
	if now := c.show("ipcd.service", "MainPID"); now != pid {
		t.Errorf("ipcd start has replaced the daemon %s by %s", pid, now)
	}
}

// testReady wants systemctl start to return when every endpoint is served, and to fail when one
// cannot be.
func testReady(t *testing.T, c *container) {
	const tcp = "tcp://127.0.0.1:7000?auth=none"
	c.run("ipcd", "install", "--listen", "unix:///run/ipcd/ipcd.sock", "--listen", tcp)
	if got := c.show("ipcd.service", "Type"); got != "notify" {
		t.Errorf("Type=%s; want notify", got)
	}
	for range 5 {
		c.run("systemctl", "restart", "ipcd.service")
		for _, e := range []string{"unix:///run/ipcd/ipcd.sock", tcp} {
			if got := c.run("ipcd", "call", "-e", e, "hello"); got != "hello" {
				t.Errorf("%s says %q", e, got)
			}
		}
	}
	if got := c.run("ipcd", "whoami", "-e", tcp, "--json"); !strings.Contains(got, `"owner":"user root (uid 0)"`) {
		t.Errorf("over TCP whoami says %s; want whose the connection is", got)
	}
	if got := c.run("ipcd", "call", "-e", "tcp://127.0.0.1:7000", "hello"); got != "hello" { // systemd has the port
		t.Errorf("one who trusts root alone got %q", got)
	}
	if got := c.show("ipcd.service", "StatusText"); got == "" {
		t.Error("the daemon has told systemd no status")
	}
	c.run("ipcd", "stop")
	c.run("systemd-run", "--unit", "squatter", "--service-type=notify", "ipcd", "run", "--listen", tcp) // with no readiness of a plain run
	if r := c.try("", "systemctl", "start", "ipcd.service"); r.code == 0 {
		t.Errorf("%s, although another one has %s", r, tcp)
	}
	if r := c.try("", "ipcd", "status"); r.code != 3 || !r.says("7000") {
		t.Errorf("%s; want exit code 3 and the endpoint that is taken", r)
	}
}

func testStatusOfEachState(t *testing.T, c *container) {
	check := func(state string, code int, words ...string) {
		t.Helper()
		text, inJSON := c.start("", "ipcd", "status"), c.start("", "ipcd", "status", "--json") // at once: that nobody answers takes time
		r, j := text(), inJSON()
		for _, w := range words {
			if !r.says(w) {
				t.Errorf("%s: %s; want %q in it", state, r, w)
			}
		}
		if r.code != code {
			t.Errorf("%s: %s; want exit code %d", state, r, code)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(j.stdout), &fields); err != nil || j.code != code {
			t.Errorf("%s: %s: %v; want JSON and exit code %d", state, j, err, code)
		}
		t.Logf("%s: exit code %d\n%s%s%s", state, r.code, r.stdout, r.stderr, j.stdout)
	}
	check("not installed", 4, "not installed", "ipcd install")
	c.run("ipcd", "install")
	check("running", 0, "answering", c.show("ipcd.service", "MainPID"), "unix:///run/ipcd/ipcd.sock")
	c.run("systemctl", "stop", "ipcd.service")
	check("stopped, and the socket waits", 3)
	c.run("ipcd", "stop")
	check("stopped", 3, "stopped", "ipcd start")
	c.run("ipcd", "start")
	pid := c.show("ipcd.service", "MainPID")
	c.signal("STOP", pid)
	check("not answering", 3, "not answering", pid)
	c.signal("CONT", pid)
	c.hello()
	check("running again", 0, "answering")
	c.dropIn("ipcd.service", "[Service]\nExecStart=\nExecStart=/usr/local/bin/ipcd run --service ipcd --config /none.toml\n")
	c.try("", "systemctl", "restart", "ipcd.service")
	c.waitShow("ipcd.service", "ActiveState", "failed")
	check("failed", 3, "failed", "/none.toml")
}

// testKilled kills the daemon. It answers again, after a pause that is systemd's, at the same endpoint. Go's own
// runtime ends with exit code 2, after which nothing is started again, at a panic and at some of these
// signals.
func testKilled(t *testing.T, c *container) {
	c.run("ipcd", "install")
	c.hello()
	for _, signal := range []string{"KILL", "KILL", "ABRT", "QUIT", "SEGV"} {
		pid := c.show("ipcd.service", "MainPID")
		killed := time.Now()
		c.signal(signal, pid)
		waitFor(t, func() error { // one that is dying may answer one call, and cut the next
			if now := c.show("ipcd.service", "MainPID"); now == pid || now == "0" {
				return fmt.Errorf("the main process is %s, after kill -%s %s", now, signal, pid)
			}
			return nil
		})
		must(t, sayOnce(c.path("/run/ipcd/ipcd.sock")))
		t.Logf("after kill -%s it answers after %v", signal, time.Since(killed).Round(time.Millisecond))
		c.hello()
	}
	c.exits(0, "", "ipcd", "status")
	if got := c.show("ipcd.service", "RestartUSec"); got != "1s" {
		t.Errorf("systemd waits for %s before it starts it again; want 1s", got)
	}
	if got := c.show("ipcd.service", "NRestarts"); got != "5" {
		t.Errorf("systemd has restarted it %s times; want 5", got)
	}
}

// testBadConfigStaysDown is about exit code 2, which another start would not change.
func testBadConfigStaysDown(t *testing.T, c *container) {
	const file = "/etc/ipcd.toml"
	c.write(file, "log_level = \"info\"\n")
	c.run("ipcd", "install", "--config", file)
	c.hello()
	c.write(file, "log_level = \"info\"\nlog_levle = 3\n")
	c.refused(2, "", file+":2", "ipcd", "restart") // and what runs goes on
	c.hello()
	if r := c.try("", "systemctl", "restart", "ipcd.service"); r.code == 0 {
		t.Error(r)
	}
	c.waitShow("ipcd.service", "ActiveState", "failed")
	c.refused(2, "", file+":2", "ipcd", "start")
	for property, want := range map[string]string{"ExecMainStatus": "2", "NRestarts": "0", "Result": "exit-code"} {
		if got := c.show("ipcd.service", property); got != want {
			t.Errorf("%s=%s; want %s", property, got, want)
		}
	}
	c.refused(3, "", file+":2", "ipcd", "status")
	// A call that finds it so is told at last, and does not break the endpoint for good.
	if r := c.try("", "ipcd", "call", "--timeout", "2s", "hello"); r.code == 0 {
		t.Errorf("%s, although the configuration is bad", r)
	}
	c.write(file, "log_level = \"info\"\n")
	c.run("ipcd", "start")
	c.hello()
	c.exits(0, "", "ipcd", "status")
}

// testRules lets users in, and keeps them out, under a daemon that goes on. The socket is systemd's.
func testRules(t *testing.T, c *container) {
	const file = "/etc/ipcd.toml"
	c.addUser("ada")
	c.addUser("bob")
	rules := func(who, what string) string {
		return "[[rule]]\nallow = [\"user:" + who + "\"]\ncall = [\"" + what + "\"]\n"
	}
	says := func(user, words string, args ...string) {
		t.Helper()
		waitFor(t, func() error { // systemd 252 does not wait until the daemon has read its settings
			if r := c.try(user, args...); !r.says(words) {
				return fmt.Errorf("%s; want %q", r, words)
			}
			return nil
		})
	}
	c.write(file, "")
	c.run("ipcd", "install", "--config", file)
	c.write(file, rules("ada", "Echo.*"))
	c.run("systemctl", "reload", "ipcd.service")
	says("", "ipcd install --force", "journalctl", "--no-pager", "-o", "cat", "-u", "ipcd.service") // the socket keeps her out
	says("ada", "no permission", "ipcd", "call", "hello")

	c.run("ipcd", "install", "--config", file, "--force")
	if got := c.exits(0, "ada", "ipcd", "call", "hello"); got != "hello" {
		t.Errorf("ada is answered %q", got)
	}
	c.refused(1, "ada", "may not control the daemon", "ipcd", "call", "Ipcd.Stop")
	c.refused(1, "bob", "access denied", "ipcd", "call", "hello")
	if got := c.run("ipcd", "access", "explain", "--config", file, "--as", "user:ada", "Echo.Say"); got != "allowed: rule[1] at "+file+":1 says so" {
		t.Errorf("explain says %q", got)
	}

	pid := c.show("ipcd.service", "MainPID")
	c.write(file, rules("bob", "Echo.Say"))
	c.run("systemctl", "reload", "ipcd.service")
	says("bob", "hello", "ipcd", "call", "hello")
	says("ada", "access denied", "ipcd", "call", "hello")
	c.write(file, rules("nobody-of-that-name", "Echo.Say"))
	if r := c.try("", "systemctl", "reload", "ipcd.service"); r.code == 0 {
		t.Errorf("%s, although the system knows no such user", r)
	}
	says("bob", "hello", "ipcd", "call", "hello") // the old ones go on
	if now := c.show("ipcd.service", "MainPID"); now != pid {
		t.Errorf("the daemon was %s and is %s", pid, now)
	}
}

// testServiceTLS has a service with a certificate, whose key its user cannot read, for callers from elsewhere.
func testServiceTLS(t *testing.T, c *container) {
	c.run("sh", "-c", "mkdir -p /etc/ipcd && ipcd tls init --name box.example >>/etc/ipcd/config.toml")
	install := []string{"ipcd", "install", "--listen", "unix:///run/ipcd/ipcd.sock", "--listen", "tls://0.0.0.0:8443"}
	c.run(install...)
	c.hello()
	us := []string{"-e", "tls://127.0.0.1:8443", "--set", "tls.ca=/etc/ipcd/tls/ca.pem", "--set", "tls.client_cert=/etc/ipcd/tls/client.pem", "--set", "tls.client_key=/etc/ipcd/tls/client-key.pem"}
	ipcd := func(args ...string) []string { return slices.Concat([]string{"ipcd"}, args, us) }
	if got := c.run(ipcd("call", "hello")...); got != "hello" {
		t.Errorf("over TLS the answer is %q", got)
	}
	if got := c.run(ipcd("whoami")...); !strings.HasPrefix(got, "cert:client at 127.0.0.1:") {
		t.Errorf("the daemon says of the caller: %s", got)
	}
	c.refused(1, "", errNoCert.Text, "ipcd", "call", "-e", "tls://127.0.0.1:8443", "--set", "tls.ca=/etc/ipcd/tls/ca.pem", "hello")
	if got := c.run("stat", "-c", "%U %a", "/etc/ipcd/tls/server-key.pem"); got != "root 600" {
		t.Errorf("the key is %s; want root 600", got)
	}
	for property, want := range map[string]string{"IPAddressDeny": "", "PrivateNetwork": "no", "DynamicUser": "yes"} {
		if got := c.show("ipcd.service", property); got != want {
			t.Errorf("%s is %q; want %q", property, got, want)
		}
	}
	if got := c.show("ipcd.socket", "Listen"); !strings.Contains(got, "0.0.0.0:8443 (Stream)") {
		t.Errorf("systemd listens at %s", got)
	}

	// A new pair in place of the old one is there after a restart.
	c.run("sh", "-c", "cd /etc/ipcd/tls && ipcd tls issue --server localhost --name 127.0.0.1 && mv localhost.pem server.pem && mv localhost-key.pem server-key.pem")
	c.run("ipcd", "restart")
	if got := c.run(ipcd("whoami", "--server")...); !strings.HasPrefix(got, "cert:localhost at ") {
		t.Errorf("after a restart the daemon is %s; want the new certificate", got)
	}
	c.run("systemctl", "reload", "ipcd.service")
	c.hello()

	// Another file is one that the service was not given.
	pid := c.show("ipcd.service", "MainPID")
	c.run("ipcd", "tls", "issue", "--server", "other.example")
	c.run("sed", "-i", "s/server/other.example/", "/etc/ipcd/config.toml")
	c.run("systemctl", "reload", "ipcd.service")
	waitFor(t, func() error {
		log := c.run("journalctl", "--no-pager", "-o", "cat", "-u", "ipcd.service")
		_, refused, _ := strings.Cut(log, "the settings were refused")
		if !strings.Contains(refused, "other.example.pem cannot be read: ") || !strings.Contains(refused, "ipcd install --force") {
			return fmt.Errorf("the journal does not say what to do:\n%s", log)
		}
		return nil
	})
	if now := c.show("ipcd.service", "MainPID"); now != pid {
		t.Errorf("the daemon was %s and is %s", pid, now)
	}
	c.run(append(install, "--force")...)
	c.refused(1, "", "its certificate is for other.example and not for 127.0.0.1", ipcd("call", "hello")...)
}

// testReload changes the configuration under a daemon that goes on.
func testReload(t *testing.T, c *container) {
	const file = "/etc/ipcd.toml"
	c.write(file, "[limits]\nmax_message = \"1MiB\"\n")
	c.run("ipcd", "install", "--config", file)
	pid := c.show("ipcd.service", "MainPID")
	long := strings.Repeat("x", 2<<10)
	c.run("ipcd", "call", long)
	// systemd 252 does not wait until the daemon has read them: that came with Type=notify-reload.
	inForce := func(code int) {
		t.Helper()
		waitFor(t, func() error {
			if r := c.try("", "ipcd", "call", long); r.code != code || code != 0 && !r.says("max_message") {
				return fmt.Errorf("a long call: exit code %d, %s; want %d", r.code, r.stderr, code)
			}
			return nil
		})
	}

	c.write(file, "[limits]\nmax_message = \"1KiB\"\n")
	c.run("systemctl", "reload", "ipcd.service")
	inForce(1)
	c.hello()

	c.write(file, "[limits]\nmax_message = \"1MiB\"\nmax_massage = 3\n")
	if r := c.try("", "systemctl", "reload", "ipcd.service"); r.code == 0 {
		t.Errorf("%s, although the configuration is bad", r)
	}
	if log := c.run("journalctl", "--no-pager", "-o", "cat", "-u", "ipcd.service"); !strings.Contains(log, file+":3") {
		t.Errorf("the journal does not say where the configuration is bad:\n%s", log)
	}
	c.refused(1, "", "max_message", "ipcd", "call", long) // the old one goes on
	c.hello()
	if now := c.show("ipcd.service", "MainPID"); now != pid {
		t.Errorf("the daemon was %s and is %s", pid, now)
	}
	if state := c.show("ipcd.service", "ActiveState"); state != "active" {
		t.Errorf("the service is %s", state)
	}
	c.write(file, "[limits]\nmax_message = \"1MiB\"\n")
	c.run("systemctl", "reload", "ipcd.service")
	inForce(0)
}

// testWatchdog wants a daemon that lives to say so, and one that hangs to be replaced.
func testWatchdog(t *testing.T, c *container) {
	c.run("ipcd", "install")
	if got := c.show("ipcd.service", "WatchdogUSec"); got == "0" || got == "infinity" {
		t.Errorf("WatchdogUSec=%s; want a limit", got)
	}
	c.dropIn("ipcd.service", "[Service]\nWatchdogSec=1s\n")
	c.run("systemctl", "restart", "ipcd.service")
	pid := c.show("ipcd.service", "MainPID")
	seen := map[string]bool{}
	waitFor(t, func() error {
		if seen[c.show("ipcd.service", "WatchdogTimestampMonotonic")] = true; len(seen) < 5 {
			return fmt.Errorf("the daemon has said %d times that it lives", len(seen)-1)
		}
		return nil
	})
	if now := c.show("ipcd.service", "MainPID"); now != pid {
		t.Errorf("the daemon was %s and is %s", pid, now)
	}
	c.signal("STOP", pid)
	waitFor(t, func() error {
		if now := c.show("ipcd.service", "MainPID"); now == pid || now == "0" {
			return fmt.Errorf("the main process is %s; want another one than %s", now, pid)
		}
		return nil
	})
	c.hello()
	if got := c.show("ipcd.service", "NRestarts"); got != "1" {
		t.Errorf("it was restarted %s times", got)
	}
	if log := c.run("journalctl", "--no-pager", "-o", "cat", "-u", "ipcd.service"); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("the journal has no watchdog:\n%s", log)
	}
}

// testRights asks systemd what the service may do, and the kernel what it can.
func testRights(t *testing.T, c *container) {
	c.run("ipcd", "install")
	if r := c.try("", "systemd-analyze", "verify", "/etc/systemd/system/ipcd.service", "/etc/systemd/system/ipcd.socket"); r.code != 0 || r.says("ipcd") {
		t.Errorf("%s; want no complaint", r)
	}
	table := c.run("systemd-analyze", "security", "--no-pager", "ipcd.service")
	found := regexp.MustCompile(`Overall exposure level for ipcd.service: ([0-9.]+)`).FindStringSubmatch(table)
	if found == nil {
		t.Fatalf("no exposure level in\n%s", table)
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > mostExposed {
		t.Errorf("the exposure level is %s; want %v at most:\n%s", found[1], mostExposed, table)
	}
	t.Logf("exposure level %s", found[1])
	status := c.run("cat", "/proc/"+c.show("ipcd.service", "MainPID")+"/status")
	for _, line := range []string{`CapEff:\s0+$`, `CapBnd:\s0+$`, `CapAmb:\s0+$`, `NoNewPrivs:\s1$`, `Seccomp:\s2$`} {
		if !regexp.MustCompile("(?m)^" + line).MatchString(status) {
			t.Errorf("the daemon's status does not match %q:\n%s", line, status)
		}
	}
	if regexp.MustCompile(`(?m)^Uid:\s0\s`).MatchString(status) {
		t.Errorf("the daemon runs as root:\n%s", status)
	}
	c.addUser("ada")
	c.run("ipcd", "install", "--force", "--run-as", "ada")
	if user := c.run("stat", "-c", "%U", "/proc/"+c.show("ipcd.service", "MainPID")); user != "ada" {
		t.Errorf("with --run-as ada it runs as %s", user)
	}
	c.hello()
}

// testJournal wants what is logged to arrive with its priority and its fields.
func testJournal(t *testing.T, c *container) {
	c.addUser("bob")
	c.write("/etc/ipcd.toml", "log_level = \"debug\"\nlisten = [\"unix:///run/ipcd/ipcd.sock\", \"tcp://127.0.0.1:7000?auth=none\"]\n")
	c.run("ipcd", "install", "--config", "/etc/ipcd.toml")
	c.hello()
	// Something worth a warning: a message that is none.
	c.run("bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/7000 && printf '{"jsonrpc":' >&3 && printf '}}}}' >&3 && cat <&3 >/dev/null`)
	c.run("ipcd", "restart")
	c.run("journalctl", "--sync")
	var priorities []string
	stamped := regexp.MustCompile(`\x1b|^\d{4}-\d\d-\d\d|time=|"time":|level=|"level":`)
	fields := map[string]bool{}
	log := c.run("journalctl", "--no-pager", "-o", "json", "-u", "ipcd.service", "_COMM=ipcd")
	for line := range strings.Lines(log) {
		var entry map[string]json.RawMessage
		must(t, json.Unmarshal([]byte(line), &entry))
		var message, priority string
		if err := json.Unmarshal(entry["MESSAGE"], &message); err != nil { // a list of bytes: it is no plain text
			t.Errorf("MESSAGE is %s", entry["MESSAGE"])
			continue
		}
		must(t, json.Unmarshal(entry["PRIORITY"], &priority))
		if found := stamped.FindString(message); found != "" {
			t.Errorf("MESSAGE has %q, which the journal knows: %q", found, message)
		}
		priorities = append(priorities, priority)
		for name := range entry {
			fields[name] = true
		}
		var id string
		if json.Unmarshal(entry["SYSLOG_IDENTIFIER"], &id); id != "ipcd" {
			t.Errorf("SYSLOG_IDENTIFIER is %q: %q", id, message)
		}
	}
	for _, p := range []string{"4", "6"} {
		if !slices.Contains(priorities, p) {
			t.Errorf("the priorities are %q; want %s among them:\n%s", priorities, p, c.run("journalctl", "--no-pager", "-o", "cat", "-u", "ipcd.service"))
		}
	}
	if !fields["IPCD_ENDPOINT"] && !fields["ENDPOINT"] {
		t.Errorf("the entries have no field for the endpoint: %q", slices.Sorted(maps.Keys(fields)))
	}
}

// testUserService installs one of ada's own, from which root has nothing.
func testUserService(t *testing.T, c *container) {
	c.addUser("ada")
	c.run("systemctl", "start", fmt.Sprintf("user@%d.service", c.uid("ada")))
	before := c.snapshot()
	r := c.try("ada", "ipcd", "install", "--user")
	if r.code != 0 || !r.says("loginctl enable-linger") {
		t.Errorf("%s; want it to work, and to say how the service starts without a login", r)
	}
	if got := c.exits(0, "ada", "ipcd", "call", "hello"); got != "hello" {
		t.Errorf("the answer is %q", got)
	}
	c.exits(0, "ada", "ipcd", "status", "--user")
	c.exits(4, "", "ipcd", "status")
	if got := c.exits(0, "ada", "systemctl", "--user", "is-enabled", "ipcd.service"); got != "enabled" {
		t.Errorf("the service is %s", got)
	}
	if r := c.try("ada", "systemctl", "--user", "cat", "ipcd.service"); !r.says("WantedBy=default.target") {
		t.Errorf("%s; want it to start with the session", r)
	}
	if r := c.try("ada", "ipcd", "install", "--user"); r.code != 0 || !r.says("unchanged") {
		t.Errorf("%s; want it to say that nothing is changed", r)
	}
	c.run("loginctl", "enable-linger", "ada")
	c.reboot()
	c.waitShow(fmt.Sprintf("user@%d.service", c.uid("ada")), "ActiveState", "active")
	if got := c.exits(0, "ada", "ipcd", "call", "--wait", "10s", "hello"); got != "hello" {
		t.Errorf("after a reboot the answer is %q", got)
	}
	c.exits(0, "ada", "ipcd", "uninstall", "--user", "--purge")
	c.exits(4, "ada", "ipcd", "status", "--user")
	c.run("loginctl", "disable-linger", "ada")
	c.run("systemctl", "start", fmt.Sprintf("user@%d.service", c.uid("ada")))
	before.check(c)
}

// testUmask has the masks that hardened systems give to root, and that Debian gives to users with a group of their own:
// what they make, the group can write to.
func testUmask(t *testing.T, c *container) {
	c.addUser("ada")
	c.addUser("bob")
	before := c.snapshot()
	for _, mask := range []string{"077", "027"} {
		c.run("sh", "-c", "umask "+mask+" && ipcd install --copy-to=/opt/x/bin/ipcd")
		c.hello()
		c.run("ipcd", "uninstall", "--purge")
		c.run("rmdir", "/opt/x/bin", "/opt/x")
		before.check(c)
		c.run("sh", "-c", "umask "+mask+" && mkdir /opt/closed && cp /usr/local/bin/ipcd /opt/closed && echo >/opt/closed/c.toml && chmod 644 /opt/closed/c.toml")
		for _, install := range [][]string{{"/opt/closed/ipcd", "install"}, {"ipcd", "install", "--copy-to=/opt/closed/new/ipcd"}, {"ipcd", "install", "--config", "/opt/closed/c.toml"}} {
			c.refused(2, "", "hint: let others pass: chmod o+x /opt/closed", install...)
		}
		c.run("rm", "-r", "/opt/closed")
		before.check(c)
	}

	c.run("systemctl", "start", fmt.Sprintf("user@%d.service", c.uid("ada")))
	c.exits(0, "ada", "sh", "-c", `umask 002 && cd && mkdir -p go/bin .local/bin .config/ipcd && cp /usr/local/bin/ipcd go/bin/ipcd && echo 'log_level = "debug"' >.config/ipcd/config.toml`)
	for _, install := range [][]string{{"/home/ada/go/bin/ipcd", "install", "--user"}, {"/home/ada/go/bin/ipcd", "install", "--user", "--copy-to"}} {
		c.exits(0, "ada", install...)
		if got := c.exits(0, "ada", "ipcd", "call", "hello"); got != "hello" {
			t.Errorf("%q: the answer is %q", install, got)
		}
		c.exits(0, "ada", "ipcd", "uninstall", "--user", "--purge")
	}
	c.run("usermod", "-aG", "ada", "bob") // now it is no group of her own
	c.refused(1, "ada", "--copy-to", "/home/ada/go/bin/ipcd", "install", "--user", "--config", "/dev/null")
	typed := regexp.MustCompile(`hint: close it: (chmod go-w /home/ada/\S+)`)
	for _, args := range [][]string{{"--copy-to"}, {}} {
		install := append([]string{"/home/ada/go/bin/ipcd", "install", "--user"}, args...)
		if len(args) == 0 {
			install[0] = "ipcd"
		}
		r := c.try("ada", install...)
		for range 5 { // a place at a time
			if hint := typed.FindStringSubmatch(r.stderr); hint != nil {
				c.exits(0, "ada", "sh", "-c", hint[1])
				r = c.try("ada", install...)
			}
		}
		if r.code != 0 {
			t.Errorf("%s, after all has been typed that it says", r)
		}
		c.exits(0, "ada", "ipcd", "uninstall", "--user", "--purge")
		c.exits(0, "ada", "chmod", "g+w", "/home/ada/.config", "/home/ada/.config/ipcd", "/home/ada/.config/ipcd/config.toml", "/home/ada/.local/bin")
	}
}

// testWorkers has workers in Node.js and Python run in the sandbox of an installed service, which is opened for them as far as
// they need.
func testWorkers(t *testing.T, c *container) {
	c.addUser("ada")
	c.addUser("bob")
	node, err := filepath.EvalSymlinks(needTool(t, "node"))
	must(t, err)
	program, err := os.ReadFile(node)
	must(t, err)
	must(t, os.WriteFile(c.path("/usr/local/bin/node"), program, 0o755))
	const greeter = `process.on('message', (m) => { if (m.id) process.send({ jsonrpc: '2.0', id: m.id, result: 'hello, ' + m.params[0] + ' from node' }) })
`
	const reporter = `import json, os, socket
channel = socket.socket(fileno=int(os.environ["IPCD_CHANNEL_FD"])).makefile("rw", buffering=1)
print(json.dumps({"jsonrpc": "2.0", "method": "Ipcd.Register", "params": [{"methods": ["Report.Uid"]}]}), file=channel)
for line in channel:
    m = json.loads(line)
    if "method" in m:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": os.getuid()}), file=channel)
`
	const nodeWorker = "[[worker]]\nname = \"greeter\"\ncommand = [\"node\", \"greeter.js\"]\nservices = [\"Greeter\"]\nready = \"start\"\n"
	const pythonWorker = "[[worker]]\nname = \"reporter\"\ncommand = [\"python3\", \"report.py\"]\nservices = [\"Report\"]\nneeds = []\n"
	c.write("/etc/ipcd/config.toml", pythonWorker+"directory = \"/srv/open\"\n[[worker]]\nname = \"open\"\ncommand = [\"/srv/open/true\"]\n")
	c.run("sh", "-c", "mkdir /srv/open && cp /bin/true /srv/open && chmod 0777 /srv/open")
	for _, key := range []string{"worker.directory", "worker.command"} {
		c.refused(2, "", key+": others can write to /srv/open (mode 0777)", "ipcd", "install")
	}
	c.run("rm", "/etc/ipcd/config.toml")
	c.run("ipcd", "install")
	c.hello()
	c.write("/etc/ipcd/greeter.js", greeter)
	c.write("/etc/ipcd/report.py", reporter)
	c.write("/etc/ipcd/config.toml", pythonWorker+"run_as = \"bob\"\n"+nodeWorker)
	c.refused(2, "", "ipcd install --force", "ipcd", "config", "check", "--service", "ipcd")
	c.refused(1, "", "", "systemctl", "reload", "ipcd.service")
	c.hello() // it goes on as it was
	c.write("/etc/ipcd/config.toml", pythonWorker)
	c.run("systemctl", "reload", "ipcd.service")
	uid := c.exits(0, "", "ipcd", "call", "Report.Uid")
	if n, err := strconv.Atoi(uid); err != nil || n < 61184 {
		t.Errorf("a worker in the sandbox of before runs as the user %s; want a dynamic one", uid)
	}

	c.write("/etc/ipcd/config.toml", pythonWorker+"run_as = \"bob\"\n"+nodeWorker)
	if said := c.run("ipcd", "install", "--force"); !strings.Contains(said, "the worker greeter needs jit") || !strings.Contains(said, "the worker reporter needs run_as") {
		t.Errorf("install says %s; want what it leaves to which worker", said)
	}
	unit := c.run("cat", "/etc/systemd/system/ipcd.service")
	for line, want := range map[string]bool{"\nMemoryDenyWriteExecute=yes\n": false, "\nPrivateNetwork=yes\n": true, "\nProtectHome=yes\n": true, "\nOOMPolicy=continue\n": true} {
		if strings.Contains(unit, line) != want {
			t.Errorf("the unit has the line %q: %v; want %v\n%s", line, !want, want, unit)
		}
	}
	if got := c.exits(0, "", "ipcd", "call", "Greeter.Hello", "ada"); got != "hello, ada from node" {
		t.Errorf("the Node.js worker answers %q", got)
	}
	if got := c.exits(0, "", "ipcd", "call", "Report.Uid"); got != strconv.Itoa(c.uid("bob")) {
		t.Errorf("a worker with run_as runs as the user %s; want %d", got, c.uid("bob"))
	}
	c.exits(0, "", "ipcd", "config", "check", "--service", "ipcd")

	pid := strings.TrimSpace(c.run("systemctl", "show", "-P", "MainPID", "ipcd.service"))
	c.signal("KILL", pid)
	if got := c.exits(0, "", "ipcd", "call", "--wait", "10s", "Greeter.Hello", "bob"); got != "hello, bob from node" {
		t.Errorf("after kill -9 of the daemon the worker answers %q", got)
	}
	waitFor(t, func() error {
		count := c.try("", "sh", "-c", `n=0; for p in /proc/[0-9]*/comm; do read -r name <"$p" && [ "$name" = node ] && n=$((n+1)); done; echo $n`).stdout
		if got := strings.TrimSpace(count); got != "1" {
			return fmt.Errorf("%s processes of Node.js are there; want one", got)
		}
		return nil
	})

	c.run("systemctl", "start", fmt.Sprintf("user@%d.service", c.uid("ada")))
	c.exits(0, "ada", "mkdir", "-p", "/home/ada/.config/ipcd")
	for name, text := range map[string]string{"config.toml": nodeWorker + pythonWorker, "greeter.js": greeter, "report.py": reporter} {
		c.write("/tmp/"+name, text)
		c.exits(0, "ada", "cp", "/tmp/"+name, "/home/ada/.config/ipcd/"+name)
	}
	c.exits(0, "ada", "ipcd", "install", "--user")
	if got := c.exits(0, "ada", "ipcd", "call", "--wait", "10s", "Greeter.Hello", "eve"); got != "hello, eve from node" {
		t.Errorf("the worker of a user's service answers %q", got)
	}
	if got := c.exits(0, "ada", "ipcd", "call", "Report.Uid"); got != strconv.Itoa(c.uid("ada")) {
		t.Errorf("the Python worker of a user's service runs as the user %s; want %d", got, c.uid("ada"))
	}
}

// testTokens wants the tokens that root makes for the service to be those that it takes, whoever it runs as.
func testTokens(t *testing.T, c *container) {
	const tcp = "tcp://127.0.0.1:7001"
	c.addUser("ada")
	c.refused(1, "", "install it first: ipcd install --name ipcd", "ipcd", "token", "new", "early", "--service", "ipcd")
	early := c.run("ipcd", "token", "new", "early") // root's own, which has the same directory
	c.run("ipcd", "install", "--listen", "unix:///run/ipcd/ipcd.sock", "--listen", tcp)
	later := c.run("ipcd", "token", "new", "later", "--service", "ipcd")
	hello := func(token string) {
		t.Helper()
		if got := c.exits(0, "ada", "env", "IPCD_TOKEN="+token, "ipcd", "call", "-e", tcp, "hello"); got != "hello" {
			t.Errorf("with a token the service says %q", got)
		}
	}
	for range 2 { // once more with another user of DynamicUser=, or the same
		hello(early)
		hello(later)
		c.refused(1, "ada", "a token is needed here", "ipcd", "call", "-e", tcp, "hello")
		c.run("systemctl", "restart", "ipcd.service")
	}
	c.run("ipcd", "token", "rm", "early", "--service", "ipcd")
	c.refused(1, "ada", "not one of this daemon's", "env", "IPCD_TOKEN="+early, "ipcd", "call", "-e", tcp, "hello")
	hello(later)
	c.refused(1, "ada", "the tokens of the service ipcd are not yours: permission denied", "ipcd", "token", "ls", "--service", "ipcd")
	c.refused(1, "ada", "as one of those who may control the service: root", "ipcd", "token", "new", "mine", "--service", "ipcd")
	if got := c.run("ipcd", "token", "ls", "--service", "ipcd"); !strings.Contains(got, "later ") || strings.Contains(got, "early ") {
		t.Errorf("ls prints %q", got)
	}
}
