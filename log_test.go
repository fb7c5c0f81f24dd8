package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// writeSample logs one of each kind of line.
func writeSample(l *logger) {
	l.debug("listening", "endpoint", "unix:///run/ipcd/ipcd.sock")
	c := l.with("endpoint", "unix:///run/ipcd/ipcd.sock", "conn", 7).with("peer", "uid 1000")
	c.info("connected")
	c.warn("limit reached", "limit", "limits.max_calls", "max", 256, "method", "Echo.Say", "call", "12", "wait", 5*time.Second)
	c.error("call ended", "error", errors.New("no space left"), "retry", true, "bytes", []byte("a b"), "none", nil)
	c.info("odd", "lonely")
}

func TestLogFormats(t *testing.T) {
	for name, f := range map[string]lineFormat{"text": {}, "colour": {colour: true}, "json": {json: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // for its clock, which always begins at the same time
				var out bytes.Buffer
				l := newLoggerWith(&out, f, levelDebug)
				writeSample(l)
				l.close()
				file := filepath.Join("testdata", "log."+name)
				if *renewGolden {
					if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if out.String() != strings.ReplaceAll(string(want), "\r\n", "\n") {
					t.Errorf("log is\n%s\nwant\n%s", out.String(), want)
				}
			})
		})
	}
}

func TestLogLevels(t *testing.T) {
	for level, want := range map[logLevel]string{levelDebug: "diwe", levelInfo: "iwe", levelWarn: "we", levelError: "e", "nonsense": "iwe"} {
		var out bytes.Buffer
		l := newLogger(&out, formatText, level)
		l.debug("d")
		l.info("i")
		l.warn("w")
		l.error("e")
		l.close()
		got := ""
		for line := range strings.Lines(out.String()) {
			got += line[len(line)-2 : len(line)-1]
		}
		if got != want {
			t.Errorf("level %s writes %q; want %q", level, got, want)
		}
	}
	var none *logger
	none.with("a", 1).error("nobody hears it")
	none.debug("nor this")
	none.close()
}

func TestLogAutoIsJSONWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(&out, formatAuto, levelInfo)
	l.info("x")
	l.close()
	if !json.Valid(out.Bytes()) {
		t.Errorf("log is %q; want JSON", out.String())
	}
}

