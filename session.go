package main

// This file is the door of the room session: one connection that carries calls both ways. It owns the state of a
// session, and its end. A server calls newSession and serve; leave and cut end the session; close
// comes last.
//
// session_read.go is the reader. session_answer.go is the calls of the peer; a new message that is not a call of a service, such as $/cancelRequest, is
// a row of its notices. session_admit.go lets those calls in. session_ask.go is our own calls: ask and post for a client.
// session_meter.go counts, session_audit.go records who did what. session_remote.go has remote, which makes a provider of a session. session_foreman.go keeps a slow method from blocking anyone
// but its caller.

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A shared is what all sessions of a server have in common. In a client that is not called, finder is nil.
type shared struct {
	finder  finder
	log     *logger
	meter   *meter
	foreman *foreman
	events  *hub // hears of limits that calls reach; nil for nobody
	audit   *auditor
}

// A session is one end of a connection. Both ends are alike: either may call the other.
//
// At most one goroutine reads, the reader, and it also does whatever is quick: that saves two goroutine switches per
// call. In the daemon the reader runs the methods. Nobody reads meanwhile, which is fine while the method is quick; if
// it is not, the foreman hands the reading to a new goroutine. In a client a goroutine that waits for an answer reads
// for itself, and delivers the answers to others that it meets. While calls of ours are in flight the reader blocks on
// nothing but reading, save for what respondHere says: whatever might block it is left to other goroutines.
type session struct {
	*shared
	finder    finder // shared.finder, unless the peer is refused
	peer      *peer
	codec     codec
	in        *input
	out       *output
	log       *logger
	limits    *limits                // those in force when the connection began
	isDaemon  bool                   // the peer is a daemon that is asked for others: its codes mean to them what ours do
	whole     bool                   // the input is one unit, an HTTP body: a shutdown refuses none of its calls
	hosted    bool                   // the first reader is to answer a request over HTTP, and runs nothing that may outlast its call
	ended     func(err error)        // called when the peer will send no more; may be nil
	left      func() bool            // reports whether the peer has gone, though the input has not ended; may be nil
	waited    func()                 // called when the reader has waited for long to begin a message; may be nil
	registrar registrar              // takes what the peer offers; nil for the router
	explain   func(err error) error  // words an error of the connection for our callers; may be nil
	prove     func(b *bearer) *fault // takes the token that the peer has shown; nil where none is taken

	spare     *call                  // of the reader: for the next message
	unflushed unflushed              // of the reader
	inline    atomic.Pointer[call]   // what the reader runs; nil once another goroutine has become the reader
	deaf      atomic.Bool            // the peer takes nothing any more
	served    atomic.Uint32          // calls run by the reader; shows the foreman that the session is busy
	beat      *beat                  // where the foreman finds it
	own       beat                   // that of a session that is one for as long as its connection
	asking    atomic.Bool            // calls of ours are in flight
	credits   atomic.Bool            // parts of answers to us have been taken; see acknowledge
	closing   atomic.Bool            // phase is no longer phaseOpen
	room      chan struct{}          // holds one: a call of theirs has ended; see waitForRoom
	turn      turn                   // of the reader
	readAt    uint32                 // the tick of the last read; of the reader
	quota     atomic.Pointer[limits] // those of whoever the peer is by now; nil for limits

	wg sync.WaitGroup // goroutines that read or write in the background

	mu       sync.Mutex
	state    sessionState  // only update changes it
	answered chan struct{} // closed once nothing more is read and no answer is owed
	done     chan struct{} // closed once, in addition, no method runs
}

// A phase is how far a session is on its way to the end. It never goes back.
type phase int

const (
	phaseOpen    phase = iota
	phaseLeaving       // calls in flight are answered, new ones are refused
	phaseCut           // every call is cancelled, even as it begins
)

// A lingering is how long a session that leaves goes on reading.
type lingering int

const (
	lingerEndless lingering = iota
	lingerFirst             // for firstWords: the peer has not called yet
	lingerSweep             // for drainSweep: no answer is owed to it
)

