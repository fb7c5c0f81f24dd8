package main

// This file owns the codec of JSON-RPC, 2.0 and 1.0: its envelope and its batches. How one message is told from the
// next is in wire_json_frame.go. See jsonrpc.org/specification and docs/protocol.md, section 4.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

const maxAnswers = 4 // times max_message: the answers to one batch or one HTTP body

const (
	cancelMethod   = "$/cancelRequest"
	progressMethod = "$/progress"
	creditMethod   = "$/credit"
	nullID         = "null"
)

// A jsonCodec speaks JSON-RPC on one connection.
type jsonCodec struct {
	in      *input
	limits  limits
	framing framing
	scan    jsonScan

	taken  int          // bytes of the last message, or of its batch, still on the input
	part   int          // bytes of the last message, if it came in a batch
	skip   *jsonSkip    // the message that is being dropped; or nil
	queue  []jsonParsed // the rest of a batch
	raw    []byte       // the params or the result of the last message
	result bool         // raw is a result
	v1     bool         // it is of version 1.0
	method string       // of the last request: usually the next one is the same
}

// A jsonParsed is one message of a batch.
type jsonParsed struct {
	message message
	fault   *fault
	size    int // in a batch
	raw     []byte
	result  bool
}

// A jsonBatch gathers the answers to a batch. Only write changes it.
type jsonBatch struct {
	left int // answers still to come
	out  []byte
	most int // the most bytes that out may have
}

// size implements gathering.
func (b *jsonBatch) size() int { return len(b.out) }

func newJSONCodecFor(in *input, l limits, s codecSide) codec {
	return newJSONCodec(in, l, [...]framing{sideServing: framingAuto, sideCalling: framingValue, sideChannel: framingLine}[s])
}

func newJSONCodec(in *input, l limits, f framing) codec {
	return &jsonCodec{in: in, limits: l, framing: f}
}

// bothWays reports whether the codec reads requests as well as responses. A stream of events, and whatever else HTTP
// answers, goes one way.
func (c *jsonCodec) bothWays() bool { return c.framing != framingEvent }

func (c *jsonCodec) read(m *message) error {
	*m, c.raw = message{}, nil // while it waits for the next message, nothing of the last one is kept
	if len(c.queue) == 0 {
		if c.skip == nil { // otherwise a message goes on, and so does its deadline
			c.in.advance(c.taken)
		}
		c.taken = 0
		value, err := c.value()
		if err == nil && value[0] != '[' {
			var p jsonParsed
			c.parse(&p, value)
			return c.give(m, &p)
		}
		if err == nil {
			err = c.batch(value)
		}
		if err != nil {
			*m = message{id: callID{json: nullID}}
			var last *lastMessage
			if errors.As(err, &last) {
				*m = last.m
				return last.fault
			}
			return err
		}
	}
	c.in.takenPart(0) // of the one before nothing is left but what its call holds
	p := c.queue[0]
	c.queue[0] = jsonParsed{}
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return c.give(m, &p)
}

// give makes p the last message read.
func (c *jsonCodec) give(m *message, p *jsonParsed) error {
	*m, c.raw, c.result, c.v1, c.part = p.message, p.raw, p.result, p.message.v1, p.size
	if p.fault != nil {
		return &badMessage{m: p.message, fault: p.fault}
	}
	return nil
}

// withoutID returns the error for a message whose id is not known: the answer has a null id.
func withoutID(f *fault) error { return &badMessage{m: message{id: callID{json: nullID}}, fault: f} }

