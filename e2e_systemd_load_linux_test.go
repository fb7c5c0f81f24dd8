package main

// This file owns the tests of a service that is restarted and upgraded while it is called: no
// call is lost, and no connection refused.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func init() {
	systemdTests = append(systemdTests,
		systemdTest{"RestartUnderLoad", testRestartUnderLoad},
		systemdTest{"UpgradeUnderLoad", testUpgradeUnderLoad},
		systemdTest{"RestartInPlace", testRestartInPlace},
		systemdTest{"UninstallUnderLoad", testUninstallUnderLoad},
	)
}

const (
	loadRate     = 100 // calls a second, each on a connection of its own
	loadRestarts = 20
	loadTime     = 30 * time.Second // for so many restarts; the short run has a fifth of each
)

// A callLoad is calls that come whatever becomes of those before.
type callLoad struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	calls  int
	worst  time.Duration
	failed []error
}

// startLoad calls the socket at path until it is stopped.
func startLoad(path string) *callLoad {
	ctx, stop := context.WithCancel(context.Background())
	l := &callLoad{stop: stop}
	tick := time.NewTicker(time.Second / loadRate)
	l.wg.Go(func() {
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.wg.Go(func() { l.call(path) })
			case <-ctx.Done():
				return
			}
		}
	})
	return l
}

// call connects once, and calls once.
func (l *callLoad) call(path string) {
	began := time.Now()
	err := sayOnce(path)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.worst = max(l.worst, took)
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("after %v: %w", took, err))
	}
}

func sayOnce(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testPatience))
	if _, err := io.WriteString(conn, sayRequest); err != nil {
		return err
	}
	b := make([]byte, len(sayAnswer))
	if n, err := io.ReadFull(conn, b); err != nil {
		return fmt.Errorf("%w after %q", err, b[:n])
	}
	if string(b) != sayAnswer {
		return fmt.Errorf("the answer is %q; want %q", b, sayAnswer)
	}
	return nil
}

// count is how many calls have ended.
func (l *callLoad) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// waitCalls waits until so many more calls have ended.
func (l *callLoad) waitCalls(t testing.TB, more int) {
	t.Helper()
	from := l.count()
	waitFor(t, func() error {
		if n := l.count() - from; n < more {
			return fmt.Errorf("%d of %d calls have ended", n, more)
		}
		return nil
	})
}

// end waits for the calls that have begun, and returns why some failed.
func (l *callLoad) end(t testing.TB) error {
	t.Helper()
	l.stop()
	l.wg.Wait()
	t.Logf("%d calls, of which %d failed; the slowest took %v", l.calls, len(l.failed), l.worst.Round(time.Millisecond))
	return errors.Join(l.failed[:min(len(l.failed), 10)]...)
}

func testRestartUnderLoad(t *testing.T, c *container) {
	c.run("ipcd", "install")
	const perRestart = int(loadTime/time.Second) * loadRate / loadRestarts // calls
	restarts := loadRestarts
	if testing.Short() {
		restarts /= 5
	}
	l := startLoad(c.path("/run/ipcd/ipcd.sock"))
	defer l.stop()
	pids := map[string]bool{}
	for i := range restarts {
		l.waitCalls(t, (2*i+1)*perRestart/2-l.count())
		if r := c.try("", "systemctl", "restart", "ipcd.service"); r.code != 0 {
			t.Errorf("restart %d: %s", i+1, r)
			break
		}
		pids[c.show("ipcd.service", "MainPID")] = true
	}
	l.waitCalls(t, restarts*perRestart-l.count())
	if err := l.end(t); err != nil {
		t.Errorf("calls were lost: %v", err)
	}
	if len(pids) != restarts {
		t.Errorf("%d restarts gave %d daemons", restarts, len(pids))
	}
	if got := c.show("ipcd.service", "NRestarts"); got != "0" {
		t.Errorf("systemd has restarted the service %s times by itself", got)
	}
}

// testUpgradeUnderLoad puts a newer program in the place of the old one, as a package does, and
// restarts the service.
func testUpgradeUnderLoad(t *testing.T, c *container) {
	const newer = "v1.99.0"
	c.run("ipcd", "install")
	old := c.run("ipcd", "version")
	l := startLoad(c.path("/run/ipcd/ipcd.sock"))
	defer l.stop()
	l.waitCalls(t, loadRate/2)
	c.replaceProgram(buildIpcd(t, t.TempDir(), newer))
	if got := c.run("ipcd", "version"); got == old || !strings.Contains(got, newer) {
		t.Fatalf("the new program says that it is %q; want %s", got, newer)
	}
	if r := c.try("", "ipcd", "status"); r.code != 0 || !r.says(newer) {
		t.Errorf("%s; want it to say that this program is another version", r)
	}
	c.run("ipcd", "restart")
	l.waitCalls(t, loadRate/2)
	if err := l.end(t); err != nil {
		t.Errorf("calls were lost: %v", err)
	}
	if got := c.run("ipcd", "status", "--json"); !strings.Contains(got, newer) {
		t.Errorf("after the restart the daemon is %s; want %s", got, newer)
	}
	c.run("ipcd", "call", "hello")
}

// testRestartInPlace has the daemon restart itself, which systemd notices as a reload: in its sandbox, and with systemd's sockets.
func testRestartInPlace(t *testing.T, c *container) {
	c.run("ipcd", "install")
	l := startLoad(c.path("/run/ipcd/ipcd.sock"))
	defer l.stop()
	pid := c.show("ipcd.service", "MainPID")
	for n := range 5 {
		l.waitCalls(t, loadRate/4)
		c.run("ipcd", "call", "Ipcd.Restart")
		waitFor(t, func() error {
			if got := c.run("ipcd", "status", "--json"); !strings.Contains(got, fmt.Sprintf(`"restarts":%d`, n+1)) {
				return fmt.Errorf("the status is %s", got)
			}
			return nil
		})
		c.waitShow("ipcd.service", "ActiveState", "active")
	}
	l.waitCalls(t, loadRate/4)
	if err := l.end(t); err != nil {
		t.Errorf("calls were lost: %v", err)
	}
	if now, by := c.show("ipcd.service", "MainPID"), c.show("ipcd.service", "NRestarts"); now != pid || by != "0" {
		t.Errorf("it is process %s, and was %s; systemd has restarted it %s times", now, pid, by)
	}
}

// testUninstallUnderLoad has calls run: each is answered, or cut, or finds nobody there. None hangs,
// and none brings the service back.
func testUninstallUnderLoad(t *testing.T, c *container) {
	before := c.snapshot()
	c.run("ipcd", "install")
	l := startLoad(c.path("/run/ipcd/ipcd.sock"))
	defer l.stop()
	l.waitCalls(t, loadRate/2)
	c.run("ipcd", "uninstall", "--purge")
	l.waitCalls(t, loadRate/4)
	l.end(t)
	for _, err := range l.failed {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a call ended with %v; want an answer, or nobody there", err)
		}
	}
	before.check(c)
}
