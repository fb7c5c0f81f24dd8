package main

// This file owns what a bad network does: it is slow, it ends connections in the middle of anything, or it takes one of the two away
// without a word. Each call ends in its own answer or an error that says what is known, and nothing is called twice.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// networkEndpoints are the endpoints that are reached over a network.
var networkEndpoints = []string{"tcp://127.0.0.1:0?auth=none", "http://127.0.0.1:0?auth=none", "tls://127.0.0.1:0?auth=none", "https://127.0.0.1:0?auth=none"}

// speaks reports whether this kind of client can call there.
func (k *clientKind) speaks(e endpoint) bool { return k.http || !e.isHTTP() }

// TestSlowNetwork has everything arrive late, at odd times, and byte by byte.
func TestSlowNetwork(t *testing.T) {
	t.Parallel() // it waits, most of the time
	for name, w := range map[string]weather{
		"byte by byte": {piece: 1},
		"delay":        {delay: 5 * time.Millisecond},
		"jitter":       {jitter: 3 * time.Millisecond, piece: 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, networkEndpoints...)
			for _, e := range s.endpoints {
				_, far := startRelay(t, e, w)
				for _, k := range clientKinds {
					if !k.speaks(e) {
						continue
					}
					c := k.dial(t, far)
					var all sync.WaitGroup
					for i := range 4 {
						all.Go(func() {
							for n := range 3 {
								checkSay(t, c, fmt.Sprint(k.name, " over ", e.Scheme, " ", i, "/", n, strings.Repeat("~", 100*n)))
							}
						})
					}
					all.Wait()
					must(t, c.close())
				}
			}
		})
	}
}

// A Deed is a service whose calls count: what is done is done.
type Deed struct {
	done   sync.Map // *atomic.Int64 by text
	begins chan struct{}
	goes   chan struct{}
}

// Do does what text says.
func (d *Deed) Do(ctx context.Context, text string) (string, error) {
	times, _ := d.done.LoadOrStore(text, new(atomic.Int64))
	times.(*atomic.Int64).Add(1)
	return text, nil
}

func (d *Deed) times(text string) int64 {
	if times, ok := d.done.Load(text); ok {
		return times.(*atomic.Int64).Load()
	}
	return 0
}

// Large returns a long text once it is told to go on.
func (d *Deed) Large(ctx context.Context, size int) (string, error) {
	for _, next := range []chan struct{}{d.begins, d.goes} {
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
	return strings.Repeat("~", size), nil
}

// TestConnectionsThatAreCut cuts each connection somewhere, in order and by a reset. What has been answered was done once, and what
// has not was done once at most: no client of ours tries again by itself.
func TestConnectionsThatAreCut(t *testing.T) {
	for _, reset := range []bool{false, true} {
		t.Run(map[bool]string{false: "in order", true: "by a reset"}[reset], func(t *testing.T) {
			s := startServer(t, networkEndpoints...)
			deed := &Deed{}
			must(t, addReceiver(s.router, deed, nil))
			for _, e := range s.endpoints {
				_, far := startRelay(t, e, weather{cut: map[bool]int{false: 1500, true: 8000}[e.isTLS()], reset: reset, piece: 64})
				for _, p := range []proto{protoJSON, protoGob, protoHTTP} {
					if e.isHTTP() && p != protoHTTP {
						continue
					}
					answered, cut := 0, 0
					for n := 0; n < 200 && (n < 20 || answered == 0 || cut == 0); {
						c, err := dial(t.Context(), far.withProto(p), optionsFor(t, far))
						if err != nil { // in the handshake
							checkLost(t, fmt.Sprint("dial of ", far), err)
							n++
							continue
						}
						for range map[bool]int{false: 10, true: 40}[e.isTLS()] { // over the same connection, which HTTP may replace; more than is passed on in all
							n++
							text, got := fmt.Sprint(e.Scheme, " ", p, " ", n), ""
							err := c.call(t.Context(), "Deed.Do", text, &got)
							switch times := deed.times(text); {
							case err == nil && got == text && times == 1:
								answered++
							case err != nil && times <= 1:
								cut++
								checkLost(t, text, err)
							default:
								t.Errorf("%s is answered with %q, %v, and was done %d times", text, got, err, times)
							}
							if err != nil && p != protoHTTP {
								break
							}
						}
						c.close()
					}
					if answered == 0 || cut == 0 {
						t.Errorf("%s over %s: %d calls were answered and %d cut off; want some of either", p, e.Scheme, answered, cut)
					}
				}
			}
			waitFor(t, s.isAlone)
		})
	}
}

// isAlone reports, as an error, connections that there still are.
func (s *testServer) isAlone() error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if n := len(s.server.conns); n > 0 {
		return fmt.Errorf("there are %d connections", n)
	}
	return nil
}

// checkLost wants an error of a client that says that the connection has gone, and what to look at before the call is repeated.
func checkLost(t *testing.T, what string, err error) {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || f.Code != codeConnection && f.Code != codeNotReachable {
		t.Errorf("%s ends with %v; want an error of the connection", what, err)
		return
	}
	if f.Code == codeConnection && hintFor(err) == "" {
		t.Errorf("%s ends with %v, which does not say what to do", what, err)
	}
}

