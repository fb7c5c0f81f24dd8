package main

// This file owns "ipcd pub" and "ipcd sub": events on the command line.

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newPubCmd() *cobra.Command {
	var p publisher
	var given givenArgument
	cmd := &cobra.Command{
		Use:   "pub TOPIC [JSON | key=text | key:=JSON ...]",
		Short: "publish an event",
		Long: `Publish an event to whoever has subscribed to its topic, and print its id. Nobody waits for a subscriber.
Publishing takes the user that the daemon runs as, root (on Windows an administrator) or a worker.

A topic is tokens of letters, digits, - and _ with dots between them; those that begin with ipcd are the daemon's own, and
refused. What the event says is one of
  JSON                      a string needs its quotes: '"done"'
  key=text key:=JSON ...    an object
  @FILE, -                  JSON from a file, or from standard input; with --lines each line of standard input is an
                            event of its own, published as it comes
  --arg JSON, --text TEXT, -- TEXT
or nothing, which is null.

With --json an id is {"id": ...}.`,
		Example: `  ipcd pub build.done ok:=true commit=$(git rev-parse HEAD)
  ipcd pub build.done '{"ok": true}'
  tail -f access.json | ipcd pub --lines web.access -`,
		Args: needTopic("ipcd pub build.done ok:=true", func(args []string) error {
			if f := checkTopic(args[0]); f != nil {
				return usagef("%w", f)
			}
			return nil
		}),
		ValidArgsFunction: completeTopic(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			p.topic, p.set, p.out, p.asJSON = args[0], set, cmd.OutOrStdout(), wantsJSON(cmd)
			words := given.parser(cmd, set)
			words.asJSON = true
			if dash := cmd.ArgsLenAtDash(); dash > 0 {
				words.after = len(args) - dash
			}
			if p.lines {
				if len(args) > 2 || len(args) == 2 && args[1] != "-" || words.given != nil || words.text != nil {
					return usagef("--lines reads the events from standard input, and there is an argument").withHint("ipcd pub --lines %s -", p.topic)
				}
				return p.publishLines(cmd.Context(), cmd.InOrStdin())
			}
			arg, err := words.argument(args[1:])
			if err != nil {
				return err
			}
			data, err := p.data(arg)
			if err != nil {
				return err
			}
			return p.with(cmd.Context(), set, func(ctx context.Context, c caller) error { return p.publish(ctx, c, data) })
		},
	}
	addClientFlags(cmd, &p.clientFlags)
	given.add(cmd, "what the event says")
	cmd.Flags().BoolVar(&p.lines, "lines", false, "publish each line of standard input, which is JSON")
	return cmd
}

// A publisher publishes to a topic.
type publisher struct {
	clientFlags
	set    settings
	topic  string
	lines  bool
	out    io.Writer
	asJSON bool
}

// data is what was typed as JSON.
func (p *publisher) data(arg any) (json.RawMessage, error) {
	switch arg := arg.(type) {
	case typedWords:
		v, err := arg.value("", nil, p.set.Limits)
		data, _ := v.(json.RawMessage)
		return data, err
	case json.RawMessage:
		return arg, nil
	case string: // by --text
		return appendJSONString(nil, arg), nil
	}
	return nil, nil
}

// publish publishes an event and prints its id.
func (p *publisher) publish(ctx context.Context, c caller, data json.RawMessage) error {
	var raw json.RawMessage // over gob the member is Id, which is as good for encoding/json
	if err := p.ask(ctx, c, publishMethod, Publication{Topic: p.topic, Data: data}, &raw); err != nil {
		return err
	}
	var answer Published
	if err := json.Unmarshal(raw, &answer); err != nil {
		return faultf(codeWrongProtocol, "the answer of %s is not as expected: %w", publishMethod, err)
	}
	if p.asJSON {
		return printJSON(p.out, answer)
	}
	_, err := fmt.Fprintln(p.out, oneLine(answer.ID))
	return err
}

