// A service as a worker, which answers calls over the channel that whoever started it has made: a line is a message.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

type object map[string]any
type message struct{ ID, Method, Params json.RawMessage }

func main() {
	var fd uintptr
	fmt.Sscan(os.Getenv("IPCD_CHANNEL_FD"), &fd)
	in, out := json.NewDecoder(os.NewFile(fd, "in")), json.NewEncoder(os.NewFile(fd, "out"))
	out.Encode(object{"jsonrpc": "2.0", "id": 1, "method": "Ipcd.Register", "params": []any{object{"methods": []string{"GreeterGo.Hello"}}}})
	for m := (message{}); in.Decode(&m) == nil; m = (message{}) { // to the end of the channel, when a worker has to end
		var arguments [1]struct{ Name string }
		if m.ID == nil || m.Method == nil { // a $/cancelRequest, or the answer to the registration
			continue
		} else if err := json.Unmarshal(m.Params, &arguments); err != nil {
			out.Encode(object{"jsonrpc": "2.0", "id": m.ID, "error": object{"code": -32602, "message": err.Error()}})
		} else {
			out.Encode(object{"jsonrpc": "2.0", "id": m.ID, "result": "hello, " + arguments[0].Name})
		}
	}
}
