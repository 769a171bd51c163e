"""Rows of registered agents, as they are read by those who call agents and those who verify their keys.

It must hold no rules of the API.
"""

from __future__ import annotations

import hashlib
import secrets

import msgspec
from sqlalchemy import and_, bindparam, or_, select

from hostler.errors import NotFound
from hostler.runbooks.registry import references
from hostler.runbooks.registry.finding import called
from hostler.store.sql import Tx
from hostler.store.tables import registered_agents as table
from hostler.store.tables import tenants
from hostler.vault.sealing import Sealer
from hostler.wire.base import UNSET, timestamp
from hostler.wire.usage import BudgetLimit
from hostler.wire.workspace import Agent, AgentKind, AgentVersion

PREFIX = "sk-hostler-agent-"
_c = table.c


class Kept(msgspec.Struct, kw_only=True, omit_defaults=True):
    description: str | None = None
    credentials_ref: str | None = None
    base_url: str | None = None
    environment_id: str | None = None
    vault_ids: list[str] = []
    agent_version: int | None = None
    budget: BudgetLimit | None = None
    versions: list[AgentVersion] = []


_decode = msgspec.json.Decoder(Kept).decode


class RegisteredAgent(msgspec.Struct, frozen=True):
    """An agent that runbooks may call. `secret` is the sealed key of the server at its `base_url`; without a
    `base_url`, it lives on this server."""

    id: str
    tenant_id: str
    name: str
    kind: AgentKind
    external_ref: str
    key_hash: str
    key_hint: str
    body: bytes
    secret: bytes | None
    created_at: int
    updated_at: int

    @property
    def kept(self) -> Kept:
        return _decode(self.body)

    @property
    def native_id(self) -> str:
        return references.native_id(self.external_ref)

    @property
    def base_url(self) -> str | None:
        return self.kept.base_url

    @property
    def environment_id(self) -> str | None:
        return self.kept.environment_id

    @property
    def vault_ids(self) -> list[str]:
        return self.kept.vault_ids

    @property
    def agent_version(self) -> int | None:
        return self.kept.agent_version

    @property
    def budget(self) -> BudgetLimit | None:
        return self.kept.budget

    def server_key(self, sealer: Sealer) -> str | None:
        """The API key of the server where it lives; None for this server. Raises NotOpened."""
        return sealer.open(self.id, bytes(self.secret)).decode() if self.secret is not None else None

    def __repr__(self) -> str:
        return f"RegisteredAgent(id={self.id!r}, name={self.name!r})"


_COLUMNS = tuple(_c[name] for name in RegisteredAgent.__struct_fields__)
ALL = select(*_COLUMNS).order_by(_c.created_at, _c.id)
OF_TENANT = ALL.where(_c.tenant_id == bindparam("t"))
_ONE = ALL.where(_c.id == bindparam("ref"))
_CALLED = ALL.where(or_(_c.id == bindparam("ref"), _c.name == bindparam("ref")))
_BY_KEY = (
    select(*_COLUMNS)
    .join(tenants, and_(tenants.c.id == _c.tenant_id, tenants.c.status == "ACTIVE"))
    .where(_c.key_hash == bindparam("hash"))
)


def find_tx(agent_id: str) -> Tx[RegisteredAgent]:
    """Raises NotFound."""
    rows = yield _ONE, {"ref": agent_id}
    if not rows:
        raise NotFound(f"Agent {agent_id} was not found.")
    return RegisteredAgent(*rows[0])


def find_called_tx(ref: str, scope: str | None) -> Tx[RegisteredAgent]:
    """By id or name, within a tenant or in all of them. Raises NotFound, InvalidRequest."""
    rows = yield _CALLED, {"ref": ref}
    mine = (RegisteredAgent(*row) for row in rows)
    found = called((each for each in mine if scope in (None, each.tenant_id)), ref)
    if found is None:
        raise NotFound(f"Agent {ref} was not found.")
    return found


def of_key_tx(secret: str) -> Tx[RegisteredAgent | None]:
    """Whose key it is, while its tenant is active."""
    if not secret.startswith(PREFIX):
        return None
    rows = yield _BY_KEY, {"hash": hashed(secret)}
    return RegisteredAgent(*rows[0]) if rows else None


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def shown(row: RegisteredAgent, *, key: str | None = None, mcp_url: str | None = None) -> Agent:
    """`key` is its new API key, to be shown this once."""
    kept = row.kept
    return Agent(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        kind=row.kind,
        external_ref=row.external_ref,
        description=kept.description,
        credentials_ref=kept.credentials_ref,
        mcp_url=mcp_url,
        api_key=key,
        api_key_hint=row.key_hint,
        base_url=kept.base_url,
        environment_id=kept.environment_id,
        vault_ids=kept.vault_ids or UNSET,
        agent_version=kept.agent_version,
        budget=kept.budget,
        versions=kept.versions or UNSET,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
    )
