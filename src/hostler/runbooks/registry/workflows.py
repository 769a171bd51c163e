"""Workflows: which runbook is run for which entity, with what configuration, and when. It must not start any.

One that names no version runs what was deployed last.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, or_, select, update

from hostler import clock
from hostler.errors import AlreadyExists, InvalidRequest, NotFound
from hostler.runbooks.contract import Library
from hostler.runbooks.registry import cron, entities, tenants
from hostler.runbooks.registry.entities import EntityRow
from hostler.runbooks.registry.finding import called, check_config, new_id, sent_again
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import workflows as table
from hostler.wire.base import timestamp
from hostler.wire.workspace import Config, Workflow, WorkflowCreate, WorkflowUpdate

_c = table.c


class WorkflowRow(msgspec.Struct, frozen=True):
    """`next_at` is when its schedule is due next, in microseconds."""

    id: str
    tenant_id: str
    entity_id: str
    runbook: str
    name: str | None
    body: bytes
    next_at: int | None
    created_at: int
    updated_at: int

    @property
    def kept(self) -> Kept:
        return _decode(self.body)


class Kept(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`problem` is why its schedule last started nothing."""

    version: str | None = None
    description: str | None = None
    schedule: str | None = None
    timezone: str | None = None
    config: Config = {}
    problem: str | None = None


_decode = msgspec.json.Decoder(Kept).decode
_COLUMNS = tuple(_c[name] for name in WorkflowRow.__struct_fields__)
_ALL = select(*_COLUMNS).order_by(_c.created_at, _c.id)
_OF_TENANT = _ALL.where(_c.tenant_id == bindparam("t"))
_CALLED = _ALL.where(or_(_c.id == bindparam("ref"), _c.name == bindparam("ref"), _c.runbook == bindparam("ref")))
_OF_ENTITY = _ALL.where(_c.entity_id == bindparam("e"))
_NAMED = select(_c.id).where(_c.tenant_id == bindparam("t"), _c.name == bindparam("called"))
_INSERT = insert(table)
_DELETE = delete(table).where(_c.id == bindparam("key"))
_CHANGE = (
    update(table)
    .where(_c.id == bindparam("key"))
    .values(name=bindparam("called"), body=bindparam("anew"), next_at=bindparam("due"), updated_at=bindparam("now"))
)


def find_tx(ref: str, tenant_id: str | None, entity_id: str | None = None) -> Tx[WorkflowRow]:
    """By id or name, or by its runbook where that says enough. Raises NotFound, InvalidRequest."""
    rows = yield _CALLED, {"ref": ref}
    mine = [each for each in (WorkflowRow(*row) for row in rows) if tenant_id in (None, each.tenant_id)]
    found = called((each for each in mine if ref in (each.id, each.name)), ref)
    if found is None:
        bound = [each for each in mine if entity_id in (None, each.entity_id)]
        if len(bound) > 1:
            raise InvalidRequest(f"Several workflows run {ref}: give the id or the name of one, or its entity.")
        found = bound[0] if bound else None
    if found is None:
        raise NotFound(f"Workflow {ref} was not found.")
    return found


def change_tx(row: WorkflowRow, kept: Kept, *, name: str | None, next_at: int | None, now: int) -> Tx[None]:
    body = msgspec.json.encode(kept)
    yield _CHANGE, {"key": row.id, "called": name, "anew": body, "due": next_at, "now": now}


