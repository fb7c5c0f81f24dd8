// This provider has nothing but Go's standard library. It registers Words.Count and is called over the connection that it has
// made; when the daemon restarts, it registers again: go run . PATH, the path of the daemon's socket.
package main

import (
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"strings"
	"time"
)

// Words is the service, in the form of net/rpc.
type Words struct{}

func (Words) Count(text string, count *int) error {
	*count = len(strings.Fields(text))
	return nil
}

func main() {
	rpc.Register(Words{})
	for ; ; time.Sleep(500 * time.Millisecond) {
		conn, err := net.Dial("unix", os.Args[1])
		if err != nil {
			continue // there is no daemon
		}
		// Without an id it is not answered: ServeConn takes requests alone. If it fails, the daemon's log has the reason.
		io.WriteString(conn, `{"method":"Ipcd.Register","params":[{"methods":["Words.Count"],"share":true}]}`+"\n")
		jsonrpc.ServeConn(conn) // until the daemon has gone
	}
}
