package main

// This file owns the log: its levels, its two formats, what it does with text from outside,
// with a flood of the same complaint and with a reader that does not read. No other file
// imports logrus.
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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

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
	formatAuto logFormat = "auto" // text on a terminal, JSON otherwise
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
	terminal := isTerminal(w)
	f := lineFormat{
		json:   format == formatJSON || format != formatText && !terminal,
		colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", // no-color.org
	}
	return newLoggerWith(w, f, level)
}

func newLoggerWith(w io.Writer, f lineFormat, level logLevel) *logger {
	max, ok := logLevels[level]
	if !ok {
		max = logrus.InfoLevel
	}
	s := &logSink{level: max, floods: map[complaint]*flood{}}
	if file, ok := w.(*os.File); ok {
		s.file = &logFile{f: file}
		w = s.file
	}
	s.log = &logrus.Logger{Out: quiet{w}, Formatter: f, Hooks: logrus.LevelHooks{}, Level: max}
	return &logger{s: s}
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
func (l *logger) debugging() bool { return l != nil && l.s.level >= logrus.DebugLevel }

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
	if l == nil || level > l.s.level {
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
	log   *logrus.Logger
	level logrus.Level
	file  *logFile // nil where the log goes into memory

	// mu guards the fields below. It is not held while a line is written.
	mu     sync.Mutex
	floods map[complaint]*flood
	closed bool
	firing sync.WaitGroup // reports of timers that are being written
}

// emit writes one line, after one that says how many were lost before it.
func (s *logSink) emit(level logrus.Level, msg string, fields logrus.Fields) {
	if n := s.file.takeLost(); n > 0 {
		s.log.WithField("lines", n).Log(logrus.WarnLevel, "log lines were lost because nobody read the log in time")
	}
	(&logrus.Entry{Logger: s.log, Data: fields}).Log(level, msg)
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
	lines  chan []byte    // made with the first line
	done   chan struct{}  // closed when the writer has ended
	pipe   chan os.Signal // see start
	stuck  bool           // the last line found no room; no other waits until one does
	lost   int
	closed bool
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), nil
	}
	if l.lines == nil {
		l.start()
	}
	line := bytes.Clone(p) // logrus uses p again
	select {
	case l.lines <- line:
		l.stuck = false
		return len(p), nil
	default:
	}
	if !l.stuck {
		wait := time.NewTimer(logWait)
		defer wait.Stop()
		select {
		case l.lines <- line:
			return len(p), nil
		case <-wait.C:
		}
	}
	l.stuck = true
	l.lost++
	return len(p), nil
}

