"""One request on its way to a handler: path parameters, query and body, read once, bounded. It must hold no rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from starlette.types import Receive, Scope

from hostler.api.query import Query
from hostler.bodies import decode, decode_clean
from hostler.errors import InvalidRequest, RequestTooLarge
from hostler.services.callers import Caller
from hostler.wire.base import Params

MAX_BODY = 32 * 1024 * 1024
T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection before its request was read."""


class Nothing(Params, kw_only=True):
    """The body of a request that has none; `{}` is as good."""


class Call:
    __slots__ = ("caller", "headers", "params", "query", "receive", "request_id", "scope")

    def __init__(self, scope: Scope, receive: Receive, request_id: str, params: dict[str, str]) -> None:
        self.scope = scope
        self.receive = receive
        self.request_id = request_id
        self.params = params
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query = Query(scope["query_string"])
        self.caller = Caller()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The raw body as it arrives. Raises ClientGone."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if chunk := message.get("body", b""):
                yield chunk
            more = message.get("more_body", False)

    async def body(self, kind: type[T]) -> T:
        """Decode the JSON body as `kind`, an object Struct; refuse it with the path of what is wrong."""
        body = await self._read()
        if not body:
            raise InvalidRequest("The request body is empty; a JSON object is expected.")
        return decode_clean(body, kind)

    async def optional_body(self, kind: type[T]) -> T:
        """For verbs whose parameters all have defaults: no body is as good as an empty object."""
        return decode_clean(await self._read() or b"{}", kind)

    async def no_body(self) -> None:
        """For verbs without parameters: no body, or an empty object."""
        self.query.end()
        if body := await self._read():
            decode(body, Nothing)

    async def _read(self) -> bytes:
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest(
                "Content-Encoding: compressed request bodies are not supported.",
                error_code="request_body_encoding_unsupported",
            )
        too_large = RequestTooLarge(f"Request exceeds the maximum size of {MAX_BODY} bytes.")
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY:
            raise too_large
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_BODY:
                raise too_large
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)
