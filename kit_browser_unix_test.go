//go:build unix

package main

// This file owns the browser of tests.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A browser is a Chromium without a window, which is told what to do over a pipe: chromedevtools.github.io/devtools-protocol.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *os.File
	read    *bufio.Reader // from
	seq     int
	session string // of its page
}

// startBrowser starts a browser with an empty page, which ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	theirs, to, err := os.Pipe()
	must(t, err)
	from, theirOut, err := os.Pipe()
	must(t, err)
	files := t.TempDir()
	cmd := exec.Command(needTool(t, "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-breakpad",
		"--disable-background-networking", "--user-data-dir="+files, "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{theirs, theirOut}         // 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has many children
	cmd.Env = append(os.Environ(), "HOME="+files, "TMPDIR="+files)
	log := &logBuffer{}
	cmd.Stderr = log
	cmd.WaitDelay = testPatience
	must(t, cmd.Start())
	theirs.Close()
	theirOut.Close()
	b := &browser{t: t, to: to, from: from, read: bufio.NewReader(from)}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // none of them has anything to lose
		cmd.Wait()
		to.Close()
		from.Close()
		if t.Failed() {
			t.Logf("the browser says\n%s", log)
		}
	})
	var page struct{ TargetID, SessionID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &page)
	b.do("Target.attachToTarget", map[string]any{"targetId": page.TargetID, "flatten": true}, &page)
	b.session = page.SessionID
	b.do("Page.enable", nil, nil)
	return b
}

// next returns the next message of the browser.
func (b *browser) next() (m struct {
	ID            int
	Method        string
	Result, Error json.RawMessage
}) {
	b.t.Helper()
	b.from.SetReadDeadline(time.Now().Add(testPatience))
	text, err := b.read.ReadBytes(0)
	must(b.t, err)
	must(b.t, json.Unmarshal(text[:len(text)-1], &m))
	return m
}

// do has the browser do something, and waits for its answer.
func (b *browser) do(method string, params, result any) {
	b.t.Helper()
	b.seq++
	text, err := json.Marshal(map[string]any{"id": b.seq, "sessionId": b.session, "method": method, "params": params})
	if b.session == "" {
		text, err = json.Marshal(map[string]any{"id": b.seq, "method": method, "params": params})
	}
	must(b.t, err)
	_, err = b.to.Write(append(text, 0))
	must(b.t, err)
	m := b.next()
	for m.ID != b.seq {
		m = b.next()
	}
	if m.Error != nil {
		b.t.Fatalf("%s: %s", method, m.Error)
	}
	if result != nil {
		must(b.t, json.Unmarshal(m.Result, result))
	}
}

// open opens a page, and returns once it is there.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	for b.next().Method != "Page.loadEventFired" {
	}
}

// value returns what a promise of the page comes to.
func (b *browser) value(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value string }
		ExceptionDetails json.RawMessage
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, got.ExceptionDetails)
	}
	return got.Result.Value
}

// wait waits until the page shows a text, and returns all that it shows.
func (b *browser) wait(text string) string {
	b.t.Helper()
	return b.value(fmt.Sprintf(`new Promise((done) => {
		const look = () => { if (document.body.innerText.includes(%q)) done(document.body.innerText) }
		new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true })
		look()
	})`, text))
}
