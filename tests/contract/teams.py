"""Scenarios of sessions with several threads, and of outcomes: what `scenarios` plays besides its own."""

from __future__ import annotations

from typing import Any

from contract.world import BUILTINS, WEATHER, World, only, result, unknown_fields

ADVISOR = {"type": "advisor", "model": "claude-opus-5-5"}


def coordinator(world: World, *tools: dict[str, Any], **multiagent: Any) -> str:
    """A session of an agent that may delegate to `helper`, who has these tools."""
    helper = world.agent(*tools, name="helper")
    entries = [helper.id, {"type": "self"}, ADVISOR]
    team = multiagent or {"type": "coordinator", "agents": entries}
    return world.session(agent=world.agent(name="lead", multiagent=team).id)


def children(world: World, session_id: str) -> list[Any]:
    return [thread for thread in world.beta.sessions.threads.list(session_id) if thread.parent_thread_id]


def define(description: str, **more: Any) -> dict[str, Any]:
    rubric = {"type": "text", "content": "It rhymes."}
    return {"type": "user.define_outcome", "description": description, "rubric": rubric, **more}


def delegation(world: World) -> list[Any]:
    """session.thread_created, agent.thread_message_sent and _received, and a question of a child answered here."""
    session_id = coordinator(world, WEATHER)
    events = world.turn(session_id, "delegate: ask the client")
    (created,) = only(events, "session.thread_created")
    (child,) = children(world, session_id)
    assert (created.agent_name, created.session_thread_id) == ("helper", child.id)
    (sent,) = only(events, "agent.thread_message_sent")
    assert (sent.to_session_thread_id, sent.to_agent_name) == (child.id, "helper")
    (use,) = only(events, "agent.custom_tool_use")
    assert use.session_thread_id == child.id
    assert events[-1].stop_reason.event_ids == [use.id]
    assert (child.status, child.agent.type, child.agent.name) == ("idle", "agent", "helper")
    events += world.turn(session_id, result(use.id, "sunny"))
    (answer,) = only(events, "user.custom_tool_result")
    assert answer.session_thread_id == child.id
    (received,) = only(events, "agent.thread_message_received")
    assert (received.from_session_thread_id, received.from_agent_name) == (child.id, "helper")
    assert received.content[0].text == "It is sunny."
    assert world.last_text(session_id) == "helper has reported."
    own = list(world.beta.sessions.threads.events.list(child.id, session_id=session_id))
    assert unknown_fields(own) == []
    (own_use,) = only(own, "agent.custom_tool_use")
    assert (own_use.id, own_use.session_thread_id) == (use.id, None)
    (heard,) = only(own, "agent.thread_message_received")
    assert (heard.from_agent_name, heard.content[0].text) == (None, "ask the client")
    return [session_id, events]


def advice(world: World) -> list[Any]:
    session_id = coordinator(world)
    events = world.turn(session_id, "advise")
    (child,) = children(world, session_id)
    assert (child.agent.to_dict(), child.status) == (ADVISOR, "terminated")
    about = [event for event in events if getattr(event, "session_thread_id", None) == child.id]
    assert [event.type for event in about] == [
        "session.thread_created",
        "session.thread_status_running",
        "session.thread_status_idle",
        "session.thread_status_terminated",
    ]
    (received,) = only(events, "agent.thread_message_received")
    assert (received.from_agent_name, received.content[0].text) == ("anthropic.advisor", "Be careful.")
    assert world.last_text(session_id) == "Advised: Be careful."
    return [session_id, events]


def an_outcome_reached_later(world: World) -> list[Any]:
    session_id = world.session(BUILTINS)
    events = world.turn(session_id, define("reach it later"))
    defined = only(events, "user.define_outcome")[-1]
    starts, ends = only(events, "span.outcome_evaluation_start"), only(events, "span.outcome_evaluation_end")
    assert [end.result for end in ends] == ["needs_revision", "satisfied"]
    assert [end.iteration for end in ends] == [start.iteration for start in starts] == [0, 1]
    assert [end.outcome_evaluation_start_id for end in ends] == [start.id for start in starts]
    assert {end.outcome_id for end in ends} == {defined.outcome_id}
    assert world.last_text(session_id) == "Second attempt."
    (shown,) = world.beta.sessions.retrieve(session_id).outcome_evaluations
    assert (shown.outcome_id, shown.result, shown.iteration) == (defined.outcome_id, "satisfied", 1)
    assert shown.completed_at is not None
    return [session_id, events]


def an_evaluation_that_reads(world: World) -> list[Any]:
    session_id = world.session(BUILTINS)
    events = world.turn(session_id, define("look first"))
    (ongoing,) = only(events, "span.outcome_evaluation_ongoing")
    assert ongoing.iteration == 0
    assert only(events, "agent.tool_use") == []
    return [session_id, events]


TEAMS: dict[str, tuple[Any, set[str]]] = {
    "delegation": (
        delegation,
        {"session.thread_created", "agent.thread_message_sent", "agent.thread_message_received",
         "session.thread_status_running", "session.thread_status_idle", "user.custom_tool_result"},
    ),
    "advice": (advice, {"session.thread_created", "session.thread_status_terminated", "agent.thread_message_received"}),
    "an outcome": (
        an_outcome_reached_later,
        {"user.define_outcome", "span.outcome_evaluation_start", "span.outcome_evaluation_end"},
    ),
    "an evaluation that reads": (an_evaluation_that_reads, {"span.outcome_evaluation_ongoing"}),
}  # fmt: skip
