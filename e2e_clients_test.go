package main

// This file owns calls from programs that we did not write: the standard libraries of Go, Node.js
// and Python as a user has them, curl, and public JSON-RPC clients. Those that want Unix are in
// e2e_clients_unix_test.go.

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startForClients serves a socket, a port, and one for HTTP alone; it returns the path and the ports.
func startForClients(t *testing.T) (s *testServer, socket, port, web string) {
	t.Helper()
	s = startServer(t, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none", "http://127.0.0.1:0?auth=none")
	_, port, _ = strings.Cut(s.endpoints[1].Host, ":")
	_, web, _ = strings.Cut(s.endpoints[2].Host, ":")
	return s, s.endpoints[0].Path, port, web
}

// checkLines compares what a program printed with the file of what it should.
func checkLines(t testing.TB, got, file string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "clients", file))
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = strings.TrimRight(g[i], " ")
		}
		if i < len(w) {
			b = strings.TrimRight(w[i], " ")
		}
		if a != b {
			t.Errorf("line %d is %q; want %q", i+1, a, b)
		}
	}
}

func TestClientsOfNode(t *testing.T) {
	s, socket, port, web := startForClients(t)
	got := printed(t, exec.Command(needTool(t, "node"), "testdata/clients/node.js", socket, port, web))
	checkLines(t, got, "node.want")
	s.idle()
}

// startForTLS serves JSON-RPC and HTTP over TLS to cert:client; it returns the ports, and the path of a file in testdata/clients.
func startForTLS(t *testing.T, program string) (s *testServer, keys tlsSettings, port, web, path string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "clients", program))
	must(t, err)
	s = startServer(t, "tls://127.0.0.1:0", "https://127.0.0.1:0")
	dir, err := os.Getwd()
	must(t, err)
	pol := certRule(t, "client")
	t.Chdir(dir)
	s.obey(pol)
	_, port, _ = strings.Cut(s.endpoints[0].Host, ":")
	_, web, _ = strings.Cut(s.endpoints[1].Host, ":")
	return s, testKeys(t), port, web, path
}

func TestNodeOverTLS(t *testing.T) {
	node := needTool(t, "node")
	s, keys, port, web, program := startForTLS(t, "tls.js")
	got := printed(t, exec.Command(node, program, keys.CA, keys.ClientCert, keys.ClientKey, port, web))
	checkLines(t, got, "tls.want")
	s.idle()
}

// A client that writes on behind its broken request is still told of it.
func TestNodeIsToldOfABrokenRequest(t *testing.T) {
	s, socket, port, _ := startForClients(t)
	got := printed(t, exec.Command(needTool(t, "node"), "testdata/clients/broken.js", socket, port))
	checkLines(t, got, "broken.want")
	s.idle()
}

func TestClientsOfFetch(t *testing.T) {
	if underWine {
		t.Skip("under Wine fetch connects to no server at all, Node's own included")
	}
	s, _, port, web := startForClients(t)
	checkLines(t, printed(t, exec.Command(needTool(t, "node"), "testdata/clients/fetch.js", port, web)), "fetch.want")
	s.idle()
}

// A library that was written for editors is a provider as it is.
func TestProviderOfNPM(t *testing.T) {
	node, modules := needTool(t, "node"), filepath.Join(needEnv(t, "IPCD_NPM_DIR"), "node_modules")
	s := startServer(t, localEndpoint(t).String())
	cmd := exec.Command(node, "testdata/clients/provider.js", s.endpoints[0].Path)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	end, log := startExample(t, cmd)
	said := func(text string) {
		t.Helper()
		waitFor(t, func() error {
			if !strings.Contains(log.String(), text) {
				return errors.New("it has not said " + text)
			}
			return nil
		})
	}
	said("registered")
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	for _, row := range []struct {
		method    string
		arg, want any
	}{
		{"Code.Count", "one two three", 3.0},
		{"Code.Hello", map[string]string{"name": "Ada"}, "hello, Ada"},
		{"Code.Nothing", nil, nil},
		{"Code.Relay", "ä", "ä"},
	} {
		var got any
		if err := ask(c, row.method, row.arg, &got); err != nil || got != row.want {
			t.Errorf("%s = %v, %v; want %v", row.method, got, err, row.want)
		}
	}
	if f := checkCode(t, "Code.Fail", ask(c, "Code.Fail", "a", nil), 7, "no paper"); string(f.Data) != `{"tray":2}` {
		t.Errorf("the data of its error is %s", f.Data)
	}
	asks := exec.Command(node, "testdata/clients/progress.js", s.endpoints[0].Path)
	asks.Env = cmd.Env
	checkLines(t, printed(t, asks), "progress.want")
	ctx, cancel := context.WithCancel(t.Context())
	done := inBackground(ctx, c, "Code.Wait", "first")
	said("first waits")
	cancel()
	checkCode(t, "Code.Wait", receive(t, done), codeCancelled, "cancelled")
	said("first was cancelled")
	lost := inBackground(t.Context(), c, "Code.Wait", "last")
	said("last waits")
	end()
	checkCode(t, "what it had", receive(t, lost), codeGone, "has gone")
}

func TestClientsOfNPM(t *testing.T) {
	node, modules := needTool(t, "node"), filepath.Join(needEnv(t, "IPCD_NPM_DIR"), "node_modules")
	s, socket, port, web := startForClients(t)
	cmd := exec.Command(node, "testdata/clients/npm.js", socket, port, web)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	checkLines(t, printed(t, cmd), "npm.want")
	s.idle()
}
