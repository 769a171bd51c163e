"""Whom an agent may delegate to: pins members to versions when it is saved, expands them when a session starts.

It must not know threads. An own id in a roster means `self`, in whatever form it came: an agent that is read and
sent back shows it as a reference, and a version of its own that had no roster would be no other agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hostler.errors import InvalidRequest, NotFound
from hostler.services import agent_rows
from hostler.store.sql import Tx
from hostler.wire.agents import (
    Agent,
    SessionAgent,
    SessionMultiagent,
    SessionMultiagent20261001,
    SessionMultiagentCoordinator,
    SessionTeam,
    SessionTeamEnabled,
    SessionThreadAgent,
)
from hostler.wire.base import Unset
from hostler.wire.multiagent import (
    ADVISOR_NAME,
    Advisor,
    AdvisorParams,
    AgentReference,
    CallableList,
    Disabled,
    InlineEnabled,
    Multiagent,
    Multiagent20261001,
    Multiagent20261001Params,
    MultiagentAdvisor,
    MultiagentCoordinator,
    MultiagentCoordinatorParams,
    MultiagentParams,
    RosterAgentParams,
    RosterEntryParams,
    Team,
    TeamEnabled,
    TeamEnabledParams,
    TeamParams,
)

Sent = MultiagentParams | Unset | None


def sent(multiagent: Sent, callable_agents: CallableList | Unset | None) -> tuple[Sent, str]:
    """What a request says of delegation and where, for messages: `callable_agents` is a coordinator's roster."""
    if isinstance(callable_agents, Unset) or (callable_agents is None and not isinstance(multiagent, Unset)):
        return multiagent, "multiagent.agents"
    if not isinstance(multiagent, Unset) and multiagent is not None:
        raise InvalidRequest("callable_agents: is the older name of multiagent; send one of the two")
    params = MultiagentCoordinatorParams(agents=callable_agents) if callable_agents else None
    return params, "callable_agents"


def pin_tx(params: MultiagentParams | None, at: str, owner: Agent, stored: Multiagent | None) -> Tx[Multiagent | None]:
    """Resolve what a request sent into references to versions. `stored` is what an update of the same type merges into.

    Raises InvalidRequest for a member that doesn't exist, is archived, delegates itself or is named twice.
    """
    if params is None:
        return None
    if isinstance(params, MultiagentCoordinatorParams):
        return (yield from _coordinator_tx(params, at, owner))
    return (yield from _parts_tx(params, owner, stored if isinstance(stored, Multiagent20261001) else None))


def check_members_tx(agent: Agent) -> Tx[None]:
    """Check what members have to have in common with the agent that results: where inference runs."""
    for reference in _references(agent.multiagent):
        if reference.id == agent.id:
            continue
        member = yield from agent_rows.find_tx(reference.id, reference.version)
        _check_geo(member, agent.model.inference_geo, "multiagent")


def repinned(multiagent: Multiagent | None, agent_id: str, version: int) -> Multiagent | None:
    """The same roster, in which an agent that delegates to itself means its version `version`."""
    if not any(reference.id == agent_id for reference in _references(multiagent)):
        return multiagent
    copy: Multiagent = msgspec.convert(msgspec.to_builtins(multiagent), Multiagent)
    for reference in _references(copy):
        if reference.id == agent_id:
            reference.version = version
    return copy


def expand_tx(multiagent: Multiagent | None, owner: SessionAgent) -> Tx[SessionMultiagent | None]:
    """The roster as a session keeps it: every member in full, `self` as the session runs it, overrides included."""
    if multiagent is None:
        return None
    members: dict[str, SessionThreadAgent] = {owner.id: thread_agent(owner)}
    for reference in _references(multiagent):
        if reference.id not in members:
            member = yield from agent_rows.find_tx(reference.id, reference.version)
            _check_usable(member, owner.model.inference_geo)
            members[member.id] = thread_agent(member)
    if isinstance(multiagent, MultiagentCoordinator):
        entries = [entry if isinstance(entry, Advisor) else members[entry.id] for entry in multiagent.agents]
        return SessionMultiagentCoordinator(agents=entries)
    return SessionMultiagent20261001(
        subagents=_expanded(multiagent.subagents, members),
        workflows=_expanded(multiagent.workflows, members),
        advisor=multiagent.advisor,
    )


def with_self(agent: SessionAgent) -> SessionAgent:
    """The agent with its own entry in its roster as it now is itself, after a session changed its tools."""
    changed: SessionMultiagent | None = agent.multiagent
    if isinstance(changed, SessionMultiagentCoordinator):
        changed = SessionMultiagentCoordinator(agents=[_renewed(entry, agent) for entry in changed.agents])
    elif changed is not None and isinstance(changed.subagents, SessionTeamEnabled):
        team = changed.subagents
        renewed: list[Any] = [_renewed(entry, agent) for entry in team.predefined_agents]
        subagents = SessionTeamEnabled(inline_agents=team.inline_agents, predefined_agents=renewed)
        changed = msgspec.structs.replace(changed, subagents=subagents)
    return msgspec.structs.replace(agent, multiagent=changed)


def thread_agent(agent: Agent | SessionAgent) -> SessionThreadAgent:
    """The agent as one thread runs it, which delegates no further."""
    return SessionThreadAgent(**{field: getattr(agent, field) for field in SessionThreadAgent.__struct_fields__})


