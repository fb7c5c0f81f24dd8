package main

// This file owns calls of ours that are given up: their callers read for themselves and for others, and may stop in the middle of any
// answer.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A floodgate passes on what one client sends to a daemon, and of what the daemon sends only so many bytes until it is opened.
type floodgate struct {
	passed chan struct{} // closed: those bytes, or the first answer if it is shorter, have been passed on
	open   context.CancelFunc
}

// startFloodgate serves one connection to e.
func startFloodgate(t *testing.T, e endpoint, most int) (*floodgate, endpoint) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	opened, open := context.WithCancel(context.Background())
	g := &floodgate{passed: make(chan struct{}), open: open}
	var wg sync.WaitGroup
	var in, out net.Conn
	wg.Go(func() {
		var err error
		if in, err = l.Accept(); err != nil {
			return
		}
		if out, err = net.Dial("tcp", e.Host); err != nil {
			t.Error(err)
			in.Close()
			return
		}
		wg.Go(func() { io.Copy(out, in); out.Close() })
		defer in.Close()
		buf := make([]byte, 64<<10)
		for left, held := most, true; ; {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			first := n
			if held {
				first = min(n, left)
			}
			in.Write(buf[:first])
			if left -= first; held && (left == 0 || first < n) {
				close(g.passed)
				<-opened.Done()
				held = false
				in.Write(buf[first:n])
			}
		}
	})
	t.Cleanup(func() {
		open() // a test that failed has not
		l.Close()
		wg.Wait()
	})
	return g, e.withHost(l.Addr().String())
}

// A caller that gives up anywhere in the middle of an answer hears so at once, and leaves the connection as another one needs it.
func TestCallersThatGiveUpInTheMiddleOfAnAnswer(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	straight := dialOurs(protoJSON)(t, s.endpoints[0])
	defer straight.close()
	for _, p := range []proto{protoJSON, protoGob} {
		for _, method := range []string{"Echo.Say", "Ipcd.Ping"} {
			arg := any("what is said here is not short")
			if method == "Ipcd.Ping" {
				arg = nil
			}
			var want any
			must(t, straight.call(t.Context(), method, arg, &want))
			gaveUp := 0
			for most := 1; ; most++ {
				g, far := startFloodgate(t, s.endpoints[0], most)
				c := dialOurs(p)(t, far)
				ctx, cancel := context.WithCancel(t.Context())
				first, other := inBackground(ctx, c, method, arg), make(chan error, 1)
				whole := false
				select {
				case <-g.passed:
				case err := <-first: // the answer is shorter than that
					must(t, err)
					whole = true
				}
				cancel()
				if !whole {
					err := receive(t, first)
					if err != nil && !errors.Is(err, &fault{Code: codeCancelled}) {
						t.Errorf("%s, %s: a call that is given up after %d bytes ends with %v", p, method, most, err)
					}
					if err != nil {
						gaveUp++
					}
					ctx, cancel := context.WithTimeout(t.Context(), testPatience)
					go func() { // with an end, and one without: both may have to read the rest
						defer cancel()
						var got any
						err := c.call(ctx, method, arg, &got)
						if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
							err = fmt.Errorf("the answer is %v; want %v", got, want)
						}
						other <- err
					}()
					last := inBackground(context.Background(), c, method, arg)
					g.open()
					if err := errors.Join(receive(t, other), receive(t, last)); err != nil {
						t.Errorf("%s, %s: behind a call that was given up after %d bytes: %v", p, method, most, err)
					}
				}
				c.close()
				if whole {
					break
				}
			}
			if gaveUp == 0 {
				t.Errorf("%s, %s: no call was given up", p, method)
			}
		}
	}
}

// Of many callers of one connection, some of whom give up at any moment, each of the others gets its own answer, whoever reads.
func TestCallersThatGiveUpAmongOthers(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	for _, p := range []proto{protoJSON, protoGob} {
		c := dialOurs(p)(t, s.endpoints[0])
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for n := range 50 {
					ctx, cancel := context.Background(), func() {}
					switch i % 4 {
					case 0: // it may end before, while or after it is answered
						ctx, cancel = context.WithTimeout(ctx, time.Duration(n*n)*time.Microsecond)
					case 1:
						ctx, cancel = context.WithTimeout(ctx, testPatience)
					}
					text, got := fmt.Sprint(p, " ", i, " ", n), ""
					err := c.call(ctx, "Echo.Say", text, &got)
					cancel()
					if i%4 == 0 && errors.Is(err, &fault{Code: codeDeadline}) {
						continue
					}
					if err != nil || got != text {
						t.Errorf("%s is answered with %q, %v", text, got, err)
					}
				}
			})
		}
		wg.Wait()
		checkSay(t, c, "in the end")
		c.close()
	}
}
