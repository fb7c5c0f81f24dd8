package main

// This file owns the budgets of memory: who goes on, who waits, and who is refused.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/rpc"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testAccounts(user, all int) (ada, bob *account) {
	b := newBudget(limits{UserMemory: user, Memory: all})
	return &account{budget: b}, &account{budget: b}
}

// What is not read has room up to what its user may hold, and up to that of all unless the user has but little of it. The first always has.
func TestBudgetOfWhatIsNotRead(t *testing.T) {
	ada, bob := testAccounts(100, 150)
	for _, step := range []struct {
		name string
		a    *account
		n    int
		want string // the limit that refuses it
	}{
		{"the first, however large", ada, 120, ""},
		{"one more", ada, 1, userMemoryLimit},
		{"the first of another user", bob, 20, ""},
		{"as much as there is for all", bob, 10, ""},
		{"beyond that", bob, 1, memoryLimit},
	} {
		if may, got := step.a.mayOwe(step.n), limitOf(step.a.owe(step.n)); got != step.want || may != (got == "") {
			t.Errorf("%s is refused by %q, and may be there: %v; want %q", step.name, got, may, step.want)
		}
	}
	bob.holdUnread(-30)
	for range 5 {
		if f := bob.owe(5); f != nil { // beyond what is there for all, but a quarter of what a user may hold
			t.Error(f)
		}
	}
	if got := limitOf(bob.owe(10)); got != memoryLimit {
		t.Errorf("more than a quarter is refused by %q; want %q", got, memoryLimit)
	}
	ada.holdUnread(-120)
	bob.holdUnread(-25)
	for _, n := range []int64{ada.unread.Load(), bob.own.Load(), ada.budget.unread.Load(), ada.budget.held.Load()} {
		if n != 0 {
			t.Errorf("%d bytes are held in the end", n)
		}
	}
}

func TestBudgetOfAUser(t *testing.T) {
	ada, bob := testAccounts(100, 1000)
	first, second, other := &input{}, &input{}, &input{}
	for _, step := range []struct {
		name string
		a    *account
		in   *input
		n    int
		want string // the limit that refuses it
	}{
		{"the first message", ada, first, 80, ""},
		{"a second one of the same user", ada, second, 30, userMemoryLimit},
		{"less of it", ada, second, 20, ""},
		{"the first goes on beyond the budget", ada, first, 500, ""},
		{"the second does not", ada, second, 1, userMemoryLimit},
		{"one of another user", bob, other, 100, ""},
		{"the oldest one of that user", bob, other, 150, ""},
		{"beyond what is there for all", bob, other, 200, memoryLimit},
	} {
		f := step.a.reserve(step.in, step.n, false)
		if got := limitOf(f); got != step.want {
			t.Errorf("%s is refused by %q; want %q", step.name, got, step.want)
		}
	}
	ada.grown(first)
	ada.holdRead(-580)
	if f := ada.reserve(second, 300, false); f != nil { // it is the oldest one now
		t.Error(f)
	}
	ada.grown(second)
	bob.grown(other)
	ada.holdRead(-320)
	bob.holdRead(-250)
	if ada.own.Load() != 0 || ada.read.Load() != 0 || ada.budget.read.Load() != 0 || ada.budget.held.Load() != 0 || len(ada.growing) != 0 || len(ada.first) != 0 {
		t.Errorf("in the end %d bytes are held, %d of all, by %d messages", ada.own.Load(), ada.budget.held.Load(), len(ada.growing))
	}
}

// limitOf is the limit that a fault names.
func limitOf(f *fault) string {
	if f == nil {
		return ""
	}
	return f.data().Limit
}

