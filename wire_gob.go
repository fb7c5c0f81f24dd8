package main

// This file owns the codec of Go's net/rpc. A message is two gob values, a header and a body, as rpc.NewClient and
// rpc.ServeConn send them. Headers and the commonest bodies are encoded and decoded by hand; encoding/gob does the
// rest. net/rpc itself is not imported: its header types are so simple that repeating their wire form costs less.

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxGobHeader = 64 << 10 // room for a method and the text of an error
	maxGobSkip   = 1 << 30  // a longer message is not even skipped: it ends the connection
	gobHeaderID  = 1 << 20  // the type id of our headers; encoding/gob counts up from 64 and will not get there
)

// gobHeaderDefs are the type definitions of net/rpc's Request and Response, by the kind of message.
var gobHeaderDefs = map[kind][]byte{
	request:  gobHeaderDef("Request", gobField{"ServiceMethod", gobString}, gobField{"Seq", gobUint}),
	response: gobHeaderDef("Response", gobField{"ServiceMethod", gobString}, gobField{"Seq", gobUint}, gobField{"Error", gobString}),
}

// gobHeaderDef returns the gob message that defines a struct type.
func gobHeaderDef(name string, fields ...gobField) []byte {
	b := appendGobInt([]byte{0}, -gobHeaderID)
	b = append(b, byte(gobStruct)+1, 1)
	b = append(appendGobString(append(b, 1), name), 1)
	b = append(appendGobInt(b, gobHeaderID), 0, 1, byte(len(fields)))
	for _, f := range fields {
		b = append(appendGobString(append(b, 1), f.name), 1)
		b = append(appendGobInt(b, int64(f.id)), 0)
	}
	b = append(b, 0, 0)
	return closeGob(b, 0)
}

// closeGob fills in the length of the gob message that begins at start, where one byte was reserved for it.
func closeGob(b []byte, start int) []byte {
	n := len(b) - start - 1
	if n < 0x80 {
		b[start] = byte(n)
		return b
	}
	size := gobUintLen(uint64(n))
	b = append(b, make([]byte, size-1)...)
	copy(b[start+size:], b[start+1:start+1+n])
	appendGobUint(b[start:start], uint64(n))
	return b
}

// A gobCodec speaks net/rpc on one connection.
type gobCodec struct {
	in     *input
	limits limits
	reads  kind // request in the daemon, response in a client

	// The reading side.
	types  gobTypes
	header *gobType // the type of the last header, and its id
	headID int
	begun  bool   // the stream has begun as gob does; see length
	taken  int    // bytes of the last value with its length, still on the input; see drop
	bodyID int    // the type of the body; 0 if there is none
	raw    []byte // its value
	method string // of the last header: usually the next one is the same
	dec    *gob.Decoder
	feed   gobFeed // what dec reads
	fed    int     // how much of types.defs dec has read

	// The writing side.
	defined bool // the type of our header has been sent
	enc     *gob.Encoder
	made    bytes.Buffer // the output of enc
	sent    map[int]bool // the type ids whose definitions the peer has
}

// newGobCodec returns a codec that reads requests or responses.
func newGobCodec(in *input, l limits, reads kind) codec {
	return &gobCodec{in: in, limits: l, reads: reads}
}

func newGobCodecFor(in *input, l limits, s codecSide) codec {
	if s == sideCalling {
		return newGobCodec(in, l, response)
	}
	return newGobCodec(in, l, request)
}

func (c *gobCodec) read(m *message) error {
	c.drop()
	*m = message{kind: notification} // before the header is read, an error belongs to no call
	id, b, err := c.next(false, maxGobHeader)
	if err != nil {
		return err
	}
	*m = message{kind: c.reads}
	if err := c.readHeader(m, id, b); err != nil {
		return err
	}
	c.drop()
	c.bodyID, c.raw, err = c.next(true, c.limits.MaxMessage)
	var large *badMessage
	if errors.As(err, &large) {
		large.m = *m
	}
	return err
}

// drop takes the value that next returned last off the input.
func (c *gobCodec) drop() {
	c.in.advance(c.taken)
	c.taken, c.bodyID, c.raw = 0, 0, nil
}

// next records the type definitions that it meets and returns the value after them, which stays on the input until
// drop. isBody says that a header came before, so that the stream may not end here.
func (c *gobCodec) next(isBody bool, most int) (id int, value []byte, err error) {
	for begun := isBody; ; begun = true {
		n, size, err := c.length(begun)
		if err != nil {
			return 0, nil, err
		}
		if n > most {
			return 0, nil, c.tooLong(n, size, isBody)
		}
		whole, err := c.in.need(size+n, true)
		if err != nil {
			return 0, nil, err
		}
		r := gobReader{b: whole[size:]}
		id := r.typeID()
		if r.err != nil {
			return 0, nil, r.err
		}
		if id > 0 {
			c.taken = size + n
			return id, r.b, nil
		}
		if err := c.types.define(-id, whole, r.b); err != nil {
			return 0, nil, err
		}
		c.in.advance(size + n)
	}
}

