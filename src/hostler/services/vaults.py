"""Vaults: named groups of credentials that sessions are given. It must not open secrets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.ids import new_id
from hostler.services.metadata import merge
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import vaults as table
from hostler.vault import records
from hostler.wire.base import encode, timestamp
from hostler.wire.vaults import Vault, VaultCreate, VaultDeleted, VaultUpdate

_read = msgspec.json.Decoder(Vault).decode

_ALL = select(table.c.id, table.c.created_at, table.c.body)
_ONE = _ALL.where(table.c.id == bindparam("id"))
_INSERT = insert(table)
_SET = (
    update(table)
    .where(table.c.id == bindparam("key"))
    .values(body=bindparam("json"), updated_at=bindparam("now"), archived_at=bindparam("archived"))
)
_DELETE = delete(table).where(table.c.id == bindparam("id"))


class Vaults:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, params: VaultCreate) -> Vault:
        now = clock.now()
        vault = Vault(
            id=new_id("vlt"),
            display_name=params.display_name,
            metadata=params.metadata or {},
            created_at=timestamp(now),
            updated_at=timestamp(now),
        )
        row = {"id": vault.id, "created_at": now, "updated_at": now, "archived_at": None, "body": encode(vault)}
        await self._store.write(lambda: rows(_INSERT, row))
        return vault

    async def retrieve(self, vault_id: str) -> Vault:
        return await self._store.read(lambda: find_tx(vault_id))

    async def update(self, vault_id: str, params: VaultUpdate) -> Vault:
        now = clock.now()

        def tx() -> Tx[Vault]:
            current = yield from active_tx(vault_id)
            changed = msgspec.structs.replace(current)
            if isinstance(params.display_name, str):
                changed.display_name = params.display_name
            if isinstance(params.metadata, dict):
                changed.metadata = merge(current.metadata, params.metadata)
            if changed == current:
                return current
            changed.updated_at = timestamp(now)
            yield _SET, {"key": vault_id, "json": encode(changed), "now": now, "archived": None}
            return changed

        return await self._store.write(tx)

    async def archive(self, vault_id: str) -> Vault:
        """Archive a vault and all its credentials, whose secrets are purged. Archiving again changes nothing."""
        now = clock.now()

        def tx() -> Tx[Vault]:
            vault = yield from find_tx(vault_id)
            if vault.archived_at is None:
                vault.archived_at = vault.updated_at = timestamp(now)
                yield from records.purge_all_tx(vault_id, now)
                yield _SET, {"key": vault_id, "json": encode(vault), "now": now, "archived": now}
            return vault

        return await self._store.write(tx)

    async def delete(self, vault_id: str) -> VaultDeleted:
        def tx() -> Tx[None]:
            yield from find_tx(vault_id)
            yield from records.delete_all_tx(vault_id)
            yield _DELETE, {"id": vault_id}

        await self._store.write(tx)
        return VaultDeleted(id=vault_id)

    async def list(self, *, limit: int, page: str | None, archived: bool) -> Slice:
        cursor = read_cursor(page, "desc")
        statement = _ALL if archived else _ALL.where(table.c.archived_at.is_(None))
        paged = page_of(statement, table.c.created_at, table.c.id, order="desc", limit=limit, cursor=cursor)
        found = await self._store.read(lambda: rows(paged))
        cut = slice_of(found, order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[_vault(row) for row in cut.rows])


def find_tx(vault_id: str) -> Tx[Vault]:
    """Read a vault. Raises NotFound."""
    row = yield from first(_ONE, {"id": vault_id})
    if row is None:
        raise NotFound(f"Vault {vault_id} was not found.")
    return _vault(row)


def active_tx(vault_id: str) -> Tx[Vault]:
    """Read a vault that is to be changed. Raises NotFound, and InvalidRequest for an archived one."""
    vault = yield from find_tx(vault_id)
    if vault.archived_at is not None:
        raise InvalidRequest(f"Vault {vault_id} is archived and can't be changed.")
    return vault


def check_usable_tx(vault_ids: Sequence[str]) -> Tx[None]:
    """Check that a session may be given these vaults. Raises NotFound or InvalidRequest with the place."""
    for index, vault_id in enumerate(vault_ids):
        row = yield from first(_ONE, {"id": vault_id})
        if row is None:
            raise NotFound(f"vault_ids.{index}: vault {vault_id} was not found")
        if _vault(row).archived_at is not None:
            raise InvalidRequest(f"vault_ids.{index}: vault {vault_id} is archived")


def _vault(row: Row) -> Vault:
    return _read(row[2])
