package main

// This file owns what is so over TLS alone: who certificates say somebody is, what either end makes of an end that is not as it
// should be, and how the files of a daemon are read. What is so over every transport is in e2e_behaviour_test.go.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// certRule lets a client call.
func certRule(t testing.TB, name string) *policy {
	t.Helper()
	t.Chdir(t.TempDir())
	return policyFrom(t, "[[rule]]\nallow = ["+quoteTOML("cert:"+name)+"]\ncall = [\"*\"]\n")
}

// asTest is the client of the tests' own authority, at a daemon.
func asTest(t testing.TB) dialOptions {
	return dialOptions{limits: defaultLimits(), tls: testKeys(t)}
}

// stockTLS is the same client, for the standard library.
func stockTLS(t testing.TB) *tls.Config {
	t.Helper()
	keys := testKeys(t)
	pair, err := tls.LoadX509KeyPair(keys.ClientCert, keys.ClientKey)
	must(t, err)
	text, err := os.ReadFile(keys.CA)
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("there is no certificate in ca.pem")
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

// TestNothingGoesPastTLS is about what writes to descriptors: see newTryWriter.
func TestNothingGoesPastTLS(t *testing.T) {
	if _, has := any(&tlsConn{}).(syscall.Conn); has {
		t.Error("a connection with TLS offers its descriptor, to which answers would be written as they are")
	}
}

func TestStockClientsOverTLS(t *testing.T) {
	s := startServer(t, "tls://127.0.0.1:0", "https://127.0.0.1:0")
	s.obey(certRule(t, "client"))
	whoami := func(what string, call func(method string, arg, result any) error) {
		t.Helper()
		var text string
		if err := call("Echo.Say", what, &text); err != nil || text != what {
			t.Errorf("%s: Echo.Say = %q, %v", what, text, err)
		}
		var p peer
		if err := call("Ipcd.Whoami", struct{}{}, &p); err != nil || p.Name != "cert:client" || p.Known || p.UID != -1 {
			t.Errorf("%s: Ipcd.Whoami = %+v, %v; want cert:client", what, p, err)
		}
	}
	for name, client := range map[string]func(io.ReadWriteCloser) *rpc.Client{"gob": rpc.NewClient, "jsonrpc": jsonrpc.NewClient} {
		conn, err := tls.Dial("tcp", s.endpoints[0].Host, stockTLS(t))
		must(t, err)
		if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("the version of TLS is %s", tls.VersionName(v))
		}
		c := client(conn)
		whoami(name, func(method string, arg, result any) error { return c.Call(method, arg, result) })
		must(t, c.Close())
	}
	for _, e := range s.endpoints {
		transport := &http.Transport{TLSClientConfig: stockTLS(t), ForceAttemptHTTP2: true}
		answer, err := (&http.Client{Transport: transport}).Post("https://"+e.Host+"/call/Echo.Say", "application/json", strings.NewReader(`"hello"`))
		must(t, err)
		b, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		transport.CloseIdleConnections()
		if err != nil || string(b) != "\"hello\"\n" || answer.ProtoMajor != 1 {
			t.Errorf("%s: POST = %q, %v over %s", e, b, err, answer.Proto)
		}
		if got := answer.TLS.NegotiatedProtocol; e.isHTTP() && got != "http/1.1" {
			t.Errorf("%s: the protocol that was negotiated is %q", e, got)
		}
	}
	s.idle()
	if log := s.log.String(); !strings.Contains(log, "peer=\"cert:client at 127.0.0.1:") {
		t.Errorf("the log does not name the peer:\n%s", log)
	}
}

// issued makes a certificate of the tests' authority, changed before it is signed.
func issued(t testing.TB, by *authority, change func(c *x509.Certificate)) dialOptions {
	t.Helper()
	_, made, err := signChanged(by, change)
	must(t, err)
	dir := &secretDir{path: t.TempDir()}
	must(t, dir.add("x", made))
	o := asTest(t)
	o.tls.ClientCert, o.tls.ClientKey = pairFiles(dir.path, "x")
	return o
}

// signChanged signs the certificate of a client after a change.
func signChanged(by *authority, change func(c *x509.Certificate)) (*authority, madePair, error) {
	c := &x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	c.Subject.CommonName = "client"
	change(c)
	return sign(c, by)
}