// batch queues the messages of an array.
func (c *jsonCodec) batch(b []byte) error {
	w := enter(b)
	gathered := &jsonBatch{most: maxAnswers * c.limits.MaxMessage}
	c.queue = c.queue[:0]
	n := 0
	for {
		element, ok := w.element()
		if !ok {
			break
		}
		if n++; n > c.limits.MaxBatch {
			continue // only counted, for the error
		}
		var p jsonParsed
		c.parse(&p, element)
		p.size = len(element)
		p.message.batch, p.message.parts = gathered, "" // the answers to a batch are one message
		if p.message.kind == request {
			gathered.left++
		}
		c.queue = append(c.queue, p)
	}
	switch {
	case n == 0:
		return withoutID(faultf(codeInvalid, "a batch without requests"))
	case n > c.limits.MaxBatch:
		c.queue = nil
		return withoutID(tooLarge("max_batch", int64(c.limits.MaxBatch), fmt.Sprintf("a batch of %d requests", n)))
	}
	if gathered.left > 0 && c.in.account.isOwedAll() { // the errors in place of answers would be many
		c.queue = nil
		return withoutID(busy(userMemoryLimit, c.in.account.limit(), "the answers that this user has not read take too much memory for a batch"))
	}
	return nil
}

// A jsonEnvelope holds the members of a message that have a meaning; others are ignored.
type jsonEnvelope struct {
	version, method, params, id, result, fault, timeout, parts, window, context []byte
}

func readEnvelope(b []byte) (e jsonEnvelope) {
	w := enter(b)
	for {
		name, value, ok := w.member()
		if !ok {
			return e
		}
		if at := e.member(name); at != nil {
			*at = value
		}
	}
}

// member returns where the member with that name, without its quotes, is kept; nil if it has no meaning.
func (e *jsonEnvelope) member(name []byte) *[]byte {
	switch string(unquoteJSON(name)) {
	case "jsonrpc":
		return &e.version
	case "method":
		return &e.method
	case "params":
		return &e.params
	case "id":
		return &e.id
	case "result":
		return &e.result
	case "error":
		return &e.fault
	case "timeout":
		return &e.timeout
	case "parts":
		return &e.parts
	case "window":
		return &e.window
	case "context":
		return &e.context
	}
	return nil
}

// parse parses one message. If it is invalid, p.fault says why.
func (c *jsonCodec) parse(p *jsonParsed, b []byte) {
	m := &p.message
	m.id.json = nullID
	if b[0] != '{' {
		p.fault = faultf(codeInvalid, "a request is an object, not %s", jsonKindOf(b))
		return
	}
	e := readEnvelope(b)
	c.parseEnvelope(p, &e)
}

func (c *jsonCodec) parseEnvelope(p *jsonParsed, e *jsonEnvelope) {
	m := &p.message
	m.id.json = nullID
	// What names no version is 1.0, unless it has no method: it is then no request of either, and 2.0 has a form for that.
	m.named = e.version != nil
	m.v1 = isJSONText(e.version, "1.0") || !m.named && e.method != nil
	switch {
	case e.method == nil && (e.result != nil || e.fault != nil):
		c.parseResponse(p, e)
		return
	case e.id != nil && (e.id[0] == '{' || e.id[0] == '[' || e.id[0] == 't' || e.id[0] == 'f'):
		p.fault = faultf(codeInvalid, "the id is %s; expected a string, a number or null", jsonKindOf(e.id))
		return
	case e.id == nil, m.v1 && string(e.id) == nullID:
		m.kind = notification
	default:
		m.id.json = string(e.id)
	}
	switch {
	case m.named && !m.v1 && !isJSONText(e.version, "2.0"):
		p.fault = faultf(codeInvalid, `jsonrpc is %s; expected "2.0"`, shorten(string(e.version), 40))
	case e.method == nil:
		m.id.seq = seqOf(e.id) // it may be an answer
		p.fault = faultf(codeInvalid, "the request has no method")
	case e.method[0] != '"':
		p.fault = faultf(codeInvalid, "the method is %s; expected a string", jsonKindOf(e.method))
	}
	if p.fault != nil {
		m.kind = request // it is answered even without an id
		return
	}
	m.method, p.raw = remembered(&c.method, unquoteJSON(e.method[1:len(e.method)-1])), e.params
	if e.timeout != nil {
		m.timeout = timeoutOf(e.timeout)
	}
	if len(e.context) > 0 && e.context[0] == '"' {
		m.passage = &passage{context: string(unquoteJSON(e.context[1 : len(e.context)-1]))}
	}
	switch {
	case e.parts == nil || m.v1 || m.kind != request: // no parts: in 1.0 and to a notification they have no meaning
	case isToken(e.parts):
		m.parts = string(e.parts)
		m.credit = countOf(e.window)
	case string(e.parts) != nullID:
		p.fault = faultf(codeInvalid, "parts is %s; expected a string or a number", jsonKindOf(e.parts))
	}
}

