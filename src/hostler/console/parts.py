"""What the pages stand on: services of the floor below, and what people do to tasks, seen through Protocols.

It must not know how any of them does its work.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from hostler.console.access import Access
from hostler.log.log import Log
from hostler.runbooks.invoking.rows import Reply
from hostler.services.events import Events
from hostler.services.files import Files
from hostler.services.sessions import Sessions
from hostler.services.threads import Threads
from hostler.store.store import Store


class Upload(NamedTuple):
    """A file that somebody hands in."""

    filename: str
    content_type: str
    size: int
    chunks: AsyncIterator[bytes]


class Acting(Protocol):
    """What people do to a task. `gate` is the token of the gate that they saw. All raise NotFound, Conflict."""

    async def decide(
        self, task_id: str, decision: Literal["approved", "rejected"], *, comments: str | None, gate: str | None
    ) -> Any: ...

    async def row_action(self, task_id: str, action: dict[str, Any], *, gate: str | None) -> Any: ...

    async def cancel(self, task_id: str) -> Any: ...


class Filing(Protocol):
    async def hand_in(self, task_id: str, upload: Upload, *, gate: str | None) -> None:
        """Keep a file among the tenant's documents, and tell the task that waits for it. Raises NotFound, Conflict,
        InvalidRequest, Unavailable."""
        ...


class Answering(Protocol):
    async def reply(self, task_id: str, key: str, reply: Reply) -> None:
        """Tell an agent of the task what a person says to its question. Raises Conflict, NotFound."""
        ...


class Document(Protocol):
    """`uploaded_at` has a time zone."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def filename(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def uploaded_at(self) -> datetime: ...
    @property
    def task_id(self) -> str | None: ...


class Documents(Protocol):
    """A tenant's documents, by its slug. All raise Unavailable."""

    async def documents(self, tenant: str, *, task_id: str | None) -> Sequence[Document]:
        """What was handed in for a task, or made by its agents, the newest first."""
        ...

    async def document(self, tenant: str, document_id: str) -> Document:
        """Raises NotFound."""
        ...

    def content(self, tenant: str, document_id: str) -> AsyncGenerator[bytes, None]: ...


class Parts(NamedTuple):
    store: Store
    log: Log
    sessions: Sessions
    events: Events
    threads: Threads
    files: Files
    access: Access
    acting: Acting
    filing: Filing
    answering: Answering
    documents: Documents
    max_upload: int
