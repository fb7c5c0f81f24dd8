package main

// This file owns the grammar of JSON. It finds the end of a value while its bytes arrive, looks at each byte once, and
// makes sure on the way that the value has only one meaning. It accepts what I-JSON (RFC 7493) allows: UTF-8 without
// lone surrogates, no duplicate members.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxJSONNumber = 1 << 10 // digits of a number; written out exactly, a double has at most 767
	fewNames      = 8       // the most members of an object whose names are compared one by one
)

// A jsonScan is the state of the scan of one value.
type jsonScan struct {
	maxDepth int
	pos      int  // how many bytes have been checked; after an error, where it is
	gone     int  // how many bytes before those were forgotten
	lax      bool // names are not compared, because bytes are forgotten

	outer  func(member []byte) // gets each member of the outermost object with the byte behind it; may be nil
	member int                 // where the one that has begun begins; negative if that is forgotten

	next   jsonNext
	frames []jsonFrame // the open objects and arrays, outermost first
	names  []jsonSpan  // the members of all open objects
	inText bool        // pos is inside a string
	isName bool        // that string is the name of a member
	start  int         // where that string begins, after its quote
}

// jsonNext is what may come next.
type jsonNext uint8

const (
	nextValue      jsonNext = iota
	nextValueOrEnd          // of an array that is still empty
	nextName
	nextNameOrEnd // of an object that is still empty
	nextColon
	nextCommaOrEnd
	nextNothing
)

type jsonFrame struct {
	object bool
	first  int                 // the index of its first member in names
	many   map[string]struct{} // all its names, once there are more than fewNames
}

type jsonSpan struct{ start, end int }

// fewFrames is the depth, and the number of member names, for which a scan keeps room between values.
const fewFrames = 64

// reset prepares s for the next value. What it has learned of the last one, it forgets.
func (s *jsonScan) reset(maxDepth int) {
	clear(s.frames) // none, unless the last value broke off
	*s = jsonScan{maxDepth: maxDepth, frames: s.frames[:0], names: s.names[:0]}
	if cap(s.frames) > fewFrames {
		s.frames = nil
	}
	if cap(s.names) > fewFrames {
		s.names = nil
	}
}

// forget says that the first n bytes are gone. s has to be lax: names can no longer be compared.
func (s *jsonScan) forget(n int) {
	s.pos -= n
	s.gone += n
	s.member -= n
}

// scan goes on with b, which begins with the first byte of the value that is not forgotten. It returns true once the
// value is complete; its length is then pos. last says that no more bytes will come. An error is a *fault, or a plain
// syntax error; it is at pos.
func (s *jsonScan) scan(b []byte, last bool) (whole bool, err error) {
	for s.pos < len(b) && s.next != nextNothing {
		before := s.pos
		if s.inText {
			err = s.text(b)
		} else {
			err = s.token(b, last)
		}
		if err != nil {
			return false, err
		}
		if s.pos == before {
			break // more bytes are needed to go on
		}
	}
	if s.next == nextNothing {
		return true, nil
	}
	if last {
		s.pos = len(b)
		return false, fmt.Errorf("the JSON ends too early")
	}
	return false, nil
}