// start starts the writer. A Go program dies of SIGPIPE when it writes to a closed stderr,
// unless it has asked to be told of that signal (os/signal, "SIGPIPE"); nobody listens,
// because the error of the write says it too. Ignoring it instead would be inherited by
// every program that we start.
func (l *logFile) start() {
	l.pipe = make(chan os.Signal, 1)
	signal.Notify(l.pipe, syscall.SIGPIPE)
	l.lines, l.done = make(chan []byte, logQueue), make(chan struct{})
	go func(lines <-chan []byte) {
		defer close(l.done)
		for line := range lines {
			l.f.Write(line)
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

// lineFormat is both formats. logrus's own were tried: its text escapes twice what has been
// made safe already, on a terminal it prints messages raw, its JSON lets C1 and direction
// marks through, and both call our levels by other names.
type lineFormat struct {
	json, colour bool
	bare         bool                              // no time and no level: whoever keeps the line has them
	also         func(level logLevel, line []byte) // is given each line, bare
}

// logTime has a fixed width, so that lines sort.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// fieldOrder is that of the fields with fixed names; others follow by name.
var fieldOrder = []string{"endpoint", "conn", "peer", "method", "call", "error"}

// levelNames and levelColours (ECMA-48 SGR) are for people.
var (
	levelNames   = map[logrus.Level]string{logrus.DebugLevel: "debug", logrus.InfoLevel: "info", logrus.WarnLevel: "warn", logrus.ErrorLevel: "error"}
	levelColours = map[logrus.Level]int{logrus.DebugLevel: 90, logrus.InfoLevel: 36, logrus.WarnLevel: 33, logrus.ErrorLevel: 31}
)

// Format is what logrus calls for each line.
func (f lineFormat) Format(e *logrus.Entry) ([]byte, error) {
	at, level := e.Time.UTC().Format(logTime), levelNames[e.Level]
	if f.also != nil {
		line, _ := lineFormat{bare: true}.Format(e)
		f.also(logLevel(level), line)
	}
	b := e.Buffer.AvailableBuffer()
	switch {
	case f.json:
		b = append(b, `{"time":"`+at+`","level":"`+level+`","msg":`...)
		b = appendJSONText(b, e.Message)
	case f.colour:
		b = fmt.Appendf(b, "%s \x1b[%dm%-5s\x1b[0m ", at, levelColours[e.Level], level)
		b = append(b, safeText(e.Message)...)
	default:
		if !f.bare {
			b = fmt.Appendf(b, "%s %-5s ", at, level)
		}
		b = append(b, safeText(e.Message)...)
	}
	for _, key := range fieldOrder {
		if v, ok := e.Data[key]; ok {
			b = f.appendField(b, key, v)
		}
	}
	if len(e.Data) > 0 {
		for _, key := range slices.Sorted(maps.Keys(e.Data)) {
			if !slices.Contains(fieldOrder, key) {
				b = f.appendField(b, key, e.Data[key])
			}
		}
	}
	if f.json {
		b = append(b, '}')
	}
	return append(b, '\n'), nil
}

func (f lineFormat) appendField(b []byte, key string, v any) []byte {
	text, bare := fieldText(v)
	if f.json {
		b = append(b, ',')
		b = appendJSONText(b, key)
		b = append(b, ':')
		if bare {
			return append(b, text...)
		}
		return appendJSONText(b, text)
	}
	b = append(b, ' ')
	b = append(b, safeText(key)...)
	b = append(b, '=')
	if bare || isPlain(text) {
		return append(b, text...)
	}
	return strconv.AppendQuote(b, text)
}

// maxField bounds one value in a line: a method's name may be as long as a message.
// It has room for the stack of a panic.
const maxField = 8 << 10

// fieldText is a value as text; bare is one that JSON writes without quotes.
func fieldText(v any) (text string, bare bool) {
	defer func() {
		if r := recover(); r != nil { // a nil pointer with a String method, say
			text, bare = fmt.Sprintf("%T: %v", v, r), false
		}
	}()
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		text = v
	case []byte:
		text = string(v)
	case error:
		text = v.Error()
	case fmt.Stringer:
		text = v.String()
	case bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v), true
	default:
		text = fmt.Sprint(v)
	}
	if len(text) > maxField {
		cut := maxField
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = fmt.Sprintf("%s... (%d bytes)", text[:cut], len(text))
	}
	return text, false
}

// isPlain tells a value that needs no quotes in the text format.
func isPlain(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r == ' ' || r == '"' || r == '=' || r == '\\' || !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// safeText is oneLine for text that may not even be UTF-8: a lone 0x9b begins an escape
// sequence on some terminals (ECMA-48 §5.4).
func safeText(s string) string {
	if utf8.ValidString(s) {
		return oneLine(s)
	}
	var b []byte
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			b = fmt.Appendf(b, `\x%02x`, s[0])
		} else {
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return oneLine(string(b))
}

// appendJSONText writes s as a JSON string (RFC 8259 §7) that no terminal obeys: a program
// that parses the line gets the characters, a person sees their numbers. A byte that is no
// UTF-8 has no place in JSON and becomes the four characters \xNN.
func appendJSONText(b []byte, s string) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\\x%02x`, s[0])
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case isControl(r) || r == 0x2028 || r == 0x2029: // the last two end a line in JavaScript
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return append(b, '"')
}

// standard is the logger for packages that write lines to one of their own: what they have to
// say is a warning.
func (l *logger) standard() *stdlog.Logger { return stdlog.New(warnings{l}, "", 0) }

type warnings struct{ l *logger }

func (w warnings) Write(line []byte) (int, error) {
	w.l.warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
