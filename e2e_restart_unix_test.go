//go:build unix

package main

// This file owns restarts: a daemon that executes its program anew in its own process. Nobody is refused meanwhile, and whatever
// is wrong with the program or its settings, the daemon serves on.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A ranDaemon is "ipcd run" in a process of its own.
type ranDaemon struct {
	*testing.T
	cmd      *exec.Cmd
	log      *logBuffer
	ended    chan struct{}
	endpoint endpoint
}

// startRun starts "ipcd run", from the program and with arguments, and waits until it answers at a socket of its own.
func startRun(t *testing.T, program string, args ...string) *ranDaemon {
	t.Helper()
	d := &ranDaemon{T: t, endpoint: at(tempSocket(t))}
	d.cmd = exec.Command(program, append([]string{"run", "--log-format", "text", "--listen", d.endpoint.String()}, args...)...)
	d.log, d.ended = startProgram(t, d.cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, d.endpoint, defaultLimits(), testPatience)
	must(t, err)
	c.close()
	return d
}

func (d *ranDaemon) dial() caller {
	d.Helper()
	c, err := dial(d.Context(), d.endpoint, dialOptions{limits: defaultLimits()})
	must(d, err)
	d.Cleanup(func() { c.close() })
	return c
}

func (d *ranDaemon) status() (s Status) {
	d.Helper()
	c := d.dial()
	defer c.close()
	must(d, ask(c, "Ipcd.Status", nil, &s))
	return s
}

// restart does as "ipcd restart" does.
func (d *ranDaemon) restart() error {
	d.Helper()
	s := d.status()
	return restartDaemon(d.Context(), d.endpoint, d.dial(), s, dialOptions{limits: defaultLimits()})
}

// serves wants it to be the same process after so many restarts, and to answer.
func (d *ranDaemon) serves(restarts int) {
	d.Helper()
	c := d.dial()
	defer c.close()
	checkSay(d, c, "hello")
	if s := d.status(); s.PID != d.cmd.Process.Pid || s.Restarts != restarts {
		d.Errorf("it is process %d after %d restarts; want %d after %d", s.PID, s.Restarts, d.cmd.Process.Pid, restarts)
	}
}

func (d *ranDaemon) says(words string) {
	d.Helper()
	waitFor(d, func() error {
		if !strings.Contains(d.log.String(), words) {
			return fmt.Errorf("the log does not say %q", words)
		}
		return nil
	})
}

// ends wants it to end, and to leave nothing.
func (d *ranDaemon) ends(code int) {
	d.Helper()
	receive(d, d.ended)
	if got := d.cmd.ProcessState.ExitCode(); got != code {
		d.Errorf("exit code %d; want %d", got, code)
	}
	for _, name := range []string{d.endpoint.Path, d.endpoint.Path + ".lock"} {
		if _, err := os.Lstat(name); err == nil {
			d.Errorf("it has left %s", name)
		}
	}
}

func (d *ranDaemon) terminate() {
	d.Helper()
	must(d, d.cmd.Process.Signal(syscall.SIGTERM))
}

// holds has a call run in the daemon until the function that it returns has it answered; done gets the end of the call. It
// ends before the providers do, who are asked to the end.
func (d *ranDaemon) holds() (answer func(), done <-chan error) {
	d.Helper()
	far := noDeadline(rawDial(d.T, d.endpoint))
	register(d.T, far, `["Far.Say"]`)
	done = inBackground(context.Background(), d.dial(), "Far.Say", "a")
	readLineWith(d.T, far, "Far.Say")
	return func() { d.Helper(); send(d, far, goodAnswer) }, done
}

// asked asks for a restart, and returns when the daemon has begun it: nobody who connects then is accepted.
func (d *ranDaemon) asked() {
	d.Helper()
	c := d.dial()
	defer c.close()
	must(d, ask(c, "Ipcd.Restart", nil, nil))
	waitFor(d, func() error {
		if ask(c, "Ipcd.Ping", nil, nil) == nil { // it is asked to leave when the listeners have stopped
			return errors.New("the daemon takes calls")
		}
		return nil
	})
}

// waits connects and calls, and is not answered before the daemon has another program.
func (d *ranDaemon) waits() <-chan error {
	d.Helper()
	conn, err := net.Dial("unix", d.endpoint.Path)
	must(d, err)
	send(d, conn, sayRequest)
	done := make(chan error, 1)
	go func() {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testPatience))
		b := make([]byte, len(sayAnswer))
		_, err := io.ReadFull(conn, b)
		if err == nil && string(b) != sayAnswer {
			err = fmt.Errorf("the answer is %q", b)
		}
		done <- err
	}()
	return done
}

