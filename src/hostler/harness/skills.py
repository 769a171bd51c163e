"""An agent's skills in its session: where their files are mounted, and how the model is told of them.

Nothing of a skill but its name, its description and its place goes into the prompt; the agent reads the rest when it
needs it. It must not check anything: what is given here was checked when it was uploaded, or found in a repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from hostler.sandbox.contract import SKILLS, Mount
from hostler.store.blobs import Blobs
from hostler.store.sql import Tx
from hostler.store.tables import skill_files, skill_versions
from hostler.wire.agents import Skill

INTRO = (
    "You have skills: folders with instructions, and often scripts and templates, for certain kinds of work. When a "
    "task is of such a kind, read the skill's SKILL.md first and do as it says; it tells which other files of its "
    "folder to read or run. The folders are read-only: copy what you want to change. Your skills:"
)

_VERSION = select(skill_versions.c.name, skill_versions.c.description).where(
    skill_versions.c.skill_id == bindparam("id"), skill_versions.c.version == bindparam("v")
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
    """A skill at the version that the session has pinned."""

    name: str
    description: str
    files: list[SkillFile]

    @property
    def folder(self) -> str:
        return f"{SKILLS}/{self.name}"

    @property
    def announced(self) -> Announced:
        return Announced(self.name, self.description, f"{self.folder}/SKILL.md")


def load_tx(skills: Sequence[Skill]) -> Tx[list[MountedSkill]]:
    """Read the files of pinned skills, in the agent's order; deleted versions too, which their sessions still have."""
    found = []
    for skill in skills:
        key = {"id": skill.skill_id, "v": skill.version}
        for name, description in (yield _VERSION, key):
            files = [SkillFile(path, blob, bool(executable)) for path, blob, executable in (yield _FILES, key)]
            found.append(MountedSkill(name, description, files))
    return found


def mounts(skills: Iterable[MountedSkill], blobs: Blobs) -> list[Mount]:
    """The input files of these skills. A skill that several agents of a session have is mounted once."""
    wanted: dict[str, Mount] = {}
    for skill in skills:
        for file in skill.files:
            target = f"{skill.folder}/{file.path}"
            wanted.setdefault(target, Mount(source=blobs.path(file.blob), target=target, executable=file.executable))
    return list(wanted.values())


def section(skills: Iterable[Announced]) -> str | None:
    """The part of the system prompt that names these skills, the same for the same skills; None when there are none."""
    lines: list[Any] = [f"- {skill.name} ({skill.path}): {' '.join(skill.description.split())}" for skill in skills]
    return "\n".join([INTRO, *lines]) if lines else None
