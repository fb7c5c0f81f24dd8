package main

// This file owns the grammar of gob: numbers, type definitions, and a check of each value before encoding/gob sees
// it. That package "is not designed to be hardened against adversarial inputs": 134 bytes that announce a huge map
// make it allocate 2.3 GiB. The format is described at pkg.go.dev/encoding/gob.

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

const (
	maxGobTypes    = 256       // definitions on one connection; a large program has fifty
	maxGobDefs     = 256 << 10 // bytes of all definitions on one connection
	maxGobElements = 1 << 20   // elements in one message that take far more memory than bytes
)

// The ids of the types that need no definition, and the first id of those that do.
const (
	gobBool      = 1
	gobInt       = 2
	gobUint      = 3
	gobFloat     = 4
	gobBytes     = 5
	gobString    = 6
	gobComplex   = 7
	gobInterface = 8
	gobFirstUser = 64
)

var (
	errGobShort = errors.New("a gob message ends in the middle of a value")
	errGobForm  = errors.New("a gob message is malformed")
)

// A gobReader decodes the bytes of one message. After the first error it returns zero values.
type gobReader struct {
	b   []byte
	err error
}

func (r *gobReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// uint reads an unsigned number. One up to 127 is a single byte; before any other stands the negated count of its
// bytes, which are big-endian.
func (r *gobReader) uint() uint64 {
	if len(r.b) == 0 {
		r.fail(errGobShort)
		return 0
	}
	first := r.b[0]
	if first < 0x80 {
		r.b = r.b[1:]
		return uint64(first)
	}
	n := -int(int8(first))
	switch {
	case n > 8:
		r.fail(errGobForm)
		return 0
	case len(r.b) <= n:
		r.fail(errGobShort)
		return 0
	}
	var v uint64
	for _, c := range r.b[1 : 1+n] {
		v = v<<8 | uint64(c)
	}
	r.b = r.b[1+n:]
	return v
}

// int reads a signed number: if its lowest bit is set, the other bits are complemented.
func (r *gobReader) int() int64 {
	u := r.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}

// float reads a floating-point number. Its bytes are reversed, because most end in zeros.
func (r *gobReader) float() float64 {
	return math.Float64frombits(bits.ReverseBytes64(r.uint()))
}

// bytes reads a string or a byte slice. The result aliases the message.
func (r *gobReader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail(errGobShort)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// count reads the number of elements that follow, each of which takes at least size bytes.
func (r *gobReader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)/size) {
		r.fail(errGobShort)
		return 0
	}
	return int(n)
}

// field moves at on to the next field that was sent of a struct with n fields. It returns false at the end.
func (r *gobReader) field(at *int, n int) bool {
	step := r.uint()
	if step == 0 {
		return false
	}
	if step > uint64(n-1-*at) {
		r.fail(errGobForm)
		return false
	}
	*at += int(step)
	return true
}

// typeID reads the id of a type; negative if its definition follows.
func (r *gobReader) typeID() int {
	id := r.int()
	if id < math.MinInt32 || id > math.MaxInt32 {
		r.fail(errGobForm)
		return 0
	}
	return int(id)
}

// A gobKind is the kind of a defined type. The values are the indexes of the fields of encoding/gob's wireType, of
// which a definition sets one.
type gobKind int

const (
	gobArray gobKind = iota
	gobSlice
	gobStruct
	gobMap
	gobEncoded // GobEncoder
	gobBinary  // encoding.BinaryMarshaler
	gobText    // encoding.TextMarshaler
	gobKinds
)

// A gobType is a type as defined on the wire.
type gobType struct {
	kind   gobKind
	name   string
	key    int // of a map
	elem   int // of an array, slice or map
	len    int // of an array
	fields []gobField
}

type gobField struct {
	name string
	id   int
}

// definition reads a type definition, after its id: a wireType with one field set, whose own first field is a
// CommonType with name and id.
func (r *gobReader) definition() *gobType {
	t := &gobType{}
	at := -1
	if !r.field(&at, int(gobKinds)) {
		r.fail(errGobForm)
		return t
	}
	t.kind = gobKind(at)
	for part := -1; r.field(&part, 3); {
		switch {
		case part == 0:
			t.name = r.commonType()
		case t.kind == gobStruct && part == 1:
			t.fields = r.structFields()
		case t.kind == gobMap && part == 1:
			t.key = r.typeID()
		case t.kind == gobMap, t.kind <= gobSlice && part == 1:
			t.elem = r.typeID()
		case t.kind == gobArray:
			n := r.int()
			if n < 0 || n > math.MaxInt32 {
				r.fail(errGobForm)
			}
			t.len = int(n)
		default:
			r.fail(errGobForm)
		}
	}
	if r.field(&at, int(gobKinds)) || len(r.b) != 0 {
		r.fail(errGobForm)
	}
	return t
}

func (r *gobReader) commonType() (name string) {
	for at := -1; r.field(&at, 2); {
		if at == 0 {
			name = string(r.bytes())
		} else {
			r.typeID() // the id of the definition again
		}
	}
	return name
}

