//go:build unix

package main

// This file owns the soak: a daemon that does a little of everything for long, as fast as it is answered or at a rate that is said.
// Every reply is checked against its request, and the daemon is as large in the end as it was after the first tenth.
//
//	IPCD_SOAK=1h IPCD_SOAK_RATE=3000 go test -v -timeout 2h -run 'TestSoak' .
//
// docs/reliability.md has the figures.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	soakShort = time.Second
	soakRoom  = 8 << 20 // what the heap may have more in the end: caches find their size late. A leak of 100 bytes a call takes that in 84,000 calls
	soakSpare = 32      // goroutines, descriptors and connections that may be begun or kept late
)

// soakTime is how long the soak lasts, and how many replies a second it has at most; 0 for as many as there are.
func soakTime(t *testing.T) (length time.Duration, rate int) {
	t.Helper()
	length = soakShort
	if text := os.Getenv("IPCD_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < soakShort {
			t.Fatalf("IPCD_SOAK is %q; want a time such as 5m", text)
		}
	}
	if text := os.Getenv("IPCD_SOAK_RATE"); text != "" {
		if _, err := fmt.Sscan(text, &rate); err != nil || rate < 1 {
			t.Fatalf("IPCD_SOAK_RATE is %q; want a number of replies a second", text)
		}
	}
	return length, rate
}

// A Soak is a provider beside the worker. It is called in every way that there is.
type Soak struct {
	notes   atomic.Int64 // notifications
	entered atomic.Int64 // calls of Wait
	left    atomic.Int64
	begun   sync.Map // of calls of Wait: a channel by the text, closed when it has begun
}

func (s *Soak) Echo(ctx context.Context, text string) (string, error) { return text, nil }

func (s *Soak) Note(ctx context.Context, text string) (bool, error) {
	s.notes.Add(1)
	return true, nil
}

// Parts sends as many parts as the text is long, at most 16, each with its number.
func (s *Soak) Parts(ctx context.Context, text string, part func(string) error) (string, error) {
	for i := range min(len(text), 16) {
		if err := part(fmt.Sprint(text, "/", i)); err != nil {
			return "", err
		}
	}
	return text, nil
}

// Wait waits until it is given up.
func (s *Soak) Wait(ctx context.Context, text string) (bool, error) {
	s.entered.Add(1)
	defer s.left.Add(1)
	if begun, ok := s.begun.Load(text); ok {
		close(begun.(chan struct{}))
	}
	<-ctx.Done()
	return false, ctx.Err()
}

// A soaking is one run of the soak.
type soaking struct {
	*testing.T
	d         *ranDaemon
	soak      *Soak
	endpoints []endpoint
	pace      chan struct{} // one for each reply that may be asked for; closed if there is no rate
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup

	turn sync.RWMutex // held for reading by each round, so that there is quiet between them

	mu        sync.Mutex
	replies   map[string]int // by chore
	withdrawn int
	notes     int64
	failed    error
}

// A chore is something that is done over and over, by one goroutine. round does it once with a text that nobody else has, and
// returns how many replies it has checked.
type chore struct {
	name  string
	round func(text string) (replies int, err error)
	end   func() error
}

func noEnd() error { return nil }

// do does a chore until the soak ends, or anything goes wrong.
func (s *soaking) do(c chore) {
	s.wg.Go(func() {
		n := 0
		var err error
		for err == nil && s.ctx.Err() == nil {
			var replies int
			text := fmt.Sprint(c.name, " ", n)
			if n%64 == 63 {
				text += strings.Repeat("~", 16<<10)
			}
			s.turn.RLock()
			replies, err = c.round(text)
			s.turn.RUnlock()
			s.count(c.name, replies)
			for n++; replies > 0 && s.ctx.Err() == nil; replies-- {
				select {
				case <-s.pace:
				case <-s.ctx.Done():
				}
			}
		}
		err = errors.Join(err, c.end())
		if err != nil {
			s.mu.Lock()
			s.failed = errors.Join(s.failed, fmt.Errorf("%s, round %d: %w", c.name, n, err))
			s.mu.Unlock()
			s.stop()
		}
	})
}

func (s *soaking) count(name string, replies int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[name] += replies
}

// total is how many replies there have been.
func (s *soaking) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, replies := range s.replies {
		n += replies
	}
	return n
}

// keepPace lets in so many replies a second, and has none of a standstill made up for but that of the last second.
func (s *soaking) keepPace(rate int) {
	if rate == 0 {
		s.pace = make(chan struct{})
		close(s.pace)
		return
	}
	s.pace = make(chan struct{}, rate)
	s.wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for began, given := time.Now(), 0; ; {
			select {
			case <-s.ctx.Done():
				return
			case <-tick.C:
			}
			for due := int(time.Since(began).Seconds() * float64(rate)); given < due; given++ {
				select {
				case s.pace <- struct{}{}:
				default:
					given = due
				}
			}
		}
	})
}

