package main

// This file owns "ipcd worker": what the workers of a daemon are, and orders to them.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newWorkerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "the programs that the daemon starts and looks after",
		Long: `Show and control the workers of a daemon: the programs of the [[worker]] tables in its
configuration, which it starts, watches and calls. docs/services.md says how to write one.

To control them takes the user that the daemon runs as, or ` + masters + `.`,
		Example: `  ipcd worker ls
  ipcd worker restart greeter
  ipcd worker logs -f greeter`,
	}
	cmd.AddCommand(newWorkerLsCmd(), newWorkerLogsCmd(),
		newWorkerOrderCmd("start", "WorkerStart", "start a worker that was stopped, is parked, or is lazy",
			"Start a worker, and wait until it is ready. One that was parked, because it ended or did not get ready again and again, is given another chance."),
		newWorkerOrderCmd("stop", "WorkerStop", "stop a worker until it is started again",
			"Stop a worker: its calls in flight may finish, new ones are refused. It stays stopped until it is started, or the daemon is."),
		newWorkerOrderCmd("restart", "WorkerRestart", "stop a worker and start it again",
			"Stop a worker and start it again. Calls that come meanwhile wait."),
		newWorkerOrderCmd("reload", "WorkerReload", "replace the processes of a worker without a gap",
			"Start new processes of a worker, and end the old ones once those are ready; with overlap = false the old ones end first.\n\nIf the new ones do not get ready, the old ones go on."))
	return cmd
}

// oneWorker wants the name of one worker.
func oneWorker(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("worker %s: has %d arguments; expected the name of a worker", cmd.Name(), len(args)).withHint("see which there are: %s", (&clientFlags{cmd: cmd}).line("worker ls"))
	}
	return nil
}

func newWorkerOrderCmd(use, method, short, long string) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: use + " NAME", Short: short, Long: long + "\n\nThe JSON is the worker as in the answer of Ipcd.Status: docs/protocol.md.",
		Example: "  ipcd worker " + use + " greeter", Args: oneWorker,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			var s WorkerStatus
			if err := f.do(cmd.Context(), set, "Ipcd."+method, args[0], &s); err != nil {
				return f.workerFault(err, args[0])
			}
			if wantsJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), s)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", oneLine(s.Name), oneLine(s.summary()))
			return err
		},
	}
	addClientFlags(cmd, &f)
	cmd.ValidArgsFunction = completeWorker(&f)
	return cmd
}

// workerFault adds what to do next to an error about a worker.
func (f *clientFlags) workerFault(err error, name string) error {
	var refused *fault
	if !errors.As(err, &refused) || refused.hint != "" {
		return err
	}
	if near := refused.data().Near; near != "" {
		return refused.withHint("did you mean %s?", near)
	}
	if refused.Code == codeApplication && strings.HasPrefix(refused.Text, "there is no worker ") {
		return refused.withHint("see which there are: %s", f.line("worker ls"))
	}
	if refused.Code == codeApplication {
		return refused.withHint("%s; all workers: %s", f.workerHint(name, ""), f.line("worker ls"))
	}
	return err
}

