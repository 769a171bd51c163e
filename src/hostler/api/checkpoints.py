"""Routes of checkpoints, forks, exports and imports: our extension of the API."""

from __future__ import annotations

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.checkpoints import Checkpoints
from hostler.services.exports import Exports
from hostler.services.forks import Forks
from hostler.services.imports import Imports
from hostler.wire.checkpoints import ForkParams
from hostler.wire.pages import Page

ARCHIVE = "application/zstd"


def routes(checkpoints: Checkpoints, forks: Forks, exports: Exports, imports: Imports) -> list[Route]:
    async def index(call: Call) -> Response:
        call.query.end()
        return json(Page(data=await checkpoints.list(call.params["session_id"])))

    async def hibernate(call: Call) -> Response:
        await call.no_body()
        return json(await checkpoints.hibernate(call.params["session_id"]))

    async def fork(call: Call) -> Response:
        call.query.end()
        return json(await forks.fork(call.params["session_id"], await call.body(ForkParams)))

    async def export(call: Call) -> ASGIApp:
        call.query.end()
        session_id = call.params["session_id"]
        path = await exports.export(session_id)
        sent = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type=ARCHIVE, filename=f"{session_id}.tar.zst", background=sent)

    async def take(call: Call) -> Response:
        call.query.end()
        return json(await imports.take(call.chunks()))

    return [
        Route("GET", "/v1/sessions/{session_id}/checkpoints", index),
        Route("POST", "/v1/sessions/{session_id}/hibernate", hibernate),
        Route("POST", "/v1/sessions/{session_id}/fork", fork),
        Route("GET", "/v1/sessions/{session_id}/export", export),
        Route("POST", "/v1/sessions/import", take),
    ]
