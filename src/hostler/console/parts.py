"""What the pages stand on: services of the floor below, and three things that are seen through Protocols.

It must not know how any of them does its work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from hostler.console.access import Access
from hostler.log.log import Log
from hostler.services.events import Events
from hostler.services.files import Files
from hostler.services.sessions import Sessions
from hostler.services.threads import Threads
from hostler.store.store import Store


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an agent of a task did. `position` orders the lines of a task; `at` is in microseconds."""

    position: int
    at: int
    kind: str
    text: str
    agent: str
    session_id: str | None


class Progress(Protocol):
    async def progress(self, task_id: str, after: int) -> Sequence[Line]:
        """The lines of a task behind this position, oldest first, as many as one answer may hold."""
        ...


class Upload(NamedTuple):
    """A file that somebody hands in."""

    filename: str
    content_type: str
    size: int
    chunks: AsyncIterator[bytes]


class RowAction(msgspec.Struct, frozen=True, kw_only=True):
    """`field` and `value` belong to `edit_cell`."""

    action: str
    row_id: str | int
    field: str | None = None
    value: str | int | float | bool | None = None


class Acting(Protocol):
    """Each raises NotFound; Conflict when no gate is open for it; InvalidRequest for what the gate does not take."""

    async def approve(self, task_id: str, comment: str | None) -> None: ...

    async def reject(self, task_id: str, comment: str | None) -> None: ...

    async def submit_file(self, task_id: str, upload: Upload) -> None: ...

    async def row_action(self, task_id: str, action: RowAction) -> None: ...

    async def cancel(self, task_id: str) -> None: ...


class Document(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    source: str
    filename: str
    content_type: str
    size_bytes: int
    uploaded_at: int


class Content(NamedTuple):
    filename: str
    chunks: AsyncIterator[bytes]


class Documents(Protocol):
    async def documents(self, tenant_id: str, task_id: str) -> Sequence[Document]:
        """What was handed in for a task, or made by its agents, oldest first."""
        ...

    async def content(self, tenant_id: str, document_id: str) -> Content:
        """Raises NotFound."""
        ...


class Parts(NamedTuple):
    store: Store
    log: Log
    sessions: Sessions
    events: Events
    threads: Threads
    files: Files
    access: Access
    acting: Acting
    documents: Documents
    progress: Progress
    max_upload: int
