"""A runbook that dies at any of its appends comes to the same end, and what it did before is not done again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from replaying import Died, Memory, approves, life, set_runtime

set_runtime()

from ntro.workflow import NtroWorkflow, activity, runbook  # noqa: E402 - after the runtime is set

from hostler.runbooks.worker import values  # noqa: E402
from hostler.runbooks.worker.agents import invoke  # noqa: E402

done: list[str] = []


class Context(BaseModel):
    n: int = 1


@activity.defn
async def add(number: int) -> int:
    done.append(f"add {number}")
    await asyncio.sleep(0.001 * (number % 3))
    return number + 1


@activity.defn
def flaky() -> str:
    done.append("flaky")
    if done.count("flaky") % 2:
        raise ValueError("no")
    return "ok"


class Policy:
    """What Temporal's RetryPolicy has, and nothing else."""

    initial_interval = timedelta(milliseconds=1)
    maximum_attempts = 5


@runbook.defn
class Whole(NtroWorkflow):
    @runbook.step(name="sum", title="Sum")
    async def _sum(self, ctx: Context) -> int:
        done.append("sum")
        self.total = sum(await asyncio.gather(*(runbook.execute_activity(add, i) for i in range(4))))
        return self.total

    @runbook.step(name="flaky", title="Flaky")
    async def _flaky(self) -> str:
        limit = timedelta(seconds=5)
        return str(await runbook.execute_activity(flaky, start_to_close_timeout=limit, retry_policy=Policy()))

    @runbook.step(name="draft", title="Draft")
    async def _draft(self) -> Any:
        return await invoke("agent", input={"total": self.total})

    @runbook.step(name="gate", title="Gate")
    async def _gate(self) -> Any:
        return await self.wait_for_action(payload={"total": self.total})

    @runbook.run
    async def run(self, ctx: Context) -> Any:
        await self._sum(ctx)
        flaked = await self._flaky()
        with pytest.raises(TimeoutError):
            await runbook.wait_condition(lambda: False, timeout=timedelta(milliseconds=5))
        began = runbook.now()
        drafted = await self._draft()
        answer = await self._gate()
        return [self.total, flaked, drafted.status, answer, len(self._steps_completed), began.year > 2000]


def play(die_at: tuple[int, bool] | None = None) -> tuple[Any, Memory]:
    """A life, and where that ends early, the next."""
    done.clear()

    async def lives() -> tuple[Any, Memory]:
        port, human = Memory(), approves({"type": "approved"})
        port.die_at = die_at
        try:
            result = await life(Whole, port, Context(), human)
        except Died:
            port.die_at = None
            result = await life(Whole, port, Context(), human)
        return result, port

    return asyncio.run(lives())


EXPECTED = [10, "ok", "completed", {"type": "approved"}, 4, True]


def test_a_runbook_runs_to_its_end() -> None:
    result, port = play()
    assert result == EXPECTED
    assert [entry.kind for entry in port.entries if entry.kind == "step"] == ["step"] * 4
    seen = [view for view in port.views if view is not None]
    assert [step["status"] for step in seen[-1]["current_steps"]] == ["completed"] * 4
    assert all(one != next for one, next in itertools.pairwise(seen)), "a view is told once"
    assert port.appends == APPENDS, "the points below are all that there are"


APPENDS = 15


@pytest.mark.parametrize("written", [False, True], ids=["unwritten", "written"])
@pytest.mark.parametrize("at", range(1, APPENDS + 1))
def test_it_dies_at_any_append(at: int, written: bool) -> None:
    result, port = play((at, written))
    assert result == EXPECTED
    keys = [(entry.kind, entry.key) for entry in port.entries if entry.kind not in ("signal", "attempt", "moment")]
    assert len(keys) == len(set(keys)), "a call was answered twice"
    for number in range(4):
        mark = f"activity:add:{values.fingerprint([number])}"
        assert len([entry for entry in port.entries if entry.kind == "activity" and mark in entry.key]) == 1
        assert done.count(f"add {number}") <= 2, "what has an answer was called again"
    assert len(port.agent_runs) <= 2
    assert len([entry for entry in port.entries if entry.kind == "signal"]) == 1


def test_a_gate_that_was_passed_is_not_seen_open() -> None:
    """Whoever looks before the runbook has gone on must not take it for the next one."""
    _, port = play()
    assert [pending for kind, pending in port.told if kind == "waited"] == [{}, {}]
    assert any(view and view["current_pending_action"] for view in port.views), "it was open before"


@runbook.defn
class Twice(NtroWorkflow):
    @runbook.step(name="gate", title="Gate")
    async def _gate(self) -> Any:
        return (await self.wait_for_action(payload={}))["type"]

    @runbook.run
    async def run(self, _: Context) -> Any:
        return [await self._gate(), await self._gate()]


@pytest.mark.parametrize("at", range(2, 6))
@pytest.mark.parametrize("written", [False, True], ids=["unwritten", "written"])
def test_an_approval_is_for_its_own_gate_after_a_death_too(at: int, written: bool) -> None:
    """What a completed step has heard is not heard by the next one."""

    async def lives() -> tuple[Memory, bool]:
        port, approve = Memory(), approves({"type": "approved"})
        port.die_at = (at, written)

        def once(instance: Any, port: Memory, run: Any) -> None:
            if not any(entry.kind == "signal" for entry in port.entries):
                approve(instance, port, run)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                with contextlib.suppress(Died):
                    await life(Twice, port, Context(), once)
        port.die_at = None
        try:
            async with asyncio.timeout(0.3):
                await life(Twice, port, Context(), once)
        except TimeoutError:
            return port, True
        return port, False

    port, waits = asyncio.run(lives())
    assert waits, "nobody has approved the second gate"
    assert len([entry for entry in port.entries if entry.kind == "step"]) == 1


def test_what_has_returned_is_not_run_again() -> None:
    """The death after the last step was written: all bodies have run once."""
    _, port = play((APPENDS, True))
    assert done.count("sum") == 1
    assert len(port.agent_runs) == 1
    assert [done.count(f"add {number}") for number in range(4)] == [1] * 4
