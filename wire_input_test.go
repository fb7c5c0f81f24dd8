package main

// This file owns how a protocol is told by its first bytes, and the input below all codecs: what has
// arrived stays until it is taken, and a message that has begun has one deadline.

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDetect(t *testing.T) {
	tests := []struct {
		first string
		want  proto
	}{
		{"", protoUnknown},
		{"{", protoJSON}, {"[", protoJSON}, {" {", protoJSON}, {"\t[", protoJSON}, {"\r\ncontent-", protoJSON}, {"\nhello", protoJSON},
		{" ", protoUnknown}, {"\r\n\r\n", protoUnknown}, {strings.Repeat(" ", maxBlank+1), protoJSON},
		{"\r\nGET / HTTP/1.1", protoHTTP}, {" \tPOST /", protoHTTP}, {"\r\nPO", protoUnknown}, {strings.Repeat(" ", maxBlank+1) + "GET /", protoJSON},
		{"Content-Length: 1", protoJSON}, {"content-type: x", protoJSON}, {"CONTENT-", protoJSON},
		{"Content", protoUnknown}, {"C", protoUnknown}, {"c", protoUnknown},
		{"GET / HTTP/1.1", protoHTTP}, {"POST ", protoHTTP}, {"PUT ", protoHTTP}, {"CONNECT /_goRPC_", protoHTTP}, {"PRI * HTTP/2.0", protoHTTP},
		{"P", protoUnknown}, {"GET", protoUnknown}, {"CON", protoUnknown}, {"PRI * ", protoUnknown},
		{"\x16", protoUnknown}, {"\x16\x03", protoTLS}, {"\x16\x04", protoGob},
		{"GETX", protoJSON}, {"get ", protoJSON}, {"Conx", protoJSON}, {"hello", protoJSON}, {"é", protoJSON}, {"SSH-2.0-x", protoJSON},
		{`"ready"`, protoJSON}, {"5 ", protoJSON}, {"-1", protoJSON}, {"null", protoJSON}, {`"`, protoUnknown}, {"5", protoUnknown}, {"\xc3", protoUnknown},
		{"\x2e\x7f\x03\x01\x01\x07Request", protoGob}, {"\x22\xff\x81", protoGob}, {"\x00", protoGob}, {"\x00a", protoGob}, {"a\x00", protoGob}, {"\xfe\x01", protoGob},
	}
	for _, test := range tests {
		if got := detect([]byte(test.first)); got != test.want {
			t.Errorf("detect(%q) = %q; want %q", test.first, got, test.want)
		}
	}
}

// A token is known with its last byte, and no sooner; with another byte in it, it is something else.
func TestDetectReadsTokensToTheEnd(t *testing.T) {
	tokens := map[string]proto{byteOrderMark: protoJSON, lspHeader: protoJSON, "Content-": protoJSON, "cOnTeNt-": protoJSON, "\x16\x03": protoTLS}
	for _, m := range httpMethods {
		tokens[m] = protoHTTP
	}
	for token, want := range tokens {
		for n := range len(token) {
			if got := detect([]byte(token[:n])); got != protoUnknown {
				t.Errorf("detect(%q) = %q; want to wait for the rest of %q", token[:n], got, token)
			}
			other := protoJSON // what has begun as text
			if n < 2 {
				other = protoGob
			}
			if got := detect([]byte(token[:n] + "\x00")); got != other {
				t.Errorf("detect(%q) = %q; want %q", token[:n]+"\x00", got, other)
			}
		}
		for _, more := range []string{"", "\x00", "{"} {
			if got := detect([]byte(token + more)); got != want {
				t.Errorf("detect(%q) = %q; want %q", token+more, got, want)
			}
		}
	}
}

