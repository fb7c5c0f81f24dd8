package main

// This file owns a Debian that is booted with systemd in a container, for the tests of the
// service. It costs a second. What is done in it is gone with it.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { testPrograms["boot-container"] = bootContainer }

const (
	bootPatience     = time.Minute // for a boot on a loaded machine, and for a command in the container
	rebootCode       = 133         // with which systemd-nspawn ends when the system in it wants to reboot
	containerJournal = 150         // lines of it that a failed test shows
)

// bootContainer becomes the systemd-nspawn of a container: boot-container ROOT DIR NAME CGROUP...
// It is started in a mount namespace of its own, so that the overlay is gone when the container is.
func bootContainer() {
	root, dir, name := os.Args[1], os.Args[2], os.Args[3]
	err := func() error {
		for _, group := range os.Args[4:] {
			if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0); err != nil {
				return err
			}
		}
		layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", root, dir, dir)
		if err := unix.Mount("overlay", dir+"/root", "overlay", 0, layers); err != nil {
			return fmt.Errorf("mount an overlay with %s: %w", layers, err)
		}
		nspawn, err := exec.LookPath("systemd-nspawn")
		if err != nil {
			return err
		}
		return unix.Exec(nspawn, []string{"systemd-nspawn", "--quiet", "--directory=" + dir + "/root", "--machine=" + name,
			"--boot", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--link-journal=no", "--notify-ready=yes"}, os.Environ())
	}()
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

// A container is one booted copy of the root in $IPCD_SYSTEMD_ROOT. The copy is an overlay, and
// survives a reboot.
type container struct {
	t       testing.TB
	root    string
	dir     string   // has the layers of the overlay
	name    string   // as nspawn knows it
	cgroups []string // its own, one in each hierarchy that systemd uses
	out     *logBuffer
	openRC  bool // it has no systemd

	leader *os.Process          // PID 1 of the container
	ended  chan *exec.ExitError // gets how nspawn ended
}

// startContainer boots a container with the program at ipcd as its /usr/local/bin/ipcd.
func startContainer(t testing.TB, root, ipcd string) *container {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	must(t, err)
	c := &container{t: t, root: root, dir: dir, name: "ipcd-test-" + strconv.Itoa(os.Getpid()) + filepath.Base(dir), out: &logBuffer{}}
	t.Cleanup(c.remove)
	for _, sub := range []string{"upper", "work", "root"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	if ipcd != "" {
		bin := filepath.Join(dir, "upper/usr/local/bin")
		must(t, os.MkdirAll(bin, 0o755))
		must(t, copyFile(ipcd, filepath.Join(bin, "ipcd")))
	}
	for _, parent := range ownCgroups(t) {
		group := filepath.Join(parent, c.name)
		must(t, os.Mkdir(group, 0o755))
		c.cgroups = append(c.cgroups, group)
	}
	c.boot()
	return c
}

// ownCgroups lists where this process is in the hierarchies that systemd uses: that of version 2,
// and where it is there too, the named one of version 1. See cgroups(7).
func ownCgroups(t testing.TB) []string {
	t.Helper()
	mine, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	var found []string
	for _, kind := range []struct{ group, mount string }{
		{`(?m)^0::(.*)$`, `(?m)^\S+ (\S+) cgroup2 `},
		{`(?m)^\d+:name=systemd:(.*)$`, `(?m)^\S+ (\S+) cgroup \S*\bname=systemd\b`},
	} {
		group, mount := regexp.MustCompile(kind.group).FindSubmatch(mine), regexp.MustCompile(kind.mount).FindSubmatch(mounts)
		if group != nil && mount != nil {
			found = append(found, filepath.Join(string(mount[1]), string(group[1])))
		}
	}
	if len(found) == 0 {
		t.Fatalf("no cgroups for systemd here:\n%s", mine)
	}
	return found
}

// boot starts nspawn and waits until the system in it says that it has booted.
func (c *container) boot() {
	c.t.Helper()
	socket := filepath.Join(c.dir, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(c.t, err)
	defer os.Remove(socket)
	defer notify.Close()
	cmd := exec.Command("boot-container", append([]string{c.root, c.dir, c.name}, c.cgroups...)...)
	cmd.Stdout, cmd.Stderr = c.out, c.out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/bin:/sbin:/bin", leakMark + "=" + os.Getenv(leakMark),
		"NOTIFY_SOCKET=" + socket, "SYSTEMD_NSPAWN_LOCK=0",
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"} // as Debian 12 has it, whatever this machine has
	// If the tests are killed, the container is told to shut down.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Setsid: true, Pdeathsig: syscall.SIGTERM}
	c.ended = startBound(c.t, cmd, func() {
		notify.SetReadDeadline(time.Now()) // nobody is there to notify us any more
	})
	notify.SetReadDeadline(time.Now().Add(bootPatience))
	if err := c.readNotifications(notify); err != nil {
		c.t.Fatalf("the container has not booted: %v; it said:\n%s", err, c.out)
	}
	if state := c.try("", "systemctl", "is-system-running", "--wait"); strings.TrimSpace(state.stdout) != "running" {
		c.t.Fatalf("the container is %s\n%s", state, c.try("", "systemctl", "--failed", "--no-pager"))
	}
}

// startBound starts a command that has a Pdeathsig, and returns where it is told how it has ended. Before
// that, over is called.
func startBound(t testing.TB, cmd *exec.Cmd, over func()) chan *exec.ExitError {
	t.Helper()
	started := make(chan error)
	ended := make(chan *exec.ExitError, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that starts it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		var failed *exec.ExitError
		errors.As(cmd.Wait(), &failed)
		over()
		ended <- failed
	}()
	must(t, <-started)
	return ended
}

// readNotifications returns once the system has booted. See sd_notify(3) and, for who tells the
// leader, --notify-ready= in systemd-nspawn(1).
func (c *container) readNotifications(notify *net.UnixConn) error {
	c.leader = nil
	for buf := make([]byte, 4<<10); ; {
		n, err := notify.Read(buf)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(buf[:n])) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch name {
			case "X_NSPAWN_LEADER_PID":
				pid, err := strconv.Atoi(value)
				if err != nil {
					return err
				}
				if c.leader, err = os.FindProcess(pid); err != nil {
					return err
				}
			case "READY":
				if c.leader == nil {
					return errors.New("it is ready and has no leader")
				}
				return nil
			}
		}
	}
}

// reboot shuts the system down and boots it again. What is in memory is gone, as /run is.
func (c *container) reboot() {
	c.t.Helper()
	c.run("systemctl", "reboot")
	select {
	case failed := <-c.ended:
		c.leader.Release()
		c.leader = nil
		if failed == nil || failed.ExitCode() != rebootCode {
			c.t.Fatalf("nspawn ended with %v; want exit code %d", failed, rebootCode)
		}
	case <-time.After(bootPatience):
		c.t.Fatal("the container does not shut down")
	}
	c.boot()
}

// remove shows the journal of a test that failed, ends the container, and leaves nothing of it.
func (c *container) remove() {
	if c.leader != nil {
		if c.t.Failed() && !c.openRC {
			c.t.Logf("the journal:\n%s", c.try("", "journalctl", "--no-pager", "-o", "short-precise", "-n", strconv.Itoa(containerJournal)).stdout)
		}
		c.leader.Kill() // and with it all processes of the namespace
	}
	if c.ended != nil {
		select {
		case <-c.ended:
		case <-time.After(bootPatience):
			c.t.Error("the container does not end")
		}
	}
	if c.leader != nil {
		c.leader.Release()
	}
	for _, group := range c.cgroups {
		if err := poll(func() error { return removeCgroup(group) }); err != nil {
			c.t.Errorf("a process of the container is left: %v", err)
		}
	}
	for _, dir := range []string{"propagate/" + c.name, "propagate", "."} { // those that nobody else needs
		os.Remove(filepath.Join("/run/systemd/nspawn", dir))
	}
	if err := poll(func() error { return os.RemoveAll(c.dir) }); err != nil {
		c.t.Error(err)
	}
}

// removeCgroup removes a cgroup and those in it, which works once no process is in them.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(err, os.Remove(dir))
}

// in is the container for a subtest, which does not reboot it.
func (c *container) in(t testing.TB) *container {
	sub := *c
	sub.t = t
	return &sub
}

// path is a file of the container as this process finds it.
func (c *container) path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", c.leader.Pid, name)
}

