package main

// This file is the door of the room wire, which turns bytes into messages and back. It declares message, codec and
// the table of protocols, and detects a protocol by its first bytes.
//
// JSON-RPC is wire_json.go, with its framings in wire_json_frame.go, its ids in wire_json_id.go, the tokens in arguments in wire_json_token.go, its grammar in
// wire_json_scan.go, its Go values in wire_json_value.go and their types in wire_json_type.go, and the envelope of a
// message that is too long in wire_json_skim.go. net/rpc is wire_gob.go, with its grammar in wire_gob_grammar.go, and
// what becomes of its values as JSON in wire_gob_json.go, of JSON as its values in wire_gob_plan.go and of a schema for both in
// wire_gob_schema.go. wire_echo.go calls echo servers. All of them read from wire_input.go and append to
// wire_output.go, of which wire_output_account.go tells the account of the peer. A new codec is a file that implements codec, a row of protocols, and a proto in endpoint.go.

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A kind is the role of a message in a call.
type kind uint8

const (
	request      kind = iota // wants a response with the same id
	notification             // wants none
	response
	progress // a part of the answer to the request that named the token; only written: it is read as a notification
	alive    // a comment in a stream of events; written only
	cancel   // withdraws the request with the same id; only written: it is read as a notification
	credit   // says how many parts of the answer have been taken; only written: it is read as a notification
)

// A passage is what a request says of its way through providers.
type passage struct {
	context string // the call for which a provider makes it, or its name at the provider; see session.inherit
	caller  []byte // who made it, as JSON; nil is not sent
	hops    int    // providers that it has passed; 0 is not sent
	object  bool   // its argument is an object, and is params itself
}

// A callID is the id by which a caller matches a response to its request.
type callID struct {
	seq  uint64 // gob: Seq. JSON written by us: the id
	json string // JSON read by us: the text of the id, returned unchanged; see sameID
}

// A message is one unit of any protocol, without its body. The body is the argument of a request or the result of a
// response; it stays with the codec until someone who knows its type asks for it.
type message struct {
	kind    kind
	id      callID
	method  string        // of a request or a notification: "Echo.Say"
	fault   *fault        // of a response that is an error
	timeout time.Duration // of a request: how long the caller will wait; 0 if unknown
	parts   string        // of a request: the token, as JSON, for partial answers; empty if none are wanted
	credit  int           // of a request: how many bytes of parts may be on their way, 0 for whoever acknowledges none; of a credit: parts taken in all; of a response or a part: see promised
	passage *passage      // of a request to or from a provider; nil where there is nothing to say
	v1      bool          // JSON-RPC 1.0: answer in its form
	named   bool          // its version is named in the request; in 1.0 an error is then an object, otherwise a string
	batch   any           // JSON-RPC: the batch that it belongs to; only the codec looks inside
	forms   *gobForms     // of a request to a provider: what gob makes of the documents; nil if nothing is said of them
}

// longName is the longest name that is remembered between messages, because the next message usually has the same. No
// method has a longer one.
const longName = 129

// remembered returns b as a string: last if that is the same. Otherwise last becomes that string, unless it is long.
func remembered(last *string, b []byte) string {
	if string(b) == *last {
		return *last
	}
	s := string(b)
	if len(s) <= longName {
		*last = s
	}
	return s
}

// tooLong returns the fault that takes the place of m if that has n bytes and max_message is less; otherwise nil. Whether
// a request is too long is for its reader to say, and what takes the place of a message is sent in any case.
func (m *message) tooLong(n int, l limits) *fault {
	what := "the result"
	switch {
	case n <= l.MaxMessage:
		return nil
	case m.kind == progress:
		what = "a part of the answer"
	case m.kind != response || m.fault != nil && m.fault.Code == codeTooLarge:
		return nil
	case m.fault != nil:
		what = "the error"
	}
	if m.method != "" {
		what += " of " + shorten(m.method, 100)
	}
	return tooLarge("max_message", int64(l.MaxMessage), fmt.Sprintf("%s has %d bytes; this daemon sends no more", what, n))
}

// response returns the message that answers m, with f for an error. It is a copy: others may be reading m.
func (m *message) response(f *fault) *message {
	r := responses.Get().(*message)
	*r = *m
	r.kind, r.fault, r.credit = response, f, 0
	return r
}

// recycle lets another response have what m, which was one, takes. Nobody may use m any more.
func (m *message) recycle() {
	*m = message{}
	responses.Put(m)
}

var responses = sync.Pool{New: func() any { return new(message) }}

