package main

// This file owns the commands that change the service: install, uninstall, start, stop, restart.
// Those that only look at it are in cmd_status.go and cmd_logs.go; what stop and restart do to a daemon that is no
// service is in cmd_own.go.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
)

// serviceFlags are the flags that select a service.
type serviceFlags struct{ instance }

func (f *serviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "name", defaultName, "`name` of the service, if there are several")
	cmd.Flags().BoolVar(&f.user, "user", false, "a service of your own, which runs while you are logged in")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions))
}

func (f *serviceFlags) check() error {
	if isInstanceName(f.name) {
		return nil
	}
	return usagef("--name: %q cannot be the name of a service; expected 1 to %d of a-z, 0-9, - and _, a letter first", shorten(f.name, 60), maxName).
		withHint("the usual name is %s; a second one could be %s-2", defaultName, defaultName)
}

// recall finds out how a service was installed. If it is not installed, or its settings can no longer
// be read, the deployment has the defaults for its name.
func (f *serviceFlags) recall(sup supervisor) *deployment {
	d := &deployment{instance: f.instance, Settings: defaultSettings()}
	d.Settings.instance = d.instance
	for _, p := range sup.possible(d) {
		text, err := p.have()
		if err != nil {
			continue
		}
		words, copied, err := readMark(text)
		if err != nil || len(words) == 0 {
			continue
		}
		d.Program, d.Copied = copied, copied != ""
		run := newRunCmd()
		addConfigFlags(run)
		if run.ParseFlags(words[1:]) != nil {
			continue
		}
		set, from, err := d.load(run)
		if err == nil {
			d.Settings, err = set, set.resolve(from)
		}
		if err == nil {
			_, err = servable(set, from)
		}
		d.Wrong = err
		break
	}
	d.Endpoints, _ = endpointsOf(d.Settings)
	return d
}

// load reads the settings that the daemon will have, from its file and its flags. It ignores the
// environment, which the daemon will not inherit.
func (d *deployment) load(cmd *cobra.Command) (settings, origins, error) {
	file, explicit := d.configFile(), false
	if f := cmd.Flag("config"); f.Changed {
		var err error
		if f.Value.String() == "" {
			return settings{}, nil, usagef("--config: is empty; expected the name of a file")
		}
		if file, err = filepath.Abs(f.Value.String()); err != nil {
			return settings{}, nil, fmt.Errorf("find the configuration: %w", err)
		}
		explicit, d.Config = true, file
	}
	var err error
	if d.Given, err = givenFlags(cmd); err != nil {
		return settings{}, nil, err
	}
	for i, g := range d.Given {
		if s := findSetting(g.key); s != nil && s.kind == ofFile && g.values[0] != "" { // its manager chooses the working directory
			file, err := filepath.Abs(g.values[0])
			if err != nil {
				return settings{}, nil, fmt.Errorf("find %s: %w", g.key, err)
			}
			d.Given[i].values = []string{file}
		}
	}
	set, from, err := loadSettings(file, explicit, func(string) (string, bool) { return "", false }, d.Given)
	if err != nil {
		return settings{}, nil, err
	}
	if _, err := os.Lstat(file); err == nil {
		d.ConfigFile = file
	}
	set.instance = d.instance
	return set, from, nil
}

// installFlags are the flags of install.
type installFlags struct {
	serviceFlags
	runAs   string
	copyTo  string
	now     bool
	noStart bool
	force   bool
	dryRun  bool
	delayed bool
}

// deployment returns what the command line asks for. It checks as much as possible before anything
// is written.
func (f *installFlags) deployment(cmd *cobra.Command) (*deployment, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	d := &deployment{instance: f.instance, RunAs: f.runAs, Delayed: f.delayed}
	set, from, err := d.load(cmd)
	if err == nil {
		err = set.resolve(from)
	}
	if err != nil {
		return nil, err
	}
	d.Settings, d.AllowGroup = set, set.AllowGroup
	if d.Endpoints, err = servable(set, from); err != nil {
		return nil, err
	}
	if err := checkTLS(set, from); err != nil {
		return nil, err
	}
	if d.user && d.AllowGroup != "" {
		return nil, usagef("--allow-group: a service of your own serves you alone").withHint("leave out --allow-group, or --user")
	}
	return d, errors.Join(d.checkRunAs(), d.place(f.copyTo))
}

