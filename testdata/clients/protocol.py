"""A client of ipcd written from docs/protocol.md alone, with nothing but the standard library.

    protocol.py UNIX TCP HTTP ECHO IPCD   calls a daemon at these endpoints, and forks the program IPCD
    protocol.py                           with NODE_CHANNEL_FD set: a child that answers calls

Each section of the document has a function here that holds the daemon to it; what was read out of a
sentence stands next to a check. The daemon has a service for trials besides its own: Trial.Block(key)
returns when its caller is gone, Trial.Fail(text) fails with the text, Trial.Panic crashes,
Trial.Parcel takes and returns {"name": ..., "age": ...}.
"""
import http.client, itertools, json, os, queue, socket, struct, subprocess, sys, tempfile, threading, time, urllib.parse

PATIENCE = 20  # seconds; it bounds every wait for what must come
failures = []


def check(what, got, want):
    if got != want:
        failures.append(f"{what}: got {got!r}; want {want!r}")


def holds(what, truth):
    check(what, bool(truth), True)


# --- the client ----------------------------------------------------------------------------


class RPCError(Exception):
    """The error object of section 9."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code, self.data = error["code"], error.get("data") or {}


def connect(url):
    """A socket connected to an endpoint of section 1."""
    u = urllib.parse.urlsplit(url)
    if u.scheme != "unix":
        return socket.create_connection((u.hostname, u.port), PATIENCE)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(urllib.parse.unquote(u.path))
    if hasattr(socket, "SO_PEERCRED"):  # who is there: ourselves or root, before anything is sent
        _, uid, _ = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (os.getuid(), 0):
            raise PermissionError(f"{url} is served by the user {uid}")
    return s


class Client:
    """JSON-RPC 2.0 by value, or with headers. Calls run side by side."""

    def __init__(self, url, headers=False, sock=None):
        self.sock, self.headers = sock or connect(url), headers
        self.file = self.sock.makefile("rb")
        self.ids = itertools.count(1)
        self.lock = threading.Lock()
        self.waiting = {}
        self.other = queue.SimpleQueue()  # answers that nobody waits for; None at the end
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        try:
            while (raw := self._receive()) is not None:
                answer = json.loads(raw)
                key = self._key(answer)
                with self.lock:
                    waiting = self.waiting.pop(key, self.other)
                waiting.put(answer if waiting is not self.other else raw.decode())
        except OSError:
            pass
        with self.lock:
            for waiting in self.waiting.values():
                waiting.put(None)
        self.other.put(None)

    @staticmethod
    def _key(answer):
        """The id, and for a batch the ids, in whatever order they come."""
        if isinstance(answer, list):
            return frozenset(a["id"] for a in answer if a["id"] is not None)
        return answer["id"]

    def _receive(self):
        if not self.headers:
            return self.file.readline() or None
        length = None
        while line := self.file.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return None if length is None else self.file.read(length)

    def send(self, body):
        """Sends bytes, text, or a value as JSON, framed."""
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if self.headers:
            body = b"Content-Length: %d\r\n\r\n" % len(body) + body
        self.sock.sendall(body)

    def begin(self, method, *args, **members):
        id = next(self.ids)
        answer = queue.SimpleQueue()
        with self.lock:
            self.waiting[id] = answer
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": list(args), **members})
        return id, answer

    @staticmethod
    def end(answer):
        message = answer.get(timeout=PATIENCE)
        if message is None:
            raise ConnectionError("it closed without an answer")
        if "error" in message:
            raise RPCError(message["error"])
        return message["result"]

    def call(self, method, *args, **members):
        return self.end(self.begin(method, *args, **members)[1])

    def cancel(self, id):
        self.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": id}})

    def batch(self, *requests):
        """The answers, by id. A request is a method and its arguments; with a ! before it, a notification."""
        messages = []
        for method, *args in requests:
            messages.append({"jsonrpc": "2.0", "method": method.lstrip("!"), "params": args})
            if not method.startswith("!"):
                messages[-1]["id"] = next(self.ids)
        answer = queue.SimpleQueue()
        with self.lock:
            self.waiting[frozenset(m["id"] for m in messages if "id" in m)] = answer
        self.send(messages)
        return sorted(answer.get(timeout=PATIENCE), key=lambda a: a["id"])

    def raw(self, text):
        """Sends text and returns the next answer that no call of ours waits for, as it came."""
        self.send(text)
        return self.other.get(timeout=PATIENCE)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.reader.join(PATIENCE)
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def code_of(call, *args, **members):
    """The code with which a call fails, and its data."""
    try:
        return call(*args, **members), None
    except RPCError as err:
        return err.code, err.data


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, url):
        super().__init__("localhost", timeout=PATIENCE)
        self.url = url

    def connect(self):
        self.sock = connect(self.url)


def http_to(url):
    u = urllib.parse.urlsplit(url)
    return UnixConnection(url) if u.scheme == "unix" else http.client.HTTPConnection(u.hostname, u.port, timeout=PATIENCE)


def post(c, path, body, method="POST", **headers):
    """Status, decoded body (None for an empty one) and headers."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    c.request(method, path, body, {k: v for k, v in headers.items() if v is not None})
    answer = c.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None, answer.headers


