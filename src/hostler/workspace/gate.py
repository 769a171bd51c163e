"""The one ASGI object in front of the Workspace API: the key, the route, and errors in this API's own envelope.

It must not know any resource.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from hostler.errors import HostlerError, MethodNotAllowed, NotFound, Unavailable
from hostler.ids import new_id
from hostler.store.store import StoreClosed
from hostler.wire.base import encode
from hostler.wire.workspace import Failure
from hostler.workspace.call import Call
from hostler.workspace.callers import WorkspaceCallers

log = logging.getLogger("hostler.workspace")

Handler = Callable[[Call], Awaitable[Any]]


class Route(NamedTuple):
    """The handler's result is sent as JSON with `status`; None is sent as nothing, with 204."""

    method: str
    path: str
    handler: Handler
    status: int = 200


class Gate:
    def __init__(self, routes: list[Route], callers: WorkspaceCallers, public_url: str | None = None) -> None:
        """`public_url` is where the server is reached, when that is not where it listens."""
        self._public_url = public_url
        self.routes = routes
        self._patterns = [(compile_path(route.path)[0], route) for route in routes]
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = new_id("req")
        try:
            response = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        except HostlerError as error:
            response = failure(error)
        except StoreClosed:
            response = failure(Unavailable("The server is shutting down; try again."))
        except Exception:
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            response = failure(HostlerError("Internal server error"))
        response.headers["request-id"] = request_id
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        caller = await self._callers.verify(bearer(request))
        route, params = self._route(request.method, request.url.path.rstrip("/"))
        result = await route.handler(Call(request, params, caller, self._public_url))
        if result is None:
            return Response(status_code=204)
        if isinstance(result, Response):
            return result
        return Response(encode(result), route.status, media_type="application/json")

    def _route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Raises NotFound, MethodNotAllowed."""
        allowed = []
        for pattern, route in self._patterns if "\0" not in path else ():
            if (match := pattern.match(path)) is not None:
                if route.method == method:
                    return route, match.groupdict()
                allowed.append(route.method)
        if allowed:
            raise MethodNotAllowed(f"Method {method[:20]} is not allowed here; use {' or '.join(sorted(allowed))}.")
        raise NotFound(f"Cannot {method[:20]} {path[:200]}")


def failure(error: HostlerError) -> Response:
    body = Failure(status_code=error.status, message=error.message, error=_phrase(error.status))
    return Response(encode(body), error.status, media_type="application/json")


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
