package main

// This file owns the framings of JSON-RPC: how one message is told from the next, and what becomes of one that is broken
// or too long. A new framing is a constant here.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
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
	maxJSONSkip   = 1 << 30 // bytes that a Content-Length may announce; a longer message is not even skipped
)

// value returns the next value, validated. It stays on the input.
func (c *jsonCodec) value() ([]byte, error) {
	if c.skip != nil {
		if err := c.skim(); err != nil {
			return nil, err
		}
	}
	if err := c.skipSpace(); err != nil {
		return nil, err
	}
	if c.framing == framingAuto {
		c.framing = framingValue
		if c.in.bytes()[0]|0x20 == 'c' {
			c.framing = framingHeader
		}
	}
	switch c.framing {
	case framingHeader:
		return c.headed()
	case framingLine:
		return c.lined()
	}
	return c.bare()
}

// bare returns a value that nothing but its own grammar ends. After one that is no JSON, or too deep, nobody knows where
// the next one begins, and the stream is unusable.
func (c *jsonCodec) bare() ([]byte, error) {
	c.scan.reset(c.limits.MaxDepth)
	for whole := false; !whole; {
		var err error
		whole, err = c.scan.scan(c.in.bytes(), false)
		switch {
		case c.scan.pos > c.limits.MaxMessage:
			return nil, c.refuse(c.tooLong("the message is too long"), nil)
		case err != nil:
			return nil, parseFaultAt(&c.scan, err)
		case !whole:
			switch err = c.in.more(true); {
			case err == io.EOF: // a number or a word may end there
				if whole, _ = c.scan.scan(c.in.bytes(), true); !whole {
					return nil, io.ErrUnexpectedEOF
				}
			case err != nil:
				return nil, c.cutShort(err, nil)
			}
		}
	}
	c.taken = c.scan.pos
	return c.in.bytes()[:c.taken], nil
}

// lined returns the value of a line.
func (c *jsonCodec) lined() ([]byte, error) {
	most := c.limits.MaxMessage
	line := func(b []byte) (n int, last bool) {
		if end := bytes.IndexByte(b, '\n'); end >= 0 {
			return end + 1, true
		}
		return len(b), false
	}
	for seen := 0; ; {
		b := c.in.bytes()
		end := bytes.IndexByte(b[seen:min(len(b), most+1)], '\n')
		switch {
		case end >= 0:
			c.taken = seen + end + 1
			return c.framed(b[:seen+end])
		case len(b) > most:
			return nil, c.refuse(c.tooLong("the message is too long"), line)
		}
		seen = len(b)
		if err := c.in.more(true); err != nil {
			return nil, c.cutShort(err, line)
		}
	}
}

// headed returns the value of a message with headers.
func (c *jsonCodec) headed() ([]byte, error) {
	left, err := c.header()
	if err != nil {
		return nil, err
	}
	rest := left
	counted := func(b []byte) (n int, last bool) {
		n = min(len(b), rest)
		rest -= n
		return n, rest == 0
	}
	if left > c.limits.MaxMessage {
		return nil, c.refuse(c.tooLong(fmt.Sprintf("the message has %d bytes", left)), counted)
	}
	b, err := c.in.need(left, true)
	if err != nil {
		return nil, c.cutShort(err, counted)
	}
	c.taken = left
	return c.framed(b)
}

// framed returns the value of a message whose end is known. Whatever is wrong with it concerns this message alone.
func (c *jsonCodec) framed(text []byte) ([]byte, error) {
	value := trimFront(text)
	c.scan.reset(c.limits.MaxDepth)
	_, err := c.scan.scan(value, true)
	if err == nil && len(bytes.TrimLeft(value[c.scan.pos:], jsonSpace)) > 0 {
		err = errors.New("more than one value")
	}
	if err == nil {
		return value, nil
	}
	f := parseFaultAt(&c.scan, err)
	if f.Code == codeParse { // it may have an id, but none that could be relied on
		return nil, withoutID(f)
	}
	k := newJSONSkim()
	for part := range slices.Chunk(value, inputLarge) {
		k.pass(part)
	}
	return nil, &badMessage{m: c.messageOf(k), fault: f}
}

// parseFaultAt returns err if it is a fault, and otherwise the fault for a syntax error where s is.
func parseFaultAt(s *jsonScan, err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return faultf(codeParse, "the message is not JSON: at byte %d: %w", s.gone+s.pos, err)
}

func (c *jsonCodec) tooLong(what string) *fault {
	return tooLarge("max_message", int64(c.limits.MaxMessage), what)
}

// A jsonSkip is a message that is dropped as it arrives.
type jsonSkip struct {
	*jsonSkim
	fault *fault
	end   jsonEnd
	last  bool // the stream ends with it

	passed int         // how many of its bytes have come
	told   knownAnswer // what was known when it was refused
}

