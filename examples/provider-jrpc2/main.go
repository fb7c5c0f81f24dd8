// This provider is a server of the package jrpc2. It registers Words.Count and is called over the connection that it has
// made; when the daemon restarts, it registers again: go run . PATH, the path of the daemon's socket.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"
	"github.com/creachadair/jrpc2/handler"
)

func count(_ context.Context, text string) int { return len(strings.Fields(text)) }

// cancel ends the context of a call whose caller has gone.
func cancel(ctx context.Context, call struct{ ID json.RawMessage }) error {
	jrpc2.ServerFromContext(ctx).CancelRequest(string(call.ID))
	return nil
}

func main() {
	methods := handler.Map{"Words.Count": handler.NewPos(count, "text"), "$/cancelRequest": handler.New(cancel)}
	offer := map[string]any{"methods": []string{"Words.Count"}, "share": true, "max_calls": 32}
	for ; ; time.Sleep(500 * time.Millisecond) {
		conn, err := net.Dial("unix", os.Args[1])
		if err != nil {
			continue // there is no daemon
		}
		server := jrpc2.NewServer(methods, &jrpc2.ServerOptions{AllowPush: true, Concurrency: 64}).Start(channel.Line(conn, conn))
		if _, err := server.Callback(context.Background(), "Ipcd.Register", offer); err != nil {
			log.Print(err)
			server.Stop()
		}
		server.Wait() // until the daemon has gone
	}
}
