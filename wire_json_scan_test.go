package main

// This file owns how the scanner of JSON compares with encoding/json: it takes the same, except for what
// docs/protocol.md refuses (members twice, lone surrogates, no UTF-8, depth), however the bytes arrive.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// scanPieces scans b in pieces of n bytes and tells whether it is one value, white space around it.
func scanPieces(b []byte, n int) error {
	var s jsonScan
	s.reset(64)
	for have := 0; ; {
		have = min(have+n, len(b))
		whole, err := s.scan(b[:have], have == len(b))
		switch {
		case err != nil:
			return err
		case whole && strings.TrimLeft(string(b[s.pos:]), jsonSpace) != "":
			return fmt.Errorf("something follows at byte %d", s.pos)
		case whole:
			return nil
		}
	}
}

func TestJSONScan(t *testing.T) {
	long := strings.Repeat("x", 100)
	tests := []struct {
		text string
		want string // of the error; empty where it is JSON
	}{
		{`{}`, ""}, {`[]`, ""}, {`0`, ""}, {`-0.5e+10`, ""}, {`true`, ""}, {`null`, ""}, {`""`, ""}, {" [1 , 2 ] ", ""},
		{`{"a":{"a":1},"b":[{"a":1},{"a":2}]}`, ""},
		{`"ä€𝄞\n\u00e4\ud834\udd1e"`, ""}, {`"` + long + `"`, ""}, {`"` + long + `\"` + long + `"`, ""},
		{``, "ends too early"}, {`{`, "ends too early"}, {`"a`, "ends too early"}, {`"\`, "ends too early"}, {`"\u12`, "ends too early"}, {"\"\xe2\x82", "ends too early"},
		{`{"a":1,}`, `unexpected '}', expected a name in quotes`}, {`[1,]`, "expected a value"}, {`{a:1}`, "expected a name"}, {`{"a" 1}`, "expected a colon"}, {`[1 2]`, "expected a comma"},
		{`01`, "neither a number"}, {`1.`, "neither a number"}, {`+1`, "unexpected"}, {`.5`, "unexpected"}, {`tru`, "neither a number"}, {`NaN`, "unexpected"}, {`'a'`, "unexpected"},
		{strings.Repeat("1", maxJSONNumber+1), "digits"},
		{"\"a\tb\"", "control character"}, {`"\x"`, "invalid escape"}, {`"\u12g4"`, "invalid escape"},
		{"\"\xff\"", "not UTF-8"}, {"\"\xed\xa0\x80\"", "not UTF-8"}, {`"\ud834"`, "invalid escape"}, {`"\udd1e\ud834"`, "invalid escape"}, {`"\ud834\u0041"`, "invalid escape"},
		{`{"a":1,"a":2}`, `"a" is there twice`}, {`{"a":1,"\u0061":2}`, "twice"},
		{strings.Repeat("[", 65), "nested too deeply"},
		{"\ufeff{}", "unexpected"},
	}
	for _, test := range tests {
		for _, n := range []int{1, 2, 3, 1 << 20} {
			err := scanPieces([]byte(test.text), n)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%q in pieces of %d: %v; want %q", shorten(test.text, 60), n, err, test.want)
			}
		}
	}
}

// TestJSONScanLooksAtEachByte has each byte stand at each place of a string of which several bytes are looked at at once.
func TestJSONScanLooksAtEachByte(t *testing.T) {
	for c := range 256 {
		plain := c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf
		for at := range 48 {
			text := []byte(strings.Repeat("x", 48))
			text[at] = byte(c)
			if n := plainText(text); plain && n != len(text) || !plain && n > at {
				t.Errorf("plainText of %q = %d", text, n)
			}
			quoted := fmt.Appendf(nil, `"%s"`, text)
			if err := scanPieces(quoted, len(quoted)); (err == nil) != json.Valid(quoted) && c < utf8.RuneSelf || c >= utf8.RuneSelf && err == nil {
				t.Errorf("%q: %v", quoted, err)
			}
		}
	}
}

