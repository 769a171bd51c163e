"""Exports: all that a session is, as one archive. Secrets are not in it: vaults are named only, and the tokens of
repositories are left out. It must not change the session, but for a checkpoint of its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Table, and_, bindparam, select
from sqlalchemy.sql.base import Executable

from hostler import __version__, clock
from hostler.errors import InvalidRequest, RequestTooLarge, Unavailable
from hostler.harness import checkpoints as checkpoint_rows
from hostler.harness.checkpoints import Checkpoint
from hostler.harness.environment import config_of
from hostler.harness.life import BUSY, Life
from hostler.ids import new_id
from hostler.services import archives
from hostler.services.archives import BLOBS, ENTRIES, SANDBOX, SESSION, Content, Manifest, SkillFilePart, SkillPart
from hostler.services.checkpoints import answered
from hostler.services.copying import all_tx
from hostler.services.forks import is_self_hosted_tx
from hostler.services.reading import first, rows
from hostler.services.resources import missing_session
from hostler.services.session_rows import find_tx
from hostler.store.blobs import Blobs
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import (
    entries,
    environments,
    files,
    resources,
    session_skills,
    sessions,
    skill_files,
    skill_versions,
    threads,
)
from hostler.wire.base import encode, timestamp

STALE_SECONDS = 3600.0
_BATCH = 1000
_ROW = select(sessions).where(sessions.c.id == bindparam("s"))
_ENVIRONMENT = select(environments.c.body).where(environments.c.id == bindparam("id"))
_THREADS = select(threads).where(threads.c.session_id == bindparam("s")).order_by(threads.c.created_at, threads.c.id)
_RESOURCES = select(resources).where(resources.c.session_id == bindparam("s")).order_by(resources.c.id)
_FILES = select(files).where(files.c.session_id == bindparam("s")).order_by(files.c.id)
_v, _p = skill_versions.c, session_skills.c
_SKILLS = (
    select(_v.skill_id, _v.version, _p.place, _v.created_at, _v.name, _v.description, _v.directory)
    .join_from(session_skills, skill_versions, and_(_v.skill_id == _p.skill_id, _v.version == _p.version))
    .where(_p.session_id == bindparam("s"))
    .order_by(_p.place)
)
_SKILL_FILES = (
    select(skill_files.c.path, skill_files.c.blob, skill_files.c.size_bytes, skill_files.c.executable)
    .where(skill_files.c.skill_id == bindparam("id"), skill_files.c.version == bindparam("v"))
    .order_by(skill_files.c.path)
)
_e = entries.c
_ENTRIES = (
    select(_e.seq, _e.position, _e.id, _e.thread_id, _e.type, _e.private, _e.answers, _e.body)
    .where(_e.session_id == bindparam("s"), _e.seq > bindparam("after"))
    .order_by(_e.seq)
    .limit(_BATCH)
)


class Exports:
    def __init__(self, store: Store, blobs: Blobs, life: Life, folder: Path) -> None:
        """`folder` is for archives in the making, and belongs to this server alone."""
        self._store = store
        self._blobs = blobs
        self._life = life
        self._folder = folder

    def open(self) -> None:
        """Make the folder, and remove what an earlier process has left in it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)

    async def export(self, session_id: str) -> Path:
        """Write an archive of a session that rests; whoever has sent it removes it. Raises NotFound, InvalidRequest
        for one that runs, and Unavailable."""
        await asyncio.to_thread(_clear, self._folder)
        work = self._folder / new_id("exp")
        try:
            await asyncio.to_thread(work.mkdir, 0o700)
            checkpoint = await self._files(session_id, work)
            state = await self._store.read(lambda: checkpoint_rows.state_tx(session_id))
            content = await self._store.read(lambda: _content_tx(session_id, checkpoint))
            await self._write_entries(session_id, work / ENTRIES)
            after = await self._store.read(lambda: checkpoint_rows.state_tx(session_id))
            if state is None or after is None or not after.undisturbed(state):
                raise InvalidRequest(BUSY.format(id=session_id))
            target = self._folder / f"{work.name}.tar.zst"
            await asyncio.to_thread(self._pack, content, work, target)
        except OSError as error:
            raise Unavailable(f"The archive could not be written: {error.strerror}. Check free space.") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        return target

    async def _files(self, session_id: str, work: Path) -> Checkpoint | None:
        """A snapshot of the session's files as they are, beside the archive in the making."""
        state = await self._store.read(lambda: checkpoint_rows.state_tx(session_id))
        if state is None:
            raise missing_session(session_id)
        if await self._store.read(lambda: is_self_hosted_tx(session_id)):
            raise InvalidRequest(
                f"Session {session_id} is self-hosted: its files and its workers are not this server's."
            )
        if state.archived_at is not None:
            return None
        return await answered(self._life.checkpoint(session_id, work / SANDBOX))

    async def _write_entries(self, session_id: str, target: Path) -> None:
        after = -1
        with await asyncio.to_thread(target.open, "wb") as file:
            while batch := await self._store.read(partial(rows, _ENTRIES, {"s": session_id, "after": after})):
                await asyncio.to_thread(file.writelines, [_line(row) for row in batch])
                after = batch[-1][0]
                if file.tell() > archives.MAX_ENTRIES:
                    raise RequestTooLarge(f"The session's log is larger than {archives.MAX_ENTRIES} bytes.")

    def _pack(self, content: Content, work: Path, target: Path) -> None:
        (work / SESSION).write_bytes(msgspec.json.encode(content))
        sources = {name: work / name for name in (SESSION, ENTRIES)}
        blobs = {file.blob for file in content.files} | {file.blob for each in content.skills for file in each.files}
        sources |= {f"{BLOBS}{blob}": self._blobs.path(blob) for blob in sorted(blobs)}
        sources |= {SANDBOX: work / SANDBOX} if content.checkpoint is not None else {}
        manifest = Manifest(
            format="hostler-session",
            version=archives.VERSION,
            session_id=content.session.id,
            exported_at=timestamp(clock.now()),
            server=__version__,
            parts=[archives.part_of(name, path) for name, path in sources.items()],
        )
        archives.pack(target, manifest, sources)


