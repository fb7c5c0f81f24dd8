package main

// This file owns the tests of what makes calls fast and could go wrong by it: callers that read
// for others, methods that the reader runs, and buffers that are lent. No test here asks how
// fast; e2e_bench_test.go does.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bytesEcho is Trial.Bytes for a stock server.
type bytesEcho struct{}

func (bytesEcho) Bytes(b []byte, reply *[]byte) error {
	*reply = b
	return nil
}

// narrow makes the buffers of a socket small. Much smaller ones, and TCP waits for its timers.
func narrow(conn net.Conn) {
	if c, ok := conn.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}); ok {
		c.SetReadBuffer(64 << 10)
		c.SetWriteBuffer(64 << 10)
	}
}

// startStock serves the calls of the standard library's clients with its own server, and returns
// where.
func startStock(t *testing.T, serve func(server *rpc.Server, conn net.Conn)) endpoint {
	t.Helper()
	server := rpc.NewServer()
	if err := server.RegisterName("Trial", bytesEcho{}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			narrow(conn)
			all.Go(func() { serve(server, conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return mustParse(t, "tcp://"+l.Addr().String()+"?auth=none")
}

// Both directions are full all the time: each argument and each result is larger than what the
// sockets hold. Whoever does not read while it writes stops here for ever.
func TestFullSockets(t *testing.T) {
	local, tcp := localEndpoint(t), mustParse(t, "tcp://127.0.0.1:0?auth=none")
	s := startServerWith(t, nil, local, tcp)
	stockGob := startStock(t, func(server *rpc.Server, conn net.Conn) { server.ServeConn(conn) })
	stockJSON := startStock(t, func(server *rpc.Server, conn net.Conn) { server.ServeCodec(jsonrpc.NewServerCodec(conn)) })
	const callers, size = 8, 256 << 10
	for _, row := range []struct {
		name   string
		server endpoint
		dial   func(t testing.TB, e endpoint) caller
	}{
		{"gob", s.endpoints[0], dialOurs(protoGob)},
		{"jsonrpc", s.endpoints[0], dialOurs(protoJSON)},
		{"gob over TCP", s.endpoints[1], dialOurs(protoGob)},
		{"stock client", s.endpoints[0], func(t testing.TB, e endpoint) caller {
			conn := noDeadline(rawDial(t, e))
			narrow(conn)
			return stockCaller{rpc.NewClient(conn)}
		}},
		{"stock server, gob", stockGob, dialOurs(protoGob)},
		{"stock server, jsonrpc", stockJSON, dialOurs(protoJSON)},
	} {
		// A caller that may give up does not read for itself.
		for _, mayGiveUp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/may give up %t", row.name, mayGiveUp), func(t *testing.T) {
				c := row.dial(t, row.server)
				defer c.close()
				if c, ok := c.(*client); ok {
					narrow(c.conn)
				}
				ctx := context.Background()
				if mayGiveUp {
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					defer cancel()
				}
				ended := make(chan error, callers)
				for i := range callers {
					go func() { ended <- bytesThere(ctx, c, bytes.Repeat([]byte{byte(i)}, size+i)) }()
				}
				for range callers {
					if err := receive(t, ended); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// bytesThere sends bytes there and back, twice.
func bytesThere(ctx context.Context, c caller, want []byte) error {
	for range 2 {
		var got []byte
		if err := c.call(ctx, "Trial.Bytes", want, &got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("Trial.Bytes of %d bytes = %d bytes, or other ones", len(want), len(got))
		}
	}
	return nil
}

// The reader runs methods by itself. One that does not return must not keep it.
func TestSlowCallHoldsUpNobody(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	for _, p := range []proto{protoGob, protoJSON} {
		c := dialOurs(p)(t, s.endpoints[0])
		defer c.close()
		checkSay(t, c, "before")
		blocked := inBackground(context.Background(), c, "Trial.Block", "a")
		s.begun(1)
		said := make(chan error, 1)
		go func() { said <- c.call(context.Background(), "Echo.Say", "meanwhile", nil) }()
		if err := receive(t, said); err != nil {
			t.Errorf("a call beside one that blocks = %v; want its answer", err)
		}
		select {
		case err := <-blocked:
			t.Errorf("the call that blocks ended with %v", err)
		default:
		}
		defer receive(t, blocked)
	}
	s.freeAll()
}

// Whoever sends faster than it reads is slowed down, not refused, and does not make the method slow for others.
func TestSlowReaderIsSlowedDown(t *testing.T) {
	for _, where := range []string{"in the reader", "aside"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // so that the pauses are the session's whole time, on any machine
				ours, theirs := net.Pipe()
				e := newEnd(t, ours, func(in *input, l limits) codec { return newJSONCodec(in, l, framingValue) }, 1)
				m, f := e.finder.find("Both.Long", e.peer)
				if f != nil {
					t.Fatal(f)
				}
				if where == "aside" {
					m.slow.Store(1 << 20)
				}
				const calls, pauses = 3000, 10
				var requests strings.Builder // in one write: the reader answers many before it has to read again
				for i := range calls {
					fmt.Fprintf(&requests, `{"jsonrpc":"2.0","id":%d,"method":"Both.Long","params":[4000]}`, i)
				}
				go io.WriteString(theirs, requests.String())
				lines := bufio.NewReader(theirs)
				for i := range calls {
					if i%(calls/pauses) == 0 {
						<-time.After(2 * roomWait)
					}
					line, err := lines.ReadString('\n')
					if err != nil || !strings.Contains(line, `"result"`) {
						t.Errorf("call %d is answered with %.200q, %v", i, line, err)
						break
					}
				}
				if n := m.slow.Load(); where == "in the reader" && n > 0 {
					t.Error("the method counts as slow")
				}
				theirs.Close()
				receive(t, e.over)
				ours.Close()
				<-time.After(2 * foremanRest * foremanTick) // the foreman's last rounds
			})
		})
	}
}

// A notification waits for room longer than a call, which is told when there is none; what is behind them is read all the same.
func TestNotificationsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		e := newEnd(t, ours, func(in *input, l limits) codec { return newJSONCodec(in, l, framingValue) }, 1)
		e.limits.MaxCalls = 1
		says := func(text string) { go io.WriteString(theirs, text) }
		const block = `{"jsonrpc":"2.0","method":"Both.Block","params":["%s"]}`
		lines := bufio.NewReader(theirs)
		says(`{"jsonrpc":"2.0","id":1,"method":"Both.Block","params":["a"]}` + fmt.Sprintf(block, "b"))
		if got := receive(t, e.both.entered); got != "a" {
			t.Fatalf("%s has begun; want a", got)
		}
		<-time.After(unheardWait / 2)
		e.both.release <- struct{}{}
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"result":"a"`) {
			t.Fatalf("a is answered with %s, %v", line, err)
		}
		if got := receive(t, e.both.entered); got != "b" {
			t.Fatalf("%s has begun; want b, which has waited", got)
		}
		says(fmt.Sprintf(block, "c") + `{"jsonrpc":"2.0","id":2,"method":"Both.Quick","params":["d"]}`)
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"id":2,"error":{"code":-32002,`) {
			t.Errorf("behind a notification that had no room there comes %s, %v; want -32002 for a call", line, err)
		}
		e.both.release <- struct{}{}
		theirs.Close()
		receive(t, e.over)
		ours.Close()
		select {
		case got := <-e.both.entered:
			t.Errorf("%s has begun, a second too late", got)
		default:
		}
		<-time.After(2 * foremanRest * foremanTick) // the foreman's last rounds
	})
}

