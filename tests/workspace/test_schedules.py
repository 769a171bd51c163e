"""Schedules: validated at once, due once each, made up for once; on both databases, and through a kill."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ntro.workspace import Client
from sample_bundles import QUICK
from sqlalchemy import update
from workspace_world import SECONDS, World

from databases import Databases
from hostler.runbooks.confining import Confining
from hostler.runbooks.library import Library
from hostler.runbooks.registry import cron
from hostler.runbooks.registry.entities import Entities
from hostler.runbooks.registry.tenants import Tenants
from hostler.runbooks.registry.workflows import Workflows
from hostler.runbooks.schedules import Schedules, task_id_of
from hostler.runbooks.starting import Starts
from hostler.runbooks.validating import import_faults
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import workflows as table
from hostler.wire.workspace import EntityCreate, TenantCreate, WorkflowCreate, WorkflowUpdate
from running import Server

MINUTE = 60 * 1_000_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


class Place:
    """The rooms that schedules need, on one database, and a workflow."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.woken: list[str] = []
        self.library = Library(store, folder, partial(import_faults, confine=Confining("none", [])))
        self.workflows = Workflows(store, self.library)
        self.tenants = Tenants(store)
        self.schedules = Schedules(store, Starts(store, self.library, self.woken.append))

    async def workflow(self, schedule: str = "*/5 * * * *") -> str:
        await self.tenants.create(TenantCreate(name="T", slug="t", data_platform="managed-postgres"))
        entity = await Entities(self.store).create("t", EntityCreate(name="E", slug="e"))
        await self.library.deploy("quick", "1.0.0", "QuickWorkflow", [], QUICK)
        made = WorkflowCreate(runbook_slug="quick", entity_id=entity.id, schedule=schedule)
        return (await self.workflows.create(made)).id

    async def due_at(self, workflow_id: str, moment: int) -> None:
        """Set its clock, as time does."""

        def tx() -> Tx[None]:
            yield update(table).where(table.c.id == workflow_id).values(next_at=moment)

        await self.store.write(tx)

    async def next_at(self, workflow_id: str) -> str | None:
        return (await self.workflows.get(workflow_id)).next_run_at


@pytest.fixture
def play(databases: Databases, tmp_path: Path) -> Callable[[Callable[[Place], Awaitable[None]]], None]:
    def run(story: Callable[[Place], Awaitable[None]]) -> None:
        async def told() -> None:
            store = await databases.open()
            try:
                await story(Place(store, tmp_path / "bundles"))
            finally:
                await store.close()

        asyncio.run(told())

    return run


def test_each_time_starts_one_task(play: Any) -> None:
    async def story(place: Place) -> None:
        workflow = await place.workflow()
        first = at("2026-01-01T10:00:00")
        await place.due_at(workflow, first)
        assert await place.schedules.start_due(first - 1) == []
        results = await asyncio.gather(*(place.schedules.start_due(first + 1) for _ in range(3)))
        assert sorted(itertools.chain(*results)) == [task_id_of(workflow, first)]
        assert place.woken == [task_id_of(workflow, first)]
        assert await place.next_at(workflow) == "2026-01-01T10:05:00.000000Z"
        await place.due_at(workflow, first)  # as when the next time was not written: the task is there already
        assert await place.schedules.start_due(first + 1) == []

    play(story)


def test_of_those_missed_the_last_is_made_up_for(play: Any) -> None:
    async def story(place: Place) -> None:
        workflow = await place.workflow()
        await place.due_at(workflow, at("2026-01-01T10:00:00"))
        started = await place.schedules.start_due(at("2026-03-01T00:07:00"))
        assert started == [task_id_of(workflow, at("2026-03-01T00:05:00"))]
        assert await place.next_at(workflow) == "2026-03-01T00:10:00.000000Z"

    play(story)


