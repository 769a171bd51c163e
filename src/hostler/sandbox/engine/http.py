"""Speaks HTTP/1.1 with a container engine over its unix socket or TCP: requests, and connections that become a stream.

Knows nothing of containers. A connection serves one request, every answer is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.edge.httpframing import (
    HEADER_BYTES,
    BadMessage,
    Head,
    encode,
    read_body,
    read_head,
    response_body,
)

_MAX_ANSWER = 16 * 1024 * 1024
_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_QUEUED = 1024 * 1024


class EngineError(SandboxUnavailable):
    """The engine refused. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the container engine says: {message}")
        self.status = status


class Address(msgspec.Struct, frozen=True):
    """Where an engine listens: a socket's path, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def local(self) -> bool:
        return bool(self.path)

    @classmethod
    def parse(cls, text: str) -> Address:
        """`unix:///path`, a plain path, or `tcp://host:port`. Raises ValueError."""
        if text.startswith("/"):
            return cls(path=text)
        url = urlsplit(text)
        if url.scheme == "unix" and url.path:
            return cls(path=url.path)
        if url.scheme in ("tcp", "http") and url.hostname and url.port and url.path in ("", "/"):
            return cls(host=url.hostname, port=url.port)
        raise ValueError(f"an engine is named unix:///path or tcp://host:port, not {text!r}")

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"


class EngineHttp:
    """Requests to one engine. All raise `SandboxUnavailable` when it does not answer, `EngineError` when it refuses."""

    def __init__(self, address: Address) -> None:
        self.address = address

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        raw: bytes | None = None,
        seconds: float = _SECONDS,
    ) -> bytes:
        """One request and the body of its answer."""
        try:
            async with asyncio.timeout(seconds), self._connection() as (reader, writer):
                writer.write(_request(method, path, query, body, raw, upgrade=False))
                await writer.drain()
                head = await read_head(reader)
                answer = await _whole(method, head, reader)
        except (OSError, EOFError, BadMessage) as error:  # TimeoutError is an OSError
            raise SandboxUnavailable(
                f"the container engine at {self.address} does not answer: {_why(error)}"
            ) from error
        _refused(head, answer)
        return answer

    async def ask_json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        found = _decode(await self.ask(method, path, **more))
        return found if isinstance(found, dict) else {}

    async def ask_list(self, method: str, path: str, **more: Any) -> list[dict[str, Any]]:
        found = _decode(await self.ask(method, path, **more))
        return found if isinstance(found, list) else []

    async def upgrade(self, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A request whose connection becomes a stream of bytes both ways, which the caller closes."""
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await self._connect()
                try:
                    writer.write(_request("POST", path, None, body, None, upgrade=True))
                    await writer.drain()
                    head = await read_head(reader)
                    if head.start[1] not in ("101", "200"):
                        _refused(head, await _whole("POST", head, reader))
                except BaseException:
                    writer.transport.abort()
                    raise
        except (OSError, EOFError, BadMessage) as error:
            raise SandboxUnavailable(
                f"the container engine at {self.address} does not answer: {_why(error)}"
            ) from error
        return reader, writer

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await self._connect()
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_SECONDS):
            if self.address.path:
                return await asyncio.open_unix_connection(self.address.path, limit=HEADER_BYTES)
            return await asyncio.open_connection(self.address.host, self.address.port, limit=HEADER_BYTES)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _request(
    method: str, path: str, query: dict[str, str] | None, body: Any, raw: bytes | None, *, upgrade: bool
) -> bytes:
    fields = [("Host", "engine"), ("Connection", "Upgrade" if upgrade else "close")]
    fields += [("Upgrade", "tcp")] if upgrade else []
    if raw is not None:
        data, fields = raw, [*fields, ("Content-Type", "application/x-tar")]
    elif body is not None:
        data, fields = msgspec.json.encode(body), [*fields, ("Content-Type", "application/json")]
    else:
        data = b""
    if data or method != "GET":
        fields.append(("Content-Length", str(len(data))))
    target = quote(path) + (f"?{urlencode(query)}" if query else "")
    return encode(f"{method} {target} HTTP/1.1", fields) + data


async def _whole(method: str, head: Head, reader: asyncio.StreamReader) -> bytes:
    body = response_body(method, head.start[1], head)
    found = bytearray()
    if body.length is None and not body.chunked:  # until the end of the connection
        while data := await reader.read(65536):
            found += data
            _bounded(found)
        return bytes(found)
    async for data in read_body(body, reader):
        found += data
        _bounded(found)
    return bytes(found)


def _bounded(found: bytearray) -> None:
    if len(found) > _MAX_ANSWER:
        raise BadMessage("its answer is too long")


def _refused(head: Head, answer: bytes) -> None:
    status = int(head.start[1]) if head.start[1].isdigit() else 0
    if 200 <= status < 400:
        return
    found = _decode(answer)
    text = found.get("message") if isinstance(found, dict) else None
    raise EngineError(status, str(text or answer[:300].decode(errors="replace")).strip()[:600])


def _decode(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer)
    except msgspec.MsgspecError:
        return None


class ExecStream:
    """A program's stdin and stdout as an engine's `exec` carries them: stdout and stderr in frames of one stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left = 0
        self._said = bytearray()  # the last of stderr
        writer.transport.set_write_buffer_limits(high=_QUEUED)

    @property
    def said(self) -> str:
        return self._said.decode(errors="replace").strip()

    async def read(self) -> bytes:
        while True:
            if self._left:
                data = await self._reader.read(min(self._left, 65536))
                self._left -= len(data)
                return data
            try:
                head = await self._reader.readexactly(8)
            except asyncio.IncompleteReadError:
                return b""
            size = int.from_bytes(head[4:], "big")
            if head[0] == 1:
                self._left = size
            elif head[0] == 2 and size <= HEADER_BYTES:
                self._said = (self._said + await self._reader.readexactly(size))[-2000:]
            else:
                raise EOFError("the engine's stream is out of order")

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        self._writer.transport.abort()
