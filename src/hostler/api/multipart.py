"""Parses `multipart/form-data` as it streams in, for the one endpoint whose parts may be hundreds of megabytes.

Own, because a file part may come without a filename, and must go to disk, not to memory. It must not know what the
parts mean. Feed it chunks, take parts: the body of a part must be read to its end before the next part is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hostler.errors import InvalidRequest

MAX_HEADERS = 16 * 1024
MAX_PARTS = 16
READ_SIZE = 1024 * 1024


class Part:
    """One part: its name, the filename and type if it said so, and its bytes through `chunks`."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise InvalidRequest("multipart: a part has no name in its Content-Disposition")
        self.name = options[b"name"].decode("utf-8", "replace")
        filename = options.get(b"filename")
        self.filename = filename.decode("utf-8", "replace") if filename is not None else None
        content_type = headers.get(b"content-type")
        self.content_type = content_type.decode("latin-1") if content_type is not None else None


class Form:
    def __init__(
        self,
        content_type: str,
        chunks: AsyncIterator[bytes],
        *,
        max_parts: int = MAX_PARTS,
        max_headers: int = MAX_HEADERS,
    ) -> None:
        """`max_headers` bounds the bytes of all parts' headers together."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("Content-Type: multipart/form-data with a boundary is expected")
        self._chunks = chunks
        self._parser = MultipartParser(options[b"boundary"], self._callbacks())
        self._queue: deque[Part | bytes | None] = deque()  # None ends a part
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""
        self._size = self._parts = 0
        self._max_parts, self._max_headers = max_parts, max_headers
        self._ended = False

    async def parts(self) -> AsyncIterator[Part]:
        """The parts in order. Raises InvalidRequest for a malformed body."""
        while (item := await self._next()) is not None:
            if not isinstance(item, Part):
                raise RuntimeError("a part was not read to its end")
            yield item
        if not self._ended:
            raise InvalidRequest("multipart: the body ends before its closing boundary")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes of the part that was taken last, in pieces of about a megabyte."""
        held: list[bytes] = []
        size = 0
        while (item := await self._next(within=True)) is not None:
            assert isinstance(item, bytes)
            held.append(item)
            size += len(item)
            if size >= READ_SIZE:
                yield b"".join(held)
                held, size = [], 0
        if held:
            yield b"".join(held)

    async def text(self, limit: int = 1024) -> str:
        """A small part as text."""
        value = b""
        async for chunk in self.chunks():
            value += chunk
            if len(value) > limit:
                raise InvalidRequest(f"multipart: a text part is longer than {limit} bytes")
        return value.decode("utf-8", "replace")

    async def _next(self, *, within: bool = False) -> Part | bytes | None:
        while not self._queue:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                if within:
                    raise InvalidRequest("multipart: the body ends in the middle of a part")
                return None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise InvalidRequest(f"multipart: {error}") from error
        return self._queue.popleft()

    def _callbacks(self) -> Any:
        return {
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": lambda data, start, end: self._queue.append(data[start:end]),
            "on_part_end": lambda: self._queue.append(None),
            "on_end": self._on_end,
        }

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._grow(end - start)

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._grow(end - start)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._max_headers:
            raise InvalidRequest("multipart: the headers of the parts are too long")

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        self._parts += 1
        if self._parts > self._max_parts:
            raise InvalidRequest(f"multipart: more than {self._max_parts} parts")
        self._queue.append(Part(self._headers))
        self._headers = {}

    def _on_end(self) -> None:
        self._ended = True
