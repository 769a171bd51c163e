"""Who calls the Workspace API: somebody with a key of the server, or with one of a tenant. It must not know HTTP.

An agent's key is for the MCP server, and opens nothing here.
"""

from __future__ import annotations

from typing import NamedTuple

from hostler.errors import AuthenticationFailed, PermissionDenied
from hostler.runbooks.registry.agents import RegisteredAgents
from hostler.services.keys import Keys


class Caller(NamedTuple):
    """`scope` is the one tenant whose things are there for it; None sees all."""

    key_id: str
    name: str
    scope: str | None = None

    def must_be_wide(self, what: str) -> None:
        """Raises PermissionDenied for a tenant's key."""
        if self.scope is not None:
            raise PermissionDenied(f"{what} wants a key of the server; this one is for one tenant.")


class WorkspaceCallers:
    def __init__(self, keys: Keys, agents: RegisteredAgents) -> None:
        self._keys = keys
        self._agents = agents

    async def verify(self, secret: str) -> Caller:
        """Raises AuthenticationFailed, PermissionDenied."""
        if secret and (known := await self._keys.verify(secret)) is not None:
            return Caller(known.id, known.name, known.tenant_id)
        if await self._agents.verify_key(secret) is not None:
            raise PermissionDenied("This is an agent's key: it opens the MCP server at /mcp alone.")
        raise AuthenticationFailed("A valid API key is expected: Authorization: Bearer <key>.")
