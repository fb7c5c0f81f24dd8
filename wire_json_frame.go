package main

// This file owns the framings of JSON-RPC: how one message is told from the next, and what becomes of one that is broken
// or too long. A new framing is a constant here.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

// value returns the next value, validated. It stays on the input.
func (c *jsonCodec) value() ([]byte, error) {
	if err := c.skipSpace(); err != nil {
		return nil, err
	}
	if c.framing == framingAuto {
		c.framing = framingValue
		if c.in.bytes()[0]|0x20 == 'c' {
			c.framing = framingHeader
		}
	}
	if c.framing == framingHeader {
		return c.headed()
	}
	c.scan.reset(c.limits.MaxDepth)
	var err error
	whole := false
	for err == nil && !whole {
		whole, err = c.scan.scan(c.in.bytes(), false)
		switch {
		case err != nil:
		case c.scan.pos > c.limits.MaxMessage:
			return nil, c.tooLong()
		case !whole:
			switch more := c.in.more(true); {
			case more == io.EOF: // a number or a word may end there
				if whole, _ = c.scan.scan(c.in.bytes(), true); !whole {
					return nil, io.ErrUnexpectedEOF
				}
			case more != nil:
				return nil, more
			}
		}
	}
	if err != nil {
		return nil, c.broken(c.scan.at(), err)
	}
	c.taken = c.scan.pos
	return c.in.bytes()[:c.taken], nil
}

// skipSpace waits for the first byte that is neither white space nor part of a byte order mark.
func (c *jsonCodec) skipSpace() error {
	for {
		b := c.in.bytes()
		rest := trimFront(b)
		c.in.advance(len(b) - len(rest))
		begun := len(rest) > 0 && len(rest) < len(byteOrderMark) && strings.HasPrefix(byteOrderMark, string(rest))
		if len(rest) > 0 && !begun {
			return nil
		}
		if err := c.in.more(begun); err != nil {
			return err
		}
	}
}

// byteOrderMark begins what some writers of UTF-8 send, those of .NET among them: once, or before each message.
const byteOrderMark = "\ufeff"

// trimFront returns b without what may precede a message. RFC 8259, section 8.1, lets a parser ignore the mark.
func trimFront(b []byte) []byte { return bytes.TrimLeft(b, jsonSpace+byteOrderMark) }

