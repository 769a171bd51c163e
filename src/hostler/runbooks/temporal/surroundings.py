"""What a Temporal worker's environment says of the servers that it calls, and where a registered agent is found.

The names are those that `ntro` reads, and ANTHROPIC_BASE_URL. It must not show a key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from hostler.runbooks.invoking.conversation import Target
from hostler.runbooks.invoking.remote import Down, Http, Refused, Remote, patiently

HOSTED = "https://api.anthropic.com"
MAX_DOCUMENT_MB = 100
REGISTRY_SECONDS = 60.0
KIND = "claude_managed"


class NotSet(Exception):
    """The worker, or the call, lacks something; the message says what to set."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """`workspace` is the URL of the Workspace API, with its `/v1`."""

    workspace: str
    workspace_key: str
    base_url: str
    api_key: str
    tenant: str
    environment_id: str | None
    vault_ids: list[str]
    max_bytes: int

    def __repr__(self) -> str:
        return f"Surroundings({self.workspace!r}, {self.base_url!r})"

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Surroundings:
        """Raises NotSet."""
        for name in ("NTRO_HOST", "NTRO_API_KEY", "ANTHROPIC_API_KEY"):
            if not environ.get(name):
                raise NotSet(f"{name} is not set in this worker's environment")
        vaults = [each.strip() for each in environ.get("NTRO_ANTHROPIC_VAULT_IDS", "").split(",")]
        return cls(
            workspace=environ["NTRO_HOST"].rstrip("/"),
            workspace_key=environ["NTRO_API_KEY"],
            base_url=(environ.get("ANTHROPIC_BASE_URL") or HOSTED).rstrip("/"),
            api_key=environ["ANTHROPIC_API_KEY"],
            tenant=environ.get("NTRO_TENANT_SLUG", ""),
            environment_id=environ.get("NTRO_ANTHROPIC_ENVIRONMENT_ID") or None,
            vault_ids=[each for each in vaults if each],
            max_bytes=MAX_DOCUMENT_MB * 1024 * 1024,
        )

    def tenant_of(self, asked: str | None) -> str:
        """A worker has the database of one tenant. Raises NotSet."""
        if self.tenant and asked and asked != self.tenant:
            raise NotSet(f"this worker is of tenant {self.tenant}: it can't call an agent for {asked}")
        return asked or self.tenant


async def find_agent(http: Http, around: Surroundings, agent_id: str) -> Target:
    """A registered agent, as the Workspace API tells of it. Raises NotSet, Refused, Down."""
    workspace = Remote(http, around.workspace, around.workspace_key, bearer=True)
    path = f"/workspace/registry/agents/{quote(agent_id, safe='')}"
    try:
        row = await patiently(lambda: workspace.get(path), until=asyncio.get_running_loop().time() + REGISTRY_SECONDS)
    except Refused as problem:
        raise Refused(problem.status, f"{around.workspace}: agent {agent_id}: {problem}") from problem
    except Down as problem:
        raise Down(f"{around.workspace}: {problem}") from problem
    return _target(around, row)


def _target(around: Surroundings, row: dict[str, Any]) -> Target:
    if row.get("kind") != KIND:
        raise NotSet(f"agent {row.get('name')} is of kind {row.get('kind')}; {KIND} can be called")
    lives_at = str(row.get("baseUrl") or "").rstrip("/")
    if lives_at and lives_at != around.base_url:
        raise NotSet(
            f"agent {row.get('name')} lives at {lives_at}, and this worker has the key of {around.base_url}: "
            "set ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY"
        )
    here = _origin(around.workspace) == _origin(around.base_url)  # a server of ours, which has both APIs
    return Target(
        agent_id=str(row["id"]),
        tenant_id=str(row.get("tenantId") or ""),
        name=str(row.get("name") or row["id"]),
        native_id=str(row.get("externalRef") or "").rpartition("/")[2],
        base_url=None if here else around.base_url,
        version=row.get("agentVersion"),
        environment_id=row.get("environmentId") or around.environment_id,
        vault_ids=row.get("vaultIds") or around.vault_ids,
        budget=row.get("budget"),
    )


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
