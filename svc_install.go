package main

// This file owns how a service comes into the system and how it leaves: every step can be repeated, an installation
// that fails half way is undone, and what belongs to others is left alone.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
)

// An installer does what install, uninstall, start, stop and restart do.
type installer struct {
	sup supervisor
	d   *deployment
	out io.Writer
	had []endpoint // what the installed service serves; for install

	unsaid error // the first that print has had

	force bool // change what is installed with other settings
	start bool // start it, and wait until it answers
	purge bool // remove what a user may want, too
}

// newInstaller finds the service manager and makes sure that we may use it.
func newInstaller(d *deployment, out io.Writer) (*installer, error) {
	sup, err := findSupervisor(d.user)
	if err != nil {
		return nil, err
	}
	if err := checkRights(d.user); err != nil {
		return nil, err
	}
	return &installer{sup: sup, d: d, out: out}, nil
}

// say prints a line about what has been done.
func (i *installer) say(format string, args ...any) { i.print(fmt.Sprintf(format+"\n", args...)) }

// print prints what has been done. A line that cannot be printed keeps nothing from being done; it is kept in unsaid, with which the
// command fails in the end.
func (i *installer) print(text string) {
	if _, err := io.WriteString(i.out, text); i.unsaid == nil {
		i.unsaid = err
	}
}

// A change is a part that is not as it should be.
type change struct {
	part part
	had  string // what was there; see was
	was  bool   // something was there
}

// parts returns all parts of the installation: first the program, if it is copied.
func (i *installer) parts() ([]part, error) {
	parts, err := i.sup.parts(i.d)
	if i.d.CopyOf != "" {
		parts = append([]part{&copyPart{from: i.d.CopyOf, path: i.d.Program}}, parts...)
	}
	return parts, err
}

// besides reports whether the part is neither the service nor its program: then a restart is not enough.
func (c change) besides() bool {
	_, carried := c.part.(*carriedPart)
	_, copied := c.part.(*copyPart)
	return !carried && !copied
}

// changes compares what is installed with parts, which should be. What a deployment with other settings left behind
// comes last.
func (i *installer) changes(parts []part) (changes []change, installed bool, err error) {
	for _, p := range parts {
		have, err := p.have()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			changes = append(changes, change{part: p})
		case err != nil:
			return nil, false, err
		default:
			installed = installed || isOurText(have)
			if have != p.want() {
				changes = append(changes, change{part: p, had: have, was: true})
			}
		}
	}
	for _, p := range i.sup.possible(i.d) {
		if slices.ContainsFunc(parts, func(q part) bool { return q.name() == p.name() }) {
			continue
		}
		if have, err := p.have(); err == nil {
			changes = append(changes, change{part: strayPart{p}, had: have, was: true})
		}
	}
	return changes, installed, nil
}

// install makes the service what it should be, or leaves the system as it was. Parts that are missing because an
// installation was interrupted are added.
func (i *installer) install(ctx context.Context) error {
	unlock, err := lockServices(ctx, i.d.user)
	if err != nil {
		return err
	}
	defer unlock()
	if err := i.refuseForeign(ctx); err != nil {
		return err
	}
	parts, err := i.parts()
	if err != nil {
		return err
	}
	changes, installed, err := i.changes(parts)
	if err != nil {
		return err
	}
	if err := errors.Join(i.checkState(installed), i.checkTaken(ctx, installed)); err != nil {
		return err
	}
	if len(changes) == 0 {
		return i.unchanged(ctx)
	}
	if installed && !i.force && slices.ContainsFunc(changes, func(c change) bool { return c.was }) {
		i.showChanges(changes)
		return faultf(codeApplication, "the service %s is installed with other settings; nothing was changed", i.d.name).
			withHint("to have them as shown above, add --force")
	}
	return i.apply(ctx, changes, installed)
}

// what names the service for people.
func (i *installer) what() string {
	kind := "the service"
	if i.d.user {
		kind = "your service"
	}
	return fmt.Sprintf("%s %s (%s)", kind, i.d.name, i.sup.title())
}

// unchanged handles a service that is installed with these settings already: it makes sure that it is enabled, and
// that it runs and can be reached if it should.
func (i *installer) unchanged(ctx context.Context) error {
	i.say("%s is installed already, with these settings: unchanged", i.what())
	u, err := i.sup.state(ctx, i.d)
	if err != nil {
		return err
	}
	if !u.Enabled { // somebody has disabled it
		if err := perform(ctx, i.sup.enable(i.d)); err != nil {
			return err
		}
		i.say("it starts by itself again")
	}
	if !i.start {
		return nil
	}
	if err := perform(ctx, i.sup.start(i.d)); err != nil {
		return i.explain(ctx, err)
	}
	return i.answers(ctx)
}

