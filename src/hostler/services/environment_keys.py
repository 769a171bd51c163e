"""Keys of a self-hosted environment's workers: only their SHA-256 is stored; one is shown once, when it is made.

Making them by API is our own: the hosted service has them in its console only. Nothing is cached, so that a revoked key
opens nothing from that moment on. It must not know what a key opens.
"""

from __future__ import annotations

import secrets

from sqlalchemy import bindparam, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest, NotFound, RateLimited
from hostler.ids import new_id
from hostler.services import environments
from hostler.services.reading import first, rows
from hostler.services.work_rows import digest
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import environment_keys as table
from hostler.wire.base import timestamp
from hostler.wire.environments import Environment, SelfHostedConfig
from hostler.wire.work import EnvironmentKey

PREFIX = "sk-ant-oat01-"
MAX_NAME = 256
MAX_KEYS = 1000  # of an environment, revoked ones included

_c = table.c
_INSERT = insert(table)
_COLUMNS = (_c.id, _c.environment_id, _c.name, _c.hint, _c.created_at, _c.revoked_at)
_LIST = select(*_COLUMNS).where(_c.environment_id == bindparam("e")).order_by(_c.created_at, _c.id).limit(MAX_KEYS)
_REVOKE = (
    update(table)
    .where(_c.environment_id == bindparam("e"), _c.id == bindparam("key"), _c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)
_ONE = select(*_COLUMNS).where(_c.environment_id == bindparam("e"), _c.id == bindparam("key"))


class EnvironmentKeys:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, environment_id: str, name: str) -> EnvironmentKey:
        """Make a key. What is returned is the only place where it stands in full."""
        if not 1 <= len(name) <= MAX_NAME:
            raise InvalidRequest(f"name: must have 1 to {MAX_NAME} characters")
        secret = PREFIX + secrets.token_urlsafe(48)
        now = clock.now()
        row = {
            "id": new_id("envkey"),
            "environment_id": environment_id,
            "name": name,
            "hash": digest(secret),
            "hint": secret[-4:],
            "created_at": now,
            "revoked_at": None,
        }

        def tx() -> Tx[None]:
            environment = yield from _environment_tx(environment_id)
            if environment.archived_at is not None:
                raise InvalidRequest(f"Environment {environment_id} is archived; it gets no more keys.")
            if len((yield from rows(_LIST, {"e": environment_id}))) >= MAX_KEYS:
                raise RateLimited(f"Environment {environment_id} has had {MAX_KEYS} keys; that is the most.")
            yield _INSERT, row

        await self._store.write(tx)
        made = [row[column.name] for column in _COLUMNS]
        return _shown(made, secret)

    async def list(self, environment_id: str) -> list[EnvironmentKey]:
        """Oldest first, revoked ones included."""

        def tx() -> Tx[list[Row]]:
            yield from _environment_tx(environment_id)
            return (yield from rows(_LIST, {"e": environment_id}))

        return [_shown(row) for row in await self._store.read(tx)]

    async def revoke(self, environment_id: str, key_id: str) -> EnvironmentKey:
        now = clock.now()

        def tx() -> Tx[Row]:
            yield _REVOKE, {"e": environment_id, "key": key_id, "now": now}
            row = yield from first(_ONE, {"e": environment_id, "key": key_id})
            if row is None:
                raise NotFound(f"Key {key_id} of environment {environment_id} was not found.")
            return row

        return _shown(await self._store.write(tx))


def _environment_tx(environment_id: str) -> Tx[Environment]:
    environment = yield from environments.find_tx(environment_id)
    if not isinstance(environment.config, SelfHostedConfig):
        raise InvalidRequest(f"Environment {environment_id} is not a self_hosted environment; it has no keys.")
    return environment


def _shown(row: Row, secret: str | None = None) -> EnvironmentKey:
    key_id, environment_id, name, hint, created_at, revoked_at = row
    return EnvironmentKey(
        id=key_id,
        environment_id=environment_id,
        name=name,
        hint=hint,
        key=secret,
        created_at=timestamp(created_at),
        revoked_at=timestamp(revoked_at) if revoked_at is not None else None,
    )
