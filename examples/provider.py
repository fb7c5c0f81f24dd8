# A provider: it registers Words.Count and is called over the connection that it has made; when the daemon restarts,
# it registers again: python3 provider.py PATH, the path of the daemon's socket
import json, socket, sys, time

methods = {"Words.Count": lambda text: len(text.split())}

def answer(method, params=(), **_):
    try:
        return {"result": methods[method](*params)}
    except Exception as err:
        return {"error": {"code": 7, "message": str(err)}}

def serve(connection):
    def send(message):
        connection.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    # one call at a time: what comes meanwhile waits at the daemon, or goes to others that share the name
    send({"id": "r", "method": "Ipcd.Register", "params": [{"methods": list(methods), "share": True, "max_calls": 1}]})
    registered = json.loads((lines := connection.makefile("rb")).readline())
    if "error" in registered:
        return print(registered["error"]["message"], flush=True)
    print("registered as", registered["result"]["provider"], flush=True)
    for message in map(json.loads, lines):
        if "id" in message: # otherwise it is a $/cancelRequest
            send({"id": message["id"], **answer(**message)})

while True:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(sys.argv[1])
            serve(connection)
    except (OSError, ValueError): # there is no daemon, or it has gone
        pass
    time.sleep(0.5)
