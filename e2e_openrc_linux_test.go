package main

// This file owns the tests of the service under OpenRC: a Debian with it is booted in namespaces of its
// own, and what an administrator types is typed. .ci/systemd makes the Debian.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { testPrograms["boot-openrc"] = bootOpenRC }

// bootOpenRC becomes PID 1 of a container: boot-openrc ROOT DIR. It is started in namespaces of its
// own, so that the mounts are gone when the container is.
func bootOpenRC() {
	err := func() error {
		root, dir := os.Args[1], os.Args[2]
		at := dir + "/root"
		for _, m := range []struct {
			kind, at, data string
			flags          uintptr
		}{
			{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
			{"overlay", at, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", root, dir, dir), 0},
			{"proc", at + "/proc", "", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV},
			{"tmpfs", at + "/run", "mode=755", unix.MS_NOSUID | unix.MS_NODEV},
			{"tmpfs", at + "/dev", "mode=755", unix.MS_NOSUID},
		} {
			if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil {
				return fmt.Errorf("mount %s: %w", m.at, err)
			}
		}
		for minor, name := range map[uint32]string{3: "null", 5: "zero", 8: "random", 9: "urandom"} {
			file := at + "/dev/" + name
			if err := errors.Join(unix.Mknod(file, unix.S_IFCHR, int(unix.Mkdev(1, minor))), os.Chmod(file, 0o666)); err != nil {
				return fmt.Errorf("make %s: %w", file, err)
			}
		}
		if err := errors.Join(unix.Chroot(at), unix.Chdir("/")); err != nil {
			return err
		}
		return unix.Exec("/sbin/openrc-init", []string{"openrc-init"}, os.Environ())
	}()
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

// startOpenRC boots a container with the program at ipcd as its /usr/local/bin/ipcd.
func startOpenRC(t testing.TB, root, ipcd string) *container {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	must(t, err)
	c := &container{t: t, root: root, dir: dir, name: "openrc", out: &logBuffer{}, openRC: true}
	t.Cleanup(c.remove)
	for _, sub := range []string{"work", "root", "upper/usr/local/bin"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	must(t, copyFile(ipcd, filepath.Join(dir, "upper/usr/local/bin/ipcd")))
	c.bootOpenRC()
	return c
}

// bootOpenRC returns once the default runlevel has been reached.
func (c *container) bootOpenRC() {
	c.t.Helper()
	cmd := exec.Command("boot-openrc", c.root, c.dir)
	cmd.Stdout, cmd.Stderr = c.out, c.out
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", leakMark + "=" + os.Getenv(leakMark)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET}
	program, err := exec.LookPath(cmd.Path)
	must(c.t, err)
	cmd.Path = program
	c.ended = startBound(c.t, cmd, func() {})
	c.leader = cmd.Process
	waitFor(c.t, func() error {
		if level, err := os.ReadFile(c.path("/run/openrc/softlevel")); err != nil || strings.TrimSpace(string(level)) != openRCLevel {
			return fmt.Errorf("the container is in runlevel %q, %v; it said:\n%s", level, err, c.out)
		}
		if _, err := os.Stat(c.path("/run/openrc/rc.starting")); err == nil {
			return fmt.Errorf("the container is still starting; it said:\n%s", c.out)
		}
		return nil
	})
}

// rebootOpenRC shuts the system down and boots it again. What is in memory is gone, as /run is.
func (c *container) rebootOpenRC() {
	c.t.Helper()
	c.run("openrc-shutdown", "--reboot", "now")
	select {
	case <-c.ended:
	case <-time.After(bootPatience):
		c.t.Fatalf("the container does not shut down; it said:\n%s", c.out)
	}
	c.bootOpenRC()
}

// waitHello is for a daemon that OpenRC has started: it does not wait until that listens.
func (c *container) waitHello() {
	c.t.Helper()
	waitFor(c.t, func() error {
		if r := c.try("", "ipcd", "call", "hello"); r.code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
}

func TestOpenRCInAContainer(t *testing.T) {
	root := os.Getenv("IPCD_OPENRC_ROOT")
	if root == "" { // in CI it is a step of its own that sets it
		t.Skip("$IPCD_OPENRC_ROOT is not set: IPCD_OPENRC_ROOT=$(.ci/systemd prepare openrc)")
	}
	needRoot(t)
	needTool(t, "nsenter")
	c := startOpenRC(t, root, buildIpcd(t, t.TempDir(), ""))
	c.addUser("ada")
	c.addUser("bob")
	c.run("groupadd", "callers")
	c.run("usermod", "-aG", "callers", "ada")
	before := c.snapshot()
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c *container)
	}{
		{"Newcomer", testOpenRCNewcomer},
		{"Control", testOpenRCControl},
		{"RestartUnderLoad", testOpenRCRestartUnderLoad},
		{"AllowGroup", testOpenRCAllowGroup},
		{"Refuses", testOpenRCRefuses},
		{"GivesUp", testOpenRCGivesUp},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, c.in(t)) }) {
			return
		}
	}
	c.run("ipcd", "uninstall", "--purge")
	before.check(c)
	c.exits(4, "", "ipcd", "status")
	c.run("ipcd", "uninstall")
	c.run("ipcd", "install")
	c.rebootOpenRC()
	c.waitHello()
	c.run("ipcd", "uninstall")
	if r := c.try("", "getent", "passwd", "ipcd"); r.code == 0 {
		t.Errorf("uninstall leaves the user behind: %s", r)
	}
}

// openRCReport is what the tests want to know of status --json.
func openRCReport(c *container, code int) (r struct {
	PID      int `json:"pid"`
	Restarts int `json:"restarts"`
}) {
	c.t.Helper()
	var all struct{ Service json.RawMessage }
	must(c.t, json.Unmarshal([]byte(c.exits(code, "", "ipcd", "status", "--json")), &all))
	must(c.t, json.Unmarshal(all.Service, &r))
	return r
}

// testOpenRCNewcomer types what the README says, and looks at who it is that answers.
func testOpenRCNewcomer(t *testing.T, c *container) {
	nothing := c.snapshot()
	c.exits(4, "", "ipcd", "status")
	dry := c.run("ipcd", "install", "--dry-run")
	for _, words := range []string{"useradd", "/etc/init.d/ipcd", "supervise-daemon", "rc-update add ipcd default"} {
		if !strings.Contains(dry, words) {
			t.Errorf("--dry-run does not show %q:\n%s", words, dry)
		}
	}
	nothing.check(c)
	c.run("ipcd", "install")
	c.hello()
	r := openRCReport(c, 0)
	status, err := os.ReadFile(c.path(fmt.Sprintf("/proc/%d/status", r.PID)))
	must(t, err)
	uid := c.uid("ipcd")
	for _, line := range []string{fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid), "CapEff:\t0000000000000000\n"} {
		if uid == 0 || !strings.Contains(string(status), line) {
			t.Errorf("the daemon is\n%s\nwant a line %q", status, line)
		}
	}
	c.run("ipcd", "install")
	if again := openRCReport(c, 0); again != r {
		t.Errorf("a second install has made %+v of %+v", again, r)
	}
}