// A message waits for room, and no longer than that.
func TestBudgetIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ada, _ := testAccounts(100, 1000)
		first, second := &input{}, &input{}
		if f := ada.reserve(first, 90, true); f != nil {
			t.Fatal(f)
		}
		began := time.Now()
		if f := ada.reserve(second, 50, true); limitOf(f) != userMemoryLimit {
			t.Errorf("the second message is refused by %v", f)
		}
		if took := time.Since(began); took != budgetWait {
			t.Errorf("it is refused after %v; want %v", took, budgetWait)
		}
		done := make(chan *fault)
		go func() { done <- ada.reserve(second, 50, true) }()
		synctest.Wait()
		ada.release(40)
		if f := <-done; f != nil {
			t.Errorf("with room the second message is refused: %v", f)
		}
		go func() { done <- ada.reserve(second, 50, true) }()
		synctest.Wait()
		ada.grown(first) // now it is the oldest one
		if f := <-done; f != nil {
			t.Errorf("as the oldest one it is refused: %v", f)
		}
	})
}

// crowdedServer has one connection in the middle of a message that takes more than the budget of the user.
func crowdedServer(t *testing.T, e endpoint) (s *testServer, end func()) {
	s = startServerWith(t, func(l *limits) { l.UserMemory, l.MaxMessage = 1<<20, 8<<20 }, e)
	s.budget.wait = 10 * time.Millisecond
	first := s.connect()
	send(t, first, `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["`+strings.Repeat("a", 2<<20))
	waitFor(t, func() error {
		if s.budget.held.Load() < 2<<20 {
			return errors.New("it has not come that far")
		}
		return nil
	})
	return s, func() {
		t.Helper()
		go send(t, first, `"]}`)
		var answer struct{ Result string }
		must(t, json.NewDecoder(first).Decode(&answer))
		if len(answer.Result) != 2<<20 {
			t.Errorf("the message that began first is answered with %d bytes", len(answer.Result))
		}
	}
}

// A message for which there is no memory is refused, whatever it is spoken in; the connection goes on, and so does the message
// that began first.
func TestMessageBeyondTheBudgetIsRefused(t *testing.T) {
	long := strings.Repeat("b", 1<<20)
	t.Run("JSON", func(t *testing.T) {
		s, end := crowdedServer(t, localEndpoint(t))
		conn := s.connect()
		answers := json.NewDecoder(conn)
		go send(t, conn, `{"jsonrpc":"2.0","id":7,"method":"Echo.Say","params":["`+long+`"]}{"jsonrpc":"2.0","id":8,"method":"Echo.Say","params":["short"]}`)
		var refused struct {
			ID    int
			Error fault
		}
		must(t, answers.Decode(&refused))
		if d := refused.Error.data(); refused.ID != 7 || refused.Error.Code != codeBusy || d.Limit != userMemoryLimit || !d.Retry {
			t.Errorf("the answer is %+v", refused)
		}
		var next struct {
			ID     int
			Result string
		}
		if err := answers.Decode(&next); err != nil || next.ID != 8 || next.Result != "short" {
			t.Errorf("then there comes %+v, %v", next, err)
		}
		end()
		checkSay(t, dialOurs(protoJSON)(t, s.endpoints[0]), long) // there is room again
	})
	t.Run("gob", func(t *testing.T) {
		s, end := crowdedServer(t, localEndpoint(t))
		c := rpc.NewClient(s.connect())
		defer c.Close()
		var got string
		if err := c.Call("Echo.Say", long, &got); err == nil || !strings.Contains(err.Error(), "the messages of this user take too much memory (limit user_memory = 1048576) (code -32002)") {
			t.Errorf("the call ends with %v", err)
		}
		if err := c.Call("Echo.Say", "short", &got); err != nil || got != "short" {
			t.Errorf("the next call ends with %q, %v", got, err)
		}
		end()
	})
	t.Run("HTTP", func(t *testing.T) {
		s, end := crowdedServer(t, localEndpoint(t))
		web := http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return s.connect(), nil }, DisableKeepAlives: true}}
		for text, want := range map[string]int{long: http.StatusTooManyRequests, "short": http.StatusOK} {
			r, err := web.Post("http://localhost/call/Echo.Say", jsonType, strings.NewReader(`"`+text+`"`))
			must(t, err)
			r.Body.Close()
			if r.StatusCode != want {
				t.Errorf("a body of %d bytes is answered with %s; want %d", len(text), r.Status, want)
			}
		}
		end()
	})
}

