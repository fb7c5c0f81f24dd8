package main

// This file owns what must be so over every transport and protocol: one table of behaviours,
// run by each kind of client at each kind of endpoint.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
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

// A TrialLabel is text by methods of its pointer.
type TrialLabel struct{ text string }

// MarshalText implements encoding.TextMarshaler.
func (l *TrialLabel) MarshalText() ([]byte, error) { return []byte("<" + l.text + ">"), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *TrialLabel) UnmarshalText(b []byte) error {
	l.text = strings.Trim(string(b), "<>")
	return nil
}

// A TrialPlace is a caller's place among n who meet at a barrier.
type TrialPlace struct {
	N     int `json:"n"`
	Place int `json:"place"`
}

// serveTrial is "ipcd run" with these settings and the service of the tests.
func serveTrial(set settings) error {
	router, err := newBuiltins()
	if err == nil {
		err = addReceiver(router, newTrial(), nil)
	}
	if err != nil {
		return err
	}
	return oversee(context.Background(), set.instance, set.instance.name != "", os.Stderr, func(ctx context.Context, o overseer) error {
		return (&daemon{overseer: o, load: func() (settings, error) { return set, nil }, router: router}).run(ctx)
	})
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

// Until connects to the socket at path, and returns when it is let go of there.
func (*Trial) Until(ctx context.Context, path string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		return "", err
	}
	return "let go", nil
}

// Panic does.
func (*Trial) Panic(ctx context.Context, text string) (string, error) { panic(text) }

// Fail fails in the words that it is given.
func (*Trial) Fail(ctx context.Context, text string) (string, error) { return "", errors.New(text) }

// FailBig fails in n bytes.
func (*Trial) FailBig(ctx context.Context, n int) (string, error) {
	return "", errors.New(strings.Repeat("x", n))
}

// Big returns n bytes.
func (*Trial) Big(ctx context.Context, n int) (string, error) { return strings.Repeat("x", n), nil }

// Unencodable returns what no protocol can carry.
func (*Trial) Unencodable(ctx context.Context) (chan int, error) { return make(chan int), nil }

// Parcel returns its argument.
func (*Trial) Parcel(ctx context.Context, p TrialParcel) (TrialParcel, error) { return p, nil }

// Bytes returns its argument.
func (*Trial) Bytes(ctx context.Context, b []byte) ([]byte, error) { return b, nil }

// Count returns how many texts it is given.
func (*Trial) Count(ctx context.Context, list []string) (int, error) { return len(list), nil }

// Sum returns the sum of its arguments.
func (*Trial) Sum(ctx context.Context, list []float64) (sum float64, err error) {
	for _, n := range list {
		sum += n
	}
	return sum, nil
}

// Raw returns its argument, which is JSON.
func (*Trial) Raw(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) { return raw, nil }

// Holder returns its argument, which holds values of types that it does not name.
func (*Trial) Holder(ctx context.Context, h GobHolder) (GobHolder, error) { return h, nil }

// Old is a method in the form of net/rpc.
func (*Trial) Old(a TrialPlace, sum *int) error { *sum = a.N + a.Place; return nil }

// Grow returns one more. The encoders of a big.Int are methods of its pointer.
func (*Trial) Grow(n *big.Int, sum *big.Int) error { sum.Add(n, big.NewInt(1)); return nil }

// Turn is a method in the form of net/rpc that takes a pointer.
func (*Trial) Turn(p, turned *TrialPlace) error { turned.N, turned.Place = p.Place, p.N; return nil }

// Link returns a URL, whose encoder for gob is a method of its pointer.
func (*Trial) Link(text string, link *url.URL) error {
	u, err := url.Parse(text)
	if err == nil {
		*link = *u
	}
	return err
}

// Label returns its argument in a type that is text by methods of its pointer.
func (*Trial) Label(ctx context.Context, text string) (TrialLabel, error) {
	return TrialLabel{text}, nil
}

