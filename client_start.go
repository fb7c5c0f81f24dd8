package main

// This file owns the background daemon that a client starts for itself: how it begins, how it is replaced by one of
// another build, and how a client ends a daemon that is no service.

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	startLimit  = 10 * time.Second       // for a background daemon to answer
	startLog    = "daemon.log"           // the log of a background daemon, in its state directory
	startGrace  = 2 * time.Second        // for another client's daemon to answer, after ours has found the endpoint taken
	startAgain  = 200 * time.Millisecond // for a daemon that ends to let go of the endpoint
	stopSlack   = 5 * time.Second        // besides its own limit, for a daemon to end
	stopSilence = 500 * time.Millisecond // before it is said what a daemon that stops is waited for
	defaultIdle = 15 * time.Minute       // a background daemon stops after so long without connections
	maxStartLog = 1 << 20                // bytes; a log longer than that is truncated at the next start
)

// startDaemon starts "ipcd run" in the background on endpoints, and connects to it at e. If many clients do so at once,
// one daemon gets the endpoint, the others find it taken, and all clients connect to that one.
func startDaemon(ctx context.Context, e endpoint, endpoints []endpoint, set settings) (caller, error) {
	if !e.isLocal() {
		return nil, usagef("--start starts a daemon on a local endpoint, which %s is not", e).withHint("name a unix:// or npipe:// endpoint with -e, or in listen")
	}
	if e.Owner != "" {
		return nil, usagef("--start starts a daemon of your own, and %s expects one of %s", e, e.Owner).withHint("leave out --start, or owner=")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var c caller
	connect := func(ctx context.Context) (bool, error) {
		return again(ctx, 2*time.Millisecond, 50*time.Millisecond, func() (bool, error) {
			var err error
			if c, err = dial(ctx, e, optionsOf(&set, nil)); err == nil {
				err = ping(ctx, c)
			}
			return err == nil || ctx.Err() == nil && !errors.Is(err, &fault{Code: codeNotReachable}), err
		})
	}
	var log startLogFrom
	var err error
	// If ours exits at once, another one has the endpoint: one that ends, so that the next start succeeds, or one that
	// begins and will answer.
	for _, grace := range []time.Duration{startAgain, startGrace} {
		running, ended := context.WithCancel(ctx)
		defer ended()
		if log, err = launch(endpoints, set, ended); err != nil {
			return nil, err
		}
		var done bool
		if done, err = connect(running); !done && ctx.Err() == nil {
			taken, cancel := context.WithTimeout(ctx, grace)
			defer cancel()
			done, err = connect(taken)
		}
		if done {
			return c, err
		}
	}
	f := faultf(codeNotReachable, "the daemon that was started at %s does not answer: %w", e, err)
	if why := log.why(); why != "" {
		f.Text = fmt.Sprintf("the daemon that was started at %s does not answer: %s", e, why)
	}
	if set.Endpoint == "" {
		return nil, f.withHint("see the rest of its log, %s: ipcd logs", log.file)
	}
	return nil, f.withHint("its log is %s; \"ipcd run\" in a terminal shows what is wrong", log.file)
}

// A startLogFrom is the log of a background daemon, from where that has begun.
type startLogFrom struct {
	file string
	from int64
}

const (
	maxReason   = 200      // bytes of a line of the log in an error
	maxStartEnd = 64 << 10 // bytes that are searched for it
)

// why returns what the log says of the daemon's end, in one line: the error that it has ended with, or how its program has
// crashed, or else the last line. It is empty if there is none.
func (l startLogFrom) why() string {
	f, err := os.Open(l.file)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, l.from, maxStartEnd))
	if err != nil {
		return ""
	}
	last := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if text, found := strings.CutPrefix(line, "ipcd: error: "); found {
			return shorten(oneLine(text), maxReason)
		}
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return shorten(oneLine(line), maxReason)
		}
		if line != "" {
			last = line
		}
	}
	var record struct{ Msg, Error, Why string }
	if json.Unmarshal([]byte(last), &record) == nil && record.Msg != "" {
		last = strings.Join(slices.DeleteFunc([]string{record.Msg, record.Error, record.Why}, func(s string) bool { return s == "" }), ": ")
	}
	return shorten(oneLine(last), maxReason)
}

