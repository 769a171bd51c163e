"""Makes HTTP clients for fetch and search. The library and the TLS certificates are loaded in a thread, at first use:
both cost too much on the way to server-ready. It must not decide what may be reached."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

USER_AGENT = "Hostler (self-hosted agent server)"


class Clients:
    def __init__(self, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._context: ssl.SSLContext | None = None
        self._lock = asyncio.Lock()

    async def make(self, *, seconds: float, proxy: str = "") -> httpx2.AsyncClient:
        """A client that follows no redirect, keeps no connection and obeys no variable of the environment."""
        async with self._lock:
            if self._context is None:
                self._context = await asyncio.to_thread(_load)
        import httpx2

        return httpx2.AsyncClient(
            verify=self._context,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(seconds, connect=self._connect_seconds),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            proxy=proxy or None,
            headers={"user-agent": USER_AGENT},
        )


def _load() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()
