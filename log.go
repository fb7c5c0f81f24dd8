package main

// This file owns the log: its levels, and how it survives floods of one complaint and readers that do not
// read. log_line.go formats the lines; only these two files import logrus.
//
// A message is a constant; what varies goes into fields. The fields that any line may have are
// endpoint, conn, peer, method, call and error, printed in that order. Payloads are logged
// at the debug level only.

import (
	"bytes"
	"cmp"
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
	"golang.org/x/term"
)

// A logLevel is a value of log_level.
type logLevel string

const (
	levelDebug logLevel = "debug"
	levelInfo  logLevel = "info"
	levelWarn  logLevel = "warn"
	levelError logLevel = "error"
)

// logLevels maps our levels to those of logrus, whose name for the third, "warning", is never printed.
var logLevels = map[logLevel]logrus.Level{
	levelDebug: logrus.DebugLevel, levelInfo: logrus.InfoLevel,
	levelWarn: logrus.WarnLevel, levelError: logrus.ErrorLevel,
}

// A logFormat is a value of log_format.
type logFormat string

const (
	formatAuto logFormat = "auto" // text on a terminal, fields in systemd's journal, JSON elsewhere
	formatText logFormat = "text"
	formatJSON logFormat = "json"
)

// A logger writes lines that carry its fields. A nil logger writes nothing.
type logger struct {
	s      *logSink
	fields []any // keys and values; never modified, since loggers share them
}

// newLogger returns a logger that writes what is at or above the level to w. The caller has to close it.
func newLogger(w io.Writer, format logFormat, level logLevel) *logger {
	l := newLoggerWith(w, lineFormat{}, level)
	l.s.terminal = isTerminal(w)
	if f, ok := w.(*os.File); ok && openJournal != nil {
		l.s.journal = openJournal(f)
	}
	l.change(format, level)
	return l
}

// change switches to another format and level.
func (l *logger) change(format logFormat, level logLevel) {
	l.s.setLevel(level)
	f := *l.s.format.Load()
	f.json = format == formatJSON || format != formatText && !l.s.terminal
	f.colour = l.s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" // no-color.org
	l.s.format.Store(&f)
	l.s.log.SetFormatter(f)
	l.s.journaled.Store(format == formatAuto && l.s.journal != nil)
}

func newLoggerWith(w io.Writer, f lineFormat, level logLevel) *logger {
	s := &logSink{floods: map[complaint]*flood{}}
	s.setLevel(level)
	s.format.Store(&f)
	s.out = &logOutput{w: w, tell: s.tellUnwritten}
	out := io.Writer(s.out)
	if _, ok := w.(*os.File); ok {
		s.file = &logFile{out: s.out}
		out = s.file
	}
	s.log = &logrus.Logger{Out: out, Formatter: f, Hooks: logrus.LevelHooks{}, Level: logrus.DebugLevel} // logSink.level filters before logrus does
	return &logger{s: s}
}

func (s *logSink) setLevel(level logLevel) {
	max, ok := logLevels[level]
	if !ok {
		max = logrus.InfoLevel
	}
	s.level.Store(uint32(max))
}

// isTerminal reports whether w is a terminal that understands colours.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && (enableColours == nil || enableColours(f) == nil)
}

// enableColours makes a terminal obey escape sequences. It is nil where terminals do so unasked.
var enableColours func(f *os.File) error

// with returns a logger whose lines have these fields too. Keys and values alternate.
func (l *logger) with(key string, value any, more ...any) *logger {
	if l == nil {
		return nil
	}
	return &logger{s: l.s, fields: slices.Concat(l.fields, []any{key, value}, more)}
}

// debugging reports whether debug lines are logged. It guards calls of debug on hot paths, which would
// allocate for their arguments even when the level is off.
func (l *logger) debugging() bool { return l != nil && l.s.logs(logrus.DebugLevel) }

func (l *logger) debug(msg string, kv ...any) {
	if l.debugging() {
		l.write(logrus.DebugLevel, msg, kv)
	}
}

func (l *logger) info(msg string, kv ...any)  { l.write(logrus.InfoLevel, msg, kv) }
func (l *logger) warn(msg string, kv ...any)  { l.write(logrus.WarnLevel, msg, kv) }
func (l *logger) error(msg string, kv ...any) { l.write(logrus.ErrorLevel, msg, kv) }

// close reports what floods have held back and waits up to logEnd until everything is written.
// What is logged later is lost.
func (l *logger) close() {
	if l != nil {
		l.s.close()
	}
}

