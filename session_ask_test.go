package main

// This file owns the proof that both ends of one connection ask and answer: every transport and framing
// that can carry calls both ways, with whatever can come in between.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Both is the service of either end.
type Both struct {
	mu      sync.Mutex
	barrier *barrier
	need    int

	entered chan string // calls of Block that have begun
	left    chan error  // why their contexts ended
	release chan struct{}
	back    *session // by which Relay asks the other end
}

func newBoth(need int) *Both {
	return &Both{
		barrier: &barrier{open: make(chan struct{})}, need: need,
		entered: make(chan string, 1000), left: make(chan error, 1000), release: make(chan struct{}),
	}
}

// Quick gives back its text.
func (b *Both) Quick(ctx context.Context, text string) (string, error) { return text, nil }

// Bytes gives back its bytes.
func (b *Both) Bytes(ctx context.Context, data []byte) ([]byte, error) { return data, nil }

// Long gives back a text of so many bytes.
func (b *Both) Long(ctx context.Context, n int) (string, error) { return strings.Repeat("a", n), nil }

// Meet returns when as many calls are inside as are to come: they are in flight together, or it never does.
func (b *Both) Meet(ctx context.Context, n int) (int, error) {
	b.mu.Lock()
	if b.barrier.inside++; b.barrier.inside == b.need {
		close(b.barrier.open)
	}
	b.mu.Unlock()
	select {
	case <-b.barrier.open:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Block returns when it is released, or its call ends.
func (b *Both) Block(ctx context.Context, key string) (string, error) {
	b.entered <- key
	select {
	case <-b.release:
		return key, nil
	case <-ctx.Done():
		b.left <- ctx.Err()
		return "", ctx.Err()
	}
}

// Relay asks the other end to be quick.
func (b *Both) Relay(ctx context.Context, text string) (string, error) {
	var got string
	err := b.back.ask(ctx, "Both.Quick", text, &got, nil)
	return got, err
}

// An end is one of two that talk.
type end struct {
	*session
	both *Both
	conn net.Conn
	over chan error // what serve returned
}

// newEnd serves a connection in the background until it ends or the test does.
func newEnd(t *testing.T, conn net.Conn, speak func(in *input, l limits) codec, need int) *end {
	t.Helper()
	r := newRouter()
	e := &end{both: newBoth(need), conn: conn, over: make(chan error, 1)}
	must(t, addReceiver(r, e.both, nil))
	l := defaultLimits()
	in := newInput(conn, l)
	log := newLogger(&logBuffer{}, formatText, levelError)
	e.session = newSession(&shared{finder: r, log: log, meter: &meter{}, foreman: &foreman{}}, theOwner, speak(in, l), in, conn, &l, log)
	e.both.back = e.session
	go func() { e.over <- e.serve() }()
	return e
}

// A carrier makes a connection whose both ends are here.
type carrier struct {
	name    string
	connect func(t *testing.T) (ours, theirs net.Conn)
	speak   func(in *input, l limits) codec
}

// overEndpoint connects by a transport.
func overEndpoint(at func(t testing.TB) endpoint) func(t *testing.T) (net.Conn, net.Conn) {
	return func(t *testing.T) (net.Conn, net.Conn) {
		t.Helper()
		e := at(t)
		l, err := transports[e.Scheme].listen(e, audience{})
		must(t, err)
		t.Cleanup(func() { l.Close() })
		e = listenerEndpoint(e, l)
		first, err := settle(e)
		must(t, err)
		t.Cleanup(func() { first.Close() })
		accepted := make(chan net.Conn, 1)
		go func() {
			if conn, err := l.Accept(); err == nil {
				accepted <- conn
			}
		}()
		return noDeadline(rawDial(t, e)), receive(t, accepted)
	}
}

// overChannel makes Node's channel of a connection.
func overChannel(connect func(t *testing.T) (net.Conn, net.Conn)) func(t *testing.T) (net.Conn, net.Conn) {
	return func(t *testing.T) (net.Conn, net.Conn) {
		t.Helper()
		ours, theirs := connect(t)
		l, log := defaultLimits(), newLogger(&logBuffer{}, formatText, levelError)
		return newChannel(ours, l, log), newChannel(theirs, l, log)
	}
}

// drip reads a byte at a time.
type drip struct{ net.Conn }

func (d drip) Read(b []byte) (int, error) { return d.Conn.Read(b[:min(len(b), 1)]) }

func overDrip(connect func(t *testing.T) (net.Conn, net.Conn)) func(t *testing.T) (net.Conn, net.Conn) {
	return func(t *testing.T) (net.Conn, net.Conn) {
		t.Helper()
		ours, theirs := connect(t)
		return drip{ours}, drip{theirs}
	}
}

// carriers are the transports and framings that can carry calls both ways; gob's cannot.
func carriers() []carrier {
	local := overEndpoint(localEndpoint)
	tcp := overEndpoint(func(t testing.TB) endpoint { return mustParse(t, "tcp://127.0.0.1:0?auth=none") })
	framed := func(f framing) func(*input, limits) codec {
		return func(in *input, l limits) codec { return newJSONCodec(in, l, f) }
	}
	return []carrier{
		{"local/values", local, framed(framingValue)},
		{"local/headers", local, framed(framingHeader)},
		{"local/lines", local, framed(framingLine)},
		{"local/1-byte reads", overDrip(local), framed(framingValue)},
		{"tcp/values", tcp, framed(framingValue)},
		{"tcp/headers, 1-byte reads", overDrip(tcp), framed(framingHeader)},
		{"channel", overChannel(local), framed(framingLine)},
		{"memory", func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() }, framed(framingValue)},
	}
}

const crowd = 64 // calls in flight in each direction

// eachWay runs f for both ends of a connection of each kind at once, as many times as there are calls in flight.
func eachWay(t *testing.T, f func(t *testing.T, asks, answers *end, n int) error) {
	for _, kind := range carriers() {
		t.Run(kind.name, func(t *testing.T) {
			ours, theirs := kind.connect(t)
			narrow(ours)
			narrow(theirs)
			a, b := newEnd(t, ours, kind.speak, crowd), newEnd(t, theirs, kind.speak, crowd)
			errs := make(chan error, 2*crowd)
			for n := range crowd {
				go func() { errs <- f(t, a, b, n) }()
				go func() { errs <- f(t, b, a, n) }()
			}
			for range 2 * crowd {
				if err := receive(t, errs); err != nil {
					t.Error(err)
				}
			}
			a.hangUp(t, b)
		})
	}
}

// hangUp ends the connection, and wants both ends to be over.
func (e *end) hangUp(t *testing.T, other *end) {
	t.Helper()
	e.conn.Close()
	for _, one := range []*end{e, other} {
		receive(t, one.over)
		one.conn.Close()
		if err := one.ask(context.Background(), "Both.Quick", "late", nil, nil); err == nil {
			t.Error("a call on a connection that has ended was answered")
		}
	}
}

// askText calls a method that gives back its text.
func askText(ctx context.Context, e *end, method, text string) error {
	var got string
	if err := e.ask(ctx, method, text, &got, nil); err != nil || got != text {
		return fmt.Errorf("%s(%q) = %q, %w", method, text, got, errOr(err))
	}
	return nil
}

var errNone = errors.New("no error")

func errOr(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func TestBothEndsAskAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, asks, answers *end, n int) error {
		ctx := context.Background()
		if n%2 == 1 { // who may give up waits in another way
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
		}
		var place int
		if err := asks.ask(ctx, "Both.Meet", n, &place, nil); err != nil || place != n {
			return fmt.Errorf("Both.Meet(%d) = %d, %w", n, place, errOr(err))
		}
		for i := range 2 {
			if err := askText(ctx, asks, "Both.Quick", fmt.Sprint(n, i)); err != nil {
				return err
			}
			if err := askText(ctx, asks, "Both.Relay", fmt.Sprint(n, i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestBothEndsGiveUp(t *testing.T) {
	eachWay(t, func(t *testing.T, asks, answers *end, n int) error {
		key := fmt.Sprint(n)
		var ctx context.Context
		var cancel context.CancelFunc
		want := codeCancelled
		if n%2 == 0 {
			ctx, cancel = context.WithCancel(context.Background())
		} else {
			ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
			want = codeDeadline
		}
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- asks.ask(ctx, "Both.Block", key, nil, nil) }()
		if n%2 == 0 {
			<-answers.both.entered
			cancel()
		}
		err := <-ended
		if f := (*fault)(nil); !errors.As(err, &f) || f.Code != want {
			return fmt.Errorf("a call that was given up ends with %w; want code %d", errOr(err), want)
		}
		return askText(context.Background(), asks, "Both.Quick", key)
	})
}

// Each argument and each result is larger than what the sockets hold, in both directions at once. Whoever
// does not read while it writes stops here for ever.
func TestBothEndsWriteAtOnce(t *testing.T) {
	for _, kind := range carriers() {
		if kind.name == "local/1-byte reads" || kind.name == "tcp/headers, 1-byte reads" {
			continue // 7 MB in as many reads; what it would show, the others do
		}
		t.Run(kind.name, func(t *testing.T) {
			ours, theirs := kind.connect(t)
			narrow(ours)
			narrow(theirs)
			a, b := newEnd(t, ours, kind.speak, crowd), newEnd(t, theirs, kind.speak, crowd)
			errs := make(chan error, 2*crowd)
			for n := range crowd {
				for _, e := range []*end{a, b} {
					go func() {
						want := bytes.Repeat([]byte{byte(n)}, 40<<10+n)
						var got []byte
						err := e.ask(context.Background(), "Both.Bytes", want, &got, nil)
						if err == nil && !bytes.Equal(got, want) {
							err = fmt.Errorf("Both.Bytes of %d bytes gave other ones", len(want))
						}
						errs <- err
					}()
				}
			}
			for range 2 * crowd {
				if err := receive(t, errs); err != nil {
					t.Error(err)
				}
			}
			a.hangUp(t, b)
		})
	}
}

// Whoever refuses a call does not wait for the other end to read, which may be refusing one, too.
func TestBothEndsRefuseAtOnce(t *testing.T) {
	ours, theirs := overEndpoint(localEndpoint)(t)
	narrow(ours)
	narrow(theirs)
	speak := func(in *input, l limits) codec { return newJSONCodec(in, l, framingValue) }
	a, b := newEnd(t, ours, speak, crowd), newEnd(t, theirs, speak, crowd)
	const many = 300
	arg := bytes.Repeat([]byte{'a'}, 20<<10)
	errs := make(chan error, 2*many)
	for range many {
		go func() { errs <- a.ask(context.Background(), "Both.None", arg, nil, nil) }()
		go func() { errs <- b.ask(context.Background(), "Both.None", arg, nil, nil) }()
	}
	for range 2 * many {
		if err := receive(t, errs); !errors.Is(err, &fault{Code: codeNoMethod}) {
			t.Fatalf("a call of a method that is not there ends with %v", err)
		}
	}
	a.hangUp(t, b)
}

// An end that leaves answers what it has begun and begins nothing more; its own calls are answered.
func TestEitherEndLeaves(t *testing.T) {
	for _, kind := range carriers() {
		for _, first := range []string{"who dialled", "who accepted"} {
			t.Run(kind.name+"/"+first, func(t *testing.T) {
				ours, theirs := kind.connect(t)
				if first == "who accepted" {
					ours, theirs = theirs, ours
				}
				leaves, stays := newEnd(t, ours, kind.speak, crowd), newEnd(t, theirs, kind.speak, crowd)
				answers := make(chan error, 2*crowd)
				for n := range crowd {
					go func() { answers <- askText(context.Background(), leaves, "Both.Block", fmt.Sprint(n)) }()
					go func() { answers <- askText(context.Background(), stays, "Both.Block", fmt.Sprint(n)) }()
				}
				for range crowd {
					receive(t, leaves.both.entered)
					receive(t, stays.both.entered)
				}
				leaves.leave()
				if err := stays.ask(context.Background(), "Both.Quick", "late", nil, nil); !errors.Is(err, errShuttingDown) {
					t.Errorf("a call of one who leaves ends with %v; want %v", err, errShuttingDown)
				}
				close(stays.both.release)
				close(leaves.both.release)
				for range 2 * crowd {
					if err := receive(t, answers); err != nil {
						t.Error(err)
					}
				}
				if err := receive(t, leaves.over); err != nil {
					t.Errorf("serve of one who leaves = %v", err)
				}
				ours.Close()
				receive(t, stays.over)
				theirs.Close()
			})
		}
	}
}

// Nobody's message ends what a client has in flight: a request is answered, whatever answers no call of ours is not, and
// an answer that cannot be taken ends its own call.
func TestClientOutlivesWhatItDidNotAskFor(t *testing.T) {
	for name, framing := range map[string]framing{"values": framingValue, "lines": framingLine, "headers": framingHeader} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			theirs.SetDeadline(time.Now().Add(testPatience))
			l := defaultLimits()
			l.MaxMessage = 1 << 10
			in := newInput(ours, l)
			c := newClient(endpoint{Scheme: "unix", Path: "/x"}, ours, nil, newJSONCodec(in, l, framing), in, dialOptions{limits: l})
			defer c.close()
			from := bufio.NewReader(theirs)
			next := func() string {
				t.Helper()
				b, err := readAnswer(from, framing == framingHeader)
				if err != nil {
					t.Fatalf("the client says nothing more: %v", err)
				}
				return strings.TrimSpace(string(b))
			}
			say := func(text string) {
				t.Helper()
				if framing == framingHeader {
					text = fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text)
				}
				send(t, theirs, text+"\n")
			}
			begin := func(id int) <-chan error {
				t.Helper()
				done := inBackground(context.Background(), c, "Echo.Say", "a")
				if got, want := next(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Echo.Say","params":["a"]}`, id); got != want {
					t.Fatalf("the client sends %s; want %s", got, want)
				}
				return done
			}
			long := `"` + strings.Repeat("a", 100<<10) + `"`
			done, tooLong, empty := begin(1), begin(2), begin(3)
			for _, text := range []string{
				`{"jsonrpc":"2.0","method":"Some.Event","params":["x"]}`,
				`{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":2}}`,
				`{"jsonrpc":"2.0","id":77,"result":"for nobody"}`,
				`{"jsonrpc":"2.0","id":78}`, `{"jsonrpc":"2.0","id":null,"result":1}`, `{"jsonrpc":"2.0","id":"1","result":1}`,
				`"ready"`, `5`, `null`, `true`, `[]`, `[1,"a",{}]`, `{}`, `{"result":1}`, `{"error":"x"}`, `{"error":{"code":-32700,"message":"x"}}`,
				`{"jsonrpc":"2.0","id":{},"method":"Some.Method"}`, `{"jsonrpc":"2.0","id":5,"method":7}`, `{"jsonrpc":"3.0","method":"Some.Event"}`,
				long, `{"jsonrpc":"2.0","method":"Some.Event","params":[` + long + `]}`, `{"jsonrpc":"2.0","result":` + long + `,"id":77}`,
			} {
				say(text)
			}
			for request, want := range map[string]string{
				`{"jsonrpc":"2.0","id":6,"method":"Some.Method","parts":{}}`:                       `{"jsonrpc":"2.0","id":6,"error":{"code":-32600,"message":"parts is an object; expected a string or a number"}}`,
				`{"jsonrpc":"2.0","id":"theirs","method":"Some.Method"}`:                           `{"jsonrpc":"2.0","id":"theirs","error":{"code":-32601,"message":"this end of the connection has no methods"}}`,
				`{"jsonrpc":"2.0","method":"Some.Method","params":[` + long + `],"id":"and long"}`: `{"jsonrpc":"2.0","id":"and long","error":{"code":-32001,`,
			} {
				say(request)
				if got := next(); !strings.HasPrefix(got, want) {
					t.Errorf("%.80s is answered with %s; want %s", request, got, want)
				}
			}
			say(`{"jsonrpc":"2.0","result":` + long + `,"id":2e0}`)
			checkCode(t, "a call whose answer is too long", receive(t, tooLong), codeTooLarge, "max_message")
			say(`{"jsonrpc":"2.0","id":30e-1}`)
			checkCode(t, "a call whose answer has no result", receive(t, empty), codeInternal, "neither a result nor an error")
			say(`{"jsonrpc":"2.0","id":1.0,"result":"a"}`)
			must(t, receive(t, done))
		})
	}
}

