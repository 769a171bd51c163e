"""The work queue of self-hosted environments, and the keys of their workers. It must not know how a lease is kept."""

from __future__ import annotations

from typing import Literal

from hostler.wire.base import MetadataPatch, Name, Params, Unset, Wire

WorkState = Literal["queued", "starting", "active", "stopping", "stopped"]


class SessionWorkData(Wire, tag="session", tag_field="type", kw_only=True):
    id: str


class Work(Wire, tag="work", tag_field="type", kw_only=True):
    """`secret` is set in the answer to a poll, and nowhere else."""

    id: str
    environment_id: str
    data: SessionWorkData
    state: WorkState
    metadata: dict[str, str]
    secret: str | None = None
    created_at: str
    acknowledged_at: str | None = None
    started_at: str | None = None
    latest_heartbeat_at: str | None = None
    stop_requested_at: str | None = None
    stopped_at: str | None = None


class WorkHeartbeat(Wire, tag="work_heartbeat", tag_field="type", kw_only=True):
    last_heartbeat: str
    lease_extended: bool
    state: WorkState
    ttl_seconds: int


class WorkQueueStats(Wire, tag="work_queue_stats", tag_field="type", kw_only=True):
    depth: int
    pending: int
    oldest_queued_at: str | None
    workers_polling: int | None


class WorkUpdate(Params, kw_only=True):
    metadata: MetadataPatch


class WorkStop(Params, kw_only=True):
    force: bool | Unset | None = False


class EnvironmentKeyCreate(Params, kw_only=True):
    """Our own: the hosted service makes such keys in its console only."""

    name: Name = "worker"


class EnvironmentKey(Wire, tag="environment_key", tag_field="type", kw_only=True):
    """`key` is set in the answer to its creation, and nowhere else; `hint` is its end."""

    id: str
    environment_id: str
    name: str
    hint: str
    key: str | None = None
    created_at: str
    revoked_at: str | None = None
