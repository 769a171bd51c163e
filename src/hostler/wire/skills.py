"""Skills and their versions, in the shapes of both SDK generations. It must not know where their files are kept.

The older generation says `display_title`, `latest_version`, a plain `source`, and `version` and `directory` of a
version. What a client gets is decided in `api/skills.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from hostler.wire.base import Wire

Source = Literal["custom", "anthropic"]


class SkillSource(Wire, kw_only=True):
    type: Source


class Skill(Wire, tag="skill", tag_field="type", kw_only=True):
    id: str
    display_name: str
    latest_version_id: str
    source: SkillSource
    created_at: str
    updated_at: str


class OldSkill(Wire, tag="skill", tag_field="type", kw_only=True):
    id: str
    display_title: str
    latest_version: str | None
    source: Source
    created_at: str
    updated_at: str


class SkillVersion(Wire, tag="skill_version", tag_field="type", kw_only=True):
    id: str
    skill_id: str
    name: str
    description: str
    created_at: str


class OldSkillVersion(SkillVersion, tag="skill_version", tag_field="type", kw_only=True):
    version: str
    directory: str


class SkillDeleted(Wire, tag="skill_deleted", tag_field="type", kw_only=True):
    id: str


class SkillVersionDeleted(Wire, tag="skill_version_deleted", tag_field="type", kw_only=True):
    id: str


class SkillPage(Wire, kw_only=True):
    """Pages of skills and of their versions carry `has_more` beside the cursor."""

    data: list[Any]
    has_more: bool
    next_page: str | None
