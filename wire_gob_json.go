package main

// This file owns gob values whose Go type is not known here: they become JSON.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// gobGrowth is how many bytes of JSON a byte of a result may become, at the most: escapes take six. A few bytes of a slice may
// otherwise be many structs, with all the zeros that gob leaves out.
const gobGrowth = 8

// bodyJSON gives v the body, which is of the type with that id, as JSON of the form at p. That of an argument is kept as long as its
// call runs, and counts for that: what it has more than the message is reserved while it is made.
func (c *gobCodec) bodyJSON(id int, p gobPlace, v *document) error {
	w := gobWalk{gobReader: gobReader{b: c.raw}, types: &c.types, known: true, source: &c.rest, limit: c.limits.MaxMessage * gobGrowth}
	w.most = w.limit
	if c.reads == request {
		w.passed, w.limit = p.kind != formUnknown, c.limits.MaxMessage
		w.most, w.reserve = min(max(c.taken, inputKeep), w.limit), c.in.reserve
	}
	text := w.appendJSON(nil, id, p)
	if w.isOver(text) {
		return w.err
	}
	if c.reads == request {
		c.size = len(text)
		if len(text) > 0 {
			if err := checkPassed(text, c.limits); err != nil {
				return err
			}
		}
	}
	*v = text
	return nil
}

// A gobMember is a field of a struct as a member of an object.
type gobMember struct {
	name string // as JSON, with the colon
	zero string // what a field is that gob has left out; "" if it is left out in JSON, too
	gobPlace
}

// appendJSON appends a value of the type with that id as JSON of the form at p. The value must have been checked. A struct
// without fields, which clients send for want of an argument, is none unless an object is due.
func (w *gobWalk) appendJSON(dst []byte, id int, p gobPlace) []byte {
	if t := w.types.byID[id]; w.passed && t != nil && t.kind == gobStruct && len(t.fields) == 0 && p.kind < formBoolean {
		return nil
	}
	return w.appendTop(dst, id, p)
}

// appendTop is appendJSON for what stands for itself, inside of a value as well.
func (w *gobWalk) appendTop(dst []byte, id int, p gobPlace) []byte {
	w.top(id)
	return w.appendValue(dst, id, p)
}

