package main

// This file owns the log of a Windows service, which has no stderr that anyone could read. Everything goes to a
// file that is rotated before it grows large; warnings and errors also go to the event log.

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/windows/svc/eventlog"
	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	maxServiceLog  = 10       // megabytes before the file is rotated
	keptServiceLog = 5        // rotated files; then the oldest is removed
	maxCrashLog    = 1 << 20  // bytes before the file for crashes is truncated
	maxEvent       = 16 << 10 // bytes of an event; ReportEvent takes 31,839 characters, but nobody reads that much
)

// The ids of our events. EventCreate.exe provides message texts for 1 to 1000, which are just what is passed.
const (
	eventWarning = 2
	eventError   = 3
)

// serviceLogDir and serviceLogFile are where the service with the directory dir logs. The file has its own
// directory, because that is the only place where the service may write.
func serviceLogDir(dir string) string        { return filepath.Join(dir, "log") }
func serviceLogFile(dir, name string) string { return filepath.Join(serviceLogDir(dir), name+".log") }

// keepCrash makes the runtime write its crash report to a file beside the log, since nobody sees stderr. If the
// file cannot be opened, the report is lost.
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
	debug.SetCrashOutput(f, debug.CrashOptions{}) // which duplicates the handle
	f.Close()
}

// events is the part of the event log that we use.
type events interface {
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
	Close() error
}

// A serviceLog is the log of a service.
type serviceLog struct {
	*logger
	file   io.WriteCloser
	events events // nil if there is no event log for us
}

// openServiceLog opens the log of the service with that name and the directory dir. The file is opened with the
// first line; if that fails, events are still logged.
func openServiceLog(dir, name string, format logFormat, level logLevel) *serviceLog {
	s := &serviceLog{file: rotatedLog{&lumberjack.Logger{Filename: serviceLogFile(dir, name), MaxSize: maxServiceLog, MaxBackups: keptServiceLog}}}
	if log, err := eventlog.Open(name); err == nil {
		s.events = log
	}
	s.logger = newLoggerWith(s.file, lineFormat{json: format != formatText, also: s.report}, level)
	return s
}

// A rotatedLog is the log file with its rotated predecessors. It cannot be rotated while another program has
// it open without sharing deletion ("Creating and Opening Files"), as viewers do. Until then it
// keeps growing, up to the size of all the files together.
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

// report logs warnings and errors as events.
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

// placeholder matches what the event viewer would replace with another text ("ReportEventW function").
var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`%+([0-9])`) })

// eventText returns a line as the text of an event.
func eventText(line []byte) string {
	text := placeholder().ReplaceAllString(string(bytes.TrimSpace(line)), "% $1")
	if len(text) <= maxEvent {
		return text
	}
	cut := maxEvent
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// close writes what is still queued and closes the file and the event log.
func (s *serviceLog) close() {
	s.logger.close()
	s.file.Close()
	if s.events != nil {
		s.events.Close()
	}
}
