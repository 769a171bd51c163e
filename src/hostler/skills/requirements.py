"""The packages that the skills which come with the server need: pinned, in the folder of each.

It must not install anything: layers do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
IDS = ("docx", "pdf", "pptx", "xlsx")


@cache
def of(skill_id: str) -> tuple[str, ...]:
    """The pinned packages of a skill, in pip's syntax; none for a skill that is not one of ours."""
    if skill_id not in IDS:
        return ()
    lines = (FOLDER / skill_id / "requirements.txt").read_text().splitlines()
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith("#"))
