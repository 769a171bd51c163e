"""A budget in the loop: where a turn stops, what is kept, and how it goes on when the budget is raised or removed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stage import AGENT, SESSION, THREAD, Stage
from test_loop import before_append

from hostler import clock
from hostler.harness.ledger import EMPTY_LEDGER, Ledger, limit_of
from hostler.harness.loop import advance
from hostler.harness.state import MAIL
from hostler.harness.threads import insertion
from hostler.log.entries import Draft
from hostler.models.catalogue import Catalogue
from hostler.models.table import Price
from hostler.store.sql import Tx
from hostler.wire.usage import BudgetLimit, Ceiling

DOLLAR = {"input_tokens": 1000}  # at a price of 1000 dollars a million
CALL = {"name": "bash", "input": {"command": "x"}}
SCRIPT: dict[str, Any] = {
    "rules": [
        {"when": {"user_text_contains": "work"}, "turns": [{"tools": [CALL], "usage": DOLLAR, "repeat": 3},
                                                         {"text": "Done.", "usage": DOLLAR}]},
        {"when": {"user_text_equals": "talk"}, "turns": [{"text": "Hi.", "usage": DOLLAR}]},
        {"when": {"user_text_equals": "ask"}, "turns": [{"tools": [{"name": "lookup"}], "usage": DOLLAR},
                                                        {"text": "Found.", "usage": DOLLAR}]},
        {"when": {"user_text_equals": "fail"}, "turns": [{"text": "Never.", "error": {"kind": "overloaded"}}]},
    ],
    "otherwise": {"text": "Else.", "usage": DOLLAR},
}  # fmt: skip
CHILD = "sthr_2"
STOP = ["session.thread_status_idle", "session.usage", "session.status_idle"]
LOOKUP = {"type": "custom", "name": "lookup", "description": "d", "input_schema": {"type": "object"}}


def cents(amount: int | str) -> dict[str, Any]:
    return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}


def play(folder: Path, budget: dict[str, Any] | None, work: Callable[[Stage], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        stage = await Stage.open(folder, SCRIPT, **more)
        prices = {"scripted": Price.of(Decimal(1000), Decimal(0))}
        stage.deps = msgspec.structs.replace(stage.deps, catalogue=Catalogue(prices=prices))
        agent = {**AGENT, "tools": [*AGENT["tools"], LOOKUP]}
        await stage.set(budget=msgspec.json.encode(budget) if budget else None, agent=msgspec.json.encode(agent))
        async with asyncio.timeout(20):
            await work(stage)
        await stage.store.close()

    asyncio.run(main())


async def change(stage: Stage, budget: dict[str, Any] | None) -> None:
    """As the service does it."""
    column = msgspec.json.encode(budget) if budget else None
    woken = {"paused": 0, "wake_at": clock.now()} if await stage.column("paused") else {}
    updated = Draft(type="session.updated", fields={"budget": budget})
    await stage.log.append("sesn_1", "sthr_1", [updated], patch={"budget": column, **woken})


async def stops(stage: Stage) -> list[str]:
    return [event["stop_reason"]["type"] for event in await stage.events() if event["type"] == "session.status_idle"]


async def count(stage: Stage, event_type: str) -> int:
    return (await stage.types()).count(event_type)


def test_a_turn_stops_before_the_request_that_the_budget_does_not_allow(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("work")
        await advance(await stage.wake(), stage.deps)
        types = await stage.types()
        assert types[-3:] == STOP
        assert types[-4] == "agent.tool_result", "what the last answer called for is finished first"
        assert types.count("span.model_request_start") == 2, "at most one request over the limit"
        last = (await stage.events())[-3:]
        assert [last[0]["stop_reason"], last[2]["stop_reason"]] == [{"type": "budget_reached"}] * 2
        assert last[1]["budget"] == cents(150)
        assert last[1]["usage"]["list_cost"]["amount"] == "200"
        assert (await stage.column("paused"), await stage.column("wake_at")) == (1, None)

    play(tmp_path, cents(150), work)


@pytest.mark.parametrize("raised", [cents(1000), None], ids=["raised", "removed"])
def test_it_goes_on_exactly_where_it_stopped(tmp_path: Path, raised: Any) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("work")
        await advance(await stage.wake(), stage.deps)
        before = await stage.types()
        await change(stage, raised)
        await advance(await stage.wake(), stage.deps)
        after = (await stage.types())[len(before) :]
        running = ["session.updated", "session.status_running", "session.thread_status_running"]
        assert after[:4] == [*running, "span.model_request_start"]
        assert "user.message" not in after
        assert await stops(stage) == ["budget_reached", "end_turn"]
        assert await count(stage, "agent.tool_use") == await count(stage, "agent.tool_result") == 3
        (usage,) = [event for event in (await stage.events())[-3:] if event["type"] == "session.usage"]
        assert usage["budget"] == raised
        assert await stage.column("paused") == 0

    play(tmp_path, cents(50), work)


def test_a_message_that_waits_is_kept(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        before_append(stage.log, "agent.tool_use", lambda: stage.say("talk"))
        await stage.say("work")
        await advance(await stage.wake(), stage.deps)
        waiting = [event for event in await stage.events() if event["processed_at"] is None]
        assert [event["content"][0]["text"] for event in waiting] == ["talk"]
        assert await stops(stage) == ["budget_reached"]
        await change(stage, None)
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["budget_reached", "end_turn"]
        assert all(event["processed_at"] for event in await stage.events())
        said = [event["content"][0]["text"] for event in await stage.events() if event["type"] == "agent.message"]
        assert said == ["Hi."]

    play(tmp_path, cents(100), work)


def test_a_finished_turn_ends_as_ever(tmp_path: Path) -> None:
    """Nothing is left to do, so nothing is stopped; the next message is refused by the API."""

    async def work(stage: Stage) -> None:
        await stage.say("talk")
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["end_turn"]
        assert await stage.column("paused") == 0

    play(tmp_path, cents(100), work)


def test_waiting_for_a_client_outranks_the_budget(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("ask")
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["requires_action"]
        (use,) = [event["id"] for event in await stage.events() if event["type"] == "agent.custom_tool_use"]
        answer = {"custom_tool_use_id": use, "content": [{"type": "text", "text": "x"}]}
        await stage.send(Draft(type="user.custom_tool_result", fields=answer, answers=use))
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["requires_action", "budget_reached"]
        assert await count(stage, "span.model_request_start") == 1
        await change(stage, cents(1000))
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["requires_action", "budget_reached", "end_turn"]

    play(tmp_path, cents(100), work)


def test_a_raise_that_comes_just_before_the_stop_prevents_it(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        before_append(stage.log, "session.status_idle", lambda: change(stage, cents(1000)))
        await stage.say("work")
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["end_turn"]
        assert await count(stage, "session.status_running") == 1

    play(tmp_path, cents(100), work)


def test_a_lower_budget_counts_in_the_running_turn(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        before_append(stage.log, "agent.tool_result", lambda: change(stage, cents(101)))
        await stage.say("work")
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["budget_reached"]
        assert await count(stage, "span.model_request_start") == 2

    play(tmp_path, cents(5000), work)


def test_an_interrupt_ends_the_turn_that_a_raise_has_just_let_go_on(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("work")
        await advance(await stage.wake(), stage.deps)
        await change(stage, None)
        await stage.interrupt()
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["budget_reached", "end_turn"]
        assert await count(stage, "span.model_request_start") == 1

    play(tmp_path, cents(100), work)


def test_an_interrupt_at_the_limit_ends_a_waiting_turn(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("ask")
        await advance(await stage.wake(), stage.deps)
        await stage.interrupt()
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["requires_action", "end_turn"]

    play(tmp_path, cents(100), work)


def test_running_time_counts_and_resting_time_does_not(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        hour = 3_600_000_000
        await stage.set(active_us=hour - 60_000_000)
        await stage.say("talk")
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["end_turn"], "7.9 cents of 8"
        await stage.set(active_us=hour, usage=msgspec.json.encode(Ledger()))
        await stage.say("talk")
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["end_turn", "budget_reached"]
        assert await count(stage, "span.model_request_start") == 1

    play(tmp_path, cents(8), work)


def test_a_retry_is_a_request_too(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.set(usage=msgspec.json.encode(Ledger(cost=Decimal("0.0099999"))))
        await stage.say("fail")
        wake = await stage.wake()

        async def spend() -> None:
            wake.ledger = Ledger(cost=Decimal(1))

        before_append(stage.log, "session.status_rescheduled", spend)
        await advance(wake, stage.deps)
        assert await stops(stage) == ["budget_reached"]

    play(tmp_path, cents(1), work, model_attempts=1000)


def test_a_model_without_a_price_can_not_be_measured(tmp_path: Path) -> None:
    """Its price was taken out of the configuration. The session says why it stops, once, and goes on without one."""

    async def work(stage: Stage) -> None:
        stage.deps = msgspec.structs.replace(stage.deps, catalogue=Catalogue())
        await stage.say("talk")
        await advance(await stage.wake(), stage.deps)
        await stage.set(wake_at=clock.now())
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["budget_reached"]
        assert await stage.column("wake_at") is None
        await change(stage, None)
        await advance(await stage.wake(), stage.deps)
        assert await stops(stage) == ["budget_reached", "end_turn"]
        assert "list_cost" not in (await stage.events())[-2]["usage"]

    play(tmp_path, cents(100), work)


@pytest.mark.parametrize(
    ("cost", "active_us", "amount", "reached"),
    [
        ("0.99999999999", 0, "100", False),
        ("1.00000000000", 0, "100", True),
        ("0.92", 3_600_000_000, "100", True),
        ("0.92", 3_599_960_000, "100", False),
        ("0", 0, "1", False),
        ("9999999999999999.999999", 0, "999999999999999999", True),
        ("9999999999999999.98", 0, "999999999999999999", False),
    ],
)
def test_the_comparison_is_exact(cost: str, active_us: int, amount: str, reached: bool) -> None:
    budget = BudgetLimit(max_list_cost=Ceiling(amount=amount, currency="USD"))
    assert limit_of(budget) * 100 == int(amount)
    assert Ledger(cost=Decimal(cost)).reaches(budget, active_us) is reached


def team(folder: Path, budget: dict[str, Any], work: Callable[[Stage], Awaitable[None]]) -> None:
    """A session whose primary thread has one child."""
    member = {name: value for name, value in AGENT.items() if name != "multiagent"}
    roster = {"type": "coordinator", "agents": [member]}

    async def prepared(stage: Stage) -> None:
        def tx() -> Tx[None]:
            for thread_id, parent in ((THREAD, None), (CHILD, THREAD)):
                yield insertion(SESSION, thread_id, parent, "a", msgspec.json.encode(member), 1)

        await stage.store.write(tx)
        await stage.set(agent=msgspec.json.encode({**AGENT, "tools": [*AGENT["tools"], LOOKUP], "multiagent": roster}))
        await work(stage)

    play(folder, budget, prepared)


async def tell(stage: Stage, text: str) -> None:
    """Say something to both threads."""
    content = [{"type": "text", "text": text}]
    mail = {"content": content, "from_session_thread_id": THREAD}
    await stage.send(
        Draft(type="user.message", fields={"content": content}, queued=True),
        Draft(type=MAIL, fields=mail, queued=True, thread_id=CHILD),
    )


async def idles(stage: Stage) -> list[tuple[str, str]]:
    """The idle events of the session's list: whose, and why."""
    shown = [event for event in await stage.events() if event["type"].endswith("status_idle")]
    listed = {event["id"]: event for event in shown}.values()
    return [(event.get("session_thread_id", "session"), event["stop_reason"]["type"]) for event in listed]


