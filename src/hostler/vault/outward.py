"""Requests that carry secrets out: one at a time, bounded in time and size, never redirected. It must not know what
they mean.

A redirect would take the secret to another host, so it is an answer like any other. The `httpx2` library is imported,
and its TLS context built in a thread, at the first request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from hostler.vault.urls import is_loopback

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 5.0
MOST_BYTES = 64 * 1024


class Unreachable(Exception):
    """No answer came: name, connection, TLS or time. Its text names the kind of failure only, never a secret."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer, its body cut at `MOST_BYTES`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def __repr__(self) -> str:
        return f"Answer({self.status})"


class Outward:
    """The clients of one process: one for this machine, which no proxy may see, and one for all else."""

    def __init__(self) -> None:
        self._clients: dict[bool, httpx2.AsyncClient] = {}
        self._lock = asyncio.Lock()

    async def aclose(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].aclose()

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> Answer:
        """Send a request and read its answer, all within `seconds`. Raises Unreachable."""
        async with self.stream(method, url, headers, body, seconds) as response:
            content, truncated = await read_some(response, MOST_BYTES)
            return Answer(response.status_code, response.headers, content, truncated)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> AsyncIterator[httpx2.Response]:
        """The answer while it comes in; `seconds` bound the whole block. Raises Unreachable, from the block too."""
        import httpx2

        headers = {**headers, "accept-encoding": "identity"}  # what is packed could unfold without bounds
        try:
            client = await self._client(local=is_loopback(url))
            async with (
                asyncio.timeout(seconds),
                client.stream(method, url, headers=headers, content=body) as response,
            ):
                yield response
        except TimeoutError:
            raise Unreachable(f"no complete answer within {seconds:g} seconds") from None
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.StreamError, UnicodeError, OSError) as error:
            raise Unreachable(type(error).__name__) from None

    async def _client(self, *, local: bool) -> httpx2.AsyncClient:
        async with self._lock:
            if local not in self._clients:
                self._clients[local] = await asyncio.to_thread(_make_client, local)
            return self._clients[local]


async def read_some(response: httpx2.Response, most: int) -> tuple[bytes, bool]:
    """The body up to `most` bytes, and whether there was more."""
    parts, size = [], 0
    async for chunk in response.aiter_raw():
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            return b"".join(parts)[:most], True
    return b"".join(parts), False


def _make_client(local: bool) -> httpx2.AsyncClient:
    import httpx2

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=not local,
        limits=httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0),
    )