# --- what the document says ----------------------------------------------------------------


def where(at):
    with Client(at.unix) as c:
        check("a socket", c.call("Echo.Say", "hello"), "hello")
    with Client(at.tcp) as c:
        check("TCP", c.call("Echo.Say", "hello"), "hello")


def which_protocol(at):
    for first in " ", "\t", "\r", "\n":
        with Client(at.unix) as c:
            got = c.raw(first + '{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}')
            check(f"{first!r} first", got, '{"jsonrpc":"2.0","id":1,"result":"pong"}\n')
    with connect(at.unix) as s:
        s.sendall(b"\x16\x03\x01\x00\x05hello")
        alert = s.recv(100)
        check("TLS: a fatal alert, handshake_failure", (alert[:1], alert[5:]), (b"\x15", b"\x02\x28"))
        check("TLS: closed", s.recv(1), b"")
    with connect(at.unix) as s:
        for byte in b'Content-Length: 45\r\n\r\n{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}':
            s.sendall(bytes([byte]))
        check("byte by byte", s.recv(16), b"Content-Length: ")


def calls(at):
    for url in at.unix, at.tcp:
        with Client(url) as c:
            slow, slow_answer = c.begin("Trial.Block", "a")
            check("side by side", c.call("Echo.Say", "b"), "b")
            c.cancel(slow)
            check("withdrawn", code_of(c.end, slow_answer)[0], -32800)
            check("deadline", code_of(c.call, "Trial.Block", "c", timeout=1)[0], -32004)
    with connect(at.unix) as s, s.makefile("r") as f:
        s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}')
        s.shutdown(socket.SHUT_WR)
        check("only the sending side is shut", f.read(), '{"jsonrpc":"2.0","id":1,"result":"pong"}\n')


