package main

// This file owns the headers of HTTP by themselves; requests as a whole are for FuzzSession.

import (
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// FuzzHeaders: whatever is in a header, what is made of it is within bounds, and no host is taken for this machine that is not.
func FuzzHeaders(f *testing.F) {
	for _, text := range []string{
		"", "5", "1.5s", "-1", "1e9", "9999999h", "NaN", "0x1p-2s", "application/json", "text/event-stream;q=0.5, */*;q=0", "a;q=1;Q=0,,b;q=x, a", "application/x-ndjson ; q = 0.1",
		"Bearer ipcd_x", "bearer  x ", "Bearer", "Basic eDp5", "localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "::1", "127.0.0.1.evil.example", "[::ffff:127.0.0.1]", "localhost.", "localhost:80:80", "[localhost]", "0x7f.1", "2130706433", "::1%lo",
	} {
		f.Add(text, text)
	}
	f.Fuzz(around(func(t *testing.T, text, more string) {
		if d, wrong := parseTimeout(text); (d < 0 || d == 0 && text != "") && wrong == nil || wrong != nil && len(wrong.Text) > 300 {
			t.Errorf("a timeout of %q is %v, %v", text, d, wrong)
		}
		r := &http.Request{Header: http.Header{"Accept": {text, more}, "Authorization": {text}}}
		types := accepted(r)
		for i, one := range types {
			if slices.Contains(types[:i], one) || strings.ContainsAny(one, ";,") || one != strings.ToLower(strings.TrimSpace(one)) {
				t.Errorf("of %q and %q these types are accepted: %q", text, more, types)
			}
		}
		if token, shown := tokenIn(r); shown && (len(text) < len("bearer") || !strings.EqualFold(text[:len("bearer")], "bearer") || !strings.HasSuffix(strings.TrimSpace(text), token)) {
			t.Errorf("%q shows the token %q", text, token)
		}
		if isLoopbackHost(text) {
			host, _, err := net.SplitHostPort(text)
			if err != nil {
				host = text
			}
			ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
			if !(err == nil && ip.IsLoopback()) && strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")) != "localhost" {
				t.Errorf("%q is taken for this machine", text)
			}
		}
	}))
}

// FuzzFraming: in whatever pieces a Content-Length comes, it is seen, and nothing else is.
func FuzzFraming(f *testing.F) {
	for _, text := range []string{"Content-Length: 1\r\n", "CONTENT-length", "content-content-length", "x-y-content-lengt-h", "", "-", "content-", "-length"} {
		f.Add([]byte(text), []byte{1, 2, 7, 13, 14})
	}
	f.Fuzz(around(func(t *testing.T, text, pieces []byte) {
		want := bytes.Contains(bytes.ToLower(toASCII(text)), []byte("content-length"))
		var w framingWatch
		for rest := text; len(rest) > 0; {
			n := len(rest)
			if len(pieces) > 0 {
				n, pieces = min(n, int(pieces[0])), pieces[1:]
			}
			w.look(rest[:n])
			rest = rest[n:]
		}
		if w.length.Load() != want {
			t.Errorf("that %q has a length is %t; want %t", text, !want, want)
		}
	}))
}

// toASCII replaces what bytes.ToLower and bytes.EqualFold know of other scripts, as the Kelvin sign, which net/http does not.
func toASCII(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, text)
}
