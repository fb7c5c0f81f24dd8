package main

// This file owns the programs that send parts of answers and read them. What is asked for is a number of parts and their length.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// partsOfACall is how many parts a caller asks for at once.
const partsOfACall = 64

// partOf returns the text of part n of so many bytes, into b: the texts of parts differ, so that one that is missing is noticed.
func partOf(b []byte, n, size int) []byte {
	b = fmt.Appendf(b[:0], "%d ", n)
	for len(b) < size {
		b = append(b, 'x')
	}
	return b
}

// partTexts are those of all the parts of a call.
func partTexts(count, size int) [][]byte {
	texts := make([][]byte, count)
	for i := range texts {
		texts[i] = partOf(nil, i, size)
	}
	return texts
}

// sendRawParts answers each line "COUNT BYTES" with the bytes of the parts.
func sendRawParts(conn net.Conn) {
	var texts [][]byte
	for r := bufio.NewReader(conn); ; {
		var count, size int
		if _, err := fmt.Fscanln(r, &count, &size); err != nil {
			return
		}
		if len(texts) != count || len(texts[0]) != size {
			texts = partTexts(count, size)
		}
		for _, t := range texts {
			if _, err := conn.Write(t); err != nil {
				return
			}
		}
	}
}

// relayProgram copies between those who connect to one socket and another one.
func relayProgram(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	go leaveWithBench()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		from, err := dial(args[1])
		if err != nil {
			return err
		}
		go io.Copy(from, conn)
		go io.Copy(conn, from)
	}
}

// streamProgram is a worker whose answer is the number of parts that it has sent. It sends no more of them ahead than its daemon
// says, and answers anything but a request for parts with what it was given.
func streamProgram([]string) error {
	conn, err := channel()
	if err != nil {
		return err
	}
	if err := registerWith(conn, `"extensions":["parts"],`, "Far.Say"); err != nil {
		return err
	}
	w := &streamer{in: bufio.NewReaderSize(conn, socketRoom), out: bufio.NewWriterSize(conn, 4*socketRoom)}
	for {
		m, err := w.next()
		if err == nil && m.Method == "Far.Say" {
			err = w.answer(m)
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// A streamer sends the parts of one call after the other.
type streamer struct {
	in    *bufio.Reader
	out   *bufio.Writer
	texts [][]byte
	later []streamMessage // calls that have come while it sent parts
}

type streamMessage struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	Parts  json.RawMessage
	Window int
}

// next returns the next message, after all that has been sent is on its way.
func (w *streamer) next() (m streamMessage, err error) {
	if err := w.out.Flush(); err != nil {
		return m, err
	}
	if len(w.later) > 0 {
		m, w.later = w.later[0], w.later[1:]
		return m, nil
	}
	return w.read()
}

func (w *streamer) read() (m streamMessage, err error) {
	line, err := w.in.ReadBytes('\n')
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(line, &m)
}

func (w *streamer) answer(m streamMessage) error {
	if m.Parts == nil {
		var params [1]json.RawMessage
		if err := json.Unmarshal(m.Params, &params); err != nil {
			return err
		}
		fmt.Fprintf(w.out, `{"id":%s,"result":%s}`+"\n", m.ID, params[0])
		return nil
	}
	var params [1][2]int
	if err := json.Unmarshal(m.Params, &params); err != nil {
		return err
	}
	count, size := params[0][0], params[0][1]
	if len(w.texts) != count || count > 0 && len(w.texts[0]) != size {
		w.texts = partTexts(count, size)
	}
	ahead := max(1, m.Window/max(size+2, 1))
	for sent, taken := 0, 0; sent < count; sent++ {
		for sent-taken >= ahead {
			if err := w.out.Flush(); err != nil {
				return err
			}
			c, err := w.read()
			if err != nil {
				return err
			}
			switch c.Method {
			case "$/credit":
				var params struct {
					Token json.RawMessage
					Parts int
				}
				if err := json.Unmarshal(c.Params, &params); err != nil {
					return err
				}
				if bytes.Equal(params.Token, m.Parts) {
					taken = params.Parts
				}
			case "Far.Say":
				w.later = append(w.later, c)
			}
		}
		fmt.Fprintf(w.out, `{"method":"$/progress","params":{"token":%s,"value":"`, m.Parts)
		w.out.Write(w.texts[sent])
		w.out.WriteString("\"}}\n")
	}
	_, err := fmt.Fprintf(w.out, `{"id":%s,"result":%d}`+"\n", m.ID, count)
	return err
}

// A partsTurner asks for parts, and sees to it that each is the right one.
type partsTurner struct {
	conn  net.Conn
	r     *bufio.Reader
	raw   bool
	texts [][]byte
	b     []byte
}

// turn returns the number of parts.
func (c *partsTurner) turn(w workload, end time.Time) (n int, err error) {
	size := w.bytes
	if len(c.texts) == 0 || len(c.texts[0]) != size {
		c.texts, c.b = partTexts(partsOfACall, size), make([]byte, size)
	}
	for ask := c.ask; n == 0 || time.Now().Before(end); n += partsOfACall {
		if err := ask(size); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (c *partsTurner) ask(size int) error {
	form := `{"jsonrpc":"2.0","id":1,"method":"Far.Say","params":[[%d,%d]],"parts":1}`
	if c.raw {
		form = "%d %d\n"
	}
	if _, err := fmt.Fprintf(c.conn, form, partsOfACall, size); err != nil {
		return err
	}
	for _, text := range c.texts {
		got, err := c.next()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, text) {
			return errWrong
		}
	}
	if c.raw {
		return nil
	}
	line, err := c.r.ReadSlice('\n')
	if err == nil && string(line) != fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%d}`+"\n", partsOfACall) {
		err = fmt.Errorf("behind the parts there comes %.200s", line)
	}
	return err
}

// next returns the next part.
func (c *partsTurner) next() ([]byte, error) {
	if c.raw {
		_, err := io.ReadFull(c.r, c.b)
		return c.b, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	value, begun := bytes.CutPrefix(line, []byte(`{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":"`))
	value, ended := bytes.CutSuffix(value, []byte("\"}}\n"))
	if !begun || !ended {
		return nil, fmt.Errorf("instead of a part there comes %.200s", line)
	}
	return value, nil
}
