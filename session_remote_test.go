package main

// This file owns the tests of what waits for a provider that does not read.

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// The arguments of calls that providers of one user do not read hold no more than the budget of that user, also when their callers have
// given up, whose account they are on until then.
func TestCallsThatAProviderDoesNotReadAreOnTheBudget(t *testing.T) {
	const most, size, crowd = 2 << 20, 512 << 10, 12
	s := startServerWith(t, func(l *limits) { l.UserMemory = most }, localEndpoint(t))
	var providers []net.Conn
	for i := range crowd {
		conn := noDeadline(s.connect())
		narrow(conn)
		registration(t, conn, fmt.Sprintf(`{"methods":["P%d.Say"]}`, i))
		providers = append(providers, conn)
	}
	s.mu.Lock()
	var a *account
	for _, u := range s.users {
		a = &u.account
	}
	s.mu.Unlock()
	caller := newLineEnd(noDeadline(s.connect()))
	text, taken, refused := strings.Repeat("a", size), 0, 0
	for range 3 {
		for i := range crowd {
			send(t, caller, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"P%d.Say","params":["%s"]}`+"\n", i, text))
			send(t, caller, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`+"\n")
			switch line, err := caller.lines.ReadString('\n'); {
			case err != nil:
				t.Fatal(err)
			case strings.Contains(line, `"code":-32800`):
				taken++
			case strings.Contains(line, `"code":-32002`) && strings.Contains(line, `"limit":"user_memory"`) && strings.Contains(line, `"retry":true`):
				refused++
			default:
				t.Errorf("there comes %s", shorten(line, 200))
			}
			if unsent := a.small[unsentCalls].Load(); unsent > most+size+2 {
				t.Errorf("%d bytes of calls are not read; the budget is %d", unsent, most)
			}
		}
	}
	if taken < most/size || refused == 0 {
		t.Errorf("%d calls are taken and %d refused", taken, refused)
	}
	send(t, caller, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"P0.Say","params":["%s"]}`+"\n", strings.Repeat("a", accountStep/2))) // a small one is
	send(t, caller, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":2}}`+"\n")
	if line, err := caller.lines.ReadString('\n'); err != nil || !strings.Contains(line, `"code":-32800`) {
		t.Errorf("there comes %s, %v", shorten(line, 200), err)
	}
	for _, conn := range append(providers, caller.Conn) {
		conn.Close()
	}
	waitFor(t, func() error {
		if unsent, unread, held := a.small[unsentCalls].Load(), s.budget.unread.Load(), s.budget.held.Load(); unsent != 0 || unread != 0 || held != 0 {
			return fmt.Errorf("%d bytes are held in the end, %d unread, %d of calls", held, unread, unsent)
		}
		return nil
	})
}
