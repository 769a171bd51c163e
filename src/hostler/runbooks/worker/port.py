"""What a worker asks of the server: to write things down, to start children, to run agents.."""

from __future__ import annotations

from typing import Any, Protocol

from hostler.runbooks.entries import Draft, Entry


class Refused(Exception):
    """The server will not do it; the words are for the task's failure."""


class Port(Protocol):
    async def append(self, drafts: list[Draft], view: dict[str, Any] | None) -> list[Entry]:
        """Write entries, all or none; they are durable when this returns. `view` is what the task looks like after
        them. Raises OSError when the server is gone, and with it the right to go on."""
        ...

    async def start_child(self, key: str, task_id: str, slug: str, value: bytes) -> Entry:
        """Start a task below this one, once: asked again, it is the same. Raises Refused."""
        ...

    def show(self, view: dict[str, Any]) -> None:
        """Say what the task looks like, between two entries. Nothing depends on it."""

    def rest(self, position: int, heard: int, until: float | None) -> None:
        """Say that this process need not wait: it may be ended, and another be started when something comes in.
        `position` is the last entry that it knows, `heard` the last that came in."""

    async def ended(self, task_id: str) -> Entry:
        """Wait for the entry that tells a child's end."""
        ...

    async def agent(self, key: str, call: dict[str, Any]) -> Entry:
        """Run an agent to its end, or go on with the run that this call has begun. Raises Refused."""
        ...