// heavyCalls are calls of Trial.Block that take much memory, with ids from 1.
func heavyCalls(n int) string {
	var b strings.Builder
	for id := range n {
		fmt.Fprintf(&b, `{"jsonrpc":"2.0","id":%d,"method":"Trial.Block","params":["%s"]}`+"\n", id+1, strings.Repeat("a", 50<<10))
	}
	return b.String()
}

// A connection is not read on while its calls that run hold more than twice max_message.
func TestHeavyCallsWaitForOneAnother(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 64 << 10 }, localEndpoint(t))
	end := newLineEnd(s.connect())
	go send(t, end.Conn, heavyCalls(3)+`{"jsonrpc":"2.0","id":4,"method":"Echo.Say","params":["a"]}`+"\n")
	receive(t, s.trial.entered)
	receive(t, s.trial.entered)
	s.trial.release <- struct{}{}
	for i, want := range []string{`"id":[12],"result":"aa`, `"id":4,"result":"a"`} {
		line, err := end.lines.ReadString('\n')
		if err != nil || !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("answer %d is %s, %v; want %s", i+1, shorten(line, 100), err, want)
		}
		if i == 0 {
			receive(t, s.trial.entered) // the third has begun, and what is behind it is read
		}
	}
	s.freeAll()
	for range 2 {
		if line, err := end.lines.ReadString('\n'); err != nil || !strings.Contains(line, `"result":"aa`) {
			t.Errorf("in the end there comes %s, %v", shorten(line, 100), err)
		}
	}
}

// waitsHeavily sends two heavy calls, which run, and then one that waits for them to end; all of it is on the budget.
func waitsHeavily(t *testing.T, third string) (s *testServer, end *lineEnd) {
	t.Helper()
	return waitsHeavilyAt(t, localEndpoint(t), third)
}

func waitsHeavilyAt(t *testing.T, e endpoint, third string) (s *testServer, end *lineEnd) {
	t.Helper()
	s = startServerWith(t, func(l *limits) { l.MaxMessage, l.HalfClose = 64<<10, 10*time.Millisecond }, e)
	end = newLineEnd(s.connect())
	send(t, end.Conn, heavyCalls(2))
	s.begun(2)
	send(t, end.Conn, third)
	waitFor(t, func() error {
		s.budget.mu.Lock()
		defer s.budget.mu.Unlock()
		if held := s.budget.held.Load(); len(s.budget.growing) > 0 || held < 3*50<<10 {
			return fmt.Errorf("%d bytes are held, and %d messages on their way", held, len(s.budget.growing))
		}
		return nil
	})
	return s, end
}

// heavyCall is one more of heavyCalls, with these members.
func heavyCall(members string) string {
	return `{"jsonrpc":"2.0",` + members + `"method":"Trial.Block","params":["` + strings.Repeat("b", 50<<10) + `"]}` + "\n"
}

// What waits for room holds memory as well, until it is begun or refused.
func TestMessageThatWaitsIsOnTheBudget(t *testing.T) {
	s, end := waitsHeavily(t, heavyCall(`"id":3,`))
	s.freeAll()
	for range 3 {
		if line, err := end.lines.ReadString('\n'); err != nil || !strings.Contains(line, `"result":"`) {
			t.Errorf("there comes %s, %v", shorten(line, 100), err)
		}
	}
	waitFor(t, func() error {
		if held := s.budget.held.Load(); held >= inputLarge {
			return fmt.Errorf("%d bytes are held in the end", held)
		}
		return nil
	})
}

// The calls of a peer who goes while the reader waits for memory end, and so does the connection.
func TestCallerWhoWaitsForMemoryAndGoes(t *testing.T) {
	s, end := waitsHeavily(t, heavyCall(`"id":3,`))
	end.Close()
	for range 2 {
		if err := receive(t, s.trial.left); err != context.Canceled {
			t.Errorf("a call of one who has gone ends with %v", err)
		}
	}
	s.idle()
}

// Whoever notifies need not stay: the notification has the room of the calls for which nobody waits any more.
func TestNotifierWhoWaitsForMemoryAndGoes(t *testing.T) {
	s, end := waitsHeavily(t, heavyCall(""))
	end.Close()
	s.begun(1)
	for range 3 {
		receive(t, s.trial.left)
	}
	s.idle()
}

