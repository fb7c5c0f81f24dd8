package main

// This file owns "ipcd doctor", which looks at everything that calls depend on. A new check is a row of doctorChecks.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	doctorLimit = 10 * time.Second // for one check, each of which asks little
	clockSlack  = 5 * time.Second  // by which a file may be ahead: file systems of other machines have clocks of their own
	spareFiles  = 64               // descriptors that a daemon needs besides its connections, at least
)

// A doctor is one visit.
type doctor struct {
	cmd     *cobra.Command
	client  *clientFlags
	service *serviceFlags
	named   bool // a service was named

	set    settings
	from   origins       // of set; nil if that is not known
	at     endpoint      // as the daemon serves it, if that is known
	own    bool          // the settings are those of the daemon, as far as anybody can tell
	status *Status       // of the daemon; nil if it does not answer
	stats  []Figure      // likewise, or nil if we may not have them
	report ServiceReport // of the service; its Name is empty if there is none

	found []Diagnosis
}

// doctorChecks are the checks in the order in which they are made: later ones know what earlier ones have found out.
var doctorChecks = []func(d *doctor, ctx context.Context){
	(*doctor).lookAtConfig,
	(*doctor).lookAtService,
	(*doctor).lookAtEndpoint,
	(*doctor).lookAtPlace,
	(*doctor).lookAtVersions,
	(*doctor).lookAtWorkers,
	(*doctor).lookAtLimits,
	(*doctor).lookAtState,
	(*doctor).lookAtAudit,
	(*doctor).lookAtCertificates,
	(*doctor).lookAtClock,
}

func newDoctorCmd() *cobra.Command {
	var f clientFlags
	var s serviceFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "find out why calls do not work, or soon will not",
		Long: `Look at everything that calls depend on, and say of each whether it is ok, and otherwise what to type: the configuration, the
service, the endpoint and whose it is, who could replace it, versions, workers, limits of the system, the directory for
state, the audit log, certificates, the clock. Nothing is changed.

It looks at the daemon that calls reach, with the flags and the configuration that are given: where the daemon was started with
others, give them here as well (--set allow_group=dev). With --name or --user it is about that service.

The JSON is a list of {"check", "state", "text", "hint"}; the state is ok, warning or error.

Exit codes: 0 nothing is an error, 1 something is.`,
		Example:           "  ipcd doctor\n  ipcd doctor -e unix:///run/ipcd/ipcd.sock\n  sudo ipcd doctor --name ipcd-2 --json",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.check(); err != nil {
				return err
			}
			d := &doctor{cmd: cmd, client: &f, service: &s, named: cmd.Flags().Changed("name") || s.user}
			for _, look := range doctorChecks {
				ctx, cancel := context.WithTimeout(cmd.Context(), doctorLimit)
				look(d, ctx)
				cancel()
			}
			return errors.Join(d.print(cmd.OutOrStdout()), d.verdict())
		},
	}
	addEndpointFlag(cmd, &f)
	s.add(cmd)
	return cmd
}

// print prints what was found.
func (d *doctor) print(w io.Writer) error {
	if wantsJSON(d.cmd) {
		return printJSON(w, d.found)
	}
	return table(w, func(t io.Writer) {
		for _, f := range d.found {
			fmt.Fprintf(t, "%s\t%s\t%s\n", f.State, f.Check, oneLine(f.Text))
			if f.Hint != "" {
				fmt.Fprintf(t, "\t\t%s\n", oneLine(f.Hint))
			}
		}
	})
}

// verdict is the error from which doctor gets its exit code, or nil.
func (d *doctor) verdict() error {
	wrong := 0
	for _, f := range d.found {
		if f.State == findingError {
			wrong++
		}
	}
	if wrong == 0 {
		return nil
	}
	return faultf(codeApplication, "%d of %d findings are errors", wrong, len(d.found))
}

func (d *doctor) say(check string, state findingState, hint, format string, args ...any) {
	d.found = append(d.found, Diagnosis{check, state, fmt.Sprintf(format, args...), hint})
}

func (d *doctor) ok(check, format string, args ...any) { d.say(check, findingOK, "", format, args...) }

// blame says what each of some errors says, with its hint.
func (d *doctor) blame(check string, state findingState, err error) {
	if all, ok := err.(problems); ok {
		for _, err := range all {
			d.blame(check, state, err)
		}
		return
	}
	d.say(check, state, hintFor(err), "%v", err)
}

