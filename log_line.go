package main

// This file owns the format of log lines: text, JSON and the journal's fields, and how text from outside is
// escaped in each.

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

// lineFormat formats text and JSON. The formatters of logrus were tried and do not fit: text escapes our
// escapes again, prints messages raw on a terminal, and JSON passes C1 controls and direction marks. Both
// have other names for our levels.
type lineFormat struct {
	json, colour bool
	bare         bool                              // without time and level, which the receiver keeps itself
	also         func(level logLevel, line []byte) // also gets each line, bare
}

// logTime has a fixed width, so that lines sort by time.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// fieldOrder lists the fields that come first. The others follow in alphabetical order.
var fieldOrder = []string{"endpoint", "conn", "peer", "method", "call", "error"}

// levelNames are the names in the log, levelColours their colours (ECMA-48 SGR).
var (
	levelNames   = map[logrus.Level]string{logrus.DebugLevel: "debug", logrus.InfoLevel: "info", logrus.WarnLevel: "warn", logrus.ErrorLevel: "error"}
	levelColours = map[logrus.Level]int{logrus.DebugLevel: 90, logrus.InfoLevel: 36, logrus.WarnLevel: 33, logrus.ErrorLevel: 31}
)

// Format implements logrus.Formatter.
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
		b = append(b, oneLine(e.Message)...)
	default:
		if !f.bare {
			b = fmt.Appendf(b, "%s %-5s ", at, level)
		}
		b = append(b, oneLine(e.Message)...)
	}
	b = f.appendFields(b, e.Data)
	if f.json {
		b = append(b, '}')
	}
	return append(b, '\n'), nil
}

func (f lineFormat) appendFields(b []byte, data logrus.Fields) []byte {
	for _, key := range fieldOrder {
		if v, ok := data[key]; ok {
			b = f.appendField(b, key, v)
		}
	}
	if len(data) > 0 {
		for _, key := range slices.Sorted(maps.Keys(data)) {
			if !slices.Contains(fieldOrder, key) {
				b = f.appendField(b, key, data[key])
			}
		}
	}
	return b
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
	b = append(b, oneLine(key)...)
	b = append(b, '=')
	if bare || isPlain(text) {
		return append(b, text...)
	}
	return strconv.AppendQuote(b, text)
}

// openJournal returns a function that sends a line to the journal, or nil if f does not lead there. It is
// itself nil on systems without a journal.
var openJournal func(f *os.File) func(journalEntry) error

// An errorStream is standard error for a program's last words; each write has to be one line. If stderr leads
// to the journal, a prefix gives the line its level: sd-daemon(3).
type errorStream struct{ f *os.File }

func (w errorStream) Write(line []byte) (int, error) {
	if openJournal != nil && openJournal(w.f) != nil {
		line = append([]byte("<3>"), line...)
	}
	return w.f.Write(line)
}

// A journalEntry is one line in the form of the journal: systemd.journal-fields(7).
type journalEntry struct {
	priority int // of syslog(3)
	message  string
	fields   map[string]string
}

// priorities maps levels to those of syslog(3).
var priorities = map[logrus.Level]int{logrus.DebugLevel: 7, logrus.InfoLevel: 6, logrus.WarnLevel: 4, logrus.ErrorLevel: 3}

const maxFieldName = 64 // bytes; the journal drops fields with longer names

// entryOf returns a line in the form of the journal, which adds the time itself. For people the message
// repeats the fields, except those of several lines.
func entryOf(level logrus.Level, msg string, data logrus.Fields) journalEntry {
	e := journalEntry{priority: priorities[level], fields: map[string]string{"SYSLOG_IDENTIFIER": defaultIdentifier}}
	short := maps.Clone(data)
	for key, v := range data {
		text, _ := fieldText(v)
		name := "IPCD_" + strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z':
				return r - 'a' + 'A'
			case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
				return r
			}
			return '_'
		}, key)
		e.fields[name[:min(len(name), maxFieldName)]] = text
		if strings.Contains(text, "\n") {
			delete(short, key)
		}
	}
	e.message = string(lineFormat{}.appendFields([]byte(oneLine(msg)), short))
	return e
}

const defaultIdentifier = "ipcd" // for "journalctl -t ipcd"

// maxField bounds one value in a line, since the name of a method may be as long as a message.
// The stack of a panic fits.
const maxField = 8 << 10

// fieldText returns a value as text. If it is bare, JSON writes it without quotes.
func fieldText(v any) (text string, bare bool) {
	defer func() {
		if r := recover(); r != nil { // for example, a nil pointer with a String method
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

// isPlain reports whether a value needs no quotes in the text format.
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

// appendJSONText appends s as a JSON string (RFC 8259 §7) that is safe to print on a terminal: control
// characters are written as escapes, which a parser turns back. A byte that is invalid UTF-8 cannot
// be represented in JSON and becomes the four characters \xNN.
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
		case isControl(r) || r == 0x2028 || r == 0x2029: // the last two end lines in JavaScript
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return append(b, '"')
}
