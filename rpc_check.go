package main

// This file owns the check of arguments and results by their schemas, for offers that ask for it. The validator is
// github.com/google/jsonschema-go, which looks at no other file. It says which part of the schema a value does not fit, not
// which part of the value; that is found here.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
)

// methodChecks check the calls of a method.
type methodChecks struct {
	argument, result *checker
	misfit           func(method string, f *fault) // is told of results that do not fit; may be nil
}

// newMethodChecks compiles the schemas of a method, or says what is wrong with them. Their patterns may take what room is left.
func newMethodChecks(d *Description, patternRoom *int) (*methodChecks, *fault) {
	m := &methodChecks{}
	argument := d.Argument
	if argument == nil { // libraries that always send something send an empty object
		argument = schema{"type": []any{"null", "object"}, "maxProperties": 0}
	}
	for _, c := range []struct {
		name string
		s    schema
		to   **checker
	}{{"argument", argument, &m.argument}, {"result", d.Result, &m.result}} {
		var err error
		if *c.to, err = newChecker(c.s, patternRoom); err != nil {
			return nil, faultf(codeBadArgument, "the schema of the %s of %s: %w", c.name, d.Method, err)
		}
	}
	m.argument.none = d.Argument == nil
	return m, nil
}

// A checker checks documents by one schema.
type checker struct {
	mu     sync.Mutex // guards root, whose parts are made as they are looked at
	root   *schemaNode
	whole  *jsonschema.Resolved
	parts  map[string]*checkedPart         // by JSON Pointer
	match  func(pattern, name string) bool // for patternProperties
	placed func() *jsonschema.Resolved     // has each part of the schema under its JSON Pointer; see fits
	none   bool                            // the schema stands for no value
}

// partsOf are the keywords that have schemas in them: one, a list, or an object of several.
var partsOf = []string{"properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties", "dependentSchemas", "dependencies",
	"items", "prefixItems", "additionalItems", "contains", "unevaluatedItems", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$defs", "definitions"}

// namedParts are those of them that have an object of several.
var namedParts = []string{"properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"}

// here are those of them whose schemas are for the value itself, not for what is in it.
var here = []string{"dependentSchemas", "dependencies", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"}

// newChecker compiles a schema; nil allows null alone. A reference that leads out of the schema is an error: nothing is fetched.
func newChecker(s schema, patternRoom *int) (c *checker, err error) {
	defer func() {
		if p := recover(); p != nil { // in the validator
			err = fmt.Errorf("it cannot be used: %v", p)
		}
	}()
	if s == nil {
		s = schema{"type": "null"}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if len(text) > maxCheckedSchema {
		return nil, fmt.Errorf("it has %d bytes; expected at most %d where calls are checked", len(text), maxCheckedSchema)
	}
	c = &checker{root: &schemaNode{said: map[string]any(s)}, parts: map[string]*checkedPart{}}
	seen := checkedParts{root: c.root, steps: map[*schemaNode]int{}, parts: map[*schemaNode]*checkedPart{}, patternRoom: patternRoom}
	if err := seen.add("", c.root); err != nil {
		return nil, err
	}
	for _, n := range seen.nodes {
		if _, err := seen.stepsFrom(n, 0); err != nil {
			return nil, err
		}
	}
	for i, n := range seen.nodes {
		part, err := seen.partOf(n, seen.pointers[i])
		if err != nil {
			return nil, err
		}
		if c.parts[seen.pointers[i]] = part; part.countVisits() > maxVisits {
			return nil, errBroad
		}
	}
	c.match = seen.matcher()
	var parsed jsonschema.Schema
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, plainReason(err)
	}
	if c.whole, err = parsed.Resolve(nil); err != nil {
		return nil, plainReason(err)
	}
	if err := c.whole.Validate(nil); err != nil && strings.HasPrefix(err.Error(), "cannot validate version") {
		return nil, fmt.Errorf("$schema is %q; expected draft 2020-12 or draft-07", shorten(parsed.Schema, 100))
	}
	c.placed = sync.OnceValue(func() *jsonschema.Resolved { return placeParts(text, seen.pointers) })
	return c, nil
}

// plainReason returns the innermost of the errors of the validator, on one line.
func plainReason(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "jsonschema: "), "\n")
	return errors.New(shorten(text, 300))
}

var jsonTypes = []string{"array", "boolean", "integer", "null", "number", "object", "string"}

// wordsOf returns the strings of v, which is one or a list.
func wordsOf(v any) (words []string) {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, e := range list {
		if word, ok := e.(string); ok {
			words = append(words, word)
		}
	}
	return words
}