func notYet(t *testing.T, what string, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("%s has ended: %v", what, err)
	default:
	}
}

// The calls in flight at a restart are answered, whoever comes meanwhile waits, and so does who asks for another restart.
func TestRestartFinishesWhatItHasBegun(t *testing.T) {
	d := startRun(t, "ipcd", "--listen", "tcp://127.0.0.1:0?auth=none")
	before, err := os.Lstat(d.endpoint.Path)
	must(t, err)
	places := strings.Join(d.status().Endpoints, " ")
	answer, held := d.holds()
	d.asked()
	late, again := d.waits(), make(chan error, 1)
	c := d.dial()
	go func() { again <- ask(c, "Ipcd.Restart", nil, nil) }()
	notYet(t, "the call in flight", held)
	notYet(t, "a call of who came later", late)
	notYet(t, "another restart", again)
	answer()
	must(t, receive(t, held))
	must(t, receive(t, late))
	must(t, receive(t, again))
	waitFor(t, func() error {
		if n := d.status().Restarts; n != 2 {
			return fmt.Errorf("there have been %d restarts", n)
		}
		return nil
	})
	d.serves(2)
	if now, err := os.Lstat(d.endpoint.Path); err != nil || !os.SameFile(now, before) || now.Mode() != before.Mode() {
		t.Errorf("the socket is another one: %v", err)
	}
	if now := strings.Join(d.status().Endpoints, " "); now != places {
		t.Errorf("it serves %s; want %s", now, places)
	}
	if _, err := listenUnix(d.endpoint, audience{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("held by pid %d", d.cmd.Process.Pid)) {
		t.Errorf("whoever wants the endpoint, too, is told %v", err)
	}
	d.terminate()
	d.ends(exitDone)
}

// What is in the backlog of a port with TLS waits for the next program, which shakes hands with it by keys that it has read anew.
func TestRestartKeepsPortsWithTLS(t *testing.T) {
	keys := keysIn(t.TempDir())
	by := makeKeys(t, filepath.Dir(keys.Cert), time.Now())
	d := startRun(t, "ipcd", "--listen", "tls://127.0.0.1:0?auth=none", "--set", "tls.cert="+keys.Cert, "--set", "tls.key="+keys.Key)
	_, port, _ := strings.Cut(strings.Join(d.status().Endpoints, " "), "tls://127.0.0.1:")
	port, _, _ = strings.Cut(port, "?")
	far := mustParse(t, "tls://127.0.0.1:"+port)
	say := func() (shown string, err error) {
		c, err := dial(t.Context(), far, dialOptions{limits: defaultLimits(), tls: tlsSettings{CA: keys.CA}})
		if err != nil {
			return "", err
		}
		defer c.close()
		return c.(*client).conn.(*tlsConn).shown.Subject.CommonName, ask(c, "Echo.Say", "x", nil)
	}
	_, err := say()
	must(t, err)
	answer, held := d.holds()
	d.asked()
	late := make(chan error, 1)
	go func() {
		_, err := say()
		late <- err
	}()
	made, err := by.issue("the next one", []string{"127.0.0.1"}, time.Now())
	must(t, err)
	must(t, os.WriteFile(keys.Cert, made.cert, 0o600))
	must(t, os.WriteFile(keys.Key, made.key, 0o600))
	notYet(t, "the call in flight", held)
	answer()
	must(t, receive(t, held))
	must(t, receive(t, late))
	d.serves(1)
	if shown, err := say(); err != nil || shown != "the next one" {
		t.Errorf("behind the restart it shows %q, %v", shown, err)
	}

	// without keys the next program could not serve, and this one keeps those that it has
	answer, held = d.holds()
	d.asked()
	must(t, os.Rename(keys.Key, keys.Key+".away"))
	answer()
	must(t, receive(t, held))
	d.says("this one serves on")
	d.serves(1)
	if shown, err := say(); err != nil || shown != "the next one" {
		t.Errorf("without its key it shows %q, %v", shown, err)
	}
	must(t, os.Rename(keys.Key+".away", keys.Key))
	must(t, d.restart())
	d.serves(2)
	d.terminate()
	d.ends(exitDone)
}

// A signal to stop in the drain of a restart stops the daemon, and a second one cuts the calls.
func TestRestartIsGivenUpForAStop(t *testing.T) {
	for signals, code := range map[int]int{1: exitDone, 2: exitForced} {
		d := startRun(t, "ipcd")
		answer, held := d.holds()
		d.asked()
		late := d.waits()
		d.terminate()
		d.says("stopping, instead of restarting")
		if receive(t, late) == nil {
			t.Error("who came during the drain is answered by a daemon that stops")
		}
		notYet(t, "the call in flight", held)
		if signals == 2 {
			d.terminate()
			checkCode(t, "the call in flight", receive(t, held), codeShuttingDown, "")
		} else {
			answer()
			must(t, receive(t, held))
		}
		d.ends(code)
	}
}

// copyProgram is a copy of the program that "ipcd" is, as another file, which a test may change.
func copyProgram(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("ipcd")
	must(t, err)
	from, err := os.Open(path)
	must(t, err)
	defer from.Close()
	name := filepath.Join(tempDir(t), "ipcd")
	to, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, errors.Join(err, to.Close()))
	t.Cleanup(func() { os.Remove(name) })
	return name
}

