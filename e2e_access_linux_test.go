package main

// This file owns rules as callers meet them: another user of this machine at a real socket, a worker, and a caller whom nobody
// knows. What rules decide is in access_test.go.

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// ruled starts a server with a configuration at a socket that everybody can reach, as far as the rules open it.
func ruled(t *testing.T, text string) (*testServer, string) {
	t.Helper()
	needRoot(t)
	t.Chdir(t.TempDir())
	path := openDir(t, 0o755) + "/s"
	s := startServerWith(t, nil)
	s.obey(policyFrom(t, text))
	l, err := s.listen(at(path))
	must(t, err)
	s.endpoints = append(s.endpoints, l.endpoint)
	s.start(l)
	return s, path
}

// A stranger is a connection of the user nobody.
type stranger struct {
	t *testing.T
	net.Conn
	lines *bufio.Reader
}

func strangerAt(t *testing.T, path string) *stranger {
	t.Helper()
	var conn net.Conn
	must(t, asNobody(t, func() (err error) {
		conn, err = net.Dial("unix", path)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return &stranger{t, noDeadline(conn), bufio.NewReader(conn)}
}

// call calls a method and wants the answer to have some words.
func (s *stranger) call(method, params string, words ...string) {
	s.t.Helper()
	send(s.t, s.Conn, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`+"\n")
	line, err := s.lines.ReadString('\n')
	must(s.t, err)
	for _, word := range words {
		if without, not := strings.CutPrefix(word, "!"); strings.Contains(line, without) == not {
			s.t.Errorf("%s is answered with %s; want it with %q", method, shorten(line, 1000), word)
		}
	}
}

const denied = `"code":-32005,"message":"access denied: user nobody (uid 65534) may not `

// What somebody offers who may offer nothing is not read.
func TestOfferOfWhoMayOfferNothingIsNotRead(t *testing.T) {
	_, path := ruled(t, "[[rule]]\nallow = [\"user:nobody\"]\ncall = [\"*\"]\n")
	strangerAt(t, path).call("Ipcd.Register", `{"methods":5}`, denied+"offer")
}

func TestRulesLetAnotherUserIn(t *testing.T) {
	s, path := ruled(t, `
[[rule]]
deny = ["user:nobody"]
publish = ["build.secret"]
[[rule]]
allow = ["user:nobody"]
call = ["Echo.*", "Box.*"]
register = ["Box"]
publish = ["build.>"]
subscribe = ["build.>"]
`)
	info, err := os.Lstat(path)
	must(t, err)
	if info.Mode().Perm() != 0o666 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
	n := strangerAt(t, path)
	n.call("Echo.Say", `["a"]`, `"result":"a"`)
	n.call("Trial.Fail", `["a"]`, denied+`call Trial.Fail; the user that the daemon runs as and root may, and whom a [[rule]] of its configuration lets`)
	n.call("No.Method", `["a"]`, denied+`call No.Method`)
	n.call("Echo.Sai", `["a"]`, "-32601", `"near":"Echo.Say"`)
	n.call("Ipcd.Ping", `[]`, "pong")
	n.call("Ipcd.Whoami", `[]`, `"name":"user:nobody"`)
	n.call("Ipcd.List", `[]`, "Echo.Say", "Ipcd.List", "Ipcd.Register", "Ipcd.Publish", "!Trial", "!Ipcd.Stop", "!Ipcd.WorkerLog", "!Ipcd.Stats")
	n.call("Ipcd.Describe", `["Echo"]`, "Echo.Say")
	n.call("Ipcd.Describe", `["Trial"]`, "there is no service or method Trial")
	n.call("Ipcd.Status", `[]`, `"version":`, `"uptime":`, "!endpoints", "!memory", "!calls")
	n.call("Ipcd.Stop", `[]`, denied+"control the daemon")
	n.call("Ipcd.WorkerLog", `[{"name":"a"}]`, denied+"control the daemon")
	n.call("Ipcd.Publish", `[{"topic":"build.done"}]`, `"id":"k`)
	n.call("Ipcd.Publish", `[{"topic":"build.secret"}]`, denied+"publish to build.secret; a [[rule]] of the daemon denies it")
	n.call("Ipcd.Publish", `[{"topic":"other"}]`, denied+"publish to other")
	n.call("Ipcd.Subscribe", `[{"topics":["build.*","ipcd.>"]}],"parts":"p"`, denied+"subscribe to ipcd.>")
	n.call("Ipcd.Register", `[{"methods":["Box.Open","Far.Say"]}]`, denied+"offer Far")
	n.call("Ipcd.Register", `[{"methods":["Box.Open"]}]`, `"provider":"p`)
	n.call("Ipcd.Unregister", `[]`, "true")

	s.obey(policyFrom(t, "[[rule]]\nallow = [\"user:nobody\"]\ncall = [\"Trial.Fail\"]\n"))
	n.call("Trial.Fail", `["a"]`, "!denied")
	n.call("Echo.Say", `["a"]`, denied+"call Echo.Say")
	s.obey(&policy{})
	n.call("Trial.Fail", `["a"]`, denied)
	n.call("Ipcd.Ping", `[]`, denied)
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("without rules the socket is %v, %v", info, err)
	}
	if err := asNobody(t, func() error {
		_, err := net.Dial("unix", path)
		return err
	}); err == nil {
		t.Error("without rules another user connects")
	}
}

// A quota is of those whom it names.
func TestQuotaOfAnotherUser(t *testing.T) {
	s, path := ruled(t, "[[rule]]\nallow = [\"user:nobody\"]\ncall = [\"Echo.*\"]\n")
	s.quotas.Store(&settingsOf(t, "[[quota]]\nof = [\"user:nobody\"]\nmax_connections = 1\n").quotas)
	strangerAt(t, path).call("Echo.Say", `["a"]`, `"result":"a"`)
	strangerAt(t, path).call("Echo.Say", `["a"]`, `"code":-32002`, `"limit":"max_connections","max":1`)
	for range 3 {
		conn := rawDial(t, at(path))
		asks(t, conn, sayRequest, `"result":"hello"`)
	}
}

// TestRulesOfOneEndpoint has a second socket that is for fewer.
func TestRulesOfOneEndpoint(t *testing.T) {
	s, path := ruled(t, "")
	box := openDir(t, 0o755) + "/box"
	s.obey(policyFrom(t, "[[rule]]\nallow = [\"local\"]\non = [\"unix://"+box+"\"]\ncall = [\"Echo.Say\"]\n"))
	l, err := s.listen(at(box))
	must(t, err)
	s.start(l)
	strangerAt(t, box).call("Echo.Say", `["a"]`, `"result":"a"`)
	strangerAt(t, box).call("Trial.Fail", `["a"]`, denied)
	must(t, os.Chmod(path, 0o666)) // by somebody else; the daemon asks for itself
	other := strangerAt(t, path)
	send(t, other.Conn, sayRequest)
	if got, _ := io.ReadAll(other.lines); !strings.Contains(string(got), `"access denied"`) {
		t.Errorf("at the other endpoint there comes %s", got)
	}
}

// TestRulesForWorkers has a rule keep a worker from what workers may.
func TestRulesForWorkers(t *testing.T) {
	pol := policy{rules: []rule{{deny: true, people: []person{{kind: personWorker, id: "greeter"}}, patterns: [rightAdmin][]string{rightCall: {"Secret.*"}}}}}
	r := newRouter()
	r.policy.Store(&pol)
	for _, test := range []struct {
		who  peer
		name string
		want int
	}{
		{peer{worker: "greeter"}, "Secret.Tell", codeDenied},
		{peer{worker: "greeter"}, "Other.Tell", codeNoMethod},
		{peer{worker: "other"}, "Secret.Tell", codeNoMethod},
	} {
		if _, f := r.find(test.name, &test.who); f == nil || f.Code != test.want {
			t.Errorf("%s by %s: %v; want the code %d", test.name, test.who.who(), f, test.want)
		}
	}
}
