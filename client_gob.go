package main

// This file owns calls over gob by somebody who has types for neither argument nor result: the argument was typed as JSON,
// and the result is to be JSON. gob refuses an argument whose Go type is not the method's, down to int and float, and JSON
// does not have that type. The daemon is therefore asked for it; where it cannot say, what was typed decides.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// callGob is call over gob. A json.RawMessage is JSON here, as it is over every other protocol.
func (c *client) callGob(ctx context.Context, name string, arg, result any) error {
	text, isJSON := arg.(json.RawMessage)
	said := true // by the daemon, or there is nothing to say
	var d *Description
	if isJSON {
		var err error
		if d, err = c.describe(ctx, name); err != nil {
			return err
		}
		var s schema
		if said = d != nil && d.Argument != nil; said {
			s = d.Argument
		}
		if arg, err = gobOfJSON(text, s); err != nil {
			return err
		}
	}
	if raw, ok := result.(*json.RawMessage); ok {
		result = (*document)(raw)
		if d != nil {
			result = &formed{(*document)(raw), func() gobPlace { return formBy(d.Result) }}
		}
	}
	err := c.session.ask(ctx, name, arg, result, nil)
	if err == nil {
		return nil
	}
	var f *fault
	if !said && errors.As(err, &f) && strings.HasPrefix(f.Text, "gob: ") {
		return f.withHint("the server does not say what %s takes; over gob 5 is an integer and 5.0 is not", shorten(name, 100))
	}
	return err
}

// describe asks the daemon for the description of a method. It returns nil if the daemon does not say.
func (c *client) describe(ctx context.Context, name string) (*Description, error) {
	const method = "Ipcd.Describe"
	var list []Description
	err := c.session.ask(ctx, method, name, &list, nil)
	var f *fault
	switch {
	case err == nil && len(list) == 1 && list[0].Method == name:
		return &list[0], nil
	case err == nil:
		return nil, nil
	case !errors.As(err, &f):
		return nil, err
	case f.Code == codeNoMethod && strings.HasSuffix(f.Text, method), // it is another kind of server, as Go's own
		f.Code == codeApplication, f.Code == codeBadArgument, f.Code == codeTooLarge:
		return nil, nil
	}
	return nil, err
}

// gobOfJSON returns the Go value to send for JSON, by the schema of what the method takes.
func gobOfJSON(text json.RawMessage, s schema) (any, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if v == nil {
		if _, one := s["type"].(string); one && s.only() != "null" { // what would be sent runs a method that takes a struct
			return nil, faultf(codeBadArgument, "the argument is null, which the method does not take")
		}
		return nil, nil
	}
	t, err := gobTypeBy(s, v)
	if err != nil {
		return nil, err
	}
	p := reflect.New(t)
	if err := decodeBody(text, p.Interface()); err != nil {
		return nil, err
	}
	return p.Elem().Interface(), nil
}

// absent is in place of a value where there is none, but its type counts all the same: that of the elements of an empty
// list.
type absent struct{}

// gobTypeBy returns the Go type of a value by its schema. Where that allows anything, the value decides.
func gobTypeBy(s schema, v any) (reflect.Type, error) {
	if v == nil {
		return nil, noGobType("null inside of a JSON value cannot be sent as gob")
	}
	switch s.only() {
	case "boolean":
		return reflect.TypeFor[bool](), nil
	case "integer":
		if least, ok := s["minimum"].(json.Number); ok && !strings.HasPrefix(least.String(), "-") {
			return reflect.TypeFor[uint64](), nil
		}
		return reflect.TypeFor[int64](), nil
	case "number":
		return reflect.TypeFor[float64](), nil
	case "string":
		switch {
		case s["format"] == "date-time":
			return reflect.TypeFor[time.Time](), nil
		case s["contentEncoding"] == "base64":
			return reflect.TypeFor[[]byte](), nil
		}
		return reflect.TypeFor[string](), nil
	case "array":
		items, _ := s["items"].(map[string]any)
		list, _ := v.([]any)
		t, err := gobElement(items, list)
		if err != nil {
			return nil, err
		}
		return reflect.SliceOf(t), nil
	case "object":
		members, ok := s["additionalProperties"].(map[string]any)
		if !ok || s["properties"] != nil {
			return nil, noGobType("a JSON object cannot be sent as gob, which needs the names of the Go fields")
		}
		object, _ := v.(map[string]any)
		t, err := gobElement(members, slices.Collect(maps.Values(object)))
		if err != nil {
			return nil, err
		}
		return reflect.MapOf(reflect.TypeFor[string](), t), nil
	}
	return gobTypeOf(v)
}

// only returns the one type besides null that a schema allows, or "" if there are none or several.
func (s schema) only() string {
	if one, ok := s["type"].(string); ok {
		return one
	}
	only := ""
	several, _ := s["type"].([]any)
	for _, t := range several {
		if name, _ := t.(string); name != "null" && only == "" {
			only = name
		} else if name != "null" {
			return ""
		}
	}
	return only
}

// gobElement returns the Go type that all elements of a list can have.
func gobElement(s schema, list []any) (reflect.Type, error) {
	if len(list) == 0 {
		list = []any{absent{}}
	}
	var common reflect.Type
	for _, v := range list {
		t, err := gobTypeBy(s, v)
		if err != nil {
			return nil, err
		}
		switch float := reflect.TypeFor[float64](); {
		case common == nil || common == t:
			common = t
		case (common.Kind() == reflect.Float64 || isInteger(common)) && (t == float || isInteger(t)):
			common = float // 1 and 2.5
		default:
			return nil, noGobType("a JSON array of several types cannot be sent as gob")
		}
	}
	return common, nil
}

func isInteger(t reflect.Type) bool { return t.Kind() == reflect.Int64 || t.Kind() == reflect.Uint64 }

// gobTypeOf returns the Go type of a value by how it was typed.
func gobTypeOf(v any) (reflect.Type, error) {
	switch v := v.(type) {
	case string:
		return reflect.TypeFor[string](), nil
	case bool:
		return reflect.TypeFor[bool](), nil
	case json.Number:
		for _, t := range []reflect.Type{reflect.TypeFor[int64](), reflect.TypeFor[uint64]()} {
			if json.Unmarshal([]byte(v), reflect.New(t).Interface()) == nil {
				return t, nil
			}
		}
		return reflect.TypeFor[float64](), nil
	case []any:
		t, err := gobElement(nil, v)
		if err != nil {
			return nil, err
		}
		return reflect.SliceOf(t), nil
	case absent:
		return nil, noGobType("an empty JSON array cannot be sent as gob, which needs the type of its elements")
	}
	return nil, noGobType("a JSON object cannot be sent as gob, which needs the types of the Go fields")
}

func noGobType(text string) *fault {
	return usagef("%s", text).withHint("call over JSON-RPC: leave out ?proto=gob")
}
