"""The package layers of the pre-built skills that a session's agent has: built in the background, waited for before the
sandbox starts, and done without when they cannot be had.

A layer that fails must not fail the session: the client is told once, and the agent can still read the skill.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from hostler.harness.drafts import session_error
from hostler.sandbox.contract import Backend, Layer
from hostler.sandbox.packages import Layers, LayerUnavailable, PackageSet
from hostler.skills import requirements
from hostler.wire.agents import (
    SessionAgent,
    SessionMultiagent20261001,
    SessionMultiagentCoordinator,
    SessionTeamEnabled,
    SessionThreadAgent,
)

if TYPE_CHECKING:
    from hostler.harness.run import Run
    from hostler.harness.wake import Wake

REMEMBERED = 4096  # sessions that have been told of a problem
SLOW = "The packages of the skill {id} are still being installed. The agent goes on without them for now."
FAILED = "The packages of the skill {id} are not available, so its scripts may not run: {reason}"


def wanted(wake: Wake) -> dict[str, PackageSet]:
    """Skill id -> what it needs, for all agents of the session: they share its sandbox.

    A layer each: a session has no more than it uses, and one that fails costs one skill. They never contradict each
    other, since all are pinned alike.
    """
    lists = [agent.skills for agent in roster(wake.row.agent)] + [run.agent.skills for run in wake.runs.values()]
    ids = [
        skill.skill_id for skills in (wake.row.agent.skills, *lists) for skill in skills if skill.type == "anthropic"
    ]
    return {skill_id: PackageSet(lines=lines) for skill_id in ids if (lines := requirements.of(skill_id))}


def roster(agent: SessionAgent) -> list[SessionThreadAgent]:
    """The agents that an agent may open threads for."""
    match agent.multiagent:
        case SessionMultiagentCoordinator(agents=agents):
            return [each for each in agents if isinstance(each, SessionThreadAgent)]
        case SessionMultiagent20261001(subagents=SessionTeamEnabled(predefined_agents=agents)):
            return agents
    return []


class SkillLayers:
    """One instance serves all sessions of a process."""

    def __init__(self, layers: Layers, sandboxes: Backend, wait_seconds: float) -> None:
        self._layers = layers
        self._sandboxes = sandboxes
        self._wait_seconds = wait_seconds
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, wake: Wake) -> None:
        """Start to build what is missing; nobody waits for it yet."""
        for packages in wanted(wake).values():
            self._layers.begin(packages)

    async def ready(self, run: Run) -> None:
        """Before a tool call: wait for the layers that a start of the sandbox would have, a bounded while, and tell the
        client of those that are missing. Raises Interrupted."""
        skills = wanted(run.wake)
        if not skills or run.wake.sandbox is not None or await self._sandboxes.find(run.session_id) is not None:
            return  # a live sandbox keeps what it has
        problems = await run.unless_interrupted(self._wait(skills))
        news = [(skill_id, problem) for skill_id, problem in problems if self._new(run.session_id, skill_id)]
        if news:
            await run.append([session_error("unknown_error", problem, "retrying") for _, problem in news])

    async def built(self, wake: Wake) -> list[Layer]:
        """The layers that there are now."""
        found = []
        for packages in wanted(wake).values():
            try:
                layer = await self._layers.find(packages)
            except LayerUnavailable:
                continue
            found += [layer] if layer else []
        return found

    async def _wait(self, skills: dict[str, PackageSet]) -> list[tuple[str, str]]:
        """Skill ids, each with what is wrong."""
        said = await asyncio.gather(*(self._problem(skill_id, packages) for skill_id, packages in skills.items()))
        return [(skill_id, problem) for skill_id, problem in zip(skills, said, strict=True) if problem]

    async def _problem(self, skill_id: str, packages: PackageSet) -> str | None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._layers.ensure(packages)
        except TimeoutError:
            return SLOW.format(id=skill_id)
        except LayerUnavailable as problem:
            return FAILED.format(id=skill_id, reason=problem.summary)
        return None

    def _new(self, session_id: str, skill_id: str) -> bool:
        """Whether this session has not been told yet by this process."""
        key = (session_id, skill_id)
        if key in self._told:
            return False
        self._told[key] = None
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True
