"""A request on its way to a page: who looks, by its cookies; where it came from; and what every response says.

It must not know any page.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hostler import clock
from hostler.console import pages
from hostler.console.access import Access, Who
from hostler.errors import AuthenticationFailed, HostlerError, InvalidRequest, NotFound, PermissionDenied, Unavailable
from hostler.store.store import StoreClosed

log = logging.getLogger("hostler.console")

T = TypeVar("T")
MAX_COOKIES = 12
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# `same-origin`, not `no-referrer`: with the latter, browsers hide from us where a form was sent from.
HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guarded:
    """Around all pages: paths as they were sent, the headers of every response, and errors as pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        # Split before it is decoded: an id with a slash in it is still one piece.
        scope = {**scope, "path": raw.split(b"?", 1)[0].decode("latin-1")}
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = message.get("headers", [])
                names = {name for name, _ in given}
                message["headers"] = [*given, *(each for each in HEADERS if each[0] not in names)]
            await send(message)

        request = Request(scope, receive)
        try:
            await self._app(scope, receive, tagged)
        except HostlerError as error:
            if started:
                raise
            await failure(request, error)(scope, receive, tagged)
        except StoreClosed:
            if not started:
                closing = Unavailable("The server is shutting down; try again.")
                await failure(request, closing)(scope, receive, tagged)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            await failure(request, HostlerError("Internal server error"))(scope, receive, tagged)


def parameter(request: Request, name: str) -> str:
    """A piece of the path. Raises NotFound for one that no id has."""
    value = unquote(request.path_params[name], errors="replace")
    if "\0" in value or "\N{REPLACEMENT CHARACTER}" in value:
        raise NotFound("This page was not found.")
    return value


def wants_page(request: Request) -> bool:
    """Whether a browser asks that shows what it gets; our own script asks otherwise."""
    return "text/html" in request.headers.get("accept", "") and request.headers.get("x-hostler") is None


def failure(request: Request, error: HostlerError) -> Response:
    if not wants_page(request):
        return JSONResponse({"message": error.message}, error.status)
    if error.status == 401 and request.method == "GET":
        return _to_sign_in(request)
    page = pages.render("error.html", status=error.status, message=error.message, back=_back(request))
    return HTMLResponse(page, error.status, headers={"cache-control": "no-store"})


def page(template: str, **values: Any) -> Response:
    return HTMLResponse(pages.render(template, **values), headers={"cache-control": "no-store"})


def _to_sign_in(request: Request) -> Response:
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A browser keeps the cookie back when another site sent it here, not when this page does.
        return HTMLResponse(pages.render("again.html", path=wanted(request.url)), headers={"cache-control": "no-store"})
    to = URL("/console/sign-in").include_query_params(next=wanted(request.url))
    return RedirectResponse(str(to), 303)


def wanted(url: URL) -> str:
    return url.path + (f"?{url.query}" if url.query else "")


def _back(request: Request) -> str | None:
    """The page of ours that a request came from."""
    came = request.headers.get("referer", "")
    ours = came.startswith(f"{request.url.scheme}://{request.headers.get('host', '')}/console/")
    return urlsplit(came).path if ours else None


# -- who --


async def lookers(request: Request, access: Access) -> list[Who]:
    """Everybody that the request's cookies speak for, whoever has signed in first. Raises AuthenticationFailed."""
    name = access.cookie_name
    values = [(key, value) for key, value in _cookies(request) if key == name or key.startswith(f"{name}-")]
    values.sort(key=lambda each: each[0] != name)
    found = [await access.opened(value) for _, value in values[:MAX_COOKIES]]
    known = [who for who in found if who is not None]
    if not known:
        raise AuthenticationFailed("Sign in to see this page.")
    return known


async def allowed(
    request: Request, access: Access, may: Callable[[Who], Awaitable[T]], *, acts: bool = False
) -> tuple[Who, T]:
    """The first of them who may, one who may act before one who only looks. Raises what the last one was told."""
    known = sorted(await lookers(request, access), key=lambda who: not who.acts)
    refusal: HostlerError = NotFound("This page was not found.")
    for who in known:
        try:
            seen = await may(who)
        except NotFound as error:
            refusal = error
            continue
        if not acts or who.acts:
            return who, seen
        refusal = PermissionDenied("This link lets you look, not act.")
    raise refusal


def _cookies(request: Request) -> list[tuple[str, str]]:
    pairs = (piece.strip().partition("=") for piece in request.headers.get("cookie", "").split(";"))
    return [(name, value) for name, _, value in pairs if value]


def set_cookie(request: Request, response: Response, name: str, value: str, until: int) -> None:
    """Give a browser a cookie that no script reads and no other site makes it send."""
    response.set_cookie(
        name, value, max_age=max((until - clock.now()) // 1_000_000, 0), path="/console", httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip


def drop_surplus(request: Request, response: Response, access: Access) -> None:
    """Links that were opened long ago make room: a request's head is bounded."""
    names = [name for name, _ in _cookies(request) if name.startswith(f"{access.cookie_name}-")]
    for name in names[: max(len(names) - MAX_COOKIES + 2, 0)]:
        response.delete_cookie(name, path="/console")


def check_origin(request: Request, access: Access) -> None:
    """What changes something must come from a page of ours. Raises PermissionDenied."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is not None:
        ours = origin == f"{request.url.scheme}://{request.headers.get('host', '')}"
        # Behind a proxy that ends TLS we may not know our own scheme; the browser does.
        ours = ours or (site == "same-origin" and urlsplit(origin).netloc == request.headers.get("host"))
        ours = ours or (access.public_url is not None and origin == _origin(access.public_url))
    else:
        ours = site == "same-origin"
    if not ours:
        raise PermissionDenied("This request did not come from a page of this server.")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def form(request: Request, most: int = 64 * 1024) -> dict[str, str]:
    """The text fields of a small form. Raises RequestTooLarge, InvalidRequest."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/x-www-form-urlencoded":
        raise InvalidRequest("Content-Type: application/x-www-form-urlencoded is expected")
    bounded = Request(request.scope, limited(request.receive, most))
    async with bounded.form(max_fields=50) as given:
        values = {name: value for name, value in given.items() if isinstance(value, str)}
    if any("\0" in value for value in values.values()):
        raise InvalidRequest("The form contains the character U+0000, which is not allowed.")
    return values


def limited(receive: Receive, most: int) -> Receive:
    """A body that may not be longer. Raises RequestTooLarge."""
    from hostler.errors import RequestTooLarge

    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise RequestTooLarge(f"The request exceeds the limit of {most} bytes.")
        return message

    return counted


def number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def last_seen(request: Request) -> int:
    """Where a page is that opens its stream, or opens it again after it was cut."""
    said = request.headers.get("last-event-id", "")
    if said.isascii() and said.isdigit() and len(said) <= 18:
        return int(said)
    return number(request, "after") or 0
