package main

// This file owns what must be so for every caller, whoever provides the service: a table of each protocol, each kind of
// service and each way in which a call ends.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func init() {
	testPrograms["provide"] = provideService
	testPrograms["work"] = workService
}

// trio are the methods that each kind of service has: three ways to end, with parts and without, and an event.
type trio struct {
	publish func(ctx context.Context, e Publication) error // as the service is connected
}

// Echo returns its argument.
func (trio) Echo(ctx context.Context, text string) (string, error) { return text, nil }

// Fail fails with a code and data of its own.
func (trio) Fail(ctx context.Context, text string) (string, error) {
	return "", &Error{Code: 7, Message: "no paper", Data: map[string]int{"tray": 2}}
}

// Wait is connected to an address until its call ends.
func (trio) Wait(ctx context.Context, address string) (string, error) {
	return address, waitAt(ctx, address)
}

// Words sends each word of a text, and returns how many there were.
func (trio) Words(ctx context.Context, text string, part func(string) error) (int, error) {
	words := strings.Fields(text)
	for _, word := range words {
		if err := part(word); err != nil {
			return 0, err
		}
	}
	return len(words), nil
}

// Pour is connected to an address and sends parts until its call ends.
func (trio) Pour(ctx context.Context, address string, part func(int) error) (int, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for n := 0; ; n++ {
		if err := part(n); err != nil {
			return n, err
		}
	}
}

// Tell publishes an event with that data.
func (o trio) Tell(ctx context.Context, data json.RawMessage) error {
	return o.publish(ctx, Publication{"matrix.told", data})
}

// publishBy is how what calls over s publishes, once there is one.
func publishBy(s **session) func(ctx context.Context, e Publication) error {
	return func(ctx context.Context, e Publication) error { return (*s).ask(ctx, publishMethod, e, nil, nil) }
}

// waitAt connects to an address and stays until the other end closes the connection, or ctx ends.
func waitAt(ctx context.Context, address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	io.Copy(io.Discard, conn)
	conn.Close()
	return ctx.Err()
}

// trioOf is a router with the trio as a service, which publishes over s.
func trioOf(service string, s **session) (*router, error) {
	r := newRouter()
	_, methods, err := newReceiver(trio{publishBy(s)}, nil)
	if err == nil {
		err = r.add(service, methods)
	}
	return r, err
}

// describedBy is all methods of r, as they are registered.
func describedBy(r *router) (list []Description) {
	for _, name := range r.methods() {
		list = append(list, (*r.index.Load())[name].describe(name))
	}
	return list
}

