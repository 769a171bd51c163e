"""Threads of a session."""

from __future__ import annotations

from hostler.wire.agents import InlineAgent, SessionThreadAgent
from hostler.wire.base import Wire
from hostler.wire.multiagent import Advisor
from hostler.wire.usage import SessionStatus, ThreadStats, Usage


class SessionThread(Wire, tag="session_thread", tag_field="type", kw_only=True):
    """`stats` is null until the first status change, `usage` until the first idle."""

    id: str
    session_id: str
    agent: SessionThreadAgent | Advisor | InlineAgent
    status: SessionStatus
    parent_thread_id: str | None = None
    workflow_run_id: str | None = None
    stats: ThreadStats | None = None
    usage: Usage | None = None
    created_at: str
    updated_at: str
    archived_at: str | None = None
