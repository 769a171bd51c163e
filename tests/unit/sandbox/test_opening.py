"""The first bytes of a tunnel: TLS greetings in every cut, and what only looks like one."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from hostler.sandbox.edge.opening import BadHello, Hello, HelloParser, Opening, read_opening


def greeting(name: str | None = "api.test", protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def rebuilt(message: bytes, size: int) -> bytes:
    """The same handshake message in records of that size."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def with_extensions(*extensions: tuple[int, bytes], behind: bytes = b"") -> bytes:
    """A greeting of our own making."""
    listed = b"".join(kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for kind, data in extensions)
    body = (
        b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + len(listed).to_bytes(2, "big") + listed + behind
    )
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return rebuilt(message, 16384)


def names(*given: bytes, kind: int = 0) -> bytes:
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in given)
    return len(listed).to_bytes(2, "big") + listed


def test_a_greeting_in_every_cut() -> None:
    data = greeting()
    wanted = Hello("api.test", ("h2", "http/1.1"))
    assert HelloParser().feed(data) == wanted
    for size in (1, 2, 5, 6, 100):
        parser = HelloParser()
        found = [parser.feed(data[at : at + size]) for at in range(0, len(data), size)]
        assert [hello for hello in found if hello] == [wanted]
    for size in (1, 3, 50, 1000):
        assert HelloParser().feed(rebuilt(data[5:], size)) == wanted
    assert HelloParser().feed(greeting(None, ())) == Hello(None, ())


def test_names_are_compared_in_lower_case_without_a_dot() -> None:
    assert HelloParser().feed(with_extensions((0, names(b"API.Test.")))) == Hello("api.test")


def test_unknown_extensions_are_passed_over() -> None:
    made = with_extensions((0x0A0A, b""), (0, names(b"a.test")), (0xFE0D, b"\0" * 40), (0x1A1A, b"\0"))
    assert HelloParser().feed(made) == Hello("a.test")


@pytest.mark.parametrize(
    "data",
    [
        with_extensions((0, names(b"a.test")), (0, names(b"b.test"))),
        with_extensions((0, names(b"a.test", b"b.test"))),
        with_extensions((0, names(b"a.test") + b"x")),
        with_extensions((0, names(b"a.test", kind=1))),
        with_extensions((0, names(b""))),
        with_extensions((0, names(b"a.test\0.evil"))),
        with_extensions((0, names(b"a test"))),
        with_extensions((0, names(b"a" * 256))),
        with_extensions((0, names("ä.test".encode()))),
        with_extensions((0, b"\xff\xff\0")),
        with_extensions((0, b"")),
        with_extensions((0, names(b"a.test")), behind=b"x"),
        with_extensions((16, b"\0\3\2h2x")),
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\xff\xff" + bytes(10),
        b"\x16\x02\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x01\x01\x17\x03\x03\x00\x01\x00",
    ],
)
def test_what_two_readers_could_take_differently_is_no_greeting(data: bytes) -> None:
    with pytest.raises(BadHello):
        HelloParser().feed(data)


class Pieces:
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def write(self, data: bytes) -> None:
        raise AssertionError

    async def end(self) -> None:
        raise AssertionError


def opening(*pieces: bytes) -> Opening:
    made = Opening(bytearray())
    asyncio.run(read_opening(Pieces(*pieces), made, 5))
    return made


@pytest.mark.parametrize(
    ("pieces", "http"),
    [
        ([b"GET / HTTP/1.1\r\n"], True),
        ([b"G", b"ET / HT", b"TP/1.0\n"], True),
        ([b"\r\n\nget /a HTTP/1.1\r", b"\n"], True),
        ([b"GET\t/\tHTTP/1.1\r\n"], True),
        ([b"PRI * HTTP/2.0\r\n"], True),
        ([b"A" * 9000], True),
        ([b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"], False),
        ([b"EHLO there\r\n"], False),
        ([b"\0\0\0\x08\x04\xd2\x16\x2f"], False),
        ([b""], False),
        ([b"GET / HTTP/1.1"], True),
    ],
)
def test_plain_requests_are_known(pieces: list[bytes], http: bool) -> None:
    found = opening(*pieces)
    assert found.http is http
    assert found.hello is None
    assert bytes(found.data) == b"".join(pieces)[: len(found.data)]