// A program or settings that could not serve are no reason to lose the daemon that does.
func TestRestartIntoWhatCannotServe(t *testing.T) {
	program := copyProgram(t)
	config := filepath.Join(filepath.Dir(program), "c.toml")
	defer os.Remove(config)
	must(t, os.WriteFile(config, []byte("log_level = \"info\"\n"), 0o600))
	d := startRun(t, program, "--config", config)
	kept := d.dial()
	good := filepath.Join(filepath.Dir(program), "good")
	must(t, os.Rename(program, good))
	defer os.Remove(good)
	script := func(text string) func() error {
		return func() error { return os.WriteFile(program, []byte(text), 0o700) }
	}
	for _, row := range []struct {
		name string
		put  func() error
		want string
	}{
		{"missing", func() error { return nil }, "there is no program " + program},
		{"not executable", func() error { return os.WriteFile(program, []byte("#!/bin/sh\n"), 0o600) }, "permission denied"},
		{"open to others", func() error { return errors.Join(script("#!/bin/sh\n")(), os.Chmod(program, 0o777)) }, "others can write to " + program},
		{"no program", script("\x7fELF nonsense"), "could not serve"},
		{"another program", script("#!/bin/sh\nexit 0\n"), "it does not say what it would serve"},
		{"one that fails", script("#!/bin/sh\necho 'ipcd: error: no luck' >&2\nexit 1\n"), "could not serve: no luck"},
		{"settings that are wrong", func() error {
			return errors.Join(os.Link(good, program), os.WriteFile(config, []byte("\nlog_levle = \"info\"\n"), 0o600))
		}, config + ":2: log_levle"},
		{"rules that are wrong", func() error {
			return errors.Join(os.Link(good, program), os.WriteFile(config, []byte("[[rule]]\nallow = [\"nobody\"]\n"), 0o600))
		}, "could not serve"},
	} {
		must(t, row.put())
		c := d.dial()
		checkCode(t, row.name, ask(c, "Ipcd.Restart", nil, nil), codeApplication, row.want)
		checkSay(t, kept, "not even a connection has ended")
		d.serves(0)
		if err := os.Remove(program); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	must(t, os.WriteFile(config, []byte("log_level = \"info\"\n"), 0o600))
	must(t, os.Rename(good, program))
	must(t, d.restart())
	d.serves(1)

	// it goes between the look at it and the end of the drain
	answer, held := d.holds()
	d.asked()
	late := d.waits()
	must(t, os.Rename(program, good))
	answer()
	must(t, receive(t, held))
	must(t, receive(t, late))
	d.says("the program was not executed anew; this one serves on")
	d.serves(1)
	must(t, os.Rename(good, program))
	must(t, d.restart())
	d.serves(2)

	// what is there then could not serve, or the settings are wrong
	for _, row := range []struct {
		name       string
		spoil      func() error
		log, again string
	}{
		{"a program that fails", func() error {
			return errors.Join(os.Rename(program, good), script("#!/bin/sh\necho 'ipcd: error: no luck' >&2\nexit 1\n")())
		}, "could not serve: no luck", ""},
		{"settings that are wrong", func() error { return os.WriteFile(config, []byte("log_levle = \"info\"\n"), 0o600) }, "the settings were refused; those from before stay in force", "log_levle"},
		{"keys that are not there", func() error { return os.WriteFile(config, []byte("[tls]\ncert = \"a.pem\"\nkey = \"b.pem\"\n"), 0o600) }, "the settings were refused; those from before stay in force", "a.pem"},
	} {
		answer, held := d.holds()
		d.asked()
		late := d.waits()
		must(t, row.spoil())
		failures := strings.Count(d.log.String(), "this one serves on")
		answer()
		must(t, receive(t, held))
		must(t, receive(t, late))
		waitFor(t, func() error {
			if now := strings.Count(d.log.String(), "this one serves on"); now != failures+1 {
				return fmt.Errorf("%s: it has served on %d times; want %d", row.name, now, failures+1)
			}
			return nil
		})
		d.says(row.log)
		d.says(row.again)
		d.serves(2)
		if _, err := os.Stat(good); err == nil {
			must(t, os.Rename(good, program))
		}
		must(t, os.WriteFile(config, []byte("log_level = \"info\"\n"), 0o600))
	}
	must(t, d.restart())
	d.serves(3)
	d.terminate()
	d.ends(exitDone)
}

// A daemon whose audit log cannot be written any more refuses to be restarted; where that comes to pass while it drains it serves on,
// and the log goes on when it can.
func TestRestartWithoutAPlaceForTheAuditLog(t *testing.T) {
	program := copyProgram(t)
	dir := filepath.Join(filepath.Dir(program), "audit")
	file, config := filepath.Join(dir, "log"), filepath.Join(filepath.Dir(program), "c.toml")
	must(t, os.Mkdir(dir, 0o700))
	defer os.RemoveAll(dir)
	defer os.Remove(config)
	must(t, os.WriteFile(config, []byte(fmt.Sprintf("audit = \"all\"\naudit_file = %q\n", file)), 0o600))
	d := startRun(t, program, "--config", config)
	must(t, os.RemoveAll(dir))
	c := d.dial()
	checkCode(t, "a restart without the directory", ask(c, "Ipcd.Restart", nil, nil), codeApplication, "could not serve: audit_file: "+file+" cannot be written")
	d.serves(0)
	must(t, os.Mkdir(dir, 0o700))
	must(t, d.restart())
	d.serves(1)

	answer, held := d.holds()
	d.asked()
	late := d.waits()
	must(t, os.RemoveAll(dir))
	answer()
	must(t, receive(t, held))
	must(t, receive(t, late))
	d.says("the program was not executed anew; this one serves on")
	d.says("the audit log cannot be written, and lines of it are lost")
	d.serves(1)
	must(t, os.Mkdir(dir, 0o700))
	waitFor(t, func() error {
		d.serves(1) // which is recorded
		b, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(b), "Echo.Say") {
			err = fmt.Errorf("the audit log has %q", b)
		}
		return err
	})
	must(t, d.restart())
	d.serves(2)
	d.terminate()
	d.ends(exitDone)
}

