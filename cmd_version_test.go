package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// serveRelease plays a daemon of another release, which knows Ipcd.Status alone.
func serveRelease(t *testing.T, status map[string]any) endpoint {
	t.Helper()
	e := localEndpoint(t)
	l, err := transports[e.Scheme].listen(e, audience{})
	must(t, err)
	first, err := settle(e)
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				wg.Go(func() { answerStatus(conn, status) })
			}
		}
	})
	t.Cleanup(func() {
		first.Close()
		l.Close()
		wg.Wait()
	})
	return e
}

func answerStatus(conn net.Conn, status map[string]any) {
	defer conn.Close()
	for requests, answers := json.NewDecoder(conn), json.NewEncoder(conn); ; {
		var request struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if requests.Decode(&request) != nil {
			return
		}
		answer := map[string]any{"jsonrpc": "2.0", "id": request.ID, "result": status}
		if request.Method != "Ipcd.Status" {
			delete(answer, "result")
			answer["error"] = fault{Code: codeNoMethod, Text: "there is no method " + request.Method}
		}
		if answers.Encode(answer) != nil {
			return
		}
	}
}

// command runs a command of ours in this process, and returns what it printed.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	t.Setenv("IPCD_CONFIG", os.DevNull)
	var out bytes.Buffer
	cmd := newRootCmd(args)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// A command that is made alone is found by the name that it has among all.
func TestCommandsGoByTheirNames(t *testing.T) {
	for name, each := range commands {
		if cmd := each(); cmd.Name() != name || len(cmd.Aliases) > 0 {
			t.Errorf("%s makes the command %s, with the other names %v", name, cmd.Name(), cmd.Aliases)
		}
	}
}

// TestOtherReleases has a daemon that is one release older, and one that is newer.
func TestOtherReleases(t *testing.T) {
	t.Run("older daemon", func(t *testing.T) {
		e := serveRelease(t, map[string]any{"version": "v9.9.9", "protocol": protocolVersion - 1})
		out, err := command(t, "version", "--check", "-e", e.String())
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "the daemon is older") || !strings.Contains(hintFor(err), "ipcd restart") {
			t.Errorf("version --check: %v, hint %q", err, hintFor(err))
		}
		if !strings.Contains(out, "v9.9.9") {
			t.Errorf("version --check printed %q", out)
		}
		if _, err = command(t, "status", "-e", e.String()); err != nil {
			t.Errorf("status: %v", err)
		}
		if _, err = command(t, "whoami", "-e", e.String()); err == nil || !strings.Contains(err.Error(), "the daemon is older than this program") {
			t.Errorf("a method that an older daemon lacks: %v; want to hear which side to upgrade", err)
		}
	})
	t.Run("newer daemon", func(t *testing.T) {
		e := serveRelease(t, map[string]any{"version": "v9.9.9", "protocol": protocolVersion + 1, "moods": []string{"good"}})
		out, err := command(t, "version", "--check", "--json", "-e", e.String())
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "this program is older") {
			t.Errorf("version --check: %v", err)
		}
		var c Comparison
		must(t, json.Unmarshal([]byte(out), &c))
		if c.Older != "program" || c.Same || c.Daemon.Protocol != protocolVersion+1 || c.Program.Protocol != protocolVersion {
			t.Errorf("version --check --json: %+v", c)
		}
		out, err = command(t, "status", "--json", "-e", e.String())
		if err != nil || !strings.Contains(out, `"moods":["good"]`) {
			t.Errorf("status --json: %v, %s; want what the program does not know, too", err, out)
		}
	})
	t.Run("same", func(t *testing.T) {
		s := startServer(t, localEndpoint(t).String())
		out, err := command(t, "version", "--check", "-e", s.endpoints[0].String())
		if err != nil || !strings.Contains(out, "daemon") {
			t.Errorf("version --check: %v, %s", err, out)
		}
	})
}
