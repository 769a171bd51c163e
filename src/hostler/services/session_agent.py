"""Gives a session's own agent other tools and MCP servers. It must not touch the agent that was saved."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, select

from hostler.errors import InvalidRequest
from hostler.services import agent_rules, resolve, resolve_mcp, rosters
from hostler.services.reading import rows
from hostler.services.snapshots import SessionRow
from hostler.store.sql import Tx
from hostler.store.tables import environments
from hostler.wire.agents import SessionAgent
from hostler.wire.base import UNSET, Unset
from hostler.wire.environments import Environment
from hostler.wire.sessions import SessionAgentUpdate

_ENVIRONMENT = select(environments.c.body).where(environments.c.id == bindparam("id"))
_read_environment = msgspec.json.Decoder(Environment).decode


def changed_tx(row: SessionRow, params: SessionAgentUpdate | Unset | None) -> Tx[SessionAgent | None]:
    """The session's agent with what it was sent, or None when that changes nothing. Raises InvalidRequest."""
    if not isinstance(params, SessionAgentUpdate) or params == SessionAgentUpdate():
        return None
    if row.shown_status in ("running", "rescheduling"):
        raise InvalidRequest("agent: can't be changed while the session is running")
    before = row.read_agent()
    after = msgspec.structs.replace(before)
    if params.tools is not UNSET:
        after.tools = resolve.tools(params.tools, "agent.")
    if params.mcp_servers is not UNSET:
        after.mcp_servers = resolve_mcp.servers(params.mcp_servers, "agent.")
    if after == before:
        return None
    agent_rules.check_references(after, "agent.")
    for (body,) in (yield from rows(_ENVIRONMENT, {"id": row.environment_id})):
        agent_rules.check_network(after, _read_environment(body).config)
    return rosters.with_self(after)
