package main

// This file owns what the commands make of a JSON Schema: the lines that describe prints of it, the form in which an
// argument is typed, and the value that a typed text has there. The schema is what the daemon says, and may come from
// any program: what makes no sense allows anything.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// A shape is a place in a JSON Schema. The zero value allows anything.
type shape struct {
	at   map[string]any
	root map[string]any // what its references lead into
	name string         // of the definition, if a reference led here
	null bool           // null is allowed, besides what at says
}

// maxRefs bounds how many references lead to one place: a schema may go round in a circle.
const maxRefs = 16

// wholeShape stands for the name of a schema that refers to itself as a whole.
const wholeShape = "itself"

// shapeOf returns the shape of a whole schema.
func shapeOf(s schema) shape { return shape{root: s}.to(map[string]any(s)) }

// to returns the shape of v, a part of the same schema, with its references and its alternatives to null resolved.
func (s shape) to(v any) shape {
	s = shape{root: s.root}
	for range maxRefs {
		at, isObject := v.(map[string]any)
		if !isObject {
			return shape{null: true} // true, false, or nothing that is a schema
		}
		s.at = at
		if ref, ok := at["$ref"].(string); ok {
			s.name = ref[strings.LastIndexByte(ref, '/')+1:]
			if name, err := url.PathUnescape(s.name); err == nil {
				s.name = name
			}
			switch {
			case ref == "#":
				s.name = wholeShape
			case s.name == "":
				s.name = ref
			}
			v = s.referred(ref)
			continue
		}
		var others []any
		for _, key := range []string{"anyOf", "oneOf"} {
			list, _ := at[key].([]any)
			for _, choice := range list {
				if c, ok := choice.(map[string]any); ok && c["type"] == "null" {
					s.null = true
					continue
				}
				others = append(others, choice)
			}
		}
		if len(others) != 1 {
			break
		}
		v = others[0]
	}
	if s.at["$ref"] != nil { // a circle
		return shape{null: true}
	}
	s.null = s.null || slices.Contains(wordsOf(s.at["type"]), "null") || len(s.types()) == 0
	return s
}

// referred returns what a reference within the schema leads to: a JSON Pointer (RFC 6901) as a fragment.
func (s shape) referred(ref string) any {
	path, local := strings.CutPrefix(ref, "#")
	if !local {
		return nil
	}
	var v any = s.root
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if path == "" {
			break
		}
		if text, err := url.PathUnescape(part); err == nil {
			part = text
		}
		object, _ := v.(map[string]any)
		v = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	return v
}

// types lists the types that are allowed besides null, each once; none means any.
func (s shape) types() (types []string) {
	for _, word := range wordsOf(s.at["type"]) {
		if word != "null" && !slices.Contains(types, word) {
			types = append(types, word)
		}
	}
	return types
}

// isOnly reports whether nothing but this type is allowed, or null.
func (s shape) isOnly(name string) bool { return slices.Equal(s.types(), []string{name}) }

// A shapeMember is a member of an object.
type shapeMember struct {
	name     string
	required bool
	shape
}