// timeoutOf returns how long a caller will wait that has said it in milliseconds, or 0 for anything else.
func timeoutOf(b []byte) time.Duration {
	ms, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(ms > 0 && ms < float64(math.MaxInt64/time.Millisecond)) {
		return 0
	}
	return max(time.Duration(ms*float64(time.Millisecond)), 1)
}

// cancelledID returns the id in the argument of a cancellation: {"id": ID}.
func cancelledID(argument document) (id string, ok bool) {
	if len(argument) == 0 || argument[0] != '{' {
		return "", false
	}
	e := readEnvelope(argument)
	return string(e.id), e.id != nil
}

// tokenAnd parses the argument of a message about parts: {"token": T, NAME: V}.
func tokenAnd(argument document, name string) (token, value []byte) {
	if len(argument) == 0 || argument[0] != '{' {
		return nil, nil
	}
	w := enter(argument)
	for {
		key, member, more := w.member()
		if !more {
			return token, value
		}
		switch string(unquoteJSON(key)) {
		case "token":
			token = member
		case name:
			value = member
		}
	}
}

// progressOf parses the params of $/progress: {"token": N, "value": V}, or [N, V], as StreamJsonRpc writes it. The tokens that
// we send are the numbers of our calls. One that stands in for a workDoneToken is negative: it is an integer, too.
func progressOf(params document) (token uint64, workDone bool, value document, ok bool) {
	var t, v []byte
	if len(params) > 0 && params[0] == '[' {
		w := enter(params)
		if t, _ = w.element(); len(t) > 0 && t[0] == '{' {
			t, v = tokenAnd(t, "value")
		} else if value, more := w.element(); more {
			v = value
		}
	} else {
		t, v = tokenAnd(params, "value")
	}
	t, workDone = bytes.CutPrefix(t, []byte("-"))
	token = seqOf(t)
	return token, workDone, v, token != 0 && v != nil
}

// creditOf parses the argument of $/credit: {"token": T, "parts": N}.
func creditOf(argument document) (token string, parts int, ok bool) {
	t, n := tokenAnd(argument, "parts")
	parts = countOf(n)
	return string(t), parts, t != nil && parts > 0
}

// countOf returns a number of things that is greater than 0, or 0 for anything else. One that an int cannot hold is the
// largest that it can.
func countOf(b []byte) int {
	n, err := strconv.ParseFloat(string(b), 64)
	switch {
	case err != nil || n < 1:
		return 0
	case n >= math.MaxInt:
		return math.MaxInt
	}
	return int(n)
}

func (c *jsonCodec) parseResponse(p *jsonParsed, e *jsonEnvelope) {
	m := &p.message
	m.kind, m.id = response, callID{seq: seqOf(e.id)}
	if string(e.id) == nullID {
		m.id.json = nullID
	}
	p.raw, p.result = e.result, true
	if e.fault != nil && string(e.fault) != "null" {
		m.fault = parseFault(e.fault)
	}
}

// parseFault parses the error of a response: an object in 2.0, any value in 1.0.
func parseFault(b []byte) *fault {
	switch b[0] {
	case '"':
		return faultOfText(string(unquoteJSON(b[1 : len(b)-1])))
	case '{':
		var f struct {
			Code    int             `json:"code"`
			Message *string         `json:"message"`
			Data    json.RawMessage `json:"data"`
		}
		if decodeBody(b, &f) == nil && f.Code != 0 {
			if string(f.Data) == nullID {
				f.Data = nil
			}
			text := ""
			if f.Message != nil {
				text = *f.Message
			}
			return &fault{Code: codeOnWire(f.Code), Text: text, Data: f.Data}
		}
	}
	return &fault{Code: codeApplication, Text: string(b)}
}

