"""Agents: requests and the versioned object. It must not know sessions, which snapshot an agent."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hostler.wire.base import UNSET, Metadata, MetadataPatch, ModelId, Name, Params, Unset, Version, Wire
from hostler.wire.multiagent import (
    Advisor,
    CallableList,
    Disabled,
    InlineAgents,
    Multiagent,
    MultiagentAdvisor,
    MultiagentParams,
)
from hostler.wire.tools import McpServer, Tool, ToolParams

EffortLevel = Literal["low", "medium", "high", "xhigh", "max"]
Speed = Literal["standard", "fast"]
SystemPrompt = Annotated[str, Meta(max_length=100_000)]
Description = Annotated[str, Meta(max_length=2048)]
MAX_TOOLS = 256


class EffortParams(Params, kw_only=True):
    type: EffortLevel


class ModelParams(Params, kw_only=True):
    id: ModelId
    effort: EffortLevel | EffortParams | Unset | None = UNSET
    speed: Speed | Unset | None = UNSET
    inference_geo: Literal["us", "global"] | Unset | None = UNSET


class Effort(Wire, kw_only=True):
    type: EffortLevel


class ModelConfig(Wire, kw_only=True):
    id: str
    effort: Effort | None = None
    inference_geo: str | None = None
    speed: Speed | None = "standard"


class ServiceAccountIdentity(Params, tag="service_account", tag_field="type", kw_only=True):
    pass


class AwsRoleIdentity(Params, tag="aws_role", tag_field="type", kw_only=True):
    role_arn: Annotated[str, Meta(min_length=1, max_length=2048)]


ExecutionIdentity = ServiceAccountIdentity | AwsRoleIdentity


class SkillParams(Params, kw_only=True):
    type: Literal["anthropic", "custom"]
    skill_id: str
    version: str | Unset | None = UNSET


class Skill(Wire, kw_only=True):
    type: Literal["anthropic", "custom"]
    skill_id: str
    version: str


ToolList = Annotated[list[ToolParams], Meta(max_length=MAX_TOOLS)]
ServerList = Annotated[list[McpServer], Meta(max_length=20)]
SkillList = Annotated[list[SkillParams], Meta(max_length=20)]


class AgentCreate(Params, kw_only=True):
    name: Name
    model: ModelId | ModelParams
    description: Description | None = None
    system: SystemPrompt | None = None
    tools: ToolList | None = None
    mcp_servers: ServerList | None = None
    skills: SkillList | None = None
    multiagent: MultiagentParams | None = None
    callable_agents: CallableList | None = None  # the older name of a coordinator's roster
    metadata: Metadata | None = None
    execution_identity: ExecutionIdentity | None = None


class AgentUpdate(Params, kw_only=True):
    name: Name | Unset = UNSET
    model: ModelId | ModelParams | Unset = UNSET
    description: Description | Unset | None = UNSET
    system: SystemPrompt | Unset | None = UNSET
    tools: ToolList | Unset | None = UNSET
    mcp_servers: ServerList | Unset | None = UNSET
    skills: SkillList | Unset | None = UNSET
    multiagent: MultiagentParams | Unset | None = UNSET
    callable_agents: CallableList | Unset | None = UNSET
    metadata: MetadataPatch | Unset | None = UNSET  # null keeps all, as if left out
    execution_identity: ExecutionIdentity | Unset | None = UNSET
    version: Version | Unset | None = UNSET


class Agent(Wire, tag="agent", tag_field="type", kw_only=True):
    id: str
    version: int
    name: str
    description: str | None
    model: ModelConfig
    system: str | None
    tools: list[Tool]
    mcp_servers: list[McpServer]
    skills: list[Skill]
    multiagent: Multiagent | None = None
    execution_identity: ExecutionIdentity
    metadata: dict[str, str]
    created_at: str
    updated_at: str
    archived_at: str | None = None


class InlineAgent(Wire, tag="inline", tag_field="type", kw_only=True):
    """An agent that a coordinator made up when it opened a thread; it is saved nowhere else."""

    name: str
    description: str | None
    model: ModelConfig
    system: str | None
    tools: list[Tool]
    mcp_servers: list[McpServer]
    skills: list[Skill]
    execution_identity: ExecutionIdentity


class SessionThreadAgent(Wire, tag="agent", tag_field="type", kw_only=True):
    """The snapshot of an agent that a thread runs with."""

    id: str
    version: int
    name: str
    description: str | None
    model: ModelConfig
    system: str | None
    tools: list[Tool]
    mcp_servers: list[McpServer]
    skills: list[Skill]
    execution_identity: ExecutionIdentity


class SessionMultiagentCoordinator(Wire, tag="coordinator", tag_field="type", kw_only=True):
    """The advisor, if there is one, stands last."""

    agents: list[SessionThreadAgent | Advisor]


class SessionTeamEnabled(Wire, tag="enabled", tag_field="type", kw_only=True):
    inline_agents: InlineAgents
    predefined_agents: list[SessionThreadAgent]


SessionTeam = SessionTeamEnabled | Disabled


class SessionMultiagent20261001(Wire, tag="multiagent_20261001", tag_field="type", kw_only=True):
    subagents: SessionTeam
    workflows: SessionTeam
    advisor: MultiagentAdvisor


SessionMultiagent = SessionMultiagentCoordinator | SessionMultiagent20261001


class SessionAgent(Wire, tag="agent", tag_field="type", kw_only=True):
    """The snapshot of an agent that a session runs with, its roster expanded to full agents."""

    id: str
    version: int
    name: str
    description: str | None
    model: ModelConfig
    system: str | None
    tools: list[Tool]
    mcp_servers: list[McpServer]
    skills: list[Skill]
    multiagent: SessionMultiagent | None = None
    execution_identity: ExecutionIdentity
