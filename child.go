package main

// This file owns children with an IPC channel: the programs that we fork, and the commands
// "ipcd fork" and "ipcd child", which are the two ends of the article that ipcd began with.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const childGrace = 2 * time.Second // from the disconnect to SIGTERM, and from that to SIGKILL

func init() {
	transports["fork"] = transport{
		listen:   func(e endpoint, _ group) (net.Listener, error) { return nil, noServer(e) },
		check:    func(e endpoint) error { return noServer(e) },
		dial:     dialFork,
		identify: func(conn net.Conn, _ time.Duration) (peer, error) { return identifyChannel(conn) },
	}
}

func noServer(e endpoint) *fault {
	return usagef("cannot listen on %s: it is for a client, which starts the program", e).withHint("ipcd call -e %q METHOD", e)
}

// A forked is a child with the channel to it.
type forked struct {
	*channel
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// startChild starts a program with a channel. Its output is ours; it has no input.
func startChild(command []string, l limits, log *logger) (*forked, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	raw, err := startForked(cmd)
	var known *fault
	switch {
	case errors.As(err, &known):
		return nil, known
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return nil, dialFault(err, "cannot start %s: there is no such program", command[0]).withHint("look at the spelling, or give the whole path")
	case err != nil:
		return nil, dialFault(err, "cannot start %s: %v", command[0], err).withHint("see whether it is a program; a script needs the one that runs it: node %s", command[0])
	}
	f := &forked{channel: newChannel(raw, l, log), cmd: cmd, gone: make(chan struct{})}
	go func() {
		cmd.Wait() // how it ended is in ProcessState
		close(f.gone)
	}()
	return f, nil
}

// dialFork starts the program of a fork: endpoint, for a client.
func dialFork(_ context.Context, e endpoint) (net.Conn, error) {
	l := defaultLimits()
	f, err := startChild(e.Command, l, newLogger(os.Stderr, formatAuto, levelWarn))
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Read tells at the end how the child ended: whoever still waits for an answer wants to know.
func (f *forked) Read(b []byte) (int, error) {
	n, err := f.channel.Read(b)
	if err != io.EOF {
		return n, err
	}
	select {
	case <-f.gone:
	case <-time.After(childGrace):
		return n, faultf(codeConnection, "%s has disconnected before it answered", f.name()).withHint("it may lack process.on('message')")
	}
	return n, faultf(codeConnection, "%s %s before it answered", f.name(), f.how()).withHint("what it wrote is above")
}

// Close disconnects, which ends a Node.js program that waits for messages alone. Others are
// asked to end, and then made to.
func (f *forked) Close() error {
	err := f.channel.Close()
	for _, end := range []func() error{nil, func() error { return askToEnd(f.cmd.Process) }, f.cmd.Process.Kill} {
		if end != nil {
			end() // its error is that the child has ended just now
		}
		late := time.NewTimer(childGrace)
		select {
		case <-f.gone:
			late.Stop()
			return err
		case <-late.C:
		}
	}
	<-f.gone
	return err
}

// name is the child for people.
func (f *forked) name() string { return joinWords(f.cmd.Args) }

// how says how the child ended, which it has.
func (f *forked) how() string {
	if code := f.cmd.ProcessState.ExitCode(); code >= 0 {
		return fmt.Sprintf("ended with exit code %d", code)
	}
	return "was ended by a " + f.cmd.ProcessState.String() // "signal: killed"
}

// seedFlags are what both ends of the article do.
type seedFlags struct {
	send  string
	every time.Duration
	reply string
}

func (f *seedFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.send, "send", "", "send this `JSON`")
	cmd.Flags().DurationVar(&f.every, "every", 0, "send it again and again, at this interval")
	cmd.Flags().StringVar(&f.reply, "reply", "", "answer each message with this `JSON`")
}

// check refuses what the other end would choke on.
func (f *seedFlags) check(l limits) error {
	if f.every < 0 || f.every > 0 && f.send == "" {
		return usagef("--every: says how often to --send, and there is nothing to send").withHint(`--send '{"hello":"child"}' --every 1s`)
	}
	for _, arg := range []struct {
		flag string
		text *string
	}{{"--send", &f.send}, {"--reply", &f.reply}} {
		if *arg.text == "" {
			continue
		}
		if err := checkJSON([]byte(*arg.text), l); err != nil {
			return usagef("%s: %w", arg.flag, err).withHint(`a text needs its quotes: '"hello"'`)
		}
		if cmd, ours := nodeCommand([]byte(*arg.text)); ours {
			return usagef("%s: the cmd %s is one that Node.js keeps for itself", arg.flag, cmd).withHint("choose a cmd that does not begin with NODE_")
		}
		line, err := appendBody(nil, json.RawMessage(*arg.text))
		if err != nil {
			return usagef("%s: %w", arg.flag, err)
		}
		*arg.text = string(line)
	}
	return nil
}

// talk does what the article's programs do until the other end disconnects or ctx ends: it sends
// and replies, and writes each message that comes as a line. Sending has a goroutine of its own,
// so that an end that writes much and reads late holds up nothing but itself.
func (f *seedFlags) talk(ctx context.Context, c net.Conn, l limits, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		c.SetReadDeadline(time.Now())
		c.SetWriteDeadline(time.Now()) // whoever does not read must not hold up the end
	})
	defer stop()
	replies := make(chan struct{}, l.MaxCalls)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.speak(ctx, c, replies) })
	defer cancel()
	for lines := bufio.NewReader(c); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, &fault{Code: codeConnection}) {
				return nil
			}
			return fmt.Errorf("read from the channel: %w", err)
		}
		if _, err := fmt.Fprintf(out, "message %s\n", bytes.TrimSpace(line)); err != nil {
			return err
		}
		if f.reply == "" {
			continue
		}
		select {
		case replies <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// speak sends what there is to send.
func (f *seedFlags) speak(ctx context.Context, c net.Conn, replies <-chan struct{}) {
	var tick <-chan time.Time
	if f.every > 0 {
		t := time.NewTicker(f.every)
		defer t.Stop()
		tick = t.C
	}
	for text := f.send; ; {
		if text != "" {
			if _, err := io.WriteString(c, text+"\n"); err != nil {
				return // the reading side hears why
			}
		}
		select {
		case <-tick:
			text = f.send
		case <-replies:
			text = f.reply
		case <-ctx.Done():
			return
		}
	}
}

// firstSignal ends the context at a signal to stop. A second one ends the program, whatever it
// waits for.
func firstSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(parent, stopSignals...)
	context.AfterFunc(ctx, cancel)
	return ctx, cancel
}

