package main

// This file owns what Ipcd.Describe says of Go types: a schema must fit what encoding/json writes.

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// A SchemaBase is embedded by others.
type SchemaBase struct {
	ID   int    `json:"id"`
	Name string `json:"name"` // hidden by the field of whoever embeds it
}

// A SchemaKin is embedded under a name, so that its members are one level down.
type SchemaKin struct {
	Of string `json:"of"`
}

// A SchemaLost is embedded and left out.
type SchemaLost struct {
	Gone string `json:"gone"`
}

// A SchemaMost has one of most things that encoding/json can write.
type SchemaMost struct {
	SchemaBase
	SchemaKin  `json:"kin"`
	SchemaLost `json:"-"`

	Name  []string `json:"name"`
	Empty int      `json:"empty,omitempty"`
	//lint:ignore SA5008 a member with the name "-" is what encoding/json makes of it
	Dash    string `json:"-,"`
	Quoted  int64  `json:"quoted,string"`
	QuotedP *bool  `json:"quotedp,string"`
	//lint:ignore SA5008 encoding/json quotes no slices
	Words  []int              `json:"words,string"`
	Left   string             `json:"-"`
	Untag  float32            // under its own name
	Ptr    **int              `json:"ptr"`
	When   time.Time          `json:"when"`
	WhenP  *time.Time         `json:"whenp"`
	Wait   time.Duration      `json:"wait"`
	Addr   netip.Addr         `json:"addr"`
	Bytes  []byte             `json:"bytes"`
	Four   [4]byte            `json:"four"`
	Map    map[int]SchemaBase `json:"map"`
	Any    any                `json:"any"`
	Raw    json.RawMessage    `json:"raw"`
	Count  uint16             `json:"count"`
	hidden string
}

