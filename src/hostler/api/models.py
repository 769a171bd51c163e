"""Routes of models."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.services.models import Models

LIFECYCLES = ("active", "deprecated", "retired")


def routes(models: Models) -> list[Route]:
    async def index(call: Call) -> Response:
        query = call.query
        limit, after, before = query.limit(20, 1000), query.text("after_id"), query.text("before_id")
        lifecycles = query.all_of("lifecycle", LIFECYCLES)
        query.end()
        return json(models.list(limit=limit, after=after, before=before, lifecycles=lifecycles))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(models.retrieve(call.params["model_id"]))

    return [
        Route("GET", "/v1/models", index, beta=False),
        Route("GET", "/v1/models/{model_id}", retrieve, beta=False),
    ]