func (r *gobReader) structFields() []gobField {
	fields := make([]gobField, r.count(1))
	for i := range fields {
		for at := -1; r.field(&at, 2); {
			if at == 0 {
				fields[i].name = string(r.bytes())
			} else {
				fields[i].id = r.typeID()
			}
		}
	}
	return fields
}

// gobTypes are the types that the peer has defined on a connection.
type gobTypes struct {
	byID map[int]*gobType
	defs []byte // all definitions verbatim, with their lengths
}

// define records a definition. whole is the gob message with its length; b is the part after the id. The peer chooses
// the ids: if it could define one twice, it could change what has been checked.
func (ts *gobTypes) define(id int, whole, b []byte) error {
	switch {
	case id < gobFirstUser:
		return errGobForm
	case ts.byID[id] != nil:
		return errors.New("a gob type is defined twice")
	case len(ts.byID) >= maxGobTypes, len(ts.defs)+len(whole) > maxGobDefs:
		return errors.New("too many gob type definitions on one connection")
	}
	r := gobReader{b: b}
	t := r.definition()
	if r.err != nil {
		return r.err
	}
	if ts.byID == nil {
		ts.byID = map[int]*gobType{}
	}
	ts.byID[id] = t
	ts.defs = append(ts.defs, whole...)
	return nil
}

// A gobCheck walks a value and makes sure that decoding it takes memory in proportion to its bytes.
type gobCheck struct {
	gobReader
	types    *gobTypes
	maxDepth int
	elements int
}

// value checks b, the part of a message after the type id.
func (ts *gobTypes) value(id int, b []byte, maxDepth int) error {
	c := gobCheck{gobReader: gobReader{b: b}, types: ts, maxDepth: maxDepth}
	ts.top(id, &c.gobReader)
	c.walk(id, 1)
	if c.err == nil && len(c.b) != 0 {
		return errGobForm
	}
	return c.err
}

// top skips the zero that precedes a top-level value other than a struct.
func (ts *gobTypes) top(id int, r *gobReader) {
	if t := ts.byID[id]; (t == nil || t.kind != gobStruct) && r.uint() != 0 {
		r.fail(errGobForm)
	}
}

// walk checks a value of the type with that id.
func (c *gobCheck) walk(id, depth int) {
	switch id {
	case gobBool, gobInt, gobUint, gobFloat:
		c.uint()
		return
	case gobBytes, gobString:
		c.bytes()
		return
	case gobComplex:
		c.uint()
		c.uint()
		return
	case gobInterface:
		c.fail(faultf(codeBadArgument, "gob interface values are not supported"))
		return
	}
	t := c.types.byID[id]
	if t == nil {
		c.fail(errors.New("a gob value has a type that was not defined"))
		return
	}
	if depth > c.maxDepth {
		c.fail(tooLarge("max_depth", int64(c.maxDepth), "the gob value is nested too deeply"))
		return
	}
	switch t.kind {
	case gobStruct:
		for at := -1; c.field(&at, len(t.fields)); {
			c.walk(t.fields[at].id, depth+1)
		}
	case gobMap:
		n := c.count(2)
		c.several(n)
		for range n {
			if c.err != nil {
				return
			}
			c.walk(t.key, depth+1)
			c.walk(t.elem, depth+1)
		}
	case gobArray, gobSlice:
		n := c.count(1)
		if t.kind == gobArray && n != t.len {
			c.fail(errGobForm)
		}
		c.sequence(t, n, depth)
	default:
		c.bytes()
	}
}

// sequence checks the elements of an array or a slice.
func (c *gobCheck) sequence(t *gobType, n, depth int) {
	if t.elem > gobFloat { // a number takes at most eight times its bytes in memory
		c.several(n)
	}
	for range n {
		if c.err != nil {
			return
		}
		c.walk(t.elem, depth+1)
	}
}

// several counts elements that may take far more memory than bytes.
func (c *gobCheck) several(n int) {
	if c.elements += n; c.elements > maxGobElements {
		c.fail(faultf(codeTooLarge, "the gob value has more than %d elements", maxGobElements))
	}
}

// appendGobUint, appendGobInt and appendGobString are the inverse of gobReader.
func appendGobUint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	var full [8]byte
	binary.BigEndian.PutUint64(full[:], v)
	n := (bits.Len64(v) + 7) / 8
	b = append(b, byte(-n))
	return append(b, full[8-n:]...)
}

func appendGobInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendGobUint(b, uint64(^v)<<1|1)
	}
	return appendGobUint(b, uint64(v)<<1)
}

func appendGobString(b []byte, s string) []byte {
	return append(appendGobUint(b, uint64(len(s))), s...)
}

// gobUintLen returns the number of bytes that appendGobUint appends.
func gobUintLen(v uint64) int {
	if v < 0x80 {
		return 1
	}
	return 1 + (bits.Len64(v)+7)/8
}
