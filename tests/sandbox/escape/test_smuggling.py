"""Probes of the way out: a real sandbox speaks raw bytes to its proxy, to get a request past what its network allows.

Two servers of this host listen: one that is allowed, and one that must never hear a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hostler.sandbox.contract import Network
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy
from hostler.sandbox.edge.route import connect_to_address
from sandbox.escape.worlds import said, sandbox

ALLOWED, REBOUND, FORBIDDEN = "allowed.example.com", "rebound.example.com", "forbidden.example.com"
PUBLIC = "93.184.216.34"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

_SEND = """
import json, socket, sys, threading
def ask(number, parts):
    got = b""
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as s:
            for part in parts:
                s.sendall(part.encode("latin-1"))
                if len(parts) > 1:
                    got += s.recv(65536)
            s.shutdown(socket.SHUT_WR)
            while data := s.recv(65536):
                got += data
    except OSError as e:
        got += f"<{e}>".encode()
    answers[number] = got.decode("latin-1")
cases = json.load(sys.stdin)
answers = [""] * len(cases)
for start in range(0, len(cases), 20):
    threads = [threading.Thread(target=ask, args=(n, cases[n])) for n in range(start, min(start + 20, len(cases)))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(json.dumps(answers))
"""


class World:
    """The servers, the names, and what was heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.forbidden = 0
        self.dialled: list[tuple[str, int]] = []
        self.lookups = 0
        self.allowed_port = self.forbidden_port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        allowed = await asyncio.start_server(self._allowed, "127.0.0.1", 0)
        forbidden = await asyncio.start_server(self._forbidden, "127.0.0.1", 0)
        self.allowed_port, self.forbidden_port = (s.sockets[0].getsockname()[1] for s in (allowed, forbidden))
        async with allowed, forbidden:
            yield

    async def _allowed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(5):
                while b"\n\r\n" not in got and (data := await reader.read(65536)):
                    got += data
                writer.write(ANSWER)
                await writer.drain()
                while data := await reader.read(65536):
                    got += data
        self.heard.append(got)
        writer.close()

    async def _forbidden(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.forbidden += 1
        writer.close()

    async def resolve(self, host: str, port: int) -> list[str]:
        name = host.lower().rstrip(".")
        if name in (ALLOWED, FORBIDDEN):
            return ["127.0.0.1"]
        if name == REBOUND:  # public when it is looked at, and this host's from then on
            self.lookups += 1
            return [PUBLIC] if self.lookups == 1 else ["127.0.0.1"]
        try:
            return [socket.getaddrinfo(name, port, flags=socket.AI_NUMERICHOST)[0][4][0]]  # type: ignore[list-item]
        except socket.gaierror:
            return ["127.0.0.1"] if "localhost" in name or "." not in name else []

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.dialled.append((address, port))
        if address == PUBLIC:
            raise OSError("not in a test")
        return await connect_to_address(address, port)

    async def ask(self, folder: Path, cases: list[list[str]], network: Network) -> list[str]:
        """What the proxy says to each case: its parts are sent one after the other's answer."""
        trusted = frozenset({(ALLOWED, self.allowed_port)})
        proxy = EgressProxy(EgressPolicy(trusted=trusted), resolve=self.resolve, connect=self.connect)
        try:
            async with sandbox(folder, egress=proxy.serve, network=network) as inside:
                found = await said(inside, _SEND, stdin=json.dumps(cases).encode())
        finally:
            proxy.close()
        answers: list[str] = json.loads(found)
        return answers


def _run(folder: Path, cases: list[list[str]], network: Network | None = None) -> tuple[World, list[str]]:
    """The cases may use `{allowed}` and `{forbidden}`, the servers' ports."""
    world = World()

    async def main() -> list[str]:
        async with world.open():
            ports = {"{allowed}": str(world.allowed_port), "{forbidden}": str(world.forbidden_port)}
            filled = [[_fill(part, ports) for part in parts] for parts in cases]
            return await world.ask(folder, filled, network or Network(hosts=(ALLOWED, REBOUND)))

    return world, asyncio.run(main())


def _fill(text: str, ports: dict[str, str]) -> str:
    for word, port in ports.items():
        text = text.replace(word, port)
    return text


def _post(fields: str, body: str, *, version: str = "HTTP/1.1") -> list[str]:
    return [f"POST http://{ALLOWED}:{{allowed}}/first {version}\r\nHost: x\r\n{fields}\r\n\r\n{body}"]


_NEXT = f"GET http://{FORBIDDEN}/smuggled HTTP/1.1\r\nHost: {FORBIDDEN}\r\n\r\n"
_CHUNKED = f"{len(_NEXT):x}\r\n{_NEXT}\r\n0\r\n\r\n"

# Messages whose end two readers could see at different places: what stands behind must never be sent on.
AMBIGUOUS = {
    "both lengths": _post("Content-Length: 4\r\nTransfer-Encoding: chunked", _CHUNKED),
    "both, the other way": _post(f"Transfer-Encoding: chunked\r\nContent-Length: {len(_CHUNKED)}", "0\r\n\r\n" + _NEXT),
    "two lengths": _post(f"Content-Length: 0\r\nContent-Length: {len(_NEXT)}", _NEXT),
    "a list of lengths": _post(f"Content-Length: 0, {len(_NEXT)}", _NEXT),
    "a length with a sign": _post(f"Content-Length: +{len(_NEXT)}", _NEXT),
    "a negative length": _post("Content-Length: -1", _NEXT),
    "a length in hex": _post(f"Content-Length: 0x{len(_NEXT):x}", _NEXT),
    "a length with a tab inside": _post("Content-Length: 1\t0", _NEXT),
    "a length in other digits": _post("Content-Length: \xb2", _NEXT),
    "a length after a strange space": _post(f"Content-Length: \xa0{len(_NEXT)}", _NEXT),
    "a length after a vertical tab": _post(f"Content-Length: \x0b{len(_NEXT)}", _NEXT),
    "an unknown coding": _post("Transfer-Encoding: xchunked", _CHUNKED),
    "two codings": _post("Transfer-Encoding: chunked, identity", _CHUNKED),
    "two lines of codings": _post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", _CHUNKED),
    "chunked twice": _post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", _CHUNKED),
    "a space before the colon": _post("Transfer-Encoding : chunked", _CHUNKED),
    "a coding after a vertical tab": _post("Transfer-Encoding: \x0bchunked", _CHUNKED),
    "a coding after a strange space": _post("Transfer-Encoding: \x85chunked", _CHUNKED),
    "a coding before a form feed": _post("Transfer-Encoding: chunked\x0c", _CHUNKED),
    "a quoted coding": _post('Transfer-Encoding: "chunked"', _CHUNKED),
    "a folded coding": _post("Transfer-Encoding:\r\n chunked", _CHUNKED),
    "a folded field": _post(f"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: {len(_CHUNKED)}", _CHUNKED),
    "a bare line feed in a field": _post("X: y\nTransfer-Encoding: chunked\r\nContent-Length: 1", _CHUNKED),
    "a bare return in a field": _post("X: y\rTransfer-Encoding: chunked\r\nContent-Length: 1", _CHUNKED),
    "a NUL in a field": _post("Transfer-Encoding: chunked\0", _CHUNKED),
    "a coding in HTTP/1.0": _post("Transfer-Encoding: chunked\r\nContent-Length: 0", _CHUNKED, version="HTTP/1.0"),
    "a chunk with a sign": _post("Transfer-Encoding: chunked", f"+{_CHUNKED}"),
    "a chunk with a prefix": _post("Transfer-Encoding: chunked", f"0x{_CHUNKED}"),
    "a chunk with a line feed": _post("Transfer-Encoding: chunked", f"0;\n\r\n\r\n{_NEXT}"),
    "a chunk that ends in a line feed": _post("Transfer-Encoding: chunked", f"1\nx\r\n0\r\n\r\n{_NEXT}"),
    "a chunk of too many digits": _post("Transfer-Encoding: chunked", "0" * 20 + f"\r\n\r\n{_NEXT}"),
    "a chunk without its end": _post("Transfer-Encoding: chunked", f"1\r\nxx\r\n0\r\n\r\n{_NEXT}"),
}
# Messages with a clear end, and more behind it: one request a connection, the rest is nobody's.
FOLLOWED = {
    "behind no body": _post("A: b", _NEXT),
    "behind a body": _post("Content-Length: 2", "hi" + _NEXT),
    "behind chunks": _post("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n" + _NEXT),
    "in a trailer": _post("Transfer-Encoding: chunked", f"0\r\nX: y\r\nHost: {FORBIDDEN}/smuggled\r\n\r\n"),
    "a connection kept": _post("Connection: keep-alive\r\nProxy-Connection: keep-alive\r\nContent-Length: 0", _NEXT),
    "a length that is about the connection": _post("Connection: content-length\r\nContent-Length: 2", "hi" + _NEXT),
    "a coding that is about the connection": _post(
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n" + _NEXT
    ),
    "a change of protocol": _post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA", _NEXT),
    "a websocket": _post("Connection: Upgrade\r\nUpgrade: websocket", _NEXT),
    "an expectation": _post("Expect: 100-continue\r\nContent-Length: 2", "hi" + _NEXT),
}


def test_no_request_is_smuggled(folder: Path) -> None:
    """Whatever a message says of its length, at most one request leaves, and nothing that stands behind it."""
    cases = AMBIGUOUS | FOLLOWED
    world, answers = _run(folder, list(cases.values()))
    for name, answer in zip(cases, answers, strict=True):
        if name in FOLLOWED:
            assert answer.endswith("ok"), (name, answer)
        elif not name.startswith("a chunk"):  # these begin well, and may be over without an answer
            assert answer.startswith("HTTP/1.1 400 "), (name, answer)
        assert answer.count("HTTP/1.1 ") <= 1, (name, answer)
    for heard in world.heard:
        assert b"smuggled" not in heard, heard
        assert heard.count(b"HTTP/1.1\r\n") == 1, heard
        assert b"upgrade" not in heard.lower(), heard
        assert f"\r\nHost: {ALLOWED}:{world.allowed_port}\r\n".encode() in heard, heard
    assert len(world.heard) >= len(FOLLOWED)
    assert world.forbidden == 0


def _loopback() -> list[str]:
    """This host in every spelling that some C library or program understands."""
    spelled = ["127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.0.0.1"]
    spelled += ["0177.0.0.1", "017700000001", "0x7f.1", "127.000.000.001", "127.0.0.1%25lo", "[::1]", "[::]"]
    spelled += [
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
    ]
    spelled += ["[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[::1%25lo]", "[fe80::1]", "[::ffff:0:7f00:1]", "[v1.x]"]
    spelled += ["localhost", "LocalHost.", "ip6-localhost", "localhost.localdomain", "sandbox", FORBIDDEN]
    spelled += ["\xb9\xb2\xb7.0.0.1", "127\u00b70.0.1", f"{ipaddress.IPv6Address('::1').exploded}", "::1"]
    return spelled


_OTHERS = ["169.254.169.254", "168.63.129.16", "10.0.0.1", "100.64.0.1", "192.168.1.1", "metadata.google.internal"]


def test_no_address_of_this_host_in_any_spelling(folder: Path) -> None:
    """Neither by CONNECT nor as an absolute target, with hosts listed and with all public ones allowed."""
    hosts = [*_loopback(), *_OTHERS]
    cases = [[f"CONNECT {host}:{{forbidden}} HTTP/1.1\r\n\r\n"] for host in hosts]
    cases += [[f"GET http://{host}:{{forbidden}}/ HTTP/1.1\r\nHost: {ALLOWED}\r\n\r\n"] for host in hosts]
    for network in (Network(hosts=(ALLOWED,)), Network()):
        world, answers = _run(folder, cases, network)
        for case, answer in zip(cases, answers, strict=True):
            assert answer.split(" ")[1] in ("400", "403", "502"), (case, answer)
        assert (world.forbidden, world.heard, world.dialled) == (0, [], [])


# Targets in which one reader could see the allowed host and another the forbidden one.
CONFUSED = [
    f"http://{ALLOWED}@{FORBIDDEN}:{{forbidden}}/", f"http://{ALLOWED}:{{allowed}}@{FORBIDDEN}:{{forbidden}}/",
    f"http://{FORBIDDEN}:{{forbidden}}\\@{ALLOWED}:{{allowed}}/", f"http://{ALLOWED}\\.{FORBIDDEN}:{{forbidden}}/",
    f"http://{ALLOWED}#@{FORBIDDEN}:{{forbidden}}/", f"http://{ALLOWED}?@{FORBIDDEN}:{{forbidden}}/",
    f"http://{ALLOWED}%00.{FORBIDDEN}:{{forbidden}}/", f"http://{ALLOWED}%2f@{FORBIDDEN}:{{forbidden}}/",
    f"http://{ALLOWED}\t{FORBIDDEN}:{{forbidden}}/", f"http://{ALLOWED},{FORBIDDEN}:{{forbidden}}/",
    f"http://{ALLOWED};{FORBIDDEN}:{{forbidden}}/", f"http://[{ALLOWED}]:{{forbidden}}/",
    f"http://{ALLOWED}:{{forbidden}}:{{allowed}}/", f"http://{ALLOWED}:+{{allowed}}/",
    f"http://{ALLOWED}: {{allowed}}/",
    f"http://{ALLOWED}:{{allowed}}x/", f"http://{ALLOWED}:99999/", f"http://{ALLOWED}:0/", "http://:{forbidden}/",
    f"http:///{FORBIDDEN}:{{forbidden}}/", f"http:{FORBIDDEN}:{{forbidden}}/", f"//{FORBIDDEN}:{{forbidden}}/",
    f"https://{FORBIDDEN}:{{forbidden}}/", f"ftp://{FORBIDDEN}:{{forbidden}}/", f"ws://{FORBIDDEN}:{{forbidden}}/",
    "/", "*", "", f"{FORBIDDEN}:{{forbidden}}", f"HTTP://{FORBIDDEN}:{{forbidden}}/",
    f"http://{ALLOWED}.{FORBIDDEN}:{{forbidden}}/", f"http://x{ALLOWED}:{{forbidden}}/",
    f"http://.{ALLOWED}:{{forbidden}}/", f"http://{ALLOWED}..:{{forbidden}}/", f"http://{ALLOWED}\xad:{{forbidden}}/",
]  # fmt: skip
_HEADS = [
    [f"CONNECT {FORBIDDEN}:{{forbidden}} HTTP/1.1\r\nHost: {ALLOWED}:{{allowed}}\r\n\r\n"],
    [f"CONNECT {ALLOWED}:{{allowed}}@{FORBIDDEN}:{{forbidden}} HTTP/1.1\r\n\r\n"],
    [f"CONNECT {ALLOWED}:{{allowed}}/../{FORBIDDEN}:{{forbidden}} HTTP/1.1\r\n\r\n"],
    [f"CONNECT http://{FORBIDDEN}:{{forbidden}}/ HTTP/1.1\r\n\r\n"],
    [f"connect {FORBIDDEN}:{{forbidden}} HTTP/1.1\r\n\r\n"],
    [f"CONNECT {FORBIDDEN}:{{forbidden}}\r\n\r\n"],
    [f"CONNECT {FORBIDDEN}:{{forbidden}} HTTP/2.0\r\n\r\n"],
    [f"GET http://{FORBIDDEN}:{{forbidden}}/\r\n\r\n"],
    ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    [f"GET / HTTP/1.1\r\nHost: {FORBIDDEN}:{{forbidden}}\r\nX-Forwarded-Host: {FORBIDDEN}\r\n\r\n"],
    [f"\r\n\r\nGET http://{FORBIDDEN}:{{forbidden}}/ HTTP/1.1\r\n\r\n"],
    [f"GET\thttp://{FORBIDDEN}:{{forbidden}}/\tHTTP/1.1\r\n\r\n"],
    [f"GET http://{FORBIDDEN}:{{forbidden}}/ HTTP/1.1 HTTP/1.1\r\n\r\n"],
    [f"GET http://{ALLOWED}:{{allowed}}/ http://{FORBIDDEN}:{{forbidden}}/ HTTP/1.1\r\n\r\n"],
    ["GET " + "http://" + "a" * 70_000 + "/ HTTP/1.1\r\n\r\n"],
    ["\x16\x03\x01\x00\x05hello\r\n\r\n"],
    ["\x05\x01\x00\r\n\r\n"],
]


@pytest.mark.parametrize("network", [Network(hosts=(ALLOWED,)), Network()], ids=["limited", "unrestricted"])
def test_no_target_is_read_in_two_ways(folder: Path, network: Network) -> None:
    cases = [[f"GET {target} HTTP/1.1\r\nHost: {ALLOWED}:{{allowed}}\r\n\r\n"] for target in CONFUSED] + _HEADS
    world, answers = _run(folder, cases, network)
    for case, answer in zip(cases, answers, strict=True):
        assert answer.startswith("HTTP/1.1 "), (case, answer)
        assert answer.split(" ")[1] in ("400", "403", "502", "505"), (case, answer)
    assert (world.forbidden, world.heard) == (0, [])


def test_what_was_looked_at_is_what_is_connected_to(folder: Path) -> None:
    """A name whose address changes to this host's between two looks, and by the next request, leads nowhere."""
    cases = [[f"CONNECT {REBOUND}:{{forbidden}} HTTP/1.1\r\n\r\n"] for _ in range(2)]
    cases += [[f"GET http://{REBOUND}:{{forbidden}}/ HTTP/1.1\r\n\r\n"]]
    world, answers = _run(folder, cases)
    assert sorted(answer.split(" ")[1] for answer in answers) == ["403", "403", "502"]
    assert [address for address, _ in world.dialled] == [PUBLIC]
    assert world.forbidden == 0


def test_the_probes_would_hear_of_a_way_through(folder: Path) -> None:
    """The servers hear what is permitted: the allowed one its request, and the other one if the policy let it be."""
    world, answers = _run(folder, [[f"GET http://{ALLOWED}:{{allowed}}/ HTTP/1.1\r\n\r\n"]])
    assert answers[0].endswith("ok")
    assert len(world.heard) == 1

    class Open(World):
        async def ask(self, folder: Path, cases: list[list[str]], network: Network) -> list[str]:
            proxy = EgressProxy(EgressPolicy(allow_private=True), resolve=self.resolve, connect=self.connect)
            async with sandbox(folder, egress=proxy.serve, network=network) as inside:
                found = await said(inside, _SEND, stdin=json.dumps(cases).encode())
            proxy.close()
            return list(json.loads(found))

    async def main() -> int:
        open_world = Open()
        async with open_world.open():
            await open_world.ask(folder, [[f"CONNECT 127.1:{open_world.forbidden_port} HTTP/1.1\r\n\r\n"]], Network())
            return open_world.forbidden

    assert asyncio.run(main()) == 1
