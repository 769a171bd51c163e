"""Arguments that several tools have, with what they say of themselves. It must not know any tool."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hostler.wire.base import Params
from hostler.wire.workspace import Key

TaskId = Annotated[
    Key,
    Meta(description="Which task. An agent may leave it out: it is the task that the agent was called for."),
]
TenantRef = Annotated[Key, Meta(description="A tenant's slug or id.")]
EntityRef = Annotated[Key, Meta(description="An entity's slug or id.")]
WorkflowRef = Annotated[Key, Meta(description="A workflow's id or name, or the slug of its runbook.")]


class Nothing(Params):
    """A tool without arguments."""


class OfTask(Params):
    task_id: TaskId | None = None