// promised is how many bytes of m the account of its reader knows of; see output.promise.
func (m *message) promised() int {
	if m.kind == response || m.kind == progress {
		return m.credit
	}
	return 0
}

// A gathering is a batch whose answers the codec keeps until all are there.
type gathering interface{ size() int }

// aside is how many bytes of answers the codec keeps of the batch of m.
func (m *message) aside() int {
	if g, gathers := m.batch.(gathering); gathers {
		return g.size()
	}
	return 0
}

// sizeOfBody is how many bytes a body has that a codec has prepared, as far as it may be many.
func sizeOfBody(body any) int {
	switch v := body.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	case document:
		return len(v)
	case encodedJSON:
		return len(v)
	case encodedGob:
		return len(v)
	}
	return 0
}

// isUrgent reports whether a peer that does not read m is given up within the limit write; see patientWriter.
func (m *message) isUrgent() bool { return m.kind != progress && m.kind != alive }

// A document is JSON that was validated on arrival. It is passed on verbatim: the order of members, the spelling of
// numbers and the escapes stay. Only line ends between its tokens become blanks.
type document []byte

// A lent is given a document that is valid until it returns, so that none is copied for it. It is not called where there is none.
type lent func(document)

// A formed is where a document is decoded to, with the form that it has where the wire has types of its own.
type formed struct {
	*document
	form func() gobPlace
}

// lentParams is lent for the params of a notification that may have several elements: it is given all of them.
type lentParams func(document)

// A codec turns bytes into messages and back. read and body alternate, and only one goroutine at a time may call
// them. write may run concurrently with those, but not with itself. Client and daemon use the same codecs.
type codec interface {
	// read takes the next message off the input and leaves its body for body. It returns io.EOF at the end of the
	// stream, and io.ErrUnexpectedEOF if the stream ends inside a message. A *badMessage concerns that message
	// alone: it is answered if it has an id, and the stream goes on. After any other error the stream is unusable;
	// if the error is a *fault, the peer gets it before the connection closes.
	read(m *message) error

	// body decodes the body of the last message read into v, a pointer, or drops it if v is nil. A *document, a
	// *formed or a lent gets it as JSON. An error that is a *fault concerns this message alone; after any other the stream is unusable. A body
	// can be taken at most once; read drops one that was not.
	body(v any) error

	// prepare encodes m and its body so far that write can append them quickly and without running foreign code: write
	// blocks every other answer. What prepare has returned it returns unchanged. An error means that the body has no
	// encoding. Any number of goroutines may call it.
	prepare(m *message, body any) (any, error)

	// write appends m with its body, as prepare has returned it, to dst, framing included, and returns the result. It
	// appends nothing for an answer that waits for the rest of its batch. On an error dst comes back unchanged, and m
	// may be written again with a fault; one that is a *fault says that m is too long, and is that fault.
	write(dst []byte, m *message, body any) ([]byte, error)
}

// A badMessage is an error that concerns one message: the stream goes on.
type badMessage struct {
	m     message // supplies the id of the answer
	fault *fault
}

// errEcho ends the reading of answers from a peer that echoes what it is sent.
var errEcho = errors.New("it sent a request instead of an answer")

func (b *badMessage) Error() string { return b.fault.Text }
func (b *badMessage) Unwrap() error { return b.fault }

// codeMark precedes the code of an error in a protocol whose errors are text only.
const codeMark = " (code "

// textOfFault returns f for a protocol whose errors are text only. faultOfText is its inverse.
func textOfFault(f *fault) string {
	if f.Code != codeApplication || faultOfText(f.Text).Text != f.Text { // its own text ends as if in a code
		return f.Text + codeMark + strconv.Itoa(f.Code) + ")"
	}
	if f.Text == "" { // on the wire, no text means no error
		return "unknown error"
	}
	return f.Text
}

// faultOfText returns the fault whose textOfFault is text.
func faultOfText(text string) *fault {
	if i := strings.LastIndex(text, codeMark); i >= 0 && strings.HasSuffix(text, ")") {
		if code, err := strconv.Atoi(text[i+len(codeMark) : len(text)-1]); err == nil && code != 0 {
			return &fault{Code: codeOnWire(code), Text: text[:i]}
		}
	}
	return &fault{Code: codeApplication, Text: text}
}

// A codecSide is the end of a connection that a codec is for.
type codecSide int

const (
	sideServing codecSide = iota // reads requests, and adapts to whatever framing they come in
	sideCalling                  // reads responses
	sideChannel                  // reads either, on a channel of one message per line
)

