package main

// This file owns how much work a check may take. The validator cannot be interrupted, so what it would do is counted before
// it begins: a few definitions that refer to one another, each twice, hold one value against millions of schemas.

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

const (
	maxCheckedSchema = 1 << 20 // bytes of a schema
	maxCheckedParts  = 10_000  // schemas in it
	maxPointers      = 4 << 20 // bytes of the JSON Pointers to them
	maxVisits        = 1 << 12 // schemas for one and the same value
	maxPatternSize   = 1 << 18 // instructions of all patterns of a registration: seven characters have a thousand, of 40 bytes each

	checkSteps        = 1 << 21  // steps that the check of any document may take, each about as long as to look at a number,
	checkStepsPerByte = 4        // and more for each byte of it
	maxMisfitText     = 64 << 20 // bytes of the texts of errors that the validator may hold at a time
)

// A checkedPart is a part of a schema as the validator goes through it.
type checkedPart struct {
	here  []*checkedPart // for the value itself: what $ref leads to, and allOf
	tried []*checkedPart // for it as well, but it need not fit them
	anyOf []*checkedPart // and those of which the errors are kept until the last one

	types       []string
	own         int // steps of its own for any value
	ownCompound int // and for an array or an object, which are compared element by element
	ownText     int // bytes of the text of an error of its own
	pattern     int // instructions
	text        bool
	unique      bool

	members                  map[string]*checkedPart
	patterns                 []checkedPattern
	others, moreMembers      *checkedPart
	names                    *checkedPart
	closed                   bool // others is false
	prefix                   []*checkedPart
	items, contains, further *checkedPart

	visits int // of the validator for one value, or 0 before they are counted
}

// A checkedPattern is one of patternProperties.
type checkedPattern struct {
	re   *regexp.Regexp
	size int
	part *checkedPart
}

// partOf returns the part of a schema that a node is, with all that it leads to.
func (p *checkedParts) partOf(n *schemaNode, pointer string) (*checkedPart, error) {
	if known := p.parts[n]; known != nil {
		return known, nil
	}
	part := &checkedPart{own: 1, ownText: 64 + len(pointer)}
	p.parts[n] = part
	said, isObject := n.said.(map[string]any)
	if !isObject {
		part.own++ // false is what not allows nothing
		return part, nil
	}
	var err error
	in := func(n *schemaNode, step string) (inner *checkedPart) {
		if err == nil {
			inner, err = p.partOf(n, pointer+step)
		}
		return inner
	}
	if ref, ok := said["$ref"].(string); ok {
		part.here = append(part.here, in(p.referred(ref), "/$ref"))
	}
	for step, inner := range n.partsUnder(here) {
		switch keyword, _, _ := strings.Cut(step[1:], "/"); keyword {
		case "allOf":
			part.here = append(part.here, in(inner, step))
		case "anyOf":
			part.anyOf = append(part.anyOf, in(inner, step))
		default:
			part.tried = append(part.tried, in(inner, step))
		}
	}
	part.members = map[string]*checkedPart{}
	for step, inner := range n.partsUnder([]string{"properties"}) {
		part.members[unpointed(step)] = in(inner, step)
	}
	for step, inner := range n.partsUnder([]string{"patternProperties"}) {
		re, size, reason := p.compiled(unpointed(step))
		if reason != nil {
			return nil, fmt.Errorf("%s%s: %w", pointer, step, reason)
		}
		part.patterns = append(part.patterns, checkedPattern{re, size, in(inner, step)})
	}
	for key, to := range map[string]**checkedPart{"additionalProperties": &part.others, "unevaluatedProperties": &part.moreMembers, "propertyNames": &part.names, "contains": &part.contains} {
		if said[key] != nil {
			*to = in(n.at(key), "/"+key)
		}
	}
	part.closed = said["additionalProperties"] == false
	for _, key := range []string{"prefixItems", "items"} {
		for step, inner := range n.partsUnder([]string{key}) {
			if _, isList := said[key].([]any); isList {
				part.prefix = append(part.prefix, in(inner, step))
			}
		}
	}
	for key, to := range map[string]**checkedPart{"items": &part.items, "additionalItems": &part.items, "unevaluatedItems": &part.further} {
		if _, isList := said[key].([]any); !isList && said[key] != nil {
			*to = in(n.at(key), "/"+key)
		}
	}
	if err != nil {
		return nil, err
	}
	if pattern, ok := said["pattern"].(string); ok {
		if _, part.pattern, err = p.compiled(pattern); err != nil {
			return nil, fmt.Errorf("%s/pattern: %w", pointer, err)
		}
	}
	part.types = wordsOf(said["type"])
	part.text = part.pattern > 0 || said["minLength"] != nil || said["maxLength"] != nil
	part.unique = said["uniqueItems"] == true
	demands := []any{}
	if choices, ok := said["enum"].([]any); ok {
		demands = choices
	}
	if only, ok := said["const"]; ok {
		demands = append(slices.Clone(demands), only)
	}
	part.own += len(demands) / 8
	for _, v := range demands {
		size := schemaValueSize(v)
		if size.values > 1 {
			part.ownCompound += size.values
		}
		part.ownText += 2 * size.bytes
	}
	size := schemaValueSize(said["required"])
	for _, key := range []string{"dependentRequired", "dependencies"} { // schemas of the latter are counted twice
		more := schemaValueSize(said[key])
		size.values, size.bytes = size.values+more.values, size.bytes+more.bytes
	}
	part.ownCompound += (size.values + len(part.members)) / 4
	part.ownText += 4 * size.bytes
	for _, key := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} {
		if said[key] != nil {
			part.own, part.ownText = part.own+1, max(part.ownText, 800) // which a number may have digits
		}
	}
	return part, nil
}

