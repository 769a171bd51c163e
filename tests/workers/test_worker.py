"""The official worker, unmodified, against the real server."""

from __future__ import annotations

import json

from contract.world import only
from workers.fleet import Fleet, texts


def test_a_worker_runs_the_tools_of_a_session(fleet: Fleet) -> None:
    session_id = fleet.session("Three steps.")
    assert fleet.items()[0].data.id == session_id
    worker = fleet.start()
    events = fleet.finished(session_id)
    assert texts(events, "agent.message") == ["Done: one\ntwo\n\n1"]
    assert len(only(events, "user.tool_result")) == len(only(events, "agent.tool_use")) == 4
    assert only(events, "agent.tool_result") == [] == only(events, "session.error")
    assert (worker.folder / "steps.txt").read_text() == "one\ntwo\n"
    assert fleet.state("stopped").stopped_at is not None


def test_a_dormant_session_gets_a_new_item(fleet: Fleet) -> None:
    fleet.start()
    session_id = fleet.session("Run: echo first")
    fleet.finished(session_id)
    fleet.state("stopped")
    fleet.world.send(session_id, {"type": "user.message", "content": [{"type": "text", "text": "Run: echo second"}]})
    events = fleet.until(session_id, lambda events: len(texts(events, "agent.message")) == 2)
    assert texts(events, "agent.message")[1].startswith("It said: second")
    assert len(fleet.items()) == 2


def test_an_item_is_claimed_in_one_process_and_run_in_another(fleet: Fleet) -> None:
    session_id = fleet.session("Run: echo elsewhere")
    item = json.loads(fleet.start("claim").line())
    assert item["secret"]
    assert item["data"] == {"type": "session", "id": session_id}
    environ = {
        "ANTHROPIC_WORK_ID": item["id"],
        "ANTHROPIC_SESSION_ID": session_id,
        "ANTHROPIC_WORK_SECRET": item["secret"],
        "ANTHROPIC_ENVIRONMENT_KEY": "",
    }
    runner = fleet.start("item", **environ)
    assert runner.wait() == 0, runner.log()
    assert texts(fleet.world.raw(session_id), "agent.message") == ["It said: elsewhere"]
    assert fleet.items()[0].state == "stopped"
