"""Posts a request and yields the server-sent events of the answer, for every protocol read without a vendor's library.

It must not know what the events mean, and it raises nothing but `ModelFailure`. The `httpx2` library is imported and
its TLS context built in a thread at `warm_up` or at the first request: both cost too much on the way to server-ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from hostler.models import failures
from hostler.models.protocol import ModelFailure
from hostler.models.provider import ProviderSettings

if TYPE_CHECKING:
    import httpx2

MAX_ERROR_BYTES = 64 * 1024
DRAIN_SECONDS = 0.5
KEEP_IDLE_SECONDS = 60.0


class EventClient:
    """One vendor endpoint. Connections are pooled; silence, total time and size of an answer are bounded."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._client: httpx2.AsyncClient | None = None
        self._lock = asyncio.Lock()

    async def warm_up(self) -> None:
        """Import the HTTP library and build the client off the event loop; later calls cost nothing."""
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make_client)

    def _make_client(self) -> httpx2.AsyncClient:
        import httpx2

        from hostler.models.bounds import bound

        s = self._settings
        return httpx2.AsyncClient(
            timeout=httpx2.Timeout(s.read_timeout, connect=s.connect_timeout),
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=256, keepalive_expiry=KEEP_IDLE_SECONDS
            ),
            trust_env=not s.is_local,
            event_hooks={"response": [bound]},
        )

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> AsyncGenerator[httpx2.ServerSentEvent]:
        """Yield the answer's events. Whoever iterates must close the iterator to end the request early."""
        if self._client is None:
            await self.warm_up()
        import httpx2

        try:
            async with aclosing(self._events(url, headers, body)) as events:
                async for event in events:
                    yield event
        except ModelFailure:
            raise
        except httpx2.TimeoutException as error:
            raise self._timed_out(error) from None
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            raise failures.unreachable(self._redact(error)) from None
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, ValueError) as error:
            raise failures.refused(f"the model request could not be built: {self._redact(error)}") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise failures.broken(self._redact(error)) from None

    async def _events(self, url: str, headers: dict[str, str], body: bytes) -> AsyncGenerator[httpx2.ServerSentEvent]:
        import httpx2

        assert self._client is not None
        headers = {"content-type": "application/json", "accept": "text/event-stream", **headers}
        headers.setdefault("accept-encoding", "identity")
        async with self._reach(url, headers, body) as response:
            if response.status_code != 200:
                raise await self._refusal(response)
            await self._check_is_stream(response)
            async for event in httpx2.EventSource(response):
                yield event

    @asynccontextmanager
    async def _reach(self, url: str, headers: dict[str, str], body: bytes) -> AsyncGenerator[httpx2.Response]:
        """Send the request. A kept connection that the server was just closing is not a failure of the model: when it
        ends before the first byte of an answer, the request goes out once more. A new connection gets no second try."""
        import httpx2

        opened = False

        async def trace(name: str, _: object) -> None:
            nonlocal opened
            opened = opened or name == "connection.connect_tcp.started"

        assert self._client is not None
        request = self._client.build_request("POST", url, headers=headers, content=body, extensions={"trace": trace})
        try:
            response = await self._client.send(request, stream=True)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            if opened:
                raise
            request = self._client.build_request("POST", url, headers=headers, content=body)
            response = await self._client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _refusal(self, response: httpx2.Response) -> ModelFailure:
        body = await _read_some(response)
        return failures.from_status(
            response.status_code,
            response.headers,
            body,
            key_hint=self._settings.key_hint,
            secrets=self._settings.secrets,
        )

    async def _check_is_stream(self, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return
        body = await _read_some(response)
        if b'"error"' in body:
            raise failures.from_error_event(_error_in(body), *self._settings.secrets)
        raise failures.broken(f"it has the content type {kind or 'none'!r} instead of text/event-stream")

    def _timed_out(self, error: Exception) -> ModelFailure:
        s = self._settings
        if type(error).__name__ in ("ConnectTimeout", "PoolTimeout"):
            return failures.unreachable(f"no connection within {s.connect_timeout:g} seconds")
        return failures.broken(f"no byte arrived for {s.read_timeout:g} seconds")

    def _redact(self, error: Exception) -> str:
        return failures.redact(f"{type(error).__name__}: {error}", *self._settings.secrets)


async def drain(events: AsyncIterator[object]) -> None:
    """Read on to the end of an answer that is complete, so that its connection can be used again.

    A server that doesn't end it soon loses the connection, and what goes wrong now no longer matters.
    """
    with suppress(TimeoutError, ModelFailure):
        await asyncio.wait_for(_exhaust(events), DRAIN_SECONDS)


async def _exhaust(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


async def _read_some(response: httpx2.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= MAX_ERROR_BYTES:
            break
    return body[:MAX_ERROR_BYTES]


def _error_in(body: bytes) -> object:
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")
    return decoded.get("error", decoded) if isinstance(decoded, dict) else decoded