// TestCertificatesAreWhoTheySay has clients with all kinds of certificates. What they are told is said in every protocol.
func TestCertificatesAreWhoTheySay(t *testing.T) {
	testKeys(t)
	by, err := readAuthority(testKeysDir.path)
	must(t, err)
	other := makeKeys(t, t.TempDir(), time.Now())
	const named, refused, alert = "cert:", "access denied: ", "it does not take the certificate"
	for _, test := range []struct {
		name   string
		by     *authority // nil for no certificate
		change func(c *x509.Certificate)
		want   string
	}{
		{"one with a rule", by, func(c *x509.Certificate) {}, "cert:client"},
		{"one whose name is that of a host", by, func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "", []string{"client"} }, "cert:client"},
		{"the common name counts", by, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere"} }, "cert:client"},
		{"one without a rule", by, func(c *x509.Certificate) { c.Subject.CommonName = "stranger" }, "no rule of the daemon lets cert:stranger in"},
		{"one for whom the case differs", by, func(c *x509.Certificate) { c.Subject.CommonName = "Client" }, "no rule of the daemon lets cert:Client in"},
		{"none", nil, nil, errNoCert.Text},
		{"one without a name", by, func(c *x509.Certificate) { c.Subject.CommonName = "" }, "nobody can be known by the certificate: the name is empty"},
		{"a name that looks like all of them", by, func(c *x509.Certificate) { c.Subject.CommonName = "*" }, "nobody can be known by the certificate: "},
		{"a line in the name", by, func(c *x509.Certificate) { c.Subject.CommonName = "client\nlevel=error" }, "nobody can be known by the certificate: "},
		{"two names", by, func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: "stranger"}, {Type: oidCommonName, Value: "client"}}
		}, "nobody can be known by the certificate: it has 2 common names"},
		{"blanks around the name", by, func(c *x509.Certificate) { c.Subject.CommonName = "client " }, "nobody can be known by the certificate: "},
		{"a name turned round", by, func(c *x509.Certificate) { c.Subject.CommonName = "client\u202e" }, "nobody can be known by the certificate: "},
		{"a name with a blank that has no width", by, func(c *x509.Certificate) { c.Subject.CommonName = "cli\u200bent" }, "nobody can be known by the certificate: \"cli\\u200bent\" has a character that is not to be seen"},
		{"a long name", by, func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", maxCertName+1) }, "nobody can be known by the certificate: "},
		{"one of another authority", other, func(c *x509.Certificate) {}, alert},
		{"one that has expired", by, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, alert},
		{"one that is not valid yet", by, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, alert},
		{"one for servers", by, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, alert},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, "tls://127.0.0.1:0")
			s.obey(certRule(t, "client"))
			o := asTest(t)
			o.tls.ClientCert, o.tls.ClientKey = "", ""
			if test.by != nil {
				o = issued(t, test.by, test.change)
			}
			for _, p := range []proto{protoAuto, protoGob, protoHTTP} {
				c, err := dial(t.Context(), s.endpoints[0].withProto(p), o)
				if err == nil {
					var me peer
					if err = ask(c, "Ipcd.Whoami", nil, &me); err == nil {
						err = errors.New(me.Name)
					}
					c.close()
				}
				if err == nil || !strings.Contains(err.Error()+hintFor(err), test.want) {
					t.Errorf("over %s: %v, hint %q; want %q", p, err, hintFor(err), test.want)
				}
				code := codeDenied
				if test.by == nil { // a token would do as well
					code = codeUnproven
				}
				if f := (*fault)(nil); errors.As(err, &f) && f.Code != code {
					t.Errorf("over %s: the code is %d; want %d", p, f.Code, code)
				}
			}
			s.idle()
			for line := range strings.Lines(s.log.String()) {
				if strings.HasPrefix(line, "level=error") {
					t.Errorf("a name has written a line of the log: %q", line)
				}
			}
		})
	}
}

// TestRulesAreAskedOfCertificates has a certificate that may some, and one that registers.
func TestRulesAreAskedOfCertificates(t *testing.T) {
	t.Chdir(t.TempDir())
	s := startServer(t, "tls://127.0.0.1:0")
	s.obey(policyFrom(t, "[[rule]]\ndeny = [\"cert:client\"]\ncall = [\"Echo.*\"]\n[[rule]]\nallow = [\"cert:client\"]\ncall = [\"Trial.*\", \"Far.*\"]\nregister = [\"Far\"]\n"))
	c, err := dial(t.Context(), s.endpoints[0], asTest(t))
	must(t, err)
	defer c.close()
	checkCode(t, "what a rule denies", ask(c, "Echo.Say", "x", nil), codeDenied, "cert:client at 127.0.0.1:")
	must(t, ask(c, "Trial.Slow", 0, nil))
	checkCode(t, "what takes admin", ask(c, "Ipcd.Stop", nil, nil), codeDenied, "takes a [[rule]] of the daemon's configuration")
	must(t, ask(c, "Ipcd.Register", map[string]any{"methods": []string{"Far.Say"}}, nil))
	checkCode(t, "a service of others", ask(c, "Ipcd.Register", map[string]any{"methods": []string{"Near.Say"}}, nil), codeDenied, "may not offer")
	var list []Listing
	must(t, ask(c, "Ipcd.List", nil, &list))
	found := false
	for _, l := range list {
		found = found || l.Method == "Far.Say" && len(l.Providers) == 1 && l.Providers[0].Name == "cert:client"
	}
	if !found {
		t.Errorf("Far.Say is not that of cert:client in %+v", list)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users["cert:client"]; u == nil || u.connections != 1 {
		t.Errorf("the limits of users know %v; want cert:client with one connection", s.users)
	}
}

// TestEverybodyIsLetInWhereTheEndpointSaysSo is ?auth=none.
func TestEverybodyIsLetInWhereTheEndpointSaysSo(t *testing.T) {
	s := startServer(t, "tls://127.0.0.1:0?auth=none")
	for name, o := range map[string]dialOptions{"": optionsFor(t, s.endpoints[0]), "cert:client": asTest(t)} {
		c, err := dial(t.Context(), s.endpoints[0].called(), o)
		must(t, err)
		var me peer
		if err := ask(c, "Ipcd.Whoami", nil, &me); err != nil || me.Name != name || me.Transport != "tls" {
			t.Errorf("Whoami = %+v, %v; want the name %q", me, err, name)
		}
		checkSay(t, c, "hello")
		c.close()
	}
	if log := s.log.String(); !strings.Contains(log, "warn  everybody who reaches this endpoint may call") {
		t.Errorf("the start did not warn:\n%s", log)
	}
}

// TestPlainTalkToTLSIsAnswered wants whoever begins without TLS to read why that is nothing, in the protocol that they speak.
func TestPlainTalkToTLSIsAnswered(t *testing.T) {
	s := startServer(t, "tls://127.0.0.1:0?auth=none", "https://127.0.0.1:0?auth=none")
	tests := []struct{ name, send, want string }{
		{"JSON", sayRequest, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"` + errWantsTLS.Text},
		{"headers", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sayRequest), sayRequest), "Content-Length: "},
		{"HTTP", postText("/rpc", "", sayRequest), "HTTP/1.1 403 Forbidden"},
		{"nothing", "", ""},
	}
	for _, test := range tests {
		conn, err := net.Dial("tcp", s.endpoints[0].Host)
		must(t, err)
		conn.SetDeadline(time.Now().Add(testPatience))
		send(t, conn, test.send)
		conn.(*net.TCPConn).CloseWrite()
		if got := readAll(t, conn); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s: %q; want %q", test.name, got, test.want)
		}
		conn.Close()
	}
	c := rpc.NewClient(noDeadline(rawDial(t, s.endpoints[0].withoutTLS())))
	if err := c.Call("Echo.Say", "x", new(string)); err == nil || !strings.Contains(err.Error(), errWantsTLS.Text) {
		t.Errorf("gob: %v", err)
	}
	c.Close()
	for _, e := range s.endpoints {
		c, err := dial(t.Context(), e.withoutTLS(), optionsFor(t, e))
		must(t, err)
		err = ask(c, "Echo.Say", "x", nil)
		if f := checkCode(t, "ours", err, codeDenied, errWantsTLS.Text); !strings.Contains(hintFor(f), "tls://") {
			t.Errorf("the hint is %q", hintFor(f))
		}
		c.close()
	}
	s.idle()
}

