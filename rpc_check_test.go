package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// checkerFor compiles a schema that is given as JSON.
func checkerFor(t *testing.T, text string) (*checker, error) {
	t.Helper()
	s, err := parseSchema([]byte(text))
	must(t, err)
	room := maxPatternSize
	return newChecker(s, &room)
}

func TestCheckSaysWhere(t *testing.T) {
	const order = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},"a/b~c":{"items":{"$ref":"#/$defs/part%20~1"}},
		"by":{"additionalProperties":{"$ref":"#/$defs/part%20~1"}},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]},"pair":{"prefixItems":[{"type":"string"}],"items":{"type":"boolean"}},
		"all":{"allOf":[{"required":["x"]},{"properties":{"x":{"enum":[1,"b"]}}}]}},"patternProperties":{"^n_":{"type":"number"}},"$defs":{"part /":{"type":"object","properties":{"no":{"type":"integer"}},"additionalProperties":false}}}`
	for _, test := range []struct{ schema, document, pointer, reason string }{
		{order, `{"id":1,"a/b~c":[{"no":1}],"by":{"k":{}},"next":{"id":2,"next":null},"pair":["a",true],"all":{"x":"b"},"n_x":1.5,"other":{}}`, "-", ""},
		{order, `{"id":1.0}`, "-", ""},
		{order, `{"id":18446744073709551615}`, "-", ""},
		{order, `{"id":1e400}`, "-", ""},
		{order, `{"id":1.5}`, "/id", "it is 1.5; expected type integer"},
		{order, `{"id":0}`, "/id", "it is 0; expected minimum 1"},
		{order, `{}`, "", `"id" is missing`},
		{order, `[]`, "", "it is []; expected type object"},
		{order, ``, "", "it is missing; expected type object"},
		{order, `null`, "", "it is null; expected type object"},
		{order, `{"id":1,"a/b~c":[{},{"no":"x"}]}`, "/a~1b~0c/1/no", "integer"},
		{order, `{"id":1,"by":{"a":{},"k/":{"more":1}}}`, "/by/k~1", `"more" is not allowed`},
		{order, `{"id":1,"next":{"id":2,"next":{"id":"3"}}}`, "/next/next/id", "integer"},
		{order, `{"id":1,"pair":["a",true,0]}`, "/pair/2", "boolean"},
		{order, `{"id":1,"pair":[1]}`, "/pair/0", "it is 1; expected type string"},
		{order, `{"id":1,"all":{"x":2}}`, "/all/x", `it is 2; expected one of [1,"b"]`},
		{order, `{"id":1,"all":{}}`, "/all", `"x" is missing`},
		{order, `{"id":1,"n_x":"1"}`, "/n_x", "number"},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}],"definitions":{}}`, `["a",1]`, "-", ""},
		{`{"oneOf":[{"type":"string"},{"type":"integer"}]}`, `true`, "", `it is true; expected oneOf [{"type":"string"},{"type":"integer"}]`},
		{`{}`, `[1e400]`, "-", ""},
		{`null`, ``, "-", ""},
		{`null`, `5`, "", "it is 5; expected type null"},
		{`{"not":{}}`, `5`, "", "it is 5; expected not {}"},
		{`{"type":["null","object"]}`, `5`, "", "it is 5; expected type null or object"},
		{`{"required":["<b>","c"]}`, `{"c":1}`, "", `"<b>" is missing`},
		{`{"items":{"pattern":"^a"}}`, `["b<"]`, "/0", `it is "b<"; expected pattern "^a"`},
		{`{"minimum":1,"if":{"maximum":9},"then":{"minimum":5}}`, `3`, "", "it is 3, and minimum: "},
		{`{"type":"array","$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}]}`, `[null]`, "", "it is [null], and type: null has"},
		{`{"const":null}`, `5`, "", "it is 5; expected null"},
		{`{"additionalProperties":false,"properties":{"a":{}},"dependentRequired":{"a":["b"]}}`, `{"a":1}`, "", `it is {"a":1}, and dependentRequired["a"]`},
	} {
		c, err := checkerFor(t, test.schema)
		if err != nil {
			t.Errorf("%s: %v", test.schema, err)
			continue
		}
		f := c.check(document(test.document), codeBadArgument, "it")
		if test.pointer == "-" {
			if f != nil {
				t.Errorf("%s at %s: %v", test.document, test.schema, f)
			}
			continue
		}
		if f == nil || f.Code != codeBadArgument || f.data().Pointer != test.pointer || !strings.Contains(f.Text, test.reason) || strings.Contains(f.Text, "reflect") || test.pointer != "" && !strings.Contains(f.Text, " at "+test.pointer+": ") {
			t.Errorf("%s at %s: %v, %s; want %s at %q", test.document, test.schema, f, f.data().Pointer, test.reason, test.pointer)
		}
	}
}

