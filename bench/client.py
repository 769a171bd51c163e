"""A raw keep-alive HTTP/1.1 client for measuring: as little as a client can cost. For nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

BETA = "managed-agents-2026-04-01"


class Connection:
    """One connection to a server. Requests go one after the other."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._head = (
            f"host: {parts.netloc}\r\nauthorization: Bearer {key}\r\nanthropic-version: 2026-10-21\r\n"
            f"anthropic-beta: {BETA}\r\ncontent-type: application/json\r\n"
        )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the decoded JSON answer. Raises RuntimeError unless the status is 200."""
        status, payload = await self.raw(method, path, msgspec.json.encode(body) if body is not None else b"")
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {payload[:500]!r}")
        return msgspec.json.decode(payload)

    async def raw(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        reader, writer = await self._open()
        head = f"{method} {path} HTTP/1.1\r\n{self._head}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, headers = await _read_head(reader)
        length = int(headers.get(b"content-length", b"0"))
        return status, await reader.readexactly(length)

    async def events(self, path: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """Follow a stream: (event name, data) pairs. The first item, (b"", b""), says that the head is there."""
        reader, writer = await self._open()
        writer.write(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())
        status, _ = await _read_head(reader)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status}")
        yield b"", b""
        name = b""
        while line := await reader.readline():
            if line.startswith(b"event: "):
                name = line[7:-1]
            elif line.startswith(b"data: "):
                yield name, line[6:-1]

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address, limit=1 << 22)
        return self._reader, self._writer


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
    return int(lines[0].split(b" ")[1]), headers