// provideService is a program that registers the trio as a service, which others may share: provide ENDPOINT SERVICE.
func provideService() {
	err := func() error {
		e, err := parseEndpoint(os.Args[1])
		if err != nil {
			return err
		}
		var s *session
		r, err := trioOf(os.Args[2], &s)
		if err != nil {
			return err
		}
		h, err := dialHost(context.Background(), e, r, dialOptions{limits: defaultLimits(), log: newLogger(os.Stderr, formatText, levelWarn)})
		if err != nil {
			return err
		}
		s = h.session
		offered := map[string]any{"methods": describedBy(r), "share": true, "extensions": []string{"timeout", "parts"}}
		if err := s.ask(context.Background(), "Ipcd.Register", offered, nil, nil); err != nil {
			return err
		}
		<-h.over
		return h.close()
	}()
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

// workService is a worker with the trio as a service: work SERVICE.
func workService() {
	conn, err := handChannel()
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	var s *session
	r, err := trioOf(os.Args[1], &s)
	if err != nil {
		panic(err)
	}
	s = newJSONSession(conn, r, "worker")
	s.ended = func(error) { s.cut(nil) }
	over := make(chan error, 1)
	go func() { over <- s.serve() }()
	err = s.ask(context.Background(), "Ipcd.Register", map[string]any{"methods": describedBy(r), "extensions": []string{"timeout", "parts"}}, nil, nil)
	complain(os.Stderr, err)
	<-over
}

// workplace is a directory for workers of s. On Windows it cannot go before they do.
func workplace(t *testing.T, s *testServer) string {
	dir := t.TempDir()
	t.Cleanup(s.halt)
	return dir
}

// A serviceKind is one way in which a service can be there.
type serviceKind struct {
	name  string // of the service, too
	start func(t *testing.T, s *testServer)
}

var serviceKinds = []serviceKind{
	{"BuiltIn", func(t *testing.T, s *testServer) {
		_, methods, err := newReceiver(trio{func(_ context.Context, e Publication) error {
			_, f := s.router.events.publish(e.Topic, document(e.Data))
			return asError(f)
		}}, nil)
		must(t, err)
		must(t, s.router.add("BuiltIn", methods))
	}},
	{"Registered", func(t *testing.T, s *testServer) {
		startExample(t, exec.Command("provide", s.endpoints[0].String(), "Registered"))
	}},
	{"Worker", func(t *testing.T, s *testServer) {
		s.force.employ(workersOf(t, workplace(t, s), "[[worker]]\nname = \"worker\"\ncommand = [\"work\", \"Worker\"]\nservices = [\"Worker\"]\ninstances = 2\n"))
	}},
	{"Command", func(t *testing.T, s *testServer) {
		serve(t, s, "Command.Echo", "--", "probe", "cat")
		serve(t, s, "Command.Fail", "--", "probe", "fail")
		serve(t, s, "Command.Wait", "--", "probe", "wait")
		serve(t, s, "--lines", "Command.Words", "--", "probe", "words")
		serve(t, s, "--lines", "Command.Pour", "--", "probe", "pour")
		serve(t, s, "Command.Tell", "--", "ipcd", "pub", "-e", s.endpoints[0].String(), "matrix.told", "-")
	}},
}

// startServices starts a server with the kinds of services, and waits until all their methods are there.
func startServices(t *testing.T, kinds []serviceKind) *testServer {
	t.Helper()
	s := startServer(t, localEndpoint(t).String())
	for _, kind := range kinds {
		kind.start(t, s)
		for _, method := range []string{".Echo", ".Fail", ".Wait", ".Words", ".Pour", ".Tell"} {
			waitFor(t, func() error { return s.offers(kind.name + method) })
		}
	}
	return s
}

// offers wants a method to be there.
func (s *testServer) offers(method string) error {
	_, f := s.router.find(method, theOwner)
	return asError(f)
}

// callersOf are all kinds of clients, and one over the channel of Node.js, which is no endpoint.
func callersOf(s *testServer) []clientKind {
	return append(slices.Clone(clientKinds), clientKind{name: "channel", data: true, deadline: true, patient: true, dial: func(t testing.TB, _ endpoint) caller {
		ours, theirs := overChannel(overEndpoint(localEndpoint))(t.(*testing.T))
		own, err := ownPeer()
		must(t, err)
		done := s.adopt(theirs.(*channel), own)
		t.Cleanup(func() {
			<-done
			theirs.Close()
		})
		c := &lineCaller{conn: ours, ended: make(chan struct{}), waiting: map[int]chan lineAnswer{}}
		go c.read()
		return c
	}})
}

// cancels reports whether such a client can say that it does not want an answer any more, and still hear one. The others
// close their connection.
func (k clientKind) cancels() bool {
	return !k.gob && !strings.HasSuffix(k.name, "stock") && (!k.oneByOne || strings.HasSuffix(k.name, "ours"))
}

// parts reports whether such a client can be answered in parts.
func (k clientKind) parts() bool { return !k.gob && k.name != "json1-stock" }

// A waiting is where a method Wait connects to.
type waiting struct {
	t *testing.T
	net.Listener
	conns chan net.Conn
}

func newWaiting(t *testing.T) *waiting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &waiting{t: t, Listener: l, conns: make(chan net.Conn, 100)}
	var accepted []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted = append(accepted, conn)
			w.conns <- conn
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, conn := range accepted { // those that a test has taken as well: Wine may keep what a killed program had open
			conn.Close()
		}
	})
	return w
}

// begun reports whether a method has connected so far.
func (w *waiting) begun() (conn net.Conn, ok bool) {
	w.t.Helper()
	mark, err := net.Dial("tcp", w.Addr().String())
	must(w.t, err)
	defer mark.Close()
	conn = receive(w.t, w.conns) // they come in the order in which they connected
	if conn.RemoteAddr().String() == mark.LocalAddr().String() {
		conn.Close()
		return nil, false
	}
	return conn, true
}

