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
	"math"
	"slices"
	"strings"
	"sync"
)

const (
	maxGobSkip  = 1 << 30   // a longer message is not even skipped: it ends the connection
	gobHeaderID = 1 << 20   // the type id of our headers; encoding/gob counts up from 64 and will not get there
	gobKeep     = inputKeep // the largest message after which an encoder or decoder is kept: its buffers stay that large
)

// gobHeaders are the fields of net/rpc's Request and Response, by the kind of message.
var gobHeaders = map[kind][]gobField{
	request:  {{"ServiceMethod", gobString}, {"Seq", gobUint}},
	response: {{"ServiceMethod", gobString}, {"Seq", gobUint}, {"Error", gobString}},
}

// gobHeaderDefs are the type definitions of net/rpc's Request and Response, by the kind of message.
var gobHeaderDefs = map[kind][]byte{
	request:  gobHeaderDef("Request", gobHeaders[request]),
	response: gobHeaderDef("Response", gobHeaders[response]),
}

func gobHeaderDef(name string, fields []gobField) []byte {
	return appendGobDefinition(nil, gobHeaderID, &gobType{kind: gobStruct, name: name, fields: fields}, 0)
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
	begun  bool        // the stream has begun as gob does; see length
	taken  int         // bytes of the last value with its lengths, still on the input; see drop
	late   int         // bytes of a message that has been refused, and is still to be dropped
	bodyID int         // the type of the body; 0 if there is none
	raw    []byte      // its value, as far as it is in the first message
	rest   gobMessages // the messages behind that one
	size   int         // bytes of the JSON that was made of that value; 0 if none was
	before int         // how much of types.defs precedes the body; what follows stands in it
	method string      // of the last header: usually the next one is the same
	dec    *gob.Decoder
	feed   gobFeed // what dec reads
	fed    int     // how much of types.defs dec has read

	begunWith *message // the header of the message whose body was not read for a nudge; or nil

	// The writing side.
	defined  bool       // the type of our header has been sent
	encoding sync.Mutex // guards enc, made and own
	enc      *gob.Encoder
	made     bytes.Buffer   // the output of enc
	own      gobTypes       // what enc has defined
	pending  sync.Mutex     // guards what follows; the innermost lock
	sent     map[int]bool   // the type ids whose definitions the peer has, or will have from unsent
	unsent   []byte         // definitions that precede the next body
	planned  map[string]int // the first id of the types of a plan, by their definitions
	lastID   int            // of those types
	planCost int            // bytes of those definitions
}

// newGobCodec returns a codec that reads requests or responses.
func newGobCodec(in *input, l limits, reads kind) codec {
	return &gobCodec{in: in, limits: l, reads: reads, types: gobTypes{most: l.MaxMessage}, own: gobTypes{most: math.MaxInt}, lastID: gobHeaderID}
}

func newGobCodecFor(in *input, l limits, s codecSide) codec {
	if s == sideCalling {
		return newGobCodec(in, l, response)
	}
	return newGobCodec(in, l, request)
}

func (c *gobCodec) read(m *message) error {
	if c.begunWith != nil {
		*m, c.begunWith = *c.begunWith, nil
	} else if err := c.readHead(m); err != nil {
		return err
	}
	err := c.readBody(m)
	if err == errNudged {
		head := *m
		c.begunWith = &head
	}
	return err
}

// readHead reads a header into m.
func (c *gobCodec) readHead(m *message) error {
	c.drop()
	*m = message{kind: notification} // before the header is read, an error belongs to no call
	id, b, err := c.next(false)
	if err != nil {
		var long *badMessage
		if errors.As(err, &long) { // the call is known, and the connection ends with its answer
			*m = long.m
			return long.fault
		}
		return err
	}
	if err := c.readHeader(m, id, b); err != nil {
		return err
	}
	c.drop()
	return nil
}

