package main

// This file owns what Windows has a console for: Ctrl-C, Ctrl-Break and the close of its window,
// programs that are out of its reach, and text; and paths that are longer than MAX_PATH.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

func init() {
	testPrograms["console-daemon"] = consoleDaemon
	testPrograms["console-keys"] = consoleKeys
	testPrograms["console-text"] = consoleText
}

// consoleDaemon is "ipcd run" with the service of the tests: console-daemon URL.
func consoleDaemon() {
	set := defaultSettings()
	set.Listen, set.LogFormat = os.Args[1:2], formatText
	err := serveTrial(set)
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

// startConsoleDaemon starts console-daemon and waits until it answers.
func startConsoleDaemon(t testing.TB) (endpoint, *exec.Cmd, *logBuffer) {
	t.Helper()
	e, log := localEndpoint(t), &logBuffer{}
	cmd := exec.Command("console-daemon", e.String())
	cmd.Stderr = log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	first, err := settle(e)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() { first.Close() })
	return e, cmd, log
}

// tellConsole has a process handle a console event as the console itself does it: in a new
// thread, which begins where the handlers are called.
func tellConsole(t testing.TB, p *os.Process, event uintptr) {
	t.Helper()
	handlers := windows.NewLazySystemDLL("kernelbase.dll").NewProc("CtrlRoutine")
	createThread := windows.NewLazySystemDLL("kernel32.dll").NewProc("CreateRemoteThread")
	must(t, errors.Join(handlers.Find(), createThread.Find()))
	const rights = windows.PROCESS_CREATE_THREAD | windows.PROCESS_QUERY_INFORMATION | windows.PROCESS_VM_OPERATION | windows.PROCESS_VM_WRITE | windows.PROCESS_VM_READ
	h, err := windows.OpenProcess(rights, false, uint32(p.Pid))
	must(t, err)
	defer windows.CloseHandle(h)
	thread, _, err := createThread.Call(uintptr(h), 0, 0, handlers.Addr(), event, 0, 0)
	if thread == 0 {
		t.Fatal(err)
	}
	windows.CloseHandle(windows.Handle(thread))
}

func TestConsoleStopsTheDaemon(t *testing.T) {
	for name, test := range map[string]struct {
		event  uintptr
		signal string
	}{
		"Ctrl-C":     {windows.CTRL_C_EVENT, "interrupt"},
		"Ctrl-Break": {windows.CTRL_BREAK_EVENT, "interrupt"},
		"close":      {windows.CTRL_CLOSE_EVENT, "terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			_, cmd, log := startConsoleDaemon(t)
			tellConsole(t, cmd.Process, test.event)
			if err := cmd.Wait(); err != nil {
				t.Errorf("the daemon ended with %v; want exit code 0", err)
			}
			if text := log.String(); !strings.Contains(text, "stopping signal="+test.signal) || !strings.Contains(text, "stopped") {
				t.Errorf("the log is %s", text)
			}
		})
	}
}

