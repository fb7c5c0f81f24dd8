//go:build nats

package main

// This file owns NATS, its server and its client. They are linked into a program of their own, which is this one built with the tag
// nats: a process of ours that has the server in it holds twice as much memory, and memory is measured.

import (
	"fmt"
	"io"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func init() {
	programs["nats"] = natsProgram
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
