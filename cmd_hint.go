package main

// This file owns what a command does with a daemon that is silent, or answers with an error: for how long it waits, what it looks at to say
// what was waited for, and what can be typed next.

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// briefly returns the settings for a question that a daemon which is well answers at once: nobody waits for as long as for a call,
// unless --timeout says so.
func (f *clientFlags) briefly(set settings) settings {
	if !f.start && !f.cmd.Flag("timeout").Changed && (set.Timeout <= 0 || set.Timeout > askLimit) {
		set.Timeout = askLimit
	}
	return set
}

// asUnreached is err for a command whose exit code says whether a daemon answers: one that is silent does not.
func asUnreached(err error) error {
	var f *fault
	if !errors.As(err, &f) || f.Code != codeDeadline {
		return err
	}
	c := *f
	c.Code = codeNotReachable
	return &c
}

// patiently calls a method, and ends that once --wait is over if the call still waits at the daemon for a worker to come up, and once
// --timeout is over if it does not.
func (f *clientFlags) patiently(ctx context.Context, c caller, method string, call func(ctx context.Context) error) error {
	if f.until.IsZero() || strings.HasPrefix(method, "Ipcd.") || f.at.Scheme == "fork" || f.at.Proto == protoEcho {
		return call(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if why := f.watch(ctx, c, method); why != nil {
			cancel(why)
		}
	}()
	err := call(ctx)
	var why *fault
	if err != nil {
		errors.As(context.Cause(ctx), &why)
	}
	cancel(nil)
	if <-watched; why != nil {
		return why
	}
	return err
}

// watch returns why a call of the method is to end before its deadline, which has room for --wait and --timeout, or nil once ctx has
// ended. Of callers to whom the daemon does not say whether a worker is waited for, no call ends so.
func (f *clientFlags) watch(ctx context.Context, c caller, method string) *fault {
	patience := []time.Time{f.until}
	late := time.Now().Add(f.timeout)
	if f.timeout > 0 {
		patience = append(patience, late)
	}
	slices.SortFunc(patience, time.Time.Compare)
	for _, at := range patience {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(at)):
		}
		w, told := f.workerNotThere(ctx, c, method)
		waits := w != nil && w.Waiting > 0
		switch now := time.Now(); {
		case waits && !now.Before(f.until):
			why := faultf(codeDeadline, "the call was not begun within %s (--wait): the worker %s is %s", formatDuration(f.wait), w.Name, w.summary())
			why.Data = faultData{Retry: true, Worker: w.Name, State: w.State}.json()
			return why
		case told && !waits && f.timeout > 0 && !now.Before(late):
			return errDeadline
		}
	}
	return nil
}

// withHint says of an error of a method what can be typed next.
func (f *clientFlags) withHint(ctx context.Context, c caller, method string, err error) error {
	var refused *fault
	if !errors.As(err, &refused) || refused.hint != "" {
		return err
	}
	name, own := strings.CutPrefix(method, "Ipcd.")
	_, known := ipcdDocs[name]
	isOwn := own && known
	if refused.Code == codeDeadline { // the client's own: the daemon knows of none
		if refused = f.awaited(ctx, c, method, refused); refused.hint != "" {
			return refused
		}
		err = refused
	}
	switch {
	case isOwn && f.at.Scheme == "fork" && (refused.Code == codeNoMethod || refused.Code == codeDeadline):
		return faultf(refused.Code, "%s is not answered by the program of %s, which may have methods all the same: %w", method, f.at, err).
			withHint("call one that you know: %s", f.line("call", "Service.Method"))
	// Ipcd.Describe returns the same code for an unknown argument. Only the end of the text differs.
	case refused.Code == codeNoMethod && isOwn && strings.HasSuffix(err.Error(), method):
		return faultf(codeNoMethod, "%w: the daemon is older than this program, which speaks protocol %d", err, protocolVersion).
			withHint(`restart the daemon; "ipcd version" and "ipcd status" tell the version of each`)
	case refused.Code == codeNoMethod && f.at.Scheme == "fork":
		return refused.withHint("the program of %s answers it", f.at)
	case refused.Code == codeNoMethod && f.isOtherBuild(ctx, c):
		return refused.withHint(`the daemon runs another build of this program, and "%s" starts this one`, f.line("restart"))
	case refused.Code == codeNoMethod && refused.data().Near != "":
		return refused.withHint(`did you mean %s? "%s" lists what there is`, refused.data().Near, f.line("ls"))
	case refused.Code == codeNoMethod:
		return refused.withHint(`run "%s" to see what there is`, f.line("ls"))
	case (refused.Code == codeGone || refused.Code == codeDeadline) && refused.data().Worker != "":
		return refused.withHint("%s", f.workerHint(refused.data().Worker, refused.data().State))
	case refused.Code == codeGone && refused.data().Retry:
		return refused.withHint(`run "%s" to see whether a worker answers it, and what has become of that`, f.line("worker ls"))
	case refused.Code == codeInvalid && method == subscribeMethod:
		return refused.withHint("%s", f.line("sub", "'build.>'"))
	case refused.Code == codeDenied && method == "Ipcd.Register" && !strings.HasPrefix(refused.Text, errDenied.Text):
		return refused.withHint(`choose another name; "%s" lists those that are taken`, f.line("ls"))
	case refused.Code == codeBadArgument:
		return refused.withHint(`run "%s" to see its argument`, f.line("describe", method))
	}
	return err
}

// awaited adds to late, the error of a call whose deadline has passed, what the call waited for, if that is a worker, or a daemon that
// does not answer at all.
func (f *clientFlags) awaited(ctx context.Context, c caller, method string, late *fault) *fault {
	if late.data().Worker != "" || f.at.Scheme == "fork" || f.at.Proto == protoEcho {
		return late
	}
	if isSilent(ctx, c) {
		return silent(ctx, f.at, c, dialOptions{}, late)
	}
	if w, _ := f.workerNotThere(context.WithoutCancel(ctx), c, method); w != nil {
		late = faultf(late.Code, "%w; the worker %s is %s", late, w.Name, w.summary())
		late.Data = faultData{Worker: w.Name, State: w.State}.json()
	}
	return late
}

// workerNotThere returns the worker that would answer the method, if that does not run, and whether we are told of workers at all.
func (f *clientFlags) workerNotThere(ctx context.Context, c caller, method string) (_ *WorkerStatus, told bool) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var s Status
	if c.call(ctx, "Ipcd.Status", nil, &s) != nil {
		return nil, false
	}
	service, _, _ := strings.Cut(method, ".")
	for i := range s.Workers {
		if w := &s.Workers[i]; w.State != "running" && slices.Contains(w.Services, service) {
			return w, true
		}
	}
	return nil, !s.isBrief()
}

// workerHint is what can be typed next about a worker that does not answer.
func (f *clientFlags) workerHint(name, state string) string {
	if state == "stopped" || state == "stopping" {
		return "start it: " + f.line("worker start", joinWords([]string{name}))
	}
	return "see its output: " + f.line("worker logs", joinWords([]string{name}))
}

// isOtherBuild reports whether the daemon was started from another build of this program.
func (f *clientFlags) isOtherBuild(ctx context.Context, c caller) bool {
	var s Status
	return c.call(ctx, "Ipcd.Status", nil, &s) == nil && s.isOtherBuild()
}
