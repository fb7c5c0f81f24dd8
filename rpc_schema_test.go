package main

// This file owns what Ipcd.Describe says of Go types: a schema must fit what encoding/json writes.

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
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

// A SchemaFar is embedded by a pointer, so that its members may be missing.
type SchemaFar struct {
	Far int `json:"far"`
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
	*SchemaFar

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

	Label  TrialLabel            `json:"label"`
	Labels map[string]TrialLabel `json:"labels"` // whose elements have no address
	LabelP *TrialLabel           `json:"labelp"`
	Gone   []int                 `json:"gone,omitempty"`
	Number json.Number           `json:"number"`
	Again  *SchemaMost           `json:"again"`
}

// numbered is v as a peer has it that keeps numbers as they are written.
func numbered(t testing.TB, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// A validator reads as much of JSON Schema as ipcd writes.
type validator struct {
	root   map[string]any
	closed bool // members that a schema does not have are not allowed: for what is written
}

func newValidator(t testing.TB, s schema, closed bool) validator {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return validator{numbered(t, text).(map[string]any), closed}
}

// fits tells where a value is not as its schema says.
func (w validator) fits(at string, s map[string]any, v any) error {
	if ref, ok := s["$ref"].(string); ok {
		def, ok := w.root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		if !ok {
			return fmt.Errorf("%s refers to %s, which is not there", at, ref)
		}
		return w.fits(at, def, v)
	}
	if either, ok := s["anyOf"].([]any); ok {
		var err error
		for _, one := range either {
			if err = w.fits(at, one.(map[string]any), v); err == nil {
				return nil
			}
		}
		return err
	}
	got := map[string]bool{fmt.Sprintf("%T", v): true}
	switch v := v.(type) {
	case nil:
		got["null"] = true
	case bool:
		got["boolean"] = true
	case string:
		got["string"] = true
	case json.Number:
		n, ok := new(big.Rat).SetString(string(v)) // not ok: an exponent out of all proportion
		got["number"], got["integer"] = true, ok && n.IsInt()
	case []any:
		got["array"] = true
	case map[string]any:
		got["object"] = true
	}
	switch want := s["type"].(type) {
	case nil:
		return nil
	case string:
		if !got[want] {
			return fmt.Errorf("%s is %v; the schema says %s", at, v, want)
		}
	case []any:
		if !slices.ContainsFunc(want, func(one any) bool { return got[one.(string)] }) {
			return fmt.Errorf("%s is %v; the schema says one of %v", at, v, want)
		}
	}
	switch v := v.(type) {
	case string:
		return fitsText(at, s, v)
	case json.Number:
		n, _ := new(big.Rat).SetString(string(v))
		for bound, outside := range map[string][]int{"minimum": {-1}, "maximum": {1}, "exclusiveMinimum": {-1, 0}, "exclusiveMaximum": {0, 1}} {
			if text, ok := s[bound].(json.Number); ok {
				if m, _ := new(big.Rat).SetString(string(text)); slices.Contains(outside, n.Cmp(m)) {
					return fmt.Errorf("%s is %s; the %s is %s", at, v, bound, text)
				}
			}
		}
	case []any:
		for bound, sign := range map[string]int{"minItems": -1, "maxItems": 1} {
			if text, ok := s[bound].(json.Number); ok {
				if m, _ := text.Int64(); cmp.Compare(int64(len(v)), m) == sign {
					return fmt.Errorf("%s has %d elements; %s is %d", at, len(v), bound, m)
				}
			}
		}
		items, _ := s["items"].(map[string]any)
		for i, e := range v {
			if err := w.fits(fmt.Sprintf("%s[%d]", at, i), items, e); err != nil {
				return err
			}
		}
	case map[string]any:
		return w.fitsObject(at, s, v)
	}
	return nil
}

func fitsText(at string, s map[string]any, v string) error {
	if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
		return fmt.Errorf("%s is %q; its pattern is %s", at, v, pattern)
	}
	var err error
	if s["format"] == "date-time" {
		_, err = time.Parse(time.RFC3339Nano, v)
	} else if s["contentEncoding"] == "base64" {
		_, err = base64.StdEncoding.DecodeString(v)
	}
	return err
}

