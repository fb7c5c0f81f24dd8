package main

// This file owns what a JSON Schema says of a value in gob: of what type it is, and which field is which member. gob has a
// type for everything and JSON for next to nothing, so where one becomes the other the schema decides.

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A schema is a JSON Schema; nil allows anything.
type schema map[string]any

// A gobForm is what a schema says of a value. It does not change once it is made, and may contain itself.
type gobForm struct {
	kind    formKind
	elem    gobPlace     // of an array or a map
	members []formMember // of an object, in the order of their names
	exact   map[string]int
	alike   map[string][]int // by the name without regard to case, see foldName
}

// A formMember is a member of an object.
type formMember struct {
	name  string
	field string // the name of a Go field for it; "" if another member takes that
	gobPlace
}

// A gobPlace is where a value may be, or null.
type gobPlace struct {
	*gobForm
	null bool
}

// A formKind says what a value is in JSON, and in gob.
type formKind uint8

const (
	formUnknown  formKind = iota // nobody has said anything: gob's types alone count
	formAny                      // nothing that is understood here; JSON in bytes
	formNull                     // null; a struct without fields
	formBoolean                  // a bool
	formInteger                  // an int
	formUnsigned                 // a uint
	formNumber                   // a float
	formString                   // a string
	formTime                     // an RFC 3339 time; a time.Time
	formBytes                    // base64; bytes
	formArray                    // a slice
	formMap                      // an object whose members have any names and one form; a map
	formObject                   // an object whose members have a name each; a struct
)

// words name the kinds in errors.
func (k formKind) words() string {
	return [...]string{"anything", "anything", "null", "a boolean", "an integer of 64 bits", "an unsigned integer of 64 bits", "a number of 64 bits", "a string",
		"a time such as 2006-01-02T15:04:05Z", "a string in base64", "an array", "an object", "an object"}[k]
}

// plainForms are the forms that have nothing in them.
var plainForms = func() (forms [formArray]gobForm) {
	for k := range forms {
		forms[k].kind = formKind(k)
	}
	return forms
}()

// placeOf returns a place for a form that has nothing in it.
func placeOf(k formKind, null bool) gobPlace { return gobPlace{&plainForms[k], null} }

// anywhere is the place of a value of which the schema says nothing.
func anywhere() gobPlace { return placeOf(formAny, true) }

// inside returns the place of what is in a value at p, if that is neither a member with a name of its own nor in a list of those.
func (p gobPlace) inside() gobPlace {
	switch p.kind {
	case formArray, formMap:
		return p.elem
	case formUnknown:
		return p
	}
	return anywhere()
}

// member returns the place of the member with exactly that name.
func (p gobPlace) member(name string) gobPlace {
	if at, ok := p.exact[name]; ok {
		return p.members[at].gobPlace
	}
	return p.inside()
}

// memberFor returns the index of the member that a field with that name is: one of the same name, or else the only one that
// differs in case alone. It is negative if there is none, and several says which of them it could be.
func (f *gobForm) memberFor(field string) (at int, several []string) {
	if at, ok := f.exact[field]; ok {
		return at, nil
	}
	alike := f.alike[foldName(field)]
	switch len(alike) {
	case 0:
		return -1, nil
	case 1:
		return alike[0], nil
	}
	for _, at := range alike {
		several = append(several, f.members[at].name)
	}
	return -1, several
}

// foldName returns what all names have in common that strings.EqualFold takes for the same.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		first := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			first = min(first, next)
		}
		return first
	}, name)
}

// fieldName returns the name that a Go program gives to the field for a member, if it can have one: only what begins with a
// capital letter is seen by gob.
func fieldName(member string) string {
	r, n := utf8.DecodeRuneInString(member)
	return string(unicode.ToUpper(r)) + member[n:]
}

// gobForms are what the schemas of a method say, once somebody asks.
type gobForms struct {
	argument func() gobPlace
	result   func() *gobPlan
}

func newGobForms(argument, result schema) *gobForms {
	return &gobForms{
		argument: sync.OnceValue(func() gobPlace { return formBy(argument) }),
		result:   sync.OnceValue(func() *gobPlan { return newGobPlan(formBy(result)) }),
	}
}

// formBy returns the place that a whole schema describes.
func formBy(s schema) gobPlace {
	if s == nil {
		return placeOf(formNull, true)
	}
	r := &formReader{}
	r.root = &schemaNode{said: map[string]any(s)}
	return r.place(r.root)
}

