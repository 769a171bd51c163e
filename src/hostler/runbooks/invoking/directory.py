"""Finds a registered agent with the key of its server, and whose a task is. It must not call anybody."""

from __future__ import annotations

import msgspec

from hostler.errors import NotFound
from hostler.runbooks import tasks
from hostler.runbooks.invoking.agents import Place
from hostler.runbooks.invoking.conversation import Target
from hostler.runbooks.registry import agent_rows, entities, tenants
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.vault.sealing import NotOpened, Sealer


class Registered:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def target(self, agent_id: str) -> Target:
        """Raises NotFound."""
        found = await self._store.read(lambda: agent_rows.find_tx(agent_id))
        try:
            key = found.server_key(self._sealer)
        except NotOpened as problem:
            raise NotFound(f"The key of agent {agent_id}'s server can't be opened: give it again.") from problem
        return Target(
            agent_id=found.id,
            tenant_id=found.tenant_id,
            name=found.name,
            native_id=found.native_id,
            base_url=found.base_url,
            api_key=key or "",
            version=found.agent_version,
            environment_id=found.environment_id,
            vault_ids=found.vault_ids,
            budget=msgspec.to_builtins(found.budget) if found.budget is not None else None,
        )

    async def place(self, task_id: str) -> Place:
        """Raises NotFound."""
        return await self._store.read(lambda: place_tx(task_id))


def place_tx(task_id: str) -> Tx[Place]:
    row = yield from tasks.find_tx(task_id)
    tenant = yield from tenants.find_tx(row.tenant_id)
    entity = ""
    if row.entity_id is not None:
        entity = (yield from entities.find_tx(row.entity_id, row.tenant_id)).slug
    root = row if row.parent_id is None else (yield from tasks.find_tx(task_id.partition(":")[0]))
    period = msgspec.json.decode(root.context).get("period")
    return Place(row.tenant_id, tenant.slug, entity, period if isinstance(period, str) else None)