// testOpenRCControl stops and starts it in every way.
func testOpenRCControl(t *testing.T, c *container) {
	first := openRCReport(c, 0)
	c.run("sh", "-c", fmt.Sprintf("kill -KILL %d", first.PID))
	c.waitHello()
	second := openRCReport(c, 0)
	if second.PID == first.PID || second.Restarts != 1 {
		t.Errorf("after kill -KILL it is %+v; it was %+v", second, first)
	}
	c.run("rc-service", "ipcd", "reload")
	c.hello()
	if again := openRCReport(c, 0); again != second {
		t.Errorf("after a reload it is %+v; it was %+v", again, second)
	}
	if got := c.run("ipcd", "restart"); !strings.HasPrefix(got, "the service ipcd (OpenRC) has been started anew") {
		c.t.Errorf("restart says %q; want that it was the service", got)
	}
	c.hello()
	if got := c.run("ipcd", "logs", "-n", "1"); !strings.Contains(got, "listening") || strings.Contains(strings.TrimSpace(got), "\n") {
		c.t.Errorf("the last line of the log is %q", got)
	}
	if got := c.exits(0, "", "ipcd", "status"); !strings.Contains(got, "/var/log/ipcd.log") {
		c.t.Errorf("status says %q; want where the log is", got)
	}
	c.run("ipcd", "stop")
	c.run("ipcd", "stop")
	c.exits(3, "", "ipcd", "status")
	c.exits(3, "", "rc-service", "ipcd", "status")
	c.run("ipcd", "start")
	c.run("ipcd", "start")
	c.hello()
	c.run("rc-service", "ipcd", "restart")
	c.waitHello()
}

