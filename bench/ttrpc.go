//go:build modules

package main

// This file owns calls by ttrpc, containerd's own gRPC without HTTP.

import (
	"context"
	"net"

	"github.com/containerd/ttrpc"
)

func init() {
	servers["ttrpc"] = serveTTRPC
	echoers["ttrpc"] = newTTRPCEchoer
}

func serveTTRPC(l net.Listener) error {
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	s.RegisterService(protoService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		protoSay: ttrpcMethod[protoText], protoSayTen: ttrpcMethod[protoTen],
	}})
	return s.Serve(context.Background(), l)
}

// ttrpcMethod is what protoc-gen-go-ttrpc makes of a method. It returns what it is given.
func ttrpcMethod[T any](_ context.Context, decode func(any) error) (any, error) {
	in := new(T)
	return in, decode(in)
}

type ttrpcEchoer struct{ *ttrpc.Client }

func newTTRPCEchoer(server, _ string) (echoer, error) {
	conn, err := dial(server)
	if err != nil {
		return nil, err
	}
	return ttrpcEchoer{ttrpc.NewClient(conn)}, nil
}

func (c ttrpcEchoer) say(text string) (string, error) {
	var answer protoText
	err := c.Call(context.Background(), protoService, protoSay, &protoText{Value: text}, &answer)
	return answer.GetValue(), err
}

func (c ttrpcEchoer) sayTen(ten Ten) (Ten, error) {
	var answer protoTen
	err := c.Call(context.Background(), protoService, protoSayTen, newProtoTen(ten), &answer)
	return tenOfProto(&answer), err
}
