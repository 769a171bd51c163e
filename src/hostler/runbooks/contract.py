"""What the runner asks of its surroundings: the bundles that were deployed, who runs agents, tenants' data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from hostler.runbooks.entries import Draft
from hostler.runbooks.messages import Sql
from hostler.store.sql import Tx


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a runbook, laid out for workers."""

    folder: Path
    workflow_class: str
    modules: list[str]


class Revision(NamedTuple):
    """One version of a runbook with the files that it was deployed with."""

    version: str
    digest: str


class Library(Protocol):
    @property
    def folder(self) -> Path:
        """Where all bundles are laid out."""
        ...

    async def bundle(self, slug: str, digest: str) -> Bundle:
        """Raises NotFound, Unavailable."""
        ...

    async def slugs(self) -> list[str]: ...

    def deployed_tx(self, slug: str, version: str | None = None) -> Tx[Revision]:
        """What a new task of it runs: what was deployed last, of this version or of any. Raises NotFound."""
        ...


class Data(Protocol):
    async def tenant(self, tenant_id: str) -> str:
        """The slug. Raises NotFound."""
        ...

    async def answer(self, task_id: str, asked: Sql) -> bytes:
        """Run a task's statement. What goes wrong is in the answer; it doesn't wait for ever."""
        ...


class Confine(Protocol):
    async def __call__(self, command: list[str], bundle: Path) -> list[str]:
        """The command line that runs `command` with this bundle in sight, and nothing of the server's. Raises
        NotConfined."""
        ...


class Agents(Protocol):
    async def run(self, task_id: str, key: str, asked: dict[str, Any] | None) -> Draft:
        """Run an agent to its end, or go on with the run that this call has begun; that one needs no `asked`. Raises
        NotFound."""
        ...

    def ended_tx(self, task_id: str, key: str) -> Tx[None]:
        """Belongs into the commit of the entry that `run` returned."""
        ...

    async def abandon(self, task_id: str, key: str | None = None) -> None:
        """Nobody waits any more for what this task's calls, or this one of them, began."""
        ...

    async def abandon_left(self) -> None:
        """The same for all tasks that are over."""
        ...

    def asks(self, task_id: str) -> bool:
        """Whether an agent of the task waits for a person."""
        ...