// testOpenRCRestartUnderLoad restarts the service, and then gives it a newer program, while it is called: OpenRC holds no socket, so
// that the daemon does it in its own process, which supervise-daemon does not notice.
func testOpenRCRestartUnderLoad(t *testing.T, c *container) {
	const newer = "v1.99.0"
	restarts := 10
	if testing.Short() {
		restarts = 3
	}
	before := openRCReport(c, 0)
	l := startLoad(c.path("/run/ipcd/ipcd.sock"))
	defer l.stop()
	for range restarts {
		l.waitCalls(t, loadRate/4)
		c.run("ipcd", "restart")
	}
	old := filepath.Join(t.TempDir(), "ipcd")
	text, err := os.ReadFile(c.path("/usr/local/bin/ipcd"))
	must(t, errors.Join(err, os.WriteFile(old, text, 0o755)))
	c.replaceProgram(buildIpcd(t, t.TempDir(), newer))
	c.run("ipcd", "restart")
	if got := c.run("ipcd", "status", "--json"); !strings.Contains(got, newer) {
		t.Errorf("after the upgrade the daemon is %s; want %s", got, newer)
	}
	c.replaceProgram(old)
	c.run("ipcd", "restart")
	l.waitCalls(t, loadRate/4)
	if err := l.end(t); err != nil {
		t.Errorf("calls were lost: %v", err)
	}
	if again := openRCReport(c, 0); again != before {
		t.Errorf("after the restarts it is %+v; it was %+v", again, before)
	}
	c.write("/etc/ipcd/config.toml", "log_levle = 1\n")
	if r := c.try("", "ipcd", "restart"); r.code != exitUsage || !r.says("was left as it is") {
		t.Errorf("a restart with a configuration that is wrong: %s", r)
	}
	if r := c.try("", "ipcd", "--config", "/dev/null", "call", "Ipcd.Restart"); r.code != exitFailed || !r.says("log_levle") {
		t.Errorf("a restart with a configuration that is wrong: %s", r)
	}
	c.run("rm", "-r", "/etc/ipcd")
	c.hello()
}

// testOpenRCAllowGroup lets the members of a group call, and nobody else.
func testOpenRCAllowGroup(t *testing.T, c *container) {
	if r := c.try("", "ipcd", "install", "--allow-group", "callers"); r.code != 1 || !r.says("--force") {
		t.Errorf("%s; want it to show the difference, and to want --force", r)
	}
	c.run("ipcd", "install", "--allow-group", "callers", "--force")
	c.hello()
	if got := c.exits(0, "ada", "ipcd", "call", "hello"); got != "hello" {
		t.Errorf("a member of the group gets %q", got)
	}
	if r := c.try("bob", "ipcd", "call", "hello"); r.code == 0 {
		t.Errorf("%s; want a stranger to be refused", r)
	}
	c.run("ipcd", "install", "--force")
	if r := c.try("ada", "ipcd", "call", "hello"); r.code == 0 {
		t.Errorf("%s; want nobody but root to be served again", r)
	}
}

func testOpenRCRefuses(t *testing.T, c *container) {
	before := c.snapshot()
	c.refused(1, "ada", "OpenRC has services of the system alone", "ipcd", "install", "--user")
	c.refused(1, "ada", "this takes root", "ipcd", "install", "--name", "second")
	c.refused(1, "", "the user games", "ipcd", "install", "--name", "games")
	c.refused(2, "", "--run-as", "ipcd", "install", "--name", "second", "--run-as", "ada;reboot")
	c.write("/etc/init.d/third", "#!/sbin/openrc-run\n")
	c.refused(1, "", "/etc/init.d/third", "ipcd", "install", "--name", "third")
	c.refused(1, "", "/etc/init.d/third", "ipcd", "uninstall", "--name", "third")
	c.run("rm", "/etc/init.d/third")
	before.check(c)
	// Another instance, as a user that is there, leaves the first alone.
	c.run("ipcd", "install", "--name", "second", "--run-as", "ada")
	if got := c.run("ipcd", "call", "-e", "unix:///run/second/second.sock", "hello"); got != "hello" {
		t.Errorf("the second instance says %q", got)
	}
	c.hello()
	c.run("ipcd", "uninstall", "--name", "second", "--purge")
	c.hello()
	before.check(c)
}

// testOpenRCGivesUp has a daemon that ends again and again, and then is forgiven.
func testOpenRCGivesUp(t *testing.T, c *container) {
	c.run("ipcd", "stop")
	c.run("sed", "-i", "s/^respawn_delay=.*/respawn_delay=1/; s/^respawn_max=.*/respawn_max=1/", "/etc/init.d/ipcd")
	c.run("mkdir", "-p", "/run/ipcd/ipcd.sock") // where it wants to listen
	c.try("", "rc-service", "ipcd", "start")
	waitFor(t, func() error {
		if r := c.try("", "ipcd", "status"); r.code != 3 || !r.says("given up") || !r.says("/run/ipcd/ipcd.sock") {
			return fmt.Errorf("%s; want that it was given up, and why it has ended", r)
		}
		return nil
	})
	c.run("rmdir", "/run/ipcd/ipcd.sock")
	c.run("ipcd", "start")
	c.hello()
	c.refused(1, "", "respawn_delay", "ipcd", "install") // the script was edited by hand
	c.run("ipcd", "install", "--force")
	c.hello()
	if _, err := os.Stat(c.path("/run/openrc/failed/ipcd")); err == nil {
		t.Error("OpenRC still says that it has failed")
	}
}
