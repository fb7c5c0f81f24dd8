package main

// This file owns the Node.js IPC channel: the messages that a parent and the child that it
// forked send each other, each a JSON value and a line feed. See child_process.fork and
// subprocess.send in Node's manual; what it does beyond that is in docs/protocol.md, section 8.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	nodePrefix = "NODE_"                            // begins the cmd of messages that are internal to Node
	nodeHandle = "NODE_HANDLE"                      // a handle comes along; the sender holds back the rest until it is answered
	handleAck  = `{"cmd":"NODE_HANDLE_ACK"}` + "\n" // for a handle that was accepted, or dropped

	queuedMessages = 4 // times max_message may be queued before the other end has to wait

	// nodeBegin is how many bytes of a line show whether it is internal to Node, which writes cmd first.
	nodeBegin = 4 << 10
)

// A channel is one end: a stream of lines without those that are internal to Node. What is wrong with any other is for
// the reader to find, who can answer. Read reads from the connection itself, until the other end has no room for what is
// written: from then on a goroutine collects what comes, so that two ends that both write first do not wait for each other
// for ever.
type channel struct {
	raw    net.Conn
	limits limits
	log    *logger
	wg     sync.WaitGroup

	wmu    sync.Mutex
	within bool // part of a message has been written
	atOnce tryWriter
	acks   atomic.Int32 // to be sent between messages

	// mu guards the fields below; change is broadcast when one of them has changed.
	mu         sync.Mutex
	change     *sync.Cond
	queue      [][]byte    // lines that have been collected
	queued     int         // bytes of queue
	ended      bool        // nothing more comes, however the other end went
	late       bool        // the deadline of Read has passed
	timer      *time.Timer // sets late
	closed     bool
	ahead      bool // a goroutine of ours collects, or will once Read does not
	collecting bool // some goroutine reads from raw; lines is its own
	reading    bool // that one is in Read
	kicked     bool // raw has a deadline that has passed, which Read has to see
	lines      nodeLines
}

func newChannel(raw net.Conn, l limits, log *logger) *channel {
	c := &channel{raw: raw, limits: l, log: log, atOnce: newTryWriter(raw)}
	c.change = sync.NewCond(&c.mu)
	if _, full := c.atOnce.(fullWriter); full {
		c.readAhead()
	}
	return c
}

// Read returns the lines that have passed the filter.
func (c *channel) Read(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.ended && !c.closed && !c.late {
		if c.ahead || c.collecting {
			c.change.Wait()
		} else {
			c.reading = true
			n := c.collectLocked(b, false)
			if c.reading = false; n > 0 {
				return n, nil
			}
		}
	}
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.late:
		return 0, os.ErrDeadlineExceeded
	case len(c.queue) == 0:
		return 0, io.EOF
	}
	for n < len(b) && len(c.queue) > 0 {
		part := copy(b[n:], c.queue[0])
		n += part
		if c.queue[0] = c.queue[0][part:]; len(c.queue[0]) == 0 {
			c.queue[0] = nil
			if c.queue = c.queue[1:]; len(c.queue) == 0 {
				c.queue = nil // not the room for as many as there ever were
			}
		}
	}
	c.queued -= n
	c.change.Broadcast()
	return n, nil
}

func (c *channel) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.stopTimerLocked()
	left := time.Until(t)
	c.late = !t.IsZero() && left <= 0
	if c.late || t.IsZero() {
		c.kickLocked()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timer == timer { // the deadline may have been changed before we had the lock
			c.late = true
			c.kickLocked()
		}
	})
	c.timer = timer
	return nil
}

// kickLocked has Read look at the deadline.
func (c *channel) kickLocked() {
	c.change.Broadcast()
	if c.late && c.reading {
		c.kicked = true
		c.raw.SetReadDeadline(time.Now())
	}
}

func (c *channel) stopTimerLocked() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

func (c *channel) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// try implements tryWriter.
func (c *channel) try(b []byte) (n int, err error) {
	if !c.wmu.TryLock() {
		return 0, nil
	}
	defer c.acknowledgeAside()
	defer c.wmu.Unlock()
	if c.acks.Load() > 0 {
		return 0, nil
	}
	return c.tryLocked(b)
}

// tryLocked writes what there is room for. wmu is held.
func (c *channel) tryLocked(b []byte) (n int, err error) {
	n, err = c.atOnce.try(b)
	c.wrote(b[:n])
	return n, err
}

// wrote notes whether what was written ends in the middle of a message. wmu is held.
func (c *channel) wrote(b []byte) {
	if len(b) > 0 {
		c.within = b[len(b)-1] != '\n'
	}
}

// Write writes through, and sees to it that what is to be acknowledged is.
func (c *channel) Write(b []byte) (n int, err error) {
	defer c.acknowledge()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if n, err = c.tryLocked(b); n < len(b) && err == nil {
		c.readAhead()
		var rest int
		rest, err = c.raw.Write(b[n:])
		c.wrote(b[n : n+rest])
		n += rest
	}
	return n, err
}

// acknowledgeAside has another goroutine acknowledge.
func (c *channel) acknowledgeAside() {
	if c.acks.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(c.acknowledge)
	}
}

// acknowledge sends what is to be sent between messages, unless somebody writes, who does that afterwards.
func (c *channel) acknowledge() {
	for c.acks.Load() > 0 && c.wmu.TryLock() {
		within := c.within
		if !within {
			c.acks.Add(-1)
			c.raw.SetWriteDeadline(time.Now().Add(c.limits.Write)) // an earlier one may have passed
			if _, err := io.WriteString(c.raw, handleAck); err != nil {
				c.log.warn("a handle was not acknowledged; the peer holds back what follows it", "error", err)
			}
		}
		c.wmu.Unlock()
		if within {
			return
		}
	}
}

