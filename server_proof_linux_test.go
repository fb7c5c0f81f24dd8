package main

// This file owns a case that takes two addresses of loopback, which Linux has without being asked.

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// Whoever opens many connections and shows nothing, from one address, keeps nobody else out.
func TestNobodyKeepsOthersFromShowingAToken(t *testing.T) {
	owners := tcpOwner
	tcpOwner = nil // or all of them would be from one user
	t.Cleanup(func() { tcpOwner = owners })
	s := startProven(t, func(l *limits) { l.MaxUnauthenticated = 2 }, "tcp://127.0.0.1:0")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	var greedy []net.Conn
	for n := range 2 {
		conn, err := from.DialContext(t.Context(), "tcp", s.endpoints[0].Host)
		must(t, err)
		defer conn.Close()
		greedy = append(greedy, conn)
		waitFor(t, func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.unproven) != n+1 {
				return fmt.Errorf("%d connections have shown nothing; want %d", len(s.unproven), n+1)
			}
			return nil
		})
	}
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	must(t, c.call(t.Context(), authenticateMethod, text, nil))
	if _, err := io.Copy(io.Discard, greedy[0]); err != nil && !isBrokenPipe(err) {
		t.Errorf("the oldest: %v; want its end", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unproven) != 1 || s.unproven[0].RemoteAddr().String() != greedy[1].LocalAddr().String() {
		t.Errorf("%d connections have shown nothing; want the younger one of them", len(s.unproven))
	}
}
