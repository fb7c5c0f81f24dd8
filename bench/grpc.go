//go:build modules

package main

// This file owns calls by gRPC, its server and its client with the options that they have of themselves.

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func init() {
	servers["grpc"] = serveGRPC
	echoers["grpc"] = newGRPCEchoer
}

func serveGRPC(l net.Listener) error {
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: protoService,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{grpcMethod[protoText](protoSay), grpcMethod[protoTen](protoSayTen)},
	}, nil)
	return s.Serve(l)
}

// grpcMethod is what protoc-gen-go-grpc makes of a method, less its interceptors, of which there are none. It returns what it is given.
func grpcMethod[T any](name string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(T)
		return in, decode(in)
	}}
}

type grpcEchoer struct{ *grpc.ClientConn }

func newGRPCEchoer(server, _ string) (echoer, error) {
	if strings.HasPrefix(server, "/") {
		server = "unix:" + server
	}
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return grpcEchoer{conn}, err
}

func (c grpcEchoer) say(text string) (string, error) {
	var answer protoText
	err := c.Invoke(context.Background(), "/"+protoService+"/"+protoSay, &protoText{Value: text}, &answer, grpc.WaitForReady(true))
	return answer.GetValue(), err
}

func (c grpcEchoer) sayTen(ten Ten) (Ten, error) {
	var answer protoTen
	err := c.Invoke(context.Background(), "/"+protoService+"/"+protoSayTen, newProtoTen(ten), &answer, grpc.WaitForReady(true))
	return tenOfProto(&answer), err
}