// A hang-up that comes before the next program handles it neither ends the daemon, nor means another thing behind that.
func TestRestartOutlivesHangups(t *testing.T) {
	program := copyProgram(t)
	config := filepath.Join(filepath.Dir(program), "c.toml")
	defer os.Remove(config)
	must(t, os.WriteFile(config, []byte("log_level = \"info\"\n"), 0o600))
	d := startRun(t, program, "--config", config)
	real := filepath.Join(tempDir(t), "ipcd") // the name says what it is: see TestMain
	must(t, os.Rename(program, real))
	defer os.Remove(real)
	script := "#!/bin/sh\ncase \"$*\" in *--check*) ;; *) kill -HUP $$ ;; esac\nexec '" + real + "' \"$@\"\n"
	must(t, os.WriteFile(program, []byte(script), 0o700))
	for n := range 2 {
		must(t, d.restart())
		d.serves(n + 1)
		seen := strings.Count(d.log.String(), "the settings were read again")
		must(t, d.cmd.Process.Signal(syscall.SIGHUP))
		waitFor(t, func() error {
			if now := strings.Count(d.log.String(), "the settings were read again"); now != seen+1 {
				return fmt.Errorf("it has read its settings %d times; want %d", now, seen+1)
			}
			return nil
		})
	}
	d.terminate()
	d.ends(exitDone)
}

