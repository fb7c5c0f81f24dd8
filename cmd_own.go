package main

// This file owns what commands do to a daemon that is no service: the user's own, or the one at -e.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// ownInstead says in the help of a command which daemon it is about.
const ownInstead = `
If no service of that name is installed, and neither --name nor --user is given, it is about your own daemon: the one
that "ipcd call --start" has started, or "ipcd run". -e names another.`

// An ownDaemon is a daemon that is no service.
type ownDaemon struct {
	cmd *cobra.Command
	at  endpoint
	set settings
	log *logger
	out io.Writer
}

func addOwnFlag(cmd *cobra.Command) {
	cmd.Flags().StringP("endpoint", "e", "", "the daemon there, as a `URL`, instead of the service")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("endpoint", completeEndpoint))
}

// ownDaemon returns the daemon that cmd is about, or nil if that is the service: where one of the name is installed, or
// a flag names it. Of wrong settings a daemon can be stopped, and its log read, but none started.
func (f *serviceFlags) ownDaemon(cmd *cobra.Command) (*ownDaemon, error) {
	at, named := cmd.Flag("endpoint").Changed, cmd.Flag("name").Changed || f.user
	if named && at {
		return nil, usagef("-e names a daemon, and --name and --user a service").withHint("keep one of them")
	}
	if named {
		return nil, nil
	}
	set, wrong, err := settingsDespite(cmd)
	if err == nil && cmd.Name() == "restart" {
		err = wrong
	}
	if !at && (wrong != nil || set.Endpoint == "") { // a service whose settings are wrong is stopped all the same
		if sup, err := findSupervisor(f.user); err == nil && (&installer{sup: sup, d: f.recall(sup)}).installed() {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	warnTo(cmd.ErrOrStderr(), cmd, wrong)
	d := &ownDaemon{cmd: cmd, set: set, out: outputOf(cmd), log: newLogger(cmd.ErrOrStderr(), set.LogFormat, set.LogLevel)}
	d.at, err = set.clientEndpoint()
	return d, err
}

// name names the daemon for people.
func (d *ownDaemon) name(s Status) string {
	if d.set.Endpoint != "" {
		return fmt.Sprintf("the daemon at %s (process %d)", d.at, s.PID)
	}
	return fmt.Sprintf("your own daemon at %s (process %d)", d.at, s.PID)
}

// reach connects to the daemon and asks for its status.
func (d *ownDaemon) reach(ctx context.Context) (c caller, s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience())
	defer cancel()
	c, err = dial(ctx, d.at, optionsOf(&d.set, d.log))
	if err == nil {
		err = ping(ctx, c)
	}
	switch {
	case err == nil:
	case errors.Is(err, errDeadline):
		return nil, s, d.silent(ctx, c, err)
	case d.set.Endpoint == "" && errors.Is(err, &fault{Code: codeNotReachable}) && !errors.Is(err, fs.ErrPermission):
		hint := "start a daemon: ipcd call --start hello"
		if d.cmd.Name() == "stop" {
			hint = "-e names a daemon somewhere else, and --name another service"
		}
		return nil, s, faultf(codeNotReachable, "%w, and no service of that name is installed", err).withHint("%s", hint)
	default:
		return nil, s, err
	}
	if err = c.call(ctx, "Ipcd.Status", nil, &s); errors.Is(err, errDeadline) {
		return nil, s, d.silent(ctx, c, err)
	} else if err != nil {
		c.close()
	}
	return c, s, err
}

// patience is how long the daemon may take to answer at all, unless --timeout says otherwise.
func (d *ownDaemon) patience() time.Duration {
	if f := d.cmd.Flag("timeout"); f != nil && f.Changed && d.set.Timeout > 0 {
		return d.set.Timeout
	}
	return askLimit
}

// silent says of the daemon behind c, which it closes, that it does not answer. c may be nil.
func (d *ownDaemon) silent(ctx context.Context, c caller, late error) *fault {
	f := silent(ctx, d.at, c, optionsOf(&d.set, d.log), late)
	if c != nil {
		c.close()
	}
	return f
}

// stop stops the daemon, within --timeout if that is given.
func (d *ownDaemon) stop(ctx context.Context) error {
	if d.cmd.Flag("timeout").Changed && d.set.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.set.Timeout)
		defer cancel()
	}
	c, s, err := d.reach(ctx)
	if err != nil {
		return err
	}
	if err := stopDaemon(ctx, d.at, c, s, optionsOf(&d.set, d.log)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.out, "%s has been stopped\n", d.name(s))
	return err
}

