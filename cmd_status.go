package main

// This file owns "ipcd status": the status of the daemon, and of its service as the service manager sees it.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"
)

// A ServiceReport describes the service, as "service" in the output of "status --json".
type ServiceReport struct {
	Name     string       `json:"name"`
	User     bool         `json:"user"`    // it is a service of the user
	Manager  string       `json:"manager"` // "systemd"
	State    serviceState `json:"state"`
	Endpoint string       `json:"endpoint"`
	unitState
	LogAt string   `json:"log_at,omitempty"` // the file of its log, or the command that shows it
	Log   []string `json:"log,omitempty"`    // its last lines, if the daemon does not answer
}

// A serviceState says what would happen to a call to the service.
type serviceState string

const (
	stateAbsent    serviceState = "not installed"
	stateStopped   serviceState = "stopped"
	stateWaiting   serviceState = "waiting" // stopped; the first call starts it
	stateAnswering serviceState = "answering"
	stateSilent    serviceState = "not answering" // it runs but does not answer
	stateClosed    serviceState = "running"       // it runs, but we may not call it
	stateStarting  serviceState = "starting"
	stateStopping  serviceState = "stopping"
	stateFailed    serviceState = "failed"
)

// report asks the service manager about the service and, if the service is running, the daemon for its status.
func (f *serviceFlags) report(ctx context.Context, sup supervisor) (*ServiceReport, json.RawMessage, error) {
	d := f.recall(sup)
	i := &installer{sup: sup, d: d}
	r := &ServiceReport{Name: d.name, User: d.user, Manager: sup.title(), State: stateAbsent}
	if len(d.Endpoints) > 0 {
		r.Endpoint = d.asked().String()
	}
	if !i.installed() {
		return r, nil, nil
	}
	file, words := sup.logAt(d)
	r.LogAt = cmp.Or(file, joinWords(words))
	var err error
	if r.unitState, err = sup.state(ctx, d); err != nil {
		return r, nil, err
	}
	var answer json.RawMessage
	switch r.Active {
	case activeRunning:
		r.State = stateSilent
		if err := askOnce(ctx, d.asked(), d.Settings, "Ipcd.Status", &answer); err == nil {
			r.State = stateAnswering
		} else {
			r.Why = err.Error()
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, errDenied) || errors.Is(err, errUnproven) {
				r.State = stateClosed
			}
		}
	case activeStarting:
		r.State = stateStarting
	case activeStopping:
		r.State = stateStopping
	case activeFailed:
		r.State = stateFailed
	default:
		r.State = stateStopped
		if r.Waiting {
			r.State = stateWaiting
		}
	}
	if r.State == stateFailed || r.State == stateSilent || r.State == stateStarting {
		r.Log = sup.tail(ctx, d, tailLines)
	}
	return r, answer, nil
}

// rows writes the report as rows of a table.
func (r *ServiceReport) rows(t io.Writer) {
	state := string(r.State)
	switch {
	case r.State == stateWaiting:
		state = "stopped; the first call starts it"
	case r.Why != "":
		state += ": " + oneLine(r.Why)
	}
	kind := r.Manager
	if r.User {
		kind += ", your own"
	}
	fmt.Fprintf(t, "service\t%s (%s): %s\n", r.Name, kind, state)
	if r.State == stateAbsent {
		return
	}
	if !r.Since.IsZero() {
		fmt.Fprintf(t, "since\t%s\n", r.Since.Local().Format(time.DateTime))
	}
	start := "does not start automatically"
	if r.Enabled {
		start = map[bool]string{false: "starts with the system", true: "starts when you log in"}[r.User]
	}
	fmt.Fprintf(t, "boot\t%s\n", start)
	if r.Restarts > 0 {
		fmt.Fprintf(t, "restarts\t%d, by the service manager\n", r.Restarts)
	}
	if r.State != stateAnswering { // otherwise the daemon's own status has these
		if r.PID > 0 {
			fmt.Fprintf(t, "process\t%d\n", r.PID)
		}
		fmt.Fprintf(t, "endpoint\t%s\n", r.Endpoint)
	}
	fmt.Fprintf(t, "log\t%s\n", oneLine(r.LogAt))
	for _, line := range r.Log {
		fmt.Fprintf(t, "\t%s\n", oneLine(line))
	}
}

