"""Tenants: the clients whose entities, workflows and tasks are kept apart from each other. It must not know HTTP.

`scope` is the one tenant that a caller may see, or None for one who sees all; what is out of it is not there.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, func, insert, or_, select, update

from hostler import clock
from hostler.errors import AlreadyExists, Conflict, InvalidRequest, NotFound
from hostler.runbooks.registry.finding import called, check_config, new_id, sent_again
from hostler.runbooks.tasks import cancel_tx
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import data_connections, entities, tasks, workflows
from hostler.store.tables import tenants as table
from hostler.wire.base import timestamp
from hostler.wire.workspace import Config, DataPlatform, Tenant, TenantCreate, TenantStatus

MANAGED: DataPlatform = "managed-postgres"
_c = table.c


class TenantRow(msgspec.Struct, frozen=True):
    id: str
    slug: str
    name: str
    status: TenantStatus
    body: bytes
    created_at: int
    updated_at: int

    @property
    def kept(self) -> Kept:
        return _decode(self.body)


class Kept(msgspec.Struct, kw_only=True):
    data_platform: DataPlatform = MANAGED
    data_platform_config_id: str | None = None
    config: Config = {}


_decode = msgspec.json.Decoder(Kept).decode
_COLUMNS = tuple(_c[name] for name in TenantRow.__struct_fields__)
_ALL = select(*_COLUMNS).order_by(_c.created_at, _c.id)
_CALLED = select(*_COLUMNS).where(
    or_(_c.id == bindparam("ref"), _c.slug == bindparam("ref"), _c.name == bindparam("ref"))
)
_OF_SLUG = select(*_COLUMNS).where(_c.slug == bindparam("ref"))
_INSERT = insert(table)
_CHANGE = update(table).where(_c.id == bindparam("key")).values(body=bindparam("anew"), updated_at=bindparam("now"))
_TURN = update(table).where(_c.id == bindparam("key")).values(status=bindparam("s"), updated_at=bindparam("now"))
_COUNTS = select(entities.c.tenant_id, func.count()).group_by(entities.c.tenant_id)
_CONNECTION = select(data_connections.c.id).where(
    data_connections.c.id == bindparam("ref"), data_connections.c.kind == "data"
)
_STOP = update(workflows).where(workflows.c.tenant_id == bindparam("t")).values(next_at=None)
_AT_WORK = select(tasks.c.id).where(
    tasks.c.tenant_id == bindparam("t"), tasks.c.closed_at.is_(None), tasks.c.cancelled_at.is_(None)
)
_OPEN = select(tasks.c.id).where(tasks.c.tenant_id == bindparam("t"), tasks.c.closed_at.is_(None)).limit(1)
_LEAVING = select(_c.id).where(_c.status == "DEPROVISIONING")


def find_tx(ref: str, scope: str | None = None) -> Tx[TenantRow]:
    """By id, slug or name. Raises NotFound."""
    rows = yield _CALLED, {"ref": ref}
    mine = (TenantRow(*row) for row in rows)
    found = called((each for each in mine if scope in (None, each.id)), ref)
    if found is None:
        raise NotFound(f"Tenant {ref} was not found.")
    return found


def find_active_tx(ref: str, scope: str | None = None) -> Tx[TenantRow]:
    """One that something new may be made for. Raises NotFound, Conflict."""
    found = yield from find_tx(ref, scope)
    if found.status != "ACTIVE":
        raise Conflict(f"Tenant {found.slug} is {found.status}: nothing new can be made for it.")
    return found


class Tenants:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, params: TenantCreate) -> Tenant:
        now, made = clock.now(), new_id()
        kept = Kept(data_platform=params.data_platform, data_platform_config_id=params.data_platform_config_id)

        def tx() -> Tx[Tenant]:
            yield from _check_platform_tx(params)
            rows = yield _OF_SLUG, {"ref": params.slug}
            if rows:
                return (yield from shown_tx(_known(TenantRow(*rows[0]), params, kept, now)))
            row = TenantRow(made, params.slug, params.name, "ACTIVE", msgspec.json.encode(kept), now, now)
            yield _INSERT, msgspec.structs.asdict(row)
            return shown(row, 0)

        return await self._store.write(tx)

    async def all(self, scope: str | None = None, status: str | None = None) -> list[Tenant]:
        def tx() -> Tx[list[Tenant]]:
            rows = yield _ALL
            counts = yield from _counts_tx()
            found = [TenantRow(*row) for row in rows]
            mine = (each for each in found if scope in (None, each.id) and status in (None, each.status))
            return [shown(each, counts.get(each.id, 0)) for each in mine]

        return await self._store.read(tx)

    async def get(self, ref: str, scope: str | None = None) -> Tenant:
        def tx() -> Tx[Tenant]:
            return (yield from shown_tx((yield from find_tx(ref, scope))))

        return await self._store.read(tx)

    async def update(self, ref: str, config: Config, scope: str | None = None) -> Tenant:
        check_config(config, "config")

        def tx() -> Tx[Tenant]:
            row = yield from find_tx(ref, scope)
            anew = msgspec.json.encode(msgspec.structs.replace(row.kept, config=config))
            yield _CHANGE, {"key": row.id, "anew": anew, "now": clock.now()}
            return (yield from shown_tx((yield from find_tx(row.id))))

        return await self._store.write(tx)

    async def deprovision(self, ref: str) -> tuple[Tenant, list[str]]:
        """End what a tenant does: its tasks are cancelled, its schedules stop. What it has stays to be read. Returns it
        with the tasks that were told."""

        def tx() -> Tx[tuple[Tenant, list[str]]]:
            row, now, told = (yield from find_tx(ref)), clock.now(), []
            if row.status == "ACTIVE":
                yield _STOP, {"t": row.id}
                told = [found[0] for found in (yield _AT_WORK, {"t": row.id})]
                for task_id in told:
                    yield from cancel_tx(task_id)
                yield _TURN, {"key": row.id, "s": "DEPROVISIONING", "now": now}
                row = yield from find_tx(row.id)
            return (yield from shown_tx(row)), told

        return await self._store.write(tx)

    async def retire(self) -> None:
        """Turn those that are leaving and have no task any more."""

        def done() -> Tx[list[str]]:
            over = []
            for (tenant_id,) in (yield _LEAVING):
                if not (yield _OPEN, {"t": tenant_id}):
                    over.append(tenant_id)
            return over

        def tx() -> Tx[None]:
            for tenant_id in over:
                yield _TURN, {"key": tenant_id, "s": "DECOMMISSIONED", "now": clock.now()}

        if over := await self._store.read(done):
            await self._store.write(tx)


def shown_tx(row: TenantRow) -> Tx[Tenant]:
    counts = yield from _counts_tx()
    return shown(row, counts.get(row.id, 0))


def _counts_tx() -> Tx[dict[str, int]]:
    """How many entities each tenant has."""
    return {row[0]: row[1] for row in (yield _COUNTS)}


def shown(row: TenantRow, entity_count: int) -> Tenant:
    kept = row.kept
    return Tenant(
        id=row.id,
        name=row.name,
        slug=row.slug,
        data_platform=kept.data_platform,
        data_platform_config_id=kept.data_platform_config_id,
        status=row.status,
        config=kept.config,
        entity_count=entity_count,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
    )


def _check_platform_tx(params: TenantCreate) -> Tx[None]:
    """Raises InvalidRequest, NotFound."""
    chosen: Any = params.data_platform_config_id
    if params.data_platform == MANAGED:
        if chosen is not None:
            raise InvalidRequest(f"dataPlatformConfigId: a tenant on {MANAGED} has none")
    elif chosen is None:
        raise InvalidRequest(f"dataPlatformConfigId: Field required for a tenant on {params.data_platform}")
    elif not (yield _CONNECTION, {"ref": chosen}):
        raise NotFound(f"dataPlatformConfigId: data connection {chosen} was not found.")


def _known(row: TenantRow, params: TenantCreate, kept: Kept, now: int) -> TenantRow:
    """The row that is there, where this create made it. Raises AlreadyExists."""
    if row.name == params.name and row.kept == kept and sent_again(row.created_at, now):
        return row
    raise AlreadyExists(f"slug: there is a tenant {params.slug} already")