// saidBack wants an answer to be the text that was sent.
func saidBack(text, got string, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if got != text {
		return 0, fmt.Errorf("%s is answered with %s", shorten(text, 80), shorten(got, 80))
	}
	return 1, nil
}

// echoes are the methods that give back their text: of the daemon, of a provider, and of a worker.
var echoes = []string{"Echo.Say", "Soak.Echo", "Hand.Echo"}

// stays is a chore over one connection: with each protocol, with our client and with others.
func (s *soaking) stays(k clientKind, e endpoint) chore {
	c, n := k.dial(s, e), 0
	return chore{k.name + " " + e.Scheme, func(text string) (int, error) {
		n++
		var got string
		err := c.call(context.Background(), echoes[n%len(echoes)], text, &got)
		return saidBack(text, got, err)
	}, c.close}
}

// comes is a chore that connects for each call.
func (s *soaking) comes(p proto, e endpoint) chore {
	n := 0
	return chore{fmt.Sprintf("short %s %s", p, e.Scheme), func(text string) (int, error) {
		n++
		c, err := dial(s.ctx, e.withProto(p), dialOptions{limits: defaultLimits()})
		if err != nil {
			if s.ctx.Err() != nil {
				return 0, nil
			}
			return 0, err
		}
		var got string
		err = c.call(context.Background(), echoes[n%len(echoes)], text, &got)
		return saidBack(text, got, errors.Join(err, c.close()))
	}, noEnd}
}

// batches is a chore of batches, in which every other request is a notification.
func (s *soaking) batches(e endpoint) chore {
	conn := noDeadline(rawDial(s, e))
	in := json.NewDecoder(conn)
	const requests = 10
	return chore{"batch " + e.Scheme, func(text string) (int, error) {
		want := map[int]string{}
		var all []string
		for i := range requests {
			want[i] = fmt.Sprint(text, "/", i)
			all = append(all, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":[%q]}`, i, echoes[i%len(echoes)], want[i]),
				fmt.Sprintf(`{"jsonrpc":"2.0","method":"Soak.Note","params":[%q]}`, want[i]))
		}
		s.noted(requests)
		if _, err := io.WriteString(conn, "["+strings.Join(all, ",")+"]\n"); err != nil {
			return 0, err
		}
		var answers []struct {
			ID     int
			Result string
			Error  *fault
		}
		if err := in.Decode(&answers); err != nil {
			return 0, err
		}
		for _, a := range answers {
			if a.Error != nil || a.Result != want[a.ID] || want[a.ID] == "" {
				return 0, fmt.Errorf("request %d of %s is answered with %s, %v", a.ID, shorten(text, 80), shorten(a.Result, 80), a.Error)
			}
			delete(want, a.ID)
		}
		if len(want) > 0 {
			return 0, fmt.Errorf("%d requests of %s are not answered", len(want), shorten(text, 80))
		}
		return requests, nil
	}, conn.Close}
}

func (s *soaking) noted(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes += int64(n)
}

// notifies is a chore of notifications, with a call behind them: the next that comes is its answer.
func (s *soaking) notifies(e endpoint) chore {
	conn := noDeadline(rawDial(s, e))
	in, id := json.NewDecoder(conn), 0
	return chore{"notify " + e.Scheme, func(text string) (int, error) {
		id++
		note := fmt.Sprintf(`{"jsonrpc":"2.0","method":"Soak.Note","params":[%q]}`+"\n", text)
		s.noted(3)
		if _, err := fmt.Fprintf(conn, `%s{"jsonrpc":"2.0","id":%d,"method":"Soak.Echo","params":[%q]}`+"\n", strings.Repeat(note, 3), id, text); err != nil {
			return 0, err
		}
		var a struct {
			ID     int
			Result string
			Error  *fault
		}
		err := in.Decode(&a)
		if err == nil && (a.ID != id || a.Error != nil) {
			err = fmt.Errorf("behind notifications there comes an answer for %d, not %d: %v", a.ID, id, a.Error)
		}
		return saidBack(text, a.Result, err)
	}, conn.Close}
}