// ownBuild identifies the program that runs by its SHA-256: two builds of one version differ, and to whoever has just
// added a service that is what matters.
func ownBuild() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find our own program: %w", err)
	}
	return buildOf(self)
}

// buildOf is ownBuild of the program at path.
func buildOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read our own program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read our own program: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16]), nil
}

// isOtherBuild reports whether --start has started the daemon from another build of this program.
func (s *Status) isOtherBuild() bool {
	if s.Build == "" {
		return false
	}
	own, err := ownBuild()
	return err == nil && s.Build != own
}

// stopDaemon stops the daemon behind c, which it closes, and waits until its process has ended: until then it finishes calls,
// and has its workers. Where that cannot be seen, such as from another container, it waits until the daemon answers no more.
func stopDaemon(ctx context.Context, e endpoint, c caller, was Status, o dialOptions) error {
	log, l := o.log, o.limits
	ended, release, unseen := watchDaemon(ctx, e, c, was, o)
	if unseen == nil {
		defer release()
	}
	err := c.call(ctx, "Ipcd.Stop", nil, nil)
	c.close()
	switch {
	case errors.Is(err, &fault{Code: codeNoMethod}):
		return faultf(codeNoMethod, "the daemon at %s is older than this program, and cannot be asked to stop", e).withHint("end the process: %s", endLine(was.PID))
	case errors.Is(err, errShuttingDown), errors.Is(err, &fault{Code: codeConnection}): // somebody else was quicker
	case err != nil:
		return err
	}
	limit := max(l.Drain, time.Duration(was.Ending*float64(time.Second)))
	ctx, cancel := context.WithTimeout(ctx, limit+stopSlack)
	defer cancel()
	late := time.AfterFunc(stopSilence, func() {
		log.info("waiting for calls in flight; Ctrl-C leaves it to end by itself", "endpoint", e, "pid", was.PID, "limit", formatDuration(limit))
	})
	defer late.Stop()
	done, err := again(ctx, 2*time.Millisecond, 100*time.Millisecond, func() (bool, error) {
		if unseen == nil {
			return ended(), nil
		}
		c, err := dial(ctx, e, o)
		if err != nil {
			return errors.Is(err, &fault{Code: codeNotReachable}), err
		}
		defer c.close()
		var now Status
		return c.call(ctx, "Ipcd.Status", nil, &now) == nil && now.PID != was.PID, nil
	})
	switch {
	case done:
		return nil
	case err != nil:
		return faultf(codeApplication, "the daemon at %s was asked to stop, and it is not known whether it has: %w", e, err)
	}
	return faultf(codeApplication, "the daemon at %s was asked to stop, and still runs", e).withHint("end the process: %s", endLine(was.PID))
}

// restartDaemon has the daemon behind c, which it closes, execute its program anew, and waits until that answers. Whoever calls
// meanwhile waits as well.
func restartDaemon(ctx context.Context, e endpoint, c caller, was Status, o dialOptions) error {
	log := o.log
	err := c.call(ctx, "Ipcd.Restart", nil, nil)
	c.close()
	if err != nil {
		return err
	}
	limit := time.Duration(was.Ending*float64(time.Second)) + startLimit
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	late := time.AfterFunc(stopSilence, func() {
		log.info("waiting for calls in flight; Ctrl-C leaves it to restart by itself", "endpoint", e, "pid", was.PID, "limit", formatDuration(limit))
	})
	defer late.Stop()
	done, err := again(ctx, 2*time.Millisecond, 100*time.Millisecond, func() (bool, error) {
		c, err := dial(ctx, e, o)
		if err != nil {
			return false, err
		}
		defer c.close()
		var now Status
		err = c.call(ctx, "Ipcd.Status", nil, &now)
		return err == nil && (now.PID != was.PID || now.Restarts > was.Restarts), err
	})
	switch {
	case done:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return errCancelled
	case err != nil:
		return faultf(codeApplication, "the daemon at %s was asked to restart, and does not answer within %s: %w", e, formatDuration(limit), err)
	}
	return faultf(codeApplication, "the daemon at %s was asked to restart, and has not within %s", e, formatDuration(limit))
}

