package main

// This file owns the description of Go types as JSON Schema (draft 2020-12), the way
// encoding/json writes and reads them.

import (
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A schema is a JSON Schema; nil allows anything.
type schema map[string]any

// GobEncode implements gob.GobEncoder, as JSON: gob has no form for a value of any type.
func (s schema) GobEncode() ([]byte, error) { return json.Marshal(s) }

// GobDecode implements gob.GobDecoder.
func (s *schema) GobDecode(b []byte) error { return json.Unmarshal(b, s) }

var (
	timeType          = reflect.TypeFor[time.Time]()
	rawType           = reflect.TypeFor[json.RawMessage]()
	jsonMarshalerType = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// schemaOf describes t. A type that contains itself is described once; inside, it is "any".
func schemaOf(t reflect.Type) schema { return schemaInside(t, nil) }

func schemaInside(t reflect.Type, outer []reflect.Type) schema {
	if t == nil {
		return schema{}
	}
	for _, o := range outer {
		if o == t {
			return schema{"description": "a " + t.Name() + " again"}
		}
	}
	switch {
	case t == timeType, t.Kind() == reflect.Pointer && t.Elem() == timeType:
		return schema{"type": "string", "format": "date-time"}
	case t == rawType, t == documentType, t.Implements(jsonMarshalerType):
		return schema{}
	case t.Implements(textMarshalerType):
		return schema{"type": "string"}
	}
	outer = append(outer, t)
	switch t.Kind() {
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Pointer:
		return schemaInside(t.Elem(), outer)
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": "string", "contentEncoding": "base64"}
		}
		return schema{"type": "array", "items": schemaInside(t.Elem(), outer)}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": schemaInside(t.Elem(), outer)}
	case reflect.Struct:
		return structSchema(t, outer)
	}
	return schema{}
}

// structSchema lists the members under the names that JSON gives them.
func structSchema(t reflect.Type, outer []reflect.Type) schema {
	properties := schema{}
	depth := map[string]int{}
	for _, f := range reflect.VisibleFields(t) {
		name := f.Name
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag != "" {
			name = tag
		}
		if !f.IsExported() || f.Tag.Get("json") == "-" || isInlined(f) || !isReached(t, f) {
			continue
		}
		if d := depth[name]; d > 0 && d <= len(f.Index) {
			continue // hidden by a field that is less deep
		}
		depth[name] = len(f.Index)
		s := schemaInside(f.Type, outer)
		if slices.Contains(strings.Split(options, ","), "string") && slices.Contains([]any{"boolean", "integer", "number"}, s["type"]) {
			s = schema{"type": "string"} // with the number in it
		}
		properties[name] = s
	}
	return schema{"type": "object", "properties": properties}
}

// isInlined tells an embedded struct whose members JSON puts beside those of the outer one.
func isInlined(f reflect.StructField) bool {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return f.Anonymous && tag == "" && t.Kind() == reflect.Struct
}

// isReached tells whether all structs between t and its field f are inlined.
func isReached(t reflect.Type, f reflect.StructField) bool {
	for n := range len(f.Index) - 1 {
		if !isInlined(t.FieldByIndex(f.Index[:n+1])) {
			return false
		}
	}
	return true
}

// shape says in a few words what JSON a schema wants: string, {name: string, age: integer}.
func (s schema) shape() string {
	if s == nil {
		return ""
	}
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		return typeName(s)
	}
	names := slices.Sorted(maps.Keys(properties))
	for i, name := range names {
		p, _ := properties[name].(map[string]any)
		names[i] = name + ": " + typeName(p)
	}
	return "{" + strings.Join(names, ", ") + "}"
}

// typeName says in one word what JSON a schema wants.
func typeName(s map[string]any) string {
	t, ok := s["type"].(string)
	if !ok {
		return "any"
	}
	if items, ok := s["items"].(map[string]any); ok {
		return typeName(items) + "[]"
	}
	return t
}