// refuseForeign returns an error if somebody else installed a service of that name.
func (i *installer) refuseForeign(ctx context.Context) error {
	if at := i.sup.foreign(ctx, i.d); at != "" {
		return faultf(codeApplication, "there is a service %s that ipcd has not installed (%s); nothing was changed", i.d.name, at).
			withHint("choose another name: --name ipcd-2")
	}
	return nil
}

// checkTaken returns an error if somebody else listens at an endpoint that the service does not have yet. Two would
// have to share it; and systemd takes a socket away from whoever listens there.
func (i *installer) checkTaken(ctx context.Context, installed bool) error {
	for _, e := range i.d.Endpoints {
		if installed && slices.ContainsFunc(i.had, func(had endpoint) bool { return same(had, e) }) {
			continue
		}
		var s Status
		err := askOnce(ctx, e, i.d.Settings, "Ipcd.Status", &s)
		if errors.Is(err, &fault{Code: codeNotReachable}) {
			continue
		}
		f := faultf(codeApplication, "another daemon serves %s already (pid %d); nothing was changed", e, s.PID)
		if err != nil {
			f = faultf(codeApplication, "another program is at %s already (%w); nothing was changed", e, err)
		}
		return f.withHint("stop it first, or choose another name: --name ipcd-2")
	}
	return nil
}

// showChanges prints how the parts differ, as diff does.
func (i *installer) showChanges(changes []change) {
	for _, c := range changes {
		switch {
		case !c.was:
			i.say("%s is missing", c.part.name())
		case c.part.want() == "":
			i.say("%s is not needed any more", c.part.name())
		default:
			i.print(string(diff.Diff(c.part.name()+" (installed)", []byte(c.had), c.part.name()+" (wanted)", []byte(c.part.want()))))
		}
	}
}

// A strayPart is left by another deployment of this name, and no part of this one.
type strayPart struct{ part }

func (strayPart) want() string { return "" }
func (p strayPart) put() error { return p.remove() }

// apply makes the changes one after another, and undoes them if one fails.
func (i *installer) apply(ctx context.Context, changes []change, installed bool) (err error) {
	u, _ := i.sup.state(ctx, i.d)
	ran := installed && (u.Active == activeRunning || u.Waiting)
	var undo []func() error
	if !installed {
		undo = append(undo, i.undoRemains())
	}
	defer func() {
		if err != nil {
			err = i.takeBack(ctx, err, undo, installed, ran)
		}
	}()
	for _, c := range changes {
		undo = append(undo, undoOf(c))
		if err := c.part.put(); err != nil {
			return err
		}
	}
	if err := perform(ctx, i.sup.enable(i.d)); err != nil {
		return err
	}
	if i.d.CopyOf != "" {
		i.say("copied this program to %s", i.d.Program)
	}
	i.say("installed %s", i.what())
	switch {
	case ran && i.start && slices.ContainsFunc(changes, change.besides): // such as a socket unit
		err = perform(ctx, append(i.sup.stop(i.d), i.sup.start(i.d)...))
	case ran && i.start:
		err = perform(ctx, i.sup.restart(i.d))
	case i.start:
		err = perform(ctx, i.sup.start(i.d))
	default:
		return nil
	}
	if err != nil {
		return i.explain(ctx, err)
	}
	return i.answers(ctx)
}

// undoOf returns a function that restores the part to what it is now.
func undoOf(c change) func() error {
	if s, ok := c.part.(interface{ save() func() error }); ok {
		return s.save()
	}
	if !c.was {
		return c.part.remove
	}
	return func() error { return fmt.Errorf("%s stays as it was changed", c.part.name()) }
}

// takeBack undoes an installation that has failed or was interrupted.
func (i *installer) takeBack(ctx context.Context, why error, undo []func() error, installed, ran bool) error {
	if ctx.Err() != nil { // Ctrl-C reaches the manager's commands too, and they fail first
		why = faultf(codeCancelled, "it was interrupted")
	}
	ctx = context.WithoutCancel(ctx)
	if !installed {
		perform(ctx, i.sup.stop(i.d))
		perform(ctx, i.sup.disable(i.d))
	}
	var left []error
	for _, u := range slices.Backward(undo) {
		left = append(left, u())
	}
	if installed {
		left = append(left, perform(ctx, i.sup.enable(i.d)))
	} else {
		perform(ctx, i.sup.forget(i.d))
	}
	if ran {
		left = append(left, perform(ctx, append(i.sup.stop(i.d), i.sup.start(i.d)...)))
	}
	f := *asFault(why)
	f.Text = "the installation failed and was taken back: " + f.Text
	if err := errors.Join(left...); err != nil {
		f.Text = "the installation failed, and not all of it could be taken back (" + oneLine(err.Error()) + "): " + asFault(why).Text
		f.hint = fmt.Sprintf("see what is left with: ipcd status --name %s", i.d.name)
	}
	f.err = why
	return &f
}

