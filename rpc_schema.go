package main

// This file owns the description of Go types as JSON Schema (draft 2020-12). What an argument may be and what a result is
// differ: a member that is always written may be missing where it is read, and a nil that is read as null is written as
// an empty list. wire_json_type.go has the rules of what is read.

import (
	"bytes"
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// GobEncode implements gob.GobEncoder with JSON: gob cannot encode values of type any unless their types are registered.
func (s schema) GobEncode() ([]byte, error) { return json.Marshal(s) }

// GobDecode implements gob.GobDecoder.
func (s *schema) GobDecode(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // the bounds of 64 bits are more than a float64 has
	return d.Decode(s)
}

// read is s as it comes from JSON, which is what the forms of gob are made of.
func (s schema) read() (read schema) {
	b, err := s.GobEncode()
	if err == nil {
		err = read.GobDecode(b)
	}
	if err != nil {
		panic(err) // it is of maps, lists, texts and numbers
	}
	return read
}

var (
	durationType      = reflect.TypeFor[time.Duration]()
	jsonMarshalerType = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// argumentSchema describes what a method takes whose argument is a t.
func argumentSchema(t reflect.Type) schema { return (&describer{}).describe(t) }

// describes describes a method that takes an A and answers with an R, whose types the codec does not see.
func describes[A, R any]() *Description {
	return &Description{Argument: argumentSchema(reflect.TypeFor[A]()), Result: resultSchema(reflect.TypeFor[R]())}
}

// resultSchema describes what a method answers that returns a t, which is nil if it returns nothing.
func resultSchema(t reflect.Type) schema {
	if t == nil {
		return schema{"type": "null"}
	}
	d := &describer{written: true}
	base := t
	for base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	if k := base.Kind(); (k == reflect.Map || k == reflect.Slice) && !writesItself(base) { // nil is empty, see resultAt
		t = base
		d.neverNull = true
	}
	return d.describe(t)
}

// A describer describes one type and those in it. A type that contains itself is described once, under "$defs", and
// referred to by its name.
type describer struct {
	written   bool // as it is written, not as it is read
	neverNull bool // the next value is never null
	inside    []*described
	defs      schema
}

// A described is a type that is being described.
type described struct {
	t      reflect.Type
	method bool   // its pointer's methods are used
	name   string // under "$defs"; empty as long as it has not been met in itself
}

func (d *describer) describe(t reflect.Type) schema {
	s := d.value(t, true)
	if d.defs != nil {
		s["$defs"] = d.defs
	}
	return s
}

// value describes t, including null where that is a value of it. encoding/json uses the methods of a pointer to encode a
// value only where it can take its address: not of an element of a map. To decode, it always can.
func (d *describer) value(t reflect.Type, addressable bool) schema {
	null, pointer := takesNull(t) && !d.neverNull, t.Kind() == reflect.Pointer
	d.neverNull = false
	for t.Kind() == reflect.Pointer {
		t, addressable = t.Elem(), true
	}
	addressable = addressable || !d.written
	byJSON, byText := jsonUnmarshalerType, textUnmarshalerType
	if d.written {
		byJSON, byText = jsonMarshalerType, textMarshalerType
	}
	has := func(method reflect.Type) bool {
		return t.Implements(method) || addressable && reflect.PointerTo(t).Implements(method)
	}
	switch {
	case t == timeType:
		return orNull(schema{"type": "string", "format": "date-time"}, null)
	case t == documentType, t.Kind() == reflect.Interface, has(byJSON):
		return schema{}
	case has(byText): // which a map or a slice has to encode itself even where it is nil
		return orNull(schema{"type": "string"}, null && (pointer || !d.written))
	}
	for _, outer := range d.inside {
		if outer.t == t && outer.method == addressable {
			return orNull(schema{"$ref": "#/$defs/" + d.nameOf(outer)}, null)
		}
	}
	this := &described{t: t, method: addressable}
	d.inside = append(d.inside, this)
	s := d.plain(t, addressable)
	d.inside = d.inside[:len(d.inside)-1]
	if this.name != "" {
		d.defs[this.name] = s
		s = schema{"$ref": "#/$defs/" + this.name}
	}
	return orNull(s, null)
}

// nameOf returns the name under which a type that contains itself is described.
func (d *describer) nameOf(t *described) string {
	if t.name != "" {
		return t.name
	}
	name := strings.Map(func(r rune) rune { // what needs no escape in a reference
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.t.Name())
	t.name = name
	for n := 2; d.defs[t.name] != nil; n++ {
		t.name = name + strconv.Itoa(n)
	}
	if d.defs == nil {
		d.defs = schema{}
	}
	d.defs[t.name] = schema{} // until it is described
	return t.name
}

// orNull returns s, which allows null as well if there is a reason.
func orNull(s schema, null bool) schema {
	if !null {
		return s
	}
	switch t := s["type"].(type) {
	case string:
		s["type"] = []string{t, "null"}
	case nil:
		if s["$ref"] != nil {
			return schema{"anyOf": []schema{s, {"type": "null"}}}
		}
	}
	return s
}

// plain describes a type that has no methods for its encoding.
func (d *describer) plain(t reflect.Type, addressable bool) schema {
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return schema{"type": "boolean"}
	case k >= reflect.Int && k <= reflect.Uintptr:
		return integerSchema(t)
	case k == reflect.Float32:
		return schema{"type": "number", "exclusiveMinimum": json.Number("-" + float32End), "exclusiveMaximum": json.Number(float32End)}
	case k == reflect.Float64, t == numberType:
		return schema{"type": "number"}
	case k == reflect.String:
		return schema{"type": "string"}
	case isBytes(t):
		return schema{"type": "string", "contentEncoding": "base64"}
	case k == reflect.Slice:
		return schema{"type": "array", "items": d.value(t.Elem(), true)}
	case k == reflect.Array:
		s := schema{"type": "array", "items": d.value(t.Elem(), addressable), "maxItems": t.Len()}
		if d.written {
			s["minItems"] = t.Len()
		}
		return s
	case k == reflect.Map:
		s := schema{"type": "object", "additionalProperties": d.value(t.Elem(), false)}
		if key := t.Key(); key.Kind() != reflect.String && !key.Implements(textMarshalerType) {
			pattern := integerPattern(key)
			if !d.written {
				pattern = strings.Replace(pattern, "-?", "[-+]?", 1) // encoding/json takes +1 for a name
			}
			s["propertyNames"] = schema{"pattern": pattern}
		}
		return s
	case k == reflect.Struct:
		return d.object(t, addressable)
	}
	return schema{} // a channel, say, which has no encoding
}

// float32End is the first number that is too large for a float32: it lies halfway between the largest one and 2^128, and
// is rounded to infinity, which JSON does not have.
var float32End = strconv.FormatFloat(0x1p128-0x1p103, 'f', 0, 64)

// integerPattern matches the integers of a type where they stand in a string. It does not tell the range.
func integerPattern(t reflect.Type) string {
	if t.Kind() >= reflect.Uint {
		return "^[0-9]+$"
	}
	return "^-?[0-9]+$"
}

// integerSchema describes an integer type with its range.
func integerSchema(t reflect.Type) schema {
	bits := t.Bits()
	s := schema{"type": "integer", "minimum": int64(math.MinInt64) >> (64 - bits), "maximum": int64(math.MaxInt64) >> (64 - bits)}
	if t.Kind() >= reflect.Uint {
		s["minimum"], s["maximum"] = 0, uint64(math.MaxUint64)>>(64-bits)
	}
	if t == durationType {
		s["description"] = "nanoseconds"
	}
	return s
}

// object describes a struct.
func (d *describer) object(t reflect.Type, addressable bool) schema {
	properties, required := schema{}, []string{}
	for _, f := range jsonFields(t) {
		if f.quoted {
			properties[f.name] = d.quoted(f)
		} else {
			d.neverNull = d.written && f.omitted // it is missing where it would be null
			properties[f.name] = d.value(f.t, addressable)
		}
		if d.written && !f.optional {
			required = append(required, f.name)
		}
	}
	s := schema{"type": "object", "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// quoted describes a member whose value stands in a string.
func (d *describer) quoted(f jsonField) schema {
	base := f.t
	if base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	s := schema{"type": "string"}
	switch k := base.Kind(); {
	case k == reflect.Bool:
		s["pattern"] = "^(true|false)$"
	case k >= reflect.Int && k <= reflect.Uintptr:
		s["pattern"] = integerPattern(base)
	case isFloat(base):
		s["pattern"] = `^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`
	}
	return orNull(s, takesNull(f.t) && !(d.written && f.omitted))
}
