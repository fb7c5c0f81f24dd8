package main

// This file owns "ipcd serve", which makes methods of programs and offers them to the callers of a daemon.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

const (
	serveFirst = 100 * time.Millisecond // between two attempts to register again, at first
	serveMost  = 5 * time.Second        // and at most
	offerLimit = 30 * time.Second       // for a daemon to take a registration
)

// A serving is what one "ipcd serve" offers.
type serving struct {
	clientFlags
	set      settings
	out      io.Writer
	result   string
	dir      string
	service  string
	parallel int
	once     bool
	asArgs   bool
	lines    bool
	timeout  time.Duration

	methods *router
	listing []Description
	called  atomic.Bool        // with once
	enough  context.CancelFunc // with once: a call has been answered
}

func newServeCmd() *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve [flags] SERVICE.METHOD -- PROGRAM [ARGUMENT ...]",
		Short: "offer a program as a method",
		Long: `Offer a program as a method, for as long as this command runs. Each call runs the program:

  its standard input    is the argument: a string as its text, anything else as JSON, nothing if there is none
  its standard output   is the result: a text, without its last line end; with --result json JSON
  its exit code         other than 0 is the code of an error; the end of its standard error, at most 4 KiB,
                        is in the error's data, and its last line in the message

With --lines each line of the output is a part of the answer as it comes ("ipcd call --stream"), and the result is how
many there were; with --result json each line is JSON, and empty ones do not count. While the caller does not read, the
output is not read either. A caller that asks for no parts gets the number alone.

With --args the argument is an object, and each member an argument of the program, behind those given here:
--name=text, or --name alone for true; false and null are left out. No shell looks at any of it.

With --dir each executable in a directory is a method of the service --as, by its name up to the first dot. What a file
METHOD.json beside it says is shown by "ipcd describe": {"doc", "argument", "result", "part"}, see docs/services.md. One
with a "part" is served by lines.

A program ends with its call: when the caller cancels or goes, at the deadline, after --timeout, and when it has
written more than limits.max_message. It is asked to end (SIGTERM, Ctrl-Break), and killed after 2 s, with all that it
has started.

Ctrl-C takes the methods back and lets calls finish; a second one ends them. If the daemon goes away, the methods are
offered again as soon as there is one. It has to be your own daemon, or you root.`,
		Example: `  ipcd serve Clock.Now -- date +%s
  ipcd serve --args Disk.Usage -- du -s
  ipcd serve --lines Build.Run -- make
  ipcd serve --as Scripts --dir ./bin`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if s.set, _, err = settingsFrom(cmd); err != nil {
				return err
			}
			s.out = cmd.ErrOrStderr()
			if cmd.Flag("timeout").Changed {
				s.timeout = s.set.Timeout
			}
			if err := s.gather(args, cmd.ArgsLenAtDash()); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	addClientFlags(cmd, &s.clientFlags)
	flags := cmd.Flags()
	flags.StringVar(&s.result, "result", "text", "what the output is: `text|json`")
	flags.BoolVar(&s.asArgs, "args", false, "give each member of the argument as an argument of the program")
	flags.BoolVar(&s.lines, "lines", false, "give each line of the output as a part of the answer")
	flags.IntVar(&s.parallel, "parallel", runtime.NumCPU(), "how many `calls` run at a time; others wait for their turn")
	cmd.Flag("timeout").Usage = "how long one run may take; without it, as long as its caller waits (`duration`)"
	flags.BoolVar(&s.once, "once", false, "end after the first call")
	flags.StringVar(&s.dir, "dir", "", "a `directory` whose executables are methods")
	flags.StringVar(&s.service, "as", "", "with --dir: the `name` of their service")
	return cmd
}

// gather makes the methods of what was typed.
func (s *serving) gather(args []string, dash int) error {
	switch {
	case s.result != "text" && s.result != "json":
		return usagef("--result: %q; expected text or json", s.result)
	case s.parallel < 1:
		return usagef("--parallel: %d is too small; expected 1 or more", s.parallel)
	case s.dir != "" && len(args) > 0:
		return usagef("--dir and the name of a method").withHint("serve one or the other")
	case s.dir != "" && !isServiceName(s.service):
		return usagef("--as: %q is no name of a service; expected letters, digits and _, beginning with a letter", s.service).withHint("ipcd serve --as Scripts --dir %s", joinWords([]string{s.dir}))
	case s.dir == "" && dash < 0 && len(args) > 1 && isMethodName(args[0]):
		return usagef("-- is missing between the method and the program").withHint("ipcd serve %s -- %s", args[0], joinWords(args[1:]))
	case s.dir == "" && len(args) == 1 && isMethodName(args[0]):
		return usagef("no program to serve as %s", args[0]).withHint("ipcd serve %s -- date +%%s", args[0])
	case s.dir == "" && (dash != 1 || len(args) < 2):
		return usagef("no method and program to serve").withHint("ipcd serve Clock.Now -- date +%%s")
	}
	if s.once { // nobody else is to wait here for a turn that never comes
		s.parallel = 1
	}
	s.methods = newRouter()
	if s.dir != "" {
		return s.gatherDir()
	}
	return s.add(s.describe(args[0], joinWords(args[1:])), args[1:])
}

// describe is the description of a method that has none of its own.
func (s *serving) describe(method, program string) Description {
	d := Description{Method: method, Doc: "runs " + shorten(program, 100), Argument: schema{}, Result: schema{}}
	if s.asArgs {
		d.Argument = schema{"type": []any{"object", "null"}}
	}
	return d
}

