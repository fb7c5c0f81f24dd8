package main

// This file owns the example of a call: a value that a JSON Schema allows, and the words in which a person types it.
// Where a schema demands what is not understood here, there is no example, and the form of the call is shown instead.

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// example returns a line that calls the method and can be pasted into a shell. It returns what the line is: an example,
// or the form of the call, where what is in capitals stands for something.
func (f *clientFlags) example(d *Description) (what, line string) {
	call := []string{joinWords([]string{d.Method})} // which is what a daemon says, and may be no name
	if d.Part != nil {                              // which are seen no other way
		call = append([]string{"--stream"}, call...)
	}
	if d.Argument == nil {
		return "example", f.line("call", call...)
	}
	s := shapeOf(d.Argument)
	if words := s.exampleWords(); words != nil {
		return "example", f.line("call", append(call, joinWords(words))...)
	}
	return "form", f.line("call", append(call, s.form())...)
}

// takesAnything reports whether the description says nothing of the argument but that there is one.
func (d *Description) takesAnything() bool {
	if d.Argument == nil || d.Part != nil {
		return false
	}
	s := shapeOf(d.Argument)
	return s.title() == "any" && len(s.at) == 0
}

// exampleWords returns how an argument of the shape may be typed, or nil if there is no example. They mean the same whether the
// daemon is asked what the method takes or not.
func (s shape) exampleWords() []string {
	var words []string
	value := s.sample(0, newSampling())
	switch {
	case value == nil:
		return nil
	case value[0] == '{' && (len(s.types()) == 0 || s.isOnly("object")):
		words = s.memberWords(value)
	case value[0] == '"':
		text, _ := textOf(value)
		if words = []string{text}; text == "" || strings.ContainsAny(text[:1], "-@") || strings.Contains(text, "=") {
			words = []string{"--text", text}
		}
	}
	if words == nil || strings.ContainsFunc(strings.Join(words, ""), isControl) { // which JSON can be typed without
		return []string{"--arg", oneLine(string(value))}
	}
	return words
}

// memberWords returns how the members of an object may be typed, or nil if they cannot be.
func (s shape) memberWords(object json.RawMessage) (words []string) {
	var values map[string]json.RawMessage
	if json.Unmarshal(object, &values) != nil {
		return nil
	}
	members := s.members()
	others, open := s.others()
	named := len(members)
	known := map[string]bool{}
	for _, m := range members {
		known[m.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			members = append(members, shapeMember{name: name, shape: others})
		}
	}
	for i, m := range members {
		value, there := values[m.name]
		if !there {
			continue
		}
		text, isText := textOf(value)
		switch {
		case m.name == "" || strings.ContainsAny(m.name[:1], "-@") || strings.Contains(m.name, "=") || strings.HasSuffix(m.name, ":"):
			return nil
		case isText && m.isText() && (i < named || open): // a text is refused where the schema names no such member
			words = append(words, m.name+"="+text)
		default:
			words = append(words, m.name+":="+string(value))
		}
	}
	return words
}

// textOf returns the text of a string of JSON.
func textOf(value json.RawMessage) (text string, ok bool) {
	return text, value[0] == '"' && json.Unmarshal(value, &text) == nil
}

// beyondSamples are what a schema may demand that no sample is made for.
var beyondSamples = []string{"allOf", "not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef"}

// A sampling is the search for one sample. Some definitions that refer to one another, each several times, have more values
// than could be looked at.
type sampling struct{ left int }

// maxSampling is how many values and members are looked at for a sample, and bytes of them taken.
const maxSampling = 1 << 16

func newSampling() *sampling { return &sampling{maxSampling} }

// spend reports whether there is anything left to spend n of.
func (g *sampling) spend(n int) bool {
	if g.left <= 0 {
		return false
	}
	g.left -= n
	return true
}

