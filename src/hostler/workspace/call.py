"""One request on its way to a handler: who calls, path, query and body, read once, bounded. It must hold no rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from starlette.requests import Request

from hostler.bodies import decode_clean
from hostler.errors import InvalidRequest, RequestTooLarge
from hostler.workspace.callers import Caller

MAX_BODY = 32 * 1024 * 1024
T = TypeVar("T")


class Call:
    def __init__(self, request: Request, params: dict[str, str], caller: Caller, public_url: str | None = None) -> None:
        self._request = request
        self._public_url = public_url
        self.params = params
        self.caller = caller

    @property
    def scope(self) -> str | None:
        """The one tenant whose things are there for the caller, if it is one."""
        return self.caller.scope

    @property
    def base_url(self) -> str:
        """This server as it is known outside, or as the caller reached it."""
        return self._public_url or str(self._request.base_url).rstrip("/")

    def header(self, name: str) -> str | None:
        return self._request.headers.get(name)

    def query(self, *names: str) -> dict[str, str | None]:
        """These parameters. Raises InvalidRequest where there are others: a misspelt filter is never ignored."""
        given = self._request.query_params
        for name in given:
            if name not in names:
                raise InvalidRequest(f"{name[:100]}: Extra inputs are not permitted")
            if "\0" in given[name]:
                raise InvalidRequest(f"{name}: contains the character U+0000")
        return {name: given.get(name) or None for name in names}

    async def body(self, kind: type[T]) -> T:
        """The JSON body; none is as good as an empty object. Raises InvalidRequest, RequestTooLarge."""
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_BODY:
                raise RequestTooLarge(f"Request exceeds the maximum size of {MAX_BODY} bytes.")
            parts.append(chunk)
        return decode_clean(b"".join(parts) or b"{}", kind)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises InvalidRequest for a compressed one, and ClientDisconnect."""
        if self.header("content-encoding") not in (None, "identity"):
            raise InvalidRequest("Content-Encoding: compressed request bodies are not supported.")
        async for chunk in self._request.stream():
            if chunk:
                yield chunk