// drop takes the value that was read last off the input.
func (c *gobCodec) drop() {
	if c.late == 0 { // otherwise the message goes on, and so does its deadline
		c.in.taken(c.taken)
	}
	c.in.became(c.size)
	c.taken, c.bodyID, c.raw, c.rest, c.size = 0, 0, nil, nil, 0
}

// next records the type definitions that it meets and returns what the message after them holds: the id of a type, and
// the value or its beginning. That message stays on the input until drop. isBody says that a header came before, so that
// the stream may not end here.
func (c *gobCodec) next(isBody bool) (id int, value []byte, err error) {
	if c.late > 0 {
		if c.late, err = c.in.discard(c.late); err != nil {
			return 0, nil, err
		}
		c.in.advance(0)
	}
	for begun := isBody; ; begun = true {
		n, size, err := c.length(0, begun)
		if err == nil && n > c.limits.MaxMessage {
			err = c.refuse(n, size, isBody, tooLarge("max_message", int64(c.limits.MaxMessage), fmt.Sprintf("the message has %d bytes", n)))
		}
		if err != nil {
			return 0, nil, err
		}
		whole, err := c.in.need(size+n, true)
		if err != nil { // f would be allocated for every value
			var f *fault
			if errors.As(err, &f) && f.Code == codeBusy { // there is no memory for it
				err = c.refuse(n, size, isBody, f)
			}
			return 0, nil, err
		}
		r := gobReader{b: whole[size:]}
		id := r.typeID()
		if id > 0 {
			c.taken = size + n
			return id, r.b, nil
		}
		if err := c.define(-id, r); err != nil {
			return 0, nil, err
		}
		c.in.advance(size + n)
	}
}

// define records a type definition. r is a copy since what is handed on to the types is allocated, and next is called for every value.
func (c *gobCodec) define(id int, r gobReader) error {
	if r.err == nil {
		c.types.define(id, &r)
	}
	if r.err != nil {
		return r.err
	}
	if f := c.in.keep(c.types.cost); f != nil {
		return f
	}
	return nil
}

// more implements gobSource. The message stays on the input, too.
func (c *gobCodec) more() ([]byte, error) {
	c.in.firm = true // the value has been checked in part
	defer func() { c.in.firm = false }()
	n, size, err := c.length(c.taken, true)
	if err != nil {
		return nil, err
	}
	if n > c.limits.MaxMessage-c.taken {
		return nil, tooLarge("max_message", int64(c.limits.MaxMessage), "the messages of a gob value are too long together")
	}
	b, err := c.in.need(c.taken+size+n, true)
	if err != nil {
		return nil, err
	}
	c.taken = len(b)
	return b[c.taken-n:], nil
}

// length returns the length of the gob message at that place of the input, and the size of that length. Both stay on the
// input.
func (c *gobCodec) length(at int, begun bool) (n, size int, err error) {
	b, err := c.in.need(at+1, begun)
	if err != nil {
		return 0, 0, err
	}
	size = 1
	if b[at] >= 0x80 {
		size += -int(int8(b[at]))
	}
	look := at + size
	if !c.begun {
		look++
	}
	if size <= 9 {
		b, err = c.in.need(look, true)
	}
	if err != nil {
		return 0, 0, err
	}
	r := gobReader{b: b[at:]}
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
	return int(min(v, maxGobSkip+1)), size, nil
}

// refuse returns the error for a message that is refused with f. A body is dropped as it arrives, so that the stream can go on,
// unless that is absurdly long or might go on in the next message. Nobody waits for its end.
func (c *gobCodec) refuse(n, size int, isBody bool, f *fault) error {
	b, err := c.in.need(size+9, true) // the id of its type is no longer than that
	if err != nil {
		return err
	}
	r := gobReader{b: b[size:]}
	switch id := r.typeID(); {
	case id > 0 && !isBody:
		return c.longHeader(n, size, f)
	case id <= 0 || c.types.open || n > maxGobSkip:
		return f
	}
	c.late = size + n
	return &badMessage{fault: f}
}