// problem returns the error from which status gets its exit code, or nil.
func (r *ServiceReport) problem(f *serviceFlags) error {
	switch r.State {
	case stateAnswering, stateClosed:
		return nil
	case stateAbsent:
		return faultf(codeNotReachable, "the service %s is not installed%w", r.Name, errNoService).
			withHint(`ipcd install%s, or "ipcd run" for a daemon in the foreground`, f.flags())
	case stateWaiting:
		return faultf(codeNotReachable, "the service %s is stopped; the first call starts it", r.Name).withHint("ipcd start%s", f.flags())
	case stateFailed, stateStopped:
		return faultf(codeNotReachable, "the service %s is %s", r.Name, map[serviceState]string{stateFailed: "down: it has failed", stateStopped: "stopped"}[r.State]).
			withHint("ipcd start%s", f.flags())
	}
	return faultf(codeNotReachable, "the service %s is %s", r.Name, r.State).withHint("ipcd restart%s", f.flags())
}

func newStatusCmd() *cobra.Command {
	var f clientFlags
	var s serviceFlags
	cmd := &cobra.Command{
		Use: "status", Short: "show the status of the daemon and its service",
		Long: `Show the status of the daemon that calls reach, and of the service as the service manager sees it.
With -e it is about the daemon there only, with --name or --user about that service only.

The JSON is the answer of Ipcd.Status (docs/protocol.md), if a daemon answers, with two more members: "program",
which is what "version --json" prints, and "service":
{"name", "user", "manager", "state", "endpoint", "installed", "enabled", "active", "pid", "since", "restarts",
"why", "waiting", "log_at", "log"}. The state is not installed, stopped, waiting (the first call starts it), starting,
answering, running (you may not call it), not answering, stopping or failed.

Exit codes, like those of systemctl status: 0 it answers, or runs and you may not call it;
3 it does not; 4 there is no such service.`,
		Example:           "  ipcd status\n  ipcd status --json\n  ipcd status --name ipcd-2",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.check(); err != nil {
				return err
			}
			set, wrong, err := settingsDespite(cmd) // which may be why the daemon is down
			if err != nil {
				return err
			}
			warnTo(cmd.ErrOrStderr(), cmd, wrong)
			r, err := s.gather(cmd, &f, f.briefly(set))
			err = asUnreached(err)
			if r == nil {
				return err
			}
			out := cmd.OutOrStdout()
			if wantsJSON(cmd) {
				return errors.Join(r.printJSON(out), err)
			}
			return errors.Join(r.print(out), err)
		},
	}
	addQuestionFlags(cmd, &f)
	s.add(cmd)
	return cmd
}

// A report is what status prints.
type report struct {
	service *ServiceReport  // nil if no service manager was asked
	daemon  json.RawMessage // the answer of Ipcd.Status, or nil
}

// gather asks the daemon, the service manager or both, as the flags say. A report that comes with an error is
// printed all the same.
func (s *serviceFlags) gather(cmd *cobra.Command, f *clientFlags, set settings) (*report, error) {
	r := &report{}
	ask := func() (err error) {
		r.daemon, err = askJSON[Status](cmd.Context(), f, set, "Ipcd.Status", nil)
		return err
	}
	named := cmd.Flags().Changed("name") || s.user
	if set.Endpoint != "" && !named {
		if err := ask(); err != nil {
			return nil, err
		}
		return r, nil
	}
	sup, err := s.choose(named)
	if err != nil {
		if named {
			return nil, err
		}
		if err := ask(); err != nil {
			return nil, err
		}
		return r, nil
	}
	if r.service, r.daemon, err = s.report(cmd.Context(), sup); err != nil || named {
		if err == nil {
			err = r.service.problem(s)
		}
		return r, err
	}
	// Calls reach the user's own daemon first. Calling the socket of the service instead could start
	// the service.
	own, err := set.clientEndpoint()
	if err == nil && (r.service.State == stateAbsent || own.String() != r.service.Endpoint) {
		var answer json.RawMessage
		ctx := cmd.Context()
		if set.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, set.Timeout)
			defer cancel()
		}
		askErr := askOnce(ctx, own, set, "Ipcd.Status", &answer)
		if askErr == nil {
			r.daemon = answer
			return r, nil
		}
		if errors.Is(askErr, errDeadline) {
			return r, askErr
		}
		if r.service.State == stateAbsent && (f.start || f.wait > 0 || !errors.Is(askErr, &fault{Code: codeNotReachable})) {
			return r, ask()
		}
	}
	return r, r.service.problem(s)
}

