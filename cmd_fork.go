package main

// This file owns the commands "ipcd fork" and "ipcd child": the two ends of the channel, and of the article that
// ipcd began with.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// seedFlags are the flags for what both programs of the article do.
type seedFlags struct {
	send  string
	every time.Duration
	reply string
	quiet bool
	once  bool // the first message ends it
	over  bool // it has
}

func (f *seedFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.send, "send", "", "send this `JSON`")
	addDurationFlag(cmd, &f.every, "every", 0, oneYear, "repeat --send at this interval")
	cmd.Flags().StringVar(&f.reply, "reply", "", "answer each message with this `JSON`")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "do not print the messages that come")
}

// check refuses what would break the other end.
func (f *seedFlags) check(l limits) error {
	if f.every > 0 && f.send == "" {
		return usagef("--every: says how often to --send, and there is nothing to send").withHint(`--send '{"hello":"child"}' --every 1s`)
	}
	for _, arg := range []struct {
		flag string
		text *string
	}{{"--send", &f.send}, {"--reply", &f.reply}} {
		if *arg.text == "" {
			continue
		}
		text, err := typedJSON(arg.flag, []byte(*arg.text), l)
		if err != nil {
			return err
		}
		if cmd, ours := nodeCommand(text); ours {
			return usagef("%s: the cmd %s is one that Node.js keeps for itself", arg.flag, cmd).withHint("choose a cmd that does not begin with NODE_")
		}
		line, err := appendBody(nil, text)
		if err != nil {
			return usagef("%s: %w", arg.flag, err)
		}
		*arg.text = string(line)
	}
	return nil
}

// talk does what the programs of the article do, until the other end disconnects or ctx ends: it sends
// and replies, and prints each message that arrives as a line. Sending has its own goroutine,
// so that an end that writes much and reads late delays only itself. Once gone is closed, unless it is nil, nothing is sent any more
// that nobody reads, and what has arrived is still printed.
func (f *seedFlags) talk(ctx context.Context, c net.Conn, gone <-chan struct{}, l limits, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		c.SetReadDeadline(time.Now())
		c.SetWriteDeadline(time.Now()) // a peer that does not read must not delay the end
	})
	defer stop()
	replies := make(chan struct{}, l.MaxCalls)
	var wg sync.WaitGroup
	defer wg.Wait()
	mute := make(chan struct{}) // closed once nothing more can be sent; what was sent to us is still to be read
	wg.Go(func() {
		defer close(mute)
		f.speak(ctx, c, replies)
	})
	wg.Go(func() {
		select {
		case <-gone:
			c.SetWriteDeadline(time.Now()) // another process may hold the other end, and not read
		case <-ctx.Done():
		}
	})
	defer cancel()
	for lines := bufio.NewReader(c); ; {
		line, err := nextMessage(lines, l)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, &fault{Code: codeConnection}) {
				return nil
			}
			return fmt.Errorf("read from the channel: %w", err)
		}
		if !f.quiet {
			if _, err := fmt.Fprintf(out, "message %s\n", shown(out, string(line))); err != nil {
				return err
			}
		}
		switch f.over = f.once; {
		case f.over && f.reply != "":
			_, err := io.WriteString(c, f.reply+"\n")
			if isTimeout(err) { // the program has gone, or ctx has ended
				return nil
			}
			return err
		case f.over:
			return nil
		case f.reply == "":
			continue
		}
		select {
		case replies <- struct{}{}:
		case <-mute:
		}
	}
}

// nextMessage returns the next line of the channel, without its end. One that is no message, or too long to be taken, is
// an error: nobody would know of it if it were left out.
func nextMessage(r *bufio.Reader, l limits) ([]byte, error) {
	var line []byte
	for whole := false; !whole; {
		part, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		line, whole = append(line, part...), err == nil
		if len(line) > l.MaxMessage+len("\r\n") {
			return nil, tooLarge("max_message", int64(l.MaxMessage), "a message is too long").withHint("take longer ones with --set limits.max_message=SIZE")
		}
	}
	line = bytes.TrimSpace(line)
	if err := checkJSON(line, l); err != nil {
		return nil, fmt.Errorf("%q is no message: %w", shorten(string(line), 40), err)
	}
	return line, nil
}

// speak sends the messages and the replies.
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
				return // the reading side gets the reason
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

// firstSignal returns a context that the first signal to stop cancels. The second one ends the program, whatever it
// is waiting for.
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
		Long: `Start a program with a Node.js IPC channel, as child_process.fork does, and print each
message that it sends as a line: message JSON. The program's own output passes through.

It exits when the program does, with the program's exit code, or 128 and the number of the signal
that ended it. Ctrl-C, or --once after the first message, disconnects and ends a program that stays;
the exit code is then 0.`,
		Example: `  ipcd fork --send '{"hello":"child"}' -- node child.js
  ipcd fork --once --send '{"hello":"child"}' -- node child.js
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
			child, err := startChild(childSpec{command: args, stdout: os.Stdout, stderr: os.Stderr, limits: set.Limits, log: log})
			if err != nil {
				return err
			}
			err = f.talk(ctx, child, child.gone, set.Limits, cmd.OutOrStdout())
			child.Close()
			code := child.exitCode()
			if err == nil && ctx.Err() == nil && code != 0 && !f.over {
				err = &programEnd{code: code, text: child.name() + " " + child.how()}
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.once, "once", false, "disconnect after the first message")
	return cmd
}

func newChildCmd() *cobra.Command {
	var f seedFlags
	var up clientFlags
	cmd := &cobra.Command{
		Use:   "child",
		Short: "be the child of a Node.js program",
		Long: `Answer JSON-RPC requests that a Node.js parent sends as messages, with all services of ipcd.
The parent forks it: fork('child', [], {execPath: 'ipcd', execArgv: []}).

What is built in is answered here. Calls of all other methods go on to the daemon: the one of -e, or else your own, or the
service. It need not be there before such a call comes.

With --send or --reply it is the child of an article on four ways for two programs to talk:
it sends and replies, and prints each message as a line: message JSON.

It exits with code 0 when the parent disconnects.`,
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
				return f.talk(ctx, c, nil, set.Limits, cmd.OutOrStdout())
			}
			return serveChannel(ctx, set, log, c, func(ctx context.Context) (caller, error) { return up.reach(ctx, set, log) })
		},
	}
	f.add(cmd)
	addEndpointFlag(cmd, &up)
	return cmd
}
