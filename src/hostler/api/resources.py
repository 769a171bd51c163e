"""Routes of a session's resources."""

from __future__ import annotations

from typing import cast

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.resources import Resources
from hostler.wire.pages import Page
from hostler.wire.resources import ResourceParams, ResourceUpdate

MAX_LIMIT = 1000


def routes(resources: Resources) -> list[Route]:
    async def add(call: Call) -> Response:
        call.query.end()
        params = await call.body(cast("type[ResourceParams]", ResourceParams))
        return json(await resources.add(call.params["session_id"], params))

    async def index(call: Call) -> Response:
        limit, page = call.query.limit(MAX_LIMIT, MAX_LIMIT), call.query.text("page")
        call.query.end()
        found = await resources.list(call.params["session_id"], limit=limit, page=page)
        return json(Page(data=found.rows, next_page=found.next_page))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await resources.retrieve(call.params["session_id"], call.params["resource_id"]))

    async def update(call: Call) -> Response:
        call.query.end()
        params = await call.body(ResourceUpdate)
        return json(await resources.update(call.params["session_id"], call.params["resource_id"], params))

    async def delete(call: Call) -> Response:
        await call.no_body()
        return json(await resources.delete(call.params["session_id"], call.params["resource_id"]))

    return [
        Route("POST", "/v1/sessions/{session_id}/resources", add),
        Route("GET", "/v1/sessions/{session_id}/resources", index),
        Route("GET", "/v1/sessions/{session_id}/resources/{resource_id}", retrieve),
        Route("POST", "/v1/sessions/{session_id}/resources/{resource_id}", update),
        Route("DELETE", "/v1/sessions/{session_id}/resources/{resource_id}", delete),
    ]
