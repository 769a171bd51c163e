"""Signing in with an API key, signing out, and links that hostler prints. It must not keep a key.

A ticket in an address becomes a cookie, and the address is clean again.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hostler.console import pages, web
from hostler.console.access import LINK_SECONDS, Access, Who, place_of
from hostler.errors import AuthenticationFailed, InvalidRequest
from hostler.wire.base import Params, explain

MAX_BODY = 16 * 1024
HOME = "/console"


class LinkParams(Params, kw_only=True):
    """What `POST /console/links` takes."""

    path: str
    expires_in_seconds: int = LINK_SECONDS
    acts: bool = True


_decode = msgspec.json.Decoder(LinkParams).decode


class Signing:
    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> list[Route]:
        return [
            Route("/console/sign-in", self.ask, methods=["GET"]),
            Route("/console/sign-in", self.sign_in, methods=["POST"]),
            Route("/console/sign-out", self.sign_out, methods=["POST"]),
            Route("/console/links", self.link, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        return _page(next_page(request.query_params.get("next", "")))

    async def sign_in(self, request: Request) -> Response:
        web.check_origin(request, self._access)
        given = await web.form(request, MAX_BODY)
        wanted = next_page(given.get("next", ""))
        who = await self._access.sign_in(given.get("key", "").strip())
        if who is None:
            return _page(wanted, "This is no valid API key.", 401)
        response = RedirectResponse(wanted, 303)
        web.set_cookie(request, response, self._access.cookie_name, self._access.sealed(who), who.until)
        return response

    async def sign_out(self, request: Request) -> Response:
        web.check_origin(request, self._access)
        response = RedirectResponse("/console/sign-in", 303)
        for name in request.cookies:
            if name.startswith(self._access.cookie_name):
                response.delete_cookie(name, path="/console")
        response.headers["clear-site-data"] = '"cache"'
        return response

    async def link(self, request: Request) -> Response:
        """A signed link, for whoever has an API key and may see the page."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        who = await self._access.sign_in(secret) if secret else None
        if who is None:
            raise AuthenticationFailed
        bounded = Request(request.scope, web.limited(request.receive, MAX_BODY))
        try:
            params = _decode(await bounded.body())
        except msgspec.ValidationError as error:
            raise InvalidRequest(explain(error, kind=LinkParams)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The request body is not valid JSON: {error}") from error
        kind, name = place_of(params.path)
        await (self._access.task(who, name) if kind == "tasks" else self._access.session(who, name))
        path = self._access.sign(params.path, by=who, seconds=params.expires_in_seconds, acts=params.acts)
        here = self._access.public_url or f"{request.url.scheme}://{request.headers.get('host', '')}"
        return JSONResponse({"url": here + path})


async def redeemed(request: Request, access: Access, place: tuple[str, str]) -> Response | None:
    """The answer to an address with a ticket: a cookie, and the clean address. None for one without."""
    ticket = request.query_params.get("ticket")
    if ticket is None:
        return None
    who: Who | None = await access.ticket(ticket, place)
    if who is None:
        raise AuthenticationFailed("This link has expired, or was made for another page. Ask for a new one.")
    if request.headers.get("sec-fetch-site") == "cross-site":
        response: Response = HTMLResponse(pages.render("again.html", path=request.url.path))
    else:
        response = RedirectResponse(request.url.path, 303)
    web.set_cookie(request, response, access.link_cookie(place), access.sealed(who), who.until)
    web.drop_surplus(request, response, access)
    return response


def _page(wanted: str, problem: str | None = None, status: int = 200) -> Response:
    made = pages.render("sign_in.html", next=wanted, problem=problem)
    return HTMLResponse(made, status, headers={"cache-control": "no-store"})


def next_page(path: str) -> str:
    """Where to go afterwards: a page of ours, never another site's."""
    plain = path.startswith(f"{HOME}/") and "\\" not in path and path.isprintable() and path.isascii()
    return path if plain and not path.startswith("/console/sign-") else HOME
