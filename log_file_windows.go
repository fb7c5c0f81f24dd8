package main

// This file owns where a Windows service logs, which has no stderr that anybody could read: everything goes to a file
// that is rotated, warnings and errors also to the event log. It is the only one that imports lumberjack.

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"unicode/utf8"

	"golang.org/x/sys/windows/svc/eventlog"
	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	maxServiceLog  = 10       // megabytes of the file, then it is rotated
	keptServiceLog = 5        // rotated files that are kept
	maxCrashLog    = 1 << 20  // bytes of the file for crashes, then it is truncated
	maxEvent       = 16 << 10 // bytes of an event: ReportEvent takes 31,839 characters, and half of that is more than anyone reads
)

// The numbers of our events. EventCreate.exe has message texts for 1 to 1000, each of which is just our text.
const (
	eventWarning = 2
	eventError   = 3
)

// serviceLogDir and serviceLogFile are where a service with the directory dir logs. The log has a directory of its own,
// the only one that the service may write to.
func serviceLogDir(dir string) string        { return filepath.Join(dir, "log") }
func serviceLogFile(dir, name string) string { return filepath.Join(serviceLogDir(dir), name+".log") }

// keepCrash makes the runtime write the report of a crash to a file next to the log as well: on stderr nobody would see
// it. If the file cannot be opened, there is no such report.
func keepCrash(dir string) {
	name := filepath.Join(serviceLogDir(dir), "crash.log")
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(name); err == nil && info.Size() > maxCrashLog {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return
	}
	debug.SetCrashOutput(f, debug.CrashOptions{}) // it duplicates the handle
	f.Close()
}

// events is what we need of the event log.
type events interface {
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
	Close() error
}

// A serviceLog is the log of a service.
type serviceLog struct {
	*logger
	file   io.WriteCloser
	events events // nil if it cannot be opened
}

// openServiceLog opens the log of the service name, whose directory is dir. It does not open the file: if that cannot be
// written, the first line will show it, and there are still the events.
func openServiceLog(dir, name string, format logFormat, level logLevel) *serviceLog {
	s := &serviceLog{file: rotatedLog{&lumberjack.Logger{Filename: serviceLogFile(dir, name), MaxSize: maxServiceLog, MaxBackups: keptServiceLog}}}
	if log, err := eventlog.Open(name); err == nil {
		s.events = log
	}
	s.logger = newLoggerWith(s.file, lineFormat{json: format != formatText, also: s.report}, level)
	return s
}

// A rotatedLog is the file and its rotated predecessors. It cannot be rotated while a program has it open without
// FILE_SHARE_DELETE ("Creating and Opening Files"), as those do that follow a log. Until they close it, it grows
// on, up to the size that all of the files may have together.
type rotatedLog struct{ *lumberjack.Logger }

func (l rotatedLog) Write(b []byte) (int, error) {
	n, err := l.Logger.Write(b)
	if err == nil || n > 0 {
		return n, err
	}
	f, openErr := os.OpenFile(l.Filename, os.O_APPEND|os.O_WRONLY, 0)
	if openErr != nil {
		return 0, err
	}
	defer f.Close()
	if info, statErr := f.Stat(); statErr != nil || info.Size() > (keptServiceLog+1)*maxServiceLog<<20 {
		return 0, err
	}
	return f.Write(b)
}

// report writes warnings and errors to the event log.
func (s *serviceLog) report(level logLevel, line []byte) {
	if s.events == nil {
		return
	}
	text := eventText(line)
	switch level {
	case levelWarn:
		s.events.Warning(eventWarning, text)
	case levelError:
		s.events.Error(eventError, text)
	}
}

// placeholder matches what the event viewer would replace with an inserted string ("ReportEventW function").
var placeholder = regexp.MustCompile(`%+([0-9])`)

// eventText is a line as the text of an event.
func eventText(line []byte) string {
	text := placeholder.ReplaceAllString(string(bytes.TrimSpace(line)), "% $1")
	if len(text) <= maxEvent {
		return text
	}
	cut := maxEvent
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// close writes what is still held back, and closes the file and the event log.
func (s *serviceLog) close() {
	s.logger.close()
	s.file.Close()
	if s.events != nil {
		s.events.Close()
	}
}