// answers waits until the daemon answers at its endpoint.
func (i *installer) answers(ctx context.Context) error {
	if len(i.d.Endpoints) == 0 {
		return nil
	}
	e := i.d.asked()
	s, err := i.waitForAnswer(ctx, e)
	if e.isTLS() && errors.Is(err, errDenied) { // it has shown a certificate; we may have none that it takes
		i.say("it listens at %s", e)
		return nil
	}
	if err != nil {
		return i.explain(ctx, err)
	}
	i.say("it answers at %s", strings.Join(s.Endpoints, ", "))
	if own := version(); s.Version != own {
		i.say("the daemon is version %s and this program is %s; \"ipcd restart\" starts the program anew", s.Version, own)
	}
	return nil
}

func (i *installer) waitForAnswer(ctx context.Context, e endpoint) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var s Status
	done, err := again(ctx, 10*time.Millisecond, 500*time.Millisecond, func() (bool, error) {
		s = Status{}
		err := askOnce(ctx, e, i.d.Settings, "Ipcd.Status", &s)
		switch {
		case err == nil, errors.Is(err, &fault{Code: codeDenied}):
			return true, err
		case errors.Is(err, errUnproven): // it is there, and whoever installs it has no token yet
			s = Status{Version: version(), Endpoints: []string{e.String()}}
			return true, nil
		}
		if u, stateErr := i.sup.state(ctx, i.d); stateErr == nil && u.Active == activeFailed {
			return true, faultf(codeApplication, "the service %s has failed: %s", i.d.name, u.Why)
		}
		return false, err
	})
	switch {
	case done:
		return s, err
	case errors.Is(ctx.Err(), context.Canceled):
		return s, errCancelled
	}
	return s, faultf(codeApplication, "the service %s was started and does not answer within %s: %w", i.d.name, answerLimit, err)
}

// explain shows the end of the log of a service that did not start.
func (i *installer) explain(ctx context.Context, err error) error {
	lines := i.sup.tail(ctx, i.d, tailLines)
	if len(lines) > 0 {
		i.say("the last lines of its log:")
		for _, l := range lines {
			i.say("  %s", oneLine(l))
		}
	}
	f := *asFault(err)
	if f.Code == codeNotReachable { // the service was to be reached, and that it is not is the failure
		f.Code = codeApplication
	}
	f.err = err
	return &f
}

// uninstall stops the service and removes what install, and the service itself, created.
func (i *installer) uninstall(ctx context.Context) error {
	unlock, err := lockServices(ctx, i.d.user)
	if err != nil {
		return err
	}
	defer unlock()
	if err := i.refuseForeign(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	there := slices.DeleteFunc(i.sup.possible(i.d), func(p part) bool {
		_, err := p.have()
		return errors.Is(err, fs.ErrNotExist)
	})
	if len(there) > 0 {
		if err := perform(ctx, i.sup.stop(i.d)); err != nil {
			return err
		}
		if err := perform(ctx, i.sup.disable(i.d)); err != nil {
			return err
		}
		i.claim()
		for _, p := range slices.Backward(there) {
			if err := p.remove(); err != nil {
				return fmt.Errorf("remove %s: %w", p.name(), err)
			}
			i.say("removed %s", p.name())
		}
		if err := perform(ctx, i.sup.forget(i.d)); err != nil {
			return err
		}
	}
	removed := i.clean(len(there) > 0)
	if len(there) == 0 && !removed {
		i.say("%s is not installed; there was nothing to remove", i.what())
	}
	return nil
}

// plan prints what install would write and run.
func (i *installer) plan() error {
	parts, err := i.parts()
	if err != nil {
		return err
	}
	switch changes, installed, err := i.changes(parts); {
	case err != nil: // perhaps it takes more rights to look
	case installed && len(changes) == 0:
		i.say("%s is installed already, with these settings: nothing would be changed", i.what())
	case installed:
		i.say("%s is installed already, with other settings: this would take --force", i.what())
	}
	for _, p := range parts {
		i.say("==> %s", p.name())
		i.print(p.want())
		for _, c := range p.does() {
			i.say("+ %s", c)
		}
		i.say("")
	}
	steps := i.sup.enable(i.d)
	if i.start {
		steps = append(steps, i.sup.start(i.d)...)
	}
	for _, s := range steps {
		i.say("+ %s", s.text)
	}
	return nil
}

// askOnce calls a method without argument of the daemon at e, and decodes the answer into s.
func askOnce(ctx context.Context, e endpoint, set settings, method string, s any) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	c, err := dial(ctx, e.here(), dialOptions{limits: set.Limits, tls: set.TLS}) // without a token: it may be meant for another daemon
	if err != nil {
		return err
	}
	defer c.close()
	if err = c.call(ctx, method, nil, s); errors.Is(err, errDeadline) {
		return silent(ctx, e, c, dialOptions{}, err)
	}
	return err
}
