package main

import (
	"io"
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	tests := []struct {
		first string
		want  proto
	}{
		{"", protoUnknown},
		{"{", protoJSON}, {"[", protoJSON}, {" ", protoJSON}, {"\t", protoJSON}, {"\r", protoJSON}, {"\n", protoJSON},
		{"Content-Length: 1", protoJSON}, {"content-type: x", protoJSON}, {"CONTENT-", protoJSON},
		{"Content", protoUnknown}, {"C", protoUnknown}, {"c", protoUnknown},
		{"GET / HTTP/1.1", protoHTTP}, {"POST ", protoHTTP}, {"PUT ", protoHTTP}, {"CONNECT /_goRPC_", protoHTTP}, {"PRI * HTTP/2.0", protoHTTP},
		{"P", protoUnknown}, {"GET", protoUnknown}, {"CON", protoUnknown}, {"PRI * ", protoUnknown},
		{"\x16", protoUnknown}, {"\x16\x03", protoTLS}, {"\x16\x04", protoGob},
		{"GETX", protoGob}, {"get ", protoGob}, {"Conx", protoGob},
		{"\x2e\x7f\x03\x01\x01\x07Request", protoGob}, {"\x00", protoGob}, {"hello", protoGob},
	}
	for _, test := range tests {
		if got := detect([]byte(test.first)); got != test.want {
			t.Errorf("detect(%q) = %q; want %q", test.first, got, test.want)
		}
	}
}

// Whatever comes behind the bytes by which a protocol was known does not change it.
func FuzzDetect(f *testing.F) {
	for _, seed := range []string{"{", "Content-Length: 1\r\n", "POST /rpc HTTP/1.1\r\n", "\x16\x03\x01", "\x2e\x7f\x03", "PRI * HTTP/2.0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		known := protoUnknown
		for n := range len(b) + 1 {
			p := detect(b[:n])
			if known != protoUnknown && p != known {
				t.Fatalf("detect(%q) = %q, and %q of less", b[:n], p, known)
			}
			known = p
		}
		if known == protoUnknown && len(b) >= len("PRI * HTTP/2") {
			t.Fatalf("detect(%q) needs more; want it to know by now", b)
		}
	})
}

// A dripReader gives n bytes a read.
type dripReader struct {
	text string
	n    int
}

func (r *dripReader) Read(b []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(r.n, len(b))], r.text)
	r.text = r.text[n:]
	return n, nil
}

func TestInputGivesAllThatArrives(t *testing.T) {
	text := strings.Repeat("0123456789", 20_000) // more than both buffers
	for _, n := range []int{1, 7, 4096, 1 << 20} {
		in := newInput(&dripReader{text, n}, defaultLimits())
		var got strings.Builder
		for _, size := range []int{1, 3, inputSmall, inputLarge + 1, 10} {
			b, err := in.need(size, false)
			if err != nil {
				t.Fatal(err)
			}
			got.Write(b)
			in.advance(size)
		}
		if err := in.discard(1000); err != nil {
			t.Fatal(err)
		}
		got.WriteString(text[got.Len() : got.Len()+1000])
		for {
			b, err := in.need(1, false)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got.Write(b)
			in.advance(1)
		}
		if got.String() != text {
			t.Errorf("reads of %d bytes gave other bytes than were sent", n)
		}
	}
}

func TestInputTellsTheEndInsideAMessage(t *testing.T) {
	in := newInput(strings.NewReader("abc"), defaultLimits())
	if _, err := in.need(4, false); err != io.ErrUnexpectedEOF {
		t.Errorf("need(4) of 3 bytes = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	in = newInput(strings.NewReader(""), defaultLimits())
	if _, err := in.need(1, false); err != io.EOF {
		t.Errorf("need at the end = %v; want %v", err, io.EOF)
	}
	if _, err := in.need(1, true); err != io.ErrUnexpectedEOF {
		t.Errorf("need of what continues a message = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	if err := in.discard(1); err != io.ErrUnexpectedEOF {
		t.Errorf("discard at the end = %v; want %v", err, io.ErrUnexpectedEOF)
	}
}
