//go:build unix

package main

// This file owns calls from programs that only Unix is sure to have, or that want a socket in the
// file system. e2e_clients_test.go has the others.

import (
	"encoding/json"
	"fmt"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestClientsOfTheStandardLibrary(t *testing.T) {
	s, socket, port, web := startForClients(t)
	address := "127.0.0.1:" + port
	for name, dial := range map[string]func() (*rpc.Client, error){
		"rpc.Dial unix":     func() (*rpc.Client, error) { return rpc.Dial("unix", socket) },
		"rpc.Dial tcp":      func() (*rpc.Client, error) { return rpc.Dial("tcp", address) },
		"rpc.DialHTTP tcp":  func() (*rpc.Client, error) { return rpc.DialHTTP("tcp", address) },
		"rpc.DialHTTP http": func() (*rpc.Client, error) { return rpc.DialHTTP("tcp", "127.0.0.1:"+web) },
		"jsonrpc.Dial unix": func() (*rpc.Client, error) { return jsonrpc.Dial("unix", socket) },
		"jsonrpc.Dial tcp":  func() (*rpc.Client, error) { return jsonrpc.Dial("tcp", address) },
	} {
		c, err := dial()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var text string
		var parcel TrialParcel
		if err := c.Call("Echo.Say", name, &text); err != nil || text != name {
			t.Errorf("%s: Echo.Say = %q, %v", name, text, err)
		}
		if err := c.Call("Trial.Parcel", TrialParcel{Name: name, Age: 36}, &parcel); err != nil || parcel.Name != name || parcel.Age != 36 {
			t.Errorf("%s: Trial.Parcel = %v, %v", name, parcel, err)
		}
		if err := c.Call("Echo.Sai", name, &text); err == nil || !strings.Contains(err.Error(), "there is no method Echo.Sai") {
			t.Errorf("%s: Echo.Sai = %v", name, err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: Close() = %v", name, err)
		}
	}
	s.idle()
}

// TestCurlOverTLS has the client that most people have.
func TestCurlOverTLS(t *testing.T) {
	curl := needTool(t, "curl")
	s, keys, port, web, _ := startForTLS(t, "")
	run := func(port string, args ...string) string {
		args = append([]string{"-sS", "--cacert", keys.CA, "https://localhost:" + port + "/call/Echo.Say", "-H", "Content-Type: application/json", "-d", `"hello"`}, args...)
		out, _ := exec.Command(curl, args...).CombinedOutput()
		return string(out)
	}
	us := []string{"--cert", keys.ClientCert, "--key", keys.ClientKey}
	for _, port := range []string{port, web} {
		if got := run(port, us...); got != "\"hello\"\n" {
			t.Errorf("curl printed %q", got)
		}
		if got := run(port); !strings.Contains(got, errNoCert.Text) {
			t.Errorf("without a certificate curl printed %q", got)
		}
	}
	if got := run(web, append(us, "--tls-max", "1.2")...); !strings.HasPrefix(got, "curl: (35)") {
		t.Errorf("with TLS 1.2 curl printed %q", got)
	}
	s.idle()
}

// TestOpenSSLOverTLS has a client that ends TLS before it ends TCP, and shows what this end has shown.
func TestOpenSSLOverTLS(t *testing.T) {
	openssl := needTool(t, "openssl")
	s, keys, port, _, _ := startForTLS(t, "")
	cmd := exec.Command(openssl, "s_client", "-connect", "127.0.0.1:"+port, "-CAfile", keys.CA, "-cert", keys.ClientCert, "-key", keys.ClientKey,
		"-verify_return_error", "-verify_ip", "127.0.0.1", "-ign_eof")
	cmd.Stdin = strings.NewReader(sayRequest + "\n" + "]\n") // the second one ends the connection, once the first one is answered
	out, _ := cmd.CombinedOutput()
	for _, want := range []string{sayAnswer, `"code":-32700`, "TLSv1.3", "Verify return code: 0 (ok)"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl s_client printed no %q, but\n%s", want, out)
		}
	}
	s.idle()
}

func TestClientsOfPython(t *testing.T) {
	python := needTool(t, "python3")
	s, _, port, web := startForClients(t)
	for _, port := range []string{port, web} {
		got := printed(t, exec.Command(python, "testdata/clients/python.py", port))
		checkLines(t, got, "python.want")
	}
	s.idle()
}

// TestClientFromTheDocument runs a client that was written from docs/protocol.md alone.
func TestClientFromTheDocument(t *testing.T) {
	echo := localEndpoint(t).withProto(protoEcho)
	s := startServer(t, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none", "http://127.0.0.1:0?auth=none", echo.String())
	args := []string{"testdata/clients/protocol.py"}
	for _, e := range s.endpoints {
		args = append(args, e.String())
	}
	got := printed(t, exec.Command(needTool(t, "python3"), append(args, "ipcd")...))
	checkLines(t, got, "protocol.want")
	s.idle()
}

func TestClientsOfCurl(t *testing.T) {
	curl := needTool(t, "curl")
	s, socket, port, web := startForClients(t)
	big := filepath.Join(t.TempDir(), "big.json")
	if err := os.WriteFile(big, []byte(`"`+strings.Repeat("x", 2<<20)+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	typed := []string{"-H", "Content-Type: application/json"}
	status := []string{"-o", os.DevNull, "-w", "%{http_code} %{num_connects}\n"}
	size := []string{"-o", os.DevNull, "-w", "%{size_download} %{http_code} %{num_connects}\n"}
	for _, place := range []struct {
		name  string
		reach []string
		at    string
		host  string // the status for a Host that is not this machine's
		form  string // the status for what is not declared to be JSON
	}{
		{"unix", []string{"--unix-socket", socket}, "http://localhost", "200 1\n", "200 1\n"},
		{"tcp", nil, "http://localhost:" + port, "403 1\n", "415 1\n"},
		{"http", nil, "http://127.0.0.1:" + web, "403 1\n", "415 1\n"},
	} {
		call, rpc := place.at+"/call/", place.at+"/rpc"
		say := []string{"-d", `"hello"`, call + "Echo.Say"}
		tests := []struct {
			name, want string
			args       []string
		}{
			{"a bare call", "\"hello\"\n", slices.Concat(typed, say)},
			{"a bare call of no type", place.form, slices.Concat(status, say)},
			{"an object", "3\n", slices.Concat(typed, []string{"-d", `{"n":1,"place":2}`, call + "Trial.Old"})},
			{"no argument", "\"pong\"\n", slices.Concat(typed, []string{"-X", "POST", call + "Ipcd.Ping"})},
			{"JSON-RPC", sayAnswer, slices.Concat(typed, []string{"-d", sayRequest, rpc})},
			{"a batch", "[" + strings.TrimSpace(sayAnswer) + "]\n", slices.Concat(typed, []string{"-d", "[" + sayRequest + "]", rpc})},
			{"a notification", "204 1\n", slices.Concat(typed, status, []string{"-d", `{"jsonrpc":"2.0","method":"Ipcd.Ping"}`, rpc})},
			{"health", "ok\n", []string{place.at + "/healthz"}},
			{"100-continue", "2097155 200 1\n", slices.Concat(typed, size, []string{"-H", "Expect: 100-continue", "--data-binary", "@" + big, call + "Echo.Say"})},
			{"in chunks", "2097155 200 1\n", slices.Concat(typed, size, []string{"-H", "Transfer-Encoding: chunked", "--data-binary", "@" + big, call + "Echo.Say"})},
			{"keep-alive", "200 1\n200 0\n", slices.Concat(typed, status, say, []string{"-o", os.DevNull, call + "Echo.Say"})},
			{"HTTP/1.0", "200 1\n", slices.Concat(typed, status, say, []string{"--http1.0"})},
			{"no such method", "404 1\n", slices.Concat(typed, status, []string{"-d", `"a"`, call + "Echo.Sai"})},
			{"a wrong argument", "400 1\n", slices.Concat(typed, status, []string{"-d", "1", call + "Echo.Say"})},
			{"no JSON", "400 1\n", slices.Concat(typed, status, []string{"-d", "hello", call + "Echo.Say"})},
			{"GET", "405 1\n", slices.Concat(typed, status, []string{call + "Echo.Say"})},
			{"a deadline", "504 1\n", slices.Concat(typed, status, []string{"-H", "Ipcd-Timeout: 1ms", "-d", `"a"`, call + "Trial.Block"})},
			{"a preflight", "403 1\n", slices.Concat(typed, status, say, []string{"-X", "OPTIONS", "-H", "Origin: http://example.com", "-H", "Access-Control-Request-Method: POST"})},
			{"a page of another site", "403 1\n", slices.Concat(typed, status, say, []string{"-H", "Origin: http://example.com"})},
			{"a link of another site", "403 1\n", slices.Concat(typed, status, say, []string{"-H", "Referer: http://example.com/"})},
			{"DNS rebinding", place.host, slices.Concat(typed, status, say, []string{"-H", "Host: example.com"})},
		}
		for _, test := range tests {
			t.Run(place.name+", "+test.name, func(t *testing.T) {
				args := append([]string{"-sS", "--max-time", "20"}, place.reach...)
				if got := printed(t, exec.Command(curl, append(args, test.args...)...)); got != test.want {
					t.Errorf("curl printed %q; want %q", got, test.want)
				}
			})
		}
	}
	s.idle()
}

// Workers that know nothing but their channel answer in parts, and wait for whoever takes them.
func TestWorkersAnswerInParts(t *testing.T) {
	for _, row := range []struct{ tool, file string }{{"node", "worker.js"}, {"python3", "worker.py"}, {"sh", "worker.sh"}} {
		t.Run(row.tool, func(t *testing.T) {
			s := startServerWith(t, func(l *limits) { l.StreamWindow = 1000 }, localEndpoint(t))
			program, err := filepath.Abs("testdata/clients/" + row.file)
			must(t, err)
			s.force.employ(workersOf(t, workplace(t, s), fmt.Sprintf("[[worker]]\nname = \"count\"\ncommand = [%q, %q]\nservices = [\"Count\"]\n", needTool(t, row.tool), program)))
			c := s.connect()
			method := "Count" + filepath.Ext(row.file)
			send(t, c, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":[2]}`)
			wantLines(t, c, `"id":1,"result":2`)
			const parts = 100 // five times what the provider may send without waiting
			send(t, c, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"%s","params":[%d],"parts":"t","window":1}`, method, parts))
			for n := range parts {
				var m struct{ Params struct{ Value string } }
				line := readLine(t, c)
				if must(t, json.Unmarshal([]byte(line), &m)); !strings.HasPrefix(m.Params.Value, fmt.Sprintf("%d ä ", n)) {
					t.Fatalf("part %d is %s", n, line)
				}
				send(t, c, fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/credit","params":{"token":"t","parts":%d}}`, n+1))
			}
			wantLines(t, c, fmt.Sprintf(`"id":2,"result":%d`, parts))
			send(t, c, fmt.Sprintf(`{"jsonrpc":"2.0","id":3,"method":"%s","params":[%d],"parts":"t","window":1}`, method, parts))
			readLine(t, c)
			send(t, c, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":3}}`)
			if got := readLine(t, c); !strings.Contains(got, `"id":3,"error":{"code":-32800`) {
				t.Errorf("a cancelled call is answered with %s", got)
			}
			if row.tool != "node" { // which goes on with what nobody takes
				send(t, c, `{"jsonrpc":"2.0","id":4,"method":"`+method+`","params":[2]}`)
				wantLines(t, c, `"id":4,"result":2`)
			}
		})
	}
}
