package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// A taped is a pipe whose other end has written all it will, and that keeps what is written to
// it, each write by itself. With room for less than a write it breaks.
type taped struct {
	net.Conn
	io.Reader
	writes [][]byte
	room   int
}

func (c *taped) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func (c *taped) Write(b []byte) (int, error) {
	c.writes = append(c.writes, bytes.Clone(b))
	if c.room -= len(b); c.room < 0 {
		return len(b) + c.room, io.ErrClosedPipe
	}
	return len(b), nil
}

// frameOf is a frame as libuv writes it.
func frameOf(flags uint32, payload string) string {
	var b []byte
	for _, word := range []uint32{flags, 0, uint32(len(payload)), 0} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	if flags&frameHasSocket != 0 {
		b = append(b, strings.Repeat("s", frameSocket)...)
	}
	return string(b) + payload
}

// framesOf reads text as frames and counts the sockets in them.
func framesOf(r io.Reader) (payload string, sockets int, err error) {
	f := newFrames(&taped{Reader: r}, func(info []byte) {
		if len(info) == frameSocket {
			sockets++
		}
	})
	b, err := io.ReadAll(f)
	return string(b), sockets, err
}

func TestFramesReadWhatNodeWrites(t *testing.T) {
	long := strings.Repeat("long", 1<<18)
	text := frameOf(frameHasData, "one") + frameOf(0, "") + frameOf(frameHasData, "") + frameOf(frameHasData|frameHasSocket, "two") +
		frameOf(frameHasSocket|frameConnection, "") + frameOf(frameHasData, long) +
		"\x01\x00\x00\x00\xff\xff\xff\xff\x04\x00\x00\x00\x00\x00\x00\x00last" // the first reserved word is ignored
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "with the end": iotest.DataErrReader,
	} {
		payload, sockets, err := framesOf(wrap(strings.NewReader(text)))
		if payload != "onetwo"+long+"last" || sockets != 2 || err != nil {
			t.Errorf("%s: read %d bytes, %d sockets, %v; want %d and 2", name, len(payload), sockets, err, len("onetwo"+long+"last"))
		}
	}
}

// A child may be killed at any byte.
func TestFramesEndAnywhere(t *testing.T) {
	text := frameOf(frameHasData|frameHasSocket, "one") + frameOf(frameHasData, "two")
	for n := range len(text) {
		payload, _, err := framesOf(strings.NewReader(text[:n]))
		if !strings.HasPrefix("onetwo", payload) || err != nil {
			t.Errorf("of the first %d bytes, %q was read, %v", n, payload, err)
		}
	}
}

func TestFramesRefuseWhatNobodyWrites(t *testing.T) {
	head := func(words ...uint32) string {
		var b []byte
		for _, word := range words {
			b = binary.LittleEndian.AppendUint32(b, word)
		}
		return string(b)
	}
	for _, test := range []struct{ text, want string }{
		{head(8|frameHasData, 0, 1, 0), "the flags 0x9"},
		{head(frameHasData|frameConnection, 0, 1, 0), "has none"},
		{head(frameHasData, 0, 1, 1), "where 0 must be"},
		{head(0, 0, 1, 0), "announces 1 bytes"},
		{head(frameHasSocket, 0, 1, 0), "announces 1 bytes"},
		{head(frameHasData, 0, 1<<31, 0), "the most is"},
		{"{\"text\":\"without a frame\"}\n", "the flags"},
	} {
		payload, sockets, err := framesOf(strings.NewReader(frameOf(frameHasData, "before") + test.text + frameOf(frameHasData, "after")))
		if payload != "before" || sockets != 0 || !errors.Is(err, &fault{Code: codeParse}) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: read %q, %v; want %q", test.text, payload, err, test.want)
		}
	}
}

// Node's reader stands still between a header and the rest of it.
func TestFramesAreWrittenAtOnce(t *testing.T) {
	end := &taped{room: 1 << 30}
	f := newFrames(end, nil)
	message := strings.Repeat("message", 30000)
	for _, text := range []string{message, "short"} {
		if n, err := io.WriteString(f, text); n != len(text) || err != nil {
			t.Fatalf("wrote %d bytes, %v; want %d", n, err, len(text))
		}
	}
	var all []byte
	for _, b := range end.writes {
		if payload, _, err := framesOf(bytes.NewReader(b)); err != nil || len(payload) != len(b)-frameHeader || len(b) > framePart+frameHeader {
			t.Errorf("a write of %d bytes has a payload of %d, %v; want one whole frame", len(b), len(payload), err)
		}
		all = append(all, b...)
	}
	if payload, _, err := framesOf(bytes.NewReader(all)); payload != message+"short" || err != nil {
		t.Errorf("%d bytes of payload went out, %v; want %d", len(payload), err, len(message)+len("short"))
	}
}

// What follows a frame that went out in part would be taken for the rest of it.
func TestFramesWriteNothingAfterABrokenOne(t *testing.T) {
	end := &taped{room: frameHeader + 3}
	f := newFrames(end, nil)
	for i, want := range []int{3, 0} {
		if n, err := io.WriteString(f, "message"); n != want || err != io.ErrClosedPipe {
			t.Errorf("write %d = %d, %v; want %d, %v", i, n, err, want, io.ErrClosedPipe)
		}
	}
	if len(end.writes) != 1 {
		t.Errorf("%d writes; want 1", len(end.writes))
	}
}

// A parent that does not speak in frames is told of in the log, and is disconnected.
func TestChannelEndsAtABrokenFrame(t *testing.T) {
	var log logBuffer
	ours, theirs := net.Pipe()
	c := newChannel(newFrames(ours, nil), defaultLimits(), newLogger(&log, formatText, levelWarn))
	defer theirs.Close()
	go io.WriteString(theirs, frameOf(frameHasData, "{\"message\":1}\n")+frameOf(frameHasData|8, ""))
	text, err := io.ReadAll(c)
	if string(text) != "{\"message\":1}\n" || err != nil {
		t.Errorf("read %q, %v; want the message before the broken frame", text, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "the channel cannot be read any further") {
		t.Errorf("the log is %q", log.String())
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(frameOf(frameHasData, "one") + frameOf(frameHasData|frameHasSocket, "two")))
	f.Add([]byte(frameOf(frameHasSocket|frameConnection, "") + frameOf(0, "")))
	f.Add([]byte(frameOf(8, "bad")))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00more is announced than comes"))
	f.Fuzz(around(func(t *testing.T, b []byte) {
		payload, sockets, err := framesOf(bytes.NewReader(b))
		if len(payload)+sockets*frameSocket > len(b) {
			t.Fatalf("%d bytes of payload and %d sockets in %d bytes", len(payload), sockets, len(b))
		}
		if err != nil && !errors.Is(err, &fault{Code: codeParse}) {
			t.Fatalf("read = %v; want a fault or the end", err)
		}
		slow, more, slowly := framesOf(iotest.OneByteReader(bytes.NewReader(b)))
		if slow != payload || more != sockets || (slowly == nil) != (err == nil) {
			t.Fatalf("byte by byte %q, %d sockets, %v; at once %q, %d, %v", slow, more, slowly, payload, sockets, err)
		}
		end := &taped{room: 1 << 30}
		if _, err := io.WriteString(newFrames(end, nil), payload); err != nil {
			t.Fatal(err)
		}
		if again, _, err := framesOf(bytes.NewReader(bytes.Join(end.writes, nil))); again != payload || err != nil {
			t.Fatalf("what was written reads as %q, %v; want %q", again, err, payload)
		}
	}))
}
