package main

// This file is what hints say of endpoints on Windows. Its twin is endpoint_unix.go.

import (
	"path"
	"strings"
)

const (
	localScheme     = "npipe"
	localPlace      = "named pipe"
	exampleEndpoint = "npipe:////./pipe/ipcd"
)

// localHint returns the local endpoint that a text without a scheme probably meant. The last
// element of a path becomes the name of the pipe.
func localHint(typed string) string {
	name, err := unescape(typed)
	if err != nil {
		name = typed
	}
	if isPipePath(name) {
		name = strings.ReplaceAll(name[len(pipePrefix):], `\`, "/")
	} else {
		name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	}
	hint := "npipe:////./pipe/" + escape(name)
	if _, f := parse(hint); f != nil {
		return exampleEndpoint
	}
	return hint
}
