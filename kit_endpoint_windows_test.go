package main

// This file owns where tests of this system meet their daemon: a pipe of their own.

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

var pipesMade atomic.Uint64

// localEndpoint is a new endpoint that no other machine can reach.
func localEndpoint(t testing.TB) endpoint {
	t.Helper()
	return endpoint{Scheme: "npipe", Proto: protoAuto, Path: fmt.Sprintf(`\\.\pipe\ipcd-test-%d-%d`, os.Getpid(), pipesMade.Add(1))}
}

// underWine tells Wine from Windows, as its manual has it.
var underWine = windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil

// settle waits until somebody listens at e and, under Wine, connects a client that is to stay as
// long as the listener: Wine lets the first one have the instance that go-winio keeps as a
// place-holder, and nobody serves that. On Windows nobody gets it.
func settle(e endpoint) (io.Closer, error) {
	if !underWine || e.Scheme != "npipe" {
		return io.NopCloser(nil), nil
	}
	var conn net.Conn
	err := poll(func() (err error) {
		conn, err = dialPipe(context.Background(), e, dialOptions{})
		return err
	})
	return conn, err
}

// handChannel opens the channel of a worker as programs do that are not Node.js.
func handChannel() (net.Conn, error) {
	return winio.DialPipeContext(context.Background(), os.Getenv(ownPipe))
}
