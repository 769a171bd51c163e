"""A session's agent and the session itself, as they go over the wire. It must not write."""

from __future__ import annotations

from typing import Any

import msgspec

from hostler import clock
from hostler.errors import InvalidRequest
from hostler.harness.ledger import read_ledger
from hostler.models.catalogue import Catalogue
from hostler.services import agent_rules, agent_skills, defining, resolve, resolve_mcp
from hostler.services.rosters import expand_tx, thread_agent
from hostler.store.sql import Row, Tx
from hostler.store.tables import sessions
from hostler.wire.agents import Agent, SessionAgent
from hostler.wire.base import UNSET, Unset, encode, timestamp
from hostler.wire.resources import Resource
from hostler.wire.sessions import AgentWithOverrides, Session
from hostler.wire.threads import SessionThread
from hostler.wire.usage import BudgetLimit, Stats, ThreadStats, Usage

_c = sessions.c
COLUMNS = (
    _c.id, _c.created_at, _c.status, _c.wake_at, _c.title, _c.metadata, _c.agent, _c.environment_id, _c.usage,
    _c.active_us, _c.running_since, _c.updated_at, _c.archived_at, _c.thread_id,
    _c.budget, _c.paused, _c.outcomes, _c.vault_ids,
)  # fmt: skip

MAX_SNAPSHOT = 32 * 1024 * 1024  # bytes of an agent with its roster in full: as much as one request may hold

_agent = msgspec.json.Decoder(SessionAgent).decode
_budget = msgspec.json.Decoder(BudgetLimit).decode
_metadata = msgspec.json.Decoder(dict[str, str]).decode


class SessionRow(msgspec.Struct, frozen=True):
    """The columns of `COLUMNS`, decoded as far as everybody needs them."""

    id: str
    created_at: int
    status: str
    wake_at: int | None
    title: str | None
    metadata: bytes
    agent: bytes
    environment_id: str
    usage: bytes
    active_us: int
    running_since: int | None
    updated_at: int
    archived_at: int | None
    thread_id: str
    budget: bytes | None
    paused: int
    outcomes: bytes | None
    vault_ids: bytes

    @classmethod
    def of(cls, row: Row) -> SessionRow:
        return cls(*row)

    @property
    def shown_status(self) -> Any:
        """An idle session that has been woken counts as running: what it was sent is accepted and will be done."""
        return "running" if self.status == "idle" and self.wake_at is not None else self.status

    def read_agent(self) -> SessionAgent:
        return _agent(self.agent)

    def read_metadata(self) -> dict[str, str]:
        return _metadata(self.metadata)

    def read_budget(self) -> BudgetLimit | None:
        return _budget(self.budget) if self.budget else None

    def active_us_at(self, now: int) -> int:
        """Running time up to now, the open interval included."""
        return self.active_us + (max(0, now - self.running_since) if self.running_since is not None else 0)

    def usage_at(self, now: int, *, runtime: bool = True) -> Usage:
        return read_ledger(self.usage).wire(self.active_us_at(now), runtime=runtime)


def session(row: SessionRow, resources: list[Resource], thread_seconds: float | None = None) -> Session:
    """The session on the wire. `thread_seconds` is the running time of all its threads, where it has several."""
    now = clock.now()
    usage = row.usage_at(now)
    lived = ((row.archived_at or now) - row.created_at) / 1e6
    active = usage.active_seconds if thread_seconds is None else thread_seconds
    return Session(
        id=row.id,
        status=row.shown_status,
        agent=row.read_agent(),
        environment_id=row.environment_id,
        title=row.title,
        metadata=row.read_metadata(),
        resources=resources,
        vault_ids=msgspec.json.decode(row.vault_ids),
        budget=row.read_budget(),
        outcome_evaluations=defining.read(row.outcomes),
        stats=Stats(active_seconds=active, duration_seconds=max(0.0, lived)),
        usage=usage,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        archived_at=timestamp(row.archived_at) if row.archived_at is not None else None,
    )


def primary_thread(row: SessionRow) -> SessionThread:
    """The one thread of a single-agent session, which is the session seen from inside."""
    now = clock.now()
    usage = row.usage_at(now, runtime=False)
    ran = bool(row.active_us or row.running_since)
    stats = ThreadStats(
        active_seconds=usage.active_seconds, duration_seconds=((row.archived_at or now) - row.created_at) / 1e6
    )
    return SessionThread(
        id=row.thread_id,
        session_id=row.id,
        agent=thread_agent(row.read_agent()),
        status=row.shown_status,
        stats=stats if ran else None,
        usage=usage if row.active_us else None,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        archived_at=timestamp(row.archived_at) if row.archived_at is not None else None,
    )


def snapshot_tx(agent: Agent, overrides: AgentWithOverrides | None, catalogue: Catalogue) -> Tx[SessionAgent]:
    """The agent as a session will run it, its roster in full. Raises InvalidRequest for what can't go together."""
    taken = _overridden(agent, overrides, catalogue)
    if overrides is not None and overrides.skills is not UNSET:
        taken.skills = yield from agent_skills.resolve_tx(overrides.skills, "agent.")
    else:
        yield from agent_skills.check_there_tx(taken.skills, "agent.")
    agent_rules.check_references(taken, "agent.")
    taken.multiagent = yield from expand_tx(agent.multiagent, taken)
    yield from agent_skills.check_roster_tx(taken)
    if taken.multiagent is not None and len(encode(taken)) > MAX_SNAPSHOT:
        raise InvalidRequest(f"agent: with its roster it is larger than {MAX_SNAPSHOT // 1024**2} MiB")
    return taken


def _overridden(agent: Agent, overrides: AgentWithOverrides | None, catalogue: Catalogue) -> SessionAgent:
    """An override replaces its whole field; null and [] clear."""
    taken = SessionAgent(
        id=agent.id,
        version=agent.version,
        name=agent.name,
        description=agent.description,
        model=agent.model,
        system=agent.system,
        tools=agent.tools,
        mcp_servers=agent.mcp_servers,
        skills=agent.skills,
        execution_identity=agent.execution_identity,
    )
    if overrides is None:
        return taken
    if overrides.model is None:
        raise InvalidRequest("agent.model: an agent needs a model", error_code="agent_model_required")
    if not isinstance(overrides.model, Unset):
        taken.model = resolve.model(overrides.model, catalogue, agent.model)
    if overrides.system is not UNSET:
        taken.system = overrides.system or None
    if overrides.tools is not UNSET:
        taken.tools = resolve.tools(overrides.tools, "agent.")
    if overrides.mcp_servers is not UNSET:
        taken.mcp_servers = resolve_mcp.servers(overrides.mcp_servers, "agent.")
    return taken
