"""The registry of agents that runbooks may call, and the keys with which those call back. It must not call one.

Only a key's SHA-256 is kept; the key itself is in the one answer that makes it. The key of another server is sealed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from hostler import clock
from hostler.errors import AlreadyExists, InvalidRequest, PermissionDenied
from hostler.runbooks.registry import agent_rows, references, tenants
from hostler.runbooks.registry.agent_rows import Kept, RegisteredAgent, hashed, new_key, shown
from hostler.runbooks.registry.finding import new_id, sent_again
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import registered_agents as table
from hostler.vault.sealing import Sealer
from hostler.wire.base import timestamp
from hostler.wire.workspace import Agent, AgentCreate, AgentTested, AgentUpdate, AgentVersion, VersionCreate

MAX_VERSIONS = 100
# What reaches beyond a tenant: whoever has a key of one alone must not say where requests and secrets go.
WIDER = ("base_url", "server_key", "environment_id", "vault_ids")
_c = table.c
_SAME_NAME = select(_c.id).where(_c.tenant_id == bindparam("t"), _c.name == bindparam("called"))
_INSERT = insert(table)
_DELETE = delete(table).where(_c.id == bindparam("key"))
_CHANGE = (
    update(table)
    .where(_c.id == bindparam("key"))
    .values(name=bindparam("called"), body=bindparam("anew"), secret=bindparam("sealed"), updated_at=bindparam("now"))
)
_REKEY = (
    update(table)
    .where(_c.id == bindparam("key"))
    .values(key_hash=bindparam("hash"), key_hint=bindparam("hint"), updated_at=bindparam("now"))
)

Probe = Callable[[RegisteredAgent], Awaitable[AgentTested]]


class RegisteredAgents:
    def __init__(self, store: Store, sealer: Sealer, probe: Probe) -> None:
        """`probe` asks an agent's server for it; what is wrong it returns, too."""
        self._store = store
        self._sealer = sealer
        self._probe = probe

    # -- for those who call agents, and whom agents call --

    def find_tx(self, agent_id: str) -> Tx[RegisteredAgent]:
        """Raises NotFound."""
        return agent_rows.find_tx(agent_id)

    async def verify_key(self, secret: str) -> RegisteredAgent | None:
        """The agent with this key, while its tenant is active. Nothing is cached: a revoked key opens nothing."""
        if not secret.startswith(agent_rows.PREFIX):
            return None
        return await self._store.read(lambda: agent_rows.of_key_tx(secret))

    # -- for people --

    async def create(self, params: AgentCreate, scope: str | None = None) -> Agent:
        """Register one, with a new key. Sent again, it is the same one, and its key another: nobody has seen the one
        before."""
        external_ref = references.resolved(params.kind, params.external_ref)
        kept, server_key = _kept(params, scope)
        now, made, key = clock.now(), new_id(), new_key()
        sealed = self._sealer.seal(made, server_key.encode()) if server_key else None

        def tx() -> Tx[Agent]:
            tenant = yield from tenants.find_active_tx(params.tenant_id, scope)
            rows = yield _SAME_NAME, {"t": tenant.id, "called": params.name}
            if rows:
                known = yield from agent_rows.find_tx(rows[0][0])
                there = (known.external_ref, known.kept, known.server_key(self._sealer))
                if there != (external_ref, kept, server_key) or not sent_again(known.created_at, now):
                    raise AlreadyExists(f"name: {tenant.slug} has an agent {params.name!r} already")
                return (yield from _rekey_tx(known, key))
            row = RegisteredAgent(
                made, tenant.id, params.name, params.kind, external_ref, hashed(key), key[-4:],
                msgspec.json.encode(kept), sealed, now, now,
            )  # fmt: skip
            yield _INSERT, msgspec.structs.asdict(row)
            return shown(row, key=key)

        return await self._store.write(tx)

    async def all(self, tenant: str | None = None, scope: str | None = None) -> list[Agent]:
        def tx() -> Tx[list[Agent]]:
            within = scope if tenant is None else (yield from tenants.find_tx(tenant, scope)).id
            rows = yield (agent_rows.ALL if within is None else (agent_rows.OF_TENANT, {"t": within}))
            return [shown(RegisteredAgent(*row)) for row in rows]

        return await self._store.read(tx)

    async def get(self, ref: str, scope: str | None = None) -> Agent:
        return shown(await self._store.read(lambda: agent_rows.find_called_tx(ref, scope)))

    async def update(self, ref: str, params: AgentUpdate, scope: str | None = None) -> Agent:
        _check_wider(params, scope)

        def tx() -> Tx[Agent]:
            row = yield from agent_rows.find_called_tx(ref, scope)
            kept, sealed = _changed(row, params), row.secret
            if isinstance(params.server_key, str):
                sealed = self._sealer.seal(row.id, params.server_key.encode())
            elif params.server_key is None or kept.base_url != row.base_url:
                sealed = None  # a key goes nowhere but to the server that it was given for
            _check_place(kept.base_url, sealed is not None)
            name = params.name if isinstance(params.name, str) else row.name
            others = yield _SAME_NAME, {"t": row.tenant_id, "called": name}
            if any(other[0] != row.id for other in others):
                raise AlreadyExists(f"name: there is an agent {name!r} already")
            anew = msgspec.json.encode(kept)
            yield _CHANGE, {"key": row.id, "called": name, "anew": anew, "sealed": sealed, "now": clock.now()}
            return shown((yield from agent_rows.find_tx(row.id)))

        return await self._store.write(tx)

    async def rotate_key(self, ref: str, scope: str | None = None) -> Agent:
        """Give it another key; the one before opens nothing any more."""
        key = new_key()

        def tx() -> Tx[Agent]:
            return (yield from _rekey_tx((yield from agent_rows.find_called_tx(ref, scope)), key))

        return await self._store.write(tx)

    async def test(self, ref: str, scope: str | None = None) -> AgentTested:
        return await self._probe(await self._store.read(lambda: agent_rows.find_called_tx(ref, scope)))

    async def delete(self, ref: str, scope: str | None = None) -> None:
        def tx() -> Tx[None]:
            yield _DELETE, {"key": (yield from agent_rows.find_called_tx(ref, scope)).id}

        await self._store.write(tx)

    async def add_version(self, ref: str, params: VersionCreate, scope: str | None = None) -> AgentVersion:
        """Note down a version, for the clients that keep such notes. Which version is called is `agentVersion`."""
        now = clock.now()

        def tx() -> Tx[AgentVersion]:
            row = yield from agent_rows.find_called_tx(ref, scope)
            kept = row.kept
            if kept.versions and _is_again(kept.versions[-1], params, row, now):
                return kept.versions[-1]
            if len(kept.versions) >= MAX_VERSIONS:
                raise InvalidRequest(f"An agent may have {MAX_VERSIONS} versions noted down.")
            added = AgentVersion(
                id=new_id(),
                agent_id=row.id,
                version=len(kept.versions) + 1,
                artifact_url=params.artifact_url,
                changelog=params.changelog,
                created_at=timestamp(now),
            )
            anew = msgspec.json.encode(msgspec.structs.replace(kept, versions=[*kept.versions, added]))
            yield _CHANGE, {"key": row.id, "called": row.name, "anew": anew, "sealed": row.secret, "now": now}
            return added

        return await self._store.write(tx)


