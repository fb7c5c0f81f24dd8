package main

// This file owns the client side of echo: a codec for servers that return every byte they receive, like those of the
// article that ipcd started from.

import (
	"encoding/json"
	"io"
	"sync"
)

// An echoCodec sends the text of a call verbatim. The answer is complete once as many bytes have come back, which have to be
// the same.
type echoCodec struct {
	in     *input
	limits limits
	text   string // of the last answer

	mu   sync.Mutex
	sent []echoSent // what has not come back yet, oldest first
}

type echoSent struct {
	id   callID
	text string
}

func newEchoCodec(in *input, l limits) codec { return &echoCodec{in: in, limits: l} }

// echoText returns the text to send for a call of Echo.Say, the only method that an echo server has.
func echoText(name string, arg any) (string, error) {
	if name != "Echo.Say" {
		return "", usagef("%s cannot be called at an endpoint with proto=echo, which only returns what it is sent", shorten(name, 100)).
			withHint("send it a text: ipcd call -e URL hello")
	}
	text, ok := arg.(string)
	if raw, isJSON := arg.(json.RawMessage); isJSON {
		ok = json.Unmarshal(raw, &text) == nil
	}
	if !ok || text == "" {
		return "", usagef("an endpoint with proto=echo takes a text of at least one byte").withHint("send one: ipcd call -e URL hello")
	}
	return text, nil
}

// prepare has nothing to do: a text is its own encoding.
func (c *echoCodec) prepare(_ *message, body any) (any, error) { return body, nil }

func (c *echoCodec) write(dst []byte, m *message, body any) ([]byte, error) {
	if m.kind != request {
		return dst, nil // a cancel: bytes that were sent cannot be withdrawn
	}
	text, err := echoText(m.method, body)
	if err != nil {
		return dst, err
	}
	if len(text) > c.limits.MaxMessage {
		return dst, tooLarge("max_message", int64(c.limits.MaxMessage), "the text is too long")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, echoSent{id: m.id, text: text})
	return append(dst, text...), nil
}

func (c *echoCodec) read(m *message) error {
	*m, c.text = message{}, ""
	if _, err := c.in.need(1, false); err != nil {
		return err
	}
	c.mu.Lock()
	if len(c.sent) == 0 {
		c.mu.Unlock()
		return faultf(codeInvalid, "it sent bytes that nobody had sent to it")
	}
	first := c.sent[0]
	if c.sent = c.sent[1:]; len(c.sent) == 0 {
		c.sent = nil
	}
	c.mu.Unlock()
	for {
		b := c.in.bytes()
		if n := min(len(b), len(first.text)); string(b[:n]) != first.text[:n] {
			return faultf(codeInvalid, "it does not send back what it is sent")
		} else if n == len(first.text) {
			break
		}
		if err := c.in.more(true); err != nil {
			return noEOF(err)
		}
	}
	*m = message{kind: response, id: first.id}
	c.text = first.text
	c.in.advance(len(first.text))
	return nil
}

func (c *echoCodec) body(v any) error {
	text := c.text
	c.text = ""
	return setText(v, text)
}

// setText stores text in v, which is one of the types that a caller may ask for.
func setText(v any, text string) error {
	switch v := v.(type) {
	case nil:
		return nil
	case *string:
		*v = text
	case *json.RawMessage:
		*v = appendJSONString(nil, text)
	default:
		return faultf(codeBadArgument, "the result is a string")
	}
	return nil
}

// readEcho reads the answer of an HTTP server that echoes the URL.
func readEcho(r io.Reader, l limits, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, int64(l.MaxMessage)+1))
	if err != nil {
		return err
	}
	if len(b) > l.MaxMessage {
		return tooLarge("max_message", int64(l.MaxMessage), "the answer is too long")
	}
	return setText(v, string(b))
}
