"""Runbooks in processes of their own reach their tenant's data, and no other's, on both databases."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostler.runbooks import tasks
from hostler.runbooks.config import RunbooksConfig
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.registry.tenants import Tenants
from hostler.runbooks.room import Runbooks
from hostler.store.sqlite import SqliteStore
from hostler.store.store import Store
from hostler.vault.keyfile import open_sealer
from hostler.wire.workspace import TenantCreate

WORKFLOW = """
from ntro.workflow import NtroWorkflow, runbook

from .activities import work


@runbook.defn
class ProbeWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, context):
        return await runbook.execute_activity(work, context)
"""


class Room:
    """The runbook side of a server with two tenants."""

    def __init__(self, store: Store, runbooks: Runbooks) -> None:
        self._store = store
        self._runbooks = runbooks
        self.tenants: dict[str, str] = {}

    async def run(self, activity: str, context: dict[str, Any] | None = None, tenant: str = "byng") -> dict[str, Any]:
        """Run an activity with these lines in a task of the tenant; how the task ended."""
        source = "from ntro.workflow import activity\n\n\n@activity.defn\nasync def work(context):\n" + activity
        files = {
            "runbook.md": "---\nslug: probe\n---\n",
            "templates/__init__.py": "",
            "templates/workflow.py": WORKFLOW,
        }
        deployed = await self._runbooks.library.deploy(
            "probe", "1", "ProbeWorkflow", ["activities"], {**files, "templates/activities.py": source}
        )
        task_id = str(uuid.uuid4())
        given = {"tenant_id": self.tenants[tenant], "workflow_id": "w", "runbook": "probe", "version": "1"}
        given |= {"digest": deployed.digest, "title": "Probe"}
        await self._store.write(lambda: tasks.create_tx(task_id, **given, context=context or {}))
        self._runbooks.runner.wake(task_id)
        while True:
            row = await self._store.read(lambda: tasks.find_tx(task_id))
            if row.closed_at is not None:
                assert row.outcome is not None
                return dict(msgspec.json.decode(row.outcome))
            await asyncio.sleep(0.05)


@asynccontextmanager
async def opened(folder: Path, plane: DataPlane) -> AsyncIterator[Room]:
    store = await SqliteStore.open(folder / "store.db", now=1)
    runbooks = Runbooks(store, open_sealer(folder, None, []), plane, folder / "runbooks", RunbooksConfig(), {})
    room = Room(store, runbooks)
    for slug in ("byng", "acme"):
        room.tenants[slug] = (
            await Tenants(store).create(TenantCreate(name=slug, slug=slug, data_platform="managed-postgres"))
        ).id
    work = asyncio.create_task(runbooks.runner.run())
    try:
        yield room
    finally:
        work.cancel()
        await asyncio.wait([work])
        await store.close()


@pytest.fixture
def room(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path) -> Iterator[Room]:
    context = opened(tmp_path, plane)
    yield loop.run(context.__aenter__())
    loop.run(context.__aexit__(None, None, None))


EVERYTHING = """
    import uuid
    from datetime import UTC, date, datetime
    from decimal import Decimal
    from ntro.data import DataPlane, get_data_plane

    db = await get_data_plane("byng")
    assert isinstance(db, DataPlane)
    await db.execute(
        "CREATE TABLE IF NOT EXISTS ledgers.kinds (id uuid PRIMARY KEY, n numeric(12, 2), at timestamptz, day date, "
        "yes boolean, data bytea, doc jsonb, i bigint, f float8, t text)"
    )
    row = dict(
        id=uuid.uuid4(), n=Decimal("1.25"), at=datetime(2026, 1, 2, 3, 4, 5, 6, UTC), day=date(2026, 1, 2), yes=True,
        data=bytes(range(256)), doc='{"a": [1]}', i=2**62, f=0.5, t="\\u00fcber '$1' ?1 :x",
    )
    names = ", ".join(row)
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    sql = f"INSERT INTO ledgers.kinds ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
    assert await db.execute(sql, *row.values()) == "INSERT 0 1"
    assert await db.execute(sql, *row.values()) == "INSERT 0 0"
    found = await db.fetchrow(f"SELECT {names} FROM ledgers.kinds WHERE id = $1", row["id"])
    assert found == row, found
    assert type(found["doc"]) is str
    (found,) = await db.fetch("SELECT * FROM ledgers.kinds")
    assert found == {**row, "doc": {"a": [1]}}, found
    assert await db.fetchrow("SELECT id FROM ledgers.kinds WHERE t = $1", "x") is None
    return "all"
