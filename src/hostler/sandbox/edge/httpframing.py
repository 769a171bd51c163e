"""The parts of HTTP/1.1 that a forwarding proxy must get exactly right: heads, hop-by-hop fields and the end of a body.

It must not guess: a message whose end two readers could see differently is refused, since it could smuggle another.
"""

from __future__ import annotations

import re
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from collections.abc import AsyncGenerator, Awaitable, Callable

from msgspec import Struct

Write = Callable[[bytes], Awaitable[None]]

CHUNK = 65536
HEADER_BYTES = 65536  # the limit of the stream readers that heads are read from
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\0\r\n]")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
}


class BadMessage(Exception):
    """A message that cannot be forwarded safely."""


class Head(Struct, frozen=True):
    """`start` is the request or status line in its three parts."""

    start: tuple[str, str, str]
    fields: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """All values of a field, those in one line with commas parted too. What other readers may not take for a space
        stays."""
        found = [value for key, value in self.fields if key.lower() == name]
        return [part.strip(" \t") for value in found for part in value.split(",")]

    def end_to_end(self) -> list[tuple[str, str]]:
        """The fields to pass on: without those that are about this connection only."""
        named = {name.lower() for name in self.values("connection")}
        dropped = _HOP_BY_HOP | named - {"content-length", "transfer-encoding", "host"}  # those frame the message
        return [(key, value) for key, value in self.fields if key.lower() not in dropped]


class Body(Struct, frozen=True):
    """How a body ends: after `length` bytes, with its last chunk, or with the connection (neither given)."""

    length: int | None = None
    chunked: bool = False


async def read_head(reader: StreamReader) -> Head:
    """Raises `BadMessage`, or `EOFError` when the connection ended before a head began."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except LimitOverrunError:
        raise BadMessage("its header is too large") from None
    except IncompleteReadError as e:
        if not e.partial:
            raise EOFError from None
        raise BadMessage("its header is not complete") from None
    return _parse(raw[:-4].decode("latin-1"))


def _parse(text: str) -> Head:
    first, *lines = text.split("\r\n")
    start = first.split(" ", 2)
    if len(start) == 2 and start[0].startswith("HTTP/"):
        start.append("")  # a status line may have no phrase
    if len(start) != 3 or _BAD_VALUE.search(first):
        raise BadMessage("its first line is malformed")
    return Head((start[0], start[1], start[2]), [_field(line) for line in lines])


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
        raise BadMessage("it has a malformed header field")
    return name, value.strip(" \t")


def encode(start: str, fields: list[tuple[str, str]]) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def request_body(head: Head) -> Body:
    encodings = head.values("transfer-encoding")
    if encodings and (encodings != ["chunked"] or head.values("content-length")):
        raise BadMessage("its Transfer-Encoding cannot be forwarded")
    return Body(chunked=True) if encodings else Body(length=_length(head) or 0)


def response_body(method: str, status: str, head: Head) -> Body:
    if method == "HEAD" or status in ("204", "304"):
        return Body(length=0)
    encodings = [coding.lower() for coding in head.values("transfer-encoding")]
    if encodings and (encodings[-1] != "chunked" or head.values("content-length")):
        raise BadMessage("its Transfer-Encoding cannot be forwarded")
    return Body(chunked=True) if encodings else Body(length=_length(head))


def _length(head: Head) -> int | None:
    given = set(head.values("content-length"))
    if not given:
        return None
    value = given.pop()
    if given or not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise BadMessage("its Content-Length is malformed")
    return int(value)


async def copy_body(body: Body, reader: StreamReader, write: Write) -> None:
    """Copy exactly one body. Raises `EOFError` or `BadMessage` when it breaks off."""
    if body.chunked:
        await _copy_chunks(reader, write)
    elif body.length is not None:
        await _copy_exactly(body.length, reader, write)
    else:
        while data := await reader.read(CHUNK):
            await write(data)


async def read_body(body: Body, reader: StreamReader) -> AsyncGenerator[bytes]:
    """Yield exactly one body, without its framing. Raises `EOFError` or `BadMessage` when it breaks off."""
    left = body.length or 0
    while not body.chunked and left:
        yield (data := await _read_some(left, reader))
        left -= len(data)
    while body.chunked and (left := await _chunk_size(reader)):
        while left:
            yield (data := await _read_some(left, reader))
            left -= len(data)
        if await reader.readexactly(2) != b"\r\n":
            raise BadMessage("a chunk of its body is malformed")
    while body.chunked and await _line(reader) != b"\r\n":
        continue


async def _read_some(most: int, reader: StreamReader) -> bytes:
    data = await reader.read(min(most, CHUNK))
    if not data:
        raise EOFError
    return data


async def _copy_exactly(left: int, reader: StreamReader, write: Write) -> None:
    while left:
        data = await _read_some(left, reader)
        await write(data)
        left -= len(data)


async def _copy_chunks(reader: StreamReader, write: Write) -> None:
    while size := await _chunk_size(reader):
        await write(b"%x\r\n" % size)
        await _copy_exactly(size, reader, write)
        if await reader.readexactly(2) != b"\r\n":
            raise BadMessage("a chunk of its body is malformed")
        await write(b"\r\n")
    while await _line(reader) != b"\r\n":  # trailers are not passed on
        continue
    await write(b"0\r\n\r\n")


async def _chunk_size(reader: StreamReader) -> int:
    size = _CHUNK_SIZE.fullmatch(await _line(reader))
    if size is None:
        raise BadMessage("a chunk of its body is malformed")
    return int(size[1], 16)


async def _line(reader: StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n")
    except LimitOverrunError:
        raise BadMessage("a line of its body is too long") from None