// publishLines publishes the lines of r. The timeout is that of each: r may be a pipe that lasts for days.
func (p *publisher) publishLines(ctx context.Context, r io.Reader) error {
	set := p.set
	set.Timeout = 0
	lines := bufio.NewScanner(r)
	most := set.Limits.MaxMessage
	lines.Buffer(nil, most+len("\r\n"))
	number := 0
	var waiting json.RawMessage // has been read and not published
	err := p.with(ctx, set, func(ctx context.Context, c caller) error {
		for {
			if waiting == nil {
				if !lines.Scan() {
					return lines.Err()
				}
				number++
				if len(strings.TrimSpace(lines.Text())) == 0 {
					continue
				}
				var err error
				if waiting, err = typedJSON("line "+strconv.Itoa(number), lines.Bytes(), set.Limits); err != nil {
					return err
				}
			}
			one, cancel := ctx, context.CancelFunc(func() {})
			if p.set.Timeout > 0 {
				one, cancel = context.WithTimeout(ctx, p.set.Timeout)
			}
			err := p.publish(one, c, waiting)
			cancel()
			if err != nil {
				return err
			}
			waiting = nil
		}
	})
	if errors.Is(err, bufio.ErrTooLong) {
		return tooLarge("max_message", int64(most), fmt.Sprintf("line %d is too long", number+1)).withHint("send less, or raise limits.max_message here and in the daemon")
	}
	return err
}

func newSubCmd() *cobra.Command {
	var s subscriber
	cmd := &cobra.Command{
		Use:   "sub TOPIC ...",
		Short: "print the events of topics as they come",
		Long: `Print the events of topics as they come, until Ctrl-C: a line of JSON each,

  {"topic": "build.done", "id": "k3-17", "time": "2026-01-02T15:04:05.678Z", "data": ...}
  {"missed": 12, "id": "k3-29"}     instead of 12 events, up to that one, for which this subscriber was too slow;
                                    null if it is not known how many

On a terminal they are the time, the topic and the data. With --json each is a line of JSON there, too, and before them
comes {"subscribed": [...], "id": ...}: from then on nothing is missed in silence. Without it that is said on standard error.

In a topic * stands for one token, and > at the end for all that follow. A shell takes both for its own: 'build.>'.
The daemon's own events are those of 'ipcd.>'.

Who does not read holds up nobody and misses events; one that goes on so for the daemon's limits.stream_idle (5m unless it
is configured) is ended.

To wait for a service that may be there already, of which no event comes, take 'ipcd call --wait'.

With --after ID it begins behind that event, as far as events of the topic are kept ([[topic]] of the configuration). With
--wait it connects again when the daemon goes, within that time, and goes on behind the last event; otherwise that is an
error. --timeout bounds the whole; there is none by default.

Exit codes: 0 after --count events, or when nobody reads its output any more; 1 the daemon has gone or refuses, or
the timeout has passed; 2 bad usage; 3 no daemon reached; as after any program that Ctrl-C has ended, a shell's 130.`,
		Example: `  ipcd sub build.done
  ipcd sub 'build.>' 'deploy.*' | while read -r event; do echo "$event"; done
  ipcd sub --count 1 --timeout 1m build.done
  ipcd sub -n 1 ipcd.service.Greeter.up
  ipcd sub --after k3-17 --wait 1m 'build.>'`,
		Args:              needTopic("ipcd sub 'build.>'", checkTyped),
		ValidArgsFunction: completeTopic(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			if cmd.Flag("count").Changed && s.count < 1 {
				return usagef("--count: %d is less than one event", s.count)
			}
			if areFiles(args) {
				fmt.Fprintf(cmd.ErrOrStderr(), "ipcd: hint: %s and the others are files here; a wildcard needs quotes: 'build.*'\n", oneLine(args[0]))
			}
			s.Topics = args
			s.said = cmd.ErrOrStderr()
			out := cmd.OutOrStdout()
			s.p = partPrinter{out: out}
			s.tagged = wantsJSON(cmd)
			s.forPeople = !s.tagged && isTerminal(out)
			ctx, end := attend(cmd.Context(), out)
			defer end()
			timed := ctx
			if cmd.Flag("timeout").Changed && set.Timeout > 0 {
				var cancel context.CancelFunc
				timed, cancel = context.WithTimeout(ctx, set.Timeout)
				defer cancel()
			}
			set.Timeout = 0
			return reasonFor(ctx, s.run(timed, set))
		},
	}
	addClientFlags(cmd, &s.clientFlags)
	cmd.Flag("timeout").Usage = "how long all of it may take; without it, as long as it likes (`duration`)"
	cmd.Flag("wait").Usage = "how long to keep trying while a daemon comes up, also after it has gone"
	cmd.Flags().StringVar(&s.After, "after", "", "begin behind the event of this `id`")
	cmd.Flags().IntVarP(&s.count, "count", "n", 0, "end after so many `events`")
	return cmd
}