// ended waits until the method at the other end of conn has ended.
func (w *waiting) ended(conn net.Conn) {
	w.t.Helper()
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(testPatience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("the method has not been told that its call is over: %v", err)
	}
}

// outcomes are the ways in which a call ends.
var outcomes = []struct {
	name string
	run  func(t *testing.T, s *testServer, k clientKind, service string)
}{
	{"answer", func(t *testing.T, s *testServer, k clientKind, service string) {
		c := k.dial(t, s.endpoints[0])
		defer c.close()
		for _, want := range []string{"ä \U0001f600 \"\\ \u2028", "", strings.Repeat("0123456789abcdef", 1<<14)} {
			var got string
			if err := ask(c, service+".Echo", want, &got); err != nil || got != want {
				t.Errorf("%q comes back as %q, %v", shorten(want, 40), shorten(got, 40), err)
			}
		}
	}},
	{"error", func(t *testing.T, s *testServer, k clientKind, service string) {
		c := k.dial(t, s.endpoints[0])
		defer c.close()
		f := checkCode(t, "what fails", ask(c, service+".Fail", "a", nil), 7, "no paper")
		if k.data != (len(f.Data) > 0) {
			t.Errorf("the data is %s; want some: %t", f.Data, k.data)
		}
	}},
	{"cancel", func(t *testing.T, s *testServer, k clientKind, service string) {
		c, w := k.dial(t, s.endpoints[0]), newWaiting(t)
		defer c.close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := inBackground(ctx, c, service+".Wait", w.Addr().String())
		conn := receive(t, w.conns)
		cancel()
		if err := receive(t, done); k.cancels() {
			checkCode(t, "a cancelled call", err, codeCancelled, "cancelled")
		} else if err == nil {
			t.Error("a cancelled call has a result")
		} else {
			c.close()
		}
		w.ended(conn)
	}},
	{"parts", func(t *testing.T, s *testServer, k clientKind, service string) {
		c := k.dial(t, s.endpoints[0])
		defer c.close()
		var got []string
		var count int
		if err := ask(c, service+".Words", "one zwö 3", &count); err != nil || count != 3 {
			t.Errorf("whoever asks for no parts gets %d, %v; want the result", count, err)
		}
		if !k.parts() {
			return
		}
		count = 0
		err := c.askParts(t.Context(), service+".Words", "one zwö 3", &count, func(value document) error {
			got = append(got, string(value))
			return nil
		})
		if want := []string{`"one"`, `"zwö"`, `"3"`}; err != nil || count != 3 || !slices.Equal(got, want) {
			t.Errorf("there come %q, and then %d, %v; want %q and their number", got, count, err, want)
		}
	}},
	{"enough parts", func(t *testing.T, s *testServer, k clientKind, service string) {
		if !k.parts() {
			return
		}
		c, w := k.dial(t, s.endpoints[0]), newWaiting(t)
		enough := errors.New("enough")
		err := c.askParts(t.Context(), service+".Pour", w.Addr().String(), nil, func(value document) error {
			if len(value) < 4 { // a hundred of them may be on the way, or a million
				return nil
			}
			return enough
		})
		if err != enough {
			t.Errorf("whoever has enough parts gets %v; want its own error", err)
		}
		if k.oneByOne {
			c.close()
		} else {
			defer c.close()
		}
		w.ended(receive(t, w.conns))
	}},
	{"event", func(t *testing.T, s *testServer, k clientKind, service string) {
		if !k.parts() {
			return
		}
		c, other := k.dial(t, s.endpoints[0]), k.dial(t, s.endpoints[0])
		defer c.close()
		defer other.close()
		enough := errors.New("enough")
		told := []string{`{"z":1.50,"a":"\u00e4"}`, `1.0`, `[null]`}
		next := 0
		err := c.askParts(t.Context(), subscribeMethod, Subscription{Topics: []string{"matrix.told"}}, nil, func(value document) error {
			if next > 0 && !strings.HasSuffix(string(value), `,"data":`+told[next-1]+`}`) {
				return fmt.Errorf("there comes %s; want %s", value, told[next-1])
			}
			if next == len(told) {
				return enough
			}
			next++ // what was there first is that the subscription is
			return ask(other, service+".Tell", json.RawMessage(told[next-1]), nil)
		})
		if err != enough {
			t.Errorf("after %d events: %v", next-1, err)
		}
	}},
	{"deadline", func(t *testing.T, s *testServer, k clientKind, service string) {
		usual := s.inForce.Load()
		defer s.inForce.Store(usual)
		begun := false
		for wait := 30 * time.Millisecond; !begun; wait *= 2 { // it may pass before the method has begun
			if wait > testPatience {
				t.Fatalf("no call has begun within %v", wait)
			}
			ctx := t.Context()
			if k.deadline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, wait)
				defer cancel()
			} else { // then it is the daemon's own
				limited := *usual
				limited.MaxCall = wait
				s.inForce.Store(&limited)
			}
			c, w := k.dial(t, s.endpoints[0]), newWaiting(t)
			checkCode(t, "a call of "+wait.String(), c.call(ctx, service+".Wait", w.Addr().String(), nil), codeDeadline, "deadline")
			var conn net.Conn
			if conn, begun = w.begun(); begun {
				w.ended(conn)
			}
			c.close()
		}
	}},
}