func (c *channel) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }
func (c *channel) LocalAddr() net.Addr                { return c.raw.LocalAddr() }
func (c *channel) RemoteAddr() net.Addr               { return c.raw.RemoteAddr() }

// SyscallConn is for asking the kernel about the other end.
func (c *channel) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.raw.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}

// Close disconnects, unblocks Read and waits for the goroutine.
func (c *channel) Close() error {
	c.mu.Lock()
	c.closed = true
	c.stopTimerLocked()
	c.change.Broadcast()
	c.mu.Unlock()
	err := c.raw.Close()
	c.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// readAhead has a goroutine collect until the channel ends, as soon as nobody else does.
func (c *channel) readAhead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead || c.closed {
		return
	}
	c.ahead = true
	c.wg.Go(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for c.collecting {
			c.change.Wait()
		}
		for b := make([]byte, inputKeep); !c.ended; {
			for c.queued > queuedMessages*c.limits.MaxMessage && !c.closed {
				c.change.Wait()
			}
			c.collectLocked(b, true)
		}
	})
}

// collectLocked reads once from the connection, into b. It returns how many bytes of lines are there, unless those are
// queued: aside says that they have to be. It releases the lock meanwhile.
func (c *channel) collectLocked(b []byte, aside bool) (n int) {
	c.collecting = true
	c.mu.Unlock()
	// We do not ask for descriptors that come along, so the kernel closes them: unix(7).
	got, err := c.raw.Read(b)
	lines := b[:got]
	if aside = aside || len(c.lines.held) > 0; aside {
		lines = append(c.lines.held, lines...) // a copy, since b is used again
	}
	lines = c.lines.pass(lines, c.isInternal)
	if broken := (*fault)(nil); errors.As(err, &broken) {
		c.log.error("the channel cannot be read any further; it counts as disconnected", "error", err)
	}
	c.mu.Lock()
	c.collecting = false
	switch {
	case !aside:
		n = len(lines)
	case len(lines) > 0:
		c.queue = append(c.queue, lines)
		c.queued += len(lines)
	}
	c.ended = err != nil && !(c.kicked && isTimeout(err))
	if c.kicked {
		c.kicked = false
		c.raw.SetReadDeadline(time.Time{})
	}
	c.change.Broadcast()
	return n
}

// nodeLines takes the lines that are internal to Node out of a stream.
type nodeLines struct {
	held  []byte // the beginning of a line, as long as it does not show whether it is internal
	begun bool   // the stream is inside of a line that showed it
	drop  bool   // that one is internal
}

// pass returns what is left of b, moved together. b begins with what was held.
func (l *nodeLines) pass(b []byte, isInternal func(begin []byte) bool) []byte {
	l.held = nil
	for from, at := 0, 0; ; {
		line := b[from:]
		end := bytes.IndexByte(line, '\n') + 1
		if end > 0 {
			line = line[:end]
		}
		switch {
		case len(line) == 0:
			return b[:at]
		case l.begun:
		case end == 0 && len(line) < nodeBegin:
			l.held = bytes.Clone(line)
			return b[:at]
		default:
			l.drop = isInternal(line[:min(len(line), nodeBegin)])
		}
		if !l.drop {
			if at < from {
				copy(b[at:], line)
			}
			at += len(line)
		}
		from += len(line)
		l.begun = end == 0
	}
}

// isInternal reports whether a line, which begins so, is internal to Node. A handle that comes with it is
// acknowledged.
func (c *channel) isInternal(line []byte) bool {
	cmd, ours := nodeCommand(line)
	if cmd != nodeHandle {
		return ours
	}
	c.log.warn("a handle came on the channel; it was closed, since ipcd takes none")
	c.acks.Add(1)
	c.acknowledgeAside() // the peer may read nothing before its own messages are read
	return true
}

// nodeCommand reports whether b is a message internal to Node: an object whose cmd is a string that begins with NODE_
// and is longer than that. It returns the cmd. b may also be the beginning of a message, or no JSON at all.
func nodeCommand(b []byte) (cmd string, ours bool) {
	b = bytes.TrimLeft(b, jsonSpace)
	if len(b) == 0 || b[0] != '{' || !bytes.Contains(b, []byte(nodePrefix)) && !bytes.Contains(b, []byte(`\u`)) {
		return "", false
	}
	w := enter(b)
	for {
		name, value, ok := w.member()
		if !ok {
			return "", false
		}
		if string(unquoteJSON(name)) == "cmd" && value[0] == '"' {
			cmd = string(unquoteJSON(value[1 : len(value)-1]))
			return cmd, strings.HasPrefix(cmd, nodePrefix) && len(cmd) > len(nodePrefix)
		}
	}
}

// givenChannel returns the descriptor that the environment names as the channel. It unsets the variables,
// so that our own children do not take it for theirs.
func givenChannel() (fd int, err error) {
	number, given := os.LookupEnv(channelFD)
	mode := os.Getenv(channelMode)
	for _, name := range channelVariables {
		os.Unsetenv(name)
	}
	if !given {
		return 0, usagef("there is no IPC channel: %s is not set", channelFD).
			withHint("start it from Node.js: fork('child', [], {execPath: 'ipcd', execArgv: []})")
	}
	if mode != "" && mode != "json" {
		return 0, usagef("the IPC channel has the serialization %q, which only Node.js understands", mode).
			withHint("fork with {serialization: 'json'}, which is the default")
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, usagef("%s is %q, which is no descriptor", channelFD, number)
	}
	return int(n), nil
}

func noChannel(fd int, err error) *fault {
	return usagef("%s is %d, but that is no channel: %w", channelFD, fd, err).
		withHint("start ipcd without a shell in between, which passes the variable on but not the descriptor")
}
