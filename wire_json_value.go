package main

// This file owns the conversion between JSON and Go values: the arguments that methods get, and the bodies that are
// written. The messages around them are in wire_json.go.

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// decodeParams finds the argument in params and decodes it.
func decodeParams(params []byte, v any) error {
	if give, all := v.(lentParams); all {
		give(params)
		return nil
	}
	if len(params) == 0 || string(params) == "null" {
		return noArgument(v)
	}
	switch params[0] {
	case '{':
		return decodeBody(params, v)
	case '[':
	default:
		return faultf(codeBadArgument, "params is %s; expected an array with the argument, or an object", jsonKindOf(params))
	}
	w := enter(params)
	argument, ok := w.element()
	if !ok {
		return noArgument(v)
	}
	more := 1
	for {
		if _, ok := w.element(); !ok {
			break
		}
		more++
	}
	if more > 1 {
		return faultf(codeBadArgument, "params has %d elements; the method takes one argument", more)
	}
	return decodeBody(argument, v)
}

// noArgument leaves v as the argument of a call that has none. A type that takes any JSON gets null.
func noArgument(v any) error {
	switch v := v.(type) {
	case *json.RawMessage:
		*v = json.RawMessage("null")
		return nil
	case nil, *any, *document, *formed, lent: // a provider decides for itself whether it needs an argument
		return nil
	}
	return faultf(codeBadArgument, "the method takes one argument, and none was given")
}

// decodeBody decodes a validated argument into v, a pointer, or nil if the method takes none.
func decodeBody(b []byte, v any) error { return decodeValue("the argument", b, v) }

