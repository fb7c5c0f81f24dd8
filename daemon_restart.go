package main

// This file owns how a daemon makes way for another program in its own process: the same process number, and the same open
// sockets, so that neither a service manager nor a caller notices more than a pause. That is for where nobody else keeps the
// sockets open meanwhile. What is left to the next program is in transport.go.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	tryLimit  = 30 * time.Second // for the next program to say whether it could serve
	tryOutput = 64 << 10         // bytes that are kept of what it says
)

// A Preview is what "ipcd run --check" prints: what a daemon with these arguments would be.
type Preview struct {
	Version   string   `json:"version"`
	Endpoints []string `json:"endpoints"`
}

// A succession is the error of a daemon that has stopped to make way for another program.
type succession struct {
	server *server
	set    settings // with which it served
	failed error    // what was wrong with that program when the daemon had stopped; nil if it can be executed
}

func (*succession) Error() string { return "the daemon makes way for another program" }

// programPath is where this program was started from, by the name that was used: a link that leads to the next version later is
// followed then, which what it leads to now would not be.
func programPath() string {
	own, err := os.Executable()
	if err != nil {
		return ""
	}
	if named, err := exec.LookPath(os.Args[0]); err == nil && sameFile(named, own) {
		if named, err = filepath.Abs(named); err == nil {
			return named
		}
	}
	return own
}

// prepareRestart makes sure that the program could serve, and then has the daemon make way for it.
func (d *daemon) prepareRestart(ctx context.Context) error {
	select {
	case d.trying <- struct{}{}:
		defer func() { <-d.trying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.tryNext(ctx); err != nil {
		d.log.error("the daemon is not restarted: the program could not serve", "program", d.life.program, "error", err)
		return err
	}
	select {
	case d.next <- struct{}{}:
	default: // it was asked already
	}
	return nil
}

// tryNext makes sure that the program could serve in our place.
func (d *daemon) tryNext(ctx context.Context) error {
	p, err := tryProgram(ctx, d.life.program)
	if err != nil {
		return err
	}
	return d.tryEndpoints(p.Endpoints)
}

// tryEndpoints makes sure that the next program can open what is not open yet, and will take what a service manager holds.
func (d *daemon) tryEndpoints(next []string) error {
	left := d.server.leaves()
	for _, text := range next {
		e, err := parseEndpoint(text)
		if err != nil {
			return faultf(codeApplication, "the program could not serve %q: %w; the daemon goes on as it is", text, err)
		}
		place := func(at endpoint) bool { return same(at, e) || at.key() == e.key() }
		if slices.ContainsFunc(d.endpoints, place) {
			left = slices.DeleteFunc(left, func(l inheritance) bool { return place(l.at) })
			continue
		}
		l, err := transports[e.Scheme].listen(e, audience{})
		if err != nil {
			return faultf(codeApplication, "%w; the daemon goes on as it is", err).withHint("%s", hintFor(err))
		}
		l.Close()
	}
	for _, l := range left {
		if l.managers {
			return faultf(codeApplication, "the settings no longer name %s, whose socket the service manager holds; the daemon goes on as it is", l.at).
				withHint("ipcd install --force")
		}
	}
	return nil
}

// tryProgram asks the program at path whether it could serve with our arguments, in our place.
func tryProgram(ctx context.Context, path string) (p Preview, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return p, faultf(codeApplication, "there is no program %s any more; the daemon goes on as it is", path).withHint("put it there, or stop the daemon and start another one")
	}
	if f := distrustFile(path); f != nil {
		return p, faultf(codeApplication, "%w; whoever can change it can change what the daemon does, which goes on as it is", f).withHint("%s", f.hint)
	}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Args = slices.Insert(slices.Clone(os.Args), endOfFlags(os.Args), "--check")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return isOneOf(name, ownEnviron) // it is no daemon, and has nothing to tell the manager
	})
	out, complaint := &limitedBuffer{}, &limitedBuffer{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, complaint, time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return p, faultf(codeApplication, "the program %s does not say within %s whether it could serve; the daemon goes on as it is", path, tryLimit)
	case err == nil:
		if err = json.Unmarshal(out.Bytes(), &p); err != nil || len(p.Endpoints) == 0 {
			err = errors.New("it does not say what it would serve")
		}
	default:
		if said := lastComplaint(complaint.String()); said != "" {
			err = errors.New(said)
		}
	}
	if err != nil {
		return p, faultf(codeApplication, "the program %s could not serve: %w; the daemon goes on as it is", path, err)
	}
	return p, nil
}

