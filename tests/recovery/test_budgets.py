"""kill -9 around a budget: at the stop, at the raise, and while a call is judged. The job comes to the same end."""

from __future__ import annotations

from typing import Any

import pytest
from job import LOST, Event, Job, check_log
from mortal import Mortal


def cents(amount: int) -> dict[str, Any]:
    return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}


def stops(events: list[Event]) -> list[str]:
    return [event["stop_reason"]["type"] for event in events if event["type"] == "session.status_idle"]


def change(job: Job, budget: Event | None) -> bool:
    """Change the budget; False when the server died before it had answered."""
    try:
        response = job.server.client.post(f"/v1/sessions/{job.id}", json={"budget": budget})
    except LOST:
        job.lost = True
        return False
    assert response.status_code == 200, response.text
    return True


def paused(server: Mortal, *points: str) -> Job:
    """A session that its budget has stopped after one of three requests."""
    job = Job(server, "spend", budget=cents(100))
    if points:
        server.order(job.id, *points)
    job.run()
    events = job.listed()
    assert stops(events) == ["budget_reached"]
    assert [event["type"] for event in events].count("agent.tool_result") == 1
    return job


def finished(job: Job) -> None:
    """Follow the session to its end, which it must reach without another word."""
    with job.following() as stream:
        assert stream is not None
        if stops(job.listed())[-1] == "budget_reached":
            job.until(stream, "session.status_idle")
    events = job.listed()
    check_log(job, events)
    assert stops(events) == ["budget_reached", "end_turn"]
    (said,) = [event for event in events if event["type"] == "agent.message"]
    assert said["content"][0]["text"].split() == ["Counted:", "a", "b"]
    assert [event["type"] for event in events].count("session.updated") == 1


STOPS = [
    "after:append:agent.tool_result",
    "before:append:session.status_idle",
    "committed:session.status_idle",
    "after:append:session.status_idle",
]


@pytest.mark.parametrize("point", STOPS)
def test_at_the_stop(sqlite_server: Mortal, point: str) -> None:
    job = paused(sqlite_server, point)
    assert change(job, None)
    finished(job)


RAISES = [
    "committed:session.updated",
    "before:append:span.model_request_start",
    "after:append:span.model_request_start",
    "before:tool",
    "before:append:session.status_idle",
]


@pytest.mark.parametrize("point", RAISES)
@pytest.mark.parametrize("budget", [cents(1000), None], ids=["raised", "removed"])
def test_at_the_raise(sqlite_server: Mortal, point: str, budget: Event | None) -> None:
    job = paused(sqlite_server)
    sqlite_server.order(job.id, point)
    change(job, budget)
    job.revive()
    assert job.retrieve()["budget"] == budget, "what was committed holds, acknowledged or not"
    finished(job)


def test_at_the_raise_on_postgresql(postgres_server: Mortal) -> None:
    job = paused(postgres_server)
    postgres_server.order(job.id, "committed:session.updated")
    change(job, cents(1000))
    job.revive()
    finished(job)


def test_a_paused_session_stays_so_over_a_restart(sqlite_server: Mortal) -> None:
    job = paused(sqlite_server)
    before = job.listed()
    sqlite_server.kill()
    sqlite_server.start()
    shown = job.retrieve()
    assert (shown["status"], shown["usage"]["list_cost"]["amount"]) == ("idle", "100")
    response = sqlite_server.client.post(f"/v1/sessions/{job.id}/events", json={"events": [{"type": "user.interrupt"}]})
    assert response.status_code == 200
    assert job.listed() == before
    change(job, None)
    finished(job)


@pytest.mark.parametrize("point", ["before:stream 2", "end:stream 2", "before:append:agent.tool_use"])
def test_while_a_call_is_judged(sqlite_server: Mortal, point: str) -> None:
    """The judgement is lost with the message that made the call; both are asked for again."""
    auto = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "auto"}}}
    job = Job(sqlite_server, "spend", {"tools": [auto]})
    sqlite_server.order(job.id, point)
    events = job.run()
    check_log(job, events)
    assert stops(events) == ["end_turn"]
    uses = [event for event in events if event["type"] == "agent.tool_use"]
    assert [use["evaluation"]["evaluated_permission"] for use in uses] == [{"type": "allow"}] * 2
    (said,) = [event for event in events if event["type"] == "agent.message"]
    assert said["content"][0]["text"].split() == ["Counted:", "a", "b"]
