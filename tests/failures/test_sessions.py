"""Sessions under abuse: too much input, and being taken away while they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from failures.client import IDLE, Api, Json, message, refused, results, said, types
from running import Server


def running(api: Api, session: str, act: Callable[[], None]) -> list[Json]:
    """Let a command run that ends only by an interrupt, act meanwhile, then interrupt it."""
    events = []
    start = lambda: api.send(session, message("run: echo begun; sleep 600"))  # noqa: E731
    for event in api.stream(session, start):
        events.append(event)
        if event["type"] == "agent.tool_use":
            act()
            api.send(session, {"type": "user.interrupt"})
        if event["type"] == IDLE:
            break
    return events


def test_a_thousand_queued_events(api: Api) -> None:
    session = api.session()

    def fill() -> None:
        path = f"/v1/sessions/{session}/events"
        for batch in range(10):
            api.send(session, *(message(f"say: {batch * 100 + number}") for number in range(100)))
        waiting = [event for event in api.events(session) if event["processed_at"] is None]
        assert len(waiting) == 1000
        refused(api.http.post(path, json={"events": [message("say: one more")]}), 429, "rate_limit_error")

    path = f"/v1/sessions/{session}/events"
    # The interrupt must get in although the queue is full: it is the way out.
    api.turn(session, "say: first")
    got = []
    for event in api.stream(session, lambda: api.send(session, message("run: sleep 600"))):
        got.append(event)
        if event["type"] == "agent.tool_use":
            fill()
            response = api.http.post(path, json={"events": [{"type": "user.interrupt"}]})
            assert response.status_code == 200, response.text
        if event["type"] == IDLE:
            break
    consumed = [event for event in api.events(session) if event["type"] == "user.message"]
    assert len(consumed) == 1002
    assert all(event["processed_at"] for event in consumed)
    assert said(api.turn(session, "say: and on"))[-1].endswith("and on")


def test_a_running_session_is_neither_archived_nor_deleted(api: Api) -> None:
    session = api.session()

    def take_away() -> None:
        path = f"/v1/sessions/{session}"
        assert "running" in refused(api.http.post(f"{path}/archive"), 400)
        assert "running" in refused(api.http.delete(path), 400)

    events = running(api, session, take_away)
    assert events[-1]["stop_reason"] == {"type": "end_turn"}
    assert results(events)[0]["is_error"]
    assert said(api.turn(session, "say: alive")) == ["alive"]
    assert api.http.delete(f"/v1/sessions/{session}").status_code == 200
    refused(api.http.get(f"/v1/sessions/{session}/events"), 404, "not_found_error")


def test_deleting_ends_the_streams_and_removes_the_sandbox(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        session = api.session()
        api.turn(session, "run: echo kept > file")
        assert sandboxes(server, session)
        last = list(api.stream(session, lambda: api.http.delete(f"/v1/sessions/{session}")))
        assert types(last) == ["session.deleted"]
        assert api.session()
        assert server.stop() == 0
    assert not sandboxes(server, session)


def sandboxes(server: Server, session: str) -> list[Path]:
    return list((server.data_dir / "sandboxes").rglob(f"*{session}*"))


def test_parents_archived_while_a_session_runs(api: Api) -> None:
    agent = api.agent()
    session = api.session(agent)
    events = running(api, session, lambda: api.post(f"/v1/agents/{agent['id']}/archive") and None)
    assert events[-1]["stop_reason"] == {"type": "end_turn"}
    assert said(api.turn(session, "say: alive")) == ["alive"]