def _coordinator_tx(params: MultiagentCoordinatorParams, at: str, owner: Agent) -> Tx[MultiagentCoordinator]:
    advisors = [index for index, entry in enumerate(params.agents) if isinstance(entry, AdvisorParams)]
    if len(advisors) > 1:
        raise InvalidRequest(f"{at}.{advisors[1]}: at most one advisor is allowed")
    entries: list[AgentReference | Advisor] = []
    entries += yield from _members_tx(params.agents, at, owner)
    entries += [Advisor(model=entry.model) for entry in params.agents if isinstance(entry, AdvisorParams)]
    return MultiagentCoordinator(agents=entries)


def _parts_tx(
    params: Multiagent20261001Params, owner: Agent, stored: Multiagent20261001 | None
) -> Tx[Multiagent20261001]:
    if isinstance(params.workflows, TeamEnabledParams):
        raise InvalidRequest(
            "multiagent.workflows: workflows are not supported by this server yet; "
            'leave it out or send {"type": "disabled"}'
        )
    subagents = yield from _team_tx(
        params.subagents, "multiagent.subagents", owner, stored.subagents if stored else None
    )
    return Multiagent20261001(
        subagents=subagents, workflows=Disabled(), advisor=_advisor(params.advisor, stored.advisor if stored else None)
    )


def _team_tx(params: TeamParams | Unset | None, at: str, owner: Agent, stored: Team | None) -> Tx[Team]:
    """Merge one part: what is left out keeps its stored value, null is the default, another `type` starts afresh."""
    if isinstance(params, Unset) and stored is not None:
        return stored
    if isinstance(params, Disabled):
        return Disabled()
    asked = params or TeamEnabledParams()
    kept = stored if isinstance(stored, TeamEnabled) and params is not None else None
    inline = asked.inline_agents
    if isinstance(inline, Unset):
        inline = kept.inline_agents if kept else None
    if isinstance(asked.predefined_agents, Unset):
        members = kept.predefined_agents if kept else []
    else:
        members = yield from _members_tx(asked.predefined_agents or (), f"{at}.predefined_agents", owner)
    if isinstance(inline, Disabled) and not members:
        raise InvalidRequest(f"{at}.predefined_agents: needs at least one agent while inline_agents is disabled")
    return TeamEnabled(inline_agents=inline or InlineEnabled(), predefined_agents=members)


def _advisor(params: MultiagentAdvisor | Unset | None, stored: MultiagentAdvisor | None) -> MultiagentAdvisor:
    if isinstance(params, Unset):
        return stored or Disabled()
    return params or Disabled()


def _members_tx(entries: Sequence[RosterEntryParams], at: str, owner: Agent) -> Tx[list[AgentReference]]:
    """The members in order, without advisors, each at a version."""
    pinned: list[AgentReference] = []
    advised = any(isinstance(entry, AdvisorParams) for entry in entries)
    for index, entry in enumerate(entries):
        if isinstance(entry, AdvisorParams):
            continue
        place = f"{at}.{index}"
        reference = yield from _pinned_tx(entry, place, owner, advised)
        if any(reference.id == other.id for other in pinned):
            raise InvalidRequest(f"{place}: agent {reference.id} is named twice; entries must be distinct agents")
        pinned.append(reference)
    return pinned


def _pinned_tx(entry: RosterEntryParams, at: str, owner: Agent, advised: bool) -> Tx[AgentReference]:
    if isinstance(entry, str):
        entry = RosterAgentParams(id=entry)
    if not isinstance(entry, RosterAgentParams) or entry.id == owner.id:
        return AgentReference(id=owner.id, version=owner.version)
    try:
        member: Agent = yield from agent_rows.find_tx(entry.id, entry.version or None)
    except NotFound as error:
        raise InvalidRequest(f"{at}: {error.message}") from error
    if member.archived_at is not None:
        raise InvalidRequest(f"{at}: agent {member.id} is archived")
    if member.multiagent is not None:
        raise InvalidRequest(f"{at}: agent {member.id} has multiagent itself; only one level is allowed")
    if advised and member.name == ADVISOR_NAME:
        raise InvalidRequest(
            f"{at}: agent {member.id} is named {ADVISOR_NAME}, which is the advisor's name in a roster"
        )
    _check_geo(member, owner.model.inference_geo, at)
    return AgentReference(id=member.id, version=member.version)


def _check_usable(member: Agent, geo: str | None) -> None:
    if member.archived_at is not None:
        raise InvalidRequest(f"agent: agent {member.id} ({member.name}) of its roster is archived; update the roster")
    _check_geo(member, geo, "agent")


def _check_geo(member: Agent, geo: str | None, at: str) -> None:
    if member.model.inference_geo != geo:
        raise InvalidRequest(
            f"{at}: the model of agent {member.id} has inference_geo {member.model.inference_geo or 'null'}, "
            f"the agent that delegates to it {geo or 'null'}; they must be the same"
        )


def _references(multiagent: Multiagent | None) -> Iterator[AgentReference]:
    if isinstance(multiagent, MultiagentCoordinator):
        yield from (entry for entry in multiagent.agents if isinstance(entry, AgentReference))
    elif multiagent is not None:
        for team in (multiagent.subagents, multiagent.workflows):
            if isinstance(team, TeamEnabled):
                yield from team.predefined_agents


def _expanded(team: Team, members: dict[str, SessionThreadAgent]) -> SessionTeam:
    if isinstance(team, Disabled):
        return team
    chosen = [members[reference.id] for reference in team.predefined_agents]
    return SessionTeamEnabled(inline_agents=team.inline_agents, predefined_agents=chosen)


def _renewed(entry: SessionThreadAgent | Advisor, agent: SessionAgent) -> SessionThreadAgent | Advisor:
    return thread_agent(agent) if isinstance(entry, SessionThreadAgent) and entry.id == agent.id else entry
