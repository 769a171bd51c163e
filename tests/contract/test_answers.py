"""Answers to tool uses: partial, early, repeated, wrong, and many at once."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, message, only, result, verdict

ASKING = {**BUILTINS, "default_config": {"permission_policy": {"type": "always_ask"}}}


def asked(events: list[Any]) -> list[str]:
    """The ids that the last idle event waits for."""
    assert events[-1].stop_reason.type == "requires_action"
    return list(events[-1].stop_reason.event_ids)


def test_a_partial_answer_turns_idle_again_with_the_remainder(either: World) -> None:
    session_id = either.session(WEATHER)
    oslo, rome = asked(either.turn(session_id, "weather in two cities"))
    rest = either.turn(session_id, result(rome, "hot"))
    assert asked(rest) == [oslo]
    (thread_idle,) = only(rest, "session.thread_status_idle")
    assert thread_idle.stop_reason == rest[-1].stop_reason
    assert not only(rest, "span.model_request_start")
    done = either.turn(session_id, result(oslo, "cold"))
    assert done[-1].stop_reason.type == "end_turn"
    assert either.last_text(session_id) == "Compared."


def test_all_answers_in_one_request(either: World) -> None:
    session_id = either.session(WEATHER)
    uses = asked(either.turn(session_id, "weather in two cities"))
    done = either.turn(session_id, *(result(use, "fine") for use in uses))
    assert done[-1].stop_reason.type == "end_turn"
    assert len(only(done, IDLE)) == 1


def test_twelve_parallel_custom_tools_answered_at_once_and_early(either: World) -> None:
    """Each is answered when its event arrives, which may be before the session is idle."""
    session_id = either.session(WEATHER)
    with either.stream(session_id) as stream:
        either.send(session_id, message("weather everywhere"))
        uses = []
        for number in range(12):
            (use,) = only(stream.until("agent.custom_tool_use"), "agent.custom_tool_use")
            assert use.input == {"city": f"c{number}"}
            either.send(session_id, result(use.id, f"r{number}"))
            uses.append(use.id)
        stream.until(IDLE, where=lambda event: event.stop_reason.type == "end_turn")
    events = either.raw(session_id)
    answers = only(events, "user.custom_tool_result")
    assert [answer["custom_tool_use_id"] for answer in answers] == uses
    assert all(answer["processed_at"] for answer in answers)
    assert either.last_text(session_id).split() == [f"r{number}" for number in range(12)], "in the order of the calls"
    for idle in only(events, IDLE)[:-1]:
        assert set(idle["stop_reason"]["event_ids"]) <= set(uses)


def test_a_second_answer_is_accepted_and_changes_nothing(either: World) -> None:
    session_id = either.session(WEATHER)
    (use,) = asked(either.turn(session_id, "weather in Oslo"))
    with either.stream(session_id) as stream:
        (first,) = either.send(session_id, result(use, "sunny"))
        (again,) = either.send(session_id, result(use, "rainy"))
        stream.until(IDLE)
    assert (again.id, again.content[0].text) == (first.id, "sunny")
    (late,) = either.send(session_id, result(use, "snowy"))
    assert late.id == first.id
    assert len(only(either.raw(session_id), "user.custom_tool_result")) == 1
    assert either.last_text(session_id) == "It is sunny."


def test_a_second_verdict_is_accepted_and_changes_nothing(either: World) -> None:
    session_id = either.session(ASKING)
    (use,) = asked(either.turn(session_id, "run: echo once >> log; cat log"))
    with either.stream(session_id) as stream:
        (first,) = either.send(session_id, verdict(use, "allow"))
        (again,) = either.send(session_id, verdict(use, "deny"))
        stream.until(IDLE)
    assert (again.id, again.result) == (first.id, "allow")
    (ran,) = only(either.raw(session_id), "agent.tool_result")
    assert (ran["is_error"], ran["content"][0]["text"].strip()) == (False, "once")


def test_an_answer_after_an_interrupt_is_too_late(either: World) -> None:
    session_id = either.session(WEATHER)
    (use,) = asked(either.turn(session_id, "weather in Oslo"))
    either.turn(session_id, INTERRUPT)
    before = either.types(session_id)
    either.send(session_id, result(use, "sunny"))
    assert either.types(session_id) == before


def test_a_waiting_session_takes_no_message_and_says_why(either: World) -> None:
    session_id = either.session(WEATHER)
    uses = asked(either.turn(session_id, "weather in two cities"))
    with pytest.raises(anthropic.BadRequestError) as refused:
        either.send(session_id, message("hello?"))
    assert refused.value.body["error"]["message"] == (
        f"Invalid user.message event at events[0]: waiting on responses to events [{', '.join(uses)}]; only "
        "user.tool_confirmation, user.custom_tool_result, user.tool_result, or user.interrupt may be sent"
    )
    both = [*(result(use, "fine") for use in uses), message("say: And now this.")]
    either.turn(session_id, *both)
    assert either.last_text(session_id) == "And now this.", "after the last answer a message is fine"


def test_verdicts_only_for_what_asks(either: World) -> None:
    session_id = either.session(BUILTINS, WEATHER)
    (use,) = only(either.turn(session_id, "run: echo hi"), "agent.tool_use")
    (waits,) = asked(either.turn(session_id, "weather in Oslo"))
    for wrong in (
        verdict(use.id, "allow"),
        verdict(waits, "allow"),
        result(use.id, "x"),
        verdict(waits, "perhaps"),
        verdict(use.id, "allow", deny_message="x"),
    ):
        with pytest.raises(anthropic.BadRequestError):
            either.send(session_id, wrong)


def test_an_error_as_an_answer_reaches_the_model(either: World) -> None:
    session_id = either.session(WEATHER)
    (use,) = asked(either.turn(session_id, "weather in Oslo"))
    done = either.turn(session_id, result(use, "no network", is_error=True))
    assert only(done, "user.custom_tool_result")[0].is_error is True
    assert either.last_text(session_id) == "It is no network."


def test_built_in_and_custom_tools_in_one_message(either: World) -> None:
    """The built-in one runs at once; the session waits for the other only."""
    session_id = either.session(BUILTINS, WEATHER)
    events = either.turn(session_id, "run and ask")
    (use,) = asked(events)
    assert only(events, "agent.custom_tool_use")[0].id == use
    (ran,) = only(events, "agent.tool_result")
    assert ran.content[0].text.strip() == "ran"
    done = either.turn(session_id, result(use, "windy"))
    assert done[-1].stop_reason.type == "end_turn"
    assert either.last_text(session_id).split() == ["Both:", "ran", "windy"]


# -- built-in tools


def test_the_file_tools(either: World) -> None:
    session_id = either.session(BUILTINS)
    events = either.turn(session_id, "files")
    uses = {use.id: use for use in only(events, "agent.tool_use")}
    outcome = {}
    for ran in only(events, "agent.tool_result"):
        use = uses[ran.tool_use_id]
        outcome[use.name, use.input.get("file_path") or use.input["pattern"]] = ran
    assert {use.evaluated_permission for use in uses.values()} == {"allow"}
    assert {use.evaluation.type for use in uses.values()} == {"always_allow"}
    assert "gamma" in outcome["read", "/workspace/notes.txt"].content[0].text
    assert "/workspace/notes.txt" in outcome["glob", "**/*.txt"].content[0].text
    assert "notes.txt" in outcome["grep", "gam+a"].content[0].text
    assert outcome["read", "/workspace/missing.txt"].is_error is True
    assert [ran.is_error for ran in only(events, "agent.tool_result")].count(True) == 1


def test_parallel_calls_of_one_message_come_before_the_next_request(world: World) -> None:
    session_id = world.session(BUILTINS)
    world.turn(session_id, "files")
    types = world.types(session_id)
    last_end = len(types) - 1 - types[::-1].index("agent.tool_result")
    assert types[last_end - 4 : last_end + 2] == ["agent.tool_result"] * 5 + ["span.model_request_start"]


def test_a_disabled_tool_is_denied_without_a_policy(either: World) -> None:
    session_id = either.session({**BUILTINS, "configs": [{"name": "grep", "enabled": False}]})
    events = either.turn(session_id, "use grep")
    (use,) = only(events, "agent.tool_use")
    assert (use.evaluated_permission, use.evaluation) == ("deny", None)
    (ran,) = only(events, "agent.tool_result")
    assert (ran.is_error, ran.content[0].text) == (True, "Permission to use grep has been denied.")
    kinds = [event.type for event in events]
    at = kinds.index("agent.tool_result")
    assert kinds[at + 1] == "span.model_request_start"


def test_policies_per_tool(either: World) -> None:
    ask = {"type": "always_ask"}
    session_id = either.session({**BUILTINS, "configs": [{"name": "grep", "permission_policy": ask}]})
    assert only(either.turn(session_id, "run: true"), "agent.tool_use")[0].evaluated_permission == "allow"
    (use,) = asked(either.turn(session_id, "use grep"))
    done = either.turn(session_id, verdict(use, "deny"))
    (ran,) = only(done, "agent.tool_result")
    assert ran.content[0].text == "Permission to use grep has been denied."


def test_the_shell_keeps_its_state_over_turns(world: World) -> None:
    session_id = world.session(BUILTINS)
    world.turn(session_id, "run: cd /tmp && export WORD=kept")
    world.turn(session_id, "run: echo $PWD $WORD; false")
    (_, ran) = only(world.raw(session_id), "agent.tool_result")
    assert "/tmp kept" in ran["content"][0]["text"]
    assert ran["is_error"] is True, "a failed command is an error result for the model"
