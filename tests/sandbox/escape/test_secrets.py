"""Probes of secrets at the edge: an agent in a real sandbox tries to get the value behind its placeholder.

The host that may have the secret is honest and unwise: it gives back what it was sent, in every way that servers do.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import html
import json
import logging
import re
import secrets
import ssl
import urllib.parse
import zlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from edge_world import make_certificate

from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import Network, SandboxSpec, Secret
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.interception import Edge
from sandbox.escape.worlds import said

API, OTHER = "api.test", "other.test"
PLACEHOLDER = f"secret_{secrets.token_hex(16)}"
VALUE = "sk-REAL/va+lue&x=\"9<'é"  # with all that some format writes in its own way

_CLIENT = """
import base64, json, ssl, socket, sys
def ask(case):
    got = b""
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as raw:
            if case["via"]:
                raw.sendall(f"CONNECT {case['via']} HTTP/1.1\\r\\n\\r\\n".encode())
                while b"\\r\\n\\r\\n" not in got:
                    got += raw.recv(1)
            context, stream = ssl.create_default_context(), raw
            if case["name"]:
                stream = context.wrap_socket(raw, server_hostname=case["name"])
            for part in case["parts"]:
                stream.sendall(part.encode("latin-1"))
            while data := stream.recv(65536):
                got += data
    except OSError as e:
        got += f"<{e}>".encode()
    return base64.b64encode(got).decode()
print(json.dumps([ask(case) for case in json.load(sys.stdin)]))
"""


def _plain(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _chunked(pieces: Sequence[bytes], *fields: str, trailer: bytes = b"") -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *fields, "Connection: close", "", ""]).encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n" + trailer + b"\r\n"


def _bytes(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]


def _latin(value: bytes) -> str:
    return value.decode("latin-1")


# What the host answers to a request that shows it the key.
ECHOES: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda key: _plain(b"you sent " + key),
    "without a length": lambda key: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nyou sent " + key,
    "byte by byte": lambda key: _chunked(_bytes(b"you sent " + key)),
    "in gzip": lambda key: _plain(gzip.compress(b"you sent " + key), "Content-Encoding: gzip"),
    "in gzip, byte by byte": lambda key: _chunked(_bytes(gzip.compress(key)), "Content-Encoding: gzip"),
    "in two members of gzip": lambda key: _plain(
        gzip.compress(key[:7]) + gzip.compress(key[7:]), "Content-Encoding: x-gzip"
    ),
    "in deflate": lambda key: _plain(zlib.compress(key), "Content-Encoding: deflate"),
    "in a header": lambda key: _plain(b"ok", f"X-Echo: {_latin(key)}"),
    "in a cookie": lambda key: _plain(b"ok", f"Set-Cookie: k={_latin(key)}; Path=/"),
    "in a redirect": lambda key: _plain(b"", f"Location: https://{OTHER}/?k={_latin(key)}", status="302 Found"),
    "in a quoted redirect": lambda key: _plain(
        b"", f"Location: https://{OTHER}/?k={urllib.parse.quote_plus(key)}", status="302 Found"
    ),
    "in a trailer": lambda key: _chunked([b"ok"], "Trailer: X-Key", trailer=b"X-Key: " + key + b"\r\n"),
    "in an early hint": lambda key: b"HTTP/1.1 103 Early Hints\r\nLink: <" + key + b">\r\n\r\n" + _plain(b"ok"),
    "in an error": lambda key: _plain(b"bad key " + key, status="401 Unauthorized"),
    "as JSON": lambda key: _plain(
        json.dumps({"key": key.decode()}, ensure_ascii=False).encode(), "Content-Type: application/json"
    ),
    "as a form": lambda key: _plain(urllib.parse.urlencode({"key": key}).encode()),
    "a moment later": lambda key: _plain(b"kept"),
}
# Ways to write it that servers have, too.
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "as JSON in ASCII": lambda key: _plain(json.dumps({"key": key.decode()}).encode()),
    "as JSON with slashes escaped": lambda key: _plain(
        json.dumps({"key": key.decode()}, ensure_ascii=False).replace("/", "\\/").encode()
    ),
    "as JSON for HTML": lambda key: _plain(
        json.dumps({"key": key.decode()}, ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026").encode()
    ),
    "quoted in small letters": lambda key: _plain(
        re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(key, safe="")).encode()
    ),
    "quoted as a path": lambda key: _plain(urllib.parse.quote(key, safe="").encode()),
    "as HTML": lambda key: _plain(html.escape(key.decode()).encode()),
    "in the reason": lambda key: b"HTTP/1.1 200 " + key + b"\r\nContent-Length: 2\r\n\r\nok",
    "in a malformed header": lambda key: b"HTTP/1.1 200 OK\r\nX " + key + b"\r\nContent-Length: 2\r\n\r\nok",
    "in a malformed first line": lambda key: b"HTTP/1.1 " + key + b"\r\nContent-Length: 2\r\n\r\nok",
    "in a malformed length": lambda key: b"HTTP/1.1 200 OK\r\nContent-Length: " + key + b"\r\n\r\nok",
    "in a malformed chunk": lambda key: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + key + b"\r\n",
    "in a malformed trailer": lambda key: _chunked([b"ok"], trailer=b"X " + key + b"\r\n"),
    "in a coding": lambda key: _plain(b"ok", f"Content-Encoding: {_latin(key)}"),
    "in the name of a header": lambda key: _plain(b"ok", f"X-{key[:7].decode()}: y"),
    "in zstd": lambda key: _plain(zstandard.compress(key), "Content-Encoding: zstd"),
    "in gzip twice": lambda key: _plain(gzip.compress(gzip.compress(key)), "Content-Encoding: gzip, gzip"),
    "in gzip on two lines": lambda key: _plain(
        gzip.compress(gzip.compress(key)), "Content-Encoding: gzip", "Content-Encoding: gzip"
    ),
}


class Site:
    """A host: it answers by the path, and keeps all that it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.kept = b""
        self.port = 0

    async def handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heard.append(head)
                writer.write(self._answer(head))
                await writer.drain()
                if b"connection: close" in head.lower():
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, target, _ = head.split(b" ", 2)
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        fields = {name.lower(): value for name, value in fields.items()}
        key = fields.get(b"x-key") or self.kept
        self.kept = key
        if method == b"TRACE":
            return _plain(head, "Content-Type: message/http")
        if b"range" in fields:
            first, _, last = fields[b"range"].removeprefix(b"bytes=").partition(b"-")
            part = key[int(first) : int(last) + 1]
            return _plain(
                part, f"Content-Range: bytes {int(first)}-{int(last)}/{len(key)}", status="206 Partial Content"
            )
        name = urllib.parse.unquote(target[1:].decode())
        return (ECHOES | SPELLINGS).get(name, lambda key: _plain(b"you sent " + key))(key)