// fits tells where a value is not as its schema says, or has a member that the schema has not.
func fits(at string, s map[string]any, v any) error {
	want, ok := s["type"].(string)
	if !ok {
		return nil
	}
	got := map[reflect.Kind]string{reflect.Bool: "boolean", reflect.Float64: "number", reflect.String: "string", reflect.Slice: "array", reflect.Map: "object"}[reflect.ValueOf(v).Kind()]
	if n, whole := v.(float64); whole && want == "integer" && n == float64(int64(n)) {
		got = "integer"
	}
	if got != want {
		return fmt.Errorf("%s is %v, a %s; the schema says %s", at, v, got, want)
	}
	switch v := v.(type) {
	case []any:
		items, _ := s["items"].(map[string]any)
		for i, e := range v {
			if err := fits(fmt.Sprintf("%s[%d]", at, i), items, e); err != nil {
				return err
			}
		}
	case map[string]any:
		properties, listed := s["properties"].(map[string]any)
		more, _ := s["additionalProperties"].(map[string]any)
		for name, e := range v {
			member := more
			if listed {
				if member, ok = properties[name].(map[string]any); !ok {
					return fmt.Errorf("%s has the member %q; the schema has not", at, name)
				}
			}
			if err := fits(at+"."+name, member, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// throughJSON is v as a peer has it.
func throughJSON[T any](t testing.TB, v any) (out T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSchemaFitsWhatIsWritten(t *testing.T) {
	n, yes, when := 7, true, time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC)
	p := &n
	v := SchemaMost{
		SchemaBase: SchemaBase{ID: 1, Name: "hidden"}, SchemaKin: SchemaKin{"x"}, SchemaLost: SchemaLost{"x"},
		Name: []string{"a"}, Empty: 1, Dash: "d", Quoted: 5, QuotedP: &yes, Words: []int{1}, Left: "x", Untag: 0.5, Ptr: &p, When: when, WhenP: &when,
		Wait: time.Second, Addr: netip.MustParseAddr("::1"), Bytes: []byte{0, 255}, Four: [4]byte{1, 2, 3, 4},
		Map: map[int]SchemaBase{-1: {ID: 2}}, Any: []any{1}, Raw: json.RawMessage(`{"a":1}`), Count: 9, hidden: "x",
	}
	s := throughJSON[map[string]any](t, schemaOf(reflect.TypeOf(v)))
	written := throughJSON[map[string]any](t, v)
	if err := fits("it", s, written); err != nil {
		t.Error(err)
	}
	for name := range s["properties"].(map[string]any) {
		if _, ok := written[name]; !ok {
			t.Errorf("the schema has the member %q, which is never written", name)
		}
	}
}

func TestSchemaOfTypes(t *testing.T) {
	type Loop []Loop
	type Mutual struct {
		Other *struct {
			Back *Mutual `json:"back"`
		} `json:"other"`
	}
	tests := []struct {
		v    any
		want string
	}{
		{"", `{"type":"string"}`},
		{true, `{"type":"boolean"}`},
		{0, `{"type":"integer"}`},
		{uint8(0), `{"minimum":0,"type":"integer"}`},
		{0.5, `{"type":"number"}`},
		{time.Second, `{"type":"integer"}`},
		{time.Time{}, `{"format":"date-time","type":"string"}`},
		{&time.Time{}, `{"format":"date-time","type":"string"}`},
		{[]byte{}, `{"contentEncoding":"base64","type":"string"}`},
		{[2]byte{}, `{"items":{"minimum":0,"type":"integer"},"type":"array"}`},
		{[]*string{}, `{"items":{"type":"string"},"type":"array"}`},
		{map[string]any{}, `{"additionalProperties":{},"type":"object"}`},
		{map[int][]bool{}, `{"additionalProperties":{"items":{"type":"boolean"},"type":"array"},"type":"object"}`},
		{netip.Addr{}, `{"type":"string"}`},
		{json.RawMessage{}, `{}`},
		{struct{}{}, `{"properties":{},"type":"object"}`},
		{Loop{}, `{"items":{"description":"a Loop again"},"type":"array"}`},
		{Mutual{}, `{"properties":{"other":{"properties":{"back":{"description":"a Mutual again"}},"type":"object"}},"type":"object"}`},
		{[2]struct{ A, B SchemaKin }{}, `{"items":{"properties":{"A":{"properties":{"of":{"type":"string"}},"type":"object"},"B":{"properties":{"of":{"type":"string"}},"type":"object"}},"type":"object"},"type":"array"}`},
		{make(chan int), `{}`},
	}
	for _, test := range tests {
		got, err := json.Marshal(schemaOf(reflect.TypeOf(test.v)))
		if err != nil || string(got) != test.want {
			t.Errorf("schemaOf(%T) = %s, %v; want %s", test.v, got, err, test.want)
		}
	}
	if got := schemaOf(nil); got == nil || len(got) != 0 {
		t.Errorf("schemaOf(nil) = %v; want one that allows anything", got)
	}
}

// Over each kind of client, so that a schema survives gob as well.
func TestDescribe(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	for _, k := range clientKinds {
		c := k.dial(t, s.endpoints[0])
		var all, one []Description
		if err := ask(c, "Ipcd.Describe", "Trial", &all); err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		if err := ask(c, "Ipcd.Describe", "Trial.Parcel", &one); err != nil || len(one) != 1 {
			t.Fatalf("%s: Describe(Trial.Parcel) = %v, %v; want one", k.name, one, err)
		}
		at := slices.IndexFunc(all, func(d Description) bool { return d.Method == "Trial.Parcel" })
		if at < 0 || !reflect.DeepEqual(all[at], one[0]) {
			t.Errorf("%s: all of Trial does not have %v", k.name, one[0])
		}
		const shape = "{age: integer, door: any, map: object, name: string, raw: string, tags: string[]}"
		if got := one[0].Argument.shape(); got != shape {
			t.Errorf("%s: Trial.Parcel takes %s; want %s", k.name, got, shape)
		}
		for _, d := range all {
			if d.Method == "Trial.Unencodable" && d.Argument.shape() != "" {
				t.Errorf("%s: Trial.Unencodable takes %s; want nothing", k.name, d.Argument.shape())
			}
		}
		f := checkCode(t, k.name+": Describe(Trail)", ask(c, "Ipcd.Describe", "Trail", &one), codeNoMethod, "no service or method Trail")
		if k.data && (f.data().Near != "Trial") {
			t.Errorf("%s: the nearest of Trail is %+v; want Trial", k.name, f.Data)
		}
		c.close()
	}
}