// checkRunAs checks that the user exists.
func (d *deployment) checkRunAs() error {
	if d.RunAs == "" {
		return nil
	}
	if d.user {
		return usagef("--run-as: a service of your own runs as you").withHint("leave out --run-as, or --user")
	}
	return checkAccount(d.RunAs)
}

// place sets the program of the service, which is this one or a copy.
func (d *deployment) place(copyTo string) error {
	own, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own program: %w", err)
	}
	d.Program = lastingPath(own)
	if copyTo == "" {
		return nil
	}
	if copyTo == copyPlace {
		copyTo = copyPlaceFor(d.user)
	}
	if d.Program, err = filepath.Abs(copyTo); err != nil {
		return fmt.Errorf("find the place for the program: %w", err)
	}
	d.Copied = true
	if !sameFile(own, d.Program) {
		d.CopyOf = own
	}
	return nil
}

// lastingPath returns a path that survives upgrades: if the program is in a directory of one version, the
// link in $PATH that leads to it.
func lastingPath(path string) string {
	if checkPlace(path) == nil {
		return path
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		link := filepath.Join(dir, filepath.Base(path))
		if filepath.IsAbs(link) && checkPlace(link) == nil && sameFile(link, path) {
			return link
		}
	}
	return path
}

func newInstallCmd() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "make ipcd a service of the operating system, and start it",
		Long: `Make ipcd a service that starts with the system, start it, and wait until it answers: then
"ipcd call hello" reaches it without a flag. It runs with as few rights as the system offers.
Only ` + masters + ` and the members of the group that --allow-group names can call it; at a TCP or HTTP
endpoint, and at tls:// and https://, whoever holds a token (ipcd token new NAME --service ipcd), and with ?auth=none
every program that reaches it; at tls:// and https:// also those can whose certificate a [[rule]] lets in.

With --user it is a service of your own, which only you can call.

Installing twice changes nothing. If the service is installed with other settings, it shows the
difference and asks for --force. Earlier flags are not kept: give all of them again.
An installation that fails is undone.`,
		Example: `  sudo ipcd install
  sudo ipcd install --allow-group users
  sudo ipcd install --name ipcd-2 --listen 'tcp://127.0.0.1:8888?auth=none'
  ipcd install --user
  ipcd install --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.Flags().Changed("copy-to") {
				return usagef("--copy-to: its path has to follow a =, and %q does not", args[0]).withHint("--copy-to=%s", joinWords(args[:1]))
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.install(cmd) },
	}
	f.add(cmd)
	addSettingFlags(cmd, "listen", "allow_group")
	flags := cmd.Flags()
	flags.StringVar(&f.runAs, "run-as", "", "run as this `user` (default: one with as few rights as the system offers)")
	flags.StringVar(&f.copyTo, "copy-to", "", "copy this program first: --copy-to=`path`, or --copy-to alone for "+copyPlace)
	cmd.Flag("copy-to").NoOptDefVal = copyPlace
	flags.BoolVar(&f.now, "now", false, "start it now, which is the default")
	flags.BoolVar(&f.noStart, "no-start", false, "do not start it before the next boot")
	flags.BoolVar(&f.delayed, "delayed", false, "Windows: start it some time after the system")
	flags.BoolVar(&f.force, "force", false, "change the settings of an installed service")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be written and run, but do nothing")
	return cmd
}

// install runs the command.
func (f *installFlags) install(cmd *cobra.Command) error {
	if f.now && f.noStart {
		return usagef("--now and --no-start contradict each other").withHint("install starts the service unless --no-start is given")
	}
	d, err := f.deployment(cmd)
	if err != nil {
		return err
	}
	out := outputOf(cmd)
	if f.dryRun {
		sup, err := findSupervisor(d.user)
		if err != nil {
			return err
		}
		d.stayCopied(f.recall(sup))
		i := &installer{sup: sup, d: d, out: out, start: !f.noStart}
		return cmp.Or(i.plan(), i.unsaid)
	}
	i, err := newInstaller(d, out)
	if err != nil {
		return err
	}
	before := f.recall(i.sup)
	i.force, i.start, i.had = f.force, !f.noStart, before.Endpoints
	d.stayCopied(before)
	if err := i.check(); err != nil {
		return err
	}
	ctx, cancel := firstSignal(cmd.Context()) // Ctrl-C undoes it
	defer cancel()
	if err := i.install(ctx); err != nil {
		return err
	}
	i.advise()
	return i.unsaid
}

// stayCopied keeps Copied if the copy that an earlier installation made now reinstalls itself.
func (d *deployment) stayCopied(before *deployment) {
	d.Copied = d.Copied || before.Copied && before.Program == d.Program
}

// check refuses what would be unsafe to run. It comes before anything is written.
func (i *installer) check() error {
	if i.d.CopyOf == "" {
		if err := checkProgram(i.d); err != nil {
			return err
		}
	} else if err := checkCopy(i.d); err != nil {
		return err
	}
	if i.sup.listens() {
		if err := checkSockets(i.d); err != nil {
			return err
		}
	}
	if err := checkServiceConfig(i.d); err != nil {
		return err
	}
	return checkWorkerPrograms(i.d)
}

// advise prints what one wants to know after an installation.
func (i *installer) advise() {
	switch {
	case i.d.user:
	case i.d.AllowGroup != "":
		i.say("%s and the members of the group %s can call it", masters, i.d.AllowGroup)
	default:
		words := slices.DeleteFunc(commandLine(), func(word string) bool { return word == "--force" })
		i.say("only %s can call it; to let the members of a group, too: %s --force --allow-group GROUP", masters, joinWords(words))
	}
	for _, e := range i.d.Endpoints {
		switch {
		case e.NoAuth && e.isFar():
			i.say("everybody who reaches this machine can call it at %s", e)
		case e.NoAuth:
			i.say("everybody on this machine can call it at %s", e)
		}
	}
	for _, line := range i.sup.advice(i.d) {
		i.say("%s", line)
	}
}

func newUninstallCmd() *cobra.Command {
	var f serviceFlags
	purge := false
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "stop and remove the service",
		Long: `Stop the service and remove what install and the service have made: the units, the sockets, the directories with the
