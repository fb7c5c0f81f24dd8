//go:build unix

package main

// These tests play the service manager: they check what the daemon notifies it of, and how it reloads.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A managed daemon is a service of the user's own, whose manager is the test.
type managed struct {
	*testing.T
	cmd      *exec.Cmd
	log      *logBuffer
	endpoint endpoint
	config   string      // its configuration
	heard    chan string // what it tells, a message each
	ended    chan struct{}
}

// manage starts the service "other" with a configuration, and waits until it says that it is ready.
func manage(t *testing.T, config string, env ...string) *managed {
	t.Helper()
	dir := tempDir(t)
	m := &managed{T: t, log: &logBuffer{}, heard: make(chan string, 1000), ended: make(chan struct{})}
	m.config = filepath.Join(dir, "config", "other", "config.toml")
	must(t, os.MkdirAll(filepath.Dir(m.config), 0o700))
	m.configure(config)
	m.endpoint = at(dir + "/other/other.sock")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	must(t, err)
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		b := make([]byte, 64<<10)
		for {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			m.heard <- string(b[:n])
		}
	}()
	m.cmd = exec.Command("ipcd", "run", "--service", "other", "--user")
	m.cmd.Stderr = m.log
	m.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_CONFIG_HOME="+dir+"/config", "HOME="+dir, "NOTIFY_SOCKET="+dir+"/notify")
	m.cmd.Env = append(m.cmd.Env, env...)
	must(t, m.cmd.Start())
	go func() {
		m.cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		m.cmd.Process.Kill()
		<-m.ended
		l.Close()
		<-listened
		os.RemoveAll(dir + "/config")
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", m.log)
		}
	})
	m.hears("READY=1\nSTATUS=serving " + m.endpoint.String())
	return m
}

// configure writes its configuration.
func (m *managed) configure(text string) {
	m.Helper()
	must(m, os.WriteFile(m.config, []byte(text), 0o600))
}

// hears waits for a message that begins with words; those before it are let pass.
func (m *managed) hears(words string) string {
	m.Helper()
	for {
		if got := receive(m.T, m.heard); strings.HasPrefix(got, words) {
			return got
		}
	}
}

// reload has it read its configuration again and returns what it says then.
func (m *managed) reload(config string) (status string) {
	m.Helper()
	m.configure(config)
	must(m, m.cmd.Process.Signal(syscall.SIGHUP))
	if got := m.hears("RELOADING=1\n"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		m.Errorf("the manager hears %q; want the time, too", got)
	}
	return m.hears("READY=1\n")
}

// exits waits for its end.
func (m *managed) exits(code int) {
	m.Helper()
	receive(m.T, m.ended)
	if got := m.cmd.ProcessState.ExitCode(); got != code {
		m.Errorf("exit code %d; want %d", got, code)
	}
}

func (m *managed) dial() caller {
	m.Helper()
	c, err := dial(m.Context(), m.endpoint, dialOptions{limits: defaultLimits()})
	must(m, err)
	m.Cleanup(func() { c.close() })
	return c
}

func TestDaemonTellsItsManager(t *testing.T) {
	m := manage(t, "")
	checkSay(t, m.dial(), "it is ready when it says so")
	must(t, m.cmd.Process.Signal(syscall.SIGTERM))
	m.hears("STOPPING=1\nSTATUS=stopping")
	m.exits(exitDone)
}

func TestDaemonServesTheWatchdog(t *testing.T) {
	m := manage(t, "", "WATCHDOG_USEC=300000")
	for range 5 {
		m.hears("WATCHDOG=1")
	}
	m.reload("idle = \"200ms\"")
	m.exits(exitDone) // what it does for the watchdog does not keep it from being idle
	if log := m.log.String(); !strings.Contains(log, "idle for too long") {
		t.Error("it ended for another reason than the idle time")
	}
}

func TestCallItself(t *testing.T) {
	t.Parallel() // it waits, most of the time
	s := startServerWith(t, nil)
	must(t, s.callItself(t.Context(), testPatience))
	s.mu.Lock() // what a connection needs is not to be had
	err := s.callItself(t.Context(), 10*time.Millisecond)
	s.mu.Unlock()
	checkCode(t, "a call where a lock is held", err, codeDeadline, "deadline")
	must(t, s.callItself(t.Context(), testPatience))
}

