package main

// This file owns calls between net/rpc's clients and a provider that has declared schemas: what the provider is sent, and
// what the client gets.

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/rpc"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A gobPair is a provider of the method Far.M and a client of net/rpc.
type gobPair struct {
	t        *testing.T
	endpoint endpoint
	provider net.Conn
	caller   *rpc.Client
}

func newGobPair(t *testing.T) *gobPair {
	t.Helper()
	s := startServer(t, localEndpoint(t).String())
	p := &gobPair{t: t, endpoint: s.endpoints[0], provider: noDeadline(rawDial(t, s.endpoints[0])), caller: rpc.NewClient(noDeadline(rawDial(t, s.endpoints[0])))}
	t.Cleanup(func() { p.provider.Close(); p.caller.Close() })
	return p
}

// declare registers Far.M with schemas in place of what was registered before.
func (p *gobPair) declare(argument, result string) {
	p.t.Helper()
	register(p.t, p.provider, fmt.Sprintf(`[{"method":"Far.M","argument":%s,"result":%s}]`, argument, result))
}

// call calls Far.M, which answers with a result. It returns what the provider got for params, or nothing if the call did not
// get there.
func (p *gobPair) call(arg any, answer string, result any) (params string, err error) {
	p.t.Helper()
	asked := make(chan string, 1) // it has room, so that it is full before the answer comes
	go func() {
		line := readLine(p.t, p.provider)
		_, params, _ := strings.Cut(strings.TrimSuffix(line, "}\n"), `"params":`)
		_, rest, _ := strings.Cut(line, `"id":`)
		id, _, _ := strings.Cut(rest, ",")
		asked <- params
		if id != `"end"` {
			send(p.t, p.provider, `{"jsonrpc":"2.0","id":`+id+`,"result":`+answer+"}\n")
		}
	}()
	err = p.caller.Call("Far.M", arg, result)
	select {
	case params = <-asked:
	default: // it was refused, and the provider still waits
		send(p.t, p.provider, `{"jsonrpc":"2.0","id":"end","method":"Ipcd.Ping"}`+"\n")
		<-asked
	}
	return params, err
}

type (
	gobPart struct{ No, Other int }
	gobNode struct {
		Name string
		Next *gobNode
		Kids []gobNode
	}
	gobTake struct {
		Size  int
		Name  string
		On    bool
		Raw   []byte
		At    time.Time
		Parts []gobPart
		By    map[string]gobPart
		Extra int
		Half  float64
	}
	gobLoose struct {
		N    *int
		P    *gobPart
		I    any
		Raw  json.RawMessage
		Tags []string
	}
)

const (
	takeSchema = `{"type":"object","properties":{"size":{"type":"integer"},"Name":{"type":"string"},"name":{},
		"on":{"type":"boolean"},"raw":{"type":"string","contentEncoding":"base64"},"at":{"type":"string","format":"date-time"},
		"parts":{"type":"array","items":{"$ref":"#/$defs/a~1%20part"}},"by":{"type":"object","additionalProperties":{"$ref":"#/$defs/a~1%20part"}},
		"half":{"type":"number"}},"$defs":{"a/ part":{"properties":{"no":{"type":"integer"}}}}}`
	nodeSchema = `{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"name":{"type":"string"},
		"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]},"kids":{"type":"array","items":{"$ref":"#/$defs/node"}}}}}}`
)

