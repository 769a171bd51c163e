"""The one ASGI object in front of all handlers: order of checks, request ids, and errors becoming responses.

Hosted order, recorded: unknown path 404, then the key 401, then the beta header 404, then the version header 400.
It must not know any resource.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hostler.api.call import Call, ClientGone
from hostler.api.render import failure
from hostler.api.router import Match, Route, Router
from hostler.api.scopes import LOST, NOBODY, SCOPES
from hostler.errors import AuthenticationFailed, HostlerError, InvalidRequest, MethodNotAllowed, NotFound, Unavailable
from hostler.ids import new_id
from hostler.services.callers import Caller, Callers
from hostler.store.store import StoreClosed

log = logging.getLogger("hostler.api")

BETA = b"managed-agents-"


class Gate:
    def __init__(self, router: Router, open_router: Router, callers: Callers) -> None:
        """`open_router` holds the few routes that need no key."""
        self._router = router
        self._open = open_router
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = new_id("req")
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"request-id", request_id.encode())]
            await send(message)

        try:
            response = await self._answer(scope, receive, request_id)
            await response(scope, receive, tagged)
        except ClientGone:
            return
        except HostlerError as error:
            if started:
                raise
            await failure(error, request_id)(scope, receive, tagged)
        except StoreClosed:
            if not started:
                closing = Unavailable("The server is shutting down; try again.")
                await failure(closing, request_id)(scope, receive, tagged)
        except Exception:
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            if started:
                raise
            await failure(HostlerError("Internal server error"), request_id)(scope, receive, tagged)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> ASGIApp:
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw_path.split(b"?", 1)[0]
        if (match := self._open.match(path)) is not None:
            call = Call(scope, receive, request_id, match.params)
        elif (match := self._router.match(path)) is not None:
            caller = await self._authenticate(dict(scope["headers"]))
            call = Call(scope, receive, request_id, match.params)
            call.caller = caller
            return await self._answer_to(call, _route(match, scope["method"]))
        else:
            raise NotFound("Not found")
        response: ASGIApp = await _route(match, scope["method"]).handler(call)
        return response

    async def _answer_to(self, call: Call, route: Route) -> ASGIApp:
        _check_headers(route, call)
        if call.caller.limited:
            place = (route.method, route.path)
            await self._callers.admit(call.caller, SCOPES.get(place, NOBODY), call.params, lost=place in LOST)
        response: ASGIApp = await route.handler(call)
        return response

    async def _authenticate(self, headers: dict[bytes, bytes]) -> Caller:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        keys = [headers.get(b"x-api-key", b""), bearer.strip() if scheme.lower() == b"bearer" else b""]
        for key in keys:
            if key and (caller := await self._callers.verify(key.decode("latin-1"))) is not None:
                return caller
        raise AuthenticationFailed


def _route(match: Match, method: str) -> Route:
    if method not in match.routes:
        raise MethodNotAllowed(f"Method {method[:20]} is not allowed here; use {' or '.join(sorted(match.routes))}.")
    return match.routes[method]


def _check_headers(route: Route, call: Call) -> None:
    """Unknown beta names are let pass: a client may send those of other endpoints along."""
    sent = b",".join(value for name, value in call.scope["headers"] if name == b"anthropic-beta")
    if route.beta and not any(value.strip().startswith(BETA) for value in sent.split(b",")):
        raise NotFound("not found")
    if not call.headers.get(b"anthropic-version"):
        raise InvalidRequest("anthropic-version: header is required")