// TestCallItselfCountsNowhere looks at the counts while a daemon calls itself and after, for each end that a call
// can have.
func TestCallItselfCountsNowhere(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	c, err := dial(t.Context(), s.endpoints[0], dialOptions{limits: defaultLimits()})
	must(t, err)
	defer c.close()
	checkSay(t, c, "hello")
	ping, f := s.router.find("Ipcd.Ping", theOwner)
	if f != nil {
		t.Fatal(f)
	}
	counted := func() [4]int64 {
		status, err := (&Ipcd{server: s.server}).Status(t.Context())
		must(t, err)
		return [4]int64{status.Connections, status.Accepted, status.Calls, status.Errors}
	}
	want, during := counted(), make(chan [4]int64, 1)
	for _, test := range []struct {
		end   string
		limit time.Duration
		ping  func(ctx context.Context) error
		code  int
	}{
		{"an answer", testPatience, func(context.Context) error { return nil }, 0},
		{"an error", testPatience, func(context.Context) error { return errInternal }, codeInternal},
		{"no answer in time", 100 * time.Millisecond, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, codeDeadline},
	} {
		ping.invoke = func(ctx context.Context, _ any) (any, error) {
			during <- counted()
			return "pong", test.ping(ctx)
		}
		if err := s.callItself(t.Context(), test.limit); test.code != 0 {
			checkCode(t, test.end, err, test.code, "")
		} else {
			must(t, err)
		}
		if got := receive(t, during); got != want {
			t.Errorf("%s: while the daemon calls itself, connections, accepted, calls and errors are %d; want %d", test.end, got, want)
		}
	}
	c.close()
	s.halt() // which waits for all of it
	want[0] = 0
	if got := counted(); got != want {
		t.Errorf("the daemon has called itself, and connections, accepted, calls and errors are %d; want %d", got, want)
	}
}

func TestReloadAppliesTheSettings(t *testing.T) {
	m := manage(t, "log_level = \"warn\"")
	before := m.dial()
	checkSay(t, before, strings.Repeat("a", 2000))
	if status := m.reload("log_level = \"debug\"\nlog_format = \"text\"\n[limits]\nmax_message = \"1KiB\"\n"); strings.Contains(status, "refused") {
		t.Errorf("the manager hears %q", status)
	}
	after := m.dial()
	checkSay(t, after, "hello")
	checkCode(t, "a long message", ask(after, "Echo.Say", strings.Repeat("a", 2000), nil), codeTooLarge, "max_message")
	checkSay(t, before, strings.Repeat("a", 2000)) // those who were there keep their limits
	waitFor(t, func() error {
		if log := m.log.String(); !strings.Contains(log, " info  the settings were read again") || !strings.Contains(log, " debug connect ") {
			return errors.New("the log is not at the level debug and in text")
		}
		return nil
	})
	before.close()
	after.close()
	m.reload("idle = \"10ms\"")
	m.exits(exitDone)
}

func TestReloadRefusesWhatIsWrong(t *testing.T) {
	t.Parallel() // it waits, most of the time
	m := manage(t, "[limits]\nmax_message = \"1KiB\"\n")
	for _, test := range []struct{ config, want, hint string }{
		{"idle = \"1h\"\n[limits]\nmax_mesage = 1\n", m.config + ":3: limits.max_mesage: unknown key", "did you mean limits.max_message?"},
		{"idle = \"1h\"\nallow_group = \"no-such-group\"\n", m.config + `:2: allow_group: there is no group "no-such-group"`, "groupadd"},
		{"idle = [", m.config + ":1:", "toml.io"},
		{"listen = [\"unix:///tmp/mine/ipcd.sock\"]\n[limits]\nmax_message = \"2KiB\"\n", "listen: the endpoints cannot change while the daemon runs", "ipcd install --force"},
	} {
		status := m.reload(test.config)
		if !strings.Contains(status, "STATUS=serving ") || !strings.Contains(status, "the settings were refused when they were read again: "+test.want) {
			t.Errorf("the manager hears %q; want %q", status, test.want)
		}
		waitFor(t, func() error {
			log := m.log.String()
			if !strings.Contains(log, `"level":"error","msg":"the settings were refused; those from before stay in force"`) || !strings.Contains(log, test.hint) {
				return fmt.Errorf("the log does not say what is wrong, and the hint %q", test.hint)
			}
			return nil
		})
		checkCode(t, "a long message", ask(m.dial(), "Echo.Say", strings.Repeat("a", 1500), nil), codeTooLarge, "max_message")
	}
	if status := m.reload(""); strings.Contains(status, "refused") {
		t.Errorf("with the right settings the manager hears %q", status)
	}
	checkSay(t, m.dial(), strings.Repeat("a", 2000))
	must(t, m.cmd.Process.Signal(syscall.SIGTERM))
	m.exits(exitDone)
}