def json_rpc(at):
    # framing
    with Client(at.unix) as c:
        c.send('{"jsonrpc":"2.0","id":"a","method":"Ipcd.Ping"}{"jsonrpc":"2.0","id":"b","method":"Ipcd.Ping"}\r\n\t ')
        check("glued", sorted(json.loads(c.other.get(timeout=PATIENCE))["id"] for _ in "ab"), ["a", "b"])
        # members
        check("any order, unknown ones", c.raw('{"x":[{}],"params":["o"],"method":"Echo.Say","id":7,"jsonrpc":"2.0"}'),
              '{"jsonrpc":"2.0","id":7,"result":"o"}\n')
        for id in "0", "-1", "1.50", "1e2", "12345678901234567890123", '"\\u0061 \\/"', '"ä"', "null":
            check(f"the id {id}", c.raw('{"jsonrpc":"2.0","id":%s,"method":"Ipcd.Ping"}' % id),
                  '{"jsonrpc":"2.0","id":%s,"result":"pong"}\n' % id)
        for params in '', ',"params":[]', ',"params":null', ',"params":{}', ',"params":[null]', ',"timeout":0', ',"timeout":"x"':
            check(f"no argument{params}", c.raw('{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"%s}' % params), '{"jsonrpc":"2.0","id":1,"result":"pong"}\n')
        ada = '{"name":"Ada","age":36}'
        got = json.loads(c.raw('{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping","params":["x"]}'))
        check("an argument where none is due", got["error"]["code"], -32602)
        check("and in 1.0", c.raw('{"id":1,"method":"Ipcd.Ping","params":["x"]}'), '{"id":1,"result":"pong","error":null}\n')
        for params in f"[{ada}]", ada:
            got = json.loads(c.raw('{"jsonrpc":"2.0","id":1,"method":"Trial.Parcel","params":%s}' % params))
            check("an object", (got["result"]["name"], got["result"]["age"]), ("Ada", 36))
        check("text", c.call("Echo.Say", "ä€😀\n\u2028\0\"\\"), "ä€😀\n\u2028\0\"\\")
        # version 1.0
        check("1.0", json.loads(c.raw('{"id":1,"method":"Echo.Say","params":["x"]}')), {"id": 1, "result": "x", "error": None})
        check("1.0 error", json.loads(c.raw('{"id":1,"method":"Echo.Sy","params":["x"]}')),
              {"id": 1, "result": None, "error": "there is no method Echo.Sy (code -32601)"})
        check("1.0 -32000", json.loads(c.raw('{"id":1,"method":"Trial.Fail","params":["x"]}')), {"id": 1, "result": None, "error": "x"})
        check("1.0 by name", json.loads(c.raw('{"jsonrpc":"1.0","id":1,"method":"Echo.Say","params":["x"]}')), {"id": 1, "result": "x", "error": None})
        check("1.0 error by name", json.loads(c.raw('{"jsonrpc":"1.0","id":1,"method":"Trial.Fail","params":["x"]}')),
              {"id": 1, "result": None, "error": {"code": -32000, "message": "x"}})
        # notifications: what follows is answered first and alone
        c.send('{"jsonrpc":"2.0","method":"Echo.Say","params":["x"]}')
        c.send('{"jsonrpc":"2.0","method":"No.Such","params":["x"]}')
        c.send('{"id":null,"method":"Echo.Say","params":["x"]}')
        check("notifications", c.raw('{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}'), '{"jsonrpc":"2.0","id":1,"result":"pong"}\n')
        # batches
        got = c.batch(("Echo.Say", "x"), ("!Echo.Say", "y"), ("Echo.Sy", "z"))
        check("batch", [a.get("result", a.get("error", {}).get("code")) for a in got], ["x", -32601])
        c.send('[{"jsonrpc":"2.0","method":"Ipcd.Ping"}]')
        check("empty batch", json.loads(c.raw("[]"))["error"]["code"], -32600)
        ping = '{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}'
        error = json.loads(c.raw("[" + ",".join([ping] * 101) + "]"))["error"]
        check("large batch", (error["code"], error["data"]["limit"], error["data"]["max"]), (-32001, "max_batch", 100))
        # cancelling what is done, and what never was
        c.cancel(1)
        c.cancel("nobody's")
        # valid JSON and no valid request: the connection goes on
        for bad in '"ready"', "5 ", "null ", '{"jsonrpc":"2.0","id":1}', '{"jsonrpc":"2.0","id":1,"method":7}', '{"jsonrpc":"2.0","id":[1],"method":"Ipcd.Ping"}', "[1]":
            got = json.loads(c.raw(bad))
            check(bad, (got[0] if isinstance(got, list) else got)["error"]["code"], -32600)
        got = json.loads(c.raw('{"jsonrpc":"3.0","id":1,"method":"Ipcd.Ping"}'))
        check("another version", (got["jsonrpc"], got["id"], got["error"]["code"]), ("2.0", 1, -32600))
        # over max_message: skipped, answered with its id if it is a call
        large = '{"jsonrpc":"2.0","method":"Echo.Say","params":["' + "x" * (17 << 20) + '"]'
        c.send(large + "}")
        got = json.loads(c.raw(large + ',"id":"big"}'))
        check("large", (got["id"], got["error"]["code"], got["error"]["data"]), ("big", -32001, {"limit": "max_message", "max": 16 << 20}))
        check("the connection goes on", c.call("Ipcd.Ping"), "pong")
    # not I-JSON, and no JSON at all: refused, nothing guessed
    say = b'{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["%s"]}'
    for bad in say % b"\xff", say % b"\\ud800", b'{"id":1,"method":"Ipcd.Ping","id":2}', b'{"jsonrpc":"2.0"]', b"{'id':1}":
        with Client(at.unix) as c:
            got = json.loads(c.raw(bad))
            check(f"{bad}", (got["id"], got["error"]["code"]), (None, -32700))
            check(f"{bad}: closed", c.other.get(timeout=PATIENCE), None)
        with Client(at.tcp, headers=True) as c:
            got = json.loads(c.raw(bad))
            check(f"{bad} with headers", (got["id"], got["error"]["code"]), (None, -32700))
            check(f"{bad} with headers: goes on", c.call("Ipcd.Ping"), "pong")
    # headers
    for url in at.unix, at.tcp:
        with Client(url, headers=True) as c:
            check("headers", c.call("Echo.Say", "ä" * 1000), "ä" * 1000)
            got = c.batch(("Ipcd.Ping",), ("Echo.Say", "x"))
            check("batch with headers", [a["result"] for a in got], ["pong", "x"])
            c.sock.sendall(b"content-type: application/vscode-jsonrpc; charset=utf-8\r\nCONTENT-LENGTH:45\r\n\r\n"
                           b'{"jsonrpc":"2.0","id":0,"method":"Ipcd.Ping"}')
            check("other headers", json.loads(c.other.get(timeout=PATIENCE))["result"], "pong")
            c.sock.sendall(b'\xef\xbb\xbfContent-Length: 48\n\n\xef\xbb\xbf{"jsonrpc":"2.0","id":0,"method":"Ipcd.Ping"}')
            check("a mark, and LF", json.loads(c.other.get(timeout=PATIENCE))["result"], "pong")
            slow, answer = c.begin("Trial.Block", "h")
            c.cancel(slow)
            check("cancel with headers", code_of(c.end, answer)[0], -32800)
            c.sock.sendall(b"Content-Length: many\r\n\r\n{}")
            check("no length", json.loads(c.other.get(timeout=PATIENCE))["error"]["code"], -32700)
            check("no length: closed", c.other.get(timeout=PATIENCE), None)