func TestPostNeverWaits(t *testing.T) {
	ours, theirs := net.Pipe() // which holds nothing
	e := newEnd(t, ours, func(in *input, l limits) codec { return newJSONCodec(in, l, framingValue) }, 1)
	var err error
	for sent := 0; err == nil; sent++ {
		if sent > 100 {
			t.Fatal("much more than may wait was taken")
		}
		err = e.post("Some.Event", string(bytes.Repeat([]byte{'a'}, 32<<10)))
	}
	checkCode(t, "a notification that a peer does not read", err, codeBusy, "does not read")
	theirs.Close()
	receive(t, e.over)
	ours.Close()
}

// A caller that handles its parts slowly gets all of them: the peer is not read meanwhile.
func TestPartsWaitForWhoHandlesThem(t *testing.T) {
	const parts = 40
	ours, theirs := overEndpoint(localEndpoint)(t)
	defer theirs.Close()
	l := defaultLimits()
	in := newInput(ours, l)
	c := newClient(endpoint{Scheme: "unix", Path: "/x"}, ours, nil, newJSONCodec(in, l, framingValue), in, dialOptions{limits: l})
	defer c.close()
	begun := make(chan struct{})
	go func() {
		for i := range parts {
			send(t, theirs, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":"%d%s"}}`, i, strings.Repeat("a", l.StreamWindow/4)))
			if i == 3 { // as many as are taken while the first one is handled
				close(begun)
			}
		}
		send(t, theirs, `{"jsonrpc":"2.0","id":1,"result":1}`)
	}()
	handled := 0
	err := c.session.ask(context.Background(), "Some.Method", nil, nil, func(value document) error {
		<-begun
		if !strings.HasPrefix(string(value), fmt.Sprintf(`"%da`, handled)) {
			t.Errorf("part %d begins with %.5s", handled, value)
		}
		handled++
		return nil
	})
	if must(t, err); handled != parts {
		t.Errorf("%d parts came; want %d", handled, parts)
	}
}

// A peer that takes no more is given up, also where it was we who asked.
func TestEndThatCannotAskIsOver(t *testing.T) {
	ours, theirs := overEndpoint(localEndpoint)(t)
	defer ours.Close()
	defer theirs.Close()
	narrow(ours)
	l := defaultLimits()
	l.Write = 100 * time.Millisecond
	in := newInput(ours, l)
	s := newSession(&shared{finder: newRouter(), meter: &meter{}, foreman: &foreman{}}, theOwner, newJSONCodec(in, l, framingValue), in, ours, &l, nil)
	over := make(chan error, 1)
	go func() { over <- s.serve() }()
	if err := s.ask(context.Background(), "Some.Method", strings.Repeat("a", 4<<20), nil, nil); err == nil {
		t.Error("a call that could not be sent was answered")
	}
	if err := receive(t, over); err == nil {
		t.Error("serve says nothing of a peer that did not read")
	}
}

// A peer that does not read is not read either, whoever finds that out: here it is one who appends, while a call of ours is out.
func TestWhoDoesNotReadIsNotRead(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	l := defaultLimits()
	l.Write = time.Millisecond
	in := newInput(ours, l)
	s := newSession(&shared{finder: newRouter(), meter: &meter{}, foreman: &foreman{}}, theOwner, newJSONCodec(in, l, framingValue), in, ours, &l, nil)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	_, _, err := s.enlist(&pendingCall{method: "Far.Say", wake: make(chan struct{}, 1)})
	must(t, err)
	for err == nil {
		err = s.out.append(s.codec, &message{kind: notification}, strings.Repeat("a", 2*outputFull))
	}
	receive(t, served)
	ours.Close()
}