func TestLogEscapes(t *testing.T) {
	tests := []struct{ in, message, text, json string }{
		{"plain", "plain", "plain", "plain"},
		{"", "", `""`, ""},
		{"two words", "two words", `"two words"`, "two words"},
		{"a=b", "a=b", `"a=b"`, "a=b"},
		{`a"b\`, `a"b\`, `"a\"b\\"`, `a\"b\\`},
		{"a\nlevel=error", `a\u000alevel=error`, `"a\nlevel=error"`, `a\nlevel=error`},
		{"a\r\n\x00", `a\u000d\u000a\u0000`, `"a\r\n\x00"`, `a\u000d\n\u0000`},
		{"\x1b[31mred", `\u001b[31mred`, `"\x1b[31mred"`, `\u001b[31mred`},
		{"c1 \u009b31m", `c1 \u009b31m`, `"c1 \u009b31m"`, `c1 \u009b31m`},
		{"raw \x9b31m \xff", `raw \x9b31m \xff`, `"raw \x9b31m \xff"`, `raw \\x9b31m \\xff`},
		{"\u202egpj.exe", `\u202egpj.exe`, `"\u202egpj.exe"`, `\u202egpj.exe`},
		{"\u2066x\u2069", `\u2066x\u2069`, `"\u2066x\u2069"`, `\u2066x\u2069`},
		{"Zoë 日本", "Zoë 日本", `"Zoë 日本"`, "Zoë 日本"},
		{"Zoë", "Zoë", "Zoë", "Zoë"},
		{"\ufffd", "\ufffd", "\ufffd", "\ufffd"},
	}
	for _, test := range tests {
		if got := oneLine(test.in); got != test.message {
			t.Errorf("oneLine(%q) = %q; want %q", test.in, got, test.message)
		}
		if got := string(lineFormat{}.appendField(nil, "k", test.in)); got != " k="+test.text {
			t.Errorf("text of %q = %q; want %q", test.in, got, " k="+test.text)
		}
		if got := string(lineFormat{json: true}.appendField(nil, "k", test.in)); got != `,"k":"`+test.json+`"` {
			t.Errorf("JSON of %q = %q; want %q", test.in, got, `,"k":"`+test.json+`"`)
		}
	}
}

// FuzzLogLine: whatever a peer sends, a line stays one line, steers no terminal, and its
// JSON gives the text back.
func FuzzLogLine(f *testing.F) {
	f.Add("\x1b[2J\r\n\u202e\xff\u2028\"\\")
	f.Fuzz(around(func(t *testing.T, s string) {
		for _, format := range []logFormat{formatText, formatJSON} {
			var out bytes.Buffer
			l := newLogger(&out, format, levelInfo)
			l.info(s, "error", s)
			l.close()
			line := strings.TrimSuffix(out.String(), "\n")
			if !utf8.ValidString(line) || strings.ContainsFunc(line, isControl) {
				t.Errorf("%s line of %q is %q", format, s, line)
			}
			var got struct{ Msg string }
			if format != formatJSON {
				continue
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Errorf("JSON line of %q is %q: %v", s, line, err)
			}
			if utf8.ValidString(s) && got.Msg != s {
				t.Errorf("JSON gives %q; want %q", got.Msg, s)
			}
		}
	}))
}

// panicky has a String that does what a nil pointer does.
type panicky struct{}

func (panicky) String() string { panic("no string") }

func TestLogFieldsAreBounded(t *testing.T) {
	text, _ := fieldText(strings.Repeat("日", maxField))
	if len(text) > maxField+100 || !utf8.ValidString(text) || !strings.HasSuffix(text, fmt.Sprintf("... (%d bytes)", 3*maxField)) {
		t.Errorf("a long value has %d bytes, ends %q", len(text), text[len(text)-20:])
	}
	if text, _ := fieldText(panicky{}); text != "main.panicky: no string" {
		t.Errorf("fieldText(panicky) = %q", text)
	}
}

// logMessages are the messages of a text log.
func logMessages(log string) []string {
	var all []string
	for line := range strings.Lines(log) {
		all = append(all, strings.TrimSuffix(line[len("2000-01-01T00:00:00.000Z warn  "):], "\n"))
	}
	return all
}

func checkMessages(t *testing.T, log *logBuffer, want ...string) {
	t.Helper()
	got := logMessages(log.String())
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A logBuffer is a log that a test reads while timers write to it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *logBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *logBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestLogCountsFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logBuffer
		l := newLogger(&out, formatText, levelInfo)
		a, b := l.with("endpoint", "a"), l.with("endpoint", "b")
		for i := range 100 {
			a.warn("bad frame", "conn", i)
		}
		b.warn("bad frame", "conn", 1)
		a.error("bad frame")
		for range 7 {
			a.info("received")
		}
		want := []string{}
		for i := range 5 {
			want = append(want, fmt.Sprintf("bad frame endpoint=a conn=%d", i))
		}
		want = append(want, "bad frame endpoint=b conn=1", "bad frame endpoint=a")
		for range 7 {
			want = append(want, "received endpoint=a")
		}
		checkMessages(t, &out, want...)

		<-time.After(floodWindow) // the bubble's clock
		synctest.Wait()
		want = append(want, "bad frame ... repeated 95 times endpoint=a")
		checkMessages(t, &out, want...)

		<-time.After(time.Hour) // likewise
		a.warn("bad frame")     // a new window
		want = append(want, "bad frame endpoint=a")
		checkMessages(t, &out, want...)
		l.close()
		checkMessages(t, &out, want...)
	})
}

func TestLogCloseReportsWhatIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logBuffer
		l := newLogger(&out, formatText, levelInfo)
		for range 8 {
			l.warn("accept")
		}
		want := []string{"accept", "accept", "accept", "accept", "accept"}
		for _, name := range []string{"x", "y"} { // each by its own name, though their channels are one endpoint
			for range 7 {
				l.with("endpoint", "fork", "worker", name).warn("accept")
			}
			want = append(want, slices.Repeat([]string{"accept endpoint=fork worker=" + name}, 5)...)
		}
		l.close()
		l.close()
		checkMessages(t, &out, append(want, "accept ... repeated 3 times",
			"accept ... repeated 2 times endpoint=fork worker=x", "accept ... repeated 2 times endpoint=fork worker=y")...)
	})
}

func TestLogFloodOfDifferentComplaintsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logBuffer
		l := newLogger(&out, formatText, levelInfo)
		for i := range 10 * floodKinds {
			l.warn(fmt.Sprint("complaint ", i))
		}
		l.close()
		got := logMessages(out.String())
		if want := floodKinds + floodFirst + 1; len(got) != want {
			t.Errorf("%d lines; want %d", len(got), want)
		}
		if want := fmt.Sprintf("other complaints ... repeated %d times", 9*floodKinds-floodFirst); got[len(got)-1] != want {
			t.Errorf("last line is %q; want %q", got[len(got)-1], want)
		}
	})
}

func TestLogFloodFromManyGoroutines(t *testing.T) {
	var out logBuffer
	l := newLogger(&out, formatText, levelInfo)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				l.with("endpoint", "a").warn("bad frame")
			}
		})
	}
	wg.Wait()
	l.close()
	if got := logMessages(out.String()); len(got) != 6 || got[5] != "bad frame ... repeated 795 times endpoint=a" {
		t.Errorf("log is %q", got)
	}
}

// A daemon whose log nobody reads goes on, closes, and says later what it lost.
func TestLogSurvivesReaderThatSleeps(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := newLogger(w, formatText, levelInfo)
	long := strings.Repeat("x", 4<<10)
	for range 2 * logQueue { // half of them fill the queue, and a pipe has room for 64 KiB
		l.info("line", "long", long)
	}
	l.s.file.mu.Lock()
	lost := l.s.file.lost
	l.s.file.mu.Unlock()
	if lost == 0 {
		t.Fatal("no line was lost; want some")
	}
	read := make(chan string, 1)
	first := make(chan struct{})
	go func() {
		var all bytes.Buffer
		io.CopyN(&all, r, int64(logQueue)*int64(len(long)))
		close(first)
		io.Copy(&all, r)
		read <- all.String()
	}()
	<-first
	l.info("awake")
	l.close()
	w.Close()
	all := <-read
	want := fmt.Sprintf("log lines were lost because the log was not read in time lines=%d\n", lost)
	if !strings.Contains(all, want) || !strings.HasSuffix(all, "awake\n") {
		t.Errorf("log ends %q; want %q in it and awake at its end", all[max(0, len(all)-300):], want)
	}
}

// A smallDisk takes so many bytes.
type smallDisk struct {
	bytes.Buffer
	room int
}

