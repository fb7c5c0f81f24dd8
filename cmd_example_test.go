package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// exampleTests have a schema, the words of its example behind the method, and the argument that they are. Where there is no example
// they have the form.
var exampleTests = []struct{ schema, words, argument string }{
	{`{}`, "hello", `"hello"`},
	{`{"type":"string"}`, "hello", `"hello"`},
	{`{"type":"string","minLength":7,"maxLength":8}`, "hellohe", `"hellohe"`},
	{`{"type":"string","maxLength":2}`, "he", `"he"`},
	{`{"type":"string","maxLength":0}`, "--text ''", `""`},
	{`{"type":["null","string"],"enum":["-n","b"]}`, "--text -n", `"-n"`},
	{`{"type":"string","default":"@home"}`, "--text @home", `"@home"`},
	{`{"const":"a=b"}`, "--text a=b", `"a=b"`},
	{`{"type":"string","examples":["it's $HOME; \"two\" * #1 \\ !"]}`, `'it'\''s $HOME; "two" * #1 \ !'`, `"it's $HOME; \"two\" * #1 \\ !"`},
	{`{"const":"one\ntwo\u001b[2J\u202e"}`, `--arg '"one\ntwo\u001b[2J\u202e"'`, `"one\ntwo\u001b[2J\u202e"`},
	{`{"type":"string","pattern":"^[A-Z]{2,}-[0-9]+(x|y)?$"}`, "AA-0", `"AA-0"`},
	{`{"type":"string","pattern":"^\\s+[^a-z]$"}`, `' A'`, `" A"`},
	{`{"type":"string","format":"date-time"}`, "2030-01-02T03:04:05Z", `"2030-01-02T03:04:05Z"`},
	{`{"type":"string","contentEncoding":"base64"}`, "--text aGVsbG8=", `"aGVsbG8="`},
	{`{"type":"integer"}`, "--arg 1", `1`},
	{`{"type":"integer","minimum":5,"maximum":9}`, "--arg 5", `5`},
	{`{"type":"integer","exclusiveMinimum":5}`, "--arg 6", `6`},
	{`{"type":"integer","maximum":-3}`, "--arg -3", `-3`},
	{`{"type":"integer","minimum":10,"multipleOf":7}`, "--arg 14", `14`},
	{`{"type":"integer","minimum":18446744073709551615}`, "--arg 18446744073709551615", `18446744073709551615`},
	{`{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1}`, "--arg 0.5", `0.5`},
	{`{"type":"boolean"}`, "--arg true", `true`},
	{`{"type":"null"}`, "--arg null", `null`},
	{`{"type":"array","items":{"type":"string"}}`, `--arg '["hello"]'`, `["hello"]`},
	{`{"type":"array","items":{"enum":[2]},"minItems":3}`, `--arg '[2,2,2]'`, `[2,2,2]`},
	{`{"type":"array","items":{"type":"integer"},"maxItems":0}`, `--arg '[]'`, `[]`},
	{`{"prefixItems":[{"type":"string"},{"type":"integer"}],"items":false}`, `--arg '["hello",1]'`, `["hello",1]`},
	{`{"type":"object"}`, `--arg '{}'`, `{}`},
	{`{"type":"object","required":["name"],"properties":{"name":{"type":"string","examples":["Ada"]},"age":{"type":"integer"}}}`, "name=Ada", `{"name":"Ada"}`},
	{`{"type":"object","required":["name","age"],"properties":{"age":{"type":"integer","default":36},"name":{"default":"Ada Lovelace"}}}`,
		`'name=Ada Lovelace' age:=36`, `{"name":"Ada Lovelace","age":36}`},
	{`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"number"}},"c":{"type":"boolean"},"d":{"const":null},"e":{"type":["integer","string"]}}}`,
		`a=hello 'b:=[1]' c:=true d:=null e:=1`, `{"a":"hello","b":[1],"c":true,"d":null,"e":1}`},
	{`{"type":"object","properties":{"a":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"array"}}}}}`, `'a:={"x":1}'`, `{"a":{"x":1}}`},
	{`{"type":"object","additionalProperties":{"type":"integer"},"propertyNames":{"pattern":"^[-+]?[0-9]+$"}}`, "0:=1", `{"0":1}`},
	{`{"type":"object","additionalProperties":{"type":"string"}}`, "key=hello", `{"key":"hello"}`},
	{`{"type":"object","required":["-a","b"],"properties":{"b":{"type":"integer"}}}`, `--arg '{"b":1,"-a":"hello"}'`, `{"b":1,"-a":"hello"}`},
	{`{"type":"object","required":["@"],"properties":{"@":{}}}`, `--arg '{"@":"hello"}'`, `{"@":"hello"}`},
	{`{"type":"object","examples":[{"b":"x y","a":{"z":1.5}}],"properties":{"b":{"type":"string"}}}`, `'b=x y' 'a:={"z":1.5}'`, `{"b":"x y","a":{"z":1.5}}`},
	{`{"$ref":"#/$defs/Task","$defs":{"Task":{"type":"object","required":["title"],"properties":{"title":{"type":"string"},"parent":{"$ref":"#/$defs/Task"}}}}}`,
		"title=hello", `{"title":"hello"}`},
	{`{"anyOf":[{"type":"object","required":["a"],"properties":{"a":{"type":"string"}}},{"type":"integer"}]}`, "a=hello", `{"a":"hello"}`},
	// where no value is found, there is the form
	{`{"type":"object","required":["id"],"properties":{"id":{"type":"string","pattern":"^(?=a)"}}}`, "id=TEXT", ""},
	{`{"type":"string","pattern":"^a$","minLength":2}`, "TEXT", ""},
	{`{"type":"integer","minimum":5,"maximum":4}`, "--arg INTEGER", ""},
	{`{"type":"object","required":["self"],"properties":{"self":{"$ref":"#"}}}`, `self:='{...}'`, ""},
	{`{"type":"object","allOf":[{"required":["a"]}]}`, "key=TEXT ...", ""},
	{`{"type":"array","items":{"type":"integer"},"minItems":2,"uniqueItems":true}`, `--arg '[...]'`, ""},
}