// streams is a chore of answers in parts.
func (s *soaking) streams(k clientKind, e endpoint) chore {
	c := k.dial(s, e)
	return chore{"parts " + k.name + " " + e.Scheme, func(text string) (int, error) {
		var got string
		parts := 0
		err := c.askParts(context.Background(), "Soak.Parts", text, &got, func(part document) error {
			var value string
			if err := json.Unmarshal(part, &value); err != nil || value != fmt.Sprint(text, "/", parts) {
				return fmt.Errorf("part %d of %s is %s, %w", parts, shorten(text, 80), shorten(value, 80), err)
			}
			parts++
			return nil
		})
		if err == nil && parts != 16 {
			err = fmt.Errorf("%s has %d parts", shorten(text, 80), parts)
		}
		return saidBack(text, got, err)
	}, c.close}
}

// events is a chore of events: a subscriber has each before the next one is published.
func (s *soaking) events(topic string, e endpoint) chore {
	subscriber, publisher := dialOurs(protoJSON)(s, e), dialOurs(protoJSON)(s, s.endpoints[0])
	came, over := make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		over <- subscriber.askParts(ctx, "Ipcd.Subscribe", map[string]any{"topics": []string{topic}}, nil, func(part document) error {
			var event struct {
				Subscribed []string
				Topic      string
				Data       string
			}
			if err := json.Unmarshal(part, &event); err != nil || event.Subscribed == nil && event.Topic != topic {
				return fmt.Errorf("a subscriber to %s is told %s, %w", topic, part, err)
			}
			came <- event.Data
			return nil
		})
	}()
	receive(s, came) // it has subscribed
	return chore{"events " + e.Scheme, func(text string) (int, error) {
		var got Published
		if err := publisher.call(context.Background(), "Ipcd.Publish", map[string]any{"topic": topic, "data": text}, &got); err != nil || got.ID == "" {
			return 0, fmt.Errorf("an event is published with the id %q: %w", got.ID, err)
		}
		select {
		case data := <-came:
			return saidBack(text, data, nil)
		case err := <-over:
			over <- err
			return 0, fmt.Errorf("a subscription ends: %w", err)
		}
	}, func() error {
		cancel()
		err := <-over
		if errors.Is(err, errCancelled) {
			err = nil
		}
		return errors.Join(err, subscriber.close(), publisher.close())
	}}
}

// gives is a chore of calls that their caller gives up, at a deadline and before.
func (s *soaking) gives(p proto, e endpoint) chore {
	c, n := dialOurs(p)(s, e), 0
	return chore{fmt.Sprintf("given up %s %s", p, e.Scheme), func(text string) (int, error) {
		s.mu.Lock()
		s.withdrawn++
		s.mu.Unlock()
		want := errDeadline
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		if n++; n%2 == 0 {
			cancel()
			want = errCancelled
			ctx, cancel = context.WithCancel(context.Background())
			begun := make(chan struct{})
			s.soak.begun.Store(text, begun)
			defer s.soak.begun.Delete(text)
			go func() {
				<-begun
				cancel()
			}()
		}
		defer cancel()
		if err := c.call(ctx, "Soak.Wait", text, nil); !errors.Is(err, want) {
			return 0, fmt.Errorf("a call that was given up ends with %w, not %v", err, want)
		}
		var got string // behind it the connection is as before
		err := c.call(context.Background(), "Soak.Echo", text, &got)
		return saidBack(text, got, err)
	}, c.close}
}

// A girth is how much there is of the daemon, and of those who call it, while nobody calls.
type girth struct {
	heap, callers        int64 // bytes
	resident             int64 // likewise, of the daemon; 0 where the system does not tell
	goroutines, open     int
	replies, connections int
}

// measure has everybody finish their round, and returns what there is then.
func (s *soaking) measure() (g girth) {
	s.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	waitFor(s, func() error { // those that were given up
		if entered, left := s.soak.entered.Load(), s.soak.left.Load(); entered != left {
			return fmt.Errorf("%d calls have been given up and go on", entered-left)
		}
		return nil
	})
	c := s.d.dial()
	defer c.close()
	var last Status
	settled := func() error {
		var now Status
		if err := ask(c, "Ipcd.Status", nil, &now); err != nil {
			return err
		}
		before := last
		if last = now; before.Connections != now.Connections || before.Goroutines != now.Goroutines {
			return fmt.Errorf("there are %d connections and %d goroutines, and were just %d and %d", now.Connections, now.Goroutines, before.Connections, before.Goroutines)
		}
		return nil
	}
	waitFor(s, settled)
	g.open = openDescriptors(s.d.cmd.Process.Pid)
	g.goroutines, g.connections = last.Goroutines, int(last.Connections)
	for range 2 { // what a pool has goes with the second collection
		answer, err := newHTTPClient(s, s.d.endpoint).Get("http://localhost/debug/pprof/heap?gc=1")
		must(s, err)
		must(s, answer.Body.Close())
	}
	must(s, ask(c, "Ipcd.Status", nil, &last))
	g.heap, g.callers = int64(last.Memory), int64(heapInUse())
	g.resident = residentBytes(s.d.cmd.Process.Pid)
	g.replies = s.total()
	return g
}

