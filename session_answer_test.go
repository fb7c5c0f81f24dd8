package main

// This file owns the tests of answers that wait for callers who do not read them: what they may hold, and what becomes of those
// without room.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// An unreadTest is a server with many callers, one user, and a provider that answers them.
type unreadTest struct {
	*testServer
	provider *lineEnd
	callers  []*lineEnd
	ids      [][]string // of each caller, those of its calls at the provider
}

const (
	unreadMost  = 2 << 20 // user_memory
	unreadSize  = 512 << 10
	unreadCrowd = 12
)

// askMany has each caller send text, which makes so many calls.
func askMany(t *testing.T, text string, calls int) *unreadTest {
	t.Helper()
	f := &unreadTest{testServer: startServerWith(t, func(l *limits) { l.UserMemory, l.StreamWindow = unreadMost, unreadSize }, localEndpoint(t))}
	f.provider = newLineEnd(noDeadline(f.connect()))
	registration(t, f.provider, `{"methods":["Far.Say"],"extensions":["parts"]}`)
	number := regexp.MustCompile(`"id":(\d+)`)
	for range unreadCrowd {
		conn := noDeadline(f.connect())
		narrow(conn)
		f.callers = append(f.callers, newLineEnd(conn))
		send(t, conn, text)
		var ids []string
		for range calls {
			line, err := f.provider.lines.ReadString('\n')
			must(t, err)
			ids = append(ids, number.FindStringSubmatch(line)[1])
		}
		f.ids = append(f.ids, ids)
	}
	return f
}

// handled returns once the daemon has read what the provider has sent.
func (f *unreadTest) handled(t *testing.T) {
	t.Helper()
	send(t, f.provider, `{"jsonrpc":"2.0","id":"ping","method":"Ipcd.Ping"}`+"\n")
	for line := ""; !strings.Contains(line, "pong"); {
		var err error
		line, err = f.provider.lines.ReadString('\n')
		must(t, err)
	}
}

// end closes everything, of which nothing is held then.
func (f *unreadTest) end(t *testing.T) {
	t.Helper()
	for _, end := range append(f.callers, f.provider) {
		end.Close()
	}
	waitFor(t, func() error {
		if unread, held := f.budget.unread.Load(), f.budget.held.Load(); unread != 0 || held != 0 {
			return fmt.Errorf("%d bytes are held in the end, %d of them unread", held, unread)
		}
		return nil
	})
}

// Answers that a user does not read hold no more than the budget, as messages, in batches and over HTTP. The others are errors, and say
// that the call was carried out.
func TestAnswersThatAreNotReadAreOnTheBudget(t *testing.T) {
	long := strings.Repeat("a", unreadSize-2) // with quotes
	type answer struct {
		Result any
		Error  *fault
	}
	for _, k := range []struct {
		name, text string
		calls      int
		read       func(in *bufio.Reader) (answer, error)
	}{
		{"messages", `{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":["x"]}` + "\n", 1, func(in *bufio.Reader) (a answer, err error) {
			return a, json.NewDecoder(in).Decode(&a)
		}},
		{"batches", `[{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":["x"]},{"jsonrpc":"2.0","id":2,"method":"Far.Say","params":["x"]}]` + "\n", 2, func(in *bufio.Reader) (a answer, err error) {
			var both []answer
			if err = json.NewDecoder(in).Decode(&both); err == nil && (len(both) != 2 || both[1].Result != "b") {
				err = fmt.Errorf("there are %d answers", len(both))
			}
			return both[0], err
		}},
		{"HTTP", "POST /call/Far.Say HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n\"x\"", 1, func(in *bufio.Reader) (a answer, err error) {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return a, err
			}
			if resp.StatusCode != http.StatusOK {
				return a, json.NewDecoder(resp.Body).Decode(&a.Error)
			}
			return a, json.NewDecoder(resp.Body).Decode(&a.Result)
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			f := askMany(t, k.text, k.calls)
			for _, ids := range f.ids {
				send(t, f.provider, `{"jsonrpc":"2.0","id":`+ids[0]+`,"result":"`+long+`"}`+"\n")
			}
			f.handled(t)
			waitFor(t, func() error { // over HTTP some may be on their way from one place to the next
				if unread := f.budget.unread.Load(); unread > unreadMost || unread < unreadSize {
					return fmt.Errorf("%d bytes are unread; the budget is %d", unread, unreadMost)
				}
				return nil
			})
			for _, ids := range f.ids {
				for _, id := range ids[1:] {
					send(t, f.provider, `{"jsonrpc":"2.0","id":`+id+`,"result":"b"}`+"\n")
				}
			}
			served := 0
			for _, end := range f.callers {
				switch a, err := k.read(end.lines); {
				case err != nil:
					t.Error(err)
				case a.Error == nil && a.Result == long:
					served++
				case a.Error == nil || a.Error.Code != codeBusy || a.Error.data() != faultData{Limit: userMemoryLimit, Max: unreadMost} || !strings.HasPrefix(a.Error.Text, "the call was carried out, but "):
					t.Errorf("an answer has the error %v with %s", a.Error, a.Error.Data)
				}
			}
			if served == 0 || served > unreadMost/unreadSize {
				t.Errorf("%d of %d are answered", served, unreadCrowd)
			}
			f.end(t)
		})
	}
}

