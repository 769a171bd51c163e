"""Gets a page: checks the URL and every redirect, connects to the very address that was checked, bounds everything.

It must not look into what it got: the bytes are read in a process of their own (`reading`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from hostler.web.addressing import Addressing, Resolve
from hostler.web.client import Clients
from hostler.web.config import WebConfig
from hostler.web.domains import Rules
from hostler.web.inflate import ACCEPTED, Inflater
from hostler.web.problem import Code, WebProblem
from hostler.web.urls import Url, follow

if TYPE_CHECKING:
    import httpx2

MIB = 1024 * 1024
MAX_REDIRECTS = 8
MAX_ADDRESSES = 3
ACCEPT = "text/html, application/xhtml+xml, application/pdf, text/*, application/json, application/xml;q=0.9, */*;q=0.5"
_REDIRECTS = (301, 302, 303, 307, 308)


class Fetched(Struct, frozen=True, kw_only=True):
    """What a server answered in the end. `cut` says that there is more than was taken."""

    url: str
    content_type: str
    body: bytes
    cut: bool
    redirected: bool


class Fetcher:
    """One instance serves all sessions of a process. `resolve` is replaced in tests only."""

    def __init__(self, config: WebConfig, resolve: Resolve | None = None) -> None:
        self._config = config
        self._addressing = Addressing(config, resolve)
        self._clients = Clients(connect_seconds=config.connect_seconds)
        self._seats = asyncio.Semaphore(config.fetches_at_once)

    def close(self) -> None:
        self._addressing.close()

    async def fetch(self, url: Url, rules: Rules) -> Fetched:
        """Get what a URL leads to. Raises WebProblem. Cancelling it closes the connection."""
        try:
            async with self._seats, asyncio.timeout(self._config.fetch_seconds):
                return await self._follow(url, rules)
        except TimeoutError:
            message = f"The page did not arrive within {self._config.fetch_seconds:g} seconds."
            raise WebProblem("url_not_accessible", message) from None

    async def _follow(self, url: Url, rules: Rules) -> Fetched:
        for hop in range(MAX_REDIRECTS + 1):
            rules.check(url, redirected=hop > 0)
            found = await self._get(url, redirected=hop > 0)
            if isinstance(found, Fetched):
                return found
            url = follow(url, found)
        raise WebProblem("url_not_accessible", f"The server redirects more than {MAX_REDIRECTS} times.")

    async def _get(self, url: Url, *, redirected: bool) -> Fetched | str:
        """The answer, or where it redirects to."""
        addresses = await self._addressing.of(url)
        proxy = "" if self._config.may_be_private(url.host, url.port) else self._config.proxy
        # A proxy is given the name, by which it knows its rules and finds hosts that this machine can't resolve.
        hosts = [url.host] if proxy else addresses[:MAX_ADDRESSES]
        async with await self._clients.make(seconds=self._config.fetch_seconds, proxy=proxy) as client:
            import httpx2

            try:
                response = await _connect(client, url, hosts)
                try:
                    return await self._answer(url, response, redirected=redirected)
                finally:
                    await response.aclose()
            except httpx2.HTTPError as error:
                raise _unreachable(error) from None

    async def _answer(self, url: Url, response: httpx2.Response, *, redirected: bool) -> Fetched | str:
        status = response.status_code
        if status in _REDIRECTS and (location := response.headers.get("location")):
            return location
        if not 200 <= status < 300:
            code: Code = "too_many_requests" if status == 429 else "url_not_accessible"
            raise WebProblem(code, f"The server answered with HTTP status {status}.")
        inflater = Inflater(response.headers.get("content-encoding", ""), self._config.fetch_mb * MIB)
        async for chunk in response.aiter_raw():
            inflater.feed(chunk)
            if inflater.full:
                break
        kind = response.headers.get("content-type", "")
        return Fetched(url=str(url), content_type=kind, body=inflater.body, cut=inflater.full, redirected=redirected)


async def _connect(client: httpx2.AsyncClient, url: Url, hosts: list[str]) -> httpx2.Response:
    """The head of the answer, from the first address that takes a connection."""
    import httpx2

    for host in hosts[:-1]:
        with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
            return await client.send(_request(client, url, host), stream=True)
    return await client.send(_request(client, url, hosts[-1]), stream=True)


def _request(client: httpx2.AsyncClient, url: Url, host: str) -> httpx2.Request:
    """A request to `host` for the URL: an address takes the place of its name, which stays in Host and in TLS."""
    shown = f"[{host}]" if ":" in host else host
    headers = {"host": url.authority, "accept": ACCEPT, "accept-encoding": ACCEPTED, "connection": "close"}
    where = f"{url.scheme}://{shown}:{url.port}{url.target}"
    return client.build_request("GET", where, headers=headers, extensions={"sni_hostname": url.host})


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unreachable(error: Exception) -> WebProblem:
    """In words that name no address of ours."""
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return WebProblem("url_not_accessible", "The host's TLS certificate or connection is not valid.")
    if "timeout" in type(error).__name__.lower():
        return WebProblem("url_not_accessible", "The host did not answer in time.")
    if "Connect" in type(error).__name__:
        return WebProblem("url_not_accessible", "No connection to the host.")
    if "Proxy" in type(error).__name__:
        return WebProblem("unavailable", "The server's proxy did not let this through.")
    return WebProblem("url_not_accessible", "The host's answer is no valid HTTP or broke off.")