// length returns the length of the next gob message, and the size of that length. Both stay on the input.
func (c *gobCodec) length(begun bool) (n, size int, err error) {
	b, err := c.in.need(1, begun)
	if err != nil {
		return 0, 0, err
	}
	size = 1
	if b[0] >= 0x80 {
		size += -int(int8(b[0]))
	}
	look := size
	if !c.begun {
		look++
	}
	if size <= 9 {
		b, err = c.in.need(look, true)
	}
	if err != nil {
		return 0, 0, err
	}
	r := gobReader{b: b}
	v := r.uint()
	if r.err != nil || v == 0 {
		return 0, 0, errGobForm
	}
	// A stream begins with the definition of the header's type, and the ids of definitions begin at 64. So text that
	// is sent here by mistake is recognised by its second byte.
	if !c.begun && b[size] != 0x7f && b[size] < 0xf8 {
		return 0, 0, faultf(codeInvalid, "it speaks no protocol that is spoken here")
	}
	c.begun = true
	return int(min(v, 1<<40)), size, nil
}

// tooLong returns the error for a message over the limit. It skips a body that is not absurdly long, so that the
// stream can go on.
func (c *gobCodec) tooLong(n, size int, isBody bool) error {
	if !isBody || n > maxGobSkip {
		return fmt.Errorf("a gob message of %d bytes", n)
	}
	if err := c.in.discard(size + n); err != nil {
		return err
	}
	c.in.advance(0)
	return &badMessage{fault: tooLarge("max_message", int64(c.limits.MaxMessage), fmt.Sprintf("the message has %d bytes", n))}
}

// readHeader decodes a Request or a Response. It goes by the names of the fields, as gob does.
func (c *gobCodec) readHeader(m *message, id int, b []byte) error {
	if c.header == nil || c.headID != id {
		t := c.types.byID[id]
		if t == nil || t.kind != gobStruct {
			return errors.New("a gob value where net/rpc has a header")
		}
		c.header, c.headID = t, id
	}
	check := gobCheck{gobReader: gobReader{b: b}, types: &c.types, maxDepth: c.limits.MaxDepth}
	r := &check.gobReader
	var text []byte
	for at := -1; r.field(&at, len(c.header.fields)); {
		switch f := c.header.fields[at]; {
		case f.name == "ServiceMethod" && f.id == gobString:
			if name := r.bytes(); string(name) != c.method {
				c.method = string(name)
			}
			m.method = c.method
		case f.name == "Seq" && f.id == gobUint:
			m.id.seq = r.uint()
		case f.name == "Error" && f.id == gobString:
			text = r.bytes()
		default:
			check.walk(f.id, 1)
		}
	}
	if r.err != nil {
		return fmt.Errorf("read a net/rpc header: %w", r.err)
	}
	if len(text) > 0 && c.reads == response {
		m.fault = faultOfText(string(text))
	}
	return nil
}

func (c *gobCodec) body(v any) error {
	id, raw := c.bodyID, c.raw
	c.bodyID, c.raw = 0, nil
	if v == nil {
		return nil
	}
	if id == 0 {
		return errors.New("the body of a message was taken twice")
	}
	if err := c.types.value(id, raw, c.limits.MaxDepth); err != nil {
		var f *fault
		if errors.As(err, &f) {
			return f
		}
		return faultf(codeBadArgument, "the %s cannot be read: %w", c.what(), err)
	}
	r := gobReader{b: raw}
	switch v := v.(type) {
	case *string:
		if id == gobString {
			r.uint()
			*v = string(r.bytes())
			return nil
		}
	case *[]byte:
		if id == gobBytes {
			r.uint()
			*v = append([]byte(nil), r.bytes()...)
			return nil
		}
	case *json.RawMessage:
		*v = c.types.appendJSON(nil, id, raw)
		return nil
	case *document:
		*v = c.types.appendJSON(nil, id, raw)
		return checkPassed(*v, c.limits)
	case *any:
		return json.Unmarshal(c.types.appendJSON(nil, id, raw), v)
	}
	return c.decode(v)
}

// what names the body in messages to people.
func (c *gobCodec) what() string {
	if c.reads == response {
		return "result"
	}
	return "argument"
}

// A gobFeed is the input of a decoder: two parts, read one after the other. gob.NewDecoder would wrap a reader without
// ReadByte in a buffered one, and read ahead.
type gobFeed [2][]byte

func (f *gobFeed) Read(b []byte) (n int, err error) {
	if len(f[0]) == 0 {
		f[0], f[1] = f[1], nil
	}
	if len(f[0]) == 0 {
		return 0, io.EOF
	}
	n = copy(b, f[0])
	f[0] = f[0][n:]
	return n, nil
}