// needTopic refuses a command line without a topic, and then what check says of it.
func needTopic(example string, check func(args []string) error) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs a topic", cmd.CommandPath()).withHint("%s", example)
		}
		return check(args)
	}
}

// checkTyped refuses topics that are none, and says what a shell may have made of them.
func checkTyped(topics []string) error {
	f := checkPatterns(topics)
	if f == nil {
		return nil
	}
	for _, t := range topics {
		if stem := strings.TrimRight(t, "."); stem != t { // of build.>file the shell leaves build.
			return usagef("%w", f).withHint(`> redirects the output unless it is quoted: ipcd sub '%s.>'`, cmp.Or(stem, "build"))
		}
	}
	return usagef("%w", f)
}

// areFiles reports whether several words look like what a shell has made of a wildcard.
func areFiles(words []string) bool {
	return len(words) > 1 && !slices.ContainsFunc(words, func(word string) bool {
		_, err := os.Lstat(word)
		return err != nil
	})
}

// A subscriber prints events.
type subscriber struct {
	clientFlags
	Subscription     // After is the last event that it knows of
	count        int // events to print; 0 for all
	printed      int
	p            partPrinter
	said         io.Writer
	tagged       bool // what comes is printed as it is, the first part included
	forPeople    bool
}

// errEnough ends a subscription that has printed what was wanted.
var errEnough = errors.New("as many events as were wanted")

// run prints events until there are enough or ctx ends; with --wait over any number of connections.
func (s *subscriber) run(ctx context.Context, set settings) error {
	for pause := serveFirst; ; pause = min(2*pause, serveMost) {
		known := s.After
		err := s.with(ctx, set, func(ctx context.Context, c caller) error {
			s.p.ctx = ctx
			err := s.askParts(ctx, c, subscribeMethod, s.Subscription, nil, s.part)
			if err == nil {
				err = faultf(codeConnection, "the subscription has ended")
			}
			return err
		})
		switch {
		case err == errEnough:
			return nil
		case s.wait <= 0 || ctx.Err() != nil || !isLost(err):
			return err
		}
		if !s.tagged {
			fmt.Fprintf(s.said, "ipcd: %s; subscribing again\n", oneLine(err.Error()))
		}
		if s.After != known {
			pause = serveFirst
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// isLost reports whether err says that a daemon has gone, which may come back.
func isLost(err error) bool {
	var f *fault
	return errors.As(err, &f) && (f.Code == codeConnection || f.Code == codeShuttingDown)
}

// part prints what has come, and notes behind which event to go on.
func (s *subscriber) part(value document) error {
	var what struct {
		Subscribed
		Missed *json.RawMessage `json:"missed"`
		Topic  string           `json:"topic"`
		Time   string           `json:"time"`
		Data   json.RawMessage  `json:"data"`
	}
	if err := json.Unmarshal(value, &what); err != nil {
		return faultf(codeWrongProtocol, "a part of the answer is no event: %w", err).withHint("the daemon may be of another version: see ipcd version and ipcd status")
	}
	var err error
	switch {
	case s.tagged, what.Subscribed.Subscribed == nil && !s.forPeople:
		err = s.p.print("", value)
	case what.Subscribed.Subscribed != nil:
		_, err = fmt.Fprintf(s.said, "ipcd: subscribed to %s at %s\n", oneLine(strings.Join(what.Subscribed.Subscribed, ", ")), s.at)
	case what.Topic == "":
		err = s.p.line(fmt.Sprintf("%s events were missed", missedFor(what.Missed)))
	default:
		err = s.p.line(fmt.Sprintf("%s  %s  %s", localTime(what.Time), what.Topic, what.Data))
	}
	if err != nil {
		return err
	}
	s.After = cmp.Or(what.ID, s.After)
	if what.Topic != "" {
		s.printed++
	}
	if s.count > 0 && s.printed == s.count {
		return errEnough
	}
	return nil
}

// missedFor is how many events were missed, for people.
func missedFor(number *json.RawMessage) string {
	if number == nil {
		return "some"
	}
	return string(*number)
}
