"""Threads and outcomes through the strict official SDK: every endpoint, streams of threads, interrupts, archives."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from contract.teams import ADVISOR, children, coordinator, define
from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, following, message, only, result, unknown_fields

PREVIEWS: Any = ["agent.message"]
ON = {"type": "enabled"}
IDLED = "session.thread_status_idle"


def test_every_endpoint_of_threads(either: World) -> None:
    world = either
    session_id = coordinator(world, WEATHER)
    (primary,) = world.beta.sessions.threads.list(session_id)
    assert (primary.status, primary.parent_thread_id, primary.stats, primary.usage) == ("idle", None, None, None)
    world.turn(session_id, "delegate twice: answer: one and answer: two")
    found = list(world.beta.sessions.threads.list(session_id))
    assert [thread.agent.name for thread in found] == ["lead", "helper", "helper"]
    assert {thread.parent_thread_id for thread in found[1:]} == {primary.id}
    assert unknown_fields(found) == []
    for thread in found:
        assert thread.usage.output_tokens > 0
        assert 0 < thread.stats.active_seconds <= thread.stats.duration_seconds
        assert world.beta.sessions.threads.retrieve(thread.id, session_id=session_id).agent == thread.agent
    first = world.beta.sessions.threads.list(session_id, limit=2)
    assert [thread.id for thread in first.data] == [thread.id for thread in found[:2]]
    assert first.next_page is not None
    assert [thread.id for thread in world.beta.sessions.threads.list(session_id, limit=1)] == [t.id for t in found]
    assert list(world.beta.sessions.threads.list(session_id, statuses=["running", "rescheduling"])) == []
    ended = world.beta.sessions.threads.archive(found[1].id, session_id=session_id)
    assert (ended.status, ended.archived_at is not None) == ("terminated", True)
    again = world.beta.sessions.threads.archive(found[1].id, session_id=session_id)
    assert again.archived_at == ended.archived_at
    gone = world.beta.sessions.threads.list(session_id, statuses=["terminated"])
    assert [thread.id for thread in gone] == [found[1].id]
    with pytest.raises(anthropic.BadRequestError, match="primary thread"):
        world.beta.sessions.threads.archive(primary.id, session_id=session_id)
    with pytest.raises(anthropic.BadRequestError, match="was not found"):
        world.send(session_id, {**INTERRUPT, "session_thread_id": found[1].id})
    with pytest.raises(anthropic.NotFoundError):
        world.beta.sessions.threads.retrieve("sthr_none", session_id=session_id)
    with pytest.raises(anthropic.BadRequestError, match="cursor"):
        world.beta.sessions.threads.list(session_id, page="page_x")
    total = world.beta.sessions.retrieve(session_id)
    assert total.stats.active_seconds == pytest.approx(sum(thread.stats.active_seconds for thread in found), abs=0.05)
    assert total.usage.input_tokens == sum(thread.usage.input_tokens for thread in found)
    world.beta.sessions.archive(session_id)
    assert {thread.status for thread in world.beta.sessions.threads.list(session_id)} == {"terminated"}
    assert world.beta.sessions.delete(session_id).type == "session_deleted"


def test_a_thread_has_a_stream_of_its_own_with_previews(either: World) -> None:
    world = either
    session_id = coordinator(world)
    world.turn(session_id, "delegate: answer: first")
    (child,) = children(world, session_id)
    primary, _ = world.beta.sessions.threads.list(session_id)
    stream = world.beta.sessions.threads.events.stream
    with (
        following(stream(child.id, session_id=session_id, event_deltas=PREVIEWS)) as own,
        world.stream(session_id, event_deltas=PREVIEWS) as shown,
    ):
        world.send(session_id, message("delegate: answer: a second one, of some length"))
        told = shown.until(IDLE)
    other = next(thread for thread in children(world, session_id) if thread.id != child.id)
    assert own.seen == [], "what happens in another thread is not on it"
    previews = {event.event.id for event in only(told, "event_start")}
    mine = {event.id for event in only(list(world.beta.sessions.threads.events.list(primary.id, session_id=session_id)),
                                       "agent.message")}  # fmt: skip
    assert previews <= mine, "a child's words are not previewed on the session's stream"
    assert not [event for event in told if event.type == "agent.message" and "second one" in event.content[0].text]
    said = only(list(world.beta.sessions.threads.events.list(other.id, session_id=session_id)), "agent.message")
    assert said[0].content[0].text == "a second one, of some length"


def test_a_confirmation_for_a_child_is_sent_to_the_session(either: World) -> None:
    world = either
    asking = {**BUILTINS, "default_config": {"permission_policy": {"type": "always_ask"}}}
    session_id = coordinator(world, asking)
    events = world.turn(session_id, "delegate: run: echo deep")
    (use,) = only(events, "agent.tool_use")
    (child,) = children(world, session_id)
    assert (use.session_thread_id, use.evaluated_permission) == (child.id, "ask")
    answer = {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"}
    with world.stream(session_id) as stream:
        (echo,) = world.send(session_id, answer)
        stream.until(IDLE)
    assert echo.session_thread_id == child.id
    own = list(world.beta.sessions.threads.events.list(child.id, session_id=session_id))
    (done,) = only(own, "agent.tool_result")
    assert (done.tool_use_id, done.is_error) == (use.id, False)
    assert only(world.listed(session_id), "agent.tool_result") == []


@pytest.mark.parametrize("whom", ["one", "all"])
def test_interrupts(either: World, whom: str) -> None:
    world = either
    session_id = coordinator(world)
    with world.stream(session_id) as stream:
        world.send(session_id, message("delegate: silence"))
        seen = stream.until("session.thread_status_running", where=lambda event: event.agent_name == "helper")
        if not only(seen, IDLED):
            stream.until(IDLED)  # of the coordinator
        (child,) = children(world, session_id)
        assert child.status == "running"
        named = {"session_thread_id": child.id} if whom == "one" else {}
        (echo,) = world.send(session_id, {**INTERRUPT, **named})
        assert echo.processed_at is None
        told = stream.until(IDLE)
    assert told[-1].stop_reason.type == "end_turn"
    (applied,) = [event for event in only(told, "user.interrupt") if event.processed_at]
    assert (applied.id, applied.session_thread_id) == (echo.id, child.id if whom == "one" else None)
    heard = only(told, "agent.thread_message_received")
    assert len(heard) == (whom == "one"), "a coordinator is told when a child alone was stopped"
    assert world.beta.sessions.threads.retrieve(child.id, session_id=session_id).status == "idle"


def test_the_newer_form_of_a_roster_with_agents_that_are_made_up(either: World) -> None:
    world = either
    helper = world.agent(name="helper")
    team = {"type": "multiagent_20261001", "advisor": {**ON, "model": ADVISOR["model"]},
            "subagents": {**ON, "inline_agents": ON, "predefined_agents": [helper.id]}}  # fmt: skip
    session_id = coordinator(world, **team)
    events = world.turn(session_id, "invent: answer: I am Ada")
    (child,) = children(world, session_id)
    assert (child.agent.type, child.agent.name, child.agent.system) == ("inline", "Ada", "Be Ada.")
    assert only(events, "session.thread_created")[0].agent_name == "Ada"
    assert world.last_text(session_id) == "Ada has reported."
    world.turn(session_id, "delegate: answer: me too")
    world.turn(session_id, "advise")
    assert [thread.agent.type for thread in children(world, session_id)] == ["inline", "agent", "advisor"]


def test_a_copy_of_itself_can_be_delegated_to(world: World) -> None:
    session_id = world.session(agent=world.agent(
        name="helper", multiagent={"type": "coordinator", "agents": [{"type": "self"}]}).id)  # fmt: skip
    world.turn(session_id, "delegate: answer: from myself")
    (child,) = children(world, session_id)
    assert child.agent.name == "helper"
    assert world.last_text(session_id) == "helper has reported."


@pytest.mark.parametrize(
    ("description", "results", "last"),
    [
        ("reach at once", ["satisfied"], "First attempt."),
        ("reach it never", ["needs_revision", "max_iterations_reached"], "Last words."),
        ("judge it not", ["failed"], "First attempt."),
    ],
)
def test_outcomes(either: World, description: str, results: list[str], last: str) -> None:
    session_id = either.session()
    events = either.turn(session_id, define(description, max_iterations=2))
    assert [event.result for event in only(events, "span.outcome_evaluation_end")] == results
    assert either.last_text(session_id) == last
    (shown,) = either.beta.sessions.retrieve(session_id).outcome_evaluations
    assert (shown.result, shown.description) == (results[-1], description)


def test_an_outcome_as_the_first_event_with_a_rubric_in_a_file(either: World) -> None:
    world = either
    file_id = world.beta.files.upload(file=("rubric.md", b"It rhymes.", "text/markdown")).id
    rubric = {"type": "file", "file_id": file_id}
    session_id = world.session(initial_events=[define("take your time", rubric=rubric)])
    with world.stream(session_id) as stream:
        if world.beta.sessions.retrieve(session_id).outcome_evaluations[0].result != "evaluating":
            stream.until("span.outcome_evaluation_start")
        (echo,) = only(world.listed(session_id), "user.define_outcome")
        assert echo.rubric.to_dict() == {"type": "text", "content": "It rhymes."}
        with pytest.raises(anthropic.BadRequestError, match="still evaluating"):
            world.send(session_id, define("another"))
        world.send(session_id, INTERRUPT)
        stream.until(IDLE)
    (end,) = only(world.listed(session_id), "span.outcome_evaluation_end")
    assert end.result == "interrupted"
    missing = {"type": "file", "file_id": "file_none"}
    with pytest.raises(anthropic.BadRequestError, match=r"rubric\.file_id: file file_none was not found"):
        world.send(session_id, define("x", rubric=missing))
    empty = world.beta.files.upload(file=("rubric.md", b" \n", "text/markdown")).id
    with pytest.raises(anthropic.BadRequestError, match="a rubric has 1 to"):
        world.send(session_id, define("x", rubric={"type": "file", "file_id": empty}))


def test_an_answer_to_an_archived_thread_is_refused(world: World) -> None:
    session_id = coordinator(world, WEATHER)
    use = world.turn(session_id, "delegate: ask the client")[-1].stop_reason.event_ids[0]
    (child,) = children(world, session_id)
    with following(world.beta.sessions.threads.events.stream(child.id, session_id=session_id)) as stream:
        world.beta.sessions.threads.archive(child.id, session_id=session_id)
        (end,) = stream.rest()
    assert end.type == "session.thread_status_terminated"
    with pytest.raises(anthropic.BadRequestError, match="which has ended"):
        world.send(session_id, result(use, "late"))
    events = world.turn(session_id, "say: still here")
    assert events[-1].stop_reason.type == "end_turn"
