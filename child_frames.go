package main

// This file owns the frames into which libuv, and so Node.js on Windows, puts what goes over an IPC
// pipe: src/win/pipe.c, uv__ipc_frame_header_t. Where one payload ends and the next begins means
// nothing; docs/protocol.md, section 8, has the bytes.

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
	frameConnection = 4 // the socket is a connection, and no listener
	frameFlags      = frameHasData | frameHasSocket | frameConnection

	framePart    = 64<<10 - frameHeader // the longest payload that we write: a frame then fits into the pipe's buffer
	frameLongest = 1<<31 - 1            // the longest that we read: the longest text of V8 has 2^29 characters of at most 3 bytes
)

// A frames is a pipe that reads and writes payloads. One reads and one writes at a time, which
// the channel above it sees to.
type frames struct {
	net.Conn
	in     *bufio.Reader
	left   int               // of the payload that is being read
	socket func(info []byte) // closes a socket that comes along
	out    []byte            // the frame that is being written
	failed error             // of the write after which nothing is written: the frame may have gone out in part
}

func newFrames(raw net.Conn, socket func(info []byte)) *frames {
	return &frames{Conn: raw, in: bufio.NewReaderSize(raw, inputLarge), socket: socket}
}

// Read reads payload. A stream that ends inside a frame ends as any other: its writer was killed.
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

// next reads what stands before a payload.
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

// Write writes each frame at once: Node's reader, having seen its first byte, stands still until
// it has the header.
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

// SyscallConn lets the kernel be asked about the other end.
func (f *frames) SyscallConn() (syscall.RawConn, error) {
	s, ok := f.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}
