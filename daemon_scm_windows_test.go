package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/windows/svc"
)

// A fakeSCM is the service control manager of one service, in this process.
type fakeSCM struct {
	t        *testing.T
	handler  *scmOverseer
	requests chan svc.ChangeRequest
	reports  chan svc.Status
	ended    chan exit
}

type exit struct {
	specific bool
	code     uint32
}

// startFake starts a service whose daemon is serve.
func startFake(t *testing.T, serve func(context.Context, overseer) error) *fakeSCM {
	m := &fakeSCM{
		t: t, handler: newSCMOverseer(t.Context(), "ipcd-test", t.TempDir(), serve),
		requests: make(chan svc.ChangeRequest), reports: make(chan svc.Status), ended: make(chan exit, 1),
	}
	m.handler.limit.Store(int64(20 * time.Second))
	go func() {
		specific, code := m.handler.Execute([]string{"ipcd-test"}, m.requests, m.reports)
		m.ended <- exit{specific, code}
	}()
	return m
}

// ask sends a request as x/sys does.
func (m *fakeSCM) ask(cmd svc.Cmd) { m.requests <- svc.ChangeRequest{Cmd: cmd} }

// wantState takes the next report, which is to be this one.
func (m *fakeSCM) wantState(state svc.State, checkPoint uint32) {
	m.t.Helper()
	select {
	case got := <-m.reports:
		accepts, hint := svc.Accepted(0), uint32(scmHint/time.Millisecond)
		if state == svc.Running {
			accepts, hint = svc.AcceptStop|svc.AcceptShutdown|svc.AcceptPreShutdown|svc.AcceptParamChange, 0
		}
		if want := (svc.Status{State: state, CheckPoint: checkPoint, Accepts: accepts, WaitHint: hint}); got != want {
			m.t.Fatalf("the service says %+v; want %+v", got, want)
		}
	case e := <-m.ended:
		m.t.Fatalf("the service ended with %+v, %v; want state %d", e, m.handler.err, state)
	}
}

func (m *fakeSCM) wantEnd(want exit) {
	m.t.Helper()
	select {
	case got := <-m.ended:
		if got != want {
			m.t.Errorf("the service ended with %+v; want %+v", got, want)
		}
	case got := <-m.reports:
		m.t.Errorf("the service says %+v; want the end", got)
	}
}

func TestServiceSaysInWhichStateItIs(t *testing.T) {
	for _, stop := range []svc.Cmd{svc.Stop, svc.Shutdown, svc.PreShutdown} {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listens, drained, reloaded := make(chan struct{}), make(chan struct{}), make(chan struct{})
				m := startFake(t, func(ctx context.Context, o overseer) error {
					<-listens
					o.ready("")
					<-o.reloads()
					close(reloaded)
					<-ctx.Done()
					o.stopping()
					<-drained
					return fmt.Errorf("calls were cut: %w", errForced)
				})
				m.handler.log = &serviceLog{file: discard{}}
				m.wantState(svc.StartPending, 1)
				m.wantState(svc.StartPending, 2) // a sign of life
				m.wantState(svc.StartPending, 3)
				m.ask(svc.Interrogate)
				m.wantState(svc.StartPending, 3)
				close(listens)
				m.wantState(svc.Running, 0)
				m.ask(svc.Interrogate)
				m.wantState(svc.Running, 0)
				m.ask(svc.Pause) // nobody was told that it could be
				m.ask(svc.ParamChange)
				m.ask(svc.ParamChange)
				<-reloaded
				<-time.After(10 * scmStep) // while it runs there is nothing to say
				m.ask(stop)
				m.wantState(svc.StopPending, 1)
				m.wantState(svc.StopPending, 2)
				m.ask(svc.Interrogate)
				m.wantState(svc.StopPending, 2)
				close(drained)
				m.wantEnd(exit{false, 0}) // else the manager would start it again
			})
		})
	}
}

// discard is a file that keeps nothing.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

func TestServiceThatDoesNotStopEndsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		m := startFake(t, func(ctx context.Context, o overseer) error {
			o.ready("")
			<-end
			return nil
		})
		m.wantState(svc.StartPending, 1)
		m.wantState(svc.Running, 0)
		began := time.Now()
		m.ask(svc.Stop)
		for i := range uint32(20) {
			m.wantState(svc.StopPending, 1+i)
		}
		for ended := false; !ended; { // the last sign of life and the end fall together
			select {
			case <-m.reports:
			case e := <-m.ended:
				ended = true
				if took := time.Since(began); e != (exit{false, 0}) || took != 20*time.Second || !errors.Is(m.handler.err, errForced) {
					t.Errorf("it ended after %v with %+v, %v", took, e, m.handler.err)
				}
			}
		}
		close(end)
	})
}

