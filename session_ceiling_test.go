package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

// Near the ceiling nothing is begun but what an administrator needs; what is refused may be tried again.
func TestCeilingOfMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	s := startServerWith(t, nil, localEndpoint(t))
	ask := func(method, params, want string) {
		t.Helper()
		conn := s.connect()
		send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`)
		answer := make([]byte, 1000)
		if n, err := conn.Read(answer); err != nil || !strings.Contains(string(answer[:n]), want) {
			t.Errorf("%s is answered with %s, %v; want %s", method, answer[:n], err, want)
		}
	}
	s.foreman.set(1 << 40)
	ask("Echo.Say", `["a"]`, `"result":"a"`)
	s.foreman.set(1 << 10)
	ask("Echo.Say", `["a"]`, `"code":-32002`)
	ask("Echo.Say", `["a"]`, `"limit":"process_memory","max":1024,"retry":true`)
	ask("Ipcd.Ping", `[]`, `"pong"`)
	s.foreman.set(0)
	ask("Echo.Say", `["a"]`, `"result":"a"`)
}

// What spares the collector work does not count as taken.
func TestFloorOfTheHeapIsNoMemory(t *testing.T) {
	defer func(limit int64, floor []byte) {
		debug.SetMemoryLimit(limit)
		heapFloor = floor
	}(debug.SetMemoryLimit(1<<30), heapFloor)
	layHeapFloor()
	size := int64(len(heapFloor))
	if limit := debug.SetMemoryLimit(-1); limit != 1<<30+size {
		t.Errorf("the limit of memory is %d; want the floor beyond what was set", limit)
	}
	taken := memoryTaken()
	heapFloor = nil
	const others = 4 << 20 // what other goroutines may take or give back in between
	if with := memoryTaken(); with < taken+size-others || with > taken+size+others {
		t.Errorf("%d bytes are taken with a floor of %d, which count as %d without", with, size, taken)
	}
}