// unpointed returns the name of the member that the last step of a JSON Pointer leads to.
func unpointed(pointer string) string {
	return pointerEscapes.Replace(pointer[strings.LastIndexByte(pointer, '/')+1:])
}

// compiled compiles a pattern and tells its size, unless those of a registration would be too large together.
func (p *checkedParts) compiled(pattern string) (re *regexp.Regexp, size int, err error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	size = patternSize(parsed)
	if *p.patternRoom -= size; *p.patternRoom < 0 {
		return nil, 0, fmt.Errorf("the patterns of the registration are too large together; expected fewer of them, or fewer repeats such as {1000}")
	}
	re, err = regexp.Compile(pattern)
	return re, size, err
}

// patternSize returns about how many instructions a pattern has once its repeats are written out.
func patternSize(re *syntax.Regexp) int {
	size := 1
	for _, sub := range re.Sub {
		size += patternSize(sub)
	}
	switch re.Op {
	case syntax.OpRepeat:
		size *= max(re.Min, re.Max, 1)
	case syntax.OpLiteral:
		size += len(re.Rune)
	case syntax.OpCharClass:
		size += len(re.Rune) / 8
	}
	return size
}

// A valueSize is how large a value of a schema is.
type valueSize struct{ values, bytes int }

func schemaValueSize(v any) valueSize {
	size := valueSize{1, 8}
	add := func(inner valueSize) { size.values, size.bytes = size.values+inner.values, size.bytes+inner.bytes }
	switch v := v.(type) {
	case nil:
		return valueSize{}
	case string:
		size.bytes += len(v)
	case json.Number:
		size.bytes += len(v)
	case []any:
		for _, e := range v {
			add(schemaValueSize(e))
		}
	case map[string]any:
		for name, e := range v {
			add(schemaValueSize(name))
			add(schemaValueSize(e))
		}
	}
	return size
}

var errBroad = fmt.Errorf("it makes one value fit more than %d of its parts; expected fewer alternatives and references that lead to the same one", maxVisits)

// countVisits counts how many schemas the validator holds one value against that is held against this one. It has no end
// for a schema of which stepsFrom has not said that there is one.
func (p *checkedPart) countVisits() int {
	if p.visits == 0 {
		p.visits = 1
		for _, part := range slices.Concat(p.here, p.tried, p.anyOf) {
			p.visits = min(p.visits+part.countVisits(), maxVisits+1)
		}
	}
	return p.visits
}

// An effort counts the steps of a check.
type effort struct {
	left  int
	tries int // places on the way here where the validator goes on if the value does not fit
}

// effortFor is what the check of a document of a size may take.
func effortFor(size int) *effort { return &effort{left: checkSteps + checkStepsPerByte*size} }

var errEffort = errors.New("by its schema that would take too long; send less of it, or register a schema with fewer alternatives, patterns and references that lead to the same one")