// write logs one line, unless its level is too low or it is part of a flood.
func (l *logger) write(level logrus.Level, msg string, kv []any) {
	if l == nil || !l.s.logs(level) {
		return
	}
	fields := l.merge(kv)
	// Only warnings and errors flood. Lines of a lower level were asked for: each line of an
	// echo endpoint says something new.
	if level <= logrus.WarnLevel {
		if !l.s.admit(complaintOf(level, msg, fields)) {
			return
		}
	}
	l.s.emit(level, msg, fields)
}

// merge returns the logger's fields and these. A nil value removes the field, so that callers can
// pass an error that may be nil.
func (l *logger) merge(kv []any) logrus.Fields {
	kv = slices.Concat(l.fields, kv)
	fields := make(logrus.Fields, len(kv)/2)
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

// A flood counts how often one complaint occurs. After floodFirst occurrences within floodWindow, the
// rest are counted and reported once.
type flood struct {
	began time.Time
	seen  int
	held  int
	timer *time.Timer // set while lines are held back
}

const (
	floodFirst  = 5
	floodWindow = 10 * time.Second
	floodKinds  = 256 // complaints that are counted separately; a bound in case a message is not a constant
)

// A complaint identifies lines that count as the same.
type complaint struct {
	level logrus.Level
	msg   string
	about [len(foldedBy)]string // the texts of these fields
}

// foldedBy are the fields that say what a complaint is about. There are only so many of each, unlike connections.
var foldedBy = [...]string{"endpoint", "worker"}

func complaintOf(level logrus.Level, msg string, fields logrus.Fields) complaint {
	c := complaint{level: level, msg: msg}
	for i, key := range foldedBy {
		c.about[i], _ = fieldText(fields[key])
	}
	return c
}

// A logSink is shared by a logger and all loggers derived from it.
type logSink struct {
	log       *logrus.Logger
	level     atomic.Uint32 // a logrus.Level
	format    atomic.Pointer[lineFormat]
	out       *logOutput
	file      *logFile // nil if the log is not a file
	terminal  bool
	journal   func(journalEntry) error // sends one line; nil if stderr does not lead to the journal
	journaled atomic.Bool              // lines are sent by journal, not written as text

	// mu guards the fields below. It is not held while a line is written.
	mu     sync.Mutex
	floods map[complaint]*flood
	closed bool
	firing sync.WaitGroup // reports that timers are writing
}

func (s *logSink) logs(level logrus.Level) bool { return level <= logrus.Level(s.level.Load()) }

// emit writes one line. If lines were lost before it, it says so first.
func (s *logSink) emit(level logrus.Level, msg string, fields logrus.Fields) {
	s.sayLost()
	s.line(level, msg, fields)
}

// sayLost says how many lines were lost, if there were any and there is room to say so.
func (s *logSink) sayLost() {
	if n := s.file.takeLost(); n > 0 {
		s.line(logrus.WarnLevel, "log lines were lost because the log was not read in time", logrus.Fields{"lines": n})
	}
}

func (s *logSink) line(level logrus.Level, msg string, fields logrus.Fields) {
	if !s.journaled.Load() {
		(&logrus.Entry{Logger: s.log, Data: fields}).Log(level, msg)
		return
	}
	e := entryOf(level, msg, fields)
	s.file.put(func() { s.out.try(func() error { return s.send(e) }) })
}

// send writes one line to the journal.
func (s *logSink) send(e journalEntry) error {
	if s.journal(e) == nil {
		return nil
	}
	return s.out.text([]byte(e.message + "\n")) // stderr leads to the journal too, and may work again by then
}

// tellUnwritten writes that lines could not be written. It does so past the queue, in front of the line whose turn it is.
func (s *logSink) tellUnwritten(lines int, why error) error {
	level, msg := logrus.WarnLevel, "log lines were lost because they could not be written"
	fields := logrus.Fields{"lines": lines, "error": why}
	if s.journaled.Load() {
		return s.send(entryOf(level, msg, fields))
	}
	f := *s.format.Load()
	f.also = nil // it would get one at each try
	b, err := f.Format(&logrus.Entry{Time: time.Now(), Level: level, Message: msg, Data: fields, Buffer: &bytes.Buffer{}})
	if err != nil {
		return err
	}
	return s.out.text(b)
}

// admit reports whether a complaint may be written. If not, it is counted.
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
	if f != nil && now.Sub(f.began) >= floodWindow { // its timer is about to fire
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

// takeHeld stops the timer and returns how many lines were held back.
func (f *flood) takeHeld() int {
	if f.timer != nil {
		f.timer.Stop()
	}
	n := f.held
	f.held = 0
	return n
}

// over ends the window of a flood that held lines back.
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

// report writes one line for a complaint that was held back n times.
func (s *logSink) report(c complaint, n int) {
	if n == 0 {
		return
	}
	fields := logrus.Fields{}
	for i, key := range foldedBy {
		if c.about[i] != "" {
			fields[key] = c.about[i]
		}
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
		return cmp.Or(strings.Compare(a.msg, b.msg), slices.Compare(a.about[:], b.about[:]))
	})
	for _, c := range order {
		s.report(c, held[c])
	}
	s.sayLost()
	s.file.close()
}

// A logOutput writes lines one after another. It swallows errors: logrus would print them on stderr, which is just what cannot be
// written to then. They are told with the next line that can be written.
type logOutput struct {
	w    io.Writer
	tell func(lines int, why error) error // writes a line, by text or the journal

	// These belong to whoever writes.
	half halfLine
	lost int
	why  error
}

func (o *logOutput) Write(p []byte) (int, error) {
	o.try(func() error { return o.text(p) })
	return len(p), nil
}

func (o *logOutput) text(line []byte) error {
	_, err := o.half.write(o.w, line)
	return err
}

// try writes one line, or counts it. If lines were lost before it, it says so first.
func (o *logOutput) try(write func() error) {
	var err error
	if o.lost > 0 {
		if err = o.tell(o.lost, o.why); err == nil {
			o.lost = 0
		}
	}
	if err == nil {
		err = write()
	}
	if err != nil {
		o.lost++
		o.why = err
	}
}

// A halfLine reports whether the last line of a file was not written as a whole, as on a full disk: nothing may be glued to it.
type halfLine bool

// write writes whole lines, and returns how many bytes of them it has written.
func (h *halfLine) write(w io.Writer, lines []byte) (n int, err error) {
	if *h {
		if _, err := io.WriteString(w, "\n"); err != nil {
			return 0, err
		}
		*h = false
	}
	if n, err = w.Write(lines); n > 0 {
		*h = lines[n-1] != '\n'
	}
	return n, err
}

const (
	logQueue = 256                    // lines that may wait for a slow reader
	logWait  = 100 * time.Millisecond // for room in the queue, all lines of a floodWindow together, before they are dropped
	logEnd   = time.Second            // for the queue to empty at close
)

// A logFile writes lines to a file that may block: a full pipe whose reader sleeps, or a terminal stopped
// with Ctrl-S. The daemon must not block with it, nor be as slow as whoever reads. A goroutine therefore does the writing,
// and once its queue is full, lines are dropped and counted.
type logFile struct {
	out *logOutput

	// mu guards the fields below. Lock order: logrus's own mutex, then this one.
	mu     sync.Mutex
	lines  chan func()    // each func writes one line; nil before the first
	done   chan struct{}  // closed when the goroutine has ended
	pipe   chan os.Signal // see start
	window time.Time      // when waited was 0
	waited time.Duration  // for room, since then
	lost   int
	closed bool
}

func (l *logFile) Write(p []byte) (int, error) {
	line := bytes.Clone(p) // logrus reuses p
	l.put(func() { l.out.Write(line) })
	return len(p), nil
}

// put queues a func that writes one line.
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
		return
	default:
	}
	began := time.Now()
	if began.Sub(l.window) >= floodWindow {
		l.window, l.waited = began, 0
	}
	if l.waited < logWait {
		defer func() { l.waited += time.Since(began) }()
		wait := time.NewTimer(logWait - l.waited)
		defer wait.Stop()
		select {
		case l.lines <- write:
			return
		case <-wait.C:
		}
	}
	l.lost++
}

// start starts the goroutine that writes. A Go program that writes to a closed stderr dies of SIGPIPE unless
// it has called Notify for that signal (os/signal, "SIGPIPE"). Nobody reads the channel: the
// write's error says the same. Ignore would be inherited by every program that we start.
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

// takeLost returns how many lines were lost, and forgets them, once the queue has room to report it.
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

// close waits up to logEnd for the queued lines. If the reader does not read, the goroutine stays blocked in
// its write until the process ends.
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

// standard returns a logger of package log for packages that want one. Each of its lines becomes a warning.
func (l *logger) standard() *stdlog.Logger { return stdlog.New(warnings{l}, "", 0) }

type warnings struct{ l *logger }

func (w warnings) Write(line []byte) (int, error) {
	w.l.warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
