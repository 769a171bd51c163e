"""The packages that the pre-built skills of a session's agents need. It must not build them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostler.harness.wanted import Wanted
from hostler.sandbox.layers.packages import PackageSet
from hostler.skills import requirements
from hostler.wire.agents import (
    SessionAgent,
    SessionMultiagent20261001,
    SessionMultiagentCoordinator,
    SessionTeamEnabled,
    SessionThreadAgent,
)

if TYPE_CHECKING:
    from hostler.harness.wake import Wake

SLOW = "The packages of the skill {id} are still being installed. The agent goes on without them for now."
FAILED = "The packages of the skill {id} are not available, so its scripts may not run"


def wanted(wake: Wake, wait_seconds: float) -> list[Wanted]:
    """What each skill needs, for all agents of the session: they share its sandbox.

    A layer each: a session has no more than it uses, and one that fails costs one skill. They never contradict each
    other, since all are pinned alike.
    """
    lists = [agent.skills for agent in roster(wake.row.agent)] + [run.agent.skills for run in wake.runs.values()]
    ids = [
        skill.skill_id for skills in (wake.row.agent.skills, *lists) for skill in skills if skill.type == "anthropic"
    ]
    return [
        Wanted(
            id=f"skill {skill_id}",
            packages=PackageSet(lines=lines),
            wait_seconds=wait_seconds,
            slow=SLOW.format(id=skill_id),
            failed=FAILED.format(id=skill_id),
        )
        for skill_id in dict.fromkeys(ids)
        if (lines := requirements.of(skill_id))
    ]


def roster(agent: SessionAgent) -> list[SessionThreadAgent]:
    """The agents that an agent may open threads for."""
    match agent.multiagent:
        case SessionMultiagentCoordinator(agents=agents):
            return [each for each in agents if isinstance(each, SessionThreadAgent)]
        case SessionMultiagent20261001(subagents=SessionTeamEnabled(predefined_agents=agents)):
            return agents
    return []
