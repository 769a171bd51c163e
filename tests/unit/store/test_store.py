"""The store's promises, on both databases: grouped durable writes, isolation of failures, order, migrations."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import bindparam, delete, insert, select

from databases import Databases
from hostler.errors import InvalidRequest
from hostler.store import tables
from hostler.store.migrations import MIGRATIONS
from hostler.store.sql import Many, Tx
from hostler.store.store import AlreadyOpen, Duplicate, Store, StoreClosed

KEY = {"name": "n", "hint": "h", "created_at": 1, "revoked_at": None}
INSERT = insert(tables.api_keys)
BY_ID = select(tables.api_keys.c.id).where(tables.api_keys.c.id == bindparam("id"))
ALL = select(tables.api_keys.c.id).order_by(tables.api_keys.c.id)


def add(key_id: str) -> Tx[str]:
    yield INSERT, {"id": key_id, "hash": key_id, **KEY}
    return key_id


def stored() -> Tx[list[str]]:
    rows = yield ALL
    return [row[0] for row in rows]


def test_a_write_is_there_after_a_restart(databases: Databases) -> None:
    async def main() -> None:
        store = await databases.open()
        assert await store.write(lambda: add("a")) == "a"
        await store.close()
        store = await databases.open()
        assert await store.read(stored) == ["a"]
        await store.close()

    asyncio.run(main())


def test_a_read_sees_one_moment(databases: Databases) -> None:
    """What is committed between two of its statements is not there for it: what it puts together belongs together."""

    async def elsewhere() -> None:
        other = await databases.open(owner=False)
        await other.write(lambda: add("late"))
        await other.close()

    def twice() -> Tx[tuple[list[str], list[str]]]:
        first = yield from stored()
        writing = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        writing.start()
        writing.join()
        return first, (yield from stored())

    async def main() -> None:
        store = await databases.open()
        await store.write(lambda: add("a"))
        assert await store.read(twice) == (["a"], ["a"])
        assert await store.read(stored) == ["a", "late"]
        await store.close()

    asyncio.run(main())


def test_one_failing_write_leaves_its_group_alone(databases: Databases) -> None:
    def fails_late() -> Tx[None]:
        yield from add("half")
        raise InvalidRequest("after a statement")

    def fails_early() -> Tx[None]:
        rows = yield BY_ID, {"id": "nobody"}
        raise InvalidRequest(f"found {len(rows)}")

    async def main() -> None:
        store = await databases.open()
        writes = [store.write(lambda i=i: add(f"k{i:02}")) for i in range(20)]
        outcomes = await asyncio.gather(
            *writes[:10], store.write(fails_late), *writes[10:], store.write(fails_early), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [
            "after a statement",
            "found 0",
        ]
        assert await store.read(stored) == [f"k{i:02}" for i in range(20)]
        await store.close()

    asyncio.run(main())


def test_a_unique_index_refuses_only_the_second(databases: Databases) -> None:
    async def main() -> None:
        store = await databases.open()
        outcomes = await asyncio.gather(*(store.write(lambda: add("same")) for _ in range(5)), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Duplicate"] * 4 + ["str"]
        assert any(isinstance(outcome, Duplicate) for outcome in outcomes)
        await store.close()

    asyncio.run(main())


def test_then_is_called_in_commit_order_even_for_a_cancelled_caller(databases: Databases) -> None:
    async def main() -> None:
        store = await databases.open()
        seen: list[str] = []
        tasks = [asyncio.create_task(store.write(lambda i=i: add(f"k{i}"), seen.append)) for i in range(8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert seen == [f"k{i}" for i in range(8)]
        await store.close()

    asyncio.run(main())


def test_a_then_that_fails_holds_up_nobody(databases: Databases, caplog: pytest.LogCaptureFixture) -> None:
    def fails(key_id: str) -> None:
        raise RuntimeError(f"a fault after {key_id}")

    async def main() -> None:
        store = await databases.open()
        async with asyncio.timeout(20):
            writes = [
                store.write(lambda: add("a"), fails),
                store.write(lambda: add("b")),
                store.write(lambda: add("c")),
            ]
            assert await asyncio.gather(*writes) == ["a", "b", "c"]
            assert await store.write(lambda: add("d")) == "d"
        await store.close()

    asyncio.run(main())
    assert "a fault after a" in caplog.text


def test_many_rows_and_a_row_count(databases: Databases) -> None:
    def fill() -> Tx[int]:
        yield Many(INSERT, [{"id": f"m{i:03}", "hash": f"h{i}", **KEY} for i in range(100)])
        rows = yield ALL
        return len(rows)

    def empty() -> Tx[None]:
        yield delete(tables.api_keys).where(tables.api_keys.c.id >= "m050")

    async def main() -> None:
        store = await databases.open()
        assert await store.write(fill) == 100
        await store.write(empty)
        assert len(await store.read(stored)) == 50
        await store.close()

    asyncio.run(main())


def test_a_closed_store_refuses(databases: Databases) -> None:
    async def main() -> None:
        store = await databases.open()
        await store.close()
        for attempt in (store.write(lambda: add("late")), store.read(stored)):
            with pytest.raises(StoreClosed):
                await attempt

    asyncio.run(main())


def test_the_migrated_schema_is_the_one_statements_are_built_on(databases: Databases) -> None:
    async def columns(store: Store, table: str) -> set[str]:
        def tx() -> Tx[None]:
            yield select(*tables.metadata.tables[table].c).limit(1)

        await store.read(tx)
        return set(tables.metadata.tables[table].c.keys())

    async def main() -> None:
        store = await databases.open()
        created = " ".join(statement for step in MIGRATIONS.values() for statement in step)
        for name in tables.metadata.tables:
            for column in await columns(store, name):
                assert f" {column} " in created.replace("(", " ").replace(",", " ")
        await store.close()

    asyncio.run(main())


def test_two_servers_can_not_own_one_postgresql(databases: Databases) -> None:
    async def main() -> None:
        store = await databases.open()
        if databases.kind == "postgresql":
            with pytest.raises(AlreadyOpen):
                await databases.open()
        await store.close()
        await (await databases.open()).close()

    asyncio.run(main())
