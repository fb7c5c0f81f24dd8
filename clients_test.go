//go:build unix

package main

// This file owns calls from programs that we did not write: the standard libraries of Go, Node.js
// and Python as a user has them, curl, and public JSON-RPC clients.

import (
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startForClients serves a socket and a port; it returns the path and the port.
func startForClients(t *testing.T) (s *testServer, socket, port string) {
	t.Helper()
	s = startServer(t, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none")
	_, port, _ = strings.Cut(s.endpoints[1].Host, ":")
	return s, s.endpoints[0].Path, port
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

func TestClientsOfTheStandardLibrary(t *testing.T) {
	_, socket, port := startForClients(t)
	address := "127.0.0.1:" + port
	for name, dial := range map[string]func() (*rpc.Client, error){
		"rpc.Dial unix":     func() (*rpc.Client, error) { return rpc.Dial("unix", socket) },
		"rpc.Dial tcp":      func() (*rpc.Client, error) { return rpc.Dial("tcp", address) },
		"rpc.DialHTTP tcp":  func() (*rpc.Client, error) { return rpc.DialHTTP("tcp", address) },
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
		c.Close()
	}
}

func TestClientsOfPython(t *testing.T) {
	_, _, port := startForClients(t)
	got := printed(t, exec.Command(needTool(t, "python3"), "testdata/clients/python.py", port))
	checkLines(t, got, "python.want")
}

// TestClientFromTheDocument runs a client that was written from docs/protocol.md alone.
func TestClientFromTheDocument(t *testing.T) {
	echo := localEndpoint(t)
	echo.Proto = protoEcho
	s := startServer(t, localEndpoint(t).String(), "tcp://127.0.0.1:0?auth=none", "http://127.0.0.1:0?auth=none", echo.String())
	args := []string{"testdata/clients/protocol.py"}
	for _, e := range s.endpoints {
		args = append(args, e.String())
	}
	got := printed(t, exec.Command(needTool(t, "python3"), append(args, "ipcd")...))
	checkLines(t, got, "protocol.want")
	s.idle()
}

func TestClientsOfNode(t *testing.T) {
	_, socket, port := startForClients(t)
	got := printed(t, exec.Command(needTool(t, "node"), "testdata/clients/node.js", socket, port))
	checkLines(t, got, "node.want")
}

func TestClientsOfNPM(t *testing.T) {
	s, socket, port := startForClients(t)
	cmd := exec.Command(needTool(t, "node"), "testdata/clients/npm.js", socket, port)
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(needEnv(t, "IPCD_NPM_DIR"), "node_modules"))
	checkLines(t, printed(t, cmd), "npm.want")
	s.idle()
}

func TestClientsOfCurl(t *testing.T) {
	curl := needTool(t, "curl")
	_, socket, port := startForClients(t)
	unix := []string{"-sS", "--max-time", "20", "--unix-socket", socket}
	tcp := []string{"-sS", "--max-time", "20", "-H", "Content-Type: application/json"}
	at := "http://localhost:" + port
	big := filepath.Join(t.TempDir(), "big.json")
	if err := os.WriteFile(big, []byte(`"`+strings.Repeat("x", 2<<20)+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	status := []string{"-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"}
	tests := []struct {
		name string
		base []string
		args []string
		want string
	}{
		{"a socket needs no header", unix, []string{"-d", `"hello"`, "http://localhost/call/Echo.Say"}, "\"hello\"\n"},
		{"an argument of no type", unix, []string{"-d", `{"name":"Ada"}`, "http://localhost/call/Trial.Old"}, "0\n"},
		{"JSON-RPC", unix, []string{"-d", sayRequest, "http://localhost/rpc"}, sayAnswer},
		{"TCP", tcp, []string{"-d", `"hello"`, at + "/call/Echo.Say"}, "\"hello\"\n"},
		{"IPv4", tcp, []string{"-d", `"hello"`, "http://127.0.0.1:" + port + "/call/Echo.Say"}, "\"hello\"\n"},
		{"health", tcp, []string{at + "/healthz"}, "ok\n"},
		{"100-continue", unix, append([]string{"-H", "Expect: 100-continue", "--data-binary", "@" + big, "http://localhost/call/Echo.Say"}, status...), "200 1\n"},
		{"keep-alive", tcp, append([]string{"-d", `"a"`, at + "/call/Echo.Say", "-o", "/dev/null", at + "/call/Echo.Say"}, status...), "200 1\n200 0\n"},
		{"a form", tcp[:3], append([]string{"-d", `"a"`, at + "/call/Echo.Say"}, status...), "415 1\n"},
		{"a preflight", tcp, append([]string{"-X", "OPTIONS", "-H", "Origin: http://example.com", "-H", "Access-Control-Request-Method: POST", at + "/call/Echo.Say"}, status...), "403 1\n"},
		{"a page of another site", tcp, append([]string{"-H", "Referer: http://example.com/", "-d", `"a"`, at + "/call/Echo.Say"}, status...), "403 1\n"},
		{"DNS rebinding", tcp, append([]string{"-H", "Host: example.com", "-d", `"a"`, at + "/call/Echo.Say"}, status...), "403 1\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append(append([]string{}, test.base...), test.args...)
			if got := printed(t, exec.Command(curl, args...)); got != test.want {
				t.Errorf("curl printed %q; want %q", got, test.want)
			}
		})
	}
}
