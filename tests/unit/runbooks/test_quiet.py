"""When a task's process is offered back: only when nothing in it would be lost, or done again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from replaying import Died, Memory, life, set_runtime

set_runtime()

from ntro.workflow import NtroWorkflow, activity, runbook  # noqa: E402 - after the runtime is set

from hostler.runbooks.entries import Draft, Entry  # noqa: E402
from hostler.runbooks.worker import quiet  # noqa: E402
from hostler.runbooks.worker.agents import invoke  # noqa: E402

END_SECONDS = 0.5
LONG_SECONDS = 10.0


class Waiting(Memory):
    """Its agents end when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.rest_seconds = 0.05
        self.gate = asyncio.Event()
        self.rested = asyncio.Event()
        self.dies = False

    def rest(self, position: int, heard: int, until: float | None) -> None:
        super().rest(position, heard, until)
        self.rested.set()

    async def agent(self, key: str, call: dict[str, Any]) -> Entry:
        self.agent_runs.append(call)
        if self.dies:
            await self._die()
        await self.gate.wait()
        body = {"agent_id": call["agent_id"], "session_id": "s", "status": "completed", "output_files": []}
        return self.add(Draft(kind="agent", key=key, body=body))


@activity.defn
def in_a_thread() -> None:
    time.sleep(2 * END_SECONDS)


@activity.defn
async def asks() -> Any:
    return await invoke("agent", input="from an activity")


def rested(body: Callable[[Any], Awaitable[Any]], seconds: float) -> bool:
    """Whether its process is offered while its agents are at work; when it is, or after so long, they end."""

    @runbook.defn
    class Body(NtroWorkflow):
        @runbook.step(name="left", title="Left")
        async def _left(self) -> None:
            asyncio.get_running_loop().create_task(invoke("agent", input="that nobody waits for")).add_done_callback(
                lambda task: task.result()
            )

        @runbook.step(name="handed", title="Handed")
        async def _handed(self) -> Any:
            self.end = asyncio.get_running_loop().create_task(invoke("agent", input="that the next step waits for"))
            return self.end

        @runbook.run
        async def run(self, _: Any) -> Any:
            return await body(self)

    async def whole() -> bool:
        port, loop = Waiting(), asyncio.get_running_loop()
        assert isinstance(loop, quiet.Loop)
        loop.settle()

        async def end() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(port.rested.wait(), seconds)
            port.gate.set()

        token = quiet.ours.set(True)  # this test's own time
        ending = asyncio.create_task(end())
        quiet.ours.reset(token)
        await life(Body, port, None, lambda *_: None)
        await ending
        return bool(port.rests)

    with asyncio.Runner(loop_factory=quiet.Loop) as runner:
        return runner.run(whole())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "LATELY", 0.0)


async def one(_: Any) -> Any:
    return await invoke("agent", input="one")


async def two_at_once(_: Any) -> Any:
    return await asyncio.gather(*(invoke("agent", input=str(number)) for number in range(2)))


async def one_for_a_while(_: Any) -> Any:
    async with asyncio.timeout(30):
        return await asyncio.gather(invoke("agent", input="in time"))


async def one_beside_a_thread(_: Any) -> Any:
    return await asyncio.gather(invoke("agent", input="one"), runbook.execute_activity(in_a_thread))


async def one_beside_a_program(_: Any) -> Any:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import time; time.sleep({3 * END_SECONDS})", stderr=subprocess.DEVNULL
    )
    return await asyncio.gather(invoke("agent", input="one"), program.wait())


async def one_beside_a_socket(_: Any) -> Any:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
        return await asyncio.gather(invoke("agent", input="one"))


async def one_of_an_activity(_: Any) -> Any:
    return await runbook.execute_activity(asks)


async def one_of_a_step_that_is_over(self: Any) -> Any:
    await self._left()
    await runbook.wait_condition(lambda: time.monotonic() > begun + END_SECONDS)


async def one_of_a_step_that_runs_again(self: Any) -> Any:
    """What it has returned can't be kept."""
    return (await (await self._handed())).status


begun = time.monotonic()


@pytest.mark.parametrize(
    ("body", "rests"),
    [
        (one, True),
        (two_at_once, True),
        (one_for_a_while, False),
        (one_beside_a_thread, False),
        (one_beside_a_program, False),
        (one_beside_a_socket, False),
        (one_of_an_activity, False),
        (one_of_a_step_that_is_over, False),
        (one_of_a_step_that_runs_again, True),
    ],
)
def test_a_process_is_offered_when_nothing_would_be_lost(body: Any, rests: bool) -> None:
    global begun
    begun = time.monotonic()
    assert rested(body, LONG_SECONDS if rests else END_SECONDS) is rests


def test_what_an_agent_was_told_of_the_time_is_what_it_is_asked_again() -> None:
    """Else another session would be made for the same call."""

    @runbook.defn
    class Body(NtroWorkflow):
        @runbook.run
        async def run(self, _: Any) -> Any:
            return (await invoke("agent", input=runbook.now().isoformat())).status

    async def lives() -> list[dict[str, Any]]:
        port = Waiting()
        port.dies = True
        with pytest.raises(Died):
            await life(Body, port, None, lambda *_: None)
        port.dies = False
        port.gate.set()
        assert await life(Body, port, None, lambda *_: None) == "completed"
        return port.agent_runs

    first, again = asyncio.run(lives())
    assert first == again