// What is kept of topics follows the configuration: what goes on being kept of one stays, and whoever subscribed before hears
// of everything.
func TestReloadChangesWhatIsKept(t *testing.T) {
	config := func(topics ...string) string {
		text := "[[topic]]\nname = \"mark\"\nkeep = 100\n"
		for _, topic := range topics {
			name, keep, _ := strings.Cut(topic, " ")
			text += fmt.Sprintf("[[topic]]\nname = %q\nkeep = %s\n", name, keep)
		}
		return text
	}
	m := manage(t, config("a 2"))
	c := m.dial()
	publish := func(topic string, data int) (id string) {
		t.Helper()
		var answer Published
		must(t, ask(c, publishMethod, map[string]any{"topic": topic, "data": data}, &answer))
		return answer.ID
	}
	began, marks := publish("mark", 0), 0
	keeps := func(want ...string) { // what comes to a new subscriber
		t.Helper()
		conn := subscribeOver(t, m.endpoint, `{"topics":["a","mark"],"after":"`+began+`"}`)
		defer conn.Close()
		marks++
		publish("mark", marks)
		var got []string
		for text := ""; text != fmt.Sprint("mark ", marks); text = readEvent(t, conn) {
			if strings.HasPrefix(text, `{"missed":null,`) {
				text = "missed"
			}
			if text != "" && !strings.HasPrefix(text, "mark ") {
				got = append(got, text)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("there is kept %q; want %q", got, want)
		}
	}
	all, settings := subscribeOver(t, m.endpoint, `{"topics":["a"]}`), subscribeOver(t, m.endpoint, `{"topics":["ipcd.config.*"]}`)
	last := 0
	publishes := func(n int) {
		t.Helper()
		for range n {
			last++
			publish("a", last)
			if got, want := readEvent(t, all), fmt.Sprint("a ", last); got != want {
				t.Errorf("whoever was there hears %s; want %s", got, want)
			}
		}
	}
	reload := func(config, want string) {
		t.Helper()
		m.reload(config)
		if got := readEvent(t, settings); got != want {
			t.Errorf("there comes %s; want %s", got, want)
		}
	}
	const loaded, refused = "ipcd.config.loaded null", "ipcd.config.refused null"
	publishes(3)
	keeps("missed", "a 2", "a 3")
	reload(config("a 4"), loaded) // raised
	keeps("missed", "a 2", "a 3")
	publishes(2)
	keeps("missed", "a 2", "a 3", "a 4", "a 5")
	reload(config("a 1", "b 0"), refused)
	keeps("missed", "a 2", "a 3", "a 4", "a 5")
	reload(config("a 3"), loaded) // lowered
	keeps("missed", "a 3", "a 4", "a 5")
	reload(config("b 3"), loaded) // removed
	publishes(1)
	keeps("missed")
	reload(config("b 3", "a 3"), loaded) // there again
	publishes(1)
	keeps("missed", "a 7")
	reload(config("a 3", "*.> 9"), loaded)
	publishes(1)
	keeps("missed", "a 7", "a 8")
}

func TestReloadChangesTheGroup(t *testing.T) {
	needRoot(t) // who alone can give a socket to any group
	m := manage(t, "")
	for _, step := range []struct {
		gid  int
		mode fs.FileMode
	}{{4711, 0o660}, {4712, 0o660}, {0, 0o600}} {
		m.reload(fmt.Sprintf("allow_group = %q", map[bool]string{true: strconv.Itoa(step.gid)}[step.gid != 0]))
		info, err := os.Lstat(m.endpoint.Path)
		must(t, err)
		if gid := int(info.Sys().(*syscall.Stat_t).Gid); info.Mode().Perm() != step.mode || step.gid != 0 && gid != step.gid {
			t.Errorf("the socket has mode %v and group %d; want %v and %d", info.Mode(), gid, step.mode, step.gid)
		}
		checkSay(t, m.dial(), "hello")
	}
}

// TestCrashIsNoBadUsage ends a service as its watchdog does, with a signal at which Go says what each
// goroutine does and exits with 2: from that code no manager would start it again.
func TestCrashIsNoBadUsage(t *testing.T) {
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_CORE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Max: before.Max})) // the daemon inherits it: no file
	m := manage(t, "")
	must(t, unix.Setrlimit(unix.RLIMIT_CORE, &before))
	must(t, m.cmd.Process.Signal(syscall.SIGABRT))
	receive(t, m.ended)
	if status := m.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGABRT || !strings.Contains(m.log.String(), "SIGABRT: abort") {
		t.Errorf("it ended with %v; want SIGABRT, and in the log what it was doing", m.cmd.ProcessState)
	}
}