// What follows a value is left alone, and is the next value where it has a beginning of its own.
func TestJSONScanStopsBehindAValue(t *testing.T) {
	values := []string{`{"a":[1,2]}`, `[]`, `"x\""`, `{}`, `[[0],{"a":null}]`, `""`, `[1]`}
	text := strings.Join(values, "")
	for split := range len(text) + 1 {
		var s jsonScan
		var got []string
		start := 0
		s.reset(64)
		for _, end := range []int{split, len(text)} {
			for start < end {
				whole, err := s.scan([]byte(text)[start:end], false)
				if err != nil {
					t.Fatalf("split at %d, behind %q: %v", split, got, err)
				}
				if !whole {
					break
				}
				got = append(got, text[start:start+s.pos])
				start += s.pos
				s.reset(64)
			}
		}
		if !slices.Equal(got, values) {
			t.Errorf("split at %d: got %q; want %q", split, got, values)
		}
	}
	for text, want := range map[string]int{`1 2`: 1, `true[`: 4, `-1e5"`: 4, ` 7,`: 2, `null `: 4} {
		var s jsonScan
		s.reset(64)
		if whole, err := s.scan([]byte(text), false); !whole || err != nil || s.pos != want {
			t.Errorf("%q: whole is %v, %d bytes, %v; want %d", text, whole, s.pos, err, want)
		}
	}
	for _, text := range []string{`1`, `-`, `1.`, `tru`, `true`, `1e+`} { // more of it may come
		var s jsonScan
		s.reset(64)
		if whole, err := s.scan([]byte(text), false); whole || err != nil {
			t.Errorf("%q: whole is %v, %v; want to wait for what is behind", text, whole, err)
		}
	}
}

// What can no longer become a value is refused when that shows, and is not waited for.
func TestJSONScanRefusesAtOnce(t *testing.T) {
	for _, text := range []string{`trr`, `nulll`, `tt`, `01`, `--`, `1..`, `1.e`, `1e5.`, `-e`, `1ee`, strings.Repeat("1", maxJSONNumber+1)} {
		var s jsonScan
		s.reset(64)
		if _, err := s.scan([]byte(`{"a":`+text), false); err == nil {
			t.Errorf("%q is waited for", shorten(text, 40))
		}
		for n := range len(text) {
			s.reset(64)
			if whole, err := s.scan([]byte(text[:n]), false); whole || err != nil {
				t.Errorf("%q, the beginning of %q: whole is %v, %v; want to wait", shorten(text[:n], 40), shorten(text, 40), whole, err)
			}
		}
	}
}

// Each beginning of a value is no value, and no error either, until the stream ends there.
func TestJSONScanWaitsForTheRest(t *testing.T) {
	text := []byte(`{"a":[1.5e-3,true,false,null,"\u00e4\ud834\udd1eä𝄞\n"],"":{"b":[]}}`)
	for n := range text {
		var s jsonScan
		s.reset(64)
		if whole, err := s.scan(text[:n], false); whole || err != nil {
			t.Errorf("%q: whole is %v, %v; want to wait", text[:n], whole, err)
		}
		if whole, err := s.scan(text, false); !whole || err != nil || s.pos != len(text) {
			t.Errorf("the rest behind %q: whole is %v, %v, %d bytes", text[:n], whole, err, s.pos)
		}
		s.reset(64)
		if whole, err := s.scan(text[:n], true); whole || err == nil {
			t.Errorf("%q and then the end: whole is %v, %v; want an error", text[:n], whole, err)
		}
	}
}

func TestJSONScanAllowsTheDepthThatIsAllowed(t *testing.T) {
	for _, pair := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		for depth, ok := range map[int]bool{63: true, 64: true, 65: false} {
			text := strings.Repeat(pair[0], depth) + "0" + strings.Repeat(pair[1], depth)
			err := scanPieces([]byte(text), 3)
			var f *fault
			if ok && err != nil || !ok && (!errors.As(err, &f) || f.Code != codeTooLarge || f.data().Limit != "max_depth") {
				t.Errorf("%d times %s: %v", depth, pair[0], err)
			}
		}
	}
}