// sessionState is everything that decides when a session ends.
type sessionState struct {
	phase   phase
	cutBy   *fault // the answer to what comes in phaseCut; nil if the peer is gone
	reading bool   // there is a reader, or will be
	steady  bool   // a goroutine reads to the end of the stream, or will as soon as it can
	waiting bool   // that goroutine is to start once nobody else reads
	readErr error
	linger  lingering // in force

	words  time.Time          // until when a session that leaves waits for the first request
	asked  bool               // a request has come
	first  any                // the batch of the first request
	stuck  time.Duration      // for how long max_calls have been in flight, and none has ended; in steps of roomWait
	theirs map[*call]struct{} // the peer's calls that have begun and not finished
	tokens map[string]*call   // of these, by canonicalID, the last one whose parts bear the token
	owed   int                // how many of them have yet to be answered
	held   int                // bytes of their arguments; see call.held
	few    int                // of these, those of small calls
	told   int                // of those, what the account knows of

	seq    uint64
	ours   map[uint64]*pendingCall // our calls in flight, by seq; nil for none
	unsent int                     // calls handed on that wait to be sent
	missed bool                    // the answer to a call that was withdrawn may still come
	onGone []func()                // see whenGone
	going  int                     // updates that run some of these: the session is not over before
	passes bool                    // the peer has been a provider
	parked int                     // how many of ours wait and could read
}

// newSession returns a session with p that reads from in and writes to w. With a finder it has to be served; without
// one, whoever waits for an answer reads.
func newSession(sh *shared, p *peer, c codec, in *input, w io.Writer, l *limits, log *logger) *session {
	out := newOutput(w, l, in.account)
	s := &session{
		shared: sh, finder: sh.finder, peer: p, codec: c, in: in, out: out, log: log, limits: l,
		room: make(chan struct{}, 1), answered: make(chan struct{}), done: make(chan struct{}),
		state: sessionState{
			reading: sh.finder != nil, steady: sh.finder != nil,
			theirs: map[*call]struct{}{},
		},
	}
	s.beat = &s.own
	s.own.session.Store(s)
	s.turn.foreman, s.turn.inline = sh.foreman, &s.inline
	in.hasty = &s.asking
	out.owner = s
	if out.dst.conn != nil {
		out.dst.late = sh.tellLate(p)
	}
	return s
}

// outputWaits implements outputOwner.
func (s *session) outputWaits() { s.turn.end() }

// outputBroke implements outputOwner.
func (s *session) outputBroke() {
	s.deaf.Store(true)
	s.in.stopAt(time.Now().Add(deafSweep))
}

// update changes the state and does what follows from that. Nothing else changes the state, closes a channel of the
// session, stops the reading or appoints the next reader.
func (s *session) update(change func(st *sessionState)) {
	s.mu.Lock()
	st := &s.state
	change(st)
	var orphans map[uint64]*pendingCall
	var gone []func()
	if st.readErr != nil {
		if gone, st.onGone = st.onGone, nil; gone != nil {
			st.going++
		}
		if len(st.ours) > 0 {
			orphans, st.ours = st.ours, nil
		}
	}
	if asking := len(st.ours) > 0; asking != s.asking.Load() {
		s.asking.Store(asking)
	}
	if !st.reading && st.readErr == nil && (st.waiting || st.parked > 0) {
		s.passOnLocked()
	}
	if st.phase != phaseOpen {
		s.closing.Store(true)
	}
	if st.phase == phaseLeaving {
		s.lingerLocked()
	}
	if st.readErr != nil && !st.reading && st.owed == 0 && st.going == 0 {
		shut(s.answered)
		if len(st.theirs) == 0 {
			shut(s.done)
		}
	}
	readErr := st.readErr
	s.mu.Unlock()
	for _, f := range gone {
		f()
	}
	for _, a := range orphans {
		s.orphan(a, readErr)
	}
	if gone != nil {
		s.update(func(st *sessionState) { st.going-- })
	}
}

// whenGone calls f when the peer will send no more; at once if that is so.
func (s *session) whenGone(f func()) {
	s.update(func(st *sessionState) { st.onGone = append(st.onGone, f) })
}

// canAsk reports whether calls of ours can go over the connection as well: that its codec reads answers, too.
func (s *session) canAsk() bool {
	c, ok := s.codec.(interface{ bothWays() bool })
	return ok && c.bothWays()
}

