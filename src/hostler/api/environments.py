"""Routes of environments."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.environments import Environments
from hostler.wire.environments import EnvironmentCreate, EnvironmentUpdate
from hostler.wire.pages import Page


def routes(environments: Environments) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        return json(await environments.create(await call.body(EnvironmentCreate)))

    async def index(call: Call) -> Response:
        query = call.query
        limit, page, archived = query.limit(20, 100), query.text("page"), query.flag("include_archived")
        query.end()
        found = await environments.list(limit=limit, page=page, archived=archived)
        return json(Page(data=found.rows, next_page=found.next_page))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await environments.retrieve(call.params["environment_id"]))

    async def update(call: Call) -> Response:
        call.query.end()
        return json(await environments.update(call.params["environment_id"], await call.body(EnvironmentUpdate)))

    async def archive(call: Call) -> Response:
        await call.no_body()
        return json(await environments.archive(call.params["environment_id"]))

    async def delete(call: Call) -> Response:
        await call.no_body()
        return json(await environments.delete(call.params["environment_id"]))

    return [
        Route("POST", "/v1/environments", create),
        Route("GET", "/v1/environments", index),
        Route("GET", "/v1/environments/{environment_id}", retrieve),
        Route("POST", "/v1/environments/{environment_id}", update),
        Route("DELETE", "/v1/environments/{environment_id}", delete),
        Route("POST", "/v1/environments/{environment_id}/archive", archive),
    ]
