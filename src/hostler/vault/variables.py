"""Finds the environment variables that a session's vaults give it, with their secrets. It must not keep any.

Each use looks again, so that what was rotated or archived takes hold in running sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, select

from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import vault_credentials as table
from hostler.vault.records import COLUMNS, Record, variable_target
from hostler.vault.sealing import NotOpened, Sealer
from hostler.wire.vaults import EnvironmentVariable, LimitedHosts

log = logging.getLogger(__name__)

_OF_VAULT = (
    select(*COLUMNS)
    .where(
        table.c.vault_id == bindparam("vault"),
        table.c.archived_at.is_(None),
        table.c.target.startswith(variable_target(""), autoescape=True),
    )
    .order_by(table.c.target)
)


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """An `environment_variable` credential. `hosts`: None where it may be sent anywhere. It does not show its value
    when it is printed, which is "" where it was not to be opened."""

    name: str
    value: str
    hosts: tuple[str, ...] | None
    header: bool
    body: bool
    vault_id: str
    credential_id: str

    def __repr__(self) -> str:
        return f"Variable(name={self.name!r}, credential_id={self.credential_id!r})"


class Variables:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def names(self, vault_ids: Sequence[str]) -> list[Variable]:
        """The variables without their values; of a name that several vaults have, that of the first."""
        return [_variable(record, "") for record in await self._records(vault_ids)]

    async def opened(self, vault_ids: Sequence[str]) -> list[Variable]:
        """The variables with their values. One that can't be opened is left out: the log says so."""
        found = []
        for record in await self._records(vault_ids):
            try:
                found.append(_variable(record, record.secrets(self._sealer).secret_value))
            except NotOpened as error:
                log.error("credential %s in vault %s can't be used: %s", record.id, record.vault_id, error.message)
        return [variable for variable in found if variable.value]

    async def _records(self, vault_ids: Sequence[str]) -> list[Record]:
        return await self._store.read(lambda: _first_of_each_tx(vault_ids)) if vault_ids else []


def _first_of_each_tx(vault_ids: Sequence[str]) -> Tx[list[Record]]:
    found: dict[str | None, Record] = {}
    for vault_id in vault_ids:
        rows = yield _OF_VAULT, {"vault": vault_id}
        for record in map(Record.of, rows):
            found.setdefault(record.target, record)
    return list(found.values())


def _variable(record: Record, value: str) -> Variable:
    auth = record.credential().auth
    assert isinstance(auth, EnvironmentVariable)
    hosts = tuple(auth.networking.allowed_hosts) if isinstance(auth.networking, LimitedHosts) else None
    where = auth.injection_location
    return Variable(
        name=auth.secret_name,
        value=value,
        hosts=hosts,
        header=where.header,
        body=where.body,
        vault_id=record.vault_id,
        credential_id=record.id,
    )
