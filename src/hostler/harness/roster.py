"""Whom a session's agent may delegate to, read from its snapshot. It must not know threads."""

from __future__ import annotations

import msgspec

from hostler.wire.agents import (
    SessionAgent,
    SessionMultiagent20261001,
    SessionMultiagentCoordinator,
    SessionTeamEnabled,
    SessionThreadAgent,
)
from hostler.wire.multiagent import Advisor, AdvisorEnabled, InlineEnabled


class Member(msgspec.Struct, frozen=True):
    """An agent of the roster; `body` is the `agent` of a thread that runs it, as JSON."""

    id: str
    name: str
    description: str | None
    body: bytes


class Roster(msgspec.Struct, frozen=True):
    """`inline`: the coordinator may make up agents. `advisor` is the model that it may ask for advice."""

    members: list[Member]
    inline: bool = False
    advisor: str | None = None


def roster_of(agent: SessionAgent) -> Roster | None:
    team = agent.multiagent
    if isinstance(team, SessionMultiagentCoordinator):
        advisor = next((entry.model for entry in team.agents if isinstance(entry, Advisor)), None)
        return Roster(
            [_member(entry) for entry in team.agents if isinstance(entry, SessionThreadAgent)], False, advisor
        )
    if isinstance(team, SessionMultiagent20261001):
        advisor = team.advisor.model if isinstance(team.advisor, AdvisorEnabled) else None
        if not isinstance(team.subagents, SessionTeamEnabled):
            return Roster([], advisor=advisor)
        members = [_member(entry) for entry in team.subagents.predefined_agents]
        inline = isinstance(team.subagents.inline_agents, InlineEnabled)
        return Roster(members, inline=inline, advisor=advisor)
    return None


def _member(agent: SessionThreadAgent) -> Member:
    return Member(agent.id, agent.name, agent.description, msgspec.json.encode(agent))