// token scans white space, a structural character, a number or a literal, or begins a string.
func (s *jsonScan) token(b []byte, last bool) error {
	c := b[s.pos]
	wantsValue := s.next <= nextValueOrEnd
	switch {
	case c == ' ' || c == '\n' || c == '\t' || c == '\r':
	case c == '"' && (wantsValue || s.next == nextName || s.next == nextNameOrEnd):
		s.inText, s.isName, s.start = true, !wantsValue, s.pos+1
	case (c == '{' || c == '[') && wantsValue:
		if len(s.frames) >= s.maxDepth {
			return tooLarge("max_depth", int64(s.maxDepth), "the JSON is nested too deeply")
		}
		s.frames = append(s.frames, jsonFrame{object: c == '{', first: len(s.names)})
		s.next = nextValueOrEnd
		if c == '{' {
			s.next = nextNameOrEnd
			if len(s.frames) == 1 {
				s.member = s.pos + 1
			}
		}
	case c == '}' && (s.next == nextNameOrEnd || s.next == nextCommaOrEnd && s.top().object),
		c == ']' && (s.next == nextValueOrEnd || s.next == nextCommaOrEnd && !s.top().object):
		s.endMember(b)
		s.names = s.names[:min(s.top().first, len(s.names))]
		*s.top() = jsonFrame{} // the slot stays, its map must not
		s.frames = s.frames[:len(s.frames)-1]
		s.ended()
	case c == ',' && s.next == nextCommaOrEnd:
		s.endMember(b)
		s.next = nextValue
		if s.top().object {
			s.next = nextName
		}
	case c == ':' && s.next == nextColon:
		s.next = nextValue
	case wantsValue && (c == '-' || c >= '0' && c <= '9' || c == 't' || c == 'f' || c == 'n'):
		return s.scalar(b, last)
	default:
		if !last && !utf8.FullRune(b[s.pos:]) {
			return nil // wait for the rest of the character, which the error quotes
		}
		r, _ := utf8.DecodeRune(b[s.pos:])
		return fmt.Errorf("unexpected %q, %s", r, s.next.words())
	}
	s.pos++
	return nil
}

func (n jsonNext) words() string {
	return [...]string{"expected a value", "expected a value or ]", "expected a name in quotes", "expected a name in quotes or }",
		"expected a colon", "expected a comma or the end", "expected nothing"}[n]
}

func (s *jsonScan) top() *jsonFrame { return &s.frames[len(s.frames)-1] }

// endMember tells outer of the member that ends at pos. Behind it the next one begins.
func (s *jsonScan) endMember(b []byte) {
	if s.outer == nil || len(s.frames) != 1 || !s.top().object {
		return
	}
	if s.member >= 0 {
		s.outer(b[s.member : s.pos+1])
	}
	s.member = s.pos + 1
}

// ended notes that a value is complete.
func (s *jsonScan) ended() {
	s.next = nextCommaOrEnd
	if len(s.frames) == 0 {
		s.next = nextNothing
	}
}

// scalar scans a number or a literal, once the byte after it has arrived.
func (s *jsonScan) scalar(b []byte, last bool) error {
	end := s.pos + 1
	for end < len(b) && strings.IndexByte("0123456789+-.eEaflnrstu", b[end]) >= 0 {
		end++
	}
	word := b[s.pos:end]
	begun := end == len(b) && !last // more of it may come
	if len(word) > maxJSONNumber || !isJSONNumber(word) && !isJSONWord(string(word)) && !(begun && beginsScalar(word)) {
		return scalarError(word)
	}
	if begun {
		return nil
	}
	s.pos = end
	s.ended()
	return nil
}

// scalarError says what is wrong with a number or a word, in terms of its first bytes that show it: the error does not
// depend on how much has arrived.
func scalarError(word []byte) error {
	n := 1
	for n < len(word) && n <= maxJSONNumber && beginsScalar(word[:n]) {
		n++
	}
	if n > maxJSONNumber {
		return fmt.Errorf("a number has more than %d digits", maxJSONNumber)
	}
	return fmt.Errorf("%q is neither a number nor true, false or null", word[:n])
}

// beginsScalar reports whether b may be the beginning of a number or a word, or all of it.
func beginsScalar(b []byte) bool {
	for _, word := range jsonWords {
		if strings.HasPrefix(word, string(b)) {
			return true
		}
	}
	return isJSONNumber(b) || isJSONNumber(append(b[:len(b):len(b)], '0'))
}

var jsonWords = [...]string{"true", "false", "null"}

func isJSONWord(w string) bool { return slices.Contains(jsonWords[:], w) }