// twice is a schema of a few definitions, each of which has the next one twice, under a keyword.
func twice(keyword string, deep int) string {
	defs := fmt.Sprintf(`"d%d":{"type":"integer"}`, deep)
	for i := range deep {
		next := fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)
		defs += fmt.Sprintf(`,"d%d":{"%s":[%s,%s]}`, i, keyword, next, next)
	}
	return `{"$defs":{` + defs + `},"$ref":"#/$defs/d0"}`
}

// What the validator would not come back from is not begun.
func TestChecksHaveAnEnd(t *testing.T) {
	list := func(n int, element string) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	deep := func(n int, inner string) string { return strings.Repeat("[", n) + inner + strings.Repeat("]", n) }
	names := func(n int, form string) (list string) {
		for i := range n {
			list += fmt.Sprintf(form, i) + ","
		}
		return strings.TrimSuffix(list, ",")
	}
	tree := `{"type":"object","properties":{"op":{"const":"%s"},"a":{"$ref":"#"},"b":{"$ref":"#"}}}`
	for _, test := range []struct{ name, schema, text string }{
		{"items and contains", `{"items":{"$ref":"#"},"contains":{"$ref":"#"},"minContains":0}`, deep(60, "")},
		{"items twice", `{"allOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}]}`, deep(60, "")},
		{"unevaluatedItems", `{"anyOf":[{"items":{"$ref":"#"},"maxItems":0},{}],"unevaluatedItems":{"$ref":"#"}}`, deep(60, "1")},
		{"a union of trees", `{"oneOf":[` + fmt.Sprintf(tree, "add") + `,` + fmt.Sprintf(tree, "sub") + `,{"type":"integer"}]}`, strings.Repeat(`{"op":"sub","a":1,"b":`, 60) + "1" + strings.Repeat("}", 60)},
		{"patternProperties", `{"patternProperties":{"a":{"$ref":"#"},"^a":{"$ref":"#"}}}`, strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)},
		{"additionalProperties and unevaluatedProperties", `{"allOf":[{"additionalProperties":{"$ref":"#"}}],"unevaluatedProperties":{"$ref":"#"}}`, strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)},
		{"definitions that have the next one twice, in elements", `{"$defs":{` + names(40, `"d%d":{"items":{"$ref":"#/$defs/d1%[1]d"},"contains":{"$ref":"#/$defs/d1%[1]d"}},"d1%[1]d":{"allOf":[{"items":{"$ref":"#/$defs/d0"}},{"items":{"$ref":"#/$defs/d0"}}]}`) + `},"$ref":"#/$defs/d0"}`, deep(60, "")},
		{"many patterns and members", `{"patternProperties":{` + names(2000, `"^(a|b)*%d$":{}`) + `}}`, "{" + names(20000, `"ab%d":1`) + "}"},
		{"a large enum", `{"items":{"enum":[` + list(100, list(1000, "1")) + `]}}`, list(500, list(999, "1")[:1998]+",2]")},
		{"a large pattern", `{"items":{"pattern":"(x?){1000}(xx?){1000}y$"}}`, list(1000, `"`+strings.Repeat("x", 4000)+`"`)},
		{"uniqueItems", `{"uniqueItems":true,"items":{"$ref":"#"}}`, strings.Repeat("[0,", 60) + list(100000, "1") + strings.Repeat("]", 60)},
		{"texts of errors", `{"anyOf":` + list(60, strings.Repeat(`{"allOf":[`, 40)+`{"pattern":"b"}`+strings.Repeat("]}", 40)) + `}`, `"` + strings.Repeat("a", 1<<18) + `"`},
		{"texts of errors, by names", `{"anyOf":` + list(1000, `{"propertyNames":{"maxLength":3}}`) + `}`, `{"` + strings.Repeat("a", 1<<18) + `":1}`},
	} {
		c, err := checkerFor(t, test.schema)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if f := c.check(document(test.text), codeBadArgument, "it"); f == nil || f.Code != codeBadArgument || !strings.Contains(f.Text, "it cannot be checked: by its schema that would take too long") {
			t.Errorf("%s: %.200s", test.name, fmt.Sprint(f))
		}
	}
}