func (w validator) fitsObject(at string, s, v map[string]any) error {
	properties, listed := s["properties"].(map[string]any)
	more, _ := s["additionalProperties"].(map[string]any)
	names, _ := s["propertyNames"].(map[string]any)
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s has no %v, which is required", at, name)
		}
	}
	for name, e := range v {
		member := more
		if p, ok := properties[name].(map[string]any); ok {
			member = p
		} else if listed && w.closed {
			return fmt.Errorf("%s has the member %q; the schema has not", at, name)
		}
		if err := w.fits(at+"."+name, member, e); err != nil {
			return err
		}
		if err := fitsText(at+"'s "+name, names, name); err != nil {
			return err
		}
	}
	return nil
}

// What is written fits the schema of a result, with all that can be nil and all that can be empty.
func TestSchemaFitsWhatIsWritten(t *testing.T) {
	n, yes, when := 7, true, time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC)
	p := &n
	full := SchemaMost{
		SchemaBase: SchemaBase{ID: 1, Name: "hidden"}, SchemaKin: SchemaKin{"x"}, SchemaLost: SchemaLost{"x"}, SchemaFar: &SchemaFar{Far: 1},
		Name: []string{"a"}, Empty: 1, Dash: "d", Quoted: 5, QuotedP: &yes, Words: []int{1}, Left: "x", Untag: 0.5, Ptr: &p, When: when, WhenP: &when,
		Wait: time.Second, Addr: netip.MustParseAddr("::1"), Bytes: []byte{0, 255}, Four: [4]byte{1, 2, 3, 4},
		Map: map[int]SchemaBase{-1: {ID: 2}}, Any: []any{1}, Raw: json.RawMessage(`{"a":1}`), Count: 9, hidden: "x",
		Label: TrialLabel{"l"}, Labels: map[string]TrialLabel{"a": {"l"}}, LabelP: &TrialLabel{"p"}, Gone: []int{1}, Number: "1.50", Again: &SchemaMost{},
	}
	for name, v := range map[string]*SchemaMost{"full": &full, "empty": {Raw: json.RawMessage("null")}} {
		s := resultSchema(reflect.TypeOf(*v))
		w := newValidator(t, s, true)
		text, err := json.Marshal(resultAt(reflect.ValueOf(v)))
		if err != nil {
			t.Fatal(err)
		}
		written := numbered(t, text)
		if err := w.fits(name, w.root, written); err != nil {
			t.Error(err)
		}
		if v != &full {
			continue
		}
		for member := range w.root["$defs"].(map[string]any)["SchemaMost"].(map[string]any)["properties"].(map[string]any) {
			if _, ok := written.(map[string]any)[member]; !ok {
				t.Errorf("the schema has the member %q, which is never written", member)
			}
		}
	}
}

