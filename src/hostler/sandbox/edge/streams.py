"""The two ends of a connection as the proxy sees them: bytes that come, bytes that go, in the clear or through TLS.

TLS itself is the standard library's `ssl` (OpenSSL) in both directions. It must not interpret what it carries.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from asyncio import StreamReader, StreamReaderProtocol, StreamWriter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

CHUNK = 65536
_REST = 1024 * 1024


class Stream(Protocol):
    """One end. A failure of the connection is an OSError."""

    async def read(self) -> bytes:
        """What has come, b"" once the other side has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Send, and wait for a slow reader."""
        ...

    async def end(self) -> None:
        """Say that nothing more is sent; reading goes on."""
        ...


def _ignore(received: int, sent: int) -> None:
    """Nobody counts."""


class Plain:
    """A stream of a socket. `moved` is told how many bytes came and went, and may raise to end the connection."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        moved: Callable[[int, int], None] = _ignore,
        first: bytes = b"",
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._moved = moved
        self._first = first

    def put_back(self, data: bytes) -> None:
        """Bytes that were read to look at them only: the next read gives them again."""
        self._first = data + self._first

    async def read(self) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        data = await self._reader.read(CHUNK)
        self._moved(len(data), 0)
        return data

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        self._moved(0, len(data))

    async def end(self) -> None:
        if self._writer.can_write_eof():
            with suppress(OSError, RuntimeError):
                self._writer.write_eof()


class Tls:
    """TLS over another stream. With `host`, we are the client and the server must prove to be that host."""

    def __init__(self, inner: Stream, context: ssl.SSLContext, host: str | None = None) -> None:
        self._inner = inner
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=host is None, server_hostname=host)
        self._first = b""

    async def handshake(self, seconds: float) -> str | None:
        """Gives the application protocol that was agreed on. Raises ssl.SSLError, OSError or TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._carry(self._tls.do_handshake)
        return self._tls.selected_alpn_protocol()

    def put_back(self, data: bytes) -> None:
        self._first = data + self._first

    async def read(self) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        with suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return bytes(await self._carry(lambda: self._tls.read(CHUNK)))
        return b""

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            part = data[start : start + CHUNK]
            await self._carry(lambda part=part: self._tls.write(part))  # type: ignore[misc]

    async def end(self) -> None:
        with suppress(ssl.SSLError):  # the other side's own end comes when it comes
            self._tls.unwrap()
        await self._flush()

    async def _carry(self, act: Callable[[], Any]) -> Any:
        """Do it, and carry what OpenSSL wants sent and needs to receive. Its steps run whole between two awaits."""
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._inner.read():
                    self._received.write(data)
                else:
                    self._received.write_eof()
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if data := self._to_send.read():
            await self._inner.write(data)


class PatientReader(StreamReader):
    """Gives all that has come before it tells of a connection that broke. A server may answer a request that it does
    not want to the end, and hang up: the answer has come, though sending fails."""

    _failure: BaseException | None = None

    @property
    def _exception(self) -> BaseException | None:  # what StreamReader asks first
        return None if self._buffer else self._failure  # type: ignore[attr-defined]

    @_exception.setter
    def _exception(self, failure: BaseException | None) -> None:
        self._failure = failure
        if failure is not None:
            self._eof = True  # for whoever wants more than has come


class _PatientProtocol(StreamReaderProtocol):
    """An event loop closes a connection as soon as sending fails, and forgets what lies unread in the kernel: it is
    read through another descriptor."""

    _other = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._other = os.dup(transport.get_extra_info("socket").fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            if exc is not None and (rest := _unread(self._other)):
                with suppress(RuntimeError):  # a reader that has enough wants to pause what is closed
                    self.data_received(rest)
        finally:
            os.close(self._other)
        super().connection_lost(exc)


def _unread(descriptor: int) -> bytes:
    data = b""
    with suppress(OSError):
        while len(data) < _REST and (more := os.read(descriptor, CHUNK)):
            data += more
    return data


async def connect(address: str, port: int, limit: int) -> tuple[StreamReader, StreamWriter]:
    """A connection with a patient reader. `address` is numeric: no name is resolved here."""
    loop = asyncio.get_running_loop()
    reader = PatientReader(limit=limit, loop=loop)
    protocol = _PatientProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, address, port, flags=socket.AI_NUMERICHOST)
    return reader, StreamWriter(transport, protocol, reader, loop)


class Unwanted(ConnectionError):
    """The other side takes no more; what it has sent before may still come."""


async def pump(source: Stream, sink: Stream) -> None:
    """Carry bytes to the end of the source, and say it on. Raises `Unwanted` where the sink takes no more."""
    while data := await source.read():
        try:
            await sink.write(data)
        except ConnectionError as error:
            raise Unwanted(*error.args) from error
    await sink.end()


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run to the end of all, or to the first failure, which is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the block: its failure ends the block, the end of the block ends it."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            task.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def join(client: Stream, server: Stream) -> None:
    """Carry bytes both ways; the end of one direction leaves the other open, also where a server takes no more."""
    answered = asyncio.Event()

    async def up() -> None:
        try:
            await pump(client, server)
        except Unwanted:
            await answered.wait()

    async def down() -> None:
        await pump(server, client)
        answered.set()

    await together(up(), down())