// A tlsStub is a server of TLS that is not ours.
func tlsStub(t testing.TB, serve func(conn net.Conn)) endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testPatience))
		serve(conn)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return mustParse(t, "tls://"+l.Addr().String())
}

// TestClientSaysWhatIsWrongWithAServer wants the words, the code and the hint for each way in which there is no TLS with a daemon.
func TestClientSaysWhatIsWrongWithAServer(t *testing.T) {
	ours := testKeys(t)
	by, err := readAuthority(testKeysDir.path)
	must(t, err)
	shows := func(name string, change func(c *x509.Certificate), config *tls.Config) func(conn net.Conn) {
		_, made, err := signChanged(by, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []net.IP{net.IPv4(127, 0, 0, 1)}
			change(c)
		})
		must(t, err)
		pair, err := tls.X509KeyPair(made.cert, made.key)
		must(t, err)
		config.Certificates = []tls.Certificate{pair}
		return func(conn net.Conn) {
			c := tls.Server(conn, config)
			c.Handshake()
			io.Copy(io.Discard, c)
		}
	}
	same := func(*x509.Certificate) {}
	for _, test := range []struct {
		name  string
		serve func(conn net.Conn)
		set   tlsSettings
		code  int
		words string
		hint  string
	}{
		{"an authority that nobody knows", shows("", same, &tls.Config{}), tlsSettings{}, codeDenied, "from an authority that is not trusted here; nothing was sent", "tls.ca"},
		{"it has expired", shows("", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, &tls.Config{}), ours, codeDenied, "its certificate has expired on 20", "ipcd tls issue --server 127.0.0.1"},
		{"it is not valid yet", shows("", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, &tls.Config{}), ours, codeDenied, "its certificate is valid from 20", "clock"},
		{"another name", shows("", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"box.example", "b2"} }, &tls.Config{}), ours, codeDenied, "its certificate is for box.example, b2 and not for 127.0.0.1; nothing was sent", "--server 127.0.0.1"},
		{"no name", shows("", func(c *x509.Certificate) { c.IPAddresses = nil }, &tls.Config{}), ours, codeDenied, "its certificate is for no host and not for 127.0.0.1", ""},
		{"a certificate of clients", shows("", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, &tls.Config{}), ours, codeDenied, "its certificate cannot be taken: ", "tls.ca"},
		{"an old version", shows("", same, &tls.Config{MaxVersion: tls.VersionTLS12}), ours, codeWrongProtocol, "protocol version not supported", "ipcd speaks TLS 1.3"},
		{"no TLS", func(conn net.Conn) { io.WriteString(conn, "220 mail.example ESMTP\r\n"); io.Copy(io.Discard, conn) }, ours, codeWrongProtocol, "does not speak TLS", "tcp://127.0.0.1:"},
		{"it hangs up", func(conn net.Conn) {}, ours, codeConnection, "closed the connection in the middle of the handshake", "log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := tlsStub(t, test.serve)
			_, err := dial(t.Context(), e, dialOptions{limits: defaultLimits(), tls: test.set})
			f := checkCode(t, "dial", err, test.code, test.words)
			if !strings.Contains(hintFor(f), test.hint) {
				t.Errorf("the hint is %q; want %q", hintFor(f), test.hint)
			}
			if exitCode(err) != exitFailed {
				t.Errorf("the exit code is %d; want %d", exitCode(err), exitFailed)
			}
		})
	}
	t.Run("it wants a certificate", func(t *testing.T) {
		e := tlsStub(t, shows("", same, &tls.Config{ClientAuth: tls.RequireAnyClientCert}))
		c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits(), tls: tlsSettings{CA: ours.CA}})
		must(t, err) // it learns of it when it reads: RFC 8446, section 4.4.2.4
		defer c.close()
		f := checkCode(t, "a call", ask(c, "Echo.Say", "x", nil), codeDenied, "certificate required")
		if !strings.Contains(hintFor(f), "tls.client_cert") {
			t.Errorf("the hint is %q", hintFor(f))
		}
	})
	t.Run("it says nothing", func(t *testing.T) {
		e := tlsStub(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := dial(ctx, e, asTest(t))
		checkCode(t, "dial", err, codeNotReachable, "the handshake of TLS did not end in time")
	})
	t.Run("a plain endpoint of ours", func(t *testing.T) {
		s := startServer(t, "tcp://127.0.0.1:0?auth=none")
		_, err := dial(t.Context(), s.endpoints[0].withTLS(), asTest(t))
		f := checkCode(t, "dial", err, codeWrongProtocol, "handshake failure")
		if want := s.endpoints[0].called().String(); !strings.Contains(hintFor(f), want) {
			t.Errorf("the hint is %q; want %s", hintFor(f), want)
		}
	})
	t.Run("files that are not there", func(t *testing.T) {
		_, err := dial(t.Context(), mustParse(t, "tls://127.0.0.1:1"), dialOptions{tls: tlsSettings{CA: "nowhere.pem"}})
		checkUsage(t, "tls.ca", err, "tls.ca: there is no file nowhere.pem; expected one in PEM", "")
	})
}