// takenTexts are arguments by the type of which they are, or are not.
var takenTexts = []struct {
	v     any
	texts []string
}{
	{0, []string{`1`, `1.0`, `1e2`, `100e-2`, `-0`, `-0.0`, `0e99999`, `1.5`, `1e-1`, `9223372036854775807`, `9223372036854775807.0`, `9223372036854775808`, `-9223372036854775808`, `1e18`, `1e19`, `1e400`, `1e-99999999999999999999`, `null`, `"1"`, `true`, `[]`, `{}`}},
	{int8(0), []string{`127`, `128`, `-128`, `-129`, `1.27e2`, `1.28e2`}},
	{uint8(0), []string{`0`, `255`, `256`, `-1`, `-0`, `-0.0`, `2.55E+2`, `null`}},
	{uint64(0), []string{`18446744073709551615`, `18446744073709551615.00`, `18446744073709551616`, `1.8446744073709551615e19`, `-1`}},
	{0.5, []string{`1`, `1e2`, `0.1`, `1e39`, `null`, `"1"`}},
	{float32(0.5), []string{`1`, `0.1`, `3.4028235e38`, `-3.4028235e38`, `340282356779733661637539395458142568447.9`, `340282356779733661637539395458142568448`,
		`-340282356779733661637539395458142568448`, `1e39`, `-1e39`, `1e-99`, `null`, `"1"`}},
	{[]float32{}, []string{`[1,1e38]`, `[1,1e39]`}},
	{map[string]float32{}, []string{`{"a":1e38}`, `{"a":1e39}`}},
	{map[uint]int{}, []string{`{"1":1}`, `{"-1":1}`, `{"-0":1}`, `{"007":1}`}},
	{struct {
		N uint8       `json:",string"`
		F *float32    `json:",string"`
		M json.Number `json:",string"`
	}{}, []string{`{"F":"1."}`, `{"F":"0x1p4"}`, `{"F":"-inf"}`, `{"F":"-.5"}`, `{"F":"01"}`, `{"F":null}`, `{"M":"1.5"}`, `{"M":"1x"}`, `{"N":"1"}`, `{"N":"-1"}`, `{"N":"-0"}`, `{"N":"1.0"}`, `{"N":1}`, `{"F":"1.5e3"}`, `{"F":1.5}`}},
	{"", []string{`""`, `"a"`, `null`, `1`, `[]`}},
	{true, []string{`true`, `false`, `null`, `0`, `"true"`}},
	{[]byte{}, []string{`""`, `"AAE="`, `"AAE"`, `"?"`, `null`, `[1,2]`, `[]`, `7`}},
	{[2]byte{}, []string{`[1,2]`, `[1]`, `[]`, `[1,2,3]`, `"AAE="`, `null`, `[256]`}},
	{[]int{}, []string{`[]`, `[1,2.0]`, `null`, `[null]`, `["1"]`, `{}`, `1`}},
	{[]*int{}, []string{`[null,1]`, `[[]]`}},
	{map[string]int{}, []string{`{}`, `{"a":1e0}`, `null`, `{"a":null}`, `[]`}},
	{map[int]string{}, []string{`{"1":"a"}`, `{"-1":"a"}`, `{"+1":"a"}`, `{"1.0":"a"}`, `{"a":"a"}`}},
	{(*SchemaBase)(nil), []string{`null`, `{}`, `{"id":1.0}`, `{"id":null}`, `{"ID":"not this one"}`, `[]`}},
	{SchemaBase{}, []string{`null`, `{}`, `{"id":1,"more":[{"id":"x"}]}`, `{"id":"x"}`, `{"name":null}`}},
	{SchemaMost{}, []string{`{}`, `{"id":1,"Id":"x","iD":null}`, `{"name":"base"}`, `{"name":["own"]}`, `{"kin":{"of":"x"}}`, `{"kin":null}`, `{"quoted":"1"}`, `{"quoted":1}`, `{"quoted":null}`,
		`{"quotedp":null}`, `{"quotedp":"true"}`, `{"quotedp":"yes"}`, `{"words":[1.0]}`, `{"ptr":null}`, `{"ptr":1e1}`, `{"ptr":[]}`, `{"when":"2026-11-24T01:02:03Z"}`, `{"when":"yesterday"}`, `{"when":null}`,
		`{"whenp":null}`, `{"addr":"::1"}`, `{"addr":1}`, `{"addr":null}`, `{"four":[1,2,3,4.0]}`, `{"four":[1,2,3,4,5]}`, `{"map":{"-1":{"id":1e0}}}`, `{"map":{"x":{}}}`, `{"map":{"1":null}}`,
		`{"any":{"ID":[null,1.5]}}`, `{"raw":null}`, `{"label":"<x>"}`, `{"label":{}}`, `{"labels":{"a":"<x>"}}`, `{"labels":null}`, `{"labelp":null}`, `{"number":1.50}`, `{"number":true}`,
		`{"again":{"again":{"id":1.0}}}`, `{"again":{"again":{"id":1.5}}}`, `{"again":null}`, `{"far":1}`, `{"far":null}`, `{"left":0}`, `{"hidden":0}`, `{"Untag":0.5}`, `{"untag":[]}`}},
}

