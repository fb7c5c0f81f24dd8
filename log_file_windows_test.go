package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeEvents is an event log that remembers.
type fakeEvents []string

func (e *fakeEvents) Warning(id uint32, text string) error {
	*e = append(*e, fmt.Sprintf("warning %d: %s", id, text))
	return nil
}

func (e *fakeEvents) Error(id uint32, text string) error {
	*e = append(*e, fmt.Sprintf("error %d: %s", id, text))
	return errors.New("the event log is full")
}

func (e *fakeEvents) Close() error { return nil }

// logOfTest is the log of a service in a directory of the test's.
func logOfTest(t *testing.T, format logFormat) (*serviceLog, *fakeEvents, string) {
	t.Helper()
	dir := t.TempDir()
	s := openServiceLog(dir, "ipcd-test", format, levelInfo)
	if s.events != nil {
		s.events.Close()
	}
	events := &fakeEvents{}
	s.events = events
	t.Cleanup(s.close)
	return s, events, serviceLogFile(dir, "ipcd-test")
}

func TestServiceLogGoesToFileAndEvents(t *testing.T) {
	s, events, file := logOfTest(t, formatAuto)
	s.info("listening", "endpoint", "npipe:////./pipe/ipcd")
	s.warn("100%1 of it\nand more")
	s.error("stopping", "error", errors.New("the pipe is broken"))
	s.debug("not said")
	want := []string{`warning 2: 100% 1 of it\u000aand more`, `error 3: stopping error="the pipe is broken"`}
	if !slices.Equal(*events, want) {
		t.Errorf("events %q; want %q", *events, want)
	}
	lines := lastLines(file, 10)
	if len(lines) != 3 {
		t.Fatalf("the file has %q; want three lines", lines)
	}
	for i, level := range []string{"info", "warn", "error"} {
		var line struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || line.Level != level || line.Time == "" || line.Msg == "" {
			t.Errorf("line %d is %s (%v); want JSON of level %s", i, lines[i], err, level)
		}
	}
}

func TestServiceLogIsAsLongAsItMayBe(t *testing.T) {
	s, _, file := logOfTest(t, formatText)
	line := strings.Repeat("x", maxField-100)
	for range (2*maxServiceLog<<20 + 1<<20) / maxField {
		s.info(line)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Errorf("the log is %q; want the file and two that were put aside", files)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > maxServiceLog<<20 {
			t.Errorf("%s has %d bytes (%v); want %d at most", f, info.Size(), err, maxServiceLog<<20)
		}
	}
}

// Somebody looks at the file, as programs do that show its end, when it is to be put aside.
func TestServiceLogGoesOnWhileItIsRead(t *testing.T) {
	s, _, file := logOfTest(t, formatText)
	s.info("first")
	reader, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	must(t, s.file.Close()) // so that its size is looked at
	full, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = full.WriteAt([]byte("\n"), maxServiceLog<<20-1)
	must(t, errors.Join(err, full.Close()))
	s.info("second")
	if lines := lastLines(file, 1); len(lines) != 1 || !strings.Contains(lines[0], "second") {
		t.Errorf("while it is read, the file ends with %q", lines)
	}
	must(t, reader.Close())
	s.info("third")
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if lines := lastLines(file, 9); err != nil || len(files) != 2 || len(lines) != 1 || !strings.Contains(lines[0], "third") {
		t.Errorf("read no more, the log is %q, %v, and ends with %q", files, err, lines)
	}
}

func TestEventText(t *testing.T) {
	long := eventText([]byte(strings.Repeat("ä", maxEvent)))
	if len(long) > maxEvent+3 || !strings.HasSuffix(long, "ä...") {
		t.Errorf("a long line becomes %d bytes that end in %q", len(long), long[len(long)-5:])
	}
}
