"""Copies what a session consists of to another one, up to a cut: entries, threads, resources, files, pinned skills.

Events keep their ids and their bytes, so that both histories can be compared; resources and files get new ids. It must
not make the session's own row, or decide where the cut may be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Table, Text, bindparam, insert, select
from sqlalchemy.sql.base import Executable

from hostler.harness.ledger import EMPTY_LEDGER
from hostler.harness.state import MAIL, REPOSITORY_READY
from hostler.ids import new_id
from hostler.services.forking import Cut
from hostler.services.reading import rows
from hostler.store.sql import Many, Tx
from hostler.store.tables import QUEUED, entries, files, resources, session_skills, threads

_e = entries.c
_at = bindparam("at", type_=BigInteger)
_COPIED = [column for column in entries.columns if column.name not in ("session_id", "position")]
_NAMES = ["session_id", "position", *(column.name for column in _COPIED)]
_new, _old = bindparam("new", type_=Text), bindparam("s", type_=Text)
_COPY = insert(entries).from_select(
    _NAMES,
    select(_new, _e.position, *_COPIED).where(_e.session_id == _old, _e.position <= _at, _e.type != REPOSITORY_READY),
)
# What a thread had been sent and not taken up waits again, also if it was taken up later.
_COPY_MAIL = insert(entries).from_select(
    _NAMES,
    select(_new, _e.seq + QUEUED, *_COPIED).where(
        _e.session_id == _old, _e.type == MAIL, _e.position > _at, _e.seq < bindparam("seq")
    ),
)
_READY = select(entries).where(_e.session_id == bindparam("s"), _e.type == REPOSITORY_READY, _e.position <= _at)
_LAST = select(_e.seq, _e.position).where(_e.session_id == bindparam("s")).order_by(_e.seq.desc())
_RESOURCES = select(resources).where(resources.c.session_id == bindparam("s"), resources.c.created_at <= _at)
_FILES = select(files).where(files.c.session_id == bindparam("s"), files.c.created_at <= _at)
_SKILLS = select(session_skills).where(session_skills.c.session_id == bindparam("s"))
_THREADS = select(threads).where(threads.c.session_id == bindparam("s"), threads.c.created_at <= _at)

Reseal = Callable[[str, str, bytes | None], bytes | None]  # old id, new id, sealed


def all_tx(table: Table, statement: Executable, params: dict[str, Any]) -> Tx[list[dict[str, Any]]]:
    """Whole rows of a table, by the names of its columns."""
    names = [column.name for column in table.columns]
    found = yield from rows(statement, params)
    return [dict(zip(names, row, strict=True)) for row in found]


def add_all_tx(table: Table, made: list[dict[str, Any]]) -> Tx[None]:
    if made:
        yield Many(insert(table), made)


def copy_entries_tx(old: str, new: str, cut: Cut, files_from: int, taken: dict[str, str]) -> Tx[tuple[int, int]]:
    """Copy the log up to the cut; `files_from` is the position that the sandbox's files are from, `taken` gives the new
    ids of resources. Returns the next sequence number, and how many entries wait."""
    yield _COPY, {"new": new, "s": old, "at": cut.position}
    if cut.idle is not None:
        yield _COPY_MAIL, {"new": new, "s": old, "at": cut.position, "seq": cut.idle.seq}
    ready = yield from all_tx(entries, _READY, {"s": old, "at": min(cut.position, files_from)})
    kept = [_of_fork(each, new, taken) for each in ready if msgspec.json.decode(each["body"])["resource_id"] in taken]
    yield from add_all_tx(entries, kept)
    found = yield from rows(_LAST, {"s": new})
    return (found[0][0] + 1 if found else 1), sum(row[1] >= QUEUED for row in found)


def _of_fork(row: dict[str, Any], new: str, taken: dict[str, str]) -> dict[str, Any]:
    """The note that a repository is there, for the resource that it is in the fork."""
    note = msgspec.json.decode(row["body"])
    body = msgspec.json.encode({**note, "resource_id": taken[note["resource_id"]]})
    return {**row, "session_id": new, "body": body}


def copy_resources_tx(old: str, new: str, at: int, reseal: Reseal) -> Tx[dict[str, str]]:
    """Copy resources, and the files of the session, that were there at a time; return the new ids of resources."""
    mounted = yield from all_tx(resources, _RESOURCES, {"s": old, "at": at})
    own = yield from all_tx(files, _FILES, {"s": old, "at": at})
    own = [each for each in own if not _changed_since(each, at)]
    file_ids: dict[str | None, str] = {each["id"]: new_id("file") for each in own}
    mounted = [each for each in mounted if each["file_id"] is None or each["file_id"] in file_ids]
    ids: dict[str, str] = {each["id"]: new_id("sesrsc") for each in mounted}
    yield from add_all_tx(files, [{**each, "id": file_ids[each["id"]], "session_id": new} for each in own])
    copies = [
        {
            **each,
            "id": ids[each["id"]],
            "session_id": new,
            "file_id": file_ids.get(each["file_id"]),
            "secret": reseal(each["id"], ids[each["id"]], each["secret"]),
        }
        for each in mounted
    ]
    yield from add_all_tx(resources, copies)
    return ids


def _changed_since(file: dict[str, Any], at: int) -> bool:
    """Whether an output was written after that time: what it was then, nobody has kept."""
    _, _, written = (file["output_tag"] or "").partition(":")
    return written.isdigit() and int(written) // 1000 > at


def copy_rest_tx(old: str, new: str, at: int) -> Tx[None]:
    """Copy the threads as they were, at rest and with nothing spent, and what skills are pinned."""
    found = yield from all_tx(threads, _THREADS, {"s": old, "at": at})
    yield from add_all_tx(threads, [_resting(each, new, at) for each in found])
    pinned = yield from all_tx(session_skills, _SKILLS, {"s": old})
    yield from add_all_tx(session_skills, [{**each, "session_id": new} for each in pinned])


def _resting(thread: dict[str, Any], new: str, at: int) -> dict[str, Any]:
    ended = thread["archived_at"] is not None and thread["archived_at"] <= at
    return {
        **thread,
        "session_id": new,
        "status": "terminated" if ended else "idle",
        "archived_at": thread["archived_at"] if ended else None,
        "usage": EMPTY_LEDGER,
        "active_us": 0,
        "running_since": None,
    }
