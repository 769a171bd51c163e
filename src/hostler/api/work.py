"""Routes of the work queue of self-hosted environments, and of the keys of their workers."""

from __future__ import annotations

from starlette.responses import Response

from hostler.api.call import Call
from hostler.api.render import json
from hostler.api.router import Route
from hostler.errors import InvalidRequest
from hostler.services.environment_keys import EnvironmentKeys
from hostler.services.work import WorkQueue
from hostler.wire.pages import Page
from hostler.wire.work import EnvironmentKeyCreate, WorkStop, WorkUpdate

MAX_BLOCK_MS = 999
MAX_RECLAIM_MS = 24 * 3600 * 1000
MAX_WORKER_ID = 256
_WORK = "/v1/environments/{environment_id}/work"
_KEYS = "/v1/environments/{environment_id}/keys"


def routes(work: WorkQueue, keys: EnvironmentKeys) -> list[Route]:
    async def poll(call: Call) -> Response:
        block_ms = call.query.number("block_ms", 1, MAX_BLOCK_MS)
        reclaim_ms = call.query.number("reclaim_older_than_ms", 0, MAX_RECLAIM_MS)
        call.query.end()
        return json(await work.poll(call.params["environment_id"], _worker_id(call), block_ms, reclaim_ms))

    async def ack(call: Call) -> Response:
        await call.no_body()
        return json(await work.ack(call.params["environment_id"], call.params["work_id"]))

    async def heartbeat(call: Call) -> Response:
        expected, ttl = call.query.text("expected_last_heartbeat"), call.query.number("desired_ttl_seconds")
        await call.no_body()
        environment_id, work_id = call.params["environment_id"], call.params["work_id"]
        return json(await work.heartbeat(call.caller, environment_id, work_id, expected, ttl))

    async def stop(call: Call) -> Response:
        call.query.end()
        force = (await call.optional_body(WorkStop)).force is True
        return json(await work.stop(call.caller, call.params["environment_id"], call.params["work_id"], force=force))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await work.retrieve(call.params["environment_id"], call.params["work_id"]))

    async def update(call: Call) -> Response:
        call.query.end()
        patch = (await call.body(WorkUpdate)).metadata
        return json(await work.update(call.params["environment_id"], call.params["work_id"], patch))

    async def index(call: Call) -> Response:
        limit, page = call.query.limit(20, 100), call.query.text("page")
        call.query.end()
        found = await work.list(call.params["environment_id"], limit=limit, page=page)
        return json(Page(data=found.rows, next_page=found.next_page))

    async def stats(call: Call) -> Response:
        call.query.end()
        return json(await work.stats(call.params["environment_id"]))

    return [
        Route("GET", f"{_WORK}/poll", poll),
        Route("GET", f"{_WORK}/stats", stats),
        Route("GET", _WORK, index),
        Route("GET", _WORK + "/{work_id}", retrieve),
        Route("POST", _WORK + "/{work_id}", update),
        Route("POST", _WORK + "/{work_id}/ack", ack),
        Route("POST", _WORK + "/{work_id}/heartbeat", heartbeat),
        Route("POST", _WORK + "/{work_id}/stop", stop),
        *_key_routes(keys),
    ]


def _key_routes(keys: EnvironmentKeys) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        name = (await call.optional_body(EnvironmentKeyCreate)).name
        return json(await keys.create(call.params["environment_id"], name))

    async def index(call: Call) -> Response:
        call.query.end()
        return json(Page(data=await keys.list(call.params["environment_id"]), next_page=None))

    async def revoke(call: Call) -> Response:
        await call.no_body()
        return json(await keys.revoke(call.params["environment_id"], call.params["key_id"]))

    return [
        Route("POST", _KEYS, create),
        Route("GET", _KEYS, index),
        Route("POST", _KEYS + "/{key_id}/revoke", revoke),
    ]


def _worker_id(call: Call) -> str:
    worker = call.headers.get(b"anthropic-worker-id", b"").decode("latin-1").strip()
    if len(worker) > MAX_WORKER_ID or not worker.isprintable():
        raise InvalidRequest(f"Anthropic-Worker-ID: at most {MAX_WORKER_ID} printable characters are expected")
    return worker
