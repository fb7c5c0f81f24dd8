package main

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
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

// A GobHolder holds values of types that are not its own: gob defines those inside of the value.
type GobHolder struct {
	Name string
	In   any
	More []any
	By   map[string]any
	Last int
}

// Types that stand nowhere but in a GobHolder.
type (
	GobSquare struct{ Side int }
	GobHouse  struct{ Rooms []GobRoom }
	GobLabel  string
	GobTower  struct{ In GobSized }
	GobSized  interface{ Size() int }
)

func (s GobSquare) Size() int { return s.Side }
func (t GobTower) Size() int  { return 1 }

func init() {
	for _, v := range []any{GobHolder{}, GobSquare{}, GobHouse{}, GobLabel(""), GobTower{}, []string{}, map[string]int{}} {
		gob.Register(v)
	}
}

// holders have no two definitions at the same place. A GobTower in a GobTower defines things inside of what is inside.
var holders = []any{
	GobHolder{Name: "nothing", Last: 1},
	GobHolder{Name: "square", In: GobSquare{2}, Last: 2},
	GobHolder{Name: "known", In: GobSquare{3}, More: []any{GobSquare{4}, nil, "text", 5}, Last: 3},
	GobHolder{Name: "deep", In: GobHolder{In: GobTower{GobTower{GobSquare{6}}}, More: []any{GobHouse{[]GobRoom{{1, 2}, {3, 4}}}}, Last: 7}, Last: 4},
	GobHolder{Name: "many", More: []any{GobLabel("a"), 1.5, []string{"b", ""}}, By: map[string]any{"x": map[string]int{"y": 1}}, Last: 5},
	GobRoom{8, 9},
	GobHolder{Name: "again", In: GobTower{GobTower{GobSquare{6}}}, More: []any{GobHouse{[]GobRoom{{1, 2}}}}, Last: 6},
}

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

// Definitions that stand inside of a value are found whatever becomes of the value: it is decoded, converted or dropped.
func TestGobValuesInPieces(t *testing.T) {
	stream := gobStream(t, holders...)
	for keep := range 1 << len(holders) {
		c := readGob(iotest.OneByteReader(bytes.NewReader(stream)), defaultLimits())
		for i, want := range holders {
			var m message
			if err := c.read(&m); err != nil || m.id.seq != uint64(i) {
				t.Fatalf("%b: message %d: %+v, %v", keep, i, m, err)
			}
			var text document
			got := reflect.New(reflect.TypeOf(want))
			switch {
			case keep&(1<<i) != 0:
				if err := c.body(got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), want) {
					t.Fatalf("%b: body %d = %v, %v; want %v", keep, i, got.Elem(), err, want)
				}
			case i%2 == 0:
				if err := c.body(&text); err != nil || !json.Valid(text) {
					t.Fatalf("%b: body %d = %s, %v", keep, i, text, err)
				}
			default:
				if err := c.body(nil); err != nil {
					t.Fatalf("%b: body %d: %v", keep, i, err)
				}
			}
		}
		if err := c.read(new(message)); err != io.EOF {
			t.Fatalf("%b: at the end: %v; want EOF", keep, err)
		}
	}
	c := readGob(bytes.NewReader(gobStream(t, holders[3])), defaultLimits())
	var text document
	const want = `{"Name":"deep","In":{"Name":"","In":{"In":{"In":{"Side":6}}},"More":[{"Rooms":[{"Floor":1,"Number":2},{"Floor":3,"Number":4}]}],"By":{},"Last":7},"More":[],"By":{},"Last":4}`
	if err := errors.Join(c.read(new(message)), c.body(&text)); err != nil || string(text) != want {
		t.Errorf("as JSON it is %s, %v; want %s", text, err, want)
	}
}

// Wherever the stream breaks off, that is what is said.
func TestGobCutAnywhere(t *testing.T) {
	stream := gobStream(t, holders...)
	for n := range len(stream) {
		c := readGob(bytes.NewReader(stream[:n]), defaultLimits())
		var err error
		for err == nil {
			err = c.read(new(message))
		}
		if err != io.ErrUnexpectedEOF && err != io.EOF {
			t.Fatalf("after %d bytes: %v; want an end of the stream", n, err)
		}
	}
}