// Ctrl-C takes the call back before it ends the client, which then ends as programs do that do not handle it.
func TestConsoleCancelsACall(t *testing.T) {
	p := provide(t, localEndpoint(t))
	for _, flags := range [][]string{{}, {"--stream"}} {
		cmd := exec.Command("ipcd", append([]string{"call", "-e", p.endpoints[0].String(), "Far.Block", "a"}, flags...)...)
		must(t, cmd.Start())
		receive(t, p.far.entered)
		tellConsole(t, cmd.Process, windows.CTRL_C_EVENT)
		if err := receive(t, p.far.left); err != context.Canceled {
			t.Errorf("with %q the context of the method ended with %v; want %v", flags, err, context.Canceled)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != int(windows.STATUS_CONTROL_C_EXIT) {
			t.Errorf("with %q the client ended with %#x; want %#x", flags, code, int(windows.STATUS_CONTROL_C_EXIT))
		}
	}
}

// Five seconds after its console has been closed a process is ended, whatever it waits for; the
// drain limit is ten.
func TestConsoleCloseCutsCallsInTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes four seconds")
	}
	e, cmd, log := startConsoleDaemon(t)
	conn := rawDial(t, e)
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Trial.Slow","params":[600000]}{"jsonrpc":"2.0","id":2,"method":"Ipcd.Ping"}`)
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); !strings.Contains(line, "pong") { // the first call has begun before it
		t.Fatalf("the answer to a ping behind a slow call is %q, %v", line, err)
	}
	tellConsole(t, cmd.Process, windows.CTRL_CLOSE_EVENT)
	var answer struct {
		Error *fault `json:"error"`
	}
	if err := json.NewDecoder(answers).Decode(&answer); err != nil || !errors.Is(answer.Error, errShuttingDown) {
		t.Errorf("the slow call is answered with %v, %v; want the word that the daemon stops", answer.Error, err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitForced {
		t.Errorf("the daemon ended with exit code %d; want %d\n%s", code, exitForced, log)
	}
	if limit := signalPatience(syscall.SIGTERM); limit <= 0 || limit >= 5*time.Second {
		t.Errorf("a daemon whose console is closed takes %v; the system gives it 5 s", limit)
	}
}

var (
	consoleProcesses = windows.NewLazySystemDLL("kernel32.dll").NewProc("GetConsoleProcessList")
	readScreen       = windows.NewLazySystemDLL("kernel32.dll").NewProc("ReadConsoleOutputCharacterW")
)

// consoleKeys is a program with a console of its own: console-keys FOREGROUND BACKGROUND. It starts
// a daemon at each of these endpoints, the second as --start does, presses Ctrl-C when it is
// told to by a line on its input, and tells what became of them.
func consoleKeys() {
	err := func() error {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt) // ours is not to end
		back := exec.Command("ipcd", "run", "--listen", os.Args[2], "--log-level", "error")
		detach(back)
		if err := back.Start(); err != nil {
			return err
		}
		fmt.Println(back.Process.Pid)
		front := exec.Command("ipcd", "run", "--listen", os.Args[1], "--log-level", "error")
		if err := front.Start(); err != nil {
			return err
		}
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		pids := make([]uint32, 16)
		if n, _, err := consoleProcesses.Call(uintptr(unsafe.Pointer(&pids[0])), uintptr(len(pids))); n == 0 {
			return err
		}
		for _, cmd := range []*exec.Cmd{front, back} {
			found := false
			for _, pid := range pids {
				found = found || pid == uint32(cmd.Process.Pid)
			}
			fmt.Println("has our console:", found)
		}
		if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0); err != nil {
			return err
		}
		fmt.Println("Ctrl-C:", front.Wait())
		return nil
	}()
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

// The daemon in the background lives on when Ctrl-C is pressed, and when the console has gone.
func TestConsoleDoesNotReachTheDaemonInTheBackground(t *testing.T) {
	front, back := localEndpoint(t), localEndpoint(t)
	cmd := exec.Command("console-keys", front.String(), back.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW} // and no group of its own, which would hear no Ctrl-C
	cmd.Stderr = testWriter{t}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	daemon, err := os.FindProcess(pid)
	must(t, err)
	t.Cleanup(func() {
		daemon.Kill()
		daemon.Wait()
	})
	for _, e := range []endpoint{front, back} {
		first, err := settle(e)
		must(t, err)
		t.Cleanup(func() { first.Close() })
		waitFor(t, func() error { return callPing(e) })
	}
	fmt.Fprintln(in)
	for _, want := range []string{"has our console: true", "has our console: false", "Ctrl-C: <nil>"} {
		if line, err := lines.ReadString('\n'); strings.TrimSpace(line) != want || err != nil {
			t.Errorf("%q, %v; want %q", line, err, want)
		}
	}
	must(t, cmd.Wait())
	if err := callPing(back); err != nil {
		t.Errorf("the daemon in the background: %v", err)
	}
}

// callPing makes sure that a daemon answers.
func callPing(e endpoint) error {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	c, err := dial(ctx, e, dialOptions{limits: defaultLimits()})
	if err != nil {
		return err
	}
	defer c.close()
	return c.call(ctx, "Ipcd.Ping", nil, nil)
}

// someText is in no code page as a whole.
const someText = "ümlaut Ж 漢字 🙂"

