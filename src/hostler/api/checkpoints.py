"""Routes of checkpoints and forks: our extension of the API."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.checkpoints import Checkpoints
from hostler.services.forks import Forks
from hostler.wire.checkpoints import ForkParams
from hostler.wire.pages import Page


def routes(checkpoints: Checkpoints, forks: Forks) -> list[Route]:
    async def index(call: Call) -> Response:
        call.query.end()
        return json(Page(data=await checkpoints.list(call.params["session_id"])))

    async def hibernate(call: Call) -> Response:
        await call.no_body()
        return json(await checkpoints.hibernate(call.params["session_id"]))

    async def fork(call: Call) -> Response:
        call.query.end()
        return json(await forks.fork(call.params["session_id"], await call.body(ForkParams)))

    return [
        Route("GET", "/v1/sessions/{session_id}/checkpoints", index),
        Route("POST", "/v1/sessions/{session_id}/hibernate", hibernate),
        Route("POST", "/v1/sessions/{session_id}/fork", fork),
    ]
