"""A credential as it is stored: its row, what is public of it, and its sealed secrets. It must not hold rules of the
API.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, select, update

from hostler.store.sql import Row, Tx
from hostler.store.tables import vault_credentials as table
from hostler.vault.sealing import Sealer
from hostler.wire.base import encode, timestamp
from hostler.wire.vaults import Credential

COLUMNS = (
    table.c.id,
    table.c.created_at,
    table.c.vault_id,
    table.c.target,
    table.c.archived_at,
    table.c.body,
    table.c.sealed,
    table.c.generation,
    table.c.failure,
)
_ONE = select(*COLUMNS).where(table.c.id == bindparam("id"))
_ACTIVE = select(*COLUMNS).where(table.c.vault_id == bindparam("vault"), table.c.target == bindparam("target"))
_HOLD = _ONE.with_for_update()
_ALL_ACTIVE = (
    select(*COLUMNS)
    .where(table.c.vault_id == bindparam("vault"), table.c.archived_at.is_(None))
    .order_by(table.c.id)
    .with_for_update()
)
_DELETE_ALL = delete(table).where(table.c.vault_id == bindparam("vault"))
_SET = (
    update(table)
    .where(table.c.id == bindparam("key"))
    .values(
        target=bindparam("target"),
        updated_at=bindparam("now"),
        archived_at=bindparam("archived"),
        body=bindparam("json"),
        sealed=bindparam("secrets"),
        generation=bindparam("generation"),
        failure=bindparam("failure"),
    )
)

_read = msgspec.json.Decoder(Credential).decode


class Secrets(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sealed of a credential; which of them there are depends on its type."""

    access_token: str = ""
    refresh_token: str = ""
    client_secret: str = ""
    token: str = ""
    secret_value: str = ""

    def __repr__(self) -> str:
        return "Secrets(...)"

    def seal(self, sealer: Sealer, credential_id: str) -> bytes:
        return sealer.seal(credential_id, msgspec.json.encode(self))

    @property
    def bearer(self) -> str:
        """The token for an MCP server; "" for a credential of another type, and once it is archived."""
        return self.token or self.access_token

    def values(self) -> list[str]:
        """The secrets themselves, to be taken out of texts."""
        return [value for value in msgspec.structs.astuple(self) if value]


_read_secrets = msgspec.json.Decoder(Secrets).decode


class Record(msgspec.Struct, frozen=True):
    """The columns of `COLUMNS`. `generation` counts the changes of the secrets."""

    id: str
    created_at: int
    vault_id: str
    target: str | None
    archived_at: int | None
    body: bytes
    sealed: bytes | None
    generation: int
    failure: str | None

    @classmethod
    def of(cls, row: Row) -> Record:
        return cls(*row)

    def credential(self) -> Credential:
        return _read(self.body)

    def secrets(self, sealer: Sealer) -> Secrets:
        """Open the secrets; an archived credential has none. Raises NotOpened."""
        return _read_secrets(sealer.open(self.id, self.sealed)) if self.sealed is not None else Secrets()


def url_target(normalised_url: str) -> str:
    return f"mcp {normalised_url}"


def variable_target(name: str) -> str:
    return f"env {name}"


def find_tx(credential_id: str) -> Tx[Record | None]:
    rows = yield _ONE, {"id": credential_id}
    return Record.of(rows[0]) if rows else None


def hold_tx(credential_id: str) -> Tx[Record | None]:
    """Read a record that is about to be changed: on PostgreSQL, other processes wait until that is done."""
    rows = yield _HOLD, {"id": credential_id}
    return Record.of(rows[0]) if rows else None


def active_tx(vault_id: str, target: str) -> Tx[Record | None]:
    """The active credential of a vault for a target. An archived one has no target."""
    rows = yield _ACTIVE, {"vault": vault_id, "target": target}
    return Record.of(rows[0]) if rows else None


def save_tx(record: Record, now: int) -> Tx[None]:
    """Write a changed record over the stored one."""
    yield (
        _SET,
        {
            "key": record.id,
            "target": record.target,
            "now": now,
            "archived": record.archived_at,
            "json": record.body,
            "secrets": record.sealed,
            "generation": record.generation,
            "failure": record.failure,
        },
    )


def purge_tx(record: Record, now: int) -> Tx[Credential]:
    """Archive a credential: its secrets go, its target is free, the rest stays to be read."""
    credential = record.credential()
    credential.archived_at = credential.updated_at = timestamp(now)
    purged = msgspec.structs.replace(
        record,
        target=None,
        archived_at=now,
        body=encode(credential),
        sealed=None,
        generation=record.generation + 1,
        failure=None,
    )
    yield from save_tx(purged, now)
    return credential


def purge_all_tx(vault_id: str, now: int) -> Tx[None]:
    rows = yield _ALL_ACTIVE, {"vault": vault_id}
    for row in rows:
        yield from purge_tx(Record.of(row), now)


def delete_all_tx(vault_id: str) -> Tx[None]:
    yield _DELETE_ALL, {"vault": vault_id}