// The calls of a batch hold what is theirs, each until it has ended.
func TestCallsOfABatchAreOnTheBudget(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	end := newLineEnd(s.connect())
	send(t, end.Conn, "["+strings.TrimSpace(heavyCall(`"id":3,`))+`,{"jsonrpc":"2.0","id":4,"method":"Echo.Say","params":["a"]}]`+"\n")
	s.begun(1)
	send(t, end.Conn, `{"jsonrpc":"2.0","id":5,"method":"Ipcd.Ping"}`+"\n")
	if line, err := end.lines.ReadString('\n'); err != nil || !strings.Contains(line, "pong") {
		t.Fatalf("there comes %s, %v", shorten(line, 100), err)
	}
	if held := s.budget.held.Load(); held < 50<<10 || held >= 2*50<<10 {
		t.Errorf("%d bytes are held while a call with %d runs", held, 50<<10)
	}
	s.freeAll()
	if line, err := end.lines.ReadString('\n'); err != nil || !strings.Contains(line, `"id":4,"result":"a"`) {
		t.Errorf("there comes %s, %v", shorten(line, 100), err)
	}
}

// Once the large calls of a user that run hold the budget alone, not even the message that began first goes beyond it.
func TestManyLargeCallsOfOneUser(t *testing.T) {
	const most, size = 256 << 10, 50 << 10
	s := startServerWith(t, func(l *limits) { l.UserMemory = most }, localEndpoint(t))
	s.budget.wait = 10 * time.Millisecond
	run := 0
	for range 12 { // connections
		end := newLineEnd(s.connect())
		send(t, end.Conn, heavyCalls(1))
		refused := make(chan string, 1)
		go func() {
			line, _ := end.lines.ReadString('\n')
			refused <- line
		}()
		select {
		case <-s.trial.entered:
			run++
		case line := <-refused:
			if !strings.Contains(line, `"code":-32002`) || !strings.Contains(line, `"limit":"user_memory"`) {
				t.Errorf("a call is refused with %s", shorten(line, 200))
			}
		case <-time.After(testPatience):
			t.Fatal("a call is neither begun nor refused")
		}
	}
	if run*size > most+2*size || run*size < most-3*inputLarge { // a buffer is larger than the message in it
		t.Errorf("%d calls with %d bytes run; the budget is %d", run, size, most)
	}
	s.freeAll()
	waitFor(t, func() error {
		if held := s.budget.held.Load(); held > 12*inputKeep { // buffers of their own
			return fmt.Errorf("%d bytes are held in the end", held)
		}
		return nil
	})
	checkSay(t, dialOurs(protoJSON)(t, s.endpoints[0]), strings.Repeat("a", size)) // there is room again
}

// grownArgument is a gob value of which a few hundred bytes are size bytes of JSON: structs of which gob leaves out all fields.
func grownArgument(size int) any {
	const name = 1000
	f := reflect.StructField{Name: "A" + strings.Repeat("x", name-1), Type: reflect.TypeFor[int]()}
	n := size / (name + len(`{"":0},`))
	return reflect.MakeSlice(reflect.SliceOf(reflect.StructOf([]reflect.StructField{f})), n, n).Interface()
}