// sample returns a value that the shape allows, or nil if none is found. What the schema gives as an example of itself comes first.
func (s shape) sample(depth int, g *sampling) json.RawMessage {
	if !g.spend(1) {
		return nil
	}
	for _, key := range []string{"examples", "default", "const", "enum"} {
		v, said := s.at[key]
		if list, isList := v.([]any); isList && key != "default" && key != "const" {
			if said = len(list) > 0; said {
				v = list[0]
			}
		}
		if said && (v != nil || key != "default") { // where null is the default, none is taken
			if b, err := appendBody(nil, v); err == nil {
				g.spend(len(b))
				return b
			}
		}
	}
	if depth > maxNested || slices.ContainsFunc(beyondSamples, func(key string) bool { return s.at[key] != nil }) {
		return nil
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if choices, ok := s.at[key].([]any); ok {
			return s.sampleOf(choices, depth, g)
		}
	}
	switch kind := s.sampleKind(); kind {
	case "null":
		return json.RawMessage("null")
	case "boolean":
		return json.RawMessage("true")
	case "integer", "number":
		return s.sampleNumber(kind == "integer")
	case "array":
		return s.sampleArray(depth, g)
	case "object":
		return s.sampleObject(depth, g)
	}
	return s.sampleText(g)
}

// sampleOf returns a value of the first choice that has one. What is demanded besides is not known of that one.
func (s shape) sampleOf(choices []any, depth int, g *sampling) json.RawMessage {
	for key := range s.at {
		if !slices.Contains([]string{"anyOf", "oneOf", "$defs", "definitions", "title", "description", "type"}, key) {
			return nil
		}
	}
	for _, choice := range choices {
		if value := s.to(choice).sample(depth+1, g); value != nil {
			return value
		}
	}
	return nil
}

// sampleKind returns the type of a sample: the first that is allowed, or else the one of which something is demanded.
func (s shape) sampleKind() string {
	if types := wordsOf(s.at["type"]); len(types) > 0 {
		return append(s.types(), "null")[0]
	}
	for _, of := range [][]string{
		{"object", "properties", "required", "additionalProperties", "propertyNames", "minProperties"},
		{"array", "items", "prefixItems", "minItems"},
		{"number", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
	} {
		if slices.ContainsFunc(of[1:], func(key string) bool { return s.at[key] != nil }) {
			return of[0]
		}
	}
	return "string"
}

// number returns a number that is demanded, or what stands for none.
func (s shape) number(key string, none float64) float64 {
	n, err := strconv.ParseFloat(literal(s.at[key]), 64)
	if err != nil {
		return none
	}
	return n
}

func (s shape) sampleNumber(integer bool) json.RawMessage {
	low, high := s.number("minimum", math.Inf(-1)), s.number("maximum", math.Inf(1))
	above, below := s.number("exclusiveMinimum", math.Inf(-1)), s.number("exclusiveMaximum", math.Inf(1))
	step := s.number("multipleOf", 0)
	least, most := max(low, above), min(high, below)
	candidates := []string{"1", literal(s.at["minimum"]), literal(s.at["maximum"]), "0"}
	for _, n := range []float64{math.Floor(least) + 1, math.Ceil(most) - 1, (least + most) / 2, step, step * math.Ceil(least/step), step * (math.Floor(least/step) + 1), step * math.Floor(most/step)} {
		candidates = append(candidates, strconv.FormatFloat(n, 'f', -1, 64))
	}
	for _, text := range candidates {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(n, 0) || math.IsNaN(n) || integer && n != math.Trunc(n) {
			continue
		}
		if n >= low && n <= high && n > above && n < below && (step == 0 || math.Mod(n, step) == 0) {
			return json.RawMessage(text)
		}
	}
	return nil
}

// sampleFormats are texts of the formats of JSON Schema (draft 2020-12, validation, section 7.3).
var sampleFormats = map[string]string{
	"date-time": "2030-01-02T03:04:05Z", "date": "2030-01-02", "time": "03:04:05Z", "duration": "PT1H",
	"email": "ada@example.com", "idn-email": "ada@example.com", "hostname": "example.com", "idn-hostname": "example.com", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
	"uri": "https://example.com/", "iri": "https://example.com/", "uri-reference": "/a", "iri-reference": "/a", "uri-template": "/a",
	"uuid": "123e4567-e89b-12d3-a456-426614174000", "json-pointer": "/a", "relative-json-pointer": "0", "regex": "a",
}

func (s shape) sampleText(g *sampling) json.RawMessage {
	format, _ := s.at["format"].(string)
	pattern, _ := s.at["pattern"].(string)
	text, fixed := sampleFormats[format]
	least, most := s.number("minLength", 0), s.number("maxLength", math.Inf(1))
	if len(pattern) > maxSamplePattern || !g.spend(len(pattern)) {
		return nil
	}
	switch {
	case s.at["contentEncoding"] == "base64":
		text, fixed = "aGVsbG8=", true
	case pattern != "":
		text, fixed = textThatMatches(pattern), true
	case !fixed:
		text = "hello"
		for float64(len(text)) < min(least, maxSampleText) {
			text += "hello"
		}
		text = text[:int(min(max(least, 5), most, float64(len(text))))]
	}
	matches := true
	if pattern != "" {
		re, err := regexp.Compile(pattern)
		matches = err == nil && re.MatchString(text)
	}
	if n := float64(len([]rune(text))); !matches || n < least || n > most {
		return nil
	}
	return appendJSONString(nil, text)
}

const (
	maxSampleText    = 1 << 10 // bytes; nobody reads a longer one
	maxSamplePattern = 1 << 12 // bytes
)

// textThatMatches returns a short text that a pattern probably matches.
func textThatMatches(pattern string) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	return matchOf(re.Simplify())
}