// ReadByte implements io.ByteReader.
func (f *gobFeed) ReadByte() (byte, error) {
	var b [1]byte
	_, err := f.Read(b[:])
	return b[0], err
}

// decode decodes the body with encoding/gob, which first gets the definitions that it has not seen.
func (c *gobCodec) decode(v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.dec = nil
			err = faultf(codeBadArgument, "the %s cannot be decoded: %v", c.what(), p)
		}
	}()
	if c.dec == nil {
		c.dec, c.fed = gob.NewDecoder(&c.feed), 0
	}
	whole := c.in.bytes()[:c.taken]
	c.feed = gobFeed{c.types.defs[c.fed:], whole}
	c.fed = len(c.types.defs)
	err = c.dec.Decode(v)
	c.feed = gobFeed{}
	if err != nil || len(whole) > inputLarge { // a decoder keeps a buffer as large as its largest message
		c.dec = nil
	}
	if err != nil {
		return faultf(codeBadArgument, "the %s is not as expected: %s", c.what(), strings.TrimPrefix(err.Error(), "gob: "))
	}
	return nil
}

// prepare leaves the encoding to write: it depends on which types were sent before.
func (c *gobCodec) prepare(body any) (any, error) { return body, nil }

func (c *gobCodec) write(dst []byte, m *message, body any) ([]byte, error) {
	if m.kind != request && m.kind != response {
		return dst, nil // net/rpc has no other kinds
	}
	before, defined := len(dst), c.defined
	dst = c.appendHeader(dst, m)
	out, err := dst, error(nil)
	if m.fault != nil {
		out = append(dst, 3, gobBool<<1, 0, 0) // false, as there has to be a body; every client discards it
	} else {
		out, err = c.appendBody(dst, body)
	}
	if err != nil {
		c.defined = defined
		return dst[:before], err
	}
	return out, nil
}

// appendHeader appends a Request or a Response, and before the first one the definition of its type.
func (c *gobCodec) appendHeader(dst []byte, m *message) []byte {
	if !c.defined {
		c.defined = true
		dst = append(dst, gobHeaderDefs[m.kind]...)
	}
	start := len(dst)
	dst = appendGobInt(append(dst, 0), gobHeaderID)
	step := byte(1)
	if m.method == "" {
		step++
	} else {
		dst = appendGobString(append(dst, step), m.method)
		step = 1
	}
	if m.id.seq == 0 {
		step++
	} else {
		dst = appendGobUint(append(dst, step), m.id.seq)
		step = 1
	}
	if m.fault != nil {
		dst = appendGobString(append(dst, step), textOfFault(m.fault))
	}
	return closeGob(append(dst, 0), start)
}

// appendBody appends an argument or a result.
func (c *gobCodec) appendBody(dst []byte, body any) ([]byte, error) {
	switch v := body.(type) {
	case nil:
		return c.encode(dst, struct{}{})
	case string:
		dst = appendGobUint(dst, uint64(2+gobUintLen(uint64(len(v)))+len(v)))
		return appendGobString(append(dst, gobString<<1, 0), v), nil
	case []byte:
		dst = appendGobUint(dst, uint64(2+gobUintLen(uint64(len(v)))+len(v)))
		dst = appendGobUint(append(dst, gobBytes<<1, 0), uint64(len(v)))
		return append(dst, v...), nil
	case json.RawMessage:
		value, err := gobOfJSON(v)
		if err != nil {
			return dst, err
		}
		return c.appendBody(dst, value)
	case document:
		return c.appendBody(dst, gobOfDocument(v))
	}
	return c.encode(dst, body)
}

// encode encodes the body with encoding/gob. An encoder that has failed, or that keeps the buffer of a large message,
// is replaced. The new one defines all types again, under the same ids, since type ids are global to the program;
// encode leaves out the definitions that the peer has, which it must not get twice.
func (c *gobCodec) encode(dst []byte, body any) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // a nil pointer, say
			c.enc = nil
			out, err = dst, fmt.Errorf("%v", p)
		}
	}()
	if c.enc == nil {
		c.enc = gob.NewEncoder(&c.made)
	}
	c.made.Reset()
	if err := c.enc.Encode(body); err != nil {
		c.enc = nil
		return dst, errors.New(strings.TrimPrefix(err.Error(), "gob: "))
	}
	out = dst
	for rest := c.made.Bytes(); len(rest) > 0; {
		r := gobReader{b: rest}
		n := int(r.uint())
		size := len(rest) - len(r.b) + n
		if id := r.typeID(); id > 0 || !c.sent[-id] {
			out = append(out, rest[:size]...)
			if id < 0 {
				if c.sent == nil {
					c.sent = map[int]bool{}
				}
				c.sent[-id] = true
			}
		}
		rest = rest[size:]
	}
	if c.made.Len() > inputLarge {
		c.enc, c.made = nil, bytes.Buffer{}
	}
	return out, nil
}
