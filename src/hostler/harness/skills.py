"""An agent's skills in its session: where their files are mounted, and how the model is told of them.

Nothing of a skill but its name, its description and its place goes into the prompt; the agent reads the rest when it
needs it. It must not check anything: what is given here was checked when it was uploaded, or found in a repository.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import chain, count
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, select

from hostler.sandbox.contract import SKILLS, Mount
from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.tables import session_skills, skill_files, skill_versions
from hostler.wire.agents import Skill

_WHAT = (
    "You have skills: folders with instructions, and often scripts and templates, for certain kinds of work. When a "
    "task is of such a kind, read the skill's SKILL.md first and do as it says; it tells which other files of its "
    "folder to read or run."
)
INTRO = f"{_WHAT} Folders below {SKILLS} are read-only: copy what you want to change. Your skills:"
INTRO_ELSEWHERE = f"{_WHAT} Your skills:"

_v, _p = skill_versions.c, session_skills.c
_PINNED = (
    select(_v.skill_id, _v.version, _v.name, _v.description)
    .join_from(session_skills, skill_versions, and_(_v.skill_id == _p.skill_id, _v.version == _p.version))
    .where(_p.session_id == bindparam("s"))
    .order_by(_p.place)
)
_FILES = (
    select(skill_files.c.path, skill_files.c.blob, skill_files.c.executable)
    .where(skill_files.c.skill_id == bindparam("id"), skill_files.c.version == bindparam("v"))
    .order_by(skill_files.c.path)
)


class Announced(msgspec.Struct, frozen=True):
    """What the model is told of a skill. `path` is that of its SKILL.md."""

    name: str
    description: str
    path: str


class SkillFile(msgspec.Struct, frozen=True):
    """`path` is relative to the skill's folder."""

    path: str
    blob: str
    executable: bool


class MountedSkill(msgspec.Struct, frozen=True):
    """A skill at the version that the session has pinned, and the folder inside that it has to itself."""

    skill_id: str
    version: str
    name: str
    description: str
    folder: str
    files: list[SkillFile]


def skills_tx(session_id: str) -> Tx[list[MountedSkill]]:
    """Read what a session has pinned for all of its agents, with deleted versions, which it still has.

    The first of a name has its folder, later ones a numbered one: the same list always gives the same folders, and a
    longer one leaves those of the shorter as they are.
    """
    found: list[MountedSkill] = []
    for skill_id, version, name, description in (yield _PINNED, {"s": session_id}):
        rows = yield _FILES, {"id": skill_id, "v": version}
        files = [SkillFile(path, blob, bool(executable)) for path, blob, executable in rows]
        folder = _folder(name, {other.folder for other in found})
        found.append(MountedSkill(skill_id, version, name, description, folder, files))
    return found


def _folder(name: str, taken: Container[str]) -> str:
    folders = (f"{SKILLS}/{name}{suffix}" for suffix in chain([""], (f"-{number}" for number in count(2))))
    return next(folder for folder in folders if folder not in taken)


def mounts(skills: Iterable[MountedSkill], blobs: Blobs) -> list[Mount]:
    """The input files of these skills."""
    return [
        Mount(source=blobs.path(file.blob), target=f"{skill.folder}/{file.path}", executable=file.executable)
        for skill in skills
        for file in skill.files
    ]


def announced(mounted: Iterable[MountedSkill], having: Iterable[Skill]) -> list[Announced]:
    """What an agent that has these skills is told, of all that its session has mounted."""
    known = {(skill.skill_id, skill.version): skill for skill in mounted}
    own = [known[skill.skill_id, skill.version] for skill in having if (skill.skill_id, skill.version) in known]
    return [Announced(skill.name, skill.description, f"{skill.folder}/SKILL.md") for skill in own]


def section(skills: Iterable[Announced], *, mounted: bool = True) -> str | None:
    """The part of the system prompt that names these skills, the same for the same skills; None when there are none.
    `mounted` ones are in a sandbox of ours."""
    lines: list[Any] = [f"- {skill.name} ({skill.path}): {' '.join(skill.description.split())}" for skill in skills]
    intro = INTRO if mounted else INTRO_ELSEWHERE
    return "\n".join([intro, *lines]) if lines else None