func (w *gobWalk) appendValue(dst []byte, id int, p gobPlace) []byte {
	switch id {
	case gobBool:
		return strconv.AppendBool(dst, w.uint() != 0)
	case gobInt:
		return strconv.AppendInt(dst, w.int(), 10)
	case gobUint:
		return strconv.AppendUint(dst, w.uint(), 10)
	case gobFloat:
		return w.appendFloat(dst)
	case gobString:
		return w.appendText(dst, w.bytes())
	case gobBytes:
		return w.appendBytes(dst, w.bytes(), p)
	case gobComplex:
		dst = append(w.appendFloat(append(dst, '[')), ',')
		return append(w.appendFloat(dst), ']')
	case gobInterface:
		inner := w.enter()
		if inner == 0 {
			return append(dst, nullID...)
		}
		dst = w.appendTop(dst, inner, p)
		w.leave()
		return dst
	}
	t := w.types.byID[id]
	if t == nil {
		return append(dst, nullID...)
	}
	switch t.kind {
	case gobStruct:
		return w.appendStruct(dst, t, p)
	case gobMap:
		return w.appendMap(dst, t, p)
	case gobArray, gobSlice:
		dst = append(dst, '[')
		for i := range w.count(1) {
			if w.isOver(dst) {
				break
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = w.appendValue(dst, t.elem, p.inside())
		}
		return append(dst, ']')
	}
	return w.appendEncoded(dst, t, w.bytes())
}

// isOver reports whether nothing more has to be appended, since there is an error, or is one now: it is too long.
func (w *gobWalk) isOver(dst []byte) bool { return !w.fits(len(dst)) }

// fits reports whether there is no error, and room for n bytes of JSON in all.
func (w *gobWalk) fits(n int) bool {
	if n > w.most && w.err == nil {
		w.makeRoom(n)
	}
	return w.err == nil
}

// makeRoom reserves room for n bytes in all, and for more that are likely to come.
func (w *gobWalk) makeRoom(n int) {
	if n > w.limit {
		w.fail(tooLarge("max_message", int64(w.limit), "the gob value is too long as JSON"))
		return
	}
	most := min(n+n/2, w.limit)
	if f := w.reserve(most - w.most); f != nil {
		w.fail(f)
		return
	}
	w.most = most
}

// refuse ends the walk: what the value has is not said in JSON. A result for people may lose it.
func (w *gobWalk) refuse(what string) {
	if w.passed {
		w.fail(faultf(codeBadArgument, "the argument has %s", what))
	}
}

func (w *gobWalk) appendFloat(dst []byte) []byte {
	v := w.float()
	if math.IsNaN(v) || math.IsInf(v, 0) {
		w.refuse(fmt.Sprintf("the number %v, which JSON does not have", v))
	}
	return appendJSONFloat(dst, v)
}

func (w *gobWalk) appendText(dst, b []byte) []byte {
	if !utf8.Valid(b) {
		w.refuse("a string that is not UTF-8, which JSON does not have")
	}
	dst = append(dst, '"')
	for len(b) > gobTextPart && !w.isOver(dst) {
		n := gobTextPart
		for i := n; i > n-utf8.UTFMax; i-- {
			if utf8.RuneStart(b[i]) {
				n = i
				break
			}
		}
		dst, b = appendJSONChars(dst, string(b[:n])), b[n:]
	}
	return append(appendJSONChars(dst, string(b)), '"')
}

// gobTextPart is how many bytes of a string are appended before it is looked whether there is room for more: they may become six times
// as many.
const gobTextPart = 64 << 10

// appendBytes appends bytes: in base64 where the schema says so, or nobody says anything, and otherwise as the JSON that they
// are, since a json.RawMessage is bytes.
func (w *gobWalk) appendBytes(dst, b []byte, p gobPlace) []byte {
	text := bytes.TrimSpace(b)
	switch {
	case p.kind == formUnknown || p.kind == formBytes:
		return w.appendBase64(dst, b)
	case len(b) == 0 && p.null:
		return append(dst, nullID...)
	case json.Valid(text) && p.takes(text):
		return append(dst, text...)
	}
	w.refuse("bytes that are neither JSON nor " + p.kind.words() + "; the schema can declare bytes with contentEncoding base64")
	return w.appendBase64(dst, b)
}

func (w *gobWalk) appendBase64(dst, b []byte) []byte {
	if !w.fits(len(dst) + base64.StdEncoding.EncodedLen(len(b)) + 2) {
		return dst
	}
	return appendJSONBytes(dst, b)
}

// takes reports whether JSON begins like a value at p.
func (p gobPlace) takes(text []byte) bool {
	switch c := text[0]; {
	case p.kind == formAny:
		return true
	case c == '{':
		return p.kind == formMap || p.kind == formObject
	case c == '[':
		return p.kind == formArray
	case c == '"':
		return p.kind == formString || p.kind == formTime
	case c == 't' || c == 'f':
		return p.kind == formBoolean
	case c == 'n':
		return p.null
	}
	return p.kind == formInteger || p.kind == formUnsigned || p.kind == formNumber
}

// appendStruct appends a struct as an object. Fields that gob has left out are there as their zeros, but not those that a
// schema which names the members does not name.
func (w *gobWalk) appendStruct(dst []byte, t *gobType, p gobPlace) []byte {
	members := w.membersOf(t, p)
	if w.isOver(dst) {
		return dst
	}
	open := len(dst)
	dst = append(dst, '{')
	begin := func(m *gobMember) {
		if w.isOver(dst) { // a few long names may be most of it
			return
		}
		if len(dst) > open+1 {
			dst = append(dst, ',')
		}
		dst = append(dst, m.name...)
	}
	next := 0
	zeros := func(end int) {
		for ; next < end; next++ {
			if m := &members[next]; m.zero != "" {
				begin(m)
				dst = append(dst, m.zero...)
			}
		}
	}
	for at := -1; w.field(&at, len(t.fields)); next = at + 1 {
		zeros(at)
		begin(&members[at])
		dst = w.appendValue(dst, t.fields[at].id, members[at].gobPlace)
	}
	zeros(len(t.fields))
	return append(dst, '}')
}

// membersOf returns which members of an object at p the fields of a struct are. It fails where one could be several, or
// several are one.
func (w *gobWalk) membersOf(t *gobType, p gobPlace) []gobMember {
	if t.namedBy == p.gobForm {
		return t.named
	}
	members := make([]gobMember, len(t.fields))
	taken := make(map[string]string, len(t.fields))
	for i, f := range t.fields {
		m, name, named := &members[i], f.name, true
		m.gobPlace = p.inside()
		if p.kind == formObject {
			at, several := p.memberFor(f.name)
			if len(several) > 0 {
				w.fail(faultf(codeBadArgument, "the field %s could be any of the members %q, which differ in case alone; call over JSON-RPC", f.name, several))
				return nil
			}
			if named = at >= 0; named {
				name, m.gobPlace = p.members[at].name, p.members[at].gobPlace
			}
		}
		if other, twice := taken[name]; twice {
			w.fail(faultf(codeBadArgument, "the fields %s and %s are both the member %q", other, f.name, name))
			return nil
		}
		taken[name] = f.name
		m.name = string(append(appendJSONString(nil, name), ':'))
		if named {
			m.zero = w.types.zeroJSON(f.id, m.gobPlace)
		}
	}
	t.named, t.namedBy = members, p.gobForm
	return members
}

// zeroJSON returns the zero of a type as JSON, or "" if there is none or nobody knows it: a type may encode itself in a way of
// its own. A struct or an array that gob leaves out is a nil pointer.
func (ts *gobTypes) zeroJSON(id int, p gobPlace) string {
	null := ""
	if p.null {
		null = nullID
	}
	switch id {
	case gobBool:
		return "false"
	case gobInt, gobUint, gobFloat:
		return "0"
	case gobString:
		return `""`
	case gobComplex:
		return "[0,0]"
	case gobInterface:
		return null
	case gobBytes:
		if p.kind == formUnknown || p.kind == formBytes {
			return `""`
		}
		return null
	}
	t := ts.byID[id]
	switch {
	case t == nil:
		return ""
	case t.kind == gobSlice:
		return "[]"
	case t.kind == gobMap:
		return "{}"
	case t.kind == gobStruct || t.kind == gobArray:
		return null
	case t.isTime():
		return `"0001-01-01T00:00:00Z"`
	}
	return ""
}

func (w *gobWalk) appendMap(dst []byte, t *gobType, p gobPlace) []byte {
	dst = append(dst, '{')
	for i := range w.count(2) {
		if w.isOver(dst) {
			break
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		key := w.appendValue(nil, t.key, placeOf(formUnknown, true))
		if len(key) == 0 || key[0] != '"' {
			key = appendJSONString(nil, string(key))
		}
		dst = append(append(dst, key...), ':')
		dst = w.appendValue(dst, t.elem, p.member(string(unquoteJSON(key[1:len(key)-1]))))
	}
	return append(dst, '}')
}

// isTime reports whether a type that encodes itself seems to be time.Time.
func (t *gobType) isTime() bool { return t.kind > gobMap && t.kind != gobText && t.name == "Time" }

// appendEncoded appends a value that its type has encoded in its own way: as text, a time, JSON, or else as bytes that
// only the type understands.
func (w *gobWalk) appendEncoded(dst []byte, t *gobType, b []byte) []byte {
	if t.kind == gobText {
		return w.appendText(dst, b)
	}
	var at time.Time
	if t.isTime() && at.UnmarshalBinary(b) == nil {
		text, err := at.MarshalText()
		if err != nil {
			w.refuse("a time that RFC 3339 does not have: " + err.Error())
			text = at.AppendFormat(nil, time.RFC3339Nano)
		}
		return append(append(append(dst, '"'), text...), '"')
	}
	if json.Valid(b) {
		return append(dst, b...)
	}
	return w.appendBase64(dst, b)
}
