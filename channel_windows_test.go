package main

// This file owns the tests of the Node.js IPC channel that Windows alone has.

import (
	"os"
	"path/filepath"
)

// The node.exe that .ci/run has fetched is the node of all tests.
func init() {
	if exe := os.Getenv("IPCD_NODE_EXE"); exe != "" {
		os.Setenv("PATH", filepath.Dir(exe)+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
}
