package main

// This file owns the framings of JSON-RPC: how one message is told from the next, and what becomes of one that is broken
// or too long. A new framing is a constant here.

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A framing separates one message from the next.
type framing int

const (
	framingAuto   framing = iota // framingHeader or framingValue, by the first byte
	framingValue                 // values back to back, with or without white space between them
	framingLine                  // one value per line
	framingHeader                // Content-Length: N, an empty line, N bytes, as in the Language Server Protocol
	framingEvent                 // only written: one server-sent event per message (HTML standard, section 9.2)
)

const (
	maxJSONHeader = 4 << 10 // framing headers fit in 100 bytes; the rest is kindness
	maxJSONSkip   = 1 << 30 // a longer message is not even skipped: it ends the connection
)

// value returns the next value, an object or an array, validated. It stays on the input.
func (c *jsonCodec) value() ([]byte, error) {
	if err := c.skipSpace(); err != nil {
		return nil, err
	}
	first := c.in.bytes()[0]
	if c.framing == framingAuto {
		c.framing = framingValue
		if first|0x20 == 'c' {
			c.framing = framingHeader
		}
	}
	if c.framing == framingHeader {
		return c.headed()
	}
	c.scan.reset(c.limits.MaxDepth)
	var err error
	whole := false
	if first != '{' && first != '[' {
		err = faultf(codeParse, "a message begins with { or [, not with %q", first)
	}
	for err == nil && !whole {
		whole, err = c.scan.scan(c.in.bytes(), false)
		switch {
		case err != nil:
		case c.scan.pos > c.limits.MaxMessage:
			return nil, c.skipLarge(whole)
		case !whole:
			if err := c.in.more(true); err != nil {
				return nil, noEOF(err)
			}
		}
	}
	if err != nil {
		return nil, c.broken(err)
	}
	c.taken = c.scan.pos
	return c.in.bytes()[:c.taken], nil
}

// skipSpace waits for the first byte that is not white space.
func (c *jsonCodec) skipSpace() error {
	for {
		b := c.in.bytes()
		rest := bytes.TrimLeft(b, jsonSpace)
		c.in.advance(len(b) - len(rest))
		if len(rest) > 0 {
			return nil
		}
		if err := c.in.more(false); err != nil {
			return err
		}
	}
}

// broken returns the error for invalid JSON. With one message per line it goes on with the next line; without a frame
// nobody knows where the next message begins, and the stream is unusable.
func (c *jsonCodec) broken(err error) error {
	f := c.parseFault(err)
	if c.framing != framingLine {
		return f
	}
	for {
		b := c.in.bytes()
		if end := bytes.IndexByte(b, '\n'); end >= 0 {
			c.in.advance(end + 1)
			return withoutID(f)
		}
		if err := c.in.discard(len(b)); err != nil {
			return err
		}
		if err := c.in.more(true); err != nil {
			return noEOF(err)
		}
	}
}

// parseFault returns err if it is a fault, and otherwise the fault for a syntax error.
func (c *jsonCodec) parseFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return faultf(codeParse, "the message is not JSON: at byte %d: %w", c.scan.gone+c.scan.pos, err)
}

// skipLarge drops a value over the limit as it arrives, and returns the error to answer it with. The answer has the id
// if that came early enough.
func (c *jsonCodec) skipLarge(whole bool) error {
	p := jsonParsed{message: message{id: callID{json: nullID}}}
	if head := c.in.bytes()[:min(c.scan.pos, inputLarge)]; head[0] == '{' {
		c.parse(&p, head)
	}
	for !whole {
		if err := c.in.discard(c.scan.pos); err != nil {
			return err
		}
		c.scan.forget(c.scan.pos)
		if err := c.in.more(true); err != nil {
			return noEOF(err)
		}
		var err error
		if whole, err = c.scan.scan(c.in.bytes(), false); err != nil {
			return c.broken(err)
		}
	}
	c.in.advance(c.scan.pos)
	p.message.kind = request
	return &badMessage{m: p.message, fault: tooLarge("max_message", int64(c.limits.MaxMessage), "the message is too long")}
}

// headed returns the value of a message with headers.
func (c *jsonCodec) headed() ([]byte, error) {
	n, err := c.header()
	if err != nil {
		return nil, err
	}
	if n > c.limits.MaxMessage {
		if err := c.in.discard(n); err != nil {
			return nil, err
		}
		c.in.advance(0)
		return nil, withoutID(tooLarge("max_message", int64(c.limits.MaxMessage), fmt.Sprintf("the message has %d bytes", n)))
	}
	b, err := c.in.need(n, true)
	if err != nil {
		return nil, err
	}
	c.scan.reset(c.limits.MaxDepth)
	_, err = c.scan.scan(b, true)
	value := bytes.TrimLeft(b, jsonSpace)
	switch {
	case err == nil && len(bytes.TrimLeft(b[c.scan.pos:], jsonSpace)) > 0:
		err = errors.New("more than one value")
	case err == nil && value[0] != '{' && value[0] != '[':
		err = errors.New("a message is an object or an array")
	}
	c.taken = n
	if err != nil {
		return nil, withoutID(c.parseFault(err))
	}
	return value, nil
}

// header takes the headers of a message off the input and returns its length.
func (c *jsonCodec) header() (int, error) {
	var head []byte
	for head == nil {
		b := c.in.bytes()
		if end := bytes.Index(b[:min(len(b), maxJSONHeader)], []byte("\r\n\r\n")); end >= 0 {
			head = b[:end+2]
		} else if len(b) >= maxJSONHeader {
			return 0, faultf(codeParse, "the headers of a message have more than %d bytes", maxJSONHeader)
		} else if err := c.in.more(true); err != nil {
			return 0, noEOF(err)
		}
	}
	length := -1
	for line := range strings.Lines(string(head)) {
		name, value, ok := strings.Cut(line, ":")
		switch {
		case !ok:
			return 0, faultf(codeParse, "%q is not a header", shorten(line, 40))
		case strings.EqualFold(name, "Content-Length"):
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
			if err != nil || n > maxJSONSkip || length >= 0 {
				return 0, faultf(codeParse, "%q is not a valid Content-Length", shorten(strings.TrimSpace(value), 40))
			}
			length = int(n)
		}
	}
	if length < 0 {
		return 0, faultf(codeParse, "the headers have no Content-Length")
	}
	c.in.advance(len(head) + 2)
	return length, nil
}

// wrap appends an encoded message with its frame.
func (c *jsonCodec) wrap(dst, b []byte) []byte {
	switch c.framing {
	case framingHeader:
		dst = append(strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(b)), 10), "\r\n\r\n"...)
		return append(dst, b...)
	case framingEvent:
		dst = append(dst, eventMessage...)
	}
	return c.end(append(dst, b...))
}

// eventMessage begins the event that carries a message.
const eventMessage = "event: message\ndata: "

// eventComment says that the stream is alive.
const eventComment = ":\n\n"

// end ends a frame that has no length.
func (c *jsonCodec) end(dst []byte) []byte {
	if c.framing == framingEvent {
		dst = append(dst, '\n')
	}
	return append(dst, '\n')
}
