package main

import (
	"encoding/json"
	"fmt"
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
		{`01`, "is no number"}, {`1.`, "is no number"}, {`+1`, "unexpected"}, {`.5`, "unexpected"}, {`tru`, "no literal"}, {`NaN`, "unexpected"}, {`'a'`, "unexpected"},
		{strings.Repeat("1", maxJSONNumber+1), "digits"},
		{"\"a\tb\"", "control character"}, {`"\x"`, "wrong escape"}, {`"\u12g4"`, "wrong escape"},
		{"\"\xff\"", "not UTF-8"}, {"\"\xed\xa0\x80\"", "not UTF-8"}, {`"\ud834"`, "wrong escape"}, {`"\udd1e\ud834"`, "wrong escape"}, {`"\ud834\u0041"`, "wrong escape"},
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
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		whole, pieces := scanPieces(b, len(b)+1), scanPieces(b, 1+(n&0xff))
		if (whole == nil) != (pieces == nil) {
			t.Fatalf("%q: %v in one piece, %v in several", b, whole, pieces)
		}
		want := strictJSON(b)
		if whole == nil && !want {
			t.Fatalf("%q was taken; the standard library refuses it", b)
		}
		// encoding/json decodes a lone surrogate to U+FFFD, and does not tell.
		if whole != nil && want && !strings.Contains(whole.Error(), "wrong escape") {
			t.Fatalf("%q was refused: %v", b, whole)
		}
		if whole != nil {
			return
		}
		var text string
		if b = []byte(strings.Trim(string(b), jsonSpace)); b[0] == '"' && json.Unmarshal(b, &text) == nil {
			if got := string(unquoteJSON(b[1 : len(b)-1])); got != text {
				t.Fatalf("%s is %q; want %q", b, got, text)
			}
			if again := appendJSONString(nil, text); json.Unmarshal(again, new(string)) != nil || scanPieces(again, 1) != nil {
				t.Fatalf("%q was written as %s", text, again)
			}
		}
	})
}