// Pick returns a value whose type only it knows.
func (*Trial) Pick(n int, reply *any) error { *reply = n; return nil }

// Same returns its argument.
func (*Trial) Same(ctx context.Context, v any) (any, error) { return v, nil }

// Tally returns how many there are.
func (*Trial) Tally(ctx context.Context, by map[int]int) (int, error) { return len(by), nil }

// Quiet returns nothing.
func (*Trial) Quiet(ctx context.Context, text string) error { return nil }

// NilList, NilMap and NilParcel return nil.
func (*Trial) NilList(ctx context.Context) ([]string, error)         { return nil, nil }
func (*Trial) NilMap(ctx context.Context) (map[string]string, error) { return nil, nil }
func (*Trial) NilParcel(ctx context.Context) (*TrialParcel, error)   { return nil, nil }
func (*Trial) NilText(ctx context.Context) (*string, error)          { return nil, nil }

// Refuse returns an error with that code.
func (*Trial) Refuse(ctx context.Context, code int) (string, error) {
	return "", &Error{Code: code, Message: "no such ticket", Data: map[string]int{"ticket": 12}}
}

// Late fails because of a deadline of its own.
func (*Trial) Late(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, time.Now())
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

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

// Entered returns how many calls of Block have begun that no test has heard of.
func (s *Trial) Entered(ctx context.Context) (int, error) { return len(s.entered), nil }

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

// A testServer is the daemon as daemon.run puts it together, in this process.
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
	s.server = newServer(router, l, log)
	t.Cleanup(func() {
		s.halt()
		s.checkCounted()
		log.close()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", s.log)
		}
	})
	for _, err := range []error{
		s.server.addOwnService(),
		addReceiver(router, s.trial, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if slices.ContainsFunc(endpoints, endpoint.isTLS) {
		if s.server.keys, err = newKeyring(testKeys(t), log); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range endpoints {
		l, err := s.listen(e)
		if err != nil {
			t.Fatalf("listen(%s): %v", e, err)
		}
		s.endpoints = append(s.endpoints, l.endpoint)
		first, err := settle(l.endpoint)
		if err != nil {
			t.Fatalf("settle(%s): %v", e, err)
		}
		t.Cleanup(func() { first.Close() })
		s.start(l)
	}
	return s
}

// checkCounted wants each call that has begun to have been counted once as one that has ended, however that was.
func (s *testServer) checkCounted() {
	s.t.Helper()
	waitFor(s.t, func() error { // one that was given up may be on its way still
		ended := int64(0)
		for _, t := range s.meter.book.all() {
			ended += t.calls()
		}
		if begun := s.meter.calls.Load(); begun != ended {
			return fmt.Errorf("%d calls have begun, and %d were counted as ended", begun, ended)
		}
		return nil
	})
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
		if n := s.meter.connections.Load(); n > 0 {
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
	conn, err := transports[e.Scheme].dial(ctx, e, optionsFor(t, e))
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

// A behaviour is something that is so for every kind of client at every kind of endpoint.
type behaviour struct {
	name  string
	waits bool                    // most of its time, so that it may run beside others
	skip  func(k clientKind) bool // kinds that cannot show it; may be nil
	limit func(l *limits)         // may be nil
	run   func(t *testing.T, s *testServer, k clientKind, c caller)
}

// placesOfTest are the endpoints at which all behaviours are tried.
var placesOfTest = []struct {
	name string
	at   func(t testing.TB) endpoint
}{
	{"local", localEndpoint},
	{"tcp", func(t testing.TB) endpoint { return mustParse(t, "tcp://127.0.0.1:0?auth=none") }},
	{"tls", func(t testing.TB) endpoint { return mustParse(t, "tls://127.0.0.1:0?auth=none") }},
	{"http", func(t testing.TB) endpoint { return mustParse(t, "http://127.0.0.1:0?auth=none") }},
	{"https", func(t testing.TB) endpoint { return mustParse(t, "https://127.0.0.1:0?auth=none") }},
}

func TestBehaviour(t *testing.T) {
	for _, place := range placesOfTest {
		for _, k := range clientKinds {
			if strings.HasPrefix(place.name, "http") && !k.http {
				continue
			}
			for _, b := range behaviours {
				if b.skip != nil && b.skip(k) {
					continue
				}
				t.Run(place.name+"/"+k.name+"/"+b.name, func(t *testing.T) {
					if b.waits {
						t.Parallel()
					}
					s := startServerWith(t, b.limit, place.at(t))
					c := k.dial(t, s.endpoints[0])
					defer c.close()
					defer s.freeAll()
					b.run(t, s, k, c)
				})
			}
		}
	}
}

// stopInBackground stops the server, and returns once it has begun to.
func (s *testServer) stopInBackground() <-chan error {
	s.t.Helper()
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(s.t.Context()) }()
	waitFor(s.t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopping {
			return errors.New("it does not stop yet")
		}
		return nil
	})
	return stopped
}

// beginToStop does what stop does first.
func (s *testServer) beginToStop() {
	s.mu.Lock()
	s.stopping = true
	callers, providers := s.stagesLocked()
	s.mu.Unlock()
	for _, stage := range append(callers, providers...) {
		stage.leave()
	}
}

// ask calls with the patience of a test.
func ask(c caller, method string, arg, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	return c.call(ctx, method, arg, result)
}

// checkSay calls Echo.Say, which must give back its text.
func checkSay(t testing.TB, c caller, text string) {
	t.Helper()
	var got string
	if err := ask(c, "Echo.Say", text, &got); err != nil || got != text {
		t.Errorf("Echo.Say(%q) = %q, %v", shorten(text, 80), shorten(got, 80), err)
	}
}

// checkCode wants err to be a fault of this code with these words in it.
func checkCode(t testing.TB, what string, err error, code int, words string) *fault {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || f.Code != code || !strings.Contains(f.Text, words) {
		got := 0
		if f != nil {
			got = f.Code
		}
		t.Errorf("%s = %v (code %d); want code %d and %q", what, err, got, code, words)
		return &fault{}
	}
	return f
}

// inBackground calls a method and says how it ended.
func inBackground(ctx context.Context, c caller, method string, arg any) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.call(ctx, method, arg, nil) }()
	return done
}