func (c *jsonCodec) body(v any) error {
	raw := c.raw
	c.raw = nil
	if len(c.queue) == 0 {
		defer func() { // nobody needs the message any more
			c.in.taken(c.taken)
			c.taken = 0
			if c.part > 0 {
				c.in.takenPart(c.part)
			}
		}()
	} else {
		c.in.takenPart(c.part)
	}
	switch {
	case v == nil && (c.result || c.v1): // a client of 1.0 has to send an argument
		return nil
	case c.result:
		return decodeValue("the result", raw, v)
	}
	return decodeParams(raw, v)
}

// encodedOutcome is the member result or error of a response, or in 1.0 both.
type encodedOutcome []byte

func (c *jsonCodec) prepare(m *message, body any) (any, error) {
	if f := m.fault; f != nil && len(f.Text)+len(f.Data) > bodyInTurn {
		outcome, err := appendOutcome(nil, m, nil)
		return encodedOutcome(outcome), err
	}
	return prepareJSON(body)
}

func (c *jsonCodec) write(dst []byte, m *message, body any) (out []byte, err error) {
	if m.kind == alive {
		return append(dst, c.framing.blank()...), nil
	}
	gathered, _ := m.batch.(*jsonBatch)
	if gathered == nil || m.kind != response {
		return c.frame(dst, m, body)
	}
	before := len(gathered.out)
	gathered.out = append(gathered.out, ',')
	if before == 0 {
		gathered.out[0] = '['
	}
	if gathered.out, err = appendMessage(gathered.out, m, body); err != nil {
		gathered.out = gathered.out[:before]
		return dst, err
	}
	if f := m.tooLong(len(gathered.out)-before-1, c.limits); f != nil {
		gathered.out = gathered.out[:before]
		return dst, f
	}
	if len(gathered.out) > gathered.most && (m.fault == nil || m.fault.Code != codeTooLarge) {
		gathered.out = gathered.out[:before]
		large := *m
		large.fault = tooLarge("max_message", int64(c.limits.MaxMessage), "the answers to the batch are too long together")
		return c.write(dst, &large, nil)
	}
	if gathered.left--; gathered.left > 0 {
		return dst, nil
	}
	dst = c.wrap(dst, append(gathered.out, ']'))
	gathered.out = nil // the session may remember the batch
	return dst, nil
}

// frame encodes a message and appends it with its frame.
func (c *jsonCodec) frame(dst []byte, m *message, body any) ([]byte, error) {
	if c.framing == framingHeader {
		b, err := appendMessage(nil, m, body)
		if err != nil {
			return dst, err
		}
		if f := m.tooLong(len(b), c.limits); f != nil {
			return dst, f
		}
		return c.wrap(dst, b), nil
	}
	start := len(dst)
	if c.framing == framingEvent {
		dst = append(dst, eventMessage...)
	}
	out, err := appendMessage(dst, m, body)
	if err != nil {
		return dst[:start], err
	}
	if f := m.tooLong(len(out)-len(dst), c.limits); f != nil {
		return dst[:start], f
	}
	return c.end(out), nil
}

