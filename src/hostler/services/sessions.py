"""Sessions: create, read, change, archive, delete. It must not run them: after the commit it wakes whoever does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest
from hostler.harness.ledger import EMPTY_LEDGER
from hostler.harness.threads import insertion
from hostler.harness.workqueue import WorkHints, enqueued
from hostler.ids import new_id
from hostler.log.append import append_tx
from hostler.log.entries import Draft, Entry
from hostler.log.log import Log
from hostler.models.catalogue import Catalogue
from hostler.services import (
    agent_rows,
    agent_rules,
    agent_skills,
    budgets,
    defining,
    environments,
    intake,
    resolve_mcp,
    resources,
    rosters,
    self_hosted,
    session_agent,
    vaults,
    work_rows,
)
from hostler.services.metadata import merge
from hostler.services.paging import Slice, read_cursor
from hostler.services.reading import first
from hostler.services.repositories import Repositories
from hostler.services.session_rows import Filter, find_tx, list_tx, read_tx
from hostler.services.snapshots import COLUMNS, SessionRow, session, snapshot_tx
from hostler.services.thread_rows import StoredThread, threads_tx
from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.tables import checkpoints, entries, files, session_skills, threads
from hostler.store.tables import resources as resource_table
from hostler.store.tables import sessions as table
from hostler.wire.agents import SessionAgent
from hostler.wire.base import UNSET, Unset, encode
from hostler.wire.sessions import (
    AgentReference,
    AgentWithOverrides,
    Session,
    SessionAgentUpdate,
    SessionCreate,
    SessionDeleted,
    SessionUpdate,
)

_INSERT = insert(table)
_HEAD = select(table.c.next_seq, table.c.last_at).where(table.c.id == bindparam("id"))
_DELETES = (
    delete(entries).where(entries.c.session_id == bindparam("id")),
    delete(resource_table).where(resource_table.c.session_id == bindparam("id")),
    delete(files).where(files.c.session_id == bindparam("id")),
    delete(session_skills).where(session_skills.c.session_id == bindparam("id")),
    delete(threads).where(threads.c.session_id == bindparam("id")),
    delete(checkpoints).where(checkpoints.c.session_id == bindparam("id")),
    delete(table).where(table.c.id == bindparam("id")),
)

# For a fork from before the change; the log says only what an agent was changed to.
_KEEP_FIRST = (
    update(table).where(table.c.id == bindparam("s"), table.c.first_agent.is_(None)).values(first_agent=table.c.agent)
)
_END_THREADS = (
    update(threads)
    .where(threads.c.session_id == bindparam("s"), threads.c.archived_at.is_(None))
    .values(status="terminated", archived_at=bindparam("now"), updated_at=bindparam("now"))
)


class Hooks(NamedTuple):
    """Whom services tell of what they committed; called on the event loop, must not block or raise."""

    wake: Callable[[str], None]  # a session needs a harness now
    ended: Callable[[str], None]  # a session was archived or deleted: its sandbox may go
    work: WorkHints
    created: Callable[[bytes], None] = lambda config: None  # a session was made in an environment of this config


class Changed(NamedTuple):
    """What a commit left: the session as it now is, and the entries it wrote."""

    session: Session
    appended: list[Entry]
    environment: bytes = b"{}"  # the config of the one that it was created in


class Sessions:
    def __init__(
        self,
        log: Log,
        blobs: Blobs,
        catalogue: Catalogue,
        hooks: Hooks,
        repositories: Repositories,
        programs: Collection[str] = (),
    ) -> None:
        """`programs` are the names of the stdio MCP servers that are configured here."""
        self._log = log
        self._blobs = blobs
        self._catalogue = catalogue
        self._programs = programs
        self._store = log.store
        self._hooks = hooks
        self._repositories = repositories

    async def create(self, params: SessionCreate) -> Session:
        intake.check_initial(params.initial_events or [])
        given_events = params.initial_events or []
        initial = await defining.with_text_rubrics(self._store, self._blobs, given_events, "initial_events")
        now = clock.now()
        reference = _reference(params.agent)
        if isinstance(reference, AgentWithOverrides):
            resolve_mcp.check_programs(reference.mcp_servers, self._programs, "agent.")

        def tx() -> Tx[Changed]:
            row = yield from _insert_tx(params, reference, self._catalogue, now)
            given = params.resources or []
            made = yield from resources.add_tx(row["id"], given, now, "resources", self._repositories)
            appended: list[Entry] = []
            if initial:
                state = intake.State(row["id"], row["thread_id"], [], 0, idle=True)
                taken = yield from intake.take_tx(state, initial, now, "initial_events")
                written = yield from append_tx(row["id"], row["thread_id"], taken.drafts, now=now, patch=taken.patch)
                appended, row["wake_at"] = written.entries, now
                row["outcomes"] = taken.patch.get("outcomes")
                if self_hosted.of_config(row["environment"]):
                    yield enqueued(row["environment_id"], row["id"], now)
            shown = SessionRow.of([row[column.name] for column in COLUMNS])
            return Changed(session(shown, made), appended, row["environment"])

        created = await self._store.write(tx, self._created)
        return created.session

    async def retrieve(self, session_id: str) -> Session:
        return await self._store.read(lambda: read_tx(session_id))

    async def update(self, session_id: str, params: SessionUpdate) -> Session:
        _check_update(params)
        if isinstance(params.agent, SessionAgentUpdate):
            resolve_mcp.check_programs(params.agent.mcp_servers, self._programs, "agent.")
        now = clock.now()

        def tx() -> Tx[Changed]:
            row = yield from find_tx(session_id)
            if row.archived_at is not None or row.status == "terminated":
                raise InvalidRequest(f"Session {session_id} is archived and can't be updated.")
            agent = yield from session_agent.changed_tx(row, params.agent)
            fields, patch = _change(row, params, agent)
            of_budget, columns = budgets.change(row, params.budget, self._catalogue, now)
            fields, patch = {**fields, **of_budget}, {**patch, **columns}
            if not fields:
                return Changed((yield from read_tx(session_id)), [])
            if agent is not None:
                yield _KEEP_FIRST, {"s": session_id}
            draft = Draft(type="session.updated", fields=fields)
            written = yield from append_tx(session_id, row.thread_id, [draft], now=now, patch=patch)
            return Changed((yield from read_tx(session_id)), written.entries)

        return (await self._store.write(tx, lambda changed: self._updated(session_id, changed))).session

    async def archive(self, session_id: str) -> Session:
        """End a session for good; its history stays. Archiving again changes nothing."""
        now = clock.now()

        def tx() -> Tx[Changed]:
            row = yield from find_tx(session_id)
            if row.archived_at is not None:
                return Changed((yield from read_tx(session_id)), [])
            if row.shown_status in ("running", "rescheduling"):
                raise InvalidRequest(
                    f"Session {session_id} cannot be archived while running. "
                    "Send an interrupt event or wait for the session to complete."
                )
            patch = {"status": "terminated", "archived_at": now, "wake_at": None, "pending": b"[]"}
            stored = yield from threads_tx(session_id, row.agent)
            ends = _terminations(row, stored) if row.status != "terminated" else []
            yield _END_THREADS, {"s": session_id, "now": now}
            yield from resources.forget_tokens_tx(session_id)
            yield from work_rows.end_of_session_tx(session_id, now)
            written = yield from append_tx(session_id, row.thread_id, ends, now=now, patch=patch)
            return Changed((yield from read_tx(session_id)), written.entries)

        def then(changed: Changed) -> None:
            self._publish(session_id, changed.appended)
            self._log.hub.close_session(session_id)
            self._hooks.ended(session_id)

        return (await self._store.write(tx, then)).session

    async def delete(self, session_id: str) -> SessionDeleted:
        """Remove a session with its events and files. Open streams get `session.deleted`, then end."""
        now = clock.now()

        def tx() -> Tx[Entry]:
            row = yield from find_tx(session_id)
            if row.shown_status in ("running", "rescheduling"):
                raise InvalidRequest(
                    "Cannot delete session while it is running. "
                    "Send an interrupt event or wait for the session to complete."
                )
            head = yield from first(_HEAD, {"id": session_id})
            yield from work_rows.end_of_session_tx(session_id, now)
            for statement in _DELETES:
                yield statement, {"id": session_id}
            seq, last_at = (head[0], head[1]) if head is not None else (0, 0)
            last = Draft(type="session.deleted")
            return Entry(seq, max(now, last_at + 1), last.id, row.thread_id, last.type, 0, last.body())

        def then(last: Entry) -> None:
            self._publish(session_id, [last])
            self._log.hub.close_session(session_id)
            self._hooks.ended(session_id)

        await self._store.write(tx, then)
        return SessionDeleted(id=session_id)

    def _created(self, created: Changed) -> None:
        self._hooks.created(created.environment)
        if created.appended:
            self._publish(created.session.id, created.appended)
            self._hooks.wake(created.session.id)
            self._hooks.work.wake(created.session.environment_id)

    def _updated(self, session_id: str, changed: Changed) -> None:
        self._publish(session_id, changed.appended)
        if changed.session.status == "running":  # perhaps only now, by a higher budget
            self._hooks.wake(session_id)

    def _publish(self, session_id: str, appended: list[Entry]) -> None:
        if appended:
            self._log.hub.publish(session_id, appended)

    async def list(self, wanted: Filter, *, order: str, limit: int, page: str | None) -> Slice:
        cursor = read_cursor(page, order, wanted.between)
        return await self._store.read(lambda: list_tx(wanted, order=order, limit=limit, cursor=cursor))


def _reference(agent: str | AgentReference | AgentWithOverrides) -> AgentReference | AgentWithOverrides:
    return AgentReference(id=agent) if isinstance(agent, str) else agent


def _insert_tx(
    params: SessionCreate, reference: AgentReference | AgentWithOverrides, catalogue: Catalogue, now: int
) -> Tx[dict[str, Any]]:
    agent = yield from agent_rows.find_tx(reference.id, reference.version or None)
    if agent.archived_at is not None:
        raise InvalidRequest(f"agent: agent {agent.id} is archived")
    overrides = reference if isinstance(reference, AgentWithOverrides) else None
    environment = yield from environments.find_tx(params.environment_id)
    if environment.archived_at is not None:
        raise InvalidRequest(
            f"environment_id: environment {environment.id} is archived", error_code="environment_archived"
        )
    self_hosted.check_resources(environment, params.resources or [])
    vault_ids = params.vault_ids or []
    yield from vaults.check_usable_tx(vault_ids)
    snapshot = yield from snapshot_tx(agent, overrides, catalogue)
    agent_rules.check_network(snapshot, environment.config)
    if params.budget is not None:
        budgets.check_models(snapshot, catalogue)
    row: dict[str, Any] = {
        "id": new_id("sesn"),
        "agent_id": agent.id,
        "agent_version": agent.version,
        "environment_id": environment.id,
        "thread_id": new_id("sthr"),
        "status": "idle",
        "title": params.title,
        "metadata": encode(params.metadata or {}),
        "agent": encode(snapshot),
        "environment": encode(environment.config),
        "vault_ids": encode(vault_ids),
        "budget": encode(params.budget) if params.budget is not None else None,
        "usage": EMPTY_LEDGER,
        "outcomes": None,
        "pending": b"[]",
        "queued": 0,
        "active_us": 0,
        "running_since": None,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
        "next_seq": 1,
        "last_at": now,
        "fence": 0,
        "lease_owner": None,
        "lease_until": None,
        "wake_at": None,
        "paused": 0,
        "sandbox": "none",
        "sandbox_at": None,
        "checkpoint_id": None,
        "first_agent": None,
    }
    yield _INSERT, row
    yield from agent_skills.pin_tx(row["id"], snapshot)
    if snapshot.multiagent is not None:
        agent_body = encode(rosters.thread_agent(snapshot))
        yield insertion(row["id"], row["thread_id"], None, snapshot.name, agent_body, now)
    return row


def _check_update(params: SessionUpdate) -> None:
    if params.vault_ids is not UNSET:
        raise InvalidRequest("vault_ids: can't be changed after a session was created")


def _change(
    row: SessionRow, params: SessionUpdate, agent: SessionAgent | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an update changes: the fields of `session.updated`, and the columns."""
    fields: dict[str, Any] = {}
    patch: dict[str, Any] = {}
    if not isinstance(params.title, Unset) and params.title != row.title:
        fields["title"] = patch["title"] = params.title
    if isinstance(params.metadata, dict):
        before = row.read_metadata()
        merged = merge(before, params.metadata)
        if merged != before:
            fields["metadata"], patch["metadata"] = merged, encode(merged)
    if agent is not None:
        fields["agent"], patch["agent"] = agent, encode(agent)
    return fields, patch


def _terminations(row: SessionRow, stored: Sequence[StoredThread]) -> list[Draft]:
    """The ends of all threads, the primary one last, and of the session."""
    ends = []
    for thread in stored:
        if thread.id != row.thread_id and not thread.ended:
            label = {"session_thread_id": thread.id, "agent_name": thread.name}
            end = Draft(type="session.thread_status_terminated", fields=label, thread_id=thread.id)
            ends += [end, msgspec.structs.replace(end, thread_id=None)]
    label = {"session_thread_id": row.thread_id, "agent_name": row.read_agent().name}
    ends.append(Draft(type="session.thread_status_terminated", fields=label))
    return [*ends, Draft(type="session.status_terminated")]