func newForkCmd() *cobra.Command {
	var f seedFlags
	cmd := &cobra.Command{
		Use:   "fork [flags] -- PROGRAM [ARGUMENT ...]",
		Short: "be the parent of a Node.js program",
		Long: `Start a program with a Node.js IPC channel, as child_process.fork does, and write each
message that it sends as a line: message JSON. What the program itself writes passes through.

It ends when the program does, and tells its exit code; Ctrl-C disconnects.`,
		Example: `  ipcd fork --send '{"hello":"child"}' -- node child.js
  ipcd fork --reply '"thanks"' -- node child.js`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no program to fork").withHint("ipcd fork -- node child.js")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			if err := f.check(set.Limits); err != nil {
				return err
			}
			log := newLogger(cmd.ErrOrStderr(), set.LogFormat, set.LogLevel)
			defer log.close()
			ctx, cancel := firstSignal(cmd.Context())
			defer cancel()
			child, err := startChild(args, set.Limits, log)
			if err != nil {
				return err
			}
			err = f.talk(ctx, child, set.Limits, cmd.OutOrStdout())
			child.Close()
			if err == nil && ctx.Err() == nil && !child.cmd.ProcessState.Success() {
				err = fmt.Errorf("%s %s", child.name(), child.how())
			}
			return err
		},
	}
	f.add(cmd)
	return cmd
}

// newChildCmd needs serve, which answers calls on a channel with all services.
func newChildCmd(serve func(ctx context.Context, set settings, log *logger, c *channel) error) *cobra.Command {
	var f seedFlags
	cmd := &cobra.Command{
		Use:   "child",
		Short: "be the child of a Node.js program",
		Long: `Answer JSON-RPC requests that a Node.js parent sends as messages, with all services of ipcd.
The parent forks it: fork('child', [], {execPath: 'ipcd', execArgv: []}).

With --send or --reply it is the child of an article on four ways for two programs to talk:
it sends and replies, and writes each message as a line: message JSON.

It ends with exit code 0 when the parent disconnects.`,
		Example: `  // in Node.js
  const ipcd = fork('child', [], {execPath: 'ipcd', execArgv: []})
  ipcd.on('message', (answer) => console.log(answer.result))
  ipcd.send({jsonrpc: '2.0', id: 1, method: 'Echo.Say', params: ['hello']})`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			if err := f.check(set.Limits); err != nil {
				return err
			}
			log := newLogger(cmd.ErrOrStderr(), set.LogFormat, set.LogLevel)
			defer log.close()
			c, err := openChannel(set.Limits, log)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := firstSignal(cmd.Context())
			defer cancel()
			if f.send != "" || f.reply != "" {
				return f.talk(ctx, c, set.Limits, cmd.OutOrStdout())
			}
			return serve(ctx, set, log, c)
		},
	}
	f.add(cmd)
	return cmd
}