// Whatever comes behind the bytes by which a protocol was known does not change it.
func FuzzDetect(f *testing.F) {
	for _, seed := range []string{"{", "Content-Length: 1\r\n", "POST /rpc HTTP/1.1\r\n", "\x16\x03\x01", "\x2e\x7f\x03", "PRI * HTTP/2.0", "\r\nGET / HTTP/1.1", " \x2e"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(around(func(t *testing.T, b []byte) {
		known := protoUnknown
		for n := range len(b) + 1 {
			p := detect(b[:n])
			if known != protoUnknown && p != known {
				t.Fatalf("detect(%q) = %q, and %q of less", b[:n], p, known)
			}
			known = p
		}
		if known == protoUnknown && len(b) >= maxBlank+len("PRI * HTTP/2") {
			t.Fatalf("detect(%q) needs more; want it to know by now", b)
		}
	}))
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
		if _, err := in.discard(1000); err != nil {
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
	if _, err := in.discard(1); err != io.ErrUnexpectedEOF {
		t.Errorf("discard at the end = %v; want %v", err, io.ErrUnexpectedEOF)
	}
}

// A deadlineConn notes what deadlines were set: true where one was, false where it was taken away.
type deadlineConn struct {
	net.Conn
	set []bool
}

func (c *deadlineConn) SetReadDeadline(at time.Time) error {
	c.set = append(c.set, !at.IsZero())
	return c.Conn.SetReadDeadline(at)
}

// connected gives both ends of a connection in memory and of one through the system.
func connected(t *testing.T, test func(t *testing.T, near *deadlineConn, far net.Conn)) {
	run := func(name string, near, far net.Conn) {
		t.Run(name, func(t *testing.T) {
			defer near.Close()
			defer far.Close()
			far.SetDeadline(time.Now().Add(testPatience))
			test(t, &deadlineConn{Conn: near}, far)
		})
	}
	near, far := net.Pipe()
	run("pipe", near, far)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	run("tcp", near, far)
}

// One deadline is for all of a message, however it drips. Between messages there is none.
func TestInputHasOneDeadlineForAMessage(t *testing.T) {
	connected(t, func(t *testing.T, near *deadlineConn, far net.Conn) {
		in := newInput(near, defaultLimits())
		step := func(text string, n int, want ...bool) {
			t.Helper()
			near.set = nil
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(far, text)
				sent <- err
			}()
			for len(in.bytes()) < n { // begun as soon as there is something
				if err := in.more(len(in.bytes()) > 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := receive(t, sent); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(near.set, want) {
				t.Errorf("deadlines for %q: %v; want %v", text, near.set, want)
			}
		}
		step("abc", 3)          // whole in one read: none
		step("d", 4, true)      // it goes on, so it had begun
		step("e", 5)            // and has its deadline
		step("f", 6)            //
		in.advance(6)           // whole
		step("x", 1, false)     // the next may take as long as it likes to begin
		step("y", 2, true)      //
		in.advance(1)           // x was whole: y is of the next
		step("z", 2, true)      // which has a deadline of its own
		in.advance(2)           //
		step("12345", 5, false) //
		near.set = nil
		sent := make(chan error, 1)
		go func() { // by bytes, so that it is more than one read
			for range 20 {
				if _, err := io.WriteString(far, "x"); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		_, err := in.discard(25)
		if err := errors.Join(err, receive(t, sent)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(near.set, []bool{true}) {
			t.Errorf("deadlines for what is dropped: %v; want one", near.set)
		}
	})
}

func TestInputNamesTheLimitThatPassed(t *testing.T) {
	connected(t, func(t *testing.T, near *deadlineConn, far net.Conn) {
		l := defaultLimits()
		l.Message = time.Millisecond
		in := newInput(near, l)
		in.first(time.Millisecond) // the first bytes have a limit of their own
		if err := in.more(true); !isTimeout(err) {
			t.Errorf("first bytes that do not come: %v; want the time-out as it is", err)
		}
		in.first(testPatience)
		go io.WriteString(far, "abc")
		if err := in.more(true); err != nil || len(in.bytes()) == 0 {
			t.Fatalf("first bytes: %q, %v", in.bytes(), err)
		}
		in.opened()
		_, err := in.need(4, true)
		f := checkCode(t, "a message that stops", err, codeTooLarge, "not complete in time")
		if f.data().Limit != "message" || f.data().Max != 1 {
			t.Errorf("it names %+v; want the limit message, 1", f.Data)
		}
		if got := string(in.bytes()); got != "abc" {
			t.Errorf("after it %q is there; want all that came", got)
		}
	})
}

func TestInputStopsForGood(t *testing.T) {
	connected(t, func(t *testing.T, near *deadlineConn, far net.Conn) {
		in := newInput(near, defaultLimits())
		done := make(chan error, 1)
		go func() { done <- in.more(false) }()
		in.stopAt(time.Now())
		if err := receive(t, done); !isTimeout(err) {
			t.Errorf("the read under way ended with %v; want a time-out", err)
		}
		in.first(testPatience)
		if _, err := in.need(1, true); !isTimeout(err) { // which would arm it
			t.Errorf("the next read ended with %v; want a time-out", err)
		}
	})
}

// A silentReader gives nothing, and no error.
type silentReader struct{}

func (silentReader) Read([]byte) (int, error) { return 0, nil }

func TestInputGivesUpOnAReaderWithoutProgress(t *testing.T) {
	if err := newInput(silentReader{}, defaultLimits()).more(false); err != io.ErrNoProgress {
		t.Errorf("more = %v; want %v", err, io.ErrNoProgress)
	}
}

func TestFaultsSurviveAProtocolOfText(t *testing.T) {
	for _, f := range []*fault{
		{Code: codeApplication, Text: "words"}, {Code: codeNoMethod, Text: "there is no method A.B"},
		{Code: codeTooLarge, Text: "(code 7) (code -1)"}, {Code: codeBusy}, {Code: codeApplication, Text: "ends in (code 5)"},
	} {
		if got := faultOfText(textOfFault(f)); got.Code != f.Code || got.Text != f.Text {
			t.Errorf("%+v was written as %q and read as %+v", f, textOfFault(f), got)
		}
	}
	if text := textOfFault(&fault{Code: codeApplication}); text == "" {
		t.Error("an error without words says that there is none")
	}
}

// A session that stops, and then goes on, does not give more time to a message that has begun: neither to one whose rest it
// waits for, nor to one that began meanwhile.
func TestGoingOnKeepsTheTimeOfAMessage(t *testing.T) {
	for name, meanwhile := range map[string]bool{"before": false, "meanwhile": true} {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		l := defaultLimits()
		l.Message = 100 * time.Millisecond
		in := newInput(ours, l)
		if meanwhile {
			in.stopAt(time.Now().Add(time.Hour))
		}
		ended := make(chan error, 1)
		go func() {
			if _, err := in.need(1, false); err != nil {
				ended <- err
				return
			}
			_, err := in.need(2, true)
			ended <- err
		}()
		theirs.Write([]byte("{"))
		waitFor(t, func() error {
			in.mu.Lock()
			defer in.mu.Unlock()
			if !in.armed {
				return errors.New("nobody waits for the rest")
			}
			return nil
		})
		if !meanwhile {
			in.stopAt(time.Now().Add(time.Hour))
		}
		in.goOn()
		checkCode(t, name, receive(t, ended), codeTooLarge, "message")
	}
}
