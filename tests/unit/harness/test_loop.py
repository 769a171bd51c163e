"""The loop on a real store, where a test must choose the moment: lost sandboxes, input that comes just then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stage import SESSION, FakeSandbox, Stage

from hostler import clock
from hostler.errors import Unavailable
from hostler.harness import supervisor as supervising
from hostler.harness.failure import give_up
from hostler.harness.loop import advance
from hostler.harness.supervisor import Supervisor
from hostler.log.entries import Draft, Entry
from hostler.log.log import Log
from hostler.store.dispatch import Lease

CALL = {"tools": [{"name": "bash", "input": {"command": "x"}}]}
SCRIPT: dict[str, Any] = {
    "rules": [{"when": {"user_text_equals": "go"}, "turns": [CALL, {"text": "Gone."}]}],
    "otherwise": {"text": "Else."},
}


def play(folder: Path, work: Callable[[Stage], Awaitable[None]], script: dict[str, Any] = SCRIPT, **more: Any) -> None:
    async def main() -> None:
        stage = await Stage.open(folder, script, **more)
        async with asyncio.timeout(20):
            await work(stage)
        await stage.store.close()

    asyncio.run(main())


def before_append(log: Log, event_type: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do something once, just before an entry of this type is written."""
    append, done = log.append, []

    async def wrapped(session_id: str, thread_id: str, items: Any, **more: Any) -> Any:
        if not done and any(isinstance(item, Draft) and item.type == event_type for item in items):
            done.append(True)
            await work()
        return await append(session_id, thread_id, items, **more)

    log.append = wrapped  # type: ignore[method-assign]


