package main

// This file measures what one caller keeps beside a hostile user: a round measures it alone, and then beside 64 connections of the
// user nobody which send what costs the daemon most. It reports which part of its share the caller keeps, and how long its slowest
// calls took; the share is what it has alone, divided by the users who call.
//
//	go test -run '^$' -bench FairShare -benchtime 5x
//
// docs/performance.md has the figures.

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const hostileEnv = "IPCD_BENCH_HOSTILE" // KIND: this process sends that over the connections that it has inherited

// A hostility is what a connection sends over and over.
type hostility struct {
	text   string
	inStep bool // it waits for each answer, a line
}

func hostileCall(method, rest string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `"` + rest + "}\n"
}

var hostilities = map[string]hostility{
	"calls":           {hostileCall("Echo.Say", `,"params":["hello"]`), true},
	"calls-at-once":   {strings.Repeat(hostileCall("Echo.Say", `,"params":["hello"]`), 64), false},
	"describe":        {strings.Repeat(hostileCall("Ipcd.Describe", ""), 64), false},
	"list":            {strings.Repeat(hostileCall("Ipcd.List", ""), 64), false},
	"cancels":         {strings.Repeat(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}}`+"\n", 64), false},
	"unknown-methods": {strings.Repeat(hostileCall("No.Method", ""), 64), false},
	"white-space":     {strings.Repeat(" ", 64<<10), false},
	"large-names":     {hostileCall(strings.Repeat("n", 60<<10), ""), false},
	"escapes":         {hostileCall("Echo.Say", `,"params":["`+strings.Repeat(`\u00e9`, 20<<10)+`"]`), false},
	"1MiB":            {hostileCall("Echo.Say", `,"params":["`+strings.Repeat(`a`, 1<<20)+`"]`), false},
	"parts":           {strings.Repeat(hostileCall("Echo.Say", `,"params":["hello"],"parts":1`), 64), false},
	"behind-an-error": {"}" + strings.Repeat(" ", 64<<10), false},
	"http":            {"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n" + hostileCall("Echo.Say", `,"params":["hello"]`), false},
}

const hostileConns = 64

func init() {
	kind, ok := os.LookupEnv(hostileEnv)
	if !ok {
		return
	}
	h := hostilities[kind]
	for i := range hostileConns {
		conn, err := net.FileConn(os.NewFile(uintptr(3+i), "conn"))
		if err != nil {
			panic(err)
		}
		if !h.inStep {
			go io.Copy(io.Discard, conn)
		}
		go func() {
			lines := bufio.NewReader(conn)
			for {
				if _, err := io.WriteString(conn, h.text); err != nil {
					return
				}
				if h.inStep {
					if _, err := lines.ReadSlice('\n'); err != nil {
						return
					}
				}
			}
		}()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// attack has the user nobody send something until the function that it returns is called.
func attack(b *testing.B, kind, path string) (stop func()) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hostileEnv+"="+kind)
	cmd.Stderr = os.Stderr
	must(b, asNobody(b, func() error {
		for range hostileConns {
			conn, err := net.Dial("unix", path)
			if err != nil {
				return err
			}
			f, err := conn.(*net.UnixConn).File()
			if err != nil {
				return err
			}
			conn.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		return nil
	}))
	stdin, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	return func() {
		stdin.Close()
		cmd.Wait()
	}
}

func BenchmarkFairShare(b *testing.B) {
	needRoot(b)
	path := openDaemon(b)
	for _, kind := range slices.Sorted(maps.Keys(hostilities)) {
		b.Run(kind, func(b *testing.B) {
			c, err := ours(path, "?proto=jsonrpc")()
			must(b, err)
			defer c.Close()
			var alone, beside, worst []float64
			for b.Loop() {
				rate, _ := rateOf(b, c)
				alone = append(alone, rate)
				stop := attack(b, kind, path)
				rate, p99 := rateOf(b, c)
				stop()
				beside, worst = append(beside, rate), append(worst, p99.Seconds()*1000)
			}
			b.ReportMetric(median(beside)/(median(alone)/2), "of-its-share")
			b.ReportMetric(median(worst), "p99-ms")
			b.ReportMetric(median(beside), "calls/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fairTime is how long a caller is measured: so many calls that the hundredth part of them is more than chance.
const fairTime = 400 * time.Millisecond

// rateOf returns the calls a second of one caller, and how long 99 of 100 of them take at most.
func rateOf(b *testing.B, c echoer) (rate float64, p99 time.Duration) {
	b.Helper()
	var took []time.Duration
	began := time.Now()
	for last := began; last.Sub(began) < fairTime; {
		must(b, c.say("hello"))
		now := time.Now()
		took = append(took, now.Sub(last))
		last = now
	}
	slices.Sort(took)
	return float64(len(took)) / time.Since(began).Seconds(), took[len(took)*99/100]
}

// openDaemon starts a daemon that lets the user nobody call.
func openDaemon(b *testing.B) string {
	b.Helper()
	dir := openDir(b, 0o755)
	path, config := filepath.Join(dir, "s"), filepath.Join(dir, "config.toml")
	must(b, os.WriteFile(config, []byte("[[rule]]\nallow = [\"user:nobody\"]\ncall = [\"*\"]\n"), 0o600))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchServerEnv+"=ipcd "+path, "IPCD_CONFIG="+config)
	cmd.Stderr = os.Stderr
	must(b, cmd.Start())
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	waitForSocket(b, path)
	return path
}
