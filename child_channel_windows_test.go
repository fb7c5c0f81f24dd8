package main

// This file owns the tests of the Node.js IPC channel that Windows alone has: the table of
// descriptors, who inherits what, and real programs at both ends. child.txtar has the rest.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

func init() {
	// The node.exe that .ci/run has fetched is the node of all tests.
	if exe := os.Getenv("IPCD_NODE_EXE"); exe != "" {
		os.Setenv("PATH", filepath.Dir(exe)+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	testPrograms["show-arguments"] = showArguments
	testPrograms["leave-behind"] = leaveBehind
	testPrograms["mute"] = mute
	testPrograms["give-up-mute"] = giveUpMute
}

// showArguments is a child that sends its arguments and waits for the parent to disconnect.
func showArguments() {
	c, err := openChannel(defaultLimits(), newLogger(os.Stderr, formatText, levelWarn))
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	json.NewEncoder(c).Encode(os.Args[1:])
	io.Copy(io.Discard, c)
	c.Close()
}

// leaveBehind is a child that starts "stay FILE" with everything that can be inherited, sends its
// pid, and ends before it does.
func leaveBehind() {
	c, err := openChannel(defaultLimits(), newLogger(os.Stderr, formatText, levelWarn))
	if err == nil {
		var pid uint32
		if pid, err = startGreedy("stay", os.Args[1]); err == nil {
			err = json.NewEncoder(c).Encode(pid)
		}
	}
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
}

// startGreedy starts a program that inherits every handle that can be.
func startGreedy(command ...string) (pid uint32, err error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return 0, err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(append([]string{path}, command[1:]...)))
	if err != nil {
		return 0, err
	}
	si := windows.StartupInfo{Cb: uint32(unsafe.Sizeof(windows.StartupInfo{}))}
	var pi windows.ProcessInformation
	if err := windows.CreateProcess(nil, line, nil, nil, true, 0, nil, nil, &si, &pi); err != nil {
		return 0, err
	}
	windows.CloseHandle(pi.Thread)
	windows.CloseHandle(pi.Process)
	return pi.ProcessId, nil
}

// mute is a child that neither reads nor writes nor hears that it is alone. Ctrl-Break ends it.
func mute() {
	os.Stdout.WriteString("mute\n")
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt)
	<-told
	os.Exit(7)
}

// giveUpMute is a parent with a console that disconnects.
func giveUpMute() {
	f, err := startChild(childSpec{command: []string{"mute"}, stdout: os.Stdout, stderr: os.Stderr, limits: defaultLimits()})
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	f.Close()
	fmt.Println("the child", f.how())
}