def test_a_command_in_a_lost_sandbox_is_not_repeated_when_a_message_comes_at_that_moment(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        def dying(sandbox: FakeSandbox) -> None:
            sandbox.hold = asyncio.Event()

        stage.backend.prepare = dying
        before_append(stage.log, "session.error", lambda: stage.say("and more"))
        await stage.say("go")
        task = asyncio.create_task(advance(await stage.wake(), stage.deps))
        first = await stage.backend.working()
        stage.backend.prepare = lambda _: None
        first.dead = True
        assert first.hold is not None
        first.hold.set()
        await task
        assert [sandbox.started for sandbox in stage.backend.made[1:]] in ([], [[]])
        (result,) = [event for event in await stage.events() if event["type"] == "agent.tool_result"]
        assert "outcome is unknown" in result["content"][0]["text"]

    play(tmp_path, work)


def test_interrupted_calls_are_forgotten_by_the_sandbox(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        stage.backend.prepare = lambda sandbox: setattr(sandbox, "hold", asyncio.Event())
        await stage.say("go")
        wake = await stage.wake()
        task = asyncio.create_task(advance(wake, stage.deps))
        sandbox = await stage.backend.working()
        await stage.interrupt()
        wake.poke()
        await task
        assert sandbox.cancelled[-1:] == sandbox.started
        assert sandbox.acknowledged == sandbox.started

    play(tmp_path, work)


def test_an_interrupt_when_the_sandbox_is_gone(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        stage.backend.prepare = lambda sandbox: setattr(sandbox, "hold", asyncio.Event())
        await stage.say("go")
        wake = await stage.wake()
        task = asyncio.create_task(advance(wake, stage.deps))
        sandbox = await stage.backend.working()

        async def cancel(_: str) -> None:
            sandbox.dead = True
            sandbox._alive()

        sandbox.cancel = cancel  # type: ignore[method-assign]
        await stage.interrupt()
        wake.poke()
        await task
        assert (await stage.types())[-1] == "session.status_idle"

    play(tmp_path, work)


def test_a_message_that_comes_as_a_turn_is_given_up_is_not_stranded(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("go")
        wake = await stage.wake()
        before_append(stage.log, "session.status_idle", lambda: stage.say("late"))
        await give_up(wake.primary, [])
        assert all(event["processed_at"] for event in await stage.events())
        assert await stage.column("wake_at") is None
        assert await stage.column("queued") == 0

    play(tmp_path, work)


def test_time_goes_on_when_turning_idle_was_refused(tmp_path: Path) -> None:
    async def work(stage: Stage) -> None:
        await stage.say("one")
        wake = await stage.wake()
        before_append(stage.log, "session.status_idle", lambda: stage.say("two"))
        started: list[int | None] = []
        before_append(stage.log, "agent.message", lambda: noted(started, wake))
        before_append(stage.log, "session.usage", lambda: noted(started, wake))
        await advance(wake, stage.deps)
        assert await stage.column("running_since") is None
        assert len(set(started)) == 1
        assert started[0] is not None

    async def noted(started: list[int | None], wake: Any) -> None:
        started.append(wake.running_since)

    play(tmp_path, work)


def test_a_context_that_stays_too_long_ends_the_turn(tmp_path: Path) -> None:
    script = {"otherwise": {"text": "x", "error": {"kind": "context_too_long", "times": 0}}}

    async def work(stage: Stage) -> None:
        await stage.say("go")
        await advance(await stage.wake(), stage.deps)
        assert (await stage.types()).count("span.model_request_start") == 2
        last = (await stage.events())[-1]
        assert last["stop_reason"]["type"] == "retries_exhausted"

    play(tmp_path, work, script)


def test_a_wake_while_the_log_is_read_still_pokes(tmp_path: Path) -> None:
    """An interrupt between the read of the log and the start of the run must not wait for the tool's end."""

    async def work(stage: Stage) -> None:
        stage.backend.prepare = lambda sandbox: setattr(sandbox, "hold", asyncio.Event())
        await stage.say("go")
        first = await stage.wake()
        task = asyncio.create_task(advance(first, stage.deps))
        sandbox = await stage.backend.working()
        task.cancel()  # the process ends; the call runs on
        await asyncio.wait({task})
        sandbox.begun.clear()
        supervisor = Supervisor(stage.deps, stage.dispatcher)
        recall = supervisor._recall

        async def slow(lease: Lease) -> Any:
            run = await recall(lease)
            await stage.interrupt()
            stage.dispatcher.wake(SESSION)
            while SESSION not in supervisor._woken:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
            return run

        supervisor._recall = slow  # type: ignore[method-assign]
        serving = asyncio.create_task(supervisor.run())
        await until_idle(stage)
        serving.cancel()
        await asyncio.wait({serving})

    play(tmp_path, work)


def test_a_session_whose_task_failed_is_taken_up_again(tmp_path: Path, monkeypatch: Any) -> None:
    """Also when the database was away, so that not even its lease could be given back."""
    monkeypatch.setattr(supervising, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("hostler.store.dispatch.SWEEP_SECONDS", 0.02)

    async def work(stage: Stage) -> None:
        supervisor = Supervisor(stage.deps, stage.dispatcher)
        recall, heartbeat, failures = supervisor._recall, stage.dispatcher.heartbeat, []

        async def failing(lease: Lease) -> Any:
            if not failures:
                failures.append("recall")
                raise Unavailable("no database")
            return await recall(lease)

        async def missed(leases: list[Lease]) -> None:
            if len(failures) == 1:
                failures.append("heartbeat")
                raise Unavailable("no database")
            await heartbeat(leases)

        supervisor._recall = failing  # type: ignore[method-assign]
        stage.dispatcher.heartbeat = missed  # type: ignore[method-assign]
        serving = asyncio.create_task(supervisor.run())
        await stage.say("hello")
        stage.dispatcher.wake(SESSION)
        await until_idle(stage)
        assert failures == ["recall", "heartbeat"]
        serving.cancel()
        await asyncio.wait({serving})

    play(tmp_path, work)


async def until_idle(stage: Stage) -> None:
    async with await stage.log.tail(SESSION) as tail:
        async for batch in tail.batches(heartbeat=5):
            if any(isinstance(item, Entry) and item.type == "session.status_idle" for item in batch):
                return


def test_the_time_that_a_server_was_dead_is_not_running_time(tmp_path: Path) -> None:
    hour = 3600 * 1_000_000

    async def work(stage: Stage) -> None:
        await stage.say("hello")
        begun = clock.now() - 2 * hour
        await stage.set(status="running", running_since=begun, active_us=5_000_000, last_at=begun + 7_000_000)
        await advance(await stage.wake(), stage.deps)
        (usage,) = [event["usage"] for event in await stage.events() if event["type"] == "session.usage"]
        assert 12 <= usage["active_seconds"] < 32

    play(tmp_path, work)


def test_an_interrupt_goes_ahead_of_a_message_that_waits(tmp_path: Path) -> None:
    """The message was acknowledged: the interrupt ends what runs, then the message is answered, in the same turn."""

    async def work(stage: Stage) -> None:
        def holding(sandbox: FakeSandbox) -> None:
            sandbox.hold = asyncio.Event()

        stage.backend.prepare = holding
        await stage.say("go")
        wake = await stage.wake()
        task = asyncio.create_task(advance(wake, stage.deps))
        await stage.backend.working()
        await stage.say("something else")
        await stage.interrupt()
        wake.poke()
        await task
        types = await stage.types()
        assert types.count("session.status_running") == types.count("session.status_idle") == 1
        later = types[types.index("agent.tool_result") :]
        assert later[:4] == ["agent.tool_result", "user.interrupt", "user.message", "span.model_request_start"]
        assert "agent.message" in later

    play(tmp_path, work)
