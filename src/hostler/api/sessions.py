"""Routes of sessions."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.query import Query
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.session_rows import Filter
from hostler.services.sessions import Sessions
from hostler.wire.pages import SessionPage
from hostler.wire.sessions import SessionCreate, SessionUpdate

STATUSES = ("rescheduling", "running", "idle", "terminated")


def routes(sessions: Sessions) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        return json(await sessions.create(await call.body(SessionCreate)))

    async def index(call: Call) -> Response:
        query = call.query
        wanted, order = _filter(query), query.one_of("order", ("asc", "desc"), "desc")
        limit, page = query.limit(20, 100), query.text("page")
        query.end()
        found = await sessions.list(wanted, order=order, limit=limit, page=page)
        return json(SessionPage(data=found.rows, next_page=found.next_page, prev_page=found.prev_page))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await sessions.retrieve(call.params["session_id"]))

    async def update(call: Call) -> Response:
        call.query.end()
        return json(await sessions.update(call.params["session_id"], await call.body(SessionUpdate)))

    async def archive(call: Call) -> Response:
        await call.no_body()
        return json(await sessions.archive(call.params["session_id"]))

    async def delete(call: Call) -> Response:
        await call.no_body()
        return json(await sessions.delete(call.params["session_id"]))

    return [
        Route("POST", "/v1/sessions", create),
        Route("GET", "/v1/sessions", index),
        Route("GET", "/v1/sessions/{session_id}", retrieve),
        Route("POST", "/v1/sessions/{session_id}", update),
        Route("DELETE", "/v1/sessions/{session_id}", delete),
        Route("POST", "/v1/sessions/{session_id}/archive", archive),
    ]


def _filter(query: Query) -> Filter:
    return Filter(
        agent_id=query.text("agent_id"),
        agent_version=query.number("agent_version"),
        deployment_id=query.text("deployment_id"),
        memory_store_id=query.text("memory_store_id"),
        statuses=query.all_of("statuses", STATUSES),
        between=query.between(),
        archived=query.flag("include_archived"),
    )
