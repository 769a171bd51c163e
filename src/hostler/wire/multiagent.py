"""Whom an agent may delegate to: what a request says of it and what an agent shows, each member pinned to a version.

It must not know agents, whose full definitions a session's roster holds: `wire/agents.py` has those shapes.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hostler.wire.base import UNSET, ModelId, Params, Reference, Unset, Version, Wire

MAX_ROSTER = 20
ADVISOR_NAME = "anthropic.advisor"  # the advisor's name in a roster

# -- requests


class RosterAgentParams(Params, tag="agent", tag_field="type", kw_only=True):
    id: Reference
    version: Version | Unset | None = UNSET


class SelfParams(Params, tag="self", tag_field="type", kw_only=True):
    """The agent that owns the roster."""


class AdvisorParams(Params, tag="advisor", tag_field="type", kw_only=True):
    model: ModelId


PredefinedParams = Reference | RosterAgentParams | SelfParams
RosterEntryParams = Reference | RosterAgentParams | SelfParams | AdvisorParams
PredefinedList = Annotated[list[PredefinedParams], Meta(max_length=MAX_ROSTER)]
CallableList = Annotated[list[RosterEntryParams], Meta(max_length=MAX_ROSTER)]


class MultiagentCoordinatorParams(Params, tag="coordinator", tag_field="type", kw_only=True):
    agents: Annotated[list[RosterEntryParams], Meta(min_length=1, max_length=MAX_ROSTER)]


class Disabled(Params, tag="disabled", tag_field="type", kw_only=True):
    """The same in both directions, for each part that can be switched off."""


class InlineEnabled(Params, tag="enabled", tag_field="type", kw_only=True):
    """The same in both directions."""


InlineAgents = InlineEnabled | Disabled


class TeamEnabledParams(Params, tag="enabled", tag_field="type", kw_only=True):
    """Subagents, and workflows too."""

    inline_agents: InlineAgents | Unset | None = UNSET
    predefined_agents: PredefinedList | Unset | None = UNSET


class AdvisorEnabled(Params, tag="enabled", tag_field="type", kw_only=True):
    """The same in both directions."""

    model: ModelId


TeamParams = TeamEnabledParams | Disabled
MultiagentAdvisor = AdvisorEnabled | Disabled


class Multiagent20261001Params(Params, tag="multiagent_20261001", tag_field="type", kw_only=True):
    subagents: TeamParams | Unset | None = UNSET
    workflows: TeamParams | Unset | None = UNSET
    advisor: MultiagentAdvisor | Unset | None = UNSET


MultiagentParams = MultiagentCoordinatorParams | Multiagent20261001Params

# -- responses


class AgentReference(Wire, tag="agent", tag_field="type", kw_only=True):
    id: str
    version: int


class Advisor(Wire, tag="advisor", tag_field="type", kw_only=True):
    model: str


class MultiagentCoordinator(Wire, tag="coordinator", tag_field="type", kw_only=True):
    """The advisor, if there is one, stands last."""

    agents: list[AgentReference | Advisor]


class TeamEnabled(Wire, tag="enabled", tag_field="type", kw_only=True):
    inline_agents: InlineAgents
    predefined_agents: list[AgentReference]


Team = TeamEnabled | Disabled


class Multiagent20261001(Wire, tag="multiagent_20261001", tag_field="type", kw_only=True):
    subagents: Team
    workflows: Team
    advisor: MultiagentAdvisor


Multiagent = MultiagentCoordinator | Multiagent20261001