// write puts a file into the container.
func (c *container) write(name string, text string) {
	c.t.Helper()
	must(c.t, os.MkdirAll(filepath.Dir(c.path(name)), 0o755))
	must(c.t, os.WriteFile(c.path(name), []byte(text), 0o644))
}

// A result is how a command has ended.
type result struct {
	command        string
	stdout, stderr string
	code           int // -1 for one that did not end by itself
}

func (r result) String() string {
	return fmt.Sprintf("%q: exit code %d\n%s%s", r.command, r.code, r.stdout, r.stderr)
}

// says tells whether the words are in what was printed.
func (r result) says(words string) bool { return strings.Contains(r.stdout+r.stderr, words) }

// try runs a command in the container as that user, "" being root.
func (c *container) try(user string, args ...string) result {
	c.t.Helper()
	return c.start(user, args...)()
}

// start begins a command in the container; what it returns waits for the end.
func (c *container) start(user string, args ...string) (wait func() result) {
	c.t.Helper()
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root", "LANG": "C.UTF-8"}
	argv := []string{"--target", strconv.Itoa(c.leader.Pid), "--all", "--root", "--wd", "--"}
	if user != "" {
		argv = append(argv, "setpriv", "--reuid", user, "--regid", user, "--init-groups")
		env["HOME"], env["USER"] = "/home/"+user, user
		env["XDG_RUNTIME_DIR"] = fmt.Sprintf("/run/user/%d", c.uid(user))
	}
	argv = append(argv, "env", "-i")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		argv = append(argv, name+"="+env[name])
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootPatience)
	cmd := exec.CommandContext(ctx, "nsenter", append(argv, args...)...)
	cmd.WaitDelay = time.Second // its child is not killed with it, but with the container
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(c.t, cmd.Start())
	return func() result {
		defer cancel()
		r := result{command: strings.Join(args, " ")}
		var failed *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &failed) {
			r.code = failed.ExitCode()
		} else if err != nil {
			fmt.Fprintln(&stderr, err)
			r.code = -1
		}
		r.stdout, r.stderr = stdout.String(), stderr.String()
		return r
	}
}