func TestGobArgumentsBySchema(t *testing.T) {
	p := newGobPair(t)
	seven := 7
	for _, test := range []struct {
		schema string
		arg    any
		want   string // in params, or of the error
	}{
		{takeSchema, gobTake{}, `{"size":0,"Name":"","on":false,"raw":"","at":"0001-01-01T00:00:00Z","parts":[],"by":{},"half":0}`},
		{takeSchema, gobTake{Size: 7, Name: "n", On: true, Raw: []byte("hi"), At: time.Unix(0, 0).UTC(), Parts: []gobPart{{1, 0}, {0, 2}}, By: map[string]gobPart{"k": {}}, Extra: 3, Half: 0.5},
			`{"size":7,"Name":"n","on":true,"raw":"aGk=","at":"1970-01-01T00:00:00Z","parts":[{"no":1},{"no":0,"Other":2}],"by":{"k":{"no":0}},"Extra":3,"half":0.5}`},
		{takeSchema, struct{ Size uint8 }{}, `{"size":0}`},
		{takeSchema, struct{}{}, `{}`},
		{takeSchema, map[string]any{"size": 1}, `{"size":1}`},
		{takeSchema, map[string][]byte{"raw": []byte("hi")}, `{"raw":"aGk="}`},
		{takeSchema, json.RawMessage(` {"size":1.50}`), `{"size":1.50}`},
		{takeSchema, json.RawMessage(`[1]`), "bytes that are neither JSON nor an object; the schema can declare bytes with contentEncoding base64 (code -32602)"},
		{nodeSchema, gobNode{Name: "a", Next: &gobNode{}, Kids: []gobNode{{Name: "b"}}},
			`{"name":"a","next":{"name":"","next":null,"kids":[]},"kids":[{"name":"b","next":null,"kids":[]}]}`},
		{`{"properties":{"aB":{},"ab":{}}}`, struct{ AB int }{}, `the field AB could be any of the members ["aB" "ab"], which differ in case alone; call over JSON-RPC (code -32602)`},
		{`{"properties":{"aB":{},"ab":{}}}`, map[string]int{"ab": 1}, `{"ab":1}`},
		{`{"properties":{"size":{}}}`, struct{ Size, SIZE int }{}, `the fields Size and SIZE are both the member "size" (code -32602)`},
		{`{"properties":{"\u017fize":{},"\u00e4":{}}}`, struct{ Size, Ä int }{1, 2}, `{"ſize":1,"ä":2}`},
		{`{"properties":{"n":{"type":["integer","null"]},"p":{"anyOf":[{"type":"object"},{"type":"null"}]},"i":{"type":"integer"},"raw":{},"tags":{"type":"array"}}}`,
			gobLoose{}, `{"n":0,"p":null,"raw":null,"tags":[]}`},
		{`{}`, gobLoose{N: &seven, P: &gobPart{}, Raw: json.RawMessage(`{"a":0.10}`), Tags: []string{"a"}}, `{"N":7,"P":{"No":0,"Other":0},"I":null,"Raw":{"a":0.10},"Tags":["a"]}`},
		{`{}`, "text", `"text"`},
		{`{}`, json.RawMessage(`{"b":1,"a":[1e400]}`), `{"b":1,"a":[1e400]}`},
		{`{}`, json.RawMessage(`{"b":1,"b":2}`), "the member \"b\" is there twice (code -32602)"},
		{`{}`, []byte("hi"), "bytes that are neither JSON nor anything; the schema can declare bytes with contentEncoding base64 (code -32602)"},
		{`{"contentEncoding":"base64","type":"string"}`, []byte("12"), `"MTI="`},
		{`{"type":"string"}`, []byte("12"), "bytes that are neither JSON nor a string"},
		{`{}`, struct{}{}, ""},
		{`null`, struct{}{}, ""},
		{`null`, 5, "5"},
		{`{"type":"integer"}`, 3.0, "3"},
		{`{"type":"number"}`, uint64(math.MaxUint64), "18446744073709551615"},
		{`{}`, math.Inf(1), "the argument has the number +Inf, which JSON does not have (code -32602)"},
		{`{"items":{"type":"number"}}`, []float64{math.NaN()}, "the argument has the number NaN"},
		{`{"type":"string"}`, "\xff", "the argument has a string that is not UTF-8, which JSON does not have (code -32602)"},
		{`{"additionalProperties":{}}`, map[string]int{"\xff": 1}, "the argument has a string that is not UTF-8"},
		{`{"format":"date-time","type":"string"}`, time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), "the argument has a time that RFC 3339 does not have"},
		{`{"additionalProperties":{"$ref":"#/$defs/p"},"$defs":{"p":{"properties":{"no":{}}}}}`, map[int]gobPart{5: {}}, `{"5":{"no":0}}`},
	} {
		p.declare(test.schema, `{}`)
		var answer string
		params, err := p.call(test.arg, `"ok"`, &answer)
		want := "[" + test.want + "]"
		if test.want == "" {
			want = ""
		}
		if err != nil && params == "" && strings.Contains(err.Error(), test.want) {
			continue
		}
		if err != nil || params != want || answer != "ok" {
			t.Errorf("%+v at %s reaches the provider as %s, and the answer is %q, %v; want %s", test.arg, test.schema, params, answer, err, test.want)
		}
	}
}

