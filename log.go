package main

// This file owns the log: its levels, and what it does with a flood of the same complaint and with a
// reader that does not read. What a line looks like is in log_line.go; no other file imports logrus.
//
// Messages are constants of ours; what varies goes into fields. Those that every line may
// have are endpoint, conn, peer, method, call and error, and they are printed in that order.
// Payloads are for the debug level only.

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// A logLevel is a value of log_level.
type logLevel string

const (
	levelDebug logLevel = "debug"
	levelInfo  logLevel = "info"
	levelWarn  logLevel = "warn"
	levelError logLevel = "error"
)

// logLevels are those of logrus; it calls the third "warning", and we never print that.
var logLevels = map[logLevel]logrus.Level{
	levelDebug: logrus.DebugLevel, levelInfo: logrus.InfoLevel,
	levelWarn: logrus.WarnLevel, levelError: logrus.ErrorLevel,
}

// A logFormat is a value of log_format.
type logFormat string

const (
	formatAuto logFormat = "auto" // text on a terminal, fields in systemd's journal, JSON otherwise
	formatText logFormat = "text"
	formatJSON logFormat = "json"
)

// A logger writes lines that carry its fields. A nil one writes nothing.
type logger struct {
	s      *logSink
	fields logrus.Fields // never changed once a logger has it
}

// newLogger logs to w what is at the level or above it. Whoever makes it closes it.
func newLogger(w io.Writer, format logFormat, level logLevel) *logger {
	l := newLoggerWith(w, lineFormat{}, level)
	l.s.terminal = isTerminal(w)
	if f, ok := w.(*os.File); ok && openJournal != nil {
		l.s.journal = openJournal(f)
	}
	l.change(format, level)
	return l
}

// change has the log go on in another format, and from another level on.
func (l *logger) change(format logFormat, level logLevel) {
	l.s.setLevel(level)
	f, _ := l.s.log.Formatter.(lineFormat) // which nobody else changes
	f.json = format == formatJSON || format != formatText && !l.s.terminal
	f.colour = l.s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" // no-color.org
	l.s.log.SetFormatter(f)
	l.s.journaled.Store(format == formatAuto && l.s.journal != nil)
}

func newLoggerWith(w io.Writer, f lineFormat, level logLevel) *logger {
	s := &logSink{floods: map[complaint]*flood{}}
	s.setLevel(level)
	if file, ok := w.(*os.File); ok {
		s.file = &logFile{f: file}
		w = s.file
	}
	s.log = &logrus.Logger{Out: quiet{w}, Formatter: f, Hooks: logrus.LevelHooks{}, Level: logrus.DebugLevel} // what is too low does not come so far
	return &logger{s: s}
}

func (s *logSink) setLevel(level logLevel) {
	max, ok := logLevels[level]
	if !ok {
		max = logrus.InfoLevel
	}
	s.level.Store(uint32(max))
}

// isTerminal tells whether w is a terminal that understands colours. logrus has no name for
// that, but its own formatter knows; on Windows asking also switches the console to escape
// sequences (ENABLE_VIRTUAL_TERMINAL_PROCESSING), which nothing else here does.
func isTerminal(w io.Writer) bool {
	if _, ok := w.(*os.File); !ok {
		return false
	}
	line, err := new(logrus.TextFormatter).Format(logrus.NewEntry(&logrus.Logger{Out: w}))
	return err == nil && bytes.IndexByte(line, 0x1b) >= 0
}

// with returns a logger whose lines also have these fields: key, value, key, value.
func (l *logger) with(key string, value any, more ...any) *logger {
	if l == nil {
		return nil
	}
	return &logger{s: l.s, fields: l.merge(append([]any{key, value}, more...))}
}

// debugging guards calls of debug where a message passes: boxing their values would
// cost an allocation each even when the level is off.
func (l *logger) debugging() bool { return l != nil && l.s.logs(logrus.DebugLevel) }

func (l *logger) debug(msg string, kv ...any) {
	if l.debugging() {
		l.write(logrus.DebugLevel, msg, kv)
	}
}

func (l *logger) info(msg string, kv ...any)  { l.write(logrus.InfoLevel, msg, kv) }
func (l *logger) warn(msg string, kv ...any)  { l.write(logrus.WarnLevel, msg, kv) }
func (l *logger) error(msg string, kv ...any) { l.write(logrus.ErrorLevel, msg, kv) }

// close reports what a flood has held back and waits, not for ever, until all is written.
// What is logged later goes nowhere.
func (l *logger) close() {
	if l != nil {
		l.s.close()
	}
}