// TestSilentHandshakesEnd has peers that begin no handshake, or do not finish it.
func TestSilentHandshakesEnd(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.FirstBytes = 50 * time.Millisecond }, mustParse(t, "tls://127.0.0.1:0?auth=none"))
	for _, begin := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
		conn, err := net.Dial("tcp", s.endpoints[0].Host)
		must(t, err)
		conn.SetDeadline(time.Now().Add(testPatience))
		send(t, conn, begin)
		if got := readAll(t, conn); got != "" {
			t.Errorf("%q was answered with %q", begin, got)
		}
		conn.Close()
	}
	waitFor(t, func() error {
		if n := strings.Count(s.log.String(), "the peer did not begin to speak in time"); n != 2 {
			return fmt.Errorf("the log says so of %d peers; want 2", n)
		}
		return nil
	})
}

// TestHandshakesEndWithTheDaemon has a daemon stop while one is in the middle.
func TestHandshakesEndWithTheDaemon(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(l *limits) { l.FirstBytes, l.Drain = time.Hour, time.Hour }, mustParse(t, "tls://127.0.0.1:0?auth=none"))
	conn, err := net.Dial("tcp", s.endpoints[0].Host)
	must(t, err)
	defer conn.Close()
	send(t, conn, "\x16")
	waitFor(t, func() error {
		if s.meter.accepted.Load() == 0 {
			return errors.New("it has not been accepted")
		}
		return nil
	})
	must(t, s.stop(t.Context())) // or it would take an hour
}

// A fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1}
}
func (c *fakeConn) SetDeadline(time.Time) error { return nil }
func (c *fakeConn) Close() error                { c.closed = true; return nil }

// TestSlowHandshakesMakeRoom wants those to go who keep many waiting, and nobody else.
func TestSlowHandshakesMakeRoom(t *testing.T) {
	l := &tlsListener{}
	begin := func(from string, age time.Duration) *fakeConn {
		raw := &fakeConn{from: from}
		c := &tlsConn{raw: raw, listener: l}
		l.begin(c, time.Minute)
		if age > 0 {
			c.waits.Store(time.Now().Add(-age).UnixNano())
		}
		return raw
	}
	alone := begin("192.0.2.1", time.Hour)
	first := begin("192.0.2.2", 2*slowHandshake)
	var others []*fakeConn
	for i := range maxHandshakes - 2 {
		others = append(others, begin("192.0.2.2", time.Duration(i%2)*slowHandshake/2)) // they are busy, or have not waited for long
	}
	if alone.closed || first.closed {
		t.Fatal("one was closed while there was room")
	}
	last := begin("192.0.2.3", 0)
	if !first.closed || alone.closed || last.closed {
		t.Errorf("closed: the slowest of many %t, one alone %t, the newest %t; want the first alone", first.closed, alone.closed, last.closed)
	}
	for _, c := range others {
		if c.closed {
			t.Error("one that has just begun was closed")
		}
	}
	if len(l.shaking) != maxHandshakes+1 { // those that are closed end by themselves
		t.Errorf("%d are at it; want %d", len(l.shaking), maxHandshakes+1)
	}
}

// TestHostsOfTheCertificateAreThisMachine is the check of Host over TLS.
func TestHostsOfTheCertificateAreThisMachine(t *testing.T) {
	dir := t.TempDir()
	by := makeKeys(t, dir, time.Now())
	made, err := by.issue("box.example", []string{"box.example", "*.box.example", "127.0.0.1"}, time.Now())
	must(t, err)
	must(t, (&secretDir{path: dir}).add("box", made))
	s := startServer(t, "https://127.0.0.1:0?auth=none")
	keys := keysIn(dir)
	keys.Cert, keys.Key = pairFiles(dir, "box")
	turn, err := s.server.keys.prepare(settings{TLS: keys})
	must(t, err)
	turn()
	o := dialOptions{limits: defaultLimits(), tls: tlsSettings{CA: keys.CA}}
	for _, test := range []struct {
		host, origin string
		status       string
	}{
		{"box.example", "", "200"}, {"box.example:8443", "", "200"}, {"a.box.example", "", "200"}, {"localhost", "", "200"}, {"127.0.0.1", "", "200"},
		{"evil.example", "", "403"}, {"box.example.evil.example", "", "403"}, {"192.0.2.1", "", "403"}, {"", "", "400"},
		{"box.example", "https://box.example", "200"}, {"box.example", "http://box.example", "403"}, {"box.example", "https://evil.example", "403"},
	} {
		conn, err := dialTLS(t.Context(), s.endpoints[0], o)
		must(t, err)
		conn.SetDeadline(time.Now().Add(testPatience))
		head := "GET /healthz HTTP/1.1\r\nConnection: close\r\n"
		if test.host != "" {
			head += "Host: " + test.host + "\r\n"
		}
		if test.origin != "" {
			head += "Origin: " + test.origin + "\r\n"
		}
		send(t, conn, head+"\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 "+test.status) {
			t.Errorf("Host %q, Origin %q: %q; want %s", test.host, test.origin, line, test.status)
		}
		conn.Close()
	}
}

