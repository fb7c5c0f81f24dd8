package main

// This file owns what must be so over every transport and protocol: one table of behaviours,
// run by each kind of client at each kind of endpoint.

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// testPatience bounds each wait of a test for what must come; nothing is measured by it.
const testPatience = 20 * time.Second

// A Trial is the service that the tests call.
type Trial struct {
	mu      sync.Mutex
	barrier map[int]*barrier // by the number that it waits for

	entered chan string   // the key of each call of Block that has begun
	left    chan error    // the context's error for each that has ended
	release chan struct{} // closed when Block shall return
}

type barrier struct {
	inside int
	open   chan struct{}
}

// A TrialParcel is an argument with parts.
type TrialParcel struct {
	Name string            `json:"name"`
	Age  int               `json:"age"`
	Raw  []byte            `json:"raw"`
	Tags []string          `json:"tags"`
	Map  map[string]string `json:"map"`
	Door *TrialParcel      `json:"door,omitempty"`
}

// A TrialPlace is a caller's place among n who meet at a barrier.
type TrialPlace struct {
	N     int `json:"n"`
	Place int `json:"place"`
}

func newTrial() *Trial {
	return &Trial{
		barrier: map[int]*barrier{}, release: make(chan struct{}),
		entered: make(chan string, 4096), left: make(chan error, 4096),
	}
}

// Slow takes as many milliseconds as it is told to.
func (*Trial) Slow(ctx context.Context, ms int) (int, error) {
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return ms, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Panic does.
func (*Trial) Panic(ctx context.Context, text string) (string, error) { panic(text) }

// Fail fails in the words that it is given.
func (*Trial) Fail(ctx context.Context, text string) (string, error) { return "", errors.New(text) }

// Big returns n bytes.
func (*Trial) Big(ctx context.Context, n int) (string, error) { return strings.Repeat("x", n), nil }

// Unencodable returns what no protocol can carry.
func (*Trial) Unencodable(ctx context.Context) (chan int, error) { return make(chan int), nil }

// Parcel returns its argument.
func (*Trial) Parcel(ctx context.Context, p TrialParcel) (TrialParcel, error) { return p, nil }

// Bytes returns its argument.
func (*Trial) Bytes(ctx context.Context, b []byte) ([]byte, error) { return b, nil }

// Old is a method in the form of net/rpc.
func (*Trial) Old(a TrialPlace, sum *int) error { *sum = a.N + a.Place; return nil }

// Block returns its argument when it is released or its caller is gone.
func (s *Trial) Block(ctx context.Context, key string) (string, error) {
	s.entered <- key
	select {
	case <-s.release:
	case <-ctx.Done():
	}
	s.left <- ctx.Err()
	return key, ctx.Err()
}

// Deaf returns its argument when it is released, whatever becomes of its caller.
func (s *Trial) Deaf(ctx context.Context, key string) (string, error) {
	s.entered <- key
	<-s.release
	s.left <- ctx.Err()
	return key, nil
}

// Meet returns each caller's place when as many are inside as are to come.
func (s *Trial) Meet(ctx context.Context, p TrialPlace) (int, error) {
	s.mu.Lock()
	b := s.barrier[p.N]
	if b == nil {
		b = &barrier{open: make(chan struct{})}
		s.barrier[p.N] = b
	}
	if b.inside++; b.inside == p.N {
		close(b.open)
		delete(s.barrier, p.N)
	}
	s.mu.Unlock()
	select {
	case <-b.open:
		return p.Place, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// A testServer is the daemon as runDaemon puts it together, in this process.
type testServer struct {
	*server
	t         testing.TB
	trial     *Trial
	log       *logBuffer
	endpoints []endpoint // as they are to be dialled
	stopped   sync.Once
}

// startServer serves the endpoints until the test ends.
func startServer(t testing.TB, endpoints ...string) *testServer {
	t.Helper()
	var list []endpoint
	for _, text := range endpoints {
		list = append(list, mustParse(t, text))
	}
	return startServerWith(t, nil, list...)
}

// startServerWith is startServer with other limits.
func startServerWith(t testing.TB, change func(l *limits), endpoints ...endpoint) *testServer {
	t.Helper()
	l := defaultLimits()
	if change != nil {
		change(&l)
	}
	router, err := newBuiltins()
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{t: t, trial: newTrial(), log: &logBuffer{}}
	log := newLogger(s.log, formatText, levelDebug)
	s.server = newServer(&hub{router: router, limits: l, log: log})
	t.Cleanup(func() {
		s.halt()
		log.close()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", s.log)
		}
	})
	for _, err := range []error{
		addReceiver(router, &Ipcd{server: s.server, began: time.Now()}, ipcdDocs),
		addReceiver(router, s.trial, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range endpoints {
		l, err := s.listen(e)
		if err != nil {
			t.Fatalf("listen(%s): %v", e, err)
		}
		s.endpoints = append(s.endpoints, l.endpoint)
		go s.serve(l)
	}
	return s
}

// halt ends the server by force, unless it has been stopped.
func (s *testServer) halt() {
	s.stopped.Do(func() {
		s.freeAll()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.stop(ctx)
		s.wg.Wait()
	})
}

// freeAll lets all calls of Block return.
func (s *testServer) freeAll() {
	s.trial.mu.Lock()
	defer s.trial.mu.Unlock()
	select {
	case <-s.trial.release:
	default:
		close(s.trial.release)
	}
}

// begun waits until n calls of Block or Deaf are inside.
func (s *testServer) begun(n int) {
	s.t.Helper()
	for range n {
		receive(s.t, s.trial.entered)
	}
}

// idle waits until no connection is left.
func (s *testServer) idle() {
	s.t.Helper()
	waitFor(s.t, func() error {
		if n := s.counts.connections.Load(); n > 0 {
			return errors.New("there are connections still")
		}
		return nil
	})
}

// connect is a connection to the first endpoint on which nothing has been said yet.
func (s *testServer) connect() net.Conn { s.t.Helper(); return rawDial(s.t, s.endpoints[0]) }

// rawDial connects and says nothing. All reading and writing has a deadline.
func rawDial(t testing.TB, e endpoint) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	conn, err := transports[e.Scheme].dial(ctx, e)
	if err != nil {
		t.Fatalf("dial %s: %v", e, err)
	}
	conn.SetDeadline(time.Now().Add(testPatience))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// receive takes one value from a channel on which it must come.
func receive[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(testPatience):
		t.Fatalf("nothing came within %v", testPatience)
	}
	return v
}

func mustParse(t testing.TB, text string) endpoint {
	t.Helper()
	e, err := parseEndpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
