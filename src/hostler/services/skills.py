"""Skills: uploaded in versions, listed beside those that come with the server, downloaded, deleted.

It must not parse HTTP. Files lie in the blob folder, one blob each; nothing is written before all of an upload is
checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, delete, exists, func, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest, NotFound, Unavailable
from hostler.ids import new_id
from hostler.services.paging import Slice, page_of, read_cursor, slice_of
from hostler.services.reading import first, rows
from hostler.skills import archive
from hostler.skills.bundle import MAX_BYTES, Bundle, Sent, read_bundle
from hostler.store.blobs import Blob, Blobs
from hostler.store.sql import Many, Row, Tx
from hostler.store.store import Store
from hostler.store.tables import session_skills, sessions, skill_files, skill_versions, skills

LATEST = "latest"
MAX_DISPLAY_NAME = 255
PURGED_AT_ONCE = 200
_AT_ONCE = 4  # uploads whose contents are in memory
_STORED_AT_ONCE = 8  # files of one

_v, _s = skill_versions.c, skills.c
_NEWEST = (
    select(_v.version)
    .where(_v.skill_id == skills.c.id, _v.deleted_at.is_(None))
    .order_by(_v.created_at.desc(), _v.version.desc())
    .limit(1)
    .scalar_subquery()
)
_ALL = select(_s.id, _s.created_at, _s.updated_at, _s.source, _s.name, _s.display_name, _NEWEST)
_ONE = _ALL.where(_s.id == bindparam("id"))
_KEPT = select(_v.version, _v.created_at, _v.skill_id, _v.name, _v.description, _v.directory).where(
    _v.skill_id == bindparam("id")
)
_VERSIONS = _KEPT.where(_v.deleted_at.is_(None))
_PINNED_VERSION = _KEPT.where(_v.version == bindparam("v"))
_VERSION = _VERSIONS.where(_v.version == bindparam("v"))
_LATEST = _VERSIONS.order_by(_v.created_at.desc(), _v.version.desc()).limit(1)
_LAST_AT = select(func.max(_v.created_at)).where(_v.skill_id == bindparam("id"))
_FILES = (
    select(skill_files.c.path, skill_files.c.blob, skill_files.c.executable)
    .where(skill_files.c.skill_id == bindparam("id"), skill_files.c.version == bindparam("v"))
    .order_by(skill_files.c.path)
)
_INSERT, _INSERT_VERSION, _INSERT_FILE = insert(skills), insert(skill_versions), insert(skill_files)
_TOUCH = update(skills).where(_s.id == bindparam("key")).values(updated_at=bindparam("now"))
_DELETE = delete(skills).where(_s.id == bindparam("id"))
_DELETE_VERSION = (
    update(skill_versions)
    .where(_v.skill_id == bindparam("key"), _v.version == bindparam("v"))
    .values(deleted_at=bindparam("now"))
)
_PINNED = exists(
    select(session_skills.c.session_id)
    .join(sessions, sessions.c.id == session_skills.c.session_id)
    .where(
        and_(session_skills.c.skill_id == _v.skill_id, session_skills.c.version == _v.version),
        sessions.c.archived_at.is_(None),
    )
)
_FREE = select(_v.skill_id, _v.version).where(_v.deleted_at.is_not(None), ~_PINNED).limit(PURGED_AT_ONCE)
_PURGE_FILES = delete(skill_files).where(
    skill_files.c.skill_id == bindparam("id"), skill_files.c.version == bindparam("v")
)
_PURGE = delete(skill_versions).where(_v.skill_id == bindparam("id"), _v.version == bindparam("v"))


class Skill(NamedTuple):
    """A skill as its row says it; `latest` is None when all versions are deleted."""

    id: str
    created_at: int
    updated_at: int
    source: Any
    name: str
    display_name: str
    latest: str | None


class Version(NamedTuple):
    version: str
    created_at: int
    skill_id: str
    name: str
    description: str
    directory: str


class Skills:
    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs
        self._memory = asyncio.Semaphore(_AT_ONCE)

    async def create(self, sent: Sequence[Sent], display_name: str | None) -> Skill:
        shown = _display_name(display_name)
        async with self._memory:
            bundle = await asyncio.to_thread(read_bundle, sent)
            stored = await self._store_files(bundle)
        now = clock.now()
        skill = Skill(new_id("skill"), now, now, "custom", bundle.name, shown or bundle.name, str(now))

        def tx() -> Tx[None]:
            yield _INSERT, _row(skill)
            yield from _add_tx(skill.id, str(now), now, bundle, stored)

        await self._store.write(tx)
        return skill

    async def add_version(self, skill_id: str, sent: Sequence[Sent]) -> Version:
        await self._store.read(lambda: _custom_tx(skill_id))  # before the work
        async with self._memory:
            bundle = await asyncio.to_thread(read_bundle, sent)
            stored = await self._store_files(bundle)
        now = clock.now()

        def tx() -> Tx[Version]:
            skill = yield from _custom_tx(skill_id)
            if bundle.name != skill.name:
                raise InvalidRequest(f"files[]: the skill's name is {skill.name} and can't be changed to {bundle.name}")
            last = yield from first(_LAST_AT, {"id": skill_id})
            at = max(now, (last[0] or 0) + 1 if last is not None else 0)
            yield from _add_tx(skill_id, str(at), at, bundle, stored)
            yield _TOUCH, {"key": skill_id, "now": at}
            return Version(str(at), at, skill_id, bundle.name, bundle.description, bundle.directory)

        return await self._store.write(tx)

    async def retrieve(self, skill_id: str) -> Skill:
        return await self._store.read(lambda: find_tx(skill_id))

    async def version(self, skill_id: str, version: str, *, pinned: bool = False) -> Version:
        """`pinned` ones are there although they have been deleted."""
        return await self._store.read(lambda: find_version_tx(skill_id, version, pinned=pinned))

    async def content(self, skill_id: str, version: str, *, pinned: bool = False) -> tuple[str, Iterator[bytes]]:
        """A version's name, and its files as a zip archive, made as it is read."""

        def tx() -> Tx[tuple[Version, list[Row]]]:
            found = yield from find_version_tx(skill_id, version, pinned=pinned)
            return found, (yield from rows(_FILES, {"id": skill_id, "v": found.version}))

        found, listed = await self._store.read(tx)
        members = [archive.Member(row[0], self._blobs.path(row[1]), bool(row[2])) for row in listed]
        if not await asyncio.to_thread(lambda: all(member.source.is_file() for member in members)):
            raise Unavailable(f"The content of skill {skill_id} is missing on the server's disk.")
        return found.name, archive.zipped(found.name, members)

    async def delete(self, skill_id: str) -> None:
        def tx() -> Tx[None]:
            skill = yield from _custom_tx(skill_id)
            if skill.latest is not None:
                raise InvalidRequest(f"Skill {skill_id} has versions; delete all of its versions first.")
            yield _DELETE, {"id": skill_id}

        await self._store.write(tx)

    async def delete_version(self, skill_id: str, version: str) -> None:
        """Hide a version from all but the sessions that have pinned it; nobody's content goes at once."""
        now = clock.now()

        def tx() -> Tx[None]:
            yield from _custom_tx(skill_id)
            if version == LATEST:
                raise InvalidRequest("version: latest can't be deleted by that name; give the version's id")
            yield from find_version_tx(skill_id, version)
            yield _DELETE_VERSION, {"key": skill_id, "v": version, "now": now}
            yield _TOUCH, {"key": skill_id, "now": now}

        await self._store.write(tx)

    async def list(self, *, limit: int, page: str | None, source: str | None) -> Slice:
        """Newest first."""
        cursor = read_cursor(page, "desc")
        statement = _ALL.where(_s.source == source) if source is not None else _ALL
        paged = page_of(statement, _s.created_at, _s.id, order="desc", limit=limit, cursor=cursor)
        cut = slice_of(await self._store.read(lambda: rows(paged)), order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[Skill(*row) for row in cut.rows])

    async def versions(self, skill_id: str, *, limit: int, page: str | None) -> Slice:
        """Newest first."""
        cursor = read_cursor(page, "desc")
        paged = page_of(_VERSIONS, _v.created_at, _v.version, order="desc", limit=limit, cursor=cursor)

        def tx() -> Tx[list[Row]]:
            yield from find_tx(skill_id)
            return (yield from rows(paged, {"id": skill_id}))

        cut = slice_of(await self._store.read(tx), order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[Version(*row) for row in cut.rows])

    async def keep_prebuilt(self, versions: dict[str, str], read: Any) -> None:
        """Take in those skills of the server's own that it does not have at this version yet. `read` gives one's files.

        They are kept like uploads, so that what agents have pinned is still there after an upgrade.
        """
        known_of = select(_v.skill_id, _v.version).where(_v.skill_id.in_(list(versions)))
        known = {(row[0], row[1]) for row in await self._store.read(lambda: rows(known_of))}
        for name, version in versions.items():
            if (name, version) not in known:
                bundle = await asyncio.to_thread(read, name)
                await self._keep_prebuilt(name, version, bundle, await self._store_files(bundle))

    async def _keep_prebuilt(self, name: str, version: str, bundle: Bundle, stored: Sequence[Blob]) -> None:
        now = clock.now()

        def tx() -> Tx[None]:
            if (yield from first(_ONE, {"id": name})) is None:
                yield _INSERT, _row(Skill(name, now, now, "anthropic", name, name, None))
            yield from _add_tx(name, version, now, bundle, stored)
            yield _TOUCH, {"key": name, "now": now}

        await self._store.write(tx)

    async def sweep(self) -> int:
        """Forget deleted versions that no living session has pinned any more; returns how many. Their blobs go with
        the sweep of the files."""

        def tx() -> Tx[int]:
            free = yield from rows(_FREE)
            if free:
                keys = [{"id": row[0], "v": row[1]} for row in free]
                yield Many(_PURGE_FILES, keys)
                yield Many(_PURGE, keys)
            return len(free)

        return await self._store.write(tx)

    async def _store_files(self, bundle: Bundle) -> Sequence[Blob]:
        """Several at once: the disk syncs them together."""
        turns = asyncio.Semaphore(_STORED_AT_ONCE)

        async def store(content: bytes) -> Blob:
            async with turns:
                return await self._blobs.write(_whole(content), limit=MAX_BYTES)

        # With all outcomes: nothing may be written any more when one has failed and this has been told.
        outcomes = await asyncio.gather(*(store(file.content) for file in bundle.files), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Blob)]


