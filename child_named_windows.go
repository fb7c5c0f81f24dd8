package main

// This file is the channel of programs on Windows that are not Node.js: a named pipe, which such a program opens by the
// name in IPCD_CHANNEL_PIPE. Lines go over it as they are. A child may be given both this and Node's channel: the one on
// which its first message comes is the one.

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/windows"
)

// A namedChannel is our end of a pipe that the child may open, which it has at the first Read.
type namedChannel struct {
	handle windows.Handle // until it is connected
	stop   windows.Handle // an event: nobody waits for the child any more
	once   sync.Once

	mu   sync.Mutex
	conn net.Conn // nil until the child has opened its end
	over bool     // the child has gone, or we have closed it
}

// newNamedChannel returns our end of a pipe, and the name of the other.
func newNamedChannel() (*namedChannel, string, error) {
	handle, name, err := newPipe()
	if err != nil {
		return nil, "", err
	}
	stop, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		windows.CloseHandle(handle)
		return nil, "", os.NewSyscallError("CreateEvent", err)
	}
	return &namedChannel{handle: handle, stop: stop}, name, nil
}

// open waits for the child to open its end. Only one goroutine may call it, once.
func (c *namedChannel) open() (net.Conn, error) {
	opened, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(opened)
	o := windows.Overlapped{HEvent: opened}
	switch err = windows.ConnectNamedPipe(c.handle, &o); err {
	case nil, windows.ERROR_PIPE_CONNECTED:
		err = nil
	case windows.ERROR_IO_PENDING:
		var first uint32
		if first, err = windows.WaitForMultipleObjects([]windows.Handle{opened, c.stop}, false, windows.INFINITE); err == nil && first != windows.WAIT_OBJECT_0 {
			windows.CancelIoEx(c.handle, &o)
			err = io.EOF
		}
		var n uint32
		if done := windows.GetOverlappedResult(c.handle, &o, &n, true); err == nil { // until it has ended, o is the kernel's
			err = done
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.over {
		err = net.ErrClosed
	}
	if err != nil {
		windows.CloseHandle(c.handle)
		c.over = true
		return nil, err
	}
	if c.conn, err = connOf(c.handle); err == nil {
		c.conn = &programConn{Conn: c.conn}
	}
	return c.conn, err
}

// giveUp ends open: the child has gone, or is not heard on this channel.
func (c *namedChannel) giveUp() { windows.SetEvent(c.stop) }

// connected returns the connection, or nil. Without one, giveUp has been called: once, since Close then closes the event, whose
// number may soon be that of another.
func (c *namedChannel) connected() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil && !c.over {
		c.over = true
		c.giveUp()
	}
	return c.conn
}

// An either is a channel whose other end is at one of two places.
type either struct {
	net.Conn // Node's channel
	named    *namedChannel

	begin  sync.Once
	firsts chan firstRead
	left   []byte // of the first read; only the reader uses it
	end    sync.WaitGroup

	mu     sync.Mutex
	chosen net.Conn // nil until the first bytes have come
}

// A firstRead is what came first over one of the two.
type firstRead struct {
	from net.Conn
	b    []byte
	err  error
}

func newEither(node net.Conn, named *namedChannel) *either {
	return &either{Conn: node, named: named, firsts: make(chan firstRead, 2)}
}

// Read waits for the first bytes, and then reads from where they came.
func (e *either) Read(b []byte) (int, error) {
	e.begin.Do(func() {
		e.end.Go(func() { e.listen(e.Conn, nil) })
		e.end.Go(func() { e.listen(e.named.open()) })
	})
	chosen := e.choice()
	for tries := 0; chosen == nil; tries++ {
		first := <-e.firsts
		switch {
		case len(first.b) > 0:
			chosen, e.left = first.from, first.b
			e.choose(chosen)
		case tries > 0 || !errors.Is(first.err, io.EOF):
			e.firsts <- first // for the next Read
			return 0, first.err
		}
	}
	if len(e.left) > 0 {
		n := copy(b, e.left)
		e.left = e.left[n:]
		return n, nil
	}
	return chosen.Read(b)
}

// listen reads the first bytes of a connection.
func (e *either) listen(from net.Conn, err error) {
	first := firstRead{from: from, err: err}
	if err == nil {
		buf := make([]byte, inputSmall)
		var n int
		n, first.err = from.Read(buf)
		first.b = buf[:n]
	}
	e.firsts <- first
}

func (e *either) choice() net.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.chosen
}

// choose closes the other of the two.
func (e *either) choose(c net.Conn) {
	e.mu.Lock()
	e.chosen = c
	e.mu.Unlock()
	if c != e.Conn {
		e.Conn.Close()
	} else if other := e.named.connected(); other != nil {
		other.Close()
	}
}

// Write writes to where the first bytes came from; before that Node.js is as likely as anybody.
func (e *either) Write(b []byte) (int, error) { return e.current().Write(b) }

func (e *either) current() net.Conn {
	if c := e.choice(); c != nil {
		return c
	}
	return e.Conn
}

func (e *either) SetWriteDeadline(t time.Time) error { return e.current().SetWriteDeadline(t) }

func (e *either) SetReadDeadline(t time.Time) error {
	if c := e.named.connected(); c != nil {
		c.SetReadDeadline(t)
	}
	return e.Conn.SetReadDeadline(t)
}

// Close closes both.
func (e *either) Close() error {
	err := e.Conn.Close()
	e.begin.Do(func() { // nobody has read, and whoever comes to do so finds it closed
		windows.CloseHandle(e.named.handle)
		e.firsts <- firstRead{err: net.ErrClosed}
	})
	if c := e.named.connected(); c != nil {
		c.Close()
	}
	e.end.Wait()
	e.named.once.Do(func() { windows.CloseHandle(e.named.stop) })
	return err
}