"""


def test_values_of_every_type_there_and_back(room: Room, loop: asyncio.Runner) -> None:
    assert loop.run(room.run(EVERYTHING)) == {"name": "probe", "result": "all"}


INVOKED = """
    from ntro.data import get_data_plane
    from ntro.ingest import insert_submitted_document, fetch_submitted_document_by_id

    db = await get_data_plane("byng")
    made = await insert_submitted_document(
        db, entity_slug="spv", period=None, source="s", filename="f", content_type="c", data_bytes=b"x" * 3_000_000,
        task_id="t",
    )
    again = await fetch_submitted_document_by_id(db, document_ref=made.id)
    assert again == made
    return made.id
"""


def test_what_a_runbook_stores_the_server_finds(room: Room, loop: asyncio.Runner, plane: DataPlane) -> None:
    document_id = loop.run(room.run(INVOKED))["result"]
    (stored,) = loop.run(plane.documents("byng", task_id="t"))
    assert (stored.id, stored.size, stored.sha256) == (document_id, 3_000_000, None)
    assert loop.run(plane.documents("acme")) == []


OTHERS = """
    from ntro.data import get_data_plane

    said = []
    for tenant in context["tenants"]:
        db = await get_data_plane(tenant)
        try:
            said.append(await db.fetch("SELECT id FROM ingest.submitted_documents"))
        except Exception as error:
            said.append(f"{type(error).__name__} {error.sqlstate} {error}")
    return said
"""


def test_another_tenants_data_is_refused(room: Room, loop: asyncio.Runner) -> None:
    wanted = ["acme", "nobody", "", "../acme", "BYNG", room.tenants["acme"]]
    said = loop.run(room.run(OTHERS, {"tenants": wanted}))["result"]
    why = "DataPlaneError 42501 This task belongs to the tenant 'byng'; it can't reach the data of "
    assert said == [f"{why}{each!r}." for each in wanted]


def test_a_tenant_may_be_named_by_its_id(room: Room, loop: asyncio.Runner) -> None:
    assert loop.run(room.run(OTHERS, {"tenants": ["acme", room.tenants["acme"]]}, tenant="acme"))["result"] == [[], []]


THREAD = """
    import asyncio
    from ntro.data import get_data_plane

    async def inside():
        db = await get_data_plane("byng")
        return await db.fetchrow("SELECT 1 AS one")

    return await asyncio.to_thread(lambda: asyncio.run(inside()))
"""


def test_another_threads_loop_may_ask(room: Room, loop: asyncio.Runner) -> None:
    assert loop.run(room.run(THREAD))["result"] == {"one": 1}


FAILING = """
    from ntro.data import get_data_plane

    db = await get_data_plane("byng")
    said = {}
    for sql in context["statements"]:
        try:
            await db.execute(sql)
        except Exception as error:
            said[sql] = [error.sqlstate, error.non_retryable]
    return said
"""
STATES = {
    "SELEKT 1": ["0A000", True],
    "SELECT * FROM ledgers.nowhere": ["42P01", True],
    "SELECT nowhere FROM ingest.submitted_documents": ["42703", True],
    "INSERT INTO ingest.submitted_records (entity_slug) VALUES ('e')": ["23502", False],
    "SELECT 'x'::uuid": ["22P02", False],
    "SELECT 1; SELECT 2": ["42601", True],
    "COMMIT": ["0A000", True],
}


def test_errors_say_why(room: Room, loop: asyncio.Runner) -> None:
    assert loop.run(room.run(FAILING, {"statements": list(STATES)}))["result"] == STATES


CACHED = """
    from ntro.capabilities import ai, config

    extracted = ai.ExtractionResult(fields={"a": 1}, confidence_scores={}, line_items=[], summary="s")
    await ai._store_cached_extract("k", "schema", extracted)
    assert await ai._try_cached_extract("k") == extracted
    return config.get().tenant_slug
"""


def test_the_caches_of_the_package_are_on(room: Room, loop: asyncio.Runner) -> None:
    assert loop.run(room.run(CACHED))["result"] == "byng"
