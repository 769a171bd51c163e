"""The server's end of the connections that a container's programs open to the egress proxy (native/channels.c).

They share one stream; each has a window in either direction, so none holds up another and little is ever held. Each
becomes a connection to a local socket, so the proxy serves a container as it serves any sandbox. It must not look into
what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable
from enum import IntEnum

from hostler.sandbox.container.streams import Stream

WINDOW = 128 * 1024
MAX_CHANNELS = 256
_PART = 16 * 1024
_HEAD = struct.Struct("<BII")
_PING_SECONDS = 60.0

log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Kind(IntEnum):
    """What a frame says; the length of a CREDIT is how many bytes more may be sent."""

    OPEN = 1
    DATA = 2
    END = 3
    RESET = 4
    CREDIT = 5
    PING = 6


class BrokenStream(Exception):
    """The other end does not keep to the protocol."""


class _Channel:
    """One connection: what has come for it and was not yet passed on, and how much may still be sent."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()  # bounded by the window; an empty part is the end
        self.held = 0
        self.credit = WINDOW
        self.more = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Channels:
    """Serves one stream. `connect` opens a connection to whoever serves the container's programs."""

    def __init__(self, stream: Stream, connect: Connect) -> None:
        self._stream = stream
        self._connect = connect
        self._open: dict[int, _Channel] = {}

    async def run(self) -> None:
        """Carry until the stream ends or this is cancelled, which ends all connections. Raises OSError, EOFError."""
        try:
            async with asyncio.TaskGroup() as group:
                ping = group.create_task(self._ping())
                try:
                    await self._receive(group)
                finally:
                    ping.cancel()
                    for channel in self._open.values():
                        if channel.task is not None:
                            channel.task.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            self._stream.close()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            self._put(Kind.PING, 0)

    async def _receive(self, group: asyncio.TaskGroup) -> None:
        buffer = bytearray()
        while data := await self._stream.read():
            buffer += data
            at = 0
            while len(buffer) - at >= _HEAD.size:
                kind, number, length = _HEAD.unpack_from(buffer, at)
                size = length if kind == Kind.DATA else 0
                if size > WINDOW:
                    raise BrokenStream
                if len(buffer) - at < _HEAD.size + size:
                    break
                at += _HEAD.size
                self._take(group, kind, number, length, bytes(buffer[at : at + size]))
                at += size
            del buffer[:at]

    def _take(self, group: asyncio.TaskGroup, kind: int, number: int, length: int, data: bytes) -> None:
        channel = self._open.get(number)
        if kind == Kind.OPEN:
            if channel is not None or len(self._open) >= 2 * MAX_CHANNELS:
                raise BrokenStream
            channel = self._open[number] = _Channel()
            channel.task = group.create_task(self._serve(number, channel))
        elif channel is None:
            return  # it has ended here, while the other end did not know it yet
        elif kind == Kind.DATA:
            channel.held += len(data)
            if channel.held > WINDOW:
                raise BrokenStream
            channel.queue.put_nowait(data)
        elif kind == Kind.END:
            channel.queue.put_nowait(b"")
        elif kind == Kind.CREDIT:
            channel.credit = min(channel.credit + length, WINDOW)
            channel.more.set()
        elif kind == Kind.RESET and channel.task is not None:
            self._open.pop(number)
            channel.task.cancel()

    async def _serve(self, number: int, channel: _Channel) -> None:
        """One connection, whose every failure is its own."""
        writer = None
        try:
            reader, writer = await self._connect()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._outward(number, channel, writer))
                both.create_task(self._inward(number, channel, reader))
            self._open.pop(number, None)
        except* Exception as failed:
            if (fault := failed.subgroup(lambda error: not isinstance(error, OSError))) is not None:
                log.error("a connection of a container failed", exc_info=fault)
            if self._open.pop(number, None) is not None:
                self._put(Kind.RESET, number)
        finally:
            self._open.pop(number, None)
            if writer is not None:
                writer.transport.abort() if _unread(writer) else writer.close()

    async def _outward(self, number: int, channel: _Channel, writer: asyncio.StreamWriter) -> None:
        """From the program inside to the proxy."""
        while data := await channel.queue.get():
            writer.write(data)
            await writer.drain()
            channel.held -= len(data)
            self._put(Kind.CREDIT, number, len(data))
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _inward(self, number: int, channel: _Channel, reader: asyncio.StreamReader) -> None:
        """From the proxy to the program inside, no more than it has room for."""
        while data := await reader.read(min(_PART, channel.credit)):
            channel.credit -= len(data)
            self._put(Kind.DATA, number, len(data), data)
            await self._stream.drain()
            while not channel.credit:
                channel.more.clear()
                await channel.more.wait()
        self._put(Kind.END, number)

    def _put(self, kind: Kind, number: int, length: int = 0, data: bytes = b"") -> None:
        self._stream.write(_HEAD.pack(kind, number, length) + data)


def _unread(writer: asyncio.StreamWriter) -> bool:
    return writer.transport.get_write_buffer_size() > 0
