"""Runbooks of the Workspace API as its published clients read them. It must not know how they are kept or run."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta

from hostler.wire.base import Unset
from hostler.wire.workspace import Asked, Config, Key, Shown, Text


class RunbookDeploy(Asked):
    """`files` is text by path, as it lies in the bundle's folder."""

    tenant_slug: Key
    version: Key
    workflow_class: Key
    files: dict[str, str]
    activity_modules: Annotated[list[Key], Meta(max_length=50)] | None = None


class Deployment(Shown):
    """`result` says what came of it: the `digest` of the files, and when they were deployed."""

    workflow_id: str
    task_queue: str
    runbook: str
    version: str
    result: dict[str, str]


class RunbookStep(Shown):
    id: str
    label: str
    description: str
    expected_duration_days: int | None = None


class Template(Shown):
    path: str
    description: str
    language: str
    content: str | None = None


class Runbook(Shown):
    """What is listed. What front matter a bundle came without is empty, or its slug."""

    id: str
    slug: str
    name: str
    description: str
    classification: str
    version: str
    state: str
    step_count: int
    template_count: int
    tags: list[str] | Unset = UNSET
    jurisdictions: list[str] | Unset = UNSET
    deployed_at: str | None = None


class RunbookDetail(Runbook, kw_only=True):
    author: str
    content: str
    steps: list[RunbookStep] | Unset = UNSET
    config_schema: Config | Unset = UNSET
    templates: list[Template] | Unset = UNSET


class RunbookTemplates(Shown):
    slug: str
    templates: list[Template]


class FeedbackCreate(Asked):
    feedback: Text
    task_id: Key | None = None


class Feedback(Shown):
    id: str
    runbook: str
    feedback: str
    created_at: str
    task_id: str | None = None


class RunbookSkill(Shown):
    slug: str
    name: str
    content: str