// A value that is too large is forgotten while it arrives; its end is found where it is, and what is
// wrong with it as well.
func TestJSONScanForgets(t *testing.T) {
	text := []byte(`{"a":[1,"x]}\"",{"b":{}}],"c":"` + strings.Repeat("y", 50) + `"}`)
	for _, n := range []int{1, 2, 3, 10} {
		var s jsonScan
		s.reset(64)
		s.lax = true
		begin, whole := 0, false
		for end := 0; end < len(text); {
			end = min(end+n, len(text))
			var err error
			if whole, err = s.scan(text[begin:end], false); err != nil {
				t.Fatalf("in pieces of %d, at %d: %v", n, end, err)
			}
			if !whole {
				begin += s.pos
				s.forget(s.pos)
			}
		}
		if !whole || begin+s.pos != len(text) || s.gone != begin {
			t.Errorf("in pieces of %d: whole is %v at %d, %d forgotten; want %d", n, whole, begin+s.pos, s.gone, len(text))
		}
	}
}

func TestCheckJSONNamesThePlace(t *testing.T) {
	l := defaultLimits()
	l.MaxMessage = 40
	for text, want := range map[string]string{
		`{"a":1}`:                           "",
		" [1]\n":                            "",
		"{\n  \"ä\": x}":                    "line 2, column 8: unexpected 'x', expected a value",
		"[1,\n2":                            "line 2, column 2: the JSON ends too early",
		"":                                  "line 1, column 1: the JSON ends too early",
		"1\n 2":                             "line 2, column 2: more than one value",
		"{\"a\":1,\n\"a\":2}":               `line 2, column 1: the member "a" is there twice`,
		`"` + strings.Repeat("x", 40):       "line 1, column 42: the JSON ends too early",
		`"` + strings.Repeat("x", 39) + `"`: "line 1, column 42: the JSON has 41 bytes (limit max_message = 40)",
	} {
		got := ""
		if err := checkJSON([]byte(text), l); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("checkJSON(%q) = %q; want %q", text, got, want)
		}
	}
}

// checkWalk wants a walk over b, which was checked, to find what encoding/json finds.
func checkWalk(t testing.TB, b []byte) {
	t.Helper()
	w := enter(b)
	switch b[0] {
	case '{':
		var want map[string]json.RawMessage
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		for {
			name, value, ok := w.member()
			if !ok {
				break
			}
			found, there := want[string(unquoteJSON(name))]
			if !there || !bytes.Equal(found, value) {
				t.Fatalf("the member %q of %q is %q; want %q", name, b, value, found)
			}
			delete(want, string(unquoteJSON(name)))
		}
		if len(want) > 0 {
			t.Fatalf("a walk over %q did not find %q", b, want)
		}
	case '[':
		var want, got []json.RawMessage
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		for {
			value, ok := w.element()
			if !ok {
				break
			}
			got = append(got, value)
		}
		if !slices.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("a walk over %q found %q; want %q", b, got, want)
		}
	}
}

func TestJSONWalk(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `{ }`, "[\n]", `[1]`, `[1,2]`, `[ -1.5e3 , "a,]" ]`, `{"a":1}`, `{"a":1,"b":[{"c":[]},"}"]}`, ` {"\u0061" : true , "" : "\\" }`[1:],
		`[[],{},[[]],"\"",null]`, `{"a":{"a":{"a":0}},"b":"\\\"","c":-0}`,
	} {
		if err := scanPieces([]byte(text), 100); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		checkWalk(t, []byte(text))
	}
	// Of one that was cut off, the members that are whole.
	w := enter([]byte(`{"a":1,"b":"x`))
	if name, value, ok := w.member(); string(name) != "a" || string(value) != "1" || !ok {
		t.Errorf("the first member is %q: %q, %v", name, value, ok)
	}
	if name, value, ok := w.member(); ok {
		t.Errorf("the member that was cut off is %q: %q", name, value)
	}
}