// A long line on a channel has to be complete in time, as any message has.
func TestLongLineOfAChannelIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, theirs := net.Pipe()
		l := defaultLimits()
		ours := newChannel(raw, l, newLogger(&logBuffer{}, formatText, levelError))
		e := newEnd(t, ours, func(in *input, l limits) codec { return newJSONCodec(in, l, framingLine) }, 1)
		go io.WriteString(theirs, `{"jsonrpc":"2.0","id":7,"method":"Both.Quick","params":["`+strings.Repeat("x", nodeBegin))
		began := time.Now()
		line, err := bufio.NewReader(theirs).ReadString('\n')
		if late := time.Since(began); err != nil || late != l.Message || !strings.Contains(line, `"id":7,"error":{"code":-32001,`) || !strings.Contains(line, `"limit":"message"`) {
			t.Errorf("after %v there comes %s, %v; want -32001 for the call after %v", late, line, err, l.Message)
		}
		receive(t, e.over)
		theirs.Close()
		ours.Close()
	})
}

// The same for many, with callers that read for each other.
func TestManyCallersMeet(t *testing.T) {
	s := startServerWith(t, nil, localEndpoint(t))
	c := dialOurs(protoGob)(t, s.endpoints[0])
	defer c.close()
	const n = 64
	ended := make(chan error, n)
	for i := range n {
		go func() {
			got := -1
			err := c.call(context.Background(), "Trial.Meet", TrialPlace{n, i}, &got)
			if err == nil && got != i {
				err = fmt.Errorf("the answer for place %d is that for %d", i, got)
			}
			ended <- err
		}()
	}
	for range n {
		if err := receive(t, ended); err != nil {
			t.Error(err)
		}
	}
}

