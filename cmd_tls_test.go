package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWhatTLSInitPrintsCanBePasted does what it says: the lines into the configuration of a daemon, the command of a client into a
// shell. It does so in a directory whose name has to be quoted.
func TestWhatTLSInitPrintsCanBePasted(t *testing.T) {
	home := filepath.Join(t.TempDir(), `it's "mine"`)
	if localScheme == "npipe" {
		home = filepath.Join(t.TempDir(), "it's mine") // no file there has a quotation mark
	}
	must(t, os.Mkdir(home, 0o700))
	t.Chdir(home)
	out, err := command(t, "tls", "init", "--dir", "keys", "--name", "127.0.0.1")
	must(t, err)
	issued, err := command(t, "tls", "issue", "--dir", "keys", "ada")
	must(t, err)
	var lines []string
	clients := map[string]string{}
	for line := range strings.Lines(out + issued) {
		if words, isNote := strings.CutPrefix(line, "ipcd: note: "); !isNote {
			lines = append(lines, line)
		} else if _, call, found := strings.Cut(words, "who calls so: "); found {
			name := map[bool]string{true: "ada", false: "client"}[strings.Contains(call, "ada.pem")]
			clients[name] = strings.TrimSuffix(call, "\n")
		}
	}
	file := writeConfig(t, strings.Join(lines, ""))
	set, from, err := loadSettings(file, true, noEnv, nil)
	must(t, err)
	must(t, set.resolve(from))
	must(t, checkTLS(set, from))
	s := startServer(t, "tls://127.0.0.1:0")
	s.obey(&set.policy)
	turn, err := s.server.keys.prepare(set)
	must(t, err)
	turn()
	_, port, _ := net.SplitHostPort(s.endpoints[0].Host)
	if len(clients) != 2 {
		t.Fatalf("the commands of clients are %q; want two", clients)
	}
	for name, line := range clients {
		line = strings.NewReplacer("HOST", "127.0.0.1", ":8443", ":"+port).Replace(line)
		words, _, err := cutWords(line, "")
		must(t, err)
		if got, err := command(t, words[1:]...); err != nil || got != "hello\n" {
			t.Errorf("%s printed %q, %v", line, got, err)
		}
		words = append(slices.DeleteFunc(words, func(word string) bool { return word == "hello" || word == "call" }), "whoami")
		if got, err := command(t, words[1:]...); err != nil || !strings.HasPrefix(got, "cert:"+name+" at 127.0.0.1:") || !strings.HasSuffix(got, ", over tls\n") {
			t.Errorf("whoami printed %q, %v; want cert:%s", got, err, name)
		}
		if got, err := command(t, append(words[1:len(words)-1], "whoami", "--server")...); err != nil || !strings.HasPrefix(got, "cert:127.0.0.1 at 127.0.0.1:"+port) {
			t.Errorf("whoami --server printed %q, %v", got, err)
		}
	}
}

// TestMadeCertificates is what other programs find in them.
func TestMadeCertificates(t *testing.T) {
	now := time.Now()
	by, _, err := newAuthority("the tests", now)
	must(t, err)
	if c := by.cert; !c.IsCA || !c.MaxPathLenZero || c.MaxPathLen != 0 || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(c.SubjectKeyId) == 0 {
		t.Errorf("the authority is %+v", c)
	}
	pool := poolOf([]*x509.Certificate{by.cert})
	for _, hosts := range [][]string{nil, {"box.example", "192.0.2.7", "2001:db8::7"}} {
		made, err := by.issue("x", hosts, now)
		must(t, err)
		list, err := parseCertificates("", "", made.cert)
		must(t, err)
		usage := x509.ExtKeyUsageClientAuth
		if hosts != nil {
			usage = x509.ExtKeyUsageServerAuth
		}
		c := list[0]
		if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != usage || c.NotAfter.Sub(now) > leafLife || c.SerialNumber.BitLen() < 64 {
			t.Errorf("the certificate for %q is %+v", hosts, c)
		}
		if _, err := c.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("the certificate for %q: %v", hosts, err)
		}
		for _, host := range hosts {
			if err := c.VerifyHostname(host); err != nil {
				t.Error(err)
			}
		}
		// Whoever has a certificate can make none: the authority allows for no other between it and the last.
		pair, err := tls.X509KeyPair(made.cert, made.key)
		must(t, err)
		_, below, err := sign(&x509.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)}, &authority{c, pair.PrivateKey.(*ecdsa.PrivateKey)})
		must(t, err)
		list, err = parseCertificates("", "", below.cert)
		must(t, err)
		between := poolOf([]*x509.Certificate{c})
		if _, err := list[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			t.Error("a certificate was taken that no authority has made")
		}
	}
	late := &authority{cert: &x509.Certificate{NotAfter: now.Add(time.Hour), Raw: by.cert.Raw, RawSubject: by.cert.RawSubject, Subject: by.cert.Subject, IsCA: true, BasicConstraintsValid: true, PublicKey: by.cert.PublicKey}, key: by.key}
	made, err := late.issue("x", nil, now)
	must(t, err)
	if list, err := parseCertificates("", "", made.cert); err != nil || list[0].NotAfter.After(late.cert.NotAfter) {
		t.Errorf("a certificate lives longer than its authority: %v, %v", list[0].NotAfter, err)
	}
}