// visit counts what it takes to hold a value against a part, at most. It returns how long the text of an error may be, and how
// much of such texts is held at a time: anyOf keeps those of all its parts. The count ends when there is nothing left.
func (e *effort) visit(p *checkedPart, v any) (text, held int) {
	if e.left -= p.own; e.left < 0 {
		return 0, 0
	}
	text = p.ownText
	with := func(part *checkedPart, v any) {
		if e.left >= 0 {
			t, h := e.visit(part, v)
			text, held = max(text, t+p.ownText), max(held, h)
		}
	}
	for _, part := range p.here { // $ref comes before type
		with(part, v)
	}
	if p.fitsType(v) {
		e.tries++
		for _, part := range p.tried {
			with(part, v)
		}
		texts, helds := 0, 0
		for _, part := range p.anyOf {
			if e.left >= 0 {
				t, h := e.visit(part, v)
				texts, helds = texts+t+32, helds+h
			}
		}
		text, held = max(text, texts+p.ownText), max(held, helds)
		e.tries--
		switch v := v.(type) {
		case terseText:
			e.left -= p.pattern * len(v) / 256
			if p.text {
				text = max(text, p.ownText+4*len(v))
			}
		case string: // a name, of which an error leaves nothing out
			e.left -= p.pattern * len(v) / 256
			text = max(text, p.ownText+4*len(v))
		case terseList:
			e.list(p, v, with)
		case terseObject:
			text = max(text, e.object(p, v, with)+p.ownText)
		}
	}
	if held += text; held > maxMisfitText {
		e.left = -1
		return 0, 0
	}
	if e.tries > 0 {
		e.left -= text / 256
	}
	return text, held
}

// list counts the elements of an array.
func (e *effort) list(p *checkedPart, v terseList, with func(*checkedPart, any)) {
	e.left -= p.ownCompound
	if p.contains != nil || p.further != nil || len(p.here)+len(p.tried)+len(p.anyOf) > 0 { // what has been looked at is remembered
		e.left -= len(v) / 4
	}
	if p.unique {
		for _, element := range v {
			e.measure(element)
		}
	}
	for i, element := range v {
		if e.left < 0 {
			return
		}
		if i < len(p.prefix) {
			with(p.prefix[i], element)
		} else if p.items != nil {
			with(p.items, element)
		}
		if p.contains != nil {
			e.tries++
			with(p.contains, element)
			e.tries--
		}
		if p.further != nil {
			with(p.further, element)
		}
	}
}

// object counts the members of an object, and returns how long the names are in the text of an error.
func (e *effort) object(p *checkedPart, v terseObject, with func(*checkedPart, any)) (text int) {
	e.left -= p.ownCompound + len(v)/4
	for name, value := range v {
		if e.left < 0 {
			return
		}
		text += 4 * len(name)
		named := false
		if part := p.members[name]; part != nil {
			named = true
			with(part, value)
		}
		for _, pattern := range p.patterns {
			if e.left -= 1 + pattern.size*len(name)/256; e.left < 0 {
				return
			}
			if pattern.re.MatchString(name) {
				named = true
				with(pattern.part, value)
			}
		}
		if !named && p.others != nil {
			with(p.others, value)
		}
		if p.moreMembers != nil {
			with(p.moreMembers, value)
		}
		if p.names != nil {
			with(p.names, name)
		}
	}
	if !p.closed {
		text = 0
	}
	return text
}

// measure counts the values in v.
func (e *effort) measure(v any) {
	if e.left--; e.left < 0 {
		return
	}
	switch v := v.(type) {
	case terseText:
		e.left -= len(v) / 256
	case terseList:
		for _, element := range v {
			e.measure(element)
		}
	case terseObject:
		for name, element := range v {
			e.left -= 1 + len(name)/256
			e.measure(element)
		}
	}
}

// fitsType reports whether a value has a type that is allowed: of another one no more is looked at.
func (p *checkedPart) fitsType(v any) bool {
	if len(p.types) == 0 {
		return true
	}
	for _, name := range p.types {
		switch v.(type) {
		case nil:
			if name == "null" {
				return true
			}
		case bool:
			if name == "boolean" {
				return true
			}
		case string, terseText:
			if name == "string" {
				return true
			}
		case terseList:
			if name == "array" {
				return true
			}
		case terseObject:
			if name == "object" {
				return true
			}
		default:
			if name == "integer" || name == "number" {
				return true
			}
		}
	}
	return false
}

// matcher returns what tells whether a name matches a pattern of patternProperties.
func (p *checkedParts) matcher() func(pattern, name string) bool {
	known := map[string]*regexp.Regexp{}
	for part := range maps.Values(p.parts) {
		for _, pattern := range part.patterns {
			known[pattern.re.String()] = pattern.re
		}
	}
	return func(pattern, name string) bool {
		re := known[pattern]
		return re != nil && re.MatchString(name)
	}
}
