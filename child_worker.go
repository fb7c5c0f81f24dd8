package main

// This file owns the processes of workers: how a program of the configuration is started with a channel, in which
// environment, and where its output goes. What becomes of them is up to server_keeper.go.

import (
	"bufio"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

const outputLine = 4 << 10 // bytes of a line of a worker's output; a longer one becomes several

// A workerStart says how to start a process of a worker.
type workerStart struct {
	spec   *workerSettings
	limits limits
	env    []string // KEY=VALUE, in addition to what the settings say
	log    *logger
	line   func(stream, text string) // gets each line of its output
	forker *forker
}

// A workerChild is a process of a worker, with its channel.
type workerChild struct {
	*forked
	output sync.WaitGroup
	pipes  []*os.File
}

// run starts the process.
func (s *workerStart) run() (*workerChild, error) {
	attr, asUser, err := runningAs(s.spec.RunAs)
	if err != nil {
		return nil, err
	}
	group, err := newGroup()
	if err != nil {
		return nil, err
	}
	child := &workerChild{}
	var theirs []*os.File
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			closeFiles(child.pipes)
			closeFiles(theirs)
			group.kill()
			return nil, faultf(codeApplication, "make a pipe: %w", err)
		}
		child.pipes, theirs = append(child.pipes, r), append(theirs, w)
	}
	child.forked, err = startChild(childSpec{
		command: s.spec.Command, only: workerEnviron(s.spec.Environment), env: slices.Concat(asUser, s.env), dir: s.spec.Directory,
		stdout: theirs[0], stderr: theirs[1], limits: s.limits, grace: s.spec.StopTimeout,
		group: group, either: s.spec.Ready == readyRegister, attr: attr, start: s.forker.do, log: s.log,
	})
	closeFiles(theirs)
	if err != nil {
		closeFiles(child.pipes)
		group.kill()
		return nil, err
	}
	for i, stream := range []string{"stdout", "stderr"} {
		child.output.Go(func() { readLines(child.pipes[i], func(text string) { s.line(stream, text) }) })
	}
	return child, nil
}

// finish closes the channel, ends the process and its group, and waits for the rest of its output.
func (c *workerChild) finish() {
	c.forked.Close()
	for _, p := range c.pipes { // a program that has left the group may hold the other end
		p.SetReadDeadline(time.Now().Add(childGrace))
	}
	c.output.Wait()
	closeFiles(c.pipes)
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// readLines calls line for each line of r, to its end.
func readLines(r io.Reader, line func(text string)) {
	in := bufio.NewReaderSize(r, outputLine)
	for {
		b, err := in.ReadSlice('\n')
		if len(b) > 0 {
			line(strings.ToValidUTF8(strings.TrimRight(string(b), "\r\n"), "\ufffd"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// workerEnviron returns the environment of a worker: of the daemon's what every program needs, and what the settings add.
func workerEnviron(added []string) []string {
	env := []string{}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if isOneOf(name, plainEnviron) || isOneOf(name, added) {
			env = append(env, entry)
		}
	}
	return append(env, slices.DeleteFunc(slices.Clone(added), func(entry string) bool { return !strings.Contains(entry, "=") })...)
}

// A forker starts programs from one thread, which lives as long as the forker does. Where a program ends with the thread
// that has started it, any other thread would do so too early.
type forker struct {
	begin sync.Once
	end   sync.Once
	jobs  chan func()
	over  chan struct{} // closed once the thread has ended
}

func newForker() *forker { return &forker{jobs: make(chan func()), over: make(chan struct{})} }

// do runs start on the thread.
func (f *forker) do(start func() error) (err error) {
	f.begin.Do(func() { go f.run() })
	done := make(chan struct{})
	f.jobs <- func() {
		defer close(done)
		err = start()
	}
	<-done
	return err
}

func (f *forker) run() {
	defer close(f.over)
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	for job := range f.jobs {
		job()
	}
}

// close ends the thread. No program that it has started may be there any more.
func (f *forker) close() {
	f.end.Do(func() { close(f.jobs) })
	f.begin.Do(func() { close(f.over) })
	<-f.over
}