// A terminal that was closed while nobody heard of it ends the daemon all the same.
func TestTerminalClosedInARestart(t *testing.T) {
	if hasTerminal() || !slices.Contains(stopSignals, os.Signal(syscall.SIGHUP)) {
		t.Skip("this test has a terminal, which it cannot close, or was told to ignore that")
	}
	// Once it was ignored, it would be by the programs of all tests as soon as nobody here has a handler: os/signal goes back to that.
	defer signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	for _, had := range []bool{true, false} {
		holdHangups(had)
		f := newForeground(true, io.Discard)
		defer f.close()
		if _, there := os.LookupEnv(hangupVariable); there {
			t.Error("our children inherit " + hangupVariable)
		}
		if got := len(f.stops()); got != map[bool]int{true: 1, false: 0}[had] {
			t.Errorf("with a terminal before: %t; %d signals to stop", had, got)
		}
	}
	f := newForeground(true, io.Discard) // which has lost its terminal since
	defer f.close()
	f.mayStop = true
	failed := errors.New("it cannot be executed")
	if err := f.unguarded(func() error {
		if held, terminal := heldHangups(); !held || !terminal {
			t.Error("the next program is not told of the terminal")
		}
		return failed
	}); err != failed || len(f.stops()) != 1 {
		t.Errorf("unguarded = %v with %d signals to stop; want %v and 1", err, len(f.stops()), failed)
	}
	if _, there := os.LookupEnv(hangupVariable); there {
		t.Error("our children inherit " + hangupVariable)
	}
}

// What the settings no longer name is closed by the next program, and what they name then is opened.
func TestRestartMovesToOtherEndpoints(t *testing.T) {
	dir := tempDir(t)
	config, old, next := filepath.Join(dir, "c.toml"), at(tempSocket(t)), at(tempSocket(t))
	defer os.Remove(config)
	listen := func(e endpoint) {
		t.Helper()
		must(t, os.WriteFile(config, fmt.Appendf(nil, "listen = [%q]\n", e), 0o600))
	}
	listen(old)
	d := &ranDaemon{T: t, endpoint: old, cmd: exec.Command("ipcd", "run", "--log-format", "text", "--config", config)}
	d.log, d.ended = startProgram(t, d.cmd)
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, old, defaultLimits(), testPatience)
	must(t, err)
	listen(at(dir + "/nowhere/s"))
	checkCode(t, "a restart to where nobody can listen", ask(c, "Ipcd.Restart", nil, nil), codeApplication, "there is no directory "+dir+"/nowhere; the daemon goes on as it is")
	checkSay(t, c, "it does")
	listen(next)
	must(t, ask(c, "Ipcd.Restart", nil, nil))
	c.close()
	c, err = connect(ctx, next, defaultLimits(), testPatience)
	must(t, err)
	checkSay(t, c, "hello")
	c.close()
	for _, name := range []string{old.Path, old.Path + ".lock"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("it has left %s", name)
		}
	}
	d.endpoint = next
	d.serves(1)
	d.terminate()
	d.ends(exitDone)
}

// What a service manager holds is to be served, or callers would wait there for ever.
func TestRestartThatLeavesASocketOfTheManager(t *testing.T) {
	path, dir := tempSocket(t), tempDir(t)
	config := filepath.Join(dir, "c.toml")
	defer os.Remove(config)
	listen := func(e endpoint) {
		t.Helper()
		must(t, os.WriteFile(config, fmt.Appendf(nil, "listen = [%q]\n", e), 0o600))
	}
	listen(at(path))
	log := &logBuffer{}
	cmd := activate(t, log, []*os.File{fileOf(t, listenAt(t, path))}, "ipcd", "run", "--config", config)
	d := &ranDaemon{T: t, endpoint: at(path), cmd: cmd, log: log}
	for n := range 2 {
		d.serves(n)
		listen(at(dir + "/s"))
		c := d.dial()
		checkCode(t, "a restart to another socket", ask(c, "Ipcd.Restart", nil, nil), codeApplication, "whose socket the service manager holds")
		listen(at(path))
		must(t, d.restart())
	}
}