func TestEveryCallerOfEveryService(t *testing.T) {
	s := startServices(t, serviceKinds)
	for _, kind := range serviceKinds {
		batch := s.connect() // has the result alone
		send(t, batch, `[{"jsonrpc":"2.0","id":1,"method":"`+kind.name+`.Words","params":["one two"],"parts":1}]`)
		if got, want := readLine(t, batch), `[{"jsonrpc":"2.0","id":1,"result":2}]`+"\n"; got != want {
			t.Errorf("%s: a batch is answered with %s; want %s", kind.name, got, want)
		}
		for _, k := range callersOf(s) {
			for _, outcome := range outcomes {
				t.Run(kind.name+"/"+k.name+"/"+outcome.name, func(t *testing.T) { outcome.run(t, s, k, kind.name) })
			}
		}
	}
}

// Whoever can be answered in parts hears what anybody publishes, in whatever protocol.
func TestEventsFromEveryCallerToEveryCaller(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	for _, to := range callersOf(s) {
		if !to.parts() {
			continue
		}
		for _, from := range callersOf(s) {
			t.Run(from.name+"/"+to.name, func(t *testing.T) {
				c, publisher := to.dial(t, s.endpoints[0]), from.dial(t, s.endpoints[0])
				defer c.close()
				defer publisher.close()
				sent, enough := []string{`{"z":1.50,"a":"\u00e4"}`, `null`, `[]`}, errors.New("enough")
				next := 0
				err := c.askParts(t.Context(), "Ipcd.Subscribe", map[string][]string{"topics": {"matrix.*"}}, nil, func(value document) error {
					if next > 0 && !strings.HasSuffix(string(value), `,"data":`+sent[next-1]+`}`) {
						return fmt.Errorf("there comes %s; want %s", value, sent[next-1])
					}
					if next == len(sent) {
						return enough
					}
					next++ // what was there first is that the subscription is
					var event any = map[string]any{"topic": "matrix.a", "data": json.RawMessage(sent[next-1])}
					if from.gob {
						event = struct {
							Topic string
							Data  json.RawMessage
						}{"matrix.a", json.RawMessage(sent[next-1])}
					}
					return ask(publisher, "Ipcd.Publish", event, nil)
				})
				if err != enough {
					t.Errorf("after %d events: %v", next-1, err)
				}
			})
		}
	}
	wantSubscriptions(t, s, 0)
}

// A mortal is a way to have several providers of the service Mixed. It has one die whenever deaths says so, and returns once
// over has ended and none is left.
type mortal struct {
	name string
	live func(t *testing.T, s *testServer, over context.Context, deaths <-chan struct{})
}

const mixedProviders = 4

