"""A server of the Managed Agents API as a client sees it: this one, another one, or the hosted one, over HTTP.

What may pass (a full server, a lost connection) is tried again as long as the caller has patience; what will not, is
`Refused`. It must not know tasks. The HTTP library is imported in a thread at the first use.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
BETA = "managed-agents-2026-04-01"
VERSION = "2023-06-01"
TIMEOUT_SECONDS = 60.0
SILENCE_SECONDS = 90.0  # of a stream; the hosted service and ours say something every 15 to 30 seconds
MAX_PAUSE = 20.0
MAX_ANSWER = 64 * 1024 * 1024
MAX_PAGES = 10_000
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Refused(Exception):
    """The server will not do it, now or later."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Down(Exception):
    """It can't be had now. `after` is how long the server asked to wait, in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class TooLarge(Exception):
    """A file has more bytes than it may."""


class Fetched(NamedTuple):
    size: int
    sha256: str


class Http:
    """The connections of one process to such servers. To itself it goes `near`: past any proxy of the environment."""

    def __init__(self, *, near: bool = False) -> None:
        self._near = near
        self._client: httpx2.AsyncClient | None = None
        self._lock = asyncio.Lock()

    async def client(self) -> httpx2.AsyncClient:
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(_make, self._near)
            return self._client

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _make(near: bool) -> httpx2.AsyncClient:
    import httpx2

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0)
    timeout = httpx2.Timeout(TIMEOUT_SECONDS, connect=10.0)
    return httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=not near, verify=not near)  # itself has no TLS


class Remote:
    """One server, with the key that opens it."""

    def __init__(self, http: Http, base_url: str, api_key: str, *, bearer: bool = False) -> None:
        """`bearer` is how the Workspace API wants the key."""
        self._http = http
        self.base_url = base_url.rstrip("/")
        self._headers = {"anthropic-version": VERSION, "anthropic-beta": BETA, "x-api-key": api_key}
        if bearer:
            self._headers = {"authorization": f"Bearer {api_key}"}

    def __repr__(self) -> str:
        return f"Remote({self.base_url!r})"

    # -- requests --

    async def get(self, path: str, **query: str | int) -> Any:
        return await self._ask("GET", path, params=query)

    async def post(self, path: str, body: Any) -> Any:
        """Once. Who sends anything that must not happen twice has to look for it before trying again."""
        return await self._ask("POST", path, content=msgspec.json.encode(body))

    async def pages(self, path: str, **query: str | int) -> AsyncGenerator[dict[str, Any]]:
        """All of a list. Raises Refused for one that has no end, or is none."""
        page: str | None = None
        for _ in range(MAX_PAGES):
            found = await self.get(path, **query, **({"page": page} if page else {}))
            listed = found.get("data") if isinstance(found, dict) else None
            if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
                raise Refused(0, f"{path}: the answer is no list")
            for each in listed:
                yield each
            page = found.get("next_page")
            if not page:
                return
        raise Refused(0, f"{path}: the list has no end")

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        client = await self._http.client()
        headers = {**self._headers, "content-type": "application/json"}
        with _translated():
            async with client.stream(method, self.base_url + path, headers=headers, **more) as response:
                content = await _read(response)
        if response.status_code >= 400:
            raise _refusal(response.status_code, response.headers, content)
        try:
            return msgspec.json.decode(content) if content else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise Down(f"{path}: the answer is no JSON") from problem

    # -- streams --

    @asynccontextmanager
    async def events(self, session_id: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """What a session does from now on: open it, then list what was before. Raises Down, Refused."""
        import httpx2

        from hostler.models.bounds import bound

        client = await self._http.client()
        headers = {**self._headers, "accept": "text/event-stream"}
        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=10.0)
        url = f"{self.base_url}/v1/sessions/{session_id}/events/stream"
        with _translated():
            async with client.stream("GET", url, headers=headers, timeout=timeout) as response:
                if response.status_code >= 400:
                    raise _refusal(response.status_code, response.headers, await _read(response))
                await bound(response)  # one that has no end is opened again, and goes on where it was
                yield _decoded(response)

    async def fetch(self, file_id: str, to: Path, limit: int) -> Fetched:
        """A file's bytes into a file here. Raises TooLarge, Down, Refused, OSError."""
        client = await self._http.client()
        digest, size = hashlib.sha256(), 0
        url = f"{self.base_url}/v1/files/{file_id}/content"
        with _translated():
            async with client.stream("GET", url, headers=self._headers) as response:
                if response.status_code >= 400:
                    raise _refusal(response.status_code, response.headers, await _read(response))
                with to.open("wb") as out:
                    async for chunk in response.aiter_bytes():
                        size += len(chunk)
                        if size > limit:
                            raise TooLarge
                        digest.update(chunk)
                        await asyncio.to_thread(out.write, chunk)
                    await asyncio.to_thread(_flush, out)
        return Fetched(size, digest.hexdigest())


async def _read(response: httpx2.Response) -> bytes:
    """What it answers, as far as that is bounded: it may be compressed. Raises Refused."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise Refused(0, f"its answer has more than {MAX_ANSWER} bytes")
    return bytes(content)


def _flush(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


async def _decoded(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    import httpx2

    async for event in httpx2.EventSource(response):
        try:
            found = msgspec.json.decode(event.data) if event.data else None
        except msgspec.DecodeError:
            continue
        if isinstance(found, dict) and "type" in found:
            yield found


class _translated:
    """What the HTTP library raises, as ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, asyncio.CancelledError):
            return
        import httpx2

        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
            raise Refused(0, f"it can't be asked: {error}") from error
        if isinstance(error, httpx2.HTTPError):
            raise Down(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _refusal(status: int, headers: Any, body: bytes) -> Exception:
    message = _message(body) or f"HTTP {status}"
    if status not in _PASSING:
        return Refused(status, f"{message} (HTTP {status})")
    return Down(f"{message} (HTTP {status})", _seconds(headers.get("retry-after")))


def _message(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body)
        error = said["error"]
        return str((error if isinstance(error, dict) else said)["message"])[:1000]  # the Workspace API's has no object
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip()


def _seconds(value: str | None) -> float | None:
    try:
        return min(max(0.0, float(value)), 120.0) if value else None
    except ValueError:
        return None


async def patiently(work: Callable[[], Awaitable[T]], *, until: float | None = None) -> T:
    """Try until it does not raise Down, with pauses that grow; `until` is the event loop's time of the last try.
    Raises what `work` raises."""
    attempt = 0
    while True:
        try:
            return await work()
        except Down as problem:
            pause = problem.after if problem.after is not None else min(MAX_PAUSE, 0.25 * 2 ** min(attempt, 10))
            pause *= random.uniform(0.8, 1.2)
            if until is not None and asyncio.get_running_loop().time() + pause > until:
                raise
            attempt += 1
            await asyncio.sleep(pause)