// endOfFlags is where another flag can be put into args.
func endOfFlags(args []string) int {
	if i := slices.Index(args, "--"); i >= 0 {
		return i
	}
	return len(args)
}

// lastComplaint returns what a program of ours complains of, without the hint, or else its last words.
func lastComplaint(text string) (said string) {
	for line := range strings.Lines(text) {
		line = oneLine(strings.TrimSpace(line))
		if rest, ours := strings.CutPrefix(line, "ipcd: error: "); ours {
			return rest
		}
		if line != "" {
			said = line
		}
	}
	return shorten(said, 500)
}

// A limitedBuffer keeps the first tryOutput bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, tryOutput-b.Len()))])
	return len(p), nil
}

// handOver stops the daemon but for its sockets, looks once more whether the program could serve, since the calls in flight may have taken
// long, and returns the succession. If it is asked to stop meanwhile, by a signal or by ctx, it stops.
func (d *daemon) handOver(ctx context.Context, stops <-chan os.Signal) error {
	d.overseer.restarting()
	d.server.keep(true)
	force, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped, tried := make(chan error, 1), make(chan error, 1)
	try, giveUpTrying := context.WithCancel(force)
	defer giveUpTrying()
	go func() { stopped <- d.server.stop(force) }()
	var alive <-chan time.Time
	if every := d.overseer.watchdog(); every > 0 {
		tick := time.NewTicker(every)
		defer tick.Stop()
		alive = tick.C
	}
	var asked os.Signal
	stop := func(why string) {
		d.log.info("stopping, instead of restarting", "signal", why)
		d.overseer.stopping()
		d.server.keep(false)
		giveUpTrying()
	}
	ended, giveUp := ctx.Done(), false
	for {
		select {
		case sig := <-stops:
			if giveUp {
				cancel()
				continue
			}
			asked, giveUp = sig, true
			stop(asked.String())
			if patience := signalPatience(sig); patience > 0 {
				defer time.AfterFunc(patience, cancel).Stop()
			}
		case <-ended:
			ended, giveUp = nil, true
			stop("none")
		case <-alive: // the calls in flight have their own limit
			d.overseer.alive()
		case err := <-stopped:
			switch lost := d.server.lost(); {
			case giveUp && err != nil:
				return fmt.Errorf("calls were cut: %w", err)
			case giveUp:
				d.log.info("stopped")
				return nil
			case lost != "":
				d.server.keep(false)
				return fmt.Errorf("the socket of %s was removed or replaced, and no caller can find this daemon", lost)
			}
			go func() { tried <- d.tryNext(try) }()
		case err := <-tried:
			if giveUp {
				d.log.info("stopped")
				return nil
			}
			return &succession{d.server, d.set, err}
		}
	}
}

// begin makes the program of this process. It returns only if that has failed, or could not serve: the next daemon of this program gets
// the sockets then. If the daemon is asked to stop instead, the
// error is errAsked, and nothing of it is left.
func (s *succession) begin(o overseer) error {
	p := past{programs: s.server.life.before, program: s.server.life.program}
	args := slices.Clone(os.Args)
	if i := slices.Index(args, "--build"); i > 0 && i+1 < len(args) { // of the program that was; see launch
		if build, err := buildOf(p.program); err == nil {
			args[i+1] = build
		}
	}
	if s.failed != nil {
		return cmp.Or(becomeProgram(p, nil, s.server.leaves()), s.failed)
	}
	err := o.unguarded(func() error {
		s.server.log.close() // what is held back would be lost
		return becomeProgram(p, args, s.server.leaves())
	})
	if err == errAsked {
		s.server.log.info("stopping, instead of restarting")
		s.server.keep(false)
	}
	return err
}

// printPreview prints what a daemon with the settings would be.
func printPreview(out io.Writer, set settings) error {
	endpoints, err := endpointsOf(set)
	if err != nil {
		return err
	}
	p := Preview{Version: version()}
	for _, e := range endpoints {
		p.Endpoints = append(p.Endpoints, e.String())
	}
	return json.NewEncoder(out).Encode(p)
}
