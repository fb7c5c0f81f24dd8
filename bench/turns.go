package main

// This file owns the turns of a caller that is written in Go: calls for so long, each answer compared with what was sent. It is a part
// of two programs, of bench and of the ipcd that bench builds (see _own/turns.go), so it uses nothing of either.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A workload is how many call at once, over how many connections, and what each sends and gets back.
type workload struct {
	callers, conns int
	bytes          int // of a text; 0 for a Ten
}

// A turner makes calls until the end of a turn, at least one for each caller, and returns their number.
type turner interface {
	turn(w workload, end time.Time) (calls int, err error)
}

// takeTurns takes a turn for each line "CALLERS CONNECTIONS BYTES NANOSECONDS" of the standard input, and prints
// "CALLS NANOSECONDS". It ends with the first answer that is wrong.
func takeTurns(t turner) error {
	for in := bufio.NewReader(os.Stdin); ; {
		var w workload
		var d time.Duration
		if _, err := fmt.Fscanln(in, &w.callers, &w.conns, &w.bytes, &d); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		began := time.Now()
		calls, err := t.turn(w, began.Add(d))
		if err != nil {
			return err
		}
		fmt.Println(calls, time.Since(began).Nanoseconds())
	}
}

// A Ten is a struct of ten fields, whose answer is the same again. Its fields are those of google.protobuf.FieldDescriptorProto, of
// which there is generated code that nobody has to generate; see protobuf.go.
type Ten struct {
	Name         string `json:"name"`
	Extendee     string `json:"extendee"`
	Number       int32  `json:"number"`
	Label        int32  `json:"label"`
	Type         int32  `json:"type"`
	TypeName     string `json:"type_name"`
	DefaultValue string `json:"default_value"`
	OneofIndex   int32  `json:"oneof_index"`
	JSONName     string `json:"json_name"`
	Optional     bool   `json:"optional"`
}

// tenOf returns the n-th of them: each caller has two.
func tenOf(n int) Ten {
	name := "field_" + strconv.Itoa(n)
	return Ten{name, ".ipcd.bench.Message", int32(n + 1), 1, 9, ".ipcd.bench.Type", "none", int32(n % 8), name, true}
}

// texts are those that a workload sends. Each caller has two that it sends by turns: an answer that is somebody else's, or late, is
// then a wrong one.
type texts struct {
	all  string // numbers of eight bytes; a text begins at its own
	size int
}

func newTexts(w workload) texts {
	var b strings.Builder
	for n := 0; b.Len() < 16*w.callers+w.bytes; n++ {
		fmt.Fprintf(&b, "%07d ", n)
	}
	return texts{b.String(), w.bytes}
}

func (t texts) of(caller, call int) string { return t.all[16*caller+8*(call%2):][:t.size] }

var errWrong = errors.New("the answer is not what was sent")

// An echoer is a connection to a server that returns what it is given.
type echoer interface {
	say(text string) (string, error)
	sayTen(ten Ten) (Ten, error)
}

// An echoTurner has a goroutine for each caller.
type echoTurner struct {
	connect func() (echoer, error)
	conns   []echoer
	work    workload
	texts   texts
}

func (t *echoTurner) turn(w workload, end time.Time) (int, error) {
	if w != t.work {
		t.work, t.texts = w, newTexts(w)
	}
	for len(t.conns) < w.conns {
		c, err := t.connect()
		if err != nil {
			return 0, err
		}
		t.conns = append(t.conns, c)
	}
	var calls atomic.Int64
	failed := make(chan error, w.callers)
	var wg sync.WaitGroup
	for i := range w.callers {
		wg.Go(func() {
			n := 0
			for c := t.conns[i%w.conns]; n == 0 || time.Now().Before(end); n++ {
				if err := t.once(c, i, n); err != nil {
					failed <- err
					return
				}
			}
			calls.Add(int64(n))
		})
	}
	wg.Wait()
	close(failed)
	return int(calls.Load()), <-failed
}

// once makes the n-th call of a caller.
func (t *echoTurner) once(c echoer, caller, n int) error {
	if t.work.bytes == 0 {
		ten := tenOf(2*caller + n%2)
		answer, err := c.sayTen(ten)
		if err == nil && answer != ten {
			err = errWrong
		}
		return err
	}
	text := t.texts.of(caller, n)
	answer, err := c.say(text)
	if err == nil && answer != text {
		err = errWrong
	}
	return err
}
