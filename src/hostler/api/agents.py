"""Routes of agents and their versions."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.agents import Agents
from hostler.wire.agents import AgentCreate, AgentUpdate
from hostler.wire.pages import Page


def routes(agents: Agents) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        return json(await agents.create(await call.body(AgentCreate)))

    async def index(call: Call) -> Response:
        query = call.query
        limit, page = query.limit(20, 100), query.text("page")
        between, archived = query.between(bounds=("gte", "lte")), query.flag("include_archived")
        query.end()
        found = await agents.list(limit=limit, page=page, between=between, archived=archived)
        return json(Page(data=found.rows, next_page=found.next_page))

    async def retrieve(call: Call) -> Response:
        version = call.query.number("version")
        call.query.end()
        return json(await agents.retrieve(call.params["agent_id"], version))

    async def update(call: Call) -> Response:
        call.query.end()
        return json(await agents.update(call.params["agent_id"], await call.body(AgentUpdate)))

    async def archive(call: Call) -> Response:
        await call.no_body()
        return json(await agents.archive(call.params["agent_id"]))

    async def versions(call: Call) -> Response:
        limit, page = call.query.limit(20, 100), call.query.text("page")
        call.query.end()
        found = await agents.versions(call.params["agent_id"], limit=limit, page=page)
        return json(Page(data=found.rows, next_page=found.next_page))

    return [
        Route("POST", "/v1/agents", create),
        Route("GET", "/v1/agents", index),
        Route("GET", "/v1/agents/{agent_id}", retrieve),
        Route("POST", "/v1/agents/{agent_id}", update),
        Route("POST", "/v1/agents/{agent_id}/archive", archive),
        Route("GET", "/v1/agents/{agent_id}/versions", versions),
    ]
