package main

// This file owns gob values whose Go type is not known here: they become JSON.

import (
	"encoding/json"
	"strconv"
	"time"
)

// appendJSON appends a value of the type with that id as JSON. The value must have been checked. Members are named for
// the Go fields; those with zero values are missing, as they are in gob.
func (w *gobWalk) appendJSON(dst []byte, id int) []byte {
	w.top(id)
	return w.appendValue(dst, id)
}

func (w *gobWalk) appendValue(dst []byte, id int) []byte {
	switch id {
	case gobBool:
		return strconv.AppendBool(dst, w.uint() != 0)
	case gobInt:
		return strconv.AppendInt(dst, w.int(), 10)
	case gobUint:
		return strconv.AppendUint(dst, w.uint(), 10)
	case gobFloat:
		return appendJSONFloat(dst, w.float())
	case gobString:
		return appendJSONString(dst, string(w.bytes()))
	case gobBytes:
		return appendJSONBytes(dst, w.bytes())
	case gobComplex:
		dst = append(appendJSONFloat(append(dst, '['), w.float()), ',')
		return append(appendJSONFloat(dst, w.float()), ']')
	case gobInterface:
		inner := w.enter()
		if inner == 0 {
			return append(dst, "null"...)
		}
		dst = w.appendJSON(dst, inner)
		w.leave()
		return dst
	}
	t := w.types.byID[id]
	if t == nil {
		return append(dst, "null"...)
	}
	switch t.kind {
	case gobStruct:
		return w.appendStruct(dst, t)
	case gobMap:
		return w.appendMap(dst, t)
	case gobArray, gobSlice:
		dst = append(dst, '[')
		for i := range w.count(1) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = w.appendValue(dst, t.elem)
		}
		return append(dst, ']')
	}
	return appendEncoded(dst, t, w.bytes())
}

func (w *gobWalk) appendStruct(dst []byte, t *gobType) []byte {
	dst = append(dst, '{')
	first := true
	for at := -1; w.field(&at, len(t.fields)); first = false {
		if !first {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, t.fields[at].name), ':')
		dst = w.appendValue(dst, t.fields[at].id)
	}
	return append(dst, '}')
}

func (w *gobWalk) appendMap(dst []byte, t *gobType) []byte {
	dst = append(dst, '{')
	for i := range w.count(2) {
		if i > 0 {
			dst = append(dst, ',')
		}
		if key := w.appendValue(nil, t.key); len(key) > 0 && key[0] == '"' {
			dst = append(dst, key...)
		} else {
			dst = appendJSONString(dst, string(key))
		}
		dst = w.appendValue(append(dst, ':'), t.elem)
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
