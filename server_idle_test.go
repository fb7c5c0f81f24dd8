package main

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// unknown starts a server that does not learn who its callers over TCP are.
func unknown(t *testing.T, change func(*limits)) *testServer {
	t.Helper()
	was := tcpOwner
	t.Cleanup(func() { tcpOwner = was })
	tcpOwner = nil
	return startServerWith(t, change, mustParse(t, "tcp://127.0.0.1:0?auth=none"))
}

// asks makes a call over conn, whose answer has to have some words.
func asks(t *testing.T, conn net.Conn, request, want string) {
	t.Helper()
	send(t, conn, request)
	answer := make([]byte, 1000)
	n, err := conn.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), want) {
		t.Errorf("%s is answered with %s, %v; want %s", request, answer[:n], err, want)
	}
}

const blockRequest = `{"jsonrpc":"2.0","id":1,"method":"Trial.Block","params":["a"]}`

// One who is not known gets a connection though there are as many as there may be: of one that does nothing.
func TestUnknownPeersMakeRoom(t *testing.T) {
	s := unknown(t, func(l *limits) { l.MaxConnections = 3 })
	busy, first, second := s.connect(), s.connect(), s.connect()
	send(t, busy, blockRequest)
	s.begun(1)
	asks(t, first, sayRequest, `"result":"hello"`)
	asks(t, second, sayRequest, `"result":"hello"`)
	asks(t, s.connect(), sayRequest, `"result":"hello"`)
	if b, err := io.ReadAll(first); len(b) > 0 || isTimeout(err) {
		t.Errorf("the one that has been silent for longest gets %q, %v; want its end", b, err)
	}
	asks(t, second, sayRequest, `"result":"hello"`)
	s.freeAll()
	asks(t, busy, sayRequest, `"result"`)
}

// Where all work, nobody has to go.
func TestUnknownPeersThatWorkAreLeftAlone(t *testing.T) {
	s := unknown(t, func(l *limits) { l.MaxConnections = 1 })
	busy := s.connect()
	send(t, busy, blockRequest)
	s.begun(1)
	asks(t, s.connect(), sayRequest, `"limit":"max_connections"`)
	s.freeAll()
	asks(t, busy, sayRequest, `"result"`)
}

// Whoever is not known, and says nothing for long, has gone, unless something is done for them.
func TestUnknownPeersThatSayNothing(t *testing.T) {
	s := unknown(t, func(l *limits) { l.UnknownIdle = 20 * time.Millisecond })
	busy, silent := s.connect(), s.connect()
	send(t, busy, blockRequest)
	s.begun(1)
	asks(t, silent, sayRequest, `"result":"hello"`)
	web := s.connect()
	asks(t, web, postText("/call/Echo.Say", "", `"hello"`), "hello")
	for _, conn := range []net.Conn{silent, web} {
		if b, err := io.ReadAll(conn); len(b) > 0 || isTimeout(err) {
			t.Errorf("one who says nothing gets %q, %v; want the end", b, err)
		}
	}
	s.freeAll()
	asks(t, busy, sayRequest, `"result"`)
}