class Workflows:
    def __init__(self, store: Store, library: Library) -> None:
        self._store = store
        self._library = library

    async def create(self, params: WorkflowCreate, scope: str | None = None) -> Workflow:
        now, made = clock.now(), new_id()
        kept = Kept(
            version=params.runbook_version,
            description=params.description,
            schedule=params.schedule,
            timezone=params.timezone,
            config=check_config(params.default_config or {}, "defaultConfig"),
        )
        next_at = due(kept, now)

        def tx() -> Tx[Workflow]:
            entity = yield from entities.find_tx(params.entity_id, scope)
            yield from tenants.find_active_tx(entity.tenant_id, scope)
            yield from self._library.deployed_tx(params.runbook_slug, params.runbook_version)
            known = yield from _known_tx(entity, params, kept, now)
            row = known or WorkflowRow(
                made, entity.tenant_id, entity.id, params.runbook_slug, params.name, msgspec.json.encode(kept),
                next_at, now, now,
            )  # fmt: skip
            if known is None:
                yield _INSERT, msgspec.structs.asdict(row)
            return shown(row, entity)

        return await self._store.write(tx)

    async def all(self, scope: str | None = None) -> list[Workflow]:
        def tx() -> Tx[list[Workflow]]:
            found = yield (_ALL if scope is None else (_OF_TENANT, {"t": scope}))
            rows = [WorkflowRow(*row) for row in found]
            bound = {each.id: each for each in (yield from entities.all_tx(scope))}
            return [shown(row, bound[row.entity_id]) for row in rows]

        return await self._store.read(tx)

    async def get(self, ref: str, scope: str | None = None) -> Workflow:
        return await self._store.read(lambda: self._shown_tx(ref, scope))

    async def update(self, ref: str, params: WorkflowUpdate, scope: str | None = None) -> Workflow:
        now = clock.now()

        def tx() -> Tx[Workflow]:
            row = yield from find_tx(ref, scope)
            kept, name = _changed(row, params)
            yield from _check_name_tx(name, row.tenant_id, row.id)
            same = (kept.schedule, kept.timezone) == (row.kept.schedule, row.kept.timezone)
            next_at = row.next_at if same else due(kept, now)
            yield from change_tx(row, kept, name=name, next_at=next_at, now=now)
            return (yield from self._shown_tx(row.id, None))

        return await self._store.write(tx)

    async def delete(self, ref: str, scope: str | None = None) -> None:
        """Its schedule ends with it; tasks that it started stay."""

        def tx() -> Tx[None]:
            row = yield from find_tx(ref, scope)
            yield _DELETE, {"key": row.id}

        await self._store.write(tx)

    def _shown_tx(self, ref: str, scope: str | None) -> Tx[Workflow]:
        row = yield from find_tx(ref, scope)
        return shown(row, (yield from entities.find_tx(row.entity_id, row.tenant_id)))


def due(kept: Kept, now: int) -> int | None:
    """When a schedule is due next. Raises InvalidRequest."""
    if kept.schedule is None:
        if kept.timezone is not None:
            cron.next_after("0 0 * * *", kept.timezone, now)  # the zone alone is to be right, too
        return None
    return cron.next_after(kept.schedule, kept.timezone, now)


def shown(row: WorkflowRow, entity: EntityRow) -> Workflow:
    kept = row.kept
    return Workflow(
        id=row.id,
        runbook_slug=row.runbook,
        entity_id=row.entity_id,
        tenant_id=row.tenant_id,
        runbook_version=kept.version,
        name=row.name,
        description=kept.description,
        schedule=kept.schedule,
        timezone=kept.timezone,
        default_config=kept.config,
        entity={"id": entity.id, "slug": entity.slug, "name": entity.name, "tenantId": entity.tenant_id},
        next_run_at=timestamp(row.next_at) if row.next_at is not None else None,
        schedule_problem=kept.problem,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
    )


def _known_tx(entity: EntityRow, params: WorkflowCreate, kept: Kept, now: int) -> Tx[WorkflowRow | None]:
    """The row that this create has made, when it is sent again. Raises AlreadyExists for a name that is taken."""
    asked = (params.runbook_slug, params.name, kept)
    for row in (yield _OF_ENTITY, {"e": entity.id}):
        known = WorkflowRow(*row)
        if (known.runbook, known.name, known.kept) == asked and sent_again(known.created_at, now):
            return known
    yield from _check_name_tx(params.name, entity.tenant_id, None)
    return None


def _check_name_tx(name: str | None, tenant_id: str, own: str | None) -> Tx[None]:
    if name is None:
        return
    rows = yield _NAMED, {"t": tenant_id, "called": name}
    if any(row[0] != own for row in rows):
        raise AlreadyExists(f"name: this tenant has a workflow {name!r} already")


def _changed(row: WorkflowRow, params: WorkflowUpdate) -> tuple[Kept, str | None]:
    anew: dict[str, Any] = {}
    for field in ("description", "schedule", "timezone"):
        if (value := getattr(params, field)) is not msgspec.UNSET:
            anew[field] = value
    if params.default_config is not msgspec.UNSET:
        anew["config"] = check_config(params.default_config or {}, "defaultConfig")
    if "schedule" in anew:
        anew["problem"] = None
    name = row.name if params.name is msgspec.UNSET else params.name
    return msgspec.structs.replace(row.kept, **anew), name