// copyKeys copies the files of a server over those of another, one after the other.
func copyKeys(t testing.TB, from, to string, names ...string) {
	t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(from, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, name), b, 0o600))
		later := time.Now().Add(time.Duration(len(b)) * time.Hour) // a file system may know seconds alone
		must(t, os.Chtimes(filepath.Join(to, name), later, later))
	}
}

// look has a keyring look at its files now.
func (k *keyring) look() *keys {
	k.mu.Lock()
	k.looked = time.Time{}
	k.mu.Unlock()
	return k.current()
}

func TestCertificatesAreReadAgain(t *testing.T) {
	var log logBuffer
	logger := newLogger(&log, formatText, levelDebug)
	defer logger.close()
	dir, next := t.TempDir(), t.TempDir()
	makeKeys(t, dir, time.Now())
	makeKeys(t, next, time.Now())
	k, err := newKeyring(keysIn(dir), logger)
	must(t, err)
	first := k.current()
	if k.look() != first {
		t.Error("files that have not changed were read again")
	}
	said := func(words string, want int) {
		t.Helper()
		waitFor(t, func() error {
			if n := strings.Count(log.String(), words); n != want {
				return fmt.Errorf("the log says %q %d times, want %d:\n%s", words, n, want, &log)
			}
			return nil
		})
	}
	const broken = "the files of TLS have changed and cannot be used"
	// The certificate is written before its key: nothing is said of what is there in between.
	copyKeys(t, next, dir, "server.pem")
	if k.look() != first {
		t.Error("half a pair was taken")
	}
	copyKeys(t, next, dir, "server-key.pem", "ca.pem")
	second := k.look()
	if second == first || bytes.Equal(second.certs[0].Raw, first.certs[0].Raw) {
		t.Error("a new pair was not taken")
	}
	said("the certificate was read again", 1)
	said(broken, 0)
	// A pair that stays broken is told of once, and the one before stays in force.
	must(t, os.WriteFile(filepath.Join(dir, "server.pem"), []byte("nothing"), 0o600))
	for range 3 {
		if k.look() != second {
			t.Error("a broken pair was taken")
		}
	}
	said(broken, 1)
	must(t, os.Remove(filepath.Join(dir, "server.pem")))
	for range 3 {
		k.look()
	}
	said(broken, 2)
	if _, err := k.prepare(settings{TLS: keysIn(dir)}); err == nil {
		t.Error("a reload takes files that are not there")
	}
	copyKeys(t, next, dir, "server.pem")
	if third := k.look(); third == second {
		t.Error("a pair that is whole again was not taken")
	}
	said("the certificate was read again", 2)
}

// TestConnectionsKeepTheirCertificate changes the certificate under a connection.
func TestConnectionsKeepTheirCertificate(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	makeKeys(t, dir, time.Now())
	makeKeys(t, next, time.Now())
	s := startServer(t, "tls://127.0.0.1:0?auth=none")
	turn, err := s.server.keys.prepare(settings{TLS: keysIn(dir)})
	must(t, err)
	turn()
	dialled := func(dir string) (caller, error) {
		return dial(t.Context(), s.endpoints[0], dialOptions{limits: defaultLimits(), tls: tlsSettings{CA: filepath.Join(dir, "ca.pem")}})
	}
	before, err := dialled(dir)
	must(t, err)
	defer before.close()
	checkSay(t, before, "before")
	copyKeys(t, next, dir, "server.pem", "server-key.pem")
	s.server.keys.look()
	after, err := dialled(next)
	must(t, err)
	defer after.close()
	checkSay(t, after, "after")
	checkSay(t, before, "still here")
}

func TestExpiryIsToldBefore(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		age   time.Duration // of the certificates
		words string
	}{
		{leafLife - expirySoon - 25*time.Hour, ""},
		{leafLife - 25*24*time.Hour, "warn  a certificate expires soon"},
		{leafLife + time.Hour, "error a certificate has expired"},
	} {
		var log logBuffer
		logger := newLogger(&log, formatText, levelInfo)
		dir := t.TempDir()
		makeKeys(t, dir, time.Now().Add(-test.age))
		k, err := newKeyring(keysIn(dir), logger)
		must(t, err)
		k.remind() // no more often than once a day
		k.mu.Lock()
		k.told = k.told.Add(-expiryTold)
		k.mu.Unlock()
		k.remind()
		logger.close()
		out, err := command(t, "config", "check", writeConfig(t, fmt.Sprintf("[tls]\ncert = %s\nkey = %s\n", quoteTOML(keysIn(dir).Cert), quoteTOML(keysIn(dir).Key))))
		if err != nil || strings.Contains(out, "server.pem expires on ") != (test.words != "") {
			t.Errorf("of certificates that are %v old config check says %q, %v", test.age, out, err)
		}
		want := 2
		if test.words == "" {
			want = 0
		}
		if n := strings.Count(log.String(), "a certificate "); n != want || !strings.Contains(log.String(), test.words) {
			t.Errorf("of certificates that are %v old the log says\n%s\nwant %q %d times", test.age, &log, test.words, want)
		}
	}
}

