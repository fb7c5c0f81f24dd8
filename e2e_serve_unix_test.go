//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func init() {
	testPrograms["flee"] = flee
	testPrograms["chatter"] = func() {
		io.Copy(io.Discard, os.Stdin) // until flee has ended: what that prints comes first
		for {
			if _, err := fmt.Println("still here"); err != nil {
				return
			}
		}
	}
}

const fleeLines = 3000 // more than is read at once, and less than a pipe holds

// flee leaves two programs behind that hold its output open: one of its group, connected to the address that is its first
// argument, and one that has left the group, which the other arguments name. It prints its number, and many lines.
func flee() {
	heir, deserter := exec.Command("probe", "meet", os.Args[1]), exec.Command(os.Args[2], os.Args[3:]...)
	deserter.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	heir.Stdout, deserter.Stdout = os.Stdout, os.Stdout
	_, err := deserter.StdinPipe() // which ends with this program
	complain(os.Stderr, errors.Join(err, heir.Start(), deserter.Start()))
	fmt.Println(deserter.Process.Pid)
	fmt.Print(strings.Repeat("a\n", fleeLines))
}

// A slowResponder takes no part before another has closed ready.
type slowResponder struct {
	ready <-chan struct{}
	parts []string
}

func (r *slowResponder) encode(_ *call, result any) (any, *fault) { return result, nil }
func (r *slowResponder) answer(*call, any, *fault, *unflushed)    {}
func (r *slowResponder) awaitRoom(*call, int) error               { <-r.ready; return nil }
func (r *slowResponder) part(_ *call, value document, _ bool, _ *unflushed) (sent bool, err error) {
	select {
	case <-r.ready:
		r.parts = append(r.parts, string(value))
		return true, nil
	default:
		return false, nil
	}
}

// What a program has left behind keeps its call neither by silence nor by what it goes on to print, and a caller that is slow
// still gets all that the program has printed itself.
func TestServeOfLinesOutlivesNoGroup(t *testing.T) {
	for _, left := range [][]string{{"probe", "block"}, {"chatter"}} {
		t.Run(left[0], func(t *testing.T) {
			t.Parallel() // it waits, most of the time
			l, err := net.Listen("unix", localEndpoint(t).Path)
			must(t, err)
			defer l.Close()
			killed := make(chan struct{})
			caller := &slowResponder{ready: killed}
			spec := commandSpec{command: append([]string{"flee", l.Addr().String()}, left...), lines: true, limits: defaultLimits()}
			c := &call{message: message{parts: "1"}, from: caller}
			sent := make(chan any, 1)
			go func() {
				n, err := spec.run(context.WithValue(t.Context(), callKey, c), nil)
				sent <- errors.Join(err, fmt.Errorf("%v", n))
			}()
			conn, err := l.Accept()
			must(t, err)
			io.Copy(io.Discard, conn) // until the group is killed
			conn.Close()
			close(killed)
			got := receive(t, sent)
			pid, err := strconv.Atoi(strings.Trim(caller.parts[0], `"`))
			must(t, err)
			syscall.Kill(pid, syscall.SIGKILL)
			if n := len(caller.parts); fmt.Sprint(got) != fmt.Sprint(n) || left[0] == "probe" && n != fleeLines+1 {
				t.Errorf("the call ends with %v after %d parts; want %d", got, n, fleeLines+1)
			}
		})
	}
}

// Ctrl-C and SIGTERM take the methods back and let calls finish; a second one ends them.
func TestServeFinishesWhatRuns(t *testing.T) {
	for _, row := range []struct {
		signal syscall.Signal
		second bool
	}{{syscall.SIGINT, false}, {syscall.SIGTERM, false}, {syscall.SIGINT, true}} {
		t.Run(fmt.Sprintf("%v, second signal %t", row.signal, row.second), func(t *testing.T) {
			s := startServer(t, localEndpoint(t).String())
			l, err := net.Listen("unix", filepath.Join(filepath.Dir(s.endpoints[0].Path), "in"))
			must(t, err)
			defer l.Close()
			end, _ := serve(t, s, "--parallel", "2", "Probe.Meet", "--", "probe", "meet", l.Addr().String())
			c := dialOurs(protoJSON)(t, s.endpoints[0])
			defer c.close()
			waitFor(t, func() error {
				_, f := s.router.find("Probe.Meet", theOwner)
				return asError(f)
			})
			done := inBackground(t.Context(), c, "Probe.Meet", "a")
			conn, err := l.Accept() // the program runs
			must(t, err)
			defer conn.Close()
			ended := make(chan int, 1)
			go func() { ended <- end(row.signal) }()
			waitFor(t, func() error {
				if _, f := s.router.find("Probe.Meet", theOwner); f == nil {
					return errors.New("the method is still there")
				}
				return nil
			})
			if row.second {
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