// Small answers that are gathered for a batch are on the budget as well, and once that is full no batch is begun.
func TestSmallAnswersOfBatchesAreOnTheBudget(t *testing.T) {
	const batches, answers, size = 8, 60, 3 << 10
	f := askMany(t, `{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":["x"]}`+"\n", 1)
	go io.Copy(io.Discard, f.provider.lines)
	each := `{"jsonrpc":"2.0","id":2,"method":"Echo.Say","params":["` + strings.Repeat("a", size) + `"]}`
	text := `[{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":["x"]}` + strings.Repeat(","+each, answers) + "]\n"
	refused := 0
	for _, end := range f.callers {
		for range batches {
			send(t, end.Conn, text)
		}
		send(t, end.Conn, `{"jsonrpc":"2.0","id":"ping","method":"Ipcd.Ping"}`+"\n")
		for {
			line, err := end.lines.ReadString('\n')
			must(t, err)
			if strings.Contains(line, "pong") {
				break
			}
			refused++
			if !strings.Contains(line, `"id":null`) || !strings.Contains(line, `"limit":"user_memory"`) || !strings.Contains(line, `"retry":true`) {
				t.Errorf("there comes %s", shorten(line, 200))
			}
		}
	}
	if unread := f.budget.unread.Load(); unread > unreadMost+2*answers*400 || unread < unreadMost/2 { // with the errors of the batch that goes beyond it
		t.Errorf("%d bytes are unread; the budget is %d", unread, unreadMost)
	}
	if all := unreadCrowd * batches; refused == 0 || (all-refused)*answers*size < unreadMost/2 {
		t.Errorf("%d of %d batches are refused", refused, all)
	}
	f.end(t)
}

// Large parts are on the budget as well, the first ones, too, with which their streams begin to wait.
func TestLargePartsThatAreNotReadAreOnTheBudget(t *testing.T) {
	f := askMany(t, `{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":["x"],"parts":"t"}`+"\n", 1)
	part := `"` + strings.Repeat("a", unreadSize-2) + `"`
	for range 2 {
		for _, ids := range f.ids {
			send(t, f.provider, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":`+ids[0]+`,"value":`+part+`}}`+"\n")
		}
	}
	f.handled(t)
	if unread := f.budget.unread.Load(); unread > unreadMost || unread < unreadSize {
		t.Errorf("%d bytes are unread; the budget is %d", unread, unreadMost)
	}
	if held := f.budget.held.Load(); held > 2*unreadMost+4*unreadSize { // those that wait for room, one of them beyond the budget, and the buffer of the provider
		t.Errorf("%d bytes are held; the budget is %d", held, unreadMost)
	}
	ended := make(chan bool, len(f.callers))
	for _, end := range f.callers { // at once: some wait until others have read
		go func() {
			for {
				line, err := end.lines.ReadString('\n')
				if err != nil || strings.Contains(line, `"id":1`) {
					ended <- strings.Contains(line, `"code":-32002`) && strings.Contains(line, `"limit":"user_memory"`)
					return
				}
			}
		}()
	}
	for _, ids := range f.ids { // where the call has ended nothing comes of it
		send(t, f.provider, `{"jsonrpc":"2.0","id":`+ids[0]+`,"result":"b"}`+"\n")
	}
	refused := 0
	for range f.callers {
		if receive(t, ended) {
			refused++
		}
	}
	if refused == 0 || refused == unreadCrowd {
		t.Errorf("the streams of %d of %d callers have ended early", refused, unreadCrowd)
	}
	f.end(t)
}

// A large event is copied for each connection of a user, as far as there is room; the other connections get it when some have read.
func TestLargeEventsThatAreNotReadAreOnTheBudget(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.UserMemory, l.StreamWindow = unreadMost, 2*unreadSize }, localEndpoint(t))
	var ends []*lineEnd
	for range unreadCrowd {
		conn := noDeadline(s.connect())
		narrow(conn)
		ends = append(ends, newLineEnd(conn))
		send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Subscribe","params":[{"topics":["t"]}],"parts":1}`+"\n")
	}
	wantSubscriptions(t, s, unreadCrowd)
	if _, f := s.router.events.publish("t", document(`"`+strings.Repeat("a", unreadSize-1<<10)+`"`)); f != nil {
		t.Fatal(f)
	}
	waitFor(t, func() error {
		if unread := s.budget.unread.Load(); unread > unreadMost || unread < unreadMost-unreadSize {
			return fmt.Errorf("%d bytes are unread; the budget is %d", unread, unreadMost)
		}
		return nil
	})
	got := make(chan error, len(ends))
	for _, end := range ends {
		go func() {
			for {
				line, err := end.lines.ReadString('\n')
				if err != nil || strings.Contains(line, `"topic":"t"`) || strings.Contains(line, `"missed"`) {
					if strings.Contains(line, `"missed"`) {
						err = fmt.Errorf("an event is missing")
					}
					got <- err
					return
				}
			}
		}()
	}
	for range ends {
		must(t, receive(t, got))
	}
	for _, end := range ends {
		end.Close()
	}
	waitFor(t, func() error {
		if unread := s.budget.unread.Load(); unread != 0 {
			return fmt.Errorf("%d bytes are unread in the end", unread)
		}
		return nil
	})
}
