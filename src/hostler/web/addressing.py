"""Finds the addresses of a host that may be fetched from. Whoever connects must connect to exactly these.

It must not let a name decide: only the addresses it has right now, all of them.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from hostler.addresses import is_numeric, is_own, is_public
from hostler.web.config import WebConfig
from hostler.web.problem import WebProblem
from hostler.web.urls import PORTS, Url

Resolve = Callable[[str, int], Awaitable[list[str]]]

THREADS = 8
_LOCAL_NAME = re.compile(r"[^.]*|(?:.*\.)(?:localhost|local|localdomain|internal|intranet|lan|home\.arpa)")
_NOT_PUBLIC = "This host has an address that is not public, so it can't be fetched."


class Addressing:
    """`resolve` is replaced in tests only. The system's resolver runs on threads of its own: a slow name server must
    hold up nothing but fetches."""

    def __init__(self, config: WebConfig, resolve: Resolve | None = None) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(THREADS, "web-resolver")
        self._resolve = resolve or self._look_up

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def of(self, url: Url) -> list[str]:
        """The addresses, or none where a configured proxy must find them. Raises WebProblem."""
        private = self._config.may_be_private(url.host, url.port)
        if not private and url.port not in PORTS.values() and url.port < 1024:
            raise WebProblem("url_not_allowed", "Only ports 80, 443 and those from 1024 on can be fetched from.")
        proxied = bool(self._config.proxy) and not is_numeric(url.host)
        if proxied and not private and _LOCAL_NAME.fullmatch(url.host):
            raise WebProblem("url_not_allowed", _NOT_PUBLIC)
        found = await self._found(url)
        if not found and not proxied:
            raise WebProblem("url_not_accessible", "The host's name can't be resolved.")
        if not private and not all(is_public(address) and not is_own(address) for address in found):
            raise WebProblem("url_not_allowed", _NOT_PUBLIC)
        return found

    async def _found(self, url: Url) -> list[str]:
        try:
            async with asyncio.timeout(self._config.connect_seconds):
                return await self._resolve(url.host, url.port)
        except TimeoutError:
            raise WebProblem("url_not_accessible", "The host's name was not resolved in time.") from None
        except (OSError, UnicodeError):
            return []

    async def _look_up(self, host: str, port: int) -> list[str]:
        def look_up() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
