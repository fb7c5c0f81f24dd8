package main

// This file owns "ipcd logs": the log of the service, or of one's own daemon, wherever it is.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

const (
	logLines = 100                    // that are shown unless --lines says otherwise
	logLook  = 200 * time.Millisecond // between looks at a log that is followed
)

func newLogsCmd() *cobra.Command {
	var s serviceFlags
	follow, lines := false, logLines
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "show the log of the service, or of your own daemon",
		Long: `Show the end of the log of the service: the journal of systemd, or the file that it is in.
With -f it goes on until Ctrl-C.
` + ownInstead,
		Example:           "  ipcd logs\n  ipcd logs -f\n  sudo ipcd logs --name ipcd-2 -n 1000",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 {
				return usagef("--lines: %d is less than none", lines)
			}
			ctx, cancel := firstSignal(cmd.Context())
			defer cancel()
			d, err := s.ownDaemon(cmd)
			if err != nil {
				return err
			}
			if d != nil {
				file, err := d.logFile(ctx)
				if err != nil {
					return err
				}
				return showLog(ctx, cmd.OutOrStdout(), file, lines, follow)
			}
			return s.showLog(ctx, cmd, lines, follow)
		},
	}
	s.add(cmd)
	addOwnFlag(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged from now on")
	cmd.Flags().IntVarP(&lines, "lines", "n", logLines, "how many `lines` of what was logged before")
	return cmd
}

// showLog shows the log of the service.
func (f *serviceFlags) showLog(ctx context.Context, cmd *cobra.Command, lines int, follow bool) error {
	if err := f.check(); err != nil {
		return err
	}
	sup, err := findSupervisor(f.user)
	if err != nil {
		return err
	}
	i := &installer{sup: sup, d: f.recall(sup)}
	if !i.installed() {
		return faultf(codeApplication, "%s is not installed", i.what()).withHint("ipcd install%s", f.flags())
	}
	file, words := sup.logAt(i.d)
	if file != "" {
		return showLog(ctx, cmd.OutOrStdout(), file, lines, follow)
	}
	if len(words) == 0 {
		return faultf(codeApplication, "it is not known where %s logs", i.what())
	}
	words = append(words, "--no-pager", "--lines="+strconv.Itoa(lines))
	if follow {
		words = append(words, "--follow")
	}
	show := exec.CommandContext(ctx, toolPath(words[0]), words[1:]...)
	show.Stdout, show.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := show.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", joinWords(words), err)
	}
	return nil
}

// showLog prints the last lines of a file, and follows it until ctx ends, even to the next file of that name.
func showLog(ctx context.Context, out io.Writer, name string, lines int, follow bool) error {
	if isTerminal(out) {
		out = &shownLines{out: out}
	}
	f, err := openLog(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return faultf(codeApplication, "there is no log: nothing has been logged to %s", name).
			withHint(`a daemon that "ipcd call --start hello" starts logs there; one of "ipcd run" to where it was started, until it is told otherwise: ipcd run 2>FILE`)
	case errors.Is(err, fs.ErrPermission):
		return faultf(codeApplication, "the log %s cannot be read: %w", name, withoutPath(err)).withHint("as the user that it belongs to, or as %s: %s", masters, joinWords(commandLine()))
	case err != nil:
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { f.Close() }()
	at, err := tailOffset(f, lines)
	if err != nil {
		return fmt.Errorf("read the log %s: %w", name, withoutPath(err))
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	for {
		n, err := io.Copy(out, f)
		if at += n; err != nil || !follow {
			return err
		}
		if next, err := openLog(name); err == nil {
			was, wasErr := f.Stat()
			now, nowErr := next.Stat()
			switch {
			case wasErr == nil && nowErr == nil && !os.SameFile(was, now): // rotated
				io.Copy(out, f) // what was still written to it
				f.Close()
				f, at = next, 0
				continue
			case nowErr == nil && now.Size() < at: // truncated
				at, err = f.Seek(0, io.SeekStart)
			}
			if next.Close(); err != nil {
				return err
			}
		}
		select {
		case <-time.After(logLook):
		case <-ctx.Done():
			return nil
		}
	}
}

// openLog opens a log, which is a regular file: to open a pipe may take for ever.
func openLog(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, err
	}
	return os.Open(name)
}

// shownLines shows lines on a terminal, which others may have had a hand in.
type shownLines struct {
	out  io.Writer
	rest []byte // of a line that is not complete
}

func (s *shownLines) Write(b []byte) (int, error) {
	s.rest = append(s.rest, b...)
	end := bytes.LastIndexByte(s.rest, '\n') + 1
	if end == 0 && len(s.rest) <= maxLogTail {
		return len(b), nil
	}
	if end == 0 {
		end = len(s.rest)
	}
	_, err := io.WriteString(s.out, shown(s.out, string(s.rest[:end])))
	s.rest = s.rest[:copy(s.rest, s.rest[end:])]
	return len(b), err
}

// maxLogTail is how many bytes at the end of a log are searched for its last lines.
const maxLogTail = 4 << 20

// tailOffset returns where the last lines of a log begin.
func tailOffset(f *os.File, lines int) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	from := max(info.Size()-maxLogTail, 0)
	b, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return 0, err
	}
	start := len(bytes.TrimRight(b, "\n"))
	for ; lines > 0 && start > 0; lines-- {
		start = max(bytes.LastIndexByte(b[:start], '\n'), 0)
	}
	if start > 0 {
		start++ // behind the line feed
	}
	return from + int64(min(start, len(b))), nil
}
