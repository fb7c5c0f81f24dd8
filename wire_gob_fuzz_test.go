package main

// This file owns the comparison of our gob with that of the standard library: what both accept, both decode alike, and each reads what
// the other writes. FuzzGob looks for crashes alone.

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"math"
	"net/rpc"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// gobTargets are what arguments are decoded to.
var gobTargets = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[int](), reflect.TypeFor[uint8](), reflect.TypeFor[float64](),
	reflect.TypeFor[bool](), reflect.TypeFor[complex128](), reflect.TypeFor[[]GobRoom](), reflect.TypeFor[[3]int8](), reflect.TypeFor[time.Time](),
	reflect.TypeFor[struct{}](), reflect.TypeFor[[]string](), reflect.TypeFor[GobRoom](), reflect.TypeFor[float32](), reflect.TypeFor[[][]int](),
	reflect.TypeFor[GobParcel](), reflect.TypeFor[GobHolder](), reflect.TypeFor[map[string]int](), reflect.TypeFor[map[int]*GobRoom](), reflect.TypeFor[[]any](),
}

// gobHarmless is how many of them, from the first, hold neither maps nor interface values: whatever is announced for one, encoding/gob
// takes no more memory for it than what has come.
const gobHarmless = 15

// alike reports whether two values are the same to gob, which leaves out what is empty. A NaN is like another.
func alike(a, b reflect.Value) bool {
	if a.IsValid() != b.IsValid() || a.IsValid() && a.Type() != b.Type() {
		return false
	}
	if !a.IsValid() {
		return true
	}
	if at, is := a.Interface().(time.Time); is {
		return at.Equal(b.Interface().(time.Time))
	}
	sameFloat := func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return sameFloat(a.Float(), b.Float())
	case reflect.Complex64, reflect.Complex128:
		return sameFloat(real(a.Complex()), real(b.Complex())) && sameFloat(imag(a.Complex()), imag(b.Complex()))
	case reflect.Struct:
		for i := range a.NumField() {
			if !alike(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !alike(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, key := range a.MapKeys() {
			if !alike(a.MapIndex(key), b.MapIndex(key)) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Interface:
		return alike(a.Elem(), b.Elem())
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// A gobDifference is a stream of which one of the two accepts something that the other refuses, and means to.
type gobDifference struct {
	name  string
	bytes func(t testing.TB) []byte
	arg   reflect.Type
	ours  string // what our error says
	stock string // what that of the standard library says; empty for none
}

// gobStricter are the reasons for which we refuse what encoding/gob may accept. gobDifferences has a stream for those that a fuzzer hardly writes.
var gobStricter = []string{
	"malformed",                // something follows the value; a definition of what nobody defines
	"ends in the middle",       // a count that more than the bytes at hand would have to follow, in what is skipped
	"not defined",              // a type that is, for a field that nobody sends
	"max_depth", "max_message", // limits
	"where net/rpc has a header", // it lacks a field, which gob takes for its zero
	"is missing",                 // the next header stands for an argument that had no encoding
	"speaks no protocol",         // a stream without definitions begins none
}

var gobDifferences = []gobDifference{
	{"something behind a value", func(t testing.TB) []byte { return lastValue(gobStream(t, "a"), "\x00\x01ab") }, gobTargets[0], "malformed", ""},
	{"a header without the number", func(t testing.TB) []byte {
		var b bytes.Buffer
		enc := gob.NewEncoder(&b)
		must(t, errors.Join(enc.Encode(struct{ ServiceMethod string }{"A.B"}), enc.Encode("a")))
		return b.Bytes()
	}, gobTargets[0], "where net/rpc has a header", ""},
	{"a header for a body", func(t testing.TB) []byte {
		var b bytes.Buffer
		enc := gob.NewEncoder(&b)
		must(t, errors.Join(enc.Encode(rpc.Request{ServiceMethod: "A.B"}), enc.Encode(rpc.Request{ServiceMethod: "A.B"})))
		return b.Bytes()
	}, reflect.TypeFor[rpc.Request](), "is missing", ""},
	{"a value within values", func(t testing.TB) []byte {
		v := any(nil)
		for range 70 {
			v = []any{v}
		}
		return gobStream(t, v)
	}, reflect.TypeFor[[]any](), "max_depth", ""},
}

func init() { gob.Register([]any{}) }

// Where we are stricter than the standard library, it is so on purpose.
func TestGobIsStricterThanTheStandardLibrary(t *testing.T) {
	for _, test := range gobDifferences {
		t.Run(test.name, func(t *testing.T) {
			stream := test.bytes(t)
			_, err := oursFromGob(readGob(bytes.NewReader(stream), defaultLimits()), test.arg)
			if err == nil || !strings.Contains(err.Error(), test.ours) {
				t.Errorf("ours: %v; want %q", err, test.ours)
			}
			_, _, err = stockFromGob(gob.NewDecoder(bytes.NewReader(stream)), test.arg)
			if (err == nil) != (test.stock == "") || err != nil && !strings.Contains(err.Error(), test.stock) {
				t.Errorf("the standard library: %v; want %q", err, test.stock)
			}
		})
	}
}

// oursFromGob reads a call with an argument of that type.
func oursFromGob(c codec, arg reflect.Type) (v reflect.Value, err error) {
	v = reflect.New(arg)
	if err = c.read(new(message)); err == nil {
		err = c.body(v.Interface())
	}
	return v, err
}

func stockFromGob(d *gob.Decoder, arg reflect.Type) (h rpc.Request, v reflect.Value, err error) {
	v = reflect.New(arg)
	if err = d.Decode(&h); err == nil {
		err = d.DecodeValue(v)
	}
	return h, v, err
}

// FuzzGobDifferential: what both accept, both decode alike. What we accept, so does the standard library, and what it accepts and we
// refuse is one of gobStricter.
func FuzzGobDifferential(f *testing.F) {
	seed := func(stream []byte, arg any) {
		at := slices.Index(gobTargets, reflect.TypeOf(arg))
		f.Add(stream, uint8(max(at, 0)), false)
		f.Add(stream, uint8(max(at, 0)), true)
	}
	for _, v := range []any{"hello", []byte("bytes"), -7, uint8(200), 0.5, true, complex(1, -2), []GobRoom{{1, 2}, {}}, [3]int8{-1, 0, 1}, parcel.At,
		struct{}{}, []string{"a", ""}, GobRoom{-1, 300}, float32(1), [][]int{{1}, {}}, parcel, map[string]int{"a": 1}, map[int]*GobRoom{1: {2, 3}}, []any{1, "a", GobSquare{1}}} {
		seed(gobStream(f, v, v), v)
	}
	for _, h := range holders {
		seed(gobStream(f, h, h), h)
	}
	for i := range gobDifferences {
		seed(gobDifferences[i].bytes(f), "")
	}
	l := defaultLimits()
	l.MaxMessage = 16 << 10
	f.Fuzz(around(func(t *testing.T, stream []byte, kind uint8, other bool) {
		c, d := readGob(bytes.NewReader(stream), l), gob.NewDecoder(bytes.NewReader(stream))
		for i := range 20 {
			at := int(kind)
			if other {
				at += i
			}
			at %= len(gobTargets)
			arg := gobTargets[at]
			v := reflect.New(arg)
			var m message
			err := c.read(&m)
			read := err
			if err == nil {
				err = c.body(v.Interface())
			}
			if read != nil && at >= gobHarmless { // it may be what fills the memory: we have refused it
				return
			}
			h, want, stock := stockFromGob(d, arg)
			switch {
			case stock != nil && strings.Contains(stock.Error(), gobSkips): // in a field that arg has not
				return
			case err != nil && stock != nil:
				// Whether the stream goes on is up to each: encoding/gob loses the definitions that stand in a value it refuses.
				if read != nil || c.(*gobCodec).types.open {
					return
				}
			case err != nil:
				if !slices.ContainsFunc(gobStricter, func(why string) bool { return strings.Contains(err.Error(), why) }) && err != io.ErrUnexpectedEOF {
					t.Fatalf("%q, message %d: refused with %v; the standard library has %+v", stream, i, err, want.Elem())
				}
				return
			case stock != nil:
				t.Fatalf("%q, message %d: taken for %+v; the standard library says %v", stream, i, v.Elem(), stock)
			case h.ServiceMethod != m.method || h.Seq != m.id.seq || !alike(v, want):
				t.Fatalf("%q, message %d: %s %d with %+v; the standard library has %+v with %+v", stream, i, m.method, m.id.seq, v.Elem(), h, want.Elem())
			}
		}
	}))
}

// An entropy makes values of bytes.
type entropy struct{ b []byte }

func (e *entropy) byte() byte {
	if len(e.b) == 0 {
		return 0
	}
	first := e.b[0]
	e.b = e.b[1:]
	return first
}

func (e *entropy) number() uint64 {
	n := uint64(0)
	for range e.byte() % 9 {
		n = n<<8 | uint64(e.byte())
	}
	return n
}

func (e *entropy) bytes() []byte {
	n := min(int(e.byte()), len(e.b))
	b := e.b[:n:n]
	e.b = e.b[n:]
	return bytes.Clone(b)
}

// fill gives v what the bytes say. What it does not know it leaves empty.
func (e *entropy) fill(v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(int32(e.number())), int64(e.byte())).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(e.byte()&1 != 0)
	case reflect.Int, reflect.Int8, reflect.Int64:
		v.SetInt(int64(e.number()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint(e.number())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(float32(math.Float64frombits(e.number()))))
	case reflect.Complex128:
		v.SetComplex(complex(math.Float64frombits(e.number()), math.Float64frombits(e.number())))
	case reflect.String:
		v.SetString(string(e.bytes()))
	case reflect.Struct:
		for i := range v.NumField() {
			e.fill(v.Field(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			e.fill(v.Index(i), depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(e.bytes())
			return
		}
		n := int(e.byte() % 5)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			e.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range e.byte() % 5 {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			e.fill(key, depth+1)
			e.fill(elem, depth+1)
			v.SetMapIndex(key, elem)
		}
	case reflect.Pointer:
		if inMap := depth > 0 && v.Type().Elem() == reflect.TypeFor[GobRoom](); inMap {
			v.Set(reflect.New(v.Type().Elem()))
			e.fill(v.Elem(), depth+1)
		}
	case reflect.Interface:
		known := []any{nil, GobSquare{}, GobHouse{}, GobLabel(""), GobTower{}, []string{}, map[string]int{}, GobHolder{}, 0, "", 0.5, []byte{}}
		if sized := v.Type() == reflect.TypeFor[GobSized](); sized {
			known = []any{nil, GobSquare{}, GobTower{}}
		}
		pick := known[int(e.byte())%len(known)]
		if pick == nil || depth > 12 {
			return
		}
		in := reflect.New(reflect.TypeOf(pick)).Elem()
		e.fill(in, depth+1)
		v.Set(in)
	}
}

// FuzzGobValues: whatever values there are, the standard library reads what we write, and we read what it writes.
func FuzzGobValues(f *testing.F) {
	for i := range len(gobTargets) {
		f.Add([]byte{byte(i), 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 9, 2, 200, 1, 4, 'a', 'b', 'c', 'd', 7, 1, 2, 3, byte(i + 1), 2, 1, 0, 3, 3, 3})
	}
	f.Add(bytes.Repeat([]byte{16, 7, 2, 4, 1}, 60))
	l := defaultLimits()
	f.Fuzz(around(func(t *testing.T, b []byte) {
		e := &entropy{b}
		ours := newGobCodec(newInput(nil, l), l, request)
		var values []reflect.Value
		var written []byte
		var stock bytes.Buffer
		enc := gob.NewEncoder(&stock)
		for i := 0; len(e.b) > 0 && i < 20; i++ {
			v := reflect.New(gobTargets[int(e.byte())%len(gobTargets)])
			e.fill(v.Elem(), 0)
			values = append(values, v)
			m := &message{kind: request, id: callID{seq: uint64(i)}, method: "Echo.Say"}
			body, err := ours.prepare(m, v.Elem().Interface())
			must(t, err)
			written, err = ours.write(written, m, body)
			must(t, err)
			must(t, errors.Join(enc.Encode(rpc.Request{ServiceMethod: "Echo.Say", Seq: uint64(i)}), enc.EncodeValue(v)))
		}
		theirs := gob.NewDecoder(bytes.NewReader(written))
		reader := readGob(bytes.NewReader(stock.Bytes()), l)
		for i, want := range values {
			h, got, err := stockFromGob(theirs, want.Type().Elem())
			if err != nil || h.Seq != uint64(i) || !alike(got, want) {
				t.Fatalf("%+v was written, and is %+v to the standard library, %v", want.Elem(), got.Elem(), err)
			}
			if got, err := oursFromGob(reader, want.Type().Elem()); err != nil || !alike(got, want) {
				t.Fatalf("the standard library has written %+v, and it is read as %+v, %v", want.Elem(), got.Elem(), err)
			}
		}
		if err := reader.read(new(message)); err != io.EOF {
			t.Fatalf("behind the last value: %v", err)
		}
	}))
}

// What a peer sends makes the process grow by little, whatever it announces.
func TestGobAttacksTakeLittleMemory(t *testing.T) {
	const most = 4 << 20
	s := startServer(t, localEndpoint(t).String())
	long := strings.Repeat("x", 64<<10)
	head := gobStream(t, "a")
	flood := bytes.Clone(gobHeaderDefs[request])
	for i := range 200_000 {
		def := append(appendGobInt([]byte{0}, int64(-i-100)), byte(gobSlice)+1, 2, gobInt<<1, 0, 0)
		flood = append(flood, closeGob(def, 0)...)
	}
	nested := bytes.Clone(gobHeaderDefs[request]) // each type holds the one before it, so that one value would be 2^n
	for i := range 64 {
		def := append(appendGobInt([]byte{0}, int64(-i-65)), byte(gobArray)+1, 2)
		def = append(appendGobInt(def, int64(max(i+64, 64))), 1)
		def = append(appendGobInt(def, math.MaxInt32), 0, 0)
		nested = append(nested, closeGob(def, 0)...)
	}
	for name, bytes := range map[string][]byte{
		"a frame of 7 GiB":       append(append([]byte{}, head[:len(head)-5]...), "\xfb\x01\xc0\x00\x00\x00\xff\x81"+long...),
		"a first frame of 7 GiB": []byte("\xfb\x01\xc0\x00\x00\x00\xff\x81" + long),
		"a map":                  lastValue(gobStream(t, map[int]int{1: 1}), "\x00\xfc\x10\x00\x00\x00\x02\x02"),
		"a map of structs":       lastValue(gobStream(t, map[string]GobRoom{"a": {1, 1}}), "\x00\xfc\x7f\xff\xff\xff\x01a\x00"),
		"a flood of types":       flood,
		"types in types":         nested,
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.connect()
			debug.FreeOSMemory() // so that all that is taken shows
			before := residentMemory()
			conn.Write(bytes) // the daemon may close it before all of it has been written
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				half.CloseWrite()
			}
			io.Copy(io.Discard, conn)
			conn.Close()
			s.idle()
			if grown := residentMemory() - before; grown > most {
				t.Errorf("the daemon has grown by %d bytes; want at most %d", grown, most)
			}
			checkServes(t, s)
		})
	}
}

// residentMemory is what the Go runtime has of the system and has not given back.
func residentMemory() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys) - int64(m.HeapReleased)
}
