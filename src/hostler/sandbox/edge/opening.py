"""What a client says first in a tunnel: a TLS greeting with the name it wants, a plain HTTP request, or something else.

It reads, within bounds, until that is certain, and keeps every byte. It must not judge what it finds.
"""

from __future__ import annotations

import asyncio
import re

from msgspec import Struct

from hostler.sandbox.edge.streams import Stream

_HANDSHAKE = 22
# Records of TLS that may not come first, but that some servers pass over; and the greeting that was in use before TLS,
# which many still take and which names no server.
_OUT_OF_PLACE = re.compile(rb"[\x14\x15\x17\x18]\x03|[\x80-\xff].\x01[\x00\x03]", re.DOTALL)
_OUT_OF_PLACE_BYTES = 4
_CLIENT_HELLO = 1
_RECORD_BYTES = 16384
_HELLO_BYTES = 65536
_LINE_BYTES = 8192
_SERVER_NAME = 0
_PROTOCOLS = 16
_NAME = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_TEXT = re.compile(rb"[\r\n]*[\t\x20-\x7e]*\r?")  # what may yet become a request line
_REQUEST_LINE = re.compile(rb"[\r\n]*[^\s]+[ \t]+[^\r\n]*HTTP/[^\r\n]*", re.IGNORECASE)


class BadHello(Exception):
    """A TLS greeting that cannot be understood."""


class Hello(Struct, frozen=True):
    """`name` is the server's name in lower case; `protocols` what the client offers to speak (ALPN)."""

    name: str | None
    protocols: tuple[str, ...] = ()


class Opening(Struct):
    """What came so far. `hello` for TLS; `http` for a request line; neither for anything else."""

    data: bytearray
    hello: Hello | None = None
    http: bool = False


class HelloParser:
    """Takes a greeting in pieces: it may be spread over several records, and each over several packets."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._message = bytearray()

    def feed(self, data: bytes) -> Hello | None:
        """The greeting once it is whole. Raises `BadHello`."""
        self._pending += data
        while len(self._pending) >= 5:
            kind, major, size = self._pending[0], self._pending[1], int.from_bytes(self._pending[3:5], "big")
            if kind != _HANDSHAKE or major != 3 or not 0 < size <= _RECORD_BYTES:
                raise BadHello("a record of it is malformed")
            if len(self._pending) < 5 + size:
                return None
            self._message += self._pending[5 : 5 + size]
            del self._pending[: 5 + size]
            if (body := self._body()) is not None:
                return _parse(body)
        return None

    def _body(self) -> bytes | None:
        if self._message[0] != _CLIENT_HELLO:
            raise BadHello("it is none")
        if len(self._message) < 4:
            return None
        size = int.from_bytes(self._message[1:4], "big")
        if size > _HELLO_BYTES:
            raise BadHello("it is too large")
        return bytes(self._message[4 : 4 + size]) if len(self._message) >= 4 + size else None


class _Cursor:
    """Reads length-prefixed fields, and nothing beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise BadHello("it is cut short")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))

    @property
    def done(self) -> bool:
        return self._at == len(self._data)


def _parse(body: bytes) -> Hello:
    cursor = _Cursor(body)
    cursor.take(2 + 32)  # version, random
    cursor.vector(1)  # session
    cursor.vector(2)  # ciphers
    cursor.vector(1)  # compression
    if cursor.done:
        return Hello(None)
    extensions = _Cursor(cursor.vector(2))
    if not cursor.done:
        raise BadHello("something stands behind its extensions")
    found: dict[int, bytes] = {}
    while not extensions.done:
        kind, data = extensions.number(2), extensions.vector(2)
        if kind in found:
            raise BadHello("an extension stands in it twice")
        found[kind] = data
    name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    return Hello(name, _protocols(found[_PROTOCOLS]) if _PROTOCOLS in found else ())


def _server_name(data: bytes) -> str:
    """The one name of the list: where there are several, two readers could choose differently."""
    outer = _Cursor(data)
    names = _Cursor(outer.vector(2))
    kind, name = names.number(1), names.vector(2)
    if not (outer.done and names.done) or kind != 0 or len(name) > 255 or not _NAME.fullmatch(name):
        raise BadHello("its server name is malformed")
    return name.decode("ascii").lower().rstrip(".")


def _protocols(data: bytes) -> tuple[str, ...]:
    outer = _Cursor(data)
    names = _Cursor(outer.vector(2))
    found = []
    while not names.done:
        found.append(names.vector(1).decode("latin-1"))
    if not outer.done:
        raise BadHello("its protocols are malformed")
    return tuple(found)


async def read_opening(client: Stream, opening: Opening, seconds: float) -> None:
    """Fill `opening`. What it has at a cancellation is all that was read.

    Raises `BadHello`, and TimeoutError when the client stops in the middle; it may be silent before.
    """
    data = await client.read()
    opening.data += data
    async with asyncio.timeout(seconds):
        if data[:1] == bytes([_HANDSHAKE]):
            await _read_hello(client, opening, data)
            return
        while data and _undecided(opening.data):
            data = await client.read()
            opening.data += data
    if _OUT_OF_PLACE.match(opening.data):
        raise BadHello("it does not begin with one")
    line = bytes(opening.data).lstrip(b"\r\n").partition(b"\n")[0]
    opening.http = len(line) >= _LINE_BYTES or _REQUEST_LINE.fullmatch(line.rstrip(b"\r")) is not None


async def _read_hello(client: Stream, opening: Opening, data: bytes) -> None:
    parser = HelloParser()
    while (hello := parser.feed(data)) is None:
        data = await client.read()
        if not data:
            raise BadHello("it is not complete")
        opening.data += data
    opening.hello = hello


def _undecided(data: bytearray) -> bool:
    """Whether these bytes are the beginning of a line of text, whose end is still to come, or too few to tell."""
    if data[0] >= 0x80 or data[0] in b"\x14\x15\x17\x18":
        return len(data) < _OUT_OF_PLACE_BYTES
    return len(data) < _LINE_BYTES and _TEXT.fullmatch(data) is not None
