package main

// This file owns where tests of this system meet their daemon: a pipe of their own.

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

var pipesMade atomic.Uint64

// localEndpoint is a new endpoint that no other machine can reach.
func localEndpoint(t testing.TB) endpoint {
	t.Helper()
	return endpoint{Scheme: "npipe", Proto: protoAuto, Path: fmt.Sprintf(`\\.\pipe\ipcd-test-%d-%d`, os.Getpid(), pipesMade.Add(1))}
}
