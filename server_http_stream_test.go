package main

// This file owns answers over HTTP that come bit by bit, and what becomes of them when their caller does not read, or goes.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// flooders ask for the parts of Far.Flood, with a member or header of their own.
var flooders = []struct {
	name string
	ask  func(timeout time.Duration) string
}{
	{"json-rpc", func(d time.Duration) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Far.Flood","parts":1,"timeout":%d}`, d.Milliseconds())
	}},
	{"http call, events", func(d time.Duration) string {
		return postText("/call/Far.Flood", "Accept: text/event-stream\r\nIpcd-Timeout: "+d.String()+"\r\n", "")
	}},
	{"http call, lines", func(d time.Duration) string {
		return postText("/call/Far.Flood", "Accept: application/jsonl\r\nIpcd-Timeout: "+d.String()+"\r\n", "")
	}},
	{"http rpc, events", func(d time.Duration) string {
		return postText("/rpc", "Accept: text/event-stream\r\n", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Far.Flood","parts":1,"timeout":%d}`, d.Milliseconds()))
	}},
}

// flooded starts a server of Far, and a caller of Far.Flood that does not read.
func flooded(t *testing.T, l func(l *limits), ask string) (*testServer, *Far, net.Conn) {
	t.Helper()
	s := startServerWith(t, l, localEndpoint(t))
	far := &Far{entered: make(chan string, 1), left: make(chan error, 1), release: make(chan struct{})}
	must(t, addReceiver(s.router, far, nil))
	conn := noDeadline(s.connect())
	t.Cleanup(func() { conn.Close() })
	narrow(conn)
	send(t, conn, ask)
	return s, far, conn
}

// A caller that does not read the parts of an answer stops who produces them. It has stream_idle for that, and write
// as soon as anything else waits for it.
func TestWhoReadsNoPartsIsPatientlyWaitedFor(t *testing.T) {
	wantLog := func(t *testing.T, s *testServer, text string) {
		t.Helper()
		waitFor(t, func() error {
			if !strings.Contains(s.log.String(), text) {
				return errors.New("the log does not say: " + text)
			}
			return nil
		})
	}
	for _, f := range flooders {
		t.Run(f.name+", waited for", func(t *testing.T) {
			s, far, conn := flooded(t, func(l *limits) { l.Write, l.StreamIdle = 50*time.Millisecond, time.Hour }, f.ask(time.Hour))
			slow := noDeadline(s.connect())
			defer slow.Close()
			narrow(slow)
			waitFor(t, func() error {
				if far.flooded.Load() == 0 {
					return errors.New("no part has been sent")
				}
				return nil
			})
			for range 8 {
				send(t, slow, `{"jsonrpc":"2.0","id":1,"method":"Trial.Big","params":[4000000]}`)
			}
			wantLog(t, s, "limit write") // it has had no more time than the other
			sent := far.flooded.Load()
			if sent > 2<<20 { // an output holds 256 KiB twice, and the socket some more
				t.Errorf("%d bytes of parts have been sent to a caller that does not read; want the method to wait", sent)
			}
			if _, err := io.CopyN(io.Discard, conn, sent+8<<20); err != nil {
				t.Errorf("the stream has broken: %v", err)
			}
		})
		t.Run(f.name+", cut", func(t *testing.T) {
			s, far, _ := flooded(t, func(l *limits) { l.Write, l.StreamIdle = time.Hour, 50*time.Millisecond }, f.ask(time.Hour))
			receive(t, far.left)
			wantLog(t, s, "limit stream_idle")
			s.idle()
		})
		t.Run(f.name+", an answer waits", func(t *testing.T) {
			s, far, _ := flooded(t, func(l *limits) { l.Write, l.StreamIdle = 50*time.Millisecond, time.Hour }, f.ask(100*time.Millisecond))
			receive(t, far.left)
			wantLog(t, s, "limit write")
			s.idle()
		})
	}
}
