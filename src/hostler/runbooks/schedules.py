"""Starts the workflows whose schedules are due: for each time one task, whatever is killed when. It must not run any.

The task and the next time are one commit, and the task's id follows from the time, so a time can't start two. Of the
times that passed while nobody was there, the last is made up for, and the others are left out.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import NoReturn

import msgspec
from sqlalchemy import bindparam, select

from hostler import clock
from hostler.errors import HostlerError, InvalidRequest, Unavailable
from hostler.runbooks.registry import cron, workflows
from hostler.runbooks.registry.tenants import Tenants
from hostler.runbooks.registry.workflows import WorkflowRow
from hostler.runbooks.starting import Starts, context_of, place_of_tx
from hostler.store.rounds import survived
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import tasks as task_table
from hostler.store.tables import workflows as table
from hostler.wire.base import timestamp

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
BATCH = 100
_SCHEDULED = uuid.UUID("0b9f6c1e-7d0b-4a57-8f3c-6f3d6a1f2c77")
_c = table.c
_DUE = (
    select(*(_c[name] for name in WorkflowRow.__struct_fields__))
    .where(_c.next_at <= bindparam("now"))
    .order_by(_c.next_at, _c.id)
    .limit(BATCH)
)
_ONE = select(*(_c[name] for name in WorkflowRow.__struct_fields__)).where(_c.id == bindparam("id"))
_THERE = select(task_table.c.id).where(task_table.c.id == bindparam("id"))


def task_id_of(workflow_id: str, at: int) -> str:
    """The id of the task that a workflow's schedule starts at a time."""
    return str(uuid.uuid5(_SCHEDULED, f"{workflow_id}/{at}"))


class Schedules:
    def __init__(self, store: Store, starts: Starts) -> None:
        self._store = store
        self._starts = starts

    async def run(self) -> NoReturn:
        """Start what is due until cancelled."""
        while True:
            await survived(self._round(), log, "schedules that are due could not be looked for")
            await asyncio.sleep(LOOK_SECONDS)

    async def _round(self) -> None:
        await self.start_due(clock.now())
        await Tenants(self._store).retire()

    async def start_due(self, now: int) -> list[str]:
        """Start the tasks of all schedules that are due at `now`; return their ids."""
        started: list[str] = []

        def due() -> Tx[list[WorkflowRow]]:
            return [WorkflowRow(*row) for row in (yield _DUE, {"now": now})]

        while True:
            rows = await self._store.read(due)
            for row in rows:
                started += await self._fire(row, now)
            if len(rows) < BATCH:
                return started

    async def _fire(self, row: WorkflowRow, now: int) -> list[str]:
        """One schedule: its task, and its next time; or the reason why there is no task."""
        try:
            task_id = await self._store.write(lambda: self._fire_tx(row, now, None))
        except Unavailable:
            raise
        except HostlerError as problem:
            log.warning("workflow %s: its schedule could start nothing: %s", row.id, problem)
            why = problem.message
            await self._store.write(lambda: self._fire_tx(row, now, why))
            return []
        if task_id is None:
            return []
        self._starts.wake(task_id)
        return [task_id]

    def _fire_tx(self, read: WorkflowRow, now: int, problem: str | None) -> Tx[str | None]:
        rows = yield _ONE, {"id": read.id}
        row = WorkflowRow(*rows[0]) if rows else None
        if row is None or row.next_at is None or row.next_at > now:
            return None  # it was changed meanwhile
        kept = msgspec.structs.replace(row.kept, problem=problem)
        schedule = kept.schedule or ""
        next_at = _next(schedule, kept.timezone, now)
        yield from workflows.change_tx(row, kept, name=row.name, next_at=next_at, now=row.updated_at)
        if problem is not None:
            return None
        at = cron.last_until(schedule, kept.timezone, row.next_at, now)
        task_id = task_id_of(row.id, at)
        if (yield _THERE, {"id": task_id}):
            return None
        place = yield from place_of_tx(row)
        yield from self._starts.start_tx(place, context_of(place, {"scheduled_at": timestamp(at)}, task_id), task_id)
        return task_id


def _next(schedule: str, timezone: str | None, now: int) -> int | None:
    """None where there is none any more, as when the machine has forgotten the time zone."""
    try:
        return cron.next_after(schedule, timezone, now)
    except InvalidRequest as problem:
        log.warning("a schedule ends: %s", problem)
        return None