// longHeader returns f for a header over the limit, with its call if that can be found: the name of the method comes first
// and makes the header long, and the number of the call stands right behind it.
func (c *gobCodec) longHeader(n, size int, f *fault) error {
	b, err := c.in.need(size+longName, true) // less than the least that max_message can be
	if err != nil {
		return err
	}
	r := gobReader{b: b[size:]}
	t, at, fields := c.types.byID[r.typeID()], -1, gobHeaders[c.reads]
	if !t.hasFields(fields) || !r.field(&at, len(t.fields)) || t.fields[at] != fields[0] {
		return f
	}
	name := r.uint()
	begin := len(b) - len(r.b)
	left := size + n - begin
	if r.err != nil || name > uint64(left) || left-int(name) > longName {
		return f
	}
	c.in.firm = true
	defer func() { c.in.firm = false }()
	if _, err := c.in.discard(begin + int(name)); err != nil {
		return err
	}
	if b, err = c.in.need(left-int(name), true); err != nil {
		return err
	}
	m := message{kind: c.reads}
	r = gobReader{b: b}
	if r.field(&at, len(t.fields)) && t.fields[at] == fields[1] {
		m.id.seq = r.uint()
	}
	return &badMessage{m: m, fault: f}
}

// readHeader decodes a Request or a Response into m. It goes by the names of the fields, as gob does.
func (c *gobCodec) readHeader(m *message, id int, b []byte) error {
	if c.header == nil || c.headID != id {
		t := c.types.byID[id]
		switch {
		case t.hasFields(gobHeaders[c.reads]):
		case c.reads == response && t.hasFields(gobHeaders[request]):
			return errEcho
		default:
			return faultf(codeParse, "a gob value where net/rpc has a header")
		}
		c.header, c.headID = t, id
	}
	w := gobWalk{gobReader: gobReader{b: b}, types: &c.types, maxDepth: c.limits.MaxDepth}
	head := message{kind: c.reads}
	var text []byte
	for at := -1; w.field(&at, len(c.header.fields)); {
		switch f := c.header.fields[at]; {
		case f.name == "ServiceMethod" && f.id == gobString:
			head.method = remembered(&c.method, w.bytes())
		case f.name == "Seq" && f.id == gobUint:
			head.id.seq = w.uint()
		case f.name == "Error" && f.id == gobString:
			text = w.bytes()
		default:
			w.value(f.id, 1)
		}
	}
	if w.err == nil && len(w.b) != 0 {
		w.fail(errGobForm)
	}
	if w.err != nil {
		return fmt.Errorf("read a net/rpc header: %w", w.err)
	}
	if len(text) > 0 && c.reads == response {
		head.fault = faultOfText(string(text))
	}
	*m = head
	return nil
}

// hasFields reports whether t is a struct with these fields, and perhaps with others.
func (t *gobType) hasFields(fields []gobField) bool {
	if t == nil || t.kind != gobStruct {
		return false
	}
	for _, f := range fields {
		if !slices.Contains(t.fields, f) {
			return false
		}
	}
	return true
}

// readBody reads and checks the body of m. It stays on the input.
func (c *gobCodec) readBody(m *message) error {
	id, b, err := c.next(true)
	if err != nil {
		var bad *badMessage
		if errors.As(err, &bad) {
			bad.m = *m
		}
		return err
	}
	if id == c.headID {
		// The peer could not encode the body: a net/rpc client has said so to its caller, and goes on with the next
		// header, which stays where it is.
		c.taken = 0
		return &badMessage{m: *m, fault: faultf(codeBadArgument, "the %s is missing", c.what())}
	}
	c.before = len(c.types.defs)
	begin, first := c.taken-len(b), c.taken
	w := gobWalk{gobReader: gobReader{b: b}, types: &c.types, maxDepth: c.limits.MaxDepth, source: c}
	err = w.check(id)
	if f := c.in.keep(c.types.cost); f != nil { // what follows may be of a type that is not kept
		return f
	}
	whole := c.in.bytes()[:c.taken]
	c.bodyID, c.raw, c.rest = id, whole[begin:first], whole[first:]
	f, isFault := err.(*fault)
	if !isFault {
		return err
	}
	if f.Code == codeParse {
		f = faultf(codeBadArgument, "the %s cannot be read: %w", c.what(), f)
	}
	if c.types.open || id == gobInterface { // nobody knows where it ends
		return f
	}
	return &badMessage{m: *m, fault: f}
}

