//go:build unix

package main

// This file owns where tests of this system meet their daemon: a socket of their own.

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// localEndpoint is a new endpoint that no other machine can reach.
func localEndpoint(t testing.TB) endpoint {
	t.Helper()
	return endpoint{Scheme: "unix", Proto: protoAuto, Path: tempSocket(t)}
}

// tempSocket is a path for a socket in a 0700 directory, short enough for sun_path, unix(7).
func tempSocket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// underWine and settle are for Windows, see there.
const underWine = false

func settle(endpoint) (io.Closer, error) { return io.NopCloser(nil), nil }

// handChannel opens the channel of a worker as programs do that are not Node.js.
func handChannel() (net.Conn, error) {
	fd, err := strconv.Atoi(os.Getenv(ownFD))
	if err != nil {
		return nil, err
	}
	return connOf(fd, "channel")
}
