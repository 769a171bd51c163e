"""Speaks with the init of a container over a stream to its relay (native/relay.c), which has bytes for descriptors.

Knows nothing of engines, and starts nothing. Only `SteadyLink` asks for anything twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

from hostler.sandbox.container.streams import Stream
from hostler.sandbox.contract import OUTPUT_LIMIT, SandboxUnavailable
from hostler.sandbox.initlink import ANSWER_BYTES, Answer, Link, Op, Request

_LENGTH = struct.Struct("<I")
_LONGEST = 2 * OUTPUT_LIMIT + ANSWER_BYTES  # stdout and stderr of one call
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_FRUITLESS = 4  # streams in turn that broke off without an answer: what is at the other end is no relay of ours
_PING_SECONDS = 60.0  # the relay takes three times as much silence for the server's end


class Ended(SandboxUnavailable):
    """The container is gone, so that no other stream to it can be had."""


class RelayLink(Link):
    """The connection owns the stream and two tasks; `aclose` ends them. While it is `broken`, answers have to wait."""

    broken = False

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._tasks = [
            asyncio.create_task(self._listen(), name="answers of a container"),
            asyncio.create_task(self._ping(), name="signs of life to a container"),
        ]

    def _send(self, request: Request) -> None:
        rest = request.head() + request.call_id + request.payload
        self._stream.write(_LENGTH.pack(len(rest) + len(request.stdin)) + rest)
        if request.stdin:
            self._stream.write(request.stdin)

    async def _listen(self) -> None:
        try:
            await self._receive()
        finally:
            self.close()  # whoever waits hears that the sandbox is not there

    async def _receive(self) -> None:
        """Take answers until the stream ends."""
        buffer = bytearray()
        with contextlib.suppress(OSError, EOFError, ValueError):
            while data := await self._stream.read():
                buffer += data
                while (message := _cut(buffer)) is not None:
                    self._answered(message, -1)

    async def _ping(self) -> None:
        with contextlib.suppress(SandboxUnavailable):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                try:
                    async with asyncio.timeout(_PING_SECONDS):
                        await self.ask(Op.HELLO)
                except TimeoutError:
                    self._stream.close()  # it is dead, though nobody said so

    def _let_go(self) -> None:
        self._stream.close()
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Let go, and wait until nothing of the connection is left."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class SteadyLink(RelayLink):
    """A connection that outlasts its stream: when one breaks off, another is asked for, `patience` seconds long, and
    what is unanswered is asked for again. No call is run twice: the init is first asked whether it knows it.

    `reopen` raises `Ended` where it is no use to try again, `SandboxUnavailable` where it is.
    """

    def __init__(self, stream: Stream, reopen: Callable[[], Awaitable[Stream]], *, patience: float) -> None:
        super().__init__(stream)
        self._reopen = reopen
        self._patience = patience
        self._unanswered: dict[int, Request] = {}
        self._doubtful: set[int] = set()  # those that the init may not have heard of
        self._fruitless = 0

    def _send(self, request: Request) -> None:
        self._unanswered[request.seq] = request
        if not self.broken:
            super()._send(request)

    def _forget(self, seq: int) -> None:
        super()._forget(seq)
        self._unanswered.pop(seq, None)
        self._doubtful.discard(seq)

    def _answered(self, message: bytes, fd: int) -> None:
        seq = Answer(message, -1).seq
        self._fruitless = 0
        if seq in self._doubtful:
            self._doubtful.discard(seq)
            if Answer(message, -1).unknown:
                super()._send(self._unanswered[seq])
                return
        super()._answered(message, fd)

    async def _listen(self) -> None:
        try:
            while True:
                await self._receive()
                self.broken = True
                self._stream.close()
                self._fruitless += 1
                if self._fruitless > _FRUITLESS:
                    raise SandboxUnavailable("the streams to the sandbox break off")
                self._stream = await self._another()
                self.broken = False
                self._ask_again()
        except SandboxUnavailable as error:
            self.close(str(error))
        finally:
            self.close()

    async def _another(self) -> Stream:
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        if self._fruitless > 1:
            await asyncio.sleep(pause * self._fruitless)
        end = loop.time() + self._patience
        while True:
            try:
                return await self._reopen()
            except Ended:
                raise
            except (SandboxUnavailable, OSError) as error:
                if loop.time() + pause > end:
                    raise SandboxUnavailable(f"the way to the sandbox is broken: {error}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _ask_again(self) -> None:
        for seq, request in self._unanswered.items():
            if request.op in (Op.EXEC, Op.SHELL, Op.RESTART):
                self._doubtful.add(seq)
                request = request._replace(op=Op.ATTACH, payload=b"", stdin=b"", timeout_ms=0, keeper=False)
            super()._send(request)


def _cut(buffer: bytearray) -> bytes | None:
    """Take one whole message out of what has come. Raises ValueError for one that no init sends."""
    if len(buffer) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack_from(buffer)
    if not ANSWER_BYTES <= size <= _LONGEST:
        raise ValueError(f"a message of {size} bytes")
    end = _LENGTH.size + size
    if len(buffer) < end:
        return None
    message = bytes(memoryview(buffer)[_LENGTH.size : end])
    del buffer[:end]
    return message
