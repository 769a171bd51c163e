"""Probes of the name in a TLS greeting: a limited network allows one host, and a sandbox asks that address for another.

The server behind the address serves both names, as a content network does. It must never see a greeting for the other.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path

from hostler.sandbox.contract import Network
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy
from sandbox.escape.worlds import said, sandbox

ALLOWED, HIDDEN = "allowed.example.com", "hidden.example.com"

_GREET = """
import base64, json, socket, ssl, sys
ALLOWED, HIDDEN = "allowed.example.com", "hidden.example.com"
def hello(name, versions=None, protocols=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if versions: context.maximum_version = versions
    if protocols: context.set_alpn_protocols(protocols)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try: context.wrap_bio(into, out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError: pass
    return out.read()
def records(data, size):
    head, body = data[:3], data[5:]
    pieces = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(head + len(piece).to_bytes(2, "big") + piece for piece in pieces)
def extended(data, kind, body):
    # one more extension at the end of a greeting, with all the lengths around it
    more = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body
    at = 9 + 2 + 32
    at += 1 + data[at]
    at += 2 + int.from_bytes(data[at:at + 2], "big")
    at += 1 + data[at]
    grown = int.from_bytes(data[at:at + 2], "big") + len(more)
    message = data[9:at] + grown.to_bytes(2, "big") + data[at + 2:] + more
    handshake = data[5:6] + len(message).to_bytes(3, "big") + message
    return data[:3] + len(handshake).to_bytes(2, "big") + handshake
def name_list(*names):
    entries = b"".join(b"\\0" + len(n).to_bytes(2, "big") + n.encode() for n in names)
    return len(entries).to_bytes(2, "big") + entries
def request(target, host, more=""):
    return f"GET {target} HTTP/1.1\\r\\nHost: {host}\\r\\n{more}\\r\\n".encode()
other, right, bare = hello(HIDDEN), hello(ALLOWED), hello(None)
cases = {
    "another": other, "another, old": hello(HIDDEN, ssl.TLSVersion.TLSv1_2), "another, h2": hello(HIDDEN, None, ["h2"]),
    "none": bare, "by single bytes": records(other, 1), "by small records": records(other, 40),
    "two extensions": extended(right, 0, name_list(HIDDEN)), "two names": extended(bare, 0, name_list(ALLOWED, HIDDEN)),
    "two names, the other first": extended(bare, 0, name_list(HIDDEN, ALLOWED)),
    "a name with an end": extended(bare, 0, name_list(ALLOWED + "\\0." + HIDDEN)),
    "a name of another kind": extended(bare, 0, b"\\x00\\x05\\x01\\x00\\x02hi"),
    "below": hello("x." + ALLOWED), "above": hello("example.com"),
    "an end alike": extended(bare, 0, name_list("x" + ALLOWED)),
    "cut short": other[:60], "an empty record first": b"\\x16\\x03\\x01\\x00\\x00" + other,
    "an alert first": b"\\x15\\x03\\x01\\x00\\x02\\x01\\x00" + other, "another after the right one": right + other,
    "a change of ciphers first": b"\\x14\\x03\\x03\\x00\\x01\\x01" + other,
    "an old greeting": b"\\x80\\x2e\\x01\\x03\\x01\\x00\\x15\\x00\\x00\\x00\\x10" + bytes(40),
    "a request for another": request("/", HIDDEN), "a request without a host": b"GET / HTTP/1.0\\r\\n\\r\\n",
    "an absolute request": request("http://" + HIDDEN + "/", ALLOWED),
    "a request after the right one": request("/", ALLOWED) + request("/", HIDDEN),
    "an upgrade": request("*", HIDDEN, "Upgrade: TLS/1.2\\r\\nConnection: Upgrade\\r\\n"),
    "HTTP/2 in the clear": b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + HIDDEN.encode(),
    "the right one": right,
}
answers = {}
for name, data in cases.items():
    with socket.create_connection(("127.0.0.1", 3128), 10) as s:
        s.sendall(f"CONNECT {ALLOWED}:{sys.argv[1]} HTTP/1.1\\r\\n\\r\\n".encode())
        got = b""
        while not got.endswith(b"\\r\\n\\r\\n"):
            got += s.recv(1)
        try:
            s.sendall(data)
            if "right one" not in name or "request" in name: s.shutdown(socket.SHUT_WR)
            s.settimeout(3)
            more = s.recv(4096)
        except OSError as e:
            more = str(e).encode()
        answers[name] = base64.b64encode(more).decode()
print(json.dumps(answers))
"""
_HEARD = b"the server has heard it"


def test_no_greeting_for_another_name_gets_out(folder: Path) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"")
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                heard[-1] += data
                writer.write(_HEARD)
        writer.close()

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> dict[str, str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy = EgressProxy(EgressPolicy(allow_private=True), resolve=resolve)
        async with server:
            network = Network(hosts=(ALLOWED,))
            async with sandbox(folder, egress=proxy.serve, network=network) as inside:
                found = await said(inside, _GREET, str(server.sockets[0].getsockname()[1]))
        proxy.close()
        return dict(json.loads(found))

    answers = asyncio.run(main())
    through = [name for name, answer in answers.items() if _HEARD in base64.b64decode(answer)]
    # What follows the right greeting is part of that connection's TLS: a server that has begun it sees no second one.
    assert through == ["another after the right one", "the right one"]
    assert not any(b"Host: " + HIDDEN.encode() in data or b"http://" in data for data in heard), heard
    first = [data for data in heard if HIDDEN.encode() in data.partition(ALLOWED.encode())[0]]
    assert first == []
