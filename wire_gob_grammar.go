package main

// This file owns the grammar of gob: numbers, type definitions, and a walk over each value before encoding/gob sees
// it. That package "is not designed to be hardened against adversarial inputs": 134 bytes that announce a huge map
// make it allocate 2.3 GiB. The format is described at pkg.go.dev/encoding/gob.

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
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
	errGobShort = &fault{Code: codeParse, Text: "a gob message ends in the middle of a value"}
	errGobForm  = &fault{Code: codeParse, Text: "a gob message is malformed"}
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

	named   []gobMember // its fields as members of an object, for a value of the form namedBy
	namedBy *gobForm
}

type gobField struct {
	name string
	id   int
}

// definition reads a type definition, after its id, to the end of the message: a wireType with one field set, whose own
// first field is a CommonType with name and id.
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
	lacksType := t.kind <= gobSlice && t.elem <= 0 || t.kind == gobMap && (t.key <= 0 || t.elem <= 0)
	if lacksType || r.field(&at, int(gobKinds)) || len(r.b) != 0 {
		r.fail(errGobForm)
	}
	return t
}

// appendGobDefinition appends the message that defines t under an id. The ids in t that are not those of plain types are moved
// by shift.
func appendGobDefinition(dst []byte, id int, t *gobType, shift int) []byte {
	start := len(dst)
	moved := func(id int) int64 {
		if id >= gobFirstUser {
			id += shift
		}
		return int64(id)
	}
	dst = appendGobInt(append(dst, 0), -int64(id))
	dst = append(dst, byte(t.kind)+1, 1)
	step := byte(2)
	if t.name != "" {
		dst = appendGobString(append(dst, 1), t.name)
		step = 1
	}
	dst = append(appendGobInt(append(dst, step), int64(id)), 0)
	switch t.kind {
	case gobStruct:
		dst = appendGobUint(append(dst, 1), uint64(len(t.fields)))
		for _, f := range t.fields {
			dst = appendGobString(append(dst, 1), f.name)
			dst = append(appendGobInt(append(dst, 1), moved(f.id)), 0)
		}
	case gobMap:
		dst = appendGobInt(append(dst, 1), moved(t.key))
		dst = appendGobInt(append(dst, 1), moved(t.elem))
	case gobSlice:
		dst = appendGobInt(append(dst, 1), moved(t.elem))
	}
	return closeGob(append(dst, 0, 0), start)
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

// gobFieldSize is the least that a field takes in a definition: both of its parts, each after its step, and the end.
const gobFieldSize = 6

func (r *gobReader) structFields() []gobField {
	fields := make([]gobField, r.count(gobFieldSize))
	for i := range fields {
		f := &fields[i]
		for at := -1; r.field(&at, 2); {
			if at == 0 {
				f.name = string(r.bytes())
			} else {
				f.id = r.typeID()
			}
		}
		if f.name == "" || f.id <= 0 {
			r.fail(errGobForm)
		}
	}
	return fields
}

// gobTypes are the types that one end of a connection has defined.
type gobTypes struct {
	byID map[int]*gobType
	defs []byte // all definitions, each as a message of its own
	cost int    // of all of them: their bytes, and what is kept and done for each
	most int    // the most that they may cost
	open bool   // some type has interface values in it; see gobWalk
}

// What a definition costs besides its bytes. An empty struct has 13 of those, and encoding/gob compiles it anew whenever a
// value had an error.
const (
	gobTypeCost  = 512
	gobFieldCost = 64
	gobManyTypes = 256  // more than programs have that call; each type beyond them costs more, since only a flood is so long
	gobMoreCost  = 1536 // that much: 16 MiB are 8,000 types then, which take less than 2 MiB
)

// define records the definition that r reads. The peer chooses the ids: if it could define one twice, it could change
// what has been checked.
func (ts *gobTypes) define(id int, r *gobReader) {
	body := r.b
	t := r.definition()
	switch {
	case r.err != nil:
		return
	case id < gobFirstUser:
		r.fail(errGobForm)
		return
	case ts.byID[id] != nil:
		r.fail(faultf(codeParse, "a gob type is defined twice"))
		return
	}
	start := len(ts.defs)
	ts.defs = closeGob(append(appendGobInt(append(ts.defs, 0), -int64(id)), body...), start)
	ts.cost += len(body) + gobTypeCost + gobFieldCost*len(t.fields)
	if len(ts.byID) >= gobManyTypes {
		ts.cost += gobMoreCost
	}
	if ts.cost > ts.most {
		r.fail(tooLarge("max_message", int64(ts.most), "the gob type definitions of one connection are too long together"))
		return
	}
	if ts.byID == nil {
		ts.byID = map[int]*gobType{}
	}
	ts.byID[id] = t
	ts.open = ts.open || t.key == gobInterface || t.elem == gobInterface ||
		slices.ContainsFunc(t.fields, func(f gobField) bool { return f.id == gobInterface })
}

// A gobWalk goes through a value. Where it holds interface values, type definitions may stand inside it, and each of them
// ends a piece: encoding/gob writes what it has of the message so far, the definition behind it, and then the rest as
// another message. Inside an interface value, whose length precedes it, the same happens to that. So only a walk can tell
// where such a value ends.
type gobWalk struct {
	gobReader // the rest of the piece
	types     *gobTypes
	maxDepth  int
	known     bool      // it is not the first walk over this value: what it defines has been recorded
	outer     [][]byte  // the rest of the pieces around it, outermost first
	source    gobSource // has the other messages of the value; nil if there are none
	passed    bool      // it becomes JSON that has to say the same, since it goes to a provider
	limit     int       // bytes of that JSON
	most      int       // of these, those for which there is room

	reserve func(n int) *fault // makes room for more; nil if there is room for all
}

// A gobSource has the messages of a value that follow the first one.
type gobSource interface {
	// more returns what is in the next message. The one before it must not be used any more.
	more() ([]byte, error)
}

// gobMessages is a gobSource in memory: messages, each after its length.
type gobMessages []byte

func (g *gobMessages) more() ([]byte, error) {
	r := gobReader{b: *g}
	b := r.bytes()
	*g = r.b
	return b, r.err
}

// check walks a value of the type with that id, and makes sure that decoding it takes memory in proportion to its bytes.
func (w *gobWalk) check(id int) error {
	w.top(id)
	w.value(id, 1)
	if len(w.b) != 0 {
		w.fail(errGobForm)
	}
	return w.err
}

// top skips the zero that precedes a value other than a struct where the value stands for itself.
func (w *gobWalk) top(id int) {
	if t := w.types.byID[id]; (t == nil || t.kind != gobStruct) && w.uint() != 0 {
		w.fail(errGobForm)
	}
}

// value checks a value of the type with that id.
func (w *gobWalk) value(id, depth int) {
	switch id {
	case gobBool, gobInt, gobUint, gobFloat:
		w.uint()
		return
	case gobBytes, gobString:
		w.bytes()
		return
	case gobComplex:
		w.uint()
		w.uint()
		return
	}
	t := w.types.byID[id]
	switch {
	case t == nil && id != gobInterface:
		w.fail(faultf(codeParse, "a gob value has a type that was not defined"))
	case depth > w.maxDepth:
		w.fail(tooLarge("max_depth", int64(w.maxDepth), "the gob value is nested too deeply"))
	case id == gobInterface:
		if inner := w.enter(); inner != 0 {
			w.top(inner)
			w.value(inner, depth+1)
			w.leave()
		}
	case t.kind == gobStruct:
		for at := -1; w.field(&at, len(t.fields)); {
			w.value(t.fields[at].id, depth+1)
		}
	case t.kind == gobMap:
		for range w.count(2) {
			if w.err != nil {
				return
			}
			w.value(t.key, depth+1)
			w.value(t.elem, depth+1)
		}
	case t.kind <= gobSlice:
		n := w.count(1)
		if t.kind == gobArray && n != t.len {
			w.fail(errGobForm)
		}
		for range n {
			if w.err != nil {
				return
			}
			w.value(t.elem, depth+1)
		}
	default:
		w.bytes()
	}
}

// enter goes into an interface value and returns the id of the type of what is in it, or 0 if there is nothing in it.
// After that leave has to follow. The definitions that stand before the id are recorded.
func (w *gobWalk) enter() (id int) {
	if len(w.bytes()) == 0 { // the name under which the type is registered
		return 0
	}
	for id = w.typeID(); id < 0; id = w.typeID() {
		if w.known {
			w.definition()
		} else {
			w.types.define(-id, &w.gobReader)
		}
		w.nextPiece()
	}
	if id == 0 {
		w.fail(errGobForm)
	}
	inner := w.bytes()
	if w.err != nil {
		return 0
	}
	w.outer = append(w.outer, w.b)
	w.b = inner
	return id
}

// leave goes out of an interface value, all of which must have been read.
func (w *gobWalk) leave() {
	last := len(w.outer) - 1
	if w.err == nil && len(w.b) != 0 {
		w.fail(errGobForm)
	}
	if w.err == nil {
		w.b = w.outer[last]
	}
	w.outer = w.outer[:last]
}

// nextPiece goes on with the piece behind the one that a definition has ended.
func (w *gobWalk) nextPiece() {
	if w.err != nil {
		return
	}
	if last := len(w.outer) - 1; last >= 0 {
		around := gobReader{b: w.outer[last]}
		w.b, w.err = around.bytes(), around.err
		w.outer[last] = around.b
		return
	}
	if w.source == nil {
		w.fail(errGobShort)
		return
	}
	b, err := w.source.more()
	if w.b = b; err != nil {
		w.fail(err)
	}
}

// appendGobUint, appendGobInt, appendGobFloat and appendGobString are the inverse of gobReader.
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

func appendGobFloat(b []byte, v float64) []byte {
	return appendGobUint(b, bits.ReverseBytes64(math.Float64bits(v)))
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