// A pipe gets UTF-8, whatever the code page of the console is.
func TestConsoleTextIsUTF8(t *testing.T) {
	var stdout, stderr strings.Builder
	cmd := exec.Command("ipcd", "call", "-e", "fork:ipcd child", someText)
	cmd.Stdout = &stdout
	must(t, cmd.Run())
	if stdout.String() != someText+"\n" {
		t.Errorf("ipcd call printed %q; want %q", stdout.String(), someText)
	}
	cmd = exec.Command("ipcd", "call", "-e", "fork:ipcd child", "Ж.Say", "x")
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), "Ж.Say") {
		t.Errorf("%v, %q; want Ж.Say named", err, stderr.String())
	}
}

// consoleText is a program with a console of its own and a code page that has few letters. It
// prints what "ipcd call" writes to a pipe, and what is to be seen when it writes to the console; then the line of progress there,
// and whether the console obeys what erases that.
func consoleText() {
	err := func() error {
		if err := errors.Join(windows.SetConsoleOutputCP(437), windows.SetConsoleCP(437)); err != nil {
			return err
		}
		out, err := exec.Command("ipcd", "call", "-e", "fork:ipcd child", someText).Output()
		if err != nil {
			return err
		}
		os.Stdout.Write(out)
		screen, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer screen.Close()
		cmd := exec.Command("ipcd", "call", "-e", "fork:ipcd child", someText)
		cmd.Stdout, cmd.Stderr = screen, os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
		live := newLiveLine(screen)
		live.show(" 40% ümlaut")
		for row := range uintptr(2) {
			cells, n := make([]uint16, 40), uint32(0)
			if ok, _, err := readScreen.Call(screen.Fd(), uintptr(unsafe.Pointer(&cells[0])), uintptr(len(cells)), row<<16, uintptr(unsafe.Pointer(&n))); ok == 0 {
				return err
			}
			fmt.Println(strings.TrimSpace(windows.UTF16ToString(cells[:n])))
		}
		var mode uint32
		err = windows.GetConsoleMode(windows.Handle(screen.Fd()), &mode)
		fmt.Println(mode&windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING != 0)
		return err
	}()
	complain(os.Stderr, err)
	os.Exit(exitCode(err))
}

func TestConsoleShowsWhatItsCodePageLacks(t *testing.T) {
	cmd := exec.Command("console-text")
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
	got := strings.Split(printed(t, cmd), "\n")
	if got[0] != someText {
		t.Errorf("to a pipe went %q; want %q", got[0], someText)
	}
	// A screen has cells, of which a wide character takes two.
	if shown := strings.TrimSpace(got[1]); !strings.HasPrefix(shown, "ümlaut Ж ") {
		t.Errorf("on the console is %q; want %q", shown, someText)
	}
	if line, obeys := got[2], got[3]; !strings.HasPrefix(line, "40% ümlaut") || obeys != "true" { // Wine shows what it should obey
		t.Errorf("the line of progress is %q, and that escape sequences are obeyed is %s; want 40%% and true", line, obeys)
	}
}

// MAX_PATH is 260.
func TestLongPaths(t *testing.T) {
	dir := t.TempDir()
	for range 6 {
		dir = filepath.Join(dir, strings.Repeat("d", 60))
	}
	must(t, os.MkdirAll(dir, 0o700))
	file := filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(file, []byte("[limits]\nmax_depth = 7\n"), 0o600))
	for _, args := range [][]string{{"config", "show", "--config", file}, {"config", "check", file}} {
		out, err := exec.Command("ipcd", args...).CombinedOutput()
		if err != nil || args[1] == "show" && !strings.Contains(string(out), file+":2") {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	must(t, os.WriteFile(file, []byte("[limits]\nmax_dept = 7\n"), 0o600))
	if out, err := exec.Command("ipcd", "config", "check", file).CombinedOutput(); err == nil || !strings.Contains(string(out), "max_dept") {
		t.Errorf("a wrong file: %v, %s", err, out)
	}
	t.Setenv("LocalAppData", dir)
	state, err := stateDir()
	must(t, err)
	if !strings.HasPrefix(state, dir) {
		t.Fatalf("stateDir() = %q; want it below %q", state, dir)
	}
	must(t, os.MkdirAll(state, 0o700))
	log, err := openStartLog(filepath.Join(state, "daemon.log"))
	must(t, err)
	must(t, log.Close())
}