// The sockets of a service manager stay the manager's.
func TestRestartWithSocketsOfAManager(t *testing.T) {
	path := tempSocket(t)
	l := listenAt(t, path)
	log := &logBuffer{}
	cmd := activate(t, log, []*os.File{fileOf(t, l)}, "ipcd", "run", "--log-format", "text", "--listen", at(path).String())
	d := &ranDaemon{T: t, endpoint: at(path), cmd: cmd, log: log}
	for n := range 3 {
		d.serves(n)
		must(t, d.restart())
		if _, err := os.Lstat(path + ".lock"); err == nil {
			t.Error("it has a lock for a socket that is not its own")
		}
	}
	d.terminate()
	cmd.Wait()
	if _, err := os.Lstat(path); err != nil || cmd.ProcessState.ExitCode() != exitDone {
		t.Errorf("it ends with %v, and the socket: %v; want it to stay", cmd.ProcessState, err)
	}
}

// The service manager hears of a restart as it does of a reload, and that the daemon lives through the drain.
func TestRestartTellsTheManager(t *testing.T) {
	m := manage(t, "", "WATCHDOG_USEC=300000")
	d := &ranDaemon{T: t, cmd: m.cmd, log: m.log, endpoint: m.endpoint}
	answer, held := d.holds()
	d.asked()
	if got := m.hears("RELOADING=1\n"); !strings.Contains(got, "\nMONOTONIC_USEC=") || !strings.Contains(got, "STATUS=restarting") {
		t.Errorf("the manager hears %q", got)
	}
	for range 3 {
		m.hears("WATCHDOG=1")
	}
	answer()
	must(t, receive(t, held))
	m.hears("READY=1\nSTATUS=serving " + m.endpoint.String())
	m.hears("WATCHDOG=1")
	d.serves(1)
	d.terminate()
	m.hears("STOPPING=1\n")
	m.exits(exitDone)
}

// Who may not control the daemon does not restart it.
func TestRestartIsForThoseWhoControlIt(t *testing.T) {
	d := startRun(t, "ipcd", "--listen", "tcp://127.0.0.1:0?auth=none")
	for _, text := range d.status().Endpoints {
		if e := mustParse(t, text); e.Scheme == "tcp" {
			c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
			must(t, err)
			checkCode(t, "Restart over TCP", ask(c, "Ipcd.Restart", nil, nil), codeDenied, "may not control the daemon")
			c.close()
			out, err := exec.Command("ipcd", "restart", "-e", text).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "may not control the daemon") {
				t.Errorf("ipcd restart over TCP: %v, %s", err, out)
			}
		}
	}
	d.serves(0)
}

// Restarts at full load, of methods of the daemon and of a worker: no call is lost, and no connection refused.
func TestRestartsUnderLoad(t *testing.T) {
	restarts := faultRounds(t, 3, 50)
	config := filepath.Join(tempDir(t), "c.toml")
	must(t, os.WriteFile(config, []byte(oneHand), 0o600))
	defer os.Remove(config)
	d := startRun(t, "ipcd", "--config", config, "--listen", "tcp://127.0.0.1:0?auth=none", "--log-level", "warn")
	endpoints := []endpoint{d.endpoint}
	for _, text := range d.status().Endpoints {
		if e := mustParse(t, text); e.Scheme == "tcp" {
			endpoints = append(endpoints, e)
		}
	}
	l := startFullLoad(nil, []string{"Echo.Say", "Hand.Echo"}, endpoints...)
	defer l.stop()
	began, worst, open := time.Now(), time.Duration(0), 0
	for i := range restarts {
		l.waitCalls(t, 200)
		before := time.Now()
		if err := d.restart(); err != nil {
			t.Errorf("restart %d: %v", i+1, err)
			break
		}
		worst = max(worst, time.Since(before))
		if i == 0 {
			open = openDescriptors(d.cmd.Process.Pid)
		}
	}
	l.waitCalls(t, 200)
	took := time.Since(began)
	if err := l.end(); err != nil {
		t.Errorf("%d calls were lost: %v", len(l.failed), err)
	}
	d.serves(restarts)
	waitFor(t, func() error {
		if now := openDescriptors(d.cmd.Process.Pid); now > open {
			return fmt.Errorf("%d descriptors are open; after the first restart, under load, there were %d", now, open)
		}
		return nil
	})
	figure(t, "%d restarts at full load in %v: %d calls, %d lost, %d connections refused; the longest restart %v; %d requests found their connection closed, unread",
		restarts, took.Round(time.Millisecond), l.calls, len(l.failed), l.refused, worst.Round(time.Millisecond), l.again)
	d.terminate()
	d.ends(exitDone)
}