// gatherDir makes a method of each executable in the directory.
func (s *serving) gatherDir() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return usagef("--dir: %w", err)
	}
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry.Name(), ".")
		path, err := exec.LookPath(filepath.Join(s.dir, entry.Name()))
		if entry.IsDir() || err != nil || strings.HasSuffix(entry.Name(), ".json") {
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			return usagef("--dir: %w", err)
		}
		method := s.service + "." + name
		d := s.describe(method, entry.Name())
		text, err := os.ReadFile(filepath.Join(s.dir, name+".json"))
		if err == nil {
			var m offeredMethod
			if err = json.Unmarshal(text, &m); err == nil {
				d = m.Description
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return usagef("%s: %w", filepath.Join(s.dir, name+".json"), err)
		}
		d.Method = method
		if err := s.add(d, []string{path}); err != nil {
			return usagef("%s: %w", filepath.Join(s.dir, entry.Name()), err)
		}
	}
	if len(s.listing) == 0 {
		return usagef("--dir: there is no executable in %s", s.dir).withHint(executableHint)
	}
	return nil
}

// add makes a method of a program.
func (s *serving) add(d Description, command []string) error {
	if f := checkOffered(d.Method); f != nil {
		return usagef("%w", f)
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		wrong := notStarted(command[0], err)
		return usagef("%w", wrong).withHint("%s", wrong.hint)
	}
	if slices.ContainsFunc(s.listing, func(other Description) bool { return other.Method == d.Method }) {
		return usagef("there are two programs for %s", d.Method)
	}
	c := &commandSpec{command: command, asArgs: s.asArgs, asJSON: s.result == "json", lines: s.lines || d.Part != nil, timeout: s.timeout, limits: s.set.Limits}
	if c.lines {
		d.Result = schema{"type": "integer", "minimum": 0}
	}
	switch {
	case !c.lines || d.Part != nil:
	case c.asJSON:
		d.Part = schema{}
	default:
		d.Part = schema{"type": "string"}
	}
	s.listing = append(s.listing, d)
	service, short, _ := strings.Cut(d.Method, ".")
	r, _ := s.methods.services[service].(*receiver)
	if r == nil {
		r = &receiver{methods: map[string]*method{}}
		if err := s.methods.add(service, r); err != nil {
			return usagef("%w", err)
		}
	}
	m := c.method(d)
	if s.once {
		m.invoke = s.only(m.invoke)
	}
	r.add(short, m)
	s.methods.reindexLocked()
	return nil
}

// only lets the first call through, and ends the command after it.
func (s *serving) only(invoke func(context.Context, any) (any, error)) func(context.Context, any) (any, error) {
	return func(ctx context.Context, arg any) (any, error) {
		if s.called.Swap(true) {
			return nil, errShuttingDown
		}
		defer s.enough()
		return invoke(ctx, arg)
	}
}

// run offers the methods until a signal comes, or with once a call, and offers them again when the connection ends.
func (s *serving) run(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	notifyStops(signals)
	defer signal.Stop(signals)
	ctx, s.enough = context.WithCancel(ctx)
	defer s.enough()
	log := newLogger(os.Stderr, s.set.LogFormat, s.set.LogLevel)
	defer log.close()
	pause := time.Duration(0)
	for first := true; ; first = false {
		h, err := s.offer(ctx, log)
		switch {
		case err == nil:
			pause = serveFirst
			ended, err := s.attend(ctx, h, signals)
			if ended {
				return err
			}
			fmt.Fprintln(s.out, "ipcd: the daemon has gone; the methods are offered again when there is one")
		case first || !errors.Is(err, &fault{Code: codeNotReachable}) && !errors.Is(err, &fault{Code: codeConnection}) && !errors.Is(err, errShuttingDown):
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-signals:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, serveMost)
	}
}

// offer connects and registers.
func (s *serving) offer(ctx context.Context, log *logger) (h *host, err error) {
	ctx, cancel := context.WithTimeout(ctx, offerLimit+s.wait)
	defer cancel()
	c, err := s.reach(ctx, s.set, log) // which knows where, and starts a daemon if that is asked for
	if err != nil {
		return nil, err
	}
	c.close()
	if h, err = dialHost(ctx, s.at, s.methods, optionsOf(&s.set, log)); err != nil {
		return nil, err
	}
	argument := map[string]any{"methods": s.listing, "max_calls": s.parallel, "extensions": []string{"timeout", "parts"}}
	var got Registered
	if err := s.ask(ctx, h, "Ipcd.Register", argument, &got); err != nil {
		h.close()
		return nil, err
	}
	fmt.Fprintf(s.out, "ipcd: %s at %s, as the provider %s\n", strings.Join(got.Methods, ", "), s.at, got.Provider)
	return h, nil
}

// attend waits for the end of the connection, or for a reason to end it. It reports whether the command ends.
func (s *serving) attend(ctx context.Context, h *host, signals <-chan os.Signal) (ended bool, err error) {
	defer h.close()
	select {
	case <-h.over:
		return false, nil
	case <-signals:
	case <-ctx.Done():
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		if s.ask(context.Background(), h, "Ipcd.Unregister", nil, nil) == nil {
			h.leave()
		}
	}()
	select {
	case <-left:
		return true, nil
	case <-signals:
		h.session.cut(nil)
		return true, errForced
	}
}
