package main

// This file owns gob values whose Go type nobody has: a client that prints any result, and an
// argument that was typed as JSON.

import (
	"encoding/json"
	"strconv"
	"time"
)

// appendJSON appends a value that was checked as JSON. Names of members are those of the Go
// fields. As in gob, fields that are zero are missing.
func (ts *gobTypes) appendJSON(dst []byte, id int, raw []byte) []byte {
	r := gobReader{b: raw}
	ts.top(id, &r)
	return ts.appendValue(dst, id, &r)
}

func (ts *gobTypes) appendValue(dst []byte, id int, r *gobReader) []byte {
	switch id {
	case gobBool:
		return strconv.AppendBool(dst, r.uint() != 0)
	case gobInt:
		return strconv.AppendInt(dst, r.int(), 10)
	case gobUint:
		return strconv.AppendUint(dst, r.uint(), 10)
	case gobFloat:
		return appendJSONFloat(dst, r.float())
	case gobString:
		return appendJSONString(dst, string(r.bytes()))
	case gobBytes:
		return appendJSONBytes(dst, r.bytes())
	case gobComplex:
		dst = append(appendJSONFloat(append(dst, '['), r.float()), ',')
		return append(appendJSONFloat(dst, r.float()), ']')
	}
	t := ts.byID[id]
	if t == nil {
		return append(dst, "null"...)
	}
	switch t.kind {
	case gobStruct:
		return ts.appendStruct(dst, t, r)
	case gobMap:
		return ts.appendMap(dst, t, r)
	case gobArray, gobSlice:
		dst = append(dst, '[')
		for i := range r.count(1) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = ts.appendValue(dst, t.elem, r)
		}
		return append(dst, ']')
	}
	return appendEncoded(dst, t, r.bytes())
}

func (ts *gobTypes) appendStruct(dst []byte, t *gobType, r *gobReader) []byte {
	dst = append(dst, '{')
	first := true
	for at := -1; r.field(&at, len(t.fields)); first = false {
		if !first {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, t.fields[at].name), ':')
		dst = ts.appendValue(dst, t.fields[at].id, r)
	}
	return append(dst, '}')
}

func (ts *gobTypes) appendMap(dst []byte, t *gobType, r *gobReader) []byte {
	dst = append(dst, '{')
	for i := range r.count(2) {
		if i > 0 {
			dst = append(dst, ',')
		}
		if key := ts.appendValue(nil, t.key, r); len(key) > 0 && key[0] == '"' {
			dst = append(dst, key...)
		} else {
			dst = appendJSONString(dst, string(key))
		}
		dst = ts.appendValue(append(dst, ':'), t.elem, r)
	}
	return append(dst, '}')
}

// appendEncoded appends what a type has encoded in its own way: a time, text, JSON, or else
// bytes that only the type itself understands.
func appendEncoded(dst []byte, t *gobType, b []byte) []byte {
	if t.kind == gobText {
		return appendJSONString(dst, string(b))
	}
	var at time.Time
	if t.name == "Time" && at.UnmarshalBinary(b) == nil {
		return at.AppendFormat(append(dst, '"'), time.RFC3339Nano+`"`)
	}
	if json.Valid(b) {
		return append(dst, b...)
	}
	return appendJSONBytes(dst, b)
}

// gobOfDocument is the gob form of JSON whose Go type nobody has: a text is a text, and everything else its
// JSON as bytes, which a Go program takes as json.RawMessage.
func gobOfDocument(d document) any {
	if len(d) > 0 && d[0] == '"' {
		return string(unquoteJSON(d[1 : len(d)-1]))
	}
	return []byte(d)
}

// gobOfJSON finds the Go value whose gob form a method will take. An object has none: gob knows
// members by the names and types of Go fields, which JSON does not tell.
func gobOfJSON(text json.RawMessage) (any, error) {
	var v any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &v); err != nil {
			return nil, err
		}
	}
	switch v := v.(type) {
	case float64:
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return n, nil
		}
	case []any:
		return gobOfArray(v)
	case map[string]any:
		return nil, usagef("gob has no form for a JSON object whose Go type is not known").
			withHint("call over JSON-RPC: leave out ?proto=gob")
	}
	return v, nil
}

// gobOfArray makes a slice of the one type that all elements have.
func gobOfArray(list []any) (any, error) {
	texts, numbers := []string{}, []float64{}
	for _, e := range list {
		switch e := e.(type) {
		case string:
			texts = append(texts, e)
		case float64:
			numbers = append(numbers, e)
		}
	}
	switch len(list) {
	case len(texts):
		return texts, nil
	case len(numbers):
		return numbers, nil
	}
	return nil, usagef("gob has no form for a JSON array of several types, or of objects").
		withHint("call over JSON-RPC: leave out ?proto=gob")
}