// TestProvidersThatAreCut cuts the connection of a provider somewhere, again and again. A call of which the daemon says that it may
// be repeated was not done.
func TestProvidersThatAreCut(t *testing.T) {
	for _, reset := range []bool{false, true} {
		t.Run(map[bool]string{false: "in order", true: "by a reset"}[reset], func(t *testing.T) {
			s := startServer(t, networkEndpoints[0])
			s.obey(policyFrom(t, "[[rule]]\nallow = [\"*\"]\ncall = [\"*\"]\nregister = [\"Deed\"]\n"))
			_, far := startRelay(t, s.endpoints[0], weather{cut: 4000, reset: reset, piece: 64})
			deed := &Deed{}
			methods := newRouter()
			must(t, addReceiver(methods, deed, nil))
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			defer c.close()
			answered, gone, again := 0, 0, 0
			for n := 0; n < 1000 && (n < 100 || answered == 0 || gone == 0); {
				waitFor(t, func() error { // we may know of a cut before the daemon does
					if n, _ := s.router.size(); n > 0 {
						return fmt.Errorf("there are %d providers", n)
					}
					return nil
				})
				h, err := dialHost(t.Context(), far, methods, optionsFor(t, far))
				must(t, err)
				if err := h.call(t.Context(), "Ipcd.Register", map[string]any{"methods": methods.methods()}, nil); err != nil {
					checkLost(t, "a registration", err)
					h.close()
					n++
					continue
				}
				for lost := false; !lost; n++ {
					text, got := fmt.Sprint("deed ", n), ""
					err := c.call(t.Context(), "Deed.Do", text, &got)
					var f *fault
					switch times := deed.times(text); {
					case err == nil && got == text && times == 1:
						answered++
						continue
					case !errors.As(err, &f) || f.Code != codeGone && f.Code != codeNoMethod || times > 1:
						t.Errorf("%s is answered with %q, %v, and was done %d times", text, got, err, times)
					case f.Code == codeGone && f.data().Retry:
						again++
						if times > 0 {
							t.Errorf("%s may be repeated, it says, and was done", text)
						}
					case f.Code == codeGone:
						gone++
					}
					lost = true
				}
				h.close()
			}
			if answered == 0 || gone == 0 {
				t.Errorf("%d calls were answered, and %d lost their provider; want some of either", answered, gone)
			}
			t.Logf("%d calls were answered, %d lost their provider, %d more were not begun", answered, gone, again)
		})
	}
}

// TestHalfOpen takes one of the two away without a word to the other.
func TestHalfOpen(t *testing.T) {
	t.Parallel() // it waits, most of the time
	for _, url := range networkEndpoints {
		t.Run(mustParse(t, url).Scheme, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, func(l *limits) {
				l.Write, l.Message = 300*time.Millisecond, 300*time.Millisecond
			}, mustParse(t, url))
			deed := &Deed{begins: make(chan struct{}), goes: make(chan struct{})}
			must(t, addReceiver(s.router, deed, nil))
			e := s.endpoints[0]
			r, far := startRelay(t, e, weather{})
			var clients []caller
			for _, p := range []proto{protoJSON, protoGob, protoHTTP} {
				if e.isHTTP() && p != protoHTTP {
					continue
				}
				c, err := dial(t.Context(), far.withProto(p), optionsFor(t, far))
				must(t, err)
				defer c.close()
				clients = append(clients, c)
			}
			var waiting []<-chan error
			for _, c := range clients {
				checkSay(t, c, "here")
				waiting = append(waiting, inBackground(t.Context(), c, "Deed.Large", 12<<20))
			}
			half := rawDial(t, far) // in the middle of a message
			begun := `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["he`
			if e.isHTTP() {
				begun = "POST /rpc HTTP/1.1\r\nHost: " + far.Host + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n" + begun
			}
			send(t, half, begun)
			waitFor(t, func() error {
				s.server.mu.Lock()
				defer s.server.mu.Unlock()
				if n := len(s.server.conns); n < len(clients)+1 {
					return fmt.Errorf("there are %d connections", n)
				}
				return nil
			})
			for range clients {
				select {
				case deed.begins <- struct{}{}:
				case <-time.After(testPatience):
					t.Fatal("a call has not begun")
				}
			}
			r.vanish()
			close(deed.goes)
			for _, c := range clients {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				err := c.call(ctx, "Echo.Say", "late", nil)
				cancel()
				checkCode(t, "a call with a deadline", err, codeDeadline, "")
			}
			waitFor(t, s.isAlone) // of the limits write and message
			for _, done := range waiting {
				select {
				case err := <-done:
					t.Errorf("a call without a deadline has ended: %v", err)
				default:
				}
			}
			r.cut(true)
			for _, done := range waiting {
				checkLost(t, "a call without a deadline", receive(t, done))
			}
		})
	}
}
