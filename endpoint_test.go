package main

// This file owns which endpoints are taken, how they print, and what the others are told to type instead.

import (
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
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
		{"unix:///a?owner=ada", endpoint{Scheme: "unix", Path: "/a", Owner: "ada"}},
		{"npipe:////./pipe/a?owner=BOX%5Cada%26co", endpoint{Scheme: "npipe", Path: `\\.\pipe\a`, Owner: `BOX\ada&co`}},
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

// hintHere is the hint that this system gives where the one that serves the endpoint gives hint: it names
// no endpoint that would be refused as well.
func hintHere(hint string) string {
	for _, scheme := range []string{"unix", "npipe"} {
		if scheme != localScheme && strings.Contains(hint, scheme+":") {
			return "use a " + localPlace + ", such as " + exampleEndpoint
		}
	}
	return hint
}

var shownEndpoint = regexp.MustCompile(`\b(?:unix|npipe|tcp|tls|https?|fork):[^\s;,"]+`)

// checkShown wants the endpoints that a hint shows to be taken and served here.
func checkShown(t *testing.T, text, hint string) {
	t.Helper()
	for _, shown := range shownEndpoint.FindAllString(hint, -1) {
		if strings.HasPrefix(shown, "fork:") { // has blanks, and ends with the hint
			_, shown, _ = strings.Cut(hint, "fork:")
			shown = "fork:" + strings.TrimRight(shown, `?"`)
		}
		e, err := parseEndpoint(strings.TrimSuffix(shown, "?"))
		if err != nil {
			t.Errorf("the hint for %q is %q, which is refused: %v", text, hint, err)
			continue
		}
		if served := e.Scheme == localScheme || slices.Contains([]string{"tcp", "tls", "http", "https", "fork"}, e.Scheme); !served {
			t.Errorf("the hint for %q is %q; %s: is not served on this system", text, hint, e.Scheme)
		}
	}
}

// Whatever is typed, a hint shows no endpoint that is refused here.
func TestEndpointHintsShowWhatThisSystemServes(t *testing.T) {
	for _, text := range []string{
		"", "@x", "hello", "/", "//", "./", "../x", "/tmp/x.sock", "/a/b/", "/tmp/a b?proto=gob", "./a:b", "x%00y", `C:\ipcd`,
		`\\.\pipe\ipcd`, `\\.\PIPE\a\b`, `\\.\pipe\`, `\\.\pipe\a:b`, `\\.\pipe\a%2fb`,
		"unix:", "unix://", "unix:///", "unix:x", "unix:x.sock?proto=gob", "unix:/a/b", "unix:///a/", "unix:///a#b", "unix:@x", "unix:///%00", "uinx:///a", "unx:x",
		"npipe:", "npipe:ipcd", "npipe://ipcd", "npipe:////./pipe/", "npipe:////server/pipe/x", "npipe:////./pipe/a:b", "npipe:////./pipe/a#b", "npip:ipcd",
		"tcp:", "tcp://", "tcp://::1", "tcp://a@b:1", "tcp://a:b", "http://127.0.0.1:80/rpc", "https://a:1?proto=gob", "127.0.0.1:8888", "fork:", "forc:node a.js",
	} {
		if _, hint := hintOf(t, text); hint == "" {
			t.Errorf("%q is refused without a hint", text)
		} else {
			checkShown(t, text, hint)
		}
	}
}

func TestEndpointRefusesAndSaysWhatToType(t *testing.T) {
	tests := []struct{ text, want, hint string }{
		{"", "is empty", exampleEndpoint},
		{"hello", "has no scheme", localHint("hello")},
		{"/tmp/x.sock", "has no scheme", "write " + localHint("/tmp/x.sock")},
		{"127.0.0.1:8888", "has no scheme", "write tcp://127.0.0.1:8888"},
		{`\\.\pipe\ipcd`, "has no scheme", "write " + exampleEndpoint},
		{"unx:///a/b", `unknown scheme "unx"`, "did you mean unix:///a/b?"},
		{"gopher://a", `unknown scheme "gopher"`, "the schemes are unix, npipe"},
		{"unix:x.sock", "is relative", "write unix:///"},
		{"unix://tmp/x.sock?proto=gob", "is relative", "write unix:///tmp/x.sock?proto=gob, or for a path from here " + unixHint("tmp/x.sock") + "?proto=gob"},
		{"8888", "has no scheme and no host", "write tcp://127.0.0.1:8888"},
		{"unix://x.sock?proto=gob", "is relative", unixHint("x.sock") + "?proto=gob"},
		{"unix:/a/b", "lacks two slashes", "write unix:///a/b"},
		{"unix:///a/", "names a directory", "unix:///a/ipcd.sock"},
		{"unix:///", "names a directory", "unix:///ipcd.sock"},
		{"unix:@x", "abstract", "name a " + localPlace + ", such as " + exampleEndpoint},
		{"unix:///%00x", "abstract", "name a " + localPlace + ", such as " + exampleEndpoint},
		{"unix:///a%00b", "zero byte", "%00"},
		{"unix:///a%zz", "", "%25"},
		{"unix:///a#b", "has a #", "unix:///a%23b"},
		{"unix:///a\nb", "control character", "%XX"},
		{"unix:///a\xff", "not UTF-8", "%XX"},
		{"unix:///a?auth=none", "cannot say auth=none, which is for tcp, tls, http and https: the kernel", "leave out auth=none"},
		{"npipe:////./pipe/a?auth=none", "cannot say auth=none, which is for tcp, tls, http and https: the kernel", "leave out auth=none"},
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
		{"tcp://127.0.0.1:80?dir=shared", "cannot say dir=shared, which is for unix", "leave out dir=shared"},
		{"npipe:////./pipe/a?dir=shared", "cannot say dir=shared, which is for unix", "leave out dir=shared"},
		{"tcp://127.0.0.1:80?owner=ada", "cannot say owner=, which is for unix and npipe", "leave out owner="},
		{"tls://127.0.0.1:80?owner=ada", "cannot say owner=, which is for unix and npipe", "leave out owner="},
		{"http://127.0.0.1:80?owner=ada", "cannot say owner=, which is for unix and npipe", "leave out owner="},
		{"https://127.0.0.1:80?owner=ada", "cannot say owner=, which is for unix and npipe", "leave out owner="},
		{"fork:node a.js?owner=ada", "cannot say owner=, which is for unix and npipe", "leave out owner="},
		{"fork:node a.js?proto=gob", "cannot speak gob", "leave out proto=gob"},
		{"fork:node a.js?proto=http", "cannot speak http", "leave out proto=http"},
		{"fork:node a.js?proto=echo", "cannot speak echo", "leave out proto=echo"},
		{"unix:///a?owner=", "does not name an owner", "owner=NAME"},
		{"unix:///a?owner", "does not name an owner", "owner=NAME"},
		{"unix:///a?owner=a%00", "does not name an owner", "owner=NAME"},
		{"unix:///a?owner=a&owner=b", "says owner= twice", "say it once"},
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
		if hint := hintHere(test.hint); !strings.Contains(f.Text, test.want) || !strings.Contains(f.hint, hint) {
			t.Errorf("parseEndpoint(%q) says %q, hint %q; want %q and %q", test.text, f.Text, f.hint, test.want, hint)
		}
	}
}

// hintOf is the whole message and hint of an endpoint that is refused.
func hintOf(t testing.TB, text string) (words, hint string) {
	t.Helper()
	_, err := parseEndpoint(text)
	var f *fault
	if !errors.As(err, &f) || f.Code != codeUsage {
		t.Fatalf("parseEndpoint(%q) = %v; want a usage fault", text, err)
	}
	return f.Text, f.hint
}

// Of a relative path the hint is the whole endpoint, ready to be typed.
func TestEndpointHintIsTheAbsolutePath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a dir #1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"unix:x.sock": "x.sock", "unix://x.sock": "x.sock", "unix:./x.sock": "x.sock", "./x.sock": "x.sock",
		"unix://../y%3F.sock": "../y?.sock", "unix://x.sock?proto=gob&dir=shared": "x.sock",
	} {
		_, hint := hintOf(t, text)
		if localScheme != "unix" { // where a path is no place to be at
			checkShown(t, text, hint)
			if !strings.Contains(hint, localScheme+"://") {
				t.Errorf("the hint for %q is %q; want it to show an endpoint of this system", text, hint)
			}
			continue
		}
		typed := strings.TrimPrefix(hint, "write ")
		e, err := parseEndpoint(typed)
		if err != nil {
			t.Errorf("the hint for %q is %q, which is refused: %v", text, hint, err)
			continue
		}
		if path := "/" + strings.TrimPrefix(filepath.ToSlash(filepath.Join(wd, want)), "/"); e.Path != path {
			t.Errorf("the hint for %q is %q; want one for %s", text, hint, path)
		}
		if _, query, _ := strings.Cut(text, "?"); !strings.HasSuffix(typed, query) {
			t.Errorf("the hint for %q is %q; want it to end in %q", text, hint, query)
		}
	}
}

// What a hint says to write is taken.
func TestEndpointHintsAreTaken(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8888":                          "tcp://127.0.0.1:8888",
		"[::1]:8888":                              "", // names a scheme that nobody has
		`\\.\pipe\a b`:                            localHint(`\\.\pipe\a b`),
		"unix:/a?dir=shared":                      "unix:///a?dir=shared",
		"npipe:ipcd?proto=gob":                    "npipe:////./pipe/ipcd?proto=gob",
		"npipe:////far/pipe/x?proto=gob":          "",
		"tcp:localhost:1?auth=none":               "tcp://localhost:1?auth=none",
		"tcp://localhost:?proto=gob":              "tcp://localhost:8888?proto=gob",
		"tcp://[::1]?proto=gob":                   "tcp://[::1]:8888?proto=gob",
		"tcp://localhost?proto=gob":               "tcp://localhost:8888?proto=gob",
		"tcp://::1":                               "tcp://[::1]:8888",
		"tcp://fe80::1:2:3:4:5:99999?proto=gob":   "tcp://[fe80::1:2:3:4:5]:99999?proto=gob",
		"http://localhost:80/a/b?auth=none":       "http://localhost:80?auth=none",
		"http://me:secret@localhost:80?auth=none": "http://localhost:80?auth=none",
		"http://localhost:80?proto=gob":           "tcp://localhost:80?proto=gob",
		"https://localhost:80?proto=jsonrpc":      "tls://localhost:80?proto=jsonrpc",
	} {
		_, hint := hintOf(t, text)
		if hint == "" {
			t.Errorf("%q is refused without a hint", text)
		}
		if typed := hintHere("write " + want); want != "" && hint != typed {
			t.Errorf("the hint for %q is %q; want %q", text, hint, typed)
		}
		if _, err := parseEndpoint(want); want != "" && err != nil && !strings.Contains(want, "99999") {
			t.Errorf("the hint for %q is refused: %v", text, err)
		}
	}
}

func TestEndpointNearestNames(t *testing.T) {
	tests := []struct{ text, words, hint string }{
		{"uinx:///a", `unknown scheme "uinx"`, "did you mean unix:///a?"},
		{"npip:////./pipe/a", `unknown scheme "npip"`, "did you mean npipe:////./pipe/a?"},
		{"htps://a:1", `unknown scheme "htps"`, "did you mean https://a:1?"},
		{"forc:node", `unknown scheme "forc"`, "did you mean fork:node?"},
		{"\u023e\u023e\u023e:1", "has no scheme", "write tcp://\u023e\u023e\u023e:1"}, // longer in lower case
		{"for\u212a:a", `unknown scheme "fork"`, "did you mean fork:a?"},              // a Kelvin sign
		{"xxxxxx:a", `unknown scheme "xxxxxx"`, "the schemes are unix, npipe, tcp, tls, http, https, fork"},
		{"unix:///a?proto=jsonrcp", `unknown proto "jsonrcp"`, "did you mean proto=jsonrpc?"},
		{"unix:///a?proto=xxxxxxx", `unknown proto "xxxxxxx"`, "the protocols are auto, gob, jsonrpc, http, echo"},
		{"unix:///a?proto=", `unknown proto ""`, "the protocols are auto"},
		{"unix:///a?proto=GOB", `unknown proto "GOB"`, "did you mean proto=gob?"},
		{"tcp://a:1?prot=gob", `unknown query key "prot"`, "did you mean proto=?"},
		{"tcp://a:1?oauth=none", `unknown query key "oauth"`, "did you mean auth=?"},
		{"unix:///a?xxxxxx", `unknown query key "xxxxxx"`, "the keys are proto=, auth=none, dir=shared and owner="},
		{"unix:///a?", "a ? or & with nothing behind it", "%3F"},
		{"unix:///a?proto=gob&", "a ? or & with nothing behind it", "leave it out"},
		{"unix:///a?=gob", `unknown query key ""`, "the keys are"},
		{"unix:///what?.sock", `unknown query key ".sock"`, "write a ? of the name as %3F"},
		{"tcp://a:1?auth=none&auth=none", "says auth= twice", "say it once"},
		{"tcp://a:1?proto=gob&auth=none&proto=http", "says proto= twice", "say it once"},
		{"unix:///a?dir=shared&dir=shared", "says dir= twice", "say it once"},
		{"unix:///a?dir=mine", `unknown dir "mine"`, "dir=shared"},
		{"fork:node a.js?x", `unknown query key "x"`, "quote it: '?'"},
		{"fork:node a.js ?proto=gbo", `unknown proto "gbo"`, "did you mean proto=gob?"},
		{"fork:node a.js ?auth=none", "cannot say auth=none, which is for tcp, tls, http and https: a client", "leave out auth=none"},
		{`fork:node "a`, `a " is not closed`, "close the quote"},
		{"fork:''", "names no program", "fork:node greeter.js"},
		{"fork: ?proto=gob", "names no program", "fork:node greeter.js"},
		{"npipe:////./pipe/" + strings.Repeat("x", 300), "at most 256 are allowed", "a shorter name"},
		{"npipe:////./pipe/a/../b", "may not have", "npipe:////./pipe/ipcd"},
		{"npipe:////./pipe/", "does not name a pipe", "npipe:////./pipe/ipcd"},
		{"tcp://[1.2.3.4]:1", "no IPv6 address in its brackets", "[::1]:1"},
		{"tcp://[::1:1", "no IPv6 address in its brackets", "[::1]:1"},
		{"tcp://[::1]", "has no port", "tcp://[::1]:8888"},
		{"tcp://a b:1", "no host name and no address", "tcp://127.0.0.1:1"},
		{"tcp://a:+1", "no number from 0 to 65535", "tcp://a:8888"},
		{"tcp://a:", "has no port", "tcp://a:8888"},
		{"tcp://", "names no host", "tcp://127.0.0.1:8888"},
		{"unix:///a%4", `"%4" is no percent-encoding`, "%25"},
		{"unix:///a?proto=%zz", `"%zz" is no percent-encoding`, "%25"},
	}
	for _, test := range tests {
		words, hint := hintOf(t, test.text)
		if want := hintHere(test.hint); !strings.Contains(words, test.words) || !strings.Contains(hint, want) {
			t.Errorf("parseEndpoint(%q) says %q, hint %q; want %q and %q", test.text, words, hint, test.words, want)
		}
	}
	if words, _ := hintOf(t, "unix:///"+strings.Repeat("x", maxEndpoint)); !strings.Contains(words, "at most 8192 are allowed") {
		t.Errorf("an endpoint that is too long: %q", words)
	}
}

// withProto is for tests: the program itself never speaks anything but what was asked for.
func (e endpoint) withProto(p proto) endpoint { return e.changed(func(c *endpoint) { c.Proto = p }) }

// A copy that was changed prints what it says, and the endpoint itself what was typed.
func TestEndpointPrintsItsFields(t *testing.T) {
	e := mustParse(t, "tcp://LOCALHOST:0?auth=none")
	if got := e.withHost("127.0.0.1:4711").String(); got != "tcp://127.0.0.1:4711?auth=none" {
		t.Errorf("with its real port it prints as %s", got)
	}
	if e.String() != "tcp://LOCALHOST:0?auth=none" {
		t.Errorf("after a copy of it was changed it prints as %s", e)
	}
	for text, want := range map[string]string{
		"UNIX:///a//b/../c%41":                     "unix:///a/cA",
		"unix:///a%20b%C3%A4":                      "unix:///a%20bä",
		"tcp://[0:0::1]:00080/?proto=auto":         "tcp://[::1]:80",
		"tcp://[fe80::1%25eth0]:1":                 "tcp://[fe80::1%25eth0]:1",
		"http://A.b:1?auth=none&proto=http":        "http://a.b:1?proto=http&auth=none",
		"unix:///a?owner=a%26b%25c&proto=gob":      "unix:///a?proto=gob&owner=a%26b%25c",
		"unix:///a?dir=shared&proto=%67ob":         "unix:///a?proto=gob&dir=shared",
		`fork:"node"  a\ b '' "\\" ?proto=jsonrpc`: `fork:node 'a b' '' '\'?proto=jsonrpc`,
		"npipe:////./PIPE/ProtectedPrefix/a":       "npipe:////./pipe/ProtectedPrefix/a",
	} {
		e := mustParse(t, text)
		e.text = ""
		if e.String() != want {
			t.Errorf("%q prints from its parts as %q; want %q", text, e, want)
		}
	}
}

// TestEndpointsStayAsTheyAre wants no file but endpoint.go to assign a field: what was typed would go on
// being printed.
func TestEndpointsStayAsTheyAre(t *testing.T) {
	for _, goos := range goosList {
		fset := token.NewFileSet()
		info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
		conf := types.Config{Importer: noImports{}, Error: func(error) {}}
		files := parseFiles(t, fset, ourFiles(t, goos))
		self, _ := conf.Check("main", fset, files, info)
		kind := self.Scope().Lookup("endpoint").Type()
		seen := 0
		for _, f := range files {
			if fset.Position(f.Pos()).Filename == "endpoint.go" {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				var places []ast.Expr
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if s := info.Selections[n]; s != nil && types.Identical(s.Recv(), kind) {
						seen++
					}
				case *ast.AssignStmt:
					places = n.Lhs
				case *ast.UnaryExpr:
					if n.Op == token.AND {
						places = []ast.Expr{n.X}
					}
				}
				for _, place := range places {
					sel, ok := place.(*ast.SelectorExpr)
					if s := info.Selections[sel]; ok && s != nil && types.Identical(s.Recv(), kind) {
						t.Errorf("%s: the field %s of an endpoint is assigned; want a copy, see withHost", fset.Position(sel.Pos()), sel.Sel.Name)
					}
				}
				return true
			})
		}
		if seen == 0 {
			t.Errorf("%s: no use of an endpoint was seen; want many", goos)
		}
	}
}