func (d *smallDisk) Write(b []byte) (int, error) {
	n := min(d.room, len(b))
	d.room -= n
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// A log whose disk was full ends its half line, and says how many lines it has lost once there is room for that, even if the disk is
// full again in the middle of saying so.
func TestLogSurvivesAFullDisk(t *testing.T) {
	for _, format := range []logFormat{formatText, formatJSON} {
		disk := &smallDisk{room: 160}
		l := newLogger(disk, format, levelInfo)
		l.info("first", "long", strings.Repeat("x", 20))
		l.info("its first half", "long", strings.Repeat("x", 100))
		for range 3 {
			l.info("lost")
		}
		disk.room = 20
		l.info("lost, and what says so is a half line, too")
		disk.room = 10 << 10
		l.info("room")
		l.info("last")
		l.close()
		lines := strings.Split(disk.String(), "\n")
		const told = "log lines were lost because they could not be written"
		want := []string{"first", "info", "", told, "room", "last"}
		if len(lines) != len(want)+1 {
			t.Fatalf("%s: the log has the lines %q; want one for each of %q", format, lines, want)
		}
		for i, want := range want {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s: line %d is %q; want %q in it", format, i, lines[i], want)
			}
		}
		count := map[logFormat]string{formatText: "lines=5", formatJSON: `"lines":5`}[format]
		if !strings.Contains(lines[3], count) || !strings.Contains(lines[3], syscall.ENOSPC.Error()) {
			t.Errorf("%s: it was told %q; want %s, and why", format, lines[3], count)
		}
	}
}

// A daemon whose log is read slowly waits for it a little, and not for each line.
func TestLogIsNotAsSlowAsItsReader(t *testing.T) {
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE) // whose goroutine is none of the bubble's
	defer signal.Stop(pipe)
	synctest.Test(t, func(t *testing.T) {
		l := &logFile{}
		began := time.Now()
		for range 4 * logQueue {
			l.put(func() { <-time.After(logWait / 4) }) // the bubble's clock
		}
		if took := time.Since(began); took > logWait || l.lost == 0 || l.lost > 3*logQueue {
			t.Errorf("%d lines took %v, and %d are lost; want at most %v, and that a few wait", 4*logQueue, took, l.lost, logWait)
		}
		l.close()
		<-l.done
	})
}

func TestLogCloseGivesUpOnReaderThatSleeps(t *testing.T) {
	t.Parallel() // it waits, most of the time
	if testing.Short() {
		t.Skip("it waits for a second")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := newLogger(w, formatText, levelInfo)
	for range logQueue / 2 {
		l.info("line", "long", strings.Repeat("x", 4<<10))
	}
	l.close() // returns
	r.Close() // sets the writer free
	<-l.s.file.done
	w.Close()
}

// TestLogHelper is not a test: it is the program of the next one.
func TestLogHelper(t *testing.T) {
	if os.Getenv("IPCD_TEST_LOG_HELPER") == "" {
		return
	}
	io.Copy(io.Discard, os.Stdin) // until the other end of stderr is closed
	l := newLogger(os.Stderr, formatJSON, levelInfo)
	for range 3 {
		l.info("nobody hears it")
	}
	l.close()
	fmt.Println("alive")
}

func TestLogSurvivesClosedStderr(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLogHelper$")
	cmd.Env = append(os.Environ(), "IPCD_TEST_LOG_HELPER=1")
	cmd.Stderr = w
	var out bytes.Buffer
	cmd.Stdout = &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r.Close()
	stdin.Close()
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "alive") {
		t.Errorf("a program whose stderr is closed: %v, printed %q; want alive", err, out.String())
	}
}

func TestLogCostsNothingWhenOff(t *testing.T) {
	l := newLogger(io.Discard, formatText, levelInfo)
	defer l.close()
	n := 70000
	if got := testing.AllocsPerRun(100, func() {
		l.debug("received")
		if l.debugging() {
			l.debug("received", "bytes", n)
		}
	}); got != 0 {
		t.Errorf("a debug line that is off allocates %v times; want 0", got)
	}
}

func BenchmarkLogOff(b *testing.B) {
	l := newLogger(io.Discard, formatText, levelInfo)
	defer l.close()
	for b.Loop() {
		l.debug("received")
	}
}

func BenchmarkLogLine(b *testing.B) {
	l := newLogger(io.Discard, formatJSON, levelInfo).with("endpoint", "unix:///run/ipcd/ipcd.sock", "conn", 7, "peer", "uid 1000")
	defer l.close()
	b.ReportAllocs()
	for b.Loop() {
		l.info("received", "bytes", 12)
	}
}
