package main

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/rpc"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// A GobParcel has one of most things that gob can carry.
type GobParcel struct {
	Name  string
	Age   int
	Size  uint16
	Share float64
	Raw   []byte
	Tags  []string
	Rooms map[string]GobRoom
	Door  *GobRoom
	Three [3]int8
	At    time.Time
	Yes   bool
	Wave  complex128
}

type GobRoom struct{ Floor, Number int }

var parcel = GobParcel{
	Name: "Ada <ä>", Age: -36, Size: 65535, Share: 0.25, Raw: []byte{0, 1, 255}, Tags: []string{"a", ""},
	Rooms: map[string]GobRoom{"x": {1, 200}}, Door: &GobRoom{-1, 0}, Three: [3]int8{-128, 0, 127},
	At: time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC), Yes: true, Wave: complex(1, -2),
}

// gobStream is what a net/rpc client sends for calls of the same method with these arguments.
func gobStream(t testing.TB, args ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	for i, arg := range args {
		if err := errors.Join(enc.Encode(rpc.Request{ServiceMethod: "Echo.Say", Seq: uint64(i)}), enc.Encode(arg)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func readGob(r io.Reader, l limits) codec { return newGobCodec(newInput(r, l), l, request) }

// same types and more than one message, so that later ones come without definitions.
func TestGobReadsWhatTheStandardLibrarySends(t *testing.T) {
	stream := gobStream(t, "hello", "", parcel, []byte("bytes"), parcel, 7, true, -0.5, map[string]int{"a": 1}, []GobRoom{{1, 2}})
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream))} {
		t.Run(name, func(t *testing.T) {
			c := readGob(r, defaultLimits())
			for i, want := range []any{"hello", "", parcel, []byte("bytes"), nil, 7, true, -0.5, map[string]int{"a": 1}, []GobRoom{{1, 2}}} {
				var m message
				if err := c.read(&m); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				if m.kind != request || m.method != "Echo.Say" || m.id.seq != uint64(i) {
					t.Fatalf("message %d: %+v", i, m)
				}
				if want == nil { // dropped
					continue
				}
				got := reflect.New(reflect.TypeOf(want))
				if err := c.body(got.Interface()); err != nil {
					t.Fatalf("body %d: %v", i, err)
				}
				if !reflect.DeepEqual(got.Elem().Interface(), want) {
					t.Errorf("body %d = %v; want %v", i, got.Elem(), want)
				}
			}
			var m message
			if err := c.read(&m); err != io.EOF {
				t.Errorf("at the end: %v; want EOF", err)
			}
		})
	}
}

func TestGobBodyBecomesJSON(t *testing.T) {
	c := readGob(bytes.NewReader(gobStream(t, parcel)), defaultLimits())
	var m message
	var got json.RawMessage
	if err := errors.Join(c.read(&m), c.body(&got)); err != nil {
		t.Fatal(err)
	}
	var back GobParcel
	parcelJSON := map[string]any{}
	if err := json.Unmarshal(got, &parcelJSON); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	delete(parcelJSON, "Wave")
	b, err := json.Marshal(parcelJSON)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	want := parcel
	want.Wave = 0
	if !reflect.DeepEqual(back, want) {
		t.Errorf("%s = %+v; want %+v", got, back, want)
	}
}

func TestGobWrongTypeConcernsOneMessage(t *testing.T) {
	c := readGob(bytes.NewReader(gobStream(t, parcel, "text", GobRoom{1, 2}, parcel)), defaultLimits())
	targets := []any{new(string), new(GobRoom), new([]string), new(GobParcel)}
	for i, v := range targets {
		var m message
		if err := c.read(&m); err != nil {
			t.Fatal(err)
		}
		err := c.body(v)
		var f *fault
		if i == len(targets)-1 {
			if err != nil {
				t.Errorf("the right type after wrong ones: %v", err)
			}
		} else if !errors.As(err, &f) || f.Code != codeBadArgument {
			t.Errorf("body %d = %v; want codeBadArgument", i, err)
		}
	}
}