// members lists the members that have a name: the required ones in the order of the schema, then the others in that of
// the alphabet.
func (s shape) members() []shapeMember {
	properties, _ := s.at["properties"].(map[string]any)
	var names []string
	required := map[string]bool{}
	for _, name := range wordsOf(s.at["required"]) {
		if _, known := properties[name]; known && !required[name] {
			required[name] = true
			names = append(names, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if !required[name] {
			names = append(names, name)
		}
	}
	list := make([]shapeMember, len(names))
	for i, name := range names {
		list[i] = shapeMember{name: name, required: required[name], shape: s.to(properties[name])}
	}
	return list
}

// others returns the shape of members that have no name in the schema, if there may be such.
func (s shape) others() (shape, bool) {
	v, said := s.at["additionalProperties"]
	if _, isObject := v.(map[string]any); isObject || v == true {
		return s.to(v), true
	}
	_, named := s.at["properties"]
	return shape{null: true}, len(s.types()) == 0 || !said && !named
}

// element returns the shape of the elements of an array.
func (s shape) element() shape { return s.to(s.at["items"]) }

// title names the shape in few words: string, Task, integer[], map of string.
func (s shape) title() string { return s.titleBeside(map[string]bool{wholeShape: true}) }

// titleBeside is the title in one in which these definitions are explained: they may contain themselves.
func (s shape) titleBeside(explained map[string]bool) string {
	if s.name != "" && (len(s.members()) > 0 || explained[s.name]) {
		return s.name
	}
	if len(explained) > maxNested {
		return cmp.Or(s.name, "any") // nobody reads more, and one definition may lead to thousands
	}
	explained[s.name] = true
	types := s.types()
	for i, t := range types {
		switch t {
		case "array":
			types[i] = s.element().titleBeside(explained) + "[]"
		case "object":
			if values, ok := s.others(); ok && len(s.members()) == 0 {
				types[i] = "map of " + values.titleBeside(explained)
			}
		}
	}
	if len(types) == 0 {
		return "any"
	}
	return strings.Join(types, " or ")
}

// wholeRanges are the ranges that numbers of so many bits have.
var wholeRanges = map[[2]string]string{
	{"-128", "127"}: "8 bits", {"-32768", "32767"}: "16 bits", {"-2147483648", "2147483647"}: "32 bits",
	{"-9223372036854775808", "9223372036854775807"}: "64 bits",
	{"0", "255"}: "8 bits, unsigned", {"0", "65535"}: "16 bits, unsigned", {"0", "4294967295"}: "32 bits, unsigned",
	{"0", "18446744073709551615"}:  "64 bits, unsigned",
	{"-" + float32End, float32End}: "32 bits",
}

// details says what else is demanded of a value: its format, its range, its length.
func (s shape) details() string {
	var list []string
	for _, key := range []string{"format", "contentEncoding"} {
		if word, ok := s.at[key].(string); ok {
			list = append(list, word)
		}
	}
	for i, of := range [][3]string{{"minimum", "maximum"}, {"exclusiveMinimum", "exclusiveMaximum", ", exclusive"},
		{"minLength", "maxLength", " characters"}, {"minItems", "maxItems", " elements"}, {"minProperties", "maxProperties", " members"}} {
		low, high := literal(s.at[of[0]]), literal(s.at[of[1]])
		if bits := wholeRanges[[2]string{low, high}]; bits != "" && i < 2 {
			list = append(list, bits)
		} else if text := span(low, high, of[2]); text != "" {
			list = append(list, text)
		}
	}
	if pattern, ok := s.at["pattern"].(string); ok {
		list = append(list, "matches "+pattern)
	}
	if words, ok := s.at["enum"].([]any); ok {
		choices := make([]string, len(words))
		for i, word := range words {
			choices[i] = literal(word)
		}
		list = append(list, "one of "+strings.Join(choices, " "))
	}
	if word, ok := s.at["const"]; ok {
		list = append(list, "always "+literal(word))
	}
	if word, ok := s.at["default"]; ok && word != nil {
		list = append(list, "default "+literal(word))
	}
	if s.isOnly("array") {
		if inner := s.element(); inner.name == "" && len(inner.members()) == 0 { // a definition may contain itself
			if text := inner.details(); text != "" {
				list = append(list, "each "+text)
			}
		}
	}
	return strings.Join(list, ", ")
}

// span says from where to where something may be.
func span(low, high, unit string) string {
	switch {
	case low == "" && high == "":
		return ""
	case high == "":
		return "at least " + low + unit
	case low == "":
		return "at most " + high + unit
	case low == high:
		return low + unit
	}
	return low + " to " + high + unit
}

// literal is a value of a schema as a person types it; nothing for nil.
func literal(v any) string {
	if v == nil {
		return ""
	}
	if text, ok := v.(string); ok {
		return text
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "" // it came as JSON: cannot be
	}
	return string(b)
}

// full is the title, and what else is demanded of a value.
func (s shape) full() string {
	text := s.title()
	if s.null && len(s.types()) > 0 {
		text += " or null"
	}
	if more := s.details(); more != "" {
		text += " (" + more + ")"
	}
	return text
}

// maxNested is how many levels of members are shown.
const maxNested = 16

// show writes a row for each member, and below it those of the members. A definition is shown once, and is a name after
// that: it may contain itself.
func (s shape) show(t io.Writer, indent string, shown map[string]bool) {
	inner := s.innermost()
	if inner.name != "" && shown[inner.name] || len(indent) > 2*maxNested {
		return
	}
	shown[inner.name] = true
	for _, m := range inner.members() {
		must := "optional"
		if m.required {
			must = "required"
		}
		text := m.full()
		if about, ok := m.at["description"].(string); ok {
			text += ": " + about
		}
		fmt.Fprintf(t, "%s%s\t%s\t%s\n", indent, oneLine(m.name), must, oneLine(text))
		m.show(t, indent+"  ", shown)
	}
}

// innermost returns what lists and maps of the shape hold in the end.
func (s shape) innermost() shape {
	for range maxNested {
		values, isMap := s.others()
		switch {
		case s.isOnly("array"):
			s = s.element()
		case s.isOnly("object") && isMap && len(s.members()) == 0:
			s = values
		default:
			return s
		}
	}
	return s
}

// isText reports whether any text is a value of the shape.
func (s shape) isText() bool { return len(s.types()) == 0 || slices.Contains(s.types(), "string") }

// typed returns the value that a typed text stands for: itself, where the shape has texts, and otherwise the JSON that it
// is. It returns nil if the shape has no such value.
func (s shape) typed(text string, l limits) json.RawMessage {
	if s.isText() {
		return appendJSONString(nil, text)
	}
	value := strings.TrimSpace(text)
	if value == "" || checkJSON([]byte(value), l) != nil {
		return nil
	}
	ok := false
	switch value[0] {
	case '{':
		ok = slices.Contains(s.types(), "object")
	case '[':
		ok = slices.Contains(s.types(), "array")
	case 't', 'f':
		ok = slices.Contains(s.types(), "boolean")
	case 'n':
		ok = s.null
	case '"':
	default: // whether 1.0 is an integer is for the daemon to say
		ok = slices.Contains(s.types(), "integer") || slices.Contains(s.types(), "number")
	}
	if !ok {
		return nil
	}
	return json.RawMessage(value)
}

// placeholders stand for a value of each type where one is to be typed.
var placeholders = map[string]string{"string": "TEXT", "integer": "INTEGER", "number": "NUMBER", "boolean": "true", "array": "'[...]'", "object": "'{...}'"}

func (s shape) placeholder() string {
	if s.isText() {
		return placeholders["string"]
	}
	if word := placeholders[s.types()[0]]; word != "" {
		return word
	}
	return "JSON"
}

// sign stands between the name of a member and its value: := before JSON. A number may follow = as well, but then the
// daemon has to be asked.
func (s shape) sign() string {
	if s.isText() {
		return "="
	}
	return ":="
}

// form is how an argument of the shape is typed; what may be left out is in brackets.
func (s shape) form() string {
	var words []string
	for _, m := range s.members() {
		word := joinWords([]string{m.name}) + m.sign() + m.placeholder()
		if !m.required {
			word = "[" + word + "]"
		}
		words = append(words, word)
	}
	_, others := s.others()
	switch {
	case len(words) > 0:
		return strings.Join(words, " ")
	case s.isOnly("object") && others:
		return "key=TEXT ..."
	case s.isText():
		return placeholders["string"]
	}
	return "--arg " + s.placeholder()
}
