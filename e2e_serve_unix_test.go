//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C takes the methods back and lets calls finish; a second one ends them.
func TestServeFinishesWhatRuns(t *testing.T) {
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprintf("second signal %t", second), func(t *testing.T) {
			s := startServer(t, localEndpoint(t).String())
			l, err := net.Listen("unix", filepath.Join(filepath.Dir(s.endpoints[0].Path), "in"))
			must(t, err)
			defer l.Close()
			end, _ := serve(t, s, "--parallel", "2", "Probe.Meet", "--", "probe", "meet", l.Addr().String())
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			defer c.close()
			waitFor(t, func() error {
				_, f := s.router.find("Probe.Meet", nil)
				return asError(f)
			})
			done := inBackground(t.Context(), c, "Probe.Meet", "a")
			conn, err := l.Accept() // the program runs
			must(t, err)
			defer conn.Close()
			ended := make(chan int, 1)
			go func() { ended <- end(syscall.SIGINT) }()
			waitFor(t, func() error {
				if _, f := s.router.find("Probe.Meet", nil); f == nil {
					return errors.New("the method is still there")
				}
				return nil
			})
			if second {
				if code := end(syscall.SIGINT); code != exitForced || receive(t, ended) != exitForced {
					t.Errorf("the exit code is %d; want %d", code, exitForced)
				}
				checkCode(t, "the call that was cut", receive(t, done), codeGone, "has gone")
				if b, err := io.ReadAll(conn); err != nil || len(b) > 0 { // and so has the program
					t.Errorf("the program says %q, %v", b, err)
				}
				return
			}
			conn.Close()
			must(t, receive(t, done))
			if code := receive(t, ended); code != exitDone {
				t.Errorf("the exit code is %d", code)
			}
		})
	}
}

// A daemon that comes back is offered the methods again.
func TestServeSurvivesTheDaemon(t *testing.T) {
	e := localEndpoint(t)
	first := startServer(t, e.String())
	end, log := serve(t, first, "Probe.Cat", "--", "probe", "cat")
	call := func() string {
		t.Helper()
		return printed(t, exec.Command("ipcd", "call", "--wait", "20s", "-e", e.String(), "Probe.Cat", "--text", "a"))
	}
	if got := call(); got != "a\n" {
		t.Errorf("the first daemon says %q", got)
	}
	must(t, first.stop(t.Context()))
	startServer(t, e.String())
	if got := call(); got != "a\n" {
		t.Errorf("the second daemon says %q", got)
	}
	if code := end(syscall.SIGTERM); code != exitDone || strings.Count(log.String(), "as the provider p1") != 2 {
		t.Errorf("the exit code is %d, and it has said\n%s", code, log)
	}
}
