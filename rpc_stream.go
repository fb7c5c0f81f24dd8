package main

// This file owns streams: the parts of an answer on their way from a provider to the caller. What the caller has no room
// for waits here, and the provider hears how much has been taken; one that sends more than it may is stopped. Nothing
// waits here for a method that runs in this process: it waits itself, in sendPart.

import (
	"encoding/binary"
	"sync"
)

// A stream is the parts of the answer to one call that a provider has. It never holds up who adds a part, the reader of
// the provider's connection: others wait for their answers there.
type stream struct {
	c       *call
	account *account                           // of the caller: what waits is on it; nil if nobody's is counted
	window  int                                // bytes of parts that the provider may send ahead
	heeded  bool                               // the provider knows of parts: it has one token, and heeds acknowledgements
	credit  func(parts int, u *unflushed) bool // tells the provider how many parts have been taken in all, unless too much waits for it; nil if it does not want to know

	mu     sync.Mutex
	queue  [][]byte // what waits, oldest first, in blocks: each value behind a head, since a slice for each would be larger than it; see headOf
	at     int      // where the next value is in the first block
	spare  []byte   // a block that is not in use, as long as parts wait
	held   int      // bytes of the values that wait, and of the one that the caller is being given
	told   int      // of these, what the account of the caller knows of
	moving bool     // a goroutine gives the caller what waits
	over   bool     // no parts are taken any more
	end    func()   // answers the call; set if the provider has answered and parts still wait
	taken  int      // parts that the caller has taken
	untold int      // bytes of those that the provider has not been told of
}

// add takes the next part from the provider. It never blocks, and keeps nothing of value. An error ends the call. workDone
// and u are as in responder.
func (s *stream) add(value document, workDone bool, u *unflushed) error {
	workDone = workDone || s.heeded && s.c.tellsProgress(value)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return s.c.overBy()
	case !s.moving:
		sent, err := s.c.from.part(s.c, value, workDone, u)
		if sent {
			s.takenLocked(len(value), u)
		}
		if sent || err != nil {
			return err
		}
	case s.held > 0 && s.held+len(value) > 2*s.window:
		s.over = true
		return busy("stream_window", int64(s.window), "the provider of "+s.c.method+" sends parts faster than they are read; it has to wait for $/credit")
	}
	if (s.held > 0 || len(value) >= accountStep) && s.account.hasAll(smallParts) {
		s.over = true
		return busy(userMemoryLimit, s.account.limit(), "the parts that this user does not read take too much memory")
	}
	s.keepLocked(value, workDone)
	if !s.moving {
		s.moving = true
		go s.move() // until nothing waits or the call is over
	}
	return nil
}

// keepLocked has value wait. Blocks get larger with what waits, and are used again: growing one queue would copy most parts
// several times.
func (s *stream) keepLocked(value document, workDone bool) {
	last, n := len(s.queue)-1, binary.MaxVarintLen64+len(value)
	if last < 0 || cap(s.queue[last])-len(s.queue[last]) < n {
		b := s.spare
		if s.spare = nil; cap(b) < n {
			giveBack(b)
			b = newBlock(max(n, min(s.held, s.window/4)))
		}
		s.queue = append(s.queue, b[:0])
		last++
	}
	s.queue[last] = append(binary.AppendUvarint(s.queue[last], headOf(value, workDone)), value...)
	s.held += len(value)
	s.told = s.account.tell(smallParts, s.held, s.told)
}

// newBlock returns an empty block of at least n bytes.
func newBlock(n int) []byte {
	if n >= inputLarge {
		return borrow(n)
	}
	return make([]byte, 0, n)
}