async def _whole(content: bytes) -> Any:
    yield content


def find_tx(skill_id: str) -> Tx[Skill]:
    """Read a skill. Raises NotFound."""
    row = yield from first(_ONE, {"id": skill_id})
    if row is None:
        raise NotFound(f"Skill {skill_id} was not found.")
    return Skill(*row)


def find_version_tx(skill_id: str, version: str, *, pinned: bool = False) -> Tx[Version]:
    """Read a version, by its id or as `latest`; one that a session has `pinned` also when it was deleted. Raises
    NotFound."""
    yield from find_tx(skill_id)
    one = _PINNED_VERSION if pinned else _VERSION
    row = yield from (
        first(_LATEST, {"id": skill_id}) if version == LATEST else first(one, {"id": skill_id, "v": version})
    )
    if row is None:
        raise NotFound(f"Skill {skill_id} has no version {version}.")
    return Version(*row)


def _custom_tx(skill_id: str) -> Tx[Skill]:
    """Read a skill that may be changed."""
    skill = yield from find_tx(skill_id)
    if skill.source != "custom":
        raise InvalidRequest(f"Skill {skill_id} comes with the server; it can't be changed or deleted.")
    return skill


def _add_tx(skill_id: str, version: str, at: int, bundle: Bundle, stored: Sequence[Blob]) -> Tx[None]:
    key = {"skill_id": skill_id, "version": version}
    yield (
        _INSERT_VERSION,
        {
            **key,
            "created_at": at,
            "name": bundle.name,
            "description": bundle.description,
            "directory": bundle.directory,
            "deleted_at": None,
        },
    )
    yield Many(
        _INSERT_FILE,
        [
            {**key, "path": file.path, "blob": blob.name, "size_bytes": blob.size, "executable": int(file.executable)}
            for file, blob in zip(bundle.files, stored, strict=True)
        ],
    )


def _row(skill: Skill) -> dict[str, object]:
    return {name: value for name, value in skill._asdict().items() if name != "latest"}


def _display_name(sent: str | None) -> str | None:
    if not sent:
        return None
    if len(sent) > MAX_DISPLAY_NAME or not sent.isprintable() or not sent.strip():
        raise InvalidRequest(
            f"display_name: a single line of at most {MAX_DISPLAY_NAME} printable characters is expected"
        )
    return sent
