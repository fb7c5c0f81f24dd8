package main

// This file owns the tests of what a connection keeps while it waits for the next message.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"strings"
	"testing"
)

// An idleShape leaves a connection idle behind a large message, which it has made sure was answered. It returns what keeps
// the connection open.
type idleShape struct {
	name string
	open func(t *testing.T, s *testServer) io.Closer
}

const idleSize = 1 << 20

func idleShapes() []idleShape {
	large := strings.Repeat("x", idleSize)
	say := func(id, method, argument string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"%s","params":[%s]}`, id, method, argument)
	}
	members := `1`
	for range 8 { // objects with many members, at each depth
		var b strings.Builder
		for i := range 4000 {
			fmt.Fprintf(&b, `"name%d":0,`, i)
		}
		members = `{` + b.String() + `"in":` + members + `}`
	}
	shapes := []idleShape{
		{"echo client", func(t *testing.T, s *testServer) io.Closer {
			return idleCaller(t, t.Context(), protoEcho, s.endpoints[1], "Echo.Say", large, "")
		}},
		{"channel", func(t *testing.T, s *testServer) io.Closer {
			ch, theirs := pipedChannel(*s.limits())
			done := s.adopt(ch, peer{})
			go io.WriteString(theirs, say("1", "Echo.Say", `"`+large+`"`)+"\n")
			readIdle(t, theirs, func(r *bufio.Reader) error { _, err := r.ReadBytes('\n'); return err })
			return closer(func() error { err := theirs.Close(); <-done; return errors.Join(err, ch.Close()) })
		}},
	}
	for name, text := range map[string]string{
		"text":           say("1", "Echo.Say", `"`+large+`"`),
		"result":         say("1", "Trial.Big", fmt.Sprint(idleSize)),
		"error":          say("1", "Trial.FailBig", fmt.Sprint(idleSize)),
		"id":             say(`"`+large+`"`, "Echo.Say", `"x"`),
		"method":         say("1", large, `"x"`),
		"wrong type":     say("1", "Trial.Sum", `"`+large+`"`),
		"no request":     `{"jsonrpc":"2.0","id":1,"method":1,"params":["` + large + `"]}`,
		"members":        say("1", "Trial.Raw", members),
		"over the limit": say("1", "Echo.Say", `"`+large+large+`"`),
		"batch":          "[" + strings.Repeat(say("1", "Echo.Say", `"`+large[:idleSize/8]+`"`)+",", 7) + say("2", "Echo.Say", `"x"`) + "]",
		"wide batch":     "[" + strings.Repeat(say("1", "Echo.Say", `""`)+",", 99) + say("2", "Echo.Say", `"`+large+`"`) + "]",
	} {
		shapes = append(shapes, idleShape{"json " + name, func(t *testing.T, s *testServer) io.Closer {
			return exchangeIdle(t, s, text, func(r *bufio.Reader) error { _, err := r.ReadBytes('\n'); return err })
		}})
		if name == "text" || name == "batch" || name == "over the limit" {
			shapes = append(shapes, idleShape{"headers " + name, func(t *testing.T, s *testServer) io.Closer {
				text := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text)
				return exchangeIdle(t, s, text, func(r *bufio.Reader) error { _, err := readAnswer(r, true); return err })
			}})
		}
		if name != "over the limit" { // after which HTTP closes
			shapes = append(shapes, idleShape{"http " + name, func(t *testing.T, s *testServer) io.Closer {
				return exchangeIdle(t, s, postText("/rpc", "Accept: application/json\r\n", text), readHTTP)
			}})
		}
	}
	for _, accept := range []string{"application/json", eventType} {
		shapes = append(shapes, idleShape{"http call " + accept, func(t *testing.T, s *testServer) io.Closer {
			return exchangeIdle(t, s, postText("/call/Echo.Say", "Accept: "+accept+"\r\n", `"`+large+`"`), readHTTP)
		}})
	}
	rooms := make([]GobRoom, idleSize/8)
	for name, c := range map[string]struct {
		method string
		arg    any
	}{
		"text":       {"Echo.Say", large},
		"bytes":      {"Trial.Bytes", []byte(large)},
		"struct":     {"Trial.Parcel", TrialParcel{Name: large}},
		"interface":  {"Trial.Holder", GobHolder{In: GobLabel(large), More: []any{GobHouse{rooms}}}},
		"result":     {"Trial.Big", idleSize},
		"error":      {"Trial.FailBig", idleSize},
		"method":     {large, "x"},
		"no method":  {"Trial.No", large},
		"wrong type": {"Echo.Say", rooms},
		"too long":   {"Echo.Say", large + large},
	} {
		shapes = append(shapes, idleShape{"gob " + name, func(t *testing.T, s *testServer) io.Closer {
			var b bytes.Buffer
			enc := gob.NewEncoder(&b)
			if err := errors.Join(enc.Encode(rpc.Request{ServiceMethod: c.method}), enc.Encode(c.arg)); err != nil {
				t.Fatal(err)
			}
			return exchangeIdle(t, s, b.String(), func(r *bufio.Reader) error {
				dec := gob.NewDecoder(r)
				var drop any
				return errors.Join(dec.Decode(new(rpc.Response)), dec.Decode(drop))
			})
		}})
	}
	for _, p := range []proto{protoGob, protoJSON, protoHTTP} {
		for _, call := range []struct {
			method string
			arg    any
			want   string
		}{
			{"Echo.Say", large, ""}, {"Trial.Parcel", TrialParcel{Name: large}, ""}, {"Trial.Big", idleSize, ""},
			{"Trial.FailBig", idleSize, "xxx"}, {"Trial.Unencodable", nil, "cannot be encoded"},
		} {
			shapes = append(shapes, idleShape{fmt.Sprintf("%s client of %s", p, call.method), func(t *testing.T, s *testServer) io.Closer {
				return idleCaller(t, t.Context(), p, s.endpoints[0], call.method, call.arg, call.want)
			}}, idleShape{fmt.Sprintf("%s client that does not give up on %s", p, call.method), func(t *testing.T, s *testServer) io.Closer {
				return idleCaller(t, context.Background(), p, s.endpoints[0], call.method, call.arg, call.want) // which reads for itself
			}})
		}
	}
	return shapes
}

type closer func() error

func (c closer) Close() error { return c() }

func readHTTP(r *bufio.Reader) error {
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// exchangeIdle sends a message and reads its answer.
func exchangeIdle(t *testing.T, s *testServer, text string, read func(r *bufio.Reader) error) io.Closer {
	t.Helper()
	conn := s.connect()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(conn, text)
	}()
	readIdle(t, conn, read)
	<-sent
	return conn
}

func readIdle(t *testing.T, conn net.Conn, read func(r *bufio.Reader) error) {
	t.Helper()
	if err := read(bufio.NewReader(conn)); err != nil {
		t.Errorf("read the answer: %v", err)
	}
}

// idleCaller calls with our own client, and drops the result.
func idleCaller(t *testing.T, ctx context.Context, p proto, e endpoint, method string, arg any, want string) io.Closer {
	t.Helper()
	c := dialOurs(p)(t, e)
	err := c.call(ctx, method, arg, nil)
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s = %v; want %q", method, err, want)
	}
	return closer(c.close)
}

// What a connection remembers between messages is small, at both ends, whatever the messages were.
func TestIdleConnectionsKeepNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it has many shapes, and collects garbage after each")
	}
	const conns, most = 4, 512 << 10 // together; one message that is kept has twice as much
	s := startServerWith(t, func(l *limits) { l.MaxMessage = idleSize + idleSize/2 },
		localEndpoint(t), mustParse(t, "tcp://127.0.0.1:0?auth=none&proto=echo"))
	inUse := func() uint64 { // but for the log, which grows
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		s.log.b = bytes.Buffer{}
		return heapInUse()
	}
	for _, shape := range idleShapes() {
		t.Run(shape.name, func(t *testing.T) {
			before := inUse()
			var open []io.Closer
			for range conns {
				open = append(open, shape.open(t, s))
			}
			waitFor(t, func() error { // the answer is there before the connection is idle
				if now := inUse(); now > before+most {
					return fmt.Errorf("%d idle connections keep %d KiB; want %d at most", conns, (now-before)>>10, most>>10)
				}
				return nil
			})
			for _, c := range open {
				c.Close()
			}
			s.idle()
		})
	}
}
