"""The skills of an agent: what it asks for, resolved to concrete versions, and what a session pins. It must not read
files.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert

from hostler.errors import InvalidRequest, NotFound
from hostler.services.agent_rules import roster
from hostler.services.skills import LATEST, Version, find_tx, find_version_tx
from hostler.store.sql import Many, Tx
from hostler.store.tables import session_skills
from hostler.wire.agents import SessionAgent, SessionThreadAgent, Skill, SkillParams
from hostler.wire.base import Unset

MAX_SKILLS = 20
MAX_OF_SESSION = 500
_PIN = insert(session_skills)


def resolve_tx(params: Sequence[SkillParams] | Unset | None, within: str = "") -> Tx[list[Skill]]:
    """The skills that are asked for, each at a version that there is; the newest where none is said.

    Raises InvalidRequest, and NotFound for an unknown skill or version, with the path of what is wrong.
    """
    asked = params if params and not isinstance(params, Unset) else []
    if len(asked) > MAX_SKILLS:
        raise InvalidRequest(f"{within}skills: an agent has at most {MAX_SKILLS} skills")
    resolved: list[Skill] = []
    names: dict[str, str] = {}
    for index, param in enumerate(asked):
        at = f"{within}skills.{index}"
        if any(param.skill_id == other.skill_id for other in resolved):
            raise InvalidRequest(f"{at}.skill_id: duplicate skill {param.skill_id}")
        version = param.version if isinstance(param.version, str) and param.version else LATEST
        found = yield from _found_tx(Skill(type=param.type, skill_id=param.skill_id, version=version), at)
        _check_name(found, names, at)
        resolved.append(Skill(type=param.type, skill_id=param.skill_id, version=found.version))
    return resolved


def check_there_tx(skills: Sequence[Skill], within: str = "") -> Tx[None]:
    """What an agent has pinned may have been deleted since: a session can't begin with it."""
    for index, skill in enumerate(skills):
        yield from _found_tx(skill, f"{within}skills.{index}")


def check_roster_tx(agent: SessionAgent) -> Tx[None]:
    for member in roster(agent):
        yield from check_there_tx(member.skills, f"agent: member {member.name}: ")


def pin_tx(session_id: str, agent: SessionAgent) -> Tx[None]:
    """Keep what the skills of an agent and its roster hold for as long as the session lives, whoever deletes them
    meanwhile; in this order, which names their folders."""
    agents: list[SessionAgent | SessionThreadAgent] = [agent, *roster(agent)]
    keys = dict.fromkeys((skill.skill_id, skill.version) for one in agents for skill in one.skills)
    if len(keys) > MAX_OF_SESSION:
        raise InvalidRequest(f"agent.skills: the agents of a session have at most {MAX_OF_SESSION} skills together")
    pins = [{"skill_id": skill_id, "version": version} for skill_id, version in keys]
    if pins:
        yield Many(_PIN, [{**pin, "session_id": session_id, "place": place} for place, pin in enumerate(pins)])


def _found_tx(asked: Skill, at: str) -> Tx[Version]:
    try:
        skill = yield from find_tx(asked.skill_id)
    except NotFound as error:
        raise NotFound(f"{at}.skill_id: skill {asked.skill_id} was not found.") from error
    if skill.source != asked.type:
        raise InvalidRequest(f"{at}.type: skill {skill.id} is of type {skill.source}, not {asked.type}")
    try:
        return (yield from find_version_tx(asked.skill_id, asked.version))
    except NotFound as error:
        raise NotFound(f"{at}.version: skill {asked.skill_id} has no version {asked.version}.") from error


def _check_name(found: Version, names: dict[str, str], at: str) -> None:
    """Each lies in a folder of its name, and the model calls it by that."""
    if found.name in names:
        raise InvalidRequest(
            f"{at}.skill_id: skill {found.skill_id} has the name {found.name}, as {names[found.name]} has"
        )
    names[found.name] = found.skill_id