// What arrives as few bytes and becomes many counts as many, as long as the call runs.
func TestArgumentsThatGrowAreOnTheBudget(t *testing.T) {
	const most, size, crowd = 2 << 20, 512 << 10, 12
	s := startServerWith(t, func(l *limits) { l.UserMemory = most }, localEndpoint(t))
	s.budget.wait = 10 * time.Millisecond
	provider := newLineEnd(noDeadline(s.connect()))
	registration(t, provider, `{"methods":["Far.Say"]}`)
	run := make(chan bool, crowd)
	go func() {
		for {
			if _, err := provider.lines.ReadString('\n'); err != nil {
				return
			}
			run <- true
		}
	}()
	argument, running := grownArgument(size), 0
	var callers []*rpc.Client
	for range crowd {
		c := rpc.NewClient(noDeadline(s.connect()))
		callers = append(callers, c)
		call := c.Go("Far.Say", argument, new(string), make(chan *rpc.Call, 1))
		select {
		case <-run:
			running++
		case <-call.Done:
			if text := fmt.Sprint(call.Error); !strings.Contains(text, "limit user_memory = ") || !strings.Contains(text, "-32002") {
				t.Errorf("a call is refused with %v", text)
			}
		case <-time.After(testPatience):
			t.Fatal("a call is neither begun nor refused")
		}
	}
	if running*size > most+2*size || running*size < most-2*size {
		t.Errorf("%d calls with %d bytes run; the budget is %d", running, size, most)
	}
	waitFor(t, func() error { // the last one that was refused may still be let go of
		if held := int(s.budget.held.Load()); held < running*(size-1<<10) || held > (running+2)*size {
			return fmt.Errorf("%d bytes are held by %d calls with %d", held, running, size)
		}
		return nil
	})
	for _, c := range callers {
		c.Close()
	}
	provider.Close()
	waitFor(t, func() error {
		if held, read := s.budget.held.Load(), s.budget.read.Load(); held != 0 || read != 0 {
			return fmt.Errorf("%d bytes are held in the end, %d of large messages", held, read)
		}
		return nil
	})
}

// On one connection such a call waits, like any large one, until those that run let go of some memory.
func TestArgumentsThatGrowWaitForOneAnother(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 64 << 10 }, localEndpoint(t))
	provider := newLineEnd(noDeadline(s.connect()))
	registration(t, provider, `{"methods":["Far.Say"]}`)
	c := rpc.NewClient(noDeadline(s.connect()))
	done := make(chan *rpc.Call, 3)
	for range 3 {
		c.Go("Far.Say", grownArgument(50<<10), new(string), done)
	}
	number := regexp.MustCompile(`"id":(\d+)`)
	var ids []string
	next := func() {
		line, err := provider.lines.ReadString('\n')
		must(t, err)
		ids = append(ids, number.FindStringSubmatch(line)[1])
	}
	next()
	next()
	waitFor(t, func() error { // the third one has been read, and is in no call
		if held := s.budget.held.Load(); held < 3*(48<<10) {
			return fmt.Errorf("%d bytes are held", held)
		}
		return nil
	})
	send(t, provider.Conn, `{"jsonrpc":"2.0","id":"ping","method":"Ipcd.Ping"}`+"\n")
	if line, err := provider.lines.ReadString('\n'); err != nil || !strings.Contains(line, "pong") {
		t.Fatalf("the third call has begun: %s, %v", shorten(line, 100), err)
	}
	for i := range 3 {
		if i == 1 {
			next()
		}
		send(t, provider.Conn, `{"jsonrpc":"2.0","id":`+ids[i]+`,"result":"b"}`+"\n")
		must(t, receive(t, done).Error)
	}
	c.Close()
}