// TestBackgroundDaemonHasNoManager has a service start a daemon in the background: what the manager says
// to the service is not for that daemon.
func TestBackgroundDaemonHasNoManager(t *testing.T) {
	dir := tempDir(t)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	must(t, err)
	defer l.Close()
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir, "NOTIFY_SOCKET="+dir+"/notify", "WATCHDOG_USEC=30000")
	cmd := exec.Command("ipcd", "call", "--start", "--idle", "1m", "Ipcd.Status")
	cmd.Env = env
	var status Status
	must(t, json.Unmarshal([]byte(printed(t, cmd)), &status))
	must(t, syscall.Kill(status.PID, syscall.SIGTERM))
	waitFor(t, func() error {
		if log, err := os.ReadFile(dir + "/ipcd/daemon.log"); err != nil || !strings.Contains(string(log), `"msg":"stopped"`) {
			return fmt.Errorf("the daemon has not stopped: %q, %v", log, err)
		}
		return nil
	})
	must(t, l.SetReadDeadline(time.Now().Add(testPatience)))
	ours, err := net.Dial("unixgram", dir+"/notify")
	must(t, err)
	defer ours.Close()
	send(t, ours, "ours")
	b := make([]byte, 1<<10)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "ours" {
		t.Errorf("the manager hears %q, %v, of a daemon that is not its own", b[:n], err)
	}
}

// TestNotifySocketThatIsGone has a manager that does not listen: the daemon serves all the same.
func TestNotifySocketThatIsGone(t *testing.T) {
	e := at(tempSocket(t))
	cmd := exec.Command("ipcd", "run", "--listen", e.String())
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+e.Path+".none")
	log := &logBuffer{}
	cmd.Stderr = log
	must(t, cmd.Start())
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, e, defaultLimits(), testPatience)
	must(t, err)
	checkSay(t, c, "hello")
	c.close()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitDone || !strings.Contains(log.String(), "the service manager could not be notified") {
		t.Errorf("exit code %d, log\n%s", code, log)
	}
}

// TestNotifySocketThatIsNotRead has a manager that does not read: the daemon serves, and stops when it is told to. That it
// is ready is told as soon as the manager reads again.
func TestNotifySocketThatIsNotRead(t *testing.T) {
	e := at(tempSocket(t))
	path := e.Path + ".notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	defer l.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	must(t, err)
	defer unix.Close(fd)
	for err == nil {
		err = unix.Sendto(fd, []byte("full"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: path})
	}
	cmd := exec.Command("ipcd", "run", "--listen", e.String())
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	log, ended := startProgram(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, e, defaultLimits(), testPatience)
	must(t, err)
	checkSay(t, c, "hello")
	c.close()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	receive(t, ended)
	if code := cmd.ProcessState.ExitCode(); code != exitDone || !strings.Contains(log.String(), "the service manager could not be notified") {
		t.Errorf("exit code %d, log\n%s", code, log)
	}

	t.Setenv("NOTIFY_SOCKET", path)
	n := &notifier{foreground: &foreground{stderr: log}}
	defer n.logger(defaultSettings()).close()
	n.ready("serving")
	must(t, l.SetReadDeadline(time.Now().Add(testPatience)))
	b := make([]byte, 1<<10)
	for heard := ""; !strings.HasPrefix(heard, "READY=1\n"); {
		got, err := l.Read(b)
		must(t, err)
		heard = string(b[:got])
		n.status("serving")
	}
}