// TestFilesOfTLSAreChecked has what config check finds in them.
func TestFilesOfTLSAreChecked(t *testing.T) {
	dir := t.TempDir()
	makeKeys(t, dir, time.Now())
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) string {
		f, err := createSecret(at(name))
		must(t, err)
		_, err = f.WriteString(text)
		must(t, errors.Join(err, f.Close()))
		return at(name)
	}
	empty := write("empty.pem", "")
	garbled := write("garbled.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	locked := write("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	large := write("large.pem", strings.Repeat("# long\n", maxPEM/7+1))
	good := keysIn(dir)
	for _, test := range []struct {
		set   tlsSettings
		words string // "" for none
	}{
		{tlsSettings{Cert: good.Cert, Key: good.Key, ClientCA: good.ClientCA}, ""},
		{tlsSettings{Cert: good.Cert}, "tls.cert: there is no key for it"},
		{tlsSettings{Key: good.Key}, "tls.key: there is no certificate for it"},
		{tlsSettings{ClientCA: good.CA}, "tls.client_ca: there is no tls.cert beside it"},
		{tlsSettings{Cert: at("none.pem"), Key: good.Key}, "tls.cert: there is no file " + at("none.pem")},
		{tlsSettings{Cert: dir, Key: good.Key}, "tls.cert: " + dir + " is no file"},
		{tlsSettings{Cert: empty, Key: good.Key}, "tls.cert: there is no certificate in " + empty},
		{tlsSettings{Cert: good.Key, Key: good.Key}, "tls.cert: there is no certificate in " + good.Key},
		{tlsSettings{Cert: garbled, Key: good.Key}, "tls.cert: a certificate in " + garbled + " is broken"},
		{tlsSettings{Cert: large, Key: good.Key}, "tls.cert: " + large + " is larger than 1MiB"},
		{tlsSettings{Cert: good.Cert, Key: good.Cert}, "tls.key: there is no key in " + good.Cert},
		{tlsSettings{Cert: good.Cert, Key: locked}, "tls.key: the key in " + locked + " has a password"},
		{tlsSettings{Cert: good.Cert, Key: good.ClientKey}, "tls.key: the key in " + good.ClientKey + " is not that of the certificate in " + good.Cert},
		{tlsSettings{Cert: good.Cert, Key: good.Key, ClientCA: empty}, "tls.client_ca: there is no certificate in " + empty},
	} {
		err := checkTLS(settings{TLS: test.set}, origins{})
		if test.words == "" && err != nil || test.words != "" && (err == nil || !strings.Contains(err.Error(), test.words) || exitCode(err) != exitUsage) {
			t.Errorf("%+v: %v; want %q", test.set, err, test.words)
		}
	}
	for set, words := range map[tlsSettings]string{
		{CA: good.CA, ClientCert: good.ClientCert, ClientKey: good.ClientKey}: "",
		{CA: empty}:                   "tls.ca: there is no certificate in " + empty,
		{ClientCert: good.ClientCert}: "tls.client_cert: there is no key for it",
	} {
		from := origins{"tls.ca": "c.toml:2", "tls.client_cert": "c.toml:3", "tls.client_key": "c.toml:4"}
		if err := checkClientTLS(settings{TLS: set}, from); words == "" && err != nil || words != "" && (err == nil || !strings.HasPrefix(err.Error(), "c.toml:") || !strings.Contains(err.Error(), words)) {
			t.Errorf("%+v: %v; want %q", set, err, words)
		}
	}
	if _, err := servable(settings{Listen: []string{"https://127.0.0.1:0"}}, origins{"listen": "flag --listen"}); err == nil || !strings.Contains(hintFor(err), "ipcd tls init") {
		t.Errorf("an endpoint without a certificate: %v, hint %q", err, hintFor(err))
	}
}

// caConfig trusts the tests' authority and has no certificate of its own, for the standard library.
func caConfig(t testing.TB) *tls.Config {
	config := stockTLS(t)
	config.Certificates = nil
	return config
}

