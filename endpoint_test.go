package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestEndpointPrintsWhatWasParsed(t *testing.T) {
	tests := []struct {
		text string
		want endpoint
	}{
		{"unix:///run/ipcd/ipcd.sock", endpoint{Scheme: "unix", Path: "/run/ipcd/ipcd.sock"}},
		{"unix:///tmp/with a space/sö.sock", endpoint{Scheme: "unix", Path: "/tmp/with a space/sö.sock"}},
		{"unix:///tmp/100%25%3F%23.sock", endpoint{Scheme: "unix", Path: "/tmp/100%?#.sock"}},
		{"unix:///tmp/unix.sock?dir=shared", endpoint{Scheme: "unix", Path: "/tmp/unix.sock", Shared: true}},
		{"unix:///a/b?proto=echo&dir=shared", endpoint{Scheme: "unix", Path: "/a/b", Proto: protoEcho, Shared: true}},
		{"npipe:////./pipe/ipcd", endpoint{Scheme: "npipe", Path: `\\.\pipe\ipcd`}},
		{"npipe:////./pipe/a/b", endpoint{Scheme: "npipe", Path: `\\.\pipe\a\b`}},
		{"tcp://127.0.0.1:8888", endpoint{Scheme: "tcp", Host: "127.0.0.1:8888"}},
		{"tcp://[::1]:0?auth=none", endpoint{Scheme: "tcp", Host: "[::1]:0", NoAuth: true}},
		{"tcp://localhost:8888?proto=gob", endpoint{Scheme: "tcp", Host: "localhost:8888", Proto: protoGob}},
		{"tls://example.com:8888", endpoint{Scheme: "tls", Host: "example.com:8888"}},
		{"http://127.0.0.1:8080", endpoint{Scheme: "http", Host: "127.0.0.1:8080"}},
		{"https://127.0.0.1:8443", endpoint{Scheme: "https", Host: "127.0.0.1:8443"}},
		{"fork:node greeter.js", endpoint{Scheme: "fork", Command: []string{"node", "greeter.js"}}},
		{`fork:node 'a b.js' "c\"d" e\'f`, endpoint{Scheme: "fork", Command: []string{"node", "a b.js", `c"d`, "e'f"}}},
		{`fork:C:\node\node.exe x`, endpoint{Scheme: "fork", Command: []string{`C:\node\node.exe`, "x"}}},
		{"fork:node 'what?' ?proto=jsonrpc", endpoint{Scheme: "fork", Command: []string{"node", "what?"}, Proto: protoJSON}},
	}
	for _, test := range tests {
		got, err := parseEndpoint(test.text)
		if err != nil {
			t.Errorf("parseEndpoint(%q): %v", test.text, err)
			continue
		}
		if got.String() != test.text {
			t.Errorf("%q prints as %q", test.text, got)
		}
		if test.want.Proto == "" {
			test.want.Proto = protoAuto
		}
		got.text = ""
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("parseEndpoint(%q) = %+v; want %+v", test.text, got, test.want)
		}
		again, err := parseEndpoint(got.String()) // without the text: printed from its parts
		again.text = ""
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q, printed from its parts as %q, is read as %+v, %v", test.text, got, again, err)
		}
	}
}

func TestEndpointRefusesAndSaysWhatToType(t *testing.T) {
	tests := []struct{ text, want, hint string }{
		{"", "is empty", "unix:///run/ipcd/ipcd.sock"},
		{"hello", "has no scheme", "unix:///"},
		{"/tmp/x.sock", "has no scheme", "write unix:///tmp/x.sock"},
		{"127.0.0.1:8888", "has no scheme", "write tcp://127.0.0.1:8888"},
		{`\\.\pipe\ipcd`, "has no scheme", "write npipe:////./pipe/ipcd"},
		{"unx:///a/b", `unknown scheme "unx"`, "did you mean unix:///a/b?"},
		{"gopher://a", `unknown scheme "gopher"`, "the schemes are unix, npipe"},
		{"unix:x.sock", "is relative", "write unix:///"},
		{"unix://x.sock?proto=gob", "is relative", "x.sock?proto=gob"},
		{"unix:/a/b", "lacks two slashes", "write unix:///a/b"},
		{"unix:///a/", "names a directory", "unix:///a/ipcd.sock"},
		{"unix:///", "names a directory", "unix:///ipcd.sock"},
		{"unix:@x", "abstract", "in the file system"},
		{"unix:///%00x", "abstract", "in the file system"},
		{"unix:///a%00b", "zero byte", "%00"},
		{"unix:///a%zz", "", "%25"},
		{"unix:///a#b", "has a #", "unix:///a%23b"},
		{"unix:///a\nb", "control character", "%XX"},
		{"unix:///a\xff", "not UTF-8", "%XX"},
		{"unix:///a?auth=none", "cannot say auth=none", "leave out auth=none"},
		{"unix:///a?proto=gbo", `"gbo"`, "did you mean proto=gob?"},
		{"unix:///a?proto=gob&proto=gob", "says proto= twice", "once"},
		{"unix:///a?prto=gob", "prto", "proto"},
		{"npipe://ipcd", "does not name a pipe", "npipe:////./pipe/ipcd"},
		{"npipe:////server/pipe/x", "another machine", "npipe:////./pipe/x"},
		{"npipe:////./pipe/a:b", "may not have", "npipe:////./pipe/ipcd"},
		{"tcp://127.0.0.1", "has no port", "tcp://127.0.0.1:8888"},
		{"tcp://:8888", "names no host", "tcp://127.0.0.1:8888"},
		{"tcp://::1:88:", "no port", "tcp://"},
		{"tcp://::1", "no brackets", "tcp://[::1]:8888"},
		{"tcp://127.0.0.1:99999", "no number from 0 to 65535", "8888"},
		{"tcp://a@b:1", "user name", "tcp://b:1"},
		{"http://127.0.0.1:80/rpc", "path behind its port", "http://127.0.0.1:80"},
		{"http://127.0.0.1:80?auth=all", `unknown auth "all"`, "auth=none"},
		{"tcp://127.0.0.1:80?dir=shared", "dir=shared", ""},
		{"fork:", "names no program", "fork:node greeter.js"},
		{"fork:node 'x", "", "close the quote"},
	}
	for _, test := range tests {
		_, err := parseEndpoint(test.text)
		var f *fault
		if !errors.As(err, &f) || f.Code != codeUsage {
			t.Errorf("parseEndpoint(%q) = %v; want a usage fault", test.text, err)
			continue
		}
		if !strings.Contains(f.Text, test.want) || !strings.Contains(f.hint, test.hint) {
			t.Errorf("parseEndpoint(%q) says %q, hint %q; want %q and %q", test.text, f.Text, f.hint, test.want, test.hint)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{"unix:///a b?proto=echo&dir=shared", "npipe:////./pipe/a/b", "tcp://[fe80::1%25eth0]:1?auth=none", `fork:node 'a' "b" \' ?proto=gob`, "http://A.b:00080/", "unix:@x", "unix:///%C3%A4%00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEndpoint(text)
		if err != nil {
			return
		}
		if e.String() != text {
			t.Fatalf("%q prints as %q", text, e)
		}
		e.text = ""
		again, err := parseEndpoint(e.String())
		if err != nil {
			t.Fatalf("%q, printed from its parts as %q: %v", text, e, err)
		}
		again.text = ""
		if !reflect.DeepEqual(again, e) {
			t.Fatalf("%q is %+v; printed as %q it is %+v", text, e, e, again)
		}
	})
}
