package main

// This file owns the certificates of the tests: an authority with a server and a client, as "ipcd tls init" makes them.

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// testKeysDir is where they are, once a test has needed them; removeTestKeys removes it after the last one.
var testKeysDir struct {
	sync.Mutex
	path string
}

func removeTestKeys() {
	testKeysDir.Lock()
	defer testKeysDir.Unlock()
	if testKeysDir.path != "" {
		os.RemoveAll(testKeysDir.path)
	}
}

// testKeys are the settings of a daemon that has the certificate of 127.0.0.1 and takes those of its authority, and of the client
// cert:client of that.
func testKeys(t testing.TB) tlsSettings {
	t.Helper()
	testKeysDir.Lock()
	defer testKeysDir.Unlock()
	if testKeysDir.path == "" {
		dir, err := os.MkdirTemp("", "keys")
		must(t, err)
		testKeysDir.path = dir
		makeKeys(t, dir, time.Now())
	}
	return keysIn(testKeysDir.path)
}

// makeKeys makes an authority, a server and a client at that time.
func makeKeys(t testing.TB, dir string, now time.Time) *authority {
	t.Helper()
	files, err := openSecretDir(dir)
	must(t, err)
	by, made, err := newAuthority("the tests", now)
	must(t, err)
	must(t, files.add(authorityName, made))
	for name, hosts := range map[string][]string{"server": {"localhost", "127.0.0.1", "::1"}, "client": nil} {
		pair, err := by.issue(name, hosts, now)
		must(t, err)
		must(t, files.add(name, pair))
	}
	return by
}

// keysIn are the settings for what makeKeys has made.
func keysIn(dir string) tlsSettings {
	at := func(name string) string { return filepath.Join(dir, name) }
	return tlsSettings{Cert: at("server.pem"), Key: at("server-key.pem"), ClientCA: at("ca.pem"),
		CA: at("ca.pem"), ClientCert: at("client.pem"), ClientKey: at("client-key.pem")}
}

// optionsFor are those of a client that knows the authority of the tests and is nobody to it.
func optionsFor(t testing.TB, e endpoint) dialOptions {
	t.Helper()
	o := dialOptions{limits: defaultLimits()}
	if e.isTLS() {
		o.tls = tlsSettings{CA: testKeys(t).CA}
	}
	return o
}
