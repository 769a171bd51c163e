"""What a runbook's calls do: time limits, retries, arguments, signals in order, children, cancellation, state."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from replaying import Died, Memory, life, set_runtime

set_runtime()

from ntro.workflow import NtroWorkflow, activity, runbook  # noqa: E402 - after the runtime is set

from hostler.runbooks.entries import Draft  # noqa: E402
from hostler.runbooks.worker import failures, options, values  # noqa: E402

calls: list[Any] = []


@activity.defn
async def slow() -> None:
    calls.append("slow")
    await asyncio.sleep(30)


@activity.defn
async def two(first: int, second: int) -> int:
    return first + second


@activity.defn
async def failing() -> None:
    calls.append(activity.info().attempt)
    raise KeyError("gone")


class Never:
    non_retryable_error_types = ("KeyError",)


class Thrice:
    initial_interval = timedelta(milliseconds=1)
    maximum_attempts = 3


def ended(body: Any, port: Memory | None = None, human: Any = lambda *_: None) -> Any:
    """The result of a runbook with this body, or what it raised."""
    calls.clear()

    @runbook.defn
    class Body(NtroWorkflow):
        @runbook.signal
        async def note(self, text: str) -> None:
            calls.append(text)

        @runbook.run
        async def run(self, _: Any) -> Any:
            return await body(self)

    async def whole() -> Any:
        return await life(Body, port or Memory(), None, human)

    return asyncio.run(whole())


def test_a_time_limit_is_a_timedelta_or_seconds() -> None:
    async def body(_: Any) -> None:
        for limit in (timedelta(milliseconds=20), 0.02):
            with pytest.raises(TimeoutError, match=r"slow took longer than 0\.02 seconds"):
                await runbook.execute_activity(slow, start_to_close_timeout=limit, retry_policy=Never1())

    ended(body)
    assert calls == ["slow", "slow"]


class Never1:
    maximum_attempts = 1


def test_several_arguments() -> None:
    async def body(_: Any) -> int:
        return int(await runbook.execute_activity(two, args=[2, 3]))

    assert ended(body) == 5


@pytest.mark.parametrize(("policy", "attempts"), [(None, 3), (Thrice(), 3), (Never(), 1)])
def test_attempts(policy: Any, attempts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options.Retries, "pause", lambda *_: 0.001)

    async def body(_: Any) -> None:
        with pytest.raises(KeyError, match="gone"):
            await runbook.execute_activity(failing, retry_policy=policy)

    port = Memory()
    ended(body, port)
    assert calls == list(range(1, attempts + 1))
    (answer,) = [entry for entry in port.entries if entry.kind == "activity"]
    assert answer.body["error"]["type"] == "KeyError"
    with pytest.raises(KeyError, match="gone"):
        failures.result(answer)


def test_all_attempts_together_have_a_limit() -> None:
    async def body(_: Any) -> None:
        with pytest.raises(KeyError):
            await runbook.execute_activity(failing, schedule_to_close_timeout=timedelta(milliseconds=100))

    ended(body)
    assert calls == [1], "the pause before the second attempt would be too long"


def test_pauses_double_up_to_a_limit() -> None:
    retries = options.Retries(first=1.0, factor=2.0, longest=5.0)
    assert [retries.pause(attempt) for attempt in (1, 2, 3, 4, 500)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_synchronous_activity_does_not_hold_the_others_up() -> None:
    inside = threading.Event()

    @activity.defn
    def waits() -> bool:
        return inside.wait(10)

    @activity.defn
    async def lets_go() -> None:
        inside.set()

    async def body(_: Any) -> Any:
        return await asyncio.gather(runbook.execute_activity(waits), runbook.execute_activity(lets_go))

    assert ended(body) == [True, None]


def test_a_child_fails_with_its_reason() -> None:
    port = Memory()
    port.child_result = lambda task_id: failures.raised("ended", "", ValueError(f"{task_id} broke"), "child")

    async def body(_: Any) -> None:
        await runbook.execute_child_workflow("other", {"x": 1}, id="task:step:other")

    with pytest.raises(ValueError, match="task:step:other broke"):
        ended(body, port)
    assert port.children == {"task:step:other": "other"}


def test_an_answer_of_a_child_is_waited_for_once() -> None:
    port = Memory()
    asked: list[str] = []

    def result(task_id: str) -> Any:
        asked.append(task_id)
        return failures.returned("ended", "", 7, "child")

    port.child_result = result

    async def body(_: Any) -> Any:
        return [await runbook.execute_child_workflow("other", None, id=f"task:{n}") for n in range(2)]

    assert ended(body, port) == [7, 7]
    assert ended(body, port) == [7, 7]
    assert asked == ["task:0", "task:1"]


def test_the_clock_says_the_same_again() -> None:
    async def body(_: Any) -> Any:
        said = [runbook.now(), runbook.now()]
        await runbook.execute_activity(two, args=[1, 1])
        return said

    port = Memory()
    assert ended(body, port) == ended(body, port)


def test_a_signal_comes_before_what_was_written_after_it() -> None:
    """As the first time: the runbook had heard it when the activity answered."""
    port = Memory()

    async def body(_: Any) -> list[Any]:
        await runbook.execute_activity(two, args=[1, 1])
        heard = list(calls)
        await runbook.execute_activity(two, args=[2, 2])
        return [heard, list(calls)]

    ended(body, port)
    del port.entries[1:]  # the second answer
    port.add(Draft(kind="signal", body={"name": "note", "args": ["after the first"]}))
    assert ended(body, port) == [[], ["after the first"]]
    assert ended(body, port) == [[], ["after the first"]]


def test_a_wait_with_a_limit_keeps_it_over_a_death() -> None:
    port = Memory()
    port.die_at = (2, False)

    async def body(_: Any) -> str:
        try:
            await runbook.wait_condition(lambda: False, timeout=0.05)
        except TimeoutError:
            return "late"
        return "held"

    with pytest.raises(Died):
        ended(body, port)
    (waiting,) = [entry for entry in port.entries if entry.kind == "waiting"]
    assert ended(body, port) == "late"
    assert [entry for entry in port.entries if entry.kind == "waiting"] == [waiting]


def test_cancelled_it_can_still_tidy_up() -> None:
    async def body(_: Any) -> None:
        try:
            await runbook.wait_condition(lambda: False)
        except asyncio.CancelledError:
            calls.append("tidied")
            raise

    async def whole() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_life(body), 0.05)

    calls.clear()
    asyncio.run(whole())
    assert calls == ["tidied"]


async def _life(body: Any) -> Any:
    @runbook.defn
    class Body(NtroWorkflow):
        @runbook.run
        async def run(self, _: Any) -> Any:
            return await body(self)

    return await life(Body, Memory(), None, lambda *_: None)


@pytest.mark.parametrize("busy", [False, True])
def test_a_wait_that_is_all_there_is_can_be_left(busy: bool) -> None:
    """One beside something else can't: that would be lost."""
    port = Memory()
    port.rest_seconds = 0.01

    def human(_: Any, port: Memory, run: Any) -> None:
        if (port.rests or busy) and len(port.entries) < 2:
            run.signal(port.add(Draft(kind="signal", body={"name": "note", "args": ["go"]})))

    async def body(_: Any) -> None:
        beside = asyncio.create_task(asyncio.sleep(30 if busy else 0))
        await runbook.wait_condition(lambda: "go" in calls, timeout=20)
        beside.cancel()

    ended(body, port, human)
    waiting = next(entry for entry in port.entries if entry.kind == "waiting")
    assert port.rests[:1] == ([] if busy else [(waiting.position, waiting.body["until"])])