// checkedParts are the parts of a schema that are schemas themselves.
type checkedParts struct {
	root     *schemaNode
	nodes    []*schemaNode
	pointers []string
	steps    map[*schemaNode]int
	parts    map[*schemaNode]*checkedPart

	pointerBytes int
	patternRoom  *int // instructions that patterns may still have
}

// add adds n and what is in it. A schema that names itself, and other references than JSON Pointers, could lead anywhere.
func (p *checkedParts) add(pointer string, n *schemaNode) error {
	said, isObject := n.said.(map[string]any)
	if !isObject {
		return nil // true, false, or for the validator to refuse
	}
	p.nodes, p.pointers = append(p.nodes, n), append(p.pointers, pointer)
	if p.pointerBytes += len(pointer); len(p.nodes) > maxCheckedParts || p.pointerBytes > maxPointers {
		return fmt.Errorf("it has more than %d parts, or such that lie too deep; expected fewer where calls are checked", maxCheckedParts)
	}
	if ref, is := said["$ref"]; is {
		text, _ := ref.(string)
		if target := p.referred(text); target == nil {
			return fmt.Errorf("%s/$ref is %q; expected a JSON Pointer to a part of this schema, such as #/$defs/name", pointer, shorten(fmt.Sprint(ref), 100))
		}
	}
	for _, name := range wordsOf(said["type"]) {
		if !slices.Contains(jsonTypes, name) {
			return fmt.Errorf("%s/type is %q; expected one of %s", pointer, shorten(name, 40), strings.Join(jsonTypes, ", "))
		}
	}
	for _, key := range []string{"$dynamicRef", "$recursiveRef"} {
		if said[key] != nil {
			return fmt.Errorf("%s/%s is not supported; expected $ref", pointer, key)
		}
	}
	if pointer != "" && said["$id"] != nil {
		return fmt.Errorf("%s/$id is not supported: a part of a schema cannot be one of its own", pointer)
	}
	for key, part := range n.partsUnder(partsOf) {
		if err := p.add(pointer+key, part); err != nil {
			return err
		}
	}
	return nil
}

// referred returns what a reference leads to, or nil if that is not there.
func (p *checkedParts) referred(ref string) *schemaNode {
	n := (&formReader{root: p.root}).referred(ref)
	if n == nil || n.said == nil {
		return nil
	}
	return n
}

// partsUnder yields the schemas under some keywords, each with its JSON Pointer from n.
func (n *schemaNode) partsUnder(keywords []string) func(yield func(string, *schemaNode) bool) {
	return func(yield func(string, *schemaNode) bool) {
		for _, key := range keywords {
			part := n.at(key)
			switch said := part.said.(type) {
			case []any:
				for i := range said {
					if at := strconv.Itoa(i); !yield("/"+key+"/"+at, part.at(at)) {
						return
					}
				}
			case map[string]any:
				if !slices.Contains(namedParts, key) {
					if !yield("/"+key, part) {
						return
					}
					continue
				}
				for _, name := range slices.Sorted(maps.Keys(said)) {
					if !yield("/"+key+pointerTo(name), part.at(name)) {
						return
					}
				}
			}
		}
	}
}

