package main

// This file owns how Go types become services, and how the router finds their methods.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Forms has methods of each form that can be called.
type Forms struct{ said string }

func (Forms) Context(ctx context.Context, n int) (int, error) { return n + 1, nil }
func (Forms) Alone(ctx context.Context) (string, error)       { return "alone", nil }
func (Forms) Reply(n int, sum *map[string]int) error          { (*sum)["n"] = n; return nil }
func (Forms) Bytes(ctx context.Context, b []byte) ([]byte, error) {
	return append(b, '!'), nil
}
func (f *Forms) Pointer(ctx context.Context, text string) (string, error) {
	f.said = text
	return f.said, nil
}
func (f *Forms) Keep(ctx context.Context, text string) error { f.said = text; return nil }
func (f *Forms) Forget(ctx context.Context) error            { f.said = ""; return nil }
func (f *Forms) ByPointer(text *string, n *int) error        { *n = len(*text); return nil }
func (Forms) unexported(n int) int                           { return n }

// WrongForms has methods of forms that cannot be called, and one that can.
type WrongForms struct{}

func (WrongForms) Fine(ctx context.Context) error                       { return nil }
func (WrongForms) NoContext(n int) (int, error)                         { return n, nil }
func (WrongForms) NoError(ctx context.Context, n int) int               { return n }
func (WrongForms) TwoArguments(ctx context.Context, a, b int) error     { return nil }
func (WrongForms) TwoResults(ctx context.Context) (int, int, error)     { return 0, 0, nil }
func (WrongForms) Variadic(ctx context.Context, n ...int) (int, error)  { return len(n), nil }
func (WrongForms) NoPointer(n, sum int) error                           { return nil }
func (WrongForms) ErrorFirst(ctx context.Context, n int) (error, error) { return nil, nil }
func (WrongForms) Both(ctx context.Context, n int, sum *int) error      { return nil }
func (WrongForms) Nothing()                                             {}
func (WrongForms) String() string                                       { return "" }

func TestReceiverRefusesMethodsThatCannotBeCalled(t *testing.T) {
	_, _, err := newReceiver(&WrongForms{}, nil)
	if err == nil {
		t.Fatal("a type with methods of other forms was taken")
	}
	for _, want := range []string{"WrongForms.NoContext is a func(int) (int, error),", "WrongForms.NoError ", "WrongForms.TwoArguments ", "WrongForms.TwoResults ",
		"WrongForms.Variadic ", "WrongForms.NoPointer ", "WrongForms.ErrorFirst ", "WrongForms.Both ", "WrongForms.Nothing ", "WrongForms.String is a func() string,", methodForms} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %q; want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "WrongForms.Fine") {
		t.Errorf("the error is %q; it blames a method that can be called", err)
	}
	if _, _, err := newReceiver(struct{}{}, nil); err == nil || !strings.Contains(err.Error(), "no exported method") {
		t.Errorf("a receiver without methods: %v", err)
	}
}

