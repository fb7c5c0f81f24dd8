package main

// This file owns answers over HTTP that are sent bit by bit: the forms that callers can ask for, the stream in which one
// goes, and the path of events, which has no other answers. A new form is a row of answerForms.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

const (
	eventType = "text/event-stream"
	lineType  = "application/jsonl"

	eventsPath      = "/events"
	lastEventHeader = "Last-Event-ID"
)

// An answerForm is a form in which an answer is sent bit by bit.
type answerForm struct {
	types    []string  // the media types by which callers ask for it
	messages framing   // of JSON-RPC
	call     wrappings // of a bare call
	events   wrappings // of eventsPath
}

// answerForms are the forms, the usual one first. See the HTML standard, section 9.2, whose EventSource keeps the name
// "error" for itself and gives to onmessage what has no name; and jsonlines.org.
var answerForms = []*answerForm{{
	types: []string{eventType}, messages: framingEvent,
	call: wrappings{
		part:    wrapping{"event: part\ndata: ", "\n\n"},
		result:  wrapping{"event: result\ndata: ", "\n\n"},
		failure: wrapping{"event: failure\ndata: ", "\n\n"},
	},
	events: wrappings{
		part:    wrapping{"data: ", "\n\n"},
		result:  wrapping{"event: result\ndata: ", "\n\n"},
		failure: wrapping{"event: failure\ndata: ", "\n\n"},
		id:      wrapping{"id: ", "\n"},
	},
}, {
	types: []string{lineType, "application/x-ndjson"}, messages: framingValue,
	call: wrappings{
		part:    wrapping{`{"part":`, "}\n"},
		result:  wrapping{`{"result":`, "}\n"},
		failure: wrapping{`{"error":`, "}\n"},
	},
	events: wrappings{
		part:    wrapping{"", "\n"},
		result:  wrapping{`{"result":`, "}\n"},
		failure: wrapping{`{"error":`, "}\n"},
	},
}}

// A wrapping is what is sent around a value that is one line of JSON.
type wrapping struct{ open, close string }

// wrappings are those of an answer. One around the id of a part has it sent once more in front of the part.
type wrappings struct{ part, result, failure, id wrapping }

// of returns the wrapping of what m is.
func (w *wrappings) of(m *message) wrapping {
	switch {
	case m.kind == progress:
		return w.part
	case m.fault != nil:
		return w.failure
	}
	return w.result
}

// appendID appends the id of a part, as it is between its quotes.
func (w *wrappings) appendID(dst []byte, value any) []byte {
	var part []byte
	switch v := value.(type) {
	case document:
		part = v
	case encodedJSON: // a long one
		part = v
	}
	if w.id.open == "" || len(part) == 0 || part[0] != '{' {
		return dst
	}
	for members := enter(part); ; {
		name, value, ok := members.member()
		switch {
		case !ok:
			return dst
		case string(name) == "id" && value[0] == '"':
			dst = append(append(dst, w.id.open...), value[1:len(value)-1]...)
			return append(dst, w.id.close...)
		}
	}
}

// An answerStream is an answer that is sent bit by bit. It is nil for one that is sent as a whole.
type answerStream struct {
	form   *answerForm
	named  string     // the media type by which the caller has asked for the form
	wrap   *wrappings // of a bare call: form.call or form.events
	rw     http.ResponseWriter
	conn   *httpConn
	status func() int  // the status to begin with; nil for 200
	begun  atomic.Bool // something is to be sent, so that any later failure has to be a part of it
	headed bool        // the header has been sent
}

// aliveEvery is how long a stream may be silent: proxies close what they take for dead after 30 s or more.
const aliveEvery = 15 * time.Second

// events answers with the events of the topics in the query: the parts of the answer of Ipcd.Subscribe. What EventSource
// has received before it says in Last-Event-ID, but only when it connects again.
func (c *httpConn) events(rw http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case r.Method != http.MethodGet:
		c.wrongMethod(rw, r, "GET")
		return
	case r.ContentLength != 0:
		c.refuse(rw, r, http.StatusBadRequest, &fault{Code: codeInvalid, Text: "the body must be empty"})
		return
	case err != nil:
		c.refuse(rw, r, http.StatusBadRequest, faultf(codeInvalid, "the query cannot be read: %w", err))
		return
	}
	argument, err := json.Marshal(map[string]any{
		"topics": append([]string{}, query["topic"]...),
		"after":  cmp.Or(r.Header.Get(lastEventHeader), query.Get("after")),
	})
	if err != nil {
		panic(err) // texts have a form
	}
	stream := c.newStream(rw, r)
	if stream == nil {
		stream = &answerStream{form: answerForms[0], named: answerForms[0].types[0], rw: rw, conn: c}
	}
	stream.wrap = &stream.form.events
	body := c.bodyOf(r)
	body.src = bytes.NewReader(argument)
	c.bare(rw, r, &bareCodec{method: subscribeMethod, stream: stream}, body)
}

// newStream returns a stream for the answer to r if its Accept names the type of one, and nil otherwise.
func (c *httpConn) newStream(rw http.ResponseWriter, r *http.Request) *answerStream {
	for _, t := range accepted(r) {
		for _, form := range answerForms {
			if slices.Contains(form.types, t) {
				return &answerStream{form: form, named: t, wrap: &form.call, rw: rw, conn: c}
			}
		}
	}
	return nil
}

// Write sends a bit, and before the first one the header. Where net/http means to keep a connection it first takes the
// rest of the body for itself, up to 256 KiB, and closes it: requests would be lost. (EnableFullDuplex prevents that as
// well, but net/http then reads the next request from wherever a broken body left off.)
func (a *answerStream) Write(b []byte) (int, error) {
	if !a.headed {
		a.headed = true
		a.begun.Store(true)
		a.rw.Header().Set("Content-Type", a.named)
		a.rw.Header().Set("Cache-Control", "no-store")
		if a.conn.waiting.Load() { // there is more of the body
			a.rw.Header().Set("Connection", "close")
		}
		if a.status != nil {
			a.rw.WriteHeader(a.status())
		}
	}
	n, err := a.rw.Write(b)
	if err == nil {
		err = http.NewResponseController(a.rw).Flush()
	}
	return n, err
}

// begin, hurry and end are for the patientWriter below net/http: see there.
func (a *answerStream) begin(urgent bool) { a.conn.out.begin(urgent) }
func (a *answerStream) hurry()            { a.conn.out.hurry() }
func (a *answerStream) end()              { a.conn.out.end() }

// await waits until s has answered everything. Meanwhile it sends from time to time what keeps the stream open.
func (a *answerStream) await(s *session) {
	if a == nil {
		<-s.answered
		return
	}
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.answered:
			return
		case <-tick.C:
			if s.out.append(s.codec, &message{kind: alive}, nil) == nil {
				s.out.flush()
			}
		}
	}
}