// The schema of an argument allows exactly what is taken.
func TestSchemaAllowsWhatIsTaken(t *testing.T) {
	for _, test := range takenTexts {
		w := newValidator(t, argumentSchema(reflect.TypeOf(test.v)), false)
		for _, text := range test.texts {
			allowed := w.fits("it", w.root, numbered(t, []byte(text)))
			err := decodeBody([]byte(text), reflect.New(reflect.TypeOf(test.v)).Interface())
			if (err == nil) != (allowed == nil) {
				t.Errorf("%s as %T is taken with %v; by the schema: %v", text, test.v, err, allowed)
			}
		}
	}
}

// FuzzArgument decodes any text into types with one of most things. Nothing may crash, and what is taken is allowed by the
// schema, whatever encoding/json would have made of it.
func FuzzArgument(f *testing.F) {
	for _, seed := range takenTexts {
		for _, text := range seed.texts {
			f.Add([]byte(text))
		}
	}
	types := []reflect.Type{reflect.TypeFor[SchemaMost](), reflect.TypeFor[map[string]*TrialParcel](), reflect.TypeFor[[][]uint64](), reflect.TypeFor[map[int8][2]any](), reflect.TypeFor[any]()}
	var validators []validator
	for _, t := range types {
		validators = append(validators, newValidator(f, argumentSchema(t), false))
	}
	l := defaultLimits()
	f.Fuzz(around(func(t *testing.T, text []byte) {
		if text = bytes.TrimSpace(text); checkJSON(text, l) != nil {
			return
		}
		for i, w := range validators {
			before := string(text)
			v := reflect.New(types[i])
			err := decodeBody(text, v.Interface())
			if string(text) != before {
				t.Fatalf("%s has become %s", before, text)
			}
			if err != nil {
				continue
			}
			if err := w.fits("it", w.root, numbered(t, text)); err != nil {
				t.Fatalf("%s is taken as %v; %v", text, types[i], err)
			}
		}
	}))
}

