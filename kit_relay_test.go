package main

// This file owns the relay: a bad network between clients and an endpoint of TCP. Both of its sides are real sockets.

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// relayHolds is how many bytes of what the endpoint sends wait in a relay.
const relayHolds = 64 << 10

// A weather is what a relay does to what passes it. The zero value is a good network.
type weather struct {
	delay  time.Duration // before each piece
	jitter time.Duration // up to so much more, by chance
	piece  int           // bytes that are sent at a time; 0 for as many as come
	cut    int           // ends a connection somewhere within so many bytes of both directions together; 0 for never
	reset  bool          // by a reset, not in order
}

// A relay passes on what comes to its port, and what is answered there.
type relay struct {
	t        testing.TB
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	now   weather
	pairs map[*relayed]struct{}
	lost  bool // nothing comes through
	over  bool
}

// A relayed is one connection through a relay.
type relayed struct {
	relay    *relay
	weather  weather
	in, out  net.Conn
	gone     chan struct{} // closed when neither side is open any more
	vanished chan struct{} // closed when nothing passes any more, and nobody is told

	mu    sync.Mutex // guards the following, and each end is closed once
	left  int        // bytes until it is cut
	ended bool
	still bool
}

// startRelay relays to the endpoint until the test ends, and returns the endpoint to dial in its place.
func startRelay(t testing.TB, to endpoint, now weather) (*relay, endpoint) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{t: t, listener: l, to: to.Host, now: now, pairs: map[*relayed]struct{}{}}
	r.wg.Go(r.serve)
	t.Cleanup(r.close)
	return r, to.withHost(l.Addr().String())
}

func (r *relay) serve() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to) // even when nothing comes through: the daemon hears of it, and no more
		if err != nil {
			in.Close()
			continue
		}
		out.(*net.TCPConn).SetReadBuffer(relayHolds) // or the kernel takes megabytes of an answer that nobody passes on
		r.mu.Lock()
		p := &relayed{relay: r, weather: r.now, in: in, out: out, gone: make(chan struct{}), vanished: make(chan struct{})}
		if p.weather.cut > 0 {
			p.left = 1 + rand.IntN(p.weather.cut)
		}
		if r.lost {
			close(p.vanished)
		}
		r.pairs[p] = struct{}{}
		over := r.over
		r.mu.Unlock()
		if over {
			p.end(true)
		}
		r.wg.Go(func() { p.pump(in, out) })
		r.wg.Go(func() { p.pump(out, in) })
	}
}

// pump passes on one direction until it ends, whose end it passes on, too.
func (p *relayed) pump(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	if p.weather.piece > 0 {
		buf = buf[:p.weather.piece]
	}
	for {
		n, err := from.Read(buf)
		if p.weather.delay+p.weather.jitter > 0 {
			wait := p.weather.delay
			if p.weather.jitter > 0 {
				wait += rand.N(p.weather.jitter)
			}
			select {
			case <-time.After(wait):
			case <-p.gone:
			}
		}
		select {
		case <-p.vanished:
			<-p.gone // nothing is read, nothing is passed on, and nobody hears that anything has ended
			return
		default:
		}
		pass, cut := p.take(n)
		if pass > 0 {
			if _, err := to.Write(buf[:pass]); err != nil {
				cut = true
			}
		}
		switch {
		case cut:
			p.end(p.weather.reset)
			return
		case err == io.EOF:
			if to.(*net.TCPConn).CloseWrite() != nil {
				p.end(false)
			}
			p.half()
			return
		case err != nil:
			p.end(true)
			return
		}
	}
}

// take counts bytes, and returns how many of them are passed on before the connection is cut.
func (p *relayed) take(n int) (pass int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.weather.cut == 0 {
		return n, false
	}
	pass = min(n, p.left)
	p.left -= pass
	return pass, p.left == 0
}

// half notes that one direction has ended in order; when both have, all has.
func (p *relayed) half() {
	p.mu.Lock()
	both := p.still
	p.still = true
	p.mu.Unlock()
	if both {
		p.end(false)
	}
}

// end ends the connection at both sides: by a reset, or in order.
func (p *relayed) end(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	for _, c := range []net.Conn{p.in, p.out} {
		if reset {
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
	close(p.gone)
	p.relay.mu.Lock()
	defer p.relay.mu.Unlock()
	delete(p.relay.pairs, p)
}

// all lists the connections that are open.
func (r *relay) all() (list []*relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		list = append(list, p)
	}
	return list
}

// cut ends all connections that are open.
func (r *relay) cut(reset bool) {
	for _, p := range r.all() {
		p.end(reset)
	}
}

// vanish has nothing pass any more, without a word to either side.
func (r *relay) vanish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = true
	for p := range r.pairs {
		close(p.vanished)
	}
}

func (r *relay) close() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.listener.Close()
	r.cut(true)
	r.wg.Wait()
}
