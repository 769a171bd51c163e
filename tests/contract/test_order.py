"""The order of events, as recorded on the hosted service: test vectors, judged on the list and on the stream."""

from __future__ import annotations

from datetime import datetime

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, message, only, result, verdict

RUNNING = ["session.status_running", "session.thread_status_running"]
IDLING = ["session.thread_status_idle", "session.usage", IDLE]
ASKED = "span.model_request_start"
ANSWERED = "span.model_request_end"
ASKING = {
    **BUILTINS,
    "default_config": {"enabled": True, "permission_policy": {"type": "always_ask"}},
}


def microseconds(event: dict) -> int:
    return int(datetime.fromisoformat(event["processed_at"]).timestamp() * 1_000_000 + 0.5)


def test_a_plain_turn(world: World) -> None:
    session_id = world.session()
    world.turn(session_id, "say: Hello.")
    events = world.raw(session_id)
    assert [event["type"] for event in events] == [
        *RUNNING, "user.message", ASKED, "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip
    assert microseconds(events[3]) == microseconds(events[2]) + 1
    moments = [event["processed_at"] for event in events]
    assert moments == sorted(set(moments)), "positions are unique and ascending"


def test_a_turn_with_thinking_tools_and_a_second_request(world: World) -> None:
    session_id = world.session(BUILTINS)
    world.turn(session_id, "run: echo hi")
    world.turn(session_id, "think: Fine.")
    assert world.types(session_id) == [
        *RUNNING, "user.message", ASKED, "agent.tool_use", ANSWERED, "agent.tool_result", ASKED, "agent.message",
        ANSWERED, *IDLING,
        *RUNNING, "user.message", ASKED, "agent.thinking", "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip


def test_a_message_in_mid_turn_is_taken_up_after_the_result_and_before_the_next_request(world: World) -> None:
    session_id = world.session(BUILTINS)
    with world.stream(session_id) as stream:
        world.send(session_id, message("run: sleep 1.5"))
        stream.until("agent.tool_use")
        (echo,) = world.send(session_id, message("say: Heard you."))
        assert echo.processed_at is None
        waiting = world.raw(session_id)[-1]
        assert (waiting["id"], waiting["processed_at"]) == (echo.id, None), "unprocessed events stand at the tail"
        stream.until(IDLE)
    events = world.raw(session_id)
    assert [event["type"] for event in events] == [
        *RUNNING, "user.message", ASKED, "agent.tool_use", ANSWERED, "agent.tool_result", "user.message", ASKED,
        "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip
    assert events[7]["id"] == echo.id
    assert microseconds(events[8]) == microseconds(events[7]) + 1
    echoes = [event for event in stream.seen if event.id == echo.id]
    assert [event.processed_at is None for event in echoes] == [True, False], "once queued, once processed"


def test_two_messages_while_the_model_speaks_share_one_running_pair(world: World) -> None:
    session_id = world.session()
    with world.stream(session_id) as stream:
        world.send(session_id, message("spell: a long answer, letter by letter"))
        stream.until(ASKED)
        world.send(session_id, message("one"), message("say: two"))
        stream.until(IDLE)
    assert world.types(session_id) == [
        *RUNNING, "user.message", ASKED, "agent.thinking", "agent.message", ANSWERED, "user.message", "user.message",
        ASKED, "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip


def test_an_answer_is_listed_before_the_running_pair_that_it_causes(world: World) -> None:
    session_id = world.session(WEATHER)
    asked = world.turn(session_id, "weather in Oslo")
    (use,) = only(asked, "agent.custom_tool_use")
    assert asked[-1].stop_reason.to_dict() == {"type": "requires_action", "event_ids": [use.id]}
    (echo,) = world.turn(session_id, result(use.id, "sunny"))[:1]
    assert echo.type == "user.custom_tool_result"
    assert echo.processed_at is not None, "consumed on receipt"
    assert world.types(session_id) == [
        *RUNNING, "user.message", ASKED, "agent.message", "agent.custom_tool_use", ANSWERED, *IDLING,
        "user.custom_tool_result", *RUNNING, ASKED, "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip
    assert world.last_text(session_id) == "It is sunny."


def test_an_allowed_call_runs_after_the_running_pair(world: World) -> None:
    session_id = world.session(ASKING)
    (use,) = only(world.turn(session_id, "run: echo yes"), "agent.tool_use")
    assert (use.evaluated_permission, use.evaluation.type) == ("ask", "always_ask")
    world.turn(session_id, verdict(use.id, "allow"))
    assert world.types(session_id)[9:] == [
        "user.tool_confirmation", *RUNNING, "agent.tool_result", ASKED, "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip
    assert world.last_text(session_id) == "It said: yes"


def test_a_denial_s_result_comes_after_the_running_pair_right_before_the_next_request(world: World) -> None:
    session_id = world.session(ASKING)
    (use,) = only(world.turn(session_id, "run: echo no"), "agent.tool_use")
    world.turn(session_id, verdict(use.id, "deny", deny_message="Not today."))
    events = world.raw(session_id)[9:]
    assert [event["type"] for event in events] == [
        "user.tool_confirmation", *RUNNING, "agent.tool_result", ASKED, "agent.message", ANSWERED, *IDLING,
    ]  # fmt: skip
    denied = events[3]
    assert denied["is_error"] is True
    assert denied["content"][0]["text"] == "Permission to use bash has been denied. Not today."
    assert microseconds(events[4]) == microseconds(denied) + 1


def test_an_interrupt_of_the_model_is_listed_after_the_span_s_end_and_before_the_idle_pair(world: World) -> None:
    session_id = world.session()
    with world.stream(session_id) as stream:
        world.send(session_id, message("nothing more than silence"))
        stream.until(ASKED)
        (echo,) = world.send(session_id, INTERRUPT)
        assert echo.processed_at is None
        idle = stream.until(IDLE)[-1]
    assert idle.stop_reason.type == "end_turn"
    events = world.raw(session_id)
    assert [event["type"] for event in events] == [
        *RUNNING, "user.message", ASKED, ANSWERED, "user.interrupt", *IDLING,
    ]  # fmt: skip
    assert events[4]["is_error"] is True
    assert events[4]["model_request_start_id"] == events[3]["id"]


def test_an_interrupt_of_a_tool_is_listed_after_the_results_that_it_causes(world: World) -> None:
    session_id = world.session(BUILTINS)
    with world.stream(session_id) as stream:
        world.send(session_id, message("run: sleep 60"))
        stream.until(ANSWERED)
        world.send(session_id, INTERRUPT)  # while the sandbox starts, at most
        stream.until(IDLE, seconds=5)
    events = world.raw(session_id)
    assert [event["type"] for event in events] == [
        *RUNNING, "user.message", ASKED, "agent.tool_use", ANSWERED, "agent.tool_result", "user.interrupt", *IDLING,
    ]  # fmt: skip
    (cut,) = only(events, "agent.tool_result")
    assert cut["is_error"] is True
    assert cut["content"][0]["text"] == "Tool execution was interrupted before completion. Please retry."


def test_an_interrupt_of_a_waiting_session_answers_its_calls_without_asking_the_model(world: World) -> None:
    session_id = world.session(WEATHER)
    world.turn(session_id, "weather in two cities")
    events = world.turn(session_id, INTERRUPT)
    assert events[-1].stop_reason.type == "end_turn"
    added = world.types(session_id)[10:]
    assert ASKED not in added
    answers = [at for at, kind in enumerate(added) if kind == "user.custom_tool_result"]
    assert len(answers) == 2
    assert added[answers[-1] + 1 :] == ["user.interrupt", *IDLING]
    world.turn(session_id, "say: Still here.")
    assert world.last_text(session_id) == "Still here."


def test_an_interrupt_and_a_message_in_one_request_redirect_without_an_idle_between(world: World) -> None:
    session_id = world.session()
    with world.stream(session_id) as stream:
        world.send(session_id, message("nothing more than silence"))
        stream.until(ASKED)
        world.send(session_id, INTERRUPT, message("say: Another way."))
        stream.until(IDLE)
    types = world.types(session_id)
    assert types.index("user.interrupt") < types.index("user.message", 3) < types.index("agent.message")
    assert world.last_text(session_id) == "Another way."
    assert types.count(IDLE) == 1


def test_an_interrupt_of_an_idle_session_changes_nothing(world: World) -> None:
    """Not even for a moment: a client that saw `running` would wait for an idle event that never comes."""
    session_id = world.session()
    world.turn(session_id, "say: Done.")
    before = world.types(session_id)
    for _ in range(5):
        (echo,) = world.send(session_id, INTERRUPT)
        assert echo.processed_at is not None
        assert world.beta.sessions.retrieve(session_id).status == "idle"
    assert world.types(session_id) == [*before, *["user.interrupt"] * 5]
    assert world.turn(session_id, "say: On.")[-1].type == IDLE


def test_the_list_follows_the_place_and_not_the_receipt(world: World) -> None:
    """Descending is ascending reversed, and what waits is at its head."""
    session_id = world.session(BUILTINS)
    with world.stream(session_id) as stream:
        world.send(session_id, message("run: sleep 1"))
        stream.until("agent.tool_use")
        (echo,) = world.send(session_id, message("say: Later."))
        assert world.raw(session_id, order="desc")[0]["id"] == echo.id
        stream.until(IDLE)
    assert world.raw(session_id, order="desc") == world.raw(session_id)[::-1]
