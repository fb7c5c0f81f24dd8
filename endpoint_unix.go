//go:build unix

package main

// This file is what hints say of endpoints on Unix. Its twin is endpoint_windows.go.

const (
	localScheme     = "unix"
	localPlace      = "socket in the file system"
	exampleEndpoint = "unix:///run/ipcd/ipcd.sock"
)

// localHint returns the local endpoint that a text without a scheme probably meant.
func localHint(typed string) string {
	hint := unixHint(typed)
	if _, f := parse(hint); f != nil || isPipePath(typed) {
		return exampleEndpoint
	}
	return hint
}
