//go:build modules

package main

// This file owns NATS: its server, events, and calls by its requests. Whoever answers them is a client of the server, too. A request
// has bytes, and a struct goes as JSON.

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func init() {
	programs["nats"] = natsProgram
	programs["nats-answer"] = natsAnswerProgram // URL
	echoers["nats"] = newNatsEchoer
	buses["nats-events"] = newNatsBus
}

// A natsBus is that of NATS's own client, each connection with the options that it has of itself.
type natsBus struct {
	url string
	out *nats.Conn
}

func newNatsBus(url string) (bus, error) {
	conn, err := nats.Connect(url)
	return &natsBus{url, conn}, err
}

func (b *natsBus) publish(events [][]byte) error {
	for _, e := range events {
		if err := b.out.Publish(eventsTopic, e); err != nil {
			return err
		}
	}
	return nil // it is flushed by a goroutine of the connection's
}

func (b *natsBus) subscribe(take func([]byte, error)) error {
	conn, err := nats.Connect(b.url, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { take(nil, err) }))
	if err != nil {
		return err
	}
	if _, err := conn.Subscribe(eventsTopic, func(m *nats.Msg) { take(m.Data, nil) }); err != nil {
		return err
	}
	return conn.Flush()
}

// natsProgram is the server of NATS, with the options that it has of itself, at a port of loopback: it has no Unix sockets. It
// prints its URL.
func natsProgram([]string) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return fmt.Errorf("the server of NATS is not ready after %v", patience)
	}
	fmt.Println(s.ClientURL())
	leaveWithBench()
	return io.EOF
}

const natsSubject = "bench.say"

// natsAnswerProgram answers requests with what they have.
func natsAnswerProgram(args []string) error {
	conn, err := nats.Connect(args[0])
	if err != nil {
		return err
	}
	if _, err := conn.Subscribe(natsSubject, func(m *nats.Msg) { m.Respond(m.Data) }); err != nil {
		return err
	}
	if _, err := conn.Subscribe(natsSubject+"Ten", natsAnswerTen); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	fmt.Println(args[0])
	leaveWithBench()
	return io.EOF
}

func natsAnswerTen(m *nats.Msg) {
	var ten Ten
	if err := json.Unmarshal(m.Data, &ten); err != nil {
		m.Respond([]byte(err.Error()))
		return
	}
	answer, _ := json.Marshal(ten)
	m.Respond(answer)
}

type natsEchoer struct{ *nats.Conn }

func newNatsEchoer(url, _ string) (echoer, error) {
	conn, err := nats.Connect(url)
	return natsEchoer{conn}, err
}

func (c natsEchoer) say(text string) (string, error) {
	m, err := c.Request(natsSubject, []byte(text), patience)
	if err != nil {
		return "", err
	}
	return string(m.Data), nil
}

func (c natsEchoer) sayTen(ten Ten) (answer Ten, err error) {
	body, err := json.Marshal(ten)
	if err != nil {
		return answer, err
	}
	m, err := c.Request(natsSubject+"Ten", body, patience)
	if err != nil {
		return answer, err
	}
	err = json.Unmarshal(m.Data, &answer)
	return answer, err
}
