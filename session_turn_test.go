package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// turnsOf returns turns of a user.
func turnsOf(f *foreman, u *turnUser, n int) []*turn {
	all := make([]*turn, n)
	for i := range all {
		all[i] = &turn{foreman: f}
		all[i].user.Store(u)
	}
	return all
}

// begun reports whether a turn has begun that was asked for.
func begun(t *turn) bool {
	select {
	case <-t.given:
		return true
	default:
		return false
	}
}

// wantRest wants that nobody has a turn any more after a while, and that the foreman has gone home.
func (f *foreman) wantRest(t *testing.T) {
	t.Helper()
	<-time.After(2 * userRest * foremanTick)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.walks || f.contended.Load() || len(f.begun) > 0 {
		t.Errorf("when all is over, walks = %v, contended = %v, and %d turns have not ended", f.walks, f.contended.Load(), len(f.begun))
	}
}

// A user who is alone waits for nothing; of several each has as many turns as there are processors.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, most := &foreman{}, runtime.GOMAXPROCS(0)
		var a, b turnUser
		mine, others := turnsOf(f, &a, most+3), turnsOf(f, &b, most+1)
		for _, one := range mine {
			one.take(func() { t.Error("somebody who is alone waits") })
			if one.has.Load() {
				t.Error("somebody who is alone has a turn")
			}
		}
		f.note(&b)
		for i, one := range mine {
			if !f.ask(one) || begun(one) != (i < most) {
				t.Errorf("turn %d of %d has begun: %v", i, most, i >= most)
			}
		}
		for i, one := range others {
			if !f.ask(one) || begun(one) != (i < most) {
				t.Errorf("turn %d of %d of the other user has begun: %v", i, most, i >= most)
			}
		}
		mine[0].end()
		if !begun(mine[most]) || begun(mine[most+1]) || begun(others[most]) {
			t.Error("the end of a turn does not begin that of the same user which has waited longest")
		}
		for _, one := range mine[1:] {
			one.end()
		}
		for _, one := range others {
			one.end()
		}
		for _, one := range append(mine, others...) { // those that had to wait for the last ones
			one.end()
		}
		f.wantRest(t)
		if a.running != 0 || b.running != 0 {
			t.Errorf("when all is over, %d and %d turns run", a.running, b.running)
		}
	})
}

// Who has spent the time that they may spend in a tick waits for the next one, and pays for what was too much.
func TestTurnsHaveAnAllowance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
		f := &foreman{}
		var a, b turnUser
		f.note(&a)
		f.note(&b)
		large, next, other := turnsOf(f, &a, 1)[0], turnsOf(f, &a, 1)[0], turnsOf(f, &b, 1)[0]
		large.inline = new(atomic.Pointer[call]) // no method: it does not wait for anything, however long it takes
		large.take(nil)
		const spent = 10 * foremanTick // ten times the half of what two processors have in a tick
		<-time.After(spent)
		large.end()
		began := time.Now()
		next.take(nil)
		if late := time.Since(began); late < spent-foremanTick || late > spent+2*foremanTick {
			t.Errorf("a user who has worked for %v beside another one may go on after %v", spent, late)
		}
		other.take(func() { t.Error("the other user waits, too") })
		next.end()
		other.end()
		f.wantRest(t)
	})
}

// A method may wait for something: it keeps nobody from working.
func TestTurnOfAMethodEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, most := &foreman{}, runtime.GOMAXPROCS(0)
		var a, b turnUser
		f.note(&a)
		f.note(&b)
		for _, one := range turnsOf(f, &a, 10*most) {
			one.take(nil)
		}
		f.wantRest(t)
	})
}

// A method that only computes keeps its turn, and its user pays for all of it.
func TestTurnOfAMethodThatComputesLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &foreman{}
		var a, b turnUser
		f.note(&a)
		f.note(&b)
		computing, waiting := turnsOf(f, &a, 1)[0], turnsOf(f, &b, 1)[0]
		for one, computes := range map[*turn]bool{computing: true, waiting: false} {
			one.inline = new(atomic.Pointer[call])
			one.inline.Store(&call{m: &method{computes: computes}})
			one.take(nil)
		}
		<-time.After(10*foremanTick + foremanTick/2)
		if !computing.has.Load() || waiting.has.Load() {
			t.Errorf("after ten ticks the turn of what computes lasts: %v, and of what may wait: %v", computing.has.Load(), waiting.has.Load())
		}
		computing.end()
		f.mu.Lock()
		if a.spent < 9*foremanTick || b.spent > 2*foremanTick {
			t.Errorf("it is charged with %v, and the other with %v", a.spent, b.spent)
		}
		f.mu.Unlock()
		f.wantRest(t)
	})
}

