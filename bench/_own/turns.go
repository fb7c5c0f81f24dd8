package main

// This file is no part of bench: bench builds ipcd with it, and with ../turns.go, as if both lay in the folder above. ipcd's own client
// is no library, so that only ipcd can be its caller; and ipcd itself has no method whose argument is a struct of ten fields.

import (
	"context"
	"fmt"
	"os"
)

// SayTen returns what it was given.
func (Echo) SayTen(ctx context.Context, ten Ten) (Ten, error) { return ten, nil }

// An ownEchoer is ipcd's own client.
type ownEchoer struct{ caller }

func (c ownEchoer) say(text string) (answer string, err error) {
	err = c.call(context.Background(), "Echo.Say", text, &answer)
	return answer, err
}

func (c ownEchoer) sayTen(ten Ten) (answer Ten, err error) {
	err = c.call(context.Background(), "Echo.SayTen", ten, &answer)
	return answer, err
}

// init makes "ipcd take-turns URL" a caller of bench's.
func init() {
	if len(os.Args) != 3 || os.Args[1] != "take-turns" {
		return
	}
	err := takeTurns(&echoTurner{connect: func() (echoer, error) {
		e, err := parseEndpoint(os.Args[2])
		if err != nil {
			return nil, err
		}
		c, err := dial(context.Background(), e, dialOptions{limits: defaultLimits()})
		return ownEchoer{c}, err
	}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %q: %v\n", os.Args[1:], err)
		os.Exit(1)
	}
	os.Exit(0)
}