func decodeValue(what string, b []byte, v any) error {
	if len(b) == 0 {
		b = []byte("null")
	}
	switch v := v.(type) {
	case nil: // libraries that always send something send one of these
		if string(b) == nullID || b[0] == '{' && len(bytes.Trim(b[1:len(b)-1], jsonSpace)) == 0 {
			return nil
		}
		return faultf(codeBadArgument, "the method takes no argument, and was given %s", jsonKindOf(b))
	case *string:
		if b[0] != '"' {
			return faultf(codeBadArgument, "%s is %s; expected a string", what, jsonKindOf(b))
		}
		*v = string(unquoteJSON(b[1 : len(b)-1]))
		return nil
	case *json.RawMessage:
		*v = bytes.Clone(b)
		return nil
	case *document:
		*v = bytes.Clone(b)
		return nil
	case *formed:
		*v.document = bytes.Clone(b)
		return nil
	case lent:
		v(b)
		return nil
	}
	form := formOf(reflect.TypeOf(v).Elem())
	text, err := form.fit(what, b)
	if err != nil {
		return err
	}
	err = form.decodeJSON(text, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		if name, ok := strings.CutPrefix(wrong.Value, "number "); ok && !isJSONNumber([]byte(name)) { // of a member, where integers are due
			return badPart(what, wrong.Field, "has a member %q; expected its name to be %s", shorten(name, 40), jsonKindFor(wrong.Type))
		}
		return misfit(what, cmp.Or(form.blame(text), wrong.Field), article(wrong.Value), jsonKindFor(wrong.Type))
	}
	return badPart(what, form.blame(text), "is not as expected: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// misfit returns the fault of a value that is not of its type.
func misfit(what, field, is, expected string) *fault {
	return badPart(what, field, "is %s; expected %s", is, expected)
}

// badPart returns the fault of an argument or of a field in it.
func badPart(what, field, format string, args ...any) *fault {
	if field == "" {
		return faultf(codeBadArgument, what+" "+format, args...)
	}
	f := faultf(codeBadArgument, "the field %s of "+what+" "+format, append([]any{field}, args...)...)
	f.Data = faultData{Field: field}.json()
	return f
}

// passedDepth is how deep an argument is in a message.
const passedDepth = 2

// checkPassed checks a document that has not come in a message and may go out in one: whoever reads that refuses
// the whole message for what is wrong with its argument, and may well close the connection.
func checkPassed(d document, l limits) error {
	l.MaxDepth -= passedDepth
	err := checkJSON(d, l)
	var f *fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return faultf(codeBadArgument, "the argument cannot be passed on as JSON: %w", err)
}

// isJSONText reports whether b, a value or nothing, is a string that says text, however it is spelled.
func isJSONText(b []byte, text string) bool {
	return len(b) > 1 && b[0] == '"' && string(unquoteJSON(b[1:len(b)-1])) == text
}

// jsonKindOf names the type of a JSON value, with an article.
func jsonKindOf(b []byte) string {
	switch b[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// article returns a name of encoding/json with an article: string, number 1.5, bool, array, object.
func article(name string) string {
	switch {
	case name == "bool":
		return "a boolean"
	case strings.HasPrefix(name, "array"), strings.HasPrefix(name, "object"):
		return "an " + name
	}
	return "a " + shorten(name, 60)
}

// jsonKindFor names the JSON type that a Go type is decoded from, with an article.
func jsonKindFor(t reflect.Type) string {
	switch {
	case t == timeType:
		return "a time such as 2006-01-02T15:04:05Z"
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		return "a string"
	case isBytes(t):
		return "a string in base64"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("an integer of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Sprintf("an unsigned integer of %d bits", t.Bits())
	case reflect.Float32, reflect.Float64:
		return fmt.Sprintf("a number of %d bits", t.Bits())
	case reflect.Slice:
		return "an array"
	case reflect.Array:
		return fmt.Sprintf("an array of at most %d", t.Len())
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a string"
}

// bodyInTurn is the longest text to encode while other answers wait: it takes about 50 µs.
const bodyInTurn = 32 << 10

// encodedJSON is the result of prepareJSON.
type encodedJSON []byte

// prepareJSON encodes a body if that could take long or run a foreign MarshalJSON.
func prepareJSON(body any) (any, error) {
	size := 0
	switch v := body.(type) {
	case nil, bool, int, encodedJSON:
	case string:
		size = len(v)
	case []byte:
		size = len(v)
	case document:
		if isOneLine(v) {
			return encodedJSON(v), nil
		}
		size = len(v)
	default:
		size = math.MaxInt
	}
	if size <= bodyInTurn {
		return body, nil
	}
	b, err := appendBody(nil, body)
	return encodedJSON(b), err
}

// isOneLine reports whether a document has a form that can be sent as it is. There is no line end in a string.
func isOneLine(d document) bool {
	return len(d) > 0 && d[0] == '"' || bytes.IndexByte(d, '\n') < 0 && bytes.IndexByte(d, '\r') < 0
}

// appendBody appends a Go value as JSON. An error means that the value has no JSON form.
func appendBody(dst []byte, v any) (out []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return appendJSONString(dst, v), nil
	case []byte:
		return appendJSONBytes(dst, v), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case encodedJSON:
		return append(dst, v...), nil
	case document:
		return appendDocument(dst, v), nil
	}
	defer func() {
		if p := recover(); p != nil { // in a foreign MarshalJSON
			out, err = dst, fmt.Errorf("%v", p)
		}
	}()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return dst, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...), nil
}

// appendDocument appends JSON that is passed on. Our messages are one line each, so line ends become blanks; JSON has
// line ends only between its tokens.
func appendDocument(dst, b []byte) []byte {
	start := len(dst)
	dst = append(dst, b...)
	for _, end := range []byte("\n\r") {
		for rest := dst[start:]; ; {
			at := bytes.IndexByte(rest, end)
			if at < 0 {
				break
			}
			rest[at] = ' '
			rest = rest[at+1:]
		}
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendJSONString appends s in quotes.
func appendJSONString(dst []byte, s string) []byte {
	return append(appendJSONChars(append(dst, '"'), s), '"')
}

// appendJSONChars appends what stands for s between quotes. Invalid UTF-8 becomes U+FFFD, as in encoding/json.
func appendJSONChars(dst []byte, s string) []byte {
	text := unsafe.Slice(unsafe.StringData(s), len(s)) // to be looked at eight bytes at a time; nothing writes to it
	start := 0
	for i := 0; i < len(s); {
		i += plainText(text[i:])
		for end := min(i+8, len(s)); i < end; {
			c := s[i]
			if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
				i++
				continue
			}
			r, n := utf8.DecodeRuneInString(s[i:])
			if c >= utf8.RuneSelf && !(r == utf8.RuneError && n == 1) {
				i += n
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendJSONEscape(dst, c)
			i += n
			start = i
		}
	}
	return append(dst, s[start:]...)
}

// appendJSONEscape appends what stands for c in a string: a byte of ASCII that cannot stand there itself, or one that is no UTF-8.
func appendJSONEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	if c >= utf8.RuneSelf {
		return append(dst, "\ufffd"...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendJSONFloat appends v, or null for NaN and the infinities, for which JSON has no number.
func appendJSONFloat(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// appendJSONBytes appends b in base64, as encoding/json does.
func appendJSONBytes(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// documentOf returns a Go value as JSON. An error means that the value has no JSON form.
func documentOf(v any) (document, error) {
	if d, is := v.(document); is {
		return d, nil
	}
	b, err := appendBody(nil, v)
	return b, err
}