// What was lent for a large message is given back before the wait for the next one.
func TestLargeBuffersAreGivenBack(t *testing.T) {
	stream := bytes.NewReader([]byte(strings.Repeat("x", inputLend) + "y"))
	in := newInput(stream, defaultLimits())
	if b, err := in.need(inputLend, true); err != nil || strings.Trim(string(b), "x") != "" {
		t.Fatalf("need = %d bytes, %v; want as many x", len(b), err)
	}
	in.advance(inputLend)
	if b, err := in.need(1, false); err != nil || string(b) != "y" {
		t.Fatalf("need = %q, %v; want y", b, err)
	}
	in.advance(1)
	if err := in.more(false); err != io.EOF {
		t.Fatalf("more = %v; want EOF", err)
	}
	if n := cap(in.buf); n > inputKeep {
		t.Errorf("after %d bytes the input keeps %d; want %d at most", inputLend, n, inputKeep)
	}

	o := newOutput(io.Discard, &limits{}, nil)
	c := newGobCodec(in, defaultLimits(), request)
	for _, size := range []int{inputLend, inputLarge, 1} {
		err := o.append(c, &message{kind: response}, strings.Repeat("x", size))
		if err := errors.Join(err, o.flush()); err != nil {
			t.Fatal(err)
		}
		if n := cap(o.buf) + cap(o.spare); n > outputKeep {
			t.Errorf("after %d bytes the output keeps %d; want %d at most", size, n, outputKeep)
		}
	}
}

// What is flushed without blocking, until the peer has no room, arrives once and in order.
func TestFlushNow(t *testing.T) {
	l := defaultLimits()
	local := overEndpoint(localEndpoint)
	for name, connect := range map[string]func(t *testing.T) (net.Conn, net.Conn){
		"local":  local,
		"tcp":    overEndpoint(func(t testing.TB) endpoint { return mustParse(t, "tcp://127.0.0.1:0?auth=none") }),
		"memory": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
		"channel": func(t *testing.T) (net.Conn, net.Conn) {
			ours, theirs := local(t)
			return newChannel(ours, l, newLogger(&logBuffer{}, formatText, levelError)), theirs
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := connect(t)
			defer theirs.Close()
			defer ours.Close()
			o, c := newOutput(ours, &limits{Write: time.Hour}, nil), newJSONCodec(newInput(nil, l), l, framingLine)
			sent := 0
			for left := false; !left; left = o.flushNow() {
				if sent++; sent > 100_000 {
					t.Fatal("the peer has room without end")
				}
				must(t, o.append(c, &message{kind: notification, method: "Any.Thing"}, []any{sent, strings.Repeat("a", 10_000)}))
			}
			must(t, o.append(c, &message{kind: notification, method: "Any.Thing"}, []any{sent + 1, ""}))
			if o.flushNow() {
				t.Error("two goroutines would write at once")
			}
			go o.flushClaimed()
			for r, i := bufio.NewReader(theirs), 1; i <= sent+1; i++ {
				var got struct{ Params [1][2]any }
				line, err := r.ReadBytes('\n')
				must(t, err)
				if must(t, json.Unmarshal(line, &got)); got.Params[0][0] != float64(i) {
					t.Fatalf("message %d is %v", i, got.Params[0][0])
				}
			}
			must(t, o.drain())
		})
	}
}