// TestTokensOverTLS has the clients of the standard library show a token: those without a certificate, and those whose certificate no
// rule lets in. What is not proven gets nothing.
func TestTokensOverTLS(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		name, rule, before string
		config             func(t testing.TB) *tls.Config
		code, status       int
	}{
		{"no certificate", "", errNoCert.Text, caConfig, codeUnproven, http.StatusUnauthorized},
		{"no certificate, and a rule for everybody", "[[rule]]\nallow = [\"*\"]\ncall = [\"Echo.*\"]\n", errNoCert.Text, caConfig, codeUnproven, http.StatusUnauthorized},
		{"a certificate without a rule", "", "no rule of the daemon lets cert:client in", stockTLS, codeDenied, http.StatusForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startProven(t, nil, "tls://127.0.0.1:0", "https://127.0.0.1:0")
			if test.rule != "" {
				s.obey(policyFrom(t, test.rule))
			}
			text := makeToken(t, s.gate.tokens, "ci", nil)
			for name, client := range map[string]func(io.ReadWriteCloser) *rpc.Client{"gob": rpc.NewClient, "jsonrpc": jsonrpc.NewClient} {
				conn, err := tls.Dial("tcp", s.endpoints[0].Host, test.config(t))
				must(t, err)
				c := client(conn)
				var said string
				var ok bool
				for _, method := range []string{"Echo.Say", "Ipcd.Ping", "Ipcd.Register", "No.Such"} {
					checkFault(t, name+": "+method+" before", c.Call(method, "x", &said), test.code, test.before)
				}
				checkFault(t, name+": a wrong token", c.Call(authenticateMethod, text+"x", &ok), codeUnproven, "not one of this daemon's")
				if err := c.Call(authenticateMethod, text, &ok); err != nil || !ok {
					t.Fatalf("%s: Authenticate = %v, %v; want true", name, ok, err)
				}
				if err := c.Call("Echo.Say", "hello", &said); err != nil || said != "hello" {
					t.Errorf("%s: Echo.Say = %q, %v", name, said, err)
				}
				var who struct{ Name, Transport string }
				if err := c.Call("Ipcd.Whoami", struct{}{}, &who); err != nil || who.Name != "token:ci" || who.Transport != "tls" {
					t.Errorf("%s: Whoami = %+v, %v; want token:ci", name, who, err)
				}
				c.Close()
			}
			transport := &http.Transport{TLSClientConfig: test.config(t)}
			defer transport.CloseIdleConnections()
			for _, e := range s.endpoints {
				for token, want := range map[string]string{"": test.before, "Bearer " + text: `"name":"token:ci"`, "Bearer x": "not one of this daemon's"} {
					r, err := http.NewRequest("POST", "https://"+e.Host+"/call/Ipcd.Whoami", strings.NewReader("null"))
					must(t, err)
					r.Header.Set("Content-Type", "application/json")
					if token != "" {
						r.Header.Set("Authorization", token)
					}
					answer, err := (&http.Client{Transport: transport}).Do(r)
					must(t, err)
					body, err := io.ReadAll(answer.Body)
					answer.Body.Close()
					status := map[string]int{"": test.status, "Bearer x": http.StatusUnauthorized}[token]
					if status == 0 {
						status = http.StatusOK
					}
					challenged := answer.Header.Get("WWW-Authenticate") != ""
					if err != nil || !strings.Contains(string(body), want) || answer.StatusCode != status || challenged != (status == http.StatusUnauthorized) {
						t.Errorf("%s with %.10q: %s %s, %v, challenge %q; want %d and %q", e, token, answer.Status, body, err, answer.Header.Get("WWW-Authenticate"), status, want)
					}
				}
			}
			if log := s.log.String(); strings.Contains(log, strings.TrimPrefix(text, tokenPrefix)) {
				t.Errorf("the log has the token:\n%s", log)
			}
		})
	}
}

// TestTokensAndCertificates has a certificate that a rule lets in show a token: from then on it is the holder of that, and no more. One
// that a rule denies all is not asked for a token.
func TestTokensAndCertificates(t *testing.T) {
	t.Chdir(t.TempDir())
	s := startProven(t, nil, "tls://127.0.0.1:0", "https://127.0.0.1:0")
	s.obey(policyFrom(t, "[[rule]]\nallow = [\"cert:client\"]\ncall = [\"Trial.*\"]\n[[rule]]\ndeny = [\"token:ci\"]\ncall = [\"Trial.*\"]\n"))
	text := makeToken(t, s.gate.tokens, "ci", nil)
	c, err := dial(t.Context(), s.endpoints[0], asTest(t))
	must(t, err)
	defer c.close()
	must(t, ask(c, "Trial.Slow", 0, nil))
	checkFault(t, "what no rule gives the certificate", ask(c, "Echo.Say", "x", nil), codeDenied, "cert:client at ")
	must(t, ask(c, authenticateMethod, text, nil))
	var me peer
	if must(t, ask(c, "Ipcd.Whoami", nil, &me)); me.Name != "token:ci" {
		t.Errorf("with both it is %q; want token:ci", me.Name)
	}
	checkSay(t, c, "hello")
	checkFault(t, "what the token may not", ask(c, "Trial.Slow", 0, nil), codeDenied, "the holder of the token ci")

	o := asTest(t)
	o.token = func() (string, error) { return text, nil }
	for _, e := range s.endpoints { // ours shows both, if it has both
		both, err := dial(t.Context(), e, o)
		must(t, err)
		if must(t, ask(both, "Ipcd.Whoami", nil, &me)); me.Name != "token:ci" {
			t.Errorf("%s: with both our client is %q; want token:ci", e, me.Name)
		}
		both.close()
	}

	open, err := dial(t.Context(), s.endpoints[0], asTest(t))
	must(t, err)
	defer open.close()
	must(t, ask(open, "Trial.Slow", 0, nil))
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: stockTLS(t)}}
	defer web.CloseIdleConnections()
	whoami := func(text string) string {
		t.Helper()
		r, err := http.NewRequest("POST", "https://"+s.endpoints[1].Host+"/call/Ipcd.Whoami", strings.NewReader("null"))
		must(t, err)
		r.Header.Set("Content-Type", "application/json")
		if text != "" {
			r.Header.Set("Authorization", "Bearer "+text)
		}
		reused := false
		answer, err := web.Do(r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})))
		must(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		return fmt.Sprint(reused, " ", string(body))
	}
	if got := whoami(""); !strings.Contains(got, "cert:client") {
		t.Errorf("over HTTP with the certificate: %s", got)
	}
	if got := whoami(text); !strings.HasPrefix(got, "true ") || !strings.Contains(got, "token:ci") {
		t.Errorf("over HTTP with both: %s; want token:ci, on the same connection", got)
	}

	s.obey(policyFrom(t, "[[rule]]\ndeny = [\"cert:client\"]\n"))
	checkFault(t, "a token of a certificate that is locked out, on an open connection", ask(open, authenticateMethod, text, nil), codeDenied, "denies all to cert:client")
	checkFault(t, "its call behind that", ask(open, "Ipcd.Ping", nil, nil), codeDenied, "cert:client at ")
	if got := whoami(text); !strings.HasPrefix(got, "true ") || !strings.Contains(got, "denies all to cert:client") {
		t.Errorf("over HTTP, on an open connection, the token of a certificate that is locked out: %s", got)
	}
	for _, e := range s.endpoints {
		denied, err := dial(t.Context(), e, o)
		if err == nil {
			err = ask(denied, "Ipcd.Whoami", nil, &me)
			denied.close()
		}
		checkFault(t, "a certificate that is locked out, at "+e.String(), err, codeDenied, "denies all to cert:client")
	}
}

