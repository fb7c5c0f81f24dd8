package main

// This file owns the description of Go types as JSON Schema (draft 2020-12), in the form that encoding/json reads and
// writes.

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

// GobEncode implements gob.GobEncoder with JSON: gob cannot encode values of type any unless their types are registered.
func (s schema) GobEncode() ([]byte, error) { return json.Marshal(s) }

// GobDecode implements gob.GobDecoder.
func (s *schema) GobDecode(b []byte) error { return json.Unmarshal(b, s) }

var (
	timeType          = reflect.TypeFor[time.Time]()
	rawType           = reflect.TypeFor[json.RawMessage]()
	jsonMarshalerType = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// schemaOf describes t. Where a type contains itself, the inner one allows anything.
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

// structSchema describes a struct, with the names that its fields have in JSON.
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
			continue // hidden by a field that is nested less deeply
		}
		depth[name] = len(f.Index)
		s := schemaInside(f.Type, outer)
		if slices.Contains(strings.Split(options, ","), "string") && slices.Contains([]any{"boolean", "integer", "number"}, s["type"]) {
			s = schema{"type": "string"} // which holds the number or boolean
		}
		properties[name] = s
	}
	return schema{"type": "object", "properties": properties}
}

// isInlined reports whether f is an embedded struct whose members JSON puts among those of the outer struct.
func isInlined(f reflect.StructField) bool {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return f.Anonymous && tag == "" && t.Kind() == reflect.Struct
}

// isReached reports whether all structs between t and its field f are inlined.
func isReached(t reflect.Type, f reflect.StructField) bool {
	for n := range len(f.Index) - 1 {
		if !isInlined(t.FieldByIndex(f.Index[:n+1])) {
			return false
		}
	}
	return true
}

// shape is a schema in short: string, {name: string, age: integer}.
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

// typeName is the type of a schema in one word.
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
