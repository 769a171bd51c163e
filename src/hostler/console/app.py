"""All pages below /console as one app. The composition root brings what they stand on; a page is a class with routes.

It must not hold rules of its own.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler.console import pages, web
from hostler.console.answers import TaskAnswers
from hostler.console.home import Home
from hostler.console.parts import Parts
from hostler.console.sessions import SessionPages
from hostler.console.signing import Signing
from hostler.console.tasks import TaskPages
from hostler.errors import NotFound


def create_console(parts: Parts) -> ASGIApp:
    every = (Home(parts), Signing(parts.access), SessionPages(parts), TaskPages(parts), TaskAnswers(parts))
    routes = [Route("/console/static/{name}", static), *(route for each in every for route in each.routes())]
    return web.Guarded(Router(routes, redirect_slashes=False, default=_nothing))


async def static(request: Request) -> Response:
    """Our own script and style: the same for everybody."""
    name = request.path_params["name"]
    if name not in pages.STATIC:
        raise NotFound("This page was not found.")
    fresh = request.query_params.get("v") == pages.version()
    kept = "public, max-age=31536000, immutable" if fresh else "no-cache"
    return Response(pages.static(name), media_type=pages.STATIC[name], headers={"cache-control": kept})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("This page was not found.")
