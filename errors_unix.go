//go:build unix

package main

// This file owns the name for those whom no refusal keeps out, as it stands in hints. Its twin is
// errors_windows.go.

// masters can call every daemon: see isMaster.
const masters = "root"