// finish calls end, which answers the call, once the caller has all parts.
func (s *stream) finish(end func()) {
	s.mu.Lock()
	if s.moving {
		s.end, s.credit = end, nil // nobody waits for acknowledgements any more
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	end()
}

// move gives the caller what waits for it.
func (s *stream) move() {
	for {
		value, workDone, end := s.next()
		if value == nil {
			if end != nil {
				end()
			}
			return
		}
		if err := s.c.deliver(value, workDone); err != nil {
			s.c.fail(err) // first, since add says something else once nothing is taken any more
			s.drop()
			return
		}
		s.mu.Lock()
		s.held -= len(value)
		s.told = s.account.tell(smallParts, s.held, s.told)
		s.takenLocked(len(value), nil)
		s.mu.Unlock()
	}
}

// headOf is what precedes a value in the queue: its length, and behind that a bit for its token.
func headOf(value document, workDone bool) uint64 {
	head := uint64(len(value)) << 1
	if workDone {
		head |= 1
	}
	return head
}

// next returns the part that has waited longest, which is valid until it is called again; if none waits, what is to be done now
// that all have been taken.
func (s *stream) next() (value document, workDone bool, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 && s.at == len(s.queue[0]) {
		giveBack(s.spare)
		s.spare, s.queue, s.at = s.queue[0], s.queue[1:], 0
	}
	if len(s.queue) == 0 {
		giveBack(s.spare)
		s.moving, s.queue, s.spare = false, nil, nil
		s.tellLocked(nil)
		return nil, false, s.end
	}
	head, n := binary.Uvarint(s.queue[0][s.at:])
	from := s.at + n
	s.at = from + int(head>>1)
	return s.queue[0][from:s.at:s.at], head&1 == 1, nil
}

// drop forgets what waits, since nobody takes it any more.
func (s *stream) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.queue, s.spare, s.at, s.held = true, nil, nil, 0, 0
	s.told = s.account.tell(smallParts, s.held, s.told)
}

// takenLocked notes that the caller has taken a part of n bytes. u is as in responder.
func (s *stream) takenLocked(n int, u *unflushed) {
	s.taken++
	if s.untold += n; s.untold >= s.window/4 {
		s.tellLocked(u)
	}
}

// tell tells the provider what has been taken since it was told last. u is as in responder.
func (s *stream) tell(u *unflushed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked(u)
}

func (s *stream) tellLocked(u *unflushed) {
	if s.untold > 0 && s.credit != nil && !s.credit(s.taken, u) {
		return
	}
	s.untold = 0
}

// A flow bounds the parts that a caller has been sent and has not acknowledged. A nil flow bounds nothing: then the caller
// acknowledges nothing, and has taken what it has read.
type flow struct {
	window int
	room   chan struct{} // holds one: parts have been acknowledged

	mu      sync.Mutex
	sizes   []byte // of the parts that have been sent and not acknowledged, oldest first, each as a uvarint
	unread  int    // their bytes
	sent    int    // parts
	heard   int    // parts that have been acknowledged
	blocked bool   // there was no room for a part
}

func newFlow(window, most int) *flow {
	if window == 0 {
		return nil
	}
	return &flow{window: min(window, most), room: make(chan struct{}, 1)}
}

// take reserves room for a part of n bytes. There always is some if every part has been acknowledged.
func (f *flow) take(n int) bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blocked = f.unread > 0 && f.unread+n > f.window; f.blocked {
		return false
	}
	f.sizes = binary.AppendUvarint(f.sizes, uint64(n))
	f.unread += n
	f.sent++
	return true
}

// putBack returns the room of the last part, of n bytes, which was not sent after all.
func (f *flow) putBack(n int) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent--
	if f.heard > f.sent { // it has been acknowledged all the same
		f.heard = f.sent
		return
	}
	f.sizes = f.sizes[:len(f.sizes)-len(binary.AppendUvarint(nil, uint64(n)))]
	f.unread -= n
}

// heardOf notes that the caller has acknowledged n parts in all. A number that is lower than the last one was overtaken, and
// there can be none of parts that have not been sent.
func (f *flow) heardOf(n int) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n = min(n, f.sent); n <= f.heard {
		return
	}
	for ; f.heard < n; f.heard++ {
		size, width := binary.Uvarint(f.sizes)
		f.sizes, f.unread = f.sizes[width:], f.unread-int(size)
	}
	select {
	case f.room <- struct{}{}:
	default:
	}
}

// isBlocked reports whether the last part had no room here.
func (f *flow) isBlocked() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blocked
}