// TestUnprovenOverTLS wants those who are at it to be counted, and to be closed in time.
func TestUnprovenOverTLS(t *testing.T) {
	s := startProven(t, func(l *limits) { l.MaxUnauthenticated = 1 }, "tls://127.0.0.1:0")
	first, err := tls.Dial("tcp", s.endpoints[0].Host, caConfig(t))
	must(t, err)
	defer first.Close()
	send(t, first, `{"id":1,"method":"Echo.Say","params":["x"]}`+"\n")
	line, err := bufio.NewReader(first).ReadString('\n')
	if err != nil || !strings.Contains(line, "-32008") {
		t.Errorf("the first one is told %s, %v", line, err)
	}
	let, err := dial(t.Context(), s.endpoints[0], asTest(t))
	must(t, err)
	defer let.close()
	checkFault(t, "one whose certificate no rule lets in counts as well", ask(let, "Ipcd.Ping", nil, nil), codeDenied, "has shown no token")
	readAll(t, first) // it has given way

	soon := startProven(t, func(l *limits) { l.FirstBytes = 300 * time.Millisecond }, "tls://127.0.0.1:0")
	late, err := tls.Dial("tcp", soon.endpoints[0].Host, caConfig(t))
	if err != nil { // this machine was slow, and it ended in the handshake
		return
	}
	defer late.Close()
	late.SetDeadline(time.Now().Add(testPatience))
	if _, err := io.Copy(io.Discard, late); isTimeout(err) {
		t.Error("who shows no token stays")
	}
}

// A countedPace is a pacer that knows whether a turn is on.
type countedPace struct {
	has   atomic.Bool
	turns atomic.Int32
}

func (p *countedPace) take(func()) {
	if !p.has.Swap(true) {
		p.turns.Add(1)
	}
}

func (p *countedPace) end() { p.has.Store(false) }

// A pacedConn complains of reads in a turn.
type pacedConn struct {
	net.Conn
	t *testing.T
	p *countedPace
}

func (c pacedConn) Read(b []byte) (int, error) {
	if c.p.has.Load() {
		c.t.Error("a handshake waits for its peer in a turn")
	}
	return c.Conn.Read(b)
}

// What a handshake takes of the processors has a turn, which is over while it waits, behind it, and when it has failed.
func TestHandshakesHaveTurns(t *testing.T) {
	keys, err := newKeyring(testKeys(t), newLogger(&logBuffer{}, formatText, levelError))
	must(t, err)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer raw.Close()
	l := &tlsListener{Listener: raw, keys: keys, scheme: "tls"}
	for name, client := range map[string]func(conn net.Conn){
		"one that succeeds": func(conn net.Conn) {
			c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			c.Handshake()
			c.Write([]byte("a"))
		},
		"one that the client gives up": func(conn net.Conn) { tls.Client(conn, &tls.Config{ServerName: "nobody"}).Handshake() },
		"one that is none":             func(conn net.Conn) { conn.Write([]byte{0x16, 3, 1, 0, 1, 0}) },
		"one that ends":                func(conn net.Conn) {},
		"another protocol":             func(conn net.Conn) { conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", raw.Addr().String())
			must(t, err)
			done := make(chan bool)
			go func() {
				defer close(done)
				client(conn)
				conn.(*net.TCPConn).CloseWrite()
			}()
			accepted, err := l.Accept()
			must(t, err)
			c, p := accepted.(*tlsConn), &countedPace{}
			c.raw = pacedConn{c.raw, t, p}
			c.paceBy(p)
			err = c.shake(testPatience)
			if p.has.Load() || c.pace != nil || p.turns.Load() == 0 {
				t.Errorf("after %d turns, with %v, one is on: %v", p.turns.Load(), err, p.has.Load())
			}
			if well := name == "one that succeeds"; (err == nil) != well {
				t.Errorf("the handshake ends with %v", err)
			} else if well {
				turns := p.turns.Load()
				if _, err := c.Read(make([]byte, 1)); err != nil || p.turns.Load() != turns {
					t.Errorf("behind the handshake there is %v, in turns of it: %d", err, p.turns.Load()-turns)
				}
			}
			c.Close()
			receive(t, done)
			conn.Close()
		})
	}
	s := startServer(t, "tls://127.0.0.1:0")
	s.foreman.tick.Add(1) // who calls in the first tick is not noted
	c, err := dial(t.Context(), s.endpoints[0], asTest(t))
	must(t, err)
	defer c.close()
	s.foreman.mu.Lock()
	defer s.foreman.mu.Unlock()
	if s.shaking.allowance == 0 {
		t.Error("the handshakes of the server have no turns")
	}
}