// A protocol is a language that a peer may speak on a connection. One with a codec needs no more than its row here and
// its name in endpoint.go; one that takes over the whole connection needs a row of takers in server_conn.go, too.
type protocol struct {
	name proto
	// begins judges by the first bytes of a stream, of which b has at least one. It is nil for a protocol that is
	// spoken only where the endpoint names it.
	begins func(b []byte) verdict
	// codec is nil for a protocol that takes over the whole connection.
	codec func(in *input, l limits, s codecSide) codec
}

// A verdict says whether the first bytes of a stream belong to a protocol.
type verdict int

const (
	verdictNo    verdict = iota
	verdictMaybe         // more bytes are needed
	verdictYes
)

// protocols are tried in this order. Text that none of them claims is JSON-RPC, which says what is wrong with it.
var protocols = []protocol{
	{name: protoHTTP, begins: beginsHTTP}, // before JSON, which takes all white space
	{name: protoJSON, begins: beginsJSON, codec: newJSONCodecFor},
	{name: protoTLS, begins: beginsTLS},
	{name: protoGob, begins: beginsGob, codec: newGobCodecFor},
	{name: protoEcho, codec: func(in *input, l limits, _ codecSide) codec { return newEchoCodec(in, l) }},
}

// protocolOf returns the row of a protocol. Every proto has one, except protoAuto and protoUnknown.
func protocolOf(name proto) *protocol {
	return &protocols[slices.IndexFunc(protocols, func(p protocol) bool { return p.name == name })]
}

// detect returns the protocol of a stream that begins with b, or protoUnknown if b is too short to tell.
func detect(b []byte) proto {
	if len(b) == 0 {
		return protoUnknown
	}
	for _, p := range protocols {
		if p.begins == nil {
			continue
		}
		switch p.begins(b) {
		case verdictYes:
			return p.name
		case verdictMaybe:
			return protoUnknown
		}
	}
	return protoJSON
}

// beginsWith reports whether b begins with token; verdictMaybe if b is a mere prefix of it.
func beginsWith(b []byte, token string) verdict {
	n := min(len(b), len(token))
	switch {
	case string(b[:n]) != token[:n]:
		return verdictNo
	case n < len(token):
		return verdictMaybe
	}
	return verdictYes
}

// lspHeader begins a JSON-RPC message that is framed as in the Language Server Protocol, with Content-Length or
// Content-Type, in upper or lower case.
const lspHeader = "content-"

func beginsJSON(b []byte) verdict {
	switch b[0] {
	case '{', '[', ' ', '\t', '\r', '\n':
		return verdictYes
	case byteOrderMark[0]:
		return beginsWith(b, byteOrderMark)
	}
	return beginsWith(bytes.ToLower(b[:min(len(b), len(lspHeader))]), lspHeader)
}

// beginsTLS matches a handshake record, RFC 8446 §5.1: its type, then the major version.
func beginsTLS(b []byte) verdict { return beginsWith(b, "\x16\x03") }

// httpMethods begin an HTTP/1.1 request (RFC 9110 §9.3) or, the last one, the preface of HTTP/2 (RFC 9113 §3.4).
var httpMethods = []string{"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT ", "PRI * HTTP/2"}

// maxBlank is how much white space may precede an HTTP request. It should be an empty line at most: RFC 9112, section 2.2.
const maxBlank = 64

func beginsHTTP(b []byte) verdict {
	visible := bytes.TrimLeft(b, jsonSpace)
	switch {
	case len(b)-len(visible) > maxBlank:
		return verdictNo
	case len(visible) == 0:
		return verdictMaybe
	}
	best := verdictNo
	for _, token := range httpMethods {
		best = max(best, beginsWith(visible, token))
	}
	return best
}

// beginsGob matches whatever is not text. Gob has no mark: its first byte is the length of a type definition, which
// varies, though it is 0x2e to 0x31 from every net/rpc client seen. But the number behind it is negative, and no text
// goes on with such a byte.
func beginsGob(b []byte) verdict {
	switch {
	case !isTextByte(b[0]):
		return verdictYes
	case len(b) == 1:
		return verdictMaybe
	case isTextByte(b[1]):
		return verdictNo
	}
	return verdictYes
}

// isTextByte reports whether c is found in text that is UTF-8.
func isTextByte(c byte) bool {
	return c >= 0x20 && c != 0x7f && c < 0xf8 || c == '\t' || c == '\n' || c == '\r'
}
