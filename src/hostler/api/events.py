"""Routes of session events: send, list, stream."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp

from hostler.api.call import Call
from hostler.api.query import Query
from hostler.api.render import json
from hostler.api.router import Route
from hostler.api.sse import EventStream
from hostler.services.callers import check_events
from hostler.services.events import Events
from hostler.wire.events import LISTABLE, PREVIEWABLE, EventsSend
from hostler.wire.pages import Page

MAX_LIMIT = 1000


def routes(events: Events) -> list[Route]:
    async def send(call: Call) -> Response:
        call.query.end()
        params = await call.body(EventsSend)
        check_events(call.caller, params.events)
        return json({"data": await events.send(call.params["session_id"], params)})

    async def index(call: Call) -> Response:
        query = call.query
        limit, page = query.limit(MAX_LIMIT, MAX_LIMIT), query.text("page")
        order, between = query.one_of("order", ("asc", "desc"), "asc"), query.between()
        types = query.all_of("types", LISTABLE)
        query.end()
        found = await events.list(
            call.params["session_id"], limit=limit, page=page, order=order, between=between, types=types
        )
        return json(Page(data=found.data, next_page=found.next_page))

    async def stream(call: Call) -> ASGIApp:
        wanted = previews(call.query)
        followed = await events.follow(call.params["session_id"], previews=wanted)
        return EventStream(followed.tail, call.request_id, over=followed.over)

    return [
        Route("POST", "/v1/sessions/{session_id}/events", send),
        Route("GET", "/v1/sessions/{session_id}/events", index),
        Route("GET", "/v1/sessions/{session_id}/events/stream", stream),
        Route("GET", "/v1/sessions/{session_id}/stream", stream),  # the path in the published curl examples
    ]


def previews(query: Query) -> frozenset[str]:
    """Read the query of a stream: which event types it wants previews of."""
    wanted = query.all_of("event_deltas", PREVIEWABLE)
    query.end()
    return frozenset(wanted)