// Of a method with parts the example shows them.
func TestExampleOfParts(t *testing.T) {
	for _, argument := range []schema{nil, {"type": "string"}, {"type": "string", "not": schema{}}} {
		d := Description{Method: "T.M", Argument: argument, Part: schema{}}
		if _, line := (&clientFlags{cmd: newCallCmd()}).example(&d); !strings.HasPrefix(line+" ", "ipcd call --stream T.M ") {
			t.Errorf("the example is %s; want --stream", line)
		}
	}
}

func TestExampleMeansItsArgument(t *testing.T) {
	l := defaultLimits()
	for _, test := range exampleTests {
		d := Description{Method: "T.M", Argument: readSchema(t, test.schema)}
		what, line := (&clientFlags{cmd: newCallCmd()}).example(&d)
		if want := "ipcd call T.M " + test.words; line != want || (what == "example") != (test.argument != "") {
			t.Errorf("the %s of %s is %s; want %s", what, test.schema, line, want)
			continue
		}
		if test.argument == "" {
			continue
		}
		words, rest, err := cutWords(strings.TrimPrefix(line, "ipcd call "), "")
		if err != nil || rest != "" {
			t.Errorf("%s cannot be cut: %q, %v", line, rest, err)
			continue
		}
		p := argumentParser{limits: l}
		if n := len(words); n > 1 && words[1] == "--arg" {
			p.given, words = &words[2], words[:1]
		} else if n > 1 && words[1] == "--text" {
			p.text, words = &words[2], words[:1]
		}
		_, arg, err := p.parse(words)
		if typed, ok := arg.(typedWords); ok {
			arg, err = typed.value("T.M", &taking{shape: shapeOf(d.Argument)}, l)
		}
		if text, ok := arg.(string); ok {
			arg = json.RawMessage(appendJSONString(nil, text))
		}
		if got, _ := arg.(json.RawMessage); err != nil || string(got) != test.argument {
			t.Errorf("%s means %s, %v; want %s", line, got, err, test.argument)
		}
	}
}

// The search for an example has an end, whatever a provider declares: it ends with the form.
func TestExampleHasAnEnd(t *testing.T) {
	deep := `"$defs":{"d40":{"type":"integer"}`
	for i := range 40 {
		next := fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)
		deep += fmt.Sprintf(`,"d%d":{"type":"object","required":["a","b","c","d","e","f","g","h"],"additionalProperties":%s}`, i, next)
	}
	deep += "}"
	lists := `"$defs":{"d9":{"type":"object","required":["x"],"properties":{"x":{"default":"` + strings.Repeat("y", 1000) + `"}}}`
	for i := range 9 {
		lists += fmt.Sprintf(`,"d%d":{"type":"array","minItems":1024,"items":{"$ref":"#/$defs/d%d"}}`, i, i+1)
	}
	lists += "}"
	choices := `"$defs":{"d15":{"not":{}}`
	for i := range 15 {
		choices += fmt.Sprintf(`,"d%d":{"anyOf":[%s{"type":"string","pattern":"^(?=a)"}]}`, i, strings.Repeat(fmt.Sprintf(`{"$ref":"#/$defs/d%d"},`, i+1), 9))
	}
	choices += "}"
	for _, test := range []struct{ schema, line string }{
		{`{"$ref":"#/$defs/d25",` + deep + `}`, "ipcd call T.M key=TEXT ..."},
		{`{"$ref":"#/$defs/d39",` + deep + `}`, ""},
		{`{"type":"object","required":["list"],"properties":{"list":{"$ref":"#/$defs/d0"}},` + lists + `}`, "ipcd call T.M list:='[...]'"},
		{`{"type":"object","required":["one"],"properties":{"one":{"$ref":"#/$defs/d0"}},` + choices + `}`, "ipcd call T.M one=TEXT"},
		{`{"type":"string","pattern":"^` + strings.Repeat(".{1000}", 500) + `$"}`, "ipcd call T.M TEXT"},
		{`{"type":"string","pattern":"^` + strings.Repeat("ab.", 100000) + `$"}`, "ipcd call T.M TEXT"},
	} {
		d := Description{Method: "T.M", Argument: readSchema(t, test.schema)}
		what, line := (&clientFlags{cmd: newCallCmd()}).example(&d)
		if len(line) > 2*maxSampling || (what == "example") != (test.line == "") || what == "form" && line != test.line {
			t.Errorf("the %s of %.100s is %.200s, %d bytes; want %s", what, test.schema, line, len(line), test.line)
		}
		d.show(io.Discard)
	}
}

// A method of which nobody has said what it takes is shown in more than one form, since a text may not be what it wants.
func TestExampleOfAnything(t *testing.T) {
	for text, want := range map[string]bool{`{}`: true, `{"type":"string"}`: false, `{"examples":["a"]}`: false, `{"type":"object"}`: false} {
		d := Description{Method: "T.M", Argument: readSchema(t, text)}
		if got := d.takesAnything(); got != want {
			t.Errorf("takesAnything of %s = %v; want %v", text, got, want)
		}
	}
}