// pointerTo returns the step of a JSON Pointer to a member.
func pointerTo(name string) string {
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

var errEndless = fmt.Errorf("it refers to itself for the same value, or makes one value fit more than %d of its parts, one leading to the next", maxDetour)

// stepsFrom returns how many schemas, one leading to the next, are for one and the same value. Without an end to that the
// validator would never come back, and the stack would overflow.
func (p *checkedParts) stepsFrom(n *schemaNode, before int) (steps int, err error) {
	const busy = -1
	if known := p.steps[n]; known > 0 {
		return known, nil
	} else if known == busy || before > maxDetour {
		return 0, errEndless
	}
	p.steps[n] = busy
	next := func(part *schemaNode) error {
		more, err := p.stepsFrom(part, before+1)
		steps = max(steps, more)
		return err
	}
	if ref, ok := n.key("$ref").(string); ok {
		if err := next(p.referred(ref)); err != nil {
			return 0, err
		}
	}
	for _, part := range n.partsUnder(here) {
		if err := next(part); err != nil {
			return 0, err
		}
	}
	p.steps[n] = steps + 1
	if steps >= maxDetour {
		return 0, errEndless
	}
	return steps + 1, nil
}

// placeParts returns a schema of objects whose member of a pointer fits the part of the other schema there, so that each part can be
// asked by itself. It returns nil if the validator does not take that.
func placeParts(text []byte, pointers []string) *jsonschema.Resolved {
	var root jsonschema.Schema
	if json.Unmarshal(text, &root) != nil {
		return nil
	}
	root.ID = ""
	parts := &jsonschema.Schema{Schema: root.Schema, Properties: map[string]*jsonschema.Schema{}}
	for _, pointer := range pointers {
		at := url.URL{Scheme: "schema", Opaque: "whole", Fragment: pointer}
		parts.Properties[pointer] = &jsonschema.Schema{Ref: at.String()}
	}
	placed, err := parts.Resolve(&jsonschema.ResolveOptions{BaseURI: "schema:parts", Loader: func(*url.URL) (*jsonschema.Schema, error) { return &root, nil }})
	if err != nil {
		return nil
	}
	return placed
}

// check returns what is wrong with a document, which what names, or nil. One that is missing is null.
func (c *checker) check(d document, code int, what string) (f *fault) {
	defer func() {
		if p := recover(); p != nil { // in the validator
			f = faultf(code, "%s cannot be checked: %v", what, p)
		}
	}()
	missing := len(d) == 0
	if missing {
		d = document(nullID)
	}
	v, err := decodeExact(d)
	if err != nil {
		return faultf(code, "%s cannot be checked: %w", what, err)
	}
	root := c.parts[""]
	if e := effortFor(len(d)); root != nil {
		if e.visit(root, v); e.left < 0 {
			return faultf(code, "%s cannot be checked: %w", what, errEffort)
		}
	}
	if err = c.whole.Validate(v); err == nil {
		return nil
	}
	wrong := mismatch{node: c.root, value: v, err: err, wraps: 1}
	if c.placed() != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		wrong = c.locate("", wrong, effortFor(len(d)))
	}
	where, found := " does not fit its schema", "it is "+shortJSON(wrong.value)
	if wrong.at != "" {
		where += " at " + shorten(wrong.at, 200)
	} else if missing {
		found = "it is missing"
	}
	reason := wrong.reason(found, c.match)
	if c.none {
		reason = found + "; expected none"
	}
	f = faultf(code, "%s%s: %s", what, where, reason)
	f.Data = faultData{Pointer: wrong.at}.json()
	return f
}

// A mismatch is a value that does not fit a part of the schema.
type mismatch struct {
	at    string // JSON Pointer to the value
	node  *schemaNode
	value any
	err   error // of the validator
	wraps int   // how often err is wrapped if it is of node itself, and not of what is in that
}

// reason says what does not fit; found says what the value is. The validator names the keyword, and puts the rest in terms of Go.
func (m *mismatch) reason(found string, match func(pattern, name string) bool) string {
	wraps, text := 0, plainReason(m.err).Error()
	for err := errors.Unwrap(m.err); err != nil; err = errors.Unwrap(err) {
		wraps++
	}
	keyword, _, _ := strings.Cut(text, ":")
	demand := m.node.key(keyword)
	object, _ := m.value.(terseObject)
	var names []string
	switch {
	case wraps != m.wraps: // of a part that locate does not look at
		return found + ", and " + strings.ReplaceAll(text, "<invalid reflect.Value>", "null")
	case keyword == "required":
		for _, name := range wordsOf(demand) {
			if _, there := object[name]; !there {
				names = append(names, strconv.Quote(name))
			}
		}
		return shorten(strings.Join(names, ", "), 200) + " is missing"
	case keyword == "type":
		return found + "; expected type " + strings.Join(wordsOf(demand), " or ")
	case keyword == "enum":
		return found + "; expected one of " + shortJSON(demand)
	case keyword == "const":
		return found + "; expected " + shortJSON(demand)
	case demand != nil:
		return found + "; expected " + keyword + " " + shortJSON(demand)
	case !strings.HasPrefix(text, "unexpected additional properties"):
		return found + ", and " + text
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		for key := range m.node.partsFor(name, match) {
			if key == "/additionalProperties" {
				names = append(names, strconv.Quote(name))
			}
		}
	}
	return shorten(strings.Join(names, ", "), 200) + " is not allowed"
}

// shortJSON is a value as JSON, as much of it as an error may have.
func shortJSON(v any) string {
	text, err := appendBody(nil, v)
	if err != nil {
		return "a value that has no JSON"
	}
	return shorten(string(text), 100)
}

// fits asks the part of the schema at a pointer about a value.
func (c *checker) fits(pointer string, v any) error {
	return c.placed().Validate(map[string]any{pointer: v})
}

