"""Sessions: requests and the object. It must not know the rules of a session's life."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hostler.wire.agents import ModelParams, ServerList, SessionAgent, SkillList, SystemPrompt, ToolList
from hostler.wire.base import UNSET, Metadata, MetadataPatch, ModelId, Params, Reference, Unset, Version, Wire
from hostler.wire.events import ClientEvent
from hostler.wire.resources import Resource, ResourceParams
from hostler.wire.usage import BudgetLimit, SessionStatus, Stats, Usage

MAX_VAULTS = 50
Title = Annotated[str, Meta(max_length=512)]


class AgentReference(Params, tag="agent", tag_field="type", kw_only=True):
    id: Reference
    version: Version | Unset | None = UNSET


class AgentWithOverrides(Params, tag="agent_with_overrides", tag_field="type", kw_only=True):
    """Absent inherits, a value replaces the whole field for this session, null or `[]` clears it."""

    id: Reference
    version: Version | Unset | None = UNSET
    model: ModelId | ModelParams | Unset | None = UNSET
    system: SystemPrompt | Unset | None = UNSET
    tools: ToolList | Unset | None = UNSET
    mcp_servers: ServerList | Unset | None = UNSET
    skills: SkillList | Unset | None = UNSET


class SessionCreate(Params, kw_only=True):
    agent: Reference | AgentReference | AgentWithOverrides
    environment_id: Reference
    title: Title | None = None
    metadata: Metadata | None = None
    resources: Annotated[list[ResourceParams], Meta(max_length=500)] | None = None
    initial_events: Annotated[list[ClientEvent], Meta(max_length=50)] | None = None
    vault_ids: Annotated[list[Reference], Meta(max_length=MAX_VAULTS)] | None = None
    budget: BudgetLimit | None = None


class SessionAgentUpdate(Params, kw_only=True):
    tools: ToolList | Unset | None = UNSET
    mcp_servers: ServerList | Unset | None = UNSET


class SessionUpdate(Params, kw_only=True):
    title: Title | Unset | None = UNSET
    metadata: MetadataPatch | Unset | None = UNSET
    agent: SessionAgentUpdate | Unset | None = UNSET
    budget: BudgetLimit | Unset | None = UNSET
    vault_ids: list[str] | Unset | None = UNSET


class OutcomeEvaluation(Wire, tag="outcome_evaluation", tag_field="type", kw_only=True):
    """How far an outcome is. `result` is pending, running or evaluating, and then how it ended."""

    outcome_id: str
    description: str
    iteration: int = 0
    result: str = "pending"
    explanation: str | None = None
    completed_at: str | None = None


class Session(Wire, tag="session", tag_field="type", kw_only=True):
    id: str
    status: SessionStatus
    agent: SessionAgent
    environment_id: str
    title: str | None
    metadata: dict[str, str]
    resources: list[Resource]
    vault_ids: list[str]
    budget: BudgetLimit | None = None
    outcome_evaluations: list[OutcomeEvaluation]
    stats: Stats
    usage: Usage
    created_at: str
    updated_at: str
    archived_at: str | None = None


class SessionDeleted(Wire, tag="session_deleted", tag_field="type", kw_only=True):
    id: str
