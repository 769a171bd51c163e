"""Reads agents at a version, for whoever keeps, pins or snapshots them. It must not write."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, select

from hostler.errors import NotFound
from hostler.services.reading import first
from hostler.store.sql import Row, Tx
from hostler.store.tables import agent_versions, agents
from hostler.wire.agents import Agent
from hostler.wire.base import timestamp

_read = msgspec.json.Decoder(Agent).decode

_COLUMNS = (
    agents.c.id,
    agents.c.created_at,
    agents.c.updated_at,
    agents.c.archived_at,
    agents.c.version,
    agent_versions.c.version,
    agent_versions.c.body,
)
JOINED = select(*_COLUMNS).join(agent_versions, agent_versions.c.agent_id == agents.c.id)
_NEWEST = JOINED.where(agents.c.id == bindparam("id"), agent_versions.c.version == agents.c.version)
_VERSION = JOINED.where(agents.c.id == bindparam("id"), agent_versions.c.version == bindparam("v"))


def find_tx(agent_id: str, version: int | None = None) -> Tx[Agent]:
    """Read an agent at a version, or at its newest. Raises NotFound."""
    if version is None:
        row = yield from first(_NEWEST, {"id": agent_id})
    else:
        row = yield from first(_VERSION, {"id": agent_id, "v": version})
    if row is None:
        raise missing(agent_id, version)
    return read_agent(row)


def read_agent(row: Row) -> Agent:
    """The agent of a row of `JOINED`."""
    agent = _read(row[6])
    if row[3] is not None:
        agent.archived_at = timestamp(row[3])
        if row[4] == row[5]:
            agent.updated_at = timestamp(row[2])
    return agent


def missing(agent_id: str, version: int | None = None) -> NotFound:
    return NotFound(f"Agent {agent_id} was not found." if version is None else f"Agent {agent_id} has no such version.")
