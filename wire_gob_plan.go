package main

// This file owns JSON that becomes a gob value of the type that a schema says. What does not fit that is an error: gob has
// no other type for it, and its reader would take a wrong value for a right one.

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A gobPlan is the gob type of what a schema describes.
type gobPlan struct {
	gobPlace
	id    int       // of the type; gobFirstUser is types[0], and so on
	types []gobType // with ids like that
	text  string    // their definitions, by which plans of the same types know each other
}

// newGobPlan returns the plan for what is at p.
func newGobPlan(p gobPlace) *gobPlan {
	plan := &gobPlan{gobPlace: p}
	ids := map[*gobForm]int{}
	var forms []*gobForm // that have types of their own, whose definitions are still to be made
	idOf := func(f *gobForm) int {
		if id, plain := plainGobIDs[f.kind]; plain {
			return id
		}
		if ids[f] == 0 {
			forms = append(forms, f)
			ids[f] = gobFirstUser - 1 + len(forms)
		}
		return ids[f]
	}
	plan.id = idOf(p.gobForm)
	for i := 0; i < len(forms); i++ {
		t := gobType{kind: gobStruct}
		switch f := forms[i]; f.kind {
		case formTime:
			t.kind, t.name = gobEncoded, "Time"
		case formArray:
			t.kind, t.elem = gobSlice, idOf(f.elem.gobForm)
		case formMap:
			t.kind, t.key, t.elem = gobMap, gobString, idOf(f.elem.gobForm)
		case formObject:
			for _, m := range f.members {
				if m.field == "" {
					m.field = m.name // which Go does not see
				}
				t.fields = append(t.fields, gobField{m.field, idOf(m.gobForm)})
			}
		}
		plan.types = append(plan.types, t)
	}
	plan.text = string(plan.definitions(gobFirstUser))
	return plan
}

// plainGobIDs are the types that need no definition.
var plainGobIDs = map[formKind]int{
	formUnknown: gobBytes, formAny: gobBytes, formBoolean: gobBool, formInteger: gobInt, formUnsigned: gobUint, formNumber: gobFloat,
	formString: gobString, formBytes: gobBytes,
}

// definitions returns the definitions of the types, each as a message of its own, whose ids begin with first.
func (p *gobPlan) definitions(first int) (b []byte) {
	for i := range p.types {
		b = appendGobDefinition(b, first+i, &p.types[i], first-gobFirstUser)
	}
	return b
}

// value returns the gob message with a document, if the ids of the types begin with first. An error says what does not fit.
func (p *gobPlan) value(d document, first int) (encodedGob, error) {
	id, isStruct := p.id, false
	if id >= gobFirstUser {
		isStruct = p.types[id-gobFirstUser].kind == gobStruct
		id += first - gobFirstUser
	}
	b := appendGobInt([]byte{0}, int64(id))
	if !isStruct {
		b = append(b, 0)
	}
	b, err := appendGobOf(b, p.gobPlace, d)
	if err != nil {
		return nil, err
	}
	return closeGob(b, 0), nil
}

// A gobMisfit is a JSON value that is not what the schema says, or that gob cannot say.
type gobMisfit struct {
	at string // a JSON Pointer
	is string
	no string // why it is not sent
}

func (m *gobMisfit) Error() string {
	if m.at == "" {
		return "it is " + m.is + "; " + m.no
	}
	return m.at + " is " + m.is + "; " + m.no
}

// misfits returns the error of a value that is not of the form at p.
func (p gobPlace) misfits(text []byte) error {
	is := jsonKindOf(text)
	if text[0] != '{' && text[0] != '[' && text[0] != 'n' {
		is += " " + shorten(string(text), 60)
	}
	return &gobMisfit{is: is, no: "its schema says " + p.kind.words()}
}

// under adds to an error what the value is in.
func under(err error, outer string) error {
	if m, ok := err.(*gobMisfit); ok {
		m.at = "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(outer) + m.at
	}
	return err
}

// appendGobOf appends a JSON value, which has been validated, as what is at p.
func appendGobOf(dst []byte, p gobPlace, text []byte) ([]byte, error) {
	if string(text) == nullID && p.kind > formNull {
		if p.kind < formBytes || !p.null {
			return dst, p.misfitOfNull()
		}
		return append(dst, 0), nil // nothing: of that, each of them can have none
	}
	switch p.kind {
	case formUnknown, formAny:
		return append(appendGobUint(dst, uint64(len(text))), text...), nil
	case formNull:
		if string(text) == nullID {
			return append(dst, 0), nil
		}
	case formBoolean:
		switch text[0] {
		case 't':
			return append(dst, 1), nil
		case 'f':
			return append(dst, 0), nil
		}
	case formInteger, formUnsigned, formNumber:
		if out, ok := appendGobNumber(dst, p.kind, text); ok {
			return out, nil
		}
	case formString, formTime, formBytes:
		if text[0] == '"' {
			if b, ok := gobTextOf(p.kind, unquoteJSON(text[1:len(text)-1])); ok {
				return append(appendGobUint(dst, uint64(len(b))), b...), nil
			}
		}
	case formArray:
		if text[0] == '[' {
			return appendGobArray(dst, p.elem, text)
		}
	case formMap:
		if text[0] == '{' {
			return appendGobMap(dst, p.elem, text)
		}
	case formObject:
		if text[0] == '{' {
			return appendGobObject(dst, p.gobForm, text)
		}
	}
	return dst, p.misfits(text)
}

