package main

// This file owns commands as methods: a program that is run for each call, with the argument on its standard input or on its
// command line, and its standard output for a result, or line by line for parts of the answer.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A commandSpec says how a program is a method.
type commandSpec struct {
	command []string      // the program and its arguments
	asArgs  bool          // each member of the argument is one more argument of the program
	asJSON  bool          // the output, or each line of it, is JSON, rather than a text
	lines   bool          // each line of the output is a part of the answer, and the result is how many there were
	timeout time.Duration // of one run; 0 for none
	limits  limits
}

const (
	commandGrace = 2 * time.Second // between asking a program to end and killing it, and for its output once it has ended
	stderrKept   = 4 << 10         // bytes of the end of a program's standard error that its caller gets
)

// method returns the method that runs the program.
func (s *commandSpec) method(d Description) *method {
	m := &method{name: d.Method, doc: d.Doc, described: &d, argument: documentType, result: documentType,
		invoke: func(ctx context.Context, arg any) (any, error) { return s.run(ctx, *arg.(*document)) }}
	if s.lines {
		m.part = documentType
	}
	return m
}

// run runs the program for one call.
func (s *commandSpec) run(ctx context.Context, arg document) (any, error) {
	args, input, err := s.give(arg)
	if err != nil {
		return nil, err
	}
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.timeout, faultf(codeApplication, "%s was ended: it took longer than %v (--timeout)", s.command[0], s.timeout))
		defer cancel()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := &boundedOutput{most: s.limits.MaxMessage, over: func() {
		stop(tooLarge("max_message", int64(s.limits.MaxMessage), "the output of "+s.command[0]+" is too long"))
	}}
	said := &lastBytes{most: stderrKept}
	cmd := exec.Command(s.command[0], append(s.command[1:len(s.command):len(s.command)], args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, said
	cmd.WaitDelay = commandGrace // a program that it has left behind may hold them open
	var lines *lineSender
	if s.lines {
		if lines, err = newLineSender(cmd); err != nil {
			return nil, err
		}
		defer lines.out.Close()
	}
	group, err := newGroup()
	if err == nil {
		defer group.kill() // what it has left behind
		err = group.start(cmd)
	}
	if lines != nil {
		cmd.Stdout.(*os.File).Close()
	}
	if err != nil {
		return nil, faultf(codeApplication, "%s cannot be started: %w", s.command[0], err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if lines != nil {
			lines.await(ctx, group)
		}
		ended <- err
	}()
	if lines != nil {
		go lines.run(ctx, s, stop)
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		group.askToEnd()
		late := time.AfterFunc(commandGrace, group.kill)
		<-ended
		late.Stop()
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	return s.outcome(cmd, err, out, lines, said)
}

// give returns what the program gets of the argument: arguments, and its standard input. A string is its text.
func (s *commandSpec) give(arg document) (args []string, input []byte, err error) {
	switch {
	case len(arg) == 0, s.asArgs && string(arg) == nullID:
		return nil, nil, nil
	case s.asArgs:
		args, err = argumentsOf(arg)
		return args, nil, err
	case arg[0] == '"':
		return nil, unquoteJSON(arg[1 : len(arg)-1]), nil
	}
	return nil, arg, nil
}

// argumentsOf returns an argument of a program for each member of an object: --name=text, where a text is itself and
// anything else its JSON; --name alone for true, and nothing for false and null.
func argumentsOf(arg document) (args []string, err error) {
	if arg[0] != '{' {
		return nil, faultf(codeBadArgument, "the argument is %s; expected an object, whose members become arguments", jsonKindOf(arg))
	}
	w := enter(arg)
	for {
		name, value, ok := w.member()
		if !ok {
			return args, nil
		}
		key, text := string(unquoteJSON(name)), string(value)
		if !isMemberOfCommand(key) {
			return nil, faultf(codeBadArgument, "the member %q cannot be an argument of a program; expected letters, digits, - and _", shorten(key, 40))
		}
		switch text {
		case "true":
			args = append(args, "--"+key)
			continue
		case "false", nullID:
			continue
		}
		if value[0] == '"' {
			text = string(unquoteJSON(value[1 : len(value)-1]))
		}
		if strings.ContainsRune(text, 0) {
			return nil, faultf(codeBadArgument, "the member %s has a zero byte, which no argument of a program can have", key)
		}
		args = append(args, "--"+key+"="+text)
	}
}

// isMemberOfCommand reports whether a member's name can be that of a flag.
func isMemberOfCommand(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// outcome returns the result of a program that has ended, or its error.
func (s *commandSpec) outcome(cmd *exec.Cmd, err error, out *boundedOutput, lines *lineSender, said *lastBytes) (any, error) {
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		text := s.command[0] + ": " + cmd.ProcessState.String()
		stderr := said.String()
		if last := strings.TrimSpace(stderr[strings.LastIndexByte(strings.TrimRight(stderr, "\r\n"), '\n')+1:]); last != "" {
			text += ": " + last
		}
		return nil, &Error{Code: programExitCode(cmd.ProcessState), Message: text, Data: map[string]string{"stderr": stderr}}
	}
	if lines != nil {
		return lines.sent, nil
	}
	return s.valueOf(out.buf.Bytes(), "the output of "+s.command[0])
}

// valueOf returns what a program has written as a value: a text, without its line end, or JSON.
func (s *commandSpec) valueOf(text []byte, what string) (any, error) {
	if !s.asJSON {
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		if !utf8.Valid(text) {
			return nil, faultf(codeApplication, "%s is not UTF-8", what)
		}
		return string(text), nil
	}
	text = bytes.TrimSpace(text)
	if err := checkJSON(text, s.limits); err != nil {
		return nil, faultf(codeApplication, "%s is not JSON: %w", what, err)
	}
	return document(text), nil
}

// A lineSender sends each line of the output of a program as a part of the answer. It reads no further while the caller has no
// room, so that the program waits when its pipe is full.
type lineSender struct {
	out  *os.File
	rest io.LimitedReader // reads out, of the run's goroutine alone
	sent int              // lines
	done chan struct{}    // closed once no more are sent
}

// newLineSender gives cmd a pipe for its output. Whoever starts cmd closes the end that it is given.
func newLineSender(cmd *exec.Cmd) (*lineSender, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	return &lineSender{out: r, rest: io.LimitedReader{R: r, N: math.MaxInt64}, done: make(chan struct{})}, nil
}

// await waits for the end of the output when the program has ended. What that has left behind may hold it open, for no longer
// than commandGrace: then its group is killed, and of whoever has left the group nothing more is read.
func (l *lineSender) await(ctx context.Context, group *processGroup) {
	late := time.AfterFunc(commandGrace, func() {
		group.kill()
		l.out.SetReadDeadline(time.Unix(1, 0)) // on Windows there is none, and no way out of the group
	})
	defer late.Stop()
	select {
	case <-l.done:
	case <-ctx.Done():
	}
}

// Read implements io.Reader. Once the deadline of await has passed it reads what waits in the pipe: the caller may have had no
// room for it until now.
func (l *lineSender) Read(b []byte) (int, error) {
	n, err := l.rest.Read(b)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	left, err := unread(l.out)
	if err != nil {
		return 0, err
	}
	l.rest.N = int64(left)
	l.out.SetReadDeadline(time.Time{})
	return l.rest.Read(b)
}

// run sends until the output ends. An error stops the program. It may wait for the caller when the program has been ended,
// but no longer than the call lasts.
func (l *lineSender) run(ctx context.Context, s *commandSpec, stop context.CancelCauseFunc) {
	defer close(l.done)
	c, _ := ctx.Value(callKey).(*call)
	lines := bufio.NewScanner(l)
	lines.Buffer(nil, s.limits.MaxMessage)
	for lines.Scan() {
		if s.asJSON && len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		l.sent++
		value, err := s.valueOf(lines.Bytes(), fmt.Sprintf("line %d of the output of %s", l.sent, s.command[0]))
		if err == nil && c != nil {
			err = c.sendPart(value)
		}
		if err != nil {
			stop(err)
			return
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		stop(tooLarge("max_message", int64(s.limits.MaxMessage), "a line of the output of "+s.command[0]+" is too long"))
	}
}

// A boundedOutput keeps what a program writes, up to a limit, and says once when that is passed.
type boundedOutput struct {
	buf  bytes.Buffer
	most int
	over func()
}

func (b *boundedOutput) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.most {
		b.over()
		return 0, io.ErrShortWrite
	}
	return b.buf.Write(p)
}

// A lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu   sync.Mutex
	buf  []byte
	most int
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p[max(0, len(p)-l.most):]...)
	l.buf = l.buf[max(0, len(l.buf)-l.most):]
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(string(l.buf), "\ufffd")
}