def test_one_that_can_not_start_says_why_and_goes_on(play: Any) -> None:
    async def story(place: Place) -> None:
        workflow = await place.workflow()
        first = at("2026-01-01T10:00:00")
        await place.due_at(workflow, first)

        def pin() -> Tx[None]:
            yield update(table).values(body=b'{"version": "9", "schedule": "*/5 * * * *"}')

        await place.store.write(pin)
        assert await place.schedules.start_due(first) == []
        found = await place.workflows.get(workflow)
        assert "no version 9 of the runbook quick" in (found.schedule_problem or "")
        assert found.next_run_at == "2026-01-01T10:05:00.000000Z"
        changed = await place.workflows.update(workflow, WorkflowUpdate(schedule="0 1 * * *"))
        assert changed.schedule_problem is None

    play(story)


def test_stopped(play: Any) -> None:
    async def story(place: Place) -> None:
        workflow = await place.workflow()
        cleared = await place.workflows.update(workflow, WorkflowUpdate(schedule=None))
        assert (cleared.next_run_at, cleared.schedule) == (None, None)
        await place.workflows.update(workflow, WorkflowUpdate(schedule="*/5 * * * *"))
        await place.due_at(workflow, 1)
        await place.tenants.deprovision("t")
        assert await place.schedules.start_due(at("2026-01-01T10:00:00")) == []
        await place.tenants.retire()
        assert (await place.tenants.get("t")).status == "DECOMMISSIONED"

    play(story)


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "due"),
    [
        ("0 8 5 * *", "Europe/London", "2026-06-01T00:00:00", "2026-06-05T07:00:00"),
        ("0 8 5 * *", None, "2026-06-01T00:00:00", "2026-06-05T08:00:00"),
        ("30 1 * * *", "Europe/London", "2026-03-28T12:00:00", "2026-03-29T01:00:00"),  # 1:30 is skipped that night
        ("0 0 29 2 *", None, "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 9 * * MON-FRI", None, "2026-05-02T00:00:00", "2026-05-04T09:00:00"),
    ],
)
def test_when_it_is_due(schedule: str, zone: str | None, now: str, due: str) -> None:
    assert cron.next_after(schedule, zone, at(now)) == at(due)
    assert cron.last_until(schedule, zone, 0, at(due)) == at(due)
    assert cron.last_until(schedule, zone, 0, at(due) + 1) == at(due)
    assert cron.last_until(schedule, zone, 0, at(due) - 1) < at(due)


def test_a_real_server_keeps_its_times_through_a_kill(tmp_path: Path) -> None:
    """Killed before a time and started after it, again and again: each time has one task, and the last is there."""
    with Server(tmp_path / "data") as server:
        client = Client(host=f"{server.base_url}/v1", api_key=server.key)
        world = World(client, 1)
        workflow = world.workflow("quick", schedule="* * * * *")
        (expected,) = client.tasks.list_schedule_sync()
        assert (expected.status.value, expected.workflowId) == ("PENDING", workflow.id)
        server.kill()

        # What a minute does is done to the clock's column instead, since a test can't wait for one.
        async def long_ago() -> None:
            from hostler.store.sqlite import SqliteStore

            store = await SqliteStore.open(next((tmp_path / "data").glob("*.db*")), now=1)

            def tx() -> Tx[None]:
                yield update(table).values(next_at=at("2026-01-01T10:00:00"))

            await store.write(tx)
            await store.close()

        asyncio.run(long_ago())
        begun = time.time()
        server.start()
        deadline = time.monotonic() + SECONDS
        while not (found := client.tasks.history_sync(world.tenant.slug, world.entity.slug)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.kill()
        server.start()
        world.until(found[0].id, "done")
        later = client.tasks.history_sync(world.tenant.slug, world.entity.slug)
        minutes = (time.time() - begun) // 60 + 2
        assert found[0].id in [each.id for each in later]
        assert 1 <= len(later) <= minutes
        times = [each.context["scheduled_at"] for each in later]
        assert len(set(times)) == len(times)
        assert min(times) > "2026-02"