// Whoever waits when the others have gone goes on.
func TestTurnsEndWithTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &foreman{}
		var a, b turnUser
		f.note(&a)
		f.note(&b)
		first := turnsOf(f, &a, 1)[0]
		first.inline = new(atomic.Pointer[call])
		first.take(nil)
		<-time.After(mostTicks / 2 * foremanTick) // it has nothing left to spend, and the other user is forgotten
		next := turnsOf(f, &a, 3)
		for _, one := range next {
			one.take(nil)
		}
		first.end()
		f.wantRest(t)
	})
}

// TrialOfPatience has a method that is called many times over.
type TrialOfPatience struct {
	calls *atomic.Int32
	third func()
}

// Count counts its calls.
func (t TrialOfPatience) Count(context.Context) error {
	if t.calls.Add(1) == 3 {
		t.third()
	}
	return nil
}

// What is left of a batch whose caller has gone is not begun any more.
func TestBatchOfOneWhoHasGone(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	conn := s.connect()
	var calls atomic.Int32
	gone := make(chan struct{})
	must(t, addReceiver(s.router, TrialOfPatience{&calls, func() {
		conn.Close()
		s.foreman.tick.Add(2 * leftTicks) // as if it had taken that long
		close(gone)
	}}, nil))
	send(t, conn, "["+strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"TrialOfPatience.Count"},`, 99)+sayRequest+"]")
	receive(t, gone)
	s.idle()
	if n := calls.Load(); n != 3 {
		t.Errorf("%d calls have begun; want the 3 until the caller has gone", n)
	}
}

// Whoever only notifies expects no answer, and need not wait for anything: all of that is done, however long it takes.
func TestNotificationsOfOneWhoHasGone(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	s.foreman.tick.Add(2 * leftTicks) // others have called before
	conn := s.connect()
	var calls atomic.Int32
	gone := make(chan struct{})
	must(t, addReceiver(s.router, TrialOfPatience{&calls, func() {
		conn.Close()
		s.foreman.tick.Add(2 * leftTicks)
		close(gone)
	}}, nil))
	send(t, conn, strings.Repeat(`{"jsonrpc":"2.0","method":"TrialOfPatience.Count"}`, 99))
	receive(t, gone)
	s.idle()
	if n := calls.Load(); n != 99 {
		t.Errorf("%d notifications have begun; want all 99", n)
	}
}

// Of one user only so many calls run at the same time; what runs beyond that is not read from.
func TestCallsOfOneUserThatRun(t *testing.T) {
	for name, change := range map[string]func(*limits){
		"user_calls": func(l *limits) { l.UserCalls = 2 },
		"calls":      func(l *limits) { l.Calls = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, change, localEndpoint(t))
			both := newBoth(1)
			must(t, addReceiver(s.router, both, nil))
			var conns []net.Conn
			for i := range 2 {
				conns = append(conns, s.connect())
				send(t, conns[i], fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Both.Block","params":["%d"],"parts":1}`, i))
				receive(t, both.entered)
			}
			third := s.connect()
			send(t, third, `{"jsonrpc":"2.0","id":1,"method":"Both.Block","params":["c"],"parts":1}`)
			answer := make([]byte, 1000)
			n, err := third.Read(answer)
			if got := string(answer[:n]); err != nil || !strings.Contains(got, `"code":-32002`) || !strings.Contains(got, `"limit":"`+name+`","max":2`) {
				t.Errorf("a call too many is answered with %s, %v", got, err)
			}
			// Without parts it runs in the reader, and keeps that.
			send(t, third, `{"jsonrpc":"2.0","id":2,"method":"Both.Block","params":["d"]}`+`{"jsonrpc":"2.0","id":3,"method":"Both.Block","params":["e"]}`)
			receive(t, both.entered)
			now := s.foreman.tick.Load()
			waitFor(t, func() error { // it has been inspected twice
				if ticks := s.foreman.tick.Load() - now; ticks < restTicks+2 {
					return fmt.Errorf("%d ticks have passed", ticks)
				}
				return nil
			})
			select {
			case key := <-both.entered:
				t.Errorf("%s runs, too", key)
			default:
			}
			for range 4 {
				both.release <- struct{}{}
			}
			receive(t, both.entered)
		})
	}
}