// restart starts the daemon anew: in its own process where that is possible, so that nobody is refused meanwhile. One that --start
// has started from another program than this one is started from this one, with its file of settings as that is now and the
// endpoints that it served.
func (d *ownDaemon) restart(ctx context.Context) error {
	c, s, err := d.reach(ctx)
	if err != nil {
		return err
	}
	own, _ := os.Executable()
	changed := d.cmd.Flags().Changed("config") || d.cmd.Flags().Changed("set")
	switch {
	case s.isBrief(): // we may not do it, and the daemon says so
		defer c.close()
		return cmp.Or(c.call(ctx, "Ipcd.Restart", nil, nil), error(errNoRestart))
	case s.Build == "" && s.Executable == "":
		c.close()
		return faultf(codeApplication, "%s was not started by --start, so that only who started it knows how", d.name(s)).
			withHint("restart it where it runs; a service by its name: ipcd restart --name NAME")
	case s.Build == "" && changed:
		c.close()
		return usagef("%s keeps the arguments with which it was started", d.name(s)).withHint("leave out --config and --set, or stop it and start it with them")
	}
	set := d.set
	if s.Build != "" {
		if set, err = settingsLike(d.cmd, d.set, s); err != nil {
			c.close()
			return asUsage(err, "%s was left as it is", d.name(s))
		}
	}
	if s.Executable != "" && !changed && (s.Build == "" || sameFile(s.Executable, own)) {
		if err := restartDaemon(ctx, d.at, c, s, optionsOf(&d.set, d.log)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(d.out, "%s has been started anew\n", d.name(s))
		return err
	}
	if err := stopDaemon(ctx, d.at, c, s, optionsOf(&set, d.log)); err != nil {
		return err
	}
	if c, err = startDaemon(ctx, d.at, servedAt(d.at, s.Endpoints), set); err != nil {
		return err
	}
	c.close()
	if c, s, err = d.reach(ctx); err != nil {
		return err
	}
	c.close()
	_, err = fmt.Fprintf(d.out, "%s has been started anew\n", d.name(s))
	return err
}

// stderr is what the daemon behind c has as its standard error, if the system says so of its process, and nothing otherwise.
func (d *ownDaemon) stderr(ctx context.Context, c caller, s Status) (at string) {
	serves := transports[d.at.Scheme].serves
	if stderrOf == nil || serves == nil || s.PID == 0 {
		return ""
	}
	atConnection(ctx, d.at, c, optionsOf(&d.set, d.log), func(conn net.Conn) {
		if serves(conn, s.PID) { // and no process of another container has the number here
			at, _ = stderrOf(s.PID)
		}
	})
	return at
}

// logFile is where the daemon logs, if that is a file: as it says itself, or if none is there, where the last one that
// --start has started did.
func (d *ownDaemon) logFile(ctx context.Context) (string, error) {
	c, s, err := d.reach(ctx)
	switch {
	case err == nil:
		at := d.stderr(ctx, c, s)
		c.close()
		if !d.at.isLocal() { // nobody has proved there whose the file would be
			return "", faultf(codeApplication, "the log of a daemon at %s is not opened: what it says of itself is not proved there", d.at).
				withHint("ask it at its local endpoint; it says that it logs to %s", oneLine(cmp.Or(s.Log, "its standard error")))
		}
		if s.Log != "" {
			return s.Log, nil
		}
		f := faultf(codeApplication, "%s logs to where it was started, on its standard error", d.name(s))
		switch info, wrong := os.Stat(at); {
		case at == "":
			return "", f.withHint("look there; if it is a service: ipcd logs --name NAME")
		case wrong == nil && info.Mode().IsRegular():
			return at, nil
		case at == os.DevNull:
			return "", faultf(codeApplication, "%s logs to %s: its log is lost", d.name(s), at).withHint("start it with a file in place of that: ipcd run 2>FILE; or by ipcd call --start")
		case wrong == nil && info.Mode()&os.ModeCharDevice != 0:
			return "", faultf(codeApplication, "%s logs to the terminal in which it was started, %s", d.name(s), at).
				withHint("look there; to have it in a file: ipcd run 2>FILE; or start it by ipcd call --start")
		}
		return "", faultf(codeApplication, "%w: %s", f, at).withHint("whoever has started it reads that; if it is a service: ipcd logs --name NAME")
	case d.set.Endpoint != "" || !errors.Is(err, &fault{Code: codeNotReachable}):
		return "", err
	}
	return startLogFile()
}
