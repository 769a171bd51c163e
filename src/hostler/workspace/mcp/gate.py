"""The one ASGI object in front of the MCP server: path, origin and key of every request, before anything is read.

The library that speaks MCP is loaded in a thread, with the first request that has a key. It must not know any tool.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hostler.errors import AuthenticationFailed, HostlerError, MethodNotAllowed, NotFound, Unavailable
from hostler.mcp.own import PATH, SESSION_HEADER
from hostler.store.store import StoreClosed
from hostler.workspace.gate import bearer, failure
from hostler.workspace.mcp.callers import Caller, McpCallers
from hostler.workspace.mcp.origins import Origins

if TYPE_CHECKING:
    from hostler.workspace.mcp.server import Protocol

log = logging.getLogger("hostler.workspace.mcp")


class McpGate:
    def __init__(
        self, callers: McpCallers, origins: Origins, public_url: str | None, make: Callable[[Any], Protocol]
    ) -> None:
        """`make` makes what speaks MCP of the module that does."""
        self._callers = callers
        self._origins = origins
        self._public_url = public_url
        self._make = make
        self._protocol: Protocol | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            caller = await self._admitted(Request(scope))
            protocol = await self._loaded()
        except HostlerError as error:
            await _refusal(error)(scope, receive, send)
            return
        except StoreClosed:
            await failure(Unavailable("The server is shutting down; try again."))(scope, receive, send)
            return
        try:
            await protocol.handle(caller, scope, receive, send)
        except ClientDisconnect:
            return

    async def _admitted(self, request: Request) -> Caller:
        """Raises NotFound, MethodNotAllowed, PermissionDenied, AuthenticationFailed."""
        if request.url.path.rstrip("/") != PATH:
            raise NotFound(f"There is nothing at {request.url.path[:200]}; the MCP server is at {PATH}.")
        if request.method != "POST":
            raise MethodNotAllowed("POST is expected: this server keeps no MCP sessions and sends nothing unasked.")
        self._origins.check(request.headers)
        secrets = (bearer(request), request.headers.get("x-api-key", ""))
        base_url = self._public_url or str(request.base_url).rstrip("/")
        return await self._callers.verify(secrets, request.headers.get(SESSION_HEADER), base_url)

    async def _loaded(self) -> Protocol:
        async with self._loading:
            if self._protocol is None:
                module = await asyncio.to_thread(importlib.import_module, "hostler.workspace.mcp.server")
                self._protocol = self._make(module)
            return self._protocol


def _refusal(error: HostlerError) -> Response:
    response = failure(error)
    if isinstance(error, AuthenticationFailed):
        response.headers["www-authenticate"] = 'Bearer realm="hostler", error="invalid_token"'
    if isinstance(error, MethodNotAllowed):
        response.headers["allow"] = "POST"
    return response