// shut closes c unless it is closed. The caller holds the lock that guards c.
func shut(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// firstWords is how long a daemon that stops waits for the first call of a peer: the peer may have connected just now,
// and expects an answer.
const firstWords = time.Second

// deafSweep is how long a peer that takes nothing any more is still read: it may have answered before it went.
const deafSweep = time.Second

// drainSweep is how long a daemon that stops goes on reading from a peer to which it owes no answer, so that what the
// peer has already sent is answered.
const drainSweep = 20 * time.Millisecond

// patience is how long a daemon that stops still listens to a peer to which it owes nothing.
func patience(asked bool) time.Duration {
	if asked {
		return drainSweep
	}
	return firstWords
}

// lingerLocked sets the read deadline of a session that leaves. There is none while an answer is owed in either
// direction: calls that come meanwhile are refused, and their callers know that they were not started. The wait for the
// first request is one, however many notifications come in it.
func (s *session) lingerLocked() {
	st := &s.state
	if st.words.IsZero() {
		st.words = time.Now().Add(firstWords)
	}
	next := lingerSweep
	switch {
	case st.owed > 0 || len(st.ours) > 0:
		next = lingerEndless
	case !st.asked:
		next = lingerFirst
	}
	if next == st.linger {
		return
	}
	st.linger = next
	switch next {
	case lingerEndless:
		s.in.goOn()
	case lingerFirst:
		s.in.stopAt(st.words)
	default:
		s.in.stopAt(time.Now().Add(drainSweep))
	}
}

// serve reads until the peer sends no more, waits for the calls in flight, and drains the output. The caller has to
// close the connection.
func (s *session) serve() error {
	s.readFirst()
	<-s.done
	err := s.out.drain()
	s.wg.Wait()
	return err
}

// readFirst begins the reading. It returns when that has ended, or another goroutine has become the reader.
func (s *session) readFirst() {
	s.in.reader = s
	s.readAt = s.foreman.tick.Load() // what has come with the first bytes is read by now
	s.read(nil)
}

// close frees the buffers of a session on which nobody reads, runs or writes any more.
func (s *session) close() {
	s.in.close()
	s.out.close()
}

// leave begins the shutdown of the session: it finishes the calls in flight, save those that would not end by themselves, reads
// on as lingerLocked says, and ends.
func (s *session) leave() {
	var endless []*call
	s.update(func(st *sessionState) {
		st.phase = max(st.phase, phaseLeaving)
		for c := range st.theirs {
			if c.m.endless {
				endless = append(endless, c)
			}
		}
		if len(endless) > 0 && len(endless) == len(st.theirs) {
			s.out.dst.end()
		}
	})
	for _, c := range endless {
		s.background(func() { s.giveUp(c, context.Canceled, errLeaving) })
	}
}

// cut cancels every call of the peer, including those still to come. f is their answer, or nil if the peer is gone.
func (s *session) cut(f *fault) { s.seize(f)() }

// seize is cut without the answers, which are sent by the function that it returns and may have to wait for the peer to read: at
// once nobody else can answer the calls any more.
func (s *session) seize(f *fault) (tell func()) {
	var calls []*call
	s.update(func(st *sessionState) {
		st.phase, st.cutBy = phaseCut, f
		for c := range st.theirs {
			calls = append(calls, c)
		}
	})
	if f == nil {
		for _, c := range calls {
			s.giveUp(c, context.Canceled, nil)
		}
		return func() {}
	}
	calls = slices.DeleteFunc(calls, func(c *call) bool { return !c.claim(context.Canceled) })
	return func() {
		for _, c := range calls {
			s.excuse(c, f)
		}
		s.out.drain() // whoever cuts closes the connection then
	}
}

// chargeTo has another account bear what the connection holds, and will hold: its peer has said who it is, and has those limits. The
// reader calls it.
func (s *session) chargeTo(a *account, u *turnUser, l *limits) {
	s.quota.Store(l)
	s.update(func(st *sessionState) {
		large := st.held - st.few
		s.in.account.holdRead(-large)
		s.in.account.tell(smallCalls, 0, st.told)
		s.in.chargeTo(a)
		a.holdRead(large)
		st.told = a.tell(smallCalls, st.few, 0)
	})
	s.out.chargeTo(a)
	s.turn.end()
	s.turn.user.Store(u)
}

// endCalls answers all calls of the peer that run with f. Later ones are for whoever refuses them.
func (s *session) endCalls(f *fault) {
	s.mu.Lock()
	calls := slices.Collect(maps.Keys(s.state.theirs))
	s.mu.Unlock()
	for _, c := range calls {
		s.giveUp(c, context.Canceled, f)
	}
}

// idle reports whether no call of the peer is in flight.
func (s *session) idle() (idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.state.theirs) == 0
}

// isDone reports whether the session is over. If it is not, and mu is held, nobody waits for wg yet, and wg.Go is safe.
func (s *session) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
