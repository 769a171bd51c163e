"""Who calls the MCP server: an agent, somebody with a key of a tenant, or somebody with one of the server.

An agent's session is believed only as far as it narrows what that agent may see. It must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hostler.errors import AuthenticationFailed
from hostler.runbooks.registry.agents import RegisteredAgents
from hostler.services.keys import Keys


class Caller(NamedTuple):
    """`scope` is the one tenant whose things are there for it; None sees all. `session_id` is the session that an
    agent says it calls from. `base_url` is this server as the caller knows it."""

    key_id: str
    name: str
    scope: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    base_url: str = ""

    @property
    def kind(self) -> str:
        if self.agent_id is not None:
            return "agent"
        return "server" if self.scope is None else "tenant"


class McpCallers:
    def __init__(self, keys: Keys, agents: RegisteredAgents) -> None:
        self._keys = keys
        self._agents = agents

    async def verify(self, secrets: Iterable[str], session_id: str | None, base_url: str) -> Caller:
        """Whose the first valid key is. Raises AuthenticationFailed."""
        for secret in secrets:
            if not secret:
                continue
            if (agent := await self._agents.verify_key(secret)) is not None:
                return Caller(agent.id, agent.name, agent.tenant_id, agent.id, session_id, base_url)
            if (known := await self._keys.verify(secret)) is not None:
                return Caller(known.id, known.name or known.id, known.tenant_id, base_url=base_url)
        raise AuthenticationFailed(
            "A valid key is expected: Authorization: Bearer <key of an agent, tenant or server>."
        )
