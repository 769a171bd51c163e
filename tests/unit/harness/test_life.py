"""The life of a sandbox with a clock that a test moves: retention, what is kept of checkpoints, who gives way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql
from stage import SESSION, Stage

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.harness import checkpoints as rows
from hostler.harness import life
from hostler.harness.loop import advance
from hostler.harness.state import SANDBOX_RESET
from hostler.sandbox.contract import SandboxUnavailable, Snapshot
from hostler.store import tables
from hostler.store.rounds import survived
from hostler.store.sql import Tx
from hostler.store.store import AlreadyOpen

CALL = {"tools": [{"name": "bash", "input": {"command": "x"}}]}
SCRIPT: dict[str, Any] = {
    "rules": [{"when": {"user_text_equals": "go"}, "turns": [CALL, {"text": "Gone."}]}],
    "otherwise": {"text": "Else."},
}
DAY = 86_400 * 1_000_000


class Clock:
    """Time that only moves when it is told to, and a little at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.micros = clock.now()
        monkeypatch.setattr(clock, "now", self.look)

    def look(self) -> int:
        self.micros += 1
        return self.micros

    def pass_days(self, days: float) -> None:
        self.micros += int(days * DAY)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def play(folder: Path, work: Callable[[Stage], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        stage = await Stage.open(folder, SCRIPT, **more)
        stage.backend.destroyed = []  # type: ignore[attr-defined]

        async def destroy(key: str) -> None:
            stage.backend.destroyed.append(key)  # type: ignore[attr-defined]
            for sandbox in stage.backend.made:
                sandbox.dead = True

        stage.backend.destroy = destroy  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            await work(stage)
        await stage.store.close()

    asyncio.run(main())


async def turn(stage: Stage, text: str = "go") -> list[str]:
    """Play a turn; return the types of what it added."""
    before = len(await stage.events())
    await stage.say(text)
    await advance(await stage.wake(), stage.deps)
    return (await stage.types())[before:]


async def notes(stage: Stage) -> list[str]:
    return [entry.type for entry in await stage.log.read(SESSION) if entry.type == SANDBOX_RESET]


def test_retention_counts_from_the_making(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        await turn(stage, "hello")
        assert await stage.column("sandbox") == "none"
        await turn(stage)
        made = await stage.column("sandbox_at")
        time.pass_days(20)
        assert "session.error" not in await turn(stage)
        assert await stage.column("sandbox_at") == made
        time.pass_days(9.9)
        await stage.deps.life.sweep()
        assert await stage.column("sandbox") == "here"
        time.pass_days(0.2)
        await stage.deps.life.sweep()
        assert (await stage.column("sandbox"), await stage.column("sandbox_at")) == ("expired", None)
        assert await notes(stage) == [SANDBOX_RESET]
        events = await turn(stage)
        assert events.count("session.error") == 1
        assert await stage.column("sandbox") == "here"
        assert await stage.column("sandbox_at") > made + 30 * DAY
        assert "session.error" not in await turn(stage)
        assert await notes(stage) == [SANDBOX_RESET]

    play(tmp_path, work, hibernate_seconds=0)


def test_one_that_expires_while_nobody_sweeps_is_fresh_all_the_same(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        await turn(stage)
        time.pass_days(31)
        assert (await turn(stage)).count("session.error") == 1
        assert await notes(stage) == [SANDBOX_RESET]
        assert stage.backend.destroyed.count(SESSION) == 2  # type: ignore[attr-defined]

    play(tmp_path, work)


@pytest.mark.parametrize("problem", [SandboxUnavailable("no engine"), RuntimeError("a fault"), OSError("no disk")])
def test_a_sandbox_that_can_not_be_put_away_ends_nobody_elses_sweep(
    tmp_path: Path, time: Clock, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(stage: Stage) -> None:
        async def fails(*_: object, **__: object) -> None:
            raise problem

        await turn(stage)
        stage.backend.hibernate = stage.backend.destroy = stage.backend.snapshot = fails  # type: ignore[assignment]
        time.pass_days(1.1)
        await stage.deps.life.sweep()
        await stage.deps.life.save(SESSION)
        await stage.deps.life.clear(["sesn_other"])
        stage.deps.life._later.clear()
        time.pass_days(30)
        await stage.deps.life.sweep()
        assert await stage.column("sandbox") == "expired"

    play(tmp_path, work, checkpoint_mb=1)
    assert len([line for line in caplog.messages if "its sandbox could not be put away" in line]) == 4


def test_a_round_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(error: Exception) -> None:
        raise error

    log = logging.getLogger("here")
    assert asyncio.run(survived(asyncio.sleep(0), log, "it failed"))
    assert not asyncio.run(survived(fails(ValueError("odd")), log, "it failed"))
    assert "ValueError: odd" in caplog.text
    with pytest.raises(AlreadyOpen):
        asyncio.run(survived(fails(AlreadyOpen()), log, "it failed"))


def test_one_at_work_does_not_expire(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        await turn(stage)
        time.pass_days(31)
        await stage.say("go")
        await stage.deps.life.sweep()
        assert await stage.column("sandbox") == "here"
        wake = await stage.wake()
        await stage.deps.life.sweep()
        assert await stage.column("sandbox") == "here"
        await advance(wake, stage.deps)
        assert (await stage.types()).count("session.error") == 1

    play(tmp_path, work)


def test_one_of_unknown_age_counts_from_now(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        await stage.set(sandbox="here", sandbox_at=0)
        await stage.deps.life.sweep()
        begun = await stage.column("sandbox_at")
        assert begun > DAY
        time.pass_days(29)
        await stage.deps.life.sweep()
        assert await stage.column("sandbox") == "here"
        time.pass_days(2)
        await stage.deps.life.sweep()
        assert await stage.column("sandbox") == "expired"

    play(tmp_path, work, hibernate_seconds=0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(path: Path) -> None:
    path.write_bytes(b"x")


def writes(stage: Stage, sizes: list[int]) -> None:
    """Let the backend give snapshots of these sizes."""

    async def snapshot(key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot | None:
        size = sizes.pop(0)
        if not size:
            return None
        put(target)
        return Snapshot(bytes=size, sha256="0" * 64)

    stage.backend.snapshot = snapshot  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [([1, 2, 3, 4], [4, 3, 2]), ([900_000, 900_000, 1], [1, 900_000]), ([1, 5_000_000], [5_000_000])],
)
def test_what_is_kept_of_checkpoints(tmp_path: Path, time: Clock, sizes: list[int], kept: list[int]) -> None:
    async def work(stage: Stage) -> None:
        writes(stage, list(sizes))
        for _ in sizes:
            await turn(stage)
            assert await stage.deps.life.checkpoint(SESSION) is not None
        found = await stage.store.read(lambda: rows.all_tx(SESSION))
        assert [each.size_bytes for each in found] == kept
        assert names(tmp_path / "snapshots" / SESSION) == sorted(f"{each.id}.tar.zst" for each in found)

    play(tmp_path, work, checkpoints=3, checkpoint_mb=1)


def test_one_checkpoint_for_each_end_of_a_turn(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        writes(stage, [1, 2, 3])
        await turn(stage)
        for _ in range(3):
            await stage.deps.life.checkpoint(SESSION)
        found = await stage.store.read(lambda: rows.all_tx(SESSION))
        assert [each.size_bytes for each in found] == [3]

    play(tmp_path, work)


def test_one_that_nobody_asked_for_gives_way(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def snapshot(*_: Any, **__: Any) -> Snapshot | None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return None

        await turn(stage)
        stage.backend.snapshot = snapshot  # type: ignore[method-assign]
        asked = asyncio.create_task(stage.deps.life.hibernate(SESSION, yielding=True))
        await begun.wait()
        assert "agent.tool_result" in await turn(stage)
        assert ended.is_set()
        with pytest.raises(InvalidRequest):
            await asked
        assert await stage.column("sandbox") == "here"

    play(tmp_path, work)


def test_one_that_is_deleted_meanwhile_is_not_called_running(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        def delete() -> Tx[None]:
            yield sql.delete(tables.sessions)

        async def snapshot(key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot:
            put(target)
            await stage.store.write(delete)
            return Snapshot(bytes=1, sha256="0" * 64)

        await turn(stage)
        stage.backend.snapshot = snapshot  # type: ignore[method-assign]
        with pytest.raises(NotFound):
            await stage.deps.life.hibernate(SESSION)
        assert names(tmp_path / "snapshots" / SESSION) == []

    play(tmp_path, work)


def test_those_that_can_not_be_put_away_do_not_stand_in_the_others_way(
    tmp_path: Path, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def work(stage: Stage) -> None:
        def other() -> Tx[None]:
            (row,) = yield sql.select(tables.sessions)
            columns = [column.name for column in tables.sessions.columns]
            made = {
                **dict(zip(columns, row, strict=True)),
                "id": "sesn_2",
                "last_at": row[columns.index("last_at")] + 1,
            }
            yield sql.insert(tables.sessions), made

        async def hibernate(key: str) -> None:
            asked.append(key)
            raise SandboxUnavailable("no engine")

        await turn(stage)
        await stage.store.write(other)
        stage.backend.hibernate = hibernate  # type: ignore[method-assign]
        time.pass_days(1.1)
        for _ in range(3):
            await stage.deps.life.sweep()

    monkeypatch.setattr(life, "SWEPT_AT_ONCE", 1)
    play(tmp_path, work)
    assert asked == [SESSION, "sesn_2"]


def test_a_directory_that_vanished_is_not_asked_for_again(tmp_path: Path, time: Clock) -> None:
    async def work(stage: Stage) -> None:
        await turn(stage)
        writes(stage, [0])
        assert await stage.deps.life.hibernate(SESSION) is None
        assert await stage.column("sandbox") == "none"

    play(tmp_path, work)


def test_what_becomes_of_a_sandbox_disturbs_nobody() -> None:
    """An export may meet a hibernation, or the sweep of an archived session's sandbox; work it must not meet."""
    rest = rows.State(rows.HERE, 1, None, "idle", None, None, None, 7)
    archived = msgspec.structs.replace(rest, status="terminated", archived_at=5)
    for before in (rest, archived):
        for sandbox in (rows.HERE, rows.NONE, rows.SNAPSHOT):
            assert msgspec.structs.replace(before, sandbox=sandbox, sandbox_at=None).undisturbed(before)
        assert not msgspec.structs.replace(before, fence=8).undisturbed(before)
    assert not archived.undisturbed(rest)
    for change in ({"status": "running"}, {"wake_at": 3}, {"lease_owner": "x"}):
        assert not msgspec.structs.replace(rest, **change).undisturbed(rest)
