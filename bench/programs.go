package main

// This file owns the programs that bench plays itself, with nothing but the standard library: servers, callers, providers, workers. What
// needs modules of others is in files with the tag modules.

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
	"time"
)

// programs are reached by the first argument.
var programs = map[string]func(args []string) error{
	"serve":   serveProgram, // PROTOCOL SERVER
	"relay":   relayProgram, // SOCKET FROM
	"stream":  streamProgram,
	"call":    callProgram,    // PROTOCOL SERVER METHOD
	"start":   startProgram,   // PROTOCOL SOCKET COMMAND...
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

// SayTen is Say for a struct.
func (Echo) SayTen(ten Ten, reply *Ten) error {
	*reply = ten
	return nil
}

// leaveWithBench ends the process when its standard input ends, as it does however bench ends.
func leaveWithBench() {
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// servers serve what connects, by protocol.
var servers = map[string]func(net.Listener) error{
	"gob":       serveEach(func(conn net.Conn) { newStockServer().ServeConn(conn) }),
	"json":      serveEach(func(conn net.Conn) { newStockServer().ServeCodec(jsonrpc.NewServerCodec(conn)) }),
	"raw":       serveEach(func(conn net.Conn) { io.Copy(conn, conn) }),
	"raw-parts": serveEach(sendRawParts),
}

// serveProgram prints where it listens, which port 0 leaves to chance.
func serveProgram(args []string) error {
	l, err := net.Listen(networkOf(args[1]), args[1])
	if err != nil {
		return err
	}
	go leaveWithBench()
	fmt.Println(l.Addr())
	return servers[args[0]](l)
}

// networkOf returns the network of a server's address: the path of a Unix socket, or a host and a port.
func networkOf(server string) string {
	if strings.HasPrefix(server, "/") {
		return "unix"
	}
	return "tcp"
}

func serveEach(serve func(net.Conn)) func(net.Listener) error {
	return func(l net.Listener) error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			go serve(conn)
		}
	}
}

// newStockServer returns the one server of a stock program.
var newStockServer = sync.OnceValue(func() *rpc.Server {
	server := rpc.NewServer()
	server.Register(Echo{})
	return server
})

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

// register registers methods at a daemon. What comes next over the connection are calls.
func register(conn net.Conn, methods ...string) error { return registerWith(conn, "", methods...) }

// registerWith is register with these members more.
func registerWith(conn net.Conn, members string, methods ...string) error {
	names, err := json.Marshal(methods)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":1,"method":"Ipcd.Register","params":[{%s"methods":%s}]}`+"\n", members, names); err != nil {
		return err
	}
	answer, err := readLine(conn)
	if err == nil && !strings.Contains(answer, `"result"`) {
		err = fmt.Errorf("the registration of %.100q is answered with %.200s", methods, answer)
	}
	return err
}

// readLine reads a line, and not a byte more.
func readLine(conn net.Conn) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b[0]) {
		if _, err := conn.Read(b); err != nil {
			return string(line), err
		}
	}
	return string(line), nil
}

// callProgram takes turns.
func callProgram(args []string) error {
	t, err := newTurner(args[0], args[1], args[2])
	if err != nil {
		return err
	}
	return takeTurns(t)
}

// echoers connect to a server, to call one of its methods, by protocol.
var echoers = map[string]func(server, method string) (echoer, error){
	"gob": func(server, method string) (echoer, error) {
		conn, err := dial(server)
		return rpcEchoer{rpc.NewClient(conn), method}, err
	},
	"json": func(server, method string) (echoer, error) {
		conn, err := dial(server)
		return rpcEchoer{jsonrpc.NewClient(conn), method}, err
	},
}

// newTurner returns the caller of a method of a server.
func newTurner(protocol, server, method string) (turner, error) {
	if connect := echoers[protocol]; connect != nil {
		return &echoTurner{connect: func() (echoer, error) { return connect(server, method) }}, nil
	}
	if connect := buses[protocol]; connect != nil {
		b, err := connect(server)
		return &eventsTurner{bus: b}, err
	}
	if protocol == "raw" {
		return &rawTurner{server: server}, nil
	}
	conn, err := dial(server)
	if err != nil {
		return nil, err
	}
	switch protocol {
	case "raw-parts":
		return &partsTurner{conn: conn, r: bufio.NewReaderSize(conn, socketRoom), raw: true}, nil
	case "parts":
		return &partsTurner{conn: conn, r: bufio.NewReaderSize(conn, 4*socketRoom)}, nil
	}
	return nil, fmt.Errorf("%q is no protocol", protocol)
}

// dial waits for the server, which may just be starting.
func dial(server string) (net.Conn, error) {
	for began := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		conn, err := net.Dial(networkOf(server), server)
		if err == nil || time.Since(began) > patience {
			return conn, err
		}
	}
}

// An rpcEchoer is the client of net/rpc.
type rpcEchoer struct {
	*rpc.Client
	method string
}

func (c rpcEchoer) say(text string) (answer string, err error) {
	err = c.Call(c.method, text, &answer)
	return answer, err
}

func (c rpcEchoer) sayTen(ten Ten) (answer Ten, err error) {
	err = c.Call(c.method+"Ten", ten, &answer)
	return answer, err
}

// A rawTurner has neither ids nor names: on each connection as many messages as there are callers are on their way, and come back in
// their order.
type rawTurner struct {
	server string
	conns  []*rawConn
	work   workload
	texts  texts
}

type rawConn struct {
	net.Conn
	r *bufio.Reader
}

func (t *rawTurner) turn(w workload, end time.Time) (calls int, err error) {
	if w != t.work {
		t.work, t.texts = w, newTexts(w)
	}
	for len(t.conns) < w.conns {
		conn, err := dial(t.server)
		if err != nil {
			return 0, err
		}
		t.conns = append(t.conns, &rawConn{conn, bufio.NewReaderSize(conn, socketRoom)})
	}
	each := w.callers / w.conns
	type done struct {
		calls int
		err   error
	}
	over := make(chan done, w.conns)
	for i, c := range t.conns[:w.conns] {
		text := func(n int) string { return t.texts.of(i*each+n%each, n/each) }
		go func() {
			n, err := c.turn(text, w.bytes, each, end)
			over <- done{n, err}
		}()
	}
	for range w.conns {
		d := <-over
		calls, err = calls+d.calls, errors.Join(err, d.err)
	}
	return calls, err
}

func (c *rawConn) turn(text func(n int) string, size, callers int, end time.Time) (int, error) {
	w := bufio.NewWriterSize(c, min(socketRoom, callers*size))
	answer := make([]byte, size)
	send := func(text string) { w.WriteString(text) }
	if size*callers > socketRoom { // who writes it all before reading waits for ever: both sockets are full then
		queue := make(chan string, callers)
		defer close(queue)
		go func() {
			for text := range queue {
				io.WriteString(c, text)
			}
		}()
		send = func(text string) { queue <- text }
	}
	sent, got := 0, 0
	for ; sent < callers; sent++ {
		send(text(sent))
	}
	for ; got < sent; got++ {
		if c.r.Buffered() < size {
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