func TestGobResultsBySchema(t *testing.T) {
	p := newGobPair(t)
	at := time.Date(2026, 11, 28, 1, 2, 3, 4000, time.FixedZone("", 3600))
	three := 3
	for _, test := range []struct {
		schema, result string
		want           any    // what a client with such a variable gets
		wrong          string // or the error
	}{
		{schema: takeSchema, result: `{"name":1}`, wrong: "the result of Far.M cannot be encoded: /name is a number; gob cannot tell name from Name (code -32603)"},
		{schema: takeSchema, result: `{"at":"2026-11-28T01:02:03.000004+01:00","half":1e-1,"parts":[{"no":1.0,"more":true},{}],"Name":"\u00e4","size":-7,"on":true,"raw":"aGk=","by":{"k":{"no":2e2}}}`,
			want: gobTake{Size: -7, Name: "ä", On: true, Raw: []byte("hi"), At: at, Parts: []gobPart{{No: 1}, {}}, By: map[string]gobPart{"k": {No: 200}}, Half: 0.1}},
		{schema: takeSchema, result: `{}`, want: gobTake{}},
		{schema: takeSchema, result: `null`, wrong: "cannot be encoded: it is null; its schema says an object (code -32603)"},
		{schema: nodeSchema, result: `{"name":"a","next":null,"kids":[{"name":"b","next":{"name":"c"}}]}`,
			want: gobNode{Name: "a", Kids: []gobNode{{Name: "b", Next: &gobNode{Name: "c"}}}}},
		{schema: `{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}],"$defs":{"n":{"properties":{"no":{"type":"integer"}}}}}`, result: `null`, want: gobPart{}},
		{schema: `{"oneOf":[{"type":"null"},{"allOf":[{"$ref":"#/$defs/n"}]}],"$defs":{"n":{"properties":{"no":{"type":"integer"}}}}}`, result: `{"no":5}`, want: gobPart{No: 5}},
		{schema: `{"type":"integer"}`, result: `9223372036854775807`, want: math.MaxInt64},
		{schema: `{"type":"integer"}`, result: `-3.00e0`, want: -3},
		{schema: `{"type":"integer"}`, result: `9223372036854775808`, wrong: "cannot be encoded: it is a number 9223372036854775808; its schema says an integer of 64 bits (code -32603)"},
		{schema: `{"type":"integer"}`, result: `18446744073709551616`, wrong: "(code -32603)"},
		{schema: `{"type":"integer"}`, result: `1.5`, wrong: "it is a number 1.5; its schema says an integer of 64 bits (code -32603)"},
		{schema: `{"type":"integer"}`, result: `1.00000000000000000001`, wrong: "(code -32603)"},
		{schema: `{"type":"integer"}`, result: `1e400`, wrong: "(code -32603)"},
		{schema: `{"type":"integer"}`, result: `"5"`, wrong: `it is a string "5"; its schema says an integer of 64 bits (code -32603)`},
		{schema: `{"type":"integer","minimum":0}`, result: `5`, want: 5},
		{schema: `{"type":"integer","minimum":0,"maximum":18446744073709551615}`, result: `18446744073709551615`, want: uint64(math.MaxUint64)},
		{schema: `{"type":"integer","minimum":0,"maximum":18446744073709551615}`, result: `-1`, wrong: "its schema says an unsigned integer of 64 bits (code -32603)"},
		{schema: `{"type":["integer","number"]}`, result: `5`, want: 5.0},
		{schema: `{"type":"number"}`, result: `1e400`, wrong: "it is a number 1e400; its schema says a number of 64 bits (code -32603)"},
		{schema: `{"type":"boolean"}`, result: `false`, want: false},
		{schema: `{"type":"boolean"}`, result: `0`, wrong: "its schema says a boolean (code -32603)"},
		{schema: `{"type":"string"}`, result: `"\ud83d\ude00\n"`, want: "😀\n"},
		{schema: `{"enum":["a","b"]}`, result: `"a"`, want: "a"},
		{schema: `{"const":7}`, result: `7`, want: 7},
		{schema: `{"enum":[7,"b"]}`, result: `7`, want: json.RawMessage(`7`)},
		{schema: `{"type":"string","format":"date-time"}`, result: `"2026-11-28T01:02:03.000004+01:00"`, want: at},
		{schema: `{"type":"string","format":"date-time"}`, result: `"yesterday"`, wrong: `it is a string "yesterday"; its schema says a time such as 2006-01-02T15:04:05Z (code -32603)`},
		{schema: `{"type":"string","contentEncoding":"base64"}`, result: `"AAH/"`, want: []byte{0, 1, 255}},
		{schema: `{"type":"string","contentEncoding":"base64"}`, result: `"!"`, wrong: "its schema says a string in base64 (code -32603)"},
		{schema: `{"type":"array","items":{"type":"string"}}`, result: `["a",""]`, want: []string{"a", ""}},
		{schema: `{"type":["array","null"],"items":{"type":"string"}}`, result: `null`, want: []string(nil)},
		{schema: `{"items":{"items":{"type":"number"}}}`, result: `[[1],[]]`, want: [][]float64{{1}, nil}},
		{schema: `{"items":{"type":["integer","null"]}}`, result: `[1,null]`, wrong: "/1 is null; gob has nothing like it here, since it needs an integer of 64 bits (code -32603)"},
		{schema: `{"type":["integer","null"]}`, result: `null`, wrong: "it is null; gob has nothing like it here"},
		{schema: `{"type":"array"}`, result: `[1,"a",null,{"b":1e400}]`, want: []json.RawMessage{[]byte("1"), []byte(`"a"`), []byte("null"), []byte(`{"b":1e400}`)}},
		{schema: `{"prefixItems":[{"type":"integer"},{}]}`, result: `[1,true]`, want: []json.RawMessage{[]byte("1"), []byte("true")}},
		{schema: `{"additionalProperties":{"type":"integer"}}`, result: `{"a b":1,"":2}`, want: map[string]int{"a b": 1, "": 2}},
		{schema: `{"additionalProperties":{"type":"integer"}}`, result: `{"a":{}}`, wrong: "/a is an object; its schema says an integer of 64 bits (code -32603)"},
		{schema: `{"type":"object","additionalProperties":true}`, result: `{"a":{}}`, want: map[string]json.RawMessage{"a": []byte("{}")}},
		{schema: `{"properties":{"a/b~c":{"items":{"properties":{"no":{"type":"integer"}}}}}}`, result: `{"a/b~c":[{},{"no":[]}]}`, wrong: "/a~1b~0c/1/no is an array; its schema says an integer of 64 bits (code -32603)"},
		{schema: `{"properties":{"n":{"type":["integer","null"]},"p":{"anyOf":[{"properties":{"no":{"type":"integer"}}},{"type":"null"}]},"raw":{},"tags":{"items":{"type":"string"}}}}`,
			result: `{"n":3,"p":null,"raw":{"x":[1]},"tags":null}`, want: gobLoose{N: &three, Raw: []byte(`{"x":[1]}`)}},
		{schema: `{"type":"object"}`, result: `{"b":1,"a":[1e400]}`, want: json.RawMessage(`{"b":1,"a":[1e400]}`)},
		{schema: `{}`, result: `{"b":1,"a":[1e400]}`, want: json.RawMessage(`{"b":1,"a":[1e400]}`)},
		{schema: `{}`, result: `"text"`, want: "text"},
		{schema: `{}`, result: `null`, want: json.RawMessage("null")},
		{schema: `{"type":"null"}`, result: `null`, want: struct{}{}},
		{schema: `null`, result: `null`, want: struct{}{}},
		{schema: `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}}}`, result: `7`, want: json.RawMessage("7")},
		{schema: `{"$ref":"https://example.org/schema"}`, result: `7`, want: json.RawMessage("7")},
		{schema: `{"$ref":"#/$defs/none"}`, result: `7`, want: json.RawMessage("7")},
		{schema: `{"$ref":"#/prefixItems/1","prefixItems":[{},{"type":"integer"}]}`, result: `7`, want: json.RawMessage("7")},
		{schema: `{"items":{"$ref":"#/$defs/l/1"},"$defs":{"l":[{},{"type":"integer"}]}}`, result: `[7]`, want: []int{7}},
		{schema: `{"anyOf":[{"type":"integer"},{"type":"string"}]}`, result: `7`, want: json.RawMessage("7")},
		{schema: `{"type":"object","properties":{"no":{"type":"integer"}},"patternProperties":{"^x":{}}}`, result: `{"no":7}`, want: json.RawMessage(`{"no":7}`)},
	} {
		p.declare(`{}`, test.schema)
		for range 2 { // the second one needs no definitions
			got := reflect.New(reflect.TypeFor[struct{}]())
			if test.want != nil {
				got = reflect.New(reflect.TypeOf(test.want))
			}
			_, err := p.call("", test.result, got.Interface())
			switch {
			case test.wrong != "":
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("%s at %s is answered with %v, %v; want %s", test.result, test.schema, got.Elem(), err, test.wrong)
				}
			case err != nil || !sameGob(got.Elem().Interface(), test.want):
				t.Errorf("%s at %s arrives as %+v, %v; want %+v", test.result, test.schema, got.Elem(), err, test.want)
			}
		}
	}
}