// write logs one line unless the level or a flood is against it.
func (l *logger) write(level logrus.Level, msg string, kv []any) {
	if l == nil || !l.s.logs(level) {
		return
	}
	fields := l.merge(kv)
	// Only complaints come in floods. What is logged below a warning was asked for: each
	// line of an echo endpoint says something new.
	if level <= logrus.WarnLevel {
		endpoint, _ := fieldText(fields["endpoint"])
		if !l.s.admit(complaint{level, msg, endpoint}) {
			return
		}
	}
	l.s.emit(level, msg, fields)
}

// merge adds fields to those of the logger. A nil value is a field that is not there, so
// that a caller can pass an error that may be none.
func (l *logger) merge(kv []any) logrus.Fields {
	if len(kv) == 0 {
		return l.fields
	}
	fields := maps.Clone(l.fields)
	if fields == nil {
		fields = make(logrus.Fields, len(kv)/2)
	}
	for i := 0; i < len(kv); i += 2 {
		key, ok := kv[i].(string)
		if !ok || i+1 == len(kv) {
			fields["extra"] = kv[i]
			continue
		}
		fields[key] = kv[i+1]
		if kv[i+1] == nil {
			delete(fields, key)
		}
	}
	return fields
}

// A flood is a complaint that comes too often: after floodFirst of it within floodWindow the
// rest is counted and reported once.
type flood struct {
	began time.Time
	seen  int
	held  int
	timer *time.Timer // set while something is held
}

const (
	floodFirst  = 5
	floodWindow = 10 * time.Second
	floodKinds  = 256 // different complaints told apart; a message should be a constant, this is for when one is not
)

// A complaint is what makes two lines the same.
type complaint struct {
	level    logrus.Level
	msg      string
	endpoint string
}

// A logSink is what all loggers made from one share.
type logSink struct {
	log       *logrus.Logger
	level     atomic.Uint32 // a logrus.Level
	file      *logFile      // nil where the log goes into memory
	terminal  bool
	journal   func(journalEntry) error // nil where the log does not go to the journal
	journaled atomic.Bool              // it goes there by its own protocol, not as text

	// mu guards the fields below. It is not held while a line is written.
	mu     sync.Mutex
	floods map[complaint]*flood
	closed bool
	firing sync.WaitGroup // reports of timers that are being written
}

func (s *logSink) logs(level logrus.Level) bool { return level <= logrus.Level(s.level.Load()) }

// emit writes one line, after one that says how many were lost before it.
func (s *logSink) emit(level logrus.Level, msg string, fields logrus.Fields) {
	if n := s.file.takeLost(); n > 0 {
		s.line(logrus.WarnLevel, "log lines were lost because nobody read the log in time", logrus.Fields{"lines": n})
	}
	s.line(level, msg, fields)
}

func (s *logSink) line(level logrus.Level, msg string, fields logrus.Fields) {
	if !s.journaled.Load() {
		(&logrus.Entry{Logger: s.log, Data: fields}).Log(level, msg)
		return
	}
	e := entryOf(level, msg, fields)
	s.file.put(func() {
		if s.journal(e) != nil { // it may be there again in a moment, as the other end of stderr
			io.WriteString(s.file.f, e.message+"\n")
		}
	})
}

// admit tells whether a complaint may be written, and counts it if not.
func (s *logSink) admit(c complaint) bool {
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return true
	}
	f := s.floods[c]
	if f == nil && len(s.floods) >= floodKinds {
		maps.DeleteFunc(s.floods, func(_ complaint, f *flood) bool { return f.held == 0 && now.Sub(f.began) >= floodWindow })
		if len(s.floods) >= floodKinds {
			c = complaint{level: c.level, msg: "other complaints"}
			f = s.floods[c]
		}
	}
	held := 0
	if f != nil && now.Sub(f.began) >= floodWindow { // its timer is about to say so
		held = f.takeHeld()
		f = nil
	}
	if f == nil {
		f = &flood{began: now}
		s.floods[c] = f
	}
	f.seen++
	ok := f.seen <= floodFirst
	if !ok {
		f.held++
		if f.timer == nil {
			f.timer = time.AfterFunc(f.began.Add(floodWindow).Sub(now), func() { s.over(c, f) })
		}
	}
	s.mu.Unlock()
	s.report(c, held)
	return ok
}

// takeHeld ends the flood and returns how many lines it held back.
func (f *flood) takeHeld() int {
	if f.timer != nil {
		f.timer.Stop()
	}
	n := f.held
	f.held = 0
	return n
}