def attack(folder: Path, home: Path, cases: list[dict[str, Any]], **policy: Any) -> tuple[Site, list[bytes]]:
    """Send each case from inside a sandbox; what came back, as the sandbox saw it. `{port}` is the site's."""
    site = Site()
    kept = Secret(placeholder=PLACEHOLDER, value=VALUE, hosts=(API,), header=True, body=True, credential_id="vcrd_1")

    async def ask(key: str) -> Sequence[Secret]:
        return [kept]

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> list[bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust = make_certificate(home)
        context.load_cert_chain(trust, home / "key.pem")
        authority = Authority(home / "egress")
        proxy = EgressProxy(
            EgressPolicy(**{"allow_private": True, **policy}),
            resolve=resolve,
            edge=Edge(ask, authority, trust),
            journal=EgressLog(home / "log"),
        )
        backend = BubblewrapBackend(folder, egress=proxy.serve, bundle=lambda: authority.bundle(trust))
        server = await asyncio.start_server(site.handle, "127.0.0.1", 0, ssl=context)
        site.port = server.sockets[0].getsockname()[1]
        clear = await asyncio.start_server(site.handle, "127.0.0.1", 0)
        ports = {"{port}": str(site.port), "{clear}": str(clear.sockets[0].getsockname()[1])}
        try:
            async with server, clear:
                inside = await backend.provision(
                    SandboxSpec(key="hostile", network=Network(hosts=(API, OTHER, "127.0.0.1")))
                )
                text = json.dumps(cases)
                for word, port in ports.items():
                    text = text.replace(word, port)
                found = await said(inside, _CLIENT, stdin=text.encode())  # type: ignore[arg-type]
        finally:
            await backend.destroy("hostile")
            await backend.aclose(stop=True)
            proxy.close()
        return [base64.b64decode(answer) for answer in json.loads(found)]

    return site, asyncio.run(main())


def case(request: str, *, host: str = API, via: str | None = None, name: str | None = None) -> dict[str, Any]:
    """A request in TLS through a tunnel to the host; `via` and `name` where these are others."""
    via = f"{host}:{{port}}" if via is None else via
    return {"via": via, "name": host if name is None else name, "parts": [request]}


def get(path: str, host: str = API, fields: str = f"X-Key: {PLACEHOLDER}\r\n") -> str:
    return f"GET /{urllib.parse.quote(path)} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"


def shown(answer: bytes) -> list[bytes]:
    """An answer as an agent would look at it: as it is, without its chunks, and unpacked in every usual way."""
    body = answer.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[2]
    seen = [answer, answer.replace(b"\r\n", b""), body, _unchunked(body)]
    for packed in seen[2:]:
        for unpack in (gzip.decompress, zlib.decompress, lambda b: gzip.decompress(gzip.decompress(b)), _unzstd):
            try:
                seen.append(unpack(packed))
            except (OSError, EOFError, zlib.error, zstandard.ZstdError):
                continue
    return [spelled for text in seen for spelled in (text, *_unspelled(text))]


def _unzstd(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 20)


def _unchunked(body: bytes) -> bytes:
    pieces, rest = b"", body
    while size := re.match(rb"([0-9a-f]+)\r\n", rest):
        length = int(size[1], 16)
        pieces, rest = pieces + rest[size.end() : size.end() + length], rest[size.end() + length + 2 :]
    return pieces


def _unspelled(text: bytes) -> list[bytes]:
    return [
        urllib.parse.unquote_to_bytes(text),
        urllib.parse.unquote_to_bytes(text.replace(b"+", b" ")),
        html.unescape(text.decode("latin-1")).encode("latin-1", "replace"),
        text.replace(b"\\/", b"/").replace(b'\\"', b'"').replace(b"\\'", b"'").replace(b"\\xc3\\xa9", "é".encode()),
        _json(text),
    ]


def _json(text: bytes) -> bytes:
    try:
        return str(json.loads(text[text.index(b"{") :])["key"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


def leaks(answer: bytes) -> bool:
    return any(VALUE.encode() in text for text in shown(answer))


def test_no_echo_tells_the_value(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The host has the value, and the sandbox gets its placeholder back, however it is packed, cut or placed."""
    caplog.set_level(logging.DEBUG)
    cases = [case(get(name)) for name in ECHOES]
    cases += [case(f"TRACE / HTTP/1.1\r\nHost: {API}\r\nX-Key: {PLACEHOLDER}\r\nConnection: close\r\n\r\n")]
    cases += [case(get("x", fields="")), case(get("x", fields=f"X-Key: a{PLACEHOLDER}b{PLACEHOLDER}c\r\n"))]
    site, answers = attack(folder, tmp_path, cases)
    names = [*ECHOES, "TRACE", "what was kept", "twice"]
    assert [name for name, answer in zip(names, answers, strict=True) if leaks(answer)] == []
    assert sum(VALUE.encode() in heard for heard in site.heard) >= len(ECHOES), "the host did not get the secret"
    assert sum(PLACEHOLDER.encode() in b"".join(shown(a)) for a in answers) >= len(ECHOES) - 2, "nothing came back"
    everything = caplog.text.encode() + b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert VALUE.encode() not in everything
    assert b"sk-REAL" not in everything


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_tells_the_value(folder: Path, tmp_path: Path, spelling: str) -> None:
    _, answers = attack(folder, tmp_path, [case(get(spelling))])
    assert not leaks(answers[0]), answers[0]
    assert not any(b"sk-REAL" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()), (
        "it is in the log"
    )


def test_the_value_goes_nowhere_else(folder: Path, tmp_path: Path) -> None:
    """To no other host, by no other name for the tunnel, the greeting or the request, and never in the clear."""
    elsewhere = [
        case(get("as it is", OTHER), host=OTHER),
        case(get("as it is", OTHER)),
        case(get("as it is"), host=OTHER),
        case(get("as it is"), via=f"{OTHER}:{{port}}"),
        case(get("as it is", OTHER), name=OTHER),
        case(get("as it is"), via="127.0.0.1:{port}"),
        case(f"GET https://{OTHER}/ HTTP/1.1\r\nHost: {API}\r\nX-Key: {PLACEHOLDER}\r\nConnection: close\r\n\r\n"),
        case(f"GET / HTTP/1.1\r\nHost: {API}\r\nHost: {OTHER}\r\nX-Key: {PLACEHOLDER}\r\n\r\n"),
        case(f"GET / HTTP/1.1\r\nHost: {OTHER}\r\nX-Forwarded-Host: {API}\r\nX-Key: {PLACEHOLDER}\r\n\r\n"),
        case(f"GET /{PLACEHOLDER}?k={PLACEHOLDER} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n"),
        {"via": f"{API}:{{clear}}", "name": None, "parts": [get("as it is")]},
        {"via": "", "name": None, "parts": [get("x").replace("GET /", f"GET http://{API}:{{clear}}/")]},
    ]
    site, answers = attack(folder, tmp_path, elsewhere)
    assert [heard for heard in site.heard if VALUE.encode() in heard] == []
    assert not any(leaks(answer) for answer in answers)
    assert any(PLACEHOLDER.encode() in heard for heard in site.heard), "no host heard anything"
