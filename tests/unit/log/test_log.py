"""The log's promises, on both databases: order, fencing, one answer per call, queueing, tails that miss nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from databases import Databases
from hostler.errors import NotFound
from hostler.harness.ledger import EMPTY_LEDGER
from hostler.log.append import NewInput, StaleLease
from hostler.log.entries import Consume, Draft, Entry
from hostler.log.hub import BUFFERED_BYTES, BUFFERED_ENTRIES, Hub
from hostler.log.log import Log, Page
from hostler.log.tail import Tail
from hostler.store import tables
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.sql import Tx
from hostler.store.store import Duplicate
from hostler.wire.events import Preview

SESSION, THREAD = "sesn_1", "sthr_1"


def session_row(session_id: str = SESSION, **columns: Any) -> dict[str, Any]:
    return {
        "id": session_id, "agent_id": "agent_1", "agent_version": 1, "environment_id": "env_1", "thread_id": THREAD,
        "status": "idle", "title": None, "metadata": b"{}", "agent": b"{}", "environment": b"{}", "vault_ids": b"[]",
        "budget": None, "usage": EMPTY_LEDGER, "pending": b"[]", "queued": 0, "active_us": 0, "running_since": None,
        "created_at": 1, "updated_at": 1, "archived_at": None, "next_seq": 0, "last_at": 1, "fence": 0,
        "lease_owner": None, "lease_until": None, "wake_at": None, "paused": 0,
        "sandbox": "none", "sandbox_at": None, "checkpoint_id": None, "first_agent": None, **columns,
    }  # fmt: skip


async def opened(databases: Databases, **columns: Any) -> Log:
    store = await databases.open()

    def tx() -> Tx[None]:
        yield insert(tables.sessions), session_row(**columns)

    await store.write(tx)
    return Log(store, Hub())


def text(number: int) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": str(number)}]}


async def listed(log: Log, **page: Any) -> list[str]:
    return [entry.type for entry in await log.page(Page(**{"session_id": SESSION, "limit": 1000, **page}))]


def test_a_queued_event_takes_its_place_when_it_is_consumed(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        queued = (await log.append(SESSION, THREAD, [Draft(type="user.message", fields=text(1), queued=True)])).entries
        assert msgspec.json.decode(queued[0].wire())["processed_at"] is None
        await log.append(SESSION, THREAD, [Draft(type="session.status_running")])
        assert await listed(log) == ["session.status_running", "user.message"]
        consumed = (
            await log.append(SESSION, THREAD, [Consume(queued[0]), Draft(type="span.model_request_start")])
        ).entries
        await log.append(SESSION, THREAD, [Draft(type="agent.message")])
        assert await listed(log) == [
            "session.status_running", "user.message", "span.model_request_start", "agent.message",
        ]  # fmt: skip
        assert consumed[1].position == consumed[0].position + 1
        assert consumed[0].id == queued[0].id
        await log.store.close()

    asyncio.run(main())


def test_a_stale_token_writes_nothing(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases, wake_at=1)
        lease = await EmbeddedDispatcher(log.store).claim(SESSION)
        assert lease is not None
        await log.append(SESSION, THREAD, [Draft(type="session.status_running")], token=lease.token)
        with pytest.raises(StaleLease):
            await log.append(SESSION, THREAD, [Draft(type="agent.message")], token=lease.token - 1)
        with pytest.raises(NewInput):
            await log.append(SESSION, THREAD, [Draft(type="agent.message")], token=lease.token, seen=0)
        with pytest.raises(NotFound):
            await log.append("sesn_none", THREAD, [Draft(type="agent.message")])
        assert await listed(log) == ["session.status_running"]
        await log.store.close()

    asyncio.run(main())


def test_a_session_is_claimed_once_and_only_when_due(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        dispatcher = EmbeddedDispatcher(log.store)
        assert await dispatcher.claim(SESSION) is None
        await log.append(SESSION, THREAD, [], patch={"wake_at": 1})
        claims = await asyncio.gather(*(dispatcher.claim(SESSION) for _ in range(5)))
        assert len([claim for claim in claims if claim]) == 1
        await log.store.close()

    asyncio.run(main())


def test_the_sweep_finds_what_was_not_hinted(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases, wake_at=1, lease_owner="wrkr_dead", lease_until=1 << 60)
        dispatcher = EmbeddedDispatcher(log.store)
        async with asyncio.timeout(2):
            async for session_id in dispatcher.wakes():
                assert session_id == SESSION
                break
        lease = await dispatcher.claim(SESSION)
        assert lease is not None
        assert lease.token == 1
        await log.store.close()

    asyncio.run(main())


def test_a_call_has_one_answer(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        answers = [Draft(type="agent.tool_result", answers="sevt_call") for _ in range(5)]
        outcomes = await asyncio.gather(
            *(log.append(SESSION, THREAD, [answer]) for answer in answers), return_exceptions=True
        )
        assert [isinstance(outcome, Duplicate) for outcome in outcomes].count(True) == 4
        assert await listed(log) == ["agent.tool_result"]
        await log.store.close()

    asyncio.run(main())


def test_times_strictly_increase_under_concurrent_appends(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        drafts = [[Draft(type="agent.message"), Draft(type="hostler.note")] for _ in range(100)]
        await asyncio.gather(*(log.append(SESSION, THREAD, pair) for pair in drafts))
        entries = await log.read(SESSION)
        assert [entry.seq for entry in entries] == list(range(200))
        positions = [entry.position for entry in entries]
        assert positions == sorted(set(positions))
        assert len(await listed(log)) == 100  # private notes stay private
        await log.store.close()

    asyncio.run(main())


def test_pages_filter_order_and_bound(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        kinds = ["agent.message", "agent.tool_use", "agent.message"]
        entries = (await log.append(SESSION, THREAD, [Draft(type=kind) for kind in kinds])).entries
        await log.append(SESSION, THREAD, [Draft(type="user.message", queued=True)])
        assert await listed(log, types=("agent.message",)) == ["agent.message"] * 2
        assert await listed(log, descending=True) == ["user.message", *reversed(kinds)]
        assert await listed(log, gt=entries[0].position) == kinds[1:]
        assert await listed(log, gte=entries[0].position, lt=entries[1].position) == kinds[:1]
        assert await listed(log, lte=entries[1].position) == kinds[:2]
        assert await listed(log, after=entries[2].position) == ["user.message"]
        await log.store.close()

    asyncio.run(main())


async def collect(tail: Tail, count: int) -> list[Entry | bytes]:
    found: list[Entry | bytes] = []
    async with asyncio.timeout(20):
        async for batch in tail.batches(heartbeat=5):
            found += batch
            if len(found) >= count:
                break
    return found


def test_a_tail_sees_queued_then_consumed_and_nothing_from_before(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        await log.append(SESSION, THREAD, [Draft(type="agent.message")])
        async with await log.tail(SESSION) as tail:
            queued = (await log.append(SESSION, THREAD, [Draft(type="user.message", queued=True)])).entries
            await log.append(SESSION, THREAD, [Consume(queued[0]), Draft(type="hostler.note")])
            seen = [entry for entry in await collect(tail, 2) if isinstance(entry, Entry)]
        assert [(entry.id, entry.queued) for entry in seen] == [(queued[0].id, True), (queued[0].id, False)]
        with pytest.raises(NotFound):
            await log.tail("sesn_none")
        await log.store.close()

    asyncio.run(main())


def test_a_reader_that_falls_behind_gets_everything_from_the_log(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        total = BUFFERED_ENTRIES * 3
        async with await log.tail(SESSION) as tail:
            for start in range(0, total, 64):
                await log.append(
                    SESSION, THREAD, [Draft(type="agent.message", fields=text(start + i)) for i in range(64)]
                )
            seen = await collect(tail, total)
            await log.append(SESSION, THREAD, [Draft(type="session.status_idle")])
            seen += await collect(tail, 1)
        entries = [entry for entry in seen if isinstance(entry, Entry)]
        assert len(entries) == total + 1
        assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
        assert entries[-1].type == "session.status_idle"
        await log.store.close()

    asyncio.run(main())


def test_a_slow_reader_of_large_events_holds_few_of_them(databases: Databases) -> None:
    large = {"content": [{"type": "text", "text": "x" * (BUFFERED_BYTES // 3)}]}

    async def main() -> None:
        log = await opened(databases)
        async with await log.tail(SESSION) as tail:
            for _ in range(6):
                await log.append(SESSION, THREAD, [Draft(type="agent.message", fields=large)])
            assert tail._follower.lagging
            assert len(await collect(tail, 6)) == 6
            huge = {"content": [{"type": "text", "text": "x" * (BUFFERED_BYTES * 2)}]}
            await log.append(SESSION, THREAD, [Draft(type="agent.message", fields=huge)])
            assert not tail._follower.lagging
            assert len(await collect(tail, 1)) == 1
        await log.store.close()

    asyncio.run(main())


def test_previews_are_a_prefix_and_only_for_those_who_asked(databases: Databases) -> None:
    async def main() -> None:
        log = await opened(databases)
        hub = log.hub
        async with (
            await log.tail(SESSION, previews=frozenset({"agent.message"})) as asked,
            await log.tail(SESSION) as silent,
        ):
            hub.preview(SESSION, "sevt_m", b"too early")
            hub.start_preview(SESSION, (THREAD, None), Preview(type="agent.message", id="sevt_m"), b"start")
            hub.preview(SESSION, "sevt_m", b"delta")
            await log.append(SESSION, THREAD, [Draft(type="agent.message", id="sevt_m")])
            hub.preview(SESSION, "sevt_m", b"too late")
            seen = await collect(asked, 3)
            assert seen[:2] == [b"start", b"delta"]
            assert isinstance(seen[2], Entry)
            assert len(await collect(silent, 1)) == 1
        assert not hub.watched(SESSION, "agent.message")
        await log.store.close()

    asyncio.run(main())
