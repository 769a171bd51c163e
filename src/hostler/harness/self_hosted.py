"""What differs for a session whose environment is self-hosted: the agent's toolset runs at a worker's, which answers
with `user.tool_result`. It must not make a sandbox, and it must not know the queue that brings workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from hostler.harness.skills import Announced, MountedSkill
from hostler.sandbox.toolset import TOOLS
from hostler.wire.agents import Skill

if TYPE_CHECKING:
    from hostler.harness.recalling import Row

TOOL_NAMES = frozenset(tool["name"] for tool in TOOLS)

SURROUNDINGS = (
    "Your tools run on a machine that the operator of this agent provides. Paths are relative to the working directory "
    "there, or absolute."
)
SKILLS_FOLDER = "skills"  # below a worker's working directory

# What the tools' own descriptions say of the sandbox that a worker does not have.
_ELSEWHERE = (
    (" It starts in /workspace.", ""),
    (" Put deliverables into /mnt/session/outputs.", ""),
    ("relative to /workspace", "relative to the working directory"),
    ("Default /workspace.", "Default: the working directory."),
    (" A very long output is saved to a file and shown in part.", " A very long output is shown in part."),
)


def is_self_hosted(row: Row) -> bool:
    """Whether the session's tools run at workers."""
    return bool(row.environment.get("type") == "self_hosted")


def definitions(builtins: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The toolset's definitions, without what is true of our sandbox only."""
    return _definitions(msgspec.json.encode(builtins))


@lru_cache(maxsize=4)
def _definitions(encoded: bytes) -> dict[str, dict[str, Any]]:
    text = encoded.decode()
    for said, instead in _ELSEWHERE:
        text = text.replace(said, instead)
    found: dict[str, dict[str, Any]] = msgspec.json.decode(text)
    return found


def skills(row: Row, having: Iterable[Skill]) -> list[Announced]:
    """The skills that an agent finds at a worker's: those that the session's own agent has as well, for workers fetch
    no others. A folder has the skill's name, and the last of a name stands there."""
    fetched = {skill.name: skill for skill in _of(row.skills, row.agent.skills)}
    wanted = {(skill.skill_id, skill.version) for skill in having}
    return [
        Announced(name, skill.description, f"{SKILLS_FOLDER}/{name}/SKILL.md")
        for name, skill in fetched.items()
        if (skill.skill_id, skill.version) in wanted
    ]


def _of(mounted: Iterable[MountedSkill], having: Iterable[Skill]) -> list[MountedSkill]:
    known = {(skill.skill_id, skill.version): skill for skill in mounted}
    return [known[key] for skill in having if (key := (skill.skill_id, skill.version)) in known]