def _rekey_tx(row: RegisteredAgent, key: str) -> Tx[Agent]:
    yield _REKEY, {"key": row.id, "hash": hashed(key), "hint": key[-4:], "now": clock.now()}
    return shown((yield from agent_rows.find_tx(row.id)), key=key)


def _kept(params: AgentCreate, scope: str | None) -> tuple[Kept, str | None]:
    """What is kept of it, and the key of its server. Raises InvalidRequest, PermissionDenied."""
    _check_wider(params, scope)
    base_url = references.checked_url(params.base_url) if params.base_url is not None else None
    _check_place(base_url, params.server_key is not None)
    kept = Kept(
        description=params.description,
        credentials_ref=params.credentials_ref,
        base_url=base_url,
        environment_id=params.environment_id,
        vault_ids=params.vault_ids or [],
        agent_version=params.agent_version,
        budget=params.budget,
    )
    return kept, params.server_key


def _changed(row: RegisteredAgent, params: AgentUpdate) -> Kept:
    anew: dict[str, Any] = {}
    for field in ("description", "credentials_ref", "environment_id", "agent_version", "budget"):
        if (value := getattr(params, field)) is not msgspec.UNSET:
            anew[field] = value
    if params.vault_ids is not msgspec.UNSET:
        anew["vault_ids"] = params.vault_ids or []
    if isinstance(params.base_url, str):
        anew["base_url"] = references.checked_url(params.base_url)
    elif params.base_url is None:
        anew["base_url"] = None
    return msgspec.structs.replace(row.kept, **anew)


def _check_wider(params: AgentCreate | AgentUpdate, scope: str | None) -> None:
    unsaid = None if isinstance(params, AgentCreate) else msgspec.UNSET
    for field in WIDER if scope is not None else ():
        if getattr(params, field) is not unsaid:
            name = params.__struct_encode_fields__[params.__struct_fields__.index(field)]
            raise PermissionDenied(f"{name}: reaches beyond this key's tenant; use a key of the server")


def _check_place(base_url: str | None, has_key: bool) -> None:
    if has_key and base_url is None:
        raise InvalidRequest("serverKey: is for another server; give its baseUrl, too")
    if base_url is not None and not has_key:
        raise InvalidRequest("serverKey: Field required for an agent on another server")


def _is_again(last: AgentVersion, params: VersionCreate, row: RegisteredAgent, now: int) -> bool:
    same = (last.artifact_url, last.changelog) == (params.artifact_url, params.changelog)
    return same and sent_again(row.updated_at, now)
