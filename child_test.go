package main

// This file owns the tests of children and of the channel itself, on every system. What Node.js makes of them is in
// child.txtar.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func init() {
	testPrograms["show-itself"] = showItself
	testPrograms["exit-early"] = func() { os.Exit(3) }
	testPrograms["leave-heir"] = leaveHeir
	testPrograms["be-heir"] = beHeir
}

// leaveHeir is a child that passes its channel on to a program that outlives it, sends heirMessages messages and exits with code 3.
func leaveHeir() {
	heir := exec.Command("be-heir")
	passChannel(heir)
	if err := heir.Start(); err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	c, err := openChannel(defaultLimits(), nil)
	if err == nil {
		_, err = io.WriteString(c, strings.Repeat(heirMessage+"\n", heirMessages))
	}
	complain(os.Stderr, err)
	os.Exit(3)
}

const (
	heirMessages = 1000
	heirMessage  = `"0123456789012345678901234567890123456789"`
)

// beHeir is a program that stays until the other end of a connection to $HEIR_AT is closed.
func beHeir() {
	conn, err := net.Dial("tcp", os.Getenv("HEIR_AT"))
	if err != nil {
		os.Exit(exitFailed)
	}
	io.Copy(io.Discard, conn)
}

// TestChannelEndsWithItsProgram has a program end whose channel another one still holds: what it has sent arrives, and then
// the stream ends.
func TestChannelEndsWithItsProgram(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	t.Setenv("HEIR_AT", l.Addr().String())
	// inherited has the heir live until the function that it returns is called.
	inherited := func(t *testing.T) func() {
		conn, err := l.Accept()
		must(t, err)
		return func() { conn.Close() }
	}
	t.Run("channel", func(t *testing.T) {
		f, err := startChild(childSpec{command: []string{"leave-heir"}, stderr: os.Stderr, limits: defaultLimits()})
		must(t, err)
		defer inherited(t)()
		read := make(chan error, 1)
		go func() {
			text, err := io.ReadAll(f)
			if n := strings.Count(string(text), heirMessage+"\n"); n != heirMessages {
				t.Errorf("%d of %d messages arrived", n, heirMessages)
			}
			read <- err
		}()
		checkCode(t, "the end of the channel", receive(t, read), codeConnection, "ended with exit code 3")
		must(t, f.Close())
	})
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"fork", "--", "leave-heir"}, 3, strings.Repeat("message "+heirMessage+"\n", heirMessages)},
		// the heir does not read the replies, which have no room in the channel
		{[]string{"fork", "--set", "limits.max_calls=1", "--reply", `"` + strings.Repeat("x", 16<<10) + `"`, "--", "leave-heir"}, 3,
			strings.Repeat("message "+heirMessage+"\n", heirMessages)},
		{[]string{"call", "-e", "fork:leave-heir", "Greeter.Hello"}, exitFailed, ""},
	} {
		t.Run(test.args[0], func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "out")) // a pipe might be inherited, too
			must(t, err)
			defer out.Close()
			cmd := exec.Command("ipcd", test.args...)
			cmd.Stdout = out
			must(t, cmd.Start())
			defer inherited(t)()
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			receive(t, ended)
			text, err := os.ReadFile(out.Name())
			must(t, err)
			if code := cmd.ProcessState.ExitCode(); code != test.code || string(text) != test.want {
				t.Errorf("exit code %d, printed %d bytes; want %d and %d bytes", code, len(text), test.code, len(test.want))
			}
		})
	}
}

