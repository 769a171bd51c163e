"""Tools of tenants, entities, workflows, runbooks, registered agents and data connections.

They do what the Workspace API does, with its rules, and never show a key. They must hold no rules of their own.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from hostler.errors import InvalidRequest, PermissionDenied
from hostler.runbooks.room import Runbooks
from hostler.wire.base import Params, Unset
from hostler.wire.workspace import (
    Config,
    ConnectionCreate,
    DataPlatform,
    EntityCreate,
    Key,
    Ownership,
    Provider,
    Slug,
    TenantCreate,
    Text,
    Title,
    WorkflowCreate,
    WorkflowUpdate,
)
from hostler.workspace.mcp.callers import Caller
from hostler.workspace.mcp.hiding import hidden
from hostler.workspace.mcp.tool import Tool
from hostler.workspace.mcp.words import EntityRef, Nothing, TenantRef, WorkflowRef

Cron = Annotated[Key, Meta(description='Five fields, such as "0 8 5 * *"; without one it runs by hand alone.')]
Zone = Annotated[Key, Meta(description="Such as Europe/London; UTC when there is none.")]
AgentRef = Annotated[Key, Meta(description="The id of a registered agent.")]


class OfTenant(Params):
    tenant_id: TenantRef | None = None


class NewTenant(Params):
    name: Title
    slug: Slug
    data_platform: DataPlatform | None = None
    data_platform_config_id: Annotated[Key, Meta(description="For a platform other than managed-postgres.")] | None = (
        None
    )


class NewEntity(Params):
    tenant_id: TenantRef
    name: Title
    slug: Slug
    type: Title | None = None
    jurisdiction: Title | None = None
    currency: Title | None = None
    schema: Title | None = None


class NewWorkflow(Params):
    runbook_slug: Annotated[Slug, Meta(description="A deployed runbook; see ntro_runbook_list.")]
    entity_id: EntityRef
    tenant_id: TenantRef | None = None
    runbook_version: (
        Annotated[Key, Meta(description="Keep to this version; without one, what was deployed last.")] | None
    ) = None
    name: Title | None = None
    description: Text | None = None
    schedule: Cron | None = None
    timezone: Zone | None = None
    default_config: Config | None = None


class OfWorkflow(Params):
    workflow_id: WorkflowRef


class ChangedWorkflow(OfWorkflow):
    """What is left out stays; null clears."""

    name: Title | Unset | None = UNSET
    description: Text | Unset | None = UNSET
    schedule: Cron | Unset | None = UNSET
    timezone: Zone | Unset | None = UNSET
    default_config: Config | Unset | None = UNSET


class RunbookList(Params):
    search: Annotated[Key, Meta(description="Words of its slug, name or description.")] | None = None


class OfRunbook(Params):
    slug: Key
    version: Key | None = None


class OfAgent(Params):
    agent_id: AgentRef


class OfIntegration(Params):
    id: Key


class NewIntegration(Params):
    name: Title
    provider: Provider
    config: Config = msgspec.field(default_factory=dict)
    region: Title | None = None
    ownership: Ownership = "SELF_MANAGED"


class Registry:
    def __init__(self, room: Runbooks) -> None:
        self._room = room

    def tools(self) -> list[Tool]:
        return [
            Tool("ntro_tenant_create", "Make a tenant: a client of the firm.", NewTenant, self.create_tenant),
            Tool("ntro_tenant_list", "Tenants that your key opens.", Nothing, self.tenants, agents=True, reads=True),
            Tool("ntro_tenant_get", "A tenant with its configuration; without an id, the one that your key is for.",
                 OfTenant, self.tenant, agents=True, reads=True),
            Tool("ntro_entity_create", "Make an entity, such as a fund, of a tenant.", NewEntity, self.create_entity),
            Tool("ntro_entity_list", "Entities, of one tenant or of all that your key opens.", OfTenant, self.entities,
                 agents=True, reads=True),
            Tool("ntro_workflow_create", "Bind a deployed runbook to an entity, on a schedule if you like.",
                 NewWorkflow, self.create_workflow),
            Tool("ntro_workflow_list", "The workflows of the tenants that your key opens.", Nothing, self.workflows,
                 agents=True, reads=True),
            Tool("ntro_workflow_get", "A workflow.", OfWorkflow, self.workflow, agents=True, reads=True),
            Tool("ntro_workflow_update", "Change a workflow; null clears a field, what is left out stays.",
                 ChangedWorkflow, self.update_workflow),
            Tool("ntro_runbook_list", "The deployed runbooks.", RunbookList, self.runbooks, agents=True, reads=True),
            Tool("ntro_runbook_get", "A deployed runbook: what it is for, its steps and configuration.", OfRunbook,
                 self.runbook, agents=True, reads=True),
            Tool("ntro_agent_list", "The registered agents.", OfTenant, self.agents, reads=True),
            Tool("ntro_agent_get", "A registered agent, without its key.", OfAgent, self.agent, reads=True),
            Tool("ntro_integration_create", "Register a data connection; with a key of the server.", NewIntegration,
                 self.create_integration),
            Tool("ntro_integration_test", "Whether a data connection works; with a key of the server.", OfIntegration,
                 self.test_integration),
        ]  # fmt: skip

    # -- tenants and entities --

    async def create_tenant(self, caller: Caller, params: NewTenant) -> Any:
        wide(caller, "Making a tenant")
        given = params.data_platform_config_id
        if params.data_platform is None and given is not None:
            raise InvalidRequest(
                "data_platform: Field required with data_platform_config_id: snowflake, microsoft-fabric"
            )
        platform = params.data_platform or "managed-postgres"
        asked = TenantCreate(name=params.name, slug=params.slug, data_platform=platform, data_platform_config_id=given)
        return await self._room.tenants.create(asked)

    async def tenants(self, caller: Caller, params: Nothing) -> Any:
        return hidden(caller, msgspec.to_builtins(await self._room.tenants.all(caller.scope)))

    async def tenant(self, caller: Caller, params: OfTenant) -> Any:
        ref = params.tenant_id or caller.scope
        if ref is None:
            raise InvalidRequest("tenant_id: Field required: this key is for no single tenant")
        return hidden(caller, msgspec.to_builtins(await self._room.tenants.get(ref, caller.scope)))

    async def create_entity(self, caller: Caller, params: NewEntity) -> Any:
        asked = EntityCreate(
            name=params.name, slug=params.slug, type=params.type, jurisdiction=params.jurisdiction,
            currency=params.currency, schema_=params.schema,
        )  # fmt: skip
        return await self._room.entities.create(params.tenant_id, asked, caller.scope)

    async def entities(self, caller: Caller, params: OfTenant) -> Any:
        return hidden(caller, msgspec.to_builtins(await self._room.entities.all(params.tenant_id, caller.scope)))

    # -- workflows and runbooks --

    async def create_workflow(self, caller: Caller, params: NewWorkflow) -> Any:
        entity = params.entity_id
        if params.tenant_id is not None:  # entities of several tenants may have the same slug
            entity = (await self._room.entities.get(params.tenant_id, entity, caller.scope)).id
        asked = WorkflowCreate(
            runbook_slug=params.runbook_slug, entity_id=entity, runbook_version=params.runbook_version,
            name=params.name, description=params.description, schedule=params.schedule, timezone=params.timezone,
            default_config=params.default_config,
        )  # fmt: skip
        return await self._room.workflows.create(asked, caller.scope)

    async def workflows(self, caller: Caller, params: Nothing) -> Any:
        return hidden(caller, msgspec.to_builtins(await self._room.workflows.all(caller.scope)))

    async def workflow(self, caller: Caller, params: OfWorkflow) -> Any:
        return hidden(caller, msgspec.to_builtins(await self._room.workflows.get(params.workflow_id, caller.scope)))

    async def update_workflow(self, caller: Caller, params: ChangedWorkflow) -> Any:
        asked = WorkflowUpdate(
            name=params.name, description=params.description, schedule=params.schedule, timezone=params.timezone,
            default_config=params.default_config,
        )  # fmt: skip
        return await self._room.workflows.update(params.workflow_id, asked, caller.scope)

    async def runbooks(self, caller: Caller, params: RunbookList) -> Any:
        return await self._room.catalogue.all({"search": params.search})

    async def runbook(self, caller: Caller, params: OfRunbook) -> Any:
        return await self._room.catalogue.get(params.slug, params.version)

    # -- agents and integrations --

    async def agents(self, caller: Caller, params: OfTenant) -> Any:
        return await self._room.registered.all(params.tenant_id, caller.scope)

    async def agent(self, caller: Caller, params: OfAgent) -> Any:
        return await self._room.registered.get(params.agent_id, caller.scope)

    async def create_integration(self, caller: Caller, params: NewIntegration) -> Any:
        wide(caller, "Registering a data connection")
        asked = ConnectionCreate(
            name=params.name, provider=params.provider, ownership=params.ownership, region=params.region,
            config=params.config,
        )  # fmt: skip
        return await self._room.connections.create(asked)

    async def test_integration(self, caller: Caller, params: OfIntegration) -> Any:
        wide(caller, "Testing a data connection")
        return await self._room.connections.test(params.id)


def wide(caller: Caller, what: str) -> None:
    """Raises PermissionDenied for a key of one tenant."""
    if caller.scope is not None:
        raise PermissionDenied(f"{what} wants a key of the server; this one is for one tenant.")
