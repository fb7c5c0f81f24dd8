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
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	if kind == "ipcd" || kind == "ipcd-pprof" {
		os.Args = []string{"ipcd", "run", "--log-level", "error", "--listen", "unix://" + path}
		if kind == "ipcd-pprof" {
			os.Args = append(os.Args, "--pprof")
		}
		main()
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	if kind == "http" {
		panic(http.Serve(l, http.HandlerFunc(stockHTTP)))
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

// stockHTTP is Echo.Say as one writes it with net/http.
func stockHTTP(rw http.ResponseWriter, r *http.Request) {
	var text string
	if err := json.NewDecoder(r.Body).Decode(&text); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	answer, _ := json.Marshal(text)
	rw.Header().Set("Content-Type", jsonType)
	rw.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	rw.Write(answer)
}

// benchServer starts a server in a process of its own and returns its socket.
func benchServer(b *testing.B, kind string) string {
	b.Helper()
	path, _ := benchProcess(b, kind)
	return path
}

// benchProcess is benchServer that returns the process, too.
func benchProcess(b *testing.B, kind string) (path string, pid int) {
	b.Helper()
	dir, err := os.MkdirTemp("", "ipcd")
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(dir, "s")
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
	waitForSocket(b, path)
	return path, cmd.Process.Pid
}

func waitForSocket(b *testing.B, path string) {
	b.Helper()
	waitFor(b, func() error {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		return err
	})
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

type ourClient struct {
	caller
	ctx context.Context
}

func (c ourClient) say(text string) error {
	var answer string
	if err := c.call(c.ctx, "Echo.Say", text, &answer); err != nil {
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

// An httpClient is one that costs next to nothing, so that a ratio is one of servers.
type httpClient struct {
	rawClient
	path, before, behind string // what precedes and follows the text in a body
}

func (c httpClient) say(text string) error {
	head := "POST " + c.path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
	if _, err := fmt.Fprint(c, head, len(c.before)+len(text)+len(c.behind), "\r\n\r\n", c.before, text, c.behind); err != nil {
		return err
	}
	length, ok := 0, false
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == len("\r\n") {
			break
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			ok = err == nil
		}
	}
	if !ok {
		return errors.New("the answer has no length")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return err
	}
	if !bytes.Contains(body, []byte(`"`+text+`"`)) {
		return fmt.Errorf("the answer is %.200s", body)
	}
	return nil
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
	base string // the side that its ratio is to
}

func ours(path, query string) func() (echoer, error) {
	return func() (echoer, error) {
		e, err := parseEndpoint("unix://" + path + query)
		if err != nil {
			return nil, err
		}
		c, err := dial(context.Background(), e, dialOptions{limits: defaultLimits()})
		return ourClient{c, context.Background()}, err
	}
}

// oursUntil is ours with a context that can end, and does not.
func oursUntil(path, query string) func() (echoer, error) {
	return func() (echoer, error) {
		c, err := ours(path, query)()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		return endingClient{ourClient{c.(ourClient).caller, ctx}, cancel}, nil
	}
}

type endingClient struct {
	ourClient
	cancel context.CancelFunc
}

func (c endingClient) Close() error {
	defer c.cancel()
	return c.ourClient.Close()
}

func stockGob(path string) func() (echoer, error) {
	return func() (echoer, error) { c, err := rpc.Dial("unix", path); return stockClient{c}, err }
}

func benchSides(b *testing.B) []side {
	b.Helper()
	gob, json, raw, bare, daemon := benchServer(b, "gob"), benchServer(b, "json"), benchServer(b, "raw"), benchServer(b, "http"), benchServer(b, "ipcd")
	web := func(socket, path, before, behind string) func() (echoer, error) {
		return func() (echoer, error) {
			c, err := net.Dial("unix", socket)
			return httpClient{rawClient{c, bufio.NewReader(c)}, path, before, behind}, err
		}
	}
	stockJSON := func(path string) func() (echoer, error) {
		return func() (echoer, error) { c, err := jsonrpc.Dial("unix", path); return stockClient{c}, err }
	}
	return []side{
		{"stock-gob", stockGob(gob), "stock-gob"},
		{"ipcd-gob", ours(daemon, "?proto=gob"), "stock-gob"},
		{"stock-to-ipcd-gob", stockGob(daemon), "stock-gob"},
		{"ipcd-to-stock-gob", ours(gob, "?proto=gob"), "stock-gob"},
		{"raw", func() (echoer, error) {
			c, err := net.Dial("unix", raw)
			return rawClient{c, bufio.NewReader(c)}, err
		}, "stock-gob"},
		{"stock-http", web(bare, "/", `"`, `"`), "stock-http"},
		{"ipcd-http-call", web(daemon, "/call/Echo.Say", `"`, `"`), "stock-http"},
		{"ipcd-http-rpc", web(daemon, "/rpc", `{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["`, `"]}`), "stock-http"},
		{"stock-json", stockJSON(json), "stock-json"},
		{"ipcd-json", ours(daemon, "?proto=jsonrpc"), "stock-json"},
		{"ipcd-gob-until", oursUntil(daemon, "?proto=gob"), "ipcd-gob"},
		{"stock-to-ipcd-json", stockJSON(daemon), "stock-json"},
		{"ipcd-to-stock-json", ours(json, "?proto=jsonrpc"), "stock-json"},
	}
}

// A load is how many call at once, on how many connections, and how often in one turn: so
// often that a turn takes some milliseconds.
type load struct {
	name                  string
	conns, callers, calls int
}

var benchLoads = []struct {
	size  string
	bytes int
	loads []load
}{
	{"16B", 16, []load{{"1-caller", 1, 1, 300}, {"64-callers", 1, 64, 1280}, {"100-connections", 100, 100, 1000}}},
	{"4KiB", 4 << 10, []load{{"1-caller", 1, 1, 200}, {"64-callers", 1, 64, 640}, {"100-connections", 100, 100, 500}}},
	{"1MiB", 1 << 20, []load{{"1-caller", 1, 1, 5}, {"64-callers", 1, 64, 64}}},
}

// skips tells what is not measured. A raw socket and HTTP have no ids to tell the answers for many callers
// apart by, and who writes more into the first than fits must read at the same time. Stock JSON-RPC takes
// too long for large texts.
func (l load) skips(s side, bytes int) bool {
	large, shared := bytes > 1<<16, l.callers > l.conns
	return s.name == "raw" && (large || shared) || s.base == "stock-http" && shared || s.base == "stock-json" && large
}

const benchRounds = 5 // turns of each side in one iteration of a benchmark

// BenchmarkCall reports calls a second of each side as a ratio to the stock one of the same
// protocol: 2 is twice as many. The sides take short turns, each round begins with another one,
// and the ratio is the median of the rounds' own: whatever else the machine does meets all alike.
func BenchmarkCall(b *testing.B) {
	sides := benchSides(b)
	for _, size := range benchLoads {
		text := strings.Repeat("x", size.bytes)
		for _, l := range size.loads {
			b.Run(size.size+"/"+l.name, func(b *testing.B) {
				var parties []*party
				for _, s := range sides {
					if !l.skips(s, size.bytes) {
						parties = append(parties, newParty(b, s, l, text))
					}
				}
				for round := 0; b.Loop(); {
					for range benchRounds {
						for i := range parties {
							parties[(i+round)%len(parties)].turn(b, text)
						}
						round++
					}
				}
				reportParties(b, parties)
			})
		}
	}
}

// A party is one side with its connections and how long its turns took.
type party struct {
	side
	load    load
	clients []echoer
	took    []float64
}

func newParty(b *testing.B, s side, l load, text string) *party {
	b.Helper()
	p := &party{side: s, load: l}
	for range l.conns {
		c, err := s.dial()
		if err != nil {
			b.Fatalf("%s: %v", s.name, err)
		}
		b.Cleanup(func() { c.Close() })
		if err := c.say(text); err != nil { // type definitions, first goroutines
			b.Fatalf("%s: %v", s.name, err)
		}
		p.clients = append(p.clients, c)
	}
	return p
}

func (p *party) turn(b *testing.B, text string) {
	b.Helper()
	var wg sync.WaitGroup
	began := time.Now()
	for i := range p.load.callers {
		wg.Go(func() {
			for range p.load.calls / p.load.callers {
				if err := p.clients[i%p.load.conns].say(text); err != nil {
					b.Errorf("%s: %v", p.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	p.took = append(p.took, time.Since(began).Seconds())
}

func reportParties(b *testing.B, parties []*party) {
	b.Helper()
	took := map[string][]float64{}
	for _, p := range parties {
		took[p.name] = p.took
	}
	b.ReportMetric(0, "ns/op")
	for _, p := range parties {
		if p.name == p.base {
			b.ReportMetric(1e9*median(p.took)/float64(p.load.calls), "ns:"+p.name)
		} else {
			b.ReportMetric(medianRatio(took[p.base], p.took), "x:"+p.name)
		}
	}
}

// medianRatio is the median of the ratios of what was measured side by side.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

// BenchmarkIdleConnection reports the memory of the daemon for a connection that has made one
// call and now is idle: the most of all iterations, since what one leaves the next one uses.
func BenchmarkIdleConnection(b *testing.B) {
	path := benchServer(b, "ipcd-pprof")
	c, err := ours(path, "")()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	web := newHTTPClient(b, mustParse(b, "unix://"+path))
	status := func() (s Status) {
		for range 2 { // garbage is no memory of a connection, and what a pool has goes with the second collection
			answer, err := web.Get("http://localhost/debug/pprof/heap?gc=1")
			if err != nil {
				b.Fatal(err)
			}
			answer.Body.Close()
		}
		if err := c.(ourClient).call(context.Background(), "Ipcd.Status", nil, &s); err != nil {
			b.Fatal(err)
		}
		return s
	}
	const conns = 1000
	var most float64
	for b.Loop() {
		before := status()
		idle := make([]echoer, conns)
		for i := range idle {
			if idle[i], err = ours(path, "?proto=gob")(); err != nil {
				b.Fatal(err)
			}
			if err := idle[i].say("hello"); err != nil {
				b.Fatal(err)
			}
		}
		most = max(most, (float64(status().Memory)-float64(before.Memory))/conns)
		for _, c := range idle {
			c.Close()
		}
		waitFor(b, func() error {
			if status().Connections > 2 {
				return errors.New("connections are still closing")
			}
			return nil
		})
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(most, "B/connection")
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
// a bare Go program with net/rpc that does the same, and to busctl where that is installed.
func BenchmarkProcess(b *testing.B) {
	dir := b.TempDir()
	ipcd := benchBinary(b, dir, "ipcd", ".")
	bare := benchBinary(b, dir, "bare", "testdata/bare/main.go")
	path := benchServer(b, "ipcd")
	commands := [][]string{{ipcd, "call", "-e", "unix://" + path, "hello"}, {bare, path}}
	names := []string{"ipcd", "bare"}
	if busctl, err := exec.LookPath("busctl"); err == nil {
		if bus := benchBus(b); bus != "" {
			commands = append(commands, []string{busctl, "--address=" + bus, "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus.Peer", "Ping"})
			names = append(names, "busctl")
		}
	}
	took := make([][]float64, len(commands))
	for b.Loop() {
		for i, command := range commands {
			began := time.Now()
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				b.Fatalf("%v: %v\n%s", command, err, out)
			}
			took[i] = append(took[i], time.Since(began).Seconds())
		}
	}
	b.ReportMetric(0, "ns/op")
	for i := range took {
		b.ReportMetric(1e3*median(took[i]), "ms:"+names[i])
		if i > 0 {
			b.ReportMetric(medianRatio(took[0], took[i]), "x:"+names[i])
		}
	}
}

// benchBus starts a message bus of our own and returns its address, or "" where there is none
// to start.
func benchBus(b *testing.B) string {
	b.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		return ""
	}
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	cmd := exec.Command(daemon, "--session", "--nofork", "--nopidfile", "--address=unix:path="+path)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	waitForSocket(b, path)
	return "unix:path=" + path
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
			if c, err = dial(context.Background(), e, dialOptions{limits: defaultLimits()}); err == nil {
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
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1e3*median(took), "ms")
}