// lookAtConfig reads the settings, as "config check" does. With wrong ones it goes on with those of the default.
func (d *doctor) lookAtConfig(context.Context) {
	set, from, err := settingsFrom(d.cmd)
	if err == nil {
		_, unservable := servable(set, from)
		err = gather(set.resolve(from), unservable, checkWorkers(set))
	}
	switch {
	case err != nil:
		d.blame("config", findingError, err)
		if d.set = set; set.Limits == (limits{}) {
			d.set = defaultSettings()
		}
	case set.file == "":
		d.set = set
		d.ok("config", "there is no file; the defaults hold")
	default:
		d.set = set
		d.ok("config", "%s is right", set.file)
	}
	if served, unknown := endpointsOf(d.set); err == nil && unknown == nil {
		for _, e := range d.set.elsewhere(served) {
			d.say("config", findingWarning, e.hint(), "%s", e.warning(&d.set))
		}
	}
	d.own, d.from = err == nil, from
}

// lookAtService asks the service manager. That there is none, or no service, is as one likes it, unless one was named.
func (d *doctor) lookAtService(ctx context.Context) {
	if d.set.Endpoint != "" && !d.named {
		return
	}
	sup, err := d.service.choose(d.named)
	if err != nil {
		if d.named {
			d.blame("service", findingError, err)
			return
		}
		d.ok("service", "%v", err)
		return
	}
	r, _, err := d.service.report(ctx, sup)
	if err != nil {
		d.blame("service", findingWarning, err)
		return
	}
	d.report = *r
	what := fmt.Sprintf("the service %s (%s)", r.Name, r.Manager)
	var problem *fault
	errors.As(r.problem(d.service), &problem)
	switch {
	case r.State == stateAbsent && !d.named:
		d.ok("service", "%s is not installed", what)
		return
	case r.State == stateWaiting:
		d.ok("service", "%s is stopped; the first call starts it", what)
	case problem == nil:
		d.ok("service", "%s is %s", what, r.State)
	case r.State == stateStarting, r.State == stateStopping:
		d.say("service", findingWarning, problem.hint, "%s is %s", what, r.State)
	default:
		d.say("service", findingError, problem.hint, "%v", problem)
	}
	if r.State != stateAbsent && !r.Enabled {
		d.say("service", findingWarning, "ipcd install"+d.service.flags(), "%s does not start by itself", what)
	}
	dep := d.service.recall(sup)
	if dep.Wrong != nil {
		d.blame("service", findingError, fmt.Errorf("%s cannot be started with its settings: %w", what, dep.Wrong))
	} else if d.named {
		d.set, d.from = dep.Settings, nil
	}
	if d.named && len(dep.Endpoints) > 0 {
		d.at = dep.Endpoints[0]
	}
}

// lookAtEndpoint calls the daemon, and asks the system whose it is.
func (d *doctor) lookAtEndpoint(ctx context.Context) {
	set := d.set
	if d.at.Scheme != "" {
		set.Endpoint = d.at.String()
	}
	set.Timeout = askLimit
	var who peer
	var known error
	err := d.client.with(ctx, set, func(ctx context.Context, c caller) error {
		var s Status
		if err := c.call(ctx, "Ipcd.Status", nil, &s); errors.Is(err, errDeadline) {
			return silent(ctx, d.client.at, c, optionsOf(&set, nil), err)
		} else if err != nil {
			return err
		}
		d.status = &s
		c.call(ctx, "Ipcd.Stats", nil, &d.stats) // nothing, if we may not have them
		who, known = serverOf(ctx, d.client.at, c, optionsOf(&set, nil))
		return nil
	})
	if d.client.at.Scheme != "" {
		d.at = d.client.at
	}
	if err != nil {
		d.blame("endpoint", findingError, err)
		return
	}
	d.at = servedAt(d.at, d.status.Endpoints)[0]
	switch {
	case !d.status.isBrief() && d.status.Config != "" && d.set.file != "" && !sameFile(d.status.Config, d.set.file),
		!d.status.isBrief() && (d.status.Config == "") != (d.set.file == ""), d.at.key() == serviceEndpoint(defaultName).key() && d.report.Name == "":
		d.own = false // it has other settings than those that were read here
	}
	d.ok("endpoint", "the daemon at %s answers", d.at)
	switch {
	case known != nil && d.at.NoAuth:
		d.say("owner", findingWarning, "use a local endpoint where callers are to be told apart", "%s is for everybody who reaches it", d.at)
	case known != nil:
		d.say("owner", findingWarning, "", "%v", known)
	case who.PID != 0:
		d.ok("owner", "it is that of %s, process %d", who.who(), who.PID)
	default:
		d.ok("owner", "it is that of %s", who.who())
	}
}

