"""Credentials of a vault: write-only secrets for MCP servers and environment variables. It must not use them: `vault/`
does.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select

from hostler import clock
from hostler.errors import AlreadyExists, InvalidRequest, NotFound
from hostler.ids import new_id
from hostler.services import auths, vaults
from hostler.services.metadata import merge
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import rows
from hostler.store.sql import Tx
from hostler.store.store import Duplicate, Store
from hostler.store.tables import vault_credentials as table
from hostler.vault import records
from hostler.vault.records import COLUMNS, Record
from hostler.vault.sealing import Sealer
from hostler.wire.base import UNSET, Unset, encode, timestamp
from hostler.wire.vaults import Credential, CredentialCreate, CredentialDeleted, CredentialUpdate, EnvironmentVariable

MOST = 20

_INSERT = insert(table)
_DELETE = delete(table).where(table.c.id == bindparam("id"))
_COUNT = select(func.count()).where(table.c.vault_id == bindparam("vault"), table.c.archived_at.is_(None))


class Credentials:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def create(self, vault_id: str, params: CredentialCreate) -> Credential:
        now = clock.now()
        resolved = auths.resolve(params.auth, now)
        credential = Credential(
            id=new_id("vcrd"),
            vault_id=vault_id,
            display_name=params.display_name or UNSET,
            auth=resolved.auth,
            metadata=params.metadata or {},
            created_at=timestamp(now),
            updated_at=timestamp(now),
        )
        row = {
            "id": credential.id,
            "vault_id": vault_id,
            "target": resolved.target,
            "created_at": now,
            "updated_at": now,
            "archived_at": None,
            "body": encode(credential),
            "sealed": resolved.secrets.seal(self._sealer, credential.id),
            "generation": 1,
            "failure": None,
            "lease_owner": None,
            "lease_until": None,
        }

        def tx() -> Tx[None]:
            yield from vaults.active_tx(vault_id)
            if (yield from records.active_tx(vault_id, resolved.target)) is not None:
                raise _taken(credential)
            ((count,),) = yield _COUNT, {"vault": vault_id}
            if count >= MOST:
                raise InvalidRequest(f"Vault {vault_id} has {MOST} credentials, which is the most that it can hold.")
            yield _INSERT, row

        try:
            await self._store.write(tx)
        except Duplicate:  # another process was faster
            raise _taken(credential) from None
        return credential

    async def retrieve(self, vault_id: str, credential_id: str) -> Credential:
        record = await self._store.read(lambda: find_tx(vault_id, credential_id))
        return record.credential()

    async def update(self, vault_id: str, credential_id: str, params: CredentialUpdate) -> Credential:
        now = clock.now()

        def tx() -> Tx[Credential]:
            record = yield from hold_tx(vault_id, credential_id)
            if record.archived_at is not None:
                raise InvalidRequest(f"Credential {credential_id} is archived and can't be changed.")
            credential, changed = self._changed(record, params, now)
            if changed is not record:
                yield from records.save_tx(changed, now)
            return credential

        return await self._store.write(tx)

    def _changed(self, record: Record, params: CredentialUpdate, now: int) -> tuple[Credential, Record]:
        """Apply an update. New secrets or settings also end a failure to refresh: it may work now."""
        credential = record.credential()
        changed = msgspec.structs.replace(credential)
        if isinstance(params.display_name, str):
            changed.display_name = params.display_name
        if isinstance(params.metadata, dict):
            changed.metadata = merge(credential.metadata, params.metadata)
        secrets = kept = record.secrets(self._sealer)
        if not isinstance(params.auth, Unset) and params.auth is not None:
            changed.auth, secrets = auths.updated(credential.auth, kept, params.auth, now)
        if changed == credential and secrets == kept:
            return credential, record
        changed.updated_at = timestamp(now)
        if changed.auth == credential.auth and secrets == kept:
            return changed, msgspec.structs.replace(record, body=encode(changed))
        return changed, msgspec.structs.replace(
            record,
            body=encode(changed),
            sealed=secrets.seal(self._sealer, record.id),
            generation=record.generation + 1,
            failure=None,
        )

    async def archive(self, vault_id: str, credential_id: str) -> Credential:
        """Purge the secrets and free what the credential was for. Archiving again changes nothing."""
        now = clock.now()

        def tx() -> Tx[Credential]:
            record = yield from hold_tx(vault_id, credential_id)
            if record.archived_at is not None:
                return record.credential()
            return (yield from records.purge_tx(record, now))

        return await self._store.write(tx)

    async def delete(self, vault_id: str, credential_id: str) -> CredentialDeleted:
        def tx() -> Tx[None]:
            yield from find_tx(vault_id, credential_id)
            yield _DELETE, {"id": credential_id}

        await self._store.write(tx)
        return CredentialDeleted(id=credential_id)

    async def list(self, vault_id: str, *, limit: int, page: str | None, archived: bool) -> Slice:
        cursor = read_cursor(page, "desc")
        statement = select(*COLUMNS).where(table.c.vault_id == vault_id)
        if not archived:
            statement = statement.where(table.c.archived_at.is_(None))
        paged = page_of(statement, table.c.created_at, table.c.id, order="desc", limit=limit, cursor=cursor)

        def tx() -> Tx[Slice]:
            yield from vaults.find_tx(vault_id)
            return slice_of((yield from rows(paged)), order="desc", limit=limit, cursor=cursor)

        cut = await self._store.read(tx)
        return cut._replace(rows=[Record.of(row).credential() for row in cut.rows])


def find_tx(vault_id: str, credential_id: str) -> Tx[Record]:
    """Read a credential of a vault. Raises NotFound."""
    yield from vaults.find_tx(vault_id)
    record = yield from records.find_tx(credential_id)
    return _in_vault(record, vault_id, credential_id)


def hold_tx(vault_id: str, credential_id: str) -> Tx[Record]:
    """Read a credential that is about to be changed. Raises NotFound."""
    yield from vaults.find_tx(vault_id)
    record = yield from records.hold_tx(credential_id)
    return _in_vault(record, vault_id, credential_id)


def _in_vault(record: Record | None, vault_id: str, credential_id: str) -> Record:
    if record is None or record.vault_id != vault_id:
        raise NotFound(f"Credential {credential_id} was not found in vault {vault_id}.")
    return record


def _taken(credential: Credential) -> AlreadyExists:
    auth = credential.auth
    place = "secret_name" if isinstance(auth, EnvironmentVariable) else "mcp_server_url"
    return AlreadyExists(
        f"auth.{place}: vault {credential.vault_id} has an active credential for this already; update it, or archive it"
    )