func oneByOne(k clientKind) bool { return k.oneByOne }

var behaviours = []behaviour{
	{name: "text", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		for _, text := range []string{"hello", "", "ä 世界 \U0001f600 \u2028", "a\x00\t\n\"\\</script>", strings.Repeat("0123456789abcdef", 1<<16)} {
			checkSay(t, c, text)
		}
	}},
	{name: "values", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		for _, want := range [][]byte{{0, 1, 255}, make([]byte, 100_000), nil} {
			var got []byte
			if err := ask(c, "Trial.Bytes", want, &got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("Trial.Bytes of %d bytes = %d bytes, %v", len(want), len(got), err)
			}
		}
		want := TrialParcel{Name: "Ada <ä>", Age: -36, Raw: []byte{1, 0}, Tags: []string{"a", ""}, Map: map[string]string{"k": "v"}, Door: &TrialParcel{Age: 1}}
		var got TrialParcel
		if err := ask(c, "Trial.Parcel", want, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Trial.Parcel(%+v) = %+v, %v", want, got, err)
		}
		var sum int
		if err := ask(c, "Trial.Old", TrialPlace{2, 40}, &sum); err != nil || sum != 42 {
			t.Errorf("Trial.Old = %d, %v; want 42", sum, err)
		}
		var big string
		if err := ask(c, "Trial.Big", 2<<20, &big); err != nil || len(big) != 2<<20 {
			t.Errorf("Trial.Big(2 MiB) = %d bytes, %v", len(big), err)
		}
		var pong string
		if err := ask(c, "Ipcd.Ping", nil, &pong); err != nil || pong != "pong" {
			t.Errorf("Ipcd.Ping() = %q, %v; want pong", pong, err)
		}
	}},
	{name: "json", skip: func(k clientKind) bool { return k.name == "gob-ours" }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		want := `{"a":[1,"é",null],"b":18446744073709551615}`
		var got json.RawMessage
		if err := ask(c, "Trial.Raw", json.RawMessage(want), &got); err != nil || string(got) != want {
			t.Errorf("Trial.Raw(%s) = %s, %v", want, got, err)
		}
		checkSay(t, c, "still here")
	}},
	{name: "answer-over-max_message", limit: func(l *limits) { l.MaxMessage = 4 << 10 }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		f := checkCode(t, "Trial.Big", ask(c, "Trial.Big", 5<<10, nil), codeTooLarge, "this daemon sends no more (limit max_message = 4096)")
		if k.data && (f.data().Limit != "max_message" || f.data().Max != 4<<10) {
			t.Errorf("the data of the error is %+v; want max_message and 4096", f.data())
		}
		checkCode(t, "Trial.FailBig", ask(c, "Trial.FailBig", 5<<10, nil), codeTooLarge, "the error of Trial.FailBig has ")
		checkSay(t, c, "still here")
	}},
	{name: "errors", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		f := checkCode(t, "Echo.Sy", ask(c, "Echo.Sy", "a", nil), codeNoMethod, "Echo.Sy")
		if k.data && (f.data().Near != "Echo.Say") {
			t.Errorf("the data of the error is %+v; want Echo.Say as the nearest name", f.Data)
		}
		checkCode(t, "a number for a text", ask(c, "Echo.Say", 7, nil), codeBadArgument, "")
		checkCode(t, "a text for an object", ask(c, "Trial.Parcel", "a", nil), codeBadArgument, "")
		f = checkCode(t, "Trial.Fail", ask(c, "Trial.Fail", "no space left: ä", nil), codeApplication, "no space left: ä")
		if f.Text != "no space left: ä" {
			t.Errorf("Trial.Fail = %q; want the method's own words", f.Text)
		}
		checkCode(t, "Trial.Unencodable", ask(c, "Trial.Unencodable", nil, nil), codeInternal, "Trial.Unencodable")
		checkSay(t, c, "still here")
	}},
	{name: "results-by-pointer", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		var sum big.Int
		if err := ask(c, "Trial.Grow", big.NewInt(41), &sum); err != nil || sum.Int64() != 42 {
			t.Errorf("Trial.Grow(41) = %v, %v; want 42", &sum, err)
		}
		var link url.URL
		if err := ask(c, "Trial.Link", "http://h/x", &link); err != nil || link.String() != "http://h/x" {
			t.Errorf("Trial.Link(http://h/x) = %v, %v; want the same", &link, err)
		}
		var label TrialLabel
		if err := ask(c, "Trial.Label", "x", &label); !k.gob && (err != nil || label.text != "x") { // gob does without text
			t.Errorf("Trial.Label(x) = %q, %v; want x", label.text, err)
		}
		if k.name != "gob-ours" { // it does not take a type that the peer has chosen
			var any any
			if err := ask(c, "Trial.Pick", 7, &any); err != nil || fmt.Sprint(any) != "7" {
				t.Errorf("Trial.Pick(7) = %v, %v; want 7", any, err)
			}
		}
		checkSay(t, c, "still here")
	}},
	{name: "nil-results", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		list, many, parcel := []string{"before"}, map[string]string{"a": "before"}, (*TrialParcel)(nil)
		if err := ask(c, "Trial.NilList", nil, &list); err != nil || len(list) != 0 {
			t.Errorf("Trial.NilList = %q, %v; want an empty list", list, err)
		}
		if err := ask(c, "Trial.NilMap", nil, &many); err != nil {
			t.Errorf("Trial.NilMap = %v, %v; want an empty map", many, err)
		}
		if err := ask(c, "Trial.NilParcel", nil, &parcel); err != nil || parcel != nil && !reflect.DeepEqual(*parcel, TrialParcel{}) {
			t.Errorf("Trial.NilParcel = %+v, %v; want none, or one without anything in it", parcel, err)
		}
		var nothing *struct{}
		if err := ask(c, "Trial.Quiet", "x", &nothing); err != nil {
			t.Errorf("Trial.Quiet = %v", err)
		}
		var text *string
		if err := ask(c, "Trial.NilText", nil, &text); k.gob || k.name == "json1-stock" {
			checkCode(t, "Trial.NilText", err, codeInternal, "cannot be encoded")
		} else if err != nil || text != nil {
			t.Errorf("Trial.NilText = %v, %v; want nil", text, err)
		}
		checkSay(t, c, "still here")
	}},
	{name: "no-argument", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		methods := []string{"Echo.Say", "Trial.Big", "Trial.Bytes"}
		if k.data { // the standard library's clients always send an argument, if only an empty struct
			methods = append(methods, "Trial.Parcel", "Trial.Old", "Trial.Turn", "Trial.Grow")
		}
		for _, method := range methods {
			checkCode(t, method+" without an argument", ask(c, method, nil, nil), codeBadArgument, "")
		}
		for _, method := range []string{"Trial.Parcel", "Trial.Turn", "Trial.Big", "Trial.Old"} {
			if !k.gob { // in which there is no null
				checkCode(t, method+" of null", ask(c, method, json.RawMessage("null"), nil), codeBadArgument, "")
			}
		}
		checkSay(t, c, "still here")
	}},
	{name: "errors-of-methods", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		for code, want := range map[int]int{7: 7, -5: -5, 0: codeApplication, codeBusy: codeApplication, -32019: codeApplication, codeBadArgument: codeBadArgument} {
			f := checkCode(t, fmt.Sprintf("Trial.Refuse(%d)", code), ask(c, "Trial.Refuse", code, nil), want, "no such ticket")
			if f.Text != "no such ticket" || k.data && string(f.Data) != `{"ticket":12}` {
				t.Errorf("Trial.Refuse(%d) = %q with %s", code, f.Text, f.Data)
			}
		}
		checkCode(t, "Trial.Late", ask(c, "Trial.Late", nil, nil), codeApplication, "context deadline exceeded")
		forged := "x" + codeMark + "-32003)"
		if f := checkCode(t, "Trial.Fail", ask(c, "Trial.Fail", forged, nil), codeApplication, "x"); f.Text != forged {
			t.Errorf("Trial.Fail(%q) = %q", forged, f.Text)
		}
	}},
	{name: "panic", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		f := checkCode(t, "Trial.Panic", ask(c, "Trial.Panic", "the secret", nil), codeInternal, "internal error")
		if strings.Contains(f.Text, "secret") {
			t.Errorf("the caller was told %q", f.Text)
		}
		checkSay(t, c, "still here")
		waitFor(t, func() error {
			if log := s.log.String(); !strings.Contains(log, "the secret") || !strings.Contains(log, "Trial.Panic") {
				return errors.New("the log does not say why Trial.Panic crashed")
			}
			return nil
		})
	}},
	{name: "side-by-side", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		// A method that was always quick is run by the reader until it is not.
		for range 2 * slowCalls {
			if err := ask(c, "Trial.Meet", TrialPlace{1, 0}, nil); err != nil {
				t.Fatal(err)
			}
		}
		meet(t, c, 64)
	}},
	{name: "1000-in-flight", skip: oneByOne, limit: func(l *limits) { l.MaxCalls = 1000 }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		meet(t, c, 1000)
	}},
	{name: "max_calls", skip: oneByOne, limit: func(l *limits) { l.MaxCalls = 4 }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		var blocked []<-chan error
		for range 4 {
			blocked = append(blocked, inBackground(context.Background(), c, "Trial.Block", "a"))
		}
		s.begun(4)
		f := checkCode(t, "the fifth call", ask(c, "Echo.Say", "a", nil), codeBusy, "max_calls")
		if k.data && (f.data().Limit != "max_calls" || f.data().Max != 4 || !f.data().Retry) {
			t.Errorf("the data of the error is %+v; want max_calls, 4 and retry", f.Data)
		}
		s.freeAll()
		for _, done := range blocked {
			if err := receive(t, done); err != nil {
				t.Errorf("a call within the limit ended with %v", err)
			}
		}
		waitFor(t, func() error { return ask(c, "Echo.Say", "again", nil) })
	}},
	{name: "caller-goes", limit: func(l *limits) { l.HalfClose = time.Millisecond }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := inBackground(ctx, c, "Trial.Block", "a")
		s.begun(1)
		if k.oneByOne {
			cancel() // which closes the connection
		}
		c.close()
		if err := receive(t, s.trial.left); err != context.Canceled {
			t.Errorf("the context of the method ended with %v; want %v", err, context.Canceled)
		}
		if err := receive(t, done); err == nil {
			t.Error("the call of one who has gone = nil; want an error")
		}
		s.idle()
	}},
	{name: "deadline", skip: func(k clientKind) bool { return !k.deadline }, limit: func(l *limits) { l.HalfClose = time.Millisecond }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		checkSay(t, c, "here")
		// The deadline may pass before the method has begun: the next one is longer.
		for wait := 30 * time.Millisecond; len(s.trial.entered) == 0; wait *= 2 {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			checkCode(t, "a call of "+wait.String(), c.call(ctx, "Trial.Block", "a", nil), codeDeadline, "deadline")
			cancel()
			if wait > testPatience {
				t.Fatalf("no call has begun within %v", wait)
			}
		}
		err := receive(t, s.trial.left)
		// Ours and the daemon watch the same deadline; whoever is first ends the method.
		if err != context.DeadlineExceeded && (err != context.Canceled || k.patient) {
			t.Errorf("the context of the method ended with %v; want %v", err, context.DeadlineExceeded)
		}
		checkSay(t, c, "still here")
	}},
	{name: "deadline-of-the-deaf", skip: func(k clientKind) bool { return !k.deadline }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		checkSay(t, c, "here") // it is connected, so that the deadline is for the call alone
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		defer cancel()
		checkCode(t, "a call of 30 ms", c.call(ctx, "Trial.Deaf", "a", nil), codeDeadline, "deadline")
	}},
	{name: "max_call", limit: func(l *limits) { l.MaxCall = 30 * time.Millisecond }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		checkCode(t, "a call without a deadline", c.call(context.Background(), "Trial.Block", "a", nil), codeDeadline, "deadline")
	}},
	{name: "cancel", skip: func(k clientKind) bool {
		return k.gob || k.oneByOne && !strings.HasSuffix(k.name, "ours") || strings.HasSuffix(k.name, "stock")
	}, limit: func(l *limits) { l.HalfClose = time.Millisecond }, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := inBackground(ctx, c, "Trial.Block", "a")
		s.begun(1)
		cancel()
		checkCode(t, "a cancelled call", receive(t, done), codeCancelled, "cancelled")
		if err := receive(t, s.trial.left); err != context.Canceled {
			t.Errorf("the context of the method ended with %v; want %v", err, context.Canceled)
		}
		checkSay(t, c, "still here")
	}},
	{name: "drain", run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		done := inBackground(context.Background(), c, "Trial.Block", "a")
		s.begun(1)
		s.beginToStop()
		if k.oneByOne { // it has a connection of its own, on which nothing has been asked yet
			checkSay(t, c, "just come")
		} else {
			f := checkCode(t, "a new call", ask(c, "Echo.Say", "a", nil), codeShuttingDown, "shutting down")
			if k.data && (!f.data().Retry || !strings.Contains(hintFor(f), "try again")) {
				t.Errorf("the data of the error is %+v, its hint %q; want retry", f.Data, hintFor(f))
			}
		}
		stopped := make(chan error, 1)
		go func() { stopped <- s.stop(context.Background()) }()
		s.freeAll()
		if err := receive(t, done); err != nil {
			t.Errorf("the call in flight ended with %v; want its result", err)
		}
		if err := receive(t, stopped); err != nil {
			t.Errorf("stop = %v; want nil", err)
		}
	}},
	{name: "forced-stop", waits: true, run: func(t *testing.T, s *testServer, k clientKind, c caller) {
		done := inBackground(context.Background(), c, "Trial.Block", "a")
		s.begun(1)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.stop(ctx); !errors.Is(err, errForced) {
			t.Errorf("stop = %v; want %v", err, errForced)
		}
		if err := receive(t, s.trial.left); err != context.Canceled {
			t.Errorf("the context of the method ended with %v; want %v", err, context.Canceled)
		}
		if err := receive(t, done); !k.oneByOne {
			if hint := hintFor(checkCode(t, "the call that was cut", err, codeShuttingDown, "whether it was done is not known")); hint != "" {
				t.Errorf("the hint of a call that may have been done is %q", hint)
			}
		} else if err == nil {
			t.Error("the call that was cut = nil; want an error")
		}
	}},
}