// The JSON of a gob value has room before it is made, whatever makes it large, and is never longer than a message may be.
func TestGobValueHasRoomAsJSON(t *testing.T) {
	const size = 150 << 10
	long, control := strings.Repeat("a", size), strings.Repeat("\x01", size)
	for _, k := range []struct {
		name     string
		argument any
		becomes  int
	}{
		{"structs", grownArgument(6 * size), 6 * size},
		{"controls", control, 6 * size},
		{"controls behind a letter of two bytes", "aä" + strings.Repeat("ä", size/4) + control[:size/2], 7 * size / 2},
		{"a key", map[string]int{control: 1}, 6 * size},
		{"bytes", []byte(long), 4 * size / 3},
		{"text", long, size},
	} {
		read := func(most, longest int) (in *input, a *account, d document, err error) {
			l := defaultLimits()
			l.MaxMessage = longest
			a, _ = testAccounts(most, 1<<30)
			a.wait = time.Millisecond
			in = newInput(bytes.NewReader(gobStream(t, k.argument)), l)
			in.account = a
			c := newGobCodec(in, l, request)
			var m message
			must(t, c.read(&m))
			err = c.body(&d)
			if in.made != 0 || in.growing {
				t.Errorf("%s: %d bytes are still reserved, as for a message on its way: %v", k.name, in.made, in.growing)
			}
			return in, a, d, err
		}
		in, a, d, err := read(1<<30, 16<<20)
		if err != nil || len(d) < k.becomes-1<<10 || len(d) > k.becomes+1<<10 {
			t.Errorf("%s: there are %d bytes, %v; want %d", k.name, len(d), err, k.becomes)
		}
		if own := int(a.own.Load()); in.last < len(d) || own < in.last || own > in.last+cap(in.buf)+in.kept {
			t.Errorf("%s: %d bytes have %d in their message, and %d are held", k.name, len(d), in.last, own)
		}
		in.close()
		if own, read := a.own.Load(), a.read.Load(); own != 0 || read != 0 {
			t.Errorf("%s: in the end %d bytes are held, %d of large messages", k.name, own, read)
		}
		if k.becomes < 5*size { // the message that began first goes on with that
			continue
		}
		in, a, d, err = read(size/8, 16<<20)
		var f *fault
		if !errors.As(err, &f) || len(d) > 0 || f.Code != codeBusy || f.data().Limit != userMemoryLimit {
			t.Errorf("%s: without room there are %d bytes, %v", k.name, len(d), err)
		}
		in.close()
		if own, read := a.own.Load(), a.read.Load(); own != 0 || read != 0 {
			t.Errorf("%s: without room %d bytes are held in the end, %d of large messages", k.name, own, read)
		}
		in, _, d, err = read(1<<30, k.becomes-2<<10)
		if !errors.As(err, &f) || len(d) > 0 || f.Code != codeTooLarge || f.data().Limit != "max_message" {
			t.Errorf("%s: beyond max_message there are %d bytes, %v", k.name, len(d), err)
		}
		in.close()
	}
}

// Whoever has gone beyond the budget does not keep the buffer for what comes behind the message.
func TestBufferBeyondTheBudgetIsGivenBack(t *testing.T) {
	ada, _ := testAccounts(100<<10, 1<<30)
	const size, behind = 1<<20 - 30<<10, 30 << 10
	in := newInput(strings.NewReader(strings.Repeat("a", size)+strings.Repeat("b", behind)), defaultLimits())
	in.account = ada
	if _, err := in.need(size+behind, false); err != nil {
		t.Fatal(err)
	}
	in.taken(size)
	left := int64(cap(in.buf)) // whatever somebody else has given back
	if own := ada.own.Load(); string(in.bytes()) != strings.Repeat("b", behind) || left > inputGuess || own != size+left {
		t.Errorf("%d bytes are left, and %d are held; want %d for them, no more than %d, and %d for the message", len(in.bytes()), own, left, inputGuess, size)
	}
	in.advance(0)
	if own, read := ada.own.Load(), ada.read.Load(); own != left || read != left {
		t.Errorf("behind the message %d bytes are held, %d of large messages; want %d", own, read, left)
	}
	in.close()
	if own, read := ada.own.Load(), ada.read.Load(); own != 0 || read != 0 {
		t.Errorf("in the end %d bytes are held, %d of large messages", own, read)
	}
}

// A provider is read on, since it may answer, and its own calls are refused instead.
func TestHeavyCallsOfAProviderAreRefused(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.MaxMessage = 64 << 10 }, localEndpoint(t))
	f := streamingAt(t, s, "")
	go send(t, f.provider.Conn, heavyCalls(3))
	receive(t, s.trial.entered)
	receive(t, s.trial.entered)
	f.hears(f.provider, `"error":{"code":-32002,"message":"the arguments of running calls`)
	send(t, f.provider.Conn, `{"jsonrpc":"2.0","id":1,"result":"b"}`)
	f.hears(f.caller, `"id":"a","result":"b"`)
	s.freeAll()
	f.hears(f.provider, `"result":"aa`, `"result":"aa`)
}

