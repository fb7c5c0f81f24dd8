package main

// This file owns the cases of the file of tokens: what it takes, what it refuses, and that a daemon sees what becomes of it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tempTokens returns a store in a directory of the test's own.
func tempTokens(t testing.TB) *tokenStore {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	must(t, os.Mkdir(dir, 0o700))
	return &tokenStore{path: filepath.Join(dir, tokenFile)}
}

// makeToken adds a token to a store and returns its text.
func makeToken(t testing.TB, s *tokenStore, name string, set func(e *tokenEntry)) string {
	t.Helper()
	e, text := newToken(name)
	if set != nil {
		set(&e)
	}
	must(t, s.change(t.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) { return append(tokens, e), nil }))
	return text
}

// dropTokens empties a store.
func dropTokens(t testing.TB, s *tokenStore) {
	t.Helper()
	must(t, s.change(t.Context(), func([]tokenEntry) ([]tokenEntry, error) { return nil, nil }))
}

func TestTokensAreFound(t *testing.T) {
	s := tempTokens(t)
	if b, f, cause := s.find("ipcd_x"); b != nil || f == nil || f.Code != codeUnproven {
		t.Errorf("without a file: %v, %v, %v; want -32008", b, f, cause)
	}
	ci := makeToken(t, s, "ci", func(e *tokenEntry) { e.Scope = []string{"Greeter.*"} })
	old := makeToken(t, s, "old", func(e *tokenEntry) { e.Expires = time.Now().Add(-time.Second) })
	later := makeToken(t, s, "later", func(e *tokenEntry) { e.Expires = time.Now().Add(time.Hour) })
	for text, want := range map[string]string{
		ci: "", later: "",
		old:                       "the token old has expired, at 2",
		"":                        "not one of this daemon's",
		ci[:len(ci)-1]:            "not one of this daemon's",
		ci + "x":                  "not one of this daemon's",
		strings.ToUpper(ci):       "not one of this daemon's",
		strings.Repeat("x", 1000): "not one of this daemon's",
		hashOfToken(ci):           "not one of this daemon's", // what the file has is no token
	} {
		b, f, cause := s.find(text)
		switch {
		case want == "" && (f != nil || cause != nil || b.void() != nil):
			t.Errorf("find of a good token: %v, %v", f, cause)
		case want != "" && (b != nil || f == nil || f.Code != codeUnproven || !strings.Contains(f.Text, want)):
			t.Errorf("find(%q) = %v, %v; want %q", text, b, f, want)
		case f != nil && text != "" && strings.Contains(f.Text, text):
			t.Errorf("find(%q) says what it was given: %v", text, f)
		}
	}
	b, _, _ := s.find(ci)
	for _, test := range []struct {
		need right
		what string
		want bool
	}{{rightCall, "Greeter.Hello", true}, {rightCall, "Clock.Now", false}, {rightSubscribe, "build.done", false}, {rightAdmin, "", false}} {
		if got := b.isFor(test.need, test.what); got != test.want {
			t.Errorf("a token for Greeter.* is for %s %s: %v; want %v", rights[test.need].key, test.what, got, test.want)
		}
	}
	text, err := os.ReadFile(s.path)
	must(t, err)
	if strings.Contains(string(text), strings.TrimPrefix(ci, tokenPrefix)) {
		t.Errorf("the file has the token itself:\n%s", text)
	}
}

// A daemon that has taken a token sees that it is removed, made anew, or over.
func TestTokensEnd(t *testing.T) {
	s := tempTokens(t)
	text := makeToken(t, s, "ci", nil)
	daemon := &tokenStore{path: s.path}
	b, f, _ := daemon.find(text)
	if f != nil || b.void() != nil {
		t.Fatalf("find = %v", f)
	}
	voidBy := func(words string) {
		t.Helper()
		waitFor(t, func() error {
			if f := b.void(); f == nil || f.Code != codeUnproven || !strings.Contains(f.Text, words) {
				return fmt.Errorf("the token is void by %v; want %q", f, words)
			}
			return nil
		})
	}
	dropTokens(t, s)
	voidBy("the token ci was removed")
	again := makeToken(t, s, "ci", nil)
	if _, f, _ := daemon.find(text); f == nil {
		t.Error("the old token counts again, since there is one of its name")
	}
	voidBy("the token ci was removed")
	b, f, _ = daemon.find(again)
	if f != nil {
		t.Fatal(f)
	}
	must(t, s.change(t.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) {
		tokens[0].Expires = time.Now().Add(-time.Second)
		return tokens, nil
	}))
	voidBy("the token ci has expired")
	must(t, os.WriteFile(s.path, []byte("{"), 0o600))
	voidBy("cannot read its tokens")
	must(t, os.Remove(s.path))
	voidBy("the token ci was removed")
}

