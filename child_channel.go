package main

// This file owns the Node.js IPC channel: the messages that a parent and the child that it
// forked send each other, a JSON value and a line feed each. See child_process.fork and
// subprocess.send in Node's manual; what it does beyond that is in docs/protocol.md, section 8.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	channelFD   = "NODE_CHANNEL_FD" // the number of the child's descriptor
	channelMode = "NODE_CHANNEL_SERIALIZATION_MODE"
	nodePrefix  = "NODE_"                            // of the cmd of messages that Node keeps for itself
	nodeHandle  = "NODE_HANDLE"                      // a socket comes along; nothing more comes before its answer
	handleAck   = `{"cmd":"NODE_HANDLE_ACK"}` + "\n" // for one that was taken, or dropped

	queuedMessages = 4 // times max_message may wait to be read, before the other end has to
)

// A channel is one end. It reads as a stream of lines with a JSON value each: what is none, and
// what Node says to Node, is kept from the reader. A goroutine reads ahead, so that two ends
// that both write first do not wait for each other for ever.
type channel struct {
	net.Conn // what is read has gone through the filter; the rest is raw's
	raw      net.Conn
	limits   limits
	log      *logger
	wg       sync.WaitGroup

	wmu    sync.Mutex
	within bool // a message has been written in part
	acks   int  // to be sent behind it

	mu     sync.Mutex
	change *sync.Cond
	queue  [][]byte
	queued int   // bytes of queue
	ended  error // why nothing more will come
	closed bool
}

func newChannel(raw net.Conn, l limits, log *logger) *channel {
	reader, feeder := net.Pipe()
	c := &channel{Conn: reader, raw: raw, limits: l, log: log}
	c.change = sync.NewCond(&c.mu)
	c.wg.Go(c.collect)
	c.wg.Go(func() { c.feed(feeder) })
	return c
}

// Write keeps acknowledgements out of a message that is written in parts.
func (c *channel) Write(b []byte) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	n, err = c.raw.Write(b)
	if n > 0 {
		c.within = b[n-1] != '\n'
	}
	for ; err == nil && !c.within && c.acks > 0; c.acks-- {
		_, err = io.WriteString(c.raw, handleAck)
	}
	return n, err
}

func (c *channel) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }
func (c *channel) LocalAddr() net.Addr                { return c.raw.LocalAddr() }
func (c *channel) RemoteAddr() net.Addr               { return c.raw.RemoteAddr() }

// SyscallConn lets the kernel be asked about the other end.
func (c *channel) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.raw.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}

// Close disconnects.
func (c *channel) Close() error {
	c.mu.Lock()
	c.closed = true
	c.change.Broadcast()
	c.mu.Unlock()
	err := errors.Join(c.raw.Close(), c.Conn.Close())
	c.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// collect reads lines off the channel until it ends.
func (c *channel) collect() {
	buf := make([]byte, 0, inputSmall)
	skipping := false // the rest of a line that was too long
	var err error
	for err == nil {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, cap(buf))
		}
		var n int
		// Descriptors that come along are not asked for, and so the kernel closes them: unix(7).
		n, err = c.raw.Read(buf[len(buf):cap(buf)])
		fresh, begin := len(buf), 0
		buf = buf[:fresh+n]
		for {
			end := bytes.IndexByte(buf[fresh:], '\n')
			if end < 0 {
				break
			}
			fresh += end + 1
			if !skipping {
				c.line(buf[begin:fresh])
			}
			skipping, begin = false, fresh
		}
		if rest := buf[begin:]; begin > 0 && cap(buf) > inputLarge && len(rest) < inputSmall {
			buf = append(make([]byte, 0, inputSmall), rest...) // a long line is over
		} else {
			buf = buf[:copy(buf, rest)]
		}
		if len(buf) > c.limits.MaxMessage {
			if !skipping {
				c.log.warn("a message on the channel is too long; it was dropped", "limit", "max_message", "max", c.limits.MaxMessage)
			}
			skipping, buf = true, make([]byte, 0, inputSmall)
		}
	}
	if broken := (*fault)(nil); errors.As(err, &broken) {
		c.log.error("the channel cannot be read any further; it counts as disconnected", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = err
	c.change.Broadcast()
}

// line decides what becomes of one line.
func (c *channel) line(b []byte) {
	if err := checkJSON(b, c.limits); err != nil {
		c.log.warn("what came on the channel is no message; it was dropped", "error", err)
		return
	}
	if cmd, ours := nodeCommand(b); ours {
		if cmd == nodeHandle {
			c.log.warn("a handle came on the channel; it was closed, since ipcd takes none")
			c.wmu.Lock()
			defer c.wmu.Unlock()
			if c.within {
				c.acks++
				return
			}
			c.raw.SetWriteDeadline(time.Now().Add(c.limits.Write)) // one that was set before may have passed
			if _, err := io.WriteString(c.raw, handleAck); err != nil {
				c.log.warn("a handle was not acknowledged; the peer holds back what follows it", "error", err)
			}
		}
		return
	}
	b = bytes.Clone(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.queued > queuedMessages*c.limits.MaxMessage && !c.closed {
		c.change.Wait()
	}
	c.queue = append(c.queue, b)
	c.queued += len(b)
	c.change.Broadcast()
}

// nodeCommand tells a message that is Node's own: its cmd is a text that begins with NODE_ and
// goes on. b is JSON.
func nodeCommand(b []byte) (cmd string, ours bool) {
	b = bytes.TrimLeft(b, jsonSpace)
	if b[0] != '{' || !bytes.Contains(b, []byte(nodePrefix)) && !bytes.Contains(b, []byte(`\u`)) {
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

// feed hands the lines to whoever reads.
func (c *channel) feed(to net.Conn) {
	defer to.Close()
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && c.ended == nil && !c.closed {
			c.change.Wait()
		}
		if len(c.queue) == 0 || c.closed {
			c.mu.Unlock()
			return
		}
		b := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.queued -= len(b)
		c.change.Broadcast()
		c.mu.Unlock()
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// givenChannel is the descriptor of which the environment says that it is the channel. The variables
// go, so that our own children do not think it theirs.
func givenChannel() (fd int, err error) {
	number, given := os.LookupEnv(channelFD)
	mode := os.Getenv(channelMode)
	os.Unsetenv(channelFD)
	os.Unsetenv(channelMode)
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