func TestReceiverTakesTheMethodsThatCanBeCalled(t *testing.T) {
	forms := &Forms{}
	forms.unexported(1)
	name, s, err := newReceiver(forms, map[string]string{"Alone": "a line"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Alone", "ByPointer", "Bytes", "Context", "Forget", "Keep", "Pointer", "Reply"}
	if name != "Forms" || !slices.Equal(s.names(), want) {
		t.Errorf("the receiver is %s with %v; want Forms with %v", name, s.names(), want)
	}
	if doc := s.method("Alone").doc; doc != "a line" {
		t.Errorf("the line on Alone is %q", doc)
	}
	if s.method("unexported") != nil {
		t.Error("a method that cannot be called is there")
	}
	for method, test := range map[string]struct {
		arg  any
		want string
	}{
		"Context":   {1, "2"},
		"Alone":     {nil, `"alone"`},
		"Reply":     {3, `{"n":3}`},
		"Bytes":     {[]byte("a"), `"YSE="`},
		"Pointer":   {"x", `"x"`},
		"Keep":      {"y", "null"},
		"Forget":    {nil, "null"},
		"ByPointer": {"four", "4"},
	} {
		m := s.method(method)
		arg := m.newArgument()
		if test.arg != nil {
			b, _ := json.Marshal(test.arg)
			if err := json.Unmarshal(b, arg); err != nil {
				t.Fatal(err)
			}
		} else if arg != nil {
			t.Errorf("%s takes %T; want nothing", method, arg)
		}
		result, err := m.invoke(t.Context(), arg)
		got, _ := json.Marshal(result)
		if err != nil || string(got) != test.want {
			t.Errorf("%s = %s, %v; want %s", method, got, err, test.want)
		}
	}
}

// What a nil at the top is for the codecs: an empty list or map, nothing, or a nil that has no other form.
func TestResultsThatAreNil(t *testing.T) {
	type pair struct{ A int }
	var list *[]int
	tests := []struct {
		result any // points to what the method returned
		want   any
	}{
		{new([]string), &[]string{}},
		{new(map[string]int), &map[string]int{}},
		{new([]byte), []byte{}},
		{&list, &[]int{}},
		{new(*map[string]int), &map[string]int{}},
		{new(*pair), nil},
		{new(**pair), nil},
		{new(*int), (*int)(nil)},
		{new(*time.Time), (*time.Time)(nil)}, // its JSON is no object
		{new(*big.Int), (*big.Int)(nil)},
		{new(json.RawMessage), new(json.RawMessage)}, // it says itself what it is
		{new(any), new(any)},
	}
	for _, test := range tests {
		if got := resultAt(reflect.ValueOf(test.result)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("a nil %T leaves as %#v; want %#v", reflect.ValueOf(test.result).Elem().Interface(), got, test.want)
		}
	}
	if list != nil {
		t.Errorf("the method's own list has become %v", list)
	}
}

// The error of a method is its own, whatever it is made of.
func TestErrorsOfMethods(t *testing.T) {
	passed, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer cancel()
	given, cancel := context.WithCancel(t.Context())
	cancel()
	later, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	own := &Error{Code: 7, Message: "no such ticket", Data: map[string]any{"ticket": 12}}
	tests := []struct {
		ctx  context.Context
		err  error
		want fault
	}{
		{later, errors.New("no space left"), fault{Code: codeApplication, Text: "no space left"}},
		{later, own, fault{Code: 7, Text: "no such ticket", Data: []byte(`{"ticket":12}`)}},
		{later, fmt.Errorf("open: %w", own), fault{Code: 7, Text: "open: no such ticket", Data: []byte(`{"ticket":12}`)}},
		{later, &Error{Code: 9, Message: "text", Data: TrialLabel{"x"}}, fault{Code: 9, Text: "text", Data: []byte(`"<x>"`)}},
		{later, &Error{Message: "no code"}, fault{Code: codeApplication, Text: "no code"}},
		{later, &Error{Code: -32602, Message: "an odd number"}, fault{Code: codeBadArgument, Text: "an odd number"}},
		{later, &Error{Code: codeBusy, Message: "try again"}, fault{Code: codeApplication, Text: "try again"}},
		{later, &Error{Code: -32019, Message: "not yet given"}, fault{Code: codeApplication, Text: "not yet given"}},
		{later, &Error{Code: 8, Message: "odd data", Data: make(chan int)}, fault{Code: 8, Text: "odd data", Data: []byte(`"the data cannot be encoded: unsupported type: chan int"`)}},
		// What another daemon said.
		{later, busy("max_calls", 1, "too many calls"), fault{Code: codeApplication, Text: "too many calls (limit max_calls = 1)", Data: busy("max_calls", 1, "").Data}},
		{later, &fault{Code: codeNoMethod, Text: "there is no method"}, fault{Code: codeNoMethod, Text: "there is no method"}},
		// The context of the call, and others.
		{passed, fmt.Errorf("read: %w", context.DeadlineExceeded), *errDeadline},
		{passed, errDeadline, *errDeadline},
		{given, context.Canceled, *errCancelled},
		{later, context.DeadlineExceeded, fault{Code: codeApplication, Text: "context deadline exceeded"}},
		{later, fmt.Errorf("ask: %w", errDeadline), fault{Code: codeApplication, Text: errDeadline.Text}},
		{t.Context(), context.Canceled, fault{Code: codeApplication, Text: "context canceled"}},
		{given, context.DeadlineExceeded, fault{Code: codeApplication, Text: "context deadline exceeded"}},
	}
	for _, test := range tests {
		m := &method{name: "A.B", invoke: func(context.Context, any) (any, error) { return nil, test.err }}
		_, f := m.run(test.ctx, nil, nil)
		if f == nil || f.Code != test.want.Code || f.Text != test.want.Text || string(f.Data) != string(test.want.Data) {
			t.Errorf("the error %v (%T) is sent as %+v; want %+v", test.err, test.err, f, test.want)
		}
	}
	m := &method{name: "Ipcd.Stop", invoke: func(context.Context, any) (any, error) { return nil, errDenied }}
	if _, f := m.run(later, nil, nil); f != errDenied {
		t.Errorf("what the daemon says itself is sent as %v; want %v", f, errDenied)
	}
}

func TestMethodSurvivesItsPanic(t *testing.T) {
	m := &method{name: "A.B", invoke: func(context.Context, any) (any, error) { panic("why") }}
	var told string
	_, f := m.run(t.Context(), nil, func(method string, value any, stack []byte) {
		told = fmt.Sprint(method, " ", value, " ", strings.Contains(string(stack), "TestMethodSurvivesItsPanic"))
	})
	if f != errInternal || told != "A.B why true" {
		t.Errorf("call = %v, and told %q", f, told)
	}
}

func TestRouter(t *testing.T) {
	r := newRouter()
	_, echo, err := newReceiver(Echo{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a.b", "1a", "_a", "a b", "ä", "a/b", strings.Repeat("a", 65)} {
		if err := r.add(name, echo); err == nil {
			t.Errorf("%q was taken for the name of a service", name)
		}
	}
	if err := r.add("Echo", echo); err != nil {
		t.Fatal(err)
	}
	if err := r.add("Echo", echo); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a name that is taken: %v", err)
	}
	if m, f := r.find("Echo.Say", theOwner); f != nil || m != echo.method("Say") {
		t.Errorf("find(Echo.Say) = %v, %v", m, f)
	}
	for name, near := range map[string]string{"Echo.Sya": "Echo.Say", "echo.say": "Echo.Say", "Eco.Sy": "Echo.Say", "Other.Thing": "", "": "", strings.Repeat("x", 1<<20): ""} {
		_, f := r.find(name, theOwner)
		got := ""
		if f != nil && f.Data != nil {
			got = f.data().Near
		}
		if f == nil || f.Code != codeNoMethod || got != near || len(f.Text) > 200 {
			t.Errorf("find(%q) = %v, near %q; want near %q", shorten(name, 40), f, got, near)
		}
	}
}

const int64Schema = `{"maximum":9223372036854775807,"minimum":-9223372036854775808,"type":"integer"}`

// A TestTree contains itself.
type TestTree struct {
	Name     string               `json:"name,omitempty"`
	Children []TestTree           `json:"children"`
	Secret   string               `json:"-"`
	Plain    *bool                // without a tag
	When     time.Time            `json:"when"`
	Raw      json.RawMessage      `json:"raw"`
	Any      any                  `json:"any"`
	Bytes    []byte               `json:"bytes"`
	By       map[string][]float64 `json:"by"`
	Wait     time.Duration        `json:"wait"`
	Count    uint8                `json:"count"`
	TrialPlace
}

func TestSchema(t *testing.T) {
	name, s, err := newReceiver(&treeKeeper{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := s.method("Keep")
	got, err := json.Marshal(argumentSchema(m.argument))
	want := `{"$defs":{"TestTree":{"properties":{"Plain":{"type":["boolean","null"]},"any":{},"by":{"additionalProperties":{"items":{"type":"number"},"type":["array","null"]},"type":["object","null"]},` +
		`"bytes":{"contentEncoding":"base64","type":["string","null"]},"children":{"items":{"$ref":"#/$defs/TestTree"},"type":["array","null"]},"count":{"maximum":255,"minimum":0,"type":"integer"},` +
		`"n":` + int64Schema + `,"name":{"type":"string"},"place":` + int64Schema + `,"raw":{},"wait":{"description":"nanoseconds",` + int64Schema[1:] + `,"when":{"format":"date-time","type":"string"}},"type":"object"}},"$ref":"#/$defs/TestTree"}`
	if err != nil || string(got) != want {
		t.Errorf("%s.Keep takes\n%s, %v; want\n%s", name, got, err, want)
	}
	if result, err := json.Marshal(resultSchema(m.result)); err != nil || string(result) != `{"items":{"type":"string"},"type":"array"}` {
		t.Errorf("it returns %s, %v", result, err)
	}
}

type treeKeeper struct{}

func (*treeKeeper) Keep(ctx context.Context, tree TestTree) ([]string, error) { return nil, nil }