func TestTokenFilesThatAreWrong(t *testing.T) {
	hash := hashOfToken("x")
	for name, test := range map[string]struct{ text, want string }{
		"cut off":          {`{"tokens":[`, "unexpected EOF"},
		"not JSON":         {"tokens", "invalid character"},
		"another's":        {`{"keys":[]}`, `unknown field "keys"`},
		"something behind": {`{"tokens":[]} x`, "something follows"},
		"a bad name":       {`{"tokens":[{"name":"CI","sha256":"` + hash + `"}]}`, `"CI" is no name`},
		"twice":            {`{"tokens":[{"name":"ci","sha256":"` + hash + `"},{"name":"ci","sha256":"` + hash + `"}]}`, "ci is there twice"},
		"no hash":          {`{"tokens":[{"name":"ci","sha256":""}]}`, "the hash of ci is none"},
		"a short hash":     {`{"tokens":[{"name":"ci","sha256":"00ff"}]}`, "the hash of ci is none"},
		"a bad scope":      {`{"tokens":[{"name":"ci","sha256":"` + hash + `","scope":["x"]}]}`, "the scope of ci"},
		"too large":        {strings.Repeat(" ", maxTokenFile+1), "larger than"},
	} {
		s := tempTokens(t)
		must(t, os.WriteFile(s.path, []byte(test.text), 0o600))
		_, f, cause := s.find("x")
		if !errors.Is(f, errUnreadTokens) || f.Text != errUnreadTokens.Text {
			t.Errorf("%s: whoever shows a token is told %v; want %v", name, f, errUnreadTokens)
		}
		checkRefused(t, name, cause, test.want, "make new tokens")
		if err := s.change(t.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) { return tokens, nil }); err == nil {
			t.Errorf("%s: the file was written over", name)
		}
		if entries, err := os.ReadDir(filepath.Dir(s.path)); err != nil || len(entries) != 1 {
			t.Errorf("%s: a change that failed has left %v, %v", name, entries, err)
		}
	}
	s := tempTokens(t)
	must(t, os.Mkdir(s.path, 0o700))
	if _, _, cause := s.find("x"); cause == nil {
		t.Error("a directory was taken for a file of tokens")
	}
}

// Commands that change the file at the same time lose nothing of each other's.
func TestTokensAreMadeAtTheSameTime(t *testing.T) {
	s := tempTokens(t)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			mine := &tokenStore{path: s.path}
			e, _ := newToken(fmt.Sprintf("t%d", i))
			if err := mine.change(t.Context(), func(tokens []tokenEntry) ([]tokenEntry, error) { return append(tokens, e), nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if tokens, err := s.list(false); err != nil || len(tokens) != 6 {
		t.Errorf("there are %d tokens, %v; want 6", len(tokens), err)
	}
}

// FuzzTokens: what is taken for a file of tokens is what the daemon would have written, and so names each of them once.
func FuzzTokens(f *testing.F) {
	hash := hashOfToken("ipcd_x")
	for _, text := range []string{
		`{"tokens":[]}`, `{}`, `null`, `{"tokens":null}`, `{"tokens":[{"name":"a","sha256":"` + hash + `","created":"2026-11-29T10:00:00Z"}]}`,
		`{"tokens":[{"name":"a","sha256":"` + strings.ToUpper(hash) + `","expires":"2027-01-01T00:00:00+02:00","scope":["Echo.*","Ipcd.Publish"]},{"name":"a"}]}`,
		`{"tokens":[{"name":"../a","sha256":"` + hash + `"}]}`, `{"Tokens":[{"NAME":"a","sha256":"00"}],"x":1}`, `{"tokens":[]}{"tokens":[]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(around(func(t *testing.T, text []byte) {
		tokens, err := parseTokens(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(map[string]any{"tokens": tokens})
		must(t, err)
		same, err := parseTokens(again)
		if err != nil || len(same) != len(tokens) {
			t.Fatalf("%q is read as %q, and that as %v, %v", text, again, same, err)
		}
		names := map[string]bool{}
		for i, e := range tokens {
			if names[e.Name] || !isInstanceName(e.Name) || len(e.Hash) != len(hash) || strings.ToLower(e.Hash) != e.Hash ||
				same[i].Hash != e.Hash || !same[i].Expires.Equal(e.Expires) || !slices.Equal(same[i].Scope, e.Scope) {
				t.Errorf("%q has the token %+v, which is read again as %+v", text, e, same[i])
			}
			names[e.Name] = true
		}
	}))
}
