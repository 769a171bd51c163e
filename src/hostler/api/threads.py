"""Routes of session threads. The stream is `/threads/{id}/stream`, not `/threads/{id}/events/stream`."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp

from hostler.api.call import Call
from hostler.api.events import MAX_LIMIT, previews
from hostler.api.render import json
from hostler.api.router import Route
from hostler.api.sessions import STATUSES
from hostler.api.sse import EventStream
from hostler.services.events import Events
from hostler.services.threads import Threads
from hostler.wire.pages import Page


def routes(threads: Threads, events: Events) -> list[Route]:
    async def index(call: Call) -> Response:
        query = call.query
        statuses = query.all_of("statuses", STATUSES)
        limit, page = query.limit(MAX_LIMIT, MAX_LIMIT), query.text("page")
        query.end()
        found = await threads.list(call.params["session_id"], statuses, limit=limit, page=page)
        return json(Page(data=found.data, next_page=found.next_page))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await threads.retrieve(call.params["session_id"], call.params["thread_id"]))

    async def archive(call: Call) -> Response:
        await call.no_body()
        return json(await threads.archive(call.params["session_id"], call.params["thread_id"]))

    async def listed(call: Call) -> Response:
        limit, page = call.query.limit(MAX_LIMIT, MAX_LIMIT), call.query.text("page")
        call.query.end()
        session_id, thread_id = call.params["session_id"], call.params["thread_id"]
        found = await events.list(session_id, limit=limit, page=page, thread_id=thread_id)
        return json(Page(data=found.data, next_page=found.next_page))

    async def stream(call: Call) -> ASGIApp:
        wanted = previews(call.query)
        session_id, thread_id = call.params["session_id"], call.params["thread_id"]
        followed = await events.follow(session_id, previews=wanted, thread_id=thread_id)
        return EventStream(followed.tail, call.request_id, over=followed.over)

    return [
        Route("GET", "/v1/sessions/{session_id}/threads", index),
        Route("GET", "/v1/sessions/{session_id}/threads/{thread_id}", retrieve),
        Route("POST", "/v1/sessions/{session_id}/threads/{thread_id}/archive", archive),
        Route("GET", "/v1/sessions/{session_id}/threads/{thread_id}/events", listed),
        Route("GET", "/v1/sessions/{session_id}/threads/{thread_id}/stream", stream),
    ]