func TestSoak(t *testing.T) {
	length, rate := soakTime(t)
	config := filepath.Join(tempDir(t), "c.toml")
	must(t, os.WriteFile(config, []byte(oneHand), 0o600))
	defer os.Remove(config)
	s := &soaking{T: t, soak: &Soak{}, replies: map[string]int{}}
	s.ctx, s.stop = context.WithCancel(t.Context())
	defer s.stop()
	s.d = startRun(t, "ipcd", "--pprof", "--config", config, "--listen", "tcp://127.0.0.1:0?auth=none", "--log-level", "warn")
	s.endpoints = []endpoint{s.d.endpoint}
	for _, text := range s.d.status().Endpoints {
		if e := mustParse(t, text); e.Scheme == "tcp" {
			s.endpoints = append(s.endpoints, e)
		}
	}
	methods := newRouter()
	must(t, addReceiver(methods, s.soak, nil))
	h, err := dialHost(t.Context(), s.d.endpoint, methods, dialOptions{limits: defaultLimits()})
	must(t, err)
	defer h.close()
	must(t, ask(h, "Ipcd.Register", map[string]any{"methods": methods.methods(), "extensions": []string{"timeout", "parts"}}, nil))

	var chores []chore
	for i, e := range s.endpoints {
		for _, k := range clientKinds {
			chores = append(chores, s.stays(k, e))
		}
		for _, p := range []proto{protoJSON, protoGob, protoHTTP} {
			chores = append(chores, s.comes(p, e))
		}
		for _, k := range clientKinds {
			if k.name == "json2-ours" || k.name == "http-ours" || k.name == "json2-lines" {
				chores = append(chores, s.streams(k, e))
			}
		}
		chores = append(chores, s.batches(e), s.notifies(e), s.events(fmt.Sprint("soak.", i), e), s.gives(protoJSON, e), s.gives(protoHTTP, e))
	}
	began := time.Now()
	s.keepPace(rate)
	for _, c := range chores {
		s.do(c)
	}
	over := func(d time.Duration) {
		t.Helper()
		select {
		case <-time.After(d - time.Since(began)):
		case <-s.ctx.Done():
		}
	}
	over(length / 10)
	before := s.measure()
	for tenth := time.Duration(2); tenth < 10 && length >= time.Minute && s.ctx.Err() == nil; tenth++ {
		over(tenth * length / 10)
		t.Logf("after %d tenths: %+v", tenth, s.measure())
	}
	over(length)
	waitFor(t, func() error { // on a machine that has hardly come to it
		if n := s.total() - before.replies; n < 500 && s.ctx.Err() == nil {
			return fmt.Errorf("there were %d replies after the first tenth, too few to tell anything", n)
		}
		return nil
	})
	after := s.measure()
	s.stop()
	s.wg.Wait()
	if s.failed != nil {
		t.Error(s.failed)
	}
	waitFor(t, func() error {
		if n := s.soak.notes.Load(); n != s.notes {
			return fmt.Errorf("%d of %d notifications have come", n, s.notes)
		}
		return nil
	})
	if after.heap > before.heap+soakRoom || after.callers > before.callers+soakRoom {
		t.Errorf("the daemon has %d bytes in use after %d replies, and had %d after %d; its callers %d and %d", after.heap, after.replies, before.heap, before.replies, after.callers, before.callers)
	}
	if after.goroutines > before.goroutines+soakSpare || after.open > before.open+soakSpare || after.connections > before.connections+soakSpare {
		t.Errorf("the daemon has %d goroutines, %d descriptors and %d connections, and had %d, %d and %d", after.goroutines, after.open, after.connections, before.goroutines, before.open, before.connections)
	}
	names := make([]string, 0, len(s.replies))
	for name, n := range s.replies {
		if n == 0 && length > soakShort {
			t.Errorf("no replies of %s", name)
		}
		names = append(names, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(names)
	t.Logf("replies: %s", strings.Join(names, ", "))
	figure(t, "%v: %d replies, %d calls given up, %d notifications; after a tenth and in the end the daemon has %d and %d KiB in use, %d and %d KiB resident, %d and %d goroutines, %d and %d descriptors",
		length, s.total(), s.withdrawn, s.notes, before.heap>>10, after.heap>>10, before.resident>>10, after.resident>>10, before.goroutines, after.goroutines, before.open, after.open)
	must(t, h.close())
	s.d.terminate()
	s.d.ends(exitDone)
}