def test_every_thread_pauses_and_goes_on(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await tell(stage, "work")
        await advance(await stage.wake(), stage.deps)
        found = await idles(stage)
        assert sorted(found[:-1]) == [(THREAD, "budget_reached"), (CHILD, "budget_reached")]
        assert found[-1] == ("session", "budget_reached")
        assert await count(stage, "span.model_request_start") <= 2, "one request of each thread at most"
        assert (await stage.column("paused"), await stage.column("wake_at")) == (1, None)
        await stage.set(wake_at=clock.now())
        await advance(await stage.wake(), stage.deps)
        assert await idles(stage) == found, "nothing happens before the raise"
        await change(stage, cents(100_000))
        await advance(await stage.wake(), stage.deps)
        after = (await idles(stage))[len(found) :]
        assert (CHILD, "end_turn") in after
        assert after[-1] == ("session", "end_turn")
        assert await stage.column("paused") == 0

    team(tmp_path, cents(100), work)


def test_a_thread_that_waits_for_a_client_outranks_one_that_is_paused(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        content = [{"type": "text", "text": "work"}]
        mail = {"content": content, "from_session_thread_id": THREAD}
        await stage.send(Draft(type=MAIL, fields=mail, queued=True, thread_id=CHILD))
        await advance(await stage.wake(), stage.deps)
        assert (await idles(stage))[-1] == ("session", "budget_reached")
        await stage.set(usage=EMPTY_LEDGER)  # as if the child's work had cost nothing
        await stage.say("ask")
        await advance(await stage.wake(), stage.deps)
        assert (await idles(stage))[-1] == ("session", "requires_action")
        assert await stage.column("paused") == 1
        await change(stage, None)
        await advance(await stage.wake(), stage.deps)
        found = await idles(stage)
        assert (CHILD, "end_turn") in found
        assert found[-1] == ("session", "requires_action"), "the child has gone on, the primary thread still waits"

    team(tmp_path, cents(100), work)