// written returns what a stock decoder reads of messages that our codec writes.
func TestGobWritesWhatTheStandardLibraryReads(t *testing.T) {
	l := defaultLimits()
	c := newGobCodec(newInput(nil, l), l, request)
	var b []byte
	var err error
	bodies := []any{"hello", parcel, []byte{1}, strings.Repeat("x", 200), make(chan int), parcel, strings.Repeat("y", 70000), []GobRoom{{1, 2}}, nil, parcel}
	for i, body := range bodies {
		m := &message{kind: response, id: callID{seq: uint64(i)}, method: "Echo.Say"}
		before := string(b)
		if b, err = c.write(b, m, body); err != nil {
			if i != 4 || string(b) != before {
				t.Fatalf("write %d: %v, %d bytes; had %d", i, err, len(b), len(before))
			}
			m.fault = &fault{Code: codeInternal, Text: "no encoding"}
			if b, err = c.write(b, m, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	dec := gob.NewDecoder(bytes.NewReader(b))
	for i, body := range bodies {
		var h rpc.Response
		if err := dec.Decode(&h); err != nil {
			t.Fatalf("header %d: %v", i, err)
		}
		if h.Seq != uint64(i) || h.ServiceMethod != "Echo.Say" || (h.Error != "") != (i == 4) {
			t.Fatalf("header %d: %+v", i, h)
		}
		if i == 4 || body == nil {
			var drop any
			if err := dec.Decode(drop); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got := reflect.New(reflect.TypeOf(body))
		if err := dec.Decode(got.Interface()); err != nil {
			t.Fatalf("body %d: %v", i, err)
		}
		if !reflect.DeepEqual(got.Elem().Interface(), body) {
			t.Errorf("body %d = %v; want %v", i, got.Elem(), body)
		}
	}
}

type gobTestService struct{}

func (gobTestService) Say(text string, reply *string) error { *reply = text; return nil }
func (gobTestService) Parcel(p GobParcel, reply *GobParcel) error {
	*reply = p
	return nil
}
func (gobTestService) Fail(text string, reply *string) error { return errors.New(text) }

func TestGobClientWithTheStandardServer(t *testing.T) {
	ours, theirs := net.Pipe()
	server := rpc.NewServer()
	if err := server.RegisterName("T", gobTestService{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { server.ServeConn(theirs); close(done) }()
	l := defaultLimits()
	in := newInput(ours, l)
	c := newClient(endpoint{Scheme: "unix", Path: "/x"}, ours, newGobCodec(in, l, response), in, l)
	for range 2 {
		var text string
		if err := c.call(t.Context(), "T.Say", "hello", &text); err != nil || text != "hello" {
			t.Errorf("Say = %q, %v", text, err)
		}
		var p GobParcel
		if err := c.call(t.Context(), "T.Parcel", parcel, &p); err != nil || !reflect.DeepEqual(p, parcel) {
			t.Errorf("Parcel = %v, %v", p, err)
		}
		var raw json.RawMessage
		if err := c.call(t.Context(), "T.Say", json.RawMessage(`"raw"`), &raw); err != nil || string(raw) != `"raw"` {
			t.Errorf("Say = %s, %v", raw, err)
		}
		err := c.call(t.Context(), "T.Fail", "no (code -32002)", &text)
		if f := asFault(err); f.Code != codeBusy || f.Text != "no" {
			t.Errorf("Fail = %v", err)
		}
	}
	c.close()
	<-done
}

// lastValue returns the stream with the value of its last message, behind id and zero, replaced.
func lastValue(stream []byte, value string) []byte {
	at, last := 0, 0
	for at < len(stream) {
		r := gobReader{b: stream[at:]}
		n := int(r.uint())
		last = at
		at = len(stream) - len(r.b) + n
	}
	r := gobReader{b: stream[last:]}
	r.uint()
	message := appendGobInt([]byte{0}, int64(r.typeID()))
	return append(stream[:last:last], closeGob(append(message, value...), 0)...)
}

// Few bytes that announce a lot: net/rpc allocates 2.3 GiB for the first.
func TestGobRefusesWhatWouldFillTheMemory(t *testing.T) {
	type list []any
	gob.Register(gobTestService{})
	deep := defaultLimits()
	deep.MaxDepth = 3
	for _, test := range []struct {
		name, value string
		sample, v   any
		code        int
	}{
		{"map", "\x00\xfc\x10\x00\x00\x00\x02\x02", map[int]int{1: 1}, new(map[int]int), codeBadArgument},
		{"slice", "\x00\xfc\x10\x00\x00\x00\x02\x02", []string{"a"}, new([]string), codeBadArgument},
		{"string", "\x00\xfc\x10\x00\x00\x00\x02\x02", "a", new(string), codeBadArgument},
		{"array", "\x00\x02\x02\x02", [3]int{1, 2, 3}, new([3]int), codeBadArgument},
		{"interface", "\x00\x01\x00", list{nil}, new(list), codeBadArgument},
		{"field", "\x7f\x02\x00", GobRoom{1, 2}, new(GobRoom), codeBadArgument},
		{"rest", "\x01\x02\x00\x00", GobRoom{1, 2}, new(GobRoom), codeBadArgument},
		{"elements", "\x00\xfd\x10\x00\x01" + strings.Repeat("\x00", 1<<20+1), []GobRoom{{1, 2}}, new([]GobRoom), codeTooLarge},
		{"depth", "\x00\x01\x01\x01\x01\x02", [][][][]int{{{{1}}}}, new([][][][]int), codeTooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := readGob(bytes.NewReader(lastValue(gobStream(t, test.sample), test.value)), deep)
			var m message
			if err := c.read(&m); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := c.body(test.v)
			runtime.ReadMemStats(&after)
			if f := asFault(err); f.Code != test.code {
				t.Errorf("%v, code %d; want %d", err, f.Code, test.code)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
				t.Errorf("allocated %d bytes", grown)
			}
			if err := c.read(&m); err != io.EOF {
				t.Errorf("after it: %v; want EOF", err)
			}
		})
	}
}

func TestGobEndsAtWhatItCannotFrame(t *testing.T) {
	flood := gobHeaderDefs[request]
	for i := range maxGobTypes + 1 {
		def := append(appendGobInt([]byte{0}, int64(-i-100)), byte(gobSlice)+1, 2, gobInt<<1, 0, 0)
		flood = append(flood[:len(flood):len(flood)], closeGob(def, 0)...)
	}
	stream := gobStream(t, "hello")
	for name, test := range map[string]struct {
		bytes []byte
		want  string
	}{
		"text":           {[]byte("hello, is anybody there?\n"), "no protocol that is spoken here"},
		"zero":           {[]byte{0, 0, 0, 0}, "form"},
		"huge header":    {append(bytes.Clone(gobHeaderDefs[request]), 0xfc, 0x10, 0, 0, 0), "gob message of"},
		"absurd":         {append(bytes.Clone(stream[:len(stream)-9]), 0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "gob message of"},
		"twice":          {append(bytes.Clone(gobHeaderDefs[request]), gobHeaderDefs[request]...), "twice"},
		"many types":     {flood, "too many"},
		"value first":    {[]byte("\x04\x06\x00\x01a"), "no protocol"},
		"string as head": {append(bytes.Clone(gobHeaderDefs[request]), 4, 12, 0, 1, 'a'), "net/rpc has a header"},
		"cut":            {stream[:len(stream)-3], "unexpected EOF"},
		"no body":        {stream[:len(stream)-9], "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			c := readGob(bytes.NewReader(test.bytes), defaultLimits())
			var m message
			err := c.read(&m)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("read = %v; want %q", err, test.want)
			}
		})
	}
}

func TestGobSkipsAMessageOverTheLimit(t *testing.T) {
	l := defaultLimits()
	l.MaxMessage = 1 << 10
	stream := gobStream(t, strings.Repeat("x", 1<<20), "hello")
	c := readGob(iotest.HalfReader(bytes.NewReader(stream)), l)
	var m message
	var bad *badMessage
	if err := c.read(&m); !errors.As(err, &bad) || bad.fault.data().Limit != "max_message" || bad.m.method != "Echo.Say" {
		t.Fatalf("read = %v; want a bad message that names max_message", err)
	}
	var text string
	if err := errors.Join(c.read(&m), c.body(&text)); err != nil || text != "hello" || m.id.seq != 1 {
		t.Errorf("the next message: %q %+v %v", text, m, err)
	}
	if n := cap(c.(*gobCodec).in.buf); n > inputLarge {
		t.Errorf("the buffer has grown to %d", n)
	}
}

func FuzzGob(f *testing.F) {
	stream := gobStream(f, "hello", parcel, []byte("bytes"), parcel, map[string]int{"a": 1}, []any{nil})
	f.Add(stream, uint8(0))
	f.Add(stream, uint8(7))
	f.Add(stream[:100], uint8(1))
	l := defaultLimits()
	l.MaxMessage = 4 << 10
	f.Fuzz(func(t *testing.T, stream []byte, kinds uint8) {
		c := readGob(bytes.NewReader(stream), l)
		for i := range 20 {
			var m message
			err := c.read(&m)
			var bad *badMessage
			if errors.As(err, &bad) {
				continue
			}
			if err != nil {
				return
			}
			var f *fault
			if err := c.body([]any{new(string), new(GobParcel), new(json.RawMessage), new(any), new([]byte)}[(int(kinds)+i)%5]); err != nil && !errors.As(err, &f) {
				return
			}
		}
	})
}