func TestSchemaOfTypes(t *testing.T) {
	type Loop []Loop
	type Mutual struct {
		Other *struct {
			Back *Mutual `json:"back"`
		} `json:"other"`
	}
	const integer = int64Schema
	const object = `{"properties":{"of":{"type":"string"}},"type":"object"}`
	tests := []struct {
		v                any
		argument, result string // result where it is another
	}{
		{"", `{"type":"string"}`, ""},
		{true, `{"type":"boolean"}`, ""},
		{int64(0), integer, ""},
		{int16(0), `{"maximum":32767,"minimum":-32768,"type":"integer"}`, ""},
		{uint8(0), `{"maximum":255,"minimum":0,"type":"integer"}`, ""},
		{uint64(0), `{"maximum":18446744073709551615,"minimum":0,"type":"integer"}`, ""},
		{0.5, `{"type":"number"}`, ""},
		{float32(0), `{"exclusiveMaximum":340282356779733661637539395458142568448,"exclusiveMinimum":-340282356779733661637539395458142568448,"type":"number"}`, ""},
		{time.Second, `{"description":"nanoseconds",` + integer[1:], ""},
		{time.Time{}, `{"format":"date-time","type":"string"}`, ""},
		{&time.Time{}, `{"format":"date-time","type":["string","null"]}`, ""},
		{[]byte{}, `{"contentEncoding":"base64","type":["string","null"]}`, `{"contentEncoding":"base64","type":"string"}`},
		{[2]bool{}, `{"items":{"type":"boolean"},"maxItems":2,"type":"array"}`, `{"items":{"type":"boolean"},"maxItems":2,"minItems":2,"type":"array"}`},
		{[]*string{}, `{"items":{"type":["string","null"]},"type":["array","null"]}`, `{"items":{"type":["string","null"]},"type":"array"}`},
		{map[string]any{}, `{"additionalProperties":{},"type":["object","null"]}`, `{"additionalProperties":{},"type":"object"}`},
		{map[uint][]bool{}, `{"additionalProperties":{"items":{"type":"boolean"},"type":["array","null"]},"propertyNames":{"pattern":"^[0-9]+$"},"type":["object","null"]}`,
			`{"additionalProperties":{"items":{"type":"boolean"},"type":["array","null"]},"propertyNames":{"pattern":"^[0-9]+$"},"type":"object"}`},
		{netip.Addr{}, `{"type":"string"}`, ""},
		{TrialLabel{}, `{"type":"string"}`, ""},
		{big.Int{}, `{}`, ""},
		{url.URL{}, "", ""},
		{json.RawMessage{}, `{}`, ""},
		{json.Number(""), `{"type":"number"}`, ""},
		{new(any), `{}`, ""},
		{struct{}{}, `{"properties":{},"type":"object"}`, ""},
		{&SchemaKin{}, `{"properties":{"of":{"type":"string"}},"type":["object","null"]}`, `{"properties":{"of":{"type":"string"}},"required":["of"],"type":["object","null"]}`},
		{map[string]TrialLabel{}, `{"additionalProperties":{"type":"string"},"type":["object","null"]}`, `{"additionalProperties":{"properties":{},"type":"object"},"type":"object"}`},
		{Loop{}, `{"$defs":{"Loop":{"items":{"anyOf":[{"$ref":"#/$defs/Loop"},{"type":"null"}]},"type":"array"}},"anyOf":[{"$ref":"#/$defs/Loop"},{"type":"null"}]}`,
			`{"$defs":{"Loop":{"items":{"anyOf":[{"$ref":"#/$defs/Loop"},{"type":"null"}]},"type":"array"}},"$ref":"#/$defs/Loop"}`},
		{Mutual{}, `{"$defs":{"Mutual":{"properties":{"other":{"properties":{"back":{"anyOf":[{"$ref":"#/$defs/Mutual"},{"type":"null"}]}},"type":["object","null"]}},"type":"object"}},"$ref":"#/$defs/Mutual"}`,
			`{"$defs":{"Mutual":{"properties":{"other":{"properties":{"back":{"anyOf":[{"$ref":"#/$defs/Mutual"},{"type":"null"}]}},"required":["back"],"type":["object","null"]}},"required":["other"],"type":"object"}},"$ref":"#/$defs/Mutual"}`},
		{struct{ A, B SchemaKin }{}, `{"properties":{"A":` + object + `,"B":` + object + `},"type":"object"}`, strings.ReplaceAll(`{"properties":{"A":`+object+`,"B":`+object+`},"required":["A","B"],"type":"object"}`, `}},"type"`, `}},"required":["of"],"type"`)},
		{make(chan int), `{}`, ""},
	}
	for _, test := range tests {
		for what, of := range map[string]struct {
			describe func(reflect.Type) schema
			want     string
		}{"an argument": {argumentSchema, test.argument}, "a result": {resultSchema, cmp.Or(test.result, test.argument)}} {
			got, err := json.Marshal(of.describe(reflect.TypeOf(test.v)))
			if err != nil || of.want != "" && string(got) != of.want {
				t.Errorf("the schema of %T as %s is %s, %v; want %s", test.v, what, got, err, of.want)
			}
		}
	}
	if got := resultSchema(nil); got["type"] != "null" {
		t.Errorf("the schema of no result is %v; want null", got)
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
		const form = "[age:=INTEGER] [door:='{...}'] [map:='{...}'] [name=TEXT] [raw=TEXT] [tags:='[...]']"
		if got := shapeOf(one[0].Argument).form(); got != form {
			t.Errorf("%s: Trial.Parcel takes %s; want %s", k.name, got, form)
		}
		for _, d := range all {
			if d.Method == "Trial.Unencodable" && d.Argument != nil {
				t.Errorf("%s: Trial.Unencodable takes %v; want nothing", k.name, d.Argument)
			}
		}
		f := checkCode(t, k.name+": Describe(Trail)", ask(c, "Ipcd.Describe", "Trail", &one), codeNoMethod, "no service or method Trail")
		if k.data && (f.data().Near != "Trial") {
			t.Errorf("%s: the nearest of Trail is %+v; want Trial", k.name, f.Data)
		}
		c.close()
	}
}