// forkTest starts a child until the test ends.
func forkTest(t testing.TB, command ...string) *forked {
	t.Helper()
	f, err := startChild(childSpec{command: command, stdout: os.Stdout, stderr: os.Stderr, limits: defaultLimits(), log: newLogger(testWriter{t}, formatText, levelWarn)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sent is the next message of a child.
func sent[T any](t testing.TB, f *forked) (message T) {
	t.Helper()
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &message)
	}
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// ended waits for the end of a child.
func ended(t testing.TB, f *forked) {
	t.Helper()
	select {
	case <-f.gone:
	case <-time.After(testPatience):
		t.Fatalf("%s is still there", f.name())
	}
}

func TestChannelLayouts(t *testing.T) {
	if got, want := unsafe.Sizeof(startupInfo{}), unsafe.Sizeof(windows.StartupInfoEx{}); got != want {
		t.Errorf("startupInfo has %d bytes; want %d", got, want)
	}
	if got, want := unsafe.Offsetof(startupInfo{}.std), unsafe.Offsetof(windows.StartupInfo{}.StdInput); got != want {
		t.Errorf("the standard handles are at %d; want %d", got, want)
	}
	if got := unsafe.Sizeof(windows.WSAProtocolInfo{}) + 4; got != frameSocket {
		t.Errorf("a socket takes %d bytes; want %d", got, frameSocket)
	}
	table := descriptorTable([]windows.Handle{1, 2, 3, 4})
	if len(table) != fdCount+4*(1+handleSize) {
		t.Errorf("a table of four has %d bytes", len(table))
	}
}

func TestChannelTable(t *testing.T) {
	ours, theirs, err := pipePair()
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(ours)
	defer windows.CloseHandle(theirs)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	good := descriptorTable([]windows.Handle{windows.Handle(file.Fd()), windows.InvalidHandle, 0, theirs})
	closed := slices.Clone(good)
	closed[fdCount+3] = fdPipe
	many := slices.Clone(good)
	many[1] = 0xff
	for _, test := range []struct {
		name  string
		table []byte
		fd    int
		want  string // of the error; empty for none
	}{
		{"a channel", good, 3, ""},
		{"more than the table needs", append(slices.Clone(good), 1, 2, 3), 3, ""},
		{"a file", good, 0, "it is no pipe"},
		{"no handle", good, 1, "it is not open"},
		{"a handle of zero", good, 2, "it is not open"},
		{"not open", closed, 3, "it is not open"},
		{"a number too large", good, 4, "has inherited 4 descriptors"},
		{"no table", nil, 3, "no descriptors"},
		{"less than a count", good[:3], 3, "no descriptors"},
		{"cut short", good[:len(good)-1], 3, "is no table"},
		{"a count too large", many, 3, "is no table"},
		{"the largest count", []byte{0xff, 0xff, 0xff, 0xff, 9, 9, 9, 9}, 3, "is no table"},
		{"Cygwin's", make([]byte, 200), 3, "has inherited 0 descriptors"},
	} {
		h, err := inherited(test.table, test.fd)
		if test.want == "" && (err != nil || h != theirs) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, %v; want the error %q", test.name, h, err, test.want)
		}
	}
}

func TestChannelTakesNothingElse(t *testing.T) {
	ours, theirs, err := pipePair()
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(ours)
	defer windows.CloseHandle(theirs)
	for _, h := range []windows.Handle{ours, theirs} {
		if err := checkChannel(h); err != nil {
			t.Errorf("an end of a channel: %v", err)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	for want, h := range map[string]uintptr{
		"it is no pipe":                          file.Fd(),
		"it is not open for reading and":         reader.Fd(),
		"it is not open for reading and writing": writer.Fd(),
		"handle":                                 0xfffffff0, // is invalid
	} {
		if err := checkChannel(windows.Handle(h)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checkChannel = %v; want %q", err, want)
		}
	}
}

// The pipe is for us alone, and the one end that there can be is taken.
func TestChannelPipeIsClosedToOthers(t *testing.T) {
	ours, theirs, err := pipePair()
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(ours)
	defer windows.CloseHandle(theirs)
	sd, err := windows.GetSecurityInfo(ours, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ownPeer()
	if err != nil {
		t.Fatal(err)
	}
	all := "FA"
	if underWine { // which makes nothing of GENERIC_ALL
		all = "GA"
	}
	want, err := windows.SecurityDescriptorFromString("O:" + own.SID + "D:P(A;;" + all + ";;;" + own.SID + ")")
	if err != nil {
		t.Fatal(err)
	}
	if sd.String() != want.String() {
		t.Errorf("the pipe has the security descriptor %s; want %s", sd, want)
	}
	var instances uint32
	if err := windows.GetNamedPipeInfo(ours, nil, nil, nil, &instances); err != nil || instances != 1 {
		t.Errorf("there may be %d instances, %v; want 1", instances, err)
	}
}

// A pipe that is not overlapped has no deadlines, and is not taken over.
func TestChannelWantsDeadlines(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	var h windows.Handle
	self := windows.CurrentProcess()
	if err := windows.DuplicateHandle(self, windows.Handle(reader.Fd()), self, &h, 0, false, windows.DUPLICATE_SAME_ACCESS); err != nil {
		t.Fatal(err)
	}
	if _, err := connOf(h); err == nil || !strings.Contains(err.Error(), "overlapped") {
		t.Errorf("connOf = %v; want it refused", err)
	}
}

func TestChannelPassesArguments(t *testing.T) {
	args := []string{"plain", "", "two words", `a"quote`, `back\slash`, `ends in one\`, `\\server\share name\`, `\"`, "tab\tand\nline", "%PATH%", "ümlaut 漢字 🙂", "&|<>^", "-x=1"}
	f := forkTest(t, append([]string{"show-arguments"}, args...)...)
	if got := sent[[]string](t, f); !slices.Equal(got, args) {
		t.Errorf("the child has the arguments %q; want %q", got, args)
	}
	if err := f.Close(); err != nil || f.how() != "ended with exit code 0" {
		t.Errorf("the child %s, %v; want exit code 0", f.how(), err)
	}
}

func TestChannelRefusesBatchFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.bat", "b.CMD"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("@echo off\r\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{path, path + " ", path + ".. ."} {
			_, err := startChild(childSpec{command: []string{command, "x"}, limits: defaultLimits()})
			if f := asFault(err); err == nil || f.Code != codeUsage && !errors.Is(err, &fault{Code: codeNotReachable}) {
				t.Errorf("%q: %v; want it refused", command, err)
			}
		}
		if !isBatch(path) || !isBatch(path+". .") {
			t.Errorf("isBatch(%q) = false", path)
		}
	}
}

// What a child has besides would keep open what belongs to others.
func TestChannelChildInheritsNothingElse(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := windows.SetHandleInformation(windows.Handle(writer.Fd()), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
		t.Fatal(err)
	}
	f := forkTest(t, "show-arguments", "there")
	sent[[]string](t, f)
	writer.Close()
	over := make(chan error, 1)
	go func() {
		_, err := reader.Read(make([]byte, 1))
		over <- err
	}()
	select {
	case err := <-over:
		if err != io.EOF {
			t.Errorf("read = %v; want the end", err)
		}
	case <-time.After(testPatience):
		t.Error("the child has the other end of a pipe that is none of its business")
	}
	select {
	case <-f.gone:
		t.Error("the child has ended; want it to be there all the time")
	default:
	}
}

// A grandchild with the channel would keep it open when the child has gone.
func TestChannelIsNotForGrandchildren(t *testing.T) {
	const program = `
const grandchild = require('child_process').spawn('stay', [process.argv[1]], { detached: true, stdio: 'ignore' })
process.send(grandchild.pid)
process.disconnect()
grandchild.unref()`
	for name, command := range map[string][]string{
		"ours": {"leave-behind"},
		"Node": {needTool(t, "node"), "-e", program},
	} {
		t.Run(name, func(t *testing.T) {
			here := filepath.Join(t.TempDir(), "here")
			f := forkTest(t, append(command, here)...)
			pid := sent[uint32](t, f)
			grandchild, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_TERMINATE, false, pid)
			if err != nil {
				t.Fatal(err)
			}
			defer windows.CloseHandle(grandchild)
			defer windows.WaitForSingleObject(grandchild, windows.INFINITE)
			defer windows.TerminateProcess(grandchild, 0)
			waitFor(t, func() error { _, err := os.Stat(here); return err })
			ended(t, f)
			f.SetReadDeadline(time.Now().Add(testPatience))
			if _, err := f.channel.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read = %v; want the end of the channel", err)
			}
			if state, _ := windows.WaitForSingleObject(grandchild, 0); state != uint32(windows.WAIT_TIMEOUT) {
				t.Error("the grandchild has ended; want it to be there all the time")
			}
		})
	}
}

// Messages of 1 MB are under way both ways before one of them is read here.
func TestChannelCarriesMuch(t *testing.T) {
	node := needTool(t, "node")
	f := forkTest(t, node, "-e", "process.on('message', (message) => process.send(message))")
	const messages = 12
	want := `"` + strings.Repeat("ä漢", 1<<20/5) + `"`
	for range messages {
		if _, err := io.WriteString(f, want+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewReader(f)
	for i := range messages {
		line, err := lines.ReadString('\n')
		if strings.TrimSpace(line) != want || err != nil {
			t.Fatalf("message %d has %d bytes, %v; want what was sent, %d bytes", i, len(line), err, len(want))
		}
	}
	if err := f.Close(); err != nil || f.how() != "ended with exit code 0" {
		t.Errorf("the child %s, %v; want exit code 0", f.how(), err)
	}
}

func TestChannelChildIsKilled(t *testing.T) {
	f := forkTest(t, needTool(t, "node"), "-e", "process.on('message', () => {}); process.send('x'.repeat(1 << 20), () => process.send(process.pid))")
	lines := bufio.NewReader(f)
	for range 2 {
		if _, err := lines.ReadBytes('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := lines.ReadByte(); err == nil || !strings.Contains(err.Error(), "ended with exit code 1 before it answered") {
		t.Errorf("read = %v; want it told how the child ended", err)
	}
	if _, err := io.WriteString(f, "1\n"); !isBrokenPipe(err) {
		t.Errorf("write = %v; want a broken pipe", err)
	}
}

// A child that is told nothing and asked nothing still hears that its parent has gone.
func TestChannelParentIsKilled(t *testing.T) {
	const program = `
const ipcd = require('child_process').fork('child', [], { execPath: 'ipcd', execArgv: [] })
ipcd.once('message', () => console.log(ipcd.pid))
ipcd.send({ jsonrpc: '2.0', id: 1, method: 'Ipcd.Ping' })`
	cmd := exec.Command(needTool(t, "node"), "-e", program)
	cmd.Stderr = testWriter{t}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var pid uint32
	_, err = fmt.Fscan(out, &pid)
	child := windows.Handle(0)
	if err == nil {
		child, err = windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	}
	cmd.Process.Kill()
	io.Copy(io.Discard, out) // until the child has ended, which has it too
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(child)
	var code uint32
	if state, err := windows.WaitForSingleObject(child, uint32(testPatience.Milliseconds())); state != windows.WAIT_OBJECT_0 {
		t.Fatalf("ipcd child is still there: %d, %v", state, err)
	}
	if err := windows.GetExitCodeProcess(child, &code); err != nil || code != 0 {
		t.Errorf("ipcd child ended with exit code %d, %v; want 0", code, err)
	}
}

func TestChannelChildRefusesBrokenFrames(t *testing.T) {
	for name, text := range map[string]string{
		"no frame":          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Ipcd.Ping\"}\n",
		"length":            "\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00hello",
		"reserved":          "\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00hello",
		"socket of no sort": "\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			spec := childSpec{command: []string{"ipcd", "child"}, stderr: log}
			cmd := spec.cmd()
			conn, err := startForked(cmd, &spec)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(conn.(*frames).Conn, text)
			if err != nil {
				t.Error(err)
			}
			if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read %d bytes, %v; want the end", n, err)
			}
			conn.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			said, err := os.ReadFile(log.Name())
			if err != nil || !strings.Contains(string(said), "the channel cannot be read any further") {
				t.Errorf("the log is %q, %v", said, err)
			}
		})
	}
}

// The number of a file that is closed stands for this process, which no child may have a handle to.
func TestChannelHandsNoProcessOn(t *testing.T) {
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	must(t, closed.Close())
	var none *os.File // that of a standard handle with that number
	handles, err := forkedHandles(&exec.Cmd{Stdin: closed, Stdout: none, Stderr: nil}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for fd, h := range handles[:forkedFD] {
		if kind, err := windows.GetFileType(h); kind != windows.FILE_TYPE_CHAR {
			t.Errorf("descriptor %d has the type %d, %v; want that of NUL", fd, kind, err)
		}
		windows.CloseHandle(h)
	}
}

func TestChannelKnowsTheParent(t *testing.T) {
	own, err := ownPeer()
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseEndpoint("fork:ipcd child")
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), e, dialOptions{limits: defaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	own.Transport, own.PID = "fork", os.Getpid()
	own = own.named()
	var p peer
	if err := c.call(t.Context(), "Ipcd.Whoami", nil, &p); err != nil || !reflect.DeepEqual(p, own) {
		t.Errorf("Ipcd.Whoami = %+v, %v; want %+v", p, err, own)
	}
}

// A socket that Node sends is closed here and acknowledged, so that its other end hears that.
func TestChannelClosesSockets(t *testing.T) {
	const program = `
const net = require('net')
const ipcd = require('child_process').fork('child', [], { execPath: 'ipcd', execArgv: [] })
const server = net.createServer({ pauseOnConnect: true }, (socket) => ipcd.send('take it', socket))
server.listen(0, '127.0.0.1', () => {
  const client = net.connect(server.address().port, '127.0.0.1')
  client.on('error', () => {})
  client.on('close', () => {
    console.log('closed')
    ipcd.send({ jsonrpc: '2.0', id: 1, method: 'Ipcd.Ping' })
  })
  client.resume()
})
ipcd.on('message', ({ result }) => {
  console.log(result)
  ipcd.disconnect()
  server.close()
})`
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, needTool(t, "node"), "-e", program).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "closed\n") || !strings.HasSuffix(string(out), "pong\n") {
		t.Errorf("node: %v\n%s", err, out)
	}
}

// A child that does not end when it is disconnected is asked over the console, and its parent is not.
func TestChannelAsksToEnd(t *testing.T) {
	cmd := exec.Command("give-up-mute")
	detach(cmd)
	out, err := cmd.CombinedOutput()
	want := "mute\nthe child ended with exit code 7\n"
	if underWine { // which cannot send Ctrl-Break; the child is ended at once then
		want = "mute\nthe child ended with exit code 1\n"
	}
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
}

// passChannel gives a program that a child starts the channel of the child.
func passChannel(cmd *exec.Cmd) {
	h, err := inherited(inheritedTable(), forkedFD)
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: []syscall.Handle{syscall.Handle(h)}}
}
