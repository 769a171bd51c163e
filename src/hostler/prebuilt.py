"""The skills that come with Hostler: which there are, where their folders lie, and which packages they need.

It must not read more of a folder than that: what is in a skill is for the agent.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "skills"
IDS = ("docx", "pdf", "pptx", "xlsx")


@cache
def requirements(skill_id: str) -> tuple[str, ...]:
    """The pinned packages of a skill, in pip's syntax; none for a skill that is not one of ours."""
    if skill_id not in IDS:
        return ()
    lines = (FOLDER / skill_id / "requirements.txt").read_text().splitlines()
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith("#"))