// showItself is a child that sends where it works, what is in $SHOWN, and which variables it has that begin like ours or like
// those of a service manager, and writes a line to each output.
func showItself() {
	c, err := openChannel(defaultLimits(), nil)
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	defer c.Close()
	dir, _ := os.Getwd()
	var names []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		for _, prefix := range []string{"IPCD_", "LISTEN_", "NOTIFY_", "WATCHDOG_", "NODE_CHANNEL_"} {
			if strings.HasPrefix(strings.ToUpper(name), prefix) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	json.NewEncoder(c).Encode([]string{dir, os.Getenv("SHOWN"), strings.Join(names, " ")})
	fmt.Println("on stdout")
	fmt.Fprintln(os.Stderr, "on stderr")
	io.Copy(io.Discard, c)
}

func TestChildIsStartedAsTheSpecSays(t *testing.T) {
	for _, name := range []string{"SHOWN", "IPCD_ENDPOINT", "IPCD_NOBODY_KNOWS", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		t.Setenv(name, "ours")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*os.File{}
	for _, name := range []string{"stdout", "stderr"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[name] = f
	}
	for _, spec := range []childSpec{{}, {env: []string{"SHOWN=theirs", "IPCD_ENDPOINT=theirs"}, dir: dir, stdout: files["stdout"], stderr: files["stderr"]}} {
		spec.command, spec.limits = []string{"show-itself"}, defaultLimits()
		f, err := startChild(spec)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(f).ReadBytes('\n')
		f.Close()
		var shown [3]string
		if err == nil {
			err = json.Unmarshal(line, &shown)
		}
		want := [3]string{spec.dir, "theirs", "IPCD_ENDPOINT"}
		if spec.dir == "" {
			want[0], _ = os.Getwd()
			want[1], want[2] = "ours", ""
		}
		if err != nil || shown != want {
			t.Errorf("%+v shows %q, %v; want %q", spec, shown, err, want)
		}
	}
	for name, f := range files {
		if text, err := os.ReadFile(f.Name()); string(text) != "on "+name+"\n" {
			t.Errorf("on its %s the child wrote %q, %v", name, text, err)
		}
	}
}

// Whoever writes to a program that has ended is told how it ended.
func TestWriteToAProgramThatHasGone(t *testing.T) {
	f, err := startChild(childSpec{command: []string{"exit-early"}, limits: defaultLimits()})
	must(t, err)
	defer f.Close()
	receive(t, f.gone)
	for err == nil { // a pipe may take something first
		_, err = io.WriteString(f, "\"hello\"\n")
	}
	checkCode(t, "a message to it", err, codeConnection, "ended with exit code 3 before it answered")
}

// pipedChannel is a channel on one end of a pipe, and the other end.
func pipedChannel(l limits) (*channel, net.Conn) {
	ours, theirs := net.Pipe()
	return newChannel(ours, l, nil), theirs
}

func TestChannelHasReadDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, theirs := pipedChannel(defaultLimits())
		defer theirs.Close()
		defer c.Close()
		b := make([]byte, 10)
		began := time.Now()
		c.SetReadDeadline(began.Add(time.Hour))
		c.SetReadDeadline(began.Add(time.Minute))
		if _, err := c.Read(b); !isTimeout(err) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v; want a timeout after a minute", time.Since(began), err)
		}
		go io.WriteString(theirs, "1\n")
		synctest.Wait()
		if _, err := c.Read(b); !isTimeout(err) {
			t.Errorf("with a deadline that has passed: %v; want a timeout", err)
		}
		c.SetReadDeadline(time.Time{})
		if n, err := c.Read(b); string(b[:n]) != "1\n" || err != nil {
			t.Errorf("without a deadline: %q, %v", b[:n], err)
		}
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Now()) })
		if _, err := c.Read(b); !isTimeout(err) {
			t.Errorf("with a deadline that was set meanwhile: %v; want a timeout", err)
		}
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { c.Close() })
		if _, err := c.Read(b); !errors.Is(err, net.ErrClosed) {
			t.Errorf("of a channel that is closed: %v; want %v", err, net.ErrClosed)
		}
	})
}

// The same where Read reads from the connection itself.
func TestChannelHasReadDeadlinesOverASocket(t *testing.T) {
	ours, theirs := overEndpoint(localEndpoint)(t)
	defer theirs.Close()
	c := newChannel(ours, defaultLimits(), nil)
	b := make([]byte, 10)
	for range 3 {
		must(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
		if _, err := c.Read(b); !isTimeout(err) {
			t.Errorf("with a deadline: %v; want a timeout", err)
		}
		send(t, theirs, "1\n2")
		if _, err := c.Read(b); !isTimeout(err) {
			t.Errorf("with a deadline that has passed: %v; want a timeout", err)
		}
		must(t, c.SetReadDeadline(time.Time{}))
		if n, err := c.Read(b); string(b[:n]) != "1\n" || err != nil {
			t.Errorf("without a deadline: %q, %v", b[:n], err)
		}
		read := make(chan error)
		go func() {
			_, err := c.Read(b)
			read <- err
		}()
		must(t, c.SetReadDeadline(time.Now()))
		if err := receive(t, read); !isTimeout(err) {
			t.Errorf("with a deadline that was set meanwhile: %v; want a timeout", err)
		}
		must(t, c.SetReadDeadline(time.Time{}))
		send(t, theirs, "\n")
		if n, err := c.Read(b); string(b[:n]) != "2\n" || err != nil {
			t.Errorf("after that: %q, %v; want the rest of the line", b[:n], err)
		}
	}
	closed := make(chan error)
	go func() {
		_, err := c.Read(b)
		closed <- err
	}()
	c.Close()
	if err := receive(t, closed); !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a channel that is closed: %v; want %v", err, net.ErrClosed)
	}
}