def over_http(at):
    for url in at.unix, at.tcp, at.http:
        c = http_to(url)
        check("bare", post(c, "/call/Echo.Say", '"hello"')[:2], (200, "hello"))
        check("bare, no argument", post(c, "/call/Ipcd.Ping", "")[:2], (200, "pong"))
        check("bare object", post(c, "/call/Trial.Parcel", {"name": "Ada"})[1]["name"], "Ada")
        ping = {"jsonrpc": "2.0", "id": 1, "method": "Ipcd.Ping"}
        pong = {"jsonrpc": "2.0", "id": 1, "result": "pong"}
        check("rpc", post(c, "/rpc", ping)[:2], (200, pong))
        check("rpc, batch", post(c, "/rpc", [ping])[:2], (200, [pong]))
        check("rpc, whatever became of it", post(c, "/rpc", ping | {"method": "No.Such"})[0], 200)
        check("rpc, a notification", post(c, "/rpc", {"jsonrpc": "2.0", "method": "Ipcd.Ping"})[:2], (204, None))
        check("rpc, no JSON", post(c, "/rpc", "{]")[0], 400)
        check("rpc at the root", post(c, "/", ping)[:2], (200, pong))
        for media_type in "application/json-rpc", "Application/JSONRequest; charset=utf-8", "text/json", "application/x.y+json":
            check(media_type, post(c, "/rpc", ping, Content_Type=media_type)[:2], (200, pong))
        check("the type of an answer", post(c, "/rpc", ping, Accept="application/json-rpc")[2]["Content-Type"], "application/json-rpc")
        c.request("POST", "/rpc", json.dumps(ping) * 2, {"Content-Type": "application/json"})
        answer = c.getresponse()
        check("rpc, several", (answer.status, [json.loads(line) for line in answer.read().splitlines()]), (200, [pong, pong]))
        c.request("GET", "/healthz")
        answer = c.getresponse()
        check("healthz", (answer.status, answer.read().strip()), (200, b"ok"))
        for status, code, method, body in (
            (400, -32700, "Echo.Say", "{]"), (400, -32602, "Echo.Say", "1"), (404, -32601, "Echo.Sy", '"x"'),
            (500, -32000, "Trial.Fail", '"x"'), (500, -32603, "Trial.Panic", '"x"'),
        ):
            got, error, _ = post(c, "/call/" + method, body)
            check(f"{method} {body}", (got, error["code"]), (status, code))
        for timeout in "0.001", "1ms", "0.001s":
            got, error, headers = post(c, "/call/Trial.Block", '"h"', Ipcd_Timeout=timeout)
            check(f"Ipcd-Timeout: {timeout}", (got, error["code"]), (504, -32004))
        check("a wrong Ipcd-Timeout", post(c, "/call/Ipcd.Ping", "", Ipcd_Timeout="soon")[0], 400)
        # what is refused
        check("a page's Origin", post(c, "/call/Ipcd.Ping", "", Origin="http://example.com")[0], 403)
        status, refusal, _ = post(c, "/rpc", ping, Referer="http://example.com/x")
        check("a page's Referer", (status, refusal["jsonrpc"], refusal["id"], refusal["error"]["code"]), (403, "2.0", None, -32005))
        check("GET", post(c, "/call/Ipcd.Ping", "", method="GET")[0], 405)
        check("another Host", post(c, "/call/Ipcd.Ping", "", Host="example.com")[0], 200 if url == at.unix else 403)
        check("another type", post(c, "/call/Ipcd.Ping", "", Content_Type="text/plain")[0], 200 if url == at.unix else 415)
        c.close()
        with connect(url) as s, s.makefile("rb") as f:  # asked before the body is sent
            s.sendall(b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 16777217\r\nExpect: 100-continue\r\n\r\n")
            check("too large", f.readline().split()[1], b"413")
    with connect(at.http) as s, s.makefile("rb") as f:
        s.sendall(b'POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
                  b'Content-Length: 4\r\nExpect: 100-continue\r\n\r\n')
        check("go on", f.readline().split()[1], b"100")
        s.sendall(b'"go"')
        holds("and then", any(line.split()[1:2] == [b"200"] for line in iter(f.readline, b'"go"\n')))
    with connect(at.unix) as s, s.makefile("rb") as f:
        s.sendall(b"CONNECT /_goRPC_ HTTP/1.0\n\n")
        check("CONNECT", f.readline().strip(), b"HTTP/1.0 200 Connected to Go RPC")


def echo(at):
    with connect(at.echo) as s, s.makefile("rb") as f:
        for text in b"hello", b"\x16\x03 {\x00":
            s.sendall(text)
            check("echo", f.read(len(text)), text)


def channel(at):
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    env = os.environ | {"NODE_CHANNEL_FD": str(theirs.fileno())}
    child = subprocess.Popen([at.ipcd, "child"], pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    theirs.close()

    def send(text):
        ours.sendall(text.encode() + b"\n")

    with Client(None, sock=ours) as c:
        send('{"cmd":"NODE_FOO","jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}')
        send("no JSON")
        error = json.loads(c.other.get(timeout=PATIENCE))
        check("child, no JSON", (error["id"], error["error"]["code"]), (None, -32700))
        send('{"jsonrpc":"2.0","method":"Echo.Say","params":["' + "x" * (17 << 20) + '"],"id":1}')
        error = json.loads(c.other.get(timeout=PATIENCE))
        check("child, too long", (error["id"], error["error"]["code"]), (1, -32001))
        send('{"jsonrpc":"2.0","id":2,"method":"Echo.Say","params":["to a child"]}')
        check("child", c.other.get(timeout=PATIENCE), '{"jsonrpc":"2.0","id":2,"result":"to a child"}\n')
    check("ended with the channel", child.wait(PATIENCE), 0)
    # the other way round: this program is the child
    url = "fork:" + " ".join((sys.executable, os.path.relpath(__file__)))
    out = subprocess.run([at.ipcd, "call", "-e", url, "Greeter.Hello", "name=Ada"], capture_output=True, text=True, timeout=PATIENCE)
    check("a child in Python", (out.stdout, out.stderr), ("hello, Ada\n", ""))


def serve_channel():
    with socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"])) as s:
        for line in s.makefile("rb"):
            request = json.loads(line)
            if str(request.get("cmd")).startswith("NODE_") or "id" not in request:
                continue
            [argument] = request["params"]
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": f"hello, {argument['name']}"}
            s.sendall(json.dumps(answer).encode() + b"\n")


def errors(at):
    with Client(at.unix) as c:
        check("near", code_of(c.call, "Echo.Sy", "x"), (-32601, {"near": "Echo.Say"}))
        check("argument", code_of(c.call, "Echo.Say", 1)[0], -32602)
        code, data = code_of(c.call, "Trial.Parcel", {"name": 1})
        check("field", (code, data.get("field")), (-32602, "name"))
        check("internal", code_of(c.call, "Trial.Panic", "x")[0], -32603)
        check("the method's own", code_of(c.call, "Trial.Fail", "x")[0], -32000)


def limits(at):
    deep = '{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":%s}' % ("[" * 64 + "]" * 64)
    for c in Client(at.unix), Client(at.unix, headers=True):
        with c:
            error = json.loads(c.raw(deep))["error"]
            check("max_depth", (error["code"], error["data"]), (-32001, {"limit": "max_depth", "max": 64}))
            if c.headers:
                check("max_depth: goes on", c.call("Ipcd.Ping"), "pong")
            else:
                check("max_depth: closed", c.other.get(timeout=PATIENCE), None)
    with Client(at.unix) as c:
        begun = [c.begin("Trial.Block", "l") for _ in range(256)]
        code, data = code_of(c.call, "Ipcd.Ping")
        check("max_calls", (code, data), (-32002, {"limit": "max_calls", "max": 256, "retry": True}))
        c.cancel(begun[0][0])
        check("one is withdrawn", code_of(c.end, begun[0][1])[0], -32800)
        ends = time.monotonic() + PATIENCE  # it counts until its method has stopped
        while (got := code_of(c.call, "Ipcd.Ping")[0]) == -32002 and time.monotonic() < ends:
            pass
        check("and taken", got, "pong")


def ipcd_service(at):
    with Client(at.unix) as c:
        check("Ping", c.call("Ipcd.Ping"), "pong")
        names = [m["method"] for m in c.call("Ipcd.List")]
        holds("List", "Echo.Say" in names and names == sorted(names))
        [say] = c.call("Ipcd.Describe", "Echo.Say")
        check("Describe", (say["method"], say["argument"]["type"], say["result"]["type"]), ("Echo.Say", "string", "string"))
        [ping] = c.call("Ipcd.Describe", "Ipcd.Ping")
        check("Describe, no argument", ping["argument"], None)
        holds("Describe a service", {m["method"] for m in c.call("Ipcd.Describe", "Ipcd")} >= {"Ipcd.List", "Ipcd.Status"})
        check("Describe nobody", code_of(c.call, "Ipcd.Describe", "Nobody")[0], -32601)
        status = c.call("Ipcd.Status")
        check("Status", (status["protocol"], status["connections"] > 0, status["calls"] > 0), (1, True, True))
        for member in "version", "pid", "started", "uptime", "endpoints", "accepted", "refused", "errors", "rejected", "memory", "goroutines":
            holds(f"Status: {member}", member in status)
        me = c.call("Ipcd.Whoami")
        check("Whoami", (me["transport"], me["known"], me["uid"], me["gid"]), ("unix", True, os.getuid(), os.getgid()))
        holds("Whoami: pid", me["pid"] in (os.getpid(), 0))
    with Client(at.tcp) as c:
        me = c.call("Ipcd.Whoami")
        check("Whoami over TCP", (me["transport"], me["known"], me["uid"], me["pid"]), ("tcp", False, -1, 0))
        check("Whoami: address", me["address"], "%s:%d" % c.sock.getsockname())


def ending(at):
    with tempfile.TemporaryDirectory() as dir:  # 0700, as the place of a user's own daemon must be
        env = os.environ | {"XDG_RUNTIME_DIR": dir, "XDG_CONFIG_HOME": dir, "XDG_STATE_HOME": dir}
        env.pop("IPCD_ENDPOINT", None)
        url = f"unix://{urllib.parse.quote(dir)}/ipcd/ipcd.sock"
        daemon = subprocess.Popen([at.ipcd, "run"], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            up = subprocess.run([at.ipcd, "status", "--wait", f"{PATIENCE}s", "-e", url], env=env, capture_output=True, timeout=2 * PATIENCE)
            check("a user's own daemon", up.returncode, 0)
            with Client(url) as c:
                check("its socket is the user's alone", os.stat(dir + "/ipcd/ipcd.sock").st_mode & 0o777, 0o600)
                status = c.call("Ipcd.Status")
                check("Status", (status["pid"], status["endpoints"]), (daemon.pid, [url]))
                daemon.terminate()
                check("idle connections are closed", c.other.get(timeout=PATIENCE), None)
            check("exit code", daemon.wait(PATIENCE), 0)
            holds("its socket is gone", not os.path.exists(dir + "/ipcd/ipcd.sock"))
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()


class At:
    def __init__(self, unix, tcp, http, echo, ipcd):
        self.unix, self.tcp, self.http, self.echo, self.ipcd = unix, tcp, http, echo, ipcd


def main():
    if "NODE_CHANNEL_FD" in os.environ:
        return serve_channel()
    at = At(*sys.argv[1:])
    for section in where, which_protocol, calls, json_rpc, over_http, echo, channel, errors, limits, ipcd_service, ending:
        begun = len(failures)
        try:
            section(at)
        except Exception as err:  # the next section is checked all the same
            failures.append(f"{section.__name__}: {err!r}, line {err.__traceback__.tb_next.tb_lineno}")
        print(section.__name__, "ok" if len(failures) == begun else "FAILED")
    for failure in failures:
        print(failure)
    sys.exit(bool(failures))


main()
