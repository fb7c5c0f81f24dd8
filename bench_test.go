//go:build unix

package main

// This file measures calls side by side: stock net/rpc, ipcd and combinations of the two, in
// one run and in turns, each server in a process of its own. It reports ratios:
//
//	go test -run '^$' -bench .
//
// docs/performance.md has the figures and says how to read them.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const benchServerEnv = "IPCD_BENCH_SERVER" // KIND SOCKET: this process serves there, for a benchmark

func init() {
	kind, path, ok := strings.Cut(os.Getenv(benchServerEnv), " ")
	if !ok {
		return
	}
	if kind == "ipcd" {
		os.Args = []string{"ipcd", "run", "--log-level", "error", "--listen", "unix://" + path}
		main()
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	server := rpc.NewServer()
	server.RegisterName("Echo", stockEcho{})
	for {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		switch kind {
		case "gob":
			go server.ServeConn(conn)
		case "json":
			go server.ServeCodec(jsonrpc.NewServerCodec(conn))
		case "raw":
			go io.Copy(conn, conn)
		}
	}
}

type stockEcho struct{}

func (stockEcho) Say(text string, reply *string) error {
	*reply = text
	return nil
}

// benchServer starts a server in a process of its own and returns its socket.
func benchServer(b *testing.B, kind string) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "ipcd")
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchServerEnv+"="+kind+" "+path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	waitFor(b, func() error {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return path
}

// An echoer calls Echo.Say, or does what comes nearest to it.
type echoer interface {
	say(text string) error
	Close() error
}

type stockClient struct{ *rpc.Client }

func (c stockClient) say(text string) error {
	var answer string
	if err := c.Call("Echo.Say", text, &answer); err != nil {
		return err
	}
	return sameText(answer, text)
}

type ourClient struct{ caller }

func (c ourClient) say(text string) error {
	var answer string
	if err := c.call(context.Background(), "Echo.Say", text, &answer); err != nil {
		return err
	}
	return sameText(answer, text)
}

func (c ourClient) Close() error { return c.close() }

type rawClient struct {
	net.Conn
	r *bufio.Reader
}

func (c rawClient) say(text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	answer := make([]byte, len(text))
	if _, err := io.ReadFull(c.r, answer); err != nil {
		return err
	}
	return sameText(string(answer), text)
}

func sameText(got, want string) error {
	if got != want {
		return errors.New("the answer is not what was sent")
	}
	return nil
}

// A side is one client with one server.
type side struct {
	name string
	dial func() (echoer, error)
	base int // the side that its ratio is to
}

func ours(path, query string) func() (echoer, error) {
	return func() (echoer, error) {
		e, err := parseEndpoint("unix://" + path + query)
		if err != nil {
			return nil, err
		}
		c, err := dial(context.Background(), e, defaultLimits())
		return ourClient{c}, err
	}
}

func benchSides(b *testing.B) []side {
	gob, json, raw, daemon := benchServer(b, "gob"), benchServer(b, "json"), benchServer(b, "raw"), benchServer(b, "ipcd")
	stockGob := func(path string) func() (echoer, error) {
		return func() (echoer, error) { c, err := rpc.Dial("unix", path); return stockClient{c}, err }
	}
	stockJSON := func(path string) func() (echoer, error) {
		return func() (echoer, error) { c, err := jsonrpc.Dial("unix", path); return stockClient{c}, err }
	}
	return []side{
		{"stock-gob", stockGob(gob), 0},
		{"ipcd-gob", ours(daemon, "?proto=gob"), 0},
		{"stock-to-ipcd-gob", stockGob(daemon), 0},
		{"ipcd-to-stock-gob", ours(gob, "?proto=gob"), 0},
		{"raw", func() (echoer, error) {
			c, err := net.Dial("unix", raw)
			return rawClient{c, bufio.NewReader(c)}, err
		}, 0},
		{"stock-json", stockJSON(json), 5},
		{"ipcd-json", ours(daemon, ""), 5},
		{"stock-to-ipcd-json", stockJSON(daemon), 5},
	}
}

// BenchmarkCall reports calls a second of each side as a ratio to the stock one of the same
// protocol: 2 is twice as many. The sides take turns, and the ratio is the median of the rounds'.
func BenchmarkCall(b *testing.B) {
	sides := benchSides(b)
	for _, size := range []struct {
		name  string
		bytes int
	}{{"16B", 16}, {"4KiB", 4 << 10}} {
		for _, load := range []struct {
			name             string
			conns, callers   int
			callsOfEachRound int
		}{{"1-caller", 1, 1, 3000}, {"64-callers", 1, 64, 12800}, {"100-connections", 100, 100, 10000}} {
			b.Run(size.name+"/"+load.name, func(b *testing.B) {
				text := strings.Repeat("x", size.bytes)
				took := make([][]float64, len(sides))
				for b.Loop() {
					for i, s := range sides {
						if s.name == "raw" && load.callers > load.conns {
							took[i] = append(took[i], 0) // a raw socket has no ids to tell answers apart by
							continue
						}
						took[i] = append(took[i], benchRound(b, s, load.conns, load.callers, load.callsOfEachRound, text).Seconds())
					}
				}
				b.ReportMetric(0, "ns/op")
				for i, s := range sides {
					var ratios []float64
					for n := range took[i] {
						if took[i][n] > 0 {
							ratios = append(ratios, took[s.base][n]/took[i][n])
						}
					}
					if i != s.base && len(ratios) > 0 {
						slices.Sort(ratios)
						b.ReportMetric(ratios[len(ratios)/2], "x:"+s.name)
					}
					if i == s.base {
						b.ReportMetric(1e9*slices.Min(took[i])/float64(load.callsOfEachRound), "ns:"+s.name)
					}
				}
			})
		}
	}
}

// benchRound makes n calls and tells how long they took, the dialing left out.
func benchRound(b *testing.B, s side, conns, callers, n int, text string) time.Duration {
	b.Helper()
	clients := make([]echoer, conns)
	for i := range clients {
		c, err := s.dial()
		if err != nil {
			b.Fatalf("%s: %v", s.name, err)
		}
		defer c.Close()
		if err := c.say(text); err != nil { // type definitions, first goroutines
			b.Fatalf("%s: %v", s.name, err)
		}
		clients[i] = c
	}
	var wg sync.WaitGroup
	began := time.Now()
	for i := range callers {
		wg.Go(func() {
			for range n / callers {
				if err := clients[i%conns].say(text); err != nil {
					b.Errorf("%s: %v", s.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// BenchmarkIdleConnection reports the memory of the daemon for a connection that has made one
// call and now is idle.
func BenchmarkIdleConnection(b *testing.B) {
	path := benchServer(b, "ipcd")
	c, err := ours(path, "")()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	memory := func() float64 {
		var s Status
		if err := c.(ourClient).call(context.Background(), "Ipcd.Status", nil, &s); err != nil {
			b.Fatal(err)
		}
		return float64(s.Memory)
	}
	const conns = 1000
	for b.Loop() {
		before := memory()
		idle := make([]echoer, conns)
		for i := range idle {
			if idle[i], err = ours(path, "?proto=gob")(); err != nil {
				b.Fatal(err)
			}
			if err := idle[i].say("hello"); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((memory()-before)/conns, "B/connection")
		for _, c := range idle {
			c.Close()
		}
	}
}

// benchBinary builds a program.
func benchBinary(b *testing.B, dir, name, source string) string {
	b.Helper()
	out := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build %s: %v\n%s", source, err, text)
	}
	return out
}

// BenchmarkProcess reports how long "ipcd call hello" takes as a whole process, as a ratio to
// a bare Go program with net/rpc that does the same, and to busctl where there is a bus.
func BenchmarkProcess(b *testing.B) {
	dir := b.TempDir()
	ipcd := benchBinary(b, dir, "ipcd", ".")
	bare := benchBinary(b, dir, "bare", "testdata/bare/main.go")
	path := benchServer(b, "ipcd")
	commands := [][]string{{ipcd, "call", "-e", "unix://" + path, "hello"}, {bare, path}}
	names := []string{"ipcd", "bare"}
	if busctl, err := exec.LookPath("busctl"); err == nil && exec.Command(busctl, "--user", "list").Run() == nil {
		commands = append(commands, []string{busctl, "--user", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus.Peer", "Ping"})
		names = append(names, "busctl")
	}
	took := make([][]float64, len(commands))
	for b.Loop() {
		for i, command := range commands {
			for range 20 {
				began := time.Now()
				if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
					b.Fatalf("%v: %v\n%s", command, err, out)
				}
				took[i] = append(took[i], time.Since(began).Seconds())
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for i := range took {
		slices.Sort(took[i])
		b.ReportMetric(1e3*took[i][len(took[i])/2], "ms:"+names[i])
		if i > 0 {
			b.ReportMetric(took[0][len(took[0])/2]/took[i][len(took[i])/2], "x:"+names[i])
		}
	}
}

// BenchmarkStart reports the time from the start of "ipcd run" to its first answer.
func BenchmarkStart(b *testing.B) {
	dir, err := os.MkdirTemp("", "ipcd")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ipcd := benchBinary(b, b.TempDir(), "ipcd", ".")
	e, err := parseEndpoint("unix://" + filepath.Join(dir, "s"))
	if err != nil {
		b.Fatal(err)
	}
	var took []float64
	for b.Loop() {
		cmd := exec.Command(ipcd, "run", "--listen", e.String())
		began := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		var c caller
		for {
			if c, err = dial(context.Background(), e, defaultLimits()); err == nil {
				break
			}
		}
		var answer json.RawMessage
		if err := c.call(context.Background(), "Echo.Say", "hello", &answer); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began).Seconds())
		c.close()
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1e3*took[len(took)/2], "ms")
}