// A jsonEnd says how many of the bytes at hand belong to a message, and whether they are the last. It is nil for one that
// nothing but its own grammar ends.
type jsonEnd func(b []byte) (n int, last bool)

// A lastMessage is a badMessage behind which nothing can be read.
type lastMessage struct{ badMessage }

// refuse drops the message that has begun, and returns the error that answers it with f.
func (c *jsonCodec) refuse(f *fault, end jsonEnd) error {
	c.skip = &jsonSkip{jsonSkim: newJSONSkim(), fault: f, end: end}
	return c.skim()
}

// cutShort returns the error for a message that has begun and is not read to its end because of err. It is answered with
// its id if err is a fault. One that is over a limit is read on for that.
func (c *jsonCodec) cutShort(err error, end jsonEnd) error {
	var f *fault
	switch {
	case !errors.As(err, &f) || f.Code == codeParse: // with an id that could not be relied on
		return noEOF(err)
	case f.Code == codeBusy: // there is no memory for it, and the stream goes on behind it
		return c.refuse(f, end)
	}
	c.skip = &jsonSkip{jsonSkim: newJSONSkim(), fault: f, end: end, last: true}
	return c.skim()
}

// skim drops more of the message that is being dropped. It returns the error that answers the message, and nil at its end if it
// has been answered. Nobody waits for the end of an answer, which may never come: one is refused once its id is known, and before
// that once when it has passed the limit, for those who need no id to know whose it is.
func (c *jsonCodec) skim() error {
	k := c.skip
	for most := c.limits.MaxMessage + 1; ; {
		b := c.in.bytes()
		if k.passed < most { // what is known there must not depend on how much has arrived
			b = b[:min(len(b), most-k.passed)]
		}
		n, whole, err := k.take(b)
		k.passed += n
		c.in.discard(n) // which does not wait: they are here
		known := k.answer()
		switch {
		case err != nil:
			c.skip = nil
			return err
		case whole:
			c.skip = nil
			c.in.advance(0)
			if k.told > 0 && known <= k.told {
				return nil
			}
			return c.refused(k)
		case known > k.told && !k.last && (known == answerTo || k.passed == most):
			k.told = known
			return c.refused(k)
		case len(c.in.bytes()) > 0:
			continue
		}
		if err := c.in.more(true); err != nil {
			var f *fault
			switch {
			case err == errNudged:
				return err
			case k.last:
				c.skip = nil
				return c.refused(k)
			case k.told > 0 || !errors.As(err, &f):
				c.skip = nil
				return noEOF(err)
			}
			k.last = true // and once more: what is over the limit of a body can be read on
		}
	}
}

// refused returns the error that answers a message, of which k is all that is known.
func (c *jsonCodec) refused(k *jsonSkip) error {
	bad := badMessage{m: c.messageOf(k.jsonSkim), fault: k.fault}
	if !k.last {
		return &bad
	}
	if bad.m.kind != request { // the error concerns the stream, and is sent in any case
		bad.m = message{id: callID{json: nullID}}
	}
	return &lastMessage{bad}
}

// take looks at more bytes, and returns how many of them belong to the message, and whether they are the last.
func (k *jsonSkip) take(b []byte) (n int, whole bool, err error) {
	if k.end != nil {
		n, whole = k.end(b)
		for part := range slices.Chunk(b[:n], inputLarge) {
			k.pass(part) // an error means that no more of it is understood
		}
		return n, whole, nil
	}
	for n < len(b) && !k.whole {
		more, err := k.pass(b[n:min(len(b), n+inputLarge)])
		var deep *fault
		switch {
		case errors.As(err, &deep): // even for a skim
			return n, false, k.fault
		case err != nil:
			return n, false, parseFaultAt(&k.scan, err)
		}
		n += more
	}
	return n, k.whole, nil
}

// messageOf returns the message of which k is all that is known.
func (c *jsonCodec) messageOf(k *jsonSkim) message {
	var p jsonParsed
	e := k.known()
	c.parseEnvelope(&p, &e)
	switch m := &p.message; {
	case m.kind == notification && !k.whole:
		m.kind = request // its id may be in the rest
	case m.kind == response && e.id == nil:
		m.id.json = nullID
	}
	return p.message
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
func trimFront(b []byte) []byte {
	if len(b) > 0 && b[0] > ' ' && b[0] < byteOrderMark[0] {
		return b // as nearly always; TrimLeft looks for characters
	}
	return bytes.TrimLeft(b, jsonSpace+byteOrderMark)
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

// blank is what says between messages that a stream is alive.
func (f framing) blank() string {
	if f == framingEvent {
		return ":\n\n" // a comment
	}
	return "\n"
}

// end ends a frame that has no length.
func (c *jsonCodec) end(dst []byte) []byte {
	if c.framing == framingEvent {
		dst = append(dst, '\n')
	}
	return append(dst, '\n')
}
