package main

// This file owns how Go types look as JSON: which members a struct has, and what a text must be to be a value of its
// type. encoding/json is kinder than that: it takes a member in any case, and null for anything. And it is stricter,
// since 1.0 is an integer. So an argument is looked at by its type before encoding/json decodes it.

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

var (
	timeType            = reflect.TypeFor[time.Time]()
	numberType          = reflect.TypeFor[json.Number]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// A jsonField is a member of a struct.
type jsonField struct {
	name     string
	t        reflect.Type
	quoted   bool // by the option "string": a number or a boolean inside a string
	omitted  bool // where its value is empty, by the option "omitempty" or "omitzero"
	optional bool // may be missing in what is written
	rank     int  // of several fields with one name the lowest counts
}

// jsonFields returns the members of the struct t by the rules of encoding/json: the members of an embedded struct count
// as the outer one's; of several fields with one name, the least nested is the member, and of those the one with a tag.
// If that leaves several, there is no such member.
func jsonFields(t reflect.Type) []jsonField {
	type inlined struct {
		t        reflect.Type
		optional bool // behind a pointer
		twice    bool // at the same depth, so that all its fields are there twice
	}
	var found []jsonField
	seen := map[reflect.Type]bool{}
	for depth, next := 0, []inlined{{t: t}}; len(next) > 0; depth++ {
		outers := next
		next = nil
		for _, outer := range outers {
			if seen[outer.t] {
				continue
			}
			seen[outer.t] = true
			for i := range outer.t.NumField() {
				f := outer.t.Field(i)
				tag, base, pointer := f.Tag.Get("json"), f.Type, f.Type.Kind() == reflect.Pointer && f.Type.Name() == ""
				if pointer {
					base = base.Elem()
				}
				isStruct := base.Kind() == reflect.Struct
				if !f.IsExported() && !(f.Anonymous && isStruct) || tag == "-" {
					continue
				}
				name, options, _ := strings.Cut(tag, ",")
				tagged := isMemberName(name)
				if f.Anonymous && isStruct && !tagged {
					if at := slices.IndexFunc(next, func(n inlined) bool { return n.t == base }); at >= 0 {
						next[at].twice = true
					} else {
						next = append(next, inlined{t: base, optional: outer.optional || pointer})
					}
					continue
				}
				member := jsonField{name: name, t: f.Type, rank: 2 * depth}
				if !tagged {
					member.name = f.Name
					member.rank++
				}
				for option := range strings.SplitSeq(options, ",") {
					member.omitted = member.omitted || option == "omitempty" || option == "omitzero"
					member.quoted = member.quoted || option == "string" && isQuotable(base.Kind())
				}
				member.optional = outer.optional || member.omitted
				found = append(found, member)
				if outer.twice {
					found = append(found, member)
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b jsonField) int { return cmp.Or(strings.Compare(a.name, b.name), a.rank-b.rank) })
	var members []jsonField
	for len(found) > 0 {
		n := 1
		for n < len(found) && found[n].name == found[0].name {
			n++
		}
		if n == 1 || found[1].rank > found[0].rank {
			members = append(members, found[0])
		}
		found = found[n:]
	}
	return members
}

// isMemberName reports whether encoding/json takes the name in a tag. Otherwise the field has its own name.
func isMemberName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// isQuotable reports whether the option "string" means anything for a field of the kind.
func isQuotable(k reflect.Kind) bool {
	return k >= reflect.Bool && k <= reflect.Float64 || k == reflect.String
}

// isFloat reports whether a value of the type is any number in JSON.
func isFloat(t reflect.Type) bool {
	return t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64 || t == numberType
}

// takesNull reports whether null is a value of the type for encoding/json, which has it leave alone what it decodes into
// any other.
func takesNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return true
	}
	return false
}

// isBytes reports whether a value of the type is base64 in JSON.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// A jsonForm is what a text must look like to be a value of a Go type, as far as encoding/json does not see to it. A nil
// form is that of any.
type jsonForm struct {
	t       reflect.Type
	own     bool // it has a method that decodes it from any JSON
	text    bool // it is decoded from a string, which may still be the wrong one
	integer bool
	quoted  bool                 // it stands in a string, in which encoding/json takes more than JSON's numbers
	to      *jsonForm            // of a pointer
	members map[string]*jsonForm // of a struct
	elem    *jsonForm            // of an array, a slice or a map
}

// A typeForm is the form of a whole type.
type typeForm struct {
	*jsonForm
	open bool // there is a value of type any in it
}

var typeForms sync.Map // of typeForm, by reflect.Type: there are as many as methods have types

func formOf(t reflect.Type) typeForm {
	if known, ok := typeForms.Load(t); ok {
		return known.(typeForm)
	}
	var f typeForm
	f.jsonForm = f.form(t, map[reflect.Type]*jsonForm{})
	typeForms.Store(t, f)
	return f
}

// form returns the form of t. seen has those that are there already, or are being made.
func (f *typeForm) form(t reflect.Type, seen map[reflect.Type]*jsonForm) *jsonForm {
	if form, ok := seen[t]; ok {
		return form
	}
	form := &jsonForm{t: t}
	seen[t] = form
	switch kind := t.Kind(); {
	case t == timeType:
		form.text = true
	case reflect.PointerTo(t).Implements(jsonUnmarshalerType):
		form.own = true
	case reflect.PointerTo(t).Implements(textUnmarshalerType), isBytes(t):
		form.text = true
	case kind == reflect.Interface:
		f.open, seen[t] = true, nil
	case kind >= reflect.Int && kind <= reflect.Uintptr:
		form.integer = true
	case kind == reflect.Pointer:
		form.to = f.form(t.Elem(), seen)
	case kind == reflect.Array, kind == reflect.Slice, kind == reflect.Map:
		form.elem = f.form(t.Elem(), seen)
	case kind == reflect.Struct:
		form.members = map[string]*jsonForm{}
		for _, member := range jsonFields(t) {
			switch t := member.t; {
			case !member.quoted:
				form.members[member.name] = f.form(t, seen)
			case t.Kind() == reflect.Pointer:
				form.members[member.name] = &jsonForm{t: t, to: &jsonForm{t: t.Elem(), quoted: true}}
			default:
				form.members[member.name] = &jsonForm{t: t, quoted: true}
			}
		}
	}
	return seen[t]
}

// fit returns a validated text as encoding/json is to see it, or the fault that it is not of the form's type. what names
// it in the fault.
func (f *jsonForm) fit(what string, text []byte) ([]byte, error) {
	w := jsonFit{jsonWalk: jsonWalk{b: text}}
	if wrong := w.value(f); wrong != nil {
		return nil, misfit(what, wrong.at, wrong.is, jsonKindFor(wrong.t))
	}
	if w.out == nil {
		return text, nil
	}
	return append(w.out, text[w.done:]...), nil
}

// blame returns where the value is that its own type refuses, or nothing if that is not known.
func (f *jsonForm) blame(text []byte) string {
	w := jsonFit{jsonWalk: jsonWalk{b: text}, trying: true}
	if wrong := w.value(f); wrong != nil {
		return wrong.at
	}
	return ""
}

// A jsonFit walks over a value along the form of its type. It copies the text only if something has to change.
type jsonFit struct {
	jsonWalk
	out    []byte // the text up to done, as it is to be
	done   int
	trying bool // decode each value by itself
}

// A wrongValue is where a value is not of its type.
type wrongValue struct {
	at string // from the outside in: name.list[2]
	is string
	t  reflect.Type
}

// in adds what the wrong value is in.
func (v *wrongValue) in(outer string) *wrongValue {
	if v.at != "" && v.at[0] != '[' {
		outer += "."
	}
	v.at = outer + v.at
	return v
}

// replace has encoding/json see text in place of the bytes from start to where the walk is.
func (w *jsonFit) replace(start int, text string) {
	w.out = append(append(w.out, w.b[w.done:start]...), text...)
	w.done = w.at
}

// next moves on to the next value, name or bracket and returns its first byte.
func (w *jsonFit) next() byte {
	for strings.IndexByte(jsonSpace+",:", w.b[w.at]) >= 0 {
		w.at++
	}
	return w.b[w.at]
}

func (w *jsonFit) value(f *jsonForm) *wrongValue {
	c, start := w.next(), w.at
	switch {
	case f == nil || f.own:
	case c == 'n':
		if !takesNull(f.t) {
			return &wrongValue{is: "null", t: f.t}
		}
	case f.to != nil:
		return w.value(f.to)
	case f.text && c != '"':
		return &wrongValue{is: jsonKindOf(w.b[start:]), t: f.t}
	case c == '{' && f.t.Kind() == reflect.Map, c == '{' && f.members != nil:
		return w.object(f)
	case c == '[' && f.elem != nil && f.t.Kind() != reflect.Map:
		return w.array(f)
	}
	w.element()
	text := w.b[start:w.at]
	if f != nil && f.integer && (c == '-' || c >= '0' && c <= '9') {
		if digits, ok := wholeNumber(text); ok {
			w.replace(start, digits)
			text = []byte(digits)
		}
	}
	switch {
	case f == nil:
	case f.quoted && c == '"' && isFloat(f.t) && !isJSONNumber(unquoteJSON(text[1:len(text)-1])):
		return &wrongValue{is: "a string " + shorten(string(text), 40), t: f.t}
	case w.trying && !f.quoted && json.Unmarshal(text, reflect.New(f.t).Interface()) != nil:
		return &wrongValue{t: f.t}
	}
	return nil
}

// object looks at the members. A member that the struct does not have gets a name that no struct has: encoding/json would
// match it without regard to case.
func (w *jsonFit) object(f *jsonForm) *wrongValue {
	for w.at++; w.next() != '}'; {
		start := w.at
		w.skipText()
		w.at++
		name := unquoteJSON(w.b[start+1 : w.at-1])
		member := f.elem
		if f.members != nil {
			var known bool
			if member, known = f.members[string(name)]; !known {
				w.replace(start, `""`)
			}
		}
		if wrong := w.value(member); wrong != nil {
			return wrong.in(shorten(string(name), 40))
		}
	}
	w.at++
	return nil
}

// array looks at the elements. There may not be more than the type has room for: encoding/json would drop them.
func (w *jsonFit) array(f *jsonForm) *wrongValue {
	n := 0
	for w.at++; w.next() != ']'; n++ {
		if f.t.Kind() == reflect.Array && n == f.t.Len() {
			return &wrongValue{is: "a longer array", t: f.t}
		}
		if wrong := w.value(f.elem); wrong != nil {
			return wrong.in("[" + strconv.Itoa(n) + "]")
		}
	}
	w.at++
	return nil
}

// wholeNumber returns the digits of a number that is an integer and not written as one: 1.0, 1e2, -0. It returns false for
// any other number, and for one that is too large for every type.
func wholeNumber(b []byte) (string, bool) {
	const most = 20 // digits of a number of 64 bits
	if !bytes.ContainsAny(b, ".eE") && string(b) != "-0" {
		return "", false
	}
	digits := canonicalNumber(string(b))
	return digits, !strings.ContainsAny(digits, ".eE") && len(strings.TrimPrefix(digits, "-")) <= most
}

// decodeJSON decodes a text that fits its form into v, a pointer.
func (f typeForm) decodeJSON(text []byte, v any) error {
	if !f.open {
		return json.Unmarshal(text, v)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	return settleNumbers(reflect.ValueOf(v).Elem())
}

// settleNumbers gives the numbers in values of type any the type that keeps them, see settleNumber.
func settleNumbers(v reflect.Value) error {
	switch t := v.Type(); {
	case !formOf(t).open:
		return nil
	case t.Kind() != reflect.Struct && !v.CanSet():
		return nil
	case t.Kind() == reflect.Interface:
		if v.IsNil() {
			return nil
		}
		settled, err := settleNumber(v.Interface())
		if err == nil {
			v.Set(reflect.ValueOf(settled))
		}
		return err
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return settleNumbers(v.Elem())
	case t.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if err := settleNumbers(v.Field(i)); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			element := reflect.New(t.Elem()).Elem() // that in the map cannot be changed
			element.Set(v.MapIndex(key))
			if err := settleNumbers(element); err != nil {
				return err
			}
			v.SetMapIndex(key, element)
		}
	default: // an array or a slice
		for i := range v.Len() {
			if err := settleNumbers(v.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleNumber makes each number in a decoded value a float64, as encoding/json does; or, where that would round an
// integer, an int64 or uint64, and a json.Number beyond those.
func settleNumber(v any) (_ any, err error) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			if v[i], err = settleNumber(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for name := range v {
			if v[name], err = settleNumber(v[name]); err != nil {
				return nil, err
			}
		}
	case json.Number:
		text := string(v)
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, &json.UnmarshalTypeError{Value: "number " + shorten(text, 40), Type: reflect.TypeFor[float64]()}
		}
		if strings.ContainsAny(text, ".eE") || strconv.FormatFloat(f, 'f', -1, 64) == text {
			return f, nil
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n, nil
		}
	}
	return v, nil
}