// A call that was given up is not kept until its deadline, which may be far.
func TestCancelledCallsAreNotKept(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := s.connect()
	lines := bufio.NewReader(conn)
	before := heapInUse()
	for i := range 300 {
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Trial.Block","params":["%s"],"timeout":1e9}`, i, strings.Repeat("a", 64<<10)))
		receive(t, s.trial.entered)
		send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}`, i))
		if line, err := lines.ReadString('\n'); err != nil {
			t.Fatalf("a cancelled call is answered with %q, %v", line, err)
		}
	}
	conn.Close()
	s.idle()
	if after := heapInUse(); after > before+4<<20 {
		t.Errorf("300 calls of 64 KiB that were cancelled leave %d MiB behind", (after-before)>>20)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Streams sends parts whose encoding waits.
type Streams struct{ part *slowPart }

// Label sends a part whose encoder is a method of its pointer.
func (s *Streams) Label(ctx context.Context) error {
	return ctx.Value(callKey).(*call).sendPart(TrialLabel{"x"})
}

func (s *Streams) Send(ctx context.Context) (int, error) {
	return 0, ctx.Value(callKey).(*call).sendPart(s.part)
}

type slowPart struct{ entered, release chan struct{} }

// MarshalJSON implements json.Marshaler.
func (s *slowPart) MarshalJSON() ([]byte, error) {
	s.entered <- struct{}{}
	<-s.release
	return []byte("1"), nil
}

func TestNoPartComesAfterTheAnswer(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	streams := &slowPart{entered: make(chan struct{}), release: make(chan struct{})}
	must(t, addReceiver(s.router, &Streams{streams}, nil))
	conn := s.connect()
	lines := bufio.NewReader(conn)
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Streams.Label","parts":0}`)
	for _, want := range []string{`{"jsonrpc":"2.0","method":"$/progress","params":{"token":0,"value":"<x>"}}`, `{"jsonrpc":"2.0","id":1,"result":null}`} {
		if line, err := lines.ReadString('\n'); line != want+"\n" {
			t.Errorf("there comes %q, %v; want %q", line, err, want)
		}
	}
	send(t, conn, `{"jsonrpc":"2.0","id":2,"method":"Streams.Send","parts":1}`)
	receive(t, streams.entered)
	send(t, conn, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":2}}`+sayRequest)
	var both strings.Builder // in any order
	for range 2 {
		line, err := lines.ReadString('\n')
		must(t, err)
		both.WriteString(line)
	}
	for _, want := range []string{sayAnswer, `{"jsonrpc":"2.0","id":2,"error":{"code":-32800,`} {
		if !strings.Contains(both.String(), want) {
			t.Errorf("there comes %q; want %q", both.String(), want)
		}
	}
	close(streams.release)
	send(t, conn, sayRequest)
	if line, err := lines.ReadString('\n'); line != sayAnswer {
		t.Errorf("behind the answer comes %q, %v; want %q", line, err, sayAnswer)
	}
}

// A SlowCode is encoded when it may go on.
type SlowCode struct{ begun, goOn chan struct{} }

func (c SlowCode) MarshalJSON() ([]byte, error) {
	close(c.begun)
	<-c.goOn
	return []byte("1"), nil
}

func (c SlowCode) GobEncode() ([]byte, error) { return c.MarshalJSON() }

// While one answer is encoded, others are written.
func TestEncodingHoldsUpNobody(t *testing.T) {
	l := defaultLimits()
	in := newInput(nil, l)
	for name, c := range map[string]codec{"json": newJSONCodec(in, l, framingValue), "gob": newGobCodec(in, l, request)} {
		var sent bytes.Buffer
		o := newOutput(&sent, &limits{}, nil)
		slow := SlowCode{make(chan struct{}), make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- o.append(c, &message{kind: response}, slow) }()
		receive(t, slow.begun)
		if err := errors.Join(o.append(c, &message{kind: response}, "quick"), o.flush()); err != nil || !bytes.Contains(sent.Bytes(), []byte("quick")) {
			t.Errorf("%s: meanwhile %q, %v", name, sent.Bytes(), err)
		}
		close(slow.goOn)
		if err := receive(t, done); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
