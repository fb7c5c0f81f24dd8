//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestWayToSeesEveryPlace wants all directories and links on the way to a path, in the order in which the
// kernel meets them.
func TestWayToSeesEveryPlace(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.MkdirAll(top+"/a/b", 0o755))
	must(t, os.WriteFile(top+"/a/b/file", nil, 0o644))
	for link, to := range map[string]string{"absolute": top + "/a", "relative": "a/b/../b", "a/up": "../absolute", "root": "/", "circle": "circle", "nothing": "nowhere/at/all"} {
		must(t, os.Symlink(to, filepath.Join(top, link)))
	}
	for _, test := range []struct {
		path string
		want []string // below top, after the way to it
		err  error
	}{
		{path: "/a/b/file", want: []string{"/a", "/a/b", "/a/b/file"}},
		{path: "/a/./b//", want: []string{"/a", "/a/b"}},
		{path: "/absolute/b", want: []string{"/absolute", "...", "/a", "/a/b"}},
		{path: "/relative/file", want: []string{"/relative", "/a", "/a/b", "/a", "/a/b", "/a/b/file"}},
		{path: "/a/up/b", want: []string{"/a", "/a/up", "", "/absolute", "...", "/a", "/a/b"}},
		{path: "/nothing/new", want: []string{"/nothing"}, err: fs.ErrNotExist},
		{path: "/a/b/file/below", want: []string{"/a", "/a/b", "/a/b/file"}, err: syscall.ENOTDIR},
	} {
		var way, want []string
		for at := top; ; at = filepath.Dir(at) {
			way = append(way, at)
			if at == "/" {
				break
			}
		}
		slices.Reverse(way)
		want = slices.Clone(way)
		for _, at := range test.want {
			if at == "..." { // an absolute link begins at / again
				want = append(want, way[1:]...)
			} else {
				want = append(want, top+at)
			}
		}
		var got []string
		var last error
		ended := false
		for p, err := range wayTo(top + test.path) {
			if err != nil {
				last = err
				continue
			}
			got = append(got, p.path)
			ended = p.end
		}
		if !slices.Equal(got, want) || !errors.Is(last, test.err) || ended != (test.err == nil) {
			t.Errorf("the way to %s:\n%v, error %v\nwant\n%v, error %v", test.path, got, last, want, test.err)
		}
	}
	for p, err := range wayTo(top + "/root") {
		if p.end && p.path != "/" || err != nil {
			t.Errorf("a link to / leads to %s, %v", p.path, err)
		}
	}
	var last error
	for _, err := range wayTo(top + "/circle") {
		last = err
	}
	if !errors.Is(last, syscall.ELOOP) {
		t.Errorf("a link to itself: %v; want %v", last, syscall.ELOOP)
	}
}

// Tokens that others could have written, or can read, are not taken.
func TestTokensOfOthersAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		spoil      func(s *tokenStore) error
		want, hint string
	}{
		"others can read them":    {func(s *tokenStore) error { return os.Chmod(s.path, 0o644) }, "others can get at", "chmod 600"},
		"a group can write":       {func(s *tokenStore) error { return os.Chmod(s.path, 0o660) }, "others can ", "chmod "},
		"others can write them":   {func(s *tokenStore) error { return os.Chmod(s.path, 0o602) }, "others can write to", "chmod go-w"},
		"others can replace them": {func(s *tokenStore) error { return os.Chmod(filepath.Dir(s.path), 0o777) }, "others can write to", "chmod go-w"},
		"it is a directory":       {func(s *tokenStore) error { os.Remove(s.path); return os.Mkdir(s.path, 0o700) }, "is no file", "remove it"},
	} {
		s := tempTokens(t)
		text := makeToken(t, s, "ci", nil)
		must(t, test.spoil(s))
		_, f, cause := (&tokenStore{path: s.path}).find(text)
		if f == nil || f.Text != errUnreadTokens.Text {
			t.Errorf("%s: whoever shows the token is told %v", name, f)
		}
		checkRefused(t, name, cause, test.want, test.hint)
	}
}
