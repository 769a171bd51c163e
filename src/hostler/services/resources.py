"""File resources of a session: each mounts a session-scoped copy of a file. It must not touch the sandbox.

The copy is a row of its own that names the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import bindparam, delete, insert, select

from hostler import clock
from hostler.errors import InvalidRequest, NotFound
from hostler.ids import new_id
from hostler.services import mounts
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.services.resolve import NOT_YET
from hostler.store.sql import Many, Row, Tx
from hostler.store.store import Store
from hostler.store.tables import files, resources, sessions
from hostler.wire.base import timestamp
from hostler.wire.resources import FileResource, FileResourceParams, ResourceDeleted, ResourceParams

MAX_FILES = 500

_COLUMNS = (
    resources.c.id,
    resources.c.created_at,
    resources.c.file_id,
    resources.c.mount_path,
    resources.c.updated_at,
)
_OF_SESSION = select(*_COLUMNS).where(resources.c.session_id == bindparam("s"))
_LISTED = _OF_SESSION.order_by(resources.c.created_at, resources.c.id)
_ONE = _OF_SESSION.where(resources.c.id == bindparam("id"))
_SESSION = select(sessions.c.archived_at, sessions.c.status).where(sessions.c.id == bindparam("s"))
_FILE = select(
    files.c.filename, files.c.mime_type, files.c.size_bytes, files.c.blob, files.c.expires_at, files.c.session_id
).where(files.c.id == bindparam("id"))
_INSERT_FILE = insert(files)
_INSERT = insert(resources)
_DELETE = delete(resources).where(resources.c.session_id == bindparam("s"), resources.c.id == bindparam("id"))
_DELETE_FILE = delete(files).where(files.c.id == bindparam("id"))


class Resources:
    def __init__(self, store: Store, changed: Callable[[str], None]) -> None:
        """`changed` is told the session whose mounts changed, after the commit."""
        self._store = store
        self._changed = changed

    async def add(self, session_id: str, params: ResourceParams) -> FileResource:
        now = clock.now()

        def tx() -> Tx[FileResource]:
            row = yield from first(_SESSION, {"s": session_id})
            if row is None:
                raise missing_session(session_id)
            if row[0] is not None or row[1] == "terminated":
                raise InvalidRequest(f"Session {session_id} is archived; resources can't be added.")
            made = yield from add_tx(session_id, [params], now, "")
            return made[0]

        resource = await self._store.write(tx)
        self._changed(session_id)
        return resource

    async def retrieve(self, session_id: str, resource_id: str) -> FileResource:
        return await self._store.read(lambda: _find_tx(session_id, resource_id))

    async def update(self, session_id: str, resource_id: str) -> FileResource:
        """Only repositories have a token to rotate, and there are none here."""
        await self.retrieve(session_id, resource_id)
        raise InvalidRequest("authorization_token: only github_repository resources have one")

    async def delete(self, session_id: str, resource_id: str) -> ResourceDeleted:
        def tx() -> Tx[None]:
            resource = yield from _find_tx(session_id, resource_id)
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


def list_tx(session_id: str) -> Tx[list[FileResource]]:
    found = yield from rows(_LISTED, {"s": session_id})
    return [_resource(row) for row in found]


def add_tx(session_id: str, params: Sequence[ResourceParams], now: int, within: str) -> Tx[list[FileResource]]:
    """Check and add resources to a session whose row stands or comes in the same commit. `within` names the list in
    messages, or is empty for a single one."""
    taken = [resource.mount_path for resource in (yield from list_tx(session_id))]
    copies, added, made = [], [], []
    for index, param in enumerate(params):
        at = f"{within}.{index}." if within else ""
        if not isinstance(param, FileResourceParams):
            raise InvalidRequest(f"{at}type: only file resources are supported; the others are {NOT_YET}")
        source = yield from _source_tx(param.file_id, now, at)
        target = mounts.place(param.mount_path, param.file_id, f"{at}mount_path")
        mounts.check_overlap(target, taken, f"{at}mount_path")
        taken.append(target)
        if len(taken) > MAX_FILES:
            raise InvalidRequest(f"{within or 'resources'}: a session has at most {MAX_FILES} files")
        # Distinct times keep the order of the request.
        at_time, file_id, resource_id = now + index, new_id("file"), new_id("sesrsc")
        copies.append(_copy(file_id, session_id, source, at_time))
        added.append(_row(resource_id, session_id, file_id, target, at_time))
        made.append(_resource((resource_id, at_time, file_id, target, at_time)))
    if made:
        yield Many(_INSERT_FILE, copies)
        yield Many(_INSERT, added)
    return made


def missing_session(session_id: str) -> NotFound:
    return NotFound(f"Session {session_id} was not found.")


def _source_tx(file_id: str, now: int, at: str) -> Tx[Row]:
    row = yield from first(_FILE, {"id": file_id})
    if row is None or (row[4] is not None and row[4] <= now):
        raise NotFound(f"{at}file_id: file {file_id} was not found.")
    return row


def _find_tx(session_id: str, resource_id: str) -> Tx[FileResource]:
    row = yield from first(_ONE, {"s": session_id, "id": resource_id})
    if row is None:
        raise NotFound(f"Resource {resource_id} of session {session_id} was not found.")
    return _resource(row)


def _resource(row: Row) -> FileResource:
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
    }