// A large document is checked by a schema such as people write, and takes no more steps for its size than are allowed.
func TestLargeDocumentsAreChecked(t *testing.T) {
	const size = 1 << 20
	const record = `{"id":1,"name":"Ada Lovelace","tags":["a","b"],"state":"open","next":null,"uuid":"123e4567-e89b-12d3-a456-426614174000"}`
	const schema = `{"type":"array","items":{"$ref":"#/$defs/r"},"$defs":{"r":{"type":"object","required":["id","name"],"additionalProperties":false,"properties":{
		"id":{"type":"integer","minimum":1},"name":{"type":"string","maxLength":100},"tags":{"type":"array","items":{"type":"string"},"uniqueItems":true},
		"state":{"enum":["new","open","closed"]},"next":{"anyOf":[{"$ref":"#/$defs/r"},{"type":"null"}]},"uuid":{"pattern":"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"}}}}}`
	c, err := checkerFor(t, schema)
	must(t, err)
	for _, test := range []struct {
		name, text string
		c          *checker
	}{
		{"records", "[" + strings.Repeat(record+",", size/len(record)-1) + record + "]", c},
		{"numbers", "[" + strings.Repeat("1,", size/2-1) + "1]", func() *checker { c, err := checkerFor(t, `{"items":{"type":"integer"}}`); must(t, err); return c }()},
	} {
		v, err := decodeExact(document(test.text))
		must(t, err)
		e := effortFor(len(test.text))
		all := e.left
		if e.visit(test.c.parts[""], v); e.left < 0 {
			t.Errorf("%s: %d bytes take more than %d steps", test.name, len(test.text), all)
		}
		t.Logf("%s: %d of %d steps", test.name, all-e.left, all)
	}
}

func TestCheckRefusesSchemas(t *testing.T) {
	for text, want := range map[string]string{
		`{"items":{"type":["null","intger"]}}`:     "",
		`{"type":7}`:                               "type",
		`{"pattern":"("}`:                          "pattern",
		`{"$ref":"https://example.org/x"}`:         `/$ref is "https://example.org/x"; expected a JSON Pointer`,
		`{"items":{"$ref":"other.json#/a"}}`:       `/items/$ref is "other.json#/a"`,
		`{"$ref":"#/$defs/none"}`:                  "expected a JSON Pointer to a part of this schema",
		`{"$ref":"#"}`:                             "it refers to itself for the same value",
		`{"items":{"anyOf":[{"$ref":"#/items"}]}}`: "it refers to itself for the same value",
		`{"dependencies":{"a":{"$ref":"#"}}}`:      "it refers to itself for the same value",
		strings.Repeat(`{"allOf":[`, 70) + "{}" + strings.Repeat("]}", 70): "one leading to the next",
		twice("allOf", 28): "more than 4096 of its parts",
		twice("anyOf", 28): "more than 4096 of its parts",
		twice("oneOf", 20): "more than 4096 of its parts",
		`{"allOf":[` + strings.Repeat(`{},`, maxVisits) + `{}]}`:             "more than 4096 of its parts",
		`{"pattern":"` + strings.Repeat(".{1000}", 300) + `"}`:               "the patterns of the registration are too large together",
		`{"patternProperties":{"((.{100}){9}){1000}":{}}}`:                   "invalid repeat count",
		`{"prefixItems":[` + strings.Repeat(`{},`, maxCheckedParts) + `{}]}`: "more than 10000 parts",
		`{"description":"` + strings.Repeat("a", maxCheckedSchema) + `"}`:    "expected at most 1048576",
		`{"$dynamicRef":"#x"}`:                                  "$dynamicRef is not supported",
		`{"properties":{"a":{"$id":"x"}}}`:                      "/properties/a/$id is not supported",
		`{"$schema":"http://json-schema.org/draft-04/schema#"}`: `$schema is "http://json-schema.org/draft-04/schema#"; expected draft 2020-12 or draft-07`,
	} {
		if _, err := checkerFor(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}

// An answering is a provider that gives back the argument.
type answering struct{}

func (answering) ask(c *call, _ *unflushed, done func(bool)) {
	done(false)
	c.reply(*c.arg.(*document), nil)
}

func TestOfferIsChecked(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	var r Registration
	must(t, json.Unmarshal([]byte(`{"methods":[{"method":"Far.In","argument":{"properties":{"n":{"type":"integer"}}}},
		{"method":"Far.Out","result":{"items":{"type":"integer"}}},{"method":"Far.*"},{"method":"Far.None","argument":null}]}`), &r))
	l := defaultLimits()
	o, f := newOffer(&r, peer{}, &l)
	if f != nil {
		t.Fatal(f)
	}
	o.check, o.provider = true, answering{}
	if f := s.router.offer(o, nil); f != nil {
		t.Fatal(f)
	}
	s.router.open(o)
	for _, k := range clientKinds {
		if k.http {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			c := k.dial(t, s.endpoints[0])
			defer c.close()
			for _, test := range []struct {
				method string
				arg    any
				code   int
				text   string
			}{
				{"Far.In", map[string]int{"n": 1}, 0, ""},
				{"Far.In", map[string]string{"n": "x"}, codeBadArgument, "the argument of Far.In does not fit its schema at /n: it is \"x\"; expected type integer"},
				{"Far.Out", []int{1}, 0, ""},
				{"Far.Out", []string{"x"}, codeInternal, "the result of Far.Out does not fit its schema at /0: it is \"x\"; expected type integer"},
				{"Far.Any", []string{"x"}, 0, ""},
				{"Far.None", struct{}{}, 0, ""},
				{"Far.None", 5, codeBadArgument, "the argument of Far.None does not fit its schema: it is 5; expected none"},
			} {
				err := ask(c, test.method, test.arg, nil)
				if test.code == 0 {
					must(t, err)
					continue
				}
				checkCode(t, test.method, err, test.code, test.text)
			}
		})
	}
	o.methods[0].Argument = schema{"$ref": "#"}
	if f := s.router.offer(o, o); f == nil || f.Code != codeBadArgument || !strings.Contains(f.Text, "the schema of the argument of Far.*: it refers to itself") {
		t.Errorf("a schema that goes round is answered with %v", f)
	}
}

// Whatever schema a provider declares: it is refused, or checks whatever comes, and says where that does not fit.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"properties":{"a":{"items":{"$ref":"#/$defs/b"}}},"$defs":{"b":{"type":["integer","null"],"minimum":1}}}`), []byte(`{"a":[1,null,"x"]}`))
	f.Add([]byte(`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"const":1}],"additionalItems":{"uniqueItems":true},"dependencies":{"a":["b"]}}`), []byte(`[1,[1,1]]`))
	f.Add([]byte(`{"patternProperties":{"^a":{"multipleOf":0}},"unevaluatedProperties":false,"if":{"required":["a"]},"then":{"maxProperties":1}}`), []byte(`{"a":1e400}`))
	l := defaultLimits()
	f.Fuzz(around(func(t *testing.T, schemaText, text []byte) {
		if checkJSON(schemaText, l) != nil || checkJSON(text, l) != nil {
			return
		}
		s, err := parseSchema(bytes.TrimSpace(schemaText))
		if err != nil {
			return
		}
		room := maxPatternSize
		c, err := newChecker(s, &room)
		if err != nil {
			return
		}
		if f := c.check(bytes.TrimSpace(text), codeBadArgument, "it"); f != nil && strings.Contains(f.Text, "cannot be checked") {
			t.Errorf("%s at %s: %v", text, schemaText, f)
		}
	}))
}

