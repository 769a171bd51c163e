"""Checkpoints of sandboxes, and forks: our extension, off the SDKs' surface. It must not know how either is made."""

from __future__ import annotations

from hostler.wire.base import Metadata, Params, Reference, Wire
from hostler.wire.sessions import Session, Title


class Checkpoint(Wire, tag="session_checkpoint", tag_field="type", kw_only=True):
    """A sandbox as it was at the end of a turn. `event_id` is that turn's session.status_idle, null before the first;
    `hibernated` says that the sandbox is this checkpoint now, and nothing else."""

    id: str
    session_id: str
    event_id: str | None
    size_bytes: int
    hibernated: bool
    created_at: str


class ForkParams(Params, kw_only=True):
    """Without an event: from the end of the last turn."""

    event_id: Reference | None = None
    title: Title | None = None
    metadata: Metadata | None = None


class Origin(Wire, kw_only=True):
    """Where a fork comes from: the last event that both have, and the checkpoint that its files are from."""

    session_id: str
    event_id: str | None
    checkpoint: Checkpoint | None


class ForkedSession(Session, tag="session", tag_field="type", kw_only=True):
    """The new session, and its origin, which only this answer shows."""

    forked_from: Origin
