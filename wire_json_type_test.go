package main

// This file owns how Go types look as JSON: the members of a struct must be those that encoding/json writes.

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"
)

// Types that are embedded, with names that meet.
type (
	fieldsA struct {
		Same  int
		Upper int `json:"upper"`
		Mine  int `json:"mine"`
	}
	fieldsB struct {
		Same  int
		Upper int
		Mine  int
	}
	fieldsDeep struct{ *fieldsA }
	fieldsText string
)

// FieldsText is embedded and no struct.
type FieldsText string

func TestMembersAreThoseOfEncodingJSON(t *testing.T) {
	a := fieldsA{1, 2, 3}
	for _, v := range []any{
		struct {
			fieldsA
			fieldsB
		}{},
		struct {
			fieldsA
			Other fieldsB
			Mine  int
		}{},
		struct {
			fieldsA
			fieldsDeep
		}{a, fieldsDeep{&a}},
		struct {
			fieldsDeep
			Deep struct{ fieldsDeep }
		}{fieldsDeep{&a}, struct{ fieldsDeep }{fieldsDeep{&a}}},
		struct {
			X struct{ fieldsA }
			Y *fieldsA `json:"upper"`
			fieldsB
		}{},
		struct {
			fieldsText
			FieldsText
			Named fieldsText `json:",omitempty"`
		}{"a", "b", "c"},
		struct {
			One int `json:"a/b.c-d"`
			//lint:ignore SA5008 encoding/json leaves out such a name
			Two int `json:"a\"b"`
			//lint:ignore SA5008 and this one it takes
			Three int       `json:"-,"`
			Four  int       `json:"-"`
			Five  time.Time `json:"ä,omitzero"`
			six   int
		}{Five: time.Now(), six: 6},
	} {
		text, err := json.Marshal(v)
		var written map[string]any
		if err == nil {
			err = json.Unmarshal(text, &written)
		}
		if err != nil {
			t.Fatal(err)
		}
		var members []string
		for _, f := range jsonFields(reflect.TypeOf(v)) {
			members = append(members, f.name)
		}
		if want := slices.Sorted(maps.Keys(written)); !slices.Equal(members, want) {
			t.Errorf("the members of %T are %q; encoding/json writes %q", v, members, want)
		}
	}
}

// What a value of type any gets keeps the number.
func TestNumbersInAny(t *testing.T) {
	type holder struct {
		fieldsHeld
		Any  any
		List []any
		Maps map[string]struct{ Any any }
		To   *any
		Own  json.Number
		any  any
	}
	var h holder
	const number = "9007199254740993"
	text := `{"Held":` + number + `,"Any":{"a":[` + number + `]},"List":[` + number + `],"Maps":{"a":{"Any":` + number + `}},"To":` + number + `,"Own":` + number + `,"any":1}`
	if err := decodeBody([]byte(text), &h); err != nil {
		t.Fatal(err)
	}
	n, to := int64(9007199254740993), any(int64(9007199254740993))
	want := holder{fieldsHeld{n}, map[string]any{"a": []any{n}}, []any{n}, map[string]struct{ Any any }{"a": {n}}, &to, number, nil}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("%s is %+v; want %+v", text, h, want)
	}
	for text, want := range map[string]any{
		`1`: 1.0, `-0`: 0.0, `1.0`: 1.0, `1e2`: 100.0, `9007199254740992`: 9007199254740992.0, `18446744073709551615`: uint64(18446744073709551615),
		`-9223372036854775808`: int64(-9223372036854775808), `18446744073709551617`: json.Number("18446744073709551617"), `0.1`: 0.1, `true`: true, `null`: nil, `"1"`: "1",
	} {
		var got any
		if err := decodeBody([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %#v, %v; want %#v", text, got, err, want)
		}
	}
	var got any
	checkCode(t, "1e400", decodeBody([]byte("[1e400]"), &got), codeBadArgument, "a number 1e400; expected a number")
}

type fieldsHeld struct{ Held any }
