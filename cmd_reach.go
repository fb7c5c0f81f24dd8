package main

// This file owns the way of a command to its daemon: the flags that say which one, and the calls that go there. What is said when it does not
// answer as it should is in cmd_hint.go.

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// clientFlags are the flags of every command that calls a daemon.
type clientFlags struct {
	start bool
	wait  time.Duration
	cmd   *cobra.Command
	at    endpoint  // where calls go, once reach has been called
	until time.Time // when wait is over; zero without one

	timeout time.Duration // of a call, for patiently
}

// addEndpointFlag adds the flag that says which daemon.
func addEndpointFlag(cmd *cobra.Command, f *clientFlags) {
	f.cmd = cmd
	cmd.Flags().StringP("endpoint", "e", "", "where the daemon is, as a `URL` (default: your own daemon, else the service)")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("endpoint", completeEndpoint))
}

// addClientFlags adds the flags for reaching a daemon. --endpoint, --timeout and --idle are settings.
func addClientFlags(cmd *cobra.Command, f *clientFlags) {
	addEndpointFlag(cmd, f)
	flags := cmd.Flags()
	flags.BoolVar(&f.start, "start", false, "start a daemon in the background if none is there")
	addDurationFlag(cmd, &f.wait, "wait", 0, oneYear, "how long to keep trying while a daemon, or the provider of a method, comes up")
	addSettingFlags(cmd, "timeout", "idle")
	cmd.Flag("timeout").Usage = "how long the answer may take, once a daemon and a provider are there (`duration`, default 1m; 0s for ever)"
	cmd.Flag("idle").Usage = "with --start: how long the daemon stays without a connection (`duration`, default 15m; 0s for ever)"
}

// addQuestionFlags is addClientFlags for a command that asks briefly.
func addQuestionFlags(cmd *cobra.Command, f *clientFlags) {
	addClientFlags(cmd, f)
	cmd.Flag("wait").Usage = "how long to keep trying while a daemon comes up"
	cmd.Flag("timeout").Usage = "how long the daemon may take to answer (`duration`, default " + formatDuration(askLimit) + "; 0s for ever)"
}

// reach connects to the daemon at the endpoint in the settings. By default that is the user's own daemon, or
// else the service.
func (f *clientFlags) reach(ctx context.Context, set settings, log *logger) (caller, error) {
	own, err := set.clientEndpoint()
	f.at = own
	if err != nil {
		return nil, err
	}
	nobody := &fault{Code: codeNotReachable}
	options := optionsOf(&set, log)
	var serviceErr error // nil if the service was not tried
	try := func() (caller, error) {
		c, err := dial(ctx, own, options)
		if set.Endpoint != "" || !errors.Is(err, nobody) {
			return c, err
		}
		c, serviceErr = dial(ctx, serviceEndpoint(defaultName), options)
		if serviceErr == nil {
			f.at = serviceEndpoint(defaultName)
		}
		if !errors.Is(serviceErr, nobody) || errors.Is(serviceErr, fs.ErrPermission) { // the service is there, but may refuse us
			return c, serviceErr
		}
		hint := `start one with "ipcd run", or let "ipcd call --start" do it, or name another endpoint with -e`
		if user := os.Getenv("SUDO_USER"); user != "" {
			hint += "; the daemon of " + user + " is called without sudo"
		}
		return nil, asFault(err).withHint("%s", hint)
	}
	var c caller
	if f.start {
		if c, err = try(); err == nil {
			err = ping(ctx, c)
		}
	} else {
		c, err = persist(ctx, f.wait, try)
	}
	switch {
	case err == nil && f.start:
		return renew(ctx, own, c, set, log, func(was Status) (settings, error) { return settingsLike(f.cmd, set, was) })
	case !errors.Is(err, nobody):
	case f.start:
		return startDaemon(ctx, own, set.started(own), set)
	case serviceErr != nil && !errors.Is(serviceErr, fs.ErrPermission) && serviceInstalled():
		return nil, asFault(serviceErr).withHint(`the service is installed, but nobody listens for it there: ipcd start`)
	}
	return c, err
}

// line is a command line that concerns the same daemon, for a hint.
func (f *clientFlags) line(command string, words ...string) string {
	line := "ipcd " + command
	if e := f.cmd.Flag("endpoint"); e.Changed {
		line += " -e " + joinWords([]string{e.Value.String()})
	}
	return strings.Join(append([]string{line}, words...), " ")
}

// with reaches a daemon and talks to it, both within the timeout.
func (f *clientFlags) with(ctx context.Context, set settings, talk func(ctx context.Context, c caller) error) error {
	if set.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, set.Timeout+f.wait)
		defer cancel()
	}
	log := newLogger(os.Stderr, set.LogFormat, set.LogLevel)
	defer log.close()
	if f.wait > 0 {
		f.until, f.timeout = time.Now().Add(f.wait), set.Timeout
	}
	c, err := f.reach(ctx, set, log)
	if err != nil {
		return err
	}
	defer func() { c.close() }() // which may be another one by then
	if f.wait <= 0 {
		return talk(ctx, c)
	}
	patience, cancel := context.WithDeadline(ctx, f.until)
	defer cancel()
	again(patience, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) { // a provider may be on its way, or the next daemon
		err = talk(ctx, c)
		var why *fault
		switch {
		case !errors.As(err, &why):
		case why.Code == codeShuttingDown && why.data().Retry:
			c.close()
			next, lost := f.reach(patience, set, log)
			if lost != nil {
				err = lost
				return true, err
			}
			c = next
			return false, err
		case why.Code == codeNoMethod, why.Code == codeGone && why.data().Retry:
			return false, err
		}
		return true, err
	})
	return err
}

// do reaches a daemon, calls one method and decodes its result.
func (f *clientFlags) do(ctx context.Context, set settings, method string, arg, result any) error {
	return f.with(ctx, set, func(ctx context.Context, c caller) error { return f.ask(ctx, c, method, arg, result) })
}

// ask calls a method and says of an error what can be typed next.
func (f *clientFlags) ask(ctx context.Context, c caller, method string, arg, result any) error {
	return f.withHint(ctx, c, method, f.patiently(ctx, c, method, func(ctx context.Context) error { return c.call(ctx, method, arg, result) }))
}

// askParts is ask for an answer in parts.
func (f *clientFlags) askParts(ctx context.Context, c caller, method string, arg, result any, part func(document) error) error {
	return f.withHint(ctx, c, method, f.patiently(ctx, c, method, func(ctx context.Context) error { return c.askParts(ctx, method, arg, result, part) }))
}

// askJSON calls a method whose result is a T and returns the result as JSON. gob has the names of Go and omits
// zeros; over gob the result is therefore decoded into a T first.
func askJSON[T any](ctx context.Context, f *clientFlags, set settings, method string, arg any) (json.RawMessage, error) {
	if e, err := set.clientEndpoint(); err != nil || e.Proto != protoGob {
		var answer json.RawMessage
		err := f.do(ctx, set, method, arg, &answer)
		return answer, err
	}
	var answer T
	if err := f.do(ctx, set, method, arg, &answer); err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}