// watchDaemon watches the process of the daemon behind c, as watchProcess does. It fails if the number that the daemon knows of
// itself is not its number here.
func watchDaemon(ctx context.Context, e endpoint, c caller, was Status, o dialOptions) (ended func() bool, release func(), err error) {
	t := transports[e.Scheme]
	if t.serves == nil {
		return nil, nil, errNotSeen
	}
	serves := false
	if err := atConnection(ctx, e, c, o, func(conn net.Conn) { serves = t.serves(conn, was.PID) }); err != nil {
		return nil, nil, err
	}
	if !serves {
		return nil, nil, errNotSeen
	}
	return watchProcess(was.PID)
}

// atConnection calls f with a connection to the daemon behind c.
func atConnection(ctx context.Context, e endpoint, c caller, o dialOptions, f func(conn net.Conn)) error {
	if direct, ok := c.(*client); ok {
		f(direct.conn)
		return nil
	}
	conn, err := transports[e.Scheme].dial(ctx, e, o) // HTTP may have none open
	if err != nil {
		return err
	}
	defer conn.Close()
	f(conn)
	return nil
}

// serverOf returns what the system says of the daemon behind c.
func serverOf(ctx context.Context, e endpoint, c caller, o dialOptions) (p peer, err error) {
	look := transports[e.Scheme].server
	if look == nil {
		return p, faultf(codeApplication, "the system does not say who serves %s", e)
	}
	if wrong := atConnection(ctx, e, c, o, func(conn net.Conn) { p, err = look(conn) }); wrong != nil {
		return p, wrong
	}
	if err != nil {
		return p, faultf(codeApplication, "the system does not say who serves %s: %w", e, err)
	}
	return p.named(), nil
}

// isSilent reports whether the daemon behind c does not answer even the question whether it is there.
func isSilent(ctx context.Context, c caller) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
	defer cancel()
	return errors.Is(c.call(ctx, "Ipcd.Ping", nil, nil), errDeadline)
}

// silence is for how long a daemon that has not answered in time may say nothing more.
const silence = 500 * time.Millisecond

// silent adds to late, the error of a call whose deadline has passed, that the daemon behind c is there and does not answer: it was
// stopped by a signal, or hangs, or the machine has no time for it. c may be nil.
func silent(ctx context.Context, e endpoint, c caller, o dialOptions, late error) *fault {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
	defer cancel()
	var p peer
	if c != nil {
		p, _ = serverOf(ctx, e, c, o)
	}
	if p.PID <= 0 {
		return faultf(codeDeadline, "the daemon at %s is there, but does not answer: %w", e, late).withHint("give it longer with --timeout, or see what it does where it runs: its log, and whether its process was stopped")
	}
	return faultf(codeDeadline, "the daemon at %s (process %d) is there, but does not answer: %w", e, p.PID, late).withHint("give it longer with --timeout; %s", wakeHint(p.PID))
}

// errNotSeen is why a process cannot be watched.
var errNotSeen = errors.New("the system does not say which process that is")

// renew replaces the daemon behind c if --start has started it from another build of this program. like returns the settings
// for the new one.
func renew(ctx context.Context, e endpoint, c caller, set settings, log *logger, like func(was Status) (settings, error)) (caller, error) {
	var was Status
	if c.call(ctx, "Ipcd.Status", nil, &was) != nil {
		return c, nil // whoever that is
	}
	if !was.isOtherBuild() {
		if set.named && e.isLocal() && was.Config != set.file && !sameFile(was.Config, set.file) {
			hint := "ipcd restart --config " + joinWords([]string{cmp.Or(set.file, os.DevNull)})
			if was.Build == "" {
				hint = "whoever has started it can start it with that file"
			}
			log.warn("the daemon that runs has other settings than --config names, and keeps them", "pid", was.PID,
				"its", cmp.Or(was.Config, "no file"), "named", cmp.Or(set.file, "no file"), "hint", hint)
		}
		return c, nil
	}
	chosen := set.Endpoint != ""
	set, err := like(was)
	if err != nil {
		c.close()
		return nil, asUsage(err, "the daemon, process %d, was started from another build with that file, and was left as it is", was.PID)
	}
	log.info("the daemon was started from another build, and is replaced", "endpoint", e, "pid", was.PID)
	if err := stopDaemon(ctx, e, c, was, optionsOf(&set, log)); err != nil {
		return nil, err
	}
	if chosen {
		return startDaemon(ctx, e, servedAt(e, was.Endpoints), set)
	}
	return startDaemon(ctx, e, set.started(e), set)
}

