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
	case t == timeType:
		return schema{"type": "string", "format": "date-time"}
	case t == rawType, t.Implements(jsonMarshalerType):
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
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || f.Anonymous && name == "" || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		properties[name] = schemaInside(f.Type, outer)
	}
	return schema{"type": "object", "properties": properties}
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