// isJSONNumber reports whether b is a number as in RFC 8259 §6.
func isJSONNumber(b []byte) bool {
	digits := func() bool {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		b = b[n:]
		return n > 0
	}
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	zero := len(b) > 1 && b[0] == '0' && b[1] >= '0' && b[1] <= '9'
	if zero || !digits() {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		if !digits() {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		b = b[1:]
		if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(b) == 0
}

// text goes on inside a string. It stops at the end of the string, or before an escape or a character that has not
// arrived completely.
func (s *jsonScan) text(b []byte) error {
	for i := s.pos; ; {
		i += plainText(b[i:])
		s.pos = i
		if i == len(b) {
			return nil
		}
		n := 1
		switch c := b[i]; {
		case c == '"':
			s.inText = false
			s.pos++
			if !s.isName {
				s.ended()
				return nil
			}
			s.next = nextColon
			return s.name(b, jsonSpan{s.start, i})
		case c < 0x20:
			return fmt.Errorf("a control character in a string; write it as \\u%04x", c)
		case c == '\\':
			var ok bool
			if n, ok = escapeLength(b[i:]); !ok {
				return fmt.Errorf("an invalid escape in a string")
			}
		case c >= utf8.RuneSelf:
			var r rune
			if r, n = utf8.DecodeRune(b[i:]); r == utf8.RuneError && n == 1 {
				if utf8.FullRune(b[i:]) {
					return fmt.Errorf("a string that is not UTF-8")
				}
				n = 0
			}
		}
		if n == 0 {
			return nil
		}
		i += n
	}
}

// plainText returns how many bytes at the beginning of b are sure to be ASCII without quotes, backslashes and control
// characters. It does not look at each byte by itself, and so may stop a little before the first that is not.
func plainText(b []byte) (n int) {
	const words = 4 // at once: on a long text, a branch costs more than what is looked at in vain
	for len(b)-n >= 8*words {
		w := b[n : n+8*words : n+8*words]
		if (marked(w)|marked(w[8:])|marked(w[16:])|marked(w[24:]))&topBits != 0 {
			break
		}
		n += 8 * words
	}
	for len(b)-n >= 8 && marked(b[n:])&topBits == 0 {
		n += 8
	}
	return n
}

// everyByte times a byte is a word of eight of them; topBits are their highest bits.
const everyByte, topBits = 0x0101010101010101, 0x80 * everyByte

// marked returns a word with none of the topBits if the first eight bytes of b are plain text. A subtraction borrows into the
// top bit of a byte that is less than what is subtracted. Changing its bit 1 moves the quote right behind the control
// characters, and none of the others there.
func marked(b []byte) uint64 {
	w := binary.LittleEndian.Uint64(b)
	return w | ((w ^ 0x02*everyByte) - 0x21*everyByte) | ((w ^ '\\'*everyByte) - everyByte)
}

// escapeLength returns the length of the escape at the beginning of b, or 0 if part of it is missing. The two halves of
// a surrogate pair count as one escape.
func escapeLength(b []byte) (n int, ok bool) {
	if len(b) < 2 {
		return 0, true
	}
	if b[1] != 'u' {
		return 2, strings.IndexByte(`"\/bfnrt`, b[1]) >= 0
	}
	high, n, ok := hexEscape(b)
	if n == 0 || !ok || !utf16.IsSurrogate(high) {
		return n, ok
	}
	low, n, ok := hexEscape(b[6:])
	if n == 0 || !ok {
		return 0, ok
	}
	return 12, utf16.DecodeRune(high, low) != utf8.RuneError
}

// hexEscape reads \uXXXX.
func hexEscape(b []byte) (r rune, n int, ok bool) {
	for i := range min(len(b), 6) {
		c := b[i]
		switch {
		case i < 2:
			if c != `\u`[i] {
				return 0, 0, false
			}
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, 0, false
		}
	}
	if len(b) < 6 {
		return 0, 0, true
	}
	return r, 6, true
}

// name records the name of a member. It fails if the object has the name already.
func (s *jsonScan) name(b []byte, at jsonSpan) error {
	if s.lax {
		return nil
	}
	f := s.top()
	name := unquoteJSON(b[at.start:at.end])
	twice := false
	if f.many == nil {
		for _, other := range s.names[f.first:] {
			twice = twice || bytes.Equal(unquoteJSON(b[other.start:other.end]), name)
		}
		s.names = append(s.names, at)
		if len(s.names)-f.first > fewNames {
			f.many = map[string]struct{}{}
			for _, other := range s.names[f.first:] {
				f.many[string(unquoteJSON(b[other.start:other.end]))] = struct{}{}
			}
		}
	} else {
		_, twice = f.many[string(name)]
		f.many[string(name)] = struct{}{}
	}
	if twice {
		s.pos = at.start - 1
		return fmt.Errorf("the member %q is there twice", shorten(string(name), 40))
	}
	return nil
}

// unquoteJSON decodes a validated string, without its quotes. The result is b itself if there is no escape.
func unquoteJSON(b []byte) []byte {
	at := bytes.IndexByte(b, '\\')
	if at < 0 {
		return b
	}
	out := append(make([]byte, 0, len(b)), b[:at]...)
	for at < len(b) {
		c := b[at]
		if c != '\\' {
			out = append(out, c)
			at++
			continue
		}
		switch c = b[at+1]; c {
		case 'u':
			r, _, _ := hexEscape(b[at:])
			at += 6
			if utf16.IsSurrogate(r) {
				low, _, _ := hexEscape(b[at:])
				r = utf16.DecodeRune(r, low)
				at += 6
			}
			out = utf8.AppendRune(out, r)
			continue
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		}
		out = append(out, c)
		at += 2
	}
	return out
}

// checkJSON validates a text that is one value. Its error has the line and the column.
func checkJSON(b []byte, l limits) error {
	var s jsonScan
	s.reset(l.MaxDepth)
	whole, err := s.scan(b, true)
	if rest := b[min(s.pos, len(b)):]; whole && len(bytes.TrimLeft(rest, jsonSpace)) > 0 {
		s.pos += len(rest) - len(bytes.TrimLeft(rest, jsonSpace))
		err = fmt.Errorf("more than one value")
	}
	if err == nil && len(b) > l.MaxMessage {
		err = tooLarge("max_message", int64(l.MaxMessage), fmt.Sprintf("the JSON has %d bytes", len(b)))
	}
	if err == nil {
		return nil
	}
	line := bytes.Count(b[:s.pos], []byte("\n")) + 1
	column := utf8.RuneCount(b[bytes.LastIndexByte(b[:s.pos], '\n')+1:s.pos]) + 1
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

const jsonSpace = " \t\r\n"

// A jsonWalk iterates over the members or elements of a validated value. Of a value that was cut off it returns those
// that are complete. Of one that is not valid it may return anything, but as a name nothing but a string.
type jsonWalk struct {
	b  []byte
	at int
}

// enter returns a walk over the object or array b.
func enter(b []byte) jsonWalk { return jsonWalk{b: b, at: 1} }

// member returns the next member of an object: its name without quotes, and its value.
func (w *jsonWalk) member() (name, value []byte, ok bool) {
	if name, ok = w.element(); !ok || len(name) < 2 || name[0] != '"' {
		return nil, nil, false
	}
	value, ok = w.element()
	return name[1 : len(name)-1], value, ok
}

// element returns the next element of an array.
func (w *jsonWalk) element() (value []byte, ok bool) {
	for w.at < len(w.b) && strings.IndexByte(jsonSpace+",:", w.b[w.at]) >= 0 {
		w.at++
	}
	start := w.at
	for depth := 0; w.at < len(w.b); w.at++ {
		switch w.b[w.at] {
		case '"':
			if !w.skipText() {
				return nil, false
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
			if depth < 0 { // the end of the object or array; a number may stand right before it
				return w.b[start:w.at], w.at > start
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return w.b[start:w.at], true
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			w.at++
			return w.b[start:w.at], true
		}
	}
	return nil, false
}

// skipText moves on to the quote that ends a string.
func (w *jsonWalk) skipText() bool {
	for w.at++; ; w.at++ {
		n := bytes.IndexByte(w.b[w.at:], '"')
		if n < 0 {
			return false
		}
		slashes := 0
		for slashes < n && w.b[w.at+n-1-slashes] == '\\' {
			slashes++
		}
		w.at += n
		if slashes%2 == 0 {
			return true
		}
	}
}
