"""Bounds a whole answer's time and size at the byte level, where comments and pings that carry no event count too.

It imports `httpx2`, so it must itself only be imported once that is wanted: when a client is made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx2

MAX_SECONDS = 3600.0
MAX_BYTES = 256 * 1024 * 1024


class AnswerTooLong(httpx2.TransportError):
    """The answer exceeds its bound of time or size."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner
        self._deadline = time.monotonic() + MAX_SECONDS
        self._left = MAX_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise AnswerTooLong(f"longer than {MAX_BYTES} bytes")
            if time.monotonic() > self._deadline:
                raise AnswerTooLong(f"not complete after {MAX_SECONDS:g} seconds")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def bound(response: httpx2.Response) -> None:
    """A client's `response` event hook."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)
