"""Checks what an imported archive says before any of it is kept: ids, references, types, and that its log folds.

An archive comes from anybody. What is let pass here the API shows, and the harness goes on from it; so everything is
decoded as what it will be read as. It must not write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hostler.errors import InvalidRequest
from hostler.harness.ledger import Ledger
from hostler.harness.state import Session
from hostler.log.entries import NOTE, PRIVATE_PREFIX, PUBLIC, Entry
from hostler.sandbox import snapshots
from hostler.sandbox.contract import SKILLS, SnapshotDamaged
from hostler.sandbox.packing import Budget, TooMuch
from hostler.services import mounts, repositories
from hostler.services.archives import NULL, Content, EntryPart, Manifest
from hostler.skills.frontmatter import MAX_NAME
from hostler.store.tables import QUEUED
from hostler.wire.agents import InlineAgent, SessionAgent, SessionThreadAgent
from hostler.wire.base import Metadata, Reference, has_nul
from hostler.wire.environments import CloudConfig
from hostler.wire.events import SessionEvent
from hostler.wire.multiagent import Advisor
from hostler.wire.sessions import MAX_VAULTS, OutcomeEvaluation
from hostler.wire.usage import BudgetLimit

MAX_ENTRIES = 1_000_000
MAX_ROWS = 20_000
_NOTE = re.compile(r"hostler\.[a-z_]{1,64}")  # what a fold doesn't know it passes over
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_JSON: dict[str, Any] = {
    "metadata": Metadata,
    "agent": SessionAgent,
    "first_agent": SessionAgent,
    "environment": CloudConfig,
    "vault_ids": Annotated[list[Reference], msgspec.Meta(max_length=MAX_VAULTS)],
    "budget": BudgetLimit,
    "usage": Ledger,
    "pending": list[str],
    "outcomes": list[OutcomeEvaluation],
}
_NULLABLE = ("first_agent", "budget", "outcomes")
_EVENT = msgspec.json.Decoder(SessionEvent)


def read_content(file: Path, manifest: Manifest) -> Content:
    """Decode and check the session and all that belongs to it. Raises InvalidRequest."""
    content: Content = _decoded(file.read_bytes(), Content, "session.json")
    session = content.session
    if session.id != manifest.session_id:
        raise InvalidRequest("session.json: it is another session than the manifest's")
    for name, kind in _JSON.items():
        text = bytes(getattr(session, name))
        if text != NULL or name not in _NULLABLE:
            _decoded(text, kind, f"session.json: session.{name}")
    if (session.archived_at is None) != (session.status == "idle"):
        raise InvalidRequest("session.json: session.status: a session is terminated when it is archived, else idle")
    count = len(content.threads) + len(content.resources) + len(content.files) + len(content.skills)
    if count + sum(len(skill.files) for skill in content.skills) > MAX_ROWS:
        raise InvalidRequest(f"session.json: it has more than {MAX_ROWS} threads, resources and files")
    _check_threads(content)
    _check_resources(content)
    _check_skills(content)
    _check_parts(content, manifest)
    return content


def _decoded(text: bytes, kind: Any, where: str) -> Any:
    try:
        if has_nul(text):
            raise InvalidRequest(f"{where}: U+0000 is not allowed in strings")
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{where}: {error}") from error


def _unique(values: Iterable[str], where: str) -> None:
    found = list(values)
    if len(set(found)) != len(found):
        raise InvalidRequest(f"session.json: {where}: something is there twice")


def _check_threads(content: Content) -> None:
    ids = [thread.id for thread in content.threads]
    _unique(ids, "threads")
    if ids and content.session.thread_id not in ids:
        raise InvalidRequest("session.json: threads: the primary thread is not among them")
    for number, thread in enumerate(content.threads):
        where = f"session.json: threads.{number}"
        _decoded(bytes(thread.agent), SessionThreadAgent | Advisor | InlineAgent, f"{where}.agent")
        _decoded(bytes(thread.usage), Ledger, f"{where}.usage")
        if thread.parent_id is not None and thread.parent_id not in ids:
            raise InvalidRequest(f"{where}.parent_id: there is no such thread")


def _check_resources(content: Content) -> None:
    files = {file.id for file in content.files}
    _unique((file.id for file in content.files), "files")
    _unique((file.output_path for file in content.files if file.output_path is not None), "files.output_path")
    _unique((resource.id for resource in content.resources), "resources")
    taken: list[str] = []
    for number, resource in enumerate(content.resources):
        where = f"session.json: resources.{number}"
        if resource.type == "file":
            if resource.file_id not in files or bytes(resource.body) != NULL:
                raise InvalidRequest(f"{where}: a file resource has a file of the archive")
            placed = mounts.place(resource.mount_path, "x", f"{where}.mount_path")
        else:
            if resource.file_id is not None or bytes(resource.body) == NULL:
                raise InvalidRequest(f"{where}: a repository has no file")
            repositories.read_body(bytes(resource.body), where)
            placed = repositories.place(resource.mount_path, "x", f"{where}.mount_path")
        if placed != resource.mount_path:
            raise InvalidRequest(f"{where}.mount_path: must be absolute and normalised")
        mounts.check_overlap(placed, taken, f"{where}.mount_path")
        taken.append(placed)


def _check_skills(content: Content) -> None:
    _unique((f"{skill.skill_id} {skill.version}" for skill in content.skills), "skills")
    for number, skill in enumerate(content.skills):
        where = f"session.json: skills.{number}"
        if len(skill.name) > MAX_NAME or not _SLUG.fullmatch(skill.name):
            raise InvalidRequest(f"{where}.name: can't be the name of a skill")
        _unique((file.path for file in skill.files), f"skills.{number}.files")
        for file in skill.files:
            parts = file.path.split("/")
            if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) or len(file.path) > 1000:
                raise InvalidRequest(f"{where}.files: {file.path[:100]!r} leaves {SKILLS}/{skill.name}")


def _check_parts(content: Content, manifest: Manifest) -> None:
    """What is named must be there, with the size that is said of it, and nothing else."""
    parts = {part.name: part for part in manifest.parts}
    named: list[tuple[str, int]] = [(file.blob, file.size_bytes) for file in content.files]
    named += [(file.blob, file.size_bytes) for skill in content.skills for file in skill.files]
    for blob, size in named:
        part = parts.get(f"blobs/{blob}")
        if part is None or part.bytes != size:
            raise InvalidRequest(f"session.json: a file's content {blob} is not in the archive, or has another size")
    sandbox, said = parts.get("sandbox.tar.zst"), content.checkpoint
    if (sandbox is None) != (said is None):
        raise InvalidRequest("session.json: checkpoint: the archive has one without the other")
    if sandbox is not None and said is not None and (sandbox.bytes, sandbox.sha256) != (said.bytes, said.sha256):
        raise InvalidRequest("session.json: checkpoint: the archive's sandbox.tar.zst is another one")
    wanted = {f"blobs/{blob}" for blob, _ in named}
    if surplus := {name for name in parts if name.startswith("blobs/")} - wanted:
        raise InvalidRequest(f"session.json: nothing names the archive's {min(surplus)}")


def read_entries(file: Path, content: Content) -> list[EntryPart]:
    """Decode and check the log. Raises InvalidRequest."""
    found: list[EntryPart] = []
    seqs, positions, ids, answers = set[int](), set[int](), set[tuple[str, bool]](), set[str]()
    threads = {content.session.thread_id, *(thread.id for thread in content.threads)}
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"entries.jsonl, line {number}"
            entry: EntryPart = _decoded(line, EntryPart, where)
            fresh = entry.seq not in seqs and entry.position not in positions and entry.answers not in answers
            if not fresh or entry.seq >= content.session.next_seq or entry.thread_id not in threads:
                raise InvalidRequest(f"{where}: its place, answer or thread is not the entry's own")
            if entry.position < QUEUED and entry.position > content.session.last_at:
                raise InvalidRequest(f"{where}: it is later than the session")
            _check_entry(entry, where)
            seqs.add(entry.seq)
            positions.add(entry.position)
            ids.add((entry.id, entry.private == PUBLIC))
            answers |= {entry.answers} if entry.answers is not None else set()
            found.append(entry)
            if number > MAX_ENTRIES:
                raise InvalidRequest(f"entries.jsonl: it has more than {MAX_ENTRIES} entries")
    if len(ids) != len(found):
        raise InvalidRequest("entries.jsonl: an event is there twice")
    _check_fold(found, content)
    return found


def _check_entry(entry: EntryPart, where: str) -> None:
    note = entry.type.startswith(PRIVATE_PREFIX)
    if note != (entry.private == NOTE) or (note and not _NOTE.fullmatch(entry.type)):
        raise InvalidRequest(f"{where}: {entry.type[:80]!r} is no type of entry, or not for those who would see it")
    head: Any = _decoded(bytes(entry.body), _Head, where)
    if (head.id, head.type) != (entry.id, entry.type):
        raise InvalidRequest(f"{where}: its body is another event")
    if not note:
        try:
            _EVENT.decode(_entry(entry).wire())
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidRequest(f"{where}: {error}") from error


class _Head(msgspec.Struct):
    id: str
    type: str


def _entry(part: EntryPart) -> Entry:
    body = msgspec.json.encode(part.body)
    return Entry(part.seq, part.position, part.id, part.thread_id, part.type, part.private, body)


def _check_fold(found: list[EntryPart], content: Content) -> None:
    """The log must be one that a harness can go on from, and the session's row must be what it comes to."""
    session = Session()
    try:
        session.absorb(_entry(part) for part in sorted(found, key=lambda part: part.position))
    except Exception as error:  # whatever a fold meets in a forged log
        raise InvalidRequest(f"entries.jsonl: it is no log that a session can go on from ({error!r:.200})") from error
    waiting = {call_id for thread in session.threads.values() for call_id in thread.waiting}
    pending = set(msgspec.json.decode(bytes(content.session.pending), type=list[str]))
    if session.running or (content.session.archived_at is None and not pending <= waiting):
        raise InvalidRequest("entries.jsonl: the session is not at rest, or waits for something else than its row says")


def check_sandbox(file: Path, content: Content, limit: int) -> None:
    """Look through the snapshot of the sandbox without making anything of it. Raises InvalidRequest."""
    if content.checkpoint is None:
        return
    try:
        snapshots.check(file, Budget(limit))
    except (SnapshotDamaged, TooMuch) as problem:
        raise InvalidRequest(f"sandbox.tar.zst: {problem}") from problem