// A value of which nobody knows where it ends is answered, and ends the stream.
func TestGobBrokenPiecesEndTheStream(t *testing.T) {
	stream := gobStream(t, holders[:2]...)
	for _, test := range []struct {
		name  string
		bytes []byte
	}{
		{"no id", lastValue(stream, "\x02\x01a\x00\x00")},
		{"a wrong length", lastValue(stream, "\x02\x01a\x04\x7f\x00")},
		{"not all of it", lastValue(stream, "\x02\x01a\x04\x03\x00\x02\x02\x00")},
		{"a type that is not defined", lastValue(stream, "\x02\x01a\xff\x80\xfe\x7f\xff\x01\x00")},
	} {
		c := readGob(bytes.NewReader(append(test.bytes, stream...)), defaultLimits())
		var m message
		if err := c.read(&m); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		err := c.read(&m)
		var bad *badMessage
		if f := asFault(err); errors.As(err, &bad) || f.Code != codeBadArgument || m.kind != request || m.id.seq != 1 {
			t.Errorf("%s: %v for %+v; want an answer of codeBadArgument to call 1, and the end", test.name, err, m)
		}
	}
}

// A net/rpc client whose argument has no encoding sends a header without a body, and goes on.
func TestGobHeaderWithoutBody(t *testing.T) {
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	for i, arg := range []any{"hello", make(chan int), GobRoom{1, 2}, "bye", make(chan int), "end"} {
		_, missing := arg.(chan int)
		if err := enc.Encode(rpc.Request{ServiceMethod: "Echo.Say", Seq: uint64(i)}); err != nil {
			t.Fatal(err)
		}
		if err := enc.Encode(arg); (err != nil) != missing {
			t.Fatal(err)
		}
	}
	c := readGob(&b, defaultLimits())
	for i := range 6 {
		var m message
		err := c.read(&m)
		var bad *badMessage
		switch missing := i == 1 || i == 4; {
		case missing && (!errors.As(err, &bad) || bad.m.id.seq != uint64(i) || bad.fault.Code != codeBadArgument):
			t.Errorf("message %d: %v; want codeBadArgument", i, err)
		case !missing && (err != nil || m.id.seq != uint64(i)):
			t.Errorf("message %d: %+v, %v", i, m, err)
		}
	}
}