// over ends the window of a flood that held something back.
func (s *logSink) over(c complaint, f *flood) {
	s.mu.Lock()
	if s.closed || s.floods[c] != f {
		s.mu.Unlock()
		return
	}
	delete(s.floods, c)
	held := f.takeHeld()
	s.firing.Add(1)
	s.mu.Unlock()
	defer s.firing.Done()
	s.report(c, held)
}

// report says once what was held back n times.
func (s *logSink) report(c complaint, n int) {
	if n == 0 {
		return
	}
	var fields logrus.Fields
	if c.endpoint != "" {
		fields = logrus.Fields{"endpoint": c.endpoint}
	}
	s.emit(c.level, fmt.Sprintf("%s ... repeated %d times", c.msg, n), fields)
}

func (s *logSink) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	held := map[complaint]int{}
	for c, f := range s.floods {
		held[c] = f.takeHeld()
	}
	s.floods = nil
	s.mu.Unlock()
	s.firing.Wait()
	order := slices.SortedFunc(maps.Keys(held), func(a, b complaint) int {
		return bytes.Compare([]byte(a.msg+"\x00"+a.endpoint), []byte(b.msg+"\x00"+b.endpoint))
	})
	for _, c := range order {
		s.report(c, held[c])
	}
	s.file.close()
}

// quiet is a writer whose errors nobody hears: logrus would print them on stderr, which is
// the very thing that does not work then.
type quiet struct{ w io.Writer }

func (q quiet) Write(p []byte) (int, error) {
	q.w.Write(p)
	return len(p), nil
}

const (
	logQueue = 256                    // lines that wait for a slow reader
	logWait  = 100 * time.Millisecond // for room among them, once, before lines are dropped
	logEnd   = time.Second            // for the last of them at close
)

// A logFile writes lines to a file that may take none: a full pipe whose reader sleeps, a
// terminal stopped with Ctrl-S. The daemon must go on all the same, so a goroutine of its own
// writes, and when its queue is full, lines are counted instead.
type logFile struct {
	f *os.File

	// mu guards the fields below. Lock order: logrus's own mutex, then this one.
	mu     sync.Mutex
	lines  chan func()    // each writes one; made with the first
	done   chan struct{}  // closed when the writer has ended
	pipe   chan os.Signal // see start
	stuck  bool           // the last line found no room; no other waits until one does
	lost   int
	closed bool
}

func (l *logFile) Write(p []byte) (int, error) {
	line := bytes.Clone(p) // logrus uses p again
	l.put(func() { l.f.Write(line) })
	return len(p), nil
}

// put queues what writes one line.
func (l *logFile) put(write func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.lines == nil {
		l.start()
	}
	select {
	case l.lines <- write:
		l.stuck = false
		return
	default:
	}
	if !l.stuck {
		wait := time.NewTimer(logWait)
		defer wait.Stop()
		select {
		case l.lines <- write:
			return
		case <-wait.C:
		}
	}
	l.stuck = true
	l.lost++
}

// start starts the writer. A Go program dies of SIGPIPE when it writes to a closed stderr,
// unless it has asked to be told of that signal (os/signal, "SIGPIPE"); nobody listens,
// because the error of the write says it too. Ignoring it instead would be inherited by
// every program that we start.
func (l *logFile) start() {
	l.pipe = make(chan os.Signal, 1)
	signal.Notify(l.pipe, syscall.SIGPIPE)
	l.lines, l.done = make(chan func(), logQueue), make(chan struct{})
	go func(lines <-chan func()) {
		defer close(l.done)
		for write := range lines {
			write()
		}
	}(l.lines)
}

// takeLost returns how many lines were lost, once there is room to say so.
func (l *logFile) takeLost() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 || len(l.lines) == cap(l.lines) {
		return 0
	}
	n := l.lost
	l.lost = 0
	return n
}

// close waits for the lines that are queued. A reader that does not read gets logEnd; the
// goroutine that is then stuck in the system's write ends with the process.
func (l *logFile) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	lines := l.lines
	l.closed = true
	l.mu.Unlock()
	if lines == nil {
		return
	}
	close(lines)
	end := time.NewTimer(logEnd)
	defer end.Stop()
	select {
	case <-l.done:
	case <-end.C:
	}
	signal.Stop(l.pipe)
}

// standard is the logger for packages that write lines to one of their own: what they have to
// say is a warning.
func (l *logger) standard() *stdlog.Logger { return stdlog.New(warnings{l}, "", 0) }

type warnings struct{ l *logger }

func (w warnings) Write(line []byte) (int, error) {
	w.l.warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
