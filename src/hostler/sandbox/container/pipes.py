"""Lets a thread read and write a program inside a container, whose stream belongs to the event loop.

Nothing waits for ever: each wait has an end, and ends sooner when nobody wants the work any more. It must not know what
is carried.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from hostler.sandbox.container.streams import Stream
from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.packing import Budget

T = TypeVar("T")
_PATIENCE = 120.0
_LOOK_SECONDS = 0.2
_BATCH = 256 * 1024
_MAX_ANSWER = 1000


class StreamPipe:
    """Made in the event loop's thread, used in another one. It does not close the stream."""

    def __init__(self, stream: Stream, budget: Budget, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._budget = budget
        self._loop = loop
        self._got = bytearray()
        self._queued = bytearray()

    def read(self, count: int) -> bytes:
        while len(self._got) < count:
            data = self._wait(self._read())
            if not data:
                raise SandboxUnavailable("the program that carries the sandbox's files ended early")
            self._got += data
        data = bytes(self._got[:count])
        del self._got[:count]
        return data

    def write(self, data: bytes) -> None:
        self._queued += data
        if len(self._queued) >= _BATCH:
            self._flush()

    def answer(self) -> str:
        self._flush()
        while len(self._got) < _MAX_ANSWER and not self._got.endswith(b"\n") and (more := self._wait(self._read())):
            self._got += more
        return self._got[:_MAX_ANSWER].decode(errors="replace").strip()

    async def _read(self) -> bytes:
        return await self._stream.read()

    def _flush(self) -> None:
        data = bytes(self._queued)
        self._queued.clear()
        self._wait(self._write(data))

    async def _write(self, data: bytes) -> None:
        self._stream.write(data)
        await self._stream.drain()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        end = time.monotonic() + _PATIENCE
        try:
            while not concurrent.futures.wait([future], _LOOK_SECONDS).done:
                self._budget.look()
                if time.monotonic() > end:
                    raise SandboxUnavailable("the program that carries the sandbox's files does not go on")
            return future.result()
        except (OSError, EOFError) as error:
            raise SandboxUnavailable(f"the way to the sandbox's files broke off: {error}") from error
        finally:
            future.cancel()
