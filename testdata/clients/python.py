"""Python's http.client over TCP: python.py PORT. Prints one line for each exchange."""
import http.client, json, sys

c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)


def ask(name, method, path, body=None, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    c.request(method, path, body, headers)
    answer = c.getresponse()
    print(name, answer.status, answer.read().decode().strip())


ask("call", "POST", "/call/Echo.Say", '"h\u00e9llo"'.encode())
ask("none", "POST", "/call/Ipcd.Ping", b"")
ask("rpc", "POST", "/rpc", json.dumps({"jsonrpc": "2.0", "id": "a", "method": "Echo.Say", "params": ["x"]}))
ask("batch", "POST", "/rpc", json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "Ipcd.Ping"}, {"jsonrpc": "2.0", "method": "Ipcd.Ping"}]))
ask("notification", "POST", "/rpc", json.dumps({"jsonrpc": "2.0", "method": "Ipcd.Ping"}))
ask("chunked", "POST", "/call/Echo.Say", iter([b'"in ', b'pieces"']))
ask("health", "GET", "/healthz")
ask("nomethod", "POST", "/call/Echo.Sai", '"x"')
ask("badargument", "POST", "/call/Echo.Say", "1")
ask("badbare", "POST", "/call/Echo.Say", "{]")
ask("badjson", "POST", "/rpc", "{")
ask("empty", "POST", "/rpc", "")
ask("get", "GET", "/call/Echo.Say")
ask("nopath", "GET", "/")
ask("form", "POST", "/call/Echo.Say", '"x"', Content_Type="text/plain")
ask("origin", "POST", "/call/Echo.Say", '"x"', Origin="http://example.com")
ask("ownorigin", "POST", "/call/Echo.Say", '"x"', Origin="http://127.0.0.1:" + sys.argv[1])
ask("host", "POST", "/call/Echo.Say", '"x"', Host="example.com")
