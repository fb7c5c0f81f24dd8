package main

// This file owns gob values whose Go type is not known here: the results that a client prints, and the arguments that
// somebody typed as JSON.

import (
	"encoding/json"
	"strconv"
	"time"
)

// appendJSON appends a value as JSON. gobTypes.value must have accepted it. Members are named for the Go fields; those
// with zero values are missing, as they are in gob.
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

// appendEncoded appends a value that its type has encoded in its own way: as text, a time, JSON, or else as bytes that
// only the type understands.
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

// gobOfDocument returns the gob form of JSON whose Go type is not known. A string is a string; everything else is its
// JSON as bytes, which a Go program can decode into a json.RawMessage.
func gobOfDocument(d document) any {
	if len(d) > 0 && d[0] == '"' {
		return string(unquoteJSON(d[1 : len(d)-1]))
	}
	return []byte(d)
}

// gobOfJSON returns the Go value whose gob form a method is likely to accept. There is none for an object: gob needs
// the names and types of the Go fields, which JSON does not have.
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
		return nil, usagef("a JSON object cannot be sent as gob: its Go type is not known").
			withHint("call over JSON-RPC: leave out ?proto=gob")
	}
	return v, nil
}

// gobOfArray returns a slice of the one type that all elements have.
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
	return nil, usagef("a JSON array of several types, or of anything but strings or numbers, cannot be sent as gob").
		withHint("call over JSON-RPC: leave out ?proto=gob")
}