// broken returns the error for a value that cannot be read: at that byte it is no JSON, or too deep. With one message per
// line it goes on with the next line; without a frame nobody knows where the next message begins, and the stream is
// unusable.
func (c *jsonCodec) broken(at int, err error) error {
	f := parseFaultAt(at, err)
	if c.framing != framingLine {
		return f
	}
	line := c.in.bytes()
	for ; bytes.IndexByte(line, '\n') < 0 && len(line) <= c.limits.MaxMessage; line = c.in.bytes() {
		if err := c.in.more(true); err != nil {
			return noEOF(err)
		}
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	return c.nextLine(c.refusal(line, f))
}

// nextLine drops the rest of the line. It returns bad, unless the stream ends first.
func (c *jsonCodec) nextLine(bad error) error {
	for {
		b := c.in.bytes()
		if end := bytes.IndexByte(b, '\n'); end >= 0 {
			c.in.advance(end + 1)
			return bad
		}
		c.in.discard(len(b))
		if err := c.in.more(true); err != nil {
			return noEOF(err)
		}
	}
}

// parseFaultAt returns err if it is a fault, and otherwise the fault for a syntax error.
func parseFaultAt(at int, err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return faultf(codeParse, "the message is not JSON: at byte %d: %w", at, err)
}

// refusal returns the error for a message that cannot be read to its end. One that is merely too deep is answered with
// its id; what is no JSON has none that could be relied on.
func (c *jsonCodec) refusal(b []byte, f *fault) error {
	if f.Code != codeTooLarge || len(b) == 0 || b[0] != '{' {
		return withoutID(f)
	}
	e := readEnvelope(b)
	if checkJSON(e.id, c.limits) != nil { // behind the place where the message was given up, nothing has been checked
		e.id = nil
	}
	return c.refuse(&e, f)
}

// refuse returns the error for a message of which only the envelope is known.
func (c *jsonCodec) refuse(e *jsonEnvelope, f *fault) error {
	var p jsonParsed
	c.parseEnvelope(&p, e)
	return &badMessage{m: p.message, fault: f}
}

// tooLong drops a value over the limit as it arrives, and returns the error to answer it with.
func (c *jsonCodec) tooLong() error {
	f := tooLarge("max_message", int64(c.limits.MaxMessage), "the message is too long")
	k := newJSONSkim(c.limits)
	for !k.whole {
		b := c.in.bytes()
		if len(b) == 0 {
			if err := c.in.more(true); err != nil {
				return noEOF(err)
			}
			continue
		}
		n, err := k.pass(b[:min(len(b), inputLarge)])
		switch {
		case err == nil:
			c.in.discard(n) // which does not wait: they are here
		case c.framing == framingLine:
			return c.nextLine(c.refuse(&k.envelope, f))
		default:
			return parseFaultAt(k.scan.at(), err)
		}
	}
	c.in.advance(0)
	return c.refuse(&k.envelope, f)
}

// headed returns the value of a message with headers.
func (c *jsonCodec) headed() ([]byte, error) {
	n, err := c.header()
	if err != nil {
		return nil, err
	}
	if n > c.limits.MaxMessage {
		return nil, c.headedTooLong(n)
	}
	b, err := c.in.need(n, true)
	if err != nil {
		return nil, err
	}
	value := trimFront(b)
	c.scan.reset(c.limits.MaxDepth)
	_, err = c.scan.scan(value, true)
	if err == nil && len(bytes.TrimLeft(value[c.scan.pos:], jsonSpace)) > 0 {
		err = errors.New("more than one value")
	}
	c.taken = n
	if err != nil {
		return nil, c.refusal(value, parseFaultAt(c.scan.at(), err))
	}
	return value, nil
}

// headedTooLong is tooLong for a message of n bytes.
func (c *jsonCodec) headedTooLong(n int) error {
	k := newJSONSkim(c.limits)
	for left := n; left > 0; {
		b, err := c.in.need(min(left, inputSmall), true)
		if err != nil {
			return err
		}
		text := b
		if left == n {
			text = trimFront(b)
		}
		k.pass(text) // it is refused for its length; an error means only that no more of it is understood
		left -= len(b)
		c.in.discard(len(b))
	}
	c.in.advance(0)
	return c.refuse(&k.envelope, tooLarge("max_message", int64(c.limits.MaxMessage), fmt.Sprintf("the message has %d bytes", n)))
}

// header takes the headers of a message off the input and returns its length.
func (c *jsonCodec) header() (int, error) {
	length, left := -1, maxJSONHeader
	for {
		line, err := c.headerLine(&left)
		if err != nil {
			return 0, err
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(name, "Content-Length") {
			continue
		}
		value = strings.TrimSpace(value)
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n > maxJSONSkip || length >= 0 {
			return 0, faultf(codeParse, "%q is not a valid Content-Length", shorten(value, 40))
		}
		length = int(n)
	}
	if length < 0 {
		return 0, faultf(codeParse, "the headers have no Content-Length")
	}
	c.in.advance(0)
	return length, nil
}

// headerLine takes one line of the headers off the input, without its end: CR LF, or LF alone. What cannot become a
// header is refused as soon as that shows. left is how many more bytes the headers may have.
func (c *jsonCodec) headerLine(left *int) (string, error) {
	for {
		b := c.in.bytes()
		line, _, whole := bytes.Cut(b[:min(len(b), *left)], []byte("\n"))
		taken := len(line) + 1
		line = bytes.TrimSuffix(line, []byte("\r"))
		name, _, named := bytes.Cut(line, []byte(":"))
		wrong := bytes.IndexFunc(name, isNoToken)
		switch {
		case wrong >= 0: // the error does not depend on how much has arrived
			return "", faultf(codeParse, "%q does not begin a header", shorten(string(line[:wrong+1]), 40))
		case whole && len(line) > 0 && !named:
			return "", faultf(codeParse, "%q is not a header", shorten(string(line), 40))
		case whole:
			*left -= taken
			c.in.discard(taken) // not advance: the message is not complete
			return string(line), nil
		case taken > *left:
			return "", faultf(codeParse, "the headers of a message have more than %d bytes", maxJSONHeader)
		}
		if err := c.in.more(true); err != nil {
			return "", noEOF(err)
		}
	}
}

// isNoToken reports whether r cannot be part of the name of a header: RFC 9110, section 5.6.2.
func isNoToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
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