var mortals = []mortal{
	{"registered", func(t *testing.T, s *testServer, over context.Context, deaths <-chan struct{}) {
		var lives sync.WaitGroup
		for range mixedProviders {
			lives.Go(func() {
				for over.Err() == nil {
					cmd := exec.Command("provide", s.endpoints[0].String(), "Mixed")
					cmd.Stderr = os.Stderr
					if err := cmd.Start(); err != nil {
						t.Error(err)
						return
					}
					select {
					case <-deaths:
					case <-over.Done():
					}
					cmd.Process.Kill()
					cmd.Wait()
				}
			})
		}
		lives.Wait()
	}},
	{"worker", func(t *testing.T, s *testServer, over context.Context, deaths <-chan struct{}) {
		s.force.employ(workersOf(t, workplace(t, s), fmt.Sprintf("[[worker]]\nname = \"mixed\"\ncommand = [\"work\", \"Mixed\"]\nservices = [\"Mixed\"]\ninstances = %d\n", mixedProviders)))
		w, f := s.force.find("mixed")
		if f != nil {
			t.Error(f)
			return
		}
		for n := range mixedProviders * startsMost / 2 { // more would be too many
			select {
			case <-deaths:
			case <-over.Done():
				return
			}
			w.mu.Lock()
			for _, p := range w.running {
				if p.number == n%mixedProviders+1 {
					p.cmd.Process.Kill()
				}
			}
			w.mu.Unlock()
		}
		<-over.Done()
	}},
}

// Callers of all kinds call while the programs that answer are killed at random: each call ends once, with its result or an
// error that says what became of it.
func TestCallsOutliveTheirProviders(t *testing.T) {
	const deathsOnAverage = 50
	calls := int64(10_000)
	if testing.Short() {
		calls = 2_000
	}
	for _, m := range mortals {
		t.Run(m.name, func(t *testing.T) {
			s := startServer(t, localEndpoint(t).String())
			over, stop := context.WithCancel(t.Context())
			defer stop()
			deaths := make(chan struct{}, mixedProviders)
			var lives sync.WaitGroup
			lives.Go(func() { m.live(t, s, over, deaths) })
			must(t, poll(func() error { return s.offers("Mixed.Echo") }))
			kinds := callersOf(s)
			var callers []caller
			var results, gone, turn atomic.Int64
			var asking sync.WaitGroup
			for _, k := range slices.Concat(kinds, kinds) {
				c := k.dial(t, s.endpoints[0])
				callers = append(callers, c)
				for range 2 { // calls in flight
					asking.Go(func() {
						for n := turn.Add(1); n <= calls; n = turn.Add(1) {
							err := mixedCall(c, n)
							var f *fault
							switch errors.As(err, &f); {
							case err == nil:
								results.Add(1)
								if rand.N(calls) < deathsOnAverage {
									select {
									case deaths <- struct{}{}:
									default: // they die already
									}
								}
							case f == nil || f.Code != codeGone && f.Code != codeNoMethod:
								t.Errorf("call %d by %s ends with %v", n, k.name, err)
							default:
								gone.Add(1)
								if err := poll(func() error { return s.offers("Mixed.Echo") }); err != nil {
									t.Error(err)
									return
								}
							}
						}
					})
				}
			}
			asking.Wait()
			stop()
			lives.Wait()
			for _, c := range callers {
				if err := c.close(); err != nil {
					t.Error(err)
				}
			}
			t.Logf("%d results; the provider had gone of %d", results.Load(), gone.Load())
			if results.Load()+gone.Load() != calls || results.Load() == 0 || gone.Load() == 0 {
				t.Errorf("of %d calls %d had a result, and of %d the provider had gone; want some of both", calls, results.Load(), gone.Load())
			}
		})
	}
}

// mixedCall makes the n-th call: one that is answered here, a short, a long, or one that fails, all with the number in it.
func mixedCall(c caller, n int64) error {
	method, want := "Mixed.Echo", fmt.Sprint(n)
	switch n % 10 {
	case 0:
		method = "Echo.Say"
	case 1:
		want += strings.Repeat(" ", 32<<10)
	case 2:
		err := ask(c, "Mixed.Fail", want, nil)
		if f := (*fault)(nil); errors.As(err, &f) && f.Code == 7 {
			return nil
		}
		return errOr(err)
	}
	var got string
	if err := ask(c, method, want, &got); err != nil || got != want {
		if err == nil {
			err = fmt.Errorf("%s comes back as %s", shorten(want, 20), shorten(got, 20))
		}
		return err
	}
	return nil
}