// The types of a schema are defined once on a connection, however often it is registered, and a few bytes do not become more
// JSON than may be passed on.
func TestGobSchemasAreBounded(t *testing.T) {
	p := newGobPair(t)
	counted := &countingConn{Conn: noDeadline(rawDial(t, p.endpoint))}
	p.caller = rpc.NewClient(counted)
	defer p.caller.Close()
	var sizes []int
	for range 3 {
		p.declare(`{}`, nodeSchema)
		before := counted.read
		var node gobNode
		if _, err := p.call("", `{"name":"a"}`, &node); err != nil || node.Name != "a" {
			t.Fatalf("the answer is %v, %v", node, err)
		}
		sizes = append(sizes, counted.read-before)
	}
	if sizes[1] != sizes[2] || sizes[1] >= sizes[0] {
		t.Errorf("three answers after as many registrations have %v bytes; want definitions in the first", sizes)
	}
	fields := make([]reflect.StructField, 500)
	for i := range fields {
		fields[i] = reflect.StructField{Name: fmt.Sprintf("Field%d", i), Type: reflect.TypeFor[int]()}
	}
	p.declare(`{}`, `{}`)
	empty := reflect.MakeSlice(reflect.SliceOf(reflect.StructOf(fields)), 1<<14, 1<<14)
	var answer string
	if _, err := p.call(empty.Interface(), `"ok"`, &answer); err == nil || !strings.Contains(err.Error(), "(code -32001)") {
		t.Errorf("structs that are too long as JSON are answered with %q, %v", answer, err)
	}
	if _, err := p.call(empty.Slice(0, 1).Interface(), `"ok"`, &answer); err != nil || answer != "ok" {
		t.Errorf("the next call is answered with %q, %v", answer, err)
	}
}

