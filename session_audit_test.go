package main

// This file owns what the audit log says of those who connect, call, register, publish, subscribe and control.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An audited is a server whose audit log is a file.
type audited struct {
	*testServer
	file string
}

// startAudited serves a local endpoint and one over TCP with these settings besides.
func startAudited(t *testing.T, config string) *audited {
	t.Helper()
	tcp := mustParse(t, "tcp://127.0.0.1:0?auth=none")
	s := &audited{startServerWith(t, nil, localEndpoint(t), tcp), filepath.Join(t.TempDir(), "audit.log")}
	set := settingsOf(t, "audit_file = "+quoteJSON(s.file)+"\n"+config)
	s.obey(&set.policy)
	s.audit.obey(set.Audit)
	must(t, s.openAudit(*set))
	t.Cleanup(func() { s.audit.file.Load().close() })
	return s
}

var auditNoise = regexp.MustCompile(`^\{"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",|"pid":\d+,|"ms":[\d.]+,?`)

// lines waits until there are n lines and returns them, without what differs each time.
func (s *audited) lines(n int) []string {
	s.t.Helper()
	var lines []string
	waitFor(s.t, func() error {
		b, err := os.ReadFile(s.file)
		if err != nil {
			return err
		}
		text, whole := strings.CutSuffix(string(b), "\n") // it may be read before the first line, or in the middle of one
		if lines = strings.Split(text, "\n"); !whole || len(lines) != n {
			return fmt.Errorf("there are %d lines; want %d:\n%s", len(lines), n, b)
		}
		return nil
	})
	for i, line := range lines {
		if !json.Valid([]byte(line)) {
			s.t.Errorf("%s is no JSON", line)
		}
		line = auditNoise.ReplaceAllString(line, "")
		line = strings.ReplaceAll(line, `,}`, `}`)
		for at, e := range s.endpoints {
			line = strings.ReplaceAll(line, `"endpoint":`+quoteJSON(e.String()), `"endpoint":`+[]string{"local", "tcp"}[at])
		}
		line = regexp.MustCompile(`"by":"(rule\[\d\] at )[^"]*(c.toml:\d)"`).ReplaceAllString(line, `"by":"$1$2"`)
		line = regexp.MustCompile(`"peer":"(user: ?[^"]+|sid:[^"]+)"`).ReplaceAllString(line, `"peer":me`)
		line = regexp.MustCompile(`"peer":"[^"]* at 127[^"]*","address":"[^"]*"`).ReplaceAllString(line, `"peer":somebody`)
		lines[i] = line
	}
	return lines
}

func quoteJSON(text string) string { return string(appendJSONText(nil, text)) }

func (s *audited) want(want ...string) {
	s.t.Helper()
	for i, line := range s.lines(len(want)) {
		if line != want[i] {
			s.t.Errorf("line %d of the audit log is\n\t%s\nwant\n\t%s", i+1, line, want[i])
		}
	}
}

func TestAuditSaysWhoDidWhat(t *testing.T) {
	s := startAudited(t, `audit = "all"
[[rule]]
deny = ["*"]
on = ["tcp://127.0.0.1:0?auth=none"]
call = ["Trial.*"]
publish = ["secret"]
[[rule]]
allow = ["*"]
on = ["tcp://127.0.0.1:0?auth=none"]
call = ["Echo.*"]
register = ["Mine"]
publish = ["build.>"]
`)
	owner := dialOurs(protoJSON)(t, s.endpoints[0])
	ask(owner, "Echo.Say", "a secret text", nil)
	ask(owner, "Trial.Fail", "another secret", nil)
	ask(owner, "Echo.Sai", nil, nil) // no method: nobody has done anything
	ask(owner, "Ipcd.Stats", nil, nil)
	ask(owner, "Ipcd.Publish", map[string]any{"topic": "build.done", "data": "secret"}, nil)
	owner.close()
	const mine = `"peer":me,"endpoint":local,`
	want := []string{
		mine + `"action":"connect","decision":"allowed","by":"owner"}`,
		mine + `"action":"call","what":"Echo.Say","decision":"allowed","by":"owner"}`,
		mine + `"action":"call","what":"Trial.Fail","decision":"allowed","by":"owner","code":-32000}`,
		mine + `"action":"admin","what":"Ipcd.Stats","decision":"allowed","by":"owner"}`,
		mine + `"action":"publish","what":"build.done","decision":"allowed","by":"owner"}`,
	}
	s.want(want...)

	other := dialOurs(protoJSON)(t, s.endpoints[1])
	ask(other, "Echo.Say", "a", nil)
	ask(other, "Trial.Fail", "a", nil)
	ask(other, "Ipcd.Ping", nil, nil)
	ask(other, "Ipcd.Stop", nil, nil)
	ask(other, "Ipcd.Publish", map[string]any{"topic": "build.done"}, nil)
	ask(other, "Ipcd.Publish", map[string]any{"topic": "secret"}, nil)
	ask(other, "Ipcd.Register", map[string]any{"methods": []string{"Mine.Do", "Yours.Do"}}, nil)
	other.close()
	const theirs = `"peer":somebody,"endpoint":tcp,`
	rule := func(n int, line int) string { return fmt.Sprintf(`"by":"rule[%d] at c.toml:%d"`, n, line) }
	want = append(want,
		theirs+`"action":"connect","decision":"allowed",`+rule(2, 8)+`}`,
		theirs+`"action":"call","what":"Echo.Say","decision":"allowed",`+rule(2, 8)+`}`,
		theirs+`"action":"call","what":"Trial.Fail","decision":"denied",`+rule(1, 3)+`,"code":-32005}`,
		theirs+`"action":"call","what":"Ipcd.Ping","decision":"allowed",`+rule(2, 8)+`}`,
		theirs+`"action":"admin","what":"Ipcd.Stop","decision":"denied","by":"auth=none","code":-32005}`,
		theirs+`"action":"publish","what":"build.done","decision":"allowed",`+rule(2, 8)+`}`,
		theirs+`"action":"publish","what":"secret","decision":"denied",`+rule(1, 3)+`,"code":-32005}`,
		theirs+`"action":"register","what":"Mine Yours","decision":"denied","by":"auth=none","code":-32005}`,
	)
	s.want(want...)
}

