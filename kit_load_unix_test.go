//go:build unix

package main

// This file owns what the tests share that cause faults under load: how often, the callers, and the figures that
// docs/reliability.md has.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// faultRounds is how often a fault is caused: the short form's number, or with IPCD_FAULTS=100 that of docs/reliability.md, and
// with another number so many percent of it.
func faultRounds(t testing.TB, short, whole int) int {
	t.Helper()
	text, percent := os.Getenv("IPCD_FAULTS"), 0
	if text == "" {
		return short
	}
	if _, err := fmt.Sscan(text, &percent); err != nil || percent < 1 {
		t.Fatalf("IPCD_FAULTS is %q; want a number of percent", text)
	}
	return max(short, whole*percent/100)
}

// figure prints a figure for docs/reliability.md, if it is a whole form that has run.
func figure(t testing.TB, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	if os.Getenv("IPCD_FAULTS") != "" {
		fmt.Printf("figure: %s: %s\n", t.Name(), text)
	}
}

// A fullLoad is callers who call as fast as they are answered, each answer checked against its request: those who connect for each
// call, and those who stay, with several calls in flight.
type fullLoad struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	calls   int
	refused int // connections
	cut     int // calls that ended as spared allows
	again   int // requests that met a connection that had ended, unread
	failed  []error

	spared func(error) bool // what else may become of a call; nil for nothing
}

const (
	fullDials = 4  // callers who connect for each call, at each endpoint
	fullStays = 4  // callers who stay
	fullAhead = 16 // calls in flight of one who stays
)

// startFullLoad calls methods that give back their text, until it is stopped; who stays calls Echo.Say.
func startFullLoad(spared func(error) bool, methods []string, endpoints ...endpoint) *fullLoad {
	ctx, stop := context.WithCancel(context.Background())
	l := &fullLoad{stop: stop, spared: spared}
	for _, e := range endpoints {
		for i := range fullDials {
			method := methods[i%len(methods)]
			l.wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					l.count(l.dials(e, method, fmt.Sprintf("%s dials %d-%d", e.Scheme, i, n)))
				}
			})
		}
	}
	for i := range fullStays {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.stays(ctx, endpoints[0], fmt.Sprintf("stays %d-%d", i, n))
			}
		})
	}
	return l
}

func (l *fullLoad) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.calls++; {
	case err == nil:
	case l.spared != nil && l.spared(err):
		l.cut++
	default:
		l.failed = append(l.failed, err)
	}
}

func (l *fullLoad) connect(e endpoint) (net.Conn, error) {
	network, address := "unix", e.Path
	if e.Scheme != "unix" {
		network, address = "tcp", e.Host
	}
	conn, err := net.DialTimeout(network, address, testPatience)
	if err != nil {
		l.mu.Lock()
		l.refused++
		l.mu.Unlock()
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(3 * testPatience))
}

// dials connects and calls once, which has to succeed whatever becomes of the daemon meanwhile.
func (l *fullLoad) dials(e endpoint, method, text string) error {
	conn, err := l.connect(e)
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":1,"method":%q,"params":[%q]}`+"\n", method, text)
	got, err := bufio.NewReader(conn).ReadString('\n')
	switch want := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%q}`+"\n", text); {
	case err != nil && strings.HasPrefix(want, got):
		return fmt.Errorf("%s: %q, %w", text, got, err)
	case got != want:
		return fmt.Errorf("%s is answered with %q", text, got)
	}
	return nil
}

// stays calls over one connection until that ends. Each answer is that of its request, or says that the call was not begun. Of the
// requests that are not answered none has been read: see stopConnections.
func (l *fullLoad) stays(ctx context.Context, e endpoint, text string) {
	conn, err := l.connect(e)
	if err != nil {
		l.count(fmt.Errorf("%s: %w", text, err))
		return
	}
	defer conn.Close()
	out := map[int]bool{}
	next := 0
	ask := func() {
		next++
		out[next] = true
		fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,"method":"Echo.Say","params":["%s/%[1]d"]}`+"\n", next, text)
	}
	for range fullAhead {
		ask()
	}
	answered := false
	for in := json.NewDecoder(conn); len(out) > 0; {
		var a struct {
			ID     int    `json:"id"`
			Result string `json:"result"`
			Error  *fault `json:"error"`
		}
		if err := in.Decode(&a); err != nil {
			if isTimeout(err) || !answered {
				l.count(fmt.Errorf("%s: %d are not answered: %w", text, len(out), err))
			}
			l.mu.Lock()
			l.again += len(out)
			l.mu.Unlock()
			return
		}
		answered = true
		switch {
		case !out[a.ID]:
			l.count(fmt.Errorf("%s: an answer for the call %d, which is not out", text, a.ID))
		case a.Error != nil && (a.Error.Code != codeShuttingDown || !a.Error.data().Retry):
			l.count(fmt.Errorf("%s/%d: %w", text, a.ID, a.Error))
		case a.Error != nil: // it was not begun
		case a.Result != fmt.Sprintf("%s/%d", text, a.ID):
			l.count(fmt.Errorf("%s/%d is answered with %q", text, a.ID, a.Result))
		default:
			l.count(nil)
		}
		delete(out, a.ID)
		if ctx.Err() == nil && a.Error == nil {
			ask()
		}
	}
}

// waitCalls waits until so many more calls have ended.
func (l *fullLoad) waitCalls(t testing.TB, more int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.calls
	}
	from := count()
	waitFor(t, func() error {
		if n := count() - from; n < more {
			return fmt.Errorf("%d of %d calls have ended", n, more)
		}
		return nil
	})
}

// end waits for the calls that have begun, and returns why some failed.
func (l *fullLoad) end() error {
	l.stop()
	l.wg.Wait()
	return errors.Join(l.failed[:min(len(l.failed), 10)]...)
}

// openDescriptors is how many a process has open; 0 where the system does not tell.
func openDescriptors(pid int) int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(list)
}

// residentBytes is how much memory a process has; 0 where the system does not tell.
func residentBytes(pid int) (n int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size int64
	fmt.Sscan(string(text), &size, &n)
	return n * int64(os.Getpagesize())
}