// What does not fit takes no more memory to say than a few times what it is, however deep it lies.
func TestLargeMisfitsTakeLittleMemory(t *testing.T) {
	for _, test := range []struct{ name, schema, text string }{
		{"a tree of texts", `{"$defs":{"t":{"anyOf":[{"type":"string"},{"type":"array","items":{"$ref":"#/$defs/t"}}]}},"$ref":"#/$defs/t"}`, strings.Repeat("[", 50) + `"` + strings.Repeat("a", 1<<20) + `",0` + strings.Repeat("]", 50)},
		{"a long text", `{"anyOf":[{"type":"integer"},{"enum":["a"]}]}`, `"` + strings.Repeat("a", 1<<20) + `"`},
		{"wide and deep", `{"$defs":{"t":{"oneOf":[{"type":"string"},{"type":"array","items":{"$ref":"#/$defs/t"}}]}},"$ref":"#/$defs/t"}`, strings.Repeat("[", 50) + strings.Repeat(`"a",`, 1<<16) + "5" + strings.Repeat("]", 50)},
	} {
		c, err := checkerFor(t, test.schema)
		must(t, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if f := c.check(document(test.text), codeBadArgument, "it"); f == nil || len(f.Text) > 1000 || !strings.Contains(f.Text, "does not fit") {
			t.Errorf("%s: %v", test.name, f)
		}
		runtime.ReadMemStats(&after)
		t.Logf("%s: %d bytes of %d", test.name, after.TotalAlloc-before.TotalAlloc, len(test.text))
		if took := after.TotalAlloc - before.TotalAlloc; took > 200<<20 {
			t.Errorf("%s: to say that %d bytes do not fit took %d", test.name, len(test.text), took)
		}
	}
}
