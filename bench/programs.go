package main

// This file owns the programs that bench plays itself, with nothing but the standard library (but nats.go): servers, callers, a provider.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// programs are reached by the first argument.
var programs = map[string]func(args []string) error{
	"serve":   serveProgram, // PROTOCOL SOCKET
	"relay":   relayProgram, // SOCKET FROM
	"stream":  streamProgram,
	"call":    callProgram,    // PROTOCOL SOCKET METHOD
	"provide": provideProgram, // SOCKET
	"work":    workProgram,
	"loop":    loopProgram,
}

// Echo is the service of stock servers and of providers.
type Echo struct{}

// Say returns what it is given.
func (Echo) Say(text string, reply *string) error {
	*reply = text
	return nil
}

// leaveWithBench ends the process when its standard input ends, as it does however bench ends.
func leaveWithBench() {
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func serveProgram(args []string) error {
	l, err := net.Listen("unix", args[1])
	if err != nil {
		return err
	}
	go leaveWithBench()
	server := rpc.NewServer()
	server.Register(Echo{})
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		switch args[0] {
		case "gob":
			go server.ServeConn(conn)
		case "json":
			go server.ServeCodec(jsonrpc.NewServerCodec(conn))
		case "raw":
			go io.Copy(conn, conn)
		case "raw-parts":
			go sendRawParts(conn)
		}
	}
}

// provideProgram registers Far.Say, and serves until its daemon ends.
func provideProgram(args []string) error {
	go leaveWithBench()
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	return serveFar(conn)
}

// workProgram is provideProgram over the channel of a worker.
func workProgram([]string) error {
	conn, err := channel()
	if err != nil {
		return err
	}
	return serveFar(conn)
}

// channel opens the channel of a worker.
func channel() (net.Conn, error) {
	fd, err := strconv.Atoi(os.Getenv("IPCD_CHANNEL_FD"))
	if err != nil {
		return nil, err
	}
	return net.FileConn(os.NewFile(uintptr(fd), "channel"))
}

// loopProgram is a worker that reads a line, answers it, and sends its answers when no more lines have come.
func loopProgram([]string) error {
	conn, err := channel()
	if err != nil {
		return err
	}
	if err := register(conn, "Far.Say"); err != nil {
		return err
	}
	in, out := bufio.NewReaderSize(conn, socketRoom), bufio.NewWriterSize(conn, socketRoom)
	for answers := json.NewEncoder(out); ; {
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		if m.Method != "Far.Say" { // a $/cancelRequest
			continue
		}
		var params [1]string
		if err := json.Unmarshal(m.Params, &params); err != nil {
			return err
		}
		answer := struct {
			ID     json.RawMessage `json:"id"`
			Result string          `json:"result"`
		}{m.ID, params[0]}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

func serveFar(conn net.Conn) error {
	server := rpc.NewServer()
	server.RegisterName("Far", Echo{})
	if err := register(conn, "Far.Say"); err != nil {
		return err
	}
	server.ServeCodec(jsonrpc.NewServerCodec(conn))
	return nil
}

// register registers a method at a daemon. What comes next over the connection are calls.
func register(conn net.Conn, method string) error { return registerWith(conn, "", method) }

// registerWith is register with these members more.
func registerWith(conn net.Conn, members, method string) error {
	if _, err := fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Register","params":[{%s"methods":[%q]}]}`+"\n", members, method); err != nil {
		return err
	}
	var answer []byte
	for b := make([]byte, 1); len(answer) == 0 || answer[len(answer)-1] != '\n'; answer = append(answer, b[0]) {
		if _, err := conn.Read(b); err != nil { // not a byte more: it would be that of a call
			return err
		}
	}
	if !strings.Contains(string(answer), `"result"`) {
		return fmt.Errorf("the registration of %s is answered with %s", method, answer)
	}
	return nil
}

// callProgram takes turns. For each line "CALLERS BYTES NANOSECONDS" of its input it makes calls for so long, and prints
// "CALLS NANOSECONDS". It ends with the first answer that is wrong.
func callProgram(args []string) error {
	c, err := newTurner(args[0], args[1], args[2])
	if err != nil {
		return err
	}
	for in := bufio.NewReader(os.Stdin); ; {
		var callers, bytes int
		var d time.Duration
		if _, err := fmt.Fscanln(in, &callers, &bytes, &d); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		began := time.Now()
		calls, err := c.turn(textsFor(callers, bytes), began.Add(d))
		if err != nil {
			return err
		}
		fmt.Println(calls, time.Since(began).Nanoseconds())
	}
}

// newTurner returns the caller of a method of the server at a socket, or a URL.
func newTurner(protocol, server, method string) (turner, error) {
	if connect := buses[protocol]; connect != nil {
		b, err := connect(server)
		return &eventsTurner{bus: b}, err
	}
	conn, err := dial(server)
	if err != nil {
		return nil, err
	}
	switch protocol {
	case "gob":
		return rpcTurner{rpc.NewClient(conn), method}, nil
	case "json":
		return rpcTurner{jsonrpc.NewClient(conn), method}, nil
	case "raw":
		return rawTurner{conn, bufio.NewReaderSize(conn, socketRoom)}, nil
	case "raw-parts":
		return &partsTurner{conn: conn, r: bufio.NewReaderSize(conn, socketRoom), raw: true}, nil
	case "parts":
		return &partsTurner{conn: conn, r: bufio.NewReaderSize(conn, 4*socketRoom)}, nil
	}
	return nil, fmt.Errorf("%q is no protocol", protocol)
}

// dial waits for the server, which may just be starting.
func dial(socket string) (net.Conn, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil || time.Since(began) > patience {
			return conn, err
		}
	}
}