func (c *gobCodec) body(v any) error {
	id := c.bodyID
	if id == 0 && v != nil {
		return errors.New("the body of a message was taken twice")
	}
	defer c.drop() // nobody needs the message any more
	if v == nil {
		return nil
	}
	r := gobReader{b: c.raw}
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
	case *document:
		return c.bodyJSON(id, placeOf(formUnknown, true), v)
	case *formed:
		return c.bodyJSON(id, v.form(), v.document)
	case lentParams:
		return c.body(lent(v))
	case lent:
		var text document
		if err := c.bodyJSON(id, placeOf(formUnknown, true), &text); err != nil {
			return err
		}
		v(text)
		return nil
	case *any:
		var text document
		if err := c.bodyJSON(id, placeOf(formUnknown, true), &text); err != nil {
			return err
		}
		return decodeValue("the "+c.what(), text, v)
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

// decode decodes the body with encoding/gob, which first gets the definitions that it has not seen and that do not stand
// in the body.
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
	c.feed = gobFeed{c.types.defs[c.fed:c.before], whole}
	c.fed = len(c.types.defs)
	err = c.dec.Decode(v)
	c.feed = gobFeed{}
	if err != nil || len(whole) > gobKeep {
		c.dec = nil
	}
	if err != nil {
		return faultf(codeBadArgument, "the %s is not as expected: %s", c.what(), strings.TrimPrefix(err.Error(), "gob: "))
	}
	return nil
}

// encodedGob is the message with a body, after its length.
type encodedGob []byte

// prepare encodes whatever encoding/gob has to encode, and notes the definitions that the peer needs for that.
func (c *gobCodec) prepare(m *message, body any) (any, error) {
	if m.fault != nil {
		return nil, nil
	}
	switch v := body.(type) {
	case string, []byte, encodedGob:
		return body, nil
	case json.RawMessage:
		return []byte(v), nil
	case document:
		return c.encodeDocument(v, m.forms)
	case nil:
		body = struct{}{}
	}
	return c.encode(body)
}

// encodeDocument encodes JSON as its schema says. Where that says nothing, a string is a string; everything else is its JSON as
// bytes, which a Go program can decode into a json.RawMessage.
func (c *gobCodec) encodeDocument(d document, forms *gobForms) (any, error) {
	if forms == nil || forms.result().kind == formAny {
		if len(d) > 0 && d[0] == '"' {
			return string(unquoteJSON(d[1 : len(d)-1])), nil
		}
		return []byte(d), nil
	}
	plan := forms.result()
	first, err := c.plan(plan)
	if err != nil {
		return nil, err
	}
	return plan.value(d, first)
}

// plan returns the first id of the types of a plan on this connection. The peer gets their definitions before the next body,
// unless it has them.
func (c *gobCodec) plan(p *gobPlan) (first int, err error) {
	if p.text == "" {
		return 0, nil
	}
	c.pending.Lock()
	defer c.pending.Unlock()
	if first, known := c.planned[p.text]; known {
		return first, nil
	}
	first = c.lastID + 1
	defs := p.definitions(first)
	if c.planCost += len(defs); c.planCost > c.limits.MaxMessage {
		c.planCost -= len(defs)
		return 0, tooLarge("max_message", int64(c.limits.MaxMessage), "the gob type definitions of one connection are too long together")
	}
	if c.planned == nil {
		c.planned = map[string]int{}
	}
	c.planned[p.text] = first
	c.lastID += len(p.types)
	c.unsent = append(c.unsent, defs...)
	return first, nil
}

