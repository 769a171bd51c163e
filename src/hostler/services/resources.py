"""Resources of a session. A file one mounts a session-scoped copy, a row of its own that names the same bytes; a
repository is there for the session's life. It must not touch the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.ids import new_id
from hostler.services import mounts, repositories, self_hosted
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.services.repositories import MAX_REPOSITORIES, Repositories
from hostler.services.resolve import NOT_YET
from hostler.store.sql import Many, Row, Tx
from hostler.store.store import Store
from hostler.store.tables import files, resources, sessions
from hostler.wire.base import timestamp
from hostler.wire.resources import (
    FileResource,
    FileResourceParams,
    RepositoryResource,
    RepositoryResourceParams,
    Resource,
    ResourceDeleted,
    ResourceParams,
    ResourceUpdate,
)

MAX_FILES = 500

_COLUMNS = (
    resources.c.id,
    resources.c.created_at,
    resources.c.file_id,
    resources.c.mount_path,
    resources.c.updated_at,
    resources.c.body,
)
_OF_SESSION = select(*_COLUMNS).where(resources.c.session_id == bindparam("s"))
_LISTED = _OF_SESSION.order_by(resources.c.created_at, resources.c.id)
_ONE = _OF_SESSION.where(resources.c.id == bindparam("id"))
_SESSION = select(sessions.c.archived_at, sessions.c.status, sessions.c.environment, sessions.c.environment_id).where(
    sessions.c.id == bindparam("s")
)
_FILE = select(
    files.c.filename, files.c.mime_type, files.c.size_bytes, files.c.blob, files.c.expires_at, files.c.session_id
).where(files.c.id == bindparam("id"))
_INSERT_FILE = insert(files)
_INSERT = insert(resources)
_DELETE = delete(resources).where(resources.c.session_id == bindparam("s"), resources.c.id == bindparam("id"))
_ROTATE = (
    update(resources)
    .where(resources.c.session_id == bindparam("s"), resources.c.id == bindparam("key"))
    .values(secret=bindparam("sealed"), updated_at=bindparam("now"))
)
_FORGET = update(resources).where(resources.c.session_id == bindparam("s")).values(secret=None)
_DELETE_FILE = delete(files).where(files.c.id == bindparam("id"))


class Resources:
    def __init__(self, store: Store, changed: Callable[[str], None], rules: Repositories) -> None:
        """`changed` is told the session whose mounts changed, after the commit."""
        self._store = store
        self._changed = changed
        self._rules = rules

    async def add(self, session_id: str, params: ResourceParams) -> Resource:
        if isinstance(params, RepositoryResourceParams):
            raise InvalidRequest("type: a repository is given when a session is created; only files can be added")
        now = clock.now()

        def tx() -> Tx[Resource]:
            row = yield from first(_SESSION, {"s": session_id})
            if row is None:
                raise missing_session(session_id)
            if row[0] is not None or row[1] == "terminated":
                raise InvalidRequest(f"Session {session_id} is archived; resources can't be added.")
            if self_hosted.of_config(row[2]):
                raise self_hosted.not_supported(row[3])
            made = yield from add_tx(session_id, [params], now, "", self._rules)
            return made[0]

        resource = await self._store.write(tx)
        self._changed(session_id)
        return resource

    async def retrieve(self, session_id: str, resource_id: str) -> Resource:
        return await self._store.read(lambda: _find_tx(session_id, resource_id))

    async def update(self, session_id: str, resource_id: str, params: ResourceUpdate) -> Resource:
        """Give a repository another token, which counts from the next request to its host on."""
        sealed = self._rules.sealed(resource_id, params.authorization_token)
        now = clock.now()

        def tx() -> Tx[Resource]:
            if not isinstance((yield from _find_tx(session_id, resource_id)), RepositoryResource):
                raise InvalidRequest("authorization_token: only github_repository resources have one")
            row = yield from first(_SESSION, {"s": session_id})
            if row is None or row[0] is not None or row[1] == "terminated":
                raise InvalidRequest(f"Session {session_id} is archived; its resources can't be changed.")
            yield _ROTATE, {"s": session_id, "key": resource_id, "sealed": sealed, "now": now}
            return (yield from _find_tx(session_id, resource_id))

        return await self._store.write(tx)

    async def delete(self, session_id: str, resource_id: str) -> ResourceDeleted:
        def tx() -> Tx[None]:
            resource = yield from _find_tx(session_id, resource_id)
            if not isinstance(resource, FileResource):
                raise InvalidRequest("A repository stays for its session's life; only files can be deleted.")
            yield _DELETE, {"s": session_id, "id": resource_id}
            yield _DELETE_FILE, {"id": resource.file_id}

        await self._store.write(tx)
        self._changed(session_id)
        return ResourceDeleted(id=resource_id)

    async def list(self, session_id: str, *, limit: int, page: str | None) -> Slice:
        cursor = read_cursor(page, "asc")
        statement = select(*_COLUMNS).where(resources.c.session_id == session_id)
        paged = page_of(statement, resources.c.created_at, resources.c.id, order="asc", limit=limit, cursor=cursor)

        def tx() -> Tx[list[Row]]:
            if (yield from first(_SESSION, {"s": session_id})) is None:
                raise missing_session(session_id)
            return (yield from rows(paged))

        cut = slice_of(await self._store.read(tx), order="asc", limit=limit, cursor=cursor)
        return cut._replace(rows=[_resource(row) for row in cut.rows])


def forget_tokens_tx(session_id: str) -> Tx[None]:
    """Drop the sealed tokens of a session that has ended."""
    yield _FORGET, {"s": session_id}


def list_tx(session_id: str) -> Tx[list[Resource]]:
    found = yield from rows(_LISTED, {"s": session_id})
    return [_resource(row) for row in found]


def add_tx(
    session_id: str, params: Sequence[ResourceParams], now: int, within: str, rules: Repositories
) -> Tx[list[Resource]]:
    """Check and add resources to a session whose row stands or comes in the same commit. `within` names the list in
    messages, or is empty for a single one."""
    before = yield from list_tx(session_id)
    taken = [resource.mount_path for resource in before]
    copies: list[dict[str, object]] = []
    added: list[dict[str, object]] = []
    for index, param in enumerate(params):
        at = f"{within}.{index}." if within else ""
        row = yield from _new_tx(session_id, param, now + index, at, rules, copies)
        mounts.check_overlap(row["mount_path"], taken, f"{at}mount_path")
        taken.append(row["mount_path"])
        added.append(row)
    files_now = sum(isinstance(resource, FileResource) for resource in before) + len(copies)
    if files_now > MAX_FILES:
        raise InvalidRequest(f"{within or 'resources'}: a session has at most {MAX_FILES} files")
    if len(added) - len(copies) > MAX_REPOSITORIES:
        raise InvalidRequest(f"{within or 'resources'}: a session has at most {MAX_REPOSITORIES} repositories")
    if copies:
        yield Many(_INSERT_FILE, copies)
    if added:
        yield Many(_INSERT, added)
    return [_resource([row[column.name] for column in _COLUMNS]) for row in added]


def _new_tx(
    session_id: str, param: ResourceParams, now: int, at: str, rules: Repositories, copies: list[dict[str, object]]
) -> Tx[dict[str, Any]]:
    """The row of one resource; the copy of a file is put beside it. Distinct times keep the order of the request."""
    resource_id = new_id("sesrsc")
    if isinstance(param, RepositoryResourceParams):
        return rules.row(resource_id, session_id, param, now, at)
    if not isinstance(param, FileResourceParams):
        raise InvalidRequest(f"{at}type: memory_store is {NOT_YET}")
    source = yield from _source_tx(param.file_id, now, at)
    target = mounts.place(param.mount_path, param.file_id, f"{at}mount_path")
    file_id = new_id("file")
    copies.append(_copy(file_id, session_id, source, now))
    return _row(resource_id, session_id, file_id, target, now)


def missing_session(session_id: str) -> NotFound:
    return NotFound(f"Session {session_id} was not found.")


def _source_tx(file_id: str, now: int, at: str) -> Tx[Row]:
    row = yield from first(_FILE, {"id": file_id})
    if row is None or (row[4] is not None and row[4] <= now):
        raise NotFound(f"{at}file_id: file {file_id} was not found.")
    return row


def _find_tx(session_id: str, resource_id: str) -> Tx[Resource]:
    row = yield from first(_ONE, {"s": session_id, "id": resource_id})
    if row is None:
        raise NotFound(f"Resource {resource_id} of session {session_id} was not found.")
    return _resource(row)


def _resource(row: Row) -> Resource:
    if row[5] is not None:
        return repositories.resource([row[0], row[1], row[3], row[4], row[5]])
    return FileResource(
        id=row[0], created_at=timestamp(row[1]), file_id=row[2], mount_path=row[3], updated_at=timestamp(row[4])
    )


def _copy(file_id: str, session_id: str, source: Row, now: int) -> dict[str, object]:
    return {
        "id": file_id,
        "filename": source[0],
        "mime_type": source[1],
        "size_bytes": source[2],
        "downloadable": 0,
        "session_id": session_id,
        "blob": source[3],
        "output_path": None,
        "output_tag": None,
        "created_at": now,
        "expires_at": None,
    }


def _row(resource_id: str, session_id: str, file_id: str, target: str, now: int) -> dict[str, object]:
    return {
        "id": resource_id,
        "session_id": session_id,
        "type": "file",
        "file_id": file_id,
        "mount_path": target,
        "created_at": now,
        "updated_at": now,
        "body": None,
        "secret": None,
    }