// A subscription is recorded when it ends, with all of its topics; requests over HTTP are as well.
func TestAuditOfHTTP(t *testing.T) {
	s := startAudited(t, `audit = "all"`)
	events := subscribeOver(t, s.endpoints[0], `{"topics":["a","b.*"]}`)
	events.Close()
	const mine = `"peer":me,"endpoint":local,`
	want := []string{
		mine + `"action":"connect","decision":"allowed","by":"owner"}`,
		mine + `"action":"subscribe","what":"a b.*","decision":"allowed","by":"owner","code":-32800}`,
	}
	s.lines(len(want))
	s.metrics()
	want = append(want, want[0], mine+`"action":"admin","what":"/metrics","decision":"allowed","by":"owner"}`)
	s.lines(len(want))
	for _, request := range []string{"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /rpc HTTP/1.1\r\nHost: example.com\r\n\r\n"} {
		conn := rawDial(t, s.endpoints[1])
		send(t, conn, request)
		answer := make([]byte, len("HTTP/1.1 403"))
		if _, err := conn.Read(answer); err != nil || string(answer) != fmt.Sprint("HTTP/1.1 ", http.StatusForbidden) {
			t.Errorf("%q is answered with %q, %v", request, answer, err)
		}
		conn.Close()
	}
	const theirs = `"peer":somebody,"endpoint":tcp,`
	entered := theirs + `"action":"connect","decision":"allowed","by":"auth=none"}`
	s.want(append(want,
		entered, theirs+`"action":"admin","what":"/metrics","decision":"denied","by":"auth=none","code":-32005}`,
		entered, theirs+`"action":"call","what":"/rpc","decision":"denied","code":-32005}`)...)
}

// Names make no lines of their own, and none reaches a terminal that shows the file. As the default has it, what was allowed is not there.
func TestAuditOfHostileNames(t *testing.T) {
	s := startAudited(t, "[[rule]]\ndeny = [\"*\"]\non = [\"tcp://127.0.0.1:0?auth=none\"]\ncall = [\"Secret.*\"]\n")
	c := dialledAt(t, s.endpoints[1])
	ask(c, "Echo.Say", "a", nil)
	ask(c, "Secret.\n{\"decision\":\"allowed\"}\x1b[31m\u009b\u202e", "a", nil)
	ask(c, "Secret."+strings.Repeat("x", 10_000), "a", nil)
	const begins = `"peer":somebody,"endpoint":tcp,"action":"call","what":"Secret.`
	const ends = `","decision":"denied","by":"rule[1] at c.toml:2","code":-32005}`
	lines := s.lines(2)
	if want := begins + `\n{\"decision\":\"allowed\"}\u001b[31m\u009b\u202e` + ends; lines[0] != want {
		t.Errorf("the line is\n\t%s\nwant\n\t%s", lines[0], want)
	}
	if !strings.HasPrefix(lines[1], begins+"xxx") || !strings.HasSuffix(lines[1], ends) || len(lines[1]) > len(begins)+len(ends)+maxAudited {
		t.Errorf("the line is %s", lines[1])
	}
	checkFigures(t, s.metrics(), map[string]float64{"ipcd_audit_lines_total{}": 2, "ipcd_audit_lost_total{}": 0})
}

