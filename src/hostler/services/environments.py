"""Environments: create, read, change, archive, delete.

It must not make sandboxes: a session takes its environment's `config` along.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.ids import new_id
from hostler.services import environment_config, self_hosted
from hostler.services.metadata import merge
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import environment_keys, environments, sessions, work, work_tokens
from hostler.wire.base import Unset, encode, timestamp
from hostler.wire.environments import (
    Config,
    ConfigParams,
    Environment,
    EnvironmentCreate,
    EnvironmentDeleted,
    EnvironmentUpdate,
    SelfHostedConfig,
)

_read = msgspec.json.Decoder(Environment).decode

_COLUMNS = (environments.c.id, environments.c.created_at, environments.c.body)
_ALL = select(*_COLUMNS)
_ONE = _ALL.where(environments.c.id == bindparam("id"))
_INSERT = insert(environments)
_SET = (
    update(environments)
    .where(environments.c.id == bindparam("key"))
    .values(body=bindparam("json"), updated_at=bindparam("now"), archived_at=bindparam("archived"))
)
_DELETE = delete(environments).where(environments.c.id == bindparam("id"))
_OF_ENVIRONMENT = select(work.c.id).where(work.c.environment_id == bindparam("id"))
_DELETES_OF_WORKERS = (
    delete(environment_keys).where(environment_keys.c.environment_id == bindparam("id")),
    delete(work_tokens).where(work_tokens.c.work_id.in_(_OF_ENVIRONMENT)),
    delete(work).where(work.c.environment_id == bindparam("id")),
)
_USED = select(sessions.c.id).where(sessions.c.environment_id == bindparam("id")).limit(1)


class Environments:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, params: EnvironmentCreate) -> Environment:
        _check_scope(params.scope)
        now = clock.now()
        environment = Environment(
            id=new_id("env"),
            name=params.name,
            description=params.description,
            config=_config(params.config, None),
            metadata=params.metadata or {},
            created_at=timestamp(now),
            updated_at=timestamp(now),
        )
        row = {"id": environment.id, "created_at": now, "updated_at": now, "archived_at": None}
        await self._store.write(lambda: rows(_INSERT, {**row, "body": encode(environment)}))
        return environment

    async def retrieve(self, environment_id: str) -> Environment:
        return await self._store.read(lambda: find_tx(environment_id))

    async def update(self, environment_id: str, params: EnvironmentUpdate) -> Environment:
        _check_scope(params.scope)
        now = clock.now()

        def tx() -> Tx[Environment]:
            current = yield from find_tx(environment_id)
            if current.archived_at is not None:
                raise InvalidRequest(
                    f"Environment {environment_id} is archived and can't be updated.", error_code="environment_archived"
                )
            changed = _apply(current, params)
            if changed == current:
                return current
            changed.updated_at = timestamp(now)
            yield from _save(changed, now, None)
            return changed

        return await self._store.write(tx)

    async def archive(self, environment_id: str) -> Environment:
        now = clock.now()

        def tx() -> Tx[Environment]:
            environment = yield from find_tx(environment_id)
            if environment.archived_at is None:
                environment.archived_at = environment.updated_at = timestamp(now)
                environment.state = "archived"
                yield from _save(environment, now, now)
            return environment

        return await self._store.write(tx)

    async def delete(self, environment_id: str) -> EnvironmentDeleted:
        def tx() -> Tx[None]:
            yield from find_tx(environment_id)
            if (yield from first(_USED, {"id": environment_id})) is not None:
                raise InvalidRequest(
                    f"Environment {environment_id} has sessions; delete them first, or archive the environment."
                )
            for statement in (*_DELETES_OF_WORKERS, _DELETE):
                yield statement, {"id": environment_id}

        await self._store.write(tx)
        return EnvironmentDeleted(id=environment_id)

    async def list(self, *, limit: int, page: str | None, archived: bool) -> Slice:
        cursor = read_cursor(page, "desc")
        statement = _ALL if archived else _ALL.where(environments.c.archived_at.is_(None))
        at, key = environments.c.created_at, environments.c.id
        paged = page_of(statement, at, key, order="desc", limit=limit, cursor=cursor)
        found = await self._store.read(lambda: rows(paged))
        cut = slice_of(found, order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[_environment(row) for row in cut.rows])


def find_tx(environment_id: str) -> Tx[Environment]:
    """Read an environment. Raises NotFound."""
    row = yield from first(_ONE, {"id": environment_id})
    if row is None:
        raise NotFound(f"Environment {environment_id} was not found.")
    return _environment(row)


def _environment(row: Row) -> Environment:
    return _read(row[2])


def _save(environment: Environment, now: int, archived: int | None) -> Tx[None]:
    yield _SET, {"key": environment.id, "json": encode(environment), "now": now, "archived": archived}


def _apply(environment: Environment, params: EnvironmentUpdate) -> Environment:
    changed = msgspec.structs.replace(environment)
    if isinstance(params.name, str):
        changed.name = params.name
    if not isinstance(params.description, Unset):
        changed.description = params.description
    if not isinstance(params.metadata, Unset):
        changed.metadata = merge(environment.metadata, params.metadata, empty_deletes=True)
    if isinstance(params.config, ConfigParams):
        changed.config = _config(params.config, environment.config)
    return changed


def _config(params: ConfigParams | None, current: Config | None) -> Config:
    if isinstance(current, SelfHostedConfig) or (params is not None and params.type == "self_hosted"):
        return self_hosted.config(params, current)
    return environment_config.resolve(params, current or environment_config.default())


def _check_scope(scope: str | Unset | None) -> None:
    if scope == "account":
        raise InvalidRequest("scope: only organization is supported")
