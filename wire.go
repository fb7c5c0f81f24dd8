package main

// This file owns what all protocols share: a message, the interface of a codec, and the
// detection of a protocol by its first bytes.

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A kind tells what a message is for.
type kind uint8

const (
	request      kind = iota // wants a response with the same id
	notification             // wants none
	response
	progress // a part of the answer to the request that named the token; written alone, read as a notification
	cancel   // withdraws the request with the same id; written alone, read as a notification
)

// A callID is what a caller gave its request to know the response by. Only the codec that
// read it looks inside. Comparable, so that calls in flight can be found by it.
type callID struct {
	seq  uint64 // gob: Seq. JSON written by us: the id
	json string // JSON read by us: the id's own text, given back as it came
}

// A message is one unit of any protocol without its body: the argument of a request or the
// result of a response stays with the codec until someone who knows its type asks for it.
type message struct {
	kind    kind
	id      callID
	method  string        // of a request or a notification: "Echo.Say"
	fault   *fault        // of a response that is an error
	timeout time.Duration // of a request: how long the caller will wait; 0 says nothing
	parts   string        // of a request: the token, as JSON, for parts of the answer before its end; empty for none
	v1      bool          // JSON-RPC 1.0: answer in its form
	batch   any           // JSON-RPC: the batch that it came in; only the codec looks inside
}

// A document is JSON that was checked when it came in. It is written as it came: the order of members,
// the spelling of numbers, escapes. Only line ends between its values become blanks.
type document []byte

// A codec turns bytes into messages and back. Whoever reads calls read and body, in turn and
// from one goroutine at a time; write may be called at the same time as those, but by one
// goroutine at a time. Client and daemon use the same codecs.
type codec interface {
	// read takes the next message off the input and leaves its body for body. At the end of
	// the stream it returns io.EOF; a stream that ends inside a message is
	// io.ErrUnexpectedEOF. A *badMessage is an error of that message alone: it is answered if it
	// has an id, and the stream goes on. After any other error the stream is
	// useless; a *fault among them is told to the peer before the connection closes.
	read(m *message) error

	// body decodes the body of the message that read returned last into v, a pointer, or
	// drops it where v is nil. A *json.RawMessage takes it as JSON. An error that is a *fault
	// concerns this message alone; after any other the stream is useless. Each message's body
	// is taken at most once; read drops the one that was not.
	body(v any) error

	// prepare makes of a body what write appends without running anybody's code and without taking
	// long, so that no other answer waits for it. An error says that the body has no encoding. A
	// protocol whose encoding depends on what was written before leaves the body as it is.
	prepare(body any) (any, error)

	// write appends m with its body to dst, framing included, and returns the result.
	// Appending nothing is right where an answer waits for the rest of its batch. On an error
	// dst comes back as it was: the body has no encoding, and m may be written again with a fault.
	write(dst []byte, m *message, body any) ([]byte, error)
}

// A badMessage is an error of one message on a stream that goes on.
type badMessage struct {
	m     message // whose id the answer carries
	fault *fault
}

func (b *badMessage) Error() string { return b.fault.Text }
func (b *badMessage) Unwrap() error { return b.fault }

// codeMark stands before the code in the text of an error that has nothing but text.
const codeMark = " (code "

// textOfFault is an error for a protocol that has only its text.
func textOfFault(f *fault) string {
	if f.Code != codeApplication {
		return f.Text + codeMark + strconv.Itoa(f.Code) + ")"
	}
	if f.Text == "" { // which would say that there is none
		return "unknown error"
	}
	return f.Text
}

// faultOfText is its inverse.
func faultOfText(text string) *fault {
	if i := strings.LastIndex(text, codeMark); i >= 0 && strings.HasSuffix(text, ")") {
		if code, err := strconv.Atoi(text[i+len(codeMark) : len(text)-1]); err == nil && code < 0 {
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
	sideChannel                  // either, on a channel that has a message a line
)

// A protocol is one way to speak on a connection. Its row is all there is to add for another one
// that a codec can carry; what takes a whole connection has a row in server_conn.go as well.
type protocol struct {
	name proto
	// begins reports whether a stream that begins with b, which is not empty, speaks it. It is nil
	// where nothing tells: the protocol is then spoken only where the endpoint names it.
	begins func(b []byte) verdict
	// codec is nil where it takes the whole connection.
	codec func(in *input, l limits, s codecSide) codec
}

// A verdict is what the first bytes say of a protocol.
type verdict int

const (
	verdictNo    verdict = iota
	verdictMaybe         // more bytes are needed
	verdictYes
)

// protocols in the order in which they are asked. What nobody claims is gob: its first byte is the
// length of a type definition and not fixed, though 0x2e to 0x31 from every net/rpc client seen.
var protocols = []protocol{
	{name: protoJSON, begins: beginsJSON, codec: newJSONCodecFor},
	{name: protoTLS, begins: beginsTLS},
	{name: protoHTTP, begins: beginsHTTP},
	{name: protoGob, codec: newGobCodecFor},
	{name: protoEcho, codec: func(in *input, l limits, _ codecSide) codec { return newEchoCodec(in, l) }},
}

// protocolOf is the row of a protocol, which there is for each but auto.
func protocolOf(name proto) *protocol {
	return &protocols[slices.IndexFunc(protocols, func(p protocol) bool { return p.name == name })]
}

// detect names the protocol that begins with b, or protoUnknown where b is too short to tell.
func detect(b []byte) proto {
	if len(b) == 0 {
		return protoUnknown
	}
	claimed := protoGob
	for _, p := range protocols {
		if p.begins == nil {
			continue
		}
		switch p.begins(b) {
		case verdictYes:
			return p.name
		case verdictMaybe:
			claimed = protoUnknown
		}
	}
	return claimed
}

// beginsWith compares b with a token of which it may have the beginning alone.
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

// lspHeader begins a JSON-RPC message with headers, in the Language Server Protocol's form:
// Content-Length or Content-Type, in any case of letters.
const lspHeader = "content-"

func beginsJSON(b []byte) verdict {
	switch b[0] {
	case '{', '[', ' ', '\t', '\r', '\n':
		return verdictYes
	}
	return beginsWith(bytes.ToLower(b[:min(len(b), len(lspHeader))]), lspHeader)
}

// beginsTLS knows a handshake record, RFC 8446 §5.1, and the major version behind its type.
func beginsTLS(b []byte) verdict { return beginsWith(b, "\x16\x03") }

// httpMethods are those that begin an HTTP/1.1 request (RFC 9110 §9.3) or, the last, the
// preface of HTTP/2 (RFC 9113 §3.4).
var httpMethods = []string{"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT ", "PRI * HTTP/2"}

func beginsHTTP(b []byte) verdict {
	best := verdictNo
	for _, token := range httpMethods {
		best = max(best, beginsWith(b, token))
	}
	return best
}