// dialledAt is a caller of e, until the test ends.
func dialledAt(t *testing.T, e endpoint) caller {
	c := dialOurs(protoJSON)(t, e)
	t.Cleanup(func() { c.close() })
	return c
}

// A connection that is refused is recorded as such, once, whatever is then asked over it.
func TestAuditOfRefusedConnections(t *testing.T) {
	s := startAudited(t, "[[rule]]\ndeny = [\"*\"]\non = [\"tcp://127.0.0.1:0?auth=none\"]\n")
	ask(dialledAt(t, s.endpoints[1]), "Echo.Say", "a", nil)
	s.want(`"peer":somebody,"endpoint":tcp,"action":"connect","decision":"denied","by":"rule[1] at c.toml:2","code":-32005}`)
}

// What a worker calls for somebody says for whom.
func TestAuditOfWorkers(t *testing.T) {
	s := startAudited(t, `audit = "all"`)
	s.force.employ(workersOf(t, workplace(t, s.testServer), `
[[worker]]
name = "hand"
command = ["hand", '{"methods":["Hand.Ask"]}']
services = ["Hand"]
`))
	answered[document](t, s.testServer, "Hand.Ask", map[string]any{"method": "Ipcd.Whoami"})
	const mine, hand = `"peer":me,"endpoint":local,`, `"peer":"worker:hand","endpoint":"fork",`
	got := strings.Join(s.lines(5), "\n")
	for _, line := range []string{
		hand + `"action":"connect","decision":"allowed","by":"worker"}`,
		hand + `"action":"register","what":"Hand","decision":"allowed","by":"worker"}`,
		mine + `"action":"connect","decision":"allowed","by":"owner"}`,
		hand + `"action":"call","what":"Ipcd.Whoami","decision":"allowed","by":"worker"}`,
		mine + `"action":"call","what":"Hand.Ask","decision":"allowed","by":"owner"}`,
	} {
		if !strings.Contains(got, line) {
			t.Errorf("the audit log has no\n\t%s\nbut\n%s", line, got)
		}
	}
}

// Without a file the lines are the daemon's log's, marked for whoever looks for them.
func TestAuditInTheLog(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none")
	s.audit.obey(auditAll)
	c := dialled(t, s, protoJSON)
	ask(c, "Echo.Say", "a secret", nil)
	ask(c, "Ipcd.Stop", nil, nil)
	checkLogged(t, s, "info  allowed", "action=call", "audit=1", `by="auth=none"`, "decision=allowed", "what=Echo.Say")
	checkLogged(t, s, "warn  denied", "action=admin", "audit=1", "code=-32005", "what=Ipcd.Stop")
	if strings.Contains(s.log.String(), "a secret") {
		t.Error("the log has an argument")
	}
}

// A connection that is refused is one line of the daemon's log, and not two.
func TestAuditOfARefusedConnectionInTheLog(t *testing.T) {
	s := startAudited(t, "[[rule]]\ndeny = [\"*\"]\non = [\"tcp://127.0.0.1:0?auth=none\"]\n")
	must(t, s.audit.file.Swap(nil).close())
	ask(dialledAt(t, s.endpoints[1]), "Echo.Say", "a", nil)
	checkLogged(t, s.testServer, "warn  a connection was refused", "audit=1", "action=connect", "decision=denied", `by="rule[1] at `)
	if text := s.log.String(); strings.Contains(text, "warn  denied") {
		t.Errorf("it is there twice:\n%s", text)
	}
}

// A reload changes the mode and the file; what cannot be opened is refused, and all is as before.
func TestAuditIsReloaded(t *testing.T) {
	s := startAudited(t, "")
	old := settings{Audit: auditDenied, AuditFile: s.file, Limits: defaultLimits()}
	now := old
	now.Audit, now.AuditFile = auditAll, filepath.Join(t.TempDir(), "no", "audit.log")
	if _, err := s.prepare(old, now); err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), "audit_file: ") || hintFor(err) == "" {
		t.Errorf("a file that cannot be made is taken: %v", err)
	}
	first := s.audit.file.Load()
	now.AuditFile = s.file + "2"
	commit, err := s.prepare(old, now)
	must(t, err)
	commit()
	if s.audit.file.Load() == first || !s.audit.wants(false) {
		t.Error("nothing has changed")
	}
	s.file = now.AuditFile
	must(t, ask(dialledAt(t, s.endpoints[0]), "Echo.Say", "a", nil))
	s.lines(2)
	old, now.Audit = now, auditOff
	commit, err = s.prepare(old, now)
	must(t, err)
	commit()
	if s.audit.file.Load() != nil || s.audit.wants(true) {
		t.Error("it goes on")
	}
}