// A formReader makes forms of one schema.
type formReader struct {
	root *schemaNode
	deep int // how many forms are being made, each inside of the one before
}

const (
	maxDetour = 64  // references and alternatives that lead to one form: they may go round in a circle
	maxForms  = 512 // forms inside of one another: references may lead from each to the next
)

// A schemaNode is a part of a schema. There is one for each part that has been looked at, however it was reached, so that a
// schema that refers to itself has an end.
type schemaNode struct {
	said  any
	parts map[string]*schemaNode
	form  *gobForm // once it is being made
	null  bool
}

// at returns the part with that name, or at that index.
func (n *schemaNode) at(name string) *schemaNode {
	if part := n.parts[name]; part != nil {
		return part
	}
	part := &schemaNode{}
	switch said := n.said.(type) {
	case map[string]any:
		part.said = said[name]
	case []any:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(said) {
			part.said = said[i]
		}
	}
	if n.parts == nil {
		n.parts = map[string]*schemaNode{}
	}
	n.parts[name] = part
	return part
}

// key returns what the schema says under a key.
func (n *schemaNode) key(name string) any {
	said, _ := n.said.(map[string]any)
	return said[name]
}

var pointerEscapes = strings.NewReplacer("~1", "/", "~0", "~")

// referred returns what a reference leads to: a JSON Pointer (RFC 6901) as a fragment. It is nil for one that leads out of
// the schema, which is not followed.
func (r *formReader) referred(ref string) *schemaNode {
	path, local := strings.CutPrefix(ref, "#")
	path, err := url.PathUnescape(path)
	if !local || err != nil || path != "" && path[0] != '/' {
		return nil
	}
	n := r.root
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path[1:], "/")
		n = n.at(pointerEscapes.Replace(name))
		if path != "" {
			path = "/" + path
		}
	}
	return n
}

// The keywords that say of what form a value is, in groups: a schema with keywords of several groups says more than is
// understood here.
var formKeywords = [][]string{
	{"$ref"}, {"anyOf"}, {"oneOf"}, {"allOf"}, {"$dynamicRef"}, {"if"}, {"dependentSchemas"},
	{"type", "properties", "patternProperties", "additionalProperties", "items", "prefixItems", "enum", "const"},
}

// formGroup returns the first keyword of the only group that a schema has keywords of, or "".
func (n *schemaNode) formGroup() (group string) {
	said, _ := n.said.(map[string]any)
	for _, keywords := range formKeywords {
		if !slices.ContainsFunc(keywords, func(k string) bool { _, is := said[k]; return is }) {
			continue
		}
		if group != "" {
			return ""
		}
		group = keywords[0]
	}
	return group
}

// place returns the place that n describes, behind references and alternatives to null.
func (r *formReader) place(n *schemaNode) gobPlace {
	r.deep++
	defer func() { r.deep-- }()
	if r.deep > maxForms {
		return anywhere()
	}
	null := false
	for range maxDetour {
		if n == nil || n != r.root && n.key("$id") != nil { // which its references would be relative to
			return anywhere()
		}
		switch group := n.formGroup(); group {
		case "$ref":
			ref, _ := n.key("$ref").(string)
			n = r.referred(ref)
		case "anyOf", "oneOf", "allOf":
			only, orNull := n.at(group).onlyChoice(group != "allOf")
			n, null = only, null || orNull
		case "type":
			f, own := r.form(n)
			return gobPlace{f, null || own}
		default:
			return anywhere()
		}
	}
	return anywhere()
}

// onlyChoice returns the one of several schemas that is not null itself, or nil if there are more.
func (n *schemaNode) onlyChoice(orNull bool) (only *schemaNode, null bool) {
	list, _ := n.said.([]any)
	for i := range list {
		choice := n.at(strconv.Itoa(i))
		switch {
		case orNull && choice.key("type") == "null":
			null = true
		case only != nil:
			return nil, null
		default:
			only = choice
		}
	}
	return only, null
}