// lookAtPlace looks at where the endpoint is.
func (d *doctor) lookAtPlace(context.Context) {
	if inspect := transports[d.at.Scheme].inspect; inspect != nil {
		d.found = append(d.found, inspect(d.at, d.set.policy.audienceOf(d.at.key()), d.own)...)
	}
}

// lookAtVersions compares the daemon with this program.
func (d *doctor) lookAtVersions(context.Context) {
	if d.status == nil {
		d.ok("version", "this program is %s", thisBuild().line())
		return
	}
	s, r := d.status, report{}
	if d.report.Name != "" {
		r.service = &d.report
	}
	note := strings.TrimPrefix(r.compareVersion(*s), "; ")
	switch {
	case s.Protocol > protocolVersion:
		d.say("version", findingWarning, "install the version of the daemon: "+s.Version, "the daemon is %s and speaks the protocol %d; this program knows %d alone", s.Version, s.Protocol, protocolVersion)
	case note != "":
		d.say("version", findingWarning, "ipcd restart"+d.service.flags(), "the daemon is %s; %s", s.Version, note)
	default:
		d.ok("version", "the daemon is %s, as this program is, and speaks the protocol %d", s.Version, s.Protocol)
	}
	if programOf == nil || s.PID == 0 {
		return
	}
	own, err := os.Executable()
	path, replaced, wrong := programOf(s.PID)
	switch {
	case err != nil || wrong != nil: // it is another user's
	case replaced:
		d.say("program", findingWarning, "ipcd restart"+d.service.flags(), "the daemon runs a program that is no longer at %s: it was replaced", path)
	case !sameFile(own, path):
		d.say("program", findingWarning, "call with it: "+path, "the daemon runs %s, and this program is %s", path, own)
	default:
		d.ok("program", "the daemon runs %s, as you do", path)
	}
}

// lookAtWorkers looks for workers that do not answer calls.
func (d *doctor) lookAtWorkers(context.Context) {
	if d.status == nil || len(d.status.Workers) == 0 {
		return
	}
	well := 0
	for _, w := range d.status.Workers {
		name := joinWords([]string{w.Name})
		switch w.State {
		case "parked":
			d.say("worker", findingError, d.client.line("worker logs", name), "the worker %s is %s", w.Name, w.summary())
		case "starting", "stopped", "stopping", "ended":
			d.say("worker", findingWarning, d.client.workerHint(name, w.State), "the worker %s is %s", w.Name, w.summary())
		default:
			well++
		}
	}
	if well > 0 {
		d.ok("worker", "%d of %d workers answer, or start when they are called", well, len(d.status.Workers))
	}
}

// lookAtLimits compares the descriptors of the daemon with the connections that it may have.
func (d *doctor) lookAtLimits(context.Context) {
	most, open := d.figure("process_max_fds"), d.figure("process_open_fds")
	whose := "the daemon"
	if most == 0 && figuresOfProcess != nil {
		whose, most = "a daemon that is started here", figuresOfProcess().mostOpen
	}
	need := d.set.Limits.MaxConnections + spareFiles
	switch {
	case most == 0:
	case most < need:
		d.say("limits", findingWarning, fmt.Sprintf("LimitNOFILE=%d in its unit, ulimit -n %d in a shell, or lower limits.max_connections", 2*need, 2*need),
			"%s may have %d descriptors, and one user may have %d connections", whose, most, d.set.Limits.MaxConnections)
	case open > most*9/10:
		d.say("limits", findingWarning, "see who is connected: ipcd stats", "%s has %d of its %d descriptors open", whose, open, most)
	default:
		d.ok("limits", "%s may have %d descriptors, which is enough for %d connections of one user", whose, most, d.set.Limits.MaxConnections)
	}
}

// figure is the value of a figure without labels, or 0.
func (d *doctor) figure(name string) int {
	for _, f := range d.stats {
		if f.Name == name && len(f.Samples) == 1 {
			return int(f.Samples[0].Value)
		}
	}
	return 0
}

