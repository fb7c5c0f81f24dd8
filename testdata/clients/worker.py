# A worker that answers in parts, as fast as its caller takes them, and one call at a time. It offers Count.py.
import json, os

channel = open(int(os.environ.pop("IPCD_CHANNEL_FD")), "rb+", buffering=0)
lines = iter(channel.readline, b"")

def send(**message):
    channel.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

def send_parts(call, values):
    sizes, taken = [], 0
    for value in values:
        size = len(json.dumps(value)) # ASCII
        while sizes[taken:] and sum(sizes[taken:]) + size > call["window"]:
            message = json.loads(next(lines)) # nothing but notifications comes meanwhile
            if message["method"] == "$/credit":
                taken = max(taken, message["params"]["parts"])
            if message["method"] == "$/cancelRequest":
                return
        sizes.append(size)
        send(method="$/progress", params={"token": call["parts"], "value": value})

send(id=1, method="Ipcd.Register", params=[{"methods": [{"method": "Count.py", "part": {}}], "extensions": ["parts"], "max_calls": 1}])
for line in lines:
    call = json.loads(line)
    if "method" not in call or "id" not in call:
        continue
    count = call["params"][0]
    if "parts" in call:
        send_parts(call, (f"{n} ä".ljust(100) for n in range(count)))
    send(id=call["id"], result=count)
