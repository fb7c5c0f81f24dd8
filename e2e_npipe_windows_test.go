//go:build windows && amd64

package main

import (
	"net/rpc"
	"os/exec"
	"strings"
	"testing"

	"gopkg.in/natefinch/npipe.v2"
)

// startPipeDaemon runs "ipcd run" on e in a process of its own.
func startPipeDaemon(t *testing.T, e endpoint) {
	t.Helper()
	cmd := exec.Command("ipcd", "run", "--listen", e.String(), "--log-level", "warn")
	cmd.Stderr = testWriter{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	first, err := settle(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
}

// A program that was written with npipe calls ipcd.
func TestPipeServesNpipe(t *testing.T) {
	e := pipeEndpoint(t)
	startPipeDaemon(t, e)
	conn, err := npipe.Dial(e.Path)
	if err != nil {
		t.Fatal(err)
	}
	client := rpc.NewClient(conn)
	defer client.Close()
	var answer string
	if err := client.Call("Echo.Say", "from npipe", &answer); err != nil || answer != "from npipe" {
		t.Errorf("Echo.Say = %q, %v", answer, err)
	}
}

func TestPipeServesIpcd(t *testing.T) {
	e := pipeEndpoint(t)
	startPipeDaemon(t, e)
	out, err := exec.Command("ipcd", "call", "-e", e.String(), "hello").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "hello" {
		t.Errorf("ipcd call: %q, %v", out, err)
	}
	out, err = exec.Command("ipcd", "whoami", "--json", "-e", e.String()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"known":true`) || !strings.Contains(string(out), `"sid":"S-1-`) {
		t.Errorf("ipcd whoami: %q, %v", out, err)
	}
}

// Node.js on Windows calls ipcd with the net module that it has.
func TestPipeServesNode(t *testing.T) {
	node := needEnv(t, "IPCD_NODE_EXE")
	e := pipeEndpoint(t)
	startPipeDaemon(t, e)
	const program = `
const c = require('net').connect(process.argv[1])
c.write(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Echo.Say', params: ['hello from Node'] }) + '\n')
c.on('data', (answer) => { console.log(JSON.parse(answer).result); c.destroy() })
c.on('error', (err) => { console.log(err.message); process.exitCode = 1 })`
	out, err := exec.Command(node, "-e", program, e.Path).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "hello from Node" {
		t.Errorf("node: %q, %v", out, err)
	}
}