class Unkept:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def test_what_can_t_be_kept_is_made_again() -> None:
    """The step's body runs again, and the calls in it find their answers."""
    port = Memory()

    async def body(self: Any) -> Any:
        @runbook.step(name="s", title="S")
        async def step(self: Any) -> Any:
            calls.append("body")
            self.lock = Unkept()
            return await runbook.execute_activity(two, args=[1, 2])

        return await _run_step(self, step)

    assert ended(body, port) == 3
    assert ended(body, port) == 3
    assert calls == ["body"], "in the second life, too"
    assert len([entry for entry in port.entries if entry.kind == "activity"]) == 1


async def _run_step(instance: Any, step: Any) -> Any:
    from hostler.runbooks.worker.run import current

    return await current.get().step("s", "S", lambda: step(instance))


def test_fingerprints_tell_arguments_apart_and_nothing_else() -> None:
    assert values.fingerprint({"a": 1, "b": 2}) == values.fingerprint({"b": 2, "a": 1})
    assert values.fingerprint({1, 2, 3}) == values.fingerprint({3, 2, 1})
    assert values.fingerprint(1) != values.fingerprint("1")
    assert values.fingerprint(b"x") != values.fingerprint(b"y")


def test_a_value_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_VALUE", 100)
    with pytest.raises(values.Unkeepable, match="more than the 100"):
        values.dump("x" * 200)
