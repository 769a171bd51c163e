"""Imports: an archive becomes the session that it was exported from, with its ids, its log and its files.

All of it is read and checked in a folder of its own first; then contents are stored, which nobody sees yet, and one
commit makes the session. It must not know the format, which is `archives`', or its rules, which are `verifying`'s.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select

from hostler import clock
from hostler.errors import AlreadyExists, RequestTooLarge, Unavailable
from hostler.harness import checkpoints as checkpoint_rows
from hostler.harness.checkpoints import NONE, SNAPSHOT, Checkpoint
from hostler.harness.life import Life
from hostler.ids import new_id
from hostler.services import archives, verifying
from hostler.services.archives import BLOBS, ENTRIES, SANDBOX, SESSION, Content, EntryPart, SkillPart
from hostler.services.copying import add_all_tx
from hostler.services.reading import first
from hostler.services.session_rows import read_tx
from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.store import Duplicate, Store
from hostler.store.tables import (
    QUEUED,
    entries,
    files,
    resources,
    session_skills,
    sessions,
    skill_files,
    skill_versions,
    threads,
)
from hostler.wire.sessions import Session

_KNOWN = select(sessions.c.id).where(sessions.c.id == bindparam("id"))
_VERSION = select(skill_versions.c.name).where(
    skill_versions.c.skill_id == bindparam("id"), skill_versions.c.version == bindparam("v")
)
_INSERT = insert(sessions)
_CHUNK = 1 << 20


class Imports:
    def __init__(self, store: Store, blobs: Blobs, life: Life, folder: Path, max_bytes: int) -> None:
        """`folder` is where archives are unpacked; `max_bytes` bounds one, packed and unpacked."""
        self._store = store
        self._blobs = blobs
        self._life = life
        self._folder = folder
        self._max_bytes = max_bytes

    async def take(self, chunks: AsyncIterator[bytes]) -> Session:
        """Take in an archive. Raises InvalidRequest, RequestTooLarge, AlreadyExists and Unavailable, and then nothing
        has changed."""
        work = self._folder / new_id("imp")
        try:
            await asyncio.to_thread((work / "parts").mkdir, 0o700, parents=True)
            await self._receive(chunks, work / "archive")
            content, log = await asyncio.to_thread(self._read, work)
            await self._store.read(lambda: _free_tx(content.session.id))
            return await self._keep(content, log, work / "parts")
        except OSError as error:
            raise Unavailable(f"The archive could not be stored: {error.strerror}. Check free space.") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    async def _receive(self, chunks: AsyncIterator[bytes], target: Path) -> None:
        size = 0
        with await asyncio.to_thread(target.open, "wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_bytes:
                    raise RequestTooLarge(f"The archive exceeds the limit of {self._max_bytes} bytes.")
                await asyncio.to_thread(file.write, chunk)

    def _read(self, work: Path) -> tuple[Content, list[EntryPart]]:
        manifest = archives.unpack(work / "archive", work / "parts", self._max_bytes)
        content = verifying.read_content(work / "parts" / SESSION, manifest)
        log = verifying.read_entries(work / "parts" / ENTRIES, content)
        verifying.check_sandbox(work / "parts" / SANDBOX, content, self._max_bytes)
        return content, log

    async def _keep(self, content: Content, log: list[EntryPart], parts: Path) -> Session:
        """Store contents, then make the session. Contents that nobody comes to name are swept away later."""
        names = {file.blob for file in content.files} | {file.blob for each in content.skills for file in each.files}
        for blob in names:
            part = parts / f"{BLOBS}{blob}".replace("/", "_")
            await self._blobs.write(_contents(part), limit=self._max_bytes)
        session_id = content.session.id
        async with self._life.alone(session_id):
            checkpoint = _checkpoint(content)
            if checkpoint is not None:
                await asyncio.to_thread(_move, parts / SANDBOX, self._life.path(session_id, checkpoint.id))
            try:
                return await self._store.write(lambda: _import_tx(content, log, checkpoint))
            except (Duplicate, AlreadyExists) as error:
                if checkpoint is not None:
                    self._life.take_back(checkpoint)
                raise AlreadyExists(f"Session {session_id}, or something of it, is on this server already.") from error


async def _contents(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _move(source: Path, target: Path) -> None:
    """Give a snapshot its name, once it is on the disk."""
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    for path in (source, target.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if path is source:
                source.replace(target)
        finally:
            os.close(descriptor)


def _checkpoint(content: Content) -> Checkpoint | None:
    said = content.checkpoint
    if said is None or content.session.archived_at is not None:
        return None
    made = new_id("ckpt")
    return Checkpoint(made, content.session.id, said.position, said.event_id, said.bytes, said.sha256, clock.now())


def _free_tx(session_id: str) -> Tx[None]:
    if (yield from first(_KNOWN, {"id": session_id})) is not None:
        raise AlreadyExists(f"Session {session_id} is on this server already. Delete it first, or keep it.")


def _import_tx(content: Content, log: list[EntryPart], checkpoint: Checkpoint | None) -> Tx[Session]:
    yield from _free_tx(content.session.id)
    now, session = clock.now(), content.session
    begun: dict[str, Any] = {"sandbox": NONE, "sandbox_at": None, "checkpoint_id": None}
    if checkpoint is not None:
        begun = {"sandbox": SNAPSHOT, "sandbox_at": now, "checkpoint_id": checkpoint.id}
        yield from checkpoint_rows.add_tx(checkpoint)
    rest = {"running_since": None, "fence": 0, "lease_owner": None, "lease_until": None, "wake_at": None}
    waiting = sum(entry.position >= QUEUED for entry in log)
    yield _INSERT, {**_columns(session), **rest, **begun, "queued": waiting}
    own = {"session_id": session.id}
    yield from add_all_tx(entries, [{**_columns(entry), **own} for entry in log])
    yield from add_all_tx(threads, [{**_columns(thread), **own, "running_since": None} for thread in content.threads])
    yield from add_all_tx(files, [{**_columns(file), **own} for file in content.files])
    yield from add_all_tx(resources, [{**_columns(each), **own, "secret": None} for each in content.resources])
    for skill in content.skills:
        yield from _skill_tx(session.id, skill, now)
    return (yield from read_tx(session.id))


def _skill_tx(session_id: str, skill: SkillPart, now: int) -> Tx[None]:
    """Pin a version; one that is not here comes along as a deleted one, which stays as long as the session does."""
    key = {"skill_id": skill.skill_id, "version": skill.version}
    if (yield from first(_VERSION, {"id": skill.skill_id, "v": skill.version})) is None:
        row = {name: getattr(skill, name) for name in ("created_at", "name", "description", "directory")}
        yield from add_all_tx(skill_versions, [{**key, **row, "deleted_at": now}])
        yield from add_all_tx(skill_files, [{**key, **_columns(file)} for file in skill.files])
    yield from add_all_tx(session_skills, [{**key, "session_id": session_id, "place": skill.place}])


def _columns(part: msgspec.Struct) -> dict[str, Any]:
    """As a row has them: JSON as it is, or none."""
    values = {name: getattr(part, name) for name in part.__struct_fields__}
    return {name: _json(value) if isinstance(value, msgspec.Raw) else value for name, value in values.items()}


def _json(value: msgspec.Raw) -> bytes | None:
    text = bytes(value)
    return None if text == archives.NULL else text