// summary says in a few words how the worker is.
func (s *WorkerStatus) summary() string {
	text := s.State
	if s.State == "running" && s.Instances > 1 {
		ready := 0
		for _, p := range s.Processes {
			if p.State == "ready" {
				ready++
			}
		}
		text += fmt.Sprintf(" (%d of %d)", ready, s.Instances)
	}
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

func newWorkerLsCmd() *cobra.Command {
	return newAskCmd(&clientFlags{}, "ls", "list the workers and how they are",
		`List the workers with their state, processes and calls. The states are

  running    calls are answered
  starting   a process has been started and is not ready, or will be after a pause
  waiting    it is lazy: the first call starts it
  stopping, stopped   by "ipcd worker stop"
  parked     it has ended, or not got ready, again and again; "ipcd worker start" gives it another chance
  ended      it has ended, and its settings say that it stays so

The JSON is the whole answer of Ipcd.Status: docs/protocol.md.`,
		"  ipcd worker ls\n  ipcd worker ls --json", "Ipcd.Status", noArgs,
		func(w io.Writer, s Status) error {
			if s.isBrief() {
				return faultf(codeDenied, "this daemon shows its workers to those who may control it alone")
			}
			if len(s.Workers) == 0 {
				_, err := fmt.Fprintln(w, "this daemon has no workers; docs/services.md says how to give it one")
				return err
			}
			return table(w, func(t io.Writer) {
				fmt.Fprintln(t, "NAME\tPID\tCALLS\tERRORS\tRESTARTS\tMEMORY\tCPU\tSTATE")
				for i := range s.Workers {
					s.Workers[i].row(t)
				}
			})
		})
}

// row writes the worker as a row of a table.
func (s *WorkerStatus) row(t io.Writer) {
	var pids []string
	var memory uint64
	var cpu float64
	for _, p := range s.Processes {
		pids = append(pids, strconv.Itoa(p.PID))
		memory += p.Memory
		cpu += p.CPU
	}
	dash := func(text string, there bool) string {
		if !there {
			return "-"
		}
		return text
	}
	fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", oneLine(s.Name), dash(strings.Join(pids, ","), len(pids) > 0), s.Calls, s.Errors, s.Restarts,
		dash(fmt.Sprintf("%.1fMiB", float64(memory)/(1<<20)), memory > 0), dash(fmt.Sprintf("%.1fs", cpu), memory > 0), oneLine(s.summary()))
}

func newWorkerLogsCmd() *cobra.Command {
	var f clientFlags
	follow := false
	cmd := &cobra.Command{
		Use:   "logs [-f] NAME",
		Short: "show what a worker prints",
		Long: `Show the last lines that the processes of a worker have written to standard output and standard error, up to
64 KiB. With -f it goes on until Ctrl-C. The whole is in the log of the daemon: ipcd logs.

The JSON is a line for each: {"time": RFC 3339, "instance": 1, "stream": "stdout" or "stderr", "text": "..."}.`,
		Example: "  ipcd worker logs greeter\n  ipcd worker logs -f greeter",
		Args:    oneWorker,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := settingsFrom(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := firstSignal(cmd.Context())
			defer cancel()
			set = f.briefly(set)
			if follow {
				set.Timeout = 0
			}
			err = f.with(ctx, set, func(ctx context.Context, c caller) error {
				return f.showWorkerLog(ctx, c, cmd, args[0], follow)
			})
			if ctx.Err() != nil {
				return nil
			}
			return f.workerFault(err, args[0])
		},
	}
	addQuestionFlags(cmd, &f)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it prints from now on")
	cmd.ValidArgsFunction = completeWorker(&f)
	return cmd
}

// showWorkerLog prints what a worker has printed.
func (f *clientFlags) showWorkerLog(ctx context.Context, c caller, cmd *cobra.Command, name string, follow bool) error {
	out := cmd.OutOrStdout()
	for q := (WorkerLogQuery{Name: name}); ; {
		var a WorkerLogAnswer
		if err := f.ask(ctx, c, "Ipcd.WorkerLog", q, &a); err != nil {
			return err
		}
		for _, l := range a.Lines {
			var err error
			if wantsJSON(cmd) {
				err = printJSON(out, l)
			} else {
				_, err = fmt.Fprintf(out, "%s %d %s %s\n", localTime(l.Time), l.Instance, oneLine(l.Stream), shown(out, l.Text))
			}
			if err != nil {
				return err
			}
		}
		if q.After = a.Next; !follow {
			return nil
		}
	}
}

// localTime shortens a time of RFC 3339 to that of day, here.
func localTime(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return oneLine(text)
	}
	return t.Local().Format("15:04:05.000")
}