// Many connections of one user in the middle of large messages hold no more than the budget and one message. Each call has one
// answer, and the others are served meanwhile.
func TestManyLargeMessagesOfOneUser(t *testing.T) {
	const most, part, crowd = 8 << 20, 1500 << 10, 20
	s := startServerWith(t, func(l *limits) { l.UserMemory, l.MaxMessage = most, 2<<20 }, localEndpoint(t))
	s.budget.wait = 10 * time.Millisecond
	text := strings.Repeat("a", part)
	var conns []net.Conn
	var sent sync.WaitGroup
	for range crowd {
		conn := s.connect()
		conns = append(conns, conn)
		sent.Go(func() { send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["`+text) })
	}
	sent.Wait() // what is refused is read all the same; so most of each has been read
	// How little they hold is a matter of luck: where all grow evenly, the first alone may be left.
	if held := s.budget.held.Load(); held > most+4<<20 {
		t.Errorf("%d messages hold %d bytes; the budget is %d", crowd, held, most)
	}
	checkSay(t, dialOurs(protoGob)(t, s.endpoints[0]), "a small one")
	served := 0
	for _, conn := range conns {
		go send(t, conn, `"]}`)
		var answer struct {
			Result *string
			Error  *fault
		}
		must(t, json.NewDecoder(conn).Decode(&answer))
		switch {
		case answer.Error == nil && answer.Result != nil && *answer.Result == text:
			served++
		case answer.Error == nil || answer.Error.Code != codeBusy:
			t.Errorf("an answer has the error %v", answer.Error)
		}
	}
	if served == 0 || served == crowd {
		t.Errorf("%d of %d are answered", served, crowd)
	}
}

// Of a user who has many calls run, each with a small argument, no more begin once these hold twice the budget. Those of others do.
func TestManySmallCallsOfOneUser(t *testing.T) {
	const most = 64 << 10
	s := startServerWith(t, func(l *limits) { l.UserMemory = most }, localEndpoint(t))
	text, refused := strings.Repeat("a", 3<<10), 0
	var ends []*lineEnd
	for range 4 {
		end := newLineEnd(s.connect())
		ends = append(ends, end)
		for id := range 20 {
			send(t, end.Conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Trial.Block","params":["%s"]}`+"\n", id, text))
		}
		send(t, end.Conn, `{"jsonrpc":"2.0","id":20,"method":"Ipcd.Ping"}`+"\n") // which is never refused
		for last := false; !last; {
			line, err := end.lines.ReadString('\n')
			must(t, err)
			if last = strings.Contains(line, `"id":20`); !last {
				refused++
				if !strings.Contains(line, `"code":-32002`) || !strings.Contains(line, `"limit":"user_memory"`) {
					t.Errorf("a call is refused with %s", line)
				}
			} else if !strings.Contains(line, "pong") {
				t.Errorf("the ping is answered with %s", line)
			}
		}
	}
	if held := (80 - refused) * len(text); held < most || held > most+5*accountStep { // each connection has told of all but a step
		t.Errorf("%d calls were refused, and those that run hold %d bytes; the budget is %d", refused, held, most)
	}
	s.freeAll()
	for _, end := range ends {
		end.Close()
	}
	waitFor(t, func() error {
		if held := s.budget.held.Load(); held > 0 {
			return fmt.Errorf("%d bytes are held in the end", held)
		}
		return nil
	})
}

// The parts that wait for callers who do not read them are on the budget of these, and end with it.
func TestPartsThatWaitAreOnTheBudget(t *testing.T) {
	p := provide(t)
	const most = 2 << 20
	l := *p.limits()
	l.UserMemory = most
	p.budget.obey(l)
	var conns []net.Conn
	const crowd = 12
	for range crowd {
		conn := noDeadline(p.connect())
		narrow(conn)
		conns = append(conns, conn)
		send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Far.Flood","parts":"t"}`)
	}
	if err := receive(t, p.far.left); err == nil {
		t.Error("a stream has ended well")
	}
	if held := int(p.budget.held.Load()); held > 2*most+crowd*4*outputFull {
		t.Errorf("%d bytes are held; the budget is %d", held, most)
	}
	for _, conn := range conns {
		conn.Close()
	}
	for range crowd - 1 {
		receive(t, p.far.left)
	}
	waitFor(t, func() error {
		if held := p.budget.held.Load(); held > inputLarge { // the provider's own
			return fmt.Errorf("%d bytes are held in the end", held)
		}
		return nil
	})
}
