"""Speaks with the init of a container over a stream to its relay (native/relay.c), which has bytes for descriptors.

Knows nothing of engines. It never retries and never starts anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct

from hostler.sandbox.container.streams import Stream
from hostler.sandbox.contract import OUTPUT_LIMIT, SandboxUnavailable
from hostler.sandbox.initlink import ANSWER_BYTES, Link, Op, Request

_LENGTH = struct.Struct("<I")
_LONGEST = 2 * OUTPUT_LIMIT + ANSWER_BYTES  # stdout and stderr of one call
_PING_SECONDS = 60.0  # the relay takes three times as much silence for the server's end


class RelayLink(Link):
    """The connection owns the stream and two tasks; `aclose` ends them."""

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
        buffer = bytearray()
        try:
            while data := await self._stream.read():
                buffer += data
                while (message := _cut(buffer)) is not None:
                    self._answered(message, -1)
        except (OSError, EOFError, ValueError):
            pass  # whoever waits hears that the sandbox is not there
        finally:
            self.close()

    async def _ping(self) -> None:
        with contextlib.suppress(SandboxUnavailable):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                await self.ask(Op.HELLO)

    def _let_go(self) -> None:
        self._stream.close()
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Let go, and wait until nothing of the connection is left."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


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
