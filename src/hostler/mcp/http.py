"""The HTTP of one MCP connection: the credential, the size of answers, and whether a call was sent at all.

It must not send the credential anywhere but to the origin of the server's URL. It imports `httpx2`, so it must itself
only be imported once a connection is wanted.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from functools import cache
from typing import Any, Protocol

import httpx2
import msgspec

from hostler.mcp.config import McpConfig
from hostler.mcp.own import SESSION_HEADER

CONNECT_SECONDS = 10.0
TOKENS = 8  # of one connection that are kept out of messages
HIDDEN = "[redacted]"
SHORTEST_HIDDEN = 8  # characters: to take a shorter one out of a text would only spoil the text
SILENCE_SECONDS = 600.0  # of a stream that no call waits for; servers send comments more often
CALL_MARGIN = 30.0


@cache
def tls() -> ssl.SSLContext:
    """One for all connections: making it takes 70 ms, so it is first called in a thread."""
    return httpx2.create_ssl_context()


class Authority(Protocol):
    """Where a connection gets its bearer token from."""

    async def token(self) -> str | None: ...

    async def renewed(self, rejected: str) -> str | None:
        """Another token than the one that the server has just refused, if there is one."""
        ...


class Sending:
    """What is known of one call on its way: whether it left, and with what status it was answered."""

    def __init__(self, *, sent: bool) -> None:
        self.sent = sent
        self.status: int | None = None


# The SDK sends each message in the context of the task that asked for it; that is how a request knows its call.
SENDING: ContextVar[Sending | None] = ContextVar("mcp_sending", default=None)


class AnswerTooLarge(httpx2.StreamError):
    """The server's answer is larger than `result_bytes`."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the answer is larger than {limit} bytes")


class AnswerPacked(httpx2.StreamError):
    """The server's answer is compressed, which was not asked for: unpacked, it could have any size."""

    def __init__(self) -> None:
        super().__init__("the answer is compressed, which was not asked for")


class Wire(httpx2.Auth):
    """Signs requests, and watches over the answers."""

    def __init__(self, url: str, authority: Authority, config: McpConfig, session_id: str | None = None) -> None:
        """With a `session_id`, the URL is this very server's, which is told whose calls they are. Raises
        httpx2.InvalidURL."""
        self._origin = _origin(httpx2.URL(url))
        self._authority = authority
        self._session_id = session_id
        self._limit = config.result_bytes
        self._silence = max(SILENCE_SECONDS, config.call_seconds + CALL_MARGIN)
        self.status: int | None = None  # of the last answer
        self._sent: deque[str] = deque(maxlen=TOKENS)

    def client(self, *_: Any, **__: Any) -> httpx2.AsyncClient:
        """A client of this wire; the arguments are those of the SDK's client factories, which have nothing to add."""
        host = self._origin[1]
        return httpx2.AsyncClient(
            auth=self,
            verify=tls(),
            headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(CONNECT_SECONDS, read=self._silence),
            trust_env=self._session_id is None and not (host in ("localhost", "::1") or host.startswith("127.")),
            event_hooks={"response": [self._answered]},
        )

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        request.extensions["trace"] = _mark
        ours = _origin(request.url) == self._origin
        if self._session_id is not None and ours:
            request.headers[SESSION_HEADER] = self._session_id
        token = await self._authority.token() if ours else None
        if token is None:
            yield request
            return
        self._sign(request, token)
        response = yield request
        if response.status_code == 401 and (fresh := await self._authority.renewed(token)) is not None:
            self._sign(request, fresh)
            yield request

    def redact(self, text: str) -> str:
        """Take the tokens that were sent out of what the server says, which may repeat them."""
        for token in self._sent:
            text = text.replace(token, HIDDEN)
        return text

    def redacted(self, value: Any) -> Any:
        """The same for a whole value of JSON."""
        if not self._sent:
            return value
        before = msgspec.json.encode(value).decode()
        after = before
        for token in self._sent:
            after = after.replace(msgspec.json.encode(token).decode()[1:-1], HIDDEN)
        return value if after == before else msgspec.json.decode(after)

    def _sign(self, request: httpx2.Request, token: str) -> None:
        if token not in self._sent and len(token) >= SHORTEST_HIDDEN:
            self._sent.append(token)
        request.headers["authorization"] = f"Bearer {token}"

    async def _answered(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        if response.request.method == "POST" and (sending := SENDING.get()) is not None:
            sending.status = response.status_code
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            response.stream = _Packed(response.stream)
        elif not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            response.stream = _Bounded(response.stream, self._limit)  # the SDK bounds the events of a stream itself


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise AnswerTooLarge(self._limit)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Packed(httpx2.AsyncByteStream):
    """Closes without a byte having been read."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise AnswerPacked
        yield b""

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _mark(name: str, _: object) -> None:
    if name.endswith(".send_request_headers.started") and (sending := SENDING.get()) is not None:
        sending.sent = True


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