// locate returns the innermost value that does not fit, and why. That of whole does not fit its part of the schema, which is at the
// pointer. What is nearer to the whole is good enough once nothing is left of e: each value is looked at once for each one that it is in.
func (c *checker) locate(pointer string, whole mismatch, e *effort) mismatch {
	n := whole.node
	found := func(step, part string, inner *schemaNode, value any) (mismatch, bool) {
		known := c.parts[part]
		if e.left -= 4 + len(c.parts)/4; known == nil || e.left < 0 { // the validator goes through all parts for the one
			return mismatch{}, false
		}
		if e.visit(known, value); e.left < 0 {
			return mismatch{}, false
		}
		if wrong := c.fits(part, value); wrong != nil {
			return c.locate(part, mismatch{whole.at + step, inner, value, wrong, 3}, e), true // placeParts has it in an object, by a reference
		}
		return mismatch{}, false
	}
	if ref, ok := n.key("$ref").(string); ok {
		target := (&formReader{root: c.root}).referred(ref)
		part, _ := url.PathUnescape(strings.TrimPrefix(ref, "#"))
		if inner, is := found("", part, target, whole.value); is {
			return inner
		}
	}
	for key, part := range n.partsUnder([]string{"allOf"}) {
		if inner, is := found("", pointer+key, part, whole.value); is {
			return inner
		}
	}
	for _, group := range []string{"anyOf", "oneOf"} {
		only, null := n.at(group).onlyChoice(true)
		if only == nil || !null || whole.value == nil {
			continue
		}
		for key, part := range n.partsUnder([]string{group}) {
			if part == only {
				if inner, is := found("", pointer+key, part, whole.value); is {
					return inner
				}
			}
		}
	}
	switch v := whole.value.(type) {
	case terseList:
		prefix, _ := n.key("prefixItems").([]any)
		for i, value := range v {
			part, key := n.at("items"), "/items"
			if i < len(prefix) {
				part, key = n.at("prefixItems").at(strconv.Itoa(i)), "/prefixItems/"+strconv.Itoa(i)
			}
			if inner, is := found("/"+strconv.Itoa(i), pointer+key, part, value); is {
				return inner
			}
		}
	case terseObject:
		patterns, _ := n.key("patternProperties").(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if e.left -= 1 + len(patterns); e.left < 0 {
				break
			}
			for key, part := range n.partsFor(name, c.match) {
				if inner, is := found(pointerTo(name), pointer+key, part, v[name]); is {
					return inner
				}
			}
		}
	}
	return whole
}

// partsFor yields the schemas for a member of an object, each with its JSON Pointer from n.
func (n *schemaNode) partsFor(name string, match func(pattern, name string) bool) func(yield func(string, *schemaNode) bool) {
	return func(yield func(string, *schemaNode) bool) {
		named := false
		if part := n.at("properties").at(name); part.said != nil {
			named = true
			if !yield("/properties"+pointerTo(name), part) {
				return
			}
		}
		patterns, _ := n.key("patternProperties").(map[string]any)
		for _, pattern := range slices.Sorted(maps.Keys(patterns)) {
			if match(pattern, name) {
				named = true
				if !yield("/patternProperties"+pointerTo(pattern), n.at("patternProperties").at(pattern)) {
					return
				}
			}
		}
		if !named {
			yield("/additionalProperties", n.at("additionalProperties"))
		}
	}
}

// A terseList, terseObject and terseText are what the validator gets of a document. It puts what it looks at into the text of each error, in
// anyOf at each level anew, and that of a large document would take a thousand times as much memory.
type (
	terseList   []any
	terseObject map[string]any
	terseText   string
)

func (l terseList) String() string   { return fmt.Sprintf("an array of %d", len(l)) }
func (o terseObject) String() string { return fmt.Sprintf("an object of %d members", len(o)) }
func (t terseText) String() string   { return shorten(string(t), 100) }

// decodeExact decodes a document with numbers as exact as the validator takes them.
func decodeExact(d document) (v any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(d))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	return exactNumbers(v), nil
}

// exactNumbers makes the numbers in a decoded value integers of 64 bits where they are that, and the nearest float64 otherwise, but
// finite: the validator does not know infinity.
func exactNumbers(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = exactNumbers(v[i])
		}
		return terseList(v)
	case map[string]any:
		for name := range v {
			v[name] = exactNumbers(v[name])
		}
		return terseObject(v)
	case string:
		return terseText(v)
	case json.Number:
		text := string(v)
		if digits, whole := wholeNumber([]byte(text)); whole {
			text = digits
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n
		}
		f, _ := strconv.ParseFloat(text, 64)
		return max(-math.MaxFloat64, min(f, math.MaxFloat64))
	}
	return v
}