// appendMessage appends m without a frame. On an error it returns dst with part of m.
func appendMessage(dst []byte, m *message, body any) (_ []byte, err error) {
	dst = append(dst, '{')
	if !m.v1 {
		dst = append(dst, `"jsonrpc":"2.0",`...)
	}
	switch m.kind {
	case response:
		dst = append(appendID(append(dst, `"id":`...), m.id), ',')
		dst, err = appendOutcome(dst, m, body)
	case cancel:
		dst = append(dst, `"method":"`+cancelMethod+`","params":{"id":`...)
		dst = append(appendID(dst, m.id), '}')
	case progress:
		dst = append(append(dst, `"method":"`+progressMethod+`","params":{"token":`...), m.parts...)
		dst, err = appendBody(append(dst, `,"value":`...), body)
		dst = append(dst, '}')
	case credit:
		dst = append(append(dst, `"method":"`+creditMethod+`","params":{"token":`...), m.parts...)
		dst = append(strconv.AppendInt(append(dst, `,"parts":`...), int64(m.credit), 10), '}')
	default:
		if m.kind == request {
			dst = append(appendID(append(dst, `"id":`...), m.id), ',')
		}
		dst = appendJSONString(append(dst, `"method":`...), m.method)
		switch {
		case body == nil:
		case m.passage != nil && m.passage.object:
			dst, err = appendBody(append(dst, `,"params":`...), body)
		default:
			dst, err = appendBody(append(dst, `,"params":[`...), body)
			dst = append(dst, ']')
		}
		if m.timeout > 0 {
			dst = append(dst, `,"timeout":`...)
			dst = strconv.AppendInt(dst, max(m.timeout.Milliseconds(), 1), 10)
		}
		if m.parts != "" {
			dst = append(append(dst, `,"parts":`...), m.parts...)
		}
		if m.credit > 0 {
			dst = strconv.AppendInt(append(dst, `,"window":`...), int64(m.credit), 10)
		}
		if m.passage != nil {
			dst = m.passage.append(dst)
		}
	}
	return append(dst, '}'), err
}

// append appends the members beside params.
func (p *passage) append(dst []byte) []byte {
	if p.context != "" {
		dst = appendJSONString(append(dst, `,"context":`...), p.context)
	}
	if p.caller != nil {
		dst = append(append(dst, `,"caller":`...), p.caller...)
	}
	if p.hops > 0 {
		dst = strconv.AppendInt(append(dst, `,"hops":`...), int64(p.hops), 10)
	}
	return dst
}

// appendOutcome appends the result or the error; in 1.0 both, one of which is null.
func appendOutcome(dst []byte, m *message, body any) (_ []byte, err error) {
	if done, ok := body.(encodedOutcome); ok {
		return append(dst, done...), nil
	}
	switch {
	case m.fault == nil:
		dst = append(dst, `"result":`...)
		at := len(dst)
		dst, err = appendBody(dst, body)
		if m.v1 {
			if err == nil && !m.named && string(dst[at:]) == "null" {
				dst, err = appendNothing(dst[:at], body)
			}
			dst = append(dst, `,"error":null`...)
		}
	case m.v1 && m.named:
		dst = appendFault(append(dst, `"result":null,"error":`...), m.fault)
	case m.v1: // Go's client wants a string
		dst = appendJSONString(append(dst, `"result":null,"error":`...), textOfFault(m.fault))
	default:
		dst = appendFault(append(dst, `"error":`...), m.fault)
	}
	return dst, err
}

// appendNothing appends a result that is null for whoever names no version. Go's client (net/rpc/jsonrpc) is dead after a
// null, and after anything that it cannot decode, so an object stands for it where the result would be one, or there is
// none.
func appendNothing(dst []byte, body any) ([]byte, error) {
	if body != nil {
		return dst, errors.New(`it is null, which clients of JSON-RPC 1.0 do not survive; ask with "jsonrpc":"2.0"`)
	}
	return append(dst, "{}"...), nil
}

// appendFault appends an error in the form of JSON-RPC 2.0, section 5.1.
func appendFault(dst []byte, f *fault) []byte {
	dst = strconv.AppendInt(append(dst, `{"code":`...), int64(f.Code), 10)
	dst = appendJSONString(append(dst, `,"message":`...), f.Text)
	if len(f.Data) > 0 {
		dst = appendDocument(append(dst, `,"data":`...), f.Data)
	}
	return append(dst, '}')
}

func appendID(dst []byte, id callID) []byte {
	if id.json != "" {
		return append(dst, id.json...)
	}
	return strconv.AppendUint(dst, id.seq, 10)
}
