package main

// This file owns the log as systemd's journal gets it: the tests play that.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// journalFields reads one message of the journal's native protocol:
// systemd.io/JOURNAL_NATIVE_PROTOCOL.
func journalFields(b []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("%q has no end", b)
		}
		name, value, ok := strings.Cut(string(line), "=")
		if !ok { // the length of the value follows in 8 bytes, and the value
			n := int(binary.LittleEndian.Uint64(rest))
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		fields[name], b = value, rest
	}
	return fields, nil
}

// runInJournal runs "ipcd run" with its log in a journal of ours until it ends with the exit code that is
// wanted, and returns what the journal gets, and what comes on standard error.
func runInJournal(t *testing.T, want int, stream func(f *os.File) string, args ...string) (lines []map[string]string, stderr string) {
	t.Helper()
	needRoot(t)
	var ended error
	err := inOwnRun(t, func() error {
		if err := os.MkdirAll("/run/systemd/journal", 0o755); err != nil {
			return err
		}
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/socket", Net: "unixgram"})
		if err != nil {
			return err
		}
		defer l.Close()
		ours, theirs, err := pair()
		if err != nil {
			return err
		}
		defer ours.Close()
		cmd := exec.Command("ipcd", append([]string{"run", "--listen", at(tempSocket(t)).String(), "--idle", "10ms"}, args...)...)
		cmd.Stderr = theirs
		cmd.Env = append(os.Environ(), "JOURNAL_STREAM="+stream(theirs))
		ended = cmd.Run()
		theirs.Close()
		b := make([]byte, 64<<10)
		n, _ := ours.Read(b) // all that it has written; nothing, where it has closed its end at once
		if n > 0 {
			stderr = string(b[:n])
		}
		last, err := net.Dial("unixgram", l.LocalAddr().String())
		if err != nil {
			return err
		}
		defer last.Close()
		const end = "nothing comes after this: it has ended"
		if _, err := io.WriteString(last, end); err != nil {
			return err
		}
		l.SetReadDeadline(time.Now().Add(testPatience))
		for {
			n, err := l.Read(b)
			if err != nil || string(b[:n]) == end {
				return err
			}
			fields, err := journalFields(b[:n])
			if err != nil {
				return err
			}
			if len(fields) > 0 { // the probe of one who looks whether we are there has none
				lines = append(lines, fields)
			}
		}
	})
	must(t, err)
	if code := exitCodeOf(ended); code != want {
		t.Errorf("exit code %d; want %d", code, want)
	}
	return lines, stderr
}

func exitCodeOf(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &e):
		return e.ExitCode()
	}
	return -1
}

// streamOf is $JOURNAL_STREAM for f.
func streamOf(t *testing.T) func(f *os.File) string {
	return func(f *os.File) string {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Error(err)
		}
		return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
}

func TestLogGoesToTheJournal(t *testing.T) {
	lines, stderr := runInJournal(t, exitDone, streamOf(t))
	if stderr != "" {
		t.Errorf("on standard error stands %q; want nothing", stderr)
	}
	want := []struct{ message, field, value string }{
		{"listening endpoint=unix:///", "IPCD_ENDPOINT", "unix:///"},
		{"stopping: idle for too long idle=10ms", "IPCD_IDLE", "10ms"},
		{"stopped", "SYSLOG_IDENTIFIER", "ipcd"},
	}
	if len(lines) != len(want) {
		t.Fatalf("the journal has %d lines, %q; want %d", len(lines), lines, len(want))
	}
	for i, w := range want {
		if l := lines[i]; !strings.HasPrefix(l["MESSAGE"], w.message) || !strings.HasPrefix(l[w.field], w.value) || l["PRIORITY"] != "6" || l["SYSLOG_IDENTIFIER"] != "ipcd" {
			t.Errorf("the journal gets %q; want the message %q, %s=%q, and the priority 6", l, w.message, w.field, w.value)
		}
	}
}

// TestLastWordsInTheJournal wants what is wrong with a start to be an error there, too.
func TestLastWordsInTheJournal(t *testing.T) {
	_, stderr := runInJournal(t, exitUsage, streamOf(t), "--set", "limits.drain=0s")
	if !strings.HasPrefix(stderr, "<3>ipcd: error: --set limits.drain: ") || !strings.Contains(stderr, "\n") {
		t.Errorf("on standard error stands %q; want the complaint at level 3", stderr)
	}
	_, stderr = runInJournal(t, exitUsage, func(*os.File) string { return "1:2" }, "--set", "limits.drain=0s")
	if !strings.HasPrefix(stderr, "ipcd: error: --set limits.drain: ") {
		t.Errorf("on standard error stands %q; want the complaint", stderr)
	}
}