// A countingConn counts what is read. Its reader has the answer before its caller does.
type countingConn struct {
	net.Conn
	read int
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read += n
	return n, err
}

// Our own client, which has only JSON, gets the members under their names.
func TestGobResultsAsJSON(t *testing.T) {
	p := newGobPair(t)
	c := dialOurs(protoGob)(t, p.endpoint)
	defer c.close()
	for _, test := range []struct{ schema, result, want string }{
		{nodeSchema, `{"kids":[{"name":"b"}],"name":"a"}`, `{"kids":[{"kids":[],"name":"b","next":null}],"name":"a","next":null}`},
		{`{}`, `{"b":1,"a":[1e400]}`, `{"b":1,"a":[1e400]}`},
		{`{}`, `[]`, `[]`},
		{`{"type":"string","contentEncoding":"base64"}`, `"MTI="`, `"MTI="`},
		{`{"properties":{"raw":{}}}`, `{"raw":7}`, `{"raw":7}`},
	} {
		p.declare(`{"type":"string"}`, test.schema)
		done := make(chan error, 1)
		var got json.RawMessage
		go func() { done <- c.call(t.Context(), "Far.M", json.RawMessage(`"x"`), &got) }()
		_, rest, _ := strings.Cut(readLine(t, p.provider), `"id":`)
		id, _, _ := strings.Cut(rest, ",")
		send(t, p.provider, `{"jsonrpc":"2.0","id":`+id+`,"result":`+test.result+"}\n")
		if err := receive(t, done); err != nil || string(got) != test.want {
			t.Errorf("%s at %s is %s, %v; want %s", test.result, test.schema, got, err, test.want)
		}
	}
}