func TestServiceEndsWithTheCodeOfTheDaemon(t *testing.T) {
	for _, test := range []struct {
		err  error
		want exit
	}{
		{nil, exit{true, exitDone}},
		{errors.New("the socket was removed"), exit{true, exitFailed}},
		{usagef("config.toml:3: idle: is wrong").withHint("expected a duration"), exit{true, exitUsage}},
	} {
		m := startFake(t, func(context.Context, overseer) error { return test.err })
		m.wantState(svc.StartPending, 1)
		m.wantEnd(test.want)
		lines := lastLines(serviceLogFile(m.handler.dir, "ipcd-test"), 10)
		if test.err == nil {
			if lines != nil {
				t.Errorf("it logs %q", lines)
			}
			continue
		}
		if len(lines) != 1 || !strings.Contains(lines[0], test.err.Error()) || !strings.Contains(lines[0], `"level":"error"`) || !strings.Contains(lines[0], hintFor(test.err)) {
			t.Errorf("it logs %q; want %v", lines, test.err)
		}
	}
}

// The daemon itself, from its command line to the last call.
func TestServiceServes(t *testing.T) {
	e := pipeEndpoint(t)
	config := filepath.Join(t.TempDir(), "config.toml")
	must(t, os.WriteFile(config, []byte("limits.drain = \"3s\"\n"), 0o600))
	cmd := newRunCmd()
	addConfigFlags(cmd)
	if err := cmd.ParseFlags([]string{"--service", "ipcd-test", "--listen", e.String(), "--config", config}); err != nil {
		t.Fatal(err)
	}
	m := startFake(t, func(ctx context.Context, o overseer) error { return serveCommand(ctx, cmd, o) })
	m.wantState(svc.StartPending, 1)
	m.wantState(svc.Running, 0)
	first, err := settle(e)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var answer string
	if err := c.call(t.Context(), "Echo.Say", "hello", &answer); err != nil || answer != "hello" {
		t.Errorf("Echo.Say = %q, %v", answer, err)
	}
	file := serviceLogFile(m.handler.dir, "ipcd-test")
	for _, change := range [][2]string{{"limits.drain = \"4s\"\n", "were read again"}, {"limits.drain = 5\n", "were refused"}} {
		must(t, os.WriteFile(config, []byte(change[0]), 0o600))
		m.ask(svc.ParamChange)
		waitFor(t, func() error {
			if lines := lastLines(file, 1); len(lines) != 1 || !strings.Contains(lines[0], change[1]) {
				return fmt.Errorf("the log ends with %q; want %q", lines, change[1])
			}
			return nil
		})
	}
	m.ask(svc.Stop)
	m.wantState(svc.StopPending, 1)
	for ended := false; !ended; {
		select {
		case s := <-m.reports:
			if s.State != svc.StopPending {
				t.Errorf("the service says %+v while it stops", s)
			}
		case got := <-m.ended:
			ended = true
			if got != (exit{false, 0}) {
				t.Errorf("the service ended with %+v, %v", got, m.handler.err)
			}
		}
	}
	if got := m.handler.stopLimit(); got != 4*time.Second+scmLate {
		t.Errorf("it may take %v to stop; want what the settings say that were read again", got)
	}
	lines := lastLines(file, 10)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, `"msg":"listening"`) }) ||
		len(lines) == 0 || !strings.Contains(lines[len(lines)-1], `"msg":"stopped"`) {
		t.Errorf("the log is %q", lines)
	}
}

func TestServiceWantsAbsolutePaths(t *testing.T) {
	cmd := newRunCmd()
	addConfigFlags(cmd)
	for path, want := range map[string]int{`C:\ProgramData\ipcd\config.toml`: exitDone, "config.toml": exitUsage, `\config.toml`: exitUsage, `C:config.toml`: exitUsage} {
		if err := cmd.ParseFlags([]string{"--config", path}); err != nil {
			t.Fatal(err)
		}
		if err := checkServicePaths(cmd, instance{name: "ipcd"}); exitCode(err) != want {
			t.Errorf("--config %s: %v; want exit code %d", path, err, want)
		}
		if err := checkServicePaths(cmd, instance{}); err != nil {
			t.Errorf("without a service: %v", err)
		}
	}
}