service's name if they are empty. Directories that install made on the way to a socket or to a copy of the program
somewhere else stay.
What you may want to keep is left and listed; --purge removes that too. The configuration always stays.

It succeeds if there is nothing to remove.`,
		Example: "  sudo ipcd uninstall\n  sudo ipcd uninstall --purge\n  ipcd uninstall --user",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := f.installer(cmd)
			if err != nil {
				return err
			}
			i.purge = purge
			return cmp.Or(i.uninstall(cmd.Context()), i.unsaid)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&purge, "purge", false, "also remove what is kept: its state, its log, what was added to its units, the copy of the program")
	return cmd
}

// installer returns an installer for a service that may be installed.
func (f *serviceFlags) installer(cmd *cobra.Command) (*installer, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	i, err := newInstaller(&deployment{instance: f.instance}, outputOf(cmd))
	if err != nil {
		return nil, err
	}
	i.d, i.start = f.recall(i.sup), true
	return i, nil
}

// newControlCmd returns start, stop or restart.
// own does it to a daemon that is no service; nil if only a service has it.
func newControlCmd(use, short, long, done string, steps func(supervisor, *deployment) []step, answers bool, own func(*ownDaemon, context.Context) error) *cobra.Command {
	var f serviceFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Example: fmt.Sprintf("  sudo ipcd %s\n  ipcd %s --user", use, use),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if own != nil {
				d, err := f.ownDaemon(cmd)
				if err != nil {
					return err
				}
				if d != nil {
					return own(d, cmd.Context())
				}
			}
			i, err := f.installer(cmd)
			if hint := hintFor(err); hint != "" && own != nil && !f.user {
				return asFault(err).withHint("%s; for a daemon that is no service: ipcd %s -e URL", hint, use)
			}
			if err != nil {
				return err
			}
			if err := i.refuseForeign(cmd.Context()); err != nil {
				return err
			}
			if !i.installed() {
				return faultf(codeApplication, "%s is not installed", i.what()).withHint("ipcd install%s", f.flags())
			}
			if answers && i.d.Wrong != nil { // it would not come up again, but may be running now
				return asUsage(i.d.Wrong, "the service %s was left as it is", i.d.name)
			}
			if err := perform(cmd.Context(), steps(i.sup, i.d)); err != nil {
				return i.explain(cmd.Context(), err)
			}
			i.say("%s %s", i.what(), done)
			if answers {
				err = i.answers(cmd.Context())
			}
			return cmp.Or(err, i.unsaid)
		},
	}
	f.add(cmd)
	if own != nil {
		addOwnFlag(cmd)
	}
	return cmd
}

// installed reports whether any part of the service is there.
func (i *installer) installed() bool {
	for _, p := range i.sup.possible(i.d) {
		if _, err := p.have(); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// serviceInstalled reports whether the default service is installed.
func serviceInstalled() bool {
	sup, err := findSupervisor(false)
	return err == nil && (&installer{sup: sup, d: &deployment{instance: instance{name: defaultName}}}).installed()
}

func newStartCmd() *cobra.Command {
	return newControlCmd("start", "start the service", "Start the service and wait until it answers. A running service is left alone.",
		"has been started", supervisor.start, true, nil)
}

func newStopCmd() *cobra.Command {
	cmd := newControlCmd("stop", "stop the service, or your own daemon",
		"Stop the service. Calls in flight may finish within the drain limit. It stays stopped until the next boot, even if it is called.\n"+
			ownInstead+"\n\nIt returns when the daemon's process has ended, and says which of them it has stopped. Ctrl-C ends the wait, not the stop, and so\n"+
			"does --timeout, for a daemon that is no service. One that does not answer within 5 s is left as it is.",
		"has been stopped", supervisor.stop, false, (*ownDaemon).stop)
	addSettingFlags(cmd, "timeout")
	cmd.Flag("timeout").Usage = "how long to wait for your own daemon to answer, and to end (`duration`; default 5s, and as long as its calls may go on)"
	return cmd
}

func newRestartCmd() *cobra.Command {
	return newControlCmd("restart", "restart the service, or your own daemon",
		restartLong+ownInstead+restartOwn+"\n\nIt says which of them it has restarted.",
		"has been started anew", restartSteps, true, (*ownDaemon).restart)
}

const restartLong = `Have the daemon execute its program, which may be a newer file by now, with its settings as they are now, and wait until it
answers. No call is lost, and no connection is refused: who calls meanwhile waits for the next daemon. Where systemd holds the
sockets, it stops the service and starts it again. Elsewhere the daemon finishes the calls in flight, and then becomes the
program in its own process, with its sockets open; if the program or its settings are wrong, it says so and goes on as it is.
What has changed in a script of the service manager takes "ipcd stop" and "ipcd start".
Windows has nothing of the kind: the service is stopped and started. A client of ours waits for it, others find no pipe for a moment.
`

const restartOwn = `
It keeps the arguments with which it was started. One that --start has started from another program than this one is started
from this one, with the configuration file that it had, unless --config names one. On Windows a daemon that "ipcd run"
serves is not restarted: whoever has started it has to do that.`

// restartSteps are those of the service manager where that keeps the sockets open, or where the daemon cannot go on in its own process.
func restartSteps(sup supervisor, d *deployment) []step {
	if sup.listens() || becomeProgram == nil {
		return sup.restart(d)
	}
	var asked []endpoint
	if len(d.Endpoints) > 0 {
		asked = []endpoint{d.asked()}
	}
	return []step{{text: "ipcd call -e " + joinWords(endpointTexts(asked)) + " Ipcd.Restart", do: func(ctx context.Context) error {
		done, err := restartInPlace(ctx, sup, d)
		if !done {
			err = perform(ctx, sup.restart(d))
		}
		return err
	}}}
}

// restartInPlace has the daemon of the service execute its program anew. If it does not run, or cannot, that is not done.
func restartInPlace(ctx context.Context, sup supervisor, d *deployment) (done bool, err error) {
	st, err := sup.state(ctx, d)
	if err != nil || st.Active != activeRunning || len(d.Endpoints) == 0 {
		return false, err
	}
	e, ask := d.asked().here(), dialOptions{limits: d.Settings.Limits, tls: d.Settings.TLS}
	short, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	c, err := dial(short, e, ask)
	if err != nil {
		return false, err
	}
	var s Status
	if err := c.call(short, "Ipcd.Status", nil, &s); err != nil || s.Executable == "" || st.PID != 0 && st.PID != s.PID {
		c.close()
		return false, err
	}
	return true, restartDaemon(ctx, e, c, s, ask)
}

func endpointTexts(list []endpoint) (texts []string) {
	for _, e := range list {
		texts = append(texts, e.String())
	}
	return texts
}