// TestLogStaysText has what does not lead to the journal, and who does not want its log there.
func TestLogStaysText(t *testing.T) {
	for name, test := range map[string]struct {
		stream func(f *os.File) string
		args   []string
		want   string
	}{
		"another file": {func(*os.File) string { return "1:2" }, nil, `"msg":"listening"`},
		"nonsense":     {func(*os.File) string { return "yes" }, nil, `"msg":"listening"`},
		"text":         {streamOf(t), []string{"--log-format", "text"}, " info  listening endpoint=unix:///"},
		"json":         {streamOf(t), []string{"--log-format", "json"}, `"msg":"listening"`},
	} {
		t.Run(name, func(t *testing.T) {
			lines, stderr := runInJournal(t, exitDone, test.stream, test.args...)
			if len(lines) > 0 || !strings.Contains(stderr, test.want) {
				t.Errorf("the journal gets %q, standard error %q; want nothing, and %q", lines, stderr, test.want)
			}
		})
	}
}

func TestJournalEntry(t *testing.T) {
	stack := "goroutine 1\nmain.go:1"
	e := entryOf(logLevels[levelError], "a method\npanicked", map[string]any{
		"method": "Trial.Panic", "conn": 7, "stack": stack, "odd key!": "a b", "error": fmt.Errorf("line\x1b[31m"), strings.Repeat("long", 30): true,
	})
	want := "a method\\u000apanicked conn=7 method=Trial.Panic error=\"line\\x1b[31m\" "
	if !strings.HasPrefix(e.message, want) || strings.Contains(e.message, "goroutine") {
		t.Errorf("the message is %q; want %q first, and nothing of several lines", e.message, want)
	}
	for name, want := range map[string]string{"IPCD_METHOD": "Trial.Panic", "IPCD_CONN": "7", "IPCD_STACK": stack, "IPCD_ODD_KEY_": "a b"} {
		if e.fields[name] != want {
			t.Errorf("%s is %q; want %q", name, e.fields[name], want)
		}
	}
	for name := range e.fields {
		if len(name) > maxFieldName {
			t.Errorf("the field %s has more than %d bytes", name, maxFieldName)
		}
	}
	for level, priority := range map[logLevel]int{levelDebug: 7, levelInfo: 6, levelWarn: 4, levelError: 3} {
		if e := entryOf(logLevels[level], "", nil); e.priority != priority {
			t.Errorf("the priority of %s is %d; want %d", level, e.priority, priority)
		}
	}
}

// TestJournalThatIsNotRead has the journal's queue full of what others have sent, and nobody read it: calls are answered
// all the same. Once the journal is read again, it has the lines that found room, and how many did not.
func TestJournalThatIsNotRead(t *testing.T) {
	needRoot(t)
	e := at(tempSocket(t))
	must(t, inOwnRun(t, func() error {
		if err := os.MkdirAll("/run/systemd/journal", 0o755); err != nil {
			return err
		}
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: journalSocket, Net: "unixgram"})
		if err != nil {
			return err
		}
		defer l.Close()
		for full := false; !full; { // a socket has room for so much itself, and the queue for the messages of several
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for full = true; unix.Sendto(fd, []byte("MESSAGE=full\n"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: journalSocket}) == nil; full = false {
			}
		}
		ours, theirs, err := pair()
		if err != nil {
			return err
		}
		defer ours.Close()
		defer theirs.Close()
		cmd := exec.Command("ipcd", "run", "--listen", e.String(), "--log-level", "debug")
		cmd.Stderr = theirs
		cmd.Env = append(os.Environ(), "JOURNAL_STREAM="+streamOf(t)(theirs))
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		defer func() {
			cmd.Process.Signal(unix.SIGTERM)
			if err := <-ended; err != nil {
				t.Errorf("the daemon ends with %v", err)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), testPatience)
		defer cancel()
		c, err := connect(ctx, e, defaultLimits(), testPatience)
		if err != nil {
			return err
		}
		defer c.close()
		for range 2 * logQueue {
			if err := c.call(ctx, "Ipcd.Ping", nil, nil); err != nil {
				return err
			}
		}
		l.SetReadDeadline(time.Now().Add(testPatience))
		b := make([]byte, 64<<10)
		for read, asked := 0, false; ; read++ {
			n, err := l.Read(b)
			if err != nil {
				return fmt.Errorf("after %d messages: %w", read, err)
			}
			fields, err := journalFields(b[:n])
			switch {
			case err != nil:
				return err
			case strings.HasPrefix(fields["MESSAGE"], "log lines were lost because the log was not read in time"):
				return nil
			case strings.HasPrefix(fields["MESSAGE"], "listening"):
				asked = true
			}
			if asked { // there is room again, for a line that says so
				c.call(ctx, "Ipcd.Ping", nil, nil)
			}
		}
	}))
}
