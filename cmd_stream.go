package main

// This file owns what a command shows of an answer in parts, on standard output and as a line that lives on a terminal, and
// what ends a command that goes on: a signal, or the end of whoever reads its output.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// An interruption is the error of a command that a signal has ended.
type interruption struct{ sig os.Signal }

func (i *interruption) Error() string { return "ended by " + i.sig.String() }

// outputLook is how often a command that has nothing to write looks whether anybody would read it.
const outputLook = 200 * time.Millisecond

// notifyStops has c told of the signals to stop, save those that were ignored when the program began: a shell ignores Ctrl-C on
// behalf of what it runs in the background.
func notifyStops(c chan<- os.Signal) {
	for _, sig := range stopSignals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
}

// attend returns a context that the first signal to stop ends, the second one ends the program; so that calls are cancelled,
// and not just left. It ends as well when nobody reads out any more, unless that is nil. Its cause says which it was.
func attend(parent context.Context, out io.Writer) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	notifyStops(signals)
	var look <-chan time.Time
	stopLooking := func() {}
	f, isFile := out.(*os.File)
	if isFile {
		ticker := time.NewTicker(outputLook)
		pipe := make(chan os.Signal, 1)
		signal.Notify(pipe, syscall.SIGPIPE) // so that a write fails in place of ending the program: see logFile.start
		look, stopLooking = ticker.C, func() { ticker.Stop(); signal.Stop(pipe) }
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer signal.Stop(signals)
		closed := make(chan bool, 1)
		for next := look; ; {
			select {
			case sig := <-signals:
				cancel(&interruption{sig})
				return
			case <-next: // Windows has it wait for a write that waits for the reader: neither may keep us from a signal
				next = nil
				go func() { closed <- outputClosed(f) }()
			case is := <-closed:
				if next = look; is {
					cancel(&fs.PathError{Op: "write", Path: f.Name(), Err: errOutputClosed})
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
		stopLooking()
	}
}

// reasonFor is why a command fails with err: what has ended ctx, where that has ended.
func reasonFor(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A partPrinter prints an answer in parts: each part and then the result is a line of JSON.
type partPrinter struct {
	ctx    context.Context // no write outlasts it
	out    io.Writer
	tagged bool      // by --json: {"part": ...} and {"result": ...}
	live   *liveLine // shows progress; nil where that is a part like any other
}

// part prints a part.
func (p *partPrinter) part(value document) error {
	if p.live != nil {
		if text, ok := progressText(value); ok {
			p.live.show(text)
			return nil
		}
	}
	return p.print("part", value)
}

// print prints a value, by itself or under its name.
func (p *partPrinter) print(name string, value []byte) error {
	if bytes.ContainsAny(value, "\r\n") { // a server may be free with white space
		var b bytes.Buffer
		if json.Compact(&b, value) == nil {
			value = b.Bytes()
		}
	}
	if p.tagged {
		value = fmt.Appendf(nil, `{%q:%s}`, name, value)
	}
	return p.line(string(value))
}

// line prints a line. A reader that does not read must not keep the command from its end: the write is then left alone.
func (p *partPrinter) line(text string) error {
	done := make(chan error, 1)
	return p.live.aside(func() error {
		go func() {
			_, err := fmt.Fprintln(p.out, shown(p.out, text))
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-p.ctx.Done():
			return asFault(context.Cause(p.ctx))
		}
	})
}

// progressText is what a part says of progress, for people: {"progress": 0.4, "message": "..."} and nothing else.
func progressText(value document) (text string, ok bool) {
	var said map[string]any
	if json.Unmarshal(value, &said) != nil {
		return "", false
	}
	share, isShare := said["progress"].(float64)
	message, isText := said["message"].(string)
	members := 1
	if isText {
		members++
	}
	if !isShare || share < 0 || share > 1 || len(said) != members {
		return "", false
	}
	return fmt.Sprintf("%3d%% %s", int(100*share), oneLine(message)), true
}

// A liveLine is a line on a terminal that is written again and again. A nil one shows nothing.
type liveLine struct {
	w io.Writer

	mu    sync.Mutex
	text  string
	there bool        // something is on the terminal
	drawn time.Time   // when it was last
	later *time.Timer // draws the text once liveEvery has passed; nil if nothing waits for that
}

// liveEvery is the time between two states of a line: nobody reads faster, and a slow terminal must not hold up the work.
const liveEvery = 100 * time.Millisecond

// newLiveLine returns a line on w, or nil if w is no terminal.
func newLiveLine(w io.Writer) *liveLine {
	if !isTerminal(w) {
		return nil
	}
	return &liveLine{w: w}
}

// show has the line show a text, without control characters.
func (l *liveLine) show(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = text
	if l.later != nil {
		return
	}
	if wait := liveEvery - time.Since(l.drawn); wait > 0 {
		l.later = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.later != nil { // and not cleared meanwhile
				l.later = nil
				l.drawLocked()
			}
		})
		return
	}
	l.drawLocked()
}

// drawLocked writes the text over what is there. A text that reached the last column would make some terminals go on below.
func (l *liveLine) drawLocked() {
	width := terminalWidth(l.w)
	if width == 0 { // it does not say
		width = 80
	}
	fmt.Fprintf(l.w, "\r%s\x1b[K", cut(l.text, width-1))
	l.there, l.drawn = true, time.Now()
}

func (l *liveLine) eraseLocked() {
	if l.there {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
	l.there = false
}

// aside runs f, which writes to what may be the same terminal, with the line out of its way.
func (l *liveLine) aside(f func() error) error {
	if l == nil {
		return f()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	again := l.there
	l.eraseLocked()
	err := f()
	if again {
		l.drawLocked()
	}
	return err
}

// clear ends the line.
func (l *liveLine) clear() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.later != nil {
		l.later.Stop()
		l.later = nil
	}
	l.eraseLocked()
}