// choose returns the service manager to ask. If no service was named, a service of the user goes first.
func (s *serviceFlags) choose(named bool) (supervisor, error) {
	if !named {
		own := serviceFlags{instance{name: s.name, user: true}}
		if sup, err := findSupervisor(true); err == nil && (&installer{sup: sup, d: own.recall(sup)}).installed() {
			*s = own
			return sup, nil
		}
	}
	return findSupervisor(s.user)
}

func (r *report) print(w io.Writer) error {
	return table(w, func(t io.Writer) {
		if r.service != nil {
			r.service.rows(t)
		}
		var s Status
		if r.daemon == nil || decodeValue("it", r.daemon, &s) != nil {
			return
		}
		fmt.Fprintf(t, "version\t%s (protocol %d)%s\n", oneLine(s.Version), s.Protocol, r.compareVersion(s))
		fmt.Fprintf(t, "process\t%d, up %s\n", s.PID, (time.Duration(s.Uptime) * time.Second).String())
		if s.isBrief() {
			fmt.Fprintln(t, "more\tis for those who may control the daemon")
			return
		}
		for _, e := range s.Endpoints {
			fmt.Fprintf(t, "endpoint\t%s\n", oneLine(e))
		}
		fmt.Fprintf(t, "connections\t%d now, %d in all, %d refused\n", s.Connections, s.Accepted, s.Refused)
		fmt.Fprintf(t, "calls\t%d, %d of them answered with an error; %d messages refused\n", s.Calls, s.Errors, s.Rejected)
		fmt.Fprintf(t, "memory\t%.1f MiB\n", float64(s.Memory)/(1<<20))
		if s.Config != "" {
			fmt.Fprintf(t, "config\t%s\n", oneLine(s.Config))
		}
		if r.service == nil || r.service.PID != s.PID {
			fmt.Fprintf(t, "log\t%s\n", oneLine(cmp.Or(s.Log, "on standard error, where it was started")))
		}
	})
}

// compareVersion returns a note if the daemon and this program have different versions.
func (r *report) compareVersion(s Status) string {
	own := version()
	switch {
	case s.isOtherBuild() && own == s.Version:
		return `; this program is another build, and "ipcd restart" starts it`
	case own == s.Version:
		return ""
	case r.service != nil && r.service.PID == s.PID, s.Build != "":
		return "; this program is " + own + `, and "ipcd restart" starts it`
	}
	return fmt.Sprintf("; this program is %s and can replace it: %s", own, endLine(s.PID))
}

// printJSON prints the daemon's answer with the members "program" and "service" added.
func (r *report) printJSON(w io.Writer) error {
	all := map[string]json.RawMessage{}
	if r.daemon != nil {
		if err := json.Unmarshal(r.daemon, &all); err != nil {
			return faultf(codeWrongProtocol, "the answer of Ipcd.Status is not as expected: %w", err)
		}
	}
	var err error
	if all["program"], err = json.Marshal(thisBuild()); err != nil {
		return err
	}
	if r.service != nil {
		if all["service"], err = json.Marshal(r.service); err != nil {
			return err
		}
	}
	return printJSON(w, all)
}