// An end that first writes all that it has, a handle among it, is read though it does not read, and then gets what it has to.
func TestHandleOfOneWhoDoesNotRead(t *testing.T) {
	ours, theirs := overEndpoint(localEndpoint)(t)
	defer theirs.Close()
	c := newChannel(ours, defaultLimits(), newLogger(&logBuffer{}, formatText, levelError))
	defer c.Close()
	long := `"` + strings.Repeat("a", 4<<20) + "\"\n"
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, long)
		written <- err
	}()
	handle := `{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}` + "\n"
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(theirs, handle+long)
		sent <- err
	}()
	b := make([]byte, len(long))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != long {
		t.Errorf("read %v", err)
	}
	must(t, receive(t, sent))
	b = make([]byte, len(long)+len(handleAck))
	if _, err := io.ReadFull(theirs, b); err != nil || string(b) != long+handleAck && string(b) != handleAck+long {
		t.Errorf("the other end reads %q at the end, %v; want %q", b[max(0, len(b)-100):], err, handleAck)
	}
	must(t, receive(t, written))
}

// A reader that does not read lets so much wait, and no more.
func TestChannelBoundsItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := defaultLimits()
		l.MaxMessage = 100
		c, theirs := pipedChannel(l)
		line := `"` + strings.Repeat("x", 97) + "\"\n"
		const lines = 20
		sent := 0
		go func() {
			defer theirs.Close()
			for range lines {
				io.WriteString(theirs, line)
				sent++
			}
		}()
		synctest.Wait()
		if sent < queuedMessages || sent > queuedMessages+2 {
			t.Errorf("%d messages of the longest kind were taken; want about %d", sent, queuedMessages)
		}
		text, err := io.ReadAll(c)
		if string(text) != strings.Repeat(line, lines) || err != nil {
			t.Errorf("read %d bytes, %v; want %d", len(text), err, lines*len(line))
		}
		c.Close()
	})
}

// TestChannelCloseWaits has the goroutine of a channel wait for a reader who never comes.
func TestChannelCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails where a goroutine is left
		l := defaultLimits()
		l.MaxMessage = 10
		c, theirs := pipedChannel(l)
		go io.WriteString(theirs, strings.Repeat("1234567\n", 100))
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
}

