"""What a wake begins with: the session's row and what belongs to it, read in one look. It must not change anything."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from hostler.harness.environment import config_of
from hostler.harness.ledger import Ledger, read_ledger
from hostler.harness.repositories import Repository, repository
from hostler.harness.skills import MountedSkill, skills_tx
from hostler.harness.threads import ThreadRow, threads_tx
from hostler.log.entries import Entry
from hostler.log.log import read_tx
from hostler.store.sql import Tx
from hostler.store.tables import environments, files, resources, sessions
from hostler.wire.agents import SessionAgent
from hostler.wire.usage import BudgetLimit


class Input(msgspec.Struct, frozen=True):
    """A file that is mounted for the agent."""

    blob: str
    target: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the harness needs of the session's row."""

    thread_id: str
    agent: SessionAgent
    environment: dict[str, Any]
    environment_id: str
    vault_ids: list[str]
    budget: BudgetLimit | None
    ledger: Ledger
    active_us: int
    running_since: int | None
    last_at: int
    inputs: list[Input]
    repositories: list[Repository]
    skills: list[MountedSkill]
    threads: list[ThreadRow]


_SESSION = select(
    sessions.c.thread_id,
    sessions.c.agent,
    sessions.c.environment,
    environments.c.body,
    sessions.c.environment_id,
    sessions.c.vault_ids,
    sessions.c.budget,
    sessions.c.usage,
    sessions.c.active_us,
    sessions.c.running_since,
    sessions.c.last_at,
).join_from(sessions, environments, sessions.c.environment_id == environments.c.id, isouter=True)
_SESSION = _SESSION.where(sessions.c.id == bindparam("s"))
_INPUTS = (
    select(files.c.blob, resources.c.mount_path, resources.c.id, resources.c.body)
    .join_from(resources, files, resources.c.file_id == files.c.id, isouter=True)
    .where(resources.c.session_id == bindparam("s"))
    .order_by(resources.c.mount_path)
)
_decode_agent = msgspec.json.Decoder(SessionAgent).decode
_decode_budget = msgspec.json.Decoder(BudgetLimit).decode


def row_tx(session_id: str) -> Tx[Row]:
    """Read a session's row, its inputs, skills and threads."""
    (row,) = yield _SESSION, {"s": session_id}
    thread_id, agent_body, snapshot, environment, environment_id, vault_ids, budget, usage, *times = row
    active_us, running_since, last_at = times
    given = yield _INPUTS, {"s": session_id}
    agent = _decode_agent(agent_body)
    skills: list[MountedSkill] = []
    if agent.skills or agent.multiagent:
        skills = yield from skills_tx(session_id)
    threads: list[ThreadRow] = []
    if agent.multiagent:
        threads = yield from threads_tx(session_id)
    if not threads:
        threads = [ThreadRow(id=thread_id, parent_id=None, name=agent.name, agent=agent, ledger=Ledger())]
    else:
        threads[0].agent = agent  # the primary's may have been changed for this session
    return Row(
        thread_id=thread_id,
        agent=agent,
        environment=config_of(environment, snapshot),
        environment_id=environment_id,
        vault_ids=msgspec.json.decode(vault_ids),
        budget=_decode_budget(budget) if budget else None,
        ledger=read_ledger(usage),
        active_us=active_us,
        running_since=running_since,
        last_at=last_at,
        inputs=[Input(blob, target) for blob, target, *_ in given if blob is not None],
        repositories=[repository(key, target, body) for _, target, key, body in given if body is not None],
        skills=skills,
        threads=threads,
    )


def recall_tx(session_id: str, from_seq: int) -> Tx[tuple[Row, list[Entry]]]:
    """Read all that a wake begins with, in one look: the row, and the entries from `from_seq` on."""
    row = yield from row_tx(session_id)
    entries = yield from read_tx(session_id, from_seq)
    return row, entries