func matchOf(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "a"
	case syntax.OpCharClass:
		for _, r := range "aA01-._ " { // what is easy to read, if there is such
			for i := 0; i < len(re.Rune); i += 2 {
				if re.Rune[i] <= r && r <= re.Rune[i+1] {
					return string(r)
				}
			}
		}
		if len(re.Rune) > 0 {
			return string(re.Rune[0])
		}
	case syntax.OpCapture, syntax.OpPlus, syntax.OpAlternate:
		return matchOf(re.Sub[0])
	case syntax.OpConcat:
		text := ""
		for _, sub := range re.Sub {
			if text += matchOf(sub); len(text) > maxSampleText {
				return "" // it would have no end: repeats are written out here
			}
		}
		return text
	}
	return "" // what may be left out, and what has no width
}

func (s shape) sampleArray(depth int, g *sampling) json.RawMessage {
	least, most := int(min(s.number("minItems", 0), maxSampleText)), s.number("maxItems", math.Inf(1))
	first, _ := s.at["prefixItems"].([]any)
	n := max(least, len(first))
	if n == 0 && most > 0 {
		n = 1
	}
	list := []byte{'['}
	for i := range n {
		element := s.element()
		if i < len(first) {
			element = s.to(first[i])
		}
		value := element.sample(depth+1, g)
		if value == nil || i > 0 && s.at["uniqueItems"] == true {
			if i >= least {
				break
			}
			return nil
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, value...)
	}
	return append(list, ']')
}

// A sampleMember is a member of a sample.
type sampleMember struct {
	shapeMember
	value json.RawMessage
}

// sampleMembers returns the members of a sample: those that are required or, where none is, all that have a value. Below
// the top these are only such as have no members and elements of their own, which could go on for ever. It returns nil if there is no sample.
func (s shape) sampleMembers(depth int, g *sampling) []sampleMember {
	members := s.members()
	if !g.spend(len(members)) {
		return nil
	}
	others, open := s.others()
	required := wordsOf(s.at["required"])
	there := map[string]bool{}
	for _, m := range members {
		there[m.name] = true
	}
	for _, name := range required {
		if !there[name] {
			if s.at["additionalProperties"] == false {
				return nil
			}
			there[name] = true
			members = append(members, shapeMember{name: name, required: true, shape: others})
		}
	}
	if len(members) == 0 && open && (s.at["additionalProperties"] != nil || s.at["minProperties"] != nil) {
		name := "key"
		if names, said := s.at["propertyNames"]; said {
			json.Unmarshal(s.to(names).sampleText(g), &name) // where there is none, it stays
		}
		members = append(members, shapeMember{name: name, shape: others})
	}
	list := []sampleMember{}
	for _, m := range members {
		if kind := m.sampleKind(); !m.required && (len(required) > 0 || depth > 0 && (kind == "object" || kind == "array")) {
			continue
		}
		value := m.sample(depth+1, g)
		if value == nil && m.required {
			return nil
		}
		if value != nil {
			list = append(list, sampleMember{m, value})
		}
	}
	if n := float64(len(list)); n < s.number("minProperties", 0) || n > s.number("maxProperties", math.Inf(1)) {
		return nil
	}
	return list
}

func (s shape) sampleObject(depth int, g *sampling) json.RawMessage {
	members := s.sampleMembers(depth, g)
	if members == nil {
		return nil
	}
	object := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(append(appendJSONString(object, m.name), ':'), m.value...)
	}
	return append(object, '}')
}