// started returns the endpoints that a daemon serves which is started for calls of e.
func (st *settings) started(e endpoint) []endpoint {
	if st.Endpoint != "" {
		return []endpoint{e}
	}
	return servedAt(e, st.Listen)
}

// servedAt returns these endpoints, that of a daemon called at e first and as it was served: a client names it without
// ?dir=shared, which is asked of the daemon, or with a protocol of its own.
func servedAt(e endpoint, served []string) []endpoint {
	list := []endpoint{e}
	for _, text := range served {
		switch also, err := parseEndpoint(text); {
		case err != nil:
		case same(also, e):
			list[0] = also
		default:
			list = append(list, also)
		}
	}
	return list
}

// launch starts the daemon, and calls ended once it has exited.
func launch(endpoints []endpoint, set settings, ended func()) (at startLogFrom, err error) {
	self, err := os.Executable()
	if err != nil {
		return at, fmt.Errorf("find our own program: %w", err)
	}
	build, err := ownBuild()
	if err != nil {
		return at, err
	}
	if at.file, err = startLogFile(); err != nil {
		return at, err
	}
	dir := filepath.Dir(at.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return at, faultf(codeApplication, "make the directory for the daemon's log: %w", err).withHint(`%s; or run a daemon in a terminal, which needs none: ipcd run`, stateHint)
	}
	log, err := openStartLog(at.file)
	if err != nil {
		return at, err
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		at.from = info.Size()
	}
	args, err := set.runArgs(endpoints, build, at.file)
	if err != nil {
		return at, err
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = filepath.VolumeName(dir) + string(filepath.Separator) // so that it keeps no mount busy
	cmd.Stderr = log
	cmd.Env = childEnviron("JOURNAL_STREAM") // which is about a stderr that the daemon does not get
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return at, fmt.Errorf("start a daemon: %w", err)
	}
	go func() {
		cmd.Wait()
		ended()
	}()
	return at, nil
}

// runArgs are the arguments of a background daemon with these settings. It gets ours, and looks for none itself: our file, which has what
// no flag could say and can be read again, and whatever else has come from our flags and our environment.
func (st *settings) runArgs(endpoints []endpoint, build, log string) ([]string, error) {
	idle := st.Idle
	if idle <= 0 && !st.stays {
		idle = defaultIdle
	}
	inFile, _, err := loadSettings(st.file, true, func(string) (string, bool) { return "", false }, nil)
	if err != nil {
		return nil, err
	}
	args := []string{"run", "--config", cmp.Or(st.file, os.DevNull), "--idle", idle.String(), "--build", build, "--log-file", log}
	for _, e := range endpoints {
		args = append(args, "--listen", e.String())
	}
	for i := range settingTable {
		s := &settingTable[i]
		ofDaemon := strings.HasPrefix(s.key, "limits.") || s.key == "allow_group" || strings.HasPrefix(s.key, "log_")
		if ofDaemon && s.text(st) != s.text(&inFile) {
			args = append(args, "--set", s.key+"="+s.text(st))
		}
	}
	return args, nil
}

// startLogFile is where background daemons log.
func startLogFile() (string, error) {
	dir, err := stateDir()
	return filepath.Join(dir, startLog), err
}

// openStartLog opens the log of background daemons, and truncates it if it is long.
func openStartLog(name string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	info, err := os.Lstat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, faultf(codeApplication, "the log of the daemon, %s, is not a regular file", name).withHint("remove it: %s", removeLine(name))
	case err == nil && info.Size() > maxStartLog:
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, faultf(codeApplication, "open the log of the daemon: %w", err).withHint(`%s; or run a daemon in a terminal, which needs none: ipcd run`, stateHint)
	}
	return f, nil
}