// signal sends a signal to a process of the container.
func (c *container) signal(name, pid string) {
	c.t.Helper()
	c.run("sh", "-c", "kill -"+name+" "+pid) // the shell's own: there is no /bin/kill
}

// uid looks a user up as the container does.
func (c *container) uid(user string) int {
	c.t.Helper()
	uid, err := strconv.Atoi(c.run("id", "-u", user))
	must(c.t, err)
	return uid
}

// run runs a command as root, which must succeed, and returns what it printed to stdout, without
// the last newline.
func (c *container) run(args ...string) string {
	c.t.Helper()
	return c.exits(0, "", args...)
}

// exits runs a command as that user, which must end with that exit code.
func (c *container) exits(code int, user string, args ...string) string {
	c.t.Helper()
	r := c.try(user, args...)
	if r.code != code {
		c.t.Fatalf("%s; want exit code %d", r, code)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// refused runs a command as that user, which must end with that exit code and these words.
func (c *container) refused(code int, user, words string, args ...string) {
	c.t.Helper()
	if r := c.try(user, args...); r.code != code || !r.says(words) {
		c.t.Errorf("%s; want exit code %d and %q", r, code, words)
	}
}

// show reads a property of a unit, as systemctl(1) show has it.
func (c *container) show(unit, property string) string {
	c.t.Helper()
	return c.run("systemctl", "show", "--value", "-p", property, unit)
}

// waitShow waits until a property of a unit has that value.
func (c *container) waitShow(unit, property, want string) {
	c.t.Helper()
	waitFor(c.t, func() error {
		if got := c.show(unit, property); got != want {
			return fmt.Errorf("%s of %s is %q; want %q", property, unit, got, want)
		}
		return nil
	})
}

// buildIpcd builds this program as it is shipped. With a version, it is that one.
func buildIpcd(t testing.TB, dir, version string) string {
	t.Helper()
	file := filepath.Join(dir, "ipcd"+version)
	build := exec.Command("go", "build", "-trimpath", "-o", file, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOOS=linux")
	if version != "" { // the build takes it from the tag of a repository
		source := copySource(t, filepath.Join(dir, "source"))
		for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "t"}, {"tag", version}} {
			git := exec.Command("git", args...)
			git.Dir = source
			if out, err := git.CombinedOutput(); err != nil {
				t.Fatalf("git %q: %v\n%s", args, err, out)
			}
		}
		build.Dir = source
		build.Env = append(build.Env, "GOFLAGS=-buildvcs=true")
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// copySource copies what the program is built from.
func copySource(t testing.TB, to string) string {
	t.Helper()
	list := exec.Command("go", "list", "-f", `{{range .GoFiles}}{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{.}}{{"\n"}}{{end}}`, ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	must(t, err)
	for _, name := range append(strings.Fields(string(out)), "go.mod", "go.sum") {
		text, err := os.ReadFile(name)
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(to, name), text, 0o644))
	}
	return to
}

// replaceProgram puts another program in the place of the container's ipcd.
func (c *container) replaceProgram(file string) {
	c.t.Helper()
	beside := c.path("/usr/local/bin/.new")
	text, err := os.ReadFile(file)
	must(c.t, err)
	must(c.t, os.WriteFile(beside, text, 0o755))
	must(c.t, os.Rename(beside, c.path("/usr/local/bin/ipcd")))
}
