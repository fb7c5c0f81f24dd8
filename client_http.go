package main

// This file owns the caller over HTTP.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A webClient is a caller that posts JSON-RPC. An answer in parts comes as JSON lines.
type webClient struct {
	endpoint endpoint
	http     http.Client
	options  dialOptions
	limits   limits
	log      *logger
}

// ownID is the id of each request: it has a body of its own.
const ownID = 1

func newWebClient(e endpoint, o dialOptions) *webClient {
	dialer := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := transports[e.Scheme].dial(ctx, e, o)
		if err != nil {
			return nil, err
		}
		if _, err := o.tokenOver(conn, e); err != nil { // before the header goes, which has it
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	return &webClient{endpoint: e, options: o, limits: o.limits, log: o.log, http: http.Client{Transport: &http.Transport{DialContext: dialer, DisableCompression: true}}}
}

// call implements caller.
func (c *webClient) call(ctx context.Context, name string, arg, result any) error {
	if c.endpoint.Proto == protoEcho {
		return c.echo(ctx, name, arg, result)
	}
	return c.ask(ctx, &message{kind: request, id: callID{seq: ownID}, method: name}, jsonType, arg, result, nil)
}

// askParts implements caller.
func (c *webClient) askParts(ctx context.Context, name string, arg, result any, part func(document) error) error {
	if !hasParts(c.endpoint) {
		return noParts(c.endpoint)
	}
	m := &message{kind: request, id: callID{seq: ownID}, method: name, parts: strconv.Itoa(ownID)}
	return c.ask(ctx, m, lineType+", "+jsonType, arg, result, part)
}

// ask posts a request. accept has the types that the answer may be of.
func (c *webClient) ask(ctx context.Context, m *message, accept string, arg, result any, part func(document) error) error {
	writer := newJSONCodec(newInput(bytes.NewReader(nil), c.limits), c.limits, framingValue)
	body, err := writer.write(nil, m, arg)
	if err != nil {
		return err
	}
	host := c.endpoint.Host
	if host == "" {
		host = "localhost"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+rpcPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("Accept", accept)
	token, err := c.options.tokenFor(c.endpoint)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer answer.Body.Close() // before its end, that withdraws the call
	return c.decode(answer, result, part)
}

// echo gets the text as a path and returns the answer verbatim. An endpoint with proto=echo answers with the URL.
func (c *webClient) echo(ctx context.Context, name string, arg, result any) error {
	text, err := echoText(name, arg)
	if err != nil {
		return err
	}
	u := url.URL{Scheme: "http", Host: c.endpoint.Host, Path: "/" + strings.TrimPrefix(text, "/")}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return c.wrong(answer)
	}
	if err := readEcho(answer.Body, c.limits, result); err != nil {
		return c.explain(err)
	}
	return nil
}

func (c *webClient) wrong(answer *http.Response) *fault {
	return faultf(codeWrongProtocol, "what answers at %s is not ipcd: HTTP status %s", c.endpoint, answer.Status).withHint("see what serves there; -e names another endpoint")
}

// decode decodes a JSON-RPC response, whatever its status, and the parts before it.
func (c *webClient) decode(answer *http.Response, result any, part func(document) error) error {
	if t := mediaType(answer.Header.Get("Content-Type")); !isJSONType(t) && t != lineType {
		return c.wrong(answer)
	}
	body := &answerBody{src: answer.Body, most: c.limits.MaxMessage}
	reader := newJSONCodec(newInput(body, c.limits), c.limits, framingValue)
	said := false // something that is no answer
	for {
		var m message
		err := reader.read(&m)
		var bad *badMessage
		var f *fault
		switch {
		case err == nil && m.kind == response && (m.id.seq == ownID || m.fault != nil && m.id.json == nullID):
			if m.fault != nil {
				return m.fault
			}
			return reader.body(result)
		case errors.As(err, &bad) && bad.m.kind == response && (bad.m.id.seq == ownID || bad.m.id.json == nullID):
			return c.explain(bad.fault)
		case err == nil && m.method == progressMethod && part != nil:
			var argument document
			if err := reader.body(&argument); err != nil {
				return c.explain(err)
			}
			if token, _, value, ok := progressOf(argument); ok && token == ownID {
				if err := part(value); err != nil {
					return err
				}
			}
			body.read = 0
		case err == nil || errors.As(err, &bad):
			said = true
			c.log.debug("a message that answers no call was ignored", "error", err)
		case errors.As(err, &f) && f.Code == codeParse || err == io.EOF && said:
			return c.wrong(answer)
		default:
			return c.explain(err)
		}
	}
}

// An answerBody is the body of an answer, with whatever else a server puts there. It need not end.
type answerBody struct {
	src  io.Reader
	most int // bytes that it may have
	read int // since the last part
}

// Read implements io.Reader. White space behind an answer that is as long as it may be is not read for.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.read > b.most {
		return 0, tooLarge("max_message", int64(b.most), "the body of the answer is too long")
	}
	n, err := b.src.Read(p)
	b.read += n
	return n, err
}

// explain unwraps what http.Client wraps, so that a failed dial reads the same over HTTP as over any other transport.
func (c *webClient) explain(err error) error {
	var f *fault
	var posted *url.Error
	switch {
	case errors.As(err, &f) && errors.Is(f, errOwnLimit):
		return ownLimit(f)
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return asFault(err)
	case errors.Is(err, io.EOF):
		return closedEarly(c.endpoint)
	case errors.As(err, &posted): // which names the URL, and that is no endpoint
		err = posted.Err
	}
	return broke(c.endpoint, err)
}

func (c *webClient) close() error {
	c.http.CloseIdleConnections()
	return nil
}