// meet makes n calls none of which can end before all have begun, and wants each answer to be
// for who asked.
func meet(t *testing.T, c caller, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			got := -1
			if err := c.call(ctx, "Trial.Meet", TrialPlace{n, i}, &got); err != nil || got != i {
				t.Errorf("Trial.Meet for place %d of %d = %d, %v", i, n, got, err)
			}
		})
	}
	all.Wait()
}

// TestCallsAreLoggedAtDebug wants a line for each call, however it is made and ends, with who called and how long it took.
func TestCallsAreLoggedAtDebug(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	for _, k := range clientKinds {
		c := k.dial(t, s.endpoints[0])
		must(t, ask(c, "Echo.Say", k.name, new(string)))
		if err := ask(c, "Trial.Fail", k.name, new(string)); err == nil {
			t.Errorf("%s: Trial.Fail did not fail", k.name)
		}
		before := len(s.log.String())
		if err := ask(c, "Trial.Slow", "no number", nil); err == nil {
			t.Errorf("%s: a text was taken for a number", k.name)
		}
		c.close()
		log := s.log.String()
		refused := log[before:]
		if n := strings.Count(refused, "refused") + strings.Count(refused, "bad message"); n != 1 || !strings.Contains(refused, "debug a call was refused") || !strings.Contains(refused, " method=Trial.Slow ") {
			t.Errorf("%s: of an argument that is refused the log has\n%s\nwant one line, with the method", k.name, refused)
		}
		for _, pattern := range []string{`debug call .*conn=\d+ peer=.* method=Echo\.Say .*took=\d.*s\n`, `debug call .* method=Trial\.Fail error="?` + k.name + `"? .*code=-32000 .*took=`} {
			if !regexp.MustCompile(pattern).MatchString(log) {
				t.Errorf("%s: no line of the log matches %s", k.name, pattern)
			}
		}
	}
	c, err := connect(t.Context(), s.endpoints[0], defaultLimits(), 0)
	must(t, err)
	defer c.close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.trial.entered
		cancel()
	}()
	if err := c.call(ctx, "Trial.Block", "k", nil); !errors.Is(err, errCancelled) {
		t.Errorf("a call that was given up ends with %v", err)
	}
	waitFor(t, func() error {
		if !regexp.MustCompile(`debug call .* method=Trial\.Block error=.* code=-32800 `).MatchString(s.log.String()) {
			return errors.New("the log does not have the call that was given up")
		}
		return nil
	})
}