// A turner makes calls until the end of a turn, at least one for each pair of texts, and returns their number.
type turner interface {
	turn(texts [][2]string, end time.Time) (calls int, err error)
}

// textsFor gives each caller two texts that it sends by turns: an answer that is somebody else's, or late, is then a wrong one.
func textsFor(callers, bytes int) [][2]string {
	texts := make([][2]string, callers)
	for i := range texts {
		for j := range texts[i] {
			text := fmt.Sprintf("%d.%d ", i, j)
			texts[i][j] = text + strings.Repeat("x", bytes-len(text))
		}
	}
	return texts
}

var errWrong = errors.New("the answer is not what was sent")

// An rpcTurner has a goroutine for each caller.
type rpcTurner struct {
	*rpc.Client
	method string
}

func (c rpcTurner) turn(texts [][2]string, end time.Time) (int, error) {
	var calls atomic.Int64
	failed := make(chan error, len(texts))
	var wg sync.WaitGroup
	for _, pair := range texts {
		wg.Go(func() {
			n := 0
			for ; n == 0 || time.Now().Before(end); n++ {
				var answer string
				err := c.Call(c.method, pair[n%2], &answer)
				if err == nil && answer != pair[n%2] {
					err = errWrong
				}
				if err != nil {
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

// A rawTurner has neither ids nor names: as many messages as there are callers are on their way, and come back in their order.
type rawTurner struct {
	conn net.Conn
	r    *bufio.Reader
}

func (c rawTurner) turn(texts [][2]string, end time.Time) (int, error) {
	w := bufio.NewWriterSize(c.conn, socketRoom)
	answer := make([]byte, len(texts[0][0]))
	text := func(n int) string { return texts[n%len(texts)][n/len(texts)%2] }
	send := func(text string) { w.WriteString(text) }
	if len(answer)*len(texts) > socketRoom { // who writes it all before reading waits for ever: both sockets are full then
		queue := make(chan string, len(texts))
		defer close(queue)
		go func() {
			for text := range queue {
				io.WriteString(c.conn, text)
			}
		}()
		send = func(text string) { queue <- text }
	}
	sent, got := 0, 0
	for ; sent < len(texts); sent++ {
		send(text(sent))
	}
	for ; got < sent; got++ {
		if c.r.Buffered() < len(answer) {
			w.Flush() // as what follows has to wait; an error of it is the reader's, too
		}
		if _, err := io.ReadFull(c.r, answer); err != nil {
			return 0, err
		}
		if string(answer) != text(got) {
			return 0, errWrong
		}
		if time.Now().Before(end) {
			send(text(sent))
			sent++
		}
	}
	return got, nil
}

const socketRoom = 64 << 10 // bytes that a socket takes though nobody reads