// misfitOfNull returns the error for a null at p, where gob needs a value.
func (p gobPlace) misfitOfNull() error {
	if p.null {
		return &gobMisfit{is: nullID, no: "gob has nothing like it here, since it needs " + p.kind.words()}
	}
	return p.misfits([]byte(nullID))
}

// appendGobNumber appends a number, unless it is none or has no place in the type.
func appendGobNumber(dst []byte, kind formKind, text []byte) (out []byte, ok bool) {
	number := string(text)
	if text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return dst, false
	}
	if kind == formNumber {
		f, err := strconv.ParseFloat(number, 64)
		return appendGobFloat(dst, f), err == nil
	}
	if digits, whole := wholeNumber(text); whole {
		number = digits
	}
	if kind == formUnsigned {
		n, err := strconv.ParseUint(number, 10, 64)
		return appendGobUint(dst, n), err == nil
	}
	n, err := strconv.ParseInt(number, 10, 64)
	return appendGobInt(dst, n), err == nil
}

// gobTextOf returns the bytes that a text is in gob, unless it is none of its kind.
func gobTextOf(kind formKind, text []byte) (b []byte, ok bool) {
	var err error
	switch kind {
	case formTime:
		var at time.Time
		if err = at.UnmarshalText(text); err == nil {
			b, err = at.MarshalBinary()
		}
	case formBytes:
		b, err = base64.StdEncoding.AppendDecode(nil, text)
	default:
		return text, true
	}
	return b, err == nil
}

func appendGobArray(dst []byte, elem gobPlace, text []byte) (_ []byte, err error) {
	n := 0
	for w := enter(text); ; n++ {
		if _, ok := w.element(); !ok {
			break
		}
	}
	dst = appendGobUint(dst, uint64(n))
	w := enter(text)
	for i := range n {
		value, _ := w.element()
		if dst, err = appendGobElement(dst, elem, value); err != nil {
			return dst, under(err, strconv.Itoa(i))
		}
	}
	return dst, nil
}

func appendGobMap(dst []byte, elem gobPlace, text []byte) (_ []byte, err error) {
	n := 0
	for w := enter(text); ; n++ {
		if _, _, ok := w.member(); !ok {
			break
		}
	}
	dst = appendGobUint(dst, uint64(n))
	w := enter(text)
	for range n {
		name, value, _ := w.member()
		key := string(unquoteJSON(name))
		if dst, err = appendGobElement(appendGobString(dst, key), elem, value); err != nil {
			return dst, under(err, key)
		}
	}
	return dst, nil
}

// appendGobElement appends what is in an array or a map. There gob has no way to leave something out.
func appendGobElement(dst []byte, p gobPlace, text []byte) ([]byte, error) {
	if string(text) == nullID && p.kind > formNull {
		return dst, p.misfitOfNull()
	}
	return appendGobOf(dst, p, text)
}

// appendGobObject appends a struct. What is null in it is left out. Members that the schema does not name have no field.
func appendGobObject(dst []byte, f *gobForm, text []byte) (_ []byte, err error) {
	type found struct {
		at   int
		text []byte
	}
	var there []found
	for w := enter(text); ; {
		name, value, ok := w.member()
		if !ok {
			break
		}
		if at, known := f.exact[string(unquoteJSON(name))]; known {
			there = append(there, found{at, value})
		}
	}
	slices.SortFunc(there, func(a, b found) int { return a.at - b.at })
	last := -1
	for _, v := range there {
		m := &f.members[v.at]
		switch {
		case string(v.text) == nullID && m.null && m.kind != formAny:
			continue
		case m.field == "":
			return dst, under(&gobMisfit{is: jsonKindOf(v.text), no: fmt.Sprintf("gob cannot tell %s from %s", m.name, fieldName(m.name))}, m.name)
		}
		dst = appendGobUint(dst, uint64(v.at-last))
		if dst, err = appendGobOf(dst, m.gobPlace, v.text); err != nil {
			return dst, under(err, m.name)
		}
		last = v.at
	}
	return append(dst, 0), nil
}
