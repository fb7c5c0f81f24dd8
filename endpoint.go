package main

// This file owns endpoint URLs: parsing, printing and comparing them. It does no I/O.
//
//	unix:///PATH            npipe:////./pipe/NAME
//	tcp://HOST:PORT         tls://HOST:PORT         http://HOST:PORT         https://HOST:PORT
//	fork:COMMAND            the program to start, in words as a shell splits them; see cutWords
//
// A query may follow: ? and proto=, auth=none, dir=shared and owner=USER, joined by &. In PATH, NAME and the query a
// percent sign and two hexadecimal digits stand for a byte (RFC 3986 §2.1); ?, # and % themselves must
// be written that way, anything else may be. COMMAND is taken as it is typed.

import (
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An endpoint says where and how to talk, in every flag, setting, log line and reply. It is immutable:
// withHost and its like return a changed copy, so that text always agrees with the fields.
type endpoint struct {
	Scheme  string   // unix, npipe, tcp, tls, http, https, fork
	Path    string   // unix: absolute and clean; npipe: \\.\pipe\NAME
	Host    string   // tcp, tls, http, https: HOST:PORT, an IPv6 address in brackets
	Command []string // fork: the program and its arguments
	Proto   proto    // ?proto=; protoAuto if it is not given
	NoAuth  bool     // ?auth=none
	Shared  bool     // ?dir=shared
	Owner   string   // ?owner=: the user who serves it, besides those whom a client trusts; by name, uid or SID

	// Insecure lets a daemon serve it to other machines without TLS. No URL says so, see settings.insecure.
	Insecure bool

	text string // as it was typed; empty in an endpoint that the program made or changed
}

const (
	maxEndpoint = 8 << 10 // bytes of an endpoint: a path has at most 4096, a command line is the rest
	maxPipeName = 256     // characters of the full name of a pipe; see CreateNamedPipeW
	pipePrefix  = `\\.\pipe\`
)

// What may be typed, for the hints.
var (
	schemes   = []string{"unix", "npipe", "tcp", "tls", "http", "https", "fork"}
	protos    = []string{string(protoAuto), string(protoGob), string(protoJSON), string(protoHTTP), string(protoEcho)}
	queryKeys = []string{"proto", "auth", "dir", "owner"}
)

// A proto is what is spoken on a connection; the values are those of ?proto=.
type proto string

const (
	protoAuto    proto = "auto"
	protoGob     proto = "gob"
	protoJSON    proto = "jsonrpc"
	protoHTTP    proto = "http"
	protoEcho    proto = "echo"
	protoTLS     proto = "tls" // recognised where it is not spoken, so that it can be refused
	protoUnknown proto = ""    // more bytes are needed
)

// parseEndpoint parses an endpoint as users type it. Its errors are usage faults whose hints say what
// to type instead.
func parseEndpoint(text string) (endpoint, error) {
	e, err := parse(text)
	if err != nil {
		return endpoint{}, err // typed: err is a *fault
	}
	return e, nil
}

func parse(text string) (endpoint, *fault) {
	e := endpoint{Proto: protoAuto, text: text}
	switch {
	case text == "":
		return e, usagef("the endpoint is empty").withHint("write one such as %s or tcp://127.0.0.1:8888", exampleEndpoint)
	case len(text) > maxEndpoint:
		return e, usagef("the endpoint has %d bytes; at most %d are allowed", len(text), maxEndpoint)
	case !utf8.ValidString(text):
		return e, usagef("the endpoint %+q is not UTF-8", text).withHint("write each byte that is no UTF-8 as %%XX")
	case strings.ContainsFunc(text, isControl):
		return e, usagef("the endpoint %+q has a control character", text).withHint("write it as %%XX if it belongs there")
	}
	scheme, rest, ok := strings.Cut(text, ":")
	e.Scheme = strings.ToLower(scheme)
	if !ok || !slices.Contains(schemes, e.Scheme) || len(e.Scheme) != len(scheme) { // the Kelvin sign becomes a k
		return e, badScheme(text, e.Scheme, ok)
	}
	f := e.parseRest(rest)
	if f != nil && e.isForeign() && strings.Contains(f.hint, e.Scheme+":") {
		f = f.withHint("use a %s, such as %s", localPlace, exampleEndpoint)
	}
	return e, f
}

// parseRest parses what follows the scheme.
func (e *endpoint) parseRest(rest string) *fault {
	if e.Scheme == "fork" {
		return e.parseFork(rest)
	}
	if place, _, found := strings.Cut(rest, "#"); found {
		return usagef("the endpoint %s has a # in it", e.text).withHint("if it belongs to the name, write %%23: %s:%s", e.Scheme, place+"%23"+rest[len(place)+1:])
	}
	place, query, found := strings.Cut(rest, "?")
	var f *fault
	switch e.Scheme {
	case "unix":
		f = e.parseUnix(place, rest[len(place):])
	case "npipe":
		f = e.parsePipe(place, rest[len(place):])
	default:
		f = e.parseHost(place, rest[len(place):])
	}
	if f == nil && found {
		f = e.parseQuery(query)
	}
	return f
}

// badScheme returns the fault of a text that begins with no known scheme, and guesses what was meant.
func badScheme(text, scheme string, colon bool) *fault {
	name, _, _ := strings.Cut(text, "?")
	_, rest, _ := strings.Cut(text, ":") // lower case may be longer or shorter
	switch {
	case text[0] == '@':
		return abstract(text)
	case text[0] == '/', strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"), isPipePath(text):
		return usagef("the endpoint %s has no scheme", text).withHint("write %s", localHint(name))
	case !colon && strings.Trim(name, "0123456789") == "":
		return usagef("the endpoint %s has no scheme and no host", text).withHint("write tcp://127.0.0.1:%s, or http: in place of tcp:", text)
	case !colon:
		return usagef("the endpoint %s has no scheme", text).withHint("write one such as %s or tcp://127.0.0.1:8888", localHint(name))
	}
	if rest != "" && strings.Trim(rest, "0123456789") == "" {
		return usagef("the endpoint %s has no scheme", text).withHint("write tcp://%s", text)
	}
	f := usagef("the endpoint %s has the unknown scheme %q", text, scheme)
	near := nearest(scheme, schemes)
	switch {
	case near == "", len(scheme) == 1: // a drive of Windows
		return f.withHint("the schemes are %s", strings.Join(schemes, ", "))
	case (endpoint{Scheme: near}).isForeign():
		return f.withHint("use a %s, such as %s", localPlace, exampleEndpoint)
	}
	if _, also := parse(near + ":" + rest); also != nil && also.hint != "" {
		return f.withHint("%s", also.hint)
	}
	return f.withHint("did you mean %s:%s?", near, rest)
}

// abstract refuses abstract sockets, which are Linux's own: they have no file, so no permission guards them, and
// anyone may bind their names (unix(7)).
func abstract(text string) *fault {
	return usagef("%s is an abstract socket, which no permission guards: any user may take its name", text).
		withHint("name a %s, such as %s", localPlace, exampleEndpoint)
}

// isPipePath reports whether text is the name of a pipe in the notation of Windows.
func isPipePath(text string) bool {
	return len(text) >= len(pipePrefix) && strings.EqualFold(text[:len(pipePrefix)], pipePrefix)
}

// unixHint returns the endpoint of a path as it should have been typed.
func unixHint(typed string) string {
	p, err := unescape(typed)
	if err != nil {
		p = typed
	}
	if path.IsAbs(p) {
		return "unix://" + escape(path.Clean(p))
	}
	if abs, err := filepath.Abs(p); err == nil {
		p = filepath.ToSlash(abs)
	}
	return "unix:///" + escape(strings.TrimPrefix(p, "/")) // a drive, too, follows a slash
}

func (e *endpoint) parseUnix(place, query string) *fault {
	typed, slashes := strings.CutPrefix(place, "//")
	p, err := unescape(typed)
	switch {
	case err != nil:
		return usagef("the endpoint %s: %w", e.text, err).withHint("write a percent sign as %%25")
	case strings.HasPrefix(p, "@"), strings.HasPrefix(p, "\x00"), strings.HasPrefix(p, "/\x00"):
		return abstract(e.text)
	case strings.Contains(p, "\x00"):
		return usagef("the endpoint %s has a zero byte in its path", e.text).withHint("leave out the %%00")
	case p == "":
		return usagef("the endpoint %s names no socket", e.text).withHint("write a path, such as %s", exampleEndpoint)
	case !strings.HasPrefix(p, "/"):
		f := usagef("the path of the endpoint %s is relative", e.text)
		if slashes && strings.Contains(typed, "/") && typed[0] != '.' { // as they are counted in http://
			return f.withHint("write unix:///%s, or for a path from here %s", typed+query, unixHint(typed)+query)
		}
		return f.withHint("write %s", unixHint(typed)+query)
	case !slashes:
		return usagef("the endpoint %s lacks two slashes", e.text).withHint("write unix://%s", typed+query)
	case strings.HasSuffix(p, "/"), path.Base(p) == ".", path.Base(p) == "..":
		return usagef("the endpoint %s names a directory", e.text).withHint("name a socket in it: unix://%s", escape(path.Join(p, "ipcd.sock"))+query)
	}
	e.Path = path.Clean(p)
	return nil
}

func (e *endpoint) parsePipe(place, query string) *fault {
	name, err := unescape(strings.TrimLeft(place, "/"))
	if err != nil {
		return usagef("the endpoint %s: %w", e.text, err).withHint("write a percent sign as %%25")
	}
	server, name, _ := strings.Cut(name, "/")
	pipe, name, _ := strings.Cut(name, "/")
	if !strings.EqualFold(pipe, "pipe") || name == "" || !strings.HasPrefix(place, "////") || strings.HasPrefix(place, "/////") {
		last := escape(path.Base("/" + place))
		if last == "" || last == "/" || last == "pipe" || last == "." {
			last = "ipcd"
		}
		return usagef("the endpoint %s does not name a pipe", e.text).withHint("write npipe:////./pipe/%s", last+query)
	}
	if server != "." {
		return usagef("the endpoint %s is a pipe of another machine, which is not supported", e.text).
			withHint("write npipe:////./pipe/%s for a pipe of this one", escape(name)+query)
	}
	if strings.ContainsFunc(name, isControl) || strings.ContainsAny(name, `\:*?"<>|`) || !utf8.ValidString(name) || path.Clean("/"+name) != "/"+name {
		return usagef("the endpoint %s has a character in its name that a pipe may not have", e.text).
			withHint(`use letters, digits, dots and dashes: npipe:////./pipe/ipcd`)
	}
	// Below the prefix Windows takes a slash for a backslash; ProtectedPrefix\... is such a name.
	e.Path = pipePrefix + strings.ReplaceAll(name, "/", `\`)
	if n := utf8.RuneCountInString(e.Path); n > maxPipeName {
		return usagef("the pipe of the endpoint %s has %d characters; at most %d are allowed", e.text, n, maxPipeName).withHint("choose a shorter name")
	}
	return nil
}

func (e *endpoint) parseHost(place, query string) *fault {
	typed, slashes := strings.CutPrefix(place, "//")
	switch {
	case strings.Trim(place, "/") == "":
		return usagef("the endpoint %s names no host", e.text).withHint("write %s://127.0.0.1:8888", e.Scheme)
	case !slashes:
		return usagef("the endpoint %s lacks two slashes", e.text).withHint("write %s://%s", e.Scheme, strings.TrimLeft(place, "/")+query)
	}
	typed = strings.TrimSuffix(typed, "/") // what a browser shows
	if before, _, found := strings.Cut(typed, "/"); found {
		return usagef("the endpoint %s has a path behind its port", e.text).withHint("write %s://%s", e.Scheme, before+query)
	}
	if _, after, found := strings.Cut(typed, "@"); found {
		return usagef("the endpoint %s has a user name in it", e.text).withHint("write %s://%s", e.Scheme, after+query)
	}
	host, port, f := e.splitHost(typed, query)
	if f != nil {
		return f
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port[0] == '+' {
		return usagef("the port %q of the endpoint %s is no number from 0 to 65535", port, e.text).
			withHint("write one, such as %s://%s:8888; 0 takes a free one when listening", e.Scheme, host)
	}
	e.Host = host + ":" + strconv.FormatUint(n, 10)
	return nil
}

// splitHost splits HOST:PORT and checks the host.
func (e *endpoint) splitHost(typed, query string) (host, port string, _ *fault) {
	if addr, err := netip.ParseAddr(typed); err == nil && addr.Is6() {
		return "", "", usagef("the IPv6 address of the endpoint %s has no brackets and no port", e.text).withHint("write %s://[%s]:8888", e.Scheme, typed)
	}
	i := strings.LastIndexByte(typed, ':')
	if i < 0 || strings.HasSuffix(typed, "]") {
		return "", "", usagef("the endpoint %s has no port", e.text).withHint("write %s://%s:8888%s", e.Scheme, typed, query)
	}
	host, port = typed[:i], typed[i+1:]
	if port == "" {
		return "", "", usagef("the endpoint %s has no port", e.text).withHint("write %s://%s:8888%s", e.Scheme, host, query)
	}
	if host == "" {
		return "", "", usagef("the endpoint %s names no host", e.text).withHint("write %s://127.0.0.1:%s", e.Scheme, port+query)
	}
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, closed := strings.CutSuffix(inner, "]")
		// The zone of an address follows %25 in a URL, see RFC 6874.
		addr, err := netip.ParseAddr(strings.Replace(inner, "%25", "%", 1))
		if !closed || err != nil || !addr.Is6() || strings.Contains(strings.Replace(inner, "%25", "", 1), "%") {
			return "", "", usagef("the endpoint %s has no IPv6 address in its brackets", e.text).withHint("write %s://[::1]:%s", e.Scheme, port)
		}
		if strings.ContainsFunc(addr.Zone(), func(r rune) bool { return !isNameRune(r) }) {
			return "", "", usagef("the endpoint %s has an address zone that is no name", e.text).withHint("write %s://[::1]:%s", e.Scheme, port)
		}
		if addr.Is4In6() { // RFC 4291, section 2.5.5.2
			return addr.Unmap().String(), port, nil
		}
		return "[" + addr.String() + "]", port, nil
	}
	if strings.Contains(host, ":") {
		return "", "", usagef("the IPv6 address of the endpoint %s has no brackets", e.text).withHint("write %s://[%s]:%s", e.Scheme, host, port+query)
	}
	if len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return !isNameRune(r) }) {
		return "", "", usagef("the endpoint %s has no host name and no address before its port", e.text).withHint("write %s://127.0.0.1:%s", e.Scheme, port)
	}
	return strings.ToLower(host), port, nil
}

// isNameRune reports whether r may be part of a host name (RFC 1123 §2.1), or is in practice.
func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
}

// parseFork parses the command, up to the first ? that is not quoted, and the query.
func (e *endpoint) parseFork(rest string) *fault {
	words, query, err := cutWords(rest, "?")
	if err != nil {
		return usagef("the command of the endpoint %s: %w", e.text, err).withHint("close the quote, or put a backslash before it")
	}
	if len(words) == 0 || words[0] == "" {
		return usagef("the endpoint %s names no program", e.text).withHint(`write one, such as "fork:node greeter.js"`)
	}
	e.Command = words
	if query == "" {
		return nil
	}
	if f := e.parseQuery(query[1:]); f != nil {
		if key, _, _ := strings.Cut(query[1:], "="); f.hint == "" || !slices.Contains(queryKeys, key) {
			return f.withHint(`if the ? belongs to the command, quote it: '?'`)
		}
		return f
	}
	return nil
}

// parseQuery parses what follows the question mark.
func (e *endpoint) parseQuery(query string) *fault {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(query, "&") {
		key, typed, _ := strings.Cut(part, "=")
		value, err := unescape(typed)
		switch {
		case err != nil:
			return usagef("the query of the endpoint %s: %w", e.text, err).withHint("write a percent sign as %%25")
		case seen[key]:
			return usagef("the endpoint %s says %s= twice", e.text, key).withHint("say it once")
		}
		seen[key] = true
		switch key {
		case "proto":
			if f := e.setProto(value); f != nil {
				return f
			}
		case "auth":
			if value != "none" {
				return usagef("the endpoint %s has the unknown auth %q", e.text, value).withHint("write auth=none to ask for no proof, or leave it out")
			}
			if e.Host == "" {
				why := "the kernel names the peer of a local endpoint"
				if e.Scheme == "fork" {
					why = "a client starts that program itself"
				}
				return usagef("the endpoint %s cannot say auth=none, which is for tcp, tls, http and https: %s", e.text, why).withHint("leave out auth=none")
			}
			e.NoAuth = true
		case "dir":
			if value != "shared" {
				return usagef("the endpoint %s has the unknown dir %q", e.text, value).withHint("write dir=shared for a directory that others can write to, or leave it out")
			}
			if e.Scheme != "unix" {
				return usagef("the endpoint %s cannot say dir=shared, which is for unix: it has no directory", e.text).withHint("leave out dir=shared")
			}
			e.Shared = true
		case "owner":
			if !e.isLocal() {
				return usagef("the endpoint %s cannot say owner=, which is for unix and npipe: of nothing else does the system know whose it is", e.text).withHint("leave out owner=")
			}
			if value == "" || strings.ContainsFunc(value, isControl) || !utf8.ValidString(value) {
				return usagef("the endpoint %s does not name an owner", e.text).withHint("write the user who serves it: owner=NAME")
			}
			e.Owner = value
		default:
			if part == "" {
				return usagef("the endpoint %s has a ? or & with nothing behind it", e.text).withHint("leave it out; write a ? of the name as %%3F")
			}
			f := usagef("the endpoint %s has the unknown query key %q", e.text, key)
			if near := nearest(key, queryKeys); near != "" && key != "" {
				return f.withHint("did you mean %s=?", near)
			}
			return f.withHint("the keys are proto=, auth=none, dir=shared and owner=; write a ? of the name as %%3F")
		}
	}
	return nil
}

func (e *endpoint) setProto(value string) *fault {
	if !slices.Contains(protos, value) {
		f := usagef("the endpoint %s has the unknown proto %q", e.text, value)
		if near := nearest(value, protos); near != "" {
			return f.withHint("did you mean proto=%s?", near)
		}
		return f.withHint("the protocols are %s", strings.Join(protos, ", "))
	}
	p := proto(value)
	if web := e.Scheme == "http" || e.Scheme == "https"; web && (p == protoGob || p == protoJSON) {
		tcp := map[string]string{"http": "tcp", "https": "tls"}[e.Scheme]
		return usagef("the endpoint %s cannot speak %s: %s is HTTP alone", e.text, value, e.Scheme).
			withHint("write %s://%s?proto=%s", tcp, e.Host, value)
	}
	if e.Scheme == "fork" && p != protoAuto && p != protoJSON {
		return usagef("the endpoint %s cannot speak %s: the channel to a program has JSON-RPC alone", e.text, value).withHint("leave out proto=%s", value)
	}
	e.Proto = p
	return nil
}

// changed returns a copy of e to which f has been applied.
func (e endpoint) changed(f func(*endpoint)) endpoint {
	f(&e)
	e.text = ""
	return e
}

func (e endpoint) withScheme(scheme string) endpoint {
	return e.changed(func(c *endpoint) { c.Scheme = scheme })
}

// withTLS returns e with the scheme that has TLS, and the proof that callers have there.
func (e endpoint) withTLS() endpoint {
	return e.changed(func(c *endpoint) {
		c.Scheme, c.NoAuth = map[bool]string{false: "tls", true: "https"}[c.isHTTP()], false
	})
}

// withoutTLS returns e with the scheme that has none.
func (e endpoint) withoutTLS() endpoint {
	return e.withScheme(map[bool]string{false: "tcp", true: "http"}[e.isHTTP()])
}

func (e endpoint) withPath(path string) endpoint {
	return e.changed(func(c *endpoint) { c.Path = path })
}

func (e endpoint) withHost(host string) endpoint {
	return e.changed(func(c *endpoint) { c.Host = host })
}

// called returns e, at which a daemon listens, as clients of this machine call it who have not named it. What auth=none waives
// there is the proof of callers; a client would waive its check of who serves.
func (e endpoint) called() endpoint {
	e = e.here()
	if !e.NoAuth {
		return e
	}
	return e.changed(func(c *endpoint) { c.NoAuth = false })
}

// here returns e, at which a daemon listens, by an address at which this machine reaches itself, if that is on all of its addresses.
func (e endpoint) here() endpoint {
	if !e.isEverywhere() {
		return e
	}
	return e.withHost("127.0.0.1" + e.Host[strings.LastIndexByte(e.Host, ':'):])
}

// isEverywhere reports whether whoever listens at e does so on all addresses of the machine.
func (e endpoint) isEverywhere() bool {
	return strings.HasPrefix(e.Host, "0.0.0.0:") || strings.HasPrefix(e.Host, "[::]:")
}

func (e endpoint) withNoAuth() endpoint { return e.changed(func(c *endpoint) { c.NoAuth = true }) }
func (e endpoint) withInsecure() endpoint {
	return e.changed(func(c *endpoint) { c.Insecure = true })
}
func (e endpoint) withOwner(user string) endpoint {
	return e.changed(func(c *endpoint) { c.Owner = user })
}
func (e endpoint) withShared() endpoint { return e.changed(func(c *endpoint) { c.Shared = true }) }

// String returns the endpoint as it was typed. One that the program made or changed has the
// canonical form, which parses to the same endpoint.
func (e endpoint) String() string {
	if e.text != "" {
		return e.text
	}
	var b strings.Builder
	b.WriteString(e.Scheme)
	switch e.Scheme {
	case "fork":
		b.WriteString(":" + joinWords(e.Command))
	case "npipe":
		b.WriteString("://" + escape(strings.ReplaceAll(e.Path, `\`, "/")))
	case "unix":
		b.WriteString("://" + escape(e.Path))
	default:
		b.WriteString("://" + strings.Replace(e.Host, "%", "%25", 1))
	}
	mark := "?"
	put := func(s string) { b.WriteString(mark + s); mark = "&" }
	if e.Proto != protoAuto && e.Proto != "" {
		put("proto=" + string(e.Proto))
	}
	if e.NoAuth {
		put("auth=none")
	}
	if e.Shared {
		put("dir=shared")
	}
	if e.Owner != "" {
		put("owner=" + strings.ReplaceAll(escape(e.Owner), "&", "%26"))
	}
	return b.String()
}

// same reports whether a and b are the same place, whatever is spoken there, so that one daemon cannot
// listen on both. Port 0 is a different port each time.
func same(a, b endpoint) bool {
	switch {
	case a.Host != "" && b.Host != "": // the name of a host may end with the dot of the root
		return strings.ReplaceAll(a.Host, ".:", ":") == strings.ReplaceAll(b.Host, ".:", ":") && !strings.HasSuffix(a.Host, ":0")
	case a.Scheme != b.Scheme:
		return false
	case a.Scheme == "npipe":
		return strings.EqualFold(a.Path, b.Path)
	}
	return a.Path == b.Path && a.Host == b.Host && slices.Equal(a.Command, b.Command)
}

// key names the place of e, whatever is spoken there, where rules name it.
func (e endpoint) key() string {
	place := e.Path + strings.ReplaceAll(e.Host, ".:", ":")
	if e.Scheme == "npipe" {
		place = strings.ToLower(place)
	}
	return e.Scheme + ":" + place
}

// escape encodes s for a URL. Readable characters beyond ASCII stay as they are: RFC 3986 would encode them,
// but RFC 3987 §3.1 allows them.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == ' ' || r == '%' || r == '?' || r == '#' || isControl(r) {
			for _, c := range []byte(s[i : i+size]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
			continue
		}
		b.WriteString(s[i : i+size])
	}
	return b.String()
}

// unescape decodes %XX. net/url would turn + into a space in a query, and refuse more.
func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return "", fmt.Errorf("%q is no percent-encoding", s[i:])
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is no percent-encoding", s[i:i+3])
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}

// isLocal reports whether the kernel identifies callers at e.
func (e endpoint) isLocal() bool { return e.Scheme == "unix" || e.Scheme == "npipe" }

// isFile reports whether the path of the endpoint is that of a file. Whoever looks at a pipe as if it were one connects to it, and
// learns nothing.
func (e endpoint) isFile() bool { return e.Scheme == "unix" }

// isForeign reports whether e is a local endpoint of another system: it parses, but is refused when it is used.
func (e endpoint) isForeign() bool { return e.isLocal() && e.Scheme != localScheme }

// isFar reports whether other machines can reach whoever listens at e, as far as its host tells. Without TLS no service listens so.
func (e endpoint) isFar() bool {
	if !e.isTLS() {
		return false
	}
	host := strings.Trim(e.Host[:strings.LastIndexByte(e.Host, ':')], "[]")
	addr, err := netip.ParseAddr(host)
	return err == nil && !addr.IsLoopback() || err != nil && !strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// isTLS reports whether a handshake of TLS precedes what is spoken at e.
func (e endpoint) isTLS() bool { return e.Scheme == "tls" || e.Scheme == "https" }

// isHTTP reports whether e speaks only HTTP.
func (e endpoint) isHTTP() bool { return e.Scheme == "http" || e.Scheme == "https" }

// listenFault returns a fault that says why e cannot be served.
func listenFault(e endpoint, format string, args ...any) *fault {
	f := faultf(codeApplication, format, args...)
	f.Text = "cannot listen on " + e.String() + ": " + f.Text
	return f
}

// dialFault returns a fault that says why no daemon was reached.
func dialFault(err error, format string, args ...any) *fault {
	f := faultf(codeNotReachable, format, args...)
	f.err = err
	return f
}
