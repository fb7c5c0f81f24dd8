//go:build modules

package main

// This file owns calls over D-Bus with the Go module that most use. sdbus.c has those of systemd's library.

import (
	"fmt"
	"io"

	"github.com/godbus/dbus/v5"
)

func init() {
	programs["godbus"] = godbusProgram // ADDRESS
	echoers["godbus"] = newGodbusEchoer
}

const (
	godbusName = "org.ipcd.Bench"
	godbusPath = "/org/ipcd/Bench"
)

// A godbusEcho is what is exported.
type godbusEcho struct{}

func (godbusEcho) Say(text string) (string, *dbus.Error) { return text, nil }

func (godbusEcho) SayTen(ten Ten) (Ten, *dbus.Error) { return ten, nil }

// godbusProgram offers the methods at a bus.
func godbusProgram(args []string) error {
	conn, err := dbus.Connect(args[0])
	if err != nil {
		return err
	}
	if err := conn.Export(godbusEcho{}, godbusPath, godbusName); err != nil {
		return err
	}
	if r, err := conn.RequestName(godbusName, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("the name %s is taken: %w", godbusName, err)
	}
	fmt.Println(args[0])
	leaveWithBench()
	return io.EOF
}

type godbusEchoer struct{ dbus.BusObject }

func newGodbusEchoer(server, _ string) (echoer, error) {
	conn, err := dbus.Connect(server)
	if err != nil {
		return nil, err
	}
	return godbusEchoer{conn.Object(godbusName, godbusPath)}, nil
}

func (c godbusEchoer) say(text string) (answer string, err error) {
	err = c.Call(godbusName+".Say", 0, text).Store(&answer)
	return answer, err
}

func (c godbusEchoer) sayTen(ten Ten) (answer Ten, err error) {
	err = c.Call(godbusName+".SayTen", 0, ten).Store(&answer)
	return answer, err
}
