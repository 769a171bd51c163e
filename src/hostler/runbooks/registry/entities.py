"""Entities: the funds and companies of a tenant, each with a slug of its own in it. It must not know HTTP."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, insert, or_, select, update

from hostler import clock
from hostler.errors import AlreadyExists, NotFound
from hostler.runbooks.registry import tenants
from hostler.runbooks.registry.finding import called, check_config, new_id, sent_again
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import entities as table
from hostler.wire.base import UNSET, timestamp
from hostler.wire.workspace import Config, Entity, EntityCreate, EntityWarning

_c = table.c


class EntityRow(msgspec.Struct, frozen=True):
    id: str
    tenant_id: str
    slug: str
    name: str
    body: bytes
    created_at: int
    updated_at: int

    @property
    def kept(self) -> Kept:
        return _decode(self.body)


class Kept(msgspec.Struct, kw_only=True):
    type: str | None = None
    jurisdiction: str | None = None
    currency: str | None = None
    schema_: str | None = None
    config: Config = {}


_decode = msgspec.json.Decoder(Kept).decode
_COLUMNS = tuple(_c[name] for name in EntityRow.__struct_fields__)
_ALL = select(*_COLUMNS).order_by(_c.created_at, _c.id)
_OF_TENANT = _ALL.where(_c.tenant_id == bindparam("t"))
_CALLED = _ALL.where(or_(_c.id == bindparam("ref"), _c.slug == bindparam("ref"), _c.name == bindparam("ref")))
_INSERT = insert(table)
_CHANGE = update(table).where(_c.id == bindparam("key")).values(body=bindparam("anew"), updated_at=bindparam("now"))


def find_tx(ref: str, tenant_id: str | None) -> Tx[EntityRow]:
    """By id, slug or name, in a tenant or in all of them. Raises NotFound, and InvalidRequest where several fit."""
    rows = yield _CALLED, {"ref": ref}
    mine = (EntityRow(*row) for row in rows)
    found = called((each for each in mine if tenant_id in (None, each.tenant_id)), ref)
    if found is None:
        raise NotFound(f"Entity {ref} was not found.")
    return found


def all_tx(tenant_id: str | None) -> Tx[list[EntityRow]]:
    rows = yield (_ALL if tenant_id is None else (_OF_TENANT, {"t": tenant_id}))
    return [EntityRow(*row) for row in rows]


class Entities:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, tenant: str, params: EntityCreate, scope: str | None = None) -> Entity:
        config = check_config(params.config or {}, "config")
        kept = Kept(
            type=params.type,
            jurisdiction=params.jurisdiction,
            currency=params.currency,
            schema_=params.schema_,
            config=config,
        )
        now, made = clock.now(), new_id()

        def tx() -> Tx[Entity]:
            owner = yield from tenants.find_active_tx(tenant, scope)
            others = yield from all_tx(owner.id)
            known = next((each for each in others if each.slug == params.slug), None)
            if known is not None:
                if (known.name, known.kept) != (params.name, kept) or not sent_again(known.created_at, now):
                    raise AlreadyExists(f"slug: {owner.slug} has an entity {params.slug} already")
                return shown(known, others)
            row = EntityRow(made, owner.id, params.slug, params.name, msgspec.json.encode(kept), now, now)
            yield _INSERT, msgspec.structs.asdict(row)
            return shown(row, others)

        return await self._store.write(tx)

    async def all(self, tenant: str | None = None, scope: str | None = None) -> list[Entity]:
        def tx() -> Tx[list[Entity]]:
            within = scope if tenant is None else (yield from tenants.find_tx(tenant, scope)).id
            return [shown(each) for each in (yield from all_tx(within))]

        return await self._store.read(tx)

    async def get(self, tenant: str, ref: str, scope: str | None = None) -> Entity:
        def tx() -> Tx[Entity]:
            owner = yield from tenants.find_tx(tenant, scope)
            return shown((yield from find_tx(ref, owner.id)))

        return await self._store.read(tx)

    async def update(self, tenant: str, ref: str, config: Config, scope: str | None = None) -> Entity:
        check_config(config, "config")

        def tx() -> Tx[Entity]:
            owner = yield from tenants.find_tx(tenant, scope)
            row = yield from find_tx(ref, owner.id)
            anew = msgspec.json.encode(msgspec.structs.replace(row.kept, config=config))
            yield _CHANGE, {"key": row.id, "anew": anew, "now": clock.now()}
            return shown((yield from find_tx(row.id, owner.id)))

        return await self._store.write(tx)


def shown(row: EntityRow, others: list[EntityRow] | None = None) -> Entity:
    """With `others`, it is told which of them goes by the same name."""
    kept = row.kept
    return Entity(
        id=row.id,
        name=row.name,
        slug=row.slug,
        tenant_id=row.tenant_id,
        type=kept.type,
        jurisdiction=kept.jurisdiction,
        currency=kept.currency,
        schema_=kept.schema_,
        config=kept.config,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        warnings=[_same(each) for each in others or () if each.id != row.id and _alike(each, row)] or UNSET,
    )


def _same(other: EntityRow) -> EntityWarning:
    return EntityWarning(
        kind="duplicate_candidate",
        existing={"id": other.id, "slug": other.slug, "name": other.name},
        normalised_name=_plain(other),
        message=f"{other.name} ({other.slug}) has the same name but for case, spaces and punctuation.",
    )


def _alike(one: EntityRow, other: EntityRow) -> bool:
    return _plain(one) == _plain(other) != ""


def _plain(row: EntityRow) -> str:
    return "".join(letter for letter in row.name.casefold() if letter.isalnum())
