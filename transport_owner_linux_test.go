package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestTCPCallersAreShown(t *testing.T) {
	s := startServer(t, "tcp://127.0.0.1:0?auth=none", "http://[::1]:0?auth=none")
	for _, e := range s.endpoints {
		c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
		must(t, err)
		var p peer
		must(t, c.call(t.Context(), "Ipcd.Whoami", nil, &p))
		c.close()
		if want := nameUser(os.Getuid()); p.Owner != want || p.Known || p.UID != -1 || p.User != "" {
			t.Errorf("%s: whoami says %+v; want the owner %s, and nothing that gives a right", e, p, want)
		}
	}
	text := "ipcd whoami -e " + s.endpoints[0].String()
	words := strings.Fields(text)
	if got := printed(t, exec.Command(words[0], words[1:]...)); !strings.HasPrefix(got, nameUser(os.Getuid())+" at 127.0.0.1:") || !strings.HasSuffix(got, ", which is shown and gives no right, over tcp\n") {
		t.Errorf("%s prints %q", text, got)
	}
	waitFor(t, func() error {
		if log := s.log.String(); !strings.Contains(log, nameUser(os.Getuid())+" at 127.0.0.1:") {
			return fmt.Errorf("the log does not show whose the connections are:\n%s", log)
		}
		return nil
	})
}

// acceptTCP is both ends of a connection within this machine.
func acceptTCP(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	must(t, err)
	server, err = l.Accept()
	must(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestTCPSocketThatNobodyHas is closed before it is asked for: to the kernel it has no user then, and user 0 is root.
func TestTCPSocketThatNobodyHas(t *testing.T) {
	client, server := acceptTCP(t)
	if p := identifyTCP("tcp", server, server.LocalAddr()); p.Owner == "" || p.key() != fmt.Sprintf("uid %d", os.Getuid()) {
		t.Errorf("while it is open: %+v, key %q", p, p.key())
	}
	again, err := net.Listen("tcp", client.LocalAddr().String())
	if err == nil {
		defer again.Close() // it is not the one that was asked for
	}
	client.Close()
	if p := identifyTCP("tcp", server, server.LocalAddr()); p.Owner != "" || p.key() != "tcp" {
		t.Errorf("after it was closed: %+v, key %q; want nobody", p, p.key())
	}
	if _, err := ownerTCP(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, nil); err == nil {
		t.Error("an address of another machine has a user here")
	}
}

// TestTCPConnectionsAreCountedForEachUser has as many connections of one user as are allowed; another still has all of theirs.
func TestTCPConnectionsAreCountedForEachUser(t *testing.T) {
	needRoot(t)
	s := startServerWith(t, func(l *limits) { l.MaxConnections = 1 }, mustParse(t, "tcp://127.0.0.1:0?auth=none"))
	say := func() (answer string, err error) { return sayAndStay(t, "tcp", s.endpoints[0].Host) }
	for i, want := range []string{sayAnswer, "max_connections"} {
		if answer, err := say(); err != nil || !strings.Contains(answer, want) {
			t.Errorf("connection %d of root's: %q, %v; want %q", i+1, answer, err, want)
		}
	}
	var answer string
	err := asNobody(t, func() (err error) { answer, err = say(); return err })
	if err != nil || answer != sayAnswer {
		t.Errorf("the connection of nobody's: %q, %v; want %q", answer, err, sayAnswer)
	}
}

// TestDialRefusesAPortOfAnotherUsers has nobody take a port, and accept or not.
func TestDialRefusesAPortOfAnotherUsers(t *testing.T) {
	needRoot(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		var l net.Listener
		must(t, asNobody(t, func() (err error) { l, err = net.Listen("tcp", address); return err }))
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		host := "127.0.0.1"
		if strings.HasPrefix(address, "[") {
			host = "[::1]"
		}
		for _, scheme := range []string{"tcp", "http"} {
			e := mustParse(t, scheme+"://"+host+":"+port)
			conn, err := dialTCP(t.Context(), e, dialOptions{})
			if err == nil {
				conn.Close()
			}
			checkRefused(t, address, err, "the daemon at "+e.String()+" belongs to user nobody (uid 65534); nothing was sent to it", e.withNoAuth().String())
			if !errors.Is(err, errDenied) {
				t.Errorf("%s: %v; want the code %d", e, err, codeDenied)
			}
			conn, err = dialTCP(t.Context(), e.withNoAuth().called(), dialOptions{})
			if err == nil {
				conn.Close()
			}
			checkRefused(t, address+", which nobody has named", err, "belongs to user nobody (uid 65534); nothing was sent to it", "-e ")
			log := &logBuffer{}
			logger := newLogger(log, formatJSON, levelInfo)
			conn, err = dialTCP(t.Context(), e.withNoAuth(), dialOptions{log: logger})
			must(t, err)
			conn.Close()
			logger.close()
			var line struct{ Level, Owner string }
			if err := json.Unmarshal([]byte(log.String()), &line); err != nil || line.Level != "warning" && line.Level != "warn" || line.Owner != "user nobody (uid 65534)" {
				t.Errorf("one who waives proof is told %s; want a warning", log)
			}
		}
	}
}

// TestDialRefusesAPortThatWasLeft has the port given up between the connection and the question whose it is.
func TestDialRefusesAPortThatWasLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	e := mustParse(t, "tcp://"+l.Addr().String())
	conn, err := net.Dial("tcp", e.Host)
	must(t, err)
	defer conn.Close()
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	must(t, l.Close())
	checkRefused(t, "a port that was left", checkServerTCP(e, conn, nil), "belongs to nobody who can be told; nothing was sent to it", "-e ")
}
