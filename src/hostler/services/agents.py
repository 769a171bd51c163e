"""Agents: versioned, never deleted. It must not know sessions: they take a snapshot of what `agent_rows` reads."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import bindparam, insert, update

from hostler import clock
from hostler.errors import Conflict, InvalidRequest
from hostler.ids import new_id
from hostler.models.catalogue import Catalogue
from hostler.services import agent_rules, agent_skills, resolve, resolve_mcp, rosters
from hostler.services.agent_rows import JOINED, find_tx, missing, read_agent
from hostler.services.metadata import merge
from hostler.services.paging import Between, Slice, page_of, read_cursor, slice_of
from hostler.services.reading import rows
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import agent_versions, agents
from hostler.wire.agents import Agent, AgentCreate, AgentUpdate, ServiceAccountIdentity
from hostler.wire.base import UNSET, Unset, encode, timestamp

_INSERT = insert(agents)
_INSERT_VERSION = insert(agent_versions)
_BUMP = (
    update(agents).where(agents.c.id == bindparam("key")).values(version=bindparam("v"), updated_at=bindparam("now"))
)
_ARCHIVE = (
    update(agents)
    .where(agents.c.id == bindparam("key"), agents.c.archived_at.is_(None))
    .values(archived_at=bindparam("now"), updated_at=bindparam("now"))
)


class Agents:
    def __init__(self, store: Store, catalogue: Catalogue, programs: Collection[str] = ()) -> None:
        """`programs` are the names of the stdio MCP servers that are configured here."""
        self._store = store
        self._catalogue = catalogue
        self._programs = programs

    async def create(self, params: AgentCreate) -> Agent:
        resolve.refuse_identity(params.execution_identity)
        resolve_mcp.check_programs(params.mcp_servers, self._programs)
        now = clock.now()
        agent = Agent(
            id=new_id("agent"),
            version=1,
            name=params.name,
            description=params.description or None,
            model=resolve.model(params.model, self._catalogue),
            system=params.system or None,
            tools=resolve.tools(params.tools),
            mcp_servers=resolve_mcp.servers(params.mcp_servers),
            skills=[],
            execution_identity=ServiceAccountIdentity(),
            metadata=params.metadata or {},
            created_at=timestamp(now),
            updated_at=timestamp(now),
        )

        multiagent, at = rosters.sent(params.multiagent or UNSET, params.callable_agents or UNSET)

        def tx() -> Tx[None]:
            agent.skills = yield from agent_skills.resolve_tx(params.skills)
            agent_rules.check_references(agent)
            agent.multiagent = yield from rosters.pin_tx(multiagent or None, at, agent, None)
            row = {"id": agent.id, "version": 1, "created_at": now, "updated_at": now, "archived_at": None}
            yield _INSERT, row
            yield _INSERT_VERSION, _version_row(agent, now)

        await self._store.write(tx)
        return agent

    async def retrieve(self, agent_id: str, version: int | None = None) -> Agent:
        return await self._store.read(lambda: find_tx(agent_id, version))

    async def update(self, agent_id: str, params: AgentUpdate) -> Agent:
        """Make a new version, unless nothing would change. A given `version` must be the current one."""
        resolve.refuse_identity(params.execution_identity)
        resolve_mcp.check_programs(params.mcp_servers, self._programs)
        now = clock.now()

        def tx() -> Tx[Agent]:
            current = yield from find_tx(agent_id)
            if params.version and params.version != current.version:
                raise Conflict(f"version: {params.version} was given, but agent {agent_id} is at {current.version}")
            if current.archived_at is not None:
                raise InvalidRequest(f"Agent {agent_id} is archived and can't be updated.")
            changed = _apply(current, params, self._catalogue)
            if params.skills is not UNSET:
                changed.skills = yield from agent_skills.resolve_tx(params.skills)
            agent_rules.check_references(changed)
            yield from _delegate_tx(changed, current, params)
            if changed == current:
                return current
            changed.version, changed.updated_at = current.version + 1, timestamp(now)
            changed.multiagent = rosters.repinned(changed.multiagent, agent_id, changed.version)
            yield _BUMP, {"key": agent_id, "v": changed.version, "now": now}
            yield _INSERT_VERSION, _version_row(changed, now)
            return changed

        return await self._store.write(tx)

    async def archive(self, agent_id: str) -> Agent:
        now = clock.now()

        def tx() -> Tx[Agent]:
            yield _ARCHIVE, {"key": agent_id, "now": now}
            return (yield from find_tx(agent_id))

        return await self._store.write(tx)

    async def list(self, *, limit: int, page: str | None, between: Between, archived: bool) -> Slice:
        cursor = read_cursor(page, "desc", between)
        statement = JOINED.where(agent_versions.c.version == agents.c.version, *between.on(agents.c.created_at))
        if not archived:
            statement = statement.where(agents.c.archived_at.is_(None))
        paged = page_of(statement, agents.c.created_at, agents.c.id, order="desc", limit=limit, cursor=cursor)
        found = await self._store.read(lambda: rows(paged))
        cut = slice_of(found, order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[read_agent(row) for row in cut.rows])

    async def versions(self, agent_id: str, *, limit: int, page: str | None) -> Slice:
        """Newest first; the cursor's place is the version."""
        cursor = read_cursor(page, "desc")
        statement = JOINED.where(agents.c.id == agent_id)
        place, key = agent_versions.c.version, agent_versions.c.agent_id
        paged = page_of(statement, place, key, order="desc", limit=limit, cursor=cursor)
        found = await self._store.read(lambda: rows(paged))
        if not found and cursor is None:
            raise missing(agent_id)
        cut = slice_of([(row[0], row[5], row) for row in found], order="desc", limit=limit, cursor=cursor)
        return cut._replace(rows=[read_agent(row) for _, _, row in cut.rows])


def _version_row(agent: Agent, now: int) -> dict[str, object]:
    return {"agent_id": agent.id, "version": agent.version, "created_at": now, "body": encode(agent)}


def _apply(agent: Agent, params: AgentUpdate, catalogue: Catalogue) -> Agent:
    changed = msgspec.structs.replace(agent)
    if not isinstance(params.name, Unset):
        changed.name = params.name
    if not isinstance(params.model, Unset):
        changed.model = resolve.model(params.model, catalogue, agent.model)
    if params.description is not UNSET:
        changed.description = params.description or None
    if params.system is not UNSET:
        changed.system = params.system or None
    if params.tools is not UNSET:
        changed.tools = resolve.tools(params.tools)
    if params.mcp_servers is not UNSET:
        changed.mcp_servers = resolve_mcp.servers(params.mcp_servers)
    if isinstance(params.metadata, dict):
        changed.metadata = merge(agent.metadata, params.metadata)
    return changed


def _delegate_tx(changed: Agent, current: Agent, params: AgentUpdate) -> Tx[None]:
    multiagent, at = rosters.sent(params.multiagent, params.callable_agents)
    if not isinstance(multiagent, Unset):
        changed.multiagent = yield from rosters.pin_tx(multiagent, at, changed, current.multiagent)
    if changed.model.inference_geo != current.model.inference_geo:
        yield from rosters.check_members_tx(changed)
