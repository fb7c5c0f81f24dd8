package main

// This file owns where the log of a Windows service goes, which has no stderr that anyone could read:
// all of it to a file that is begun anew before it is long, warnings and errors also to the event log.

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
	maxServiceLog  = 10       // megabytes of the file before it is put aside
	keptServiceLog = 5        // files that were put aside; the oldest goes
	maxCrashLog    = 1 << 20  // bytes after which the file for crashes is begun anew
	maxEvent       = 16 << 10 // bytes of an event: ReportEvent takes 31,839 characters, and half of that is more than anyone reads
)

// The numbers of our events: EventCreate.exe has texts for 1 to 1000, and each is what we say.
const (
	eventWarning = 2
	eventError   = 3
)

// serviceLogDir and serviceLogFile are where a service logs that has the directory dir. The file has a
// directory of its own because the service may write there, and nowhere else.
func serviceLogDir(dir string) string        { return filepath.Join(dir, "log") }
func serviceLogFile(dir, name string) string { return filepath.Join(serviceLogDir(dir), name+".log") }

// keepCrash has the runtime write what it says of a program that breaks to a file beside the log: on
// stderr nobody would see it. Where that cannot be, nobody does.
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
	debug.SetCrashOutput(f, debug.CrashOptions{}) // which keeps a handle of its own
	f.Close()
}

// events is the event log, as far as we need it.
type events interface {
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
	Close() error
}

// A serviceLog is the log of a service.
type serviceLog struct {
	*logger
	file   io.WriteCloser
	events events // nil where the system has none for us
}

// openServiceLog opens the log of the service of that name, which has the directory dir. A file that
// cannot be written is found out with the first line, and then there are still the events.
func openServiceLog(dir, name string, format logFormat, level logLevel) *serviceLog {
	s := &serviceLog{file: rotatedLog{&lumberjack.Logger{Filename: serviceLogFile(dir, name), MaxSize: maxServiceLog, MaxBackups: keptServiceLog}}}
	if log, err := eventlog.Open(name); err == nil {
		s.events = log
	}
	s.logger = newLoggerWith(s.file, lineFormat{json: format != formatText, also: s.report}, level)
	return s
}

// A rotatedLog is the file, and those that were put aside. It cannot be put aside while a program has it open
// that does not share its deletion ("Creating and Opening Files"), as those do that show the end of a file:
// until then it goes on, in the room that is there for all of them.
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

// report makes an event of what is worth one.
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

// placeholder is what the viewer of events takes for the place of another text ("ReportEventW function").
var placeholder = regexp.MustCompile(`%+([0-9])`)

// eventText is a line as an event has it.
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

// close says what is still to be said and gives the file back.
func (s *serviceLog) close() {
	s.logger.close()
	s.file.Close()
	if s.events != nil {
		s.events.Close()
	}
}