func TestGobBodyBecomesJSON(t *testing.T) {
	c := readGob(bytes.NewReader(gobStream(t, parcel)), defaultLimits())
	var m message
	var got document
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
	large := make([]GobRoom, 70000)
	for i := range large {
		large[i] = GobRoom{i, 1}
	}
	bodies := []any{"hello", parcel, []byte{1}, strings.Repeat("x", 200), make(chan int), parcel, strings.Repeat("y", 70000), []GobRoom{{1, 2}}, nil, parcel}
	for _, h := range holders { // what they define inside is defined once, though the encoder is replaced before each
		bodies = append(bodies, h, large, h)
	}
	for i, body := range bodies {
		m := &message{kind: response, id: callID{seq: uint64(i)}, method: "Echo.Say"}
		prepared, err := c.prepare(m, body)
		if (err != nil) != (i == 4) {
			t.Fatalf("prepare %d: %v", i, err)
		}
		if err != nil {
			m.fault = &fault{Code: codeInternal, Text: "no encoding"}
		}
		if b, err = c.write(b, m, prepared); err != nil {
			t.Fatalf("write %d: %v", i, err)
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
func (gobTestService) Count(list []int, reply *int) error    { *reply = len(list); return nil }
func (gobTestService) Half(n float64, reply *float64) error  { *reply = n / 2; return nil }
func (gobTestService) Hold(name string, reply *GobHolder) error {
	*reply = GobHolder{Name: name, In: GobSquare{2}}
	return nil
}

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
	c := newClient(endpoint{Scheme: "unix", Path: "/x", Proto: protoGob}, ours, nil, newGobCodec(in, l, response), in, dialOptions{limits: l})
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
		for _, typed := range []struct{ method, arg, want string }{
			{"T.Count", "[1,2]", "2"}, {"T.Count", "[1.5,2]", "gob: "}, {"T.Count", "[]", "empty JSON array"},
			{"T.Half", "5.0", "2.5"}, {"T.Half", "5", "gob: "}, {"T.Hold", `"x"`, `{"Name":"x","In":{"Side":2},"More":[],"By":{},"Last":0}`},
		} {
			err := c.call(t.Context(), typed.method, json.RawMessage(typed.arg), &raw)
			if err == nil && string(raw) != typed.want || err != nil && !strings.Contains(err.Error(), typed.want) {
				t.Errorf("%s(%s) = %s, %v; want %s", typed.method, typed.arg, raw, err, typed.want)
			}
			if err != nil && !strings.Contains(hintFor(err), "gob") {
				t.Errorf("%s(%s) has the hint %q; want one about gob", typed.method, typed.arg, hintFor(err))
			}
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
	deep := defaultLimits()
	deep.MaxDepth = 3
	inside := "\x00"
	for range 3 { // an interface value in an interface value
		inside = "\x01a\x10" + string(rune(1+len(inside))) + "\x00" + inside
	}
	for _, test := range []struct {
		name, value string
		sample, v   any
		code        int
	}{
		{"map", "\x00\xfc\x10\x00\x00\x00\x02\x02", map[int]int{1: 1}, new(map[int]int), codeBadArgument},
		{"slice", "\x00\xfc\x10\x00\x00\x00\x02\x02", []string{"a"}, new([]string), codeBadArgument},
		{"string", "\x00\xfc\x10\x00\x00\x00\x02\x02", "a", new(string), codeBadArgument},
		{"array", "\x00\x02\x02\x02", [3]int{1, 2, 3}, new([3]int), codeBadArgument},
		{"interface", "\x00\x01\x01a\x04\xfc\x10\x00\x00\x00", list{nil}, new(list), codeBadArgument},
		{"interfaces", "\x00\xfc\x10\x00\x00\x00\x00\x00", list{nil}, new(list), codeBadArgument},
		{"depth of interfaces", "\x00\x01" + inside, list{nil}, new(list), codeTooLarge},
		{"field", "\x7f\x02\x00", GobRoom{1, 2}, new(GobRoom), codeBadArgument},
		{"rest", "\x01\x02\x00\x00", GobRoom{1, 2}, new(GobRoom), codeBadArgument},
		{"depth", "\x00\x01\x01\x01\x01\x02", [][][][]int{{{{1}}}}, new([][][][]int), codeTooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := readGob(bytes.NewReader(lastValue(gobStream(t, test.sample), test.value)), deep)
			var m message
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := c.read(&m)
			if err == nil {
				err = c.body(test.v)
			}
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
	for i := range 1000 {
		def := append(appendGobInt([]byte{0}, int64(-i-100)), byte(gobSlice)+1, 2, gobInt<<1, 0, 0)
		flood = append(flood[:len(flood):len(flood)], closeGob(def, 0)...)
	}
	stream := gobStream(t, "hello")
	headless := append(gobHeaderDef("Request", gobHeaders[request][:1]), closeGob(appendGobInt([]byte{0}, gobHeaderID), 0)...)
	long := strings.Repeat("x", 2*longName)
	for name, test := range map[string]struct {
		bytes []byte
		want  string
	}{
		"text":           {[]byte("hello, is anybody there?\n"), "no protocol that is spoken here"},
		"zero":           {[]byte{0, 0, 0, 0}, "form"},
		"huge header":    {append(append(bytes.Clone(gobHeaderDefs[request]), 0xfc, 0x10, 0, 0, 0), long...), "max_message"},
		"huge types":     {append(append(bytes.Clone(stream[:len(stream)-9]), 0xfc, 0x10, 0, 0, 0, 0xff, 0x81), long...), "max_message"},
		"absurd":         {append(append(bytes.Clone(stream[:len(stream)-9]), 0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), long...), "max_message"},
		"twice":          {append(bytes.Clone(gobHeaderDefs[request]), gobHeaderDefs[request]...), "twice"},
		"many types":     {flood, "max_message"},
		"no Seq":         {headless, "net/rpc has a header"},
		"lacks its type": {append(bytes.Clone(gobHeaderDefs[request]), 6, 0xff, 0x81, byte(gobSlice)+1, 0, 0, 0), "malformed"},
		"value first":    {[]byte("\x04\x06\x00\x01a"), "no protocol"},
		"string as head": {append(bytes.Clone(gobHeaderDefs[request]), 4, 12, 0, 1, 'a'), "net/rpc has a header"},
		"cut":            {stream[:len(stream)-3], "unexpected EOF"},
		"no body":        {stream[:len(stream)-9], "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			l := defaultLimits()
			l.MaxMessage = 4 << 10
			c := readGob(bytes.NewReader(test.bytes), l)
			var m message
			err := c.read(&m)
			var bad *badMessage
			if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), test.want) {
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

// What bounds a peer is what the limits say: no count that has no key, and no end without an answer.
func TestGobLimits(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	c := clientKinds[0].dial(t, s.endpoints[0])
	defer c.close()
	var n int
	if err := ask(c, "Trial.Count", make([]string, 1_100_000), &n); err != nil || n != 1_100_000 {
		t.Errorf("Trial.Count of 1,100,000 texts = %d, %v", n, err)
	}
	for i := range 400 {
		checkCode(t, "an array for a text", ask(c, "Echo.Say", reflect.New(reflect.ArrayOf(i+1, reflect.TypeFor[bool]())).Interface(), nil), codeBadArgument, "")
	}
	checkCode(t, "a method with a long name", ask(c, strings.Repeat("x", 70_000), "a", nil), codeNoMethod, "")
	checkSay(t, c, "still here")

	small := startServerWith(t, func(l *limits) { l.MaxMessage = 2 << 10 }, localEndpoint(t))
	c = clientKinds[0].dial(t, small.endpoints[0])
	defer c.close()
	checkSay(t, c, "the first call, which has the number 0")
	checkCode(t, "a method with too long a name", ask(c, strings.Repeat("x", 70_000), "a", nil), codeTooLarge, "limit max_message = 2048")
	c = clientKinds[0].dial(t, small.endpoints[0])
	defer c.close()
	var err error
	for i := 0; i < 400 && !errors.Is(err, &fault{Code: codeTooLarge}); i++ {
		if err = ask(c, "Echo.Say", reflect.New(reflect.ArrayOf(i+1, reflect.TypeFor[bool]())).Interface(), nil); err == rpc.ErrShutdown {
			break
		}
	}
	checkCode(t, "a type too many", err, codeTooLarge, "limit max_message = 2048")
	if err := ask(c, "Echo.Say", "a", nil); err == nil {
		t.Error("the connection goes on; its definitions are not known any more")
	}
}

// What stays of the definitions for as long as the connection does is on the account of its user, like what waits.
func TestGobDefinitionsAreCounted(t *testing.T) {
	var a account
	in := newInput(bytes.NewReader(gobStream(t, holders...)), defaultLimits())
	in.account = &a
	c := newGobCodec(in, defaultLimits(), request).(*gobCodec)
	for range holders {
		var m message
		must(t, c.read(&m))
		if c.types.cost < gobTypeCost || a.own.Load() != int64(cap(in.buf)+c.types.cost) {
			t.Errorf("%d bytes are held; want %d of the buffer and %d of definitions", a.own.Load(), cap(in.buf), c.types.cost)
		}
		must(t, c.body(nil))
	}
	in.close()
	if n := a.own.Load(); n != 0 {
		t.Errorf("%d bytes are held by a connection that is closed", n)
	}
}

// The types of all connections of a user have no more than the budget, apart from all else. Who defines few goes on, and so do others.
func TestGobDefinitionsAreOnTheBudget(t *testing.T) {
	ada, bob := testAccounts(50<<10, 1<<30)
	var inputs []*input
	define := func(a *account, sizes ...int) (read int, err error) {
		var args []any
		for i, n := range sizes {
			f := reflect.StructField{Name: fmt.Sprintf("A%d", i) + strings.Repeat("x", n), Type: reflect.TypeFor[int]()}
			v := reflect.New(reflect.StructOf([]reflect.StructField{f})).Elem()
			v.Field(0).SetInt(1)
			args = append(args, v.Interface())
		}
		in := newInput(bytes.NewReader(gobStream(t, args...)), defaultLimits())
		in.account = a
		inputs = append(inputs, in)
		c := newGobCodec(in, defaultLimits(), request)
		for range sizes {
			var m message
			if err := c.read(&m); err != nil {
				return read, err
			}
			must(t, c.body(nil))
			read++
		}
		return read, nil
	}
	for _, step := range []struct {
		name  string
		a     *account
		sizes []int
		want  int // how many are read
	}{
		{"as many as there is room for, and one more", ada, []int{20 << 10, 20 << 10, 20 << 10}, 2},
		{"few, on another connection", ada, []int{5, 6, 7}, 3},
		{"more than few", ada, []int{5, 20 << 10}, 1},
		{"another user", bob, []int{20 << 10}, 1},
	} {
		read, err := define(step.a, step.sizes...)
		if f := new(fault); read != step.want || (err != nil) != (read < len(step.sizes)) || err != nil && (!errors.As(err, &f) || f.data().Limit != userMemoryLimit) {
			t.Errorf("%s: %d values are read, %v; want %d", step.name, read, err, step.want)
		}
	}
	inputs[0].chargeTo(bob)
	if kept := bob.small[keptTypes].Load(); kept < 60<<10 {
		t.Errorf("a connection that is charged to another user has taken but %d bytes there", kept)
	}
	for _, in := range inputs {
		in.close()
	}
	for _, a := range []*account{ada, bob} {
		if own, kept := a.own.Load(), a.small[keptTypes].Load(); own != 0 || kept != 0 {
			t.Errorf("%d bytes are held in the end, %d of types", own, kept)
		}
	}
}

// Which structs fit the argument of a method is as in net/rpc. One without fields fits any: clients send it for want of an
// argument.
func TestGobStructsFitAsWithTheStandardServer(t *testing.T) {
	server := rpc.NewServer()
	must(t, server.RegisterName("Trial", newTrial()))
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() { server.ServeConn(far); close(done) }()
	stock := stockCaller{rpc.NewClient(near)}
	ours := clientKinds[0].dial(t, startServer(t, localEndpoint(t).String()).endpoints[0])
	defer ours.close()
	for _, test := range []struct {
		arg  any
		want int // -1 for a refusal
	}{
		{struct{}{}, 0}, {TrialPlace{}, 0}, {struct{ N int }{}, 0}, {struct{ N int }{3}, 3}, {&struct{ N, Other int }{3, 4}, 3},
		{struct{ Other int }{3}, -1}, {struct{ Other int }{}, -1}, {"text", -1}, {map[string]int{}, -1},
	} {
		for name, c := range map[string]caller{"the standard server": stock, "ours": ours} {
			got := 0
			err := ask(c, "Trial.Old", test.arg, &got)
			if err != nil {
				got = -1
			}
			if got != test.want {
				t.Errorf("%s gives %d for %#v, %v; want %d", name, got, test.arg, err, test.want)
			}
		}
	}
	stock.close()
	<-done
}

func FuzzGob(f *testing.F) {
	stream := gobStream(f, "hello", parcel, []byte("bytes"), parcel, map[string]int{"a": 1}, []any{nil})
	f.Add(stream, uint8(0))
	f.Add(stream, uint8(7))
	f.Add(stream[:100], uint8(1))
	f.Add(gobStream(f, holders...), uint8(2))
	l := defaultLimits()
	l.MaxMessage = 4 << 10
	form := newGobForms(schema{"type": "object", "properties": map[string]any{"name": map[string]any{}, "rooms": map[string]any{"items": map[string]any{"type": "object"}}}}, nil).argument
	f.Fuzz(around(func(t *testing.T, stream []byte, kinds uint8) {
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
			if err := c.body([]any{new(string), new(GobParcel), new(document), new(any), new([]byte), &formed{new(document), form}}[(int(kinds)+i)%6]); err != nil && !errors.As(err, &f) {
				return
			}
		}
	}))
}
