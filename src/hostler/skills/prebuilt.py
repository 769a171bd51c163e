"""Finds the skills that come with the server: each folder beside this file that has a SKILL.md. It keeps nothing.

A folder is named after its skill, and its SKILL.md says a `version`: a new one for every change, since what sessions
have pinned is kept under it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hostler.errors import InvalidRequest
from hostler.skills.bundle import HEAD, Bundle, Sent, read_bundle
from hostler.skills.frontmatter import read_frontmatter

HERE = Path(__file__).parent


def prebuilt_versions(folder: Path = HERE) -> dict[str, str]:
    """The skills that there are, and the version of each. Raises InvalidRequest for one that is not whole."""
    found = {}
    for head in sorted(folder.glob(f"*/{HEAD}")):
        front = read_frontmatter(head.read_bytes(), str(head))
        if front.name != head.parent.name or front.version is None:
            raise InvalidRequest(f"{head}: must have the folder's name as its name, and a version")
        found[front.name] = front.version
    return found


def read_prebuilt(name: str, folder: Path = HERE) -> Bundle:
    """One of them with its files, checked like an upload."""
    return read_bundle(list(_files(folder / name)))


def _files(folder: Path) -> Iterator[Sent]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield Sent(path.relative_to(folder.parent).as_posix(), path.read_bytes(), path.stat().st_mode)
