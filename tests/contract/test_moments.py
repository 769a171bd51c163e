"""What a client may do at an awkward moment: while the model fails, while calls wait, before anything has begun."""

from __future__ import annotations

import anthropic
import pytest

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, message, only, result, verdict

ASKING = {**BUILTINS, "default_config": {"permission_policy": {"type": "always_ask"}}}
RUNNING = ["session.status_running", "session.thread_status_running"]
IDLING = ["session.thread_status_idle", "session.usage", IDLE]


def test_while_the_model_is_being_retried(either: World) -> None:
    session_id = either.session()
    with either.stream(session_id) as stream:
        either.send(session_id, message("overloaded for long"))
        stream.until("session.thread_status_rescheduled")
        assert either.beta.sessions.retrieve(session_id).status == "rescheduling"
        (thread,) = either.beta.sessions.threads.list(session_id, statuses=["rescheduling"])
        assert thread.status == "rescheduling"
        assert session_id in [found.id for found in either.beta.sessions.list(statuses=["rescheduling"], limit=100)]
        for refused in (either.beta.sessions.delete, either.beta.sessions.archive):
            with pytest.raises(anthropic.BadRequestError, match="running"):
                refused(session_id)
        either.send(session_id, INTERRUPT)
        idle = stream.until(IDLE, seconds=5)[-1]
    assert idle.stop_reason.type == "end_turn"
    events = either.types(session_id)
    assert events[:4] == [*RUNNING, "user.message", "span.model_request_start"]
    assert events[4:8] == [
        "span.model_request_end", "session.error", "session.status_rescheduled", "session.thread_status_rescheduled",
    ]  # fmt: skip
    assert events[-4:] == ["user.interrupt", *IDLING]
    either.turn(session_id, "say: Fine again.")
    assert either.last_text(session_id) == "Fine again."


def test_an_interrupt_names_the_thread(either: World) -> None:
    session_id = either.session()
    (thread,) = either.beta.sessions.threads.list(session_id)
    with either.stream(session_id) as stream:
        either.send(session_id, message("nothing more than silence"))
        stream.until("span.model_request_start")
        either.send(session_id, {**INTERRUPT, "session_thread_id": thread.id})
        stream.until(IDLE, seconds=5)


def test_an_interrupt_and_a_message_while_calls_wait(either: World) -> None:
    session_id = either.session(WEATHER)
    either.turn(session_id, "weather in two cities")
    done = either.turn(session_id, INTERRUPT, message("say: Never mind."))
    assert done[-1].stop_reason.type == "end_turn"
    kinds = either.types(session_id)[10:]
    assert kinds.index("user.interrupt") < kinds.index("user.message") < kinds.index("agent.message")
    assert kinds.count(IDLE) == 1
    assert either.last_text(session_id) == "Never mind."


def test_a_message_and_an_interrupt_right_after_it(either: World) -> None:
    """Nothing is asked of the model, and the message stays part of the conversation."""
    session_id = either.session()
    done = either.turn(session_id, message("say: Too late."), INTERRUPT)
    assert done[-1].stop_reason.type == "end_turn"
    kinds = either.types(session_id)
    assert kinds.index("user.message") < kinds.index("user.interrupt") < kinds.index(IDLE)
    assert "agent.message" not in kinds


def test_two_calls_that_ask_one_denied_and_one_allowed(either: World) -> None:
    session_id = either.session(ASKING)
    one, two = only(either.turn(session_id, "run two"), "agent.tool_use")
    partly = either.turn(session_id, verdict(one.id, "deny"))
    assert partly[-1].stop_reason.event_ids == [two.id]
    done = either.turn(session_id, verdict(two.id, "allow"))
    assert done[-1].stop_reason.type == "end_turn"
    results = {event["tool_use_id"]: event for event in only(either.raw(session_id), "agent.tool_result")}
    assert results[one.id]["is_error"] is True
    assert results[two.id]["content"][0]["text"].strip() == "two"
    assert len(results) == 2


def test_two_calls_denied_in_one_request(either: World) -> None:
    session_id = either.session(ASKING)
    uses = only(either.turn(session_id, "run two"), "agent.tool_use")
    either.turn(session_id, *(verdict(use.id, "deny") for use in uses))
    assert either.types(session_id)[10:] == [
        "user.tool_confirmation", "user.tool_confirmation", *RUNNING, "agent.tool_result", "agent.tool_result",
        "span.model_request_start", "agent.message", "span.model_request_end", *IDLING,
    ]  # fmt: skip


def test_a_denied_call_next_to_a_custom_one(either: World) -> None:
    """The custom one still waits after the other was denied."""
    session_id = either.session(ASKING, WEATHER)
    asked = either.turn(session_id, "run and ask")
    (use,), (custom,) = only(asked, "agent.tool_use"), only(asked, "agent.custom_tool_use")
    assert set(asked[-1].stop_reason.event_ids) == {use.id, custom.id}
    assert either.turn(session_id, verdict(use.id, "deny"))[-1].stop_reason.event_ids == [custom.id]
    assert either.turn(session_id, result(custom.id, "dull"))[-1].stop_reason.type == "end_turn"


def test_waiting_sessions_can_be_archived_and_deleted(either: World) -> None:
    for end in (either.beta.sessions.archive, either.beta.sessions.delete):
        session_id = either.session(WEATHER)
        either.turn(session_id, "weather in Oslo")
        end(session_id)


def test_new_tools_hold_from_the_next_turn(either: World) -> None:
    session_id = either.session()
    either.turn(session_id, "say: No tools yet.")
    either.beta.sessions.update(session_id, agent={"tools": [WEATHER]})
    (use,) = only(either.turn(session_id, "weather in Oslo"), "agent.custom_tool_use")
    either.beta.sessions.update(session_id, agent={"tools": []})
    either.turn(session_id, result(use.id, "sunny"))
    (again,) = only(either.turn(session_id, "weather in Rome"), "agent.tool_use")
    assert again.evaluated_permission == "deny", "a tool that the agent does not have"


def test_files_named_in_messages_reach_the_model(world: World) -> None:
    file_id = world.beta.files.upload(file=("say.txt", b"anything", "text/plain")).id
    document = {"type": "document", "source": {"type": "file", "file_id": file_id}}
    session_id = world.session()
    world.turn(session_id, {"type": "user.message", "content": [document, {"type": "text", "text": "count tokens"}]})
    missing = {"type": "document", "source": {"type": "file", "file_id": "file_none"}}
    with pytest.raises(anthropic.BadRequestError, match="file_none"):
        world.send(session_id, {"type": "user.message", "content": [missing]})


def test_many_sessions_at_once_each_get_their_own_end(world: World) -> None:
    sessions = [world.session() for _ in range(20)]
    for number, session_id in enumerate(sessions):
        world.send(session_id, message(f"spell: this is number {number}"))
    for number, session_id in enumerate(sessions):
        with world.stream(session_id) as stream:
            if world.beta.sessions.retrieve(session_id).status != "idle":
                stream.until(IDLE)
        assert world.last_text(session_id) == f"this is number {number}"
        assert world.types(session_id).count(IDLE) == 1
