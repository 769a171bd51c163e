"""The protocol of the work queue, call by call: states, leases, tokens."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import anthropic
import httpx2
import pytest

from contract.world import INTERRUPT, message, only, unknown_fields
from workers.fleet import Fleet, waiting

BAD_REQUEST, UNKNOWN, FORBIDDEN, MISSING, CONFLICT, FAILED = 400, 401, 403, 404, 409, 412


def token(item: Any) -> str:
    secret = item.secret
    return str(json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"])


def claim(fleet: Fleet, **options: Any) -> Any:
    item = fleet.work.poll(fleet.environment_id, **options)
    assert unknown_fields(item) == []
    return item


def beat(fleet: Fleet, item: Any, expected: str | None = None, **options: Any) -> Any:
    more = {} if expected is None else {"expected_last_heartbeat": expected}
    return fleet.work.heartbeat(item.id, environment_id=fleet.environment_id, **more, **options)


def act(fleet: Fleet, verb: str, item: Any, **options: Any) -> Any:
    return getattr(fleet.work, verb)(item.id, environment_id=fleet.environment_id, **options)


def test_an_item_from_its_session_to_its_end(fleet: Fleet) -> None:
    assert claim(fleet) is None
    session_id = fleet.session("hello")
    stats = fleet.work.stats(fleet.environment_id)
    assert (stats.depth, stats.pending) == (1, 0)
    assert stats.oldest_queued_at is not None
    item = claim(fleet, anthropic_worker_id="w1", block_ms=999)
    assert (item.state, item.data.id, item.environment_id) == ("queued", session_id, fleet.environment_id)
    assert (item.metadata, item.acknowledged_at, item.latest_heartbeat_at) == ({}, None, None)
    stats = fleet.work.stats(fleet.environment_id)
    assert (stats.depth, stats.pending, stats.workers_polling) == (0, 1, 1)
    assert claim(fleet) is None, "it is handed out once"
    acked = act(fleet, "ack", item)
    assert (acked.state, acked.secret) == ("starting", None)
    assert acked.acknowledged_at is not None
    assert act(fleet, "ack", item).acknowledged_at == acked.acknowledged_at
    first = beat(fleet, item, "NO_HEARTBEAT")
    assert (first.state, first.lease_extended, first.ttl_seconds) == ("active", True, 300)
    second = beat(fleet, item, first.last_heartbeat, desired_ttl_seconds=900)
    assert second.last_heartbeat > first.last_heartbeat
    assert second.ttl_seconds == 900
    shown = fleet.work.retrieve(item.id, environment_id=fleet.environment_id)
    assert (shown.state, shown.latest_heartbeat_at, shown.secret) == ("active", second.last_heartbeat, None)
    stopping = act(fleet, "stop", item)
    assert stopping.state == "stopping"
    told = beat(fleet, item, "not compared any more")
    assert (told.state, told.lease_extended, told.last_heartbeat) == ("stopping", False, second.last_heartbeat)
    assert act(fleet, "stop", item, force=True).state == "stopped"
    assert beat(fleet, item, "x").state == "stopped"
    with pytest.raises(anthropic.ConflictError):
        act(fleet, "stop", item, force=True)


def test_a_wrong_heartbeat_is_told_the_lease(fleet: Fleet) -> None:
    fleet.session("hello")
    item = claim(fleet)
    with pytest.raises(anthropic.APIStatusError) as early:
        beat(fleet, item, "NO_HEARTBEAT")
    assert early.value.status_code == FAILED, "nobody has acknowledged it"
    act(fleet, "ack", item)
    last = beat(fleet, item, "NO_HEARTBEAT").last_heartbeat
    for expected in ("NO_HEARTBEAT", last[:-1], "2020-01-01T00:00:00Z"):
        with pytest.raises(anthropic.APIStatusError) as caught:
            beat(fleet, item, expected)
        body: Any = caught.value.body
        assert (caught.value.status_code, body["error"]["details"]) == (
            FAILED,
            {
                "error_code": "heartbeat_precondition_failed",
                "current_state": {
                    "last_heartbeat": last, "lease_extended": False, "state": "active", "ttl_seconds": 300,
                },
            },
        )  # fmt: skip
    assert beat(fleet, item).lease_extended, "without a precondition"


def test_what_is_not_acknowledged_is_handed_out_again(fleet: Fleet) -> None:
    fleet.session("hello")
    first = claim(fleet)
    assert claim(fleet, reclaim_older_than_ms=60_000) is None
    second = claim(fleet, reclaim_older_than_ms=0)
    assert second.id == first.id
    assert token(first) != token(second)
    lost = fleet.bearer(token(first))
    assert lost.get(f"/v1/sessions/{first.data.id}").status_code == UNKNOWN
    act(fleet, "ack", second)
    refused = lost.post(f"/v1/environments/{fleet.environment_id}/work/{first.id}/heartbeat")
    assert refused.status_code == FAILED, "it hears that the item is another's, not that its token is wrong"
    stop = lost.post(f"/v1/environments/{fleet.environment_id}/work/{first.id}/stop", json={"force": True})
    assert stop.status_code == FAILED
    assert fleet.work.retrieve(first.id, environment_id=fleet.environment_id).state == "starting"


def test_a_lease_that_runs_out(fleet: Fleet) -> None:
    session_id = fleet.session("Run: echo never")
    item = claim(fleet, anthropic_worker_id="lazy")
    act(fleet, "ack", item)
    last = beat(fleet, item, "NO_HEARTBEAT", desired_ttl_seconds=1).last_heartbeat
    queued = fleet.state("queued")
    assert queued.id == item.id
    assert (queued.acknowledged_at, queued.latest_heartbeat_at) == (None, None)
    assert "The worker lazy of" in queued.metadata["hostler.lost"]
    with pytest.raises(anthropic.APIStatusError) as caught:
        beat(fleet, item, last)
    assert caught.value.status_code == FAILED
    with pytest.raises(anthropic.ConflictError):
        act(fleet, "ack", item)
    (error,) = only(fleet.world.raw(session_id), "session.error")
    assert error["error"]["retry_status"] == {"type": "retrying"}
    assert "lazy" in error["error"]["message"]
    assert claim(fleet).id == item.id


def test_a_poll_waits_for_work_and_no_longer(fleet: Fleet) -> None:
    began = time.monotonic()
    assert claim(fleet, block_ms=300) is None
    assert 0.25 < time.monotonic() - began < 5
    for wrong in ({"block_ms": 0}, {"block_ms": 1000}, {"reclaim_older_than_ms": -1}):
        with pytest.raises(anthropic.BadRequestError):
            claim(fleet, **wrong)
    path = f"/v1/environments/{fleet.environment_id}/work/poll"
    assert fleet.world.http.get(path).text == "null"


def test_metadata_is_a_patch(fleet: Fleet) -> None:
    fleet.session("hello")
    item = claim(fleet)
    changed = act(fleet, "update", item, metadata={"a": "1", "b": "2"})
    assert changed.metadata == {"a": "1", "b": "2"}
    assert act(fleet, "update", item, metadata={"a": None, "c": "3"}).metadata == {"b": "2", "c": "3"}
    with pytest.raises(anthropic.BadRequestError):
        act(fleet, "update", item, metadata={str(number): "x" for number in range(17)})


def test_a_session_has_one_item_at_a_time(fleet: Fleet) -> None:
    assert fleet.items() == []
    session_id = fleet.session()
    assert fleet.items() == [], "there is nothing to do yet"
    for _ in range(3):
        fleet.world.send(session_id, message("hello"))
    fleet.finished(session_id)
    assert [item.data.id for item in fleet.items()] == [session_id]
    fleet.world.send(session_id, INTERRUPT)
    assert len(fleet.items()) == 1


def test_the_end_of_a_session_ends_its_items(fleet: Fleet) -> None:
    waits, runs = fleet.session("hello"), fleet.session("hello")
    first, second = claim(fleet), claim(fleet)
    fleet.finished(waits), fleet.finished(runs)
    act(fleet, "ack", second)
    client = fleet.bearer(token(second))
    fleet.world.beta.sessions.archive(waits)
    fleet.world.beta.sessions.delete(runs)
    states = {item.id: item.state for item in fleet.items()}
    assert states == {first.id: "stopped", second.id: "stopping"}
    path = f"/v1/environments/{fleet.environment_id}/work/{second.id}"
    assert client.post(f"{path}/heartbeat").json()["state"] == "stopping"
    assert client.post(f"{path}/stop", json={"force": True}).json()["state"] == "stopped"
    assert claim(fleet, reclaim_older_than_ms=0) is None


def test_an_item_stopped_with_calls_open_is_queued_again_and_at_last_told(fleet: Fleet) -> None:
    session_id = fleet.session("Run: echo never")
    fleet.until(session_id, lambda events: waiting(events) != [])
    key = fleet.bearer(fleet.key)
    seen = []
    for _ in range(3):
        item = claim(fleet)
        seen.append(item.id)
        act(fleet, "ack", item)
        stopped = key.post(f"/v1/environments/{fleet.environment_id}/work/{item.id}/stop", json={"force": True})
        assert stopped.status_code == 200, stopped.text
    assert len(set(seen)) == 3
    assert claim(fleet) is None
    errors = only(fleet.world.raw(session_id), "session.error")
    assert [error["error"]["retry_status"]["type"] for error in errors] == ["retrying", "retrying", "exhausted"]
    fleet.world.send(session_id, INTERRUPT)
    assert claim(fleet, block_ms=999).data.id == session_id, "an interrupt queues it again"
    fleet.finished(session_id)


def test_what_is_no_queue(fleet: Fleet) -> None:
    world = fleet.world
    cloud = world.beta.environments.create(name="cloud").id
    for call in (lambda: fleet.work.poll(cloud), lambda: fleet.work.list(cloud), lambda: fleet.work.stats(cloud)):
        with pytest.raises(anthropic.BadRequestError):
            call()
    with pytest.raises(anthropic.NotFoundError):
        fleet.work.poll("env_nothing")
    with pytest.raises(anthropic.NotFoundError):
        fleet.work.retrieve("work_nothing", environment_id=fleet.environment_id)
    assert world.http.post(f"/v1/environments/{cloud}/keys", json={}).status_code == BAD_REQUEST


def test_resources_are_refused(fleet: Fleet) -> None:
    world = fleet.world
    words = (
        f"Environment {fleet.environment_id} is a self-hosted environment. `resources` are not supported with "
        "self-hosted environments."
    )
    uploaded = world.beta.files.upload(file=("a.txt", b"x", "text/plain"))
    mounted = {"type": "file", "file_id": uploaded.id}
    with pytest.raises(anthropic.BadRequestError) as caught:
        fleet.session(resources=[mounted])
    assert words in str(caught.value)
    with pytest.raises(anthropic.BadRequestError) as caught:
        fleet.session(resources=[{"type": "github_repository", "url": "https://github.com/a/b"}])
    assert words in str(caught.value)
    session_id = fleet.session()
    added: httpx2.Response = world.http.post(f"/v1/sessions/{session_id}/resources", json=mounted)
    assert added.status_code == BAD_REQUEST
    assert words in added.text


def test_pages_of_items(fleet: Fleet) -> None:
    made = [fleet.session("hello") for _ in range(3)]
    page = fleet.work.list(fleet.environment_id, limit=2)
    assert len(page.data) == 2
    assert [item.data.id for item in fleet.items()] == made[::-1]