// Whatever the schema, what becomes gob by it is gob to the standard library and to us, and JSON again.
func FuzzGobBySchema(f *testing.F) {
	f.Add([]byte(takeSchema), []byte(`{"at":"2026-11-28T01:02:03Z","half":1,"parts":[{"no":1}],"by":{"k":{}},"raw":"aGk="}`))
	f.Add([]byte(nodeSchema), []byte(`{"next":{"next":null},"kids":[{}]}`))
	f.Add([]byte(`{"properties":{"aB":{},"ab":{"$ref":"#"},"Ab":{"type":"null"}}}`), []byte(`{"ab":{"aB":1}}`))
	f.Add([]byte(`{"anyOf":[{"$ref":"#/$defs/a%2f~1"},{"type":"null"}],"$defs":{"a//":{"type":["integer","null"]}}}`), []byte(`5`))
	l := defaultLimits()
	f.Fuzz(around(func(t *testing.T, schemaText, text []byte) {
		shallow := l
		shallow.MaxDepth -= 2 * passedDepth
		if checkJSON(schemaText, l) != nil || checkJSON(text, shallow) != nil {
			return
		}
		s, err := parseSchema(bytes.TrimSpace(schemaText))
		if err != nil {
			return
		}
		m := message{kind: request, method: "Far.M", id: callID{seq: 1}, forms: newGobForms(s, s)}
		writer := newGobCodec(nil, l, response)
		body, err := writer.prepare(&m, document(bytes.TrimSpace(text)))
		if err != nil {
			return
		}
		stream, err := writer.write(nil, &m, body)
		must(t, err)
		stock := gob.NewDecoder(bytes.NewReader(stream))
		must(t, errors.Join(stock.Decode(new(rpc.Request)), stock.DecodeValue(reflect.Value{})))
		var got document
		reader := readGob(bytes.NewReader(stream), l)
		must(t, reader.read(new(message)))
		var refused *fault
		if err := reader.body(&formed{&got, m.forms.argument}); err != nil && !errors.As(err, &refused) {
			t.Errorf("%s at %s as gob is %v", text, schemaText, err)
		}
	}))
}

// sameGob reports whether two values are the same but for how a time names its zone.
func sameGob(a, b any) bool {
	at, isTime := a.(time.Time)
	if isTime {
		return at.Equal(b.(time.Time))
	}
	if take, ok := a.(gobTake); ok {
		other := b.(gobTake)
		if !take.At.Equal(other.At) {
			return false
		}
		take.At, other.At = time.Time{}, time.Time{}
		a, b = take, other
	}
	return reflect.DeepEqual(a, b)
}