// lookAtState looks whether we can write to the directory for state, in which "call --start" logs.
func (d *doctor) lookAtState(context.Context) {
	dir, err := stateDir()
	if err != nil {
		d.blame("state", findingError, err)
		return
	}
	there := dir
	for {
		info, err := os.Stat(there)
		parent := filepath.Dir(there)
		if errors.Is(err, fs.ErrNotExist) && parent != there {
			there = parent
			continue
		}
		if err == nil && !info.IsDir() {
			d.say("state", findingError, "see what it is: ls -l "+there, "%s, for the state of your daemon, is no directory", there)
			return
		}
		break
	}
	f, err := os.CreateTemp(there, ".ipcd-doctor-*")
	if err != nil {
		d.say("state", findingError, "see why: ls -ld "+there, "%s, for the state of your daemon, cannot be written to: %v", there, withoutPath(err))
		return
	}
	f.Close()
	os.Remove(f.Name())
	if there != dir {
		d.ok("state", "%s is not there yet and can be made", dir)
		return
	}
	d.ok("state", "%s can be written to", dir)
}

// lookAtAudit looks at the directory of the audit log, and whether lines are lost.
func (d *doctor) lookAtAudit(context.Context) {
	if lost := d.figure("ipcd_audit_lost_total"); lost > 0 {
		d.say("audit", findingWarning, d.client.line("logs"), "%d lines of the audit log were lost since the daemon was started; its log says why", lost)
	}
	switch err := checkAudit(d.set); {
	case err != nil:
		d.blame("audit", findingError, err)
	case d.set.auditFile() != "":
		d.ok("audit", "the audit log is %s", d.set.auditFile())
	}
}

// lookAtCertificates looks at the files of TLS, those of a daemon and those of a client, and at the days on which certificates end.
func (d *doctor) lookAtCertificates(context.Context) {
	t := d.set.TLS
	if t == (tlsSettings{}) {
		return
	}
	switch err := gather(checkTLS(d.set, d.from), checkClientTLS(d.set, d.from)); {
	case errors.Is(err, fs.ErrPermission): // a key that is root's, or the service's
		d.say("certificate", findingWarning, "look as root, or as the user that the daemon runs as", "%v", err)
	case err != nil:
		d.blame("certificate", findingError, err)
	}
	var files []string
	for _, file := range []string{t.Cert, t.ClientCA, t.CA, t.ClientCert} {
		if file != "" && !slices.Contains(files, file) {
			files = append(files, file)
			d.lookAtDays(file)
		}
	}
}

// lookAtDays looks at the days of the certificates in a file. That it cannot be read has been said.
func (d *doctor) lookAtDays(file string) {
	const hint = "have a new one made by its authority before that; if that is from ipcd tls init: ipcd tls issue"
	list, err := readCertificates("", file)
	if err != nil {
		return
	}
	now, first := time.Now(), list[0].NotAfter
	wrong := false
	for _, cert := range list {
		state, what := findingOK, ""
		switch left := cert.NotAfter.Sub(now); {
		case left <= 0:
			state, what = findingError, "has expired, on "+day(cert.NotAfter)
		case now.Before(cert.NotBefore):
			state, what = findingError, "is valid from "+day(cert.NotBefore)+" on alone"
		case left <= expirySoon:
			state, what = findingWarning, "expires on "+day(cert.NotAfter)
		}
		if cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
		if state != findingOK {
			wrong = true
			d.say("certificate", state, hint, "the certificate of %s in %s %s", cert.Subject, file, what)
		}
	}
	if !wrong {
		d.ok("certificate", "%s is valid until %s", file, day(first))
	}
}

// lookAtClock looks for what is of the future: a clock that was set back has times pass twice, and tokens and certificates, logs and
// "since" are then not what they seem.
func (d *doctor) lookAtClock(context.Context) {
	now := time.Now()
	ahead := func(what string, at time.Time) bool {
		if at.IsZero() || at.Sub(now) <= clockSlack {
			return false
		}
		d.say("clock", findingWarning, "compare the clock with another machine's: date", "%s is of %s, which is still to come: the clock was set back, or is slow", what, at.Local().Format(time.DateTime))
		return true
	}
	wrong := false
	files := []string{d.set.file, d.set.auditFile()}
	if d.at.isFile() {
		files = append(files, d.at.Path)
	}
	if log, err := startLogFile(); err == nil {
		files = append(files, log)
	}
	if self, err := os.Executable(); err == nil {
		files = append(files, self)
	}
	for _, name := range files {
		if info, err := os.Stat(name); name != "" && err == nil && ahead(name, info.ModTime()) {
			wrong = true
		}
	}
	if d.status != nil {
		began, _ := time.Parse(time.RFC3339, d.status.Started)
		wrong = ahead("the start of the daemon", began) || wrong
	}
	if !wrong {
		d.ok("clock", "no file is of the future")
	}
}
