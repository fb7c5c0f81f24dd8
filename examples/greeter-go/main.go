// A service as a worker, which answers calls over the channel that whoever started it has made: a line is a message.
package main

import (
	"encoding/json"
	"os"
	"strconv"
)

type message struct{ ID, Method, Params json.RawMessage }

func main() {
	channel, err := os.OpenFile(os.Getenv("IPCD_CHANNEL_PIPE"), os.O_RDWR, 0) // on Windows
	if err != nil {
		fd, _ := strconv.Atoi(os.Getenv("IPCD_CHANNEL_FD"))
		channel = os.NewFile(uintptr(fd), "channel")
	}
	in, out := json.NewDecoder(channel), json.NewEncoder(channel)
	out.Encode(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "Ipcd.Register", "params": []any{map[string]any{"methods": []string{"GreeterGo.Hello"}}}})
	for m := (message{}); in.Decode(&m) == nil; m = (message{}) { // to the end of the channel, when a worker has to end
		var arguments [1]struct{ Name string }
		if m.ID == nil || m.Method == nil { // a $/cancelRequest, or the answer to the registration
		} else if err := json.Unmarshal(m.Params, &arguments); err != nil {
			out.Encode(map[string]any{"jsonrpc": "2.0", "id": m.ID, "error": map[string]any{"code": -32602, "message": err.Error()}})
		} else {
			out.Encode(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": "hello, " + arguments[0].Name})
		}
	}
}