func TestEndpointsThatAreOnePlace(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"unix:///a/b", "unix:///a/./b?proto=gob", true},
		{"unix:///a/b", "unix:///a/c", false},
		{"npipe:////./pipe/a", "npipe:////./pipe/A", true},
		{"tcp://localhost:80", "http://LOCALHOST:080?auth=none", true},
		{"tcp://localhost:80", "tcp://localhost.:80", true},
		{"tcp://127.0.0.1:80", "http://[::ffff:127.0.0.1]:80", true},
		{"tcp://127.0.0.1:80", "tcp://[0:0::FFFF:7f00:1]:80", true},
		{"tcp://127.0.0.1:80", "tcp://[::127.0.0.1]:80", false},
		{"tcp://[::1]:80", "tcp://[0:0:0:0:0:0:0:1]:80", true},
		{"tcp://[::1]:80", "tcp://127.0.0.1:80", false},
		{"tcp://localhost:0", "tcp://localhost:0", false},
		{"tcp://localhost:80", "unix:///localhost", false},
		{"fork:a b", "fork:a  'b'", true},
	}
	for _, test := range tests {
		a, b := mustParse(t, test.a), mustParse(t, test.b)
		if got := same(a, b); got != test.want || same(b, a) != got {
			t.Errorf("same(%s, %s) = %v, and %v the other way; want %v", a, b, got, same(b, a), test.want)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{"unix:///a b?proto=echo&dir=shared", "npipe:////./pipe/a/b", "tcp://[fe80::1%25eth0]:1?auth=none", `fork:node 'a' "b" \' ?proto=gob`, "http://A.b:00080/", "unix:@x", "unix:///%C3%A4%00", "վȾվAվAA:", "for\u212a:a", "\\\\.\\p\u0130pe\\"} {
		f.Add(seed)
	}
	f.Fuzz(around(func(t *testing.T, text string) {
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
	}))
}
