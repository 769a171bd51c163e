"""Budgets as the official SDK meets them: refusals, pauses, and what goes on afterwards."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from contract.world import IDLE, INTERRUPT, WEATHER, World, cents, message, only, result


def refusal(call: Any) -> tuple[str, str]:
    """The reason and the message of a refused call."""
    with pytest.raises(anthropic.BadRequestError) as refused:
        call()
    error = refused.value.body["error"]
    return error["details"]["reason"], error["message"]


def test_refusals(either: World) -> None:
    reason, said = refusal(lambda: either.session(model="some-model", budget=cents(100)))
    assert (reason, "some-model" in said) == ("model_not_budgetable", True)
    free = either.session()
    assert refusal(lambda: either.beta.sessions.update(free, budget=cents(100)))[0] == "budget_create_only"
    capped = either.session(model="test-priced", budget=cents(10_000))
    either.turn(capped, "spend a dollar, then another")
    reason, said = refusal(lambda: either.beta.sessions.update(capped, budget=cents(199)))
    assert reason == "budget_not_raised"
    assert "budget.max_list_cost must be greater than the session's consumed list cost" in said
    assert either.beta.sessions.update(capped, budget=cents(300)).budget.max_list_cost.amount == "300"
    assert either.beta.sessions.retrieve(capped).status == "idle", "nothing had been stopped"


def test_at_the_limit(world: World) -> None:
    session_id = world.session(WEATHER, model="test-priced", budget=cents(100))
    events = world.turn(session_id, "spend a dollar, then ask")
    assert events[-1].stop_reason.type == "requires_action", "it outranks the budget"
    (use,) = only(events, "agent.custom_tool_use")
    with world.stream(session_id) as stream:
        world.send(session_id, result(use.id, "rain"))
        assert stream.until(IDLE)[-1].stop_reason.type == "budget_reached"
    before = world.listed(session_id)
    reason, said = refusal(lambda: world.send(session_id, message("more")))
    assert (reason, "user.custom_tool_result" in said) == ("budget_reached", True)
    (echo,) = world.send(session_id, INTERRUPT)
    assert (echo.type, echo.processed_at is None) == ("user.interrupt", False)
    assert world.listed(session_id) == before, "accepted, but not recorded"
    with world.stream(session_id) as stream:
        world.beta.sessions.update(session_id, budget=None)
        assert stream.until(IDLE)[-1].stop_reason.type == "end_turn"
    assert world.last_text(session_id) == "Spent: rain"


def test_an_interrupt_at_the_limit_still_ends_what_waits(world: World) -> None:
    session_id = world.session(WEATHER, model="test-priced", budget=cents(100))
    world.turn(session_id, "spend a dollar, then ask")
    events = world.turn(session_id, INTERRUPT)
    assert events[-1].stop_reason.type == "end_turn"
    assert refusal(lambda: world.send(session_id, message("more")))[0] == "budget_reached"


def test_a_budget_changes_while_the_session_runs(world: World) -> None:
    session_id = world.session(model="test-priced", budget=cents(100))
    with world.stream(session_id) as stream:
        world.send(session_id, message("nothing more than silence"))
        stream.until("span.model_request_start")
        assert world.beta.sessions.update(session_id, budget=cents(50)).status == "running"
        stream.until("session.updated")
        world.send(session_id, INTERRUPT)
        events = stream.until(IDLE)
    assert only(events, "session.usage")[0].budget.to_dict() == cents(50)
