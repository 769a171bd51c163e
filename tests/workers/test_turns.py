"""What else a session does while its tools run at workers: delegation, outcomes, budgets, MCP, skills."""

from __future__ import annotations

from typing import Any

from contract.teams import coordinator, define
from contract.world import BUILTINS, WEATHER, cents, message, only, text
from workers.fleet import Fleet, texts, waiting

SKILL = b"---\nname: greet\ndescription: How to greet.\n---\nSay hello to everyone.\n"


def test_a_childs_calls_are_answered_too(fleet: Fleet) -> None:
    worker = fleet.start()
    session_id = coordinator(fleet.world, BUILTINS)
    fleet.world.send(session_id, message("Delegate: echo from the child > child.txt; cat child.txt"))
    events = fleet.finished(session_id)
    (use,) = only(events, "agent.tool_use")[-1:]
    (child,) = [thread for thread in fleet.world.beta.sessions.threads.list(session_id) if thread.parent_thread_id]
    assert use["session_thread_id"] == child.id
    (answer,) = only(events, "user.tool_result")
    assert (answer["tool_use_id"], answer["session_thread_id"]) == (use["id"], child.id)
    own = list(fleet.world.beta.sessions.threads.events.list(child.id, session_id=session_id))
    assert [event.type for event in own if event.type.endswith(("tool_use", "tool_result"))] == [
        "agent.tool_use",
        "user.tool_result",
    ]
    assert only([event.to_dict() for event in own], "agent.tool_use")[0].get("session_thread_id") is None
    assert (worker.folder / "child.txt").exists()


def test_the_grader_has_no_files_to_read(fleet: Fleet) -> None:
    fleet.start()
    session_id = fleet.session()
    fleet.world.send(session_id, define("Run: echo done"))
    events = fleet.finished(session_id)
    (end,) = only(events, "span.outcome_evaluation_end")
    assert (end["result"], end["explanation"]) == ("satisfied", "blind")


def test_a_budget_stops_and_goes_on(fleet: Fleet) -> None:
    """At the limit a result is still taken; with more money the agent goes on by itself."""
    session_id = fleet.session("Run: echo paid", model="test-priced", budget=cents(1))
    events = fleet.until(session_id, lambda events: waiting(events) != [])
    answer = {"type": "user.tool_result", "tool_use_id": waiting(events)[0], "content": [text("paid")]}
    fleet.world.send(session_id, answer)
    stopped = fleet.until(
        session_id, lambda events: events[-1]["type"] == "session.status_idle" and not waiting(events)
    )
    assert stopped[-1]["stop_reason"]["type"] == "budget_reached"
    fleet.world.beta.sessions.update(session_id, budget=cents(100_000))
    events = fleet.until(session_id, lambda events: texts(events, "agent.message") != [])
    assert texts(events, "agent.message") == ["It said: paid"]


def test_a_workers_skills(fleet: Fleet) -> None:
    """The official worker fetches them where the model is told that they are."""
    skill = fleet.world.sdk.beta.skills.create(display_name="greet", files=[("greet/SKILL.md", SKILL, "text/markdown")])
    agent: Any = fleet.world.agent(
        BUILTINS, WEATHER, skills=[{"type": "custom", "skill_id": skill.id, "version": "latest"}]
    )
    fleet.start()
    session_id = fleet.session("Run: cat skills/greet/SKILL.md", agent=agent.id)
    events = fleet.finished(session_id)
    assert "Say hello to everyone." in texts(events, "agent.message")[0]
    session_id = fleet.session("Which skills?", agent=agent.id)
    assert texts(fleet.finished(session_id), "agent.message") == ["In skills/greet."]