// form returns the form of a schema that says itself what it is, and whether that may be null.
func (r *formReader) form(n *schemaNode) (f *gobForm, null bool) {
	if n.form != nil {
		return n.form, n.null
	}
	var kind formKind
	kind, n.null = n.kind()
	if kind < formArray {
		n.form = &plainForms[kind]
		return n.form, n.null
	}
	n.form = &gobForm{kind: kind} // before what is in it, which may be the same again
	switch kind {
	case formArray:
		n.form.elem = anywhere()
		if n.key("prefixItems") == nil {
			n.form.elem = r.place(n.at("items"))
		}
	case formMap:
		n.form.elem = r.place(n.at("additionalProperties"))
	case formObject:
		r.addMembers(n.form, n.at("properties"))
	}
	return n.form, n.null
}

// kind returns what a schema that says itself what it is says of that.
func (n *schemaNode) kind() (k formKind, null bool) {
	types, null := n.types()
	switch len(types) {
	case 0:
		if null {
			return formNull, true
		}
	case 1:
		switch types[0] {
		case "boolean":
			return formBoolean, null
		case "integer":
			return n.integer(), null
		case "number":
			return formNumber, null
		case "string":
			switch {
			case n.key("format") == "date-time":
				return formTime, null
			case n.key("contentEncoding") == "base64":
				return formBytes, null
			}
			return formString, null
		case "array":
			return formArray, null
		case "object":
			if k := n.object(); k != formAny {
				return k, null
			}
		}
	}
	return formAny, true
}

// integer returns which of gob's integers a value is: a uint where the schema asks for numbers that no int can hold.
func (n *schemaNode) integer() formKind {
	least, _ := n.key("minimum").(json.Number)
	most, _ := n.key("maximum").(json.Number)
	_, overInt := strconv.ParseInt(most.String(), 10, 64)
	if about, err := most.Float64(); err == nil && overInt != nil && about >= 1<<63 && least != "" && least[0] != '-' {
		return formUnsigned
	}
	return formInteger
}

// object returns whether the members of an object have names or are alike. An object that has members of both kinds, or of
// which nothing is said, is any.
func (n *schemaNode) object() formKind {
	properties, _ := n.key("properties").(map[string]any)
	others := n.key("additionalProperties")
	_, formed := others.(map[string]any)
	switch {
	case n.key("patternProperties") != nil, len(properties) > 0 && formed && len(others.(map[string]any)) > 0:
		return formAny
	case len(properties) > 0, others == false:
		return formObject
	case formed, others == true:
		return formMap
	}
	return formAny
}

// types lists the types besides null that a schema allows. Where it does not name them, they follow from what else it says.
func (n *schemaNode) types() (types []string, null bool) {
	add := func(t string) {
		switch {
		case t == "null":
			null = true
		case !slices.Contains(types, t):
			types = append(types, t)
		}
	}
	switch said := n.key("type").(type) {
	case string:
		add(said)
	case []any:
		for _, t := range said {
			name, _ := t.(string)
			add(name)
		}
	case nil:
		values, _ := n.key("enum").([]any)
		if one, is := n.said.(map[string]any)["const"]; is {
			values = append(values, one)
		}
		for _, v := range values {
			add(jsonTypeOf(v))
		}
		switch {
		case values != nil:
		case n.key("properties") != nil, n.key("additionalProperties") != nil:
			types, null = []string{"object"}, true
		case n.key("items") != nil, n.key("prefixItems") != nil:
			types, null = []string{"array"}, true
		}
	}
	if slices.Contains(types, "number") {
		types = slices.DeleteFunc(types, func(t string) bool { return t == "integer" })
	}
	return types, null
}

// jsonTypeOf names the type of a decoded value.
func jsonTypeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case json.Number:
		if !strings.ContainsAny(canonicalNumber(v.String()), ".eE") {
			return "integer"
		}
	}
	return "number"
}

// addMembers makes the members of an object. Where a capital is all that two differ in, the one that begins with it has the
// field.
func (r *formReader) addMembers(f *gobForm, properties *schemaNode) {
	said, _ := properties.said.(map[string]any)
	f.exact, f.alike = make(map[string]int, len(said)), make(map[string][]int, len(said))
	for i, name := range slices.Sorted(maps.Keys(said)) {
		f.members = append(f.members, formMember{name: name, gobPlace: r.place(properties.at(name))})
		f.exact[name] = i
		key := foldName(name)
		f.alike[key] = append(f.alike[key], i)
	}
	taken := make(map[string]bool, len(said))
	for i := range f.members {
		m := &f.members[i]
		field := fieldName(m.name)
		_, another := f.exact[field]
		if field == m.name || !another && !taken[field] {
			m.field, taken[field] = field, true
		}
	}
}