// TestNothingIsLeftWhereNothingIsMade has a file in the way.
func TestNothingIsLeftWhereNothingIsMade(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "client.pem"), []byte("mine"), 0o600))
	_, err := command(t, "tls", "init", "--dir", dir)
	checkRefused(t, "tls init", err, "client.pem already, and nothing was changed", "--dir")
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("there is %v, %v; want client.pem alone", list, err)
	}
	for _, name := range []string{"", ".ada", "-ada", "a/b", `a\b`, "a b", "ä", strings.Repeat("x", maxCommonName+1)} {
		if checkPairName(name) == nil {
			t.Errorf("%q is taken for the name of a file", name)
		}
	}
	for _, host := range []string{"", "a b", "-a.example", "a..b", "a.", "tls://a", "a:1", "[::1]", strings.Repeat("x", 64) + ".example", strings.Repeat("x.", 127)} {
		if checkHost(host) == nil {
			t.Errorf("%q is taken for a host", host)
		}
	}
	for _, host := range []string{"box", "box.example", "*.example", "192.0.2.7", "::1", "xn--bcher-kva.example", "a_b"} {
		if f := checkHost(host); f != nil {
			t.Errorf("%q: %v", host, f)
		}
	}
}

// TestDoctorLooksAtCertificates has them end soon, or long ago, or fit no key.
func TestDoctorLooksAtCertificates(t *testing.T) {
	t.Chdir(t.TempDir())
	s := startServer(t, localEndpoint(t).String())
	for name, test := range map[string]struct {
		spoil func(t testing.TB, set *tlsSettings)
		age   time.Duration
		want  []string
		not   string
	}{
		"for long":      {want: []string{"ok +certificate +.*server.pem is valid until ", "ok +certificate +.*ca.pem is valid until ", "ok +certificate +.*client.pem is valid until "}, not: "(warning|error) +certificate"},
		"not for long":  {age: leafLife - 20*24*time.Hour, want: []string{"warning +certificate +the certificate of CN=client in .*client.pem expires on ", "warning +certificate +the certificate of .* in .*server.pem expires on ", "ok +certificate +.*ca.pem is valid until "}},
		"over":          {age: leafLife + time.Hour, want: []string{"error +certificate +the certificate of .* in .*server.pem has expired, on "}},
		"not begun yet": {age: -48 * time.Hour, want: []string{"error +certificate +the certificate of .* in .*server.pem is valid from .* on alone"}},
		"of another key": {spoil: func(t testing.TB, set *tlsSettings) { set.Key = set.ClientKey },
			want: []string{"error +certificate +.*toml:\\d+: tls.key: the key in .*client-key.pem is not that of the certificate in .*server.pem"}},
		"not there": {spoil: func(t testing.TB, set *tlsSettings) { set.CA += "x" }, want: []string{"error +certificate +.*toml:\\d+: tls.ca: there is no file .*ca.pemx"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			makeKeys(t, dir, time.Now().Add(-test.age))
			set := keysIn(dir)
			if test.spoil != nil {
				test.spoil(t, &set)
			}
			var lines strings.Builder
			lines.WriteString("[tls]\n")
			for key, file := range map[string]string{"cert": set.Cert, "key": set.Key, "client_ca": set.ClientCA, "ca": set.CA, "client_cert": set.ClientCert, "client_key": set.ClientKey} {
				lines.WriteString(key + " = " + quoteTOML(file) + "\n")
			}
			out, _ := command(t, "doctor", "-e", s.endpoints[0].String(), "--config", writeConfig(t, lines.String()))
			for _, want := range test.want {
				if !regexp.MustCompile("(?m)^" + want).MatchString(out) {
					t.Errorf("there is no %q in\n%s", want, out)
				}
			}
			if test.not != "" && regexp.MustCompile("(?m)^"+test.not).MatchString(out) {
				t.Errorf("there is %q in\n%s", test.not, out)
			}
		})
	}
	if out, _ := command(t, "doctor", "-e", s.endpoints[0].String()); strings.Contains(out, "certificate") {
		t.Errorf("where there are none it says\n%s", out)
	}
}
