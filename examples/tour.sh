#!/bin/sh
# A tour of ipcd with curl: sh tour.sh, or a line at a time. SOCK is the path of the daemon's socket. What a line prints is
# behind it, where that is always the same.
SOCK=${SOCK:-$(ipcd status | sed -n 's|^endpoint *unix://||p')}

# is it there?
curl -sS --unix-socket "$SOCK" http://localhost/healthz # ok

# a bare call: the argument is the body, the result is the answer
curl -sS --unix-socket "$SOCK" -d '"hello"' http://localhost/call/Echo.Say # "hello"

# without an argument
curl -sS --unix-socket "$SOCK" -X POST http://localhost/call/Ipcd.Ping # "pong"

# what else there is, and what it takes
curl -sS --unix-socket "$SOCK" -X POST http://localhost/call/Ipcd.List
curl -sS --unix-socket "$SOCK" -d '"Echo.Say"' http://localhost/call/Ipcd.Describe

# who is calling, as the kernel sees it
curl -sS --unix-socket "$SOCK" -X POST http://localhost/call/Ipcd.Whoami

# an error has a code, and a status that follows from it
curl -sS --unix-socket "$SOCK" -d '"hello"' http://localhost/call/Echo.Sy # {"code":-32601,"message":"there is no method Echo.Sy","data":{"near":"Echo.Say"}}
curl -sS --unix-socket "$SOCK" -o /dev/null -w '%{http_code}\n' -d '"hello"' http://localhost/call/Echo.Sy # 404

# a deadline
curl -sS --unix-socket "$SOCK" -H 'Ipcd-Timeout: 2s' -d '"hello"' http://localhost/call/Echo.Say # "hello"

# JSON-RPC, one call or several
curl -sS --unix-socket "$SOCK" -d '{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["hello"]}' http://localhost/rpc # {"jsonrpc":"2.0","id":1,"result":"hello"}
curl -sS --unix-socket "$SOCK" -d '[{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}]' http://localhost/rpc # [{"jsonrpc":"2.0","id":1,"result":"pong"}]

# an answer as a stream of events, with its parts if the method sends any
curl -sS --unix-socket "$SOCK" -N -H 'Accept: text/event-stream' -d '"hello"' http://localhost/call/Echo.Say