func (c *gobCodec) write(dst []byte, m *message, body any) ([]byte, error) {
	if m.kind != request && m.kind != response {
		return dst, nil // net/rpc has no other kinds
	}
	size := 0
	if m.fault != nil {
		size = len(m.fault.Text)
	} else {
		size = gobSize(body)
	}
	if f := m.tooLong(size, c.limits); f != nil {
		return dst, f
	}
	dst = c.appendHeader(dst, m)
	if m.fault != nil {
		return append(dst, 3, gobBool<<1, 0, 0), nil // false, as there has to be a body; every client discards it
	}
	switch v := body.(type) {
	case string:
		dst = appendGobUint(dst, uint64(gobSize(v)))
		dst = appendGobString(append(dst, gobString<<1, 0), v)
	case []byte:
		dst = appendGobUint(dst, uint64(gobSize(v)))
		dst = appendGobUint(append(dst, gobBytes<<1, 0), uint64(len(v)))
		dst = append(dst, v...)
	case encodedGob:
		c.pending.Lock()
		dst = append(dst, c.unsent...)
		c.unsent = nil
		c.pending.Unlock()
		dst = append(dst, v...)
	}
	return dst, nil
}

// gobSize returns the length of the message with a prepared body.
func gobSize(body any) int {
	n := 0
	switch v := body.(type) {
	case string:
		n = len(v)
	case []byte:
		n = len(v)
	case encodedGob:
		r := gobReader{b: v}
		return int(r.uint())
	}
	return 2 + gobUintLen(uint64(n)) + n
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

// encode encodes a body with encoding/gob, whose type ids are global to the program. The definitions that are new to the
// peer become messages of their own, whether they come before the value or inside of it, since an encoder that has failed,
// or that keeps the buffer of a large message, is replaced: the new one defines all types again, and the peer must not get
// a definition twice.
func (c *gobCodec) encode(body any) (value encodedGob, err error) {
	c.encoding.Lock()
	defer c.encoding.Unlock()
	defer func() {
		if p := recover(); p != nil { // a nil pointer, say
			err = fmt.Errorf("%v", p)
		}
		if err != nil || c.made.Len() > gobKeep {
			c.enc, c.made, c.own = nil, bytes.Buffer{}, gobTypes{most: math.MaxInt}
		}
	}()
	if c.enc == nil {
		c.enc = gob.NewEncoder(&c.made)
	}
	for inside := true; inside; { // once more, if something was defined inside: it is not defined again
		c.made.Reset()
		if err := c.enc.Encode(body); err != nil {
			return nil, errors.New(strings.TrimPrefix(err.Error(), "gob: "))
		}
		if value, inside, err = c.learn(c.made.Bytes()); err != nil {
			return nil, err
		}
	}
	return bytes.Clone(value), nil
}

// learn takes note of the definitions in the messages with a value, and returns the message behind those that precede it.
// inside says that some stand in the value.
func (c *gobCodec) learn(messages []byte) (value encodedGob, inside bool, err error) {
	for value = messages; ; {
		r := gobReader{b: value}
		message := gobReader{b: r.bytes()}
		id := message.typeID()
		if id < 0 {
			c.own.define(-id, &message)
		} else if before := len(c.own.defs); c.own.open {
			rest := gobMessages(r.b)
			w := gobWalk{gobReader: message, types: &c.own, maxDepth: math.MaxInt, source: &rest}
			message.err = w.check(id)
			inside = len(c.own.defs) > before
		}
		if message.err != nil {
			return nil, false, message.err
		}
		if id > 0 {
			break
		}
		value = r.b
	}
	c.pending.Lock()
	defer c.pending.Unlock()
	for rest := c.own.defs; len(rest) > 0; {
		r := gobReader{b: rest}
		message := gobReader{b: r.bytes()}
		if id := message.typeID(); !c.sent[id] {
			if c.sent == nil {
				c.sent = map[int]bool{}
			}
			c.sent[id] = true
			c.unsent = append(c.unsent, rest[:len(rest)-len(r.b)]...)
		}
		rest = r.b
	}
	c.own.defs = nil
	return value, inside, nil
}
