//go:build modules

package main

// This file owns calls by varlink, with the module of the varlink project. A connection has one call at a time: there are no ids.

import (
	"context"
	"errors"
	"net"

	"github.com/varlink/go/varlink"
)

func init() {
	servers["varlink"] = serveVarlink
	echoers["varlink"] = newVarlinkEchoer
}

const varlinkName = "org.ipcd.bench"

// varlinkText is what varlink-go-interface-generator makes of the argument of Say, and of its result.
type varlinkText struct {
	Text string `json:"text"`
}

// A varlinkEcho is the interface, as that program makes it.
type varlinkEcho struct{}

func (varlinkEcho) VarlinkGetName() string        { return varlinkName }
func (varlinkEcho) VarlinkGetDescription() string { return "interface " + varlinkName }

func (varlinkEcho) VarlinkDispatch(ctx context.Context, c varlink.Call, method string) error {
	switch method {
	case "Say":
		return varlinkAnswer[varlinkText](ctx, c)
	case "SayTen":
		return varlinkAnswer[Ten](ctx, c)
	}
	return c.ReplyMethodNotFound(ctx, method)
}

// varlinkAnswer answers with the argument.
func varlinkAnswer[T any](ctx context.Context, c varlink.Call) error {
	var v T
	if err := c.GetParameters(&v); err != nil {
		return c.ReplyInvalidParameter(ctx, "parameters")
	}
	return c.Reply(ctx, v)
}

func serveVarlink(l net.Listener) error {
	s, err := varlink.NewService("ipcd", "bench", "1", "")
	if err == nil {
		err = s.RegisterInterface(varlinkEcho{})
	}
	if err != nil {
		return err
	}
	return serveEach(func(conn net.Conn) { s.ServeConn(context.Background(), conn) })(l)
}

type varlinkEchoer struct{ *varlink.Connection }

func newVarlinkEchoer(server, _ string) (echoer, error) {
	c, err := varlink.NewConnection(context.Background(), networkOf(server)+":"+server)
	return varlinkEchoer{c}, err
}

func (c varlinkEchoer) say(text string) (string, error) {
	var answer varlinkText
	err := c.call("Say", varlinkText{text}, &answer)
	return answer.Text, err
}

func (c varlinkEchoer) sayTen(ten Ten) (answer Ten, err error) {
	err = c.call("SayTen", ten, &answer)
	return answer, err
}

func (c varlinkEchoer) call(method string, in, out any) error {
	err := c.Call(context.Background(), varlinkName+"."+method, in, out)
	if e := (*varlink.Error)(nil); errors.As(err, &e) {
		return errors.New(e.Name)
	}
	return err
}
