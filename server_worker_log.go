package main

// This file owns the end of what a worker prints, for "ipcd worker logs". All of it is in the daemon's log.

import (
	"sync"
	"time"
)

const (
	ringSize  = 64 << 10 // bytes of text that are kept of a worker
	lineExtra = 64       // what a line costs besides its text

	linesMost = 1000 // of a worker that are logged within linesSpan; of the rest the log has the number
	linesSpan = time.Second
)

// A WorkerLine is a line that a worker has printed.
type WorkerLine struct {
	Time     string `json:"time"`     // RFC 3339, with milliseconds
	Instance int    `json:"instance"` // from 1
	Stream   string `json:"stream"`   // stdout or stderr
	Text     string `json:"text"`
}

// A lineRing keeps the last lines.
type lineRing struct {
	mu    sync.Mutex
	lines []WorkerLine
	size  int
	next  int64         // the number of the next line, from 1
	more  chan struct{} // closed, and replaced, with each line

	began  time.Time // the span that runs
	logged int       // lines within it
	left   int       // lines that were not logged
}

func newLineRing() *lineRing { return &lineRing{next: 1, more: make(chan struct{})} }

// add keeps a line. It reports whether the line is to be logged, and how many before it were not.
func (r *lineRing) add(instance int, stream, text string) (log bool, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, WorkerLine{time.Now().Format("2006-01-02T15:04:05.000Z07:00"), instance, stream, text})
	r.size += len(text) + lineExtra
	for r.size > ringSize && len(r.lines) > 1 {
		r.size -= len(r.lines[0].Text) + lineExtra
		r.lines = r.lines[1:]
	}
	r.next++
	close(r.more)
	r.more = make(chan struct{})
	if now := time.Now(); now.Sub(r.began) >= linesSpan {
		r.began, r.logged = now, 0
	}
	if r.logged++; r.logged > linesMost {
		r.left++
		return false, 0
	}
	left, r.left = r.left, 0
	return true, left
}

// since returns the lines that are kept from the number after on, the number to go on with, and what is closed at the next
// line.
func (r *lineRing) since(after int64) (lines []WorkerLine, next int64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.next - int64(len(r.lines))
	skip := min(max(after-first, 0), int64(len(r.lines)))
	return append([]WorkerLine{}, r.lines[skip:]...), r.next, r.more
}