// Whatever is not Node's own gets to the reader, who answers it: also what is too long, and what is no JSON. Node waits for
// the acknowledgement of a handle, however long the message that comes with it.
func TestChannelDropsNothingButWhatIsNodes(t *testing.T) {
	l := defaultLimits()
	l.MaxMessage = 1000
	long, deep := `"`+strings.Repeat("x", 10000)+`"`, strings.Repeat("[", 100)+strings.Repeat("]", 100)
	for _, test := range []struct {
		send   string
		nodes  bool // it is Node's own
		answer string
	}{
		{`{"id":1}`, false, ""},
		{long, false, ""},
		{`{"id":1,"params":[` + long + `]}`, false, ""},
		{deep, false, ""},
		{`nonsense`, false, ""}, {`{"cmd"`, false, ""}, {`{cmd:"NODE_\`, false, ""}, {``, false, ""},
		{`{"cmd":"NODE_"}`, false, ""},
		{`{"cmd":"NODE_FOO","id":1}`, true, ""},
		{`{"cmd":"NODE_FOO","msg":` + long + `}`, true, ""},
		{`{"cmd":"NODE_HANDLE","type":"net.Server","msg":1}`, true, handleAck},
		{`{"cmd":"NODE_HANDLE","type":"net.Server","msg":` + long + `}`, true, handleAck},
		{`{"cmd":"NODE_HANDLE","type":"net.Server","msg":` + deep + `}`, true, handleAck},
	} {
		c, theirs := pipedChannel(l)
		theirs.SetDeadline(time.Now().Add(testPatience))
		sent, got := make(chan error, 1), make(chan string, 1)
		go func() {
			_, err := fmt.Fprintf(theirs, "1\n%s\n2\n", test.send)
			sent <- err
		}()
		go func() {
			text, err := io.ReadAll(c)
			got <- fmt.Sprint(string(text), errOr(err))
		}()
		answer := make([]byte, len(test.answer))
		if _, err := io.ReadFull(theirs, answer); err != nil || string(answer) != test.answer {
			t.Errorf("%.60q is answered with %q, %v; want %q", test.send, answer, err, test.answer)
		}
		if err := receive(t, sent); err != nil {
			t.Errorf("%.60q: %v", test.send, err)
		}
		theirs.Close()
		want := fmt.Sprint("1\n", test.send, "\n2\n", errNone)
		if test.nodes {
			want = fmt.Sprint("1\n2\n", errNone)
		}
		if text := receive(t, got); text != want {
			t.Errorf("of %.60q the reader gets %.60q; want %.60q", test.send, text, want)
		}
		c.Close()
	}
}

// However a stream comes, its lines are the same.
func TestNodeLinesInPieces(t *testing.T) {
	long := strings.Repeat("x", nodeBegin)
	text := "1\n" + `{"cmd":"NODE_A"}` + "\n\n" + `{"x":"` + long + `","cmd":"NODE_A"}` + "\n" + long + "\n" + `{"id":2}` + "\n" + `{"cmd":"NODE_B","x":"` + long + long + `"}` + "\n3\n" + `{"cmd":"NODE_C` // which nobody ends
	want := "1\n\n" + `{"x":"` + long + `","cmd":"NODE_A"}` + "\n" + long + "\n" + `{"id":2}` + "\n3\n"
	for _, size := range []int{1, 2, 3, 7, 100, nodeBegin - 1, nodeBegin, nodeBegin + 1, 2*nodeBegin + 10, len(text)} {
		var l nodeLines
		got, internal := "", 0
		for part := range slices.Chunk([]byte(text), size) {
			got += string(l.pass(append(l.held, part...), func(begin []byte) bool {
				_, ours := nodeCommand(begin)
				if ours {
					internal++
				}
				return ours
			}))
		}
		if got != want || internal != 2 {
			t.Errorf("in pieces of %d: %.60q…, of %d bytes, without %d lines; want %.60q…, of %d, without 2", size, got, len(got), internal, want, len(want))
		}
	}
}

// FuzzNodeLines: what is taken out of a stream are the lines that are internal to Node, whole, however the stream comes.
func FuzzNodeLines(f *testing.F) {
	long := strings.Repeat("x", nodeBegin)
	for _, text := range []string{
		"1\n2\n", `{"cmd":"NODE_A"}` + "\n\n", `{"x":"` + long + `","cmd":"NODE_A"}` + "\n", `{"cmd":"NODE_B","x":"` + long + `"}` + "\n3\n",
		`{"cmd":"NODE_C`, `{"cmd":"NODE_"}` + "\n", ` {"\u0063md":"\u004eODE_HANDLE"}` + "\n", `{"cmd":{"cmd":"NODE_A"}}` + "\n", `{"cmd":1,"cmd":"NODE_A"}` + "\r\n", long + "\n",
	} {
		f.Add([]byte(text), []byte{1, 2, 3, 100})
	}
	f.Fuzz(around(func(t *testing.T, text, pieces []byte) {
		isInternal := func(begin []byte) bool { _, ours := nodeCommand(begin); return ours }
		var want []byte
		for line := range bytes.Lines(text) {
			ended := line[len(line)-1] == '\n'
			if (ended || len(line) >= nodeBegin) && !isInternal(line[:min(len(line), nodeBegin)]) {
				want = append(want, line...)
			}
		}
		var l nodeLines
		var got []byte
		for rest := text; len(rest) > 0; {
			n := len(rest)
			if len(pieces) > 0 {
				n, pieces = min(n, 1+int(pieces[0])), pieces[1:]
			}
			got = append(got, l.pass(append(l.held, rest[:n]...), isInternal)...)
			rest = rest[n:]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("of %q this is left: %q; want %q", text, got, want)
		}
		if cmd, ours := nodeCommand(text); ours && json.Valid(text) {
			var m map[string]any
			if err := json.Unmarshal(text, &m); err != nil || m["cmd"] == nil || !strings.HasPrefix(cmd, nodePrefix) {
				t.Errorf("%q is internal to Node as %q, and encoding/json reads %v, %v", text, cmd, m, err)
			}
		}
	}))
}
