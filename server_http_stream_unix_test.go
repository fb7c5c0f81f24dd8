//go:build unix

package main

// This file owns callers of streams over HTTP that are programs of others, which Wine has not.

import (
	"errors"
	"io"
	"os/exec"
	"testing"
)

// Whoever closes the connection in the middle of a stream stops who produces it: a program that is killed, and one that
// wants no more.
func TestWhoGoesStopsTheStream(t *testing.T) {
	const aborted = `
const stop = new AbortController()
fetch(process.argv[1], { method: process.argv[2], headers: { Accept: process.argv[3], 'Content-Type': 'application/json' }, signal: stop.signal }).then(async (answer) => {
  for await (const _ of answer.body) { stop.abort() }
}).catch((err) => { console.log(err.name); setInterval(() => {}, 1000) }) // the process stays`
	for _, form := range answerForms {
		for _, row := range []struct{ method, path string }{{"POST", "/call/Far.Flood"}, {"GET", "/events?topic=a"}} {
			start := func(t *testing.T) (s *testServer, url string, gone func()) {
				s = startServer(t, "http://127.0.0.1:0?auth=none")
				far := &Far{left: make(chan error, 1)}
				must(t, addReceiver(s.router, far, nil))
				return s, "http://" + s.endpoints[0].Host + row.path, func() {
					t.Helper()
					if row.method == "POST" {
						receive(t, far.left)
					}
					s.idle() // nothing is subscribed either, or it would still run
				}
			}
			t.Run("curl killed "+row.path+" "+form.types[0], func(t *testing.T) {
				curl := needTool(t, "curl")
				_, url, gone := start(t)
				cmd := exec.Command(curl, "-sSN", "-X", row.method, "-H", "Accept: "+form.types[0], "-H", "Content-Type: application/json", url)
				out, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				_, err = io.ReadFull(out, make([]byte, 10))
				must(t, errors.Join(err, cmd.Process.Kill()))
				cmd.Wait()
				gone()
			})
			t.Run("fetch aborted "+row.path+" "+form.types[0], func(t *testing.T) {
				node := needTool(t, "node")
				_, url, gone := start(t)
				startExample(t, exec.Command(node, "-e", aborted, url, row.method, form.types[0]))
				gone()
			})
		}
	}
}
