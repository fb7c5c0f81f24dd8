package main

// This file owns what rules are made of. access_unix_test.go has the cases of what they decide, and e2e_access_linux_test.go has
// them asked by real peers.

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// theOwner is a caller that may all.
var theOwner = &peer{owns: true}

// holderOf is a caller that has shown a token of that name and scope.
func holderOf(name string, scope ...string) peer {
	return peer{Transport: "tcp", UID: -1, GID: -1, proof: proofOf(&bearer{name: name, scope: scope, void: func() *fault { return nil }})}
}

// settingsOf returns the settings of a configuration file.
func settingsOf(t testing.TB, text string) *settings {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.toml") // the test stays where it is: its corpus is there, if it has one
	must(t, os.WriteFile(file, []byte(text), 0o600))
	set, from, err := loadSettings(file, true, noEnv, nil)
	must(t, err)
	must(t, set.resolve(from))
	return &set
}

// policyFrom returns the policy of one.
func policyFrom(t testing.TB, text string) *policy {
	t.Helper()
	return &settingsOf(t, text).policy
}

func TestRulesOpenEndpointsToThoseTheyName(t *testing.T) {
	t.Chdir(t.TempDir())
	const box, other = "unix:/run/box.sock", "unix:/run/other.sock"
	for _, test := range []struct {
		rule       string
		box, other audience
	}{
		{"", audience{}, audience{}},
		{"[[rule]]\nallow = [\"local\"]\ncall = [\"*\"]\n", audience{all: true}, audience{all: true}},
		{"[[rule]]\nallow = [\"group:64317\"]\non = [\"unix:///run/box.sock\"]\ncall = [\"*\"]\n", audience{all: true}, audience{}},
		{"[[rule]]\ndeny = [\"group:64317\"]\n", audience{}, audience{}},
		{"[[rule]]\nallow = [\"worker:greeter\"]\ncall = [\"Clock.*\"]\n", audience{}, audience{}},
		{"allow_group = \"64317\"\n[[rule]]\nallow = [\"group:64317\"]\npublish = [\"build.>\"]\n", audience{group: group{"64317", "64317"}}, audience{group: group{"64317", "64317"}}},
	} {
		if strings.Contains(test.rule, "group:") && localScheme != "unix" {
			continue // no such groups
		}
		pol := policyFrom(t, test.rule)
		if gotBox, gotOther := pol.audienceOf(box), pol.audienceOf(other); gotBox != test.box || gotOther != test.other {
			t.Errorf("%q opens one endpoint to %v and another to %v; want %v and %v", test.rule, gotBox, gotOther, test.box, test.other)
		}
	}
}

func TestOverlappingTopics(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a.b", false}, {"a.*", "*.b", true}, {"a.*", "b.>", false}, {"a.>", "a", false},
		{">", "a.b.c", true}, {"a.*.c", "a.b.*", true}, {"a.*.c", "a.b.d", false}, {"*", "a.b", false}, {"a.b.>", "a.>", true},
	} {
		if overlap(test.a, test.b) != test.want || overlap(test.b, test.a) != test.want {
			t.Errorf("%s and %s overlap: %v; want %v", test.a, test.b, !test.want, test.want)
		}
	}
}

func TestEveryRightIsSettable(t *testing.T) {
	for i := range rights {
		if !slices.ContainsFunc(ruleTable, func(s setting) bool { return s.key == rights[i].key && s.doc == rights[i].doc }) {
			t.Errorf("a [[rule]] has no key %s", rights[i].key)
		}
	}
}

// A certificate, and a rule, names somebody by what can be seen.
func TestNamesOfCertificatesCanBeSeen(t *testing.T) {
	for _, name := range []string{"ada", "Ada Lovelace", "Ädä", "אדה", "例え", "O'Neill, Ada", "ada@example.com", strings.Repeat("x", maxCertName)} {
		if f := checkCertName(name); f != nil {
			t.Errorf("%q: %v", name, f)
		}
	}
	for _, r := range "\x00\n\x1b\x7f\u0085\u00a0\u00ad\u034f\u061c\u115f\u17b4\u180e\u2003\u200b\u200c\u200d\u200e\u200f\u2028\u202a\u202e\u2060\u2063\u2066\u2069\u2800\u3000\u3164\ufe0f\ufeff\uffa0\ufffe\ue000\U000e0061\U000e0100" {
		for _, name := range []string{"a" + string(r) + "da", "ada" + string(r)} {
			f := checkCertName(name)
			if f == nil || strings.ContainsFunc(f.Text, func(r rune) bool { return r > 0x7e || r < 0x20 }) {
				t.Errorf("%+q: %v", name, f)
			}
			if _, err := parsePerson("cert:" + name); err == nil {
				t.Errorf("a rule can name %+q", name)
			}
		}
	}
	if f := checkCertName("a\xffda"); f == nil {
		t.Error("what is no text is a name")
	}
}