func TestJSONScanFindsNamesTwiceAmongMany(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{`)
	for i := range 10 * fewNames {
		fmt.Fprintf(&b, `"name%d":{"inner":%d},`, i, i)
	}
	if err := scanPieces([]byte(b.String()+`"last":0}`), 5); err != nil {
		t.Error(err)
	}
	if err := scanPieces([]byte(b.String()+`"name3":0}`), 5); err == nil || !strings.Contains(err.Error(), `"name3" is there twice`) {
		t.Errorf("a name twice among many: %v", err)
	}
}

// The names of an object with many go with it, even if the message breaks off.
func TestJSONScanForgetsNames(t *testing.T) {
	var many strings.Builder
	for i := range 10 * fewNames {
		fmt.Fprintf(&many, `"name%d":0,`, i)
	}
	nested := "1"
	for range 5 {
		nested = `{` + many.String() + `"in":` + nested + `}`
	}
	var s jsonScan
	for _, text := range []string{nested, nested[:len(nested)-3] + "!", strings.Repeat("[", 500)} {
		s.reset(1000)
		s.scan([]byte(text), true)
		s.reset(1000)
		for i, f := range s.frames[:cap(s.frames)] {
			if f.many != nil {
				t.Errorf("after %.20q the names at depth %d are still there", text, i)
			}
		}
		if len(s.frames)+len(s.names) > 0 || cap(s.frames) > fewFrames || cap(s.names) > fewFrames {
			t.Errorf("after %.20q it has room for %d frames and %d names", text, cap(s.frames), cap(s.names))
		}
	}
}

// strictJSON is what the scanner takes by the standard library's opinion: valid, UTF-8, without
// lone surrogates and, found by decoding to tokens, no member twice and not too deep.
func strictJSON(b []byte) bool {
	if !json.Valid(b) || !utf8.Valid(b) {
		return false
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil in an array
		name  bool            // a name comes next
	}
	var open []level
	for {
		token, err := d.Token()
		if err != nil {
			return len(open) == 0
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			if s, ok := token.(string); ok && open[n-1].name {
				if open[n-1].names[s] {
					return false
				}
				open[n-1].names[s], open[n-1].name = true, false
				continue
			}
			open[n-1].name = true
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}, name: true})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) > 64 {
			return false
		}
		if n, ok := token.(json.Number); ok && len(n) > maxJSONNumber {
			return false
		}
	}
}

func FuzzJSONScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,true,null,"x"],"b":{}}`, `{"a":1,"a":2}`, `"\ud834\udd1e\n"`, `[[[[`, `1.0e`, " \t{}\n", `{"\u0061":"ä"}`} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(around(func(t *testing.T, b []byte, n int) {
		whole, pieces := scanPieces(b, len(b)+1), scanPieces(b, 1+(n&0xff))
		if (whole == nil) != (pieces == nil) {
			t.Fatalf("%q: %v in one piece, %v in several", b, whole, pieces)
		}
		want := strictJSON(b)
		if whole == nil && !want {
			t.Fatalf("%q was taken; the standard library refuses it", b)
		}
		// encoding/json decodes a lone surrogate to U+FFFD, and does not tell.
		if whole != nil && want && !strings.Contains(whole.Error(), "invalid escape") {
			t.Fatalf("%q was refused: %v", b, whole)
		}
		if whole != nil {
			return
		}
		checkWalk(t, bytes.Trim(b, jsonSpace))
		var text string
		if b = []byte(strings.Trim(string(b), jsonSpace)); b[0] == '"' && json.Unmarshal(b, &text) == nil {
			if got := string(unquoteJSON(b[1 : len(b)-1])); got != text {
				t.Fatalf("%s is %q; want %q", b, got, text)
			}
			if again := appendJSONString(nil, text); json.Unmarshal(again, new(string)) != nil || scanPieces(again, 1) != nil {
				t.Fatalf("%q was written as %s", text, again)
			}
		}
	}))
}
