package main

// This file owns the frames that libuv, and so Node.js on Windows, uses on an IPC
// pipe: src/win/pipe.c, uv__ipc_frame_header_t. Payload boundaries mean nothing;
// docs/protocol.md, section 8, has the layout.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"syscall"
)

const (
	frameHeader = 16  // bytes: flags, a reserved word, the length of the payload, a second reserved word
	frameSocket = 632 // bytes before the payload of a frame with a socket: WSAPROTOCOL_INFOW and an error

	frameHasData    = 1 // the flags
	frameHasSocket  = 2
	frameConnection = 4 // the socket is a connection, not a listener
	frameFlags      = frameHasData | frameHasSocket | frameConnection

	framePart    = 64<<10 - frameHeader // the longest payload that we write: such a frame fits into the buffer of the pipe
	frameLongest = 1<<31 - 1            // the longest that we read: the longest string of V8 has 2^29 characters of at most 3 bytes
)

// frames is a net.Conn that carries payloads in frames over another. At most one goroutine may read and one
// write at a time; the channel above it sees to that.
type frames struct {
	net.Conn
	in     *bufio.Reader
	left   int               // bytes left of the payload that is being read
	socket func(info []byte) // closes a socket that comes along
	out    []byte            // the frame that is being written
	failed error             // the first error of a write; nothing is written after it, because part of a frame may have been sent
}

func newFrames(raw net.Conn, socket func(info []byte)) *frames {
	return &frames{Conn: raw, in: bufio.NewReaderSize(raw, inputLarge), socket: socket}
}

// Read reads payload. The end of the stream inside a frame is a normal end: the writer was killed.
func (f *frames) Read(b []byte) (int, error) {
	for f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n, err := f.in.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}

// next reads the header of a frame, and its socket.
func (f *frames) next() error {
	header, err := f.in.Peek(frameHeader)
	if err != nil {
		return err
	}
	flags, length := binary.LittleEndian.Uint32(header), binary.LittleEndian.Uint32(header[8:])
	reserved := binary.LittleEndian.Uint32(header[12:]) // that of the word behind the flags is ignored
	switch {
	case flags&^frameFlags != 0:
		return faultf(codeParse, "a frame has the flags %#x; known are %#x", flags, frameFlags)
	case flags&frameConnection != 0 && flags&frameHasSocket == 0:
		return faultf(codeParse, "a frame says what its socket is and has none")
	case reserved != 0:
		return faultf(codeParse, "a frame has %#x where 0 must be", reserved)
	case length != 0 && flags&frameHasData == 0:
		return faultf(codeParse, "a frame without data announces %d bytes", length)
	case length > frameLongest:
		return faultf(codeParse, "a frame announces %d bytes; the most is %d", length, frameLongest)
	}
	size := frameHeader
	if flags&frameHasSocket != 0 {
		size += frameSocket
		whole, err := f.in.Peek(size)
		if err != nil {
			return err
		}
		f.socket(whole[frameHeader:])
	}
	f.left = int(length)
	_, err = f.in.Discard(size)
	return err
}

// Write writes each frame with one call: once Node has seen the first byte of a header, it blocks until
// it has all of it.
func (f *frames) Write(b []byte) (n int, err error) {
	for n < len(b) && f.failed == nil {
		part := b[n:min(len(b), n+framePart)]
		f.out = binary.LittleEndian.AppendUint32(f.out[:0], frameHasData)
		f.out = binary.LittleEndian.AppendUint32(f.out, 0)
		f.out = binary.LittleEndian.AppendUint32(f.out, uint32(len(part)))
		f.out = append(binary.LittleEndian.AppendUint32(f.out, 0), part...)
		var sent int
		sent, f.failed = f.Conn.Write(f.out)
		n += max(0, sent-frameHeader)
	}
	return n, f.failed
}

// SyscallConn is for asking the kernel about the other end.
func (f *frames) SyscallConn() (syscall.RawConn, error) {
	s, ok := f.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}
