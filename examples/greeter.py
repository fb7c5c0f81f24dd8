# A service as a worker, which answers calls over the channel that whoever started it has made: a line is a message
import io, json, os

pipe = os.environ.pop("IPCD_CHANNEL_PIPE", None) # on Windows
channel = open(pipe or int(os.environ.pop("IPCD_CHANNEL_FD")), "r+b", buffering=0)
lines, out = io.BufferedReader(channel), io.BufferedWriter(channel)

def send(**message):
    out.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    out.flush()

def hello(person):
    return f"hello, {person['name']}"

methods = {"GreeterPy.Hello": hello}
send(id=1, method="Ipcd.Register", params=[{"methods": list(methods)}])

for line in lines: # to the end of the channel, when a worker has to end
    message = json.loads(line)
    if "method" not in message or "id" not in message:
        continue # the answer to the registration, or a $/cancelRequest
    try:
        send(id=message["id"], result=methods[message["method"]](*message.get("params", [])))
    except Exception as err:
        send(id=message["id"], error={"code": -32602, "message": repr(err)})
