package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// taskSchema has what a schema of a Go type has, and more.
const taskSchema = `{"$ref":"#/$defs/Task","$defs":{
	"Task":{"type":"object","required":["title"],"additionalProperties":false,"properties":{
		"title":{"type":"string","maxLength":80,"description":"what is to be done"},
		"prio":{"type":"integer","minimum":1,"maximum":5},
		"size":{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807},
		"level":{"type":"integer","minimum":0,"maximum":255},
		"done":{"type":["boolean","null"]},
		"due":{"type":"string","format":"date-time"},
		"data":{"type":"string","contentEncoding":"base64"},
		"mood":{"enum":["good","bad"]},
		"tags":{"type":["array","null"],"items":{"type":"string","format":"uri"}},
		"by":{"type":"object","additionalProperties":{"$ref":"#/$defs/Place"}},
		"at":{"$ref":"#/$defs/Place"},
		"parent":{"anyOf":[{"$ref":"#/$defs/Task"},{"type":"null"}]},
		"parts":{"type":"array","items":{"$ref":"#/$defs/Task"}},
		"any":{}}},
	"Place":{"type":"object","required":["x"],"properties":{"x":{"type":"number"},"y":{"type":"number"}}}}}`

func readSchema(t *testing.T, text string) (s schema) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	must(t, d.Decode(&s))
	return s
}

func TestDescribeShowsAMemberALine(t *testing.T) {
	tests := []struct{ argument, result, want string }{
		{`null`, `{"type":"string"}`, "T.M() string\n"},
		{`{"type":"string"}`, `{}`, "T.M(string) any\n"},
		{`true`, `{"type":"array","items":{"type":"integer","minimum":0,"maximum":255},"minItems":4,"maxItems":4}`, "T.M(any) integer[] (4 elements, each 8 bits, unsigned)\n"},
		{`{"type":"integer","minimum":1}`, `{"type":"object","additionalProperties":{"type":"boolean"}}`, "T.M(integer (at least 1)) map of boolean\n"},
		{`{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1}`, `{"type":"number","exclusiveMinimum":0}`, "T.M(number (0 to 1, exclusive)) number (at least 0, exclusive)\n"},
		{`{"type":"number","exclusiveMinimum":-` + float32End + `,"exclusiveMaximum":` + float32End + `}`, `{"type":"array","items":{},"maxItems":255,"minItems":0}`, "T.M(number (32 bits)) any[] (0 to 255 elements)\n"},
		{`{"type":"object","properties":{"next":{"$ref":"#"},"n":{"type":["integer","null"]}}}`, `false`, `T.M(object) any
  argument
    n     optional  integer or null
    next  optional  itself
`},
		{taskSchema, `{"type":"array","items":{"type":"object","properties":{"id":{"type":"string","pattern":"^k"}}}}`, `T.M(Task) object[]
  argument
    title   required  string (at most 80 characters): what is to be done
    any     optional  any
    at      optional  Place
      x     required  number
      y     optional  number
    by      optional  map of Place
    data    optional  string (base64)
    done    optional  boolean or null
    due     optional  string (date-time)
    level   optional  integer (8 bits, unsigned)
    mood    optional  any (one of good bad)
    parent  optional  Task or null
    parts   optional  Task[]
    prio    optional  integer (1 to 5)
    size    optional  integer (64 bits)
    tags    optional  string[] or null (each uri)
  result
    id  optional  string (matches ^k)
`},
		// what makes no sense allows anything, and ends
		{`{"$ref":"#"}`, `{"$ref":"#/$defs/none"}`, "T.M(any) any\n"},
		{`{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}`, `{"$ref":"http://elsewhere"}`, "T.M(any) any\n"},
		{`{"type":"array","minItems":1,"items":{"$ref":"#"}}`, `{"type":"object","additionalProperties":{"$ref":"#"}}`, "T.M(itself[] (at least 1 elements)) map of itself\n"},
		{`{"$ref":"#/$defs/a","$defs":{"a":{"type":["array","object","array"],"items":{"$ref":"#/$defs/a"},"additionalProperties":{"$ref":"#/$defs/b"}},"b":{"type":"array","items":{"$ref":"#/$defs/b"}}}}`,
			`{"":{"type":"array","minItems":1,"items":{"$ref":"#/"}},"$ref":"#/"}`, "T.M(a[] or map of b[]) #/[] (at least 1 elements)\n"},
		{`{"type":5,"properties":"x","required":7}`, `{"type":"array","items":[{}]}`, "T.M(any) any[]\n"},
		{`{"type":"object","properties":{"a\nb":{"type":"\u001b[31m"}}}`, `{}`, "T.M(object) any\n  argument\n    a\\u000ab  optional  \\u001b[31m\n"},
	}
	for _, test := range tests {
		d := Description{Method: "T.M"}
		for _, s := range []struct {
			text string
			to   *schema
		}{{test.argument, &d.Argument}, {test.result, &d.Result}} {
			if s.text == "true" || s.text == "false" {
				*s.to = schema{}
			} else if s.text != "null" {
				*s.to = readSchema(t, s.text)
			}
		}
		var b strings.Builder
		must(t, table(&b, d.show))
		if b.String() != test.want {
			t.Errorf("describe shows\n%s\nof %s and %s; want\n%s", &b, test.argument, test.result, test.want)
		}
	}
}

func TestTextBecomesWhatTheMethodTakes(t *testing.T) {
	task := shapeOf(readSchema(t, taskSchema))
	if want := "title=TEXT [any=TEXT] [at:='{...}'] [by:='{...}'] [data=TEXT] [done:=true] [due=TEXT] [level:=INTEGER] [mood=TEXT] [parent:='{...}'] " +
		"[parts:='[...]'] [prio:=INTEGER] [size:=INTEGER] [tags:='[...]']"; task.form() != want {
		t.Errorf("a task is typed as %s; want %s", task.form(), want)
	}
	tests := []struct{ words, want, wrong string }{
		{"title=a=b", `{"title":"a=b"}`, ""},
		{"title=5 prio=5", `{"title":"5","prio":5}`, ""},
		{"title= prio:=null", `{"title":"","prio":null}`, ""},
		{"prio=x", "", "prio=x: expected integer (1 to 5)"},
		{"prio=", "", "prio=: expected integer (1 to 5)"},
		{"prio=true", "", "prio=true: expected integer (1 to 5)"},
		{"prio=null", "", "prio=null: expected integer (1 to 5)"},
		{"done=true", `{"done":true}`, ""},
		{"done=null", `{"done":null}`, ""},
		{"done=yes", "", "done=yes: expected boolean or null"},
		{`tags=["a"] at={"x":1.5}`, `{"tags":["a"],"at":{"x":1.5}}`, ""},
		{"tags=a", "", "tags=a: expected string[] or null (each uri)"},
		{"any=5 mood=good", `{"any":"5","mood":"good"}`, ""},
		{"titel=a", "", "T.M has no member titel"},
		{"by=1", "", "by=1: expected map of Place"},
	}
	for _, test := range tests {
		got, err := typedWords(strings.Fields(test.words)).value("T.M", &taking{shape: task}, defaultLimits())
		text, _ := got.(json.RawMessage)
		if string(text) != test.want || test.wrong != "" && (err == nil || err.Error() != test.wrong) || test.wrong == "" && err != nil {
			t.Errorf("%s becomes %s, %v; want %s, %s", test.words, text, err, test.want, test.wrong)
		}
	}
}