def _clear(folder: Path) -> None:
    """Remove archives that were made long ago and not taken."""
    before = time.time() - STALE_SECONDS
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _line(row: Any) -> bytes:
    names = ("seq", "position", "id", "thread_id", "type", "private", "answers")
    fields = dict(zip(names, row, strict=False))
    return encode({**fields, "body": msgspec.Raw(row[7])}) + b"\n"


def _content_tx(session_id: str, checkpoint: Checkpoint | None) -> Tx[Content]:
    yield from find_tx(session_id)
    (row,) = yield from all_tx(sessions, _ROW, {"s": session_id})
    environment = yield from first(_ENVIRONMENT, {"id": row["environment_id"]})
    row["environment"] = encode(config_of(environment[0] if environment else None, row["environment"]))
    skills = []
    for found in (yield from rows(_SKILLS, {"s": session_id})):
        of_skill = yield from rows(_SKILL_FILES, {"id": found[0], "v": found[1]})
        skills.append(_skill(found, of_skill))
    own = {"s": session_id}
    return Content(
        session=archives.SessionPart(**_chosen(archives.SessionPart, row)),
        threads=(yield from _parts_tx(archives.ThreadPart, threads, _THREADS, own)),
        resources=(yield from _parts_tx(archives.ResourcePart, resources, _RESOURCES, own)),
        files=(yield from _parts_tx(archives.FilePart, files, _FILES, own)),
        skills=skills,
        checkpoint=_checkpoint(checkpoint),
    )


def _checkpoint(found: Checkpoint | None) -> archives.CheckpointPart | None:
    if found is None:
        return None
    return archives.CheckpointPart(
        position=found.position,
        event_id=found.event_id,
        bytes=found.size_bytes,
        sha256=found.sha256,
        created_at=found.created_at,
    )


def _parts_tx(kind: type[Any], table: Table, statement: Executable, params: dict[str, Any]) -> Tx[list[Any]]:
    found = yield from all_tx(table, statement, params)
    return [kind(**_chosen(kind, row)) for row in found]


def _chosen(kind: type[Any], row: dict[str, Any]) -> dict[str, Any]:
    """The columns that a part has, JSON as it is."""
    raw = {field.name for field in msgspec.structs.fields(kind) if field.type is msgspec.Raw}
    return {
        name: msgspec.Raw(row[name] if row[name] is not None else archives.NULL) if name in raw else row[name]
        for name in kind.__struct_fields__
    }


def _skill(row: Row, of_skill: list[Row]) -> SkillPart:
    skill_id, version, place, created_at, name, description, directory = row
    return SkillPart(
        skill_id=skill_id,
        version=version,
        place=place,
        created_at=created_at,
        name=name,
        description=description,
        directory=directory,
        files=[SkillFilePart(path=p, blob=b, size_bytes=s, executable=x) for p, b, s, x in of_skill],
    )
